from pathlib import Path

import pandas as pd
import pytest

from naaplib.cache import find
from naaplib.sources import WrongData, sha256

WANTED = {"seed": 1, "images": "CIFAR-10"}


def keep(folder: Path) -> None:
    """Two tables and their index."""
    rows = []
    for run, seed in (("first", 2), ("second", 1)):
        path = folder / f"table-{run}.csv"
        path.write_text(f"x\n{seed}\n")
        rows.append({"run": run, "seed": seed, "images": "CIFAR-10", "sha256": sha256(path)})
    pd.DataFrame(rows).to_csv(folder / "index.csv", index=False)


def look(folder: Path | None, wanted: dict[str, object]) -> tuple[Path, dict[str, str]] | None:
    """As the tests ask."""
    return find(folder, "index.csv", wanted=wanted, file_name=lambda run: f"table-{run}")


def test_the_table_of_the_wanted_work_is_found(tmp_path: Path) -> None:
    """By all that is asked for, compared as text; its row comes with it."""
    keep(tmp_path)
    path, row = look(tmp_path, WANTED) or (None, {})
    assert path == tmp_path / "table-second.csv"
    assert row == {"run": "second", "seed": "1", "images": "CIFAR-10", "sha256": sha256(tmp_path / "table-second.csv")}


@pytest.mark.parametrize("wanted", [WANTED | {"seed": 3}, WANTED | {"run": "first"}, WANTED | {"precision": "fp32"}])
def test_other_work_is_not_found(tmp_path: Path, wanted: dict[str, object]) -> None:
    """Nor where the index does not say; nor without a folder, or without an index in it."""
    assert look(tmp_path, WANTED) is None
    keep(tmp_path)
    assert look(tmp_path, wanted) is None
    assert look(None, WANTED) is None


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("x\n2\n")])
def test_a_table_that_is_not_what_the_index_says_is_refused(tmp_path: Path, damage) -> None:
    """Gone, or edited; another one does not matter."""
    keep(tmp_path)
    damage(tmp_path / "table-first.csv")
    assert look(tmp_path, WANTED) is not None
    damage(tmp_path / "table-second.csv")
    with pytest.raises(WrongData, match=r"table-second\.csv is not what .*index\.csv says it is"):
        look(tmp_path, WANTED)


def test_a_table_that_is_no_index_is_refused(tmp_path: Path) -> None:
    """With the columns that it lacks."""
    (tmp_path / "index.csv").write_text("seed,images\n1,CIFAR-10\n")
    with pytest.raises(WrongData, match=r"index\.csv is no index: it has no column run, sha256"):
        look(tmp_path, WANTED)
