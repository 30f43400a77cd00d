"""Clips from the rows of a table: a frame a row, or a joint a row, in any order.

Shapes: R rows, T frames, M bodies, V joints, C coordinates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats.columns import MAX_VALUES, NUMBERED, TOLD, Columns, facts, require_distinct
from last.data.formats.format import Reading
from last.data.formats.source import Source
from last.skeleton import Layout

MAX_TABLE_BYTES = 4 << 30
MAX_FRAMES = 100_000  # of a clip: nearly an hour


@dataclass(frozen=True, eq=False)
class Table:
    """All rows of a file.

    Attributes:
        source: the file.
        columns: what is what.
        layout: of the joints.
        unit: what its people call a row: line or row.
        lines: where each row stands in the file, (R,).
        texts: for each id the number of its value in each row, (R,), and the values in order of appearance.
        order: number of the frame, or time, (R,); None where rows are in order.
        coordinates: (R, V * C) float32, or (R, C) in a table of a joint a row; NaN where missing.
        confidences: (R, V), or (R, 1), float32; None where there are none.
        rows: of each clip, by name.
    """

    source: Source
    columns: Columns
    layout: Layout
    unit: str
    lines: np.ndarray
    texts: Mapping[str, tuple[np.ndarray, Sequence[str]]]
    order: np.ndarray | None
    coordinates: np.ndarray
    confidences: np.ndarray | None
    rows: Mapping[str, np.ndarray]

    def values(self, key: str) -> Sequence[str]:
        """The values of an id, in order of appearance; none where the table does not have it."""
        return self.texts[key][1] if key in self.texts else ()

    def told(self, clip: str) -> dict[str, str]:
        """What the table says of a clip, by key.

        Raises:
            FormatError: its rows contradict each other; names the first that does.
        """
        rows, told = self.rows[clip], {}
        for key in TOLD:
            if key in self.texts:
                codes, values = self.texts[key]
                of_rows = codes[rows]
                if (of_rows != of_rows[0]).any():
                    i = int((of_rows != of_rows[0]).argmax())
                    first, other = values[of_rows[0]], values[of_rows[i]]
                    raise FormatError(
                        f"{self._place(rows[i])}: clip '{clip[:60]}' has the {key} {other[:40]!r}, but {first[:40]!r} "
                        f"in {self.unit} {self.lines[rows[0]]}; a clip has one {key}"
                    )
                told[key] = values[of_rows[0]]
        return told

    def bodies(self, clip: str) -> int:
        """How many bodies a clip has."""
        return len(np.unique(self.texts["body"][0][self.rows[clip]])) if "body" in self.texts else 1

    def joints(self, clip: str) -> tuple[np.ndarray, np.ndarray | None]:
        """A clip's joints (T, M, V, C) and confidences (T, M, V), float32.

        Raises:
            FormatError: two rows are of the same frame and body, a row has no frame, or it is far too large.
        """
        rows = self.rows[clip]
        size = (len(self.layout.joints), self.layout.dimensions)
        m, bodies = np.zeros(len(rows), np.int64), 1
        if "body" in self.texts:
            present, m = np.unique(self.texts["body"][0][rows], return_inverse=True)
            bodies = len(present)
        v = self._joint_of(rows) if self.columns.joint else np.zeros(len(rows), np.int64)
        t = self._frame_of(clip, rows, m * size[0] + v)
        frames = int(t.max()) + 1
        if frames > MAX_FRAMES or frames * bodies * size[0] * size[1] > MAX_VALUES:
            raise FormatError(
                f"{self.source}: clip '{clip[:60]}' has frames {frames:,} apart and {bodies:,} bodies, expected at "
                f"most {MAX_FRAMES:,} frames and {MAX_VALUES:,} coordinates; are 'clip', 'frame' and 'body' the right "
                "columns? Times go under 'time'"
            )
        per_row = 1 if self.columns.joint else size[0]
        place = t * bodies + m if per_row > 1 else (t * bodies + m) * size[0] + v
        self._require_once(place, rows, clip)
        shape = (frames, bodies, *size)
        joints = np.full((frames * bodies * size[0] // per_row, per_row * size[1]), np.nan, np.float32)
        joints[place] = self.coordinates[rows]
        if self.confidences is None:
            return joints.reshape(shape), None
        confidence = np.zeros((len(joints), per_row), np.float32)
        confidence[place] = np.nan_to_num(self.confidences[rows])
        return joints.reshape(shape), confidence.reshape(shape[:3])

    def clip(self, name: str, classes: Sequence[str]) -> Clip:
        """A clip.

        Raises:
            FormatError: there is none of this name, or its rows contradict each other.
        """
        if name not in self.rows:
            raise FormatError(f"{self.source} has no clip '{name[:60]}'; its first is '{next(iter(self.rows))[:60]}'")
        told = self.told(name)
        known = facts(told, self.columns, classes, self.source, f", {self.unit} {self.lines[self.rows[name][0]]}")
        joints, confidence = self.joints(name)
        return Clip(joints, name, self.layout.name, confidence=confidence, **known)

    def _place(self, row: int) -> str:
        return f"{self.source}, {self.unit} {self.lines[row]}"

    def _frame_of(self, clip: str, rows: np.ndarray, series: np.ndarray) -> np.ndarray:
        """The frame of each row, from 0; without numbers, rows of the same series (body and joint) follow each other.

        Raises:
            FormatError: it is missing or no whole number.
        """
        if self.order is None:
            by_series = np.argsort(series, kind="stable")
            _, start, count = np.unique(series[by_series], return_index=True, return_counts=True)
            t = np.empty(len(rows), np.int64)
            t[by_series] = np.arange(len(rows)) - np.repeat(start, count)
            return t
        order = self.order[rows]
        wrong = ~np.isfinite(order) if self.columns.time else ~(np.abs(order) < 2**53) | (np.rint(order) != order)
        if wrong.any():
            i = int(wrong.argmax())
            expected = "a number" if self.columns.time else "a whole number; times go under 'time' instead"
            raise FormatError(f"{self._place(rows[i])}: the frame is {order[i]:g}, expected {expected}")
        if self.columns.time:
            return np.unique(order, return_inverse=True)[1]
        return (order - order.min()).astype(np.int64)

    def _joint_of(self, rows: np.ndarray) -> np.ndarray:
        names = self.columns.joint_names or self.layout.joints
        index = {name: v for v, name in enumerate(names)}
        codes, values = self.texts["joint"]
        known = np.array([index.get(value, -1) for value in values])[codes[rows]]
        if (known < 0).any():
            i = int((known < 0).argmax())
            raise FormatError(
                f"{self._place(rows[i])}: the joint is {values[codes[rows[i]]][:40]!r}, expected one of "
                f"{', '.join(names)[:200]}"
            )
        return known

    def _require_once(self, place: np.ndarray, rows: np.ndarray, clip: str) -> None:
        order = np.argsort(place, kind="stable")
        again = np.flatnonzero(np.diff(place[order]) == 0)
        if len(again):
            i = int(again[0])
            raise FormatError(
                f"{self._place(rows[order[i + 1]])}: clip '{clip[:60]}' has the same frame"
                f"{', body' if 'body' in self.texts else ''}{' and joint' if self.columns.joint else ''} as in "
                f"{self.unit} {self.lines[rows[order[i]]]}, expected each once; name the column that tells them apart "
                "('clip', 'frame' or 'body')"
            )


def clip_names(table: Table) -> list[str]:
    """Names of the clips in a table.

    Raises:
        FormatError: two of its subjects, or another kind of ids, would get the same number.
    """
    for key in NUMBERED:
        require_distinct(table.values(key), key, table.columns, table.source)
    return list(table.rows)


def clip_in(table: Table, source: Source, reading: Reading) -> Clip:
    """The clip of a source in its table.

    Raises:
        FormatError: it is not there, or contradicts itself.
    """
    inside = source.name_inside if table.columns.clip else table.source.name
    return replace(table.clip(inside, reading.classes), name=source.name)


def stamp(source: Source) -> int:
    """When a source's file was last changed; tables are kept while it stays the same.

    Raises:
        FormatError: the file is absent or unreadable.
    """
    try:
        return source.path.stat().st_mtime_ns
    except OSError as error:
        raise FormatError(f"cannot read {source}: {error.strerror or error}") from error
