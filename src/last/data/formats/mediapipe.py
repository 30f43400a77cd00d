"""MediaPipe Pose (Bazarevsky et al., 2020): landmarks in JSON, as people write its results down.

A list of frames, or ``{"frames": [...]}``. A frame is what the Python or the JavaScript interface returns,
``{"pose_landmarks": ..., "pose_world_landmarks": ...}``, or landmarks alone; these are those of one person or a list of
persons', each landmark ``{"x", "y", "z", "visibility"}`` or ``[x, y, z, visibility]``. Nobody is null or an empty list.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats.detections import Detections, confidences
from last.data.formats.format import Format, Reading
from last.data.formats.json_text import load, numbers
from last.data.formats.source import NoSkeletonError, Source, as_source
from last.skeleton import load_layout

JOINTS = 33
WORLD = "mediapipe33"  # metres
IMAGE = "mediapipe33_image"  # parts of the image's width and height
HIPS = (23, 24)
MAX_OFF_ORIGIN = 0.05  # metres; world landmarks have their origin between the hips

_KEYS = {
    WORLD: ("pose_world_landmarks", "poseWorldLandmarks", "worldLandmarks"),
    IMAGE: ("pose_landmarks", "poseLandmarks", "landmarks"),
}
_FIELDS = ("x", "y", "z", "visibility")
_KEYED = re.compile(rb'"(?:%b)"\s*:' % "|".join((*_KEYS[WORLD], *_KEYS[IMAGE])).encode())
_BARE = re.compile(rb'\s*(?:\{[^{}\[\]]*"frames"\s*:\s*)?\[[\s\[\],nul]*\[\s*\{\s*"(?:x|y|z|visibility)"\s*:')


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read a video's landmarks, and track the bodies; visibility is confidence, and no landmark is missing.

    World landmarks are read where a file has both kinds, unless the reading's layout is 2D. Landmarks alone are world
    landmarks where their origin lies between the hips.

    Args:
        source: the file.
        reading: for another layout, such as a hand's.

    Raises:
        NoSkeletonError: no frame shows a body.
        FormatError: it is not what the format promises; names file and frame.
    """
    source = as_source(source)
    layout = (reading or Reading()).layout
    content = load(source)
    frames = content.get("frames") if isinstance(content, dict) else content
    if not isinstance(frames, list):
        raise FormatError(f"{source} has no list of frames, expected one or an object with one under 'frames'")
    kind, people = _people_of(frames, source, prefers_image=layout is not None and layout.dimensions == 2)
    times = [t for t, persons in enumerate(people) for _ in persons]
    if not times:
        raise NoSkeletonError(f"{source} shows nobody in its {len(frames)} frames")
    persons = [person for persons in people for person in persons]
    values = _values(persons, times, len(layout.joints) if layout else JOINTS, source)
    if layout is None:
        layout = load_layout(kind or _kind_by_origin(values))
    elif kind and layout.name in _KEYS and layout.name != kind:
        raise FormatError(f"{source} has landmarks of the layout '{kind}', expected '{layout.name}'")
    has_visibility = values.shape[-1] > 3
    confidence = confidences(values[..., 3], lambda i: f"{source}, frame {times[i]}") if has_visibility else None
    found = Detections(values[..., : layout.dimensions], confidence, times, (0, len(frames) - 1))
    return found.clip(source, layout.name)


def claims(source: Source) -> bool:
    """Whether the file's content is landmarks; other formats are JSON too."""
    content = source.read()
    return bool(_KEYED.search(content) or _BARE.match(content))


def _people_of(frames: list[Any], source: Source, prefers_image: bool) -> tuple[str, list[list[Any]]]:
    """The kind of landmarks, empty where the file does not say, and those of each person in each frame."""
    objects = [t for t, frame in enumerate(frames) if isinstance(frame, dict)]
    if not objects:
        return "", [_people(frame, t, source) for t, frame in enumerate(frames)]
    bare = next((t for t, frame in enumerate(frames) if frame and not isinstance(frame, dict)), None)
    if bare is not None:
        raise FormatError(f"{source}, frame {bare}: found landmarks alone, but frame {objects[0]} is an object")
    known = {key for t in objects for key in frames[t]} & {*_KEYS[WORLD], *_KEYS[IMAGE]}
    if not known:
        raise FormatError(f"{source}, frame {objects[0]}: found no '{_KEYS[IMAGE][0]}' or '{_KEYS[WORLD][0]}'")
    by_kind = {
        kind: [_people(_under(keys, frame), t, source) for t, frame in enumerate(frames)]
        for kind, keys in _KEYS.items()
    }
    order = (IMAGE, WORLD) if prefers_image else (WORLD, IMAGE)
    kind = next((kind for kind in order if any(by_kind[kind])), order[0])
    other = IMAGE if kind == WORLD else WORLD
    for t, (these, others) in enumerate(zip(by_kind[kind], by_kind[other], strict=True)):
        if others and not these:
            raise FormatError(
                f"{source}, frame {t}: found '{_KEYS[other][0]}' without '{_KEYS[kind][0]}', which other frames have"
            )
    return kind, by_kind[kind]


def _under(keys: tuple[str, ...], frame: Any) -> Any:
    return next((frame[key] for key in keys if key in frame), None) if isinstance(frame, dict) else None


def _people(value: Any, t: int, source: Source) -> list[Any]:
    """The landmarks of each person."""
    value = _unwrapped(value)
    if not value:
        return []
    if not isinstance(value, list):
        raise FormatError(f"{source}, frame {t}: found no list of landmarks")
    persons = [value] if _is_landmark(value[0]) else map(_unwrapped, value)
    return [person for person in persons if person]


def _is_landmark(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and type(value[0]) in (int, float)
    return isinstance(value, dict) and "x" in value


def _unwrapped(value: Any) -> Any:
    """The list in a message of Protocol Buffers, ``{"landmark": [...]}``."""
    return value["landmark"] if isinstance(value, dict) and "landmark" in value else value


def _values(persons: list[Any], times: list[int], joints: int, source: Source) -> np.ndarray:
    """x, y, z of each landmark, and its visibility if the first one has it, (N, V, 3 or 4)."""
    fields = _FIELDS if _has_visibility(persons[0]) else _FIELDS[:3]
    rows = [_row(person, fields) for person in persons]
    values = numbers(rows)
    expected = (joints, len(fields))
    if values is not None and values.shape[1:] == expected:
        return values
    n = next(n for n, row in enumerate(rows) if (one := numbers(row)) is None or one.shape != expected)
    if isinstance(persons[n], list) and len(persons[n]) != joints:
        raise FormatError(
            f"{source}, frame {times[n]}: {len(persons[n])} landmarks, expected {joints}; for others pass --layout"
        )
    raise FormatError(f"{source}, frame {times[n]}: a landmark lacks a finite number among {', '.join(fields)}")


def _has_visibility(person: Any) -> bool:
    first = person[0] if isinstance(person, list) else None
    if isinstance(first, list):
        return len(first) > 3
    return isinstance(first, dict) and first.get("visibility") is not None


def _row(person: Any, fields: tuple[str, ...]) -> list[Any] | None:
    return [_coordinates(mark, fields) for mark in person] if isinstance(person, list) else None


def _coordinates(landmark: Any, fields: tuple[str, ...]) -> list[Any] | None:
    if isinstance(landmark, dict):
        return [landmark.get(field) for field in fields]
    return landmark[: len(fields)] if isinstance(landmark, list) else None


def _kind_by_origin(values: np.ndarray) -> str:
    """World landmarks have their origin between the hips, where an image has its corner."""
    hips = values[:, HIPS, :2].mean(axis=1)
    return WORLD if np.median(np.abs(hips)) <= MAX_OFF_ORIGIN else IMAGE


FORMATS = (Format("mediapipe", "MediaPipe Pose landmarks", ".json", read, claims=claims, takes_reading=True),)
