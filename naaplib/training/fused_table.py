"""Offsets of the values of `naaplib.training.fused`, and the sizes of its buffers.

All is counted from the schemes, without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from naaplib.architectures.schemes import IMAGE_SIDE, N_CLASSES, Scheme, block_shapes
from naaplib.training.fused_forward import FIELDS, N_VECTORS


@dataclass(frozen=True)
class Blocks:
    """Sizes of a program's part: powers of two, 16 or more.

    Parameters
    ----------
    pixels : int
        Pixels of a tile, in forward passes and gradients with respect to inputs.
    channels : int
        Most channels of a tile.
    inner : int
        Part of a product's inner index that is loaded at a time.
    places : int
        Most positions (of the kernel, times input channels) of a tile of a weight gradient.
    splits : int
        Parts of a batch, whose gradients are added in their order; any number.
    """

    pixels: int = 64
    channels: int = 32
    inner: int = 16
    places: int = 64
    splits: int = 16


DEFAULT = Blocks()


@dataclass(frozen=True)
class Table:
    """Table of the offsets of networks.

    Parameters
    ----------
    schemes : sequence of Scheme
    side, batch_size, n_classes : int
        Side of the images in pixels, images of the largest batch, and classes.
    blocks : Blocks
    n_stored : {4, 2}
        Bytes of a stored activation and of a gradient with respect to one.

    Attributes
    ----------
    rows : list of dict
        A dictionary of the ``FIELDS`` of `naaplib.training.fused_forward` for each block, by depth, then network.
    lists : dict from str to list of int
        Rows of each launch.
    sizes : dict from str to int
        Values of each buffer.
    """

    schemes: Sequence[Scheme]
    side: int = IMAGE_SIDE
    batch_size: int = 256
    n_classes: int = N_CLASSES
    blocks: Blocks = DEFAULT
    n_stored: int = 4
    rows: list[dict[str, int]] = field(init=False, default_factory=list)
    lists: dict[str, list[int]] = field(init=False, default_factory=dict)
    sizes: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes.update(dict.fromkeys(("weights", "channels", "activations", "sums", "features"), 0))
        paths = [self._path(*one) for one in enumerate(self.schemes)]
        for depth in range(max(map(len, paths))):
            for path in paths:
                if depth < len(path):
                    row = path[depth]
                    row["previous"] = path[depth - 1]["place"] if depth else -1
                    row["place"] = len(self.rows)
                    self.lists.setdefault(f"depth {depth + 1}", []).append(row["place"])
                    self.rows.append(row)
        self.lists.update({"last": [path[-1]["place"] for path in paths], "all": list(range(len(self.rows)))})
        for row in self.rows:
            del row["place"]
            self._place_activations(row)
        self.sizes.update(
            {"parts": self.blocks.splits * self.sizes["weights"], "counts": self.blocks.splits * len(self.schemes)}
        )
        self.sizes["vectors"] = N_VECTORS * self.sizes["channels"]

    def _path(self, network: int, scheme: Scheme) -> list[dict[str, int]]:
        """Describe the blocks of a network, with their weights in the order of its parameters."""
        path: list[dict[str, int]] = []
        side = self.side
        for shape in block_shapes(scheme, self.side):
            row = dict.fromkeys(FIELDS, 0) | {"network": network, "next_stride": 1, "chain": 1}
            row |= {"c_in": shape.c_in, "c_out": shape.c_out, "kernel": shape.kernel_size, "stride": shape.stride}
            row |= {"side_in": side, "side_out": shape.side_out, "residual": int(shape.residual)}
            row["weight"] = self._take("weights", shape.kernel_size**2 * shape.c_in * shape.c_out)
            row["scale"] = self._take("weights", shape.c_out)
            row["shift"] = self._take("weights", shape.c_out)
            row["channels"] = self._take("channels", shape.c_out)
            if path:
                path[-1]["next_stride"] = shape.stride
                row["chain"] = path[-1]["chain"] + 1 if shape.residual else 1
            path.append(row)
            side = shape.side_out
        path[-1]["last"] = 1
        path[-1]["linear"] = self._take("weights", self.n_classes * path[-1]["c_out"])
        path[-1]["bias"] = self._take("weights", self.n_classes)
        return path

    def _place_activations(self, row: dict[str, int]) -> None:
        row["y"] = self._take("activations", outputs(row, self.batch_size))
        if row["last"]:
            row["features"] = self._take("features", self.batch_size * whole(row["c_out"], 4))
        elif row["previous"] < 0:
            row["gradient"] = row["y"]  # which is not needed any more when the gradient is computed
        else:
            row["gradient"] = self._take("activations", outputs(row, self.batch_size))
        n_tiles = max(self.tiles(row, self.batch_size), self.gradient_tiles(row, self.batch_size))
        row["sums"] = self._take("sums", 2 * n_tiles * row["c_out"])

    def _take(self, name: str, size: int) -> int:
        self.sizes[name] += size
        return self.sizes[name] - size

    def tiles(self, row: dict[str, int], n: int) -> int:
        """Count the tiles of a block's output for n images."""
        return parts(n * row["side_out"] ** 2, self.blocks.pixels)

    def gradient_tiles(self, row: dict[str, int], n: int) -> int:
        """Count the tiles of the gradient with respect to a block's output."""
        stride = row["next_stride"]
        return stride**2 * parts(n * parts(row["side_out"], stride) ** 2, self.blocks.pixels)

    @property
    def n_bytes(self) -> int:
        """Bytes of all buffers, but for images and their order."""
        stored = self.sizes["activations"]
        others = 2 * self.sizes["weights"] + self.sizes["channels"]  # momentum, gradient, running variances
        n_numbers = len(self.rows) * len(FIELDS) + sum(map(len, self.lists.values()))
        return 4 * (sum(self.sizes.values()) - stored + others) + self.n_stored * stored + 8 * n_numbers


def outputs(row: dict[str, int], n: int) -> int:
    """Count the values of a block's output, with those that fill up its channels."""
    return n * row["side_out"] ** 2 * whole(row["c_out"], 4)


def parts(size: int, part: int) -> int:
    """Divide a size into parts, of which the last may be smaller."""
    return -(-size // part)


def whole(size: int, part: int) -> int:
    """Round a size up to whole parts."""
    return parts(size, part) * part


def power(size: int) -> int:
    """Return the least power of two that is not below the size, 16 or more."""
    return max(16, 1 << (size - 1).bit_length())
