"""Tables of NAS-Bench-101, ProxylessNAS and NAS-Bench-NLP.

They have the tidy form of `naaplib.tables.nasbench201`.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
from pathlib import Path

import pandas as pd

from naaplib import sources
from naaplib.tables import derived
from naaplib.tables.safe_pickle import read_object_array

NASBENCH101 = "nasbench101/nasbench101_cells_2500_uniform.csv.gz"
PROXYLESSNAS = {
    "CIFAR-100": "proxylessnas/model_acc_cifar100.npy",
    "Caltech-101": "proxylessnas/model_acc_caltech.npy",
    "Oxford-IIIT Pet": "proxylessnas/model_acc_oxford_pet.npy",
}
N_LAYERS, N_CHOICES = 22, 7  # layers and choices per layer of the ProxylessNAS space
NASBENCH_NLP = "nasbenchnlp/nasbenchnlp_ptb.jsonl.gz"
STATUSES = {"OK": "OK", "loss is nan!": "nan", "Exception: math range error": "overflow"}  # file's word -> ours


def nasbench101(path: Path | None = None) -> pd.DataFrame:
    """Read accuracies of 2,520 cells of NAS-Bench-101 (Ying et al., ICML 2019).

    The whole benchmark has 423,624 cells.

    Parameters
    ----------
    path : Path, optional
        A table with the same columns, to read instead of the known file.

    Returns
    -------
    DataFrame, shape (2520, 7)
        One row a cell, in the file's order. Columns:

        - architecture: the strict upper triangle of the adjacency matrix row by row, then the vertices' operations,
          as in ``"111001 in c3 mp out"``: ``in``, ``c3`` and ``c1`` (convolutions 3x3 and 1x1), ``mp`` (max-pooling
          3x3), ``out``. At most 7 vertices.
        - distinct: the benchmark's hash, equal for isomorphic cells. No two rows share it.
        - dataset, epochs, runs: "CIFAR-10", 108, "single".
        - accuracy: fraction of images, in [0, 1]. Cells that failed to learn are there, near 0.1.
        - uniform: True for the 2,500 cells that the publisher drew from the whole space, False for 20 more, from
          another file of theirs.

    Raises
    ------
    naaplib.sources.MissingData, naaplib.sources.WrongData
        If this machine lacks the file, or has another one.
    ValueError
        If the table lacks columns, or a row is impossible.

    Notes
    -----
    The file does not name the run (of the benchmark's three) or the images; these are probably the test images. The
    publisher is the GenNAS study (Li et al., NeurIPS 2021).
    """
    path = path or derived.find(NASBENCH101)
    frame = pd.read_csv(path, dtype={"adj_upper_bits": str})
    columns = ["source", "module_hash", "adj_upper_bits", "ops", "acc_pct"]
    if missing := [column for column in columns if column not in frame]:
        raise ValueError(f"{path} has no columns {missing}; it has {list(frame)}")
    n_vertices = frame["ops"].str.split().str.len()
    for faulty, what in (
        (frame["adj_upper_bits"].str.len() != n_vertices * (n_vertices - 1) // 2, "not one bit for each pair of ops"),
        (~frame["acc_pct"].between(0, 100), "an accuracy that is no percentage"),  # True for NaN
        (frame["module_hash"].duplicated(), "a cell that was there before"),
    ):
        if faulty.any():
            row = int(faulty.to_numpy().argmax())
            raise ValueError(f"{path}, row {row + 1}, has {what}: {frame.loc[row, columns].to_dict()}")
    return pd.DataFrame(
        {
            "architecture": frame["adj_upper_bits"] + " " + frame["ops"],
            "distinct": frame["module_hash"],
            "dataset": "CIFAR-10",
            "epochs": 108,
            "runs": "single",
            "accuracy": (frame["acc_pct"] / 100).round(6),
            "uniform": frame["source"] == 2500,
        }
    )


def proxylessnas(folder: Path | None = None) -> pd.DataFrame:
    """Read accuracies of networks of the ProxylessNAS space.

    The Neural Predictor replication trained them (2021).

    Parameters
    ----------
    folder : Path, optional
        Folder with files of the same names (``model_acc_cifar100.npy``, ``model_acc_caltech.npy``,
        ``model_acc_oxford_pet.npy``) to read instead of the known ones.

    Returns
    -------
    DataFrame, shape (606, 6)
        86 networks on CIFAR-100, then 288 on Caltech-101, then 232 on Oxford-IIIT Pet, each in the file's order, on
        which the study's split depends. Columns:

        - architecture, distinct: the choices for the 22 layers, as in ``"1 1 0 5 6 5 ..."``: 0 to 5 name an inverted
          bottleneck (kernel size and expansion), 6 leaves the layer out.
        - dataset; epochs: 90; runs: "single".
        - accuracy: fraction of validation images, in [0, 1], rounded to six digits. There are many ties.

    Raises
    ------
    naaplib.sources.MissingData, naaplib.sources.WrongData
        If this machine lacks a file, or has another one.
    ValueError
        If a file is damaged, asks for anything but plain data (see `naaplib.tables.safe_pickle.read_object_array`), or
        holds anything but choices with their accuracy.

    Notes
    -----
    The networks were small and trained on little: on CIFAR-100 10,000 of its images, tested on 5,000.
    """
    frames = []
    for dataset, name in PROXYLESSNAS.items():
        path = folder / Path(name).name if folder else sources.find(name)
        rows = [_network(item, path, i) for i, item in enumerate(read_object_array(path).ravel())]
        frame = pd.DataFrame(rows, columns=["architecture", "accuracy"])
        frames.append(frame.assign(distinct=frame["architecture"], dataset=dataset, epochs=90, runs="single"))
    table = pd.concat(frames, ignore_index=True)
    return table[["architecture", "distinct", "dataset", "epochs", "runs", "accuracy"]]


def _network(item: object, path: Path, position: int) -> tuple[str, float]:
    """Convert an object of the file to text and accuracy."""
    try:
        layers = [int(layer) for layer in item["arch"]]  # type: ignore[index]
        accuracy = float(item["val_acc"])  # type: ignore[index]
    except (TypeError, ValueError, KeyError, IndexError):
        layers, accuracy = [], float("nan")
    if len(layers) != N_LAYERS or not set(layers) <= set(range(N_CHOICES)) or not 0 <= accuracy <= 1:
        raise ValueError(
            f"{path}, object {position + 1}, is {item}; it must have 'arch', {N_LAYERS} numbers "
            f"from 0 to {N_CHOICES - 1}, and 'val_acc', a fraction"
        )
    return " ".join(map(str, layers)), round(accuracy, 6)


def nasbench_nlp(path: Path | None = None) -> pd.DataFrame:
    """Read losses of all 14,322 recurrent cells of NAS-Bench-NLP after every epoch.

    The source is Klyuchnikov et al. (2020).

    Parameters
    ----------
    path : Path, optional
        A file with one JSON object per line, plain or compressed (``.gz``), to read instead of the known one.

    Returns
    -------
    DataFrame, shape (585779, 11)
        One row per run and epoch, runs by model number, their epochs ascending. Columns:

        - architecture: the recipe as compact JSON, ``[["f","linear",["x","h_prev_0"]],...]``: node, operation,
          inputs. No two runs share one.
        - distinct: a hash of the recipe's graph. It is equal for recipes that differ only in names of inner nodes,
          order of nodes, and order of inputs of symmetric operations. There are 12,124 values; up to 37 runs train the
          same cell.
        - dataset: "PTB", Penn Tree Bank; runs: "single".
        - epochs: 1 to 50; fewer if a run diverged.
        - validation_loss, test_loss: mean cross-entropy in nats per token after that epoch, NaN if it was not a number.
        - model: the benchmark's number of the run. 1000000, 1000001, 1000002 are a plain recurrent network, an LSTM
          and a GRU; the others were drawn.
        - status: how the run ended. "OK": after 50 epochs (11,598 runs). "nan": at a loss that is not a number, which
          is the last row of all but four (2,645). "overflow": with the exception that a perplexity is too large for
          a float (79); of these 65 left no record, and have one row, epoch 1, with NaN for losses and seconds.
        - n_params: weights of the whole model.
        - seconds: training time up to that epoch: the run's mean time per epoch times the number of epochs.

    Raises
    ------
    naaplib.sources.MissingData, naaplib.sources.WrongData
        If this machine lacks the file, or has another one.
    ValueError
        If the file is cut short, or a line is not a run.
    """
    path = path or derived.find(NASBENCH_NLP)
    runs, losses, number = [], [], 0
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
            for number, line in enumerate(stream, start=1):  # noqa: B007 - the message below names the line
                run, of_epochs = _run(line)
                runs.append((*run, len(of_epochs)))
                losses += of_epochs
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is cut short or not compressed: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # a cyclic recipe raises RecursionError
        raise ValueError(f"{path}, line {number}, is not a run of NAS-Bench-NLP: {error!r}") from None
    each = pd.DataFrame(
        runs, columns=["architecture", "distinct", "model", "status", "n_params", "sec_per_epoch", "n_epochs"]
    )
    table = each.loc[each.index.repeat(each["n_epochs"])]
    epochs = table.groupby(level=0).cumcount() + 1
    table = table.assign(
        dataset="PTB",
        epochs=epochs,
        runs="single",
        validation_loss=[validation for validation, _ in losses],
        test_loss=[test for _, test in losses],
        seconds=table["sec_per_epoch"] * epochs,
    )
    tidy = ["architecture", "distinct", "dataset", "epochs", "runs", "validation_loss", "test_loss"]
    return table[[*tidy, "model", "status", "n_params", "seconds"]].reset_index(drop=True)


def _run(line: str) -> tuple[tuple[str, str, int, str, int, float], list[tuple[float, float]]]:
    """Parse a line of the file.

    Returns
    -------
    recipe, its graph, model, status, parameters, seconds per epoch; losses of each epoch
    """
    run = json.loads(line)
    pairs = zip(run["val"], run["test"], strict=True)
    losses = [(_number(validation), _number(test)) for validation, test in pairs]
    recipe = json.dumps(run["recipe"], separators=(",", ":"))
    known = (recipe, _graph(run["recipe"]), int(run["id"]), STATUSES[run["status"]], int(run["params"]))
    return (*known, _number(run["sec_per_epoch"])), losses or [(float("nan"), float("nan"))]


def _graph(recipe: list[tuple[str, str, list[str]]]) -> str:
    """Hash a graph, regardless of the names of inner nodes and of order.

    A node is identified by its computation, then by its uses: nodes that compute the same in different places have
    their own weights. Inputs of a blend are ordered; those of a linear map, a sum or a product are not.
    """
    nodes = {node: (operation, inputs) for node, operation, inputs in recipe}
    users: dict[str, list[tuple[str, int]]] = {}
    for node, operation, inputs in recipe:
        for place, source in enumerate(inputs):
            users.setdefault(source, []).append((node, place if operation == "blend" else 0))

    @functools.cache
    def computes(node: str) -> str:
        if node not in nodes:
            return node  # x, or a previous hidden state
        operation, inputs = nodes[node]
        parts = [computes(source) for source in inputs]
        state = node if node.removeprefix("h_new_").isdigit() else ""  # outputs of the cell are identified by name
        return _digest(operation, state, *(parts if operation == "blend" else sorted(parts)))

    @functools.cache
    def goes_to(node: str) -> str:
        return _digest(computes(node), *sorted(f"{place} {goes_to(user)}" for user, place in users.get(node, [])))

    return _digest(*sorted(goes_to(node) for node in nodes))


def _digest(*parts: str) -> str:
    """Short hash of texts in their order."""
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _number(value: float | None) -> float:
    """Convert a number of the file, NaN if it is missing."""
    return float("nan") if value is None else float(value)
