"""Execution of notebooks by papermill, and the clean copy that is published."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from naaplib.sources import WrongData


class RunError(Exception):
    """A run that cannot start or that failed; its message is for the user."""


FAILURES = (RunError, WrongData, OSError)  # a user can fix these; their messages say how


def command(
    name: str,
    work: Callable[[], bool | None],
    *,
    stopped: str = "the same command resumes",
    failures: tuple[type[Exception], ...] = FAILURES,
) -> int:
    """Do the work of a command line; print a failure or an interruption in one line.

    Parameters
    ----------
    name : str
        Command, at the beginning of the line.
    work : callable
        Returns False for a failure that it has reported.
    stopped : str
        Fate of interrupted work.
    failures : tuple of exceptions
        Errors that a user can fix.

    Returns
    -------
    int
        Exit status: 0, 1 for a failure, or 130 for Ctrl-C. 1, without a word, if nobody reads the output any more, as
        in ``... | head -1``.
    """
    if data := os.environ.get("NAAPLIB_DATA"):
        os.environ["NAAPLIB_DATA"] = str(Path(data).expanduser().absolute())  # notebooks run in another folder
    try:
        status = int(work() is False)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python itself flushes at the end
        return 1
    except failures as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: stopped; {stopped}", file=sys.stderr)
        return 130


def execute(
    source: Path, target: Path, *, parameters: dict[str, object], home: Path, env: dict[str, str]
) -> NotebookNode:
    """Execute a notebook as if it lay in `home`, and return the clean copy.

    The terminal shows what the cells write. RunError says how a run failed; `target` then has the cells up to there.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    target.parent.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    terminal = Terminal() if sys.stderr.isatty() else None
    show = {"stdout_file": terminal, "stderr_file": terminal, "progress_bar": terminal is not None}
    before = dict(os.environ)
    env = {"JUPYTER_PREFER_ENV_PATH": "1"} | env  # this environment's kernel, not a user's of the same name
    os.environ |= env | ({"NAAPLIB_PROGRESS": "1"} if terminal else {})
    try:
        with unguessed():
            papermill.execute_notebook(source, target, parameters, cwd=home, kernel_name="python3", **show)
    except PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}"
    except DeadKernelError:
        reason = "its kernel died (out of memory?)"
    except Exception as error:  # a kernel that does not start, a full disk, anything else
        reason = f"{type(error).__name__}: {error}"
    else:
        return clean_copy(nbformat.read(target, as_version=4))
    finally:
        os.environ.clear()
        os.environ.update(before)
    seen = f"; {target} shows the cell and the whole traceback" if target.is_file() else ""
    raise RunError(f"{source.stem} failed: {reason}\nNothing published was touched{seen}.")


@contextmanager
def unguessed() -> Iterator[None]:
    """Silence papermill's guesses about parameters inside the context.

    It reads the parameters cell by lines, takes a text such as "Random Forest (N=200)" for a second assignment, and
    warns that it cannot parse the line and does not know the parameter. `naaplib.compendium.run` has parsed the cell
    and checked them.
    """

    def is_no_guess(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(("Unable to parse line", "Passed unknown parameter"))

    loggers = [logging.getLogger(name) for name in ("papermill", "papermill.translators")]
    for logger in loggers:
        logger.addFilter(is_no_guess)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_no_guess)


class Terminal(io.TextIOBase):
    """Stream that shows the text of cells above papermill's progress bar.

    It clears the bar and draws it again. Bars of cells take its place.
    """

    def write(self, text: str) -> int:
        """Show a text at once."""
        if text.startswith(("\r", "\n")):  # a frame of a bar, and its end
            sys.stderr.write(text)
        else:
            tqdm.write(text, sys.stderr, end="")
        sys.stderr.flush()
        return len(text)


def clean_copy(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook without traces of its run, with injected parameters hidden.

    Traces are those of papermill, of the kernel and of progress bars.
    """
    notebook.metadata = NotebookNode(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            tags = [*tags, "remove-cell"]
        kept = {key: value for key, value in cell.metadata.items() if key not in ("papermill", "execution", "tags")}
        cell.metadata = NotebookNode(kept | ({"tags": tags} if tags else {}))
        if "outputs" in cell:
            cell.outputs = [output for output in map(without_bars, cell.outputs) if output.get("text") != ""]
    return notebook


def without_bars(output: NotebookNode) -> NotebookNode:
    """Remove the frames of progress bars from an output.

    A frame begins with a carriage return. Other text stays.
    """
    if output.output_type == "stream" and output.name == "stderr":
        text = re.sub(r"\r[^\n]*\n?", "", output.text)
        output.text = text if text.strip() else ""
    return output


def with_current_text(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """Return the source's cells with the outputs of a run of the same code.

    Prose can thus be edited without another run.
    """
    fresh = clean_copy(nbformat.from_dict(source))
    cells, runs = ([cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (fresh, executed))
    for cell, run in zip(cells, runs, strict=True):
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    return fresh
