"""Tables of the feature study: Tables 1 and 2, logarithms, a reference, splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from naaplib import metrics
from naaplib.evaluation import intervals, protocols
from naaplib.evaluation.printed import mark, with_interval
from naaplib.tables import features, naap440, printed

FOREST = "Random Forest (N=200)"
ALL = "All"  # six scheme features, as Table 1 calls them
TWO = "LogNumParams & NumStages"
ALLOWED_VIOLATIONS = 5  # range within which seeds and library versions move a forest's count
ALLOWED_MAE = 0.001


def bins(measured: ArrayLike) -> pd.DataFrame:
    """Sort accuracies, and mark the paper's test architectures (Figure 3).

    Parameters
    ----------
    measured : array_like, shape (n_archs,)

    Returns
    -------
    DataFrame, shape (n_archs, 4)
        order_in_accuracy (from 1), bin (from 1), accuracy in ascending order, is_test.
    """
    place = np.arange(np.size(measured))
    return pd.DataFrame({
        "order_in_accuracy": place + 1,
        "bin": place // naap440.SPLIT_SIZE + 1,
        "accuracy": np.sort(np.asarray(measured, dtype=float)),
        "is_test": place % naap440.SPLIT_SIZE == naap440.PAPER,
    })  # fmt: skip


def table_1(runs: pd.DataFrame) -> pd.DataFrame:
    """Set a forest on all scheme features, all but one, and two beside Table 1.

    Parameters
    ----------
    runs : DataFrame
        Scores of `.records.SCHEME`; forests on the paper's split count. The run with the median number of violations
        counts.

    Returns
    -------
    DataFrame
        Rows in printed order: features, mae, mae_printed, mae_agrees, violations (ties as published),
        violations_printed, violations_agree, violations_ties_half.
    """
    on_paper = runs[(runs["algorithm"] == FOREST) & (runs["split"] == naap440.PAPER)]
    theirs = printed.table("naap440_table1").set_index("feature_set")
    ours = protocols.median_run(on_paper).set_index("features").loc[theirs.index]
    return pd.DataFrame({
        "features": theirs.index,
        "mae": ours["mae"].to_numpy(),
        "mae_printed": theirs["mae"].to_numpy(),
        "mae_agrees": mark(ours["mae"].round(4), theirs["mae"], allowed=ALLOWED_MAE),
        "violations": ours["violations_published"].astype(int).to_numpy(),
        "violations_printed": theirs["violations"].to_numpy(),
        "violations_agree": mark(ours["violations_published"], theirs["violations"], allowed=ALLOWED_VIOLATIONS),
        "violations_ties_half": ours["violations"].to_numpy(),
    })  # fmt: skip


def other_algorithms(runs: pd.DataFrame, n_resamples: int = 1000, *, seed: int = 0) -> pd.DataFrame:
    """Compare all six scheme features with fewer, under each algorithm.

    Parameters
    ----------
    runs : DataFrame
        Scores of `.records.SCHEME`; the median run of a cell by violations with ties one half counts.
    n_resamples, seed : int
        Number and seed of bootstrap resamples of the splits.

    Returns
    -------
    DataFrame
        One row per algorithm and feature set: algorithm, features, violations_paper, violations_mean (over splits,
        ties one half), mae_mean, gain (violations fewer than with all six, mean over splits), low, high (95 % interval
        of the gain over splits, missing for one split; it leaves out that splits share training rows).
    """
    medians = protocols.median_run(runs, by="violations")
    rows = []
    for algorithm, part in medians.groupby("algorithm", sort=False):
        wide = part.pivot_table(index="split", columns="features", values="violations", sort=False)
        errors = part.groupby("features")["mae"].mean()
        for name in wide:
            gains = (wide[ALL] - wide[name]).to_numpy()
            low, high = np.nan, np.nan
            if gains.size > 1:
                low, high = intervals.bootstrap_interval(gains, gains, metric=_mean, n_resamples=n_resamples, seed=seed)
            on_paper = wide.loc[naap440.PAPER, name]
            rows.append((algorithm, name, on_paper, wide[name].mean(), errors[name], gains.mean(), low, high))
    columns = ["algorithm", "features", "violations_paper", "violations_mean", "mae_mean", "gain", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def readable(others: pd.DataFrame) -> pd.DataFrame:
    """Return a row per feature set and a column per algorithm, of violations.

    A + behind the mean over splits says that it is clearly below that of all six features, a - that it is clearly
    above.

    Parameters
    ----------
    others : DataFrame
        As `other_algorithms` returns it.
    """
    signs = np.select([others["low"] > 0, others["high"] < 0], [" +", " -"], "")
    cells = others.assign(cell=others["violations_mean"].map("{:.1f}".format) + signs)
    wide = cells.pivot_table("cell", "features", "algorithm", aggfunc="first", sort=False)
    return wide.rename_axis(columns=None).reset_index()


def sentence(others: pd.DataFrame) -> str:
    """Return a sentence on two features in place of six, under each algorithm.

    Parameters
    ----------
    others : DataFrame
        As `other_algorithms` returns it.
    """
    two = others[others["features"] == TWO]
    parts = [f"{row.algorithm} {row.gain:+.1f} ({row.low:+.1f} to {row.high:+.1f})" for row in two.itertuples()]
    return f"Violations saved by two features in place of six, with 95 % intervals: {'; '.join(parts)}."


def table_2(runs: pd.DataFrame) -> pd.DataFrame:
    """Set a forest on scheme features and first epochs beside Table 2.

    Parameters
    ----------
    runs : DataFrame
        Scores of `.records.EPOCHS`. The run with the median number of violations counts.

    Returns
    -------
    DataFrame
        Rows by epochs and n_scheme_features: these two, violations (ties as published), violations_printed (missing
        where nothing is printed), agrees, violations_ties_half, mae.
    """
    ours = protocols.median_run(runs)
    cells = [[int(part) for part in name.split("/")] for name in ours["features"]]
    found = pd.DataFrame(cells, columns=["epochs", "n_scheme_features"])
    found["violations"] = ours["violations_published"].astype(int).to_numpy()
    theirs = printed.table("naap440_table2").rename(columns={"violations": "violations_printed"})
    found = found.merge(theirs, how="left", on=["epochs", "n_scheme_features"])
    found["violations_printed"] = found["violations_printed"].astype("Int64")
    numbers = found["violations_printed"].to_numpy(dtype=float, na_value=np.nan)
    found["agrees"] = mark(found["violations"], numbers, allowed=ALLOWED_VIOLATIONS)
    return found.assign(violations_ties_half=ours["violations"].to_numpy(), mae=ours["mae"].to_numpy())


def logarithms(table: pd.DataFrame, is_test: NDArray[np.bool_], *, n_jobs: int = 2) -> pd.DataFrame:
    """Evaluate linear regression with and without logarithms (section 4).

    It has two scheme features without epochs, or six with 3, 6 and 9 epochs.

    Parameters
    ----------
    table : DataFrame
        As `.naap440.read` returns it.
    is_test : ndarray of bool, shape (n_archs,)
    n_jobs : int

    Returns
    -------
    DataFrame
        One row per number of epochs and choice: epochs, logarithm_of ("none", "parameters", "parameters and MACs";
        without epochs the MACs are not among the features), mae, violations (ties as published), violations_ties_half.
    """
    sets = {}
    for n_epochs in (0, 3, 6, 9):
        asked = features.SIX_SCHEME_COLUMNS if n_epochs else features.TWO_SCHEME_COLUMNS
        raw, logged = (features.published(table, asked, n_epochs=n_epochs, log=log) for log in (False, True))
        sets[n_epochs, "none"] = raw
        if n_epochs:
            sets[n_epochs, "parameters"] = logged.assign(LogNumMACs=raw["NumMACs"])
            sets[n_epochs, "parameters and MACs"] = logged
        else:
            sets[n_epochs, "parameters"] = logged
    named: dict[int | str, pd.DataFrame] = {f"{n_epochs}/{what}": frame for (n_epochs, what), frame in sets.items()}
    runs = protocols.predict(
        table["MaxAccuracy"], named, algorithms=["Linear Regression"], seeds=[0], splits={"": is_test}, n_jobs=n_jobs
    )
    scores = protocols.score(runs)
    return pd.DataFrame(list(sets), columns=["epochs", "logarithm_of"]).assign(
        mae=scores["mae"],
        violations=scores["violations_published"].astype(int),
        violations_ties_half=scores["violations"],
    )


def naive_reference(
    measured: ArrayLike, is_test: NDArray[np.bool_], *, n_permutations: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Score predictors without knowledge: a constant, and random orders (section 4).

    Parameters
    ----------
    measured : array_like, shape (n_archs,)
    is_test : ndarray of bool, shape (n_archs,)
    n_permutations : int
        Random orders whose violations are averaged.
    seed : int

    Returns
    -------
    DataFrame, two rows
        predictor, mae, violations (ties one half), violations_published (ties nothing), standard_error of the mean
        over the orders, from the variance n (n - 1) (2 n + 5) / 72 of a random order of n untied architectures.
    """
    measured = np.asarray(measured, dtype=float)
    truth = measured[is_test]
    n, rng = truth.size, np.random.default_rng(seed)
    constant = np.full(n, measured[~is_test].mean())
    orders = [metrics.violations(truth, rng.permutation(n)) for _ in range(n_permutations)]
    return pd.DataFrame({
        "predictor": ["mean of the training rows", f"{n_permutations} random orders"],
        "mae": [metrics.mae(truth, constant), np.nan],
        "violations": [metrics.violations(truth, constant), np.mean(orders)],
        "violations_published": [metrics.violations(truth, constant, ties="published"), np.mean(orders)],
        "standard_error": [np.nan, np.sqrt(n * (n - 1) * (2 * n + 5) / 72 / n_permutations)],
    })  # fmt: skip


def compare_on_splits(runs: pd.DataFrame, predictions: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """Score given predictions on every split, beside two forests of the study.

    Parameters
    ----------
    runs : DataFrame
        Scores of `.records.SPLITS`; a forest's run is the median of its seeds by violations with ties one half.
    predictions : DataFrame
        split, measured, predicted of the test rows, as `.selection.predict_chosen` returns them.
    name : str
        Name of these predictions in the table.

    Returns
    -------
    DataFrame
        One row per predictor and split: predictor, split, mae, violations (ties one half), kendall_tau.
    """
    forests = protocols.median_run(runs, by="violations")
    given = protocols.score(predictions.assign(features=name, algorithm="", seed=0))
    scores = pd.concat([forests, given]).rename(columns={"features": "predictor"})
    order = [*runs["features"].unique(), name]
    scores = scores.sort_values(
        ["predictor", "split"], key=lambda c: c.map(order.index) if c.name == "predictor" else c
    )
    return scores[["predictor", "split", "mae", "violations", "kendall_tau"]].reset_index(drop=True)


def score_with_intervals(
    predictions: pd.DataFrame, published: int, *, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Score predictions, with 95 % bootstrap intervals over architectures.

    See `naaplib.evaluation.intervals.bootstrap_interval`.

    Parameters
    ----------
    predictions : DataFrame
        split, measured, predicted of the test rows.
    published : int
        The paper's split.
    n_resamples, seed : int

    Returns
    -------
    DataFrame
        metric, n, value, low, high: MAE, violations (ties one half), Kendall's tau on the paper's split; then the MAE
        over the test rows of all splits, which no other metric can pool, since each split has its own predictor.
    """
    rows = predictions[predictions["split"] == published]
    asked = {"mae": rows, "violations": rows, "kendall_tau": rows, "mae, all splits": predictions}
    scores = []
    for name, part in asked.items():
        metric = getattr(metrics, name.removesuffix(", all splits"))
        pair = part["measured"].to_numpy(), part["predicted"].to_numpy()
        interval = intervals.bootstrap_interval(*pair, metric=metric, n_resamples=n_resamples, seed=seed)
        scores.append((name, len(part), metric(*pair), *interval))
    return pd.DataFrame(scores, columns=["metric", "n", "value", "low", "high"])


def summarise_splits(scores: pd.DataFrame, published: int) -> pd.DataFrame:
    """Set the paper's split beside mean, standard deviation and range of all splits.

    Parameters
    ----------
    scores : DataFrame
        As `compare_on_splits` returns it.
    published : int
        The paper's split.

    Returns
    -------
    DataFrame
        One row per predictor, in order of appearance: predictor, then for mae and violations the value on the
        paper's split (mae_paper, ...), mae_mean, mae_sd (standard deviation, n - 1), mae_min, mae_max, ...
    """
    columns = {}
    for metric in ("mae", "violations"):
        grouped = scores.groupby("predictor", sort=False)[metric]
        columns[f"{metric}_paper"] = scores[scores["split"] == published].set_index("predictor")[metric]
        columns |= {f"{metric}_{name}": grouped.agg(how) for name, how in {"mean": "mean", "sd": "std"}.items()}
        columns |= {f"{metric}_{name}": grouped.agg(name) for name in ("min", "max")}
    return pd.DataFrame(columns).loc[scores["predictor"].unique()].reset_index(names="predictor")


def _mean(gains: NDArray[np.float64], _: NDArray[np.float64]) -> float:
    return float(gains.mean())


def ranges(summary: pd.DataFrame) -> pd.DataFrame:
    """Return `summarise_splits` as text: the paper's split, and means with ranges."""
    columns = {"predictor": summary["predictor"]}
    for name, label, digits in (("mae", "MAE", 4), ("violations", "violations", 1)):
        columns[f"{label}, paper's split"] = summary[f"{name}_paper"].map(f"{{:.{digits}f}}".format)
        parts = [f"{name}_{part}" for part in ("mean", "min", "max")]
        columns[f"{label}, mean (range)"] = with_interval(summary, parts, spec=f".{digits}f")
    return pd.DataFrame(columns)
