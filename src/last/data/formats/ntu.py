"""NTU RGB+D ``.skeleton`` files (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2019).

Text, lines ending in LF or CRLF: the number of frames; a frame: the number of bodies; a body: a line of 10
fields, its tracking id first, the number of joints (25), and a line of 12 fields for each joint, x y z in
metres first. Shapes: T frames, M bodies, V joints.
"""

import re
from array import array
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from last.data.clip import UNKNOWN, Clip, FormatError
from last.data.formats.format import Format
from last.data.formats.source import NoSkeletonError, Source, as_source

JOINTS = 25
BODY_FIELDS = 10
JOINT_FIELDS = 12
MAX_ROWS = 1_000_000  # frames times bodies, 300 MB; each frame may name a new body, so a small file can ask for more

_LARGEST = float(np.finfo(np.float32).max)
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_IN_NUMBERS = b"0123456789+-.eEnaifNAIF \t\r\n"  # nan and inf among them; not the underscores of Python's own numbers


def read(source: Source | Path | str) -> Clip:
    """Read one file whole; bodies are matched over frames by tracking id, NaN where one is absent.

    Of a joint's line, x y z are read; the other fields are counted, and hold nothing but what numbers are made of.
    Label, setup, camera, subject and replication come from a name such as ``S001C002P003R002A013``.

    Raises:
        NoSkeletonError: no frame shows a body.
        FormatError: the file is not what the format promises; names file and line.
    """
    source = as_source(source)
    frames, bodies, positions = _Text(source).read()
    if not bodies:
        raise NoSkeletonError(f"{source} shows no body in its {len(frames)} frames")
    ids = {body: m for m, body in enumerate(dict.fromkeys(bodies))}
    if len(frames) * len(ids) > MAX_ROWS:
        raise FormatError(
            f"{source} holds {len(frames)} frames of {len(ids)} bodies, expected a product of at most {MAX_ROWS}"
        )
    joints = np.full((len(frames), len(ids), JOINTS, 3), np.nan, dtype=np.float32)
    time = np.repeat(np.arange(len(frames)), frames)
    joints[time, [ids[body] for body in bodies]] = positions
    return Clip(joints, source.name, "ntu", **ids_in(source.name))


def ids_in(name: str) -> dict[str, Any]:
    """What a name such as ``S001C002P003R002A013`` says, as arguments of a Clip; nothing where it is another name."""
    match = _NAME.fullmatch(name)
    if not match:
        return {}
    setup, camera, subject, replication, action = map(int, match.groups())
    label = action - 1 if action else UNKNOWN
    return {"label": label, "subject": subject, "camera": camera, "setup": setup, "replication": replication}


class _Text:
    """Walks a file line by line, so that no count in it asks for memory; lines are numbered only when one is wrong."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._content = source.read()
        self._lines = BytesIO(self._content)

    def read(self) -> tuple[list[int], list[bytes], np.ndarray]:
        """How many bodies each frame has; then, of each body in each frame, its id and joints, (bodies, V, 3)."""
        self._require_numbers()
        frames: list[int] = []
        ids: list[bytes] = []
        starts: list[int] = []
        values = array("d")
        promised = self._count("the number of frames")
        for t in range(promised):
            at = self._lines.tell()
            if at == len(self._content):
                raise FormatError(f"{self._source} ends after {t} of {promised} frames; the file is truncated")
            present = self._count("the number of bodies")
            frames.append(present)
            for _ in range(present):
                ids.append(self._tracking_id())
                starts.append(self._lines.tell())
                values.extend(self._joints(starts[-1]))
            if len(set(ids[len(ids) - present :])) < present:
                raise self._wrong(at, f"bodies in frame {t} that differ in their tracking ids")
        at = self._lines.tell()
        if self._lines.read().strip():
            raise self._wrong(at, f"the end of the file after {promised} frames")
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as that
            joints = np.frombuffer(values).astype(np.float32).reshape(-1, JOINTS, 3)
        is_good = np.isfinite(joints).all(axis=(1, 2))
        if not is_good.all():
            raise self._wrong_joint(starts[int(is_good.argmin())])
        return frames, ids, joints

    def _require_numbers(self) -> None:
        others = self._content.translate(None, _IN_NUMBERS)
        if others:
            at = self._content.index(others[:1])
            if others[0] > 127:
                raise FormatError(f"{self._source} is not text: byte {others[0]:#x} at {at}")
            raise self._wrong(self._content.rfind(b"\n", 0, at) + 1, "numbers and nothing else")

    def _count(self, what: str) -> int:
        at = self._lines.tell()
        text = self._lines.readline().strip()
        if not text.isdigit() or len(text) > 10 or int(text) > MAX_ROWS:  # int() takes its time over a million digits
            raise self._wrong(at, f"{what}, at most {MAX_ROWS}")
        return int(text)

    def _tracking_id(self) -> bytes:
        at = self._lines.tell()
        fields = self._lines.readline().split()
        if len(fields) != BODY_FIELDS or not fields[0].isdigit():
            raise self._wrong(at, f"a body's {BODY_FIELDS} fields, a tracking id first")
        at = self._lines.tell()
        if self._lines.readline().strip() != b"%d" % JOINTS:
            raise self._wrong(at, f"{JOINTS}, the number of joints")
        return fields[0]

    def _joints(self, at: int) -> list[float]:
        """The coordinates of the body whose joints begin at a place in the content."""
        rows = [line.split() for line in islice(self._lines, JOINTS)]
        if len(rows) < JOINTS:
            raise FormatError(f"{self._source} ends within a body; the file is truncated")
        try:
            if set(map(len, rows)) == {JOINT_FIELDS}:
                return [float(field) for row in rows for field in row[:3]]
        except ValueError:
            pass
        raise self._wrong_joint(at)

    def _wrong_joint(self, at: int) -> FormatError:
        """The fault of the first wrong line of a body."""
        while _is_joint(self._line(at)):
            at = self._content.index(b"\n", at) + 1
        return self._wrong(at, f"{JOINT_FIELDS} numbers, x y z finite")

    def _wrong(self, at: int, expected: str) -> FormatError:
        """The fault of the line that begins at a place in the content."""
        line = self._content.count(b"\n", 0, at) + 1
        found = (
            repr(self._line(at)[:60].decode("ascii", "replace")) if at < len(self._content) else "the end of the file"
        )
        return FormatError(f"{self._source}, line {line}: found {found}, expected {expected}")

    def _line(self, at: int) -> bytes:
        end = self._content.find(b"\n", at)
        return self._content[at : end if end >= 0 else None].strip()


def _is_joint(line: bytes) -> bool:
    fields = line.split()
    try:
        return len(fields) == JOINT_FIELDS and all(abs(float(field)) <= _LARGEST for field in fields[:3])
    except ValueError:
        return False


FORMATS = (Format("ntu", "NTU RGB+D 60 and 120", ".skeleton", read, "ntu"),)
