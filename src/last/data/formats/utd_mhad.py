"""UTD-MHAD (Chen et al., ICIP 2015): ``aA_sS_tT_skeleton.mat``, key ``d_skel``, (20, 3, T) in metres."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats import matlab
from last.data.formats.format import Format
from last.data.formats.source import NoSkeletonError, Source, as_source

JOINTS = 20

_NAME = re.compile(r"a(\d{1,2})_s(\d{1,2})_t(\d{1,2})(_skeleton)?")


def read(source: Source | Path | str) -> Clip:
    """Read one file; label, subject and replication come from its name.

    Raises:
        NoSkeletonError: it holds no frame.
        FormatError: it is not what the format promises.
    """
    source = as_source(source)
    joints = matlab.numbers(matlab.load(source, ["d_skel"])["d_skel"], "d_skel", source)
    if joints.ndim == 2:
        joints = joints[..., None]  # MATLAB drops the last axis of a single frame
    if joints.ndim != 3 or joints.shape[:2] != (JOINTS, 3):
        raise FormatError(f"{source}: 'd_skel' has the shape {joints.shape}, expected ({JOINTS}, 3, frames)")
    if not joints.size:
        raise NoSkeletonError(f"{source} holds no frame")
    return Clip(joints.transpose(2, 0, 1)[:, None].astype(np.float32), source.name, "utd20", **_ids_in(source.name))


def _ids_in(name: str) -> dict[str, Any]:
    match = _NAME.fullmatch(name)
    if not match:
        return {}
    action, subject, replication = (int(digits) for digits in match.groups()[:3])
    return {"label": action - 1, "subject": subject, "replication": replication}


FORMATS = (Format("utd_mhad", "UTD-MHAD", "_skeleton.mat", read, "utd20"),)
