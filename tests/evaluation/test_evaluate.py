"""Evaluation of any predictor beside the known ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from naaplib import metrics
from naaplib.estimators.predictors import tuned
from naaplib.evaluation import protocols
from naaplib.evaluation.evaluate import evaluate, predictions
from naaplib.evaluation.ranking import measures
from naaplib.tables.load import folds, load_naap440

X = np.random.default_rng(0).normal(size=(60, 3))
Y = 0.7 + 0.05 * X[:, 0] + 0.02 * np.random.default_rng(1).normal(size=60)


class FirstColumn:
    """A stranger's predictor: no scikit-learn, only fit and predict."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        """Learn the slope and the offset."""
        self.line = np.polyfit(X[:, 0], y, 1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict by the first feature."""
        return np.polyval(self.line, X[:, 0])


class OutputSize:
    """A score that reads graphs and learns nothing."""

    reads = "graphs"

    def predict(self, graphs) -> np.ndarray:
        """Count the nodes."""
        return graphs.mask.sum(dim=1).numpy().astype(float)


def test_measures_are_those_of_the_slow_metrics() -> None:
    """For ones and for resamples, with ties, each is the metric of the drawn architectures."""
    rng = np.random.default_rng(0)
    y, p = rng.integers(5, size=30) / 5, rng.integers(6, size=30) / 6
    draws = rng.integers(30, size=(20, 30))
    counts = np.stack([np.ones(30, int), *(np.bincount(draw, minlength=30) for draw in draws)])
    found = measures(y, p, counts=counts)
    for i, rows in enumerate([np.arange(30), *draws]):
        assert found["kendall_tau"][i] == pytest.approx(metrics.kendall_tau(y[rows], p[rows]))
        assert found["violations"][i] == pytest.approx(metrics.violations(y[rows], p[rows], rows=rows))
        assert found["mae"][i] == pytest.approx(metrics.mae(y[rows], p[rows]))


def test_a_stranger_gets_a_row_beside_the_known() -> None:
    """The one that knows the signal comes first; each row holds its interval."""
    table = evaluate({"mine": FirstColumn(), "tree": "Decision Tree"}, (X, Y), splits=5)
    assert table["estimator"].tolist() == ["mine", "tree"]
    assert (table[["n_splits", "n_train", "n_test"]] == [5, 48, 12]).all(axis=None)
    for measure in ("kendall_tau", "violations", "mae"):
        assert (table[f"{measure}_low"] < table[measure]).all()
        assert (table[measure] < table[f"{measure}_high"]).all()


def test_a_known_name_is_evaluated_as_in_the_protocols(published_path: Path) -> None:
    """On the paper's split, predictions are those of `protocols`, seed by seed."""
    benchmark = load_naap440("scheme", n_epochs=3)
    names = ["Random Forest (N=25)", "Gradient Boosting (N=25)", "5-NN"]
    found = predictions(names, benchmark, splits="paper", seeds=(1, 2))
    seen = {"features": benchmark.data}
    expected = protocols.predict(
        benchmark.target, seen, algorithms=names, seeds=(1, 2), splits={5: benchmark.is_test}, n_jobs=1
    )
    for (name, seed), run in expected.groupby(["algorithm", "seed"]):
        own = found[(found["estimator"] == name) & (found["seed"] == seed)]
        assert own["architecture"].tolist() == run["ModelId"].tolist()
        assert own["predicted"].to_numpy() == pytest.approx(run["predicted"].to_numpy(), abs=1e-12)


def test_the_eleven_splits_are_the_default(published_path: Path) -> None:
    """The mean of violations over them is the mean of the splits' own; a forest of one size beats a line."""
    table = evaluate({"line": LinearRegression(), "forest": "Random Forest (N=25)"}, "naap440")
    found = predictions({"line": LinearRegression()}, "naap440")
    own = [metrics.violations(run["measured"], run["predicted"]) for _, run in found.groupby("split")]
    assert len(own) == 11
    assert table.set_index("estimator").loc["line", "violations"] == pytest.approx(np.mean(own))
    assert table["estimator"].iloc[0] == "forest"


def test_predictors_of_graphs_get_graphs(published_path: Path) -> None:
    """A neural predictor, and any that says so."""
    table = evaluate({"graph": tuned(n_epochs=2, width=8), "nodes": OutputSize()}, splits="paper")
    assert table["kendall_tau"].notna().all()


def test_seeds_are_set_and_averaged() -> None:
    """Two seeds give two different runs, and one row with their mean."""
    found = predictions("Random Forest (N=25)", (X, Y), splits=2, seeds=(1, 2))
    assert found.groupby("seed")["predicted"].sum().nunique() == 2
    assert len(evaluate("Random Forest (N=25)", (X, Y), splits=2, seeds=(1, 2))) == 1


def test_an_estimator_of_the_users_gets_the_seeds_too() -> None:
    """Its own random_state, and that within a pipeline, are those asked for, whatever it was made with."""
    forest = ExtraTreesRegressor(n_estimators=3, random_state=7)
    given = {"plain": forest, "piped": make_pipeline(StandardScaler(), forest)}
    found = predictions(given, (X, Y), splits=2, seeds=(1, 2)).groupby(["estimator", "split", "seed"])["predicted"]
    for name in given:
        values = {seed: found.get_group((name, 0, seed)).to_numpy() for seed in (1, 2)}
        assert not np.array_equal(values[1], values[2])
    mask = folds(60, 2)[0]
    train, test = (np.sort(np.flatnonzero(part)) for part in (~mask, mask))
    train, test = train[np.argsort(Y[train])], test[np.argsort(Y[test])]
    alone = ExtraTreesRegressor(n_estimators=3, random_state=2).fit(X[train], Y[train]).predict(X[test])
    assert np.array_equal(found.get_group(("plain", 0, 2)).to_numpy(), alone)
    assert forest.random_state == 7


@pytest.mark.parametrize(
    ("arguments", "message"), [({"seeds": ()}, "2 splits and 0 seeds"), ({"splits": {}}, "0 splits")]
)
def test_nothing_to_evaluate_is_said(arguments: dict, message: str) -> None:
    """Without a split or a seed there is no row."""
    with pytest.raises(ValueError, match=f"there is nothing to evaluate: {message}"):
        evaluate("Linear Regression", (X, Y), **{"splits": 2} | arguments)


def test_an_accuracy_that_is_not_finite_is_named() -> None:
    """An estimator without fit would else be scored on it."""
    with pytest.raises(ValueError, match=r"y is not finite at positions \[3\]"):
        evaluate("Linear Regression", (X, np.where(np.arange(60) == 3, np.nan, Y)), splits=2)


def test_an_estimator_is_never_fitted_itself() -> None:
    """Each split gets a copy."""
    given = FirstColumn()
    evaluate({"mine": given}, (X, Y), splits=3)
    assert not hasattr(given, "line")


def test_messages_say_what_is_wrong() -> None:
    """Unknown names, no predict, other shapes, wrong splits; an estimator's own error is named."""

    class Short(FirstColumn):
        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.zeros(3)

    class Broken(FirstColumn):
        def fit(self, X: np.ndarray, y: np.ndarray) -> None:
            raise RuntimeError("no")

    for call, message in (
        (lambda: evaluate("Forest", (X, Y)), "there is no algorithm 'Forest'"),
        (lambda: evaluate({"a": object()}, (X, Y)), "without predict"),
        (lambda: evaluate({}, (X, Y)), "no estimators"),
        (lambda: evaluate([FirstColumn(), FirstColumn()], (X, Y)), "two estimators are called"),
        (lambda: evaluate({"a": Short()}, (X, Y), splits=2), r"shape \(3,\)"),
        (lambda: evaluate("1-NN", "nix"), "there is no benchmark 'nix'; there are: naap440"),
        (lambda: evaluate("1-NN", (X, Y[:5])), "60 rows and y 5"),
        (lambda: evaluate("1-NN", (X, Y), splits="paper"), "splits is 'paper'"),
        (lambda: evaluate("1-NN", (X, Y), splits={"all": np.ones(60, bool)}), "True for the test rows"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(RuntimeError) as caught:
        evaluate({"mine": Broken()}, (X, Y), splits=2)
    assert caught.value.__notes__ == ["in estimator 'mine', split 0, seed 0"]


def test_constant_predictions_have_no_tau_and_half_of_the_violations() -> None:
    """As in the metrics."""

    class Constant(FirstColumn):
        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.zeros(len(X))

    row = evaluate({"constant": Constant()}, (X, Y), splits=5).iloc[0]
    assert np.isnan(row["kendall_tau"])
    assert row["violations"] == 12 * 11 / 4
    assert isinstance(row, pd.Series)
