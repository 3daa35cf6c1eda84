import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from naaplib.architectures import cells, cifar_networks
from naaplib.estimators.histories.ensemble import Ensemble
from naaplib.search.objectives import cell, darts, plain, rand_augment, scaled_resnet18
from naaplib.search.strategies import bohb, hyperband
from naaplib.search.training_objective import Setting, Trained
from naaplib.training.augmentation import crop_and_flip
from naaplib.training.cifar10 import Images, normalise
from naaplib.training.feature_history import FeatureHistory
from naaplib.training.watch import Watch

SMALL = Setting(n_train=60, n_validation=30, max_budget=4, batch_size=16, width=0.125, rate=0.05)
RESNET = (1, 1, 1, 1, 8, 8, 16, 16)  # a configuration of the scaling space, made smaller


class Chooser:
    """A trial that draws uniformly, or always takes the last choice."""

    def __init__(self, seed: int | None) -> None:
        self.draw = None if seed is None else random.Random(seed)

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return self.suggest_categorical(name, range(low, high + 1))

    def suggest_categorical(self, name: str, choices: Sequence) -> object:
        return self.draw.choice(choices) if self.draw else choices[-1]


def made(n: int = 100, side: int = 8, contrast: int = 100) -> Images:
    """Images of two classes, those of class 1 brighter by the contrast."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    images = torch.randint(100, (n, 3, side, side), generator=generator) + contrast * labels[:, None, None, None]
    return Images(images.to(torch.uint8), labels, images[:20].to(torch.uint8), labels[:20])


def resnet(folder: Path, setting: Setting = SMALL) -> Trained:
    return scaled_resnet18(made(), folder, limit=2, setting=setting)


def augmented(folder: Path, setting: Setting = SMALL) -> Trained:
    return rand_augment(made(), folder, network="resnet18", setting=setting)


def of_cells(folder: Path, setting: Setting = SMALL) -> Trained:
    return darts(made(), folder, n_cells=3, setting=setting)


CONFIGURATIONS = {resnet: RESNET, augmented: (2, 9), of_cells: (0, 3, 2, 1, 0, 5) * 4}


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("make", CONFIGURATIONS)
def test_training_in_parts_is_training_at_once(tmp_path: Path, window: int | None, make) -> None:
    """Bit for bit, scores and weights, when each part begins from the files alone."""
    setting, configuration = replace(SMALL, window=window), CONFIGURATIONS[make]
    at_once = make(tmp_path / "once", setting).evaluate(configuration, 3)
    in_parts = [make(tmp_path / "parts", setting).evaluate(configuration, budget) for budget in (1, 2, 3)]
    assert in_parts[-1] == at_once
    assert [make(tmp_path / "once", setting).evaluate(configuration, budget) for budget in (1, 2, 3)] == in_parts
    files = [next((tmp_path / kind).rglob("epoch-0003.pt")) for kind in ("once", "parts")]
    one, other = (torch.load(file)["state"]["network"] for file in files)
    assert all(torch.equal(one[key], other[key]) for key in one)


def epochs_trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which every epoch that is trained from now on is added."""
    trained, original = [], Trained._train_epoch

    def train_epoch(*given, epoch: int, **named):
        trained.append(epoch)
        return original(*given, epoch=epoch, **named)

    monkeypatch.setattr(Trained, "_train_epoch", train_epoch)
    return trained


def test_what_is_paid_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as was trained, and less, is read from the files; more trains the difference only."""
    objective, trained = resnet(tmp_path), epochs_trained(monkeypatch)
    for budget, expected in ((2, [1, 2]), (2, []), (1, []), (4, [3, 4]), (3, [])):
        objective.evaluate(RESNET, budget)
        assert trained == expected
        trained.clear()


def test_searches_train_what_they_pay_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HyperBand and BOHB run as they are; as many epochs are trained as are paid, and a second run trains none."""
    trained = epochs_trained(monkeypatch)
    for search in (hyperband, bohb):
        tables = [search(resnet(tmp_path / search.__name__), 9, max_budget=4, eta=2, seed=1) for _ in range(2)]
        assert len(trained) == tables[0]["spent"].iloc[-1] > 4
        pd.testing.assert_frame_equal(*tables)
        trained.clear()


def test_scores_are_those_of_a_literal_loop(tmp_path: Path) -> None:
    """Own accuracy, and feature histories' of two epochs, with a rate that falls step by step to 0 after the last."""
    images = made()
    network = cifar_networks.resnet(RESNET[:4], RESNET[4:], n_classes=2, stem=8)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    labels, held = images.train_labels[:60], (normalise(images.train_images[60:90]), images.train_labels[60:90])
    history, ensemble = FeatureHistory({"held": held}), Ensemble(2)
    rates, own, together = iter(0.05 * (1 - np.arange(16) / 16)), [], []
    with Watch(network, labels) as watch:
        for epoch in (1, 2, 3):
            generator = torch.Generator().manual_seed(int(np.random.SeedSequence([0, epoch]).generate_state(1)[0]))
            network.train()
            for rows in torch.randperm(60, generator=generator).split(16):
                optimizer.param_groups[0]["lr"] = next(rates)
                x = crop_and_flip(normalise(images.train_images[rows]), generator)
                loss = nn.functional.cross_entropy(network(x), labels[rows])
                watch.keep(rows)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            history.take(epoch, watch)
            ensemble.add(history[epoch])
            own.append((network.eval()(held[0]).argmax(1) == held[1]).double().mean().item())
            together.append(ensemble.accuracies({"both": ensemble.epochs})["both"].item())
    assert [resnet(tmp_path / "own").evaluate(RESNET, budget) for budget in (3, 2, 1)] == own[::-1]
    by_history = resnet(tmp_path / "both", replace(SMALL, window=2))
    assert [by_history.evaluate(RESNET, budget) for budget in (3, 2, 1)] == pytest.approx(together[::-1])


def test_curves_are_of_all_three_classifiers(tmp_path: Path) -> None:
    """Those that objectives with no window, with a window of one epoch, and with a longer one go by."""
    images = made(contrast=4)  # so that they differ
    objectives = {
        window: scaled_resnet18(images, tmp_path / str(window), limit=2, setting=replace(SMALL, window=window))
        for window in (None, 1, 3)
    }
    expected = {window: [each.evaluate(RESNET, epoch) for epoch in (1, 2, 3, 4)] for window, each in objectives.items()}
    table = objectives[3].curves(RESNET)
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    assert table[["original", "optimised", "ensemble"]].to_numpy().T.tolist() == list(expected.values())
    assert len(set(map(tuple, expected.values()))) == 3
    assert objectives[None].curves(RESNET).empty
    assert objectives[3].curves((2, *RESNET[1:])).empty


def test_a_network_trained_plainly_leaves_nothing_to_choose(tmp_path: Path) -> None:
    """Its only configuration trains as a scaled ResNet-18 with the same blocks does; VGG-16 has a tenth of the rate."""
    objective = plain(made(), tmp_path / "plain", setting=SMALL)
    assert {objective.suggest(Chooser(seed)) for seed in range(5)} == {(0,)}
    assert plain(made(10_000, side=1), tmp_path, network="vgg16").setting.rate == 0.01
    other = scaled_resnet18(made(), tmp_path / "scaled", limit=2, setting=SMALL)
    assert objective.evaluate((0,), 2) == other.evaluate((2, 2, 2, 2, 8, 16, 32, 64), 2)


def test_it_learns(tmp_path: Path) -> None:
    """What is bright is told from what is dark, on validation and on test images, whatever RandAugment does."""
    for objective, configuration in (
        (resnet(tmp_path / "a"), RESNET),
        (rand_augment(made(), tmp_path / "b", network="resnet18", setting=SMALL), (1, 3)),
    ):
        assert objective.evaluate(configuration, 4) > 0.8
        assert objective.test_accuracy(configuration) > 0.8


def test_configurations_are_trained_apart(tmp_path: Path) -> None:
    """Each in a folder of its own name; the configuration changes what is learnt."""
    objective = rand_augment(made(), tmp_path, network="resnet18", setting=SMALL)
    for configuration in ((1, 0), (3, 30)):
        objective.evaluate(configuration, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-0", "3-30"]
    weak, strong = (torch.load(tmp_path / name / "epoch-0001.pt")["state"]["network"] for name in ("1-0", "3-30"))
    assert not torch.equal(weak["0.weight"], strong["0.weight"])


def test_rand_augments_two_numbers(tmp_path: Path) -> None:
    """From 1 to 3 transformations and all 31 magnitudes."""
    objective = rand_augment(made(), tmp_path, network="resnet18", setting=SMALL)
    found = {objective.suggest(Chooser(seed)) for seed in range(2000)}
    assert found == {(n, m) for n in (1, 2, 3) for m in range(31)}


@pytest.mark.parametrize("width", [1.0, 0.25])
@pytest.mark.parametrize("limit", [1.0, 2.0, 4.0])
def test_scaled_networks_keep_to_the_limit(tmp_path: Path, limit: float, width: float) -> None:
    """All of them, and none is smaller than ResNet-18; what fits is as it was drawn."""
    objective = scaled_resnet18(made(), tmp_path, limit=limit, setting=replace(SMALL, width=width))
    stem = int(64 * width)
    smallest = (2, 2, 2, 2, *(int(width * w) for w in cifar_networks.WIDTHS))
    base = cifar_networks.resnet_cost(smallest[:4], smallest[4:], n_classes=2, stem=stem)[1]
    found = [objective.suggest(Chooser(seed)) for seed in range(100)]
    costs = [cifar_networks.resnet_cost(one[:4], one[4:], n_classes=2, stem=stem)[1] / base for one in found]
    assert max(costs) <= limit
    assert max(costs) > 0.8 * limit
    assert all(a >= b for one in found for a, b in zip(one, smallest, strict=True))
    assert scaled_resnet18(made(), tmp_path, limit=99, setting=replace(SMALL, width=width)).suggest(Chooser(None)) == (
        *(8, 8, 8, 8), *(int(2 * width * w) for w in cifar_networks.WIDTHS),
    )  # fmt: skip


def test_defaults_are_the_studys(tmp_path: Path) -> None:
    """Sections A.3.2 and A.5: images, epochs, batch and optimiser; VGG-16 has a tenth of the rate."""
    images = made(10_000, side=1)
    study = Setting(8000, 2000, 128, 256, rate=0.1, momentum=0.9, weight_decay=5e-4, width=1)
    assert scaled_resnet18(images, tmp_path).setting == study
    assert rand_augment(images, tmp_path).setting == study
    assert rand_augment(images, tmp_path, network="vgg16").setting == replace(study, rate=0.01)


def test_divergence_scores_nothing(tmp_path: Path) -> None:
    """0 from the epoch on in which the loss is not finite, also when more is asked for."""
    objective = resnet(tmp_path, replace(SMALL, rate=1e30))
    assert [objective.evaluate(RESNET, budget) for budget in (2, 4, 1)] == [0, 0, 0]


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    """With what is allowed, or what to do."""
    objective = resnet(tmp_path)
    for budget in (0, 5):
        with pytest.raises(ValueError, match=f"budget is {budget}; it must be from 1 to 4 epochs"):
            objective.evaluate(RESNET, budget)
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 1, 8, 8, 16, 16\) is not trained yet: evaluate it first"):
        objective.test_accuracy(RESNET)
    with pytest.raises(ValueError, match="90 images to train on and 30 to validate on are more than the 100 there are"):
        resnet(tmp_path, replace(SMALL, n_train=90))
    with pytest.raises(ValueError, match=r"limit is 0.5; it is a multiple of ResNet-18's cost"):
        scaled_resnet18(made(), tmp_path, limit=0.5)
    objective.evaluate(RESNET, 1)
    with pytest.raises(ValueError, match=r"belongs to another run: batch_size is 16 there and 20 here. Name another"):
        resnet(tmp_path, replace(SMALL, batch_size=20)).evaluate(RESNET, 1)


def test_checkpoints_of_other_code_are_refused(tmp_path: Path) -> None:
    """Of a user's own functions, under the same name; comments may change, and numbers may be numpy's."""

    def own(n: int, setting: Setting = SMALL) -> Trained:
        def build(_: tuple[int, ...]) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, n), nn.ReLU(), nn.Linear(n, 10))

        def augment(x: torch.Tensor, *_: object) -> torch.Tensor:
            return x.float() / 255

        return Trained(
            "own",
            made(),
            folder=tmp_path,
            suggest=lambda trial: (trial.suggest_int("n", 0, 1),),
            build=build,
            augment=augment,
            setting=setting,
        )

    score = own(4).evaluate((0,), 1)
    assert own(4, replace(SMALL, n_train=np.int64(60))).evaluate((np.int64(0),), 1) == score
    assert own(4).name == own(4).name != own(5).name
    with pytest.raises(ValueError, match=r"belongs to another run: values is .*build: n': 4.*build: n': 5"):
        own(5).evaluate((0,), 1)


def test_a_cell_is_trained_from_the_seed_of_its_setting(tmp_path: Path) -> None:
    """A configuration has the operations by edge; network and width are the benchmark's, narrower by the setting."""
    objective = cell(made(), tmp_path, n_cells=1, setting=replace(SMALL, width=0.25))
    assert objective.suggest(Chooser(None)) == (4,) * 6
    network = objective._build((3, 3, 3, 1, 3, 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SMALL.seed)
        expected = cells.build(cells.SIZE_CELL, n_channels=4, n_cells=1, n_classes=2)
    assert str(network) == str(expected)
    for own, other in zip(network.parameters(), expected.parameters(), strict=True):
        assert torch.equal(own, other)


def test_cells_and_their_depth_have_their_own_scores(tmp_path: Path) -> None:
    """One folder serves all cells; networks of another depth are refused there."""
    objective = cell(made(), tmp_path, n_cells=1, setting=SMALL)
    drawn = [objective.suggest(Chooser(seed)) for seed in range(3)]
    assert len(set(drawn)) == 3
    first = [objective.evaluate(one, 2) for one in drawn]
    assert [cell(made(), tmp_path, n_cells=1, setting=SMALL).evaluate(one, 2) for one in drawn] == first
    with pytest.raises(ValueError, match="cell"):
        cell(made(), tmp_path, n_cells=2, setting=SMALL).evaluate(drawn[0], 2)
