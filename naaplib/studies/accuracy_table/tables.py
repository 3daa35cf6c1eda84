"""Tables of repeated trainings: agreement, noise floor, and shared noise.

Records are tidy, in any row order: run (str), ModelId, epoch, loss_mean, loss_median (nats), accuracy (fraction of the
test images), and perhaps holdout_accuracy. Runs are reported in order of appearance and may hold different networks. A
comparison uses the networks that all its runs have, `n_archs` of them. `kind` is always that of `target`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, fields
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from naaplib import metrics
from naaplib.architectures.schemes import Block, Scheme
from naaplib.estimators.regressors import ALGORITHMS
from naaplib.evaluation import intervals, noise, protocols
from naaplib.tables import naap440

KINDS = {"maximum": "accuracy", "last": "epoch", "validation-selected": "holdout_accuracy"}  # what the epoch maximises
MEASURES = list(naap440.EPOCH_MEASURES.values())
PROPERTIES = [field.name for field in fields(Block)]


def common_epochs(records: pd.DataFrame) -> pd.DataFrame:
    """Select the epochs that every run has for all its networks."""
    n_trainings = len(records[["run", "ModelId"]].drop_duplicates())
    return records[records.groupby("epoch")["epoch"].transform("size") == n_trainings]


def target(records: pd.DataFrame, kind: str = "maximum") -> pd.DataFrame:
    """Return the accuracy to predict, for each run and network.

    Columns are run, ModelId (ascending within a run), epoch (the selected one), accuracy.

    Parameters
    ----------
    records : DataFrame
        All networks of all runs have the same epochs.
    kind : {"maximum", "last", "validation-selected"}
        The highest test accuracy of all epochs (the study's target, which is selected on test images), the last
        epoch's, or that of the epoch with the highest holdout_accuracy. The first of equal epochs counts.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {list(KINDS)}")
    _check(records, ["accuracy", KINDS[kind]])
    n_epochs = records.groupby(["run", "ModelId"])["epoch"].transform("size").to_numpy()
    if n_epochs.min() < (most := records["epoch"].nunique()):
        run, model_id = records[["run", "ModelId"]].iloc[int(n_epochs.argmin())]
        raise ValueError(f"run {run!r} lacks some of {most} epochs of ModelId {model_id}; take common_epochs(records)")
    runs = [part.sort_values(["ModelId", "epoch"], ignore_index=True) for _, part in records.groupby("run", sort=False)]
    taken = [part.loc[part.groupby("ModelId")[KINDS[kind]].idxmax()] for part in runs]
    return pd.concat(taken, ignore_index=True)[["run", "ModelId", "epoch", "accuracy"]]


def by_run(
    records: pd.DataFrame, kind: str = "maximum", *, runs: Sequence[str] = (), at_least: int = 1
) -> pd.DataFrame:
    """Return targets, one column per run (all by default), indexed by ModelId."""
    found = target(records, kind)
    names = _known(records, runs or found["run"].unique())
    if len(names) < at_least:
        raise ValueError(f"the records hold {names} only; at least {at_least} runs are needed")
    wide = found.pivot_table(index="ModelId", columns="run", values="accuracy")[names].dropna()
    _check_size(len(wide), names)
    return wide.rename_axis(columns=None)


def matched(records: pd.DataFrame, reference: str, *, other: str, measures: list[str]) -> list[pd.DataFrame]:
    """Return a table per epoch of the networks that two runs have.

    Columns are ModelId (ascending), epoch, the measures, and the other run's measures with the suffix "_other".
    """
    _check(records, measures)
    one, two = (records[records["run"] == run].drop(columns="run") for run in _known(records, [reference, other]))
    both = one.merge(two, on=["ModelId", "epoch"], suffixes=("", "_other"))
    _check_size(both["ModelId"].nunique(), [reference, other])
    return [part for _, part in both.sort_values(["epoch", "ModelId"], ignore_index=True).groupby("epoch")]


def agreement(records: pd.DataFrame, reference: str, *, other: str) -> pd.DataFrame:
    """Compare one run with another, by epoch, on networks and epochs that both have.

    One row per epoch and measure: epoch, measure, n_archs, difference (mean of other minus reference), sd (standard
    deviation of the differences, n - 1), mae, rmse, correlation (Pearson; NaN where a run is constant), kendall_tau
    (tau-b), violations (a pair tied in the other run counts one half, one tied in the reference 0), n_pairs.
    """
    rows = []
    for part in matched(records, reference, other=other, measures=MEASURES):
        for measure in MEASURES:
            scores = _compare(*part[[measure, f"{measure}_other"]].to_numpy().T)
            rows.append({"epoch": part["epoch"].iloc[0], "measure": measure} | scores)
    return pd.DataFrame(rows)


def compare_pairs(records: pd.DataFrame, *, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Measure the noise floor: the error of one training as a prediction of another.

    One row per pair of runs, the first as reference: run_a, run_b, n_epochs; n_archs to n_pairs as in `agreement` (mae
    and rmse include the mean difference); sd_training, sd divided by the root of 2: the noise of one training, if both
    are alike and independent; mae_low, mae_high, violations_low, violations_high by `bootstrap_interval` over networks.
    """
    rows = []
    for runs in combinations(records["run"].unique(), 2):
        wide = by_run(records, runs=runs)
        a, b = wide.to_numpy().T
        row = {"run_a": runs[0], "run_b": runs[1], "n_epochs": records["epoch"].nunique()}
        row |= _compare(a, b) | {"sd_training": noise.noise_sd(wide)}
        for name, metric in (("mae", metrics.mae), ("violations", metrics.violations)):
            low, high = intervals.bootstrap_interval(a, b, metric=metric, n_resamples=n_resamples, seed=seed)
            row |= {f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def floor(records: pd.DataFrame, *, model_ids: Collection[int] | None = None, **simulation: Any) -> pd.DataFrame:
    """Return the noise floor: `perfect_predictor` with the measured `noise_sd`.

    The mean over two or more runs stands for the expected accuracy. Its own noise spreads the networks slightly, so
    that there are slightly too few violations. Runs that differ by seed give the whole floor; perturbed re-runs give
    the part of floating-point noise. `model_ids` are the networks scored (default: all); the standard deviation is that
    of all n_archs_sd networks. `simulation` is passed on.
    One row: kind, n_epochs, n_runs, n_archs_sd, sd_training_low and _high (`sd_interval`), and the result of
    `perfect_predictor`.
    """
    wide = by_run(records, at_least=2)
    scored = wide if model_ids is None else wide[wide.index.isin(list(model_ids))]
    _check_size(len(scored), [*wide, "model_ids"])
    row = {"kind": "maximum", "n_epochs": records["epoch"].nunique(), "n_runs": wide.shape[1], "n_archs_sd": len(wide)}
    found = noise.perfect_predictor(scored.mean(axis="columns"), noise.noise_sd(wide), **simulation)
    low, high = noise.sd_interval(wide, n_resamples=int(found["n_simulations"]))
    return pd.DataFrame([row | found | {"sd_training_low": low, "sd_training_high": high}])


def neighbours(schemes: Mapping[int, Scheme]) -> pd.DataFrame:
    """Return pairs of schemes that differ in one property of one block.

    Columns are first, second, block (from 1), property.
    """
    alike: dict[Any, list[int]] = {}  # indices of schemes that are equal without one property of one block
    for place, scheme in enumerate(schemes.values()):
        values = [value for block in scheme for value in astuple(block)]
        for i in range(len(values)):
            alike.setdefault((i, *values[:i], None, *values[i + 1 :]), []).append(place)
    pairs = sorted((*pair, key[0]) for key, places in alike.items() for pair in combinations(places, 2))
    ids, n = list(schemes), len(PROPERTIES)
    rows = [(ids[first], ids[second], i // n + 1, PROPERTIES[i % n]) for first, second, i in pairs]
    return pd.DataFrame(rows, columns=["first", "second", "block", "property"])


def shared_noise(
    records: pd.DataFrame, run_a: str, *, run_b: str, schemes: Mapping[int, Scheme], n_permutations: int = 1000,
) -> pd.DataFrame:  # fmt: skip
    """Test if neighbouring schemes share the noise between two runs.

    Shared noise can be learnt from one table. Residuals are a minus b, less their mean. Their correlation is Moran's I:
    the mean product over pairs of neighbours, over the mean square over networks. A systematic difference between the
    runs, such as other hardware, would count as shared.
    A row for "any" and for each of `PROPERTIES`: property, n_archs, n_pairs (neighbours), share (of all pairs),
    correlation, expected (for independent noise), p_value (one-sided), n_permutations. NaN without pairs or
    differences.
    """
    wide = by_run(records, runs=[run_a, run_b])
    if absent := [model_id for model_id in wide.index if model_id not in schemes]:
        raise ValueError(f"schemes lacks ModelId {absent[:10]}; it must hold all networks of both runs")
    found = neighbours({model_id: schemes[model_id] for model_id in wide.index})
    dealt = _deal(wide.iloc[:, 0] - wide.iloc[:, 1], n_permutations)
    n, rows = len(wide), []
    for name in ("any", *PROPERTIES):
        chosen = found if name == "any" else found[found["property"] == name]
        i, j = (wide.index.get_indexer(chosen[end]) for end in ("first", "second"))
        products = (dealt[:, i] * dealt[:, j]).sum(axis=1) / (len(chosen) or math.nan)
        row = {"property": name, "n_archs": n, "n_pairs": len(chosen), "share": len(chosen) / math.comb(n, 2)}
        row |= {"correlation": products[0], "expected": -1 / (n - 1), "p_value": _p_value(products)}
        rows.append(row | {"n_permutations": n_permutations})
    return pd.DataFrame(rows)


def score_twice(
    records: pd.DataFrame, run: str, *, feature_sets: Mapping[Any, pd.DataFrame], kind: str = "maximum",
    algorithms: Sequence[str] = ALGORITHMS, seeds: Sequence[int] = (0,), indices: Sequence[int] = (5,),
    ties: str = "log-name", split_by_mean: bool = False, test_ids: Collection[int] = (), n_jobs: int = 2,
) -> pd.DataFrame:  # fmt: skip
    """Fit estimators to one run, and score them on that run and on the others.

    They are fitted to training rows and scored on test rows. The other runs are moved to this run's level (mean over
    training rows). `_others` minus `_own` is the gain from learning the run's noise; `_mean`, against the mean of the
    others, is less noisy. Beware: test rows chosen by the run's accuracies lie evenly in it, which alone spares a
    perfect predictor 3.5 of 24.5 violations against it (440 networks, standard deviation .005). Rows chosen by the mean
    of all runs, with `split_by_mean`, favour no run. `feature_sets` are indexed by ModelId; `indices` and `ties` are
    those of `.naap440.split`, the other arguments those of `.protocols.predict`. With `test_ids` these networks replace
    all splits, and the other runs need hold no others; they are then moved by the mean over the test rows.
    One row per feature set and algorithm, means over splits and seeds: features, algorithm, n_test, n_pairs (of test
    rows); mae and violations, each with _own, _others (mean of the scores against each), _mean, _difference (_others
    minus _own); shift (run minus others), n_archs, n_others, n_splits, n_seeds (1 for deterministic algorithms).
    """
    wide = by_run(records, kind, at_least=2)
    if test_ids:
        found = target(records, kind).pivot_table(index="ModelId", columns="run", values="accuracy")[list(wide)]
        wide = found[found[_known(records, [run])[0]].notna()]
        if absent := sorted(set(test_ids) - set(wide.dropna().index)):
            raise ValueError(f"test_ids holds {absent[:10]}, which not all runs have")
    own, others = wide[_known(records, [run])[0]], wide.drop(columns=run)
    for key, frame in feature_sets.items():
        if absent := sorted(set(wide.index) - set(frame.index)):
            raise ValueError(f"feature set {key!r} lacks ModelId {absent[:10]}; it must hold all networks of all runs")
    splits: dict[int | str, NDArray[np.bool_]] = {"test_ids": np.asarray(wide.index.isin(list(test_ids)))}
    if not test_ids:
        maxima = (wide.mean(axis="columns") if split_by_mean else own).rename("MaxAccuracy").reset_index()
        splits = naap440.splits(maxima, indices, ties=ties)
    features = {key: frame.loc[wide.index] for key, frame in feature_sets.items()}
    predictions = protocols.predict(own, features, algorithms=algorithms, seeds=seeds, splits=splits, n_jobs=n_jobs)

    def level(reference: pd.Series, is_test: NDArray[np.bool_]) -> float:
        return (own - reference)[is_test if test_ids else ~is_test].mean()

    def score(reference: pd.Series) -> pd.DataFrame:
        shifts = predictions["split"].map({i: level(reference, is_test) for i, is_test in splits.items()})
        aligned = predictions.assign(measured=predictions["ModelId"].map(reference) + shifts)
        scores = protocols.score(aligned).assign(n_pairs=lambda s: s["n_test"] * (s["n_test"] - 1) / 2)
        return scores.groupby(["features", "algorithm"], sort=False)[["n_test", "n_pairs", "mae", "violations"]].mean()

    scores = {"own": score(own), "others": sum(score(others[name]) for name in others) / others.shape[1]}
    scores |= {"mean": score(others.mean(axis="columns")), "difference": scores["others"] - scores["own"]}
    found = {f"{name}_{key}": frame[name] for name in ("mae", "violations") for key, frame in scores.items()}
    found["shift"] = np.mean([level(others.mean(axis="columns"), is_test) for is_test in splits.values()])
    found |= {"n_archs": len(wide), "n_others": others.shape[1], "n_splits": len(splits)}
    found["n_seeds"] = predictions.groupby(["features", "algorithm"], sort=False)["seed"].nunique()
    return scores["own"][["n_test", "n_pairs"]].assign(**found).reset_index()


def best(scores: pd.DataFrame) -> pd.DataFrame:
    """Select the five best estimators of each feature set by their own training.

    Parameters
    ----------
    scores : DataFrame
        As `score_twice` returns it, with a column others: the name of the other trainings.

    Returns
    -------
    DataFrame
        features, algorithm, and violations and mae: on their own training and, by name, on the others.
    """
    key, measures = ["features", "algorithm"], ["violations", "mae"]
    beside = scores.pivot_table(index=key, columns="others", values=[f"{name}_others" for name in measures])
    beside.columns = [f"{measure.split('_')[0]} on {name}" for measure, name in beside.columns]
    own = scores.drop_duplicates(key).set_index(key)[[f"{name}_own" for name in measures]]
    found = own.join(beside).reset_index().sort_values("violations_own", kind="stable")
    found = found.groupby("features", sort=False).head(5)
    return found.sort_values(["features", "violations_own"], kind="stable", ignore_index=True)


def _known(records: pd.DataFrame, runs: Sequence[str]) -> list[str]:
    if unknown := [run for run in runs if run not in set(records["run"])]:
        raise ValueError(f"there is no run {unknown[0]!r}; there are: {', '.join(records['run'].unique())}")
    return list(runs)


def _check_size(n_archs: int, parts: Sequence[str]) -> None:
    if n_archs < 2:
        raise ValueError(f"{' and '.join(parts)} have {n_archs} networks in common; at least 2 are needed")


def _check(records: pd.DataFrame, columns: Sequence[str]) -> None:
    key = ["run", "ModelId", "epoch"]
    if absent := [column for column in [*key, *columns] if column not in records]:
        raise ValueError(f"the records lack columns {absent}; they have {list(records)}")
    gaps = records[[*key, *columns]].isna().any(axis="columns")
    for fault, rows in (("lack a value in", gaps), ("hold twice", records.duplicated(key))):
        if rows.any():
            raise ValueError(f"the records {fault} {records.loc[rows, key].head(5).to_numpy().tolist()}")


def _compare(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float]:
    correlation = math.nan if np.ptp(a) == 0 or np.ptp(b) == 0 else np.corrcoef(a, b)[0, 1]
    row = {"n_archs": a.size, "difference": (b - a).mean(), "sd": (b - a).std(ddof=1), "mae": metrics.mae(a, b)}
    row |= {"rmse": math.sqrt(metrics.mse(a, b)), "correlation": correlation, "kendall_tau": metrics.kendall_tau(a, b)}
    return row | {"violations": metrics.violations(a, b), "n_pairs": math.comb(a.size, 2)}


def _deal(values: pd.Series, n_permutations: int) -> NDArray[np.float64]:
    """Standardise values, and permute them: a row each, the values themselves first.

    Rows are NaN if all values are equal.
    """
    standard = (values - values.mean()).to_numpy() / (values.std(ddof=0) if np.ptp(values) > 1e-12 else math.nan)
    permuted = np.random.default_rng(0).permuted(np.tile(standard, (n_permutations, 1)), axis=1)
    return np.vstack([standard, permuted])


def _p_value(correlations: NDArray[np.float64]) -> float:
    """Return the share of correlations that reach the first one, but for rounding."""
    return float((correlations >= correlations[0] - 1e-12).mean()) if np.isfinite(correlations[0]) else math.nan
