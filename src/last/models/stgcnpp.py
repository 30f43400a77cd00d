"""ST-GCN++: ST-GCN with learned graphs and six temporal branches (PYSKL; Duan et al., ACM MM 2022).

Shapes: N batch, C channels, T frames, V joints, M bodies, B rows (one a body), K graph subsets.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from last.models.layers.bodies import Bodies, fold_bodies, mean_over_bodies
from last.models.layers.graph import directed_partition
from last.models.layers.inputs import one_stream
from last.models.layers.st_block import st_blocks
from last.models.layers.temporal_conv import residual
from last.models.registry import Network, register
from last.skeleton import Layout


class GraphConv(nn.Module):
    """One learned graph and one 1x1 convolution a subset, summed; BatchNorm, residual, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, graph: Tensor):
        super().__init__()
        self.graph = nn.Parameter(graph.clone())
        self.conv = nn.Conv2d(in_channels, out_channels * len(graph), 1)
        self.norm = nn.BatchNorm2d(out_channels)
        self.residual = residual(in_channels, out_channels, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T, V)."""
        parts = self.conv(x).unflatten(1, (len(self.graph), -1))  # (N, K, Cout, T, V)
        y = (parts.flatten(2, 3) @ self.graph).sum(1).view(parts[:, 0].shape)
        return (self.norm(y) + self.residual(x)).relu()


class MultiScaleTCN(nn.Module):
    """A sixth of the channels each: 3x1 with dilations 1 to 4, a 3x1 maximum, and 1x1 alone; then mixed by 1x1."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        sixth = channels // 6
        first = channels - 5 * sixth
        self.widths = (first, sixth, sixth, sixth, sixth)
        # One convolution for the five branches that begin with one: few channels at a time are slow.
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, sum(self.widths), 1), nn.BatchNorm2d(sum(self.widths)), nn.ReLU()
        )
        self.branches = nn.ModuleList(
            nn.Conv2d(width, width, (3, 1), (stride, 1), (dilation, 0), (dilation, 1))
            for dilation, width in enumerate(self.widths[:4], start=1)
        )
        self.branches.append(nn.MaxPool2d((3, 1), (stride, 1), (1, 0)))
        self.point = nn.Conv2d(channels, sixth, 1, (stride, 1))
        self.mix = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C, T/stride, V)."""
        parts = self.squeeze(x).split(self.widths, dim=1)
        scales = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        return self.mix(torch.cat([*scales, self.point(x)], dim=1))


class STGCNpp(Network):
    """ST-GCN++ of one stream; the published ensembles are sums of the scores of several.

    Args:
        num_classes: size of the output.
        layout: the skeleton; its graph is where the learned ones start, its dimensions are the input channels.
        channels: of each stage.
        blocks: of each stage; the first of all but the first stage halves the frames.
        streams: the one input, by name.
        bodies: ``padded`` averages the features of all bodies, absent ones as zeros, as published, ``mean`` those of
            the present bodies, ``first`` takes the first body alone.
        dropout: before the classifier.
        confidence: a further input channel, how sure the data is of each joint.

    Raises:
        ValueError: not exactly one stream is asked for.
    """

    published_input = (100, 2)

    def __init__(
        self,
        num_classes: int,
        layout: Layout,
        channels: Sequence[int],
        blocks: Sequence[int],
        streams: Sequence[str] = ("joint",),
        bodies: Bodies = "padded",
        dropout: float = 0.0,
        confidence: bool = False,
    ):
        super().__init__()
        self.streams = one_stream("ST-GCN++", streams)
        self.bodies: Bodies = bodies
        self.in_channels = layout.dimensions + confidence
        self.norm = nn.BatchNorm1d(len(layout.joints) * self.in_channels)
        graph = directed_partition(layout)
        self.blocks = st_blocks(
            self.in_channels,
            channels,
            blocks,
            lambda before, size: GraphConv(before, size, graph),
            MultiScaleTCN,
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-1], num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Scores before softmax, (N, classes).

        Args:
            streams: stream name to (N, C, T, V, M).
            mask: which bodies are present, (N, M) bool; None means all.
        """
        x, owner = fold_bodies(streams, mask, self.streams, self.bodies)
        count = len(streams[self.streams[0]])
        x = x.squeeze(1).permute(0, 3, 1, 2)  # (B, V, C, T)
        x = self.norm(x.flatten(1, 2)).view(x.shape).permute(0, 2, 3, 1).contiguous()
        features = self.blocks(x).mean((2, 3))
        return self.classifier(self.dropout(mean_over_bodies(features, owner, count)))


@register
def stgcnpp(num_classes: int, layout: Layout, **settings) -> STGCNpp:
    """1,403,144 parameters at 60 classes."""
    return STGCNpp(num_classes, layout, (64, 128, 256), (4, 3, 3), **settings)
