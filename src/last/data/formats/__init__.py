"""File formats of skeleton data: each module reads one or a few of a kind, and this table lists them."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from last.data.clip import Clip, FormatError
from last.data.formats import (
    alphapose,
    csv_table,
    ctr_gcn,
    json_table,
    mediapipe,
    mib,
    msr_action3d,
    npz_table,
    ntu,
    nw_ucla,
    openpose,
    parquet_table,
    penn_action,
    pyskl,
    sbu,
    st_gcn,
    utd_mhad,
)
from last.data.formats.columns import UndescribedError, no_description
from last.data.formats.format import Format, Reading
from last.data.formats.source import NoSkeletonError, Source, files_in, list_zip

__all__ = [
    "FORMATS",
    "Format",
    "Found",
    "NoSkeletonError",
    "Reading",
    "Source",
    "find_files",
    "list_clips",
    "read_clip",
]


@dataclass(frozen=True)
class Found:
    """A source with what tells whether it has changed: its size, and its checksum or time of change."""

    source: Source
    size: int
    stamp: int


# Where several fit a file, the first that claims it reads it.
FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        *ntu.FORMATS,
        *openpose.FORMATS,
        *nw_ucla.FORMATS,
        *alphapose.FORMATS,
        *mediapipe.FORMATS,
        *utd_mhad.FORMATS,
        *sbu.FORMATS,
        *msr_action3d.FORMATS,
        *penn_action.FORMATS,
        *pyskl.FORMATS,
        *ctr_gcn.FORMATS,
        *st_gcn.FORMATS,
        *mib.FORMATS,
        *csv_table.FORMATS,
        *json_table.FORMATS,
        *npz_table.FORMATS,
        *parquet_table.FORMATS,
    )
}


def read_clip(path: Path | str) -> Clip:
    """Read the first clip of a file whose format its name and content tell.

    Raises:
        FormatError: it is of no known format, or not what its format promises.
    """
    known, source = list_clips(path)[0]
    return known.read(source)


def list_clips(
    path: Path | str, clip: str | None = None, formats: Iterable[Format] = FORMATS.values()
) -> list[tuple[Format, Source]]:
    """The clips of a file, or of a folder or zip of files in any known format, with their formats, by name.

    Args:
        path: the file, folder or zip.
        clip: only those of this name.
        formats: those to look for.

    Raises:
        FormatError: the path does not exist or is a damaged file or zip, or it holds no such clip.
    """
    path, formats = Path(path), list(formats)
    listed, broken = find_clips(path, formats)
    if not listed:
        suffixes = ", ".join(f"{known.suffix} ({known.name})" for known in formats)
        first = next(iter(broken.values()), f"no clip in {path}; files of clips end in {suffixes}")
        if isinstance(first, UndescribedError):
            first = f"{next(iter(broken))}: {no_description(path)}"
        raise FormatError(str(first))
    chosen = [pair for pair in listed if clip is None or pair[1].name == clip]
    if not chosen:
        raise FormatError(f"no clip '{clip}' in {path}; the first of {len(listed):,} is '{listed[0][1].name}'")
    return chosen


def find_clips(
    path: Path, formats: Iterable[Format] = FORMATS.values()
) -> tuple[list[tuple[Format, Source]], dict[Path, FormatError]]:
    """As :func:`list_clips`, with each file that cannot be listed, and what is wrong with it.

    Raises:
        FormatError: the path does not exist or is a damaged zip.
    """
    formats = list(formats)
    files, broken = _files([path], tuple(dict.fromkeys(known.suffix for known in formats)))
    by_format: dict[str, list[Found]] = {}
    for file in files:
        known = _format_of(file.source, formats)
        if known:
            by_format.setdefault(known.name, []).append(file)
    listed = []
    for known in formats:
        found, unlisted = _clips_of(by_format.get(known.name, []), known)
        listed += [(known, clip.source) for clip in found]
        broken |= unlisted
    return sorted(listed, key=lambda pair: (pair[1].name, pair[1])), broken


def find_files(paths: Sequence[Path], known: Format) -> tuple[list[Found], dict[Path, str]]:
    """The clips of a format in folders (with the folders and zips within), in zips, and among ``paths``.

    Returns:
        The clips sorted by name, so that neither the machine nor the packing decides the order; and each zip or file
        within a folder that cannot be listed, with what is wrong with it.

    Raises:
        FormatError: a path is absent or a damaged zip, or there is nothing to return.
    """
    files, unlisted = _files(paths, (known.suffix,))
    found, broken = _clips_of(files, known)
    unlisted |= broken
    if not found and not unlisted:
        places = ", ".join(map(str, paths))
        raise FormatError(f"no {known.suffix} file in {places or 'no place at all'}")
    reasons = {file: str(error) for file, error in unlisted.items()}
    return sorted(found, key=lambda f: (f.source.name, f.source)), reasons


def _files(paths: Sequence[Path], suffixes: tuple[str, ...]) -> tuple[list[Found], dict[Path, FormatError]]:
    """The files with one of the suffixes, and each zip within a folder that cannot be listed."""
    found: list[Found] = []
    unlisted: dict[Path, FormatError] = {}
    for path in paths:
        if not path.exists():
            raise FormatError(f"{path} does not exist, expected {', '.join(suffixes)} files, a folder or a zip of them")
        for file in files_in(path) if path.is_dir() else [path]:
            if file.suffix.lower() == ".zip":
                try:
                    found += [Found(*member) for member in list_zip(file, suffixes)]
                except FormatError as error:
                    if file == path:
                        raise
                    unlisted[file] = error
            elif file.name.lower().endswith(suffixes) and file.is_file():
                status = file.stat()
                found.append(Found(Source(file), status.st_size, status.st_mtime_ns))
    return found, unlisted


def _format_of(source: Source, formats: Sequence[Format]) -> Format | None:
    fitting = [known for known in formats if source.file.name.lower().endswith(known.suffix)]
    try:
        return next((known for known in fitting if known.claims is None or known.claims(source)), None)
    except FormatError:
        return fitting[0]  # whose reader says what is wrong with the file


def _clips_of(files: Iterable[Found], known: Format) -> tuple[list[Found], dict[Path, FormatError]]:
    """The clips in the files of a format, and the files whose clips cannot be listed."""
    if known.is_one_frame:
        return list(_joined(files, known)), {}
    found, unlisted = [], {}
    for file in files:
        if known.clips is None:
            found.append(replace(file, source=replace(file.source, clip=known.name_of(file.source.file))))
            continue
        try:
            found += [replace(file, source=replace(file.source, clip=name)) for name in known.clips(file.source)]
        except FormatError as error:
            unlisted[file.source.path] = error
    may_be_renamed = known.has_columns or known.clips is None
    return _told_apart(found, known) if known.takes_reading and may_be_renamed else found, unlisted


def _told_apart(found: Sequence[Found], known: Format) -> list[Found]:
    """Clips whose names repeat over files, with the file's name before theirs, and so many folders' as it needs.

    So do people's own files lie: ``wave/001.csv`` and ``point/001.csv``, or clips 1 to 3 in a table of each person. In
    files that others made, a clip of the same name is the same clip, and so it is in a file that is met twice.
    """
    copies = _copies(found)
    names = {file.source: file.source.name for file in found if file.source not in copies}
    places = {source: _places(source, known) for source in names}
    while True:
        count = Counter(names.values())
        repeated = [source for source in places if count[names[source]] > 1 and places[source]]
        if not repeated:
            break
        for source in repeated:
            names[source] = f"{places[source].pop(0)}_{names[source]}"
    names |= {copy: names[one] for copy, one in copies.items()}
    return [
        replace(file, source=replace(file.source, clip=name, inside=file.source.name))
        if (name := names[file.source]) != file.source.name
        else file
        for file in found
    ]


def _copies(found: Sequence[Found]) -> dict[Source, Source]:
    """Clips of files that are met again, such as in an archive beside them, and the first that is the same.

    The folder counts, since it may be the class: the same file in two of them is a fault, which the check tells.
    """
    alike: dict[tuple[str, str, int], list[Source]] = defaultdict(list)
    for file in found:
        source = file.source
        folder = source.file.parent.name or source.path.stem if source.member else source.path.absolute().parent.name
        alike[source.name, folder, file.size].append(source)
    digests: dict[Source, bytes] = {}
    copies = {}
    for sources in alike.values():
        first: dict[bytes, Source] = {}
        for source in sources if len(sources) > 1 else ():
            whole = replace(source, clip="")
            if whole not in digests:
                digests[whole] = _digest(whole)
            if (one := first.setdefault(digests[whole], source)) != source:
                copies[source] = one
    return copies


def _digest(file: Source) -> bytes:
    try:
        return hashlib.blake2b(file.read()).digest()
    except FormatError:  # which reading its clips will tell
        return repr(file).encode()


def _places(source: Source, known: Format) -> list[str]:
    """Names of the file, of the folders around it, of the zip and of those around that, the nearest first."""
    file = known.name_of(source.file)
    places = [] if source.name == file or source.name.startswith(f"{file}_") else [file]
    places += [folder.name for folder in source.file.parents]
    if source.member:
        places += [source.path.stem, *(folder.name for folder in source.path.parents)]
    return [place for place in places if place]


def _joined(files: Iterable[Found], known: Format) -> Iterator[Found]:
    """One source for the files of a folder that are frames of the same clip: the folder, with the clip's name."""
    frames: dict[Source, list[Found]] = {}
    for file in files:
        source = file.source
        folder = Source(source.path, str(source.file.parent)) if source.member else Source(source.path.parent)
        frames.setdefault(replace(folder, clip=known.name_of(source.file)), []).append(file)
    for clip, parts in frames.items():
        yield Found(clip, sum(part.size for part in parts), hash(tuple((part.size, part.stamp) for part in parts)))
