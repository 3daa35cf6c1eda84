"""The command `naaplib`."""

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from made import make_images

from naaplib import cli, cli_tools, sources
from naaplib.compendium import run as chapters
from naaplib.search import strategies
from naaplib.search.tabular_objective import TableObjective

MODELS = """
from torch import nn
def small(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 10))
models = {"narrow": small, "wide": lambda: small(8), "smooth": nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU())}
class Mean:
    def fit(self, X, y): self.mean = y.mean()
    def predict(self, X): return self.mean + X[:, 0] / 1e9
either = {"mean": Mean()}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a module of models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_models.py").write_text(MODELS)
    return tmp_path


def call(*words: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli.main, list(words))


def test_rank_prints_the_order_and_the_reasons(place: Path) -> None:
    """Best first by the first score, a dash without a score, its reason on stderr."""
    found = call("rank", "own_models.py:models", "--by", "nas_wot,macs", "--side", "8", "--figure", "ranking.png")
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[0].split() == ["rank", "model", "nas_wot", "macs", "seconds"]
    assert [line.split()[:2] for line in lines[1:]] == [["1", "wide"], ["2", "narrow"], ["-", "smooth"]]
    assert "smooth has no nas_wot: no ReLU was called" in found.stderr
    assert (place / "ranking.png").read_bytes().startswith(b"\x89PNG")


def test_rank_without_a_score_is_a_failure(place: Path) -> None:
    """The table is printed all the same."""
    (place / "smooth.py").write_text("from torch import nn\nmodel = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU())\n")
    found = call("rank", "smooth.py:model", "--by", "nas_wot", "--side", "8")
    assert found.exit_code == 1
    assert len(found.stdout.splitlines()) == 2
    assert found.stderr.splitlines()[-1] == "Error: no model has a score"
    assert call("rank", "smooth.py:model", "--by", "nas_wot", "--side", "8", "--json").exit_code == 1


def test_rank_prints_json_alone(place: Path) -> None:
    """NaN is null; from a module as from a file."""
    rows = json.loads(call("rank", "own_models:models", "--by", "nas_wot", "--side", "8", "--json").stdout)
    assert [row["model"] for row in rows] == ["wide", "narrow", "smooth"]
    assert rows[-1]["score"] is None
    assert rows[-1]["rank"] is None


def test_predict_reads_both_forms_of_curves(place: Path) -> None:
    """A CSV with a column an epoch, and one with a row an epoch, give the same estimates."""
    epochs = np.arange(1, 9)
    curves = pd.DataFrame([0.8 - 0.4 / epochs, 0.7 - 0.4 / epochs], columns=epochs, index=["a", "b"])
    curves.to_csv("wide.csv")
    tidy = curves.rename_axis("run").reset_index().melt("run", var_name="epoch", value_name="accuracy")
    tidy.to_csv("tidy.csv", index=False)
    wide, long = (json.loads(call("predict", name, "--at", "30", "--json").stdout) for name in ("wide.csv", "tidy.csv"))
    assert wide == long
    assert wide[0]["estimate"] > wide[1]["estimate"]
    assert "training" in call("predict", "wide.csv", "--at", "30", "--figure", "curves.svg").stdout


def test_evaluate_gives_a_strangers_predictor_a_row(place: Path, published_path: Path) -> None:
    """Beside a known one, with intervals."""
    found = call("evaluate", "own_models:Mean", "1-NN", "--splits", "paper")
    assert found.exit_code == 0, found.output
    assert "own_models:Mean" in found.stdout
    assert " to " in found.stdout


def test_data_brings_what_is_named_and_refuses_other_words(published_path: Path) -> None:
    """One file that is there already; an unknown word is one line."""
    found = call("data", "naap440/naap440.csv", "--json")
    assert json.loads(found.stdout) == {"files": ["naap440/naap440.csv"], "complete": True}
    wrong = call("data", "nix")
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith("Error: no data is called 'nix'")
    assert len(wrong.stderr.splitlines()) == 1


def test_a_chapter_is_found_by_its_number_and_gets_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters go to a trial's folder unless another is named; negative values too."""
    seen: list[list[str]] = []
    monkeypatch.setattr(chapters, "main", lambda: seen.append(sys.argv[1:]) or 0)
    assert call("chapter", "5").exit_code == 0
    assert call("chapter", "baselines", "-p", "n_seeds", "20", "-p", "shift", "-1").exit_code == 0
    assert json.loads(call("chapter", "05-baselines", "--json").stdout)["chapter"] == "05-baselines"
    assert seen == [
        ["05-baselines"],
        ["05-baselines", "-p", "n_seeds", "20", "-p", "shift", "-1", "--to", "results/trial"],
        ["05-baselines"],
    ]


def test_outside_a_checkout_a_chapter_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a status of 1; an unknown chapter has 2."""
    unknown = call("chapter", "77")
    assert (unknown.exit_code, len(unknown.stderr.splitlines())) == (2, 1)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    found = call("chapter", "05")
    assert (found.exit_code, found.stderr) == (
        1,
        "Error: there are no chapters here: only a checkout of the project has them\n",
    )


def test_report_says_what_a_search_has_found(place: Path) -> None:
    """In words, as JSON, and as a picture."""
    curves = np.linspace(0.1, 0.9, 12).reshape(4, 3)
    strategies.random_search(TableObjective(curves), total_budget=12, budget=3, seed=0, trace="search.jsonl")
    found = call("report", "search.jsonl", "--figure", "trajectory.svg")
    assert "evaluations: 4" in found.stdout
    assert "best: 0.9" in found.stdout
    assert (place / "trajectory.svg").is_file()
    assert json.loads(call("report", "search.jsonl", "--json").stdout)["spent"] == 12


def test_search_runs_a_study_and_goes_on_from_its_file(place: Path) -> None:
    """Space and objective come from a file; the same call with more budget resumes; report reads the file."""
    (place / "study.py").write_text(
        "space = {'width': range(8, 65), 'rate': [0.01, 0.1]}\n"
        "def objective(params, n_epochs):\n"
        "    with open('calls', 'a') as stream: stream.write('x')\n"
        "    return 1 - 1 / (n_epochs * params['width'])\n"
    )
    words = ("search", "study.py", "--max-epochs", "9", "--method", "random")
    found = call(*words, "--budget", "27", "--figure", "trajectory.svg")
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("best 0.9")
    assert "3 trials, 27 epochs" in found.stdout
    rows = json.loads(call(*words, "--budget", "45", "--json").stdout)
    assert (len(rows), Path("calls").read_text()) == (5, "xxxxx")
    assert json.loads(call("report", "study.jsonl", "--json").stdout)["evaluations"] == 5


def test_train_trains_every_network_of_a_file(place: Path) -> None:
    """From the options of each block; the curves lie in the folder, and are what `predict` reads."""
    images = make_images()
    arrays = {
        name: getattr(images, name).numpy() for name in ("train_images", "train_labels", "test_images", "test_labels")
    }
    np.savez("images.npz", **arrays)
    blocks = [
        {"kernel_sizes": [3], "widths": [4, 8], "strides": [2]},
        {"kernel_sizes": [1], "widths": [8], "strides": [2]},
    ]
    Path("spaces.json").write_text(json.dumps({"blocks": blocks, "min_blocks": 2, "max_strided": 2}))
    again = ("train", "spaces.json", "--epochs", "2", "--images", "images.npz", "--jobs", "1", "--device", "cpu")
    found = call(*again)
    assert found.exit_code == 0, found.output
    assert "2 networks, 2 epochs: spaces/curves-seed-0.csv" in found.stdout
    curves = pd.read_csv("spaces/curves-seed-0.csv")
    assert curves.groupby("scheme").size().tolist() == [2, 2]
    curves[["scheme", "epoch", "accuracy"]].to_csv("curves.csv", index=False)
    assert call("predict", "curves.csv", "--at", "9").exit_code == 0
    assert call(*again, "--seed", "1").exit_code == 0
    written = sorted(path.name for path in Path("spaces").glob("*.csv"))
    assert written == ["curves-seed-0.csv", "curves-seed-1.csv"]
    Path("spaces.json").write_text('{"blocks": [{"widths": [4]}]}')
    wrong = call("train", "spaces.json")
    assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (1, 1)
    assert "a space has blocks" in wrong.stderr


ERRORS = {
    "rank": (2, "Missing argument 'MODELS...'"),
    "rank resnet81": (1, "did you mean"),
    "rank own_models:nix": (1, "own_models has no nix"),
    "rank nowhere:models": (1, "there is no module nowhere"),
    "rank nowhere.py:models": (1, "there is no file nowhere.py"),
    "rank own_models:models --by nix": (1, "there is no score nix"),
    "rank own_models:models --side 0": (1, "image_side must be a whole number"),
    "rank own_models.py": (1, "own_models.py must be module:name, or file.py:name"),
    "rank own_models:": (1, "own_models: must be module:name"),
    "rank own_models:models other_models:models": (1, "two of them are called 'narrow'"),
    "rank own_models:models --device gpu": (1, "torch knows no device 'gpu'"),
    "rank own_models:models --seed -1": (1, "seed is -1; it must be"),
    "evaluate own_models:either other_models:either": (1, "two of them are called 'mean'"),
    "predict twice.csv --at 9": (1, "two trainings are called 'n'"),
    "predict nowhere.csv": (2, "does not exist"),
    "report own_models.py": (1, "is no trace of a search"),
    "search own_models.py --budget 3": (1, "own_models.py has no space"),
    "search own_models.py --budget 3 --jobs 0": (2, "0 is not in the range x>=1"),
    "evaluate 1-NN --seeds 0": (2, "0 is not in the range x>=1"),
    "predict empty.csv --at 9": (1, "empty.csv is no table of learning curves: No columns"),
    "predict latin.csv --at 9": (1, "latin.csv is no table of learning curves: 'utf-8' codec"),
    "predict semicolons.csv --at 9": (1, "must be separated by commas"),
    "predict curves.csv --at 9 --figure nowhere/curves.png": (2, "there is no folder"),
    "predict curves.csv --at 9 --figure curves.nix": (2, "must end in the name of a format"),
    "rank own_models:models --images pictures --side 8": (1, "broken.png cannot be read as an image"),
    "train spaces.json --images own_models.py": (1, "own_models.py is no .npz file"),
    "train spaces.json --images nowhere.npz": (1, "there is no file nowhere.npz; images are CIFAR-10"),
    "nix": (2, "No such command 'nix'"),
}


@pytest.mark.parametrize("line", ERRORS)
def test_an_error_is_one_line_with_a_status(place: Path, line: str) -> None:
    """1 for what cannot be done, 2 for a command line that is not understood."""
    status, message = ERRORS[line]
    (place / "empty.csv").touch()
    (place / "latin.csv").write_bytes("name,1,2\nnä,0.1,0.2\n".encode("latin-1"))
    (place / "semicolons.csv").write_text("name;1;2\nn;0,1;0,2\n")
    (place / "curves.csv").write_text("name,1,2\nn,0.1,0.2\n")
    (place / "twice.csv").write_text("name,1,2\nn,0.1,0.2\nn,0.3,0.4\n")
    (place / "other_models.py").write_text(MODELS)
    (place / "pictures").mkdir()
    (place / "pictures" / "broken.png").write_text("no picture")
    block = '{"kernel_sizes": [3], "widths": [4], "strides": [2]}'
    (place / "spaces.json").write_text(f'{{"blocks": [{block}], "min_blocks": 1, "max_strided": 1}}')
    found = call(*line.split())
    assert found.exit_code == status, found.output
    (text,) = found.stderr.splitlines()
    assert text.startswith("Error: ")
    assert message in text


def test_traceback_shows_where_an_error_comes_from(place: Path) -> None:
    """For a bug report."""
    found = call("--traceback", "rank", "resnet81")
    assert isinstance(found.exception, ValueError)


def test_ctrl_c_ends_in_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the status that shells have for it."""
    monkeypatch.setattr("naaplib.search.trace.read", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    found = call("report", "own_models.py")
    assert (found.exit_code, found.stderr) == (cli_tools.STOPPED, "naaplib: stopped\n")


@pytest.mark.parametrize("name", ["", *cli.main.commands])
def test_help_has_an_example(name: str) -> None:
    """Of the command itself, and of each command."""
    text = call(*([name] if name else []), "--help").stdout
    assert f"\n  naaplib {name}" in text


def test_python_m_naaplib_is_the_command() -> None:
    """As a program of its own."""
    found = subprocess.run(
        [sys.executable, "-m", "naaplib", "--version"], capture_output=True, text=True, check=True, cwd=sources.ROOT
    )
    assert found.stdout.startswith("naaplib, version")


def test_a_name_that_this_version_lacks_is_one_line() -> None:
    """As for a part that is not installed."""
    with pytest.raises(click.ClickException, match="has no telepathy"):
        cli_tools.offered("telepathy")
