"""Searches on the clock of several workers: schedules by hand, and the strategies as they are."""

import numpy as np
import pandas as pd
import pytest

from naaplib.search import strategies, workers
from naaplib.search.budget import Ledger
from naaplib.search.plans import Step
from naaplib.search.tabular_objective import TableObjective

RNG = np.random.default_rng(0)
CURVES = RNG.random(60)[:, None] + RNG.normal(0, 0.3, (60, 27)) / np.sqrt(np.arange(1, 28))
PATHS = [(f"a{i % 3}", f"b{i // 3 % 4}", f"c{i // 12}") for i in range(60)]
SECONDS = RNG.uniform(0.5, 2, 60)
SETTINGS = {"total_budget": 400, "max_budget": 27, "seconds": lambda one, n_epochs: SECONDS[one] * n_epochs}


def objective() -> TableObjective:
    """Sixty made learning curves."""
    return TableObjective(CURVES, PATHS)


def two_rungs():
    """Five configurations for one epoch, then the two best for three."""
    scores = yield [Step(name, 1, 0, 0) for name in range(5)]
    assert scores == [0, 1, 2, 3, 4]
    yield [Step(4, 3, 0, 1), Step(3, 3, 0, 1)]


def test_a_schedule_by_hand() -> None:
    """Two workers, of which the free one goes on; the second rung waits for the longest; epochs are added.

    Seconds an epoch are 3, 1, 1, 4, 1. Worker 0 has network 0 until 3, then 4 until 4; worker 1 has networks 1 and 2
    until 2, then 3 until 6. From 6 on, two more epochs: worker 0 has network 4 until 8, worker 1 network 3
    until 14.
    """
    seconds = [3, 1, 1, 4, 1]
    ledger = Ledger(lambda one, n_epochs: one * n_epochs, 100, told={})
    found = workers.schedule(ledger, two_rungs(), seconds=lambda one, n: seconds[one] * n, n_workers=2)
    assert found[["configuration", "worker", "start", "end"]].astype(int).to_numpy().tolist() == [
        [1, 1, 0, 1], [2, 1, 1, 2], [0, 0, 0, 3], [4, 0, 3, 4], [3, 1, 2, 6], [4, 0, 6, 8], [3, 1, 6, 14]
    ]  # fmt: skip
    assert found["incumbent"].tolist() == ["1", "2", "2", "4", "4", "4", "4"]
    assert workers.idle_share(found, n_workers=2) == pytest.approx(1 - 20 / 28)
    assert found["paid"].tolist() == [1, 1, 1, 1, 1, 2, 2]


def test_the_budget_cuts_a_rung() -> None:
    """Steps that no longer fit are not begun, and the plan is not asked again."""
    ledger = Ledger(lambda one, n_epochs: one * n_epochs, 7, told={})
    found = workers.schedule(ledger, two_rungs(), seconds=lambda _, n: n, n_workers=1)
    assert (len(found), found["end"].iloc[-1]) == (6, 7)
    ledger = Ledger(lambda one, n_epochs: one, 3, told={})
    assert len(workers.schedule(ledger, two_rungs(), seconds=lambda _, n: n, n_workers=3)) == 3


@pytest.mark.parametrize("strategy", workers.STRATEGIES)
def test_one_worker_is_the_strategy_itself(strategy: str) -> None:
    """The same evaluations in the same order, one after the other, without a pause."""
    own = {
        "random search": lambda: strategies.random_search(objective(), 400, budget=27, seed=3),
        "successive halving": lambda: strategies.successive_halving(
            objective(), 400, rungs=strategies.brackets(27, 3)[0], seed=3
        ),
        "HyperBand": lambda: strategies.hyperband(objective(), 400, max_budget=27, eta=3, seed=3),
        "BOHB": lambda: strategies.bohb(objective(), 400, max_budget=27, eta=3, seed=3),
    }[strategy]()
    found = workers.search(strategy, objective(), n_workers=1, seed=3, **SETTINGS)
    shared = found[list(own)].sort_values("step", ignore_index=True)
    pd.testing.assert_frame_equal(shared[: len(own)], own)
    assert workers.idle_share(found, n_workers=1) == pytest.approx(0)


@pytest.mark.parametrize("strategy", ["random search", "HyperBand"])
def test_more_workers_evaluate_the_same_sooner(strategy: str) -> None:
    """The same evaluations; the clock lies between a quarter of one worker's time and all of it."""
    one, four = (workers.search(strategy, objective(), n_workers=n, **SETTINGS) for n in (1, 4))
    keys = ["configuration", "budget"]
    assert sorted(map(tuple, one[keys].to_numpy())) == sorted(map(tuple, four[keys].to_numpy()))
    assert one["end"].max() / 4 <= four["end"].max() < one["end"].max()
    assert 0 < workers.idle_share(four, n_workers=4) < 0.75


def test_bohb_waits_for_its_batches() -> None:
    """Four proposals at a time: no evaluation begins before the four before it in its rung have ended."""
    found = workers.search("BOHB", objective(), n_workers=4, **SETTINGS).sort_values("step")
    first = found[(found["bracket"] == 0) & (found["rung"] == 0)]
    assert len(first) == 27
    for i in range(4, 27):
        batch = first.iloc[(i // 4 - 1) * 4 : i // 4 * 4]
        assert first["start"].iloc[i] == pytest.approx(batch["end"].max())


def test_wrong_arguments_are_named() -> None:
    """Strategy and number of workers."""
    with pytest.raises(ValueError, match="must be one of random search, "):
        workers.search("evolution", objective(), n_workers=1, **SETTINGS)
    with pytest.raises(ValueError, match="n_workers must be 1 or more, not 0"):
        workers.search("BOHB", objective(), n_workers=0, **SETTINGS)
