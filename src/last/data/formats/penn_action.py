"""Penn Action (Zhang, Zhu and Derpanis, ICCV 2013): ``NNNN.mat`` with the labels of a video.

``x``, ``y`` and ``visibility`` (T, 13) in pixels, ``action``, and ``train``, 1 or -1.
"""

from pathlib import Path

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats import matlab
from last.data.formats.format import Format
from last.data.formats.source import NoSkeletonError, Source, as_source

JOINTS = 13
ACTIONS = (
    *("baseball_pitch", "baseball_swing", "bench_press", "bowl", "clean_and_jerk", "golf_swing", "jump_rope"),
    *("jumping_jacks", "pullup", "pushup", "situp", "squat", "strum_guitar", "tennis_forehand", "tennis_serve"),
)  # as the files spell them


def read(source: Source | Path | str) -> Clip:
    """Read one file; the annotators' place of a joint that is not visible has no confidence.

    Out of the picture they left it in the corner: such a joint is missing.

    Raises:
        NoSkeletonError: no frame shows a joint.
        FormatError: it is not what the format promises.
    """
    source = as_source(source)
    content = matlab.load(source, ["x", "y", "visibility", "action", "train"])
    x, y, visibility = (matlab.numbers(content[key], key, source) for key in ("x", "y", "visibility"))
    if x.ndim != 2 or x.shape[1] != JOINTS or not x.shape == y.shape == visibility.shape:
        raise FormatError(
            f"{source}: x, y and visibility have the shapes {x.shape}, {y.shape} and {visibility.shape}, "
            f"expected three times (frames, {JOINTS})"
        )
    action = str(content["action"].ravel()[0]) if content["action"].size else ""
    if action not in ACTIONS:
        raise FormatError(f"{source} is of the action '{action[:60]}', expected one of {', '.join(ACTIONS)}")
    trains = matlab.numbers(content["train"], "train", source).ravel()[:1]
    if trains.tolist() not in ([1], [-1]):
        raise FormatError(f"{source}: 'train' is {trains.tolist()}, expected 1 or -1")
    confidence = (visibility > 0).astype(np.float32)[:, None]
    joints = np.stack([x, y], axis=-1).astype(np.float32)[:, None]
    joints[(confidence == 0) & (joints <= 1).all(-1)] = np.nan
    if np.isnan(joints).all():
        raise NoSkeletonError(f"{source} shows no joint in its {len(x)} frames")
    part = "given/train" if trains[0] == 1 else "given/test"
    return Clip(joints, source.name, "penn13", ACTIONS.index(action), confidence=confidence, parts=(part,))


FORMATS = (Format("penn_action", "Penn Action", ".mat", read, "penn13"),)
