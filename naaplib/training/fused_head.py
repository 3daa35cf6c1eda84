# mypy: ignore-errors
# Reason: Triton compiles these functions, whose values have no types that mypy knows.
"""Triton kernels of the linear layers and losses, for `naaplib.training.fused`.

`naaplib.training.fused_forward` explains tables and layouts.
"""

from naaplib.training.fused_forward import (
    BIAS,
    C_OUT,
    FEATURES,
    INTERPRETED,
    LINEAR,
    NETWORK,
    SIDE_OUT,
    _at,
    _index,
    _number,
    _output,
    _place,
    _row,
    _wide,
    jit,
    tl,
)

if INTERPRETED:
    from naaplib.training.fused_forward import range  # see there


@jit
def head(
    table, rows, labels, order, step, weights, y, channels, n_channels, features, parts, n_weights, counts,
    n_networks, n_images, batch_size, n_classes, CHAIN: tl.constexpr, TRAIN: tl.constexpr, SPLITS: tl.constexpr,
    BI: tl.constexpr, BC: tl.constexpr, BL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Classify a part of the images; store losses and gradients, or add to counts."""
    row = _row(table, tl.load(rows + tl.program_id(0)))
    split = tl.program_id(1)
    c_out, side = _number(row, C_OUT), _number(row, SIDE_OUT)
    size = (n_images + SPLITS - 1) // SPLITS
    image = split * size + tl.arange(0, BI)
    known = (tl.arange(0, BI) < size) & (image < n_images)
    channel, label = tl.arange(0, BC), tl.arange(0, BL)
    mask = known[:, None] & (channel < _wide(c_out))[None, :]
    feature = tl.full([BI, BC], 0.0, tl.float32)
    for place in range(0, side * side):
        pixel = (image * side * side + place)[:, None]
        feature += _output(
            table, row, pixel, channel[None, :], mask=mask, y=y, channels=channels, n_channels=n_channels, CHAIN=CHAIN
        )  # fmt: skip
    feature = feature / (side * side)
    linear, bias = _at(row, LINEAR), _at(row, BIAS)
    inside = (channel < c_out)[:, None] & (label < n_classes)[None, :]
    w = tl.load(weights + linear + label[None, :] * c_out + channel[:, None], mask=inside, other=0.0)
    b = tl.load(weights + bias + label, mask=label < n_classes, other=0.0)
    logits = tl.dot(feature, w, input_precision=PRECISION) + b[None, :]
    logits = tl.where((label < n_classes)[None, :], logits, -float("inf"))
    index = _index(order + tl.load(step) * batch_size, image, known)
    truth = tl.load(labels + index, mask=known, other=0)
    count = counts + split * n_networks + _at(row, NETWORK)
    if TRAIN:
        right = label[None, :] == truth[:, None]
        most = tl.max(logits, 1)
        powers = tl.exp(logits - most[:, None])
        total = tl.sum(powers, 1)
        loss = tl.log(total) + most - tl.sum(tl.where(right, logits, 0.0), 1)
        tl.store(count, tl.sum(tl.where(known, loss, 0.0), 0) / n_images)
        gradient = powers / total[:, None] - tl.where(right, 1.0, 0.0)
        gradient = tl.where(known[:, None], gradient / n_images, 0.0)
        to = parts + split.to(tl.int64) * n_weights
        ours = tl.dot(tl.trans(gradient), feature, input_precision=PRECISION)
        tl.store(to + linear + label[:, None] * c_out + channel[None, :], ours, mask=tl.trans(inside))
        tl.store(to + bias + label, tl.sum(gradient, 0), mask=label < n_classes)
        back = tl.dot(gradient, tl.trans(w), input_precision=PRECISION) / (side * side)
        tl.store(features + _place(row, FEATURES, image[:, None], channel[None, :]), back, mask=mask)
    else:
        correct = known & (tl.argmax(logits, 1) == truth)
        tl.store(count, tl.load(count) + tl.sum(tl.where(correct, 1.0, 0.0), 0))


@jit
def keep_losses(losses, step, counts, n_networks, SPLITS: tl.constexpr, BN: tl.constexpr):
    """Add up the losses of a batch's parts, in their order."""
    network = tl.program_id(0) * BN + tl.arange(0, BN)
    known = network < n_networks
    total = tl.full([BN], 0.0, tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(counts + split * n_networks + network, mask=known, other=0.0)
    tl.store(losses + tl.load(step) * n_networks + network, total, mask=known)
