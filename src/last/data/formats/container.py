"""Files that hold the clips of a whole data set, opened once and read clip by clip.

Shapes: T frames, M bodies, V joints, C coordinates.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, wraps
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from last.data.clip import UNKNOWN, FormatError
from last.data.formats.format import Reading
from last.data.formats.source import MAX_BYTES, NoSkeletonError, Source, list_zip
from last.skeleton import Layout, load_layout

MAX_VALUES = MAX_BYTES // 4  # coordinates of one clip
_MAX_NAME = 255
_BY_SIZE = {(25, 3): "ntu", (17, 2): "coco17", (18, 2): "openpose18"}  # (joints, dimensions) in the field's files
_PARTS = {"train": "train", "val": "test", "test": "test"}  # the field tests on what it calls val
_LIST = re.compile(r"(?:(?P<name>.+)_)?(?P<part>train|val|test)(?P<number>\d*)")

Opened = TypeVar("Opened")


def opened_once(open_file: Callable[[Source], Opened]) -> Callable[[Source], Opened]:
    """Let a function that opens a file keep what it opened last, in each process, until the file changes."""

    @lru_cache(maxsize=4)
    def kept(path: Path, member: str, stamp: int, size: int, process: int) -> Opened:
        return open_file(Source(path, member))

    @wraps(open_file)
    def opened(source: Source) -> Opened:
        try:
            status = source.path.stat()
        except OSError as error:
            raise FormatError(f"cannot read {source}: {error.strerror or error}") from error
        return kept(source.path, source.member, status.st_mtime_ns, status.st_size, os.getpid())

    return opened


def beside(source: Source, name: str) -> Source | None:
    """The file of this name in the same folder, or in the same folder of the same zip; None where there is none."""
    if not source.member:
        path = source.path.with_name(name)
        return Source(path) if path.is_file() else None
    member = str(PurePosixPath(source.member).with_name(name))
    known = {found.member for found, _, _ in list_zip(source.path, (name.lower(),))}
    return Source(source.path, member) if member in known else None


def chosen(source: Source, names: Mapping[str, Any]) -> Source:
    """The source with the name of the clip that it means: its own, or the first of the file's where it names none.

    Raises:
        FormatError: the file holds no clip of its name.
    """
    if source.clip in names:
        return source
    # A reader of files of one clip each names a clip after its file.
    if source.file.name.startswith(source.clip) and names:
        return replace(source, clip=next(iter(names)))
    raise FormatError(f"no clip '{source.clip}' in {replace(source, clip='')}, which holds {len(names)}")


def part_of(name: str) -> str | None:
    """The part that a list such as ``xsub_val`` (``xsub/test``), ``train`` (``given/train``) or ``test1`` stands for.

    None where the name tells of neither training nor testing.
    """
    match = _LIST.fullmatch(name)
    if not match:
        return None
    numbered = f"split{match['number']}" if match["number"] else ""
    return f"{'_'.join(filter(None, (match['name'], numbered))) or 'given'}/{_PARTS[match['part']]}"


def is_name(value: Any) -> bool:
    """Whether a value can be a clip's name, or a list's: printable text of a line."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()


def layout_of(joints: int, dimensions: int, source: Source, reading: Reading | None) -> Layout:
    """The layout that a person names, or else the one that the field's files of so many joints have.

    Raises:
        FormatError: the numbers are not the layout's, or leave the choice open.
    """
    layout = reading.layout if reading else None
    if layout is None:
        if (joints, dimensions) not in _BY_SIZE:
            known = ", ".join(f"{v} in {c}D ({name})" for (v, c), name in _BY_SIZE.items())
            raise FormatError(f"{source} has {joints} joints in {dimensions}D, expected {known}; or name their layout")
        return load_layout(_BY_SIZE[joints, dimensions])
    if (joints, dimensions) != (len(layout.joints), layout.dimensions):
        raise FormatError(
            f"{source} has {joints} joints in {dimensions}D, but layout '{layout.name}' has {len(layout.joints)} in "
            f"{layout.dimensions}D"
        )
    return layout


def shown(joints: np.ndarray) -> np.ndarray:
    """Full confidence, (T, M, V) float32, in each joint that is there.

    For files whose joints are relative to one of them: it says that their zeros are places, not gaps.
    """
    return np.asarray(np.isfinite(joints).all(axis=-1), dtype=np.float32)


def label_of(value: Any, source: Source) -> int:
    """A label as a class index; -1 is ``UNKNOWN``.

    Raises:
        FormatError: it is no such number.
    """
    if type(value) is not int or not UNKNOWN <= value < 1 << 31:
        found = value if type(value) is int else type(value).__name__
        raise FormatError(f"{source} has the label {found}, expected a number from 0")
    return value


def require_size(values: np.ndarray, source: Source) -> None:
    """Refuse a clip of more values than any clip has, before they are read.

    Raises:
        FormatError: says how many.
    """
    if values.size > MAX_VALUES:
        raise FormatError(f"{source} has a clip of {values.size} values, expected at most {MAX_VALUES}")


def without_padding(values: np.ndarray, source: Source) -> np.ndarray:
    """A clip's joints (T, M, V, C) as float32, NaN where a body is all zero in a frame.

    Frames at the end, and bodies after the last, that hold nothing are cut off.

    Raises:
        NoSkeletonError: nobody is left.
        FormatError: there are more values than a clip can have, or some are infinite as float32; names the place.
    """
    require_size(values, source)
    if values.dtype.kind not in "iuf":
        raise FormatError(f"{source} holds joints as {values.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        joints = values.astype(np.float32, order="C")
    infinite = np.isinf(joints)
    if infinite.any():
        t, m, v, _ = np.unravel_index(infinite.argmax(), joints.shape)
        raise FormatError(f"{source}, frame {t}, body {m}, joint {v}: an infinite coordinate")
    shown = ((joints != 0) & ~np.isnan(joints)).any(axis=(2, 3))
    if not shown.any():
        raise NoSkeletonError(f"{source} shows no body in its {len(joints)} frames")
    joints[~shown] = np.nan
    frames, bodies = (1 + int(np.flatnonzero(shown.any(axis=axis))[-1]) for axis in (1, 0))
    return joints[:frames, :bodies]
