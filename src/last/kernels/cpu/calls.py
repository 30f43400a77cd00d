"""The arguments of the kernels, field by field as in native/*.cpp."""

import ctypes
from typing import Any

from torch import Tensor, get_num_threads

from last.kernels.cpu.build import library

_POINTER, _WHOLE, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class NormFields(ctypes.Structure):
    """A BatchNorm."""

    _fields_ = [
        *_fields(_POINTER, "weight bias running_mean running_variance mean inverse"),
        *_fields(_REAL, "momentum epsilon"),
    ]


class Call(ctypes.Structure):
    """The arguments of a kernel, by name: tensors become pointers, None a null pointer."""

    def __init__(self, clips: int, **values: Any) -> None:
        super().__init__()
        self.give(threads=min(get_num_threads(), clips), clips=clips, **values)

    def give(self, **values: Any) -> None:
        """Set more of them."""
        for name, value in values.items():
            assert hasattr(type(self), name), name  # a ctypes structure takes any name, and leaves the field null
            setattr(self, name, value.data_ptr() if isinstance(value, Tensor) else value)

    def run(self, kernel: str, **values: Any) -> None:
        """Set the last of them, and do the work."""
        self.give(**values)
        getattr(library(), kernel)(ctypes.byref(self))


class GraphNormCall(Call):
    """Of graph_norm.cpp."""

    _fields_ = [
        *_fields(_WHOLE, "threads clips inputs outputs joints frames stride edges relu training"),
        *_fields(_POINTER, "source first coefficient weight bias"),
        ("norm", NormFields),
        *_fields(_POINTER, "x y out over_joints over_frames gradient of_over_joints of_over_frames"),
        *_fields(_POINTER, "dx dcoefficient dweight dscale doffset"),
    ]


class GateCall(Call):
    """Of gate.cpp."""

    _fields_ = [
        *_fields(_WHOLE, "threads clips channels joints frames"),
        *_fields(_POINTER, "x of_frames of_joints alpha out gradient dx dof_frames dof_joints dalpha"),
    ]


class TemporalCall(Call):
    """Of temporal.cpp."""

    _fields_ = [
        *_fields(_WHOLE, "threads clips channels joints frames stride training"),
        ("dilation", _WHOLE * 2),
        *_fields(_POINTER * 2, "kernel weight"),
        *_fields(NormFields * 2, "before after"),
        ("p", _REAL),
        ("seed", ctypes.c_uint64),
        *_fields(_POINTER, "x residual y out gradient dx dresidual dkernel dweight"),
        *_fields(_POINTER, "dscale_before doffset_before dscale doffset"),
    ]


class TapMomentsCall(Call):
    """Of tap_moments.cpp."""

    _fields_ = [
        *_fields(_WHOLE, "threads clips channels joints frames stride"),
        ("dilation", _WHOLE * 2),
        ("before", NormFields * 2),
        *_fields(_POINTER, "x pivot means covariance gradient dx dscale doffset"),
    ]


class FusionCall(Call):
    """Of fusion.cpp."""

    _fields_ = [
        *_fields(_WHOLE, "threads clips streams inputs outputs size training"),
        *_fields(_POINTER, "each stem weights"),
        ("norm", NormFields),
        *_fields(_POINTER, "x out gradient products sums dweights dscale doffset"),
    ]


def norm_fields(norm: Any, weight: Tensor, bias: Tensor, statistics: Tensor, place: int = 0) -> NormFields:
    """A BatchNorm, and where the kernel keeps what it normalises by: ``statistics[place]`` of (norms, 2, C)."""
    tensors = (weight, bias, norm.running_mean, norm.running_var)
    line = statistics.element_size() * norm.num_features
    kept = statistics.data_ptr() + 2 * place * line  # slices of tensors take longer than all the rest of a call
    return NormFields(*(tensor.data_ptr() for tensor in tensors), kept, kept + line, norm.momentum, norm.eps)
