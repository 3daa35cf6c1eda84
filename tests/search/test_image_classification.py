import dataclasses
import importlib
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from naaplib.architectures import mobileone
from naaplib.search.identity import describe, differences
from naaplib.search.image_classification import ImageClassification, rate_share

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (210, 50, 40)}

MODULE = '''
import os
import torch
from torch import nn

class Kept(nn.Module):
    """A network without BatchNorm in float64; asked to infer, it keeps its weights in a file of its process."""

    def __init__(self, path):
        super().__init__()
        self.path = path + os.environ.get("RANK", "")
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Linear(4, 3)
        self.register_buffer("seen", torch.zeros(()))
        self.double()

    def forward(self, x):
        if self.training:
            self.seen += x.detach().sum()
        else:
            torch.save(self.state_dict(), self.path)
        return self.last(self.layers(x))
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares of three colours on noise: 20 images of each, of 24 x 20 pixels."""
    generator, root = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for i in range(20):
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            pixels[2:18, 2:22] = colour
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of the user's, which other processes can import."""
    (tmp_path / "user_networks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return "user_networks"


def build(encoding: tuple[int, int]) -> nn.Sequential:
    """Channels of two convolutions."""
    first, second = encoding
    return nn.Sequential(
        *[nn.Conv2d(3, first, 3, stride=2, bias=False), nn.BatchNorm2d(first), nn.ReLU()],
        *[nn.Conv2d(first, second, 3, bias=False), nn.BatchNorm2d(second), nn.ReLU()],
        *[nn.Dropout(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(second, 3)],
    )


def build_mobileone(n_branches: int) -> nn.Sequential:
    """One block, whose running statistics matter."""
    return nn.Sequential(
        mobileone.Block(3, 8, kernel_size=3, stride=2, n_branches=n_branches),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def small(folder: Path, build: Any = build, **others: Any) -> ImageClassification:
    """An evaluator on the CPU that takes a second."""
    return ImageClassification.from_folder(
        build, folder, **{"image_side": 16, "n_epochs": 4, "batch_size": 16, "device": "cpu"} | others
    )


def made(n: int, **others: Any) -> ImageClassification:
    """On n random images of float32, half of them to validate on."""
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(2 * n, 3, 8, 8, generator=generator), torch.arange(2 * n) % 3
    parts = {"train": TensorDataset(x[:n], labels[:n]), "validation": TensorDataset(x[n:], labels[n:])}
    return ImageClassification(**{"build": build, "n_classes": 3, "n_epochs": 1, "device": "cpu"} | others | parts)


def test_colours_are_told_apart(folder: Path) -> None:
    """A small network learns three colours; before training it is no better than chance allows."""
    evaluator = small(folder, n_epochs=10)
    assert evaluator((8, 16)) > 0.9
    assert dataclasses.replace(evaluator, n_epochs=1, rate=0.0)((8, 16)) < 0.7


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # Python 3.12, of torch's workers
def test_results_are_the_same_bit_for_bit(folder: Path, tmp_path: Path, module: str) -> None:
    """Weights too, whatever the workers, the threads and torch's generator, which is left as it was.

    Also if several threads ask at once.
    """

    def weights(n_workers: int, seed: int = 0) -> dict[str, Tensor]:
        path = str(tmp_path / "weights")
        small(folder, f"{module}:Kept", n_epochs=2, n_workers=n_workers, seed=seed)(path)
        return torch.load(path)

    first = weights(0)
    torch.default_generator.manual_seed(77)
    before, n_threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(n_threads + 1)
    same, other = weights(2), weights(0, seed=1)
    assert torch.get_num_threads() == n_threads + 1
    torch.set_num_threads(n_threads)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    paths = [str(tmp_path / str(i)) for i in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(small(folder, f"{module}:Kept", n_epochs=2), paths))
    for path in paths:
        assert all(torch.equal(first[name], value) for name, value in torch.load(path).items())


def test_validation_images_are_never_trained_on(folder: Path) -> None:
    """The split is disjoint, in proportion, of all images, the same for a seed and another for another."""
    evaluator = small(folder, validation_share=0.25)
    read: dict[bool, list[int]] = {True: [], False: []}

    class Watched:
        def __init__(self, images: Any, is_train: bool) -> None:
            self.images, self.is_train = images, is_train

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, row: int) -> tuple[Any, int]:
            read[self.is_train].append(self.images.indices[row])
            return self.images[row]

    watched = Watched(evaluator.train, True), Watched(evaluator.validation, False)
    dataclasses.replace(evaluator, train=watched[0], validation=watched[1])((2, 2))
    labels = evaluator.train.dataset.targets  # type: ignore[attr-defined]
    assert not set(read[True]) & set(read[False])
    assert set(read[True]) | set(read[False]) == set(range(60))
    assert Counter(labels[row] for row in set(read[True])) == {0: 15, 1: 15, 2: 15}
    assert len(read[True]) == 4 * (45 // 16 * 16)  # whole batches only
    assert sorted(read[False]) == evaluator.validation.indices  # type: ignore[attr-defined]
    parts = [small(folder, validation_share=0.25, seed=seed).validation.indices for seed in (0, 1)]  # type: ignore[attr-defined]
    assert parts[0] == sorted(read[False]) != parts[1]


def test_images_are_seen_as_documented(folder: Path) -> None:
    """Pixels of 0 and 255 become -2 and 2; crops differ from epoch to epoch; the centre is the same always."""
    evaluator = small(folder)
    network = nn.Linear(1, 1)
    ends = torch.tensor([0, 255], dtype=torch.uint8).repeat(3, 8, 4)
    black_and_white = [(ends, 0), (Image.fromarray(ends.permute(1, 2, 0).numpy()), 1)]
    x, labels = next(evaluator._load(black_and_white, [[(0, 0), (0, 1)]], network))
    assert x.dtype == torch.float32 and x.unique().tolist() == [-2, 2]
    assert torch.equal(x[0], x[1]) and labels.tolist() == [0, 1]
    epochs = [[(0, 5)], [(1, 5)], [(0, 5)]]
    crops = [x for x, _ in evaluator._load(evaluator.train, epochs, network)]
    assert crops[0].shape == (1, 3, 16, 16)
    assert torch.equal(crops[0], crops[2]) and not torch.equal(crops[0], crops[1])
    centres = [x for x, _ in evaluator._load(evaluator.validation, epochs, network)]
    assert torch.equal(centres[0], centres[1])


def test_the_rate_rises_and_falls() -> None:
    """By hand: 5 % of the steps up to the highest, then half a cosine, which never reaches 0 before the last step."""
    shares = [rate_share(step, 100) for step in range(100)]
    assert shares[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert shares == sorted(shares[:6]) + sorted(shares[6:], reverse=True)
    assert rate_share(5 + 38, 5 + 76) == pytest.approx(0.5)
    assert shares[-1] == pytest.approx((1 + math.cos(math.pi * 94 / 95)) / 2) and rate_share(0, 1) == 1


def test_steps_are_those_of_the_recipe(module: str, tmp_path: Path) -> None:
    """Slow twin: four steps on all images at once by the formulas of Nesterov momentum and weight decay, in float64."""
    evaluator = made(12, build=f"{module}:Kept", n_epochs=4, rate=0.3, weight_decay=0.01)
    evaluator(str(tmp_path / "weights"))
    dataclasses.replace(evaluator, rate=0.0)(str(tmp_path / "start"))
    network = importlib.import_module(module).Kept("")
    network.load_state_dict(torch.load(tmp_path / "start"))
    x, labels = evaluator.train.tensors  # type: ignore[attr-defined]
    velocities = [torch.zeros_like(weight) for weight in network.parameters()]
    for step in range(4):
        loss = nn.functional.cross_entropy(network(x.double()), labels)
        rate = 0.3 * rate_share(step, 4)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for weight, velocity, gradient in zip(network.parameters(), velocities, gradients, strict=True):
                slope = gradient + 0.01 * weight
                velocity.mul_(0.9).add_(slope)
                weight -= rate * (slope + 0.9 * velocity)
    for name, weight in torch.load(tmp_path / "weights").items():
        if name != "seen":
            torch.testing.assert_close(weight, network.state_dict()[name], rtol=0, atol=1e-12)


def test_folded_networks_are_validated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accuracy is the same; without the option nothing is folded."""
    folded = []
    monkeypatch.setattr(mobileone.Block, "fold", lambda block, f=mobileone.Block.fold: folded.append(block) or f(block))
    evaluator = small(folder, build_mobileone)
    plain = evaluator(4)
    assert not folded
    assert dataclasses.replace(evaluator, fold=True)(4) == plain > 0.3
    assert len(folded) == 1 and folded[0].norms[0].num_batches_tracked == 12


def test_divergence_is_nan() -> None:
    """Of the loss during training, and of outputs that only the last step spoils."""
    assert math.isnan(made(16, rate=1e30, n_epochs=3)((2, 2)))
    assert math.isnan(made(16, rate=1e38, weight_decay=1e10)((2, 2)))
    assert made(16)((2, 2)) >= 0


def test_processes_share_each_batch(module: str, tmp_path: Path) -> None:
    """Torchrun with two processes reaches the weights of one, in float64, after three epochs of two steps of 9 images.

    Both validate the same network: what they know of their shares only is the first's.
    """
    one = made(20, build=f"{module}:Kept", n_epochs=3, batch_size=9)
    expected = one(str(tmp_path / "alone"))
    dataclasses.replace(one, rate=0.0)(str(tmp_path / "start"))
    two = dataclasses.replace(one, build=importlib.import_module(module).Kept, n_processes=2)
    assert two(str(tmp_path / "shared")) == expected
    alone, start, first, second = [torch.load(tmp_path / name) for name in ("alone", "start", "shared0", "shared1")]
    assert first["seen"] == second["seen"] != alone["seen"]
    for name in set(alone) - {"seen"}:
        torch.testing.assert_close(first[name], alone[name], rtol=0, atol=1e-12)
        assert torch.equal(first[name], second[name])
        assert (alone[name] - start[name]).abs().max() > 1e-3


def test_folders_that_will_not_do(folder: Path, tmp_path: Path) -> None:
    """None at all, a class of one image, no share."""
    with pytest.raises(
        FileNotFoundError, match=r"nowhere is no folder: name one that holds a folder of images for each"
    ):
        small(tmp_path / "nowhere")
    for name, n in {"cat": 2, "dog": 1}.items():
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (8, 8)).save(tmp_path / "pets" / name / f"{i}.png")
    with pytest.raises(ValueError, match=r"class 'dog' has 1 image\(s\); it needs at least 2"):
        small(tmp_path / "pets")
    with pytest.raises(ValueError, match=r"share to hold out is 1\.0; it must be above 0 and below 1"):
        small(folder, validation_share=1.0)


def test_what_does_not_fit_is_refused() -> None:
    """With what came and what is needed."""
    with pytest.raises(
        ValueError, match=r"outputs of shape \(8, 3\) for 8 images; needed are \(8, 5\).*make 5 outputs"
    ):
        made(8, n_classes=5)((2, 2))
    with pytest.raises(ValueError, match=r"image \d has label 2; labels must be from 0 to 1"):
        made(8, n_classes=2)((2, 2))
    for name, value in {"n_epochs": 0, "n_classes": 1, "n_workers": -1}.items():
        with pytest.raises(ValueError, match=f"{name} is {value}; it must be at least"):
            made(8, **{name: value})
    with pytest.raises(ValueError, match=r"batches of 2 images, and 8 images .* cannot be shared by 3 process"):
        made(8, batch_size=2, n_processes=3)
    with pytest.raises(ValueError, match=r"build is 'no_such:build', which is not found: .*write 'module:function'"):
        made(8, build="no_such:build")
    with pytest.raises(ValueError, match=r"processes cannot be given this: .*lambda.*move them into a file of"):
        made(8, build=lambda _: build((2, 2)), n_processes=2)


@pytest.mark.parametrize("output", [lambda x: {"logits": x}, lambda x: (x, x), lambda x: [x], lambda x: None])
def test_outputs_that_are_no_tensor_are_named(output: Any) -> None:
    """With what is needed, in training as in validation."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(48, 2)

        def forward(self, x: Tensor) -> Any:
            return output(self.last(x.flatten(1)))

    images = TensorDataset(torch.rand(8, 3, 4, 4), torch.arange(8) % 2)
    kind = type(output(torch.zeros(1))).__name__
    with pytest.raises(TypeError, match=rf"the network returned a {kind}: it must return one tensor, \(n, 2\)"):
        ImageClassification(lambda _: Named(), images, images, 2, n_epochs=1)(())


def test_a_search_knows_its_evaluator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it is made of and how many images there are; not by how images are loaded."""
    monkeypatch.setenv("HOME", str(folder.parent))
    full = ImageClassification.from_folder(build, Path("~") / folder.name, image_side=16, n_epochs=3)
    told = describe(evaluate=full)
    assert "build" in told["code"]
    assert told["values"]["ImageClassification.train"] == "Subset 48"
    assert differences(told, describe(evaluate=dataclasses.replace(full, n_workers=2))) == []
    for change in ({"n_epochs": 4}, {"rate": 0.2}, {"seed": 1}, {"train": full.validation}):
        assert len(differences(told, describe(evaluate=dataclasses.replace(full, **change)))) == 1
    assert differences(told, describe(evaluate=dataclasses.replace(full, build=lambda _: nn.Linear(1, 1))))
