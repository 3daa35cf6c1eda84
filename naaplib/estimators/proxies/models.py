"""Models to rank, by name, as modules or as functions that build them."""

from __future__ import annotations

import difflib
import functools
import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType
from typing import Any

import torch
import torchvision
from torch import nn

from naaplib.training.image_folders import drawing

Source = str | nn.Module | Callable[[], nn.Module]
Models = str | nn.Module | Mapping[str, Source] | Iterable[Source]
WITHOUT_AUXILIARY = ("googlenet", "inception_v3")  # with auxiliary outputs, they return a tuple in training mode
PLAIN = (str, int, float, tuple, type(None))
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def named(models: Models) -> dict[str, Source]:
    """Give every model a name.

    Parameters
    ----------
    models : mapping, sequence, str, Module or callable
        A mapping from name to model, several models, or one. A model is a module, a function without arguments that
        returns one, or the name of a torchvision model. Without a mapping, a module is named by its class and a
        function by its name; the second of one name is "name-2".

    Returns
    -------
    dict from str to model

    Raises
    ------
    ValueError
        If there are none, or a name is not torchvision's.
    TypeError
        If something else is among them.

    Examples
    --------
    >>> list(named([nn.Linear(2, 2), nn.Linear(3, 2), "resnet18"]))
    ['Linear', 'Linear-2', 'resnet18']
    """
    if isinstance(models, Mapping):
        found = {str(name): source for name, source in models.items()}
    else:
        found = {}
        several = isinstance(models, Iterable) and not isinstance(models, str | nn.Module)
        for source in models if several else [models]:  # type: ignore[union-attr]
            name = _name(source)
            n_same = sum(re.sub(r"-\d+$", "", other) == name for other in found)
            found[f"{name}-{n_same + 1}" if n_same else name] = source
    if not found:
        raise ValueError("there are no models to rank: give a mapping from name to module, or names such as 'resnet18'")
    for name, source in found.items():
        if isinstance(source, str):
            _require_torchvision(source)
        elif not callable(source):
            raise TypeError(
                f"model {name!r} is a {type(source).__name__}; a model is a module, a function that returns one, or "
                f"the name of a torchvision model"
            )
    return found


def build(source: Source, *, seed: int = 0) -> nn.Module:
    """Build a model with weights drawn from a seed; return a module as it is.

    Auxiliary outputs of GoogLeNet and Inception are left out, because scores need one output.

    >>> build("squeezenet1_1", seed=1).__class__.__name__
    'SqueezeNet'
    """
    if isinstance(source, nn.Module):
        return source
    with drawing(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torchvision announces other initial weights
        if isinstance(source, str):
            changes: dict[str, Any] = {"aux_logits": False} if source in WITHOUT_AUXILIARY else {}
            return torchvision.models.get_model(source, weights=None, **changes)
        network = source()
    if not isinstance(network, nn.Module):
        raise TypeError(f"the function returned a {type(network).__name__}; it must return a torch.nn.Module")
    return network


def identity(source: Source) -> str:
    """Return a text that changes if a model does, without building it.

    It covers the structure, weights and buffers of a module, the name of a torchvision model, and for a function its
    code, name, and the arguments, defaults and plain variables that it is bound to, but not what it calls.

    >>> identity("resnet18"), identity(nn.ReLU()) == identity(nn.ReLU()) != identity(nn.SiLU())
    ('resnet18', True)
    """
    if isinstance(source, str):
        return source
    state = hashlib.sha256()
    for part in _parts(source):
        state.update(part if isinstance(part, bytes) else ADDRESS.sub("", part).encode())
    return state.hexdigest()[:16]


def _parts(source: object) -> Iterable[str | bytes]:
    if isinstance(source, nn.Module):
        yield repr(source)
        for name, tensor in source.state_dict().items():
            yield name
            if isinstance(tensor, torch.Tensor) and not nn.parameter.is_lazy(tensor):
                whole = tensor.detach().cpu().contiguous()
                yield whole.reshape(-1).view(torch.uint8).numpy().tobytes() if whole.numel() else ""
    elif isinstance(source, functools.partial):
        yield from _parts(source.func)
        for value in (*source.args, *sorted(source.keywords.items())):
            yield from _parts(value)
    elif isinstance(code := getattr(source, "__code__", None), CodeType):
        yield str(getattr(source, "__qualname__", ""))
        yield from _of_code(code)
        cells = [cell.cell_contents for cell in getattr(source, "__closure__", None) or ()]
        named = getattr(source, "__kwdefaults__", None) or {}
        for value in (*(getattr(source, "__defaults__", None) or ()), *(named[name] for name in sorted(named)), *cells):
            is_fixed = callable(value) or isinstance(value, PLAIN)
            yield from _parts(value) if is_fixed else [type(value).__name__]  # a list may change from call to call
    else:
        yield repr(source)


def _of_code(code: CodeType) -> Iterable[str | bytes]:
    yield code.co_code
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        else:
            yield repr(constant)


def _name(source: object) -> str:
    if isinstance(source, str):
        return source
    if isinstance(source, nn.Module):
        return type(source).__name__
    inner = source.func if isinstance(source, functools.partial) else source
    return str(getattr(inner, "__name__", type(source).__name__))


def _require_torchvision(name: str) -> None:
    known: Sequence[str] = torchvision.models.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(
            f"torchvision {torchvision.__version__} has no model {name!r}; {hint}torchvision.models.list_models() "
            f"lists them. Build others yourself: a mapping from name to module, or to a function that returns one"
        )
