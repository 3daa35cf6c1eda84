"""Read the official files of NAS-Bench-101, NDS and NATS-Bench's size space.

The files are too large to come with this project. Whoever has them reads them here without TensorFlow or the
benchmarks' own packages, into the tidy form of `naaplib.tables.nasbench201`.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from naaplib.tables.releases import OPERATIONS
from naaplib.tables.safe_pickle import read_bz2_pickle

DATASETS = {
    "cifar10-valid": "CIFAR-10",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "ImageNet16-120": "ImageNet16-120",
}
EVALUATION = {
    1: "epochs",
    2: "seconds",
    3: "train_accuracy",
    4: "validation_accuracy",
    5: "accuracy",
}  # fields' numbers


def read_nasbench101(path: str | Path) -> pd.DataFrame:
    """Read NAS-Bench-101 from its TFRecord file.

    Parameters
    ----------
    path : path
        ``nasbench_full.tfrecord`` or ``nasbench_only108.tfrecord`` (Ying et al., ICML 2019).

    Returns
    -------
    DataFrame, shape (n_trainings, 10)
        One row per training, in the file's order: architecture and distinct as in
        `naaplib.tables.graph_benchmarks.nasbench101`; dataset ("CIFAR-10"), epochs (4, 12, 36 or 108), runs ("single"),
        seconds (of training), train_accuracy, validation_accuracy, accuracy (all after the last epoch, fractions of
        10,000 images), n_params. A cell with the same number of epochs has three rows.

    Raises
    ------
    ValueError
        If the file is cut short, or a record is not one of the benchmark.

    Examples
    --------
    >>> table = read_nasbench101("nasbench_only108.tfrecord")  # doctest: +SKIP
    >>> table.groupby("distinct")["accuracy"].mean()  # doctest: +SKIP
    """
    rows = []
    for number, record in enumerate(_records(Path(path)), start=1):
        try:
            distinct, epochs, matrix, operations, metrics = json.loads(record)
            facts = list(_fields(base64.b64decode(metrics)))
            final = {EVALUATION[key]: value for key, value in _fields(_all(facts, 1)[-1]) if key in EVALUATION}
            if final.pop("epochs") != epochs:
                raise ValueError(f"it has no evaluation after its {epochs} epochs")
            fixed = {"dataset": "CIFAR-10", "epochs": epochs, "runs": "single"}
            cell = {"architecture": _cell(matrix, operations), "distinct": distinct}
            rows.append(cell | fixed | final | {"n_params": _all(facts, 2)[0]})
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{path}: record {number} is not one of NAS-Bench-101: {error}") from None
    columns = ["architecture", "distinct", "dataset", "epochs", "runs", *list(EVALUATION.values())[1:], "n_params"]
    return pd.DataFrame(rows, columns=columns)


def _cell(matrix: str, operations: str) -> str:
    names = [OPERATIONS[name][0] for name in operations.split(",")]
    n = len(names)
    if len(matrix) != n * n:
        raise ValueError(f"an adjacency matrix of {len(matrix)} entries does not fit {n} operations")
    return "".join(matrix[i * n + j] for i in range(n) for j in range(i + 1, n)) + " " + " ".join(names)


def _records(path: Path) -> Iterator[bytes]:
    """Records of a TFRecord file: length (8 bytes), its checksum (4), content, its checksum (4)."""
    with path.open("rb") as stream:
        while head := stream.read(12):
            size = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
            record = stream.read(size + 4)
            if len(head) < 12 or len(record) < size + 4:
                raise ValueError(f"{path} is cut short: fetch it again")
            yield record[:size]


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of the fields of a protocol buffer: integers, doubles and bytes."""
    value: Any
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
        elif kind == 1:
            value, place = struct.unpack_from("<d", message, place)[0], place + 8
        elif kind == 2:
            size, place = _varint(message, place)
            value, place = message[place : place + size], place + size
        else:
            raise ValueError(f"a field of wire type {kind}")
        yield key >> 3, value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if byte < 128:
            return value, place


def _all(fields: list[tuple[int, Any]], number: int) -> list[Any]:
    return [value for key, value in fields if key == number]


def read_nds(path: str | Path, dataset: str = "CIFAR-10") -> pd.DataFrame:
    """Read a file of the Network Design Spaces (Radosavovic et al., ICCV 2019).

    Parameters
    ----------
    path : path
        JSON file, as ``DARTS.json``, ``ResNet.json`` or ``Amoeba_in.json``.
    dataset : str
        Name of the images: the file does not state it; ``_in`` stands for ImageNet.

    Returns
    -------
    DataFrame, shape (n_networks, 9)
        One row per training, in the file's order: architecture (JSON of the network's settings), distinct (the same),
        dataset, epochs, runs ("single"), accuracy (1 minus the top-1 test error after the last epoch), n_params, macs
        (the file's ``flops``), part ("top" or "mid" in files of two parts, else "").

    Raises
    ------
    ValueError
        If the file is no such file.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    parts = content if isinstance(content, dict) else {"": content}
    rows = []
    for part, networks in parts.items():
        for number, network in enumerate(networks, start=1):
            try:
                text, errors = json.dumps(network["net"], sort_keys=True), network["test_ep_top1"]
                row = {"architecture": text, "distinct": text, "dataset": dataset, "epochs": len(errors)}
                row |= {"runs": "single", "accuracy": round(1 - errors[-1] / 100, 6)}
                rows.append(row | {"n_params": network["params"], "macs": network["flops"], "part": part})
            except (KeyError, IndexError, TypeError) as error:
                raise ValueError(
                    f"{path}: network {number} of part {part!r} is not one of NDS: it lacks {error}"
                ) from None
    columns = ["architecture", "distinct", "dataset", "epochs", "runs", "accuracy", "n_params", "macs", "part"]
    return pd.DataFrame(rows, columns=columns)


def read_nats_size(path: str | Path) -> pd.DataFrame:
    """Read the size space of NATS-Bench (Dong et al., TPAMI 2021).

    Parameters
    ----------
    path : path
        The folder ``NATS-sss-v1_0-50262-simple``, or the file ``NATS-sss-v1_0-50262.pickle.pbz2``.

    Returns
    -------
    DataFrame, shape (n_trainings, 11)
        One row per training, by the benchmark's number of the architecture: architecture (channels, as
        ``"8:8:40:32:40"``), distinct (the same), dataset, trained_on ("half" or "all" of CIFAR-10's training images,
        else "all"), epochs (1, 12 or 90), runs ("single"), seed, validation_accuracy (NaN for CIFAR-10 trained on all
        images), accuracy (test), n_params, macs.

    Raises
    ------
    ValueError
        If a file is damaged or no such file; its pickle cannot run code.
    """
    path = Path(path)
    rows = []
    for name, architecture in _architectures(path):
        try:
            for budget in architecture.values():
                text = budget["arch_str"]
                for (data, seed), one in budget["all_results"].items():
                    seen, last = one["eval_acc1es"], one["epochs"] - 1
                    test = seen[f"{'x-test' if 'x-test' in one['eval_names'] else 'ori-test'}@{last}"]
                    row = {"architecture": text, "distinct": text, "dataset": DATASETS[data]}
                    row |= {"trained_on": "half" if data == "cifar10-valid" else "all", "epochs": one["epochs"]}
                    row |= {"runs": "single", "seed": seed}
                    row["validation_accuracy"] = round(seen.get(f"x-valid@{last}", math.nan) / 100, 6)
                    row["accuracy"] = round(test / 100, 6)
                    rows.append(row | {"n_params": round(one["params"] * 1e6), "macs": round(one["flop"] * 1e6)})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, {name}: not an architecture of NATS-Bench: it lacks {error}") from None
    return pd.DataFrame(rows)


def _architectures(path: Path) -> Iterator[tuple[str, Any]]:
    """Name and stored results of every architecture, by number."""
    if path.is_dir():
        files = sorted(file for file in path.glob("*.pickle.pbz2") if file.name != "meta.pickle.pbz2")
        if not files:
            raise ValueError(f"{path} holds no files of NATS-Bench, as 000000.pickle.pbz2")
        for file in files:
            yield file.name, read_bz2_pickle(file)
        return
    content = read_bz2_pickle(path)
    if not isinstance(content, dict) or not isinstance(content.get("arch2infos"), dict):
        raise ValueError(f"{path} is not the whole file of NATS-Bench's size space: it has no arch2infos")
    for number in sorted(content["arch2infos"]):
        yield f"architecture {number}", content["arch2infos"][number]
