"""Train all networks of a set at once on shared mini-batches, each exactly as it would be trained alone."""

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
from naaplib.training import checkpoints, compiled
from naaplib.training.cifar10 import Images
from naaplib.training.gpus import kind_of
from naaplib.training.recipe import PUBLISHED, SEED, Recipe, batch_orders
from naaplib.training.trainer import PRECISIONS, Trainer, arithmetic

MEASURES = ["loss_mean", "loss_median", "accuracy"]
TRAINERS = ("torch", "compiled")


def train_population(
    schemes: Mapping[int, Scheme],
    images: Images,
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
    """Train networks in lock-step by the recipe; the same records for each as `train_network` gives for it alone.

    The same as far as rounding lets it: sums are taken in another order, and training at a high rate amplifies that.
    On one machine, with the same versions, the same set of schemes and the same number of threads, the result is the
    same bit for bit each time; a run that was stopped, or killed, and is called again with the same arguments gives the
    result of an uninterrupted one.

    Parameters
    ----------
    schemes : mapping from ModelId to Scheme
    images, recipe, seed, n_epochs
        As for `train_network`.
    device : str or torch.device
        On a GPU an epoch runs without a stop, as CUDA graphs; on a CPU a few networks at a time are fastest.
    precision : {"fp32", "tf32", "bf16", "fp64"}
        Of the arithmetic; weights are stored in fp64 for "fp64", else in fp32. "tf32" makes a difference on GPUs only.
    n_holdout : int
        That many of the training images, the last ones in their official order, are not trained on but evaluated.
    perturbation : float
        Relative standard deviation of noise on all initial weights, for re-runs of the same kind; 0 for none.
    folder : path, optional
        Where checkpoints are kept, for this run only: one an epoch, the last two remain. None keeps none.
    after_epoch : callable, optional
        Called with the epoch's number and the `Trainer` after each epoch that is trained; not for those that were done
        before a run was stopped. It computes in "fp32", whatever `precision` is.
    keep_features : bool
        Whether `Trainer.features` holds what every network's linear layer saw of each training image in the epoch.
    progress : bool
        Whether to show a bar, on a terminal or where `NAAPLIB_PROGRESS` asks for one.
    trainer : {"torch", "compiled"}
        As for `choose_trainer`. Results of the two differ by rounding; neither goes on from the other's checkpoints.

    Returns
    -------
    DataFrame, shape (n_networks * n_epochs, 5), or 6 columns with held-out images
        ModelId, then the columns of `train_network`, then holdout_accuracy if `n_holdout` is not 0: networks in the
        order of the mapping, epochs from 1.

    Raises
    ------
    FloatingPointError
        If a loss is not finite; names the networks. What earlier epochs gave stays in `folder`.
    ValueError
        If an argument is out of range, or the checkpoints in `folder` belong to another run.
    naaplib.training.checkpoints.FolderInUse
        If another process is training into `folder`.
    OSError
        If a checkpoint cannot be written; those before it are kept.
    """
    n_epochs = recipe.n_epochs if n_epochs is None else n_epochs
    if n_epochs < 1:
        raise ValueError(f"n_epochs must be 1 or more, not {n_epochs}")
    trainer = choose_trainer(trainer, device, precision, keep_features)
    parts = hold_out(images, n_holdout)
    owner = describe(schemes, images, recipe, seed, device, precision, n_holdout, perturbation, trainer)
    with checkpoints.claim(folder):
        checkpoint = checkpoints.read(Path(folder), owner) if folder is not None else None
        state = checkpoint["state"] if checkpoint else None
        records: list[NDArray[np.float64]] = [] if state is None else list(state["records"].numpy())
        seconds: list[float] = [] if state is None else list(state["seconds"])
        if len(records) < n_epochs:
            networks = [perturb(build_seeded(scheme, seed), perturbation) for scheme in schemes.values()]
            running = make_trainer(trainer, networks, parts, recipe, device, precision, keep_features)
            if state is not None:
                running.load_state(state)
        orders = batch_orders(seed, n_epochs, len(parts[0].train_images))
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
                with arithmetic("fp32"):  # whatever the networks train in
                    after_epoch(epoch, running)
            if folder is not None:
                done = {"records": torch.from_numpy(np.stack(records)), "seconds": seconds, "schemes": _names(schemes)}
                checkpoints.write(Path(folder), epoch, owner, running.state() | done)
    return _tidy(list(schemes), records[:n_epochs])


def choose_trainer(trainer: str, device: str | torch.device, precision: str, torch_only: bool = False) -> str:
    """Check that a trainer can do what is asked of it; "torch" with a warning where there is no C++ compiler.

    Parameters
    ----------
    trainer : {"torch", "compiled"}
        "compiled" is `naaplib.training.compiled.CompiledTrainer`: for a CPU and fp32 only, three times as fast.
    device, precision
        As for `train_population`.
    torch_only : bool
        Whether something is asked for that only torch's trainer does.

    Raises
    ------
    ValueError
        If there is no such trainer, or it cannot do what is asked.
    """
    if trainer not in TRAINERS:
        raise ValueError(f"trainer is {trainer!r}; it must be one of {TRAINERS}")
    if trainer == "torch":
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


def make_trainer(trainer: str, networks: list[Network], parts: list[Images], recipe: Recipe, *others: Any) -> Any:
    """A `CompiledTrainer`, or else a `Trainer`, to which `others` are passed on; both are used in the same way."""
    if trainer == "compiled":
        return compiled.CompiledTrainer(networks, parts, recipe)
    return Trainer(networks, parts, recipe, *others)


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
    """The images to train and test on; and, unless `n_holdout` is 0, the same with held-out images as test images.

    The last `n_holdout` training images in their given order are held out; neither part trains on them.
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
    """Multiply every weight by 1 plus normal noise of standard deviation `scale`, in place; always the same noise."""
    if scale:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(1 + scale * torch.randn(weight.shape, generator=generator))
    return network


def describe(
    schemes: Mapping[int, Scheme],
    images: Images,
    recipe: Recipe,
    seed: int,
    device: str | torch.device,
    precision: str,
    n_holdout: int,
    perturbation: float,
    trainer: str = "torch",
) -> dict[str, object]:
    """What a run is, as far as it decides the result of an epoch; the number of epochs does not."""
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
        **({} if trainer == "torch" else {"trainer": trainer}),  # checkpoints of torch's name none
    }


def _names(schemes: Mapping[int, Scheme]) -> list[str]:
    return [f"{model_id} {identifier(scheme)}" for model_id, scheme in schemes.items()]
