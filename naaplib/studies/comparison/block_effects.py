"""The importance and the effect of kernel, width, stride and skip by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib.architectures.schemes import Scheme, enumerate_schemes
from naaplib.cache import Piece
from naaplib.estimators import structural
from naaplib.evaluation.importance import accumulated_effects, permutation_importance
from naaplib.studies.comparison.announced import ESTIMATOR
from naaplib.tables import naap440

PROPERTIES = {"kernel": "Kernel", "width": "LogWidth", "stride": "Stride", "skip": "Skip"}
PREFIX = "smooth:"
N_DIGITS = 6


def block_columns(schemes: Sequence[Scheme]) -> pd.DataFrame:
    """Return the features of blocks, without sizes that follow from several of them.

    A size such as the multiply-accumulates would share the importance of the widths, and would not move with them.

    Parameters
    ----------
    schemes : sequence of Scheme
        All schemes of a space, in the order of ModelId.

    Returns
    -------
    DataFrame, shape (n_schemes, n_features)
        Indexed by ModelId; columns of `naaplib.estimators.structural.scheme_features` that vary.
    """
    X = structural.scheme_features(schemes)
    X = X[[column for column in X if column.startswith(f"{PREFIX}b")]]
    return X.loc[:, X.ne(X.iloc[0]).any()]


def importance(
    table: pd.DataFrame, schemes: Sequence[Scheme], *, splits: Mapping[int | str, NDArray[np.bool_]],
    n_repeats: int = 20, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Measure what predictions of test networks lose if a property is permuted.

    Parameters
    ----------
    table : DataFrame
        ModelId and MaxAccuracy of all schemes, in the order of ModelId.
    schemes : sequence of Scheme
    splits : mapping from key to ndarray of bool, shape (n_archs,)
        As `naaplib.tables.naap440.splits` returns them.
    n_repeats, seed : int
        Number of permutations of each group, and their seed.

    Returns
    -------
    DataFrame
        One row a split and group, as means over permutations: split, group, kind, n_test, mae_loss, tau_loss. Kinds
        are "block and property" ("kernel of block 3") and "property" ("kernel", in all blocks), permuted among networks
        of the same depth, and "block" ("block 3", all its properties and if it is there).
    """
    X, measured = block_columns(schemes), table["MaxAccuracy"].to_numpy()
    single = _columns(X)
    by_block: dict[str, list[str]] = {}
    by_property: dict[str, list[str]] = {}
    for (block, name), column in single.items():
        by_block.setdefault(f"block {block}", []).append(column)
        by_property.setdefault(name, []).append(column)
    for block in {block for block, _ in single}:
        by_block[f"block {block}"] += [column for column in X if column == f"{PREFIX}b{block}Present"]
    kinds = {
        "block and property": {f"{name} of block {block}": [column] for (block, name), column in single.items()},
        "block": by_block,
        "property": by_property,
    }
    tables = []
    for split, is_test in splits.items():
        model = structural.make(ESTIMATOR).fit(X[~is_test], measured[~is_test])
        test = X[is_test]
        depth = test[[column for column in X if column.endswith("Present")]].sum(axis=1)
        for kind, groups in kinds.items():
            found = permutation_importance(
                model.predict, test, measured=measured[is_test], groups=groups, n_repeats=n_repeats, seed=seed,
                strata={} if kind == "block" else dict.fromkeys(groups, depth),
            )  # fmt: skip
            means = found.groupby("group", sort=False)[["mae_loss", "tau_loss"]].mean().reset_index()
            keys = {"split": split, "kind": kind, "n_test": int(is_test.sum())}
            tables.append(means.assign(**keys)[["split", "group", "kind", "n_test", "mae_loss", "tau_loss"]])
    return pd.concat(tables, ignore_index=True)


def effects(
    table: pd.DataFrame, schemes: Sequence[Scheme], *, splits: Mapping[int | str, NDArray[np.bool_]]
) -> pd.DataFrame:
    """Compute accumulated local effects of each property of each block.

    Parameters
    ----------
    table, schemes, splits
        As in `importance`. The estimator is fitted on the training networks of each split; effects are means over all
        networks that have all blocks.

    Returns
    -------
    DataFrame
        One row a split, block, property and value: split, block, property, value (kernel in pixels, width in channels,
        stride, 0 or 1 for a skip), n (networks with it), effect (on accuracy, a fraction; mean over networks 0).
    """
    X, measured = block_columns(schemes), table["MaxAccuracy"].to_numpy()
    deepest = X[[len(scheme) == max(map(len, schemes)) for scheme in schemes]]
    tables = []
    for split, is_test in splits.items():
        model = structural.make(ESTIMATOR).fit(X[~is_test], measured[~is_test])
        for (block, name), column in _columns(X).items():
            if deepest[column].nunique() < 2:
                continue
            found = accumulated_effects(model.predict, deepest, feature=column)
            if name == "width":
                found["value"] = (2 ** found["value"]).round()
            keys = {"split": split, "block": block, "property": name}
            tables.append(found.assign(**keys)[["split", "block", "property", "value", "n", "effect"]])
    return pd.concat(tables, ignore_index=True)


def pieces(*, source: str = "published", n_repeats: int = 20, seed: int = 0) -> list[Piece]:
    """Return the records of importances and of effects on the eleven splits.

    Parameters
    ----------
    source : str
        Table to read, as for `naaplib.tables.naap440.find`; its networks are the 440 of NAAP-440.
    n_repeats, seed : int
        As in `importance`.
    """

    def importances() -> pd.DataFrame:
        table = _table(source)
        splits = naap440.splits(table)
        return importance(table, enumerate_schemes(), splits=splits, n_repeats=n_repeats, seed=seed).round(N_DIGITS)

    def of_values() -> pd.DataFrame:
        table = _table(source)
        return effects(table, enumerate_schemes(), splits=naap440.splits(table)).round(N_DIGITS)

    files = partial(_files, source)
    drawn = {"source": source, "n_repeats": n_repeats, "seed": seed}
    return [
        Piece("blocks/importance", drawn, importances, files, code=__name__),
        Piece("blocks/effects", {"source": source}, of_values, files, code=__name__),
    ]


def _files(source: str) -> list[Path]:
    return [naap440.find(source)]


def _table(source: str) -> pd.DataFrame:
    return naap440.read(naap440.find(source)).sort_values("ModelId", ignore_index=True)


def _columns(X: pd.DataFrame) -> dict[tuple[int, str], str]:
    """Map block and property to the column, of those that vary."""
    blocks = sorted({int(column.removeprefix(f"{PREFIX}b")[0]) for column in X})
    named = {(block, name): f"{PREFIX}b{block}{suffix}" for block in blocks for name, suffix in PROPERTIES.items()}
    return {key: column for key, column in named.items() if column in X}


def summary(found: pd.DataFrame, by: Sequence[str], *, of: Sequence[str]) -> pd.DataFrame:
    """Return mean and standard deviation over splits of some columns.

    Parameters
    ----------
    found : DataFrame
        As `importance` or `effects` returns it.
    by : sequence of str
        Columns that identify a row, as in ("kind", "group") or ("block", "property", "value").
    of : sequence of str
        Columns of numbers.

    Returns
    -------
    DataFrame
        by, n_splits, and each of `of`, with its standard deviation as in effect_sd; in the order of appearance.

    Examples
    --------
    >>> found = pd.DataFrame({"group": ["a", "a"], "tau_loss": [0.1, 0.3]})
    >>> summary(found, ["group"], of=["tau_loss"]).round(3).to_numpy().tolist()
    [['a', 2, 0.2, 0.141]]
    """
    groups = found.groupby(list(by), sort=False)
    columns = {"n_splits": groups.size()}
    for name in of:
        columns |= {name: groups[name].mean(), f"{name}_sd": groups[name].std()}
    return pd.DataFrame(columns).reset_index()
