"""NAAP-440 ready to use: features, target, splits and learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from naaplib.architectures import graphs
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.sources import FILES, MissingData, fetch, find
from naaplib.tables import naap440
from naaplib.tables.features import SIX_SCHEME_COLUMNS, TWO_SCHEME_COLUMNS, blocks, published

FEATURES = {"scheme": SIX_SCHEME_COLUMNS, "two": TWO_SCHEME_COLUMNS}
NAME = "naap440/naap440.csv"


def load_naap440(
    features: str = "blocks", *, n_epochs: int = 0, return_X_y: bool = False
) -> Bunch | tuple[pd.DataFrame, pd.Series]:
    """Load NAAP-440: features, accuracies, the paper's split, and learning curves.

    The first call fetches one file of 1 MB; later calls read it from this machine. The source is Hakim (2022).

    Parameters
    ----------
    features : {"blocks", "scheme", "two"}
        "blocks" is six features of every block; "scheme" is the study's six features of the whole network, and "two"
        its two for predictions without any epoch.
    n_epochs : int
        Number of first epochs whose loss and accuracy are features too, 0 to 90.
    return_X_y : bool
        True returns only features and target, as scikit-learn's loaders do.

    Returns
    -------
    Bunch with
        data : DataFrame, shape (440, n_features), indexed by ModelId
        target : Series, shape (440,), the highest test accuracy of 90 epochs, a fraction
        is_test : ndarray of bool, shape (440,), the paper's split
        splits : dict from 0..10 to ndarray of bool, the eleven splits of the paper's rule; 5 is the paper's
        curves : DataFrame, shape (440, 90), test accuracy by epoch
        graphs : Graphs, the networks as graphs
        schemes : list of Scheme
        name : str

    Raises
    ------
    OSError
        If the file is not on this machine and cannot be fetched.
    naaplib.sources.WrongData
        If the file is another one.

    Examples
    --------
    >>> X, y = load_naap440("scheme", n_epochs=3, return_X_y=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (440, 15)
    """
    if features != "blocks" and features not in FEATURES:
        raise ValueError(f"features is {features!r}; it must be one of blocks, {', '.join(FEATURES)}")
    table = naap440.read(_fetched(), n_archs=440)
    schemes = enumerate_schemes()
    data = _features(table, features, n_epochs)
    target = table.set_index("ModelId")["MaxAccuracy"]
    if return_X_y:
        return data, target
    epochs = range(1, naap440.N_EPOCHS + 1)
    curves = table.set_index("ModelId")[[f"e{epoch}Accuracy" for epoch in epochs]]
    curves.columns = pd.Index(epochs, name="epoch")
    splits = naap440.splits(table)
    chosen: Sequence[int] = (table["ModelId"] - 1).tolist()
    return Bunch(
        name="NAAP-440", data=data, target=target, is_test=splits[naap440.PAPER], splits=splits, curves=curves,
        graphs=graphs.of_schemes([schemes[i] for i in chosen]), schemes=[schemes[i] for i in chosen],
        feature_names=list(data),
    )  # fmt: skip


def _fetched() -> Path:
    """Find or fetch the file; say in one line what to do where that cannot be done."""
    try:
        return find(NAME)
    except MissingData:
        import pooch

        pooch.get_logger().setLevel("WARNING")
    try:
        return fetch(NAME)
    except OSError as error:
        raise OSError(
            f"{NAME} is not on this machine and could not be fetched from {FILES[NAME].address}: "
            f"{type(error).__name__}. Is this machine online? Or let NAAPLIB_DATA name a folder that has it"
        ) from error


def _features(table: pd.DataFrame, features: str, n_epochs: int) -> pd.DataFrame:
    if features != "blocks":
        return published(table, FEATURES[features], n_epochs=n_epochs)
    every = blocks(enumerate_schemes()).loc[table["ModelId"]]
    return every.join(published(table, [], n_epochs=n_epochs)) if n_epochs else every


def folds(n_archs: int, n_splits: int = 10, *, seed: int = 0) -> dict[int | str, NDArray[np.bool_]]:
    """Divide architectures at random into parts; each is the test set of one split.

    >>> sum(mask.sum() for mask in folds(7, 3).values())
    np.int64(7)
    """
    if not 2 <= n_splits <= n_archs:
        raise ValueError(f"splits is {n_splits}; it must lie between 2 and the number of architectures, {n_archs}")
    part = np.random.default_rng(seed).permutation(n_archs) % n_splits
    return {i: part == i for i in range(n_splits)}
