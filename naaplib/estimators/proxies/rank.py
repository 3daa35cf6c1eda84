"""Rank any set of models by zero-cost proxies, parameters or multiply-accumulates."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import math
import time
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from tqdm import tqdm

from naaplib.cache import write_text
from naaplib.estimators.proxies.gradients import as_tensor, undisturbed
from naaplib.estimators.proxies.models import Models, Source, build, identity, named
from naaplib.estimators.proxies.runs import SCORES
from naaplib.parallel import bar_disabled
from naaplib.training import image_folders
from naaplib.training.checkpoints import claim_file
from naaplib.training.devices import resolve
from naaplib.training.image_folders import drawing

DEFAULT = ("synflow", "nas_wot", "macs", "n_params")
N_IMAGES, IMAGE_SIDE = 16, 224
COLUMNS = ["rank", "model", "by", "score", "seconds", "reason"]
FORMAT = "naaplib ranking"
LONGEST_REASON = 300  # characters

LABELLED = ("epe_nas", "gradient_norm", "snip")  # scores that use labels

Rows = dict[str, tuple[float, float, str]]  # score -> value, seconds, reason


def rank(
    models: Models,
    images: ArrayLike | Tensor | str | Path | None = None,
    *,
    labels: ArrayLike | Tensor | None = None,
    by: str | Sequence[str] = DEFAULT,
    seed: int = 0,
    device: str | None = None,
    mode: str = "train",
    n_images: int = N_IMAGES,
    image_side: int = IMAGE_SIDE,
    storage: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Rank models by zero-cost proxies, parameters or multiply-accumulates.

    No model is trained, and none is changed. A score that a model does not have is missing, with the reason, and the
    other scores and models go on. Functions and names are built one at a time, so that memory does not grow with their
    number.

    Parameters
    ----------
    models : mapping from name to model, or sequence of models
        A model is a `torch.nn.Module`, a function without arguments that returns one, or the name of a torchvision
        model, such as "resnet18". See `naaplib.estimators.proxies.models.named`.
    images : Tensor or array, shape (n_images, ...), or path, optional
        One batch in floating point, as the models take it; or a folder of images, as
        `naaplib.training.image_folders.read_batch` takes it. By default, noise of 3 x `image_side` x `image_side`.
    labels : array_like of int, shape (n_images,), optional
        Class numbers. If a score needs them and they are missing, they are drawn at random.
    by : sequence of str, or str
        Scores: n_params, macs, depth, relu_count, nas_wot, epe_nas, jacobian_covariance, gradient_norm, snip, synflow,
        linear_regions, ntk_condition; in a text, separated by commas. Higher is better in all of them. A score uses at
        most as many images as its source does.
    seed : int
        Seed of initial weights, noise, labels and dropout; the same for all models.
    device : str, optional
        Device to score on, such as "cuda" or "auto"; a module elsewhere is copied. By default, a module stays where it
        is.
    mode : {"train", "eval"}
        Mode of the models in the scores that have a choice.
    n_images, image_side : int
        Number of images and their side in pixels, if `images` is a folder or missing.
    storage : path, optional
        File with one line for each finished model, from which a stopped or killed call goes on. A model is found there
        by its name; one whose code or weights differ is refused. One process at a time writes to it.
    progress : bool
        True shows a progress bar on a terminal.

    Returns
    -------
    DataFrame
        One row per score and model, best first: rank (from 1; equal scores share one; missing without a score), model,
        by, score (NaN without one), seconds, reason ("" with a score).

    Raises
    ------
    ValueError
        If there are no models, a name is not torchvision's, a score is unknown, `storage` is of another ranking, there
        is no such device, or the seed is below 0.
    naaplib.training.checkpoints.FolderInUse
        If another process ranks into `storage`.
    FileNotFoundError
        If a folder of images is missing or empty.

    Examples
    --------
    >>> from torch import nn
    >>> models = {str(width): nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU()) for width in (8, 16)}
    >>> rank(models, torch.randn(4, 3, 8, 8), by="macs")[["rank", "model", "score"]].to_numpy().tolist()
    [[1, '16', 15552.0], [2, '8', 7776.0]]

    ``rank(["resnet18", "mobilenet_v3_small"])`` ranks two of torchvision's.
    """
    if device is not None:
        device = str(resolve(device))
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be a whole number, 0 or more")
    sources = named(models)
    wanted = scores_of(by)
    x, labels = _batch(images, labels, n_images=n_images, image_side=image_side, seed=seed)
    told = {"seed": seed, "mode": mode, "device": device, "images": _digest(x), "labels": _digest(labels)}
    path = None if storage is None else Path(storage).expanduser()
    tables: dict[str, Rows] = {}
    with nullcontext() if path is None else claim_file(path, "ranking"):
        found = {} if path is None else _read(path, told, sources)
        bar = tqdm(sources.items(), "rank", unit="model", disable=bar_disabled() if progress else True)
        for name, source in bar:
            bar.set_postfix_str(name)
            known = {score: row for score, row in found.get(name, {}).items() if score in wanted}
            if missing := [score for score in wanted if score not in known]:
                fresh = _score(source, missing, x=x, labels=labels, seed=seed, device=device, mode=mode)
                if path is not None:
                    _append(path, {"model": name, "identity": identity(source), "scores": _plain(fresh)})
                known |= fresh
            tables[name] = known
    rows = [(name, score, *tables[name][score]) for score in wanted for name in sources]
    table = pd.DataFrame(rows, columns=["model", "by", "score", "seconds", "reason"])
    table.insert(0, "rank", table.groupby("by")["score"].rank(ascending=False, method="min").astype("Int64"))
    order = table["by"].map({score: place for place, score in enumerate(wanted)})
    table = table.assign(order=order).sort_values(["order", "rank"], kind="stable")
    return table[COLUMNS].reset_index(drop=True)


def scores_of(by: str | Sequence[str]) -> list[str]:
    """List the names of scores in a text or sequence; ValueError for others.

    >>> scores_of("synflow, macs")
    ['synflow', 'macs']
    """
    names = [name.strip() for name in by.split(",")] if isinstance(by, str) else list(by)
    if not names or (unknown := [name for name in names if name not in SCORES]):
        raise ValueError(f"there is no score {', '.join(unknown) if names else ''}; there are: {', '.join(SCORES)}")
    return list(dict.fromkeys(names))


def _batch(images: Any, labels: Any, n_images: int, image_side: int, seed: int) -> tuple[Tensor, Tensor | None]:
    if images is None:
        images = image_folders.noise(n_images, image_side=image_side, seed=seed)
    elif isinstance(images, str | Path):
        images, of_folder, _ = image_folders.read_batch(images, n_images, image_side=image_side, seed=seed)
        labels = of_folder if labels is None else labels
    x = torch.as_tensor(images)
    if x.ndim < 2 or not len(x) or not x.is_floating_point():
        raise ValueError(
            f"images have shape {tuple(x.shape)} and type {x.dtype}; they must be one batch, (n_images, ...), in "
            f"floating point"
        )
    if labels is not None:
        labels = torch.as_tensor(labels)
        if labels.shape != x.shape[:1] or labels.is_floating_point():
            raise ValueError(f"labels must be {len(x)} class numbers, one an image, not {tuple(labels.shape)}")
    return x, labels


def _score(
    source: Source, scores: Sequence[str], x: Tensor, labels: Tensor | None, seed: int, device: str | None, mode: str
) -> Rows:
    """Score one model; build it before, and let go of it afterwards."""
    start = time.perf_counter()
    try:
        network = build(source, seed=seed)
        if device is not None:
            network = (copy.deepcopy(network) if network is source else network).to(device)
        weight = next((one for one in network.parameters() if one.is_floating_point()), x)
        x = x.to(device=weight.device, dtype=weight.dtype)
    except Exception as error:  # a model of the user's may fail in any way; the others go on
        return dict.fromkeys(scores, (math.nan, time.perf_counter() - start, _reason(error)))
    rows = {name: _one(name, network, x=x, labels=labels, seed=seed, mode=mode) for name in scores}
    if network is not source:
        alive = weakref.ref(network)
        del network
        if alive() is not None:
            gc.collect()  # a network that refers to itself would wait for the next collection
    return rows


def _one(
    name: str, network: nn.Module, x: Tensor, labels: Tensor | None, seed: int, mode: str
) -> tuple[float, float, str]:
    function, n_images = SCORES[name]
    start = time.perf_counter()
    try:
        with drawing(seed, device=x.device):
            classes = _labels(network, x, seed) if labels is None and name in LABELLED else labels
            few = torch.zeros(0) if classes is None else classes[:n_images].to(x.device)
            result = function(network, x[:n_images], few, mode)
        value, reason = result.value, result.reason
        if value == 0 and name in ("snip", "gradient_norm"):
            value, reason = math.nan, "all gradients are 0, as behind a last layer whose weights start at 0"
    except Exception as error:
        value, reason = math.nan, _reason(error)
    return value, time.perf_counter() - start, reason


def _labels(network: nn.Module, x: Tensor, seed: int) -> Tensor:
    """Draw class numbers for the images, as many classes as the network has outputs."""
    with torch.no_grad():
        output = as_tensor(undisturbed(lambda model, image: model(image), network, images=x[:1], mode="eval"))
    n_classes = output.shape[1] if output.ndim == 2 else 2
    return torch.randint(n_classes, (len(x),), generator=torch.Generator().manual_seed(seed))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# Storage


def _read(path: Path, told: dict[str, Any], sources: dict[str, Source]) -> dict[str, Rows]:
    """Read the scores of finished models, or begin a file; drop an incomplete last line."""
    header = {FORMAT: 1, **told}
    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    begun = f'{{"{FORMAT}": 1'
    if not whole and begun.startswith(text[: len(begun)]):
        write_text(path, json.dumps(header) + "\n")
        return {}
    try:
        first, *entries = [json.loads(line) for line in whole.splitlines()]
        before = {name: first[name] for name in header}
        stored = [(entry["model"], entry["identity"], dict(entry["scores"])) for entry in entries]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a file of a ranking. It is left as it is; name another storage") from None
    if differ := [name for name in header if before[name] != header[name]]:
        raise ValueError(
            f"{path} is of a ranking with other {', '.join(differ)}: name another storage, or remove it to start again"
        )
    if len(whole) < len(text):
        write_text(path, whole)
    found: dict[str, Rows] = {}
    for name, owner, scores in stored:
        if name in sources and owner != identity(sources[name]):
            raise ValueError(
                f"{path} has scores of another model {name!r}, with other code or weights: give this one another "
                f"name, or name another storage"
            )
        rows = {score: (math.nan if row[0] is None else row[0], row[1], row[2]) for score, row in scores.items()}
        found[name] = found.get(name, {}) | rows
    return found


def _append(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")


def _plain(rows: Rows) -> dict[str, list[Any]]:
    """JSON has no NaN."""
    return {name: [None if math.isnan(value) else value, *rest] for name, (value, *rest) in rows.items()}


def _digest(values: Tensor | None) -> str:
    return "" if values is None else hashlib.sha256(values.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
