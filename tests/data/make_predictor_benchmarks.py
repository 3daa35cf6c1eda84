"""Make small files with invented numbers in the shapes that `naaplib.tables.graph_benchmarks` and `derived` read.

Nothing in them was measured. Run from the project's root: ``python tests/data/make_predictor_benchmarks.py``; the files
are the same on every run.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent
N_CELLS, N_NETWORKS, N_RUNS, N_EPOCHS = 60, 40, 60, 50
LEVELS = {"cifar100": 0.13, "caltech": 0.24, "oxford_pet": 0.08}  # about the mean accuracies
SPLITS = {  # sizes of the study's, but for the whole test sets
    "nasbench": {"train": 79, "val": 40, "test": 200},
    "nasbench_two": {"train": 42, "val": 28, "test": 200},
    "cifar100": {"train": 76, "val": 5, "test": 5},
    "caltech": {"train": 208, "val": 40, "test": 40},
    "oxford": {"train": 212, "val": 10, "test": 10},
    "nlp": {"train": 79, "val": 40, "test": 200},
}


def make_nasbench101(rng: np.random.Generator) -> pd.DataFrame:
    """Cells in which every vertex lies between input and output; those with more 3x3 convolutions are better."""
    rows: dict[str, dict] = {}
    while len(rows) < N_CELLS:
        n = int(rng.integers(3, 8))
        edges = np.zeros((n, n), int)
        for vertex in range(1, n):
            edges[rng.integers(vertex), vertex] = 1
            edges[n - 1 - vertex, rng.integers(n - vertex, n)] = 1
        if edges.sum() > 9:
            continue
        ops = ["in", *rng.choice(["c1", "c3", "mp"], n - 2), "out"]
        bits = "".join(map(str, edges[np.triu_indices(n, 1)]))
        percent = 88 + 1.2 * ops.count("c3") - 0.8 * ops.count("mp") + rng.normal(0, 0.4)
        rows[f"{bits} {' '.join(ops)}"] = {
            "n_vertices": n, "n_edges": int(edges.sum()), "adj_upper_bits": bits, "ops": " ".join(ops),
            "acc_pct": round(min(percent, 94.5), 4),
        }  # fmt: skip
    table = pd.DataFrame(list(rows.values()))
    table.insert(0, "source", [2500] * (N_CELLS - 2) + [20] * 2)
    table.insert(1, "index", range(N_CELLS))
    table.insert(2, "module_hash", [f"made-{i}" for i in range(N_CELLS)])
    return table


def make_proxylessnas(rng: np.random.Generator, level: float) -> np.ndarray:
    """Networks that are the better, the more layers they leave out, as the study's are; in steps of 1 / 1,000."""
    networks = np.empty(N_NETWORKS, object)
    for i in range(N_NETWORKS):
        layers = rng.integers(0, 7, 22)
        accuracy = level * (0.7 + 0.1 * (layers == 6).sum() + rng.uniform(-0.05, 0.05))
        networks[i] = {"arch": tuple(layers), "val_acc": round(float(accuracy), 3), "test_acc": 0.0}
    return networks


def make_nasbench_nlp(rng: np.random.Generator) -> list[dict]:
    """Runs of recipes that are chains with side inputs; eight give out at once, two leave no record."""
    runs = []
    for i in range(N_RUNS):
        names = ["x", "h_prev_0"]
        recipe = []
        for node in range(int(rng.integers(3, 9))):
            unary = rng.random() < 0.6
            op = rng.choice(["activation_tanh", "activation_sigm"] if unary else ["linear", "elementwise_sum"])
            inputs = [names[-1]] if unary else [names[-1], str(rng.choice(names[:-1]))]
            recipe.append([f"node_{node}", str(op), inputs])
            names.append(f"node_{node}")
        recipe[-1][0] = "h_new_0"
        final = 4.6 + 0.05 * len(recipe) + 0.1 * rng.random()
        losses = final + 0.9 * np.exp(-np.arange(N_EPOCHS) / 8) + rng.normal(0, 0.01, N_EPOCHS)
        status, kept = ("OK", N_EPOCHS) if i % 6 else ("Exception: math range error", 0) if i % 30 == 0 else (
            "loss is nan!", 1
        )  # fmt: skip
        validation: list = losses[:kept].round(4).tolist() if kept != 1 else [None]
        runs.append(
            {
                "id": 3000000 + i, "params": 5000000 + 1000000 * len(recipe), "status": status,
                "best_epoch": int(np.argmin(losses)) + 1 if status == "OK" else None,
                "sec_per_epoch": round(30.0 * len(recipe), 2) if kept else None, "recipe": recipe,
                "val": validation, "test": [None if v is None else round(v - 0.04, 4) for v in validation],
            }
        )  # fmt: skip
    return runs


def make_predictions(rng: np.random.Generator) -> pd.DataFrame:
    """Predictions for draws with replacement from 150 architectures, each trained three times."""
    frames = []
    for dataset, sizes in SPLITS.items():
        middle, spread = (4.9, 0.3) if dataset == "nlp" else (90.0, 3.0) if "nasbench" in dataset else (15.0, 2.0)
        truth = middle + spread * rng.normal(size=150)
        runs = truth[:, None] + 0.1 * spread * rng.normal(size=(150, 3))
        predicted = truth + 0.7 * spread * rng.normal(size=150)
        for split, n in sizes.items():
            drawn = rng.integers(150, size=n)
            true = runs[drawn, rng.integers(3, size=n)]
            frame = pd.DataFrame({"dataset": dataset, "split": split, "y_true": true, "y_pred": predicted[drawn]})
            frames.append(frame.round(5))
            if n == 200:
                ten = frame.iloc[np.r_[frame["y_pred"].argmin(), np.arange(8) * 25, frame["y_pred"].argmax()]]
                frames.append(ten.assign(split="test_10").round(5))
    return pd.concat(frames, ignore_index=True)


def make_curves() -> dict[str, pd.DataFrame]:
    """Two of the published curves and the oracle."""
    x = np.arange(1, 61)
    guided = {"n_plus_k": 20 + x}
    for stage, gain in (("np", 0.0), ("np2", 0.1)):
        for judged, level in (("val", 94.8), ("test", 94.0)):
            guided |= {f"{stage}_{judged}_avg": level + gain - 1 / x, f"{stage}_{judged}_std": 1 / x}
    random = {"n_samples": x}
    for judged, level in (("val", 91.0), ("test", 90.6)):
        random |= {f"{judged}_avg": level - 1 / x, f"{judged}_std": 3 + 0 * x}
    losses = {"n_plus_k": x + 20} | {f"{judged}_avg": 4.6 + 0.5 / x for judged in ("val", "test")}
    random_losses = {"n_samples": x} | {f"{judged}_avg": 4.9 + 0.3 / x for judged in ("val", "test")}
    oracle = {"benchmark": "nasbench101", "measure": ["val_acc", "test_acc"], "value": [95.0, 94.3]}
    return {
        "fig7_np_by_samples": pd.DataFrame(guided).round(5),
        "fig7_random_by_samples": pd.DataFrame(random).round(5),
        "fig13_nlp_np_by_samples": pd.DataFrame(losses).round(5),
        "fig13_nlp_random_by_samples": pd.DataFrame(random_losses).round(5),
        "oracle": pd.DataFrame(oracle),
    }


def make_nasbench201(rng: np.random.Generator) -> pd.DataFrame:
    """Cells of nasbench201-made.csv on one data set, with single trainings and accuracies after 12 epochs as well."""
    means = pd.read_csv(FOLDER / "nasbench201-made.csv").query("dataset == 'CIFAR-10'")
    frames = []
    for epochs, runs, spread, drop in ((12, "single", 0.02, 0.1), (200, "mean", 0.0, 0.0), (200, "single", 0.003, 0.0)):
        accuracy = (means["accuracy"] - drop + rng.normal(0, spread, len(means))).round(4)
        frames.append(means.assign(epochs=epochs, runs=runs, accuracy=accuracy))
    table = pd.concat(frames).sort_index(kind="stable")
    pruned = table["architecture"].str.replace("none~0", "skip_connect~0")  # so that a few of them are the same
    return table.assign(distinct=pruned)


def main() -> None:
    """Write all files, each from a seed of its own."""
    replication, proxylessnas = FOLDER / "replication-made", FOLDER / "proxylessnas-made"
    replication.mkdir(exist_ok=True)
    proxylessnas.mkdir(exist_ok=True)
    tables = {FOLDER / "nasbench101-made.csv": make_nasbench101(np.random.default_rng(101))}
    tables[FOLDER / "nasbench201-runs-made.csv"] = make_nasbench201(np.random.default_rng(201))
    tables[replication / "predictions.csv"] = make_predictions(np.random.default_rng(2021))
    tables |= {replication / f"{name}.csv": curve for name, curve in make_curves().items()}
    for path, table in tables.items():
        table.to_csv(path, index=False, lineterminator="\n")
    for i, (name, level) in enumerate(LEVELS.items()):
        np.save(proxylessnas / f"model_acc_{name}.npy", make_proxylessnas(np.random.default_rng(i), level))
    runs = make_nasbench_nlp(np.random.default_rng(50))
    lines = [json.dumps(run, separators=(",", ":")) + "\n" for run in runs]
    (FOLDER / "nasbenchnlp-made.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
