"""The model of cost: by hand where the arithmetic is plain, and never beyond what was measured."""

import pandas as pd
import pytest

from naaplib.studies.scale import cost
from naaplib.studies.scale.cost import Cost

COST = Cost(
    sizes=(1, 4, 16),
    seconds=(8.0, 2.0, 4.0),
    unit_seconds=(1.0, 3.0, 5.0),
    worker_seconds=10.0,
    memory_base=100.0,
    memory_per_network=20.0,
)


def make_points(sizes: list[int], seconds: list[float], memory: list[float]) -> pd.DataFrame:
    """Measurements as `scale.measure` gives them, as far as the model reads them."""
    return pd.DataFrame({"size": sizes, "seconds": seconds, "unit_seconds": 1.0, "memory": memory})


def test_fit_averages_rounds_and_draws_a_line_through_memory_by_hand() -> None:
    """Two rounds of size 1 count as one point; sizes that did not fit, whose numbers are missing, are left out."""
    nan = float("nan")
    points = make_points([1, 3, 1, 9], [4.0, 3.0, 6.0, nan], [120.0, 160.0, 120.0, nan])
    fitted = cost.fit(points, 2.0)
    assert (fitted.sizes, fitted.seconds, fitted.unit_seconds) == ((1, 3), (5.0, 3.0), (1.0, 1.0))
    assert fitted.worker_seconds == 2.0
    assert (fitted.memory_base, fitted.memory_per_network) == pytest.approx((100.0, 20.0))


def test_one_measured_size_is_no_cost() -> None:
    """The message says what there is."""
    with pytest.raises(ValueError, match=r"needs two measured sizes of units or more, not \[4\]"):
        cost.fit(make_points([4, 4], [1.0, 2.0], [1.0, 1.0]), 0.0)


@pytest.mark.parametrize(("size", "expected"), [(1, 8.0), (2, 5.0), (4, 2.0), (8, 3.0), (16, 4.0)])
def test_seconds_between_measured_sizes_by_hand(size: int, expected: float) -> None:
    """Measured sizes have what was measured; half way between two in the logarithm lies half way between them."""
    assert cost.seconds_per_network_epoch(COST, size) == pytest.approx(expected)


@pytest.mark.parametrize("size", [0, 17])
def test_nothing_is_told_beyond_the_measured_sizes(size: int) -> None:
    """The message says which sizes were measured."""
    with pytest.raises(ValueError, match=f"units of 1 to 16 networks were measured, not of {size}"):
        cost.seconds_per_network_epoch(COST, size)


@pytest.mark.parametrize(
    ("n_archs", "n_devices", "size", "expected"),
    [
        (8, 1, 4, 10 + 2 * 3 + 8 * 5 * 2),  # two units, one after the other
        (8, 2, 4, 10 + 3 + 4 * 5 * 2),  # one each
        (8, 64, 4, 10 + 3 + 4 * 5 * 2),  # a unit is not divided
        (12, 2, 4, 10 + 2 * 3 + 8 * 5 * 2),  # three units: one device has two
        (6, 1, 4, 10 + 2 * 3 + 6 * 5 * 2),  # the second unit is not full
    ],
)
def test_prediction_by_hand(n_archs: int, n_devices: int, size: int, expected: float) -> None:
    """Five epochs: the worker's start, the units of the device that has most, and their networks."""
    assert cost.predict(COST, n_archs, n_epochs=5, n_devices=n_devices, size=size) == pytest.approx(expected)


def test_a_device_is_full_where_the_line_says() -> None:
    """Base 100, 20 a network: 199 bytes hold four, 200 hold five."""
    assert [cost.n_full(COST, n_bytes) for n_bytes in (199, 200)] == [4, 5]


def test_held_back_sizes_by_hand() -> None:
    """The middle one of three sizes, from a line in the logarithm between the others; memory from their line."""
    held = cost.hold_back(make_points([1, 2, 4], [4.0, 4.0, 2.0], [10.0, 20.0, 40.0]))
    expected = pd.DataFrame({
        "size": [2],
        "seconds": [4.0],
        "memory": [20.0],
        "seconds_predicted": [3.0],
        "memory_predicted": [20.0],
        "seconds_error": [-0.25],
    })  # fmt: skip
    pd.testing.assert_frame_equal(held, expected)


def test_plan_takes_the_fastest_size_that_fits() -> None:
    """Many: size 4, cheapest a network. Eight on two devices: 4 each. Memory for one network only: size 1."""
    plans = cost.plan(COST, [8, 1000], n_devices=[2], n_epochs=90)
    assert plans[["n_archs", "n_devices", "size", "n_units"]].to_numpy().tolist() == [[8, 2, 4, 2], [1000, 2, 4, 250]]
    assert plans["seconds"].tolist() == [cost.predict(COST, n, n_epochs=90, n_devices=2, size=4) for n in (8, 1000)]
    assert cost.plan(COST, [8], n_devices=[2], n_epochs=90, n_bytes=120.0)["size"].tolist() == [1]


def test_plan_tries_one_unit_a_device() -> None:
    """Where units cost much to set up, each device gets one, of a size between those measured."""
    slow = Cost(
        (2, 8), (1.0, 1.0), unit_seconds=(1000.0, 1000.0), worker_seconds=0.0, memory_base=0.0, memory_per_network=1.0
    )
    assert cost.plan(slow, [30], n_devices=[5], n_epochs=1)["size"].tolist() == [6]


def test_memory_that_holds_no_unit_is_refused() -> None:
    """The message has the bytes and the sizes that were tried."""
    with pytest.raises(ValueError, match=r"119 bytes do not hold a unit of any measured size, \[1, 4, 16\]"):
        cost.plan(COST, [1000], n_devices=[1], n_epochs=90, n_bytes=119.0)


ALONE = pd.Series([6.42, 5.18], index=[1, 4])
PLANS = pd.DataFrame({
    "n_archs": [440, 440, 10_000, 10_000, 1_000_000, 1_000_000], "n_devices": [1, 64] * 3,
    "seconds": [1e5, 3e3, 4_579_550, 73_277, 457_954_555, 7_156_918],
})  # fmt: skip


def test_real_runs_are_told_by_how_many_times_longer_they_took() -> None:
    """By hand: 20 for 10, and 33 for 15; "within 55 %" of the real ones would hide it."""
    check = pd.DataFrame({"n_archs": 16, "seconds": [20.0, 33.0], "seconds_predicted": [10.0, 15.0]})
    assert cost.factors(check) == (2.0, 2.2)
    assert cost.times_longer(check) == "2.0 to 2.2 times"
    assert cost.times_longer(check[:1]) == "2.0 times"


@pytest.mark.parametrize(
    ("seconds", "least", "end"),
    [
        (
            [20.0, 33.0],
            "at least ",
            "2.0 to 2.2 times as long as the model predicts, so that these times are lower bounds for this trainer",
        ),
        ([9.0, 33.0], "", "0.9 to 2.2 times as long as the model predicts"),
    ],
)
def test_the_sentence_calls_times_lower_bounds_only_where_they_are(seconds: list[float], least: str, end: str) -> None:
    """All numbers come from the tables; nothing is "within" anything."""
    check = pd.DataFrame({"n_archs": 16, "seconds": seconds, "seconds_predicted": [10.0, 15.0]})
    assert cost.sentence(ALONE, PLANS, check=check, n_epochs=90, where="one core") == (
        "By the model, with torch's trainer and devices like one core, **10,000 networks** of 90 epochs take "
        f"{least}53 days on 1 such device and 20 hours on 64, and **1,000,000 networks** of 90 epochs take {least}15 "
        f"years on 1 such device and 83 days on 64. Real runs of 16 networks took {end}. An epoch takes 5.2 s a "
        "network in units of 4, 6.4 s in units of 1."
    )
