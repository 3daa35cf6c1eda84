import pickle

import numpy as np
import pytest
import torch
from graphs_made import make_graphs
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score

from naaplib import metrics
from naaplib.architectures.dense_graphs import Graphs, stack
from naaplib.estimators.predictors.estimator import NeuralPredictor, fit_many
from naaplib.estimators.predictors.presets import faithful, tuned

SMALL = {"n_epochs": 20, "width": 8, "n_hidden": 8}
KINDS = ("gcn", "mlp", "cnn")


def learnable(n_archs: int = 60, seed: int = 0):
    """Graphs, and accuracies that follow from the first node's kind and the share of one kind among all."""
    graphs = make_graphs(n_archs, seed=seed, n_nodes=6)
    share = graphs.features[..., 0].sum(1) / graphs.mask.sum(1)
    y = 0.5 + 0.1 * share.numpy() + 0.2 * graphs.features[:, 0, 1].numpy()
    return graphs, y + np.random.default_rng(seed).normal(scale=0.003, size=n_archs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", ["standardised", "normal scores", "sigmoid"])
def test_what_follows_from_a_graph_is_learnt(kind: str, output: str) -> None:
    """The order of architectures never seen is found from sixty, whatever the target is turned into."""
    graphs, y = learnable()
    others, truth = learnable(seed=1)
    fitted = tuned(kind=kind, output=output, n_epochs=100).fit(graphs, y)
    assert metrics.kendall_tau(truth, fitted.predict(others)) > 0.6
    assert np.abs(fitted.predict(others) - truth).mean() < 0.04


@pytest.mark.parametrize("make", [faithful, tuned])
@pytest.mark.parametrize("kind", KINDS)
def test_many_are_the_loop_of_one(make, kind: str) -> None:
    """Training sets side by side give what each gives alone, but for rounding; in two stages too."""
    graphs, y = learnable()
    rng = np.random.default_rng(0)
    training = np.stack([rng.permutation(60)[:25] for _ in range(3)])
    for changes in ({}, {"classify_above": float(np.quantile(y, 0.3)), "classifier_learning_rate": 0.02}):
        predictor = make(kind=kind, **SMALL | changes | {"learning_rate": 1e-3})
        many = fit_many(predictor, graphs, targets=y, training=training, seeds=[4, 5, 6])
        for one, rows, seed in zip(many, training, [4, 5, 6], strict=True):
            alone = clone(predictor).set_params(seed=seed).fit(graphs[rows], y[rows])
            np.testing.assert_allclose(one.predict(graphs), alone.predict(graphs), rtol=1e-4)
            assert (one.keeps(graphs) == alone.keeps(graphs)).all()
        assert len({tuple(one.predict(graphs)) for one in many}) == 3
    with pytest.raises(AttributeError):
        _ = predictor.regressor_  # what was given is left as it was


def test_a_seed_decides_everything() -> None:
    """The same seed gives the same predictions, another seed others."""
    graphs, y = learnable(30)
    first, again, other = (tuned(**SMALL, seed=seed).fit(graphs, y).predict(graphs) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_prediction_of_the_tuned(kind: str) -> None:
    """Whether of the graphs trained on or of those asked about."""
    graphs, y = learnable(30)
    fitted = tuned(kind=kind, **SMALL).fit(graphs.trim(), y)
    np.testing.assert_allclose(fitted.predict(graphs.pad(11)), fitted.predict(graphs.trim()), rtol=1e-5)
    padded = tuned(kind=kind, **SMALL).fit(graphs.pad(11), y)
    np.testing.assert_allclose(padded.predict(graphs), fitted.predict(graphs), rtol=1e-4)


def test_the_faithful_wants_its_graphs_padded_alike() -> None:
    """As padded nodes count, other padding is an error that says what to do."""
    graphs, y = learnable(20)
    fitted = faithful(**SMALL).fit(graphs, y)
    with pytest.raises(ValueError, match=r"graphs have 9 nodes; this gcn was trained on 6: pad them alike"):
        fitted.predict(graphs.pad(9))


def test_two_stages_keep_what_the_classifier_says() -> None:
    """The rejected get one value, the mean of training rows below; the kept are ranked by the regressor."""
    graphs, y = learnable()
    threshold = float(np.median(y))
    fitted = tuned(n_epochs=100, classify_above=threshold).fit(graphs, y)
    keeps, predicted = fitted.keeps(graphs), fitted.predict(graphs)
    assert (keeps == (y > threshold)).mean() > 0.85
    assert set(predicted[~keeps]) == {y[y <= threshold].mean()}
    assert metrics.kendall_tau(y[keeps], predicted[keeps]) > 0.5
    assert tuned(**SMALL).fit(graphs, y).keeps(graphs).all()


def test_a_threshold_that_nothing_exceeds_is_an_error() -> None:
    """With the highest target there was."""
    graphs, y = learnable(20)
    with pytest.raises(
        ValueError, match=r"keeps fewer than two of its 20 training rows: classify_above=0.99 is too high"
    ):
        tuned(n_epochs=30, classify_above=0.99).fit(graphs, y)


def test_outputs_have_their_ranges() -> None:
    """Shifted accuracies are from 0.1 to 1, sigmoid ones from 0 to 1, losses not negative."""
    graphs, y = learnable(30)
    extreme = np.where(y > np.median(y), 1.0, 0.0)
    fast = SMALL | {"n_epochs": 60, "learning_rate": 0.05}
    shifted = tuned(output="shifted", **fast).fit(graphs, extreme).predict(graphs)
    assert 0.1 <= shifted.min() < shifted.max() == 1
    plain = tuned(output="sigmoid", **fast).fit(graphs, extreme).predict(graphs)
    assert 0 <= plain.min() < 0.1
    losses = tuned(output="loss", **fast | {"learning_rate": 0.01}, seed=1).fit(graphs, 5 * extreme).predict(graphs)
    assert 0 <= losses.min() < 3 < losses.max() < 7


def test_the_faithful_has_the_hyper_parameters_of_the_code() -> None:
    """Section IV-C, and what the code adds."""
    expected = {
        "kind": "gcn", "n_layers": 3, "width": 144, "n_hidden": 128, "head_relu": False, "normalisation": "symmetric",
        "masked": False, "output": "shifted", "classify_above": None, "dropout": 0.1, "penalty": 1e-3, "n_epochs": 300,
        "batch_size": 10, "learning_rate": 1e-4, "classifier_learning_rate": 2e-4, "horizon": 10_000, "seed": 7,
        "device": "cpu",
    }  # fmt: skip
    assert faithful(seed=7).get_params() == expected


def test_the_improved_has_no_activation_in_its_head() -> None:
    """The one before its parts were validated, which recorded searches use, has; all else is equal."""
    now, before = NeuralPredictor().get_params(), tuned().get_params()
    assert {name for name in now if now[name] != before[name]} == {"head_relu"}
    assert before["head_relu"]


def test_several_hidden_layers_are_fitted() -> None:
    """Given as a tuple, and cloned as such; one number is a tuple of one."""
    graphs, y = learnable(20)
    fitted = NeuralPredictor(**SMALL | {"n_hidden": (8, 4)}).fit(graphs, y)
    assert [kernel.shape[2] for kernel in list(fitted.regressor_.kernels)[-3:]] == [8, 4, 1]
    assert clone(fitted).n_hidden == (8, 4)
    single = NeuralPredictor(**SMALL).fit(graphs, y).predict(graphs)
    assert (NeuralPredictor(**SMALL | {"n_hidden": (8,)}).fit(graphs, y).predict(graphs) == single).all()


def test_predictors_are_scikit_learns() -> None:
    """They clone, pickle, and tell their score."""
    graphs, y = learnable(20)
    fitted = tuned(**SMALL).fit(graphs, y)
    assert clone(fitted).get_params() == fitted.get_params()
    assert (pickle.loads(pickle.dumps(fitted)).predict(graphs) == fitted.predict(graphs)).all()
    assert fitted.score(graphs, y) == pytest.approx(metrics.r2(y, fitted.predict(graphs)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "rnn"}, "kind is 'rnn'; it must be one of gcn, mlp, cnn"),
        ({"output": "rank"}, "output is 'rank'; it must be one of shifted, sigmoid, loss, standardised, normal scores"),
        ({"normalisation": "row"}, "normalisation is 'row'; it must be one of symmetric, none"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"width": 2.5}, "width is 2.5; it must be at least 1, and a whole number"),
        ({"n_hidden": (8, 0)}, r"n_hidden is \(8, 0\); it must be one whole number above 0, or several"),
        ({"n_hidden": ()}, r"n_hidden is \(\); it must be one whole number"),
        ({"n_epochs": 2.5}, "n_epochs is 2.5; it must be at least 1, and a whole number"),
        ({"horizon": 0}, "horizon is 0; it must be at least 1"),
        ({"learning_rate": -0.1}, "the learning rate is -0.1, the penalty 0.0; they must be finite numbers, above 0"),
        ({"learning_rate": np.nan}, "the learning rate is nan"),
        ({"penalty": -1.0}, "the penalty -1.0; they must be finite numbers"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must be in \[0, 1\)"),
        ({"output": "loss", "classify_above": 0.5}, "the worse of losses: predict minus the loss instead"),
    ],
)
def test_wrong_parameters_are_named(changes: dict, message: str) -> None:
    """When fitted, with what is allowed."""
    with pytest.raises(ValueError, match=message):
        NeuralPredictor(**changes).fit(*learnable(10))


def test_wrong_targets_are_named() -> None:
    """Too few, missing, percentages where fractions are meant, negative losses."""
    graphs, y = learnable(10)
    for targets, changes, message in (
        (y[:9], {}, r"targets must have shape \(10,\), one a graph; they have \(9,\)"),
        (np.where(y > 0.7, np.nan, y), {}, r"targets to train on are NaN or infinite"),
        (100 * y, {"output": "shifted"}, r"targets are accuracies in \[0, 1\]; they go from 49.\d+ to 7\d"),
        (-y, {"output": "loss"}, r"targets are losses of 0 or more; they go from -0\.\d+"),
    ):
        with pytest.raises(ValueError, match=message):
            tuned(**SMALL | changes).fit(graphs, targets)
    with pytest.raises(ValueError, match="there are no rows to train on"):
        tuned().fit(graphs[:0], [])


def test_other_graphs_than_trained_on_are_an_error() -> None:
    """With other features, or for a dense network with more nodes."""
    graphs, y = learnable(10)
    fitted = tuned(kind="mlp", **SMALL).fit(graphs, y)
    with pytest.raises(ValueError, match="graphs have 4 features a node; the predictor was trained on 3"):
        fitted.predict(make_graphs(3, n_features=4))
    small = tuned(kind="mlp", **SMALL).fit(graphs[graphs.mask.sum(1) < 4], y[graphs.mask.sum(1).numpy() < 4])
    with pytest.raises(ValueError, match="graphs have 5 nodes; this mlp was trained on 3 at most"):
        small.predict(graphs)


def test_training_sets_and_seeds_come_in_pairs() -> None:
    """Else an error with both."""
    graphs, y = learnable(10)
    with pytest.raises(ValueError, match=r"one set a seed; got \(2, 3\) and 3 seeds"):
        fit_many(tuned(), graphs, targets=y, training=[[0, 1, 2], [3, 4, 5]], seeds=[0, 1, 2])


def measured(n_archs: int = 30, unit: float = 1.0) -> tuple[Graphs, np.ndarray]:
    """Graphs with a column of 0 and 1, channels and multiply-accumulates as they are written down, times a unit."""
    rng = np.random.default_rng(0)
    features, targets = [], []
    for _ in range(n_archs):
        channels = rng.choice([16, 32, 64, 128, 256], 5)
        features.append(
            np.column_stack([np.eye(3)[rng.integers(0, 3, 5)], unit * channels, unit * 576.0 * channels**2])
        )
        targets.append(0.5 + 0.4 * np.tanh(np.log2(channels).mean() / 8))
    return stack(features, [np.eye(5, k=1)] * n_archs), np.array(targets)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e20])
def test_features_may_be_in_any_unit(kind: str, unit: float) -> None:
    """Predictions stay near the targets and do not depend on the unit, alone, side by side, and pickled."""
    (graphs, y), (plain, _) = measured(unit=unit), measured()
    predictor = tuned(kind=kind, **SMALL)
    fitted = predictor.fit(graphs[:20], y[:20])
    predicted = fitted.predict(graphs)
    assert 0.5 < predicted.min() < predicted.max() < 1
    assert (pickle.loads(pickle.dumps(fitted)).predict(graphs) == predicted).all()
    np.testing.assert_allclose(clone(predictor).fit(plain[:20], y[:20]).predict(plain), predicted, rtol=1e-3)
    training = np.array([np.arange(20), np.arange(29, 9, -1)])
    for one, rows in zip(
        fit_many(predictor, graphs, targets=y, training=training, seeds=[0, 0]), training, strict=True
    ):
        alone = clone(predictor).fit(graphs[rows], y[rows]).predict(graphs)
        np.testing.assert_allclose(one.predict(graphs), alone, rtol=1e-4)


def test_padding_is_not_scaled() -> None:
    """What is padded stays 0 where it counts, and predictions of the tuned do not depend on it."""
    graphs, y = measured(unit=10)
    for make, tolerance in ((tuned, 1e-5), (faithful, None)):
        fitted = make(**SMALL).fit(graphs.pad(8), y)
        assert not fitted._alike(graphs.pad(8)).features[:, 5:].any()
        if tolerance:
            np.testing.assert_allclose(fitted.predict(graphs), fitted.predict(graphs.pad(9)), rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{"learning_rate": 1e30}, {"n_epochs": 1, "learning_rate": 1e30},
                                     {"classify_above": 0.6, "classifier_learning_rate": 1e30}])  # fmt: skip
def test_training_that_diverges_is_an_error(kind: str, changes: dict) -> None:
    """Of the first stage as of the second, after one step or many; with the rate."""
    with pytest.raises(FloatingPointError, match=r"not finite after training: it diverged\. Lower .* 1e\+30"):
        tuned(kind=kind, **SMALL | changes).fit(*learnable(10))


def test_a_fit_that_fails_leaves_the_last_one() -> None:
    """Both stages are those of the fit before."""
    graphs, y = learnable(12)
    fitted = tuned(**SMALL, classify_above=0.3).fit(graphs, y)
    expected = fitted.predict(graphs), fitted.classifier_
    with pytest.raises(FloatingPointError, match="it diverged"):
        fitted.set_params(learning_rate=1e30).fit(graphs, y + 0.1)
    assert (fitted.predict(graphs) == expected[0]).all() and fitted.classifier_ is expected[1]


def test_what_is_not_finite_is_not_predicted() -> None:
    """Features that are NaN, in training or in what is asked, are named; graphs that no set trains on may have them."""
    graphs, y = learnable(10)
    spoilt = Graphs(graphs.features.clone(), graphs.adjacency, graphs.mask)
    spoilt.features[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="features of nodes must be finite"):
        tuned(**SMALL).fit(spoilt, y)
    fitted = fit_many(tuned(**SMALL), spoilt, targets=y, training=[[0, 1, 2, 4]], seeds=[0])[0]
    with pytest.raises(FloatingPointError, match="what is predicted of 1 of 10 graphs is not finite"):
        fitted.predict(spoilt)


@pytest.mark.parametrize("kind", KINDS)
def test_torchs_state_is_of_no_effect(kind: str) -> None:
    """Bit for bit: without gradients, in inference mode, with another default dtype or device."""
    graphs, y = learnable(12)
    predictor = tuned(kind=kind, **SMALL | {"n_epochs": 3}, classify_above=0.3)
    expected = clone(predictor).fit(graphs, y).predict(graphs)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            made, _ = learnable(12)
            fitted = clone(predictor).fit(made, y)
            assert (fitted.predict(made) == expected).all()
        assert (fitted.predict(made) == expected).all()
        assert (clone(predictor).fit(made, y).predict(made) == expected).all()
    for change, default in ((torch.set_default_dtype, torch.float64), (torch.set_default_device, "meta")):
        before = torch.get_default_dtype()
        change(default)
        try:
            found = clone(predictor).fit(graphs, y).predict(graphs)
        finally:
            torch.set_default_dtype(before)
            torch.set_default_device(None)
        assert (found == expected).all()


def test_scikit_learn_splits_and_searches() -> None:
    """Cross-validation gives what fits on the folds give; a grid search chooses, and refits on graphs."""
    graphs, y = learnable(12)
    predictor = tuned(**SMALL | {"n_epochs": 3})
    found = cross_val_predict(predictor, graphs, y, cv=KFold(3))
    for train, held in KFold(3).split(graphs):
        assert (found[held] == clone(predictor).fit(graphs[train], y[train]).predict(graphs[held])).all()
    assert np.isfinite(cross_val_score(predictor, graphs, y, cv=3, error_score="raise")).all()
    search = GridSearchCV(predictor, {"width": [3, 4]}, cv=3, error_score="raise").fit(graphs, y)
    assert search.best_params_["width"] in (3, 4)
    assert search.predict(graphs).shape == (12,)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int64"])
def test_training_sets_are_positions_of_any_integer_type(kind: str) -> None:
    """Side by side as alone; truth values and fractions are refused."""
    graphs, y = learnable(12)
    predictor, rows = tuned(**SMALL | {"n_epochs": 2}), np.array([[3, 0, 7], [1, 2, 11]], dtype=kind)
    expected = fit_many(predictor, graphs, targets=y, training=rows.tolist(), seeds=[0, 1])
    found = fit_many(predictor, graphs, targets=y, training=rows, seeds=np.array([0, 1], kind))
    assert all((one.predict(graphs) == two.predict(graphs)).all() for one, two in zip(found, expected, strict=True))
    for wrong in (rows.astype(float), rows > 1):
        with pytest.raises(ValueError, match=r"training must be \(n_sets, n_train\) positions, one set a seed; got"):
            fit_many(predictor, graphs, targets=y, training=wrong, seeds=[0, 1])
    with pytest.raises(ValueError, match="seeds must be whole numbers, one a set, not None"):
        fit_many(predictor, graphs, targets=y, training=rows, seeds=[0, None])


def test_no_seed_is_another_one_each_time() -> None:
    """As in scikit-learn."""
    graphs, y = learnable(12)
    predictor = tuned(**SMALL, seed=None)
    first, second = (clone(predictor).fit(graphs, y).predict(graphs) for _ in range(2))
    assert (first != second).any()


def test_devices_have_the_names_that_they_have_elsewhere() -> None:
    """A predictor is asked on another device than it was trained on; "auto" is one that is there."""
    graphs, y = learnable(12)
    fitted = tuned(**SMALL, device="auto").fit(graphs, y)
    assert {parameter.device.type for parameter in fitted.regressor_.parameters()} == {"cpu"}
    expected = tuned(**SMALL).fit(graphs, y).predict(graphs)
    np.testing.assert_allclose(fitted.set_params(device="cpu").predict(graphs), expected, atol=1e-3)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device is 'cuda', but torch finds no GPU here: use 'auto' or 'cpu'"):
            fitted.set_params(device="cuda").predict(graphs)
