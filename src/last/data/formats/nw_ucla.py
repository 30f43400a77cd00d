"""Northwestern-UCLA Multiview Action3D (Wang et al., CVPR 2014) as JSON, one file a clip.

``aAA_sSS_eEE_vVV.json`` holds ``{"file_name": ..., "skeletons": [T][20][3] in metres, "label": 1 to 10}``.
"""

import re
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats import json_text
from last.data.formats.format import Format
from last.data.formats.source import NoSkeletonError, Source, as_source

JOINTS = 20
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # the id in the file's name of each label, 1 to 10

_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})")


def read(source: Source | Path | str) -> Clip:
    """Read one file; the action in its name must be the one of its label.

    Raises:
        NoSkeletonError: it holds no frame.
        FormatError: it is not what the format promises; names file and place.
    """
    source = as_source(source)
    content = json_text.load(source)
    if not isinstance(content, dict) or not {"skeletons", "label"} <= content.keys():
        raise FormatError(f"{source} lacks 'skeletons' or 'label', expected an object with both")
    label = content["label"]
    if type(label) is not int or not 1 <= label <= len(ACTIONS):
        raise FormatError(f"{source} has the label '{reprlib.repr(label)}', expected 1 to {len(ACTIONS)}")
    return Clip(_joints(content["skeletons"], source), source.name, "kinect20", label - 1, **_ids_in(source, label))


def claims(source: Source) -> bool:
    """Whether the file's name or content is this format's; other formats are JSON too."""
    return bool(_NAME.fullmatch(source.name)) or b'"skeletons"' in source.read()


def _ids_in(source: Source, label: int) -> dict[str, Any]:
    match = _NAME.fullmatch(source.name)
    if not match:
        return {}
    action, subject, replication, camera = map(int, match.groups())
    if action != ACTIONS[label - 1]:
        raise FormatError(
            f"{source} is named after action {action}, but its label {label} is action {ACTIONS[label - 1]}"
        )
    return {"subject": subject, "camera": camera, "replication": replication}


def _joints(skeletons: Any, source: Source) -> np.ndarray:
    """(T, 1, V, 3)."""
    if not isinstance(skeletons, list):
        raise FormatError(f"{source} has no list of frames under 'skeletons'")
    if not skeletons:
        raise NoSkeletonError(f"{source} holds no frame")
    joints = json_text.numbers(skeletons)
    if joints is not None and joints.shape[1:] == (JOINTS, 3):
        return joints[:, None]
    t = next(t for t, frame in enumerate(skeletons) if not _is_frame(frame))
    frame = skeletons[t]
    is_short = isinstance(frame, list) and len(frame) != JOINTS
    found = f"{len(frame)} joints" if is_short else "joints that are not 3 finite numbers each"
    raise FormatError(f"{source}, frame {t}: found {found}, expected {JOINTS} joints of 3 finite numbers")


def _is_frame(frame: Any) -> bool:
    joints = json_text.numbers(frame)
    return joints is not None and joints.shape == (JOINTS, 3)


FORMATS = (Format("nw_ucla", "Northwestern-UCLA Multiview Action3D", ".json", read, "kinect20", claims=claims),)
