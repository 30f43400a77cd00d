"""Whether one network is better than another, or was luckier with its clips and seeds. Shapes: S seeds, N clips."""

from dataclasses import dataclass

import numpy as np

_VALUES = 500_000  # drawn at a time, which a processor's cache holds


@dataclass(frozen=True)
class Difference:
    """How far one network's top-1 is ahead of another's.

    Attributes:
        points: the difference, in percentage points.
        margin: half of its 95 % interval, which is ``points`` ± ``margin``.
        p: how often chance alone makes a difference at least as large, two-sided; below 0.05 just where the interval
            leaves out zero.
    """

    points: float
    margin: float
    p: float

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.points - self.margin

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.points + self.margin

    def __str__(self) -> str:
        """In points, with its interval and p."""
        p = f"= {self.p:.3f}" if self.p >= 0.001 else "< 0.001"
        return f"{self.points:+.1f} ({self.low:+.1f} to {self.high:+.1f}), p {p}"


def paired_bootstrap(
    one: np.ndarray,
    other: np.ndarray,
    generator: np.random.Generator,
    draws: int = 10_000,
    same_trainings: bool = False,
) -> Difference:
    """Compare two networks on the same clips by drawing these, and the seeds of either, again and again.

    Each draw takes N clips with replacement, the same for both, and of S seeds S - 1, for each on its own: as many
    give the mean of S its true variance (one seed stands for itself, and then nothing is said of others). The interval
    is the symmetric one: 95 % of the draws lie within the margin of the difference itself. Efron and Tibshirani: An
    Introduction to the Bootstrap, 1993, chapters 6 and 16; Hall: On Symmetric Bootstrap Confidence Intervals, 1988.

    Args:
        one: which clips each seed's network got right, (S, N) bool.
        other: those of the network that it is compared with, (S', N) bool; the same clips in the same order.
        generator: draws.
        draws: how many.
        same_trainings: the rows of both are of the same trainings, scored in two ways, so that their seeds are drawn
            together.

    Raises:
        ValueError: the two are not of the same clips, or there is nothing to compare; or they are to be of the same
            trainings and are not as many.
    """
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or not one.size or not other.size:
        raise ValueError(f"answers of shapes {one.shape} and {other.shape}, expected (seeds, clips) twice, same clips")
    if same_trainings and len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} seeds, expected as many of the same trainings")
    clips = one.shape[1]
    points = 100 * (one.mean() - other.mean())
    drawn = []
    for start in range(0, draws, max(1, _VALUES // clips)):
        count = min(max(1, _VALUES // clips), draws - start)
        chosen = generator.integers(clips, size=(count, clips)) + clips * np.arange(count)[:, None]
        times = np.bincount(chosen.ravel(), minlength=count * clips).reshape(count, clips)
        seeds = _seeds(one, count, generator)
        others = seeds if same_trainings else _seeds(other, count, generator)
        drawn.append(_top1(one, times, seeds) - _top1(other, times, others))
    away = np.abs(np.concatenate(drawn) - points)
    # A draw that differs from the observation by rounding alone is as far away as it.
    p = (1 + np.count_nonzero(away >= abs(points) - 1e-9)) / (1 + draws)
    return Difference(float(points), float(np.quantile(away, 0.95, method="higher")), float(p))


def _seeds(correct: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Which of S seeds each draw takes, (draws, S - 1), or the only one."""
    return generator.integers(len(correct), size=(draws, max(1, len(correct) - 1)))


def _top1(correct: np.ndarray, times: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Top-1 in percent in each draw of clips, (draws, N) counts, over the seeds that it takes, (draws,)."""
    right = times.astype(np.float32) @ correct.T.astype(np.float32)  # exact, since the sums are whole and below 2^24
    return np.take_along_axis(right.astype(np.float64), seeds, axis=1).mean(1) * (100 / correct.shape[1])
