"""MSR-Action3D (Li, Zhang and Liu, CVPR Workshops 2010), in both files of its owners.

``aAA_sSS_eEE_skeleton3D.txt`` holds metres, ``aAA_sSS_eEE_skeleton.txt`` places in the depth image. In both, 20 lines a
frame: x y z and a confidence. Joints that the sensor inferred have the confidence 0 and a position all the same.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats.format import Format
from last.data.formats.source import NoSkeletonError, Source, as_source
from last.data.formats.text import number_lines

JOINTS = 20

_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})")


def read(source: Source | Path | str) -> Clip:
    """Read one file of real-world coordinates; label, subject and replication come from its name.

    Raises:
        NoSkeletonError: every joint lies at zero.
        FormatError: it is not what the format promises; names file and line.
    """
    return _read(as_source(source), "msr20")


def read_screen(source: Source | Path | str) -> Clip:
    """As :func:`read`, of a file of places in the depth image, y down."""
    return _read(as_source(source), "msr20_screen")


def _read(source: Source, layout: str) -> Clip:
    values = number_lines(source, 4)
    if len(values) % JOINTS:
        raise FormatError(
            f"{source} has {len(values)} lines, expected {JOINTS} a frame; its last frame has {len(values) % JOINTS}"
        )
    values = values.reshape(-1, 1, JOINTS, 4).astype(np.float32)
    joints, confidence = np.ascontiguousarray(values[..., :3]), values[..., 3].clip(0, 1)
    joints[(joints == 0).all(-1)] = np.nan
    if np.isnan(joints).all():
        raise NoSkeletonError(f"{source} shows no joint in its {len(joints)} frames")
    match = _NAME.match(source.name)
    action, subject, replication = map(int, match.groups()) if match else (0, -1, -1)
    ids: dict[str, Any] = {"label": action - 1, "subject": subject, "replication": replication}
    return Clip(joints, source.name, layout, **ids, confidence=confidence)


FORMATS = (
    Format("msr_action3d", "MSR-Action3D, in metres", "_skeleton3d.txt", read, "msr20"),
    Format("msr_action3d_screen", "MSR-Action3D, in the depth image", "_skeleton.txt", read_screen, "msr20_screen"),
)
