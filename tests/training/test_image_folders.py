from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from naaplib.training import image_folders


def test_rare_classes_are_on_either_side() -> None:
    """By hand: of 10, 2 and 3 images, small and large shares leave one at least."""
    labels = [0] * 10 + [1] * 2 + [2] * 3
    for share, n_held in {0.01: [1, 1, 1], 0.4: [4, 1, 1], 0.99: [9, 1, 2]}.items():
        train, held = image_folders.split(labels, ["a", "b", "c"], share=share, seed=0)
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
    images = {seed: image_folders.LabelledTensors(Drawn(), 2, seeds=(seed, 3)) for seed in (0, 1)}
    drawn = [images[seed][place][0] for seed in (0, 1) for place in [(0, 0), (0, 1), (1, 0), (0, 0)]]
    actual.append(torch.rand(1))
    assert torch.equal(torch.cat(actual), expected)
    assert torch.equal(drawn[0], drawn[3]) and torch.equal(drawn[4], drawn[7])
    assert len({tuple(one.tolist()) for one in drawn}) == 6


def put(folder: Path, n_images: int = 4) -> None:
    """Put images into a folder."""
    folder.mkdir(parents=True)
    for number in range(n_images):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (("train/cat", "train/dog", "val/cat", "val/dog"), "train, val"),
        (("Training/cat", "Training/dog", "TEST"), "TEST, Training"),
        (("train", "test"), "test, train"),
        (("cat", "dog", "validation/cat", "validation/dog"), "validation"),
    ],
)
def test_parts_of_a_dataset_are_no_classes(tmp_path: Path, folders: tuple[str, ...], named: str) -> None:
    """Folders such as train and val are refused, whatever their letters, also beside classes."""
    for folder in folders:
        put(tmp_path / folder)
    with pytest.raises(ValueError, match=f"{named} in .* are parts of a dataset, as it seems, and no classes"):
        image_folders.read(tmp_path)


def test_classes_may_have_such_names_and_folders_below(tmp_path: Path) -> None:
    """A class "test" among others, and images further down, are read."""
    for folder in ("test", "cat/2019", "cat/2020", "dog/2019", "dog/2020"):
        put(tmp_path / folder)
    train, held, classes = image_folders.read(tmp_path, image_side=4)
    assert (len(train), len(held), classes) == (15, 5, ["cat", "dog", "test"])
    for side in (0, -1, 4.5):
        with pytest.raises(ValueError, match="image_side must be a whole number, 1 or more"):
            image_folders.read(tmp_path, image_side=side)
