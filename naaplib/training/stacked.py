"""Several networks as one, with stacked layers of equal shape.

All networks see a batch in the same step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from naaplib.architectures.scheme_networks import ConvBlock, Network
from naaplib.architectures.schemes import Scheme, block_shapes

VARIANTS = ("grouped", "matmul")


class _Split(torch.autograd.Function):
    """Split channels into channels-last tensors, which are fast in oneDNN."""

    @staticmethod
    def forward(_, x: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
        return tuple(part.contiguous(memory_format=torch.channels_last) for part in x.split(sizes, dim=1))

    @staticmethod
    def backward(_, *grads: Tensor) -> tuple[Tensor, None]:
        n, _, *sides = grads[0].shape
        whole = grads[0].new_empty((n, sum(grad.shape[1] for grad in grads), *sides))
        whole = whole.contiguous(memory_format=torch.channels_last)
        torch.cat(grads, dim=1, out=whole)
        return whole, None


class Layer(nn.Module):
    """One block of several networks at once.

    Parameters
    ----------
    blocks : sequence of ConvBlock
        Blocks with equal kernel, stride, padding and skip, and equal channels unless they share their input.
    shared : bool
        True if all blocks have the image as input: they become one convolution with concatenated outputs.
    stack, recompute : bool
        See `StackedNetwork`.

    Attributes
    ----------
    variant : {"grouped", "matmul"}
        Computation of stacked convolutions: a grouped convolution, or a batched matrix product.
    """

    def __init__(self, blocks: Sequence[ConvBlock], shared: bool, *, stack: bool, recompute: bool) -> None:
        super().__init__()
        first = blocks[0].conv
        self.n_groups = 1 if shared else len(blocks)
        self.widths = [block.conv.out_channels for block in blocks]
        self.stride, self.padding = first.stride[0], first.kernel_size[0] // 2
        self.residual, self.stack, self.recompute, self.variant = blocks[0].residual, stack, recompute, "matmul"
        self.weight = nn.Parameter(torch.cat([block.conv.weight.detach() for block in blocks]))
        self.scale = nn.Parameter(torch.cat([block.bn.weight.detach() for block in blocks]))
        self.shift = nn.Parameter(torch.cat([block.bn.bias.detach() for block in blocks]))
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", torch.cat([dict(block.bn.named_buffers())["running_mean"] for block in blocks]))
        self.register_buffer("var", torch.cat([dict(block.bn.named_buffers())["running_var"] for block in blocks]))
        self.momentum, self.eps = blocks[0].bn.momentum or 0.0, blocks[0].bn.eps

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve each block's part of the channels; axes as in `StackedNetwork`."""
        if not self.stack:
            return functional.conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        if self.variant == "grouped":
            x = x.transpose(0, 1).contiguous()
            y = functional.conv2d(x, self.weight, stride=self.stride, padding=self.padding, groups=self.n_groups)
            return y.transpose(0, 1)
        if self.recompute and torch.is_grad_enabled():  # there are no random numbers whose state must be preserved
            return checkpoint(self._multiply, x, use_reentrant=False, preserve_rng_state=False)
        return self._multiply(x)

    def _multiply(self, x: Tensor) -> Tensor:
        """Convolve by a batched matrix product of weights and image patches."""
        size = self.weight.shape[-1]
        if self.padding:
            x = functional.pad(x, [self.padding] * 4)
        windows = x.unfold(2, size, self.stride).unfold(3, size, self.stride)  # channel, image, y, x, ky, kx
        columns = windows.permute((0, 4, 5, 1, 2, 3)).reshape(self.n_groups, -1, windows.shape[1:4].numel())
        y = torch.bmm(self.weight.view(self.n_groups, -1, columns.shape[1]), columns)
        return y.view(-1, *windows.shape[1:4])

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, groups * c_in, side, side), or its transpose, to the outputs.

        The transpose exchanges the first two axes.
        """
        y = self.convolve(x)
        shape = y.shape
        if self.stack:  # one image that is n times as high has the same statistics
            y = y.reshape(1, shape[0], shape[1] * shape[2], shape[3])
        y = functional.batch_norm(
            y, self.mean, self.var, weight=self.scale, bias=self.shift, training=self.training,
            momentum=self.momentum, eps=self.eps,
        )  # fmt: skip
        y = functional.relu_(y)
        if self.stack:
            y = y.view(shape)
        return y + x if self.residual else y

    @torch.no_grad()
    def extract(self, place: int, block: ConvBlock) -> None:
        """Copy the weights and running statistics of the block at `place` into a block."""
        theirs = dict(block.named_parameters()) | dict(block.named_buffers())
        names = {"weight": "conv.weight", "scale": "bn.weight", "shift": "bn.bias"}
        for name, other in (names | {"mean": "bn.running_mean", "var": "bn.running_var"}).items():
            theirs[other].copy_(getattr(self, name).split(self.widths)[place])


class Head(nn.Module):
    """The linear layers of several networks with equal last width."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([linear.weight.detach() for linear in linears]))
        self.bias = nn.Parameter(torch.stack([linear.bias.detach() for linear in linears]))
        self.n_features = len(linears) * linears[0].in_features

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, n_networks * width) to (n_networks, n, n_classes)."""
        x = features.unflatten(1, (len(self.weight), -1)).transpose(0, 1)
        return torch.bmm(x, self.weight.transpose(1, 2)) + self.bias[:, None, :]


class StackedNetwork(nn.Module):
    """Networks that train side by side in one process, each as if it was alone.

    Every network sees the same images. Blocks of equal place and shape form a `Layer`; the first blocks, which share
    their input, are one convolution whatever their widths. Networks do not affect each other, so the gradient of the
    sum of all losses contains the gradient of each.

    Parameters
    ----------
    networks : sequence of Network
        Networks, whose weights are copied.
    stack : bool
        True stacks all layers and computes with axes (channel, image, y, x), where the channels of a network lie
        together; this is for GPUs. False stacks the first blocks only and computes with (image, channel, y, x) in
        channels-last order, which is fastest on CPUs.
    recompute : bool
        True recomputes the patches of a stacked convolution for the gradients instead of storing them. This halves the
        memory of a step, with the same result bit for bit.
    """

    def __init__(self, networks: Sequence[Network], stack: bool = True, *, recompute: bool = False) -> None:
        super().__init__()
        if not networks:
            raise ValueError("there must be one network or more to stack")
        self.stack, self.recompute = stack, recompute
        self.schemes = [network.scheme for network in networks]
        # ModuleList types its modules as Module.
        self.layers: list[Layer] = nn.ModuleList()  # type: ignore[assignment]
        self.heads: list[Head] = nn.ModuleList()  # type: ignore[assignment]
        self.places: Tensor
        self.members: list[list[int]] = []  # for each layer: networks in the order of their channels
        self.routes: list[list[tuple[int, int]]] = []  # for each layer: next layer and channels of its output's parts
        self.columns: list[tuple[int, int]] = []  # for each part of the features: network and width
        self._build(networks, [_path(i, scheme, stack) for i, scheme in enumerate(self.schemes)])
        places = [i for i, _ in self.columns]
        self.register_buffer("places", torch.tensor([places.index(i) for i in range(len(networks))]))

    def _build(self, networks: Sequence[Network], paths: list[list[tuple]]) -> None:
        """Make layers and heads by depth, with networks in their order of arrival."""
        heads: dict[tuple, list[int]] = {}
        level: dict[tuple, list[int]] = {}
        for i in sorted(range(len(networks)), key=lambda i: paths[i]):  # so that there are few parts
            level.setdefault(paths[i][0], []).append(i)
        sizes = [[block.width for block in scheme] for scheme in self.schemes]
        pending: list[list[tuple[tuple, int]]] = []
        number: dict[tuple, int] = {}
        for depth in range(max(len(path) for path in paths) - 1):
            following: dict[tuple, list[int]] = {}
            for signature, members in level.items():
                number[signature] = len(self.layers)
                blocks: list[Any] = [networks[i].blocks[depth] for i in members]
                self.layers.append(Layer(blocks, depth == 0, stack=self.stack, recompute=self.recompute))
                self.members.append(members)
                pending.append([])
                targets = {i: paths[i][depth + 1] for i in members}
                for target, run in groupby(members, key=targets.__getitem__):
                    goers = list(run)
                    pending[-1].append((target, sum(sizes[i][depth] for i in goers)))
                    (heads if target[0] == "head" else following).setdefault(target, []).extend(goers)
            level = following
        for k, (signature, members) in enumerate(heads.items(), start=1):
            number[signature] = -k
            self.heads.append(Head([networks[i].linear for i in members]))
            self.columns += [(i, sizes[i][-1]) for i in members]
        self.routes = [[(number[target], size) for target, size in route] for route in pending]

    def features(self, x: Tensor) -> Tensor:
        """Compute each last block's output, averaged over pixels.

        Parameters
        ----------
        x : Tensor, shape (n, 3, side, side)

        Returns
        -------
        Tensor, shape (n, sum of last widths)
            Features of all networks, concatenated; `columns` lists networks and widths.
        """
        x = x.transpose(0, 1).contiguous() if self.stack else x.contiguous(memory_format=torch.channels_last)
        arrived: dict[int, list[Tensor]] = {}
        for j, (layer, route) in enumerate(zip(self.layers, self.routes, strict=True)):
            parts = arrived.pop(j, [x])
            y = layer(parts[0] if len(parts) == 1 else torch.cat(parts, dim=0 if self.stack else 1))
            sizes = [size for _, size in route]
            pieces = (y,) if len(sizes) == 1 else y.split(sizes) if self.stack else _Split.apply(y, sizes)
            for (target, _), piece in zip(route, pieces, strict=True):
                if target < 0:
                    piece = piece.mean(dim=(2, 3)).T if self.stack else piece.mean(dim=(2, 3))
                arrived.setdefault(target, []).append(piece)
        return torch.cat([part for k in range(1, len(self.heads) + 1) for part in arrived[-k]], dim=1)

    def classify(self, features: Tensor) -> Tensor:
        """Map features (n, sum of last widths) to logits (n_networks, n, n_classes)."""
        parts = features.split([head.n_features for head in self.heads], dim=1)
        return torch.cat([head(part) for head, part in zip(self.heads, parts, strict=True)])[self.places]

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, side, side) to logits (n_networks, n, n_classes)."""
        return self.classify(self.features(x))

    @torch.no_grad()
    def extract(self, index: int) -> Network:
        """Return one of the networks, with a copy of its weights and running statistics."""
        scheme, n_classes = self.schemes[index], self.heads[0].bias.shape[1]
        network = Network(scheme, n_classes).to(self.places.device, self.heads[0].bias.dtype)
        blocks: Iterator[Any] = iter(network.blocks)
        for layer, members in zip(self.layers, self.members, strict=True):  # shallow layers come first
            if index in members:
                layer.extract(members.index(index), next(blocks))
        place = [i for i, _ in self.columns].index(index)
        for head in self.heads:
            if 0 <= place < len(head.bias):
                network.linear.weight.copy_(head.weight[place])
                network.linear.bias.copy_(head.bias[place])
            place -= len(head.bias)
        return network


def _path(index: int, scheme: Scheme, stack: bool) -> list[tuple]:
    """List the stacking keys of a network's blocks and of its head."""
    shapes = block_shapes(scheme)
    first = shapes[0]
    path: list[tuple] = [("first", first.kernel_size, first.stride)]
    for depth, shape in enumerate(shapes[1:], start=2):
        key = (shape.kernel_size, shape.stride, shape.c_in, shape.c_out, shape.side_out, shape.residual)
        path.append((f"block {depth}", *key) if stack else (f"block {depth}", index))
    return [*path, ("head", shapes[-1].c_out)]
