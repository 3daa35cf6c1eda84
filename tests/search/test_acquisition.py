"""What to evaluate next, of a finite list."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from naaplib.search.acquisition import KINDS, log_expected_improvement, normal_scores, propose, upper_confidence_bound

RNG = np.random.default_rng(0)
MEMBERS = RNG.normal(size=(4, 30))


def slow_improvement(mean: float, spread: float, best: float) -> float:
    """The expectation as an integral."""
    top = max(mean, best) + 10 * spread
    return quad(lambda value: (value - best) * norm.pdf(value, mean, spread), best, top, epsabs=0, epsrel=1e-11)[0]


@pytest.mark.parametrize("mean", [-6.0, -2.0, -1.01, -1.0, -0.99, 0.0, 0.5, 3.0])
def test_expected_improvement_equals_the_integral(mean: float) -> None:
    """To eight digits, on both sides of where the formula changes, in any unit."""
    expected = slow_improvement(mean, 1, 0)
    assert math.exp(log_expected_improvement(mean, 1, best=0)) == pytest.approx(expected, rel=1e-8, abs=0)
    assert math.exp(log_expected_improvement(10 * mean + 3, 10, best=3)) == pytest.approx(
        10 * expected, rel=1e-8, abs=0
    )


def test_hopeless_candidates_are_still_told_apart() -> None:
    """Far below, where improvements are 0 as floating-point numbers: ever less with the distance, without a step."""
    z = -np.concatenate([np.linspace(30, 1500, 4000), [1e5, 1e8]])
    found = log_expected_improvement(z, 1, best=0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    np.testing.assert_allclose(found, -(z**2) / 2 - 2 * np.log(-z) - math.log(2 * math.pi) / 2, rtol=1e-4)
    close = log_expected_improvement([-999.999999, -1000.000001], 1, best=0)
    assert close[0] - close[1] == pytest.approx(2e-6 * 1000, rel=1e-3)


def test_without_spread_the_improvement_is_certain() -> None:
    """The difference where there is one, and nothing to hope for elsewhere."""
    assert np.exp(log_expected_improvement([3, 1, 0], [0, 0, 0], best=1)).tolist() == pytest.approx([2, 0, 0])
    with pytest.raises(ValueError, match="spread is negative"):
        log_expected_improvement([1], [-1], best=0)


def test_upper_confidence_bound_by_hand() -> None:
    """Mean plus so many spreads."""
    assert upper_confidence_bound([1, 2], [3, 0], kappa=0.5).tolist() == [2.5, 2]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_batches_are_the_highest_that_are_left(kind: str) -> None:
    """As a literal sort says."""
    mean, spread = MEMBERS.mean(axis=0), MEMBERS.std(axis=0, ddof=1)
    scores = upper_confidence_bound(mean, spread, kappa=2.0)
    if kind == KINDS[1]:
        scores = np.array([slow_improvement(*one, 0.4) for one in zip(mean, spread, strict=True)])
    evaluated = np.argsort(-scores)[[0, 2, 3]]
    expected = [place for place in np.argsort(-scores).tolist() if place not in evaluated]
    assert propose(MEMBERS, evaluated, n_proposals=6, kind=kind, best=0.4, kappa=2.0).tolist() == expected[:6]


def test_thompson_takes_each_members_best_that_is_left() -> None:
    """Member after member, and round again."""
    taken = MEMBERS.argmax(axis=1).tolist()
    for i, place in enumerate(propose(MEMBERS, taken, n_proposals=8, kind="thompson").tolist()):
        left = np.setdiff1d(np.arange(30), taken)
        assert place == left[MEMBERS[i % 4, left].argmax()]
        taken.append(place)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_proposed_twice(kind: str) -> None:
    """Batches until all are evaluated give each candidate once; then there is none."""
    evaluated: list[int] = []
    for step in range(6):
        found = propose(MEMBERS, evaluated, n_proposals=7, kind=kind, best=1.0, seed=step).tolist()
        assert len(found) == min(7, 30 - 7 * step if step < 5 else 0)
        evaluated += found
    assert sorted(evaluated) == list(range(30))


@pytest.mark.parametrize("kind", KINDS)
def test_ties_are_broken_by_the_seed(kind: str) -> None:
    """Equal candidates come first equally often, the same for the same seed."""
    members = np.tile([[0.0], [2.0]], 5)
    found = [propose(members, [3], n_proposals=1, kind=kind, best=0.0, seed=seed).item() for seed in range(400)]
    assert found == [
        propose(members, [3, 3], n_proposals=1, kind=kind, best=0.0, seed=seed).item() for seed in range(400)
    ]
    counts = np.bincount(found, minlength=5)
    assert counts[3] == 0
    assert (np.abs(counts[[0, 1, 2, 4]] - 100) < 40).all()


def test_one_member_is_enough_for_thompson() -> None:
    """A spread it has not; the others say so."""
    assert propose([[1.0, 3.0, 2.0]], [], n_proposals=3, kind="thompson").tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="two members or more"):
        propose([[1.0, 3.0, 2.0]], [], n_proposals=3, kind="expected improvement", best=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "luck"}, "kind is 'luck'; it must be one of thompson"),
        ({"n_proposals": 0}, "n_proposals is 0"),
        ({"best": None}, "needs a finite value to improve on; best is None"),
        ({"best": np.nan}, "needs a finite value"),
        ({"evaluated": [30]}, "evaluated must be whole numbers from 0 to 29"),
        ({"evaluated": [-1]}, "evaluated must be whole numbers"),
        ({"evaluated": [0.5]}, "evaluated must be whole numbers"),
        ({"predicted": MEMBERS[0]}, r"finite numbers \(n_members, n\); their shape is \(30,\)"),
        ({"predicted": np.where(MEMBERS > 2, np.nan, MEMBERS)}, "predictions must be finite"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, message: str) -> None:
    """Each with what is allowed."""
    with pytest.raises(ValueError, match=message):
        propose(**({"predicted": MEMBERS, "evaluated": [], "kind": "expected improvement", "best": 0.0} | change))


def test_normal_scores_by_hand() -> None:
    """Quantiles at 1/10, 3/10 and so on; two equals share the mean of their ranks, 3.5."""
    found = normal_scores([5.0, -100.0, 5.0, 9.0, 0.0])
    np.testing.assert_allclose(found, norm.ppf([0.6, 0.1, 0.6, 0.9, 0.3]), rtol=1e-12)


def test_normal_scores_keep_the_order_and_nothing_else() -> None:
    """Any increasing function of the values has the same; one value is in the middle."""
    values = RNG.normal(size=40)
    np.testing.assert_array_equal(normal_scores(np.exp(3 * values)), normal_scores(values))
    np.testing.assert_array_equal(np.argsort(normal_scores(values)), np.argsort(values))
    assert normal_scores([7.0]).tolist() == [0]
    assert normal_scores([]).size == 0
    with pytest.raises(ValueError, match="values must be finite numbers in one dimension"):
        normal_scores([0.5, np.nan])
