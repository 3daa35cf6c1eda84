"""How searches come to configurations: drawn at random, or proposed by a model of which have done well."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import TqdmWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # Optuna would have widgets for progress bars, which it never shows
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
    from optuna.trial import TrialState, create_trial

Configuration = Any  # hashable, and as JSON; equal ones are the same

N_TRIES = 100  # proposals of a configuration that is not there yet, before there are taken to be no others


class Trial(Protocol):
    """What a configuration is made from: named choices. `Draw` is one, and so are Optuna's trials."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number from low to high, both included."""


class Objective(Protocol):
    """Anything that can be trained further: a table of learning curves, networks on a GPU, a user's own function."""

    @property
    def name(self) -> str:
        """Tells it from other objectives, as far as their scores may differ; a trace of another is not taken up."""

    def suggest(self, trial: Trial) -> Configuration:
        """A configuration, from choices that are asked of the trial; which are asked may depend on those before."""

    def evaluate(self, configuration: Configuration, budget: int) -> float:
        """Score, higher is better, after `budget` epochs in all; training goes on from what was trained before."""


class Draw:
    """A trial that answers at random, and keeps what was asked and answered.

    Parameters
    ----------
    rng : Generator

    Attributes
    ----------
    params : dict from name to answer
    distributions : dict from name to Optuna's distribution
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any], weights: ArrayLike | None = None) -> Any:
        """One of the choices, with probabilities in proportion to the weights; all alike without."""
        shares = None if weights is None else np.asarray(weights, dtype=float) / np.sum(weights)
        self.params[name] = choices[int(self.rng.choice(len(choices), p=shares))]
        self.distributions[name] = CategoricalDistribution(choices)
        return self.params[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number from low to high, all alike."""
        self.params[name] = int(self.rng.integers(low, high, endpoint=True))
        self.distributions[name] = IntDistribution(low, high)
        return self.params[name]


@dataclass(frozen=True)
class Proposal:
    """A configuration, and the choices it came from as Optuna has them."""

    configuration: Configuration
    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]


def draw(objective: Objective, rng: np.random.Generator) -> Proposal:
    """A configuration at random."""
    trial = Draw(rng)
    return Proposal(objective.suggest(trial), trial.params, trial.distributions)


def others(propose: Callable[[], Proposal]) -> Iterator[Proposal]:
    """Proposals that differ; the end is where `N_TRIES` in a row do not."""
    taken: set[str] = set()
    n_tries = 0
    while n_tries < N_TRIES:
        found = propose()
        name = json.dumps(found.configuration)
        n_tries += 1
        if name not in taken:
            taken.add(name)
            n_tries = 0
            yield found


class Model:
    """BOHB's way to propose (Falkner et al. 2018): a density model, Optuna's TPE, for each budget.

    Parameters
    ----------
    objective : Objective
    rng : Generator
    random_share, min_points
        As for `naaplib.search.strategies.bohb`.
    """

    def __init__(self, objective: Objective, rng: np.random.Generator, random_share: float, min_points: int) -> None:
        self.objective, self.rng = objective, rng
        self.random_share, self.min_points = random_share, min_points
        self.studies: dict[int, optuna.Study] = {}
        self.told: set[tuple[str, int]] = set()
        self.n_points: Counter[int] = Counter()

    def propose(self) -> Proposal:
        """From the study of the largest budget that has enough points, or at random."""
        is_random = self.rng.random() < self.random_share
        ready = [budget for budget, n in self.n_points.items() if n >= self.min_points]
        if is_random or not ready:
            return draw(self.objective, self.rng)
        study = self.studies[max(ready)]
        trial = study.ask()
        found = Proposal(self.objective.suggest(trial), trial.params, trial.distributions)
        study.tell(trial, state=TrialState.FAIL)  # its score is told where, and if, it is evaluated
        return found

    def tell(self, found: Proposal, budget: int, score: float) -> None:
        """Add a score to the budget's study; the same one again is passed over."""
        mark = json.dumps(found.configuration), budget
        if mark in self.told:
            return
        self.told.add(mark)
        if budget not in self.studies:
            self.studies[budget] = density_model(int(self.rng.integers(2**31)), name=f"budget {budget}")
        told = create_trial(params=found.params, distributions=found.distributions, value=score)
        self.studies[budget].add_trial(told)
        self.n_points[budget] += 1


def density_model(seed: int, n_initial: int = 0, name: str | None = None) -> optuna.Study:
    """Optuna's tree-structured Parzen estimator, of values to be maximised, after so many random suggestions."""
    sampler = optuna.samplers.TPESampler(n_startup_trials=n_initial, seed=seed)
    return optuna.create_study(direction="maximize", sampler=sampler, study_name=name)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says only what is wrong while the context lasts."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
