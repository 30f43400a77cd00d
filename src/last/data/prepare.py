"""Raw files to a store: in parallel, resumable, with a report of all that was left out and why.

The files are cut into chunks, each of which becomes a small store of its own, a shard, in ``<out>.partial``, whole or
not at all. A run that was killed goes on from those; the last step strings them together.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from last import __version__
from last.data.clean import CleanOptions, clean
from last.data.clip import UNKNOWN, FormatError
from last.data.engines import Engine, EngineError, run
from last.data.formats import Format, Found, NoSkeletonError, Source, find_files
from last.data.store import VERSION, ClipStore, StoreError
from last.data.store_writer import ClipRefusedError, JointDtype, StoreWriter, require_replaceable
from last.files import held
from last.skeleton import Layout

_log = logging.getLogger(__name__)

CHUNK = 128  # clips; of NTU RGB+D half a second's work and 4 MB


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
    """What a worker needs to know."""

    format: Format
    layout: Layout
    classes: tuple[str, ...]
    options: CleanOptions
    dtype: JointDtype


class _Shard(NamedTuple):
    """A small store to be, and what goes into it."""

    path: Path
    sources: Sequence[Source]


def prepare(
    known: Format,
    raw: Sequence[Path],
    out: Path,
    layout: Layout,
    classes: Sequence[str],
    options: CleanOptions | None = None,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    *,
    dtype: JointDtype = "float32",
    protocols: Mapping[str, Any] | None = None,
    engine: Engine = "processes",
) -> PrepareReport:
    """Read, clean and store all files of a format.

    The store is the same for any number of workers, for either engine, and however often the run was interrupted.

    Args:
        known: the format of the files.
        raw: folders, zips or files.
        out: the store; one of the same layout and classes is replaced when the new one is complete.
        layout: of the clips.
        classes: name of each label; clips of other labels are left out.
        options: of the cleaning; None: the defaults.
        workers: how many at a time; 0: one for each core that this process, or the Ray cluster, may use.
        progress: called with (steps done, steps in all); a step is a clip read, or a chunk of clips stored.
        dtype: of the stored joints.
        protocols: rules of :mod:`last.data.own_rules`, for the store.
        engine: processes of this machine, or a Ray cluster whose machines share the folders of ``raw`` and ``out``.

    Raises:
        FormatError: there are no such files, or they have another layout.
        StoreError: ``out`` is not a store or that of another data set, or another process prepares it; the disk is
            full or not writable, no file could be used, a worker died, or the engine is not installed.
    """
    out = out.absolute()
    replaced = require_replaceable(out, layout, classes)
    if known.layout and layout.name != known.layout:
        raise FormatError(f"{known.suffix} files have the layout '{known.layout}', expected '{layout.name}'")
    job = _Job(known, layout, tuple(classes), options or CleanOptions(), dtype)
    found, unlisted = find_files(raw, known)
    shards = out.with_name(f"{out.name}.partial")
    with _shards_in(shards, _fingerprint(job, found)):
        unique, left_out = _by_name(found)
        left_out += [{"file": str(path), "reason": "unreadable", "detail": why} for path, why in unlisted.items()]
        tasks = _tasks(unique, shards, holds_many=known.clips is not None)
        sizes = {shard.path.name: len(shard.sources) for task in tasks for shard in task}
        steps = len(unique) + len(sizes)  # storing a shard takes as long as reading a clip or two
        resumed = _finished(shards, sizes)
        report = PrepareReport(files=len(left_out), left_out=left_out, resumed=resumed, replaced=replaced)

        def tell(done: int) -> None:
            if progress:
                progress(done, steps)

        tell(resumed)  # before any work, lest an earlier run's be taken for the speed of this one
        todo = [rest for task in tasks if (rest := [shard for shard in task if not shard.path.exists()])]
        try:
            for _ in run(partial(_make_shard, job), todo, workers, engine):
                tell(_finished(shards, sizes))
        except EngineError as error:
            raise StoreError(str(error)) from error
        for name in sizes:
            report.add(_read_report(shards / name))
        if not report.kept:
            _remove(shards)
            first = report.left_out[0]["detail"]
            raise StoreError(f"none of the {report.files} files could be used; the first: {first}")
        provenance = {
            "raw": [path.name for path in raw],
            "format": known.name,
            "columns": dict(known.reading.columns) if known.reading else {},
            "cleaning": asdict(job.options),
            "files": report.files,
            "left out": dict(sorted(report.reasons().items())),
            "cleaned": dict(sorted(report.cleaned.items())),
            "last": __version__,
        }
        with StoreWriter(out, layout, classes, dtype, provenance, protocols, workplace=shards) as writer:
            for done, name in enumerate(sizes, len(unique) + 1):
                writer.extend(ClipStore.open(shards / name))
                tell(done)
            writer.attach("report.json", report.to_dict())
        _remove(shards)
        return report


def _fingerprint(job: _Job, found: Sequence[Found]) -> str:
    """What the shards depend on, as a hash: another format, option or raw file makes another."""
    reading = repr(job.format.reading)
    settings = [__version__, VERSION, CHUNK, job.format.name, reading, job.layout.to_dict(), job.classes, job.dtype]
    digest = hashlib.sha256(json.dumps([*settings, asdict(job.options)]).encode())
    for file in found:
        source = file.source
        place = str(source.path.absolute()), source.member, source.name
        digest.update(repr((*place, file.size, file.stamp)).encode())
    return digest.hexdigest()


@contextmanager
def _shards_in(shards: Path, fingerprint: str) -> Generator[None]:
    """Keep the shards of an earlier run over the same files with the same options, and no others.

    They are held until the block ends, since another process would take what this one writes for leftovers.
    """
    note = shards / "fingerprint"
    with ExitStack() as stack:
        try:
            shards.mkdir(parents=True, exist_ok=True)
            if not note.is_file() and any(shards.iterdir()):
                raise StoreError(f"{shards} is in the way and not of an earlier run; move it or choose another place")
            stack.enter_context(held(note))
            before = note.read_text(encoding="utf-8")
            if before and before != fingerprint:
                _log.warning("%s was begun with other files or options, so it starts anew", shards)
            for folder in shards.iterdir():
                # Those with a dot are of a process that was killed.
                if folder.is_dir() and (before != fingerprint or folder.name.startswith(".")):
                    _remove_whole(folder)
            if before != fingerprint:
                note.write_text(fingerprint, encoding="utf-8")
        except (BlockingIOError, FileNotFoundError) as error:
            raise StoreError(
                f"another process prepares the same store at this moment, in {shards}; wait until it is done, or "
                "choose another place"
            ) from error
        except OSError as error:
            raise StoreError(f"cannot write {shards}: {error.strerror or error}; choose another place") from error
        yield
    with suppress(OSError):
        shards.rmdir()  # a network's folder could not be removed while a file in it was held


def _remove(shards: Path) -> None:
    """Remove the shards so that a kill leaves none of them without the note by which it is known."""
    for folder in shards.iterdir():
        if folder.is_dir():
            _remove_whole(folder)
    shutil.rmtree(shards, ignore_errors=True)


def _remove_whole(shard: Path) -> None:
    """Remove a shard so that a kill leaves nothing that looks like one."""
    if not shard.name.startswith("."):
        shard = shard.rename(shard.with_name(f".{shard.name}"))
    shutil.rmtree(shard, ignore_errors=True)


def _by_name(found: Sequence[Found]) -> tuple[list[Source], list[dict[str, str]]]:
    """The first file of each clip name, and records of the others."""
    first: dict[str, Source] = {}
    repeated = []
    for source in (file.source for file in found):
        if first.setdefault(source.name, source) is not source:
            detail = f"{source} has the name of {first[source.name]}"
            repeated.append({"file": str(source), "reason": "name taken", "detail": detail})
    return list(first.values()), repeated


def _tasks(sources: Sequence[Source], shards: Path, holds_many: bool) -> list[list[_Shard]]:
    """The clips in chunks; those of a file that holds many are one task, so that one worker alone decodes it."""
    by_file: dict[tuple[Path, str], list[Source]] = {}
    for source in sources if holds_many else ():
        by_file.setdefault((source.path, source.member), []).append(source)
    number = count()
    tasks = [
        [_Shard(shards / f"{next(number):06d}", clips[i : i + CHUNK]) for i in range(0, len(clips), CHUNK)]
        for clips in (by_file.values() if holds_many else [sources])
    ]
    return tasks if holds_many else [[shard] for shard in tasks[0]]


def _finished(shards: Path, sizes: Mapping[str, int]) -> int:
    """How many clips lie in finished shards."""
    return sum(sizes.get(entry.name, 0) for entry in os.scandir(shards))


def _make_shard(job: _Job, shard: _Shard) -> None:
    report = PrepareReport(files=len(shard.sources))
    with StoreWriter(shard.path, job.layout, job.classes, job.dtype) as writer:
        for source in shard.sources:
            reason = _add(job, source, writer, report.cleaned)
            if reason:
                report.left_out.append({"file": str(source), "reason": reason[0], "detail": reason[1]})
        report.kept = writer.count
        writer.attach("report.json", report.to_dict())


def _read_report(shard: Path) -> dict[str, Any]:
    try:
        return json.loads((shard / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(
            f"a worker wrote {shard}, but it is not here; let the store lie in a folder that all machines share"
        ) from error


def _add(job: _Job, source: Source, writer: StoreWriter, cleaned: Counter[str]) -> tuple[str, str] | None:
    """Add a file's clip to the store, or say for what reason not, in brief and in full."""
    try:
        raw = job.format.read(source)
        if raw.label == UNKNOWN:
            return "no class", _without_class(job, source)
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


def _without_class(job: _Job, source: Source) -> str:
    if not (job.format.has_columns and job.format.reading):
        return f"{source} has a name that tells no class, subject and camera"
    if column := job.format.reading.columns.get("label"):
        return f"{source} has nothing in '{column}', which the description names under columns.label"
    return (
        f"{source} tells no label, and its folder is not named after a class ({', '.join(job.classes)[:80]}); name the "
        "column of labels under columns.label in the description, or put the files of each class into a folder of its "
        "name"
    )
