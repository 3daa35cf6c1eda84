"""Measurements of scale: what is measured, of which networks, and what the figures show of it."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from naaplib.architectures.schemes import NAAP440, enumerate_schemes, feature_table
from naaplib.sources import ROOT
from naaplib.studies.scale import figures, measure
from naaplib.training.distributed import Work

IMAGES = str(ROOT / "tests" / "data" / "images-made.npz")


@pytest.mark.parametrize("n", [1, 4, 6, 64, 256, 439, 440])
def test_schemes_are_spread_over_the_440_in_runs_of_four(n: int) -> None:
    """As many as asked for, ascending, each with its ModelId, in runs of neighbours, from both halves of the space."""
    population = enumerate_schemes(NAAP440)
    chosen = measure.spread(n)
    assert len(chosen) == n
    assert list(chosen) == sorted(chosen)
    assert all(population[name - 1] == scheme for name, scheme in chosen.items())
    assert all(following - first == i % 4 for i, following in enumerate(chosen) for first in [list(chosen)[i - i % 4]])
    if n > 4:
        assert min(chosen) <= 220 < max(chosen)


@pytest.mark.parametrize("n", [441, 2104, 2105, 2106])
def test_a_larger_space_gives_what_the_440_cannot(n: int) -> None:
    """As many different schemes as asked for, up to all 2,106."""
    assert len(set(measure.spread(n).values())) == n


def test_networks_of_the_larger_space_cost_as_much_on_average() -> None:
    """Mean MACs of all 2,106 lie within half a percent of those of the 440."""
    mean, larger = (feature_table(list(measure.spread(n).values()))["NumMACs"].mean() for n in (440, 2106))
    assert abs(larger / mean - 1) < 0.005


@pytest.mark.parametrize("n", [0, 2107])
def test_more_schemes_than_there_are_cannot_be_had(n: int) -> None:
    """The message says how many there are."""
    with pytest.raises(ValueError, match=f"there are 1 to 2106 schemes to be had, not {n}"):
        measure.spread(n)


@pytest.fixture(scope="module")
def rounds() -> pd.DataFrame:
    """Units of 1 and of 4, in one process and in two, one step each."""
    works = [Work(measure.spread(4), 1, images_file=IMAGES, device="cpu", size=size) for size in (1, 4)]
    return measure.measure(works, [1, 2], n_rounds=1, n_steps=1)


def test_a_row_for_every_size_and_number_of_processes(rounds: pd.DataFrame) -> None:
    """Each has trained the same networks; what takes time has taken some, and a sum is a sum."""
    keys = rounds[["size", "n_processes", "round", "n_networks"]].to_numpy().tolist()
    assert keys == [[1, 1, 1, 4], [1, 2, 1, 4], [4, 1, 1, 4], [4, 2, 1, 4]]
    assert (rounds[["training", "evaluation"]] > 0).all(axis=None)
    np.testing.assert_allclose(rounds["seconds"], rounds["training"] + rounds["evaluation"])
    assert rounds["macs"].unique().tolist() == [feature_table(list(measure.spread(4).values()))["NumMACs"].mean()]


def test_peaks_of_memory_do_not_mix(rounds: pd.DataFrame) -> None:
    """Four networks at once hold more than one after the other, by no less than their first layers' activations."""
    one, four = (rounds.loc[rounds["size"] == size, "memory"].min() for size in (1, 4))
    assert four - one > 3 * 256 * 12 * 16 * 16 * 4  # networks, images, channels, pixels, bytes


def test_memory_does_not_count_what_was_before_the_reset() -> None:
    """A tensor of 256 MiB that is gone is no longer in the peak; one that comes after is."""
    device = torch.device("cpu")
    held = torch.ones(64 << 20)
    with_it = measure.peak_memory(device)
    del held
    measure.reset_peak()
    without = measure.peak_memory(device)
    if without == with_it:
        pytest.skip("this system cannot reset a process's peak of memory")
    assert with_it - without > 200 << 20
    torch.ones(64 << 20)
    assert measure.peak_memory(device) - without > 200 << 20
    assert measure.capacity(device) > measure.peak_memory(device)


def test_a_whole_run_takes_longer_than_nothing() -> None:
    """One network, one epoch of the made images, through the engine that runs in this process."""
    work = Work(measure.spread(1), 1, images_file=IMAGES, device="cpu", size=1)
    assert measure.run(work, 1, engine="processes") > 0


def test_figure_of_seconds_shows_every_size_that_was_measured(axes: Axes) -> None:
    """A line for each number of processes, with bars; what did not fit into memory is left out but keeps its tick."""
    seconds = [3.0, 2.0, float("nan")]
    one = pd.DataFrame({"size": [1, 4, 16], "n_processes": 1, "seconds": seconds, "low": seconds, "high": seconds})
    two = one.assign(n_processes=2, seconds=one["seconds"] + 1, low=one["seconds"], high=one["seconds"] + 2)
    figures.draw_seconds(axes, pd.concat([one, two]))
    drawn = [container.lines[0].get_xydata().tolist() for container in axes.containers]
    assert drawn == [[[1, 3], [4, 2]], [[1, 4], [4, 3]]]
    bars = axes.containers[1].lines[2][0].get_segments()
    assert [bar[:, 1].tolist() for bar in bars] == [[3, 5], [2, 4]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one process", "2 side by side, each"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "4", "16"]


def test_figure_of_memory_shows_points_and_line(axes: Axes) -> None:
    """The fitted line and the measured points, each where the table has it."""
    figures.draw_memory(axes, pd.DataFrame({"size": [1, 4], "gib": [0.5, 0.75], "fitted_gib": [0.5, 1.0]}))
    fitted, measured = (line.get_xydata().tolist() for line in axes.get_lines())
    assert fitted == [[1, 0.5], [4, 1.0]]
    assert measured == [[1, 0.5], [4, 0.75]]
