"""LAST-E on a CPU: the same layers with the same parameters, by the C++ kernels.

Shapes: N batch, S streams, C channels, T frames, V joints.
"""

from typing import Any

import torch
from torch import Tensor, nn

from last.kernels.cpu import layers
from last.models.last_e import LastE, LightGCNBlock, MultiScaleTCN, StreamFusion
from last.models.layers.attention import STJointAttention
from last.models.layers.branched_conv import BranchedConv, is_branched


class CpuKernels:
    """What the layers of one LAST-E call instead of their plain selves, on a CPU."""

    def __init__(self, network: LastE):
        first = next(layer for layer in network.modules() if isinstance(layer, LightGCNBlock))
        self.edges = layers.Edges.of(first.gcn.graph)  # all blocks have one graph

    def take(self, layer: nn.Module, x: Tensor) -> bool:
        """Whether they do this call.

        They do float32 on the CPU: training, all of the layer or none of it, and evaluation without gradients, but for
        branches, which :meth:`LastE.deploy` folds. They give the streams no gradient.
        """
        return (
            x.device.type == "cpu"
            and x.dtype == next(layer.parameters()).dtype == torch.float32
            and x.numel() > 0
            and all(part.training == layer.training for part in layer.modules())
            and (layer.training or not (torch.is_grad_enabled() or is_branched(layer)))
            and not (isinstance(layer, StreamFusion) and x.requires_grad)
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
        )

    def fuse(self, layer: StreamFusion, x: Tensor) -> Tensor:
        """(N, S, C, T, V) -> (N, C0, T, V)."""
        return layers.fusion(x, layer.norms, layer.stem, layer.weights.softmax(0))

    def block(self, layer: LightGCNBlock, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T/stride, V)."""
        attention = layer.attention
        attends = isinstance(attention, STJointAttention)
        coefficient = layer.gcn.alpha.softmax(0).t() @ self.edges.values
        y, over_joints, over_frames = layers.graph_norm(
            x, layer.gcn.conv, layer.norm, coefficient, self.edges, relu=True, pools=attends
        )
        if isinstance(attention, STJointAttention):
            assert over_joints is not None and over_frames is not None
            of_frames = _branch(attention.over_frames, over_joints)
            of_joints = _branch(attention.over_joints, over_frames)
            y = layers.gate(y, of_frames, of_joints, attention.alpha.flatten())
        if isinstance(layer.residual, nn.Sequential):
            conv, norm = layer.residual
            x = layers.graph_norm(x, conv, norm)[0]
        return _temporal(y, x, layer.tcn)


def _temporal(x: Tensor, residual: Tensor, tcn: MultiScaleTCN) -> Tensor:
    """The temporal convolution, the sum with the residual and ReLU."""
    branches: Any = tcn.branches
    depthwises = [branch[2] for branch in branches]
    halves = []
    for (before, _, _, pointwise, after), depthwise in zip(branches, depthwises, strict=True):
        conv = depthwise.convs[-1] if isinstance(depthwise, BranchedConv) else depthwise
        halves.append(layers.SeparableTCN(before, conv.stride[0], conv.dilation[0], pointwise.weight.flatten(1), after))
    if not isinstance(depthwises[0], BranchedConv):
        kernels = [depthwise.weight.flatten(1) for depthwise in depthwises]
        return layers.temporal(x, residual, halves, kernels, tcn.dropout.p)
    count = residual[:, 0].numel()
    means, covariances = (moments.chunk(2) for moments in layers.tap_moments(x, halves))
    of_halves = [d.one_kernel(*m, count) for d, *m in zip(depthwises, means, covariances, strict=True)]
    out = layers.temporal(x, residual, halves, [kernel for kernel, _ in of_halves], tcn.dropout.p)
    with torch.no_grad():
        # Branches that BatchNorm leaves without a mean give the norm behind them none; their one kernel's is no matter
        # but to its running mean.
        for half, (_, surplus) in zip(halves, of_halves, strict=True):
            half.after.running_mean -= half.after.momentum * (half.weight @ surplus.to(half.weight))
    return out


def _branch(branch: Any, x: Tensor) -> Tensor:
    """One of attention's, (N, C, L) -> (N, C, L), by matrix products: PyTorch's convolution takes ten times as long."""
    reduce, norm, _, expand, _ = branch
    y = norm((reduce.weight.flatten(1) @ x).unsqueeze(3)).squeeze(3)
    return (expand.weight.flatten(1) @ y.relu()).sigmoid()
