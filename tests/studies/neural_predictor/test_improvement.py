"""Parts of the improved predictor, the paper's settings and widths, on a made task."""

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures import graphs
from naaplib.estimators.predictors.presets import WIDTHS, deep, faithful, published_width, tuned
from naaplib.studies.neural_predictor import improvement, tasks
from naaplib.studies.neural_predictor.improvement import DEEP, EARLIER, REVISED, VARIANTS
from naaplib.studies.neural_predictor.tasks import FAITHFUL, TUNED, Task

FAST = {"n_epochs": 2, "width": 4, "n_hidden": 4}


def made(**changes: object) -> Task:
    """Forty architectures with two training sets, a faithful and a tuned predictor."""
    rng = np.random.default_rng(0)
    worth = rng.random(40)
    seen = graphs.stack([[[x], [x]] for x in worth], [np.eye(2, k=1)] * 40)
    order = np.stack([np.arange(40), np.roll(np.arange(40), -20)])
    published = {FAITHFUL: (seen, faithful(**FAST)), "other": (seen, faithful(**FAST))}
    chosen = {TUNED: {"all nodes, normal scores": (seen, tuned(**FAST))}}
    given = {
        "name": "made", "targets": worth, "judged": worth, "distinct": np.arange(40).astype(object), "order": order,
        "n_train": 16, "n_validation": 2, "scale": 100, "features": {}, "published": published, "chosen": chosen,
    }  # fmt: skip
    return Task(**given | changes)


def test_settings_go_to_the_systems_that_they_name() -> None:
    """Faithful predictors and tuned ones have their own; the seed counts up from the first training set's."""
    task = improvement.with_settings(made(), {"faithful": {"width": 7}, "tuned": {"dropout": 0.5}}, seed=11)
    assert task.published[FAITHFUL][1].width == 7
    assert task.published["other"][1].width == 4
    assert task.chosen[TUNED]["all nodes, normal scores"][1].dropout == 0.5
    assert task.seeds == [11, 12]
    assert made().published[FAITHFUL][1].width == 4, "the task that is given does not change"
    with pytest.raises(ValueError, match="not of 'fast'"):
        improvement.with_settings(made(), {"fast": {}})


def test_validation_uses_training_rows_alone() -> None:
    """Targets of all other rows may be anything; each change is validated on each set."""
    found = improvement.validate(made(), 2, n_epochs=2, n_folds=2, folder=None, n_jobs=1)
    assert found.groupby("change", sort=False).size().to_dict() == dict.fromkeys(VARIANTS, 2)
    task = made()
    targets = task.targets.copy()
    targets[np.setdiff1d(np.arange(40), task.training)] = 1e9
    spoilt = improvement.validate(made(targets=targets), 2, n_epochs=2, n_folds=2, folder=None, n_jobs=1)
    pd.testing.assert_frame_equal(found, spoilt)


def test_effects_are_differences_of_the_same_sets() -> None:
    """Worked by hand: one change adds 0.1 on each set, whose own values differ much."""
    rows = [("made", EARLIER, 0, 0.2), ("made", EARLIER, 1, 0.8), ("made", "more", 0, 0.3), ("made", "more", 1, 0.9)]
    found = improvement.effects(pd.DataFrame(rows, columns=["dataset", "change", "set", "kendall_tau"]))
    more = found.set_index("change").loc["more"]
    assert more[["kendall_tau", "gain", "gain_low", "gain_high"]].tolist() == pytest.approx([0.6, 0.1, 0.1, 0.1])
    assert found.set_index("change").loc[EARLIER, "gain"] == 0


def test_the_revised_has_no_activation_and_a_choice_of_adjacencies() -> None:
    """On the first training sets, with the settings of the tuned one otherwise."""
    task = improvement.revised(made(), 1)
    assert len(task.order) == 1
    assert not task.published
    predictors = {name: predictor for name, (_, predictor) in task.chosen[REVISED].items()}
    assert list(predictors) == [
        "standardised, symmetric", "standardised, none", "normal scores, symmetric", "normal scores, none",
    ]  # fmt: skip
    for name, predictor in predictors.items():
        assert f"{predictor.output}, {predictor.normalisation}" == name
        assert not predictor.head_relu
        assert predictor.masked
        assert predictor.width == 4


def test_the_papers_settings() -> None:
    """Section III, settings for ProxylessNAS, with the output of the replication on that dataset."""
    task = improvement.printed_settings(made())
    assert list(task.published) == [FAITHFUL, DEEP]
    numbers = task.published[DEEP][1].get_params()
    assert [numbers[name] for name in ("n_layers", "width", "n_hidden")] == [18, 96, (512, 128)]
    assert [numbers[name] for name in ("learning_rate", "penalty", "batch_size")] == [1e-3, 1e-5, 10]
    assert deep().n_epochs == 300
    assert numbers["n_epochs"] == 2, "as the task's faithful predictor"


def test_widths_are_those_of_the_figure() -> None:
    """Figure 5; a number between two takes the nearer."""
    assert WIDTHS == {43: 48, 86: 72, 129: 96, 172: 144, 334: 210, 860: 320}
    assert [published_width(n) for n in (1, 100, 344, 5000)] == [48, 72, 210, 320]


def test_each_number_of_rows_has_two_widths() -> None:
    """The faithful one and its own; one system where they are equal."""
    small, large = improvement.of_widths(made(), [10, 28], n_sets=3)
    assert list(small.published) == ["width 4", "width 48"]
    assert (small.n_train, small.training.shape, large.training.shape) == (10, (3, 10), (3, 28))
    whole = made(published={FAITHFUL: (made().published[FAITHFUL][0], faithful(**FAST | {"width": 48}))})
    assert list(improvement.of_widths(whole, [10], n_sets=1)[0].published) == ["width 48"]


def test_the_revised_is_laid_beside_the_tuned_of_the_same_sets() -> None:
    """The tuned one's third set, which the other lacks, does not count."""
    columns = ["dataset", "system", "set", "part", "mse", "kendall_tau"]
    before = [("made", TUNED, number, "test", 4.0, tau) for number, tau in enumerate((0.5, 0.7, 0.0))]
    before += [("made", TUNED, 0, "train", 9.0, 0.9), ("other", TUNED, 0, "test", 1.0, 0.1)]
    after = [("made", REVISED, number, "test", 2.0, tau) for number, tau in enumerate((0.6, 0.8))]
    found = pd.DataFrame(after, columns=columns).assign(candidate=["standardised, none", "standardised, symmetric"])
    row = improvement.beside_before(pd.DataFrame(before, columns=columns), found).iloc[0]
    assert row[["n_sets", "not_normalised"]].tolist() == [2, 1]
    assert row[["kendall_tau_before", "kendall_tau", "gain"]].tolist() == pytest.approx([0.6, 0.7, 0.1])
    assert row[["mse_before", "mse"]].tolist() == [4, 2]


def test_widths_are_summarised_by_rows_and_width() -> None:
    """Means over two sets, test rows apart from training rows."""
    columns = ["system", "set", "part", "n_train", "mse", "kendall_tau", "r2"]
    rows = [
        ("width 144", 0, "test", 43, 3.0, 0.4, 0.1), ("width 144", 1, "test", 43, 5.0, 0.6, 0.3),
        ("width 144", 0, "train", 43, 1.0, 0.9, 0.9), ("width 48", 0, "test", 43, 7.0, 0.2, 0.0),
        ("width 48", 0, "train", 43, 2.0, 0.9, 0.9),
    ]  # fmt: skip
    found = improvement.by_width(pd.DataFrame(rows, columns=columns)).set_index("layer_units")
    assert found.loc[144, ["n_sets", "kendall_tau", "mse", "mse_train"]].tolist() == pytest.approx([2, 0.5, 4, 1])
    assert found.loc[48, ["n_sets", "kendall_tau", "mse", "mse_train"]].tolist() == pytest.approx([1, 0.2, 7, 2])


def test_a_small_run_has_every_system() -> None:
    """The tasks can be run as they are: two widths, and a choice of four."""
    one = improvement.of_widths(made(), [10], n_sets=1)[0]
    predictions, _ = tasks.run(one, 2, folder=None, n_jobs=1)
    assert predictions["width 48"].shape == (1, 40)
    _, validated = tasks.run(improvement.revised(made(), 2), 2, folder=None, n_jobs=1)
    assert validated["chosen"].sum() == 2
