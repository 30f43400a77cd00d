"""Measure preparing and reading: `python benchmarks/data.py --raw FOLDER_OF_SKELETON_FILES [--json results/data.json]`.

The raw files, of real length, are linked under as many new names as are asked for. Times of the processor are of all
processes together, so that they mean the same on a machine that is busy.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, product
from pathlib import Path
from statistics import median

import numpy as np

from last.data.clean import CleanOptions
from last.data.clip import Clip
from last.data.datasets import load_dataset
from last.data.formats import FORMATS, find_files, ntu
from last.data.prepare import prepare
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter

NTU = load_dataset("ntu120")
OPTIONS = CleanOptions(min_frames=12, max_spread=0.8)  # of configs/data/ntu120.yaml
STORED_CLIPS = 100_000
LONG_CLIPS = 5_000
Figure = tuple[str, float, str]  # what, value, unit


def new_names(files: list[Path]) -> Iterator[tuple[Path, str]]:
    """Each file under the names of all replications, performers and cameras."""
    for replication, performer, camera, file in product(range(1, 100), range(1, 107), (1, 2, 3), files):
        yield file, f"{file.name[:4]}C{camera:03d}P{performer:03d}R{replication:03d}{file.name[16:]}"


def multiply(raw: Path, count: int, folder: Path) -> Path:
    """A folder of ``count`` files: the raw ones, copied once beside it and linked into it."""
    copies = [Path(shutil.copy(file, folder)) for file in sorted(raw.glob("*.skeleton"))]
    if not copies:
        sys.exit(f"no .skeleton file in {raw}")
    target = folder / f"raw{count}"
    target.mkdir()
    for file, name in islice(new_names(copies), count):
        os.link(file, target / name)
    return target


def reading(raw: Path) -> Iterator[Figure]:
    """The reader alone, in one process."""
    files = sorted(raw.glob("*.skeleton"))
    start = time.process_time()
    for _ in range(10):
        for file in files:
            ntu.read(file)
    yield "read .skeleton files", 10 * len(files) / (time.process_time() - start), "files per CPU-second"


def preparing(raw: Path, out: Path, workers: int) -> list[Figure]:
    """The whole way from files to a store; in a process of its own, whose memory nothing else has touched."""
    start = time.perf_counter()
    report = prepare(NTU.format, [raw], out, NTU.layout, NTU.classes, OPTIONS, workers)
    wall = time.perf_counter() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in used)
    assert report.kept == report.files
    what = f"prepare {report.files:,} files, {workers} workers"
    return [
        (what, report.files / wall, "files per second"),
        (what, report.files / seconds, "files per CPU-second"),
        (what, max(usage.ru_maxrss for usage in used) / 1024, "MB in the largest process"),
    ]


def listing(folder: Path, count: int) -> Iterator[Figure]:
    """Finding the files, which has no part in their length."""
    folder.mkdir()
    for i in range(count):
        (folder / f"{i}.skeleton").touch()
    start = time.process_time()
    find_files([folder], FORMATS["ntu"])
    yield f"list {count:,} files", time.process_time() - start, "CPU-seconds"


def storing(folder: Path, rng: np.random.Generator) -> Iterator[Figure]:
    """A store of many short clips is opened; clips as long as NTU RGB+D's are read from another in random order."""
    frames = rng.integers(40, 120, LONG_CLIPS)  # about 80, as there
    for name, lengths in (("many", [2] * STORED_CLIPS), ("long", frames.tolist())):
        with StoreWriter(folder / name, NTU.layout, NTU.classes) as writer:
            for i, length in enumerate(lengths):
                joints = np.full((length, 1, 25, 3), i, dtype=np.float32)
                writer.append(Clip(joints, f"clip{i}", "ntu", label=i % len(NTU.classes)))
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        ClipStore.open(folder / "many")
        seconds.append(time.perf_counter() - start)
    yield f"open a store of {STORED_CLIPS:,} clips", 1000 * median(seconds), "ms"
    store = ClipStore.open(folder / "long")
    order = rng.integers(0, LONG_CLIPS, 10 * LONG_CLIPS).tolist()
    start = time.process_time()
    for i in order:
        store[i]
    what = f"read random clips, {frames.mean():.0f} frames of one body, from page cache"
    yield what, len(order) / (time.process_time() - start), "clips per CPU-second"


def measure(raw: Path, counts: list[int], workers: int) -> Iterator[Figure]:
    """All figures, one after the other."""
    yield from reading(raw)
    for count in counts:
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone,
        ):
            many = multiply(raw, count, Path(folder))
            yield from alone.submit(preparing, many, Path(folder) / "store", workers).result()
    with tempfile.TemporaryDirectory() as folder:
        yield from listing(Path(folder) / "raw", 114_480)
        yield from storing(Path(folder), np.random.default_rng(0))


def main() -> None:
    """Print the figures as a table, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder of .skeleton files of real length")
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 2000, 8000], help="how many files to prepare")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for the figures, in results/")
    given = parser.parse_args()
    figures = []
    for what, value, unit in measure(given.raw, given.counts, given.workers):
        figures.append({"what": what, "value": round(value, 2), "unit": unit})
        print(f"{what:70} {value:12,.1f} {unit}", flush=True)
    if given.json:
        import torch  # only now: its memory is not to be counted

        from last.provenance import record

        content = {"kind": "data", "figures": figures, **record(shlex.join(["python", *sys.argv]), torch.device("cpu"))}
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
