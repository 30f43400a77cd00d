"""Files written whole or not at all, held against other processes, and where they belong."""

import errno
import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class WriteError(OSError):
    """A file that could not be written; the message says why and what is left."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a sibling file, then put it in place, so that a failure leaves the old file whole.

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("r+b") as file:  # Windows syncs only what is open for writing
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        advice = "; free some space and try again" if error.errno == errno.ENOSPC else ""
        kept = "; the file that was there is unchanged" if path.exists() else ""
        raise WriteError(f"cannot write {path}: {error.strerror or error}{kept}{advice}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


@contextmanager
def held(path: Path) -> Generator[None]:
    """Hold a file, made where it is missing, until the block or the process ends.

    Windows, and some file systems of a network, have no such locks; there nothing is held.

    Raises:
        BlockingIOError: another one holds it, or has just removed it.
        OSError: it cannot be written.
    """
    with path.open("a") as file:
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:
                pass
            if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                raise BlockingIOError(errno.EAGAIN, "just removed")
        else:
            file.close()  # as it could not be removed while it is open
        yield


def file_name(name: str) -> str:
    """A file's name, without folders and suffix, for a clip's name, which in a store of others may be ``../../x``."""
    return re.sub(r"[^\w()+.-]+", "_", name, flags=re.ASCII).lstrip(".")[:150] or "clip"
