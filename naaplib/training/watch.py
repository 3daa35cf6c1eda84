"""Record the features of a network in any training loop, by a forward hook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from naaplib.training.single import TEST_BATCH


def whole_numbers(values: Tensor | NDArray | Sequence[int], name: str) -> Tensor:
    """Convert values to int64, shape (n,); raise ValueError, with `name`, otherwise."""
    array = None if isinstance(values, Tensor) else np.array(values)
    if array is not None and array.dtype.kind not in "biufc":  # text, or what numpy takes for objects
        raise ValueError(f"{name} must be whole numbers of shape (n,), one an image; they are {array.dtype}")
    given = values if isinstance(values, Tensor) else torch.as_tensor(array, device="cpu")
    if given.ndim != 1 or given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise ValueError(
            f"{name} must be whole numbers of shape (n,), one an image; they are {given.dtype} of shape "
            f"{(*given.shape,)}"
        )
    return given.long()


def check_classes(labels: Tensor, n_classes: int, *, name: str) -> None:
    """Raise ValueError, with `name`, unless all labels are below `n_classes`."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(
            f"{name} are from {int(labels.min())} to {int(labels.max())}; the model has {n_classes} outputs, so that "
            f"they must be from 0 to {n_classes - 1}"
        )


@contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """Use evaluation mode without gradients inside the context; restore all modes."""
    modes = [(each, each.training) for each in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for each, mode in modes:
            each.training = mode


class Watch:
    """Record the inputs of a model's last linear layer in any training loop.

    The layer is found in the first forward pass: its output is the model's output. It records forward passes in
    training mode with gradients, and no others.

    Parameters
    ----------
    model : Module
        Any model that ends in an ``nn.Linear`` applied to (n, width).
    labels : Tensor of int64, or array or list of int, shape (n_train,)
        Class numbers from 0 of all training images, in the order of the rows.
    images : Tensor, shape (n_train, ...), optional
        Inputs of the model for all training images; needed only for histories of frozen features.

    Examples
    --------
    >>> from naaplib.training.feature_history import FeatureHistory
    >>> images, labels = torch.rand(20, 3, 4, 4), torch.arange(20) % 2
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
    >>> history = FeatureHistory({"held out": (images[16:], labels[16:])})
    >>> with Watch(model, labels[:16]) as watch:
    ...     for epoch in range(1, 4):
    ...         for rows in torch.randperm(16).split(5):
    ...             loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
    ...             watch.keep(rows)
    ...             optimizer.zero_grad()
    ...             loss.backward()
    ...             optimizer.step()
    ...         history.take(epoch, watch)
    >>> history.epochs, history[3].train.shape
    ([1, 2, 3], torch.Size([1, 16, 6]))
    """

    def __init__(
        self, model: nn.Module, labels: Tensor | NDArray | Sequence[int], *, images: Tensor | None = None
    ) -> None:
        self._linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not self._linears:
            raise ValueError(f"{type(model).__name__} has no nn.Linear; only models that end in one can be watched")
        self.model, self.labels, self._images = model, whole_numbers(labels, "the training labels"), images
        if images is not None and len(images) != len(self.labels):
            raise ValueError(f"{len(images)} training images have {len(self.labels)} labels; give one label an image")
        self._hooks: list[RemovableHandle] = []
        self._calls: list[tuple[nn.Linear, Tensor, Tensor]] = []  # in a forward pass: layers with input and output
        self._linear: nn.Linear | None = None
        self._latest: Tensor | None = None  # input of the last linear layer in the latest forward pass of any kind
        self._to_keep: Tensor | None = None  # the same for the latest training pass, until `keep`
        self._train: Tensor | None = None
        self._is_kept: Tensor

    def __enter__(self) -> Watch:
        """Begin to record."""
        self._hooks = [linear.register_forward_hook(self._note) for linear in self._linears]
        self._hooks.append(self.model.register_forward_hook(self._find))  # last: a model may be one linear layer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove all hooks from the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._calls, self._latest, self._to_keep = [], [], None, None

    def _note(self, linear: nn.Linear, given: tuple[Tensor, ...], output: Tensor) -> None:
        self._calls.append((linear, given[0].detach(), output))

    def _find(self, _: nn.Module, __: object, output: object) -> None:
        found = [(linear, x, y) for linear, x, y in self._calls if y is output and x.ndim == 2]
        self._calls = []
        if not found:
            raise ValueError(
                f"the output of {type(self.model).__name__} is not that of an nn.Linear applied to (n, width); only "
                f"models that end in one can be watched"
            )
        self._linear, self._latest, output = found[-1]
        if self.model.training and output.requires_grad:
            self._to_keep = self._latest

    def _check_open(self, name: str) -> None:
        if not self._hooks:
            raise ValueError(f"the model is not watched here: call {name} inside `with Watch(...) as watch:`")

    def _places(self, rows: Tensor | NDArray | Sequence[int] | slice) -> Tensor:
        """Convert rows to positions of training images, int64."""
        n_train = len(self.labels)
        if isinstance(rows, slice):
            return torch.arange(n_train, device="cpu")[rows]
        places = whole_numbers(rows, "rows")
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < n_train:
            raise ValueError(
                f"rows are from {int(places.min())} to {int(places.max())}; there are {n_train} training images, so "
                f"that rows must be from 0 to {n_train - 1}"
            )
        return places

    def keep(self, rows: Tensor | NDArray | Sequence[int] | slice) -> None:
        """Store the latest training pass as features of these training images.

        Parameters
        ----------
        rows : Tensor, array or list of int, shape (n,), or slice
            Positions of the batch's images among all training images, in the order of the batch.
        """
        self._check_open("keep")
        rows = self._places(rows)
        x = self.latest(len(rows))
        if self._train is None:
            self._train = torch.zeros(1, len(self.labels), x.shape[1], dtype=torch.float16, device=x.device)
            self._is_kept = torch.zeros(len(self.labels), dtype=torch.bool, device=x.device)
        rows = rows.to(x.device)
        self._train[0].index_copy_(0, rows, x.half())
        self._is_kept[rows] = True

    def latest(self, n_rows: int) -> Tensor:
        """Return the features of the latest training pass, (n_rows, width), once."""
        if self._to_keep is None or len(self._to_keep) != n_rows:
            what = "none" if self._to_keep is None else f"one of {len(self._to_keep)} images"
            raise ValueError(
                f"{n_rows} rows were to be kept, but since the last time there was {what} as forward pass in "
                f"training mode with gradients; call keep once after every forward pass over training images"
            )
        x, self._to_keep = self._to_keep, None
        return x

    def seen(self) -> Tensor:
        """Return the epoch's features of the training images, and begin the next epoch.

        They are float16, (1, n_train, width).
        """
        n_missing = len(self.labels) if self._train is None else int((~self._is_kept).sum())
        if self._train is None or n_missing:
            raise ValueError(
                f"{n_missing} of {len(self.labels)} training images were not kept in this epoch; keep every batch (a "
                f"loader must not drop the last one), or use features='frozen'"
            )
        train, self._train = self._train, None
        return train

    @property
    def images(self) -> Tensor:
        """Return the training images; ValueError if there are none."""
        if self._images is None:
            raise ValueError("frozen features need the training images: give them to Watch")
        return self._images

    def features(self, images: Tensor) -> Tensor:
        """Compute features float16 (1, n_images, width) in evaluation mode.

        Every module's mode is restored afterwards.
        """
        self._check_open("FeatureHistory.take")
        device, parts = next(self.model.parameters()).device, []
        try:
            with evaluation(self.model):
                for x in images.split(TEST_BATCH):
                    self.model(x.to(device))
                    assert self._latest is not None  # set by every forward pass that returns
                    parts.append(self._latest.half())
        finally:
            self._calls, self._latest = [], None
        return torch.cat(parts)[None]

    def classifiers(self) -> tuple[Tensor, Tensor]:
        """Copy weights (1, n_classes, width) and biases (1, n_classes) in float32.

        They are those that the layer applies, also if it computes its weight from others. A missing bias is 0.
        """
        self._check_open("FeatureHistory.take")
        if self._linear is None:
            raise ValueError("there was no forward pass so far; train an epoch before it is recorded")
        linear = self._linear
        with evaluation(linear):
            # Older weight norms update the weight at each call of the layer, and only then.
            output = linear(
                torch.linspace(-1, 1, linear.in_features, device=linear.weight.device)[None].to(linear.weight)
            )
            weights = linear.weight.detach().to(torch.float32, copy=True)
            bias = linear.bias
            biases = weights.new_zeros(len(weights)) if bias is None else bias.detach().to(torch.float32, copy=True)
        seen = self._calls[-1][1] if self._calls else self._latest  # after other hooks
        assert seen is not None
        x = seen.float()
        self._calls, self._latest = [], None
        scale = x.abs() @ weights.abs().T + biases.abs()
        if ((output.float() - x @ weights.T - biases).abs() > 0.02 * scale + 1e-6).any():
            raise ValueError(
                f"the last layer, {type(linear).__name__}, gives other outputs than its weight and bias do; only a "
                f"layer that is their product and sum can be retrained"
            )
        self.labels = self.labels.to(weights.device)
        return weights[None], biases[None]
