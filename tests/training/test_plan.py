"""The plan of trainings: its runs, its jobs, and their names."""

from dataclasses import asdict, replace

import pytest
from made import SCHEME, SHORT

from naaplib.tables import naap440
from naaplib.training.plan import PLAN, RECIPES, TEST_NETWORKS, Job, Plan, Run, changed
from naaplib.training.recipe import PUBLISHED, SEED

SMALL = Plan(
    (Run(1, "test", 2), Run(5, "all", 1), Run(5, "all", 4)),
    {7: SCHEME, 3: SCHEME[:2], 5: SCHEME[:1]},
    (7, 3),
    SHORT,
    size=2,
)


def test_test_networks_are_those_of_the_published_table(published_path) -> None:
    """The constant that saves a machine the table is its column IsTest."""
    table = naap440.read(published_path)
    assert sorted(table.loc[table["IsTest"] == 1, "ModelId"]) == list(TEST_NETWORKS)


def test_jobs_by_hand() -> None:
    """Runs in their order, networks ascending, as many a job as the size says; names are unique and sort by epochs."""
    jobs = SMALL.jobs()
    assert jobs == [
        Job(1, (3, 7), 2), Job(5, (3, 5), 1), Job(5, (7,), 1), Job(5, (3, 5), 4), Job(5, (7,), 4)
    ]  # fmt: skip
    assert jobs[0].stem == "2-epochs/seed-1/0003-0007"
    assert SMALL.jobs(SMALL.runs[:1]) == jobs[:1]
    others_first = replace(SMALL, runs=(Run(1, "all", 2),), test_networks=(7,), size=1)
    assert [job.model_ids for job in others_first.jobs()] == [(7,), (3,), (5,)], "jobs with test networks come first"
    assert len({job.stem for job in PLAN.jobs()}) == len(PLAN.jobs()) == 5 * 10 + 2 * 110


def test_short_runs_are_left_out_where_they_save_nothing() -> None:
    """A run that a longer one of the same seed and networks contains; the published seed comes first."""
    assert SMALL.longest() == (Run(1, "test", 2), Run(5, "all", 4))
    assert [(run.seed, run.n_epochs) for run in PLAN.longest()] == [(SEED, 90), *((seed, 90) for seed in range(1, 6))]
    both = replace(SMALL, runs=(Run(1, "test", 2), Run(1, "all", 2)))
    assert both.longest() == (Run(1, "all", 2),)


def test_settings_tell_plans_apart(tmp_path) -> None:
    """Other schemes, another numbering, another recipe or other images are another plan; seeds and epochs are not."""
    changed = [
        replace(SMALL, schemes={7: SCHEME, 3: SCHEME[:2], 6: SCHEME[:1]}),
        replace(SMALL, schemes={7: SCHEME, 3: SCHEME, 5: SCHEME[:1]}),
        replace(SMALL, recipe=replace(SHORT, momentum=0.5)),
    ]
    path = tmp_path / "images.npz"
    path.write_bytes(b"1")
    changed.append(replace(SMALL, images_file=str(path)))
    assert len({tuple(plan.settings.values()) for plan in [SMALL, *changed]}) == 5
    assert replace(SMALL, runs=SMALL.runs[:1]).settings == SMALL.settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Run(1, "some", 2), r"networks is 'some'; it must be one of \('all', 'test'\)"),
        (lambda: Run(1, "all", 0), "n_epochs must be 1 or more, not 0"),
        (lambda: replace(SMALL, runs=()), "must have runs and networks"),
        (lambda: replace(SMALL, size=0), "size must be 1 or more, not 0"),
        (lambda: replace(SMALL, test_networks=(3, 8)), r"test_networks \[8\] are not among"),
    ],
)
def test_wrong_plans(make, message: str) -> None:
    """Each is one message."""
    with pytest.raises(ValueError, match=message):
        make()


def test_recipes_change_one_number_each() -> None:
    """Test networks and the published seed for nine epochs; all else is the plan's."""
    for plan in RECIPES.values():
        assert plan.runs == (Run(SEED, "test", 9),)
        assert (plan.schemes, plan.test_networks) == (PLAN.schemes, PLAN.test_networks)
        assert sum(value != asdict(PUBLISHED)[name] for name, value in asdict(plan.recipe).items()) == 1
    assert len({plan.settings["recipe"] for plan in [PLAN, *RECIPES.values()]}) == 6
    (one,) = changed(SMALL, {"slow": {"initial_rate": 0.01}}, n_epochs=1, seed=4).values()
    assert one == replace(SMALL, runs=(Run(4, "test", 1),), recipe=replace(SHORT, initial_rate=0.01))
    with pytest.raises(TypeError, match="nesterov"):
        changed(PLAN, {"Nesterov": {"nesterov": 1}}, n_epochs=9)
