"""Convolutions that train as more than they are, and fold into what they stand for.

In evaluation all that lies between two nonlinearities is linear, so that several convolutions and BatchNorms there are
one; in training they are not, since BatchNorm's statistics are those of the batch, and since the gradient moves two
factors unlike their product. Shapes: N batch, C channels, T frames, V joints.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from last.models.layers.temporal_conv import depthwise

SHORT_KERNELS = (3, 5)
WIDENING = 2


class BranchedConv(nn.Module):
    """Parallel depthwise convolutions over time, each with its BatchNorm, summed.

    Beside the kernel that stays there are two shorter ones, and the frames as they are. A kernel of one frame is no
    branch beside these: BatchNorm takes its scale off again, which leaves the frames. After RepVGG (Ding et al., CVPR
    2021) and MobileOne (Vasu et al., CVPR 2023).

    Args:
        conv: the depthwise convolution that it stands for, without bias; it becomes the longest branch.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        channels, self.stride = conv.in_channels, conv.stride[0]
        short = (depthwise(channels, kernel, self.stride, conv.dilation[0]) for kernel in SHORT_KERNELS)
        self.convs = nn.ModuleList([*short, conv])
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(1 + len(self.convs)))
        norms: Any = self.norms
        for norm in norms:
            # Kernels are drawn with either sign, so that at the start the branches hardly depend on each other: these
            # weights give their sum the variance of one BatchNorm, and each branch the same share of it.
            nn.init.constant_(norm.weight, len(norms) ** -0.5)
            # The BatchNorm behind the next 1x1 convolution takes any shift off again, and no gradient would reach it.
            norm.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C, T/stride, V)."""
        frames, *norms = self.norms
        y = frames(x[:, :, :: self.stride])
        for conv, norm in zip(self.convs, norms, strict=True):
            y = y + norm(conv(x))
        return y

    @torch.no_grad()
    def fold(self) -> tuple[nn.Conv2d, Tensor]:
        """The one convolution of evaluation, and what it gives too much in each channel, (C,) float64."""
        branches: Any = zip([None, *self.convs], self.norms, strict=True)
        folded: Any = copy.deepcopy(self.convs[-1])
        kernel = torch.zeros_like(folded.weight, dtype=torch.double)  # (C, 1, longest, 1)
        surplus = kernel.new_zeros(len(kernel))
        for conv, norm in branches:
            weight = kernel.new_ones(len(kernel), 1, 1, 1) if conv is None else conv.weight.double()
            scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            margin = (kernel.shape[2] - weight.shape[2]) // 2
            kernel += scale[:, None, None, None] * F.pad(weight, (0, 0, margin, margin))
            surplus += scale * norm.running_mean.double()
        folded.weight.copy_(kernel)
        return folded, surplus


class WideConv(nn.Module):
    """A 1x1 convolution whose weight is the product of two matrices with a wider middle.

    ExpandNets (Guo et al., NeurIPS 2020), where small networks trained better so: the gradient moves each factor by the
    other. It is the matrices that are multiplied, not what passes through them, so that a step costs a small product
    more than the plain layer; parallel branches would cost a tensor of the output's size and a BatchNorm each.

    Args:
        conv: the 1x1 convolution that it stands for, of which it takes sizes, stride and whether there is a bias.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        middle = WIDENING * max(conv.in_channels, conv.out_channels)
        self.stride = conv.stride
        # Convolutions, for the optimiser to take their weights for such.
        self.widen = nn.Conv2d(conv.in_channels, middle, 1, bias=False)
        self.narrow = nn.Conv2d(middle, conv.out_channels, 1, bias=conv.bias is not None)
        # The entries of the product then have the variance that PyTorch gives those of the plain layer.
        nn.init.normal_(self.narrow.weight, std=middle**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T/stride, V)."""
        weight = self.narrow.weight.flatten(1) @ self.widen.weight.flatten(1)
        return F.conv2d(x, weight[:, :, None, None], self.narrow.bias, self.stride)

    @torch.no_grad()
    def fold(self) -> nn.Conv2d:
        """The one convolution."""
        widen, narrow = self.widen.weight.flatten(1).double(), self.narrow.weight.flatten(1).double()
        folded = nn.utils.skip_init(  # whose numbers would be drawn for nothing
            nn.Conv2d,
            self.widen.in_channels,
            self.narrow.out_channels,
            1,
            stride=self.stride,
            bias=self.narrow.bias is not None,
            device=widen.device,
            dtype=self.widen.weight.dtype,
        )
        folded.weight.copy_((narrow @ widen)[:, :, None, None])
        if self.narrow.bias is not None:
            folded.bias.copy_(self.narrow.bias)
        return folded.requires_grad_(self.widen.weight.requires_grad)


def branch(network: nn.Module) -> None:
    """Let each 1x1 and each depthwise convolution in a network train as several, in place.

    Args:
        network: its depthwise convolutions are those of :func:`last.models.layers.temporal_conv.separable_tcn`.
    """
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.Conv2d):
            setattr(network, name, WideConv(layer) if layer.kernel_size == (1, 1) else BranchedConv(layer))
        else:
            branch(layer)


def is_branched(network: nn.Module) -> bool:
    """Whether some layer trains as several."""
    return any(isinstance(layer, BranchedConv | WideConv) for layer in network.modules())


@torch.no_grad()
def fold(network: nn.Module) -> None:
    """Undo :func:`branch`, in place; in evaluation the network gives what it gave before."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, WideConv):
                setattr(parent, name, layer.fold())
    tcns: Any = (m for m in network.modules() if any(isinstance(layer, BranchedConv) for layer in m.children()))
    for tcn in tcns:
        _, _, branched, conv, norm = tcn
        tcn[2], surplus = branched.fold()
        norm.running_mean += conv.weight.flatten(1).double() @ surplus
