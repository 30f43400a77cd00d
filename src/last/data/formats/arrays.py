"""NumPy's ``.npy`` and ``.npz``, read without running or trusting anything in them.

An array that lies uncompressed on the disk, in a file of its own or in an ``.npz`` (as ``np.savez`` writes it, and
CTR-GCN publishes NTU RGB+D's 7 GB), is mapped: it opens in no time, and its rows are read as they are asked for; the
checksums of a zip are not looked at then. A compressed one is unfolded whole, into memory.
"""

import io
import math
import mmap
import os
import re
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from last.data.clip import FormatError
from last.data.formats.source import MAX_BYTES, Source

_MAX_DIMENSIONS = 8
_MAX_HEADER = 10_000
_MAX_SHRINKAGE = 100  # clips of ten frames padded to 300 shrink thirtyfold, a bomb a thousandfold
_PIECE = 1 << 20

_PLAIN = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[US][1-9]\d{0,3})")
# The text of a header is a Python dictionary; a pattern takes what every writer writes, and evaluates nothing.
_SIZES = r"(?:\d{1,15}L?, ?)*(?:\d{1,15}L?)?"
_HEADER = re.compile(rf"\{{'descr': '([^']{{1,20}})', 'fortran_order': (True|False), 'shape': \(({_SIZES})\),? ?\}}\s*")


def mapped(source: Source) -> mmap.mmap | bytes:
    """The bytes of a file on the disk, of any size, without reading them; those of a zip's member, read.

    Raises:
        FormatError: it is absent, unreadable or empty, or a member too large to be read whole.
    """
    if source.member:
        return source.read()
    try:
        with source.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise FormatError(f"cannot read {source}: {error.strerror or error}") from error
    except ValueError:
        raise FormatError(f"{source} is empty") from None


def plain_dtype(code: str, place: str) -> np.dtype:
    """The dtype of a code such as ``<f4``.

    Raises:
        FormatError: it is none of numbers or text of a fixed length; names the place.
    """
    if not _PLAIN.fullmatch(code):
        raise FormatError(f"{place}: an array of {code[:60]!r}, expected plain numbers or text")
    return np.dtype(code)


def plain_array(
    content: memoryview | bytes, dtype: np.dtype, shape: Sequence[int], is_fortran: bool, place: str
) -> np.ndarray:
    """An array over bytes, without a copy.

    Raises:
        FormatError: the bytes are not as many as the shape promises; names the place.
    """
    if len(shape) > _MAX_DIMENSIONS or min(shape, default=0) < 0:
        raise FormatError(f"{place}: an array of {len(shape)} dimensions, expected at most {_MAX_DIMENSIONS}, none < 0")
    size = math.prod(shape) * dtype.itemsize
    if size != len(content):
        raise FormatError(f"{place}: an array of {len(content)} bytes, but its shape {tuple(shape)} promises {size}")
    if not size:
        return np.empty(0, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def to_list(array: np.ndarray, place: str) -> list[Any]:
    """The values as Python's.

    Raises:
        FormatError: some are text that is none; names the place.
    """
    try:
        return array.tolist()
    except ValueError as error:
        raise FormatError(f"{place}: {error}") from error


def load_npy(source: Source) -> np.ndarray:
    """The array of an ``.npy`` file, read-only.

    Raises:
        FormatError: it is not one, is cut short, or holds objects.
    """
    return _parse(memoryview(mapped(source)), str(source))


def npz_names(source: Source) -> list[str]:
    """Names of the arrays in an ``.npz``.

    Raises:
        FormatError: it is not a zip.
    """
    with _open(source) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def load_npz(source: Source, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names in an ``.npz``, read-only.

    Raises:
        FormatError: it is damaged, lacks a name, an array is cut short or holds objects, or those that are compressed
            would fill half of the machine's memory, were they read by a process on each core.
    """
    with _open(source) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        missing = [name for name in names if name not in members]
        if missing:
            raise FormatError(f"{source} holds no {' and no '.join(map(repr, missing))}, expected {', '.join(names)}")
        chosen = {name: members[name] for name in names}
        _require_bounded(list(chosen.values()), source)
        buffer = memoryview(mapped(source))
        return {
            name: _parse(_content(archive, member, buffer, source), f"{source}, array '{name}'")
            for name, member in chosen.items()
        }


def _parse(content: memoryview, place: str) -> np.ndarray:
    version = content[6] if content[:6] == b"\x93NUMPY" and len(content) > 12 else 0
    if version not in (1, 2, 3):
        raise FormatError(f"{place}: not an .npy array, its first bytes are {bytes(content[:8])!r}")
    start = 10 if version == 1 else 12
    end = start + int.from_bytes(content[8:start], "little")
    if end > min(len(content), start + _MAX_HEADER):
        raise FormatError(f"{place}: its header promises {end - start} bytes, more than there are or could be needed")
    text = bytes(content[start:end]).decode("latin1")
    header = _HEADER.fullmatch(text)
    if not header:
        raise FormatError(f"{place}: the header {text[:120]!r}, expected a plain dtype, an order and a shape")
    code, order, sizes = header.groups()
    shape = [int(size) for size in re.findall(r"\d+", sizes)]
    return plain_array(content[end:], plain_dtype(code, place), shape, order == "True", place)


def _open(source: Source) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(source.read()) if source.member else source.path)
    except FormatError:
        raise
    except Exception as error:  # of a damaged zip the library says so by nearly any exception
        raise FormatError(f"{source} is not a zip of arrays: {error}") from error


def _require_bounded(members: Sequence[zipfile.ZipInfo], source: Source) -> None:
    """Refuse what would unfold to more than any skeletons do, or than the machine holds, before anything unfolds it."""
    total = 0
    for member in members:
        size, packed = member.file_size, member.compress_size
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(f"{source}: {member.filename} is encrypted or packed otherwise than numpy does")
        if member.compress_type == zipfile.ZIP_STORED:
            continue
        if size > max(MAX_BYTES, _MAX_SHRINKAGE * packed):
            raise FormatError(f"{source}: {member.filename} unfolds from {packed} bytes to {size}, as no skeletons do")
        total += size
    if total > max(MAX_BYTES, _memory() // 2 // (os.cpu_count() or 1)):
        raise FormatError(
            f"{source} unfolds to {total / 1e9:.1f} GB in each process that reads it, more than this machine's memory "
            "has room for; write it anew with np.savez, uncompressed, which is read in place"
        )


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, buffer: memoryview, source: Source) -> memoryview:
    """The bytes of a member: where they lie if they are not compressed, else unfolded."""
    size = member.file_size
    if member.compress_type == zipfile.ZIP_STORED:
        local = buffer[member.header_offset : member.header_offset + 30]
        start = member.header_offset + 30 + sum(int.from_bytes(local[i : i + 2], "little") for i in (26, 28))
        if local[:4] != b"PK\3\4" or start + size > len(buffer):
            raise FormatError(f"{source} is damaged: {member.filename} does not lie where its list has it")
        return buffer[start : start + size]
    content = memoryview(bytearray(size))
    try:
        with archive.open(member) as stream:
            # Piece by piece: read at once, a member may unfold to far more than it promises.
            at = 0
            while piece := stream.read(_PIECE):
                content[at : at + len(piece)] = piece
                at += len(piece)
    except Exception as error:  # as above
        raise FormatError(f"{source} is damaged: {member.filename}: {error}") from error
    if at != size:
        raise FormatError(f"{source} is damaged: {member.filename} ends after {at} of {size} bytes")
    return content.toreadonly()


def _memory() -> int:
    """Of the machine, in bytes; without bound where it cannot be told."""
    if not hasattr(os, "sysconf"):
        return 1 << 62
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
