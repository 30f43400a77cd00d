// BatchNorm: statistics of a batch, and the constants that it multiplies and adds.
#pragma once

#include "vectors.h"

namespace last {

// One BatchNorm: weight and bias (C,); running mean and variance (C,), changed in training; mean and 1 / deviation (C,), of
// the batch in training and the running ones else.
struct Norm {
    const float *weight, *bias;
    float *running_mean, *running_variance, *mean, *inverse;
    float momentum, epsilon;

    // From the moments of `rows` planes of each channel, each of `size` values; a row has `width` channels.
    // `shift` (C,) is a constant that the running mean has and the values lack: a convolution's bias.
    void settle(int rows, int channels, int width, int size, const float* means, const float* squares,
                const float* shift) const {
        for (int c = 0; c < channels; ++c) {
            double m = 0, s = 0;
            for (int n = 0; n < rows; ++n) m += means[n * width + c];
            m /= rows;
            for (int n = 0; n < rows; ++n) {
                const double d = means[n * width + c] - m;
                s += squares[n * width + c] + size * d * d;
            }
            const double count = static_cast<double>(rows) * size;
            mean[c] = static_cast<float>(m);
            inverse[c] = static_cast<float>(1 / std::sqrt(s / count + epsilon));
            const double moved = m + (shift ? shift[c] : 0.0f);
            running_mean[c] += momentum * static_cast<float>(moved - running_mean[c]);
            running_variance[c] += momentum * static_cast<float>(s / std::max(1.0, count - 1) - running_variance[c]);
        }
    }
    void take_running(int channels, const float* shift) const {
        for (int c = 0; c < channels; ++c) {
            mean[c] = running_mean[c] - (shift ? shift[c] : 0.0f);
            inverse[c] = 1 / std::sqrt(running_variance[c] + epsilon);
        }
    }
    float scale(int c) const { return weight[c] * inverse[c]; }
    float offset(int c) const { return bias[c] - mean[c] * scale(c); }
};

// Two of them, each for half of the channels.
struct Halves {
    const Norm* norms;
    int half;

    const Norm& of(int c) const { return norms[c >= half]; }
    float scale(int c) const { return of(c).scale(c % half); }
    float offset(int c) const { return of(c).offset(c % half); }
    float mean(int c) const { return of(c).mean[c % half]; }
    float inverse(int c) const { return of(c).inverse[c % half]; }
    void settle(int rows, int size, const float* means, const float* squares) const {
        for (int h = 0; h < 2; ++h)
            norms[h].settle(rows, half, 2 * half, size, means + h * half, squares + h * half, nullptr);
    }
    void take_running() const {
        for (int h = 0; h < 2; ++h) norms[h].take_running(half, nullptr);
    }
};

}  // namespace last
