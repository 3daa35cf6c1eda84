"""Architecture schemes: search spaces, their enumeration, and static features."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise, product
from numbers import Integral
from typing import Any

import pandas as pd

N_CLASSES = 10
IMAGE_CHANNELS = 3
IMAGE_SIDE = 32  # pixels, CIFAR-10


def require_whole(**numbers: object) -> None:
    """Raise ValueError unless each argument is an integer of 1 or more; no bools."""
    for name, value in numbers.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number, 1 or more, not {value!r}")


@dataclass(frozen=True)
class Block:
    """A block: convolution without bias, BatchNorm, ReLU, and an optional skip.

    Parameters
    ----------
    kernel_size : int
        Side of the square kernel in pixels; odd, so that the side of the image stays the same at stride 1.
    width : int
        Output channels.
    stride : int
    residual : bool
        True adds the block's input to its output, which needs stride 1.
    """

    kernel_size: int
    width: int
    stride: int
    residual: bool = False

    def __post_init__(self) -> None:
        for name in ("kernel_size", "width", "stride"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"a block's {name} must be a whole number, 1 or more, not {value!r}")
            object.__setattr__(self, name, int(value))  # JSON cannot write numpy's numbers
        if self.kernel_size % 2 == 0:
            raise ValueError(f"a block's kernel_size must be odd, not {self.kernel_size}")
        if not isinstance(self.residual, bool):
            raise ValueError(f"a block's residual must be true or false, not {self.residual!r}")
        if self.residual and self.stride != 1:
            raise ValueError(f"a residual block needs stride 1, not {self.stride}: its input and output shapes differ")


Scheme = tuple[Block, ...]


@dataclass(frozen=True)
class BlockOptions:
    """Options for each property of one block of a space, in the order of enumeration.

    An option that does not fit the blocks before it is skipped, such as a skip connection between different shapes.
    """

    kernel_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    residuals: tuple[bool, ...] = (False,)

    def __post_init__(self) -> None:
        for field in fields(self):
            options = tuple(getattr(self, field.name))
            if not options or len(set(options)) < len(options):
                raise ValueError(f"{field.name} must be one or more different options, not {options}")
            object.__setattr__(self, field.name, options)
        for kernel_size, width, stride in product(self.kernel_sizes, self.widths, self.strides):
            Block(kernel_size, width, stride)  # raises ValueError if it is not a valid block
        for residual in self.residuals:
            Block(1, 1, 1, residual)


@dataclass(frozen=True)
class Space:
    """Constraints that define a set of schemes.

    Parameters
    ----------
    blocks : tuple of BlockOptions, length max_depth
    min_blocks : int
        Smallest depth; later blocks are optional.
    max_strided : int
        Largest number of blocks with a stride above 1.

    Examples
    --------
    A larger space, whose fourth block may also have 48 channels:

    >>> from dataclasses import replace
    >>> wider = replace(NAAP440.blocks[3], widths=(32, 40, 48))
    >>> larger = replace(NAAP440, blocks=(*NAAP440.blocks[:3], wider))
    >>> len(enumerate_schemes(NAAP440)), len(enumerate_schemes(larger))
    (440, 616)
    """

    blocks: tuple[BlockOptions, ...]
    min_blocks: int
    max_strided: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not all(isinstance(options, BlockOptions) for options in self.blocks):
            raise ValueError("a space's blocks must be BlockOptions, one for each block")
        if not 1 <= self.min_blocks <= len(self.blocks):
            raise ValueError(f"min_blocks must be from 1 to the {len(self.blocks)} blocks, not {self.min_blocks}")
        if self.max_strided < 0:
            raise ValueError(f"max_strided must be 0 or more, not {self.max_strided}")


# NAAP-440 (Hakim 2022), Figure 2.
NAAP440 = Space(
    blocks=(
        BlockOptions(kernel_sizes=(3,), widths=(12, 16), strides=(2,)),
        BlockOptions(kernel_sizes=(3,), widths=(16, 24), strides=(2,)),
        BlockOptions(kernel_sizes=(1, 3), widths=(16, 24, 32), strides=(1, 2), residuals=(False, True)),
        BlockOptions(kernel_sizes=(1, 3), widths=(32, 40), strides=(1, 2), residuals=(False, True)),
    ),
    min_blocks=3,
    max_strided=3,
)


def enumerate_schemes(space: Space = NAAP440) -> list[Scheme]:
    """List all schemes of a space, depth first.

    At each block, kernel size, width, stride and skip vary in that order, the last one fastest. A scheme comes directly
    before those that extend it. For `NAAP440`, these are the 440 published schemes in the published order: the scheme
    at position i (0-based) has ModelId i + 1.

    Returns
    -------
    list of tuple of Block
    """
    return list(_extensions((), space))


def _extensions(prefix: Scheme, space: Space) -> Iterator[Scheme]:
    if len(prefix) >= space.min_blocks:
        yield prefix
    if len(prefix) == len(space.blocks):
        return
    options = space.blocks[len(prefix)]
    n_strided = sum(block.stride > 1 for block in prefix)
    for kernel_size, width, stride in product(options.kernel_sizes, options.widths, options.strides):
        if n_strided + (stride > 1) > space.max_strided:
            continue
        fits = stride == 1 and bool(prefix) and prefix[-1].width == width
        for residual in options.residuals:
            if fits or not residual:
                yield from _extensions((*prefix, Block(kernel_size, width, stride, residual)), space)


def check_scheme(scheme: Scheme) -> None:
    """Raise ValueError if there are no blocks, or a skip between different widths."""
    if not scheme:
        raise ValueError("a scheme must have at least one block")
    if scheme[0].residual:
        raise ValueError("block 1 cannot be residual: its input is the image")
    for number, (before, block) in enumerate(pairwise(scheme), 2):
        if block.residual and block.width != before.width:
            raise ValueError(
                f"block {number} cannot be residual: it makes {before.width} channels into {block.width}; "
                f"a skip needs equal widths"
            )


def identifier(scheme: Scheme) -> str:
    """Return a short name of a scheme, unique and fit for a file name.

    >>> identifier((Block(3, 16, 2), Block(3, 24, 2), Block(1, 24, 1, residual=True)))
    'k3w16s2-k3w24s2-k1w24s1r'
    """
    return "-".join(f"k{b.kernel_size}w{b.width}s{b.stride}{'r' * b.residual}" for b in scheme)


def to_json(schemes: Sequence[Scheme]) -> str:
    """Write schemes as JSON text, byte for byte as in ``generated_schemes.json``.

    The published file holds a list of schemes, each a list of blocks with the fields of `Block`. It has an indentation
    of two spaces and Windows line ends, none after the last line.
    """
    return json.dumps([[asdict(block) for block in scheme] for scheme in schemes], indent=2).replace("\n", "\r\n")


def from_json(text: str) -> list[Scheme]:
    """Read schemes from JSON text in the form that `to_json` writes.

    Raises
    ------
    ValueError
        If it is not JSON or has another form; the message names scheme and block, counted from 1.
    """
    try:
        listed = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"schemes must be JSON: {error}") from None
    if not isinstance(listed, list):
        raise ValueError(f"schemes must be a JSON list of lists of blocks, not of type {type(listed).__name__}")
    return [_read_scheme(number, blocks) for number, blocks in enumerate(listed, 1)]


def _read_scheme(number: int, blocks: Any) -> Scheme:
    if not isinstance(blocks, list):
        raise ValueError(f"scheme {number} must be a list of blocks, not of type {type(blocks).__name__}")
    scheme = tuple(_read_block(f"scheme {number}, block {i}", block) for i, block in enumerate(blocks, 1))
    try:
        check_scheme(scheme)
    except ValueError as error:
        raise ValueError(f"scheme {number}: {error}") from None
    return scheme


def _read_block(where: str, block: Any) -> Block:
    names = [field.name for field in fields(Block)]
    if not isinstance(block, dict) or sorted(block) != sorted(names):
        came = sorted(block) if isinstance(block, dict) else type(block).__name__
        raise ValueError(f"{where} must be an object with {', '.join(names)}, not {came}")
    try:
        return Block(**block)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


@dataclass(frozen=True)
class BlockShape:
    """A block with the shapes and the cost that it has in its network.

    Parameters
    ----------
    c_in, c_out : int
        Input and output channels.
    kernel_size, stride : int
    side_out : int
        Side of the output in pixels.
    residual : bool
    macs : int
        Multiply-accumulates of the convolution, for one image.
    """

    c_in: int
    c_out: int
    kernel_size: int
    stride: int
    side_out: int
    residual: bool
    macs: int


def block_shapes(scheme: Scheme, side: int = IMAGE_SIDE) -> list[BlockShape]:
    """Compute the shapes of all blocks for a square input image of `side` pixels."""
    check_scheme(scheme)
    require_whole(side=side)
    shapes = []
    c_in = IMAGE_CHANNELS
    for b in scheme:
        side = (side - 1) // b.stride + 1  # the padding is half of an odd kernel
        macs = b.kernel_size**2 * c_in * b.width * side**2
        sizes = {"kernel_size": b.kernel_size, "stride": b.stride, "side_out": side, "macs": macs}
        shapes.append(BlockShape(c_in, b.width, residual=b.residual, **sizes))
        c_in = b.width
    return shapes


def feature_table(schemes: Sequence[Scheme], side: int = IMAGE_SIDE) -> pd.DataFrame:
    """Compute the features that schemes have without any training.

    Parameters
    ----------
    schemes : sequence of Scheme, length n_archs
    side : int
        Side of the square input image in pixels.

    Returns
    -------
    DataFrame, shape (n_archs, 10), one row a scheme in the given order
        The scheme columns of the NAAP-440 table, in its order and its conventions:

        - ModelId: position, counted from 1
        - NumParams: convolution, BatchNorm (2 a channel) and linear parameters
        - NumMACs: as the profiler ``thop`` counts for the published table: multiply-accumulates of the convolutions, 4
          operations for each BatchNorm output, side² + 1 for each channel of the average pooling, and the linear layer
        - NumLayers: blocks; NumStages: blocks with a stride above 1
        - FirstLayerWidth, LastLayerWidth: output channels of the first and of the last block

        and three that the table lacks:

        - n_plain_macs: multiply-accumulates of the convolutions and the linear layer
        - n_skips: residual blocks
        - n_relu_units: outputs of all ReLUs, for one image

    Examples
    --------
    >>> feature_table(enumerate_schemes()[:2])[["ModelId", "NumParams", "NumMACs"]].values.tolist()
    [[1, 2566, 231600], [2, 3302, 273760]]
    """
    return pd.DataFrame([{"ModelId": i} | _features(scheme, side) for i, scheme in enumerate(schemes, 1)])


def _features(scheme: Scheme, side: int) -> dict[str, int]:
    shapes = block_shapes(scheme, side)
    last = shapes[-1]
    relu_units = sum(s.c_out * s.side_out**2 for s in shapes)
    macs = sum(s.macs for s in shapes) + last.c_out * N_CLASSES
    return {
        "NumParams": sum(s.kernel_size**2 * s.c_in * s.c_out + 2 * s.c_out for s in shapes)
        + (last.c_out + 1) * N_CLASSES,
        "NumMACs": macs + 4 * relu_units + last.c_out * (last.side_out**2 + 1),
        "NumLayers": len(shapes),
        "NumStages": sum(s.stride > 1 for s in shapes),
        "FirstLayerWidth": shapes[0].c_out,
        "LastLayerWidth": last.c_out,
        "n_plain_macs": macs,
        "n_skips": sum(s.residual for s in shapes),
        "n_relu_units": relu_units,
    }
