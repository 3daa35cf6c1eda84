"""The compiled trainer: torch's gradients, the same bits each time, and clear words where it cannot be had."""

import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made import SCHEME, SHORT, make_images

from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import Block, Scheme
from naaplib.sources import ROOT
from naaplib.training import checkpoints, compiled
from naaplib.training.cifar10 import Images, normalise
from naaplib.training.compiled import CompiledTrainer, NoCompiler, Target
from naaplib.training.population import train_population
from naaplib.training.recipe import PUBLISHED
from naaplib.training.single import train_network

SCHEMES = {7: SCHEME, 3: SCHEME[:2], 5: SCHEME}
# Odd sides, a stride of 3 and one larger than its kernel, a skip, more channels than vectors hold, single channels.
ODD = (Block(5, 21, 1), Block(3, 21, 1, True), Block(3, 9, 3), Block(1, 1, 2))
PLAIN = replace(PUBLISHED, momentum=0.0, weight_decay=0.0)

needs_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="no C++ compiler")


def one_batch(side: int, n: int) -> Images:
    """Noise."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, 3, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (n,), generator=generator)
    return Images(pixels, labels, pixels, labels)


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((actual - expected).abs().max() / expected.abs().max())


@needs_compiler
@pytest.mark.parametrize("march", ["native", "x86-64"])
@pytest.mark.parametrize(("scheme", "side"), [(ODD, 9), (SCHEME, 8), (SCHEME, 7)])
def test_gradients_are_those_of_autograd(scheme: Scheme, side: int, march: str) -> None:
    """In float64, for wide and narrow vectors: loss, every gradient, statistics, a step, and evaluation."""
    images, target = one_batch(side, 5), Target(torch.float64, march)
    network = build_seeded(scheme, 1).double()
    trainer = CompiledTrainer([build_seeded(scheme, 1)], [images], recipe=PLAIN, target=target)
    before = trainer.weights.clone()
    losses = trainer.train_epoch(torch.tensor([3, 1, 4, 0, 2]), 0.1)
    loss = torch.nn.functional.cross_entropy(network(normalise(images.train_images).double()), images.train_labels)
    loss.backward()
    assert losses.shape == (1, 1)
    assert abs(losses[0, 0] - loss.item()) < 1e-12
    gradients = [parameter.grad.flatten() for parameter in network.parameters()]
    for actual, expected in zip(trainer.momentum.split([len(g) for g in gradients]), gradients, strict=True):
        assert relative(actual, expected) < 1e-9
    torch.testing.assert_close(trainer.weights, before - 0.1 * trainer.momentum, rtol=0, atol=1e-15)
    statistics = [torch.cat([b.bn.running_mean, b.bn.running_var]) for b in network.blocks]
    assert relative(trainer.statistics, torch.cat(statistics)) < 1e-12
    trainer.weights.copy_(before)
    network.eval()
    predicted = network(normalise(images.train_images).double()).argmax(dim=1)
    assert trainer.evaluate(images.train_images, predicted).tolist() == [1.0]
    assert trainer.evaluate(images.train_images, (predicted + 1) % 10).tolist() == [0.0]


@needs_compiler
def test_momentum_and_weight_decay_are_those_of_torch() -> None:
    """In float64 through three epochs, with a short last batch each: losses of every batch."""
    images, recipe = make_images(), replace(SHORT, weight_decay=0.1)
    trainer = CompiledTrainer([build_seeded(SCHEME, 1)], [images], recipe=recipe, target=Target(torch.float64))
    network = build_seeded(SCHEME, 1).double()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    for _ in range(3):
        actual, expected = trainer.train_epoch(order, 0.1), []
        for batch in order.split(16):
            logits = network(normalise(images.train_images[batch]).double())
            expected.append(torch.nn.functional.cross_entropy(logits, images.train_labels[batch]))
            optimizer.zero_grad()
            expected[-1].backward()
            optimizer.step()
        np.testing.assert_allclose(actual[:, 0], [loss.item() for loss in expected], rtol=1e-9)


@needs_compiler
def test_records_are_those_of_train_network() -> None:
    """In float32 through four epochs with restarts of the rate: losses to rounding, accuracies exactly."""
    images = make_images()
    actual = train_population(SCHEMES, images, recipe=SHORT, seed=3, n_holdout=0, trainer="compiled")
    for model_id, scheme in SCHEMES.items():
        mine = actual[actual["ModelId"] == model_id].drop(columns="ModelId").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, train_network(scheme, images, recipe=SHORT, seed=3), rtol=1e-4)
    assert actual["ModelId"].unique().tolist() == [7, 3, 5]


@needs_compiler
def test_a_network_has_the_same_bits_alone_and_beside_others() -> None:
    """Networks of a job share nothing but images."""
    together, alone = (
        train_population(s, make_images(), recipe=SHORT, trainer="compiled") for s in (SCHEMES, {3: SCHEMES[3]})
    )
    mine = together[together["ModelId"] == 3].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone, check_exact=True)


CHILD = """
import os, signal, sys
from made import SCHEME, SHORT, make_images
from naaplib.training.compiled import CompiledTrainer
from naaplib.training.population import train_population

count = int(sys.argv[2])
original = CompiledTrainer._call

def counted(self, *arguments, **named):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *arguments, **named)

CompiledTrainer._call = counted
train_population({7: SCHEME, 3: SCHEME[:2]}, make_images(), recipe=SHORT, folder=sys.argv[1], trainer="compiled")
"""


def train_in_child(folder: Path, count: int) -> int:
    """Train in a process of its own, which kills itself at the given call of the driver; its exit status."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    return subprocess.run([sys.executable, "-c", CHILD, str(folder), str(count)], cwd=ROOT, env=environment).returncode


@needs_compiler
def test_killed_run_continues_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL in the third of four epochs, then again: the state of a run that nothing stopped, and what made it."""
    arguments = {"schemes": {7: SCHEME, 3: SCHEME[:2]}, "images": make_images(), "recipe": SHORT, "trainer": "compiled"}
    straight = train_population(**arguments, folder=tmp_path / "straight")
    assert train_in_child(tmp_path / "killed", 10) == -signal.SIGKILL
    assert checkpoints.newest(tmp_path / "killed").name == "epoch-0002.pt"
    continued = train_population(**arguments, folder=tmp_path / "killed")
    pd.testing.assert_frame_equal(continued, straight, check_exact=True)
    states = [
        torch.load(checkpoints.newest(tmp_path / name), weights_only=True)["state"] for name in ("straight", "killed")
    ]
    for name in ("weights", "momentum", "statistics", "records"):
        assert torch.equal(states[0][name], states[1][name]), name
    assert states[1]["compiled"] == [compiled.describe()]
    assert "-O3" in compiled.describe()


@needs_compiler
def test_processors_of_one_name_are_told_apart_by_their_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their code adds in another order, so that records are not equal bit for bit."""
    found = []
    for features in ("fma avx2 avx512f", "fma avx2", ""):
        monkeypatch.setattr(compiled, "processor", lambda features=features: ("Make", features))
        found.append(compiled.describe().partition("; ")[0])
    assert found == ["Make (avx512f)", "Make (avx2)", "Make"]


@needs_compiler
@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ("torch", "compiled", "belongs to another run: trainer is None there and 'compiled' here"),
        ("compiled", "torch", "belongs to another run: trainer is 'compiled' there and None here"),
    ],
)
def test_checkpoint_of_the_other_trainer_is_refused(tmp_path: Path, first: str, then: str, message: str) -> None:
    """No run mixes them."""
    train_population(SCHEMES, make_images(), recipe=SHORT, n_epochs=1, folder=tmp_path, trainer=first)
    with pytest.raises(ValueError, match=message):
        train_population(SCHEMES, make_images(), recipe=SHORT, folder=tmp_path, trainer=then)


@needs_compiler
def test_diverged_network_is_named() -> None:
    """Infinite weights in epoch 2: a ReLU must not turn what is not a number into 0, which would look like a loss."""
    explodes = replace(SHORT, initial_rate=1e-3, decay=1e33)
    message = r"the loss of k3w4s2-k3w6s2-k1w6s1r \(and .*\) became (nan|inf) in epoch 2, batch \d: training diverged"
    with pytest.raises(FloatingPointError, match=message):
        train_population(SCHEMES, make_images(), recipe=explodes, trainer="compiled")


@needs_compiler
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: replace(i, train_images=i.train_images[..., :7]), "images must be squares of one side"),
        (lambda i: replace(i, train_labels=i.train_labels + 1), "labels must lie between 0 and 9"),
        (lambda i: replace(i, train_labels=i.train_labels - 1), "labels must be class numbers from 0"),
        (
            lambda i: Images(
                i.train_images[:33, :, :4, :4], i.train_labels[:33], i.test_images[:, :, :4, :4], i.test_labels
            ),
            "a batch of 1 of 33 images has one value a channel",
        ),
    ],
)
def test_images_that_it_cannot_train_on(change: Callable[[Images], Images], message: str) -> None:
    """Each is one message, and nothing is read that is not there."""
    with pytest.raises(ValueError, match=message):
        CompiledTrainer([build_seeded(SCHEME, 1)], [change(make_images())], recipe=SHORT)


@needs_compiler
def test_order_that_leaves_the_images() -> None:
    """A place beyond the images is refused, and so are images of another size to evaluate."""
    trainer = CompiledTrainer([build_seeded(SCHEME, 1)], [make_images()], recipe=SHORT)
    for place in (-1, 40):
        with pytest.raises(ValueError, match="an order must name places of the 40 images, from 0"):
            trainer.train_epoch(torch.tensor([0, place]), 0.1)
    with pytest.raises(ValueError, match=r"images to evaluate are \(3, 7, 7\), unlike those to train on"):
        trainer.evaluate(make_images().test_images[:, :, :7, :7], make_images().test_labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trainer": "fast"}, r"trainer is 'fast'; it must be one of \('torch', 'grouped', 'fused', 'compiled'\)"),
        ({"precision": "fp64"}, "trainer is 'compiled', .* precision 'fp64': use trainer='torch'"),
        ({"device": "cuda"}, "trainer is 'compiled', .* device is 'cuda'"),
        ({"keep_features": True}, "keeps no features"),
    ],
)
def test_what_it_cannot_do_is_said(arguments: dict, message: str) -> None:
    """Before anything is compiled or trained."""
    with pytest.raises(ValueError, match=message):
        train_population(SCHEMES, make_images(), recipe=SHORT, **{"trainer": "compiled", **arguments})


def test_without_a_compiler_torch_trains_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """One warning for a run; records are torch's."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(
        UserWarning, match=r"trained by torch, .*: there is no C\+\+ compiler 'no-such-compiler'"
    ) as said:
        found = train_population(SCHEMES, make_images(), recipe=SHORT, n_epochs=1, trainer="compiled")
    assert len(said) == 1
    expected = train_population(SCHEMES, make_images(), recipe=SHORT, n_epochs=1)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    with pytest.raises(NoCompiler):
        CompiledTrainer([build_seeded(SCHEME, 1)], [make_images()], recipe=SHORT)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that writes down that it was called; and an empty cache."""
    log = tmp_path / "calls"
    script = tmp_path / "fake"
    script.write_text(
        '#!/bin/sh\nfor last; do :; done\ncase "$*" in *--version*|*-E*) echo fake; exit;; esac\n'
        f'echo "$*" >> {log}\nsleep 0.3\n[ -e {tmp_path}/broken ] && {{ seq 1 99 >&2; exit 1; }}\necho code > "$last"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return log


def test_many_at_once_compile_once(fake: Path) -> None:
    """Four that ask at the same time wait for the one that compiles; another shape or target is another file."""
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: compiled.libraries([None, (3, 4, 3, 2, 8)]), range(4)))
    assert len(fake.read_text().splitlines()) == 2
    assert len({path for found in paths for path in found.values()}) == 2
    assert all(path.read_text() == "code\n" for path in paths[0].values())
    others = [compiled.libraries([None], Target(march="x86-64")), compiled.libraries([None], Target(torch.float64))]
    assert len({paths[0][None], *(other[None] for other in others)}) == 3
    assert not list(paths[0][None].parent.glob("*.part"))


def test_compiler_that_fails_is_quoted(fake: Path) -> None:
    """The first lines of what it says; and torch trains."""
    fake.with_name("broken").touch()
    with pytest.raises(
        NoCompiler, match=r"fake does not compile compiled\.cpp for 3-4-3-2-8 \(.*-DC_IN=3.*\):\n1\n2\n"
    ) as e:
        compiled.libraries([(3, 4, 3, 2, 8)])
    assert len(str(e.value).splitlines()) == 1 + compiled.N_LINES
    with pytest.warns(UserWarning, match=r"trained by torch, .*: .*fake does not compile compiled\.cpp for driver"):
        train_population(SCHEMES, make_images(), recipe=SHORT, n_epochs=1, trainer="compiled")


def test_cache_that_cannot_be_written_is_said(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do; a file stands where the folder should."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(fake.with_name("fake")))
    with pytest.raises(NoCompiler, match=r"nothing can be compiled into .*fake/naaplib: .* Let XDG_CACHE_HOME name"):
        compiled.libraries([None])


def test_shapes_by_hand() -> None:
    """Channels in and out, kernel, stride, and the side of the input."""
    assert compiled.layer_shapes([SCHEME, SCHEME[:1]], 8) == [
        [(3, 4, 3, 2, 8), (4, 6, 3, 2, 4), (6, 6, 1, 1, 2)],
        [(3, 4, 3, 2, 8)],
    ]


def test_torch_alone_warns_of_nothing() -> None:
    """Nobody who does not ask for the compiled trainer hears of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_population(SCHEMES, make_images(), recipe=SHORT, n_epochs=1)
