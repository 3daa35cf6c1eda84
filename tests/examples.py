"""Examples of README and of pages: blocks of Python, each followed by a block of what it prints."""

import re
import runpy
from pathlib import Path

import pytest

from naaplib import sources


def find(text: str) -> list[tuple[str, str]]:
    """Code and output of every example of a text."""
    return re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)


def check(example: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run an example in the working folder: it prints its output, where "..." stands for any text.

    Code that reads NAAP-440 is skipped where that is missing.
    """
    code, output = example
    if "naap440" in code:
        try:
            sources.find("naap440/naap440.csv")
        except sources.MissingData as missing:
            pytest.skip(str(missing))
    Path("example.py").write_text(code)
    runpy.run_path("example.py", run_name="__main__")
    pattern = re.escape(output).replace(re.escape("..."), ".*")
    printed = capsys.readouterr().out
    assert re.fullmatch(pattern, printed), printed
