"""Writes a store in the exchange formats of the field, as :mod:`last.data.formats` reads them.

Joints are written as the store has them, in metres or pixels. Files are written clip by clip, whole or not at all.
Shapes: N clips, C channels, T frames, V joints, M bodies.
"""

import pickle
import shutil
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import getpid
from pathlib import Path
from typing import IO

import numpy as np
import torch

from last import streams
from last.data.clip import Clip
from last.data.store import ClipStore
from last.files import WriteError

Split = tuple[np.ndarray, np.ndarray]  # clips that train, and those that test
Tick = Callable[[], None]

_PROTOCOL = 3  # of pickles; the oldest Python that still runs the field's code reads it
_BODIES = 2  # at least; the field's code expects two


class ExportError(ValueError):
    """A store cannot be written in a format, or not there; the message says why."""


def export(
    store: ClipStore,
    format_name: str,
    out: Path,
    split: Split,
    protocol: str = "given",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the clips of a protocol in an exchange format.

    - ``pyskl``: a ``.pkl`` of annotations, with the lists ``<protocol>_train`` and ``<protocol>_val``;
    - ``ctr_gcn``: an ``.npz`` of ``x_train``, ``y_train``, ``x_test`` and ``y_test``, uncompressed, padded with zeros;
    - ``st_gcn``: a folder of ``{train,val}_data.npy`` and ``_label.pkl``, padded with zeros;
    - ``mib``: a folder of ``{train,val}_{joint,velocity,bone}.npy`` and ``_label.pkl``, the last frame held.

    Args:
        store: the clips.
        format_name: one of ``EXPORTS``.
        out: the file or folder to be; nothing may be there.
        split: indices of the clips that train and of those that test.
        protocol: its name.
        progress: called with (clips written, clips in all).

    Raises:
        ExportError: there is no such format, it cannot hold the clips, or ``out`` exists or has the wrong suffix.
        WriteError: the disk is full or not writable.
    """
    if format_name not in EXPORTS:
        raise ExportError(f"no format '{format_name}' to write, expected one of {', '.join(EXPORTS)}")
    suffix, write = EXPORTS[format_name]
    if out.suffix != suffix:
        what = f"a file that ends in {suffix}" if suffix else "a folder, without a suffix"
        raise ExportError(f"{out} cannot be written as {format_name}, which is {what}")
    if out.exists():
        raise ExportError(f"{out} exists and is not replaced; move it or choose another place")
    total, done = len(split[0]) + len(split[1]), 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    partial = out.with_name(f".{out.name}.{getpid()}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(store, partial, split, protocol, tick)
        partial.rename(out)
    except OSError as error:
        raise WriteError(f"cannot write {out}: {error.strerror or error}; nothing was written") from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)


def _write_pyskl(store: ClipStore, path: Path, split: Split, protocol: str, tick: Tick) -> None:
    names = store.names()
    prefix = "" if protocol == "given" else f"{protocol}_"
    lists = {f"{prefix}{part}": [names[i] for i in clips] for part, clips in zip(("train", "val"), split, strict=True)}
    # A pickle is a program: pieces that make one value each, end to end, make a list without ever holding it whole.
    with path.open("wb") as file:
        file.write(bytes([0x80, _PROTOCOL]) + b"}(" + _piece("annotations") + b"](")
        for i in np.sort(np.concatenate(split)):
            clip = store[int(i)]
            arrays = {"keypoint": clip.joints.swapaxes(0, 1).astype(store.joints.dtype)}
            if store.layout.dimensions == 2:
                scores = np.ones(clip.joints.shape[:3]) if clip.confidence is None else np.nan_to_num(clip.confidence)
                arrays["keypoint_score"] = scores.swapaxes(0, 1).astype(store.joints.dtype)
            about = {"frame_dir": clip.name, "label": clip.label, "total_frames": clip.frames}
            file.write(_piece(about) + b"(")
            for key, array in arrays.items():
                file.write(_piece(key) + _array_piece(array))
            file.write(b"u")
            tick()
        file.write(b"e" + _piece("split") + _piece(lists) + b"u.")


def _piece(value: object) -> bytes:
    """The part of a pickle that makes a value of plain Python."""
    return pickle.dumps(value, _PROTOCOL)[2:-1]


def _array_piece(array: np.ndarray) -> bytes:
    """The part of a pickle that makes an array, by names that numpy 1 has as well as 2; its own pickles have not."""
    content = array.tobytes()
    dtype = b"cnumpy\ndtype\n(" + _piece(array.dtype.str[1:]) + b"\x89\x88tR"
    dtype += _piece((3, "<", None, None, None, -1, -1, 0)) + b"b"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _piece((0,)) + _piece(b"b") + b"tR"
    state = b"(K\x01" + _piece(array.shape) + dtype + b"\x89B" + len(content).to_bytes(4, "little") + content + b"t"
    return empty + state + b"b"


def _write_ctr_gcn(store: ClipStore, path: Path, split: Split, protocol: str, tick: Tick) -> None:
    frames, bodies = _extent(store, split)
    width = bodies * len(store.layout.joints) * store.layout.dimensions
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for part, clips in zip(("train", "test"), split, strict=True):
            with archive.open(f"x_{part}.npy", "w", force_zip64=True) as file:
                _start_array(file, (len(clips), frames, width))
                for i in clips:
                    file.write(_padded(store[int(i)], frames, bodies).reshape(frames, width).tobytes())
                    tick()
            with archive.open(f"y_{part}.npy", "w") as file:
                one_hot = np.eye(len(store.classes))[store.clips["label"][clips]]
                np.lib.format.write_array(file, one_hot, allow_pickle=False)


def _write_st_gcn(store: ClipStore, path: Path, split: Split, protocol: str, tick: Tick) -> None:
    frames, bodies = _extent(store, split)
    channels = 3  # in 2D the third is the confidence, and y points up, as Kinetics-skeleton has them
    path.mkdir()
    for part, clips in zip(("train", "val"), split, strict=True):
        _write_labels(store, path / f"{part}_label.pkl", clips)
        with (path / f"{part}_data.npy").open("wb") as file:
            _start_array(file, (len(clips), channels, frames, len(store.layout.joints), bodies))
            for i in clips:
                clip = store[int(i)]
                values = _padded(clip, frames, bodies)
                if store.layout.dimensions == 2:
                    values = np.concatenate([values * np.array([1, -1]), _scores(clip, frames, bodies)], axis=-1)
                    values[values[..., 2] == 0] = 0
                file.write(values.transpose(3, 0, 2, 1).astype("<f4").tobytes())
                tick()


def _write_mib(store: ClipStore, path: Path, split: Split, protocol: str, tick: Tick) -> None:
    frames, bodies = _extent(store, split)
    shape = (store.layout.dimensions, frames, len(store.layout.joints), bodies)
    path.mkdir()
    for part, clips in zip(("train", "val"), split, strict=True):
        _write_labels(store, path / f"{part}_label.pkl", clips)
        with ExitStack() as stack:
            files = {name: stack.enter_context((path / f"{part}_{name}.npy").open("wb")) for name in streams.STREAMS}
            for file in files.values():
                _start_array(file, (len(clips), *shape))
            for i in clips:
                clip = store[int(i)]
                values = _padded(clip, frames, bodies)
                values[clip.frames :] = values[clip.frames - 1]
                x = torch.from_numpy(values.transpose(3, 0, 2, 1).copy())[None]
                made = {"joint": x, "velocity": streams.velocity(x), "bone": streams.bone(x, store.layout)}
                for name, file in files.items():
                    file.write(made[name].numpy().astype("<f4").tobytes())
                tick()


def _write_labels(store: ClipStore, path: Path, clips: np.ndarray) -> None:
    """Names and labels, as ST-GCN has them."""
    names = [name.decode() for name in store.clips["name"][clips].tolist()]
    path.write_bytes(pickle.dumps((names, store.clips["label"][clips].tolist()), _PROTOCOL))


def _extent(store: ClipStore, split: Split) -> tuple[int, int]:
    """Frames and bodies that hold every clip."""
    clips = store.clips[np.concatenate(split)]
    return int(clips["frames"].max()), max(_BODIES, int(clips["bodies"].max()))


def _start_array(file: IO[bytes], shape: Sequence[int]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _padded(clip: Clip, frames: int, bodies: int) -> np.ndarray:
    """Joints (T, M, V, C), zero beyond the clip's frames and bodies."""
    values = np.zeros((frames, bodies, *clip.joints.shape[2:]), np.float32)
    values[: clip.frames, : clip.bodies] = clip.joints
    return values


def _scores(clip: Clip, frames: int, bodies: int) -> np.ndarray:
    """Confidences (T, M, V, 1), zero beyond the clip and where a joint was missing."""
    values = np.zeros((frames, bodies, clip.joints.shape[2], 1), np.float32)
    values[: clip.frames, : clip.bodies, :, 0] = 1 if clip.confidence is None else np.nan_to_num(clip.confidence)
    return values


EXPORTS: dict[str, tuple[str, Callable[[ClipStore, Path, Split, str, Tick], None]]] = {
    "pyskl": (".pkl", _write_pyskl),
    "ctr_gcn": (".npz", _write_ctr_gcn),
    "st_gcn": ("", _write_st_gcn),
    "mib": ("", _write_mib),
}
