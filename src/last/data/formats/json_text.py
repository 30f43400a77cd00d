"""JSON files, read so that no content can hang, crash or mislead a reader."""

import json
import re
from itertools import chain
from typing import Any

import numpy as np

from last.data.clip import FormatError
from last.data.formats.source import Source

_MAX_MEMORY = 192 << 20
# Bytes that a value takes in Python, by the character that is there once for it.
_TAKEN = {b",": 32, b"[": 72, b"{": 240}
_MAX_DIMENSIONS = 8  # of nested lists; NumPy takes 64 at most, joints have 4

_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|NaN|-?Infinity', re.DOTALL)


class _NotFiniteError(ValueError):
    pass


def load(source: Source) -> Any:
    """The content of a file, whose numbers are finite, but for those such as 1e999 that no float holds.

    Whole numbers of 19 digits or more come as floats.

    Raises:
        FormatError: it cannot be read, is not JSON in UTF-8, or holds more than a clip can; names file and line.
    """
    data = source.read()
    if sum(data.count(character) * taken for character, taken in _TAKEN.items()) > _MAX_MEMORY:
        raise FormatError(f"{source} holds too many values for one clip: they would take over {_MAX_MEMORY} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{source} is not JSON text: byte {error.object[error.start]:#x} at {error.start} is no UTF-8"
        ) from error
    try:
        return json.loads(text, parse_constant=_refuse, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise FormatError(f"{source}, line {error.lineno}: not JSON, {error.msg}") from error
    except RecursionError as error:
        raise FormatError(f"{source} is not JSON text of a clip: it is nested too deeply") from error
    except _NotFiniteError as error:
        at = next(match.start() for match in _CONSTANT.finditer(text) if match[0][0] != '"')
        line = 1 + text.count("\n", 0, at)
        raise FormatError(f"{source}, line {line}: it holds {error}, expected finite numbers") from error


def numbers(values: Any, has_gaps: bool = False) -> np.ndarray | None:
    """Nested lists as a float32 array, or None where they are ragged or hold anything but finite float32 numbers.

    With ``has_gaps`` they may hold null too, which becomes NaN.
    """
    # Level by level: np.array would give [1, "long text"] room for as many long texts, and take true for 1.
    shape: list[int] = []
    level = [values]
    while set(map(type, level)) == {list} and len(shape) < _MAX_DIMENSIONS:
        lengths = set(map(len, level))
        if len(lengths) != 1:
            return None
        shape += lengths
        level = list(chain.from_iterable(level))
    if not shape or not set(map(type, level)) <= {int, float, *([type(None)] if has_gaps else [])}:
        return None
    with np.errstate(over="ignore"):
        array = np.array(level, dtype=np.float64).astype(np.float32)
    return array.reshape(shape) if (~np.isinf(array) if has_gaps else np.isfinite(array)).all() else None


def _refuse(constant: str) -> None:
    raise _NotFiniteError(constant)


def _whole(digits: str) -> int | float:
    # int() takes the square of the time over millions of digits, or refuses them, as Python's version has it.
    return int(digits) if len(digits) < 19 else float(digits)
