"""Checkpoints: whole or not there, and never another run's."""

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from held import held

from naaplib.training import checkpoints
from naaplib.training.checkpoints import FolderInUse, claim

OWNER = {"scheme": "k3w4s2", "seed": 1, "recipe": {"momentum": 0.9}}


def write_three(folder: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoints.write(
            folder, epoch, owner=OWNER, state={"weights": torch.full((1000,), epoch), "records": [[0.1] * epoch]}
        )


def test_newest_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Epoch, owner, tensors and plain values return; the file says which versions wrote it."""
    write_three(tmp_path)
    content = checkpoints.read(tmp_path, OWNER)
    assert (content["epoch"], content["owner"]) == (3, OWNER)
    assert content["state"]["records"] == [[0.1, 0.1, 0.1]]
    assert content["state"]["weights"].unique().tolist() == [3]
    assert content["versions"]["torch"] == torch.__version__


def test_two_are_kept(tmp_path: Path) -> None:
    """The newest and the one before stay; no temporary file does."""
    write_three(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0002.pt", "epoch-0003.pt"]


def test_there_may_be_none(tmp_path: Path) -> None:
    """A folder that is empty, or absent, or holds only what a kill left behind, has no checkpoint."""
    (tmp_path / "epoch-0001.part").write_bytes(b"half")
    assert checkpoints.read(tmp_path, OWNER) is None
    assert checkpoints.read(tmp_path / "absent", OWNER) is None


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_checkpoint_falls_back_to_the_one_before(tmp_path: Path, kept: float) -> None:
    """Whatever part of the newest file is on the disk, the one before it is read, and a warning says so."""
    write_three(tmp_path)
    newest = tmp_path / "epoch-0003.pt"
    whole = newest.read_bytes()
    newest.write_bytes(whole[: int(kept * len(whole))])
    with pytest.warns(UserWarning, match=r"epoch-0003\.pt is damaged; the run goes on from the checkpoint before it"):
        content = checkpoints.read(tmp_path, OWNER)
    assert (content["epoch"], content["state"]["weights"].unique().tolist()) == (2, [2])


def test_one_wrong_byte_is_noticed(tmp_path: Path) -> None:
    """A checkpoint of the right length whose weights are not those that were written counts as damaged."""
    write_three(tmp_path)
    newest = tmp_path / "epoch-0003.pt"
    content = bytearray(newest.read_bytes())
    content[content.index(torch.full((1000,), 3).numpy().tobytes()) + 2000] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged"):
        assert checkpoints.read(tmp_path, OWNER)["epoch"] == 2


def test_other_run_is_refused(tmp_path: Path) -> None:
    """The message names the file, every difference, and the way out."""
    write_three(tmp_path)
    with pytest.raises(ValueError, match=r"epoch-0003\.pt belongs to another run: ") as error:
        checkpoints.read(tmp_path, OWNER | {"seed": 2, "recipe": {"momentum": 0.8}})
    assert "recipe is {'momentum': 0.9} there and {'momentum': 0.8} here; seed is 1 there and 2 here" in str(
        error.value
    )
    assert "Name another folder for this run, or remove that one." in str(error.value)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """A whole file that would run code when unpickled is refused."""

    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"owner": OWNER, "epoch": 1, "state": Trap(), "versions": {}}, tmp_path / "epoch-0001.pt")
    with pytest.raises(pickle.UnpicklingError):
        checkpoints.read(tmp_path, OWNER)
    assert not (tmp_path / "sprung").exists()


IN_USE = "another run is at work in {}: wait until it is done, or name another folder for this one"


def test_claimed_folder_is_refused_until_it_is_released(tmp_path: Path) -> None:
    """To another process, and to the same one; what lies in it is not touched; None claims nothing."""
    folder = tmp_path / "run"
    with held(folder):
        with pytest.raises(FolderInUse) as error, claim(folder):
            pytest.fail("claimed twice")
        assert str(error.value) == IN_USE.format(folder)
    with claim(folder), pytest.raises(FolderInUse), claim(folder):
        pytest.fail("claimed twice")
    with pytest.raises(ZeroDivisionError), claim(folder):
        1 / 0  # noqa: B018 - the error is what is tested
    with claim(folder), claim(tmp_path / "other"), claim(None), claim(None):
        assert [path.name for path in folder.iterdir()] == ["in-use.lock"]


def test_claim_ends_with_its_process(tmp_path: Path) -> None:
    """Killed by SIGKILL, a process leaves nothing that keeps the next one out."""
    with held(tmp_path) as holder:
        holder.kill()
        holder.wait()
        with claim(tmp_path):
            pass


def fail_to_sync(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_to_rename(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(
    ("owner", "name", "failure", "reason"),
    [
        (os, "fsync", fail_to_sync, "No space left on device"),
        (Path, "replace", fail_to_rename, "Input/output error"),
    ],
    ids=["full", "broken"],
)
def test_disk_that_takes_no_more_is_one_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, failure: Callable, reason: str
) -> None:
    """Whatever step of writing fails: the message says what is kept and what to do, and it is kept; no part remains."""
    write_three(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failure)
        with pytest.raises(OSError, match="the checkpoint of epoch 4 could not be written into") as error:
            checkpoints.write(tmp_path, 4, owner=OWNER, state={})
    assert f"{tmp_path}: [Errno" in str(error.value)
    assert f"{reason}. The epochs before it are kept there: make room, and start the run again" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0002.pt", "epoch-0003.pt"]
    assert checkpoints.read(tmp_path, OWNER)["epoch"] == 3


LIMITED = """
import resource, signal, sys
from pathlib import Path
import torch
from naaplib.training import checkpoints

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails then, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for epoch, n in ((1, 10), (2, 10), (3, 100_000)):
    checkpoints.write(Path(sys.argv[1]), epoch, owner={}, state={"weights": torch.zeros(n)})
"""


def test_file_that_breaks_off_is_not_left_behind(tmp_path: Path) -> None:
    """A real write that ends half way, in a process that may write 20 kB a file."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OSError: the checkpoint of epoch 3 could not be written into" in failed.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001.pt", "epoch-0002.pt"]
    assert checkpoints.read(tmp_path, {})["epoch"] == 2


def test_newest_by_name(tmp_path: Path) -> None:
    """The last epoch's, also past the ninth; none in an empty or absent folder; parts and locks do not count."""
    assert checkpoints.newest(tmp_path / "absent") is None
    (tmp_path / "epoch-0011.part").touch()
    (tmp_path / "in-use.lock").touch()
    assert checkpoints.newest(tmp_path) is None
    for epoch in (9, 10):
        checkpoints.write(tmp_path, epoch, owner=OWNER, state={})
    newest = checkpoints.newest(tmp_path)
    assert newest == tmp_path / "epoch-0010.pt"
    assert checkpoints.epoch_of(newest) == 10
