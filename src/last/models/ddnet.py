"""DD-Net: the distances between joints and two speeds of their motion, seen by 1D convolutions over time.

Yang et al., "Make Skeleton-based Action Recognition Model Smaller, Faster and Better", ACM MM Asia 2019.
Shapes: N batch, B rows (one a body), C channels, T frames, V joints, M bodies, P = V (V - 1) / 2 pairs of joints.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from last.models.layers.bodies import Bodies, fold_bodies, mean_over_bodies
from last.models.layers.inputs import joint_alone
from last.models.registry import Network, register
from last.skeleton import Layout


class KerasBatchNorm(nn.Module):
    """BatchNorm with the epsilon of Keras, which the authors used.

    Keras's momentum, 0.99, is left out: its running statistics lag behind for hundreds of steps, and a short training
    would be scored with them.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, T) of the same shape."""
        norm = self.norm
        if self.training and x.numel() == x.shape[1]:  # a last batch of one clip has no variance
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return norm(x)


def conv(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Convolution, BatchNorm, LeakyReLU: (B, C, T) -> (B, Cout, T)."""
    return nn.Sequential(
        nn.Conv1d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        KerasBatchNorm(out_channels),
        nn.LeakyReLU(0.2),
    )


def embedding(in_channels: int, filters: int, halve: bool) -> nn.Sequential:
    """What each input passes on its own: (B, C, T) -> (B, filters, T), or T // 2 where halved."""
    return nn.Sequential(
        conv(in_channels, 2 * filters, 1),
        nn.Dropout1d(0.1),
        conv(2 * filters, filters, 3),
        nn.Dropout1d(0.1),
        conv(filters, filters, 1),
        nn.MaxPool1d(2) if halve else nn.Identity(),
        nn.Dropout1d(0.1),
    )


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions: (B, C, T) -> (B, Cout, T)."""
    return nn.Sequential(conv(in_channels, out_channels, 3), conv(out_channels, out_channels, 3))


def motion(x: Tensor, frames: int) -> Tensor:
    """Differences of successive frames, stretched to a number of frames: (B, V, C, T) -> (B, V * C, frames)."""
    moved = (x[..., 1:] - x[..., :-1]).flatten(1, 2)
    return F.interpolate(moved, size=frames, mode="linear", align_corners=False)


class DDNet(Network):
    """DD-Net.

    The paper's network sees one person. Of several, the features are averaged; nothing tells it how they stand to each
    other.

    Args:
        num_classes: size of the output.
        layout: the skeleton.
        filters: width of the first convolutions.
        streams: ``joint`` alone; distances and motions are made of it here.
        bodies: ``mean`` averages the features of the present bodies, ``padded`` those of all, ``first`` takes the first
            body alone.
        dropout: before the classifier.

    Raises:
        ValueError: other streams are asked for.
    """

    pairs: Tensor
    published_input = (32, 1)

    def __init__(
        self,
        num_classes: int,
        layout: Layout,
        filters: int,
        streams: Sequence[str] = ("joint",),
        bodies: Bodies = "mean",
        dropout: float = 0.5,
    ):
        super().__init__()
        self.streams = joint_alone("DD-Net", streams)
        self.bodies: Bodies = bodies
        self.in_channels = layout.dimensions
        joints = len(layout.joints)
        self.register_buffer("pairs", torch.triu_indices(joints, joints, 1), persistent=False)
        coordinates = joints * self.in_channels
        self.distances = embedding(joints * (joints - 1) // 2, filters, halve=True)
        self.slow = embedding(coordinates, filters, halve=True)
        self.fast = embedding(coordinates, filters, halve=False)
        self.blocks = nn.Sequential(
            block(3 * filters, 2 * filters),
            nn.MaxPool1d(2),
            nn.Dropout1d(0.1),
            block(2 * filters, 4 * filters),
            nn.MaxPool1d(2),
            nn.Dropout1d(0.1),
            block(4 * filters, 8 * filters),
            nn.Dropout1d(0.1),
        )
        self.head = nn.Sequential(
            nn.Linear(8 * filters, 128, bias=False),
            KerasBatchNorm(128),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.5),
            nn.Linear(128, 128, bias=False),
            KerasBatchNorm(128),
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
        )
        self.classifier = nn.Linear(128, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def joint_distances(self, x: Tensor) -> Tensor:
        """How far each pair of joints is apart, less and over the clip's mean: (B, V, C, T) -> (B, P, T)."""
        one, other = self.pairs
        # A norm over a strided axis takes four times as long; joints need no gradient, which has no value at 0 here.
        distances = (x.index_select(1, one) - x.index_select(1, other)).square().sum(2).sqrt()
        mean = distances.mean((1, 2), keepdim=True)
        return (distances - mean) / mean.clamp(min=1e-6)

    def forward(self, streams: Mapping[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Scores before softmax, (N, classes).

        Args:
            streams: stream name to (N, C, T, V, M), T at least 8.
            mask: which bodies are present, (N, M) bool; None means all.
        """
        x, owner = fold_bodies(streams, mask, self.streams, self.bodies)
        x = x.squeeze(1).permute(0, 3, 1, 2)  # (B, V, C, T)
        frames = x.shape[-1]
        parts = [
            self.distances(self.joint_distances(x)),
            self.slow(motion(x, frames)),
            self.fast(motion(x[..., ::2], frames // 2)),
        ]
        features = self.blocks(torch.cat(parts, dim=1)).amax(2)
        return self.classifier(self.head(mean_over_bodies(features, owner, len(streams["joint"]))))


@register
def ddnet(num_classes: int, layout: Layout, **settings) -> DDNet:
    """1,836,348 parameters at 60 classes; 1,819,278 at the 14 of SHREC with its 22 joints."""
    return DDNet(num_classes, layout, 64, **settings)


@register
def ddnet_small(num_classes: int, layout: Layout, **settings) -> DDNet:
    """161,916 parameters at 60 classes; 153,198 at the 14 of SHREC with its 22 joints."""
    return DDNet(num_classes, layout, 16, **settings)
