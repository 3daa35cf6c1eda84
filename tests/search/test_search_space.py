"""Search spaces: what they refuse, what they measure, and files of them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from naaplib.search.search_space import SearchSpace, load

ENCODINGS = [(kernel, width, act) for kernel in (1, 3, 5) for width in (4, 8, 16) for act in ("relu", "silu")]


def build(encoding: tuple[int, int, str]) -> nn.Module:
    """A convolution, an activation, a linear layer."""
    kernel, width, act = encoding
    layers = [nn.Conv2d(3, width, kernel, padding=kernel // 2), nn.ReLU() if act == "relu" else nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def test_measured_on_some_networks_and_pretrained() -> None:
    """Rows are drawn from the seed; parameters are as counted by hand; every fit begins with the pretrained bodies."""
    space = SearchSpace("convolutions", ENCODINGS, build, seed=3)
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
