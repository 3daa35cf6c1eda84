"""Train all networks of a set at once on shared mini-batches.

Each network is trained as if it was alone.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from naaplib.architectures.scheme_networks import Network, build_seeded
from naaplib.architectures.schemes import Scheme, identifier
from naaplib.parallel import bar_disabled
from naaplib.training import checkpoints, compiled, fused
from naaplib.training.cifar10 import Images
from naaplib.training.gpus import kind_of
from naaplib.training.recipe import PUBLISHED, SEED, Recipe, batch_orders
from naaplib.training.trainer import PRECISIONS, Trainer, arithmetic

MEASURES = ["loss_mean", "loss_median", "accuracy"]
TRAINERS = ("torch", "grouped", "fused", "compiled")


def train_population(
    schemes: Mapping[int, Scheme],
    images: Images,
    *,
    recipe: Recipe = PUBLISHED,
    seed: int = SEED,
    n_epochs: int | None = None,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    n_holdout: int = 0,
    perturbation: float = 0.0,
    folder: str | Path | None = None,
    after_epoch: Callable[[int, Trainer], None] | None = None,
    keep_features: bool = False,
    progress: bool = True,
    trainer: str = "torch",
) -> pd.DataFrame:
    """Train networks together by the recipe, with the records of `train_network`.

    Results differ from `train_network` by rounding, because sums have another order, and training at a high learning
    rate amplifies that. They are reproducible bit for bit on one machine, with the same versions, schemes and number of
    threads. A run that was stopped or killed resumes with the same arguments and gives the same result.

    Parameters
    ----------
    schemes : mapping from ModelId to Scheme
    images, recipe, seed, n_epochs
        As in `train_network`.
    device : str or torch.device
        On a GPU, an epoch runs as CUDA graphs; on a CPU, a few networks at a time are fastest.
    precision : {"fp32", "tf32", "bf16", "fp64"}
        Precision of the arithmetic; weights are stored in fp64 for "fp64", else in fp32. "tf32" affects GPUs only.
    n_holdout : int
        Number of validation images: the last training images in their official order.
    perturbation : float
        Relative standard deviation of noise on all initial weights, for re-runs of the same kind; 0 for none.
    folder : path, optional
        Folder of this run's checkpoints: one per epoch, of which the last two remain. None saves none.
    after_epoch : callable, optional
        Function of the epoch's number and the `Trainer`, called after each epoch that is trained, not for resumed ones.
        It computes in "fp32" at any `precision`.
    keep_features : bool
        True stores every network's features of each training image in `Trainer.features`.
    progress : bool
        True shows a progress bar, on a terminal or if `NAAPLIB_PROGRESS` is set.
    trainer : {"torch", "grouped", "fused", "compiled"}
        As in `choose_trainer`. Their results differ by rounding; none resumes from another's checkpoints.

    Returns
    -------
    DataFrame, shape (n_networks * n_epochs, 5), or 6 columns with validation images
        ModelId, then the columns of `train_network`, then holdout_accuracy if `n_holdout` is not 0: networks in the
        order of the mapping, epochs from 1.

    Raises
    ------
    FloatingPointError
        If a loss is not finite; the message names the networks. Checkpoints of earlier epochs remain in `folder`.
    ValueError
        If an argument is out of range, or the checkpoints in `folder` belong to another run.
    naaplib.training.checkpoints.FolderInUse
        If another process is training into `folder`.
    OSError
        If a checkpoint cannot be written; earlier ones remain.
    """
    n_epochs = recipe.n_epochs if n_epochs is None else n_epochs
    if n_epochs < 1:
        raise ValueError(f"n_epochs must be 1 or more, not {n_epochs}")
    trainer = choose_trainer(trainer, device, precision=precision, torch_only=keep_features)
    parts = hold_out(images, n_holdout)
    owner = describe(
        schemes,
        images,
        recipe=recipe,
        seed=seed,
        device=device,
        precision=precision,
        n_holdout=n_holdout,
        perturbation=perturbation,
        trainer=trainer,
    )
    with checkpoints.claim(folder):
        checkpoint = checkpoints.read(Path(folder), owner) if folder is not None else None
        state = checkpoint["state"] if checkpoint else None
        records: list[NDArray[np.float64]] = [] if state is None else list(state["records"].numpy())
        seconds: list[float] = [] if state is None else list(state["seconds"])
        if len(records) < n_epochs:
            networks = [
                perturb(build_seeded(scheme, seed, n_classes=images.n_classes), perturbation)
                for scheme in schemes.values()
            ]
            running = make_trainer(
                trainer, networks, parts=parts, recipe=recipe, device=device, precision=precision,
                keep_features=keep_features,
            )  # fmt: skip
            if state is not None:
                running.load_state(state)
        orders = batch_orders(seed, n_epochs, n_images=len(parts[0].train_images))
        disable = bar_disabled() if progress else True
        bar = tqdm(orders, f"{len(schemes)} networks", n_epochs, unit="epoch", disable=disable)
        for epoch, order in enumerate(bar, start=1):
            if epoch <= len(records):
                continue  # done before the run was stopped
            start = time.perf_counter()
            losses = running.train_epoch(order, recipe.learning_rate(epoch))
            _check_finite(losses, list(schemes.values()), epoch, recipe)
            accuracies = [running.evaluate(part.test_images, part.test_labels) for part in parts]
            records.append(np.stack([losses.mean(axis=0), np.median(losses, axis=0), *accuracies]))
            seconds.append(time.perf_counter() - start)
            if after_epoch is not None:
                with arithmetic("fp32"):  # independent of the training's precision
                    after_epoch(epoch, running)
            if folder is not None:
                done = {"records": torch.from_numpy(np.stack(records)), "seconds": seconds, "schemes": _names(schemes)}
                checkpoints.write(Path(folder), epoch, owner=owner, state=running.state() | done)
    return _tidy(list(schemes), records[:n_epochs])


def choose_trainer(trainer: str, device: str | torch.device, *, precision: str, torch_only: bool = False) -> str:
    """Check that a trainer supports the settings, and return its name.

    Without a C++ compiler, "compiled" becomes "torch", with a warning. So does "fused" on a device that is not for it,
    by the rule of `naaplib.training.fused.why_not`.

    Parameters
    ----------
    trainer : {"torch", "grouped", "fused", "compiled"}
        "torch" is `naaplib.training.trainer.Trainer`; "grouped" is the same with stacked networks and grouped
        convolutions, for a GPU. "fused" is `naaplib.training.fused.FusedTrainer`: for a GPU, not in fp64; it must
        pass the check of `naaplib.training.gpu_checks` there before use. "compiled" is
        `naaplib.training.compiled.CompiledTrainer`: for a CPU and fp32 only, three times as fast.
    device, precision
        As in `train_population`.
    torch_only : bool
        True if a setting is supported by torch's trainer only.

    Raises
    ------
    ValueError
        If there is no such trainer, or it does not support the settings.
    """
    if trainer not in TRAINERS:
        raise ValueError(f"trainer is {trainer!r}; it must be one of {TRAINERS}")
    if trainer == "fused":
        if precision not in fused.PRODUCTS or torch_only:
            raise ValueError(
                f"trainer is 'fused', which trains in {', '.join(fused.PRODUCTS)} and keeps no features; "
                f"precision is {precision!r}: use trainer='torch'"
            )
        if reason := fused.why_not(device):
            warnings.warn(f"networks are trained by torch, not by fused kernels: {reason}", stacklevel=3)
            return "torch"
    if trainer != "compiled":
        return trainer
    if torch.device(device).type != "cpu" or precision != "fp32" or torch_only:
        raise ValueError(
            f"trainer is 'compiled', which trains on a CPU in fp32 and keeps no features; "
            f"device is {str(device)!r}, precision {precision!r}: use trainer='torch'"
        )
    try:
        compiled.libraries([None])
    except compiled.NoCompiler as error:
        warnings.warn(f"networks are trained by torch, which takes three times as long: {error}", stacklevel=3)
        return "torch"
    return trainer


def make_trainer(
    trainer: str,
    networks: list[Network],
    *,
    parts: list[Images],
    recipe: Recipe,
    device: str | torch.device,
    precision: str,
    keep_features: bool = False,
) -> Any:
    """Make a trainer by its name.

    All have the interface of `Trainer`, whose arguments these are.
    """
    if trainer == "compiled":
        return compiled.CompiledTrainer(networks, parts, recipe=recipe)
    if trainer == "fused":
        return fused.FusedTrainer(networks, parts, recipe=recipe, device=device, precision=precision)
    is_grouped = trainer == "grouped"
    made = Trainer(
        networks, parts, recipe=recipe, device=device, precision=precision, keep_features=keep_features,
        stack=True if is_grouped else None,
    )  # fmt: skip
    if not is_grouped:
        return made
    for layer in made.network.layers:
        layer.variant = "grouped"
    return made


def _tidy(model_ids: list[int], records: list[NDArray[np.float64]]) -> pd.DataFrame:
    values = np.stack(records).transpose(2, 0, 1)  # network, epoch, measure
    n_epochs, n_measures = values.shape[1:]
    columns = [*MEASURES, "holdout_accuracy"][:n_measures]
    frame = pd.DataFrame(values.reshape(-1, n_measures), columns=columns)
    frame.insert(0, "ModelId", np.repeat(model_ids, n_epochs))
    frame.insert(1, "epoch", np.tile(np.arange(1, n_epochs + 1), len(model_ids)))
    return frame


def _check_finite(losses: NDArray[np.float64], schemes: list[Scheme], epoch: int, recipe: Recipe) -> None:
    diverged = np.flatnonzero(~np.isfinite(losses).all(axis=0))
    if diverged.size:
        first = diverged[0]
        batch = int(np.argmin(np.isfinite(losses[:, first])))
        others = f" (and those of {diverged.size - 1} other networks)" if diverged.size > 1 else ""
        raise FloatingPointError(
            f"the loss of {identifier(schemes[first])}{others} became {losses[batch, first]} in epoch {epoch}, batch "
            f"{batch + 1}: training diverged. Lower the recipe's initial_rate, which is {recipe.initial_rate}, or "
            f"train without these networks."
        )


def hold_out(images: Images, n_holdout: int) -> list[Images]:
    """Split off validation images from the training images.

    The first part holds the images to train and test on. Unless `n_holdout` is 0, the second part has the same training
    images and the validation images as test images.

    The validation images are the last `n_holdout` training images in their given order, and no part trains on them.
    """
    n_train = len(images.train_images) - n_holdout
    if not 0 <= n_holdout < len(images.train_images):
        raise ValueError(f"n_holdout is {n_holdout}; it must lie between 0 and {len(images.train_images) - 1}")
    kept = replace(images, train_images=images.train_images[:n_train], train_labels=images.train_labels[:n_train])
    if not n_holdout:
        return [kept]
    held = replace(kept, test_images=images.train_images[n_train:], test_labels=images.train_labels[n_train:])
    return [kept, held]


def perturb(network: Network, scale: float) -> Network:
    """Multiply every weight in place by 1 plus normal noise, with a fixed seed.

    `scale` is the standard deviation of the noise.
    """
    if scale:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(1 + scale * torch.randn(weight.shape, generator=generator))
    return network


def describe(
    schemes: Mapping[int, Scheme],
    images: Images,
    *,
    recipe: Recipe,
    seed: int,
    device: str | torch.device,
    precision: str,
    n_holdout: int,
    perturbation: float,
    trainer: str = "torch",
) -> dict[str, object]:
    """Describe a run by the settings that determine an epoch's result.

    The number of epochs is not one of them.
    """
    if not schemes:
        raise ValueError("there must be one scheme or more to train")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {PRECISIONS}")
    digest = hashlib.sha256("\n".join(_names(schemes)).encode()).hexdigest()
    return {
        "schemes": f"{len(schemes)} with SHA-256 {digest[:16]}",
        "seed": seed,
        "recipe": {name: value for name, value in asdict(recipe).items() if name != "n_epochs"},
        "images": images.digest(),
        "device": kind_of(device),
        "torch": str(torch.__version__),
        "precision": precision,
        "n_holdout": n_holdout,
        "perturbation": perturbation,
        **({} if trainer == "torch" else {"trainer": trainer}),  # torch's checkpoints have no such key
    }


def _names(schemes: Mapping[int, Scheme]) -> list[str]:
    return [f"{model_id} {identifier(scheme)}" for model_id, scheme in schemes.items()]
