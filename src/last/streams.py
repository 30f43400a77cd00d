"""The streams: what networks see of a clip, made here and nowhere else.

They come last, from joints that are already resampled, augmented and normalised, so that no stream can disagree
with another. Shapes: N batch, C channels, T frames, V joints, M bodies.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from last.constants import constant
from last.skeleton import Layout

Origin = Literal["first_frame", "each_frame", "stored"]
STREAMS = ("joint", "velocity", "bone")  # of LAST, where nothing else is asked for
KNOWN = (*STREAMS, "bone_velocity", "mirror", "partner")


def joint(x: Tensor, layout: Layout, origin: Origin) -> Tensor:
    """Positions relative to the first body's root joint, (N, C, T, V, M).

    Args:
        x: joints, (N, C, T, V, M).
        layout: the skeleton of ``x``.
        origin: the root of the clip's first frame, which keeps the path through the room, or of each frame. One
            origin for all bodies keeps the distance between two persons. ``stored`` leaves ``x`` as it is.
    """
    if origin == "stored":
        return x
    root = x[:, :, :, layout.root : layout.root + 1, :1]
    return x - (root[:, :, :1] if origin == "first_frame" else root)


def velocity(x: Tensor) -> Tensor:
    """x[t+1] - x[t], the last frame zero, (N, C, T, V, M)."""
    return torch.cat([x[:, :, 1:] - x[:, :, :-1], torch.zeros_like(x[:, :, :1])], dim=2)


def bone(x: Tensor, layout: Layout) -> Tensor:
    """x[v] - x[parent(v)], the root zero, (N, C, T, V, M)."""
    return x - _joints(x, layout.parents)


def mirror(x: Tensor, layout: Layout) -> Tensor:
    """x[v] - x[mirror(v)], from the same joint of the other side; zero on the midline, (N, C, T, V, M).

    Hands are eight bones apart, further than a small network's graph convolutions reach.
    """
    return x - _joints(x, layout.mirror)


def partner(x: Tensor, layout: Layout, mask: Tensor | None = None) -> Tensor:
    """Positions relative to the root of another body in the same frame, zero where there is none, (N, C, T, V, M).

    Networks that see each body by itself learn from it what goes on between two. For all bodies but the first the other
    is the first, for the first it is the second.

    Args:
        x: joints, (N, C, T, V, M).
        layout: the skeleton of ``x``.
        mask: present bodies, (N, M) bool; None means all.
    """
    if x.shape[4] == 1:
        return torch.zeros_like(x)
    difference = x - _partners(x[:, :, :, layout.root, None])
    return difference if mask is None else difference * (mask & _partners(mask))[:, None, None, None]


def _joints(x: Tensor, places: tuple[int, ...]) -> Tensor:
    """What is said of these joints, (N, C, T, V, M)."""
    return x.index_select(3, constant(places, torch.long, x.device))


def _partners(x: Tensor) -> Tensor:
    """What is said of the other body of each of two or more, (..., M)."""
    return x.index_select(-1, constant((1, *[0] * (x.shape[-1] - 1)), torch.long, x.device))


def ends(x: Tensor, layout: Layout, name: str) -> tuple[Tensor, Tensor]:
    """For each value of a stream, what is said in ``x`` of the two joints whose difference it is.

    Args:
        x: something said of each joint, such as whether it was seen, (N, C, T, V, M).
        layout: the skeleton.
        name: of the stream.

    Returns:
        Twice (N, C, T, V, M); the same joint where the stream takes no difference. Of the four joints that a bone's
        velocity takes, the less known of each frame's two.
    """
    if name == "bone_velocity":
        known = torch.minimum(*ends(x, layout, "bone"))
        return ends(known, layout, "velocity")
    if name == "velocity":
        return x, torch.cat([x[:, :, 1:], x[:, :, -1:]], dim=2)
    if name == "bone":
        return x, _joints(x, layout.parents)
    if name == "mirror":
        return x, _joints(x, layout.mirror)
    if name == "partner":
        if x.shape[4] == 1:
            return x, torch.zeros_like(x)
        return x, _partners(x[:, :, :, layout.root, None]).expand_as(x)
    return x, x


def make(
    x: Tensor,
    layout: Layout,
    names: Sequence[str] = STREAMS,
    origin: Origin = "first_frame",
    mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """The named streams of a batch of joints.

    Args:
        x: joints, (N, C, T, V, M), augmented and normalised; absent bodies zero.
        layout: the skeleton of ``x``.
        names: of those that are :data:`KNOWN`.
        origin: see :func:`joint`.
        mask: present bodies, (N, M) bool; None means all.

    Returns:
        Stream name to (N, C, T, V, M), in the order of ``names``.
    """
    makers = {
        "joint": lambda: joint(x, layout, origin),
        "velocity": lambda: velocity(x),
        "bone": lambda: bone(x, layout),
        "bone_velocity": lambda: velocity(bone(x, layout)),
        "mirror": lambda: mirror(x, layout),
        "partner": lambda: partner(x, layout, mask),
    }
    return {name: makers[name]() for name in names}
