"""Writes a clip as an NTU RGB+D ``.skeleton`` text file, with all the fields of the original.

What a clip does not hold is derived: pixels by the Kinect v2's cameras, as fitted to files of NTU RGB+D;
orientations as the shortest turn of y onto each bone, which is the Kinect's own but for the twist.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from last.data.clip import Clip
from last.files import write_atomically
from last.skeleton import load_layout

FIRST_ID = 72057594037931101  # the Kinect's ids are as long
_LAYOUT = load_layout("ntu")
_DEPTH_PIXELS = np.array([[366.44, 0.0, 256.86], [-367.96, 0.0, 208.62]])  # columns: times x / z or y / z, 1 / z, 1
_COLOUR_PIXELS = np.array([[1058.9, 38.6, 965.1], [-1039.4, -89.1, 590.6]])
_LEAVES = [v for v in range(len(_LAYOUT.joints)) if v not in _LAYOUT.parents] + [
    v for v, name in enumerate(_LAYOUT.joints) if name.endswith("thumb")
]
# Nine digits give back each float32; %g writes a whole number, such as a tracking state, as one.
_JOINT_LINE = " ".join(["%.9g"] * 3 + ["%.7g"] * 8 + ["%d"])


def write(clip: Clip, path: Path, newline: Literal["\n", "\r\n"] = "\n") -> None:
    """Write ``clip`` to ``path``, whole or not at all; its folder is made where it is missing.

    A body that is NaN throughout a frame is left out of it. A joint that alone is absent lies at zero, with the
    tracking state 0 (lost).

    Raises:
        ValueError: the clip has another layout than ``ntu``.
        WriteError: the disk is full, or the folder cannot be written.
    """
    if clip.layout != _LAYOUT.name:
        raise ValueError(
            f"clip '{clip.name}' has the layout '{clip.layout}'; a .skeleton file takes only '{_LAYOUT.name}'"
        )
    lost = np.asarray(np.isnan(clip.joints).any(axis=-1))
    fields = _fields(np.where(lost[..., None], 0, clip.joints).astype(np.float64), lost)
    count = len(_LAYOUT.joints)
    lines = [str(clip.frames)]
    for t, present in enumerate(np.logical_not(lost.all(axis=-1))):
        lines.append(str(np.count_nonzero(present)))
        for m in np.flatnonzero(present):
            lines += [f"{FIRST_ID + m} 0 1 1 1 1 0 0 0 2", str(count)]
            lines += [_JOINT_LINE % tuple(row) for row in fields[t, m].tolist()]
    content = (newline.join(lines) + newline).encode("ascii")
    write_atomically(path, lambda partial: partial.write_bytes(content))


def _fields(xyz: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """The 12 numbers of each joint, (T, M, V, 12)."""
    z = np.where(lost, 1, xyz[..., 2])  # keeps the division finite where all fields become zero
    fields = np.zeros((*lost.shape, 12))
    fields[..., :3] = xyz
    for first, pixels in ((3, _DEPTH_PIXELS), (5, _COLOUR_PIXELS)):
        for axis in (0, 1):
            along, offset, centre = pixels[axis]
            fields[..., first + axis] = (along * xyz[..., axis] + offset) / z + centre
    fields[..., 7:11] = _orientations(xyz)
    fields[..., 11] = 2
    fields[lost] = 0
    return fields


def _orientations(xyz: np.ndarray) -> np.ndarray:
    """A quaternion w x y z for each joint, (T, M, V, 4); zero at the ends of limbs, as the Kinect has it."""
    bones = xyz - xyz[..., list(_LAYOUT.parents), :]
    bones[..., _LAYOUT.root, :] = bones[..., _LAYOUT.joints.index("spine_mid"), :]
    bones /= np.maximum(np.linalg.norm(bones, axis=-1, keepdims=True), 1e-9)
    x, y, z = np.moveaxis(bones, -1, 0)
    turns = np.stack([1 + y, z, np.zeros_like(y), -x], axis=-1)
    turns /= np.maximum(np.linalg.norm(turns, axis=-1, keepdims=True), 1e-9)
    turns[..., _LEAVES, :] = 0
    return turns
