"""One step of tuning over the 15,625 cells of NAS-Bench-201: `python -m pytest benchmarks/test_tuning.py -s`.

A step fits the ensemble and proposes a full evaluation and eight cheap ones, at the defaults, on one thread. Accuracies
are made up (what they are changes no time). Needs no data; takes a minute. Writes ``tuning.csv``.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures.cells import enumerate_cells
from naaplib.compendium import provenance
from naaplib.search.tuning import Search, SearchSpace, Settings

AFTER = (10, 40, 80)  # full evaluations before the steps
N_STEPS = 5
SECONDS = 2.0  # that a step may take
PATH = Path(__file__).with_name("tuning.csv")


@pytest.fixture(scope="module")
def rows():
    """Rows of the table, which is written at the end."""
    found: list[dict[str, object]] = []
    yield found
    pd.DataFrame(found).to_csv(PATH, index=False, lineterminator="\n")


@pytest.mark.parametrize("acquisition", ["thompson", "expected improvement"])
def test_a_step_takes_less_than_two_seconds(acquisition: str, rows: list[dict[str, object]]) -> None:
    """With the members drawn, as by default, and with all of them, as expected improvement needs them."""
    encodings = enumerate_cells()
    values = dict(zip(encodings, np.random.default_rng(0).random(len(encodings)), strict=True))
    space, settings = SearchSpace("cells", encodings), Settings(acquisition=acquisition)
    search = Search(
        space, values.__getitem__, cost=200, evaluate_cheaply=values.__getitem__, cheap_cost=12, settings=settings
    )
    for after in AFTER:
        spent = search.run(after)["spent"].iloc[-1]
        seconds = []
        for step in range(N_STEPS):
            start = time.perf_counter()
            search.run(spent + 1.48 * (step + 1))
            seconds.append(time.perf_counter() - start)
        told = {"acquisition": acquisition, "after": after, "n_steps": N_STEPS}
        told |= {"median_seconds": round(float(np.median(seconds)), 3), "most_seconds": round(max(seconds), 3)}
        rows.append(told | {"device": f"{provenance.describe_run(0)['device']}, one thread"})
        assert max(seconds) < SECONDS
