"""Regressors: the study's names and settings, its seeds, its links, and prefixes that equal separate fits."""

import numpy as np
import pytest
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from naaplib.estimators import regressors
from naaplib.tables import printed

FAMILIES = {
    "Gradient Boosting (N=200)": (25, 50, 100, 200),
    "AdaBoost (N=200)": (25, 50, 100, 200),
    "Random Forest (N=200)": (25, 50, 100, 200),
}
# scikit-learn 0.20.1, and what the study's script sets itself (k-NN: exhaustive search; SVR: epsilon and C).
SETTINGS = {
    "7-NN": {"n_neighbors": 7, "weights": "uniform", "metric": "minkowski", "p": 2},
    "Linear Regression": {"fit_intercept": True, "positive": False},
    "Decision Tree": {
        "criterion": "squared_error", "max_depth": None, "max_features": None, "min_samples_leaf": 1, "ccp_alpha": 0.0,
    },
    "Gradient Boosting (N=50)": {
        "n_estimators": 50, "loss": "squared_error", "learning_rate": 0.1, "max_depth": 3, "subsample": 1.0,
        "max_features": None, "n_iter_no_change": None,
    },
    "AdaBoost (N=25)": {"n_estimators": 25, "learning_rate": 1.0, "loss": "linear", "estimator__max_depth": 3},
    "SVR (RBF kernel)": {"kernel": "rbf", "C": 0.1, "epsilon": 0.001, "gamma": "scale", "tol": 0.001},
    "SVR (Polynomial kernel)": {"kernel": "poly", "degree": 3, "coef0": 0.0, "C": 0.1, "epsilon": 0.001},
    "SVR (Linear kernel)": {"kernel": "linear", "C": 0.1, "epsilon": 0.001},
    "Random Forest (N=100)": {
        "n_estimators": 100, "max_features": 1.0, "bootstrap": True, "max_depth": None, "min_samples_leaf": 1,
        "criterion": "squared_error", "max_samples": None,
    },
}  # fmt: skip
SMALL = [name for name in regressors.ALGORITHMS if regressors.ensemble(name)[1] <= 25]  # one of each kind


def rows(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Three features, one of few values so that trees and neighbours meet ties, and a noisy target like accuracies."""
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.normal(size=n), rng.integers(3, size=n), rng.uniform(size=n)])
    return X, 0.6 + 0.04 * np.tanh(X[:, 0]) + 0.02 * X[:, 1] + rng.normal(0, 0.01, n)


def test_names_are_those_of_table_3_in_its_order() -> None:
    """The 24 names equal the printed table's first column."""
    assert list(regressors.ALGORITHMS) == printed.table("naap440_table3")["algorithm"].drop_duplicates().tolist()


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_the_studys(name: str) -> None:
    """What the study set, and the defaults of its scikit-learn, also where today's were to change."""
    found = regressors.make(name)[-1].get_params()
    assert {key: found[key] for key in SETTINGS[name]} == SETTINGS[name]


def test_unknown_name_lists_the_known_ones() -> None:
    """A mistyped name is refused with all 24."""
    with pytest.raises(ValueError, match=r"no algorithm 'Random Forest'; there are: 1-NN, .*Random Forest \(N=200\)$"):
        regressors.make("Random Forest")


@pytest.mark.parametrize("name", regressors.ALGORITHMS)
def test_units_do_not_matter(name: str) -> None:
    """Each standardises inside: features in other units, here powers of two, give the same predictions."""
    X, y = rows()
    model, units = regressors.make(name, seed=3), np.array([1024.0, 0.5, 2.0**-8])
    one = clone(model).fit(X[:70], y[:70]).predict(X[70:])
    assert clone(model).fit(X[:70] * units, y[:70]).predict(X[70:] * units) == pytest.approx(one, rel=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_a_prediction_does_not_depend_on_the_rows_beside_it(name: str) -> None:
    """A row alone is predicted as among others: the standardisation is that of the training rows."""
    X, y = rows()
    model = regressors.make(name, seed=3).fit(X[:70], y[:70])
    alone = [model.predict(X[[i]])[0] for i in range(70, 90)]
    assert model.predict(X[70:]) == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_seeds_matter_exactly_where_it_is_said(name: str) -> None:
    """What is said to draw differs under five seeds, what is said not to draw does not."""
    X, y = rows()
    y = y.round(2)  # ties between splits of a tree, which is all that Gradient Boosting and a Decision Tree draw for
    X = np.column_stack([X, X[:, 0]])
    X[::7, 0] += 0.5
    found = {tuple(regressors.make(name, seed).fit(X[:70], y[:70]).predict(X[70:])) for seed in range(5)}
    assert (len(found) > 1) == regressors.draws(name)


@pytest.mark.parametrize("name", [name for name in SMALL if regressors.draws(name)])
def test_a_seed_is_the_studys_seeding_of_the_global_generator(name: str) -> None:
    """Seeding numpy's global generator before the fit, as the study does, gives the same predictions."""
    X, y = rows()
    model, state = regressors.make(name), np.random.get_state()  # noqa: NPY002 - the study's way
    try:
        np.random.seed(20220905)  # noqa: NPY002
        expected = model.fit(X[:70], y[:70]).predict(X[70:])
    finally:
        np.random.set_state(state)  # noqa: NPY002
    actual = regressors.make(name, 20220905).fit(X[:70], y[:70]).predict(X[70:])
    assert actual.tolist() == expected.tolist()


@pytest.mark.parametrize("degree", regressors.DEGREES)
def test_linear_regression_of_a_degree_recovers_its_own_law(degree: float) -> None:
    """Data of the form (w x + b + 1) ** D are met exactly; the target itself is not linear in them."""
    X, _ = rows()
    y = (X @ [0.01, 0.03, 0.02] - 0.8 + 1) ** degree
    model = regressors.make(f"Linear Regression (D={degree})").fit(X[:70], y[:70])
    assert model.predict(X[70:]) == pytest.approx(y[70:], rel=1e-9)
    assert regressors.make("Linear Regression").fit(X[:70], y[:70]).predict(X[70:]) != pytest.approx(y[70:], rel=1e-4)


@pytest.mark.parametrize("degree", regressors.DEGREES)
def test_linear_regression_of_a_degree_equals_its_formula(degree: float) -> None:
    """Written out: standardise by the training rows, least squares on y ** (1 / D) - 1, and back."""
    X, y = rows()
    z = (X - X[:70].mean(axis=0)) / X[:70].std(axis=0)
    z = np.column_stack([np.ones(len(z)), z])
    weights = np.linalg.lstsq(z[:70], y[:70] ** (1 / degree) - 1, rcond=None)[0]
    actual = regressors.make(f"Linear Regression (D={degree})").fit(X[:70], y[:70]).predict(X[70:])
    assert actual == pytest.approx((z[70:] @ weights + 1) ** degree, rel=1e-9)


def test_below_the_domain_of_a_degree_is_accuracy_zero() -> None:
    """Where w x + 1 would be negative, the prediction is 0, not NaN."""
    x = np.linspace(0, 1, 20)[:, None]
    model = regressors.make("Linear Regression (D=0.25)").fit(x, (0.01 + 0.5 * x[:, 0]) ** 0.25)
    assert model.predict([[-0.01], [-1.0]]).tolist() == pytest.approx([0.005**0.25, 0.0])


def test_of_rows_at_one_place_the_first_are_taken() -> None:
    """Five rows at the same place, and a sixth farther off: three neighbours are the first three."""
    X, y = np.array([[0.0]] * 5 + [[9.0]]), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.9])
    assert regressors.make("3-NN").fit(X, y).predict([[0.0]]).tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("k", regressors.N_NEIGHBOURS)
def test_neighbours_are_the_nearest_of_a_literal_search(k: int) -> None:
    """On a grid full of ties: all rows nearer than the k-th, the rest from those as far as it, each with one vote.

    Targets are powers of two, so that the mean tells which rows were taken.
    """
    X = np.random.default_rng(0).integers(4, size=(80, 2)).astype(float)
    scaled = (X - X[:40].mean(axis=0)) / X[:40].std(axis=0)
    votes = regressors.make(f"{k}-NN").fit(X[:40], 2.0 ** np.arange(40)).predict(X[40:]) * k
    for row, vote in zip(scaled[40:], votes, strict=True):
        taken = {i for i in range(40) if round(vote) >> i & 1}
        distances = [round(sum((row - other) ** 2), 9) for other in scaled[:40]]
        kth = sorted(distances)[k - 1]
        assert len(taken) == k
        assert {i for i in range(40) if distances[i] < kth} <= taken
        assert max(distances[i] for i in taken) == kth


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_neighbours_do_not_depend_on_the_number_of_threads(n_threads: int, n_jobs: int | None) -> None:
    """Which of several tied rows are taken is the same however the search is shared out."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(12, size=(1000, 2)).astype(float), rng.uniform(0.5, 0.7, 1000)
    model = regressors.make("9-NN").fit(X[:600], y[:600])
    with threadpool_limits(1):
        expected = model.predict(X[600:])
    with threadpool_limits(n_threads):
        actual = model.set_params(kneighborsregressor__n_jobs=n_jobs).predict(X[600:])
    assert actual.tolist() == expected.tolist()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seed", [0, 20220905])
def test_prefixes_equal_separate_fits(name: str, seed: int) -> None:
    """What is read off the ensemble of 200 equals, bit for bit, ensembles of 25, 50 and 100 fitted on their own."""
    X, y = rows()
    sizes = FAMILIES[name]
    actual = regressors.predict_prefixes(regressors.make(name, seed).fit(X[:70], y[:70]), X[70:], sizes=sizes)
    family = regressors.ensemble(name)[0]
    for size in sizes:
        expected = regressors.make(f"{family} (N={size})", seed).fit(X[:70], y[:70]).predict(X[70:])
        assert actual[size].tolist() == expected.tolist()


def test_prefixes_of_boosting_that_ended_early() -> None:
    """AdaBoost stops when it meets every row; more members than that predict the same."""
    X = np.repeat([[0.0], [1.0], [2.0]], 4, axis=0)
    model = regressors.make("AdaBoost (N=200)", 0).fit(X, X[:, 0] / 4)
    assert len(model[-1].estimators_) < 25
    expected = regressors.make("AdaBoost (N=25)", 0).fit(X, X[:, 0] / 4).predict(X)
    prefixes = regressors.predict_prefixes(model, X, sizes=(25, 200))
    assert prefixes[25].tolist() == prefixes[200].tolist() == expected.tolist()


@pytest.mark.parametrize("size", [0, 26])
def test_prefix_outside_the_ensemble_is_refused(size: int) -> None:
    """A size that the ensemble does not hold is named."""
    X, y = rows()
    model = regressors.make("AdaBoost (N=25)", 0).fit(X, y)
    with pytest.raises(ValueError, match=rf"sizes \[{size}\] cannot be read off an ensemble of 25"):
        regressors.predict_prefixes(model, X, sizes=[25, size])


def test_families_and_sizes() -> None:
    """An ensemble's name is taken apart; a degree is not a size."""
    names = ("Random Forest (N=100)", "Linear Regression (D=0.5)", "1-NN")
    found = [regressors.ensemble(name) for name in names]
    assert found == [("Random Forest", 100), ("Linear Regression (D=0.5)", 1), ("1-NN", 1)]
