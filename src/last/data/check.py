"""Every fault of a store or of raw files at once, in words: what ``last data check`` prints."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from last.config import load_config
from last.data.check_clips import Poses, faults_of
from last.data.check_split import UNFOLLOWED, check_classes, check_rules, check_split, check_subjects
from last.data.clip import UNKNOWN, Clip, FormatError
from last.data.datasets import Dataset, load_dataset
from last.data.findings import Finding, Findings
from last.data.formats import FORMATS, Format, NoSkeletonError, Source, find_clips
from last.data.formats.columns import UndescribedError, no_description
from last.data.info import packaged_dataset
from last.data.own_rules import require_rules
from last.data.protocols import no_protocol, protocols_for, whole_of
from last.data.store import IDS, ClipStore, StoreError
from last.setting_values import ConfigError
from last.skeleton import Layout, load_layout

Progress = Callable[[int, int], None]
MOST_UNREADABLE = 20  # files that are named, since each has a fault of its own
FINEST = 2048  # beyond it, numbers of 16 bits are whole, and then not even that


def check(
    path: Path | str,
    progress: Progress | None = None,
    *,
    formats: Iterable[Format] | None = None,
    layout: Layout | None = None,
    dataset: str | None = None,
    protocol: str | None = None,
) -> list[Finding]:
    """Look for every known fault in a store, a raw file, a folder or a zip, and in the description of its data set.

    Args:
        path: what to look into.
        progress: called with (clips done, clips in all).
        formats: those of raw files to look for; None: that of ``dataset``, or all.
        layout: of the joints of raw files; None: that of ``dataset``, or as the file has it.
        dataset: whose classes raw clips must have, and whose protocols a store is checked under; a store of a
            packaged data set is known by its layout and classes.
        protocol: the only one to check; None: all that the data set and the store have.

    Returns:
        Errors first; empty where all is well.

    Raises:
        ConfigError: there is no such data set.
    """
    path = Path(path)
    findings = Findings()
    known = load_dataset(dataset) if dataset else None
    if dataset:
        _check_settings(dataset, findings)
    if (path / "meta.json").is_file():
        _check_store(path, known, protocol, findings, progress)
    else:
        formats = list(formats or ([known.format] if known else FORMATS.values()))
        _check_raw(path, formats, layout, known, findings, progress)
    return findings.listed()


def _check_settings(dataset: str, findings: Findings) -> None:
    """Find a recipe or another setting of the description with which no training could begin."""
    try:
        load_config(dataset=dataset)
    except ConfigError as error:
        findings.add("error", "settings of the description are wrong", str(error))


class _Pass:
    """One walk over the clips of a set: each is looked at, and what only all of them can tell is gathered."""

    def __init__(self, findings: Findings, stored: bool) -> None:
        self._findings, self._stored = findings, stored
        self._poses: dict[str, Poses] = {}
        self._first: dict[bytes, tuple[str, int]] = {}
        self._ids: list[tuple[int, int]] = []
        self.known: dict[str, set[int | str]] = {key: set() for key in (*IDS, "name")}
        self._without: dict[str, list[str]] = {key: [] for key in IDS}  # names of the clips that lack an id
        self.lists: set[str] = set()  # protocols that came with the clips

    def look_at(self, clip: Clip, layout: Layout) -> None:
        poses = self._poses.setdefault(layout.name, Poses(layout))
        if poses.add(clip):
            for fault in faults_of(clip, layout, self._stored):
                self._findings.add(*fault, clip.name)
        self._ids.append((clip.label, clip.subject))
        for key, values in self.known.items():
            values.add(value := getattr(clip, key))
            if value == UNKNOWN:
                self._without[key].append(clip.name)
        self.lists |= {part.rpartition("/")[0] for part in clip.parts}
        name, label = self._first.setdefault(clip.digest(), (clip.name, clip.label))
        if name != clip.name:
            example = f"{clip.name} and {name}"
            if label == clip.label:
                self._findings.add("warning", "clips have the same joints as another", example)
            else:
                self._findings.add("error", "clips have the same joints as one of another class", example)

    def finish(self, classes: tuple[str, ...], rules: Mapping[str, Any]) -> None:
        for poses in self._poses.values():
            poses.report(self._findings)
        labels, subjects = np.array(self._ids, dtype=int).reshape(-1, 2).T
        if classes:
            check_classes(labels[(labels >= 0) & (labels < len(classes))], classes, self._findings)
        check_subjects(labels, subjects, self._findings)
        if self._ids:
            check_rules(rules, self.known, self._without, self._findings)


def _check_store(
    path: Path, known: Dataset | None, protocol: str | None, findings: Findings, progress: Progress | None
) -> None:
    try:
        store = ClipStore.open(path)
    except StoreError as error:
        findings.add("error", "the store cannot be opened", str(error))
        return
    for file in store.damaged_files():
        findings.add("error", "files of the store are not what was written, by their checksums", file)
    if known and known.classes != store.classes:
        example = f"{len(store.classes)} in the store, {len(known.classes)} in '{known.name}'"
        findings.add("error", "the store has other classes than the data set", example)
    walk = _Pass(findings, stored=True)
    is_half = store.joints.dtype.itemsize < 4
    for done, clip in enumerate(store, 1):
        walk.look_at(clip, store.layout)
        if is_half and (np.abs(clip.joints) > FINEST).any():
            message = f"clips have coordinates beyond {FINEST}, which 16 bits round to whole numbers; store as float32"
            findings.add("warning", message, clip.name)
        if progress:
            progress(done, len(store))
    dataset = known.name if known else packaged_dataset(store)
    asked = [protocol] if protocol else [*protocols_for(store, dataset), *([known.protocol] if known else [])]
    walk.finish(store.classes, {name: rule for name, rule in _rules(store, known).items() if protocol in (None, name)})
    for name in dict.fromkeys(asked):
        check_split(store, name, dataset, findings)


def _rules(store: ClipStore, known: Dataset | None) -> Mapping[str, Any]:
    """The protocols of a person's own: those of the description, or of the store where there is none."""
    if known:
        return known.rules
    with suppress(ConfigError):  # which following them tells
        require_rules(store.meta["protocols"], "the store's meta.json")
        return store.meta["protocols"]
    return {}


def _check_raw(
    path: Path,
    formats: list[Format],
    layout: Layout | None,
    known: Dataset | None,
    findings: Findings,
    progress: Progress | None,
) -> None:
    try:
        listed, broken = find_clips(path, formats)
    except FormatError as error:
        findings.add("error", "there is nothing to look at", str(error))
        return
    for file, error in broken.items():
        _tell_unreadable(error, str(file), path, findings)
    if not listed and not broken:
        endings = ", ".join(sorted({each.suffix for each in formats}))
        findings.add("error", "there is neither a store nor a file of a known format", f"{path}, none of {endings}")
        return
    _check_names(listed, findings)
    walk = _Pass(findings, stored=False)
    classes = known.classes if known else ()
    layout = layout or (known.layout if known else None)
    for done, clip in enumerate(_readable(listed, path, findings), 1):
        if clip is not None:
            if classes and clip.label != UNKNOWN and not 0 <= clip.label < len(classes):
                message = f"clips have a label outside the {len(classes)} classes"
                findings.add("error", message, f"{clip.name}, label {clip.label}")
            try:
                walk.look_at(clip, layout or load_layout(clip.layout))
            except ConfigError as error:
                findings.add("error", "clips have a layout that is not known; give one", f"{clip.name}: {error}")
        if progress:
            progress(done, len(listed))
    walk.finish(classes, known.rules if known else {})
    if known and walk.known["name"]:
        protocols = {*known.protocols, *walk.lists}
        if whole_of(known.protocol) not in protocols:
            findings.add("error", UNFOLLOWED, no_protocol(known.protocol, known.name, protocols))


def _check_names(listed: Iterable[tuple[Format, Source]], findings: Findings) -> None:
    """Find clips that are called as another, of which preparing keeps one."""
    first: dict[tuple[str, str], Source] = {}
    for known, source in listed:
        one = first.setdefault((known.name, source.name), source)
        if one is not source:
            findings.add("warning", "clips have the name of another and are left out", f"{source} as {one}")


def _tell_unreadable(error: FormatError, file: str, path: Path, findings: Findings) -> None:
    if isinstance(error, UndescribedError):
        findings.add("error", no_description(path), file)
    else:
        findings.add("error", "files cannot be read", str(error), keep=MOST_UNREADABLE)


def _readable(listed: Iterable[tuple[Format, Source]], path: Path, findings: Findings) -> Iterator[Clip | None]:
    """Each clip, or None where it cannot be read."""
    for known, source in listed:
        try:
            clip = known.read(source)
        except NoSkeletonError as error:
            findings.add("warning", "files show nobody", str(error))
            yield None
            continue
        except FormatError as error:
            _tell_unreadable(error, str(source), path, findings)
            yield None
            continue
        if clip.label == UNKNOWN:
            findings.add("warning", "names tell no class", str(source))
        yield clip
