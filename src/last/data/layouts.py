"""Which layout fits joints of unknown order. Shapes: F frames of one body each, V joints, C coordinates, B bones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree

from last.config import available
from last.skeleton import Layout, load_layout

MOST_FRAMES = 500  # looked at; more tell nothing new
_TOPS = ("head", "nose", "neck")
_BOTTOMS = (("ankle", "foot", "heel", "toe"), ("hip", "hip_centre", "spine_base", "mid_hip", "pelvis"))


@dataclass(frozen=True)
class Suggestion:
    """How well a layout fits joints.

    Attributes:
        layout: the layout.
        detour: total length of its bones over that of the shortest tree between the joints, less one; the bones of
            a body join near joints, and come to 0.1 to 0.3.
        stretch: how much bones change their length: standard deviation over mean, mean of all bones. About 0.2 for
            the joints of a Kinect over several people; 0 in two dimensions, where a bone's length says little.
        asymmetry: difference over sum of the lengths of a left and a right bone, mean of all pairs.
        upside_down: share of the frames in which the head is below the feet.
        order: for each joint of the layout its place among those given: where they have the layout's names in another
            order, names decide.
        misnamed: share of the joints that were given with another name.
        missided: share of those whose given name is of another side, or of one where the layout has none.
    """

    layout: Layout
    detour: float
    stretch: float
    asymmetry: float
    upside_down: float
    order: tuple[int, ...]
    misnamed: float = 0.0
    missided: float = 0.0

    @property
    def score(self) -> float:
        """From 0 to 1, best."""
        # A joint elsewhere counts less than one of another name: some layouts are others in another order.
        faults = self.disorder + self.upside_down + self.misnamed + self.missided + self.moved / 2
        return 1 / (1 + faults)

    @property
    def moved(self) -> float:
        """Share of the joints that stand elsewhere among those given."""
        return float(np.mean([v != place for v, place in enumerate(self.order)]))

    @property
    def disorder(self) -> float:
        """What speaks against the order of the joints, whichever way the axes point."""
        return self.detour + self.stretch + self.asymmetry

    def __str__(self) -> str:
        reasons = [f"its bones are {1 + self.detour:.1f} times as long as the shortest tree between the joints"]
        if self.layout.dimensions == 3:
            reasons.append(f"change their length by {self.stretch:.0%}")
        if self.layout.pairs:
            reasons.append(f"differ by {self.asymmetry:.0%} between left and right")
        if self.upside_down > 0.5:
            reasons.append("put the head below the feet")
        if self.misnamed:
            reasons.append(f"{self.misnamed:.0%} of the joints have other names")
        if self.missided:
            reasons.append(f"{self.missided:.0%} have names of another side")
        if self.moved:
            reasons.append(f"{self.moved:.0%} of the joints stand in another place, by their names")
        return f"'{self.layout.name}' ({self.score:.2f}): {', '.join(reasons)}"


def suggest(joints: np.ndarray, names: Sequence[str] | None = None) -> list[Suggestion]:
    """The built-in layouts of as many joints and dimensions, best first; none where there is no such layout.

    Args:
        joints: (F, V, C), of one data set; NaN where missing.
        names: of the joints, where the data gives them.
    """
    layouts = (load_layout(name) for name in available("layout"))
    shape = joints.shape[1:]
    fits = [fit(joints, layout, names) for layout in layouts if shape == (len(layout.joints), layout.dimensions)]
    return sorted(fits, key=lambda suggestion: -suggestion.score)


def fit(joints: np.ndarray, layout: Layout, names: Sequence[str] | None = None) -> Suggestion:
    """How well one layout fits; as :func:`suggest`."""
    plain = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names or layout.joints]
    is_permutation = sorted(plain) == sorted(layout.joints)
    order = tuple(map(plain.index, layout.joints)) if is_permutation else tuple(range(len(layout.joints)))
    pairs_of_names = [(joint, plain[v]) for joint, v in zip(layout.joints, order, strict=True)]
    joints = joints[:, order]
    joints = joints[:: -(-len(joints) // MOST_FRAMES) or 1].astype(np.float64)
    joints[~np.isfinite(joints)] = np.nan
    distances = np.linalg.norm(joints[:, :, None] - joints[:, None], axis=-1)  # (F, V, V)
    known = np.isfinite(distances)
    # A clip in another unit than the others would outweigh them.
    sizes = np.where(known, distances, 0).sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    usual = np.median(sizes[sizes > 0]) if sizes.any() else 0
    known &= ((sizes > usual / 5) & (sizes < usual * 5))[:, None, None]
    count = np.maximum(known.sum(axis=0), 1)
    # To the search for the shortest tree, joints nearer than 1e-8 have no edge.
    mean = np.maximum(np.where(known, distances, 0).sum(axis=0) / count, 1e-6)
    spread = np.sqrt((np.where(known, distances - mean, 0) ** 2).sum(axis=0) / count)

    outer, inner = np.array(layout.bones, dtype=int).reshape(-1, 2).T
    lengths = mean[outer, inner]
    shortest = minimum_spanning_tree(mean).sum()
    stretch = float((spread[outer, inner] / lengths).mean()) if len(outer) else 0.0
    bone = dict(zip(outer.tolist(), lengths.tolist(), strict=True))
    pairs = [(bone[left], bone[right]) for left, right in layout.pairs if left in bone and right in bone]
    asymmetry = float(np.mean([abs(left - right) / (left + right) for left, right in pairs] or [0]))
    up = upward(joints, layout)
    return Suggestion(
        layout,
        detour=float(lengths.sum() / shortest) - 1 if len(outer) else 0.0,
        stretch=stretch if layout.dimensions == 3 else 0.0,
        asymmetry=asymmetry,
        upside_down=float((up[:, 1] < 0).mean()) if len(up) else 0.0,
        order=order,
        misnamed=float(np.mean([joint != name for joint, name in pairs_of_names])),
        missided=float(np.mean([_side(name) not in ("", _side(joint)) for joint, name in pairs_of_names])),
    )


def upward(joints: np.ndarray, layout: Layout) -> np.ndarray:
    """Direction from the feet, or the hips, to the head, by the names of the joints.

    Args:
        joints: (F, V, C); NaN where missing.
        layout: of the joints.

    Returns:
        (frames, C) of length 1, y up whichever way the layout has it, of the frames in which it can be seen.
    """
    top = next((layout.joints.index(name) for name in _TOPS if name in layout.joints), None)
    bottoms = (_of_parts(layout, parts) for parts in _BOTTOMS)
    bottom = next((found for found in bottoms if found), None)
    if top is None or bottom is None:
        return np.zeros((0, layout.dimensions))
    direction = joints[:, top] - joints[:, bottom].mean(axis=1)
    if layout.y_down or layout.dimensions == 2:
        direction = direction * np.where(np.arange(layout.dimensions) == 1, -1, 1)
    length = np.linalg.norm(direction, axis=-1)
    seen = length > 0
    return direction[seen] / length[seen, None]


def _of_parts(layout: Layout, parts: Iterable[str]) -> list[int]:
    """The joints of the first of these parts that the layout has, on either side."""
    for part in parts:
        found = [v for v, name in enumerate(layout.joints) if name.removeprefix("left_").removeprefix("right_") == part]
        if found:
            return found
    return []


def _side(joint: str) -> str:
    side = joint.partition("_")[0]
    return side if side in ("left", "right") else ""
