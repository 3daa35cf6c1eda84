"""Tests of estimators from the architecture alone."""

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from naaplib import metrics
from naaplib.architectures.cells import EDGES, enumerate_cells, sizes
from naaplib.architectures.schemes import enumerate_schemes, feature_table
from naaplib.estimators import structural
from naaplib.estimators.structural import NormalScores

SCHEMES = enumerate_schemes()
CELLS = enumerate_cells()[7::53]


@pytest.fixture(scope="module")
def schemes() -> tuple[pd.DataFrame, np.ndarray]:
    """Features of all schemes, and a target that grows with the logarithm of their costs."""
    sizes_of = feature_table(SCHEMES)
    return structural.scheme_features(SCHEMES), 0.1 * np.log10(sizes_of["NumMACs"] * sizes_of["NumParams"] ** 2)


@pytest.fixture(scope="module")
def cells() -> tuple[pd.DataFrame, np.ndarray]:
    """Features of some cells, and a target that grows with their operations' parameters."""
    return structural.cell_features(CELLS), 0.1 * np.log10(sizes(CELLS)["n_params"].to_numpy())


@pytest.mark.parametrize("name", structural.NAAP440)
def test_schemes_are_ordered_from_few_rows_and_independently_of_the_targets_unit(name: str, schemes) -> None:
    """44 rows order the others, with the same predictions in percent as in fractions."""
    X, y = schemes
    rows = np.random.default_rng(0).permutation(len(X))
    train, test = rows[:44], rows[44:]
    model = structural.make(name)
    found = clone(model).fit(X.iloc[train], y[train]).predict(X.iloc[test])
    assert metrics.kendall_tau(y[test], found) > (0.5 if name.startswith("GRAF") else 0.75)
    percent = clone(model).fit(X.iloc[train], 128 * y[train]).predict(X.iloc[test])
    assert percent == pytest.approx(128 * found, rel=1e-3)


@pytest.mark.parametrize("name", structural.NASBENCH201)
def test_cells_are_ordered_from_few_rows_with_the_targets_in_any_monotone_scale(name: str, cells) -> None:
    """60 rows order the others; a steeper target with the same order gives the same order of predictions."""
    X, y = cells
    rows = np.random.default_rng(0).permutation(len(X))
    train, test = rows[:60], rows[60:]
    model = structural.make(name)
    found = clone(model).fit(X.iloc[train], y[train]).predict(X.iloc[test])
    assert metrics.kendall_tau(y[test], found) > 0.6
    steep = clone(model).fit(X.iloc[train], y[train] ** 3).predict(X.iloc[test])
    assert metrics.kendall_tau(found, steep) > 0.999


@pytest.mark.parametrize(("names", "n"), [(structural.NAAP440, 10), (structural.NASBENCH201, 20)])
def test_very_few_rows_suffice(names: tuple[str, ...], n: int, schemes, cells) -> None:
    """Each estimator predicts finite values from 10 schemes, or 20 cells, without a warning."""
    X, y = schemes if names is structural.NAAP440 else cells
    rows = np.random.default_rng(1).permutation(len(X))[:n]
    for name in names:
        assert np.isfinite(structural.make(name).fit(X.iloc[rows], y[rows]).predict(X)).all()


def test_an_estimator_uses_features_of_its_set_only(schemes) -> None:
    """Other columns may be anything."""
    X, y = schemes
    other = X.assign(**{name: 0.0 for name in X if not name.startswith("graf:")})
    name = "GRAF, extremely randomised trees"
    expected = structural.make(name).fit(X, y).predict(X)
    assert structural.make(name).fit(other, y).predict(other) == pytest.approx(expected)


def test_an_unknown_estimator_is_refused() -> None:
    """The message lists all names."""
    with pytest.raises(ValueError, match="no estimator 'forest'; there are: GRAF, extremely"):
        structural.make("forest")


def test_path_features_of_a_cell_by_hand() -> None:
    """Skip connections drop out of a path's sequence, and a path with a "none" does not count."""
    cell = ("nor_conv_3x3", "skip_connect", "nor_conv_1x1", "skip_connect", "avg_pool_3x3", "nor_conv_3x3")
    found = structural.cell_features([cell]).filter(like="pruned:path ").iloc[0]
    counted = found[found > 0].to_dict()
    assert counted == {
        "pruned:path ": 1,  # from input to output
        "pruned:path nor_conv_3x3>avg_pool_3x3": 1,  # by node 1
        "pruned:path nor_conv_3x3": 1,  # by node 2
        "pruned:path nor_conv_3x3>nor_conv_1x1>nor_conv_3x3": 1,  # by both
    }
    cell = ("none", "nor_conv_3x3", "none", "none", "none", "skip_connect")
    found = structural.cell_features([cell]).filter(like="pruned:path ").iloc[0]
    assert found[found > 0].to_dict() == {"pruned:path nor_conv_3x3": 1}


def test_paths_are_those_of_the_cells_graph() -> None:
    """Each path leads from node 0 to node 3, edge after edge, and there are no others."""
    for path in structural.PATHS:
        nodes = [EDGES[edge] for edge in path]
        assert nodes[0][0] == 0
        assert nodes[-1][1] == 3
        assert all(first[1] == second[0] for first, second in itertools.pairwise(nodes))
    assert len(set(structural.PATHS)) == 4


def test_normal_scores_keep_the_order_beyond_the_training_targets() -> None:
    """Training targets come back; scores outside give targets outside."""
    y = np.array([[0.3], [0.9], [0.5], [0.5]])
    scores = NormalScores().fit(y)
    z = scores.transform(y)
    assert z.ravel().argsort(kind="stable").tolist() == [0, 2, 3, 1]
    assert z[2] == z[3]
    assert scores.inverse_transform(z) == pytest.approx(y)
    assert scores.inverse_transform(np.array([[3.0]])) > 0.9
    assert scores.inverse_transform(np.array([[-3.0]])) < 0.3
