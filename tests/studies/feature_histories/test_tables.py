import numpy as np
import pandas as pd
import pytest

from naaplib import metrics
from naaplib.estimators import learning_curves
from naaplib.evaluation import protocols
from naaplib.studies.feature_histories.tables import (
    FITTED,
    SUPPORT_VECTORS,
    epochs_ahead,
    from_curves,
    readable,
    regress,
    score,
    sentence,
)

MEASURED = pd.Series([0.5, 0.6, 0.7, 0.8], index=[4, 1, 3, 2])
ESTIMATES = pd.DataFrame({
    "ModelId": [1, 2, 3, 4] * 2,
    "epoch": [1] * 4 + [2] * 4,
    "last": [0.5, 0.6, 0.7, 0.6, 0.6, 0.7, 0.7, 0.5],
    "fit": [np.nan, 0.8, 0.7, 0.5, 0.6, 0.8, 0.7, 0.5],
})  # fmt: skip


def test_errors_and_taus_are_of_networks_matched_by_number() -> None:
    """By hand: after epoch 1 two of six pairs are in the wrong order and one is tied; after epoch 2 one is tied."""
    found = score(MEASURED, ESTIMATES, baseline="last", n_resamples=20).set_index(["epoch", "estimate"])
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
    found = score(measured, table, baseline="a", n_resamples=200).set_index("estimate")
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
    found = epochs_ahead(scores, "last", epochs=[1, 2]).set_index(["estimate", "epoch"])
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
    found = from_curves(pd.DataFrame(own, index=[9, 2, 5, 7]), 20, cycle=3, known=(others, finals), epochs=[2, 6])
    assert found["ModelId"].tolist() == [9, 2, 5, 7] * 9
    assert found["epoch"].tolist() == [epoch for epoch in range(1, 10) for _ in range(4)]
    for (_, row), (epoch, i) in zip(found.iterrows(), [(e, i) for e in range(1, 10) for i in range(4)], strict=True):
        seen = own[i : i + 1, :epoch]
        assert row["best so far"] == seen.max()
        assert row["mean of a cycle"] == pytest.approx(seen[0, -3:].mean())
        for name, family in FITTED.items():
            is_fitted = epoch in (2, 6) and epoch // 3 >= int(family[-1])  # else too few ends of cycles
            expected = learning_curves.fit(seen, 20, family=family, cycle=3)[0] if is_fitted else np.nan
            assert row[name] == pytest.approx(expected, nan_ok=True)
        assert np.isnan(row[SUPPORT_VECTORS]) == (epoch not in (2, 6))
    model = learning_curves.support_vector().fit(learning_curves.features(others[:, :6]), finals)
    expected = model.predict(learning_curves.features(own[:, :6]))
    np.testing.assert_allclose(found.loc[found["epoch"] == 6, SUPPORT_VECTORS], expected)
    alone = from_curves(pd.DataFrame(own), 20, cycle=3, known=(np.empty((0, 9)), []), epochs=[9])
    assert SUPPORT_VECTORS not in alone


def test_regressors_are_scored_on_the_networks_kept_apart() -> None:
    """As the protocol predicts them; with intervals around."""
    rng = np.random.default_rng(0)
    features = pd.DataFrame({"x": rng.random(60)}, index=range(60))
    measured = features["x"] / 2 + rng.normal(0, 0.02, 60)
    is_test = np.arange(60) % 3 == 0
    found = regress(
        measured, {"all": features, "none": features * 0}, algorithms=["3-NN", "Linear Regression"], is_test=is_test
    )
    assert found[["features", "algorithm"]].to_numpy().tolist() == [
        ["all", "3-NN"], ["all", "Linear Regression"], ["none", "3-NN"], ["none", "Linear Regression"],
    ]  # fmt: skip
    assert set(found["n"]) == {20}
    told = protocols.predict(measured, {"all": features}, algorithms=["3-NN"], seeds=[0], splits={0: is_test})
    assert found["mae"][0] == metrics.mae(told["measured"], told["predicted"])
    assert found["kendall_tau"][0] == metrics.kendall_tau(told["measured"], told["predicted"])
    assert (found["mae_low"] < found["mae"]).all()
    assert (found["mae"] < found["mae_high"]).all()


def test_a_family_that_falls_back_to_the_last_value_is_left_out() -> None:
    """It would stand there as an estimate of its own; with as many ends of cycles as parameters it is fitted."""
    own = pd.DataFrame(np.vstack([make_curves(5, 0)[:, :9]]), index=range(5), columns=range(1, 10))
    found = from_curves(own, 20, cycle=3, known=(np.empty((0, 9)), []), epochs=[3, 6, 9])
    known = found.groupby("epoch")[list(FITTED)].count() == 5
    assert known.loc[[3, 6, 9]].to_numpy().tolist() == [[False] * 3, [False, True, False], [True, True, False]]
    last = found.merge(
        own.rename_axis("ModelId").melt(ignore_index=False, var_name="epoch", value_name="original").reset_index()
    )
    table = score(pd.Series(np.arange(5) / 10 + 0.4), last, baseline="original", n_resamples=10)
    assert set(FITTED) & set(table.loc[table["epoch"] == 3, "estimate"]) == set()
    assert set(FITTED) & set(table.loc[table["epoch"] == 9, "estimate"]) == {"power law", "inverse logarithm"}


def scored(tau: float = 0.0) -> pd.DataFrame:
    """Of two estimates after epoch 9; the interval of the ensemble's gain lies around `tau`."""
    rows = []
    for name, value, gain in (("original", 0.5, 0.0), ("ensemble", 0.6, tau)):
        row = {"epoch": 9, "estimate": name, "n": 40, "mae": value / 10, "violations": 10.5}
        row |= {"kendall_tau": value, "kendall_tau_low": value - 0.1, "kendall_tau_high": value + 0.1}
        row |= {"tau_gain": gain, "tau_gain_low": gain - abs(gain) / 2 - 0.001, "tau_gain_high": gain + abs(gain) / 2}
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("tau", "verdict"), [(0.1, "better"), (-0.1, "worse"), (0.0, "no better")])
def test_the_sentence_says_what_the_intervals_say(tau: float, verdict: str) -> None:
    """Of ranks only, since errors would be of levels; and what the scheme alone gives."""
    blind = pd.DataFrame([{"algorithm": "Forest", "mae": 0.0123, "kendall_tau": 0.456, "violations": 20.0}])
    assert sentence(scored(tau), "ensemble", baseline="original", regressed=blind, epoch=9) == (
        f"After 9 of 90 epochs the **ensemble** ranks 40 networks {verdict} than their own accuracy does: Kendall's "
        "tau **0.60** (10.5 violations) against **0.50** (10.5 violations). Forest on the scheme alone, which sees no "
        "training of these networks, reaches **0.46** (20 violations)."
    )


@pytest.mark.parametrize(("tau", "sign"), [(0.1, " +"), (-0.1, " -"), (0.0, "")])
def test_tables_for_a_page_have_a_column_for_each_epoch(tau: float, sign: str) -> None:
    """A tau and its interval in one cell, a sign where it is clearly another than the baseline's, "" where none is."""
    later = scored(tau).assign(epoch=12).iloc[:1]
    shown = readable(pd.concat([scored(tau), later]))
    assert list(shown) == ["estimate", "9", "12"]
    assert shown.to_numpy().tolist() == [
        ["original", "0.50 (0.40 to 0.60)", "0.50 (0.40 to 0.60)"], ["ensemble", f"0.60 (0.50 to 0.70){sign}", ""]
    ]  # fmt: skip


def test_violations_stand_beside_tau() -> None:
    """Of estimates and of regressors, as `naaplib.metrics` counts them."""
    found = score(MEASURED, ESTIMATES, baseline="last", n_resamples=20).set_index(["epoch", "estimate"])
    assert found["violations"].tolist() == [2.5, 0.5, 0]
    features = pd.DataFrame({"x": np.arange(9.0)}, index=range(9))
    table = regress(
        features["x"] / 10, {"all": features}, algorithms=["Linear Regression"], is_test=np.arange(9) % 3 == 0
    )
    assert table["violations"].tolist() == [0]
