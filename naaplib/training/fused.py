"""Train many networks on a GPU by kernels that compute a depth of all of them.

`FusedTrainer` does what `naaplib.training.trainer.Trainer` does, in some twenty launches a step instead of some
thousand, and without storing image patches or outputs of BatchNorm and ReLU. Weights, recipe, order of images and
records are the same, and numbers differ by rounding. Sums have a fixed order, so two runs give the same bits.

Half of all activations are results of first convolutions. They are computed again in the backward pass, from the images
and with the statistics of the forward pass, and gradients take their room.

The kernels are written in Triton (`naaplib.training.fused_forward`, `naaplib.training.fused_head`,
`naaplib.training.fused_backward`), which torch brings on Linux. The rule for their use is `why_not`. `Trainer` is the
reference, and trains wherever the rule fails.

Without a GPU, Triton's interpreter runs the same kernels, very slowly, if ``TRITON_INTERPRET=1`` is set before Python
starts. So they are tested on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from naaplib.architectures.scheme_networks import ConvBlock, Network
from naaplib.architectures.schemes import block_shapes
from naaplib.training import fused_backward, fused_forward, fused_head
from naaplib.training.cifar10 import Images
from naaplib.training.fused_forward import FIELDS
from naaplib.training.fused_layout import OPTIONS, Launch, Layout
from naaplib.training.fused_table import DEFAULT, Blocks
from naaplib.training.recipe import PUBLISHED, Recipe
from naaplib.training.trainer import Stepper, arithmetic

CAPABILITY = (8, 0)  # the least that Triton supports
PRODUCTS = {"fp32": "ieee", "tf32": "tf32", "bf16": "tf32"}  # Triton's names of precisions
STORED = {"bf16": torch.bfloat16}  # activations; others are stored in 32 bits
KERNELS: dict[str, Any] = {
    name: getattr(module, name)
    for module, names in (
        (fused_forward, ("conv_forward", "finish_forward")),
        (fused_head, ("head", "keep_losses")),
        (fused_backward, ("last_sums", "finish_backward", "weight_gradient", "data_gradient", "update")),
    )
    for name in names
}


class NoKernels(RuntimeError):
    """The kernels do not run on a device."""


def why_not(device: str | torch.device) -> str:
    """Return why a device is not for the fused trainer, or "" if it is.

    The rule: Triton is installed, and the device is a GPU of NVIDIA of compute capability 8.0 or more; or it is a CPU,
    and Triton interprets.

    Examples
    --------
    >>> why_not("meta")
    "device 'meta' is not a GPU"
    """
    kind = torch.device(device).type
    if find_spec("triton") is None:
        return "Triton is not installed (torch brings it on Linux)"
    if kind == "cpu" and fused_forward.INTERPRETED:
        return ""
    if kind != "cuda" or torch.version.hip:
        return f"device {str(device)!r} is not a GPU" + (" of NVIDIA" if kind == "cuda" else "")
    if fused_forward.INTERPRETED:
        return "TRITON_INTERPRET is set, which is for a CPU"
    found = torch.cuda.get_device_capability(device)
    if found < CAPABILITY:
        return f"its compute capability is {found[0]}.{found[1]}, and Triton needs {CAPABILITY[0]}.{CAPABILITY[1]}"
    return ""


class FusedTrainer(Stepper):
    """Networks in training by fused kernels; a substitute for `Trainer`.

    Parameters
    ----------
    networks, parts, recipe, device
        As in `Trainer`; the networks' weights are copied, and images are square.
    precision : {"fp32", "tf32", "bf16"}
        Precision of products; sums have 32 bits. "bf16" stores results of convolutions, and gradients with respect to
        outputs of blocks, in bfloat16, and has products of TF32; weights and statistics have 32 bits.
    blocks : Blocks
        Sizes of the parts that a program computes. Results differ by rounding.

    Attributes
    ----------
    layout : Layout
        Offsets of each network's values in the buffers.
    gradient : Tensor
        Gradient of the last step, weight decay included, in the order of the networks and their parameters.

    Raises
    ------
    NoKernels
        If `why_not` has a reason.
    ValueError
        If there is no such precision, images are not square, or a batch has one value per channel, which has no
        variance.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        parts: Sequence[Images],
        *,
        recipe: Recipe = PUBLISHED,
        device: str | torch.device = "cuda",
        precision: str = "fp32",
        blocks: Blocks = DEFAULT,
    ) -> None:
        if reason := why_not(device):
            raise NoKernels(f"the fused trainer cannot be used: {reason}. Use trainer='torch'")
        if precision not in PRODUCTS:
            raise ValueError(f"precision is {precision!r}; the fused trainer takes {tuple(PRODUCTS)}")
        self.recipe, self.precision = recipe, precision
        self.schemes = [network.scheme for network in networks]
        self.rate = torch.zeros((), device=device)
        self.device = self.rate.device
        images = parts[0].to(self.device)
        self.images, self.labels = images.train_images.contiguous(), images.train_labels.contiguous()
        n, _, height, side = self.images.shape
        if height != side:
            raise ValueError(f"images are {height} x {side} pixels: the fused trainer takes square ones only")
        last = n % recipe.batch_size or min(n, recipe.batch_size)
        if last == 1 and any(block_shapes(scheme, side)[-1].side_out == 1 for scheme in self.schemes):
            raise ValueError(f"a batch of 1 of {n} images has one value a channel, which has no variance: use others")
        n_classes = networks[0].linear.out_features
        self.stored = STORED.get(precision, torch.float32)
        size = min(recipe.batch_size, n)
        self.layout = Layout(
            self.schemes, side, size, n_classes=n_classes, blocks=blocks, n_stored=self.stored.itemsize
        )
        self._allocate(networks)
        self.order = torch.zeros(n, dtype=torch.int64, device=self.device)
        self.step = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.losses = torch.zeros(-(-n // recipe.batch_size), len(networks), device=self.device)
        self._make_graphs()

    def _allocate(self, networks: Sequence[Network]) -> None:
        """Make weights, statistics and buffers, which the kernels know by their arguments' names."""
        sizes, layout, device = self.layout.sizes, self.layout, self.device
        weights = [p.detach().flatten() for network in networks for p in network.parameters()]
        self.weights = torch.cat(weights).to(device, torch.float32)
        self.momentum, self.gradient = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        blocks: list[ConvBlock] = [block for network in networks for block in network.blocks]  # type: ignore[misc]
        buffers = [dict(block.bn.named_buffers()) for block in blocks]
        self.mean, self.var = (
            torch.cat([buffer[name] for buffer in buffers]).to(device, torch.float32)
            for name in ("running_mean", "running_var")
        )

        # The parts of BatchNorm's gradients stay zero but in the first split.
        names = {"sums": "sums", "features": "features", "channels": "vectors", "counts": "counts", "parts": "parts"}
        self.buffers: dict[str, Any] = {key: torch.zeros(sizes[name], device=device) for key, name in names.items()}
        self.buffers["y"] = torch.zeros(sizes["activations"], dtype=self.stored, device=device)
        self.buffers["gradients"] = self.buffers["y"]
        table = [[row[name] for name in FIELDS] for row in layout.rows]
        self.buffers["table"] = torch.tensor(table, dtype=torch.int64, device=device)
        self.lists = {
            name: torch.tensor(places, dtype=torch.int64, device=device) for name, places in layout.lists.items()
        }
        norm = blocks[0].bn
        self.buffers |= {"running_mean": self.mean, "running_var": self.var, "momenta": self.momentum}
        self.buffers |= {"n_channels": sizes["channels"], "n_weights": sizes["weights"], "n_networks": len(networks)}
        self.buffers |= {"n_classes": layout.n_classes, "share": norm.momentum or 0.0, "eps": norm.eps}
        self.buffers |= {"momentum": self.recipe.momentum, "decay": self.recipe.weight_decay}

    def _launch(self, launches: Iterable[Launch], **others: Any) -> None:
        """Run kernels in their order; `others` are arguments besides buffers."""
        known = self.buffers | {"weights": self.weights, "gradient": self.gradient, "rate": self.rate} | others
        for launch in launches:
            kernel = KERNELS[launch.kernel]
            given = known | launch.constants | {"PRECISION": PRODUCTS[self.precision]}
            given |= {"rows": self.lists.get(launch.rows)}
            kernel[launch.grid](**{name: given[name] for name in kernel.arg_names}, **OPTIONS)

    def _step(self, size: int) -> None:
        """Train all networks on the next `size` images of the order."""
        data = {"images": self.images, "labels": self.labels, "order": self.order, "step": self.step}
        numbers = {"n_images": size, "batch_size": self.recipe.batch_size}
        self._launch(self.layout.step(size), losses=self.losses, **data, **numbers)

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> NDArray[np.float64]:
        """Return each network's accuracy, as `Stepper` does."""
        if images.shape[1:] != self.images.shape[1:]:
            raise ValueError(f"images to evaluate are {(*images.shape[1:],)}, unlike those to train on")
        images, labels = images.to(self.device).contiguous(), labels.to(self.device).contiguous()
        size, step = self.layout.batch_size, torch.zeros(1, dtype=torch.int64, device=self.device)
        order = torch.arange(len(labels), device=self.device)
        counts = torch.zeros_like(self.buffers["counts"])
        data = {"images": images, "labels": labels, "order": order, "step": step, "counts": counts, "batch_size": size}
        current = torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
        with arithmetic(self.precision), current:  # Triton uses the current device
            self._launch([self.layout.statistics(size)], n_images=size, **data)
            for batch in labels.split(size):
                n = len(batch)
                self._launch(self.layout.forward(n, train=False), n_images=n, **data)
                step.add_(1)
        n_correct = counts.view(-1, len(self.schemes)).sum(dim=0)
        return n_correct.cpu().double().numpy() / len(labels)

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next epoch depends on."""
        return {"weights": self.weights, "momentum": self.momentum, "mean": self.mean, "var": self.var}
