"""The clip store: every clip of a data set in one folder, ragged, memory-mapped and self-describing.

A store is a folder of three files or four:

- ``meta.json``: version, layout, classes, protocols, where the clips come from, how many clips and rows the others
  hold, and their checksums;
- ``joints.npy``: (rows, V, C) float32 or float16, all finite. A row is one body in one frame; a clip starts
  at its offset and runs body by body: row = offset + body * frames + frame;
- ``confidence.npy``: (rows, V) uint8, absent where every joint was seen. 0: the joint was missing and its place is a
  guess; 1 to 255: a confidence from 0 to 1;
- ``clips.npy``: one record of ``CLIP_DTYPE`` a clip.

Nothing in it is executable, so a store of unknown origin is safe to open. Shapes: V joints, C coordinates.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from last.data.clip import Clip
from last.setting_values import ConfigError
from last.skeleton import Layout, layout_from_dict

VERSION = 2
IDS = ("label", "subject", "camera", "setup", "replication")
NAME_BYTES = 96
MAX_PARTS = 32
JOINT_DTYPES = (np.dtype("<f4"), np.dtype("<f2"))
CLIP_DTYPE = np.dtype(
    [
        ("offset", "<i8"),
        ("frames", "<i4"),
        ("bodies", "<i4"),
        *((key, "<i4") for key in IDS),
        ("parts", "<u4"),  # a bit for each of meta.json's parts
        ("name", f"S{NAME_BYTES}"),
    ]
)


class StoreError(ValueError):
    """A store that is absent, damaged, of another version, or cannot be written."""


def encode_confidence(confidence: np.ndarray) -> np.ndarray:
    """Confidences from 0 to 1, NaN where a joint is missing, as the bytes of ``confidence.npy``, (..., V) uint8."""
    return np.where(np.isnan(confidence), 0, 1 + np.rint(254 * np.nan_to_num(confidence).clip(0, 1))).astype(np.uint8)


def decode_confidence(codes: np.ndarray) -> np.ndarray:
    """What :func:`encode_confidence` was given, to 0.002, float32."""
    return np.where(codes == 0, np.nan, (codes - np.float32(1)) / np.float32(254)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ClipStore:
    """The clips of a folder, read from the disk only when they are asked for.

    Attributes:
        path: the folder.
        layout: skeleton of all its clips.
        classes: name of each label.
        joints: (rows, V, C), memory-mapped.
        confidence: (rows, V) as :func:`encode_confidence` makes them, memory-mapped; None where every joint was seen.
        clips: (clips,) of ``CLIP_DTYPE``, memory-mapped.
        meta: what ``meta.json`` holds.
    """

    path: Path
    layout: Layout
    classes: tuple[str, ...]
    joints: np.memmap
    confidence: np.memmap | None
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
            _require_kinds(meta)
        except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
            raise StoreError(
                f"{path / 'meta.json'} is damaged ({type(error).__name__}: {error}); prepare the data again"
            ) from error
        joints = _map(path / "joints.npy", (rows, len(layout.joints), layout.dimensions), JOINT_DTYPES)
        seen = None
        if "confidence.npy" in meta["checksums"]:
            seen = _map(path / "confidence.npy", (rows, len(layout.joints)), (np.dtype("u1"),))
        clips = _map(path / "clips.npy", (count,), (CLIP_DTYPE,))
        _require_sound(clips, path / "clips.npy", rows, len(classes), len(meta["parts"]))
        return cls(path, layout, classes, joints, seen, clips, meta)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, i: int) -> Clip:
        start, frames, bodies, *ids, parts, name = self.clips[i].item()
        rows = slice(start, start + bodies * frames)
        joints = self.joints[rows].reshape(bodies, frames, *self.joints.shape[1:])
        confidence = None
        if self.confidence is not None:
            codes = self.confidence[rows].reshape(bodies, frames, -1).swapaxes(0, 1)
            confidence = None if (codes == 255).all() else decode_confidence(codes)
        return Clip(
            np.array(joints.swapaxes(0, 1), dtype=np.float32, order="C"),
            name.decode(errors="replace"),
            self.layout.name,
            *ids,
            confidence=confidence,
            parts=tuple(part for bit, part in enumerate(self.meta["parts"]) if parts >> bit & 1) if parts else (),
        )

    def __iter__(self) -> Iterator[Clip]:
        return (self[i] for i in range(len(self)))

    def in_part(self, part: str) -> np.ndarray:
        """Which clips the data's own lists put into a part such as ``xsub/train``, (clips,) bool."""
        if part not in self.meta["parts"]:
            return np.zeros(len(self), dtype=bool)
        return (self.clips["parts"] >> self.meta["parts"].index(part) & 1).astype(bool)

    def damaged_files(self) -> list[str]:
        """The files whose content is not what was written, by their checksums; reads all of them."""
        arrays = {"joints.npy": self.joints, "clips.npy": self.clips, "confidence.npy": self.confidence}
        return [
            file
            for file, checksum in self.meta["checksums"].items()
            if (array := arrays.get(file)) is None or hashlib.sha256(array.data).hexdigest() != checksum
        ]

    def names(self) -> list[str]:
        """The name of each clip, in order."""
        return [name.decode(errors="replace") for name in self.clips["name"].tolist()]

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


def _require_kinds(meta: Mapping[str, Any]) -> None:
    """Refuse a meta.json whose other entries are not what later questions to the store take them for."""
    kinds = {"classes": list, "parts": list, "protocols": dict, "provenance": dict, "checksums": dict}
    for key, kind in kinds.items():
        if not isinstance(meta[key], kind):
            raise TypeError(f"'{key}' is {str(meta[key])[:100]}")
    if not all(isinstance(part, str) for part in meta["parts"]):
        raise TypeError(f"'parts' is {str(meta['parts'])[:100]}")


def _map(file: Path, shape: tuple[int, ...], dtypes: Sequence[np.dtype]) -> np.memmap:
    try:
        with np.errstate(over="raise"):
            array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a damaged header numpy says so by nearly any exception
        raise StoreError(f"{file} is missing or damaged ({error}); prepare the data again") from error
    surplus = file.stat().st_size - array.offset - array.nbytes
    if array.shape != shape or array.dtype not in dtypes or not array.flags.c_contiguous or surplus:
        raise StoreError(
            f"{file} holds {array.shape} of {array.dtype} and {surplus} bytes more, but meta.json promises "
            f"{shape}; prepare the data again"
        )
    return array


def _require_sound(clips: np.ndarray, file: Path, rows: int, classes: int, parts: int) -> None:
    """Refuse a table whose clips do not fill the rows one after the other, or have no class."""
    offset, frames, bodies, label = (clips[key].astype(np.int64) for key in ("offset", "frames", "bodies", "label"))
    sizes = frames * bodies
    ends = sizes.cumsum()
    faults = {
        "has no frame or no body": (frames < 1) | (bodies < 1),
        f"ends beyond the {rows} rows of joints.npy": ends > rows,
        "does not begin where the one before it ends": offset != ends - sizes,
        f"has a label outside its {classes} classes": (label < 0) | (label >= classes),
        f"is in a part beyond its {parts}": clips["parts"].astype(np.int64) >> parts != 0,
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
