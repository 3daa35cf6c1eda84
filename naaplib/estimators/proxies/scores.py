"""Training-free scores: one function a score, of any network with ReLUs and one batch of images; higher is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from naaplib.estimators.proxies import activations, gradients, products
from naaplib.estimators.proxies.gradients import as_labels, as_tensor, undisturbed

READINGS = ("code", "paper")
N_CLASSES_SUMMED = 100  # EPE-NAS sums over up to so many classes, and compares them beyond
NO_WEIGHTS = "no weight of a layer that can be trained is seen to lead to the output (scripted code is not seen)"
ROUNDING = 1e-12  # of the largest pivot of a kernel of whole numbers, whose pivots are above it or 0
EPSILON = 1e-5  # of the published formulas of EPE-NAS and of the Jacobian covariance


@dataclass(frozen=True)
class Score:
    """A finite number, or why there is none.

    Parameters
    ----------
    value : float
        Higher is better. NaN where there is no score.
    reason : str
        Why there is none; "" where there is one.
    """

    value: float
    reason: str = ""


def nas_wot(network: nn.Module, images: Tensor, mode: str = "train", reached_only: bool = False) -> Score:
    """NAS-WOT: how differently a network's ReLUs see the images (Mellor et al. 2021, section 3).

    Log-determinant of the kernel whose entry (i, j) is the number of ReLU units that are on for both images i and j, or
    off for both. Natural logarithm; some hundreds to thousands for a batch of 128. Does not depend on the order of the
    images, and grows with their number. Costs one pass, without gradient, and a product of an (n_images, n_units)
    matrix of ones and zeros with its transpose, layer by layer: memory is that of one layer.

    Parameters
    ----------
    network : Module
        Anything that maps `images` to a tensor and calls ReLUs (also leaky, parametric, clipped at 6, in place); left
        as it was found, running statistics included. Calls are counted, not modules, but for those on weights. ReLUs
        spelled otherwise (a comparison with 0, scripted code) are not seen.
    images : Tensor, shape (n_images, ...)
        In the network's precision and on its device; counts are exact in half precision too.
    mode : {"train", "eval"}
        Whether BatchNorm takes the statistics of the batch, as in the reference code, and dropout drops (drawing from
        torch's generator: set it for a score that is the same again).
    reached_only : bool
        Count only ReLUs that a gradient from the output reaches, as the reference code has it; costs three times
        as much, and memory for all layers.

    Returns
    -------
    Score
        None if no ReLU was called, if the output is not finite, or if the kernel is singular, as with two images that
        switch all ReLUs alike. On one image, the logarithm of the number of units.

    Examples
    --------
    By hand: two units, on for both images or for one; the determinant of [[2, 1], [1, 2]] is 3.

    >>> images = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    >>> round(math.exp(nas_wot(nn.ReLU(), images).value), 6)
    3.0
    """
    kernel, output = undisturbed(activations.agreements, network, images, mode, reached_only)
    if reason := _fault(output, kernel):
        return Score(math.nan, reason)
    if (n_distinct := activations.n_distinct(kernel)) < len(kernel):
        return Score(math.nan, f"the kernel is singular: {len(kernel)} images switch the ReLUs in {n_distinct} ways")
    pivots = torch.linalg.lu_factor_ex(kernel).LU.diagonal().abs()  # what slogdet multiplies, so small ones are seen
    if pivots.min() < ROUNDING * pivots.max():
        return Score(math.nan, "the kernel is singular: its rows depend on each other")
    return Score(float(pivots.log().sum()))


def relu_count(network: nn.Module, images: Tensor) -> Score:
    """Number of ReLU units times number of images: the trace of NAS-WOT's kernel (the dissertation, section 4).

    The sum of the eigenvalues in place of the sum of their logarithms. No weight and no pixel enters, only the shape of
    an image, and their number, which is the same for all networks that are compared. Costs one pass of one image.
    Network and images as for `nas_wot`, in evaluation mode, which does not matter here. No score if no ReLU was called.

    >>> relu_count(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(2, 3, 8, 8)).value  # 2 x 4 x 6 x 6
    288.0
    """
    n_units = undisturbed(activations.count, network, images[:1], "eval")
    return Score(float(n_units * len(images))) if n_units else Score(math.nan, "no ReLU was called")


def linear_regions(network: nn.Module, images: Tensor, mode: str = "train") -> Score:
    """Number of images in different linear regions, the expressivity of TE-NAS (Chen et al. 2021, section 3.1.2).

    That is, of different patterns of all ReLUs. At most the number of images, which all but the narrowest networks
    reach unless images are tiny: the study takes 1,000 images of 3 x 3 pixels, and networks one channel wide.
    Arguments as for `nas_wot`. Memory grows with the square of the number of images. No score if no ReLU was called, or
    the output is not finite.

    >>> linear_regions(nn.ReLU(), torch.tensor([[1.0, 1.0], [2.0, 3.0], [1.0, -1.0]])).value
    2.0
    """
    kernel, output = undisturbed(activations.agreements, network, images, mode)
    reason = _fault(output, kernel)
    return Score(math.nan, reason) if reason else Score(float(activations.n_distinct(kernel)))


def epe_nas(
    network: nn.Module, images: Tensor, labels: Tensor, n_classes: int = 10, mode: str = "train", reading: str = "code"
) -> Score:
    """EPE-NAS: how alike the network's gradients are for images of one class (Lopes et al. 2021, section 3).

    The gradient of the summed outputs by each image is correlated with those of its class; a class is worth the sum of
    log(abs(correlation) + 1e-5) over all pairs, itself included. Costs a pass forward and back.

    Parameters
    ----------
    network, images, mode
        As for `nas_wot`.
    labels : Tensor of int, shape (n_images,)
        A class that has one image is worth about 1e-5 (beyond 100 classes the reference code leaves it out).
    n_classes : int
        Of the data set, not of the batch.
    reading : {"code", "paper"}
        "code" sums the absolute values of the classes, as its search runs whatever the data set, since the number of
        classes is never passed on; "paper" does so up to 100 classes, and beyond them takes each class's value per
        image and averages, over classes, the sum of absolute differences from all classes.

    Returns
    -------
    Score
        None if the output or a gradient is not finite, or an image's gradient is constant.
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


def jacobian_covariance(network: nn.Module, images: Tensor, mode: str = "train") -> Score:
    """Jacobian covariance: how unlike the network's gradients are for different images (Mellor et al. 2020).

    Minus the sum of log(v + k) + 1 / (v + k) over the eigenvalues v of the correlations of the gradients of the summed
    outputs by each image, k = 1e-5: at most minus the number of images. Costs a pass forward and back.

    Parameters
    ----------
    network, images, mode
        As for `nas_wot`.

    Returns
    -------
    Score
        As for `epe_nas`.
    """
    correlations = _gradient_correlations(network, images, mode)
    if isinstance(correlations, Score):
        return correlations
    shifted = torch.linalg.eigvalsh(correlations).clamp(min=0) + EPSILON
    return Score(float(-(shifted.log() + 1 / shifted).sum()))


def gradient_norm(network: nn.Module, images: Tensor, labels: Tensor, mode: str = "train") -> Score:
    """Sum over layers of the Euclidean norm of the loss's gradient by the layer's weights (Abdelfattah et al. 2021).

    Cross-entropy, mean over the batch; weights as `naaplib.estimators.proxies.gradients.by_weights` finds them: of
    convolutions, linear, recurrent and attention layers, without biases. Costs a pass forward and back.

    Parameters
    ----------
    network, images, labels, mode
        As for `epe_nas`.

    Returns
    -------
    Score
        None if a gradient is not finite, or the loss depends on no weight that can be trained.
    """
    pairs = undisturbed(gradients.by_weights, network, images, mode, labels)
    return _sum(gradient.norm() for _, gradient in pairs)


def snip(network: nn.Module, images: Tensor, labels: Tensor, mode: str = "train") -> Score:
    """SNIP: sum over weights of abs(weight times the loss's gradient by it) (Lee et al. 2019, equation 4, unscaled).

    How much the loss would feel the weights' removal, to first order. Otherwise as `gradient_norm`.
    """
    pairs = undisturbed(gradients.by_weights, network, images, mode, labels)
    return _sum((weight * gradient).abs().sum() for weight, gradient in pairs)


def synflow(network: nn.Module, images: Tensor) -> Score:
    """SynFlow: the flow through the weights' absolute values (Tanaka et al. 2020; as score, Abdelfattah et al. 2021).

    Natural logarithm of the sum over weights of convolutions and linear layers of abs(weight times the gradient of the
    summed output by it), for one image of ones, all parameters replaced by their absolute values, norms passing on
    what they get, in double precision, on a copy. The sources take no logarithm, though flows grow exponentially with
    depth. No pixel enters. Costs a pass of one image forward and back, and a copy of the weights.

    Parameters
    ----------
    network, images
        As for `nas_wot`; evaluation mode.

    Returns
    -------
    Score
        None if the flow is 0 or not finite, or no weight leads to the output.
    """
    pairs = undisturbed(gradients.by_flow, network, images[:1], "eval", images[:1])
    flow = _sum((weight * slope).abs().sum() for weight, slope in pairs)
    return Score(math.nan, "nothing flows") if flow.value == 0 else Score(math.log(flow.value), flow.reason)


def ntk_condition(network: nn.Module, images: Tensor, mode: str = "train") -> Score:
    """Trainability of TE-NAS: condition number of the neural tangent kernel (Chen et al. 2021, section 3.1.1).

    Minus the natural logarithm of the largest over the smallest eigenvalue of the kernel: the products of the gradients
    of the summed outputs, image by image, by all parameters. Since a well-conditioned kernel trains faster, higher is
    better. Costs one pass forward and one back *for each image*, all through the whole batch in training mode; memory
    for n_images times the parameters.

    Parameters
    ----------
    network, images, mode
        As for `nas_wot`.

    Returns
    -------
    Score
        None if a gradient is not finite, no parameter can be trained, or the kernel is singular within rounding.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return Score(math.nan, "no parameter can be trained")
    kernel = undisturbed(gradients.by_parameters, network, images, mode)
    if not kernel.isfinite().all():
        return Score(math.nan, "a gradient is not finite")
    smallest, largest = torch.linalg.eigvalsh(kernel)[[0, -1]].tolist()
    if largest == 0:
        return Score(math.nan, "the output depends on no parameter that can be trained")
    # Eigenvalues are squares of the gradients' singular values, which are known to their own rounding; but never better
    # than the kernel and its eigenvalues, which are in double precision whatever the images are.
    n, eps = len(kernel), torch.finfo(images.dtype).eps
    if smallest <= largest * max((n * eps) ** 2, 10 * n * torch.finfo(kernel.dtype).eps):
        return Score(math.nan, "the tangent kernel is singular within rounding")
    return Score(-math.log(largest / smallest))


def n_parameters(network: nn.Module) -> Score:
    """Number of the network's parameters, shared ones once: the baseline that every score has to beat.

    >>> n_parameters(nn.Linear(5, 3)).value
    18.0
    """
    products.check_built(network)
    return Score(float(sum(parameter.numel() for parameter in network.parameters())))


def macs(network: nn.Module, images: Tensor) -> Score:
    """Multiply-accumulates for one image, as `naaplib.estimators.proxies.products.count` counts; none is no score.

    Costs one pass of the first image, in evaluation mode.

    >>> macs(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)).value  # 6 x 6 places x 4 x 3 x 3 x 3
    3888.0
    """
    n_macs, _ = undisturbed(products.count, network, images[:1], "eval")
    return Score(n_macs) if n_macs else Score(math.nan, "no convolution and no product of matrices is seen")


def depth(network: nn.Module, images: Tensor) -> Score:
    """Number of weights that an image passes: of convolutions, linear layers and the like, as often as called.

    Costs what `macs` costs. No score where there are none, or they are in scripted code, which is not seen.

    >>> depth(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), torch.zeros(1, 5)).value
    2.0
    """
    _, n_layers = undisturbed(products.count, network, images[:1], "eval")
    reason = "no layer with weights is seen (scripted code is not)"
    return Score(float(n_layers)) if n_layers else Score(math.nan, reason)


def _fault(output: object, kernel: Tensor) -> str:
    """Why there is no score of patterns of ReLUs, or ""."""
    if not as_tensor(output).isfinite().all():
        return "the network's output is not finite"
    return "" if kernel[0, 0] > 0 else "no ReLU was called"


def _gradient_correlations(network: nn.Module, images: Tensor, mode: str) -> Tensor | Score:
    """Correlations of the gradients by each two images, shape (n_images, n_images); a reason where one has none."""
    rows = undisturbed(gradients.by_images, network, images, mode)
    if not rows.isfinite().all():
        return Score(math.nan, "the output, or a gradient by an image, is not finite")
    if constant := int((rows == rows[:, :1]).all(dim=1).sum()):
        return Score(math.nan, f"the gradient by the image is constant for {constant} of {len(rows)} images")
    return torch.corrcoef(rows).reshape(len(rows), len(rows))


def _sum(parts: Iterable[Tensor]) -> Score:
    """Sum of the parts, one a layer, if there are any and it is finite."""
    values = [float(part) for part in parts]
    if not values:
        return Score(math.nan, NO_WEIGHTS)
    return Score(sum(values)) if math.isfinite(sum(values)) else Score(math.nan, "a gradient is not finite")
