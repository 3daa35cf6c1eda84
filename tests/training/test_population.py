"""A population in lock-step: each network trains as it would alone, and stopping changes nothing."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made import SCHEME, SHORT, covering_schemes, make_images

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import Scheme
from naaplib.sources import ROOT
from naaplib.training import checkpoints, population, single
from naaplib.training.cifar10 import Images, load_npz, normalise
from naaplib.training.population import hold_out, train_population
from naaplib.training.recipe import PUBLISHED, Recipe, batch_orders
from naaplib.training.single import train_network
from naaplib.training.stacked import StackedNetwork
from naaplib.training.trainer import Trainer, cross_entropies

SCHEMES = {7: SCHEME, 3: SCHEME[:2], 5: (SCHEME[0], SCHEME[1])}
DEVICES = ["cpu", *([f"cuda:{torch.cuda.device_count() - 1}"] if torch.cuda.is_available() else [])]


pytestmark = pytest.mark.usefixtures("one_thread")


def losses_alone(scheme: Scheme, images: Images, recipe: Recipe, dtype: torch.dtype) -> np.ndarray:
    """Slow twin: the batch losses of the loop over one network, on the CPU."""
    alone = build_seeded(scheme, 11).to(dtype)
    alone.blocks.register_forward_pre_hook(lambda _, given: given[0].to(dtype))
    optimizer = torch.optim.SGD(alone.parameters(), 0.1, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    order = next(batch_orders(11, 1, n_images=len(images.train_images)))
    return single.train_epoch(alone, optimizer, images=images, order=order, batch_size=recipe.batch_size)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stack", [True, False])
@pytest.mark.parametrize(
    ("precision", "n_images", "batch_size", "every", "allowed"),
    [("fp32", 7 * 256 + 80, 256, 2, 1e-5), ("fp64", 20 * 8 + 4, 8, 1, 1e-9)],
)
def test_losses_equal_those_of_the_loop_over_one_network(
    device: str, stack: bool, precision: str, n_images: int, batch_size: int, every: int, allowed: float
) -> None:
    """Every batch loss at the recipe's first rate, the last batch being smaller.

    In float32 for 8 steps of the recipe's size, beyond which rounding grows tenfold every five steps (with smaller
    batches earlier), for 20 networks; in float64 for 21 steps, for 40 networks that have every layer of the space.
    """
    schemes = covering_schemes()[::every]
    assert len(schemes) >= 20
    made = load_npz(ROOT / "tests" / "data" / "images-made.npz")
    repeated = torch.arange(n_images) % len(made.train_images)
    images = replace(made, train_images=made.train_images[repeated], train_labels=made.train_labels[repeated])
    recipe = replace(PUBLISHED, batch_size=batch_size)
    trainer = Trainer(
        [build_seeded(s, 11) for s in schemes], [images], recipe=recipe, device=device, precision=precision, stack=stack
    )
    actual = trainer.train_epoch(next(batch_orders(11, 1, n_images=n_images)), 0.1)
    dtype = torch.float64 if precision == "fp64" else torch.float32
    expected = np.stack([losses_alone(scheme, images, recipe, dtype) for scheme in schemes], axis=1)
    assert actual.shape == (n_images // batch_size + 1, len(schemes))
    assert np.abs(actual - expected).max() <= allowed
    assert np.abs(actual[1:] - actual[:-1]).max() > 0.01  # they move


def test_losses_of_an_epoch_stay_as_they_are_when_the_next_is_trained() -> None:
    """What an epoch returns is no view of what the next one writes into, in float64 neither."""
    images = make_images()
    trainer = Trainer([build_seeded(SCHEME, 0)], [images], recipe=SHORT, precision="fp64")
    first = trainer.train_epoch(torch.arange(40), 0.1)
    before = first.copy()
    second = trainer.train_epoch(torch.arange(40), 0.1)
    assert np.array_equal(first, before)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("device", DEVICES)
def test_records_are_those_of_train_network(device: str) -> None:
    """Four epochs with restarts of the rate: losses to rounding, accuracies exactly, as one network alone."""
    images = make_images()
    actual = train_population(SCHEMES, images, recipe=SHORT, seed=3, device=device)
    assert list(actual) == ["ModelId", "epoch", "loss_mean", "loss_median", "accuracy"]
    for model_id, scheme in SCHEMES.items():
        mine = actual[actual["ModelId"] == model_id].drop(columns="ModelId").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, train_network(scheme, images, recipe=SHORT, seed=3), rtol=1e-4)
    assert actual["ModelId"].unique().tolist() == [7, 3, 5]


@pytest.mark.parametrize("device", DEVICES)
def test_two_runs_are_the_same_bits(device: str) -> None:
    """Weights, momentum, statistics and records."""
    states = []

    def keep(epoch: int, trainer: Trainer) -> None:
        states.append({k: v.clone() for k, v in trainer.state().items() if isinstance(v, torch.Tensor)})

    first, second = (
        train_population(SCHEMES, make_images(), recipe=SHORT, device=device, after_epoch=keep) for _ in "ab"
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert len(states) == 8
    for name, value in states[3].items():
        assert torch.equal(value, states[7][name]), name


def test_order_of_schemes_is_that_of_the_mapping() -> None:
    """The same networks in another order: the same records, in that order."""
    images = make_images()
    turned = dict(reversed(SCHEMES.items()))
    one, other = (train_population(s, images, recipe=SHORT, n_epochs=2) for s in (SCHEMES, turned))
    key = ["ModelId", "epoch"]
    pd.testing.assert_frame_equal(
        other.sort_values(key, ignore_index=True), one.sort_values(key, ignore_index=True), rtol=1e-4
    )
    assert other["ModelId"].unique().tolist() == [5, 3, 7]


def test_cross_entropies_by_hand() -> None:
    """Two networks, two images, three classes."""
    logits = torch.tensor([[[0.0, 0, 0], [0, 0, 0]], [[2.0, 0, 0], [0, 2, 0]]])
    expected = torch.tensor([np.log(3), np.log(1 + 2 * np.exp(-2))], dtype=torch.float32)
    torch.testing.assert_close(cross_entropies(logits, torch.tensor([0, 1])), expected)


CHILD = """
import os, signal, sys
import torch
from made import SCHEME, SHORT, make_images
from naaplib.training.population import train_population
from naaplib.training.trainer import Trainer

SCHEMES = {7: SCHEME, 3: SCHEME[:2], 5: (SCHEME[0], SCHEME[1])}
torch.set_num_threads(1)
count = int(sys.argv[2])
original = Trainer._step

def counted(self, size):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, size)

Trainer._step = counted
train_population(SCHEMES, make_images(), recipe=SHORT, folder=sys.argv[1]).to_pickle(sys.argv[1] + ".pickle")
"""


def train_in_child(folder: Path, count: int = 0) -> int:
    """Train in a process of its own, which kills itself at the given step; its exit status."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", CHILD, str(folder), str(count)], cwd=ROOT, env=environment).returncode


def test_killed_run_continues_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL in the middle of the third of four epochs, and again: state and records of a run that nothing stopped."""
    assert train_in_child(tmp_path / "straight") == 0
    killed = tmp_path / "killed"
    assert train_in_child(killed, count=8) == -signal.SIGKILL
    assert checkpoints.newest(killed).name == "epoch-0002.pt"
    assert train_in_child(killed) == 0
    states = [
        torch.load(checkpoints.newest(tmp_path / name), weights_only=True)["state"] for name in ("killed", "straight")
    ]
    assert states[0].keys() == states[1].keys() >= {"weights", "momentum", "layers.0.mean", "records", "schemes"}
    for name, value in states[1].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(states[0][name], value), name
    tables = [pd.read_pickle(tmp_path / f"{name}.pickle") for name in ("killed", "straight")]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_more_epochs_continue_fewer(tmp_path: Path) -> None:
    """Two epochs, then four in the same folder; asked for two again, nothing is trained."""
    straight = train_population(SCHEMES, make_images(), recipe=SHORT)
    train_population(SCHEMES, make_images(), recipe=SHORT, n_epochs=2, folder=tmp_path)
    continued = train_population(SCHEMES, make_images(), recipe=SHORT, folder=tmp_path)
    pd.testing.assert_frame_equal(continued, straight, check_exact=True)
    again = train_population(SCHEMES, make_images(), recipe=SHORT, n_epochs=2, folder=tmp_path)
    pd.testing.assert_frame_equal(again, straight[straight["epoch"] <= 2].reset_index(drop=True), check_exact=True)


def test_truncated_checkpoint_costs_one_epoch(tmp_path: Path) -> None:
    """With the newest cut in half the run goes on from the one before, says so, and comes to the same records."""
    straight = train_population(SCHEMES, make_images(), recipe=SHORT)
    train_population(SCHEMES, make_images(), recipe=SHORT, n_epochs=3, folder=tmp_path)
    newest = tmp_path / "epoch-0003.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="damaged"):
        continued = train_population(SCHEMES, make_images(), recipe=SHORT, folder=tmp_path)
    pd.testing.assert_frame_equal(continued, straight, check_exact=True)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 2}, "seed is 1 there and 2 here"),
        ({"schemes": {1: SCHEME}}, "schemes is '3 with SHA-256 [0-9a-f]{16}' there and '1 with SHA-256 [0-9a-f]{16}'"),
        ({"recipe": replace(SHORT, momentum=0.5)}, "recipe is .*'momentum': 0.9.* there and .*'momentum': 0.5.* here"),
        ({"precision": "fp64"}, "precision is 'fp32' there and 'fp64' here"),
        ({"n_holdout": 8}, "n_holdout is 0 there and 8 here"),
        ({"perturbation": 1e-7}, "perturbation is 0.0 there and 1e-07 here"),
    ],
)
def test_folder_of_another_run_is_refused(tmp_path: Path, change: dict, difference: str) -> None:
    """What differs is named, and what the folder holds stays."""
    arguments = {"schemes": SCHEMES, "images": make_images(), "recipe": SHORT, "seed": 1, "n_epochs": 1}
    train_population(**arguments, folder=tmp_path)
    before = (tmp_path / "epoch-0001.pt").read_bytes()
    with pytest.raises(ValueError, match=rf"epoch-0001\.pt belongs to another run: {difference}"):
        train_population(**(arguments | change), folder=tmp_path)
    assert (tmp_path / "epoch-0001.pt").read_bytes() == before


def test_diverged_networks_are_named_and_earlier_epochs_kept(tmp_path: Path) -> None:
    """A loss that is not finite in epoch 2 ends the run with where it happened; epoch 1 stays."""
    explodes = replace(SHORT, initial_rate=1e-3, decay=1e33)
    message = (
        r"the loss of k3w4s2-k3w6s2-k1w6s1r \(and those of 2 other networks\) became (nan|inf) in epoch 2, batch \d: "
        r"training diverged\. Lower the recipe's initial_rate, which is 0\.001, or train without these networks\."
    )
    with pytest.raises(FloatingPointError, match=message):
        train_population(SCHEMES, make_images(), recipe=explodes, folder=tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("*.pt"))] == ["epoch-0001.pt"]


def test_held_out_images_are_not_trained_on_but_evaluated() -> None:
    """The last eight: other labels for them change their accuracy, and nothing else."""
    images = make_images()
    other = replace(images, train_labels=torch.cat([images.train_labels[:-8], 9 - images.train_labels[-8:]]))
    one, changed = (train_population(SCHEMES, given, recipe=SHORT, n_holdout=8) for given in (images, other))
    assert list(one) == ["ModelId", "epoch", "loss_mean", "loss_median", "accuracy", "holdout_accuracy"]
    columns = ["loss_mean", "loss_median", "accuracy"]
    pd.testing.assert_frame_equal(one[columns], changed[columns], check_exact=True)
    assert (one["holdout_accuracy"] != changed["holdout_accuracy"]).any()
    alone = train_population(SCHEMES, images.first(32, 30), recipe=SHORT)
    pd.testing.assert_frame_equal(one[columns], alone[columns], check_exact=True)
    with pytest.raises(ValueError, match="n_holdout is 40; it must lie between 0 and 39"):
        hold_out(images, 40)


def test_kept_features_are_those_of_the_training_pass() -> None:
    """With a rate of 0 weights stand still: features of an image are those of its batch in training mode."""
    images = make_images()
    still = replace(SHORT, initial_rate=0.0)
    found = {}

    def keep(epoch: int, trainer: Trainer) -> None:
        found[epoch] = trainer.features.clone()

    train_population(SCHEMES, images, recipe=still, seed=3, n_epochs=1, after_epoch=keep, keep_features=True)
    order = next(batch_orders(3, 1, n_images=40))
    trainer = Trainer([build_seeded(s, 3) for s in SCHEMES.values()], [images], recipe=still)
    batch = order[16:32]
    expected = trainer.network.train().features(normalise(images.train_images[batch]))
    assert found[1].shape == (40, 18)
    torch.testing.assert_close(found[1][batch].float(), expected.detach(), rtol=2e-3, atol=2e-3)


def test_perturbation_is_small_and_the_same_each_time() -> None:
    """Every weight by about one part in ten million; 0 leaves them as they are."""
    plain = build_seeded(SCHEME, 0)
    once, twice = (population.perturb(build_seeded(SCHEME, 0), 1e-6) for _ in "ab")
    for a, b, c in zip(plain.parameters(), once.parameters(), twice.parameters(), strict=True):
        assert torch.equal(b, c)
        torch.testing.assert_close(b, a, rtol=1e-5, atol=0)
    assert not torch.equal(plain.blocks[0].conv.weight, once.blocks[0].conv.weight)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_coarser_arithmetic_by_choice_only(precision: str) -> None:
    """bf16 changes losses by some thousandths; tf32 nothing on a CPU; the global settings are as before."""
    images = make_images()
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    exact, coarse = (
        train_population(SCHEMES, images, recipe=SHORT, n_epochs=1, precision=p) for p in ("fp32", precision)
    )
    difference = (exact["loss_mean"] - coarse["loss_mean"]).abs().max()
    assert (0 < difference < 0.05) if precision == "bf16" else difference == 0
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_work_after_an_epoch_is_exact() -> None:
    """What is called after an epoch computes in float32, whatever the networks train in."""
    found = []

    def note(epoch: int, trainer: Trainer) -> None:
        found.append((trainer.precision, torch.backends.cuda.matmul.fp32_precision, torch.is_autocast_enabled("cpu")))

    for precision in ("tf32", "bf16"):
        train_population(SCHEMES, make_images(), recipe=SHORT, n_epochs=1, precision=precision, after_epoch=note)
    assert found == [("tf32", "ieee", False), ("bf16", "ieee", False)]


def test_steps_and_evaluations_round_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By themselves, whoever calls them."""
    found = []
    original = StackedNetwork.features

    def note(self: StackedNetwork, x: torch.Tensor) -> torch.Tensor:
        found.append((torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.deterministic))
        return original(self, x)

    monkeypatch.setattr(StackedNetwork, "features", note)
    images = make_images()
    for precision, expected in (("fp32", "ieee"), ("tf32", "tf32")):
        trainer = Trainer([build_seeded(SCHEME, 0)], [images], recipe=SHORT, precision=precision)
        trainer.train_epoch(torch.arange(40), 0.1)
        trainer.evaluate(images.test_images, images.test_labels)
        assert found == [(expected, True)] * 4  # three steps and an evaluation
        found.clear()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_epochs": 0}, "n_epochs must be 1 or more, not 0"),
        ({"schemes": {}}, "there must be one scheme or more to train"),
        ({"precision": "fp8"}, r"precision is 'fp8'; it must be one of \('fp32', 'tf32', 'bf16', 'fp64'\)"),
    ],
)
def test_wrong_arguments(change: dict, message: str) -> None:
    """Refused before anything is trained."""
    with pytest.raises(ValueError, match=message):
        train_population(**({"schemes": SCHEMES, "images": make_images(), "recipe": SHORT} | change))
