from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made import SCHEME, SHORT, make_images

from naaplib.estimators.histories.ensemble import estimate, window
from naaplib.estimators.histories.linear import Schedule
from naaplib.parallel import one_thread
from naaplib.studies.feature_histories import records as history_study
from naaplib.studies.feature_histories.records import HELD_OUT, TABLES, TEST, correct, evaluate, record
from naaplib.studies.feature_histories.tables import breakdown, flips
from naaplib.training.cifar10 import load_npz
from naaplib.training.distributed import Work
from naaplib.training.feature_history import FeatureHistory
from naaplib.training.population import hold_out, train_population

WINDOWS = {"K = 2": (2, None), "K = 10": (10, None), "ends of cycles": (2, 3)}
SCHEDULE = Schedule(batch_size=16)
MEASURES = ["loss_mean", "loss_median", "accuracy", "holdout_accuracy"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Three tiny networks, named out of order, in two units."""
    path = tmp_path_factory.mktemp("images") / "tiny.npz"
    np.savez(path, **{name: tensor.numpy() for name, tensor in vars(make_images()).items()})
    schemes = {7: SCHEME, 3: SCHEME[:2], 5: SCHEME[:1]}
    return Work(schemes, n_epochs=4, recipe=SHORT, images_file=str(path), device="cpu", n_holdout=8, size=2)


@pytest.fixture(scope="module")
def recorded(work: Work, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The folder, and what `record` returned."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, record(work, 1, folder=folder, schedule=SCHEDULE)


def test_networks_train_as_they_would_alone(work: Work, recorded) -> None:
    """Keeping features changes no record; both times are there."""
    records = recorded[1]
    images = load_npz(work.images_file)
    for names in ((7, 3), (5,)):
        schemes = {name: work.schemes[name] for name in names}
        with one_thread():
            expected = train_population(schemes, images, recipe=SHORT, seed=1, n_epochs=4, n_holdout=8)
        found = records[records["ModelId"].isin(names)].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[["ModelId", "epoch", *MEASURES]], expected, check_exact=True)
    assert (records[list(history_study.SECONDS)] > 0).all(axis=None)


@pytest.mark.parametrize("kind", ["forward", "frozen"])
def test_what_is_kept_gives_the_estimates_of_a_history_in_memory(work: Work, tmp_path: Path, kind: str) -> None:
    """Up to an image whose two highest classes 16 bits cannot tell apart."""
    found = evaluate(work, 1, windows=WINDOWS, shown=[], folder=tmp_path, kind=kind, schedule=SCHEDULE)["estimates"]
    assert list(found) == ["ModelId", "epoch", "images", "original", "optimised", *WINDOWS]
    images = load_npz(work.images_file)
    parts = hold_out(images, 8)
    held = {name: (part.test_images, part.test_labels) for name, part in zip((TEST, HELD_OUT), parts, strict=True)}
    history = FeatureHistory(held, features=kind)
    schemes = {name: work.schemes[name] for name in (7, 3)}
    with one_thread():
        train_population(
            schemes,
            images,
            recipe=SHORT,
            seed=1,
            n_epochs=4,
            n_holdout=8,
            keep_features=kind == "forward",
            after_epoch=history.take,
        )
    for name, (k, cycle) in WINDOWS.items():
        with one_thread():
            expected = estimate(history, window(4, k, cycle=cycle), schedule=SCHEDULE)
        for images_name, n_images in ((TEST, 30), (HELD_OUT, 8)):
            rows = found[(found["epoch"] == 4) & (found["images"] == images_name)].set_index("ModelId").loc[[7, 3]]
            other = expected[expected["images"] == images_name]
            np.testing.assert_allclose(rows[name], other["ensemble"], atol=1.01 / n_images)
            if cycle is None:
                np.testing.assert_allclose(rows["optimised"], other["optimised"], atol=1.01 / n_images)


def test_the_original_is_the_networks_own_accuracy(work: Work, recorded) -> None:
    """As its training recorded it, on both sets of images, up to an image on the border."""
    folder, records = recorded
    table = evaluate(work, 1, windows={}, shown=[], folder=folder, schedule=SCHEDULE)["estimates"]
    found = table.pivot_table(index=["ModelId", "epoch"], columns="images", values="original")
    own = records.set_index(["ModelId", "epoch"]).loc[found.index]
    np.testing.assert_allclose(found[TEST], own["accuracy"], atol=1.01 / 30)
    np.testing.assert_allclose(found[HELD_OUT], own["holdout_accuracy"], atol=1.01 / 8)


def test_windows_of_one_epoch_are_the_optimised(work: Work, recorded) -> None:
    """After every epoch, image by image; and windows that reach back further than there are epochs take all."""
    windows = {"one": (1, None), "ten": (10, None), "all": (4, None)}
    for names, _, images, found in correct(work, 1, folder=recorded[0], windows=windows):
        assert (found["one"] == found["optimised"]).all()
        assert (found["ten"] == found["all"]).all()
        assert found["one"].shape == (len(names), 30 if images == TEST else 8)


def test_a_run_that_was_stopped_goes_on(work: Work, recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after two epochs, and between a file and its checkpoint: everything comes out the same."""
    folder, straight = recorded
    write = history_study._write

    def stop(path: Path, arrays) -> None:
        write(path, arrays)
        if path.name == "said-0003.npz":
            raise KeyboardInterrupt

    record(replace(work, n_epochs=2), 1, folder=tmp_path, schedule=SCHEDULE)
    with monkeypatch.context() as patch:
        patch.setattr(history_study, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            record(work, 1, folder=tmp_path, schedule=SCHEDULE)
    found = record(work, 1, folder=tmp_path, schedule=SCHEDULE)
    pd.testing.assert_frame_equal(found[MEASURES], straight[MEASURES], check_exact=True)
    one, other = (
        evaluate(work, 1, windows=WINDOWS, shown=[3], folder=path, schedule=SCHEDULE) for path in (tmp_path, folder)
    )
    for name in TABLES[:3]:
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True)


def test_without_held_out_images_there_are_test_images_only(work: Work, tmp_path: Path) -> None:
    """And nothing else is needed."""
    few = replace(work, n_holdout=0, n_epochs=1)
    found = evaluate(few, 1, windows=WINDOWS, shown=[], folder=tmp_path, schedule=SCHEDULE)
    assert set(found["estimates"]["images"]) == {TEST}
    assert (found["seconds"]["part"] == list(history_study.SECONDS)).all()


def test_images_are_followed_and_compared_with_the_network_in_the_end() -> None:
    """By hand: three images, two epochs."""
    epochs = [
        {"original": np.array([True, False, False]), "optimised": np.array([True, True, False])},
        {"original": np.array([True, False, True]), "optimised": np.array([True, True, True])},
    ]
    told = flips({7: epochs}, 2)
    assert told.to_numpy().tolist() == [
        [7, "original", 0, "11"], [7, "original", 1, "00"], [7, "optimised", 0, "11"], [7, "optimised", 1, "11"],
    ]  # fmt: skip
    found = breakdown({7: epochs}).set_index(["epoch", "classifier"]).drop(columns="ModelId")
    np.testing.assert_allclose(3 * found.loc[(1, "original")], [1, 1, 0, 1])
    np.testing.assert_allclose(3 * found.loc[(1, "optimised")], [1, 0, 1, 1])
    np.testing.assert_allclose(3 * found.loc[(2, "original")], [2, 1, 0, 0])
    np.testing.assert_allclose(3 * found.loc[(2, "optimised")], [2, 0, 1, 0])
