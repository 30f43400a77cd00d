"""Small sets that are sound but for the faults that a test gives them, and what a check finds in them."""

from pathlib import Path

import numpy as np

from last.data.check import check
from last.data.clip import Clip
from last.data.formats import Format
from last.data.store_writer import StoreWriter
from last.data.synthetic_body import draw_person, forward, sway
from last.skeleton import load_layout

NTU = load_layout("ntu")


def moving(seed: int, frames: int = 10) -> np.ndarray:
    """A person of NTU's joints who stands and sways, in front of the sensor, (T, 1, 25, 3)."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, frames)
    joints = forward(5 * sway(time, rng), draw_person(rng, False).offsets) + np.array([0, 1, 3])
    return (joints + rng.normal(0, 0.004, joints.shape)).astype(np.float32)[:, None]


def write(path: Path, *joints: np.ndarray, classes: int = 2, **known: object) -> Path:
    """A store of clips of which the first half are of one class and the others of the next."""
    with StoreWriter(path, NTU, [f"class{i}" for i in range(classes)], **known) as writer:
        for i, x in enumerate(joints):
            writer.append(Clip(x, f"clip{i}", "ntu", label=2 * i // len(joints)))
    return path


def write_clips(path: Path, clips: list[Clip], classes: int = 2, **known: object) -> Path:
    with StoreWriter(path, NTU, [f"class{i}" for i in range(classes)], **known) as writer:
        for clip in clips:
            writer.append(clip)
    return path


def sound(count: int = 20) -> list[np.ndarray]:
    return [moving(100 + i) for i in range(count)]


def raw(folder: Path, *clips: Clip) -> dict[str, object]:
    """Files of a format of its own that holds these clips: the options of a check of the folder."""
    held = {clip.name: clip for clip in clips}
    for name in held:
        (folder / f"{name}.fake").touch()
    return {"formats": [Format("fake", "a fake", ".fake", lambda source: held[source.name])]}


def messages(path: Path, **options: object) -> dict[str, tuple[int, str]]:
    return {finding.message: (finding.count, finding.example) for finding in check(path, **options)}
