"""The clip store: every clip of a data set in one folder, ragged, memory-mapped and self-describing.

A store is a folder of three files:

- ``meta.json``: version, layout, classes, source, date, and how many clips and rows the other two hold;
- ``joints.npy``: (rows, V, C) float32 or float16, all finite. A row is one body in one frame; a clip starts
  at its offset and runs body by body: row = offset + body * frames + frame;
- ``clips.npy``: one record of ``CLIP_DTYPE`` a clip.

Nothing in it is executable, so a store of unknown origin is safe to open. Shapes: V joints, C coordinates.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

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
        _require_sound(clips, path / "clips.npy", rows, len(classes))
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


def _require_sound(clips: np.ndarray, file: Path, rows: int, classes: int) -> None:
    """Refuse a table whose clips do not fill the rows one after the other, or have no class."""
    offset, frames, bodies, label = (clips[key].astype(np.int64) for key in ("offset", "frames", "bodies", "label"))
    sizes = frames * bodies
    ends = sizes.cumsum()
    faults = {
        "has no frame or no body": (frames < 1) | (bodies < 1),
        f"ends beyond the {rows} rows of joints.npy": ends > rows,
        "does not begin where the one before it ends": offset != ends - sizes,
        f"has a label outside its {classes} classes": (label < 0) | (label >= classes),
    }
    for fault, clip_has_it in faults.items():
        if clip_has_it.any():
            i = int(clip_has_it.argmax())
            name = clips["name"][i].decode(errors="replace")
            found = ", ".join(f"{key} {clips[key][i]}" for key in ("offset", "frames", "bodies", "label"))
            raise StoreError(f"clip {i}, '{name}', in {file} {fault} ({found}); prepare the data again")
    end = int(ends[-1]) if len(ends) else 0
    if end != rows:
        raise StoreError(f"the clips in {file} end at row {end}, but joints.npy has {rows}; prepare the data again")
