import numpy as np
import pytest
from scipy.optimize import minimize

from naaplib import metrics
from naaplib.estimators.learning_curves import FAMILIES, best, features, fit, last, mean_of_cycle, support_vector
from naaplib.tables import naap440

# Limit, span and shape of curves within the bounds of each family, and the curve that they make, written out anew.
TRUE = {
    "pow3": ([(0.9, 0.6, 0.7), (0.7, 0.3, 2.0), (0.8, 0.5, 0.06)], lambda x, c, a, d: c - a / x**d),
    "exp3": ([(0.9, 0.6, 0.3), (0.7, 0.3, 1.0), (0.8, 0.5, 0.02)], lambda x, c, a, d: c - a * np.exp(-d * (x - 1))),
    "ilog2": ([(0.9, 0.6), (1.0, 0.3), (0.8, 0.0)], lambda x, c, a: c - a / np.log2(x + 1)),
    "mmf4": (
        [(0.9, 0.8, 2.0, 1.5), (0.7, 0.7, 12.0, 0.8), (0.8, 0.5, 5.0, 3.0)],
        lambda x, c, a, h, d: c - a * h**d / (h**d + x**d),
    ),
}


def made(family: str, epochs: range) -> np.ndarray:
    """Three curves (3, n_epochs) without noise."""
    parameters, curve = TRUE[family]
    return np.array([curve(np.array(epochs, dtype=float), *values) for values in parameters])


def noisy(n_archs: int = 30, n_epochs: int = 18, seed: int = 0) -> np.ndarray:
    """Rising curves with noise, none like another."""
    rng = np.random.default_rng(seed)
    limit, span, rate = (rng.uniform(low, high, (n_archs, 1)) for low, high in ((0.6, 0.95), (0.2, 0.5), (0.2, 1.5)))
    return limit - span * np.arange(1, n_epochs + 1) ** -rate + rng.normal(0, 0.01, (n_archs, n_epochs))


def test_the_simple_ones_by_hand() -> None:
    """Last, highest, and mean of the last cycle, which is of what there is when that is less."""
    curves = [[0.5, 0.25, 0.75, 0.5], [0.25, 0.25, 0.25, 0.5]]
    assert last(curves).tolist() == [0.5, 0.5]
    assert best(curves).tolist() == [0.75, 0.5]
    assert mean_of_cycle(curves).tolist() == [0.5, 1 / 3]
    assert mean_of_cycle(curves, cycle=2).tolist() == [0.625, 0.375]
    assert mean_of_cycle(curves, cycle=9).tolist() == [0.5, 0.3125]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_finds_its_own_curves_again(family: str) -> None:
    """From 18 epochs without noise it tells the 90th, and from cycle ends too; and the epochs it has seen."""
    seen, later = made(family, range(1, 19)), made(family, range(90, 91))[:, 0]
    np.testing.assert_allclose(fit(seen, 90, family=family), later, atol=1e-6)
    np.testing.assert_allclose(fit(seen, 7, family=family), seen[:, 6], atol=1e-6)
    np.testing.assert_allclose(fit(made(family, range(1, 37)), 90, family=family, cycle=3), later, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_start_finds_a_better_fit(family: str) -> None:
    """Of noisy curves: against another optimiser, without derivatives, from many starts, by the squared error."""
    curves, x = noisy(5), np.arange(1.0, 19)
    fitted = np.column_stack([fit(curves, at, family=family) for at in range(1, 19)])
    bounds = {
        "pow3": [(0, 1), (0, 1), (0.05, 5)], "exp3": [(0, 1), (0, 1), (0.01, 5)], "ilog2": [(0, 1), (0, 1)],
        "mmf4": [(0, 1), (0, 1), (0.1, 100), (0.3, 5)],
    }[family]  # fmt: skip
    rng = np.random.default_rng(0)
    for y, ours in zip(curves, fitted, strict=True):
        errors = [
            minimize(
                lambda p: ((TRUE[family][1](x, *p) - y) ** 2).sum(),  # noqa: B023 - called at once
                rng.uniform(*np.transpose(bounds)),
                bounds=bounds,
                method="Nelder-Mead",
                options={"maxiter": 600},
            ).fun
            for _ in range(3)
        ]
        assert ((ours - y) ** 2).sum() <= min(errors) + 1e-7


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_stays_within_what_an_accuracy_can_be(family: str) -> None:
    """A curve that falls is read as its mean, one that climbs to 1 ends at 1 at most, 0 stays 0."""
    falling, climbing, zero = np.linspace(0.8, 0.4, 9), np.linspace(0.2, 1.0, 9), np.zeros(9)
    predicted = fit([falling, climbing, zero], 90, family=family)
    assert predicted[0] == pytest.approx(0.6, abs=1e-6)
    assert 0.85 < predicted[1] <= 1
    assert predicted[2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_curve_is_fitted_alone(family: str) -> None:
    """Other curves, and their order, change nothing; a second call gives the same, bit for bit."""
    curves = noisy(6)
    together = fit(curves, 90, family=family)
    assert (together == fit(curves, 90, family=family)).all()
    np.testing.assert_allclose(fit(curves[::-1], 90, family=family)[::-1], together, rtol=1e-9)
    np.testing.assert_allclose(fit(curves[2:3], 90, family=family), together[2:3], rtol=1e-9)


def test_too_few_points_tell_the_last_value() -> None:
    """As many as the family has parameters are enough; with cycles only their ends are points."""
    curves = noisy(4)
    for family, n_parameters in (("pow3", 3), ("exp3", 3), ("ilog2", 2), ("mmf4", 4)):
        for cycle in (1, 3):
            n_seen = n_parameters * cycle
            assert (fit(curves[:, : n_seen - 1], 90, family=family, cycle=cycle) == last(curves[:, : n_seen - 1])).all()
            assert (fit(curves[:, :n_seen], 90, family=family, cycle=cycle) != last(curves[:, :n_seen])).any()


def test_cycle_ends_are_all_that_is_fitted() -> None:
    """Epochs within a cycle may be anything, and those of a cycle that is not complete."""
    curves = noisy(4, 19)
    other = np.full_like(curves, 0.1)
    other[:, 2::3] = curves[:, 2::3]
    assert (fit(curves, 90, family="pow3", cycle=3) == fit(other, 90, family="pow3", cycle=3)).all()
    assert (fit(curves, 90, family="pow3", cycle=3) == fit(curves[:, :18], 90, family="pow3", cycle=3)).all()


def test_features_by_hand() -> None:
    """Values, then first, then second differences, 3 n - 3 of n epochs; one epoch has its value only."""
    curves = [[0.125, 0.5, 0.25, 0.75], [0.5, 0.5, 0.5, 0.5]]
    expected = [[0.125, 0.5, 0.25, 0.75, 0.375, -0.25, 0.5, -0.625, 0.75], [0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0]]
    assert features(curves).tolist() == expected
    assert features([[0.5], [0.25]]).tolist() == [[0.5], [0.25]]
    assert features([[0.5, 0.75]]).tolist() == [[0.5, 0.75, 0.25]]


def test_support_vectors_learn_where_curves_end() -> None:
    """From others' curves and finals, better than the last value does; the same each time."""
    curves = noisy(80, 18)
    seen, finals = curves[:, :6], curves[:, 12:].mean(axis=1)
    model = support_vector(n_folds=3).fit(features(seen[:50]), finals[:50])
    predicted = model.predict(features(seen[50:]))
    assert np.abs(predicted - finals[50:]).mean() < 0.5 * np.abs(last(seen[50:]) - finals[50:]).mean()
    again = support_vector(n_folds=3).fit(features(seen[:50]), finals[:50])
    assert (again.predict(features(seen[50:])) == predicted).all()
    assert model.cv.get_n_splits() == 3


def test_fits_foresee_the_published_table(published_path) -> None:
    """From 18 of 90 epochs of NAAP-440, cycle ends: nearer to the final accuracy than the last value, by half."""
    table = naap440.read(published_path)
    seen = table[[f"e{epoch}Accuracy" for epoch in range(1, 19)]].to_numpy()[::10]
    truth = table["MaxAccuracy"].to_numpy()[::10]
    errors = [np.abs(truth - predicted).mean() for predicted in (last(seen), fit(seen, 90, family="ilog2", cycle=3))]
    assert errors[1] < errors[0] / 2
    assert metrics.kendall_tau(truth, fit(seen, 90, family="ilog2", cycle=3)) > 0.7


def test_wrong_arguments_are_named() -> None:
    """With what is allowed."""
    for curves, message in (
        ([0.5, 0.6], r"curves must have shape \(n_archs, n_seen\), of one epoch at least; their shape is \(2,\)"),
        (np.empty((3, 0)), r"their shape is \(3, 0\)"),
        ([[50.0, 60.0]], r"curves are accuracies in \[0, 1\], none missing"),
        ([[0.5, np.nan]], "none missing: cut them after the last epoch that all have"),
    ):
        with pytest.raises(ValueError, match=message):
            last(curves)
    with pytest.raises(ValueError, match="family is 'pow4'; it must be one of pow3, exp3, ilog2, mmf4"):
        fit([[0.5]], 90, family="pow4")
    with pytest.raises(ValueError, match="at is 0 and cycle 1; both are epochs, counted from 1"):
        fit([[0.5]], 0, family="pow3")
    with pytest.raises(ValueError, match="cycle is 0; it must be at least 1"):
        mean_of_cycle([[0.5]], 0)
