import json
from pathlib import Path

import pandas as pd
import pytest

from naaplib.search.ledger import COLUMNS, Ledger

TOLD = {"strategy": "by hand", "rungs": [(2, 1)], "seed": 0}


def grow(configuration: str, budget: int) -> float:
    """A score that rises with training: a's slowly, b's fast."""
    return {"a": 0.5, "b": 0.1, "c": 0.1}[configuration] + {"a": 0.01, "b": 0.1, "c": 0.1}[configuration] * budget


def fill(ledger: Ledger) -> pd.DataFrame:
    """The same evaluations always: b twice after 4 epochs, a again after fewer than it has."""
    with ledger:
        for configuration, budget in [("a", 2), ("b", 2), ("b", 4), ("a", 4), ("b", 4), ("a", 1), ("c", 4)]:
            ledger.evaluate(configuration, budget, 0, 0)
    return ledger.table()


def test_what_was_trained_is_not_paid_again() -> None:
    """By hand: further epochs are paid, the same or fewer are not."""
    table = fill(Ledger(grow, 100, TOLD))
    assert list(table) == COLUMNS
    assert table["paid"].tolist() == [2, 2, 2, 2, 0, 0, 4]
    assert table["spent"].tolist() == [2, 4, 6, 8, 8, 8, 12]
    assert table["step"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert table["score"].tolist() == [grow(json.loads(row.configuration), row.budget) for row in table.itertuples()]


def test_the_incumbent_is_the_best_of_the_largest_budget_so_far() -> None:
    """A worse score at a larger budget replaces a better one at a smaller; of equals the first stays."""
    table = fill(Ledger(grow, 100, TOLD))
    assert table["incumbent"].tolist() == ['"a"', '"a"', '"b"', '"a"', '"a"', '"a"', '"a"']
    with Ledger(lambda *_: 0.5, 10, TOLD) as ledger:
        for configuration in "xyz":
            ledger.evaluate(configuration, 1, 0, 0)
    assert set(ledger.table()["incumbent"]) == {'"x"'}


@pytest.mark.parametrize(("total", "n"), [(1, 0), (2, 1), (3, 1), (8, 6), (11, 6), (12, 7)])
def test_no_more_is_spent_than_allowed(total: int, n: int) -> None:
    """The evaluation that would exceed the budget is not begun and ends the search; what costs nothing is done."""
    calls = []
    table = fill(Ledger(lambda *given: calls.append(given) or grow(*given), total, TOLD))
    assert len(table) == n
    assert table["spent"].max() <= total if n else table.empty
    assert len(calls) == len(table[["configuration", "budget"]].drop_duplicates())


def test_a_search_that_was_killed_goes_on(tmp_path: Path) -> None:
    """After any number of evaluations, with a torn line behind them: nothing known is evaluated again."""
    whole = tmp_path / "whole"
    straight = fill(Ledger(grow, 100, TOLD, whole))
    lines = whole.read_bytes().splitlines(keepends=True)
    assert len(lines) == 7  # what the search is, and six evaluations that differ
    for n in range(len(lines) + 1):
        for torn in (b"", lines[min(n, 6)][:9]):
            path = tmp_path / "trace"
            path.write_bytes(b"".join(lines[:n]) + torn)
            calls = []
            table = fill(Ledger(lambda *given: calls.append(given) or grow(*given), 100, TOLD, path))  # noqa: B023
            pd.testing.assert_frame_equal(table, straight)
            assert len(calls) == 6 - max(n - 1, 0)
            assert path.read_bytes() == whole.read_bytes()


def test_a_larger_budget_goes_on_from_a_smaller(tmp_path: Path) -> None:
    """As if it had been the budget from the start."""
    straight = fill(Ledger(grow, 100, TOLD))
    short = fill(Ledger(grow, 6, TOLD, tmp_path / "trace"))
    pd.testing.assert_frame_equal(short, straight[:3])
    pd.testing.assert_frame_equal(fill(Ledger(grow, 100, TOLD, tmp_path / "trace")), straight)


def test_another_searchs_trace_is_refused_and_kept(tmp_path: Path) -> None:
    """Of another seed, of another objective, or no trace at all; the file stays as it is."""
    path = tmp_path / "trace"
    fill(Ledger(grow, 100, TOLD, path))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"trace is of another search: it says .*'seed': 0.*'seed': 1"):
        fill(Ledger(grow, 100, TOLD | {"seed": 1}, path))
    other = pytest.raises(ValueError, match=r"has .*'a'.* where this search comes to .*'z'.*: its objective is another")
    with other, Ledger(grow, 100, TOLD, path) as ledger:
        ledger.evaluate("z", 2, 0, 0)
    assert path.read_bytes() == before
    path.write_text("step,bracket\n1,2\n")
    with pytest.raises(ValueError, match="is no trace of a search"):
        fill(Ledger(grow, 100, TOLD, path))
    assert path.read_text() == "step,bracket\n1,2\n"


def test_what_is_no_score_or_no_budget_is_refused(tmp_path: Path) -> None:
    """With what to do; evaluations before it are kept."""
    with pytest.raises(ValueError, match="total_budget is 0; it must be at least 1 epoch"):
        Ledger(grow, 0, TOLD)
    scores = {"good": 1.0, "bad": float("nan")}
    failed = pytest.raises(
        ValueError, match=r'the score of "bad" after 3 epochs is NaN: give it a value, the worst if it failed'
    )
    with failed, Ledger(lambda name, _: scores[name], 10, TOLD, tmp_path / "trace") as ledger:
        ledger.evaluate("good", 2, 0, 0)
        ledger.evaluate("bad", 3, 0, 0)
    assert len((tmp_path / "trace").read_text().splitlines()) == 2
