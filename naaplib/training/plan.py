"""Plan of trainings: seeds, networks and epochs in order, divided into jobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from naaplib.architectures.schemes import Scheme, enumerate_schemes, to_json
from naaplib.training.recipe import PUBLISHED, SEED, Recipe

# NAAP-440's test architectures (its IsTest), by ModelId; the published table is not needed to train them.
TEST_NETWORKS = (
    *(7, 21, 22, 37, 39, 44, 52, 57, 72, 82, 89, 92, 117, 141, 146, 167, 171, 197, 198, 212),
    *(219, 224, 244, 264, 268, 270, 271, 280, 298, 318, 319, 324, 336, 340, 363, 371, 388, 410, 412, 419),
)
NETWORKS = ("all", "test")


@dataclass(frozen=True)
class Run:
    """Networks to train with one seed for a number of epochs.

    Parameters
    ----------
    seed : int
    networks : {"all", "test"}
        All networks of the plan, or its test networks.
    n_epochs : int
    """

    seed: int
    networks: str
    n_epochs: int

    def __post_init__(self) -> None:
        if self.networks not in NETWORKS:
            raise ValueError(f"networks is {self.networks!r}; it must be one of {NETWORKS}")
        if self.n_epochs < 1:
            raise ValueError(f"n_epochs must be 1 or more, not {self.n_epochs}")

    @property
    def name(self) -> str:
        """Name of the run in tables, as in "seed 1"."""
        return f"seed {self.seed}"


@dataclass(frozen=True)
class Job:
    """A few networks of a run, whose records are one file.

    Parameters
    ----------
    seed : int
    model_ids : tuple of int
    n_epochs : int
    """

    seed: int
    model_ids: tuple[int, ...]
    n_epochs: int

    @property
    def stem(self) -> str:
        """Path of the records in a folder of records, without extension.

        >>> Job(1, (7, 21), 90).stem
        '90-epochs/seed-1/0007-0021'
        """
        return f"{self.n_epochs}-epochs/seed-{self.seed}/" + "-".join(f"{name:04d}" for name in self.model_ids)


@dataclass(frozen=True)
class Plan:
    """Runs in the order in which they are trained, and all settings that they share.

    Parameters
    ----------
    runs : tuple of Run
    schemes : mapping from ModelId to Scheme
        All networks; by default the 440 of NAAP-440.
    test_networks : tuple of int
        ModelIds of the test networks.
    recipe : Recipe
    images_file : str
        As in `naaplib.training.distributed.Work`; "" is CIFAR-10.
    trainer : str
        Trainer on a CPU, as in `naaplib.training.population.choose_trainer`.
    size : int
        Networks per job.
    n_holdout : int
        Training images that are held out for validation, as in `naaplib.training.population.train_population`.

    Examples
    --------
    >>> [(run.seed, run.networks, run.n_epochs) for run in PLAN.runs[:2]]
    [(1, 'test', 90), (20220819, 'all', 9)]
    >>> len(PLAN.jobs()), PLAN.jobs()[0].model_ids
    (270, (7, 21, 22, 37))
    """

    runs: tuple[Run, ...]
    schemes: Mapping[int, Scheme] = field(default_factory=lambda: dict(enumerate(enumerate_schemes(), start=1)))
    test_networks: tuple[int, ...] = TEST_NETWORKS
    recipe: Recipe = PUBLISHED
    images_file: str = ""
    trainer: str = "compiled"
    size: int = 4
    n_holdout: int = 0

    def __post_init__(self) -> None:
        if not self.runs or not self.schemes:
            raise ValueError("a plan must have runs and networks")
        if self.size < 1:
            raise ValueError(f"size must be 1 or more, not {self.size}")
        if absent := sorted(set(self.test_networks) - set(self.schemes)):
            raise ValueError(f"test_networks {absent[:10]} are not among the plan's networks")

    def networks(self, run: Run) -> list[int]:
        """Return the ModelIds of a run, ascending."""
        return sorted(self.schemes if run.networks == "all" else self.test_networks)

    def jobs(self, runs: Sequence[Run] = ()) -> list[Job]:
        """Return the jobs of some runs, by default of all, in the plan's order.

        In a run of all networks, the jobs that hold test networks come first.
        """
        return [job for run in runs or self.runs for job in self._jobs(run)]

    def _jobs(self, run: Run) -> Iterator[Job]:
        names = self.networks(run)
        parts = [tuple(names[i : i + self.size]) for i in range(0, len(names), self.size)]
        for part in sorted(parts, key=set(self.test_networks).isdisjoint):
            yield Job(run.seed, part, run.n_epochs)

    def longest(self) -> tuple[Run, ...]:
        """Return the runs that no longer run contains.

        The published seed comes first, then the plan's order.
        """
        wanted = [run for run in self.runs if not any(_contains(other, run) for other in self.runs)]
        return tuple(sorted(wanted, key=lambda run: run.seed != SEED))

    @cached_property
    def settings(self) -> dict[str, str]:
        """Values that identify a plan's trainings but for seed, networks and epochs."""
        numbers = {name: value for name, value in asdict(self.recipe).items() if name != "n_epochs"}
        listed = f"{list(self.schemes)}\n{to_json(list(self.schemes.values()))}"
        return {
            "schemes": _digest(listed.encode()),
            "recipe": json.dumps(numbers),
            "images": _digest(Path(self.images_file).read_bytes()) if self.images_file else "CIFAR-10",
            **({"n_holdout": str(self.n_holdout)} if self.n_holdout else {}),
        }


def _contains(longer: Run, run: Run) -> bool:
    same = longer.seed == run.seed and longer.networks in ("all", run.networks)
    return same and longer != run and longer.n_epochs >= run.n_epochs


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


PLAN = Plan((
    Run(1, "test", 90),  # with the next seed and the published table: the noise of one training
    Run(SEED, "all", 9),  # for features that do not come from the training that is predicted
    Run(2, "test", 90),
    Run(SEED, "all", 90),  # the table
    Run(3, "test", 90),
    Run(4, "test", 90),
    Run(5, "test", 90),
))  # fmt: skip
HELD_OUT = Plan((Run(SEED, "test", 90),), n_holdout=5_000)  # to choose the epoch by images that are not the test's
CHANGES: dict[str, dict[str, float]] = {  # of the published recipe, one number each
    "initial rate 0.025": {"initial_rate": 0.025},
    "initial rate 0.2": {"initial_rate": 0.2},
    "no momentum": {"momentum": 0.0},
    "weight decay 0.0005": {"weight_decay": 5e-4},
    "batches of 64": {"batch_size": 64},
}


def changed(
    plan: Plan, changes: Mapping[str, Mapping[str, Any]], *, n_epochs: int, seed: int = SEED
) -> dict[str, Plan]:
    """Return a plan of the test networks for each change of a plan's recipe.

    Parameters
    ----------
    plan : Plan
    changes : mapping from name to {number of the recipe: value}
        As `CHANGES`.
    n_epochs, seed : int
        The same for all trainings.

    Examples
    --------
    >>> found = changed(PLAN, {"batches of 64": {"batch_size": 64}}, n_epochs=9)
    >>> found["batches of 64"].recipe.batch_size, len(found["batches of 64"].jobs())
    (64, 10)
    """
    run = Run(seed, "test", n_epochs)
    return {
        name: replace(plan, runs=(run,), recipe=replace(plan.recipe, **numbers)) for name, numbers in changes.items()
    }


def part(change: str) -> str:
    """Return the folder of a change's records, within those of the plan.

    >>> part("batches of 64")
    'recipes/batches-of-64'
    """
    return f"recipes/{change.replace(' ', '-')}"


RECIPES = changed(PLAN, CHANGES, n_epochs=9)
