"""The folder that the original LAST trains on: ``train_joint.npy``, (N, C, T, V, M), beside ``train_label.pkl``.

Joints are read; ``train_velocity.npy`` and ``train_bone.npy`` beside them are compared with what the joints give.
The original ends short clips by holding their last frame, which is not read as frames, and numbers them. It hangs four
of NTU's joints to other parents than the rest of the field; a file with its bones is read, and a warning says so.
Shapes: N clips, C channels, T frames, V joints, M bodies.
"""

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats.container import beside, chosen, layout_of, opened_once
from last.data.formats.format import Format, Reading
from last.data.formats.source import Source, as_source
from last.data.formats.st_gcn import Packed, clip_in, load_rows, open_packed, row_of
from last.skeleton import Layout, load_layout

TOLERANCE = 1e-3  # metres
_ORIGINAL_PARENTS = {21: 7, 22: 6, 23: 11, 24: 10}  # of NTU's joints, where they are not the layout's

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Folder:
    """A part of a data set, and its other streams, None where there is no file."""

    joint: Packed
    velocity: np.ndarray | None
    bone: np.ndarray | None


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read one clip of an array of joints, the first if ``source`` names none.

    Raises:
        NoSkeletonError: it is all zero.
        FormatError: the files are not what the format promises, of another layout, or a stream is not the joints';
            names clip, frame and joint.
    """
    folder = _open(as_source(source))
    source = chosen(as_source(source), folder.joint.rows)
    row = folder.joint.rows[source.name]
    joints = row_of(folder.joint.x, row)
    layout = layout_of(*joints.shape[2:], source, reading)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite joints are refused below, by name
        joints = joints.astype(np.float32)
        if folder.velocity is not None:
            velocity = np.diff(joints, axis=0, append=joints[-1:])
            _require_same("velocity", row_of(folder.velocity, row), [velocity], layout, source)
        if folder.bone is not None:
            bones = [joints - joints[:, :, parents] for parents in _parents(layout)]
            if _require_same("bone", row_of(folder.bone, row), bones, layout, source):
                _warn_of_tree(replace(source, clip=""))
    moving = np.flatnonzero((joints[1:] != joints[:-1]).any(axis=(1, 2, 3)))
    return clip_in(folder.joint, source, joints[: moving[-1] + 2 if len(moving) else 1], reading)


def clips(source: Source, reading: Reading | None = None) -> list[str]:
    """Names of the clips in an array of joints, in its order."""
    return _open(source).joint.names


def claims(source: Source) -> bool:
    """Whether the name is not that of 2s-AGCN's joints, which ends alike."""
    return not source.file.name.lower().endswith("_data_joint.npy")


@opened_once
def _open(source: Source) -> _Folder:
    packed = open_packed(source, "_joint.npy")
    return _Folder(packed, _stream(source, "velocity", packed.x.shape), _stream(source, "bone", packed.x.shape))


def _stream(source: Source, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    file = beside(source, f"{source.file.name[: -len('_joint.npy')]}_{name}.npy")
    if file is None:
        return None
    stream = load_rows(file)
    if stream.shape != shape:
        raise FormatError(f"{file} has the shape {stream.shape}, but the joints beside it have {shape}")
    return stream


def _parents(layout: Layout) -> list[np.ndarray]:
    """The parents of each joint, (V,), as the layout has them and, if it is NTU's, as the original has them."""
    parents = np.array(layout.parents)
    if layout.name != "ntu":
        return [parents]
    original = parents.copy()
    original[list(_ORIGINAL_PARENTS)] = list(_ORIGINAL_PARENTS.values())
    return [parents, original]


def _require_same(stream: str, found: np.ndarray, expected: list[np.ndarray], layout: Layout, source: Source) -> int:
    """Which of the expected streams (T, M, V, C) was found."""
    faults = [~(np.abs(found - values) <= TOLERANCE) & ~(np.isnan(found) & np.isnan(values)) for values in expected]
    same = next((i for i, fault in enumerate(faults) if not fault.any()), None)
    if same is not None:
        return same
    t, m, v, _ = np.unravel_index(faults[0].argmax(), faults[0].shape)
    joints = ", ".join(layout.joints[i] for i in np.flatnonzero(faults[0].any(axis=(0, 1, 3))))
    raise FormatError(
        f"{source}, frame {t}, body {m}, joint '{layout.joints[v]}': the {stream} is {found[t, m, v].tolist()}, but "
        f"the joints give {expected[0][t, m, v].tolist()}; the joints that differ: {joints}"
    )


@lru_cache
def _warn_of_tree(source: Source) -> None:
    joints = load_layout("ntu").joints
    other = ", ".join(joints[v] for v in _ORIGINAL_PARENTS)
    _log.warning("%s: the bones of %s hang from other parents than the field's; bones are made anew", source, other)


FORMATS = (
    Format("mib", "the original LAST's streams", "_joint.npy", read, clips=clips, claims=claims, takes_reading=True),
)
