"""Final accuracies from learning curves: forms, intervals, messages."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge

from naaplib.estimators import learning_curves
from naaplib.estimators.final_accuracy import predict, tabulate


def make_curves(n: int, n_epochs: int = 30, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Power laws with different limits, and noise."""
    rng = np.random.default_rng(seed)
    epochs = np.arange(1, n_epochs + 1)
    limits = rng.uniform(0.6, 0.9, size=(n, 1))
    values = limits - 0.4 / epochs + noise * rng.normal(size=(n, n_epochs))
    return pd.DataFrame(values.clip(0, 1), columns=epochs, index=[f"run {i}" for i in range(n)])


def test_parametric_fits_are_those_of_learning_curves() -> None:
    """The default is the median of the four families, and the interval their range."""
    curves = make_curves(3).iloc[:, :8]
    fits = np.array([learning_curves.fit(curves, 30, family=family) for family in learning_curves.FAMILIES])
    found = predict(curves, at=30)
    assert found["estimate"].to_numpy() == pytest.approx(np.median(fits, axis=0))
    assert found["low"].to_numpy() == pytest.approx(fits.min(axis=0))
    assert found["high"].to_numpy() == pytest.approx(fits.max(axis=0))
    assert predict(curves, 30, method="pow3")["estimate"].to_numpy() == pytest.approx(fits[0])
    assert predict(curves, 30, method="last")["estimate"].tolist() == curves[8].tolist()


def test_finished_trainings_teach_what_first_epochs_mean() -> None:
    """Power laws of one shape are predicted nearly exactly; the constant prediction is far off."""
    finished, running = make_curves(40), make_curves(10, seed=1)
    errors = {
        str(method): (predict(running.iloc[:, :4], finished=finished, method=method)["estimate"] - running[30])
        .abs()
        .max()
        for method in ("svr", "Linear Regression", Ridge(1e-6), DummyRegressor())
    }
    svr, linear, ridge, constant = errors.values()
    assert max(linear, ridge) < 1e-3
    assert svr < 0.02 < constant


def test_intervals_hold_their_share_of_similar_trainings() -> None:
    """Of 2,000 noisy trainings, nine in ten; half with level 0.5; narrower then."""
    finished, running = make_curves(200, noise=0.02), make_curves(2000, noise=0.02, seed=1)
    widths = {}
    for level in (0.5, 0.9):
        found = predict(running.iloc[:, :5], finished=finished, method="Linear Regression", level=level)
        assert ((found["low"] <= running[30]) & (running[30] <= found["high"])).mean() == pytest.approx(level, abs=0.07)
        widths[level] = (found["high"] - found["low"]).mean()
    assert widths[0.5] < 0.6 * widths[0.9]


def test_few_finished_trainings_give_the_widest_interval() -> None:
    """With twelve, no quantile of errors holds 95 percent."""
    found = predict(make_curves(2, seed=1).iloc[:, :3], finished=make_curves(12), level=0.95)
    assert found[["low", "high"]].to_numpy().tolist() == [[0, 1]] * 2


def test_trainings_may_be_at_different_epochs_and_keep_their_order() -> None:
    """Each is predicted as if it were alone."""
    running, finished = make_curves(4, seed=1), make_curves(20)
    ragged = running.iloc[:, :6].copy()
    ragged.iloc[1, 3:] = ragged.iloc[3, 2:] = np.nan
    found = predict(ragged, finished=finished)
    assert found.index.tolist() == running.index.tolist()
    assert found["n_seen"].tolist() == [6, 3, 6, 2]
    alone = predict(running.iloc[[1], :3], finished=finished)
    assert found.iloc[[1]].equals(alone)
    assert found["last"].iloc[3] == running.iloc[3, 1]


def test_both_forms_of_curves_give_the_same() -> None:
    """One row per epoch, in any order of columns, is the same table."""
    wide = make_curves(3).iloc[:, :5]
    tidy = wide.rename_axis("training").reset_index().melt("training", var_name="epoch", value_name="accuracy")
    tidy["epoch"] = tidy["epoch"].astype(int)
    assert predict(tidy, 30)["estimate"].tolist() == predict(wide, 30)["estimate"].tolist()
    assert tabulate(pd.DataFrame([[0.1, 0.2]])).columns.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["{}", "e{}", "epoch {}", "e{}Accuracy"])
def test_columns_count_by_their_numbers_and_not_by_their_places(name: str) -> None:
    """A CSV file has texts for numbers, and a table made of them is often sorted as texts: 1, 10, 11, 2."""
    wide = make_curves(3).iloc[:, :12]
    texts = wide.set_axis([name.format(epoch) for epoch in wide], axis=1)
    for shuffled in (texts, texts[sorted(texts)], texts[texts.columns[::-1]]):
        assert tabulate(shuffled).equals(tabulate(wide))


def test_trainings_of_one_name_stay_where_they_were() -> None:
    """Rows are returned in their order, although those of equal length are predicted together."""
    ragged = make_curves(4, seed=1).iloc[:, :6]
    ragged.iloc[1, 4:] = np.nan
    one_name = ragged.set_axis(["a", "a", "a", "b"])
    found, expected = (predict(curves, finished=make_curves(20)) for curves in (one_name, ragged))
    assert found.index.tolist() == ["a", "a", "a", "b"]
    assert found.reset_index(drop=True).equals(expected.reset_index(drop=True))


def test_the_best_accuracy_is_another_target() -> None:
    """For curves that fall at the end, the best is higher than the last."""
    finished = make_curves(30)
    finished[30] = finished[30] - 0.3
    running = make_curves(1, seed=2).iloc[:, :4]
    last, best = (predict(running, finished=finished, target=target)["estimate"].item() for target in ("last", "best"))
    assert best - last == pytest.approx(0.3, abs=0.03)


def test_messages_say_what_is_needed() -> None:
    """Percentages, gaps, missing epochs, unknown methods and too few trainings are refused."""
    curves, finished = make_curves(3).iloc[:, :5], make_curves(12)
    gap = curves.copy()
    gap.iloc[1, 2] = np.nan
    long = pd.DataFrame({"run": ["a", "a", "b"], "epoch": [1, 2, 1], "accuracy": [0.1, 0.2, 0.3]})
    for call, message in (
        (lambda: predict(curves), "at which epoch"),
        (lambda: predict(100 * curves, 30), "divide percentages by 100"),
        (lambda: predict(gap, 30), "'run 1' lacks an epoch"),
        (lambda: predict(curves, finished=finished, at=90), "all epochs from 1 to 90"),
        (lambda: predict(curves, finished=finished.iloc[:5]), "at least 10"),
        (lambda: predict(curves, 30, method="svr"), "give finished="),
        (lambda: predict(curves, finished=finished, method="nix"), "there is no method 'nix'; there are: svr"),
        (lambda: predict(curves, 30, target="mean"), "target is 'mean'"),
        (lambda: tabulate(curves[[2, 4]]), "epochs from 1 without a gap"),
        (lambda: tabulate(pd.DataFrame({"epoch": [1, 1], "accuracy": [0.1, 0.2], "run": ["a", "a"]})), "twice"),
        (lambda: tabulate(pd.DataFrame({"epoch": [1], "accuracy": [0.1]})), "one column that names"),
        (lambda: tabulate(curves.assign(loss=0.5)), "columns 'loss'; columns must be epochs from 1"),
        (lambda: tabulate(curves.set_axis(list("abcde"), axis=1)), "there are columns 'a', 'b'"),
        (lambda: tabulate(curves.assign(**{"6": "x"})), "column '6' has something else than accuracies: .*'x'"),
        (lambda: tabulate(curves.iloc[:0]), "0 trainings and 5 epochs"),
        (lambda: tabulate(long.assign(run=[None, "a", "b"])), "lacks its 'run'"),
        (lambda: tabulate(long.assign(accuracy=[0.1, 0.2, np.nan])), "'b' lacks an epoch"),
        (lambda: predict(curves, 3), "'run 0' has 5 epochs, beyond epoch 3"),
        (lambda: predict(curves, 3, finished=finished), "'run 0' has 5 epochs, beyond epoch 3"),
        (lambda: predict(curves, 30, method="nix"), "there is no method 'nix'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
