# mypy: ignore-errors
# Reason: Triton compiles these functions, whose values have no types that mypy knows.
"""Triton kernels of convolutions and losses, for `naaplib.training.fused`.

A row of the table describes one block of one network: `FIELDS` names its numbers, all of them integers, among them
offsets of the block's values in vectors that all networks share. Each launch has a list of rows.

The output of a block is not stored. Stored is the result of its convolution, y, with the channel last. A kernel that
needs the output computes it on load, by BatchNorm and ReLU. The output of a residual block is a sum over its chain: the
block itself and the blocks before it, back to the first that is not residual. The y of first blocks, half of all, make
room for the gradients with respect to their outputs: kernels that need both compute y from the images again.

A convolution is a matrix product whose inner index runs over the positions of the kernel ("taps") and, within them, the
input channels, which begin anew with a block of the index, so that neighbours in it are neighbours in memory. No result
depends on the order in which programs run.
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


@part
def _rounded(value, to):
    """Return values that a store rounds."""
    return value


if INTERPRETED:
    import builtins

    def _rounded(value, to):
        """Round to the nearest 16 bits, as a GPU does; the interpreter cuts."""
        if to.dtype.element_ty == tl.float32:
            return value
        bits = value.to(tl.int32, bitcast=True)
        return (bits + 0x7FFF + ((bits >> 16) & 1)).to(tl.float32, bitcast=True)

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
def _row(table, number):
    """Point to a row of the table."""
    return table + number * N_FIELDS


@part
def _at(row, field: tl.constexpr):
    """Read an offset."""
    return tl.load(row + field)


@part
def _number(row, field: tl.constexpr):
    """Read a small number."""
    return tl.load(row + field).to(tl.int32)


@part
def _spot(pixel, side):
    """Find the image, the row and the column of a pixel."""
    return pixel // (side * side), pixel // side % side, pixel % side


@part
def _index(batch, image, known):
    """Read the numbers of images in a batch, whose part of the order is given."""
    return tl.load(batch + image, mask=known, other=0)


@part
def _wide(n_channels):
    """Round channels up to whole loads of four values; those beyond are zeros."""
    return (n_channels + 3) // 4 * 4


@part
def _place(row, field: tl.constexpr, pixel, channel):
    """Compute places of values whose channels come last; the compiler sees that they begin at multiples of four."""
    return _at(row, field) // 4 * 4 + pixel * _wide(_number(row, C_OUT)) + channel


@part
def _weight(row, channel, source, tap):
    """Compute places of weights: channel of the output, channel of the input, position in the kernel."""
    kernel = _number(row, KERNEL)
    return _at(row, WEIGHT) + (channel * _number(row, C_IN) + source) * kernel * kernel + tap


@part
def _under(row, top, left, tap):
    """Find the input's rows and columns under a position of the kernel, and whether they exist."""
    kernel, stride, side = _number(row, KERNEL), _number(row, STRIDE), _number(row, SIDE_IN)
    v, u = top * stride + tap // kernel - kernel // 2, left * stride + tap % kernel - kernel // 2
    return v, u, (tap < kernel * kernel) & (v >= 0) & (v < side) & (u >= 0) & (u < side)


@part
def _activate(row, value, channel, channels, n_channels):
    """Apply BatchNorm and ReLU to results of a convolution."""
    vector, known = channels + _at(row, CHANNELS) + channel, channel < _number(row, C_OUT)
    mean = tl.load(vector, mask=known, other=0.0)
    scale = tl.load(vector + 2 * n_channels, mask=known, other=0.0)
    shift = tl.load(vector + 3 * n_channels, mask=known, other=0.0)
    return tl.maximum((value - mean) * scale + shift, 0.0)


@part
def _output(table, row, pixel, channel, mask, y, channels, n_channels, CHAIN: tl.constexpr):
    """Compute a block's outputs at pixels and channels."""
    length = _number(row, CHAIN_LENGTH)
    total = tl.full(mask.shape, 0.0, tl.float32)
    for link in tl.static_range(CHAIN):
        here = mask & (link < length)
        value = tl.load(y + _place(row, Y, pixel, channel), mask=here, other=0.0).to(tl.float32)
        total += tl.where(here, _activate(row, value, channel, channels=channels, n_channels=n_channels), 0.0)
        row = _row(table, tl.maximum(_at(row, PREVIOUS), 0))
    return total


@part
def _patch(row, images, index, known, top, left, WIDE: tl.constexpr):
    """Read what a first convolution needs of the images: pixels of its output, places of its inner index."""
    c_in, side, place = _number(row, C_IN), _number(row, SIDE_IN), tl.arange(0, WIDE)
    channel, tap = (place % c_in)[None, :], (place // c_in)[None, :]
    v, u, inside = _under(row, top[:, None], left[:, None], tap)
    mask = known[:, None] & inside
    value = tl.load(images + ((index[:, None] * c_in + channel) * side + v) * side + u, mask=mask, other=0)
    return tl.where(mask, (value.to(tl.float32) / 255.0 - 0.5) / 0.5, 0.0)


@part
def _first_y(row, weights, patch, channel, WIDE: tl.constexpr, PRECISION: tl.constexpr):
    """Convolve patches of images."""
    c_in, kernel, place = _number(row, C_IN), _number(row, KERNEL), tl.arange(0, WIDE)
    inside = (place < kernel * kernel * c_in)[:, None] & (channel < _number(row, C_OUT))[None, :]
    offset = _weight(row, channel[None, :], (place % c_in)[:, None], (place // c_in)[:, None])
    return tl.dot(patch, tl.load(weights + offset, mask=inside, other=0.0), input_precision=PRECISION)


@jit
def conv_forward(
    table, rows, images, order, step, weights, y, channels, n_channels, sums, n_images, batch_size,
    FIRST: tl.constexpr, WIDE: tl.constexpr, CHAIN: tl.constexpr, TRAIN: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Convolve; store y, and the mean and the sum of squared deviations of each tile."""
    row = _row(table, tl.load(rows + tl.program_id(1)))
    tile = tl.program_id(0)
    c_in, c_out = _number(row, C_IN), _number(row, C_OUT)
    side, kernel = _number(row, SIDE_OUT), _number(row, KERNEL)
    n_pixels = n_images * side * side
    if (tile * BM < n_pixels) & (tl.program_id(2) * BN < c_out):
        channel = tl.program_id(2) * BN + tl.arange(0, BN)
        pixel = tile * BM + tl.arange(0, BM)
        known = pixel < n_pixels
        image, top, left = _spot(pixel, side)
        if FIRST:
            index = _index(order + tl.load(step) * batch_size, image, known)
            patch = _patch(row, images, index, known, top=top, left=left, WIDE=WIDE)
            result = _first_y(row, weights, patch, channel, WIDE=WIDE, PRECISION=PRECISION)
        else:
            before, side_in = _row(table, _at(row, PREVIOUS)), _number(row, SIDE_IN)
            result = tl.full([BM, BN], 0.0, tl.float32)
            padded = (c_in + BK - 1) // BK * BK
            for start in range(0, kernel * kernel * padded, BK):
                tap, source = start // padded, start % padded // BK * BK + tl.arange(0, BK)
                v, u, inside = _under(row, top, left, tap)
                mask = (inside & known)[:, None] & (source < _wide(c_in))[None, :]
                place = ((image * side_in + v) * side_in + u)[:, None]
                x = _output(
                    table, before, place, source[None, :], mask=mask, y=y, channels=channels, n_channels=n_channels,
                    CHAIN=CHAIN,
                )  # fmt: skip
                offset = _weight(row, channel[None, :], source[:, None], tap)
                mask = (source < c_in)[:, None] & (channel < c_out)[None, :]
                w = tl.load(weights + offset, mask=mask, other=0.0)
                result = tl.dot(x, w, result, input_precision=PRECISION)
        mask = known[:, None] & (channel < _wide(c_out))[None, :]
        tl.store(y + _place(row, Y, pixel[:, None], channel[None, :]), _rounded(result, y), mask=mask)
        if TRAIN:
            mean = tl.sum(result, 0) / tl.minimum(n_pixels - tile * BM, BM).to(tl.float32)
            centred = tl.where(mask, result - mean[None, :], 0.0)
            to = sums + _at(row, SUMS) + tile * 2 * c_out + channel
            tl.store(to, mean, mask=channel < c_out)
            tl.store(to + c_out, tl.sum(centred * centred, 0), mask=channel < c_out)


@jit
def finish_forward(
    table, rows, weights, channels, n_channels, sums, running_mean, running_var, n_images, share, eps,
    TRAIN: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Combine the statistics of the tiles, and update the running ones."""
    row = _row(table, tl.load(rows + tl.program_id(0)))
    c_out, side = _number(row, C_OUT), _number(row, SIDE_OUT)
    channel = tl.arange(0, BC)
    known = channel < c_out
    offset = _at(row, CHANNELS) + channel
    if TRAIN:
        n_pixels = n_images * side * side
        n_tiles = (n_pixels + BM - 1) // BM
        mean, squares = tl.full([BC], 0.0, tl.float32), tl.full([BC], 0.0, tl.float32)
        for start in range(0, n_tiles, BT):
            tile = start + tl.arange(0, BT)
            size = tl.maximum(tl.minimum(n_pixels - tile * BM, BM), 0).to(tl.float32)
            part = sums + _at(row, SUMS) + tile[:, None] * 2 * c_out + channel[None, :]
            theirs = tl.load(part, mask=(tile < n_tiles)[:, None] & known[None, :], other=0.0)
            mean += tl.sum(theirs * size[:, None], 0)
        mean = mean / n_pixels
        for start in range(0, n_tiles, BT):
            tile = start + tl.arange(0, BT)
            size = tl.maximum(tl.minimum(n_pixels - tile * BM, BM), 0).to(tl.float32)
            part = sums + _at(row, SUMS) + tile[:, None] * 2 * c_out + channel[None, :]
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
    scale = tl.load(weights + _at(row, SCALE) + channel, mask=known, other=0.0)
    shift = tl.load(weights + _at(row, SHIFT) + channel, mask=known, other=0.0)
    tl.store(channels + offset, mean, mask=known)
    tl.store(channels + n_channels + offset, deviation, mask=known)
    tl.store(channels + 2 * n_channels + offset, scale * deviation, mask=known)
    tl.store(channels + 3 * n_channels + offset, shift, mask=known)
