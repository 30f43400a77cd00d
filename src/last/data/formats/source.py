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
    """

    path: Path
    member: str = ""
    clip: str = ""

    @property
    def name(self) -> str:
        """The clip's name: the file's own, without folders and suffix, if it has no other."""
        return self.clip or self.file.stem

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
            size = archive.getinfo(self.member).file_size if archive else stamp.st_size
            if size > MAX_BYTES:
                raise FormatError(f"{self} has {size} bytes, expected at most {MAX_BYTES} for one clip")
            return archive.read(self.member) if archive else self.path.read_bytes()
        except OSError as error:
            raise FormatError(f"cannot read {self}: {error.strerror or error}") from error
        # Not only damage: an encrypted member, a compression that Python lacks, a name that is not there.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError) as error:
            raise FormatError(f"cannot read {self}: {error}") from error


def as_source(source: "Source | Path | str") -> Source:
    """A path as a source; a source as it is."""
    return source if isinstance(source, Source) else Source(Path(source))


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
