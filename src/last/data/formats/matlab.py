"""MATLAB 5 ``.mat`` files, as UTD-MHAD and Penn Action come in: their arrays of numbers and their texts.

Read here rather than by SciPy, which takes the memory that a damaged file asks for before it looks how much is there.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from last.data.clip import FormatError
from last.data.formats.source import MAX_BYTES, Source

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15  # types of elements that hold others
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CHAR, _DOUBLE, _LAST_NUMERIC = 4, 6, 15  # classes of arrays
_COMPLEX = 0x800
_MAX_DIMENSIONS = 8
_LARGEST = 1e30  # near the end of single precision, which joints are kept in


def load(source: Source, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names, a text as an array of one string.

    Raises:
        FormatError: the file is not MATLAB 5, is damaged, lacks a name, or grows beyond what a clip can need.
    """
    data = source.read()
    if len(data) < _HEADER or data[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise FormatError(f"{source} is not a MATLAB 5 file: its header does not say so; save it with -v6 or -v7")
    order = "<" if data[126:128] == b"IM" else ">"
    found = {}
    try:
        for matrix in _matrices(data[_HEADER:], order):
            named = _array(matrix, order, keys)
            if named:
                found[named[0]] = named[1]
    except (ValueError, zlib.error) as error:
        raise FormatError(f"{source} is a damaged MATLAB file: {error}") from error
    missing = [key for key in keys if key not in found]
    if missing:
        raise FormatError(f"{source} holds no {' and no '.join(map(repr, missing))}, expected {', '.join(keys)}")
    return found


def numbers(array: np.ndarray, name: str, source: Source) -> np.ndarray:
    """An array as float64.

    Raises:
        FormatError: it holds anything but numbers, or larger ones than joints can have.
    """
    if array.dtype.kind not in "iuf":
        raise FormatError(f"{source}: '{name}' holds {array.dtype}, expected numbers")
    values = array.astype(np.float64)
    beyond = np.abs(values) > _LARGEST
    if beyond.any():
        raise FormatError(f"{source}: '{name}' holds {values[beyond][0]:g}, expected numbers up to {_LARGEST:g}")
    return values


def _matrices(data: bytes, order: str) -> Iterator[bytes]:
    """The file's variables, unfolded where they are compressed."""
    left = MAX_BYTES
    for kind, content in _elements(data, order):
        if kind == _COMPRESSED:
            # Some of Penn Action's streams have all their bytes but no end, so none is asked for.
            unfolded = zlib.decompressobj().decompress(content, left + 1)
            left -= len(unfolded)
            if left < 0:
                raise ValueError(f"it unfolds to more than {MAX_BYTES} bytes, expected at most as many for one clip")
            yield from (inner for inner_kind, inner in _elements(unfolded, order) if inner_kind == _MATRIX)
        elif kind == _MATRIX:
            yield content


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of the elements that follow one another."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError(f"{len(data) - at} bytes are left where an element should begin")
        kind, size = np.frombuffer(data, f"{order}u4", 2, at).tolist()
        at += 8
        if kind >> 16:  # up to four bytes stand in place of the size
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError(f"a short element promises {size} bytes, expected at most 4")
            yield kind, data[at - 4 : at - 4 + size]
            continue
        if size > len(data) - at:
            raise ValueError(f"an element promises {size} bytes, but {len(data) - at} are left")
        yield kind, data[at : at + size]
        at += size if kind == _COMPRESSED else size + -size % 8


def _array(matrix: bytes, order: str, keys: Sequence[str]) -> tuple[str, np.ndarray] | None:
    """Name and content of a variable; None if it is not asked for, or neither real numbers nor text."""
    parts = list(islice(_elements(matrix, order), 4))
    if len(parts) < 4:
        return None
    (_, flags), (_, dimensions), (_, name), (kind, content) = parts
    flag = int.from_bytes(flags[:4], "little" if order == "<" else "big")
    key, array_class = name.decode("latin-1"), flag & 0xFF
    if key not in keys or flag & _COMPLEX:
        return None
    if array_class == _CHAR and kind in _TEXTS:
        encoding = _TEXTS[kind] + ({"<": "-le", ">": "-be"}[order] if kind in (4, 17, 18) else "")
        return key, np.array([content.decode(encoding)])
    if not _DOUBLE <= array_class <= _LAST_NUMERIC or kind not in _NUMBERS:
        return None
    dtype = np.dtype(order + _NUMBERS[kind])
    if len(dimensions) % 4 or len(dimensions) > 4 * _MAX_DIMENSIONS:
        raise ValueError(f"'{key}' has dimensions of {len(dimensions)} bytes, expected 4 each for 2 to 8")
    shape = np.frombuffer(dimensions, f"{order}i4").tolist()
    if min(shape, default=-1) < 0 or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"'{key}' has {len(content)} bytes of {dtype}, but promises the shape {tuple(shape)}")
    if math.prod(shape) * 8 > MAX_BYTES:
        raise ValueError(f"'{key}' holds {math.prod(shape)} numbers, expected at most {MAX_BYTES // 8} for one clip")
    return key, np.frombuffer(content, dtype).reshape(shape, order="F")
