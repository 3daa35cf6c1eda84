"""Training logs: tidy, compared, and counted by their place in a cycle."""

import numpy as np
import pandas as pd
import pytest

from naaplib.studies.training_recipe import tables
from naaplib.tables import naap440
from naaplib.training.recipe import Recipe


def make_records(accuracies: dict[int, list[float]]) -> pd.DataFrame:
    """Tidy records with the given accuracies by ModelId; the loss is one minus the accuracy."""
    rows = [
        (model_id, epoch, 1 - value, 1 - value, value)
        for model_id, values in accuracies.items()
        for epoch, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows, columns=["ModelId", "epoch", "loss_mean", "loss_median", "accuracy"])


def test_a_table_of_tidy_records_is_the_table(made_path) -> None:
    """Law: records taken from a table and built into one again give the table."""
    table = naap440.read(made_path)
    records = naap440.tidy(table)
    pd.testing.assert_frame_equal(naap440.build(records), table)
    assert records["epoch"].tolist() == list(range(1, 91)) * len(table)


def test_comparison_by_hand() -> None:
    """Networks are matched by ModelId and epoch, in the order of ours; the difference is ours minus published."""
    published = make_records({1: [0.25, 0.5], 2: [0.5, 0.75], 3: [0.5, 0.5]})
    compared = tables.compare(make_records({2: [0.75], 1: [0.25]}), published, measure="loss_mean")
    expected = {"ModelId": [2, 1], "epoch": [1, 1], "ours": [0.25, 0.75], "published": [0.5, 0.75]}
    pd.testing.assert_frame_equal(compared, pd.DataFrame(expected | {"difference": [-0.25, 0.0]}))


def test_epochs_that_were_not_published_are_refused() -> None:
    """Which network and epoch have nothing to be compared with."""
    with pytest.raises(ValueError, match=r"lack these pairs of ModelId and epoch: \[\[1, 3\]\]"):
        tables.compare(make_records({1: [0.1, 0.2, 0.3]}), make_records({1: [0.1, 0.2]}), measure="accuracy")


def test_places_in_the_cycle_by_hand() -> None:
    """Two networks, two cycles of two epochs: means, falls (of one step to place 1, two to place 2 each), best epochs.

    Network 5 falls at its restart and is best in epoch 4; network 6 is best in epochs 2 and 3, of which the first
    counts, and falls in epoch 4.
    """
    records = make_records({5: [0.25, 0.5, 0.25, 0.75], 6: [0.5, 0.75, 0.75, 0.5]})
    expected = pd.DataFrame({
        "position": [1, 2],
        "learning_rate": [0.5, 0.25],
        "loss_mean": [0.5625, 0.375],
        "accuracy": [0.4375, 0.625],
        "worsened": [0.5, 0.25],
        "n_best": [0, 2],
    })  # fmt: skip
    actual = tables.by_position(records, Recipe(initial_rate=0.5, decay=0.5, cycle=2))
    pd.testing.assert_frame_equal(actual, expected)


def test_gap_after_the_best_epoch_by_hand() -> None:
    """The best of each network less its last, averaged: (0.25 + 0) / 2, whatever the order of rows."""
    records = make_records({5: [0.5, 0.75, 0.5], 6: [0.25, 0.5, 0.5]}).iloc[::-1]
    assert tables.after_the_best(records) == 0.125


def test_published_logs_peak_at_the_end_of_a_cycle(published_path) -> None:
    """Published numbers: 370 of 440 networks have their first maximum at the end of a cycle, 0.0017 above epoch 90."""
    records = naap440.tidy(naap440.read(published_path))
    assert tables.by_position(records, Recipe())["n_best"].tolist() == [0, 70, 370]
    np.testing.assert_allclose(tables.after_the_best(records), 0.0017, atol=5e-5)
