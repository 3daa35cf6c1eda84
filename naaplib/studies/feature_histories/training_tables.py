"""Tables of trainings of the study's kind: early ends, budgets, cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from naaplib.studies.feature_histories.tables import from_curves, score
from naaplib.studies.feature_histories.trainings import CLASSICS, MAIN_CLAIM, budget_name

SPEED_UP = 2.7  # of the study, Figure 3.1: 200 epochs to 75
BENCHMARK, OWN = "benchmark", "own training"


def followed(tables: Mapping[str, pd.DataFrame], size: Mapping[str, Any]) -> pd.DataFrame:
    """Return the learning curves of the chapter's networks of the study's kind.

    The study's main example comes last, if there is one, by its network and images.
    """
    if not size:
        return tables[CLASSICS]
    example = tables[MAIN_CLAIM].assign(network=f"{size['network']}, {size['images']}")
    return pd.concat([tables[CLASSICS], example], ignore_index=True)


def shorter(tables: Mapping[str, pd.DataFrame], size: Mapping[str, Any], *, budgets: Sequence[int]) -> pd.DataFrame:
    """Return learning curves of the main example by the length of its training.

    The study's Figure 4.2 has them. The learning rate falls to zero within each length.

    Parameters
    ----------
    tables : mapping from name of the record to DataFrame
    size : mapping
        The main example: network, images, max_budget.
    budgets : sequence of int
        Epochs of the shorter trainings.

    Returns
    -------
    DataFrame
        Columns of the records, shortest training first; network also says its images and its epochs.
    """
    named = {n: budget_name(n) for n in budgets} | {size["max_budget"]: MAIN_CLAIM}
    example = f"{size['network']}, {size['images']}"
    parts = [tables[named[n]].assign(network=f"{example}, {n} epochs") for n in sorted(named)]
    return pd.concat(parts, ignore_index=True)


def score_cells(curves: pd.DataFrame, accuracy: pd.Series, *, n_resamples: int) -> pd.DataFrame:
    """Return error and Kendall's tau of estimates for cells (Figures 4.3, 4.4).

    Parameters
    ----------
    curves : DataFrame
        Record of the cells: architecture, epoch, and accuracies of the three classifiers.
    accuracy : Series
        True accuracy by architecture, as the benchmark has it.
    n_resamples : int
        As for `.tables.score`.

    Returns
    -------
    DataFrame
        target (`BENCHMARK`, or `OWN`: accuracy at the end of the same training), then as from `.tables.score`, for the
        three classifiers, the best epoch so far, and families of curves continued to the last epoch.
    """
    curves = curves.rename(columns={"architecture": "ModelId"})
    own = curves.pivot_table(index="ModelId", columns="epoch", values="original")
    told = from_curves(own, own.shape[1], cycle=1, known=(own.iloc[:0], []), epochs=list(own)).drop(
        columns="mean of a cycle"
    )
    estimates = curves.merge(told, on=["ModelId", "epoch"])
    targets = {BENCHMARK: accuracy.loc[own.index], OWN: own.iloc[:, -1]}
    parts = [
        score(truth, estimates, baseline="original", n_resamples=n_resamples).assign(target=name)
        for name, truth in targets.items()
    ]
    scored = pd.concat(parts, ignore_index=True)
    return scored[["target", *scored.columns[:-1]]]


def main_claim(found: Mapping[str, Any], size: Mapping[str, Any]) -> str:
    """Return a sentence on the study's main claim, tried where it was made.

    The claim is that an ensemble is as good after 75 of 200 epochs as the network in the end: 2.7 times earlier.

    Parameters
    ----------
    found : mapping
        A network, n_epochs, and by classifier the first epoch that is as good to stay; missing if none
        is.
    size : mapping
        The chapter's parameter: width, n_train.

    Examples
    --------
    >>> row = {"network": "resnet18, CIFAR-100", "n_epochs": 30, "original": 28, "ensemble": 25}
    >>> main_claim(row, {"width": 0.25, "n_train": 4000})[:68]
    'In a training of its main example (resnet18, CIFAR-100, 0.25 of its '
    """
    ensemble = found["ensemble"]
    times = 0.0 if pd.isna(ensemble) else found["n_epochs"] / ensemble
    early = f"from epoch {ensemble} on" if times else "in no epoch"
    verdict = "as in the study, 2.7 times" if times >= SPEED_UP else "not 2.7 times as in the study"
    ahead = f": {times:.1f} times earlier than the end, {verdict}" if times else ", not 2.7 times earlier than the end"
    doubt = "" if found["n_epochs"] >= 200 else " So small a training does not decide about the full one."
    return (
        f"In a training of its main example ({found['network']}, {size['width']:g} of its channels, "
        f"{size['n_train']:,} images, {found['n_epochs']} epochs) the network's own accuracy stays within one "
        f"percentage point of the end from epoch {found['original']} on, and the ensemble {early}{ahead}.{doubt}"
    )


def cells_sentence(scored: pd.DataFrame) -> str:
    """Return a sentence on the order of cells after half of their training.

    `scored` is as `score_cells` returns it.
    """
    at = scored[(scored["target"] == BENCHMARK) & (scored["epoch"] == scored["epoch"].max() // 2)].set_index("estimate")
    ours, own = at.loc["ensemble"], at.loc["original"]
    better = "better" if ours["tau_gain_low"] > 0 else "worse" if ours["tau_gain_high"] < 0 else "no better"
    doubt = "" if own["kendall_tau_low"] > 0 else " So small a training does not clearly order these cells at all."
    taus = [
        f"**{row['kendall_tau']:.2f}** ({row['kendall_tau_low']:.2f} to {row['kendall_tau_high']:.2f})"
        for row in (ours, own)
    ]
    return (
        f"After {own['epoch']} of {scored['epoch'].max()} epochs of a small training the ensemble ranks {own['n']} "
        f"cells of NAS-Bench-201 {better} than their own accuracy does: Kendall's tau {' against '.join(taus)}.{doubt}"
    )
