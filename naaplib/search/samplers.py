"""How searches come to configurations: drawn at random, or proposed by a model of which have done well."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import TqdmWarning

from naaplib.search.identity import name_of, whole

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # Optuna would have widgets for progress bars, which it never shows
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
    from optuna.trial import TrialState, create_trial

Configuration = Any  # hashable, and as JSON; equal ones are the same

N_TRIES = 100  # proposals of a configuration that is not there yet, before there are taken to be no others


class Trial(Protocol):
    """What a configuration is made from: named choices. `Draw` is one, and so are Optuna's trials."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number from low to high, both included."""


class Objective(Protocol):
    """Anything that can be trained further: a table of learning curves, networks on a GPU, a user's own function.

    One that can also tell the score after fewer epochs than a configuration was trained for says so by an attribute
    ``remembers`` that is true. Any other is never asked for it: what was trained for longer than a bracket begins with
    is not drawn again in it.
    """

    @property
    def name(self) -> str:
        """Tells it from other objectives, as far as their scores may differ; a trace of another is not taken up."""

    def suggest(self, trial: Trial) -> Configuration:
        """A configuration, from choices that are asked of the trial; which are asked may depend on those before."""

    def evaluate(self, configuration: Configuration, budget: int) -> float:
        """Score, higher is better, after `budget` epochs in all; training goes on from what was trained before."""


class Choices:
    """What trials have in common: choices are checked, and numpy's become Python's."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        raise NotImplementedError

    def suggest_int(self, name: str, low: int, high: int, **others: object) -> int:
        """A whole number from low to high, both included."""
        first, last = whole(f"low of {name}", low), whole(f"high of {name}", high)
        if others:
            raise TypeError(f"suggest_int takes a name, low and high, and no {', '.join(others)}: {_INSTEAD}")
        if first > last:
            raise ValueError(f"{name} is to be from {first} to {last}; the second must not be below the first")
        return self._int(name, first, last)

    def _int(self, name: str, low: int, high: int) -> int:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        """Asked for what there is not."""
        raise AttributeError(f"a trial has suggest_categorical and suggest_int, and no {name}: {_INSTEAD}")


_INSTEAD = "list the values that are to be tried, such as numpy.geomspace(0.001, 0.1, 9), in suggest_categorical"


def options(name: str, choices: Iterable[Any]) -> list[Any]:
    """Choices as a list, numpy's numbers and texts as Python's."""
    found = [choice.item() if isinstance(choice, np.generic) else choice for choice in choices]
    if not found:
        raise ValueError(f"{name} has no choices; give one at least")
    return found


class Draw(Choices):
    """A trial that answers at random, and keeps what was asked and answered.

    Parameters
    ----------
    rng : Generator

    Attributes
    ----------
    params : dict from name to answer
    distributions : dict from name to Optuna's distribution
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any], weights: ArrayLike | None = None) -> Any:
        """One of the choices, with probabilities in proportion to the weights; all alike without."""
        choices = options(name, choices)
        shares = None if weights is None else np.asarray(weights, dtype=float) / np.sum(weights)
        self.params[name] = choices[int(self.rng.choice(len(choices), p=shares))]
        self.distributions[name] = CategoricalDistribution(choices)
        return self.params[name]

    def _int(self, name: str, low: int, high: int) -> int:
        self.params[name] = int(self.rng.integers(low, high, endpoint=True))
        self.distributions[name] = IntDistribution(low, high)
        return self.params[name]


class Asked(Choices):
    """A trial of Optuna's, which wants a name for each list of choices: others under the same name get a number."""

    def __init__(self, trial: optuna.Trial, key: Callable[[str, BaseDistribution], str]) -> None:
        self.trial, self.key = trial, key

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices, as the model has it."""
        choices = options(name, choices)
        return self.trial.suggest_categorical(self.key(name, CategoricalDistribution(choices)), choices)

    def _int(self, name: str, low: int, high: int) -> int:
        return self.trial.suggest_int(self.key(name, IntDistribution(low, high)), low, high)


@dataclass(frozen=True)
class Proposal:
    """A configuration, and the choices it came from as Optuna has them."""

    configuration: Configuration
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]


def draw(objective: Objective, rng: np.random.Generator) -> Proposal:
    """A configuration at random."""
    trial = Draw(rng)
    return Proposal(objective.suggest(trial), trial.params, trial.distributions)


def others(
    propose: Callable[[], Proposal], is_fit: Callable[[Configuration], bool] = lambda _: True
) -> Iterator[Proposal]:
    """Proposals that differ and are fit; the end is where `N_TRIES` in a row are not."""
    taken: set[str] = set()
    n_tries = 0
    while n_tries < N_TRIES:
        found = propose()
        name = name_of(found.configuration)
        n_tries += 1
        if name not in taken and is_fit(found.configuration):
            taken.add(name)
            n_tries = 0
            yield found


class Model:
    """BOHB's way to propose (Falkner et al. 2018): a density model, Optuna's TPE, for each budget.

    Parameters
    ----------
    objective : Objective
    rng : Generator
    random_share, min_points
        As for `naaplib.search.strategies.bohb`.
    """

    def __init__(self, objective: Objective, rng: np.random.Generator, random_share: float, min_points: int) -> None:
        self.objective, self.rng = objective, rng
        self.random_share, self.min_points = random_share, min_points
        self.studies: dict[int, optuna.Study] = {}
        self.told: set[tuple[str, int]] = set()
        self.n_points: Counter[int] = Counter()
        self.choices: dict[str, list[BaseDistribution]] = {}  # by name, those that differ

    def propose(self) -> Proposal:
        """From the study of the largest budget that has enough points, or at random."""
        is_random = self.rng.random() < self.random_share
        ready = [budget for budget, n in self.n_points.items() if n >= self.min_points]
        if is_random or not ready:
            found = draw(self.objective, self.rng)
            keys = {name: self.key(name, one) for name, one in found.distributions.items()}
            params = {keys[name]: answer for name, answer in found.params.items()}
            return Proposal(found.configuration, params, {keys[name]: one for name, one in found.distributions.items()})
        study = self.studies[max(ready)]
        trial = study.ask()
        found = Proposal(self.objective.suggest(Asked(trial, self.key)), trial.params, trial.distributions)
        study.tell(trial, state=TrialState.FAIL)  # its score is told where, and if, it is evaluated
        return found

    def key(self, name: str, distribution: BaseDistribution) -> str:
        """The study's name for a choice: its own for the first list of options, and for all ranges of numbers."""
        known = self.choices.setdefault(name, [])
        is_range = isinstance(distribution, IntDistribution)
        same = [one for one in known if one == distribution or (is_range and isinstance(one, IntDistribution))]
        if not same:
            known.append(distribution)
        number = known.index((same or [distribution])[0])
        return f"{name} ({number + 1})" if number else name

    def tell(self, found: Proposal, budget: int, score: float) -> None:
        """Add a score to the budget's study; the same one again is passed over."""
        mark = name_of(found.configuration), budget
        if mark in self.told:
            return
        self.told.add(mark)
        if budget not in self.studies:
            self.studies[budget] = density_model(int(self.rng.integers(2**31)), name=f"budget {budget}")
        told = create_trial(params=found.params, distributions=found.distributions, value=score)
        self.studies[budget].add_trial(told)
        self.n_points[budget] += 1


def density_model(seed: int, n_initial: int = 0, name: str | None = None) -> optuna.Study:
    """Optuna's tree-structured Parzen estimator, of values to be maximised, after so many random suggestions."""
    sampler = optuna.samplers.TPESampler(n_startup_trials=n_initial, seed=seed)
    return optuna.create_study(direction="maximize", sampler=sampler, study_name=name)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says only what is wrong while the context lasts."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
