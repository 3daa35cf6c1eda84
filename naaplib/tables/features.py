"""Features of architectures for predictors: the study's, scores, and blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from naaplib.architectures.schemes import Scheme, block_shapes, feature_table
from naaplib.tables.naap440 import EPOCH_MEASURES, N_EPOCHS, SCHEME_COLUMNS

TWO_SCHEME_COLUMNS = ["NumParams", "NumStages"]
SIX_SCHEME_COLUMNS = list(SCHEME_COLUMNS)
LOGGED = ("NumParams", "NumMACs")


def published(table: pd.DataFrame, scheme_columns: Sequence[str], *, n_epochs: int, log: bool = True) -> pd.DataFrame:
    """Select the study's features: of the scheme and of the first epochs.

    The source is NAAP-440, section 4.

    Parameters
    ----------
    table : DataFrame, shape (n_archs, 279)
        As `naaplib.tables.naap440.read` returns it, in any row order.
    scheme_columns : sequence of str
        Some of `SIX_SCHEME_COLUMNS`; may be empty. The study uses `TWO_SCHEME_COLUMNS` with 0 epochs, else all six.
    n_epochs : int
        Number of epochs from the first one, 0 to 90; each gives LossMean, LossMedian, Accuracy.
    log : bool
        True replaces NumParams and NumMACs by their natural logarithms, LogNumParams and LogNumMACs, as the study's
        script does; the paper's text mentions only the parameters.

    Returns
    -------
    DataFrame, shape (n_archs, n_features)
        Indexed by ModelId, in the table's row order; the scheme's features come first, in the given order.
    """
    if unknown := [column for column in scheme_columns if column not in SIX_SCHEME_COLUMNS]:
        raise ValueError(f"unknown scheme columns {unknown}; there are {SIX_SCHEME_COLUMNS}")
    if not 0 <= n_epochs <= N_EPOCHS:
        raise ValueError(f"n_epochs is {n_epochs}; it must lie between 0 and {N_EPOCHS}")
    if not scheme_columns and n_epochs == 0:
        raise ValueError("no scheme columns and no epochs: there is no feature left")
    epochs = [f"e{epoch}{measure}" for epoch in range(1, n_epochs + 1) for measure in EPOCH_MEASURES]
    features = table.set_index("ModelId")[[*scheme_columns, *epochs]].astype(float)
    if log:
        logged = [column for column in scheme_columns if column in LOGGED]
        features[logged] = np.log(features[logged])
        features = features.rename(columns={column: f"Log{column}" for column in logged})
    return features


def with_scores(features: pd.DataFrame, scores: pd.DataFrame, *, names: Sequence[str]) -> pd.DataFrame:
    """Append scores from another table to features.

    Parameters
    ----------
    features : DataFrame, shape (n_archs, n_features)
        Indexed by ModelId, as `published` and `blocks` return it.
    scores : DataFrame
        One row per architecture, in any order, with ModelId and numeric columns. Architectures that `features` lacks
        are ignored.
    names : sequence of str
        Numeric columns to append, in this order.

    Returns
    -------
    DataFrame, shape (n_archs, n_features + len(names))
        In the features' row order; scores as float.

    Raises
    ------
    ValueError
        If a name is not a numeric column, occurs twice, or is already a feature; if ModelIds of the features are
        missing or duplicated in `scores`; if a score is not finite.

    Examples
    --------
    >>> features = pd.DataFrame({"width": [16, 24]}, index=pd.Index([1, 2], name="ModelId"))
    >>> scores = pd.DataFrame({"ModelId": [2, 1], "nas_wot": [40.5, 38.0]})
    >>> with_scores(features, scores, names=["nas_wot"]).reset_index().to_dict("list")
    {'ModelId': [1, 2], 'width': [16, 24], 'nas_wot': [38.0, 40.5]}
    """
    known = [name for name in scores.select_dtypes("number") if name != "ModelId"]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown scores {unknown}; there are {known}")
    columns = [*features, *names]
    if repeated := sorted({name for name in names if columns.count(name) > 1}):
        raise ValueError(f"scores {repeated} would be there twice: name each once, and none that is a feature already")
    if twice := scores.loc[scores["ModelId"].duplicated(), "ModelId"].tolist():
        raise ValueError(f"the scores have more than one row of ModelId {twice}")
    if missing := features.index.difference(scores["ModelId"]).tolist():
        raise ValueError(f"the scores have no row of ModelId {missing}: compute them, or leave out these architectures")
    chosen = scores.set_index("ModelId").loc[features.index, list(names)].astype(float)
    for name, column in chosen.items():
        if lacking := chosen.index[~np.isfinite(column)].tolist():
            raise ValueError(
                f"score {name} is not finite for ModelId {lacking}: leave out the score, or these architectures"
            )
    return features.join(chosen)


def blocks(schemes: Sequence[Scheme]) -> pd.DataFrame:
    """Compute features of every block of every scheme, without any training.

    Parameters
    ----------
    schemes : sequence of Scheme
        All schemes of a space, in the order of ModelId.

    Returns
    -------
    DataFrame, shape (n_schemes, 6 * depth)
        Indexed by ModelId, the 1-based position. For block i from 1 to the depth of the deepest scheme: b{i}Kernel,
        b{i}Width, b{i}Stride, b{i}Skip (0 or 1), b{i}MACs (plain multiply-accumulates of the convolution),
        b{i}ReceptiveField (pixels of the image along one side that one output of the block sees). An absent block has
        stride 1, the receptive field of the block before it, and 0 for the other four.

    Examples
    --------
    >>> from naaplib.architectures.schemes import enumerate_schemes
    >>> blocks(enumerate_schemes())[["b1Width", "b2Width", "b3ReceptiveField"]].loc[1].tolist()
    [12.0, 16.0, 7.0]
    """
    depth = max(len(scheme) for scheme in schemes)
    rows = []
    for scheme in schemes:
        row: dict[str, int] = {}
        receptive_field, pixels_per_step = 1, 1
        macs = [shape.macs for shape in block_shapes(scheme)]
        for i in range(depth):
            here = scheme[i] if i < len(scheme) else None
            if here:
                receptive_field += (here.kernel_size - 1) * pixels_per_step
                pixels_per_step *= here.stride
            row |= {
                f"b{i + 1}Kernel": here.kernel_size if here else 0,
                f"b{i + 1}Width": here.width if here else 0,
                f"b{i + 1}Stride": here.stride if here else 1,
                f"b{i + 1}Skip": int(here.residual) if here else 0,
                f"b{i + 1}MACs": macs[i] if here else 0,
                f"b{i + 1}ReceptiveField": receptive_field,
            }
        rows.append(row)
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="ModelId"), dtype=float)


def smooth_blocks(schemes: Sequence[Scheme]) -> pd.DataFrame:
    """Compute features of blocks and of whole schemes on scales that suit kernels.

    Accuracy is a smooth function of the logarithms of sizes, and a removed block changes only what it had.

    Parameters
    ----------
    schemes : sequence of Scheme
        All schemes of a space, in the order of ModelId.

    Returns
    -------
    DataFrame, shape (n_schemes, 5 * depth + 6)
        Indexed by ModelId, the 1-based position. For block i from 1 to the depth of the deepest scheme: b{i}Kernel,
        b{i}Stride, b{i}Skip as in `blocks`, b{i}LogWidth (an absent block has the width of the block before it), and
        b{i}Present (0 or 1). For the scheme: LogMACs (plain), LogParams, LogReLUUnits, LogReceptiveField,
        LogReduction (product of all strides), LogLastWidth. All logarithms have base 2.

    Examples
    --------
    >>> from naaplib.architectures.schemes import enumerate_schemes
    >>> smooth_blocks(enumerate_schemes())[["b1LogWidth", "b4Present", "LogReduction"]].loc[1].round(2).tolist()
    [3.58, 0.0, 2.0]
    """
    by_block, whole = blocks(schemes), feature_table(schemes).set_index("ModelId")
    depth = max(len(scheme) for scheme in schemes)
    columns: dict[str, pd.Series] = {}
    for i in range(1, depth + 1):
        present = by_block[f"b{i}Width"] > 0
        columns |= {name: by_block[name] for name in (f"b{i}Kernel", f"b{i}Stride", f"b{i}Skip")}
        width = np.log2(by_block[f"b{i}Width"].where(present, 1.0))
        columns[f"b{i}LogWidth"] = width if i == 1 else width.where(present, columns[f"b{i - 1}LogWidth"])
        columns[f"b{i}Present"] = present.astype(float)
    reduction = by_block[[f"b{i}Stride" for i in range(1, depth + 1)]].prod(axis=1)
    return pd.DataFrame(columns | {
        "LogMACs": np.log2(whole["n_plain_macs"]),
        "LogParams": np.log2(whole["NumParams"]),
        "LogReLUUnits": np.log2(whole["n_relu_units"]),
        "LogReceptiveField": np.log2(by_block[f"b{depth}ReceptiveField"]),
        "LogReduction": np.log2(reduction),
        "LogLastWidth": np.log2(whole["LastLayerWidth"]),
    })  # fmt: skip
