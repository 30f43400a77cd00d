// What BatchNorms behind any depthwise convolutions over time need to know of their common input: how the nine frames that
// a kernel spans ("taps") go together. For weights w, the output has mean w.m and variance w'Sw, where m are the taps' means
// and S their covariance. One reading of the input serves all branches, and none of their outputs is ever made.

#include "input_norm.h"
#include "rows.h"

using namespace last;

constexpr int PAIRS = K * (K + 1) / 2;
// Sums of a plane are kept in this order: of taps 0, 1 ... 8, then products (0, 0), (0, 1) ... (0, 8), (1, 1) ... (8, 8).
constexpr int SUMS = K + PAIRS;
constexpr int ROOM = (SUMS + LANES - 1) / LANES * LANES;

// The lanes of a row's vector at `t` that hold results, as ones.
static Vec inside(int kept, int t) {
    const Vec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lanes < static_cast<float>(kept - t) ? Vec{} + 1.0f : Vec{};
}

// Where the taps of the first result of the first joint lie.
static void find_taps(const Rows& rows, const float* spread, const float** tap) {
    for (int k = 0; k < K; ++k) tap[k] = spread + rows.r[k] * rows.phase() + rows.left + rows.q[k];
}

// Products of the taps FIRST to LAST with themselves and all later ones, and their sums: as many as registers hold.
template <int FIRST, int LAST>
static void products(const Rows& rows, const float* const* tap, float pivot, Vec* of_taps, Vec* of_pairs) {
    constexpr int MINE = LAST - FIRST + 1;
    Vec sums[MINE] = {}, pairs[MINE][K - FIRST] = {};
    for (int v = 0; v < rows.joints; ++v)
        for (int t = 0; t < rows.kept; t += LANES) {
            const Vec mask = inside(rows.kept, t);
            Vec mine[MINE];
            for (int i = 0; i < MINE; ++i) {
                mine[i] = mask * (load(tap[FIRST + i] + v * rows.width + t) - pivot);
                sums[i] += mine[i];
            }
            for (int l = FIRST; l < K; ++l) {
                const Vec other = load(tap[l] + v * rows.width + t) - pivot;
                for (int i = 0; i < MINE; ++i)
                    if (FIRST + i <= l) pairs[i][l - FIRST] += mine[i] * other;
            }
        }
    for (int i = 0; i < MINE; ++i) {
        const int k = FIRST + i;
        of_taps[k] = sums[i];
        for (int l = k; l < K; ++l) of_pairs[k * K - k * (k - 1) / 2 + l - k] = pairs[i][l - FIRST];
    }
}

// The gradient of z, (V, T), from the rows that hold it.
template <int STRIDE>
static void gradient_of_plane(const Rows& rows, const float* weights, const float* const* tap, float pivot, float* of_taps,
                              float* dz) {
    const size_t row = rows.width;
    for (int v = 0; v < rows.joints; ++v) {
        // What each tap of each result gets. It belongs to the frame that lies q further, in the row of its r.
        for (int t = 0; t < rows.kept; t += LANES) {
            const Vec mask = inside(rows.kept, t);
            Vec seen[K];
            for (int l = 0; l < K; ++l) seen[l] = load(tap[l] + v * row + t) - pivot;
            for (int k = 0; k < K; ++k) {
                const float* w = weights + k * (K + 1);
                Vec d = Vec{} + w[K];
                for (int l = 0; l < K; ++l) d += w[l] * seen[l];
                store(of_taps + k * row + rows.left + t, mask * d);
            }
        }
        for (int t = 0; t < rows.kept; t += LANES) {
            Vec even = {}, odd = {};
            for (int k = 0; k < K; ++k) {
                const Vec d = load(of_taps + k * row + rows.left + t - rows.q[k]);
                if (STRIDE == 1 || rows.r[k] == 0)
                    even += d;
                else
                    odd += d;
            }
            store_frames<STRIDE>(dz + v * rows.frames + t * STRIDE, rows.frames - t * STRIDE, even, odd);
        }
    }
}

extern "C" {

// Means and covariance of the taps over clips, joints and results, behind the BatchNorm and ReLU of each half.
struct TapMoments {
    int64_t threads, clips, channels, joints, frames, stride;
    int64_t dilation[2];
    Norm before[2];
    // (N, C, V, T); and (C,), a value near to which all of a channel lie where they lie close together. Taps count from
    // there, since squares of large numbers leave no digits for a small variance.
    const float *x, *pivot;
    double *means, *covariance;    // (C, K), counted from the pivot; (C, K, K)
    // backward
    const float* gradient;         // (C, K, K + 1): what a tap's gradient has of each tap, and besides
    float *dx, *dscale, *doffset;
};

void tap_moments_forward(const TapMoments* call) {
    const TapMoments& a = *call;
    const NormedInput input(a);
    const int channels = a.channels, half = channels / 2;
    const Rows rows[2] = {Rows(a.joints, a.frames, a.stride, a.dilation[0]), Rows(a.joints, a.frames, a.stride, a.dilation[1])};
    input.settle();
    // A plane's sums are of floats; over planes they are double, since a variance is what two of them leave.
    const size_t count = static_cast<size_t>(channels) * SUMS;
    std::vector<double> parts(a.threads * count);
    parallel(a.threads, a.clips, [&](int id, int begin, int end) {
        float* z = scratch(PLANE, input.plane);
        float* const spread[2] = {cleared(ROWS, rows[0].phase() * a.stride), cleared(ROWS_TOO, rows[1].phase() * a.stride)};
        for (int n = begin; n < end; ++n)
            for (int c = 0; c < channels; ++c) {
                const int h = c >= half;
                const float* tap[K];
                Vec lanes[ROOM] = {};
                input.relu(n, c, z);
                rows[h].spread(z, spread[h]);
                find_taps(rows[h], spread[h], tap);
                products<0, 1>(rows[h], tap, a.pivot[c], lanes, lanes + K);
                products<2, 3>(rows[h], tap, a.pivot[c], lanes, lanes + K);
                products<4, 5>(rows[h], tap, a.pivot[c], lanes, lanes + K);
                products<6, 8>(rows[h], tap, a.pivot[c], lanes, lanes + K);
                double* part = parts.data() + id * count + static_cast<size_t>(c) * SUMS;
                for (int i = 0; i < SUMS; i += LANES) {
                    const Vec sixteen = sums(lanes + i);
                    for (int j = i; j < std::min(SUMS, i + LANES); ++j) part[j] += sixteen[j - i];
                }
            }
    });
    const double results = static_cast<double>(a.clips) * a.joints * rows->kept;
    for (int c = 0; c < channels; ++c) {
        double mean[SUMS] = {}, *covariance = a.covariance + static_cast<size_t>(c) * K * K;
        for (int id = 0; id < a.threads; ++id)
            for (int i = 0; i < SUMS; ++i) mean[i] += parts[id * count + static_cast<size_t>(c) * SUMS + i] / results;
        std::copy(mean, mean + K, a.means + static_cast<size_t>(c) * K);
        const double* pair = mean + K;
        for (int k = 0; k < K; ++k)
            for (int l = k; l < K; ++l) covariance[k * K + l] = covariance[l * K + k] = *pair++ - mean[k] * mean[l];
    }
}

void tap_moments_backward(const TapMoments* call) {
    const TapMoments& a = *call;
    const NormedInput input(a);
    const int channels = a.channels, half = channels / 2;
    const Rows rows[2] = {Rows(a.joints, a.frames, a.stride, a.dilation[0]), Rows(a.joints, a.frames, a.stride, a.dilation[1])};
    NormedInputGradient of_input(input, a.dx);
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        float* z = scratch(PLANE, input.plane);
        float* const spread[2] = {cleared(ROWS, rows[0].phase() * a.stride), cleared(ROWS_TOO, rows[1].phase() * a.stride)};
        for (int n = begin; n < end; ++n)
            for (int h = 0; h < 2; ++h) {
                float* of_taps = cleared(OF_ROWS, static_cast<size_t>(K) * rows[h].width);
                const float* tap[K];
                find_taps(rows[h], spread[h], tap);
                for (int c = h * half; c < (h + 1) * half; ++c) {
                    const float* weights = a.gradient + static_cast<size_t>(c) * K * (K + 1);
                    input.relu(n, c, z);
                    rows[h].spread(z, spread[h]);
                    if (a.stride == 1)
                        gradient_of_plane<1>(rows[h], weights, tap, a.pivot[c], of_taps, of_input.at(n, c));
                    else
                        gradient_of_plane<2>(rows[h], weights, tap, a.pivot[c], of_taps, of_input.at(n, c));
                    of_input.relu(n, c, z);
                }
            }
    });
    of_input.norm(a.dscale, a.doffset);
}

}  // extern "C"
