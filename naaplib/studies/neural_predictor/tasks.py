"""Tasks of neural predictors: datasets, training sets, and systems to train."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from naaplib.architectures import graphs
from naaplib.architectures.cells import from_string, sizes
from naaplib.architectures.graphs import Graphs
from naaplib.architectures.schemes import Scheme, feature_table
from naaplib.estimators.predictors.design import KINDS
from naaplib.estimators.predictors.estimator import NeuralPredictor
from naaplib.estimators.predictors.presets import faithful, tuned
from naaplib.estimators.predictors.runs import choose, cross_validate, predict_many
from naaplib.evaluation import training_sets
from naaplib.tables import naap440
from naaplib.tables.nasbench201 import accuracies

System = tuple[Graphs, NeuralPredictor]
Values = NDArray[np.float64]

MEAN = "mean of the training rows"
FAITHFUL, TWO_STAGE, TUNED = "GCN, faithful", "GCN, faithful, two stages", "GCN, tuned"
STRIDED = [*range(1, 13), *range(17, 21)]  # layers of ProxylessNAS with stride 2 in the replication's backbone
EPOCHS = (300, 200)


@dataclass(frozen=True)
class Task:
    """A dataset of n_archs architectures, its n_sets training sets, and its systems.

    Parameters
    ----------
    name : str
    targets : ndarray, shape (n_archs,)
        Targets of training.
    judged : ndarray, shape (n_archs,)
        True values, to compare predictions with.
    distinct : ndarray, shape (n_archs,)
        Isomorphism class: equal for duplicates.
    order : ndarray of int, shape (n_sets, n_archs)
        Each row is a split: training rows, then validation rows, then test rows.
    n_train, n_validation : int
    scale : float
        100 for accuracies, for a squared error in squared percentage points; 1 for losses.
    features : mapping from name to ndarray (n_archs,)
        Features of baselines; each is a straight line.
    published : mapping from system to (Graphs, NeuralPredictor)
        Systems with one candidate.
    chosen : mapping from system to mapping from candidate to (Graphs, NeuralPredictor)
        Systems with several candidates. Each training set chooses one by cross-validation.
    seed : int
        Seed of the predictors of the first training set; those of the next have the next.
    """

    name: str
    targets: Values
    judged: Values
    distinct: NDArray[np.object_]
    order: NDArray[np.int64]
    n_train: int
    n_validation: int
    scale: float
    features: Mapping[str, Values]
    published: Mapping[str, System]
    chosen: Mapping[str, Mapping[str, System]] = field(default_factory=dict)
    seed: int = 0

    @property
    def training(self) -> NDArray[np.int64]:
        """Training rows, (n_sets, n_train)."""
        return self.order[:, : self.n_train]

    @property
    def parts(self) -> dict[str, NDArray[np.bool_]]:
        """Masks (n_sets, n_archs) of training, validation and test rows."""
        return training_sets.masks(self.order, self.n_train, n_validation=self.n_validation)

    @property
    def seeds(self) -> list[int]:
        """Seeds of the predictors of each training set."""
        return list(range(self.seed, self.seed + len(self.order)))


def run(
    task: Task, n_folds: int, *, folder: Path | None, n_jobs: int, device: str = "cpu"
) -> tuple[dict[str, Values], pd.DataFrame]:
    """Train every system on every training set, seeded by the set's number.

    Parameters
    ----------
    task : Task
    n_folds : int
        Folds of `cross_validate`, which chooses candidates.
    folder, n_jobs
        As for `predict_many`.
    device : str
        Device of all predictors; it replaces their own.

    Returns
    -------
    predictions : dict from system to ndarray (n_sets, n_archs)
        Baselines first.
    validated : DataFrame
        system, set, candidate, kendall_tau on validation rows, chosen (bool).
    """
    seeds = task.seeds
    found = {MEAN: training_sets.constant(task.targets, task.training)}
    for name, values in task.features.items():
        found[f"line on {name}"] = training_sets.one_feature(task.targets, values, training=task.training)
    for system, (seen, predictor) in _on(device, task.published).items():
        found[system] = predict_many(
            predictor, seen, targets=task.targets, training=task.training, seeds=seeds, folder=folder, n_jobs=n_jobs
        )
    tables = []
    for system, candidates in task.chosen.items():
        candidates = _on(device, candidates)
        table = cross_validate(
            candidates, task.targets, training=task.training, seeds=seeds, n_folds=n_folds, folder=folder, n_jobs=n_jobs
        )
        chosen = choose(table).to_numpy()
        found[system] = np.empty((len(seeds), len(task.targets)))
        for candidate, (seen, predictor) in candidates.items():
            sets = np.flatnonzero(chosen == candidate)
            if sets.size:
                rows = task.training[sets]
                found[system][sets] = predict_many(
                    predictor, seen, targets=task.targets, training=rows, seeds=(task.seed + sets).tolist(),
                    folder=folder, n_jobs=n_jobs,
                )  # fmt: skip
        table["chosen"] = table["candidate"].to_numpy() == chosen[table["set"]]
        tables.append(table.assign(system=system))
    columns = ["system", "set", "candidate", "kendall_tau", "chosen"]
    return found, pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _on(device: str, systems: Mapping[str, System]) -> dict[str, System]:
    return {name: (seen, clone(predictor).set_params(device=device)) for name, (seen, predictor) in systems.items()}


def candidates(encodings: Mapping[str, Graphs], kind: str, *, n_epochs: int) -> dict[str, System]:
    """Return improved predictors of a kind by name.

    There is one for each encoding and each way to scale the target.
    """
    return {
        f"{encoding}, {output}": (seen, tuned(kind=kind, output=output, n_epochs=n_epochs))
        for encoding, seen in encodings.items()
        for output in ("standardised", "normal scores")
    }


def of_naap440(table: pd.DataFrame, schemes: Sequence[Scheme], *, n_epochs: tuple[int, int] = EPOCHS) -> Task:
    """Return NAAP-440's task: highest test accuracies, in `.naap440.splits`.

    Parameters
    ----------
    table : DataFrame
        As `.naap440.read` returns it.
    schemes : sequence of Scheme
        Schemes of the table's rows.
    n_epochs : (int, int)
        To train replicated and improved predictors.
    """
    if len(table) % naap440.SPLIT_SIZE:
        raise ValueError(f"the table has {len(table)} rows; splits need a multiple of {naap440.SPLIT_SIZE}")
    rng, rows = np.random.default_rng(0), []
    for is_test in naap440.splits(table).values():
        rows.append(np.concatenate([rng.permutation(np.flatnonzero(~is_test)), np.flatnonzero(is_test)]))
    seen, y, columns = graphs.of_schemes(schemes), table["MaxAccuracy"].to_numpy(float), feature_table(schemes)
    logs = np.log(columns[["NumMACs", "NumParams"]].to_numpy(float)).T
    return Task(
        "NAAP-440", y, judged=y, distinct=table["ModelId"].to_numpy(object), order=np.stack(rows),
        n_train=int((~is_test).sum()), n_validation=0, scale=100,
        features=dict(zip(("log MACs", "log parameters"), logs, strict=True)),
        published={FAITHFUL: (seen, faithful(n_epochs=n_epochs[0]))},
        chosen={TUNED: candidates({"chain with skips": seen}, "gcn", n_epochs=n_epochs[1])},
    )  # fmt: skip


def of_nasbench201(
    table: pd.DataFrame, n_train: int = 172, *, n_sets: int = 20, n_epochs: tuple[int, int] = EPOCHS, seed: int = 0
) -> Task:
    """Return NAS-Bench-201's task on CIFAR-10.

    Targets are accuracies of single trainings of 200 epochs; true values are means over trainings.

    Parameters
    ----------
    table : DataFrame
        As `.nasbench201.nasbench201` returns it.
    n_train, n_sets, seed : int
        Size, number and seed of random training sets; all other cells are test rows.
    n_epochs : (int, int)
        As for `of_naap440`.
    """
    values = accuracies(table)
    cells = [from_string(text) for text in values.index]
    full, pruned = graphs.of_cells(cells), graphs.of_cells(cells, prune=True)
    encodings = {"all operations": full, "operations on a path": pruned}
    return Task(
        "NAS-Bench-201", values[200, "single"].to_numpy(), judged=values[200, "mean"].to_numpy(),
        distinct=table.groupby("architecture", sort=False)["distinct"].first().loc[values.index].to_numpy(object),
        order=training_sets.split(len(cells), n_train, n_validation=0, n_sets=n_sets, seed=seed),
        n_train=n_train, n_validation=0, scale=100,
        features={"log parameters": np.log(sizes(cells)["n_params"].to_numpy(float)),
                  "accuracy after 12 epochs": values[12, "single"].to_numpy()},
        published={f"{kind.upper()}, faithful": (full, faithful(kind=kind, n_epochs=n_epochs[0])) for kind in KINDS},
        chosen={f"{kind.upper()}, tuned": candidates(encodings, kind, n_epochs=n_epochs[1]) for kind in KINDS},
    )  # fmt: skip


def of_nasbench101(
    table: pd.DataFrame, n_train: int = 79, *, n_validation: int = 40, n_sets: int = 10,
    n_epochs: tuple[int, int] = EPOCHS, seed: int = 0, classify_above: float = 0.91,
) -> Task:  # fmt: skip
    """Return the task of NAS-Bench-101's cells with public graphs, drawn uniformly.

    Splits have the study's sizes. Parameters are as for `of_nasbench201`; n_validation rows are for validation, and the
    first of two stages selects cells with predicted accuracies above classify_above.
    """
    table = table[table["uniform"]]
    seen, y = graphs.of_nasbench101(table["architecture"]), table["accuracy"].to_numpy()
    stages = {"n_epochs": n_epochs[0], "classify_above": classify_above}
    return Task(
        "NAS-Bench-101", y, judged=y, distinct=table["distinct"].to_numpy(object),
        order=training_sets.split(len(y), n_train, n_validation=n_validation, n_sets=n_sets, seed=seed),
        n_train=n_train, n_validation=n_validation, scale=100,
        features={"number of 3x3 convolutions": table["architecture"].str.count("c3").to_numpy(float)},
        published={FAITHFUL: (seen, faithful(n_epochs=n_epochs[0])), TWO_STAGE: (seen, faithful(**stages))},
        chosen={TUNED: candidates({"all nodes": seen}, "gcn", n_epochs=n_epochs[1])},
    )  # fmt: skip


def of_proxylessnas(
    table: pd.DataFrame,
    dataset: str,
    *,
    n_train: int,
    n_validation: int,
    n_sets: int = 5,
    n_epochs: tuple[int, int] = EPOCHS,
    seed: int = 0,
) -> Task:
    """Return the task of the ProxylessNAS networks that the replication trained.

    The first split is the replication's own, by position.

    Parameters
    ----------
    table : DataFrame
        As `.graph_benchmarks.proxylessnas` returns it.
    dataset : str
        One of the table's datasets.
    n_train, n_validation : int
        Sizes of all splits.
    n_sets, n_epochs, seed
        As for `of_nasbench201`.
    """
    table = table[table["dataset"] == dataset]
    texts, y = list(table["architecture"]), table["accuracy"].to_numpy()
    order = np.arange(len(y))[None]
    if n_sets > 1:
        more = training_sets.split(len(y), n_train, n_validation=n_validation, n_sets=n_sets - 1, seed=seed)
        order = np.concatenate([order, more])
    name = f"ProxylessNAS on {dataset.replace('-IIIT', '')}"  # name in Table I
    full, pruned = graphs.of_layers(texts), graphs.of_layers(texts, prune=True)
    strided = (graphs.layer_codes(texts)[:, STRIDED] != graphs.SKIPPED).sum(1).astype(float)
    output = "sigmoid" if dataset == "Oxford-IIIT Pet" else "shifted"  # "shifted" cannot output accuracies below 10 %
    return Task(
        name, y, judged=y, distinct=table["architecture"].to_numpy(object), order=order,
        n_train=n_train, n_validation=n_validation, scale=100,
        features={"number of strided layers": strided},
        published={FAITHFUL: (full, faithful(output=output, n_epochs=n_epochs[0]))},
        chosen={TUNED: candidates({"all layers": full, "layers that are there": pruned}, "gcn", n_epochs=n_epochs[1])},
    )  # fmt: skip


def of_nasbench_nlp(
    table: pd.DataFrame, n_train: int = 79, *, n_validation: int = 40, n_sets: int = 10,
    n_epochs: tuple[int, int] = EPOCHS, seed: int = 0, diverged: bool = False,
) -> Task:  # fmt: skip
    """Return NAS-Bench-NLP's task: validation losses after the last epoch.

    Parameters
    ----------
    table : DataFrame
        As `.graph_benchmarks.nasbench_nlp` returns it.
    n_train, n_validation, n_sets, n_epochs, seed
        As for `of_nasbench101`.
    diverged : bool
        True includes diverged runs, with the highest last loss of the other runs. The replication left them out,
        which is impossible before training.
    """
    first, last = table.groupby("model", sort=False).nth(0), table.groupby("model", sort=False).nth(-1)
    losses = last["validation_loss"].where((last["status"] == "OK").to_numpy()).to_numpy(float)
    keeps = np.isfinite(losses) | diverged
    losses = np.where(np.isfinite(losses), losses, np.nanmax(losses))[keeps]
    early = first["validation_loss"].to_numpy(float)[keeps]
    recipes = [json.loads(text) for text in last["architecture"][keeps]]
    aligned, misaligned = graphs.of_recipes(recipes), graphs.of_recipes(recipes, aligned=False)
    settings = faithful(output="loss", n_epochs=n_epochs[0])
    return Task(
        "NAS-Bench-NLP" + (", diverged last" if diverged else ""), losses, judged=losses,
        distinct=last["distinct"][keeps].to_numpy(object),
        order=training_sets.split(len(losses), n_train, n_validation=n_validation, n_sets=n_sets, seed=seed),
        n_train=n_train, n_validation=n_validation, scale=1,
        features={"log parameters": np.log(last["n_params"].to_numpy(float)[keeps]),
                  "loss after 1 epoch": np.where(np.isfinite(early), early, np.nanmax(early))},
        published={} if diverged else {FAITHFUL: (misaligned, settings), "GCN, faithful, aligned": (aligned, settings)},
        chosen={TUNED: candidates({"aligned": aligned}, "gcn", n_epochs=n_epochs[1])},
    )  # fmt: skip
