"""What fits on a GPU, and what is said of one: counted from shapes, or on a GPU that is made up."""

import os
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from made import SCHEME, SHORT, make_images

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.training import devices, gpus
from naaplib.training.devices import describe_device, find_gpu
from naaplib.training.gpus import Memory, fitting_size, in_halves, step_bytes
from naaplib.training.population import describe
from naaplib.training.recipe import PUBLISHED
from naaplib.training.trainer import Trainer

SCHEMES = enumerate_schemes()[:440:55]


def test_memory_by_hand() -> None:
    """Views, changes in place and what was there before cost nothing; what is freed counts in the peak only."""
    outside = torch.zeros(500)
    with Memory() as memory:
        first = torch.zeros(1000)
        outside.add_(1).view(5, 100).detach()
        assert memory.live == memory.peak == 4000
        first[:10].add_(1)
        assert memory.live == memory.peak == 4000
        second = torch.cat([first, first])
        assert memory.live == memory.peak == 12_000
        del first
        assert (memory.live, memory.peak) == (8000, 12_000)
        second = second.double()
        assert (memory.live, memory.peak) == (16_000, 24_000)


@pytest.mark.parametrize(("precision", "keep_features"), [("fp32", False), ("fp64", True)])
def test_bytes_are_those_of_a_run_with_numbers(precision: str, keep_features: bool) -> None:
    """What a trainer on the CPU makes that stacks and makes columns again as one on a GPU does: to one per cent."""
    images = make_images(64, 16)
    networks = [build_seeded(scheme, 0) for scheme in SCHEMES]
    with Memory() as memory:
        copied = type(images)(*(value.clone() for value in vars(images).values()))
        trainer = Trainer(
            networks, [copied], recipe=SHORT, device="cpu", precision=precision, keep_features=keep_features, stack=True
        )
        for layer in trainer.network.layers:
            layer.recompute = True
        trainer._step(16)
        step, memory.peak = memory.peak, memory.live
        trainer.evaluate(copied.test_images, copied.test_labels)
        found = step + memory.peak - memory.live
    counted = step_bytes(SCHEMES, SHORT, n_images=64, side=8, precision=precision, keep_features=keep_features)
    assert counted == pytest.approx(found, rel=0.01)
    assert counted > 3 * sum(weight.numel() for network in networks for weight in network.parameters()) * 4


def test_bytes_by_hand() -> None:
    """One network: what a step must hold is there, and what it holds at a time beside that is not twice as much.

    Weights, gradients and momentum; images; and in a step outputs of every convolution and of every ReLU, and the first
    layer's columns, which are the most. In an evaluation one output at a time and those columns.
    """
    pixels = {4: 16**2, 6: 2 * 8**2}
    outputs, columns = 256 * sum(width * n for width, n in pixels.items()), 256 * 27 * 16**2
    weights = sum(parameter.numel() for parameter in build_seeded(SCHEME, 0).parameters())
    least = 4 * (2 * outputs + 3 * weights + 2 * columns) + 1000 * (3 * 32 * 32 + 8)
    assert least < step_bytes([SCHEME], n_images=1000) < 2 * least


def test_more_bytes_for_more() -> None:
    """Networks, images in a batch, digits, and features that are kept; all counted without a number."""
    plain = step_bytes(SCHEMES[:2], SHORT, n_images=64, side=8)
    assert step_bytes(SCHEMES[:4], SHORT, n_images=64, side=8) > plain
    assert step_bytes(SCHEMES[:2], PUBLISHED, n_images=64, side=8) > plain  # all 64 in a batch
    assert step_bytes(SCHEMES[:2], SHORT, n_images=64, side=8, precision="fp64") > 1.5 * plain
    width = sum(scheme[-1].width for scheme in SCHEMES[:2])
    assert step_bytes(SCHEMES[:2], SHORT, n_images=64, side=8, keep_features=True) == plain + 2 * 64 * width
    assert step_bytes(SCHEMES[:2], SHORT, n_images=64, side=8, precision="bf16") == plain


@pytest.mark.parametrize(
    ("gigabytes", "size"), [(80, 440), (40, 440), (24, 440), (16, 440), (12, 220), (8, 220), (4, 88)]
)
def test_all_440_are_planned_for_every_card(monkeypatch: pytest.MonkeyPatch, gigabytes: int, size: int) -> None:
    """Equal parts, as few as fit, where memory is in proportion to networks, at the 26 million bytes of their mean."""
    monkeypatch.setattr(gpus, "step_bytes", lambda schemes, **_: 200_000_000 + 26_000_000 * len(schemes))
    found = fitting_size(enumerate_schemes(), gigabytes * 1e9)
    assert found == size
    room = (gigabytes * 1e9 - gpus.RESERVED) / gpus.ROUNDING
    assert 200_000_000 + 26_000_000 * found <= room


def test_memory_plan_of_the_book(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for every card from 8 to 80 GB: all networks are in its parts, and what they need is there.

    The 440 by their shapes at both ends; between them more memory never means more parts.
    """
    ends = gpus.memory_plan(enumerate_schemes(), (8, 80))
    assert ends["n_archs"].tolist() == [147, 440]
    mine = gpus.memory_plan(enumerate_schemes(), trainer="fused")
    assert mine["n_archs"].tolist() == [440] * len(gpus.CARDS)
    assert (mine["needed"] <= mine["gigabytes"]).all()
    assert 4 < mine["needed"].max() < ends["needed"].max()
    monkeypatch.setattr(gpus, "step_bytes", lambda schemes, *_, **__: 200_000_000 + 26_000_000 * len(schemes))
    plan = gpus.memory_plan(enumerate_schemes())
    assert plan["gigabytes"].tolist() == list(gpus.CARDS) == [8, 12, 16, 24, 40, 80]
    assert plan["n_parts"].is_monotonic_decreasing
    for rows in (ends, plan):
        assert (rows["n_archs"] * rows["n_parts"] >= 440).all()
        assert (rows["needed"] <= rows["gigabytes"]).all()


def test_more_bytes_for_the_fused_trainer() -> None:
    """By networks, and half for what is stored in 16 bits; a fused trainer where it cannot run counts as torch's."""
    plain, more, half = (
        gpus.step_bytes(schemes, trainer="fused", precision=precision)
        for schemes, precision in ((SCHEMES[:4], "fp32"), (SCHEMES, "fp32"), (SCHEMES, "bf16"))
    )
    assert plain < half < more < 2 * half


def test_size_on_a_gpu_is_that_of_the_trainer_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused trainer's own memory where its kernels run; else torch's, which takes its place."""
    asked = []
    monkeypatch.setattr(gpus, "fitting_size", lambda *_, **settings: asked.append(settings["trainer"]) or 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=8e9))
    for reason in ("", "too old"):
        gpus.size_on.cache_clear()
        monkeypatch.setattr(gpus.fused, "why_not", lambda _, reason=reason: reason)
        for trainer in ("torch", "fused"):
            gpus.size_on(torch.device("cuda"), tuple(SCHEMES), recipe=SHORT, precision="fp32", trainer=trainer)
    gpus.size_on.cache_clear()
    assert asked == ["torch", "fused", "torch", "torch"]


def test_plan_holds_for_every_part() -> None:
    """The part that takes most, which need not be the first, fits; with one part fewer it would not."""
    schemes = enumerate_schemes()[:440:20]
    available = gpus.RESERVED + gpus.ROUNDING * step_bytes(schemes, SHORT, n_images=64, side=16) / 2.5
    size = fitting_size(schemes, available, recipe=SHORT, n_images=64, side=16)
    parts = [schemes[i : i + size] for i in range(0, len(schemes), size)]
    room = (available - gpus.RESERVED) / gpus.ROUNDING
    assert len(parts) >= 3
    assert max(step_bytes(part, SHORT, n_images=64, side=16) for part in parts) <= room
    larger = -(-len(schemes) // (len(parts) - 1))
    rest = [schemes[i : i + larger] for i in range(0, len(schemes), larger)]
    assert max(step_bytes(part, SHORT, n_images=64, side=16) for part in rest) > room


def test_gpu_that_is_too_small_for_one_network() -> None:
    """Said with what it would take."""
    with pytest.raises(MemoryError, match=r"training one network takes [\d,]+ bytes; a GPU of 800,000,001 bytes has"):
        fitting_size(SCHEMES[:3], 800_000_001)


def test_halves_where_memory_runs_out() -> None:
    """Down to the three that fit; each name once, in its order."""
    tried = []

    def run(names: Sequence[int]) -> list[int]:
        tried.append(len(names))
        if len(names) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [10 * name for name in names]

    with pytest.warns(UserWarning) as warned:
        done = in_halves(range(10), run)
    texts = [f"{n} networks at once exceed the GPU's memory: trying halves of them" for n in (10, 5, 5)]
    assert [str(warning.message) for warning in warned] == texts
    assert [value for part in done for value in part] == list(range(0, 100, 10))
    assert [len(part) for part in done] == [3, 2, 3, 2]
    assert tried == [10, 5, 3, 2, 5, 3, 2]
    assert in_halves([7], run) == [[70]]


def test_halves_end_at_one_network_and_at_other_errors() -> None:
    """One network that does not fit is an error; and what fewer networks do not mend is not tried again."""
    tried = []

    def run(names: Sequence[int], error: type[Exception] = torch.OutOfMemoryError) -> None:
        tried.append(list(names))
        raise error("no")

    with pytest.warns(UserWarning, match="2 networks at once"), pytest.raises(torch.OutOfMemoryError):
        in_halves([1, 2], run)
    assert tried == [[1, 2], [1]]
    with pytest.raises(RuntimeError, match="no"):
        in_halves([1, 2], lambda names: run(names, RuntimeError))
    assert len(tried) == 3


@pytest.mark.parametrize("started", [True, False])
def test_memory_is_given_back(monkeypatch: pytest.MonkeyPatch, started: bool) -> None:
    """After the function's own tensors are gone, which a worker that stays would keep; a GPU is not started for it."""
    log = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: started)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: log.append("emptied"))

    @gpus.given_back()
    def work() -> int:
        tensor = torch.zeros(3)
        weakref.finalize(tensor, log.append, "freed")
        return 5

    assert work() == work() == 5
    assert log == ["freed", "emptied"] * 2 if started else log == ["freed"] * 2


@pytest.fixture
def hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a program that tells of a GPU, which torch does not find."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 535.104.05\necho 535.104.05\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    devices.driver.cache_clear()
    yield program
    devices.driver.cache_clear()


def test_gpu_that_torch_cannot_use_is_said(hardware: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its driver, and what to do; not where it is hidden on purpose, does not answer, or can be used."""
    assert hardware.is_file()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.warns(UserWarning, match=r"driver 535\.104\.05, but torch .* is built for CUDA 13\.0: update the dri"):
        assert not find_gpu()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.warns(UserWarning, match=r"is built without CUDA: install another.*device='cpu'"):
        assert not find_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not find_gpu()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_gpu()


@pytest.mark.parametrize("text", ["#!/bin/sh\necho no devices were found\nexit 6\n", "no program"])
def test_no_gpu_without_an_answer(hardware: Path, text: str) -> None:
    """A program that fails or is none, and no program at all: nothing is said."""
    hardware.write_text(text)
    assert not find_gpu()
    devices.driver.cache_clear()
    hardware.unlink()
    assert not find_gpu()


def test_facts_of_devices(hardware: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a CPU and a GPU, so that rows of them stand in one table."""
    assert hardware.is_file()
    card = SimpleNamespace(name="Card", multi_processor_count=66, total_memory=8 * 2**30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: {1: card}[device.index])
    found, cpu = describe_device("cuda:1"), describe_device("cpu")
    expected = {"device": "Card", "n_multiprocessors": 66, "memory": 8 * 2**30, "capability": "9.0"}
    assert found | expected | {"driver": "535.104.05", "torch": torch.__version__} == found
    assert list(found) == list(cpu)
    assert cpu == dict.fromkeys(found, "") | {"device": "CPU", "torch": torch.__version__}


def test_run_goes_on_with_its_own_kind_of_gpu(hardware: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another card, driver or version of a library rounds otherwise, and is named; a CPU is a CPU."""
    assert hardware.is_file()
    card = SimpleNamespace(name="Card", multi_processor_count=66, total_memory=8 * 2**30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    settings = {"recipe": SHORT, "seed": 0, "precision": "fp32", "n_holdout": 0, "perturbation": 0.0}
    facts = partial(describe, {1: SCHEME}, make_images(), **settings)
    here = facts(device="cuda")
    assert here["device"] == "Card, n_multiprocessors 66, driver 535.104.05, cuda 13.0, cudnn 91002"
    card.multi_processor_count = 33
    assert facts(device="cuda")["device"] != here["device"]
    assert facts(device="cpu") == here | {"device": "cpu"}


def test_counting_leaves_nothing_behind() -> None:
    """The same again, though shapes of networks are kept."""
    assert step_bytes(SCHEMES[:1], SHORT, n_images=64, side=8) == step_bytes(SCHEMES[:1], SHORT, n_images=64, side=8)
