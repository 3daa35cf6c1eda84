"""Objectives that train on CIFAR-10: RandAugment, ResNet-18 scaled, cells, DARTS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from naaplib.architectures import cells, cifar_networks
from naaplib.architectures import darts as space
from naaplib.search.samplers import Trial
from naaplib.search.training_objective import Configuration, Setting, Trained
from naaplib.training.augmentation import MAGNITUDES, crop_and_flip, cut_out, rand_augment_images
from naaplib.training.cifar10 import Images, normalise

MOST_TRANSFORMATIONS = 3
DEPTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)  # the study names eight factors for scaling up, not their values
WIDTHS = (1.0, 1.25, 1.5, 1.75, 2.0)


def rand_augment(
    images: Images, folder: str | Path, *, network: str = "resnet18", setting: Setting | None = None
) -> Trained:
    """Return the objective of tuning a network's RandAugment (Cubuk et al. 2020).

    The feature-history study has it in 4.3.1 and A.5. A configuration is (N, M): N transformations of an image, each
    drawn from fourteen, at magnitude M. The study does not give their ranges; here N is from 1 to
    `MOST_TRANSFORMATIONS`, M from 0 to 30. Each image is then padded, cropped, perhaps flipped, and a square cut out.

    Parameters
    ----------
    images : Images
        The study uses CIFAR-10.
    folder : str or Path
        Folder of checkpoints: see `Trained`.
    network : str
        One of ``cifar_networks.NAMES``; the study uses "vgg16", "resnet18" and "mobilenet_v2".
    setting : Setting, optional
        By default the study's, at full size, with the network's learning rate.
    """
    setting = setting or Setting(rate=0.01 if network == "vgg16" else 0.1)

    def suggest(trial: Trial) -> Configuration:
        return trial.suggest_int("N", 1, MOST_TRANSFORMATIONS), trial.suggest_int("M", 0, MAGNITUDES - 1)

    def build(_: Configuration) -> nn.Module:
        return cifar_networks.build(network, _n_classes(images), seed=setting.seed, width=setting.width)

    def augment(x: Tensor, configuration: Configuration, generator: torch.Generator) -> Tensor:
        n, magnitude = configuration
        x = rand_augment_images(x, n, magnitude=magnitude, group=setting.group, generator=generator)
        return cut_out(crop_and_flip(normalise(x), generator), generator)

    return Trained(
        f"rand_augment {network}", images, folder=folder, suggest=suggest, build=build, augment=augment, setting=setting
    )


def plain(images: Images, folder: str | Path, *, network: str = "resnet18", setting: Setting | None = None) -> Trained:
    """Return the objective of training one network as in the study's Figures 3.1, 4.1.

    Images are padded, cropped and flipped. The only configuration is (0,). Parameters are those of `rand_augment`.
    """
    setting = setting or Setting(rate=0.01 if network == "vgg16" else 0.1)

    def suggest(trial: Trial) -> Configuration:
        return (trial.suggest_int("none", 0, 0),)

    def build(_: Configuration) -> nn.Module:
        return cifar_networks.build(network, _n_classes(images), seed=setting.seed, width=setting.width)

    return Trained(
        f"plain {network}", images, folder=folder, suggest=suggest, build=build, augment=_flipped, setting=setting
    )


def scaled_resnet18(
    images: Images, folder: str | Path, *, limit: float = 2.0, setting: Setting | None = None
) -> Trained:
    """Return the objective of scaling up ResNet-18 within a multiple of its cost.

    The feature-history study has it in 4.3.2 and A.6. Four factors of depth and four of width are drawn from `DEPTHS`
    and `WIDTHS`. If the network would exceed the limit, all factors are raised to the same power below 1; the study
    does not say how it keeps to the limit. A configuration is four numbers of blocks, then four of channels: see
    `.cifar_networks.scale`. Images are padded, cropped and flipped.

    Parameters
    ----------
    images : Images
        The study uses CIFAR-100; the labels give the number of classes.
    folder, setting
        As for `rand_augment`.
    limit : float
        Largest cost in multiply-accumulates, as a multiple of ResNet-18's; the study uses 2 and 4.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; it is a multiple of ResNet-18's cost, and networks are scaled up from it")
    setting = setting or Setting()
    n_classes, width = _n_classes(images), setting.width
    unscaled = cifar_networks.scale([1.0] * 4, [width] * 4)
    stem = unscaled[1][0]
    most = limit * cifar_networks.resnet_cost(*unscaled, n_classes=n_classes, stem=stem)[1]

    def suggest(trial: Trial) -> Configuration:
        depths = [trial.suggest_categorical(f"d{stage}", DEPTHS) for stage in (2, 3, 4, 5)]
        widths = [trial.suggest_categorical(f"w{stage}", WIDTHS) for stage in (2, 3, 4, 5)]
        for power in np.linspace(1, 0, 21):
            found = cifar_networks.scale([d**power for d in depths], [width * w**power for w in widths])
            if cifar_networks.resnet_cost(*found, n_classes=n_classes, stem=stem)[1] <= most:
                break
        return (*found[0], *found[1])

    def build(configuration: Configuration) -> nn.Module:
        return cifar_networks.resnet(
            configuration[:4], configuration[4:], n_classes=n_classes, seed=setting.seed, stem=stem
        )

    return Trained(
        f"scaled_resnet18 {limit:g}",
        images,
        folder=folder,
        suggest=suggest,
        build=build,
        augment=_flipped,
        setting=setting,
    )


def cell(images: Images, folder: str | Path, *, n_cells: int = 5, setting: Setting | None = None) -> Trained:
    """Return the objective of choosing a cell of NAS-Bench-201.

    The feature-history study has it in 4.2.1 and A.3. A configuration has a number for each of ``cells.EDGES``, the
    place of its operation in ``cells.OPERATIONS``. Images are padded, cropped and flipped.

    Parameters
    ----------
    images, folder, setting
        As for `rand_augment`. The first stage has 16 channels times the setting's width, rounded, at least 1.
    n_cells : int
        Cells in each of the three stages; the benchmark has 5.
    """
    setting = setting or Setting()
    n_channels = max(1, round(16 * setting.width))

    def suggest(trial: Trial) -> Configuration:
        return tuple(trial.suggest_int(f"edge {i}", 0, len(cells.OPERATIONS) - 1) for i in range(len(cells.EDGES)))

    def build(configuration: Configuration) -> nn.Module:
        chosen = tuple(cells.OPERATIONS[i] for i in configuration)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(setting.seed)  # not torch.manual_seed: it would reseed GPUs as well
            return cells.build(chosen, n_channels, n_cells=n_cells, n_classes=_n_classes(images))

    return Trained(
        f"cell {n_cells}", images, folder=folder, suggest=suggest, build=build, augment=_flipped, setting=setting
    )


def darts(images: Images, folder: str | Path, *, n_cells: int = 12, setting: Setting | None = None) -> Trained:
    """Return the objective of choosing both cells of the DARTS space.

    The feature-history study has it in 4.2.2 and A.4. A configuration is 24 numbers, see
    `naaplib.architectures.darts.from_numbers`; each is drawn uniformly. Images are padded, cropped and flipped, and a
    square is cut out. The study's networks also have path dropout and auxiliary towers; these have not.

    Parameters
    ----------
    images, folder
        As for `rand_augment`. The first cells have 32 channels times the setting's width, rounded, at least 1.
    n_cells : int
        The study's number.
    setting : Setting, optional
        By default the study's, at full size.
    """
    setting = setting or Setting(batch_size=96, rate=0.025, weight_decay=3e-4)
    n_channels = max(1, round(32 * setting.width))

    def suggest(trial: Trial) -> Configuration:
        return tuple(trial.suggest_int(f"choice {i}", 0, n - 1) for i, n in enumerate(space.CHOICES, start=1))

    def build(configuration: Configuration) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(setting.seed)
            genotype = space.from_numbers(configuration)
            return space.build(genotype, n_channels, n_cells=n_cells, n_classes=_n_classes(images))

    def augment(x: Tensor, _: Configuration, generator: torch.Generator) -> Tensor:
        return cut_out(crop_and_flip(normalise(x), generator), generator)

    return Trained(
        f"darts {n_cells}", images, folder=folder, suggest=suggest, build=build, augment=augment, setting=setting
    )


def _flipped(x: Tensor, _: Configuration, generator: torch.Generator) -> Tensor:
    return crop_and_flip(normalise(x), generator)


def _n_classes(images: Images) -> int:
    return int(images.train_labels.max()) + 1
