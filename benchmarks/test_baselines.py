"""The study's loop against `protocols.predict` for the 96 cells of Table 3: `python -m pytest benchmarks`.

Takes about five minutes on two idle cores. The methods take turns, so that what else the machine does hits all alike.
They predict the same to the last bit; the last test says by how much ours is faster and writes ``baselines.csv``.
"""

import csv
import statistics
from pathlib import Path

import numpy as np
import pytest

from naaplib import sources
from naaplib.compendium import provenance
from naaplib.estimators import regressors
from naaplib.evaluation import protocols
from naaplib.tables import features, naap440

SEEDS = range(20220905, 20220910)
ROUNDS = (1, 2, 3)
METHODS = {"study's loop": 1, "protocol": 1, "protocol, parallel": 2}  # name -> processes


def study_loop(measured, feature_sets, algorithms, seeds, is_test):
    """The study's way: one cell after the other, a scaler and an estimator of its own for every cell and seed.

    It seeds numpy's global generator before each fit, and repeats also what draws no random numbers.
    """
    order = np.argsort(measured, kind="stable")
    y, test = measured[order], is_test[order]
    predicted = {}
    for key, frame in feature_sets.items():
        for algorithm in algorithms:
            for seed in seeds:
                X = frame.to_numpy()[order]
                scaler, estimator = regressors.make(algorithm)
                X = scaler.fit(X[~test]).transform(X)
                np.random.seed(seed)  # noqa: NPY002 - the study's way
                predicted[key, algorithm, seed] = estimator.fit(X[~test], y[~test]).predict(X[test])
    return predicted


@pytest.fixture(scope="module")
def study():
    """Table 3's input: accuracies, feature sets by number of epochs, algorithms, seeds, test rows."""
    try:
        table = naap440.read(naap440.find("published"))
    except sources.MissingData as missing:
        pytest.skip(str(missing))
    columns = {0: features.TWO_SCHEME_COLUMNS} | dict.fromkeys((3, 6, 9), features.SIX_SCHEME_COLUMNS)
    feature_sets = {
        n_epochs: features.published(table, names, n_epochs=n_epochs) for n_epochs, names in columns.items()
    }
    return table["MaxAccuracy"].to_numpy(), feature_sets, regressors.ALGORITHMS, SEEDS, table["IsTest"].to_numpy() == 1


@pytest.fixture(scope="module")
def runs():
    """By method: what it returned, and the seconds of each round; for the comparison at the end."""
    return {name: ([], []) for name in METHODS}


@pytest.mark.parametrize("name", METHODS)  # varies fastest
@pytest.mark.parametrize("round_", ROUNDS)
@pytest.mark.benchmark(group="Table 3, 96 cells")
def test_time(benchmark, study, runs, name, round_):
    """One round of one method."""
    *given, is_test = study
    if name == "study's loop":
        returned = benchmark.pedantic(study_loop, study)
    else:
        measured, feature_sets, algorithms, seeds = given
        named = {"algorithms": algorithms, "seeds": seeds, "splits": {"paper": is_test}, "n_jobs": METHODS[name]}
        returned = benchmark.pedantic(protocols.predict, [measured, feature_sets], named)
    runs[name][0].append(returned)
    runs[name][1].append(benchmark.stats.stats.min)


def test_same_predictions_in_less_than_half_of_the_time(study, runs):
    """Every prediction equals the study's; in parallel the median round takes less than half of its median."""
    if any(len(seconds) < len(ROUNDS) for _, seconds in runs.values()):
        pytest.skip("needs the timings of the tests above, of this same run")
    expected = runs["study's loop"][0][0]
    assert len(expected) == 96 * len(SEEDS)
    for name in list(METHODS)[1:]:
        cells = runs[name][0][0].groupby(["features", "algorithm", "seed"])["predicted"]
        ours = {key: values.tolist() for key, values in cells}
        for (n_epochs, algorithm, seed), values in expected.items():
            fitted = seed if regressors.draws(algorithm) else SEEDS[0]
            assert ours[n_epochs, algorithm, fitted] == values.tolist()
    ratios = write({name: seconds for name, (_, seconds) in runs.items()})
    assert ratios["protocol, parallel"] < 0.5


def write(seconds):
    """Write every round's seconds with device and n; return the ratio of each method's median to the study's."""
    machine = [len(SEEDS), *(provenance.describe_run(0)[key] for key in ("device", "n_cores"))]
    reference = statistics.median(seconds["study's loop"])
    ratios = {name: statistics.median(values) / reference for name, values in seconds.items()}
    rounds = [f"seconds_{i}" for i in ROUNDS]
    columns = ["method", "n_processes", *rounds, "ratio_of_medians", "n_cells", "n_seeds", "device", "n_cores"]
    with Path(__file__).with_name("baselines.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for name, values in seconds.items():
            writer.writerow(
                [name, METHODS[name], *(f"{value:.1f}" for value in values), f"{ratios[name]:.2f}", 96, *machine]
            )
    return ratios
