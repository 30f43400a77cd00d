"""The clip store: every clip of a data set in one folder, ragged, memory-mapped and self-describing.

A store is a folder of three files:

- ``meta.json``: version, layout, classes, source, date, and how many clips and rows the other two hold;
- ``joints.npy``: (rows, V, C) float32 or float16, all finite. A row is one body in one frame; a clip starts
  at its offset and runs body by body: row = offset + body * frames + frame;
- ``clips.npy``: one record of ``CLIP_DTYPE`` a clip.

Nothing in it is executable, so a store of unknown origin is safe to open. Shapes: V joints, C coordinates.
"""

import errno
import json
import os
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np

from last.config import ConfigError
from last.data.clip import Clip
from last.skeleton import Layout, layout_from_dict

VERSION = 1
IDS = ("label", "subject", "camera", "setup", "replication")
NAME_BYTES = 96
JOINT_DTYPES = (np.dtype("<f4"), np.dtype("<f2"))
CLIP_DTYPE = np.dtype(
    [
        ("offset", "<i8"),
        ("frames", "<i4"),
        ("bodies", "<i4"),
        *((key, "<i4") for key in IDS),
        ("name", f"S{NAME_BYTES}"),
    ]
)


class StoreError(ValueError):
    """A store that is absent, damaged, of another version, or cannot be written."""


class ClipRefusedError(StoreError):
    """A clip that a store cannot hold; the others are not touched by it."""


@dataclass(frozen=True, eq=False)
class ClipStore:
    """The clips of a folder, read from the disk only when they are asked for.

    Attributes:
        path: the folder.
        layout: skeleton of all its clips.
        classes: name of each label.
        joints: (rows, V, C), memory-mapped.
        clips: (clips,) of ``CLIP_DTYPE``, memory-mapped.
        meta: what ``meta.json`` holds.
    """

    path: Path
    layout: Layout
    classes: tuple[str, ...]
    joints: np.memmap
    clips: np.memmap
    meta: dict[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> "ClipStore":
        """Map a store into memory; takes milliseconds at any size.

        Raises:
            StoreError: there is no store, it is of another version, or its files contradict its meta.json.
        """
        path = Path(path)
        meta = _read_meta(path)
        try:
            layout = layout_from_dict(meta["layout"], str(path / "meta.json"))
            classes = tuple(str(name) for name in meta["classes"])
            rows, count = int(meta["rows"]), int(meta["clips"])
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise StoreError(
                f"{path / 'meta.json'} is damaged ({type(error).__name__}: {error}); prepare the data again"
            ) from error
        joints = _map(path / "joints.npy", (rows, len(layout.joints), layout.dimensions), JOINT_DTYPES)
        clips = _map(path / "clips.npy", (count,), (CLIP_DTYPE,))
        end = clips[-1]["offset"] + int(clips[-1]["frames"]) * clips[-1]["bodies"] if count else 0
        if end != rows:
            raise StoreError(
                f"{path / 'clips.npy'} ends at row {end}, but joints.npy has {rows}; prepare the data again"
            )
        return cls(path, layout, classes, joints, clips, meta)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, i: int) -> Clip:
        record = self.clips[i]
        start, frames, bodies = int(record["offset"]), int(record["frames"]), int(record["bodies"])
        rows = self.joints[start : start + bodies * frames].reshape(bodies, frames, *self.joints.shape[1:])
        return Clip(
            joints=np.array(rows.swapaxes(0, 1), dtype=np.float32, order="C"),
            name=record["name"].decode(),
            layout=self.layout.name,
            **{key: int(record[key]) for key in IDS},
        )

    def __iter__(self) -> Iterator[Clip]:
        return (self[i] for i in range(len(self)))

    def names(self) -> list[str]:
        """The name of each clip, in order."""
        return [name.decode() for name in self.clips["name"].tolist()]

    def index(self, name: str) -> int:
        """Where the clip of this name lies.

        Raises:
            KeyError: no clip has it.
        """
        if name not in self._index:
            raise KeyError(f"no clip '{name}' in the store {self.path}")
        return self._index[name]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names())}


class StoreWriter:
    """Writes a store clip by clip; memory does not grow with their joints.

    Use as a context manager. All is written to a temporary folder beside ``path`` and becomes the store by a
    rename when the block ends well; if it does not, a store that was there before stays whole.

    Attributes:
        path: the folder to be; a store that is there is replaced, anything else refused.
        layout: skeleton of all its clips.
        classes: name of each label.
        dtype: of the joints; float16 halves the store, and rounds a joint 4 m away to 2 mm.
        source: where the clips come from, for ``meta.json``.
        count: clips so far.

    Raises:
        StoreError: ``path`` holds something else than a store, or the disk is full or not writable.
    """

    def __init__(
        self,
        path: Path | str,
        layout: Layout,
        classes: Sequence[str],
        dtype: Literal["float32", "float16"] = "float32",
        source: str = "",
    ) -> None:
        self.path, self.layout, self.classes = Path(path), layout, tuple(classes)
        self._row = (len(layout.joints), layout.dimensions)
        self.count = self._rows = 0
        self.dtype, self.source = np.dtype(dtype).newbyteorder("<"), source
        self._names: set[bytes] = set()
        self._streams: list[IO[bytes]] = []
        require_replaceable(self.path)
        target = self.path.absolute()
        self._folder = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with self._disk_errors_told():
            self._folder.mkdir(parents=True)
            self._joints = self._start("joints.npy", self.dtype, self._row)
            self._clips = self._start("clips.npy", CLIP_DTYPE, ())

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def append(self, clip: Clip) -> None:
        """Add a clip.

        Raises:
            ClipRefusedError: another layout, shape or class than the store's, a name that is taken or too
                long, or joints that are not finite.
            StoreError: the disk is full or not writable.
        """
        name = self._checked_name(clip)
        with np.errstate(over="ignore"):  # beyond 65504, float16 is infinite; refused below
            rows = clip.joints.swapaxes(0, 1).astype(self.dtype, order="C")
        if not np.isfinite(rows).all():
            m, t, v, _ = np.argwhere(~np.isfinite(rows))[0]
            raise ClipRefusedError(
                f"clip '{clip.name}' has a joint that is not finite as {self.dtype.name} (body {m}, "
                f"frame {t}, '{self.layout.joints[v]}'); fill the gaps before storing it, or store as float32"
            )
        ids = [getattr(clip, key) for key in IDS]
        record = np.array([(self._rows, clip.frames, clip.bodies, *ids, name)], dtype=CLIP_DTYPE)
        with self._disk_errors_told():
            self._joints.write(rows.data)
            self._clips.write(record.tobytes())
        self._names.add(name)
        self._rows += clip.frames * clip.bodies
        self.count += 1

    def attach(self, file: str, content: Mapping[str, Any]) -> None:
        """Lay a JSON file, such as ``report.json``, into the store."""
        with self._disk_errors_told():
            (self._folder / file).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Finish the files and make them the store.

        Raises:
            StoreError: the disk is full or not writable.
        """
        self.attach(
            "meta.json",
            {
                "version": VERSION,
                "layout": self.layout.to_dict(),
                "classes": list(self.classes),
                "clips": self.count,
                "rows": self._rows,
                "dtype": self.dtype.name,
                "source": self.source,
                "created": datetime.now(timezone.utc).date().isoformat(),
            },
        )
        with self._disk_errors_told():
            self._finish(self._joints, self.dtype, (self._rows, *self._row))
            self._finish(self._clips, CLIP_DTYPE, (self.count,))
            _swap(self._folder, self.path)

    def _checked_name(self, clip: Clip) -> bytes:
        if clip.layout != self.layout.name or clip.joints.shape[2:] != self._row:
            raise ClipRefusedError(
                f"clip '{clip.name}' has the layout '{clip.layout}' and joints of {clip.joints.shape[2:]}, "
                f"but the store {self.path} has '{self.layout.name}' and {self._row}"
            )
        if not 0 <= clip.label < len(self.classes):
            raise ClipRefusedError(
                f"clip '{clip.name}' has the label {clip.label}, but the store {self.path} has the "
                f"{len(self.classes)} classes 0 to {len(self.classes) - 1}"
            )
        name = clip.name.encode(errors="backslashreplace")
        if not 0 < len(name) <= NAME_BYTES or b"\0" in name:
            raise ClipRefusedError(
                f"clip name '{clip.name[:200]}' has {len(name)} bytes, expected 1 to {NAME_BYTES}, none zero"
            )
        if name in self._names:
            raise ClipRefusedError(f"two clips are named '{clip.name}'; names are unique in a store")
        return name

    def _start(self, file: str, dtype: np.dtype, shape: tuple[int, ...]) -> IO[bytes]:
        stream = (self._folder / file).open("wb")
        self._streams.append(stream)
        _write_header(stream, dtype, (0, *shape))
        return stream

    def _finish(self, stream: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
        stream.seek(0)
        _write_header(stream, dtype, shape)  # fits: numpy leaves room for the first axis to grow
        stream.flush()
        os.fsync(stream.fileno())
        stream.close()

    @contextmanager
    def _disk_errors_told(self) -> Generator[None, None, None]:
        """Turn the system's error into a sentence, and leave nothing half written."""
        try:
            yield
        except OSError as error:
            self._discard()
            advice = "free some space" if error.errno == errno.ENOSPC else "choose another place"
            reason = error.strerror or error
            raise StoreError(f"cannot write the store {self.path}: {reason}; {advice}") from error

    def _discard(self) -> None:
        for stream in self._streams:
            with suppress(OSError):  # a full disk fails once more when the buffer is flushed
                stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _read_meta(path: Path) -> dict[str, Any]:
    file = path / "meta.json"
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no store at {path}: it has no meta.json; make one with 'last data prepare'") from None
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{file} is not JSON ({error}); prepare the data again") from error
    version = meta.get("version") if isinstance(meta, dict) else None
    if version != VERSION:
        raise StoreError(f"{path} is a store of version {version}, expected {VERSION}; prepare the data again")
    return meta


def _map(file: Path, shape: tuple[int, ...], dtypes: Sequence[np.dtype]) -> np.memmap:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{file} is missing or damaged ({error}); prepare the data again") from error
    surplus = file.stat().st_size - array.offset - array.nbytes
    if array.shape != shape or array.dtype not in dtypes or surplus:
        raise StoreError(
            f"{file} holds {array.shape} of {array.dtype} and {surplus} bytes more, but meta.json promises "
            f"{shape}; prepare the data again"
        )
    return array


def _write_header(stream: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


def require_replaceable(path: Path) -> None:
    """Refuse to put a store where something else lies.

    Raises:
        StoreError: ``path`` is a file, or a folder with other things than a store in it.
    """
    is_store_or_empty = path.is_dir() and ((path / "meta.json").is_file() or not any(path.iterdir()))
    if path.exists() and not is_store_or_empty:
        raise StoreError(f"{path} exists and is not a store, so it is not replaced; move it or choose another place")


def _swap(new: Path, path: Path) -> None:
    """Put ``new`` in the place of ``path``; folders cannot be exchanged in one step everywhere."""
    old = new.with_suffix(".old")
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
