"""Metrics: values by hand, literal loops as slow twins, and the laws that ties and row order must obey."""

from functools import partial
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats

from naaplib import metrics


def random_pair(seed: int, n: int = 40, n_levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Untied measured values in ascending order and predictions, of `n_levels` different values if given."""
    rng = np.random.default_rng(seed)
    measured = np.sort(rng.permutation(1000)[:n] / 1000)
    predicted = rng.integers(n_levels, size=n) / 10 if n_levels else measured + rng.normal(0, 0.1, n)
    return measured, predicted


def count_as_the_study_does(predicted: np.ndarray) -> int:
    """Positions out of order after a stable sort of rows that are in their true order, pair by pair."""
    order = sorted(range(len(predicted)), key=lambda row: predicted[row])
    return sum(earlier > later for earlier, later in combinations(order, 2))


def count_pair_by_pair(measured: np.ndarray, predicted: np.ndarray) -> float:
    """Violations with ties as one half, one pair of rows after the other."""
    total = 0.0
    for (m1, p1), (m2, p2) in combinations(zip(measured, predicted, strict=True), 2):
        if m1 != m2:
            total += 0.5 if p1 == p2 else float((m1 < m2) != (p1 < p2))
    return total


def compare_all_pairs(measured: np.ndarray, predicted: np.ndarray) -> tuple[int, int]:
    """Pairs in opposite order, and pairs tied in the predictions only, from the tables of all pairs."""
    above = measured[:, None] > measured[None, :]  # each pair untied in measured once, as (better, worse)
    below, equal = predicted[:, None] < predicted[None, :], predicted[:, None] == predicted[None, :]
    return int((above & below).sum()), int((above & equal).sum())


def test_errors_by_hand() -> None:
    """MAE, MSE and R2 of three numbers that can be checked on paper."""
    measured, predicted = [0.5, 0.6, 0.7], [0.5, 0.7, 0.5]
    assert metrics.mae(measured, predicted) == pytest.approx(0.1)
    assert metrics.mse(measured, predicted) == pytest.approx(0.05 / 3)
    assert metrics.r2(measured, predicted) == pytest.approx(1 - 0.05 / 0.02)


def test_the_mean_scores_zero_r2_and_a_constant_target_has_none() -> None:
    """R2 compares with the measured mean; without spread there is nothing to explain."""
    assert metrics.r2([1, 2, 3], [2, 2, 2]) == 0
    assert np.isnan(metrics.r2([2, 2], [1, 3]))
    assert np.isnan(metrics.r2([0.7] * 6, [0.2] * 6))  # their mean is rounded to another number


def test_the_papers_example_of_one_misplaced_item() -> None:
    """Seven items of which one sits three places too early make 3 violations of 21 (NAAP-440, figure 4)."""
    measured, predicted = range(7), [0, 1, 2, 6, 3, 4, 5]
    assert metrics.violations(measured, predicted) == 3
    assert metrics.monotonicity_score(measured, predicted) == pytest.approx(6 / 7)


@pytest.mark.parametrize("n_levels", [None, 1, 2, 8])
@pytest.mark.parametrize("seed", range(5))
def test_violations_equal_the_literal_loops(seed: int, n_levels: int | None) -> None:
    """Both counts equal their slow twins, without ties, with some and with nothing but ties."""
    measured, predicted = random_pair(seed, n_levels=n_levels)
    assert metrics.violations(measured, predicted, ties="published") == count_as_the_study_does(predicted)
    assert metrics.violations(measured, predicted, ties="half") == count_pair_by_pair(measured, predicted)


def test_violations_with_ties_on_both_sides_equal_the_literal_loop() -> None:
    """Pairs tied in the measured values count nothing, whatever the predictions say."""
    rng = np.random.default_rng(0)
    measured, predicted = rng.integers(6, size=50), rng.integers(6, size=50)
    assert metrics.violations(measured, predicted) == count_pair_by_pair(measured, predicted)


@pytest.mark.parametrize("n_levels", [2, 30, 10**6])
@pytest.mark.parametrize("n", [2, 3, 63, 64, 65, 127, 128, 129, 200, 1000])
def test_pairs_are_counted_exactly_whatever_the_number_of_rows(n: int, n_levels: int) -> None:
    """Violations and tau a equal the tables of all pairs, within one block of rows, at its edge, and over many."""
    rng = np.random.default_rng(n)
    measured, predicted = rng.integers(n_levels, size=n) / 7 - 1, rng.integers(n_levels, size=n) * 0.1 - 0.3
    discordant, tied_predictions = compare_all_pairs(measured, predicted)
    concordant, _ = compare_all_pairs(measured, -predicted)
    assert metrics.violations(measured, predicted, ties="published") == discordant
    assert metrics.violations(measured, predicted, ties="half") == discordant + tied_predictions / 2
    assert metrics.kendall_tau(measured, predicted, variant="a") == (concordant - discordant) / (n * (n - 1) // 2)


def test_zeros_of_either_sign_are_tied() -> None:
    """0.0 and -0.0 are one value: of six pairs, three are discordant and two tied in the predictions only."""
    measured, predicted = [0.0, -0.0, 1.0, 2.0], [-0.0, 0.0, 0.0, -1.0]
    assert compare_all_pairs(np.array(measured), np.array(predicted)) == (3, 2)
    assert metrics.violations(measured, predicted) == 4


def test_violations_of_many_rows_equal_those_of_kendalls_tau() -> None:
    """Thousands of rows: without ties, tau is 1 - 2 violations / pairs."""
    measured, predicted = np.random.default_rng(1).permutation(2500), np.random.default_rng(2).permutation(2500)
    n_pairs = 2500 * 2499 / 2
    assert metrics.violations(measured, predicted) == round(
        n_pairs * (1 - stats.kendalltau(measured, predicted).statistic) / 2
    )


def test_a_constant_prediction_scores_half_of_all_pairs_or_as_published_none() -> None:
    """Forty untied architectures, all predicted alike: 390 of 780, where the study's script counts 0."""
    measured, predicted = np.arange(40), np.full(40, 0.65)
    assert metrics.violations(measured, predicted, ties="half") == 390
    assert metrics.violations(measured, predicted, ties="published") == 0
    assert metrics.monotonicity_score(measured, predicted, ties="half") == 0.5
    assert metrics.monotonicity_score(measured, predicted, ties="published") == 1


def test_all_permutations_of_five_average_half_of_the_pairs() -> None:
    """The mean over all orders is exactly n (n - 1) / 4."""
    counts = [metrics.violations(range(5), order) for order in permutations(range(5))]
    assert np.mean(counts) == 5


def test_five_hundred_random_orders_average_390_within_three_standard_errors() -> None:
    """The paper's naive reference: a random order of 40 has mean 390 and variance n (n - 1) (2 n + 5) / 72."""
    rng = np.random.default_rng(0)
    counts = [metrics.violations(range(40), rng.permutation(40)) for _ in range(500)]
    se = np.sqrt(40 * 39 * 85 / 72 / 500)
    assert abs(np.mean(counts) - 390) < 3 * se


def test_a_reversed_order_violates_every_pair() -> None:
    """The upper bound is reached, and the score is 0."""
    assert metrics.violations(range(40), range(40, 0, -1)) == 780
    assert metrics.monotonicity_score(range(40), range(40, 0, -1)) == 0


@pytest.mark.parametrize(
    "metric",
    [
        metrics.mae,
        metrics.mse,
        metrics.r2,
        metrics.kendall_tau,
        lambda m, p: metrics.kendall_tau(m, p, variant="a"),
        metrics.spearman,
        metrics.violations,
        lambda m, p: metrics.violations(m, p, ties="published"),
        metrics.monotonicity_score,
        lambda m, p: metrics.top_k_regret(m, p, k=5),
    ],
)
@pytest.mark.parametrize("n_levels", [None, 4])
def test_row_order_does_not_matter(metric, n_levels: int | None) -> None:
    """Every metric gives the same for shuffled rows, with and without tied predictions."""
    measured, predicted = random_pair(3, n_levels=n_levels)
    shuffled = np.random.default_rng(4).permutation(40)
    assert metric(measured[shuffled], predicted[shuffled]) == pytest.approx(metric(measured, predicted), abs=1e-12)


def test_kendall_tau_by_hand() -> None:
    """Six pairs, five of them concordant and one tied in the predictions."""
    measured, predicted = [1, 2, 3, 4], [1, 2, 2, 3]
    assert metrics.kendall_tau(measured, predicted, variant="a") == pytest.approx(5 / 6)
    assert metrics.kendall_tau(measured, predicted, variant="b") == pytest.approx(5 / np.sqrt(6 * 5))


def test_kendall_tau_a_counts_concordant_minus_discordant() -> None:
    """Variant a equals the literal sum over pairs where both sides have ties."""
    rng = np.random.default_rng(5)
    measured, predicted = rng.integers(5, size=30), rng.integers(5, size=30)
    literal = sum(
        np.sign(measured[i] - measured[j]) * np.sign(predicted[i] - predicted[j]) for i, j in combinations(range(30), 2)
    )
    assert metrics.kendall_tau(measured, predicted, variant="a") == pytest.approx(literal / 435)


def test_published_taus_of_the_relu_count(nasbench201) -> None:
    """Published number: ReLU units of all 15,625 cells, seven values, and the accuracy after 200 epochs, both taus."""
    reached = nasbench201[(nasbench201["epochs"] == 200) & (nasbench201["runs"] == "mean")]
    taus = {}
    for dataset, part in reached.groupby("dataset"):
        n_convolutions = part["architecture"].str.count("nor_conv").to_numpy()
        assert metrics.tie_share(n_convolutions) == pytest.approx(0.231, abs=5e-4)
        taus[dataset] = [round(metrics.kendall_tau(part["accuracy"], n_convolutions, variant=v), 3) for v in ("a", "b")]
    assert taus == {"CIFAR-10": [0.509, 0.580], "CIFAR-100": [0.521, 0.594], "ImageNet16-120": [0.504, 0.575]}


def test_partial_correlation_by_hand() -> None:
    """(0.5 - 0.6 * 0.8) / sqrt(0.64 * 0.36); with a third thing that has nothing in common, nothing is taken off."""
    assert metrics.partial_correlation(0.5, 0.6, between=0.8) == pytest.approx(0.02 / 0.48)
    assert metrics.partial_correlation(0.5, 0, between=0) == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_partial_tau_is_a_correlation_over_pairs(seed: int) -> None:
    """Slow twin, without ties: over pairs, the correlation of "agrees with the third" in one and in the other."""
    measured, predicted, third = np.random.default_rng(seed).normal(size=(3, 30))
    first, second = np.triu_indices(30, 1)
    with_third = [
        np.sign(values[first] - values[second]) == np.sign(third[first] - third[second])
        for values in (measured, predicted)
    ]
    taus = [metrics.kendall_tau(*pair) for pair in [(measured, predicted), (measured, third), (predicted, third)]]
    assert metrics.partial_correlation(*taus[:2], between=taus[2]) == pytest.approx(np.corrcoef(with_third)[0, 1])


def test_noisy_copies_of_a_third_thing_keep_a_partial_tau() -> None:
    """As the docstring warns: independent given the third, yet 0.14, the value for normal variables."""
    third, *noise = np.random.default_rng(8).normal(size=(3, 5000))
    one, other = (0.8 * third + 0.6 * error for error in noise)
    taus = [metrics.kendall_tau(*pair) for pair in [(one, other), (one, third), (other, third)]]
    assert metrics.partial_correlation(*taus[:2], between=taus[2]) == pytest.approx(0.14, abs=0.02)


@pytest.mark.parametrize("taus", [(0.5, 1.0, 0.5), (0.5, 0.5, -1.0), (np.nan, 0.5, 0.5), (0.5, np.nan, 0.5)])
def test_partial_correlation_is_undefined_where_nothing_varies_beside_the_third(taus) -> None:
    """NaN, without a warning, where one goes exactly with or against the third, or has no correlation itself."""
    assert np.isnan(metrics.partial_correlation(*taus[:2], between=taus[2]))


def test_tie_share_by_hand() -> None:
    """Of ten pairs, three are tied among three equal values and one between two; bounds at no ties and only ties."""
    assert metrics.tie_share([1, 2, 1, 2, 1]) == 0.4
    assert metrics.tie_share([3, 1, 2]) == 0
    assert metrics.tie_share([2, 2, 2]) == 1


def test_rank_correlations_of_a_constant_prediction() -> None:
    """There is no rank to correlate: NaN, without a warning; tau a says 0."""
    assert np.isnan(metrics.kendall_tau([1, 2, 3], [1, 1, 1]))
    assert np.isnan(metrics.spearman([1, 2, 3], [1, 1, 1]))
    assert metrics.kendall_tau([1, 2, 3], [1, 1, 1], variant="a") == 0


def test_spearman_by_hand() -> None:
    """Rank differences 0, 1, -1, 0 of four: 1 - 6 * 2 / (4 * 15)."""
    assert metrics.spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)


def test_regret_by_hand() -> None:
    """The best by prediction is third in truth; the best two by prediction hold the second."""
    measured, predicted = [0.9, 0.8, 0.7, 0.6], [1, 2, 4, 3]
    assert metrics.top_k_regret(measured, predicted, k=1) == pytest.approx(0.2)
    assert metrics.top_k_regret(measured, predicted, k=3) == pytest.approx(0.1)
    assert metrics.top_k_regret(measured, predicted, k=4) == 0


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
def test_regret_with_ties_is_the_mean_over_all_choices(k: int) -> None:
    """Equal predictions at the edge: every way to fill the k places counts alike."""
    measured, predicted = np.array([0.1, 0.6, 0.2, 0.5, 0.3, 0.4]), np.array([3, 2, 2, 2, 1, 1])
    choices = [
        choice
        for choice in combinations(range(6), k)
        if sorted(predicted[list(choice)])[::-1] == sorted(predicted)[::-1][:k]
    ]
    expected = np.mean([0.6 - measured[list(choice)].max() for choice in choices])
    assert metrics.top_k_regret(measured, predicted, k=k) == pytest.approx(expected)


def test_pairs_of_an_architecture_with_itself_do_not_count() -> None:
    """By hand: of three places two have one architecture, so that two pairs of three are left, scaled up to three."""
    measured, predicted, rows = [0.5, 0.5, 0.7], [0.6, 0.6, 0.4], [0, 0, 1]
    assert metrics.violations(measured, predicted) == 2
    assert metrics.violations(measured, predicted, rows=rows) == 3
    assert metrics.monotonicity_score(measured, predicted, rows=rows) == 0
    assert metrics.kendall_tau(measured, predicted, variant="a", rows=rows) == -1
    assert metrics.kendall_tau(measured, predicted, rows=rows) == metrics.kendall_tau(measured, predicted)
    for metric in (metrics.violations, metrics.monotonicity_score, partial(metrics.kendall_tau, variant="a")):
        assert np.isnan(metric(measured, predicted, rows=[4, 4, 4]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.mae([1, 2], [1]), r"measured has shape \(2,\), predicted \(1,\)"),
        (lambda: metrics.mae([[1]], [[1]]), r"one shape \(n_archs,\)"),
        (lambda: metrics.mae([], []), "got 0 architectures; this metric needs at least 1"),
        (lambda: metrics.violations([1], [1]), "got 1 architectures; this metric needs at least 2"),
        (lambda: metrics.mae([1, 2], [1, np.nan]), r"predicted is not finite at positions \[1\]"),
        (lambda: metrics.tie_share([1]), "got 1 architectures; this metric needs at least 2"),
        (lambda: metrics.violations([1, 2], [1, 2], ties="none"), r"ties is 'none'; it must be one of"),
        (lambda: metrics.kendall_tau([1, 2], [1, 2], variant="c"), "variant is 'c'"),
        (lambda: metrics.top_k_regret([1, 2], [1, 2], k=3), "k is 3; it must lie between 1 and .* 2"),
    ],
)
def test_misuse_is_refused_with_what_came_and_what_is_allowed(call, message: str) -> None:
    """Each wrong argument has its own message."""
    with pytest.raises(ValueError, match=message):
        call()
