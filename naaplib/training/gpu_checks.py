"""Check a GPU's results against a CPU's, time ways to train, and choose one.

A way is a trainer and a precision (`naaplib.training.planned.Way`). The rule: of the ways whose losses of `N_STEPS`
steps lie within `FACTOR` times the spread of perturbed re-runs in fp32, and that give the same losses bit for bit when
they are run twice, the one with the shortest step per network. So products that are rounded to TF32 or 16 bits, and
activations that are stored in 16 bits, are chosen only where they do no more than 32-bit arithmetic does by itself.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import Scheme
from naaplib.training import fused
from naaplib.training.cifar10 import Images
from naaplib.training.devices import describe_device
from naaplib.training.gpus import step_bytes
from naaplib.training.planned import Way
from naaplib.training.population import make_trainer, perturb
from naaplib.training.recipe import PUBLISHED, SEED, Recipe, batch_orders
from naaplib.training.trainer import Trainer

N_STEPS = 8  # rounding errors grow tenfold every five steps
N_NETWORKS = 8
FACTOR = 3.0
ROUNDING = 1e-6  # of a loss near 2.3 in fp32, some units in the last place: the least spread that is assumed
PERTURBATIONS = (1e-7, 3e-7)
WAYS = tuple(Way(*way) for way in product(("torch", "grouped"), ("fp32", "tf32", "bf16")))
FUSED = tuple(Way("fused", precision) for precision in fused.PRODUCTS)


class WrongLosses(RuntimeError):
    """No way to train passes the checks."""


def ways(device: str) -> tuple[Way, ...]:
    """Return the ways to try on a device: `WAYS`, and `FUSED` if it is for them.

    >>> ways("cpu") == WAYS
    True
    """
    return WAYS if fused.why_not(device) else (*WAYS, *FUSED)


def sample(schemes: Sequence[Scheme], n: int = N_NETWORKS) -> list[Scheme]:
    """Return at most n schemes, evenly spaced from the first to the last."""
    places = np.linspace(0, len(schemes) - 1, min(n, len(schemes))).round().astype(int)
    return [schemes[place] for place in places]


def step_losses(
    way: Way,
    schemes: Sequence[Scheme],
    *,
    images: Images,
    device: str = "cpu",
    n_steps: int = N_STEPS,
    recipe: Recipe = PUBLISHED,
    perturbation: float = 0.0,
) -> NDArray[np.float64]:
    """Return losses (n_steps, n_networks) of the published seed's first steps."""
    trainer, order = _make(
        way, schemes, images=images, device=device, n_steps=n_steps, recipe=recipe, perturbation=perturbation
    )
    return trainer.train_epoch(order, recipe.learning_rate(1))


def _make(
    way: Way,
    schemes: Sequence[Scheme],
    images: Images,
    device: str,
    n_steps: int,
    recipe: Recipe,
    perturbation: float = 0.0,
) -> tuple[Any, torch.Tensor]:
    n_images = min(n_steps * recipe.batch_size, len(images.train_images))
    few = images.first(n_images, 1_000)
    networks = [perturb(build_seeded(scheme, SEED), perturbation) for scheme in schemes]
    made = make_trainer(way.trainer, networks, parts=[few], recipe=recipe, device=device, precision=way.precision)
    return made, next(batch_orders(SEED, 1, n_images=n_images))


def reference_losses(
    schemes: Sequence[Scheme], images: Images, *, n_steps: int = N_STEPS, recipe: Recipe = PUBLISHED
) -> NDArray[np.float64]:
    """Return the losses of `step_losses` in float64 on the CPU, network by network."""
    n_images = min(n_steps * recipe.batch_size, len(images.train_images))
    few, order = images.first(n_images, 1_000), next(batch_orders(SEED, 1, n_images=n_images))
    trainer = Trainer(
        [build_seeded(scheme, SEED) for scheme in schemes],
        [few],
        recipe=recipe,
        device="cpu",
        precision="fp64",
        stack=False,
    )
    return trainer.train_epoch(order, recipe.learning_rate(1))


def check_losses(
    ways: Sequence[Way],
    schemes: Sequence[Scheme],
    *,
    images: Images,
    device: str,
    n_steps: int = N_STEPS,
    recipe: Recipe = PUBLISHED,
) -> pd.DataFrame:
    """Compare the losses of each way with those in 64 bits.

    Parameters
    ----------
    ways : sequence of Way
    schemes : sequence of Scheme
        Networks, of which `sample` takes some.
    images : Images
    device : str
    n_steps : int
    recipe : Recipe

    Returns
    -------
    DataFrame
        One row per way and step: trainer, precision, step, difference (the largest over networks), allowed (`FACTOR`
        times that of re-runs in fp32 whose initial weights differ by `PERTURBATIONS`, up to this step).
    """
    some = sample(schemes)
    settings: dict[str, Any] = {"n_steps": n_steps, "recipe": recipe}
    exact = reference_losses(some, images, **settings)

    def difference(way: Way, perturbation: float = 0.0) -> NDArray[np.float64]:
        found = step_losses(way, some, images=images, device=device, perturbation=perturbation, **settings)
        return np.abs(found - exact).max(axis=1)

    spread = np.max([difference(Way("torch", "fp32"), perturbation) for perturbation in PERTURBATIONS], axis=0)
    allowed = FACTOR * np.maximum.accumulate(np.maximum(spread, ROUNDING))
    rows = []
    for way in ways:
        columns = {"step": range(1, len(exact) + 1), "difference": difference(way), "allowed": allowed}
        rows.append(pd.DataFrame({"trainer": way.trainer, "precision": way.precision, **columns}))
    return pd.concat(rows, ignore_index=True)


def time_way(
    way: Way,
    schemes: Sequence[Scheme],
    *,
    images: Images,
    device: str,
    n_steps: int = 20,
    recipe: Recipe = PUBLISHED,
) -> dict[str, object]:
    """Measure a training step and an evaluation, and run `n_steps` twice.

    Whole steps are timed, recorded as in a training: a layer timed by itself waits for the host, and lacks its inputs.

    Returns
    -------
    dict
        trainer, precision, n_archs, step_seconds, evaluation_seconds (1,000 images; both the least of three),
        two_runs_equal, gigabytes (most that was reserved), counted_gigabytes (`step_bytes`), and the facts of
        `describe_device`. A way whose memory runs out has missing times, and two_runs_equal is False.
    """
    on_gpu = torch.device(device).type == "cuda"
    row: dict[str, object] = {"trainer": way.trainer, "precision": way.precision, "n_archs": len(schemes)}
    row |= {"step_seconds": float("nan"), "evaluation_seconds": float("nan"), "two_runs_equal": False}
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    try:
        row |= _time(way, schemes, images=images, device=device, n_steps=n_steps, recipe=recipe)
    except torch.OutOfMemoryError:
        row["two_runs_equal"] = False
    finally:
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()
    row["gigabytes"] = torch.cuda.max_memory_reserved(device) / 1e9 if on_gpu else float("nan")
    n_images = min(n_steps * recipe.batch_size, len(images.train_images))
    side = images.train_images.shape[-1]
    row["counted_gigabytes"] = step_bytes(schemes, recipe, n_images=n_images, side=side, **asdict(way)) / 1e9
    return row | describe_device(device)


def _time(
    way: Way, schemes: Sequence[Scheme], images: Images, device: str, n_steps: int, recipe: Recipe
) -> dict[str, object]:
    rate = recipe.learning_rate(1)
    trainer, order = _make(way, schemes, images=images, device=device, n_steps=n_steps, recipe=recipe)
    first = trainer.train_epoch(order, rate)  # with what is set up once
    steps, evaluations = [], []
    n_test = min(1_000, len(images.test_images))
    for _ in range(3):
        start = time.perf_counter()
        trainer.train_epoch(order, rate)
        between = time.perf_counter()
        trainer.evaluate(images.test_images[:n_test], images.test_labels[:n_test])
        evaluations.append((time.perf_counter() - between) * 1_000 / n_test)
        steps.append((between - start) / len(first))
    del trainer
    again, order = _make(way, schemes, images=images, device=device, n_steps=n_steps, recipe=recipe)
    equal = bool((again.train_epoch(order, rate) == first).all())
    return {"step_seconds": min(steps), "evaluation_seconds": min(evaluations), "two_runs_equal": equal}


def choose(losses: pd.DataFrame, times: pd.DataFrame) -> Way:
    """Choose a way by the rule in this module's docstring.

    Parameters
    ----------
    losses, times : DataFrame
        As `check_losses` returns them, and rows of `time_way`.

    Raises
    ------
    WrongLosses
        If no way passes; the message has each one's reason.
    """
    reasons, passed = [], {}
    for row in times.itertuples():
        mine = losses[(losses["trainer"] == row.trainer) & (losses["precision"] == row.precision)]
        name = f"{row.trainer} in {row.precision}"
        beyond = mine[mine["difference"] > mine["allowed"]]
        if mine.empty or len(beyond):
            step = beyond.iloc[0] if len(beyond) else None
            reasons.append(
                f"{name}: not compared" if step is None else f"{name}: at step {step['step']:.0f} losses differ from "
                f"those in 64 bits by {step['difference']:.1e}, more than {step['allowed']:.1e}"
            )  # fmt: skip
        elif not row.two_runs_equal:
            reasons.append(f"{name}: two runs differ, or memory ran out")
        else:
            # Trainers need different memory, so a GPU may hold different numbers of networks.
            passed[Way(str(row.trainer), str(row.precision))] = float(row.step_seconds) / int(row.n_archs)
    if not passed:
        raise WrongLosses(f"no way to train passes the checks, so nothing is trained: {'; '.join(reasons)}")
    return min(passed, key=lambda way: passed[way])


def seconds_per_epoch(row: pd.Series, n_images: int, *, n_test: int, recipe: Recipe = PUBLISHED) -> float:
    """Forecast the seconds of an epoch of one network, from a row of `time_way`."""
    n_steps = -(-n_images // recipe.batch_size)
    return (row["step_seconds"] * n_steps + row["evaluation_seconds"] * n_test / 1_000) / row["n_archs"]
