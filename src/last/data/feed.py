"""How the clips of a part get to the device: all of them at once, or window by window.

Shapes: N batch.
"""

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from last.data.batches import DeviceClips
from last.data.store import ClipStore
from last.data.windows import Windowed, epoch_order
from last.setting_values import ConfigError

Choice = Literal["auto", "device", "windows"]

# Clips stay on the device where they leave as much again for activations and other programs.
_SHARE = 0.5
# Bytes. Long enough to be read while the window before trains, short enough that an epoch's first is soon there.
_WINDOW = 1 << 28
# Bytes read in one go from a set that memory cannot hold: a disk hardly reads longer stretches any faster.
_SHARD = 1 << 20
_MEMINFO = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Feed(Protocol):
    """The clips of a part, and the way by which each batch of them gets to the device.

    Attributes:
        device: where batches lie.
        note: how clips get there and why, in one line.
        labels: class of each clip, (clips,) int64 on the host.
        frames: true length of each clip, (clips,) int64 on the host.
        bodies: bodies of each clip, (clips,) int64 on the host.
        most_bodies: of any clip.
        fewest_bodies: of any clip.
        waited: seconds for which batches had to wait for the disk so far.
    """

    device: torch.device
    note: str
    labels: Tensor
    frames: Tensor
    bodies: Tensor
    most_bodies: int
    fewest_bodies: int
    waited: float

    def __len__(self) -> int: ...

    def order(self, generator: Generator) -> Tensor:
        """An order for one epoch, drawn on the host: every clip once, (clips,) int64."""
        ...

    def batches(self, order: Tensor, size: int, first: int = 0) -> Iterator[tuple[DeviceClips, Tensor]]:
        """The batches of an epoch; one epoch at a time.

        Args:
            order: the epoch's clips, (clips,) int64 on the host.
            size: clips a batch; the last has what is left.
            first: batches that are left out, to go on within an epoch.

        Yields:
            Clips on the device, and the places in them of a batch's clips, (N,) int64 on the device. The clips are the
            same tensors each time, so that a captured CUDA graph may read them; what they hold is good until the next
            batch is asked for.
        """
        ...


class Resident:
    """A :class:`Feed` whose clips all lie on the device.

    Args:
        clips: all of them.
        note: why they are there.
        order: draws that of an epoch; None takes a permutation.
    """

    waited = 0.0

    def __init__(
        self,
        clips: DeviceClips,
        note: str = "all clips lie on the device",
        order: Callable[[Generator], Tensor] | None = None,
    ) -> None:
        self.clips, self.note, self._draw = clips, note, order
        self.device = clips.rows.device
        self.labels, self.frames, self.bodies = (table.cpu() for table in (clips.labels, clips.frames, clips.bodies))
        self.most_bodies, self.fewest_bodies = clips.most_bodies, clips.fewest_bodies

    def __len__(self) -> int:
        return len(self.clips)

    def order(self, generator: Generator) -> Tensor:
        """See :class:`Feed`."""
        if self._draw is not None:
            return self._draw(generator)
        return torch.randperm(len(self), generator=generator)

    def batches(self, order: Tensor, size: int, first: int = 0) -> Iterator[tuple[DeviceClips, Tensor]]:
        """See :class:`Feed`."""
        places = order.to(self.device)
        for start in range(first * size, len(order), size):
            yield self.clips, places[start : start + size]


def choose_feed(
    store: ClipStore, indices: np.ndarray, device: torch.device, batch: int, choice: Choice = "auto"
) -> Feed:
    """Decide how the clips of a part get to the device.

    Where half of the device's free memory holds them, all of them go there, else they come by windows. Where the host
    has less memory than they take, so that windows would read each from the disk again in each epoch, epochs are drawn
    by :func:`last.data.windows.shard_order`, either way: a resumed epoch goes on in its order whatever the machine does
    besides.

    Args:
        store: where the clips lie.
        indices: the clips of the part, (clips,).
        device: where they are used.
        batch: clips of the largest batch.
        choice: ``device`` or ``windows`` leave nothing to decide.

    Raises:
        ConfigError: they are to lie on a device that does not hold them.
        StoreError: the store cannot be read.
    """
    table = store.clips[indices]
    row_bytes = sum(array[:1].nbytes for array in (store.joints, store.confidence) if array is not None)
    size = int((table["frames"].astype(np.int64) * table["bodies"]).sum()) * row_bytes
    free, memory = free_memory(device), total_memory()
    what = f"{len(table):,} clips of {_bytes(size)}"
    place = "memory" if device.type == "cpu" else str(device)
    room = f"{place} has {_bytes(free)} free"
    if choice == "device" and size > free:
        raise ConfigError(
            f"environment.clips is device, but {room} for {what}; set environment.clips to windows or auto"
        )
    shard, together = max(1, len(table) * _SHARD // size) if size > memory else None, _WINDOW // _SHARD
    if choice == "device" or (choice == "auto" and size <= _SHARE * free):
        order = partial(epoch_order, table["offset"].astype(np.int64), shard, together)
        return Resident(
            DeviceClips.from_store(store, indices, device), f"{what}, all of them in {place}; {room}", order
        )
    feed = Windowed(store, indices, device, batch, min(_WINDOW, free // 8), shard, together)
    why = "as environment.clips asks" if choice == "windows" else room
    drawn = "" if shard is None else f"; drawn by shards of {shard:,}, since memory is {_bytes(memory)}"
    feed.note = f"{what} come by windows of {_bytes(feed.window_bytes)}; {why}{drawn}"
    return feed


def free_memory(device: torch.device) -> int:
    """Bytes that a program may still take on a device, as its driver or system estimates."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    said = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE) if _MEMINFO.exists() else None
    return min(total_memory(), 1024 * int(said[1])) if said else total_memory() // 2


def total_memory() -> int:
    """Bytes of the host's memory, or of the container's share in it; 8 GB where the system does not say."""
    if not hasattr(os, "sysconf"):
        return 8 << 30
    limit = _LIMIT.read_text().strip() if _LIMIT.exists() else ""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(memory, int(limit)) if limit.isdigit() else memory


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
