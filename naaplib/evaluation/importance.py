"""The features that a fitted estimator uses, and how it uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from naaplib import metrics

Predict = Callable[[pd.DataFrame], ArrayLike]


def permutation_importance(
    predict: Predict,
    X: pd.DataFrame,
    *,
    measured: ArrayLike,
    groups: Mapping[str, Sequence[str]],
    strata: Mapping[str, ArrayLike] | None = None,
    n_repeats: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what a prediction loses if a group of features is permuted.

    The columns of a group move together, so that features that are only there together stay so (Breiman 2001). Do not
    use it for a group with a feature that others determine, such as MACs beside widths: permuted rows are then
    architectures that cannot exist, and the loss is shared between the copies.

    Parameters
    ----------
    predict : callable
        Predicts accuracies (n_archs,) from a DataFrame like `X`; usually the method of a fitted estimator.
    X : DataFrame, shape (n_archs, n_features)
        Features of architectures that the estimator was not fitted to.
    measured : array_like, shape (n_archs,)
        Their accuracies.
    groups : mapping from name to sequence of str
        Columns of each group.
    strata : mapping from name of a group to array_like, shape (n_archs,), optional
        Rows are permuted among those of one value, as in permuting the kernel of a block among networks that have this
        block. Other groups are permuted among all rows.
    n_repeats, seed : int
        Number of permutations of each group, and their seed.

    Returns
    -------
    DataFrame
        One row a group and repeat: group, repeat (from 0), mae and kendall_tau of the permuted prediction, and what
        they lose against the intact one: mae_loss, tau_loss, positive if the group matters.

    Raises
    ------
    ValueError
        If a group names a column that `X` lacks, or strata are for no group or of another length.

    Examples
    --------
    >>> X = pd.DataFrame({"used": [1.0, 2.0, 3.0, 4.0], "ignored": [4.0, 1.0, 3.0, 2.0]})
    >>> groups = {"used": ["used"], "ignored": ["ignored"]}
    >>> found = permutation_importance(lambda X: X["used"], X, measured=[1, 2, 3, 4], groups=groups)
    >>> found.groupby("group")["mae_loss"].mean().gt(0).to_dict()
    {'ignored': False, 'used': True}
    """
    truth, strata = np.asarray(measured, dtype=float), dict(strata or {})
    for name, columns in groups.items():
        if unknown := [column for column in columns if column not in X]:
            raise ValueError(f"group {name!r} has columns {unknown} that the features lack; they are {list(X)}")
    if foreign := [name for name in strata if name not in groups]:
        raise ValueError(f"strata are given for {foreign}, but the groups are {list(groups)}")
    if wrong := [name for name, values in strata.items() if len(np.asarray(values)) != len(X)]:
        raise ValueError(f"strata of {wrong[0]!r} must have one value for each of the {len(X)} rows")
    whole = np.asarray(predict(X), dtype=float)
    intact = {"mae": metrics.mae(truth, whole), "kendall_tau": metrics.kendall_tau(truth, whole)}
    rows = []
    for name, columns in groups.items():
        rng = np.random.default_rng(seed)  # the same permutations for each group
        labels = np.unique(np.asarray(strata.get(name, np.zeros(len(X)))), return_inverse=True)[1]
        for repeat in range(n_repeats):
            moved = X.copy()
            moved[list(columns)] = X[list(columns)].to_numpy()[_permutation_within(labels, rng)]
            values = np.asarray(predict(moved), dtype=float)
            found = {"mae": metrics.mae(truth, values), "kendall_tau": metrics.kendall_tau(truth, values)}
            losses = {
                "mae_loss": found["mae"] - intact["mae"],
                "tau_loss": intact["kendall_tau"] - found["kendall_tau"],
            }
            rows.append({"group": name, "repeat": repeat} | found | losses)
    return pd.DataFrame(rows)


def _permutation_within(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a permutation of rows that keeps each row's label."""
    order = rng.permutation(len(labels))
    result = np.empty(len(labels), dtype=np.int64)
    result[np.argsort(labels, kind="stable")] = order[np.argsort(labels[order], kind="stable")]
    return result


def accumulated_effects(predict: Predict, X: pd.DataFrame, *, feature: str, n_bins: int = 20) -> pd.DataFrame:
    """Compute the accumulated local effects of one feature on a prediction.

    The effect from one value to the next is the mean change of the prediction over the rows that have one of the two,
    so that no architecture is moved further than to a neighbouring value; changes are then summed up (Apley and Zhu
    2020). In contrast to partial dependence, correlated features do not lend each other their effects.

    Parameters
    ----------
    predict : callable
        Predicts accuracies (n_archs,) from a DataFrame like `X`.
    X : DataFrame, shape (n_archs, n_features)
        Restrict it to the rows in which the feature has a meaning, such as those with a fourth block.
    feature : str
        A column of numbers with two values or more.
    n_bins : int
        A feature with more values is cut at this number of quantiles; then rows change between the two limits of their
        bin.

    Returns
    -------
    DataFrame
        One row a value (or limit): value, n (number of rows with it; or in the bin that it closes), effect (in the unit
        of accuracy; its mean over rows is 0).

    Raises
    ------
    ValueError
        If the feature is not there, or has one value only.

    Examples
    --------
    >>> X = pd.DataFrame({"stride": [1.0, 1.0, 2.0, 2.0], "width": [16.0, 24.0, 24.0, 32.0]})
    >>> found = accumulated_effects(lambda X: 0.001 * X["width"] - 0.1 * X["stride"], X, feature="stride")
    >>> found.round(3).to_dict("list")
    {'value': [1.0, 2.0], 'n': [2, 2], 'effect': [0.05, -0.05]}
    """
    if feature not in X:
        raise ValueError(f"there is no feature {feature!r}; there are {list(X)}")
    values = X[feature].to_numpy(dtype=float)
    limits = np.unique(values)
    if limits.size < 2:
        raise ValueError(f"feature {feature!r} is {limits.tolist()} in all rows: it has no effect to measure")
    if is_continuous := limits.size > n_bins:
        limits = np.unique(np.quantile(values, np.linspace(0, 1, n_bins + 1)))
    changes = [0.0]
    for low, high in pairwise(limits):
        inside = (values >= low) & (values <= high)
        if is_continuous and low != limits[0]:
            inside &= values > low
        lower, upper = (np.asarray(predict(X[inside].assign(**{feature: end})), dtype=float) for end in (low, high))
        changes.append(float((upper - lower).mean()))
    effect = np.cumsum(changes)
    place = np.searchsorted(limits, values)  # of the value itself, or of the limit above it
    n = np.bincount(place, minlength=limits.size)
    return pd.DataFrame({"value": limits, "n": n, "effect": effect - effect @ n / n.sum()})
