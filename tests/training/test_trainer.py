"""The trainer's settings, and its recording of steps, where a made GPU stands in for one that is not there."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from made import SCHEME, SHORT, make_images

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.training.trainer import PRECISIONS, Trainer, arithmetic

BACKENDS = torch.backends
PLACES = {
    "generic": BACKENDS,
    "cudnn": BACKENDS.cudnn,
    "mkldnn": BACKENDS.mkldnn,
    "matmul": BACKENDS.cuda.matmul,
    "conv": BACKENDS.cudnn.conv,
    "rnn": BACKENDS.cudnn.rnn,
    "mkldnn matmul": BACKENDS.mkldnn.matmul,
    "mkldnn conv": BACKENDS.mkldnn.conv,
}
OLD = {
    "nothing": lambda: None,
    "matmul on": lambda: setattr(BACKENDS.cuda.matmul, "allow_tf32", True),
    "matmul off": lambda: setattr(BACKENDS.cuda.matmul, "allow_tf32", False),
    "cudnn off": lambda: setattr(BACKENDS.cudnn, "allow_tf32", False),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "benchmark": lambda: setattr(BACKENDS.cudnn, "benchmark", True),
    "disabled": lambda: setattr(BACKENDS.cudnn, "enabled", False),
}
NEW = {"nothing": []} | {
    f"{place} {value}": [(place, value)]
    for place in ("generic", "cudnn", "matmul", "conv", "rnn", "mkldnn conv")
    for value in ("tf32", "ieee", "none")
}
NEW["several"] = [("generic", "tf32"), ("matmul", "ieee"), ("conv", "none")]


def answer(read) -> object:
    """What a setting is, or that torch refuses to say."""
    try:
        return read()
    except RuntimeError:
        return "refused"


def settings() -> list[object]:
    """All that can be read, by both interfaces; and again after each change of what others take theirs from."""
    read = [lambda place=place: place.fp32_precision for place in PLACES.values()]
    read += [lambda: BACKENDS.cuda.matmul.allow_tf32, lambda: BACKENDS.cudnn.allow_tf32]
    read += [torch.get_float32_matmul_precision, lambda: BACKENDS.cudnn.enabled]
    read += [lambda: BACKENDS.cudnn.deterministic, lambda: BACKENDS.cudnn.benchmark]
    found = [answer(each) for each in read]
    generic = BACKENDS.fp32_precision
    for value in ("tf32", "ieee"):
        BACKENDS.fp32_precision = value
        found += [answer(each) for each in read]
    BACKENDS.fp32_precision = generic
    return found


@pytest.fixture
def defaults() -> Iterator[None]:
    """Settings of a new process, before and after."""
    before = settings()
    yield
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cudnn.allow_tf32, BACKENDS.cudnn.enabled = True, True
    BACKENDS.cudnn.deterministic = BACKENDS.cudnn.benchmark = False
    for name, place in PLACES.items():
        if name not in ("conv", "rnn", "mkldnn"):
            place.fp32_precision = "none"
    assert settings() == before


@pytest.mark.usefixtures("defaults")
@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("new", NEW)
def test_settings_are_put_back_whichever_interface_made_them(old: str, new: str) -> None:
    """Nested, for every precision, after an error too; what inherits a setting goes on to inherit it."""
    OLD[old]()
    for place, value in NEW[new]:
        PLACES[place].fp32_precision = value
    before = settings()
    for precision in PRECISIONS:
        expected = "tf32" if precision == "tf32" else "ieee"
        with arithmetic(precision):
            inside = [BACKENDS.cuda.matmul.fp32_precision, BACKENDS.cudnn.conv.fp32_precision]
            assert [*inside, BACKENDS.cudnn.rnn.fp32_precision] == [expected] * 3
            assert (BACKENDS.mkldnn.matmul.fp32_precision, BACKENDS.mkldnn.conv.fp32_precision) == ("ieee", "ieee")
            assert (BACKENDS.cudnn.enabled, BACKENDS.cudnn.deterministic, BACKENDS.cudnn.benchmark) == (1, 1, 0)
            with pytest.raises(ZeroDivisionError), arithmetic("tf32"):
                assert BACKENDS.cuda.matmul.fp32_precision == BACKENDS.cudnn.conv.fp32_precision == "tf32"
                raise ZeroDivisionError
            assert BACKENDS.cuda.matmul.fp32_precision == BACKENDS.cudnn.conv.fp32_precision == expected
        assert settings() == before


@pytest.mark.usefixtures("defaults")
def test_settings_of_a_library_as_a_whole_are_put_back() -> None:
    """Those of oneDNN, which torch's public name for them does not change."""
    before = settings()
    BACKENDS.mkldnn.set_flags(_fp32_precision="tf32")  # the property of this name writes to "generic" in torch 2.11
    within = settings()
    assert within != before
    with arithmetic("fp32"):
        assert BACKENDS.mkldnn.conv.fp32_precision == "ieee"
    assert settings() == within
    BACKENDS.mkldnn.set_flags(_fp32_precision="none")
    assert settings() == before


@pytest.mark.usefixtures("defaults")
@pytest.mark.parametrize("stack", [True, False])
def test_losses_on_a_cpu_do_not_depend_on_settings(stack: bool) -> None:
    """The same bits whether a user has asked for TF32 or not, by either interface."""

    def losses() -> np.ndarray:
        trainer = Trainer([build_seeded(SCHEME, 0)], [make_images()], recipe=SHORT, stack=stack)
        return trainer.train_epoch(torch.arange(40), 0.1)

    plain = losses()
    BACKENDS.fp32_precision = "tf32"
    assert np.array_equal(losses(), plain)
    torch.set_float32_matmul_precision("medium")
    assert np.array_equal(losses(), plain)


class MadeGpu:
    """Stands in for torch.cuda: nothing is computed while it records, and replaying does what was recorded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device, self.stream, self.recording = 0, "main", None
        self.log: list[tuple] = []
        self.fails: dict[str, Exception] = {}
        for name in ("CUDAGraph", "current_stream", "Stream", "graph_pool_handle"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name, lambda *_: None))
        monkeypatch.setattr(torch.cuda, "device", lambda device: self.change("device", device.index))
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: self.change("stream", stream.name))
        monkeypatch.setattr(torch.cuda, "graph", self.graph)

    @contextmanager
    def change(self, name: str, value: object) -> Iterator[None]:
        """Another current device or stream, and then that of before."""
        before = getattr(self, name)
        setattr(self, name, value)
        try:
            yield
        finally:
            setattr(self, name, before)

    class Stream:
        """A stream with a name."""

        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: "MadeGpu.Stream") -> None:
            """Streams here never overtake each other."""
            assert self.name != other.name

    def current_stream(self, device: torch.device) -> Stream:
        """That of the GPU asked for."""
        assert device.index == 1
        return self.Stream(self.stream)

    class CUDAGraph:
        """Holds what was recorded."""

        def __init__(self) -> None:
            self.steps: list = []

        def replay(self) -> None:
            """Do it."""
            for step in self.steps:
                step()

    @contextmanager
    def graph(self, graph: CUDAGraph, pool: object, stream: Stream) -> Iterator[None]:
        """Record what is done on the stream, if that is of the current device; on an error the stream stays."""
        assert self.device == 1
        self.log.append(("record", pool, stream.name))
        self.stream, self.recording = stream.name, graph
        try:
            yield
        except Exception:
            self.recording = None
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from None
        self.recording = None

    def attach(self, trainer: Trainer) -> Trainer:
        """Let a trainer of the CPU believe that it is on the second GPU."""
        original = trainer._step

        def step(size: int) -> None:
            if error := self.fails.get("recording" if self.recording else "warm-up"):
                raise error
            self.log.append(("step", size, self.device, self.stream))
            self.recording.steps.append(lambda: original(size)) if self.recording else original(size)

        trainer._step, trainer._rounding = step, nullcontext
        trainer.device, trainer.stream, trainer.pool = torch.device("cuda", 1), self.Stream(), "pool"
        return trainer


def make_trainer() -> Trainer:
    """Two networks on the CPU, stacked as on a GPU."""
    return Trainer([build_seeded(s, 3) for s in (SCHEME, SCHEME[:2])], [make_images()], recipe=SHORT, stack=True)


def test_recorded_steps_are_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and weights of two epochs as without recording; on the trainer's device, its one stream and one pool.

    All sizes warm up before any is recorded, since a recording keeps its memory; the largest is recorded first.
    """
    plain, gpu = make_trainer(), MadeGpu(monkeypatch)
    recorded = gpu.attach(make_trainer())
    for seed, rate in ((0, 0.1), (1, 0.05)):
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        assert np.array_equal(recorded.train_epoch(order, rate), plain.train_epoch(order, rate))
    for name, value in plain.state().items():
        assert torch.equal(recorded.state()[name], value), name
    warm, record = ("step", 16, 1, "side"), ("record", "pool", "side")
    small = ("step", 8, 1, "side")
    assert gpu.log == [*[warm, small] * 3, record, warm, record, small]  # the second epoch replays
    assert (gpu.device, gpu.stream) == (0, "main")


def test_memory_that_runs_out_before_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of its own kind, so that fewer networks can be tried; nothing was recorded."""
    gpu = MadeGpu(monkeypatch)
    trainer = gpu.attach(make_trainer())
    gpu.fails["warm-up"] = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        trainer.train_epoch(torch.arange(40), 0.1)
    assert not trainer.graphs
    assert not gpu.log
    assert (gpu.device, gpu.stream) == (0, "main")


def test_error_in_a_recording_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as memory that ran out, after which one could go on; device and stream are those of before."""
    gpu = MadeGpu(monkeypatch)
    trainer = gpu.attach(make_trainer())
    gpu.fails["recording"] = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    message = r"2 networks on 16 images could not be recorded as a CUDA graph: CUDA out of memory.*in a new process"
    with pytest.raises(RuntimeError, match=message) as caught:
        trainer.train_epoch(torch.arange(40), 0.1)
    assert type(caught.value) is RuntimeError
    assert not trainer.graphs
    assert (gpu.device, gpu.stream) == (0, "main")


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [1000, 500]), ("meta", [16])])
def test_evaluation_in_parts(device: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU a thousand images at a time; elsewhere no more than in a step, whose memory is known to suffice."""
    images = make_images(40, 1500)
    monkeypatch.setattr(type(images), "__post_init__", lambda _: None)  # it looks at values, which "meta" has not
    trainer = Trainer([build_seeded(SCHEME, 0)], [images], recipe=SHORT, device=device)
    seen, features = [], trainer.network.features
    monkeypatch.setattr(trainer.network, "features", lambda x: (seen.append(len(x)), features(x))[1])
    numbers = nullcontext() if device == "cpu" else pytest.raises(NotImplementedError)  # there are none to bring back
    with numbers:
        trainer.evaluate(images.test_images, images.test_labels)
    assert seen[: len(sizes)] == sizes
    assert sum(seen) == 1500


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two GPUs")
def test_any_gpu_can_train() -> None:
    """The last one, which is not the current one: the losses of the first."""
    first, last = (
        Trainer([build_seeded(SCHEME, 0)], [make_images()], recipe=SHORT, device=f"cuda:{i}").train_epoch(
            torch.arange(40), 0.1
        )
        for i in (0, torch.cuda.device_count() - 1)
    )
    np.testing.assert_allclose(last, first, rtol=0, atol=1e-5)


def test_state_of_older_checkpoints_is_taken_up() -> None:
    """They named the variant of every layer as well, which nothing chooses any more."""
    trainer, other = make_trainer(), make_trainer()
    trainer.train_epoch(torch.arange(40), 0.1)
    other.load_state(trainer.state() | {"variants": ["matmul"] * 3})
    assert torch.equal(other.weights, trainer.weights)
