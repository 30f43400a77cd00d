"""Attention over frames and joints. Shapes: N batch, C channels, T frames, V joints, r reduced channels."""

import torch
from torch import Tensor, nn


class STJointAttention(nn.Module):
    """ST_JointAtt: one branch over frames, one over joints, blended in by a learned amount that starts at zero.

    EfficientGCN (Song et al., TPAMI 2022), with a branch of its own for each axis.
    """

    def __init__(self, channels: int):
        super().__init__()
        reduced = max(4, channels // 4)

        def branch() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, reduced, 1, bias=False),
                nn.BatchNorm2d(reduced),
                nn.ReLU(),
                nn.Conv2d(reduced, channels, 1, bias=False),
                nn.Sigmoid(),
            )

        self.over_frames = branch()
        self.over_joints = branch()
        self.alpha = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C, T, V)."""
        a_t = self.over_frames(x.mean(3, keepdim=True))
        a_v = self.over_joints(x.mean(2, keepdim=True))
        return x + self.alpha * (x * a_t * a_v - x)
