"""Extrapolate learning curves: last and best value, fits, and support vectors.

LCNet (Klein et al. 2017), the feature-history study's baseline, is not here. It is a Bayesian neural network that
predicts the parameters of such families from the configuration. Its public code needs outdated libraries, and the study
prints no numbers to check a new implementation against.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import NuSVR

Curves = NDArray[np.float64]
Falling = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

# Distance to the limit as a share of `a` after x epochs, at most 1; theta (n_shapes, ...) are shape parameters as
# logarithms, so that a step of the fit is a ratio.
_MISSING: dict[str, Falling] = {
    "pow3": lambda x, theta: x ** -np.exp(theta[0]),
    "exp3": lambda x, theta: np.exp(-np.exp(theta[0]) * (x - 1)),
    "ilog2": lambda x, theta: np.log(2) / np.log(x + 1),
    "mmf4": lambda x, theta: 1 / (1 + np.exp(np.exp(theta[1]) * (np.log(x) - theta[0]))),
}
# Lowest and highest value of each shape parameter, and the number of evenly spaced values in the grid.
_SHAPES: dict[str, list[tuple[float, float, int]]] = {
    "pow3": [(np.log(0.05), np.log(5), 60)],
    "exp3": [(np.log(0.01), np.log(5), 60)],
    "ilog2": [],
    "mmf4": [(np.log(0.1), np.log(100), 25), (np.log(0.3), np.log(5), 12)],
}
FAMILIES = tuple(_MISSING)

SEARCHED = {"C": [0.1, 1.0, 10.0], "gamma": [0.001, 0.01, 0.1], "nu": [0.25, 0.5, 0.75]}


def last(curves: ArrayLike) -> Curves:
    """Return the accuracy after the last observed epoch, shape (n_archs,); see `fit`.

    >>> last([[0.3, 0.5, 0.4]]).tolist()
    [0.4]
    """
    return _check(curves)[:, -1]


def best(curves: ArrayLike) -> Curves:
    """Return the highest observed accuracy, shape (n_archs,); see `fit` for curves.

    >>> best([[0.3, 0.5, 0.4]]).tolist()
    [0.5]
    """
    return _check(curves).max(axis=1)


def mean_of_cycle(curves: ArrayLike, cycle: int = 3) -> Curves:
    """Return the mean accuracy of the last `cycle` epochs, shape (n_archs,).

    If there are fewer, it is the mean of all epochs; see `fit` for curves.

    NAAP-440's learning rate restarts every 3 epochs, so that 3 epochs contain each phase once.

    >>> mean_of_cycle([[0.1, 0.25, 0.5, 0.75]], cycle=3).tolist()
    [0.5]
    """
    if cycle < 1:
        raise ValueError(f"cycle is {cycle}; it must be at least 1, the number of epochs to average")
    return _check(curves)[:, -cycle:].mean(axis=1)


def fit(curves: ArrayLike, at: int, *, family: str, cycle: int = 1) -> Curves:
    """Predict accuracy at an epoch by a least-squares fit of one parametric family.

    The families are named as in Viering and Loog (2022).

    Domhan et al. (2015, table 1) extrapolate learning curves with such families. Here x is the epoch, c is the limit,
    and c and a lie between 0 and 1, so that no curve falls or exceeds 1:

    - "pow3", power law: c - a x^-d, 0.05 <= d <= 5
    - "exp3", exponential: c - a exp(-d (x - 1)), 0.01 <= d <= 5
    - "ilog2", inverse logarithm: c - a log 2 / log(x + 1)
    - "mmf4", Morgan-Mercer-Flodin: c - a / (1 + (x / h)^d), 0.1 <= h <= 100, 0.3 <= d <= 5; starts at c - a and has
      half of the gain after h epochs

    Given the shape (d, h), the best c and a have a closed form. So a grid of shapes is evaluated, and
    `scipy.optimize.least_squares` refines the best one. No random numbers are drawn, and each curve is fitted by
    itself.

    Parameters
    ----------
    curves : array_like, shape (n_archs, n_seen)
        Accuracies, fractions in [0, 1], after epochs 1 to n_seen.
    at : int
        Epoch to predict, from 1; it may lie before n_seen.
    family : {"pow3", "exp3", "ilog2", "mmf4"}
    cycle : int
        Number of epochs between restarts of the learning rate. The fit uses only the last epoch of each complete cycle:
        with 3, epochs 3, 6, 9 ...; with 1, all epochs.

    Returns
    -------
    ndarray, shape (n_archs,)
        Predicted accuracies in [0, 1]. If there are fewer points than parameters (the digit in the family's name), it
        is `last`.

    Examples
    --------
    >>> curve = [0.7 - 0.4 / epoch for epoch in range(1, 7)]
    >>> fit([curve], at=90, family="pow3", cycle=1).round(2).tolist()
    [0.7]
    """
    curves = _check(curves)
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; it must be one of {', '.join(FAMILIES)}")
    if at < 1 or cycle < 1:
        raise ValueError(f"at is {at} and cycle {cycle}; both are epochs, counted from 1")
    x = np.arange(cycle, curves.shape[1] + 1, cycle, dtype=float)
    if x.size < 2 + len(_SHAPES[family]):
        return last(curves)
    points = curves[:, cycle - 1 :: cycle]
    grid = _grid(family)
    limits, spans, errors = _linear(points, np.atleast_2d(_MISSING[family](x, grid[..., None])))
    found = errors.argmin(axis=1)  # the first of ties
    rows = np.arange(len(curves))
    starts = np.column_stack([limits[rows, found], spans[rows, found], grid[:, found].T])
    if family != "ilog2":  # "ilog2" is linear, and needs no refinement
        starts = np.array([_polish(family, x, y, start) for y, start in zip(points, starts, strict=True)])
    c, a, *theta = starts.T
    return np.clip(c - a * _MISSING[family](np.array(float(at)), np.array(theta)), 0, 1)


def features(curves: ArrayLike) -> Curves:
    """Compute the features of Baker et al.: values and first and second differences.

    The source is section 3 of Baker et al. (2017).

    Parameters
    ----------
    curves : array_like, shape (n_archs, n_seen)
        See `fit`.

    Returns
    -------
    ndarray, shape (n_archs, 3 n_seen - 3); (n_archs, 1) of one epoch

    Examples
    --------
    >>> features([[0.25, 0.5, 0.625]]).tolist()
    [[0.25, 0.5, 0.625, 0.25, 0.125, -0.125]]
    """
    curves = _check(curves)
    return np.hstack([curves, np.diff(curves), np.diff(curves, n=2)])


def support_vector(n_folds: int = 5, seed: int = 0) -> GridSearchCV:
    """Return an unfitted support-vector regression of final accuracies on curves.

    The source is Baker et al. (2017, section 3).

    It is a nu-SVR with a radial kernel and standardised features and target. The hyperparameters in `SEARCHED` are
    selected on the training rows, by the squared error in cross-validation; the first of ties wins. The source searches
    them at random; here a grid is enough. Features of the scheme may be appended, as in the source.

    Parameters
    ----------
    n_folds, seed : int
        Number of folds of the cross-validation, and seed of their shuffling.

    Returns
    -------
    GridSearchCV

    Examples
    --------
    ``support_vector().fit(features(curves), finals).predict(features(others))``
    """
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), NuSVR(kernel="rbf")), transformer=StandardScaler()
    )
    searched = {f"regressor__nusvr__{name}": values for name, values in SEARCHED.items()}
    folds = KFold(n_folds, shuffle=True, random_state=seed)
    return GridSearchCV(model, searched, scoring="neg_mean_squared_error", cv=folds)


def _check(curves: ArrayLike) -> Curves:
    curves = np.asarray(curves, dtype=float)
    if curves.ndim != 2 or not curves.shape[1]:
        raise ValueError(
            f"curves must have shape (n_archs, n_seen), of one epoch at least; their shape is {curves.shape}"
        )
    if not ((curves >= 0) & (curves <= 1)).all():
        raise ValueError("curves are accuracies in [0, 1], none missing: cut them after the last epoch that all have")
    return curves


def _grid(family: str) -> NDArray[np.float64]:
    """All shapes of the grid, (n_parameters, n_shapes); one for a linear family."""
    axes = [np.linspace(low, high, n) for low, high, n in _SHAPES[family]]
    if not axes:
        return np.empty((0, 1))
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])


def _linear(y: Curves, g: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Fit c - a g by least squares for each curve and shape; return c, a and errors.

    c and a lie in [0, 1]. The error is convex in (c, a), and the best c grows with a. So a is clipped first; if c then
    exceeds 1, c is set to 1, and a is fitted again. c is never negative, because y, a and g are not.

    Parameters
    ----------
    y : ndarray, shape (n_archs, n_points)
    g : ndarray, shape (n_shapes, n_points)

    Returns
    -------
    three ndarrays, shape (n_archs, n_shapes)
    """
    mean = g.mean(axis=1)
    centred = g - mean[:, None]
    squares = (centred**2).sum(axis=1)
    products = -y @ centred.T
    a = np.clip(np.divide(products, squares, out=np.zeros_like(products), where=squares > 0), 0, 1)
    c = y.mean(axis=1)[:, None] + a * mean
    a = np.where(c > 1, np.clip((1 - y) @ (g / (g**2).sum(axis=1)[:, None]).T, 0, 1), a)
    c = np.minimum(c, 1)
    # Direct residuals: expanded squares would cancel for good fits.
    return c, a, ((y[:, None] - c[..., None] + a[..., None] * g) ** 2).sum(axis=2)


def _polish(family: str, x: Curves, y: Curves, start: Curves) -> Curves:
    """Refine the grid's best shape with all parameters at once, within their bounds."""
    low, high = np.array([(0, 1), (0, 1), *((low, high) for low, high, _ in _SHAPES[family])]).T

    def residuals(p: Curves) -> Curves:
        return p[0] - p[1] * _MISSING[family](x, p[2:]) - y

    return least_squares(residuals, start, bounds=(low, high), xtol=1e-10, ftol=1e-10, gtol=1e-10).x
