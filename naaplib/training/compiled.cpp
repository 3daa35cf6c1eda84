// Trains one network of a scheme on one core of a CPU: forward, loss, backward, momentum, evaluation.
//
// This file is compiled in two ways, by compiled.py. With the shape of a layer (C_IN, C_OUT, KERNEL, STRIDE, SIDE) it
// gives that layer's kernels, which work on one image at a time with every size known to the compiler. Without, it
// gives the driver: loops over batches, layers and images that know sizes at run time only, and call the kernels.
//
//     1  vectors        as wide as the target's registers: the number of lanes is the only thing that depends on it
//     2  interface      what a layer's kernels are
//     3  one layer      packing of weights, the product in registers, convolution, its two gradients, BatchNorm
//     4  the driver     memory of a network, forward, head and loss, backward, step, epoch, evaluation
//
// Images are stored channels last: (row, column, channel). A layer's input x has a border of zeros as wide as its
// padding; its output y has one as wide as the input gradient needs, so that no loop asks where the image ends.
// Nothing is computed in an order that could change from run to run.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

// ---------------------------------------------------------------------------------------------------- 1  vectors

#ifndef SCALAR
#define SCALAR float
#endif
using Scalar = SCALAR;

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16, REGISTERS = 32;
#else
constexpr int VECTOR_BYTES = 16, REGISTERS = 16;
#endif

// ------------------------------------------------------------------------------------------------- 2  interface

struct Kernels {
    int c_in, c_out, kernel, stride, side, side_out;
    int x_image, x_row, x_start;  // scalars of an image and of a row of x, and before its first pixel
    int y_image;                  // scalars of an image of y
    int n_packed, n_packed_back;  // scalars of the weights as `convolve` and as `input_gradient` read them
    void (*places)(int* forward, int* backward);  // where each weight lies in these, in the order of torch
    // All of these are of one image. `sums` has a sum for each output channel, then another for each.
    void (*convolve)(const Scalar* x, const Scalar* packed, Scalar* y, Scalar* sums);
    void (*weight_gradient)(const Scalar* x, const Scalar* g, Scalar* packed);
    void (*input_gradient)(const Scalar* g, const Scalar* packed, const Scalar* skip, int skip_row, Scalar* dx);
    // `rows` are one row of an image each: scale, shift, mean, offset and slope of every element. See `fill_rows`.
    void (*activate)(const Scalar* y, const Scalar* rows, const Scalar* skip, int skip_row, Scalar* z, int z_row);
    void (*reduce)(const Scalar* y, const Scalar* rows, const Scalar* dz, int dz_row, Scalar* sums);
    void (*differentiate)(Scalar* y, const Scalar* rows, const Scalar* dz, int dz_row);
};

#ifdef C_IN

// ------------------------------------------------------------------------------------------------- 3  one layer

namespace {

constexpr int LANES = VECTOR_BYTES / sizeof(Scalar);
typedef Scalar Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef Scalar Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(alignof(Scalar)), may_alias));
typedef decltype(Vector{} < Vector{}) Order;  // whole numbers as wide as scalars
typedef long long Pairs __attribute__((vector_size(VECTOR_BYTES)));
typedef long long Pair __attribute__((aligned(alignof(Scalar)), may_alias));

inline Vector load(const Scalar* from) { return *reinterpret_cast<const Unaligned*>(from); }

// Repeat one scalar, or a pair of neighbours, in all lanes.
template <int GROUP> inline Vector repeat(const Scalar* from) {
    if constexpr (GROUP == 1) return *from - Vector{};
    else return (Vector)(*reinterpret_cast<const Pair*>(from) - Pairs{});
}

// Store the first lanes.
template <int N> inline void store(Scalar* to, Vector value) {
    if constexpr (N == LANES) *reinterpret_cast<Unaligned*>(to) = value;
    else std::memcpy(to, &value, N * sizeof(Scalar));
}

constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
constexpr int smaller(int a, int b) { return a < b ? a : b; }

template <int N> using Constant = std::integral_constant<int, N>;

// Cut a grid into tiles of at most LIMIT cells, parts of a row or else whole rows: calls tile(height, width, row,
// column), where height and width are constants.
template <int ROWS, int COLUMNS, int LIMIT, class Tile> inline void cover(Tile&& tile) {
    constexpr int WIDTH = COLUMNS >= LIMIT ? divide_up(COLUMNS, divide_up(COLUMNS, LIMIT)) : COLUMNS;
    constexpr int HEIGHT = COLUMNS >= LIMIT ? 1 : smaller(ROWS, LIMIT / COLUMNS);
    int row = 0;
    for (; row + HEIGHT <= ROWS; row += HEIGHT) {
        int column = 0;
        for (; column + WIDTH <= COLUMNS; column += WIDTH) tile(Constant<HEIGHT>(), Constant<WIDTH>(), row, column);
        if constexpr (COLUMNS % WIDTH > 0) tile(Constant<HEIGHT>(), Constant<COLUMNS % WIDTH>(), row, column);
    }
    if constexpr (ROWS % HEIGHT > 0) tile(Constant<ROWS % HEIGHT>(), Constant<WIDTH>(), row, 0);
}

// N channels as parts of one vector each. A last part of at most half the lanes holds pairs: two products that follow
// each other lie side by side in a vector, and are added in the end, so that no lanes are idle. (Of float only: there
// is an instruction that repeats eight bytes.)
template <int N> struct Parts {
    static constexpr int FULL = N / LANES, REST = N % LANES, COUNT = FULL + (REST > 0);
    static constexpr int GROUP = REST > 0 && 2 * REST <= LANES && sizeof(Scalar) == 4 ? 2 : 1;
    static constexpr int WHOLE = GROUP == 1 ? COUNT : FULL;  // parts that are not of pairs
    static constexpr int group(int part) { return part < FULL ? 1 : GROUP; }
    static constexpr int lanes(int part) { return part < FULL ? LANES : REST; }
};

// Weights of a product of K numbers in each of ROWS rows with a matrix of N columns: part, row, number, lane.
template <int ROWS, int K, int N> struct Packed {
    using P = Parts<N>;
    static constexpr int PART = ROWS * K * LANES;
    static constexpr int SIZE = P::WHOLE * PART + (P::GROUP == 2) * ROWS * divide_up(K, 2) * LANES;
    static int place(int row, int k, int column) {
        int part = column / LANES, lane = column % LANES, group = P::group(part);
        return part * PART + ((row * divide_up(K, group) + k / group) * LANES) + lane * group + k % group;
    }
};

// Take some parts at a time, at most MOST: calls block(count, group, first part), where count and group are constants.
template <class P, int MOST, class Block> inline void for_parts(Block&& block) {
    constexpr int WIDE = smaller(P::WHOLE, MOST), BLOCKS = WIDE ? P::WHOLE / WIDE : 0, REST = P::WHOLE - BLOCKS * WIDE;
    if constexpr (BLOCKS > 0)
        for (int i = 0; i < BLOCKS; i++) block(Constant<WIDE>(), Constant<1>(), i * WIDE);
    if constexpr (REST > 0) block(Constant<REST>(), Constant<1>(), BLOCKS * WIDE);
    if constexpr (P::GROUP == 2) block(Constant<1>(), Constant<2>(), P::WHOLE);
}

// Lanes in another order.
inline Vector pick(Vector v, Order order) {
#ifdef __clang__
    Vector picked;
    for (int i = 0; i < LANES; i++) picked[i] = v[order[i]];
    return picked;
#else
    return __builtin_shuffle(v, order);
#endif
}

// A pair's two sums, added: lane i becomes the sum of lanes 2i and 2i + 1. The upper half of the lanes is of no use.
inline Vector fold(Vector v) {
    Order first;
    for (int i = 0; i < LANES; i++) first[i] = 2 * i % LANES;
    return pick(v, first) + pick(v, first + 1);
}

// The inverse for one factor: lane i becomes lanes 2i and 2i + 1.
inline Vector spread(Vector v) {
    Order half;
    for (int i = 0; i < LANES; i++) half[i] = i / 2;
    return pick(v, half);
}

// Product of a row's K numbers, at every pixel of an image, with the weights: the heart of forward and input gradient.
// A tile of pixels times some vectors of channels stays in registers while all products are added to it.
template <int ROWS, int K, int N, int HEIGHT, int WIDTH, int X_STEP, int Y_STEP, int LINE> struct Correlation {
    using P = Parts<N>;
    using Weights = Packed<ROWS, K, N>;
    static constexpr int SUMS = REGISTERS * 3 / 4;
    static constexpr int MOST = REGISTERS == 32 ? 2 : 3;  // vectors of channels at a time

    template <class Finish> static void run(const Scalar* in, const Scalar* weights, Finish&& finish) {
        for_parts<P, MOST>([&](auto count, auto group, int part) {
            constexpr int COUNT = decltype(count)::value, GROUP = decltype(group)::value;
            cover<HEIGHT, WIDTH, smaller(SUMS / COUNT, 16)>([&](auto height, auto width, int y, int x) {
                tile<decltype(height)::value, decltype(width)::value, COUNT, GROUP>(in, weights, part, y, x, finish);
            });
        });
    }

    template <int H, int W, int COUNT, int GROUP, class Finish>
    static void tile(const Scalar* in, const Scalar* weights, int part, int y, int x, Finish& finish) {
        Vector sums[H * W][COUNT] = {};
        weights += part * Weights::PART;
        in += y * Y_STEP + x * X_STEP;
        for (int row = 0; row < ROWS; row++, in += LINE)
#pragma GCC unroll 2
            for (int k = 0; k < K; k += GROUP, weights += LANES) {
                Vector w[COUNT];
#pragma GCC unroll 32
                for (int v = 0; v < COUNT; v++) w[v] = load(weights + v * Weights::PART);
#pragma GCC unroll 32
                for (int p = 0; p < H * W; p++) {
                    Vector f = repeat<GROUP>(in + p / W * Y_STEP + p % W * X_STEP + k);
#pragma GCC unroll 32
                    for (int v = 0; v < COUNT; v++) sums[p][v] += f * w[v];
                }
            }
#pragma GCC unroll 32
        for (int v = 0; v < COUNT; v++)
#pragma GCC unroll 32
            for (int p = 0; p < H * W; p++)
                finish(GROUP == 2 ? fold(sums[p][v]) : sums[p][v], y + p / W, x + p % W, part + v);
    }
};

// Every weight's gradient, from an image: the sum over pixels of input times output gradient, added to `packed`.
template <int ROWS, int K, int N, int HEIGHT, int WIDTH, int X_STEP, int Y_STEP, int LINE, int G_ROW> struct Outer {
    using P = Parts<N>;
    using Weights = Packed<ROWS, K, N>;
    static constexpr int SUMS = REGISTERS == 32 ? 27 : 12;
    static constexpr int MOST = 2;

    static void run(const Scalar* in, const Scalar* g, Scalar* packed) {
        for_parts<P, MOST>([&](auto count, auto group, int part) {
            constexpr int COUNT = decltype(count)::value, GROUP = decltype(group)::value;
            cover<ROWS, divide_up(K, GROUP), SUMS / COUNT>([&](auto height, auto width, int row, int k) {
                tile<decltype(height)::value, decltype(width)::value, COUNT, GROUP>(in, g, packed, part, row, k);
            });
        });
    }

    template <int H, int W, int COUNT, int GROUP>
    static void tile(const Scalar* in, const Scalar* g, Scalar* packed, int part, int row, int k) {
        constexpr int GROUPS = divide_up(K, GROUP);
        packed += part * Weights::PART + (row * GROUPS + k) * LANES;
        g += part * LANES;
        in += row * LINE + k * GROUP;
        Vector sums[H * W][COUNT] = {};
        for (int y = 0; y < HEIGHT; y++)
            for (int x = 0; x < WIDTH; x++) {
                const Scalar* from = in + y * Y_STEP + x * X_STEP;
                Vector d[COUNT];
#pragma GCC unroll 32
                for (int v = 0; v < COUNT; v++) {
                    const Scalar* of = g + y * G_ROW + x * N + v * LANES;
                    d[v] = GROUP == 2 ? spread(load(of)) : load(of);
                }
#pragma GCC unroll 32
                for (int p = 0; p < H * W; p++) {
                    Vector f = repeat<GROUP>(from + p / W * LINE + p % W * GROUP);
#pragma GCC unroll 32
                    for (int v = 0; v < COUNT; v++) sums[p][v] += f * d[v];
                }
            }
#pragma GCC unroll 32
        for (int p = 0; p < H * W; p++)
#pragma GCC unroll 32
            for (int v = 0; v < COUNT; v++) {
                Scalar* to = packed + v * Weights::PART + (p / W * GROUPS + p % W) * LANES;
                store<LANES>(to, load(to) + sums[p][v]);
            }
    }
};

constexpr int PADDING = KERNEL / 2, SIDE_OUT = (SIDE - 1) / STRIDE + 1;
constexpr int X_SIDE = SIDE + 2 * PADDING, X_ROW = X_SIDE * C_IN, X_START = PADDING * (X_ROW + C_IN);
constexpr int Y_BEFORE = PADDING / STRIDE, Y_AFTER = (SIDE - 1 + PADDING) / STRIDE - (SIDE_OUT - 1);
constexpr int Y_SIDE = SIDE_OUT + Y_BEFORE + Y_AFTER, Y_ROW = Y_SIDE * C_OUT, Y_START = Y_BEFORE * (Y_ROW + C_OUT);
constexpr int Z_ROW = SIDE_OUT * C_OUT;  // of anything without a border
using Forward = Packed<KERNEL, KERNEL * C_IN, C_OUT>;

void convolve(const Scalar* x, const Scalar* packed, Scalar* y, Scalar* sums) {
    using P = Parts<C_OUT>;
    Vector first[P::COUNT] = {}, second[P::COUNT] = {};
    y += Y_START;
    Correlation<KERNEL, KERNEL * C_IN, C_OUT, SIDE_OUT, SIDE_OUT, STRIDE * C_IN, STRIDE * X_ROW, X_ROW>::run(
        x, packed, [&](Vector value, int row, int column, int part) {
            Scalar* to = y + row * Y_ROW + column * C_OUT + part * LANES;
            if (part < P::FULL) store<LANES>(to, value);
            else store<P::REST>(to, value);
            first[part] += value;
            second[part] += value * value;
        });
    std::memcpy(sums, first, C_OUT * sizeof(Scalar));
    std::memcpy(sums + C_OUT, second, C_OUT * sizeof(Scalar));
}

void weight_gradient(const Scalar* x, const Scalar* g, Scalar* packed) {
    Outer<KERNEL, KERNEL * C_IN, C_OUT, SIDE_OUT, SIDE_OUT, STRIDE * C_IN, STRIDE * X_ROW, X_ROW, Y_ROW>::run(
        x, g + Y_START, packed);
}

// Along one axis, input pixels that leave the same remainder when divided by the stride meet the same part of the
// kernel, one after the other. For them the input gradient is a convolution of stride 1 with that part, reversed.
template <int REMAINDER> struct Axis {
    static constexpr int PIXELS = divide_up(SIDE - REMAINDER, STRIDE);
    static constexpr int FIRST = (REMAINDER + PADDING) % STRIDE;                                // tap of the kernel
    static constexpr int TAPS = FIRST < KERNEL ? (KERNEL - 1 - FIRST) / STRIDE + 1 : 0;
    static constexpr int START = (REMAINDER + PADDING - FIRST) / STRIDE - (TAPS - 1) + Y_BEFORE;  // in y with border
};

template <int CLASS> struct Backward {  // one remainder in each direction
    using V = Axis<CLASS / STRIDE>;
    using H = Axis<CLASS % STRIDE>;
    using Weights = Packed<V::TAPS, H::TAPS * C_OUT, C_IN>;
    static constexpr int SIZE = V::TAPS * H::TAPS > 0 ? Weights::SIZE : 0;
    static constexpr int before() {
        if constexpr (CLASS == 0) return 0;
        else return Backward<CLASS - 1>::before() + Backward<CLASS - 1>::SIZE;
    }

    static void run(const Scalar* g, const Scalar* packed, const Scalar* skip, int skip_row, Scalar* dx) {
        using P = Parts<C_IN>;
        constexpr int START = CLASS / STRIDE * SIDE * C_IN + CLASS % STRIDE * C_IN;
        auto finish = [&](Vector value, int row, int column, int part) {
            int at = column * STRIDE * C_IN + part * LANES;
            if (skip) value += load(skip + row * skip_row + at);
            Scalar* to = dx + START + row * STRIDE * SIDE * C_IN + at;
            if (part < P::FULL) store<LANES>(to, value);
            else store<P::REST>(to, value);
        };
        if constexpr (SIZE > 0)
            Correlation<V::TAPS, H::TAPS * C_OUT, C_IN, V::PIXELS, H::PIXELS, C_OUT, Y_ROW, Y_ROW>::run(
                g + V::START * Y_ROW + H::START * C_OUT, packed + before(), finish);
        else  // no part of the kernel meets these pixels
            for (int i = 0; i < V::PIXELS * H::PIXELS; i++)
                for (int part = 0; part < P::COUNT; part++) finish(Vector{}, i / H::PIXELS, i % H::PIXELS, part);
        if constexpr (CLASS + 1 < STRIDE * STRIDE) Backward<CLASS + 1>::run(g, packed, skip, skip_row, dx);
    }

    static int place(int out, int in, int ky, int kx) {
        if (ky % STRIDE == V::FIRST && kx % STRIDE == H::FIRST)
            return before() + Weights::place(V::TAPS - 1 - ky / STRIDE, (H::TAPS - 1 - kx / STRIDE) * C_OUT + out, in);
        if constexpr (CLASS + 1 < STRIDE * STRIDE) return Backward<CLASS + 1>::place(out, in, ky, kx);
        return -1;
    }
};

void input_gradient(const Scalar* g, const Scalar* packed, const Scalar* skip, int skip_row, Scalar* dx) {
    Backward<0>::run(g, packed, skip, skip_row, dx);
}

void places(int* forward, int* backward) {
    for (int out = 0, i = 0; out < C_OUT; out++)
        for (int in = 0; in < C_IN; in++)
            for (int ky = 0; ky < KERNEL; ky++)
                for (int kx = 0; kx < KERNEL; kx++, i++) {
                    forward[i] = Forward::place(ky, kx * C_IN + in, out);
                    backward[i] = Backward<0>::place(out, in, ky, kx);
                }
}

// BatchNorm, ReLU and skip: z = max(y * scale + shift, 0) + skip. Not a number stays what it is.
void activate(const Scalar* y, const Scalar* rows, const Scalar* skip, int skip_row, Scalar* z, int z_row) {
    y += Y_START;
    for (int i = 0; i < SIDE_OUT; i++) {
        const Scalar *from = y + i * Y_ROW, *add = skip + i * skip_row;
        Scalar* to = z + i * z_row;
#pragma GCC ivdep
        for (int j = 0; j < Z_ROW; j++) {
            Scalar v = from[j] * rows[j] + rows[Z_ROW + j];
            to[j] = v < 0 ? 0 : v;
        }
        if (skip)
#pragma GCC ivdep
            for (int j = 0; j < Z_ROW; j++) to[j] += add[j];
    }
}

// Sums over pixels that BatchNorm's gradient needs: of the ReLU's gradient, and of it times the centred input.
void reduce(const Scalar* y, const Scalar* rows, const Scalar* dz, int dz_row, Scalar* sums) {
    Scalar first[Z_ROW] = {}, second[Z_ROW] = {};
    y += Y_START;
    for (int i = 0; i < SIDE_OUT; i++) {
        const Scalar *from = y + i * Y_ROW, *d = dz + i * dz_row;
#pragma GCC ivdep
        for (int j = 0; j < Z_ROW; j++) {
            Scalar t = from[j] * rows[j] + rows[Z_ROW + j] > 0 ? d[j] : 0;
            first[j] += t;
            second[j] += t * (from[j] - rows[2 * Z_ROW + j]);
        }
    }
    for (int c = 0; c < 2 * C_OUT; c++) sums[c] = 0;
    for (int j = 0; j < Z_ROW; j += C_OUT)
        for (int c = 0; c < C_OUT; c++) sums[c] += first[j + c], sums[C_OUT + c] += second[j + c];
}

// The gradient of y, in place of y: scale * (ReLU's gradient - offset - slope * centred y).
void differentiate(Scalar* y, const Scalar* rows, const Scalar* dz, int dz_row) {
    y += Y_START;
    for (int i = 0; i < SIDE_OUT; i++) {
        Scalar* at = y + i * Y_ROW;
        const Scalar* d = dz + i * dz_row;
#pragma GCC ivdep
        for (int j = 0; j < Z_ROW; j++) {
            Scalar t = at[j] * rows[j] + rows[Z_ROW + j] > 0 ? d[j] : 0;
            at[j] = rows[j] * (t - rows[3 * Z_ROW + j] - rows[4 * Z_ROW + j] * (at[j] - rows[2 * Z_ROW + j]));
        }
    }
}

}  // namespace

extern "C" const Kernels kernels;
const Kernels kernels = {
    C_IN, C_OUT, KERNEL, STRIDE, SIDE, SIDE_OUT, X_SIDE * X_ROW, X_ROW, X_START, Y_SIDE * Y_ROW, Forward::SIZE,
    Backward<STRIDE * STRIDE - 1>::before() + Backward<STRIDE * STRIDE - 1>::SIZE,
    places, convolve, weight_gradient, input_gradient, activate, reduce, differentiate,
};

#else

// ------------------------------------------------------------------------------------------------ 4  the driver

namespace {

constexpr Scalar EPSILON = 1e-5, STATISTICS_MOMENTUM = 0.1;  // of torch's BatchNorm

// Zeros, and some more of them behind, which kernels may read.
struct Memory {
    std::unique_ptr<Scalar, void (*)(void*)> data{nullptr, std::free};
    explicit Memory(size_t n) {
        constexpr size_t PAGE = 1 << 21;  // of the large ones, which save a tenth of all time
        size_t bytes = n * sizeof(Scalar) + 4 * VECTOR_BYTES, unit = bytes < PAGE ? VECTOR_BYTES : PAGE;
        bytes = (bytes + unit - 1) / unit * unit;
        void* found = std::aligned_alloc(unit, bytes);
        if (!found) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
        if (unit == PAGE) madvise(found, bytes, MADV_HUGEPAGE);
#endif
        data.reset(static_cast<Scalar*>(std::memset(found, 0, bytes)));
    }
    operator Scalar*() const { return data.get(); }
};

struct Layer {
    const Kernels& k;
    bool residual;
    int n_weights, z_row, z_image, dz_row, dz_image;
    Memory x, y, dz, rows, packed, packed_back, packed_gradient, image_sums;
    std::vector<int> forward, backward;
    std::vector<double> sums, inverse;  // sums of this batch; 1 / standard deviation
    Scalar *weights, *gradient, *statistics;

    Layer(const Kernels& k, bool residual, bool last, int batch)
        : k(k), residual(residual), n_weights(k.c_out * k.c_in * k.kernel * k.kernel), z_row(k.side_out * k.c_out),
          z_image(k.side_out * z_row), dz_row(last ? 0 : z_row), dz_image(last ? z_row : z_image),
          x(size_t(residual ? batch : 1) * k.x_image), y(size_t(batch) * k.y_image), dz(size_t(batch) * dz_image),
          rows(5 * z_row), packed(k.n_packed), packed_back(k.n_packed_back), packed_gradient(k.n_packed),
          image_sums(2 * k.c_out), forward(n_weights), backward(n_weights), sums(2 * k.c_out), inverse(k.c_out) {
        k.places(forward.data(), backward.data());
    }
    // The input is computed again where it is needed, which is faster than memory; but a skip's is stored.
    Scalar* x_of(int i) const { return residual ? x + size_t(i) * k.x_image : x; }
    Scalar* y_of(int i) const { return y + size_t(i) * k.y_image; }
    Scalar* dz_of(int i) const { return dz + size_t(i) * dz_image; }
    Scalar* scale() const { return weights + n_weights; }  // BatchNorm's, behind the convolution's weights as in torch
    Scalar* shift() const { return scale() + k.c_out; }
    double n_pixels(int n) const { return double(n) * k.side_out * k.side_out; }

    void pack() {
        for (int i = 0; i < n_weights; i++) packed[forward[i]] = packed_back[backward[i]] = weights[i];
    }
    void clear_sums() { std::fill(sums.begin(), sums.end(), 0); }
    void add_sums() {
        for (int c = 0; c < 2 * k.c_out; c++) sums[c] += image_sums[c];
    }
    void fill_row(int which, int channel, double value) {
        for (int j = channel; j < z_row; j += k.c_out) rows[which * z_row + j] = Scalar(value);
    }

    void convolve(int i) {
        k.convolve(x_of(i), packed, y_of(i), image_sums);
        add_sums();
    }

    // From the sums of y and y * y, or from the running statistics: what `activate` needs.
    void normalise(int n, bool training) {
        double m = n_pixels(n);
        for (int c = 0; c < k.c_out; c++) {
            Scalar &running_mean = statistics[c], &running_var = statistics[k.c_out + c];
            double mean = running_mean, var = running_var;
            if (training) {
                mean = sums[c] / m;
                var = sums[k.c_out + c] / m - mean * mean;
                if (var < 0) var = 0;  // by rounding
                running_mean = (1 - STATISTICS_MOMENTUM) * running_mean + STATISTICS_MOMENTUM * Scalar(mean);
                running_var = (1 - STATISTICS_MOMENTUM) * running_var + STATISTICS_MOMENTUM * Scalar(var * m / (m - 1));
            }
            inverse[c] = 1 / std::sqrt(var + EPSILON);
            fill_row(0, c, scale()[c] * inverse[c]);
            fill_row(1, c, shift()[c] - mean * scale()[c] * inverse[c]);
            fill_row(2, c, mean);
        }
    }

    void activate(int i, Scalar* z, int row) {
        k.activate(y_of(i), rows, residual ? x_of(i) + k.x_start : nullptr, k.x_row, z, row);
    }
    void reduce(int i) {
        k.reduce(y_of(i), rows, dz_of(i), dz_row, image_sums);
        add_sums();
    }

    // From the sums over the batch: BatchNorm's own gradients, and what `differentiate` needs.
    void finish_sums(int n) {
        for (int c = 0; c < k.c_out; c++) {
            double first = sums[c], second = sums[k.c_out + c] * inverse[c];
            gradient[n_weights + c] = Scalar(second);
            gradient[n_weights + k.c_out + c] = Scalar(first);
            fill_row(3, c, first / n_pixels(n));
            fill_row(4, c, second * inverse[c] / n_pixels(n));
        }
    }
};

struct Images {
    const uint8_t* pixels;  // (n, side, side, 3)
    const int64_t* labels;
};

struct Network {
    std::vector<std::unique_ptr<Layer>> layers;
    const Images* images = nullptr;
    const int64_t* order = nullptr;  // places of the batch's images
    int n = 0, n_classes, width;
    size_t n_weights;
    Scalar *weights, *velocity;
    std::vector<Scalar> gradient, logits;
    Memory z, features, feature_gradient;

    Network(const Kernels* const* kernels, const int* residual, int n_layers, int n_classes, int batch, Scalar* weights,
            Scalar* velocity, Scalar* statistics)
        : n_classes(n_classes), width(kernels[n_layers - 1]->c_out), n_weights(0), weights(weights), velocity(velocity),
          logits(n_classes), z(size_t(kernels[n_layers - 1]->side_out) * kernels[n_layers - 1]->side_out * width),
          features(width), feature_gradient(width) {
        for (int l = 0; l < n_layers; l++) {
            layers.emplace_back(new Layer(*kernels[l], residual[l], l == n_layers - 1, batch));
            layers[l]->weights = weights + n_weights;
            layers[l]->statistics = statistics;
            n_weights += layers[l]->n_weights + 2 * layers[l]->k.c_out;
            statistics += 2 * layers[l]->k.c_out;
        }
        n_weights += size_t(n_classes) * (width + 1);
        gradient.resize(n_weights);
        for (auto& layer : layers) layer->gradient = gradient.data() + (layer->weights - weights);
    }
    size_t head() const { return n_weights - size_t(n_classes) * (width + 1); }

    // Input of a layer for image i of the batch: the last layer's output, or an image.
    void fill_input(size_t l, int i) {
        const Kernels& k = layers[l]->k;
        Scalar* to = layers[l]->x_of(i) + k.x_start;
        if (l > 0) return layers[l - 1]->activate(i, to, k.x_row);
        int row = k.side * 3;
        const uint8_t* from = images->pixels + size_t(order[i]) * k.side * row;
        for (int y = 0; y < k.side; y++, to += k.x_row, from += row)
            for (int j = 0; j < row; j++) {  // from 0..255 to -1..1, just as naaplib.training.cifar10.normalise has it
                float v = float(from[j]), fraction = v * (257 / 65536.0f) + v * (1 / (255 * 65536.0f));  // v / 255
                to[j] = (fraction - 0.5f) * 2;
            }
    }

    void forward(bool training) {
        for (size_t l = 0; l < layers.size(); l++) {
            layers[l]->pack();
            layers[l]->clear_sums();
            for (int i = 0; i < n; i++) {
                fill_input(l, i);
                layers[l]->convolve(i);
            }
            layers[l]->normalise(n, training);
        }
    }

    // Average over pixels and linear layer.
    void classify(int i) {
        Layer& last = *layers.back();
        int n_pixels = last.k.side_out * last.k.side_out;
        last.activate(i, z, last.z_row);
        std::memset(features, 0, width * sizeof(Scalar));
        for (int p = 0; p < n_pixels; p++)
            for (int c = 0; c < width; c++) features[c] += z[p * width + c];
        for (int c = 0; c < width; c++) features[c] /= Scalar(n_pixels);
        const Scalar *w = weights + head(), *bias = w + size_t(n_classes) * width;
        for (int j = 0; j < n_classes; j++) {
            Scalar sum = bias[j];
            for (int c = 0; c < width; c++) sum += w[j * width + c] * features[c];
            logits[j] = sum;
        }
    }

    // Cross-entropy of one image; its gradient goes into the head's gradients and into the last layer's dz.
    double learn(int i) {
        Scalar most = logits[0], *w = weights + head(), *dw = gradient.data() + head(), *db = dw + n_classes * width;
        for (Scalar logit : logits) most = logit > most ? logit : most;
        int64_t label = images->labels[order[i]];
        Scalar own = logits[label] - most, sum = 0;
        for (Scalar& logit : logits) sum += logit = std::exp(logit - most);
        std::memset(feature_gradient, 0, width * sizeof(Scalar));
        Layer& last = *layers.back();
        Scalar share = Scalar(1) / Scalar(last.k.side_out * last.k.side_out);
        for (int j = 0; j < n_classes; j++) {
            Scalar d = (logits[j] / sum - (j == label)) / n;
            db[j] += d;
            for (int c = 0; c < width; c++) {
                dw[j * width + c] += d * features[c];
                feature_gradient[c] += d * share * w[j * width + c];
            }
        }
        for (int j = 0; j < last.z_row; j += width)
            std::memcpy(last.dz_of(i) + j, feature_gradient, width * sizeof(Scalar));
        return std::log(double(sum)) - own;
    }

    void backward() {
        for (size_t l = layers.size(); l-- > 0;) {
            Layer &layer = *layers[l], *before = l ? layers[l - 1].get() : nullptr;
            layer.finish_sums(n);
            std::memset(layer.packed_gradient, 0, layer.k.n_packed * sizeof(Scalar));
            if (before) before->clear_sums();
            for (int i = 0; i < n; i++) {
                if (!layer.residual) fill_input(l, i);
                layer.k.differentiate(layer.y_of(i), layer.rows, layer.dz_of(i), layer.dz_row);
                layer.k.weight_gradient(layer.x_of(i), layer.y_of(i), layer.packed_gradient);
                if (!before) continue;
                const Scalar* skip = layer.residual ? layer.dz_of(i) : nullptr;
                layer.k.input_gradient(layer.y_of(i), layer.packed_back, skip, layer.dz_row, before->dz_of(i));
                before->reduce(i);
            }
            for (int i = 0; i < layer.n_weights; i++) layer.gradient[i] = layer.packed_gradient[layer.forward[i]];
        }
    }

    // Gradients of all weights on the batch; its loss.
    double differentiate() {
        forward(true);
        std::fill(gradient.begin(), gradient.end(), 0);
        layers.back()->clear_sums();
        double loss = 0;
        for (int i = 0; i < n; i++) {
            classify(i);
            loss += learn(i);
            layers.back()->reduce(i);
        }
        backward();
        return loss / n;
    }

    void step(Scalar rate, Scalar momentum, Scalar decay) {
        Scalar *w = weights, *v = velocity, *g = gradient.data();
#pragma GCC ivdep
        for (size_t i = 0; i < n_weights; i++) {
            v[i] = momentum * v[i] + (g[i] + decay * w[i]);
            w[i] -= rate * v[i];
        }
    }
};

}  // namespace

// A network, as Python hands it over; everything it points to belongs to Python.
struct Description {
    const Kernels* const* kernels;
    const int* residual;
    int n_layers, n_classes, batch_size;
    Scalar *weights, *velocity, *statistics;
};

// What is to be done with each batch of images in the order given. 0, or 1 where there is not enough memory.
template <class Action>
static int for_batches(const Description& d, const Images* images, const int64_t* order, int64_t n, Action&& act) try {
    Network network(d.kernels, d.residual, d.n_layers, d.n_classes, d.batch_size, d.weights, d.velocity, d.statistics);
    network.images = images;
    for (int64_t first = 0; first < n; first += d.batch_size) {
        network.order = order + first;
        network.n = int(std::min<int64_t>(n - first, d.batch_size));
        act(network);
    }
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

extern "C" {

// An epoch: the loss of each batch.
int train(const Description* network, const Images* images, const int64_t* order, int64_t n, double rate,
          double momentum, double decay, double* losses) {
    return for_batches(*network, images, order, n, [&](Network& net) {
        *losses++ = net.differentiate();
        net.step(Scalar(rate), Scalar(momentum), Scalar(decay));
    });
}

// How many images are classified correctly, BatchNorm using running statistics.
int evaluate(const Description* network, const Images* images, const int64_t* order, int64_t n, int64_t* n_correct) {
    *n_correct = 0;
    return for_batches(*network, images, order, n, [&](Network& net) {
        net.forward(false);
        for (int i = 0; i < net.n; i++) {
            net.classify(i);
            auto best = std::max_element(net.logits.begin(), net.logits.end()) - net.logits.begin();  // the first
            *n_correct += best == images->labels[net.order[i]];
        }
    });
}

}  // extern "C"

#endif
