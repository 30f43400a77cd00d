"""What can be wrong with the labels and subjects of a set, and with the way a protocol splits it."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from last.data.clip import UNKNOWN
from last.data.findings import Findings
from last.data.own_rules import FRACTION, ids_of
from last.data.protocols import ProtocolError, copied_from_training, split
from last.data.store import ClipStore

FEWEST = 2  # clips of a class: one to train on, one to test
FEW = 10  # clips of a class: fewer are hardly learned
MOST_SHOWN = 20  # subjects, or whatever else a protocol names, that the clips have
UNFOLLOWED = "a protocol cannot be followed"


def check_classes(labels: np.ndarray, classes: tuple[str, ...], findings: Findings) -> None:
    """Find classes of few clips, and a set of one class.

    Args:
        labels: of all clips, (clips,).
        classes: name of each label.
        findings: to add to.
    """
    if len(present := np.unique(labels)) == 1:
        example = f"'{classes[present[0]]}'"
        findings.add("error", "clips are all of one class, so there is nothing to tell apart", example, len(labels))
    for name, count in zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True):
        if count == 0:
            findings.add("warning", "classes have no clip", f"'{name}'")
        elif count < FEWEST:
            findings.add("error", f"classes have fewer than {FEWEST} clips", f"'{name}' has {count}")
        elif count < FEW:
            findings.add("warning", f"classes have fewer than {FEW} clips", f"'{name}' has {count}")


def check_subjects(labels: np.ndarray, subjects: np.ndarray, findings: Findings) -> None:
    """Find subjects who are as good as a label: all their clips, two or more, are of one class.

    Args:
        labels: of all clips, (clips,).
        subjects: of all clips, (clips,).
        findings: to add to.
    """
    if len(np.unique(labels)) < 2:
        return
    for subject in np.unique(subjects[subjects != UNKNOWN]).tolist():
        own = labels[subjects == subject]
        if len(own) > 1 and (own == own[0]).all():
            example = f"subject {subject}, {len(own)} clips"
            findings.add("warning", "subjects have clips of one class only, which they may give away", example)


def check_rules(
    rules: Mapping[str, Any],
    known: Mapping[str, Set[Any]],
    without: Mapping[str, Sequence[str]],
    findings: Findings,
) -> None:
    """Find what a person's own protocols name and no clip has, such as subjects who are not in the recordings.

    Clips that lack what a protocol chooses by are found too.

    Args:
        rules: as :func:`last.data.own_rules.require_rules` has them.
        known: the values that the clips have, of each id and of ``name``.
        without: names of the clips of which an id is unknown, by id.
        findings: to add to.
    """
    for protocol, rule in rules.items():
        for key in ids_of(rule):
            if without[key]:
                message = f"clips of no known {key} neither train nor test under '{protocol}'"
                findings.add("warning", message, without[key][0], len(without[key]))
        for part, choice in rule.items():
            for key, values in choice.items():
                absent = [value for value in values if value not in known[key]] if key != FRACTION else []
                if absent:
                    there = [str(value) for value in sorted(known[key] - {UNKNOWN})]
                    shown = ", ".join([*there[:MOST_SHOWN], *(["..."] if len(there) > MOST_SHOWN else [])])
                    message = f"{key}s that {part} under '{protocol}' are those of no clip"
                    example = f"{absent[0]}, where the clips have {shown or 'none'}"
                    findings.add("warning" if len(absent) < len(values) else "error", message, example, len(absent))


def check_split(store: ClipStore, protocol: str, dataset: str, findings: Findings) -> None:
    """Find clips' copies and subjects on both sides of a protocol's split, and classes on one side only.

    Subjects on both sides are meant where the split keeps cameras or setups apart.

    Args:
        store: the clips.
        protocol: of the data set or of the store.
        dataset: that the store holds.
        findings: to add to.
    """
    try:
        train, test = split(store, protocol, dataset)
    except ProtocolError as error:
        findings.add("error", UNFOLLOWED, str(error))
        return
    copies = test[copied_from_training(store, train, test)]
    if len(copies):
        message = f"test clips of '{protocol}' have exactly the joints of a training clip"
        findings.add("warning", message, store[int(copies[0])].name, len(copies))
    shared = _shared(store, "subject", train, test)
    if len(shared) and not any(_is_apart(store, key, train, test) for key in ("camera", "setup")):
        example = f"subject {shared[0]}"
        findings.add("warning", f"subjects train and test under '{protocol}'", example, len(shared))

    labels = store.clips["label"]
    for label in np.setdiff1d(labels[test], labels[train]):
        message = f"classes are tested but never trained on under '{protocol}'"
        findings.add("error", message, f"'{store.classes[label]}'")
    for label in np.setdiff1d(labels[train], labels[test]):
        findings.add("warning", f"classes are never tested under '{protocol}'", f"'{store.classes[label]}'")


def _shared(store: ClipStore, key: str, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The known values of an id on both sides."""
    shared = np.intersect1d(store.clips[key][train], store.clips[key][test])
    return shared[shared != UNKNOWN]


def _is_apart(store: ClipStore, key: str, train: np.ndarray, test: np.ndarray) -> bool:
    values = store.clips[key]
    return not np.intersect1d(values[train], values[test]).size
