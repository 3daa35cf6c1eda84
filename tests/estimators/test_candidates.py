"""Candidates: they standardise inside, fit what they should, and the Gaussian process finds what matters."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from naaplib.estimators.candidates import ArdGaussianProcess, _with_prior, candidates


def rows(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Features on three scales, one constant and one without meaning, and a smooth target with a little noise."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.uniform(0, 1e6, n), rng.normal(size=n), np.full(n, 7.0), rng.uniform(0, 1e-3, n)])
    return X, 0.6 + 0.05 * np.sin(X[:, 0] / 6e5) + 40 * X[:, 3] + rng.normal(0, 0.001, n)


CANDIDATES = [
    pytest.param(estimator, id=f"{family}, {setting}")
    for family, settings in candidates(seed=0).items()
    for setting, estimator in settings.items()
]


@pytest.mark.parametrize("estimator", CANDIDATES)
def test_units_of_features_and_target_do_not_matter(estimator) -> None:
    """Features and accuracies in other units: the same predictions in those units, and better than the mean."""
    X, y = rows()
    units = np.array([2.0**-10, 8.0, 1.0, 1024.0])  # powers of two leave standardised values as they are
    one = clone(estimator).fit(X[:40], y[:40]).predict(X[40:])
    other = clone(estimator).fit(X[:40] * units, y[:40] * 128).predict(X[40:] * units)
    assert other == pytest.approx(128 * one)
    assert np.abs(one - y[40:]).mean() < 0.95 * np.abs(y[:40].mean() - y[40:]).mean()


@pytest.mark.parametrize("estimator", CANDIDATES)
def test_a_fit_can_be_repeated(estimator) -> None:
    """Two clones fitted to the same rows predict the same: random draws come from the seed alone."""
    X, y = rows()
    first, second = (clone(estimator).fit(X, y).predict(X) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_the_seed_reaches_the_trees() -> None:
    """Another seed gives other trees, and the same kernel methods."""
    X, y = rows()
    for family, changes in {"Extra trees": True, "Gradient boosting": True, "SVR": False}.items():
        one, other = (
            next(iter(candidates(seed)[family].values())).fit(X[:40], y[:40]).predict(X[40:]) for seed in (0, 1)
        )
        assert (one != other).any() == changes


def test_relevance_is_found() -> None:
    """The feature without meaning gets a far longer length scale than those that the target depends on."""
    X, y = rows()
    X = (X[:, [0, 1, 3]] - X[:, [0, 1, 3]].mean(axis=0)) / X[:, [0, 1, 3]].std(axis=0)
    scales = ArdGaussianProcess().fit(X, (y - y.mean()) / y.std()).process_.kernel_.k1.k2.length_scale
    assert scales[1] > 10 * max(scales[0], scales[2])


def test_predictions_are_those_of_scikit_learns_process_with_the_found_kernel() -> None:
    """With the kernel that was found, a process that optimises nothing predicts the same."""
    X, y = rows()
    X, y = X[:, [0, 3]] / [1e6, 1e-3], (y - y.mean()) / y.std()
    found = ArdGaussianProcess("Matern 5/2").fit(X, y)
    plain = GaussianProcessRegressor(found.process_.kernel_, optimizer=None).fit(X, y)
    assert found.predict(X) == pytest.approx(plain.predict(X))


def test_few_steps_end_near_the_full_optimum() -> None:
    """On a smooth target, 40 steps reach the likelihood of scikit-learn's own search to a part in a thousand."""
    X, y = rows()
    X, y = X[:, [0, 3]] / [1e6, 1e-3], (y - y.mean()) / y.std()
    ours = ArdGaussianProcess().fit(X, y).process_.log_marginal_likelihood_value_
    kernel = ConstantKernel(1.0) * RBF(np.full(2, 3.0), (0.1, 1000.0)) + WhiteKernel(0.01)
    full = GaussianProcessRegressor(kernel).fit(X, y).log_marginal_likelihood_value_
    assert ours == pytest.approx(full, rel=1e-3)


def test_an_unknown_kernel_is_refused() -> None:
    """The message lists the kernels."""
    with pytest.raises(ValueError, match=r"kernel is 'rbf'; it must be one of \('RBF', 'Matern 5/2'\)"):
        ArdGaussianProcess("rbf").fit(*rows())


def test_a_prior_keeps_length_scales_of_few_rows_near_its_median() -> None:
    """The posterior's length scales lie closer to the prior's median than those of the likelihood, by its width."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(15, 6))
    y = X[:, 0] + rng.normal(0, 0.3, 15)
    y = (y - y.mean()) / y.std()

    def distance(prior_sd: float | None) -> float:
        model = ArdGaussianProcess(n_iterations=300, length_scale=8.0, prior_sd=prior_sd).fit(X, y)
        return np.abs(np.log(model.process_.kernel_.k1.k2.length_scale / 8.0)).max()

    assert distance(0.01) < 0.05 < distance(0.5) < distance(1.5) < distance(None)


def test_the_priors_gradient_is_that_of_its_value() -> None:
    """The penalised objective's gradient equals finite differences."""
    objective = _with_prior(lambda t: (float(np.sin(t).sum()), np.cos(t)), np.ones(3), np.array([0.5, 1.0, 2.0]))
    at, step = np.array([0.3, 1.7, -0.4]), 1e-6
    slopes = [(objective(at + step * e)[0] - objective(at - step * e)[0]) / (2 * step) for e in np.eye(3)]
    assert objective(at)[1] == pytest.approx(slopes, abs=1e-6)


def test_a_width_of_the_prior_that_is_not_positive_is_refused() -> None:
    """A message names the parameter and what it may be."""
    with pytest.raises(ValueError, match="prior_sd is 0; it must be positive, or None"):
        ArdGaussianProcess(prior_sd=0).fit(np.eye(3), np.arange(3.0))
