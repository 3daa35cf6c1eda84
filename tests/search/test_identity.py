"""Identity of a search: numpy's numbers as Python's, and code whose edits count."""

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from naaplib.search.identity import describe, differences, name_of, plain, whole

MODULE = """
LIMIT = 4
from other_own import helper

def scale(x):
    return x * LIMIT

class Objective:
    power = 2

    def __init__(self, rate):
        self.rate, self.n_calls, self.unused = rate, 0, rate

    def suggest(self, trial):
        return trial.suggest_int("w", 1, 9)

    def evaluate(self, configuration, budget):
        self.n_calls += 1
        return scale(configuration) ** self.power * self.rate + self.own(budget) + helper(budget)

    def own(self, budget):
        return budget

    def report(self):
        return "not used"
"""
OTHER = "def helper(budget):\n    return budget / 2\n"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Describe the objective of the module, after an edit."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = ("edited_own", "other_own")

    def describe_edited(old: str = "", new: str = "", rate: float = 0.1) -> dict:
        for name, text in zip(names, (MODULE, OTHER), strict=True):
            (tmp_path / f"{name}.py").write_text(text.replace(old, new, 1) if old else text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        objective = importlib.import_module("edited_own").Objective(rate)
        first = describe(suggest=objective.suggest, evaluate=objective.evaluate)
        objective.n_calls = 7
        assert describe(suggest=objective.suggest, evaluate=objective.evaluate) == first
        return first

    yield describe_edited
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("LIMIT = 4", "# a comment\nLIMIT = 4"),
        ("(self, configuration, budget):", '(self, configuration, budget):\n        """Say what it does."""'),
        ("self.n_calls += 1", "self.n_calls += 1  # counts"),
        ("return budget\n", "return (\n            budget\n        )\n"),
        ("not used", "nor is this"),
    ],
)
def test_comments_docstrings_and_what_is_not_used_do_not_count(made: Callable[..., dict], old: str, new: str) -> None:
    """Nor layout, nor counters that the objective keeps."""
    assert differences(made(), made(old, new)) == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("LIMIT = 4", "LIMIT = 5", "values, scale: LIMIT is 4 there and 5 here"),
        ("x * LIMIT", "x + LIMIT", "code, scale is '    return x * LIMIT' there and '    return x + LIMIT' here"),
        ("power = 2", "power = 3", "values, Objective.power is 2 there and 3 here"),
        ("1, 9", "1, 8", "code, Objective.suggest is"),
        ("** self", "* self", "code, Objective.evaluate is"),
        ("return budget\n", "return -budget\n", "code, Objective.own is"),
        ("budget / 2", "budget / 3", "code, helper is"),
    ],
)
def test_code_and_values_that_are_used_count(made: Callable[..., dict], old: str, new: str, named: str) -> None:
    """Of the objective, and of functions that it uses in its module and in the user's others."""
    (text,) = differences(made(), made(old, new))
    assert text.startswith(named)


def test_values_of_the_object_count(made: Callable[..., dict]) -> None:
    """Where the code uses them."""
    assert differences(made(), made(rate=0.2)) == ["values, Objective.rate is 0.1 there and 0.2 here"]


SETTINGS, WIDTHS, CALLS, FOUND = {"rate": 0.1}, [8, 16], [], {}


def by_settings(x: float) -> float:
    """Read two collections, fill two others."""
    CALLS.append(x)
    FOUND[x] = len(WIDTHS)
    return x * SETTINGS["rate"]


def test_collections_count_unless_the_code_fills_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dict of settings or a list of widths is part of an objective; what it writes down is not."""
    first = describe(evaluate=by_settings)
    by_settings(2.0)
    assert describe(evaluate=by_settings) == first
    monkeypatch.setitem(SETTINGS, "rate", 99.0)
    (text,) = differences(first, describe(evaluate=by_settings))
    assert text == "values, by_settings: SETTINGS, rate is 0.1 there and 99.0 here"
    monkeypatch.undo()
    monkeypatch.setattr(sys.modules[__name__], "WIDTHS", [8, 32])
    (text,) = differences(first, describe(evaluate=by_settings))
    assert text == "values, by_settings: WIDTHS is [8, 16] there and [8, 32] here"


def test_lambdas_of_one_line_are_told_apart() -> None:
    """By what is written in each, and by what they close over."""
    a, b = 5, 6
    several = [lambda e: e + a, lambda e: e - a, lambda e: e + b, lambda e: (lambda q: -q)(e)]
    found = [describe(evaluate=one) for one in several]
    assert [list(one["code"].values()) for one in found] == [
        ["lambda e: e + a"], ["lambda e: e - a"], ["lambda e: e + b"], ["lambda e: (lambda q: -q)(e)"],
    ]  # fmt: skip
    assert [list(one["values"].values())[1:] for one in found] == [[5], [5], [6], []]


def test_partial_functions_defaults_and_cached_ones() -> None:
    """Their arguments count, and what they are made of."""

    def train(encoding: int, n_epochs: int, rate: float = 0.1, *, seed: int = 3) -> float:
        return encoding * n_epochs * rate * seed

    found = [describe(evaluate=functools.partial(train, n_epochs=n)) for n in (1, 2)]
    assert len(differences(*found)) == 1
    assert {0.1, 3, 1, "partial"} == set(found[0]["values"].values())
    assert describe(evaluate=functools.cache(train))["code"] == found[0]["code"]


def test_functions_without_source_go_by_what_they_do() -> None:
    """As those of a program that is typed in."""
    made = []
    for text in ("def f(x): return x + 1", "def f(x): return x + 1", "def f(x): return x + 2", "def f(x): return g(x)"):
        names: dict = {"__name__": __name__}
        exec(text, names)
        made.append(describe(evaluate=names["f"])["code"])
    assert made[0] == made[1]
    assert len({str(one) for one in made}) == 3


def test_numpy_becomes_python() -> None:
    """And what JSON cannot hold is named."""
    given = {
        "a": np.int64(3),
        "b": (np.float32(0.5), np.bool_(True), np.str_("x")),
        "c": np.arange(2),
        np.int8(1): None,
    }
    assert plain(given) == {"a": 3, "b": [0.5, True, "x"], "c": [0, 1], 1: None}
    assert name_of((np.int64(3), "a")) == '[3, "a"]'
    for wrong in ({1}, [object()], {(1, 2): 3}, 1j):
        with pytest.raises(TypeError, match="which JSON cannot hold; use numbers"):
            plain(wrong)


@pytest.mark.parametrize("given", [3, 3.0, np.int64(3), np.float32(3), np.uint8(3)])
def test_whole_numbers(given: float) -> None:
    """Are Python's, whatever they were."""
    assert type(whole("n", given)) is int
    assert whole("n", given, least=3) == 3
    with pytest.raises(ValueError, match="n is 3; it must be at least 4"):
        whole("n", given, least=4)


@pytest.mark.parametrize("given", [2.5, None, "3", float("nan"), float("inf"), [3], np.arange(3)])
def test_what_is_no_whole_number_is_refused(given: object) -> None:
    """In words of what it is for."""
    with pytest.raises(ValueError, match=r"eta is .*; it must be a whole number, at least 2"):
        whole("eta", given, least=2)
