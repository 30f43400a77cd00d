"""Clips that come to the device window by window, in the order of an epoch.

Shapes: N batch, K clips of a window at most, R rows of it at most, V joints, C coordinates.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event, Lock

import numpy as np
import torch
from torch import Generator, Tensor

from last.data.batches import DeviceClips
from last.data.rows import RowReader, room_for
from last.data.store import ClipStore


def shard_order(clips: int, shard: int, together: int, generator: Generator) -> Tensor:
    """A random order that reads a file in long stretches: every clip once, (clips,) int64 on the host.

    Neighbouring clips make shards, the shards are dealt into groups at random, and the clips of a group are shuffled.
    So the clips of a batch come from ``together`` places of the file, which are others in each epoch, and not from
    anywhere; with one shard, or with all of them together, it is a plain permutation.

    Args:
        clips: how many, in the order of the file.
        shard: clips of a shard.
        together: shards of a group.
        generator: on the host.
    """
    turn = torch.randperm(-(-clips // shard), generator=generator)
    shuffled = torch.randperm(clips, generator=generator)
    group = turn[shuffled // shard] // together
    return shuffled[group.argsort(stable=True)]


def epoch_order(first: np.ndarray, shard: int | None, together: int, generator: Generator) -> Tensor:
    """A permutation of clips, (clips,) int64 on the host, or their :func:`shard_order`.

    Args:
        first: where in the file each clip begins, (clips,).
        shard: clips of a shard; None asks for a permutation.
        together: shards of a group.
        generator: on the host.
    """
    if shard is None:
        return torch.randperm(len(first), generator=generator)
    return torch.from_numpy(np.argsort(first))[shard_order(len(first), shard, together, generator)]


@dataclass(frozen=True)
class _Buffers:
    """Room for the clips of a window: rows (R, V, C), seen (R, V), and offset, frames, bodies and labels, (4, K)."""

    rows: Tensor
    seen: Tensor | None
    table: Tensor

    @classmethod
    def empty(cls, store: ClipStore, rows: int, clips: int, device: torch.device, pinned: bool = False) -> "_Buffers":
        table = torch.zeros(4, clips, dtype=torch.int64, device=device, pin_memory=pinned)
        seen = None if store.confidence is None else room_for(store.confidence, rows, device, pinned)
        return cls(room_for(store.joints, rows, device, pinned), seen, table)

    def take(self, other: "_Buffers", rows: int) -> None:
        """Copy a window's table and first rows, without waiting for it on a GPU."""
        self.table.copy_(other.table, non_blocking=True)
        self.rows[:rows].copy_(other.rows[:rows], non_blocking=True)
        if self.seen is not None and other.seen is not None:
            self.seen[:rows].copy_(other.seen[:rows], non_blocking=True)


class Windowed:
    """A :class:`last.data.feed.Feed` whose clips stay on the disk; a part of them is on the device at a time.

    A window holds as many whole batches as its budget allows. A thread reads the next one in the order of the file,
    into pinned memory where there is a GPU, and has it copied beside the one in use. When that is used up, the next is
    copied over it: so the tensors of the window never move. The device holds two windows, the host one more beside a
    GPU. For a GPU, batches must be asked for under the stream that reads them.

    Args:
        store: where the clips lie.
        indices: the clips of the part, (clips,).
        device: where they come to.
        batch: clips of the largest batch, which a window holds at least once.
        budget: bytes of a window's joints.
        shard: clips of a shard, if epochs are to be drawn by :func:`shard_order`.
        together: shards of a group.
        note: why the clips come by windows.

    Attributes:
        waited: seconds for which batches had to wait for the disk so far.

    Raises:
        StoreError: the store cannot be read.
    """

    def __init__(
        self,
        store: ClipStore,
        indices: np.ndarray,
        device: torch.device,
        batch: int,
        budget: int,
        shard: int | None = None,
        together: int = 1,
        note: str = "clips come by windows",
    ) -> None:
        table = store.clips[indices]
        self.device, self.note, self.waited = device, note, 0.0
        self.frames, self.bodies, self.labels = (
            torch.from_numpy(table[key].astype(np.int64)) for key in ("frames", "bodies", "label")
        )
        self.most_bodies, self.fewest_bodies = int(self.bodies.max()), int(self.bodies.min())
        self._first = table["offset"].astype(np.int64)
        self._rows = (self.frames * self.bodies).numpy()
        self._joints = RowReader(store.joints)
        self._confidence = None if store.confidence is None else RowReader(store.confidence)
        self._shard, self._together = shard, together

        by_length = np.sort(self._rows)
        self._batch = min(batch, len(table))
        self._room = max(budget // self._joints.row_bytes, int(by_length[-self._batch :].sum()))
        self._room = min(self._room, int(self._rows.sum()))
        most_clips = int(np.searchsorted(by_length.cumsum(), self._room, side="right"))
        self._window, self._staged = (_Buffers.empty(store, self._room, most_clips, device) for _ in range(2))
        self._read, self._stream = self._staged, None
        if device.type == "cuda":
            self._read = _Buffers.empty(store, self._room, most_clips, torch.device("cpu"), pinned=True)
            self._stream = torch.cuda.Stream(device)
            self._copied, self._taken = torch.cuda.Event(blocking=True), torch.cuda.Event()
            # The buffers may be memory that earlier work on this stream has yet to finish with.
            self._taken.record(torch.cuda.current_stream(device))
        offset, frames, bodies, labels = self._window.table
        self._clips = DeviceClips(
            self._window.rows,
            offset,
            frames,
            bodies,
            labels,
            self.most_bodies,
            self.fewest_bodies,
            self._window.seen,
        )
        self._places = torch.arange(most_clips, device=device)
        self._reading = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def window_bytes(self) -> int:
        """Of a window's joints."""
        return self._room * self._joints.row_bytes

    def order(self, generator: Generator) -> Tensor:
        """See :class:`last.data.feed.Feed`."""
        return epoch_order(self._first, self._shard, self._together, generator)

    def batches(self, order: Tensor, size: int, first: int = 0) -> Iterator[tuple[DeviceClips, Tensor]]:
        """See :class:`last.data.feed.Feed`.

        Raises:
            StoreError: the disk fails, or the store has become shorter.
            ValueError: a batch is larger than the windows were made for.
        """
        windows = self._cut(order.numpy()[first * size :], size)
        stopped = Event()
        coming = [self._begin(window, stopped) for window in windows[:1]]
        try:
            for here, window in enumerate(windows):
                began = time.perf_counter()
                rows = coming.pop().result()
                self.waited += time.perf_counter() - began
                self._take(rows)
                coming += [self._begin(following, stopped) for following in windows[here + 1 : here + 2]]
                for places in self._places[: len(window)].split(size):
                    yield self._clips, places
        finally:
            stopped.set()
            wait(coming)
            if self._stream is not None:
                self._stream.synchronize()  # else a buffer that is freed now could be another's while it is written

    def _cut(self, order: np.ndarray, size: int) -> list[np.ndarray]:
        """The clips of each window: as many whole batches as fit."""
        if size > self._batch and self._batch < len(self):
            raise ValueError(f"batches of {size} clips are asked of windows that were made for {self._batch}")
        begins = np.arange(0, len(order), size)
        ends = np.add.reduceat(self._rows[order], begins).cumsum() if len(order) else begins
        windows, batch = [], 0
        while batch < len(begins):
            before = ends[batch - 1] if batch else 0
            following = int(np.searchsorted(ends, before + self._room, side="right"))
            windows.append(order[batch * size : following * size])
            batch = following
        return windows

    def _begin(self, window: np.ndarray, stopped: Event) -> Future[int]:
        """Fetch a window in a thread of its own, which ends with it: nobody needs to end it."""
        thread = ThreadPoolExecutor(1, "clips")
        future = thread.submit(self._fetch, window, stopped)
        thread.shutdown(wait=False)
        return future

    def _fetch(self, window: np.ndarray, stopped: Event) -> int:
        """Bring a window beside the one in use; its number of rows."""
        by_file = np.argsort(self._first[window])
        first, counts = self._first[window][by_file], self._rows[window][by_file]
        rows = int(counts.sum())
        with self._reading:  # an iteration that was left half-way may still be at it
            if self._stream is not None:
                self._copied.synchronize()
            table = self._read.table.numpy()
            table[0, by_file] = counts.cumsum() - counts
            for row, values in enumerate((self.frames, self.bodies, self.labels), 1):
                table[row, : len(window)] = values.numpy()[window]
            self._joints.read(first, counts, self._read.rows[:rows].numpy(), stopped.is_set)
            if self._confidence is not None and self._read.seen is not None:
                self._confidence.read(first, counts, self._read.seen[:rows].numpy(), stopped.is_set)
            if self._stream is not None:
                with torch.cuda.stream(self._stream):
                    self._stream.wait_event(self._taken)
                    self._staged.take(self._read, rows)
                    self._copied.record()
        return rows

    def _take(self, rows: int) -> None:
        """Put the window that was fetched in the place of the one in use."""
        if self._stream is None:
            self._window.take(self._staged, rows)
            return
        using = torch.cuda.current_stream(self.device)
        using.wait_event(self._copied)
        self._window.take(self._staged, rows)
        self._taken.record(using)
