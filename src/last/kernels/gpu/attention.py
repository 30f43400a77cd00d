"""The two ends of ST_JointAtt that touch every value: the means over frames and joints, and the gate.

What lies between works on (N, C, T) and (N, C, V) and stays plain PyTorch.

Shapes: N clips, C channels, T frames, V joints, R = N * C rows.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


@triton.jit
def _frame(frames, joints, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr):
    """Frames, joints, and offsets of one row's values with which of them exist, (T, V)."""
    t, v = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_V)
    inside = (t < frames)[:, None] & (v < joints)[None, :]
    at = tl.program_id(0).to(tl.int64) * frames * joints + t[:, None] * joints + v[None, :]
    return t, v, at, inside


@triton.jit
def _means(x, over_joints, over_frames, frames, joints, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr):
    row = tl.program_id(0)
    t, v, at, inside = _frame(frames, joints, BLOCK_T, BLOCK_V)
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(over_joints + row * frames + t, tl.sum(values, 1) / joints, mask=t < frames)
    tl.store(over_frames + row * joints + v, tl.sum(values, 0) / frames, mask=v < joints)


@triton.jit
def _add_means(g, g_t, g_v, dx, frames, joints, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr):
    row = tl.program_id(0)
    t, v, at, inside = _frame(frames, joints, BLOCK_T, BLOCK_V)
    of_frame = tl.load(g_t + row * frames + t, mask=t < frames, other=0.0).to(tl.float32) / joints
    of_joint = tl.load(g_v + row * joints + v, mask=v < joints, other=0.0).to(tl.float32) / frames
    total = tl.load(g + at, mask=inside, other=0.0).to(tl.float32) + of_frame[:, None] + of_joint[None, :]
    tl.store(dx + at, total, mask=inside)


@triton.jit
def _gate(x, a_t, a_v, alpha, out, channels, frames, joints, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr):
    row = tl.program_id(0)
    t, v, at, inside = _frame(frames, joints, BLOCK_T, BLOCK_V)
    of_frame = tl.load(a_t + row * frames + t, mask=t < frames, other=0.0).to(tl.float32)
    of_joint = tl.load(a_v + row * joints + v, mask=v < joints, other=0.0).to(tl.float32)
    amount = tl.load(alpha + row % channels)
    factor = 1 + amount * (of_frame[:, None] * of_joint[None, :] - 1)
    tl.store(out + at, tl.load(x + at, mask=inside).to(tl.float32) * factor, mask=inside)


@triton.jit
def _gate_back(
    g, x, a_t, a_v, alpha, dx, d_t, d_v, dalpha, channels, frames, joints,
    BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    t, v, at, inside = _frame(frames, joints, BLOCK_T, BLOCK_V)
    of_frame = tl.load(a_t + row * frames + t, mask=t < frames, other=0.0).to(tl.float32)[:, None]
    of_joint = tl.load(a_v + row * joints + v, mask=v < joints, other=0.0).to(tl.float32)[None, :]
    amount = tl.load(alpha + row % channels)
    grad = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    both = of_frame * of_joint - 1
    tl.store(dx + at, grad * (1 + amount * both), mask=inside)
    product = grad * tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(d_t + row * frames + t, amount * tl.sum(product * of_joint, 1), mask=t < frames)
    tl.store(d_v + row * joints + v, amount * tl.sum(product * of_frame, 0), mask=v < joints)
    tl.store(dalpha + row, tl.sum(product * both))


def _form(x: Tensor) -> dict[str, int]:
    frames, joints = (triton.next_power_of_2(size) for size in x.shape[2:])
    return {"BLOCK_T": frames, "BLOCK_V": joints, "num_warps": 4 if frames * joints <= 4096 else 8}


class _Means(Function):
    """Hands the values on beside their means, so that both gradients meet in one pass."""

    @staticmethod
    def forward(ctx, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        clips, channels, frames, joints = x.shape
        over_joints = x.new_empty(clips, channels, frames, 1)
        over_frames = x.new_empty(clips, channels, 1, joints)
        _means[(clips * channels,)](x, over_joints, over_frames, frames, joints, **_form(x))
        return x.view_as(x), over_joints, over_frames

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor, g_t: Tensor, g_v: Tensor) -> Tensor:
        g, g_t, g_v = g.contiguous(), g_t.contiguous(), g_v.contiguous()
        clips, channels, frames, joints = g.shape
        dx = torch.empty_like(g)
        _add_means[(clips * channels,)](g, g_t, g_v, dx, frames, joints, **_form(g))
        return dx


class _Gate(Function):
    @staticmethod
    def forward(ctx, x: Tensor, a_t: Tensor, a_v: Tensor, alpha: Tensor) -> Tensor:
        clips, channels, frames, joints = x.shape
        a_t, a_v = a_t.contiguous(), a_v.contiguous()
        out = torch.empty_like(x)
        _gate[(clips * channels,)](x, a_t, a_v, alpha, out, channels, frames, joints, **_form(x))
        ctx.save_for_backward(x, a_t, a_v, alpha)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, a_t, a_v, alpha = ctx.saved_tensors
        clips, channels, frames, joints = x.shape
        dx, d_t, d_v = torch.empty_like(x), torch.empty_like(a_t), torch.empty_like(a_v)
        shared = x.new_empty(clips, channels, dtype=torch.float32)
        _gate_back[(clips * channels,)](
            g.contiguous(), x, a_t, a_v, alpha, dx, d_t, d_v, shared, channels, frames, joints, **_form(x)
        )
        return dx, d_t, d_v, shared.sum(0).view_as(alpha)


def attend(x: Tensor, module: Any) -> Tensor:
    """What :class:`last.models.layers.attention.STJointAttention` computes: (N, C, T, V) -> (N, C, T, V)."""
    x, over_joints, over_frames = _Means.apply(x.contiguous())
    return _Gate.apply(x, module.over_frames(over_joints), module.over_joints(over_frames), module.alpha)
