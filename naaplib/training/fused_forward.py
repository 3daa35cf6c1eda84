# mypy: ignore-errors
# Reason: Triton compiles these functions, whose values have no types that mypy knows.
"""Triton kernels of convolutions and losses, for `naaplib.training.fused`.

A row of the table describes one block of one network: `FIELDS` names its numbers, all of them integers, among them
offsets of the block's values in vectors that all networks share. Each launch has a list of rows.

The output of a block is not stored. Stored is the result of its convolution, y, with the channel last. A kernel that
needs the output computes it on load, by BatchNorm and ReLU. The output of a residual block is a sum over its chain: the
block itself and the blocks before it, back to the first that is not residual. A convolution is a matrix product whose
inner index runs over the positions of the kernel and, within them, the input channels. No result depends on the order
in which programs run.
"""

try:
    import triton
    import triton.language as tl

    INTERPRETED = triton.knobs.runtime.interpret
    jit = triton.jit
except ImportError:  # the module can still be read; `naaplib.training.fused.why_not` says what is missing
    from types import SimpleNamespace

    INTERPRETED, tl = False, SimpleNamespace(constexpr=int)

    def jit(function):
        """Return a kernel that cannot be launched."""
        return function


part = (lambda function: function) if INTERPRETED else jit  # the interpreter sets itself up anew in every call of a jit
if INTERPRETED:
    import builtins

    def range(*bounds):
        """Count as Python does; numpy 2.4 refuses the interpreter's numbers as bounds."""
        return builtins.range(*(int(b.handle.data.item()) if isinstance(b, tl.tensor) else b for b in bounds))


FIELDS = (
    *("previous", "c_in", "c_out", "kernel", "stride", "side_in", "side_out", "residual", "chain", "next_stride"),
    *("last", "network", "weight", "scale", "shift", "linear", "bias", "channels", "y", "gradient", "sums", "features"),
)
PREVIOUS, C_IN, C_OUT, KERNEL, STRIDE, SIDE_IN, SIDE_OUT = [tl.constexpr(place) for place in range(7)]
RESIDUAL, CHAIN_LENGTH, NEXT_STRIDE, LAST, NETWORK = [tl.constexpr(place) for place in range(7, 12)]
WEIGHT, SCALE, SHIFT, LINEAR, BIAS = [tl.constexpr(place) for place in range(12, 17)]
CHANNELS, Y, GRADIENT, SUMS, FEATURES = [tl.constexpr(place) for place in range(17, 22)]
N_FIELDS = tl.constexpr(len(FIELDS))
# Numbers of each channel in a step, one vector after the other: mean, 1 / standard deviation, scale times that, shift,
# and two for the gradient with respect to y: its constant and its slope.
N_VECTORS = 6


@part
def _at(table, row, field: tl.constexpr):
    """Read an offset."""
    return tl.load(table + row * N_FIELDS + field)


@part
def _number(table, row, field: tl.constexpr):
    """Read a small number."""
    return tl.load(table + row * N_FIELDS + field).to(tl.int32)


@part
def _output(table, row, y, channels, n_channels, pixel, channel, mask, CHAIN: tl.constexpr):
    """Compute a block's outputs at pixels and channels."""
    c_out, length = _number(table, row, C_OUT), _number(table, row, CHAIN_LENGTH)
    known = channel < c_out
    total = tl.full(mask.shape, 0.0, tl.float32)
    for link in tl.static_range(CHAIN):
        vector = channels + _at(table, row, CHANNELS) + channel
        mean = tl.load(vector, mask=known, other=0.0)
        scale = tl.load(vector + 2 * n_channels, mask=known, other=0.0)
        shift = tl.load(vector + 3 * n_channels, mask=known, other=0.0)
        here = mask & (link < length)
        value = tl.load(y + _at(table, row, Y) + pixel * c_out + channel, mask=here, other=0.0)
        total += tl.where(here, tl.maximum((value - mean) * scale + shift, 0.0), 0.0)
        row = tl.maximum(_at(table, row, PREVIOUS), 0)
    return total


@part
def _input(
    table, row, images, index, y, channels, n_channels, image, top, left, place, known,
    FIRST: tl.constexpr, CHAIN: tl.constexpr,
):  # fmt: skip
    """Compute a convolution's inputs (pixels of its output, places of its inner index)."""
    c_in, kernel = _number(table, row, C_IN), _number(table, row, KERNEL)
    stride, side = _number(table, row, STRIDE), _number(table, row, SIDE_IN)
    channel, tap = (place % c_in)[None, :], (place // c_in)[None, :]
    v = top[:, None] * stride + tap // kernel - kernel // 2
    u = left[:, None] * stride + tap % kernel - kernel // 2
    mask = known[:, None] & (tap < kernel * kernel) & (v >= 0) & (v < side) & (u >= 0) & (u < side)
    if FIRST:
        pixels = images + ((index[:, None] * c_in + channel) * side + v) * side + u
        value = tl.load(pixels, mask=mask, other=0).to(tl.float32)
        result = tl.where(mask, (value / 255.0 - 0.5) / 0.5, 0.0)
    else:
        pixel = (image[:, None] * side + v) * side + u
        before = _at(table, row, PREVIOUS)
        result = _output(table, before, y, channels, n_channels, pixel, channel, mask, CHAIN)
    return result


@jit
def conv_forward(
    table, rows, images, order, step, weights, y, channels, n_channels, sums, n_images, batch_size,
    FIRST: tl.constexpr, CHAIN: tl.constexpr, TRAIN: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Convolve; store y, and the mean and the sum of squared deviations of each tile."""
    row = tl.load(rows + tl.program_id(1))
    tile = tl.program_id(0)
    c_in, c_out = _number(table, row, C_IN), _number(table, row, C_OUT)
    side, kernel = _number(table, row, SIDE_OUT), _number(table, row, KERNEL)
    n_pixels, n_places = n_images * side * side, kernel * kernel * c_in
    if (tile * BM < n_pixels) & (tl.program_id(2) * BN < c_out):
        channel = tl.program_id(2) * BN + tl.arange(0, BN)
        pixel = tile * BM + tl.arange(0, BM)
        known = pixel < n_pixels
        image = pixel // (side * side)
        top, left = pixel // side % side, pixel % side
        index = image.to(tl.int64)
        if FIRST:
            index = tl.load(order + tl.load(step) * batch_size + image, mask=known, other=0)
        result = tl.full([BM, BN], 0.0, tl.float32)
        for start in range(0, n_places, BK):
            place = start + tl.arange(0, BK)
            x = _input(
                table, row, images, index, y, channels, n_channels, image, top, left, place, known, FIRST, CHAIN
            )  # fmt: skip
            offset = (channel[None, :] * c_in + (place % c_in)[:, None]) * kernel * kernel + (place // c_in)[:, None]
            inside = (place < n_places)[:, None] & (channel < c_out)[None, :]
            w = tl.load(weights + _at(table, row, WEIGHT) + offset, mask=inside, other=0.0)
            result = tl.dot(x, w, result, input_precision=PRECISION)
        mask = known[:, None] & (channel < c_out)[None, :]
        tl.store(y + _at(table, row, Y) + pixel[:, None] * c_out + channel[None, :], result, mask=mask)
        if TRAIN:
            mean = tl.sum(result, 0) / tl.minimum(n_pixels - tile * BM, BM).to(tl.float32)
            centred = tl.where(mask, result - mean[None, :], 0.0)
            to = sums + _at(table, row, SUMS) + tile * 2 * c_out + channel
            tl.store(to, mean, mask=channel < c_out)
            tl.store(to + c_out, tl.sum(centred * centred, 0), mask=channel < c_out)


@jit
def finish_forward(
    table, rows, weights, channels, n_channels, sums, running_mean, running_var, n_images, share, eps,
    TRAIN: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Combine the statistics of the tiles, and update the running ones."""
    row = tl.load(rows + tl.program_id(0))
    c_out, side = _number(table, row, C_OUT), _number(table, row, SIDE_OUT)
    channel = tl.arange(0, BC)
    known = channel < c_out
    offset = _at(table, row, CHANNELS) + channel
    if TRAIN:
        n_pixels = n_images * side * side
        n_tiles = (n_pixels + BM - 1) // BM
        mean, squares = tl.full([BC], 0.0, tl.float32), tl.full([BC], 0.0, tl.float32)
        for start in range(0, n_tiles, BT):
            tile = start + tl.arange(0, BT)
            size = tl.maximum(tl.minimum(n_pixels - tile * BM, BM), 0).to(tl.float32)
            part = sums + _at(table, row, SUMS) + tile[:, None] * 2 * c_out + channel[None, :]
            theirs = tl.load(part, mask=(tile < n_tiles)[:, None] & known[None, :], other=0.0)
            mean += tl.sum(theirs * size[:, None], 0)
        mean = mean / n_pixels
        for start in range(0, n_tiles, BT):
            tile = start + tl.arange(0, BT)
            size = tl.maximum(tl.minimum(n_pixels - tile * BM, BM), 0).to(tl.float32)
            part = sums + _at(table, row, SUMS) + tile[:, None] * 2 * c_out + channel[None, :]
            mask = (tile < n_tiles)[:, None] & known[None, :]
            apart = tl.where(mask, tl.load(part, mask=mask, other=0.0) - mean[None, :], 0.0)
            squares += tl.sum(tl.load(part + c_out, mask=mask, other=0.0) + apart * apart * size[:, None], 0)
        var = squares / n_pixels
        before = tl.load(running_mean + offset, mask=known, other=0.0)
        tl.store(running_mean + offset, before + share * (mean - before), mask=known)
        before = tl.load(running_var + offset, mask=known, other=0.0)
        tl.store(running_var + offset, before + share * (squares / (n_pixels - 1) - before), mask=known)
    else:
        mean = tl.load(running_mean + offset, mask=known, other=0.0)
        var = tl.load(running_var + offset, mask=known, other=1.0)
    deviation = 1.0 / tl.sqrt(var + eps)
    scale = tl.load(weights + _at(table, row, SCALE) + channel, mask=known, other=0.0)
    shift = tl.load(weights + _at(table, row, SHIFT) + channel, mask=known, other=0.0)
    tl.store(channels + offset, mean, mask=known)
    tl.store(channels + n_channels + offset, deviation, mask=known)
    tl.store(channels + 2 * n_channels + offset, scale * deviation, mask=known)
    tl.store(channels + 3 * n_channels + offset, shift, mask=known)


@jit
def head(
    table, rows, labels, order, step, weights, y, channels, n_channels, features, parts, n_weights, counts,
    n_networks, n_images, batch_size, n_classes, CHAIN: tl.constexpr, TRAIN: tl.constexpr, SPLITS: tl.constexpr,
    BI: tl.constexpr, BC: tl.constexpr, BL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Classify a part of the images; store losses and gradients, or add to counts."""
    row = tl.load(rows + tl.program_id(0))
    split = tl.program_id(1)
    c_out, side = _number(table, row, C_OUT), _number(table, row, SIDE_OUT)
    size = (n_images + SPLITS - 1) // SPLITS
    image = split * size + tl.arange(0, BI)
    known = (tl.arange(0, BI) < size) & (image < n_images)
    channel, label = tl.arange(0, BC), tl.arange(0, BL)
    mask = known[:, None] & (channel < c_out)[None, :]
    feature = tl.full([BI, BC], 0.0, tl.float32)
    for place in range(0, side * side):
        pixel = (image * side * side + place)[:, None]
        feature += _output(table, row, y, channels, n_channels, pixel, channel[None, :], mask, CHAIN)
    feature = feature / (side * side)
    linear, bias = _at(table, row, LINEAR), _at(table, row, BIAS)
    inside = (channel < c_out)[:, None] & (label < n_classes)[None, :]
    w = tl.load(weights + linear + label[None, :] * c_out + channel[:, None], mask=inside, other=0.0)
    b = tl.load(weights + bias + label, mask=label < n_classes, other=0.0)
    logits = tl.dot(feature, w, input_precision=PRECISION) + b[None, :]
    logits = tl.where((label < n_classes)[None, :], logits, -float("inf"))
    index = tl.load(order + tl.load(step) * batch_size + image, mask=known, other=0)
    truth = tl.load(labels + index, mask=known, other=0)
    count = counts + split * n_networks + _at(table, row, NETWORK)
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
        tl.store(features + _at(table, row, FEATURES) + image[:, None] * c_out + channel[None, :], back, mask=mask)
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
