"""Tables of zero-cost proxies: cost, missing values, and use in a regression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib.estimators.proxies import penalties
from naaplib.evaluation import protocols
from naaplib.tables.features import with_scores

CONSTANT = ("n_params", "macs", "depth", "relu_count")  # independent of weights and images
ALGORITHMS = ("Linear Regression", "SVR (RBF kernel)", "Gradient Boosting (N=100)")


def drawn(names: Sequence[str]) -> list[str]:
    """Return the scores that depend on what is drawn, the two slow ones excepted."""
    return [name for name in names if name not in (*CONSTANT, "linear_regions", "ntk_condition")]


def wide(scores: pd.DataFrame) -> pd.DataFrame:
    """Return scores as columns, with the mean over repeats that have a value.

    Parameters
    ----------
    scores : DataFrame
        Scores of one condition, as `.proxies.runs.score_networks` returns them.

    Returns
    -------
    DataFrame
        Indexed by architecture; architectures and scores in their order of appearance; NaN where no repeat has a value.
    """
    table = scores.pivot_table("value", "architecture", "score", "mean", sort=False, dropna=False)
    return table.loc[scores["architecture"].unique(), scores["score"].unique()].rename_axis(columns=None)


def side_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Return NAAP-440's side table: mean and standard deviation of every score.

    Both are over repeats.

    Parameters
    ----------
    scores : DataFrame
        As for `wide`; the architectures are ModelIds.

    Returns
    -------
    DataFrame
        ModelId, n_repeats, then each score and, for random scores, its standard deviation (n - 1), as nas_wot and
        nas_wot_sd; sorted by ModelId.
    """
    means = wide(scores)
    spread = scores.pivot_table("value", "architecture", "score", "std", dropna=False)
    columns: dict[str, pd.Series] = {"n_repeats": scores.groupby("architecture")["repeat"].nunique()}
    for score in means:
        columns[score] = means[score]
        if score not in CONSTANT:
            columns[f"{score}_sd"] = spread[score]
    table = pd.DataFrame(columns, index=means.index)
    table.insert(0, "ModelId", table.index.astype(int))
    return table.sort_values("ModelId", ignore_index=True)


def seconds(scores: pd.DataFrame) -> pd.DataFrame:
    """Return mean seconds of making a network and of one score, laid out as `wide`.

    The mean is over repeats.
    """
    return wide(scores.assign(value=scores["seconds"] + scores["build_seconds"]))


def costs(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the seconds of each score for one network.

    Parameters
    ----------
    scores : DataFrame
        As for `wide`.

    Returns
    -------
    DataFrame
        One row per score: score, n (timings), seconds (median), seconds_10, seconds_90 (10 % and 90 % quantiles),
        relative (to NAS-WOT; NaN without it), n_without (missing values over networks and repeats). Making the network
        is an extra cost, in the last row, "(making the network)".
    """
    groups = scores.groupby("score", sort=False)
    quantiles = {"seconds": 0.5, "seconds_10": 0.1, "seconds_90": 0.9}
    columns = {"n": groups.size()} | {name: groups["seconds"].quantile(share) for name, share in quantiles.items()}
    table = pd.DataFrame(columns).loc[scores["score"].unique()]
    table["n_without"] = groups["value"].apply(lambda values: int(values.isna().sum()))
    made = scores.drop_duplicates(["architecture", "condition", "repeat"])["build_seconds"]
    table.loc["(making the network)"] = [len(made), *made.quantile(list(quantiles.values())), 0]
    table["relative"] = table["seconds"] / table["seconds"].get("nas_wot", np.nan)
    return table.astype({"n": int, "n_without": int}).rename_axis("score").reset_index()


def hours(scores: pd.DataFrame) -> float:
    """Return the core hours of making and scoring all networks.

    All conditions and repeats are included.
    """
    made = scores.drop_duplicates(["architecture", "condition", "repeat"])["build_seconds"]
    return float(scores["seconds"].sum() + made.sum()) / 3600


def penalised(score: pd.Series, megabytes: pd.Series) -> pd.DataFrame:
    """Multiply a score by every penalty on size, in both readings.

    Parameters
    ----------
    score : Series, shape (n_archs,)
        Not negative.
    megabytes : Series, shape (n_archs,)
        Sizes. The intended reading does not penalise sizes up to 0.2.

    Returns
    -------
    DataFrame, shape (n_archs, 7)
        Indexed as `score`. Columns: "no penalty", then penalty and reading, as "gaussian, intended".
    """
    functions: list[Callable[..., NDArray[np.float64]]] = [
        penalties.gaussian, penalties.hyperbolic_secant, penalties.rayleigh,
    ]  # fmt: skip
    factors = {
        f"{function.__name__.replace('_', ' ')}, {reading}": function(megabytes, reading=reading)
        for function in functions
        for reading in penalties.READINGS
    }
    columns = {"no penalty": score} | {name: score * factor for name, factor in factors.items()}
    return pd.DataFrame(columns, index=score.index)


def reasons(scores: pd.DataFrame) -> pd.DataFrame:
    """Count missing values by score and reason, the commonest first.

    Columns are score, reason (digits left out), n.
    """
    without = scores[scores["value"].isna()]
    texts = without["reason"].str.replace(r"\d+", "...", regex=True)
    counts = without.groupby(["score", texts], sort=False).size().rename("n").reset_index()
    return counts.sort_values("n", ascending=False, kind="stable", ignore_index=True)


def added(
    measured: pd.Series,
    feature_sets: Mapping[str, pd.DataFrame],
    *,
    scores: pd.DataFrame,
    names: Sequence[str],
    splits: Mapping[int | str, NDArray[np.bool_]],
    seed: int,
    n_jobs: int = 2,
) -> pd.DataFrame:
    """Evaluate each score, and all together, as further features of a regression.

    The regression needs no training of networks.

    Parameters
    ----------
    measured : Series, shape (n_archs,)
    feature_sets : mapping from name to DataFrame, shape (n_archs, n_features)
        Indexed by ModelId, in the order of `measured`.
    scores : DataFrame
        As `side_table` returns it.
    names : sequence of str
        Scores to add.
    splits : mapping from key to ndarray of bool, shape (n_archs,)
        True for test rows.
    seed, n_jobs
        As for `.protocols.predict`, with the algorithms of `ALGORITHMS`.

    Returns
    -------
    DataFrame
        One row per feature set, algorithm and addition: features, algorithm, added ("nothing", a score, "all scores"),
        violations (ties one half; mean over splits), change (mean difference from "nothing" on the same split),
        change_sd (its standard deviation over splits), better (number of splits with fewer violations), mae, n_splits.
    """
    additions: dict[str, list[str]] = {"nothing": [], **{name: [name] for name in names}, "all scores": list(names)}
    sets: dict[int | str, pd.DataFrame] = {
        f"{features}|{addition}": with_scores(frame, scores, names=chosen) if chosen else frame
        for features, frame in feature_sets.items()
        for addition, chosen in additions.items()
    }
    runs = protocols.score(
        protocols.predict(measured, sets, algorithms=ALGORITHMS, seeds=[seed], splits=splits, n_jobs=n_jobs)
    )
    runs[["features", "added"]] = runs["features"].str.split("|", expand=True)
    key = ["split", "features", "algorithm"]
    plain = runs[runs["added"] == "nothing"].set_index(key)["violations"].rename("plain")
    runs = runs.join(plain, on=key)
    runs["change"] = runs["violations"] - runs["plain"]
    runs["better"] = runs["change"] < 0
    table = runs.groupby(["features", "algorithm", "added"], sort=False).agg(
        violations=("violations", "mean"), change=("change", "mean"), change_sd=("change", "std"),
        better=("better", "sum"), mae=("mae", "mean"), n_splits=("split", "size"),
    )  # fmt: skip
    return table.reset_index()


def verdict(ranked: pd.DataFrame, cost: pd.DataFrame, *, gains: pd.DataFrame) -> pd.DataFrame:
    """Summarise every score in one row.

    Parameters
    ----------
    ranked : DataFrame
        Rows of `.ranking.ranks`, with a column dataset.
    cost : DataFrame
        Rows of `costs`, with a column space.
    gains : DataFrame
        As `added` returns it.

    Returns
    -------
    DataFrame
        score, tau-b by dataset, "partial" by dataset, "cost" by space (relative), change (in violations, for the
        last feature set's best regression without scores; NaN for scores that are features already).
    """
    order = ranked["score"].unique()
    parts = [
        ranked.pivot_table(column, "score", "dataset", sort=False, dropna=False).add_prefix(prefix)
        for column, prefix in [("tau_b", ""), ("partial", "partial ")]
    ]
    parts.append(cost.pivot_table("relative", "score", "space", sort=False).add_prefix("cost "))
    parts.append(_best(gains, gains["features"].iloc[-1]).set_index("added")[["change"]])
    table = pd.concat([part.reindex(order) for part in parts], axis=1)
    return table.rename_axis("score").reset_index()


def sentences(ranked: pd.DataFrame, gains: pd.DataFrame) -> list[str]:
    """Return the chapter's answers, from the tables that `verdict` takes."""
    naap, *cells = (rows.set_index("score") for _, rows in ranked.groupby("dataset", sort=False))
    names = ranked["dataset"].unique()
    scores = [name for name in ranked["score"].unique() if name not in CONSTANT]
    found, counts = _better(naap, scores), _better(naap, CONSTANT)
    texts = [
        f"On {names[0]}, of {len(scores)} scores of untrained networks {found} {'rank' if ',' in found else 'ranks'} "
        f"networks clearly better than the parameter count, whose tau-b is **{naap.loc[CONSTANT[0], 'tau_b']:.2f}**; "
        f"of other counts {counts} {'do' if ',' in counts else 'does'}."
    ]
    if cells:
        each = "; ".join(
            f"on {name} {_better(rows, [*scores, *CONSTANT])}" for name, rows in zip(names[1:], cells, strict=True)
        )
        texts.append(f"Clearly better than the parameter count on the cells of NAS-Bench-201: {each}.")
    texts.append(
        f"A regression without training has, as a mean over {gains['n_splits'].iloc[0]} splits, {_with_scores(gains)}."
    )
    return texts


def _better(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """Name the scores with a gain over the parameter count, best first.

    The interval of the gain lies above 0.
    """
    found = rows[(rows["gain_low"] > 0) & rows.index.isin(names)].sort_values("tau_b", ascending=False, kind="stable")
    return ", ".join(f"`{name}`" for name in found.index) or "none"


def _with_scores(gains: pd.DataFrame) -> str:
    """Describe the violations of the best regression on each feature set.

    It has no scores, or all.
    """
    texts = []
    for features in gains["features"].unique():
        rows = _best(gains, features).set_index("added")["violations"]
        texts.append(f"on {features} {rows['nothing']:.1f} violations and **{rows['all scores']:.1f}** with all scores")
    return "; ".join(texts)


def _best(gains: pd.DataFrame, features: str) -> pd.DataFrame:
    """Return a feature set's rows, for its best algorithm without scores."""
    rows = gains[gains["features"] == features]
    nothing = rows[rows["added"] == "nothing"]
    return rows[rows["algorithm"] == nothing.loc[nothing["violations"].idxmin(), "algorithm"]]
