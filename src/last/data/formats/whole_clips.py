"""Files of one's own that hold whole clips: joints as an array, and what is known of them beside it.

Shapes: T frames, M bodies, V joints, C coordinates.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats.columns import MAX_VALUES, Columns, facts
from last.data.formats.format import Reading
from last.data.formats.source import Source
from last.skeleton import Layout


def whole_clip(
    source: Source,
    reading: Reading,
    columns: Columns,
    layout: Layout,
    joints: np.ndarray,
    confidence: np.ndarray | None,
    told: Mapping[str, Any],
) -> Clip:
    """A clip of arrays.

    Args:
        source: of the clip.
        reading: names the classes.
        columns: of the file.
        layout: of the joints.
        joints: (T, V, C), or (T, M, V, C), NaN where missing.
        confidence: joints' shape without C, from 0 to 1; None where there is none.
        told: what the file says of the clip, by key: texts, numbers or None.

    Raises:
        FormatError: an array has another shape or holds other numbers, or an id is none.
    """
    size = (len(layout.joints), layout.dimensions)
    if joints.ndim not in (3, 4) or joints.shape[-2:] != size:
        raise FormatError(
            f"{source}: joints of the shape {joints.shape}, expected (frames, {size[0]}, {size[1]}) or "
            f"(frames, bodies, {size[0]}, {size[1]}) for layout '{layout.name}'"
        )
    if joints.size > MAX_VALUES:
        raise FormatError(f"{source}: joints of the shape {joints.shape}, expected at most {MAX_VALUES:,} coordinates")
    joints = _float32(joints, "joints", source)
    if confidence is not None:
        if confidence.shape != joints.shape[:-1]:
            raise FormatError(f"{source}: confidence of the shape {confidence.shape}, expected {joints.shape[:-1]}")
        confidence = _float32(confidence, "confidence", source)
        if ((confidence < 0) | (confidence > 1)).any():
            raise FormatError(f"{source}: a confidence is not from 0 to 1; scale them, or leave them out")
    if joints.ndim == 3:
        joints, confidence = joints[:, None], None if confidence is None else confidence[:, None]
    texts = {key: "" if value is None else str(value) for key, value in told.items()}
    known = facts(texts, columns, reading.classes, source)
    return Clip(joints, source.name, layout.name, confidence=confidence, **known)


def _float32(array: np.ndarray, name: str, source: Source) -> np.ndarray:
    if array.dtype.kind not in "iuf":
        raise FormatError(f"{source}: {name} of {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if np.isinf(array).any():
        place = ", ".join(map(str, np.argwhere(np.isinf(array))[0]))
        raise FormatError(f"{source}: {name}[{place}] is infinite or too large; a missing one is NaN")
    return array
