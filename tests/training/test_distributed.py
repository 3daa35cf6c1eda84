"""Units of work: the same table however it was made, and whatever was killed on the way."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from distributed import Client, LocalCluster
from held import held
from made import SCHEME, SHORT, make_images

from naaplib.architectures.schemes import Scheme, enumerate_schemes
from naaplib.sources import ROOT
from naaplib.training import compiled, devices, distributed, gpus
from naaplib.training.checkpoints import FolderInUse
from naaplib.training.cifar10 import load_npz
from naaplib.training.devices import resolve
from naaplib.training.distributed import Work, divide, estimate, train_units
from naaplib.training.population import train_population

TESTS = Path(__file__).parents[1]
SEEDS = [2, 1]


def save_images(path: Path) -> str:
    """Tiny images as a file."""
    np.savez(path, **{name: tensor.numpy() for name, tensor in vars(make_images()).items()})
    return str(path)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Three tiny networks, named out of order, that make two units a seed; an epoch takes milliseconds."""
    path = save_images(tmp_path_factory.mktemp("images") / "tiny.npz")
    schemes = {7: SCHEME, 3: SCHEME[:2], 5: SCHEME[:1]}
    return Work(schemes, n_epochs=4, recipe=SHORT, images_file=path, device="cpu", size=2)


@pytest.fixture(scope="module")
def straight(work: Work, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Records of a run of one process that nothing stopped."""
    return train_units(work, SEEDS, folder=tmp_path_factory.mktemp("straight"))[0]


@pytest.fixture(scope="module")
def long(work: Work) -> Work:
    """Two units, each of some seconds: time to kill a worker in the middle of one."""
    schemes = dict(enumerate(enumerate_schemes()[:2], 1))
    return replace(work, schemes=schemes, n_epochs=6, images_file=str(TESTS / "data" / "images-made.npz"), size=1)


@pytest.fixture(scope="module")
def long_straight(long: Work, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Records of the long run, of one process that nothing stopped."""
    return train_units(long, [1], folder=tmp_path_factory.mktemp("straight"))[0]


def n_done(folder: Path) -> list[int]:
    """Epochs of each unit that has a checkpoint, units in no order."""
    epochs: dict[Path, int] = {}
    for path in folder.glob("seed-*/*/epoch-*.pt"):
        epochs[path.parent] = max(epochs.get(path.parent, 0), int(path.stem[-4:]))
    return list(epochs.values())


@contextmanager
def killing(pids: list[int], folder: Path) -> Iterator[list[int]]:
    """Kill a process by SIGKILL as soon as a unit has a checkpoint; yields the epochs that units had then.

    The process is the one of `pids` with the most processor time: one that has been training.
    """
    found: list[int] = []

    def watch() -> None:
        while not (done := n_done(folder)):
            time.sleep(0.02)
        busy = max(
            (child for child in psutil.Process().children(recursive=True) if child.pid in pids or not pids),
            key=lambda child: sum(child.cpu_times()[:2]),
        )
        busy.kill()
        found.extend(done)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield found
    thread.join(5)


def test_records_are_those_of_the_population_trainer(work: Work, straight: pd.DataFrame, tmp_path: Path) -> None:
    """Slow twin: seeds, units and networks in the order given, each unit trained by itself in one thread."""
    parts = []
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for seed in SEEDS:
            for names in ((7, 3), (5,)):
                schemes = {name: work.schemes[name] for name in names}
                parts.append(train_population(schemes, load_npz(work.images_file), recipe=SHORT, seed=seed))
                parts[-1].insert(0, "seed", seed)
    finally:
        torch.set_num_threads(n_threads)
    pd.testing.assert_frame_equal(straight, pd.concat(parts, ignore_index=True), check_exact=True)
    assert straight["seed"].unique().tolist() == SEEDS
    assert straight["ModelId"].unique().tolist() == [7, 3, 5]


def test_more_epochs_go_on_from_those_done(work: Work, straight: pd.DataFrame, tmp_path: Path) -> None:
    """Two epochs, then four in the same folder, are four straight ones; two again are the first two, and their time."""
    short = replace(work, n_epochs=2)
    first, facts = train_units(short, SEEDS, folder=tmp_path)
    pd.testing.assert_frame_equal(train_units(work, SEEDS, folder=tmp_path)[0], straight, check_exact=True)
    pd.testing.assert_frame_equal(first, straight[straight["epoch"] <= 2].reset_index(drop=True), check_exact=True)
    again, facts_again = train_units(short, SEEDS, folder=tmp_path)
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    pd.testing.assert_frame_equal(facts_again, facts, check_exact=True)


CHILD = """
import os, pickle, signal, sys
from naaplib.training import distributed, trainer

folder, count = sys.argv[1], int(sys.argv[2])
step = trainer.Trainer._step

def counted(*args):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args)

trainer.Trainer._step = counted
with open(sys.argv[3], "rb") as file:
    work, seeds = pickle.load(file)
distributed.train_units(work, seeds, folder=folder)
"""


def test_killed_run_goes_on_to_the_same_bits(work: Work, straight: pd.DataFrame, tmp_path: Path) -> None:
    """The only process killed by SIGKILL in the second epoch of the second unit: nothing that was done is lost.

    Three steps an epoch: step 17 is the second of that epoch.
    """
    pd.to_pickle((work, SEEDS), tmp_path / "work.pickle")
    folder = tmp_path / "run"
    command = [sys.executable, "-c", CHILD, str(folder), "17", str(tmp_path / "work.pickle")]
    killed = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(n_done(folder)) == [1, 4]
    pd.testing.assert_frame_equal(train_units(work, SEEDS, folder=folder)[0], straight, check_exact=True)


def test_killed_worker_is_one_clear_message(long: Work, long_straight: pd.DataFrame, tmp_path: Path) -> None:
    """One of two processes killed in the middle of a unit: the message says what to do, and that gives the table."""
    message = f"was killed, perhaps because memory ran out. What was done is kept in {tmp_path}: start the run again"
    with killing([], tmp_path) as done, pytest.raises(RuntimeError, match=message):
        train_units(long, [1], folder=tmp_path, n_jobs=2)
    assert 0 < max(done) < long.n_epochs
    records, _ = train_units(long, [1], folder=tmp_path, n_jobs=2)
    pd.testing.assert_frame_equal(records, long_straight, check_exact=True)


def test_two_processes_equal_one(
    work: Work, straight: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit; the images' path may be relative to where the caller stands; the caller's threads are left alone."""
    n_threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path / "here.npz")
    records, facts = train_units(replace(work, images_file="here.npz"), SEEDS, folder="run", n_jobs=2)
    pd.testing.assert_frame_equal(records, straight, check_exact=True)
    assert facts[["seed", "first", "n_archs", "n_epochs"]].to_numpy().tolist() == [
        [2, 7, 2, 4],
        [2, 5, 1, 4],
        [1, 7, 2, 4],
        [1, 5, 1, 4],
    ]
    assert facts["seconds"].min() > 0
    assert facts[["device", "torch"]].drop_duplicates().to_numpy().tolist() == [["CPU, one thread", torch.__version__]]
    assert torch.get_num_threads() == n_threads


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A Dask cluster of two workers on this machine."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_cluster_survives_a_killed_worker(
    client: Client, long: Work, long_straight: pd.DataFrame, tmp_path: Path
) -> None:
    """One of two workers killed in the middle of a unit: the table is complete and that of one process."""
    pids = client.run(os.getpid)
    with killing(list(pids.values()), tmp_path) as done:
        records, _ = train_units(long, [1], folder=tmp_path, engine="dask", address=client.scheduler.address)
    assert 0 < max(done) < long.n_epochs
    alive = client.run(os.getpid)
    assert len(set(pids.values()) - set(alive.values())) == 1, "no worker was killed"
    pd.testing.assert_frame_equal(records, long_straight, check_exact=True)


@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_unit_in_other_hands_is_one_clear_message(
    work: Work, straight: pd.DataFrame, client: Client, tmp_path: Path, engine: str
) -> None:
    """Two runs in one folder, or a unit that a cluster starts twice: no unit is trained by two at once."""
    arguments = {"engine": engine, "address": client.scheduler.address if engine == "dask" else ""}
    train_units(replace(work, n_epochs=1), SEEDS, folder=tmp_path)
    (unit,) = tmp_path.glob("seed-1/0007-0003-*")
    with held(unit), pytest.raises(FolderInUse, match=f"another run is at work in {unit}: wait until it is"):
        train_units(work, SEEDS, folder=tmp_path, **arguments)
    while any(client.run(lambda dask_worker: bool(dask_worker.state.executing)).values()):
        time.sleep(0.05)  # a worker finishes its job after another one has failed
    records, _ = train_units(work, SEEDS, folder=tmp_path, **arguments)
    pd.testing.assert_frame_equal(records, straight, check_exact=True)


def test_cluster_of_this_machine_is_started_without_an_address(
    work: Work, straight: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No address: as many workers as there are jobs; even one alone, and not this process, does the work."""
    monkeypatch.setattr(distributed, "_images", lambda _: pytest.fail("worked here"))
    records, _ = train_units(work, SEEDS, folder=tmp_path, engine="dask")
    pd.testing.assert_frame_equal(records, straight, check_exact=True)


def test_missing_extra_is_said(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Dask the message names what to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"needs dask and distributed: pip install 'naaplib\[cluster\]'"):
        train_units(work, SEEDS, folder=tmp_path, engine="dask")


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"engine": "threads"}, r"engine is 'threads'; it must be one of \('processes', 'dask'\)"),
        ({}, {"n_jobs": 0}, "n_jobs must be 1 or more, not 0"),
        ({}, {"address": "tcp://10.0.0.1:8786"}, "but engine is 'processes': only 'dask' has a scheduler"),
        ({}, {"seeds": []}, r"there must be schemes, and different seeds, to train: 3 schemes, \[\]"),
        ({}, {"seeds": [1, 1]}, r"3 schemes, \[1, 1\]"),
        ({"schemes": {}}, {}, r"0 schemes, \[1\]"),
        ({"precision": "fp8"}, {}, "precision is 'fp8'"),
        ({"trainer": "dask"}, {}, r"trainer is 'dask'; it must be one of \('torch', 'grouped', 'fused', 'compiled'\)"),
        ({"trainer": "compiled", "precision": "fp64"}, {}, "trainer is 'compiled', .* precision 'fp64'"),
        (
            {"images_file": "none.npz"},
            {},
            r"there is no file /.*/none\.npz on .*: images_file names an \.npz file",
        ),
    ],
)
def test_wrong_arguments(work: Work, tmp_path: Path, change: dict, arguments: dict, message: str) -> None:
    """Each is one message that says what came and what is allowed."""
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_units(replace(work, **change), **{"seeds": [1], "folder": tmp_path, **arguments})


def test_division_keeps_neighbours_together(work: Work) -> None:
    """By hand: seeds first, then at most `size` networks in the order of the mapping; four on a CPU by default."""
    assert divide(work, [2, 1]) == [(2, (7, 3)), (2, (5,)), (1, (7, 3)), (1, (5,))]
    six = replace(work, schemes=dict.fromkeys(range(1, 7), SCHEME), size=0)
    assert divide(six, [1]) == [(1, (1, 2, 3, 4)), (1, (5, 6))]


def test_units_of_other_schemes_lie_apart(work: Work, tmp_path: Path) -> None:
    """The same ModelIds may stand for other schemes, and another seed is another unit: no folder is shared."""
    train_units(replace(work, n_epochs=1), [1], folder=tmp_path)
    train_units(replace(work, n_epochs=1, schemes=dict.fromkeys(work.schemes, SCHEME)), [1, 2], folder=tmp_path)
    assert len(n_done(tmp_path)) == 2 + 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there(work: Work, tmp_path: Path) -> None:
    """Asked for by name it is an error that says so; "auto" is the CPU then."""
    assert resolve("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="device is 'cuda:1', but torch finds no GPU here: use 'auto' or 'cpu'"):
        resolve("cuda:1")
    with pytest.raises(ValueError, match="torch finds no GPU here"):
        train_units(replace(work, device="cuda"), SEEDS, folder=tmp_path)


def test_units_are_as_large_as_a_gpu_holds(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """By all of its memory, counted for the run's recipe and arithmetic; a size that is given counts."""
    asked = []

    def fit(schemes: Sequence[Scheme], available: float, **settings: object) -> int:
        asked.append((len(schemes), available, settings))
        return 2

    monkeypatch.setattr(distributed, "resolve", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=12e9))
    monkeypatch.setattr(gpus, "fitting_size", fit)
    gpus.size_on.cache_clear()
    several = replace(work, device="cuda:0", size=0)
    assert divide(several, [1, 2]) == [(1, (7, 3)), (1, (5,)), (2, (7, 3)), (2, (5,))]
    assert asked == [(3, 12e9, {"recipe": SHORT, "precision": "fp32", "trainer": "torch"})]
    assert divide(replace(several, size=3), [1]) == [(1, (7, 3, 5))]
    gpus.size_on.cache_clear()


def test_unit_that_exceeds_the_memory_is_trained_in_halves(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the records, a row for each half; but not where the whole has been begun, whose epochs would be lost."""

    def train(schemes: dict[int, Scheme], *arguments: object, **named: object) -> pd.DataFrame:
        if len(schemes) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train_population(schemes, *arguments, **named)

    begun = replace(work, n_epochs=1)
    train_units(begun, [1], folder=tmp_path / "begun")
    monkeypatch.setattr(distributed, "train_population", train)
    with pytest.warns(UserWarning, match="2 networks at once exceed the GPU's memory"):
        records, facts = train_units(work, [1], folder=tmp_path / "new")
    assert records["ModelId"].unique().tolist() == list(work.schemes)
    assert facts[["first", "n_archs"]].to_numpy().tolist() == [[7, 1], [3, 1], [5, 1]]
    with pytest.raises(RuntimeError, match="was begun with more free memory on the GPU: free that, and start again"):
        train_units(replace(work, n_epochs=2), [1], folder=tmp_path / "begun")


def test_estimate_where_memory_runs_out(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the halves that fit: 10 s an epoch for each of two networks and four epochs."""

    def time_epoch(work: Work, seed: int, names: tuple[int, ...], n_steps: int) -> float:
        if len(names) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 10.0

    monkeypatch.setattr(distributed, "_time", time_epoch)
    with pytest.warns(UserWarning, match="2 networks at once exceed the GPU's memory"):
        assert estimate(replace(work, schemes={7: SCHEME, 3: SCHEME}), [1], folder=tmp_path) == 2 * 4 * 10


def test_gpu_that_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """By "auto", which would else train on the CPU for a day unasked; not by "cpu"."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "driver", lambda: "535.104.05")
    with pytest.warns(UserWarning, match=r"there is a GPU with NVIDIA driver 535\.104\.05, but torch"):
        assert resolve("auto") == torch.device("cpu")
    assert resolve("cpu") == torch.device("cpu")


def test_estimate_is_of_what_is_left(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positive from real steps; by hand where an epoch of a unit takes 10 s; 0 when everything is done."""
    assert 0 < estimate(work, [1], folder=tmp_path) < 60
    assert not list(tmp_path.iterdir())
    pairs = replace(work, schemes={7: SCHEME, 3: SCHEME, 5: SCHEME, 4: SCHEME})
    monkeypatch.setattr(distributed, "_time", lambda *_: 10.0)
    assert estimate(pairs, [1], folder=tmp_path) == 2 * 4 * 10  # two units of four epochs
    train_units(replace(pairs, n_epochs=1), [1], folder=tmp_path)
    assert estimate(pairs, [1], folder=tmp_path) == 2 * 3 * 10
    train_units(pairs, [1], folder=tmp_path)
    assert estimate(pairs, [1], folder=tmp_path) == 0
    assert estimate(replace(pairs, n_epochs=3), [1], folder=tmp_path) == 0


def test_progress_is_shown_where_it_is_asked_for(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Epochs of networks, those of an earlier run included, though this is no terminal; nothing if nobody asks."""
    train_units(replace(work, n_epochs=2), [1], folder=tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("NAAPLIB_PROGRESS", "1")
    train_units(work, [1], folder=tmp_path)
    first, *_, last = capsys.readouterr().err.strip().split("\r")
    assert first.startswith("3 networks, 1 seed(s):  50%|")
    assert last.startswith("3 networks, 1 seed(s): 100%|")
    assert " 12/12 " in last


needs_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="no C++ compiler")


@needs_compiler
def test_compiled_units_say_what_trained_them(work: Work, straight: pd.DataFrame, tmp_path: Path) -> None:
    """In two processes: records of torch to rounding, the same bits for any units; processor, compiler and flags."""
    mine = replace(work, trainer="compiled")
    records, facts = train_units(mine, SEEDS, folder=tmp_path / "two", n_jobs=2)
    pd.testing.assert_frame_equal(records, straight, rtol=1e-3)
    assert facts["device"].unique().tolist() == ["CPU, one thread, compiled"]
    assert facts["compiled"].unique().tolist() == [compiled.describe()]
    alone, _ = train_units(replace(mine, size=1), SEEDS, folder=tmp_path / "one")
    pd.testing.assert_frame_equal(alone, records, check_exact=True)
    _, others = train_units(replace(work, n_epochs=1), SEEDS, folder=tmp_path / "torch")
    assert others["compiled"].unique().tolist() == [""]
    assert others["device"].unique().tolist() == ["CPU, one thread"]
    assert 0 < estimate(mine, [1], folder=tmp_path / "new") < 60


@needs_compiler
def test_units_of_one_run_never_differ_in_their_trainer(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the other trainer is refused; a worker without a compiler raises and does not train by torch."""
    train_units(replace(work, n_epochs=1), [1], folder=tmp_path)
    with pytest.raises(ValueError, match="trainer is None there and 'compiled' here"):
        train_units(replace(work, trainer="compiled"), [1], folder=tmp_path)
    monkeypatch.setattr(
        distributed, "choose_trainer", lambda trainer, *_, **__: trainer
    )  # as on a machine that has a compiler
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(compiled.NoCompiler, match=r"there is no C\+\+ compiler 'no-such-compiler' on "):
        train_units(replace(work, trainer="compiled"), [2], folder=tmp_path)
    assert not list(tmp_path.glob("seed-2/*/epoch-*.pt"))


def test_units_without_a_compiler_are_torchs(
    work: Work, straight: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided once, for all units, and said; the table shows it."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(UserWarning, match=r"networks are trained by torch, .*there is no C\+\+ compiler") as said:
        records, facts = train_units(replace(work, trainer="compiled"), SEEDS, folder=tmp_path)
    assert len(said) == 1
    pd.testing.assert_frame_equal(records, straight, check_exact=True)
    assert facts["compiled"].unique().tolist() == [""]
