"""Tests of the announced predictor and of its score."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib import metrics
from naaplib.sources import ROOT
from naaplib.studies.comparison import announced
from naaplib.tables import naap440


def made(n=20):
    rng = np.random.default_rng(0)
    model_id = pd.Index(np.arange(1, n + 1), name="ModelId")
    truth = pd.Series(np.linspace(0.5, 0.7, n), index=model_id)
    runs = {f"seed {i}": truth + rng.normal(0, 0.005, n) for i in (1, 2)}
    return pd.DataFrame({"ModelId": model_id, "predicted": truth.to_numpy()}), runs


def test_each_training_and_their_mean_are_scored_on_the_announced_networks() -> None:
    """Each training and their mean are scored on the announced networks."""
    predicted, runs = made()
    found = announced.score(predicted, runs, n_resamples=50).set_index("against")
    assert found.index.tolist() == ["seed 1", "seed 2", "mean"]
    for name, column in (runs | {"mean": (runs["seed 1"] + runs["seed 2"]) / 2}).items():
        pair = column.to_numpy(), predicted["predicted"].to_numpy()
        assert found.loc[name, "mae"] == pytest.approx(np.abs(pair[0] - pair[1]).mean())
        assert found.loc[name, "bias"] == pytest.approx((pair[1] - pair[0]).mean())
        assert found.loc[name, "violations"] == metrics.violations(*pair)
        assert (
            found.loc[name, "kendall_tau_low"] <= found.loc[name, "kendall_tau"] <= found.loc[name, "kendall_tau_high"]
        )
    assert found.loc["seed 1", "others_mae"] == pytest.approx((runs["seed 1"] - runs["seed 2"]).abs().mean())
    assert np.isnan(found.loc["mean", "others_mae"])


def test_the_order_of_rows_and_networks_that_were_not_announced_change_nothing() -> None:
    """The order of rows and networks that were not announced change nothing."""
    predicted, runs = made()
    expected = announced.score(predicted.iloc[:12], {name: column.iloc[:12] for name, column in runs.items()})
    shuffled = predicted.iloc[:12].sample(frac=1, random_state=1)
    found = announced.score(shuffled, {name: column.iloc[::-1] for name, column in runs.items()})
    exact = ["against", "n", "violations"]
    assert found[exact].equals(expected[exact])
    assert np.allclose(found[["mae", "kendall_tau", "bias"]], expected[["mae", "kendall_tau", "bias"]])


def test_a_training_that_lacks_an_announced_network_is_refused() -> None:
    """A training that lacks an announced network is refused."""
    predicted, runs = made()
    with pytest.raises(ValueError, match=r"'seed 2' has no accuracy of the announced networks \[20\]"):
        announced.score(predicted, runs | {"seed 2": runs["seed 2"].iloc[:-1]})
    with pytest.raises(ValueError, match="no training"):
        announced.score(predicted, {})


def test_the_announced_settings_are_those_of_the_estimator() -> None:
    """The announced settings are those of the estimator."""
    model = announced.make().regressor[-1]
    prior = announced.SETTINGS["prior of each log length scale"]
    assert (model.kernel, model.length_scale, model.prior_sd) == ("RBF", prior["median"], prior["sd"])
    assert model.n_iterations == 200


def test_the_record_holds_what_the_announced_estimator_predicts(published_path: Path) -> None:
    """The record holds what the announced estimator predicts."""
    table = naap440.read(published_path, n_archs=440)
    [piece] = announced.pieces()
    path = ROOT / "results" / "records" / "comparison" / "announced-predictions.csv"
    recorded = pd.read_csv(path)
    assert recorded["ModelId"].tolist() == sorted(table.loc[table["IsTest"] == 1, "ModelId"])
    made_again = piece.make()
    assert made_again["ModelId"].equals(recorded["ModelId"])
    assert np.allclose(made_again["predicted"], recorded["predicted"], atol=2e-4)  # the optimiser ends elsewhere
