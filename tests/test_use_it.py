"""The page "Use it on your own networks": its code runs as it stands, and draws its pictures."""

import re
from pathlib import Path

import examples
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from naaplib import sources

PAGE = (sources.ROOT / "book" / "use-it.md").read_text()
BLOCKS = examples.find(PAGE)
PICTURES = re.findall(r"!\[([^\]]+)\]\((use-it/[\w-]+\.svg)\)", PAGE)


def test_every_task_has_code_its_output_and_a_picture() -> None:
    """One of each, in one order; each picture is there, is described, and is what the code draws."""
    tasks = PAGE.split("\n## ")[1:]
    assert len(tasks) == PAGE.count("```python") == len(BLOCKS) == len(PICTURES)
    for (code, _), (text, name) in zip(BLOCKS, PICTURES, strict=True):
        assert f'savefig("{Path(name).name}")' in code
        assert len(text) > 30
        assert (sources.ROOT / "book" / name).read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize("place", range(len(BLOCKS)))
def test_a_task_runs_as_it_stands(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an empty folder, alone, it prints what stands under it and draws its picture."""
    plt.close("all")
    monkeypatch.chdir(tmp_path)
    examples.check(BLOCKS[place], capsys)
    assert [path.suffix for path in tmp_path.glob("*.svg")] == [".svg"]
    plt.close("all")


def test_the_table_of_scores_is_what_was_measured() -> None:
    """Its counts and reasons come from the benchmark's file, which has a reason wherever there is no score."""
    table = pd.read_csv(sources.ROOT / "benchmarks" / "torchvision-models.csv", keep_default_na=False)
    table["has"] = table["score"] != ""
    assert (table["has"] == (table["reason"] == "")).all()
    rows = re.findall(r"^\| ([a-z_, ]+?) \| (\d+) of (\d+) \|(.*?)\|$", PAGE, re.MULTILINE)
    told = {name: (int(n), int(has), reasons.strip()) for names, has, n, reasons in rows for name in names.split(", ")}
    measured = {}
    for name, one in table.groupby("by"):
        reasons = one.loc[~one["has"], "reason"].value_counts().index
        measured[name] = len(one), int(one["has"].sum()), "; ".join(reasons)
    assert told == measured
    assert table["model"].nunique() == 80
