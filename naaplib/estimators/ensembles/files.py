"""Files of deep ensembles that are safe to open: arrays of numbers and JSON."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from naaplib.cache import writing
from naaplib.estimators.ensembles.ensemble import DeepEnsemble, Design

VERSION = 1
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def save(ensemble: DeepEnsemble, path: str | Path, *, told: object = None) -> None:
    """Write features, design, seeds and initial weights; not the fitted weights.

    Parameters
    ----------
    ensemble : DeepEnsemble
    path : path
        Path of one file in numpy's format .npz, without pickled objects. It gets this name when it is complete.
    told : object that JSON can hold
        Metadata, such as the origin of the features.
    """
    header = {"version": VERSION, "seeds": ensemble.seeds, "is_pretrained": ensemble.is_pretrained, "told": told}
    header |= {"dtype": str(ensemble.dtype).removeprefix("torch."), "design": asdict(ensemble.design)}
    arrays: dict[str, Any] = {f"weights_{i}": part.numpy() for i, part in enumerate(ensemble.weights)}
    with writing(Path(path)) as stream:
        np.savez_compressed(stream, header=np.array(json.dumps(header)), features=ensemble.features.numpy(), **arrays)


def load(path: str | Path) -> tuple[DeepEnsemble, Any]:
    """Read an ensemble that `save` wrote, and its metadata; execute nothing.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, has another format or version, holds pickled objects, or has shapes or numbers that do
        not fit its design; the message names the reason.
    """
    header, arrays = _read(Path(path))
    try:
        design = Design(tuple(header["design"]["widths"]), header["design"]["n_fidelities"])
        seeds, dtype, features = list(header["seeds"]), _DTYPES[header["dtype"]], arrays.pop("features")
        sizes = [features.shape[1], *design.widths, design.n_fidelities]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{path} does not describe an ensemble: {error!r}") from None
    shapes = [(len(seeds), n, c_out) for c_in, c_out in pairwise(sizes) for n in (c_in, 1)]
    for name, shape in zip([f"weights_{i}" for i in range(len(shapes))], shapes, strict=True):
        found = arrays.get(name, np.empty(0))
        if found.shape != shape or found.dtype != header["dtype"] or not np.isfinite(found).all():
            raise ValueError(
                f"{path}: {name} must be finite {header['dtype']} of shape {shape}; what is there is {found.dtype} of "
                f"shape {found.shape}"
            )
    if len(arrays) > len(shapes):
        raise ValueError(f"{path} holds {len(arrays)} arrays of weights; its design has {len(shapes)}")
    try:
        ensemble = DeepEnsemble(features, seeds, design=design, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe an ensemble: {error}") from None
    ensemble.weights = [torch.from_numpy(arrays[f"weights_{i}"]) for i in range(len(shapes))]
    ensemble.is_pretrained = bool(header.get("is_pretrained"))
    return ensemble, header.get("told")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read header and arrays of a file."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, MemoryError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not read: it is damaged, no .npz file, or holds pickled objects, which are refused ({error})"
        ) from None
    try:
        header = json.loads(str(arrays.pop("header")[()]))
        version = header["version"]
    except (KeyError, TypeError, IndexError, ValueError):
        raise ValueError(f"{path} has no header that can be read; save writes one") from None
    if version != VERSION:
        raise ValueError(f"{path} is of version {version!r}; this library reads version {VERSION}")
    return header, arrays
