"""Tables of early estimates: errors of final accuracies, and of their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from naaplib import metrics
from naaplib.estimators import learning_curves
from naaplib.evaluation import intervals, printed, protocols, ranking

FITTED = {"power law": "pow3", "inverse logarithm": "ilog2", "Morgan-Mercer-Flodin": "mmf4"}  # digits: parameters
SUPPORT_VECTORS = "support vectors"


def from_curves(
    own: pd.DataFrame, at: int, *, cycle: int, known: tuple[ArrayLike, ArrayLike], epochs: Sequence[int]
) -> pd.DataFrame:
    """Estimate final accuracies from learning curves, after each of some epochs.

    Parameters
    ----------
    own : DataFrame, shape (n_archs, n_epochs)
        Accuracies by ModelId and epoch, from 1.
    at : int
        The final epoch, to which fits are extrapolated.
    cycle : int
        Cycle of the learning rate, for the mean and for the cycle ends to which families are fitted.
    known : (array_like (n_known, n_epochs or more), array_like (n_known,))
        Curves and final accuracies of other networks, to train support vectors; without any these are left out.
    epochs : sequence of int
        Epochs after which families are fitted and support vectors predict; this is slow.

    Returns
    -------
    DataFrame
        ModelId, epoch, best so far, mean of a cycle, power law, inverse logarithm, Morgan-Mercer-Flodin, and support
        vectors. NaN marks other epochs, and families with fewer points than parameters.
    """
    seen = own.to_numpy(float)
    others, finals = (np.asarray(values, dtype=float) for values in known)
    unknown = np.full(len(seen), np.nan)
    parts = []
    for epoch in range(1, seen.shape[1] + 1):
        so_far = seen[:, :epoch]
        part = {
            "best so far": learning_curves.best(so_far),
            "mean of a cycle": learning_curves.mean_of_cycle(so_far, cycle),
        }
        if epoch in epochs:
            part |= {
                name: learning_curves.fit(so_far, at, family=family, cycle=cycle)
                if epoch // cycle >= int(family[-1])
                else unknown
                for name, family in FITTED.items()
            }
            if len(others):
                model = learning_curves.support_vector().fit(learning_curves.features(others[:, :epoch]), finals)
                part[SUPPORT_VECTORS] = model.predict(learning_curves.features(so_far))
        parts.append(pd.DataFrame({"ModelId": own.index, "epoch": epoch} | part))
    return pd.concat(parts, ignore_index=True)


def regress(
    measured: pd.Series,
    feature_sets: Mapping[int | str, pd.DataFrame],
    *,
    algorithms: Sequence[str],
    is_test: ArrayLike,
) -> pd.DataFrame:
    """Evaluate chapter 05's regressors, trained on other networks.

    Parameters
    ----------
    measured : Series, shape (n_archs,)
        Final accuracy by ModelId.
    feature_sets, algorithms
        As for `.protocols.predict`, with one run each.
    is_test : array_like of bool, shape (n_archs,)

    Returns
    -------
    DataFrame
        One row per feature set and algorithm: features, algorithm, n, mae, kendall_tau and their intervals over
        networks, violations.
    """
    found = protocols.predict(
        measured, feature_sets, algorithms=algorithms, seeds=[0], splits={0: np.asarray(is_test, dtype=bool)}
    )
    rows = []
    for (features, algorithm), part in found.groupby(["features", "algorithm"], sort=False):
        row = {"features": features, "algorithm": algorithm, "n": len(part)}
        for metric in (metrics.mae, metrics.kendall_tau):
            low, high = intervals.bootstrap_interval(part["measured"], part["predicted"], metric=metric)
            name = metric.__name__
            row |= {name: metric(part["measured"], part["predicted"]), f"{name}_low": low, f"{name}_high": high}
        rows.append(row | {"violations": metrics.violations(part["measured"], part["predicted"])})
    return pd.DataFrame(rows)


def score(measured: pd.Series, estimates: pd.DataFrame, *, baseline: str, n_resamples: int = 1000) -> pd.DataFrame:
    """Return error and Kendall's tau of every estimate after every epoch.

    Parameters
    ----------
    measured : Series, shape (n_archs,)
        Final accuracy by ModelId.
    estimates : DataFrame
        ModelId, epoch, and a column for every estimate: an accuracy, or NaN before there is one. An epoch leaves out
        an estimate that lacks a network.
    baseline : str
        Estimate to compute gains over.
    n_resamples : int
        Resamples of 95 % bootstrap percentile intervals over networks, the same for all.

    Returns
    -------
    DataFrame
        One row per epoch and estimate, in order: epoch, estimate, n, and with intervals (_low, _high): mae (mean
        absolute error), mae_gain (the baseline's minus its own), kendall_tau (tau-b), tau_gain; violations.
    """
    rows = []
    for epoch, part in estimates.groupby("epoch"):
        table = part.set_index("ModelId").drop(columns="epoch")
        table = table[[name for name in table if name == baseline or table[name].notna().all()]]
        truth = measured.loc[table.index]
        apart = table.sub(truth, axis=0).abs()
        draws = np.random.default_rng(0).integers(len(table), size=(n_resamples, len(table)))
        means = pd.DataFrame({name: apart[name].to_numpy()[draws].mean(axis=1) for name in apart})
        taus = ranking.ranks(truth, table, baseline=baseline, n_resamples=n_resamples).set_index("score")
        for name in table:
            row = {"epoch": epoch, "estimate": name, "n": len(table)}
            row |= _with_interval("mae", apart[name].mean(), means[name])
            gain = apart[baseline].mean() - apart[name].mean()
            row |= _with_interval("mae_gain", gain, means[baseline] - means[name])
            for key, tau in {"kendall_tau": "tau_b", "tau_gain": "gain"}.items():
                row |= {f"{key}{end}": taus.loc[name, f"{tau}{end}"] for end in ("", "_low", "_high")}
            rows.append(row | {"violations": metrics.violations(truth, table[name])})
    return pd.DataFrame(rows)


def _with_interval(name: str, value: float, resampled: pd.Series) -> dict[str, float]:
    low, high = resampled.quantile([0.025, 0.975])
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def epochs_ahead(scores: pd.DataFrame, baseline: str, *, epochs: Sequence[int]) -> pd.DataFrame:
    """Return the epoch at which the baseline becomes as good as an estimate.

    Parameters
    ----------
    scores : DataFrame
        As `score` returns it, with the baseline at every epoch that may be the answer.
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


def readable(scores: pd.DataFrame, rows: str = "estimate", *, columns: str = "epoch") -> pd.DataFrame:
    """Format Kendall's tau of `score` or `regress`, as "0.78 (0.66 to 0.87)".

    Parameters
    ----------
    scores : DataFrame
    rows, columns : str
        Columns whose values become the rows and the columns.

    Returns
    -------
    DataFrame
        A column for the rows' names, and one for each value of `columns`; empty where there is no estimate. A + or -
        follows if the interval of the gain lies above or below 0.
    """
    texts = printed.with_interval(scores, "kendall_tau")
    if "tau_gain" in scores:
        signs = np.where(scores["tau_gain_low"] > 0, " +", np.where(scores["tau_gain_high"] < 0, " -", ""))
        texts = [f"{text}{sign}" for text, sign in zip(texts, signs, strict=True)]
    return printed.across(scores.assign(text=texts), rows, columns=columns, values="text")


def sentence(scores: pd.DataFrame, ensemble: str, *, baseline: str, regressed: pd.DataFrame, epoch: int) -> str:
    """Return the chapter's answer, from `score` and `regress`.

    It compares the ensemble with the baseline and with cheap estimates.
    """
    at = scores[scores["epoch"] == epoch].set_index("estimate")
    ours, own, blind = at.loc[ensemble], at.loc[baseline], regressed.iloc[0]
    better = "better" if ours["tau_gain_low"] > 0 else "worse" if ours["tau_gain_high"] < 0 else "no better"
    return (
        f"After {epoch} of 90 epochs the **{ensemble}** ranks {ours['n']:.0f} networks {better} than their own "
        f"accuracy does: Kendall's tau {_order(ours)} against {_order(own)}. {blind['algorithm']} on the scheme alone, "
        f"which sees no training of these networks, reaches {_order(blind)}."
    )


def _order(row: pd.Series) -> str:
    return f"**{row['kendall_tau']:.2f}** ({row['violations']:g} violations)"


def flips(bits: Mapping[int, Sequence[Mapping[str, NDArray[np.bool_]]]], n_images: int) -> pd.DataFrame:
    """Return the images that change between right and wrong (Figure 3.2).

    Figures are those of the feature-history study (2021).

    Parameters
    ----------
    bits : mapping from ModelId to sequence of mappings from classifier to bool (n_images,)
        Test images that each classifier got right, by epoch.
    n_images : int
        Number of images, at equal distances from the first.

    Returns
    -------
    DataFrame
        ModelId, classifier, image (its index in the test images), right (a text of 0 and 1, one per epoch).
    """
    rows = []
    for model_id, epochs in bits.items():
        for name in epochs[0]:
            right = np.stack([found[name] for found in epochs], axis=1).astype(int)
            for image in range(0, len(right), max(len(right) // n_images, 1))[:n_images]:
                rows.append((model_id, name, image, "".join(map(str, right[image]))))
    return pd.DataFrame(rows, columns=["ModelId", "classifier", "image", "right"])


def breakdown(bits: Mapping[int, Sequence[Mapping[str, NDArray[np.bool_]]]]) -> pd.DataFrame:
    """Return agreement with the final network, image by image (Figure 3.3).

    Parameters
    ----------
    bits
        As for `flips`.

    Returns
    -------
    DataFrame
        ModelId, epoch, classifier, and shares of the images: true_positive (the classifier and the final network are
        both right), true_negative (both wrong), false_positive (the classifier alone is right), false_negative.
    """
    rows = []
    for model_id, epochs in bits.items():
        final = epochs[-1]["original"]
        for epoch, found in enumerate(epochs, start=1):
            for name, right in found.items():
                shares = (right & final, ~right & ~final, right & ~final, ~right & final)
                rows.append((model_id, epoch, name, *(share.mean() for share in shares)))
    kinds = ["true_positive", "true_negative", "false_positive", "false_negative"]
    return pd.DataFrame(rows, columns=["ModelId", "epoch", "classifier", *kinds])
