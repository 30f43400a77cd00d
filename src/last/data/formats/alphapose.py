"""AlphaPose (Fang et al., TPAMI 2023): ``alphapose-results.json``, one file a video, in pixels.

``[{"image_id": "12.jpg", "keypoints": [x, y, score, ...], "idx": 1, ...}]``, an item for each body in each frame.
"""

import re
import reprlib
from pathlib import Path, PurePath
from typing import Any

from last.data.clip import Clip, FormatError
from last.data.formats import json_text
from last.data.formats.detections import Detections, keypoints, layout_of, split_scores
from last.data.formats.format import Format, Reading
from last.data.formats.source import NoSkeletonError, Source, as_source

LAYOUTS = {17: "coco17"}

_IMAGE = re.compile(r"(.*?)([0-9]{1,15})(\.[A-Za-z]+)?", re.DOTALL)


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read a video's bodies; they are those that ``idx`` tells, or tracked where it does not tell them apart.

    The number at the end of an image's name is that of its frame; one that is left out is a frame without bodies.

    Args:
        source: the file.
        reading: for a layout of another number of joints than 17 (COCO), such as Halpe's 26 or 136.

    Raises:
        NoSkeletonError: it shows nobody.
        FormatError: it is not what the format promises; names file and item.
    """
    source = as_source(source)
    source = source if source.clip else FORMATS[0].source(source.path, source.member)
    items = json_text.load(source)
    if not isinstance(items, list):
        raise FormatError(
            f"{source} is not a list of bodies; of AlphaPose's outputs only the default one is read, not those of "
            "--format cmu or open"
        )
    if not items:
        raise NoSkeletonError(f"{source} holds no body")
    images = [item.get("image_id") if isinstance(item, dict) else None for item in items]
    times = _frames(images, source)

    def place(i: int) -> str:
        return f"{source}, item {i}"

    joints, confidence = split_scores(keypoints([item.get("keypoints") for item in items], place), place)
    layout = layout_of(joints, reading or Reading(), LAYOUTS, source)
    ids = [_id(item["idx"], i, source) for i, item in enumerate(items) if "idx" in item]
    # Run without a tracker, AlphaPose gives all bodies the idx 0.
    is_tracked = len(ids) == len(items) and (any(ids) or len(set(times)) == len(times))
    known = ids if is_tracked else None
    return Detections(joints, confidence, times, (min(times), max(times)), known).clip(source, layout)


def claims(source: Source) -> bool:
    """Whether the file's content is AlphaPose's; other formats are JSON too."""
    content = source.read()
    return b'"image_id"' in content and b'"keypoints"' in content


def _clip_name(file: PurePath) -> str:
    """The file's, or the folder's where the file has the name that AlphaPose gives to all."""
    return (file.parent.name if file.stem == "alphapose-results" else "") or file.stem


def _frames(images: list[Any], source: Source) -> list[int]:
    """The number in each image's name, or an image's own number."""
    times = []
    series = {}
    for i, image in enumerate(images):
        match = _IMAGE.fullmatch(str(image)) if isinstance(image, str | int) else None
        if match is None:
            raise FormatError(f"{source}, item {i}: image_id is {reprlib.repr(image)}, expected such as '12.jpg'")
        series.setdefault(match[1], image)
        times.append(int(match[2]))
    if len(series) > 1:
        first, other = list(series.values())[:2]
        raise FormatError(
            f"{source} holds images of several videos, {reprlib.repr(first)} and {reprlib.repr(other)}, expected the "
            "frames of one"
        )
    return times


def _id(value: Any, item: int, source: Source) -> int:
    """A body's number, which some of AlphaPose's trackers wrap in lists."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if type(value) not in (int, float) or value != value // 1 or abs(value) > 10**9:
        raise FormatError(f"{source}, item {item}: idx is {reprlib.repr(value)}, expected a body's number")
    return int(value)


FORMATS = (
    Format("alphapose", "AlphaPose results", ".json", read, clip_name=_clip_name, claims=claims, takes_reading=True),
)
