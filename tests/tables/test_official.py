"""Official files of benchmarks: small ones of the same form are read; damaged and foreign ones are refused."""

import base64
import bz2
import json
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from naaplib.tables import official


def varint(value: int) -> bytes:
    """A protocol buffer's integer: seven bits a byte, the lowest first."""
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def evaluation(epochs: float, seconds: float, *accuracies: float) -> bytes:
    """An evaluation of a cell, with a checkpoint's name as its sixth field."""
    doubles = [
        bytes([number << 3 | 1]) + struct.pack("<d", value)
        for number, value in enumerate((epochs, seconds, *accuracies), 1)
    ]
    return b"".join(doubles) + b"\x32" + varint(200) + b"c" * 200


def metrics(*evaluations: bytes, n_params: int = 8_555_530) -> str:
    """Stored measures of a training: evaluations, parameters, seconds in all."""
    message = b"".join(b"\x0a" + varint(len(one)) + one for one in evaluations)
    return base64.b64encode(message + b"\x10" + varint(n_params) + b"\x19" + struct.pack("<d", 2000.0)).decode()


START, HALF = evaluation(0, 0, 0.1, 0.1, 0.1), evaluation(54, 500, 0.9, 0.8, 0.8)
CELL = "0110001100010000", "input,conv3x3-bn-relu,maxpool3x3,output"


def tfrecord(path: Path, *records: object) -> Path:
    """A file of records, each between its length and checksums, which are not looked at."""
    texts = [json.dumps(record).encode() for record in records]
    path.write_bytes(b"".join(struct.pack("<Q", len(text)) + b"sum!" + text + b"sum!" for text in texts))
    return path


def training(epochs: int, *accuracies: float) -> list:
    """A record of a training."""
    return ["a1b2", epochs, *CELL, metrics(START, HALF, evaluation(epochs, 1153.5, *accuracies))]


def test_trainings_of_nasbench101_are_read(tmp_path: Path) -> None:
    """A row has the final evaluation, not the first or the one half-way; the cell's text is that of the other table."""
    path = tfrecord(tmp_path / "a.tfrecord", training(108, 1.0, 0.94, 0.93), training(4, 0.5, 0.4, 0.375))
    table = official.read_nasbench101(path)
    assert table.to_dict("records") == [
        {"architecture": "110111 in c3 mp out", "distinct": "a1b2", "dataset": "CIFAR-10", "epochs": epochs,
         "runs": "single", "seconds": 1153.5, "train_accuracy": a, "validation_accuracy": b,
         "accuracy": c, "n_params": 8_555_530}
        for epochs, a, b, c in [(108, 1.0, 0.94, 0.93), (4, 0.5, 0.4, 0.375)]
    ]  # fmt: skip


@pytest.mark.parametrize("n_bytes", [1, 11, 15, 200])
def test_a_tfrecord_that_is_cut_short_is_refused(n_bytes: int, tmp_path: Path) -> None:
    """Wherever it ends, no record is returned as if the file was whole."""
    path = tfrecord(tmp_path / "a.tfrecord", training(108, 1.0, 0.94, 0.93))
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"a\.tfrecord is cut short: fetch it again"):
        official.read_nasbench101(path)


@pytest.mark.parametrize(
    "record",
    [
        ["a1b2", 108, "011", CELL[1], metrics(evaluation(108, 1, 1, 1, 1))],  # matrix of another size
        ["a1b2", 108, CELL[0], "input,pool,conv,output", metrics(evaluation(108, 1, 1, 1, 1))],
        ["a1b2", 108, *CELL, metrics(START, HALF)],  # not trained to the end
        ["a1b2", 108, *CELL, metrics()],
        ["a1b2", 108, *CELL, "AAA"],
        {"another": "record"},
    ],
)
def test_a_foreign_record_is_refused_by_its_number(record: object, tmp_path: Path) -> None:
    """The message has the place in the file."""
    path = tfrecord(tmp_path / "a.tfrecord", training(108, 1.0, 0.94, 0.93), record)
    with pytest.raises(ValueError, match="record 2 is not one of NAS-Bench-101"):
        official.read_nasbench101(path)


NETWORK = {
    "net": {"genotype": {"normal": [["max_pool_3x3", 0]]}, "width": 16},
    "test_ep_top1": [90.0, 7.25],
    "params": 9e5,
    "flops": 1e8,
}


@pytest.mark.parametrize(
    ("content", "parts"), [([NETWORK], [""]), ({"top": [NETWORK], "mid": [NETWORK] * 2}, ["top", "mid", "mid"])]
)
def test_networks_of_nds_are_read(content: object, parts: list[str], tmp_path: Path) -> None:
    """A file is a list, or has two parts; the accuracy is one minus the last epoch's error."""
    (tmp_path / "a.json").write_text(json.dumps(content))
    table = official.read_nds(tmp_path / "a.json", "ImageNet")
    assert table["part"].tolist() == parts
    assert table["accuracy"].unique().tolist() == [0.9275]
    assert table[["epochs", "n_params", "macs", "dataset"]].iloc[0].tolist() == [2, 9e5, 1e8, "ImageNet"]
    assert json.loads(table.loc[0, "architecture"]) == NETWORK["net"]


def test_a_foreign_json_is_no_nds(tmp_path: Path) -> None:
    """The message names the network and what it lacks."""
    (tmp_path / "a.json").write_text(json.dumps({"top": [NETWORK, {"net": {}}]}))
    with pytest.raises(ValueError, match="network 2 of part 'top' is not one of NDS: it lacks 'test_ep_top1'"):
        official.read_nds(tmp_path / "a.json")


def trained(epochs: int, names: list[str], percent: float) -> OrderedDict:
    """Stored results of one training, accuracies growing by one percent an epoch."""
    seen = {f"{name}@{e}": percent + e + i for i, name in enumerate(names) for e in range(epochs)}
    return OrderedDict(eval_names=names, eval_acc1es=seen, epochs=epochs, params=np.float64(0.011714), flop=4.481114)


def architecture(text: str) -> OrderedDict:
    """Stored results of an architecture after 1 and 12 epochs."""
    results = {
        epochs: OrderedDict({
            ("cifar10-valid", 777): trained(epochs, ["x-valid", "ori-test"], 20.0),
            ("cifar10", 777): trained(epochs, ["ori-test"], 30.0),
            ("cifar100", 888): trained(epochs, ["x-valid", "x-test", "ori-test"], 10.0),
        })
        for epochs in (1, 12)
    }  # fmt: skip
    return OrderedDict({f"{e:02d}": OrderedDict(arch_str=text, all_results=results[e]) for e in (1, 12)})


@pytest.mark.parametrize("whole", [True, False])
def test_trainings_of_the_size_space_are_read(whole: bool, tmp_path: Path) -> None:
    """From the folder or the whole file: the last epoch's accuracies, of the test images that do not validate."""
    made = {0: architecture("8:8:8:8:8"), 3: architecture("8:8:8:8:32")}
    if whole:
        path = tmp_path / "NATS.pickle.pbz2"
        path.write_bytes(bz2.compress(pickle.dumps({"arch2infos": made, "meta_archs": list(made)})))
    else:
        path = tmp_path
        (tmp_path / "meta.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps({"evaluated_indexes": {0, 3}})))
        for number, one in made.items():
            (tmp_path / f"{number:06d}.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(one)))
    table = official.read_nats_size(path)
    assert table["architecture"].tolist() == ["8:8:8:8:8"] * 6 + ["8:8:8:8:32"] * 6
    shown = table.loc[:5, ["dataset", "trained_on", "epochs", "seed", "validation_accuracy", "accuracy"]].fillna(-1.0)
    assert shown.to_numpy().tolist() == [
        ["CIFAR-10", "half", 1, 777, 0.2, 0.21], ["CIFAR-10", "all", 1, 777, -1.0, 0.3],
        ["CIFAR-100", "all", 1, 888, 0.1, 0.11], ["CIFAR-10", "half", 12, 777, 0.31, 0.32],
        ["CIFAR-10", "all", 12, 777, -1.0, 0.41], ["CIFAR-100", "all", 12, 888, 0.21, 0.22],
    ]  # fmt: skip
    assert table[["n_params", "macs"]].iloc[0].tolist() == [11_714, 4_481_114]


def test_a_malicious_benchmark_is_refused(tmp_path: Path) -> None:
    """A pickle that asks for a function is named, and nothing runs."""
    (tmp_path / "000000.pickle.pbz2").write_bytes(bz2.compress(b"cos\nmkdir\n(X\x04\x00\x00\x00evilt."))
    with pytest.raises(ValueError, match=r"its pickle asks for os\.mkdir"):
        official.read_nats_size(tmp_path)


@pytest.mark.parametrize("content", [{"12": {"arch_str": "8"}}, [1, 2], {"12": 3}])
def test_a_foreign_pickle_is_no_architecture(content: object, tmp_path: Path) -> None:
    """The message has the file's name."""
    (tmp_path / "000000.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(content)))
    with pytest.raises(ValueError, match=r"000000\.pickle\.pbz2: not an architecture of NATS-Bench"):
        official.read_nats_size(tmp_path)


def test_an_empty_folder_is_no_benchmark(tmp_path: Path) -> None:
    """Nor is a whole file without results."""
    with pytest.raises(ValueError, match="holds no files of NATS-Bench"):
        official.read_nats_size(tmp_path)
    (tmp_path / "a.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps({"arch2infos": None})))
    with pytest.raises(ValueError, match="it has no arch2infos"):
        official.read_nats_size(tmp_path / "a.pickle.pbz2")
