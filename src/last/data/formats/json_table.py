"""Data of one's own as ``.json``: a list of rows, or whole clips.

A row is an object with the columns that a ``.csv`` would have. Whole clips are ``{"clips": [{"name": ..., "label": ...,
"joints": [T][V][C] or [T][M][V][C], "confidence": ...}]}`` with null for a missing coordinate, and perhaps the ids of
:mod:`last.data.formats.columns`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats import json_text
from last.data.formats.columns import NUMBERED, Columns, described, plan, require_distinct
from last.data.formats.format import Format, Reading
from last.data.formats.source import NoSkeletonError, Source, as_source
from last.data.formats.table import Table, clip_in, clip_names, stamp
from last.data.formats.table_builder import TableBuilder
from last.data.formats.whole_clips import whole_clip
from last.skeleton import Layout

_BLOCK = 4096  # rows


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read one clip.

    Raises:
        NoSkeletonError: it holds no frame.
        FormatError: it is not such a file; names file and place.
    """
    source, reading = as_source(source), reading or Reading()
    columns, layout = described(reading, source)
    content = _load(Source(source.path, source.member), stamp(source), columns, layout)
    if isinstance(content, Table):
        return clip_in(content, source, reading)
    record = content.get(source.name_inside)
    if record is None:
        raise FormatError(f"{source} is not among its clips; the first is '{next(iter(content))[:60]}'")
    joints, confidence = record.get(columns.entry("joints")), record.get(columns.entry("confidence"))
    if joints in ([], None):
        raise NoSkeletonError(f"{source} has no '{columns.entry('joints')}'")
    told = {key: _cell(record[name], source, name) for key in columns.tells if (name := columns.entry(key)) in record}
    confidences = None if confidence is None else _array(confidence, "confidence", source)
    return whole_clip(source, reading, columns, layout, _array(joints, "joints", source), confidences, told)


def clips(source: Source, reading: Reading | None = None) -> list[str]:
    """Names of the clips in a file.

    Raises:
        FormatError: it is not such a file; names file and place.
    """
    columns, layout = described(reading or Reading(), source)
    content = _load(Source(source.path, source.member), stamp(source), columns, layout)
    if isinstance(content, Table):
        return clip_names(content)
    for key in (key for key in NUMBERED if key in columns.tells):
        name = columns.entry(key)
        require_distinct([_cell(record.get(name), source, name) for record in content.values()], key, columns, source)
    return list(content)


def claims(source: Source) -> bool:
    """Whether the file holds rows or clips; other formats are JSON too."""
    start = "".join(source.read()[:4096].decode("utf-8-sig", "replace").split())
    return start.startswith("[{") or '"clips":[' in start


def load(source: Source, columns: Columns, layout: Layout) -> Table:
    """All rows of a file of rows.

    Raises:
        NoSkeletonError: it has no row.
        FormatError: it is not a list of rows; names file and row.
    """
    content = _load(Source(source.path, source.member), stamp(source), columns, layout)
    if not isinstance(content, Table):
        raise FormatError(f"{source} holds whole clips, expected a list of rows")
    return content


def head(source: Source, rows: int) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the first rows as text; of a file of whole clips nothing.

    Raises:
        FormatError: it is not such a file; names file and place.
    """
    content = json_text.load(source)
    if not isinstance(content, list):
        return [], []
    first = _objects(content[:rows], "row", source)
    header = list(dict.fromkeys(name for row in first for name in row))
    return header, [[_cell(row.get(name), source, name) for name in header] for row in first]


# Parsed once for all clips in it.
@lru_cache(maxsize=2)
def _load(source: Source, changed: int, columns: Columns, layout: Layout) -> Table | dict[str, Mapping[str, Any]]:
    content = json_text.load(source)
    if isinstance(content, dict) and isinstance(content.get("clips"), list):
        return _named(_objects(content["clips"], "clip", source), source)
    if isinstance(content, list):
        return _table(_objects(content, "row", source), source, columns, layout)
    raise FormatError(f"{source} holds neither a list of rows nor 'clips', expected one of the two")


def _named(records: Sequence[Mapping[str, Any]], source: Source) -> dict[str, Mapping[str, Any]]:
    if not records:
        raise NoSkeletonError(f"{source} holds no clip")
    named: dict[str, Mapping[str, Any]] = {}
    for i, record in enumerate(records):
        unnamed = source.name if len(records) == 1 else f"{source.name}_{i:05}"
        name = _cell(record.get("name"), source, "name") or unnamed
        if name in named:
            raise FormatError(f"{source}, clip {i}: the name '{name[:60]}' is taken, expected each once")
        named[name] = record
    return named


def _table(rows: Sequence[Mapping[str, Any]], source: Source, columns: Columns, layout: Layout) -> Table:
    header = list(dict.fromkeys(name for row in rows for name in row))
    columns = columns.found_in(header)
    found = plan(columns, layout, header, source)
    wanted = [header[i] for i in sorted({*found.texts.values(), *found.numbers})]
    builder = TableBuilder(source, columns, layout, plan(columns, layout, wanted, source), wanted, "row")
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        cells = [[_cell(row.get(name), source, name) for name in wanted] for row in block]
        builder.add_cells(cells, range(start, start + len(block)))
    return builder.build()


def _objects(values: Sequence[Any], kind: str, source: Source) -> list[Mapping[str, Any]]:
    for i, value in enumerate(values):
        if not isinstance(value, dict):
            raise FormatError(f"{source}, {kind} {i}: found {type(value).__name__}, expected an object")
    return list(values)


def _cell(value: Any, source: Source, name: str) -> str:
    if value is None:
        return ""
    if type(value) not in (str, int, float):
        raise FormatError(f"{source}: '{name[:60]}' holds {type(value).__name__}, expected a number or text")
    return str(value)


def _array(values: Any, name: str, source: Source) -> np.ndarray:
    array = json_text.numbers(values, has_gaps=True)
    if array is None:
        raise FormatError(f"{source}: {name} is no array of numbers: its lists differ in length, or hold other things")
    return array


FORMATS = (
    Format(
        "json",
        "data of one's own, .json",
        ".json",
        read,
        clips=clips,
        claims=claims,
        takes_reading=True,
        has_columns=True,
    ),
)
