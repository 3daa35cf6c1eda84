"""Tests of the test on NAS-Bench-201."""

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures.cells import enumerate_cells, sizes, to_string
from naaplib.estimators.graf import prune_cell
from naaplib.studies.comparison import cells


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    """A made table of 240 cells: accuracy grows with parameters; single trainings have noise."""
    chosen = enumerate_cells()[5::65]
    y = 0.1 * np.log10(sizes(chosen)["n_params"].to_numpy())
    single = y + np.random.default_rng(0).normal(0, 0.01, len(y))
    keys = {"architecture": map(to_string, chosen), "distinct": [to_string(prune_cell(cell)) for cell in chosen]}
    base = pd.DataFrame(keys).assign(dataset="CIFAR-10", epochs=200)
    return pd.concat([base.assign(runs="single", accuracy=single), base.assign(runs="mean", accuracy=y)])


def test_all_other_cells_are_test_rows_and_duplicates_are_not_new(made: pd.DataFrame) -> None:
    """Parts have their sizes, by hand for the first set, and scores of both kinds of targets differ."""
    name = "GRAF, extremely randomised trees"
    found = cells.evaluated(made, [name], n_train=40, n_sets=2, seed=3)
    assert found["part"].tolist() == ["test", "new"] * 2
    n_cells = len(made) // 2
    assert (found.loc[found["part"] == "test", "n"] == n_cells - 40).all()
    rows = np.random.default_rng(np.random.SeedSequence(3).spawn(1)[0]).permutation(n_cells)
    distinct = made["distinct"].to_numpy()[:n_cells]
    assert found["n"][1] == np.sum(~np.isin(distinct[rows[40:]], distinct[rows[:40]]))
    assert (found["kendall_tau"] > 0.5).all()
    single = cells.evaluated(made, [name], targets="single", n_train=40, n_sets=2, seed=3)
    assert (single["mse"] != found["mse"]).all()


def test_unknown_targets_are_refused(made: pd.DataFrame) -> None:
    """The message names the two."""
    with pytest.raises(ValueError, match="targets are 'best'"):
        cells.evaluated(made, targets="best")


def test_records_name_what_they_depend_on() -> None:
    """One record for each kind of targets, with estimators, sizes and seed as settings."""
    found = [*cells.pieces(n_sets=3), cells.proxies_piece(n_sets=3)]
    assert [piece.name for piece in found] == [
        "cells, 172 trained/single accuracies",
        "cells, 172 trained/mean accuracies",
        "cells, 172 trained/proxies",
    ]
    assert all(piece.settings["n_sets"] == 3 for piece in found)
    for piece, targets in zip(found, cells.TARGETS, strict=False):
        assert piece.settings["targets"] == targets
        assert piece.settings["estimators"] == list(cells.ESTIMATORS)


def test_a_proxy_that_is_the_accuracy_improves_the_order(made: pd.DataFrame) -> None:
    """With a steep function of the accuracy as proxy, tau is higher; cells without a proxy are left out."""
    values = made.loc[made["runs"] == "mean", "accuracy"].to_numpy() * np.sin(np.arange(len(made) // 2))
    hard = made.assign(accuracy=np.tile(np.abs(values), 2))
    proxies = pd.DataFrame({"known": np.exp(10 * np.abs(values))}).drop(index=[3, 8])
    name = "pruned GRAF, boosting"
    found = cells.evaluated_with_proxies(hard, proxies, names=[name], n_train=60, n_sets=2)
    tau = found.groupby("proxies")["kendall_tau"].mean()
    assert tau["with"] > tau["without"] + 0.3
    assert (found["n"] == len(values) - 2 - 60).all()


def test_proxies_are_read_by_position_and_only_where_all_are_defined(tmp_path) -> None:
    """Other conditions, and a cell whose score is missing, are left out."""
    rows = [(5, "default", "a", 1.0), (5, "default", "b", 2.0), (7, "default", "a", 3.0), (5, "other", "a", 9.0)]
    pd.DataFrame(rows, columns=["architecture", "condition", "score", "value"]).to_csv(tmp_path / "cells.csv")
    found = cells.read_proxies(tmp_path / "cells.csv")
    assert found.to_dict("index") == {5: {"a": 1.0, "b": 2.0}}
