import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from graphs_made import make_graphs

from naaplib import metrics
from naaplib.architectures.dense_graphs import Graphs
from naaplib.estimators.predictors import runs
from naaplib.estimators.predictors.estimator import fit_many
from naaplib.estimators.predictors.presets import tuned
from naaplib.estimators.predictors.runs import choose, cross_validate, predict_many

SMALL = {"n_epochs": 3, "width": 4, "n_hidden": 4}
GRAPHS = make_graphs(40)
TARGETS = GRAPHS.mask.sum(1).numpy() / 10 + np.random.default_rng(0).random(40) / 50
TRAINING = np.stack([np.random.default_rng(seed).permutation(40)[:12] for seed in range(13)])
SEEDS = list(range(13))


def test_pieces_are_what_training_side_by_side_gives() -> None:
    """Thirteen sets are three pieces; all architectures, or those asked for of each set."""
    predictor = tuned(**SMALL)
    found = predict_many(predictor, GRAPHS, targets=TARGETS, training=TRAINING, seeds=SEEDS)
    fitted = fit_many(predictor, GRAPHS, targets=TARGETS, training=TRAINING, seeds=SEEDS)
    np.testing.assert_allclose(found, [one.predict(GRAPHS) for one in fitted], rtol=1e-6)
    asked = TRAINING[:, :3]
    some = predict_many(predictor, GRAPHS, targets=TARGETS, training=TRAINING, seeds=SEEDS, asked=asked)
    np.testing.assert_allclose(some, np.take_along_axis(found, asked, 1), rtol=1e-6)


def test_what_is_there_is_not_computed_again(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor with more processes; a piece that is missing is, and only it; another training set is another piece."""
    one, settings = tuned(**SMALL), {"targets": TARGETS, "training": TRAINING, "seeds": SEEDS, "folder": tmp_path}
    first = predict_many(one, GRAPHS, **settings)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    calls = []

    def counted(*given, **named):
        calls.append(len(named["training"]))
        return fit_many(*given, **named)

    monkeypatch.setattr(runs, "fit_many", counted)
    assert (predict_many(one, GRAPHS, **settings) == first).all()
    assert calls == []
    files[0].unlink()
    assert (predict_many(one, GRAPHS, **settings) == first).all()
    assert len(calls) == 1
    predict_many(one, GRAPHS, **settings | {"training": TRAINING[:, ::-1]})
    predict_many(tuned(**SMALL | {"width": 5}), GRAPHS, **settings)
    predict_many(one, GRAPHS.pad(9), **settings)
    assert len(sorted(tmp_path.iterdir())) == 12


def test_the_number_of_processes_changes_nothing() -> None:
    """Digit for digit."""
    one, settings = tuned(**SMALL), {"targets": TARGETS, "training": TRAINING, "seeds": SEEDS}
    assert (predict_many(one, GRAPHS, **settings) == predict_many(one, GRAPHS, **settings, n_jobs=2)).all()


def test_folds_are_of_training_rows_only() -> None:
    """The tau of a candidate is that of a loop over folds; targets of rows outside the training sets are never read."""
    predictor = tuned(**SMALL)
    hidden = np.where(np.isin(np.arange(40), TRAINING[0]), TARGETS, np.nan)
    table = cross_validate({"small": (GRAPHS, predictor)}, hidden, training=TRAINING[:1], seeds=[5], n_folds=3)
    taus = []
    for fold in range(3):
        held = TRAINING[0, 4 * fold : 4 * fold + 4]
        rows = np.array([row for row in TRAINING[0] if row not in held])
        fitted = fit_many(predictor, GRAPHS, targets=hidden, training=rows[None], seeds=[5])[0]
        taus.append(metrics.kendall_tau(hidden[held], fitted.predict(GRAPHS[held])))
    assert table.to_dict("list") == {"set": [0], "candidate": ["small"], "kendall_tau": [pytest.approx(np.mean(taus))]}


def test_the_best_candidate_of_each_set_is_chosen() -> None:
    """Of equals the first in the table."""
    table = pd.DataFrame({"set": [0, 1, 0, 1], "candidate": list("bbaa"), "kendall_tau": [0.5, 0.2, 0.5, 0.3]})
    assert choose(table).to_dict() == {0: "b", 1: "a"}


def test_too_few_rows_and_seeds_are_errors() -> None:
    """With what there was."""
    with pytest.raises(ValueError, match="12 training rows cannot be cut into 7 folds of two rows or more"):
        cross_validate({}, TARGETS, training=TRAINING, seeds=SEEDS, n_folds=7)
    with pytest.raises(ValueError, match="there are 13 training sets and 2 seeds"):
        predict_many(tuned(), GRAPHS, targets=TARGETS, training=TRAINING, seeds=[1, 2])


def test_pieces_of_another_device_are_other_pieces(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the CPU have the name that they always had; "auto" is the device that it stands for."""
    graphs, predictor = make_graphs(60, n_nodes=6), tuned(n_epochs=2)
    named = {"targets": np.linspace(0, 1, 60), "training": np.arange(40).reshape(4, 10), "seeds": [0, 1, 2, 3]}
    for device in ("cpu", "auto"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        predict_many(tuned(n_epochs=2, device=device), graphs, **named, folder=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["e4db0964da32ed1a766b95a0.npy"]
    on_cpu = runs._mark(predictor, graphs)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    marks = {runs._mark(predictor.set_params(device=device), graphs) for device in ("cuda", "auto", "cuda:0")}
    assert len(marks) == 1 and on_cpu not in marks


def test_pieces_of_features_that_are_scaled_are_other_pieces() -> None:
    """Than those that were made before features were brought to scale, which bore the plain digest."""
    large = Graphs(GRAPHS.features * 100, GRAPHS.adjacency, GRAPHS.mask)
    numbers = {name: value for name, value in tuned().get_params().items() if name not in ("seed", "device")}
    for graphs, is_plain in ((GRAPHS, True), (large, False)):
        digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode())
        for tensor in (graphs.features, graphs.adjacency, graphs.mask):
            digest.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
        assert (runs._mark(tuned(), graphs) == digest.hexdigest()) == is_plain
