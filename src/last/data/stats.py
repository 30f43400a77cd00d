"""The distributions that matter in a store: what ``last data stats`` prints and draws.

Shapes: rows are a body in a frame each, as the store has them; V joints, C coordinates, B bones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from last.data.clip import UNKNOWN
from last.data.store import IDS, ClipStore, decode_confidence
from last.skeleton import Layout

_BLOCK = 1 << 14  # rows read at a time, 5 MB of 25 joints: they stay in a processor's cache


@dataclass(frozen=True)
class Statistics:
    """Distributions of a store, in the unit of its joints.

    Heights, places and extent go by all joints, the rest by those whose places are no guesses.

    Attributes:
        layout: of the joints.
        classes: name of each label.
        frames: of each clip, (clips,).
        bodies: of each clip, (clips,).
        ids: clips of each value of ``label``, ``subject`` and so on, where they are known: (values, counts), ascending.
        missing: share of the rows in which a joint is missing, (V,).
        confidence: mean of a joint where it is seen, (V,).
        bone_lengths: mean of a bone, (B,), in the order of ``layout.bones``; NaN where it was never seen.
        bone_variation: standard deviation of a bone's length over its mean, over all clips, (B,).
        speeds: mean way of a joint from one frame to the next, (V,).
        heights: extent along y of each body of each clip, mean over its frames, (bodies in all,).
        places: the root of each body of each clip in its first frame, (bodies in all, C).
        extent: least and greatest coordinates, (2, C).
    """

    layout: Layout
    classes: tuple[str, ...]
    frames: np.ndarray
    bodies: np.ndarray
    ids: dict[str, tuple[np.ndarray, np.ndarray]]
    missing: np.ndarray
    confidence: np.ndarray
    bone_lengths: np.ndarray
    bone_variation: np.ndarray
    speeds: np.ndarray
    heights: np.ndarray
    places: np.ndarray
    extent: np.ndarray


class Means:
    """Mean and standard deviation of columns that come in blocks, some of their values unknown.

    Args:
        columns: how many.
    """

    def __init__(self, columns: int) -> None:
        self._count, self._sum, self._squares = np.zeros((3, columns))

    def add(self, values: np.ndarray, known: np.ndarray | None) -> None:
        """Add a block (rows, columns); ``known`` is of the same shape, or None where all are."""
        if known is not None:
            values = np.where(known, values, 0)
        self._count += len(values) if known is None else known.sum(axis=0)
        self._sum += values.sum(axis=0, dtype=np.float64)
        self._squares += np.square(values, dtype=np.float64).sum(axis=0)

    @property
    def mean(self) -> np.ndarray:
        """(columns,), NaN where no value was known."""
        return np.where(self._count > 0, self._sum / np.maximum(self._count, 1), np.nan)

    @property
    def deviation(self) -> np.ndarray:
        """(columns,), NaN where no value was known."""
        squares = np.where(self._count > 0, self._squares / np.maximum(self._count, 1), np.nan)
        return np.sqrt(np.maximum(squares - self.mean**2, 0))


def statistics(store: ClipStore, progress: Callable[[int, int], None] | None = None) -> Statistics:
    """Go over a store once; memory does not grow with its rows.

    Args:
        store: the clips, one at least.
        progress: called with (rows done, rows in all).

    Raises:
        ValueError: there is no clip.
    """
    if not len(store):
        raise ValueError(f"no clip in {store.path}, so nothing to count")
    layout, clips = store.layout, store.clips
    count = len(layout.joints)
    outer, inner = np.array(layout.bones, dtype=int).reshape(-1, 2).T
    seen, confidence, ways, bones = Means(count), Means(count), Means(count), Means(len(outer))
    heights, places, extents = [], [], []
    for rows, starts in _blocks(np.repeat(clips["frames"], clips["bodies"])):
        x = store.joints[rows].astype(np.float32)
        known = pair = moved = None
        same = np.ones(len(x) - 1, dtype=bool)  # body as in the row before
        same[starts[1:] - 1] = False
        if store.confidence is not None:
            codes = store.confidence[rows]
            known = codes > 0
            pair, moved = known[:, outer] & known[:, inner], (known[1:] & known[:-1])[same]
            seen.add(known, None)
            confidence.add(decode_confidence(codes), known)
        bones.add(_lengths(x[:, outer] - x[:, inner]), pair)
        ways.add(_lengths(np.diff(x, axis=0)[same]), moved)
        tall = np.ptp(x[..., 1], axis=1)
        heights.append(np.add.reduceat(tall, starts) / np.diff(starts, append=len(x)))
        places.append(x[starts, layout.root])
        flat = x.reshape(-1, layout.dimensions)
        extents.append((flat.min(axis=0), flat.max(axis=0)))
        if progress:
            progress(rows.stop, len(store.joints))
    whole = store.confidence is None
    ids = {key: np.unique(clips[key][clips[key] != UNKNOWN], return_counts=True) for key in IDS}
    return Statistics(
        layout,
        store.classes,
        np.array(clips["frames"]),
        np.array(clips["bodies"]),
        ids={key: (values, counts) for key, (values, counts) in ids.items() if len(values)},
        missing=np.zeros(count) if whole else 1 - seen.mean,
        confidence=np.ones(count) if whole else confidence.mean,
        bone_lengths=bones.mean,
        bone_variation=bones.deviation / np.maximum(bones.mean, 1e-12),
        speeds=ways.mean,
        heights=np.concatenate(heights),
        places=np.concatenate(places),
        extent=np.array([np.min([low for low, _ in extents], axis=0), np.max([high for _, high in extents], axis=0)]),
    )


def _blocks(lengths: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of whole runs of one body each, and where in them the runs start."""
    ends = lengths.cumsum()
    first = start = 0
    while first < len(lengths):
        last = max(first + 1, int(np.searchsorted(ends, start + _BLOCK, side="right")))
        stop = int(ends[last - 1])
        yield slice(start, stop), ends[first:last] - lengths[first:last] - start
        first, start = last, stop


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Of vectors (..., C); three times as fast as ``np.linalg.norm``."""
    return np.sqrt(np.einsum("...c,...c", vectors, vectors))
