// Graph convolution, or strided 1x1 convolution, with the BatchNorm and ReLU behind it.

#include "batch_norm.h"
#include "products.h"

namespace last {

// The edges of a graph, by the joint they lead to: `source` (E,) is where each comes from, `first` (V + 1,) is where each
// joint's begin.
struct Graph {
    const int32_t *source, *first;
    int edges;
};

// y[to] = sum of coefficient * x[from] over the edges, one channel: (V, T) -> (V, T).
void along(const Graph& graph, int joints, int frames, const float* coefficient, const float* x, float* y) {
    for (int v = 0; v < joints; ++v) {
        int t = 0;
        for (; t + LANES <= frames; t += LANES) {
            Vec acc = {};
            for (int e = graph.first[v]; e < graph.first[v + 1]; ++e)
                acc += coefficient[e] * load(x + graph.source[e] * frames + t);
            store(y + v * frames + t, acc);
        }
        for (; t < frames; ++t) {
            float acc = 0;
            for (int e = graph.first[v]; e < graph.first[v + 1]; ++e) acc += coefficient[e] * x[graph.source[e] * frames + t];
            y[v * frames + t] = acc;
        }
    }
}

// Its gradients: dx (V, T), and what is added to each edge's, (E, LANES), in lanes that are summed up once at the end.
void back(const Graph& graph, int joints, int frames, const float* coefficient, const float* x, const float* dy, float* dx,
          float* dc) {
    std::fill(dx, dx + joints * frames, 0.0f);
    for (int v = 0; v < joints; ++v)
        for (int e = graph.first[v]; e < graph.first[v + 1]; ++e) {
            const float *px = x + graph.source[e] * frames, *py = dy + v * frames;
            float *pd = dx + graph.source[e] * frames, *lanes = dc + e * LANES;
            const float c = coefficient[e];
            int t = 0;
            Vec acc = load(lanes);
            for (; t + LANES <= frames; t += LANES) {
                const Vec g = load(py + t);
                store(pd + t, load(pd + t) + c * g);
                acc += g * load(px + t);
            }
            store(lanes, acc);
            for (; t < frames; ++t) {
                pd[t] += c * py[t];
                lanes[t % LANES] += px[t] * py[t];
            }
        }
}

// Each `stride`-th frame of each joint, and the way back.
void thin(int joints, int frames, int stride, const float* x, float* y) {
    const int kept = strided(frames, stride);
    for (int v = 0; v < joints; ++v)
        pick(x + v * frames, stride, kept, frames, y + v * kept);
}
void widen(int joints, int frames, int stride, const float* y, float* x) {
    const int kept = strided(frames, stride);
    std::fill(x, x + joints * frames, 0.0f);
    for (int v = 0; v < joints; ++v)
        for (int t = 0; t < kept; ++t) x[v * frames + t * stride] = y[v * kept + t];
}

}  // namespace last

using namespace last;

extern "C" {

// Graph convolution or strided 1x1 convolution, then BatchNorm, then ReLU where asked for.
struct GraphNorm {
    int64_t threads, clips, inputs, outputs, joints, frames, stride, edges, relu, training;
    const int32_t *source, *first;  // edges; null: no graph
    const float *coefficient;     // (C, E)
    const float *weight, *bias;   // (Cout, C); (Cout,) or null
    Norm norm;
    const float *x;               // (N, C, V, T)
    float *y, *out;               // (N, Cout, V, T / stride); y is kept for backward, not written in evaluation
    float *over_joints, *over_frames;  // means of out, (N, Cout, T / stride) and (N, Cout, V); or null
    // backward
    const float *gradient, *of_over_joints, *of_over_frames;  // of out, and of the means or null
    float *dx, *dcoefficient, *dweight, *dscale, *doffset;
};

// The input of the 1x1 convolution of one clip.
static const float* mixed(const GraphNorm& a, const float* x, float* buffer) {
    const int joints = a.joints, frames = a.frames, size = joints * frames;
    const int kept = joints * strided(frames, a.stride);
    if (!a.source && a.stride == 1) return x;
    const Graph graph{a.source, a.first, static_cast<int>(a.edges)};
    for (int c = 0; c < a.inputs; ++c) {
        const float* plane = x + static_cast<size_t>(c) * size;
        if (a.source)
            along(graph, joints, frames, a.coefficient + c * a.edges, plane, buffer + static_cast<size_t>(c) * size);
        else
            thin(joints, frames, a.stride, plane, buffer + static_cast<size_t>(c) * kept);
    }
    return buffer;
}

// The means of one plane, number `row`.
static void pool(const GraphNorm& a, size_t row, const float* plane) {
    const int joints = a.joints, kept = strided(a.frames, a.stride);
    float *over_joints = a.over_joints + row * kept, *over_frames = a.over_frames + row * joints;
    std::fill(over_joints, over_joints + kept, 0.0f);
    for (int v = 0; v < joints; ++v) {
        const float* x = plane + v * kept;
        Vec one = {};
        int t = 0;
        for (; t + LANES <= kept; t += LANES) {
            const Vec here = load(x + t);
            one += here;
            store(over_joints + t, load(over_joints + t) + here);
        }
        float total = sum(one);
        for (; t < kept; ++t) total += x[t], over_joints[t] += x[t];
        over_frames[v] = total / kept;
    }
    for (int t = 0; t < kept; ++t) over_joints[t] /= joints;
}

// The gradient of one plane of out, that of its means included.
static const float* gradient_of(const GraphNorm& a, size_t row, float* buffer) {
    const int joints = a.joints, kept = strided(a.frames, a.stride);
    const float* g = a.gradient + row * joints * kept;
    if (!a.of_over_joints) return g;
    const float* over_joints = a.of_over_joints + row * kept;
    for (int v = 0; v < joints; ++v) {
        const float share = a.of_over_frames[row * joints + v] / kept, part = 1.0f / joints;
        for (int t = 0; t < kept; ++t) buffer[v * kept + t] = g[v * kept + t] + share + part * over_joints[t];
    }
    return buffer;
}

void graph_norm_forward(const GraphNorm* call) {
    const GraphNorm& a = *call;
    const Norm& norm = a.norm;
    const int size = a.joints * strided(a.frames, a.stride), outputs = a.outputs;
    const size_t in = static_cast<size_t>(a.inputs) * a.joints * a.frames, out = static_cast<size_t>(outputs) * size;
    const std::vector<float> wt = transposed(a.weight, outputs, a.inputs);
    std::vector<float> means(a.clips * outputs), squares(a.clips * outputs);
    float* values = a.training ? a.y : a.out;
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        float* buffer = scratch(MIXED, static_cast<size_t>(a.inputs) * size);
        for (int n = begin; n < end; ++n) {
            product(outputs, a.inputs, size, wt.data(), mixed(a, a.x + n * in, buffer), values + n * out);
            if (a.training)
                for (int c = 0; c < outputs; ++c)
                    moments(a.y + n * out + static_cast<size_t>(c) * size, size, &means[n * outputs + c],
                            &squares[n * outputs + c]);
        }
    });
    if (a.training)
        norm.settle(a.clips, outputs, outputs, size, means.data(), squares.data(), a.bias);
    else
        norm.take_running(outputs, a.bias);
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        for (int n = begin; n < end; ++n)
            for (int c = 0; c < outputs; ++c) {
                const float *y = values + n * out + static_cast<size_t>(c) * size;
                float* o = a.out + n * out + static_cast<size_t>(c) * size;
                const float s = norm.scale(c), b = norm.offset(c), low = a.relu ? 0.0f : -INFINITY;
                for (int p = 0; p < size; ++p) {
                    const float v = s * y[p] + b;
                    o[p] = v < low ? low : v;
                }
                if (a.over_joints) pool(a, n * outputs + c, o);
            }
    });
}

void graph_norm_backward(const GraphNorm* call) {
    const GraphNorm& a = *call;
    const Norm& norm = a.norm;
    const int size = a.joints * strided(a.frames, a.stride), inputs = a.inputs, outputs = a.outputs;
    const int plane = a.joints * a.frames;
    const size_t in = static_cast<size_t>(inputs) * plane, out = static_cast<size_t>(outputs) * size;
    std::vector<float> first(a.clips * outputs), second(a.clips * outputs);
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        float* buffer = scratch(PLANE, size);
        for (int n = begin; n < end; ++n)
            for (int c = 0; c < outputs; ++c) {
                const size_t at = n * out + static_cast<size_t>(c) * size;
                const float* gradient = gradient_of(a, static_cast<size_t>(n) * outputs + c, buffer);
                const float s = norm.scale(c), b = norm.offset(c), m = norm.mean[c];
                Vec one = {}, two = {};
                for (int p = 0; p < size; p += LANES) {
                    const Vec y = load(a.y + at + p, size - p);
                    Vec g = load(gradient + p, size - p);
                    if (a.relu) g = s * y + b > 0.0f ? g : Vec{};
                    one += g;
                    two += g * (y - m);
                }
                first[n * outputs + c] = sum(one);
                second[n * outputs + c] = sum(two) * norm.inverse[c];
            }
    });
    reduce(a.clips, outputs, first.data(), a.doffset);
    reduce(a.clips, outputs, second.data(), a.dscale);
    const float share = 1.0f / (static_cast<float>(a.clips) * size);
    const Graph graph{a.source, a.first, static_cast<int>(a.edges)};
    const size_t weights = static_cast<size_t>(outputs) * inputs, lanes = static_cast<size_t>(inputs) * a.edges * LANES;
    std::vector<float> dweight(a.threads * weights), dcoefficient(a.threads * lanes);
    parallel(a.threads, a.clips, [&](int id, int begin, int end) {
        float *buffer = scratch(MIXED, static_cast<size_t>(inputs) * size), *dy = scratch(GRADIENT, out);
        float *dmixed = scratch(OF_MIXED, static_cast<size_t>(inputs) * size), *whole = scratch(PLANE, size);
        for (int n = begin; n < end; ++n) {
            for (int c = 0; c < outputs; ++c) {
                const size_t at = n * out + static_cast<size_t>(c) * size;
                const float s = norm.scale(c), b = norm.offset(c), m = norm.mean[c];
                const float mean = a.doffset[c] * share, slope = a.dscale[c] * share * norm.inverse[c];
                const float *y = a.y + at, *g = gradient_of(a, static_cast<size_t>(n) * outputs + c, whole);
                float* d = dy + static_cast<size_t>(c) * size;
                for (int p = 0; p < size; ++p) {
                    const float open = !a.relu || s * y[p] + b > 0.0f ? g[p] : 0.0f;
                    d[p] = s * (open - mean - (y[p] - m) * slope);
                }
            }
            const float* x = a.x + n * in;
            outer(outputs, inputs, size, dy, mixed(a, x, buffer), dweight.data() + id * weights);
            product(inputs, outputs, size, a.weight, dy, dmixed);  // the weight is the transpose of its transpose
            for (int c = 0; c < inputs; ++c) {
                const float* d = dmixed + static_cast<size_t>(c) * size;
                float* dx = a.dx + n * in + static_cast<size_t>(c) * plane;
                if (a.source)
                    back(graph, a.joints, a.frames, a.coefficient + c * a.edges, x + static_cast<size_t>(c) * plane, d, dx,
                         dcoefficient.data() + id * lanes + static_cast<size_t>(c) * a.edges * LANES);
                else
                    widen(a.joints, a.frames, a.stride, d, dx);
            }
        }
    });
    add_parts(dweight, weights, a.dweight);
    if (a.source) {
        std::vector<float> total(lanes);
        add_parts(dcoefficient, lanes, total.data());
        for (size_t i = 0; i < static_cast<size_t>(inputs) * a.edges; ++i) a.dcoefficient[i] = sum(load(&total[i * LANES]));
    }
}

}  // extern "C"
