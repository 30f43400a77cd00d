"""Convolution over time. Shapes: N batch, C channels, T frames, V joints."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL = 9


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    """A convolution of each channel over time, (N, C, T, V) to (N, C, T/stride, V), without bias.

    Args:
        channels: C.
        kernel: frames that it looks at, an odd number.
        stride: frames from one result to the next.
        dilation: frames from one that it looks at to the next.
    """
    conv = nn.Conv2d(
        channels,
        channels,
        (kernel, 1),
        stride=(stride, 1),
        padding=(kernel // 2 * dilation, 0),
        dilation=(dilation, 1),
        groups=channels,
        bias=False,
    )
    if stride == 2:
        conv.register_forward_pre_hook(_evened)
    return conv


def _evened(conv: nn.Conv2d, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    """An odd number of frames and one of zeros behind them, which the convolution's padding has there anyhow.

    Without it oneDNN, as PyTorch 2.13 has it, gives a wrong gradient of a kernel of nine frames over 33, 63, 93 and
    more: two of the nine are off by up to 27 % of the largest.
    """
    (x,) = inputs
    if x.shape[2] % 2 and x.device.type == "cpu" and torch.is_grad_enabled():
        return (F.pad(x, (0, 0, 0, 1)),)
    return None


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
