// What the temporal convolution reads and writes: rows of frames with room beside them, and dropout's numbers.
#pragma once

#include "vectors.h"

namespace last {

constexpr int K = 9;  // frames that the kernel of the convolution spans

// The frames of a stride's two phases in turn (of the one, without a stride), as far as there is room.
template <int STRIDE>
inline void store_frames(float* out, int room, Vec even, Vec odd) {
    if (STRIDE == 1 && room >= LANES) {
        store(out, even);
    } else if (STRIDE == 2 && room >= 2 * LANES) {
        store(out, SHUFFLE(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
        store(out + LANES, SHUFFLE(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
    } else {
        for (int i = 0; i < std::min(room, LANES * STRIDE); ++i) out[i] = i % STRIDE ? odd[i / STRIDE] : even[i / STRIDE];
    }
}

// Rows with room on both sides. With a stride, frames t = stride * i + r lie in one buffer for each r, where the taps of
// the kernel are shifts again: tap j of the output at t reads row r[j] at t + q[j].
struct Rows {
    int joints, frames, stride, kept, left, width, q[K], r[K];

    Rows(int joints, int frames, int stride, int dilation) : joints(joints), frames(frames), stride(stride) {
        kept = strided(frames, stride);
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
                const int count = strided(frames - s, stride);
                if (stride == 1)
                    std::memcpy(row, from, sizeof(float) * count);
                else
                    pick(from, stride, count, stride * count, row);  // x is followed by room
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
                store_frames<STRIDE>(dx + v * frames + t * STRIDE, frames - t * STRIDE, even, odd);
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
          limit(static_cast<uint32_t>(std::min(4294967295.0, p * 4294967296.0))), kept(p < 1 ? 1 / (1 - p) : 0) {}

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
