import pytest
import torch
from torch import Tensor
from torch.nn import functional

from naaplib.training.augmentation import crop_and_flip, cut_out, rand_augment_images


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 40, side: int = 8) -> Tensor:
    """Noise, uint8."""
    return torch.randint(256, (n, 3, side, side), generator=seeded(5), dtype=torch.uint8)


def test_every_crop_is_one_of_those_possible() -> None:
    """Each image is found among the 81 windows of its padded self, flipped or not; over many, all of them occur."""
    images = pictures(4000).float()
    padded = functional.pad(images, [4] * 4)
    windows = [
        (
            flip,
            padded[:, :, top : top + 8, left : left + 8].flip(3)
            if flip
            else padded[:, :, top : top + 8, left : left + 8],
        )
        for flip in (False, True)
        for top in range(9)
        for left in range(9)
    ]
    found = crop_and_flip(images, seeded())
    equal = torch.stack([(found == window).flatten(1).all(dim=1) for _, window in windows])  # (162, n)
    assert (equal.sum(dim=0) == 1).all()
    assert equal.any(dim=1).all()
    assert 0.45 < equal[81:].any(dim=0).float().mean() < 0.55


def test_half_the_side_is_cut_out() -> None:
    """Rows and columns from two before the middle to one after it, of eight; in all channels; the rest stays."""
    images = pictures(2000).float() + 1
    hidden = cut_out(images, seeded()) == 0
    assert (hidden == hidden[:, :1]).all()
    squares = {tuple(map(int, part.nonzero().flatten())) for part in hidden[:, 0].any(dim=2)}
    assert squares == {tuple(i for i in range(middle - 2, middle + 2) if 0 <= i < 8) for middle in range(8)}
    rows, columns = hidden[:, 0].any(dim=2), hidden[:, 0].any(dim=1)
    assert (hidden[:, 0] == rows[:, :, None] & columns[:, None, :]).all()
    assert torch.equal(cut_out(images, seeded())[~hidden], images[~hidden])


@pytest.mark.parametrize("group", [1, 3, 40])
def test_a_group_is_transformed_alike(group: int) -> None:
    """Of forty times one picture there are at most as many results as groups, and several if there are many."""
    images = pictures(1).expand(40, -1, -1, -1)
    found = rand_augment_images(images, 1, magnitude=30, group=group, generator=seeded())
    n_results, n_groups = len(found.flatten(1).unique(dim=0)), -(-40 // group)
    assert n_results <= n_groups
    assert n_groups == 1 or n_results > 3
    assert found.dtype == torch.uint8


def test_transformations_are_torchvisions_at_the_magnitude() -> None:
    """Half of the range of brightness is among them, in both directions; of magnitude 0 most pictures stay."""
    image = pictures(1)
    found = rand_augment_images(image.expand(300, -1, -1, -1), 1, magnitude=15, group=1, generator=seeded()).flatten(1)
    for factor in (0.55, 1.45):
        brightened = (image.float() * factor).clamp(max=255).to(torch.uint8)
        assert (found == brightened.flatten()).all(dim=1).any()
    still = rand_augment_images(image.expand(300, -1, -1, -1), 1, magnitude=0, group=1, generator=seeded()).flatten(1)
    assert 0.7 < (still == image.flatten()).all(dim=1).float().mean() < 1


@pytest.mark.parametrize(
    "function",
    [crop_and_flip, cut_out, lambda x, g: rand_augment_images(x.byte(), 2, magnitude=9, group=1, generator=g)],
)
def test_the_generator_decides_and_nothing_else_is_touched(function) -> None:
    """The same seed gives the same images, another seed others; what was given, and torch's own state, stay."""
    images, before = pictures().float(), torch.get_rng_state()
    copy = images.clone()
    first, again, other = (function(images, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, copy)
    assert torch.equal(torch.get_rng_state(), before)
