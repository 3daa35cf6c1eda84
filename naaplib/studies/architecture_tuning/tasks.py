"""Benchmarks of architecture tuning: NAS-Bench-201 and NAAP-440, two fidelities."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from naaplib.architectures import cells, graphs
from naaplib.architectures.schemes import Scheme
from naaplib.search.search_space import Encoding
from naaplib.search.tabular_objective import paths
from naaplib.studies.architecture_tuning.searches import Ground
from naaplib.tables import nasbench201

CELL_EPOCHS = (200, 12)
SCHEME_EPOCHS = (90, 9)


def cell_encodings(table: pd.DataFrame) -> list[Encoding]:
    """Encode each of a table's cells by the operations on its six edges.

    Parameters
    ----------
    table : DataFrame
        As `.nasbench201.nasbench201` returns it.
    """
    return [cells.from_string(text) for text in table["architecture"].unique()]


def scheme_encodings(schemes: Sequence[Scheme]) -> list[Encoding]:
    """Encode schemes, one entry per block.

    An entry has kernel size, width, stride, and if the block is residual; it is None where there is no block.
    """
    choices = paths(schemes)
    length = max(map(len, choices))
    return [(*path, *[None] * (length - len(path))) for path in choices]


def of_nasbench201(table: pd.DataFrame, dataset: str, metrics: pd.DataFrame) -> Ground:
    """Return the benchmark of NAS-Bench-201's cells on a dataset.

    A full evaluation is the mean test accuracy after 200 epochs, a cheap one that after 12.

    Parameters
    ----------
    table : DataFrame
        As `.nasbench201.nasbench201` returns it.
    dataset : str
    metrics : DataFrame
        Metrics of `cell_encodings`, by position.
    """
    values = nasbench201.accuracies(table, dataset)
    encodings = cell_encodings(table)
    if len(values) != len(encodings):
        raise ValueError(f"{len(values)} of {len(encodings)} cells have accuracies on {dataset}; all must have them")
    full, cheap = values[200, "mean"].to_numpy(float), values[12, "single"].to_numpy(float)
    drawn = graphs.of_cells([cells.from_string(text) for text in values.index], prune=True)
    return Ground(f"NAS-Bench-201, {dataset}", encodings, full, cheap, CELL_EPOCHS, metrics, drawn)


def of_naap440(table: pd.DataFrame, schemes: Sequence[Scheme], metrics: pd.DataFrame) -> Ground:
    """Return the benchmark of NAAP-440's schemes.

    A full evaluation is the highest accuracy of 90 epochs, a cheap one that after the 9th.

    Parameters
    ----------
    table : DataFrame
        As `.naap440.read` returns it.
    schemes : sequence of Scheme
        All schemes of the space, in its order.
    metrics : DataFrame
        Metrics of the table's `scheme_encodings`, by position.
    """
    own = [schemes[i - 1] for i in table["ModelId"]]
    full, cheap = (table[name].to_numpy(float) for name in ("MaxAccuracy", f"e{SCHEME_EPOCHS[1]}Accuracy"))
    return Ground("NAAP-440", scheme_encodings(own), full, cheap, SCHEME_EPOCHS, metrics, graphs.of_schemes(own))
