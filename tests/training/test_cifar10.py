"""CIFAR-10: found where it may lie, checked, and refused with a way out."""

import hashlib
import pickle
import runpy
import shutil
import socket
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from naaplib import sources
from naaplib.architectures.scheme_networks import build_seeded
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.training import cifar10
from naaplib.training.cifar10 import Images
from naaplib.training.own import train_population

PARTS = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]


@pytest.fixture
def made_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with batches of two images each, which torchvision takes for the official ones."""
    folder = tmp_path / "made" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in PARTS:
        content = {
            "data": random.integers(0, 256, (2, 3072), dtype=np.uint8),
            "labels": random.integers(0, 10, 2).tolist(),
        }
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(CIFAR10, "train_list", [(name, md5[name]) for name in PARTS[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [(name, md5[name]) for name in PARTS[5:]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5["batches.meta"]})
    return folder.parent


def test_batches_become_tensors_in_order(made_batches: Path) -> None:
    """Images keep the order of the batches, with channels first, and their labels."""
    images = cifar10.load(made_batches)
    contents = [pickle.loads((made_batches / CIFAR10.base_folder / name).read_bytes()) for name in PARTS]
    pixels = np.concatenate([content["data"].reshape(2, 3, 32, 32) for content in contents])
    assert torch.equal(images.train_images, torch.from_numpy(pixels[:10]))
    assert torch.equal(images.test_images, torch.from_numpy(pixels[10:]))
    labels = [label for content in contents for label in content["labels"]]
    assert (images.train_labels.tolist(), images.test_labels.tolist()) == (labels[:10], labels[10:])


@pytest.fixture
def made_hundred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of CIFAR-100's form, six and two images, which torchvision takes for the official ones."""
    folder = tmp_path / "made" / CIFAR100.base_folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, n in (("train", 6), ("test", 2)):
        fine = [99, 0, 7, 50, 12, 98][:n]
        content = {"data": random.integers(0, 256, (n, 3072), dtype=np.uint8), "fine_labels": fine}
        (folder / name).write_bytes(pickle.dumps(content | {"coarse_labels": [label // 5 for label in fine]}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {i}" for i in range(100)]}))
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    for part in ("train", "test"):
        monkeypatch.setattr(CIFAR100, f"{part}_list", [[part, md5[part]]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": md5["meta"]})
    return folder.parent


def test_a_hundred_classes_are_read_by_name(made_hundred: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are the fine ones, images those of the files in order; a notebook names the data set."""
    monkeypatch.setenv("NAAPLIB_DATA", str(made_hundred))
    images = cifar10.read("CIFAR-100")
    folder = made_hundred / CIFAR100.base_folder
    pixels = pickle.loads((folder / "train").read_bytes())["data"].reshape(6, 3, 32, 32)
    assert torch.equal(images.train_images, torch.from_numpy(pixels))
    assert (images.train_labels.tolist(), images.test_labels.tolist()) == ([99, 0, 7, 50, 12, 98], [99, 0])
    assert cifar10.files("CIFAR-100") == [folder / "train", folder / "test"]
    assert images.n_classes == 100


def test_a_hundred_classes_reach_the_last_layer(made_hundred: Path) -> None:
    """Of the study's networks and of those that a recipe trains; ten remain where labels are fewer."""
    images = cifar10.load(made_hundred, "CIFAR-100")
    scheme = enumerate_schemes()[0]
    assert build_seeded(scheme, 1, n_classes=images.n_classes).linear.out_features == 100
    assert make_images().n_classes == 10
    table = train_population([scheme], images, n_epochs=1, trainer="torch", n_jobs=1)  # ten outputs would be an error
    assert len(table) == 1


def test_a_damaged_or_missing_hundred_is_refused(made_hundred: Path, tmp_path: Path) -> None:
    """With the command that fetches it; a name that no data set has, with those that there are."""
    (made_hundred / CIFAR100.base_folder / "train").write_bytes(b"other")
    with pytest.raises(sources.WrongData, match=r"not the official CIFAR-100.*`make data WHAT=cifar100`"):
        cifar10.load(made_hundred, "CIFAR-100")
    with pytest.raises(sources.MissingData, match=r"CIFAR-100 is not on this machine: looked for .*cifar100/cifar-100"):
        cifar10.load(tmp_path / "empty", "CIFAR-100")
    with pytest.raises(ValueError, match="no dataset is called 'CIFAR-7'; there are: CIFAR-10, CIFAR-100"):
        cifar10.load(made_hundred, "CIFAR-7")


def test_the_official_hundred() -> None:
    """Five hundred training images a class, and torchvision's MD5s of the official files."""
    try:
        images = cifar10.load(name="CIFAR-100")
    except sources.MissingData as missing:
        pytest.skip(str(missing))
    assert images.train_labels.bincount().tolist() == [500] * 100
    assert images.test_labels.bincount().tolist() == [100] * 100


def test_files_of_the_images_are_named(made_batches: Path) -> None:
    """Six files, the test batch last; a folder without them is as missing as for loading."""
    folder = made_batches / CIFAR10.base_folder
    assert cifar10.batches(made_batches) == [folder / name for name in PARTS]
    with pytest.raises(sources.MissingData, match="CIFAR-10 is not on this machine"):
        cifar10.batches(folder)


def test_batches_are_found_in_the_named_folder_first(
    made_batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NAAPLIB_DATA comes before data/, and the batches may lie in its cifar10/ folder."""
    named = tmp_path / "named"
    (named / "cifar10").mkdir(parents=True)
    shutil.move(made_batches / CIFAR10.base_folder, named / "cifar10")
    monkeypatch.setenv("NAAPLIB_DATA", str(named))
    assert len(cifar10.load().train_images) == 10


def test_missing_images_are_one_clear_message(tmp_path: Path) -> None:
    """Where it was looked for, and three ways to supply the images."""
    with pytest.raises(sources.MissingData) as error:
        cifar10.load(tmp_path)
    assert str(error.value) == (
        f"CIFAR-10 is not on this machine: looked for {tmp_path}/cifar-10-batches-py, "
        f"{tmp_path}/cifar10/cifar-10-batches-py. `make data` fetches it; or put the folder cifar-10-batches-py, with "
        f"the official Python batches, into data/, or let NAAPLIB_DATA name the folder that holds it."
    )


def test_damaged_images_are_refused(made_batches: Path) -> None:
    """One byte off in one batch is noticed."""
    batch = made_batches / CIFAR10.base_folder / "data_batch_3"
    content = bytearray(batch.read_bytes())
    content[100] ^= 1
    batch.write_bytes(content)
    with pytest.raises(sources.WrongData, match="not the official CIFAR-10: a file is missing or its MD5 is wrong"):
        cifar10.load(made_batches)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, without a log."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(made_batches: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server with an archive of the made batches, which takes the place of the official one."""
    archive = made_batches / "right.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(made_batches / CIFAR10.base_folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    (made_batches / "wrong.tar.gz").write_bytes(b"moved")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=made_batches)) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def test_fetch_tries_the_next_address(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that do not answer or serve something else are passed over; the right archive is unpacked."""
    names = ("absent", "wrong", "right")
    monkeypatch.setattr(cifar10, "ADDRESSES", tuple(f"{server}/{name}.tar.gz" for name in names))
    folder = cifar10.fetch(tmp_path / "data")
    assert folder == tmp_path / "data" / CIFAR10.base_folder
    assert len(cifar10.load(tmp_path / "data").train_images) == 10


def test_fetch_does_nothing_where_all_is_there(made_batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intact batches are left alone: no address is asked."""
    monkeypatch.setattr(cifar10, "ADDRESSES", ())
    assert cifar10.fetch(made_batches) == made_batches / CIFAR10.base_folder


def test_fetch_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address with its answer, and how to supply a local copy."""
    absent = "http://127.0.0.1:1/absent.tar.gz"
    monkeypatch.setattr(cifar10, "ADDRESSES", (absent,))
    with pytest.raises(ConnectionError, match=rf"CIFAR-10 could not be fetched\. {absent}: .* or let NAAPLIB_DATA"):
        cifar10.fetch(tmp_path / "data")


def test_command_line_says_what_is_there(
    made_batches: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """`make data` on a machine that has the images says so and succeeds."""
    monkeypatch.setenv("NAAPLIB_DATA", str(made_batches))
    assert cifar10.main() == 0
    assert capsys.readouterr().out == "CIFAR-10: present\n"


def test_official_images() -> None:
    """The real thing: sizes, classes, and mean pixel of the training images as everyone knows it (0.4734 of 1)."""
    try:
        images = cifar10.load()
    except sources.MissingData as missing:
        pytest.skip(str(missing))
    assert (images.train_images.shape, images.test_images.shape) == ((50_000, 3, 32, 32), (10_000, 3, 32, 32))
    assert images.train_labels.bincount().tolist() == [5000] * 10
    assert images.test_labels.bincount().tolist() == [1000] * 10
    np.testing.assert_allclose(images.train_images.numpy().mean() / 255, 0.4734, atol=5e-5)


def test_normalised_pixels_by_hand() -> None:
    """0 becomes -1, 255 becomes 1, 51 (one fifth) becomes -0.6; the images themselves stay."""
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(cifar10.normalise(pixels), torch.tensor([-1.0, -0.6, 1.0]))
    assert pixels.tolist() == [0, 51, 255]


def make_images() -> Images:
    pixels, labels = torch.arange(5 * 12, dtype=torch.uint8).reshape(5, 3, 2, 2), torch.arange(5)
    return Images(pixels[:3], labels[:3], pixels[3:], labels[3:])


def test_images_of_a_file(tmp_path: Path) -> None:
    """An .npz with the four arrays reads as the images it was made from."""
    images = make_images()
    np.savez(tmp_path / "made.npz", **{name: tensor.numpy() for name, tensor in vars(images).items()})
    assert cifar10.load_npz(tmp_path / "made.npz").digest() == images.digest()


def test_file_without_test_labels_is_refused(tmp_path: Path) -> None:
    """What the file lacks and what it has."""
    np.savez(tmp_path / "half.npz", train_images=1, test_images=2, train_labels=3)
    with pytest.raises(
        ValueError, match=r"half\.npz lacks test_labels; it has train_images, test_images, train_labels"
    ):
        cifar10.load_npz(tmp_path / "half.npz")


def test_first_images() -> None:
    """A part is the beginning of both sets, and another digest."""
    images = make_images()
    part = images.first(2, 1)
    assert torch.equal(part.train_images, images.train_images[:2])
    assert (part.train_labels.tolist(), part.test_labels.tolist()) == ([0, 1], [3])
    assert part.digest() != images.digest()


def test_images_of_another_type_are_refused() -> None:
    """Floating-point pixels, and labels that are too few, are refused with what is expected."""
    images = make_images()
    with pytest.raises(
        ValueError, match=r"train_images must be uint8 of shape \(n, 3, side, side\), not torch.float32"
    ):
        Images(images.train_images.float(), images.train_labels, images.test_images, images.test_labels)
    with pytest.raises(
        ValueError, match=r"test_labels must be int64 of shape \(2,\), one an image, not torch.int64 of \(1,\)"
    ):
        Images(images.train_images, images.train_labels, images.test_images, images.test_labels[:1])


def test_made_images_are_what_their_script_makes() -> None:
    """The committed small images load, and are those of the script beside them."""
    path = sources.ROOT / "tests" / "data" / "images-made.npz"
    arrays = runpy.run_path(str(path.with_name("make_images.py")))["make"]()
    images = cifar10.load_npz(path)
    other = [name for name, array in arrays.items() if not torch.equal(getattr(images, name), torch.from_numpy(array))]
    assert other == []


def test_images_that_cannot_be_are_refused() -> None:
    """Labels below 0, sides that differ between the sets, and images that are no squares."""
    images = make_images()
    parts = {name: getattr(images, name) for name in vars(images)}
    for changes, message in (
        ({"train_labels": images.train_labels - 1}, "train_labels must be class numbers from 0; the least is -1"),
        ({"test_labels": images.test_labels - 9}, "test_labels must be class numbers from 0"),
        (
            {"test_images": images.test_images[..., :1, :1]},
            r"squares of one side; .* are \(2, 2\) pixels, .* on \(1, 1\)",
        ),
        ({"train_images": images.train_images[..., :1]}, r"squares of one side; .* \(2, 1\)"),
        ({name: parts[name][..., :0, :0] for name in ("train_images", "test_images")}, "squares of one side"),
    ):
        with pytest.raises(ValueError, match=message):
            Images(**parts | changes)


def test_a_folder_that_lacks_a_batch_is_passed_over(
    made_batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one that is whole; alone it is refused."""
    named = tmp_path / "named"
    shutil.copytree(made_batches, named / "cifar10")
    shutil.copytree(made_batches / CIFAR10.base_folder, named / CIFAR10.base_folder)
    (named / CIFAR10.base_folder / PARTS[2]).unlink()
    monkeypatch.setenv("NAAPLIB_DATA", str(named))
    assert len(cifar10.load().train_images) == 10
    assert {path.parents[1] for path in cifar10.batches()} == {named / "cifar10"}
    shutil.rmtree(named / "cifar10")
    with pytest.raises(sources.WrongData, match="a file is missing"):
        cifar10.load(named)


def test_a_silent_server_is_given_up(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the connection and says nothing, and one that stops halfway; the next address is asked."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as stopping:

        def answer() -> None:
            connection, _ = stopping.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
            given_up.wait(20)
            connection.close()

        given_up = Event()
        Thread(target=answer, daemon=True).start()
        hosts = [f"http://127.0.0.1:{one.getsockname()[1]}" for one in (silent, stopping)]
        monkeypatch.setattr(cifar10, "ADDRESSES", tuple(f"{one}/right.tar.gz" for one in (*hosts, server)))
        folder = cifar10.fetch(tmp_path / "data", timeout=0.5)
        given_up.set()
    assert folder == tmp_path / "data" / CIFAR10.base_folder
