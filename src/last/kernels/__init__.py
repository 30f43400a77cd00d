"""Faster ways to compute LAST-E, with the parameters and, to rounding, the results of its plain layers."""

import torch
from torch import nn

from last.kernels import gpu
from last.kernels.cpu.block import CpuKernels
from last.kernels.cpu.build import BuildError, library, uses_threads
from last.models import family_of
from last.models.last_e import Kernels, LastE, LightGCNBlock, StreamFusion
from last.models.layers.branched_conv import is_branched
from last.setting_values import ConfigError
from last.settings import KernelMode


def accelerate(model: nn.Module, device: torch.device, mode: KernelMode = "auto") -> str:
    """Give a network the kernels for a device, where there are some.

    Args:
        model: any; weights and their names stay what they are.
        device: where it is.
        mode: ``auto`` takes them where it can, ``fused`` insists, ``plain`` takes them away.

    Returns:
        What was chosen and why, in a few words.

    Raises:
        ConfigError: there are none here, and the mode is ``fused``.
    """
    kernels: Kernels | None = None
    branched = device.type == "cuda" and is_branched(model)
    note = "PyTorch's layers"
    if mode != "plain":
        fault = _fault(device) if isinstance(model, LastE) else f"{type(model).__name__} has none"
        if branched and mode == "fused":
            fault = "blocks that train as branches have none on a GPU"
        if isinstance(model, LastE) and fault is None:
            kernels, note = _kernels(model, device)
            note += " but for blocks, which train as branches" if branched else ""
        elif mode == "fused":
            raise ConfigError(f"environment.kernels is fused, and there are no kernels: {fault}; use auto or plain")
        else:
            slower = ", which are about three times slower" if isinstance(model, LastE) else ""
            note = f"PyTorch's layers{slower}; no kernels: {fault}"
    for layer in model.modules():
        if isinstance(layer, LightGCNBlock | StreamFusion):
            layer.kernels = None if branched and isinstance(layer, LightGCNBlock) else kernels
    return note


def kernel_fault(model: str, device: torch.device) -> str | None:
    """Why a network has no kernels on a device, in a few words; None where it has.

    Args:
        model: registered name.
        device: where it is to be.

    Raises:
        ValueError: there is no such model.
    """
    return _fault(device) if family_of(model) == "LAST-E" else "there are no kernels for it"


def _fault(device: torch.device) -> str | None:
    if device.type == "cuda":
        return gpu.fault(device)
    try:
        library()
    except BuildError as reason:
        return str(reason)
    return None


def _kernels(model: LastE, device: torch.device) -> tuple[Kernels, str]:
    if device.type == "cuda":
        from last.kernels.gpu.block import GpuKernels  # imports Triton

        return GpuKernels(), "fused kernels (Triton)"
    return CpuKernels(model), "fused kernels (C++)" if uses_threads() else "fused kernels (C++), on one thread"
