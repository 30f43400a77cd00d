"""Writes the clip store of :mod:`last.data.store`, whole or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from last.data.array_file import ArrayFile
from last.data.clip import Clip
from last.data.store import CLIP_DTYPE, IDS, MAX_PARTS, NAME_BYTES, VERSION, ClipStore, StoreError, encode_confidence
from last.skeleton import Layout, layout_from_dict, unlike

JointDtype = Literal["float32", "float16"]


class ClipRefusedError(StoreError):
    """A clip that a store cannot hold; the others are not touched by it."""


class StoreWriter:
    """Writes a store clip by clip; memory does not grow with their joints.

    Use as a context manager. All is written to a temporary folder and becomes the store by a rename when the block
    ends well; if it does not, a store that was there before stays whole.

    Attributes:
        path: the folder to be; a store of the same layout and classes is replaced, anything else refused.
        layout: skeleton of all its clips.
        classes: name of each label.
        dtype: of the joints; float16 halves the store, and rounds a joint 4 m away to 2 mm.
        provenance: where the clips come from and what was done to them, for ``meta.json``.
        protocols: rules of :mod:`last.data.own_rules` for a set of one's own, for ``meta.json``.
        workplace: where the temporary folder lies; on the disk of ``path``, beside which it lies if None.
        count: clips so far.
        replaced: clips of the store that this one replaces.

    Raises:
        StoreError: ``path`` holds something else than such a store, or the disk is full or not writable.
    """

    def __init__(
        self,
        path: Path | str,
        layout: Layout,
        classes: Sequence[str],
        dtype: JointDtype = "float32",
        provenance: Mapping[str, Any] | None = None,
        protocols: Mapping[str, Any] | None = None,
        workplace: Path | None = None,
    ) -> None:
        self.path, self.layout, self.classes = Path(path), layout, tuple(classes)
        self._row = (len(layout.joints), layout.dimensions)
        self.count = self._rows = 0
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.provenance, self.protocols = dict(provenance or {}), dict(protocols or {})
        self._names: set[bytes] = set()
        self._parts: dict[str, int] = {}
        self._files: list[ArrayFile] = []
        self._confidence: ArrayFile | None = None
        self.replaced = require_replaceable(self.path, layout, self.classes)
        target = self.path.absolute()
        self._folder = (workplace or target.parent) / f".{target.name}.{os.getpid()}.tmp"
        with self._disk_errors_told():
            # Of an earlier process with this number, which was killed; in a container they repeat.
            shutil.rmtree(self._folder, ignore_errors=True)
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
            or_wider = ", or store as float32" if self.dtype.itemsize < 4 else ""
            raise ClipRefusedError(
                f"clip '{clip.name}' has a joint that is not finite as {self.dtype.name} (body {m}, frame {t}, "
                f"'{self.layout.joints[v]}'); fill the gaps with last.data.clean.clean before storing it{or_wider}"
            )
        ids = [getattr(clip, key) for key in IDS]
        bits = sum(1 << bit for bit in self._bits(dict.fromkeys(clip.parts)))
        record = np.array([(self._rows, clip.frames, clip.bodies, *ids, bits, name)], dtype=CLIP_DTYPE)
        codes = None if clip.confidence is None else encode_confidence(clip.confidence).swapaxes(0, 1)
        self._write(rows.reshape(-1, *self._row), record, codes)

    def extend(self, store: ClipStore) -> None:
        """Add the clips of a store of the same layout, classes and type of joints, in one piece.

        Raises:
            ClipRefusedError: the store is another, or a name is taken.
            StoreError: the disk is full or not writable.
        """
        if (store.layout, store.classes, store.joints.dtype) != (self.layout, self.classes, self.dtype):
            raise ClipRefusedError(
                f"the store {store.path} has another layout, other classes or another type than {self.path}"
            )
        taken = self._names.intersection(store.clips["name"].tolist())
        if taken:
            raise ClipRefusedError(f"two clips are named '{taken.pop().decode()}'; names are unique in a store")
        clips = np.array(store.clips)
        clips["offset"] += self._rows
        clips["parts"] = 0
        for theirs, ours in enumerate(self._bits(store.meta["parts"])):
            clips["parts"] |= (store.clips["parts"] >> theirs & 1) << ours
        self._write(store.joints, clips, store.confidence)

    def _write(self, joints: np.ndarray, clips: np.ndarray, codes: np.ndarray | None) -> None:
        with self._disk_errors_told():
            self._joints.write(joints)
            self._clips.write(clips)
            self._write_confidence(codes, len(joints))
        self._names.update(clips["name"].tolist())
        self._rows += len(joints)
        self.count += len(clips)

    def _write_confidence(self, codes: np.ndarray | None, rows: int) -> None:
        if self._confidence is None:
            if codes is None or (codes == 255).all():
                return
            self._confidence = self._start("confidence.npy", np.dtype("u1"), self._row[:1])
            for start in range(0, self._rows, 1 << 20):  # of the clips so far, all seen
                self._confidence.write(np.full((min(1 << 20, self._rows - start), self._row[0]), 255, np.uint8))
        self._confidence.write(np.full((rows, self._row[0]), 255, np.uint8) if codes is None else codes)

    def _bits(self, parts: Collection[str]) -> list[int]:
        """The bit of each part, in the order in which this store came to know them."""
        known = [*dict.fromkeys((*self._parts, *parts))]
        if len(known) > MAX_PARTS:
            raise ClipRefusedError(f"'{known[-1]}' is one part too many; a store knows {MAX_PARTS} at most")
        self._parts = {part: bit for bit, part in enumerate(known)}
        return [self._parts[part] for part in parts]

    def attach(self, file: str, content: Mapping[str, Any]) -> None:
        """Lay a JSON file, such as ``report.json``, into the store."""
        with self._disk_errors_told():
            (self._folder / file).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Finish the files and make them the store.

        Raises:
            StoreError: the disk is full or not writable.
        """
        sizes = {"joints.npy": self._rows, "confidence.npy": self._rows, "clips.npy": self.count}
        self.attach(
            "meta.json",
            {
                "version": VERSION,
                "layout": self.layout.to_dict(),
                "classes": list(self.classes),
                "clips": self.count,
                "rows": self._rows,
                "dtype": self.dtype.name,
                "parts": list(self._parts),
                "protocols": self.protocols,
                "provenance": self.provenance,
                "created": datetime.now(timezone.utc).date().isoformat(),
                "checksums": {file.name: file.checksum.hexdigest() for file in self._files},
            },
        )
        with self._disk_errors_told():
            for file in self._files:
                file.finish(sizes[file.name])
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

    def _start(self, file: str, dtype: np.dtype, shape: tuple[int, ...]) -> ArrayFile:
        array = ArrayFile(self._folder / file, dtype, shape)
        self._files.append(array)
        return array

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
        for file in self._files:
            with suppress(OSError):  # a full disk fails once more when the buffer is flushed
                file.stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def require_replaceable(path: Path, layout: Layout, classes: Sequence[str]) -> int:
    """Refuse to put a store of this layout and these classes where something else lies.

    Returns:
        How many clips the store at ``path`` holds; 0 where there is none, or one too damaged to tell.

    Raises:
        StoreError: ``path`` is a file, a folder with other things than a store in it, or the store of another data set.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return 0
    if not (path / "meta.json").is_file():
        raise StoreError(f"{path} exists and is not a store, so it is not replaced; move it or choose another place")
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        old_layout, old_classes = layout_from_dict(meta["layout"], str(path)), tuple(map(str, meta["classes"]))
        count = int(meta["clips"])
    except OSError as error:
        raise StoreError(f"cannot read {path / 'meta.json'}: {error.strerror}; choose another place") from error
    except (ValueError, TypeError, KeyError, AttributeError):
        return 0
    if (old_layout, old_classes) != (layout, tuple(classes)):
        other = "other classes" if old_layout == layout else "another layout"
        raise StoreError(
            f"{path} is a store of {other} (layout '{old_layout.name}', {len(old_classes)} classes, {count:,} clips) "
            f"than the new one (layout '{layout.name}', {len(classes)} classes), so it is not replaced"
            f"{unlike(old_layout, old_classes, layout, classes)}; move it, delete it or choose another place"
        )
    return count


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
