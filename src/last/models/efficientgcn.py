"""EfficientGCN: a branch for each of three inputs, joined early, with separable convolutions over time.

Song et al., "Constructing Stronger and Faster Baselines for Skeleton-based Action Recognition", TPAMI 2022; the forms
of 2021 are those of its first version, arXiv 2106.15125v1.

Shapes: N batch, B bodies of the batch, C channels, T frames, V joints, M bodies, K graph subsets.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from last.models.layers.bodies import Bodies, fold_bodies, mean_over_bodies
from last.models.registry import Network, register
from last.skeleton import Layout

Temporal = Literal["sandglass", "inverted"]
KERNEL = 5  # frames
DISTANCE = 2  # bones, of the farthest joints that a graph convolution joins
HORIZON = 10  # bones, of the farthest joints that count when the graph is normalised
STEM = 64  # channels
STRIDES = (1, 1, 2, 2)  # of the blocks; the first two are the branches', the last two the joint part's
BRANCHES = 3


def hop_partition(layout: Layout) -> np.ndarray:
    """The graph of a layout in subsets of joints 0, 1 and 2 bones apart, (K, V, V) float32, for ``x @ A[k]``.

    Each entry is one over the number of joints within :data:`HORIZON` bones, as the authors have it: the whole body,
    or nearly so, and not the neighbours alone.
    """
    hops = np.stack([layout.hops_from(v) for v in range(len(layout.joints))])
    near = (hops <= HORIZON).sum(axis=0, keepdims=True)
    return np.stack([(hops == distance) / near for distance in range(DISTANCE + 1)]).astype(np.float32)


class Inputs(nn.Module):
    """What the three branches see, each of twice the channels that the joints have.

    The joint by which others are told, and from which the bones grow, is the one below the layout's centre: the middle
    of the spine on Kinect's bodies, as the authors have it.
    """

    bone_from: Tensor

    def __init__(self, layout: Layout):
        super().__init__()
        self.reference = layout.parents[layout.centre]
        hops = layout.hops_from(self.reference)
        ends = list(range(len(layout.joints)))
        for bone in layout.bones:
            near, far = sorted(bone, key=lambda v: hops[v])
            ends[far] = near
        self.register_buffer("bone_from", torch.tensor(ends), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Joints, velocities and bones, (B, C, T, V) -> three times (B, 2C, T, V).

        Joints: positions, and positions relative to the reference joint. Velocities: to the next frame, and to the one
        after it; the last two frames have none. Bones: vectors, and their angles to the axes in radians.
        """
        relative = x - x[..., self.reference, None]
        now = x[:, :, :-2]
        velocity = F.pad(torch.cat([x[:, :, 1:-1] - now, x[:, :, 2:] - now], dim=1), (0, 0, 0, 2))
        bone = x - x[..., self.bone_from]
        length = bone.norm(dim=1, keepdim=True) + 1e-4
        return [torch.cat([x, relative], dim=1), velocity, torch.cat([bone, (bone / length).acos()], dim=1)]


def convolution(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution over time and BatchNorm, (B, Cin, T, V) -> (B, Cout, T/stride, V)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, (kernel, 1), (stride, 1), (kernel // 2, 0), groups=groups),
        nn.BatchNorm2d(out_channels),
    )


class GraphConv(nn.Module):
    """A 1x1 convolution for each subset, carried along its learnable edges; residual, Swish."""

    graph: Tensor

    def __init__(self, in_channels: int, out_channels: int, graph: Tensor):
        super().__init__()
        self.register_buffer("graph", graph, persistent=False)
        self.edges = nn.Parameter(torch.ones_like(graph))
        self.conv = nn.Conv2d(in_channels, out_channels * len(graph), 1)
        self.norm = nn.BatchNorm2d(out_channels)
        self.residual = nn.Identity() if in_channels == out_channels else convolution(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, T, V) -> (B, Cout, T, V)."""
        y = self.conv(x)
        # All channels and frames of a subset are the rows of one product: the fastest form, forward and backward.
        rows = y.unflatten(1, (len(self.graph), -1)).flatten(2, 3)
        y = (rows @ (self.graph * self.edges)).sum(1).unflatten(1, (-1, y.shape[2]))
        return F.silu(self.norm(y) + self.residual(x))


class TemporalConv(nn.Module):
    """The stem's convolution over time: all channels with all; residual, Swish."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (KERNEL, 1), padding=(KERNEL // 2, 0))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, V) -> (B, C, T, V)."""
        return F.silu(self.norm(self.conv(x)) + x)


class Sandglass(nn.Module):
    """Temporal layer of 2022: each channel for itself over time, half as many channels between; residual."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.depthwise_in = convolution(channels, channels, KERNEL, groups=channels)
        self.reduce = convolution(channels, channels // 2)
        self.expand = convolution(channels // 2, channels)
        self.depthwise_out = convolution(channels, channels, KERNEL, stride, groups=channels)
        self.residual = nn.Identity() if stride == 1 else convolution(channels, channels, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, V) -> (B, C, T/stride, V)."""
        y = F.silu(self.depthwise_in(x))
        y = F.silu(self.expand(self.reduce(y)))
        return self.depthwise_out(y) + self.residual(x)


class InvertedBottleneck(nn.Module):
    """Temporal layer of 2021: twice as many channels, each for itself over time; residual."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.expand = convolution(channels, 2 * channels)
        self.depthwise = convolution(2 * channels, 2 * channels, KERNEL, stride, groups=2 * channels)
        self.project = convolution(2 * channels, channels)
        self.residual = nn.Identity() if stride == 1 else convolution(channels, channels, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, V) -> (B, C, T/stride, V)."""
        y = F.silu(self.expand(x))
        y = F.silu(self.depthwise(y))
        return self.project(y) + self.residual(x)


class JointAttention(nn.Module):
    """ST-JointAtt: frames and joints reduced by one convolution, weighed by one each; BatchNorm, residual, Swish."""

    def __init__(self, channels: int, reduced: int):
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, reduced, 1), nn.BatchNorm2d(reduced), nn.Hardswish())
        self.over_frames = nn.Conv2d(reduced, channels, 1)
        self.over_joints = nn.Conv2d(reduced, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, V) -> (B, C, T, V)."""
        frames, joints = x.mean(3, keepdim=True), x.mean(2, keepdim=True)
        both = self.reduce(torch.cat([frames, joints.mT], dim=2))
        frames, joints = both.split([x.shape[2], x.shape[3]], dim=2)
        a_t = self.over_frames(frames).sigmoid()
        a_v = self.over_joints(joints.mT).sigmoid()
        return F.silu(self.norm(x * (a_t * a_v)) + x)


class Block(nn.Module):
    """Graph convolution, ``depth`` temporal layers of which the first has the stride, attention."""

    def __init__(self, in_channels: int, channels: int, stride: int, depth: int, temporal: Temporal, graph: Tensor):
        super().__init__()
        layer, reduction = (Sandglass, 2) if temporal == "sandglass" else (InvertedBottleneck, 4)
        self.graph = GraphConv(in_channels, channels, graph)
        self.temporal = nn.Sequential(*(layer(channels, stride if place == 0 else 1) for place in range(depth)))
        self.attention = JointAttention(channels, channels // reduction)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, T, V) -> (B, C, T/stride, V)."""
        return self.attention(self.temporal(self.graph(x)))


class EfficientGCN(Network):
    """EfficientGCN.

    Args:
        num_classes: size of the output.
        layout: the skeleton; its graph is built in, its dimensions are the input channels.
        channels: of each of the four blocks.
        depths: temporal layers of each block.
        temporal: which layer; ``sandglass`` is that of 2022, ``inverted`` that of 2021.
        streams: ``("joint",)``; the three inputs are made of it.
        bodies: ``padded`` averages the features of all bodies, absent ones as zeros, as the authors do; ``mean`` those
            of the present bodies; ``first`` takes the first body alone.
        dropout: before the classifier.

    Raises:
        ValueError: other streams are asked for.
    """

    published_input = (288, 2)

    def __init__(
        self,
        num_classes: int,
        layout: Layout,
        channels: Sequence[int],
        depths: Sequence[int],
        temporal: Temporal = "sandglass",
        streams: Sequence[str] = ("joint",),
        bodies: Bodies = "padded",
        dropout: float = 0.25,
    ):
        super().__init__()
        if tuple(streams) != ("joint",):
            raise ValueError(
                f"EfficientGCN was given the streams {', '.join(streams)}, expected joint alone: it makes its three "
                "inputs itself; set model.streams to [joint]"
            )
        self.streams = ("joint",)
        self.in_channels = layout.dimensions
        self.bodies: Bodies = bodies
        graph = torch.tensor(hop_partition(layout))

        before = (STEM, channels[0], BRANCHES * channels[1], channels[2])
        sizes = list(zip(before, channels, STRIDES, depths, strict=True))

        def blocks(part: slice) -> nn.Sequential:
            return nn.Sequential(*(Block(*size, temporal, graph) for size in sizes[part]))

        self.inputs = Inputs(layout)
        self.branches = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    norm=nn.BatchNorm2d(2 * self.in_channels),
                    graph=GraphConv(2 * self.in_channels, STEM, graph),
                    temporal=TemporalConv(STEM),
                    blocks=blocks(slice(0, 2)),
                )
            )
            for _ in range(BRANCHES)
        )
        self.joined = blocks(slice(2, 4))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-1], num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """As the authors do."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(self.classifier.weight, std=0.001)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Scores before softmax, (N, classes).

        Args:
            streams: ``joint`` to (N, C, T, V, M).
            mask: which bodies are present, (N, M) bool; None means all.
        """
        x, owner = fold_bodies(streams, mask, self.streams, self.bodies)
        inputs = self.inputs(x[:, 0])
        x = torch.cat([branch(part) for branch, part in zip(self.branches, inputs, strict=True)], dim=1)
        features = mean_over_bodies(self.joined(x).mean((2, 3)), owner, len(streams["joint"]))
        return self.classifier(self.dropout(features))


# What the authors call a part, and its name here.
_RENAMED = (
    ("input_branches.", "branches."),
    ("main_stream.block-", "joined."),
    ("block-", "blocks."),
    ("init_bn.", "norm."),
    ("stem_scn.", "graph."),
    ("stem_tcn.", "temporal."),
    ("_scn.", ".graph."),
    ("_tcn-", ".temporal."),
    ("_att.", ".attention."),
    (".conv.gcn.", ".conv."),
    (".conv.edge", ".edges"),
    (".conv.A", ".graph"),
    (".bn.", ".norm."),
    (".att.fcn.", ".reduce."),
    (".att.conv_t.", ".over_frames."),
    (".att.conv_v.", ".over_joints."),
    ("depth_conv1.", "depthwise_in."),
    ("point_conv1.", "reduce."),
    ("point_conv2.", "expand."),
    ("depth_conv2.", "depthwise_out."),
    ("expand_conv.", "expand."),
    ("depth_conv.", "depthwise."),
    ("point_conv.", "project."),
    ("classifier.fc.", "classifier."),
)


def published_key(name: str) -> str:
    """Our name of a tensor of the authors' checkpoints.

    Args:
        name: such as ``main_stream.block-0_tcn-1.depth_conv1.0.weight``.
    """
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name


@register
def efficientgcn_b0(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """306,201 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (48, 32, 64, 128), (0, 0, 1, 1), **settings)


@register
def efficientgcn_b1(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """410,337 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (64, 32, 80, 160), (1, 1, 1, 1), **settings)


@register
def efficientgcn_b2(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """534,465 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (64, 32, 96, 192), (1, 1, 2, 2), **settings)


@register
def efficientgcn_b3(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """754,601 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (80, 48, 112, 224), (1, 1, 2, 2), **settings)


@register
def efficientgcn_b4(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """1,119,945 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (96, 48, 128, 272), (2, 2, 3, 3), **settings)


@register
def efficientgcn_b0_2021(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """345,333 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (48, 32, 64, 128), (0, 0, 1, 1), "inverted", **settings)


@register
def efficientgcn_b1_2021(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """518,877 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (64, 32, 80, 160), (1, 1, 1, 1), "inverted", **settings)


@register
def efficientgcn_b2_2021(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """814,401 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (64, 32, 96, 192), (1, 1, 2, 2), "inverted", **settings)


@register
def efficientgcn_b3_2021(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """1,146,845 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (80, 48, 112, 224), (1, 1, 2, 2), "inverted", **settings)


@register
def efficientgcn_b4_2021(num_classes: int, layout: Layout, **settings) -> EfficientGCN:
    """2,055,585 parameters at 60 classes."""
    return EfficientGCN(num_classes, layout, (96, 48, 128, 272), (2, 2, 3, 3), "inverted", **settings)
