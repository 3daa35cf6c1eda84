"""scikit-learn's protocol, held by its own checks, for each estimator that claims it."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from naaplib.architectures.dense_graphs import Graphs, stack
from naaplib.estimators import learning_curves, regressors
from naaplib.estimators.candidates import ArdGaussianProcess, candidates
from naaplib.estimators.predictors.estimator import NeuralPredictor
from naaplib.estimators.predictors.networks import one_node

RNG = np.random.default_rng(0)
X = RNG.random((40, 3))
Y = 0.5 + 0.1 * X @ [1.0, -1.0, 0.5]
SMALL = {"width": 16, "n_hidden": 16, "n_epochs": 15, "learning_rate": 0.03}
NEURAL = [NeuralPredictor(kind=kind, **SMALL) for kind in ("gcn", "mlp")]


ROUNDING = "float32: sums of one row are rounded otherwise than those of many"


def expected_failures(estimator: BaseEstimator) -> dict[str, str]:
    """Checks that cannot pass, or only on some processors, with the reason."""
    if not isinstance(estimator, NeuralPredictor):
        return {}
    return dict.fromkeys(["check_methods_subset_invariance", "check_methods_sample_order_invariance"], ROUNDING)


@parametrize_with_checks([ArdGaussianProcess(), *NEURAL], expected_failed_checks=expected_failures)
def test_an_estimator_passes_the_checks_of_scikit_learn(estimator: BaseEstimator, check: Any) -> None:
    """All but the expected; predictors of graphs take the checks' arrays as graphs of one node."""
    check(estimator)


def all_estimators() -> dict[str, BaseEstimator]:
    """Estimators of the library by name, those made of scikit-learn's too."""
    found = {type(one).__name__ + getattr(one, "kind", ""): one for one in (ArdGaussianProcess(), *NEURAL)}
    found |= {name: regressors.make(name, seed=0) for name in regressors.ALGORITHMS if "00" not in name}
    found |= {name: next(iter(settings.values())) for name, settings in candidates(0).items() if "trees" not in name}
    return found | {"support vectors": learning_curves.support_vector(n_folds=3)}


@pytest.mark.parametrize("name", all_estimators())
def test_an_estimator_can_be_cloned_and_pickled(name: str) -> None:
    """A clone fits to the same predictions; so does what pickle makes of a fitted one."""
    first = clone(all_estimators()[name]).fit(X, Y)
    again = clone(first).fit(X, Y)
    np.testing.assert_array_equal(again.predict(X), first.predict(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).predict(X), first.predict(X))


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (ArdGaussianProcess(), {"kernel": ["RBF", "Matern 5/2"]}),
        (NeuralPredictor(**SMALL), {"width": [4, 16], "output": ["standardised", "normal scores"]}),
        (make_pipeline(StandardScaler(), NeuralPredictor(**SMALL)), {"neuralpredictor__width": [4, 16]}),
    ],
)
def test_hyperparameters_can_be_searched(estimator: BaseEstimator, grid: dict[str, Any]) -> None:
    """By scikit-learn's grid search, in whose folds the best setting has learnt something."""
    search = GridSearchCV(estimator, grid, cv=3).fit(X, Y)
    assert search.best_score_ > 0.2
    assert search.predict(X).shape == (40,)


def test_graphs_are_split_as_arrays_are() -> None:
    """Cross-validation of graphs of one node is that of the table that they are."""
    graphs = one_node(X)
    assert isinstance(graphs, Graphs)
    of_graphs, of_table = (cross_val_predict(NeuralPredictor(**SMALL), one, Y, cv=3) for one in (graphs, X))
    np.testing.assert_array_equal(of_graphs, of_table)
    same = stack([[row] for row in X], np.zeros((40, 1, 1)))
    assert all(torch.equal(getattr(graphs, name), getattr(same, name)) for name in ("features", "adjacency", "mask"))


def test_two_stages_scale_features_once() -> None:
    """What the classifier rejects gets one value, with features in any unit, and equals what it accepts in another."""
    predictor = NeuralPredictor(classify_above=0.5, **SMALL | {"n_epochs": 40})
    large = 1000 * X + 5000
    predictor.fit(large, Y)
    is_kept = predictor.keeps(large)
    assert 0 < is_kept.sum() < len(Y)
    np.testing.assert_array_equal(predictor.predict(large) == predictor.rejected_, ~is_kept)
    assert ((Y > 0.5) == is_kept).mean() > 0.8
