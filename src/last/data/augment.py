"""Random changes of whole clips, vectorised over the batch, the same code on CPU and GPU.

They act on joints before streams are made, so that all streams of a clip see the same change.
Shapes: N batch, C coordinates (2 or 3), T frames, V joints, M bodies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from last.config import TrainingConfig
from last.constants import constant
from last.skeleton import Layout


@dataclass(frozen=True)
class Augmentation:
    """What is done to a training clip; each setting off at zero.

    Attributes:
        crop: shortest and longest fraction of the clip's true length that is kept.
        jitter: draw each frame at random within its segment instead of evenly.
        rotation: largest angle about x, y and z in degrees; 2D clips take the one about z.
        scale: largest relative change of size.
        shear: largest share of one axis that is added to another.
        noise: standard deviation added to each coordinate, in units of the data.
        flip_time: probability of playing the clip backwards.
        flip_sides: probability of mirroring the body, left joints becoming right ones.
    """

    crop: tuple[float, float] = (1.0, 1.0)
    jitter: bool = False
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 0.0
    shear: float = 0.0
    noise: float = 0.0
    flip_time: float = 0.0
    flip_sides: float = 0.0

    @classmethod
    def from_config(cls, training: TrainingConfig) -> "Augmentation":
        """The augmentation of a recipe."""
        return cls(**{name: getattr(training, name) for name in cls.__dataclass_fields__})


def augment(
    x: Tensor, seen: Tensor | None, layout: Layout, settings: Augmentation, generator: Generator
) -> tuple[Tensor, Tensor | None]:
    """Rotate, scale, shear, disturb and flip each clip by its own draw.

    Args:
        x: joints, (N, C, T, V, M), around their origin.
        seen: what is known of each joint, (N, 1, T, V, M), flipped along with it.
        layout: the skeleton of ``x``.
        settings: how much of each.
        generator: on the device of ``x``.

    Returns:
        Both, as new tensors.
    """
    change = _linear_map(x.shape[0], x.shape[1], settings, generator, x.device)
    if change is not None:
        x = (change @ x.flatten(2)).view_as(x)
    if settings.noise:
        x = x + settings.noise * torch.randn(x.shape, generator=generator, device=x.device)
    if settings.flip_time:
        chosen = _chosen(x, settings.flip_time, generator)
        x = torch.where(chosen, x.flip(2), x)
        seen = None if seen is None else torch.where(chosen, seen.flip(2), seen)
    if settings.flip_sides:
        chosen = _chosen(x, settings.flip_sides, generator)
        other_side = constant(layout.mirror, torch.long, x.device)
        mirrored = x.index_select(3, other_side)
        mirrored[:, 0] = -mirrored[:, 0]
        x = torch.where(chosen, mirrored, x)
        seen = None if seen is None else torch.where(chosen, seen.index_select(3, other_side), seen)
    return x, seen


def _linear_map(
    count: int, size: int, settings: Augmentation, generator: Generator, device: torch.device
) -> Tensor | None:
    """Rotation, scale and shear as one matrix for each clip, (N, C, C), or None where all are off."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=device) * 2 - 1

    result = None
    rotation = settings.rotation if size == 3 else settings.rotation[2:]
    if any(rotation):
        limits = constant(tuple(map(math.radians, rotation)), torch.float32, device)
        result = rotation_matrices(uniform(len(rotation)) * limits)
    if settings.scale:
        scale = (1 + settings.scale * uniform(1, 1)) * torch.eye(size, device=device)
        result = scale if result is None else scale @ result
    if settings.shear:
        eye = torch.eye(size, device=device)
        shear = eye + settings.shear * uniform(size, size) * (1 - eye)
        result = shear if result is None else shear @ result
    return result


def rotation_matrices(angles: Tensor) -> Tensor:
    """Rotations about x, then y, then z, (N, 3, 3); or in the plane, (N, 2, 2).

    Args:
        angles: in radians, (N, 3) or (N, 1).
    """
    cos, sin = angles.cos(), angles.sin()
    if angles.shape[1] == 1:
        return _plane(cos[:, 0], sin[:, 0], 2, (0, 1))
    planes = ((1, 2), (2, 0), (0, 1))
    about_x, about_y, about_z = (_plane(cos[:, i], sin[:, i], 3, planes[i]) for i in range(3))
    return about_z @ about_y @ about_x


def _plane(cos: Tensor, sin: Tensor, size: int, axes: Sequence[int]) -> Tensor:
    a, b = axes
    matrix = torch.eye(size, device=cos.device).repeat(len(cos), 1, 1)
    matrix[:, a, a] = matrix[:, b, b] = cos
    matrix[:, a, b], matrix[:, b, a] = -sin, sin
    return matrix


def _chosen(x: Tensor, probability: float, generator: Generator) -> Tensor:
    return (torch.rand(x.shape[0], generator=generator, device=x.device) < probability).view(-1, 1, 1, 1, 1)
