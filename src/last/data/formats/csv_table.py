"""Tables of one's own as text: ``.csv`` and ``.tsv``, separated by commas, semicolons or tabs.

:mod:`last.data.formats.columns` says how their columns are described.
"""

import csv
import io
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import BinaryIO

from last.data.clip import Clip, FormatError
from last.data.formats.columns import Columns, described, plan
from last.data.formats.format import Format, Reading
from last.data.formats.source import Source, as_source
from last.data.formats.table import MAX_TABLE_BYTES, Table, clip_in, clip_names, stamp
from last.data.formats.table_builder import TableBuilder
from last.skeleton import Layout

_BLOCK = 1024  # rows
_MAX_LINE = 1 << 20  # characters


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read one clip.

    Raises:
        NoSkeletonError: it has no row.
        FormatError: it is not such a table; names file and line.
    """
    source, reading = as_source(source), reading or Reading()
    return clip_in(load(source, *described(reading, source)), source, reading)


def clips(source: Source, reading: Reading | None = None) -> list[str]:
    """Names of the clips in a file.

    Raises:
        FormatError: it is not such a table; names file and line.
    """
    columns, layout = described(reading or Reading(), source)
    return clip_names(load(source, columns, layout)) if columns.clip else [source.name]


def load(source: Source, columns: Columns, layout: Layout) -> Table:
    """All of a file; read once for all clips in it.

    Raises:
        NoSkeletonError: it has no row.
        FormatError: it is not such a table; names file and line.
    """
    return _load(Source(source.path, source.member), stamp(source), columns, layout)


def head(source: Source, rows: int) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the first rows.

    Raises:
        FormatError: it is not such a table; names file and line.
    """
    numbered = _rows(source)
    _, header = next(numbered)
    return header, [row for _, row in islice(numbered, rows)]


# A table of many clips is asked for each of them; some folders hold a table a subject, whose clips alternate.
@lru_cache(maxsize=8)
def _load(source: Source, stamp: int, columns: Columns, layout: Layout) -> Table:
    numbered = _rows(source)
    _, header = next(numbered)
    columns = columns.found_in(header)
    builder = TableBuilder(source, columns, layout, plan(columns, layout, header, source), header, "line")
    while block := list(islice(numbered, _BLOCK)):
        lines, rows = zip(*block, strict=True)
        builder.add_cells(rows, lines)
    return builder.build()


def _rows(source: Source) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of the header and of each row, all of the same width; empty lines are passed over."""
    try:
        with io.TextIOWrapper(_open(source), encoding="utf-8-sig", newline="") as text:
            lines = iter(partial(text.readline, _MAX_LINE), "")
            blank = 0
            while (first := next(lines, "")) and not first.strip():
                blank += 1
            if not first:
                raise FormatError(f"{source} is empty, expected a line of column names")
            reader = csv.reader(chain(repeat("\n", blank), [first], lines), delimiter=_delimiter(first))
            width = 0
            for row in reader:
                if not row:
                    continue
                width = width or len(row)
                if len(row) != width:
                    raise FormatError(
                        f"{source}, line {reader.line_num}: found {len(row)} fields, expected {width} as in the header"
                    )
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise FormatError(f"{source} is not UTF-8 text: byte {error.object[error.start]:#x}") from error
    except csv.Error as error:
        raise FormatError(f"{source} is not a table: {error}") from error
    except OSError as error:
        raise FormatError(f"cannot read {source}: {error.strerror or error}") from error


def _delimiter(header: str) -> str:
    return max(",;\t", key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter))))


def _open(source: Source) -> BinaryIO:
    if source.member:
        return io.BytesIO(source.read())
    size = source.path.stat().st_size
    if size > MAX_TABLE_BYTES:
        raise FormatError(f"{source} has {size:,} bytes, expected at most {MAX_TABLE_BYTES:,}; write several files")
    return source.path.open("rb")


FORMATS = tuple(
    Format(kind, f"a table of one's own, .{kind}", f".{kind}", read, clips=clips, takes_reading=True, has_columns=True)
    for kind in ("csv", "tsv")
)
