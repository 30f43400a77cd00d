"""Rows of a store, read in long stretches from its files. Shapes: R rows of a file, S stretches of them."""

import errno
import os
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from last.data.store import StoreError

# Read at once on the way to a device: long enough for the disk, and little beside the host's memory.
_PART_BYTES = 1 << 28


class RowReader:
    """Reads an array of a store from its file, not through its memory map.

    A disk that fails, or a file that is cut, ends the process where it is met in a map; here it is an error.

    Args:
        array: a memory map of the store, (R, ...). Its file stays open, so that a store which is prepared anew under
            the same name is not mixed with this one.

    Raises:
        StoreError: the file cannot be opened.
    """

    def __init__(self, array: np.memmap) -> None:
        self.path = Path(str(array.filename))
        self.row_bytes = array.itemsize * int(np.prod(array.shape[1:]))
        self._start = int(array.offset)
        try:
            self._file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise self._unreadable(error) from error
        weakref.finalize(self, self._file.close)

    def read(
        self, first: np.ndarray, counts: np.ndarray, out: np.ndarray, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Fill ``out`` with stretches of rows, one after the other; those that follow each other are read as one.

        Args:
            first: where each stretch begins, (S,) int64.
            counts: its rows, (S,) int64.
            out: C-contiguous, of the file's type, as many rows as ``counts`` add up to.
            stopped: asked before each read; once true, the rest of ``out`` is left as it is.

        Raises:
            StoreError: the disk fails, or the file has become shorter.
        """
        begins = np.flatnonzero(np.append(True, first[1:] != first[:-1] + counts[:-1]))
        places = self._start + self.row_bytes * first[begins]
        sizes = self.row_bytes * np.add.reduceat(counts, begins)
        target, done = out.data.cast("B"), 0
        for place, size in zip(places.tolist(), sizes.tolist(), strict=True):
            if stopped():
                return
            self._fill(target[done : done + size], place)
            done += size

    def _fill(self, target: memoryview, place: int) -> None:
        try:
            self._file.seek(place)
            while len(target):
                count = self._file.readinto(target)  # Linux ends a read after 2 GB
                if not count:
                    raise OSError(errno.EIO, f"it ends after {os.fstat(self._file.fileno()).st_size:,} bytes")
                target = target[count:]
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot read the clips in {self.path}: {error.strerror}; look at the disk, and that nothing writes to the "
            "store while it is used; 'last train --resume' goes on with a training"
        )


def room_for(array: np.ndarray, rows: int, device: torch.device | str, pinned: bool = False) -> Tensor:
    """Memory for so many rows of an array, (rows, ...), of its type and not yet filled.

    Args:
        array: (R, ...).
        rows: how many.
        device: where.
        pinned: of the host, from where a GPU copies beside its work.
    """
    shape = (rows, *array.shape[1:])
    if torch.device(device).type == "cpu" and not pinned:
        # NumPy asks the system for huge pages: fresh memory is there in half the time.
        return torch.from_numpy(np.empty(shape, array.dtype))
    return torch.empty(shape, dtype=getattr(torch, array.dtype.name), device=device, pin_memory=pinned)


def load_rows(array: np.memmap, first: np.ndarray, counts: np.ndarray, device: torch.device | str) -> Tensor:
    """Stretches of rows, one after the other, on a device.

    Args:
        array: a memory map of a store, (R, ...).
        first: where each stretch begins, (S,) int64; S > 0.
        counts: its rows, (S,) int64.
        device: where to; on its way there little of it lies in the host's memory.

    Raises:
        StoreError: the disk fails, or the file has become shorter.
    """
    reader, ends = RowReader(array), np.cumsum(counts)
    rows = room_for(array, int(ends[-1]), device)
    parts = np.flatnonzero(np.diff(ends * reader.row_bytes // _PART_BYTES)) + 1
    for part in np.split(np.arange(len(first)), parts):
        target = rows[ends[part[0]] - counts[part[0]] : ends[part[-1]]]
        host = target if target.device.type == "cpu" else room_for(array, len(target), "cpu")
        reader.read(first[part], counts[part], host.numpy())
        if host is not target:
            target.copy_(host)
    return rows
