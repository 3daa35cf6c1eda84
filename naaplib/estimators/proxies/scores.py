"""Zero-cost proxies (training-free scores) of networks; higher is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from naaplib.estimators.proxies import activations, gradients, products
from naaplib.estimators.proxies.gradients import as_labels, as_tensor, undisturbed

READINGS = ("code", "paper")
N_CLASSES_SUMMED = 100  # EPE-NAS sums over up to 100 classes, and compares classes beyond
NO_WEIGHTS = "no weight of a layer that can be trained is seen to lead to the output (scripted code is not seen)"
ROUNDING = 1e-12  # relative to the largest pivot of an integer kernel; smaller pivots count as 0
EPSILON = 1e-5  # constant in the formulas of EPE-NAS and of the Jacobian covariance


@dataclass(frozen=True)
class Score:
    """A finite number, or the reason why there is none.

    Parameters
    ----------
    value : float
        Score, higher is better; NaN if there is none.
    reason : str
        Reason for a missing score, else "".
    """

    value: float
    reason: str = ""


def nas_wot(network: nn.Module, images: Tensor, *, mode: str = "train", reached_only: bool = False) -> Score:
    """NAS-WOT: diversity of a network's ReLU patterns over images.

    The score (Mellor et al. 2021, section 3) is the natural log-determinant of the kernel whose entry (i, j) is the
    number of ReLU units that are on for both images i and j, or off for both: some hundreds to thousands for a batch of
    128. It does not depend on the order of the images, and grows with their number. It costs one forward pass and,
    layer by layer, the product of an (n_images, n_units) matrix with its transpose.

    Parameters
    ----------
    network : Module
        Any module that maps `images` to a tensor and calls ReLUs (also leaky, parametric, clipped at 6, in place). It
        does not change, nor do its running statistics. Calls count, not modules; calls on weights do not. ReLUs in
        other forms (a comparison with 0, scripted code) are ignored.
    images : Tensor, shape (n_images, ...)
        Images in the network's precision and on its device; counts are exact in half precision too.
    mode : {"train", "eval"}
        In "train" mode, as in the reference code, BatchNorm uses the statistics of the batch, and dropout draws from
        torch's generator.
    reached_only : bool
        True counts only ReLUs that a gradient from the output reaches, as the reference code does; costs three times as
        much, and memory for all layers.

    Returns
    -------
    Score
        There is none if no ReLU was called, if the output is not finite, or if the kernel is singular, as for two
        images with equal patterns. For one image, it is the logarithm of the number of units.

    Examples
    --------
    One unit is on for both images, the other for one; the determinant of [[2, 1], [1, 2]] is 3.

    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    >>> round(math.exp(nas_wot(nn.ReLU(), images).value), 6)
    3.0
    """
    kernel, output = undisturbed(activations.agreements, network, images=images, mode=mode, reached_only=reached_only)
    if reason := _fault(output, kernel):
        return Score(math.nan, reason)
    if (n_distinct := activations.n_distinct(kernel)) < len(kernel):
        return Score(math.nan, f"the kernel is singular: {len(kernel)} images switch the ReLUs in {n_distinct} ways")
    pivots = torch.linalg.lu_factor_ex(kernel).LU.diagonal().abs()  # the factors of slogdet
    if pivots.min() < ROUNDING * pivots.max():
        return Score(math.nan, "the kernel is singular: its rows depend on each other")
    return Score(float(pivots.log().sum()))


def relu_count(network: nn.Module, images: Tensor) -> Score:
    """Number of ReLU units times number of images: the trace of NAS-WOT's kernel.

    It sums the eigenvalues instead of their logarithms (the dissertation, section 4). It depends only on the network's
    form and on the shape and number of images. It costs one pass of one image, in evaluation mode. Parameters are those
    of `nas_wot`. There is no score if no ReLU was called.

    >>> relu_count(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(2, 3, 8, 8)).value  # 2 x 4 x 6 x 6
    288.0
    """
    n_units = undisturbed(activations.count, network, images=images[:1], mode="eval")
    return Score(float(n_units * len(images))) if n_units else Score(math.nan, "no ReLU was called")


def linear_regions(network: nn.Module, images: Tensor, *, mode: str = "train") -> Score:
    """Number of images in different linear regions: TE-NAS's expressivity.

    It counts the different patterns of all ReLUs (Chen et al. 2021, section 3.1.2). All but the narrowest networks
    reach the maximum, the number of images, unless images are tiny: the study uses 1,000 images of 3 x 3 pixels, and
    networks of one channel. Parameters are those of `nas_wot`. Memory grows with the square of the number of images.
    There is no score if no ReLU was called, or the output is not finite.

    >>> linear_regions(nn.ReLU(), torch.tensor([[1.0, 1.0], [2.0, 3.0], [1.0, -1.0]])).value
    2.0
    """
    kernel, output = undisturbed(activations.agreements, network, images=images, mode=mode)
    reason = _fault(output, kernel)
    return Score(math.nan, reason) if reason else Score(float(activations.n_distinct(kernel)))


def epe_nas(
    network: nn.Module, images: Tensor, *, labels: Tensor,
    n_classes: int = 10, mode: str = "train", reading: str = "code",
) -> Score:  # fmt: skip
    """EPE-NAS: similarity of the gradients for images of one class.

    The gradient of the summed outputs by each image is correlated with those of its class (Lopes et al. 2021, section
    3). A class scores the sum of log(abs(correlation) + 1e-5) over all pairs, equal ones included. It costs a pass
    forward and back.

    Parameters
    ----------
    network, images, mode
        As in `nas_wot`.
    labels : Tensor of int, shape (n_images,)
        Class numbers. A class with one image scores about 1e-5 (beyond 100 classes, the reference code ignores it).
    n_classes : int
        Number of classes of the dataset, not of the batch.
    reading : {"code", "paper"}
        "code" sums the absolute values of the classes, as the authors' search does for every dataset, since it never
        passes on the number of classes. "paper" does so up to 100 classes; beyond, it averages over classes the sum of
        absolute differences between each class's value per image and all others.

    Returns
    -------
    Score
        There is none if the output or a gradient is not finite, or an image's gradient is constant.
    """
    if reading not in READINGS:
        raise ValueError(f"reading is {reading!r}; it must be one of {READINGS}")
    labels = as_labels(images, labels)
    correlations = _gradient_correlations(network, images, mode)
    if isinstance(correlations, Score):
        return correlations
    logarithms = (correlations.abs() + EPSILON).log()
    members = (labels[None, :] == labels.unique()[:, None]).double()  # (n_classes, n_images)
    values = ((members @ logarithms) * members).sum(dim=1)
    if reading == "code" or n_classes <= N_CLASSES_SUMMED:
        return Score(float(values.abs().sum()))
    values = values / members.sum(dim=1)
    return Score(float((values[:, None] - values[None, :]).abs().sum(dim=1).mean()))


def jacobian_covariance(network: nn.Module, images: Tensor, *, mode: str = "train") -> Score:
    """Jacobian covariance: dissimilarity of the gradients for different images.

    The gradients of the summed outputs by each image are correlated (Mellor et al. 2020). With the eigenvalues v of the
    correlations and k = 1e-5, the score is minus the sum of log(v + k) + 1 / (v + k), at most minus the number of
    images. It costs a pass forward and back.

    Parameters
    ----------
    network, images, mode
        As in `nas_wot`.

    Returns
    -------
    Score
        As in `epe_nas`.
    """
    correlations = _gradient_correlations(network, images, mode)
    if isinstance(correlations, Score):
        return correlations
    shifted = torch.linalg.eigvalsh(correlations).clamp(min=0) + EPSILON
    return Score(float(-(shifted.log() + 1 / shifted).sum()))


def gradient_norm(network: nn.Module, images: Tensor, *, labels: Tensor, mode: str = "train") -> Score:
    """Sum over layers of the norm of the loss's gradient by the layer's weights.

    The norm is Euclidean (Abdelfattah et al. 2021), and the loss is the mean cross-entropy of the batch. Weights are
    those of convolutions, linear, recurrent and attention layers, without biases (see
    `naaplib.estimators.proxies.gradients.by_weights`). It costs a pass forward and back.

    Parameters
    ----------
    network, images, labels, mode
        As in `epe_nas`.

    Returns
    -------
    Score
        There is none if a gradient is not finite, or the loss depends on no trainable weight.
    """
    pairs = undisturbed(gradients.by_weights, network, images=images, mode=mode, labels=labels)
    return _sum(gradient.norm() for _, gradient in pairs)


def snip(network: nn.Module, images: Tensor, *, labels: Tensor, mode: str = "train") -> Score:
    """SNIP: sum over weights of abs(weight times the loss's gradient by it).

    This is the first-order effect of removing weights (Lee et al. 2019, equation 4, unscaled). See `gradient_norm`.
    """
    pairs = undisturbed(gradients.by_weights, network, images=images, mode=mode, labels=labels)
    return _sum((weight * gradient).abs().sum() for weight, gradient in pairs)


def synflow(network: nn.Module, images: Tensor) -> Score:
    """SynFlow: the flow through the weights' absolute values, in logarithm.

    The sources are Tanaka et al. (2020) and, as a score, Abdelfattah et al. (2021). The flow is the sum over weights of
    convolutions and linear layers of abs(weight times the gradient of the summed output by it), for one image of ones.
    It is computed in double precision on a copy with absolute parameters and without norms. The score is its natural
    logarithm, because flows grow exponentially with depth; the sources take none. It costs a pass of one image forward
    and back.

    Parameters
    ----------
    network, images
        As in `nas_wot`, in evaluation mode; pixels do not matter.

    Returns
    -------
    Score
        There is none if the flow is 0 or not finite, or no weight leads to the output.
    """
    pairs = undisturbed(gradients.by_flow, network, images=images[:1], mode="eval", like=images[:1])
    flow = _sum((weight * slope).abs().sum() for weight, slope in pairs)
    return Score(math.nan, "nothing flows") if flow.value == 0 else Score(math.log(flow.value), flow.reason)


def ntk_condition(network: nn.Module, images: Tensor, *, mode: str = "train") -> Score:
    """TE-NAS's trainability: condition number of the neural tangent kernel.

    The score (Chen et al. 2021, section 3.1.1) is minus the natural logarithm of the largest over the smallest
    eigenvalue of the kernel, which holds the inner products of gradients of each image's summed outputs by all
    parameters. A well-conditioned kernel trains faster. It costs a pass forward and one back *for each image*, through
    the whole batch in training mode, and memory for n_images times the parameters.

    Parameters
    ----------
    network, images, mode
        As in `nas_wot`.

    Returns
    -------
    Score
        There is none if a gradient is not finite, no parameter is trainable, or the kernel is singular within rounding.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return Score(math.nan, "no parameter can be trained")
    kernel = undisturbed(gradients.by_parameters, network, images=images, mode=mode)
    if not kernel.isfinite().all():
        return Score(math.nan, "a gradient is not finite")
    smallest, largest = torch.linalg.eigvalsh(kernel)[[0, -1]].tolist()
    if largest == 0:
        return Score(math.nan, "the output depends on no parameter that can be trained")
    # Eigenvalues are squares of the gradients' singular values, known to their rounding error, but not better than
    # the kernel and its eigenvalues, which are always in double precision.
    n, eps = len(kernel), torch.finfo(images.dtype).eps
    if smallest <= largest * max((n * eps) ** 2, 10 * n * torch.finfo(kernel.dtype).eps):
        return Score(math.nan, "the tangent kernel is singular within rounding")
    return Score(-math.log(largest / smallest))


def n_parameters(network: nn.Module) -> Score:
    """Number of a network's parameters, shared ones once; a baseline for scores.

    >>> n_parameters(nn.Linear(5, 3)).value
    18.0
    """
    products.check_built(network)
    return Score(float(sum(parameter.numel() for parameter in network.parameters())))


def macs(network: nn.Module, images: Tensor) -> Score:
    """Multiply-accumulates for one image; there is no score if it is 0.

    It costs one pass of the first image, in evaluation mode; `naaplib.estimators.proxies.products.count` counts.

    >>> macs(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)).value  # 6 x 6 places x 4 x 3 x 3 x 3
    3888.0
    """
    n_macs, _ = undisturbed(products.count, network, images=images[:1], mode="eval")
    return Score(n_macs) if n_macs else Score(math.nan, "no convolution and no product of matrices is seen")


def depth(network: nn.Module, images: Tensor) -> Score:
    """Number of multiplications by a weight that an image passes.

    Convolutions, linear layers and the like count once per call. It costs the same as `macs`. There is no score if
    there are none, or if they are in scripted code.

    >>> depth(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), torch.zeros(1, 5)).value
    2.0
    """
    _, n_layers = undisturbed(products.count, network, images=images[:1], mode="eval")
    reason = "no layer with weights is seen (scripted code is not)"
    return Score(float(n_layers)) if n_layers else Score(math.nan, reason)


def _fault(output: object, kernel: Tensor) -> str:
    """Reason for a missing score of ReLU patterns, or ""."""
    if not as_tensor(output).isfinite().all():
        return "the network's output is not finite"
    return "" if kernel[0, 0] > 0 else "no ReLU was called"


def _gradient_correlations(network: nn.Module, images: Tensor, mode: str) -> Tensor | Score:
    """Correlations (n_images, n_images) of the gradients by images, or a reason."""
    rows = undisturbed(gradients.by_images, network, images=images, mode=mode)
    if not rows.isfinite().all():
        return Score(math.nan, "the output, or a gradient by an image, is not finite")
    if constant := int((rows == rows[:, :1]).all(dim=1).sum()):
        return Score(math.nan, f"the gradient by the image is constant for {constant} of {len(rows)} images")
    return torch.corrcoef(rows).reshape(len(rows), len(rows))


def _sum(parts: Iterable[Tensor]) -> Score:
    """Sum of the parts, one per layer, if there are any and it is finite."""
    values = [float(part) for part in parts]
    if not values:
        return Score(math.nan, NO_WEIGHTS)
    return Score(sum(values)) if math.isfinite(sum(values)) else Score(math.nan, "a gradient is not finite")
