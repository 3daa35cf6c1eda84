"""The 24 regression algorithms of the NAAP-440 study, with every setting explicit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import AdaBoostRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

N_NEIGHBOURS = (1, 3, 5, 7, 9)
DEGREES = (0.5, 0.25)
SIZES = (25, 50, 100, 200)
TREE: dict[str, Any] = {
    "criterion": "squared_error", "splitter": "best", "max_features": None, "min_samples_split": 2,
    "min_samples_leaf": 1,
}  # fmt: skip
KERNELS = {"RBF kernel": "rbf", "Polynomial kernel": "poly", "Linear kernel": "linear"}

# Names and order are those of Table 3.
ALGORITHMS: tuple[str, ...] = (
    *(f"{k}-NN" for k in N_NEIGHBOURS),
    "Linear Regression",
    *(f"Linear Regression (D={degree})" for degree in DEGREES),
    "Decision Tree",
    *(f"Gradient Boosting (N={n})" for n in SIZES),
    *(f"AdaBoost (N={n})" for n in SIZES),
    *(f"SVR ({kernel})" for kernel in KERNELS),
    *(f"Random Forest (N={n})" for n in SIZES),
)
ENSEMBLES = ("Gradient Boosting", "AdaBoost", "Random Forest")


def make(name: str, seed: int | None = None) -> Pipeline:
    """Make one of the study's algorithms, unfitted, behind a standardisation.

    The source is NAAP-440, section 4.

    Parameters
    ----------
    name : str
        One of `ALGORITHMS`.
    seed : int, optional
        Seed of trees and ensembles; the others draw no random numbers. The study seeds numpy's global generator before
        each fit, which gives the same stream.

    Returns
    -------
    Pipeline
        A StandardScaler and the estimator.

    Notes
    -----
    The study names few settings; the others are the defaults of scikit-learn 0.20.1, which its script used. They are
    explicit if today's differ. Features are standardised, so its ``gamma="auto"`` equals today's ``"scale"``.

    Examples
    --------
    >>> model = make("Linear Regression").fit([[1.0], [2.0], [3.0]], [0.5, 0.6, 0.7])
    >>> model.predict([[4.0]]).round(3).tolist()
    [0.8]
    """
    return make_pipeline(StandardScaler(), _estimator(name, seed))


def _estimator(name: str, seed: int | None) -> BaseEstimator:
    if name not in ALGORITHMS:
        raise ValueError(f"there is no algorithm {name!r}; there are: {', '.join(ALGORITHMS)}")
    if found := re.fullmatch(r"(\d+)-NN", name):
        # A tree that is one leaf is searched exhaustively, row by row, as in the study. The option "brute" differs:
        # its choice among equally distant rows depends on the number of threads.
        return KNeighborsRegressor(int(found[1]), weights="uniform", algorithm="kd_tree", leaf_size=1_000_000)
    if name == "Linear Regression":
        return LinearRegression()
    if found := re.fullmatch(r"Linear Regression \(D=(.+)\)", name):
        degree = float(found[1])
        return TransformedTargetRegressor(
            LinearRegression(), func=partial(_root, degree=degree), inverse_func=partial(_power, degree=degree)
        )
    if name == "Decision Tree":
        return DecisionTreeRegressor(**TREE, max_depth=None, random_state=seed)
    if found := re.fullmatch(r"SVR \((.+)\)", name):
        return SVR(kernel=KERNELS[found[1]], C=0.1, epsilon=0.001, gamma="scale", degree=3, coef0=0.0, tol=1e-3)
    family, size = ensemble(name)
    if family == "Gradient Boosting":
        return GradientBoostingRegressor(
            n_estimators=size, loss="squared_error", learning_rate=0.1, subsample=1.0, max_depth=3,
            min_samples_split=2, min_samples_leaf=1, max_features=None, random_state=seed,
        )  # fmt: skip
    if family == "AdaBoost":
        base = DecisionTreeRegressor(**TREE, max_depth=3)
        return AdaBoostRegressor(base, n_estimators=size, learning_rate=1.0, loss="linear", random_state=seed)
    return RandomForestRegressor(
        n_estimators=size, criterion="squared_error", max_depth=None, min_samples_split=2, min_samples_leaf=1,
        max_features=1.0, bootstrap=True, random_state=seed,
    )  # fmt: skip


def _root(y: NDArray[np.float64], degree: float) -> NDArray[np.float64]:
    """Transform the target so that a linear model gets degree D (NAAP-440, Table 3).

    The formula is y ** (1 / D) - 1.
    """
    return y ** (1 / degree) - 1


def _power(z: NDArray[np.float64], degree: float) -> NDArray[np.float64]:
    """Inverse of `_root`; below its domain, the accuracy is 0."""
    return np.maximum(z + 1, 0) ** degree


def draws(name: str) -> bool:
    """Return True for an algorithm that draws random numbers, and so needs a seed.

    >>> draws("Random Forest (N=100)"), draws("Linear Regression")
    (True, False)
    """
    return name == "Decision Tree" or ensemble(name)[0] in ENSEMBLES


def ensemble(name: str) -> tuple[str, int]:
    """Return the family and the number of members of an ensemble.

    Every other algorithm is a family of its own with one member.

    >>> ensemble("AdaBoost (N=50)"), ensemble("Decision Tree")
    (('AdaBoost', 50), ('Decision Tree', 1))
    """
    found = re.fullmatch(r"(.+) \(N=(\d+)\)", name)
    return (found[1], int(found[2])) if found else (name, 1)


def predict_prefixes(model: Pipeline, X: ArrayLike, *, sizes: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Predict with the smaller ensembles inside a fitted larger one.

    An ensemble of n members equals the first n members of a larger one with the same seed and rows: forests draw their
    trees' seeds in turn, and boosting adds one member after the other. So the predictions equal those of separately
    fitted ensembles, bit for bit.

    Parameters
    ----------
    model : Pipeline
        A fitted ensemble of `make`.
    X : array_like, shape (n_archs, n_features)
    sizes : sequence of int
        Sizes from 1 to the number of members. Boosting that stopped early, after an exact fit, predicts the same with
        more members.

    Returns
    -------
    dict from size to ndarray, shape (n_archs,)
    """
    scaler, fitted = model
    largest = fitted.n_estimators
    if wrong := [size for size in sizes if not 1 <= size <= largest]:
        raise ValueError(f"sizes {wrong} cannot be read off an ensemble of {largest}")
    scaled = scaler.transform(X)
    if isinstance(fitted, GradientBoostingRegressor):
        stages = list(fitted.staged_predict(scaled))
        return {size: stages[size - 1] for size in sizes}
    members = np.array([tree.predict(scaled) for tree in fitted.estimators_])  # (n_members, n_archs)
    if isinstance(fitted, RandomForestRegressor):
        sums = np.cumsum(members, axis=0)
        return {size: sums[size - 1] / size for size in sizes}
    # AdaBoost's own staged_predict repeats every member's prediction at every stage, half of the time of a study.
    return {size: _weighted_medians(members[:size], fitted.estimator_weights_) for size in sizes}


def _weighted_medians(members: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the weighted median prediction of each architecture, as AdaBoost does.

    `members` has shape (n_members, n_archs); the first n_members of `weights` count. The result is the smallest
    prediction that, with all below it, has half of the weight.
    """
    order = np.argsort(members.T, axis=1)
    weight = np.cumsum(weights[order], axis=1)  # (n_archs, n_members)
    median = np.argmax(weight >= 0.5 * weight[:, -1:], axis=1)
    return np.take_along_axis(members.T, np.take_along_axis(order, median[:, None], axis=1), axis=1)[:, 0]
