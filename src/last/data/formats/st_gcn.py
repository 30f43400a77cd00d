"""The arrays of ST-GCN (Yan et al., AAAI 2018), 2s-AGCN (Shi et al., CVPR 2019) and their many successors.

``train_data.npy`` or ``train_data_joint.npy``, (N, C, T, V, M), beside ``train_label.pkl``, which holds the names and
the labels. ST-GCN pads clips with zeros, 2s-AGCN by playing each body again from its start; neither padding is read.
Kinetics-skeleton is 2D: its third channel is the confidence, and its y points up, which is turned down again.
Shapes: N clips, C channels, T frames, V joints, M bodies.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats import pickles
from last.data.formats.arrays import load_npy, to_list
from last.data.formats.container import (
    beside,
    chosen,
    is_name,
    label_of,
    layout_of,
    opened_once,
    part_of,
    require_size,
    shown,
    without_padding,
)
from last.data.formats.format import Format, Reading
from last.data.formats.ntu import ids_in
from last.data.formats.source import Source, as_source

_CONFIDENT = {18}  # joints of the 2D skeletons that come with a third channel
_TRIED = 8  # frames that are like the first; a clip that plays again begins anew at one of the first of them


@dataclass(frozen=True)
class Packed:
    """Clips of one part of a data set.

    Attributes:
        x: (N, C, T, V, M), on the disk.
        labels: a number for each clip, not yet checked.
        names: of the clips, in the array's order.
        rows: where each name lies; of a name that repeats, its first.
        part: such as ``given/train``.
    """

    x: np.ndarray
    labels: list[Any]
    names: list[str]
    rows: dict[str, int]
    part: str


def open_packed(source: Source, suffix: str) -> Packed:
    """Open an array of clips, and the labels beside it.

    Args:
        source: the array.
        suffix: with which its name ends, after the part's; ``_label.pkl`` or ``_label.npy`` takes its place.

    Raises:
        FormatError: it is no such array, or its labels are absent or of another number.
    """
    prefix = source.file.name[: -len(suffix)]
    labels = beside(source, f"{prefix}_label.pkl") or beside(source, f"{prefix}_label.npy")
    part = part_of(prefix)
    if labels is None or part is None:
        raise FormatError(
            f"{source} needs a name that begins with train, val or test, and {prefix}_label.pkl or .npy beside it"
        )
    x = load_rows(source)
    names, numbers = _labels(labels)
    names = names or [f"{prefix}_{i:06d}" for i in range(len(numbers))]
    if not len(x) == len(names) == len(numbers):
        raise FormatError(f"{source} holds {len(x)} clips, but {labels} {len(names)} names and {len(numbers)} labels")
    rows = {name: i for i, name in reversed(list(enumerate(names)))}
    return Packed(x, numbers, names, dict(reversed(rows.items())), part)


def load_rows(source: Source) -> np.ndarray:
    """An array of the values of clips, (N, C, T, V, M), on the disk.

    Raises:
        FormatError: it is no such array, or its clips are larger than a clip can be.
    """
    x = load_npy(source)
    if x.ndim != 5 or not x.size or x.dtype.kind not in "iuf":
        raise FormatError(
            f"{source} holds {x.dtype} {x.shape}, expected numbers (clips, channels, frames, joints, bodies)"
        )
    require_size(x[0], source)
    return x


def clip_in(packed: Packed, source: Source, values: np.ndarray, reading: Reading | None) -> Clip:
    """A clip from its values (T, M, V, C), of which a padding other than zeros is cut off.

    Raises:
        NoSkeletonError: it is all zero.
        FormatError: it has another layout, or a label that is none.
    """
    joints, channels = values.shape[2:]
    named = reading.layout if reading else None
    is_flat = named.dimensions == 2 if named else joints in _CONFIDENT
    has_confidence = is_flat and channels == 3
    layout = layout_of(joints, channels - has_confidence, source, reading)
    values = without_padding(values, source)
    confidence = shown(values)
    if has_confidence:
        confidence = np.nan_to_num(values[..., 2]).clip(0, 1)
        values = values[..., :2] * np.array([1, -1], np.float32)
        values[confidence == 0] = np.nan
    known: dict[str, Any] = ids_in(source.name)
    known["label"] = label_of(packed.labels[packed.rows[source.name]], source)
    return Clip(values, source.name, layout.name, **known, confidence=confidence, parts=(packed.part,))


def row_of(array: np.ndarray, row: int) -> np.ndarray:
    """The values of a clip, (T, M, V, C)."""
    return array[row].transpose(1, 3, 2, 0)


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read one clip of an array, the first if ``source`` names none.

    Raises:
        NoSkeletonError: it is all zero.
        FormatError: the files are not what the format promises, or of another layout.
    """
    source = as_source(source)
    packed = _open(source)
    is_looped = source.file.name.lower().endswith("_joint.npy")
    source = chosen(source, packed.rows)
    values = row_of(packed.x, packed.rows[source.name])
    return clip_in(packed, source, _played_once(values) if is_looped else values, reading)


def clips(source: Source, reading: Reading | None = None) -> list[str]:
    """Names of the clips in an array, in its order."""
    return _open(source).names


@opened_once
def _open(source: Source) -> Packed:
    return open_packed(source, "_data_joint.npy" if source.file.name.lower().endswith("_joint.npy") else "_data.npy")


def _played_once(values: np.ndarray) -> np.ndarray:
    """Values (T, M, V, C) with each body zero from where it plays again."""
    values = values.copy()
    for body in np.moveaxis(values, 1, 0):
        body[_length(body) :] = 0
    return values


def _length(body: np.ndarray) -> int:
    """Frames of a body (T, V, C) after which it plays again from its start, to the end; all where it does not."""
    for start in 1 + np.flatnonzero((body[1:] == body[0]).all(axis=(1, 2)))[:_TRIED]:
        if body[0].any() and (body[start:] == body[:-start]).all():
            return int(start)
    return len(body)


def _labels(source: Source) -> tuple[list[str], list[Any]]:
    """Names, or none where the file has only labels; and labels."""
    content = pickles.load(source) if source.file.suffix == ".pkl" else load_npy(source)
    columns = list(content) if isinstance(content, (list, tuple)) else [content]
    # (names, labels), sometimes with the clips' lengths after them.
    first, second = columns[:2] if len(columns) in (2, 3) and _listed(columns[0], source) else ((), content)
    names, labels = _listed(first, source), _listed(second, source)
    if names is None or labels is None or not all(is_name(name) for name in names):
        raise FormatError(f"{source} holds neither labels nor names and labels")
    return [name.removesuffix(".skeleton") for name in names], labels


def _listed(values: Any, source: Source) -> list[Any] | None:
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return to_list(values, str(source))
    return list(values) if isinstance(values, (list, tuple)) else None


FORMATS = (
    Format("st_gcn", "ST-GCN's arrays", "_data.npy", read, clips=clips, takes_reading=True),
    Format("agcn", "2s-AGCN's arrays", "_data_joint.npy", read, clips=clips, takes_reading=True),
)
