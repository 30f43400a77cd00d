// The temporal convolution of a block and its residual sum.

#include "input_norm.h"
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

// The input of the 1x1 convolution of one clip, (C, P), by way of the rows of each half.
static void convolved(const Temporal& a, const NormedInput& input, const Rows* rows, float* const* spread, int n, float* out) {
    const int half = a.channels / 2, size = a.joints * rows->kept;
    float* z = scratch(PLANE, input.plane);
    for (int c = 0; c < a.channels; ++c) {
        const int h = c >= half;
        input.relu(n, c, z);
        rows[h].spread(z, spread[h]);
        rows[h].convolve(a.kernel[h] + c % half * K, spread[h], out + static_cast<size_t>(c) * size);
    }
}

void temporal_forward(const Temporal* call) {
    const Temporal& a = *call;
    const int channels = a.channels, half = channels / 2;
    const NormedInput input(a);
    const Halves after{a.after, half};
    const Rows rows[2] = {Rows(a.joints, a.frames, a.stride, a.dilation[0]), Rows(a.joints, a.frames, a.stride, a.dilation[1])};
    const int size = a.joints * rows->kept;
    const size_t out = static_cast<size_t>(channels) * size;
    const std::vector<float> wt[2] = {transposed(a.weight[0], half, half), transposed(a.weight[1], half, half)};
    if (a.training)
        input.settle();
    else
        input.halves().take_running();
    std::vector<float> means(a.clips * channels), squares(a.clips * channels);
    float* values = a.training ? a.y : a.out;
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        float* buffer = scratch(MIXED, out);
        float* const spread[2] = {cleared(ROWS, rows[0].phase() * a.stride), cleared(ROWS_TOO, rows[1].phase() * a.stride)};
        for (int n = begin; n < end; ++n) {
            float* y = values + n * out;
            convolved(a, input, rows, spread, n, buffer);
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
    const int channels = a.channels, half = channels / 2;
    const NormedInput input(a);
    const Halves after{a.after, half};
    const Rows rows[2] = {Rows(a.joints, a.frames, a.stride, a.dilation[0]), Rows(a.joints, a.frames, a.stride, a.dilation[1])};
    const int size = a.joints * rows->kept;
    const size_t out = static_cast<size_t>(channels) * size;
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
    NormedInputGradient of_input(input, a.dx);
    parallel(a.threads, a.clips, [&](int id, int begin, int end) {
        float *u = scratch(MIXED, out), *dy = scratch(GRADIENT, out), *du = scratch(OF_MIXED, out);
        float* const spread[2] = {cleared(ROWS, rows[0].phase() * a.stride), cleared(ROWS_TOO, rows[1].phase() * a.stride)};
        for (int n = begin; n < end; ++n) {
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
            convolved(a, input, rows, spread, n, u);
            for (int h = 0; h < 2; ++h) {
                const size_t at = static_cast<size_t>(h) * half * size;
                outer(half, half, size, dy + at, u + at, dweight.data() + id * weights + static_cast<size_t>(h) * half * half);
                product(half, half, size, a.weight[h], dy + at, du + at);
            }
            float* z = scratch(PLANE, input.plane);
            for (int h = 0; h < 2; ++h) {
                float* gradient = cleared(OF_ROWS, rows[h].phase());
                for (int c = h * half; c < (h + 1) * half; ++c) {
                    input.relu(n, c, z);
                    rows[h].spread(z, spread[h]);
                    rows[h].spread_gradient(du + static_cast<size_t>(c) * size, gradient);
                    rows[h].back(a.kernel[h] + (c - h * half) * K, spread[h], gradient, of_input.at(n, c),
                                 dkernel.data() + id * lanes + static_cast<size_t>(c) * K * LANES);
                    of_input.relu(n, c, z);
                }
            }
        }
    });
    add_parts(dweight, weights, a.dweight);
    std::vector<float> total(lanes);
    add_parts(dkernel, lanes, total.data());
    for (int i = 0; i < channels * K; ++i) a.dkernel[i] = sum(load(&total[static_cast<size_t>(i) * LANES]));
    of_input.norm(a.dscale_before, a.doffset_before);
}

}  // extern "C"
