"""Tables of trainings of several lengths: agreement, noise floor, shared noise.

Records are those of `naaplib.studies.accuracy_table.tables`, with the run "published" among them. A length is a number
of epochs: targets at it are highest test accuracies of so many epochs, of networks that were trained that long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from naaplib import metrics
from naaplib.architectures.schemes import Scheme
from naaplib.evaluation import intervals
from naaplib.studies.accuracy_table import tables
from naaplib.tables.naap440 import N_EPOCHS
from naaplib.training.recipe import SEED

PUBLISHED, EARLIER = "published", " (earlier)"
ENOUGH = 30  # networks of a table in progress
SIZE, N_BATCHES = 4, 196  # of the earlier trainings: networks per job, and steps an epoch
TRAININGS = (
    *("run", "n_epochs", "n_archs", "n_planned", "trainer", "precision", "device", "size"),
    *("seconds", "ms_per_step", "torch"),
)


def at(records: pd.DataFrame, n_epochs: int) -> pd.DataFrame:
    """Select the networks with at least `n_epochs` epochs, and so many epochs of them."""
    n_trained = records.groupby(["run", "ModelId"])["epoch"].transform("max")
    return records[(n_trained >= n_epochs) & (records["epoch"] <= n_epochs)].reset_index(drop=True)


def by_length(
    published: pd.DataFrame, jobs: pd.DataFrame, *, first: pd.DataFrame, lengths: Sequence[int]
) -> dict[int, pd.DataFrame]:
    """Gather trainings by length, without lengths of the published run alone.

    Parameters
    ----------
    published, jobs, first : DataFrame
        Records of the published table, of finished jobs, and of the earlier trainings, whose names get `EARLIER` at the
        end.
    lengths : sequence of int

    Returns
    -------
    dict from length to DataFrame
        The run "published" comes first.
    """
    found = {}
    for n_epochs in lengths:
        earlier = at(first.assign(run=first["run"] + EARLIER), n_epochs) if len(first) else first
        ours = at(jobs, n_epochs) if len(jobs) else jobs
        if len(earlier) + len(ours):
            parts = [at(published.assign(run=PUBLISHED), n_epochs), earlier, ours]
            found[n_epochs] = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return found


def compare(
    lengths: Mapping[int, pd.DataFrame], test_ids: Collection[int], *, n_resamples: int = 1000
) -> pd.DataFrame:  # fmt: skip
    """Compare every two runs of each length, on all networks and on test networks.

    Columns are those of `.tables.compare_pairs`, with networks ("all" or "test") before n_epochs, and kendall_tau_low,
    kendall_tau_high by `intervals.bootstrap_interval` at the end.
    """
    rows = []
    for records in lengths.values():
        names = records["run"].unique()
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                both = records[records["run"].isin([first, second])]
                shared = set.intersection(*(set(part["ModelId"]) for _, part in both.groupby("run")))
                tested = shared & set(test_ids)
                kinds = {"all": shared, "test": tested} if shared > tested else {"test": tested}
                for kind, names_of_kind in kinds.items():
                    if len(names_of_kind) > 1:
                        some = both[both["ModelId"].isin(names_of_kind)]
                        rows.append(_compare(some, n_resamples).assign(networks=kind))
    found = pd.concat(rows, ignore_index=True)
    leading = ["run_a", "run_b", "networks"]
    return found[[*leading, *(name for name in found if name not in leading)]]


def _compare(records: pd.DataFrame, n_resamples: int) -> pd.DataFrame:
    a, b = tables.by_run(records).to_numpy().T
    low, high = intervals.bootstrap_interval(a, b, metric=metrics.kendall_tau, n_resamples=n_resamples)
    return tables.compare_pairs(records, n_resamples=n_resamples).assign(kendall_tau_low=low, kendall_tau_high=high)


def floors(
    lengths: Mapping[int, pd.DataFrame], test_ids: Collection[int], *, other_seeds: Sequence[str],
    perturbed: Sequence[str] = (), n_simulations: int = 1000,
) -> pd.DataFrame:  # fmt: skip
    """Return the noise floor of each length; columns as in `evaluation.noise`.

    Parameters
    ----------
    lengths : mapping from length to records
    test_ids : collection of int
        Networks that a predictor is scored on.
    other_seeds : sequence of str
        Runs that, with the published one, measure the noise of seeds. Those that a length lacks do not count, nor, once
        one has all test networks, those that have only some.
    perturbed : sequence of str
        A run and its perturbed re-run, which measure the noise of rounding.
    n_simulations : int
    """
    rows = []
    for records in lengths.values():
        plain = one_a_seed(records)
        plain = plain[plain["ModelId"].isin(list(test_ids))]
        begun = [run for run in other_seeds if _n_shared(plain, [PUBLISHED, run]) > 1]
        whole = [
            run for run in begun if covers(plain, [run], model_ids=test_ids)
        ]  # a seed in progress would leave few networks
        for kind, runs in (("seed", [PUBLISHED, *(whole or begun)]), ("rounding", list(perturbed))):
            some = plain[plain["run"].isin(runs)]
            if _n_shared(some, runs) > 1:
                rows.append(tables.floor(some, model_ids=test_ids, n_simulations=n_simulations).assign(noise=kind))
    if not rows:
        raise ValueError(f"no length has two test networks in all of the runs {', '.join(other_seeds)}")
    found = pd.concat(rows, ignore_index=True)
    counts = ["noise", "n_epochs", "n_runs", "n_archs_sd", "n_archs", "n_pairs"]
    spreads = ["sd_training", "sd_training_low", "sd_training_high", "n_simulations"]
    scores = [f"{name}{end}" for name in ("mae", "kendall_tau", "violations") for end in ("", "_low", "_high")]
    return found[[*counts, *spreads, *scores]]


def headline(lengths: Mapping[int, pd.DataFrame], test_ids: Collection[int], *, other_seeds: Sequence[str]) -> int:
    """Return the longest length that is complete for all other seeds."""
    whole = [n for n, records in lengths.items() if covers(one_a_seed(records), other_seeds, model_ids=test_ids)]
    return max(whole, default=min(lengths))


def covers(records: pd.DataFrame, runs: Sequence[str], *, model_ids: Collection[int]) -> bool:
    """Return True if there are runs, and each has all the networks."""
    owned = set(zip(records["run"], records["ModelId"], strict=True))
    return bool(runs) and {(run, model_id) for run in runs for model_id in model_ids} <= owned


def shared_noise(
    lengths: Mapping[int, pd.DataFrame], schemes: Mapping[int, Scheme], *, n_permutations: int = 1000
) -> pd.DataFrame:
    """Test at each length if neighbouring schemes share noise.

    Columns are run, n_epochs and those of `.tables.shared_noise`.
    """
    found = []
    for n_epochs, records in lengths.items():
        for run in [run for run in records["run"].unique() if run != PUBLISHED]:
            if _n_shared(records, [PUBLISHED, run]) > 1:
                part = tables.shared_noise(
                    records, PUBLISHED, run_b=run, schemes=schemes, n_permutations=n_permutations
                )
                part.insert(0, "run", run)
                part.insert(1, "n_epochs", n_epochs)
                found.append(part)
    return pd.concat(found, ignore_index=True)


def agreement(lengths: Mapping[int, pd.DataFrame], own: Sequence[str]) -> pd.DataFrame:
    """Compare trainings of the published seed with its logs, epoch by epoch.

    Each run is compared on all epochs and networks that it has, at its longest. Columns are run and those of
    `.tables.agreement`; n_archs differs by epoch where some networks are trained longer than others.
    """
    found = []
    for run in own:
        parts = [records[records["run"].isin([PUBLISHED, run])] for records in lengths.values()]
        parts = [part for part in parts if run in set(part["run"])]
        records = pd.concat(parts).drop_duplicates(["run", "ModelId", "epoch"]) if parts else pd.DataFrame()
        if len(records) and _n_shared(records, [PUBLISHED, run]) > 1:
            part = tables.agreement(records, PUBLISHED, other=run)
            part.insert(0, "run", run)
            found.append(part[part["n_archs"] > 1])
    return pd.concat(found, ignore_index=True)


def choices(records: pd.DataFrame, run: str) -> pd.DataFrame:
    """Summarise what the networks of a run reached, by each way to choose the epoch.

    Returns
    -------
    DataFrame
        One row per kind of `.tables.KINDS` that the records allow: run, n_epochs, accuracy (the kind), mean, std, min,
        max, below_maximum (mean), kendall_tau (with the order by the maximum), n_archs.
    """
    mine = records[records["run"] == run]
    kinds = [kind for kind, column in tables.KINDS.items() if column in mine and mine[column].notna().all()]
    wide = pd.DataFrame({kind: tables.by_run(mine, kind)[run] for kind in kinds})
    found = wide.agg(["mean", "std", "min", "max"]).T.rename_axis("accuracy").reset_index()
    found["below_maximum"] = [(wide["maximum"] - wide[kind]).mean() for kind in kinds]
    found["kendall_tau"] = [metrics.kendall_tau(wide["maximum"], wide[kind]) for kind in kinds]
    found["n_archs"] = len(wide)
    found.insert(0, "run", run)
    found.insert(1, "n_epochs", mine["epoch"].nunique())
    return found


def one_a_seed(records: pd.DataFrame) -> pd.DataFrame:
    """Give each seed one training of a network: the earlier one, else the job's."""
    plain = records.assign(run=records["run"].str.removesuffix(EARLIER))
    return plain.drop_duplicates(["run", "ModelId", "epoch"])


def _n_shared(records: pd.DataFrame, runs: Sequence[str]) -> int:
    """Count the networks that all of two or more runs have."""
    owners = [set(records.loc[records["run"] == run, "ModelId"]) for run in runs]
    return len(set.intersection(*owners)) if len(owners) > 1 else 0


def trainings(index: pd.DataFrame, progress: pd.DataFrame, *, first: pd.DataFrame) -> pd.DataFrame:
    """Summarise trainings: what is finished, and how it was made.

    Parameters
    ----------
    index, progress : DataFrame
        As `naaplib.training.job_records` returns them.
    first : DataFrame
        Index of the earlier trainings.

    Returns
    -------
    DataFrame
        run, n_epochs, n_archs (with finished records), n_planned, trainer, precision, device, size (networks trained
        together), seconds (sum over jobs), ms_per_step (of one network, mean), torch. A run of two trainers has a row
        for each.
    """
    rows = []
    for run in first.to_dict("records"):
        row = {"run": run["run"] + EARLIER, "n_epochs": run["n_epochs"], "n_archs": run["n_archs"]}
        row |= {
            "n_planned": run["n_archs"],
            "trainer": "torch",
            "precision": run["precision"],
            "device": run["device"],
            "size": SIZE,
        }
        n_steps = run["n_archs"] * run["n_epochs"] * N_BATCHES
        row |= {"seconds": run["seconds"], "ms_per_step": 1000 * run["seconds"] / n_steps, "torch": run["torch"]}
        rows.append(row)
    for run in progress.to_dict("records"):
        row = {"run": run["run"], "n_epochs": run["n_epochs"], "n_planned": run["n_archs"]}
        mine = index[(index["seed"] == int(run["run"].split()[-1])) & (index["n_epochs"] == run["n_epochs"])]
        for trainer, part in mine.groupby("trainer", sort=False):
            device = part["gpu"].where(part["gpu"] != "", part["processor"])
            texts = {"precision": part["precision"], "device": device, "torch": part["torch"]}
            found = {name: " and ".join(dict.fromkeys(values)) for name, values in texts.items()}
            found |= {"n_archs": part["n_archs"].sum(), "trainer": trainer, "size": part["size"].max()}
            found |= {"seconds": part["seconds"].sum(), "ms_per_step": (part["ms_per_step"] / part["size"]).mean()}
            rows.append(row | found)
        if mine.empty:
            rows.append(row | {"n_archs": 0} | dict.fromkeys(("trainer", "precision", "device", "size", "torch"), ""))
    return pd.DataFrame(rows, columns=list(TRAININGS))


def sentences(pairs: pd.DataFrame, floors: pd.DataFrame, *, scores: pd.DataFrame, n_epochs: int) -> list[str]:
    """Return the answers on agreement of order, noise floor, and regressors.

    Parameters
    ----------
    pairs, floors : DataFrame
        As `compare` and `floors` return them. The training of the published seed with most
        networks and, of these, most epochs is reported, and beside it a longer one in progress once it has `ENOUGH`.
    scores : DataFrame
        As `.tables.score_twice` returns it, with others: the trainings that an estimator was not fitted to.
    n_epochs : int
        Length of the trainings in `scores`.
    """
    found = []
    own = pairs[(pairs["run_a"] == PUBLISHED) & pairs["run_b"].str.startswith(f"seed {SEED}")]
    if len(own):
        row = own.sort_values(["n_archs", "n_epochs"]).iloc[-1]
        told = (
            f"Trained again through {_epochs(row['n_epochs'])} with the published seed, {row['n_archs']:.0f} networks "
            f"keep the published order with a Kendall tau of **{row['kendall_tau']:.2f}** ({row['violations']:,.0f} of "
            f"{row['n_pairs']:,.0f} pairs change places)."
        )
        longest = own.sort_values(["n_epochs", "n_archs"]).iloc[-1]
        if longest["n_epochs"] > row["n_epochs"] and longest["n_archs"] >= ENOUGH:
            told += (
                f" The {longest['n_archs']:.0f} that have gone through {_epochs(longest['n_epochs'])} so far keep "
                f"theirs with one of **{longest['kendall_tau']:.2f}**."
            )
        found.append(told)
    row = floors[floors["noise"] == "seed"].sort_values("n_epochs").iloc[-1]
    early = "" if row["n_epochs"] == N_EPOCHS else "; this is the noise of early epochs, not that of the study's table"
    found.append(
        f"After {_epochs(row['n_epochs'])} even a perfect predictor of the mean over seeds would reach a tau of "
        f"**{row['kendall_tau']:.2f}** on {row['n_archs']:.0f} test architectures ({_pairs(row['violations'])} of "
        f"{row['n_pairs']:.0f} pairs in the wrong order){early}."
    )
    nearest = scores.sort_values("violations_own", kind="stable").iloc[0]
    spread = scores[(scores["algorithm"] == nearest["algorithm"]) & (scores["features"] == nearest["features"])]
    others = " and ".join(f"**{_pairs(row.violations_others)}** of {row.others}" for row in spread.itertuples())
    found.append(
        f"Asked for the accuracy after {_epochs(n_epochs)} and fitted to one training, the best regressor that sees no "
        f"epoch puts {_pairs(nearest['violations_own'])} pairs of that training in the wrong order, and {others}."
    )
    return found


def _pairs(violations: float) -> str:
    """Format a number of pairs with a digit where ties or a mean leave one: 26.5 is neither 26 nor 27."""
    return f"{violations:.1f}".removesuffix(".0")


def _epochs(n: float) -> str:
    return f"all {N_EPOCHS} epochs" if n == N_EPOCHS else f"{n:.0f} epochs"
