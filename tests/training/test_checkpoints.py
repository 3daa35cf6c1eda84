"""Checkpoints: whole or not there, and never another run's."""

import pickle
from pathlib import Path

import pytest
import torch

from naaplib.training import checkpoints

OWNER = {"scheme": "k3w4s2", "seed": 1, "recipe": {"momentum": 0.9}}


def write_three(folder: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoints.write(folder, epoch, OWNER, {"weights": torch.full((1000,), epoch), "records": [[0.1] * epoch]})


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
