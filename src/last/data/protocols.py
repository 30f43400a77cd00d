"""Protocols: which clips of a data set train and which test, by their ids alone."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from last.data.store import ClipStore

_NTU60_SUBJECTS = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
_NTU120_SUBJECTS = (
    *_NTU60_SUBJECTS,
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89),
    *(91, 92, 93, 94, 95, 97, 98, 100, 103),
)


class ProtocolError(ValueError):
    """A protocol that a data set does not have, or that leaves nothing to train or test on."""


@dataclass(frozen=True)
class Protocol:
    """How a data set is parted.

    Attributes:
        rule: one line for people.
        trains: from the clips' records to a mask of those that train.
        tests: the same of those that test; None: all others.
    """

    rule: str
    trains: Callable[[np.ndarray], np.ndarray]
    tests: Callable[[np.ndarray], np.ndarray] | None = None


def _among(key: str, *values: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda clips: np.isin(clips[key], values)


_XSUB = Protocol("20 of the 40 subjects train", _among("subject", *_NTU60_SUBJECTS))
_XVIEW = Protocol("cameras 2 and 3 train, 1 tests", _among("camera", 2, 3), _among("camera", 1))

PROTOCOLS: dict[str, Protocol] = {
    "ntu60/xsub": _XSUB,
    "ntu60/xview": _XVIEW,
    "ntu120/xsub": Protocol("53 of the 106 subjects train", _among("subject", *_NTU120_SUBJECTS)),
    "ntu120/xset": Protocol("even setups train, odd ones test", lambda clips: clips["setup"] % 2 == 0),
    "nw_ucla/xview": Protocol("views 1 and 2 train, 3 tests", _among("camera", 1, 2), _among("camera", 3)),
    "synthetic/xsub": _XSUB,
    "synthetic/xview": _XVIEW,
    "synthetic/unseen": Protocol(
        "NTU60's training subjects on cameras 2 and 3 train, other subjects on camera 1 test",
        lambda clips: _XSUB.trains(clips) & _XVIEW.trains(clips),
        lambda clips: ~_XSUB.trains(clips) & (clips["camera"] == 1),
    ),
}


def protocols_of(dataset: str) -> tuple[str, ...]:
    """Names of the protocols that a data set has."""
    return tuple(name.split("/")[1] for name in PROTOCOLS if name.startswith(f"{dataset}/"))


def split(clips: np.ndarray, protocol: str, dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """The clips that train and those that test, as ascending int64 indices.

    Args:
        clips: records of a store.
        protocol: ``xsub``, ``xview``, ``xset`` or ``unseen``.
        dataset: name of the data set.

    Raises:
        ProtocolError: the data set has no such protocol, or one part is empty.
    """
    chosen = PROTOCOLS.get(f"{dataset}/{protocol}")
    if chosen is None:
        known = protocols_of(dataset)
        advice = f"it has {', '.join(known)}" if known else "give it one in src/last/data/protocols.py"
        raise ProtocolError(f"data set '{dataset}' has no protocol '{protocol}'; {advice}")
    trains = chosen.trains(clips)
    tests = chosen.tests(clips) if chosen.tests else ~trains
    for part, mask in (("train", trains), ("test", tests)):
        if not mask.any():
            raise ProtocolError(
                f"protocol '{protocol}' of '{dataset}' leaves none of the {len(clips)} clips to {part} on "
                f"({chosen.rule}); the store may hold only a part of the data set, or another one"
            )
    return np.flatnonzero(trains).astype(np.int64), np.flatnonzero(tests).astype(np.int64)


def validation_split(
    clips: np.ndarray, train: np.ndarray, fraction: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Set a part of the training clips aside, on which the best epoch is chosen.

    Of five subjects or more, whole subjects are set aside, since a subject on both sides makes the choice too
    hopeful; of fewer, a part of each class, which keeps at least one clip to train on.

    Args:
        clips: records of a store.
        train: indices of the clips that train.
        fraction: of the training clips, 0 to 1; with subjects, the nearest that one or more of them give.
        generator: draws who is set aside.

    Returns:
        Training and validation indices, ascending int64.
    """
    if fraction == 0:
        return train, train[:0]
    subjects, counts = np.unique(clips["subject"][train], return_counts=True)
    if len(subjects) >= 5:
        order = generator.permutation(len(subjects))[:-1]
        share = np.cumsum(counts[order]) / len(train)
        aside = subjects[order[: 1 + int(np.abs(share - fraction).argmin())]]
        held = np.isin(clips["subject"][train], aside)
    else:
        held = np.zeros(len(train), dtype=bool)
        labels = clips["label"][train]
        for label in np.unique(labels):
            members = generator.permutation(np.flatnonzero(labels == label))
            held[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
    return train[~held], train[held]


def copied_from_training(store: ClipStore, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Which test clips have exactly the joints of a training clip, under whatever name, (test,) bool.

    Args:
        store: the clips.
        train: indices of those that train.
        test: indices of those that test.
    """

    def sketch(i: int) -> tuple[int, int, bytes]:
        record = store.clips[i]
        return int(record["frames"]), int(record["bodies"]), store.joints[record["offset"]].tobytes()

    alike = defaultdict(list)  # by length and first row, so that few clips need to be read whole
    for i in train:
        alike[sketch(i)].append(i)
    return np.array([any(store[i].digest() == store[j].digest() for j in alike[sketch(i)]) for i in test])
