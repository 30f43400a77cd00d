"""A layout for joints that nobody has described: from their names and from how they move.

Shapes: T frames, V joints, C coordinates.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree

from last.skeleton import Layout

# A bone costs the spread of its length plus this part of the length. Tried on clips of the data sets whose trees are
# known: in space, 93 of 95 bones are found; in pixels, where every bone changes its length as it turns, 12 of 12.
_LENGTH_COUNTS = {3: 0.05, 2: 0.3}
_TRUNK_COUNTS = 0.8

_SIDES = {
    **dict.fromkeys(("l", "left", "lt", "lft", "izq", "izquierda", "izquierdo", "gauche", "links"), "left"),
    **dict.fromkeys(("r", "right", "rt", "rgt", "der", "derecha", "derecho", "droite", "droit", "rechts"), "right"),
}
_TOPS = ("head", "nose", "neck", "cabeza", "nariz", "cuello", "tete", "nez", "cou", "kopf", "nase", "hals")
_BOTTOMS = (
    *("foot", "ankle", "toe", "heel", "knee", "pie", "tobillo", "rodilla", "pied", "cheville", "genou"),
    *("fuss", "knochel", "knie"),
)
_WORD = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])|[\W_]+")


@dataclass(frozen=True)
class OwnLayout:
    """A layout that was made, and why it is so.

    Attributes:
        layout: the layout.
        upright: why y is taken to point up or down.
        is_sided: whether names tell left from right.
    """

    layout: Layout
    upright: str
    is_sided: bool


def own_layout(name: str, joints: Sequence[str], clips: Sequence[np.ndarray]) -> OwnLayout:
    """Guess the bones of joints by how little their distances change.

    Args:
        name: of the layout.
        joints: names in the file.
        clips: of one body each, (T, V, C), NaN where missing.
    """
    dimensions = clips[0].shape[-1]
    names = plain_names(joints)
    mirror = Layout(name, names, (0,) * len(names), 0, dimensions).mirror
    sides = np.array([name.startswith("right_") - name.startswith("left_") for name in names])
    edges = bones(clips, mirror, sides)
    hops = _hops(edges, len(names)).sum(axis=1)
    middle = int((hops + len(names) ** 2 * abs(sides)).argmin())  # in the trunk, where there is one
    is_down, why = _points_down(names, clips)
    layout = Layout(name, names, _parents(edges, middle, len(names)), middle, dimensions, is_down)
    return OwnLayout(layout, why, bool(layout.pairs))


def bones(clips: Sequence[np.ndarray], mirror: Sequence[int], sides: np.ndarray) -> list[tuple[int, int]]:
    """The tree over the joints whose edges change their length least, and are short.

    An edge from left to right is in it only where nothing else joins two parts of the tree.

    Args:
        clips: of one body each, (T, V, C), NaN where missing; bodies may differ in size.
        mirror: for each joint the joint of the other side, or itself.
        sides: -1 for each left joint, 1 for each right one, 0 for each of the trunk or of a side unknown, (V,).
    """
    count, dimensions = clips[0].shape[1:]
    frames, lengths, squares = (np.zeros((count, count)) for _ in range(3))
    for clip in clips:
        x = clip.astype(np.float64)
        distances = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1)  # (T, V, V)
        known = np.isfinite(distances)
        seen = known.sum(axis=0)
        total = np.where(known, distances, 0).sum(axis=0)
        squares += np.where(known, (distances - total / np.maximum(seen, 1)) ** 2, 0).sum(axis=0)
        lengths += total
        frames += seen
    other = np.array(mirror)
    # Both sides are built alike, and of a bone that is never seen the other side's tells.
    frames, lengths, squares = (sums + sums[other][:, other] for sums in (frames, lengths, squares))
    spread, length = np.sqrt(squares / np.maximum(frames, 1)), lengths / np.maximum(frames, 1)
    cost = spread + _LENGTH_COUNTS[dimensions] * length
    trunk = sides == 0
    cost[np.ix_(trunk, trunk)] *= _TRUNK_COUNTS  # or a shoulder, which is as rigid, comes between hip and neck
    cost[np.multiply.outer(sides, sides) < 0] += cost.max(initial=0)  # more than any other
    # To the search a cost of zero is no edge; joints that are never seen together are far apart.
    cost = np.where(frames > 0, np.maximum(cost, 1e-9), cost.max(initial=0) + 1)
    tree = minimum_spanning_tree(cost).tocoo()
    return [(int(a), int(b)) for a, b in zip(tree.row, tree.col, strict=True)]


def plain_names(joints: Sequence[str]) -> tuple[str, ...]:
    """Names in small letters with sides in front, as in ``left_hand`` for ``LHand``, ``hand.l`` or ``HandLeft``.

    Where that would make two joints the same, all keep the names they have.
    """
    names = []
    for joint in joints:
        words = [word.lower() for word in _WORD.split(joint) if word]
        side = next((_SIDES[word] for word in words if word in _SIDES), None)
        rest = [word for word in words if word not in _SIDES]
        names.append("_".join([side, *rest] if side and rest else words))
    return tuple(names) if len(set(names)) == len(names) and all(names) else tuple(joints)


def _hops(edges: Sequence[tuple[int, int]], count: int) -> np.ndarray:
    hops = np.full((count, count), np.inf)
    np.fill_diagonal(hops, 0)
    for a, b in edges:
        hops[a, b] = hops[b, a] = 1
    for through in range(count):
        hops = np.minimum(hops, hops[:, through, None] + hops[None, through])
    return hops


def _parents(edges: Sequence[tuple[int, int]], root: int, count: int) -> tuple[int, ...]:
    hops = _hops(edges, count)[root]
    parents = [root] * count
    for a, b in edges:
        outer, inner = (a, b) if hops[a] > hops[b] else (b, a)
        parents[outer] = inner
    return tuple(parents)


def _points_down(names: Sequence[str], clips: Sequence[np.ndarray]) -> tuple[bool, str]:
    if clips[0].shape[-1] == 2:
        return True, "pixels: y points down"
    tops, bottoms = ([v for v, name in enumerate(names) if _is_among(name, words)] for words in (_TOPS, _BOTTOMS))
    if not tops or not bottoms:
        missing = " and none ".join(["head, nose or neck"] * (not tops) + ["foot, ankle or knee"] * (not bottoms))
        return False, f"no joint is named {missing}, so y is taken to point up; say y_down: true if it does not"
    height = np.concatenate([clip[:, tops[:1], 1] - clip[:, bottoms, 1] for clip in clips])
    is_down = bool(np.median(height[np.isfinite(height)]) < 0) if np.isfinite(height).any() else False
    place = "below" if is_down else "above"
    return is_down, f"'{names[tops[0]]}' lies {place} '{names[bottoms[0]]}', so y points {'down' if is_down else 'up'}"


def _is_among(name: str, words: Sequence[str]) -> bool:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return any(part.rstrip("0123456789") in words for part in plain.split("_"))
