"""Convolution over time. Shapes: N batch, C channels, T frames, V joints."""

from torch import nn

KERNEL = 9


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    """A convolution of each channel over time, (N, C, T, V) to (N, C, T/stride, V), without bias.

    Args:
        channels: C.
        kernel: frames that it looks at, an odd number.
        stride: frames from one result to the next.
        dilation: frames from one that it looks at to the next.
    """
    return nn.Conv2d(
        channels,
        channels,
        (kernel, 1),
        stride=(stride, 1),
        padding=(kernel // 2 * dilation, 0),
        dilation=(dilation, 1),
        groups=channels,
        bias=False,
    )


def separable_tcn(channels: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """BatchNorm, ReLU, depthwise 9x1 with the stride and dilation, 1x1, BatchNorm.

    The network takes (N, C, T, V) to (N, C, T/stride, V).
    """
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        depthwise(channels, KERNEL, stride, dilation),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


def residual(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Identity where the shape stays, else a strided 1x1 convolution and BatchNorm."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=(stride, 1)),
        nn.BatchNorm2d(out_channels),
    )
