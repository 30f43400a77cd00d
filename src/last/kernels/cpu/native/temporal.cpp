// The temporal convolution of a block and its residual sum.

#include "batch_norm.h"
#include "products.h"

namespace last {

constexpr int K = 9;  // frames that the kernel of the convolution spans

// Rows with room on both sides. With a stride, frames t = stride * i + r lie in one buffer for each r, where the taps of
// the kernel are shifts again: tap j of the output at t reads row r[j] at t + q[j].
struct Rows {
    int joints, frames, stride, kept, left, width, q[K], r[K];

    Rows(int joints, int frames, int stride, int dilation) : joints(joints), frames(frames), stride(stride) {
        kept = (frames + stride - 1) / stride;
        int low = 0, high = 0;
        for (int j = 0; j < K; ++j) {
            const int at = (j - K / 2) * dilation;
            q[j] = at >= 0 ? at / stride : -((-at + stride - 1) / stride);
            r[j] = at - q[j] * stride;
            low = std::min(low, q[j]), high = std::max(high, q[j]);
        }
        left = std::max(-low, high);
        width = 2 * left + up(kept);
    }
    size_t phase() const { return static_cast<size_t>(joints) * width + LANES; }

    // (V, T) -> rows; what lies beside them is zero from the start and stays so.
    void spread(const float* x, float* rows) const {
        for (int v = 0; v < joints; ++v)
            for (int s = 0; s < stride; ++s) {
                float* row = rows + s * phase() + v * width + left;
                const float* from = x + v * frames + s;
                const int count = (frames - s + stride - 1) / stride;
                if (stride == 1)
                    std::memcpy(row, from, sizeof(float) * count);
                else
                    pick(from, stride, count, 2 * up(count), row);  // x is followed by room
            }
    }
    // Gradient of the output, (V, kept), with the same room.
    void spread_gradient(const float* g, float* rows) const {
        for (int v = 0; v < joints; ++v)
            std::memcpy(rows + v * width + left, g + v * kept, sizeof(float) * kept);
    }
    // Rows -> (V, kept); the end of a joint's last vector spills into the next joint's, which comes after.
    void convolve(const float* w, const float* rows, float* y) const {
        const float* tap[K];
        for (int j = 0; j < K; ++j) tap[j] = rows + r[j] * phase() + left + q[j];
        for (int v = 0; v < joints; ++v)
            for (int t = 0; t < kept; t += LANES) {
                Vec acc = {};
                for (int j = 0; j < K; ++j) acc += w[j] * load(tap[j] + v * width + t);
                store(y + v * kept + t, acc);
            }
    }
    // From rows of the gradient: that of the input, (V, T); and of the kernel, added to dw (K, LANES).
    void back(const float* w, const float* rows, const float* gradient, float* dx, float* dw) const {
        return stride == 1 ? back<1>(w, rows, gradient, dx, dw) : back<2>(w, rows, gradient, dx, dw);
    }
    template <int STRIDE>
    void back(const float* w, const float* rows, const float* gradient, float* dx, float* dw) const {
        Vec acc[K];
        for (int j = 0; j < K; ++j) acc[j] = load(dw + j * LANES);
        for (int v = 0; v < joints; ++v) {
            const float* g = gradient + v * width + left;
            for (int t = 0; t < kept; t += LANES) {
                const Vec here = load(g + t);
                for (int j = 0; j < K; ++j) acc[j] += here * load(rows + r[j] * phase() + v * width + left + t + q[j]);
                Vec even = {}, odd = {};
                for (int j = 0; j < K; ++j) {
                    const Vec d = w[j] * load(g + t - q[j]);
                    if (STRIDE == 1 || r[j] == 0)
                        even += d;
                    else
                        odd += d;
                }
                float* out = dx + v * frames + t * STRIDE;
                const int room = frames - t * STRIDE;
                if (STRIDE == 1 && room >= LANES) {
                    store(out, even);
                } else if (STRIDE == 2 && room >= 2 * LANES) {
                    store(out, SHUFFLE(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
                    store(out + LANES, SHUFFLE(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
                } else {
                    for (int i = 0; i < std::min(room, LANES * STRIDE); ++i)
                        out[i] = i % STRIDE ? odd[i / STRIDE] : even[i / STRIDE];
                }
            }
        }
        for (int j = 0; j < K; ++j) store(dw + j * LANES, acc[j]);
    }
};

// What value number i is multiplied by: 0 with probability p, else 1 / (1 - p). The number is mixed as in MurmurHash3, so
// that backward needs no mask in memory.
struct Dropout {
    uint32_t seed, second, limit;
    float kept;

    Dropout(float p, uint64_t seed)
        : seed(static_cast<uint32_t>(seed)), second(static_cast<uint32_t>(seed >> 32)),
          limit(static_cast<uint32_t>(p * 4294967296.0)), kept(1 / (1 - p)) {}

    Vec at(uint64_t i) const {
        if (limit == 0) return Vec{} + 1.0f;
        const Bits lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        Bits x = ((lanes + static_cast<uint32_t>(i)) ^ seed) * 0x9E3779B1u + second;
        x ^= x >> 16;
        x *= 0x85EBCA6Bu;
        x ^= x >> 13;
        x *= 0xC2B2AE35u;
        x ^= x >> 16;
        return x >= limit ? Vec{} + kept : Vec{};
    }
};

}  // namespace last

using namespace last;

extern "C" {

// Both halves of the channels: BatchNorm, ReLU, depthwise convolution, 1x1 convolution; then BatchNorm, dropout, the
// residual, ReLU.
struct Temporal {
    int64_t threads, clips, channels, joints, frames, stride, training;
    int64_t dilation[2];                 // of each half
    const float *kernel[2], *weight[2];  // (C / 2, K); (C / 2, C / 2)
    Norm before[2], after[2];
    float p;
    uint64_t seed;
    const float *x, *residual;        // (N, C, V, T); (N, C, V, T / stride)
    float *y, *out;                   // (N, C, V, T / stride); y is kept for backward
    // backward
    const float *gradient;            // of out
    float *dx, *dresidual, *dkernel, *dweight, *dscale_before, *doffset_before, *dscale, *doffset;
};

static void normed_relu(const Halves& norm, int c, int size, const float* x, float* z) {
    const float s = norm.scale(c), b = norm.offset(c);
    for (int p = 0; p < size; ++p) {
        const float v = s * x[p] + b;
        z[p] = v < 0.0f ? 0.0f : v;
    }
}

// The input of the 1x1 convolution of one clip, (C, P). Slot 3 is for a plane, 4 and 5 for the rows of each half.
static void convolved(const Temporal& a, const Halves& norm, const Rows* rows, float* const* spread, const float* x,
                      float* out) {
    const int size = a.joints * rows->kept, plane = a.joints * a.frames;
    float* z = scratch(3, plane);
    for (int c = 0; c < a.channels; ++c) {
        const int h = c >= norm.half;
        normed_relu(norm, c, plane, x + static_cast<size_t>(c) * plane, z);
        rows[h].spread(z, spread[h]);
        rows[h].convolve(a.kernel[h] + c % norm.half * K, spread[h], out + static_cast<size_t>(c) * size);
    }
}

void temporal_forward(const Temporal* call) {
    const Temporal& a = *call;
    const int channels = a.channels, half = channels / 2, plane = a.joints * a.frames;
    const Halves before{a.before, half}, after{a.after, half};
    const Rows rows[2] = {Rows(a.joints, a.frames, a.stride, a.dilation[0]), Rows(a.joints, a.frames, a.stride, a.dilation[1])};
    const int size = a.joints * rows->kept;
    const size_t in = static_cast<size_t>(channels) * plane, out = static_cast<size_t>(channels) * size;
    const std::vector<float> wt[2] = {transposed(a.weight[0], half, half), transposed(a.weight[1], half, half)};
    std::vector<float> means(a.clips * channels), squares(a.clips * channels);
    if (a.training) {
        parallel(a.threads, a.clips, [&](int, int begin, int end) {
            for (size_t i = static_cast<size_t>(begin) * channels; i < static_cast<size_t>(end) * channels; ++i)
                moments(a.x + i * plane, plane, &means[i], &squares[i]);
        });
        before.settle(a.clips, plane, means.data(), squares.data());
    } else {
        before.take_running();
    }
    float* values = a.training ? a.y : a.out;
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        float* buffer = scratch(0, out);
        float* const spread[2] = {cleared(4, rows[0].phase() * a.stride), cleared(5, rows[1].phase() * a.stride)};
        for (int n = begin; n < end; ++n) {
            float* y = values + n * out;
            convolved(a, before, rows, spread, a.x + n * in, buffer);
            for (int h = 0; h < 2; ++h) {
                const size_t at = static_cast<size_t>(h) * half * size;
                product(half, half, size, wt[h].data(), buffer + at, y + at);
            }
            if (a.training)
                for (int c = 0; c < channels; ++c)
                    moments(y + static_cast<size_t>(c) * size, size, &means[n * channels + c], &squares[n * channels + c]);
        }
    });
    if (a.training)
        after.settle(a.clips, size, means.data(), squares.data());
    else
        after.take_running();
    const Dropout dropout(a.training ? a.p : 0.0f, a.seed);
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        for (int n = begin; n < end; ++n)
            for (int c = 0; c < channels; ++c) {
                const size_t at = n * out + static_cast<size_t>(c) * size;
                const float s = after.scale(c), b = after.offset(c);
                for (int p = 0; p < size; p += LANES) {
                    const int count = std::min(LANES, size - p);
                    const bool whole = count == LANES;
                    const Vec y = whole ? load(values + at + p) : load(values + at + p, count);
                    const Vec r = whole ? load(a.residual + at + p) : load(a.residual + at + p, count);
                    Vec v = (s * y + b) * dropout.at(at + p) + r;
                    v = v < 0.0f ? Vec{} : v;
                    if (whole)
                        store(a.out + at + p, v);
                    else
                        std::memcpy(a.out + at + p, &v, sizeof(float) * count);
                }
            }
    });
}

void temporal_backward(const Temporal* call) {
    const Temporal& a = *call;
    const int channels = a.channels, half = channels / 2, plane = a.joints * a.frames;
    const Halves before{a.before, half}, after{a.after, half};
    const Rows rows[2] = {Rows(a.joints, a.frames, a.stride, a.dilation[0]), Rows(a.joints, a.frames, a.stride, a.dilation[1])};
    const int size = a.joints * rows->kept;
    const size_t in = static_cast<size_t>(channels) * plane, out = static_cast<size_t>(channels) * size;
    const Dropout dropout(a.p, a.seed);
    std::vector<float> first(a.clips * channels), second(a.clips * channels);
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        for (int n = begin; n < end; ++n)
            for (int c = 0; c < channels; ++c) {
                const size_t at = n * out + static_cast<size_t>(c) * size;
                const float m = after.mean(c);
                Vec one = {}, two = {};
                for (int p = 0; p < size; p += LANES) {
                    const int count = std::min(LANES, size - p);
                    const bool whole = count == LANES;
                    const Vec o = whole ? load(a.out + at + p) : load(a.out + at + p, count);
                    Vec g = whole ? load(a.gradient + at + p) : load(a.gradient + at + p, count);
                    const Vec y = whole ? load(a.y + at + p) : load(a.y + at + p, count);
                    g = o > 0.0f ? g : Vec{};
                    if (whole)
                        store(a.dresidual + at + p, g);
                    else
                        std::memcpy(a.dresidual + at + p, &g, sizeof(float) * count);
                    g *= dropout.at(at + p);
                    one += g;
                    two += g * (y - m);
                }
                first[n * channels + c] = sum(one);
                second[n * channels + c] = sum(two) * after.inverse(c);
            }
    });
    reduce(a.clips, channels, first.data(), a.doffset);
    reduce(a.clips, channels, second.data(), a.dscale);

    const float share = 1.0f / (static_cast<float>(a.clips) * size);
    const size_t weights = 2 * static_cast<size_t>(half) * half, lanes = static_cast<size_t>(channels) * K * LANES;
    std::vector<float> dweight(a.threads * weights), dkernel(a.threads * lanes);
    parallel(a.threads, a.clips, [&](int id, int begin, int end) {
        float *u = scratch(0, out), *dy = scratch(1, out), *du = scratch(2, out);
        float* const spread[2] = {cleared(4, rows[0].phase() * a.stride), cleared(5, rows[1].phase() * a.stride)};
        for (int n = begin; n < end; ++n) {
            const float* x = a.x + n * in;
            for (int c = 0; c < channels; ++c) {
                const size_t at = n * out + static_cast<size_t>(c) * size;
                const float s = after.scale(c), m = after.mean(c);
                const float mean = a.doffset[c] * share, slope = a.dscale[c] * share * after.inverse(c);
                float* d = dy + static_cast<size_t>(c) * size;
                for (int p = 0; p < size; p += LANES) {  // the end of a plane spills into the next, which comes after
                    const int count = std::min(LANES, size - p);
                    const bool whole = count == LANES;
                    const Vec g = whole ? load(a.dresidual + at + p) : load(a.dresidual + at + p, count);
                    const Vec y = whole ? load(a.y + at + p) : load(a.y + at + p, count);
                    store(d + p, s * (g * dropout.at(at + p) - mean - (y - m) * slope));
                }
            }
            convolved(a, before, rows, spread, x, u);
            for (int h = 0; h < 2; ++h) {
                const size_t at = static_cast<size_t>(h) * half * size;
                outer(half, half, size, dy + at, u + at, dweight.data() + id * weights + static_cast<size_t>(h) * half * half);
                product(half, half, size, a.weight[h], dy + at, du + at);
            }
            float* z = scratch(3, plane);
            for (int h = 0; h < 2; ++h) {
                float* gradient = cleared(6, rows[h].phase());
                for (int c = h * half; c < (h + 1) * half; ++c) {
                    const size_t at = static_cast<size_t>(c) * plane;
                    float* dv = a.dx + n * in + at;
                    normed_relu(before, c, plane, x + at, z);
                    rows[h].spread(z, spread[h]);
                    rows[h].spread_gradient(du + static_cast<size_t>(c) * size, gradient);
                    rows[h].back(a.kernel[h] + (c - h * half) * K, spread[h], gradient, dv,
                                 dkernel.data() + id * lanes + static_cast<size_t>(c) * K * LANES);
                    const float m = before.mean(c);
                    Vec one = {}, two = {};
                    for (int p = 0; p < plane; p += LANES) {
                        const int count = std::min(LANES, plane - p);
                        const bool whole = count == LANES;
                        const Vec here = whole ? load(x + at + p) : load(x + at + p, count);
                        Vec d = whole ? load(dv + p) : load(dv + p, count);
                        d = load(z + p) > 0.0f ? d : Vec{};
                        if (whole)
                            store(dv + p, d);
                        else
                            std::memcpy(dv + p, &d, sizeof(float) * count);
                        one += d;
                        two += d * (here - m);
                    }
                    first[n * channels + c] = sum(one);
                    second[n * channels + c] = sum(two) * before.inverse(c);
                }
            }
        }
    });
    add_parts(dweight, weights, a.dweight);
    std::vector<float> total(lanes);
    add_parts(dkernel, lanes, total.data());
    for (int i = 0; i < channels * K; ++i) a.dkernel[i] = sum(load(&total[static_cast<size_t>(i) * LANES]));

    reduce(a.clips, channels, first.data(), a.doffset_before);
    reduce(a.clips, channels, second.data(), a.dscale_before);
    const float of_input = 1.0f / (static_cast<float>(a.clips) * plane);
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        for (int n = begin; n < end; ++n)
            for (int c = 0; c < channels; ++c) {
                const float s = before.scale(c), m = before.mean(c);
                const float mean = a.doffset_before[c] * of_input;
                const float slope = a.dscale_before[c] * of_input * before.inverse(c);
                const float* x = a.x + n * in + static_cast<size_t>(c) * plane;
                float* d = a.dx + n * in + static_cast<size_t>(c) * plane;
                for (int p = 0; p < plane; ++p) d[p] = s * (d[p] - mean - (x[p] - m) * slope);
            }
    });
}

}  // extern "C"
