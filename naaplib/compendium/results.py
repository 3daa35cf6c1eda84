"""Folder of a notebook's results, and the format of tables, figures and answer."""

from __future__ import annotations

import html
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from naaplib.sources import ROOT, folders, sha256

__all__ = ["ROOT", "Folder", "compare", "format_cells", "label", "sha256"]

Digits = int | Mapping[str, int]


def label(path: Path) -> str:
    """Return a file's name on every machine.

    That is ``data/...`` for a file of a data folder, else its path in the project.
    """
    named, path = Path(path).absolute(), Path(path).resolve()
    for folder in folders():  # a link in a data folder is named by its place there, not by what it leads to
        for own, base in ((named, folder.absolute()), (path, folder.resolve())):
            if own.is_relative_to(base):
                return f"data/{own.relative_to(base).as_posix()}"
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def format_cells(frame: pd.DataFrame, digits: Digits = 4) -> pd.DataFrame:
    """Format every cell as text, in the book's format.

    Parameters
    ----------
    frame : DataFrame, shape (n_rows, n_columns)
    digits : int or mapping from column name to int
        Decimals of floating-point columns, 4 for a column that a mapping leaves out. Missing values become "",
        and what rounds to zero has no sign.

    Returns
    -------
    DataFrame of str, same shape, index and columns

    Examples
    --------
    >>> format_cells(pd.DataFrame({"epoch": [1, 2, 3], "change": [0.5, None, -1e-9]}), digits=2).to_numpy().tolist()
    [['1', '0.50'], ['2', ''], ['3', '0.00']]
    """
    if isinstance(digits, Mapping) and (unknown := sorted(set(digits) - set(frame.columns))):
        raise ValueError(f"digits name columns that the table does not have: {unknown}; it has {list(frame.columns)}")

    def text(name: str, value: object) -> str:
        if pd.isna(value):
            return ""
        if isinstance(value, float):
            return f"{value:z.{digits.get(name, 4) if isinstance(digits, Mapping) else digits}f}"
        return str(value)

    columns = {name: [text(name, value) for value in frame[name]] for name in frame.columns}
    return pd.DataFrame(columns, index=frame.index, columns=frame.columns)


class Folder:
    """The folder into which one notebook writes, with a record of what it read.

    `naaplib.compendium.run` makes it a scratch folder, which becomes ``results/<stem>`` once the whole notebook has
    succeeded. In a notebook opened by hand or by nbval it is ``build/notebooks/<stem>``. It starts empty.

    Parameters
    ----------
    stem : str
        The notebook's name without extension, as in ``"05-baselines"``.
    reads : iterable of paths
        Files that the results depend on; their SHA-256 goes into the provenance.
    """

    def __init__(self, stem: str, reads: Iterable[Path] = ()) -> None:
        self.stem = stem
        self.path = Path(os.environ.get("NAAPLIB_OUT") or ROOT / "build" / "notebooks" / stem)
        self.link = os.environ.get("NAAPLIB_LINK") or Path(os.path.relpath(self.path, Path.cwd())).as_posix()
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / "record.json").is_file():
            raise FileExistsError(f"{self.path} holds files that no notebook wrote, and would be emptied: move them")
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        self._record: dict[str, dict] = {"reads": {label(path): sha256(path) for path in reads}, "tolerances": {}}
        self._save_record()

    def _save_record(self) -> None:
        (self.path / "record.json").write_text(json.dumps(self._record), encoding="utf-8")

    def _new_file(self, name: str) -> Path:
        path = self.path / name
        if path.exists():
            raise FileExistsError(
                f"{name} was written before in this run of {self.stem}: give the second one another name"
            )
        return path

    def _links(self, csv: str | None) -> str:
        notebook = Path(os.path.relpath(ROOT / "notebooks" / f"{self.stem}.ipynb", Path.cwd())).as_posix()
        data = f"[Data (CSV)]({self.link}/{csv}.csv) · " if csv else ""
        return f"{data}[Notebook]({notebook})"

    def write_table(
        self, frame: pd.DataFrame, name: str, *, digits: Digits = 4, tolerance: Mapping[str, float | None] | None = None
    ) -> None:
        """Write ``<name>.csv`` without the index, in the frame's order.

        Parameters
        ----------
        frame : DataFrame, shape (n_rows, n_columns)
            Sorted by its key, so that the diff of a re-run is short.
        name : str
            File name without extension.
        digits : int or mapping
            As in `format_cells`.
        tolerance : mapping from column name to float or None, optional
            Largest difference that `compare` allows a re-run on another machine, in the column's unit. None: the column
            is not compared, because it follows from others. A column without a tolerance must be identical.
        """
        format_cells(frame, digits).to_csv(self._new_file(f"{name}.csv"), index=False, lineterminator="\n")
        if tolerance:
            if unknown := sorted(set(tolerance) - set(frame.columns)):
                raise ValueError(f"tolerance names columns that {name} does not have: {unknown}")
            self._record["tolerances"][f"{name}.csv"] = dict(tolerance)
            self._save_record()

    def show_table(self, frame: pd.DataFrame, caption: str, *, csv: str | None = None, digits: Digits = 4) -> None:
        """Display a table with its caption; its first column names the rows.

        `csv` is the file that has the whole table. Underscores in column names become spaces; True and False become yes
        and no.
        """
        cells = format_cells(frame, digits).replace({"True": "yes", "False": "no"})
        numeric = [cells[name].str.fullmatch(r"-?[\d.]*").all() for name in frame.columns]

        def tag(name: str, text: str, number: bool, scope: str = "") -> str:
            attributes = (f' scope="{scope}"' if scope else "") + (' class="number"' if number else "")
            return f"<{name}{attributes}>{html.escape(text)}</{name}>"

        head = "".join(
            tag("th", str(name).replace("_", " "), number, "col")
            for name, number in zip(frame.columns, numeric, strict=True)
        )
        rows = "\n".join(
            "<tr>" + tag("th", row[0], numeric[0], "row")
            + "".join(tag("td", text, number) for text, number in zip(row[1:], numeric[1:], strict=True)) + "</tr>"
            for row in cells.itertuples(index=False, name=None)
        )  # fmt: skip
        display(Markdown(
            f'<div class="table-scroll" role="region" tabindex="0" aria-label="{html.escape(caption)}">\n'
            f'<table class="naap-table">\n<caption>{html.escape(caption)}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n\n{self._links(csv)}"
        ))  # fmt: skip

    def write_figure(
        self,
        figure: Figure,
        name: str,
        *,
        data: pd.DataFrame,
        caption: str,
        alt: str,
        digits: Digits = 4,
        tolerance: Mapping[str, float | None] | None = None,
    ) -> None:
        """Write ``<name>.svg`` and the table behind it, ``<name>.csv``, and display it.

        Parameters
        ----------
        figure : matplotlib Figure
            Closed afterwards.
        name : str
            File name without extension.
        data : DataFrame
            Table behind the figure, sorted by its key.
        caption : str
            One Markdown paragraph that states n.
        alt : str
            Alternative text for readers who do not see the figure: one line, plain text.
        digits, tolerance
            As in `write_table`, for the table behind the figure.
        """
        if "\n" in alt or "[" in alt or "]" in alt:
            raise ValueError(f"the alternative text of {name} must be one line without square brackets, not {alt!r}")
        self.write_table(data, name, digits=digits, tolerance=tolerance)
        with plt.rc_context({"svg.hashsalt": f"{self.stem}/{name}"}):  # so that identical runs write identical files
            figure.savefig(self._new_file(f"{name}.svg"), metadata={"Date": None, "Creator": None})
        plt.close(figure)
        display(Markdown(f"![{alt}]({self.link}/{name}.svg)\n\n*{caption}* {self._links(name)}"))

    def write_answer(self, answer: str, *further: str) -> None:
        """Write ``answer.md``, the answer in one to three sentences.

        The book shows it at the top of the chapter. Further findings become items of a list under it; "" is none.
        """
        items = [f"- {text.strip()}\n" for text in further if text]
        markdown = answer.strip() + "\n" + ("\n" + "".join(items) if items else "")
        self._new_file("answer.md").write_text(markdown, encoding="utf-8")


def compare(old: Path, new: Path, *, tolerance: Mapping[str, float | None] | None = None) -> tuple[str, str]:
    """Compare a re-made table with the one that it should equal.

    Parameters
    ----------
    old, new : Path
        Two CSV files in the book's format. Their first column names rows in the message.
    tolerance : mapping from column name to float or None
        Largest absolute difference by column, inclusive. Columns without a tolerance must be identical; None marks
        columns that are not compared, because they follow from others.

    Returns
    -------
    verdict : {"identical", "within tolerance", "different"}
    where : str
        The largest difference, or the first structural one; "" for identical files.
    """
    if not new.exists():
        return "different", "not written"
    if old.read_bytes() == new.read_bytes():
        return "identical", ""
    before, after = (pd.read_csv(path, keep_default_na=False, dtype=str) for path in (old, new))
    if list(before.columns) != list(after.columns):
        return "different", f"columns {list(before.columns)} became {list(after.columns)}"
    if len(before) != len(after):
        return "different", f"{len(before)} rows became {len(after)}"
    differences = [(False, 0.0, "")]
    for name in before.columns:
        allowed = (tolerance or {}).get(name, 0.0)
        if allowed is None:
            continue
        for row in before.index[before[name] != after[name]]:
            a, b = before.loc[row, name], after.loc[row, name]
            try:
                gap = abs(float(a) - float(b))
            except ValueError:
                gap = float("inf")
            where = f"{name}, row {row + 1} ({before.iloc[row, 0]}): {a} became {b}, allowed {allowed:g}"
            # Decimal text read as binary floats: a gap of exactly the tolerance must pass.
            differences.append((not gap <= allowed + 1e-9, gap, where))  # NaN fails
    excess, _, where = max(differences, key=lambda difference: difference[:2])
    return "different" if excess else "within tolerance", where
