"""Tables of training logs: ours beside the published, and effects of the cycle."""

from __future__ import annotations

import pandas as pd

from naaplib.training.recipe import Recipe


def compare(ours: pd.DataFrame, published: pd.DataFrame, *, measure: str) -> pd.DataFrame:
    """Set one measure of our records beside the published records.

    Parameters
    ----------
    ours, published : DataFrame
        Tidy records (ModelId, epoch and measures); `published` may hold more networks and epochs.
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
    """Summarise losses and accuracies by position in the learning rate's cycle.

    Parameters
    ----------
    published : DataFrame
        Tidy records of all epochs of the recipe, with ascending epochs for each network.
    recipe : Recipe
        Its `cycle` is the number of positions.

    Returns
    -------
    DataFrame, shape (recipe.cycle, 6), one row per position
        - position: 1 is the epoch of a restart
        - learning_rate
        - loss_mean, accuracy: means over networks and cycles
        - worsened: fraction of steps to an epoch at this position in which the accuracy fell
        - n_best: number of networks with their highest accuracy (the first among equals) at this position
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
    """Return the mean loss of accuracy from the best epoch to the last.

    The mean is over networks.
    """
    accuracies = published.sort_values("epoch").groupby("ModelId")["accuracy"]
    return float((accuracies.max() - accuracies.last()).mean())
