"""Slow work of this chapter: predictors trained on every training set."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib import sources
from naaplib.architectures import schemes
from naaplib.cache import Piece, scratch
from naaplib.estimators import regressors
from naaplib.evaluation import protocols, training_sets
from naaplib.studies.neural_predictor import improvement, tables, tasks
from naaplib.studies.neural_predictor.tasks import Task
from naaplib.tables import derived, features, graph_benchmarks, naap440, nasbench201
from naaplib.training.devices import resolve

SCHEMES, CELLS, SMALL = "NAAP-440", "NAS-Bench-201", "NAS-Bench-101"
RECIPES, DIVERGED = "NAS-Bench-NLP", "NAS-Bench-NLP, diverged last"
ABLATION, VIOLATIONS, CLASSIFIER = "ablation", "violations", "classifier"
WIDTHS = "widths"
VALIDATED = (SCHEMES, CELLS, SMALL)  # with many test rows
IMPROVED = "naaplib.studies.neural_predictor.improvement"
N_DIGITS = 4


def pieces(
    *,
    source: str,
    nasbench201_file: str,
    nasbench101_file: str,
    proxylessnas_folder: str,
    nasbench_nlp_file: str,
    n_train_cells: int,
    n_train: int,
    n_validation: int,
    splits_layers: Mapping[str, Sequence[int]],
    classify_above: float,
    n_sets_cells: int,
    n_sets: int,
    n_sets_layers: int,
    widths: Mapping[str, Any],
    deep: Mapping[str, Sequence[int]],
    n_epochs: Sequence[int],
    n_folds: int,
    settings_changed: Mapping[str, Mapping[str, Any]],
    seeds: Mapping[str, int],
    device: str,
    n_jobs: int,
) -> list[Piece]:
    """Return the records of this chapter; parameters are those of its notebook."""
    common: dict[str, Any] = {"n_epochs": list(n_epochs), "n_folds": n_folds, "device": resolve(device).type}
    if seeds["sets"] or any(settings_changed.values()):  # earlier records have neither
        common |= {"first_seed": seeds["sets"], "settings": {key: dict(one) for key, one in settings_changed.items()}}
    small = {"n_train": n_train, "n_validation": n_validation, "n_sets": n_sets}
    settings: dict[str, dict[str, Any]] = {
        SCHEMES: {},
        CELLS: {"n_train": n_train_cells, "n_sets": n_sets_cells},
        SMALL: small | {"classify_above": classify_above},
        **{name: {"split": list(split), "n_sets": n_sets_layers} for name, split in splits_layers.items()},
        RECIPES: small,
        DIVERGED: small,
    }
    files = json.dumps([source, nasbench201_file, nasbench101_file, proxylessnas_folder, nasbench_nlp_file])
    found = []
    for name, own in settings.items():
        facts = {"dataset": name} | own | common
        given = partial(task, name, json.dumps(own | common), files=files)
        for kind, make in (("runs", _runs), ("chosen", _chosen)):
            work = partial(make, given, n_folds=n_folds, n_jobs=n_jobs, device=device)
            found.append(Piece(f"{kind}/{name}", facts, work, partial(paths, name, files), shares=name))
    for name in (*VALIDATED, *deep):
        facts = {"dataset": name} | settings[name] | common
        reads = partial(paths, name, files)
        if name in deep:
            n_train, n_validation, n_sets_deep, n_epochs_deep = deep[name]
            own = {"split": [n_train, n_validation], "n_sets": n_sets_deep} | common
            own["n_epochs"] = [n_epochs_deep, n_epochs[1]]
            given = partial(task, name, json.dumps(own), files=files)
            found.append(Piece(f"deep/{name}", {"dataset": name} | own, partial(_deep, given, n_jobs, device), reads))
            continue
        given = partial(task, name, json.dumps(settings[name] | common), files=files)
        own = facts | {"n_sets": n_sets}
        work = partial(_validated, given, n_sets, n_epochs=n_epochs[1], n_folds=n_folds, n_jobs=n_jobs)
        found.append(Piece(f"validated/{name}", own, work, reads, code=IMPROVED))
        work = partial(_revised, given, n_sets, n_folds=n_folds, n_jobs=n_jobs, device=device)
        found.append(Piece(f"revised/{name}", own, work, reads, code=IMPROVED))
    given = partial(task, CELLS, json.dumps(settings[CELLS] | common), files=files)
    own = {"dataset": CELLS, "widths": dict(widths)} | common
    work = partial(_widths, given, widths["n_train"], n_sets=widths["n_sets"], n_jobs=n_jobs, device=device)
    found.append(Piece(WIDTHS, own, work, partial(paths, CELLS, files)))
    own = {"dataset": SCHEMES, "seed": seeds["regressors"]} | common
    given = partial(task, SCHEMES, json.dumps(common), files=files)
    work = partial(_violations, given, source, seed=seeds["regressors"], n_folds=n_folds, n_jobs=n_jobs, device=device)
    found.append(Piece(VIOLATIONS, own, work, partial(paths, SCHEMES, files)))
    cells = settings[CELLS] | common
    given = partial(task, CELLS, json.dumps(cells), files=files)
    work = partial(
        _ablation, given, nasbench201_file, n_epochs=n_epochs[1], n_folds=n_folds, n_jobs=n_jobs, device=device
    )
    found.append(Piece(ABLATION, {"dataset": CELLS} | cells, work, partial(paths, CELLS, files)))
    cells = settings[SMALL] | common
    given = partial(task, SMALL, json.dumps(cells), files=files)
    work = partial(_classifier, given, device)
    found.append(Piece(CLASSIFIER, {"dataset": SMALL} | cells, work, partial(paths, SMALL, files)))
    return found


def paths(name: str, files: str) -> list[Path]:
    """Return the files of a dataset.

    Parameters
    ----------
    name : str
    files : str
        JSON: what the notebook's parameters name for NAAP-440, NAS-Bench-201, NAS-Bench-101, ProxylessNAS and
        NAS-Bench-NLP.
    """
    source, cells, small, layers, recipes = json.loads(files)
    if name == SCHEMES:
        return [naap440.find(source)]
    if name == CELLS:
        return [sources.ROOT / cells] if cells else [sources.find(one) for one in nasbench201.NASBENCH201]
    if name == SMALL:
        return [sources.ROOT / small if small else derived.find(graph_benchmarks.NASBENCH101)]
    if name in (RECIPES, DIVERGED):
        return [sources.ROOT / recipes if recipes else derived.find(graph_benchmarks.NASBENCH_NLP)]
    public = graph_benchmarks.PROXYLESSNAS.values()
    return sorted((sources.ROOT / layers).iterdir()) if layers else [sources.find(one) for one in public]


@functools.cache
def task(name: str, numbers: str, *, files: str) -> Task:
    """Return a dataset with its training sets and systems; arguments as JSON."""
    given = json.loads(numbers)
    seed = given.get("first_seed", 0)
    return improvement.with_settings(_task(name, given, files, seed), given.get("settings", {}), seed=seed)


def _task(name: str, given: Mapping[str, Any], files: str, seed: int) -> Task:
    read = paths(name, files)
    layer_folder = json.loads(files)[3]
    n_epochs = given["n_epochs"][0], given["n_epochs"][1]
    sizes = {key: given[key] for key in ("n_train", "n_validation", "n_sets") if key in given} | {"n_epochs": n_epochs}
    if name == SCHEMES:
        table = naap440.read(read[0])
        listed = schemes.enumerate_schemes()
        return tasks.of_naap440(table, [listed[i - 1] for i in table["ModelId"]], n_epochs=n_epochs)
    if name == CELLS:
        return tasks.of_nasbench201(
            cell_table(json.loads(files)[1]), given["n_train"], n_sets=given["n_sets"], n_epochs=n_epochs, seed=seed
        )
    if name == SMALL:
        small = graph_benchmarks.nasbench101(read[0])
        return tasks.of_nasbench101(small, **sizes, seed=seed, classify_above=given["classify_above"])
    if name in (RECIPES, DIVERGED):
        recipes = graph_benchmarks.nasbench_nlp(read[0])
        return tasks.of_nasbench_nlp(recipes, **sizes, seed=seed, diverged=name == DIVERGED)
    layers = graph_benchmarks.proxylessnas(sources.ROOT / layer_folder if layer_folder else None)
    n_train, n_validation = given["split"]
    return tasks.of_proxylessnas(
        layers, name, n_train=n_train, n_validation=n_validation, n_sets=given["n_sets"], n_epochs=n_epochs, seed=seed
    )


def cell_table(file: str) -> pd.DataFrame:
    """Read NAS-Bench-201, or the table that a notebook's parameter names."""
    return pd.read_csv(sources.ROOT / file) if file else nasbench201.nasbench201()


def datasets(pieces: Sequence[Piece]) -> list[Task]:
    """Return the datasets that records are of, in their order."""
    return [piece.make.args[0]() for piece in pieces if piece.name.startswith("runs/")]  # type: ignore[attr-defined]


def together(read: Mapping[str, pd.DataFrame], kind: str) -> pd.DataFrame:
    """Return the records of one kind, "runs" or "chosen", in one table."""
    parts = [table for name, table in read.items() if name.startswith(f"{kind}/") and len(table)]
    return pd.concat(parts, ignore_index=True)


def _run(given: Any, n_folds: int, n_jobs: int, device: str) -> tuple[dict[str, NDArray[np.float64]], pd.DataFrame]:
    return tasks.run(given(), n_folds, folder=scratch(), n_jobs=n_jobs, device=device)


def _runs(given: Any, n_folds: int, n_jobs: int, device: str) -> pd.DataFrame:
    found, _ = _run(given, n_folds, n_jobs, device)
    return tables.evaluate(given(), found).assign(n_train=given().n_train).round(N_DIGITS)


def _chosen(given: Any, n_folds: int, n_jobs: int, device: str) -> pd.DataFrame:
    """Return how many training sets chose each candidate."""
    _, validated = _run(given, n_folds, n_jobs, device)
    chosen = validated[validated["chosen"].astype(bool)].assign(dataset=given().name)
    return chosen.groupby(["dataset", "system", "candidate"], sort=False).size().reset_index(name="n_sets")


def _violations(given: Any, source: str, seed: int, n_folds: int, n_jobs: int, device: str) -> pd.DataFrame:
    """Return violations of predictors and regressors on NAAP-440's eleven splits."""
    table = naap440.read(naap440.find(source))
    plain: dict[int | str, pd.DataFrame] = {
        "six scheme features": features.published(table, features.SIX_SCHEME_COLUMNS, n_epochs=0),
        "every block": features.blocks(schemes.enumerate_schemes()).loc[table["ModelId"]],
    }
    splits = naap440.splits(table)
    regressed = protocols.predict(
        table["MaxAccuracy"], plain, algorithms=regressors.ALGORITHMS, seeds=[seed], splits=splits, n_jobs=n_jobs
    )
    found, _ = _run(given, n_folds, n_jobs, device)
    return tables.violations(given(), found, regressions=protocols.score(regressed))


def _classifier(given: Any, device: str) -> pd.DataFrame:
    return tables.classify(given(), device)


def _ablation(given: Any, file: str, n_epochs: int, n_folds: int, n_jobs: int, device: str) -> pd.DataFrame:
    """Return the improved GCN with one thing changed at a time, on NAS-Bench-201."""
    whole = given()
    ablated = tables.ablation(whole, min(10, len(whole.order)), n_epochs=n_epochs)
    early = replace(
        ablated, targets=nasbench201.accuracies(cell_table(file))[12, "single"].to_numpy(),
        published={"trained on 12 epochs": ablated.published["nothing"]},
    )  # fmt: skip
    rows = [
        tables.evaluate(one, tasks.run(one, n_folds, folder=scratch(), n_jobs=n_jobs, device=device)[0])
        for one in (ablated, early)
    ]
    table = pd.concat(rows).query("part == 'test' and not system.str.startswith('mean')")
    return training_sets.summarise(table, ["system"]).rename(columns={"system": "change"}).round(N_DIGITS)


def _evaluated(whole: Task, n_folds: int, n_jobs: int, device: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what its systems predict, evaluated without the baseline, and what training sets chose."""
    predictions, validated = tasks.run(whole, n_folds, folder=scratch(), n_jobs=n_jobs, device=device)
    del predictions[tasks.MEAN]
    return tables.evaluate(whole, predictions).assign(n_train=whole.n_train).round(N_DIGITS), validated


def _revised(given: Any, n_sets: int, n_folds: int, n_jobs: int, device: str) -> pd.DataFrame:
    """Return the revised predictor, evaluated, with the candidate that each training set chose."""
    found, validated = _evaluated(improvement.revised(given(), n_sets), n_folds, n_jobs, device)
    chosen = validated[validated["chosen"].astype(bool)]
    return found.merge(chosen[["system", "set", "candidate"]], on=["system", "set"])


def _validated(given: Any, n_sets: int, n_epochs: int, n_folds: int, n_jobs: int) -> pd.DataFrame:
    found = improvement.validate(given(), n_sets, n_epochs=n_epochs, n_folds=n_folds, folder=scratch(), n_jobs=n_jobs)
    return found.round(N_DIGITS)


def _deep(given: Any, n_jobs: int, device: str) -> pd.DataFrame:
    return _evaluated(improvement.printed_settings(given()), 2, n_jobs, device)[0]


def _widths(given: Any, n_train: Sequence[int], n_sets: int, n_jobs: int, device: str) -> pd.DataFrame:
    """Return the replicated predictor on NAS-Bench-201 for each N, with one width and with that which goes with N."""
    found = [_evaluated(one, 2, n_jobs, device)[0] for one in improvement.of_widths(given(), n_train, n_sets=n_sets)]
    return pd.concat(found, ignore_index=True).query("part.isin(['train', 'test'])")
