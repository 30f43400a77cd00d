"""Clips of one's own as ``.npz``, one a file, saved with ``np.savez``.

Arrays ``joints`` (T, V, C) or (T, M, V, C), and perhaps ``confidence``, ``label``, ``subject``, ``camera``, ``setup``,
``replication`` and ``part``; :mod:`last.data.formats.columns` says how they may be called otherwise.
"""

from pathlib import Path

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats import arrays
from last.data.formats.columns import described
from last.data.formats.format import Format, Reading
from last.data.formats.source import NoSkeletonError, Source, as_source
from last.data.formats.whole_clips import whole_clip


def read(source: Source | Path | str, reading: Reading | None = None) -> Clip:
    """Read one file.

    Raises:
        NoSkeletonError: it holds no frame.
        FormatError: it is not such a file; names file and array.
    """
    source, reading = as_source(source), reading or Reading()
    columns, layout = described(reading, source)
    present = set(arrays.npz_names(source))
    names = {key: columns.entry(key) for key in ("joints", "confidence", *columns.tells)}
    if names["joints"] not in present:
        raise FormatError(f"{source} holds no array {names['joints']!r}; it has {', '.join(sorted(present))[:200]}")
    content = arrays.load_npz(source, [name for name in names.values() if name in present])
    joints, confidence = content[names["joints"]], content.get(names["confidence"])
    if not joints.size:
        raise NoSkeletonError(f"{source} holds no frame")
    told = {key: _single(content[names[key]], names[key], source) for key in columns.tells if names[key] in content}
    return whole_clip(source, reading, columns, layout, joints, confidence, told)


def _single(array: np.ndarray, name: str, source: Source) -> str:
    if array.size != 1:
        raise FormatError(f"{source}: {name!r} holds {array.size} values, expected one number or text")
    value = array.item()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


FORMATS = (Format("npz", "clips of one's own, .npz", ".npz", read, takes_reading=True, has_columns=True),)
