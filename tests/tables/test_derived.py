"""Derived files: found and checked, refused with a way out; what the replication stored, as it stored it."""

import re
from pathlib import Path

import pandas as pd
import pytest

from naaplib import sources
from naaplib.tables import derived, printed

NAME = "made/table.csv"
CONTENT = b"a,b\n1,2\n"
DATASETS = ["nasbench", "nasbench_two", "cifar100", "caltech", "oxford", "nlp"]  # in the order of Table I


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder for the one derived file that is known, without it."""
    monkeypatch.setenv("NAAPLIB_DATA", str(tmp_path))
    monkeypatch.setattr(sources, "ROOT", tmp_path / "project")
    other = tmp_path / "other"
    other.write_bytes(CONTENT)
    file = derived.File(sources.sha256(other), "example.org at 1234", "MIT")
    monkeypatch.setattr(derived, "FILES", {NAME: file})
    return tmp_path


def put(folder: Path, content: bytes) -> Path:
    """Put the file into a data folder."""
    path = folder / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_the_folder_that_is_named_comes_before_the_projects(folder: Path) -> None:
    """Either serves; the first one that has the file does."""
    second = put(folder / "project" / "data", CONTENT)
    assert derived.find(NAME) == second
    assert put(folder, CONTENT) == derived.find(NAME) != second


def test_a_missing_file_says_that_it_is_nowhere_to_download(folder: Path) -> None:
    """Where it was looked for, from what it was derived, and what to do; no mention of a download that cannot be."""
    with pytest.raises(sources.MissingData) as caught:
        derived.find(NAME)
    message = str(caught.value)
    assert str(folder / NAME) in message
    assert str(folder / "project" / "data" / NAME) in message
    assert "cannot be downloaded as such: it was derived from example.org at 1234. Put a copy there" in message
    assert "make data" not in message


def test_a_file_of_other_bytes_is_refused(folder: Path) -> None:
    """Even where another folder has the right one, with both checksums."""
    put(folder / "project" / "data", CONTENT)
    wrong = put(folder, CONTENT[:-1])
    checksums = f"{sources.sha256(wrong)}, expected {derived.FILES[NAME].sha256}"
    with pytest.raises(sources.WrongData, match=f"{re.escape(str(wrong))} is not the expected file.*{checksums}"):
        derived.find(NAME)


def test_an_unknown_file_is_refused_with_the_known_ones(folder: Path) -> None:
    """The message lists what there is."""
    with pytest.raises(KeyError, match=r"no derived data file is called 'made/other'; there are: made/table\.csv"):
        derived.find("made/other")


def test_every_file_has_a_checksum_an_origin_and_a_licence_and_no_address() -> None:
    """Known once, and not also as a file that can be fetched."""
    for file in derived.FILES.values():
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.derived_from.startswith("github.com/")
        assert file.licence in {"MIT", "Apache-2.0", "none stated"}
    assert set(derived.FILES) & set(sources.FILES) == set()
    rows = Path(derived.__file__).with_name("derived.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == list(derived.FILES)


def test_stored_predictions_are_the_four_files_one_after_the_other(replication: pd.DataFrame) -> None:
    """How many in every split; ends of the files by hand."""
    assert list(replication) == ["dataset", "split", "y_true", "y_pred"]
    sizes = pd.crosstab(replication["dataset"], replication["split"])
    sizes = sizes.loc[DATASETS, ["train", "val", "test", "test_10"]]
    assert sizes.to_numpy().tolist() == [
        [79, 40, 100000, 10], [42, 28, 51290, 10], [76, 5, 5, 0], [208, 40, 40, 0], [212, 10, 10, 0],
        [79, 40, 10000, 10],
    ]  # fmt: skip
    assert replication.index.equals(pd.RangeIndex(162234))
    assert replication.iloc[0].tolist() == ["nasbench", "train", 89.252806, 88.866730]
    assert replication.iloc[-1].tolist() == ["nlp", "test", 6.34773, 5.36509]
    assert replication.notna().all(axis=None)


def test_the_ten_test_points_are_among_the_whole_test_sets(replication: pd.DataFrame) -> None:
    """Those of Table I, within the decimals kept; they hold the lowest and the highest prediction."""
    for dataset in derived.FULL_TESTS:
        rows = replication[replication["dataset"] == dataset].set_index("split")[["y_true", "y_pred"]]
        ten, full = rows.loc["test_10"].to_numpy(), rows.loc["test"].to_numpy()
        distance = abs(ten[:, None] - full[None]).max(axis=2).min(axis=1)
        assert (distance < 1.01e-5).all()
        assert abs(ten[:, 1].min() - full[:, 1].min()) < 1.01e-5
        assert abs(ten[:, 1].max() - full[:, 1].max()) < 1.01e-5


def test_stored_errors_are_the_printed_ones_but_for_the_misprint(replication: pd.DataFrame) -> None:
    """Mean squared errors of Table I, cut or rounded to three digits; validation on Oxford Pet is .810, not .224."""
    theirs = printed.table("neural_predictor_table1")
    squared = replication.assign(mse=(replication["y_true"] - replication["y_pred"]) ** 2)
    ours = squared.groupby(["dataset", "split"])["mse"].mean()
    shown = [
        (name, "test_10" if split == "test" and name in derived.FULL_TESTS else split)
        for name in DATASETS
        for split in ("train", "val", "test")
    ]
    differs = (ours.loc[shown].to_numpy() - theirs["mse"].to_numpy()).round(3)
    assert [(pair, d) for pair, d in zip(shown, differs, strict=True) if abs(d) > 0.001] == [(("oxford", "val"), 0.586)]


@pytest.mark.usefixtures("replication")
def test_stored_curves_and_the_oracle() -> None:
    """Each file of a curve has its name; lengths and a value by hand."""
    curves = [Path(name).name.split(".")[0] for name in derived.FILES if "/fig" in name]
    assert len(curves) == 12
    assert all(curve in derived.stored.__doc__ for curve in curves)
    lengths = {curve: len(derived.stored(curve)) for curve in curves}
    assert lengths["fig7_np_by_samples"] == 328
    assert lengths["fig10_by_samples"] == 10366
    assert derived.stored("fig7_np_by_samples").set_index("n_plus_k").loc[173, "np_val_avg"] == 93.83046
    oracle = derived.stored("oracle").set_index(["benchmark", "measure"])["value"]
    assert oracle.round(4).loc["nasbench101"].tolist() == [95.1389, 0.0378, 94.5523, 0.08]


def test_what_was_not_stored_is_refused_with_what_was() -> None:
    """The message lists the names."""
    with pytest.raises(KeyError, match="nothing stored is called 'fig8'; there are: predictions, oracle, fig10_11_ra"):
        derived.stored("fig8")


def test_a_made_file_is_read_in_the_same_shape() -> None:
    """Columns, data sets and splits of the made predictions are those of the stored ones."""
    made = derived.stored("predictions", sources.ROOT / "tests" / "data" / "replication-made" / "predictions.csv")
    assert list(made) == ["dataset", "split", "y_true", "y_pred"]
    assert made["dataset"].unique().tolist() == DATASETS
    assert set(made["split"]) == {"train", "val", "test", "test_10"}
