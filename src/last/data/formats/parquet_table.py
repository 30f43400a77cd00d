"""Tables of one's own as Apache Parquet, with the columns that a ``.csv`` would have; needs the extra ``parquet``.

:mod:`last.data.formats.columns` says how they are described.
"""

from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats.arrays import mapped
from last.data.formats.columns import Columns, described, plan
from last.data.formats.format import Format, Reading
from last.data.formats.parquet_pages import largest_pages
from last.data.formats.source import Source, as_source
from last.data.formats.table import MAX_TABLE_BYTES, Table, clip_in, clip_names, stamp
from last.data.formats.table_builder import TableBuilder
from last.skeleton import Layout

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BLOCK = 1 << 14  # rows
_MAX_CELLS = 1 << 22  # of a small file
_MAX_CELLS_A_BYTE = 100  # a column of one value shrinks to nothing, coordinates do not
_MAX_PAGES_BYTES = 256 << 20  # unfolded, of all columns together
_MAX_LIST = 100_000  # columns and pieces that a header may promise


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read one clip.

    Raises:
        NoSkeletonError: it has no row.
        FormatError: it is not such a table, or the extra is not installed; names file and row.
    """
    source, reading = as_source(source), reading or Reading()
    return clip_in(load(source, *described(reading, source)), source, reading)


def clips(source: Source, reading: Reading | None = None) -> list[str]:
    """Names of the clips in a file.

    Raises:
        FormatError: it is not such a table, or the extra is not installed; names file and row.
    """
    columns, layout = described(reading or Reading(), source)
    return clip_names(load(source, columns, layout)) if columns.clip else [source.name]


def load(source: Source, columns: Columns, layout: Layout) -> Table:
    """All of a file; read once for all clips in it.

    Raises:
        NoSkeletonError: it has no row.
        FormatError: it is not such a table, or the extra is not installed; names file and row.
    """
    return _load(Source(source.path, source.member), stamp(source), columns, layout)


def head(source: Source, rows: int) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the first rows as text.

    Raises:
        FormatError: it is not such a table, or the extra is not installed.
    """
    with _opened(source) as file:
        header = [field.name for field in file.schema_arrow if _is_flat(field.type)]
        first = next(file.iter_batches(rows, columns=header, use_threads=False), None)
        columns = [_texts(column) for column in first.columns] if first else []
    return header, [list(row) for row in zip(*columns, strict=True)]


@lru_cache(maxsize=8)
def _load(source: Source, changed: int, columns: Columns, layout: Layout) -> Table:
    with _opened(source) as file:
        header = list(file.schema_arrow.names)
        columns = columns.found_in(header)
        found = plan(columns, layout, header, source)
        wanted = [header[i] for i in sorted({*found.texts.values(), *found.numbers})]
        _require_bounded(file, len(wanted), source)
        for name in wanted:
            if not _is_flat(file.schema_arrow.field(name).type):
                raise FormatError(
                    f"{source}: column '{name}' holds {file.schema_arrow.field(name).type}, expected numbers or text"
                )
        for name in (header[i] for i in found.numbers):
            _require_numbers(file.schema_arrow.field(name).type, name, source)
        found = plan(columns, layout, wanted, source)
        builder = TableBuilder(source, columns, layout, found, wanted, "row")
        start = 0
        for batch in file.iter_batches(_BLOCK, columns=wanted, use_threads=False):
            arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
            texts = {key: _texts(arrays[wanted[i]]) for key, i in found.texts.items()}
            numbers = [_numbers(arrays[wanted[i]]) for i in found.numbers]
            builder.add(texts, np.stack(numbers, axis=1), range(start, start + batch.num_rows))
            start += batch.num_rows
    return builder.build()


@contextmanager
def _opened(source: Source) -> Generator["pq.ParquetFile", None, None]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise FormatError(
            f"{source} is Parquet, which needs pyarrow: pip install 'last-action-recognition[parquet]'"
        ) from None
    size = 0 if source.member else stamp(source) and source.path.stat().st_size
    if size > MAX_TABLE_BYTES:
        raise FormatError(f"{source} has {size:,} bytes, expected at most {MAX_TABLE_BYTES:,}; write several files")
    content = mapped(source)
    limits = {"thrift_string_size_limit": 1 << 24, "thrift_container_size_limit": _MAX_LIST}
    try:
        with pq.ParquetFile(pa.BufferReader(content), **limits) as file:
            unfolded = largest_pages(memoryview(content), file.metadata)
            texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
        if unfolded > _MAX_PAGES_BYTES:
            raise FormatError(
                f"{source} promises pages of {unfolded:,} bytes at once, expected at most {_MAX_PAGES_BYTES:,}; "
                "write it with smaller ones"
            )
        # As dictionaries, since a long text in every row takes a few bytes in the file.
        with pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts, **limits) as file:
            yield file
    # Of a damaged file Arrow says so by its own errors, which are ValueErrors and OSErrors, and by some of Python's.
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{source} is not a Parquet file that can be read: {error}") from error


def _require_bounded(file: "pq.ParquetFile", columns: int, source: Source) -> None:
    """Refuse a table that promises far more than its bytes can hold."""
    rows = file.metadata.num_rows
    size = source.path.stat().st_size
    if rows * columns > max(_MAX_CELLS, _MAX_CELLS_A_BYTE * size):
        raise FormatError(f"{source} promises {rows:,} rows in {size:,} bytes, more than coordinates can shrink to")


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def _is_flat(kind: "pa.DataType") -> bool:
    """Whether a column takes as much memory as its pages promise."""
    import pyarrow as pa

    return pa.types.is_dictionary(kind) or pa.types.is_primitive(kind) or pa.types.is_null(kind) or _is_text(kind)


def _require_numbers(kind: "pa.DataType", name: str, source: Source) -> None:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise FormatError(f"{source}: column '{name}' holds {kind}, expected numbers")


def _numbers(array: "pa.Array") -> np.ndarray:
    import pyarrow as pa

    return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _texts(array: "pa.Array") -> list[str]:
    import pyarrow as pa

    if isinstance(array, pa.DictionaryArray):
        values = _texts(array.dictionary)
        return ["" if i is None else values[i] for i in array.indices.to_pylist()]
    values = array.to_pylist()
    # Some writers leave texts as bytes.
    values = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]
    return ["" if value is None else str(value).strip() for value in values]


FORMATS = (
    Format(
        "parquet", "a table of one's own, .parquet", ".parquet", read, clips=clips, takes_reading=True, has_columns=True
    ),
)
