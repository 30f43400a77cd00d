"""Normalisation of whole clips. Shapes: N batch, C coordinates, T frames, V joints, M bodies.

Every function takes joints (N, C, T, V, M) and the present bodies (N, M), and returns joints of the same shape.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from last.constants import constant
from last.setting_values import ConfigError
from last.skeleton import Layout


def torso(x: Tensor, mask: Tensor, layout: Layout) -> Tensor:
    """Divide by the first body's mean torso length: root to graph centre, or hips to shoulders where these coincide.

    Raises:
        ConfigError: the layout has neither.
    """
    first = x[..., 0]
    if layout.root != layout.centre:
        trunk = first[..., layout.centre] - first[..., layout.root]
    else:
        shoulders, hips = layout.pair("shoulder"), layout.pair("hip")
        if shoulders is None or hips is None:
            raise ConfigError(
                f"normalisation 'torso' needs a centre apart from the root, or shoulders and hips, and layout "
                f"'{layout.name}' has neither; leave it out of data.normalise"
            )
        trunk = _between(first, shoulders) - _between(first, hips)
    length = trunk.norm(dim=1).mean(1).clamp(min=1e-6)
    return x / length.view(-1, 1, 1, 1, 1)


def _between(x: Tensor, pair: tuple[int, int]) -> Tensor:
    return (x[..., pair[0]] + x[..., pair[1]]) / 2


def minmax(x: Tensor, mask: Tensor, layout: Layout) -> Tensor:
    """Map each axis of each clip to [-1, 1], over all frames, joints and present bodies."""
    absent = ~mask[:, None, None, None, :]
    low = x.masked_fill(absent, torch.inf).amin((2, 3, 4), keepdim=True)
    high = x.masked_fill(absent, -torch.inf).amax((2, 3, 4), keepdim=True)
    return ((x - low) / (high - low).clamp(min=1e-6) * 2 - 1).masked_fill(absent, 0)


def front(x: Tensor, mask: Tensor, layout: Layout) -> Tensor:
    """Turn about the vertical axis (y) until the first body's shoulders, or hips, face the sensor in the first frame.

    Raises:
        ConfigError: the layout is 2D, or has no pair of shoulders or hips.
    """
    pair = layout.pair("shoulder") or layout.pair("hip")
    if pair is None or layout.dimensions != 3:
        lack = "is 2D" if layout.dimensions != 3 else "has neither left and right shoulders nor hips"
        raise ConfigError(
            f"normalisation 'front' turns bodies in space by their shoulders or hips, and layout '{layout.name}' "
            f"{lack}; leave it out of data.normalise"
        )
    left, right = pair
    across = x[:, :, 0, right, 0] - x[:, :, 0, left, 0]
    length = across.index_select(1, constant((0, 2), torch.long, x.device)).norm(dim=1)
    # Without shoulders to see (length 0) the clip stays as it is.
    unseen = ~(length > 1e-6)
    cos = (across[:, 0] / length.clamp(min=1e-6)).masked_fill(unseen, 1.0).view(-1, 1, 1, 1)
    sin = (across[:, 2] / length.clamp(min=1e-6)).masked_fill(unseen, 0.0).view(-1, 1, 1, 1)
    return torch.stack([cos * x[:, 0] + sin * x[:, 2], x[:, 1], cos * x[:, 2] - sin * x[:, 0]], dim=1)


# What settles a body's size and heading comes before augmentation, which changes them at random; done later it would
# undo that. What fits a clip into a range comes after.
BEFORE_AUGMENTATION = {"torso": torso, "front": front}
AFTER_AUGMENTATION = {"minmax": minmax}


def check_steps(steps: Sequence[str], layout: Layout) -> None:
    """Make sure that each step exists and suits the layout.

    Raises:
        ConfigError: one does not.
    """
    known = BEFORE_AUGMENTATION | AFTER_AUGMENTATION
    x, mask = torch.zeros(1, layout.dimensions, 1, len(layout.joints), 1), torch.ones(1, 1, dtype=torch.bool)
    for step in steps:
        if step not in known:
            raise ConfigError(f"data.normalise names '{step}', expected any of {', '.join(known)}")
        known[step](x, mask, layout)
