"""Where a learning curve is going: its last value, its best, fits of four families, and what its features tell.

Not run: LCNet (Klein et al. 2017), a Bayesian neural network whose last layer is a weighted sum of such families, their
parameters predicted from the configuration. It is the feature-history study's baseline; its public code stands on
versions of libraries that today's cannot replace, and the study prints no numbers that a new one could be held to.
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

# What is missing to the limit, as a share of `a`, after x epochs: shape parameters theta (n_shapes, ...), which are
# logarithms, so that a step of the fit is a ratio. At most 1 from the first epoch on.
_MISSING: dict[str, Falling] = {
    "pow3": lambda x, theta: x ** -np.exp(theta[0]),
    "exp3": lambda x, theta: np.exp(-np.exp(theta[0]) * (x - 1)),
    "ilog2": lambda x, theta: np.log(2) / np.log(x + 1),
    "mmf4": lambda x, theta: 1 / (1 + np.exp(np.exp(theta[1]) * (np.log(x) - theta[0]))),
}
# Lowest and highest value of each shape parameter, and how many, evenly apart, are tried before the fit.
_SHAPES: dict[str, list[tuple[float, float, int]]] = {
    "pow3": [(np.log(0.05), np.log(5), 60)],
    "exp3": [(np.log(0.01), np.log(5), 60)],
    "ilog2": [],
    "mmf4": [(np.log(0.1), np.log(100), 25), (np.log(0.3), np.log(5), 12)],
}
FAMILIES = tuple(_MISSING)

SEARCHED = {"C": [0.1, 1.0, 10.0], "gamma": [0.001, 0.01, 0.1], "nu": [0.25, 0.5, 0.75]}


def last(curves: ArrayLike) -> Curves:
    """Accuracy after the last epoch seen, shape (n_archs,), of curves (n_archs, n_seen): see `fit`."""
    return _check(curves)[:, -1]


def best(curves: ArrayLike) -> Curves:
    """Highest accuracy so far, shape (n_archs,), of curves (n_archs, n_seen): see `fit`."""
    return _check(curves).max(axis=1)


def mean_of_cycle(curves: ArrayLike, cycle: int = 3) -> Curves:
    """Mean accuracy over the last `cycle` epochs, or over those there are, shape (n_archs,): see `fit` for curves.

    With NAAP-440's rate, which restarts every 3 epochs, these are always one epoch of each phase.
    """
    if cycle < 1:
        raise ValueError(f"cycle is {cycle}; it must be at least 1, the number of epochs to average")
    return _check(curves)[:, -cycle:].mean(axis=1)


def fit(curves: ArrayLike, at: int, family: str, cycle: int = 1) -> Curves:
    """Accuracy that each curve is heading for, by least squares of one family (named as by Viering and Loog, 2022).

    Domhan et al. (2015, table 1) extrapolate learning curves with such families. With x the epoch, c the limit, and c
    and a from 0 to 1, so that no curve falls and none ends above 1:

    - "pow3", power law: c - a x^-d, 0.05 <= d <= 5
    - "exp3", exponential: c - a exp(-d (x - 1)), 0.01 <= d <= 5
    - "ilog2", inverse logarithm: c - a log 2 / log(x + 1)
    - "mmf4", Morgan-Mercer-Flodin: c - a / (1 + (x / h)^d), 0.1 <= h <= 100, 0.3 <= d <= 5; starts at c - a, is half
      way after h epochs

    Given the shape (d, h), the best c and a are known in closed form; so all shapes of a grid are tried, and
    `scipy.optimize.least_squares` goes on from the best of them. Nothing is drawn. A curve is fitted alone: others do
    not matter.

    Parameters
    ----------
    curves : array_like, shape (n_archs, n_seen)
        Accuracies, fractions in [0, 1], after epochs 1 to n_seen.
    at : int
        Epoch, from 1, at which the fit is read; may lie before n_seen.
    family : {"pow3", "exp3", "ilog2", "mmf4"}
    cycle : int
        Fit only the last epochs of complete cycles of so many epochs: with 3, epochs 3, 6, 9 ..., for a learning rate
        that restarts. 1: all epochs.

    Returns
    -------
    ndarray, shape (n_archs,)
        Fractions in [0, 1]. Of fewer points than the family has parameters (the digit in its name) nothing can be
        learnt, and `last` is returned.
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
    found = errors.argmin(axis=1)  # the first of equal ones
    rows = np.arange(len(curves))
    starts = np.column_stack([limits[rows, found], spans[rows, found], grid[:, found].T])
    if family != "ilog2":  # which is linear: its fit is done
        starts = np.array([_polish(family, x, y, start) for y, start in zip(points, starts, strict=True)])
    c, a, *theta = starts.T
    return np.clip(c - a * _MISSING[family](np.array(float(at)), np.array(theta)), 0, 1)


def features(curves: ArrayLike) -> Curves:
    """What Baker et al. (2017, section 3) take of a curve: its values, its differences, and theirs.

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
    """Support-vector regression of final accuracies on curves (Baker et al. 2017, section 3), unfitted.

    ``support_vector().fit(features(curves), finals).predict(features(others))``; a scheme's features may stand beside
    the curve's, as theirs do. A nu-SVR with a radial kernel, features and target standardised; `SEARCHED` is searched
    on the rows it is fitted on and no others, for the least squared error in cross-validation, the first of equal ones.
    Theirs is searched at random; a grid is enough here, and draws nothing.

    Parameters
    ----------
    n_folds, seed : int
        Of the cross-validation, whose folds are shuffled.

    Returns
    -------
    GridSearchCV
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
    """All shapes that are tried first, (n_parameters, n_shapes); one, without parameters, of a linear family."""
    axes = [np.linspace(low, high, n) for low, high, n in _SHAPES[family]]
    if not axes:
        return np.empty((0, 1))
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])


def _linear(y: Curves, g: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Limit c and span a, both in [0, 1], of the best c - a g for each curve and shape, and the squared errors.

    The error is convex in (c, a), and given a the best c grows with it: a is clipped first, and only where its c then
    exceeds 1 is c = 1 the edge on which the best a is sought again. As y, a and g are not negative, no c is.

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
    # Residuals as they are, not by expanded squares, which would cancel where a fit is good.
    return c, a, ((y[:, None] - c[..., None] + a[..., None] * g) ** 2).sum(axis=2)


def _polish(family: str, x: Curves, y: Curves, start: Curves) -> Curves:
    """Go on from the grid's best shape, all parameters at once, within their bounds."""
    low, high = np.array([(0, 1), (0, 1), *((low, high) for low, high, _ in _SHAPES[family])]).T

    def residuals(p: Curves) -> Curves:
        return p[0] - p[1] * _MISSING[family](x, p[2:]) - y

    return least_squares(residuals, start, bounds=(low, high), xtol=1e-10, ftol=1e-10, gtol=1e-10).x
