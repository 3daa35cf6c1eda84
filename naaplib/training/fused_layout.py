"""Offsets, block sizes and launches of `naaplib.training.fused`.

All is counted from the schemes, without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from naaplib.architectures.schemes import IMAGE_SIDE, N_CLASSES, Scheme, block_shapes
from naaplib.training.fused_forward import FIELDS, N_VECTORS

# With fewer warps some kernels lack registers; without a bound, the assembler spills a few so that more programs fit.
OPTIONS = {"num_warps": 8, "maxnreg": 255}


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
class Launch:
    """One launch of a kernel.

    Parameters
    ----------
    kernel : str
        Name of the kernel.
    grid : tuple of int
    rows : str
        Name of the list of rows, as in `Layout.lists`; "" for none.
    constants : dict
        Arguments compiled into the kernel, but for PRECISION.
    n_bytes : int
        Bytes of the values that it reads and writes, each counted once.
    n_products : int
        Multiply-accumulates, also those with zeros that fill blocks.
    """

    kernel: str
    grid: tuple[int, ...]
    rows: str
    constants: dict[str, Any]
    n_bytes: int
    n_products: int = 0


@dataclass(frozen=True)
class Layout:
    """Table of offsets of networks, and the launches of their steps.

    Parameters
    ----------
    schemes : sequence of Scheme
    side, batch_size, n_classes : int
        Side of the images in pixels, images of the largest batch, and classes.
    blocks : Blocks

    Attributes
    ----------
    rows : list of dict
        A dictionary of the ``FIELDS`` of `naaplib.training.fused_forward` for each block, by depth, then network.
    lists : dict from str to list of int
        Rows of each launch.
    sizes : dict from str to int
        Values of each buffer.

    Examples
    --------
    >>> from naaplib.architectures.schemes import enumerate_schemes
    >>> layout = Layout(enumerate_schemes())
    >>> len(layout.rows), layout.sizes["weights"], len(list(layout.step(256)))
    (1704, 4204928, 23)
    """

    schemes: Sequence[Scheme]
    side: int = IMAGE_SIDE
    batch_size: int = 256
    n_classes: int = N_CLASSES
    blocks: Blocks = DEFAULT
    rows: list[dict[str, int]] = field(init=False, default_factory=list)
    lists: dict[str, list[int]] = field(init=False, default_factory=dict)
    sizes: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.sizes.update(dict.fromkeys(("weights", "channels", "y", "activation_gradients", "sums", "features"), 0))
        paths = [self._path(*one) for one in enumerate(self.schemes)]
        for depth in range(max(map(len, paths))):
            for path in paths:
                if depth < len(path):
                    row = path[depth]
                    row["previous"] = path[depth - 1]["place"] if depth else -1
                    row["place"] = len(self.rows)
                    self.lists.setdefault(f"depth {depth + 1}", []).append(row["place"])
                    self.rows.append(row)
        last = [path[-1]["place"] for path in paths]
        for row in self.rows:
            del row["place"]
            self._place_activations(row)
        self.lists.update({"last": last, "all": list(range(len(self.rows)))})
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
        size = self.batch_size * row["side_out"] ** 2 * row["c_out"]
        row["y"] = self._take("y", size)
        if row["last"]:
            row["features"] = self._take("features", self.batch_size * row["c_out"])
        else:
            row["gradient"] = self._take("activation_gradients", size)
        n_tiles = max(self._tiles(row, self.batch_size), self._gradient_tiles(row, self.batch_size))
        row["sums"] = self._take("sums", 2 * n_tiles * row["c_out"])

    def _take(self, name: str, size: int) -> int:
        self.sizes[name] += size
        return self.sizes[name] - size

    def _tiles(self, row: dict[str, int], n: int) -> int:
        return _parts(n * row["side_out"] ** 2, self.blocks.pixels)

    def _gradient_tiles(self, row: dict[str, int], n: int) -> int:
        """Tiles in which the gradient with respect to a block's output is computed."""
        stride = row["next_stride"]
        return stride**2 * _parts(n * _parts(row["side_out"], stride) ** 2, self.blocks.pixels)

    @property
    def n_bytes(self) -> int:
        """Bytes of all buffers, but for images and their order."""
        others = 2 * self.sizes["weights"] + self.sizes["channels"]  # momentum, gradient, running variances
        return 4 * (sum(self.sizes.values()) + others) + 8 * len(self.rows) * (len(FIELDS) + 2)

    def step(self, n: int) -> Iterator[Launch]:
        """Generate the launches of a training step of n images."""
        yield from self.forward(n, train=True)
        yield from self.backward(n)

    def forward(self, n: int, *, train: bool) -> Iterator[Launch]:
        """Generate the launches of a forward pass of n images, up to losses or counts.

        Without `train`, `statistics` must have been launched before, and counts are added to.
        """
        for depth in range(1, len(self.lists) - 1):
            name, rows = self._rows(depth)
            width = self._width(row["c_out"] for row in rows)
            constants = {"FIRST": depth == 1, "CHAIN": self._chain(rows), "TRAIN": train, "BM": self.blocks.pixels}
            n_tiles = max(self._tiles(row, n) for row in rows)
            yield Launch(
                "conv_forward", (n_tiles, len(rows), _parts(max(row["c_out"] for row in rows), width)), name,
                constants | {"BN": width, "BK": self.blocks.inner},
                4 * sum(self._inputs(row, n) + _weights(row) + _outputs(row, n) for row in rows) + self._sums(rows, n),
                sum(self._products(row, n, width) for row in rows),
            )  # fmt: skip
            if train:
                yield self.statistics(n, name, train=True)
        _, rows = self._rows("last")
        values = sum(row["chain"] * _outputs(row, n) + n * row["c_out"] for row in rows)
        linear = sum(self.n_classes * (row["c_out"] + 1) for row in rows) * (1 + self.blocks.splits * train)
        yield Launch(
            "head", (len(rows), self.blocks.splits), "last",
            {
                "CHAIN": max(row["chain"] for row in rows), "TRAIN": train, "SPLITS": self.blocks.splits,
                "BI": _power(_parts(self.batch_size, self.blocks.splits)),
                "BC": _power(max(row["c_out"] for row in rows)), "BL": _power(self.n_classes),
            },
            4 * (values + linear),
        )  # fmt: skip

    def statistics(self, n: int, name: str = "all", *, train: bool = False) -> Launch:
        """Return the launch that prepares BatchNorm."""
        rows = self._rows(name)[1]
        channels = sum(row["c_out"] for row in rows)
        constants = {"TRAIN": train, "BM": self.blocks.pixels, "BC": _power(max(row["c_out"] for row in rows))}
        return Launch(
            "finish_forward", (len(rows),), name, constants | {"BT": 32},
            (self._sums(rows, n) if train else 0) + 4 * channels * (10 if train else 8),
        )  # fmt: skip

    def backward(self, n: int) -> Iterator[Launch]:
        """Generate the launches behind the head's: losses, all gradients, update."""
        b, networks = self.blocks, len(self.schemes)
        yield Launch(
            "keep_losses", (_parts(networks, 128),), "", {"SPLITS": b.splits, "BN": 128}, 4 * networks * (b.splits + 1)
        )
        _, rows = self._rows("last")
        width = self._width(row["c_out"] for row in rows)
        grid = (max(self._tiles(row, n) for row in rows), len(rows), _parts(max(row["c_out"] for row in rows), width))
        values = sum(_outputs(row, n) + n * row["c_out"] for row in rows)
        yield Launch("last_sums", grid, "last", {"BM": b.pixels, "BN": width}, 4 * values + self._sums(rows, n, True))
        for depth in range(len(self.lists) - 2, 0, -1):
            yield from self._gradients(depth, n)
        constants = {"SPLITS": b.splits, "BN": 1024}
        n_weights = self.sizes["weights"]
        yield Launch("update", (_parts(n_weights, 1024),), "", constants, 4 * n_weights * (b.splits + 5))

    def _gradients(self, depth: int, n: int) -> Iterator[Launch]:
        b, (name, rows) = self.blocks, self._rows(depth)
        widest = max(row["c_out"] for row in rows)
        yield Launch(
            "finish_backward", (len(rows),), name, {"BM": b.pixels, "BC": _power(widest), "BT": 32},
            self._sums(rows, n, True) + 4 * 6 * sum(row["c_out"] for row in rows),
        )  # fmt: skip
        width, places = self._width(row["c_out"] for row in rows), max(row["c_in"] * row["kernel"] ** 2 for row in rows)
        n_places = min(b.places, _power(places))
        blocks, columns = _parts(places, n_places), _parts(widest, width)
        arriving = sum(_outputs(row, n) * (1 if row["last"] else 2) for row in rows)
        weights = sum(_weights(row) for row in rows)
        yield Launch(
            "weight_gradient", (blocks * columns, len(rows), b.splits), name,
            {
                "FIRST": depth == 1, "CHAIN": self._chain(rows), "SPLITS": b.splits, "BP": b.inner, "BR": n_places,
                "BN": width, "N_BLOCKS": blocks,
            },
            4 * (sum(self._inputs(row, n) for row in rows) + arriving + b.splits * weights),
            sum(
                n * row["side_out"] ** 2 * _whole(row["c_in"] * row["kernel"] ** 2, n_places)
                * _whole(row["c_out"], width) for row in rows
            ),
        )  # fmt: skip
        if depth > 1:
            before = [self.rows[row["previous"]] for row in rows]
            width = self._width(row["c_in"] for row in rows)
            n_tiles = max(self._gradient_tiles(row, n) for row in before)
            yield Launch(
                "data_gradient", (n_tiles, len(rows), _parts(max(row["c_in"] for row in rows), width)), name,
                {"BM": b.pixels, "BN": width, "BK": b.inner},
                4 * (arriving + weights + 2 * sum(_outputs(row, n) for row in before)) + self._sums(before, n, True),
                sum(
                    n * row["side_out"] ** 2 * row["kernel"] ** 2 * row["c_out"] * _whole(row["c_in"], width)
                    for row in rows
                ),
            )  # fmt: skip

    def _rows(self, which: int | str) -> tuple[str, list[dict[str, int]]]:
        name = f"depth {which}" if isinstance(which, int) else which
        return name, [self.rows[place] for place in self.lists[name]]

    def _chain(self, rows: Sequence[dict[str, int]]) -> int:
        return max(self.rows[row["previous"]]["chain"] if row["previous"] >= 0 else 1 for row in rows)

    def _width(self, widths: Iterator[int]) -> int:
        return min(self.blocks.channels, _power(max(widths)))

    def _inputs(self, row: dict[str, int], n: int) -> int:
        """Values of 4 bytes that a convolution needs of its input."""
        if row["previous"] < 0:
            return n * row["c_in"] * row["side_in"] ** 2 // 4  # images, 1 byte each
        side = row["side_in"] if row["kernel"] >= row["stride"] else row["side_out"]
        return self.rows[row["previous"]]["chain"] * n * row["c_in"] * side**2

    def _products(self, row: dict[str, int], n: int, width: int) -> int:
        places = _whole(row["c_in"] * row["kernel"] ** 2, self.blocks.inner)
        return n * row["side_out"] ** 2 * places * _whole(row["c_out"], width)

    def _sums(self, rows: Sequence[dict[str, int]], n: int, gradient: bool = False) -> int:
        """Bytes of the sums of all tiles."""
        tiles: Callable[[dict[str, int], int], int] = self._gradient_tiles if gradient else self._tiles
        return 4 * 2 * sum(tiles(row, n) * row["c_out"] for row in rows)


def _outputs(row: dict[str, int], n: int) -> int:
    return n * row["side_out"] ** 2 * row["c_out"]


def _weights(row: dict[str, int]) -> int:
    return row["kernel"] ** 2 * row["c_in"] * row["c_out"]


def _parts(size: int, part: int) -> int:
    return -(-size // part)


def _whole(size: int, part: int) -> int:
    return _parts(size, part) * part


def _power(size: int) -> int:
    """Return the least power of two that is not below the size, 16 or more."""
    return max(16, 1 << (size - 1).bit_length())
