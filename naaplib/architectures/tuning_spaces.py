"""Search spaces for architecture tuning: MobileOnes, and hybrids with SwiftFormer.

An encoding is a plain tuple. The spaces are those of the architecture-tuning study (Ouertatani et al. 2024, section 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np
from torch import nn

from naaplib.architectures import mobileone, swiftformer
from naaplib.architectures.schemes import N_CLASSES

# Depth and multiplier of stages 1 to 4 in turn, has SE, number of branches: the columns of the study's Table 1.
MobileOneEncoding = tuple[int, float, int, float, int, float, int, float, bool, int]
HybridEncoding = tuple[str, ...]  # convolutions and attention of stages 1 to 4 in turn: the columns of its Table 3

MOBILEONE_DEPTHS = (0, 1, 2, 5, 8, 10)
MOBILEONE_MULTIPLIERS = tuple(quarters / 4 for quarters in range(1, 17))
MOBILEONE_BRANCHES = (1, 4)
MOBILEONE_TOTAL_DEPTHS = range(19, 23)  # sums of nominal depths
MOBILEONE_MARGIN = 200_000  # largest difference from MobileOne-S0 in folded parameters
MOBILEONE_S0: MobileOneEncoding = (2, 0.75, 8, 1.0, 10, 1.0, 1, 2.0, False, 4)
SWIFTFORMER_XS: HybridEncoding = ("conv-enc", "last-1") * 4
HYBRID_MOBILEONE: HybridEncoding = ("mo", "none") * 4


def mobileone_encodings() -> list[MobileOneEncoding]:
    """List the 55,870 encodings of the study's MobileOne space, in ascending order.

    The source is the study's section 4.1 and Table 1.

    Multipliers do not fall from one stage to the next, nominal depths sum to 19 to 22, and the network has about as
    many parameters as MobileOne-S0. These are the trained parameters of the folded network for 10 classes, so that the
    number of branches does not matter: at least 200,000 less than S0's 1,063,754, and less than 200,000 more.

    The study prints the limits as 0.86M and 1.26M. It does not describe how it counts parameters, nor the meaning of a
    depth of 0. This reading gives the printed number of architectures; the literal limits would give 55,846. A depth of
    0 is one layer with SE, as in `naaplib.architectures.mobileone.stages`. Many encodings share their network:
    `mobileone_distinct` returns 44,654.

    Returns
    -------
    list of tuple, each (depth 1, multiplier 1, ..., depth 4, multiplier 4, has SE, branches)
        int, float, ..., int, float, bool, int.
    """
    depths = [d for d in product(MOBILEONE_DEPTHS, repeat=4) if sum(d) in MOBILEONE_TOTAL_DEPTHS]
    multipliers = list(combinations_with_replacement(MOBILEONE_MULTIPLIERS, 4))
    least = mobileone.n_params(folded=True) - MOBILEONE_MARGIN
    encodings = []
    for has_se in (False, True):
        n_params = _folded_params(depths, multipliers, has_se)
        rows, columns = np.nonzero((n_params >= least) & (n_params < least + 2 * MOBILEONE_MARGIN))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            (d1, d2, d3, d4), (w1, w2, w3, w4) = depths[row], multipliers[column]
            encodings += [(d1, w1, d2, w2, d3, w3, d4, w4, has_se, n) for n in MOBILEONE_BRANCHES]
    return sorted(encodings)


def mobileone_distinct(encodings: Iterable[MobileOneEncoding]) -> list[MobileOneEncoding]:
    """Drop encodings whose network an earlier encoding has.

    The encodings of the study's space have 44,654 different networks.
    """
    first: dict[tuple, MobileOneEncoding] = {}
    for encoding in encodings:
        depths, multipliers, has_se = _fields(encoding)
        first.setdefault((mobileone.stages(depths, multipliers, has_se=has_se), encoding[-1]), encoding)
    return list(first.values())


def build_mobileone(encoding: MobileOneEncoding, n_classes: int = N_CLASSES, *, seed: int = 0) -> nn.Sequential:
    """Build the network of an encoding, in training form.

    `naaplib.architectures.mobileone.fold` converts it for inference.

    Parameters
    ----------
    encoding : sequence, length 10
        Form as in `mobileone_encodings`; other values are allowed.
    n_classes, seed : int
        As in `naaplib.architectures.mobileone.build`.

    Raises
    ------
    ValueError
        If the encoding has another form.
    """
    depths, multipliers, has_se = _fields(encoding)
    return mobileone.build(depths, multipliers, n_branches=encoding[-1], has_se=has_se, n_classes=n_classes, seed=seed)


def hybrid_encodings() -> list[HybridEncoding]:
    """List the 20,736 encodings of the study's hybrid space, last stage fastest.

    The source is the study's section 4.2 and Table 3.

    Returns
    -------
    list of tuple of str, each (convolutions 1, attention 1, ..., convolutions 4, attention 4)
        "conv-enc", "mo" or "mo-se"; "none", "last-1", "last-2" or "all". All of them have different networks.

    Examples
    --------
    >>> len(hybrid_encodings())
    20736
    """
    return list(product(*[swiftformer.CONVOLUTIONS, tuple(swiftformer.ATTENTIONS)] * 4))


def build_hybrid(
    encoding: HybridEncoding, n_branches: int = 4, *, n_classes: int = N_CLASSES, seed: int = 0
) -> nn.Sequential:
    """Build the network of an encoding, in training form.

    `naaplib.architectures.swiftformer.build` describes how the study is read.

    Parameters
    ----------
    encoding : sequence of str, length 8
        Form as in `hybrid_encodings`.
    n_branches : int
        Branches of MobileOne's blocks. The study searched with 4 and with 1.
    n_classes, seed : int

    Raises
    ------
    ValueError
        If the encoding has another form.
    """
    return swiftformer.build(encoding[::2], encoding[1::2], n_branches=n_branches, n_classes=n_classes, seed=seed)


def _fields(encoding: MobileOneEncoding) -> tuple[tuple[int, ...], tuple[float, ...], bool]:
    """Split an encoding into depths, multipliers and has_se."""
    if len(encoding) != 10:
        raise ValueError(f"an encoding is four times depth and multiplier, SE, branches; not {encoding}")
    layout: tuple[Any, ...] = encoding[:8]
    return tuple(layout[::2]), tuple(layout[1::2]), encoding[8]


def _folded_params(
    depths: Sequence[tuple[int, ...]], multipliers: Sequence[tuple[float, ...]], has_se: bool
) -> np.ndarray:
    """Parameters of folded networks, shape (len(depths), len(multipliers))."""
    count = cache(partial(mobileone.n_params_stage, n_branches=1, folded=True))
    stages = np.array(  # (len(MOBILEONE_DEPTHS), len(multipliers), 4)
        [
            [[count(s) for s in mobileone.stages([d] * 4, w, has_se=has_se)] for w in multipliers]
            for d in MOBILEONE_DEPTHS
        ]
    )
    whole = np.array(
        [
            mobileone.n_params([MOBILEONE_DEPTHS[0]] * 4, w, n_branches=1, has_se=has_se, folded=True)
            for w in multipliers
        ]
    )
    ends = whole - stages[0].sum(axis=1)  # the first block and the last layer
    positions = np.searchsorted(MOBILEONE_DEPTHS, depths)  # (len(depths), 4)
    return ends + sum(stages[positions[:, s], :, s] for s in range(4))
