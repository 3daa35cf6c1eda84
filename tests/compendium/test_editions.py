"""The book on another table: numbers come from that table, and the published book stays as it is."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures.schemes import enumerate_schemes, feature_table
from naaplib.cache import digest
from naaplib.compendium import editions, execution, run
from naaplib.evaluation import protocols
from naaplib.sources import ROOT, sha256
from naaplib.tables import features, naap440

SMALL = {
    "images_file": "tests/data/images-made.npz",
    "model_ids": "[1, 109]",
    "n_epochs": "2",
    "n_jobs": "1",
    "n_seeds": "1",
    "training_lengths": "[3]",
    "n_permutations": "20",
    "n_folds": "2",
    "n_resamples": "20",
    "split_indices": "[0, 5]",
}
SOME = '["3-NN", "Linear Regression (D=0.5)", "Gradient Boosting (N=25)", "Gradient Boosting (N=100)", \
"SVR (RBF kernel)", "Linear Regression", "Random Forest (N=25)", "Random Forest (N=200)"]'


def make_table() -> pd.DataFrame:
    """All 440 networks with accuracies that nothing measured: smaller networks are better."""
    rng = np.random.default_rng(7)
    scheme = feature_table(enumerate_schemes())
    n, epochs = len(scheme), np.arange(1, naap440.N_EPOCHS + 1)
    best = 0.9 - 0.03 * np.log(scheme["NumParams"]) - 0.02 * scheme["NumStages"] + rng.normal(0, 0.003, n)
    accuracy = best.to_numpy()[:, None] - 0.2 * np.exp(-epochs / 12) + rng.normal(0, 0.004, (n, epochs.size))
    loss = 3 * (1 - accuracy)
    columns = {"loss_mean": loss.round(2), "loss_median": loss.round(2), "accuracy": accuracy.round(4)}
    ids = {"ModelId": np.repeat(scheme["ModelId"], epochs.size), "epoch": np.tile(epochs, n)}
    return naap440.build(pd.DataFrame(ids | {name: values.ravel() for name, values in columns.items()}))


@pytest.fixture(scope="module")
def made() -> tuple[pd.DataFrame, Path]:
    """The table and its file, which stays, so that records of the same code are made once."""
    table = make_table()
    path = ROOT / "build" / "editions-test" / "made" / "table.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    naap440.write(table, path)
    return naap440.read(path), path


@pytest.fixture(scope="module")
def edition(made: tuple[pd.DataFrame, Path]) -> Path:
    """Chapters 02, 04 and 05 on that table, named by its folder as a trial would be."""
    to = ROOT / "build" / "editions-test" / "editions"
    published = digest({path.as_posix(): sha256(path) for path in sorted(run.RESULTS.glob("[01]*/*"))})
    folder = str(made[1].parent)
    first = editions.run_chapters(folder, ["02-training-recipe", "04-feature-ablation"], overrides=SMALL, to=to)
    second = editions.run_chapters(
        folder, ["05-baselines"], overrides=SMALL | {"algorithms": SOME, "budgets": "[0, 6, 9]"}, to=to
    )
    assert first == second
    assert digest({path.as_posix(): sha256(path) for path in sorted(run.RESULTS.glob("[01]*/*"))}) == published
    return first


def linear(table: pd.DataFrame, columns: list[str], indices: list[int]) -> pd.DataFrame:
    """Scores of linear regression without epochs, fitted here."""
    sets: dict = {0: features.published(table, columns, n_epochs=0)}
    splits = naap440.splits(table, indices)
    return protocols.score(
        protocols.predict(
            table["MaxAccuracy"], sets, algorithms=["Linear Regression"], seeds=[0], splits=splits, n_jobs=1
        )
    )


def test_the_recipe_is_compared_with_the_logs_of_the_table(edition: Path, made: tuple[pd.DataFrame, Path]) -> None:
    """Chapter 02: "published" is the table's loss of epoch 1."""
    found = pd.read_csv(edition / "results/02-training-recipe/first-epoch.csv").set_index("ModelId")["published"]
    expected = made[0].set_index("ModelId").loc[[1, 109], "e1LossMean"]
    assert found.to_dict() == expected.to_dict()


def test_features_are_evaluated_on_the_table(edition: Path, made: tuple[pd.DataFrame, Path]) -> None:
    """Chapter 04: linear regression on six features, two splits; test accuracies are those of the table."""
    found = pd.read_csv(edition / "results/04-feature-ablation/other-algorithms.csv")
    row = found[(found["algorithm"] == "Linear Regression") & (found["features"] == "All")].iloc[0]
    expected = linear(made[0], features.SIX_SCHEME_COLUMNS, [0, 5])
    assert row["mae_mean"] == pytest.approx(expected["mae"].mean(), abs=1e-4)
    assert row["violations_mean"] == pytest.approx(expected["violations"].mean(), abs=0.051)
    rows = pd.read_csv(edition / "results/04-feature-ablation/predictions.csv")
    accuracies = made[0].set_index("ModelId")["MaxAccuracy"]
    assert rows["measured"].tolist() == accuracies.loc[rows["ModelId"]].tolist()


def test_regressors_are_evaluated_on_the_table(edition: Path, made: tuple[pd.DataFrame, Path]) -> None:
    """Chapter 05: linear regression on the paper's split has the table's errors, not those of the published book."""
    ours, published = (
        pd.read_csv(folder / "05-baselines/table-3.csv").query("algorithm == 'Linear Regression' and epochs == 0")
        for folder in (edition / "results", run.RESULTS)
    )
    expected = linear(made[0], features.TWO_SCHEME_COLUMNS, [5]).iloc[0]
    assert ours["mae"].item() == pytest.approx(expected["mae"], abs=1e-4)
    assert ours["violations_ties_half"].item() == pytest.approx(expected["violations"], abs=0.051)
    assert abs(ours["mae"].item() - published["mae"].item()) > 0.002


def test_numbers_of_the_studies_stand_beside_each_other(edition: Path, made: tuple[pd.DataFrame, Path]) -> None:
    """What the papers print, ours on the published table and on this one; what a trial lacks is left out."""
    found = pd.read_csv(edition / editions.BOTH, dtype=str)
    row = found[found["claim"] == "MAE, Linear Regression, 0 epochs"].iloc[0]
    expected = linear(made[0], features.TWO_SCHEME_COLUMNS, [5]).iloc[0]
    assert float(row["there"]) == pytest.approx(expected["mae"], abs=1e-4)
    assert abs(float(row["here"]) - float(row["printed"])) < 0.001
    assert (row["verdict"], row["verdict_there"]) == ("reproduced", "not reproduced")
    assert not found["claim"].str.contains("AdaBoost").any(), "an algorithm that the trial lacks"
    assert set(found["study"]) == {"NAAP-440"}


@pytest.mark.parametrize("stem", ["02-training-recipe", "04-feature-ablation", "05-baselines"])
def test_provenance_names_the_table(edition: Path, made: tuple[pd.DataFrame, Path], stem: str) -> None:
    """The table is among what each chapter read, and the published one is not."""
    reads = json.loads((edition / "results" / stem / "provenance.json").read_text())["reads"]
    assert reads["build/editions-test/made/table.csv"] == sha256(made[1])
    assert f"data/{editions.PUBLISHED}" not in reads


def test_a_current_chapter_is_not_run_again(
    edition: Path, made: tuple[pd.DataFrame, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same table and parameters, named by the file."""
    stems = ["02-training-recipe"]
    again = editions.run_chapters(str(made[1]), stems, overrides=SMALL, to=edition.parent)
    assert again == edition
    assert "02-training-recipe: current" in capsys.readouterr().out


def test_pages_say_which_chapters_are_on_which_table(edition: Path) -> None:
    """An announcement and the title; what was not run is as published; links outside the book lead somewhere."""
    config = (edition / "book" / "_config.yml").read_text()
    assert "on table.csv" in config
    assert "chapters 02, 04, 05 are on the table build/editions-test/made/table.csv." in " ".join(config.split())
    for name in ("01-search-space", "11-scale"):
        copies = [folder / f"book/executed/{name}.ipynb" for folder in (edition, ROOT)]
        assert copies[0].read_bytes() == copies[1].read_bytes()
    assert [name for name in editions.LINKED if not (edition / name).exists()] == []


@pytest.mark.parametrize(
    ("source", "stems", "message"),
    [
        ("absent.csv", [], "no table at"),
        ("tests/data", [], "CSV files and none is called table.csv"),
        ("publisched", [], "'publisched'; it must be 'published', 'regenerated' or the path"),
        ("tests/data/nasbench201-made.csv", [], "column ModelId is absent"),
        (
            "tests/data/naap440-made.csv",
            ["01-search-space"],
            "no edition has 01-search-space; these read the table: 00-",
        ),
    ],
)
def test_what_is_wrong_is_one_message(
    source: str, stems: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such file, a folder with several, a word, a file of another kind, a chapter without the table."""
    monkeypatch.chdir(ROOT)
    with pytest.raises(execution.FAILURES, match=message):
        editions.run_chapters(source, stems, to=tmp_path)
    assert list(tmp_path.iterdir()) == []
