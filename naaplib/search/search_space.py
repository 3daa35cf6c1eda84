"""Finite spaces of architectures to tune: encodings, cheap metrics of some, and an ensemble pretrained on these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from naaplib.estimators import cheap_metrics
from naaplib.estimators.ensembles import files
from naaplib.estimators.ensembles.encodings import encode
from naaplib.estimators.ensembles.ensemble import DeepEnsemble, Design
from naaplib.parallel import one_thread
from naaplib.search.identity import differences, whole

Encoding = tuple[Hashable, ...]
DESIGN = Design(n_fidelities=2)
MOST_NAMES = 100  # architectures of which each may have a text of its own
_EXACT = 2**53  # up to which floating-point numbers have every whole number
_FINITE = 2**1023


class SearchSpace:
    """A list of encodings to search, and the surrogate that searches of it begin with.

    In the architecture-tuning study this is `create_search_space` (Ouertatani et al. 2024, section 3.1).

    Parameters
    ----------
    name : str
    encodings : iterable of sequences
        One an architecture, all different, all of one length, of numbers, text, truth values and None; see
        `naaplib.estimators.ensembles.encodings.encode` for how they are read.
    encoding_to_network : callable, optional
        Encoding to network; only `preprocess` without metrics needs it.
    categorical : collection of int
        Positions in an encoding whose numbers are names and not amounts.
    n_members : int
        Of the ensemble.
    seed : int
        Of the ensemble, and of which architectures are measured.

    Attributes
    ----------
    encodings : list of tuple
    ensemble : naaplib.estimators.ensembles.ensemble.DeepEnsemble
    metrics : DataFrame or None
        What `preprocess` pretrained it on, by the positions of the architectures in the list.
    mode : str or None
        How it was pretrained; None: it was not.
    is_measured : bool
        Whether `preprocess` measured the metrics, latencies among them.

    Raises
    ------
    ValueError
        If encodings are of different lengths, of other entries, or there twice; if more than 100 architectures have a
        text of their own each at a position, from which nothing can be learnt.
    """

    def __init__(
        self,
        name: str,
        encodings: Iterable[Sequence[Hashable]],
        encoding_to_network: Callable[[Any], nn.Module] | None = None,
        categorical: Collection[int] = (),
        n_members: int = 5,
        seed: int = 0,
    ) -> None:
        self.name, self.encoding_to_network = name, encoding_to_network
        self.seed = whole("seed", seed, 0)
        self.categorical = sorted(whole("a position in categorical", position) for position in categorical)
        rows = _checked(encodings, self.categorical)
        features = encode(rows, self.categorical)
        self.encodings: list[Encoding] = [tuple(encoding) for encoding in rows]
        if n_twice := len(self.encodings) - len(set(self.encodings)):
            raise ValueError(f"{n_twice} of the {len(self.encodings):,} encodings are there before; list each once")
        words = np.random.SeedSequence(self.seed).generate_state(whole("n_members", n_members, 1))
        self.ensemble = DeepEnsemble(features, words.tolist(), DESIGN)
        self.metrics: pd.DataFrame | None = None
        self.mode: str | None = None
        self.is_measured = False

    def __len__(self) -> int:
        """How many architectures there are."""
        return len(self.encodings)

    def preprocess(
        self,
        sample_input: Tensor | None = None,
        workers: int = 1,
        n_networks: int = 1000,
        metrics: pd.DataFrame | None = None,
        mode: str = "simultaneous",
    ) -> pd.DataFrame:
        """Measure some of the networks without training them, and pretrain the ensemble on what was found.

        Parameters
        ----------
        sample_input : Tensor, optional
            A batch as a network takes it, such as (1, 3, 224, 224); not needed with `metrics`.
        workers : int
            Processes that measure side by side. Where they share cores, latencies are of loaded ones.
        n_networks : int
            How many are measured, drawn from the seed; all, if there are fewer.
        metrics : DataFrame, optional
            Pretrain on these instead, one column a metric, the index being positions in the list of encodings. NaN is
            not known.
        mode : {"simultaneous", "sequential"}
            All metrics at once, or one after the other.

        Returns
        -------
        DataFrame
            The metrics, by position; see `naaplib.estimators.cheap_metrics.profile`.

        Raises
        ------
        ValueError
            If neither networks can be built nor metrics are given, no network can be measured, metrics share a name, or
            the ensemble is pretrained already.
        """
        is_measured = metrics is None
        if metrics is None:
            if self.encoding_to_network is None or sample_input is None:
                raise ValueError(
                    "to measure networks, encoding_to_network and sample_input are needed; without them give metrics"
                )
            rows = np.random.default_rng(self.seed).permutation(len(self))[: whole("n_networks", n_networks, 1)]
            some = [self.encodings[row] for row in rows]
            metrics = cheap_metrics.profile(some, self.encoding_to_network, sample_input, n_jobs=workers)
            metrics.index = pd.Index(rows)
        if metrics.columns.nlevels > 1 or not metrics.columns.is_unique:
            raise ValueError(f"metrics have the columns {list(metrics.columns)}; each must have one name, and its own")
        numbers = metrics.select_dtypes("number", exclude="timedelta").astype(float)
        with one_thread():
            self.ensemble.pretrain(numbers.to_numpy(), metrics.index.to_numpy(), mode=mode)
        kept = {name: numbers[name] if name in numbers else metrics[name].map(_text) for name in metrics}
        self.metrics = pd.DataFrame(kept, columns=metrics.columns).rename_axis(index=None, columns=None)
        self.mode, self.is_measured = mode, is_measured
        return metrics

    def identity(self) -> dict[str, Any]:
        """Digests of what a search depends on, part by part: not of latencies that were measured here, which vary."""
        told: dict[str, Any] = {"encodings": _digest(self.encodings), "categorical": self.categorical}
        told |= {"mode": self.mode, "seeds": list(self.ensemble.seeds)}
        if self.metrics is not None:
            numbers = self.metrics.select_dtypes("number")
            told["rows"] = _digest(numbers.index.tolist())
            told["metrics"] = {str(name): _digest(numbers[name].tolist()) for name in numbers
                               if not (self.is_measured and name == "latency")}  # fmt: skip
        return told

    def digest(self) -> str:
        """16 hexadecimal digits of what a search depends on: encodings, members, and what they were pretrained on."""
        told: list[object] = [self.encodings, self.categorical, self.ensemble.seeds, self.mode]
        if self.metrics is not None:
            numbers = self.metrics.select_dtypes("number")
            told += [numbers.index.tolist(), list(map(str, numbers)), numbers.to_numpy().tolist()]
        return _digest(told)

    def save(self, path: str | Path) -> None:
        """Write encodings, metrics and ensemble to one file (.npz); not how networks are built, which is code."""
        told: dict[str, object] = {"name": self.name, "encodings": self.encodings, "categorical": self.categorical}
        told |= {"seed": self.seed, "mode": self.mode, "is_measured": self.is_measured}
        if self.metrics is not None:
            told["metrics"] = self.metrics.to_dict("split")
        files.save(self.ensemble, Path(path).expanduser(), told)


def load(path: str | Path, encoding_to_network: Callable[[Any], nn.Module] | None = None) -> SearchSpace:
    """A space that `SearchSpace.save` wrote. Nothing in the file is executed, whoever made it.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is damaged, of another format or version, holds pickled objects, or parts that do not fit together;
        the message says which.
    """
    ensemble, told = files.load(Path(path).expanduser())
    try:
        encodings = [tuple(encoding) for encoding in told["encodings"]]
        space = SearchSpace(told["name"], encodings, encoding_to_network, told["categorical"], seed=told["seed"])
        space.mode, space.is_measured = told.get("mode"), bool(told.get("is_measured"))
        if metrics := told.get("metrics"):
            space.metrics = pd.DataFrame(metrics["data"], metrics["index"], metrics["columns"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a search space: {error!r}") from None
    if ensemble.design != DESIGN or not np.array_equal(ensemble.features.numpy(), space.ensemble.features.numpy()):
        raise ValueError(f"{path} holds an ensemble that is not of its encodings")
    space.ensemble = ensemble
    return space


def settle(space: SearchSpace, path: Path, has_begun: bool) -> SearchSpace:
    """The space that a search is of: that of the file, if it is the same but for latencies; else it is written there.

    Raises
    ------
    ValueError
        If the file holds another space, or is gone though the search has begun and its latencies cannot be had again.
    """
    if not path.exists():
        if has_begun and space.is_measured:
            raise ValueError(f"{path} is gone, which has the metrics that the search began with: restore it, or give "
                             f"resume=False, which begins afresh")  # fmt: skip
        space.save(path)
        return space
    kept = load(path, space.encoding_to_network)
    if found := differences(kept.identity(), space.identity()):
        raise ValueError(f"{path} is of another space: {'; '.join(found)}. Name another folder")
    return kept


def _digest(thing: object) -> str:
    return hashlib.sha256(json.dumps(thing).encode()).hexdigest()[:16]


def _text(entry: Any) -> str | bool:
    return entry if isinstance(entry, str | bool) else "" if pd.isna(entry) else str(entry)


def _checked(encodings: Iterable[Sequence[Hashable]], categorical: Collection[int]) -> list[Any]:
    """Encodings as a list, numpy's numbers as Python's; what a search could not keep or learn from is refused."""
    rows: list[Any] = [tuple(map(_plain, one)) if isinstance(one, tuple | list) else one for one in encodings]
    lengths = {len(one) if isinstance(one, tuple | list) else -1 for one in rows}
    for position in range(lengths.pop() if len(lengths) == 1 else 0):  # other lengths are refused where they are read
        entries = dict.fromkeys(one[position] for one in rows)
        if len(entries) == len(rows) > MOST_NAMES and (position in categorical or isinstance(rows[0][position], str)):
            raise ValueError(
                f"each of {len(rows):,} encodings has a name of its own at position {position}, such as "
                f"{rows[0][position]!r}: from some nothing can be learnt of others. Leave the position out, and "
                f"describe architectures by numbers and by choices that several share"
            )
        large = {entry for entry in entries if isinstance(entry, int) and abs(entry) > _EXACT}
        if any(abs(entry) >= _FINITE for entry in large) or (
            position not in categorical and len(set(map(float, large))) < len(large)
        ):
            raise ValueError(
                f"position {position} holds whole numbers above 2**53 that are one, or none, as floating-point "
                f"numbers; write them as text or in another unit"
            )
    return rows


def _plain(entry: Any) -> Any:
    entry = entry.item() if isinstance(entry, np.generic) else entry
    if isinstance(entry, Number) and not isinstance(entry, bool | int | float):
        raise ValueError(f"an encoding holds {entry!r}; its numbers must be int or float, which files can hold")
    return entry
