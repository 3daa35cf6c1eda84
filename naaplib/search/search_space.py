"""Finite spaces of architectures to tune: encodings, cheap metrics of some, and an ensemble pretrained on these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from naaplib.estimators import cheap_metrics, ensemble_files
from naaplib.estimators.deep_ensembles import DeepEnsemble, Design
from naaplib.estimators.encodings import encode
from naaplib.training.network import one_thread

Encoding = tuple[Hashable, ...]
DESIGN = Design(n_fidelities=2)


class SearchSpace:
    """A list of encodings to search, and the surrogate that searches of it begin with.

    In the architecture-tuning study this is `create_search_space` (Ouertatani et al. 2024, section 3.1).

    Parameters
    ----------
    name : str
    encodings : sequence of sequences
        One an architecture, all different, all of one length, of numbers, text, truth values and None; see
        `naaplib.estimators.encodings.encode` for how they are read.
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
    ensemble : naaplib.estimators.deep_ensembles.DeepEnsemble
    metrics : DataFrame or None
        What `preprocess` pretrained it on, by the positions of the architectures in the list.
    mode : str or None
        How it was pretrained; None: it was not.

    Raises
    ------
    ValueError
        If encodings are of different lengths, of other entries, or there twice.
    """

    def __init__(
        self,
        name: str,
        encodings: Sequence[Sequence[Hashable]],
        encoding_to_network: Callable[[Any], nn.Module] | None = None,
        categorical: Collection[int] = (),
        n_members: int = 5,
        seed: int = 0,
    ) -> None:
        self.name, self.encoding_to_network, self.seed = name, encoding_to_network, seed
        features = encode(encodings, categorical)
        self.encodings: list[Encoding] = [tuple(encoding) for encoding in encodings]
        self.categorical = sorted(categorical)
        if n_twice := len(self.encodings) - len(set(self.encodings)):
            raise ValueError(f"{n_twice} of the {len(self.encodings):,} encodings are there before; list each once")
        words = np.random.SeedSequence(seed).generate_state(n_members)
        self.ensemble = DeepEnsemble(features, words.tolist(), DESIGN)
        self.metrics: pd.DataFrame | None = None
        self.mode: str | None = None

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
            If neither networks can be built nor metrics are given, no network can be measured, or the ensemble is
            pretrained already.
        """
        if metrics is None:
            if self.encoding_to_network is None or sample_input is None:
                raise ValueError(
                    "to measure networks, encoding_to_network and sample_input are needed; without them give metrics"
                )
            rows = np.random.default_rng(self.seed).permutation(len(self))[:n_networks]
            some = [self.encodings[row] for row in rows]
            metrics = cheap_metrics.profile(some, self.encoding_to_network, sample_input, n_jobs=workers)
            metrics.index = pd.Index(rows)
        numbers = metrics.select_dtypes("number")
        with one_thread():
            self.ensemble.pretrain(numbers.to_numpy(), metrics.index.to_numpy(), mode=mode)
        self.metrics, self.mode = metrics, mode
        return metrics

    def digest(self) -> str:
        """16 hexadecimal digits of what a search depends on: encodings, members, and what they were pretrained on."""
        found = hashlib.sha256(json.dumps([self.encodings, self.categorical, self.ensemble.seeds, self.mode]).encode())
        if self.metrics is not None:
            found.update(self.metrics.to_csv().encode())
        return found.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write encodings, metrics and ensemble to one file (.npz); not how networks are built, which is code."""
        told: dict[str, object] = {"name": self.name, "encodings": self.encodings, "categorical": self.categorical}
        told |= {"seed": self.seed, "mode": self.mode}
        if self.metrics is not None:
            told["metrics"] = self.metrics.to_dict("split")
        ensemble_files.save(self.ensemble, path, told)


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
    ensemble, told = ensemble_files.load(path)
    try:
        encodings = [tuple(encoding) for encoding in told["encodings"]]
        space = SearchSpace(told["name"], encodings, encoding_to_network, told["categorical"], seed=told["seed"])
        space.mode = told.get("mode")
        if metrics := told.get("metrics"):
            space.metrics = pd.DataFrame(metrics["data"], metrics["index"], metrics["columns"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a search space: {error!r}") from None
    if ensemble.design != DESIGN or not np.array_equal(ensemble.features.numpy(), space.ensemble.features.numpy()):
        raise ValueError(f"{path} holds an ensemble that is not of its encodings")
    space.ensemble = ensemble
    return space
