"""Cleaning of a clip: which bodies and frames are kept, and how gaps are filled. All of it is counted.

The steps and thresholds for Kinect's phantom bodies are the field's, as in SGN's and CTR-GCN's preprocessing.
Shapes: T frames, M bodies, V joints, C coordinates.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from last.data.clip import Clip
from last.settings import DataConfig
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

    A joint that is not finite is missing. So is one at exactly zero, unless the clip has confidence in it, or it is the
    root or centre and always there, so that the skeleton is relative to it. Inner gaps are interpolated over time, the
    ends held; a joint that a body never shows takes its parent's place.

    Returns:
        The clip, finite throughout, with confidences that are NaN where a joint was missing; None where no body is
        left. And how much was dropped and filled.
    """
    x = clip.joints
    zero = (x == 0).all(axis=-1)
    if clip.confidence is not None:
        zero &= ~(clip.confidence > 0)
    missing = ~np.isfinite(x).all(axis=-1) | zero
    # A root or centre at zero whenever other joints show is no gap: the skeleton is relative to it.
    shown = ~zero.all(axis=2)
    for v in (layout.root, layout.centre):
        if zero[:, :, v][shown].all():
            missing[:, :, v] &= ~shown
    if missing.any():
        x = x.astype(np.float64)
        x[missing] = np.nan
    seen = ~missing.all(axis=-1)  # (T, M)
    counts: Counter[str] = Counter()

    bodies = [m for m in range(clip.bodies) if seen[:, m].any()]
    long = [m for m in bodies if seen[:, m].sum() >= options.min_frames]
    counts["bodies dropped as too short"], bodies = _keep(bodies, long, seen)
    if options.max_spread is not None and len(bodies) > 1:
        spread = options.max_spread
        plausible = [m for m in bodies if _implausible(x[seen[:, m], m], spread) < options.max_implausible]
        counts["bodies dropped as too wide"], bodies = _keep(bodies, plausible, seen)
    if not bodies:
        return None, +counts
    if len(bodies) > 1:
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
    x = x.astype(np.float64)  # in which coordinates of 1e30 have a difference, and below a variance
    extent = np.nanmax(x[..., :2], axis=1) - np.nanmin(x[..., :2], axis=1)
    return float((extent[:, 0] > max_spread * extent[:, 1]).mean())


def _motion(x: np.ndarray) -> float:
    """Variance of all positions of a body (T, V, C), summed over coordinates."""
    return float(np.nanvar(x.astype(np.float64), axis=(0, 1)).sum())


def _fill(x: np.ndarray, layout: Layout) -> None:
    """Fill the gaps of a body (T, V, C) in place."""
    gaps = np.isnan(x[..., 0])  # (T, V)
    time = np.arange(len(x))[:, None]
    before = np.maximum.accumulate(np.where(gaps, -1, time))
    after = np.minimum.accumulate(np.where(gaps, len(x), time)[::-1])[::-1]
    never = np.flatnonzero(gaps.all(axis=0)).tolist()
    t, v = np.nonzero(gaps & ~gaps.all(axis=0))
    first, last = before[t, v], after[t, v]
    first, last = np.where(first < 0, last, first), np.where(last == len(x), first, last)  # the ends are held
    slope = (x[last, v] - x[first, v]) / np.maximum(last - first, 1)[:, None]
    x[t, v] = x[first, v] + slope * (t - first)[:, None]
    if never:
        hops = layout.hops_from(layout.root).tolist()
        # From the root outwards, so that a parent is filled before its children; a root takes the body's mean.
        for v in sorted(never, key=hops.__getitem__):
            x[:, v] = x[:, layout.parents[v]] if v != layout.root else np.nanmean(x, axis=1)
