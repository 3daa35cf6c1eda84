"""Find and check data files that were derived from public releases.

No server offers these files unchanged; `FILES` lists their checksums and sources.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from naaplib import sources

FULL_TESTS = ("nasbench", "nasbench_two", "nlp")  # test sets with ten points in the replication's Table I


@dataclass(frozen=True)
class File:
    """A file that somebody derived from what others publish.

    Parameters
    ----------
    sha256 : str
        Hexadecimal checksum of its bytes.
    derived_from : str
        The publication, with its version if it has one.
    licence : str
        SPDX identifier of its licence, or "none stated" if the publisher states none.
    """

    sha256: str
    derived_from: str
    licence: str


def _read(table: Path) -> dict[str, File]:
    """Read a CSV table with columns name, sha256, derived_from, licence, by name."""
    with table.open(newline="", encoding="utf-8") as stream:
        return {row.pop("name"): File(**row) for row in csv.DictReader(stream)}


FILES = _read(Path(__file__).with_name("derived.csv"))  # data, not code: a further file makes no result out of date
CURVES = {Path(name).name.split(".")[0]: name for name in FILES if Path(name).name.startswith("fig")}  # to their files


def find(name: str) -> Path:
    """Find a derived file on this machine and check its bytes.

    Parameters
    ----------
    name : str
        A key of `FILES`, as in ``"nasbenchnlp/nasbenchnlp_ptb.jsonl.gz"``.

    Returns
    -------
    Path
        Path in the first of `naaplib.sources.folders` that has the file.

    Raises
    ------
    naaplib.sources.MissingData
        If no folder has it. It cannot be downloaded; `naaplib.tables.derivation.derive` makes it again.
    naaplib.sources.WrongData
        If the first file found has other bytes than expected.
    KeyError
        If the name is not in `FILES`.
    """
    if name not in FILES:
        raise KeyError(f"no derived data file is called {name!r}; there are: {', '.join(FILES)}")
    file = FILES[name]
    for path in (folder / name for folder in sources.folders()):
        if path.is_file():
            if (actual := sources.sha256(path)) != file.sha256:
                raise sources.WrongData(
                    f"{path} is not the expected file: its SHA-256 is {actual}, expected {file.sha256}. "
                    f"It was derived from {file.derived_from}; put the right copy in its place."
                )
            return path
    looked = " or ".join(str(folder / name) for folder in sources.folders())
    raise sources.MissingData(
        f"{name} is not on this machine: looked for {looked}. It cannot be downloaded as such: it was derived from "
        f"{file.derived_from}. Put a copy there, or let NAAPLIB_DATA point at a folder that has it."
    )


def stored(name: str, path: Path | None = None) -> pd.DataFrame:
    """Read results that the Neural Predictor replication stored.

    The source is Trirat and Sawadwuthikul (2021).

    Parameters
    ----------
    name : str
        "predictions"; "oracle"; or a curve, by its file name: ``"fig7_np_by_samples"``,
        ``"fig7_np_by_time"``, ``"fig7_np2_by_time"``, ``"fig7_random_by_samples"``, ``"fig7_random_by_time"``,
        ``"fig10_11_random_2000"``, ``"fig10_by_samples"``, ``"fig10_by_time"``, ``"fig11_by_samples"``,
        ``"fig11_by_time"``, ``"fig13_nlp_np_by_samples"``, ``"fig13_nlp_random_by_samples"``.
    path : Path, optional
        A CSV file with the same columns to read instead.

    Returns
    -------
    DataFrame
        "predictions": columns dataset ("nasbench", "nasbench_two" with the classifier before it, "cifar100",
        "caltech", "oxford", "nlp"), split ("train", "val", "test", and "test_10", the ten test points of Table I for
        the three datasets whose whole test set is larger), y_true and y_pred: accuracies in percent, for "nlp" losses
        in nats per token. Rows are in stored order. Split "test" of those three has five decimals, the others six, so
        that equal numbers may differ by 0.00001.

        "oracle": columns benchmark, measure ("val_acc", "val_std" and so on, accuracies in percent), value.

        A curve: the columns of the file. x (or n_samples, n_plus_k) is the number of trained models, or in files by
        time the time in units of 1,600 s. Averages are running maxima in percent, or running minima of losses in nats
        per token.

    Raises
    ------
    naaplib.sources.MissingData, naaplib.sources.WrongData
        If this machine lacks a file, or has another one.
    KeyError
        If the name is not one of these.
    """
    if path is not None:
        return pd.read_csv(path)
    if name == "predictions":
        small = pd.read_csv(find("neural_predictor/predictions_small.csv")).drop(columns="index")
        full = [
            pd.read_csv(find(f"neural_predictor/predictions_{dataset}_test.csv.gz")).assign(
                dataset=dataset, split="test"
            )
            for dataset in FULL_TESTS
        ]
        table = pd.concat([small, *full], ignore_index=True)
        return table[["dataset", "split", "y_true", "y_pred"]]
    if name == "oracle":
        values = json.loads(find("neural_predictor/oracle.json").read_text())
        rows = [(benchmark, *measure) for benchmark, measures in values.items() for measure in measures.items()]
        return pd.DataFrame(rows, columns=["benchmark", "measure", "value"])
    if name not in CURVES:
        raise KeyError(f"nothing stored is called {name!r}; there are: predictions, oracle, {', '.join(CURVES)}")
    return pd.read_csv(find(CURVES[name]))
