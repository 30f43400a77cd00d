// The mix of the streams and the stem before it.

#include "batch_norm.h"
#include "products.h"

using namespace last;

extern "C" {

// Each stream through a BatchNorm of its own, all through one 1x1 convolution and BatchNorm, ReLU, a weighted sum.
struct Fusion {
    int64_t threads, clips, streams, inputs, outputs, size, training;
    const Norm* each;               // of each stream
    const float *stem, *weights;    // (C0, C); (S, C0)
    Norm norm;
    const float* x;                 // (N, S, C, P)
    float* out;                     // (N, C0, P)
    // backward: `products` (S, C0, C) and `sums` (S, C0) are those of the gradient behind the stem, with and without its
    // normalised input; what belongs to the stem and to the streams' BatchNorms follows from them.
    const float* gradient;          // of out
    float *products, *sums, *dweights, *dscale, *doffset;
};

// The stem with a stream's BatchNorm drawn into it: (C, C0) and (C0,).
static void folded(const Fusion& a, const Norm& norm, std::vector<float>& w, std::vector<float>& b) {
    w.assign(a.inputs * a.outputs, 0.0f);
    b.assign(a.outputs, 0.0f);
    for (int o = 0; o < a.outputs; ++o)
        for (int c = 0; c < a.inputs; ++c) {
            w[c * a.outputs + o] = a.stem[o * a.inputs + c] * norm.scale(c);
            b[o] += a.stem[o * a.inputs + c] * norm.offset(c);
        }
}

// Channel o of the stem's output for one stream of one clip.
static void stem_plane(const Fusion& a, const std::vector<float>& w, const std::vector<float>& b, int o, const float* x,
                       float* z) {
    const int size = a.size;
    for (int p = 0; p < size; ++p) z[p] = b[o];
    for (int c = 0; c < a.inputs; ++c) {
        const float factor = w[c * a.outputs + o];
        const float* from = x + static_cast<size_t>(c) * size;
        for (int p = 0; p < size; ++p) z[p] += factor * from[p];
    }
}

void fusion_forward(const Fusion* call) {
    const Fusion& a = *call;
    const Norm& norm = a.norm;
    const int streams = a.streams, inputs = a.inputs, outputs = a.outputs, size = a.size;
    const size_t stream = static_cast<size_t>(inputs) * size, clip = streams * stream;
    std::vector<std::vector<float>> w(streams), b(streams);
    std::vector<float> means(a.clips * streams * std::max(inputs, outputs)), squares(means.size());
    for (int s = 0; s < streams; ++s) {
        const Norm& each = a.each[s];
        if (a.training) {
            parallel(a.threads, a.clips, [&](int, int begin, int end) {
                for (int n = begin; n < end; ++n)
                    for (int c = 0; c < inputs; ++c)
                        moments(a.x + n * clip + s * stream + static_cast<size_t>(c) * size, size, &means[n * inputs + c],
                                &squares[n * inputs + c]);
            });
            each.settle(a.clips, inputs, inputs, size, means.data(), squares.data(), nullptr);
        } else {
            each.take_running(inputs, nullptr);
        }
        folded(a, each, w[s], b[s]);
    }
    if (a.training) {
        parallel(a.threads, a.clips, [&](int, int begin, int end) {
            float* z = scratch(PLANE, size);
            for (int n = begin; n < end; ++n)
                for (int s = 0; s < streams; ++s)
                    for (int o = 0; o < outputs; ++o) {
                        const size_t row = static_cast<size_t>(n * streams + s) * outputs + o;
                        stem_plane(a, w[s], b[s], o, a.x + n * clip + s * stream, z);
                        moments(z, size, &means[row], &squares[row]);
                    }
        });
        norm.settle(a.clips * streams, outputs, outputs, size, means.data(), squares.data(), nullptr);
    } else {
        norm.take_running(outputs, nullptr);
    }
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        float* z = scratch(PLANE, size);
        for (int n = begin; n < end; ++n)
            for (int o = 0; o < outputs; ++o) {
                float* out = a.out + (static_cast<size_t>(n) * outputs + o) * size;
                std::fill(out, out + size, 0.0f);
                const float scale = norm.scale(o), offset = norm.offset(o);
                for (int s = 0; s < streams; ++s) {
                    stem_plane(a, w[s], b[s], o, a.x + n * clip + s * stream, z);
                    const float weight = a.weights[s * outputs + o];
                    for (int p = 0; p < size; ++p) {
                        const float v = scale * z[p] + offset;
                        out[p] += weight * (v < 0.0f ? 0.0f : v);
                    }
                }
            }
    });
}

void fusion_backward(const Fusion* call) {
    const Fusion& a = *call;
    const Norm& norm = a.norm;
    const int streams = a.streams, inputs = a.inputs, outputs = a.outputs, size = a.size;
    const size_t stream = static_cast<size_t>(inputs) * size, clip = streams * stream;
    std::vector<std::vector<float>> w(streams), b(streams);
    for (int s = 0; s < streams; ++s) folded(a, a.each[s], w[s], b[s]);
    const size_t rows = static_cast<size_t>(streams) * outputs;
    std::vector<float> first(a.clips * rows), second(a.clips * rows), weights(a.clips * rows);
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        float* z = cleared(PLANE, up(size));
        for (int n = begin; n < end; ++n)
            for (int s = 0; s < streams; ++s)
                for (int o = 0; o < outputs; ++o) {
                    stem_plane(a, w[s], b[s], o, a.x + n * clip + s * stream, z);
                    const float* g = a.gradient + (static_cast<size_t>(n) * outputs + o) * size;
                    const float scale = norm.scale(o), offset = norm.offset(o), m = norm.mean[o];
                    Vec one = {}, two = {}, three = {};
                    for (int p = 0; p < size; p += LANES) {
                        const Vec here = load(z + p), v = scale * here + offset;
                        const Vec d = v > 0.0f ? load(g + p, size - p) : Vec{};
                        one += d;
                        two += d * (here - m);
                        three += d * v;
                    }
                    const size_t row = n * rows + s * outputs + o;
                    const float weight = a.weights[s * outputs + o];
                    first[row] = weight * sum(one);
                    second[row] = weight * sum(two) * norm.inverse[o];
                    weights[row] = sum(three);
                }
    });
    reduce(a.clips, rows, weights.data(), a.dweights);
    reduce(a.clips * streams, outputs, first.data(), a.doffset);
    reduce(a.clips * streams, outputs, second.data(), a.dscale);

    const float share = 1.0f / (static_cast<float>(a.clips) * streams * size);
    const size_t count = rows * inputs;
    std::vector<float> products(a.threads * count), sums_of_rows(a.clips * rows);
    parallel(a.threads, a.clips, [&](int id, int begin, int end) {
        float *z = cleared(PLANE, up(size)), *normed = scratch(MIXED, stream), *dz = scratch(GRADIENT, static_cast<size_t>(outputs) * size);
        for (int n = begin; n < end; ++n)
            for (int s = 0; s < streams; ++s) {
                const float* x = a.x + n * clip + s * stream;
                for (int c = 0; c < inputs; ++c) {
                    const float m = a.each[s].mean[c], inverse = a.each[s].inverse[c];
                    for (int p = 0; p < size; ++p)
                        normed[static_cast<size_t>(c) * size + p] = (x[static_cast<size_t>(c) * size + p] - m) * inverse;
                }
                for (int o = 0; o < outputs; ++o) {
                    stem_plane(a, w[s], b[s], o, x, z);
                    const float* g = a.gradient + (static_cast<size_t>(n) * outputs + o) * size;
                    float* d = dz + static_cast<size_t>(o) * size;
                    const float scale = norm.scale(o), offset = norm.offset(o), m = norm.mean[o];
                    const float weight = a.weights[s * outputs + o], mean = a.doffset[o] * share;
                    const float slope = a.dscale[o] * share * norm.inverse[o];
                    for (int p = 0; p < size; ++p) {
                        const float open = scale * z[p] + offset > 0.0f ? weight * g[p] : 0.0f;
                        d[p] = scale * (open - mean - (z[p] - m) * slope);
                    }
                    sums_of_rows[n * rows + s * outputs + o] = total(d, size);
                }
                outer(outputs, inputs, size, dz, normed,
                      products.data() + id * count + static_cast<size_t>(s) * outputs * inputs);
            }
    });
    add_parts(products, count, a.products);
    reduce(a.clips, rows, sums_of_rows.data(), a.sums);
}

}  // extern "C"
