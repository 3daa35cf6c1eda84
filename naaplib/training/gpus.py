"""GPUs: their identity, and the number of networks that their memory holds."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from naaplib.architectures.scheme_networks import Network
from naaplib.architectures.schemes import Scheme, block_shapes
from naaplib.training import fused
from naaplib.training.cifar10 import normalise
from naaplib.training.devices import describe_device
from naaplib.training.fused_table import Table
from naaplib.training.recipe import PUBLISHED, Recipe
from naaplib.training.trainer import Trainer

RESERVED = 800_000_000  # bytes of a GPU that CUDA and its libraries use
ROUNDING = 1.1  # torch allocates memory in blocks, which can be larger than requested
CARDS = (8, 12, 16, 24, 40, 80)  # 1e9 bytes of GPUs that there are
IDENTITY = ("n_multiprocessors", "driver", "cuda", "cudnn")  # facts besides a GPU's name that rounding depends on

Result = TypeVar("Result")


def kind_of(device: str | torch.device) -> str:
    """Return "cpu", or the facts about a GPU that a resumed run must find again."""
    if torch.device(device).type != "cuda":
        return torch.device(device).type
    facts = describe_device(device)
    return ", ".join([str(facts.pop("device")), *(f"{name} {facts[name]}" for name in IDENTITY)])


class Memory(TorchDispatchMode):
    """Count the bytes of tensors made inside the context.

    Attributes
    ----------
    live, peak : int
        Bytes of live tensors, now and at most.
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
    *,
    n_images: int = 50_000,
    side: int = 32,
    precision: str = "fp32",
    keep_features: bool = False,
    trainer: str = "torch",
) -> int:
    """Compute the peak GPU memory of networks that are trained together.

    Bytes are counted without a GPU. Those of a `Trainer` are counted on tensors without data, in its own step and
    evaluation; a recorded graph retains the memory of a step. There "bf16" counts as "fp32", though it takes less.
    Those of a `FusedTrainer` are the sizes of its buffers, and of a copy of its state while steps are recorded.

    Parameters
    ----------
    schemes : sequence of Scheme
    recipe : Recipe
        Recipe, of which only the batch size matters.
    n_images, side : int
        Number of training images, and their side.
    precision, keep_features
        As in `Trainer`.
    trainer : str
        Trainer, as in `naaplib.training.population.choose_trainer`: "fused", or another name for a `Trainer`.
    """
    if trainer == "fused":
        size, n_batches = min(recipe.batch_size, n_images), -(-n_images // recipe.batch_size)
        stored = fused.STORED.get(precision, torch.float32)
        table = Table(schemes, side, size, n_stored=stored.itemsize)
        state = 2 * (table.sizes["weights"] + table.sizes["channels"])
        data = n_images * (3 * side**2 + 2 * 8)  # and labels, and their order
        return table.n_bytes + 4 * (state + n_batches * len(schemes)) + data
    return _count(
        [_shape(scheme) for scheme in schemes],
        recipe,
        n_images=n_images,
        side=side,
        precision=precision,
        keep_features=keep_features,
    )


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
        trainer = Trainer(
            networks, [images], recipe=recipe, device="meta", precision=precision, keep_features=keep_features
        )
        trainer._step(size)
        step, memory.peak = memory.peak, memory.live
        with torch.no_grad():
            trainer.network.eval()(normalise(pixels[:size]).to(trainer.dtype))
        return step + memory.peak - memory.live


def fitting_size(schemes: Sequence[Scheme], available: float, **settings: Any) -> int:
    """Compute the number of networks to train at a time within a GPU's memory.

    Networks are divided into as few equal parts as possible.

    Parameters
    ----------
    schemes : sequence of Scheme
        Schemes; parts are neighbours.
    available : float
        Memory of the GPU in bytes.
    **settings
        As in `step_bytes`.

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
        # Memory is nearly proportional to networks: take so many parts, but more than before.
        n_parts = max(len(schemes) // size + 1, int(len(schemes) / size * needed / max(room, 1)))
        size = min(-(-len(schemes) // n_parts), size - 1)
    raise MemoryError(f"training one network takes {needed:,} bytes; a GPU of {available:,.0f} bytes has not enough")


def memory_plan(
    schemes: Sequence[Scheme], gigabytes: Sequence[float] = CARDS, *, trainer: str = "torch"
) -> pd.DataFrame:
    """Compute how GPUs of several sizes train the networks, from the shapes of a step.

    Parameters
    ----------
    schemes : sequence of Scheme
    gigabytes : sequence of float
        Memory of each GPU, in 1e9 bytes.
    trainer
        As in `step_bytes`.

    Returns
    -------
    DataFrame
        One row per GPU: gigabytes, n_archs (networks at a time, `fitting_size`), n_parts (trainings one after the
        other), needed (1e9 bytes of the largest part, with `ROUNDING` and `RESERVED`).
    """
    rows = []
    for available in gigabytes:
        size = fitting_size(schemes, available * 1e9, trainer=trainer)
        parts = [schemes[i : i + size] for i in range(0, len(schemes), size)]
        needed = (max(step_bytes(part, trainer=trainer) for part in parts) * ROUNDING + RESERVED) / 1e9
        rows.append({"gigabytes": available, "n_archs": size, "n_parts": len(parts), "needed": needed})
    return pd.DataFrame(rows)


@lru_cache(maxsize=8)
def size_on(
    device: torch.device, schemes: tuple[Scheme, ...], *, recipe: Recipe, precision: str, trainer: str = "torch"
) -> int:
    """Compute `fitting_size` for all of a GPU's memory, free or not.

    A resumed run would differ if it depended on the free memory. A fused trainer counts only on a GPU that is for it.
    """
    if trainer == "fused" and fused.why_not(device):
        trainer = "torch"
    available = torch.cuda.get_device_properties(device).total_memory
    return fitting_size(schemes, available, recipe=recipe, precision=precision, trainer=trainer)


@contextmanager
def given_back() -> Iterator[None]:
    """Free a GPU's unused memory when the context or the function ends."""
    yield
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def in_halves(names: Sequence[int], run: Callable[[Sequence[int]], Result]) -> list[Result]:
    """Run for all names, and for halves of them whenever a GPU's memory runs out.

    Parameters
    ----------
    names : sequence of int
    run : callable
        Function of some of the names, in their order; may raise `torch.OutOfMemoryError`.

    Returns
    -------
    list
        Results of the completed runs, in the order of names.
    """
    try:
        return [run(names)]
    except torch.OutOfMemoryError:
        if len(names) == 1:
            raise
    with given_back():  # outside of the block, whose exception retains the memory
        pass
    warnings.warn(f"{len(names)} networks at once exceed the GPU's memory: trying halves of them", stacklevel=2)
    middle = -(-len(names) // 2)
    return in_halves(names[:middle], run) + in_halves(names[middle:], run)
