"""Trainings of several lengths side by side: what is complete is shown, what is not is left out."""

import numpy as np
import pandas as pd
import pytest

from naaplib import metrics
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.evaluation import intervals, noise
from naaplib.studies.accuracy_table import lengths, tables
from naaplib.studies.accuracy_table.records import stack
from naaplib.training import job_records
from naaplib.training.plan import PLAN, TEST_NETWORKS

OWN = "seed 20220819"


def make(model_ids, n_epochs: int, sd: float, seed: int) -> pd.DataFrame:
    """Records of networks that rise by epoch and differ by ModelId, with normal noise on the accuracy."""
    rng = np.random.default_rng(seed)
    rows = [
        (name, epoch, 2 / epoch, 1 / epoch, 0.5 + name / 2000 + epoch / 1000 + rng.normal(0, sd))
        for name in model_ids
        for epoch in range(1, n_epochs + 1)
    ]
    return pd.DataFrame(rows, columns=job_records.COLUMNS)


@pytest.fixture(scope="module")
def found() -> dict[int, pd.DataFrame]:
    """Published 90 epochs of 40 networks; ours 9 epochs of 30, of which 8 have 90; seeds 1 and 2; earlier ones of 3."""
    published = make(range(1, 41), 90, 0, 0)
    jobs = stack([
        (OWN, pd.concat([make(range(1, 9), 90, 0.004, 1), make(range(9, 31), 9, 0.004, 2)])),
        ("seed 1", make(range(1, 13), 90, 0.01, 3)),
        ("seed 2", make(range(1, 9), 90, 0.01, 4)),
    ])  # fmt: skip
    first = stack([
        (OWN, make(range(1, 41), 3, 0.004, 5)), ("perturbed", make(range(1, 13), 3, 0.002, 6)),
        ("seed 1", make(range(1, 13), 3, 0.01, 7)), ("seed 2", make(range(1, 13), 3, 0.01, 8)),
    ])  # fmt: skip
    return lengths.by_length(published, jobs, first=first, lengths=(3, 9, 90))


TESTED = list(range(1, 13))


def test_each_length_has_the_networks_that_were_trained_so_long(found: dict[int, pd.DataFrame]) -> None:
    """By hand; earlier trainings have names of their own, and no run of one length mixes them with jobs."""
    counts = {n: part.groupby("run", sort=False)["ModelId"].nunique().to_dict() for n, part in found.items()}
    assert counts[90] == {"published": 40, OWN: 8, "seed 1": 12, "seed 2": 8}
    assert counts[9] == {"published": 40, OWN: 30, "seed 1": 12, "seed 2": 8}
    assert counts[3] == {
        "published": 40, f"{OWN} (earlier)": 40, "perturbed (earlier)": 12, "seed 1 (earlier)": 12,
        "seed 2 (earlier)": 12, OWN: 30, "seed 1": 12, "seed 2": 8,
    }  # fmt: skip
    assert all(part.groupby(["run", "ModelId"]).size().eq(n).all() for n, part in found.items())


def test_lengths_that_nobody_trained_are_left_out() -> None:
    """Without jobs only that of the earlier trainings is there; without any record none."""
    published, nothing = make([1, 2, 3], 90, 0, 0), pd.DataFrame(columns=["run", *job_records.COLUMNS])
    first = stack([(OWN, make([1, 2], 3, 0, 1))])
    assert list(lengths.by_length(published, nothing, first=first, lengths=(3, 9, 90))) == [3]
    assert lengths.by_length(published, nothing, first=nothing, lengths=(3, 9, 90)) == {}


def test_pairs_are_compared_on_all_and_on_test_networks(found: dict[int, pd.DataFrame]) -> None:
    """Slow twin of one row; where only test networks are shared there is no second row."""
    pairs = lengths.compare(found, TESTED, n_resamples=20).set_index(["n_epochs", "run_a", "run_b", "networks"])
    row = pairs.loc[(9, "published", OWN, "all")]
    a, b = tables.by_run(found[9], runs=["published", OWN]).to_numpy().T
    assert row["n_archs"] == 30
    assert row["kendall_tau"] == pytest.approx(metrics.kendall_tau(a, b))
    assert (row["kendall_tau_low"], row["kendall_tau_high"]) == intervals.bootstrap_interval(
        a, b, metric=metrics.kendall_tau, n_resamples=20
    )
    assert pairs.loc[(9, "published", OWN, "test"), "n_archs"] == 12
    assert (90, "published", "seed 1", "test") in pairs.index
    assert (90, "published", "seed 1", "all") not in pairs.index


def test_floor_of_each_length(found: dict[int, pd.DataFrame]) -> None:
    """Published training and other seeds that are complete, on the test networks; rounding where it was measured."""
    floors = lengths.floors(
        found, TESTED, other_seeds=["seed 1", "seed 2"], perturbed=[OWN, "perturbed"], n_simulations=30
    )
    key = floors[["noise", "n_epochs", "n_runs", "n_archs_sd", "n_archs"]].to_numpy().tolist()
    assert key == [
        ["seed", 3, 3, 12, 12], ["rounding", 3, 2, 12, 12], ["seed", 9, 2, 12, 12], ["seed", 90, 2, 12, 12]
    ]  # fmt: skip
    wide = tables.by_run(found[90], runs=["published", "seed 1"]).loc[TESTED]
    expected = noise.perfect_predictor(wide.mean(axis=1), noise.noise_sd(wide), n_simulations=30)
    last = floors.iloc[-1]
    assert {name: last[name] for name in expected} == expected
    assert (last["sd_training_low"], last["sd_training_high"]) == noise.sd_interval(wide, n_resamples=30)
    both = lengths.floors({90: found[90]}, TESTED, other_seeds=["seed 2"], n_simulations=5)  # none is complete
    assert both[["n_runs", "n_archs"]].to_numpy().tolist() == [[2, 8]]
    documented = noise.__doc__ or ""
    assert [name for name in floors if name.split("_low")[0].split("_high")[0] not in documented] == []
    with pytest.raises(ValueError, match="no length has two test networks in all of the runs seed 9"):
        lengths.floors({90: found[90]}, TESTED, other_seeds=["seed 9"])


def test_headline_is_the_longest_that_is_complete(found: dict[int, pd.DataFrame]) -> None:
    """Seed 2 lacks four test networks beyond 3 epochs; with eight of them it is complete through 90."""
    assert lengths.headline(found, TESTED, other_seeds=["seed 1", "seed 2"]) == 3
    assert lengths.headline(found, TESTED[:8], other_seeds=["seed 1", "seed 2"]) == 90
    assert lengths.headline(found, TESTED, other_seeds=["seed 1"]) == 90
    assert lengths.headline(found, TESTED, other_seeds=["seed 9"]) == 3


def test_agreement_epoch_by_epoch(found: dict[int, pd.DataFrame]) -> None:
    """All 30 networks through epoch 9, eight beyond, each once; the earlier training by itself."""
    table = lengths.agreement(found, [OWN, f"{OWN} (earlier)"])
    accuracy = table[table["measure"] == "accuracy"]
    mine = accuracy[accuracy["run"] == OWN].set_index("epoch")["n_archs"]
    assert mine.loc[1:9].tolist() == [30] * 9
    assert mine.loc[10:].tolist() == [8] * 81
    assert accuracy.loc[accuracy["run"] != OWN, "n_archs"].tolist() == [40] * 3


def test_shared_noise_of_every_run(found: dict[int, pd.DataFrame]) -> None:
    """A row for any and for each property of a block; runs and lengths as they are there."""
    schemes = dict(enumerate(enumerate_schemes(), 1))
    table = lengths.shared_noise(found, schemes, n_permutations=10)
    assert list(table)[:2] == ["run", "n_epochs"]
    runs = table.drop_duplicates(["run", "n_epochs"])[["n_epochs", "run"]].to_numpy().tolist()
    assert runs[-3:] == [[90, OWN], [90, "seed 1"], [90, "seed 2"]]
    assert len(runs) == 7 + 3 + 3


def test_trainings_say_their_trainer_and_what_is_left() -> None:
    """A run of two trainers has a row each, one that is not begun a row without; the earlier ones are torch's."""
    index = pd.DataFrame(
        [(1, 7, 4, 90, "torch", "fp32", 4, "A", "", "2", 400.0, 24.0), (1, 39, 4, 90, "compiled", "fp32", 4, "B", "",
          "2", 100.0, 6.0), (1, 72, 4, 90, "compiled", "fp32", 440, "B", "G", "2", 100.0, 55.0)],
        columns=["seed", "first", "n_archs", "n_epochs", "trainer", "precision", "size", "processor", "gpu", "torch",
                 "seconds", "ms_per_step"],
    )  # fmt: skip
    progress = pd.DataFrame({"run": ["seed 1", "seed 2"], "n_epochs": [90, 90], "n_archs": [40, 40]})
    first = pd.DataFrame([{
        "run": OWN, "n_epochs": 3, "n_archs": 440, "precision": "fp32", "device": "CPU", "seconds": 8880, "torch": "2"
    }])  # fmt: skip
    table = lengths.trainings(index, progress, first=first)
    assert tuple(table) == lengths.TRAININGS
    assert table[["run", "n_archs", "n_planned", "trainer"]].to_numpy().tolist() == [
        [f"{OWN} (earlier)", 440, 440, "torch"], ["seed 1", 4, 40, "torch"], ["seed 1", 8, 40, "compiled"],
        ["seed 2", 0, 40, ""],
    ]  # fmt: skip
    assert table["device"].tolist() == ["CPU", "A", "B and G", ""]
    assert table["ms_per_step"].iloc[0] == pytest.approx(8880 * 1000 / (440 * 3 * 196))
    assert table["ms_per_step"].iloc[2] == pytest.approx((6 / 4 + 55 / 440) / 2)


def test_answer_names_lengths_and_scores(found: dict[int, pd.DataFrame]) -> None:
    """Three answers, with tau and violations; that a floor is an early one is said, and at 90 epochs it is not."""
    pairs = lengths.compare(found, TESTED, n_resamples=5)
    floors = lengths.floors(found, TESTED, other_seeds=["seed 1", "seed 2"], n_simulations=5)
    scores = pd.DataFrame({
        "others": ["the same seed", "other seeds"], "features": "every block", "algorithm": "3-NN",
        "violations_own": 20.0, "violations_others": [26.5, 30.0],
    })  # fmt: skip
    text = " ".join(lengths.sentences(pairs, floors, scores=scores, n_epochs=90))
    assert "through 3 epochs with the published seed, 40 networks keep" in text  # 8 have all 90
    assert "early epochs" not in text
    assert (
        "puts 20 pairs of that training in the wrong order, and **26.5** of the same seed and **30** of other" in text
    )
    early = " ".join(lengths.sentences(pairs, floors[floors["n_epochs"] == 3], scores=scores, n_epochs=3))
    assert "After 3 epochs even a perfect predictor" in early
    assert "; this is the noise of early epochs" in early


def test_the_answer_is_about_all_networks_and_not_about_a_table_in_progress(found: dict[int, pd.DataFrame]) -> None:
    """Four networks with all epochs say less than all networks with the first ones."""
    pairs = lengths.compare(found, TESTED, n_resamples=5)
    own = pairs[pairs["run_b"].str.startswith("seed 20220819")].iloc[[0]]
    few = own.assign(n_epochs=90, n_archs=4, kendall_tau=0.67)
    many = own.assign(n_epochs=9, n_archs=440, kendall_tau=0.92)
    floors = lengths.floors(found, TESTED, other_seeds=["seed 1", "seed 2"], n_simulations=5)
    scores = pd.DataFrame({
        "others": ["other seeds"], "features": "every block", "algorithm": "3-NN", "violations_own": 20.0,
        "violations_others": [30.0],
    })  # fmt: skip
    for order in ([few, many], [many, few]):
        text = lengths.sentences(pd.concat(order), floors, scores=scores, n_epochs=90)[0]
        assert text.startswith("Trained again through 9 epochs with the published seed, 440 networks keep")
        assert "so far" not in text
    half = few.assign(n_archs=200, kendall_tau=0.91)
    assert (
        "96,580 pairs change places). The 200 that have gone through all 90 epochs so far keep theirs with one of "
        "**0.91**."
    ) in lengths.sentences(pd.concat([half, many.assign(n_pairs=96_580)]), floors, scores=scores, n_epochs=90)[0]


def test_the_plan_has_the_test_networks_of_the_floor() -> None:
    """Two seeds of all 40 through 90 epochs come before the rest of the table."""
    runs = [(run.seed, run.networks, run.n_epochs) for run in PLAN.runs]
    assert runs.index((2, "test", 90)) < runs.index((20220819, "all", 90))
    assert len(TEST_NETWORKS) == 40


def test_choices_by_hand() -> None:
    """The maximum, the last epoch, and the epoch that validation images choose, where there are any."""
    accuracies = {1: ([0.5, 0.7, 0.6], [0.8, 0.1, 0.2]), 2: ([0.4, 0.5, 0.65], [0.1, 0.2, 0.3])}
    rows = [(name, epoch + 1, a[epoch], v[epoch]) for name, (a, v) in accuracies.items() for epoch in range(3)]
    records = pd.DataFrame(rows, columns=["ModelId", "epoch", "accuracy", "holdout_accuracy"]).assign(run="a")
    got = lengths.choices(records, "a").set_index("accuracy")
    assert got["mean"].tolist() == pytest.approx([0.675, 0.625, 0.575])
    assert got["below_maximum"].tolist() == pytest.approx([0, 0.05, 0.1])
    assert got["kendall_tau"].tolist() == [1, -1, -1]
    assert got[["run", "n_epochs", "n_archs"]].drop_duplicates().to_numpy().tolist() == [["a", 3, 2]]
    assert list(lengths.choices(records.drop(columns="holdout_accuracy"), "a")["accuracy"]) == ["maximum", "last"]
