"""The compiled trainer against torch: `python -m pytest benchmarks/test_compiled.py -s`.

1. Every layer of the space in float64 against autograd, and losses of 20 schemes in float32 beside those of torch and
   of perturbed re-runs of torch.
2. A training step of four schemes, paired: the loop of `train_network` over images in memory, the reference's way
   (a DataLoader with one worker process, image by image), and the compiled trainer for this processor and for
   ``x86-64-v3`` (vectors of 32 bytes).
3. Milliseconds and GFLOP/s of every kind of layer, beside what multiply-adds in registers reach here.

One thread each, in turns, CPU seconds, the least of the rounds: what else the machine does hits all alike. Compiles
some 60 shapes for each target at first, in a minute of two idle cores, and takes three minutes then. Needs CIFAR-10 for
the reference. Writes ``compiled.csv`` and ``compiled-layers.csv``.
"""

import ctypes
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made import covering_schemes
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import CIFAR10

from naaplib import sources
from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import block_shapes, enumerate_schemes
from naaplib.sources import ROOT
from naaplib.training import cifar10, compiled, single
from naaplib.training.cifar10 import Images, load_npz, normalise
from naaplib.training.compiled import CompiledTrainer, Target
from naaplib.training.population import perturb
from naaplib.training.recipe import PUBLISHED

SCHEMES = {i: enumerate_schemes()[i - 1] for i in (1, 120, 300, 440)}
N_STEPS, N_ROUNDS, BATCH = 8, 4, PUBLISHED.batch_size
FOLDER = Path(__file__).parent
PEAK = """
#include <chrono>
typedef float Vector __attribute__((vector_size(BYTES)));
extern "C" double peak() {
    Vector sums[12], factor = Vector{} + 0.999f;
    for (auto& sum : sums) sum = factor;
    auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 1000000; i++)
        for (auto& sum : sums) sum = sum * factor + factor;
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), all = 0;
    for (auto& sum : sums) all += sum[0];
    return all > 0 ? 24e6 * BYTES / sizeof(float) / seconds / 1e9 : 0;
}
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As many as a network has in a run."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def noise(n: int) -> Images:
    """Images of CIFAR-10's shape."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (n,), generator=generator)
    return Images(pixels, labels, pixels, labels)


def optimizer(net: torch.nn.Module, recipe=PUBLISHED) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), 0.1, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def write(table: pd.DataFrame, name: str) -> None:
    """Replace this processor's rows of a table; those of others stay."""
    path = FOLDER / name
    others = pd.read_csv(path) if path.is_file() else table.iloc[:0]
    others = others[~others["processor"].isin(table["processor"])]
    pd.concat([others, table]).to_csv(path, index=False, float_format="%.3f")


def test_every_layer_in_float64() -> None:
    """Gradients of 40 schemes that have all layers of the space, to 1e-9 of the largest; running statistics too."""
    images, schemes = noise(4), covering_schemes()
    plain = replace(PUBLISHED, momentum=0.0, weight_decay=0.0)
    trainer = CompiledTrainer(
        [build_seeded(s, 1) for s in schemes], [images], recipe=plain, target=Target(torch.float64)
    )
    losses = trainer.train_epoch(torch.arange(4), 0.1)[0]
    sizes, statistics = zip(*trainer.sizes, strict=True)
    parts = zip(losses, trainer.momentum.split(sizes), trainer.statistics.split(statistics), strict=True)
    worst = 0.0
    for scheme, (loss, gradient, running) in zip(schemes, parts, strict=True):
        net = build_seeded(scheme, 1).double()
        expected = torch.nn.functional.cross_entropy(net(normalise(images.train_images).double()), images.train_labels)
        expected.backward()
        gradients = [p.grad.flatten() for p in net.parameters()]
        pairs = list(zip(gradient.split([len(g) for g in gradients]), gradients, strict=True))
        pairs.append((running, torch.cat([v for b in net.blocks for v in list(b.bn.buffers())[:2]])))
        errors = [float((a - b).abs().max() / b.abs().max()) for a, b in pairs]
        worst = max(worst, abs(loss - expected.item()), *errors)
    print(f"\nfloat64, {len(schemes)} schemes: largest difference {worst:.1e}")
    assert worst < 1e-9


def test_losses_lie_within_those_of_perturbed_torch() -> None:
    """Eight steps of 20 schemes, the last batch of 80; beside torch with weights that differ by 1e-7 and 3e-7."""
    made, schemes = load_npz(ROOT / "tests" / "data" / "images-made.npz"), covering_schemes()[::2]
    order = torch.arange(7 * 256 + 80) % len(made.train_images)
    images = replace(made, train_images=made.train_images[order], train_labels=made.train_labels[order])
    order = torch.arange(len(order))
    trainer = CompiledTrainer([build_seeded(s, 11) for s in schemes], [images])
    found = trainer.train_epoch(order, 0.1).astype(np.float32)  # as torch gives them

    def by_torch(scheme, scale: float) -> np.ndarray:
        net = perturb(build_seeded(scheme, 11), scale)
        return single.train_epoch(net, optimizer(net), images=images, order=order, batch_size=BATCH)

    plain, *others = (np.stack([by_torch(s, scale) for s in schemes], axis=1) for scale in (0.0, 1e-7, 3e-7))
    own = np.abs(found - plain).max(axis=0)
    theirs = np.stack([np.abs(other - plain).max(axis=0) for other in others])
    print(
        f"\nfloat32, {len(schemes)} schemes: differences from torch, median {np.median(own):.1e}, most {own.max():.1e}"
    )
    print(f"perturbed torch: median {np.median(theirs, axis=1)}, most {theirs.max(axis=1)}")
    assert len(schemes) >= 20
    assert np.median(own) <= np.median(theirs[1])
    assert own.max() <= 2 * theirs.max()  # where a ReLU at its edge falls to the other side


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def reference(scheme, dataset: Subset) -> None:
    """Train as the published script does."""
    net = build_seeded(scheme, 1).train()
    sgd = optimizer(net)
    for x, labels in DataLoader(dataset, BATCH, shuffle=True, num_workers=1):
        loss = torch.nn.functional.cross_entropy(net(x), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # the loader's
def test_three_times_the_loop_and_six_times_the_reference() -> None:
    """Per core, on the mean of four schemes; for ``x86-64-v3`` twice the loop."""
    try:
        root = cifar10.batches()[0].parent.parent
        images = cifar10.load().first(N_STEPS * BATCH, 1)
    except sources.MissingData as missing:
        pytest.skip(str(missing))
    one_by_one = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    dataset = Subset(CIFAR10(root, transform=one_by_one), range(N_STEPS * BATCH))
    order = torch.randperm(N_STEPS * BATCH, generator=torch.Generator().manual_seed(1))
    rows = []
    for model_id, scheme in SCHEMES.items():
        net = build_seeded(scheme, 1)
        sgd = optimizer(net)
        targets = {"compiled": Target(), "compiled, x86-64-v3": Target(march="x86-64-v3")}
        trainers = {name: CompiledTrainer([build_seeded(scheme, 1)], [images], target=t) for name, t in targets.items()}
        methods: dict[str, Callable[[], object]] = {
            name: lambda trainer=trainer: trainer.train_epoch(order, 0.1) for name, trainer in trainers.items()
        }
        methods["loop"] = lambda net=net, sgd=sgd: single.train_epoch(
            net, sgd, images=images, order=order, batch_size=BATCH
        )
        methods["reference"] = lambda scheme=scheme: reference(scheme, dataset)
        for i in range(N_ROUNDS):
            for name, train in methods.items():
                start = cpu_seconds()
                train()
                rows.append((model_id, name, i + 1, 1e3 * (cpu_seconds() - start) / N_STEPS))
    table = pd.DataFrame(rows, columns=["ModelId", "method", "round", "ms"])
    write(table.assign(processor=compiled.processor()[0], torch=torch.__version__), "compiled.csv")
    least = table.pivot_table("ms", "ModelId", "method", aggfunc="min")
    mean = least.mean()
    print(f"\n{compiled.describe()}\n{least.round(1)}\n{(mean / mean['compiled']).round(2).to_string()}")
    assert mean["loop"] / mean["compiled"] >= 3
    assert mean["loop"] / mean["compiled, x86-64-v3"] >= 2
    assert mean["reference"] / mean["compiled"] >= 6


class Kernels(ctypes.Structure):
    """As in the source."""

    _fields_ = (
        *((n, ctypes.c_int) for n in ("c_in", "c_out", "kernel", "stride", "side", "side_out")),
        *((n, ctypes.c_int) for n in ("x_image", "x_row", "x_start", "y_image", "n_packed", "n_packed_back")),
        *((n, ctypes.c_void_p) for n in ("places", "convolve", "weight_gradient", "input_gradient")),
        *((n, ctypes.c_void_p) for n in ("activate", "reduce", "differentiate")),
    )


def peak(folder: Path) -> float:
    """GFLOP/s of multiply-adds in registers, with vectors as wide as the compiled trainer's here."""
    (folder / "peak.cpp").write_text(PEAK)
    width = 64 if "avx512f" in compiled.processor()[1] else 32 if "avx2" in compiled.processor()[1] else 16
    flags = [*Target().flags(), f"-DBYTES={width}", str(folder / "peak.cpp"), "-o", str(folder / "peak.so")]
    subprocess.run([compiled.compiler(), *flags], check=True)
    found = ctypes.CDLL(str(folder / "peak.so")).peak
    found.restype = ctypes.c_double
    return max(found() for _ in range(30))


def test_layers(tmp_path: Path) -> None:
    """Each kind of layer of the four schemes: none of its three products below a sixth of the peak, most far above."""
    wanted = sorted({shape for shapes in compiled.layer_shapes(SCHEMES.values()) for shape in shapes})
    files, rows = compiled.libraries(wanted), []
    for shape in wanted:
        k = Kernels.from_address(compiled._address(files[shape]))
        sizes = {"x": BATCH * k.x_image, "y": BATCH * k.y_image, "dx": BATCH * k.side**2 * k.c_in, "sums": 2 * k.c_out}
        sizes |= {"w": k.n_packed, "back": k.n_packed_back, "dw": k.n_packed}
        held = {n: torch.rand(size + 64) for n, size in sizes.items()}
        at = {n: values.data_ptr() for n, values in held.items()}
        images = range(BATCH)
        x, y = ([at[n] + 4 * i * step for i in images] for n, step in (("x", k.x_image), ("y", k.y_image)))
        dx = [at["dx"] + 4 * i * k.side**2 * k.c_in for i in images]
        pointer = ctypes.c_void_p
        calls = {  # B023: they are called in this turn of the loop
            "nothing": (ctypes.cast(ctypes.CDLL(None).labs, pointer).value, lambda i: (x[i], at["w"], y[i], None)),  # noqa: B023
            "forward": (k.convolve, lambda i: (x[i], at["w"], y[i], at["sums"])),  # noqa: B023
            "weight gradient": (k.weight_gradient, lambda i: (x[i], y[i], at["dw"])),  # noqa: B023
            "input gradient": (k.input_gradient, lambda i: (y[i], at["back"], None, None, dx[i])),  # noqa: B023
        }
        seconds = {}
        for name, (address, arguments) in calls.items():
            given = [arguments(i) for i in images]
            call = ctypes.CFUNCTYPE(None, *[pointer] * len(given[0]))(address)
            times = []
            for _ in range(15):
                start = time.process_time()
                for one in given:
                    call(*one)
                times.append(time.process_time() - start)
            seconds[name] = min(times)
        operations = 2 * BATCH * k.kernel**2 * k.c_in * k.c_out * k.side_out**2
        for name in list(calls)[1:]:
            ms = 1e3 * (seconds[name] - seconds["nothing"])
            rows.append(("-".join(map(str, shape)), name, ms, operations / ms / 1e6))
    table = pd.DataFrame(rows, columns=["layer", "product", "ms", "gflops"])
    most = peak(tmp_path)
    table = table.assign(peak_gflops=most, processor=compiled.processor()[0])
    write(table, "compiled-layers.csv")
    print(f"\npeak {most:.0f} GFLOP/s\n{table.iloc[:, :4].round(2).to_string()}")
    products = table[(table["product"] != "input gradient") | ~table["layer"].str.startswith("3-")]
    assert (products["gflops"] > most / 6).mean() > 0.8


def test_work_of_a_step() -> None:
    """By hand: multiply-adds of scheme 1, forward, of which the table's rates are made."""
    assert sum(shape.macs for shape in block_shapes(SCHEMES[1])) == 209_920
