"""MATLAB 5 ``.mat`` files, as UTD-MHAD and Penn Action come in."""

import io
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from last.data.clip import FormatError
from last.data.formats.source import MAX_BYTES, Source

_HEADER = 128
_COMPRESSED = 15  # the type of an element that holds another one, deflated


def load(source: Source, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names.

    Raises:
        FormatError: the file is not MATLAB 5, is damaged, lacks a name, or grows beyond what a clip can need.
    """
    from scipy.io import loadmat  # a fifth of a second that other formats need not wait for

    data = source.read()
    if len(data) < _HEADER or data[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise FormatError(f"{source} is not a MATLAB 5 file: its header does not say so; save it with -v6 or -v7")
    _require_bounded(data, source)
    try:
        content = loadmat(io.BytesIO(data), variable_names=list(keys))
    # Of a damaged file scipy says so by nearly any exception: TypeError, IndexError, KeyError, zlib.error and more.
    except Exception as error:
        raise FormatError(f"{source} is a damaged MATLAB file: {type(error).__name__}, {error}") from error
    missing = [key for key in keys if key not in content]
    if missing:
        raise FormatError(f"{source} holds no {' and no '.join(map(repr, missing))}, expected {', '.join(keys)}")
    return {key: np.asarray(content[key]) for key in keys}


def numbers(array: np.ndarray, name: str, source: Source) -> np.ndarray:
    """An array as float64.

    Raises:
        FormatError: it holds anything but numbers.
    """
    if array.dtype.kind not in "iufb":
        raise FormatError(f"{source}: '{name}' holds {array.dtype}, expected numbers")
    return array.astype(np.float64)


def _require_bounded(data: bytes, source: Source) -> None:
    """Refuse a file whose compressed parts unfold to more than a clip can need, before anything unfolds them."""
    total = 0
    for kind, body in _elements(data):
        if kind != _COMPRESSED:
            continue
        try:
            unfolded = zlib.decompressobj().decompress(body, MAX_BYTES - total + 1)
        except zlib.error as error:
            raise FormatError(f"{source} is a damaged MATLAB file: {error}") from error
        total += len(unfolded)
        if total > MAX_BYTES:
            raise FormatError(f"{source} unfolds to more than {MAX_BYTES} bytes, expected at most as many for one clip")


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    order = "little" if data[126:128] == b"IM" else "big"
    at = _HEADER
    while at + 8 <= len(data):
        kind, size = (int.from_bytes(data[i : i + 4], order) for i in (at, at + 4))
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size
