"""CTR-GCN: a graph of its own for each channel (Chen et al., ICCV 2021).

Shapes: N batch, C channels, T frames, V joints, M bodies, B rows (one a body), K graph subsets, R relation channels.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from last.models.layers.bodies import Bodies, fold_bodies, mean_over_bodies
from last.models.layers.graph import directed_partition
from last.models.layers.inputs import one_stream
from last.models.layers.st_block import st_blocks
from last.models.layers.temporal_conv import residual
from last.models.registry import Network, register
from last.skeleton import Layout


class Relations(nn.Module):
    """How the features of each pair of joints differ, as a graph for each channel."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        relations = max(8, in_channels // 8)
        self.target = nn.Conv2d(in_channels, relations, 1)
        self.source = nn.Conv2d(in_channels, relations, 1)
        self.expand = nn.Conv2d(relations, out_channels, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        """Mean over frames, (N, C, 1, V) -> (N, Cout, V, V)."""
        differences = self.target(pooled).transpose(2, 3) - self.source(pooled)  # (N, R, V, V)
        return self.expand(differences.tanh())


class ChannelGraphConv(nn.Module):
    """CTR-GC: learned graphs that the relations of the joints refine for each channel; BatchNorm, residual, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, graph: Tensor):
        super().__init__()
        self.graph = nn.Parameter(graph.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.relations = nn.ModuleList(Relations(in_channels, out_channels) for _ in graph)
        self.transforms = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in graph)
        self.norm = nn.BatchNorm2d(out_channels)
        self.residual = residual(in_channels, out_channels, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T, V)."""
        # The authors average after the convolutions of the relations: the same, at T times the work.
        pooled = x.mean(2, keepdim=True)
        graphs = [
            graph + self.alpha * relation(pooled) for graph, relation in zip(self.graph, self.relations, strict=True)
        ]
        # Entry [v, w] of a graph carries joint w to joint v.
        y = sum(conv(x) @ graph.transpose(2, 3) for conv, graph in zip(self.transforms, graphs, strict=True))
        return (self.norm(y) + self.residual(x)).relu()


class MultiScaleTCN(nn.Module):
    """A quarter of the channels each: 5x1 with dilation 1, with dilation 2, a 3x1 maximum, and 1x1 alone."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        quarter = channels // 4

        def squeeze() -> list[nn.Module]:
            return [nn.Conv2d(channels, quarter, 1), nn.BatchNorm2d(quarter), nn.ReLU()]

        def over_time(dilation: int) -> nn.Module:
            return nn.Conv2d(quarter, quarter, (5, 1), (stride, 1), (2 * dilation, 0), (dilation, 1))

        self.branches = nn.ModuleList(
            [
                nn.Sequential(*squeeze(), over_time(1), nn.BatchNorm2d(quarter)),
                nn.Sequential(*squeeze(), over_time(2), nn.BatchNorm2d(quarter)),
                nn.Sequential(*squeeze(), nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2d(quarter)),
                nn.Sequential(nn.Conv2d(channels, quarter, 1, (stride, 1)), nn.BatchNorm2d(quarter)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C, T/stride, V)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class CTRGCN(Network):
    """CTR-GCN of one stream; the published ensembles are sums of the scores of several.

    Args:
        num_classes: size of the output.
        layout: the skeleton; its graph is where the learned ones start, its dimensions are the input channels.
        channels: of each stage.
        blocks: of each stage; the first of all but the first stage halves the frames.
        streams: the one input, by name.
        bodies: ``padded`` averages the features of ``max_bodies`` bodies, absent ones as zeros, as published, ``mean``
            those of the present bodies, ``first`` takes the first body alone.
        dropout: before the classifier.
        confidence: a further input channel, how sure the data is of each joint.
        max_bodies: M that the first BatchNorm has channels for; clips of fewer bodies are filled up with zeros.

    Raises:
        ValueError: not exactly one stream is asked for.
    """

    published_input = (64, 2)

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
        max_bodies: int = 2,
    ):
        super().__init__()
        self.streams = one_stream("CTR-GCN", streams)
        self.bodies: Bodies = bodies
        self.in_channels = layout.dimensions + confidence
        self.max_bodies = max_bodies
        self.norm = nn.BatchNorm1d(max_bodies * len(layout.joints) * self.in_channels)
        graph = directed_partition(layout)
        self.blocks = st_blocks(
            self.in_channels,
            channels,
            blocks,
            lambda before, size: ChannelGraphConv(before, size, graph),
            MultiScaleTCN,
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-1], num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """As the authors do: each block begins as little more than its residual and its temporal convolution."""
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d) and ".tcn." in name:
                nn.init.normal_(module.weight, 1, 0.02)
            elif isinstance(module, ChannelGraphConv):
                nn.init.constant_(module.norm.weight, 1e-6)
        nn.init.normal_(self.classifier.weight, 0, (2 / self.classifier.out_features) ** 0.5)

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Scores before softmax, (N, classes).

        Args:
            streams: stream name to (N, C, T, V, M).
            mask: which bodies are present, (N, M) bool; None means all.

        Raises:
            ValueError: there are more bodies than the network is built for.
        """
        x, _ = fold_bodies(streams, mask, self.streams, "first" if self.bodies == "first" else "padded")
        count = len(streams[self.streams[0]])
        x = x.squeeze(1).unflatten(0, (count, -1))  # (N, M, C, T, V)
        missing = self.max_bodies - x.shape[1]
        if missing < 0:
            raise ValueError(
                f"clips of {x.shape[1]} bodies, but CTR-GCN is built for {self.max_bodies}; create it with a larger "
                "max_bodies or drop bodies"
            )
        own = x.shape[1]
        x = F.pad(x, [0, 0] * 3 + [0, missing])
        x = x.permute(0, 1, 4, 2, 3)
        x = self.norm(x.flatten(1, 3)).view(x.shape).permute(0, 3, 4, 2, 1)  # (N, C, T, V, M)
        if self.bodies == "padded":
            mask = None
        else:
            x = x[..., :own]  # those that fill up count for the normalisation alone
        x, owner = fold_bodies({"normalised": x}, mask, ["normalised"], self.bodies)
        features = self.blocks(x.squeeze(1)).mean((2, 3))
        return self.classifier(self.dropout(mean_over_bodies(features, owner, count)))


# What the authors call a part, and its name here.
_RENAMED = (
    (r"^data_bn\.", "norm."),
    (r"^fc\.", "classifier."),
    (r"gcn1\.PA$", "gcn.graph"),
    (r"gcn1\.bn\.", "gcn.norm."),
    (r"gcn1\.down\.", "gcn.residual."),
    (r"gcn1\.convs\.(\d)\.conv1\.", r"gcn.relations.\1.target."),
    (r"gcn1\.convs\.(\d)\.conv2\.", r"gcn.relations.\1.source."),
    (r"gcn1\.convs\.(\d)\.conv3\.", r"gcn.transforms.\1."),
    (r"gcn1\.convs\.(\d)\.conv4\.", r"gcn.relations.\1.expand."),
    (r"gcn1\.alpha$", "gcn.alpha"),
    (r"tcn1\.branches\.(\d)\.3\.conv\.", r"tcn.branches.\1.3."),
    (r"tcn1\.branches\.(\d)\.3\.bn\.", r"tcn.branches.\1.4."),
    (r"tcn1\.", "tcn."),
    (r"residual\.conv\.", "residual.0."),
    (r"residual\.bn\.", "residual.1."),
)


def published_key(name: str) -> str | None:
    """Our name of a tensor of the authors' checkpoints; None where we keep no such tensor.

    Args:
        name: such as ``l3.gcn1.convs.0.conv3.weight``; ``module.`` may stand before it.
    """
    name = name.removeprefix("module.")
    block = re.match(r"l([1-9]|10)\.", name)
    if block:
        name = f"blocks.{int(block[1]) - 1}.{name[block.end() :]}"
    elif not name.startswith(("data_bn.", "fc.")):
        return None
    for theirs, ours in _RENAMED:
        name = re.sub(theirs, ours, name)
    return name


@register
def ctrgcn(num_classes: int, layout: Layout, **settings) -> CTRGCN:
    """1,446,672 parameters at 60 classes."""
    return CTRGCN(num_classes, layout, (64, 128, 256), (4, 3, 3), **settings)
