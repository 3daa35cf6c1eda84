"""How early estimates know the final accuracy of networks, and their final order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from naaplib import metrics
from naaplib.estimators import curves
from naaplib.report import protocols, ranking

FITTED = {"power law": "pow3", "inverse logarithm": "ilog2", "Morgan-Mercer-Flodin": "mmf4"}
SUPPORT_VECTORS = "support vectors"


def from_curves(
    own: pd.DataFrame, at: int, cycle: int, known: tuple[ArrayLike, ArrayLike], epochs: Sequence[int]
) -> pd.DataFrame:
    """What the learning curves of networks say of their final accuracy, after epoch upon epoch.

    Parameters
    ----------
    own : DataFrame, shape (n_archs, n_epochs)
        Accuracies by ModelId and epoch, from 1.
    at : int
        The final epoch, to which fits are continued.
    cycle : int
        Of the learning rate: its mean, and the ends to which families are fitted.
    known : (array_like (n_known, n_epochs or more), array_like (n_known,))
        Curves and final accuracies of other networks, from which support vectors learn; without any they are not asked.
    epochs : sequence of int
        After which families are fitted and support vectors asked, which takes longer than the rest.

    Returns
    -------
    DataFrame
        ModelId, epoch, best so far, mean of a cycle, power law, inverse logarithm, Morgan-Mercer-Flodin, and support
        vectors; NaN where these are not asked.
    """
    seen = own.to_numpy(float)
    others, finals = (np.asarray(values, dtype=float) for values in known)
    parts = []
    for epoch in range(1, seen.shape[1] + 1):
        so_far = seen[:, :epoch]
        part = {"best so far": curves.best(so_far), "mean of a cycle": curves.mean_of_cycle(so_far, cycle)}
        if epoch in epochs:
            part |= {name: curves.fit(so_far, at, family, cycle) for name, family in FITTED.items()}
            if len(others):
                model = curves.support_vector().fit(curves.features(others[:, :epoch]), finals)
                part[SUPPORT_VECTORS] = model.predict(curves.features(so_far))
        parts.append(pd.DataFrame({"ModelId": own.index, "epoch": epoch} | part))
    return pd.concat(parts, ignore_index=True)


def regress(
    measured: pd.Series, feature_sets: Mapping[int | str, pd.DataFrame], algorithms: Sequence[str], is_test: ArrayLike
) -> pd.DataFrame:
    """Regressors of chapter 05, trained on other networks, in the same measures.

    Parameters
    ----------
    measured : Series, shape (n_archs,)
        Final accuracy by ModelId.
    feature_sets, algorithms
        As for `naaplib.report.protocols.predict`; one run each.
    is_test : array_like of bool, shape (n_archs,)

    Returns
    -------
    DataFrame
        One row a feature set and algorithm: features, algorithm, n, mae, kendall_tau and their intervals over networks.
    """
    found = protocols.predict(measured, feature_sets, algorithms, [0], {0: np.asarray(is_test, dtype=bool)})
    rows = []
    for (features, algorithm), part in found.groupby(["features", "algorithm"], sort=False):
        row = {"features": features, "algorithm": algorithm, "n": len(part)}
        for metric in (metrics.mae, metrics.kendall_tau):
            low, high = metrics.bootstrap_interval(metric, part["measured"], part["predicted"])
            name = metric.__name__
            row |= {name: metric(part["measured"], part["predicted"]), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


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


def sentence(scores: pd.DataFrame, ensemble: str, baseline: str, regressed: pd.DataFrame, epoch: int) -> str:
    """The chapter's answer, from `score` and `regress`: the ensemble against the baseline and against what is cheap."""
    at = scores[scores["epoch"] == epoch].set_index("estimate")
    ours, own = at.loc[ensemble], at.loc[baseline]
    names = [name for name in (*FITTED, SUPPORT_VECTORS, "best so far", "mean of a cycle") if name in at.index]
    cheap = at.loc[names].sort_values("mae", kind="stable").iloc[0]
    blind = regressed.iloc[0]
    nearer = _verdict(ours, "mae_gain", "is nearer than", "is further off than", "is not clearly nearer than")
    better = _verdict(ours, "tau_gain", "ranks better", "ranks worse", "does not clearly rank better")
    return (
        f"After {epoch} of 90 epochs, from held-out images, the **{ensemble}** knows the final "
        f"accuracy of {ours['n']:.0f} networks to **{ours['mae']:.4f}** and ranks them with a Kendall tau of "
        f"**{ours['kendall_tau']:.3f}**; it {nearer} the network's own accuracy of that epoch ({own['mae']:.4f}; gain "
        f"{_interval(ours, 'mae_gain', 4)}) and {better} ({own['kendall_tau']:.3f}; gain "
        f"{_interval(ours, 'tau_gain', 3)}). The nearest of what learning curves tell without features is {cheap.name} "
        f"({cheap['mae']:.4f}, tau {cheap['kendall_tau']:.3f}); {blind['algorithm']} on the scheme alone, which sees "
        f"no training of the network, errs by {blind['mae']:.4f} and has a tau of {blind['kendall_tau']:.3f}."
    )


def _verdict(row: pd.Series, gain: str, more: str, less: str, neither: str) -> str:
    return more if row[f"{gain}_low"] > 0 else less if row[f"{gain}_high"] < 0 else neither


def _interval(row: pd.Series, name: str, digits: int) -> str:
    low, value, high = (f"{row[f'{name}{end}']:.{digits}f}" for end in ("_low", "", "_high"))
    return f"{value}, 95 % interval {low} to {high}"
