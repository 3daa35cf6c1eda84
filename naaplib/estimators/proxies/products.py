"""Products of a network with its weights: their number, and SynFlow through them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

# Layers with a weight -> position of the weight among the arguments.
LAYERS: dict[Callable[..., Any], int] = {
    functional.linear: 1, functional.bilinear: 2,
    functional.conv1d: 1, functional.conv2d: 1, functional.conv3d: 1,
    functional.conv_transpose1d: 1, functional.conv_transpose2d: 1, functional.conv_transpose3d: 1,
}  # fmt: skip
# Products of any two tensors, and layers with several weights; a weight here is any tensor computed from weights alone.
OTHERS = frozenset({
    torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm,
    torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm, torch.einsum, torch.tensordot,
    torch.linalg.matmul, torch.linalg.multi_dot, torch.inner, Tensor.inner,
    functional.multi_head_attention_forward, torch.rnn_tanh, torch.rnn_relu, torch.gru, torch.lstm,
    torch.rnn_tanh_cell, torch.rnn_relu_cell, torch.gru_cell, torch.lstm_cell,
})  # fmt: skip
NORMS = frozenset({
    functional.batch_norm, functional.group_norm, functional.instance_norm, functional.layer_norm, functional.rms_norm,
    functional.local_response_norm, torch.batch_norm, torch.group_norm, torch.instance_norm, torch.layer_norm,
    torch.rms_norm,
})  # fmt: skip
NORM = re.compile(r"Norm(\dd)?$")  # end of the class name of normalising modules
CASTS = frozenset({Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.to, Tensor.type, Tensor.type_as})
HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)  # these compute a weight before each pass


class Watch(TorchFunctionMode):
    """Track the tensors computed from a network's weights and buffers alone.

    All calls of torch's functions in the context pass through `call`. Scripted code makes no such calls.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._owned = {id(buffer): buffer for buffer in network.buffers()}  # stored, so that an id is not reused

    def owns(self, tensor: Tensor) -> bool:
        """Return True if the tensor does not depend on an image."""
        return isinstance(tensor, nn.Parameter) or id(tensor) in self._owned

    def call(self, func: Callable[..., Any], args: Sequence[Any], *, kwargs: dict[str, Any]) -> Any:
        """Call the function; subclasses override it."""
        return func(*args, **kwargs)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        owned = bool(given) and all(map(self.owns, given))
        output = self.call(func, args, kwargs=kwargs)
        for tensor in _tensors(args[0] if func is Tensor.__setitem__ else output):
            if owned:
                self._owned[id(tensor)] = tensor
            else:
                self._owned.pop(id(tensor), None)
        return output


class Products(Watch):
    """Record the weights of products in the order of calls, repeated ones again."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.weights: list[Tensor] = []

    def call(self, func: Callable[..., Any], args: Sequence[Any], *, kwargs: dict[str, Any]) -> Any:
        if func in LAYERS:
            self.weights.append(args[LAYERS[func]] if len(args) > LAYERS[func] else kwargs["weight"])
        elif func in OTHERS:
            given = list(_tensors((args, kwargs)))
            if not all(map(self.owns, given)):  # otherwise, this product makes a weight
                self.weights += [one for one in given if one.ndim >= 2 and self.owns(one)]
        return func(*args, **kwargs)


class _Flow(Products):
    """Skip normalisation, use double precision and absolute computed weights."""

    def call(self, func: Callable[..., Any], args: Sequence[Any], *, kwargs: dict[str, Any]) -> Any:
        if func in NORMS:
            return (args[0] if args else kwargs["input"]).clone()  # a copy, because a ReLU may follow in place
        if func in CASTS and args[0].dtype == torch.float64:
            moved = func(*args, **kwargs)
            return args[0].to(moved.device) if moved.is_floating_point() else moved
        if func in LAYERS or func in OTHERS:
            args, kwargs = _each(_double, args), _each(_double, kwargs)
            if func in LAYERS and len(args) > (place := LAYERS[func]):
                args = (*args[:place], _absolute(args[place]), *args[place + 1 :])
            elif func in LAYERS:
                kwargs = kwargs | {"weight": _absolute(kwargs["weight"])}
        return super().call(func, args, kwargs=kwargs)


def trained(network: nn.Module, weights: Sequence[Tensor]) -> list[Tensor]:
    """Select the trainable weights, each once, in the network's order.

    Computed weights come last.
    """
    order = {id(parameter): i for i, parameter in enumerate(network.parameters())}
    found = {id(weight): weight for weight in weights if weight.requires_grad}
    return sorted(found.values(), key=lambda weight: order.get(id(weight), len(order)))


def count(network: nn.Module, image: Tensor) -> tuple[float, int]:
    """Count the multiply-accumulates of one pass, and the uses of weights in it.

    Parameters
    ----------
    network : Module
    image : Tensor, shape (1, ...)

    Returns
    -------
    macs : float
        Operations that torch's counter knows: convolutions and matrix products, also in attention and recurrent layers.
        Biases, sums and products with vectors are free.
    n_layers : int
        Number of multiplications by a weight: one for a convolution or linear layer, two for attention, two for each
        layer and direction of a recurrent module.
    """
    # Attention and recurrence are decomposed: torch's counter does not know all of their fused versions.
    flops, products = FlopCounterMode(display=False), Products(network)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _spelled_out(network), flops, products:
        network(image)
    return flops.get_total_flops() / 2, len(products.weights)


def flow(network: nn.Module, image: Tensor) -> tuple[object, list[Tensor]]:
    """Compute SynFlow's output of the network, and its weights, all positive.

    Parameters
    ----------
    network : Module
        Network, which is copied. In the copy, parameters are absolute values, and norms return their inputs.
    image : Tensor of float64, shape (1, ...)

    Returns
    -------
    output : object
        Output of the copy, with the graph for its gradients.
    weights : list of Tensor of float64
        Trainable weights.

    Raises
    ------
    ValueError
        As in `copied`.
    """
    with torch.no_grad():  # otherwise, weights of a scripted copy depend on the original's
        positive = copied(network).double()
    for module in positive.modules():
        _settle(module)
        if NORM.search(type(module).__name__) and not list(module.children()):
            module.register_forward_hook(lambda module, inputs, output: inputs[0].clone())
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
    with torch.enable_grad(), _Flow(positive) as products:
        output = positive(image)
    return output, trained(positive, products.weights)


def copied(network: nn.Module) -> nn.Module:
    """Make a deep copy of a network, also if it computes weights.

    Weight normalisation and pruning compute weights.

    Raises
    ------
    ValueError
        If a lazy module has no weights yet.
    """
    check_built(network)
    held = [value for module in network.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return copy.deepcopy(network, {id(value): value.detach().clone() for value in held if not value.is_leaf})


def check_built(network: nn.Module) -> None:
    """Raise ValueError if a lazy module has no weights yet."""
    if lazy := [name for name, parameter in network.named_parameters() if is_lazy(parameter)]:
        raise ValueError(f"the network's {lazy[0]} is lazy and has no values yet: call the network on a batch first")


@contextmanager
def _spelled_out(network: nn.Module) -> Iterator[None]:
    """Run recurrent layers without fused library calls inside the context."""
    libraries: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.mkldnn)
    before = [library.enabled for library in libraries]
    try:
        if any(isinstance(module, nn.RNNBase) for module in network.modules()):
            for library in libraries:
                library.enabled = False
        yield
    finally:
        for library, enabled in zip(libraries, before, strict=True):
            library.enabled = enabled


def _settle(module: nn.Module) -> None:
    """Replace a module's computed weights by plain parameters."""
    if parametrize.is_parametrized(module):
        with torch.enable_grad():
            values = {name: getattr(module, name) for name in module.parametrizations}  # type: ignore[union-attr]
        # torch's own removal would edit a class that the copy shares with its original.
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value.detach(), value.requires_grad))
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, HOOKS):
            hook.remove(module)
            del module._forward_pre_hooks[key]


def _absolute(weight: Tensor) -> Tensor:
    return weight if isinstance(weight, nn.Parameter) else weight.abs()


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _tensors(value: Any) -> Iterator[Tensor]:
    """List all tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)


def _each(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply a function to each tensor in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: _each(function, one) for name, one in value.items()}
    return type(value)(_each(function, one) for one in value) if type(value) in (tuple, list) else value
