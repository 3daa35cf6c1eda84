import itertools

import pytest
import torch
from torch import nn

from naaplib.architectures import mobileone, swiftformer, tuning_spaces
from naaplib.architectures.tuning_spaces import MOBILEONE_S0, MobileOneEncoding


@pytest.fixture(scope="module")
def encodings() -> list[MobileOneEncoding]:
    return tuning_spaces.mobileone_encodings()


def folded_params(encoding: MobileOneEncoding) -> int:
    return mobileone.n_params(encoding[:8:2], encoding[1:8:2], n_branches=encoding[9], has_se=encoding[8], folded=True)


def test_mobileone_space_has_the_published_number(encodings: list[MobileOneEncoding]) -> None:
    """55,870 (section 4.1), each once and in order, S0 among them; of 44,654 different networks."""
    assert len(encodings) == 55_870
    assert encodings == sorted(set(encodings))
    assert MOBILEONE_S0 in encodings
    assert len(tuning_spaces.mobileone_distinct(encodings)) == 44_654


def test_mobileone_encodings_keep_the_table(encodings: list[MobileOneEncoding]) -> None:
    """Values and rules of Table 1, by tuples; parameters of every thousandth as of the network counted whole."""
    for encoding in encodings:
        depths, multipliers = encoding[:8:2], encoding[1:8:2]
        assert set(depths) <= {0, 1, 2, 5, 8, 10}
        assert 19 <= sum(depths) <= 22
        assert list(multipliers) == sorted(multipliers)
        assert all(0.25 <= w <= 4 and w % 0.25 == 0 for w in multipliers)
    assert {encoding[8:] for encoding in encodings} == set(itertools.product((False, True), (1, 4)))
    assert all(863_754 <= folded_params(encoding) < 1_263_754 for encoding in encodings[::1000])


def test_no_other_encoding_belongs(encodings: list[MobileOneEncoding]) -> None:
    """Of those with S0's depths or with its multipliers, counted one by one, all and only those within the limits."""
    kept = set(encodings)
    depths = [d for d in itertools.product((0, 1, 2, 5, 8, 10), repeat=4) if 19 <= sum(d) <= 22]
    quarters = [w / 4 for w in range(1, 17)]
    slow = [(d, MOBILEONE_S0[1:8:2]) for d in depths]
    slow += [(MOBILEONE_S0[:8:2], w) for w in itertools.combinations_with_replacement(quarters, 4)]
    seen = 0
    for (d1, d2, d3, d4), (w1, w2, w3, w4) in slow:
        for has_se in (False, True):
            encoding = (d1, w1, d2, w2, d3, w3, d4, w4, has_se, 4)
            belongs = 863_754 <= folded_params(encoding) < 1_263_754
            assert (encoding in kept) == belongs
            seen += belongs
    assert 100 < seen < len(slow)


def test_distinct_encodings_are_of_distinct_networks() -> None:
    """A depth of 0 is one layer with SE; in stage 4 so is a depth of 1 with SE. Branches are another network."""
    zero = (2, 0.75, 8, 1.0, 1, 1.0, 0, 2.0, False, 4)
    one = (2, 0.75, 8, 1.0, 1, 1.0, 1, 2.0, True, 4)
    others = [(*one[:-1], 1), (*zero[:4], 0, *zero[5:]), (*one[:8], False, 4)]
    assert tuning_spaces.mobileone_distinct([zero, one, *others]) == [zero, *others]
    states = [tuning_spaces.build_mobileone(encoding).state_dict() for encoding in (zero, one, *others)]
    shapes = [{key: value.shape for key, value in state.items()} for state in states]
    assert shapes[0] == shapes[1]
    assert not any(a == b for a, b in itertools.combinations(shapes[1:], 2))


def test_an_encoding_is_built() -> None:
    """As the MobileOne of its depths and multipliers, from its seed; a list, as from a file, does as well."""
    expected = mobileone.build(
        (1, 2, 1, 1), (0.25, 0.25, 0.5, 1.0), n_branches=2, has_se=True, n_classes=7, seed=5
    ).state_dict()
    encoding = [1, 0.25, 2, 0.25, 1, 0.5, 1, 1.0, True, 2]
    actual = tuning_spaces.build_mobileone(encoding, n_classes=7, seed=5).state_dict()
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[key], expected[key]) for key in expected)
    network: nn.Module = tuning_spaces.build_mobileone(MOBILEONE_S0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_278_522


def test_hybrid_space_has_the_published_number() -> None:
    """Twelve choices for each of four stages, each once (section 4.2); both rows of Table 3 are among them."""
    encodings = tuning_spaces.hybrid_encodings()
    assert len(encodings) == len(set(encodings)) == 12**4 == 20_736
    assert {tuning_spaces.SWIFTFORMER_XS, tuning_spaces.HYBRID_MOBILEONE} <= set(encodings)
    choices = set(itertools.product(("conv-enc", "mo", "mo-se"), ("none", "last-1", "last-2", "all")))
    for stage in range(4):
        assert {encoding[2 * stage : 2 * stage + 2] for encoding in encodings} == choices


@pytest.mark.parametrize("stage", range(4))
def test_hybrids_are_all_different(stage: int) -> None:
    """Each choice for a stage has a size of its own, so that none is another's network."""
    sizes = set()
    for convolution, attention in itertools.product(swiftformer.CONVOLUTIONS, swiftformer.ATTENTIONS):
        parts = [["mo"] * 4, ["none"] * 4]
        parts[0][stage], parts[1][stage] = convolution, attention
        sizes.add(swiftformer.n_params(*parts))
    assert len(sizes) == 12


def test_a_hybrid_is_built() -> None:
    """Of the parts named, in the order of stages, from its seed; a list, as from a file, does as well."""
    encoding = ["mo", "none", "conv-enc", "last-2", "mo-se", "last-1", "mo", "all"]
    parts = ("mo", "conv-enc", "mo-se", "mo"), ("none", "last-2", "last-1", "all")
    expected = swiftformer.build(*parts, n_branches=2, n_classes=7, seed=5).state_dict()
    actual = tuning_spaces.build_hybrid(encoding, n_branches=2, n_classes=7, seed=5).state_dict()
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def test_wrong_encodings_are_named() -> None:
    """With what is expected."""
    with pytest.raises(ValueError, match="an encoding is four times depth and multiplier, SE, branches; not "):
        tuning_spaces.build_mobileone(MOBILEONE_S0[:-1])
    with pytest.raises(ValueError, match="convolutions must be four, one a stage, of conv-enc, mo, mo-se; not "):
        tuning_spaces.build_hybrid(("last-1", "conv-enc") * 4)
