"""Printed numbers beside ours, and searches of the whole space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

METHODS = {"NAS-WOT": "nas_wot", "EPE-NAS": "epe_nas"}  # names as printed, and of our scores
WITHIN = "within 1"  # percentage points of accuracy, the rule for searches throughout the book
RULES = {
    "relu_faster": "at_least", "relu_loses": "within 1", "epe_faster": "at_least", "epe_better": "at_least",
    "te_slower": "at_least", "penalty_costs": "at_most", "penalty_size": "at_most",
}  # fmt: skip
Judge = Callable[..., tuple[str, str]]  # takes a rule, the printed number and, as `here`, ours


def disjoint(
    pool: pd.DataFrame, accuracy: str, *, scores: Mapping[str, str], n_samples: Sequence[int], seed: int
) -> pd.DataFrame:
    """Search by score in disjoint blocks of architectures.

    Where a pool was drawn at random from a space, without replacement, so is each block of it: every search draws from
    the whole space, and no two share an architecture.

    Parameters
    ----------
    pool, accuracy, scores, n_samples
        As for `naaplib.search.by_score.search`. NaN is the lowest score.
    seed : int
        Seed of the order in which the pool is cut into blocks.

    Returns
    -------
    DataFrame
        Columns of `naaplib.search.by_score.search`, without its baselines. There are as many runs as whole blocks.

    Examples
    --------
    >>> pool = pd.DataFrame({"accuracy": [0.71, 0.90, 0.84, 0.80], "score": [3.0, 9.0, 5.0, 4.0], "seconds": 0.5})
    >>> runs = disjoint(pool, "accuracy", scores={"score": "seconds"}, n_samples=[2, 4], seed=0)
    >>> runs[["n_samples", "run", "seconds"]].to_numpy().tolist()
    [[2.0, 1.0, 1.0], [2.0, 2.0, 1.0], [4.0, 1.0, 2.0]]
    """
    if n_samples and max(n_samples) > len(pool):
        raise ValueError(f"a block of {max(n_samples)} architectures was asked for; the pool has {len(pool)}")
    order = np.random.default_rng(seed).permutation(len(pool))
    frames = []
    for n in n_samples:
        blocks = order[: len(pool) // n * n].reshape(-1, n)
        for name, cost in scores.items():
            values = pool[name].fillna(-np.inf).to_numpy(float)[blocks]
            found = blocks[np.arange(len(blocks)), values.argmax(axis=1)]
            labels = {"score": name, "n_samples": n, "run": np.arange(len(blocks)) + 1, "found": pool.index[found]}
            seconds = pool[cost].to_numpy(float)[blocks].sum(axis=1)
            frames.append(pd.DataFrame(labels | {"accuracy": pool[accuracy].to_numpy()[found], "seconds": seconds}))
    return pd.concat(frames, ignore_index=True)


def table_3(printed: pd.DataFrame, searches: pd.DataFrame, *, judge: Judge) -> pd.DataFrame:
    """Lay Table 3 beside our searches, with a verdict on each test accuracy.

    Parameters
    ----------
    printed : DataFrame
        The printed table ``trainingless_table3``.
    searches : DataFrame
        Summaries of searches: dataset, n_samples, score, accuracy_mean and accuracy_sd (fractions), seconds_mean,
        n_runs.
    judge : callable
        Maps rule, printed number and ours to a verdict and the rule in words.

    Returns
    -------
    DataFrame
        One row per printed row that we have: method, n_samples, dataset, test_printed, test_sd_printed, test, test_sd
        (percent), n_runs, seconds_printed, seconds, verdict.
    """
    theirs = printed.assign(score=printed["method"].map(METHODS))
    both = theirs.merge(searches, on=["score", "n_samples", "dataset"])
    both["test_printed"], both["test_sd_printed"], both["seconds_printed"] = (
        both["test"],
        both["test_sd"],
        both["seconds"],
    )
    both["test"], both["test_sd"], both["seconds"] = (
        100 * both["accuracy_mean"],
        100 * both["accuracy_sd"],
        both["seconds_mean"],
    )
    both["verdict"] = [judge(WITHIN, a, here=b)[0] for a, b in zip(both["test_printed"], both["test"], strict=True)]
    return both[[
        "method", "n_samples", "dataset", "test_printed", "test_sd_printed", "test", "test_sd", "n_runs",
        "seconds_printed", "seconds", "verdict",
    ]]  # fmt: skip


def shown_table_3(beside: pd.DataFrame, mark: str) -> pd.DataFrame:
    """Return Table 3 as it is printed, with ours behind each number.

    `mark` is the verdict whose cells are marked by an equals sign.
    """
    rows = []
    for (method, n), part in beside.groupby(["method", "n_samples"], sort=False):
        row = {"method": f"{method}, N = {n:,}"}
        row["seconds"] = f"{part['seconds_printed'].iloc[0]:.1f} / {part['seconds'].mean():.1f}"
        for line in part.itertuples():
            sign = "≈" if line.verdict == mark else "≠"
            row[str(line.dataset)] = f"{line.test_printed:.2f} {sign} {line.test:.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def shown_searches(searches: pd.DataFrame) -> pd.DataFrame:
    """Return summaries of searches as a table of one row per score, one column per N.

    Parameters
    ----------
    searches : DataFrame
        Columns drawn_from, score, n_samples, n_runs, accuracy_mean and accuracy_sd.

    Returns
    -------
    DataFrame of str
        drawn_from, score, then "N = ..." with mean and standard deviation in percent, and the number of searches.
    """
    rows = []
    for (drawn_from, score), part in searches.groupby(["drawn_from", "score"], sort=False):
        row = {"drawn from": str(drawn_from), "score": str(score)}
        for line in part.itertuples():
            spread = "" if line.accuracy_sd != line.accuracy_sd else f" ({100 * line.accuracy_sd:.2f})"
            row[f"N = {line.n_samples:,}"] = f"{100 * line.accuracy_mean:.2f}{spread}, n = {line.n_runs}"
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def ours(
    searches: pd.DataFrame, cost: pd.DataFrame, *, penalised: pd.DataFrame, pruned_seconds: float, n_small: int
) -> dict[str, tuple[float, str]]:
    """Compute the numbers that stand beside the claims of the text.

    Parameters
    ----------
    searches : DataFrame
        As for `table_3`.
    cost : DataFrame
        Costs on NAS-Bench-201, as `.tables.costs` returns them.
    penalised : DataFrame
        Searches with a penalty, rows of one dataset: penalty, kilobytes_mean.
    pruned_seconds : float
        Mean seconds of a search by pruning.
    n_small : int
        Networks of the search by NAS-WOT that pruning is compared with.

    Returns
    -------
    dict from key of a claim to (number, from which it is computed)
    """
    wide = searches.pivot_table(["accuracy_mean", "seconds_mean"], ["dataset", "n_samples"], "score")
    accuracy, seconds = 100 * wide["accuracy_mean"], wide["seconds_mean"]
    sizes = penalised.set_index("penalty")["kilobytes_mean"]
    each = cost.set_index("score")["seconds"]
    making = each["(making the network)"]
    saved = {name: 100 * (1 - seconds[name] / seconds["nas_wot"]) for name in ("relu_count", "epe_nas")}
    lost = accuracy["nas_wot"] - accuracy["relu_count"]
    gained = accuracy["epe_nas"] - accuracy["nas_wot"]
    small = seconds["nas_wot"].xs(n_small, level="n_samples").mean()
    over = f"mean of {len(lost)} searches, {lost.min():.1f} to {lost.max():.1f}"
    return {
        "relu_faster": (saved["relu_count"].max(), "building and scoring, the largest of all searches"),
        "relu_loses": (lost.mean(), over),
        "epe_faster": (saved["epe_nas"].max(), "building and scoring, the largest of all searches"),
        "epe_better": (gained.mean(), f"mean of {len(gained)} searches, {gained.min():.1f} to {gained.max():.1f}"),
        "te_slower": (pruned_seconds / small, f"one search by pruning, against {n_small} networks"),
        "penalty_costs": (
            100 * each["n_params"] / (each["relu_count"] + making),
            "counting parameters, against building and counting ReLU units",
        ),
        "penalty_size": (
            100 * sizes["gaussian, intended"] / sizes["no penalty"], "Gaussian, as intended, all cells",
        ),
    }  # fmt: skip


def claims(printed: pd.DataFrame, numbers: Mapping[str, tuple[float, str]], *, judge: Judge) -> pd.DataFrame:
    """Lay the claims of the text beside our numbers, with verdicts.

    Parameters
    ----------
    printed : DataFrame
        The printed table ``trainingless_claims``.
    numbers : mapping
        As `ours` returns it.
    judge : callable
        As for `table_3`; the rules are those of `RULES`.

    Returns
    -------
    DataFrame
        One row per claim: key, claim, where, unit, printed, here, rule, verdict, computed_from.
    """
    rows = []
    for line in printed.itertuples():
        here, source = numbers[str(line.key)]
        verdict, words = judge(RULES[str(line.key)], float(line.printed), here=here)
        rows.append({
            "key": line.key, "claim": line.claim, "where": line.where, "unit": line.unit,
            "printed": float(line.printed), "here": here, "rule": words, "verdict": verdict, "computed_from": source,
        })  # fmt: skip
    return pd.DataFrame(rows)


def ways(timings: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Compare ways of computing scores on the same networks.

    Parameters
    ----------
    timings : DataFrame
        As `.tasks.ways` returns it.
    reference : str
        One of the ways.

    Returns
    -------
    DataFrame
        One row per way: way, n (networks), seconds (median), relative (median over networks of the time by that of the
        reference on the same network), relative_25, relative_75 (quartiles).
    """
    wide = timings.pivot_table("seconds", "architecture", "way", sort=False)
    ratios = wide.div(wide[reference], axis=0)
    columns = {"n": wide.count(), "seconds": wide.median(), "relative": ratios.median()}
    columns |= {"relative_25": ratios.quantile(0.25), "relative_75": ratios.quantile(0.75)}
    return pd.DataFrame(columns).rename_axis("way").reset_index()


def pruned(traces: pd.DataFrame, reached: pd.DataFrame) -> pd.DataFrame:
    """Return what searches by pruning found.

    Parameters
    ----------
    traces : DataFrame
        Traces of `.tasks.te_nas`.
    reached : DataFrame
        Accuracies of all cells, indexed by text, one column per dataset.

    Returns
    -------
    DataFrame
        One row per seed: seed, architecture, n_evaluations, seconds, then for each dataset the accuracy in percent and
        "better than", the percentage of all cells that reach less; NaN for a cell that the table lacks.
    """
    rows = []
    for seed, part in traces.groupby("seed", sort=False):
        text = str(part["architecture"].iloc[0])
        row: dict[str, object] = {"seed": seed, "architecture": text}
        row |= {"n_evaluations": len(part) + part["round"].nunique(), "seconds": part["seconds"].iloc[0]}
        for name in reached:
            own = reached[name].get(text, np.nan)
            row[name] = 100 * own
            row[f"better than, {name}"] = 100 * (reached[name] < own).mean() if own == own else np.nan
        rows.append(row)
    return pd.DataFrame(rows)
