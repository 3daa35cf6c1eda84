import numpy as np
import pandas as pd
import pytest

from naaplib import metrics
from naaplib.studies.feature_histories.training_tables import (
    BENCHMARK,
    OWN,
    cells_sentence,
    followed,
    main_claim,
    score_cells,
    shorter,
)

SIZE = {"network": "a", "images": "b", "max_budget": 3}


def test_the_main_example_comes_last_if_there_is_one() -> None:
    """Named by its network and images; without one the others are as they were."""
    made = {name: pd.DataFrame({"network": ["a"], "epoch": [1]}) for name in ("classics", "main claim")}
    assert followed(made, {"network": "a", "images": "b"})["network"].tolist() == ["a", "a, b"]
    assert followed(made, {}) is made["classics"]


@pytest.mark.parametrize(
    ("ensemble", "verdict"),
    [(11, "2.7 times earlier than the end, as in"), (20, "1.5 times"), (pd.NA, "the ensemble in no epoch, not")],
)
def test_the_main_claim_is_judged_by_its_own_number(ensemble: int, verdict: str) -> None:
    """30 epochs: 11 are 2.7 times earlier, 20 are not; the size is said, and that it does not decide."""
    row = {"network": "a, b", "n_epochs": 30, "original": 28, "ensemble": ensemble}
    text = main_claim(row, {"width": 0.25, "n_train": 2000})
    assert verdict in text
    assert ("not 2.7 times" in text) == (ensemble is pd.NA or ensemble == 20)
    assert "(a, b, 0.25 of its channels, 2,000 images, 30 epochs)" in text
    assert text.endswith("does not decide about the full one.")


def test_budgets_come_from_the_shortest_to_the_main_example() -> None:
    """Each from its own record, named by its length."""
    made = {
        name: pd.DataFrame({"network": "a", "epoch": range(1, n + 1), "original": n / 10})
        for name, n in {"main claim": 3, "budgets/2 epochs": 2, "budgets/1 epochs": 1}.items()
    }
    found = shorter(made, SIZE, budgets=[2, 1])
    assert found["network"].tolist() == ["a, b, 1 epochs"] + ["a, b, 2 epochs"] * 2 + ["a, b, 3 epochs"] * 3
    assert found["original"].tolist() == [0.1, 0.2, 0.2, 0.3, 0.3, 0.3]
    assert shorter(made, SIZE, budgets=[])["network"].unique().tolist() == ["a, b, 3 epochs"]


def cells(n: int = 6, n_epochs: int = 4) -> tuple[pd.DataFrame, pd.Series]:
    """Return made curves of cells and their true accuracies, in another order."""
    rng = np.random.default_rng(0)
    names = [f"cell {i}" for i in range(n)]
    rows = pd.MultiIndex.from_product([names, range(1, n_epochs + 1)], names=["architecture", "epoch"])
    values = rng.random((len(rows), 3))
    curves = pd.DataFrame(values, rows, ["original", "optimised", "ensemble"]).reset_index()
    return curves, pd.Series(rng.random(n), names).iloc[::-1]


def test_cells_are_scored_against_the_benchmark_and_their_own_end() -> None:
    """As a loop over epochs and estimates; the original's error against its own end is zero at the end."""
    curves, accuracy = cells()
    found = score_cells(curves, accuracy, n_resamples=20).set_index(["target", "epoch", "estimate"])
    last = curves[curves["epoch"] == 4].set_index("architecture")["original"]
    for target, truth in ((BENCHMARK, accuracy), (OWN, last)):
        for epoch in range(1, 5):
            at = curves[curves["epoch"] == epoch].set_index("architecture")
            for name in ("original", "optimised", "ensemble"):
                row = found.loc[(target, epoch, name)]
                assert row["n"] == 6
                assert row["mae"] == pytest.approx((at[name] - truth.loc[at.index]).abs().mean())
                assert row["kendall_tau"] == pytest.approx(metrics.kendall_tau(truth.loc[at.index], at[name]))
    assert found.loc[(OWN, 4, "original"), "mae"] == 0
    best = curves[curves["epoch"] <= 2].groupby("architecture")["original"].max()
    assert found.loc[(OWN, 2, "best so far"), "mae"] == pytest.approx((best - last).abs().mean())


def test_families_of_curves_wait_for_as_many_epochs_as_they_have_parameters() -> None:
    """The power law from the third epoch, continued to the last."""
    found = score_cells(*cells(), n_resamples=20)
    assert sorted(found.loc[found["estimate"] == "power law", "epoch"].unique()) == [3, 4]


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "no better")])
@pytest.mark.parametrize("low", [-0.125, 0.125])
def test_the_sentence_on_cells_says_what_the_intervals_say(gain: float, verdict: str, low: float) -> None:
    """It is on the benchmark's accuracy, after half of the epochs; where the original orders nothing it says so."""
    rows = [
        {"target": target, "epoch": epoch, "estimate": name, "n": 16, "kendall_tau": tau + (target == OWN)}
        | {"tau_gain_low": gain - 0.05, "tau_gain_high": gain + 0.05, "kendall_tau_low": low, "kendall_tau_high": 0.5}
        for target in (OWN, BENCHMARK)
        for epoch, tau in ((3, 0.25), (6, 0.75))
        for name in ("original", "ensemble")
    ]
    tau = f"**0.25** ({low:.2f} to 0.50)"
    doubt = " So small a training does not clearly order these cells at all."
    assert cells_sentence(pd.DataFrame(rows)) == (
        f"After 3 of 6 epochs of a small training the ensemble ranks 16 cells of NAS-Bench-201 {verdict} than their "
        f"own accuracy does: Kendall's tau {tau} against {tau}." + doubt * (low < 0)
    )
