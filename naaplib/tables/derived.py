"""Data files that were derived from a public release and are served nowhere as they are: found, checked, read."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from naaplib import sources

FULL_TESTS = ("nasbench", "nasbench_two", "nlp")  # test sets of which the replication's Table I shows ten points


@dataclass(frozen=True)
class File:
    """A file that somebody derived from what others publish.

    Parameters
    ----------
    sha256 : str
        Hexadecimal checksum of its bytes.
    derived_from : str
        The publication, with its version where it has one.
    licence : str
        SPDX identifier of what that may be used under, or "none stated" where its publisher says nothing.
    """

    sha256: str
    derived_from: str
    licence: str


def _read(table: Path) -> dict[str, File]:
    """Every row of a CSV table with columns name, sha256, derived_from, licence, by name."""
    with table.open(newline="", encoding="utf-8") as stream:
        return {row.pop("name"): File(**row) for row in csv.DictReader(stream)}


FILES = _read(Path(__file__).with_name("derived.csv"))  # data, not code: a further file makes no result out of date


def find(name: str) -> Path:
    """Path of a derived file that this machine has, its bytes checked.

    Parameters
    ----------
    name : str
        A key of `FILES`, as in ``"nasbenchnlp/nasbenchnlp_ptb.jsonl.gz"``.

    Returns
    -------
    Path
        In the first of `naaplib.sources.folders` that has the file.

    Raises
    ------
    naaplib.sources.MissingData
        If no folder has it. It cannot be downloaded as such; `naaplib.tables.derivation.derive` makes it again.
    naaplib.sources.WrongData
        If the first one found has other bytes than expected.
    KeyError
        For a name that is not in `FILES`.
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
    """What the Neural Predictor replication (Trirat and Sawadwuthikul, 2021) stored of its own experiments.

    Parameters
    ----------
    name : str
        "predictions"; "oracle"; or a curve, as the files are called: ``"fig7_np_by_samples"``,
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
        the three data sets whose whole test set is larger), y_true and y_pred: accuracies in percent, for "nlp" losses
        in nats per token. Rows in stored order; split "test" of those three is kept to five decimals, all else to six,
        so that what was one number is found again within 0.00001 only.

        "oracle": columns benchmark, measure ("val_acc", "val_std" and so on, accuracies in percent), value.

        A curve: as the file has it. x (or n_samples, n_plus_k) is the number of models trained, in the files by time
        a number of 1,600 s; averages are running maxima, of losses running minima, in percent or nats per token.

    Raises
    ------
    naaplib.sources.MissingData, naaplib.sources.WrongData
        If this machine lacks a file, or has another one.
    KeyError
        For a name that there is not.
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
    curves = {Path(file).name.split(".")[0]: file for file in FILES if Path(file).name.startswith("fig")}
    if name not in curves:
        raise KeyError(f"nothing stored is called {name!r}; there are: predictions, oracle, {', '.join(curves)}")
    return pd.read_csv(find(curves[name]))
