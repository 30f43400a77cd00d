"""LAST-E on a GPU: the same layers with the same parameters, by the Triton kernels.

Shapes: N batch, S streams, C channels, T frames, V joints.
"""

from typing import Any

import torch
from torch import Tensor, nn

from last.kernels.gpu.attention import attend
from last.kernels.gpu.fusion import fuse_streams
from last.kernels.gpu.graph import graph_norm
from last.kernels.gpu.temporal import temporal
from last.models.last_e import LightGCNBlock, StreamFusion


class GpuKernels:
    """What the layers of one LAST-E call instead of their plain selves, on a GPU."""

    def take(self, layer: nn.Module, x: Tensor) -> bool:
        """Whether they do this call: floating point on the GPU, and no gradients of the streams."""
        return (
            x.device.type == "cuda"
            and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
            and not (isinstance(layer, StreamFusion) and x.requires_grad and torch.is_grad_enabled())
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
        )

    def fuse(self, layer: StreamFusion, x: Tensor) -> Tensor:
        """(N, S, C, T, V) -> (N, C0, T, V)."""
        return fuse_streams(x, layer)

    def block(self, layer: LightGCNBlock, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, Cout, T/stride, V).

        The numbers of dropout come from the device's default generator by way of a seed on the device, so that a
        captured graph draws fresh ones at each replay.
        """
        y = graph_norm(x, layer.gcn.conv, layer.norm, layer.gcn)
        if not isinstance(layer.attention, nn.Identity):
            y = attend(y, layer.attention)
        projection: Any = layer.residual
        residual = x if isinstance(projection, nn.Identity) else graph_norm(x, *projection, relu=False)
        p = layer.tcn.dropout.p if layer.training else 0.0
        seed = torch.randint(2**31, (1,), device=x.device) if p > 0 else None
        return temporal(y, layer.tcn.branches, residual, p, seed)
