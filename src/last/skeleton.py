"""Skeleton layouts and the graph that networks see.

One table of parents gives the bones, the edges of the graph and its partition, so that they cannot disagree.
Shapes: V joints, K graph subsets.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from last.config import find, read_yaml
from last.setting_values import ConfigError

MAX_JOINTS = 1000  # a body with its hands and its face has 543


@dataclass(frozen=True)
class Layout:
    """The joints of a skeleton and how they hang together.

    Attributes:
        name: what data sets call this order of joints.
        joints: a name for each joint, in the order of the data.
        parents: index of each joint's parent; the root is its own.
        centre: joint from which the graph's partition measures hops.
        dimensions: 2 (pixels) or 3 (metres).
        y_down: whether y points down, as in an image, rather than up; pixels always do.

    Raises:
        ConfigError: the parents are not one tree, a name repeats, or an index is out of range.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    centre: int
    dimensions: int
    y_down: bool = False

    def __post_init__(self) -> None:
        count = len(self.joints)
        if count > MAX_JOINTS:
            raise ConfigError(f"layout '{self.name}' has {count} joints, expected at most {MAX_JOINTS}")
        if len(set(self.joints)) != count:
            twice = sorted({joint for joint in self.joints if self.joints.count(joint) > 1})
            raise ConfigError(f"layout '{self.name}' names these joints twice: {', '.join(twice)}")
        if len(self.parents) != count or not all(0 <= p < count for p in (*self.parents, self.centre)):
            raise ConfigError(f"layout '{self.name}' has a parent or centre outside its {count} joints")
        roots = [self.joints[v] for v, p in enumerate(self.parents) if v == p]
        if len(roots) != 1:
            raise ConfigError(
                f"layout '{self.name}' has {len(roots)} roots ({', '.join(roots)}), expected exactly one joint that is "
                "its own parent"
            )
        unreached = [self.joints[v] for v in np.flatnonzero(np.isinf(self.hops_from(self.root)))]
        if unreached:
            raise ConfigError(f"in layout '{self.name}' these joints hang in a loop: {', '.join(unreached)}")
        if self.dimensions not in (2, 3):
            raise ConfigError(f"layout '{self.name}' has {self.dimensions} dimensions, expected 2 or 3")

    @cached_property
    def root(self) -> int:
        """Index of the root joint."""
        return next(v for v, parent in enumerate(self.parents) if v == parent)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(joint, parent) for each joint but the root."""
        return tuple((v, parent) for v, parent in enumerate(self.parents) if v != parent)

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(left, right) joints, by their names."""
        index = {joint: v for v, joint in enumerate(self.joints)}
        return tuple(
            (v, index["right" + joint[4:]])
            for joint, v in index.items()
            if joint.startswith("left_") and "right" + joint[4:] in index
        )

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each joint the joint of the other side, or itself."""
        other = list(range(len(self.joints)))
        for left, right in self.pairs:
            other[left], other[right] = right, left
        return tuple(other)

    def pair(self, part: str) -> tuple[int, int] | None:
        """The (left, right) joints of a body part such as ``shoulder``, or None."""
        return next((p for p in self.pairs if self.joints[p[0]] == f"left_{part}"), None)

    def hops_from(self, joint: int) -> np.ndarray:
        """Number of bones between ``joint`` and each joint, (V,); infinite where there is no path."""
        count = len(self.joints)
        hops = np.full(count, np.inf)
        hops[joint] = 0
        for _ in range(count):
            for v, parent in self.bones:
                hops[v] = min(hops[v], hops[parent] + 1)
                hops[parent] = min(hops[parent], hops[v] + 1)
        return hops

    def difference(self, other: Layout) -> str:
        """The first thing that tells this layout, the one there, from another, the one here; nothing if they agree."""
        if self.dimensions != other.dimensions:
            return f"it has {self.dimensions} dimensions there and {other.dimensions} here"
        if self.joints != other.joints:
            counts = f"it has {len(self.joints)} joints there and {len(other.joints)} here"
            return first_difference("joint", self.joints, other.joints) or counts
        for joint, parent, another in zip(self.joints, self.parents, other.parents, strict=True):
            if parent != another:
                old, new = self.joints[parent], self.joints[another]
                return f"the parent of the joint '{joint}' is '{old}' there and '{new}' here"
        if self.centre != other.centre:
            return f"its centre is '{self.joints[self.centre]}' there and '{self.joints[other.centre]}' here"
        if self.y_down != other.y_down:
            return f"y_down is {str(self.y_down).lower()} there and {str(other.y_down).lower()} here"
        return f"its name is '{self.name}' there and '{other.name}' here" if self.name != other.name else ""

    def to_dict(self) -> dict[str, Any]:
        """The form of a layout's YAML file."""
        return {
            "name": self.name,
            "dimensions": self.dimensions,
            "y_down": self.y_down,
            "centre": self.joints[self.centre],
            "joints": {joint: self.joints[parent] for joint, parent in zip(self.joints, self.parents, strict=True)},
        }


def first_difference(what: str, there: Sequence[str], here: Sequence[str]) -> str:
    """The first place where two lists of names differ, in words; nothing where one begins the other."""
    pairs = enumerate(zip(there, here, strict=False))
    return next((f"{what} {i} is '{a}' there and '{b}' here" for i, (a, b) in pairs if a != b), "")


def unlike(layout: Layout, classes: Sequence[str], other: Layout, others: Sequence[str]) -> str:
    """What first sets a layout and classes apart from others, to follow a sentence; nothing where no name tells."""
    first = layout.difference(other) or first_difference("class", classes, others)
    return f"; {first}" if first else ""


def layout_from_dict(content: Mapping[str, Any], source: str) -> Layout:
    """Build a layout from the form of its YAML file.

    Args:
        content: ``name``, ``dimensions``, ``centre``, ``joints`` (joint name to parent name, in data order), and
            ``y_down`` where it is true.
        source: where it came from, for errors.

    Raises:
        ConfigError: a key is missing or unknown, or a parent is not a joint.
    """
    keys = {"name", "dimensions", "centre", "joints"}
    wrong = [f"lacks '{key}'" for key in sorted(keys - set(content))]
    wrong += [f"has the unknown key '{key}'" for key in content if key not in keys | {"y_down"}]
    if wrong:
        raise ConfigError(f"{source} {', '.join(wrong)}; a layout has {', '.join(sorted(keys))}, and y_down if true")
    joints = content["joints"]
    if not isinstance(joints, Mapping) or not joints:
        raise ConfigError(f"'joints' in {source} must map each joint to its parent")
    names = (content["name"], content["centre"], *joints, *joints.values())
    if not all(isinstance(name, str | int) for name in names):
        raise ConfigError(f"{source} has a name that is neither text nor a number, expected one for each joint")
    if content["dimensions"] not in (2, 3):
        raise ConfigError(f"{source} has {reprlib.repr(content['dimensions'])} dimensions, expected 2 or 3")
    index = {str(joint): v for v, joint in enumerate(joints)}
    missing = sorted({str(p) for p in (*joints.values(), content["centre"])} - set(index))
    if missing:
        raise ConfigError(f"{source} names as parent or centre what is not among its joints: {', '.join(missing)}")
    try:
        return Layout(
            name=str(content["name"]),
            joints=tuple(index),
            parents=tuple(index[str(parent)] for parent in joints.values()),
            centre=index[str(content["centre"])],
            dimensions=int(content["dimensions"]),
            y_down=bool(content.get("y_down", False)),
        )
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def load_layout(name: str) -> Layout:
    """A built-in layout by name, or one from the user's YAML file.

    Raises:
        ConfigError: there is no such layout, or its file is wrong.
    """
    path = find("layout", name)
    return _load(path.absolute(), path.stat().st_mtime_ns if path.exists() else 0)


@cache
def _load(path: Path, stamp: int) -> Layout:
    """Read once for many clips, and again when the file has changed."""
    return layout_from_dict(read_yaml(path), str(path))


def spatial_partition(layout: Layout) -> np.ndarray:
    """The graph of a layout in three subsets, (K, V, V) float32, for products ``x @ A[k]``.

    Entry [k, v, w] carries joint v to joint w. Subset 0 holds v as far from the centre as w (v itself, since a tree
    has no such edge otherwise), 1 the edges towards the centre, 2 those away from it. The one-hop graph with
    self-loops is normalised as a whole, A D^-1, so that every entry lies in [0, 1] and each column of the sum adds
    up to 1. From ST-GCN (Yan et al., AAAI 2018).
    """
    count = len(layout.joints)
    adjacency = np.eye(count)
    for v, parent in layout.bones:
        adjacency[v, parent] = adjacency[parent, v] = 1
    adjacency /= adjacency.sum(axis=0, keepdims=True)
    hops = layout.hops_from(layout.centre)
    source, target = hops[:, None], hops[None, :]
    return np.stack(
        [adjacency * (source == target), adjacency * (source > target), adjacency * (source < target)]
    ).astype(np.float32)
