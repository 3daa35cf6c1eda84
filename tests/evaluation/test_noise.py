"""Noise of a training: its standard deviation, a perfect predictor, and the file that chapters read it from."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from naaplib import metrics
from naaplib.evaluation import noise
from naaplib.sources import ROOT
from naaplib.tables import naap440


def make_wide(sd: float, n_runs: int, n_archs: int, seed: int = 0) -> np.ndarray:
    """Networks spread like those of the study, with independent noise."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.65, 0.05, (n_archs, 1)) + rng.normal(0, sd, (n_archs, n_runs))


def test_noise_by_hand() -> None:
    """Of differences 0, 2 and 4 hundredths, centred, the sd over the root of 2; the runs' levels do not count."""
    wide = np.array([[0.50, 0.50], [0.60, 0.62], [0.70, 0.74]])
    assert noise.noise_sd(wide) == pytest.approx(0.02 / math.sqrt(2))
    assert noise.noise_sd(wide + np.array([0.1, -0.2])) == pytest.approx(0.02 / math.sqrt(2))


def test_interval_covers_the_noise_that_was_put_in() -> None:
    """Simulation: of 60 samples of 40 networks and three runs at least 80 % of the 95 % intervals hold it."""
    intervals = [noise.sd_interval(make_wide(0.005, 3, 40, seed), n_resamples=200) for seed in range(60)]
    assert np.mean([low <= 0.005 <= high for low, high in intervals]) >= 0.8
    assert np.mean([high - low for low, high in intervals]) < 0.003


def test_interval_of_a_slow_twin() -> None:
    """One resample after the other, with the same draws."""
    wide = make_wide(0.01, 2, 12)
    draws = np.random.default_rng(3).integers(12, size=(40, 12))
    values = [noise.noise_sd(wide[draw]) for draw in draws]
    expected = np.quantile(values, [0.05, 0.95])
    np.testing.assert_allclose(noise.sd_interval(wide, n_resamples=40, level=0.9, seed=3), expected)


def test_perfect_predictor_by_hand() -> None:
    """Without noise it makes no error; two networks far below their noise are in wrong order half of the time."""
    still = noise.perfect_predictor([0.5, 0.6, 0.7], sd=0, n_simulations=3)
    ends = ("", "_low", "_high")
    assert still == {
        "n_archs": 3, "n_pairs": 3, "sd_training": 0, "n_simulations": 3,
        **{f"mae{end}": 0 for end in ends}, **{f"kendall_tau{end}": pytest.approx(1) for end in ends},
        **{f"violations{end}": 0 for end in ends},
    }  # fmt: skip
    close = noise.perfect_predictor([0.5, 0.5 + 1e-9], sd=0.01, n_simulations=4000)
    np.testing.assert_allclose(close["mae"], 0.01 * (2 / math.pi) ** 0.5, rtol=0.03)
    np.testing.assert_allclose(close["violations"], 0.5, atol=0.03)
    np.testing.assert_allclose(close["kendall_tau"], 0, atol=0.06)


def test_tau_and_violations_agree() -> None:
    """Without ties tau is 1 minus twice the share of violations, in every simulation and so in the mean."""
    found = noise.perfect_predictor(make_wide(0, 1, 30)[:, 0], sd=0.01, n_simulations=20)
    assert found["kendall_tau"] == pytest.approx(1 - 2 * found["violations"] / found["n_pairs"])


def test_floor_of_the_published_test_rows(published_path) -> None:
    """Simulation: noise of 0.005 on the 40 published test accuracies gives an MAE of .0040 and about 21 violations."""
    table = naap440.read(published_path)
    found = noise.perfect_predictor(table.loc[table["IsTest"] == 1, "MaxAccuracy"], sd=0.005, n_simulations=2000)
    assert (found["n_archs"], found["n_pairs"]) == (40, 780)
    np.testing.assert_allclose(found["mae"], 0.0040, atol=0.0001)
    np.testing.assert_allclose(found["violations"], 21, atol=1)
    assert found["violations_low"] < 15 < 27 < found["violations_high"]


def test_the_file_is_read_by_length_and_kind(tmp_path: Path) -> None:
    """The longest trainings by default, which the row names; a row that is not there is a message that lists them."""
    path = tmp_path / "floor.csv"
    rows = [("seed", 3, 0.0075), ("rounding", 3, 0.0025), ("seed", 90, 0.005), ("seed", 9, 0.006)]
    pd.DataFrame(rows, columns=["noise", "n_epochs", "sd_training"]).to_csv(path, index=False)
    assert noise.read(path=path).to_dict() == {"noise": "seed", "n_epochs": 90, "sd_training": 0.005}
    assert noise.read(9, path=path)["sd_training"] == 0.006
    assert noise.read(noise="rounding", path=path)["n_epochs"] == 3
    with pytest.raises(
        ValueError, match="no floor for 'rounding' at 90 epochs; it has: seed at 3, rounding at 3, seed"
    ):
        noise.read(90, "rounding", path=path)


def test_the_committed_floor_is_read() -> None:
    """Chapter 03 wrote one; its violations are those of its noise, and fewer than of the chance order."""
    row = noise.read()
    assert (row["n_archs"], row["n_pairs"]) == (40, 780)
    assert row["n_epochs"] in (3, 9, 90)
    assert 0.001 < row["sd_training"] < 0.02
    assert 0 < row["violations_low"] <= row["violations"] <= row["violations_high"] < 390
    assert metrics.mae([0], [row["mae"]]) == pytest.approx(row["sd_training"] * math.sqrt(2 / math.pi), rel=0.05)
    assert noise.PATH.is_relative_to(ROOT / "results")


def test_the_noise_floor_of_the_error_is_that_of_normal_noise() -> None:
    """A perfect predictor errs by sd times the square root of 2 / pi on average."""
    floor = noise.simulate(np.linspace(0.5, 0.75, 40), sd=0.005, n_simulations=400)
    assert floor["mae"].mean() == pytest.approx(0.005 * np.sqrt(2 / np.pi), rel=0.02)


def test_the_noise_floor_of_violations_counts_neighbours_that_swap() -> None:
    """Two architectures: the share of swaps is the normal tail beyond their distance over its own noise."""
    floor = noise.simulate([0.6, 0.605], sd=0.005, n_simulations=4000)
    assert floor["violations"].mean() == pytest.approx(norm.sf(1 / np.sqrt(2)), abs=0.02)
    assert noise.simulate([0.6, 0.605], sd=0, n_simulations=2)["violations"].tolist() == [0, 0]
