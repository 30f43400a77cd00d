"""Text files of a fixed number of numbers a line."""

import numpy as np

from last.data.clip import FormatError
from last.data.formats.source import Source


def number_lines(source: Source, fields: int, separator: str | None = None) -> np.ndarray:
    """The numbers of a text, (lines, fields) float64; empty lines at its end are passed over.

    Args:
        source: ASCII text, lines ending in LF or CRLF.
        fields: in each line.
        separator: between numbers; None: blanks.

    Raises:
        FormatError: it is not text, or a line is not as many finite numbers; names file and line.
    """
    try:
        lines = source.read().decode("ascii").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{source} is not text: byte {error.object[error.start]:#x} at {error.start}") from error
    values = np.empty((len(lines), fields))
    for i, line in enumerate(lines):
        row = line.rstrip().rstrip(separator).split(separator)
        try:
            values[i] = [float(field) for field in row]
        except ValueError:
            values[i] = np.nan
        if not np.isfinite(values[i]).all():
            raise FormatError(f"{source}, line {i + 1}: found {line[:60]!r}, expected {fields} finite numbers")
    return values
