"""How early estimates know the final accuracy of networks, and their final order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib.report import ranking


def score(
    measured: pd.Series, estimates: pd.DataFrame, baseline: str, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Absolute error and Kendall's tau of every estimate after every epoch.

    Parameters
    ----------
    measured : Series, shape (n_archs,)
        Final accuracy by ModelId.
    estimates : DataFrame
        ModelId, epoch, and a column for every estimate: an accuracy, or NaN where there is none yet. An epoch at which
        an estimate lacks a network leaves that estimate out.
    baseline : str
        Estimate that gains are over.
    n_resamples, seed
        Of percentile intervals at 95 % over networks, the same draws for all.

    Returns
    -------
    DataFrame
        One row an epoch and estimate, in order: epoch, estimate, n, then with their intervals _low and _high: mae (mean
        absolute error), mae_gain (less than the baseline's by so much), kendall_tau (tau-b), tau_gain.
    """
    rows = []
    for epoch, part in estimates.groupby("epoch"):
        table = part.set_index("ModelId").drop(columns="epoch")
        table = table[[name for name in table if name == baseline or table[name].notna().all()]]
        truth = measured.loc[table.index]
        apart = table.sub(truth, axis=0).abs()
        draws = np.random.default_rng(seed).integers(len(table), size=(n_resamples, len(table)))
        means = pd.DataFrame({name: apart[name].to_numpy()[draws].mean(axis=1) for name in apart})
        taus = ranking.ranks(truth, table, baseline, n_resamples, seed=seed).set_index("score")
        for name in table:
            row = {"epoch": epoch, "estimate": name, "n": len(table)}
            row |= _with_interval("mae", apart[name].mean(), means[name])
            gain = apart[baseline].mean() - apart[name].mean()
            row |= _with_interval("mae_gain", gain, means[baseline] - means[name])
            for key, tau in {"kendall_tau": "tau_b", "tau_gain": "gain"}.items():
                row |= {f"{key}{end}": taus.loc[name, f"{tau}{end}"] for end in ("", "_low", "_high")}
            rows.append(row)
    return pd.DataFrame(rows)


def _with_interval(name: str, value: float, resampled: pd.Series) -> dict[str, float]:
    low, high = resampled.quantile([0.025, 0.975])
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def epochs_ahead(scores: pd.DataFrame, baseline: str, epochs: Sequence[int]) -> pd.DataFrame:
    """How much longer the baseline must train to be as good as an estimate.

    Parameters
    ----------
    scores : DataFrame
        As from `score`; with the baseline at every epoch that may be the answer.
    baseline : str
    epochs : sequence of int

    Returns
    -------
    DataFrame
        epoch, estimate, and for mae and kendall_tau: {measure}_epoch, the first epoch at which the baseline is no
        worse than the estimate is at `epoch`; NaN if it never is.
    """
    own = scores[scores["estimate"] == baseline].sort_values("epoch")
    rows = []
    for row in scores[scores["epoch"].isin(epochs)].itertuples():
        reached = {"mae": own["mae"] <= row.mae, "kendall_tau": own["kendall_tau"] >= row.kendall_tau}
        found = {f"{name}_epoch": _first(own["epoch"].to_numpy(), bits.to_numpy()) for name, bits in reached.items()}
        rows.append({"epoch": row.epoch, "estimate": row.estimate} | found)
    return pd.DataFrame(rows)


def _first(epochs: NDArray[np.int64], reached: NDArray[np.bool_]) -> float:
    return float(epochs[reached.argmax()]) if reached.any() else float("nan")
