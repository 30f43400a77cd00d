// The BatchNorm and ReLU that the temporal convolution begins with, in both halves of the channels.
#pragma once

#include "batch_norm.h"

namespace last {

// Planes (V, T) of the channels of all clips, and what normalises them.
struct NormedInput {
    const Norm* norms;  // of each half
    int threads, clips, channels, plane;
    const float* x;     // (N, C, V, T)

    // Of the arguments of a kernel.
    template <class Call>
    explicit NormedInput(const Call& a)
        : norms(a.before), threads(a.threads), clips(a.clips), channels(a.channels), plane(a.joints * a.frames), x(a.x) {}

    Halves halves() const { return Halves{norms, channels / 2}; }
    const float* at(int n, int c) const { return x + (static_cast<size_t>(n) * channels + c) * plane; }

    // Statistics of the batch.
    void settle() const {
        std::vector<float> means(clips * channels), squares(clips * channels);
        parallel(threads, clips, [&](int, int begin, int end) {
            for (int n = begin; n < end; ++n)
                for (int c = 0; c < channels; ++c) moments(at(n, c), plane, &means[n * channels + c], &squares[n * channels + c]);
        });
        halves().settle(clips, plane, means.data(), squares.data());
    }
    // What the convolution sees of a channel.
    void relu(int n, int c, float* z) const {
        const float s = halves().scale(c), b = halves().offset(c), *from = at(n, c);
        for (int p = 0; p < plane; ++p) {
            const float v = s * from[p] + b;
            z[p] = v < 0.0f ? 0.0f : v;
        }
    }
};

// The gradient of the input by way of that of z, plane by plane and then over the batch.
struct NormedInputGradient {
    const NormedInput& input;
    float* dx;                         // (N, C, V, T); holds the gradient of z first
    std::vector<float> first, second;  // sums of each plane

    NormedInputGradient(const NormedInput& input, float* dx)
        : input(input), dx(dx), first(input.clips * input.channels), second(input.clips * input.channels) {}
    float* at(int n, int c) { return dx + (static_cast<size_t>(n) * input.channels + c) * input.plane; }

    // Through the ReLU that gave z, of which there is room for whole vectors.
    void relu(int n, int c, const float* z) {
        const float m = input.halves().mean(c), *x = input.at(n, c);
        float* d = at(n, c);
        Vec one = {}, two = {};
        for (int p = 0; p < input.plane; p += LANES) {
            const int left = input.plane - p;
            Vec here = load(d + p, left);
            here = load(z + p) > 0.0f ? here : Vec{};
            store(d + p, here, left);
            one += here;
            two += here * (load(x + p, left) - m);
        }
        first[n * input.channels + c] = sum(one);
        second[n * input.channels + c] = sum(two) * input.halves().inverse(c);
    }
    // Through the BatchNorms, once all planes are there.
    void norm(float* dscale, float* doffset) {
        const int channels = input.channels, plane = input.plane;
        reduce(input.clips, channels, first.data(), doffset);
        reduce(input.clips, channels, second.data(), dscale);
        const float share = 1.0f / (static_cast<float>(input.clips) * plane);
        parallel(input.threads, input.clips, [&](int, int begin, int end) {
            for (int n = begin; n < end; ++n)
                for (int c = 0; c < channels; ++c) {
                    const Halves norm = input.halves();
                    const float s = norm.scale(c), m = norm.mean(c);
                    const float mean = doffset[c] * share, slope = dscale[c] * share * norm.inverse(c);
                    const float* x = input.at(n, c);
                    float* d = at(n, c);
                    for (int p = 0; p < plane; ++p) d[p] = s * (d[p] - mean - (x[p] - m) * slope);
                }
        });
    }
};

}  // namespace last
