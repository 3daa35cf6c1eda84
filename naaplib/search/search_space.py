"""Finite search spaces for architecture tuning, with a pretrained surrogate."""

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
MOST_NAMES = 100  # architectures that may all have different texts at a position
_EXACT = 2**53  # floating-point numbers hold every whole number up to here
_FINITE = 2**1023


class SearchSpace:
    """A list of encodings to search, with the surrogate that a search begins with.

    The surrogate is an ensemble. The study calls this `create_search_space` (Ouertatani et al. 2024, section 3.1).

    Parameters
    ----------
    name : str
    encodings : iterable of sequences
        One per architecture, all different and of one length. Entries are numbers, text, True, False or None; see
        `.encodings.encode`.
    encoding_to_network : callable, optional
        Maps an encoding to a network; needed for `preprocess` without metrics.
    categorical : collection of int
        Positions in an encoding whose numbers are names, not amounts.
    n_members : int
        Members of the ensemble.
    seed : int
        Seed of the ensemble, and of the choice of architectures to measure.

    Attributes
    ----------
    encodings : list of tuple
    ensemble : naaplib.estimators.ensembles.ensemble.DeepEnsemble
    metrics : DataFrame or None
        Metrics that `preprocess` pretrained the ensemble on, indexed by position in `encodings`.
    mode : str or None
        Mode of pretraining, None before it.
    is_measured : bool
        True if `preprocess` measured the metrics, including latency.

    Raises
    ------
    ValueError
        If encodings differ in length, repeat, or hold other entries; if all of more than 100 architectures have
        different texts at a position, from which nothing can be learnt.

    Examples
    --------
    >>> space = SearchSpace("widths", [(8, "relu"), (16, "relu"), (16, "silu")], n_members=2)
    >>> metrics = space.preprocess(metrics=pd.DataFrame({"macs": [1e5, 2e5, 2e5]}))
    >>> len(space), space.mode, space.is_measured
    (3, 'simultaneous', False)
    """

    def __init__(
        self,
        name: str,
        encodings: Iterable[Sequence[Hashable]],
        *,
        encoding_to_network: Callable[[Any], nn.Module] | None = None,
        categorical: Collection[int] = (),
        n_members: int = 5,
        seed: int = 0,
    ) -> None:
        self.name, self.encoding_to_network = name, encoding_to_network
        self.seed = whole("seed", seed, least=0)
        self.categorical = sorted(whole("a position in categorical", position) for position in categorical)
        rows = _checked(encodings, self.categorical)
        features = encode(rows, self.categorical)
        self.encodings: list[Encoding] = [tuple(encoding) for encoding in rows]
        if n_twice := len(self.encodings) - len(set(self.encodings)):
            raise ValueError(f"{n_twice} of the {len(self.encodings):,} encodings are there before; list each once")
        words = np.random.SeedSequence(self.seed).generate_state(whole("n_members", n_members, least=1))
        self.ensemble = DeepEnsemble(features, words.tolist(), design=DESIGN)
        self.metrics: pd.DataFrame | None = None
        self.mode: str | None = None
        self.is_measured = False

    def __len__(self) -> int:
        """Return the number of architectures."""
        return len(self.encodings)

    def preprocess(
        self,
        sample_input: Tensor | None = None,
        workers: int = 1,
        *,
        n_networks: int = 1000,
        metrics: pd.DataFrame | None = None,
        mode: str = "simultaneous",
    ) -> pd.DataFrame:
        """Measure networks without training them, and pretrain the ensemble.

        Parameters
        ----------
        sample_input : Tensor, optional
            A batch as a network takes it, such as (1, 3, 224, 224); not needed with `metrics`.
        workers : int
            Processes that measure in parallel. Latencies suffer where they share cores.
        n_networks : int
            Number of networks to measure, drawn from the seed; all, if there are fewer.
        metrics : DataFrame, optional
            Pretrain on these instead: one column per metric, indexed by position in `encodings`. NaN means unknown.
        mode : {"simultaneous", "sequential"}
            Pretrain on all metrics at once, or on one after the other.

        Returns
        -------
        DataFrame
            The metrics, indexed by position; see `.cheap_metrics.profile`.

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
            rows = np.random.default_rng(self.seed).permutation(len(self))[: whole("n_networks", n_networks, least=1)]
            some = [self.encodings[row] for row in rows]
            metrics = cheap_metrics.profile(some, self.encoding_to_network, sample=sample_input, n_jobs=workers)
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
        """Return digests of everything in the space that a search depends on.

        Latencies measured here are left out, because they vary between measurements.
        """
        told: dict[str, Any] = {"encodings": _digest(self.encodings), "categorical": self.categorical}
        told |= {"mode": self.mode, "seeds": list(self.ensemble.seeds)}
        if self.metrics is not None:
            numbers = self.metrics.select_dtypes("number")
            told["rows"] = _digest(numbers.index.tolist())
            told["metrics"] = {str(name): _digest(numbers[name].tolist()) for name in numbers
                               if not (self.is_measured and name == "latency")}  # fmt: skip
        return told

    def digest(self) -> str:
        """Return 16 hexadecimal digits that identify encodings, members and metrics."""
        told: list[object] = [self.encodings, self.categorical, self.ensemble.seeds, self.mode]
        if self.metrics is not None:
            numbers = self.metrics.select_dtypes("number")
            told += [numbers.index.tolist(), list(map(str, numbers)), numbers.to_numpy().tolist()]
        return _digest(told)

    def save(self, path: str | Path) -> None:
        """Write encodings, metrics and ensemble to one .npz file.

        The function that builds networks is code, and is not saved.
        """
        told: dict[str, object] = {"name": self.name, "encodings": self.encodings, "categorical": self.categorical}
        told |= {"seed": self.seed, "mode": self.mode, "is_measured": self.is_measured}
        if self.metrics is not None:
            told["metrics"] = self.metrics.to_dict("split")
        files.save(self.ensemble, Path(path).expanduser(), told=told)


def load(path: str | Path, encoding_to_network: Callable[[Any], nn.Module] | None = None) -> SearchSpace:
    """Load a space that `SearchSpace.save` wrote.

    Nothing in the file is executed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, has another format or version, holds pickled objects, or its parts do not fit together.
        The message names the reason.
    """
    ensemble, told = files.load(Path(path).expanduser())
    try:
        encodings = [tuple(encoding) for encoding in told["encodings"]]
        space = SearchSpace(
            told["name"],
            encodings,
            encoding_to_network=encoding_to_network,
            categorical=told["categorical"],
            seed=told["seed"],
        )
        space.mode, space.is_measured = told.get("mode"), bool(told.get("is_measured"))
        if metrics := told.get("metrics"):
            space.metrics = pd.DataFrame(metrics["data"], metrics["index"], metrics["columns"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a search space: {error!r}") from None
    if ensemble.design != DESIGN or not np.array_equal(ensemble.features.numpy(), space.ensemble.features.numpy()):
        raise ValueError(f"{path} holds an ensemble that is not of its encodings")
    space.ensemble = ensemble
    return space


def settle(space: SearchSpace, path: Path, *, has_begun: bool) -> SearchSpace:
    """Return a search's space: the saved one, or `space` after saving it.

    The saved space is used if it differs in latencies alone. Latencies vary between measurements, so that a search can
    be resumed only with those that it began with.

    Raises
    ------
    ValueError
        If the file holds another space, or is gone although the search has begun with latencies measured then.
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
    """Return encodings as a list, with Python's numbers, and refuse unusable ones.

    Unusable are those that a file cannot hold, or that a search cannot learn from.
    """
    rows: list[Any] = [tuple(map(_plain, one)) if isinstance(one, tuple | list) else one for one in encodings]
    lengths = {len(one) if isinstance(one, tuple | list) else -1 for one in rows}
    for position in range(lengths.pop() if len(lengths) == 1 else 0):  # `encode` refuses different lengths
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
