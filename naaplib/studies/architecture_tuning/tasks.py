"""Benchmarks of architecture tuning: NAS-Bench-201 and NAAP-440, two fidelities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from naaplib.architectures import cells, graphs, scheme_networks, tuning_spaces
from naaplib.architectures.schemes import Scheme, enumerate_schemes
from naaplib.estimators import graf
from naaplib.search.search_space import Encoding
from naaplib.search.tabular_objective import paths
from naaplib.sources import ROOT, find
from naaplib.studies.architecture_tuning.searches import Benchmark
from naaplib.tables import naap440, nasbench201

NAAP440, NASBENCH201 = "NAAP-440", "NAS-Bench-201"
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


def of_nasbench201(table: pd.DataFrame, dataset: str, *, metrics: pd.DataFrame) -> Benchmark:
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
    named = [cells.from_string(text) for text in values.index]
    return Benchmark(
        f"NAS-Bench-201, {dataset}",
        encodings,
        full=full,
        cheap=cheap,
        costs=CELL_EPOCHS,
        metrics=metrics,
        graphs=graphs.of_cells(named, prune=True),
        graph_features=graf.of_cells(named, prune=True),
    )


def of_naap440(table: pd.DataFrame, schemes: Sequence[Scheme], *, metrics: pd.DataFrame) -> Benchmark:
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
    return Benchmark(
        "NAAP-440",
        scheme_encodings(own),
        full=full,
        cheap=cheap,
        costs=SCHEME_EPOCHS,
        metrics=metrics,
        graphs=graphs.of_schemes(own),
        graph_features=graf.of_schemes(own),
    )


def full_name(name: str) -> str:
    """Return a benchmark's name: "NAAP-440", or NAS-Bench-201 with its dataset."""
    return name if name == NAAP440 else f"{NASBENCH201}, {name}"


def cell_files(files: Mapping[str, str]) -> list[Path]:
    """Return the files of NAS-Bench-201, or the one that a notebook's parameter names."""
    own = files[NASBENCH201]
    return [ROOT / own] if own else [find(name) for name in nasbench201.NASBENCH201]


def cell_table(files: Mapping[str, str]) -> pd.DataFrame:
    """Read what cells reached, as `.nasbench201.nasbench201` returns it."""
    return pd.read_csv(ROOT / files[NASBENCH201]) if files[NASBENCH201] else nasbench201.nasbench201()


def own_schemes(source: str) -> list[Scheme]:
    """Return the schemes of a NAAP-440 table, in its order."""
    listed = enumerate_schemes()
    return [listed[i - 1] for i in naap440.read(naap440.find(source))["ModelId"]]


def spaces(source: str, files: Mapping[str, str]) -> dict[str, tuple[Sequence[Encoding], Callable[[Any], nn.Module]]]:
    """Return the encodings of each space that is measured, and what builds a network."""
    schemes = own_schemes(source)
    encodings = scheme_encodings(schemes)
    scheme_of = dict(zip(encodings, schemes, strict=True))
    return {
        NASBENCH201: (cell_encodings(cell_table(files)), cells.build),
        NAAP440: (encodings, partial(_build, scheme_of)),
        "MobileOne": (tuning_spaces.mobileone_encodings(), tuning_spaces.build_mobileone),
        "hybrid": (tuning_spaces.hybrid_encodings(), tuning_spaces.build_hybrid),
    }


def benchmark(name: str, source: str, *, files: Mapping[str, str], metrics: pd.DataFrame) -> Benchmark:
    """Return the benchmark of NAAP-440, or of NAS-Bench-201 on a dataset."""
    if name == NAAP440:
        return of_naap440(naap440.read(naap440.find(source)), enumerate_schemes(), metrics=metrics)
    return of_nasbench201(cell_table(files), name, metrics=metrics)


def _build(scheme_of: Mapping[Encoding, Scheme], encoding: Encoding) -> nn.Module:
    return scheme_networks.build(scheme_of[encoding])
