"""LAST-v2: the teacher, 3 to 20 million parameters.

Shapes: N batch, S streams, C channels, T frames, V joints, M bodies, K graph subsets, H heads, D channels a head.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from last.models.layers.attention import STJointAttention
from last.models.layers.bodies import Bodies, fold_bodies, mean_over_bodies
from last.models.layers.stages import block_sizes
from last.models.layers.temporal_conv import residual, separable_tcn
from last.models.registry import Network, register
from last.skeleton import Layout, spatial_partition
from last.streams import STREAMS


class AdaptiveGraphConv(nn.Module):
    """The fixed graph's subsets, one learned graph and one that depends on the clip, each with its own 1x1 convolution.

    After 2s-AGCN (Shi et al., CVPR 2019).
    """

    graph: Tensor

    def __init__(self, in_channels: int, out_channels: int, graph: Tensor):
        super().__init__()
        self.register_buffer("graph", graph, persistent=False)
        joints = graph.shape[-1]
        self.learned = nn.Parameter(torch.zeros(joints, joints))
        self.embed = nn.Conv1d(in_channels, max(4, in_channels // 8), 1, bias=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, 1, bias=False) for _ in range(graph.shape[0] + 2)
        )

    def learned_graph(self) -> Tensor:
        """|L|, symmetrically normalised, every entry in [0, 1], (V, V)."""
        # abs() has no slope at zero, where the matrix starts, and would hold it there for ever.
        weights = torch.where(self.learned >= 0, self.learned, -self.learned)
        # A degree below one is left as it is: divided by it, the first step away from zero would be a leap to one.
        scale = weights.sum(1).clamp(min=1).rsqrt()
        return scale[:, None] * weights * scale

    def dynamic_graph(self, x: Tensor) -> Tensor:
        """Softmax of the cosine similarity of joints, (N, 1, V, V)."""
        embedding = F.normalize(self.embed(x.mean(2)), dim=1)
        return (embedding.transpose(1, 2) @ embedding).softmax(1).unsqueeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T, V)."""
        graphs = [*self.graph, self.learned_graph(), self.dynamic_graph(x)]
        return sum(conv(x @ graph) for conv, graph in zip(self.convs, graphs, strict=True))


class LinearAttention(nn.Module):
    """Self-attention over time for each joint, linear in the number of frames.

    Katharopoulos et al., ICML 2020: feature map elu + 1. The stride is a 3x1 average pool.
    """

    def __init__(self, channels: int, stride: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.project = nn.Conv2d(channels, channels, 1)
        self.dropout = nn.Dropout(0.1)
        self.pool = nn.AvgPool2d((3, 1), (stride, 1), (1, 0)) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C, T/stride, V)."""
        q, k, v = self.qkv(x).permute(0, 3, 1, 2).unflatten(2, (3, self.heads, -1)).unbind(2)  # (N, V, H, D, T)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        memory = v @ k.transpose(-1, -2)  # (N, V, H, D, D)
        weight = (q * k.sum(-1, keepdim=True)).sum(-2, keepdim=True)
        y = memory @ (q / weight)  # divided first, so that float16 does not overflow
        y = y.flatten(2, 3).permute(0, 2, 3, 1)
        return self.pool(self.dropout(self.project(y)))


class EffGCNBlock(nn.Module):
    """Adaptive graph convolution, attention, then time: separable convolution or linear attention; residual."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, linear_attention: bool, graph: Tensor):
        super().__init__()
        self.gcn = AdaptiveGraphConv(in_channels, out_channels, graph)
        self.norm = nn.BatchNorm2d(out_channels)
        self.attention = STJointAttention(out_channels)
        self.temporal: nn.Module
        if linear_attention:
            self.temporal = LinearAttention(out_channels, stride)
        else:
            self.temporal = nn.Sequential(separable_tcn(out_channels, stride), nn.Dropout(0.1))
        self.residual = residual(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T/stride, V)."""
        y = self.attention(self.norm(self.gcn(x)).relu())
        return (self.temporal(y) + self.residual(x)).relu()


class Backbone(nn.Module):
    """Blocks, mean over frames and joints, dropout, classifier."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        layout: Layout,
        channels: Sequence[int],
        blocks: Sequence[int],
        linear_attention: Sequence[bool],
        dropout: float,
    ):
        super().__init__()
        graph = torch.from_numpy(spatial_partition(layout))
        self.blocks = nn.Sequential(
            *(
                EffGCNBlock(before, size, stride, linear_attention[stage], graph)
                for stage, before, size, stride in block_sizes(in_channels, channels, blocks)
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, classes)."""
        return self.classifier(self.dropout(self.blocks(x).mean((2, 3))))


class LastV2(Network):
    """LAST-v2: each stream passes the backbone on its own; logits are summed over streams, averaged over bodies.

    Args:
        num_classes: size of the output.
        layout: the skeleton; its graph is built in, its dimensions are the input channels.
        channels: of each stage.
        blocks: of each stage; the first of all but the first stage halves the frames.
        linear_attention: stages whose temporal part is linear attention.
        streams: the inputs, by name.
        bodies: ``mean`` averages the logits of the present bodies, ``first`` takes the first body alone.
        dropout: before the classifier.
        confidence: a further input channel, how sure the data is of each joint.
        share_backbone: one set of weights for all streams, as published, or one for each.
    """

    def __init__(
        self,
        num_classes: int,
        layout: Layout,
        channels: Sequence[int],
        blocks: Sequence[int],
        linear_attention: Sequence[bool],
        streams: Sequence[str] = STREAMS,
        bodies: Bodies = "mean",
        dropout: float = 0.3,
        confidence: bool = False,
        share_backbone: bool = True,
    ):
        super().__init__()
        self.streams = tuple(streams)
        self.bodies: Bodies = bodies
        self.in_channels = layout.dimensions + confidence
        self.norms = nn.ModuleList(nn.BatchNorm2d(self.in_channels) for _ in self.streams)
        self.backbones = nn.ModuleList(
            Backbone(num_classes, self.in_channels, layout, channels, blocks, linear_attention, dropout)
            for _ in range(1 if share_backbone else len(self.streams))
        )

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Scores before softmax, (N, classes).

        Args:
            streams: stream name to (N, C, T, V, M).
            mask: which bodies are present, (N, M) bool; None means all.
        """
        x, owner = fold_bodies(streams, mask, self.streams, self.bodies)
        count = len(streams[self.streams[0]])
        parts = [norm(x[:, s]) for s, norm in enumerate(self.norms)]
        if len(self.backbones) == 1:  # one batch, so that BatchNorm has the same statistics in training as after it
            logits = self.backbones[0](torch.cat(parts)).unflatten(0, (len(parts), -1)).sum(0)
        else:
            logits = sum(backbone(part) for backbone, part in zip(self.backbones, parts, strict=True))
        return mean_over_bodies(logits, owner, count)


@register
def last_v2_small(num_classes: int, layout: Layout, **settings) -> LastV2:
    """2,938,564 parameters at 60 classes."""
    return LastV2(num_classes, layout, (64, 128, 256), (3, 3, 4), (False, False, True), **settings)


@register
def last_v2_base(num_classes: int, layout: Layout, **settings) -> LastV2:
    """9,217,256 parameters at 60 classes."""
    return LastV2(num_classes, layout, (96, 192, 384), (4, 5, 5), (False, True, True), **settings)


@register
def last_v2_large(num_classes: int, layout: Layout, **settings) -> LastV2:
    """19,920,076 parameters at 60 classes."""
    return LastV2(num_classes, layout, (128, 256, 512), (6, 6, 6), (False, True, True), **settings)
