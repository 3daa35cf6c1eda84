"""Helpers of the command ``naaplib``: import by name, read curves, draw, print."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import naaplib

STOPPED = 130  # exit status after Ctrl-C, as shells have it


class Misused(click.ClickException):
    """A wrong command line; exit status 2."""

    exit_code = 2


class OneLine(click.Group):
    """Group of commands whose errors are one line, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; `--traceback` shows where an error comes from."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            place = error.ctx.command_path if error.ctx else "naaplib"
            raise Misused(f"{error.format_message()} ({place} --help)") from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("naaplib: stopped", err=True)
            ctx.exit(STOPPED)
        except Exception as error:
            if ctx.params.get("traceback"):
                raise
            text = " ".join(str(error).split()) or "no message; --traceback shows where"
            kind = "" if isinstance(error, ValueError | OSError | ImportError) else f"{type(error).__name__}: "
            raise click.ClickException(f"{kind}{text}") from None


def loaded(spec: str) -> Any:
    """Import "module:name" or "file.py:name", also from the working directory."""
    module, _, name = spec.rpartition(":")
    if not module or not name:
        raise click.ClickException(f"{spec} must be module:name, or file.py:name")
    sys.path.insert(0, str(Path.cwd()))
    try:
        if module.endswith(".py"):
            path = Path(module).absolute()
            place = importlib.util.spec_from_file_location(path.stem, path)
            if place is None or place.loader is None or not path.is_file():
                raise click.ClickException(f"{spec}: there is no file {module}")
            found = importlib.util.module_from_spec(place)
            sys.modules[path.stem] = found  # so that what it defines can be pickled
            place.loader.exec_module(found)
        else:
            found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{spec}: there is no module {error.name}") from None
    finally:
        sys.path.remove(str(Path.cwd()))
    for part in name.split("."):
        if not hasattr(found, part):
            raise click.ClickException(f"{spec}: {module} has no {part}")
        found = getattr(found, part)
    return found


def collected(texts: Sequence[str], named: Callable[[Any], dict[str, Any]] | None = None) -> dict[str, Any]:
    """Load what texts name, and merge it.

    A text with a colon, or of a file whose name is forgotten, is loaded; another stands for itself. `named` makes
    mappings of what was found; without it, classes are called, and the text is the name.
    """
    found: dict[str, Any] = {}
    for text in texts:
        one = loaded(text) if ":" in text or text.endswith(".py") else text
        if named is not None:
            more = named(one)
        else:
            more = one if isinstance(one, dict) else {text: one() if isinstance(one, type) else one}
        for name in more:
            if name in found and found[name] is not more[name] and found[name] != more[name]:
                raise click.ClickException(f"two of them are called {name!r}: give one of them another name")
        found |= more
    return found


def offered(name: str) -> Any:
    """Return a name of the front door, or end in one line."""
    if name not in naaplib.FRONT_DOOR:
        raise click.ClickException(f"this version of naaplib has no {name}")
    return getattr(naaplib, name)


def read_curves(path: str) -> Any:
    """Read learning curves: name and epochs, or name, epoch and accuracy."""
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise click.ClickException(
            f"{path} is no table of learning curves: {error}. It must be CSV text in UTF-8, with commas: a name and "
            f"one column per epoch, or name, epoch and accuracy"
        ) from None
    if table.shape[1] < 2:
        raise click.ClickException(
            f"{path} has one column, {table.columns[0]!r}; a name and epochs must be separated by commas, and numbers "
            f"have a decimal point"
        )
    if {"epoch", "accuracy"} <= set(table):
        return table
    wide = table.set_index(table.columns[0])
    if wide.index.has_duplicates:
        name = wide.index[wide.index.duplicated()][0]
        raise click.ClickException(f"{path}: two trainings are called {name!r}; give one of them another name")
    return wide


def read_space(path: str) -> Any:
    """Read a space from JSON: options of each block, or else a list of schemes."""
    from naaplib.architectures.schemes import BlockOptions, Space

    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise click.ClickException(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        return path
    try:
        return Space(**found | {"blocks": tuple(BlockOptions(**one) for one in found["blocks"])})
    except (TypeError, KeyError) as error:
        raise click.ClickException(
            f"{path}: a space has blocks (kernel_sizes, widths, strides, residuals), min_blocks, max_strided: {error}"
        ) from None


def can_be_written(*given: Any) -> str | None:
    """Refuse a file that cannot be written, before the work that fills it."""
    _, option, path = given  # as click calls it
    if path is None:
        return None
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise click.BadParameter(f"there is no folder {folder}: make it, or name another file")
    if not os.access(path if Path(path).exists() else folder, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written: name another file")
    if option.name == "figure":
        from matplotlib.backend_bases import FigureCanvasBase

        known = FigureCanvasBase.get_supported_filetypes()
        if Path(path).suffix[1:].lower() not in known:
            raise click.BadParameter(f"{path} must end in the name of a format, as in .png; known: {', '.join(known)}")
    return path


def draw(path: str | None, plot: Any) -> None:
    """Draw a figure into a file, if one is named."""
    if path is not None:
        import matplotlib as mpl

        mpl.use("agg")
        plot().figure.savefig(path)
        click.echo(f"figure: {path}", err=True)


def show_json(table: Any) -> None:
    """Print a table as a list of objects; NaN is null."""
    click.echo(table.to_json(orient="records"))


def show_ranking(table: Any) -> None:
    """Print one row a model, best first, and the reason for each missing score."""
    scores = list(dict.fromkeys(table["by"]))
    first = table[table["by"] == scores[0]]
    wide = first[["rank", "model"]].copy()
    for score in scores:
        wide[score] = first["model"].map(table[table["by"] == score].set_index("model")["score"]).map(number)
    wide["seconds"] = first["model"].map(table.groupby("model")["seconds"].sum()).map("{:.1f}".format)
    wide["rank"] = wide["rank"].astype(object).where(wide["rank"].notna(), "-")
    click.echo(wide.to_string(index=False))
    for row in table[table["reason"] != ""].itertuples():
        click.echo(f"{row.model} has no {row.by}: {row.reason}", err=True)


def number(value: float) -> str:
    """Format a score: whole numbers with thousands separated, others with 4 digits."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.4g}"
