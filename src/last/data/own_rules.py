"""Protocols of a person's own: which clips train and which test, by the rules of a description or a store.

A rule is ``{train: {subject: [1, 2, 3]}, test: {subject: [4, 5]}}``; without ``test`` all others test.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from last.data.clip import UNKNOWN
from last.data.store import IDS, ClipStore
from last.setting_values import ConfigError

Rule = Mapping[str, Any]


def require_rules(rules: Any, source: str) -> None:
    """Refuse what is not the ``protocols`` section of a data set's configuration: name -> train, test -> id -> values.

    Raises:
        ConfigError: says where it is wrong.
    """
    for name, rule in rules.items() if isinstance(rules, Mapping) else [("protocols", rules)]:
        parts = list(rule.values()) if isinstance(rule, Mapping) and {"train"} <= set(rule) <= {"train", "test"} else []
        if not parts or not all(_is_choice(part) for part in parts):
            raise ConfigError(
                f"protocol '{name}' in {source} is {rule}, expected 'train' and perhaps 'test', each with one or more "
                f"of {', '.join((*IDS, 'name'))} and a list of its values, as in train: {{subject: [1, 2, 3]}}"
            )


def _is_choice(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and bool(part)
        and set(part) <= {*IDS, "name"}
        and all(
            isinstance(values, list)
            and values
            and all(isinstance(value, str if key == "name" else int) for value in values)
            for key, values in part.items()
        )
    )


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


def _chosen(part: Mapping[str, Any], store: ClipStore) -> np.ndarray:
    masks = [np.isin(store.clips[key], [_stored(value) for value in values]) for key, values in part.items()]
    return np.logical_and.reduce(masks)


def _stored(value: int | str) -> int | bytes:
    return value.encode() if isinstance(value, str) else value


def _has_ids(rule: Rule, store: ClipStore) -> np.ndarray:
    has = np.ones(len(store), dtype=bool)
    for key in ids_of(rule):
        has &= store.clips[key] != UNKNOWN
    return has
