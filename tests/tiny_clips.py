"""Tiny clips of any skeleton, for tests that need some."""

import numpy as np

from last.data.clip import Clip
from last.skeleton import Layout


def make_clips(layout: Layout, count: int = 16, classes: int = 2, bodies: int = 1, seed: int = 0) -> list[Clip]:
    """Clips of 6 to 12 frames; the classes differ in the direction in which the left hand moves."""
    rng = np.random.default_rng(seed)
    clips = []
    for i in range(count):
        frames = int(rng.integers(6, 13))
        rest = rng.normal(0, 1, (1, bodies, len(layout.joints), layout.dimensions))
        joints = np.repeat(rest, frames, axis=0) + rng.normal(0, 0.01, (frames, *rest.shape[1:]))
        joints[:, :, 3, i % classes % layout.dimensions] += np.linspace(0, 2, frames)[:, None]
        clips.append(Clip(joints.astype(np.float32), f"clip{i:02d}", layout.name, i % classes, subject=i // 4))
    return clips
