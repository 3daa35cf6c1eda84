"""The constraint tree: nodes counted by hand, laws over the population, and one branch."""

import doctest

import pytest

from naaplib.architectures import schemes
from naaplib.architectures.schemes import Block
from naaplib.studies.search_space import tree

A, B, C = Block(3, 12, 2), Block(1, 8, 1), Block(1, 16, 1)
SMALL = [(A,), (A, B), (A, C), (C, C)]


def test_examples_in_docstrings() -> None:
    """What the docstrings show is what happens."""
    result = doctest.testmod(tree)
    assert (result.attempted, result.failed) == (1, 0)


def test_nodes_by_hand() -> None:
    """Four schemes make five nodes: the shorter beginnings first, each with its first scheme and its number."""
    nodes = tree.nodes(SMALL)
    assert list(zip(nodes["scheme"], nodes["depth"], nodes["first"], nodes["n_schemes"], strict=True)) == [
        ("k3w12s2", 1, 1, 3),
        ("k1w16s1", 1, 4, 1),
        ("k3w12s2-k1w8s1", 2, 2, 1),
        ("k3w12s2-k1w16s1", 2, 3, 1),
        ("k1w16s1-k1w16s1", 2, 4, 1),
    ]


def test_nodes_of_the_population() -> None:
    """Two, four, 56 and 384 nodes; all schemes pass the first level, and those that end at three pass it."""
    nodes = tree.nodes(schemes.enumerate_schemes())
    assert nodes.groupby("depth").size().tolist() == [2, 4, 56, 384]
    assert nodes.groupby("depth")["n_schemes"].sum().tolist() == [440, 440, 440, 384]


def test_schemes_in_another_order_are_refused() -> None:
    """The tree is drawn in the schemes' order, so schemes that begin alike must lie together."""
    with pytest.raises(ValueError, match=r"must come depth first: those that begin with k3w12s2 are not all together"):
        tree.nodes([(A,), (C, C), (A, B)])


def test_branch_by_hand() -> None:
    """The schemes one and two blocks longer than the beginning, blocks in the order of widths as numbers."""
    branch = tree.branch([(A, C), (A, C, B), (A, C, C), (C,), (A, B), (A, B, B, B)], (A,))
    assert branch["ModelId"].tolist() == [1, 2, 3, 5]
    assert branch["next_block"].tolist() == ["1×1, 16", "1×1, 16", "1×1, 16", "1×1, 8"]
    assert branch["last_block"].tolist() == ["none", "1×1, 8", "1×1, 16", "none"]
    assert branch["next_block"].cat.categories.tolist() == ["1×1, 8", "1×1, 16"]
    assert branch["last_block"].cat.categories.tolist() == ["none", "1×1, 8", "1×1, 16"]


def test_branches_make_up_the_population() -> None:
    """The four branches after two blocks hold every scheme once."""
    population = schemes.enumerate_schemes()
    beginnings = sorted({scheme[:2] for scheme in population}, key=schemes.identifier)
    model_ids = [i for beginning in beginnings for i in tree.branch(population, beginning)["ModelId"]]
    assert (len(beginnings), sorted(model_ids)) == (4, list(range(1, 441)))


def test_branch_that_always_goes_on_has_no_end() -> None:
    """Where every scheme has two blocks more, "none" is no category."""
    assert tree.branch([(A, B)], ())["last_block"].cat.categories.tolist() == ["1×1, 8"]


def test_what_no_scheme_has_is_refused() -> None:
    """A ModelId beyond the population, 0 (which would be its last), and constraints that nothing keeps."""
    population = schemes.enumerate_schemes()
    assert tree.beginning(population, 440) == population[-1][:2]
    for model_id in (0, 441):
        with pytest.raises(ValueError, match=f"branch_of is {model_id}; it must be the ModelId of a scheme, from 1 to"):
            tree.beginning(population, model_id)
    with pytest.raises(ValueError, match="no scheme keeps the constraints"):
        tree.nodes([])
