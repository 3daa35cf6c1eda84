"""Spaces as a user writes them: options by name, a list, or a function of a trial."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Protocol

from naaplib.search.identity import plain
from naaplib.search.samplers import Trial, options
from naaplib.search.search_space import SearchSpace
from naaplib.search.tabular_objective import TableObjective

MOST_LISTED = 100_000  # architectures that tuning predicts at each step

Suggest = Callable[[Trial], Any]


class Space(Protocol):
    """A space in the form that searches need."""

    identity: dict[str, Any]  # what a resumed search must find again
    functions: dict[str, Any]  # a user's code in it

    def suggest(self, trial: Trial) -> Any:
        """Return what an objective is given, made from choices that it asks of a trial."""

    def listed(self) -> SearchSpace:
        """Return the list of encodings for architecture tuning."""

    def params(self, encoding: Sequence[Any]) -> Any:
        """Return what an objective is given for an encoding of that list."""


def read(space: Mapping[str, Iterable[Any]] | Iterable[Sequence[Any]] | SearchSpace | Suggest) -> Space:
    """Read a space in one of its forms.

    Parameters
    ----------
    space : mapping, iterable of sequences, SearchSpace, or callable
        - a mapping from each name to its options; a `range` without a step has whole numbers, in order
        - the encodings themselves, or a `SearchSpace`
        - a function of a trial, with ``suggest_categorical`` and ``suggest_int``, where a choice depends on another

    Examples
    --------
    >>> read({"rate": [0.1, 0.01], "width": range(8, 17, 4)}).listed().encodings[:3]
    [(0.1, 8), (0.1, 12), (0.1, 16)]
    """
    if isinstance(space, SearchSpace):
        return Listed(space.encodings, space)
    if isinstance(space, Mapping):
        return Named(space)
    if callable(space):
        return Suggested(space)
    if isinstance(space, Iterable) and not isinstance(space, str):
        return Listed([tuple(one) if isinstance(one, list | tuple) else (one,) for one in space])
    raise TypeError(
        f"space is a {type(space).__name__}; give a dict such as {{'rate': [0.1, 0.01], 'width': range(8, 65)}}, a "
        f"list of encodings, a SearchSpace, or a function of a trial"
    )


class Named:
    """Options by name; an objective is given a dict with one of each."""

    def __init__(self, space: Mapping[str, Iterable[Any]]) -> None:
        if not space:
            raise ValueError("space has no names; give one at least, such as {'width': range(8, 65)}")
        self.options: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        for name, choices in space.items():
            if isinstance(choices, str) or not isinstance(choices, Iterable):
                raise TypeError(f"space[{name!r}] is {choices!r}; give a list of options, or a range")
            is_range = isinstance(choices, range) and choices.step == 1 and len(choices)
            self.options[name] = choices if is_range else options(name, choices)
        self.identity = {
            name: f"from {choices[0]} to {choices[-1]}" if isinstance(choices, range) else plain(choices)
            for name, choices in self.options.items()
        }

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Return one option for each name."""
        return {
            name: trial.suggest_int(name, choices[0], choices[-1])
            if isinstance(choices, range)
            else trial.suggest_categorical(name, choices)
            for name, choices in self.options.items()
        }

    def listed(self) -> SearchSpace:
        """Return all combinations; ValueError if there are too many to list."""
        n = math.prod(map(len, self.options.values()))
        if n > MOST_LISTED:
            raise ValueError(
                f"the space has {n:,} combinations; method='tuning' lists them all, {MOST_LISTED:,} at most: give "
                f"fewer options, a list of encodings, or another method"
            )
        return SearchSpace("combinations", product(*self.options.values()))

    def params(self, encoding: Sequence[Any]) -> dict[str, Any]:
        """Return a combination by name."""
        return dict(zip(self.options, encoding, strict=True))


class Listed:
    """Encodings; an objective is given one of them, a tuple."""

    def __init__(self, encodings: Iterable[Sequence[Any]], space: SearchSpace | None = None) -> None:
        self.encodings = [tuple(one) for one in encodings]
        self._space = space
        self.functions: dict[str, Any] = {}
        paths = [[repr(entry) for entry in one] for one in self.encodings]
        self._table = TableObjective([[0.0]] * len(paths), paths)
        self.identity = {"encodings": hashlib.sha256(json.dumps(paths).encode()).hexdigest()[:16]}

    def suggest(self, trial: Trial) -> tuple[Any, ...]:
        """Return an encoding, chosen entry by entry."""
        return self.encodings[self._table.suggest(trial)]

    def listed(self) -> SearchSpace:
        """Return the given space, or a new one of the encodings."""
        return self._space or SearchSpace("encodings", self.encodings)

    def params(self, encoding: Sequence[Any]) -> tuple[Any, ...]:
        """Return the encoding itself."""
        return tuple(encoding)


class Suggested:
    """A function of a trial; an objective is given what it returns."""

    def __init__(self, suggest: Suggest) -> None:
        self.suggest = suggest
        self.identity: dict[str, Any] = {}
        self.functions = {"suggest": suggest}

    def listed(self) -> SearchSpace:
        """Refuse, because a function has no list."""
        raise TypeError("method='tuning' needs a list: give space as a dict of options, or a list of encodings")

    def params(self, encoding: Sequence[Any]) -> Any:
        """Refuse, as `listed`."""
        raise TypeError(f"{encoding} is of no list")
