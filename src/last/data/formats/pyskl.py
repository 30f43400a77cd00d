"""Annotation pickles of PYSKL (Duan et al., ACM Multimedia 2022) and MMAction2, in 3D and 2D.

``{"split": {list: [frame_dir]}, "annotations": [annotation]}``, or the annotations alone. An annotation has
``frame_dir`` (its name), ``label``, ``total_frames``, ``keypoint`` (M, T, V, C), and in 2D ``keypoint_score``
(M, T, V). Of the lists, ``xsub_train`` and ``xsub_val`` become parts ``xsub/train`` and ``xsub/test``, plain ``train``
and ``test`` those of ``given``; others are passed over, and so is a ``val`` beside a ``test``. Shapes: T frames, M
bodies, V joints, C coordinates.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats import pickles
from last.data.formats.container import chosen, is_name, label_of, layout_of, opened_once, part_of, without_padding
from last.data.formats.format import Format, Reading
from last.data.formats.ntu import ids_in
from last.data.formats.source import Source, as_source

_LIST_TO_CHOOSE_BY = re.compile(r"val(\d*)$")  # settings, where another list tests


@dataclass(frozen=True)
class _Annotations:
    """What a file holds: its annotations, where each name's lies, and the parts that each name is in."""

    rows: list[dict[str, Any]]
    index: dict[str, int]
    parts: dict[str, list[str]]


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read one clip of a file, the first if ``source`` names none; scores become confidences, at most 1.

    Subject, camera, setup and replication come from a name such as ``S001C002P003R002A013``; so does the label where
    the annotation has none.

    Raises:
        NoSkeletonError: no frame shows a body.
        FormatError: the file is not what the format promises, or of another layout; names clip and place.
    """
    opened = _open(as_source(source))
    source = chosen(as_source(source), opened.index)
    annotation = opened.rows[opened.index[source.name]]
    points = _array(annotation, "keypoint", 4, source).swapaxes(0, 1)
    promised = annotation.get("total_frames", len(points))
    if type(promised) is not int or promised != len(points):
        found = promised if type(promised) is int else type(promised).__name__
        raise FormatError(f"{source} has 'total_frames' {found}, but {len(points)} frames in 'keypoint'")
    layout = layout_of(points.shape[2], points.shape[3], source, reading)
    joints = without_padding(points, source)
    confidence = None
    if "keypoint_score" in annotation:
        scores = _array(annotation, "keypoint_score", 3, source).swapaxes(0, 1)
        if scores.shape != points.shape[:3]:
            raise FormatError(f"{source} has scores of {scores.shape}, expected one for each joint, {points.shape[:3]}")
        # Estimators give scores a little above 1.
        confidence = np.nan_to_num(scores[: len(joints), : joints.shape[1]].astype(np.float32)).clip(0, 1)
        joints[(confidence == 0) & (joints == 0).all(axis=-1)] = np.nan
    known: dict[str, Any] = ids_in(source.name)
    if annotation.get("label") is not None:
        known["label"] = label_of(annotation["label"], source)
    parts = tuple(opened.parts.get(source.name, ()))
    return Clip(joints, source.name, layout.name, **known, confidence=confidence, parts=parts)


def clips(source: Source, reading: Reading | None = None) -> list[str]:
    """Names of the clips in a file, in its order."""
    return [_name_of(row) for row in _open(source).rows]


def claims(source: Source) -> bool:
    """Whether a pickle holds annotations, rather than the labels of another format's arrays."""
    content = _content(source)
    return isinstance(content, dict) or (isinstance(content, list) and isinstance(next(iter(content), None), dict))


_content = opened_once(pickles.load)


@opened_once
def _open(source: Source) -> _Annotations:
    content = _content(source)
    rows, split = (content.get("annotations"), content.get("split", {})) if isinstance(content, dict) else (content, {})
    if not isinstance(rows, list) or not rows or not isinstance(split, dict):
        raise FormatError(f"{source} holds no list of annotations, or no dictionary of lists under 'split'")
    for i, row in enumerate(rows):
        if not isinstance(row, dict) or not _name_of(row):
            raise FormatError(f"{source}, annotation {i}: no dictionary with a name under 'frame_dir'")
    parts = defaultdict(list)
    for list_name, names in split.items():
        part = part_of(list_name) if is_name(list_name) else None
        if part is None or _LIST_TO_CHOOSE_BY.sub(r"test\1", list_name) in split.keys() - {list_name}:
            continue
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise FormatError(f"{source}: the list '{list_name}' under 'split' holds what are no names")
        for name in names:
            parts[name].append(part)
    index = {_name_of(row): i for i, row in reversed(list(enumerate(rows)))}  # of a name that repeats, its first
    return _Annotations(rows, index, parts)


def _name_of(annotation: dict[str, Any]) -> str:
    name = annotation.get("frame_dir", annotation.get("filename"))
    return name if is_name(name) else ""


def _array(annotation: dict[str, Any], key: str, dimensions: int, source: Source) -> np.ndarray:
    if key not in annotation and "raw_file" in annotation:
        raise FormatError(f"{source} has no '{key}': it lies in a file of its own, a form that is not read")
    array = annotation.get(key)
    if not isinstance(array, np.ndarray) or array.ndim != dimensions or array.dtype.kind not in "iuf":
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise FormatError(f"{source} has {found} under '{key}', expected an array of {dimensions} dimensions")
    return array


FORMATS = (
    Format(
        "pyskl", "PYSKL's and MMAction2's annotations", ".pkl", read, clips=clips, claims=claims, takes_reading=True
    ),
)
