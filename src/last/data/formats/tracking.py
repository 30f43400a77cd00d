"""Who is who from frame to frame, where a pose estimator does not say.

Shapes: N bodies found in all frames, V joints, C coordinates.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class _Tracks:
    """The bodies that may show again, one a row.

    Attributes:
        ids: numbers of the bodies.
        seen: the frame that showed each last.
        places: (K, V, C) where its joints were then, NaN where it has not shown one yet.
        velocities: (K, C) of the whole body, a frame.
        sizes: the largest that each has shown.
    """

    ids: np.ndarray
    seen: np.ndarray
    places: np.ndarray
    velocities: np.ndarray
    sizes: np.ndarray

    def keep(self, rows: np.ndarray) -> None:
        """Forget all others."""
        for name, values in vars(self).items():
            setattr(self, name, values[rows])

    def update(self, rows: np.ndarray, bodies: np.ndarray, time: int) -> None:
        """Move bodies to where a frame shows them."""
        places, elapsed = self.places[rows], time - self.seen[rows]
        shift, _ = _mean(bodies - places, axis=1)
        self.velocities[rows] = (self.velocities[rows] + shift / elapsed[:, None]) / 2
        # A hidden joint goes along with the body, so that it is near its place when it shows again.
        self.places[rows] = np.where(np.isnan(bodies), places + shift[:, None], bodies)
        self.sizes[rows] = np.maximum(self.sizes[rows], _sizes(bodies))
        self.seen[rows] = time

    def add(self, ids: np.ndarray, bodies: np.ndarray, time: int) -> None:
        """Begin new bodies."""
        self.ids = np.append(self.ids, ids)
        self.seen = np.append(self.seen, np.full(len(ids), time))
        self.places = np.concatenate([self.places, bodies])
        self.velocities = np.concatenate([self.velocities, np.zeros_like(bodies[:, 0])])
        self.sizes = np.append(self.sizes, _sizes(bodies))

    def expected(self, time: int) -> np.ndarray:
        """Where the bodies should be, (K, V, C): each goes on as it did, at half the pace with every frame unseen."""
        steps = 2 * (1 - 0.5 ** (time - self.seen))
        return self.places + (self.velocities * steps[:, None])[:, None]


def track(joints: np.ndarray, times: np.ndarray, max_step: float = 0.5, max_gap: int = 15) -> np.ndarray:
    """Match the bodies that frames show, by the mean distance of their joints from where they should have moved to.

    Each frame's matches are those of the least distance in all. What fits no earlier body is a new one.

    Args:
        joints: (N, V, C), NaN where a joint is missing; each body shows at least one.
        times: (N,) int64, the frame of each, ascending; where all are so many apart, that is one step in time.
        max_step: the largest distance of a match, as a part of the body's size, the diagonal of its bounding box.
        max_gap: for how many steps a body may be away and still be the same.

    Returns:
        (N,) int64, the body that each is, from 0 in the order in which they appear.
    """
    from scipy.optimize import linear_sum_assignment  # a fifth of a second that other formats need not wait for

    joints = joints.astype(np.float64)  # whose squares do not overflow
    times = times // max(int(np.gcd.reduce(np.diff(times), initial=0)), 1)
    ids = np.full(len(joints), -1, dtype=np.int64)
    tracks = _Tracks(ids[:0], times[:0], joints[:0], joints[:0, 0], joints[:0, 0, 0])
    count = 0
    starts = np.flatnonzero(np.diff(times)) + 1
    for frame in np.split(np.arange(len(times)), starts):
        time, bodies = int(times[frame[0]]), joints[frame]
        tracks.keep(time - tracks.seen <= max_gap + 1)
        costs = _distances(tracks.expected(time), bodies)
        costs /= np.maximum(max_step * np.maximum(tracks.sizes[:, None], _sizes(bodies)), np.finfo(np.float64).tiny)
        rows, columns = linear_sum_assignment(np.minimum(costs, 1))
        near = costs[rows, columns] < 1
        rows, columns = rows[near], columns[near]
        ids[frame[columns]] = tracks.ids[rows]
        tracks.update(rows, bodies[columns], time)
        new = np.flatnonzero(ids[frame] < 0)
        ids[frame[new]] = np.arange(count, count + len(new))
        tracks.add(ids[frame[new]], bodies[new], time)
        count += len(new)
    return ids


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean distance of the joints that two bodies share, (K, M) of (K, V, C) and (M, V, C); infinite without any."""
    # Body by body: few are in a frame, and the distances of all joints of all pairs would take room.
    means = [_mean(np.sqrt(np.square(a - body).sum(axis=-1)), axis=1) for body in b]
    return np.stack([np.where(count, mean, np.inf) for mean, count in means], axis=1)


def _mean(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of what is not NaN, zero where all is, and of how many it is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    return np.where(known, values, 0).sum(axis=axis) / np.maximum(count, 1), count


def _sizes(bodies: np.ndarray) -> np.ndarray:
    """Diagonal of each body's bounding box, (M,)."""
    return np.sqrt(np.square(np.nanmax(bodies, axis=1) - np.nanmin(bodies, axis=1)).sum(axis=-1))
