"""A population of one's own space: the records of the trainer, whatever form schemes and images come in."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made import SHORT, make_images

import naaplib
from naaplib.architectures.schemes import BlockOptions, Space, enumerate_schemes, identifier, to_json
from naaplib.parallel import one_thread
from naaplib.sources import MissingData
from naaplib.training import cifar10, compiled, own
from naaplib.training.checkpoints import newest
from naaplib.training.own import best_trainer, train_population
from naaplib.training.population import train_population as train_at_once

SPACE = Space((BlockOptions((3,), (4, 6), (2,)), BlockOptions((1, 3), (6, 8), (1, 2))), min_blocks=2, max_strided=2)
SETTINGS = {"recipe": SHORT, "trainer": "torch", "device": "cpu", "n_jobs": 1}


def test_the_table_has_the_records_of_the_trainer() -> None:
    """Bit for bit those of four networks at a time, on one thread; networks, seeds and epochs in order."""
    table = train_population(SPACE, make_images(), n_epochs=2, n_holdout=8, seed=(1, 2), **SETTINGS)
    schemes = dict(enumerate(enumerate_schemes(SPACE), start=1))
    assert list(table)[:4] == ["ModelId", "scheme", "seed", "epoch"]
    assert table["scheme"].tolist() == [identifier(schemes[name]) for name in table["ModelId"]]
    for seed, part in table.groupby("seed"):
        with one_thread():
            parts = [
                train_at_once(
                    dict(some), make_images(), recipe=SHORT, seed=seed, n_epochs=2, n_holdout=8, progress=False
                )
                for some in [list(schemes.items())[i : i + 4] for i in range(0, 16, 4)]
            ]
        expected = pd.concat(parts, ignore_index=True)
        pd.testing.assert_frame_equal(part.drop(columns=["scheme", "seed"]).reset_index(drop=True), expected)
    assert len(table) == 2 * 16 * 2


def test_schemes_and_images_may_come_in_any_form(tmp_path: Path) -> None:
    """A space, a list, a mapping or a JSON file; images or a file of them."""
    listed, images = enumerate_schemes(SPACE), make_images()
    (tmp_path / "spaces.json").write_text(to_json(listed))
    np.savez(tmp_path / "images.npz", **{one.name: getattr(images, one.name).numpy() for one in fields(images)})
    given = [SPACE, listed, dict(enumerate(listed, 1)), tmp_path / "spaces.json", str(tmp_path / "spaces.json")]
    first, *others = [train_population(one, images, n_epochs=1, **SETTINGS) for one in given]
    others.append(train_population(SPACE, tmp_path / "images.npz", n_epochs=1, **SETTINGS))
    for other in others:
        pd.testing.assert_frame_equal(other, first)


def test_a_run_goes_on_from_its_folder(tmp_path: Path) -> None:
    """Three epochs, then four: as four at once, and only the fourth is trained."""
    images, folder = make_images(), tmp_path / "run"
    train_population(SPACE, images, n_epochs=3, folder=folder, **SETTINGS)
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("epoch-0003.pt")}
    assert len(kept) == 4
    table = train_population(SPACE, images, n_epochs=4, folder=folder, **SETTINGS)
    pd.testing.assert_frame_equal(table, train_population(SPACE, images, n_epochs=4, **SETTINGS))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("epoch-0003.pt")} == kept
    assert all(newest(path.parent).name == "epoch-0004.pt" for path in kept)
    with pytest.raises(ValueError, match="belongs to another run: images"):
        train_population(SPACE, make_images(seed=1), n_epochs=4, folder=folder, **SETTINGS)


def test_the_best_trainer_is_compiled_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU in fp32 with a compiler; torch's on a GPU, in another precision, or without a compiler."""

    def has_compiler(_: object) -> None:
        """As if there was one."""

    def has_none(_: object) -> None:
        raise compiled.NoCompiler("no compiler")

    monkeypatch.setattr(own.compiled, "libraries", has_compiler)
    assert [best_trainer("cpu"), best_trainer("cuda"), best_trainer("cpu", "bf16")] == ["compiled", "torch", "torch"]
    monkeypatch.setattr(own.compiled, "libraries", has_none)
    assert best_trainer("cpu") == "torch"


def test_what_cannot_be_trained_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No schemes, a file of another form, and CIFAR-10 where it is not there, before anything is trained."""
    with pytest.raises(ValueError, match="there are no schemes to train"):
        train_population([], make_images())
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="schemes must be a JSON list of lists of blocks"):
        train_population(tmp_path / "a.json", make_images())
    monkeypatch.setattr(cifar10, "folders", lambda: [tmp_path])
    with pytest.raises(MissingData):
        train_population(SPACE)


def test_the_front_door_has_it() -> None:
    """Under its own name."""
    assert naaplib.train_population is train_population
