"""OpenPose (Cao et al., TPAMI 2021): JSON, one file a frame, and the Kinetics-skeleton files made with it.

``NAME_000000000012_keypoints.json`` holds ``{"people": [{"pose_keypoints_2d": [x, y, score, ...]}]}`` in pixels.
Kinetics-skeleton (Yan et al., AAAI 2018) has one file a clip: ``{"data": [{"frame_index", "skeleton": [{"pose":
[x, y, ...], "score": [...]}]}], "label", "label_index"}``, x and y from 0 to 1.
"""

import re
import reprlib
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from last.data.clip import UNKNOWN, Clip, FormatError
from last.data.formats import json_text
from last.data.formats.detections import MAX_JOINTS, Detections, keypoints, layout_of, split_scores
from last.data.formats.format import Format, Reading
from last.data.formats.source import NoSkeletonError, Source, as_source

SUFFIX = "_keypoints.json"
LAYOUTS = {18: "openpose18", 25: "openpose25"}

_NAME = re.compile(r"(.*?)[_.-]?([0-9]{1,15})", re.DOTALL)


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read the frames of a clip from their folder, in the order of their numbers, and track the bodies.

    A number that is left out is a frame without bodies. A joint of score 0 is missing.

    Args:
        source: the folder; of several clips in it, the source names one.
        reading: for a layout of another number of joints than 18 (COCO) or 25 (BODY_25).

    Raises:
        NoSkeletonError: no frame shows a body.
        FormatError: a file is not what the format promises; names file and person.
    """
    source = as_source(source)
    files = _frame_files(source)
    source = replace(source, clip=_clip_name(next(iter(files.values())).file))
    found: list[np.ndarray] = []
    times: list[int] = []
    size = 0
    for time, file in files.items():
        bodies = _bodies(file)
        if bodies is None:
            continue
        if found and bodies.shape[1:] != found[0].shape[1:]:
            raise FormatError(f"{file} has {bodies.shape[1]} joints, but other frames have {found[0].shape[1]}")
        found.append(bodies)
        times += [time] * len(bodies)
        size += bodies.shape[0] * bodies.shape[1]
        if size > MAX_JOINTS:
            raise FormatError(f"{source} holds more than {MAX_JOINTS} joints up to frame {time}; cut it into clips")
    if not found:
        raise NoSkeletonError(f"{source} shows nobody in its {len(files)} frames")
    joints, confidence = split_scores(np.concatenate(found), lambda i: f"{source}, frame {times[i]}")
    layout = layout_of(joints, reading or Reading(), LAYOUTS, source)
    return Detections(joints, confidence, times, (min(files), max(files))).clip(source, layout)


def read_kinetics(source: Source | Path | str) -> Clip:
    """Read a clip of Kinetics-skeleton, and track the bodies; a joint of score 0 is missing.

    Raises:
        NoSkeletonError: no frame shows a body.
        FormatError: it is not what the format promises; names file and place.
    """
    source = as_source(source)
    content = json_text.load(source)
    frames = content.get("data") if isinstance(content, dict) else None
    if not isinstance(frames, list):
        raise FormatError(f"{source} has no list of frames under 'data', expected a Kinetics-skeleton clip")
    label = content.get("label_index", UNKNOWN)
    if type(label) is not int or not UNKNOWN <= label < 1_000_000:
        raise FormatError(f"{source} has the label_index {reprlib.repr(label)}, expected a number from 0")
    rows: list[Any] = []
    times: list[int] = []
    numbers: list[int] = []
    for i, frame in enumerate(frames):
        number, people = (frame.get("frame_index"), frame.get("skeleton")) if isinstance(frame, dict) else (None, None)
        if type(number) is not int or not 0 <= number < 10**9 or not isinstance(people, list):
            raise FormatError(f"{source}, item {i} of 'data' lacks a 'frame_index' from 0 or a list 'skeleton'")
        numbers.append(number)
        rows += [_scored(person) for person in people]
        times += [number] * len(people)
    if not rows:
        raise NoSkeletonError(f"{source} shows nobody in its {len(frames)} frames")
    twice, count = Counter(numbers).most_common(1)[0]
    if count > 1:
        raise FormatError(f"{source} has {count} frames of the frame_index {twice}")

    def place(i: int) -> str:
        return f"{source}, frame {times[i]}"

    joints, confidence = split_scores(keypoints(rows, place), place)
    layout = layout_of(joints, Reading(), {18: LAYOUTS[18]}, source)
    return Detections(joints, confidence, times, (min(numbers), max(numbers))).clip(source, layout, label)


def claims_kinetics(source: Source) -> bool:
    """Whether the file's content is of Kinetics-skeleton; other formats are JSON too."""
    content = source.read()
    return b'"frame_index"' in content and b'"skeleton"' in content


def _clip_name(file: PurePath) -> str:
    """What stands before the frame's number, or the folder's name where nothing does."""
    return _name_and_number(file)[0] or file.parent.name or "clip"


def _name_and_number(file: PurePath) -> tuple[str, int]:
    stem = file.name[: -len(SUFFIX)]
    match = _NAME.fullmatch(stem)
    return (match[1], int(match[2])) if match else (stem, 0)


def _frame_files(folder: Source) -> dict[int, Source]:
    """The files of a clip's frames by their numbers."""
    clips: dict[str, dict[int, Source]] = {}
    for file in sorted(folder.files(SUFFIX)):
        clip, (_, number) = _clip_name(file.file), _name_and_number(file.file)
        frames = clips.setdefault(clip, {})
        if folder.clip in ("", clip) and frames.setdefault(number, file) is not file:
            raise FormatError(f"{file} is frame {number} of '{clip}', but so is {frames[number]}")
    if folder.clip and folder.clip in clips:
        return clips[folder.clip]
    if folder.clip or len(clips) != 1:
        held = f"frames of {', '.join(sorted(clips)[:3])}" if clips else "none"
        wanted = f"frames of '{folder.clip}'" if folder.clip else "frames of one clip"
        raise FormatError(f"{folder} holds {held} in files ending in {SUFFIX}, expected {wanted}")
    return next(iter(clips.values()))


def _bodies(file: Source) -> np.ndarray | None:
    """The people of a frame, (M, V, 3), or None without any."""
    content = json_text.load(file)
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list):
        raise FormatError(f"{file} has no list of 'people', expected OpenPose's output for a frame")
    rows = [person.get("pose_keypoints_2d") if isinstance(person, dict) else None for person in people]
    rows = [row for row in rows if row != []]  # which somebody has whose hands or face alone were found
    return keypoints(rows, lambda i: f"{file}, person {i}") if rows else None


def _scored(person: Any) -> list[Any] | None:
    """``[x0, y0, score0, x1, ...]`` of a person of Kinetics-skeleton; None where it is none."""
    pose, score = (person.get("pose"), person.get("score")) if isinstance(person, dict) else (None, None)
    if not isinstance(pose, list) or not isinstance(score, list) or len(pose) != 2 * len(score):
        return None
    return [value for joint in zip(pose[::2], pose[1::2], score, strict=True) for value in joint]


FORMATS = (
    Format("openpose", "OpenPose, a file a frame", SUFFIX, read, "", None, _clip_name, True, takes_reading=True),
    Format(
        "kinetics_skeleton",
        "Kinetics-skeleton, of ST-GCN",
        ".json",
        read_kinetics,
        "openpose18",
        claims=claims_kinetics,
    ),
)
