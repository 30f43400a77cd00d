"""BatchNorm in passes over memory: moments, their use, and both ways back.

A channel's moments must be known before any of its values can be used, so that each BatchNorm parts the network into
kernels. These here work on tiles of one channel, several clips and many places; each program leaves its share of a sum
in a table of its own, and the shares are added in a fixed order: no atomics, so that a step repeats exactly.

Shapes: N clips, C channels, P places (frames x joints, contiguous), B programs a channel.
``stats`` is (4, C) float32: mean, 1 / deviation, and the scale and shift that normalise: y = scale * x + shift.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

# Elements of a tile. With four warps a thread holds 16: two 16-byte loads of bfloat16 in flight for each operand.
TILE = 2048


@triton.jit
def places(clips, channel, channels, count, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Offsets of this program's tile of one channel, (ROWS, COLS), and which of them exist."""
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    cols = tl.program_id(2) * COLS + tl.arange(0, COLS)
    inside = (rows < clips)[:, None] & (cols < count)[None, :]
    return (rows.to(tl.int64) * channels + channel)[:, None] * count + cols[None, :], inside


@triton.jit
def share():
    """This program's place among those of its channel."""
    return tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)


@triton.jit
def kept(seed, channel, channels, count, p, ROWS: tl.constexpr, COLS: tl.constexpr):
    """What dropout multiplies this program's tile by, (ROWS, COLS); the same for the same seed in every kernel."""
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    fours = tl.program_id(2) * (COLS // 4) + tl.arange(0, COLS // 4)
    counter = (rows * channels + channel)[:, None] * tl.cdiv(count, 4) + fours[None, :]
    # One call gives four numbers; a call for each number would cost more than the memory traffic around it.
    a, b, c, d = tl.rand4x(tl.load(seed), counter, n_rounds=7)
    uniform = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (ROWS, COLS))
    return tl.where(uniform >= p, 1 / (1 - p), 0.0)


@triton.jit
def store_moments(values, inside, partials, channel, channels, programs, program, AXIS: tl.constexpr):
    """Write count, mean and sum of squared distances from it to ``partials`` (3, channels, programs)."""
    number = tl.sum(inside.to(tl.float32), AXIS)
    mean = tl.sum(tl.where(inside, values, 0.0), AXIS) / tl.maximum(number, 1.0)
    centre = mean[:, None] if AXIS == 1 else mean
    apart = tl.where(inside, values - centre, 0.0)
    at = partials + channel * programs + program
    plane = channels * programs
    exists = channel < channels
    tl.store(at, number, mask=exists)
    tl.store(at + plane, mean, mask=exists)
    tl.store(at + 2 * plane, tl.sum(apart * apart, AXIS), mask=exists)


@triton.jit
def _moments(x, partials, clips, channels, count, ROWS: tl.constexpr, COLS: tl.constexpr):
    channel = tl.program_id(0)
    at, inside = places(clips, channel, channels, count, ROWS, COLS)
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    programs = tl.num_programs(1) * tl.num_programs(2)
    store_moments(values, inside, partials, channel, channels, programs, share(), None)


@triton.jit
def _settle(
    partials,
    stats,
    weight,
    bias,
    running_mean,
    running_var,
    batches,
    offset,
    plane,
    row,
    programs,
    momentum,
    eps,
    OFFSET: tl.constexpr,
    BLOCK: tl.constexpr,
):
    channel = tl.program_id(0)
    at = partials + channel * programs
    number = tl.zeros((BLOCK,), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, programs, BLOCK):
        i = first + tl.arange(0, BLOCK)
        each = tl.load(at + i, mask=i < programs, other=0.0)
        number += each
        total += each * tl.load(at + plane + i, mask=i < programs, other=0.0)
    values = tl.sum(number, 0)
    mean = tl.sum(total, 0) / values
    squares = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, programs, BLOCK):
        i = first + tl.arange(0, BLOCK)
        apart = tl.load(at + plane + i, mask=i < programs, other=0.0) - mean
        squares += tl.load(at + i, mask=i < programs, other=0.0) * apart * apart
        squares += tl.load(at + 2 * plane + i, mask=i < programs, other=0.0)
    spread = tl.sum(squares, 0)
    inverse = 1 / tl.sqrt(spread / values + eps)
    scale = tl.load(weight + channel) * inverse
    tl.store(stats + channel, mean)
    tl.store(stats + row + channel, inverse)
    tl.store(stats + 2 * row + channel, scale)
    tl.store(stats + 3 * row + channel, tl.load(bias + channel) - mean * scale)
    if OFFSET:
        mean += tl.load(offset + channel)
    old = tl.load(running_mean + channel)
    tl.store(running_mean + channel, old + momentum * (mean - old))
    old = tl.load(running_var + channel)
    tl.store(running_var + channel, old + momentum * (spread / (values - 1) - old))
    if channel == 0:
        tl.store(batches, tl.load(batches) + 1)


@triton.jit
def _normalise(x, stats, y, clips, channels, count, RELU: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    channel = tl.program_id(0)
    at, inside = places(clips, channel, channels, count, ROWS, COLS)
    scale = tl.load(stats + 2 * channels + channel)
    shift = tl.load(stats + 3 * channels + channel)
    values = scale * tl.load(x + at, mask=inside).to(tl.float32) + shift
    if RELU:
        values = tl.maximum(values, 0.0)
    tl.store(y + at, values, mask=inside)


@triton.jit
def _gradient_sums(
    g, x, stats, partials, clips, channels, count, RELU: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr
):
    channel = tl.program_id(0)
    at, inside = places(clips, channel, channels, count, ROWS, COLS)
    grad = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        scale = tl.load(stats + 2 * channels + channel)
        shift = tl.load(stats + 3 * channels + channel)
        grad = tl.where(scale * values + shift > 0, grad, 0.0)
    store_gradient_sums(grad, values, inside, stats, partials, channel, channels, 0, 1)


@triton.jit
def store_gradient_sums(grad, values, inside, stats, partials, channel, channels, first, last):
    """Write the tile's part of the gradients of bias and weight to the planes ``first`` and ``last`` of partials."""
    normal = (values - tl.load(stats + channel)) * tl.load(stats + channels + channel)
    grad = tl.where(inside, grad, 0.0)
    programs = tl.num_programs(1) * tl.num_programs(2)
    at = partials + channel * programs + share()
    tl.store(at + first * channels * programs, tl.sum(grad))
    tl.store(at + last * channels * programs, tl.sum(grad * normal))


@triton.jit
def _gradient(
    g,
    x,
    stats,
    sums,
    seed,
    dx,
    clips,
    channels,
    count,
    share_of_one,
    p,
    RELU: tl.constexpr,
    DROP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    channel = tl.program_id(0)
    at, inside = places(clips, channel, channels, count, ROWS, COLS)
    grad = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(stats + 2 * channels + channel)
    if DROP:
        grad *= kept(seed, channel, channels, count, p, ROWS, COLS)
    if RELU:
        grad = tl.where(scale * values + tl.load(stats + 3 * channels + channel) > 0, grad, 0.0)
    normal = (values - tl.load(stats + channel)) * tl.load(stats + channels + channel)
    of_bias = tl.load(sums + channel) * share_of_one
    of_weight = tl.load(sums + channels + channel) * share_of_one
    tl.store(dx + at, scale * (grad - of_bias - normal * of_weight), mask=inside)


def tiling(x: Tensor) -> tuple[tuple[int, int, int], int, int]:
    """How (N, C, P) is cut into tiles of a channel: the grid (C, clips, places), and a tile's clips and places."""
    clips, channels, count = x.shape
    cols = min(1024, triton.next_power_of_2(count))
    rows = max(1, min(TILE // cols, triton.next_power_of_2(clips)))
    return (channels, triton.cdiv(clips, rows), triton.cdiv(count, cols)), rows, cols


def shares(x: Tensor, planes: int) -> Tensor:
    """Room for ``planes`` partial sums of each program over (N, C, P), (planes, C, B)."""
    (channels, rows, cols), _, _ = tiling(x)
    return x.new_empty(planes, channels, rows * cols, dtype=torch.float32)


def moments(x: Tensor) -> Tensor:
    """Count, mean and squared distances from it for each program, (N, C, P) -> (3, C, B)."""
    grid, rows, cols = tiling(x)
    partials = shares(x, 3)
    _moments[grid](x, partials, x.shape[0], x.shape[1], x.shape[2], ROWS=rows, COLS=cols)
    return partials


def settle(partials: Tensor | None, norm: nn.BatchNorm2d, stats: Tensor, offset: Tensor | None = None) -> None:
    """Fill ``stats`` (4, C): of the batch, moving the layer's running statistics, or of these in evaluation mode.

    Args:
        partials: of :func:`moments`, (3, C, B), may be a slice of channels; None in evaluation mode.
        norm: the layer.
        stats: what is filled, may be a slice of channels.
        offset: what the layer's input lies above the values given, (C,): a convolution's bias, which the mean of a
            batch takes away again.
    """
    if partials is None:
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        torch.rsqrt(variance + norm.eps, out=stats[1])
        torch.sub(mean, 0 if offset is None else offset, out=stats[0])
        torch.mul(norm.weight, stats[1], out=stats[2])
        torch.addcmul(norm.bias, stats[0], stats[2], value=-1, out=stats[3])
        return
    _, channels, programs = partials.shape
    _settle[(channels,)](
        partials,
        stats,
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
        norm.num_batches_tracked,
        norm.bias if offset is None else offset,
        partials.stride(0),
        stats.stride(0),
        programs,
        norm.momentum,
        norm.eps,
        OFFSET=offset is not None,
        BLOCK=1024,
    )


def normalise(x: Tensor, stats: Tensor, relu: bool) -> Tensor:
    """Scale, shift and, where asked for, ReLU: (N, C, P) -> (N, C, P)."""
    grid, rows, cols = tiling(x)
    y = torch.empty_like(x)
    _normalise[grid](x, stats, y, x.shape[0], x.shape[1], x.shape[2], RELU=relu, ROWS=rows, COLS=cols)
    return y


def gradient_sums(g: Tensor, x: Tensor, stats: Tensor, relu: bool) -> Tensor:
    """Gradients of bias and weight, (2, C), from that of the result, (N, C, P)."""
    grid, rows, cols = tiling(x)
    partials = shares(x, 2)
    _gradient_sums[grid](g, x, stats, partials, x.shape[0], x.shape[1], x.shape[2], RELU=relu, ROWS=rows, COLS=cols)
    return partials.sum(2)


def gradient(
    g: Tensor, x: Tensor, stats: Tensor, sums: Tensor, training: bool, relu: bool, p: float, seed: Tensor
) -> Tensor:
    """Gradient of the values before normalisation, (N, C, P).

    Args:
        g: gradient of the result, after ReLU and dropout, (N, C, P).
        x: the values.
        stats: of the layer.
        sums: of :func:`gradient_sums`, (2, C).
        training: whether the statistics are the batch's, and so depend on the values.
        relu: whether ReLU follows the normalisation.
        p: of dropout behind it.
        seed: of dropout, (1,) int64 on the device.
    """
    grid, rows, cols = tiling(x)
    clips, channels, count = x.shape
    dx = torch.empty_like(x)
    part = 1 / (clips * count) if training else 0.0
    _gradient[grid](
        g, x, stats, sums, seed, dx, clips, channels, count, part, p, RELU=relu, DROP=p > 0, ROWS=rows, COLS=cols
    )
    return dx
