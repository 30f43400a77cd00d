// Products of small matrices, whose shapes are those of 1x1 convolutions over one clip.
#pragma once

#include "vectors.h"

namespace last {

// (rows, columns) to (columns, rows).
inline std::vector<float> transposed(const float* w, int rows, int columns) {
    std::vector<float> t(static_cast<size_t>(rows) * columns);
    for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c) t[static_cast<size_t>(c) * rows + r] = w[static_cast<size_t>(r) * columns + c];
    return t;
}

template <int ROWS, int WIDE>
inline void tile(int depth, const float* wt, int ldw, const float* x, int ldx, float* y, int ldy) {
    Vec acc[ROWS][WIDE] = {};
    for (int k = 0; k < depth; ++k) {
        Vec in[WIDE];
        for (int i = 0; i < WIDE; ++i) in[i] = load(x + static_cast<size_t>(k) * ldx + i * LANES);
        for (int r = 0; r < ROWS; ++r) {
            const float w = wt[static_cast<size_t>(k) * ldw + r];
            for (int i = 0; i < WIDE; ++i) acc[r][i] += w * in[i];
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int i = 0; i < WIDE; ++i) store(y + static_cast<size_t>(r) * ldy + i * LANES, acc[r][i]);
}

template <int WIDE>
inline void column(int rows, int depth, const float* wt, const float* x, int ldx, float* y, int ldy) {
    int r = 0;
    for (; r + 6 <= rows; r += 6) tile<6, WIDE>(depth, wt + r, rows, x, ldx, y + static_cast<size_t>(r) * ldy, ldy);
    wt += r, y += static_cast<size_t>(r) * ldy;
    switch (rows - r) {
        case 5: return tile<5, WIDE>(depth, wt, rows, x, ldx, y, ldy);
        case 4: return tile<4, WIDE>(depth, wt, rows, x, ldx, y, ldy);
        case 3: return tile<3, WIDE>(depth, wt, rows, x, ldx, y, ldy);
        case 2: return tile<2, WIDE>(depth, wt, rows, x, ldx, y, ldy);
        case 1: return tile<1, WIDE>(depth, wt, rows, x, ldx, y, ldy);
    }
}

// y (rows, size) = w (rows, depth) x (depth, size), given the transpose of w.
inline void product(int rows, int depth, int size, const float* wt, const float* x, float* y) {
    int p = 0;
    for (; p + 4 * LANES <= size; p += 4 * LANES) column<4>(rows, depth, wt, x + p, size, y + p, size);
    for (; p + LANES <= size; p += LANES) column<1>(rows, depth, wt, x + p, size, y + p, size);
    if (const int rest = size - p) {
        float* in = scratch(END_IN, static_cast<size_t>(depth) * LANES);
        float* out = scratch(END_OUT, static_cast<size_t>(rows) * LANES);
        for (int k = 0; k < depth; ++k)
            store(in + k * LANES, load(x + static_cast<size_t>(k) * size + p, rest));
        column<1>(rows, depth, wt, in, LANES, out, LANES);
        for (int r = 0; r < rows; ++r)
            std::memcpy(y + static_cast<size_t>(r) * size + p, out + r * LANES, sizeof(float) * rest);
    }
}

// w (rows, columns) += a (rows, size) b (columns, size)^T.
inline void outer(int rows, int columns, int size, const float* a, const float* b, float* w) {
    constexpr int TALL = 6, WIDE = 4;  // as many sums as the registers of AVX-512 hold beside their inputs
    for (int r = 0; r < rows; r += TALL)
        for (int c = 0; c < columns; c += WIDE) {
            const float *pa[TALL], *pb[WIDE];
            for (int i = 0; i < TALL; ++i) pa[i] = a + static_cast<size_t>(std::min(r + i, rows - 1)) * size;
            for (int j = 0; j < WIDE; ++j) pb[j] = b + static_cast<size_t>(std::min(c + j, columns - 1)) * size;
            Vec acc[2 * LANES] = {};
            int p = 0;
            for (; p + LANES <= size; p += LANES) {
                Vec vb[WIDE];
                for (int j = 0; j < WIDE; ++j) vb[j] = load(pb[j] + p);
                for (int i = 0; i < TALL; ++i) {
                    const Vec va = load(pa[i] + p);
                    for (int j = 0; j < WIDE; ++j) acc[WIDE * i + j] += va * vb[j];
                }
            }
            if (const int rest = size - p)
                for (int i = 0; i < TALL; ++i)
                    for (int j = 0; j < WIDE; ++j) acc[WIDE * i + j] += load(pa[i] + p, rest) * load(pb[j] + p, rest);
            const Vec total[2] = {sums(acc), sums(acc + LANES)};
            for (int i = 0; i < std::min(TALL, rows - r); ++i)
                for (int j = 0; j < std::min(WIDE, columns - c); ++j)
                    w[static_cast<size_t>(r + i) * columns + c + j] += total[i / WIDE][WIDE * i % LANES + j];
        }
}
// The sum of equal parts, one a thread.
inline void add_parts(const std::vector<float>& parts, size_t size, float* out) {
    std::fill(out, out + size, 0.0f);
    for (size_t start = 0; start < parts.size(); start += size)
        for (size_t i = 0; i < size; ++i) out[i] += parts[start + i];
}

}  // namespace last
