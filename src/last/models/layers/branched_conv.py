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

    def one_kernel(self, means: Tensor, covariance: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The one convolution that this step amounts to, with a gradient; the running statistics move as by a call.

        BatchNorm's statistics behind a convolution follow from how the frames that its kernel spans go together in the
        batch: no branch need be computed for them.

        Args:
            means: over the batch, of each such frame, (C, K) float64.
            covariance: of the same, (C, K, K) float64.
            count: results in the batch, of each channel.

        Returns:
            Its kernel, (C, K), and what it gives too much in each channel, (C,) float64 without a gradient.
        """
        kernels = self._kernels().double()
        mean = kernels @ means[:, :, None]  # (C, B, 1)
        variance = ((kernels @ covariance) * kernels).sum(2).clamp(min=0)
        with torch.no_grad():
            unbiased = variance * count / max(1, count - 1)
            norms: Any = self.norms
            for norm, of_mean, of_variance in zip(norms, mean[:, :, 0].t(), unbiased.t(), strict=True):
                norm.num_batches_tracked += 1
                norm.running_mean.lerp_(of_mean.to(norm.running_mean), norm.momentum)
                norm.running_var.lerp_(of_variance.to(norm.running_var), norm.momentum)
        kernel, surplus = self._sum(kernels, mean[:, :, 0], variance)
        return kernel.to(norms[0].weight.dtype), surplus.detach()

    @torch.no_grad()
    def fold(self) -> tuple[nn.Conv2d, Tensor]:
        """The one convolution of evaluation, and what it gives too much in each channel, (C,) float64."""
        folded: Any = copy.deepcopy(self.convs[-1])
        norms: Any = self.norms
        mean = torch.stack([norm.running_mean for norm in norms], 1).double()
        variance = torch.stack([norm.running_var for norm in norms], 1).double()
        kernel, surplus = self._sum(self._kernels().double(), mean, variance)
        folded.weight.copy_(kernel.view_as(folded.weight))
        return folded, surplus

    def _kernels(self) -> Tensor:
        """Those of the branches, the frames' first, each as long as the longest: (C, B, K)."""
        convs: Any = self.convs
        kernels = [conv.weight.flatten(1) for conv in convs]
        longest = kernels[-1].shape[1]
        frames = torch.ones_like(kernels[0][:, :1])
        return torch.stack([F.pad(k, [(longest - k.shape[1]) // 2] * 2) for k in (frames, *kernels)], 1)

    def _sum(self, kernels: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The branches' sum, (C, K), and what it gives too much, (C,), by statistics (C, B) of their results."""
        norms: Any = self.norms
        scale = torch.stack([norm.weight for norm in norms], 1) / (variance + norms[0].eps).sqrt()
        return (scale[:, :, None] * kernels).sum(1), (scale * mean).sum(1)


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
        return F.conv2d(x, self.weight, self.bias, self.stride)

    @property
    def weight(self) -> Tensor:
        """The product, (Cout, C, 1, 1)."""
        return (self.narrow.weight.flatten(1) @ self.widen.weight.flatten(1))[:, :, None, None]

    @property
    def bias(self) -> Tensor | None:
        """What is added, (Cout,)."""
        return self.narrow.bias

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
