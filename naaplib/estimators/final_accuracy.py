"""Predict the final accuracy of running trainings from their first epochs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold, cross_val_predict

from naaplib.estimators import learning_curves, regressors

AVERAGE, SVR = "families", "svr"
SIMPLE = ("last", "best")
METHODS = (SVR, AVERAGE, *learning_curves.FAMILIES, *SIMPLE, *regressors.ALGORITHMS)
TARGETS = ("last", "best")
FEWEST = 10  # finished trainings to learn from
N_FOLDS = 10
Values = NDArray[np.float64]


def predict(
    curves: pd.DataFrame,
    at: int | None = None,
    *,
    finished: pd.DataFrame | None = None,
    method: str | BaseEstimator | None = None,
    target: str = "last",
    level: float = 0.9,
    cycle: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Predict the final accuracy of running trainings from their first epochs.

    Parameters
    ----------
    curves : DataFrame
        Accuracies, fractions in [0, 1]. Either one row per training and one column per epoch, from 1, with NaN for
        epochs to come; or one row per training and epoch, with columns epoch, accuracy and one that names the training.
        Epochs may come in any order: a column's number counts, as in 3, "3" or "epoch 3".
    at : int, optional
        Epoch to predict; by default the last one in `finished`.
    finished : DataFrame, optional
        Curves of trainings that reached epoch `at`, in one of the two forms: similar networks by the same recipe. The
        method then learns from them.
    method : str or estimator, optional
        - "svr", the default with `finished`: support vectors on the curve and its differences
          (`naaplib.estimators.learning_curves.support_vector`); also a name in
          ``naaplib.estimators.regressors.ALGORITHMS``, or any scikit-learn regressor. All of them need `finished`.
        - "families", the default without: the median of four parametric fits; also one of them, "pow3", "exp3", "ilog2"
          or "mmf4" (`naaplib.estimators.learning_curves.fit`); "last" or "best" for the last or best value so far.
    target : {"last", "best"}
        Accuracy of epoch `at`, or the highest until then, of `finished`.
    level : float
        Coverage of the intervals with `finished`, between 0 and 1.
    cycle : int
        Number of epochs between restarts of the learning rate; a fit uses the last epoch of each complete cycle.
    seed : int
        Seed of the regressor and of the folds.

    Returns
    -------
    DataFrame
        One row per training, in their order: n_seen (epochs), last (accuracy), estimate, low, high. With `finished`,
        the interval is symmetric: the quantile of the absolute errors on finished trainings, each predicted by the
        method fitted without its fold. It holds `level` of similar trainings, and is [0, 1] if they are too few for it.
        Without, it is the range over the four families and has no known coverage.

    Raises
    ------
    ValueError
        If columns are not epochs, an accuracy is missing between others or outside [0, 1], a training is beyond epoch
        `at`, an argument is unknown, or finished trainings are needed and absent, too short, or fewer than 10.

    Examples
    --------
    >>> epochs = np.arange(1, 31)
    >>> finished = pd.DataFrame([0.9 - a / epochs for a in np.linspace(0.3, 0.6, 20)], columns=epochs)
    >>> running = pd.DataFrame([0.9 - 0.45 / epochs[:5]], columns=epochs[:5], index=["mine"])
    >>> predict(running, finished=finished).round(2).to_dict("index")
    {'mine': {'n_seen': 5, 'last': 0.81, 'estimate': 0.88, 'low': 0.88, 'high': 0.89}}
    >>> round(predict(running, at=30, method="pow3")["estimate"].item(), 2)
    0.88
    """
    if not 0 < level < 1 or target not in TARGETS:
        raise ValueError(f"level is {level}, between 0 and 1; target is {target!r}, one of {TARGETS}")
    wide = tabulate(curves)
    known = None if finished is None else tabulate(finished)
    if at is None:
        if known is None:
            raise ValueError("at which epoch? Give at=, or finished= curves, whose last epoch it then is")
        at = known.shape[1]
    if known is not None and (known.shape[1] < at or known.iloc[:, :at].isna().to_numpy().any()):
        raise ValueError(f"finished trainings must have all epochs from 1 to {at}: leave out those that have not")
    method = method if method is not None else (AVERAGE if known is None else SVR)
    if isinstance(method, str) and method not in METHODS:
        raise ValueError(f"there is no method {method!r}; there are: {', '.join(METHODS)}, or any regressor")
    n_seen = wide.notna().sum(axis=1).to_numpy()
    if n_seen.max() > at >= 1:
        beyond = wide.index[n_seen > at]
        raise ValueError(
            f"training {beyond[0]!r} has {n_seen.max()} epochs, beyond epoch {at}, which is to be predicted: cut the "
            f"curves there, or ask for a later epoch"
        )
    names, parts = wide.index, []
    wide = wide.set_axis(range(len(wide)))  # names may be there twice
    for n, rows in wide.groupby(n_seen, sort=False):
        seen = rows.iloc[:, : int(n)].to_numpy(dtype=float)
        if known is None:
            estimate, low, high = _alone(method, seen, at, cycle)
        else:
            reached = known.iloc[:, :at].to_numpy(dtype=float)
            y = reached[:, -1] if target == "last" else reached.max(axis=1)
            estimate, error = _learnt(
                method, reached[:, : int(n)], y=y, seen=seen, at=at, cycle=cycle, level=level, seed=seed
            )
            low, high = np.clip(estimate - error, 0, 1), np.clip(estimate + error, 0, 1)
        values = {"n_seen": int(n), "last": seen[:, -1], "estimate": estimate, "low": low, "high": high}
        parts.append(pd.DataFrame(values, index=rows.index))
    return pd.concat(parts).loc[wide.index].set_axis(names)


def tabulate(curves: pd.DataFrame) -> pd.DataFrame:
    """Convert learning curves to one row per training and one column per epoch.

    Both forms of `predict` are accepted, and checked: accuracies are fractions, and NaN comes last.

    >>> rows = pd.DataFrame({"run": ["a", "a", "b"], "epoch": [1, 2, 1], "accuracy": [0.3, 0.4, 0.2]})
    >>> tabulate(rows).to_numpy().tolist()
    [[0.3, 0.4], [0.2, nan]]
    """
    if {"epoch", "accuracy"} <= set(curves):
        names = [column for column in curves if column not in ("epoch", "accuracy")]
        if len(names) != 1:
            raise ValueError(f"beside epoch and accuracy there must be one column that names the training, not {names}")
        if curves[[names[0], "epoch"]].isna().any(axis=None):
            raise ValueError(f"a row lacks its {names[0]!r} or its epoch: fill it, or leave it out")
        if (again := curves.duplicated([names[0], "epoch"])).any():
            row = curves[again].iloc[0]
            raise ValueError(f"training {row[names[0]]!r} has epoch {row['epoch']} twice: leave one out")
        order = curves[names[0]].drop_duplicates()
        curves = curves.pivot_table("accuracy", names[0], "epoch", dropna=False).loc[order]
    wide = _floats(curves)
    if not len(wide) or not wide.shape[1]:
        raise ValueError(
            f"there are no learning curves: the table has {len(wide)} trainings and {wide.shape[1]} epochs; it must "
            f"have one row per training and one column per epoch"
        )
    if not (isinstance(wide.columns, pd.RangeIndex) and wide.columns[0] == 0):  # as pandas numbers unnamed columns
        numbers = [_epoch(column) for column in wide.columns]
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            odd = [one for one, number in zip(wide.columns, numbers, strict=True) if number == 0] or list(wide.columns)
            raise ValueError(
                f"there are columns {', '.join(map(repr, odd[:5]))}{', ...' if len(odd) > 5 else ''}; columns must be "
                f"epochs from 1 without a gap, as in 1, 2, 3 or e1, e2, e3, and nothing else"
            )
        wide = wide.iloc[:, np.argsort(numbers)]
    wide.columns = pd.Index(range(1, wide.shape[1] + 1), name="epoch")
    missing = wide.isna().to_numpy()
    if (np.diff(missing.astype(int), axis=1) < 0).any() or missing[:, 0].any():
        row = int((missing[:, 0] | (np.diff(missing.astype(int), axis=1) < 0).any(axis=1)).argmax())
        raise ValueError(f"training {wide.index[row]!r} lacks an epoch before its last one: fill it, or cut it there")
    if wide.max(axis=None) > 1 or wide.min(axis=None) < 0:
        raise ValueError(
            f"accuracies are fractions from 0 to 1; these go from {wide.min(axis=None):g} to {wide.max(axis=None):g} "
            f"(divide percentages by 100)"
        )
    return wide


def _floats(curves: pd.DataFrame) -> pd.DataFrame:
    for name in curves:
        try:
            curves[name].astype(float)
        except (TypeError, ValueError) as error:
            raise ValueError(f"column {name!r} has something else than accuracies: {error}") from None
    return curves.astype(float)


def _epoch(column: object) -> float:
    """Return the epoch that a column's name says, or 0.

    >>> [_epoch(name) for name in (3, "3", "epoch 12", "e12Accuracy", "loss")]
    [3.0, 3, 12, 12, 0]
    """
    if isinstance(column, str):
        found = re.findall(r"\d+", column)
        return int(found[0]) if len(found) == 1 else 0
    return float(column) if isinstance(column, int | float | np.number) else 0


def _alone(method: str | BaseEstimator, seen: Values, at: int, cycle: int) -> tuple[Values, Values, Values]:
    """Extrapolate each curve by itself; the range over the families is the interval."""
    fits = _fits(seen, at, cycle)
    estimate = _simple(method, seen, fits)
    if estimate is None:
        raise ValueError(
            f"method {method!r} learns from finished trainings: give finished=, or one of {AVERAGE}, "
            f"{', '.join((*learning_curves.FAMILIES, *SIMPLE))}"
        )
    every = np.array([*fits.values(), estimate])
    return estimate, every.min(axis=0), every.max(axis=0)


def _fits(seen: Values, at: int, cycle: int, families: Iterable[str] = learning_curves.FAMILIES) -> dict[str, Values]:
    return {family: learning_curves.fit(seen, at, family=family, cycle=cycle) for family in families}


def _simple(method: str | BaseEstimator, seen: Values, fits: Mapping[str, Values]) -> Values | None:
    """Predict by a method that learns from no other training, or return None."""
    if not isinstance(method, str):
        return None
    if method == AVERAGE:
        return np.median(list(fits.values()), axis=0)
    if method in SIMPLE:
        return {"last": learning_curves.last, "best": learning_curves.best}[method](seen)
    return fits.get(method)


def _learnt(
    method: str | BaseEstimator, known: Values, y: Values, seen: Values, at: int, cycle: int, level: float, seed: int
) -> tuple[Values, float]:
    """Predict from finished trainings; return the half width of the interval too."""
    if len(y) < FEWEST:
        raise ValueError(f"there are {len(y)} finished trainings; at least {FEWEST} are needed to learn from")
    needed = [family for family in learning_curves.FAMILIES if method in (AVERAGE, family)]
    estimate, out_of_fold = (_simple(method, rows, _fits(rows, at, cycle, needed)) for rows in (seen, known))
    if estimate is None or out_of_fold is None:
        X = learning_curves.features(known)
        model = _regressor(method, seed).fit(X, y)
        estimate = np.clip(model.predict(learning_curves.features(seen)), 0, 1)
        again = clone(getattr(model, "best_estimator_", model))  # a search chose its hyperparameters on all rows
        out_of_fold = cross_val_predict(again, X, y, cv=KFold(N_FOLDS, shuffle=True, random_state=seed))
    errors = np.sort(np.abs(out_of_fold - y))
    place = math.ceil((len(y) + 1) * level)
    return estimate, float(errors[place - 1]) if place <= len(y) else math.inf


def _regressor(method: str | BaseEstimator, seed: int) -> BaseEstimator:
    if method == SVR:
        return learning_curves.support_vector(seed=seed)
    if not isinstance(method, str):
        return clone(method)
    return regressors.make(method, seed)
