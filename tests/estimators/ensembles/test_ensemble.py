"""Deep ensembles: each member as if it were alone; pretraining, fidelities, folds, files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from naaplib.estimators.ensembles.dense import Schedule, forward, initialise, train
from naaplib.estimators.ensembles.ensemble import DeepEnsemble, Design
from naaplib.estimators.ensembles.files import load, save

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(80, 4))
TRUTH = FEATURES @ [1.0, -1.0, 0.5, 0.2] + np.tanh(FEATURES[:, 0] * FEATURES[:, 1])
METRICS = np.stack([np.exp(TRUTH), TRUTH + FEATURES[:, 3], np.ones(80)], axis=1)
ROWS = RNG.permutation(80)[:24]
LEVELS = np.arange(24) % 2
VALUES = np.where(LEVELS == 0, 70 + 5 * TRUTH[ROWS], 0.3 + 0.1 * TRUTH[ROWS] + 0.02 * RNG.normal(size=24))
TWO = Design((16, 16), n_fidelities=2)
QUICK = Schedule(n_epochs=40, batch_size=16)


pytestmark = pytest.mark.usefixtures("one_thread")


def made(seeds: tuple[int, ...] = (3, 1, 4), dtype: torch.dtype = torch.float64, mode: str = "simultaneous"):
    """A pretrained ensemble with two fidelities."""
    return DeepEnsemble(FEATURES, seeds, design=TWO, dtype=dtype).pretrain(METRICS, schedule=QUICK, mode=mode)


@pytest.mark.parametrize("mode", ["simultaneous", "sequential"])
def test_members_equal_ensembles_of_one(mode: str) -> None:
    """In float64 to 1e-9, pretrained and fitted at two fidelities; members differ by their seeds alone."""
    together = made(mode=mode).fit(ROWS, VALUES, fidelities=LEVELS)
    for fidelity in (0, 1):
        found = together.predict(fidelity)
        for i, seed in enumerate((3, 1, 4)):
            alone = made((seed,), mode=mode).fit(ROWS, VALUES, fidelities=LEVELS).predict(fidelity)
            np.testing.assert_allclose(found[i] / found.std(), alone[0] / found.std(), rtol=0, atol=1e-9)
        assert (found.std(axis=0) > 1e-4 * found.std()).all()


@pytest.mark.parametrize("mode", ["simultaneous", "sequential"])
def test_one_member_by_hand(mode: str) -> None:
    """What the docstrings say, written out: draws of stages, logarithm, standardised targets, weights, units."""
    generators = [
        torch.Generator().manual_seed(int(np.random.SeedSequence((7, stage)).generate_state(1, np.uint64)[0]))
        for stage in (0, 1, 2)
    ]
    weights = initialise([4, 16, 16, 2], generators[:1], dtype=torch.float64)
    heads = initialise([16, 2], generators[1:2], dtype=torch.float64)
    targets = np.stack([TRUTH, METRICS[:, 1]], axis=1)  # the first has been logged, the constant is left out
    targets = torch.as_tensor((targets - targets.mean(axis=0)) / targets.std(axis=0))
    x = torch.as_tensor(FEATURES)
    for counted in [[1, 1]] if mode == "simultaneous" else [[1, 0], [0, 1]]:
        importance = torch.tensor(counted, dtype=torch.float64).expand(1, 80, 2)
        train(
            [*weights[:-2], *heads],
            x,
            targets=targets,
            importance=importance,
            schedule=QUICK,
            generators=generators[1:2],
        )
    goal, scales = np.empty(24), []
    for level in (0, 1):
        here = VALUES[level == LEVELS]
        scales.append((here.mean(), here.std()))
        goal[level == LEVELS] = (here - here.mean()) / here.std()
    importance = torch.as_tensor(np.eye(2)[LEVELS] * [2.0, 0.5])[None]
    schedule = Schedule(30, rate=0.01)
    train(
        weights,
        x[ROWS],
        targets=torch.as_tensor(goal)[:, None],
        importance=importance,
        schedule=schedule,
        generators=generators[2:],
    )
    ensemble = made((7,), mode=mode).fit(ROWS, VALUES, fidelities=LEVELS, weights=[2, 0.5], schedule=schedule)
    for level, (centre, spread) in enumerate(scales):
        expected = centre + spread * forward(weights, x)[..., level].numpy()
        np.testing.assert_allclose(ensemble.predict(level), expected, rtol=1e-9)


def test_results_are_the_same_bit_for_bit_and_every_fit_begins_anew() -> None:
    """On one thread, in float32; another fit in between leaves no trace."""
    first = made(dtype=torch.float32).fit(ROWS, VALUES, fidelities=LEVELS)
    before = first.predict()
    again = made(dtype=torch.float32).fit(ROWS[:5], VALUES[:5], fidelities=LEVELS[:5])
    assert not np.array_equal(again.predict(), before)
    assert np.array_equal(again.fit(ROWS, VALUES, fidelities=LEVELS).predict(), before)
    first.cross_predict(ROWS, VALUES, fidelities=LEVELS)
    assert np.array_equal(first.predict(), before)
    np.testing.assert_allclose(first.predict(0, [7, 3]), before[:, [7, 3]], rtol=1e-6)


def test_the_unit_of_values_does_not_matter() -> None:
    """Predictions follow a change of unit, each fidelity its own."""
    ensemble = made()
    before = [ensemble.fit(ROWS, VALUES, fidelities=LEVELS).predict(level) for level in (0, 1)]
    ensemble.fit(ROWS, np.where(LEVELS == 0, 100 * VALUES + 3, VALUES), fidelities=LEVELS)
    np.testing.assert_allclose(ensemble.predict(0), 100 * before[0] + 3, rtol=1e-6)
    np.testing.assert_allclose(ensemble.predict(1), before[1], rtol=1e-6)


def test_metrics_tell_what_values_alone_do_not() -> None:
    """Eight values of a function that the metrics show: pretrained members come closer to the others."""
    rows = ROWS[:8]
    errors = []
    plain = DeepEnsemble(FEATURES, (3, 1, 4), design=TWO, dtype=torch.float64)
    pretrained = DeepEnsemble(FEATURES, (3, 1, 4), design=TWO, dtype=torch.float64).pretrain(
        METRICS, schedule=Schedule(300, 0.01)
    )
    for ensemble in (pretrained, plain):
        predicted = ensemble.fit(rows, TRUTH[rows]).predict().mean(axis=0)
        errors.append(np.mean((predicted - TRUTH) ** 2))
    assert errors[0] < 0.75 * errors[1]


def test_cheap_evaluations_tell_what_few_full_ones_do_not() -> None:
    """Six full values and sixty cheap ones are better than the six."""
    full, cheap = np.arange(6), np.arange(6, 66)
    ensemble = DeepEnsemble(FEATURES, range(3), design=TWO, dtype=torch.float64)
    alone = ensemble.fit(full, TRUTH[full]).predict().mean(axis=0)
    rows, levels = np.r_[full, cheap], np.repeat([0, 1], [6, 60])
    helped = (
        ensemble.fit(rows, np.where(levels == 0, TRUTH[rows], 20 * TRUTH[rows] - 7), fidelities=levels)
        .predict()
        .mean(axis=0)
    )
    errors = [np.mean((found[66:] - TRUTH[66:]) ** 2) for found in (alone, helped)]
    assert errors[1] < 0.75 * errors[0]


def test_metrics_that_are_not_known_are_left_out() -> None:
    """NaN for a row is as if its metric had no weight: of all metrics, as if the row were absent."""
    metrics = METRICS.copy()
    metrics[50:] = np.nan
    part = DeepEnsemble(FEATURES, [0], design=TWO, dtype=torch.float64).pretrain(metrics, schedule=Schedule(20))
    absent = DeepEnsemble(FEATURES, [0], design=TWO, dtype=torch.float64)
    absent.pretrain(METRICS[:50], rows=np.arange(50), schedule=Schedule(20))
    for one, other in zip(part.weights, absent.weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    metrics[:50] = METRICS[:50]
    metrics[50:, 0] = METRICS[50:, 0]
    other = DeepEnsemble(FEATURES, [0], design=TWO, dtype=torch.float64).pretrain(metrics, schedule=Schedule(20))
    assert (other.weights[0] - part.weights[0]).abs().max() > 1e-3


def test_folds_equal_fits_without_their_rows() -> None:
    """Each row by members that never saw it; values recur in each fold, so that their mean and spread stay."""
    pattern = [(2.0, 0), (5.0, 0), (3.0, 1), (11.0, 1)]
    values, levels = (np.repeat(part, 3) for part in zip(*pattern, strict=True))  # 12 rows, fold i % 3
    ensemble = made()
    found = ensemble.cross_predict(ROWS[:12], values, fidelities=levels, n_folds=3)
    for fold in range(3):
        kept = np.arange(12) % 3 != fold
        ensemble.fit(ROWS[:12][kept], values[kept], fidelities=levels[kept])
        for i in np.flatnonzero(~kept):
            expected = ensemble.predict(int(levels[i]), [ROWS[i]])[:, 0]
            np.testing.assert_allclose(found[:, i], expected, rtol=1e-8)


def test_equal_values_are_predicted_as_they_are() -> None:
    """One value has no spread to be standardised by; the members begin near it."""
    found = made().fit([5], [0.7]).predict(0, [5])
    assert found == pytest.approx(0.7, abs=0.05)


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: DeepEnsemble([1.0, 2.0]), r"features must be finite.*shape is \(2,\)"),
    (lambda: DeepEnsemble([[np.nan]]), "features must be finite"),
    (lambda: DeepEnsemble(FEATURES, []), "there are no seeds"),
    (lambda: Design(()), r"widths are \(\)"),
    (lambda: Design((4,), 0), "n_fidelities 0"),
    (lambda: made().pretrain(METRICS), "has been pretrained"),
    (lambda: DeepEnsemble(FEATURES).pretrain(METRICS, mode="other"), "mode is 'other'"),
    (lambda: DeepEnsemble(FEATURES).pretrain(METRICS[:, 0]), "metrics must be numbers or NaN"),
    (lambda: DeepEnsemble(FEATURES).pretrain(METRICS[:, 2:]), "no metric varies"),
    (lambda: DeepEnsemble(FEATURES).pretrain(METRICS[:9]), "rows must be 9"),
    (lambda: DeepEnsemble(FEATURES).pretrain(METRICS, log=[True]), "log has 1 entries; there are 3 metrics"),
    (lambda: DeepEnsemble(FEATURES).pretrain(METRICS, log=[True] * 3), "metric 1 has values that are not positive"),
    (lambda: made().predict(), "has not been fitted"),
    (lambda: made().fit(ROWS, VALUES).predict(1), "fidelity 1 had no values"),
    (lambda: made().fit(ROWS, VALUES).predict(2), "fidelity 2 had no values"),
    (lambda: made().fit([], []), "at least one finite number"),
    (lambda: made().fit([1, 2], [0.5, np.nan]), "at least one finite number"),
    (lambda: made().fit([1, 2], [0.5]), "rows must be 1"),
    (lambda: made().fit([80], [0.5]), "whole numbers from 0 to 79"),
    (lambda: made().fit([0.0], [0.5]), "whole numbers from 0 to 79"),
    (lambda: made().fit([1], [0.5], fidelities=[2]), "fidelities must be one for each value, from 0 to 1"),
    (lambda: made().fit([1], [0.5], weights=[1, 0]), "weights must be 2 positive numbers"),
    (
        lambda: made().cross_predict(ROWS, VALUES, n_folds=1),
        "n_folds is 1; it must be from 2 to the number of rows, 24",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_cannot_be_is_refused(call: Callable[[], object], message: str) -> None:
    """Each with what is allowed."""
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_ensemble_goes_on_as_it_was(tmp_path: Path, dtype: torch.dtype) -> None:
    """Bit for bit, pretrained or not; nothing else is left in the folder."""
    for number, ensemble in enumerate([made(dtype=dtype), DeepEnsemble(FEATURES, (2, 5), design=TWO, dtype=dtype)]):
        path = tmp_path / f"{number}.npz"
        save(ensemble, path, told={"of": [number]})
        other, told = load(path)
        assert told == {"of": [number]}
        assert (other.seeds, other.design, other.is_pretrained) == (ensemble.seeds, TWO, ensemble.is_pretrained)
        found = [one.fit(ROWS, VALUES, fidelities=LEVELS).predict(1) for one in (ensemble, other)]
        assert np.array_equal(*found)
        if not other.is_pretrained:
            found = [one.pretrain(METRICS, schedule=QUICK).weights[2].numpy() for one in (ensemble, other)]
            assert np.array_equal(*found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npz", "1.npz"]


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple:
        return Path("trapped").touch, ()


def _change(header: dict, **changed: object) -> np.ndarray:
    return np.array(json.dumps(header | changed))


SPOILT: dict[str, tuple[Callable[[dict, dict], dict], str]] = {
    "version": (lambda a, h: a | {"header": _change(h, version=2)}, "version 2; this library reads version 1"),
    "no header": (lambda a, h: {k: v for k, v in a.items() if k != "header"}, "no header"),
    "header of another kind": (lambda a, h: a | {"header": np.arange(3)}, "no header"),
    "no design": (lambda a, h: a | {"header": _change(h, design=None)}, "does not describe an ensemble"),
    "dtype": (lambda a, h: a | {"header": _change(h, dtype="float16")}, "does not describe an ensemble"),
    "huge": (
        lambda a, h: a | {"header": _change(h, design={"widths": [10**12], "n_fidelities": 1})},
        r"weights_0 must be finite float32 of shape \(3, 4, 1000000000000\)",
    ),
    "seeds": (lambda a, h: a | {"header": _change(h, seeds=[1, 2])}, r"shape \(2, 4, 16\).*shape \(3, 4, 16\)"),
    "negative seeds": (lambda a, h: a | {"header": _change(h, seeds=[1, 2, -3])}, "does not describe an ensemble"),
    "shape": (lambda a, h: a | {"weights_1": a["weights_1"][:, 0]}, r"weights_1 must.*shape \(3, 16\)"),
    "missing": (lambda a, h: {k: v for k, v in a.items() if k != "weights_3"}, "weights_3 must"),
    "more": (lambda a, h: a | {"weights_9": a["weights_1"]}, "holds 7 arrays of weights; its design has 6"),
    "NaN": (lambda a, h: a | {"weights_1": a["weights_1"] * np.nan}, "weights_1 must be finite"),
    "type": (lambda a, h: a | {"weights_1": a["weights_1"].astype(str)}, "weights_1 must be finite"),
    "features": (lambda a, h: a | {"features": a["features"] * np.inf}, "features must be finite"),
    "flat features": (lambda a, h: a | {"features": a["features"][0]}, "does not describe an ensemble"),
    "pickle": (lambda a, h: a | {"weights_1": np.array([Trap()], dtype=object)}, "pickled objects, which are refused"),
}


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # 0 times infinity, made here
@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_files_are_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error that says what is wrong; nothing in the file has been run."""
    monkeypatch.chdir(tmp_path)
    save(made(dtype=torch.float32), "good.npz")
    with np.load("good.npz") as file:
        arrays = dict(file)
    spoil, message = SPOILT[kind]
    np.savez("spoilt.npz", allow_pickle=True, **spoil(arrays, json.loads(str(arrays["header"]))))
    with pytest.raises(ValueError, match=message):
        load("spoilt.npz")
    assert not Path("trapped").exists()


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    """Cut short, a bare pickle, another format, none."""
    path = tmp_path / "ensemble.npz"
    save(made(dtype=torch.float32), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\x80\x04K\x01.", b"no archive", whole[:300] + whole[400:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is not read: it is damaged, no \.npz file, or holds pickled objects"):
            load(path)
    np.save(tmp_path / "array.npy", np.arange(3))
    with pytest.raises(ValueError, match="is not read"):
        load(tmp_path / "array.npy")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")


def test_torchs_state_is_of_no_effect() -> None:
    """Bit for bit: without gradients, in inference mode, with another default dtype or device."""
    quick = Schedule(n_epochs=2, batch_size=16)

    def everything(ensemble: DeepEnsemble | None = None) -> np.ndarray:
        ensemble = ensemble or DeepEnsemble(FEATURES, (3, 1), design=TWO).pretrain(METRICS, schedule=quick)
        ensemble.fit(ROWS, VALUES, fidelities=LEVELS, schedule=quick)
        crossed = ensemble.cross_predict(ROWS, VALUES, fidelities=LEVELS, schedule=quick, n_folds=2)
        some = ensemble.members([1]).fit(ROWS, VALUES, fidelities=LEVELS, schedule=quick)
        return np.concatenate([ensemble.predict().ravel(), crossed.ravel(), some.predict(1).ravel()])

    expected = everything()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert (everything() == expected).all()
            made_inside = DeepEnsemble(FEATURES, (3, 1), design=TWO).pretrain(METRICS, schedule=quick)
        assert (everything(made_inside) == expected).all()
    for change, default in ((torch.set_default_dtype, torch.float64), (torch.set_default_device, "meta")):
        before = torch.get_default_dtype()
        change(default)
        try:
            found = everything()
        finally:
            torch.set_default_dtype(before)
            torch.set_default_device(None)
        assert (found == expected).all()


def test_training_that_diverges_is_an_error() -> None:
    """In pretraining, in a fit and in folds, with the rate; nothing that is not finite is kept."""
    wild = Schedule(n_epochs=5, rate=1e30)
    ensemble = DeepEnsemble(FEATURES, (3, 1), design=TWO)
    for train_wildly in (
        lambda: ensemble.pretrain(METRICS, schedule=wild),
        lambda: ensemble.fit(ROWS, VALUES, fidelities=LEVELS, schedule=wild),
        lambda: ensemble.cross_predict(ROWS, VALUES, fidelities=LEVELS, schedule=wild, n_folds=2),
    ):
        with pytest.raises(FloatingPointError, match=r"not finite after training: .* rate, which is 1e\+30"):
            train_wildly()
    assert not ensemble.is_pretrained and all(part.isfinite().all() for part in ensemble.weights)
    for changes in ({"rate": -0.1}, {"rate": np.nan}, {"decay": -1.0}, {"decay": np.inf}):
        with pytest.raises(ValueError, match="they must be finite, above 0 and not below 0"):
            Schedule(5, **changes)


def test_features_of_no_scale_are_refused() -> None:
    """Channels and operations as they are written down; standardised ones are taken however long their tail is."""
    raw = np.column_stack([FEATURES, 576 * np.arange(80) ** 2])
    with pytest.raises(ValueError, match=r"features go up to 3\.595e\+06; bring their columns to mean 0"):
        DeepEnsemble(raw)
    single = np.zeros((400, 1))
    single[7] = 1e6
    DeepEnsemble((single - single.mean()) / single.std())
