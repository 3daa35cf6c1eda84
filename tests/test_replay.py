"""Records made by earlier code: a small part of each kind is made again by today's code, and compared.

Counts and choices of plain arithmetic must be equal. What was trained or measured agrees within a stated tolerance,
because processors take sums in another order.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from naaplib.architectures import cells, scheme_networks, schemes, tuning_spaces
from naaplib.compendium import make_records, record_index
from naaplib.estimators.candidates import candidates
from naaplib.estimators.proxies import runs as scoring
from naaplib.evaluation import protocols
from naaplib.search import guided_runs, training_runs
from naaplib.search.training_objective import Setting
from naaplib.sources import MissingData
from naaplib.studies.architecture_tuning import records as tuning
from naaplib.studies.architecture_tuning import tasks as tuning_tasks
from naaplib.studies.architecture_tuning import trainings as tuning_trainings
from naaplib.studies.feature_ablation import records as ablation
from naaplib.studies.feature_ablation import selection
from naaplib.studies.feature_histories import records as histories
from naaplib.studies.neural_predictor import improvement
from naaplib.studies.neural_predictor import records as predictors
from naaplib.studies.neural_predictor import tables as predictor_tables
from naaplib.studies.neural_predictor import tasks as predictor_tasks
from naaplib.studies.search_strategies import guided
from naaplib.studies.search_strategies import tables as strategies
from naaplib.studies.training_free_scores import tasks as training_free
from naaplib.studies.training_recipe import records as recipes
from naaplib.tables import features, naap440
from naaplib.training import cifar10


def record(study: str, name: str) -> pd.DataFrame:
    """A committed record, by its study and name."""
    folder = record_index.RECORDS / study
    index = record_index.read_index(folder)["records"]
    (found,) = [(folder / file, entry) for file, entry in index.items() if entry["name"] == name]
    return record_index.read_table(*found)


def given(read: Callable) -> object:
    """What a function reads, or a skip where this machine lacks it."""
    try:
        return read()
    except MissingData as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def images() -> cifar10.Images:
    """CIFAR-10."""
    return given(cifar10.load)


@pytest.mark.parametrize("study", make_records.with_records())
def test_the_chapters_records_are_there_and_whole(study: str) -> None:
    """Each record that the notebook asks for, by settings and data, with the bytes that its index names."""
    pieces = given(lambda: make_records.planned(study))
    folder = record_index.RECORDS / study
    for piece in pieces:
        needed = [found for other in piece.needs if (found := record_index.find(folder, other))]
        assert record_index.find(folder, piece, needed=needed) is not None, piece.name
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.csv")}
    assert set(record_index.read_index(folder)["records"]) == files


def test_scores(images: cifar10.Images) -> None:
    """One scheme and one cell, first draw: counts are equal, others agree to a thousandth."""
    old = record("training-free-scores", "NAAP-440").query("architecture == '1' and repeat == 1")
    cell = record("training-free-scores", "cells")["architecture"].iloc[0]
    pool = given(lambda: predictors.cell_table(""))["architecture"].unique()
    builds = {"1": partial(scheme_networks.build, schemes.enumerate_schemes()[0])}
    builds_cell = {cell: partial(cells.build, cells.from_string(pool[int(cell)]))}
    names = ["n_params", "macs", "depth", "relu_count", "nas_wot", "snip", "synflow"]
    old_cell = record("training-free-scores", "cells").query("architecture == @cell")
    for before, networks, own in ((old, builds, names), (old_cell, builds_cell, ["n_params", "macs", "synflow"])):
        found = scoring.score_networks(scoring.Plan(networks, own), images).set_index("score")["value"]
        expected = before.set_index("score")["value"].loc[own]
        np.testing.assert_allclose(found.loc[own], expected, rtol=1e-3)
        counts = [name for name in own if name in ("n_params", "macs", "depth", "relu_count")]
        assert found.loc[counts].tolist() == expected.loc[counts].tolist()


def test_kernels(images: cifar10.Images) -> None:
    """Eigenvalues of the first scheme's kernel: the trace is equal, each agrees to a thousandth of the mean."""
    old = record("training-free-scores", "eigenvalues").query("space == 'NAAP-440' and architecture == '1'")
    build = partial(scheme_networks.build, schemes.enumerate_schemes()[0])
    found = training_free.spectra({"NAAP-440": {"1": build}}, images, n_images=len(old), seed=1)
    n_units = old["n_units"].iloc[0]
    assert found["n_units"].iloc[0] == n_units
    np.testing.assert_allclose(found["eigenvalue"].sum(), old["eigenvalue"].sum(), rtol=1e-6)
    np.testing.assert_allclose(found["eigenvalue"], old["eigenvalue"], atol=1e-3 * n_units)


def test_a_search_by_pruning(images: cifar10.Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first removal of TE-NAS's search: both indicators change by what they changed, within two hundredths."""
    old = record("training-free-scores", "TE-NAS/seed 1").iloc[0]

    def first(edges: tuple, indicators: Callable) -> tuple[tuple[str, ...], pd.DataFrame]:
        less = (tuple(name for name in edges[0] if name != old["operation"]), *edges[1:])
        change = (1 - indicators(less) / indicators(edges)).mean(axis=0)
        trace = pd.DataFrame({"condition_change": [change[0]], "regions_change": [change[1]]})
        return cells.SIZE_CELL, trace

    monkeypatch.setattr(training_free.pruning, "prune", first)
    found = training_free.te_nas(images, n_images=16, n_region_images=1000, n_cells=1, n_repeats=2, seed=1).iloc[0]
    assert abs(found["condition_change"] - old["condition_change"]) < 0.02
    assert abs(found["regions_change"] - old["regions_change"]) < 0.02


def test_recorded_trainings(tmp_path: Path) -> None:
    """One network through its first epoch: accuracies of both classifiers within two hundredths."""
    given(cifar10.batches)
    given(lambda: naap440.find("published"))
    work, _ = histories.plan("published", [7], images_file="", n_epochs=1, n_holdout=5000, device="cpu", shown=[7])
    found = histories.evaluate(work, 20220819, windows={}, shown=[], folder=tmp_path)["estimates"]
    old = record("feature-histories", "estimates").query("ModelId == 7 and epoch == 1")
    both = found.merge(old, on=["ModelId", "epoch", "images"], suffixes=("", "_old"))
    assert len(both) == 2
    for name in ("original", "optimised"):
        np.testing.assert_allclose(both[name], both[f"{name}_old"], atol=0.02)


def test_trainings_of_the_studys_kind(images: cifar10.Images, tmp_path: Path) -> None:
    """The first epoch of a narrow VGG-16: its own accuracy within five hundredths."""
    setting = Setting(n_train=8000, n_validation=2000, max_budget=30, width=0.25, rate=0.01)
    found = training_runs.objectives.plain(images, tmp_path, network="vgg16", setting=setting).evaluate((0,), 1)
    old = record("feature-histories", "classics").query("network == 'vgg16' and epoch == 1")["original"].item()
    assert abs(found - old) < 0.05


def test_trainings_of_cells(images: cifar10.Images, tmp_path: Path) -> None:
    """The first epoch of the first cell: its own accuracy within a tenth."""
    old = record("feature-histories", "cells").iloc[0]
    setting = Setting(n_train=1000, n_validation=1000, max_budget=6, batch_size=32, width=0.25)
    objective = training_runs.objectives.cell(images, tmp_path, n_cells=1, setting=setting)
    numbers = tuple(cells.OPERATIONS.index(name) for name in cells.from_string(old["architecture"]))
    assert abs(objective.evaluate(numbers, 1) - old["original"]) < 0.1


def test_trainings_from_the_published_seed() -> None:
    """The first epoch of the first network: mean loss within two hundredths of a nat, accuracy within a tenth."""
    given(cifar10.batches)
    found = recipes.train([1], images_file="", seed=20220819, n_epochs=1, n_jobs=1).iloc[0]
    old = record("training-recipe", recipes.OWN).query("ModelId == 1 and epoch == 1").iloc[0]
    assert abs(found["loss_mean"] - old["loss_mean"]) < 0.02
    assert abs(found["accuracy"] - old["accuracy"]) < 0.1


def test_feature_sets() -> None:
    """One seed on one split: linear regression is equal, boosting within two violations, a forest within five."""
    table = given(lambda: naap440.read(naap440.find("published")))
    sets = {name: ablation.scheme_sets(table)[name] for name in ("All", "LogNumParams & NumStages")}
    sets |= ablation.forest_sets(table) | ablation.epoch_sets(table, lengths=[3])
    names = ["Linear Regression", "Gradient Boosting (N=100)", "Random Forest (N=200)"]
    splits = naap440.splits(table, [naap440.PAPER])
    found = protocols.score(
        protocols.predict(table["MaxAccuracy"], sets, algorithms=names, seeds=[20220905], splits=splits, n_jobs=1)
    )
    old = pd.concat([record("feature-ablation", n) for n in (ablation.SCHEME, ablation.EPOCHS, ablation.SPLITS)])
    both = old.merge(found, on=["split", "features", "algorithm", "seed"], suffixes=("_old", ""))
    assert both.groupby("algorithm").size().loc[names].tolist() == [2, 2, 7]
    allowed = both["algorithm"].map(dict(zip(names, [0, 2, 5], strict=True)))
    assert ((both["violations"] - both["violations_old"]).abs() <= allowed).all()
    assert ((both["mae"] - both["mae_old"]).abs() < 5e-4).all()


def test_choices_of_estimators() -> None:
    """Two candidates on the paper's split, out of fold; the record's choice, fitted again, predicts test rows alike."""
    details, measured, splits = given(lambda: ablation._details("published", "log-name", [naap440.PAPER]))
    every = candidates(seed=0)
    few = {"SVR": {"C 1, gamma 0.01": every["SVR"]["C 1, gamma 0.01"]}}
    few["Quadratic ridge"] = {"alpha 10": every["Quadratic ridge"]["alpha 10"]}
    found = selection.cross_validate(details, measured, splits=splits, candidates=few, n_folds=5, seed=0, n_jobs=1)
    folded = record("feature-ablation", ablation.FOLDED)
    old = folded[folded["split"] == naap440.PAPER]
    np.testing.assert_allclose(found.to_numpy(dtype=float), old[found.columns].to_numpy(dtype=float), atol=1e-4)
    choices = selection.choose_by_split(old)
    again = selection.predict_chosen(details, measured, splits=splits, candidates=every, choices=choices, n_jobs=1)
    before = record("feature-ablation", ablation.PREDICTIONS).query("split == @naap440.PAPER")
    np.testing.assert_allclose(again["predicted"], before["predicted"], atol=0.002)


def test_predictors() -> None:
    """One training set of ProxylessNAS on CIFAR-100: lines are equal, a trained network ranks within a tenth."""
    pieces = given(lambda: {piece.name: piece for piece in make_records.planned("neural-predictor")})
    whole = given(lambda: predictors.datasets([pieces["runs/CIFAR-100"]]))[0]
    system = "GCN, faithful"
    one = replace(whole, order=whole.order[:1], published={system: whole.published[system]}, chosen={})
    predictions, _ = predictor_tasks.run(one, 2, folder=None, n_jobs=1)
    found = predictor_tables.evaluate(one, predictions).set_index(["system", "part"])
    old = record("neural-predictor", "runs/CIFAR-100").query("set == 0").set_index(["system", "part"])
    old = old.loc[found.index]
    is_trained = found.index.get_level_values("system") == system
    np.testing.assert_allclose(found["mse"][~is_trained], old["mse"][~is_trained], atol=1e-3)
    np.testing.assert_allclose(found["kendall_tau"][is_trained], old["kendall_tau"][is_trained], atol=0.1)


def test_parts_of_a_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them on a training set of NAS-Bench-101, and the revised predictor with its choice: within a tenth."""
    pieces = given(lambda: {piece.name: piece for piece in make_records.planned("neural-predictor")})
    whole = given(pieces["validated/NAS-Bench-101"].make.args[0])
    few = dict(list(improvement.VARIANTS.items())[:2])
    monkeypatch.setattr(improvement, "VARIANTS", few)
    found = improvement.validate(whole, 1, n_epochs=200, n_folds=2, folder=None, n_jobs=1).set_index("change")
    old = record("neural-predictor", "validated/NAS-Bench-101").query("set == 0").set_index("change").loc[list(few)]
    np.testing.assert_allclose(found["kendall_tau"], old["kendall_tau"], atol=0.1)
    before = record("neural-predictor", "revised/NAS-Bench-101").query("set == 0 and part == 'test'").iloc[0]
    task = improvement.revised(whole, 1)
    chosen = task.chosen[improvement.REVISED][before["candidate"]]
    one = replace(task, published={improvement.REVISED: chosen}, chosen={})
    predictions, _ = predictor_tasks.run(one, 2, folder=None, n_jobs=1)
    again = predictor_tables.evaluate(one, predictions).query("part == 'test' and system == @improvement.REVISED")
    np.testing.assert_allclose(again["kendall_tau"], before["kendall_tau"], atol=0.1)


def test_guided_searches() -> None:
    """Two runs on NAAP-440: of the first twenty architectures chosen, at least fifteen are the same."""
    named = guided.searches(
        {guided.CELLS: [43], guided.SCHEMES: [22]}, {guided.CELLS: 43, guided.SCHEMES: 22}, n_epochs=[300, 200],
        classify_above={guided.CELLS: 0.91, guided.SCHEMES: 0.7}, device="cpu",
    )  # fmt: skip
    name = "GCN, N = 22"
    space = given(lambda: guided.space(guided.SCHEMES, 300, source="published", files={}, is_encoded=True))
    found = guided_runs.run(space, {name: named[guided.SCHEMES][name]}, n_runs=2, seed=1, folder=None, n_jobs=1)[name][
        :, 22:42
    ]
    old = record("search-strategies", guided.record_name(guided.SCHEMES, name)).to_numpy()[:2, :20]
    assert [len(set(own) & set(before)) >= 15 for own, before in zip(found, old, strict=True)] == [True, True]


def test_searches_that_stop_early() -> None:
    """HyperBand on NAAP-440, first repeat: equal at every step."""
    table = given(lambda: naap440.read(naap440.find("published")))
    estimates = record("feature-histories", "estimates")
    spent = {strategies.NAAP440: (81, 5184), strategies.RECORDED: (27, 270)}
    benchmark = strategies.benchmarks(table, estimates, epochs_spent=spent)[strategies.NAAP440]
    at = strategies.read_at(benchmark)
    found = strategies._search(benchmark, "HyperBand", score="accuracy", seed=0, eta=3, at=at, folder=None)
    old = record("search-strategies", "strategies/NAAP-440").query(
        "strategy == 'HyperBand' and score == 'accuracy' and repeat == 0"
    )
    expected = old.set_index("spent")["found"].reindex(at).ffill()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_measured_networks() -> None:
    """Two of each space, apart from their latency: equal to six digits."""
    spaces = given(lambda: tuning_tasks.spaces("published", {"NAS-Bench-201": ""}))
    for name, side in (("NAAP-440", 32), ("MobileOne", 32), ("hybrid", 64)):
        old = record("architecture-tuning", f"metrics/{name}").set_index("position")
        encodings, build = spaces[name]
        found = tuning.measure(encodings, build, n_networks=2, shape=(2, 3, side, side))
        columns = ["n_params", "macs", "memory", "relu_units"]
        pd.testing.assert_frame_equal(found[columns], old.loc[found.index, columns], rtol=1e-4)


def test_tuning_and_other_searches() -> None:
    """Random search of NAAP-440 finds the best after as many evaluations, with each of ten seeds."""
    metrics = tuning.by_position(record("architecture-tuning", "metrics/NAAP-440"), ["n_params"])
    benchmark = given(lambda: tuning_tasks.benchmark("NAAP-440", "published", files={}, metrics=metrics))
    found = tuning.run(benchmark, {}, others=["random search"], n_seeds=10, at=[5, 150], n_train=43)
    old = record("architecture-tuning", "searches/NAAP-440").query("search == 'random search' and seed < 10")
    assert found["first_best"].tolist() == old["first_best"].tolist()


def test_a_search_that_trains() -> None:
    """A low-fidelity evaluation: accuracy within a tenth of what the record has, or as undefined."""
    given(cifar10.batches)
    settings = {"n_train": 3000, "n_validation": 2000, "batch_size": 32, "rate": 0.03, "seed": 0}
    old = (
        record("architecture-tuning", "search that trains").query("fidelity == 'cheap'").dropna(subset="value").iloc[0]
    )
    encoding = tuning_spaces.mobileone_encodings()[old["position"]]
    found = tuning_trainings.evaluator("", settings, n_epochs=2, device="cpu")(encoding)
    assert abs(found - old["value"]) < 0.1


def test_regressors() -> None:
    """Two on the paper's split without epochs: violations within two, errors to a ten-thousandth."""
    table = given(lambda: naap440.read(naap440.find("published")))
    sets = {0: features.published(table, features.TWO_SCHEME_COLUMNS, n_epochs=0)}
    names = ["Linear Regression", "Gradient Boosting (N=100)"]
    splits = naap440.splits(table, [naap440.PAPER])
    found = protocols.score(
        protocols.predict(table["MaxAccuracy"], sets, algorithms=names, seeds=[20220905], splits=splits, n_jobs=1)
    )
    old = record("baselines", "runs").query("split == 5 and epochs == 0 and seed == 20220905").set_index("algorithm")
    for row in found.itertuples():
        assert abs(row.mae - old.loc[row.algorithm, "mae"]) < 1.5e-4
        assert abs(row.violations - old.loc[row.algorithm, "violations"]) <= 2
