# mypy: ignore-errors
# Reason: Triton compiles these functions, whose values have no types that mypy knows.
"""Triton kernels of gradients and update, for `naaplib.training.fused`.

`naaplib.training.fused_forward` explains tables and layouts.
"""

from naaplib.training.fused_forward import (
    C_IN,
    C_OUT,
    CHANNELS,
    FEATURES,
    GRADIENT,
    INTERPRETED,
    KERNEL,
    LAST,
    NEXT_STRIDE,
    PREVIOUS,
    RESIDUAL,
    SCALE,
    SHIFT,
    SIDE_IN,
    SIDE_OUT,
    STRIDE,
    SUMS,
    WEIGHT,
    Y,
    _at,
    _input,
    _number,
    jit,
    part,
    tl,
)

if INTERPRETED:
    from naaplib.training.fused_forward import range  # see there


@part
def _arriving(table, row, gradients, features, pixel, image, channel, mask):
    """Read the gradient with respect to a block's output.

    It is stored, or it is that of the head, which is equal in all pixels.
    """
    c_out, last = _number(table, row, C_OUT), _number(table, row, LAST)
    stored = gradients + _at(table, row, GRADIENT) + pixel * c_out + channel
    pooled = features + _at(table, row, FEATURES) + image * c_out + channel
    return tl.load(stored, mask=mask & (last == 0), other=0.0) + tl.load(pooled, mask=mask & (last > 0), other=0.0)


@part
def _y_gradient(table, row, y, gradients, features, channels, n_channels, pixel, image, channel, mask):
    """Compute the gradient with respect to y."""
    c_out = _number(table, row, C_OUT)
    known = channel < c_out
    vector = channels + _at(table, row, CHANNELS) + channel
    mean = tl.load(vector, mask=known, other=0.0)
    scale = tl.load(vector + 2 * n_channels, mask=known, other=0.0)
    shift = tl.load(vector + 3 * n_channels, mask=known, other=0.0)
    constant = tl.load(vector + 4 * n_channels, mask=known, other=0.0)
    slope = tl.load(vector + 5 * n_channels, mask=known, other=0.0)
    centred = tl.load(y + _at(table, row, Y) + pixel * c_out + channel, mask=mask, other=0.0) - mean
    arriving = _arriving(table, row, gradients, features, pixel, image, channel, mask)
    passed = tl.where(centred * scale + shift > 0, arriving, 0.0)
    return tl.where(mask, scale * passed - constant - centred * slope, 0.0)


@part
def _store_sums(table, row, y, channels, n_channels, sums, tile, pixel, channel, mask, arriving):
    """Store a tile's sums of the gradient behind the ReLU, and of it times normalised y."""
    c_out = _number(table, row, C_OUT)
    known = channel < c_out
    vector = channels + _at(table, row, CHANNELS) + channel
    mean = tl.load(vector, mask=known, other=0.0)
    deviation = tl.load(vector + n_channels, mask=known, other=0.0)
    scale = tl.load(vector + 2 * n_channels, mask=known, other=0.0)
    shift = tl.load(vector + 3 * n_channels, mask=known, other=0.0)
    place = y + _at(table, row, Y) + pixel[:, None] * c_out + channel[None, :]
    centred = tl.load(place, mask=mask, other=0.0) - mean[None, :]
    passed = tl.where(mask & (centred * scale[None, :] + shift[None, :] > 0), arriving, 0.0)
    to = sums + _at(table, row, SUMS) + tile * 2 * c_out + channel
    tl.store(to, tl.sum(passed, 0), mask=known)
    tl.store(to + c_out, tl.sum(passed * centred * deviation[None, :], 0), mask=known)


@jit
def last_sums(
    table, rows, y, features, channels, n_channels, sums, n_images, BM: tl.constexpr, BN: tl.constexpr
):  # fmt: skip
    """Store the gradient's sums of the last blocks."""
    row = tl.load(rows + tl.program_id(1))
    tile = tl.program_id(0)
    c_out, side = _number(table, row, C_OUT), _number(table, row, SIDE_OUT)
    if (tile * BM < n_images * side * side) & (tl.program_id(2) * BN < c_out):
        pixel = tile * BM + tl.arange(0, BM)
        channel = tl.program_id(2) * BN + tl.arange(0, BN)
        mask = (pixel < n_images * side * side)[:, None] & (channel < c_out)[None, :]
        pooled = features + _at(table, row, FEATURES) + (pixel // (side * side))[:, None] * c_out + channel[None, :]
        arriving = tl.load(pooled, mask=mask, other=0.0)
        _store_sums(table, row, y, channels, n_channels, sums, tile, pixel, channel, mask, arriving)


@jit
def finish_backward(
    table, rows, channels, n_channels, sums, parts, n_images, BM: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr
):
    """Add up the gradient's sums, which give BatchNorm's gradients."""
    row = tl.load(rows + tl.program_id(0))
    c_out, side, stride = _number(table, row, C_OUT), _number(table, row, SIDE_OUT), _number(table, row, NEXT_STRIDE)
    channel = tl.arange(0, BC)
    known = channel < c_out
    coarse = (side + stride - 1) // stride
    n_tiles = stride * stride * ((n_images * coarse * coarse + BM - 1) // BM)  # those of `data_gradient`
    plain, scaled = tl.full([BC], 0.0, tl.float32), tl.full([BC], 0.0, tl.float32)
    for start in range(0, n_tiles, BT):
        tile = start + tl.arange(0, BT)
        mask = (tile < n_tiles)[:, None] & known[None, :]
        part = sums + _at(table, row, SUMS) + tile[:, None] * 2 * c_out + channel[None, :]
        plain += tl.sum(tl.load(part, mask=mask, other=0.0), 0)
        scaled += tl.sum(tl.load(part + c_out, mask=mask, other=0.0), 0)
    tl.store(parts + _at(table, row, SHIFT) + channel, plain, mask=known)
    tl.store(parts + _at(table, row, SCALE) + channel, scaled, mask=known)
    vector = channels + _at(table, row, CHANNELS) + channel
    deviation = tl.load(vector + n_channels, mask=known, other=0.0)
    scale = tl.load(vector + 2 * n_channels, mask=known, other=0.0) / (n_images * side * side)
    tl.store(vector + 4 * n_channels, scale * plain, mask=known)
    tl.store(vector + 5 * n_channels, scale * deviation * scaled, mask=known)


@jit
def weight_gradient(
    table, rows, images, order, step, y, gradients, features, channels, n_channels, parts, n_weights, n_images,
    batch_size, N_BLOCKS: tl.constexpr, FIRST: tl.constexpr, CHAIN: tl.constexpr, SPLITS: tl.constexpr,
    BP: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the gradient of convolution weights from one part of the pixels."""
    row = tl.load(rows + tl.program_id(1))
    block, column, split = tl.program_id(0) % N_BLOCKS, tl.program_id(0) // N_BLOCKS, tl.program_id(2)
    c_in, c_out = _number(table, row, C_IN), _number(table, row, C_OUT)
    side, kernel = _number(table, row, SIDE_OUT), _number(table, row, KERNEL)
    n_pixels, n_places = n_images * side * side, kernel * kernel * c_in
    if (block * BR < n_places) & (column * BN < c_out):
        place = block * BR + tl.arange(0, BR)
        channel = column * BN + tl.arange(0, BN)
        size = ((n_pixels + SPLITS - 1) // SPLITS + BP - 1) // BP * BP
        result = tl.full([BR, BN], 0.0, tl.float32)
        for start in range(split * size, tl.minimum(n_pixels, (split + 1) * size), BP):
            pixel = start + tl.arange(0, BP)
            known = pixel < n_pixels
            image = pixel // (side * side)
            top, left = pixel // side % side, pixel % side
            index = image.to(tl.int64)
            if FIRST:
                index = tl.load(order + tl.load(step) * batch_size + image, mask=known, other=0)
            x = _input(
                table, row, images, index, y, channels, n_channels, image, top, left, place, known, FIRST, CHAIN
            )  # fmt: skip
            mask = known[:, None] & (channel < c_out)[None, :]
            g = _y_gradient(
                table, row, y, gradients, features, channels, n_channels, pixel[:, None], image[:, None],
                channel[None, :], mask,
            )  # fmt: skip
            result = tl.dot(tl.trans(x), g, result, input_precision=PRECISION)
        offset = (channel[None, :] * c_in + (place % c_in)[:, None]) * kernel * kernel + (place // c_in)[:, None]
        inside = (place < n_places)[:, None] & (channel < c_out)[None, :]
        tl.store(parts + split.to(tl.int64) * n_weights + _at(table, row, WEIGHT) + offset, result, mask=inside)


@jit
def data_gradient(
    table, rows, weights, y, gradients, features, channels, n_channels, sums, n_images,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the gradient with respect to the previous block's output, and its sums.

    The pixels of a tile have the same remainders by the stride, so all of them meet the same positions of the kernel.
    """
    row = tl.load(rows + tl.program_id(1))
    before = _at(table, row, PREVIOUS)
    tile = tl.program_id(0)
    c_in, c_out = _number(table, row, C_IN), _number(table, row, C_OUT)
    side, side_out = _number(table, row, SIDE_IN), _number(table, row, SIDE_OUT)
    stride, kernel = _number(table, row, STRIDE), _number(table, row, KERNEL)
    coarse = (side + stride - 1) // stride
    n_tiles = (n_images * coarse * coarse + BM - 1) // BM  # per pair of remainders
    part = tile // n_tiles
    if (part < stride * stride) & (tl.program_id(2) * BN < c_in):
        number = (tile % n_tiles) * BM + tl.arange(0, BM)
        image = number // (coarse * coarse)
        v, u = number // coarse % coarse * stride + part // stride, number % coarse * stride + part % stride
        known = (image < n_images) & (v < side) & (u < side)
        channel = tl.program_id(2) * BN + tl.arange(0, BN)
        first_v, first_u = (part // stride + kernel // 2) % stride, (part % stride + kernel // 2) % stride
        n_u = (kernel - first_u + stride - 1) // stride
        n_places = (kernel - first_v + stride - 1) // stride * n_u * c_out
        result = tl.full([BM, BN], 0.0, tl.float32)
        for start in range(0, n_places, BK):
            place = start + tl.arange(0, BK)
            source, tap = place % c_out, place // c_out
            down, across = first_v + tap // n_u * stride, first_u + tap % n_u * stride
            top = v[:, None] + kernel // 2 - down[None, :]  # a multiple of the stride
            left = u[:, None] + kernel // 2 - across[None, :]
            mask = known[:, None] & (place < n_places)[None, :] & (top >= 0) & (left >= 0)
            top, left = top // stride, left // stride
            mask = mask & (top < side_out) & (left < side_out)
            pixel = (image[:, None] * side_out + top) * side_out + left
            g = _y_gradient(
                table, row, y, gradients, features, channels, n_channels, pixel, image[:, None], source[None, :], mask
            )  # fmt: skip
            offset = (source[:, None] * c_in + channel[None, :]) * kernel * kernel + (down * kernel + across)[:, None]
            inside = (place < n_places)[:, None] & (channel < c_in)[None, :]
            w = tl.load(weights + _at(table, row, WEIGHT) + offset, mask=inside, other=0.0)
            result = tl.dot(g, w, result, input_precision=PRECISION)
        pixel = (image * side + v) * side + u
        mask = known[:, None] & (channel < c_in)[None, :]
        skip = mask & (_number(table, row, RESIDUAL) > 0)
        result += _arriving(
            table, row, gradients, features, pixel[:, None], image[:, None], channel[None, :], skip
        )  # fmt: skip
        to = gradients + _at(table, before, GRADIENT) + pixel[:, None] * c_in + channel[None, :]
        tl.store(to, result, mask=mask)
        _store_sums(table, before, y, channels, n_channels, sums, tile, pixel, channel, mask, result)


@jit
def update(
    weights, momenta, gradient, parts, n_weights, rate, step, momentum, decay, SPLITS: tl.constexpr, BN: tl.constexpr
):
    """Add up the gradient's parts in their order, and update the weights."""
    place = tl.program_id(0) * BN + tl.arange(0, BN)
    known = place < n_weights
    total = tl.full([BN], 0.0, tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(parts + split * n_weights.to(tl.int64) + place, mask=known, other=0.0)
    weight = tl.load(weights + place, mask=known, other=0.0)
    total += decay * weight
    velocity = momentum * tl.load(momenta + place, mask=known, other=0.0) + total
    tl.store(gradient + place, total, mask=known)
    tl.store(momenta + place, velocity, mask=known)
    tl.store(weights + place, weight - tl.load(rate) * velocity, mask=known)
    if tl.program_id(0) == 0:
        tl.store(step, tl.load(step) + 1)
