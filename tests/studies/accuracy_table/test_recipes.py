"""Orders of networks under several recipes, beside orders that do not depend on the recipe."""

import numpy as np
import pandas as pd
import pytest

from naaplib import metrics
from naaplib.evaluation import style
from naaplib.studies.accuracy_table import figures, recipes
from naaplib.studies.accuracy_table.records import stack
from naaplib.training import job_records

OWN, IDS = "seed 20220819", range(1, 21)


def make(sd: float, seed: int, *, n_epochs: int = 2, model_ids=IDS) -> pd.DataFrame:
    """Records of networks that rise with ModelId, with normal noise."""
    rng = np.random.default_rng(seed)
    rows = [
        (name, epoch, 1.0, 1.0, 0.4 + name / 100 + epoch / 100 + rng.normal(0, sd))
        for name in model_ids
        for epoch in range(1, n_epochs + 1)
    ]
    return pd.DataFrame(rows, columns=job_records.COLUMNS)


PUBLISHED = make(0.001, 0, n_epochs=4)
JOBS = stack([(OWN, make(0.01, 1, n_epochs=4)), ("seed 1", make(0.02, 2)), ("seed 2", make(0.02, 3, model_ids=[1, 2]))])
TRAINED = stack([("slow", make(0.05, 4)), ("fast", make(0.02, 5, model_ids=range(1, 16)))])
PREDICTED = pd.Series(np.arange(20.0), index=IDS, name="predictor")


@pytest.fixture(scope="module")
def both() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Recipes and references after two epochs."""
    return recipes.reached(PUBLISHED, JOBS, trained=TRAINED, n_epochs=2, seeds=[OWN, "seed 1", "seed 2"])


def test_networks_are_those_of_every_recipe(both) -> None:
    """By hand: maxima of two epochs, of four for "full"; a seed that lacks some of the networks does not count."""
    reached, references = both
    assert list(reached) == [recipes.OWN, "slow", "fast"]
    assert list(references) == ["same_seed", "seed 1", "full"]
    assert reached.index.tolist() == references.index.tolist() == list(range(1, 16))
    own = JOBS[(JOBS["run"] == OWN) & (JOBS["ModelId"] == 7)]
    assert reached.loc[7, recipes.OWN] == own.loc[own["epoch"] <= 2, "accuracy"].max()
    mine = PUBLISHED[PUBLISHED["ModelId"] == 7]["accuracy"].to_numpy()
    assert references.loc[7, ["same_seed", "full"]].tolist() == [mine[:2].max(), mine.max()]


def test_taus_by_hand(both) -> None:
    """Each is that of the metric; with two other seeds their mean; changes are paired, zero in the first row."""
    reached, references = both
    references = references.assign(second=references["seed 1"].iloc[::-1].to_numpy())
    found = recipes.compare(reached, references, predicted=PREDICTED, n_epochs=2, n_resamples=30)
    assert found["recipe"].tolist() == list(reached)
    slow, beside = found.iloc[1], reached["slow"]
    taus = [metrics.kendall_tau(beside, references[name]) for name in ("seed 1", "second")]
    assert slow["tau_other_seeds"] == pytest.approx(np.mean(taus))
    assert slow["tau_full"] == pytest.approx(metrics.kendall_tau(beside, references["full"]))
    assert slow["tau_predictor"] == pytest.approx(metrics.kendall_tau(beside, range(15)))
    assert (slow["n_archs"], slow["n_others"], slow["best"]) == (15, 2, beside.idxmax())
    assert slow["tau_full_change"] == pytest.approx(slow["tau_full"] - found["tau_full"][0])
    assert found.filter(like="_change").iloc[0].eq(0).all()
    assert slow["tau_full_change_low"] < slow["tau_full_change"] < slow["tau_full_change_high"]
    alone = recipes.compare(reached, references[["same_seed", "full"]], predicted=PREDICTED, n_epochs=2, n_resamples=30)
    assert alone["tau_other_seeds"].isna().all()


def test_predictor_sees_the_other_networks_only() -> None:
    """Test networks' accuracies change nothing; a linear order is found."""
    measured = pd.Series(np.arange(20.0) / 20, index=IDS)
    features = pd.DataFrame({"size": range(1, 31)}, index=range(1, 31))
    found = recipes.predict(measured, features, algorithm="Linear Regression", test_ids=[5, 11, 12])
    assert found.round(9).to_dict() == {5: 0.2, 11: 0.5, 12: 0.55}
    spoilt = measured.mask(measured.index.isin([5, 11, 12]), 0.9)
    again = recipes.predict(spoilt, features, algorithm="Linear Regression", test_ids=[5, 11, 12])
    pd.testing.assert_series_equal(again.sort_index(), found.sort_index())


def test_sentence_and_figure(both) -> None:
    """The answer names recipes that are clearly lower; without other recipes it says nothing."""
    found = recipes.compare(*both, predicted=PREDICTED, n_epochs=2, n_resamples=30)
    found["tau_full_change_high"] = [0.0, -0.1, 0.1]
    told = recipes.sentence(found)
    assert told.startswith("Under 2 other recipes through 2 epochs, the order of 15 networks")
    assert told.endswith(" Clearly lower: slow.")
    assert recipes.sentence(found.assign(tau_full_change_high=0.1)).endswith(" Clearly lower: none.")
    assert recipes.sentence(found[:1]) == ""
    _, axes = style.subplots()
    figures.draw_recipes(axes, found, names={"tau_full": "all epochs", "tau_predictor": "predicted"})
    assert [text.get_text() for text in axes.get_yticklabels()] == [recipes.OWN, "slow", "fast"]
    assert axes.lines[0].get_xdata() == pytest.approx(found["tau_full"])
