"""Ranking of any models: order, reasons, storage, memory."""

import gc
import json
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

from naaplib.estimators import proxies
from naaplib.estimators.proxies import models, rank
from naaplib.training.checkpoints import FolderInUse

IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def small(width: int = 4) -> nn.Module:
    """A network of one convolution."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 10)
    )


class TwoInputs(nn.Module):
    """A network that scores cannot call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Multiply the sum."""
        return self.layer(first + second)


def test_a_score_is_that_of_the_proxy_itself() -> None:
    """Built from the seed and scored on the same images, each value is the proxy's own."""
    table = rank.rank({"a": small}, IMAGES, by="nas_wot,synflow,macs", seed=3).set_index("by")["score"]
    network = models.build(small, seed=3)
    expected = proxies.nas_wot(network, IMAGES).value, proxies.synflow(network, IMAGES).value
    assert (table["nas_wot"], table["synflow"]) == pytest.approx(expected)
    assert table["macs"] == 36 * 4 * 27 + 1440


def test_ranks_are_by_score_with_ties_shared_and_the_first_score_first() -> None:
    """Equal scores share a rank; scores come in the order asked for."""
    table = rank.rank(
        {"a": partial(small, 2), "b": partial(small, 4), "c": partial(small, 2)}, IMAGES, by=["n_params", "macs"]
    )
    assert table["by"].tolist() == ["n_params"] * 3 + ["macs"] * 3
    assert table["rank"].tolist() == [1, 2, 2] * 2
    assert table["model"].tolist() == ["b", "a", "c"] * 2


def test_models_come_in_every_form() -> None:
    """A mapping, a list, one module, one name: names are classes', functions', or torchvision's."""
    module = small()
    assert list(models.named([module, small, partial(small, 3), "resnet18"])) == [
        "Sequential", "small", "small-2", "resnet18"
    ]  # fmt: skip
    assert list(models.named(module)) == ["Sequential"]
    assert list(models.named("resnet18")) == ["resnet18"]
    assert models.build(module) is module


def test_what_has_no_score_has_a_reason_and_the_others_go_on() -> None:
    """Two inputs, no layer at all, half precision, a function that raises, a last layer of zeros."""

    def broken() -> nn.Module:
        raise RuntimeError("out of luck")

    zero = small()
    nn.init.zeros_(zero[-1].weight)
    given = {"good": small(), "two": TwoInputs(), "empty": nn.Sequential(), "half": small().half(), "broken": broken,
             "zero": zero, "text": lambda: "no network"}  # fmt: skip
    table = rank.rank(given, IMAGES, by="snip,nas_wot,n_params").set_index(["model", "by"])
    reasons = table["reason"].unstack()
    assert (reasons.loc[["good", "half"]] == "").all(axis=None)
    assert "missing 1 required positional argument" in reasons.loc["two", "snip"]
    assert reasons.loc["empty", "nas_wot"] == "no ReLU was called"
    assert set(reasons.loc["broken"]) == {"RuntimeError: out of luck"}
    assert "must return a torch.nn.Module" in reasons.loc["text", "n_params"]
    assert "all gradients are 0" in reasons.loc["zero", "snip"]
    assert (table["reason"].eq("") == table["score"].notna()).all()
    assert (table["rank"].isna() == table["score"].isna()).all()
    assert table.loc[("empty", "n_params"), "score"] == 0


def test_a_ranking_changes_no_model_and_no_random_number() -> None:
    """Weights, statistics, mode and torch's generator are as before."""
    network = small().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    rank.rank({"a": network, "b": small}, IMAGES, by="nas_wot,snip,synflow")
    assert all((before[name] == value).all() for name, value in network.state_dict().items())
    assert not network.training
    assert (state == torch.random.get_rng_state()).all()


def test_the_seed_decides_weights_and_drawn_labels() -> None:
    """One seed gives one table; another seed another one."""
    tables = [rank.rank([small], IMAGES, by="snip", seed=seed)["score"].item() for seed in (1, 1, 2)]
    assert tables[0] == tables[1] != tables[2]


def test_models_are_built_one_at_a_time() -> None:
    """When a model is built, none of those before it is still there."""
    alive: list[weakref.ref] = []
    most = 0

    def make() -> nn.Module:
        nonlocal most
        most = max(most, sum(one() is not None for one in alive))
        network = small()
        network.itself = [network]  # a cycle, which only a collection ends
        alive.append(weakref.ref(network))
        return network

    gc.disable()
    try:
        rank.rank({str(i): make for i in range(20)}, IMAGES, by="nas_wot,snip")
    finally:
        gc.enable()
    assert (len(alive), most) == (20, 0)


def test_a_killed_ranking_goes_on_from_its_storage(tmp_path: Path) -> None:
    """What was finished is not built again, half a line is dropped, and the table is the same."""
    built: list[int] = []

    def make(width: int) -> nn.Module:
        built.append(width)
        if len(built) == 4:
            raise KeyboardInterrupt
        return small(width)

    given = {str(width): partial(make, width) for width in range(1, 7)}
    path = tmp_path / "scores.jsonl"
    with pytest.raises(KeyboardInterrupt):
        rank.rank(given, IMAGES, by="synflow", storage=path)
    path.write_text(path.read_text() + '{"model": "4", "sco')
    table = rank.rank(given, IMAGES, by="synflow", storage=path)
    assert built == [1, 2, 3, 4, 4, 5, 6]
    columns = ["rank", "model", "score"]
    whole = rank.rank({name: partial(small, int(name)) for name in given}, IMAGES, by="synflow")
    assert table[columns].equals(whole[columns])
    assert len(path.read_text().splitlines()) == 7
    more = rank.rank(given, IMAGES, by="synflow,macs", storage=path)  # another score alone is computed
    assert more[more["by"] == "synflow"]["seconds"].tolist() == table["seconds"].tolist()


@pytest.mark.parametrize("text", [b"my notes", b"my notes\nof two lines", b"{}", b"\xff\xfe\x00", b'{"model": 1'])
def test_a_file_that_is_no_ranking_stays_as_it_is(tmp_path: Path, text: bytes) -> None:
    """Though it has no end of line, as the first line of a ranking that was killed has none."""
    path = tmp_path / "notes.txt"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="is not a file of a ranking"):
        rank.rank(nn.Linear(2, 2), torch.zeros(1, 2), by="n_params", storage=path)
    assert path.read_bytes() == text


@pytest.mark.parametrize("n_bytes", [0, 1, 10, 30])
def test_a_ranking_that_was_killed_in_its_first_line_begins_again(tmp_path: Path, n_bytes: int) -> None:
    """The file is then that of an undisturbed call."""
    path, other = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    rank.rank(nn.Linear(2, 2), torch.zeros(1, 2), by="n_params", storage=other)
    path.write_bytes(other.read_bytes()[:n_bytes])
    rank.rank(nn.Linear(2, 2), torch.zeros(1, 2), by="n_params", storage=path)
    assert path.read_text().splitlines()[0] == other.read_text().splitlines()[0]
    assert len(path.read_text().splitlines()) == 2


def test_a_storage_of_something_else_is_refused(tmp_path: Path) -> None:
    """Other images or seed, a changed model, or no such file: the message says so and the file stays."""
    path = tmp_path / "scores.jsonl"
    rank.rank({"a": partial(small, 2)}, IMAGES, by="macs", storage=path)
    text = path.read_text()
    for change, named in (({"seed": 1}, "seed"), ({"images": 2 * IMAGES}, "images")):
        arguments = {"images": IMAGES, "by": "macs", "storage": path} | change
        with pytest.raises(ValueError, match=f"other {named}"):
            rank.rank({"a": partial(small, 2)}, **arguments)
    with pytest.raises(ValueError, match="another model 'a'"):
        rank.rank({"a": partial(small, 3)}, IMAGES, by="macs", storage=path)
    assert path.read_text() == text
    path.write_text("name,accuracy\n")
    with pytest.raises(ValueError, match="not a file of a ranking"):
        rank.rank({"a": small}, IMAGES, by="macs", storage=path)


def test_two_rankings_do_not_write_to_one_storage(tmp_path: Path) -> None:
    """The second is refused while the first is at work, and the file of the lock does not stay."""
    path = tmp_path / "scores.jsonl"

    def make() -> nn.Module:
        with pytest.raises(FolderInUse, match=r"another ranking is at work on .*: wait until it is done"):
            rank.rank({"a": small}, IMAGES, by="macs", storage=path)
        return small()

    rank.rank({"b": make}, IMAGES, by="macs", storage=path)
    assert [json.loads(line)["model"] for line in path.read_text().splitlines()[1:]] == ["b"]
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("line", ['{"name": "a"}', '{"model": "a", "identity": "", "scores": 1}', "[1]", "{"])
def test_a_storage_with_a_damaged_line_is_refused_and_stays(tmp_path: Path, line: str) -> None:
    """Whatever stands in a whole line, the message is one that names the file."""
    path = tmp_path / "scores.jsonl"
    rank.rank({"a": small}, IMAGES, by="macs", storage=path)
    path.write_text(text := path.read_text() + line + "\n")
    with pytest.raises(ValueError, match="is not a file of a ranking"):
        rank.rank({"a": small}, IMAGES, by="macs", storage=path)
    assert path.read_text() == text


def test_a_model_without_a_score_is_stored_too(tmp_path: Path) -> None:
    """A reason is found again; the file is JSON."""
    path = tmp_path / "scores.jsonl"
    first = rank.rank({"a": nn.Sequential()}, IMAGES, by="macs", storage=path)
    again = rank.rank({"a": nn.Sequential()}, IMAGES, by="macs", storage=path)
    assert again.equals(first)
    assert json.loads(path.read_text().splitlines()[1])["scores"]["macs"][0] is None


def test_the_identity_of_a_model_follows_code_weights_and_arguments() -> None:
    """Equal functions have one; other constants, arguments, closures or weights another."""

    def maker(width: int):
        return lambda: small(width)

    def bound(width: int):
        return lambda *, width=width: small(width)

    assert models.identity(maker(2)) == models.identity(maker(2)) != models.identity(maker(3))
    assert models.identity(bound(2)) == models.identity(bound(2)) != models.identity(bound(3))
    assert (
        models.identity(partial(small, 2)) == models.identity(partial(small, 2)) != models.identity(partial(small, 3))
    )
    network = models.build(small, seed=0)
    assert models.identity(network) == models.identity(models.build(small, seed=0))
    assert models.identity(network) != models.identity(models.build(small, seed=1))


def test_messages_say_what_is_allowed() -> None:
    """Unknown names and scores, no models, images of whole numbers, too few labels."""
    for given, message in (
        (lambda: rank.rank(["resnet81"], IMAGES), "did you mean"),
        (lambda: rank.rank([], IMAGES), "no models to rank"),
        (lambda: rank.rank({"a": 3}, IMAGES), "model 'a' is a int"),
        (lambda: rank.rank([small], IMAGES, by="sinflow"), "there is no score sinflow; there are: n_params"),
        (lambda: rank.rank([small], torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), "in floating point"),
        (lambda: rank.rank([small], IMAGES, labels=[1, 2]), "labels must be 8 class numbers"),
        (lambda: rank.rank([small], "no/such/folder"), "is no folder"),
        (lambda: rank.rank([small], IMAGES, seed=-1), "seed is -1; it must be a whole number, 0 or more"),
        (lambda: rank.rank([small], IMAGES, device="gpu"), "torch knows no device 'gpu': use 'auto', 'cpu' or 'cuda'"),
    ):
        with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
            given()


def test_a_device_that_is_not_there_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One error, instead of the same reason for every model."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no GPU here"):
        rank.rank([small], IMAGES, device="cuda")


def test_images_of_a_folder_have_its_classes(tmp_path: Path) -> None:
    """A folder per class gives labels, resized images; a flat one gives none; an empty one is refused."""
    from naaplib.training import image_folders

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = np.full((20, 30, 3), 250 if name == "dog" else 5, dtype=np.uint8)
            to_pil_image(pixels).save(tmp_path / name / f"{i}.png")
    images, labels, classes = image_folders.read_batch(tmp_path, 4, image_side=16, seed=1)
    assert (images.shape, classes) == ((4, 3, 16, 16), ["cat", "dog"])
    assert labels is not None
    assert ((images.mean(dim=(1, 2, 3)) > 0) == (labels == 1)).all()
    flat, none, _ = image_folders.read_batch(tmp_path / "cat", 10, image_side=16)
    assert (len(flat), none) == (3, None)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no image"):
        image_folders.read_batch(tmp_path / "nothing", 1)
    table = rank.rank([small], tmp_path, by="macs", image_side=8)
    assert table["score"].notna().all()
