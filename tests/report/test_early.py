import numpy as np
import pandas as pd
import pytest

from naaplib import metrics
from naaplib.estimators import curves
from naaplib.report import protocols
from naaplib.report.early import FITTED, SUPPORT_VECTORS, epochs_ahead, from_curves, regress, score, sentence

MEASURED = pd.Series([0.5, 0.6, 0.7, 0.8], index=[4, 1, 3, 2])
ESTIMATES = pd.DataFrame({
    "ModelId": [1, 2, 3, 4] * 2,
    "epoch": [1] * 4 + [2] * 4,
    "last": [0.5, 0.6, 0.7, 0.6, 0.6, 0.7, 0.7, 0.5],
    "fit": [np.nan, 0.8, 0.7, 0.5, 0.6, 0.8, 0.7, 0.5],
})  # fmt: skip


def test_errors_and_taus_are_of_networks_matched_by_number() -> None:
    """By hand: after epoch 1 two of six pairs are in the wrong order and one is tied; after epoch 2 one is tied."""
    found = score(MEASURED, ESTIMATES, "last", n_resamples=20).set_index(["epoch", "estimate"])
    assert found.index.tolist() == [(1, "last"), (2, "last"), (2, "fit")]  # at epoch 1 a fit is missing
    assert found["n"].tolist() == [4, 4, 4]
    np.testing.assert_allclose(found["mae"], [0.1, 0.025, 0], atol=1e-12)
    np.testing.assert_allclose(found["mae_gain"], [0, 0, 0.025], atol=1e-12)
    np.testing.assert_allclose(found["kendall_tau"], [(3 - 2) / np.sqrt(6 * 5), 5 / np.sqrt(6 * 5), 1])
    np.testing.assert_allclose(found["tau_gain"], [0, 0, 1 - 5 / np.sqrt(6 * 5)])


def test_intervals_are_over_networks() -> None:
    """Of the same draws for all estimates: one that always errs by 0.1 has an interval of no width."""
    rng = np.random.default_rng(0)
    measured = pd.Series(rng.random(30), index=range(30))
    table = pd.DataFrame({"ModelId": range(30), "epoch": 5, "a": measured + rng.normal(0, 0.1, 30)})
    table = table.assign(b=measured + 0.1, c=table["a"])
    found = score(measured, table, "a", 200).set_index("estimate")
    np.testing.assert_allclose(found.loc["b", ["mae", "mae_low", "mae_high"]].to_numpy(float), 0.1)
    assert found.loc["a", "mae_low"] < found.loc["a", "mae"] < found.loc["a", "mae_high"]
    draws = np.random.default_rng(0).integers(30, size=(200, 30))
    means = (table["a"] - measured).abs().to_numpy()[draws].mean(axis=1)
    assert found.loc["a", "mae_high"] == pytest.approx(np.quantile(means, 0.975))
    assert found.loc["c", ["mae_gain_low", "mae_gain_high", "tau_gain_low", "tau_gain_high"]].tolist() == [0] * 4


def test_how_long_the_baseline_takes_to_be_as_good() -> None:
    """The first epoch at which it is; itself at its own epoch, unless it was as good before; NaN if it never is."""
    scores = pd.DataFrame({
        "epoch": [1, 2, 3, 4, 1, 2], "estimate": ["last"] * 4 + ["ours"] * 2,
        "mae": [0.3, 0.1, 0.2, 0.05, 0.09, 0.01], "kendall_tau": [0.2, 0.3, 0.5, 0.4, 0.5, 0.45],
    })  # fmt: skip
    found = epochs_ahead(scores, "last", [1, 2]).set_index(["estimate", "epoch"])
    assert found.loc["ours"].to_numpy(float).tolist()[0] == [4, 3]
    assert np.isnan(found.loc[("ours", 2), "mae_epoch"])
    assert found.loc[("ours", 2), "kendall_tau_epoch"] == 3
    assert found.loc["last"].to_numpy(float).tolist() == [[1, 1], [2, 2]]


def make_curves(n: int, seed: int) -> np.ndarray:
    """Of 9 epochs, rising towards limits that differ."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 0.9, (n, 1)) - 0.3 / np.arange(1, 10) + rng.normal(0, 0.005, (n, 9))


def test_curves_are_read_up_to_each_epoch() -> None:
    """A loop over epochs and networks; support vectors where they are asked, taught by the other curves alone."""
    own, others = make_curves(4, 0), make_curves(30, 1)
    finals = others[:, -1] + 0.02
    found = from_curves(pd.DataFrame(own, index=[9, 2, 5, 7]), 20, 3, (others, finals), [2, 6])
    assert found["ModelId"].tolist() == [9, 2, 5, 7] * 9
    assert found["epoch"].tolist() == [epoch for epoch in range(1, 10) for _ in range(4)]
    for (_, row), (epoch, i) in zip(found.iterrows(), [(e, i) for e in range(1, 10) for i in range(4)], strict=True):
        seen = own[i : i + 1, :epoch]
        assert row["best so far"] == seen.max()
        assert row["mean of a cycle"] == pytest.approx(seen[0, -3:].mean())
        for name, family in FITTED.items():
            expected = curves.fit(seen, 20, family, 3)[0] if epoch in (2, 6) else np.nan
            assert row[name] == pytest.approx(expected, nan_ok=True)
        assert np.isnan(row[SUPPORT_VECTORS]) == (epoch not in (2, 6))
    model = curves.support_vector().fit(curves.features(others[:, :6]), finals)
    expected = model.predict(curves.features(own[:, :6]))
    np.testing.assert_allclose(found.loc[found["epoch"] == 6, SUPPORT_VECTORS], expected)
    alone = from_curves(pd.DataFrame(own), 20, 3, (np.empty((0, 9)), []), [9])
    assert SUPPORT_VECTORS not in alone


def test_regressors_are_scored_on_the_networks_kept_apart() -> None:
    """As the protocol predicts them; with intervals around."""
    rng = np.random.default_rng(0)
    features = pd.DataFrame({"x": rng.random(60)}, index=range(60))
    measured = features["x"] / 2 + rng.normal(0, 0.02, 60)
    is_test = np.arange(60) % 3 == 0
    found = regress(measured, {"all": features, "none": features * 0}, ["3-NN", "Linear Regression"], is_test)
    assert found[["features", "algorithm"]].to_numpy().tolist() == [
        ["all", "3-NN"], ["all", "Linear Regression"], ["none", "3-NN"], ["none", "Linear Regression"],
    ]  # fmt: skip
    assert set(found["n"]) == {20}
    told = protocols.predict(measured, {"all": features}, ["3-NN"], [0], {0: is_test})
    assert found["mae"][0] == metrics.mae(told["measured"], told["predicted"])
    assert found["kendall_tau"][0] == metrics.kendall_tau(told["measured"], told["predicted"])
    assert (found["mae_low"] < found["mae"]).all()
    assert (found["mae"] < found["mae_high"]).all()


@pytest.mark.parametrize(
    ("mae", "tau", "verdicts"),
    [
        (0.01, 0.1, ("is nearer than", "ranks better")),
        (-0.01, -0.1, ("is further off than", "ranks worse")),
        (0.0, 0.0, ("is not clearly nearer than", "does not clearly rank better")),
    ],
)
def test_the_sentence_says_what_the_intervals_say(mae: float, tau: float, verdicts: tuple[str, str]) -> None:
    """Of the ensemble against the network's own accuracy; and names what of curves errs least."""
    rows = []
    for name, value in (("original", 0.5), ("ensemble", 0.6), ("best so far", 0.7), ("power law", 0.4)):
        row = {"epoch": 9, "estimate": name, "n": 40, "mae": value / 10, "kendall_tau": 1 - value}
        for gain, centre in (("mae_gain", mae), ("tau_gain", tau)):
            row |= {gain: centre, f"{gain}_low": centre - abs(centre) / 2 - 0.001, f"{gain}_high": centre + 0.001}
        rows.append(row)
    blind = pd.DataFrame([{"algorithm": "Forest", "mae": 0.0123, "kendall_tau": 0.456}])
    text = sentence(pd.DataFrame(rows), "ensemble", "original", blind, 9)
    assert all(verdict in text for verdict in verdicts)
    assert (
        "After 9 of 90 epochs, from held-out images, the **ensemble** knows the final accuracy of 40 networks" in text
    )
    assert "is power law (0.0400, tau 0.600); Forest on the scheme alone" in text
    assert "errs by 0.0123 and has a tau of 0.456." in text
