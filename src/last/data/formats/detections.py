"""From the bodies that a pose estimator found in a video's frames to a clip.

Shapes: N bodies found in all frames, T frames, M bodies, V joints, C coordinates.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from last.data.clip import UNKNOWN, Clip, FormatError
from last.data.formats.format import Reading
from last.data.formats.json_text import numbers
from last.data.formats.source import NoSkeletonError, Source
from last.data.formats.tracking import track

MAX_FRAMES = 100_000  # from a clip's first to its last: an hour; each number that a file skips is an empty frame
MAX_BODIES = 100  # in a frame
MAX_JOINTS = 16_000_000  # frames times bodies times joints, 250 MB
MAX_SCORE = 10  # AlphaPose's go to 6; what lies far above is another measure, such as percents


@dataclass(frozen=True)
class Detections:
    """Bodies found in a video.

    Attributes:
        joints: (N, V, C) float32, NaN where one is missing.
        confidence: (N, V) float32 from 0 to 1, or None.
        times: (N,) number of the frame of each.
        frames: numbers of the first and the last frame, whether or not they show anybody.
        ids: (N,) which body each is, where the estimator says so.
    """

    joints: np.ndarray
    confidence: np.ndarray | None
    times: Sequence[int]
    frames: tuple[int, int]
    ids: Sequence[int] | None = None

    def clip(self, source: Source, layout: str, label: int = UNKNOWN) -> Clip:
        """The clip, from the first frame to the last, with bodies in the order in which they appear.

        Bodies without an id are tracked; those without a joint are nobody.

        Raises:
            NoSkeletonError: no frame shows a body.
            FormatError: an id names two bodies of a frame, or there are more frames or bodies than a clip can need.
        """
        first, last = self.frames
        if last - first >= MAX_FRAMES:
            raise FormatError(
                f"{source} has frames from {first} to {last}, expected a clip of at most {MAX_FRAMES}; cut it into "
                "clips"
            )
        shown = np.flatnonzero(~np.isnan(self.joints).any(axis=-1).all(axis=-1))
        if not len(shown):
            raise NoSkeletonError(f"{source} shows nobody in its {last - first + 1} frames")
        times = np.asarray(self.times, dtype=np.int64)[shown] - first
        if np.bincount(times).max() > MAX_BODIES:
            busiest = int(np.bincount(times).argmax())
            raise FormatError(f"{source}, frame {first + busiest}: more than {MAX_BODIES} bodies, too many for a clip")
        order = np.argsort(times, kind="stable")
        shown, times = shown[order], times[order]
        bodies = track(self.joints[shown], times) if self.ids is None else self._numbered(shown, times, source)
        size = (last - first + 1, int(bodies.max()) + 1)
        if size[0] * size[1] * self.joints.shape[1] > MAX_JOINTS:
            raise FormatError(
                f"{source} holds {size[0]} frames of {size[1]} bodies of {self.joints.shape[1]} joints, expected a "
                f"product of at most {MAX_JOINTS}; cut it into clips"
            )
        joints = np.full((*size, *self.joints.shape[1:]), np.nan, dtype=np.float32)
        joints[times, bodies] = self.joints[shown]
        confidence = None
        if self.confidence is not None:
            confidence = np.zeros(joints.shape[:3], dtype=np.float32)
            confidence[times, bodies] = self.confidence[shown]
        return Clip(joints, source.name, layout, label, confidence=confidence)

    def _numbered(self, shown: np.ndarray, times: np.ndarray, source: Source) -> np.ndarray:
        """The ids of those shown, as numbers from 0 in the order in which the bodies appear."""
        ids = np.asarray(self.ids)[shown].tolist()
        (body, time), count = Counter(zip(ids, times.tolist(), strict=True)).most_common(1)[0]
        if count > 1:
            raise FormatError(f"{source}, frame {self.frames[0] + time}: {count} bodies have the id {body}")
        numbers_of = {body: m for m, body in enumerate(dict.fromkeys(ids))}
        return np.array([numbers_of[body] for body in ids])


def confidences(scores: np.ndarray, place: Callable[[int], str]) -> np.ndarray:
    """An estimator's scores as confidences from 0 to 1.

    Args:
        scores: (N, V), of each body's joints.
        place: from a body's index to its file and place, for errors.

    Raises:
        FormatError: they cannot be meant so.
    """
    wrong = np.argwhere((scores < 0) | (scores > MAX_SCORE))
    if len(wrong):
        n, v = wrong[0]
        raise FormatError(f"{place(n)}: joint {v} has the confidence {scores[n, v]:g}, expected 0 to 1, or little more")
    return np.minimum(scores, 1)  # the peaks of a heat map rise above 1 here and there


def split_scores(values: np.ndarray, place: Callable[[int], str]) -> tuple[np.ndarray, np.ndarray]:
    """Joints (N, V, C) and confidences (N, V) of values (N, V, C + 1) that end in a score; at score 0, one is missing.

    Args:
        values: of each body.
        place: from a body's index to its file and place, for errors.

    Raises:
        FormatError: a score is no confidence.
    """
    confidence = confidences(values[..., -1], place)
    return np.where(confidence[..., None] > 0, values[..., :-1], np.float32(np.nan)), confidence


def keypoints(rows: Sequence[Any], place: Callable[[int], str]) -> np.ndarray:
    """Flat lists ``x0 y0 score0 x1 ...`` of one body each as an array, (N, V, 3) float32.

    Args:
        rows: of each body; at least one.
        place: from a row's index to its file and place, for errors.

    Raises:
        FormatError: a row is no such list, or not as long as the first.
    """
    values = numbers(list(rows))
    if values is not None and values.ndim == 2 and _is_whole(values):
        return values.reshape(len(values), -1, 3)
    for i, row in enumerate(rows):
        one = numbers(row)
        if one is None or one.ndim != 1 or not _is_whole(one):
            raise FormatError(f"{place(i)}: its key points are not a list of finite numbers x, y, score for each joint")
    i = next(i for i, row in enumerate(rows) if len(row) != len(rows[0]))
    raise FormatError(f"{place(i)}: {len(rows[i]) // 3} joints, expected {len(rows[0]) // 3} as before")


def layout_of(joints: np.ndarray, reading: Reading, known: Mapping[int, str], source: Source) -> str:
    """The layout's name: the one that a person gives, or what the estimator's number of joints means.

    Args:
        joints: (N, V, C).
        reading: perhaps with a layout.
        known: the estimator's layouts by their numbers of joints.
        source: for errors.

    Raises:
        FormatError: the joints are not those of the layout, or of none that is known.
    """
    count, dimensions = joints.shape[1:]
    layout = reading.layout
    if layout is not None:
        if (count, dimensions) != (len(layout.joints), layout.dimensions):
            raise FormatError(
                f"{source} has {count} joints of {dimensions} coordinates, but layout '{layout.name}' has "
                f"{len(layout.joints)} of {layout.dimensions}"
            )
        return layout.name
    if count not in known:
        expected = " or ".join(f"{number} ({name})" for number, name in known.items())
        raise FormatError(f"{source} has {count} joints, expected {expected}; for others pass --layout")
    return known[count]


def _is_whole(values: np.ndarray) -> bool:
    return values.shape[-1] > 0 and values.shape[-1] % 3 == 0
