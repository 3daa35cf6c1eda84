"""What a GPU is, whether torch can use it, and how many networks its memory holds in training."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from naaplib.architectures.scheme_networks import Network
from naaplib.architectures.schemes import Scheme, block_shapes
from naaplib.training.cifar10 import normalise
from naaplib.training.devices import describe_device
from naaplib.training.recipe import PUBLISHED, Recipe
from naaplib.training.trainer import Trainer

RESERVED = 800_000_000  # bytes of a GPU that CUDA and its libraries take for themselves
ROUNDING = 1.1  # torch hands out memory in blocks, which are not all of the size that is asked for
IDENTITY = ("n_multiprocessors", "driver", "cuda", "cudnn")  # of a GPU beside its name: what its roundings depend on

Result = TypeVar("Result")


def kind_of(device: str | torch.device) -> str:
    """What a run that goes on must find again: "cpu", or a GPU with what computes on it."""
    if torch.device(device).type != "cuda":
        return torch.device(device).type
    facts = describe_device(device)
    return ", ".join([str(facts.pop("device")), *(f"{name} {facts[name]}" for name in IDENTITY)])


class Memory(TorchDispatchMode):
    """Counts the bytes of tensors that are made while the context lasts.

    Attributes
    ----------
    live, peak : int
        Bytes of what is still there, and of the most that was there at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {value.untyped_storage()._cdata for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                storage, key = value.untyped_storage(), value.untyped_storage()._cdata
                if key not in self._known and key not in given:
                    self._known.add(key)
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._free, key, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _free(self, key: int, n_bytes: int) -> None:
        self._known.discard(key)
        self.live -= n_bytes


def step_bytes(
    schemes: Sequence[Scheme],
    recipe: Recipe = PUBLISHED,
    n_images: int = 50_000,
    side: int = 32,
    precision: str = "fp32",
    keep_features: bool = False,
) -> int:
    """Bytes of a GPU's memory that these networks take at most while a `Trainer` trains them side by side.

    They are counted, without a GPU and without numbers, in the trainer's own step and evaluation; a graph that was
    recorded keeps the memory of a step. "bf16" counts as "fp32", and takes less.

    Parameters
    ----------
    schemes : sequence of Scheme
    recipe : Recipe
        Whose batch size counts.
    n_images, side : int
        Training images, and their height and width.
    precision, keep_features
        As for `Trainer`.
    """
    return _count([_shape(scheme) for scheme in schemes], recipe, n_images, side, precision, keep_features)


@cache
def _shape(scheme: Scheme) -> Network:
    with torch.device("meta"):
        return Network(scheme)


def _count(
    networks: Sequence[Network], recipe: Recipe, n_images: int, side: int, precision: str, keep_features: bool
) -> int:
    size = min(recipe.batch_size, n_images)
    with Memory() as memory:
        pixels = torch.empty(n_images, 3, side, side, dtype=torch.uint8, device="meta")
        labels = torch.empty(n_images, dtype=torch.int64, device="meta")
        images: Any = SimpleNamespace(train_images=pixels, train_labels=labels)  # `Images` would look at values
        images.to = lambda _: images
        trainer = Trainer(networks, [images], recipe, "meta", precision, keep_features)
        trainer._step(size)
        step, memory.peak = memory.peak, memory.live
        with torch.no_grad():
            trainer.network.eval()(normalise(pixels[:size]).to(trainer.dtype))
        return step + memory.peak - memory.live


def fitting_size(schemes: Sequence[Scheme], available: float, **settings: Any) -> int:
    """Networks to train at a time, so that all are trained in as few equal parts as a GPU's memory allows.

    Parameters
    ----------
    schemes : sequence of Scheme
        Parts are neighbours.
    available : float
        Bytes of memory of the GPU.
    **settings
        As for `step_bytes`.

    Raises
    ------
    MemoryError
        If one network does not fit.

    Examples
    --------
    The largest of NAAP-440 by itself, on a GPU of 8 GB:

    >>> from naaplib.architectures.schemes import enumerate_schemes
    >>> fitting_size(enumerate_schemes()[-1:], 8e9)
    1
    """
    room = (available - RESERVED) / ROUNDING
    pixels = [sum(shape.c_out * shape.side_out**2 for shape in block_shapes(scheme)) for scheme in schemes]
    needed, size = 0, len(schemes)
    while size:
        largest = max(range(0, len(schemes), size), key=lambda start: sum(pixels[start : start + size]))
        needed = step_bytes(schemes[largest : largest + size], **settings)
        if needed <= room:
            return size
        # Memory is nearly in proportion to networks: as many parts as that asks for, but more than before.
        n_parts = max(len(schemes) // size + 1, int(len(schemes) / size * needed / max(room, 1)))
        size = min(-(-len(schemes) // n_parts), size - 1)
    raise MemoryError(f"training one network takes {needed:,} bytes; a GPU of {available:,.0f} bytes has not enough")


@lru_cache(maxsize=8)
def size_on(device: torch.device, schemes: tuple[Scheme, ...], recipe: Recipe, precision: str) -> int:
    """As `fitting_size`, by all of a GPU's memory: by what is free just now, a run that goes on would differ."""
    available = torch.cuda.get_device_properties(device).total_memory
    return fitting_size(schemes, available, recipe=recipe, precision=precision)


@contextmanager
def given_back() -> Iterator[None]:
    """Leave no memory of a GPU with this process that it does not use, when the context or the function ends."""
    yield
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def in_halves(names: Sequence[int], run: Callable[[Sequence[int]], Result]) -> list[Result]:
    """Run for all names at once or, when a GPU's memory runs out, for one half after the other, and so on.

    Parameters
    ----------
    names : sequence of int
    run : callable
        Given the names, or some of them, in their order; may raise `torch.OutOfMemoryError`.

    Returns
    -------
    list
        What each run that ended returned, in the order of names.
    """
    try:
        return [run(names)]
    except torch.OutOfMemoryError:
        if len(names) == 1:
            raise
    with given_back():  # outside of the block, whose exception holds all that was in memory
        pass
    warnings.warn(f"{len(names)} networks at once exceed the GPU's memory: trying halves of them", stacklevel=2)
    middle = -(-len(names) // 2)
    return in_halves(names[:middle], run) + in_halves(names[middle:], run)
