"""LAST-E's layers by the compiled kernels, with their gradients.

Shapes: N batch, S streams, C channels, T frames, V joints, E edges. Tensors have the shape (N, C, T, V) of the plain
layers; in memory the frames of a joint are neighbours, as of a transposed (N, C, V, T).
"""

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from last.kernels.cpu.calls import (
    FusionCall,
    GateCall,
    GraphNormCall,
    NormFields,
    TapMomentsCall,
    TemporalCall,
    norm_fields,
)
from last.models.layers.temporal_conv import KERNEL


def _frames_last(x: Tensor) -> Tensor:
    """(..., T, V) as (..., V, T), laid out so."""
    return x.transpose(-1, -2).contiguous()


def _strided(frames: int, stride: int) -> int:
    """Frames that a stride leaves."""
    return (frames + stride - 1) // stride


def _count(norms: Iterable[Any]) -> None:
    for norm in norms:
        norm.num_batches_tracked.add_(1)


@dataclass(frozen=True)
class Edges:
    """The entries of a graph that are not zero in every subset, by the joint that they lead to.

    Attributes:
        source: the joint that each leads from, (E,) int32.
        first: where each joint's begin, (V + 1,) int32.
        values: of each subset, (K, E).
    """

    source: Tensor
    first: Tensor
    values: Tensor

    @classmethod
    def of(cls, graph: Tensor) -> "Edges":
        """Those of a graph's subsets, (K, V, V), as in ``x @ graph``."""
        target, source = graph.abs().sum(0).t().nonzero(as_tuple=True)
        joints = torch.arange(graph.shape[1] + 1)
        return cls(source.int(), torch.searchsorted(target, joints, out_int32=True), graph[:, source, target])


@dataclass(frozen=True)
class SeparableTCN:
    """A :func:`~last.models.layers.temporal_conv.separable_tcn`, but for its kernel.

    Attributes:
        before: its first BatchNorm.
        stride: of the depthwise convolution.
        dilation: of the same.
        weight: of the 1x1 convolution, (C, C).
        after: its last BatchNorm.
    """

    before: Any
    stride: int
    dilation: int
    weight: Tensor
    after: Any


class _GraphNorm(Function):
    @staticmethod
    def forward(ctx, x, coefficient, weight, bias, scale, offset, norm, edges, stride, relu, pools):
        x = _frames_last(x)
        outputs, kept = len(weight), _strided(x.shape[3], stride)
        out = x.new_empty(len(x), outputs, x.shape[2], kept)
        over_joints = x.new_empty(len(x), outputs, kept) if pools else None
        over_frames = x.new_empty(out.shape[:3]) if pools else None
        y = torch.empty_like(out) if norm.training else None
        ctx.rest = norm, edges, stride, relu
        given = x, coefficient, weight, bias, scale, offset, x.new_empty(2, outputs)
        ctx.save_for_backward(y, *given)
        call = _GraphNorm.call(ctx.rest, *given)
        call.run("graph_norm_forward", y=y, out=out, over_joints=over_joints, over_frames=over_frames)
        return out.transpose(2, 3), over_joints, over_frames

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, of_over_joints, of_over_frames):
        y, *given = ctx.saved_tensors
        x, coefficient, weight, bias, *_ = given
        gradient = _frames_last(gradient)
        if of_over_joints is not None:
            of_over_joints, of_over_frames = of_over_joints.contiguous(), of_over_frames.contiguous()
        dx, dweight, (dscale, doffset) = torch.empty_like(x), torch.empty_like(weight), x.new_empty(2, len(weight))
        dcoefficient = None if coefficient is None else torch.empty_like(coefficient)
        call = _GraphNorm.call(ctx.rest, *given)
        call.give(gradient=gradient, of_over_joints=of_over_joints, of_over_frames=of_over_frames, y=y)
        call.give(dx=dx, dweight=dweight, dcoefficient=dcoefficient, dscale=dscale, doffset=doffset)
        call.run("graph_norm_backward")
        dbias = None if bias is None else torch.zeros_like(bias)  # BatchNorm takes a constant out again
        return dx.transpose(2, 3), dcoefficient, dweight, dbias, dscale, doffset, None, None, None, None, None

    @staticmethod
    def call(rest, x, coefficient, weight, bias, scale, offset, statistics) -> GraphNormCall:
        norm, edges, stride, relu = rest
        clips, inputs, joints, frames = x.shape
        call = GraphNormCall(clips, inputs=inputs, outputs=len(weight), joints=joints, frames=frames)
        call.give(stride=stride, relu=relu, training=norm.training, norm=norm_fields(norm, scale, offset, statistics))
        call.give(x=x, coefficient=coefficient, weight=weight, bias=bias)
        if edges is not None:
            call.give(edges=len(edges.source), source=edges.source, first=edges.first)
        return call


class _Gate(Function):
    @staticmethod
    def forward(ctx, x, of_frames, of_joints, alpha):
        x, of_frames, of_joints = _frames_last(x), of_frames.contiguous(), of_joints.contiguous()
        ctx.save_for_backward(x, of_frames, of_joints, alpha)
        out = torch.empty_like(x)
        _Gate.call(x, of_frames, of_joints, alpha).run("gate_forward", out=out)
        return out.transpose(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        inputs = ctx.saved_tensors
        gradient = _frames_last(gradient)
        dx, dof_frames, dof_joints, dalpha = (torch.empty_like(tensor) for tensor in inputs)
        call = _Gate.call(*inputs)
        call.give(dx=dx, dof_frames=dof_frames, dof_joints=dof_joints, dalpha=dalpha)
        call.run("gate_backward", gradient=gradient)
        return dx.transpose(2, 3), dof_frames, dof_joints, dalpha

    @staticmethod
    def call(x, of_frames, of_joints, alpha) -> GateCall:
        clips, channels, joints, frames = x.shape
        call = GateCall(clips, channels=channels, joints=joints, frames=frames)
        call.give(x=x, of_frames=of_frames, of_joints=of_joints, alpha=alpha)
        return call


class _Temporal(Function):
    @staticmethod
    def forward(ctx, x, residual, p, seed, halves, *parameters):
        x, residual = _frames_last(x), _frames_last(residual)
        out = x.new_empty(*x.shape[:3], _strided(x.shape[3], halves[0].stride))
        y = torch.empty_like(out) if halves[0].after.training else None
        statistics = x.new_empty(4, 2, x.shape[1] // 2)
        ctx.rest = p, seed, halves
        ctx.save_for_backward(x, y, out, statistics, *parameters)
        _Temporal.call(ctx.rest, x, statistics, parameters).run("temporal_forward", residual=residual, y=y, out=out)
        return out.transpose(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, y, out, statistics, *parameters = ctx.saved_tensors
        gradient = _frames_last(gradient)
        dx, dresidual = torch.empty_like(x), torch.empty_like(out)
        dnorms, dkernel = x.new_empty(4, 2, x.shape[1] // 2), x.new_empty(2, *parameters[2].shape)
        dweight = x.new_empty(2, *parameters[3].shape)
        call = _Temporal.call(ctx.rest, x, statistics, parameters)
        call.give(y=y, out=out, gradient=gradient, dx=dx, dresidual=dresidual, dkernel=dkernel, dweight=dweight)
        call.give(dscale_before=dnorms[0], doffset_before=dnorms[1], dscale=dnorms[2], doffset=dnorms[3])
        call.run("temporal_backward")
        of_halves = ((dnorms[0, h], dnorms[1, h], dkernel[h], dweight[h], dnorms[2, h], dnorms[3, h]) for h in range(2))
        return dx.transpose(2, 3), dresidual.transpose(2, 3), None, None, None, *(d for half in of_halves for d in half)

    @staticmethod
    def call(rest, x, statistics, parameters) -> TemporalCall:
        p, seed, halves = rest
        clips, channels, joints, frames = x.shape
        call = TemporalCall(clips, channels=channels, joints=joints, frames=frames, p=p, seed=seed, x=x)
        call.give(stride=halves[0].stride, training=halves[0].after.training)
        for h, half in enumerate(halves):
            scale_before, offset_before, kernel, weight, scale, offset = parameters[6 * h : 6 * h + 6]
            call.dilation[h] = half.dilation
            call.kernel[h], call.weight[h] = kernel.data_ptr(), weight.data_ptr()
            call.before[h] = norm_fields(half.before, scale_before, offset_before, statistics, 2 * h)
            call.after[h] = norm_fields(half.after, scale, offset, statistics, 2 * h + 1)
        return call


class _TapMoments(Function):
    @staticmethod
    def forward(ctx, x, halves, *of_norms):
        x = _frames_last(x)
        channels = x.shape[1]
        statistics, pivot = x.new_empty(2, 2, channels // 2), torch.cat(of_norms[1::2]).relu()
        means = x.new_empty(channels, KERNEL, dtype=torch.double)
        covariance = x.new_empty(channels, KERNEL, KERNEL, dtype=torch.double)
        call = _TapMoments.call(halves, x, statistics, pivot, *of_norms)
        call.run("tap_moments_forward", means=means, covariance=covariance)
        ctx.rest = halves
        ctx.save_for_backward(x, statistics, pivot, means, *of_norms)
        from_zero = means + pivot[:, None]
        ctx.mark_non_differentiable(from_zero)
        return from_zero, covariance

    @staticmethod
    @once_differentiable
    def backward(ctx, _, gradient):
        x, statistics, pivot, means, *of_norms = ctx.saved_tensors
        dx, dscale, doffset = torch.empty_like(x), x.new_empty(2, x.shape[1] // 2), x.new_empty(2, x.shape[1] // 2)
        count = len(x) * x.shape[2] * _strided(x.shape[3], ctx.rest[0].stride)
        gradient = (gradient + gradient.transpose(1, 2)) / count  # a product of two taps reaches either by the other
        gradient = torch.cat([gradient, -gradient @ means[:, :, None]], 2).to(x.dtype)
        call = _TapMoments.call(ctx.rest, x, statistics, pivot, *of_norms)
        call.run("tap_moments_backward", gradient=gradient, dx=dx, dscale=dscale, doffset=doffset)
        return dx.transpose(2, 3), None, dscale[0], doffset[0], dscale[1], doffset[1]

    @staticmethod
    def call(halves, x, statistics, pivot, *of_norms) -> TapMomentsCall:
        clips, channels, joints, frames = x.shape
        call = TapMomentsCall(clips, channels=channels, joints=joints, frames=frames, x=x, pivot=pivot)
        call.give(stride=halves[0].stride)
        for h, half in enumerate(halves):
            call.dilation[h] = half.dilation
            call.before[h] = norm_fields(half.before, *of_norms[2 * h : 2 * h + 2], statistics, h)
            call.before[h].momentum = 0.0  # it is the convolution that moves the running statistics
        return call


class _Fusion(Function):
    @staticmethod
    def forward(ctx, x, stem, weights, scale, offset, norm, norms, *of_norms):
        x = _frames_last(x)
        out = x.new_empty(len(x), len(stem), *x.shape[3:])
        statistics = x.new_empty(len(norms), 2, x.shape[2]), x.new_empty(2, len(stem))
        given = x, stem, weights, scale, offset, *statistics, *of_norms
        ctx.rest = norm, norms
        ctx.save_for_backward(*given)
        _Fusion.call(ctx.rest, *given).run("fusion_forward", out=out)
        return out.transpose(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, stem, weights, _, _, _, _, *of_norms = ctx.saved_tensors
        gradient = _frames_last(gradient)
        products, sums = x.new_empty(len(weights), *stem.shape), torch.empty_like(weights)
        dweights, (dscale, doffset) = torch.empty_like(weights), x.new_empty(2, len(stem))
        call = _Fusion.call(ctx.rest, *ctx.saved_tensors)
        call.give(gradient=gradient, products=products, sums=sums, dweights=dweights, dscale=dscale, doffset=doffset)
        call.run("fusion_backward")
        # Behind the stem lies stem @ (scale * normalised + offset) of each stream; both factors' gradients follow.
        scales, offsets = torch.stack(of_norms[::2]), torch.stack(of_norms[1::2])  # (S, C)
        dstem = (products * scales[:, None]).sum(0) + sums.t() @ offsets
        dscales, doffsets = (products * stem).sum(1), sums @ stem
        each = (d for pair in zip(dscales, doffsets, strict=True) for d in pair)
        return None, dstem, dweights, dscale, doffset, None, None, *each

    @staticmethod
    def call(rest, x, stem, weights, scale, offset, of_streams, of_stem, *of_norms) -> FusionCall:
        norm, norms = rest
        clips, streams, inputs, joints, frames = x.shape
        call = FusionCall(clips, streams=streams, inputs=inputs, outputs=len(stem), size=joints * frames)
        pairs = zip(norms, of_norms[::2], of_norms[1::2], strict=True)
        each = (norm_fields(one, w, b, of_streams, s) for s, (one, w, b) in enumerate(pairs))
        call.each_norm = (NormFields * streams)(*each)  # which lives as long as the call, that has its address alone
        call.give(each=ctypes.addressof(call.each_norm), norm=norm_fields(norm, scale, offset, of_stem))
        call.give(training=norm.training, x=x, stem=stem, weights=weights)
        return call


def graph_norm(
    x: Tensor,
    conv: Any,
    norm: Any,
    coefficient: Tensor | None = None,
    edges: Edges | None = None,
    relu: bool = False,
    pools: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Product with a graph, 1x1 convolution with its stride, BatchNorm, ReLU.

    Args:
        x: (N, C, T, V).
        conv: to Cout channels; a stride goes without a graph.
        norm: behind it.
        coefficient: of each channel's edges, (C, E).
        edges: of the graph; None is no graph.
        relu: whether there is one.
        pools: give the means over joints and over frames, too.

    Returns:
        (N, Cout, T/stride, V), and None or its means, (N, Cout, T/stride) and (N, Cout, V).
    """
    if norm.training:
        _count([norm])
    weight = conv.weight.flatten(1)
    return _GraphNorm.apply(
        x, coefficient, weight, conv.bias, norm.weight, norm.bias, norm, edges, conv.stride[0], relu, pools
    )


def gate(x: Tensor, of_frames: Tensor, of_joints: Tensor, alpha: Tensor) -> Tensor:
    """``x + alpha * (x * of_frames * of_joints - x)``, (N, C, T, V).

    Args:
        x: (N, C, T, V).
        of_frames: (N, C, T).
        of_joints: (N, C, V).
        alpha: (C,).
    """
    return _Gate.apply(x, of_frames, of_joints, alpha)


def tap_moments(x: Tensor, halves: Sequence[SeparableTCN]) -> tuple[Tensor, Tensor]:
    """How the frames that the kernels of :func:`temporal` span, their taps, go together behind BatchNorm and ReLU.

    Args:
        x: (N, C, T, V).
        halves: as there, in training.

    Returns:
        Means over clips, results and joints, (C, 9) float64 without a gradient, and covariance, (C, 9, 9) float64.
    """
    return _TapMoments.apply(x, halves, *(p for half in halves for p in (half.before.weight, half.before.bias)))


def temporal(
    x: Tensor, residual: Tensor, halves: Sequence[SeparableTCN], kernels: Sequence[Tensor], p: float
) -> Tensor:
    """Two :func:`~last.models.layers.temporal_conv.separable_tcn`, each on half of the channels; dropout, sum, ReLU.

    Args:
        x: (N, C, T, V).
        residual: (N, C, T/stride, V).
        halves: two of equal stride.
        kernels: of their depthwise convolutions, each (C / 2, 9).
        p: of dropout.

    Returns:
        (N, C, T/stride, V).
    """
    seed = 0
    parameters: list[Tensor] = []
    for half, kernel in zip(halves, kernels, strict=True):
        parameters += half.before.weight, half.before.bias, kernel, half.weight, half.after.weight, half.after.bias
        if half.after.training:
            _count([half.before, half.after])
    if p > 0 and halves[0].after.training:
        seed = int(torch.empty((), dtype=torch.int64).random_())
    return _Temporal.apply(x, residual, p, seed, halves, *parameters)


def fusion(x: Tensor, norms: Iterable[Any], stem: Any, weights: Tensor) -> Tensor:
    """Each stream through its BatchNorm, all through one 1x1 convolution, BatchNorm and ReLU; their weighted sum.

    Args:
        x: (N, S, C, T, V); takes no gradient.
        norms: of the streams.
        stem: 1x1 convolution to C0 channels without bias, BatchNorm, ReLU.
        weights: of the streams in each channel, (S, C0).

    Returns:
        (N, C0, T, V).
    """
    conv, norm, _ = stem
    if norm.training:
        _count([*norms, norm])
    each = [parameter for one in norms for parameter in (one.weight, one.bias)]
    return _Fusion.apply(x, conv.weight.flatten(1), weights, norm.weight, norm.bias, norm, norms, *each)
