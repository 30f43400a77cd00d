"""Makes a table of rows as they come in. Shapes: R rows."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter

import numpy as np

from last.data.clip import FormatError
from last.data.formats.columns import Columns, Plan
from last.data.formats.source import NoSkeletonError, Source
from last.data.formats.table import Table
from last.skeleton import Layout

_NOTHING = {"na", "n/a", "null", "none", "-"}


class TableBuilder:
    """Takes rows block by block; in between they need about half of a text file's bytes.

    Attributes:
        plan: where in a row what stands.
    """

    def __init__(
        self, source: Source, columns: Columns, layout: Layout, plan: Plan, header: Sequence[str], unit: str
    ) -> None:
        self.plan, self._header, self._unit = plan, header, unit
        self._source, self._columns, self._layout = source, columns, layout
        self._pick = itemgetter(*plan.numbers)  # two at least: a joint has as many coordinates
        self._lines: list[np.ndarray] = []
        self._order: list[np.ndarray] = []
        self._joints: list[np.ndarray] = []
        self._codes: dict[str, list[np.ndarray]] = {key: [] for key in plan.texts}
        self._values: dict[str, dict[str, int]] = {key: {} for key in plan.texts}

    def add_cells(self, rows: Sequence[Sequence[str]], lines: Sequence[int]) -> None:
        """Add rows of text.

        Raises:
            FormatError: a cell is no number; names its place.
        """
        cells = list(chain.from_iterable(map(self._pick, rows)))
        try:
            numbers = np.fromiter((float(cell or "nan") for cell in cells), np.float64, len(cells))
        except ValueError:
            numbers = np.array([_number(cell) for cell in cells])
        count = len(self.plan.numbers)
        self.add(
            {key: [row[i].strip() for row in rows] for key, i in self.plan.texts.items()},
            numbers.reshape(len(rows), count),
            lines,
            lambda row, column: cells[row * count + column],
        )

    def add(
        self,
        texts: Mapping[str, Sequence[str]],
        numbers: np.ndarray,
        lines: Sequence[int],
        found: Callable[[int, int], str] | None = None,
    ) -> None:
        """Add rows.

        Args:
            texts: of each id.
            numbers: (rows, as many as ``plan.numbers``) float64, NaN where missing.
            lines: where the rows stand in the file.
            found: from row and column to what stands there, where it was read as something else.

        Raises:
            FormatError: a number is infinite or too large; names its place.
        """
        first = 0 if self.plan.order is None else 1
        wrong = np.abs(numbers) > np.finfo(np.float32).max
        wrong[:, :first] = np.isinf(numbers[:, :first])
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            text = found(row, column) if found else f"{numbers[row, column]:g}"
            raise FormatError(
                f"{self._source}, {self._unit} {lines[row]}: column '{self._header[self.plan.numbers[column]]}' holds "
                f"{text[:40]!r}, expected a finite number with a decimal point, or nothing"
            )
        for key, column_texts in texts.items():
            index = self._values[key]
            codes = [index.setdefault(text, len(index)) for text in column_texts]
            self._codes[key].append(np.array(codes, np.int32))
        self._lines.append(np.array(lines, np.int64))
        self._order.append(numbers[:, :first].ravel())
        self._joints.append(numbers[:, first:].astype(np.float32))

    def build(self) -> Table:
        """The table.

        Raises:
            NoSkeletonError: it has no row.
            FormatError: a row names no clip, or confidences leave 0 to 1.
        """
        source, unit = self._source, self._unit
        if not self._lines:
            raise NoSkeletonError(f"{source} has no row below its header")
        lines, joints = np.concatenate(self._lines), np.concatenate(self._joints)
        self._joints.clear()
        texts = {key: (np.concatenate(codes), list(self._values[key])) for key, codes in self._codes.items()}
        size = len(self.plan.coordinates)
        confidences = joints[:, size:] if self.plan.confidences else None
        if confidences is not None and (wrong := (confidences < 0) | (confidences > 1)).any():
            row = int(wrong.any(axis=1).argmax())
            raise FormatError(
                f"{source}, {unit} {lines[row]}: a confidence is not from 0 to 1; scale them, or leave them out"
            )
        rows = {source.name: np.arange(len(lines))}
        if "clip" in texts:
            codes, names = texts["clip"]
            if "" in names:
                raise FormatError(f"{source}, {unit} {lines[(codes == names.index('')).argmax()]} names no clip")
            by_clip = np.argsort(codes, kind="stable")
            bounds = np.searchsorted(codes[by_clip], np.arange(1, len(names)))
            rows = dict(zip(names, np.split(by_clip, bounds), strict=True))
        order = np.concatenate(self._order) if self.plan.order is not None else None
        return Table(
            source, self._columns, self._layout, unit, lines, texts, order, joints[:, :size], confidences, rows
        )


def _number(cell: str) -> float:
    """A cell that may say in words that it is empty; infinite where it is no number, which is refused later."""
    try:
        return float(cell)
    except ValueError:
        return np.nan if not cell.strip() or cell.strip().lower() in _NOTHING else np.inf
