"""The two branches over time, dropout, residual and ReLU.

A tap of the 9x1 convolution lies a fixed number of places away, and beyond the first or last frame it lies outside the
clip: the convolution needs no frames, only places. Its taps are read again from the cache, so that neither the
normalised values nor those between the depthwise and the 1x1 convolution reach memory on the way forward.

Shapes: N clips, C channels, H = C/2 of a branch, P places (frames x joints, contiguous) in and Q out, V joints,
B programs a channel.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from last.kernels.gpu.graph import block
from last.kernels.gpu.norm import (
    gradient,
    kept,
    moments,
    places,
    settle,
    share,
    shares,
    store_gradient_sums,
    store_moments,
    tiling,
)


@triton.jit
def _convolved(
    x, stats, taps, channel, half, row, target, inside, count, joints,
    TAPS: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr,
):  # fmt: skip
    """BatchNorm, ReLU and the depthwise convolution of (H, P) at some places of the output, (channels, places)."""
    own = channel < half
    scale = tl.load(stats + 2 * row + channel, mask=own, other=0.0)[:, None]
    shift = tl.load(stats + 3 * row + channel, mask=own, other=0.0)[:, None]
    middle = target + (target // joints) * (STRIDE - 1) * joints
    total = tl.zeros((channel.shape[0], target.shape[0]), tl.float32)
    for tap in tl.static_range(TAPS):
        place = middle + (tap - TAPS // 2) * DILATION * joints
        there = own[:, None] & (inside & (place >= 0) & (place < count))[None, :]
        values = tl.load(x + channel[:, None] * count + place[None, :], mask=there, other=0.0).to(tl.float32)
        weight = tl.load(taps + channel * TAPS + tap, mask=own, other=0.0)[:, None]
        total += weight * tl.where(there, tl.maximum(scale * values + shift, 0.0), 0.0)
    return total


@triton.jit
def _branch(
    x, stats, taps, weight, m, partials, channels, half, row, count, count_out, joints,
    TAPS: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, MOMENTS: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(0).to(tl.int64)
    target = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = target < count_out
    channel = tl.arange(0, BLOCK)
    own = channel < half
    taken = _convolved(
        x + clip * channels * count, stats, taps, channel, half, row, target, inside, count, joints,
        TAPS, STRIDE, DILATION,
    )  # fmt: skip
    square = own[:, None] & own[None, :]
    w = tl.load(weight + channel[:, None] * half + channel[None, :], mask=square, other=0.0)
    kind = x.dtype.element_ty
    total = tl.dot(w.to(kind), taken.to(kind), input_precision="tf32x3")
    at = m + (clip * channels + channel[:, None]) * count_out + target[None, :]
    tl.store(at, total, mask=own[:, None] & inside[None, :])
    if MOMENTS:
        program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        programs = tl.num_programs(0) * tl.num_programs(1)
        store_moments(total, inside[None, :] & (channel >= 0)[:, None], partials, channel, half, programs, program, 1)


@triton.jit
def _merge(
    m, stats, residual, seed, out, clips, channels, count, p,
    DROP: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0)
    at, inside = places(clips, channel, channels, count, ROWS, COLS)
    scale = tl.load(stats + 2 * channels + channel)
    shift = tl.load(stats + 3 * channels + channel)
    values = scale * tl.load(m + at, mask=inside).to(tl.float32) + shift
    if DROP:
        values *= kept(seed, channel, channels, count, p, ROWS, COLS)
    values += tl.load(residual + at, mask=inside).to(tl.float32)
    tl.store(out + at, tl.maximum(values, 0.0), mask=inside)


@triton.jit
def _part(
    g, out, m, stats, seed, dresidual, partials, clips, channels, count, p,
    DROP: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0)
    at, inside = places(clips, channel, channels, count, ROWS, COLS)
    grad = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    grad = tl.where(tl.load(out + at, mask=inside, other=0.0) > 0, grad, 0.0)
    tl.store(dresidual + at, grad, mask=inside)
    if DROP:
        grad *= kept(seed, channel, channels, count, p, ROWS, COLS)
    values = tl.load(m + at, mask=inside, other=0.0).to(tl.float32)
    store_gradient_sums(grad, values, inside, stats, partials, channel, channels, 0, 1)


@triton.jit
def _pointwise_back(
    dm, weight, dd, channels, half, count, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr
):  # fmt: skip
    clip = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.arange(0, BLOCK)
    own = channel < half
    here = own[:, None] & (place < count)[None, :]
    at = (clip * channels + channel[:, None]) * count + place[None, :]
    grad = tl.load(dm + at, mask=here, other=0.0)
    square = own[:, None] & own[None, :]
    w = tl.load(weight + channel[None, :] * half + channel[:, None], mask=square, other=0.0)
    total = tl.dot(w.to(grad.dtype), grad, input_precision="tf32x3")
    tl.store(dd + at, total, mask=here)


@triton.jit
def _pointwise_weight(
    dm, x, stats, taps, partials, clips, channels, half, row, count, count_out, joints,
    TAPS: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    output = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    split = tl.program_id(2)
    blocks = tl.cdiv(count_out, BLOCK_P)
    total = tl.zeros((BLOCK_O, BLOCK_C), tl.float32)
    for tile in range(split, clips * blocks, tl.num_programs(2)):
        clip = (tile // blocks).to(tl.int64)
        target = (tile % blocks) * BLOCK_P + tl.arange(0, BLOCK_P)
        inside = target < count_out
        taken = _convolved(
            x + clip * channels * count, stats, taps, channel, half, row, target, inside, count, joints,
            TAPS, STRIDE, DILATION,
        )  # fmt: skip
        here = (output < half)[:, None] & inside[None, :]
        at = (clip * channels + output[:, None]) * count_out + target[None, :]
        grad = tl.load(dm + at, mask=here, other=0.0)
        total = tl.dot(grad, tl.trans(taken.to(grad.dtype)), total, input_precision="tf32x3")
    here = (output < half)[:, None] & (channel < half)[None, :]
    tl.store(partials + (split * half + output[:, None]) * half + channel[None, :], total, mask=here)


@triton.jit
def _depthwise_back(
    dd, x, stats, taps, dv, partials, clips, channels, half, row, count, count_out, joints,
    TAPS: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0)
    start = tl.program_id(1).to(tl.int64) * ROWS
    rows = tl.arange(0, ROWS)
    place = tl.program_id(2) * COLS + tl.arange(0, COLS)
    clip = start + rows < clips
    inside = clip[:, None] & (place < count)[None, :]
    # 64-bit offsets only once a program: nine taps of them would cost more registers than the values.
    x += (start * channels + channel) * count
    dv += (start * channels + channel) * count
    dd += (start * channels + channel) * count_out
    at = (rows * channels * count)[:, None] + place[None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    affine = tl.load(stats + 2 * row + channel) * values + tl.load(stats + 3 * row + channel)
    active = inside & (affine > 0)
    seen = tl.where(active, affine, 0.0)
    programs = tl.num_programs(1) * tl.num_programs(2)
    shared = partials + channel * programs + share()
    frame = place // joints
    joint = place % joints
    frames = count_out // joints
    grad = tl.zeros((ROWS, COLS), tl.float32)
    for tap in tl.static_range(TAPS):
        # Which frame of the output saw this one through the tap, in units of the input's frames.
        seen_at = frame - (tap - TAPS // 2) * DILATION
        target = seen_at // STRIDE
        there = (place < count) & (seen_at >= 0) & (seen_at % STRIDE == 0) & (target < frames)
        source = (rows * channels * count_out)[:, None] + (target * joints + joint)[None, :]
        each = tl.load(dd + source, mask=clip[:, None] & there[None, :], other=0.0).to(tl.float32)
        grad += tl.load(taps + channel * TAPS + tap) * each
        tl.store(shared + (2 + tap) * half * programs, tl.sum(each * seen))
    grad = tl.where(active, grad, 0.0)
    tl.store(dv + at, grad, mask=inside)
    normal = (values - tl.load(stats + channel)) * tl.load(stats + row + channel)
    tl.store(shared, tl.sum(grad))
    tl.store(shared + half * programs, tl.sum(tl.where(inside, grad * normal, 0.0)))


def reach(wide: int) -> int:
    """Places of a tile so many channels wide: with eight warps, 8 values a thread where the matrix units allow it."""
    return max(32, min(128, 2048 // wide))


class _Plan(NamedTuple):
    """All that is no tensor with a gradient; of the layers, those of each branch."""

    before: tuple[nn.BatchNorm2d, ...]
    after: tuple[nn.BatchNorm2d, ...]
    stride: int
    dilations: tuple[int, ...]
    p: float
    seed: Tensor


class _Temporal(Function):
    @staticmethod
    def forward(ctx, x: Tensor, residual: Tensor, plan: _Plan, *weights: Tensor) -> Tensor:
        clips, channels, frames, joints = x.shape
        half, training = channels // 2, plan.before[0].training
        flat, out = x.flatten(2), torch.empty_like(residual)
        m = torch.empty_like(out)
        count_out = out[0, 0].numel()
        before, after = (x.new_empty(4, channels, dtype=torch.float32) for _ in range(2))
        partials = moments(flat) if training else None
        wide = block(half)
        places = reach(wide)
        grid = clips, triton.cdiv(count_out, places)
        for i, dilation in enumerate(plan.dilations):
            own = slice(i * half, (i + 1) * half)
            settle(None if partials is None else partials[:, own], plan.before[i], before[:, own])
            behind = x.new_empty(3, half, grid[0] * grid[1], dtype=torch.float32) if training else None
            taps, weight = weights[i], weights[2 + i]
            _branch[grid](
                flat[:, own], before[:, own], taps, weight, m[:, own], m if behind is None else behind,
                channels, half, channels, frames * joints, count_out, joints,
                TAPS=taps.shape[2], STRIDE=plan.stride, DILATION=dilation, MOMENTS=training,
                BLOCK=wide, BLOCK_P=places, num_warps=8, num_stages=1,
            )  # fmt: skip
            settle(behind, plan.after[i], after[:, own])
        grid, rows, cols = tiling(out.flatten(2))
        _merge[grid](
            m, after, residual, plan.seed, out, clips, channels, count_out, plan.p,
            DROP=plan.p > 0, ROWS=rows, COLS=cols,
        )  # fmt: skip
        ctx.save_for_backward(x, m, out, before, after, *weights[:4])
        ctx.plan, ctx.training = plan, training
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, m, out, before, after, *weights = ctx.saved_tensors
        plan: _Plan = ctx.plan
        clips, channels, frames, joints = x.shape
        half, count, count_out = channels // 2, frames * joints, out[0, 0].numel()
        flat = x.flatten(2)
        grid, rows, cols = tiling(out.flatten(2))
        partials = shares(out.flatten(2), 2)
        dresidual = torch.empty_like(out)
        _part[grid](
            g.contiguous(), out, m, after, plan.seed, dresidual, partials, clips, channels, count_out, plan.p,
            DROP=plan.p > 0, ROWS=rows, COLS=cols,
        )  # fmt: skip
        behind = partials.sum(2)
        dm = gradient(
            dresidual.flatten(2), m.flatten(2), after, behind, ctx.training, False, plan.p, plan.seed
        )  # fmt: skip
        dd, dv = torch.empty_like(dm), torch.empty_like(flat)
        ahead = torch.empty_like(behind)
        dtaps, dweights = [], []
        for i, dilation in enumerate(plan.dilations):
            own = slice(i * half, (i + 1) * half)
            taps, weight = weights[i], weights[2 + i]
            wide = block(half)
            places = reach(wide)
            grid = clips, triton.cdiv(count_out, places)
            _pointwise_back[grid](
                dm[:, own], weight, dd[:, own], channels, half, count_out,
                BLOCK=wide, BLOCK_P=places, num_warps=8, num_stages=1,
            )  # fmt: skip
            size = min(64, wide)
            sides = triton.cdiv(half, size)
            splits = min(clips * triton.cdiv(count_out, 64), max(1, 512 // sides**2))
            shared = x.new_empty(splits, *weight.shape, dtype=torch.float32)
            form = {"TAPS": taps.shape[2], "STRIDE": plan.stride, "DILATION": dilation}
            _pointwise_weight[(sides, sides, splits)](
                dm[:, own], flat[:, own], before[:, own], taps, shared, clips, channels, half, channels,
                count, count_out, joints, **form, BLOCK_O=size, BLOCK_C=size, BLOCK_P=64, num_warps=8, num_stages=1,
            )  # fmt: skip
            dweights.append(shared.sum(0))
            (_, *grid), rows, cols = tiling(flat)
            partials = x.new_empty(2 + taps.shape[2], half, grid[0] * grid[1], dtype=torch.float32)
            _depthwise_back[(half, *grid)](
                dd[:, own], flat[:, own], before[:, own], taps, dv[:, own], partials, clips, channels, half, channels,
                count, count_out, joints, **form, ROWS=rows, COLS=cols, num_warps=8,
            )  # fmt: skip
            sums = partials.sum(2)
            ahead[:, own] = sums[:2]
            dtaps.append(sums[2:].t().reshape(taps.shape))
        dx = gradient(dv, flat, before, ahead, ctx.training, False, 0.0, plan.seed).view_as(x)
        norms = [table[kind, i * half : (i + 1) * half] for table in (ahead, behind) for kind in (1, 0) for i in (0, 1)]
        return dx, dresidual, None, *dtaps, *dweights, *norms


def temporal(x: Tensor, branches: nn.ModuleList, residual: Tensor, p: float, seed: Tensor | None) -> Tensor:
    """(N, C, T, V) -> (N, C, T/stride, V): the halves of the channels each over time, dropout, residual, ReLU.

    Args:
        x: contiguous; its type is that of all that is kept in memory.
        branches: two of :func:`last.models.layers.temporal_conv.separable_tcn`, which differ in dilation.
        residual: what is added, (N, C, T/stride, V), of the same type.
        p: of dropout, 0 in evaluation mode.
        seed: of dropout, (1,) int64 on the device, where a captured graph finds a fresh one at each replay; None
            where there is no dropout.
    """
    before, _, deep, point, after = zip(*branches, strict=True)
    plan = _Plan(
        before, after, deep[0].stride[0], tuple(conv.dilation[0] for conv in deep), p, x if seed is None else seed
    )
    weights = (conv.weight for conv in (*deep, *point))
    norms = (getattr(norm, kind) for layers in (before, after) for kind in ("weight", "bias") for norm in layers)
    return _Temporal.apply(x.contiguous(), residual.contiguous(), plan, *weights, *norms)
