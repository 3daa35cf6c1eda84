"""Several trainings of the same networks: targets, agreement, the floor, shared noise, scores, and their figures."""

import math
from dataclasses import astuple
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from naaplib import metrics
from naaplib.architectures.schemes import Block, enumerate_schemes
from naaplib.evaluation import intervals, noise, protocols
from naaplib.studies.accuracy_table import figures
from naaplib.studies.accuracy_table import tables as retraining
from naaplib.tables import features, naap440

SCHEMES = dict(enumerate(enumerate_schemes(), 1))
MEASURES = ["loss_mean", "loss_median", "accuracy"]


def make_records(accuracies: dict[str, dict[int, list[float]]]) -> pd.DataFrame:
    """Records with the given accuracies by run and ModelId; losses are one and two minus them."""
    rows = [
        (run, model_id, epoch, 1 - value, 2 - value, value)
        for run, networks in accuracies.items()
        for model_id, values in networks.items()
        for epoch, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows, columns=["run", "ModelId", "epoch", *MEASURES])


def make_runs(values: np.ndarray, names: str = "abcdef") -> pd.DataFrame:
    """Records of one epoch; a column of `values` is a run, a row is a network."""
    return make_records(
        {name: dict(enumerate(([value] for value in column), 1)) for name, column in zip(names, values.T, strict=False)}
    )


def make_noisy(sd: float, n_runs: int, n_archs: int = 440, seed: int = 0) -> pd.DataFrame:
    """Records of one epoch: networks spread like those of the study, with independent noise."""
    rng = np.random.default_rng(seed)
    return make_runs(rng.normal(0.65, 0.05, (n_archs, 1)) + rng.normal(0, sd, (n_archs, n_runs)))


SMALL = make_records({
    "one": {7: [0.25, 0.75, 0.5], 3: [0.5, 0.5, 0.25], 5: [0.125, 0.25, 0.375]},
    "two": {3: [0.25, 0.5, 0.5], 9: [0.5, 0.5, 0.5], 7: [0.25, 0.5, 0.625]},
})  # fmt: skip


def test_targets_by_hand() -> None:
    """The first best epoch, the last epoch, the first one that is best on held-out images; runs as they appear."""
    records = SMALL.assign(holdout_accuracy=[0.1, 0.2, 0.2, 0.3, 0.2, 0.1, 0.1, 0.2, 0.3] * 2)
    assert retraining.target(records)[["run", "ModelId", "epoch", "accuracy"]].to_numpy().tolist() == [
        ["one", 3, 1, 0.5], ["one", 5, 3, 0.375], ["one", 7, 2, 0.75],
        ["two", 3, 2, 0.5], ["two", 7, 3, 0.625], ["two", 9, 1, 0.5],
    ]  # fmt: skip
    last = retraining.target(records, "last")
    assert last["accuracy"].tolist() == [0.25, 0.375, 0.5, 0.5, 0.625, 0.5]
    assert last["epoch"].tolist() == [3] * 6
    selected = retraining.target(records, "validation-selected")
    assert selected["epoch"].tolist() == [1, 3, 2, 2, 3, 1]
    assert selected["accuracy"].tolist() == [0.5, 0.375, 0.75, 0.5, 0.625, 0.5]


def test_published_target_is_the_published_maximum(made_path) -> None:
    """Law: the maximum of a table's own epochs is its MaxAccuracy."""
    table = naap440.read(made_path)
    found = retraining.target(naap440.tidy(table).assign(run="published"))
    expected = table.set_index("ModelId")["MaxAccuracy"].sort_index()
    assert found["accuracy"].tolist() == expected.tolist()


def test_targets_side_by_side_of_the_networks_in_common() -> None:
    """Networks 5 and 9 are in one run only; the columns come in the order asked for."""
    assert retraining.by_run(SMALL).to_dict("list") == {"one": [0.5, 0.75], "two": [0.5, 0.625]}
    assert list(retraining.by_run(SMALL, runs=["two", "one"])) == ["two", "one"]
    assert retraining.by_run(SMALL, runs=["one"]).index.tolist() == [3, 5, 7]


def test_common_epochs_are_those_of_all_networks() -> None:
    """The third epoch of one network of one run is absent, so it goes from all."""
    records = SMALL.drop(index=2)
    assert retraining.common_epochs(records).index.tolist() == [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16]


@pytest.mark.parametrize(
    ("records", "kind", "message"),
    [
        (SMALL, "best", r"kind is 'best'; it must be one of \['maximum', 'last', 'validation-selected'\]"),
        (SMALL, "validation-selected", r"the records lack columns \['holdout_accuracy'\]; they have \['run', "),
        (SMALL.drop(index=11), "last", r"run 'two' lacks some of 3 epochs of ModelId 3; take common_epochs\(records\)"),
        (pd.concat([SMALL, SMALL.iloc[[4]]]), "last", r"the records hold twice \[\['one', 3, 2\]\]"),
        (SMALL.replace({"accuracy": 0.125}, math.nan), "last", r"lack a value in \[\['one', 5, 1\]\]"),
    ],
)
def test_bad_records_are_refused(records: pd.DataFrame, kind: str, message: str) -> None:
    """What came, what is allowed, and where the fault lies."""
    with pytest.raises(ValueError, match=message):
        retraining.target(records, kind)


def test_runs_that_cannot_be_compared_are_refused() -> None:
    """A run that is not there; one network in common; one run only; schemes and features that lack networks."""
    with pytest.raises(ValueError, match="there is no run 'three'; there are: one, two"):
        retraining.agreement(SMALL, "one", other="three")
    for call in (retraining.compare_pairs, lambda records: retraining.agreement(records, "one", other="two")):
        with pytest.raises(ValueError, match="one and two have 1 networks in common; at least 2 are needed"):
            call(SMALL[SMALL["ModelId"] != 3])
    alone = SMALL[SMALL["run"] == "one"]
    with pytest.raises(ValueError, match=r"the records hold \['one'\] only; at least 2 runs are needed"):
        retraining.floor(alone)
    with pytest.raises(ValueError, match="one and two and model_ids have 0 networks"):
        retraining.floor(SMALL, model_ids=[4])
    with pytest.raises(ValueError, match=r"schemes lacks ModelId \[7\]"):
        retraining.shared_noise(SMALL, "one", run_b="two", schemes={3: SCHEMES[3]})
    with pytest.raises(ValueError, match=r"feature set 'x' lacks ModelId \[7\]"):
        retraining.score_twice(SMALL, "one", feature_sets={"x": pd.DataFrame({"a": [1.0]}, index=[3])})


def test_agreement_by_hand() -> None:
    """Networks 3 and 7 are common: differences of accuracy -0.25 and 0, then 0 and -0.25, then 0.25 and 0.125."""
    found = retraining.agreement(SMALL, "one", other="two").set_index(["measure", "epoch"])
    accuracy = found.loc["accuracy"]
    assert accuracy["n_archs"].tolist() == [2, 2, 2]
    assert accuracy["difference"].tolist() == [-0.125, -0.125, 0.1875]
    assert accuracy["mae"].tolist() == [0.125, 0.125, 0.1875]
    np.testing.assert_allclose(accuracy["sd"], [0.25 / 2**0.5, 0.25 / 2**0.5, 0.125 / 2**0.5])
    np.testing.assert_allclose(accuracy["rmse"], [0.25 / 2**0.5, 0.25 / 2**0.5, (5 / 128) ** 0.5])
    # Epochs 1 and 2: tied in the other run, half a violation; epoch 3: in the same order.
    assert accuracy["violations"].tolist() == [0.5, 0.5, 0]
    np.testing.assert_equal(accuracy["kendall_tau"].to_numpy(), [math.nan, math.nan, 1])
    np.testing.assert_allclose(accuracy["correlation"], [math.nan, math.nan, 1])
    assert accuracy["n_pairs"].tolist() == [1, 1, 1]
    assert found.loc["loss_median", "difference"].tolist() == [0.125, 0.125, -0.1875]


def test_order_of_rows_does_not_matter() -> None:
    """Law: rows shuffled within the runs give the same frames."""
    records = make_noisy(0.01, n_runs=4, n_archs=30)
    shuffled = pd.concat([run.sample(frac=1, random_state=1) for _, run in records.groupby("run", sort=False)])
    for function in (
        retraining.target,
        retraining.compare_pairs,
        retraining.floor,
        lambda given: retraining.agreement(given, "a", other="b"),
        lambda given: retraining.shared_noise(given, "a", run_b="b", schemes=SCHEMES, n_permutations=20),
        figures.curves,
        lambda given: figures.differences(given, {"b - a": ("a", "b")}),
    ):
        pd.testing.assert_frame_equal(function(shuffled), function(records))


def test_equal_runs_agree_and_swapped_runs_negate() -> None:
    """Laws: a run against itself has no error; two runs swapped have the same errors and the opposite difference."""
    records = make_noisy(0.01, n_runs=2, n_archs=30)
    (same,) = retraining.compare_pairs(
        pd.concat([records[records["run"] == "a"].assign(run=name) for name in "ab"]), n_resamples=20
    ).to_dict("records")
    assert [same[name] for name in ("mae", "rmse", "sd_training", "violations", "violations_high")] == [0] * 5
    assert same["kendall_tau"] == 1
    forth = retraining.agreement(records, "a", other="b")
    back = retraining.agreement(records, "b", other="a")
    np.testing.assert_allclose(forth["difference"], -back["difference"])
    np.testing.assert_allclose(forth[["sd", "mae", "rmse", "violations"]], back[["sd", "mae", "rmse", "violations"]])


def test_pairs_of_runs_are_compared_as_metrics_say() -> None:
    """Slow twin: every number from the two columns, with the interval that metrics give."""
    records = make_noisy(0.02, n_runs=3, n_archs=25)
    found = retraining.compare_pairs(records, n_resamples=50, seed=3)
    assert found[["run_a", "run_b"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    row = found.iloc[1]
    a, c = (records.loc[records["run"] == run, "accuracy"].to_numpy() for run in "ac")
    assert (row["n_archs"], row["n_pairs"], row["n_epochs"]) == (25, 300, 1)
    assert row["mae"] == np.abs(c - a).mean()
    np.testing.assert_allclose(row["sd_training"], (c - a).std(ddof=1) / 2**0.5)
    assert row["violations"] == sum((a[i] - a[j]) * (c[i] - c[j]) < 0 for i, j in combinations(range(25), 2))
    assert row["kendall_tau"] == metrics.kendall_tau(a, c)
    interval = intervals.bootstrap_interval(a, c, metric=metrics.violations, n_resamples=50, seed=3)
    assert (row["violations_low"], row["violations_high"]) == interval
    assert (row["mae_low"], row["mae_high"]) == intervals.bootstrap_interval(
        a, c, metric=metrics.mae, n_resamples=50, seed=3
    )


@pytest.mark.parametrize("n_runs", [2, 5])
def test_known_noise_is_recovered(n_runs: int) -> None:
    """Simulation: the sd that was put in comes out, whatever the level of each run."""
    records = make_noisy(0.005, n_runs)
    records["accuracy"] += records["run"].map(dict(zip("abcde", [0, 0.05, -0.02, 0.01, 0.03], strict=True)))
    np.testing.assert_allclose(noise.noise_sd(retraining.by_run(records)), 0.005, rtol=0.1)


def test_floor_takes_noise_from_all_and_scores_some() -> None:
    """The sd is of all networks, errors are of those named, around the mean of the runs."""
    records = make_noisy(0.005, n_runs=3, n_archs=60)
    wide = retraining.by_run(records)
    (found,) = retraining.floor(records, model_ids=[1, 2, 60, 99], n_simulations=50, seed=4).to_dict("records")
    expected = noise.perfect_predictor(
        wide.loc[[1, 2, 60]].mean(axis=1), noise.noise_sd(wide), n_simulations=50, seed=4
    )
    low, high = noise.sd_interval(wide, n_resamples=50)
    expected |= {"sd_training_low": low, "sd_training_high": high}
    assert found == {"kind": "maximum", "n_epochs": 1, "n_runs": 3, "n_archs_sd": 60} | expected


def test_neighbours_are_all_pairs_with_one_difference() -> None:
    """Slow twin: the 440 schemes in every pair, value by value."""
    few = {model_id: SCHEMES[model_id] for model_id in (*range(200, 260), 440, *range(1, 40))}
    rows = []
    for one, other in combinations(few, 2):
        if len(few[one]) != len(few[other]):
            continue
        differing = [
            (number, name)
            for number, blocks in enumerate(zip(few[one], few[other], strict=True), 1)
            for name, x, y in zip(retraining.PROPERTIES, *map(astuple, blocks), strict=True)
            if x != y
        ]
        if len(differing) == 1:
            rows.append([one, other, *differing[0]])
    assert len(rows) > 50
    assert retraining.neighbours(few).to_numpy().tolist() == rows


def test_shared_noise_by_hand() -> None:
    """Three networks in a row of neighbours, residuals -1, 0, 1 (times 0.1): (0 + 0) / 2 over 2 / 3; and a far one."""
    chain = {i: (Block(3, width, 1), Block(1, 8, 1)) for i, width in enumerate((8, 16), 1)}
    chain |= {3: (Block(3, 16, 1), Block(3, 8, 1)), 4: (Block(1, 4, 2), Block(5, 4, 2))}
    records = make_runs(np.array([[0.4, 0.5], [0.5, 0.5], [0.6, 0.5], [0.5, 0.5]]))
    found = retraining.shared_noise(records, "a", run_b="b", schemes=chain, n_permutations=10).set_index("property")
    assert found["n_pairs"].to_dict() == {"any": 2, "kernel_size": 1, "width": 1, "stride": 0, "residual": 0}
    np.testing.assert_allclose(found["correlation"], [0, 0, 0, math.nan, math.nan], atol=1e-12)
    assert found["share"].tolist() == [1 / 3, 1 / 6, 1 / 6, 0, 0]
    assert found["n_archs"].tolist() == [4] * 5
    np.testing.assert_allclose(found["expected"], -1 / 3)
    assert found["p_value"].isna().tolist() == [False] * 3 + [True] * 2
    records["accuracy"] = [0.6, 0.6, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5]  # residuals of one, one, minus one, minus one
    found = retraining.shared_noise(records, "a", run_b="b", schemes=chain, n_permutations=10).set_index("property")
    np.testing.assert_allclose(found["correlation"].iloc[:3], [0, -1, 1])


def test_shared_noise_is_found_where_it_is_and_only_there() -> None:
    """Simulation: noise that ten successive networks share is found among neighbours; independent noise is not."""
    independent = make_noisy(0.005, n_runs=2)
    found = retraining.shared_noise(independent, "a", run_b="b", schemes=SCHEMES, n_permutations=200).set_index(
        "property"
    )
    assert found.loc["any", "p_value"] > 0.02
    assert abs(found.loc["any", "correlation"]) < 0.1
    rng = np.random.default_rng(5)
    common = dict(enumerate(np.repeat(rng.normal(0, 0.01, 44), 10), 1))
    shared = independent.assign(accuracy=independent["accuracy"] + independent["ModelId"].map(common).where(
        independent["run"] == "a", 0
    ))  # fmt: skip
    found = retraining.shared_noise(shared, "a", run_b="b", schemes=SCHEMES, n_permutations=200).set_index("property")
    assert found.loc["any", "p_value"] == 1 / 201
    assert found.loc["any", "correlation"] > 0.1


def test_runs_without_differences_have_no_shared_noise() -> None:
    """Equal runs: no residuals, no number."""
    records = make_runs(np.repeat(np.linspace(0.5, 0.7, 20)[:, None], 4, axis=1))
    assert retraining.shared_noise(records, "a", run_b="b", schemes=SCHEMES)["correlation"].isna().all()


FITTED = {"algorithms": ["1-NN", "Random Forest (N=25)"], "seeds": (1, 2), "indices": (5, 0), "n_jobs": 1}


@pytest.fixture(scope="module")
def scored() -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.DataFrame]:
    """Records of three runs, two feature sets (blocks, and the noise of run a itself), and the scores."""
    records = make_noisy(0.01, n_runs=3, n_archs=110)
    wide = retraining.by_run(records)
    sets = {"blocks": features.blocks(list(SCHEMES.values())), "noise": wide[["a"]].iloc[::-1]}
    return records, sets, retraining.score_twice(records, "a", feature_sets=sets, **FITTED)


def test_scoring_twice_against_a_slow_twin(scored) -> None:
    """Cell by cell: predictions of run a, scored against the others after their level has been moved."""
    records, sets, scores = scored
    wide = retraining.by_run(records)
    table = pd.DataFrame({"ModelId": wide.index, "MaxAccuracy": wide["a"].to_numpy()})
    splits = {index: naap440.split(table, index) for index in (5, 0)}
    own, other = [], []
    for index, is_test in splits.items():
        predictions = protocols.predict(
            wide["a"],
            {"blocks": sets["blocks"].loc[wide.index]},
            algorithms=["1-NN"],
            seeds=[1],
            splits={index: is_test},
            n_jobs=1,
        ).set_index("ModelId")["predicted"]
        test, rest = wide.loc[is_test], wide.loc[~is_test]
        own.append(metrics.mae(test["a"], predictions.loc[test.index]))
        for run in "bc":
            moved = test[run] + (rest["a"] - rest[run]).mean()
            other.append(metrics.mae(moved, predictions.loc[test.index]))
    row = scores.iloc[0]
    assert (row["features"], row["algorithm"]) == ("blocks", "1-NN")
    np.testing.assert_allclose([row["mae_own"], row["mae_others"]], [np.mean(own), np.mean(other)])
    assert scores[["features", "algorithm"]].to_numpy().tolist() == [
        [key, name] for key in sets for name in ("1-NN", "Random Forest (N=25)")
    ]
    assert (
        scores[["n_test", "n_pairs", "n_archs", "n_others", "n_splits"]].to_numpy().tolist()
        == [[10, 45, 110, 2, 2]] * 4
    )
    assert scores["n_seeds"].tolist() == [1, 2] * 2
    np.testing.assert_allclose(scores["mae_difference"], scores["mae_others"] - scores["mae_own"])


def test_given_test_networks_are_predicted_by_all_others_of_the_run(scored) -> None:
    """Other runs need hold these networks only; each is moved to the run's level by the mean over them."""
    records, sets, _ = scored
    ids = [3, 20, 41, 60, 77, 99]
    partial = records[(records["run"] == "a") | records["ModelId"].isin(ids)]
    arguments = {"algorithms": ["1-NN"], "n_jobs": 1}
    found = retraining.score_twice(
        partial, "a", feature_sets={"blocks": sets["blocks"]}, test_ids=ids, **arguments
    ).iloc[0]
    wide = retraining.by_run(records)
    is_test = wide.index.isin(ids)
    predicted = protocols.predict(
        wide["a"],
        {"blocks": sets["blocks"].loc[wide.index]},
        algorithms=["1-NN"],
        seeds=[0],
        splits={"given": is_test},
        n_jobs=1,
    ).set_index("ModelId")["predicted"]
    test = wide[is_test]
    own = metrics.violations(test["a"], predicted.loc[test.index])
    others = [metrics.mae(test[run] + (test["a"] - test[run]).mean(), predicted.loc[test.index]) for run in "bc"]
    assert (found["n_test"], found["n_archs"], found["n_splits"], found["violations_own"]) == (6, 110, 1, own)
    np.testing.assert_allclose(found["mae_others"], np.mean(others))
    np.testing.assert_allclose(found["shift"], (test["a"] - test[["b", "c"]].mean(axis=1)).mean())
    with pytest.raises(ValueError, match=r"test_ids holds \[4\], which not all runs have"):
        retraining.score_twice(partial, "a", feature_sets=sets, test_ids=[3, 4], **arguments)


def test_a_predictor_that_knows_the_noise_is_found_out(scored) -> None:
    """Run a's own accuracies as feature: hardly an error against run a, one like a retraining's against the others.

    Features that know nothing err alike on both; the mean of the others is the less noisy reference.
    """
    _, _, scores = scored
    knowing = scores[scores["features"] == "noise"]
    assert (knowing["mae_difference"] > 0.005).all()
    assert (knowing["violations_difference"] > 1).all()
    assert (knowing["mae_mean"] < knowing["mae_others"]).all()
    ignorant = scores[scores["features"] == "blocks"]
    assert (ignorant["mae_difference"].abs() < 0.005).all()


def test_split_by_the_run_favours_it_and_split_by_the_mean_does_not() -> None:
    """Simulation: who knows nothing of the noise seems to, in violations, when run a chooses the test rows itself."""
    found: dict[bool, list[float]] = {True: [], False: []}
    rng = np.random.default_rng(3)
    for _ in range(8):
        truth = np.sort(rng.normal(0.65, 0.05, 440))
        records = make_runs(truth[:, None] + rng.normal(0, 0.005, (440, 2)))
        sets = {"truth": pd.DataFrame({"truth": truth}, index=pd.RangeIndex(1, 441, name="ModelId"))}
        for by_mean, values in found.items():
            scores = retraining.score_twice(
                records,
                "a",
                feature_sets=sets,
                algorithms=["Linear Regression"],
                indices=range(11),
                split_by_mean=by_mean,
                n_jobs=1,
            )
            values.append(scores["violations_difference"].iloc[0])
    assert abs(np.mean(found[True])) < 1
    assert np.mean(found[False]) > 2


def test_level_of_a_run_does_not_matter_to_its_scores(scored) -> None:
    """Law: another level of the other runs shows in `shift` and nowhere else."""
    records, sets, scores = scored
    raised = records.assign(accuracy=records["accuracy"] + 0.125 * (records["run"] != "a"))
    found = retraining.score_twice(raised, "a", feature_sets=sets, **FITTED)
    np.testing.assert_allclose(found["shift"], scores["shift"] - 0.125)
    pd.testing.assert_frame_equal(found.drop(columns="shift"), scores.drop(columns="shift"))


def test_differences_by_hand() -> None:
    """Quantiles over the networks in common, other minus reference, with n."""
    found = figures.differences(SMALL, {"two − one": ("one", "two")})
    assert found[["comparison", "epoch", "n_archs", "mean", "q50"]].to_numpy().tolist() == [
        ["two − one", 1, 2, -0.125, -0.125], ["two − one", 2, 2, -0.125, -0.125], ["two − one", 3, 2, 0.1875, 0.1875],
    ]  # fmt: skip
    np.testing.assert_allclose(found.loc[2, ["q05", "q25", "q75", "q95"]].astype(float), [
        0.13125, 0.15625, 0.21875, 0.24375
    ])  # fmt: skip


def test_curves_by_hand() -> None:
    """Means over networks 3 and 7, which both runs have; a run may have more epochs than another."""
    found = figures.curves(SMALL.drop(index=[11, 14, 17]))
    assert found[["run", "epoch", "n_archs", "mean"]].to_numpy().tolist() == [
        ["one", 1, 2, 0.375], ["one", 2, 2, 0.625], ["one", 3, 2, 0.375], ["two", 1, 2, 0.25], ["two", 2, 2, 0.5],
    ]  # fmt: skip
    np.testing.assert_allclose(found.loc[0, ["q05", "q95"]].astype(float), [0.2625, 0.4875])
    with pytest.raises(ValueError, match="no network is in all of the runs one, two"):
        figures.curves(SMALL[(SMALL["ModelId"] == 5) | (SMALL["ModelId"] == 9)])


def test_every_network_is_a_point_of_two_runs(axes: Axes) -> None:
    """The points are the two columns; the line joins equal accuracies; the corner says n and the text given."""
    targets = retraining.by_run(make_noisy(0.01, n_runs=3, n_archs=12))
    figures.draw_runs(axes, targets, run_a="c", run_b="a", text="tau = 0.90")
    line, points = axes.get_lines()
    assert points.get_xydata().tolist() == targets[["c", "a"]].to_numpy().tolist()
    assert line.get_xdata().tolist() == line.get_ydata().tolist()
    assert [text.get_text() for text in axes.texts] == ["n = 12\ntau = 0.90"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("test accuracy, c", "test accuracy, a")


def test_differences_are_drawn_where_they_are(axes: Axes) -> None:
    """Medians and both lines at their values, comparisons side by side about their epoch, n in the legend."""
    records = make_noisy(0.01, n_runs=3, n_archs=12)
    records = pd.concat([records, records.assign(epoch=4, accuracy=records["accuracy"] ** 2)])
    found = figures.differences(records, {"b − a": ("a", "b"), "c − a": ("a", "c")})
    figures.draw_differences(axes, found)
    lines = axes.get_lines()[1:]
    assert np.concatenate([line.get_ydata() for line in lines]).tolist() == found["q50"].tolist()
    np.testing.assert_allclose(np.concatenate([line.get_xdata() for line in lines]), [-0.2, 0.8, 0.2, 1.2])
    ends = [segment[:, 1].tolist() for part in axes.collections for segment in part.get_segments()]
    expected = [
        found.loc[found["comparison"] == name, list(ends)].to_numpy().tolist()
        for name in ("b − a", "c − a")
        for ends in (("q05", "q95"), ("q25", "q75"))
    ]
    assert ends == [pair for pairs in expected for pair in pairs]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "4"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["b − a (n = 12)", "c − a (n = 12)"]
    assert axes.get_ylabel() == "difference in test accuracy"


def test_curves_are_drawn_as_they_are(axes: Axes) -> None:
    """A line a run through its means, the first run's band, n in the legend, its own mark for each run."""
    found = figures.curves(SMALL)
    figures.draw_curves(axes, found, measure="loss_mean")
    for line, (_, part) in zip(axes.get_lines(), found.groupby("run"), strict=True):
        assert line.get_xydata().tolist() == part[["epoch", "mean"]].to_numpy().tolist()
    (band,) = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    first = found[found["run"] == "one"]
    assert corners == {*zip(first["epoch"], first["q05"], strict=True), *zip(first["epoch"], first["q95"], strict=True)}
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["one, middle 90 % of networks", "one (n = 2)", "two (n = 2)"]
    assert len({line.get_marker() for line in axes.get_lines()}) == 2
    assert axes.get_ylabel() == "mean loss (nats), mean of networks"


def test_floor_is_drawn_behind_the_estimators(axes: Axes) -> None:
    """Both scores of each estimator, the floor as line and range, and how many pairs there are."""
    scores = pd.DataFrame({
        "algorithm": ["x", "y"], "violations_own": [30.0, 20.5], "violations_others": [40.0, 36.0], "n_pairs": 780.0
    })  # fmt: skip
    floor = pd.DataFrame({"violations": [21.0], "violations_low": [12.0], "violations_high": [31.0], "n_pairs": [780]})
    figures.draw_floor(axes, scores, floor=floor)
    line, own, others = axes.get_lines()
    assert (own.get_xdata().tolist(), others.get_xdata().tolist()) == ([30, 20.5], [40, 36])
    assert line.get_xdata() == [21, 21]
    (band,) = axes.patches
    assert (band.get_x(), band.get_width()) == (12, 19)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["x", "y"]
    assert axes.get_xlabel() == "violations of 780 pairs (ties one half)"
    with pytest.raises(ValueError, match=r"must be of the same number of pairs, not \[45, 780.0\]"):
        figures.draw_floor(axes, scores, floor=floor.assign(n_pairs=45))


def test_more_runs_than_can_be_told_apart_are_refused(axes: Axes) -> None:
    """Six marks; a seventh run has none."""
    found = figures.curves(make_runs(np.full((2, 7), 0.5), names="abcdefg"))
    with pytest.raises(ValueError, match="7 are too many for one figure; 6 can be told apart"):
        figures.draw_curves(axes, found)
