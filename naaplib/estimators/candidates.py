"""Regressors with a few hyperparameters each, for selection by cross-validation."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import VarianceThreshold
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVR
from sklearn.utils.validation import check_is_fitted, validate_data

KERNELS = ("RBF", "Matern 5/2")
PRIOR_AMPLITUDE = 4.0  # variances of a standardised target: smooth functions go far beyond the data
PRIOR_SDS = (2.0, 1.0)  # of the logarithms of amplitude and noise

Candidates = dict[str, dict[str, BaseEstimator]]  # family -> name of the setting -> estimator


def candidates(seed: int) -> Candidates:
    """List families of estimators with their settings for cross-validation.

    The families are kernel methods, trees, and a quadratic model.

    Parameters
    ----------
    seed : int
        Seed of the estimators that draw random numbers.

    Returns
    -------
    dict of dict of estimator
        Unfitted estimators. Each drops constant features and standardises the others and the target on its training
        rows.

    Examples
    --------
    >>> all(len(settings) > 0 for settings in candidates(seed=0).values())
    True
    """
    trees = {"n_estimators": 300, "random_state": seed}
    boosting = {"n_estimators": 400, "learning_rate": 0.05, "subsample": 0.5, "random_state": seed}
    return {
        "Gaussian process": {f"{kernel} kernel": standardised(ArdGaussianProcess(kernel)) for kernel in KERNELS},
        "SVR": {
            f"C {C}, gamma {gamma}": standardised(SVR(C=C, gamma=gamma, epsilon=0.05))
            for C in (1, 10, 100)
            for gamma in (0.003, 0.01, 0.03)
        },
        "Quadratic ridge": {
            f"alpha {alpha}": standardised(PolynomialFeatures(2), Ridge(alpha)) for alpha in (1, 3, 10, 30)
        },
        "Extra trees": {
            f"leaf {leaf}, features {share}": standardised(
                ExtraTreesRegressor(min_samples_leaf=leaf, max_features=share, **trees)
            )
            for leaf in (1, 2)
            for share in (0.33, 1.0)
        },
        "Gradient boosting": {
            f"depth {depth}": standardised(GradientBoostingRegressor(max_depth=depth, **boosting))
            for depth in (3, 4, 5)
        },
    }


def standardised(*steps: BaseEstimator) -> TransformedTargetRegressor:
    """Chain steps after standardised features, with a standardised target.

    Constant features are dropped.
    """
    pipeline = make_pipeline(VarianceThreshold(), StandardScaler(), *steps)
    return TransformedTargetRegressor(pipeline, transformer=StandardScaler())


class ArdGaussianProcess(RegressorMixin, BaseEstimator):
    """A Gaussian process with one length scale per feature.

    Length scales, amplitude and noise maximise the marginal likelihood, so that irrelevant features lose their effect
    (automatic relevance determination, ARD). A prior on them, if given, keeps them from fitting the noise of few rows.

    Parameters
    ----------
    kernel : {"RBF", "Matern 5/2"}
        Kernel of a standardised target, plus white noise.
    n_iterations : int
        Largest number of L-BFGS steps. More steps change little, because the likelihood is flat.
    length_scale : float
        Length scale of each feature at the start, and the median of its prior.
    prior_sd : float or None
        A number gives the logarithm of each length scale a normal prior with this standard deviation, and those of
        amplitude and noise one with `PRIOR_SDS`; the fit then maximises the posterior density. None has no prior.
    """

    def __init__(
        self, kernel: str = "RBF", n_iterations: int = 40, *, length_scale: float = 3.0, prior_sd: float | None = None
    ) -> None:
        self.kernel = kernel
        self.n_iterations = n_iterations
        self.length_scale = length_scale
        self.prior_sd = prior_sd

    def fit(self, X: ArrayLike, y: ArrayLike) -> ArdGaussianProcess:
        """Fit length scales, amplitude and noise, and condition on the rows.

        Parameters
        ----------
        X : array_like, shape (n_archs, n_features)
            Standardised.
        y : array_like, shape (n_archs,)
            Standardised.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel is {self.kernel!r}; it must be one of {KERNELS}")
        if self.prior_sd is not None and not self.prior_sd > 0:
            raise ValueError(f"prior_sd is {self.prior_sd!r}; it must be positive, or None for no prior")
        scales, bounds = np.full(self.n_features_in_, float(self.length_scale)), (0.1, 1000.0)
        shape = RBF(scales, bounds) if self.kernel == "RBF" else Matern(scales, bounds, nu=2.5)
        kernel = ConstantKernel(1.0 if self.prior_sd is None else PRIOR_AMPLITUDE) * shape + WhiteKernel(0.01)
        with warnings.catch_warnings():
            # A length scale at its upper bound means that the feature is irrelevant, which is the purpose of ARD.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.process_ = GaussianProcessRegressor(kernel, optimizer=self._minimise).fit(X, y)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict the posterior mean, shape (n_archs,)."""
        check_is_fitted(self)
        return self.process_.predict(validate_data(self, X, dtype=np.float64, reset=False))

    def _minimise(self, objective, start, bounds):
        options = {"maxiter": self.n_iterations}
        if self.prior_sd is not None:
            sds = np.array([PRIOR_SDS[0], *[self.prior_sd] * (start.size - 2), PRIOR_SDS[1]])
            objective = _with_prior(objective, np.copy(start), sds)
        found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return found.x, found.fun


def _with_prior(objective, centre, sds):
    """Add the negative logarithm of a normal density to an objective and its gradient."""

    def penalised(theta):
        value, gradient = objective(theta)
        z = (theta - centre) / sds
        return value + 0.5 * z @ z, gradient + z / sds

    return penalised
