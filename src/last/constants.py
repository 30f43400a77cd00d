"""Constants of a few numbers that lie on the device, so that no batch has to bring them there and wait."""

from functools import cache

import torch
from torch import Tensor


@cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values as a tensor on the device, made once, (len(values),); not to be written to."""
    with torch.inference_mode(False):  # also where evaluation asks first, since training may ask for it later
        return torch.tensor(values, dtype=dtype, device=device)
