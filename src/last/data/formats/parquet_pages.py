"""What the pages of a Parquet file promise to unfold to, of which Arrow takes the memory before it looks.

The headers of pages are structures in Thrift's compact form: each field a byte of type and step, numbers of seven bits
a byte.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12
_UNFOLDED, _PACKED = 2, 3  # fields of a page's header
_MAX_DEPTH = 8
_MAX_PAGES = 20_000


def largest_pages(data: memoryview, metadata: "pq.FileMetaData") -> int:
    """Bytes that the largest page of each column promises to unfold to, summed over the columns.

    Args:
        data: the file.
        metadata: of the file.

    Raises:
        ValueError: a page's header is damaged, or there are too many pages.
    """
    largest: dict[int, int] = {}
    pages = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for i in range(metadata.num_columns):
            piece = group.column(i)
            start = piece.data_page_offset
            if piece.has_dictionary_page and 0 < piece.dictionary_page_offset < start:
                start = piece.dictionary_page_offset
            for size in _unfolded_sizes(data, start, piece.total_compressed_size):
                largest[i] = max(largest.get(i, 0), size)
                pages += 1
                if pages > _MAX_PAGES:
                    raise ValueError(f"it has more than {_MAX_PAGES} pages; write it with larger ones")
    return sum(largest.values())


def _unfolded_sizes(data: memoryview, start: int, size: int) -> Iterator[int]:
    """What each page of a column's piece promises to unfold to."""
    end = start + size
    if not 0 <= start <= end <= len(data):
        raise ValueError(f"a column's piece lies at {start} to {end} of {len(data)} bytes")
    while start < end:
        header = _Header(data[start:end])
        fields = header.structure()
        if not {_UNFOLDED, _PACKED} <= fields.keys() or min(fields[_UNFOLDED], fields[_PACKED]) < 0:
            raise ValueError(f"the page at byte {start} does not say its sizes")
        yield fields[_UNFOLDED]
        start += header.at + fields[_PACKED]


class _Header:
    """A reader of one structure; ``at`` is where it has come to."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0

    def structure(self, depth: int = 0) -> dict[int, int]:
        """The whole numbers among its fields, by their ids; the others are passed over."""
        if depth > _MAX_DEPTH:
            raise ValueError("a page's header is nested too deeply")
        fields: dict[int, int] = {}
        key = 0
        while tag := self._byte():
            step, kind = tag >> 4, tag & 15
            key = key + step if step else self._number()
            value = self._value(kind, depth)
            if value is not None:
                fields[key] = value
        return fields

    def _value(self, kind: int, depth: int) -> int | None:
        if kind in (_I16, _I32, _I64):
            return self._number()
        if kind == _BYTE:
            self._skip(1)
        elif kind == _DOUBLE:
            self._skip(8)
        elif kind == _BINARY:
            self._skip(self._varint())
        elif kind in (_LIST, _SET):
            head = self._byte()
            for _ in range(head >> 4 if head >> 4 < 15 else self._varint()):
                if head & 15 in (_TRUE, _FALSE):
                    self._skip(1)
                else:
                    self._value(head & 15, depth + 1)
        elif kind == _STRUCT:
            self.structure(depth + 1)
        elif kind not in (_TRUE, _FALSE):
            raise ValueError(f"a page's header has a field of the unknown type {kind}")
        return None

    def _byte(self) -> int:
        if self.at >= len(self._data):
            raise ValueError("a page's header is cut short")
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128 and shift < 63:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _number(self) -> int:
        """A signed one, whose sign is its last bit."""
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _skip(self, size: int) -> None:
        if size > len(self._data) - self.at:
            raise ValueError("a page's header is cut short")
        self.at += size
