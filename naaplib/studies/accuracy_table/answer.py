"""Sentences that answer the chapter."""

from __future__ import annotations

import pandas as pd

from naaplib.studies.accuracy_table.lengths import PUBLISHED
from naaplib.tables.naap440 import N_EPOCHS
from naaplib.training.recipe import SEED

ENOUGH = 30  # networks of a table in progress


def sentence(pairs: pd.DataFrame, floors: pd.DataFrame, *, scores: pd.DataFrame, n_epochs: int) -> str:
    """Return the answer: agreement of order, noise floor, regressors.

    Parameters
    ----------
    pairs, floors : DataFrame
        As `.lengths.compare` and `.lengths.floors` return them. The training of the published seed with most
        networks and, of these, most epochs is reported, and beside it a longer one in progress once it has `ENOUGH`.
    scores : DataFrame
        As `.tables.score_twice` returns it, with others: the trainings that an estimator was not fitted to.
    n_epochs : int
        Length of the trainings in `scores`.
    """
    sentences = []
    own = pairs[(pairs["run_a"] == PUBLISHED) & pairs["run_b"].str.startswith(f"seed {SEED}")]
    if len(own):
        row = own.sort_values(["n_archs", "n_epochs"]).iloc[-1]
        sentences.append(
            f"Trained again through {_epochs(row['n_epochs'])} with the published seed, {row['n_archs']:.0f} networks "
            f"keep the published order with a Kendall tau of **{row['kendall_tau']:.2f}** ({row['violations']:,.0f} of "
            f"{row['n_pairs']:,.0f} pairs change places)."
        )
        longest = own.sort_values(["n_epochs", "n_archs"]).iloc[-1]
        if longest["n_epochs"] > row["n_epochs"] and longest["n_archs"] >= ENOUGH:
            sentences.append(
                f"The {longest['n_archs']:.0f} that have gone through {_epochs(longest['n_epochs'])} so far keep "
                f"theirs with one of **{longest['kendall_tau']:.2f}**."
            )
    row = floors[floors["noise"] == "seed"].sort_values("n_epochs").iloc[-1]
    early = "" if row["n_epochs"] == N_EPOCHS else "; this is the noise of early epochs, not that of the study's table"
    sentences.append(
        f"After {_epochs(row['n_epochs'])} even a perfect predictor of the mean over seeds would reach a tau of "
        f"**{row['kendall_tau']:.2f}** on {row['n_archs']:.0f} test architectures ({_pairs(row['violations'])} of "
        f"{row['n_pairs']:.0f} pairs in the wrong order){early}."
    )
    nearest = scores.sort_values("violations_own", kind="stable").iloc[0]
    spread = scores[(scores["algorithm"] == nearest["algorithm"]) & (scores["features"] == nearest["features"])]
    others = " and ".join(f"**{_pairs(row.violations_others)}** of {row.others}" for row in spread.itertuples())
    sentences.append(
        f"Asked for the accuracy after {_epochs(n_epochs)} and fitted to one training, the best regressor that sees no "
        f"epoch puts {_pairs(nearest['violations_own'])} pairs of that training in the wrong order, and {others}."
    )
    return " ".join(sentences)


def _pairs(violations: float) -> str:
    """Format a number of pairs with a digit where ties or a mean leave one: 26.5 is neither 26 nor 27."""
    return f"{violations:.1f}".removesuffix(".0")


def _epochs(n: float) -> str:
    return f"all {N_EPOCHS} epochs" if n == N_EPOCHS else f"{n:.0f} epochs"
