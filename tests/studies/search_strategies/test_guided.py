"""Guided searches of recurrent cells, on a made table of NAS-Bench-NLP."""

import numpy as np
import pandas as pd
import pytest

from naaplib.search import guided_runs
from naaplib.studies.search_strategies import guided
from naaplib.tables import graph_benchmarks

FILES = {guided.RECIPES: "tests/data/nasbenchnlp-made.jsonl"}


@pytest.fixture(scope="module")
def recipes() -> guided_runs.Space:
    """The made table as a space, with encodings."""
    return guided.space(guided.RECIPES, 30, source="", files=FILES, is_encoded=True)


def test_recurrent_cells_are_those_that_did_not_diverge(recipes: guided_runs.Space) -> None:
    """A search sees minus the validation loss after the last epoch, and is scored by minus the test loss."""
    (path,) = guided.paths(guided.RECIPES, "", files=FILES)
    table = graph_benchmarks.nasbench_nlp(path)
    last = table[table["epochs"] == 50]
    good = last[last["status"] == "OK"]
    assert 0 < len(good) < table["model"].nunique()
    assert (recipes.signal == -good["validation_loss"].to_numpy()).all()
    assert (recipes.judged == -good["test_loss"].to_numpy()).all()
    assert [len(encoding) for encoding in recipes.encodings] == [len(good)] * 2


def test_random_search_of_all_finds_the_lowest_validation_loss(recipes: guided_runs.Space) -> None:
    """Which is the loss that the table shows, with its own sign."""
    n_archs = len(recipes.signal)
    whole = guided.space(guided.RECIPES, n_archs, source="", files=FILES)
    orders = guided.orders(whole, {}, read={}, n_runs=2, seed=1)
    found = guided.losses(guided_runs.curves(whole, orders, budgets=[n_archs]))
    assert found["loss"].tolist() == pytest.approx([-recipes.judged[recipes.signal.argmax()]])


def test_losses_turn_signs_and_intervals() -> None:
    """The upper end of minus a loss is the lower end of the loss; a gain keeps its sign."""
    curves = pd.DataFrame({"n_trained": [3], "mean": [-4.5], "sd": [0.1], "low": [-4.7], "high": [-4.4]})
    found = guided.losses(curves).iloc[0]
    assert found[["loss", "sd", "low", "high"]].tolist() == [4.5, 0.1, 4.4, 4.7]
    gains = pd.DataFrame({"found": [-4.5], "random": [-4.6], "gain": [0.1], "low": [0.05], "high": [0.2]})
    found = guided.losses(gains).iloc[0]
    assert found[["loss", "random_loss", "gain", "low", "high"]].tolist() == [4.5, 4.6, 0.1, 0.05, 0.2]
    assert np.isfinite(curves["mean"]).all()
    assert "mean" in curves, "the table that is given does not change"
