from collections import Counter

import torch

from naaplib.training import image_datasets


def test_rare_classes_are_on_either_side() -> None:
    """By hand: of 10, 2 and 3 images, small and large shares leave one at least."""
    labels = [0] * 10 + [1] * 2 + [2] * 3
    for share, n_held in {0.01: [1, 1, 1], 0.4: [4, 1, 1], 0.99: [9, 1, 2]}.items():
        train, held = image_datasets.split(labels, ["a", "b", "c"], share, seed=0)
        assert [Counter(labels[row] for row in held)[label] for label in range(3)] == n_held
        assert sorted(train + held) == list(range(15))


def test_draws_follow_from_the_numbers_alone() -> None:
    """Of a seed, an epoch and a row; torch's own generator goes on as if nothing had been drawn."""
    torch.default_generator.manual_seed(5)
    expected = torch.rand(2)

    class Drawn:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
            return torch.rand(3), row

    torch.default_generator.manual_seed(5)
    actual = [torch.rand(1)]
    images = {seed: image_datasets.LabelledTensors(Drawn(), 2, (seed, 3)) for seed in (0, 1)}
    drawn = [images[seed][place][0] for seed in (0, 1) for place in [(0, 0), (0, 1), (1, 0), (0, 0)]]
    actual.append(torch.rand(1))
    assert torch.equal(torch.cat(actual), expected)
    assert torch.equal(drawn[0], drawn[3]) and torch.equal(drawn[4], drawn[7])
    assert len({tuple(one.tolist()) for one in drawn}) == 6
