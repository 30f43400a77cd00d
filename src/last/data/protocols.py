"""Protocols: which clips of a data set train and which test, by their ids alone."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import numpy as np

from last.data import own_rules
from last.data.store import ClipStore
from last.setting_values import ConfigError

_NTU60_SUBJECTS = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
_SBU_FOLDS = (
    (102, 304, 502, 604),
    (203, 207, 305, 503),
    (103, 107, 701, 703),
    (201, 206, 302, 306),
    (402, 403, 406, 602, 603),
)  # pairs: the first person times 100 plus the second
_MSR_SUBSETS = {
    "as1": (2, 3, 5, 6, 10, 13, 18, 20),
    "as2": (1, 4, 7, 8, 9, 11, 12, 14),
    "as3": (6, 14, 15, 16, 17, 18, 19, 20),
}  # actions, from 1
# Left out of the original paper's list of 557 files, for their noise.
_MSR_LEFT_OUT = (
    *("a02_s03_e02", "a04_s03_e01", "a07_s04_e01", "a13_s09_e01", "a13_s09_e02", "a13_s09_e03"),
    *("a14_s03_e01", "a20_s07_e01", "a20_s07_e03", "a20_s10_e03"),
)
_NTU120_SUBJECTS = (
    *_NTU60_SUBJECTS,
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89),
    *(91, 92, 93, 94, 95, 97, 98, 100, 103),
)


_HELD = re.compile(r"(.+)-held(\d{1,4})of(\d{1,4})")


class ProtocolError(ValueError):
    """A protocol that a data set does not have, or that leaves nothing to train or test on."""


Choice = Callable[[ClipStore], np.ndarray]  # of clips, as a mask


@dataclass(frozen=True)
class Protocol:
    """How a data set is parted.

    Attributes:
        rule: one line for people.
        trains: the clips that train.
        tests: those that test; None: all others.
    """

    rule: str
    trains: Choice
    tests: Choice | None = None


def _among(key: str, *values: int | str) -> Choice:
    wanted = [value.encode() if isinstance(value, str) else value for value in values]
    return lambda store: np.isin(store.clips[key], wanted)


def _both(one: Choice, other: Choice) -> Choice:
    return lambda store: one(store) & other(store)


def _not(choice: Choice) -> Choice:
    return lambda store: ~choice(store)


def _odd_subjects_train(of: str = "", kept: Choice | None = None) -> Protocol:
    """Odd subjects against even ones, among the clips that are kept."""

    def odd(store: ClipStore) -> np.ndarray:
        return store.clips["subject"] % 2 == 1

    even = _not(odd)
    rule = f"odd subjects train, even ones test{of}"
    return Protocol(rule, _both(odd, kept), _both(even, kept)) if kept else Protocol(rule, odd, even)


def _given(name: str = "given") -> Protocol:
    return Protocol(
        f"as the data's own list '{name}' has it",
        lambda store: store.in_part(f"{name}/train"),
        lambda store: store.in_part(f"{name}/test"),
    )


_XSUB = Protocol("20 of the 40 subjects train", _among("subject", *_NTU60_SUBJECTS))
_XVIEW = Protocol("cameras 2 and 3 train, 1 tests", _among("camera", 2, 3), _among("camera", 1))

PROTOCOLS: dict[str, Protocol] = {
    "ntu60/xsub": _XSUB,
    "ntu60/xview": _XVIEW,
    "ntu120/xsub": Protocol("53 of the 106 subjects train", _among("subject", *_NTU120_SUBJECTS)),
    "ntu120/xset": Protocol("even setups train, odd ones test", lambda store: store.clips["setup"] % 2 == 0),
    "nw_ucla/xview": Protocol("views 1 and 2 train, 3 tests", _among("camera", 1, 2), _among("camera", 3)),
    "utd_mhad/xsub": _odd_subjects_train(),
    "msr_action3d/xsub": _odd_subjects_train(),
    "msr_action3d/xsub557": _odd_subjects_train(
        ", without the ten clips that the original list leaves out", _not(_among("name", *_MSR_LEFT_OUT))
    ),
    **{
        f"msr_action3d/{name}": _odd_subjects_train(
            f", actions {', '.join(map(str, actions))}", _among("label", *(action - 1 for action in actions))
        )
        for name, actions in _MSR_SUBSETS.items()
    },
    **{
        f"sbu/fold{i}": Protocol(f"fold {i} of 5 tests, the others train", _not(_among("subject", *pairs)))
        for i, pairs in enumerate(_SBU_FOLDS, 1)
    },
    "penn_action/given": _given(),
    "synthetic/xsub": _XSUB,
    "synthetic/xview": _XVIEW,
    "synthetic/unseen": Protocol(
        "NTU60's training subjects on cameras 2 and 3 train, other subjects on camera 1 test",
        _both(_XSUB.trains, _XVIEW.trains),
        _both(_not(_XSUB.trains), _among("camera", 1)),
    ),
}


def protocols_of(dataset: str) -> tuple[str, ...]:
    """Names of the protocols that a packaged data set has."""
    return tuple(name.split("/")[1] for name in PROTOCOLS if name.startswith(f"{dataset}/"))


def protocols_for(store: ClipStore, dataset: str) -> list[str]:
    """Names of the protocols of a data set, and of a store's own rules and lists."""
    lists = {part.rpartition("/")[0] for part in store.meta["parts"]}
    return sorted({*protocols_of(dataset), *store.meta["protocols"], *lists})


def find_protocol(store: ClipStore, protocol: str, dataset: str) -> Protocol:
    """A protocol of a packaged data set, of a person's own configuration, or of the lists that came with the data.

    ``<protocol>-held<i>of<k>`` parts its training clips alone: what the protocol itself keeps apart, such as subjects
    or cameras, is dealt to k parts, of which part i tests. So recipes are compared without a look at the test clips.

    Raises:
        ProtocolError: there is no such protocol, the store's rule for it is none, or it cannot be parted so.
    """
    if held := _HELD.fullmatch(protocol):
        return _held(find_protocol(store, held[1], dataset), protocol, int(held[2]), int(held[3]))
    if f"{dataset}/{protocol}" in PROTOCOLS:
        return PROTOCOLS[f"{dataset}/{protocol}"]
    own = store.meta["protocols"]
    if protocol in own:
        try:
            own_rules.require_rules({protocol: own[protocol]}, "the store's meta.json")
        except ConfigError as error:
            raise ProtocolError(str(error)) from error
        return Protocol(
            f"'{protocol}' of the data set's own configuration",
            partial(own_rules.trains, own[protocol]),
            partial(own_rules.tests, own[protocol]),
        )
    known = protocols_for(store, dataset)
    if protocol in known:
        return _given(protocol)
    raise ProtocolError(no_protocol(protocol, dataset, known))


def whole_of(protocol: str) -> str:
    """The protocol whose training clips this one parts; itself where it parts none."""
    held = _HELD.fullmatch(protocol)
    return whole_of(held[1]) if held else protocol


def no_protocol(protocol: str, dataset: str, known: Collection[str]) -> str:
    """That a data set has no such protocol, and which ones it has."""
    advice = f"it has {', '.join(sorted(known))}" if known else "give it one under 'protocols' in its configuration"
    return f"data set '{dataset}' has no protocol '{protocol}'; {advice}"


def held_parts(protocol: str, parts: int) -> list[str]:
    """Names of the protocols that hold each of so many parts of a protocol's training clips out in turn."""
    return [f"{protocol}-held{i}of{parts}" for i in range(1, parts + 1)]


def _held(whole: Protocol, name: str, part: int, parts: int) -> Protocol:
    """Part ``part`` of the training clips of ``whole`` tests, the others train."""

    def dealt(store: ClipStore) -> tuple[np.ndarray, np.ndarray]:
        """The training clips of ``whole`` as a mask, and for each of them the part that it is in."""
        trains = whole.trains(store)
        tests = whole.tests(store) if whole.tests else ~trains
        for key in ("subject", "camera", "setup"):
            values, groups = np.unique(store.clips[key][trains], return_inverse=True)
            if len(values) > 1 and values[0] >= 0 and not np.isin(values, store.clips[key][tests]).any():
                what, count = f"{key}s {', '.join(map(str, values))}", len(values)
                break
        else:  # nothing is kept apart, so that clips are dealt, those of a class evenly
            order = np.argsort(store.clips["label"][trains], kind="stable")
            groups, count = np.argsort(order), len(order)
            what = f"{count} clips"
        if count and (not 1 <= part <= parts or not 2 <= parts <= count):  # where none train, split says so
            raise ProtocolError(
                f"protocol '{name}' asks for part {part} of {parts}, and there are {what} to be parted; expected 2 to "
                f"{count} parts, counted from 1"
            )
        return trains, groups % parts + 1

    def chosen(store: ClipStore, tests: bool) -> np.ndarray:
        mask, parted = dealt(store)
        mask[mask] = (parted == part) == tests
        return mask

    return Protocol(
        f"part {part} of {parts} of the training clips of another: {whole.rule}",
        lambda store: chosen(store, tests=False),
        lambda store: chosen(store, tests=True),
    )


def split(store: ClipStore, protocol: str, dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """The clips that train and those that test, as ascending int64 indices.

    Args:
        store: the clips.
        protocol: such as ``xsub``; see ``last data list``.
        dataset: name of the data set.

    Raises:
        ProtocolError: the data set has no such protocol, one part is empty, or clips are in both.
    """
    chosen = find_protocol(store, protocol, dataset)
    trains = chosen.trains(store)
    tests = chosen.tests(store) if chosen.tests else ~trains
    for part, mask in (("train", trains), ("test", tests)):
        if not mask.any():
            raise ProtocolError(
                f"protocol '{protocol}' of '{dataset}' leaves none of the {len(store)} clips to {part} on "
                f"({chosen.rule}); the store may hold only a part of the data set, or another one"
            )
    both = np.flatnonzero(trains & tests)
    if len(both):
        raise ProtocolError(
            f"protocol '{protocol}' of '{dataset}' trains on {len(both)} of the {int(tests.sum())} clips that it tests "
            f"on, such as {store.clips['name'][both[0]].decode()} ({chosen.rule}); mend its 'test', or leave it out to "
            "test on all clips that do not train"
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
