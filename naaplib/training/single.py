"""Train a network by the recipe, or resume it; train several in parallel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from naaplib.architectures.scheme_networks import Network, build_seeded
from naaplib.architectures.schemes import Scheme, identifier
from naaplib.parallel import one_thread
from naaplib.training import checkpoints
from naaplib.training.cifar10 import Images, normalise
from naaplib.training.recipe import PUBLISHED, SEED, Recipe, batch_orders

COLUMNS = ["epoch", "loss_mean", "loss_median", "accuracy"]
TEST_BATCH = 1_000  # images at a time; limits memory without any effect on BatchNorm in evaluation


def train_network(
    scheme: Scheme,
    images: Images,
    *,
    recipe: Recipe = PUBLISHED,
    seed: int = SEED,
    n_epochs: int | None = None,
    device: str | torch.device = "cpu",
    folder: str | Path | None = None,
) -> pd.DataFrame:
    """Train a network by the recipe and return the published logs' records.

    The source is Hakim 2022, section 2. On a CPU, the result is reproducible bit for bit with the same versions and
    number of threads. A run that was stopped or killed resumes with the same arguments and gives the same result.

    Parameters
    ----------
    scheme : tuple of Block
    images : Images
        Training and test images in uint8, normalised batch by batch on the device.
    recipe : Recipe
    seed : int
        Seed of the initial weights and, in a separate generator, of the order of images; torch's own generators are not
        used.
    n_epochs : int, optional
        Number of epochs to train; by default all of the recipe.
    device : str or torch.device
    folder : path, optional
        Folder of this run's checkpoints: one per epoch, of which the last two remain. None saves none.

    Returns
    -------
    DataFrame, shape (n_epochs, 4), one row an epoch
        - epoch: from 1
        - loss_mean, loss_median: over the epoch's mini-batches, each at its step; a smaller last batch has the same
          weight. They are not rounded (the published logs have 5 decimals, the published table 4)
        - accuracy: fraction of test images classified correctly after the epoch, BatchNorm using running statistics

    Raises
    ------
    FloatingPointError
        If a loss is not finite.
    ValueError
        If the checkpoints in `folder` belong to another scheme, seed, recipe or set of images.
    naaplib.training.checkpoints.FolderInUse
        If another process is training into `folder`.
    """
    n_epochs = recipe.n_epochs if n_epochs is None else n_epochs
    if n_epochs < 1:
        raise ValueError(f"n_epochs must be 1 or more, not {n_epochs}")
    folder = None if folder is None else Path(folder).expanduser()
    images = images.to(device)
    network = build_seeded(scheme, seed, n_classes=images.n_classes).to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.initial_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    records: list[list[float]] = []

    with checkpoints.claim(folder):
        if folder is not None:
            owner = describe(scheme, images, recipe=recipe, seed=seed)
            if checkpoint := checkpoints.read(folder, owner):
                records = checkpoint["state"]["records"]
                network.load_state_dict(checkpoint["state"]["network"])
                optimizer.load_state_dict(checkpoint["state"]["optimizer"])

        orders = batch_orders(seed, n_epochs, n_images=len(images.train_images))
        for epoch, order in enumerate(tqdm(orders, identifier(scheme), n_epochs, unit="epoch", disable=None), start=1):
            if epoch <= len(records):
                continue  # done before the run was stopped
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate(epoch)
            losses = train_epoch(
                network, optimizer, images=images, order=order.to(device), batch_size=recipe.batch_size
            )
            if not np.isfinite(losses).all():
                batch = int(np.argmin(np.isfinite(losses)))
                raise FloatingPointError(
                    f"the loss of {identifier(scheme)} became {losses[batch]} in epoch {epoch}, batch {batch + 1}: "
                    f"training diverged. Lower the recipe's initial_rate, which is {recipe.initial_rate}."
                )
            records.append([float(losses.mean()), float(np.median(losses)), evaluate(network, images)])
            if folder is not None:
                state = {"records": records, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
                checkpoints.write(folder, epoch, owner=owner, state=state)

    return pd.DataFrame([(i, *record) for i, record in enumerate(records[:n_epochs], 1)], columns=COLUMNS)


def train_networks(
    schemes: Mapping[int, Scheme],
    images: Images,
    *,
    recipe: Recipe = PUBLISHED,
    seed: int = SEED,
    n_epochs: int | None = None,
    folder: str | Path | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Train several networks on the CPU in parallel, each by `train_network`.

    Each network has one thread.

    Parameters
    ----------
    schemes : mapping from ModelId to Scheme
    images, recipe, seed, n_epochs
        As in `train_network`, the same for all networks.
    folder : str or Path, optional
        Folder with one folder of checkpoints per network, named by its ModelId.
    n_jobs : int
        Number of processes, without effect on the result.

    Returns
    -------
    DataFrame, shape (n_networks * n_epochs, 5)
        ModelId and the columns of `train_network`: networks in the order of the mapping, epochs from 1.
    """

    def train(model_id: int, scheme: Scheme) -> pd.DataFrame:
        own = None if folder is None else Path(folder) / f"{model_id:04d}"
        with one_thread():
            records = train_network(scheme, images, recipe=recipe, seed=seed, n_epochs=n_epochs, folder=own)
        records.insert(0, "ModelId", model_id)
        return records

    parallel = Parallel(n_jobs=n_jobs, pre_dispatch="n_jobs")  # every waiting task holds a copy of the images
    return pd.concat(parallel(delayed(train)(*item) for item in schemes.items()), ignore_index=True)


def describe(scheme: Scheme, images: Images, *, recipe: Recipe, seed: int) -> dict[str, object]:
    """Describe a run by the settings that determine an epoch's result.

    The number of epochs is not one of them.
    """
    numbers = {name: value for name, value in asdict(recipe).items() if name != "n_epochs"}
    return {
        "scheme": identifier(scheme),
        "seed": seed,
        "recipe": numbers,
        "images": images.digest(),
        "device": images.train_images.device.type,
        "torch": str(torch.__version__),
    }


def train_epoch(
    network: Network, optimizer: torch.optim.Optimizer, *, images: Images, order: Tensor, batch_size: int
) -> NDArray[np.float64]:
    """Train a network for one epoch on the training images in the given order.

    The network and the optimizer change.

    Parameters
    ----------
    order : Tensor of int64, shape (n_images,), on the images' device
    batch_size : int
        Size of every batch; the last one may be smaller.

    Returns
    -------
    ndarray, shape (n_batches,)
        Mean cross-entropy of each batch, in the order of the steps.
    """
    network.train()
    losses = []
    for batch in order.split(batch_size):
        logits = network(normalise(images.train_images[batch]))
        loss = nn.functional.cross_entropy(logits, images.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())  # read after the epoch: a device need not wait for the host at each step
    return torch.stack(losses).double().cpu().numpy()


@torch.no_grad()
def evaluate(network: Network, images: Images) -> float:
    """Return the test accuracy; put the network in evaluation mode."""
    network.eval()
    n_correct = torch.zeros((), dtype=torch.int64, device=images.test_labels.device)
    for x, labels in zip(images.test_images.split(TEST_BATCH), images.test_labels.split(TEST_BATCH), strict=True):
        n_correct += (network(normalise(x)).argmax(dim=1) == labels).sum()
    return n_correct.item() / len(images.test_labels)
