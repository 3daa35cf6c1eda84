"""Rounds of architecture tuning: their size, and the architectures in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from naaplib.parallel import one_thread
from naaplib.search.acquisition import KINDS, normal_scores, propose
from naaplib.search.identity import whole
from naaplib.search.journal import Entry
from naaplib.search.search_space import SearchSpace

_SIZE, _INITIAL_CHEAP, _CHEAP = 15_625, 40, 4  # of the space on which they were chosen, and cheap evaluations there


@dataclass(frozen=True)
class Settings:
    """Settings of a search: the size of its rounds, and its acquisition function.

    The defaults were chosen on ImageNet16-120 in NAS-Bench-201.

    Parameters
    ----------
    n_initial, n_initial_cheap : int
        Architectures drawn at random for full evaluations, and others for cheap (low-fidelity) ones, in the first
        round. A search without low-fidelity evaluations draws `n_initial_alone`. None follows the size of the space,
        as `cheap_design` says.
    n_initial_alone : int
    n_full, n_cheap : int
        Full and low-fidelity evaluations in each later round. All are proposed from the evaluations before the round,
        to have the highest full value. The full ones come first. None follows the size of the space.
    cheap_weight : float
        Weight of a low-fidelity evaluation's squared error when the ensemble is fitted; a full one has weight 1.
    acquisition : str
        One of ``acquisition.KINDS``.
    """

    n_initial: int = 2
    n_initial_cheap: int | None = None
    n_initial_alone: int = 10
    n_full: int = 1
    n_cheap: int | None = None
    cheap_weight: float = 0.5
    acquisition: str = "thompson"

    def __post_init__(self) -> None:
        least = {"n_initial": 1, "n_initial_cheap": 0, "n_initial_alone": 1, "n_full": 1, "n_cheap": 0}
        for name, n in least.items():
            if getattr(self, name) is None and name in ("n_initial_cheap", "n_cheap"):
                continue
            object.__setattr__(self, name, whole(name, getattr(self, name), least=n))
        if self.acquisition not in KINDS or not self.cheap_weight > 0:
            raise ValueError(
                f"acquisition is {self.acquisition!r}, one of {', '.join(KINDS)}; cheap_weight {self.cheap_weight}, "
                f"above 0"
            )


class Evaluation(NamedTuple):
    """A finished evaluation."""

    position: int
    fidelity: int
    value: float  # NaN if it failed
    failure: str

    @classmethod
    def of(cls, entry: Entry) -> Evaluation:
        """Read an evaluation from a journal entry."""
        value = math.nan if entry["value"] is None else entry["value"]
        return cls(entry["position"], entry["fidelity"], value, entry["failure"])


def cheap_design(n_archs: int) -> tuple[int, int]:
    """Cheap evaluations in the first round and in each later one, by the space's size.

    A large space gets the numbers that suit the 15,625 cells of NAS-Bench-201; a smaller one gets the same shares of
    it, rounded. In a small space a few full evaluations tell as much as many cheap ones, which all have their price.

    Examples
    --------
    >>> cheap_design(15_625), cheap_design(440)
    ((40, 4), (1, 0))
    """
    share = min(n_archs / _SIZE, 1.0)
    return round(_INITIAL_CHEAP * share), round(_CHEAP * share)


def sizes(space: SearchSpace, settings: Settings, *, before: Sequence[Evaluation], two: bool) -> tuple[int, int]:
    """Return the numbers of cheap and full evaluations in the next round.

    `two` is True for a search with low-fidelity evaluations.
    """
    at_first, later = cheap_design(len(space))
    n_cheap, n_full = (later if settings.n_cheap is None else settings.n_cheap) * two, settings.n_full
    if not before:
        n_first = at_first if settings.n_initial_cheap is None else settings.n_initial_cheap
        n_cheap, n_full = (n_first, settings.n_initial) if two else (0, settings.n_initial_alone)
    n_full = min(n_full, len(space) - sum(one.fidelity == 0 for one in before))
    n_new = len(space) - len({one.position for one in before})
    return min(n_cheap, max(n_new - n_full, 0)), n_full


def positions(
    space: SearchSpace, settings: Settings, *, before: Sequence[Evaluation], size: tuple[int, int], words: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the next round's evaluations as (index, fidelity).

    `size` has the numbers of cheap and full evaluations, `words` the seed and the round's number.
    """
    (n_cheap, n_full), rng = size, np.random.default_rng(list(words))
    if not before:
        drawn = rng.permutation(len(space)).tolist()
        return [(place, int(i >= n_full)) for i, place in enumerate(drawn[: n_full + n_cheap])]
    rows, levels, values = history(before)
    for level in set(levels.tolist()):
        values[levels == level] = normal_scores(values[levels == level])
    ensemble, n_members = space.ensemble, len(space.ensemble.seeds)
    use = [np.arange(n_members)] * 2  # for each fidelity, all members
    if settings.acquisition == "thompson":  # members are independent: the others need no fit
        drawn, numbers = np.unique(rng.integers(n_members, size=2), return_inverse=True)
        ensemble, use = ensemble.members(drawn.tolist()), [numbers[:1], numbers[1:]]
    with one_thread():
        predicted = ensemble.fit(rows, values, fidelities=levels, weights=[1.0, settings.cheap_weight]).predict()
    best = float(values[levels == 0].max())
    full = [one.position for one in before if one.fidelity == 0]
    made: list[tuple[int, int]] = []
    for level, n in ((0, n_full), (1, n_cheap)):
        known = [one.position for one in before] + [place for place, _ in made] if level else full
        seed = int(rng.integers(2**32))
        if n:
            found = propose(
                predicted[use[level]], known, n_proposals=n, kind=settings.acquisition, best=best, seed=seed
            )
            made += [(place, level) for place in found.tolist()]
    return made


def n_idle(done: Sequence[Evaluation], n_drawn: int) -> int:
    """Return how many of the last full evaluations did not raise the best value.

    The first `n_drawn`, which are drawn at random, do not count.

    Examples
    --------
    >>> done = [Evaluation(i, 0, value, "") for i, value in enumerate([0.1, 0.3, 0.4, 0.2, 0.4])]
    >>> n_idle(done, 2), n_idle(done, 4)
    (2, 1)
    """
    values = [-math.inf if math.isnan(one.value) else one.value for one in done if one.fidelity == 0]
    first_best = values.index(max(values)) if values else 0
    return max(len(values) - max(first_best + 1, n_drawn), 0)


def history(done: Sequence[Evaluation]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return indices, fidelities, values; a failure has its fidelity's worst value."""
    rows, levels = (np.array([one[i] for one in done], dtype=np.int64) for i in (0, 1))
    values = np.array([one.value for one in done], dtype=float)
    for level in set(levels.tolist()):
        here = levels == level
        worst = np.nanmin(values[here]) if np.isfinite(values[here]).any() else 0.0
        values[here] = np.where(np.isnan(values[here]), worst, values[here])
    return rows, levels, values
