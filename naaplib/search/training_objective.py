"""Objective that trains networks further, with checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from naaplib.estimators.histories.linear import probabilities, retrain
from naaplib.parallel import one_thread
from naaplib.search.identity import describe, plain
from naaplib.search.samplers import Trial
from naaplib.training import checkpoints
from naaplib.training.cifar10 import Images, normalise
from naaplib.training.devices import resolve
from naaplib.training.feature_history import FeatureHistory
from naaplib.training.single import TEST_BATCH
from naaplib.training.trainer import arithmetic
from naaplib.training.watch import Watch

Configuration = tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """Settings of a training; the defaults are the study's (A.3.2, A.5).

    Training is by stochastic gradient descent on cross-entropy, with the same seed and order of images for all
    configurations. Smaller numbers make a reduced trial.

    Parameters
    ----------
    n_train, n_validation : int
        The first n_train training images are trained on; the next n_validation give the score.
    max_budget : int
        Epochs after which the learning rate, which falls linearly with each step, would reach 0.
    batch_size : int
        The last batch of an epoch may be smaller.
    rate : float
        Learning rate of the first step; the study uses 0.01 for VGG-16.
    momentum, weight_decay : float
    width : float
        Factor for all numbers of channels.
    group : int
        Images that RandAugment transforms alike. The definition is 1, which takes about 0.2 ms per image and
        transformation on a CPU core; groups of 8 take about a fifth of that.
    window : int, optional
        Epochs of a feature history. The score is then the accuracy of the ensemble of classifiers retrained on the
        features of the last `window` epochs. None: the score is the network's own accuracy.
    seed : int
    device : str
        As torch names it, or "auto": the first GPU, or the CPU without one. The setting holds the resolved name, see
        `.devices.resolve`.
    """

    n_train: int = 8_000
    n_validation: int = 2_000
    max_budget: int = 128
    batch_size: int = 256
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    width: float = 1.0
    group: int = 1
    window: int | None = None
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", str(resolve(self.device)))


class Trained:
    """Objective for `.strategies`: it resumes training from checkpoints in a folder.

    `.objectives` makes such objectives. On a CPU, scores are the same bit for bit if a network was trained at once, in
    parts, or by several processes in turn.

    Parameters
    ----------
    name : str
        Name of the objective. Checkpoints of another name, or of other code of `build` and `augment`, are refused.
    images : Images
    folder : str or Path
        Has a folder per configuration, with at most two checkpoints of twice the size of its network.
    suggest : callable
        Maps a trial to a configuration, a tuple of whole numbers.
    build : callable
        Maps a configuration to a network on the CPU.
    augment : callable
        Maps uint8 images (n, 3, side, side), a configuration and a generator to normalised float32 images.
    setting : Setting
    """

    remembers = True  # every epoch's score is recorded

    def __init__(
        self,
        name: str,
        images: Images,
        *,
        folder: str | Path,
        suggest: Callable[[Trial], Configuration],
        build: Callable[[Configuration], nn.Module],
        augment: Callable[[Tensor, Configuration, torch.Generator], Tensor],
        setting: Setting,
    ) -> None:
        n_used = setting.n_train + setting.n_validation
        if n_used > len(images.train_images):
            raise ValueError(
                f"{setting.n_train} images to train on and {setting.n_validation} to validate on are more than the "
                f"{len(images.train_images)} there are"
            )
        self.folder, self.setting, self.images = Path(folder).expanduser(), setting, images
        self.suggest, self._build, self._augment = suggest, build, augment
        x, labels = images.train_images[:n_used].cpu(), images.train_labels[:n_used].cpu()
        self._x, self._labels = x[: setting.n_train], labels[: setting.n_train]
        self._held = x[setting.n_train :], labels[setting.n_train :]
        used = Images(self._x, self._labels, *self._held)
        self._owner = {"objective": name, "images": used.digest(), "torch": str(torch.__version__), **asdict(setting)}
        if not str(getattr(build, "__module__", "")).startswith(
            "naaplib."
        ):  # their names identify those that this library defines
            self._owner |= describe(build=build, augment=augment)
        self._owner = plain(self._owner)
        self.name = f"{name} {hashlib.sha256(json.dumps(self._owner).encode()).hexdigest()[:16]}"

    def evaluate(self, configuration: Configuration, budget: int) -> float:
        """Return the score after `budget` epochs, resuming from the checkpoint.

        It costs nothing if the configuration is trained for as many epochs already.

        Parameters
        ----------
        configuration : tuple of int
            As `suggest` returns it.
        budget : int
            Total number of epochs, from 1 to `Setting.max_budget`.

        Returns
        -------
        float
            Validation accuracy, a fraction: see `Setting.window`. It is 0 once a loss is not finite.

        Raises
        ------
        ValueError
            If the budget is out of range, or the checkpoints have another objective, setting or images.
        naaplib.training.checkpoints.FolderInUse
            If another process is training this configuration.
        """
        setting = self.setting
        if not 1 <= budget <= setting.max_budget:
            raise ValueError(f"budget is {budget}; it must be from 1 to {setting.max_budget} epochs")
        folder, owner = self._place(configuration)
        with checkpoints.claim(folder), one_thread(setting.device), arithmetic("fp32"):
            state = (checkpoints.read(folder, owner) or {"state": {"scores": []}})["state"]
            if len(state["scores"]) < budget:
                state = self._train(configuration, state, budget)
                checkpoints.write(folder, budget, owner=owner, state=state)
        return state["scores"][budget - 1]

    def curves(self, configuration: Configuration) -> pd.DataFrame:
        """Return the validation accuracies of three classifiers after every epoch.

        Returns
        -------
        DataFrame
            epoch, original, optimised, ensemble: see `.ensemble.Ensemble`. The table is empty if the
            setting has no window.
        """
        folder, owner = self._place(configuration)
        found = checkpoints.read(folder, owner)
        rows = found["state"]["curves"] if found else []
        table = pd.DataFrame(rows, columns=["original", "optimised", "ensemble"])
        table.insert(0, "epoch", range(1, len(table) + 1))
        return table

    def test_accuracy(self, configuration: Configuration) -> float:
        """Return the test accuracy, a fraction, at the last checkpoint.

        A search must not use it.

        Raises
        ------
        ValueError
            If the configuration is not trained at all.
        """
        folder, owner = self._place(configuration)
        found = checkpoints.read(folder, owner)
        if found is None:
            raise ValueError(f"{configuration} is not trained yet: evaluate it first")
        with one_thread(self.setting.device), arithmetic("fp32"):
            network, _ = self._restore(configuration, found["state"])
            return self._accuracy(network, self.images.test_images, self.images.test_labels)

    def _place(self, configuration: Configuration) -> tuple[Path, dict[str, object]]:
        numbers = [int(number) for number in configuration]
        return self.folder / "-".join(map(str, numbers)), self._owner | {"configuration": numbers}

    def _restore(self, configuration: Configuration, state: dict[str, Any]) -> tuple[nn.Module, torch.optim.SGD]:
        setting = self.setting
        network = self._build(configuration).to(setting.device)
        optimizer = torch.optim.SGD(
            network.parameters(), setting.rate, setting.momentum, weight_decay=setting.weight_decay
        )
        if state["scores"]:
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
        return network, optimizer

    def _train(self, configuration: Configuration, state: dict[str, Any], budget: int) -> dict[str, Any]:
        """Train from a state to `budget` epochs, and return the new state.

        Every epoch is scored, for smaller budgets later on.
        """
        setting, scores = self.setting, list(state["scores"])
        curves, said = (list(state.get(name, [])) for name in ("curves", "said"))
        network, optimizer = self._restore(configuration, state)
        window = setting.window or 0
        watch = Watch(network, self._labels) if window else None
        history = FeatureHistory({"validation": (normalise(self._held[0]), self._held[1])}, size=1)
        with watch or nullcontext():
            for epoch in range(len(scores) + 1, budget + 1):
                loss = self._train_epoch(configuration, network, optimizer=optimizer, watch=watch, epoch=epoch)
                if not math.isfinite(loss):
                    scores += [0.0] * (setting.max_budget - len(scores))
                    break
                own = self._accuracy(network, *self._held)
                if watch is None:
                    scores.append(own)
                    continue
                history.take(epoch, watch)
                said = [*said, self._retrained(history, epoch)][-window:]
                means = said[-1], torch.stack(said).float().mean(dim=0)
                one, many = (int((mean.argmax(dim=1) == self._held[1]).sum()) / setting.n_validation for mean in means)
                scores.append(many)
                curves.append([own, one, many])
        done = {"scores": scores, "curves": curves, "said": said}
        return done | {"network": network.state_dict(), "optimizer": optimizer.state_dict()}

    def _train_epoch(
        self,
        configuration: Configuration,
        network: nn.Module,
        optimizer: torch.optim.SGD,
        watch: Watch | None,
        epoch: int,
    ) -> float:
        """Train on all training images once, and return the last loss.

        The seed and the epoch determine all random draws.
        """
        setting = self.setting
        word = np.random.SeedSequence([setting.seed, epoch]).generate_state(1)
        generator = torch.Generator().manual_seed(int(word[0]))
        batches = torch.randperm(setting.n_train, generator=generator).split(setting.batch_size)
        network.train()
        for i, rows in enumerate(batches):
            share = (epoch - 1 + i / len(batches)) / setting.max_budget
            for group in optimizer.param_groups:
                group["lr"] = setting.rate * (1 - share)
            x = self._augment(self._x[rows], configuration, generator).to(setting.device)
            loss = functional.cross_entropy(network(x), self._labels[rows].to(setting.device))
            if watch is not None:
                watch.keep(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    def _retrained(self, history: FeatureHistory, epoch: int) -> Tensor:
        """Return validation probabilities of the retrained classifier, (n, n_classes)."""
        seen = history[epoch]
        retrained = retrain(
            seen.train, seen.train_labels, weights=seen.weights, biases=seen.biases, seed=self.setting.seed
        )
        return probabilities(seen.held["validation"], retrained)[0].half().cpu()

    @torch.no_grad()
    def _accuracy(self, network: nn.Module, images: Tensor, labels: Tensor) -> float:
        network.eval()
        outputs = [network(normalise(x.to(self.setting.device))).argmax(dim=1).cpu() for x in images.split(TEST_BATCH)]
        return int((torch.cat(outputs) == labels.cpu()).sum()) / len(labels)
