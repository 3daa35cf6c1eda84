"""Curves and HyperBand searches of the feature-history study, by training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from naaplib.architectures.cells import OPERATIONS, from_string
from naaplib.search import objectives, strategies
from naaplib.search.training_objective import Configuration, Setting, Trained
from naaplib.training import cifar10
from naaplib.training.cifar10 import Images

N_DIGITS = 5
CLASSIFIERS = ("original", "optimised", "ensemble")
OBJECTIVES: dict[str, Callable[..., Trained]] = {
    "RandAugment": objectives.rand_augment,
    "scaled ResNet-18": objectives.scaled_resnet18,
    "DARTS space": objectives.darts,
}


def curves(images_file: str, settings: Mapping[str, Setting], *, folder: Path, n_jobs: int = 1) -> pd.DataFrame:
    """Train the study's networks and return their learning curves.

    Training is resumed from the last finished epoch.

    Parameters
    ----------
    images_file : str
        "CIFAR-10", "CIFAR-100" or an ``.npz`` file, for `.cifar10.read`; "" is CIFAR-10.
    settings : mapping from network to Setting
        Networks of `.cifar_networks`. Each is trained for its setting's largest budget, and needs a window.
    folder : Path
        Folder of checkpoints.
    n_jobs : int
        Number of processes; each trains one network at a time.

    Returns
    -------
    DataFrame
        network, epoch, original, optimised, ensemble: accuracies on validation images.
    """
    tasks = [(_train, name, setting, folder / name) for name, setting in settings.items()]
    return _run(images_file, tasks, n_jobs)


def cell_curves(
    images_file: str, chosen: Sequence[str], *, setting: Setting, n_cells: int, folder: Path, n_jobs: int = 1
) -> pd.DataFrame:
    """Train cells of NAS-Bench-201 and return their learning curves, as `curves` does.

    Parameters
    ----------
    chosen : sequence of str
        The benchmark's texts for cells.
    setting : Setting
        It holds for all trainings.
    n_cells : int
        Cells in each stage of a network.
    images_file, folder, n_jobs
        As for `curves`.

    Returns
    -------
    DataFrame
        architecture, the benchmark's text, and the columns of `curves` after its network.
    """
    return _run(images_file, [(_train_cell, text, setting, folder, n_cells) for text in chosen], n_jobs)


def searches(
    images_file: str,
    settings: Mapping[str, Setting],
    *,
    eta: int,
    seed: int,
    folder: Path,
    n_jobs: int = 1,
    **options: Any,
) -> pd.DataFrame:
    """Run HyperBand once on each training objective, and return the searches.

    A search has the budget of one pass through its brackets. Its trace is in `folder`.

    Parameters
    ----------
    settings : mapping from name to Setting
        Settings by name of the objective, from `OBJECTIVES`.
    eta, seed : int
        Arguments of `.strategies.hyperband`; the setting has the largest budget.
    images_file, folder, n_jobs
        As for `curves`.
    **options
        Other arguments of the objectives, such as `n_cells` of the DARTS space.

    Returns
    -------
    DataFrame
        objective, the columns of `.budget.Ledger.table`, and test_accuracy of configurations at the
        largest budget, NaN at others. No search sees it.
    """
    if unknown := sorted(set(settings) - set(OBJECTIVES)):
        raise ValueError(f"no objective is called {unknown[0]!r}; there are {', '.join(OBJECTIVES)}")
    tasks = [
        (_search, name, setting, folder / name.replace(" ", "-"), eta, seed, options)
        for name, setting in settings.items()
    ]
    return _run(images_file, tasks, n_jobs)


def _run(images_file: str, tasks: list[tuple[Any, ...]], n_jobs: int) -> pd.DataFrame:
    images = cifar10.read(images_file)
    parallel = Parallel(n_jobs=n_jobs, pre_dispatch="n_jobs")
    done = parallel(delayed(task)(images, *arguments) for task, *arguments in tasks)
    return pd.concat(done, ignore_index=True).round(N_DIGITS)


def _train(images: Images, name: str, setting: Setting, folder: Path) -> pd.DataFrame:
    table = _follow(objectives.plain(images, folder, network=name, setting=setting), (0,))
    table.insert(0, "network", name)
    return table


def _train_cell(images: Images, text: str, setting: Setting, folder: Path, n_cells: int) -> pd.DataFrame:
    configuration = tuple(OPERATIONS.index(operation) for operation in from_string(text))
    table = _follow(objectives.cell(images, folder, n_cells=n_cells, setting=setting), configuration)
    table.insert(0, "architecture", text)
    return table


def _follow(objective: Trained, configuration: Configuration) -> pd.DataFrame:
    for epoch in range(1, objective.setting.max_budget + 1):  # one at a time: each gets a checkpoint
        objective.evaluate(configuration, epoch)
    return objective.curves(configuration)


def _search(
    images: Images, name: str, setting: Setting, folder: Path, eta: int, seed: int, options: Mapping[str, Any]
) -> pd.DataFrame:
    objective = OBJECTIVES[name](images, folder, setting=setting, **options)
    total_budget = sum(_cost(rungs) for rungs in strategies.brackets(setting.max_budget, eta))
    trace = folder / f"seed-{seed}-eta-{eta}.jsonl"
    table = strategies.hyperband(
        objective, total_budget, max_budget=setting.max_budget, eta=eta, seed=seed, trace=trace
    )
    longest = table["budget"] == setting.max_budget
    told = table["configuration"].where(longest).dropna().map(lambda text: objective.test_accuracy(json.loads(text)))
    table["test_accuracy"] = told
    table.insert(0, "objective", name)
    return table


def _cost(rungs: strategies.Rungs) -> int:
    """Return the epochs of a bracket, whose promotions resume training."""
    paid, before = 0, 0
    for n, budget in rungs:
        paid, before = paid + n * (budget - before), budget
    return paid


def foretold(curves: pd.DataFrame, share: float = 0.01) -> pd.DataFrame:
    """Return the epoch at which each classifier reaches the final accuracy to stay.

    Parameters
    ----------
    curves : DataFrame
        As `curves` returns them.
    share : float
        Tolerance, an absolute difference of accuracies.

    Returns
    -------
    DataFrame
        network, n_epochs, final (the original's accuracy after the last epoch), and for each classifier the first epoch
        from which on it is at most `share` below the final accuracy; missing if it is further below after the last.
    """
    rows = []
    for name, part in curves.groupby("network", sort=False):
        final = part["original"].iloc[-1]
        row = {"network": name, "n_epochs": len(part), "final": final}
        for classifier in CLASSIFIERS:
            below = part.loc[part[classifier] < final - share, "epoch"]
            row[classifier] = part.loc[part["epoch"] > max([0, *below]), "epoch"].min()
        rows.append(row)
    return pd.DataFrame(rows).astype(dict.fromkeys(CLASSIFIERS, "Int64"))


def sentence(early_on: pd.DataFrame) -> str:
    """Return a sentence on the study's main claim in our trainings of its kind.

    The study's ensemble is as good after 75 of 200 epochs as the network in the end. Here twice as early is enough.
    """
    each = [
        ("in no epoch" if pd.isna(row.ensemble) else f"from epoch {row.ensemble} on")
        + f" for {row.network}, whose own accuracy does from {row.original} on"
        for row in early_on.itertuples()
    ]
    is_early = (2 * early_on["ensemble"] <= early_on["original"]).fillna(False).all()
    verdict = "is reproduced" if is_early else "is not reproduced"
    return (
        f"The study's claim that an ensemble is as good as the trained network long before the end {verdict}: in "
        f"trainings of its kind, {early_on['n_epochs'].max()} epochs long, the ensemble stays within one percentage "
        f"point of the end {', and '.join(each)}."
    )
