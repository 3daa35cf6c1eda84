import numpy as np
import pandas as pd
import pytest
from graphs_made import make_graphs
from sklearn.base import clone

from naaplib import sources
from naaplib.architectures import graphs
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.estimators.predictors.estimator import NeuralPredictor
from naaplib.estimators.predictors.presets import faithful, tuned
from naaplib.studies.neural_predictor import tasks
from naaplib.studies.neural_predictor.tasks import FAITHFUL, MEAN, TUNED, TWO_STAGE, System, Task
from naaplib.tables import graph_benchmarks, naap440, nasbench201

MADE = sources.ROOT / "tests" / "data"
SMALL = {"n_epochs": 40, "width": 8, "n_hidden": 8, "dropout": 0.0, "batch_size": 8, "learning_rate": 1e-2}
EPOCHS = (3, 2)


def make_task(**changes: object) -> Task:
    """Two encodings of 40 architectures; the first tells the targets of the first half, the second of the other."""
    rng = np.random.default_rng(0)
    numbers, is_first = rng.random((2, 40)), np.arange(40) < 20
    first, second = (graphs.stack([[[x], [x]] for x in row], [np.eye(2, k=1)] * 40) for row in numbers)
    worth = np.where(is_first, *numbers)
    order = np.stack([np.arange(40), np.roll(np.arange(40), -20)])
    given = {
        "name": "made", "targets": worth, "judged": worth, "distinct": np.arange(40).astype(object),
        "order": order, "n_train": 16, "n_validation": 2, "scale": 100, "features": {"worth": worth},
        "published": {"plain": (first, tuned(**SMALL))},
        "chosen": {"choice": {"first": (first, tuned(**SMALL)), "second": (second, tuned(**SMALL))}},
    }  # fmt: skip
    return Task(**given | changes)


def alone(system: System, task: Task, number: int) -> np.ndarray:
    """Slow twin: one predictor, trained on one set with that set's number for its seed."""
    seen, predictor = system
    rows = task.training[number]
    return clone(predictor).set_params(seed=number).fit(seen[rows], task.targets[rows]).predict(seen)


def settings(predictor: NeuralPredictor) -> dict[str, object]:
    """What differs from the faithful predictor."""
    usual = faithful().get_params()
    return {name: value for name, value in predictor.get_params().items() if value != usual[name]}


def same(one: graphs.Graphs, other: graphs.Graphs) -> bool:
    """Whether graphs are equal, padding included."""
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(a.shape == b.shape and bool((a == b).all()) for a, b in pairs)


def cells_made() -> pd.DataFrame:
    """Sixty cells."""
    return pd.read_csv(MADE / "nasbench201-runs-made.csv")


def test_parts_are_cut_from_the_order() -> None:
    """The first rows of each split are trained on, in that order; the next validate, the others test."""
    task = make_task(order=np.array([[3, 0, 2, 1, 4]]), n_train=2, n_validation=1)
    assert task.training.tolist() == [[3, 0]]
    assert {name: mask.tolist() for name, mask in task.parts.items()} == {
        "train": [[True, False, False, True, False]],
        "validation": [[False, False, True, False, False]],
        "test": [[False, True, False, False, True]],
    }


def test_every_system_is_trained_on_every_set() -> None:
    """Baselines first; each as if trained alone, seeded by the set's number."""
    task = make_task(chosen={})
    found, validated = tasks.run(task, 2, folder=None, n_jobs=1)
    assert list(found) == [MEAN, "line on worth", "plain"]
    means = [[task.targets[:16].mean()] * 40, [task.targets[20:36].mean()] * 40]
    np.testing.assert_allclose(found[MEAN], means)
    np.testing.assert_allclose(found["line on worth"], [task.targets] * 2)
    expected = [alone(task.published["plain"], task, number) for number in (0, 1)]
    np.testing.assert_allclose(found["plain"], expected, rtol=1e-5)
    assert list(validated) == ["system", "set", "candidate", "kendall_tau", "chosen"]
    assert len(validated) == 0


def test_each_set_chooses_its_candidate() -> None:
    """The one that tells more of the set's own held-out rows, which it then is trained on with the set's number."""
    task = make_task()
    found, validated = tasks.run(task, 2, folder=None, n_jobs=1)
    choices = validated[validated["chosen"]]
    assert choices[["system", "set", "candidate"]].sort_values("set").to_numpy().tolist() == [
        ["choice", 0, "first"],
        ["choice", 1, "second"],
    ]
    tau = validated.set_index(["set", "candidate"])["kendall_tau"]
    assert tau[0, "first"] > tau[0, "second"] + 0.1
    assert tau[1, "second"] > tau[1, "first"] + 0.1
    candidates = task.chosen["choice"]
    expected = [alone(candidates["first"], task, 0), alone(candidates["second"], task, 1)]
    np.testing.assert_allclose(found["choice"], expected, rtol=1e-5)


@pytest.mark.parametrize("part", ["published", "chosen"])
def test_the_device_asked_for_is_where_all_systems_are_trained(part: str) -> None:
    """A name that no device has is refused; what the task holds is left as it is."""
    task = make_task(**{"published": {}, "chosen": {}} | {part: getattr(make_task(), part)})
    with pytest.raises(ValueError, match="torch knows no device 'made-up'"):
        tasks.run(task, 2, folder=None, n_jobs=1, device="made-up")
    assert len(tasks.run(task, 2, folder=None, n_jobs=1, device="cpu")[0]) == 3


def test_choices_do_not_see_what_is_held_out() -> None:
    """Other targets and other worth outside the training sets change no prediction and no choice."""
    task = make_task()
    outside = ~task.parts["train"].any(0)
    other = make_task(targets=np.where(outside, 0.9, task.targets), judged=1 - task.judged)
    (found, validated), (again, repeated) = (tasks.run(one, 2, folder=None, n_jobs=1) for one in (task, other))
    assert outside.sum() == 8
    assert all((again[name] == values).all() for name, values in found.items())
    assert repeated.to_dict("list") == validated.to_dict("list")


def test_candidates_are_encodings_by_outputs() -> None:
    """Tuned predictors of the kind asked for."""
    first, second = make_graphs(3), make_graphs(4)
    found = tasks.candidates({"a": first, "b": second}, "mlp", n_epochs=7)
    assert [(name, len(seen)) for name, (seen, _) in found.items()] == [
        ("a, standardised", 3), ("a, normal scores", 3), ("b, standardised", 4), ("b, normal scores", 4)
    ]  # fmt: skip
    assert all(
        predictor.get_params() == tuned(kind="mlp", output=name[3:], n_epochs=7).get_params()
        for name, (_, predictor) in found.items()
    )


def test_naap440_has_its_eleven_splits() -> None:
    """Each row of the table is a test row of one; training rows are shuffled, and differ in order between splits."""
    table = naap440.read(MADE / "naap440-made.csv")
    schemes = [enumerate_schemes()[i - 1] for i in table["ModelId"]]
    task = tasks.of_naap440(table, schemes, n_epochs=EPOCHS)
    assert task.parts["test"].tolist() == [mask.tolist() for mask in naap440.splits(table).values()]
    assert task.parts["test"].sum(0).tolist() == [1] * 220
    assert not task.parts["validation"].any()
    assert (np.sort(task.order, axis=1) == np.arange(220)).all()
    assert task.training.shape == (11, 200)
    assert not any((np.diff(row) > 0).all() for row in task.training)
    assert (task.targets == table["MaxAccuracy"]).all()
    assert (task.judged == task.targets).all()
    np.testing.assert_allclose(task.features["log MACs"], np.log(table["NumMACs"]))
    np.testing.assert_allclose(task.features["log parameters"], np.log(table["NumParams"]))
    seen, predictor = task.published[FAITHFUL]
    assert same(seen, graphs.of_schemes(schemes))
    assert settings(predictor) == {"n_epochs": 3}
    assert {name: one.n_epochs for name, (_, one) in task.chosen[TUNED].items()} == {
        "chain with skips, standardised": 2,
        "chain with skips, normal scores": 2,
    }
    tied = table.assign(MaxAccuracy=table["MaxAccuracy"].round(2))  # so many equal ones that their order matters
    masks = np.stack(list(naap440.splits(tied).values()))
    assert (tasks.of_naap440(tied, schemes, n_epochs=EPOCHS).parts["test"] == masks).all()
    assert (np.stack(list(naap440.splits(tied, ties="ModelId").values())) != masks).any()
    with pytest.raises(ValueError, match="the table has 219 rows; splits need a multiple of 11"):
        tasks.of_naap440(table[1:], schemes[1:], n_epochs=EPOCHS)


def test_accuracies_keep_the_order_of_the_table() -> None:
    """One row a cell, one column for each number of epochs and kind of runs; other data sets are left out."""
    rows = [
        ("b", "CIFAR-10", 200, "mean", 0.9), ("b", "CIFAR-10", 12, "single", 0.5), ("a", "CIFAR-10", 12, "single", 0.4),
        ("b", "CIFAR-100", 200, "mean", 0.1), ("a", "CIFAR-10", 200, "mean", 0.8),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["architecture", "dataset", "epochs", "runs", "accuracy"])
    found = nasbench201.accuracies(table)
    assert found.index.tolist() == ["b", "a"]
    assert {name: values.tolist() for name, values in found.items()} == {
        (12, "single"): [0.5, 0.4],
        (200, "mean"): [0.9, 0.8],
    }
    assert nasbench201.accuracies(table, "CIFAR-100").to_numpy().tolist() == [[0.1]]


def test_nasbench201_is_trained_on_single_trainings_and_judged_by_means() -> None:
    """Cells in the table's order, also of a table whose rows are shuffled; no row validates."""
    table = cells_made()
    shuffled = table.sample(frac=1, random_state=0)
    for one in (table, shuffled):
        task = tasks.of_nasbench201(one, 12, n_sets=3, n_epochs=EPOCHS, seed=4)
        by_cell = one.set_index(["architecture", "epochs", "runs"])
        cells = list(dict.fromkeys(one["architecture"]))
        assert task.targets.tolist() == [by_cell.loc[(cell, 200, "single"), "accuracy"] for cell in cells]
        assert task.judged.tolist() == [by_cell.loc[(cell, 200, "mean"), "accuracy"] for cell in cells]
        early = [by_cell.loc[(cell, 12, "single"), "accuracy"] for cell in cells]
        assert task.features["accuracy after 12 epochs"].tolist() == early
        assert task.distinct.tolist() == [by_cell.loc[(cell, 200, "mean"), "distinct"] for cell in cells]
    assert task.order.shape == (3, 60)
    assert {name: mask.sum(1).tolist() for name, mask in task.parts.items()} == {
        "train": [12] * 3, "validation": [0] * 3, "test": [48] * 3
    }  # fmt: skip
    assert (tasks.of_nasbench201(shuffled, 12, n_sets=2, n_epochs=EPOCHS, seed=4).order == task.order[:2]).all()
    assert (tasks.of_nasbench201(shuffled, 12, n_sets=3, n_epochs=EPOCHS, seed=5).order != task.order).any()


def test_nasbench201_has_three_kinds_of_network() -> None:
    """Faithful ones read all operations; tuned ones those, or what lies on a path, from input to output."""
    task = tasks.of_nasbench201(cells_made(), 12, n_sets=1, n_epochs=EPOCHS)
    assert {name: settings(predictor) for name, (_, predictor) in task.published.items()} == {
        "GCN, faithful": {"n_epochs": 3},
        "MLP, faithful": {"n_epochs": 3, "kind": "mlp"},
        "CNN, faithful": {"n_epochs": 3, "kind": "cnn"},
    }
    assert {name: {one.kind for _, one in systems.values()} for name, systems in task.chosen.items()} == {
        "GCN, tuned": {"gcn"}, "MLP, tuned": {"mlp"}, "CNN, tuned": {"cnn"}
    }  # fmt: skip
    full = task.published[FAITHFUL][0]
    assert full.mask.sum(1).tolist() == [8] * 60
    choices = task.chosen[TUNED]
    assert {name: same(seen, full) for name, (seen, _) in choices.items()} == {
        "all operations, standardised": True, "all operations, normal scores": True,
        "operations on a path, standardised": False, "operations on a path, normal scores": False,
    }  # fmt: skip
    assert choices["operations on a path, normal scores"][0].mask[0].sum() == 2  # the first cell has no operation


def test_nasbench101_is_of_cells_drawn_uniformly() -> None:
    """Two of the sixty were not; the first stage keeps what exceeds the threshold."""
    table = graph_benchmarks.nasbench101(MADE / "nasbench101-made.csv")
    task = tasks.of_nasbench101(table, 20, n_validation=10, n_sets=2, n_epochs=EPOCHS, classify_above=0.9)
    kept = table[table["uniform"]]
    assert len(kept) == 58
    assert task.targets.tolist() == kept["accuracy"].tolist()
    assert task.distinct.tolist() == kept["distinct"].tolist()
    assert task.features["number of 3x3 convolutions"].tolist() == [
        text.split().count("c3") for text in kept["architecture"]
    ]
    assert {name: mask.sum(1).tolist() for name, mask in task.parts.items()} == {
        "train": [20, 20], "validation": [10, 10], "test": [28, 28]
    }  # fmt: skip
    assert {name: settings(predictor) for name, (_, predictor) in task.published.items()} == {
        FAITHFUL: {"n_epochs": 3},
        TWO_STAGE: {"n_epochs": 3, "classify_above": 0.9},
    }
    assert list(task.chosen[TUNED]) == ["all nodes, standardised", "all nodes, normal scores"]


@pytest.mark.parametrize(
    ("dataset", "name", "changes"),
    [
        ("CIFAR-100", "ProxylessNAS on CIFAR-100", {}),
        ("Oxford-IIIT Pet", "ProxylessNAS on Oxford Pet", {"output": "sigmoid"}),
    ],
)
def test_the_first_split_of_proxylessnas_is_by_position(dataset: str, name: str, changes: dict) -> None:
    """Others are random; accuracies below 10 % need an output that can say so; layers with a stride are counted."""
    table = graph_benchmarks.proxylessnas(MADE / "proxylessnas-made")
    task = tasks.of_proxylessnas(table, dataset, n_train=20, n_validation=10, n_sets=3, n_epochs=EPOCHS)
    part = table[table["dataset"] == dataset]
    assert task.name == name
    assert task.targets.tolist() == part["accuracy"].tolist()
    assert task.order[0].tolist() == list(range(40))
    assert (np.sort(task.order, axis=1) == np.arange(40)).all()
    assert len({tuple(row) for row in task.order.tolist()}) == 3
    assert tasks.of_proxylessnas(table, dataset, n_train=20, n_validation=10, n_sets=1).order.tolist() == [
        list(range(40))
    ]
    strided = [
        sum(code != "6" for layer, code in enumerate(text.split()) if 1 <= layer <= 12 or 17 <= layer <= 20)
        for text in part["architecture"]
    ]
    assert task.features["number of strided layers"].tolist() == strided
    seen, predictor = task.published[FAITHFUL]
    assert settings(predictor) == {"n_epochs": 3} | changes
    assert seen.mask.sum(1).tolist() == [22] * 40
    there = [sum(code != "6" for code in text.split()) for text in part["architecture"]]
    assert task.chosen[TUNED]["layers that are there, standardised"][0].mask.sum(1).tolist() == there


def recurrent_cells() -> pd.DataFrame:
    """Sixty runs, of which ten gave out, and one more that only says so."""
    table = graph_benchmarks.nasbench_nlp(MADE / "nasbenchnlp-made.jsonl")
    table.loc[table["model"] == 3000001, "status"] = "nan"
    return table


def test_runs_that_gave_out_are_left_out_of_nasbench_nlp() -> None:
    """Against a loop: last losses of runs that ended well, in the table's order, and their first ones."""
    table = recurrent_cells()
    runs = [run for _, run in table.groupby("model") if run["status"].iloc[0] == "OK"]
    task = tasks.of_nasbench_nlp(table, 20, n_validation=10, n_sets=2, n_epochs=EPOCHS)
    assert len(runs) == 49
    assert task.name == "NAS-Bench-NLP"
    assert task.scale == 1
    assert task.targets.tolist() == [run["validation_loss"].iloc[-1] for run in runs]
    assert task.judged.tolist() == task.targets.tolist()
    assert task.distinct.tolist() == [run["distinct"].iloc[0] for run in runs]
    assert task.features["loss after 1 epoch"].tolist() == [run["validation_loss"].iloc[0] for run in runs]
    np.testing.assert_allclose(task.features["log parameters"], [np.log(run["n_params"].iloc[0]) for run in runs])
    assert task.parts["test"].sum(1).tolist() == [19, 19]
    assert {name: settings(predictor) for name, (_, predictor) in task.published.items()} == {
        FAITHFUL: {"n_epochs": 3, "output": "loss"},
        "GCN, faithful, aligned": {"n_epochs": 3, "output": "loss"},
    }
    n_features = {name: seen.features.shape[2] for name, (seen, _) in task.published.items()}
    assert n_features == {FAITHFUL: 7, "GCN, faithful, aligned": 8}


def test_runs_that_gave_out_can_come_last() -> None:
    """With the highest loss that a run ended with; a first loss that is missing is the highest first one."""
    table = recurrent_cells()
    task = tasks.of_nasbench_nlp(table, 20, n_validation=10, n_sets=2, n_epochs=EPOCHS, diverged=True)
    runs = [run for _, run in table.groupby("model")]
    ended = [run["validation_loss"].iloc[-1] if run["status"].iloc[0] == "OK" else None for run in runs]
    worst = max(loss for loss in ended if loss is not None)
    assert task.name == "NAS-Bench-NLP, diverged last"
    assert task.targets.tolist() == [worst if loss is None else loss for loss in ended]
    assert sum(loss is None for loss in ended) == 11
    first = [run["validation_loss"].iloc[0] for run in runs]
    highest = max(loss for loss in first if loss == loss)
    assert task.features["loss after 1 epoch"].tolist() == [loss if loss == loss else highest for loss in first]
    assert dict(task.published) == {}
    assert list(task.chosen[TUNED]) == ["aligned, standardised", "aligned, normal scores"]
    assert len(task.chosen[TUNED]["aligned, standardised"][0]) == 60
