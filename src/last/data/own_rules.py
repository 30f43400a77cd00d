"""Protocols of a person's own: which clips train and which test, by the rules of a description or a store.

A rule is ``{train: {subject: [1, 2, 3]}, test: {subject: [4, 5]}}`` or ``{train: {fraction: 0.8}}``; without ``test``
all others test.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from last.data.clip import UNKNOWN
from last.data.store import IDS, ClipStore
from last.setting_values import ConfigError

Rule = Mapping[str, Any]
FRACTION = "fraction"  # of each class, in the place of an id


def require_rules(rules: Any, source: str) -> None:
    """Refuse what is not the ``protocols`` section of a data set's configuration: name -> train, test -> id -> values.

    Raises:
        ConfigError: says where it is wrong.
    """
    for name, rule in rules.items() if isinstance(rules, Mapping) else [("protocols", rules)]:
        parts = dict(rule) if isinstance(rule, Mapping) and {"train"} <= set(rule) <= {"train", "test"} else {}
        # Both parts would take the same fraction.
        if not parts or not all(_is_choice(choice, may_be_fraction=part == "train") for part, choice in parts.items()):
            raise ConfigError(
                f"protocol '{name}' in {source} is {rule}, expected 'train' and perhaps 'test', each with one or more "
                f"of {', '.join((*IDS, 'name'))} and a list of its values, as in train: {{subject: [1, 2, 3]}}; "
                f"'train' may have a {FRACTION} between 0 and 1 too, as in train: {{{FRACTION}: 0.8}}"
            )


def _is_choice(choice: Any, may_be_fraction: bool) -> bool:
    def is_right(key: Any, value: Any) -> bool:
        if key == FRACTION:
            return may_be_fraction and isinstance(value, float) and 0 < value < 1
        kind = str if key == "name" else int
        is_list = isinstance(value, list) and bool(value) and all(isinstance(each, kind) for each in value)
        return key in (*IDS, "name") and is_list

    return isinstance(choice, Mapping) and bool(choice) and all(is_right(*item) for item in choice.items())


def ids_of(rule: Rule) -> tuple[str, ...]:
    """The ids by which a rule chooses.

    A clip that lacks one of them lies in neither part: nobody can say that its person, or camera, is not in the other.
    """
    return tuple(key for key in IDS if any(key in part for part in rule.values()))


def trains(rule: Rule, store: ClipStore) -> np.ndarray:
    """The clips that train, as a mask."""
    return _chosen(rule["train"], store) & _has_ids(rule, store)


def tests(rule: Rule, store: ClipStore) -> np.ndarray:
    """The clips that test, as a mask."""
    chosen = _chosen(rule["test"], store) if "test" in rule else ~_chosen(rule["train"], store)
    return chosen & _has_ids(rule, store)


def _chosen(choice: Mapping[str, Any], store: ClipStore) -> np.ndarray:
    chosen = np.ones(len(store), dtype=bool)
    for key, value in choice.items():
        if key == FRACTION:
            chosen &= _of_each_class(value, store)
        else:
            chosen &= np.isin(store.clips[key], [each.encode() if key == "name" else each for each in value])
    return chosen


def _of_each_class(fraction: float, store: ClipStore) -> np.ndarray:
    """So many clips of each class, as a mask; of a class of two or more neither none nor all.

    Those whose names have the lowest hashes: that deals out names which follow each other, such as takes of one person,
    and few clips change sides when others are added.
    """
    names, labels = store.clips["name"], store.clips["label"]
    digests = (hashlib.blake2b(name, digest_size=8).digest() for name in names.tolist())
    order = np.argsort(np.frombuffer(b"".join(digests), dtype=">u8"), kind="stable")
    chosen = np.zeros(len(store), dtype=bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        chosen[members[: max(min(round(fraction * len(members)), len(members) - 1), 1)]] = True
    return chosen


def _has_ids(rule: Rule, store: ClipStore) -> np.ndarray:
    has = np.ones(len(store), dtype=bool)
    for key in ids_of(rule):
        has &= store.clips[key] != UNKNOWN
    return has
