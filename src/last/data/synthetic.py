"""The embedded data set: a body moved by joint angles through forward kinematics, as a depth sensor sees it.

Each clip depends on its name alone: its random numbers come from a ``SeedSequence`` of SEED, subject, action,
replication and, for the sensor's faults, camera. So everyone has the same clips, whatever their order and number.
The cameras of one performance see the same movement, as in NTU RGB+D: camera 1 in the middle, 2 and 3 at 45 degrees
to its sides; a subject faces camera 2 in replication 1 and camera 3 in replication 2.

Shapes: T frames, M bodies, V joints, D joint angles.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from last.config import load_config
from last.data.clean import CleanOptions, clean
from last.data.clip import Clip
from last.data.formats import ntu_writer
from last.data.prepare import PrepareReport
from last.data.store_writer import StoreWriter
from last.data.synthetic_actions import ACTIONS, INDEX, STANDING, Action, Move
from last.data.synthetic_body import LAYOUT, Person, draw_person, forward, on_floor, sway, turn

SEED = 2024
CLASSES = tuple(action.name for action in ACTIONS)
SUBJECTS = range(1, 21)
CAMERAS = {1: 0.0, 2: 45.0, 3: -45.0}  # degrees about the middle of the room
REPLICATIONS = (1, 2)
# Height of the sensor and its distance from the middle of the room, metres.
SETUPS = ((1.7, 3.5), (1.5, 2.8), (1.4, 3.2), (1.2, 3.0), (1.0, 3.3), (0.8, 3.6), (0.5, 4.0), (1.3, 3.8))
FRAMES = (40, 120)
FRAME_RATE = 30

_HANDS = [v for v, name in enumerate(LAYOUT.joints) if name.endswith(("wrist", "hand", "tip", "thumb"))]
_LEGS = [v for v, name in enumerate(LAYOUT.joints) if name.endswith(("knee", "ankle", "foot"))]


@cache
def _clips() -> dict[str, tuple[int, int, int, int, int]]:
    """Setup, camera, subject, replication and action number of each clip, by name."""
    ids = [
        (1 + (subject - 1) % len(SETUPS), camera, subject, replication, number)
        for subject, camera, replication, number in product(SUBJECTS, CAMERAS, REPLICATIONS, range(1, len(ACTIONS) + 1))
    ]
    return {"S{:03d}C{:03d}P{:03d}R{:03d}A{:03d}".format(*clip): clip for clip in sorted(ids)}


def clip_names() -> list[str]:
    """The NTU names of all clips, sorted."""
    return list(_clips())


def make_clip(name: str, *, faults: bool = True) -> Clip:
    """Make one clip, raw as a reader would give it.

    Args:
        name: one of :func:`clip_names`.
        faults: the sensor's: noise, lost joints (NaN), lost bodies, bodies in any order. Without them each bone keeps
            its length, and the performer comes first.

    Raises:
        ValueError: the set has no clip of this name.
    """
    if name not in _clips():
        raise ValueError(
            f"the synthetic set has no clip '{name}'; its {len(_clips())} names, "
            f"such as '{clip_names()[0]}', are those of clip_names()"
        )
    setup, camera, subject, replication, number = _clips()[name]
    rng = np.random.default_rng((SEED, subject, number, replication))
    joints = perform(ACTIONS[number - 1], subject_traits(subject), rng)
    heading = (CAMERAS[2] if replication == 1 else CAMERAS[3]) + rng.normal(0, 12)
    joints = _seen(joints, heading - CAMERAS[camera], *SETUPS[setup - 1])
    if faults:
        joints = _sense(joints, np.random.default_rng((SEED, subject, number, replication, camera)))
    return Clip(joints.astype(np.float32), name, LAYOUT.name, number - 1, subject, camera, setup, replication)


def subject_traits(subject: int) -> Person:
    """The build and style of a subject; every third is left-handed."""
    return draw_person(np.random.default_rng((SEED, subject)), left_handed=subject % 3 == 2)


def perform(action: Action, person: Person, rng: np.random.Generator) -> np.ndarray:
    """One performance, (T, M, V, 3) metres: on the floor y = 0 about the origin, the performer facing z."""
    frames = round(FRAME_RATE * action.seconds / person.tempo * rng.uniform(0.85, 1.18))
    time = np.linspace(0, 1, int(np.clip(frames, *FRAMES)))
    late, slow, warp = rng.uniform((-0.04, 0.92, 0.88), (0.06, 1.04, 1.14))
    progress = np.clip((time - late) / slow, 0, 1) ** warp
    beat = time * rng.uniform(0.85, 1.2) + rng.uniform()

    def body(move: Move, who: Person) -> np.ndarray:
        angles = STANDING + who.amplitude * rng.uniform(0.94, 1.06) * (move(progress, beat) - STANDING)
        joints = forward(angles + who.posture + sway(time, rng), who.offsets)
        joints = on_floor(joints, angles[:, INDEX["air"]], who.scale)
        mirrored = who.left_handed if action.side is None else action.side == "right"
        return joints[:, LAYOUT.mirror] * (-1, 1, 1) if mirrored else joints

    bodies = [body(action.move, person)]
    if action.partner:
        # A stranger, so that no build is seen in training and test; of the same hand, so that hands meet.
        partner = draw_person(rng, person.left_handed)
        gap = action.gap * (person.scale + partner.scale) / 2 + rng.normal(0, 0.03)
        bodies.append(body(action.partner, partner) * (-1, 1, -1) + (0, 0, gap))
    joints = np.stack(bodies, axis=1)
    joints -= joints[:, :, LAYOUT.root].mean(axis=(0, 1)) * (1, 0, 1) + rng.normal(0, 0.12, 3) * (1, 0, 1)
    return joints[::-1] if action.reverse else joints


def _seen(joints: np.ndarray, heading: float, height: float, distance: float) -> np.ndarray:
    """Into the axes of a sensor that looks down or up at the bodies' middle.

    Args:
        joints: (T, M, V, 3), the performer facing z.
        heading: degrees by which the performer faces past the sensor, to the performer's own left.
        height: of the sensor above the floor, metres.
        distance: of the sensor from the middle of the room, metres.
    """
    joints = joints @ turn("y", np.deg2rad([180 + heading]))[0].T + (0, -height, distance)
    tilt = np.arctan2(height - 0.9, distance)
    return joints @ turn("x", np.array([-tilt]))[0].T


def _sense(joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a sensor makes of it: noise, joints lost for moments, the second body lost, bodies in any order."""
    frames, bodies, count, _ = joints.shape
    spread = np.full((count, 1), 0.002)
    spread[_LEGS], spread[_HANDS] = 0.004, 0.008
    joints = joints + rng.normal(0, 0.008, (1, bodies, count, 3)) + rng.normal(0, 1, joints.shape) * spread
    for _ in range(rng.poisson(0.8 * bodies)):
        start, length = rng.integers(frames), rng.integers(2, 10)
        joints[start : start + length, rng.integers(bodies), rng.choice(_HANDS + _LEGS)] = np.nan
    if bodies == 2:
        fate = rng.uniform()
        if fate < 0.04:
            return joints[:, :1]
        if fate < 0.2:
            start, length = rng.integers(1, frames), rng.integers(5, frames // 3)
            joints[start : start + length, 1] = np.nan
        if rng.uniform() < 0.5:
            joints = joints[:, ::-1]
    return joints


def write_ntu(
    folder: Path, names: Sequence[str] | None = None, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write clips as NTU ``.skeleton`` files, the whole set (0.6 GB) unless ``names`` are given.

    Args:
        folder: made where it is missing.
        names: of :func:`clip_names`.
        progress: called with (clips done, clips in all).

    Raises:
        ValueError: the set has no clip of a name.
        WriteError: the disk is full, or ``folder`` is a file or cannot be written; names the file.
    """
    names = clip_names() if names is None else names
    for done, name in enumerate(names, start=1):
        ntu_writer.write(make_clip(name), folder / f"{name}.skeleton")
        if progress:
            progress(done, len(names))


def synthesize(out: Path, progress: Callable[[int, int], None] | None = None) -> PrepareReport:
    """Make the store of the whole set, the same as preparing the files of :func:`write_ntu`, but in seconds.

    Args:
        out: the store; one of the same layout and classes is replaced when the new one is complete.
        progress: called with (clips done, clips in all).

    Raises:
        StoreError: ``out`` is not a store or that of another data set, or the disk is full or not writable.
    """
    names = clip_names()
    options = CleanOptions.from_config(load_config(dataset="synthetic").data)
    report = PrepareReport(files=len(names), kept=len(names))
    provenance = {"made by": "last.data.synthetic", "cleaning": asdict(options)}
    with StoreWriter(out, LAYOUT, CLASSES, provenance=provenance) as writer:
        report.replaced = writer.replaced
        for done, name in enumerate(names, start=1):
            clip, counts = clean(make_clip(name), LAYOUT, options)
            assert clip is not None, f"the performer of '{name}' is always seen"
            report.cleaned += counts
            writer.append(clip)
            if progress:
                progress(done, len(names))
        writer.attach("report.json", report.to_dict())
    return report
