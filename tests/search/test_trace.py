"""Reading the file of a search."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from naaplib.search import strategies, trace, tuning
from naaplib.search.tabular_objective import TableObjective


def test_a_trace_is_read_as_the_search_returned_it(tmp_path: Path) -> None:
    """Steps, spent epochs and the incumbent's score agree with the table of the search."""
    curves = np.random.default_rng(0).uniform(size=(30, 9)).cumsum(axis=1) / 9
    path = tmp_path / "search.jsonl"
    table = strategies.hyperband(TableObjective(curves), total_budget=60, max_budget=9, eta=3, seed=0, trace=path)
    found = trace.read(path)
    expected = table.drop_duplicates(["configuration", "budget"])
    assert found["spent"].tolist() == expected["spent"].tolist()
    assert found["value"].tolist() == expected["score"].tolist()
    assert trace.summarise(found)["configuration"] == table["incumbent"].iloc[-1]
    assert trace.summarise(found)["evaluations"] == len(expected)


def test_a_tuning_search_is_read_too(tmp_path: Path) -> None:
    """The best is that of full evaluations."""
    space = tuning.SearchSpace(
        "small", [(width,) for width in range(1, 9)], encoding_to_network=lambda e: nn.Linear(3, e[0])
    )
    space.preprocess(torch.zeros(2, 3))
    search = tuning.Search(
        space, lambda e: e[0] / 10, cost=1, folder=tmp_path, settings=tuning.Settings(n_initial_alone=2)
    )
    search.run(budget=4)
    (path,) = tmp_path.glob("*.jsonl")
    found = trace.read(path)
    assert found["value"].tolist() == search.trace()["value"].tolist()
    assert found["best"].tolist() == search.trace()["best"].tolist()
    assert set(found["budget"]) == {"full"}


def test_a_running_search_can_be_read(tmp_path: Path) -> None:
    """Half a line is left out, failures have no value, a repeated failure counts once."""
    path = tmp_path / "search.jsonl"
    path.write_text(
        '{"naaplib trace": 2, "strategy": "random"}\n'
        '{"configuration": [1], "budget": 3, "score": null, "failure": "out of memory"}\n'
        '{"retry": {}}\n'
        '{"configuration": [1], "budget": 3, "score": 0.5}\n'
        '{"configuration": [2], "budget": 3, "score": null, "failure": "nan"}\n'
        '{"configuration": [3], "bud'
    )
    found = trace.summarise(trace.read(path))
    assert found == {"evaluations": 2, "failures": 1, "spent": 6, "best": 0.5, "configuration": "[1]", "budget": 3}


@pytest.mark.parametrize("last", [0.7, 0.6])
def test_the_best_is_the_first_of_equal_ones_at_the_largest_budget(tmp_path: Path, last: float) -> None:
    """Neither a later one nor one of a smaller budget stands in for it."""
    path = tmp_path / "search.jsonl"
    lines = [([1], 1, 0.7), ([2], 3, 0.7), ([3], 3, last), ([4], 1, 0.7)]
    keys = ("configuration", "budget", "score")
    texts = [json.dumps(dict(zip(keys, line, strict=True))) for line in lines]
    path.write_text("\n".join(['{"naaplib trace": 2}', *texts, ""]))
    found = trace.summarise(trace.read(path))
    assert (found["configuration"], found["budget"], found["best"]) == ("[2]", 3, 0.7)


@pytest.mark.parametrize("text", ["", "name,accuracy\n", '{"a": 1}\n', '{"naaplib trace": 2}\n{"x": 1}\n', "[1]\n"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    """The message names the file."""
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.jsonl is no trace of a search"):
        trace.read(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        trace.read(tmp_path / "none.jsonl")
