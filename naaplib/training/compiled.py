"""Train networks on a CPU by C++ code compiled for their shapes, one per core.

`CompiledTrainer` does what `naaplib.training.trainer.Trainer` does on a CPU, three times as fast: weights, recipe,
order of images and records are the same, and numbers differ by rounding. All computations are in ``compiled.cpp``,
which documents its organisation at its top. It is compiled once for every shape of a layer (channels, kernel, stride,
side), which gives that layer's kernels with constant sizes, and once without a shape, which gives the driver: the loops
over batches, layers and images. `libraries` finds both in a cache or makes them, in some seconds per file.

The cache is ``naaplib`` in the folder that ``XDG_CACHE_HOME`` names, by default ``~/.cache``. A file there is named by
the SHA-256 of the source, the flags, the compiler's version and the processor's features. The compiler is ``c++``, or
what ``CXX`` names.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from naaplib.architectures.scheme_networks import ConvBlock, Network
from naaplib.architectures.schemes import IMAGE_SIDE, Scheme, block_shapes
from naaplib.training.cifar10 import Images
from naaplib.training.recipe import PUBLISHED, Recipe

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
SCALARS = {torch.float32: "float", torch.float64: "double"}
N_LINES = 12  # lines of the compiler's messages in an error

Shape = tuple[int, int, int, int, int]  # channels in and out, kernel, stride, side of the input


class NoCompiler(RuntimeError):
    """There is no C++ compiler, or it does not compile the source."""


@dataclass(frozen=True)
class Target:
    """A compilation target: a scalar type, and a processor as named in ``-march``."""

    dtype: torch.dtype = torch.float32
    march: str = "native"

    def flags(self) -> tuple[str, ...]:
        """Return all flags but the shape's, without ``-march`` if it is unknown."""
        march = (f"-march={self.march}",) if _knows(compiler(), f"-march={self.march}") else ()
        return (*FLAGS, *march, f"-DSCALAR={SCALARS[self.dtype]}")


def compiler() -> str:
    """Return the path of the C++ compiler: ``CXX`` if set, else ``c++``.

    Raises
    ------
    NoCompiler
        If there is none.
    """
    name = os.environ.get("CXX", "c++")
    if (path := shutil.which(name)) is None:
        raise NoCompiler(f"there is no C++ compiler {name!r} on {platform.node()}: install one, or let CXX name it")
    return path


def layer_shapes(schemes: Iterable[Scheme], side: int = IMAGE_SIDE) -> list[list[Shape]]:
    """Return the shape of every layer of every scheme, for images of a side."""
    shapes = []
    for scheme in schemes:
        blocks = block_shapes(scheme, side)
        sides = [side, *(block.side_out for block in blocks)]
        shapes.append([(b.c_in, b.c_out, b.kernel_size, b.stride, s) for b, s in zip(blocks, sides, strict=False)])
    return shapes


def libraries(shapes: Iterable[Shape | None], target: Target = Target()) -> dict[Shape | None, Path]:
    """Find or compile the kernels of each shape, and the driver for None.

    Compilations run in parallel on this process's processors. Several processes may call it at once: one of them makes
    each file, which appears when it is complete.

    Raises
    ------
    NoCompiler
        If there is no compiler, or it fails; the message has its first lines.
    """
    wanted = list(dict.fromkeys(shapes))
    n_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(n_workers) as pool:
        return dict(zip(wanted, pool.map(lambda shape: _library(shape, target), wanted), strict=True))


def _library(shape: Shape | None, target: Target) -> Path:
    names = ("C_IN", "C_OUT", "KERNEL", "STRIDE", "SIDE")
    flags = (*target.flags(), *(f"-D{name}={value}" for name, value in zip(names, shape or (), strict=False)))
    parts = (SOURCE.read_text(), *flags, _version(compiler()), *processor())
    name = "-".join(map(str, shape)) if shape else "driver"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "naaplib"
    path = folder / f"{name}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}.so"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                _compile(name, flags, path)
    except OSError as error:
        raise NoCompiler(f"nothing can be compiled into {folder}: {error}. Let XDG_CACHE_HOME name a folder") from None
    return path


def _compile(name: str, flags: Sequence[str], path: Path) -> None:
    command = [compiler(), *flags, str(SOURCE), "-o", str(part := path.with_suffix(".part"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = "\n".join(done.stderr.splitlines()[:N_LINES])
        raise NoCompiler(f"{compiler()} does not compile {SOURCE.name} for {name} ({' '.join(flags)}):\n{lines}")
    part.replace(path)


@functools.cache
def _version(path: str) -> str:
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout


@functools.cache
def _knows(path: str, flag: str) -> bool:
    return not subprocess.run([path, flag, "-E", "-x", "c++", os.devnull], capture_output=True, check=False).returncode


@functools.cache
def processor() -> tuple[str, str]:
    """Return the name and features of this machine's processor."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    name, features = (re.search(rf"^(?:{key})\s*:\s*(.+)$", text, re.M) for key in ("model name", "flags|Features"))
    return name[1] if name else platform.processor() or platform.machine(), features[1] if features else ""


def describe(target: Target = Target()) -> str:
    """Return processor, compiler and flags, which identify the compiled code.

    The processor has its widest vectors in brackets: some makers give several generations one name.
    """
    name, features = processor()
    widest = [f" ({one})" for one in ("avx512f", "avx2", "asimd") if one in features.split()][:1]
    return "; ".join(["".join([name, *widest]), _version(compiler()).partition("\n")[0], " ".join(target.flags())])


class _Description(ctypes.Structure):
    """``Description`` of the source: a network."""

    _fields_ = (
        ("kernels", ctypes.POINTER(ctypes.c_void_p)),
        ("residual", ctypes.POINTER(ctypes.c_int)),
        ("n_layers", ctypes.c_int),
        ("n_classes", ctypes.c_int),
        ("batch_size", ctypes.c_int),
        ("weights", ctypes.c_void_p),
        ("velocity", ctypes.c_void_p),
        ("statistics", ctypes.c_void_p),
    )


class _Images(ctypes.Structure):
    """``Images`` of the source."""

    _fields_ = (("pixels", ctypes.c_void_p), ("labels", ctypes.c_void_p))


class CompiledTrainer:
    """Networks in training on one core; a substitute for `Trainer`.

    Parameters
    ----------
    networks : sequence of Network
        Networks, whose weights are copied.
    parts : sequence of Images
        Images from `naaplib.training.population.hold_out`; the first part is for training.
    recipe : Recipe
    target : Target

    Attributes
    ----------
    made : list of str
        Processor, compiler and flags of the code that computed the state; several if a run moved to another machine.

    Raises
    ------
    NoCompiler
        If there is no compiler, or it fails.
    ValueError
        If images are not square, labels are not classes, or a batch has one value per channel, which has no variance.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        parts: Sequence[Images],
        *,
        recipe: Recipe = PUBLISHED,
        target: Target = Target(),
    ) -> None:
        self.recipe, self.target, self.dtype = recipe, target, target.dtype
        self.schemes = [network.scheme for network in networks]
        self.n_classes = networks[0].linear.out_features
        self.images, self.labels = _channels_last(parts[0].train_images), parts[0].train_labels.contiguous()
        self._check()
        blocks: list[list[ConvBlock]] = [list(network.blocks) for network in networks]  # type: ignore[arg-type]
        weights = [torch.cat([p.detach().flatten() for p in network.parameters()]) for network in networks]
        statistics = [torch.cat([s for b in one for s in list(b.bn.buffers())[:2]]) for one in blocks]  # mean, var
        self.weights, self.statistics = torch.cat(weights).to(self.dtype), torch.cat(statistics).to(self.dtype)
        self.momentum = torch.zeros_like(self.weights)
        self.sizes = [(len(w), len(s)) for w, s in zip(weights, statistics, strict=True)]
        shapes = layer_shapes(self.schemes, self.images.shape[1])
        files = libraries([None, *(shape for one in shapes for shape in one)], target)
        self.driver = _load(files[None])
        self.made = [describe(target)]
        self.kernels = [[_address(files[shape]) for shape in one] for one in shapes]

    def _check(self) -> None:
        n, height, width, _ = self.images.shape
        if height != width:
            raise ValueError(f"images are {height} x {width} pixels: the compiled trainer takes square ones only")
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < self.n_classes:
            raise ValueError(f"labels must lie between 0 and {self.n_classes - 1}, the networks' classes")
        last = n % self.recipe.batch_size or min(n, self.recipe.batch_size)
        if last == 1 and any(block_shapes(scheme, height)[-1].side_out == 1 for scheme in self.schemes):
            raise ValueError(f"a batch of 1 of {n} images has one value a channel, which has no variance: use others")

    def _descriptions(self) -> list[_Description]:
        """Describe each network, with pointers to this object's arrays."""
        described = []
        w, s = self.weights.data_ptr(), self.statistics.data_ptr()
        offset = self.momentum.data_ptr() - w
        for scheme, kernels, (n_weights, n_statistics) in zip(self.schemes, self.kernels, self.sizes, strict=True):
            n = len(kernels)
            residual = (ctypes.c_int * n)(*(block.residual for block in scheme))
            found = (ctypes.c_void_p * n)(*kernels)
            sizes = {"n_layers": n, "n_classes": self.n_classes, "batch_size": self.recipe.batch_size}
            described.append(_Description(found, residual, **sizes, weights=w, velocity=w + offset, statistics=s))
            w += n_weights * self.weights.element_size()
            s += n_statistics * self.weights.element_size()
        return described

    def train_epoch(self, order: Tensor, rate: float) -> NDArray[np.float64]:
        """Train for one epoch, as `naaplib.training.trainer.Stepper` does."""
        order = self._check_order(order)
        images = _Images(self.images.data_ptr(), self.labels.data_ptr())
        losses = np.empty((len(self.schemes), -(-len(order) // self.recipe.batch_size)))
        numbers = [ctypes.c_double(value) for value in (rate, self.recipe.momentum, self.recipe.weight_decay)]
        for network, row in zip(self._descriptions(), losses, strict=True):
            others = [*numbers, ctypes.c_void_p(row.ctypes.data)]
            self._call("train", network, images=images, order=order, others=others)
        return np.ascontiguousarray(losses.T)

    def evaluate(self, images: Tensor, labels: Tensor) -> NDArray[np.float64]:
        """Return each network's accuracy, as `naaplib.training.trainer.Stepper` does."""
        pixels, labels, order = _channels_last(images), labels.contiguous(), torch.arange(len(labels))
        if pixels.shape[1:] != self.images.shape[1:]:
            raise ValueError(f"images to evaluate are {(*images.shape[1:],)}, unlike those to train on")
        given, n_correct, found = _Images(pixels.data_ptr(), labels.data_ptr()), ctypes.c_int64(), []
        for network in self._descriptions():
            self._call("evaluate", network, images=given, order=order, others=[ctypes.byref(n_correct)])
            found.append(n_correct.value / len(labels))
        return np.array(found)

    def _check_order(self, order: Tensor) -> Tensor:
        if not 0 <= int(order.min()) <= int(order.max()) < len(self.images):
            raise ValueError(f"an order must name places of the {len(self.images)} images, from 0")
        return order.to(torch.int64).contiguous()

    def _call(self, name: str, network: _Description, *, images: _Images, order: Tensor, others: Sequence[Any]) -> None:
        pointers = ctypes.byref(network), ctypes.byref(images), ctypes.c_void_p(order.data_ptr())
        if getattr(self.driver, name)(*pointers, ctypes.c_int64(len(order)), *others):
            raise MemoryError("there is not enough memory for the activations of a batch: lower the batch size")

    def state(self) -> dict[str, Any]:
        """Return everything that the next epoch depends on, and `made`."""
        tensors = {"weights": self.weights, "momentum": self.momentum, "statistics": self.statistics}
        return {**tensors, "compiled": self.made}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a `state`; ignore other keys."""
        for name in ("weights", "momentum", "statistics"):
            getattr(self, name).copy_(state[name])
        self.made = list(dict.fromkeys([*state["compiled"], *self.made]))


def _channels_last(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()


@functools.cache
def _load(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


def _address(path: Path) -> int:
    return ctypes.addressof(ctypes.c_char.in_dll(_load(path), "kernels"))
