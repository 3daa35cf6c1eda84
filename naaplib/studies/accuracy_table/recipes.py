"""Order of the same networks under several recipes.

Every recipe has one training of each network, all with the same seed. The order that it gives is compared with orders
that do not depend on it: those of the published recipe with the same seed and with others, that of the published
accuracies after all epochs, and that of a predictor. The published recipe has a row of its own, trained a second time:
it is the ceiling, because two trainings that differ in nothing but noise agree no better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from naaplib.evaluation import protocols, ranking
from naaplib.studies.accuracy_table import lengths, tables

OWN = "published recipe"
ALGORITHM = "Gradient Boosting (N=100)"  # the study's best without epochs
MEASURES = ("tau_same_seed", "tau_other_seeds", "tau_full", "tau_predictor")


def reached(
    published: pd.DataFrame, jobs: pd.DataFrame, *, trained: pd.DataFrame, n_epochs: int, seeds: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Gather what networks reach under every recipe, and what to compare it with.

    Parameters
    ----------
    published, jobs, trained : DataFrame
        Records of the published table, of the plan's jobs, and of other recipes as `.records.recipes` returns them.
    n_epochs : int
        Epochs of every training but the published one through all epochs.
    seeds : sequence of str
        Runs of `jobs`: first that of the recipes' seed, then others.

    Returns
    -------
    recipes : DataFrame, shape (n_archs, n_recipes)
        `OWN`, then the other recipes, by ModelId; networks that every training has.
    references : DataFrame, shape (n_archs, n_references)
        "same_seed" (the published logs), the other seeds that have all those networks, and "full" (the published logs
        through all epochs).
    """
    every = lengths.at(pd.concat([jobs, trained, published.assign(run="same_seed")], ignore_index=True), n_epochs)
    names = trained["run"].unique()
    wide = tables.by_run(every[every["run"].isin([seeds[0], *names, "same_seed"])])
    others = [tables.by_run(part)[run] for run, part in every[every["run"].isin(seeds[1:])].groupby("run", sort=False)]
    whole = [other.loc[wide.index] for other in others if wide.index.isin(other.index).all()]
    full = tables.by_run(published.assign(run="full"))["full"].loc[wide.index]
    recipes = wide[[seeds[0], *names]].rename(columns={seeds[0]: OWN})
    return recipes, pd.concat([wide["same_seed"], *whole, full], axis=1)


def predict(
    measured: pd.Series, features: pd.DataFrame, *, test_ids: Sequence[int], algorithm: str = ALGORITHM
) -> pd.Series:
    """Predict the accuracies of test networks by an estimator fitted to all others.

    Parameters
    ----------
    measured : Series
        Accuracies of one training, by ModelId.
    features : DataFrame
        Features of these networks and perhaps others, by ModelId.
    test_ids : sequence of int
    algorithm : str
        Name of an estimator, as in `naaplib.estimators.regressors`.
    """
    is_test = np.asarray(measured.index.isin(list(test_ids)))
    found = protocols.predict(
        measured,
        {"given": features.loc[measured.index]},
        algorithms=[algorithm],
        seeds=[0],
        splits={"test": is_test},
        n_jobs=1,
    )
    return found.set_index("ModelId")["predicted"].rename("predictor")


def compare(
    recipes: pd.DataFrame, references: pd.DataFrame, *, predicted: pd.Series, n_epochs: int, n_resamples: int = 1000
) -> pd.DataFrame:
    """Compare the order of networks under each recipe with other orders.

    Parameters
    ----------
    recipes, references : DataFrame
        As `reached` returns them.
    predicted : Series
        As `predict` returns it.
    n_epochs, n_resamples : int

    Returns
    -------
    DataFrame
        One row per recipe: recipe, n_epochs, n_archs, n_others (other seeds), accuracy (mean over networks), best
        (ModelId), and each of `MEASURES` with _low, _high: Kendall's tau with the same seed's published logs, with
        other seeds (mean of their taus), with the published accuracies after all epochs, and with the predictor. Then
        the same with _change, the tau minus that of the first row. Intervals are those of 95 % over networks, by
        bootstrap; all have the same resamples. NaN without other seeds.
    """
    others = references.columns.difference(["same_seed", "full"], sort=False)
    beside = pd.concat([references, predicted], axis=1, join="inner").loc[recipes.index]
    counts = ranking.resample_counts(len(recipes), n_resamples, rng=np.random.default_rng(0))
    first: dict[str, ranking.Values] = {}
    rows = []
    for name, own in recipes.items():
        taus = {key: ranking.measures(own, beside[key], counts=counts)["kendall_tau"] for key in beside}
        nothing = np.full(len(counts), np.nan)
        found = {
            "tau_same_seed": taus["same_seed"],
            "tau_other_seeds": np.mean([taus[key] for key in others], axis=0) if len(others) else nothing,
            "tau_full": taus["full"],
            "tau_predictor": taus["predictor"],
        }
        first = first or found
        row = {"recipe": name, "n_epochs": n_epochs, "n_archs": len(own), "n_others": len(others)}
        row |= {"accuracy": own.mean(), "best": own.idxmax()}
        for key, values in found.items():
            row |= ranking.with_interval(key, values, level=0.95)
        for key, values in found.items():
            row |= ranking.with_interval(f"{key}_change", values - first[key], level=0.95)
        rows.append(row)
    return pd.DataFrame(rows)


def sentence(compared: pd.DataFrame) -> str:
    """Say if the order of networks survives the recipe; "" for one recipe.

    `compared` is the result of `compare`."""
    own, changed = compared.iloc[0], compared.iloc[1:]
    if changed.empty:
        return ""
    clear = changed.loc[changed["tau_full_change_high"] < 0, "recipe"]
    return (
        f"Under {len(changed)} other recipes through {own['n_epochs']} epochs, the order of {own['n_archs']} networks "
        f"agrees with the published one after all epochs with a tau of {changed['tau_full'].min():.2f} to "
        f"{changed['tau_full'].max():.2f}, against **{own['tau_full']:.2f}** under the published recipe. "
        f"Clearly lower: {', '.join(clear) or 'none'}."
    )
