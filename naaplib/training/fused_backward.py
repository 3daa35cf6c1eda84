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
    Y,
    _at,
    _first_y,
    _index,
    _number,
    _output,
    _patch,
    _place,
    _rounded,
    _row,
    _spot,
    _under,
    _weight,
    _wide,
    jit,
    part,
    tl,
)

if INTERPRETED:
    from naaplib.training.fused_forward import range  # see there


@part
def _arriving(row, gradients, features, pixel, image, channel, mask):
    """Read the gradient with respect to a block's output.

    It is stored, or it is that of the head, which is equal in all pixels.
    """
    last = _number(row, LAST)
    stored, pooled = _place(row, GRADIENT, pixel, channel), _place(row, FEATURES, image, channel)
    value = tl.load(gradients + stored, mask=mask & (last == 0), other=0.0).to(tl.float32)
    return value + tl.load(features + pooled, mask=mask & (last > 0), other=0.0)


@part
def _y_gradient(row, value, arriving, channels, n_channels, channel, mask):
    """Compute the gradient with respect to y, whose values are given."""
    known = channel < _number(row, C_OUT)
    vector = channels + _at(row, CHANNELS) + channel
    mean = tl.load(vector, mask=known, other=0.0)
    scale = tl.load(vector + 2 * n_channels, mask=known, other=0.0)
    shift = tl.load(vector + 3 * n_channels, mask=known, other=0.0)
    constant = tl.load(vector + 4 * n_channels, mask=known, other=0.0)
    slope = tl.load(vector + 5 * n_channels, mask=known, other=0.0)
    centred = value - mean
    passed = tl.where(centred * scale + shift > 0, arriving, 0.0)
    return tl.where(mask, scale * passed - constant - centred * slope, 0.0)


@part
def _store_sums(row, value, channels, n_channels, sums, tile, channel, mask, arriving):
    """Store a tile's sums of the gradient behind the ReLU, and of it times normalised y."""
    c_out = _number(row, C_OUT)
    known = channel < c_out
    vector = channels + _at(row, CHANNELS) + channel
    mean = tl.load(vector, mask=known, other=0.0)
    deviation = tl.load(vector + n_channels, mask=known, other=0.0)
    scale = tl.load(vector + 2 * n_channels, mask=known, other=0.0)
    shift = tl.load(vector + 3 * n_channels, mask=known, other=0.0)
    centred = value - mean[None, :]
    passed = tl.where(mask & (centred * scale[None, :] + shift[None, :] > 0), arriving, 0.0)
    to = sums + _at(row, SUMS) + tile * 2 * c_out + channel
    tl.store(to, tl.sum(passed, 0), mask=known)
    tl.store(to + c_out, tl.sum(passed * centred * deviation[None, :], 0), mask=known)


@jit
def last_sums(
    table, rows, y, features, channels, n_channels, sums, n_images, BM: tl.constexpr, BN: tl.constexpr
):  # fmt: skip
    """Store the gradient's sums of the last blocks."""
    row = _row(table, tl.load(rows + tl.program_id(1)))
    tile = tl.program_id(0)
    c_out, side = _number(row, C_OUT), _number(row, SIDE_OUT)
    if (tile * BM < n_images * side * side) & (tl.program_id(2) * BN < c_out):
        pixel = (tile * BM + tl.arange(0, BM))[:, None]
        channel = tl.program_id(2) * BN + tl.arange(0, BN)
        mask = (pixel < n_images * side * side) & (channel < _wide(c_out))[None, :]
        pooled = _place(row, FEATURES, pixel // (side * side), channel[None, :])
        arriving = tl.load(features + pooled, mask=mask, other=0.0)
        value = tl.load(y + _place(row, Y, pixel, channel[None, :]), mask=mask, other=0.0).to(tl.float32)
        _store_sums(
            row,
            value,
            channels=channels,
            n_channels=n_channels,
            sums=sums,
            tile=tile,
            channel=channel,
            mask=mask,
            arriving=arriving,
        )


@jit
def finish_backward(
    table, rows, channels, n_channels, sums, parts, n_images, BM: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr
):
    """Add up the gradient's sums, which give BatchNorm's gradients."""
    row = _row(table, tl.load(rows + tl.program_id(0)))
    c_out, side, stride = _number(row, C_OUT), _number(row, SIDE_OUT), _number(row, NEXT_STRIDE)
    channel = tl.arange(0, BC)
    known = channel < c_out
    coarse = (side + stride - 1) // stride
    n_tiles = stride * stride * ((n_images * coarse * coarse + BM - 1) // BM)  # those of `data_gradient`
    plain, scaled = tl.full([BC], 0.0, tl.float32), tl.full([BC], 0.0, tl.float32)
    for start in range(0, n_tiles, BT):
        tile = start + tl.arange(0, BT)
        mask = (tile < n_tiles)[:, None] & known[None, :]
        part = sums + _at(row, SUMS) + tile[:, None] * 2 * c_out + channel[None, :]
        plain += tl.sum(tl.load(part, mask=mask, other=0.0), 0)
        scaled += tl.sum(tl.load(part + c_out, mask=mask, other=0.0), 0)
    tl.store(parts + _at(row, SHIFT) + channel, plain, mask=known)
    tl.store(parts + _at(row, SCALE) + channel, scaled, mask=known)
    vector = channels + _at(row, CHANNELS) + channel
    deviation = tl.load(vector + n_channels, mask=known, other=0.0)
    scale = tl.load(vector + 2 * n_channels, mask=known, other=0.0) / (n_images * side * side)
    tl.store(vector + 4 * n_channels, scale * plain, mask=known)
    tl.store(vector + 5 * n_channels, scale * deviation * scaled, mask=known)


@jit
def weight_gradient(
    table, rows, images, order, step, weights, y, gradients, features, channels, n_channels, parts, n_weights,
    n_images, batch_size, N_BLOCKS: tl.constexpr, FIRST: tl.constexpr, CHAIN: tl.constexpr, SPLITS: tl.constexpr,
    BP: tl.constexpr, BR: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the gradient of convolution weights from one part of the pixels."""
    row = _row(table, tl.load(rows + tl.program_id(1)))
    block, column, split = tl.program_id(0) % N_BLOCKS, tl.program_id(0) // N_BLOCKS, tl.program_id(2)
    c_in, c_out = _number(row, C_IN), _number(row, C_OUT)
    side, kernel = _number(row, SIDE_OUT), _number(row, KERNEL)
    before, side_in = _row(table, _at(row, PREVIOUS)), _number(row, SIDE_IN)
    n_pixels = n_images * side * side
    padded = c_in if FIRST else (c_in + 15) // 16 * 16
    if (block * BR < kernel * kernel * padded) & (column * BN < c_out):
        place = block * BR + tl.arange(0, BR)
        tap, source = place // padded, place % padded
        channel = column * BN + tl.arange(0, BN)
        size = ((n_pixels + SPLITS - 1) // SPLITS + BP - 1) // BP * BP
        result = tl.full([BR, BN], 0.0, tl.float32)
        for start in range(split * size, tl.minimum(n_pixels, (split + 1) * size), BP):
            pixel = start + tl.arange(0, BP)
            known = pixel < n_pixels
            image, top, left = _spot(pixel, side)
            mask = known[:, None] & (channel < _wide(c_out))[None, :]
            if FIRST:
                index = _index(order + tl.load(step) * batch_size, image, known)
                x = _patch(row, images, index, known, top=top, left=left, WIDE=BR)
            else:
                v, u, inside = _under(row, top[:, None], left[:, None], tap[None, :])
                inside = inside & known[:, None] & (source < _wide(c_in))[None, :]
                theirs = (image[:, None] * side_in + v) * side_in + u
                x = _output(
                    table, before, theirs, source[None, :], mask=inside, y=y, channels=channels, n_channels=n_channels,
                    CHAIN=CHAIN,
                )  # fmt: skip
            if FIRST:
                value = _first_y(row, weights, x, channel, WIDE=BR, PRECISION=PRECISION)
            else:
                at = _place(row, Y, pixel[:, None], channel[None, :])
                value = tl.load(y + at, mask=mask, other=0.0).to(tl.float32)
            arriving = _arriving(
                row, gradients, features=features, pixel=pixel[:, None], image=image[:, None],
                channel=channel[None, :], mask=mask,
            )  # fmt: skip
            g = _y_gradient(
                row,
                value,
                arriving=arriving,
                channels=channels,
                n_channels=n_channels,
                channel=channel[None, :],
                mask=mask,
            )
            result = tl.dot(tl.trans(x), g, result, input_precision=PRECISION)
        inside = ((tap < kernel * kernel) & (source < c_in))[:, None] & (channel < c_out)[None, :]
        offset = _weight(row, channel[None, :], source[:, None], tap[:, None])
        tl.store(parts + split.to(tl.int64) * n_weights + offset, result, mask=inside)


@jit
def data_gradient(
    table, rows, images, order, step, weights, y, gradients, features, channels, n_channels, sums, n_images,
    batch_size, FIRST: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Store the gradient with respect to the previous block's output, and its sums.

    FIRST says that this is the first block. The pixels of a tile have the same remainders by the stride, so all of them
    meet the same positions of the kernel.
    """
    row = _row(table, tl.load(rows + tl.program_id(1)))
    before = _row(table, _at(row, PREVIOUS))
    tile = tl.program_id(0)
    c_in, c_out = _number(row, C_IN), _number(row, C_OUT)
    side, side_out = _number(row, SIDE_IN), _number(row, SIDE_OUT)
    stride, kernel = _number(row, STRIDE), _number(row, KERNEL)
    coarse = (side + stride - 1) // stride
    n_tiles = (n_images * coarse * coarse + BM - 1) // BM  # per pair of remainders
    part = tile // n_tiles
    if (part < stride * stride) & (tl.program_id(2) * BN < c_in):
        image, v, u = _spot((tile % n_tiles) * BM + tl.arange(0, BM), coarse)
        v, u = v * stride + part // stride, u * stride + part % stride
        known = (image < n_images) & (v < side) & (u < side)
        channel = tl.program_id(2) * BN + tl.arange(0, BN)
        first_v, first_u = (part // stride + kernel // 2) % stride, (part % stride + kernel // 2) % stride
        n_u = (kernel - first_u + stride - 1) // stride
        n_taps = (kernel - first_v + stride - 1) // stride * n_u
        padded = (c_out + BK - 1) // BK * BK
        result = tl.full([BM, BN], 0.0, tl.float32)
        for start in range(0, n_taps * padded, BK):
            tap, source = start // padded, start % padded // BK * BK + tl.arange(0, BK)
            down, across = first_v + tap // n_u * stride, first_u + tap % n_u * stride
            top, left = v + kernel // 2 - down, u + kernel // 2 - across  # multiples of the stride
            inside = known & (top >= 0) & (left >= 0)
            top, left = top // stride, left // stride
            inside = inside & (top < side_out) & (left < side_out)
            mask = inside[:, None] & (source < _wide(c_out))[None, :]
            pixel = ((image * side_out + top) * side_out + left)[:, None]
            place = _place(row, Y, pixel, source[None, :])
            value = tl.load(y + place, mask=mask, other=0.0).to(tl.float32)
            arriving = _arriving(
                row, gradients, features=features, pixel=pixel, image=image[:, None], channel=source[None, :], mask=mask
            )
            g = _y_gradient(
                row,
                value,
                arriving=arriving,
                channels=channels,
                n_channels=n_channels,
                channel=source[None, :],
                mask=mask,
            )
            offset = _weight(row, source[:, None], channel[None, :], down * kernel + across)
            within = (source < c_out)[:, None] & (channel < c_in)[None, :]
            w = tl.load(weights + offset, mask=within, other=0.0)
            result = tl.dot(g, w, result, input_precision=PRECISION)
        pixel = ((image * side + v) * side + u)[:, None]
        mask = known[:, None] & (channel < _wide(c_in))[None, :]
        skip = mask & (_number(row, RESIDUAL) > 0)
        result += _arriving(
            row, gradients, features=features, pixel=pixel, image=image[:, None], channel=channel[None, :], mask=skip
        )
        place = _place(before, GRADIENT, pixel, channel[None, :])
        tl.store(gradients + place, _rounded(result, gradients), mask=mask)
        if FIRST:
            index = _index(order + tl.load(step) * batch_size, image, known)
            patch = _patch(before, images, index, known, top=v, left=u, WIDE=WIDE)
            value = _first_y(before, weights, patch, channel, WIDE=WIDE, PRECISION=PRECISION)
        else:
            place = _place(before, Y, pixel, channel[None, :])
            value = tl.load(y + place, mask=mask, other=0.0).to(tl.float32)
        _store_sums(
            before,
            value,
            channels=channels,
            n_channels=n_channels,
            sums=sums,
            tile=tile,
            channel=channel,
            mask=mask,
            arriving=result,
        )


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
