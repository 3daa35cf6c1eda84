import itertools

import pytest
import torch
import torchvision
from torch import nn

from naaplib.architectures.cifar_networks import N_BLOCKS, NAMES, WIDTHS, build, resnet, resnet_cost, scale
from naaplib.estimators.proxies import scores


def n_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("name", "millions", "billions"), [("resnet18", 11.22, 0.56), ("resnet34", 21.33, 1.16)])
def test_sizes_of_resnets_are_the_printed_ones(name: str, millions: float, billions: float) -> None:
    """Table 4.4 of the study, for 100 classes, as it rounds."""
    parameters, macs = resnet_cost(N_BLOCKS[name], WIDTHS, n_classes=100)
    assert (round(parameters / 1e6, 2), round(macs / 1e9, 2)) == (millions, billions)


def test_sizes_of_the_others_by_hand() -> None:
    """VGG-16's convolutions with biases and BatchNorm, layer by layer; torchvision's MobileNetV2 with another head."""
    layers = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    expected = sum(9 * a * b + 3 * b for a, b in itertools.pairwise(layers)) + 512 * 10 + 10
    assert n_parameters(build("vgg16")) == expected == 14_728_266
    stem = 9_408 - 3 * 64 * 9  # ImageNet's first convolution has 7 x 7 pixels
    assert n_parameters(build("resnet50", n_classes=100)) == 25_557_032 - stem - 2_049 * 900 == 23_705_252
    published = 3_504_872  # of ImageNet's thousand classes
    assert n_parameters(build("mobilenet_v2", n_classes=100)) == published - 1281 * 900


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnets_are_torchvisions_with_another_beginning(name: str) -> None:
    """The same weights in the same order, and the same outputs, as torchvision's once its first layers are changed."""
    ours, theirs = build(name), getattr(torchvision.models, name)(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    values = list(ours.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize(
    ("n_blocks", "widths"), [((1, 2, 1, 1), (16, 8, 24, 32)), ((2, 1, 1, 3), (8, 16, 16, 24)), ((1,), (8,))]
)
def test_cost_is_that_of_the_network(n_blocks: tuple[int, ...], widths: tuple[int, ...]) -> None:
    """Counted on the network itself, with and without shortcuts, on images of an odd side too."""
    for stem, side in ((8, 32), (16, 9)):
        network = resnet(n_blocks, widths, n_classes=7, stem=stem)
        macs = scores.macs(network, torch.zeros(1, 3, side, side)).value
        assert resnet_cost(n_blocks, widths, n_classes=7, stem=stem, side=side) == (n_parameters(network), macs)


@pytest.mark.parametrize("name", NAMES)
def test_networks_end_in_one_linear_layer(name: str) -> None:
    """Which gives a number for each class; what it reads is all that the images have become."""
    network = build(name, n_classes=7, width=0.125)
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert len(linear) == 1
    seen = []
    linear[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert seen == [(2, linear[0].in_features)]


@pytest.mark.parametrize(("name", "side"), [("resnet18", 4), ("resnet50", 4), ("vgg16", 1), ("mobilenet_v2", 4)])
def test_what_is_averaged_is_as_large_as_usual(name: str, side: int) -> None:
    """32 pixels are halved three times, by VGG's five poolings five times."""
    network = build(name, width=0.125)
    body = network.features if name == "mobilenet_v2" else network[:-3]
    assert body(torch.zeros(2, 3, 32, 32)).shape[2:] == (side, side)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_the_weights(name: str) -> None:
    """The same seed gives the same ones, another seed others; torch's own generator is not touched."""
    before = torch.get_rng_state()
    first, again, other = (build(name, seed=seed, width=0.125).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key in first if first[key].ndim == 4]
    assert not any(torch.equal(first[key], other[key]) for key in weights)


def test_scaling_rounds_as_stated() -> None:
    """Halves upwards, at least one block and 8 channels; factors of 1 are ResNet-18."""
    assert scale([1] * 4, [1] * 4) == (N_BLOCKS["resnet18"], WIDTHS)
    assert scale([0.1, 0.75, 1.25, 4], [0.01, 1.03125, 0.99, 2]) == ((1, 2, 3, 8), (8, 136, 256, 1024))


def test_wrong_arguments_are_named() -> None:
    """With what is allowed."""
    with pytest.raises(ValueError, match="no network 'resnet101'; there are: resnet18, resnet34, resnet50, vgg16, mob"):
        build("resnet101")
    with pytest.raises(ValueError, match="width is 0; it is a factor on numbers of channels, and must be above 0"):
        build("vgg16", width=0)
    for depths, widths in (([1, 1, 1], [1] * 4), ([1] * 4, [1, 1, 0, 1])):
        with pytest.raises(ValueError, match="four factors above 0 for depth and four for width are needed, not "):
            scale(depths, widths)
