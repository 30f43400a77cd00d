"""Every fault of a store or of raw files at once, in words: what ``last data check`` prints."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from last.data.clip import UNKNOWN, Clip, FormatError
from last.data.formats import FORMATS, Format, Found, find_files
from last.data.store import ClipStore, StoreError
from last.skeleton import load_layout

Severity = Literal["error", "warning"]
Faults = dict[tuple[Severity, str], list[str]]  # a kind of fault to all its examples
Progress = Callable[[int, int], None]
FARTHEST = 50  # metres; depth cameras see ten, and a coordinate beyond it is one of pixels or millimetres
FEWEST = 2  # clips of a class: one to train on, one to test


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        severity: an ``error`` spoils training or loses clips, a ``warning`` may.
        message: what is wrong, in words.
        count: how many clips, files or classes it concerns.
        example: the first of them.
    """

    severity: Severity
    message: str
    count: int
    example: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}: {self.count:,}, such as {self.example}"


def check(path: Path | str, progress: Progress | None = None) -> list[Finding]:
    """Look for every known fault in a store, a raw file, a folder or a zip.

    Args:
        path: what to look into.
        progress: called with (clips done, clips in all).

    Returns:
        Errors first; empty where all is well.
    """
    path = Path(path)
    faults: Faults = defaultdict(list)
    if (path / "meta.json").is_file():
        _check_store(path, faults, progress)
    else:
        _check_raw(path, faults, progress)
    findings = [Finding(*kind, len(examples), examples[0]) for kind, examples in faults.items()]
    return sorted(findings, key=lambda finding: finding.severity)


def _check_store(path: Path, faults: Faults, progress: Progress | None) -> None:
    try:
        store = ClipStore.open(path)
    except StoreError as error:
        faults["error", "the store cannot be opened"].append(str(error))
        return
    for label, name in enumerate(store.classes):
        count = int((store.clips["label"] == label).sum())
        if count == 0:
            faults["warning", "classes have no clip"].append(f"'{name}'")
        elif count < FEWEST:
            faults["warning", f"classes have fewer than {FEWEST} clips"].append(f"'{name}' has {count}")
    _check_clips(_finite(store, faults), len(store), store.layout.dimensions, faults, progress)


def _finite(clips: Iterable[Clip], faults: Faults) -> Iterator[Clip]:
    """Note what a store may not hold, unlike a raw clip, in which a body comes and goes."""
    for clip in clips:
        if not np.isfinite(clip.joints).all():
            faults["error", "clips have joints that are not finite"].append(clip.name)
        yield clip


def _check_raw(path: Path, faults: Faults, progress: Progress | None) -> None:
    if not path.exists():
        faults["error", "there is nothing to look at"].append(f"{path} does not exist")
        return
    absent = []
    unlisted: dict[Path, str] = {}
    for known in FORMATS.values():
        try:
            found, broken = find_files([path], known)
        except FormatError as error:
            absent.append(str(error))
            continue
        unlisted |= broken  # by each format alike
        clips = _readable(known, found, faults)
        _check_clips(clips, len(found), load_layout(known.layout).dimensions, faults, progress)
    if unlisted:
        faults["error", "archives cannot be read"] = list(unlisted.values())
    if len(absent) == len(FORMATS):
        faults["error", "there is neither a store nor a file of a known format"].append("; ".join(absent))


def _readable(known: Format, found: Iterable[Found], faults: Faults) -> Iterator[Clip]:
    for file in found:
        try:
            clip = known.read(file.source)
        except FormatError as error:
            faults["error", "files cannot be read"].append(str(error))
            continue
        if clip.label == UNKNOWN:
            faults["warning", "names tell no class"].append(str(file.source))
        yield clip


def _check_clips(clips: Iterable[Clip], total: int, dimensions: int, faults: Faults, progress: Progress | None) -> None:
    first: dict[bytes, str] = {}
    for done, clip in enumerate(clips, 1):
        for kind in _faults_of(clip, dimensions):
            faults[kind].append(clip.name)
        digest = clip.digest()
        if first.setdefault(digest, clip.name) != clip.name:
            faults["warning", "clips have the same joints as another"].append(f"{clip.name} and {first[digest]}")
        if progress:
            progress(done, total)


def _faults_of(clip: Clip, dimensions: int) -> Iterator[tuple[Severity, str]]:
    x = clip.joints
    if (x == 0).all(axis=-1).any():
        yield "warning", "clips have joints that are all zero"
    if clip.frames == 1:
        yield "warning", "clips have one frame"
    elif (np.nanmax(x, axis=0, initial=-np.inf) == np.nanmin(x, axis=0, initial=np.inf)).all(axis=-1).any():
        yield "warning", "clips have joints that never move"
    if dimensions == 3 and (np.abs(x) > FARTHEST).any():
        yield (
            "warning",
            f"clips have coordinates beyond {FARTHEST}: not metres, perhaps pixels or millimetres",
        )
