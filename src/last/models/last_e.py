"""LAST-E: the student, 92 thousand to 644 thousand parameters.

Shapes: N batch, S streams, C channels, T frames, V joints, M bodies, K graph subsets.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Protocol

import torch
from torch import Tensor, nn

from last.models.layers.attention import STJointAttention
from last.models.layers.bodies import Bodies, fold_bodies, mean_over_bodies
from last.models.layers.branched_conv import branch, fold
from last.models.layers.stages import block_sizes
from last.models.layers.temporal_conv import residual, separable_tcn
from last.models.registry import Network, register
from last.skeleton import Layout, spatial_partition
from last.streams import STREAMS


class Kernels(Protocol):
    """A faster way to compute the layers of this file, with their own parameters; see :mod:`last.kernels`."""

    def take(self, layer: nn.Module, x: Tensor) -> bool:
        """Whether it does this call; the plain layer does all others."""
        ...

    def fuse(self, layer: "StreamFusion", x: Tensor) -> Tensor:
        """What the layer gives."""
        ...

    def block(self, layer: "LightGCNBlock", x: Tensor) -> Tensor:
        """What the layer gives."""
        ...


class StreamFusion(nn.Module):
    """One early mix of the streams: a softmax over streams for each channel.

    The shared stem sees all streams as one batch, so that its BatchNorm has the same statistics in training as in
    evaluation.
    """

    kernels: Kernels | None = None

    def __init__(self, streams: int, in_channels: int, out_channels: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(in_channels) for _ in range(streams))
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
        )
        self.weights = nn.Parameter(torch.zeros(streams, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, S, C, T, V) -> (N, C0, T, V)."""
        if self.kernels is not None and self.kernels.take(self, x):
            return self.kernels.fuse(self, x)
        count, streams = x.shape[:2]
        x = torch.cat([norm(x[:, s]) for s, norm in enumerate(self.norms)])
        x = self.stem(x).unflatten(0, (streams, count))
        weights = self.weights.softmax(0)[:, None, :, None, None]
        return (x * weights).sum(0)


class DirectionalGCNConv(nn.Module):
    """Graph convolution with a softmax over the graph's subsets for each input channel, then one 1x1 convolution."""

    graph: Tensor

    def __init__(self, in_channels: int, out_channels: int, graph: Tensor):
        super().__init__()
        self.register_buffer("graph", graph, persistent=False)
        self.alpha = nn.Parameter(torch.zeros(graph.shape[0], in_channels))
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T, V)."""
        # sum_k alpha_k * (x A_k) with the sum drawn into the graph: one product for each channel instead of K.
        joints = x.shape[-1]
        graph = (self.alpha.softmax(0).t() @ self.graph.flatten(1)).view(-1, joints, joints)
        return self.conv(x @ graph)


class MultiScaleTCN(nn.Module):
    """Half of the channels with dilation 1, half with dilation 2."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        half = channels // 2
        self.branches = nn.ModuleList(separable_tcn(half, stride, dilation) for dilation in (1, 2))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C, T/stride, V)."""
        halves = x.chunk(2, dim=1)
        return self.dropout(torch.cat([branch(h) for branch, h in zip(self.branches, halves, strict=True)], dim=1))


class LightGCNBlock(nn.Module):
    """Graph convolution, attention where asked for, temporal convolution, residual."""

    kernels: Kernels | None = None

    def __init__(self, in_channels: int, out_channels: int, stride: int, attention: bool, graph: Tensor):
        super().__init__()
        self.gcn = DirectionalGCNConv(in_channels, out_channels, graph)
        self.norm = nn.BatchNorm2d(out_channels)
        self.attention = STJointAttention(out_channels) if attention else nn.Identity()
        self.tcn = MultiScaleTCN(out_channels, stride)
        self.residual = residual(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T/stride, V)."""
        if self.kernels is not None and self.kernels.take(self, x):
            return self.kernels.block(self, x)
        y = self.norm(self.gcn(x)).relu()
        y = self.tcn(self.attention(y))
        return (y + self.residual(x)).relu()


class LastE(Network):
    """LAST-E.

    Args:
        num_classes: size of the output.
        layout: the skeleton; its graph is built in, its dimensions are the input channels.
        channels: of each stage.
        blocks: of each stage; the first of all but the first stage halves the frames.
        attention: of each stage.
        streams: the inputs, by name.
        bodies: ``mean`` averages the features of the present bodies, ``first`` takes the first body alone.
        dropout: before the classifier.
        confidence: a further input channel, how sure the data is of each joint.
        branched: the convolutions of the blocks train as several each; :meth:`deploy` folds them.
        auxiliary: a second classifier, of the features after the second stage; :meth:`deploy` drops it.

    Attributes:
        auxiliary: called in training alone, with (N, C) of the second stage, for those who listen by a forward hook.
    """

    def __init__(
        self,
        num_classes: int,
        layout: Layout,
        channels: Sequence[int],
        blocks: Sequence[int],
        attention: Sequence[bool],
        streams: Sequence[str] = STREAMS,
        bodies: Bodies = "mean",
        dropout: float = 0.3,
        confidence: bool = False,
        branched: bool = False,
        auxiliary: bool = False,
    ):
        super().__init__()
        self.streams = tuple(streams)
        self.bodies: Bodies = bodies
        graph = torch.from_numpy(spatial_partition(layout))
        self.in_channels = layout.dimensions + confidence
        self.fusion = StreamFusion(len(self.streams), self.in_channels, channels[0])
        self.blocks = nn.Sequential(
            *(
                LightGCNBlock(before, size, stride, attention[stage], graph)
                for stage, before, size, stride in block_sizes(channels[0], channels, blocks)
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-1], num_classes)
        self.middle = sum(blocks[:2])
        self.auxiliary = nn.Linear(channels[1], num_classes) if auxiliary else None
        if branched:
            branch(self.blocks)

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Scores before softmax, (N, classes).

        Args:
            streams: stream name to (N, C, T, V, M).
            mask: which bodies are present, (N, M) bool; None means all.
        """
        x, owner = fold_bodies(streams, mask, self.streams, self.bodies)
        count = len(streams[self.streams[0]])
        x = self.fusion(x)
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number == self.middle and self.auxiliary is not None and self.training:
                self.auxiliary(mean_over_bodies(x.mean((2, 3)), owner, count))
        return self.classifier(self.dropout(mean_over_bodies(x.mean((2, 3)), owner, count)))

    def deploy(self) -> "LastE":
        """A copy with the plain layers alone, whose scores in evaluation are the same."""
        network = deepcopy(self)
        fold(network)
        network.auxiliary = None
        return network


@register
def last_e_nano(num_classes: int, layout: Layout, **settings) -> LastE:
    """92,358 parameters at 60 classes."""
    return LastE(num_classes, layout, (24, 48, 96), (2, 2, 3), (False, False, True), **settings)


@register
def last_e_small(num_classes: int, layout: Layout, **settings) -> LastE:
    """177,646 parameters at 60 classes."""
    return LastE(num_classes, layout, (32, 64, 128), (2, 3, 3), (False, True, True), **settings)


@register
def last_e_base(num_classes: int, layout: Layout, **settings) -> LastE:
    """363,958 parameters at 60 classes."""
    return LastE(num_classes, layout, (40, 80, 160), (3, 4, 4), (True, True, True), **settings)


@register
def last_e_large(num_classes: int, layout: Layout, **settings) -> LastE:
    """644,094 parameters at 60 classes."""
    return LastE(num_classes, layout, (48, 96, 192), (4, 5, 5), (True, True, True), **settings)
