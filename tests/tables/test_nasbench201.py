"""Benchmark tables: the shape on small made files, then NAS-Bench-201's own numbers where this machine has them."""

import hashlib
import itertools
from pathlib import Path

import pandas as pd
import pytest

from naaplib import sources
from naaplib.tables import nasbench201 as benchmarks

CELLS = ["|none~0|+|a~0|a~1|", "|none~0|+|a~0|b~1|"]
SHORT, LONG = benchmarks.NASBENCH201
N_IMAGES = {"CIFAR-10": 10000, "CIFAR-100": 5000, "ImageNet16-120": 3000}
KEYS = ["dataset", "epochs", "runs"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, pd.DataFrame]:
    """The two files for a benchmark of two cells, to be changed and then put; percentages count up."""
    monkeypatch.setenv("NAAPLIB_DATA", str(tmp_path))
    monkeypatch.setattr(benchmarks, "N_CELLS", 2)
    short = {name: [10.0 + i, 50.0 + i] for i, name in enumerate(benchmarks.NASBENCH201[SHORT])}
    long = {name: [20.0 + i, 60.0 + i] for i, name in enumerate(benchmarks.NASBENCH201[LONG])}
    return {
        SHORT: pd.DataFrame({"": [0, 1], "Unnamed: 0": [0, 1], **short, "ArchitectureString": CELLS}),
        LONG: pd.DataFrame({**long, "ArchitectureString": CELLS, "UniqueString": ["#", "(#)"]}),
    }


def put(files: dict[str, pd.DataFrame], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the files into a data folder and make them the expected ones."""
    known = {}
    for name, frame in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        frame.to_csv(folder / name, index=False)
        known[name] = sources.File("", hashlib.sha256((folder / name).read_bytes()).hexdigest(), "")
    monkeypatch.setattr(sources, "FILES", known)


def test_one_row_a_measurement_in_order(files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells in the files' order, then datasets, epochs, and the mean before the single; fractions, not percent."""
    put(files, tmp_path, monkeypatch)
    table = benchmarks.nasbench201()
    assert list(table) == ["architecture", "distinct", "dataset", "epochs", "runs", "accuracy"]
    assert table["architecture"].tolist() == [CELLS[0]] * 9 + [CELLS[1]] * 9
    assert table["distinct"].tolist() == ["#"] * 9 + ["(#)"] * 9
    assert table.loc[9:, ["dataset", "epochs", "runs", "accuracy"]].to_numpy().tolist() == [
        ["CIFAR-10", 12, "single", 0.50], ["CIFAR-10", 200, "mean", 0.60], ["CIFAR-10", 200, "single", 0.53],
        ["CIFAR-100", 12, "single", 0.51], ["CIFAR-100", 200, "mean", 0.61], ["CIFAR-100", 200, "single", 0.54],
        ["ImageNet16-120", 12, "single", 0.52], ["ImageNet16-120", 200, "mean", 0.62],
        ["ImageNet16-120", 200, "single", 0.55],
    ]  # fmt: skip


def test_equal_accuracies_are_equal(files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Percentages that differ by single precision only become one fraction."""
    files[LONG]["CIFAR100TestAccuracy200Epochs"] = [52.91333333333333, 52.913333294677734]
    put(files, tmp_path, monkeypatch)
    table = benchmarks.nasbench201()
    means = table[(table["dataset"] == "CIFAR-100") & (table["runs"] == "mean")]
    assert means["accuracy"].tolist() == [0.529133, 0.529133]


@pytest.mark.parametrize("value", [100.5, -1.0, float("nan"), float("inf")])
def test_an_impossible_accuracy_is_named_with_its_place(
    value: float, files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, row, column and value."""
    files[SHORT].loc[1, "Cifar100TestAccuracy12Epochs"] = value
    put(files, tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=f"{SHORT}, row 2: Cifar100TestAccuracy12Epochs is {value}; it must be a perc"):
        benchmarks.nasbench201()


def test_cells_must_be_complete_and_distinct(files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row too many, and a cell twice."""
    frame = files[LONG]
    for faulty, what in (
        (pd.concat([frame, frame[:1]]), "3 of 2 cells"),
        (frame.assign(ArchitectureString=CELLS[0]), "2 of 1 cells"),
    ):
        put(files | {LONG: faulty}, tmp_path, monkeypatch)
        with pytest.raises(ValueError, match=f"{LONG} must have 2 rows, one a cell; it has {what}"):
            benchmarks.nasbench201()


def test_both_files_must_list_the_same_cells(files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joined by position, so the order counts."""
    files[SHORT]["ArchitectureString"] = CELLS[::-1]
    put(files, tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=f"{SHORT} and {LONG} do not hold the same cells in the same order"):
        benchmarks.nasbench201()


def test_a_missing_column_is_named(files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of a file is refused with what it has."""
    files[LONG] = files[LONG].drop(columns="UniqueString")
    put(files, tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=rf"{LONG} has no columns \['UniqueString'\]; it has \['CIFAR10Test"):
        benchmarks.nasbench201()


def test_rows_of_the_files_by_hand(nasbench201: pd.DataFrame) -> None:
    """Cell 1 as the two files print it: 88.22, 93.66 and 93.62 percent on CIFAR-10, 44.03 and 44.00 at the end."""
    rows = nasbench201[9:18]
    assert set(rows["architecture"]) == {
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    }
    assert rows["accuracy"].tolist() == [0.8822, 0.9366, 0.9362, 0.5826, 0.702933, 0.7016, 0.338, 0.440333, 0.44]


def test_best_accuracies_as_published(nasbench201: pd.DataFrame) -> None:
    """Dong and Yang, Table 5, optimal: 94.37, 73.51 and 47.31 percent after 200 epochs."""
    means = nasbench201[nasbench201["runs"] == "mean"]
    best = means.groupby("dataset")["accuracy"].max()
    assert (100 * best).round(2).to_dict() == {"CIFAR-10": 94.37, "CIFAR-100": 73.51, "ImageNet16-120": 47.31}


def test_every_cell_of_the_space_is_there_in_the_benchmarks_order(nasbench201: pd.DataFrame) -> None:
    """Five operations on six edges, each once, nine rows together; the best cell of CIFAR-100 is number 9,930."""
    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    cells = {
        f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in itertools.product(operations, repeat=6)
    }
    listed = nasbench201["architecture"].to_numpy().reshape(-1, 9)
    assert (listed == listed[:, :1]).all()
    assert set(listed[:, 0]) == cells
    best = nasbench201.loc[nasbench201["runs"].eq("mean") & nasbench201["dataset"].eq("CIFAR-100"), "accuracy"].idxmax()
    assert best // 9 == 9930


def test_distinct_cells_number_as_published(nasbench201: pd.DataFrame) -> None:
    """6,466 structures, which is the count that the literature gives for NAS-Bench-201."""
    assert nasbench201["distinct"].nunique() == 6466


def test_distinct_says_what_a_cell_computes(nasbench201: pd.DataFrame) -> None:
    """Skips are followed, an edge without operation or from a node without input is nothing, and order is ignored."""

    def computed(nodes: list[list[str]], node: int) -> str:
        if node == 0:
            return "0"
        terms = []
        for edge in nodes[node - 1]:
            operation, start = edge.split("~")
            before = computed(nodes, int(start))
            nothing = operation == "none" or before == "#"
            terms.append("#" if nothing else before if operation == "skip_connect" else f"({before})@{operation}")
        return "+".join(sorted(terms))

    cells = nasbench201[::9]
    nodes = cells["architecture"].map(lambda cell: [node[1:-1].split("|") for node in cell.split("+")])
    assert cells["distinct"].tolist() == [computed(each, 3) for each in nodes]


def test_accuracies_are_whole_numbers_of_test_images(nasbench201: pd.DataFrame) -> None:
    """A single training gets so many images right; a mean is over two or three, the same number on every dataset."""
    n_correct = nasbench201["accuracy"] * nasbench201["dataset"].map(N_IMAGES)
    whole = pd.DataFrame({n: (n * n_correct - (n * n_correct).round()).abs() < 0.02 for n in (1, 2, 3)})
    assert whole.loc[nasbench201["runs"] == "single", 1].all()
    means = whole[nasbench201["runs"] == "mean"]
    assert (means[2] | means[3]).all()
    by_cell = means.groupby(means.index // 9).all()
    assert (by_cell[2] | by_cell[3]).all()
    assert [(~by_cell[3]).sum(), (~by_cell[2]).sum(), (by_cell[2] & by_cell[3]).sum()] == [6554, 7546, 1525]
