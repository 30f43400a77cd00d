// The temporal convolution of a block and its residual sum.

#include "batch_norm.h"
#include "products.h"
#include "rows.h"

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

// The input of the 1x1 convolution of one clip, (C, P), by way of the rows of each half.
static void convolved(const Temporal& a, const Halves& norm, const Rows* rows, float* const* spread, const float* x,
                      float* out) {
    const int size = a.joints * rows->kept, plane = a.joints * a.frames;
    float* z = scratch(PLANE, plane);
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
        float* buffer = scratch(MIXED, out);
        float* const spread[2] = {cleared(ROWS, rows[0].phase() * a.stride), cleared(ROWS_TOO, rows[1].phase() * a.stride)};
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
                    const Vec y = load(values + at + p, size - p);
                    const Vec r = load(a.residual + at + p, size - p);
                    Vec v = (s * y + b) * dropout.at(at + p) + r;
                    v = v < 0.0f ? Vec{} : v;
                    store(a.out + at + p, v, size - p);
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
                    const Vec o = load(a.out + at + p, size - p);
                    Vec g = load(a.gradient + at + p, size - p);
                    const Vec y = load(a.y + at + p, size - p);
                    g = o > 0.0f ? g : Vec{};
                    store(a.dresidual + at + p, g, size - p);
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
        float *u = scratch(MIXED, out), *dy = scratch(GRADIENT, out), *du = scratch(OF_MIXED, out);
        float* const spread[2] = {cleared(ROWS, rows[0].phase() * a.stride), cleared(ROWS_TOO, rows[1].phase() * a.stride)};
        for (int n = begin; n < end; ++n) {
            const float* x = a.x + n * in;
            for (int c = 0; c < channels; ++c) {
                const size_t at = n * out + static_cast<size_t>(c) * size;
                const float s = after.scale(c), m = after.mean(c);
                const float mean = a.doffset[c] * share, slope = a.dscale[c] * share * after.inverse(c);
                float* d = dy + static_cast<size_t>(c) * size;
                for (int p = 0; p < size; p += LANES) {  // the end of a plane spills into the next, which comes after
                    const Vec g = load(a.dresidual + at + p, size - p);
                    const Vec y = load(a.y + at + p, size - p);
                    store(d + p, s * (g * dropout.at(at + p) - mean - (y - m) * slope));
                }
            }
            convolved(a, before, rows, spread, x, u);
            for (int h = 0; h < 2; ++h) {
                const size_t at = static_cast<size_t>(h) * half * size;
                outer(half, half, size, dy + at, u + at, dweight.data() + id * weights + static_cast<size_t>(h) * half * half);
                product(half, half, size, a.weight[h], dy + at, du + at);
            }
            float* z = scratch(PLANE, plane);
            for (int h = 0; h < 2; ++h) {
                float* gradient = cleared(OF_ROWS, rows[h].phase());
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
                        const Vec here = load(x + at + p, plane - p);
                        Vec d = load(dv + p, plane - p);
                        d = load(z + p) > 0.0f ? d : Vec{};
                        store(dv + p, d, plane - p);
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
