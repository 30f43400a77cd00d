"""Raw files to a store: in parallel, resumable, with a report of all that was left out and why.

The files are cut into chunks, each of which becomes a small store of its own in ``<out>.partial``, whole or
not at all. A run that was killed goes on from those; the last step strings them together.
"""

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from last.data.clean import CleanOptions, clean
from last.data.clip import UNKNOWN, FormatError
from last.data.formats import FORMATS, Format, Found, NoSkeletonError, Source, find_files
from last.data.store import VERSION, ClipStore, StoreError
from last.data.store_writer import ClipRefusedError, StoreWriter, require_replaceable
from last.skeleton import Layout

_log = logging.getLogger(__name__)

CHUNK = 128  # files; of NTU RGB+D about a second's work and 4 MB


@dataclass
class PrepareReport:
    """What became of the raw files.

    Attributes:
        files: found.
        kept: clips in the store.
        left_out: a record for each other file: ``file``, ``reason`` (one of a few) and ``detail``.
        cleaned: how many bodies and frames were dropped and joints filled, in the clips that were kept.
        resumed: files that an earlier run had done; not in ``report.json``, which is the same for all runs.
        replaced: clips of the store that was there before; not in ``report.json`` either.
    """

    files: int = 0
    kept: int = 0
    left_out: list[dict[str, str]] = field(default_factory=list)
    cleaned: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    replaced: int = 0

    def reasons(self) -> Counter[str]:
        """How many files each reason left out."""
        return Counter(record["reason"] for record in self.left_out)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``."""
        return {
            "files": self.files,
            "kept": self.kept,
            "reasons": dict(sorted(self.reasons().items())),
            "cleaned": dict(sorted(self.cleaned.items())),
            "left_out": self.left_out,
        }

    def add(self, content: dict[str, Any]) -> None:
        """Add the report of a chunk, in the form of :meth:`to_dict`."""
        self.files += content["files"]
        self.kept += content["kept"]
        self.left_out += content["left_out"]
        self.cleaned.update(content["cleaned"])


@dataclass(frozen=True)
class _Job:
    """What a worker process needs to know."""

    format: Format
    layout: Layout
    classes: tuple[str, ...]
    options: CleanOptions


def prepare(
    format_name: str,
    raw: Sequence[Path],
    out: Path,
    layout: Layout,
    classes: Sequence[str],
    options: CleanOptions | None = None,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Read, clean and store all files of a format.

    The store is the same for any number of workers and however often the run was interrupted.

    Args:
        format_name: a key of ``FORMATS``.
        raw: folders, zips or files.
        out: the store; one of the same layout and classes is replaced when the new one is complete.
        layout: of the clips.
        classes: name of each label; clips of other labels are left out.
        options: of the cleaning; None: the defaults.
        workers: processes; 0: one for each core that this process may use.
        progress: called with (steps done, steps in all); a step is a file read, or a chunk of files stored.

    Raises:
        FormatError: there are no such files, or they have another layout.
        StoreError: ``out`` is not a store or that of another data set, the disk is full or not writable, or no file
            could be used.
    """
    out = out.absolute()
    replaced = require_replaceable(out, layout, classes)
    known = FORMATS[format_name]
    if layout.name != known.layout:
        raise FormatError(f"{known.suffix} files have the layout '{known.layout}', expected '{layout.name}'")
    job = _Job(known, layout, tuple(classes), options or CleanOptions())
    found, unlisted = find_files(raw, known)
    shards = out.with_name(f"{out.name}.partial")
    _start_or_resume(shards, _fingerprint(job, found))
    unique, left_out = _by_name(found)
    left_out += [{"file": str(path), "reason": "unreadable", "detail": why} for path, why in unlisted.items()]
    chunks = {shards / f"{i:06d}": unique[i : i + CHUNK] for i in range(0, len(unique), CHUNK)}
    report = PrepareReport(files=len(left_out), left_out=left_out, replaced=replaced)
    todo = {shard: chunk for shard, chunk in chunks.items() if not shard.exists()}
    done = report.resumed = sum(len(chunk) for shard, chunk in chunks.items() if shard not in todo)
    steps = len(unique) + len(chunks)  # storing a chunk takes as long as reading a few files
    for size in _run(job, todo, workers or _cores()):
        done += size
        if progress:
            progress(done, steps)
    for shard in chunks:
        report.add(json.loads((shard / "report.json").read_text(encoding="utf-8")))
    if not report.kept:
        shutil.rmtree(shards)
        first = report.left_out[0]["detail"]
        raise StoreError(f"none of the {report.files} files could be used; the first: {first}")
    with StoreWriter(out, layout, classes, provenance={"raw": [path.name for path in raw]}) as writer:
        for shard in chunks:
            for clip in ClipStore.open(shard):
                writer.append(clip)
            done += 1
            if progress:
                progress(done, steps)
        writer.attach("report.json", report.to_dict())
    shutil.rmtree(shards)
    return report


def _fingerprint(job: _Job, found: Sequence[Found]) -> str:
    """What the chunks depend on, as a hash: another format, option or raw file makes another."""
    settings = [VERSION, CHUNK, job.format.name, job.layout.to_dict(), job.classes, asdict(job.options)]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for file in found:
        digest.update(repr((str(file.source.path.absolute()), file.source.member, file.size, file.stamp)).encode())
    return digest.hexdigest()


def _start_or_resume(shards: Path, fingerprint: str) -> None:
    """Keep the chunks of an earlier run over the same files with the same options, and no others."""
    note = shards / "fingerprint"
    if note.is_file():
        if note.read_text(encoding="utf-8") == fingerprint:
            return
        _log.warning("%s was begun with other files or options, so it starts anew", shards)
        shutil.rmtree(shards)
    try:
        shards.mkdir(parents=True, exist_ok=True)
        if any(shards.iterdir()):
            raise StoreError(f"{shards} is in the way and not of an earlier run; move it or choose another place")
        note.write_text(fingerprint, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write {shards}: {error.strerror or error}; choose another place") from error


def _by_name(found: Sequence[Found]) -> tuple[list[Source], list[dict[str, str]]]:
    """The first file of each clip name, and records of the others."""
    first: dict[str, Source] = {}
    repeated = []
    for source in (file.source for file in found):
        if first.setdefault(source.name, source) is not source:
            detail = f"{source} has the name of {first[source.name]}"
            repeated.append({"file": str(source), "reason": "name taken", "detail": detail})
    return list(first.values()), repeated


def _cores() -> int:
    """Cores that this process may use, which a container or a scheduler may have cut."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(job: _Job, todo: dict[Path, list[Source]], workers: int) -> Iterator[int]:
    """Make the shards; yields the number of files of each as it is done."""
    if workers == 1 or len(todo) < 2:
        for shard, chunk in todo.items():
            yield _make_shard(job, shard, chunk)
        return
    # Spawned, not forked: the parent may hold threads and an open GPU.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(todo)), context, initializer=_leave_interrupts_to_parent)
    try:
        futures = [pool.submit(_make_shard, job, shard, chunk) for shard, chunk in todo.items()]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise StoreError(
            "a worker process died, perhaps for want of memory; run it again to go on, with fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make_shard(job: _Job, shard: Path, chunk: Sequence[Source]) -> int:
    report = PrepareReport(files=len(chunk))
    with StoreWriter(shard, job.layout, job.classes) as writer:
        for source in chunk:
            reason = _add(job, source, writer, report.cleaned)
            if reason:
                report.left_out.append({"file": str(source), "reason": reason[0], "detail": reason[1]})
        report.kept = writer.count
        writer.attach("report.json", report.to_dict())
    return len(chunk)


def _add(job: _Job, source: Source, writer: StoreWriter, cleaned: Counter[str]) -> tuple[str, str] | None:
    """Add a file's clip to the store, or say for what reason not, in brief and in full."""
    try:
        raw = job.format.read(source)
        if raw.label == UNKNOWN:
            return "no class", f"{source} has a name that tells no class, subject and camera"
        if not 0 <= raw.label < len(job.classes):
            detail = f"{source} has the label {raw.label}, expected 0 to {len(job.classes) - 1}"
            return "class outside the set", detail
        clip, counts = clean(raw, job.layout, job.options)
        if clip is None:
            return "no skeleton", f"{source} shows no joint that is not missing"
        writer.append(clip)
    except NoSkeletonError as error:
        return "no skeleton", str(error)
    except FormatError as error:
        return "unreadable", str(error)
    except ClipRefusedError as error:
        return "refused by the store", str(error)
    cleaned.update(counts)
    return None
