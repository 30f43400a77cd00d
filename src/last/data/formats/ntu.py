"""NTU RGB+D ``.skeleton`` files (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2019).

Text, lines ending in LF or CRLF: the number of frames; a frame: the number of bodies; a body: a line of 10
fields, its tracking id first, the number of joints (25), and a line of 12 fields for each joint, x y z in
metres first. Shapes: T frames, M bodies, V joints.
"""

import re
from pathlib import Path

import numpy as np

from last.data.clip import UNKNOWN, Clip, FormatError
from last.data.formats.format import Format
from last.data.formats.source import NoSkeletonError, Source, as_source

JOINTS = 25
BODY_FIELDS = 10
JOINT_FIELDS = 12
MAX_ROWS = 1_000_000  # frames times bodies, 300 MB; each frame may name a new body, so a small file can ask for more

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")


def read(source: Source | Path | str) -> Clip:
    """Read one file whole; bodies are matched over frames by tracking id, NaN where one is absent.

    Label, setup, camera, subject and replication come from a name such as ``S001C002P003R002A013``.

    Raises:
        NoSkeletonError: no frame shows a body.
        FormatError: the file is not what the format promises; names file and line.
    """
    source = as_source(source)
    try:
        lines = source.read().decode("ascii").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"{source} is not text: byte {error.object[error.start]:#x} at {error.start}") from error
    frames, bodies, first_lines = _outline(lines, source)
    if not bodies:
        raise NoSkeletonError(f"{source} shows no body in its {len(frames)} frames")
    ids = {body: m for m, body in enumerate(dict.fromkeys(bodies))}
    if len(frames) * len(ids) > MAX_ROWS:
        raise FormatError(
            f"{source} holds {len(frames)} frames of {len(ids)} bodies, expected a product of at most {MAX_ROWS}"
        )
    joints = np.full((len(frames), len(ids), JOINTS, 3), np.nan, dtype=np.float32)
    time = np.repeat(np.arange(len(frames)), frames)
    joints[time, [ids[body] for body in bodies]] = _coordinates(lines, first_lines, source)
    return Clip(joints, source.name, "ntu", **_ids_in(source.name))


def _ids_in(name: str) -> dict[str, int]:
    match = _NAME.fullmatch(name)
    if not match:
        return {}
    setup, camera, subject, replication, action = map(int, match.groups())
    label = action - 1 if action else UNKNOWN
    return {"label": label, "subject": subject, "camera": camera, "setup": setup, "replication": replication}


def _outline(lines: list[str], source: Source) -> tuple[list[int], list[str], list[int]]:
    """Walk the counts: bodies in each frame, each body's id, and the line of each body's first joint."""
    at = 0

    def count(what: str) -> int:
        nonlocal at
        text = lines[at].strip() if at < len(lines) else ""
        at += 1
        # Ten digits are more than any file holds lines, and int() takes its time over millions of them.
        if not text.isdigit() or len(text) > 10:
            raise _wrong(source, at, lines, f"the number of {what}")
        return int(text)

    promised = count("frames")
    frames, bodies, first_lines = [], [], []
    for t in range(promised):
        if at >= len(lines):
            raise FormatError(f"{source} ends after {t} of {promised} frames; the file is truncated")
        present = count("bodies")
        frames.append(present)
        first = len(bodies)
        for _ in range(present):
            fields = lines[at].split() if at < len(lines) else []
            at += 1
            if len(fields) != BODY_FIELDS or not fields[0].isdigit():
                raise _wrong(source, at, lines, f"a body's {BODY_FIELDS} fields, a tracking id first")
            joints = count("joints")
            if joints != JOINTS:
                raise FormatError(f"{source}, line {at}: {joints} joints, expected {JOINTS}")
            bodies.append(fields[0])
            first_lines.append(at)
            at += JOINTS
            if at > len(lines):
                raise FormatError(f"{source} ends at line {len(lines)} within a body; the file is truncated")
        if len(set(bodies[first:])) != present:
            raise FormatError(f"{source}, line {at}: two bodies of frame {t} have the same tracking id")
    if at < len(lines):
        raise _wrong(source, at + 1, lines, f"the end of the file after {promised} frames")
    return frames, bodies, first_lines


def _coordinates(lines: list[str], first_lines: list[int], source: Source) -> np.ndarray:
    """Positions of each body in each frame, (bodies in all frames, V, 3)."""
    values = _numbers([line for first in first_lines for line in lines[first : first + JOINTS]])
    if values is None:
        at = next(n for first in first_lines for n in range(first, first + JOINTS) if _numbers([lines[n]]) is None)
        raise _wrong(source, at + 1, lines, f"{JOINT_FIELDS} numbers, x y z finite")
    return values[:, :3].reshape(-1, JOINTS, 3)


def _numbers(rows: list[str]) -> np.ndarray | None:
    """The fields of joint lines, (lines, 12), or None where a line is anything else."""
    if not rows[0].strip():  # loadtxt passes over blank lines, but warns where there is nothing else
        return None
    try:
        values = np.loadtxt(rows, dtype=np.float32, comments=None, ndmin=2)
    except ValueError:
        return None
    is_good = values.shape == (len(rows), JOINT_FIELDS) and np.isfinite(values[:, :3]).all()
    return values if is_good else None


def _wrong(source: Source, line: int, lines: list[str], expected: str) -> FormatError:
    found = repr(lines[line - 1].strip()[:60]) if line <= len(lines) else "the end of the file"
    return FormatError(f"{source}, line {line}: found {found}, expected {expected}")


FORMATS = (Format("ntu", "NTU RGB+D 60 and 120", ".skeleton", read, "ntu"),)
