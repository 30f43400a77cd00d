"""File formats of skeleton data: each module reads one, and this table lists them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from last.data.clip import Clip, FormatError
from last.data.formats import ntu, nw_ucla
from last.data.formats.source import NoSkeletonError, Source, list_zip

__all__ = ["FORMATS", "Format", "Found", "NoSkeletonError", "Source", "find_files", "list_clips", "read_clip"]


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        name: as in ``FORMATS``.
        suffix: of its files, in lower case.
        layout: name of the skeleton layout of its clips.
        read: from a path or a zip's member to a clip, as it is in the file.
    """

    name: str
    suffix: str
    layout: str
    read: Callable[[Source | Path | str], Clip]


@dataclass(frozen=True)
class Found:
    """A source with what tells whether it has changed: its size, and its checksum or time of change."""

    source: Source
    size: int
    stamp: int


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("ntu", ".skeleton", "ntu", ntu.read),
        Format("nw_ucla", ".json", "kinect20", nw_ucla.read),
    )
}


_SUFFIXES = ", ".join(f"{f.suffix} ({f.name})" for f in FORMATS.values())


def read_clip(path: Path | str) -> Clip:
    """Read a file whose format its suffix tells.

    Raises:
        FormatError: no format has this suffix, or the file is not what its format promises.
    """
    path = Path(path)
    for known in FORMATS.values():
        if path.suffix.lower() == known.suffix:
            return known.read(path)
    raise FormatError(f"{path} ends in '{path.suffix}', expected one of {_SUFFIXES}")


def list_clips(path: Path | str, clip: str | None = None) -> list[tuple[Format, Source]]:
    """The clips of a file, or of a folder or zip of files in any known format, with their formats, by name.

    Args:
        path: the file, folder or zip.
        clip: only those of this name.

    Raises:
        FormatError: the path does not exist or is a damaged zip, or it holds no such clip.
    """
    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path} does not exist; give a clip's file, or a folder or zip of them")
    listed = []
    for known in FORMATS.values():
        try:
            listed += [(known, file.source) for file in find_files([path], known)[0]]
        except FormatError:
            if path.suffix.lower() == ".zip":
                list_zip(path, known.suffix)  # a damaged zip says so
    if not listed:
        raise FormatError(f"no clip in {path}; files of clips end in {_SUFFIXES}")
    listed.sort(key=lambda pair: (pair[1].name, pair[1]))
    chosen = [pair for pair in listed if clip is None or pair[1].name == clip]
    if not chosen:
        raise FormatError(f"no clip '{clip}' in {path}; the first of {len(listed):,} is '{listed[0][1].name}'")
    return chosen


def find_files(paths: Sequence[Path], known: Format) -> tuple[list[Found], dict[Path, str]]:
    """The files of a format in folders (with the folders and zips within), in zips, and among ``paths``.

    Returns:
        The files sorted by clip name, so that neither the machine nor the packing decides the order; and each zip
        within a folder that cannot be listed, with what is wrong with it.

    Raises:
        FormatError: a path is absent or a damaged zip, or there is nothing to return.
    """
    found: list[Found] = []
    unlisted: dict[Path, str] = {}
    for path in paths:
        if not path.exists():
            raise FormatError(f"{path} does not exist, expected {known.suffix} files, a folder or a zip of them")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix.lower() == ".zip" and not file.is_dir():
                try:
                    found += [Found(*member) for member in list_zip(file, known.suffix)]
                except FormatError as error:
                    if file == path:
                        raise
                    unlisted[file] = str(error)
            elif file.suffix.lower() == known.suffix and file.is_file():
                status = file.stat()
                found.append(Found(Source(file), status.st_size, status.st_mtime_ns))
    if not found and not unlisted:
        places = ", ".join(map(str, paths))
        raise FormatError(f"no {known.suffix} file in {places or 'no place at all'}")
    return sorted(found, key=lambda f: (f.source.name, f.source)), unlisted
