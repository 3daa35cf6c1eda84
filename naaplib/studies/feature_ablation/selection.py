"""Selection of estimators by cross-validation inside the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold

from naaplib.estimators.candidates import Candidates
from naaplib.metrics import mae

Key = tuple[str, str]  # family, setting


@dataclass(frozen=True)
class Choice:
    """The choice of the selection rule, and its candidates.

    Parameters
    ----------
    members : tuple of (family, setting)
        Estimators whose predictions are averaged, best first.
    scores : DataFrame
        One row per candidate: family, setting, mae by cross-validation, best_in_family; in the candidates' order.
    averages : DataFrame
        One row per number of families averaged: n_members, families, mae by cross-validation, chosen.
    """

    members: tuple[Key, ...]
    scores: pd.DataFrame
    averages: pd.DataFrame

    def describe(self) -> str:
        """Describe the members in words."""
        return " + ".join(f"{family} ({setting})" for family, setting in self.members)


def out_of_fold(
    estimator: BaseEstimator, features: pd.DataFrame, *, measured: ArrayLike, n_folds: int, seed: int
) -> NDArray[np.float64]:
    """Predict every row from the rows of the other folds.

    Parameters
    ----------
    estimator : estimator
        Cloned and fitted once a fold.
    features : DataFrame, shape (n_archs, n_features)
    measured : array_like, shape (n_archs,)
        In the features' row order.
    n_folds : int
    seed : int
        Seed of the shuffle. Folds depend on it and on n_archs alone.

    Returns
    -------
    ndarray, shape (n_archs,)
    """
    measured = np.asarray(measured, dtype=float)
    predicted = np.full(measured.size, np.nan)
    for rest, fold in KFold(n_folds, shuffle=True, random_state=seed).split(measured):
        predicted[fold] = clone(estimator).fit(features.iloc[rest], measured[rest]).predict(features.iloc[fold])
    return predicted


def choose(measured: ArrayLike, predicted: Mapping[Key, NDArray[np.float64]]) -> Choice:
    """Choose the best setting of each family, then the best average of families.

    An average has the first so many of the best families. The criterion is the mean absolute error of out-of-fold
    predictions; ties go to the first, or to the smaller number.

    Parameters
    ----------
    measured : array_like, shape (n_archs,)
    predicted : mapping from (family, setting) to ndarray, shape (n_archs,)
        Out-of-fold predictions of every candidate.

    Returns
    -------
    Choice
    """
    errors = {key: mae(measured, values) for key, values in predicted.items()}
    families = dict.fromkeys(family for family, _ in errors)
    winners = [min((key for key in errors if key[0] == family), key=errors.__getitem__) for family in families]
    ranked = sorted(winners, key=errors.__getitem__)
    by_size = [
        mae(measured, np.mean([predicted[key] for key in ranked[:n]], axis=0)) for n in range(1, len(ranked) + 1)
    ]
    n_members = int(np.argmin(by_size)) + 1
    scores = pd.DataFrame(
        [(*key, error, key in winners) for key, error in errors.items()],
        columns=["family", "setting", "mae", "best_in_family"],
    )
    averages = pd.DataFrame({
        "n_members": range(1, len(ranked) + 1),
        "families": [" + ".join(family for family, _ in ranked[:n]) for n in range(1, len(ranked) + 1)],
        "mae": by_size,
        "chosen": [n == n_members for n in range(1, len(ranked) + 1)],
    })  # fmt: skip
    return Choice(tuple(ranked[:n_members]), scores, averages)


def cross_validate(
    features: pd.DataFrame,
    measured: ArrayLike,
    *,
    splits: Mapping[int | str, NDArray[np.bool_]],
    candidates: Candidates,
    n_folds: int = 5,
    seed: int = 0,
    n_jobs: int = 2,
) -> pd.DataFrame:
    """Predict training rows of every split out of fold, by every candidate.

    The accuracies of a split's test rows are not read.

    Parameters
    ----------
    features : DataFrame, shape (n_archs, n_features)
        Indexed by ModelId.
    measured : array_like, shape (n_archs,)
        In the features' row order.
    splits : mapping from split to ndarray of bool, shape (n_archs,)
        True for test rows.
    candidates : mapping from family to mapping from setting to estimator
    n_folds, seed : int
        As in `out_of_fold`.
    n_jobs : int
        Number of processes.

    Returns
    -------
    DataFrame
        One row per split and training row: split, ModelId, measured, and a column of predictions for each candidate,
        named "family: setting"; in the order of splits, features and candidates.
    """
    measured = np.asarray(measured, dtype=float)
    estimators = _by_name(candidates)
    cells = [(split, name) for split in splits for name in estimators]
    folded = Parallel(n_jobs=n_jobs)(
        delayed(out_of_fold)(
            estimators[name], features[~splits[split]], measured=measured[~splits[split]], n_folds=n_folds, seed=seed
        )
        for split, name in cells
    )
    by_cell = dict(zip(cells, folded, strict=True))
    frames = []
    for split, is_test in splits.items():
        rows = {"split": split, "ModelId": features.index[~is_test], "measured": measured[~is_test]}
        frames.append(pd.DataFrame(rows | {name: by_cell[split, name] for name in estimators}))
    return pd.concat(frames, ignore_index=True)


def choose_by_split(folded: pd.DataFrame) -> dict[int | str, Choice]:
    """Apply `choose` to every split.

    Parameters
    ----------
    folded : DataFrame
        As `cross_validate` returns it.
    """
    choices: dict[int | str, Choice] = {}
    for split, rows in folded.groupby("split", sort=False):
        names = [name for name in rows if name not in ("split", "ModelId", "measured")]
        predicted = {_key(name): rows[name].to_numpy() for name in names}
        choices[split] = choose(rows["measured"], predicted)
    return choices


def predict_chosen(
    features: pd.DataFrame,
    measured: ArrayLike,
    *,
    splits: Mapping[int | str, NDArray[np.bool_]],
    candidates: Candidates,
    choices: Mapping[int | str, Choice],
    n_jobs: int = 2,
) -> pd.DataFrame:
    """Fit each split's choice to its training rows, and predict its test rows.

    The accuracies of a split's test rows are not read until the result sets them beside the predictions.

    Parameters
    ----------
    features, measured, splits, candidates, n_jobs
        As in `cross_validate`.
    choices : mapping from split to Choice
        As `choose_by_split` returns them.

    Returns
    -------
    DataFrame
        One row per split and test row: split, ModelId, measured, predicted; in the order of splits and features.
    """
    measured = np.asarray(measured, dtype=float)
    tasks = [(split, family, setting) for split in splits for family, setting in choices[split].members]
    fitted = Parallel(n_jobs=n_jobs)(
        delayed(_fit_predict)(candidates[family][setting], features, measured[~splits[split]], splits[split])
        for split, family, setting in tasks
    )
    frames = []
    for split, is_test in splits.items():
        members = [values for (task, *_), values in zip(tasks, fitted, strict=True) if task == split]
        frame = pd.DataFrame({"split": split, "ModelId": features.index[is_test], "measured": measured[is_test]})
        frames.append(frame.assign(predicted=np.mean(members, axis=0)))
    return pd.concat(frames, ignore_index=True)


def _by_name(candidates: Candidates) -> dict[str, BaseEstimator]:
    return {f"{family}: {setting}": e for family, settings in candidates.items() for setting, e in settings.items()}


def _key(name: str) -> Key:
    """Return family and setting of a candidate's name."""
    family, _, setting = name.partition(": ")
    return family, setting


def _fit_predict(
    estimator: BaseEstimator, features: pd.DataFrame, train_measured: NDArray[np.float64], is_test: NDArray[np.bool_]
) -> NDArray[np.float64]:
    return clone(estimator).fit(features[~is_test], train_measured).predict(features[is_test])
