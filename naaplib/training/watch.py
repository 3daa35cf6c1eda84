"""One network in a training loop of one's own, watched by a hook on its last linear layer."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from naaplib.training.network import TEST_BATCH


class Watch:
    """One network in a training loop of one's own: a forward hook keeps what its last linear layer sees.

    The layer is the one whose output is the model's output. It is found in the first forward pass.

    Parameters
    ----------
    model : Module
        Of any kind, if it ends in an ``nn.Linear`` that is applied to (n, width).
    labels : Tensor of int64, shape (n_train,)
        Of all training images, in the order that rows are counted in.
    images : Tensor, shape (n_train, ...), optional
        The training images as the model takes them; needed for histories of frozen features only.

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

    def __init__(self, model: nn.Module, labels: Tensor, images: Tensor | None = None) -> None:
        self._linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not self._linears:
            raise ValueError(f"{type(model).__name__} has no nn.Linear; only models that end in one can be watched")
        self.model, self.labels, self._images = model, labels, images
        self._hooks: list[RemovableHandle] = []
        self._calls: list[tuple[nn.Linear, Tensor, Tensor]] = []  # in a forward pass: layer, input, output
        self._linear: nn.Linear | None = None
        self._input: Tensor | None = None  # of the latest forward pass
        self._train: Tensor | None = None
        self._is_kept: Tensor

    def __enter__(self) -> Watch:
        """Begin to watch."""
        self._hooks = [linear.register_forward_hook(self._note) for linear in self._linears]
        self._hooks.append(self.model.register_forward_hook(self._find))  # last: a model may be one linear layer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()
        self._calls, self._input = [], None

    def _note(self, linear: nn.Linear, given: tuple[Tensor, ...], output: Tensor) -> None:
        self._calls.append((linear, given[0].detach(), output))

    def _find(self, _: nn.Module, __: object, output: object) -> None:
        found = [(linear, x) for linear, x, y in self._calls if y is output and x.ndim == 2]
        self._calls = []
        if not found:
            raise ValueError(
                f"the output of {type(self.model).__name__} is not that of an nn.Linear applied to (n, width); only "
                f"models that end in one can be watched"
            )
        self._linear, self._input = found[-1]

    def keep(self, rows: Tensor) -> None:
        """Keep what the last linear layer saw in the latest forward pass, as the features of these training images.

        Parameters
        ----------
        rows : Tensor of int64, shape (n,)
            Places of the batch's images among all training images.
        """
        if self._input is None or len(self._input) != len(rows):
            what = "none" if self._input is None else f"one of {len(self._input)} images"
            raise ValueError(
                f"{len(rows)} rows were to be kept, but since the last time there was {what} as forward pass; call "
                f"keep once after every forward pass over training images"
            )
        x, self._input = self._input, None
        if self._train is None:
            self._train = torch.zeros(1, len(self.labels), x.shape[1], dtype=torch.float16, device=x.device)
            self._is_kept = torch.zeros(len(self.labels), dtype=torch.bool, device=x.device)
        rows = rows.to(x.device)
        self._train[0].index_copy_(0, rows, x.half())
        self._is_kept[rows] = True

    def seen(self) -> Tensor:
        """Float16 (1, n_train, width): the training images' features in the epoch; the next epoch begins with none."""
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
        """The training images; ValueError if there are none."""
        if self._images is None:
            raise ValueError("frozen features need the training images: give them to Watch")
        return self._images

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Float16 (1, n_images, width): in evaluation mode; every module's mode is put back afterwards."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        device, parts = next(self.model.parameters()).device, []
        for x in images.split(TEST_BATCH):
            self.model(x.to(device))
            assert self._input is not None
            parts.append(self._input.half())
        self._input = None
        for module, mode in modes:
            module.training = mode
        return torch.cat(parts)[None]

    def classifiers(self) -> tuple[Tensor, Tensor]:
        """Weights (1, n_classes, width) and biases (1, n_classes), 0 where the layer has none; copies in float32."""
        if self._linear is None:
            raise ValueError("there was no forward pass so far; train an epoch before it is recorded")
        weights = self._linear.weight.detach().to(torch.float32, copy=True)
        bias = self._linear.bias
        biases = weights.new_zeros(len(weights)) if bias is None else bias.detach().to(torch.float32, copy=True)
        self.labels = self.labels.to(weights.device)
        return weights[None], biases[None]
