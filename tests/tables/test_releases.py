"""Raw files of releases: small made ones become the text that is written by hand here."""

import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib.tables import derivation, derived, releases

CELLS = "nasbench101/nasbench101_cells_2500_uniform.csv.gz"
RUNS = "nasbenchnlp/nasbenchnlp_ptb.jsonl.gz"
CELL = [  # input to a 3x3 convolution and a pooling, both to output
    [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]],
    ["input", "conv3x3-bn-relu", "maxpool3x3", "output"],
]
TWIN = [CELL[0], ["input", "maxpool3x3", "conv3x3-bn-relu", "output"]]  # the same with its vertices exchanged
CHAIN = [[[0, 1, 0], [0, 0, 1], [0, 0, 0]], ["input", "conv1x1-bn-relu", "output"]]


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., None]:
    """A function that stores arrays, or dictionaries as pickled objects, as the replication did."""
    (tmp_path / "outputs").mkdir()

    def save(**arrays: object) -> None:
        for name, array in arrays.items():
            np.save(tmp_path / "outputs" / f"{name}.npy", array)

    return save


def text(folder: Path, name: str) -> list[str]:
    """Lines of a derived file that is made from the raw files in a folder; it ends with its last line."""
    content = releases.text(name, folder.joinpath)
    assert content.endswith("\n")
    return content.splitlines()


def curve(*values: float) -> dict[str, list[np.float64]]:
    """A curve of an ablation, in the form of the release: four lists of numpy's numbers."""
    return {f"np_{measure}": [np.float64(v + i) for v in values] for i, measure in enumerate(releases.MEASURES)}


def logs(folder: Path, **runs: dict) -> Path:
    """An archive of logs of recurrent cells, with what an archive may hold besides."""
    path = folder / "train_logs_single_run" / "logs.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logs/", "")
        archive.writestr("__MACOSX/logs/._log.json", b"\0\5\x16\7")
        archive.writestr("logs/notes.txt", "not a log")
        for name, run in runs.items():
            archive.writestr(f"logs/{name}.json", json.dumps(run))
    return path


def run(number: int, **parts: object) -> dict:
    """A log whose recipe is one linear node."""
    recipe = {"h_new_0": {"op": "linear", "input": ["x", "h_prev_0"]}}
    known = {"recepie_id": number, "recepie": json.dumps(recipe), "num_params": 10, "status": "OK", "lr": 0.001}
    return known | {f"{part}_losses": [] for part in ("train", "val", "test")} | {"wall_times": []} | parts


def test_a_curve_by_samples_begins_after_the_training_cells(tmp_path: Path, store: Callable[..., None]) -> None:
    """Its first point is of 173 models; numbers have five decimals."""
    for i, measure in enumerate(releases.MEASURES):
        store(**{f"nlp_np_{measure}_by_samples": np.array([5 + i, 4.123456789])})
    assert text(tmp_path, "neural_predictor/fig13_nlp_np_by_samples.csv") == [
        "n_plus_k,val_avg,val_std,test_avg,test_std",
        "173,5.00000,6.00000,7.00000,8.00000",
        "174,4.12346,4.12346,4.12346,4.12346",
    ]


def test_two_systems_share_a_file(tmp_path: Path, store: Callable[..., None]) -> None:
    """Columns of the one with a classifier follow those of the one without."""
    for i, measure in enumerate(releases.MEASURES):
        store(**{f"np_{measure}_by_samples": [i], f"np2_{measure}_by_samples": [10 + i]})
    head, row = text(tmp_path, "neural_predictor/fig7_np_by_samples.csv")
    assert head.split(",")[:5] == ["n_plus_k", "np_val_avg", "np_val_std", "np_test_avg", "np_test_std"]
    assert head.split(",")[5] == "np2_val_avg"
    assert row == "173," + ",".join(f"{value}.00000" for value in (0, 1, 2, 3, 10, 11, 12, 13))


def test_a_curve_by_time_ends_with_the_last_budget(tmp_path: Path, store: Callable[..., None]) -> None:
    """Of 500 budgets, numbered from 0, it has the last ones."""
    for measure in releases.MEASURES:
        store(**{f"np2_{measure}_by_time": [1.0, 2.0]})
    assert text(tmp_path, "neural_predictor/fig7_np2_by_time.csv") == [
        "time_1600s,np2_val_avg,np2_val_std,np2_test_avg,np2_test_std",
        "498,1.00000,1.00000,1.00000,1.00000",
        "499,2.00000,2.00000,2.00000,2.00000",
    ]


def test_arrays_of_a_curve_that_differ_in_length_are_refused(tmp_path: Path, store: Callable[..., None]) -> None:
    """They are not of one curve."""
    store(random_val_avg_2000=[90.0, 91.0], random_test_avg_2000=[90.0])
    with pytest.raises(ValueError, match="same length"):
        text(tmp_path, "neural_predictor/fig10_11_random_2000.csv")


def test_ablations_of_one_file_end_together(tmp_path: Path, store: Callable[..., None]) -> None:
    """Each ends at 2,000 models, or with the last budget; one without a point is left out."""
    store(
        ablation_study_by_samples={43: curve(90, 91), 86: curve(80)},
        ablation_study_by_time={43: curve(90), 86: curve()},
    )
    head = "x,val_running_max,val_hist_std,test_running_max,test_hist_std"
    assert text(tmp_path, "neural_predictor/fig10_by_samples.csv.gz") == [
        f"N,{head}",
        "43,1999,90.00000,91.00000,92.00000,93.00000",
        "43,2000,91.00000,92.00000,93.00000,94.00000",
        "86,2000,80.00000,81.00000,82.00000,83.00000",
    ]
    assert text(tmp_path, "neural_predictor/fig10_by_time.csv.gz") == [
        f"N,{head}",
        "43,499,90.00000,91.00000,92.00000,93.00000",
    ]


def test_ablations_of_several_files_stand_in_order(tmp_path: Path, store: Callable[..., None]) -> None:
    """Graph convolution, dense layers, convolution."""
    store(**{f"ablation_study_by_arch_time_{kind}": curve(i) for i, kind in enumerate(("cnn", "gcn", "mlp"))})
    lines = text(tmp_path, "neural_predictor/fig11_by_time.csv.gz")
    assert lines[0].startswith("arch,x,")
    assert [line[:11] for line in lines[1:]] == ["gcn,499,1.0", "mlp,499,2.0", "cnn,499,0.0"]


@pytest.mark.parametrize("file", ["ablation_study_by_samples", "random_val_avg_2000"])
def test_a_pickle_that_asks_for_more_than_data_is_refused(
    file: str, tmp_path: Path, store: Callable[..., None]
) -> None:
    """Where objects are expected and where numbers are; nothing that it names is called."""

    class Asks:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "touched",)

    store(**{file: np.array(Asks(), dtype=object)})
    name = "fig10_by_samples.csv.gz" if file.startswith("ablation") else "fig10_11_random_2000.csv"
    with pytest.raises(ValueError, match=r"admitted|allow_pickle=False"):
        text(tmp_path, f"neural_predictor/{name}")
    assert not (tmp_path / "touched").exists()


def test_predictions_are_pairs_in_stored_order(tmp_path: Path, store: Callable[..., None]) -> None:
    """Columns or flat, single or double precision; whole test sets to five decimals, all others to six."""
    for i, (dataset, splits) in enumerate(releases.SPLITS.items()):
        for split in {*splits, "test"}:
            store(**{f"{dataset}_y_true_{split}": [i + 1 / 3], f"{dataset}_y_pred_{split}": np.float32([[i + 0.5]])})
    store(nlp_y_true_train=[1.0, 2.0], nlp_y_pred_train=np.float32([[3.0], [4.0]]))
    lines = text(tmp_path, "neural_predictor/predictions_small.csv")
    assert lines[:2] == ["dataset,split,index,y_true,y_pred", "nasbench,train,0,0.333333,0.500000"]
    assert [line[:18] for line in lines[2:4]] == ["nasbench,val,0,0.3", "nasbench,test_10,0"]
    assert [line.split(",")[0] for line in lines[1::3]] == [*releases.SPLITS, "nlp"]
    assert lines[9].startswith("cifar100,test,0,2.333333,")
    assert lines[-4:-2] == ["nlp,train,0,1.000000,3.000000", "nlp,train,1,2.000000,4.000000"]
    assert len(lines) == 1 + 18 + 1
    assert text(tmp_path, "neural_predictor/predictions_nasbench_two_test.csv.gz") == [
        "y_true,y_pred",
        "1.33333,1.50000",
    ]


def test_the_oracle_keeps_every_digit(tmp_path: Path, store: Callable[..., None]) -> None:
    """Arrays without a dimension, and two dictionaries of numpy's numbers."""
    store(oracle_val_acc=95.1389225125, oracle_val_std=0.5, oracle_test_acc=94.25, oracle_test_std=0.25)
    store(nlp_oracle_loss={"val_loss": np.float64(4.4153095206), "test_loss": np.float64(4.5)})
    store(nlp_oracle_std={"val_std": np.float64(0.75), "test_std": np.float64(0.125)})
    content = releases.text("neural_predictor/oracle.json", tmp_path.joinpath)
    assert content.startswith('{\n "nasbench101": {\n  "val_acc": 95.1389225125,\n  "val_std": 0.5,\n')
    assert json.loads(content)["nasbench_nlp"] == {
        "val_loss": 4.4153095206, "test_loss": 4.5, "val_std": 0.75, "test_std": 0.125,
    }  # fmt: skip


def test_cells_of_both_files_are_listed_with_their_graphs(tmp_path: Path) -> None:
    """Numbers of vertices and edges, bits above the diagonal, short names, percent; cells alike share a hash."""
    folder = tmp_path / "data" / "nb101"
    folder.mkdir(parents=True)
    (folder / "nasbench1_2500.json").write_text(json.dumps([[CELL, 0.9079527258872986], [CHAIN, 0.1]]))
    (folder / "nasbench1_20.json").write_text(json.dumps([[TWIN, 0.5]]))
    head, *rows = (line.split(",") for line in text(tmp_path, CELLS))
    assert head == ["source", "index", "module_hash", "n_vertices", "n_edges", "adj_upper_bits", "ops", "acc_pct"]
    assert [row[:2] + row[3:] for row in rows] == [
        ["2500", "0", "4", "4", "110011", "in c3 mp out", "90.7953"],
        ["2500", "1", "3", "2", "101", "in c1 out", "10.0000"],
        ["20", "0", "4", "4", "110011", "in mp c3 out", "50.0000"],
    ]
    assert rows[0][2] == rows[2][2] != rows[1][2]


def benchmark_hash(architecture: str) -> str:
    """The hash of a cell that is written as in our table: bits above the diagonal, then operations."""
    bits, *operations = architecture.split()
    numbers = dict(releases.OPERATIONS.values())
    matrix = np.zeros((len(operations), len(operations)), int)
    matrix[np.triu_indices(len(operations), 1)] = [int(bit) for bit in bits]
    return releases._module_hash(matrix.tolist(), [numbers[name] for name in operations])


def test_the_hash_of_a_cell_is_the_benchmarks() -> None:
    """One as the benchmark has it."""
    assert benchmark_hash("111000100011000100101 in mp c1 mp c3 c1 out") == "38c07ec593df3926409467fde79c05f7"


def test_hashes_of_published_cells_are_the_benchmarks(nasbench101: pd.DataFrame) -> None:
    """Each tenth of 2,520 cells is tried."""
    cells = nasbench101[::10]
    assert [benchmark_hash(architecture) for architecture in cells["architecture"]] == cells["distinct"].tolist()


def test_runs_stand_by_number_and_are_rounded(tmp_path: Path) -> None:
    """Whatever their order in the archive; the best epoch is that of the loss as stored, not as rounded."""
    late = run(7, val_losses=[5.00004, 5.00001, 5.2], test_losses=[5.0, 4.9, 4.8], train_losses=[6.0, 5.0, 4.56789])
    late["wall_times"] = [1.0, 2.0, 4.0]
    logs(tmp_path, a=late, b=run(3, val_losses=[6.25], test_losses=[6.0], train_losses=[6.5], wall_times=[0.125]))
    recipe = '"recipe":[["h_new_0","linear",["x","h_prev_0"]]]'
    assert text(tmp_path, RUNS) == [
        f'{{"id":3,"params":10,"status":"OK","best_epoch":1,"sec_per_epoch":0.12,{recipe},'
        '"val":[6.25],"test":[6.0],"train_last":6.5}',
        f'{{"id":7,"params":10,"status":"OK","best_epoch":2,"sec_per_epoch":2.33,{recipe},'
        '"val":[5.0,5.0,5.2],"test":[5.0,4.9,4.8],"train_last":4.5679}',
    ]


def test_runs_that_gave_out_have_null_for_what_is_not_a_number(tmp_path: Path) -> None:
    """One stopped by a loss that is not a number after an epoch or at once; one that ended before its first epoch."""
    nan = float("nan")
    stopped = run(1, status="loss is nan!", val_losses=[5.5, nan], test_losses=[5.25, nan], train_losses=[5.0, nan])
    stopped["wall_times"] = [2.0, 4.0]
    at_once = run(2, status="loss is nan!", val_losses=[nan], test_losses=[nan], train_losses=[nan], wall_times=[1.5])
    logs(tmp_path, a=stopped, b=at_once, c=run(3, status="Exception: math range error"))
    keys = ("best_epoch", "sec_per_epoch", "val", "test", "train_last")
    assert [[json.loads(line)[key] for key in keys] for line in text(tmp_path, RUNS)] == [
        [1, 3.0, [5.5, None], [5.25, None], None],
        [None, 1.5, [None], [None], None],
        [None, None, [], [], None],
    ]


def test_recipes_ask_for_the_raw_files_that_are_known(tmp_path: Path, store: Callable[..., None]) -> None:
    """Each derived file has one; all they ask for together is the table of raw files, no more and no less."""
    asked = set()
    stored = curve(1.0)

    def find(release: str, path: str) -> Path:
        asked.add(f"{release}/{path}")
        made, stem = tmp_path / path, Path(path).stem
        made.parent.mkdir(parents=True, exist_ok=True)
        if made.suffix == ".json":
            made.write_text("[]")
        elif made.suffix == ".zip":
            zipfile.ZipFile(made, "w").close()
        elif stem.startswith("ablation_study_by_arch"):
            store(**{stem: stored})
        else:
            store(**{stem: {43: stored} if "ablation" in stem else {} if "nlp_oracle" in stem else [1.0]})
        return made

    for name in derived.FILES:
        releases.text(name, partial(find, name.split("/")[0]))
    assert asked == set(derivation.RAW)
