"""Random changes of whole clips, vectorised over the batch, the same code on CPU and GPU.

They act on joints before streams are made, so that all streams of a clip see the same change.
Shapes: N batch, C coordinates (2 or 3), T frames, V joints, M bodies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Generator, Tensor

from last.constants import constant
from last.settings import TrainingConfig
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
        warp: largest relative change of speed within the clip, which stays smooth and keeps its ends.
        limbs: largest relative change of the length of each bone, the same on both sides of the body.
        hide_joints: probability of hiding each joint for the whole clip.
        hide_limb: probability of hiding a joint drawn at random and all that hang from it.
        hide_frames: largest share of the clip, in one piece, in which nothing is seen.
        mix: probability of mixing in up to one half of another clip of the batch, and of its label.
    """

    crop: tuple[float, float] = (1.0, 1.0)
    jitter: bool = False
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 0.0
    shear: float = 0.0
    noise: float = 0.0
    flip_time: float = 0.0
    flip_sides: float = 0.0
    warp: float = 0.0
    limbs: float = 0.0
    hide_joints: float = 0.0
    hide_limb: float = 0.0
    hide_frames: float = 0.0
    mix: float = 0.0

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
    if settings.limbs:
        x = _stretched(x, layout, settings.limbs, generator)
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


def _stretched(x: Tensor, layout: Layout, limbs: float, generator: Generator) -> Tensor:
    """Each bone by a factor of its own and its mirror's, the limbs beyond it moving along."""
    count = len(layout.parents)
    draws = torch.rand(x.shape[0], count, generator=generator, device=x.device) * 2 - 1
    sides = constant(tuple(map(min, range(count), layout.mirror)), torch.long, x.device)
    factor = 1 + limbs * draws.index_select(1, sides)
    # Where a joint comes to lie: the root, and the bones on the way from there, which are differences of joints.
    way = _way_from_root(layout, x.device)
    root = constant(tuple(float(v == layout.root) for v in range(count)), torch.float32, x.device)
    one_hot = torch.eye(count, device=x.device)
    bones = one_hot - one_hot.index_select(0, constant(layout.parents, torch.long, x.device))  # the root's is zero
    matrix = (way * factor[:, None, :]) @ bones + root  # (N, V, V)
    return torch.einsum("nvw,nctwm->nctvm", matrix, x)


def _way_from_root(layout: Layout, device: torch.device) -> Tensor:
    """Whether joint w lies on the way from the root to joint v, or is v, (V, V) with 1 for true."""
    return constant(_ways(layout.parents), torch.float32, device).view(len(layout.parents), -1)


@cache
def _ways(parents: tuple[int, ...]) -> tuple[bool, ...]:
    """Row by row, whether each joint is among the ancestors of another, itself included."""
    rows = []
    for joint in range(len(parents)):
        ancestors = {joint}
        while parents[joint] != joint:
            joint = parents[joint]
            ancestors.add(joint)
        rows.extend(other in ancestors for other in range(len(parents)))
    return tuple(rows)


def hidden(
    shape: Sequence[int], layout: Layout, settings: Augmentation, generator: Generator, device: torch.device
) -> Tensor | None:
    """What is hidden of each clip, (N, 1, T, V, 1) bool, or None where the settings hide nothing.

    Args:
        shape: of the joints, (N, C, T, V, M).
        layout: the skeleton.
        settings: how much of each.
        generator: on the device.
        device: of the joints.
    """
    clips, frames, joints = shape[0], shape[2], shape[3]

    def draw(*size: int) -> Tensor:
        return torch.rand(clips, *size, generator=generator, device=device)

    result = None
    if settings.hide_joints:
        result = (draw(joints) < settings.hide_joints).view(clips, 1, 1, joints, 1)
    if settings.hide_limb:
        below = _way_from_root(layout, device).T  # (w, v): v hangs from w
        small = (below.sum(1) <= joints / 2).float()
        first = (draw(joints) * small).argmax(1)
        limb = (draw(1) < settings.hide_limb) & (below.index_select(0, first) > 0)
        limb = limb.view(clips, 1, 1, joints, 1)
        result = limb if result is None else result | limb
    if settings.hide_frames:
        length = settings.hide_frames * draw(1)
        start = (1 - length) * draw(1)
        place = (torch.arange(frames, device=device) + 0.5) / frames
        span = ((place >= start) & (place < start + length)).view(clips, 1, frames, 1, 1)
        result = span if result is None else result | span
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
