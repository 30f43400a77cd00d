"""Where a reader's bytes come from: a file on the disk, or a member of a zip, read in place."""

import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath

from last.data.clip import FormatError

MAX_BYTES = 64 << 20  # of one clip's file; the longest of NTU RGB+D has 2 MB


class NoSkeletonError(FormatError):
    """A file in good order that shows nobody."""


@dataclass(frozen=True, order=True)
class Source:
    """One clip's file.

    Attributes:
        path: the file, or the zip that holds it.
        member: its name inside the zip; empty for a file on the disk.
        clip: the clip's name where it is not the file's: one of several in it, or one of many files of that name.
        inside: the clip's name in the file where it is another there, since other files have a clip of that name.
    """

    path: Path
    member: str = ""
    clip: str = ""
    inside: str = ""

    @property
    def name(self) -> str:
        """The clip's name: the file's own, without folders and suffix, if it has no other."""
        return self.clip or self.file.stem

    @property
    def name_inside(self) -> str:
        """The clip's name in the file."""
        return self.inside or self.name

    @property
    def file(self) -> PurePath:
        """The file's path, or its path within the zip."""
        return PurePosixPath(self.member) if self.member else self.path

    def __str__(self) -> str:
        file = f"{self.path}:{self.member}" if self.member else str(self.path)
        # Where the file's own name holds the clip's, saying it again says nothing.
        return f"{file}, clip '{self.clip}'" if self.clip not in self.file.name else file

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            FormatError: it is absent, unreadable, damaged, or larger than a clip can be.
        """
        try:
            stamp = self.path.stat()
            archive = _open_zip(self.path, stamp.st_mtime_ns, os.getpid()) if self.member else None
            member = archive.getinfo(self.member) if archive else None
            size = member.file_size if member else stamp.st_size
            if size > MAX_BYTES:
                raise FormatError(f"{self} has {size} bytes, expected at most {MAX_BYTES} for one clip")
            if not archive or not member:
                return self.path.read_bytes()
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise FormatError(f"cannot read {self}: it is compressed otherwise than by deflate; zip it anew")
            with archive.open(member) as stream:
                return stream.read(size)  # without the size, a member unfolds as far as it likes before it is looked at
        except OSError as error:
            raise FormatError(f"cannot read {self}: {error.strerror or error}") from error
        # Not only damage: an encrypted member, a compression that Python lacks, a name that is not there or not text.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError, UnicodeError) as error:
            raise FormatError(f"cannot read {self}: {error}") from error

    def files(self, suffix: str) -> list["Source"]:
        """The files of this folder, or folder in a zip, whose names end so, in lower case, in no order.

        Raises:
            FormatError: there is no such folder or zip, or it is damaged.
        """
        try:
            if self.member:
                files = _folders(self.path, self.path.stat().st_mtime_ns).get(self.member, [])
                return [file for file in files if file.member.lower().endswith(suffix)]
            names = _names(self.path, self.path.stat().st_mtime_ns)
            named = (self.path / name for name in names if name.lower().endswith(suffix))
            return [Source(file) for file in named if file.is_file()]
        except OSError as error:
            raise FormatError(f"cannot read {self}: {error.strerror or error}") from error


def as_source(source: "Source | Path | str") -> Source:
    """A path as a source; a source as it is."""
    return source if isinstance(source, Source) else Source(Path(source))


def files_in(folder: Path) -> list[Path]:
    """The files of a folder and of those within it, sorted.

    Linked folders are looked into too; one that is reached in several ways is so once, if it can be without a link.
    """
    files, entered, tops = [], set(), [folder]
    for top in tops:
        for place, folders, names in os.walk(top):
            real = os.path.realpath(place)
            if real in entered:
                folders.clear()
                continue
            entered.add(real)
            folders.sort()
            files += [Path(place, name) for name in names]
            tops += [link for name in folders if (link := Path(place, name)).is_symlink()]  # grows as it goes
    return sorted(files)


def list_zip(path: Path, suffixes: tuple[str, ...]) -> list[tuple[Source, int, int]]:
    """The members of a zip with one of these suffixes, each with its size and checksum.

    Raises:
        FormatError: the zip is absent or damaged.
    """
    try:
        members = _open_zip(path, path.stat().st_mtime_ns, os.getpid()).infolist()
    # Not only damage: a version of zip, or an encoding of names, that Python lacks.
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise FormatError(f"cannot read the archive {path}: {error}") from error
    return [
        (Source(path, member.filename), member.file_size, member.CRC)
        for member in members
        if member.filename.lower().endswith(suffixes) and not member.filename.startswith("__MACOSX/")
    ]


@lru_cache(maxsize=4)
def _open_zip(path: Path, stamp: int, process: int) -> zipfile.ZipFile:
    """Keep an archive open: its list of members, a second's work for NTU RGB+D, is read once.

    A replaced file has another stamp, and a forked process must not share the parent's place in the file.
    """
    return zipfile.ZipFile(path)


@lru_cache(maxsize=4)
def _names(folder: Path, stamp: int) -> list[str]:
    """What lies in a folder, listed once for all clips of many files."""
    return [file.name for file in folder.iterdir()]


@lru_cache(maxsize=4)
def _folders(path: Path, stamp: int) -> dict[str, list[Source]]:
    """The members of a zip by the folder that they lie in, sorted once for all clips of many files."""
    folders: dict[str, list[Source]] = {}
    for source, _, _ in list_zip(path, ("",)):
        folders.setdefault(str(source.file.parent), []).append(source)
    return folders
