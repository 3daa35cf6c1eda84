"""What a GPU must show before it trains, simulated on a CPU with small images; and the whole of `make gpu`."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from made import SCHEME, SHORT, TINY, make_images

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.sources import ROOT
from naaplib.training import gpu_checks, job_records, single
from naaplib.training.gpu_checks import check_losses, choose, reference_losses, sample, seconds_per_epoch, time_way
from naaplib.training.planned import Way
from naaplib.training.recipe import SEED, batch_orders

SCHEMES = [SCHEME, SCHEME[:2], SCHEME[:1]]
IMAGES = make_images(64, 16)
FAST = {"device": "cpu", "n_steps": 3, "recipe": SHORT}


def test_sample_is_spread_from_end_to_end() -> None:
    """Eight of 440, the first and the last among them; all of fewer."""
    assert sample(list(range(440))) == [0, 63, 125, 188, 251, 314, 376, 439]
    assert sample(SCHEMES) == SCHEMES


def test_reference_is_the_one_network_loop_in_64_bits() -> None:
    """Slow twin: torch's own optimiser on doubles; the loop in 32 bits lies within rounding of it."""
    found = reference_losses(SCHEMES, IMAGES, n_steps=3, recipe=SHORT)
    order = next(batch_orders(SEED, 1, n_images=48))
    for place, scheme in enumerate(SCHEMES):
        network = build_seeded(scheme, SEED)
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
        losses = single.train_epoch(
            network, optimizer, images=IMAGES.first(48, 1), order=order, batch_size=SHORT.batch_size
        )
        np.testing.assert_allclose(found[:, place], losses, rtol=0, atol=2e-6)


def test_both_stacked_ways_pass_and_16_bits_do_not() -> None:
    """The allowed difference never shrinks; rounding to 16 bits exceeds it at the first step already."""
    losses = check_losses([Way("torch"), Way("grouped"), Way("torch", "bf16")], SCHEMES, images=IMAGES, **FAST)
    assert len(losses) == 9
    within = losses["difference"] <= losses["allowed"]
    assert losses[~within].groupby(["trainer", "precision"]).size().index.tolist() == [("torch", "bf16")]
    assert not within.iloc[6]
    assert losses.groupby(["trainer", "precision"])["allowed"].apply(lambda v: v.is_monotonic_increasing).all()


def test_a_wrong_trainer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose momentum is 0.89 has the right first losses, and is refused by the third step."""
    real = gpu_checks.make_trainer

    def wrong(name: str, networks, *, recipe, **others):
        return real(name, networks, recipe=replace(recipe, momentum=0.89) if name == "grouped" else recipe, **others)

    monkeypatch.setattr(gpu_checks, "make_trainer", wrong)
    losses = check_losses([Way("torch"), Way("grouped")], SCHEMES, images=IMAGES, **FAST)
    mine = losses[losses["trainer"] == "grouped"]
    assert mine["difference"].iloc[0] <= mine["allowed"].iloc[0]
    assert mine["difference"].iloc[2] > mine["allowed"].iloc[2]
    times = pd.DataFrame([time_way(way, SCHEMES, images=IMAGES, **FAST) for way in (Way("torch"), Way("grouped"))])
    assert choose(losses, times) == Way("torch")
    with pytest.raises(
        gpu_checks.WrongLosses, match=r"grouped in fp32: at step [23] losses differ from those in 64 bit"
    ):
        choose(losses, times.iloc[1:])


def test_time_of_a_way_and_its_two_runs() -> None:
    """Positive times, equal bits, the counted memory, and the machine; networks are trained as in a run."""
    row = time_way(Way("grouped"), SCHEMES, images=IMAGES, **FAST)
    assert (row["trainer"], row["precision"], row["n_archs"]) == ("grouped", "fp32", 3)
    assert row["two_runs_equal"]
    assert row["step_seconds"] > 0
    assert row["evaluation_seconds"] > 0
    assert row["counted_gigabytes"] > 0
    assert row["torch"] == torch.__version__


def test_runs_that_differ_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one unit in the last place of one loss."""
    real, calls = gpu_checks._make, []

    def make(*given, **named):
        trainer, order = real(*given, **named)
        calls.append(trainer)
        if len(calls) == 2:
            trained = trainer.train_epoch

            def train_epoch(*given):
                losses = trained(*given)
                losses[2, 1] = np.nextafter(losses[2, 1], 9)
                return losses

            trainer.train_epoch = train_epoch
        return trainer, order

    monkeypatch.setattr(gpu_checks, "_make", make)
    assert not time_way(Way("torch"), SCHEMES, images=IMAGES, **FAST)["two_runs_equal"]


def test_memory_that_runs_out_excludes_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a row, without times, and is not chosen."""

    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    losses = check_losses([Way("torch")], SCHEMES, images=IMAGES, **FAST)
    monkeypatch.setattr(gpu_checks, "_time", fail)
    row = time_way(Way("torch"), SCHEMES, images=IMAGES, **FAST)
    assert math.isnan(row["step_seconds"])
    with pytest.raises(gpu_checks.WrongLosses, match="torch in fp32: two runs differ, or memory ran out"):
        choose(losses, pd.DataFrame([row]))


def made_tables(rows: list[tuple[str, str, float, float, bool]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Losses of one step and times: trainer, precision, difference (1e-6 is allowed), seconds, two runs equal."""
    losses = [{"trainer": t, "precision": p, "step": 1, "difference": d, "allowed": 1e-6} for t, p, d, _, _ in rows]
    times = [
        {"trainer": t, "precision": p, "n_archs": 440, "step_seconds": s, "two_runs_equal": e} for t, p, _, s, e in rows
    ]
    return pd.DataFrame(losses), pd.DataFrame(times)


def test_the_rule_by_hand() -> None:
    """The fastest of those that pass; a faster one with other losses or other bits is left out."""
    tables = made_tables([
        ("torch", "fp32", 1e-7, 0.060, True), ("torch", "tf32", 1e-4, 0.040, True),
        ("grouped", "fp32", 5e-7, 0.055, True), ("grouped", "tf32", 9e-7, 0.030, False),
    ])  # fmt: skip
    assert choose(*tables) == Way("grouped", "fp32")


def test_the_rule_counts_networks() -> None:
    """A shorter step of fewer networks is not the faster one."""
    losses, times = made_tables([("torch", "fp32", 1e-7, 0.030, True), ("fused", "fp32", 5e-7, 0.040, True)])
    times["n_archs"] = [147, 440]
    assert choose(losses, times) == Way("fused", "fp32")


def test_forecast_by_hand() -> None:
    """196 steps and 10,000 images, shared by 440 networks."""
    row = pd.Series({"step_seconds": 0.05, "evaluation_seconds": 0.08, "n_archs": 440})
    assert seconds_per_epoch(row, 50_000, n_test=10_000) == pytest.approx((196 * 0.05 + 10 * 0.08) / 440)


@pytest.fixture
def on_gpu() -> ModuleType:
    """The script behind `make gpu`."""
    spec = importlib.util.spec_from_file_location("on_gpu", ROOT / "benchmarks" / "on_gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_make_gpu_from_checks_to_records(on_gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """On a CPU, tiny: one zip with all jobs, their checks and provenance, that is taken in; again, nothing is done.

    Networks of a run are trained together, and recorded job by job.
    """
    out, images = tmp_path / "out", TINY.images_file
    arguments = ["--out", str(out), "--devices", "cpu", "--images-file", images, "--n-archs", "7", "--n-epochs", "1"]
    arguments += ["--n-steps", "1", "--way", "torch-fp32"]
    assert on_gpu.main(arguments) == 0
    plan = on_gpu.make_plan(on_gpu.parse(arguments))
    assert [len(job.model_ids) for job in plan.jobs()] == [3, 4, 1]
    assert job_records.take_in(out / "records.zip", tmp_path / "mine", plan=plan) == (3, 0)
    _, index = job_records.read(tmp_path / "mine", plan)
    assert index[["trainer", "precision", "size"]].to_numpy().tolist() == [
        ["torch", "fp32", size] for size in (7, 7, 1)
    ]
    assert (index["commit"].str.len() > 6).all()
    assert json.loads((tmp_path / "mine" / f"{plan.jobs()[0].stem}.json").read_text())["gpu"] == ""
    assert sorted(path.name for path in out.glob("*.csv")) == ["losses.csv", "steps.csv"]
    assert (out / "records.zip").stat().st_size < 16 << 20
    capsys.readouterr()
    assert on_gpu.main(arguments) == 0
    assert "finished" not in capsys.readouterr().out


def test_make_gpu_without_time_leaves_a_zip(on_gpu: ModuleType, tmp_path: Path) -> None:
    """Nothing is begun that does not end in time; the checks are in the zip, and no job."""
    arguments = ["--out", str(tmp_path), "--devices", "cpu", "--images-file", TINY.images_file, "--n-archs", "2"]
    assert on_gpu.main([*arguments, "--n-epochs", "1", "--n-steps", "1", "--way", "torch-fp32", "--seconds", "1"]) == 0
    plan = on_gpu.make_plan(on_gpu.parse([*arguments, "--n-epochs", "1"]))
    assert job_records.take_in(tmp_path / "records.zip", tmp_path / "mine", plan=plan) == (0, 0)


def test_make_gpu_ends_where_a_check_fails(
    on_gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is trained, with the reason, and status 1."""
    monkeypatch.setattr(gpu_checks, "FACTOR", 1e-9)
    arguments = ["--out", str(tmp_path), "--devices", "cpu", "--images-file", TINY.images_file, "--n-archs", "2"]
    assert on_gpu.main([*arguments, "--n-epochs", "1", "--n-steps", "1", "--way", "torch-fp32"]) == 1
    assert "no way to train passes the checks, so nothing is trained: torch in fp32" in capsys.readouterr().err
    assert not (tmp_path / "records").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_make_gpu_without_a_gpu(on_gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the command for a CPU, and leaves nothing."""
    assert on_gpu.main(["--out", str(tmp_path / "out")]) == 1
    assert "make records-accuracy-table trains on the CPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
