"""Samplers: draw configurations at random, or propose them by a density model."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike
from tqdm import TqdmWarning

from naaplib.search.identity import name_of, whole

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

Configuration = Any  # hashable, and valid JSON

N_TRIES = 100  # proposals in a row without a new configuration, after which the space counts as exhausted


class Trial(Protocol):
    """Named choices that make a configuration, as `Draw` or an Optuna trial has them."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""


class Suggester(Protocol):
    """Anything that makes configurations: a space, or an objective."""

    def suggest(self, trial: Trial) -> Configuration:
        """Return a configuration, made from choices that it asks of the trial."""


class Objective(Protocol):
    """Anything that can be trained further, such as a user's own class.

    Tables of learning curves and networks on a GPU are others. An objective with a true attribute ``remembers`` can
    also return scores after fewer epochs than a configuration was trained for. Other objectives are never asked for
    them: a bracket does not draw a configuration that is already trained for longer than its first rung.
    """

    @property
    def name(self) -> str:
        """Unique identifier of the objective. A trace with another name is not resumed."""

    def suggest(self, trial: Trial) -> Configuration:
        """Return a configuration, made from choices that it asks of the trial.

        A choice may depend on those before it.
        """

    def evaluate(self, configuration: Configuration, budget: int) -> float:
        """Return the score after `budget` epochs in all; higher is better.

        Training resumes from the epochs trained before.
        """


class Choices:
    """Base of trials: it checks choices, and converts numpy's to Python's."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""
        raise NotImplementedError

    def suggest_int(self, name: str, low: int, high: int, **others: object) -> int:
        """Return a whole number from low to high, both included."""
        first, last = whole(f"low of {name}", low), whole(f"high of {name}", high)
        if others:
            raise TypeError(f"suggest_int takes a name, low and high, and no {', '.join(others)}: {_INSTEAD}")
        if first > last:
            raise ValueError(f"{name} is to be from {first} to {last}; the second must not be below the first")
        return self._int(name, first, last)

    def _int(self, name: str, low: int, high: int) -> int:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        """Refuse other methods of Optuna's trials."""
        raise AttributeError(f"a trial has suggest_categorical and suggest_int, and no {name}: {_INSTEAD}")


_INSTEAD = "list the values that are to be tried, such as numpy.geomspace(0.001, 0.1, 9), in suggest_categorical"


def options(name: str, choices: Iterable[Any]) -> list[Any]:
    """Return choices as a list; numpy's numbers and texts become Python's."""
    found = [choice.item() if isinstance(choice, np.generic) else choice for choice in choices]
    if not found:
        raise ValueError(f"{name} has no choices; give one at least")
    return found


class OneOf(NamedTuple):
    """Options that an answer was chosen from."""

    choices: tuple[Any, ...]


class Between(NamedTuple):
    """Whole numbers that an answer was chosen from, both ends included."""

    low: int
    high: int


Domain = OneOf | Between


@cache
def load_optuna() -> Any:
    """Import Optuna, which only searches with a density model need.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra that brings it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TqdmWarning)  # it asks for widgets for progress bars that it never shows
            import optuna
    except ImportError:
        raise ImportError("BOHB and TPE need Optuna: pip install 'naaplib[search]'") from None
    return optuna


def distribution(domain: Domain | BaseDistribution) -> BaseDistribution:
    """Return a domain in Optuna's form, which stays as it is."""
    found = load_optuna().distributions
    if isinstance(domain, OneOf):
        return found.CategoricalDistribution(domain.choices)
    return found.IntDistribution(domain.low, domain.high) if isinstance(domain, Between) else domain


class Draw(Choices):
    """A trial that draws each answer at random, and records it.

    Parameters
    ----------
    rng : Generator

    Attributes
    ----------
    params : dict from name to answer
    domains : dict from name to OneOf or Between
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.params: dict[str, Any] = {}
        self.domains: dict[str, Domain] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any], *, weights: ArrayLike | None = None) -> Any:
        """Return one of the choices, with probability in proportion to its weight.

        Without weights all are equally likely.
        """
        choices = options(name, choices)
        shares = None if weights is None else np.asarray(weights, dtype=float) / np.sum(weights)
        self.params[name] = choices[int(self.rng.choice(len(choices), p=shares))]
        self.domains[name] = OneOf(tuple(choices))
        return self.params[name]

    def _int(self, name: str, low: int, high: int) -> int:
        self.params[name] = int(self.rng.integers(low, high, endpoint=True))
        self.domains[name] = Between(low, high)
        return self.params[name]


class Asked(Choices):
    """Wrap an Optuna trial, which needs a unique name for each list of choices.

    Another list under the same name gets a number.
    """

    def __init__(self, trial: optuna.Trial, key: Callable[[str, BaseDistribution], str]) -> None:
        self.trial, self.key = trial, key

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices, as the model samples it."""
        choices = options(name, choices)
        return self.trial.suggest_categorical(self.key(name, distribution(OneOf(tuple(choices)))), choices)

    def _int(self, name: str, low: int, high: int) -> int:
        return self.trial.suggest_int(self.key(name, distribution(Between(low, high))), low, high)


@dataclass(frozen=True)
class Proposal:
    """A configuration, with its choices and what they were chosen from."""

    configuration: Configuration
    params: dict[str, Any]
    domains: Mapping[str, Domain | BaseDistribution]


def draw(objective: Suggester, rng: np.random.Generator) -> Proposal:
    """Draw a configuration at random."""
    trial = Draw(rng)
    return Proposal(objective.suggest(trial), trial.params, trial.domains)


def others(
    propose: Callable[[], Proposal], is_fit: Callable[[Configuration], bool] = lambda _: True
) -> Iterator[Proposal]:
    """Yield different proposals that are fit, until `N_TRIES` in a row are not."""
    taken: set[str] = set()
    n_tries = 0
    while n_tries < N_TRIES:
        found = propose()
        name = name_of(found.configuration)
        n_tries += 1
        if name not in taken and is_fit(found.configuration):
            taken.add(name)
            n_tries = 0
            yield found


class Model:
    """BOHB's sampler (Falkner et al. 2018): one TPE study of Optuna per budget.

    Parameters
    ----------
    objective : Suggester
    rng : Generator
    random_share, min_points
        As for `.strategies.bohb`.
    """

    def __init__(self, objective: Suggester, rng: np.random.Generator, *, random_share: float, min_points: int) -> None:
        self.objective, self.rng = objective, rng
        self.random_share, self.min_points = random_share, min_points
        self.studies: dict[int, optuna.Study] = {}
        self.told: set[tuple[str, int]] = set()
        self.n_points: Counter[int] = Counter()
        self.choices: dict[str, list[BaseDistribution]] = {}  # by name: its different lists of options

    def propose(self) -> Proposal:
        """Propose by the study of the largest budget with enough points, or at random."""
        is_random = self.rng.random() < self.random_share
        ready = [budget for budget, n in self.n_points.items() if n >= self.min_points]
        if is_random or not ready:
            found = draw(self.objective, self.rng)
            drawn = {name: distribution(domain) for name, domain in found.domains.items()}
            keys = {name: self.key(name, one) for name, one in drawn.items()}
            params = {keys[name]: answer for name, answer in found.params.items()}
            return Proposal(found.configuration, params, {keys[name]: one for name, one in drawn.items()})
        study = self.studies[max(ready)]
        trial = study.ask()
        found = Proposal(self.objective.suggest(Asked(trial, self.key)), trial.params, trial.distributions)
        # The score is added when, and if, the configuration is evaluated.
        study.tell(trial, state=load_optuna().trial.TrialState.FAIL)
        return found

    def key(self, name: str, distribution: BaseDistribution) -> str:
        """Return the study's name for a choice.

        The first list of options keeps the choice's own name, and so do all ranges of whole numbers.
        """
        known = self.choices.setdefault(name, [])
        whole_numbers = load_optuna().distributions.IntDistribution
        is_range = isinstance(distribution, whole_numbers)
        same = [one for one in known if one == distribution or (is_range and isinstance(one, whole_numbers))]
        if not same:
            known.append(distribution)
        number = known.index((same or [distribution])[0])
        return f"{name} ({number + 1})" if number else name

    def tell(self, found: Proposal, budget: int, *, score: float) -> None:
        """Add a score to the study of its budget, once."""
        mark = name_of(found.configuration), budget
        if mark in self.told:
            return
        self.told.add(mark)
        if budget not in self.studies:
            self.studies[budget] = density_model(int(self.rng.integers(2**31)), name=f"budget {budget}")
        domains = {name: distribution(one) for name, one in found.domains.items()}
        told = load_optuna().trial.create_trial(params=found.params, distributions=domains, value=score)
        self.studies[budget].add_trial(told)
        self.n_points[budget] += 1


def density_model(seed: int, n_initial: int = 0, *, name: str | None = None) -> optuna.Study:
    """Return Optuna's TPE, which maximises after `n_initial` random suggestions."""
    optuna = load_optuna()
    sampler = optuna.samplers.TPESampler(n_startup_trials=n_initial, seed=seed)
    return optuna.create_study(direction="maximize", sampler=sampler, study_name=name)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna, except for warnings, within a context."""
    optuna = load_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
