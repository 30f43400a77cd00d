// The blend of attention over frames and joints.

#include "vectors.h"

using namespace last;

extern "C" {

// Attention's blend, x * (1 + alpha * (a b - 1)): a for each frame, b for each joint.
struct Gate {
    int64_t threads, clips, channels, joints, frames;
    const float *x, *of_frames, *of_joints, *alpha;  // (N, C, V, T), (N, C, T), (N, C, V), (C,)
    float* out;
    // backward
    const float* gradient;                           // of out
    float *dx, *dof_frames, *dof_joints, *dalpha;
};

void gate_forward(const Gate* call) {
    const Gate& a = *call;
    const int channels = a.channels, joints = a.joints, frames = a.frames;
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        for (int row = begin * channels; row < end * channels; ++row) {
            const float alpha = a.alpha[row % channels], *f = a.of_frames + static_cast<size_t>(row) * frames;
            for (int v = 0; v < joints; ++v) {
                const size_t at = (static_cast<size_t>(row) * joints + v) * frames;
                const float share = alpha * a.of_joints[static_cast<size_t>(row) * joints + v];
                for (int t = 0; t < frames; ++t) a.out[at + t] = a.x[at + t] * (1 - alpha + share * f[t]);
            }
        }
    });
}

void gate_backward(const Gate* call) {
    const Gate& a = *call;
    const int channels = a.channels, joints = a.joints, frames = a.frames;
    std::vector<float> dalpha(a.clips * channels);
    parallel(a.threads, a.clips, [&](int, int begin, int end) {
        for (int row = begin * channels; row < end * channels; ++row) {
            const float alpha = a.alpha[row % channels], *f = a.of_frames + static_cast<size_t>(row) * frames;
            float* df = a.dof_frames + static_cast<size_t>(row) * frames;
            std::fill(df, df + frames, 0.0f);
            float all = 0, blended = 0;  // sums of g x, with and without a b
            for (int v = 0; v < joints; ++v) {
                const size_t at = (static_cast<size_t>(row) * joints + v) * frames, joint = static_cast<size_t>(row) * joints + v;
                const float share = alpha * a.of_joints[joint];
                Vec plain = {}, by_frame = {};
                int t = 0;
                for (; t + LANES <= frames; t += LANES) {
                    const Vec g = load(a.gradient + at + t), gx = g * load(a.x + at + t), here = load(f + t);
                    store(a.dx + at + t, g * (1 - alpha + share * here));
                    store(df + t, load(df + t) + share * gx);
                    plain += gx;
                    by_frame += gx * here;
                }
                float one = sum(plain), two = sum(by_frame);
                for (; t < frames; ++t) {
                    const float g = a.gradient[at + t], gx = g * a.x[at + t];
                    a.dx[at + t] = g * (1 - alpha + share * f[t]);
                    df[t] += share * gx;
                    one += gx, two += gx * f[t];
                }
                a.dof_joints[joint] = alpha * two;
                all += one, blended += a.of_joints[joint] * two;
            }
            dalpha[row] = blended - all;
        }
    });
    reduce(a.clips, channels, dalpha.data(), a.dalpha);
}

}  // extern "C"
