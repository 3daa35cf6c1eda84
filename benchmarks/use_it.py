"""Run the tasks of the page "Use it on your own networks", and write their pictures and times.

``python benchmarks/use_it.py`` runs each block of code in an empty folder and a process of its own, copies its picture
into book/use-it/, and writes ``use-it.csv``: the task, its seconds, and what they were measured on.
"""

import csv
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from naaplib.compendium import provenance

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    tasks = (ROOT / "book" / "use-it.md").read_text().split("\n## ")[1:]
    here = provenance.describe_run(0.0)
    rows = []
    for task in tasks:
        title, _, text = task.partition("\n")
        (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "task.py").write_text(code)
            start = time.perf_counter()
            subprocess.run([sys.executable, "task.py"], cwd=folder, check=True)
            seconds = time.perf_counter() - start
            for picture in Path(folder).glob("*.svg"):
                shutil.copy(picture, ROOT / "book" / "use-it" / picture.name)
        rows.append({"task": title, "seconds": round(seconds, 1), "device": here["device"], "n_cores": here["n_cores"]})
        print(rows[-1])
    with (ROOT / "benchmarks" / "use-it.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
