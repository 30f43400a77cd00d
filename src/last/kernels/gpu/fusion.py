"""The mix of the streams: BatchNorm of each, shared stem with BatchNorm and ReLU, weighted sum.

All that lies before the ReLU is affine in the three values of a joint, and BatchNorm's statistics of the stem's result
follow from the means and covariances of these three. So one pass over the small input finds all statistics, the layers
fold into one affine map for each stream, and no intermediate of S x C0 channels is written, in neither direction. The
folding is plain PyTorch on tensors of a few hundred numbers, and so are its gradients.

Shapes: N clips, S streams, I channels in, O channels out, P places (frames x joints, contiguous), B programs.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from last.kernels.gpu.graph import block


@triton.jit
def _spread(x, partials, streams, count, INPUTS: tl.constexpr, BLOCK: tl.constexpr):
    clip, stream = tl.program_id(0).to(tl.int64), tl.program_id(1)
    program = tl.program_id(0) * tl.num_programs(2) + tl.program_id(2)
    place = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    x += (clip * streams + stream) * INPUTS * count + place
    partials += (program * streams + stream) * INPUTS * (INPUTS + 1)
    for i in tl.static_range(INPUTS):
        a = tl.load(x + i * count, mask=inside, other=0.0).to(tl.float32)
        tl.store(partials + i, tl.sum(a))
        for j in tl.static_range(INPUTS):
            b = tl.load(x + j * count, mask=inside, other=0.0).to(tl.float32)
            tl.store(partials + INPUTS + i * INPUTS + j, tl.sum(a * b))


@triton.jit
def _affine(x, maps, offsets, stream, output, outputs, place, inside, count, INPUTS: tl.constexpr):
    """The stem of one stream before its ReLU, (outputs, places)."""
    own = output < outputs
    row = stream * outputs + output
    total = tl.load(offsets + row, mask=own, other=0.0)[:, None] + tl.zeros((1, place.shape[0]), tl.float32)
    for i in tl.static_range(INPUTS):
        values = tl.load(x + (stream * INPUTS + i) * count + place, mask=inside, other=0.0).to(tl.float32)
        total += tl.load(maps + row * INPUTS + i, mask=own, other=0.0)[:, None] * values[None, :]
    return total


@triton.jit
def _mix(
    x, maps, offsets, weights, out, outputs, count,
    STREAMS: tl.constexpr, INPUTS: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = place < count
    output = tl.arange(0, BLOCK_O)
    own = output < outputs
    x += clip * STREAMS * INPUTS * count
    total = tl.zeros((BLOCK_O, BLOCK_P), tl.float32)
    for stream in tl.static_range(STREAMS):
        values = _affine(x, maps, offsets, stream, output, outputs, place, inside, count, INPUTS)
        weight = tl.load(weights + stream * outputs + output, mask=own, other=0.0)[:, None]
        total += weight * tl.maximum(values, 0.0)
    at = out + (clip * outputs + output[:, None]) * count + place[None, :]
    tl.store(at, total, mask=own[:, None] & inside[None, :])


@triton.jit
def _unmix(
    g, x, maps, offsets, weights, partials, outputs, count,
    STREAMS: tl.constexpr, INPUTS: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(0).to(tl.int64)
    program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    place = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = place < count
    output = tl.arange(0, BLOCK_O)
    own = output < outputs
    x += clip * STREAMS * INPUTS * count
    at = g + (clip * outputs + output[:, None]) * count + place[None, :]
    grad = tl.load(at, mask=own[:, None] & inside[None, :], other=0.0).to(tl.float32)
    for stream in tl.static_range(STREAMS):
        values = _affine(x, maps, offsets, stream, output, outputs, place, inside, count, INPUTS)
        weight = tl.load(weights + stream * outputs + output, mask=own, other=0.0)[:, None]
        shared = partials + ((program * STREAMS + stream) * (INPUTS + 2)) * outputs + output
        tl.store(shared, tl.sum(grad * tl.maximum(values, 0.0), 1), mask=own)
        back = tl.where(values > 0, weight * grad, 0.0)
        tl.store(shared + outputs, tl.sum(back, 1), mask=own)
        for i in tl.static_range(INPUTS):
            seen = tl.load(x + (stream * INPUTS + i) * count + place, mask=inside, other=0.0).to(tl.float32)
            tl.store(shared + (2 + i) * outputs, tl.sum(back * seen[None, :], 1), mask=own)


class _Mix(Function):
    @staticmethod
    def forward(ctx, x: Tensor, maps: Tensor, offsets: Tensor, weights: Tensor, kind: torch.dtype) -> Tensor:
        clips, streams, inputs, frames, joints = x.shape
        outputs = weights.shape[1]
        out = x.new_empty(clips, outputs, frames, joints, dtype=kind)
        _mix[(clips, triton.cdiv(frames * joints, 128))](
            x, maps, offsets, weights, out, outputs, frames * joints,
            STREAMS=streams, INPUTS=inputs, BLOCK_O=block(outputs), BLOCK_P=128, num_warps=8,
        )  # fmt: skip
        ctx.save_for_backward(x, maps, offsets, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, maps, offsets, weights = ctx.saved_tensors
        clips, streams, inputs, frames, joints = x.shape
        outputs = weights.shape[1]
        grid = clips, triton.cdiv(frames * joints, 128)
        partials = weights.new_empty(grid[0] * grid[1], streams, inputs + 2, outputs)
        _unmix[grid](
            g.contiguous(), x, maps, offsets, weights, partials, outputs, frames * joints,
            STREAMS=streams, INPUTS=inputs, BLOCK_O=block(outputs), BLOCK_P=128, num_warps=8,
        )  # fmt: skip
        sums = partials.sum(0)
        return None, sums[:, 2:].transpose(1, 2), sums[:, 1], sums[:, 0], None


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Means (S, I) and covariances (S, I, I) of the streams' channels, (N, S, I, T, V)."""
    clips, streams, inputs, frames, joints = x.shape
    count = frames * joints
    grid = clips, streams, triton.cdiv(count, 1024)
    partials = x.new_empty(grid[0] * grid[2], streams, inputs * (inputs + 1), dtype=torch.float32)
    _spread[grid](x, partials, streams, count, INPUTS=inputs, BLOCK=1024, num_warps=4)
    # In float64, since a covariance is a small difference of large sums where a stream lies far from its origin.
    sums = partials.sum(0, dtype=torch.float64) / (clips * count)
    mean, square = sums[:, :inputs], sums[:, inputs:].unflatten(1, (inputs, inputs))
    return mean.float(), (square - mean[:, :, None] * mean[:, None, :]).float()


def _move(norm: Any, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move running statistics towards a batch's."""
    norm.get_buffer("running_mean").lerp_(mean, norm.momentum)
    norm.get_buffer("running_var").lerp_(variance * (count / (count - 1)), norm.momentum)
    norm.get_buffer("num_batches_tracked").add_(1)


def _fold(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """All before the ReLU as one affine map for each stream: (S, O, I) and (S, O)."""
    conv, behind = module.stem[0], module.stem[1]
    weight = conv.weight.flatten(1)
    count = x.shape[0] * x.shape[3] * x.shape[4]
    eps = module.norms[0].eps
    if module.training:
        mean, covariance = _moments(x)
        variance = covariance.diagonal(dim1=1, dim2=2)
        with torch.no_grad():
            for norm, m, v in zip(module.norms, mean, variance, strict=True):
                _move(norm, m, v, count)
    else:
        mean = torch.stack([norm.running_mean for norm in module.norms])
        variance = torch.stack([norm.running_var for norm in module.norms])
    scale = torch.stack([norm.weight for norm in module.norms]) * torch.rsqrt(variance + eps)
    centre = torch.stack([norm.bias for norm in module.norms])
    maps = weight * scale[:, None, :]  # (S, O, I)
    levels = centre @ weight.t()  # (S, O), the means of the stem's result
    if module.training:
        level = levels.mean(0)
        variance = ((maps @ covariance * maps).sum(2) + (levels - level) ** 2).mean(0)
        with torch.no_grad():
            _move(behind, level, variance, count * len(levels))
    else:
        level, variance = behind.running_mean, behind.running_var
    gain = behind.weight * torch.rsqrt(variance + behind.eps)
    maps = gain[:, None] * maps
    return maps, gain * (levels - level) + behind.bias - (maps @ mean[:, :, None])[:, :, 0]


def fuse_streams(x: Tensor, module: Any) -> Tensor:
    """What :class:`last.models.last_e.StreamFusion` computes: (N, S, I, T, V) -> (N, O, T, V).

    The result has the type that autocast asks for, else that of ``x``; all after it keep what they store in that type.

    Raises:
        ValueError: a gradient of ``x`` is asked for; streams are data, and none is computed.
    """
    if x.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "the streams ask for a gradient, which the fused kernels do not compute; set environment.kernels to plain"
        )
    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
    x = x.contiguous()
    with torch.autocast(x.device.type, enabled=False):
        maps, offsets = _fold(module, x)
        weights = module.weights.softmax(0)
    return _Mix.apply(x, maps.contiguous(), offsets.contiguous(), weights.contiguous(), kind)
