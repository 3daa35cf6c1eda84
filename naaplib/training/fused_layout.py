"""Launches of `naaplib.training.fused`, with the bytes that they move.

All is counted from the schemes, without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from naaplib.training.fused_table import Table, outputs, parts, power, whole

# With fewer warps some kernels lack registers; without a bound, the assembler spills a few so that more programs fit.
OPTIONS = {"num_warps": 8, "maxnreg": 255}
Rows = Sequence[dict[str, int]]


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
class Layout(Table):
    """Table of offsets of networks, and the launches of their steps.

    Parameters and attributes are those of `Table`.

    Examples
    --------
    >>> from naaplib.architectures.schemes import enumerate_schemes
    >>> layout = Layout(enumerate_schemes())
    >>> len(layout.rows), layout.sizes["weights"], len(list(layout.step(256)))
    (1704, 4204928, 23)
    """

    def step(self, n: int) -> Iterator[Launch]:
        """Generate the launches of a training step of n images."""
        yield from self.forward(n, train=True)
        yield from self.backward(n)

    def forward(self, n: int, *, train: bool) -> Iterator[Launch]:
        """Generate the launches of a forward pass of n images, up to losses or counts.

        Without `train`, `statistics` must have been launched before, and counts are added to.
        """
        for depth in range(1, self._depth + 1):
            name, rows = self._rows(depth)
            width = self._width(row["c_out"] for row in rows)
            constants = {"FIRST": depth == 1, "WIDE": self._wide * (depth == 1), "CHAIN": self._chain(rows)}
            yield Launch(
                "conv_forward", self._grid(max(self.tiles(row, n) for row in rows), rows, "c_out"), rows=name,
                constants=constants | {"TRAIN": train, "BM": self.blocks.pixels, "BN": width, "BK": self.blocks.inner},
                n_bytes=self._inputs(rows, n) + _weight_bytes(rows) + self._stored(rows, n)
                + self._sums(rows, n) * train,
                n_products=sum(
                    n * row["side_out"] ** 2 * whole(row["c_out"], width)
                    * (self._wide if depth == 1 else row["kernel"] ** 2 * whole(row["c_in"], self.blocks.inner))
                    for row in rows
                ),
            )  # fmt: skip
            if train:
                yield self.statistics(n, name, train=True)
        _, rows = self._rows("last")
        values = sum(row["chain"] * self.n_stored * outputs(row, n) + 4 * n * row["c_out"] for row in rows)
        linear = sum(self.n_classes * (row["c_out"] + 1) for row in rows) * (1 + self.blocks.splits * train)
        yield Launch(
            "head", (len(rows), self.blocks.splits), rows="last",
            constants={
                "CHAIN": max(row["chain"] for row in rows), "TRAIN": train, "SPLITS": self.blocks.splits,
                "BI": power(parts(self.batch_size, self.blocks.splits)),
                "BC": power(max(row["c_out"] for row in rows)), "BL": power(self.n_classes),
            },
            n_bytes=values + 4 * linear,
        )  # fmt: skip

    def statistics(self, n: int, name: str = "all", *, train: bool = False) -> Launch:
        """Return the launch that prepares BatchNorm."""
        rows = self._rows(name)[1]
        channels = sum(row["c_out"] for row in rows)
        constants = {"TRAIN": train, "BM": self.blocks.pixels, "BC": power(max(row["c_out"] for row in rows))}
        return Launch(
            "finish_forward", (len(rows),), rows=name, constants=constants | {"BT": 32},
            n_bytes=(self._sums(rows, n) if train else 0) + 4 * channels * (10 if train else 8),
        )  # fmt: skip

    def backward(self, n: int) -> Iterator[Launch]:
        """Generate the launches behind the head's: losses, all gradients, update."""
        b, networks = self.blocks, len(self.schemes)
        yield Launch(
            "keep_losses",
            (parts(networks, 128),),
            rows="",
            constants={"SPLITS": b.splits, "BN": 128},
            n_bytes=4 * networks * (b.splits + 1),
        )
        _, rows = self._rows("last")
        grid = self._grid(max(self.tiles(row, n) for row in rows), rows, "c_out")
        values = sum(self.n_stored * outputs(row, n) + 4 * n * row["c_out"] for row in rows)
        constants = {"BM": b.pixels, "BN": self._width(row["c_out"] for row in rows)}
        yield Launch(
            "last_sums", grid, rows="last", constants=constants, n_bytes=values + self._sums(rows, n, gradient=True)
        )
        for depth in range(self._depth, 0, -1):
            yield from self._gradients(depth, n)
        n_weights = self.sizes["weights"]
        constants = {"SPLITS": b.splits, "BN": 1024}
        yield Launch(
            "update", (parts(n_weights, 1024),), rows="", constants=constants, n_bytes=4 * n_weights * (b.splits + 5)
        )

    def _gradients(self, depth: int, n: int) -> Iterator[Launch]:
        b, (name, rows) = self.blocks, self._rows(depth)
        widest = max(row["c_out"] for row in rows)
        yield Launch(
            "finish_backward", (len(rows),), rows=name, constants={"BM": b.pixels, "BC": power(widest), "BT": 32},
            n_bytes=self._sums(rows, n, gradient=True) + 4 * 6 * sum(row["c_out"] for row in rows),
        )  # fmt: skip
        width = self._width(row["c_out"] for row in rows)
        places = [self._wide if depth == 1 else row["kernel"] ** 2 * whole(row["c_in"], 16) for row in rows]
        n_places = self._wide if depth == 1 else min(b.places, power(max(places)))
        blocks = parts(max(places), n_places)
        arriving = self._stored([row for row in rows if not row["last"]], n)
        arriving += 4 * n * sum(row["c_out"] for row in rows if row["last"])
        stored = self._stored(rows, n) if depth > 1 else _weight_bytes(rows)  # or what it is computed from, besides x
        constants = {"FIRST": depth == 1, "CHAIN": self._chain(rows), "SPLITS": b.splits}
        yield Launch(
            "weight_gradient", (blocks * parts(widest, width), len(rows), b.splits), rows=name,
            constants=constants | {"BP": b.inner, "BR": n_places, "BN": width, "N_BLOCKS": blocks},
            n_bytes=self._inputs(rows, n) + stored + arriving + b.splits * _weight_bytes(rows),
            n_products=sum(
                n * row["side_out"] ** 2 * whole(size, n_places) * whole(row["c_out"], width) * (1 + (depth == 1))
                for row, size in zip(rows, places, strict=True)
            ),
        )  # fmt: skip
        if depth > 1:
            before = [self.rows[row["previous"]] for row in rows]
            width, n_tiles = self._width(row["c_in"] for row in rows), max(self.gradient_tiles(r, n) for r in before)
            theirs = self._inputs(before, n) + _weight_bytes(before) if depth == 2 else self._stored(before, n)
            again = self._wide * (depth == 2)
            yield Launch(
                "data_gradient", self._grid(n_tiles, rows, "c_in"), rows=name,
                constants={"FIRST": depth == 2, "WIDE": again, "BM": b.pixels, "BN": width, "BK": b.inner},
                n_bytes=stored + arriving + _weight_bytes(rows) + self._stored(before, n) + theirs
                + self._sums(before, n, gradient=True),
                n_products=sum(
                    n * whole(row["c_in"], width) * (
                        row["side_out"] ** 2 * row["kernel"] ** 2 * whole(row["c_out"], b.inner)
                        + row["side_in"] ** 2 * again
                    ) for row in rows
                ),
            )  # fmt: skip

    @property
    def _depth(self) -> int:
        return len(self.lists) - 2  # besides "last" and "all"

    def _rows(self, which: int | str) -> tuple[str, Rows]:
        name = f"depth {which}" if isinstance(which, int) else which
        return name, [self.rows[place] for place in self.lists[name]]

    @property
    def _wide(self) -> int:
        """Places of the inner index of first convolutions, which is not divided."""
        return power(max(row["kernel"] ** 2 * row["c_in"] for row in self._rows(1)[1]))

    def _chain(self, rows: Rows) -> int:
        return max(self.rows[row["previous"]]["chain"] if row["previous"] >= 0 else 1 for row in rows)

    def _width(self, widths: Iterator[int]) -> int:
        return min(self.blocks.channels, power(max(widths)))

    def _grid(self, n_tiles: int, rows: Rows, channels: str) -> tuple[int, int, int]:
        widest = max(row[channels] for row in rows)
        return n_tiles, len(rows), parts(widest, self._width(row[channels] for row in rows))

    def _inputs(self, rows: Rows, n: int) -> int:
        """Bytes that convolutions need of their inputs."""
        total = 0
        for row in rows:
            side = row["side_in"] if row["kernel"] >= row["stride"] else row["side_out"]
            if row["previous"] < 0:
                total += n * row["c_in"] * side**2  # images, 1 byte each
            else:
                chain = self.rows[row["previous"]]["chain"]
                total += self.n_stored * chain * n * whole(row["c_in"], 4) * side**2
        return total

    def _stored(self, rows: Rows, n: int) -> int:
        """Bytes of the results of convolutions, or of the gradients with respect to outputs."""
        return self.n_stored * sum(outputs(row, n) for row in rows)

    def _sums(self, rows: Rows, n: int, *, gradient: bool = False) -> int:
        """Bytes of the sums of all tiles."""
        tiles = self.gradient_tiles if gradient else self.tiles
        return 4 * 2 * sum(tiles(row, n) * row["c_out"] for row in rows)


def _weight_bytes(rows: Rows) -> int:
    return 4 * sum(row["kernel"] ** 2 * row["c_in"] * row["c_out"] for row in rows)
