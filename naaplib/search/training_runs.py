"""The feature-history study's own networks and search spaces, trained for real: curves, and searches by HyperBand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed

from naaplib import cache
from naaplib.search import objectives, strategies
from naaplib.search.training_objective import Setting, Trained
from naaplib.sources import sha256
from naaplib.training import cifar10
from naaplib.training.cifar10 import Images

CURVES = "classics"
SEARCHES = "trained-searches"
N_DIGITS = 5
OBJECTIVES: dict[str, Callable[..., Trained]] = {
    "RandAugment": objectives.rand_augment,
    "scaled ResNet-18": objectives.scaled_resnet18,
}

Facts = dict[str, object]


def curves(
    images_file: str, settings: Mapping[str, Setting], archive: Path | None, index: str, folder: Path, n_jobs: int = 1
) -> tuple[pd.DataFrame, Facts]:
    """Curves of networks trained plainly: those in `archive` if they are of the same trainings, else they are trained.

    Stopped at any epoch's end and called again, it goes on where it was.

    Parameters
    ----------
    images_file : str
        An ``.npz`` file for `naaplib.training.cifar10.load_npz`; "" is CIFAR-10. Read only where something is trained.
    settings : mapping from network to Setting
        Networks are of `naaplib.architectures.cifar_networks`; each is trained for its setting's largest budget, and
        needs a window.
    archive : Path or None
        Folder that holds `index` and the curves, as a notebook wrote them before; None trains.
    index : str
        Name of the file that lists kept tables, see `naaplib.cache.find`.
    folder : Path
        Of checkpoints.
    n_jobs : int
        Networks at a time: processes.

    Returns
    -------
    curves : DataFrame
        network, epoch, original, optimised, ensemble: accuracies on held-out training images.
    facts : dict
        A row of the index, but for the table's SHA-256.
    """
    told = {name: asdict(setting) for name, setting in settings.items()}
    wanted: Facts = {"run": CURVES, "settings": json.dumps(told)}
    tasks = [(_train, name, setting, folder / name) for name, setting in settings.items()]
    return _obtain(wanted, images_file, archive, index, tasks, n_jobs)


def searches(
    images_file: str,
    settings: Mapping[str, Setting],
    eta: int,
    seed: int,
    archive: Path | None,
    index: str,
    folder: Path,
    n_jobs: int = 1,
) -> tuple[pd.DataFrame, Facts]:
    """HyperBand on objectives that train: kept as in `curves`, else one search of each, with its trace in `folder`.

    A search pays for as many epochs as one pass through its brackets takes.

    Parameters
    ----------
    settings : mapping from name to Setting
        Names are of `OBJECTIVES`.
    eta, seed : int
        Of `naaplib.search.strategies.hyperband`, whose largest budget is the setting's.
    images_file, archive, index, folder, n_jobs
        As for `curves`.

    Returns
    -------
    searches : DataFrame
        objective, the columns of `naaplib.search.budget.Ledger.table`, and test_accuracy of configurations at the
        largest budget, NaN at others: no search sees it.
    facts : dict
        A row of the index, but for the table's SHA-256.
    """
    if unknown := sorted(set(settings) - set(OBJECTIVES)):
        raise ValueError(f"no objective is called {unknown[0]!r}; there are {', '.join(OBJECTIVES)}")
    told = {name: asdict(setting) for name, setting in settings.items()}
    told |= {"search": {"eta": eta, "seed": seed}}
    wanted: Facts = {"run": SEARCHES, "settings": json.dumps(told)}
    tasks = [(_search, name, setting, folder / name.replace(" ", "-"), eta, seed) for name, setting in settings.items()]
    return _obtain(wanted, images_file, archive, index, tasks, n_jobs)


def _obtain(
    wanted: Facts, images_file: str, archive: Path | None, index: str, tasks: list[tuple[Any, ...]], n_jobs: int
) -> tuple[pd.DataFrame, Facts]:
    wanted = wanted | {"images": sha256(Path(images_file))[:16] if images_file else "CIFAR-10"}
    if found := cache.find(archive, index, wanted, str):
        path, row = found
        return pd.read_csv(path), wanted | {"torch": row["torch"]}
    images = cifar10.load_npz(images_file) if images_file else cifar10.load()
    parallel = Parallel(n_jobs=n_jobs, pre_dispatch="n_jobs")
    done = parallel(delayed(task)(images, *arguments) for task, *arguments in tasks)
    return pd.concat(done, ignore_index=True).round(N_DIGITS), wanted | {"torch": str(torch.__version__)}


def _train(images: Images, name: str, setting: Setting, folder: Path) -> pd.DataFrame:
    objective = objectives.plain(images, folder, name, setting)
    for epoch in range(1, setting.max_budget + 1):  # one at a time, so that each is kept
        objective.evaluate((0,), epoch)
    table = objective.curves((0,))
    table.insert(0, "network", name)
    return table


def _search(images: Images, name: str, setting: Setting, folder: Path, eta: int, seed: int) -> pd.DataFrame:
    objective = OBJECTIVES[name](images, folder, setting=setting)
    total_budget = sum(_cost(rungs) for rungs in strategies.brackets(setting.max_budget, eta))
    trace = folder / f"seed-{seed}-eta-{eta}.jsonl"
    table = strategies.hyperband(objective, total_budget, setting.max_budget, eta, seed, trace)
    longest = table["budget"] == setting.max_budget
    told = table["configuration"].where(longest).dropna().map(lambda text: objective.test_accuracy(json.loads(text)))
    table["test_accuracy"] = told
    table.insert(0, "objective", name)
    return table


def _cost(rungs: strategies.Rungs) -> int:
    """Epochs of a bracket, promotions trained on from where they are."""
    paid, before = 0, 0
    for n, budget in rungs:
        paid, before = paid + n * (budget - before), budget
    return paid


def foretold(curves: pd.DataFrame, share: float = 0.01) -> pd.DataFrame:
    """How early each classifier is, and stays, near the network's accuracy after its last epoch.

    Parameters
    ----------
    curves : DataFrame
        As from the function of that name.
    share : float
        How near: an absolute difference of accuracies.

    Returns
    -------
    DataFrame
        network, n_epochs, final (the original's accuracy after the last epoch), and for each classifier the first epoch
        from which on it is within `share` of the final accuracy or above it.
    """
    rows = []
    for name, part in curves.groupby("network", sort=False):
        final = part["original"].iloc[-1]
        row = {"network": name, "n_epochs": len(part), "final": final}
        for classifier in ("original", "optimised", "ensemble"):
            below = part.loc[part[classifier] < final - share, "epoch"]
            row[classifier] = int(below.max()) + 1 if len(below) else int(part["epoch"].iloc[0])
        rows.append(row)
    return pd.DataFrame(rows)


def sentence(early_on: pd.DataFrame) -> str:
    """Whether the study's main claim shows in trainings of its kind, from rows of `foretold`.

    The study's ensemble is as good after 75 of 200 epochs as the network in the end; here twice as early is enough.
    """
    epochs = {name: " and ".join(f"{epoch}" for epoch in early_on[name]) for name in ("ensemble", "original")}
    is_early = (2 * early_on["ensemble"] <= early_on["original"]).all()
    verdict = "is reproduced" if is_early else "is not reproduced"
    return (
        f"The study's claim that an ensemble is as good as the trained network long before the end {verdict}: in "
        f"trainings of its kind, {early_on['n_epochs'].max()} epochs of {' and '.join(early_on['network'])}, the "
        f"ensemble is there after {epochs['ensemble']}, the network itself after {epochs['original']}."
    )
