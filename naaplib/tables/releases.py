"""Rewrite the content of public releases as the text of derived data files."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from naaplib.tables.derived import FULL_TESTS
from naaplib.tables.safe_pickle import read_object_array

Find = Callable[[str], Path]  # path of a raw file by its path in the repository of its release

MEASURES = ("val_avg", "val_std", "test_avg", "test_std")  # the replication's measures of a curve
HISTORY = ("val_running_max", "val_hist_std", "test_running_max", "test_hist_std")  # the same for its ablations
N_START = 172  # training models of its predictor; its curves begin with one model more
N_BUDGETS = 500  # budgets of 1,600 s in its curves by time; a curve begins with its first model
N_ABLATION = 2000  # models trained at the end of its ablations
SPLITS = {
    dataset: ("train", "val", "test_10" if dataset in FULL_TESTS else "test")
    for dataset in ("nasbench", "nasbench_two", "cifar100", "caltech", "oxford", "nlp")
}
OPERATIONS = {  # the release's name of an operation: ours, and its number in the benchmark's hash
    "input": ("in", -1),
    "output": ("out", -2),
    "conv3x3-bn-relu": ("c3", 0),
    "conv1x1-bn-relu": ("c1", 1),
    "maxpool3x3": ("mp", 2),
}


def text(name: str, find: Find) -> str:
    """Return the uncompressed text of a derived file.

    Parameters
    ----------
    name : str
        A key of ``derived.FILES``.
    find : callable
        Function that maps a path in the release's repository to the path of the raw file.

    Returns
    -------
    str
        CSV, JSON, or JSON by line; `naaplib.tables.derived.stored` and `naaplib.tables.graph_benchmarks` describe the
        columns. Numbers are rounded to five decimals, unless noted otherwise.

    Raises
    ------
    ValueError
        If raw files do not belong together, or hold anything except plain data.
    """
    release, file = name.split("/")
    stem = file.split(".")[0]
    if release == "nasbench101":
        return _cells(find)
    if release == "nasbenchnlp":
        return _runs(find("train_logs_single_run/logs.zip"))
    if stem in CURVES:
        return _curve(find, *CURVES[stem])
    if stem in ABLATIONS:
        return _ablation(find, *ABLATIONS[stem])
    if stem == "oracle":
        return _oracle(find)
    if stem == "predictions_small":
        return _predictions(find)
    dataset = stem.removeprefix("predictions_").removesuffix("_test")
    return _csv(_pairs(find, dataset, "test"))


def _columns(system: str, by: str, prefix: str = "") -> dict[str, str]:
    """Columns of a curve, each with the stem of its array's file."""
    return {f"{prefix}{measure}": f"{system}_{measure}_by_{by}" for measure in MEASURES}


# Name of the column of x and its first value, None for one by time; columns with the arrays they are in
CURVES: dict[str, tuple[str, int | None, dict[str, str]]] = {
    "fig7_np_by_samples": (
        "n_plus_k", N_START + 1, _columns("np", "samples", "np_") | _columns("np2", "samples", "np2_"),
    ),
    "fig7_random_by_samples": ("n_samples", 1, _columns("random", "samples")),
    "fig7_np_by_time": ("time_1600s", None, _columns("np", "time", "np_")),
    "fig7_np2_by_time": ("time_1600s", None, _columns("np2", "time", "np2_")),
    "fig7_random_by_time": ("time_1600s", None, _columns("random", "time")),
    "fig13_nlp_np_by_samples": ("n_plus_k", N_START + 1, _columns("nlp_np", "samples")),
    "fig13_nlp_random_by_samples": ("n_samples", 1, _columns("nlp_random", "samples")),
    "fig10_11_random_2000": (
        "n_samples", 1, {"val_running_max": "random_val_avg_2000", "test_running_max": "random_test_avg_2000"},
    ),
}  # fmt: skip
# Differences between curves and the end of x; the file of all curves, or one per kind
ABLATIONS: dict[str, tuple[str, int, str | dict[str, str]]] = {
    "fig10_by_samples": ("N", N_ABLATION + 1, "ablation_study_by_samples"),
    "fig10_by_time": ("N", N_BUDGETS, "ablation_study_by_time"),
    "fig11_by_samples": ("arch", N_ABLATION + 1, {a: f"ablation_study_by_arch_{a}" for a in ("gcn", "mlp", "cnn")}),
    "fig11_by_time": ("arch", N_BUDGETS, {a: f"ablation_study_by_arch_time_{a}" for a in ("gcn", "mlp", "cnn")}),
}


def _curve(find: Find, x: str, first: int | None, columns: dict[str, str]) -> str:
    values = {column: _array(find, stem) for column, stem in columns.items()}
    n = len(next(iter(values.values())))
    start = N_BUDGETS - n if first is None else first
    return _csv({x: range(start, start + n), **values})


def _ablation(find: Find, differ_in: str, end: int, files: str | dict[str, str]) -> str:
    curves = _object(find, files) if isinstance(files, str) else {a: _object(find, stem) for a, stem in files.items()}
    frames = []
    for kind, curve in curves.items():
        n = len(curve["np_val_avg"])
        stored = {column: curve[f"np_{measure}"] for column, measure in zip(HISTORY, MEASURES, strict=True)}
        frames.append(pd.DataFrame({differ_in: [kind] * n, "x": range(end - n, end), **stored}))
    return _csv(pd.concat([frame for frame in frames if len(frame)]))


def _predictions(find: Find) -> str:
    """Predictions of all splits except whole test sets, to six decimals."""
    frames = []
    for dataset, splits in SPLITS.items():
        for split in splits:
            pairs = pd.DataFrame(_pairs(find, dataset, split))
            frames.append(pd.DataFrame({"dataset": dataset, "split": split, "index": pairs.index}).join(pairs))
    return _csv(pd.concat(frames), decimals=6)


def _pairs(find: Find, dataset: str, split: str) -> dict[str, np.ndarray]:
    return {side: _array(find, f"{dataset}_{side}_{split}") for side in ("y_true", "y_pred")}


def _oracle(find: Find) -> str:
    """Stored numbers, not rounded."""
    cells = {
        measure: _array(find, f"oracle_{measure}").item() for measure in ("val_acc", "val_std", "test_acc", "test_std")
    }
    recurrent = _object(find, "nlp_oracle_loss") | _object(find, "nlp_oracle_std")
    losses = {measure: float(value) for measure, value in recurrent.items()}
    return json.dumps({"nasbench101": cells, "nasbench_nlp": losses}, indent=1)


def _cells(find: Find) -> str:
    """Accuracies in percent to four decimals: the 2,500 drawn cells, then 20 others."""
    rows = []
    for source in (2500, 20):
        cells = json.loads(find(f"data/nb101/nasbench1_{source}.json").read_text(encoding="utf-8"))
        for index, ((matrix, operations), accuracy) in enumerate(cells):
            names, labels = zip(*(OPERATIONS[operation] for operation in operations), strict=True)
            n = len(names)
            rows.append(
                {
                    "source": source, "index": index, "module_hash": _module_hash(matrix, labels),
                    "n_vertices": n, "n_edges": sum(map(sum, matrix)),
                    "adj_upper_bits": "".join(str(matrix[i][j]) for i in range(n) for j in range(i + 1, n)),
                    "ops": " ".join(names), "acc_pct": 100 * accuracy,
                }
            )  # fmt: skip
    return _csv(pd.DataFrame(rows), decimals=4)


def _module_hash(matrix: Sequence[Sequence[int]], labels: Sequence[int]) -> str:
    """NAS-Bench-101's hash of a cell, equal for isomorphic ones (Ying et al., 2019).

    Every vertex starts with its label and its numbers of outgoing and incoming edges. Then each round, one per vertex,
    adds the sorted hashes of its predecessors and successors.
    """
    vertices = range(len(labels))
    edges = [[bool(matrix[i][j]) for j in vertices] for i in vertices]
    hashes = [_md5(str((sum(edges[v]), sum(row[v] for row in edges), labels[v]))) for v in vertices]
    for _ in vertices:
        before = ["".join(sorted(hashes[u] for u in vertices if edges[u][v])) for v in vertices]
        after = ["".join(sorted(hashes[w] for w in vertices if edges[v][w])) for v in vertices]
        hashes = [_md5(f"{before[v]}|{after[v]}|{hashes[v]}") for v in vertices]
    return _md5(str(sorted(hashes)))


def _runs(archive: Path) -> str:
    """Runs by number, one per line.

    Losses have four decimals, seconds two; null stands for NaN.
    """
    with zipfile.ZipFile(archive) as logs:
        names = [name for name in logs.namelist() if name.endswith(".json") and not name.startswith("__MACOSX/")]
        runs = [_run(json.loads(logs.read(name))) for name in names]
    runs.sort(key=lambda run: run["id"])
    return "".join(json.dumps(run, separators=(",", ":"), allow_nan=False) + "\n" for run in runs)


def _run(log: dict) -> dict:
    recipe = json.loads(log["recepie"])
    validation = log["val_losses"]
    known = [epoch for epoch, loss in enumerate(validation) if not math.isnan(loss)]
    best = min(known, key=lambda epoch: validation[epoch], default=None)
    seconds = log["wall_times"]
    return {
        "id": log["recepie_id"],
        "params": log["num_params"],
        "status": log["status"],
        "best_epoch": None if best is None else best + 1,
        "sec_per_epoch": _rounded(sum(seconds) / len(seconds), 2) if seconds else None,
        "recipe": [[node, what["op"], what["input"]] for node, what in recipe.items()],
        "val": [_rounded(loss) for loss in validation],
        "test": [_rounded(loss) for loss in log["test_losses"]],
        "train_last": _rounded(log["train_losses"][-1]) if log["train_losses"] else None,
    }


def _rounded(value: float, decimals: int = 4) -> float | None:
    return None if math.isnan(value) else round(value, decimals)


def _array(find: Find, stem: str) -> np.ndarray:
    """A stored array of numbers, flat; numpy refuses one of objects."""
    return np.load(find(f"outputs/{stem}.npy"), allow_pickle=False).ravel().astype(float)


def _object(find: Find, stem: str) -> dict:
    """A stored dictionary, read without running its pickle."""
    return read_object_array(find(f"outputs/{stem}.npy")).item()


def _csv(columns: Mapping[str, Sequence | np.ndarray] | pd.DataFrame, decimals: int = 5) -> str:
    return pd.DataFrame(columns).to_csv(index=False, float_format=f"%.{decimals}f", lineterminator="\n")


def _md5(word: str) -> str:
    return hashlib.md5(word.encode(), usedforsecurity=False).hexdigest()
