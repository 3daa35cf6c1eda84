"""Claims of the studies: references, rules and verdicts."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from naaplib.compendium import claims
from naaplib.sources import ROOT, WrongData


@pytest.fixture(scope="module")
def found() -> list[claims.Claim]:
    """All claims, held against the committed results."""
    return claims.claims()


def test_every_reference_resolves(found: list[claims.Claim]) -> None:
    """Each claim has a number of ours and a verdict, or the reason why it was not tried."""
    assert [one for one in found if one.verdict == claims.NOT_TRIED and not one.why] == []
    assert [one for one in found if one.verdict != claims.NOT_TRIED and not (one.here and one.file)] == []


def test_all_five_studies_are_there(found: list[claims.Claim]) -> None:
    """No study is left out, and the page has some eighty lines or more."""
    studies = {"NAAP-440", "Neural predictor", "Architecture tuning", "Feature histories", "Training-free scores"}
    assert {one.study for one in found} == studies
    assert len(claims.lines(found)) >= 80


def test_whole_printed_tables_are_among_the_claims(found: list[claims.Claim]) -> None:
    """Table 1 has 8 cells of violations, Table 2 has 20, Table 3 has 96."""
    cells = [one for one in found if one.study == "NAAP-440" and one.claim.startswith("violations, ")]
    counts = [sum(one.where == f"Table {number}" for one in cells) for number in (1, 2, 3)]
    assert counts == [8, 20, 96]


def test_a_changed_number_changes_its_verdict(tmp_path: Path, found: list[claims.Claim]) -> None:
    """Ours is read from the table: a worse number there is a claim that is not reproduced, and no other changes."""
    results = tmp_path / "results"
    for folder in (ROOT / "results").glob("[0-9][0-9]-*"):
        shutil.copytree(folder, results / folder.name, ignore=shutil.ignore_patterns("*.svg", "scores-*"))
    path = results / "04-feature-ablation" / "table-1.csv"
    frame = pd.read_csv(path, dtype=str)
    frame.loc[0, "violations"] = str(int(frame.loc[0, "violations"]) + 40)
    frame.to_csv(path, index=False)
    again = claims.claims(results)
    changed = [(old.verdict, new.verdict) for old, new in zip(found, again, strict=True) if old != new]
    assert changed == [(claims.REPRODUCED, claims.NOT_REPRODUCED)]


@pytest.mark.parametrize(
    ("rule", "printed", "here", "interval", "holds"),
    [
        ("within 5", 42, 47, (), True),
        ("within 5", 42, 47.5, (), False),
        ("within 0.001", 0.007, 0.008, (), True),  # the gap is the tolerance, but for rounding in binary
        ("equals", 440, 440, (), True),
        ("equals", 440, 441, (), False),
        ("at_most", 80, 21, (), True),
        ("at_most", 80, 81, (), False),
        ("at_least", 2.7, 1.2, (), False),
        ("at_least", 2.7, 2.7, (), True),
        ("positive", None, 1, (0.1, 2), True),
        ("positive", None, 1, (-0.1, 2), False),
        ("negative", None, -1, (-2, -0.1), True),
        ("negative", None, -1, (-2, 0.1), False),
    ],
)
def test_verdict_follows_from_the_rule(
    rule: str, printed: float | None, here: float, interval: tuple[float, ...], holds: bool
) -> None:
    """The bound itself still counts as reproduced."""
    expected = claims.REPRODUCED if holds else claims.NOT_REPRODUCED
    assert claims.judge(rule, printed, here=here, **dict(zip(("low", "high"), interval, strict=False)))[0] == expected


@pytest.mark.parametrize("rule", ["near", "positive", "within 5"])
def test_a_rule_that_cannot_decide_says_what_it_needs(rule: str) -> None:
    """An unknown rule, an interval that is not given, a printed number that is not given."""
    with pytest.raises(ValueError, match="rule"):
        claims.judge(rule, None, here=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "05-x/none.csv"}, "not there"),
        ({"row": {"name": "c"}}, "no row"),
        ({"row": {"title": "a"}}, "no column"),
        ({"column": "other"}, "no column"),
        ({"row": {"kind": "k"}}, "2 rows"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(tmp_path: Path, change: dict, message: str) -> None:
    """A renamed file, column or row is an error, not a missing line."""
    (tmp_path / "05-x").mkdir()
    (tmp_path / "05-x" / "t.csv").write_text("name,kind,value\na,k,1\nb,k,2\n")
    entry = {
        "claim": "c",
        "printed": 1,
        "file": "05-x/t.csv",
        "row": {"name": "a"},
        "column": "value",
        "rule": "equals",
    }
    listed = tmp_path / "claims.yaml"
    groups = [{"study": "s", "where": "w", "claims": [entry]}]
    listed.write_text(yaml.safe_dump(groups))
    assert [one.verdict for one in claims.claims(tmp_path, listed)] == [claims.REPRODUCED]
    groups[0]["claims"] = [entry | change]
    listed.write_text(yaml.safe_dump(groups))
    with pytest.raises(WrongData, match=message):
        claims.claims(tmp_path, listed)


def test_cells_shown_together_are_counted() -> None:
    """One line for a table, with the number of cells, of equal ones, and of each verdict."""
    facts = {"rule": "within 1", "file": "f", "together": "all"}
    one = claims.Claim("s", "w", claim="a", printed="1", here="1", verdict=claims.REPRODUCED, **facts)
    two = claims.Claim("s", "w", claim="b", printed="1", here="9", verdict=claims.NOT_REPRODUCED, **facts)
    (line,) = claims.lines([one, two])
    shown = (line["claim"], line["printed"], line["here"], line["verdict"])
    assert shown == ("all", "2 numbers", "1 equal", "1 reproduced, 1 not reproduced")
