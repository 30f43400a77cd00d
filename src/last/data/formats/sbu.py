"""SBU Kinect Interaction (Yun et al., CVPR Workshops 2012): ``sXXsYY/CC/TTT/skeleton_pos.txt``, two persons.

A line a frame, 91 numbers separated by commas: the frame's number, then 15 joints x y z of each person. The authors
normalised them; their formula back to millimetres is undone here, after which bones keep their length twice as well.
"""

import re
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from last.data.clip import Clip
from last.data.formats.format import Format
from last.data.formats.source import NoSkeletonError, Source, as_source
from last.data.formats.text import number_lines

JOINTS = 15
FIELDS = 1 + 2 * JOINTS * 3
# x = 1280 - 2560 x', y = 960 - 1920 y', z = 10000 z' / 7.8125, in millimetres; y up, x as a Kinect's.
_ORIGIN = np.array([1.28, 0.96, 0.0])
_SCALE = np.array([-2.56, -1.92, 1.28])

_NAME = re.compile(r"s(\d{2})s(\d{2})_(\d{2})_(\d{3})")


def read(source: Source | Path | str) -> Clip:
    """Read one file; label and persons come from its folders.

    Folds go by ordered pairs, so the clip's subject is its pair: the first person times 100 plus the second.

    Raises:
        NoSkeletonError: it holds no frame.
        FormatError: it is not what the format promises; names file and line.
    """
    source = as_source(source)
    source = source if source.clip else FORMATS[0].source(source.path, source.member)
    values = number_lines(source, FIELDS, ",")
    if not len(values):
        raise NoSkeletonError(f"{source} holds no frame")
    joints = _ORIGIN + _SCALE * values[:, 1:].reshape(-1, 2, JOINTS, 3)
    joints[(values[:, 1:].reshape(-1, 2, JOINTS, 3) == 0).all(-1)] = np.nan
    return Clip(joints.astype(np.float32), source.name, "sbu15", **_ids_in(source.name))


def _clip_name(file: PurePath) -> str:
    """``s01s02_03_001``, from the folders that the file lies in."""
    return "_".join(file.parts[-4:-1])


def _ids_in(name: str) -> dict[str, Any]:
    match = _NAME.fullmatch(name)
    if not match:
        return {}
    first, second, action, replication = map(int, match.groups())
    return {"label": action - 1, "subject": 100 * first + second, "replication": replication}


FORMATS = (Format("sbu", "SBU Kinect Interaction", "skeleton_pos.txt", read, "sbu15", clip_name=_clip_name),)
