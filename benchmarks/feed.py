"""Measure the way of clips to the device: `python benchmarks/feed.py [--device cuda] [--json results/feed.json]`.

The store is synthetic and of NTU RGB+D 60's size: 40,091 training clips of one body, 40 to 119 frames. Each figure
comes from a process of its own, in which nothing else has taken memory; times are the best of three.
"""

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.clip import Clip
from last.data.datasets import load_dataset
from last.data.feed import Feed, Resident
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter
from last.data.windows import Windowed
from last.provenance import record

NTU = load_dataset("ntu60")
CLIPS = 40_091
BATCH = 256
REPEATS = 3
WINDOWS = (32 << 20, 64 << 20, 256 << 20)  # bytes
SHARD = 42  # clips, about 1 MB
Figure = tuple[str, float, str]  # what, value, unit


def write(folder: Path) -> None:
    """The store."""
    rng = np.random.default_rng(0)
    movement = rng.normal(0, 1, (120, 1, 25, 3)).astype(np.float32)
    with StoreWriter(folder, NTU.layout, NTU.classes) as writer:
        for i, frames in enumerate(rng.integers(40, 120, CLIPS).tolist()):
            writer.append(Clip(movement[:frames] + np.float32(i % 100), f"clip{i:05d}", "ntu", label=i % 60))


def settled(device: torch.device) -> float:
    """Seconds on the clock once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def host_peak() -> int:
    """Most bytes of memory that this process has had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def evict(folder: Path) -> None:
    """Make the system forget the pages of the joints, so that they come from the disk again."""
    with (folder / "joints.npy").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def epoch(feed: Feed, seed: int) -> float:
    """Seconds for all batches of an epoch, of each of which one number is read on the device."""
    order = feed.order(torch.Generator().manual_seed(seed))
    start = settled(feed.device)
    for clips, places in feed.batches(order, BATCH):
        clips.rows[clips.offset[places[:1]]].sum()
    return settled(feed.device) - start


def residing(folder: Path, device: torch.device) -> list[Figure]:
    """All clips to the device, from the page cache."""
    store = ClipStore.open(folder)
    torch.zeros(1, device=device).sum()
    before, seconds, size = host_peak(), [], 0
    for _ in range(REPEATS):
        start = settled(device)
        clips = DeviceClips.from_store(store, np.arange(CLIPS), device)
        seconds.append(settled(device) - start)
        size = clips.rows.nbytes
        del clips
    return [
        ("all clips to the device", min(seconds), "s"),
        ("all clips to the device: host memory", (host_peak() - before) / 1e6, "MB"),
        ("all clips to the device: joints", size / 1e6, "MB"),
    ]


def by_windows(folder: Path, device: torch.device, budget: int, shard: int | None, cold: bool) -> list[Figure]:
    """An epoch by windows, which nothing but reading holds up."""
    store = ClipStore.open(folder)
    torch.zeros(1, device=device).sum()
    before = host_peak()
    feed = Windowed(store, np.arange(CLIPS), device, BATCH, budget, shard, 256)
    seconds = []
    for turn in range(REPEATS):
        if cold:
            evict(folder)
        seconds.append(epoch(feed, turn))
    rate = CLIPS / min(seconds)
    what = f"windows of {budget >> 20} MiB, {'a permutation' if shard is None else 'by shards'}, from the "
    what += "disk" if cold else "page cache"
    return [(what, rate, "clips per second"), (f"{what}: host memory", (host_peak() - before) / 1e6, "MB")]


def with_work(folder: Path, device: torch.device, budget: int) -> list[Figure]:
    """Making training batches, by windows against all clips on the device, in turns."""
    store = ClipStore.open(folder)
    chosen = np.arange(10_000)
    feeds: dict[str, Resident | Windowed] = {
        "all on the device": Resident(DeviceClips.from_store(store, chosen, device)),
        f"windows of {budget >> 20} MiB": Windowed(store, chosen, device, BATCH, budget),
    }
    pipeline = Pipeline(NTU.layout, normalise=("minmax",), augmentation=Augmentation((0.5, 1.0), rotation=(60, 60, 0)))
    generator = torch.Generator(device).manual_seed(0)
    seconds = dict.fromkeys(feeds, float("inf"))
    for turn in range(REPEATS):
        for name, feed in feeds.items():
            start = settled(device)
            for clips, places in feed.batches(feed.order(torch.Generator().manual_seed(turn)), BATCH):
                pipeline.train(clips, places, generator)
            seconds[name] = min(seconds[name], settled(device) - start)
    figures = [
        (f"training batches made, {name}", len(chosen) / took, "clips per second") for name, took in seconds.items()
    ]
    waited = sum(feed.waited for feed in feeds.values()) / REPEATS
    return [*figures, ("waited for a window, of 10,000 clips", waited, "s")]


def measure(folder: Path, device: torch.device) -> Iterator[Figure]:
    """All figures, one after the other."""
    write(folder)
    cases: list[tuple[Callable[..., list[Figure]], tuple[object, ...]]] = [
        (residing, ()),
        *((by_windows, (budget, None, False)) for budget in WINDOWS),
        *((by_windows, (WINDOWS[-1], shard, True)) for shard in (None, SHARD)),
        (with_work, (WINDOWS[1],)),
    ]
    for function, given in cases:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            yield from alone.submit(function, folder, device, *given).result()


def main() -> None:
    """Print the figures as a table, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path, help="file for the figures, in results/")
    given = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for what, value, unit in measure(Path(folder) / "store", given.device):
            figures.append({"what": what, "value": round(value, 2), "unit": unit})
            print(f"{what:70} {value:12,.1f} {unit}", flush=True)
    if given.json:
        content = {"kind": "feed", "figures": figures, **record(shlex.join(["python", *sys.argv]), given.device)}
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
