"""Joints of one layout as those of another: by name, or by the joints that can stand in for one.

Shapes: T frames, M bodies, V joints, C coordinates.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from last.data.clean import CleanOptions, clean
from last.data.clip import Clip
from last.data.store import ClipStore, StoreError
from last.data.store_writer import StoreWriter
from last.skeleton import Layout

# Those that may stand in for a joint, best first; where there are several names, their mean.
_MIDDLE: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {
    ("spine_base", "hip_centre", "mid_hip", "hip", "pelvis"): (
        *(("spine_base",), ("hip_centre",), ("mid_hip",), ("hip",), ("pelvis",)),
        ("left_hip", "right_hip"),
    ),
    ("spine_shoulder", "shoulder_centre", "neck"): (
        *(("spine_shoulder",), ("shoulder_centre",), ("neck",)),
        ("left_shoulder", "right_shoulder"),
    ),
    ("spine_mid", "spine", "torso"): (
        *(("spine_mid",), ("spine",), ("torso",)),
        ("spine_base", "spine_shoulder"),
        ("hip_centre", "shoulder_centre"),
        ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    ),
    ("head",): (("left_ear", "right_ear"), ("nose",)),
    ("nose",): (("head",),),
}
_SIDED: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {
    ("hand",): (("pinky", "index"), ("hand_tip",)),
    ("hand_tip",): (("index",),),
    ("index",): (("hand_tip",),),
    ("wrist",): (("hand",),),
    ("ankle",): (("foot",),),
    ("foot", "foot_index", "big_toe"): (("foot_index",), ("big_toe",), ("foot",)),
}
STAND_INS: dict[str, tuple[tuple[str, ...], ...]] = {
    **{joint: choices for joints, choices in _MIDDLE.items() for joint in joints},
    **{
        f"{side}_{joint}": tuple(tuple(f"{side}_{name}" for name in choice) for choice in choices)
        for joints, choices in _SIDED.items()
        for joint in joints
        for side in ("left", "right")
    },
}


class ConversionError(ValueError):
    """Two layouts of which one cannot be made from the other; the message says why."""


@dataclass(frozen=True)
class Correspondence:
    """Where the joints of a layout come from.

    Attributes:
        source: layout of the clips at hand.
        target: layout that they get.
        joints: for each of the target's joints those of the source of which it is the mean; none where it is missing.
    """

    source: Layout
    target: Layout
    joints: tuple[tuple[str, ...], ...]

    def lines(self) -> list[str]:
        """For people: which joints correspond, stand in, or are missing."""
        named = list(zip(self.target.joints, self.joints, strict=True))
        same = [joint for joint, sources in named if sources == (joint,)]
        stand_ins = [(joint, sources) for joint, sources in named if sources and sources != (joint,)]
        missing = [joint for joint, sources in named if not sources]
        lines = [f"{len(same)} of {len(named)} joints of '{self.target.name}' are joints of '{self.source.name}'"]
        for joint, sources in stand_ins:
            mean = "the mean of " if len(sources) > 1 else ""
            lines.append(f"  {joint}: {mean}{', '.join(sources)}")
        if missing:
            lines.append(f"  missing: {', '.join(missing)}")
        return lines


def correspondence(source: Layout, target: Layout) -> Correspondence:
    """Find the joints of one layout in another, by name or by what stands in for them.

    Raises:
        ConversionError: the target has a dimension that the source lacks, or under half of its joints have a source.
    """
    if target.dimensions > source.dimensions:
        raise ConversionError(
            f"layout '{source.name}' has 2 dimensions and '{target.name}' 3; depth cannot be made from pixels, so "
            "convert to a layout of 2 dimensions"
        )
    joints = tuple(_sources(joint, source) for joint in target.joints)
    found = sum(bool(names) for names in joints)
    if 2 * found < len(joints):
        raise ConversionError(
            f"only {found} of the {len(joints)} joints of layout '{target.name}' can be found in '{source.name}', "
            "expected half of them at least"
        )
    return Correspondence(source, target, joints)


def convert(clip: Clip, source: Layout, target: Layout) -> Clip:
    """A clip in another layout, in the unit that it has.

    Three dimensions become two as seen along z. Where y points up in one layout and down in the other, the body is
    turned about z by half a turn: that keeps left and right, which turning y alone would exchange.

    Args:
        clip: of the layout ``source``.
        source: its layout.
        target: the layout to be.

    Returns:
        The clip; a joint without a source, or of which a source is missing, is NaN and so is its confidence. Clean
        it to fill these gaps.

    Raises:
        ConversionError: as :func:`correspondence` says, or the clip has not the joints of ``source``.
    """
    return _convert(clip, correspondence(source, target))


def convert_store(
    store: ClipStore, target: Layout, out: Path, progress: Callable[[int, int], None] | None = None
) -> Correspondence:
    """Write a store anew in another layout, with its classes, ids, parts and protocols; gaps are filled by cleaning.

    Args:
        store: the clips.
        target: the layout to be.
        out: where the new store goes.
        progress: called with (clips done, clips in all).

    Raises:
        ConversionError: as :func:`correspondence` says.
        StoreError: ``out`` holds something else, or cannot be written.
    """
    if out.resolve() == store.path.resolve():
        raise StoreError(f"{out} is the store to convert, expected another place for the new one")
    found = correspondence(store.layout, target)
    provenance = {**store.meta["provenance"], "converted_from": store.layout.name}
    dtype = "float16" if store.joints.dtype.itemsize < 4 else "float32"
    with StoreWriter(out, target, store.classes, dtype, provenance, store.meta["protocols"]) as writer:
        for done, clip in enumerate(store, 1):
            cleaned, _ = clean(_convert(clip, found), target, CleanOptions(max_bodies=clip.bodies))
            if cleaned is None:
                raise ConversionError(f"clip '{clip.name}' has no joint that layout '{target.name}' has too")
            writer.append(cleaned)
            if progress:
                progress(done, len(store))
    return found


def _sources(joint: str, source: Layout) -> tuple[str, ...]:
    choices = ((joint,), *STAND_INS.get(joint, ()))
    return next((choice for choice in choices if set(choice) <= set(source.joints)), ())


def _convert(clip: Clip, found: Correspondence) -> Clip:
    source, target = found.source, found.target
    if clip.joints.shape[2:] != (len(source.joints), source.dimensions):
        raise ConversionError(
            f"clip '{clip.name}' has {clip.joints.shape[2]} joints of {clip.joints.shape[3]} coordinates, but layout "
            f"'{source.name}' has {len(source.joints)} of {source.dimensions}"
        )
    joints = np.full((*clip.joints.shape[:2], len(target.joints), target.dimensions), np.nan, np.float32)
    confidence = np.full(joints.shape[:3], np.nan, np.float32)
    seen = np.ones(clip.joints.shape[:3], np.float32) if clip.confidence is None else clip.confidence
    for v, names in enumerate(found.joints):
        if names:
            index = [source.joints.index(name) for name in names]
            joints[:, :, v] = clip.joints[:, :, index, : target.dimensions].mean(axis=2)
            confidence[:, :, v] = seen[:, :, index].min(axis=2)
    if _points_down(source) != _points_down(target):
        joints[..., :2] *= -1
    is_whole = clip.confidence is None and all(found.joints)
    return replace(clip, joints=joints, layout=target.name, confidence=None if is_whole else confidence)


def _points_down(layout: Layout) -> bool:
    return layout.y_down or layout.dimensions == 2
