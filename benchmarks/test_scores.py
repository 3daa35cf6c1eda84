"""NAS-WOT of this library and as its reference code computes it: `python -m pytest benchmarks/test_scores.py -s`.

The reference's way is restated here: a hook on every ReLU module turns its input into ones and zeros, multiplies them
with their transpose, once where they are on and once where they are off, and adds both to a matrix of numpy, while the
network records gradients; numpy's determinant at the end. With `reached only`, a pass before it, forward and backward,
marks the ReLUs that the gradient reaches.

Four cells of NAS-Bench-201, from one convolution to all, and four of the NAAP-440 schemes, at batch 128 of noise, on a
CPU with one thread. Both ways take turns in rounds, so that what else the machine does hits both alike; CPU seconds
are compared. Memory is what torch allocates at most, in a run of its own. Needs no data; takes some two minutes.
Writes ``scores.csv``.
"""

import csv
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from untrained import memory

from naaplib.architectures import cells, scheme_networks
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.compendium import provenance
from naaplib.estimators.proxies import scores as proxies
from naaplib.parallel import one_thread

ROUNDS = (1, 2, 3)
N_IMAGES = 128
CELLS = {
    "1 conv": ("nor_conv_1x1", *["none"] * 5),
    "2 convs": ("nor_conv_3x3", "skip_connect", "avg_pool_3x3", "none", "nor_conv_1x1", "skip_connect"),
    "4 convs": ("nor_conv_3x3", "nor_conv_1x1", "skip_connect", "nor_conv_3x3", "avg_pool_3x3", "nor_conv_1x1"),
    "6 convs": ("nor_conv_3x3",) * 6,
}
MAKERS: dict[str, Callable[[], nn.Module]] = {
    **{f"cell, {name}": partial(cells.build, cell) for name, cell in CELLS.items()},
    **{f"scheme {i}": partial(scheme_networks.build, enumerate_schemes()[i - 1]) for i in (1, 147, 293, 440)},
}
N_TIMES = {name: 1 if name.startswith("cell") else 20 for name in MAKERS}  # schemes take some milliseconds
PATH = Path(__file__).with_name("scores.csv")


def score_as_reference(network: nn.Module, images: Tensor, reached_only: bool = False) -> float:
    """NAS-WOT by hooks on modules, of a network in training mode."""
    kernel = np.zeros((len(images), len(images)))
    relus = [module for module in network.modules() if "ReLU" in type(module).__name__]
    if reached_only:
        reached: list[nn.Module] = []
        handles = [relu.register_full_backward_hook(lambda module, *_: reached.append(module)) for relu in relus]
        output = network(images.clone().requires_grad_())
        output.backward(torch.ones_like(output))
        network.zero_grad()
        for handle in handles:
            handle.remove()
        relus = list(set(reached))

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal kernel
        on = (inputs[0].view(len(images), -1) > 0).float()
        off = 1 - on
        kernel = kernel + (on @ on.T).numpy() + (off @ off.T).numpy()

    handles = [relu.register_forward_hook(add) for relu in relus]
    network(images)
    for handle in handles:
        handle.remove()
    return float(np.linalg.slogdet(kernel)[1])


def score(network: nn.Module, images: Tensor, reached_only: bool = False) -> float:
    return proxies.nas_wot(network, images, reached_only=reached_only).value


WAYS = {"reference": score_as_reference, "library": score}
VARIANTS = ("all ReLUs", "reached only")


@pytest.fixture(scope="module")
def runs() -> list[dict]:
    """A row for each network, variant and round, after one call of each way, which tells its memory."""
    rows: list[dict] = []
    images = torch.randn(N_IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with one_thread(), torch.random.fork_rng():
        torch.manual_seed(1)
        for name, make in MAKERS.items():
            network = make()
            for reached_only in (False, True):
                mib = {
                    f"{way}_memory_mib": memory(partial(function, network, images, reached_only))[0] / 2**20
                    for way, function in WAYS.items()
                }
                for i in ROUNDS:
                    seconds, scores = {}, {}
                    for way, function in WAYS.items():
                        start = time.process_time()
                        for _ in range(N_TIMES[name]):
                            scores[way] = function(network, images, reached_only)
                        seconds[f"{way}_cpu_seconds"] = (time.process_time() - start) / N_TIMES[name]
                    ratio = seconds["reference_cpu_seconds"] / seconds["library_cpu_seconds"]
                    mark = {"network": name, "variant": VARIANTS[reached_only], "round": i}
                    rows.append(mark | seconds | {"ratio": ratio} | mib | {"scores": scores})
    write(rows)
    return rows


def write(rows: list[dict]) -> None:
    """Rows of other devices stay."""
    here = provenance.describe_run(0)
    device = f"{here['device']}, one thread"
    kept = []
    if PATH.is_file():
        with PATH.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if row["device"] != device]
    digits = {"cpu_seconds": 5, "ratio": 2, "memory_mib": 1}
    for row in rows:
        ended = {
            name: f"{value:.{digits[name.partition('_')[2] or name]}f}" if isinstance(value, float) else value
            for name, value in row.items()
            if name != "scores"
        }
        kept.append(ended | {"device": device, "n_cores": here["n_cores"], "torch": torch.__version__})
    with PATH.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)


def gain(rows: list[dict], kind: str, variant: str) -> float:
    """How many times as fast this library scores all networks of a kind; the median of the rounds."""
    rows = [row for row in rows if row["network"].startswith(kind) and row["variant"] == variant]
    rounds = []
    for i in ROUNDS:
        sums = [sum(row[f"{way}_cpu_seconds"] for row in rows if row["round"] == i) for way in WAYS]
        rounds.append(sums[0] / sums[1])
    by_name = {row["network"]: [other["ratio"] for other in rows if other["network"] == row["network"]] for row in rows}
    medians = ", ".join(f"{name} {statistics.median(ratios):.2f}" for name, ratios in by_name.items())
    print(f"\n{variant}: {statistics.median(rounds):.2f} times; {medians}")
    return statistics.median(rounds)


def test_scores_are_the_same(runs: list[dict]) -> None:
    """Both ways give one number, but for units whose input is within rounding of 0, which the layout decides."""
    for row in runs:
        assert row["scores"]["library"] == pytest.approx(row["scores"]["reference"], rel=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["cell", "scheme"])
def test_no_slower_than_the_reference(runs: list[dict], kind: str, variant: str) -> None:
    """Twice as fast is what we hope for; the narrowest schemes are about even, since they gain nothing from layout."""
    assert gain(runs, kind, variant) >= 1


def test_less_memory_than_the_reference(runs: list[dict]) -> None:
    """Without the values of all layers, which gradients need."""
    for row in runs:
        if row["variant"] == "all ReLUs":
            assert row["library_memory_mib"] < row["reference_memory_mib"]
