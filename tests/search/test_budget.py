import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib.search.budget import COLUMNS, Ledger

TOLD = {"strategy": "by hand", "rungs": [(2, 1)], "seed": 0}


def grow(configuration: str, budget: int) -> float:
    """A score that rises with training: a's slowly, b's fast."""
    return {"a": 0.5, "b": 0.1, "c": 0.1}[configuration] + {"a": 0.01, "b": 0.1, "c": 0.1}[configuration] * budget


def fill(ledger: Ledger) -> pd.DataFrame:
    """The same evaluations always: b twice after 4 epochs, a again after fewer than it has."""
    with ledger:
        for configuration, budget in [("a", 2), ("b", 2), ("b", 4), ("a", 4), ("b", 4), ("a", 1), ("c", 4)]:
            ledger.evaluate(configuration, budget, bracket=0, rung=0)
    return ledger.table()


def test_what_was_trained_is_not_paid_again() -> None:
    """By hand: further epochs are paid, the same or fewer are not."""
    table = fill(Ledger(grow, 100, told=TOLD))
    assert list(table) == COLUMNS
    assert table["paid"].tolist() == [2, 2, 2, 2, 0, 0, 4]
    assert table["spent"].tolist() == [2, 4, 6, 8, 8, 8, 12]
    assert table["step"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert table["score"].tolist() == [grow(json.loads(row.configuration), row.budget) for row in table.itertuples()]


def test_the_incumbent_is_the_best_of_the_largest_budget_so_far() -> None:
    """A worse score at a larger budget replaces a better one at a smaller; of equals the first stays."""
    table = fill(Ledger(grow, 100, told=TOLD))
    assert table["incumbent"].tolist() == ['"a"', '"a"', '"b"', '"a"', '"a"', '"a"', '"a"']
    with Ledger(lambda *_: 0.5, 10, told=TOLD) as ledger:
        for configuration in "xyz":
            ledger.evaluate(configuration, 1, bracket=0, rung=0)
    assert set(ledger.table()["incumbent"]) == {'"x"'}


@pytest.mark.parametrize(("total", "n"), [(1, 0), (2, 1), (3, 1), (8, 6), (11, 6), (12, 7)])
def test_no_more_is_spent_than_allowed(total: int, n: int) -> None:
    """The evaluation that would exceed the budget is not begun and ends the search; what costs nothing is done."""
    calls = []
    table = fill(Ledger(lambda *given: calls.append(given) or grow(*given), total, told=TOLD))
    assert len(table) == n
    assert table["spent"].max() <= total if n else table.empty
    assert len(calls) == len(table[["configuration", "budget"]].drop_duplicates())


def test_a_search_that_was_killed_goes_on(tmp_path: Path) -> None:
    """After any number of evaluations, with a torn line behind them: nothing known is evaluated again."""
    whole = tmp_path / "whole"
    straight = fill(Ledger(grow, 100, told=TOLD, trace=whole))
    lines = whole.read_bytes().splitlines(keepends=True)
    assert len(lines) == 7  # what the search is, and six evaluations that differ
    for n in range(len(lines) + 1):
        for torn in (b"", lines[min(n, 6)][:9]):
            path = tmp_path / "trace"
            path.write_bytes(b"".join(lines[:n]) + torn)
            calls = []
            # B023: the function is called in this turn of the loop
            table = fill(Ledger(lambda *given: calls.append(given) or grow(*given), 100, told=TOLD, trace=path))  # noqa: B023
            pd.testing.assert_frame_equal(table, straight)
            assert len(calls) == 6 - max(n - 1, 0)
            assert path.read_bytes() == whole.read_bytes()


def test_a_larger_budget_goes_on_from_a_smaller(tmp_path: Path) -> None:
    """As if it had been the budget from the start."""
    straight = fill(Ledger(grow, 100, told=TOLD))
    short = fill(Ledger(grow, 6, told=TOLD, trace=tmp_path / "trace"))
    pd.testing.assert_frame_equal(short, straight[:3])
    pd.testing.assert_frame_equal(fill(Ledger(grow, 100, told=TOLD, trace=tmp_path / "trace")), straight)


def test_another_searchs_trace_is_refused_and_kept(tmp_path: Path) -> None:
    """Of another seed, of another objective, or no trace at all; the file stays as it is."""
    path = tmp_path / "trace"
    fill(Ledger(grow, 100, told=TOLD, trace=path))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"trace is of another search: seed is 0 there and 1 here"):
        fill(Ledger(grow, 100, told=TOLD | {"seed": 1}, trace=path))
    other = pytest.raises(ValueError, match=r'has "a" .* where this search comes to "z" .*: its objective is another')
    with other, Ledger(grow, 100, told=TOLD, trace=path) as ledger:
        ledger.evaluate("z", 2, bracket=0, rung=0)
    assert path.read_bytes() == before
    path.write_text("step,bracket\n1,2\n")
    with pytest.raises(ValueError, match="is no trace of a search"):
        fill(Ledger(grow, 100, told=TOLD, trace=path))
    assert path.read_text() == "step,bracket\n1,2\n"


@pytest.mark.parametrize("total", [0, -3, math.nan])
def test_total_budgets_that_cannot_be_are_refused(total: float) -> None:
    """Instead of a search without end."""
    with pytest.raises(ValueError, match=f"total_budget is {total}; it must be at least 1 epoch"):
        Ledger(grow, total, told=TOLD)


@pytest.mark.parametrize(("found", "text"), [(math.nan, "its value is nan"), (math.inf, "its value is inf"),
                                             (None, "it returned None, a NoneType; evaluations return a number"),
                                             ((0.5, 0.4), r"it returned \(0.5, 0.4\), a tuple")])  # fmt: skip
def test_what_is_no_score_is_a_failure(found: object, text: str, tmp_path: Path) -> None:
    """It is paid for, written down, warned of, and as bad as can be; a second run does not evaluate it again."""
    path = tmp_path / "trace"
    for n_calls in (3, 0):
        calls: list[str] = []

        def evaluate(name: str, _: int) -> float:
            calls.append(name)  # noqa: B023 - called in this turn of the loop
            return {"good": 0.5, "bad": found, "worst": -math.inf}[name]

        with Ledger(evaluate, 20, told=TOLD, trace=path) as ledger, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for name in ("good", "bad", "worst"):
                ledger.evaluate(name, 3, bracket=0, rung=0)
        assert ledger.table()["score"].tolist() == [0.5, -math.inf, -math.inf]
        assert ledger.table()["spent"].tolist() == [3, 6, 9]
        assert ledger.table()["incumbent"].unique().tolist() == ['"good"']
        assert len(calls) == n_calls
        assert len(said) == bool(n_calls)
    failure = json.loads(path.read_text().splitlines()[2])
    assert re.match(text, failure["failure"].removeprefix("TypeError: "))
    assert "failure" not in json.loads(path.read_text().splitlines()[3])


def test_a_failure_is_no_incumbent() -> None:
    """Not even at a larger budget; as long as there is nothing else it stands there."""
    scores = iter([-math.inf, 0.1, -math.inf])
    with Ledger(lambda *_: next(scores), 100, told=TOLD) as ledger:
        for name, budget in (("a", 1), ("b", 1), ("c", 9)):
            ledger.evaluate(name, budget, bracket=0, rung=0)
    assert ledger.table()["incumbent"].tolist() == ['"a"', '"b"', '"b"']


@pytest.mark.parametrize("thing", [{1, 2}, object, b"x", (1, {2})])
def test_configurations_that_json_cannot_hold_are_named(thing: object) -> None:
    """Before they are evaluated."""
    words = pytest.raises(
        TypeError, match=r"suggest returned the configuration .*, which JSON cannot hold; use numbers"
    )
    with words, Ledger(grow, 10, told=TOLD) as ledger:
        ledger.evaluate(thing, 1, bracket=0, rung=0)


def test_numpy_configurations_are_told_apart_by_their_values(tmp_path: Path) -> None:
    """As Python's are, in the table and in the trace."""
    tables = []
    for configuration in ((np.int64(3), np.float32(0.5), np.str_("a")), (3, 0.5, "a")):
        with Ledger(lambda one, _: float(one[0]), 10, told=TOLD, trace=tmp_path / "trace") as ledger:
            ledger.evaluate(configuration, 1, bracket=0, rung=0)
        tables.append(ledger.table())
    pd.testing.assert_frame_equal(*tables)
    assert len((tmp_path / "trace").read_text().splitlines()) == 2
