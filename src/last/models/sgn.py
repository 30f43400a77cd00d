"""SGN: joints and frames are told which they are, and each frame's graph is made of its joints.

Zhang et al., "Semantics-Guided Neural Networks for Efficient Skeleton-Based Human Action Recognition", CVPR 2020.
Shapes: N batch, B rows (one a body), C channels, T frames, V joints, M bodies.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from last.models.layers.bodies import Bodies, fold_bodies, mean_over_bodies
from last.models.layers.inputs import joint_alone
from last.models.registry import Network, register
from last.skeleton import Layout


def embedding(in_channels: int, width: int, out_channels: int) -> nn.Sequential:
    """Two 1x1 convolutions: (B, C, T, V) -> (B, Cout, T, V)."""
    return nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.ReLU(), nn.Conv2d(width, out_channels, 1), nn.ReLU())


class JointNorm(nn.Module):
    """BatchNorm with statistics for each channel of each joint."""

    def __init__(self, channels: int, joints: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels * joints)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, V) of the same shape."""
        rows = x.transpose(2, 3)  # (B, C, V, T)
        return self.norm(rows.flatten(1, 2)).view(rows.shape).transpose(2, 3)


class FrameGraph(nn.Module):
    """How much each joint of a frame attends to each other."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.query = nn.Conv2d(in_channels, channels, 1)
        self.key = nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, V) -> (B, T, V, V), whose entry [.., v, w] carries joint v to joint w; columns sum to 1."""
        query, key = self.query(x).transpose(1, 2), self.key(x).transpose(1, 2)  # (B, T, C, V)
        return (key.transpose(2, 3) @ query).softmax(2)


class GraphConv(nn.Module):
    """Graph convolution beside one of each joint alone."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.neighbours = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.self_loop = nn.Conv2d(in_channels, out_channels, 1)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        """(B, C, T, V) and (B, T, V, V) -> (B, Cout, T, V)."""
        gathered = (x.transpose(1, 2) @ graph).transpose(1, 2)
        return self.norm(self.neighbours(gathered) + self.self_loop(x)).relu()


class SGN(Network):
    """SGN.

    The authors lay two bodies of a clip behind one another in time, frame by frame, and draw ``frames`` of the whole;
    here each body is a row of the batch, as in all networks of this package.

    Args:
        num_classes: size of the output.
        layout: the skeleton.
        width: channels of the embeddings.
        streams: ``joint`` alone; the velocity is made of it here.
        bodies: ``mean`` averages the features of the present bodies, ``padded`` those of all, ``first`` takes the first
            body alone.
        dropout: of whole channels, between the convolutions over time.
        frames: T, each of which has an embedding of its own.

    Raises:
        ValueError: other streams are asked for.
    """

    published_input = (20, 1)

    def __init__(
        self,
        num_classes: int,
        layout: Layout,
        width: int,
        streams: Sequence[str] = ("joint",),
        bodies: Bodies = "mean",
        dropout: float = 0.2,
        frames: int = 20,
    ):
        super().__init__()
        self.streams = joint_alone("SGN", streams)
        self.bodies: Bodies = bodies
        self.in_channels = layout.dimensions
        self.frames = frames
        joints = len(layout.joints)
        self.position, self.velocity = (
            nn.Sequential(JointNorm(self.in_channels, joints), *embedding(self.in_channels, width, width))
            for _ in range(2)
        )
        self.joint_names = embedding(joints, width, width)
        self.frame_numbers = embedding(frames, width, 4 * width)
        self.graph = FrameGraph(2 * width, 4 * width)
        graph_convs = [GraphConv(a * width, b * width) for a, b in ((2, 2), (2, 4), (4, 4))]
        self.graph_convs = nn.ModuleList(graph_convs)
        self.temporal = nn.Sequential(
            nn.Conv1d(4 * width, 4 * width, 3, padding=1),
            nn.BatchNorm1d(4 * width),
            nn.ReLU(),
            nn.Dropout1d(dropout),
            nn.Conv1d(4 * width, 8 * width, 1),
            nn.BatchNorm1d(8 * width),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                nn.init.normal_(module.weight, 0, math.sqrt(2 / (module.kernel_size[-1] * module.out_channels)))
        for conv in graph_convs:  # joints do not mix at first
            nn.init.zeros_(conv.neighbours.weight)

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Scores before softmax, (N, classes).

        Args:
            streams: stream name to (N, C, T, V, M).
            mask: which bodies are present, (N, M) bool; None means all.

        Raises:
            ValueError: T is not the number of frames that the network is built for.
        """
        x, owner = fold_bodies(streams, mask, self.streams, self.bodies)
        x = x.squeeze(1)
        frames, joints = x.shape[2:]
        if frames != self.frames:
            raise ValueError(
                f"SGN is built for clips of {self.frames} frames and was given {frames}; set data.frames to "
                f"{self.frames}, or build it with frames={frames}"
            )
        moved = F.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 1, 0))
        dynamics = self.position(x) + self.velocity(moved)
        name = self.joint_names(torch.eye(joints, dtype=x.dtype, device=x.device)[None, :, None])  # (1, C, 1, V)
        x = torch.cat([dynamics, name.expand(len(x), -1, frames, -1)], dim=1)
        graph = self.graph(x)
        for conv in self.graph_convs:
            x = conv(x, graph)
        which = torch.eye(frames, dtype=x.dtype, device=x.device)[None, :, :, None]
        features = self.temporal((x + self.frame_numbers(which)).amax(3)).amax(2)
        return self.classifier(mean_over_bodies(features, owner, len(streams["joint"])))


@register
def sgn(num_classes: int, layout: Layout, **settings) -> SGN:
    """691,048 parameters at 60 classes."""
    return SGN(num_classes, layout, 64, **settings)
