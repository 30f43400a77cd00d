"""The depthwise convolution over time against the same in float64, which PyTorch computes by another path."""

import pytest
import torch

from last.models.layers.temporal_conv import depthwise


@pytest.mark.parametrize("frames", [1, 2, 8, 31, 32, 33, 63, 93])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (2, 2)])
def test_gradients_are_those_of_twice_the_precision(frames, stride, dilation):
    torch.manual_seed(0)
    conv = depthwise(24, 9, stride, dilation)
    x = torch.randn(4, 24, frames, 20, requires_grad=True)
    results = []
    for layer, given in (
        (conv, x),
        (depthwise(24, 9, stride, dilation).double(), x.detach().double().requires_grad_()),
    ):
        layer.load_state_dict(conv.state_dict())
        y = layer(given)
        weight = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
        (y * weight).sum().backward()
        results.append((y, given.grad, layer.weight.grad))
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-3)
