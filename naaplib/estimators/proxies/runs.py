"""Score many networks with repeated draws of weights and images, and resume."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import Tensor, nn
from tqdm import tqdm

from naaplib.architectures.scheme_networks import initialise
from naaplib.cache import write_text
from naaplib.estimators.proxies import scores as proxies
from naaplib.parallel import bar_disabled, one_thread
from naaplib.training.cifar10 import Images, normalise
from naaplib.training.devices import resolve

# Name of a score -> function of (network, images, labels, mode), and number of images in its source.
SCORES: dict[str, tuple[Callable[[nn.Module, Tensor, Tensor, str], proxies.Score], int]] = {
    "n_params": (lambda network, x, y, mode: proxies.n_parameters(network), 1),
    "macs": (lambda network, x, y, mode: proxies.macs(network, x), 1),
    "depth": (lambda network, x, y, mode: proxies.depth(network, x), 1),
    "relu_count": (lambda network, x, y, mode: proxies.relu_count(network, x), 128),
    "nas_wot": (lambda network, x, y, mode: proxies.nas_wot(network, x, mode=mode), 128),
    "epe_nas": (lambda network, x, y, mode: proxies.epe_nas(network, x, labels=y, mode=mode), 256),
    "jacobian_covariance": (lambda network, x, y, mode: proxies.jacobian_covariance(network, x, mode=mode), 128),
    "gradient_norm": (lambda network, x, y, mode: proxies.gradient_norm(network, x, labels=y, mode=mode), 128),
    "snip": (lambda network, x, y, mode: proxies.snip(network, x, labels=y, mode=mode), 128),
    "synflow": (lambda network, x, y, mode: proxies.synflow(network, x), 1),
    "linear_regions": (lambda network, x, y, mode: proxies.linear_regions(network, _centre(x), mode=mode), 1_000),
    "ntk_condition": (lambda network, x, y, mode: proxies.ntk_condition(network, x, mode=mode), 32),
}
CPU = torch.device("cpu")
SOURCES = ("images", "noise")
INITIALISATIONS = ("own", "torch", "recipe")
PIECE = 10  # networks per cache file
N_DIGITS = 10  # significant digits of a value
N_DECIMALS = 6  # decimals of seconds
COLUMNS = ["architecture", "condition", "repeat", "score", "value", "reason", "seconds", "build_seconds"]


@dataclass(frozen=True)
class Setting:
    """Conditions under which all networks are scored once.

    Parameters
    ----------
    condition : str
        Name of the condition; settings that share it differ in `repeat`.
    repeat : int
    weights_seed, images_seed : int
        Seeds of the initial weights, and of the images and their order, the same for all networks.
    source : {"images", "noise"}
        Training images without augmentation; or normal noise with labels of such images.
    n_images : int
        Batch size; 0 takes each score's own number. Smaller batches are the first images of larger ones.
    mode : {"train", "eval"}
    initialisation : {"own", "torch", "recipe"}
        Weights as the network's maker draws them, torch's defaults, or the recipe's Kaiming normal by fan-out.
    """

    condition: str = "default"
    repeat: int = 1
    weights_seed: int = 1
    images_seed: int = 1
    source: str = "images"
    n_images: int = 0
    mode: str = "train"
    initialisation: str = "own"

    def __post_init__(self) -> None:
        if self.source not in SOURCES or self.initialisation not in INITIALISATIONS or self.n_images < 0:
            raise ValueError(
                f"{self}: source is one of {SOURCES}, initialisation one of {INITIALISATIONS}, n_images >= 0"
            )


def repeated(condition: str, n_repeats: int, *, first_seed: int, **fixed: Any) -> list[Setting]:
    """List the settings of one condition; seeds increase except for `fixed` ones."""
    return [
        Setting(condition, i + 1, **({"weights_seed": first_seed + i, "images_seed": first_seed + i} | fixed))
        for i in range(n_repeats)
    ]


@dataclass(frozen=True)
class Plan:
    """Networks, scores and settings of a scoring run.

    Parameters
    ----------
    networks : mapping from name to callable
        Functions without arguments that make a network, from torch's current generator. They must be picklable, such as
        a `functools.partial` of a module's function.
    scores : sequence of str
        Keys of `SCORES`.
    settings : sequence of Setting
    n_images : mapping from score to int
        Number of images of a score, if it differs from its source's number.
    """

    networks: Mapping[str | int, Callable[[], nn.Module]]
    scores: Sequence[str]
    settings: Sequence[Setting] = (Setting(),)
    n_images: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.networks or not self.scores or not self.settings:
            raise ValueError("a plan has at least one network, one score and one setting")
        if unknown := sorted({*self.scores, *self.n_images} - set(SCORES)):
            raise ValueError(f"unknown scores {unknown}; there are {list(SCORES)}")
        marks = [(setting.condition, setting.repeat) for setting in self.settings]
        if len(set(marks)) < len(marks):
            raise ValueError(f"two settings share condition and repeat: {marks}")

    def size(self, score: str, setting: Setting) -> int:
        """Number of images that a score takes under a setting."""
        return setting.n_images or self.n_images.get(score, SCORES[score][1])


def score_networks(
    plan: Plan, images: Images, *, folder: Path | None = None, n_jobs: int = 1, device: str = "cpu"
) -> pd.DataFrame:
    """Compute every score of every network under every setting.

    A run that was stopped or killed resumes when it is called again. Results, apart from seconds, do not depend on the
    number of jobs.

    Parameters
    ----------
    plan : Plan
    images : Images
        Images, of which the training images are used.
    folder : Path, optional
        Folder of the cache; None caches nothing. Cached scores are keyed by network name; use one folder per search
        space.
    n_jobs : int
        Number of processes, with one thread each.
    device : str
        Device of the networks, as `naaplib.training.devices.resolve` takes it. Weights, images and noise are drawn on
        the CPU, so that they are the same everywhere; scores differ by rounding. Each device has its own cached scores.

    Returns
    -------
    DataFrame
        Columns architecture, condition, repeat, score, value (higher is better; NaN if there is no score), reason (for
        NaN, else ""), seconds (of the score), build_seconds (of making and initialising the network); in the order of
        networks, settings, scores.

    Raises
    ------
    ValueError
        If there are fewer images than a score takes, or there is no such device.
    """
    device = str(resolve(device))
    batches = [
        draw(images, setting, n_images=max(plan.size(score, setting) for score in plan.scores))
        for setting in plan.settings
    ]
    mark = hashlib.sha256(
        json.dumps([describe(plan, device), [_digest(part) for batch in batches for part in batch]]).encode()
    )
    names = list(plan.networks)
    pieces = [names[start : start + PIECE] for start in range(0, len(names), PIECE)]
    parallel = Parallel(n_jobs=n_jobs, pre_dispatch="n_jobs", batch_size=1, return_as="generator")
    tasks = (
        delayed(_piece)(plan, piece, batches=batches, folder=folder, mark=mark.hexdigest()[:16], device=device)
        for piece in pieces
    )
    bar = tqdm(parallel(tasks), total=len(pieces), desc=f"{len(names)} networks", unit="piece", disable=bar_disabled())
    return pd.concat(list(bar), ignore_index=True)


def draw(images: Images, setting: Setting, *, n_images: int) -> tuple[Tensor, Tensor]:
    """Draw a setting's first `n_images` images (n_images, 3, side, side), and labels."""
    n_train = len(images.train_images)
    if n_images > n_train:
        raise ValueError(f"a batch of {n_images} images was asked for; there are {n_train} to train on")
    generator = torch.Generator().manual_seed(setting.images_seed)
    order = torch.randperm(n_train, generator=generator, device="cpu")[:n_images]  # whatever torch's default is
    x, labels = normalise(images.train_images[order]), images.train_labels[order]
    if setting.source == "noise":
        x = torch.stack([torch.randn(x.shape[1:], generator=generator, device="cpu") for _ in order])
    return x, labels


def build(make: Callable[[], nn.Module], setting: Setting) -> nn.Module:
    """Build a network with a setting's initial weights; restore torch's generator."""
    with _seeded(setting.weights_seed):
        network = make()
        if setting.initialisation == "recipe":
            initialise(network)
        if setting.initialisation == "torch":
            for module in network.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
    return network


def describe(plan: Plan, device: str = "cpu") -> dict[str, object]:
    """Describe a plan by the settings that determine its scores."""
    sizes = {score: [plan.size(score, setting) for setting in plan.settings] for score in plan.scores}
    settings: list[object] = [asdict(setting) for setting in plan.settings]
    elsewhere = [] if torch.device(device).type == "cpu" else [torch.device(device).type]
    return {
        "n_networks": len(plan.networks),
        "networks": _digest([str(name) for name in plan.networks]),
        "scores": " ".join(plan.scores),
        "settings": _digest(settings + elsewhere),
        "images": _digest(sizes),
    }


def _piece(
    plan: Plan,
    names: Sequence[str | int],
    batches: Sequence[tuple[Tensor, Tensor]],
    folder: Path | None,
    mark: str,
    device: str,
) -> pd.DataFrame:
    """Score a few networks, or read their cache file."""
    path = folder / f"{mark}-{_digest([str(name) for name in names])}.csv" if folder else None
    if path and path.is_file():
        found = _read(path)
        found["architecture"] = [name for name in names for _ in range(len(found) // len(names))]
        return found
    with one_thread():
        placed = [(x.to(device), labels.to(device)) for x, labels in batches]
        rows = [row for name in names for row in _score(plan, name, placed)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    if path:
        write_text(path, table.to_csv(index=False))
    return table


@contextmanager
def _seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Seed torch's generators inside the context; restore them afterwards."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _score(plan: Plan, name: str | int, batches: Sequence[tuple[Tensor, Tensor]]) -> list[list[object]]:
    rows = []
    for setting, (x, labels) in zip(plan.settings, batches, strict=True):
        start = time.perf_counter()
        network = build(plan.networks[name], setting).to(x.device)
        build_seconds = time.perf_counter() - start
        for score in plan.scores:
            n_images = plan.size(score, setting)
            start = time.perf_counter()
            with _seeded(setting.weights_seed, x.device):  # dropout draws from it
                result = SCORES[score][0](network, x[:n_images], labels[:n_images], setting.mode)
            seconds = time.perf_counter() - start
            value = float(f"{result.value:.{N_DIGITS}g}")  # rounded as in the file
            times = [round(seconds, N_DECIMALS), round(build_seconds, N_DECIMALS)]
            told = [setting.condition, setting.repeat, score, value, result.reason, *times]
            rows.append([name, *told])
    return rows


def _read(path: Path) -> pd.DataFrame:
    texts = dict.fromkeys(("architecture", "condition", "score", "reason"), str)
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values={"value": [""]})


def _centre(x: Tensor) -> Tensor:
    """Cut the middle 3 x 3 pixels out of each image."""
    row, column = (side // 2 - 1 for side in x.shape[-2:])
    return x[..., row : row + 3, column : column + 3]


def _digest(value: object) -> str:
    data = value.cpu().numpy().tobytes() if isinstance(value, Tensor) else json.dumps(value).encode()
    return hashlib.sha256(data).hexdigest()[:16]
