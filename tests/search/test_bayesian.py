"""What architecture tuning is compared with: each keeps to the rules of a search, and is better than chance."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from naaplib.estimators.ensembles.encodings import encode
from naaplib.search import bayesian
from naaplib.search.acquisition import log_expected_improvement, normal_scores

ENCODINGS = list(product(range(6), range(6), ("x", "y", "z")))
FEATURES = encode(ENCODINGS)
PATHS = [tuple(map(str, encoding)) for encoding in ENCODINGS]
WORTH = np.array([-((a - 4) ** 2) - (b - 1) ** 2 + 2 * (c == "y") for a, b, c in ENCODINGS], dtype=float)

Search = Callable[..., np.ndarray]


def by_process(values: np.ndarray, n: int, seed: int) -> np.ndarray:
    return bayesian.gaussian_process(FEATURES, values, n_trained=n, seed=seed)


def by_density(values: np.ndarray, n: int, seed: int) -> np.ndarray:
    return bayesian.tpe(PATHS, values, n_trained=n, seed=seed)


@pytest.mark.parametrize("search", [by_process, by_density])
def test_different_ones_the_same_for_the_same_seed(search: Search) -> None:
    """Nothing is evaluated twice, and another seed begins elsewhere."""
    order = search(WORTH, 40, 3)
    assert len(set(order.tolist())) == 40
    assert search(WORTH, 40, 3).tolist() == order.tolist()
    assert search(WORTH, 10, 4).tolist() != order[:10].tolist()


@pytest.mark.parametrize("search", [by_process, by_density])
def test_only_what_is_evaluated_is_looked_at(search: Search) -> None:
    """Other values elsewhere change nothing."""
    order = search(WORTH, 30, 0)
    other = np.full(len(WORTH), 1e3)
    other[order] = WORTH[order]
    assert search(other, 30, 0).tolist() == order.tolist()


@pytest.mark.parametrize("search", [by_process, by_density])
def test_better_than_chance(search: Search) -> None:
    """The best of 108 is found sooner than in the 54 evaluations that random search needs in the median."""
    steps = [search(WORTH, 108, seed).tolist().index(int(WORTH.argmax())) for seed in range(5)]
    assert np.median(steps) < 40


@pytest.mark.parametrize("search", [by_process, by_density])
def test_all_can_be_evaluated(search: Search) -> None:
    """To the last; equal values leave nothing to learn."""
    assert sorted(search(np.zeros(len(WORTH)), len(WORTH), 1).tolist()) == list(range(len(WORTH)))


def test_gaussian_process_as_by_hand() -> None:
    """The first proposal after those drawn has the highest expected improvement of all."""
    order = bayesian.gaussian_process(FEATURES, WORTH, n_trained=13, seed=5, n_initial=12)
    assert order[:12].tolist() == np.random.default_rng(5).permutation(108)[:12].tolist()
    kernel = ConstantKernel() * Matern(np.sqrt(FEATURES.shape[1]), nu=2.5) + WhiteKernel(0.1)
    targets = normal_scores(WORTH[order[:12]])
    model = GaussianProcessRegressor(kernel, normalize_y=True).fit(FEATURES[order[:12]], targets)
    scores = log_expected_improvement(*model.predict(FEATURES, return_std=True), best=targets.max())
    scores[order[:12]] = -np.inf
    assert scores[order[12]] == pytest.approx(scores.max())


def test_what_is_suggested_again_costs_nothing() -> None:
    """Of two architectures, both come, though one is suggested again and again."""
    assert sorted(bayesian.tpe([("a",), ("b",)], [1.0, 0.0], n_trained=2, seed=0, n_initial=1).tolist()) == [0, 1]


@pytest.mark.parametrize("search", [by_process, by_density])
@pytest.mark.parametrize("n", [0, -1, len(ENCODINGS) + 1])
def test_more_than_there_are_is_refused(search: Search, n: int) -> None:
    """Before anything is looked for."""
    with pytest.raises(ValueError, match=f"n_trained is {n}; it must be from 1 to 108"):
        search(WORTH, n, 0)
