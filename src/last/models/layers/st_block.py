"""Blocks of a graph and a temporal convolution, as ST-GCN introduced them.

Shapes: N batch, C channels, T frames, V joints.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from last.models.layers.stages import block_sizes
from last.models.layers.temporal_conv import residual


class STBlock(nn.Module):
    """Graph convolution, temporal convolution, residual (Yan et al., AAAI 2018).

    Args:
        gcn: (N, C, T, V) -> (N, Cout, T, V).
        tcn: (N, Cout, T, V) -> (N, Cout, T/stride, V).
        residual: of the shapes of both together; None leaves it out.
    """

    def __init__(self, gcn: nn.Module, tcn: nn.Module, residual: nn.Module | None):
        super().__init__()
        self.gcn = gcn
        self.tcn = tcn
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T/stride, V)."""
        y = self.tcn(self.gcn(x))
        return (y if self.residual is None else y + self.residual(x)).relu()


def st_blocks(
    in_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    gcn: Callable[[int, int], nn.Module],
    tcn: Callable[[int, int], nn.Module],
) -> nn.Sequential:
    """Stages of blocks; the first of all but the first stage halves the frames, the very first has no residual.

    Args:
        in_channels: of the input.
        channels: of each stage.
        blocks: of each stage.
        gcn: makes a graph convolution of channels in and out.
        tcn: makes a temporal convolution of channels and stride.
    """
    made: list[nn.Module] = []
    for _, before, size, stride in block_sizes(in_channels, channels, blocks):
        convolutions = gcn(before, size), tcn(size, stride)
        made.append(STBlock(*convolutions, residual(before, size, stride) if made else None))
    return nn.Sequential(*made)
