"""Cleaning of a clip: which bodies and frames are kept, and how gaps are filled. All of it is counted.

The steps and thresholds for Kinect's phantom bodies are the field's, as in SGN's and CTR-GCN's preprocessing.
Shapes: T frames, M bodies, V joints, C coordinates.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from last.config import DataConfig
from last.data.clip import Clip
from last.skeleton import Layout


@dataclass(frozen=True)
class CleanOptions:
    """What is dropped. A clip's only body is never dropped for its length or spread.

    Attributes:
        min_frames: a body seen in fewer frames is dropped.
        max_spread: a body is implausible in a frame where it is wider than this times its height; None: never.
        max_implausible: a body implausible in this fraction of its frames, or more, is dropped.
        max_bodies: how many of the most moving bodies are kept.
    """

    min_frames: int = 1
    max_spread: float | None = None
    max_implausible: float = 0.69754
    max_bodies: int = 2

    @classmethod
    def from_config(cls, data: DataConfig) -> "CleanOptions":
        """The options of a configuration."""
        return cls(**{name: getattr(data, name) for name in cls.__dataclass_fields__})


def clean(clip: Clip, layout: Layout, options: CleanOptions) -> tuple[Clip | None, Counter[str]]:
    """Drop phantom bodies, order the others by motion, trim frames without any, fill gaps.

    A joint at exactly zero is missing, as is one that is not finite, unless the skeleton is relative to it. Inner gaps
    are interpolated over time, the ends held; a joint that a body never shows takes its parent's place.

    Returns:
        The clip, finite throughout, with confidences that are NaN where a joint was missing; None where no body is
        left. And how much was dropped and filled.
    """
    x = clip.joints.astype(np.float64)  # the variance of coordinates of 1e30 has no float32
    zero = (x == 0).all(axis=-1)
    missing = ~np.isfinite(x).all(axis=-1) | zero
    # A root or centre at zero whenever other joints show is no gap: the skeleton is relative to it.
    shown = ~zero.all(axis=2)
    for v in (layout.root, layout.centre):
        if zero[:, :, v][shown].all():
            missing[:, :, v] &= ~shown
    x[missing] = np.nan
    seen = ~missing.all(axis=-1)  # (T, M)
    counts: Counter[str] = Counter()

    bodies = [m for m in range(clip.bodies) if seen[:, m].any()]
    long = [m for m in bodies if seen[:, m].sum() >= options.min_frames]
    counts["bodies dropped as too short"], bodies = _keep(bodies, long, seen)
    if options.max_spread is not None:
        spread = options.max_spread
        plausible = [m for m in bodies if _implausible(x[seen[:, m], m], spread) < options.max_implausible]
        counts["bodies dropped as too wide"], bodies = _keep(bodies, plausible, seen)
    if not bodies:
        return None, +counts
    bodies.sort(key=lambda m: -_motion(x[:, m]))
    counts["bodies dropped as surplus"] = len(bodies[options.max_bodies :])
    bodies = bodies[: options.max_bodies]

    frames = np.flatnonzero(seen[:, bodies].any(axis=1))
    kept = slice(frames[0], frames[-1] + 1)
    counts["frames trimmed"] = clip.frames - int(kept.stop - kept.start)
    x = x[kept][:, bodies]
    missing = missing[kept][:, bodies]
    confidence = None if clip.confidence is None else clip.confidence[kept][:, bodies]
    counts["joints filled"] = int(missing.sum())
    if counts["joints filled"]:
        for m in range(len(bodies)):
            _fill(x[:, m], layout)
        confidence = np.where(missing, np.float32(np.nan), np.float32(1) if confidence is None else confidence)
    return replace(clip, joints=x.astype(np.float32, order="C"), confidence=confidence), +counts


def _keep(bodies: list[int], good: list[int], seen: np.ndarray) -> tuple[int, list[int]]:
    """How many are dropped, and those that stay: the good ones, or the longest where there is none."""
    kept = good or sorted(bodies, key=lambda m: -seen[:, m].sum())[:1]
    return len(bodies) - len(kept), kept


def _implausible(x: np.ndarray, max_spread: float) -> float:
    """Fraction of frames in which a body (T, V, C) is too wide for its height."""
    extent = np.nanmax(x[..., :2], axis=1) - np.nanmin(x[..., :2], axis=1)
    return float((extent[:, 0] > max_spread * extent[:, 1]).mean())


def _motion(x: np.ndarray) -> float:
    """Variance of all positions of a body (T, V, C), summed over coordinates."""
    return float(np.nanvar(x, axis=(0, 1)).sum())


def _fill(x: np.ndarray, layout: Layout) -> None:
    """Fill the gaps of a body (T, V, C) in place."""
    time = np.arange(len(x))
    gaps = np.isnan(x[..., 0])
    never = []
    for v in np.flatnonzero(gaps.any(axis=0)):
        known = ~gaps[:, v]
        if not known.any():
            never.append(v)
            continue
        for c in range(x.shape[-1]):
            x[gaps[:, v], v, c] = np.interp(time[gaps[:, v]], time[known], x[known, v, c])
    # From the root outwards, so that a parent is filled before its children; a root takes the body's mean.
    for v in sorted(never, key=layout.hops_from(layout.root).__getitem__):
        x[:, v] = x[:, layout.parents[v]] if v != layout.root else np.nanmean(x, axis=1)
