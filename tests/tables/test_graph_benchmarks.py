"""Tables for neural predictors: faulty files named by place, made files by hand, then the published numbers."""

import ast
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib import sources
from naaplib.tables import derived, graph_benchmarks

MADE = sources.ROOT / "tests" / "data"
TIDY = ["architecture", "distinct", "dataset", "epochs", "runs"]
CELLS = """source,index,module_hash,n_vertices,n_edges,adj_upper_bits,ops,acc_pct
2500,0,aa,2,1,1,in out,80.0
20,0,ab,3,2,101,in c3 out,94.02041
"""
RUN = {
    "id": 7, "params": 1000, "status": "OK", "sec_per_epoch": 1.5, "recipe": [["h_new_0", "linear", ["x", "h_prev_0"]]],
    "val": [5.5, 5.25], "test": [5.4, 5.2],
}  # fmt: skip
LAYERS = (6, *range(6), *[0] * 15)


def cells_file(folder: Path, text: str) -> Path:
    """A file of NAS-Bench-101 cells."""
    path = folder / "cells.csv"
    path.write_text(text)
    return path


def runs_file(folder: Path, *runs: dict) -> Path:
    """A file of NAS-Bench-NLP runs."""
    path = folder / "runs.jsonl"
    path.write_text("".join(json.dumps(run) + "\n" for run in runs))
    return path


def networks_folder(folder: Path, *items: object) -> Path:
    """A folder whose three files of ProxylessNAS networks hold the same."""
    array = np.empty(len(items), object)
    array[:] = items
    for name in graph_benchmarks.PROXYLESSNAS.values():
        np.save(folder / Path(name).name, array)
    return folder


def test_cells_of_nasbench101_by_hand(tmp_path: Path) -> None:
    """Bits keep their zeros and ones as text, percent become a fraction, the source becomes a truth value."""
    table = graph_benchmarks.nasbench101(cells_file(tmp_path, CELLS))
    assert list(table) == [*TIDY, "accuracy", "uniform"]
    assert table.to_numpy().tolist() == [
        ["1 in out", "aa", "CIFAR-10", 108, "single", 0.8, True],
        ["101 in c3 out", "ab", "CIFAR-10", 108, "single", 0.940204, False],
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("101,in", "1010,in", "row 2, has not one bit for each pair of ops"),
        ("80.0", "100.5", "row 1, has an accuracy that is no percentage"),
        ("80.0", "", "row 1, has an accuracy that is no percentage"),
        ("ab", "aa", "row 2, has a cell that was there before"),
        ("ops", "operations", r"has no columns \['ops'\]; it has \['source', 'index'"),
    ],
)
def test_a_faulty_cell_of_nasbench101_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    """File, row and what is wrong with it."""
    path = cells_file(tmp_path, CELLS.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"{path},? {message}"):
        graph_benchmarks.nasbench101(path)


def test_networks_of_proxylessnas_by_hand(tmp_path: Path) -> None:
    """Three sets one after the other; NumPy's numbers and Python's alike; single precision leaves no trace."""
    first = {"arch": tuple(np.int64(layer) for layer in LAYERS), "val_acc": float(np.float32(0.1664)), "test_acc": 0.0}
    second = {"arch": [0] * 22, "val_acc": np.float64(1)}
    table = graph_benchmarks.proxylessnas(networks_folder(tmp_path, first, second))
    assert list(table) == [*TIDY, "accuracy"]
    assert table["dataset"].tolist() == [name for name in graph_benchmarks.PROXYLESSNAS for _ in range(2)]
    assert table["architecture"].tolist() == [" ".join(map(str, LAYERS)), " ".join(["0"] * 22)] * 3
    assert table["accuracy"].tolist() == [0.1664, 1.0] * 3
    assert table["distinct"].equals(table["architecture"].rename("distinct"))
    assert (table["epochs"] == 90).all()
    assert (table["runs"] == "single").all()


@pytest.mark.parametrize(
    "item",
    [
        {"arch": LAYERS[1:], "val_acc": 0.5},
        {"arch": (7, *LAYERS[1:]), "val_acc": 0.5},
        {"arch": LAYERS, "val_acc": 50.0},
        {"arch": LAYERS, "val_acc": float("nan")},
        {"arch": LAYERS},
        [LAYERS, 0.5],
        None,
    ],
)
def test_a_faulty_network_of_proxylessnas_is_named(item: object, tmp_path: Path) -> None:
    """File, position from one, and what must be there."""
    networks_folder(tmp_path, {"arch": LAYERS, "val_acc": 0.5}, item)
    with pytest.raises(ValueError, match=r"model_acc_cifar100\.npy, object 2, is .* it must have 'arch', 22 numbers"):
        graph_benchmarks.proxylessnas(tmp_path)


def test_runs_of_nasbench_nlp_by_hand(tmp_path: Path) -> None:
    """A run that lasted, one that gave out, one without a record: one row an epoch, and at least one row a run."""
    lost = RUN | {"id": 8, "status": "loss is nan!", "val": [6.0, None], "test": [5.9, None]}
    unrecorded = RUN | {
        "id": 9, "status": "Exception: math range error", "val": [], "test": [], "sec_per_epoch": None,
    }  # fmt: skip
    table = graph_benchmarks.nasbench_nlp(runs_file(tmp_path, RUN, lost, unrecorded))
    assert list(table) == [*TIDY, "validation_loss", "test_loss", "model", "status", "n_params", "seconds"]
    assert set(table["architecture"]) == {'[["h_new_0","linear",["x","h_prev_0"]]]'}
    assert len(set(table["distinct"])) == 1
    rows = table[["model", "status", "epochs", "validation_loss", "test_loss", "seconds"]].fillna(-1.0)
    assert rows.to_numpy().tolist() == [
        [7, "OK", 1, 5.5, 5.4, 1.5], [7, "OK", 2, 5.25, 5.2, 3.0],
        [8, "nan", 1, 6.0, 5.9, 1.5], [8, "nan", 2, -1.0, -1.0, 3.0],
        [9, "overflow", 1, -1.0, -1.0, -1.0],
    ]  # fmt: skip
    assert table.index.tolist() == [0, 1, 2, 3, 4]


def same_cell(folder: Path, *recipes: list) -> bool:
    """Whether recipes count as one cell."""
    runs = [RUN | {"id": i, "recipe": recipe} for i, recipe in enumerate(recipes)]
    return len(set(graph_benchmarks.nasbench_nlp(runs_file(folder, *runs))["distinct"])) == 1


def test_a_recipe_told_otherwise_is_the_same_cell(tmp_path: Path) -> None:
    """Other names of inner nodes, other order of nodes, of a linear map's inputs, of factors."""
    told = [
        ["a", "linear", ["x", "h_prev_0"]],
        ["b", "linear", ["a", "h_prev_0"]],
        ["c", "elementwise_prod", ["a", "b"]],
        ["h_new_0", "blend", ["a", "b", "c"]],
    ]
    otherwise = [
        ["h_new_0", "blend", ["h_new_0_gate", "n", "a"]],
        ["a", "elementwise_prod", ["n", "h_new_0_gate"]],
        ["h_new_0_gate", "linear", ["h_prev_0", "x"]],
        ["n", "linear", ["h_prev_0", "h_new_0_gate"]],
    ]
    assert same_cell(tmp_path, told, otherwise)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([["h_new_0", "activation_tanh", ["x"]]], [["h_new_0", "activation_sigm", ["x"]]]),
        ([["h_new_0", "activation_tanh", ["x"]]], [["h_new_0", "activation_tanh", ["h_prev_0"]]]),
        ([["h_new_0", "blend", ["x", "h_prev_0", "h_prev_1"]]], [["h_new_0", "blend", ["x", "h_prev_1", "h_prev_0"]]]),
        (
            [["h_new_0", "linear", ["x", "h_prev_0"]], ["h_new_1", "activation_tanh", ["x"]]],
            [["h_new_1", "linear", ["x", "h_prev_0"]], ["h_new_0", "activation_tanh", ["x"]]],
        ),
        (
            [["a", "linear", ["x"]], ["b", "linear", ["x"]], ["h_new_0", "elementwise_sum", ["a", "b"]]],
            [["a", "linear", ["x"]], ["b", "linear", ["x"]], ["h_new_0", "elementwise_sum", ["a", "a"]]],
        ),
    ],
    ids=["operation", "input", "order of a blend", "which state is new", "weights of their own or shared"],
)
def test_recipes_that_compute_otherwise_are_different_cells(one: list, other: list, tmp_path: Path) -> None:
    """One thing changed at a time."""
    assert not same_cell(tmp_path, one, other)


@pytest.mark.parametrize(
    "faulty",
    [
        json.dumps(RUN | {"status": "fine"}),
        json.dumps(RUN | {"recipe": [["h_new_0", "linear", ["h_new_0"]]]}),
        json.dumps(RUN | {"val": [5.0]}),
        json.dumps(RUN | {"val": None}),
        json.dumps(RUN | {"sec_per_epoch": "long"}),
        json.dumps({"id": 7}),
        json.dumps(RUN)[:-1],
        "[]",
    ],
)
def test_a_faulty_run_of_nasbench_nlp_is_named(faulty: str, tmp_path: Path) -> None:
    """File and line, whatever is wrong with it."""
    path = runs_file(tmp_path, RUN)
    path.write_text(path.read_text() + faulty)
    with pytest.raises(ValueError, match=f"{path}, line 2, is not a run of NAS-Bench-NLP"):
        graph_benchmarks.nasbench_nlp(path)


def test_a_compressed_file_of_runs_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    """Whole it is read; cut, or not compressed at all, it is refused in one line."""
    path = tmp_path / "runs.jsonl.gz"
    whole = gzip.compress((json.dumps(RUN) + "\n").encode())
    path.write_bytes(whole)
    assert len(graph_benchmarks.nasbench_nlp(path)) == 2
    for content in (whole[:-12], b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path} is cut short or not compressed"):
            graph_benchmarks.nasbench_nlp(path)


def test_made_files_have_the_shape_of_the_published_ones() -> None:
    """Read without complaint, with runs that gave out and accuracies that tie."""
    cells = graph_benchmarks.nasbench101(MADE / "nasbench101-made.csv")
    assert cells["architecture"].nunique() == len(cells) == 60
    networks = graph_benchmarks.proxylessnas(MADE / "proxylessnas-made")
    assert networks.groupby("dataset", sort=False).size().tolist() == [40, 40, 40]
    assert (networks.groupby("dataset")["accuracy"].nunique() < 40).all()
    runs = graph_benchmarks.nasbench_nlp(MADE / "nasbenchnlp-made.jsonl")
    assert runs.groupby("model")["status"].first().value_counts().to_dict() == {"OK": 50, "nan": 8, "overflow": 2}


def test_nasbench101_is_2520_different_cells(nasbench101: pd.DataFrame) -> None:
    """A row by hand, the share of cells with seven vertices near that of the whole space (.85), extremes."""
    assert len(nasbench101) == nasbench101["distinct"].nunique() == nasbench101["architecture"].nunique() == 2520
    assert nasbench101["uniform"].tolist() == [True] * 2500 + [False] * 20
    assert nasbench101.loc[0, ["architecture", "accuracy"]].tolist() == [
        "111000100011000100101 in mp c1 mp c3 c1 out", 0.907953,
    ]  # fmt: skip
    n_ops = nasbench101["architecture"].str.count(" ")
    assert n_ops.value_counts().to_dict() == {7: 2130, 6: 377, 5: 13}
    assert abs((n_ops[:2500] == 7).mean() - 359082 / 423624) < 0.02
    assert [nasbench101["accuracy"].min(), nasbench101["accuracy"].max()] == [0.10006, 0.940204]


def test_proxylessnas_is_the_three_sets(proxylessnas: pd.DataFrame) -> None:
    """Sizes, no network twice in a set, many accuracies equal, each a whole number of the images judged on."""
    sets = proxylessnas.groupby("dataset", sort=False)
    assert sets.size().to_dict() == {"CIFAR-100": 86, "Caltech-101": 288, "Oxford-IIIT Pet": 232}
    assert sets["architecture"].nunique().tolist() == [86, 288, 232]
    assert sets["accuracy"].nunique().tolist() == [70, 205, 66]
    assert proxylessnas.loc[0, "architecture"] == "1 1 0 5 6 5 5 6 6 2 6 4 1 4 1 0 5 1 6 1 1 0"
    assert proxylessnas.loc[[0, 86, 605], "accuracy"].tolist() == [0.1664, 0.249667, 0.083125]
    for n_images, (_, accuracy) in zip((5000, 3000, 1600), sets["accuracy"], strict=True):
        assert ((accuracy * n_images).round() / n_images - accuracy).abs().max() < 1e-6


def test_nasbench_nlp_is_all_runs_with_those_that_gave_out(nasbench_nlp: pd.DataFrame) -> None:
    """How runs ended and how many epochs they show; the oracle is the LSTM; where the numbers are missing."""
    runs = nasbench_nlp.groupby("model")
    assert runs["status"].first().value_counts().to_dict() == {"OK": 11598, "nan": 2645, "overflow": 79}
    assert runs["architecture"].first().nunique() == 14322
    last = runs.tail(1).set_index("model")
    assert (last.loc[last["status"] == "OK", "epochs"] == 50).all()
    assert last.loc[last["validation_loss"].isna(), "status"].value_counts().to_dict() == {"nan": 2641, "overflow": 65}
    earlier = nasbench_nlp.drop(runs.tail(1).index)
    assert earlier[["validation_loss", "test_loss", "seconds"]].notna().all(axis=None)
    assert last["validation_loss"].idxmin() == 1000001
    assert last.loc[1000001, "test_loss"].round(3) == 4.368


def test_nasbench_nlp_trains_many_cells_more_than_once(nasbench_nlp: pd.DataFrame) -> None:
    """12,124 cells, one of them 37 times; two runs of a cell have as many weights, and end at about the same loss."""
    runs = nasbench_nlp.groupby("model").last()
    cells = runs.groupby("distinct")
    assert [cells.ngroups, cells.size().max()] == [12124, 37]
    assert cells["n_params"].nunique().max() == 1
    final = runs[runs["status"] == "OK"].groupby("distinct")["validation_loss"]
    assert final.std().median() < 0.005 < final.mean().std() / 50


def test_nasbench_nlp_equals_a_loop_over_the_file(nasbench_nlp: pd.DataFrame) -> None:
    """Slow twin on every 97th run: its rows alone, its recipe read back."""
    with gzip.open(derived.find(graph_benchmarks.NASBENCH_NLP), "rt") as stream:
        runs = [json.loads(line) for line in list(stream)[::97]]
    rows = nasbench_nlp[nasbench_nlp["model"].isin([run["id"] for run in runs])].groupby("model")
    for run in runs:
        ours = rows.get_group(run["id"])
        assert ast.literal_eval(ours["architecture"].iloc[0]) == run["recipe"]
        expected = [float("nan") if loss is None else loss for loss in run["val"]] or [float("nan")]
        np.testing.assert_array_equal(ours["validation_loss"], expected)
        assert ours["epochs"].tolist() == list(range(1, len(expected) + 1))
        if run["sec_per_epoch"] is not None:
            assert ours["seconds"].tolist() == [run["sec_per_epoch"] * epoch for epoch in ours["epochs"]]
