"""Training one network: what it tells, and that stopping it changes nothing."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from held import held
from made import SCHEME, SHORT, make_images
from torch import nn

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.sources import ROOT
from naaplib.training import checkpoints, single
from naaplib.training.checkpoints import FolderInUse
from naaplib.training.recipe import batch_orders
from naaplib.training.single import train_network, train_networks


def newest_state(folder: Path) -> dict:
    """Contents of the newest checkpoint, whoever's it is."""
    return torch.load(sorted(folder.glob("epoch-*.pt"))[-1], weights_only=True)


def tensors(state: object) -> list[torch.Tensor]:
    """All tensors of a nested state, in order."""
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [tensor for value in values for tensor in tensors(value)]


def test_training_equals_a_literal_loop() -> None:
    """Slow twin in float32: momentum, weight decay and rates by hand, pixels normalised beforehand."""
    images = make_images()
    twin = build_seeded(SCHEME, seed=3)
    momentum = [torch.zeros_like(p) for p in twin.parameters()]
    x_train, x_test = ((pixels.float() / 255 - 0.5) / 0.5 for pixels in (images.train_images, images.test_images))
    expected = []
    for epoch, order in enumerate(batch_orders(seed=3, n_epochs=4, n_images=40)):
        twin.train()
        losses = []
        for batch in (order[:16], order[16:32], order[32:]):
            log_p = twin(x_train[batch]).log_softmax(dim=1)
            loss = -log_p[range(len(batch)), images.train_labels[batch]].mean()
            for p, v, g in zip(
                twin.parameters(), momentum, torch.autograd.grad(loss, list(twin.parameters())), strict=True
            ):
                v.mul_(0.9).add_(g + 1e-4 * p.detach())
                p.data -= [0.1, 0.01, 0.001][epoch % 3] * v
            losses.append(loss.item())
        twin.eval()
        accuracy = (twin(x_test).argmax(1) == images.test_labels).float().mean().item()
        expected.append((epoch + 1, sum(losses) / 3, sorted(losses)[1], accuracy))
    expected = pd.DataFrame(expected, columns=["epoch", "loss_mean", "loss_median", "accuracy"])
    actual = train_network(SCHEME, images, recipe=SHORT, seed=3)
    pd.testing.assert_frame_equal(actual, expected, rtol=1e-4)


def test_median_of_an_even_number_of_batches() -> None:
    """Of two batches the median is the mean of the two, as in the published logs, not the lower one."""
    records = train_network(SCHEME, make_images(n_train=32), recipe=SHORT, n_epochs=1)
    assert records["loss_median"].tolist() == records["loss_mean"].tolist()


def test_training_twice_gives_the_same_bits() -> None:
    """Deterministic on a CPU, whatever torch's global generator is at; and it learns."""
    torch.manual_seed(1)
    first = train_network(SCHEME, make_images(), recipe=SHORT)
    torch.manual_seed(2)
    pd.testing.assert_frame_equal(train_network(SCHEME, make_images(), recipe=SHORT), first, check_exact=True)
    assert first["loss_mean"].iloc[-1] < first["loss_mean"].iloc[0]


def test_training_leaves_the_global_generator_alone() -> None:
    """Neither weights nor orders are drawn from torch's own stream."""
    before = torch.get_rng_state()
    train_network(SCHEME, make_images(), recipe=SHORT, n_epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_fewer_epochs_are_the_first_ones() -> None:
    """A shorter run is the beginning of a longer one."""
    whole = train_network(SCHEME, make_images(), recipe=SHORT)
    pd.testing.assert_frame_equal(
        train_network(SCHEME, make_images(), recipe=SHORT, n_epochs=2), whole[:2], check_exact=True
    )


def test_run_continues_from_its_folder(tmp_path: Path) -> None:
    """Two epochs, then four in the same folder: the records of four straight ones; asked for two again, the first."""
    straight = train_network(SCHEME, make_images(), recipe=SHORT)
    first = train_network(SCHEME, make_images(), recipe=SHORT, n_epochs=2, folder=tmp_path)
    continued = train_network(SCHEME, make_images(), recipe=SHORT, folder=tmp_path)
    pd.testing.assert_frame_equal(continued, straight, check_exact=True)
    again = train_network(SCHEME, make_images(), recipe=SHORT, n_epochs=2, folder=tmp_path)
    pd.testing.assert_frame_equal(again, first, check_exact=True)


def test_truncated_checkpoint_costs_one_epoch(tmp_path: Path) -> None:
    """With the newest checkpoint cut in half the run goes on from the one before, to the same records."""
    straight = train_network(SCHEME, make_images(), recipe=SHORT)
    train_network(SCHEME, make_images(), recipe=SHORT, n_epochs=3, folder=tmp_path)
    newest = tmp_path / "epoch-0003.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="damaged"):
        continued = train_network(SCHEME, make_images(), recipe=SHORT, folder=tmp_path)
    pd.testing.assert_frame_equal(continued, straight, check_exact=True)


CHILD = """
import os, signal, sys
import torch
from made import SCHEME, SHORT, make_images
from naaplib.training.single import train_network, train_networks

where, count = sys.argv[2], int(sys.argv[3])
if where == "step":
    owner, name = torch.optim.SGD, "step"
else:
    import pathlib
    owner, name = pathlib.Path, "replace"
original = getattr(owner, name)

def counted(*args, **kwargs):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)

setattr(owner, name, counted)
train_network(SCHEME, make_images(), recipe=SHORT, folder=sys.argv[1]).to_pickle(sys.argv[1] + ".pickle")
"""


def train_in_child(folder: Path, where: str = "step", count: int = 0) -> int:
    """Train in a process of its own, which kills itself at the given call of the given function; its exit status."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(folder), where, str(count)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of a process of its own that nothing stopped."""
    folder = tmp_path_factory.mktemp("run") / "straight"
    assert train_in_child(folder) == 0
    return folder


@pytest.mark.parametrize(
    ("where", "count", "done"),
    [("step", 8, 2), ("replace", 3, 2)],
    ids=["in mid-epoch", "before a checkpoint is renamed"],
)
def test_killed_run_continues_to_the_same_bits(
    tmp_path: Path, straight: Path, where: str, count: int, done: int
) -> None:
    """Killed by SIGKILL in the third of four epochs and started again: weights, momentum and records of a straight run.

    Three steps an epoch: step 8 lies in the middle of the third. The third rename is that of its checkpoint.
    """
    killed = tmp_path / "killed"
    assert train_in_child(killed, where, count) == -signal.SIGKILL
    assert newest_state(killed)["epoch"] == done
    assert train_in_child(killed) == 0
    state = newest_state(killed)["state"]
    assert len(tensors(state["optimizer"])) == len(list(build_seeded(SCHEME, 0).parameters()))
    pairs = list(zip(tensors(state), tensors(newest_state(straight)["state"]), strict=True))
    assert [torch.equal(a, b) for a, b in pairs] == [True] * len(pairs)
    records = [pd.read_pickle(folder.with_suffix(".pickle")) for folder in (killed, straight)]
    pd.testing.assert_frame_equal(*records, check_exact=True)


def test_folder_of_a_run_at_work_is_refused(tmp_path: Path) -> None:
    """Two runs in one folder end in one message for the second, side by side too; it goes on when the other is done."""
    train_networks({7: SCHEME}, make_images(), recipe=SHORT, n_epochs=1, folder=tmp_path)
    with held(tmp_path / "0007"), pytest.raises(FolderInUse, match=rf"another run is at work in {tmp_path}/0007: wait"):
        train_networks({7: SCHEME}, make_images(), recipe=SHORT, n_epochs=2, folder=tmp_path)
    assert newest_state(tmp_path / "0007")["epoch"] == 1
    train_networks({7: SCHEME}, make_images(), recipe=SHORT, n_epochs=2, folder=tmp_path)
    assert newest_state(tmp_path / "0007")["epoch"] == 2


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 2}, "seed is 1 there and 2 here"),
        ({"scheme": SCHEME[:2]}, "scheme is 'k3w4s2-k3w6s2-k1w6s1r' there and 'k3w4s2-k3w6s2' here"),
        ({"recipe": replace(SHORT, momentum=0.5)}, "recipe is .*'momentum': 0.9.* there and .*'momentum': 0.5.* here"),
        ({"images": make_images(seed=1)}, "images is '[0-9a-f]{64}' there and '[0-9a-f]{64}' here"),
    ],
)
def test_folder_of_another_run_is_refused(tmp_path: Path, change: dict, difference: str) -> None:
    """Another seed, scheme, recipe or set of images never continues a run; what differs is named."""
    arguments = {"scheme": SCHEME, "images": make_images(), "recipe": SHORT, "seed": 1, "n_epochs": 1}
    train_network(**arguments, folder=tmp_path)
    with pytest.raises(ValueError, match=rf"epoch-0001\.pt belongs to another run: {difference}\. Name another folder"):
        train_network(**(arguments | change), folder=tmp_path)


def test_longer_recipe_continues_a_shorter_one(tmp_path: Path) -> None:
    """The number of epochs is no part of what a run is."""
    train_network(SCHEME, make_images(), recipe=replace(SHORT, n_epochs=1), folder=tmp_path)
    assert (
        checkpoints.read(tmp_path, single.describe(SCHEME, make_images(), recipe=SHORT, seed=single.SEED))["epoch"] == 1
    )


def test_diverged_training_is_one_clear_error() -> None:
    """A loss that is not finite ends the run with where it happened and what to change."""
    wild = replace(SHORT, initial_rate=1e30)
    with pytest.raises(
        FloatingPointError,
        match=r"the loss of k3w4s2-k3w6s2-k1w6s1r became (nan|inf) in epoch 1, batch [23]: training diverged. "
        r"Lower the recipe's initial_rate, which is 1e\+30\.",
    ):
        train_network(SCHEME, make_images(), recipe=wild)


def test_there_is_at_least_one_epoch() -> None:
    """Training for no epoch is refused."""
    with pytest.raises(ValueError, match="n_epochs must be 1 or more, not 0"):
        train_network(SCHEME, make_images(), recipe=SHORT, n_epochs=0)


def test_evaluation_uses_running_statistics_and_all_images() -> None:
    """Accuracy is that of one pass over all test images in evaluation mode, whatever the number of images."""
    images = make_images(n_test=1001)
    trained = build_seeded(SCHEME, seed=0)
    trained.train()(torch.randn(50, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    before = [buffer.clone() for buffer in trained.buffers()]
    accuracy = single.evaluate(trained, images)
    logits = nn.Module.eval(trained)((images.test_images.float() / 255 - 0.5) / 0.5)
    assert accuracy == (logits.argmax(1) == images.test_labels).sum().item() / 1001
    assert all(torch.equal(a, b) for a, b in zip(before, trained.buffers(), strict=True))


def test_networks_side_by_side_equal_one_after_the_other(tmp_path: Path) -> None:
    """Two processes give the bits of one thread alone; networks keep the order and the names of the mapping."""
    schemes = {7: SCHEME, 3: SCHEME[:2]}
    images = make_images()
    n_threads = torch.get_num_threads()
    actual = train_networks(schemes, images, recipe=SHORT, n_epochs=2, folder=tmp_path, n_jobs=2)
    torch.set_num_threads(1)  # as in every process: sums differ in their last bits with the number of threads
    try:
        expected = pd.concat([train_network(scheme, images, recipe=SHORT, n_epochs=2) for scheme in schemes.values()])
    finally:
        torch.set_num_threads(n_threads)
    expected.insert(0, "ModelId", [7, 7, 3, 3])
    pd.testing.assert_frame_equal(actual, expected.reset_index(drop=True), check_exact=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0003", "0007"]
    pd.testing.assert_frame_equal(train_networks(schemes, images, recipe=SHORT, n_epochs=2), actual, check_exact=True)
    assert torch.get_num_threads() == n_threads


def test_home_folder_is_found_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints in ~/run lie in the home folder, not in a folder named ~."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    train_network(SCHEME, make_images(), recipe=SHORT, n_epochs=1, folder="~/run")
    assert checkpoints.newest(tmp_path / "home" / "run") is not None
    assert not (tmp_path / "~").exists()
