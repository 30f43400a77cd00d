"""Text files of a fixed number of numbers a line."""

import numpy as np

from last.data.clip import FormatError
from last.data.formats.source import Source

MAX_NUMBERS = 4_000_000  # of one clip's text, 32 MB
_LARGEST = 1e30  # near the end of single precision, which joints are kept in


def number_lines(source: Source, fields: int, separator: str | None = None) -> np.ndarray:
    """The numbers of a text, (lines, fields) float64; empty lines at its end are passed over.

    Args:
        source: ASCII text, lines ending in LF or CRLF.
        fields: in each line.
        separator: between numbers; None: blanks.

    Raises:
        FormatError: it is not text, has more lines than a clip can need, or a line is not as many finite numbers;
            names file and line.
    """
    content = source.read().rstrip()
    count = content.count(b"\n") + 1
    if count * fields > MAX_NUMBERS:
        raise FormatError(f"{source} has {count} lines, expected at most {MAX_NUMBERS // fields} for one clip")
    try:
        lines = content.decode("ascii").split("\n") if content else []
    except UnicodeDecodeError as error:
        raise FormatError(f"{source} is not text: byte {error.object[error.start]:#x} at {error.start}") from error
    rows = []
    for line in lines:
        row = line.rstrip().rstrip(separator).split(separator, fields)
        try:
            numbers = [] if "_" in line else list(map(float, row))  # float() would read 1_0 as 10
        except ValueError:
            numbers = []
        rows.append(numbers if len(numbers) == fields else [np.nan] * fields)
    values = np.array(rows).reshape(-1, fields)
    bad = ~(np.abs(values) < _LARGEST).all(axis=1)
    if bad.any():
        i = int(bad.argmax())
        raise FormatError(f"{source}, line {i + 1}: found {lines[i][:60]!r}, expected {fields} finite numbers")
    return values
