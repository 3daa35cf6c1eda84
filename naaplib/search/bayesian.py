"""Baselines for architecture tuning on tables: a Gaussian process, and TPE."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from naaplib.search.acquisition import log_expected_improvement, normal_scores
from naaplib.search.identity import whole
from naaplib.search.samplers import density_model, quiet
from naaplib.search.tabular_objective import TableObjective

Positions = NDArray[np.int64]
REFIT_EVERY = 10  # evaluations between two fits of the kernel; the posterior always uses all of them
PATIENCE = 50  # repeats in a row, after which an architecture is drawn at random


def gaussian_process(
    features: ArrayLike, values: ArrayLike, *, n_trained: int, seed: int, n_initial: int = 10
) -> Positions:
    """Run Bayesian optimisation by a Gaussian process with expected improvement.

    The surrogate is scikit-learn's, with a Matérn kernel (nu = 2.5) of one length scale, a constant and noise. Like the
    ensembles, it is fitted to the normal scores of the values (`.acquisition.normal_scores`).

    Parameters
    ----------
    features : array_like, shape (n_archs, n_features)
        As `.encodings.encode` returns it.
    values : array_like, shape (n_archs,)
        Result of each evaluation; higher is better. The search reads only those that it evaluates.
    n_trained : int
        Number of evaluations.
    seed : int
    n_initial : int
        Number of evaluations drawn at random at the start.

    Returns
    -------
    ndarray of int, shape (n_trained,)
        Different indices, in the order evaluated.
    """
    x, y = np.asarray(features, dtype=float), np.asarray(values, dtype=float)
    _check(n_trained, len(y))
    n_initial = whole("n_initial", n_initial, least=1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))[: min(n_initial, n_trained)].tolist()
    kernel = ConstantKernel() * Matern(np.sqrt(x.shape[1]), nu=2.5) + WhiteKernel(0.1)
    while len(order) < n_trained:
        is_due = not (len(order) - n_initial) % REFIT_EVERY
        optimizer = "fmin_l_bfgs_b" if is_due else None
        model = GaussianProcessRegressor(kernel, optimizer=optimizer, normalize_y=True)
        targets = normal_scores(y[order])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound does no harm
            mean, spread = model.fit(x[order], targets).predict(x, return_std=True)
        kernel = model.kernel_
        scores = log_expected_improvement(mean, spread, best=targets.max())
        scores[order] = -np.inf
        ties = np.flatnonzero(scores == scores.max())
        order.append(int(rng.choice(np.setdiff1d(ties, order) if np.isneginf(scores.max()) else ties)))
    return np.array(order)


def tpe(
    paths: Sequence[Sequence[str]], values: ArrayLike, *, n_trained: int, seed: int, n_initial: int = 10
) -> Positions:
    """Run Optuna's tree-structured Parzen estimator, TPE (Bergstra et al. 2011).

    Parameters
    ----------
    paths : sequence of sequences of str
        The choices that make each architecture: see `.tabular_objective.TableObjective`.
    values, n_trained, seed, n_initial
        As for `gaussian_process`. A repeated suggestion costs nothing; its value is reported to the sampler again.
        After `PATIENCE` repeats in a row, the next architecture is drawn at random.

    Returns
    -------
    ndarray of int, shape (n_trained,)
        Different indices, in the order evaluated.
    """
    y = np.asarray(values, dtype=float)
    _check(n_trained, len(y))
    objective = TableObjective(y[:, None], paths)
    rng = np.random.default_rng(seed)
    lots = iter(rng.permutation(len(y)).tolist())
    order: dict[int, None] = {}
    n_repeated = 0
    with quiet():
        study = density_model(int(rng.integers(2**31)), n_initial)
        while len(order) < n_trained:
            trial = study.ask()
            row = objective.suggest(trial)
            study.tell(trial, y[row])
            n_repeated = n_repeated + 1 if row in order else 0
            if n_repeated == PATIENCE:
                row, n_repeated = next(one for one in lots if one not in order), 0
            order[row] = None
    return np.array(list(order))


def _check(n_trained: int, n_archs: int) -> None:
    if not 0 < n_trained <= n_archs:
        raise ValueError(f"n_trained is {n_trained}; it must be from 1 to {n_archs}, the number of architectures")
