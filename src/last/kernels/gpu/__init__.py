"""Triton kernels of LAST-E for NVIDIA GPUs, in training and inference.

Plain PyTorch writes and reads every intermediate; here each operation moves its inputs, its result, and what BatchNorm
forces it to. Networks take them by :mod:`last.kernels.gpu.block`, which needs Triton to be imported; ask :func:`fault`
before.
"""

from importlib.util import find_spec

import torch

# bfloat16 in the matrix units, and shared memory for the widest tile.
LEAST_CAPABILITY = (8, 0)
LEAST_TRITON = (3, 2)


def fault(device: torch.device) -> str | None:
    """Why these kernels cannot be used on a device, in a sentence; None where they can."""
    if device.type != "cuda":
        return f"the Triton kernels run on NVIDIA GPUs, and the device is {device}"
    if torch.version.hip is not None:
        return "the Triton kernels are written for NVIDIA GPUs, and this PyTorch is built for AMD's"
    if find_spec("triton") is None:
        return "Triton is not installed; install it with `pip install triton`"
    import triton  # here, since most machines without a GPU have none

    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < LEAST_TRITON:
        return f"Triton is {triton.__version__}, and the kernels need {'.'.join(map(str, LEAST_TRITON))} or newer"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return (
            f"{torch.cuda.get_device_name(device)} has compute capability {capability[0]}.{capability[1]}, and the "
            f"Triton kernels need {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]} or newer"
        )
    return None
