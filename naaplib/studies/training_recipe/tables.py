"""Training logs: the published ones as tidy records, beside our own, and by their place in a cycle of the rate."""

from __future__ import annotations

import pandas as pd

from naaplib.training.recipe import Recipe


def compare(ours: pd.DataFrame, published: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One measure of our records beside the published ones of the same networks and epochs.

    Parameters
    ----------
    ours, published : DataFrame
        Tidy records as `tidy` returns them; `published` may hold more networks and epochs.
    measure : {"loss_mean", "loss_median", "accuracy"}

    Returns
    -------
    DataFrame, shape (len(ours), 5)
        ModelId, epoch, ours, published, difference (ours minus published), in the order of `ours`.

    Raises
    ------
    ValueError
        If a network or an epoch of ours is not among the published ones.
    """
    key = ["ModelId", "epoch"]
    both = ours[[*key, measure]].merge(published[[*key, measure]], how="left", on=key, suffixes=("_ours", ""))
    both = both.rename(columns={f"{measure}_ours": "ours", measure: "published"})
    if both["published"].isna().any():
        absent = both.loc[both["published"].isna(), key].drop_duplicates().to_numpy().tolist()
        raise ValueError(f"the published records lack these pairs of ModelId and epoch: {absent[:10]}")
    return both.assign(difference=both["ours"] - both["published"])


def by_position(published: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """What the place of an epoch in its cycle of the learning rate has to do with losses and accuracies.

    Parameters
    ----------
    published : DataFrame
        Tidy records of all epochs of the recipe, in which each network's epochs ascend.
    recipe : Recipe
        Its `cycle` says how many positions there are.

    Returns
    -------
    DataFrame, shape (recipe.cycle, 6), one row a position
        - position: 1 is the epoch of a restart
        - learning_rate
        - loss_mean, accuracy: means over networks and cycles
        - worsened: of all steps from an epoch to one at this position, the fraction in which the accuracy fell
        - n_best: how many networks have their highest accuracy (the first, where it comes twice) at this position
    """
    position = (published["epoch"] - 1) % recipe.cycle + 1
    accuracies = published.groupby("ModelId", sort=False)["accuracy"]
    steps = accuracies.diff().dropna()
    best = position.loc[accuracies.idxmax()].value_counts()
    return pd.DataFrame({
        "position": range(1, recipe.cycle + 1),
        "learning_rate": [recipe.learning_rate(epoch) for epoch in range(1, recipe.cycle + 1)],
        "loss_mean": published.groupby(position)["loss_mean"].mean().to_numpy(),
        "accuracy": published.groupby(position)["accuracy"].mean().to_numpy(),
        "worsened": (steps < 0).groupby(position.loc[steps.index]).mean().to_numpy(),
        "n_best": [int(best.get(place, 0)) for place in range(1, recipe.cycle + 1)],
    })  # fmt: skip


def after_the_best(published: pd.DataFrame) -> float:
    """By how much the highest accuracy of a network exceeds that of its last epoch, on average over networks."""
    accuracies = published.sort_values("epoch").groupby("ModelId")["accuracy"]
    return float((accuracies.max() - accuracies.last()).mean())
