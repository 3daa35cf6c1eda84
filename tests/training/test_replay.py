"""The chapter on the recipe: what it trained follows the published logs."""

import pandas as pd

from naaplib.sources import ROOT


def test_networks_replay_the_published_first_epoch() -> None:
    """Mean losses of epoch 1 in the committed results lie within 0.02 nats of the published logs.

    At least four networks, one of each depth with and without a skip. Some networks come as near with another seed, but
    not on average: with the published seed and order the mean distance is less than half of that.
    """
    table = pd.read_csv(ROOT / "results" / "02-training-recipe" / "first-epoch.csv")
    near = table[(table["ours"] - table["published"]).abs() <= 0.02]
    assert len(near) >= 4
    assert set(zip(near["NumLayers"], near["n_skips"] > 0, strict=True)) == {
        (3, False), (3, True), (4, False), (4, True)
    }  # fmt: skip
    assert {1, 120, 300, 440} <= set(table["ModelId"])
    assert table["difference"].abs().mean() < 0.5 * table["other_seed"].abs().mean()
