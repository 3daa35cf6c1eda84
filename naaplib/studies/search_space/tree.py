"""Constraint tree of a population: schemes that share their first blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import pandas as pd

from naaplib.architectures.schemes import Block, Scheme, identifier


def label(block: Block) -> str:
    """Describe a block briefly; a stride of 1 and a missing skip are left out.

    >>> label(Block(3, 16, 2)), label(Block(1, 24, 1, residual=True))
    ('3×3, 16, stride 2', '1×1, 24, skip')
    """
    stride = f", stride {block.stride}" if block.stride > 1 else ""
    return f"{block.kernel_size}×{block.kernel_size}, {block.width}{stride}{', skip' if block.residual else ''}"


def nodes(schemes: Sequence[Scheme]) -> pd.DataFrame:
    """Return every node of the tree: first blocks that one or more schemes share.

    Parameters
    ----------
    schemes : sequence of Scheme
        Depth first, as `.schemes.enumerate_schemes` returns them.

    Returns
    -------
    DataFrame, one row per node, ordered by depth, then as the schemes
        - depth: number of blocks from the image to the node
        - scheme: identifier of the blocks up to the node
        - block: the last block in words; kernel_size, width, stride, residual: the same block
        - first: ModelId of the first scheme below the node; n_schemes: number of schemes there, in sequence

    Raises
    ------
    ValueError
        If there are no schemes, or those with the same first blocks are not in sequence.
    """
    if not schemes:
        raise ValueError("no scheme keeps the constraints: allow a stride of 1, fewer skips, or more strided blocks")
    members: dict[Scheme, list[int]] = {}
    for model_id, scheme in enumerate(schemes, 1):
        for depth in range(1, len(scheme) + 1):
            members.setdefault(scheme[:depth], []).append(model_id)
    rows = []
    for beginning, model_ids in members.items():
        if model_ids[-1] - model_ids[0] != len(model_ids) - 1:
            raise ValueError(
                f"schemes must come depth first: those that begin with {identifier(beginning)} are not all together"
            )
        block = beginning[-1]
        rows.append({
            "depth": len(beginning), "scheme": identifier(beginning), "block": label(block), **vars(block),
            "first": model_ids[0], "n_schemes": len(model_ids),
        })  # fmt: skip
    return pd.DataFrame(rows).sort_values(["depth", "first"], ignore_index=True)


def beginning(schemes: Sequence[Scheme], model_id: int) -> Scheme:
    """Return the first two blocks of the scheme with a ModelId.

    Raises
    ------
    ValueError
        If there is no such scheme.
    """
    if not 1 <= model_id <= len(schemes):
        raise ValueError(f"branch_of is {model_id}; it must be the ModelId of a scheme, from 1 to {len(schemes)}")
    return schemes[model_id - 1][:2]


def branch(schemes: Sequence[Scheme], beginning: Scheme) -> pd.DataFrame:
    """Return the schemes with one or two blocks more than a common beginning.

    Parameters
    ----------
    schemes : sequence of Scheme
    beginning : Scheme
        The common blocks; there may be none.

    Returns
    -------
    DataFrame, one row per scheme, in the schemes' order
        - ModelId
        - next_block: the block after the beginning, in words
        - last_block: the one after that, or "none"; both are categories, in the order of kernel size, width, stride
          and skip
    """
    n = len(beginning)
    members = {
        model_id: scheme
        for model_id, scheme in enumerate(schemes, 1)
        if scheme[:n] == beginning and len(scheme) in (n + 1, n + 2)
    }
    columns = []
    for i in (n, n + 1):
        blocks = sorted({scheme[i] for scheme in members.values() if len(scheme) > i}, key=astuple)
        names = [label(scheme[i]) if len(scheme) > i else "none" for scheme in members.values()]
        columns.append(pd.Categorical(names, [*(["none"] if "none" in names else []), *map(label, blocks)]))
    return pd.DataFrame({"ModelId": list(members), "next_block": columns[0], "last_block": columns[1]})
