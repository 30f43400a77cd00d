"""Mixed precision: what it means on the device at hand."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """What automatic mixed precision does on a device."""

    dtype: torch.dtype | None
    note: str

    @classmethod
    def choose(cls, amp: bool, device: torch.device) -> "Precision":
        """bfloat16 where the GPU has it, else float16 with loss scaling; float32 without a GPU."""
        if not amp:
            return cls(None, "float32")
        if device.type != "cuda":
            return cls(None, f"float32 (--amp asks for mixed precision, which needs a GPU; the device is {device})")
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return cls(torch.bfloat16, "mixed precision, bfloat16")
        return cls(torch.float16, "mixed precision, float16 with loss scaling")

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """In which forward passes run."""
        if self.dtype is None:
            return nullcontext()
        # A cached copy of a weight would be that of the step which a CUDA graph recorded.
        return torch.autocast(device.type, self.dtype, cache_enabled=False)
