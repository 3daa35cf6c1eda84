from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from naaplib.estimators.predictors.estimator import fit_many
from naaplib.evaluation import training_sets
from naaplib.sources import ROOT
from naaplib.studies.neural_predictor.tables import (
    CHANGES,
    ablation,
    against,
    beside_printed,
    classifiers,
    classify,
    effects,
    evaluate,
    oracle,
    sentence,
    violations,
)
from naaplib.studies.neural_predictor.tasks import (
    FAITHFUL,
    MEAN,
    TUNED,
    TWO_STAGE,
    of_nasbench101,
    of_nasbench201,
    of_nasbench_nlp,
    of_proxylessnas,
    run,
)
from naaplib.tables import graph_benchmarks

MADE = ROOT / "tests" / "data"
CELLS = pd.read_csv(MADE / "nasbench201-runs-made.csv")
SHORT = (1, 1)


@pytest.fixture(scope="module")
def cells():
    """The task of the made cells."""
    return of_nasbench201(CELLS, 20, n_sets=3, n_epochs=SHORT)


def test_cells_are_trained_on_one_training_and_judged_by_the_mean(cells) -> None:
    """And their baselines are parameters and the accuracy after 12 epochs."""
    rows = CELLS.set_index(["epochs", "runs"]).sort_index()
    assert cells.targets.tolist() == rows.loc[(200, "single"), "accuracy"].tolist()
    assert cells.judged.tolist() == rows.loc[(200, "mean"), "accuracy"].tolist()
    assert cells.features["accuracy after 12 epochs"].tolist() == rows.loc[(12, "single"), "accuracy"].tolist()
    assert cells.training.shape == (3, 20)
    assert [mask.sum() for mask in cells.parts["test"]] == [40] * 3


def test_every_system_predicts_every_architecture(cells) -> None:
    """Each training set chooses one candidate of each system that has several, by its own rows."""
    task = replace(cells, published={}, chosen={TUNED: cells.chosen[TUNED]})
    found, validated = run(task, 2, folder=None, n_jobs=1)
    assert list(found) == [MEAN, "line on log parameters", "line on accuracy after 12 epochs", TUNED]
    assert {values.shape for values in found.values()} == {(3, 60)}
    assert validated.groupby("set")["chosen"].sum().tolist() == [1, 1, 1]
    best = validated.loc[validated.groupby("set")["kendall_tau"].idxmax(), "kendall_tau"].tolist()
    assert validated[validated["chosen"]].sort_values("set")["kendall_tau"].tolist() == best


def test_parts_tell_seen_cells_from_others(cells) -> None:
    """Each test row is seen or unseen; of the unseen each is counted once in the last part."""
    task = replace(cells, distinct=np.repeat(np.arange(30), 2).astype(object))
    table = evaluate(task, {MEAN: np.repeat(cells.judged[None], 3, 0)})
    table = table.pivot_table(index="set", columns="part", values="n")
    assert (table["test, seen"] + table["test, unseen"] == table["test"]).all()
    assert (table["test, unseen, once"] <= table["test, unseen"]).all()


def test_an_ablation_changes_one_thing_at_a_time(cells) -> None:
    """From the tuned predictor on paths with normal scores."""
    task = ablation(cells, 2, n_epochs=3)
    assert list(task.published) == list(CHANGES)
    assert task.order.shape == (2, 60)
    plain = task.published["nothing"][1].get_params()
    changed = {
        name: {key for key, value in predictor.get_params().items() if value != plain[key]}
        for name, (_, predictor) in task.published.items()
    }
    assert changed == {name: set(changes) - {"n_epochs"} for name, (_, changes) in CHANGES.items()}
    others = [seen.mask.sum().item() for seen, _ in task.published.values()]
    assert others[1] > others[0] == others[2]


def test_other_tasks_have_the_studys_sizes_and_outputs() -> None:
    """Two stages on NAS-Bench-101; the study's own split first on ProxylessNAS; losses on NAS-Bench-NLP."""
    small = of_nasbench101(
        graph_benchmarks.nasbench101(MADE / "nasbench101-made.csv"), 20, n_validation=10, n_sets=2, n_epochs=SHORT
    )
    assert len(small.targets) == 58  # those drawn uniformly
    assert small.published[TWO_STAGE][1].classify_above == 0.91
    layers = graph_benchmarks.proxylessnas(MADE / "proxylessnas-made")
    task = of_proxylessnas(layers, "Oxford-IIIT Pet", n_train=24, n_validation=6, n_sets=3, n_epochs=SHORT)
    assert task.name == "ProxylessNAS on Oxford Pet"
    assert task.order[0].tolist() == list(range(40))
    assert sorted(task.order[1]) == list(range(40)) != task.order[1].tolist()
    assert task.published[FAITHFUL][1].output == "sigmoid"
    recipes = graph_benchmarks.nasbench_nlp(MADE / "nasbenchnlp-made.jsonl")
    survivors, everyone = (
        of_nasbench_nlp(recipes, 20, n_validation=10, n_sets=2, n_epochs=SHORT, diverged=diverged)
        for diverged in (False, True)
    )
    n_ok = recipes.groupby("model")["status"].first().eq("OK").sum()
    assert (len(survivors.targets), len(everyone.targets)) == (n_ok, 60)
    assert (everyone.targets == everyone.targets.max()).sum() == 60 - n_ok + 1
    assert survivors.published[FAITHFUL][1].output == "loss"


def test_printed_values_stand_beside_the_faithful_systems() -> None:
    """Those of ten test points where the study took ten; the stored ones are of the full test set."""
    columns = ["dataset", "system", "part", "n_train", "n_sets", "mse", "kendall_tau", "kendall_tau_low"]
    columns += ["kendall_tau_high", "r2"]
    rows = [("A", system, "test", 1, 2, 5.0, 0.5, 0.4, 0.6, 0.1) for system in (FAITHFUL, TUNED, TWO_STAGE)]
    stored = pd.DataFrame({
        "dataset": ["A", "A", "A w/ classifier"], "split": ["test, ten points", "test", "test"], "mse": [1.0, 2, 3],
        "kendall_tau": [0.1, 0.2, 0.3], "r2": 0.0, "mse_printed": [7.0, np.nan, 9],
        "kendall_tau_printed": 0.8, "r2_printed": 0.9,
    })  # fmt: skip
    table = beside_printed(pd.DataFrame(rows, columns=columns), stored).set_index("system")
    assert table.loc[[FAITHFUL, TWO_STAGE], "mse_printed"].tolist() == [7, 9]
    assert table.loc[[FAITHFUL, TWO_STAGE], "mse_stored"].tolist() == [2, 3]
    assert table.loc[TUNED].isna().sum() == 6


def test_violations_are_of_each_split_and_compared_on_it(cells) -> None:
    """A predictor that is right has none; one that says the same of all is left out; changes are paired."""
    right = np.repeat(cells.judged[None], 3, 0)
    regressions = pd.DataFrame({"split": [0, 1, 2], "algorithm": "R", "features": "x", "violations": [2.0, 4, 6]})
    table = violations(cells, {"right": right, "flat": 0 * right}, regressions=regressions)
    assert table["predictor"].unique().tolist() == ["right", "R on x"]
    compared = against(table, "right").set_index("predictor")
    assert compared["violations"].to_dict() == {"right": 0, "R on x": 4}
    assert compared.loc["R on x", ["change", "change_sd", "better"]].tolist() == [4, 2, 0]
    assert training_sets.MEASURES == ("mse", "kendall_tau", "r2")


def test_where_two_stages_are_tried_accurate_test_rows_are_told_apart() -> None:
    """Those above the first stage's threshold; equal cells are told apart as in a loop over the rows of each split."""
    table = graph_benchmarks.nasbench101(ROOT / "tests" / "data" / "nasbench101-made.csv")
    task = of_nasbench101(table, 20, n_validation=10, n_sets=2, n_epochs=(1, 1), classify_above=0.9)
    assert "test, seen" not in set(evaluate(task, {"x": task.order / 58})["part"])  # no two cells are the same
    task = replace(task, distinct=np.repeat(np.arange(29), 2).astype(object))
    found = evaluate(task, {"x": task.order / 58}).set_index(["set", "part"])["n"]
    for number, order in enumerate(task.order.tolist()):
        known, test = {row // 2 for row in order[:20]}, order[30:]
        unseen = [row // 2 for row in test if row // 2 not in known]
        assert found[number].to_dict() == {
            "train": 20, "validation": 10, "test": 28, "test, seen": 28 - len(unseen), "test, unseen": len(unseen),
            "test, unseen, once": len(set(unseen)), "test, accurate": sum(task.judged[row] > 0.9 for row in test),
        }  # fmt: skip


def test_the_sentence_says_what_the_tables_say() -> None:
    """Of test rows of NAS-Bench-201, of the best on NAAP-440, of ten points and all of the replication's test set."""
    rows = [("NAS-Bench-201", "test", TUNED, 172, 0.77), ("NAS-Bench-201", "test", FAITHFUL, 172, 0.41),
            ("NAS-Bench-201", "test", "line on log parameters", 172, 0.52), ("NAS-Bench-201", "train", TUNED, 9, 0.99),
            ("other", "test", TUNED, 9, 0.11)]  # fmt: skip
    summary = pd.DataFrame(rows, columns=["dataset", "part", "system", "n_train", "kendall_tau"])
    schemes = pd.DataFrame({"predictor": ["SVR on all", TUNED], "violations": [30.04, 40.06], "n_splits": 11})
    splits = ["train", "test, ten points", "test"]
    stored = pd.DataFrame(
        {"dataset": "NAS-Bench-101", "split": splits, "n": [9, 10, 1234], "kendall_tau": [0, 0.9, 0.6]}
    )
    leaked = pd.DataFrame({"part": ["all", "training cells"], "share": [1, 0.254]})
    assert sentence(summary, schemes, stored=stored, leaked=leaked) == (
        "Trained on 172 cells, a graph network with our changes ranks all others of NAS-Bench-201 with a Kendall tau "
        "of **0.77**; the replication's code reaches 0.41, the parameter count 0.52. On NAAP-440 it leaves **40.1** "
        "pairs in the wrong order, mean of 11 splits, and SVR on all 30.0. The replication's printed tau on "
        "NAS-Bench-101, 0.90, is of ten test points; on the whole test set it is 0.60, and 25 % of that set are cells "
        "that were trained on."
    )


def test_effects_say_which_changes_matter_by_whether_intervals_overlap() -> None:
    """Below, above and across the interval of the unchanged predictor; what is no change of it is left out."""
    names = ["nothing", "padding pooled", "head without activation", "target standardised", "trained on 12 epochs"]
    table = pd.DataFrame({
        "change": names, "kendall_tau_low": [0.78, 0.77, 0.60, 0.85, 0.1],
        "kendall_tau_high": [0.80, 0.785, 0.77, 0.90, 0.2],
    })  # fmt: skip
    assert effects(table) == (
        "By its interval, tau is lower with head without activation; higher with target standardised; neither clearly "
        "lower nor higher with padding pooled."
    )
    assert effects(table.iloc[:3]) == (
        "By its interval, tau is lower with head without activation; neither clearly lower nor higher with padding "
        "pooled."
    )


def test_classifiers_by_hand() -> None:
    """Each training set, their sum, and the replication's, whose accuracy is the printed .96417."""
    names = ["kept_accurate", "kept_others", "dropped_accurate", "dropped_others"]
    counts = pd.DataFrame([[0, 6, 2, 1, 1], [1, 2, 0, 1, 3]], columns=["set", *names])
    found = classifiers(counts).set_index("classifier")
    assert found.index.tolist() == ["set 0", "set 1", "all sets", "replication"]
    assert found.loc["all sets", names].tolist() == [8, 2, 2, 4]
    assert found.loc["set 0", "share_accurate"] == 0.75
    assert found.loc["set 0", "share_missed"] == pytest.approx(1 / 7)
    assert found.loc["all sets", "share_false"] == pytest.approx(2 / 6)
    assert np.trunc(1e5 * found.loc["replication", "share_right"]) == 96_417


def test_the_oracle_stands_beside_what_is_printed() -> None:
    """What is not printed has no number there."""
    rows = [("nasbench101", "val_acc", 95.1389), ("nasbench101", "val_std", 0.04)]
    found = oracle(pd.DataFrame(rows, columns=["benchmark", "measure", "value"]))
    assert found.columns.tolist() == ["benchmark", "measure", "stored", "printed"]
    assert found["printed"].iloc[0] == 95.11 and np.isnan(found["printed"].iloc[1])


def test_a_classifiers_errors_are_counted() -> None:
    """On test rows alone: those that it keeps and drops, as the classifier of the same seed has it."""
    table = graph_benchmarks.nasbench101(MADE / "nasbench101-made.csv")
    middle = float(table["accuracy"].quantile(0.1))
    task = of_nasbench101(table, 20, n_validation=10, n_sets=2, n_epochs=(3, 3), classify_above=middle)
    found = classify(task)
    assert found.iloc[:, 1:].sum(axis=1).tolist() == [28, 28]
    seen, predictor = task.published[TWO_STAGE]
    (second,) = fit_many(predictor, seen, targets=task.targets, training=task.training[1:], seeds=[1])
    rows = task.order[1, 30:]
    kept, good = second.keeps(seen)[rows], task.judged[rows] > middle
    assert found.loc[1, "kept_accurate"] == (kept & good).sum()
    assert found.loc[1, "dropped_others"] == (~kept & ~good).sum()
