"""A ``.npy`` file that is written row by row."""

import hashlib
import os
from pathlib import Path
from typing import IO

import numpy as np


class ArrayFile:
    """A ``.npy`` file that grows along its first axis.

    Attributes:
        name: of the file.
        stream: into it.
        checksum: SHA-256 of the array's bytes so far.
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.name, self._dtype, self._shape = path.name, dtype, shape
        self.stream: IO[bytes] = path.open("wb")
        self.checksum = hashlib.sha256()
        self._write_header(0)

    def write(self, array: np.ndarray) -> None:
        """Append rows of the file's dtype."""
        content = np.ascontiguousarray(array, self._dtype).tobytes()
        self.stream.write(content)
        self.checksum.update(content)

    def finish(self, rows: int) -> None:
        """Say how many rows there are, and close the file."""
        self.stream.seek(0)
        self._write_header(rows)  # fits: numpy leaves room for the first axis to grow
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()

    def _write_header(self, rows: int) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (rows, *self._shape),
        }
        np.lib.format.write_array_header_1_0(self.stream, header)
