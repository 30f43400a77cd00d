"""The ``.npz`` of CTR-GCN (Chen et al., ICCV 2021) and its successors, a data set in one protocol.

``x_train`` (N, T, M V C), zero where a clip is shorter and where a body is absent, ``y_train`` (N, classes) one-hot or
(N,), and the same for ``test``. It tells neither names nor subjects. CTR-GCN moved each clip so that joint 1 of its
first frame is the origin. Shapes: N clips, T frames, M bodies, V joints, C coordinates.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats.arrays import load_npz, npz_names
from last.data.formats.container import chosen, label_of, opened_once, shown, without_padding
from last.data.formats.format import Format, Reading
from last.data.formats.source import Source, as_source
from last.skeleton import load_layout


@dataclass(frozen=True)
class _Packed:
    """The arrays of a file, and of each clip's name the part and row."""

    arrays: dict[str, np.ndarray]
    rows: dict[str, tuple[str, int]]


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read one clip of a file, such as ``train_000000``, the first if ``source`` names none.

    Raises:
        NoSkeletonError: it is all zero.
        FormatError: the file is not what the format promises, or of another layout.
    """
    packed = _open(as_source(source))
    source = chosen(as_source(source), packed.rows)
    part, row = packed.rows[source.name]
    x, y = packed.arrays[f"x_{part}"], packed.arrays[f"y_{part}"]
    named = reading.layout if reading else None
    layout = named or load_layout("ntu")
    width = len(layout.joints) * layout.dimensions
    if x.shape[2] % width or not x.shape[2]:
        raise FormatError(
            f"{source} has {x.shape[2]} numbers a frame, but layout '{layout.name}' needs {width} for each body; name "
            "the layout of its joints"
        )
    joints = without_padding(x[row].reshape(len(x[row]), -1, len(layout.joints), layout.dimensions), source)
    label = y[row]
    if y.ndim == 2:
        hot = np.flatnonzero(label)
        if len(hot) != 1:
            raise FormatError(f"{source} is of {len(hot)} classes in 'y_{part}', expected one")
        label = hot[0]
    if label != label // 1:
        raise FormatError(f"{source} has the label {label} in 'y_{part}', expected a whole number")
    label, part = label_of(int(label), source), f"given/{part}"
    return Clip(joints, source.name, layout.name, label, confidence=shown(joints), parts=(part,))


def clips(source: Source, reading: Reading | None = None) -> list[str]:
    """Names of the clips in a file: their part and their row."""
    return list(_open(source).rows)


def claims(source: Source) -> bool:
    """Whether the file's arrays have this format's names."""
    return bool({"x_train", "x_test"} & set(npz_names(source)))


@opened_once
def _open(source: Source) -> _Packed:
    held = set(npz_names(source))
    parts = [part for part in ("train", "test") if f"x_{part}" in held]
    arrays = load_npz(source, [f"{key}_{part}" for part in parts or ["train"] for key in "xy"])
    for part in parts:
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim != 3 or y.ndim not in (1, 2) or len(x) != len(y) or y.dtype.kind not in "iufb":
            raise FormatError(
                f"{source}: x_{part} and y_{part} have the shapes {x.shape} and {y.shape}, expected (clips, frames, "
                "numbers) and (clips, classes)"
            )
    rows = {f"{part}_{i:06d}": (part, i) for part in parts for i in range(len(arrays[f"x_{part}"]))}
    if not rows:
        raise FormatError(f"{source} holds no clip")
    return _Packed(arrays, rows)


FORMATS = (Format("ctr_gcn", "CTR-GCN's arrays", ".npz", read, clips=clips, claims=claims, takes_reading=True),)
