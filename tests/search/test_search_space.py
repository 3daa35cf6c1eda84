"""Search spaces: what they refuse, what they measure, and files of them."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from naaplib.search.identity import differences
from naaplib.search.search_space import SearchSpace, load

ENCODINGS = [(kernel, width, act) for kernel in (1, 3, 5) for width in (4, 8, 16) for act in ("relu", "silu")]


def build(encoding: tuple[int, int, str]) -> nn.Module:
    """A convolution, an activation, a linear layer."""
    kernel, width, act = encoding
    layers = [nn.Conv2d(3, width, kernel, padding=kernel // 2), nn.ReLU() if act == "relu" else nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def test_measured_on_some_networks_and_pretrained() -> None:
    """Rows are drawn from the seed; parameters are as counted by hand; every fit begins with the pretrained bodies."""
    space = SearchSpace("convolutions", ENCODINGS, encoding_to_network=build, seed=3)
    before = space.digest()
    metrics = space.preprocess(torch.zeros(1, 3, 8, 8), n_networks=7)
    assert metrics.index.tolist() == np.random.default_rng(3).permutation(18)[:7].tolist()
    for row, n_params in metrics["n_params"].items():
        kernel, width, _ = ENCODINGS[row]
        assert n_params == width * (3 * kernel**2 + 1) + (width + 1) * 10
    assert space.ensemble.is_pretrained
    assert space.digest() != before
    with pytest.raises(ValueError, match="has been pretrained"):
        space.preprocess(metrics=metrics)


def test_own_metrics_are_taken_as_they_are() -> None:
    """As if the ensemble had been given them; columns of text are no metrics."""
    metrics = pd.DataFrame({"cost": [1.0, 2.0, 4.0], "remark": ["a", "b", "c"]}, index=[2, 0, 9])
    space, twin = SearchSpace("given", ENCODINGS), SearchSpace("given", ENCODINGS)
    space.preprocess(metrics=metrics)
    before = twin.digest()
    twin.ensemble.pretrain([[1.0], [2.0], [4.0]], [2, 0, 9])
    for own, other in zip(space.ensemble.weights, twin.ensemble.weights, strict=True):
        torch.testing.assert_close(own, other)
    assert space.digest() != before
    with pytest.raises(ValueError, match="encoding_to_network and sample_input are needed"):
        twin.preprocess()


@pytest.mark.parametrize("names", [["cost", "cost"], pd.MultiIndex.from_tuples([("cost", "a"), ("cost", "b")])])
def test_names_of_metrics_are_simple_and_differ(names: object) -> None:
    """Else nothing is pretrained, and metrics with other names can follow."""
    space, metrics = SearchSpace("given", ENCODINGS, n_members=1), pd.DataFrame([[1.0, 2.0], [2.0, 5.0], [4.0, 3.0]])
    with pytest.raises(ValueError, match=r"metrics have the columns .*; each must have one name, and its own"):
        space.preprocess(metrics=metrics.set_axis(names, axis=1))
    space.preprocess(metrics=metrics)


def test_lengths_of_time_are_no_metrics(tmp_path: Path) -> None:
    """They are kept as text is."""
    space = SearchSpace("given", ENCODINGS, n_members=1)
    space.preprocess(metrics=pd.DataFrame({"cost": [1.0, 2.0], "took": pd.to_timedelta([1, 2], "s")}))
    space.save(tmp_path / "space.npz")
    assert load(tmp_path / "space.npz").digest() == space.digest()


def test_a_space_from_a_file_is_the_same(tmp_path: Path) -> None:
    """Encodings with their types, metrics, weights; networks come from whoever opens it."""
    space = SearchSpace("mixed", [(1, 0.5, None), (2, 1.0, True), (3, 2.5, "x")], n_members=3, seed=5)
    space.preprocess(metrics=pd.DataFrame({"cost": [1.0, np.nan, 0.001 / 3], "size": [1.0, 2.0, 3.0]}, index=[2, 0, 1]))
    space.save(tmp_path / "space.npz")
    other = load(tmp_path / "space.npz", build)
    assert other.encodings == space.encodings
    assert [[type(part) for part in one] for one in other.encodings] == [
        [type(part) for part in one] for one in space.encodings
    ]
    assert (other.name, other.digest(), other.seed) == ("mixed", space.digest(), 5)
    assert other.encoding_to_network is build
    pd.testing.assert_frame_equal(other.metrics, space.metrics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told | {"encodings": told["encodings"][:-1]}, "an ensemble that is not of its encodings"),
        (lambda told: told | {"encodings": [[1], [2, 3]]}, "does not describe a search space.*encoding 1"),
        (lambda told: told | {"encodings": 7}, "does not describe a search space"),
        (lambda told: {key: value for key, value in told.items() if key != "name"}, "does not describe.*'name'"),
        (lambda told: None, "does not describe a search space"),
        (lambda told: told | {"metrics": {"data": [[1]]}}, "does not describe a search space"),
    ],
)
def test_spoilt_files_are_refused(change, message: str, tmp_path: Path) -> None:
    """What is no ensemble at all is refused where ensembles are read: this is about the space around it."""
    path = tmp_path / "space.npz"
    SearchSpace("convolutions", ENCODINGS).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    arrays["header"] = np.array(json.dumps(header | {"told": change(header["told"])}))
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_encodings_that_are_there_twice_are_refused() -> None:
    """The list is what a search goes through once."""
    with pytest.raises(ValueError, match="1 of the 19 encodings are there before"):
        SearchSpace("twice", [*ENCODINGS, ENCODINGS[4]])


VALUES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.7])
SIX = [(kernel, width) for kernel in (1, 3, 5) for width in (8, 16)]


@pytest.mark.parametrize(
    "metrics",
    [
        pd.DataFrame({"flops": VALUES}).rename_axis("position"),
        pd.DataFrame({"flops": VALUES.astype("float32")}),
        pd.DataFrame({"n": pd.array([1, 2, 3, 4, 5, None], "Int64"), "is": pd.array([True] * 6, "boolean")}),
        pd.DataFrame({"n": np.arange(6, dtype="uint8"), "day": pd.date_range("2024-01-01", periods=6)}),
        pd.DataFrame({0: VALUES, 1: VALUES**2}, index=[5, 4, 3, 2, 1, 0]),
        pd.DataFrame({"flops": VALUES, "remark": ["a", None, "c", np.nan, "e", "f"]}),
    ],
    ids=["named index", "float32", "nullable", "dates", "numbered columns", "gaps in text"],
)
def test_a_saved_space_is_the_same_whatever_its_table_was(metrics: pd.DataFrame, tmp_path: Path) -> None:
    """Types, names and what is no metric are no part of it; values and positions are."""
    space, other = SearchSpace("s", SIX), SearchSpace("s", SIX)
    before = metrics.copy()
    space.preprocess(metrics=metrics)
    pd.testing.assert_frame_equal(metrics, before)
    space.save(tmp_path / "space.npz")
    kept = load(tmp_path / "space.npz")
    assert (kept.digest(), kept.identity()) == (space.digest(), space.identity())
    other.preprocess(metrics=metrics.iloc[::-1])
    assert other.digest() != space.digest()


def test_latencies_that_were_measured_are_no_part_of_the_identity() -> None:
    """Those that were given are; all other metrics are in any case."""
    table = pd.DataFrame({"latency": VALUES, "macs": VALUES})
    given = []
    for column in (None, "latency", "macs"):
        space = SearchSpace("s", SIX)
        space.preprocess(metrics=table if column is None else table.assign(**{column: VALUES[::-1]}))
        given.append(space.identity())
    for column, one in (("latency", given[1]), ("macs", given[2])):
        (text,) = differences(given[0], one)
        assert text.startswith(f"metrics, {column} is '")
    measured = [SearchSpace("s", ENCODINGS, encoding_to_network=build) for _ in range(2)]
    for space in measured:
        space.preprocess(torch.zeros(1, 3, 8, 8), n_networks=5)
    assert measured[0].identity() == measured[1].identity()
    assert set(measured[0].identity()["metrics"]) == {"n_params", "macs", "memory", "relu_units"}


@pytest.mark.parametrize("make", [iter, tuple, lambda rows: (row for row in rows), lambda rows: map(list, rows)])
def test_encodings_come_from_anything_that_is_gone_through(make) -> None:
    """Generators among them."""
    space = SearchSpace("s", make(SIX))
    assert space.encodings == SIX
    assert space.digest() == SearchSpace("s", SIX).digest()


def test_numpy_entries_are_python_s_from_the_start(tmp_path: Path) -> None:
    """Before anything is measured; the space is that of Python's numbers."""
    rows = [(np.int64(kernel), np.float32(width), np.str_("x"), np.bool_(kernel > 1)) for kernel, width in SIX]
    space = SearchSpace("s", rows, categorical=[np.int64(0)], n_members=np.int8(3), seed=np.int64(4))
    own = SearchSpace("s", [(k, float(w), "x", k > 1) for k, w in SIX], categorical=[0], n_members=3, seed=4)
    assert {type(entry) for row in space.encodings for entry in row} == {int, float, str, bool}
    space.save(tmp_path / "space.npz")
    assert load(tmp_path / "space.npz").digest() == space.digest() == own.digest()


@pytest.mark.parametrize(
    ("encodings", "message"),
    [
        ([(2**63,), (2**63 + 1,)], r"position 0 holds whole numbers above 2\*\*53 that are one, or none"),
        ([(1, 10**400), (2, 3)], "position 1 holds whole numbers above"),
        (
            [(Fraction(1, 2),), (Fraction(1, 3),)],
            r"an encoding holds Fraction\(1, 2\); its numbers must be int or float",
        ),
        ([(Decimal("0.1"),), (1,)], "an encoding holds Decimal"),
        ([(1j,), (1,)], "an encoding holds 1j"),
        ([(f"architecture {i}",) for i in range(101)], "each of 101 encodings has a name of its own at position 0"),
        ([(i, f"architecture {i}") for i in range(101)], "a name of its own at position 1, such as 'architecture 0'"),
        ([], "there are no encodings"),
        ([(1,), (1, 2)], "each must have 1 entries"),
        ([({1},), ({2},)], "unhashable|entries must be"),
    ],
)
def test_encodings_that_cannot_be_learnt_or_kept_are_refused(encodings: list, message: str) -> None:
    """When the space is made, in its own words."""
    with pytest.raises((ValueError, TypeError), match=message):
        SearchSpace("s", encodings)


def test_large_numbers_that_differ_are_taken() -> None:
    """And texts of their own, where there are few."""
    assert len(SearchSpace("s", [(2**60,), (3,)])) == 2
    assert len(SearchSpace("s", [(f"architecture {i}",) for i in range(100)])) == 100
    assert len(SearchSpace("s", [(i,) for i in range(500)])) == 500


@pytest.mark.parametrize(
    ("words", "message"),
    [({"seed": None}, "seed is None; it must be a whole number"), ({"seed": -1}, "seed is -1; it must be at least 0"),
     ({"n_members": 0}, "n_members is 0; it must be at least 1")],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(words: dict, message: str) -> None:
    """A space without a seed would be another one each time."""
    with pytest.raises(ValueError, match=message):
        SearchSpace("s", SIX, **words)
    with pytest.raises(ValueError, match="n_networks is 0; it must be at least 1"):
        SearchSpace("s", ENCODINGS, encoding_to_network=build).preprocess(torch.zeros(1, 3, 8, 8), n_networks=0)
