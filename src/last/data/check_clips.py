"""What can be wrong with a clip, and with the joints of a whole set.

Shapes: T frames, M bodies, V joints, C coordinates.
"""

from collections.abc import Iterator

import numpy as np

from last.data.clip import Clip
from last.data.findings import Findings, Severity
from last.data.layouts import Suggestion, fit, suggest, upward
from last.skeleton import Layout

FARTHEST = 50  # metres; depth cameras see ten, and a coordinate beyond it is one of pixels or millimetres
SMALLEST = 10  # pixels; a smaller body shows nothing
SHORTEST = 8  # frames; fewer hold no action
MOST_BODIES = 2  # that preparing keeps where nothing else is said
BRIEF = 0.1  # share of the frames; a body seen in fewer is likely a phantom
SHARE = 0.5  # of the clips; where more have it, it is the set's way and not the action's
APART = 0.2  # by how much another order of joints must fit better; the nearest two that are in use differ by 0.3
SCATTERED = 1.0  # disorder beyond which joints hardly hang together; sound sets have 0.2 to 0.4

_POOLED = 256  # clips, four frames of each


def faults_of(clip: Clip, layout: Layout, stored: bool) -> Iterator[tuple[Severity, str]]:
    """The faults of one clip that fits its layout.

    Args:
        clip: from a file or a store.
        layout: of its joints.
        stored: it is from a store, which holds no gaps.
    """
    x = clip.joints
    finite = np.isfinite(x).all(axis=-1)
    known = finite & ~_guesses(clip)
    zero, relative = _zeros(x, layout)
    shown = (known & ~zero).any(axis=-1)  # (T, M)
    bodies = shown.any(axis=0)  # a body that never shows is a file's padding

    if stored and not finite.all():
        yield "error", "clips have joints that are not finite"
    elif np.isinf(x).any():
        yield "error", "clips have joints that are infinite"
    if not shown.any():
        yield "error", "clips show nobody"
        return
    if shown.any(axis=1).mean() < SHARE:
        yield "warning", "clips show nobody in more than half of their frames"
    if not stored and (shown[..., None] & ~finite).any():
        yield "warning", "clips have gaps (NaN) in joints of bodies that are seen, to be filled or masked"
    if (~known.any(axis=0) & bodies[:, None]).any():
        yield "warning", "clips have joints that are never seen"
    if zero[:, bodies].any():
        yield "warning", "clips have joints that are all zero"
    if clip.frames == 1:
        yield "warning", "clips have one frame"
    elif clip.frames < SHORTEST:
        yield "warning", f"clips have fewer than {SHORTEST} frames"
    if _frozen(np.where((known & ~zero)[..., None], x, np.nan), relative):
        yield "warning", "clips have joints that never move"
    if bodies.sum() > MOST_BODIES:
        yield "warning", f"clips have more than {MOST_BODIES} bodies, of which preparing keeps the most moving"
    seen = shown.mean(axis=0)
    if not stored and ((seen > 0) & (seen < BRIEF)).any():
        yield "warning", f"clips have a body that shows in less than {BRIEF:.0%} of the frames"
    yield from _units(x[known], layout.dimensions)
    if _swapped(np.where(known[..., None], x, np.nan), layout):
        yield "warning", "clips have left and right exchanged from one frame to the next"


def _guesses(clip: Clip) -> np.ndarray:
    """Which joints were missing and lie where the cleaning put them, (T, M, V)."""
    return np.zeros(clip.joints.shape[:3], dtype=bool) if clip.confidence is None else np.isnan(clip.confidence)


def _zeros(x: np.ndarray, layout: Layout) -> tuple[np.ndarray, list[int]]:
    """Which joints lie at zero, (T, M, V), and those of root and centre to which the skeleton is relative instead."""
    zero = (x == 0).all(axis=-1)
    shown = ~zero.all(axis=-1)
    relative = [v for v in (layout.root, layout.centre) if zero[:, :, v][shown].all()]
    for v in relative:
        zero[:, :, v] &= ~shown
    return zero, relative


def _frozen(x: np.ndarray, relative: list[int]) -> bool:
    """Whether a joint that is seen in two frames or more stays exactly where it is."""
    moves = np.fmax.reduce(x, axis=0) != np.fmin.reduce(x, axis=0)  # NaN differs from itself: never seen
    moves[:, relative] = True
    seen = np.isfinite(x[..., 0]).sum(axis=0)
    return bool((~moves.any(axis=-1) & (seen > 1)).any())


def _units(points: np.ndarray, dimensions: int) -> Iterator[tuple[Severity, str]]:
    if dimensions == 3 and (np.abs(points) > FARTHEST).any():
        yield "warning", f"clips have coordinates beyond {FARTHEST}: not metres, perhaps pixels or millimetres"
    if dimensions == 2 and len(points) and np.ptp(points, axis=0).max() < SMALLEST:
        yield "warning", f"clips are smaller than {SMALLEST} pixels: perhaps metres, or a share of the picture"


def _swapped(x: np.ndarray, layout: Layout) -> bool:
    """Whether in some frame the paired joints are far nearer to where those of the other side were before."""
    if not layout.pairs:
        return False
    left, right = np.array(layout.pairs).T
    x = x.astype(np.float64)
    before, after = x[:-1], x[1:]

    def path(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.linalg.norm(after[:, :, left] - before[:, :, one], axis=-1) + np.linalg.norm(
            after[:, :, right] - before[:, :, other], axis=-1
        )

    kept, swapped = path(left, right), path(right, left)
    known = np.isfinite(kept) & np.isfinite(swapped)
    kept, swapped = (np.where(known, lengths, 0).sum(axis=-1) for lengths in (kept, swapped))
    return bool(((known.sum(axis=-1) >= 4) & (3 * swapped < kept)).any())


class Poses:
    """A few frames of each clip of a set: what no single clip can tell, such as the order of its joints.

    Args:
        layout: that the set is said to have.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._fitting = (len(layout.joints), layout.dimensions)
        self._pools: dict[tuple[int, int], _Pool] = {}
        self._directions: list[np.ndarray] = []
        self._first: dict[str, str] = {}

    def add(self, clip: Clip) -> bool:
        """Take a clip's frames; returns whether its joints fit the layout in number."""
        joints, dimensions = shape = clip.joints.shape[2:]
        step = -(-clip.frames // 4)
        x = clip.joints[::step].astype(np.float64)
        zero = _zeros(x, self.layout)[0] if shape == self._fitting else (x == 0).all(axis=-1)
        x[zero | ~np.isfinite(x).all(axis=-1) | _guesses(clip)[::step]] = np.nan
        frames = x.reshape(-1, joints, dimensions)
        self._pools.setdefault((joints, dimensions), _Pool(clip.name)).add(frames)
        if shape != self._fitting:
            return False
        up = upward(frames, self.layout)
        if len(up):
            direction = np.median(up, axis=0)
            self._directions.append(direction)
            for fault in _axes_of(direction[None]):
                self._first.setdefault(fault, clip.name)
        return True

    def report(self, findings: Findings) -> None:
        """Say what speaks against the layout."""
        for shape, pool in self._pools.items():
            if shape != self._fitting:
                self._report_shape(shape, pool, findings)
            else:
                self._report_order(pool, findings)
        if self._directions:
            for fault, clips in _axes_of(np.array(self._directions)).items():
                if clips.mean() > SHARE:
                    findings.add("warning", fault, self._first[fault], int(clips.sum()))

    def _report_shape(self, shape: tuple[int, int], pool: "_Pool", findings: Findings) -> None:
        best = suggest(pool.frames())[:1]
        advice = f"layout {best[0]} fits" if best else "no built-in layout has as many: write one of your own"
        message = (
            f"clips have {shape[0]} joints of {shape[1]} coordinates, but layout '{self.layout.name}' has "
            f"{self._fitting[0]} of {self._fitting[1]}"
        )
        findings.add("error", message, f"{pool.first}; {advice}", pool.clips)

    def _report_order(self, pool: "_Pool", findings: Findings) -> None:
        frames = pool.frames()
        own = fit(frames, self.layout)
        others = sorted(suggest(frames), key=lambda other: other.disorder)
        better = [other for other in others if other.disorder < own.disorder - APART]
        if better:
            message = f"joints look to be in the order of layout '{better[0].layout.name}', not '{self.layout.name}'"
            findings.add("error", message, _comparison(pool.first, own, better[0]), pool.clips)
        elif own.disorder > SCATTERED:
            message = f"joints hardly hang together as layout '{self.layout.name}' has them, perhaps in another order"
            findings.add("warning", message, f"{pool.first}: layout {own}", pool.clips)


class _Pool:
    """Frames of up to ``_POOLED`` clips, evenly spread over all that came."""

    def __init__(self, first: str) -> None:
        self.first, self.clips = first, 0
        self._kept: list[np.ndarray] = []
        self._stride = 1

    def add(self, frames: np.ndarray) -> None:
        if self.clips % self._stride == 0:
            self._kept.append(frames)
        self.clips += 1
        if len(self._kept) == _POOLED:
            self._kept, self._stride = self._kept[::2], 2 * self._stride

    def frames(self) -> np.ndarray:
        return np.concatenate(self._kept)


def _axes_of(directions: np.ndarray) -> dict[str, np.ndarray]:
    """Faults of the axes, each with the clips that have it, for directions from feet to head (clips, C)."""
    faults = {
        "heads are below the feet: y points the other way than the layout's y_down says": directions[:, 1] < -0.5,
        "bodies stand along x, where y is expected to be upright; name the axes in another order": np.abs(
            directions[:, 0]
        )
        > 0.8,
    }
    if directions.shape[1] == 3:
        faults["bodies stand along z, where y is expected to be upright; name the axes in another order"] = (
            np.abs(directions[:, 2]) > 0.8
        )
    return {fault: clips for fault, clips in faults.items() if clips.any()}


def _comparison(first: str, own: Suggestion, better: Suggestion) -> str:
    return f"{first}: layout {better} against {own}"
