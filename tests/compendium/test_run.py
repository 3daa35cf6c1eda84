"""Running notebooks: what is current is left alone, what is wrong is said, what was published stays."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from naaplib import sources
from naaplib.compendium import execution, provenance, run
from naaplib.compendium.reproduction import reproduce

STEM = "05-trial"
PARAMETERS = {"n_seeds": 5, "share": 0.5}


def write_notebook(code: str, text: str = "# How many?") -> None:
    """A one-question notebook with two parameters, in the folder that `run` looks into."""
    parameters = new_code_cell("n_seeds = 5  # runs\nshare = 0.5  # of 1", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(metadata=kernel, cells=[new_markdown_cell(text), parameters, new_code_cell(code)])
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    nbformat.write(notebook, run.NOTEBOOKS / f"{STEM}.ipynb")


CODE = f"""
import pandas as pd

from naaplib import metrics
from naaplib.compendium import results

folder = results.Folder("{STEM}", reads=[results.ROOT / "LICENSE"])
error = metrics.mae([1.0, 2.0], [1.0, 2.0 + share])
folder.write_table(pd.DataFrame({{"n_seeds": [n_seeds], "mae": [error]}}), "errors", tolerance={{"mae": 0.1}})
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty set of folders in place of the project's."""
    for name in ("NOTEBOOKS", "RESULTS", "EXECUTED", "SCRATCH", "QUICK"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setattr(run, name, folder)
    write_notebook(CODE)
    return tmp_path


def run_and_say(capsys: pytest.CaptureFixture[str], **kwargs: object) -> str:
    """What `run.run` printed."""
    run.run(STEM, **{"overrides": {}, **kwargs})  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_life_of_a_notebook(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run once, then current; prose is updated in place; an edited result, module or input makes it run again."""
    folder, copy = project / "results" / STEM, project / "executed" / f"{STEM}.ipynb"
    assert f"{STEM}: running (no results yet)" in run_and_say(capsys)
    assert (folder / "errors.csv").read_text() == "n_seeds,mae\n5,0.2500\n"
    record = json.loads((folder / "provenance.json").read_text())
    assert record["parameters"] == PARAMETERS
    assert record["reads"] == {"LICENSE": sources.sha256(run.ROOT / "LICENSE")}
    assert set(record["outputs"]) == {"errors.csv"}
    assert "naaplib/metrics.py" in record["code"]
    assert "naaplib/compendium/run.py" not in record["code"]
    assert record["run"]["seconds"] > 0
    assert not list((project / "scratch").iterdir())

    assert run_and_say(capsys) == f"{STEM}: current\n"

    write_notebook("# a comment\n" + CODE, text="# How many, really?")
    assert run_and_say(capsys) == f"{STEM}: current; text of the executed copy brought up to date\n"
    assert nbformat.read(copy, as_version=4).cells[0].source == "# How many, really?"
    assert nbformat.read(copy, as_version=4).cells[2].execution_count is not None

    (folder / "errors.csv").write_text("n_seeds,mae\n5,0.0000\n")
    source = run.read_notebook(STEM)
    assert provenance.out_of_date(source, PARAMETERS, folder=folder) == "output errors.csv is gone or was edited"

    hashes = provenance.code_hashes
    monkeypatch.setattr(provenance, "code_hashes", lambda notebook: hashes(notebook) | {"naaplib/metrics.py": "edited"})
    assert provenance.out_of_date(source, PARAMETERS, folder=folder) == "changed: naaplib/metrics.py"


def test_failure_leaves_what_was_published(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cell that fails ends in one message; results, executed copy and provenance stay as they were."""
    run_and_say(capsys)
    before = {path: path.read_bytes() for path in (project / "results").rglob("*.*")}
    before[project / "executed" / f"{STEM}.ipynb"] = (project / "executed" / f"{STEM}.ipynb").read_bytes()
    write_notebook(CODE + "\nfolder.write_table(pd.DataFrame(), 'errors')")
    with pytest.raises(run.RunError, match=rf"{STEM} failed: FileExistsError: errors\.csv was written before"):
        run_and_say(capsys)
    assert {path: path.read_bytes() for path in before} == before


def test_trial_goes_to_its_own_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other parameters give other results beside the published ones, with the executed copy among them."""
    to = project / "trial"
    run_and_say(capsys, overrides={"n_seeds": "20", "share": "1"}, to=to)
    assert (to / STEM / "errors.csv").read_text() == "n_seeds,mae\n20,0.5000\n"
    cells = nbformat.read(to / STEM / f"{STEM}.ipynb", as_version=4).cells
    assert [cell.source for cell in cells if "remove-cell" in cell.metadata.get("tags", [])] == [
        "# Parameters\nn_seeds = 20\nshare = 1.0\n"
    ]
    assert not (project / "results" / STEM).exists()
    assert run_and_say(capsys, overrides={"n_seeds": "20", "share": "1"}, to=to) == f"{STEM}: current\n"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"n_sedes": "20"}, r"no parameter 'n_sedes' \(did you mean n_seeds\?\); it has: n_seeds, share"),
        ({"n_seeds": "many"}, "parameter n_seeds must be of type int .default 5., not 'many'"),
        ({"n_seeds": "2.5"}, "parameter n_seeds must be of type int .default 5., not '2.5'"),
        ({"n_seeds": "True"}, "parameter n_seeds must be of type int .default 5., not 'True'"),
        ({"n_seeds": "20"}, "would overwrite the published results: name a folder with --to"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(
    project: Path, overrides: dict[str, str], message: str
) -> None:
    """A mistyped name, a wrong type, and a trial without a folder each give one message."""
    with pytest.raises(run.RunError, match=message):
        run.run(STEM, overrides)
    assert not (project / "results" / STEM).exists()


@pytest.mark.parametrize("to", ["results", f"results/{STEM}"])
def test_trial_into_the_published_folder_is_refused(project: Path, to: str) -> None:
    """--to results would overwrite what is published, --to results/05-trial would nest in it."""
    with pytest.raises(run.RunError, match="is where the published results lie"):
        run.run(STEM, {"n_seeds": "20"}, to=project / to)


def test_folder_of_somebody_else_is_not_replaced(project: Path) -> None:
    """A folder of the notebook's name that no run has written into stays as it is."""
    (project / "mine" / STEM).mkdir(parents=True)
    (project / "mine" / STEM / "thesis.txt").write_text("years of work")
    with pytest.raises(run.RunError, match="holds files that no run wrote"):
        run.run(STEM, {}, to=project / "mine")
    assert (project / "mine" / STEM / "thesis.txt").read_text() == "years of work"


def test_cells_that_are_joined_run_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same code in other cells has other outputs: it is not the same notebook."""
    path = run.NOTEBOOKS / f"{STEM}.ipynb"
    notebook = run.read_notebook(STEM)
    notebook.cells.append(new_code_cell("n_seeds + 1"))
    nbformat.write(notebook, path)
    run_and_say(capsys)
    notebook.cells[2].source += "\n" + notebook.cells.pop().source
    nbformat.write(notebook, path)
    assert f"{STEM}: running (changed: notebook)" in run_and_say(capsys)


def test_killed_between_copy_and_results_runs_again(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No provenance vouches for a copy and results of two different runs."""
    run_and_say(capsys)
    write_notebook(CODE + "\nfolder.write_answer('42')")
    with monkeypatch.context() as patch:
        patch.setattr(run.shutil, "move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_and_say(capsys)
    assert f"{STEM}: running (changed: notebook)" in run_and_say(capsys)
    assert (project / "results" / STEM / "answer.md").read_text() == "42\n"


def test_unknown_notebook_is_refused_with_the_list(project: Path) -> None:
    """The message names the notebooks that there are."""
    with pytest.raises(run.RunError, match=f"there is no notebook '06-none'; there are: {STEM}"):
        run.run("06-none", {})


def test_missing_data_file_is_one_clear_message(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stale notebook on a machine without data says which file it wants and how to get it."""
    write_notebook('from naaplib.tables import naap440\nnaap440.read(naap440.find("regenerated"))')
    with pytest.raises(run.RunError, match="FileNotFoundError: the regenerated table is not there yet"):
        run_and_say(capsys)


def test_absent_data_file_does_not_make_results_stale(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clone without data runs nothing; another input that is gone is said."""
    run_and_say(capsys)
    path = project / "results" / STEM / "provenance.json"
    for label, reason in [("data/nowhere/table.csv", ""), ("results/nowhere.csv", "input results/nowhere.csv is gone")]:
        record = json.loads(path.read_text())
        record["reads"] = {label: "0"}
        path.write_text(json.dumps(record))
        assert provenance.out_of_date(run.read_notebook(STEM), PARAMETERS, folder=path.parent) == reason


def test_reproduction_names_the_table_that_differs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Within its stated tolerance passes, beyond it fails, table by table."""
    run_and_say(capsys)
    table = project / "results" / STEM / "errors.csv"
    for published, verdict, passes in [
        ("0.2500", "identical", True),
        ("0.3000", "within", True),
        ("0.9", "different", False),
    ]:
        table.write_text(f"n_seeds,mae\n5,{published}\n")
        assert reproduce(is_fast=True, fresh=project / "again") is passes
        assert f"{STEM}/errors.csv  {verdict}" in capsys.readouterr().out
        shutil.rmtree(project / "again")


def test_reproduction_reports_a_notebook_that_fails(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that cannot run here does not keep the report from being written."""
    run_and_say(capsys)
    write_notebook("raise OSError('no images here')")
    assert reproduce(is_fast=True, fresh=project / "again") is False
    assert f"{STEM}  failed" in (project / "again" / "report.txt").read_text()


def test_code_that_changes_no_result_is_not_counted() -> None:
    """Docstrings, comments and blank lines are left out; a string that looks like a comment stays."""
    source = '"""Module."""\n\nx = """\n# kept"""  # why\n\n'
    source += 'def f():\n    """Two\n    lines."""\n    # why\n    return "# kept"\n'
    assert provenance.bare_code(source) == 'x = """\n# kept"""\ndef f():\n    return "# kept"'


def test_only_modules_that_are_used_count() -> None:
    """Imports are followed through our modules, whichever way they are written."""
    modules = provenance.imported_modules("from naaplib.evaluation import protocols")
    found = {path.relative_to(run.ROOT).as_posix() for path in modules}
    assert {"naaplib/evaluation/protocols.py", "naaplib/metrics.py", "naaplib/estimators/regressors.py"} <= found
    assert "naaplib/training/single.py" not in found
    assert provenance.imported_modules("import naaplib.metrics\nimport numpy") == {run.ROOT / "naaplib" / "metrics.py"}


def test_environment_is_left_as_it_was(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the notebook is told through the environment does not outlive its run."""
    before = dict(os.environ)
    run_and_say(capsys)
    assert dict(os.environ) == before


class Screen(io.StringIO):
    """What a terminal is sent."""

    def isatty(self) -> bool:
        """It is one."""
        return True


BARRED = f"""
import sys
import time
import warnings

import pandas as pd
from tqdm import tqdm

from naaplib.compendium import results
from naaplib.parallel import bar_disabled

results.Folder("{STEM}", reads=[]).write_table(pd.DataFrame({{"n": [n_seeds]}}), "seeds")
print("about 3 hours")
for epoch in tqdm(range(2), "networks", disable=bar_disabled()):
    warnings.warn("as a test", stacklevel=1)
print("it is done", file=sys.stderr)
"""


def test_terminal_shows_what_cells_write(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, warnings and the frames of bars appear while cells run; the executed copy keeps all but the frames."""
    write_notebook(BARRED)
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    run.run(STEM, {})
    shown = screen.getvalue()
    assert "about 3 hours\n" in shown
    assert "\rnetworks: 100%|██████████| 2/2 [" in shown
    assert shown.index("about 3 hours") < shown.index("networks:   0%") < shown.index("networks: 100%")
    assert shown.count("UserWarning: as a test\n") == 1  # the second is not shown again, from the same line
    copy = nbformat.read(project / "executed" / f"{STEM}.ipynb", as_version=4)
    outputs = [output for output in copy.cells[-1].outputs if output.output_type == "stream"]
    kept = "".join(output.text for output in outputs if output.name == "stderr")
    assert "networks" not in kept
    assert "UserWarning: as a test\n  warnings.warn" in kept
    assert kept.endswith("it is done\n")
    assert [output.text for output in outputs if output.name == "stdout"] == ["about 3 hours\n"]
    assert "NAAPLIB_PROGRESS" not in os.environ


def test_no_bar_without_a_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log holds neither frames nor what cells write; the executed copy is the same."""
    write_notebook(BARRED)
    run.run(STEM, {})
    said = capsys.readouterr()
    assert "about 3 hours" not in said.out + said.err
    assert said.err == ""
    text = (project / "executed" / f"{STEM}.ipynb").read_text()
    assert "networks:" not in text
    assert "UserWarning: as a test" in text


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("stderr", "\r  0%|   | 0/2", ""),
        ("stderr", "\r100%|###| 2/2\n", ""),
        ("stderr", "\n", ""),
        ("stderr", "careful\n\r 50%|#  | 1/2", "careful\n"),
        ("stderr", "\r 50%|#  | 1/2\ncareful\n", "careful\n"),
        ("stderr", "careful\n", "careful\n"),
        ("stdout", "a\rb\n", "a\rb\n"),
    ],
)
def test_frames_of_bars_are_left_out(name: str, text: str, kept: str) -> None:
    """From a carriage return to the end of its line, on stderr only; other text stays, an empty output does not."""
    output = nbformat.v4.new_output("stream", name=name, text=text)
    notebook = new_notebook(cells=[new_code_cell("", outputs=[output])])
    assert [output.text for output in execution.clean_copy(notebook).cells[0].outputs] == [kept] * (kept != "")


@pytest.fixture
def no_kernel(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run notebooks' code in this process, which is quicker; what becomes of what they wrote is the same."""

    def execute(source: Path, target: Path, parameters: dict, home: Path, env: dict[str, str]) -> nbformat.NotebookNode:
        target.parent.mkdir(parents=True, exist_ok=True)
        home.mkdir(parents=True, exist_ok=True)
        notebook = nbformat.read(source, as_version=4)
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            exec(notebook.cells[2].source, PARAMETERS | parameters)
        return execution.clean_copy(notebook)

    monkeypatch.setattr(run, "execute", execute)


NOTES = {"notes.md": "what I saw", "plot.svg": "<svg/>", "mine/deep.txt": "x", "errors.csv.bak": "5", "raw ü.csv": "1"}


@pytest.mark.usefixtures("no_kernel")
def test_files_of_the_user_in_a_trial_folder_stay(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other parameters replace what runs wrote, and a table that is written no longer goes; nothing else does."""
    folder = project / "trial" / STEM
    write_notebook(CODE + "\nfolder.write_answer('42')")
    run_and_say(capsys, overrides={"n_seeds": "20"}, to=folder.parent)
    (folder / "mine").mkdir()
    for name, text in NOTES.items():
        (folder / name).write_text(text)
    write_notebook(CODE)
    run_and_say(capsys, overrides={"n_seeds": "30"}, to=folder.parent)
    assert (folder / "errors.csv").read_text() == "n_seeds,mae\n30,0.2500\n"
    assert {name: (folder / name).read_text() for name in NOTES} == NOTES
    assert {path.name for path in folder.iterdir()} == {
        *("errors.csv", "provenance.json", f"{STEM}.ipynb"),
        *(name.split("/")[0] for name in NOTES),
    }
    assert [path.name for path in folder.parent.iterdir()] == [STEM]
    assert run_and_say(capsys, overrides={"n_seeds": "30"}, to=folder.parent) == f"{STEM}: current\n"


@pytest.mark.usefixtures("no_kernel")
@pytest.mark.parametrize("to", ["trial", None])
def test_file_of_the_user_with_a_tables_name_is_not_overwritten(
    project: Path, capsys: pytest.CaptureFixture[str], to: str | None
) -> None:
    """A run that would write a table over it is refused, and all stays as it was."""
    trial = project / to if to else None
    folder = (trial or run.RESULTS) / STEM
    run_and_say(capsys, to=trial)
    (folder / "answer.md").write_text("my own answer")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    write_notebook(CODE + "\nfolder.write_answer('42')")
    with pytest.raises(run.RunError, match=r"would overwrite files in .*05-trial that no run wrote: answer\.md\. Move"):
        run_and_say(capsys, to=trial)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "answer.md").rename(folder / "mine.md")
    run_and_say(capsys, to=trial)
    assert (folder / "answer.md").read_text() == "42\n"


@pytest.mark.usefixtures("no_kernel")
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_kill_while_results_are_put_down_is_made_good(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Whichever file was the last: the next run does not take what there is for current, nor for the user's."""
    run_and_say(capsys, overrides={"share": "1"}, to=project / "trial")
    write_notebook(CODE + "\nfolder.write_answer('42')")
    move, moved = shutil.move, []

    def move_some(*paths: Path) -> None:
        if len(moved) == stop:
            raise KeyboardInterrupt
        moved.append(move(*paths))

    with monkeypatch.context() as patch:
        patch.setattr(run.shutil, "move", move_some)
        with pytest.raises(KeyboardInterrupt):
            run_and_say(capsys, overrides={"share": "0"}, to=project / "trial")
    assert f"{STEM}: running (" in run_and_say(capsys, overrides={"share": "0"}, to=project / "trial")
    assert (project / "trial" / STEM / "errors.csv").read_text() == "n_seeds,mae\n5,0.0000\n"
    assert (project / "trial" / STEM / "answer.md").read_text() == "42\n"


KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"


def test_dead_kernel_is_a_row_of_the_report(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As when memory ran out: it is one line, without a traceback, and the other chapters go on."""
    shutil.copy(run.NOTEBOOKS / f"{STEM}.ipynb", run.NOTEBOOKS / "06-whole.ipynb")
    write_notebook(KILL)
    assert reproduce(is_fast=True, fresh=project / "again") is False
    report = (project / "again" / "report.txt").read_text()
    assert re.search(rf"^{STEM} +failed +{STEM} failed: its kernel died \(out of memory\?\)$", report, re.MULTILINE)
    assert re.search("^06-whole/errors.csv +different +not among the published results$", report, re.MULTILINE)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("no_kernel")
def test_what_cannot_run_is_a_row_of_the_report(project: Path) -> None:
    """A notebook that is damaged, a provenance in conflict, a disk that is full; the last chapter still runs."""
    (run.NOTEBOOKS / "06-damaged.ipynb").write_text("<<<<<<< ours")
    shutil.copy(run.NOTEBOOKS / f"{STEM}.ipynb", run.NOTEBOOKS / "07-conflict.ipynb")
    (project / "again" / "07-conflict").mkdir(parents=True)
    (project / "again" / "07-conflict" / "provenance.json").write_text("<<<<<<< ours")
    shutil.copy(run.NOTEBOOKS / f"{STEM}.ipynb", run.NOTEBOOKS / "08-last.ipynb")
    write_notebook("raise OSError(28, 'No space left on device')")
    assert reproduce(is_fast=True, fresh=project / "again") is False
    rows = [
        re.split("  +", line, maxsplit=2) for line in (project / "again" / "report.txt").read_text().splitlines()[2:]
    ]
    assert [row[:2] for row in rows] == [
        [STEM, "failed"],
        ["06-damaged", "failed"],
        ["07-conflict", "failed"],
        ["08-last/errors.csv", "different"],
    ]
    assert "No space left on device" in rows[0][2]
    assert "06-damaged.ipynb cannot be read as a notebook" in rows[1][2]
    assert "provenance.json is not as a run writes it (a merge conflict?): restore it" in rows[2][2]


@pytest.mark.parametrize("error", [RuntimeError("Kernel didn't respond in 60 seconds"), OSError("full")])
def test_kernel_that_does_not_start_is_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever papermill and what it calls may raise."""
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(run.RunError, match=f"{STEM} failed: {type(error).__name__}: {error}"):
        run.run(STEM, {})


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("file", "--to .*/file is a file: name a folder"),
        ("file/deeper", "--to .*/file/deeper: .*/file is a file: name a folder"),
        ("folder", f"--to .*/folder: .*/folder/{STEM} is a file: name a folder"),
    ],
)
def test_file_in_place_of_a_folder_is_one_line(project: Path, to: str, message: str) -> None:
    """Itself, above, or where the chapter's own folder would be; nothing runs."""
    (project / "file").write_text("mine")
    (project / "folder").mkdir()
    (project / "folder" / STEM).write_text("mine")
    with pytest.raises(run.RunError, match=message):
        run.run(STEM, {}, to=project / to)


@pytest.mark.usefixtures("no_kernel")
def test_home_folder_is_found_by_its_sign(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--to=~/trial, which a shell does not expand."""
    monkeypatch.setenv("HOME", str(project / "home"))
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["naaplib.compendium.run", STEM, "--to=~/trial"])
    assert run.main() == 0
    assert (project / "home" / "trial" / STEM / "errors.csv").is_file()
    assert not (project / "~").exists()


def test_published_folder_is_refused_through_a_link(project: Path) -> None:
    """By whichever path it is named."""
    (project / "link").symlink_to(project / "results")
    with pytest.raises(run.RunError, match="is where the published results lie"):
        run.run(STEM, {"n_seeds": "20"}, to=project / "link")


@pytest.mark.usefixtures("no_kernel")
def test_read_only_project_serves_trials(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial elsewhere writes nothing into the project; what is current is said to be so; else it is one line."""
    run_and_say(capsys)
    shutil.rmtree(project / "scratch")
    (project / "scratch").write_text("no folder can be made here")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    assert run_and_say(capsys) == f"{STEM}: current\n"
    run_and_say(capsys, overrides={"n_seeds": "20"}, to=project / "elsewhere")
    assert (project / "elsewhere" / STEM / "errors.csv").is_file()
    monkeypatch.setattr(sys, "argv", ["naaplib.compendium.run", STEM, "--force"])
    assert run.main() == 1
    assert capsys.readouterr().err.startswith("naaplib.compendium.run: [Errno 20] Not a directory: ")


@pytest.mark.parametrize(
    ("text", "value"), [("-1e-3", -1e-3), ("-.5", -0.5), ("-2", -2.0), ("-1_0.5E+2", -1050.0), ("1e-3", 1e-3)]
)
def test_negative_numbers_are_values(
    project: Path, monkeypatch: pytest.MonkeyPatch, text: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not options, however they are written; an option after them is one."""
    found = []
    monkeypatch.setattr(run, "run", lambda *words, **named: found.append((*words, named["force"])))
    monkeypatch.setattr(sys, "argv", ["naaplib.compendium.run", STEM, "-p", "share", text, "--force"])
    assert run.main() == 0
    ((stem, overrides, force),) = found
    assert (stem, force) == (STEM, True)
    assert run.check_parameter(STEM, "share", text=overrides["share"], defaults={"share": 0.5}) == value


def test_parameter_that_no_provenance_can_hold_is_refused(project: Path) -> None:
    """Before the run, not after it."""
    for text in ("{1, 2}", "b'x'", "2j"):
        with pytest.raises(run.RunError, match="must be made of numbers, texts, lists and dictionaries"):
            run.check_parameter(STEM, "any", text=text, defaults={"any": None})
    assert run.check_parameter(STEM, "any", text="{'a': [1, None]}", defaults={"any": None}) == {"a": [1, None]}


def test_interrupted_run_is_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends in words, and in the exit status of shells."""
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(sys, "argv", ["naaplib.compendium.run", STEM])
    assert run.main() == 130
    assert capsys.readouterr().err == "naaplib.compendium.run: stopped; nothing was published\n"


def test_files_are_utf_8_on_every_machine() -> None:
    """Text files are opened in a stated encoding, not in that of the machine's language."""
    pattern = re.compile(r"\.(?:read_text|write_text)\((?![^\n]*encoding=)")
    for name in ("execution", "provenance", "results", "run"):
        assert (
            pattern.findall((run.ROOT / "naaplib" / "compendium" / f"{name}.py").read_text(encoding="utf-8")) == []
        ), name


def test_chapters_that_others_read_come_first(project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chapter that reads another's table is run after it, whatever their numbers."""
    told = {
        "00-first": {"results/07-last/a.csv": "1", "results/records/x/b.csv": "2", "data/c.csv": "3"},
        "03-third": {"results/00-first/d.csv": "4", "results/03-third/e.csv": "5"},
        "07-last": {},
    }
    monkeypatch.setattr(run, "stems", lambda: sorted(told))
    monkeypatch.setattr(provenance, "read", lambda folder: {"reads": told[folder.name]} if told[folder.name] else None)
    assert run.by_dependency() == ["07-last", "00-first", "03-third"]


@pytest.mark.parametrize("n_lines", [3, 30_000])
def test_a_reader_that_leaves_is_no_failure(n_lines: int) -> None:
    """As in ``... | head -1``: nothing is said, whether the rest is already on its way or waits until the end."""
    code = f"""
from naaplib.compendium.execution import command
raise SystemExit(command("trial", lambda: [print("a line") for _ in range({n_lines})] and None))
"""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
