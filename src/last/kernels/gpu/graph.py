"""Graph product, 1x1 convolution, BatchNorm and ReLU.

The graph is sparse: about three neighbours a joint. Mixing joints is a handful of loads that the cache answers, so the
product with the graph and the 1x1 convolution are one kernel, and what lies between them never reaches memory. With a
matrix product of its own for the convolution, it would be written and read once more in each direction: a third of all
that this operation moves.

Shapes: N clips, C channels in, O channels out, P places (frames x joints, contiguous) in and Q out, V joints, K graph
subsets, J neighbours, B programs a channel.
"""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from last.kernels.gpu.norm import gradient, gradient_sums, normalise, settle, store_moments


class Neighbours(NamedTuple):
    """The nonzero entries of a graph, joint by joint.

    Attributes:
        step: from a joint to each neighbour, (J, V) int32; those of the first subset come first.
        value: of the entry, (J, V); 0 where a joint has fewer neighbours.
        bounds: where in the J each subset starts, and the last ends, (K + 1,) int32.
    """

    step: Tensor
    value: Tensor
    bounds: Tensor


def neighbours(graph: Tensor) -> Neighbours:
    """From which joints each takes, by the columns of the graph (K, V, V)."""
    joints = graph.shape[1]
    counts = (graph != 0).sum(1).amax(1)
    bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)
    step = torch.zeros(int(bounds[-1]), joints, dtype=torch.int32)
    value = torch.zeros(step.shape)
    for subset, entries in enumerate(graph.cpu()):
        for joint in range(joints):
            for place, other in enumerate(entries[:, joint].nonzero().flatten().tolist(), start=int(bounds[subset])):
                step[place, joint] = other - joint
                value[place, joint] = entries[other, joint]
    return Neighbours(step.to(graph.device), value.to(graph.device), bounds.to(graph.device))


# Found once a graph, at the first call, since it needs the host: never while a CUDA graph is captured.
_tables: WeakKeyDictionary[nn.Module, tuple[Tensor, Neighbours, Neighbours]] = WeakKeyDictionary()


def tables(gcn: Any, graph: Tensor) -> tuple[Neighbours, Neighbours]:
    """The neighbours of a layer's graph (K, V, V), and those of its transpose."""
    known = _tables.get(gcn)
    if known is None or known[0] is not graph:
        known = _tables[gcn] = graph, neighbours(graph), neighbours(graph.transpose(1, 2))
    return known[1], known[2]


@triton.jit
def _taken(x, at, place, inside, exists, joints, bounds, step, value, subset):
    """Sum over the neighbours of one subset, (channels, places); ``at`` is where each channel starts, (channels, 1)."""
    joint = place % joints
    taken = tl.zeros((at.shape[0], place.shape[0]), tl.float32)
    # A loop that the compiler cannot unroll: the addresses of all neighbours at once would fill the registers.
    for i in range(tl.load(bounds + subset), tl.load(bounds + subset + 1)):
        weight = tl.load(value + i * joints + joint)
        there = place + tl.load(step + i * joints + joint)
        # Joints with few neighbours load nothing for the rest.
        mask = exists & (inside & (weight != 0))[None, :]
        taken += weight[None, :] * tl.load(x + at + there[None, :], mask=mask, other=0.0).to(tl.float32)
    return taken


@triton.jit
def _mixed(
    x, alpha, channel, channels, place, inside, count, joints, bounds, step, value, SUBSETS: tl.constexpr
):  # fmt: skip
    """What the 1x1 convolution sees, (channels, places): all neighbours of each joint, or the joint itself."""
    own = channel < channels
    exists = own[:, None]
    at = channel[:, None] * count
    if SUBSETS == 0:
        return tl.load(x + at + place[None, :], mask=exists & inside[None, :], other=0.0).to(tl.float32)
    mixed = tl.zeros((channel.shape[0], place.shape[0]), tl.float32)
    for subset in tl.static_range(SUBSETS):
        amount = tl.load(alpha + subset * channels + channel, mask=own, other=0.0)[:, None]
        mixed += amount * _taken(x, at, place, inside, exists, joints, bounds, step, value, subset)
    return mixed


@triton.jit
def _source(place, joints, STRIDE: tl.constexpr):
    """Where in the input a place of the output lies."""
    return place + (place // joints) * (STRIDE - 1) * joints


@triton.jit
def _project(
    x, alpha, bounds, step, value, weight, y, partials, channels, outputs, count, count_out, joints,
    SUBSETS: tl.constexpr, MOMENTS: tl.constexpr,
    STRIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(0).to(tl.int64)
    target = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = target < count_out
    place = _source(target, joints, STRIDE)
    output = tl.arange(0, BLOCK_O)
    x += clip * channels * count
    total = tl.zeros((BLOCK_O, BLOCK_P), tl.float32)
    for first in range(0, channels, BLOCK_C):
        channel = first + tl.arange(0, BLOCK_C)
        mixed = _mixed(
            x, alpha, channel, channels, place, inside, count, joints, bounds, step, value, SUBSETS
        )  # fmt: skip
        here = (output < outputs)[:, None] & (channel < channels)[None, :]
        w = tl.load(weight + output[:, None] * channels + channel[None, :], mask=here, other=0.0)
        kind = x.dtype.element_ty
        total = tl.dot(w.to(kind), mixed.to(kind), total, input_precision="tf32x3")
    here = (output < outputs)[:, None] & inside[None, :]
    tl.store(y + (clip * outputs + output[:, None]) * count_out + target[None, :], total, mask=here)
    if MOMENTS:
        program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        programs = tl.num_programs(0) * tl.num_programs(1)
        store_moments(total, inside[None, :] & (output >= 0)[:, None], partials, output, outputs, programs, program, 1)


@triton.jit
def _input_gradient(
    g, x, alpha, bounds, step, value, weight, dx, partials, channels, outputs, count, count_out, joints,
    SUBSETS: tl.constexpr,
    STRIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    clip = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = place < count
    channel = tl.arange(0, BLOCK_C)
    exists = channel < channels
    here = exists[:, None] & inside[None, :]
    at = (clip * channels + channel[:, None]) * count + place[None, :]
    g += clip * outputs * count_out
    if SUBSETS > 0:
        program = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
        programs = tl.num_programs(0) * tl.num_programs(1)
        values = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
        total = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
        for k in tl.static_range(SUBSETS):
            back = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
            for first in range(0, outputs, BLOCK_O):
                output = first + tl.arange(0, BLOCK_O)
                shown = (output < outputs)[:, None]
                at_output = output[:, None] * count_out
                taken = _taken(g, at_output, place, inside, shown, joints, bounds, step, value, k)
                back = _back(taken, weight, channel, channels, output, outputs, back, g.dtype.element_ty)
            total += tl.load(alpha + k * channels + channel, mask=exists, other=0.0)[:, None] * back
            partial = tl.sum(tl.where(here, back * values, 0.0), 1)
            tl.store(partials + (k * channels + channel) * programs + program, partial, mask=exists)
    else:
        frame = place // joints
        kept = inside & (frame % STRIDE == 0)
        source = place - (frame - frame // STRIDE) * joints
        total = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
        for first in range(0, outputs, BLOCK_O):
            output = first + tl.arange(0, BLOCK_O)
            shown = (output < outputs)[:, None] & kept[None, :]
            taken = tl.load(g + output[:, None] * count_out + source[None, :], mask=shown, other=0.0)
            total = _back(taken, weight, channel, channels, output, outputs, total, g.dtype.element_ty)
    tl.store(dx + at, total, mask=here)


@triton.jit
def _back(taken, weight, channel, channels, output, outputs, total, KIND: tl.constexpr):
    """Add the transposed 1x1 convolution of (outputs, places) to (channels, places)."""
    here = (channel < channels)[:, None] & (output < outputs)[None, :]
    w = tl.load(weight + output[None, :] * channels + channel[:, None], mask=here, other=0.0)
    return tl.dot(w.to(KIND), taken.to(KIND), total, input_precision="tf32x3")


@triton.jit
def _weight_gradient(
    g, x, alpha, bounds, step, value, partials, clips, channels, outputs, count, count_out, joints,
    SUBSETS: tl.constexpr,
    STRIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_P: tl.constexpr,
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
        place = _source(target, joints, STRIDE)
        mixed = _mixed(
            x + clip * channels * count, alpha, channel, channels, place, inside, count, joints,
        bounds, step, value,    SUBSETS,
        )  # fmt: skip
        here = (output < outputs)[:, None] & inside[None, :]
        grad = tl.load(g + (clip * outputs + output[:, None]) * count_out + target[None, :], mask=here, other=0.0)
        total = tl.dot(grad, tl.trans(mixed.to(x.dtype.element_ty)), total, input_precision="tf32x3")
    here = (output < outputs)[:, None] & (channel < channels)[None, :]
    at = (split * outputs + output[:, None]) * channels + channel[None, :]
    tl.store(partials + at, total, mask=here)


class _Plan(NamedTuple):
    """All that is no tensor with a gradient."""

    norm: nn.BatchNorm2d
    graph: tuple[Neighbours, Neighbours] | None
    stride: int
    relu: bool


class _GraphNorm(Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, offset: Tensor | None, alpha: Tensor, _w, _b, plan: _Plan) -> Tensor:
        clips, channels, frames, joints = x.shape
        outputs, training = weight.shape[0], plan.norm.training
        h = x.new_empty(clips, outputs, -(-frames // plan.stride), joints)
        wide = block(outputs)
        places = 64
        grid = clips, triton.cdiv(h[0, 0].numel(), places)
        partials = x.new_empty(3, outputs, grid[0] * grid[1], dtype=torch.float32) if training else None
        _project[grid](
            x, alpha, *_entries(x, plan, 0), weight, h, h if partials is None else partials,
            channels, outputs, frames * joints, h[0, 0].numel(), joints,
            SUBSETS=len(alpha) if plan.graph else 0, MOMENTS=training, STRIDE=plan.stride,
            BLOCK_C=min(32, block(channels)), BLOCK_O=wide, BLOCK_P=places, num_warps=8, num_stages=1,
        )  # fmt: skip
        stats = x.new_empty(4, outputs, dtype=torch.float32)
        settle(partials, plan.norm, stats, offset)
        ctx.save_for_backward(x, h, stats, weight, alpha)
        ctx.plan, ctx.training, ctx.biased = plan, training, offset is not None
        return normalise(h.flatten(2), stats, plan.relu).view_as(h)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, h, stats, weight, alpha = ctx.saved_tensors
        plan: _Plan = ctx.plan
        clips, channels, frames, joints = x.shape
        outputs, count, count_out = weight.shape[0], frames * joints, h[0, 0].numel()
        g, rows = g.contiguous().flatten(2), h.flatten(2)
        sums = gradient_sums(g, rows, stats, plan.relu)
        dh = gradient(g, rows, stats, sums, ctx.training, plan.relu, 0.0, stats)
        dx = dalpha = None
        graph = plan.graph is not None
        if ctx.needs_input_grad[0]:
            wide = block(channels)
            places = 64 if wide <= 64 else 32
            grid = clips, triton.cdiv(count, places)
            partials = x.new_empty(3, channels, grid[0] * grid[1], dtype=torch.float32) if graph else stats
            dx = torch.empty_like(x)
            _input_gradient[grid](
                dh, x, alpha, *_entries(x, plan, 1), weight, dx, partials,
                channels, outputs, count, count_out, joints,
                SUBSETS=len(alpha) if graph else 0, STRIDE=plan.stride,
                BLOCK_C=wide, BLOCK_O=min(32, block(outputs)), BLOCK_P=places, num_warps=8, num_stages=1,
            )  # fmt: skip
            dalpha = partials.sum(2) if graph else None
        size = min(64, block(channels)), min(64, block(outputs))
        squares = triton.cdiv(channels, size[0]), triton.cdiv(outputs, size[1])
        splits = min(clips * triton.cdiv(count_out, 64), max(1, 512 // (squares[0] * squares[1])))
        shared = x.new_empty(splits, *weight.shape, dtype=torch.float32)
        _weight_gradient[(*squares, splits)](
            dh, x, alpha, *_entries(x, plan, 0), shared, clips,
            channels, outputs, count, count_out, joints,
            SUBSETS=len(alpha) if graph else 0, STRIDE=plan.stride, BLOCK_C=size[0], BLOCK_O=size[1], BLOCK_P=64,
            num_warps=8, num_stages=1,
        )  # fmt: skip
        # The mean of the batch takes a bias away: without gradient in training, and scaled in evaluation mode.
        doffset = None
        if ctx.biased:
            doffset = torch.zeros_like(stats[2]) if ctx.training else stats[2] * sums[0]
        return dx, shared.sum(0), doffset, dalpha, sums[1], sums[0], None


def _entries(x: Tensor, plan: _Plan, way: int) -> tuple[Tensor, Tensor, Tensor]:
    """The graph as the kernels take it; where there is none, anything, since none is read."""
    if plan.graph is None:
        return x, x, x
    return plan.graph[way].bounds, plan.graph[way].step, plan.graph[way].value


def block(channels: int) -> int:
    """The side of the tile that holds so many channels; 16 is the least that the matrix units take."""
    return max(16, triton.next_power_of_2(channels))


def graph_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, gcn: Any = None, relu: bool = True) -> Tensor:
    """(N, C, T, V) -> (N, O, T/stride, V): mixed over the graph, 1x1 convolution, BatchNorm, ReLU.

    Args:
        x: contiguous; its type is that of all that is kept in memory.
        conv: 1x1, with the stride.
        norm: behind it; its running statistics move in training mode.
        gcn: holds ``graph`` (3, V, V) and ``alpha`` (3, C); None mixes no joints.
        relu: whether ReLU follows.
    """
    if gcn is None:
        alpha, graph = conv.weight, None
    else:
        alpha, graph = gcn.alpha.softmax(0), tables(gcn, gcn.graph)
    plan = _Plan(norm, graph, conv.stride[0], relu)
    return _GraphNorm.apply(x.contiguous(), conv.weight, conv.bias, alpha, norm.weight, norm.bias, plan)
