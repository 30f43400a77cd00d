// Vectors of sixteen floats, sums over them, threads over clips. The compiler makes of a vector what the processor has.
// Letters, here and in the other files: N clips (one a body), C channels, V joints, T frames, P = V * T.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace last {

constexpr int LANES = 16;
typedef float Vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
// At the end of a row, where `left` values remain: the lanes beyond are zero, and nothing is written there.
inline Vec load(const float* p, int left) {
    if (left >= LANES) return load(p);
    Vec v = {};
    std::memcpy(&v, p, sizeof(float) * left);
    return v;
}
inline void store(float* p, Vec v, int left) {
    if (left >= LANES)
        store(p, v);
    else
        std::memcpy(p, &v, sizeof(float) * left);
}
inline int up(int n) { return (n + LANES - 1) / LANES * LANES; }
// Frames that a stride leaves.
inline int strided(int frames, int stride) { return (frames + stride - 1) / stride; }

// Clips in equal parts, one a thread, always the same: sums come in the same order each time.
template <class Work>
void parallel(int threads, int clips, Work work) {
    threads = std::max(1, std::min(threads, clips));
#ifdef _OPENMP
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const int64_t id = omp_get_thread_num(), all = omp_get_num_threads();
        work(static_cast<int>(id), static_cast<int>(clips * id / all), static_cast<int>(clips * (id + 1) / all));
    }
#else
    work(0, 0, clips);
#endif
}

// Buffers of a thread, by what they hold while a kernel runs.
enum Slot { MIXED, GRADIENT, OF_MIXED, PLANE, ROWS, ROWS_TOO, OF_ROWS, END_IN, END_OUT, SLOTS };

// One of them, kept from call to call. It begins a line of the cache, so that no vector of an even row lies across two.
inline float* scratch(Slot slot, size_t size) {
    static thread_local std::vector<float> kept[SLOTS];
    std::vector<float>& buffer = kept[slot];
    if (buffer.size() < size + 2 * LANES) buffer.resize(size + 2 * LANES);
    const size_t past = reinterpret_cast<uintptr_t>(buffer.data()) / sizeof(float) % LANES;
    return buffer.data() + (LANES - past) % LANES;
}
inline float* cleared(Slot slot, size_t size) {
    float* buffer = scratch(slot, size);
    std::fill(buffer, buffer + size, 0.0f);
    return buffer;
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SHUFFLE
typedef int32_t Index __attribute__((vector_size(4 * LANES)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Index{__VA_ARGS__})
#endif

// The sums over the lanes of sixteen vectors, as one vector.
inline Vec sums(const Vec* v) {
    Vec a[8], b[4], c[2];
    for (int i = 0; i < 8; ++i)
        a[i] = SHUFFLE(v[2 * i], v[2 * i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               SHUFFLE(v[2 * i], v[2 * i + 1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    for (int i = 0; i < 4; ++i)
        b[i] = SHUFFLE(a[2 * i], a[2 * i + 1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               SHUFFLE(a[2 * i], a[2 * i + 1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    for (int i = 0; i < 2; ++i)
        c[i] = SHUFFLE(b[2 * i], b[2 * i + 1], 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
               SHUFFLE(b[2 * i], b[2 * i + 1], 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
    return SHUFFLE(c[0], c[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           SHUFFLE(c[0], c[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

inline float sum(Vec v) {
    float total = 0;
    for (int i = 0; i < LANES; ++i) total += v[i];
    return total;
}

inline float total(const float* x, int size) {
    Vec a = {}, b = {};
    int p = 0;
    for (; p + 2 * LANES <= size; p += 2 * LANES) a += load(x + p), b += load(x + p + LANES);
    for (; p < size; p += LANES) a += load(x + p, size - p);
    return sum(a + b);
}

// Mean of a plane, and the sum of squares about it: two readings, since one loses digits where the mean is large.
inline void moments(const float* x, int size, float* mean, float* squares) {
    const float m = total(x, size) / size;
    Vec a = {};
    int p = 0;
    for (; p + LANES <= size; p += LANES) {
        const Vec d = load(x + p) - m;
        a += d * d;
    }
    float rest = 0;
    for (; p < size; ++p) rest += (x[p] - m) * (x[p] - m);
    *mean = m;
    *squares = sum(a) + rest;
}

// x[0], x[stride], x[2 * stride] ... `count` of them; so many floats from x on may be read.
inline void pick(const float* x, int stride, int count, int readable, float* y) {
    int i = 0;
    if (stride == 2)
        for (; i + LANES <= count && 2 * (i + LANES) <= readable; i += LANES)
            store(y + i, SHUFFLE(load(x + 2 * i), load(x + 2 * i + LANES), 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26,
                                 28, 30));
    for (; i < count; ++i) y[i] = x[i * stride];
}

// The sum over rows of (rows, C).
inline void reduce(int rows, int channels, const float* sums_of_rows, float* out) {
    for (int c = 0; c < channels; ++c) {
        double total = 0;
        for (int n = 0; n < rows; ++n) total += sums_of_rows[n * channels + c];
        out[c] = static_cast<float>(total);
    }
}

}  // namespace last
