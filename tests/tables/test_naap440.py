"""The NAAP-440 table: the published file is valid and split as published; every kind of fault is named with its row."""

import ast
import inspect
import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib import sources
from naaplib.architectures.schemes import enumerate_schemes, feature_table
from naaplib.studies.accuracy_table import tables
from naaplib.tables import naap440

SCHEME_COLUMNS = ["NumParams", "NumMACs", "NumLayers", "NumStages", "FirstLayerWidth", "LastLayerWidth"]


@pytest.fixture(scope="module")
def made(made_path: Path) -> pd.DataFrame:
    """The made table; tests that change it copy it first."""
    return naap440.read(made_path)


@pytest.fixture(scope="module")
def published(published_path: Path) -> pd.DataFrame:
    """The published table."""
    return naap440.read(published_path, n_archs=440)


def records_of(table: pd.DataFrame) -> pd.DataFrame:
    """Training records that hold the same numbers as a table, shuffled."""
    parts = [
        table[["ModelId", f"e{epoch}LossMean", f"e{epoch}LossMedian", f"e{epoch}Accuracy"]]
        .set_axis(["ModelId", "loss_mean", "loss_median", "accuracy"], axis="columns")
        .assign(epoch=epoch)
        for epoch in range(1, 91)
    ]
    return pd.concat(parts).sample(frac=1, random_state=0)


def test_the_published_table_has_the_published_properties(published: pd.DataFrame) -> None:
    """440 rows, 40 for testing, the range, mean and number of distinct accuracies of the published file."""
    assert published.shape == (440, 279)
    assert published["IsTest"].sum() == 40
    best = published["MaxAccuracy"]
    assert (best.min(), best.max(), best.nunique()) == (0.5291, 0.7504, 385)
    assert (round(best.mean(), 4), round(best.std(), 4)) == (0.6525, 0.0537)


def test_scheme_columns_equal_the_published_ones(published: pd.DataFrame) -> None:
    """Our enumeration and feature conventions give the published columns in 440 of 440 rows."""
    assert (feature_table(enumerate_schemes())[SCHEME_COLUMNS] == published[SCHEME_COLUMNS]).all(axis=None)


def test_the_split_is_the_published_one_unless_asked_otherwise(published: pd.DataFrame) -> None:
    """Without arguments, and by its name, the order of ties is the published file's: 440 of 440 rows agree."""
    assert naap440.split(published).tolist() == (published["IsTest"] == 1).tolist()
    assert naap440.split(published, ties="log-name").tolist() == naap440.split(published).tolist()


def test_the_split_by_model_id_differs_in_two_rows(published: pd.DataFrame) -> None:
    """The other tie-break tests architecture 56, where the published file has 198, which reached the same."""
    other, theirs = naap440.split(published, ties="ModelId"), published["IsTest"] == 1
    assert published["ModelId"][other & ~theirs].tolist() == [56]
    assert published["ModelId"][theirs & ~other].tolist() == [198]
    accuracies = published.set_index("ModelId")["MaxAccuracy"]
    assert accuracies[56] == accuracies[198]


@pytest.mark.parametrize("ties", naap440.TIES)
def test_splits_are_all_eleven_or_those_asked_for(made: pd.DataFrame, ties: str) -> None:
    """By index, each as if asked for alone, in the order given; by default in the paper's order of ties."""
    assert list(naap440.splits(made)) == list(range(11))
    found = naap440.splits(made, [7, 0], ties=ties)
    assert list(found) == [7, 0]
    assert all(mask.tolist() == naap440.split(made, index, ties=ties).tolist() for index, mask in found.items())
    assert naap440.splits(made)[5].tolist() == naap440.split(made).tolist()


@pytest.mark.parametrize("ties", naap440.TIES)
def test_the_eleven_splits_share_no_row_and_leave_none_out(made: pd.DataFrame, ties: str) -> None:
    """Every architecture is for testing in exactly one of the eleven splits."""
    splits = np.array([naap440.split(made, index, ties=ties) for index in range(11)])
    assert (splits.sum(axis=0) == 1).all()
    assert (splits.sum(axis=1) == 20).all()


def test_every_chapter_has_the_same_eleven_splits() -> None:
    """No module and no notebook asks for another order of ties than the paper's, and none has it as a default."""
    texts = {path: path.read_text() for path in (sources.ROOT / "naaplib").rglob("*.py")}
    for path in (sources.ROOT / "notebooks").glob("*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        texts[path] = "\n".join("".join(cell["source"]) for cell in cells)
    calls, defaults = [], []
    for path, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("naap440.split", "naap440.splits"):
                given = node.args[2:] + [keyword.value for keyword in node.keywords if keyword.arg == "ties"]
                calls += [(path.name, ast.unparse(value)) for value in given] or [(path.name, "ties")]
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ties" and path.suffix == ".ipynb":
                defaults += [ast.unparse(node.value)] * isinstance(node.value, ast.Constant)
    assert len(calls) >= 6
    assert [call for call in calls if call[1] != "ties"] == []  # not given, or the caller's own
    assert set(defaults) <= {"'log-name'"}
    for function in (naap440.split, naap440.splits, tables.score_twice):
        assert inspect.signature(function).parameters["ties"].default == "log-name"


@pytest.mark.parametrize("ties", naap440.TIES)
def test_the_split_does_not_depend_on_row_order(published: pd.DataFrame, ties: str) -> None:
    """Shuffled rows take their place in the split with them."""
    shuffled = published.sample(frac=1, random_state=0)
    in_order = pd.Series(naap440.split(shuffled, ties=ties), index=shuffled["ModelId"]).sort_index()
    assert in_order.tolist() == naap440.split(published, ties=ties).tolist()


def test_the_split_by_hand() -> None:
    """Twelve rows of which two tie: position 0 and position 11 in ascending accuracy, by either order of ties."""
    table = pd.DataFrame({"ModelId": [10, 2, *range(20, 30)], "MaxAccuracy": [0.1, 0.1, *np.linspace(0.2, 0.9, 10)]})
    assert table["ModelId"][naap440.split(table, index=0, ties="ModelId")].tolist() == [2, 29]
    assert table["ModelId"][naap440.split(table, index=0, ties="log-name")].tolist() == [10, 29]


def test_a_split_that_does_not_exist_is_refused(made: pd.DataFrame) -> None:
    """Index and tie-break each have their message."""
    with pytest.raises(ValueError, match="index is 11; it must lie between 0 and 10"):
        naap440.split(made, index=11)
    with pytest.raises(ValueError, match="ties is 'id'; it must be one of"):
        naap440.split(made, ties="id")


def test_the_published_table_read_and_written_is_the_same_file(published_path: Path, tmp_path: Path) -> None:
    """Byte for byte, but for line ends."""
    naap440.write(naap440.read(published_path), tmp_path / "copy.csv")
    assert (tmp_path / "copy.csv").read_bytes() == published_path.read_bytes().replace(b"\r\n", b"\n")
    assert [path.name for path in tmp_path.iterdir()] == ["copy.csv"]


def test_a_table_is_rebuilt_from_its_own_records(made: pd.DataFrame) -> None:
    """Records in any order give the table back: scheme columns, best epoch, split, order and rounding."""
    pd.testing.assert_frame_equal(naap440.build(records_of(made)), made)


def test_build_rounds_to_the_four_digits_of_the_published_file(made: pd.DataFrame) -> None:
    """Losses and accuracies come in as measured and go out rounded, the best epoch's too."""
    records = records_of(made)
    records["loss_mean"] += 0.00004
    records["accuracy"] -= 0.00004
    pd.testing.assert_frame_equal(naap440.build(records), made)


def test_build_refuses_records_that_make_no_table(made: pd.DataFrame) -> None:
    """An epoch that nobody reached, one that a single network lacks, an epoch twice, an unknown architecture."""
    records = records_of(made)
    with pytest.raises(ValueError, match="the records have no epoch 90"):
        naap440.build(records[records["epoch"] < 90])
    one_short = records[(records["ModelId"] != 3) | (records["epoch"] != 7)]
    with pytest.raises(naap440.FaultyTable, match=r"row 2 \(ModelId 3\): e7LossMean is nan"):
        naap440.build(one_short)
    with pytest.raises(ValueError, match="duplicate"):
        naap440.build(pd.concat([records, records.iloc[:1]]))
    with pytest.raises(ValueError, match=r"records of ModelId \[441\], but the schemes are numbered 1 to 440"):
        naap440.build(records.replace({"ModelId": {3: 441}}))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ModelId", 5, r"row 4 \(ModelId 5\): this ModelId was there before"),
        ("ModelId", 0, r"row 4 \(ModelId 0\): ModelId is 0, must be a whole number of at least 1"),
        ("IsTest", 2, r"row 4 \(ModelId 7\): IsTest is 2, must be 0 or 1"),
        ("NumParams", 0, r"row 4 \(ModelId 7\): NumParams is 0, must be a whole number of at least 1"),
        ("NumStages", 2.5, r"row 4 \(ModelId 7\): NumStages is 2.5, must be a whole number"),
        ("e5Accuracy", 1.2, r"row 4 \(ModelId 7\): e5Accuracy is 1.2, must be a fraction in \[0, 1\]"),
        ("e5LossMean", -0.1, r"row 4 \(ModelId 7\): e5LossMean is -0.1, must be finite and not negative"),
        ("e90LossMedian", np.nan, r"row 4 \(ModelId 7\): e90LossMedian is nan"),
        ("e90LossMedian", np.inf, r"row 4 \(ModelId 7\): e90LossMedian is inf"),
        ("e1Accuracy", "half", r"row 4 \(ModelId 7\): e1Accuracy is half, must be a fraction"),
        ("MaxAccuracy", 0.9, r"row 4 \(ModelId 7\): MaxAccuracy is 0.9, but the best epoch has 0\.\d+"),
    ],
)
def test_a_faulty_value_is_named_with_its_row(made: pd.DataFrame, column: str, value: object, message: str) -> None:
    """Every kind of fault: where it is, what is there, what should be."""
    faulty = made.assign(**{column: [*made[column][:3], value, *made[column][4:]]})
    with pytest.raises(naap440.FaultyTable, match=message):
        naap440.validate(faulty)


def test_numbers_kept_as_text_are_refused(made: pd.DataFrame) -> None:
    """A column that reads as numbers but is not stored so would break later, and is named now."""
    with pytest.raises(naap440.FaultyTable, match=r"column e1Accuracy holds (str|object), must hold numbers"):
        naap440.validate(made.astype({"e1Accuracy": str}))


def test_faulty_columns_are_named(made: pd.DataFrame) -> None:
    """Absent, foreign and misplaced columns."""
    with pytest.raises(naap440.FaultyTable, match="column e90Accuracy is absent"):
        naap440.validate(made.drop(columns="e90Accuracy"))
    with pytest.raises(naap440.FaultyTable, match="column NumSkips does not belong to the schema"):
        naap440.validate(made.assign(NumSkips=0))
    with pytest.raises(naap440.FaultyTable, match="not in the published order"):
        naap440.validate(made[made.columns[::-1]])


def test_all_faults_are_listed_up_to_twenty(made: pd.DataFrame) -> None:
    """Thirty faults: twenty with their rows, and how many more there are."""
    faulty = made.copy()
    faulty.loc[:29, "e3Accuracy"] = -0.5
    with pytest.raises(naap440.FaultyTable) as caught:
        naap440.validate(faulty)
    assert str(caught.value).startswith("30 fault(s)")
    assert str(caught.value).count("e3Accuracy is -0.5") == 20
    assert str(caught.value).endswith("and 10 more")


def test_a_wrong_number_of_rows_is_refused(made: pd.DataFrame) -> None:
    """A table of 220 is fine as such, not where 440 are expected."""
    naap440.validate(made)
    with pytest.raises(naap440.FaultyTable, match="220 rows, expected 440"):
        naap440.validate(made, n_archs=440)


def test_a_faulty_file_is_named(made: pd.DataFrame, tmp_path: Path) -> None:
    """Reading puts the path before the faults; writing a faulty table leaves no file."""
    faulty = made.copy()
    faulty.loc[0, "IsTest"] = 7
    faulty.to_csv(tmp_path / "faulty.csv", index=False)
    with pytest.raises(naap440.FaultyTable, match=r"faulty\.csv: 1 fault"):
        naap440.read(tmp_path / "faulty.csv")
    with pytest.raises(naap440.FaultyTable):
        naap440.write(faulty, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_find_takes_paths_from_the_projects_root(made_path: Path) -> None:
    """Any CSV by its path, relative to the project's root unless absolute."""
    assert naap440.find(made_path) == made_path
    assert naap440.find("tests/data/naap440-made.csv") == made_path


def test_find_knows_the_published_table_by_name(published_path: Path) -> None:
    """The same file that data sources find."""
    assert naap440.find("published") == published_path


def test_find_takes_the_regenerated_table_where_the_chapter_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the published results of chapter 03."""
    monkeypatch.setattr(naap440, "ROOT", tmp_path)
    path = tmp_path / "results" / "03-accuracy-table" / "table.csv"
    path.parent.mkdir(parents=True)
    path.touch()
    assert naap440.find("regenerated") == path


def test_the_command_that_makes_the_regenerated_table_is_documented() -> None:
    """The message, README and the book name one command."""
    for name in ("README.md", "book/reproducing.md"):
        assert naap440.TRAIN in (sources.ROOT / name).read_text()


def test_find_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No regenerated table, no published one, no file at a path, and a word that is neither."""
    monkeypatch.setattr(naap440, "ROOT", tmp_path)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    monkeypatch.delenv("NAAPLIB_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"regenerated table is not there yet.*03-accuracy-table"):
        naap440.find("regenerated")
    with pytest.raises(sources.MissingData, match="make data"):
        naap440.find("published")
    with pytest.raises(FileNotFoundError, match=r"no table at .*absent\.csv; source may also be"):
        naap440.find("absent.csv")
    with pytest.raises(ValueError, match="source is 'publisched'; it must be 'published', 'regenerated' or the path"):
        naap440.find("publisched")


def test_find_takes_a_folder_of_a_trial(tmp_path: Path) -> None:
    """Chapter 03's table in it, or one of that name, or the one CSV file; several are refused, and none."""
    with pytest.raises(FileNotFoundError, match="holds no CSV file: name the table itself"):
        naap440.find(tmp_path)
    one, two, chapter = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "03-accuracy-table" / "table.csv"
    one.write_text("")
    assert naap440.find(str(tmp_path)) == one
    two.write_text("")
    with pytest.raises(FileNotFoundError, match=r"holds 2 CSV files and none is called table\.csv"):
        naap440.find(tmp_path)
    (tmp_path / "table.csv").write_text("")
    assert naap440.find(tmp_path) == tmp_path / "table.csv"
    chapter.parent.mkdir()
    chapter.write_text("")
    assert naap440.find(tmp_path) == chapter


def test_the_made_table_is_what_its_script_makes(made: pd.DataFrame) -> None:
    """The committed small table is current."""
    script = sources.ROOT / "tests" / "data" / "make_naap440.py"
    pd.testing.assert_frame_equal(runpy.run_path(str(script))["make"](), made)
