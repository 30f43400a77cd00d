"""The embedded data set: a body moved by joint angles through forward kinematics, as a depth sensor sees it.

Each clip depends on its name alone: its random numbers come from a ``SeedSequence`` of SEED, subject, action,
replication and, for the sensor's faults, camera. So everyone has the same clips, whatever their order and number.
The cameras of one performance see the same movement, as in NTU RGB+D: camera 1 in the middle, 2 and 3 at 45 degrees
to its sides; a subject faces camera 2 in replication 1 and camera 3 in replication 2.

A person's own axes are x to the left, y up, z ahead. Shapes: T frames, M bodies, V joints, D joint angles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from last.data.clean import CleanOptions, clean
from last.data.clip import Clip
from last.data.formats import ntu_writer
from last.data.prepare import PrepareReport
from last.data.store import StoreWriter
from last.data.synthetic_actions import ACTIONS, ANGLES, ARM, INDEX, LEG, STANDING, Action, Move
from last.skeleton import load_layout

SEED = 2024
CLASSES = tuple(action.name for action in ACTIONS)
SUBJECTS = range(1, 21)
CAMERAS = {1: 0.0, 2: 45.0, 3: -45.0}  # degrees about the middle of the room
REPLICATIONS = (1, 2)
# Height of the sensor and its distance from the middle of the room, metres.
SETUPS = ((1.7, 3.5), (1.5, 2.8), (1.4, 3.2), (1.2, 3.0), (1.0, 3.3), (0.8, 3.6), (0.5, 4.0), (1.3, 3.8))
FRAMES = (40, 120)
FRAME_RATE = 30

LAYOUT = load_layout("ntu")

# Metres from a joint's parent to it, for a person of 1.72 m with hanging arms; the right side is mirrored.
_OFFSETS = {
    "spine_mid": (0, 0.29, 0), "spine_shoulder": (0, 0.22, 0),
    "neck": (0, 0.07, 0.01), "head": (0, 0.13, 0.02),
    "left_shoulder": (0.155, -0.03, 0), "left_elbow": (0, -0.27, 0), "left_wrist": (0, -0.24, 0),
    "left_hand": (0, -0.075, 0), "left_thumb": (-0.01, -0.02, 0.04), "left_hand_tip": (0.01, -0.05, -0.03),
    "left_hip": (0.08, -0.05, 0), "left_knee": (0, -0.41, 0), "left_ankle": (0, -0.39, 0),
    "left_foot": (0.01, -0.05, 0.11),
}  # fmt: skip
_ANKLE_HEIGHT, _FOOT_HEIGHT = 0.08, 0.03
_PARENTS_FIRST = np.argsort(LAYOUT.hops_from(LAYOUT.root), kind="stable")[1:]
_JOINT = {name: v for v, name in enumerate(LAYOUT.joints)}
_HANDS = [v for v, name in enumerate(LAYOUT.joints) if name.endswith(("wrist", "hand", "tip", "thumb"))]
_LEGS = [v for v, name in enumerate(LAYOUT.joints) if name.endswith(("knee", "ankle", "foot"))]


@dataclass(frozen=True)
class Person:
    """What of a movement belongs to the person.

    Attributes:
        offsets: from each joint's parent to it in the resting posture, (V, 3) metres.
        scale: height relative to 1.72 m.
        posture: added to every pose, (D,).
        amplitude: how far movements go.
        tempo: how fast they go.
        left_handed: does with the left what others do with the right.
    """

    offsets: np.ndarray
    scale: float
    posture: np.ndarray
    amplitude: float
    tempo: float
    left_handed: bool


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
    return _draw_person(np.random.default_rng((SEED, subject)), left_handed=subject % 3 == 2)


def _draw_person(rng: np.random.Generator, left_handed: bool) -> Person:
    scale, width, trunk, arms, legs = rng.uniform((0.89, 0.9, 0.95, 0.94, 0.94), (1.12, 1.12, 1.05, 1.06, 1.06))
    own = {"spine_mid": trunk, "spine_shoulder": trunk}
    own |= {"left_elbow": arms, "left_wrist": arms, "left_knee": legs, "left_ankle": legs}
    offsets = np.zeros((len(LAYOUT.joints), 3))
    for joint, offset in _OFFSETS.items():
        offsets[_JOINT[joint]] = np.multiply(offset, (scale * width, scale, scale)) * own.get(joint, 1)
    for left, right in LAYOUT.pairs:
        offsets[right] = offsets[left] * (-1, 1, 1)
    posture = np.zeros(len(ANGLES))
    for names, spread in (
        (("bend", "nod"), 5),
        (("lean", "twist"), 3),
        (("_lift", "_elbow", "_roll"), 8),
        (("_knee",), 4),
    ):
        columns = [d for d, name in enumerate(ANGLES) if name.endswith(names)]
        posture[columns] = rng.normal(0, spread, len(columns))
    amplitude, tempo = rng.uniform((0.85, 0.8), (1.08, 1.3))
    return Person(offsets, scale, posture, amplitude, tempo, left_handed)


def perform(action: Action, person: Person, rng: np.random.Generator) -> np.ndarray:
    """One performance, (T, M, V, 3) metres: on the floor y = 0 about the origin, the performer facing z."""
    frames = round(FRAME_RATE * action.seconds / person.tempo * rng.uniform(0.85, 1.18))
    time = np.linspace(0, 1, int(np.clip(frames, *FRAMES)))
    late, slow, warp = rng.uniform((-0.04, 0.92, 0.88), (0.06, 1.04, 1.14))
    progress = np.clip((time - late) / slow, 0, 1) ** warp
    beat = time * rng.uniform(0.85, 1.2) + rng.uniform()

    def body(move: Move, who: Person) -> np.ndarray:
        angles = STANDING + who.amplitude * rng.uniform(0.94, 1.06) * (move(progress, beat) - STANDING)
        joints = forward(angles + who.posture + _sway(time, rng), who.offsets)
        joints = _on_floor(joints, angles[:, INDEX["air"]], who.scale)
        mirrored = who.left_handed if action.side is None else action.side == "right"
        return joints[:, LAYOUT.mirror] * (-1, 1, 1) if mirrored else joints

    bodies = [body(action.move, person)]
    if action.partner:
        # A stranger, so that no build is seen in training and test; of the same hand, so that hands meet.
        partner = _draw_person(rng, person.left_handed)
        gap = action.gap * (person.scale + partner.scale) / 2 + rng.normal(0, 0.03)
        bodies.append(body(action.partner, partner) * (-1, 1, -1) + (0, 0, gap))
    joints = np.stack(bodies, axis=1)
    joints -= joints[:, :, LAYOUT.root].mean(axis=(0, 1)) * (1, 0, 1) + rng.normal(0, 0.12, 3) * (1, 0, 1)
    return joints[::-1] if action.reverse else joints


def forward(angles: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Forward kinematics, (T, V, 3) from the spine's base: rotations composed along the bone tree.

    Args:
        angles: (T, D) degrees, see ``synthetic_actions.ANGLES``.
        offsets: of each joint from its parent in the resting posture, (V, 3).
    """
    radians = dict(zip(ANGLES, np.deg2rad(angles).T, strict=True))
    twist, lean, bend = (radians[name] / 2 for name in ("twist", "lean", "bend"))
    half_trunk = _turn("y", twist) @ _turn("z", -lean) @ _turn("x", bend)
    bends = {"spine_mid": half_trunk, "spine_shoulder": half_trunk, "head": _turn("x", radians["nod"])}
    for side, outwards in (("left", 1), ("right", -1)):
        lift, plane, roll, elbow, hip, spread, knee, ankle = (radians[f"{side}_{name}"] for name in ARM + LEG)
        # Style and sway are added to all angles; a knee or an elbow still bends one way only.
        elbow, knee = np.maximum(elbow, 0), np.maximum(knee, 0)
        bends[f"{side}_elbow"] = (
            _turn("y", outwards * plane) @ _turn("x", -lift) @ _turn("y", outwards * (roll - plane))
        )
        bends[f"{side}_wrist"] = _turn("x", -elbow)
        bends[f"{side}_knee"] = _turn("z", outwards * spread) @ _turn("x", -hip)
        bends[f"{side}_ankle"] = _turn("x", knee)
        bends[f"{side}_foot"] = _turn("x", hip - knee + ankle)  # level, but for the ankle's own angle
    positions = np.zeros((len(angles), *offsets.shape))
    rotations = {LAYOUT.root: np.eye(3)}
    for v in _PARENTS_FIRST:
        parent = LAYOUT.parents[v]
        own = bends.get(LAYOUT.joints[v])
        rotations[v] = rotations[parent] if own is None else rotations[parent] @ own
        positions[:, v] = positions[:, parent] + rotations[v] @ offsets[v]
    return positions


def _turn(axis: str, radians: np.ndarray) -> np.ndarray:
    """Right-handed rotations about x, y or z, (T, 3, 3)."""
    a = "xyz".index(axis)
    b, c = (a + 1) % 3, (a + 2) % 3
    matrices = np.zeros((len(radians), 3, 3))
    matrices[:, a, a] = 1
    matrices[:, b, b] = matrices[:, c, c] = np.cos(radians)
    matrices[:, c, b] = np.sin(radians)
    matrices[:, b, c] = -matrices[:, c, b]
    return matrices


def _sway(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What nobody holds still: a slow wander of each angle by a degree or two, (T, D)."""
    phase, cycles = rng.uniform(0, 2 * np.pi, len(ANGLES)), rng.uniform(0.5, 1.8, len(ANGLES))
    sway = rng.uniform(0.3, 1.6, len(ANGLES)) * np.sin(2 * np.pi * cycles * time[:, None] + phase)
    sway[:, INDEX["air"]] = 0
    return sway


def _on_floor(joints: np.ndarray, air: np.ndarray, scale: float) -> np.ndarray:
    """Carry the body by its feet: the lower one stands still on the floor, and the body moves against it."""
    ankles = joints[:, [_JOINT["left_ankle"], _JOINT["right_ankle"]]]
    toes = joints[:, [_JOINT["left_foot"], _JOINT["right_foot"]]]
    soles = np.minimum(ankles[..., 1] - _ANKLE_HEIGHT * scale, toes[..., 1] - _FOOT_HEIGHT * scale)
    # Within a centimetre the weight passes softly from one foot to the other.
    weight = 1 / (1 + np.exp(np.clip((soles - soles[:, ::-1]) / 0.01, -50, 50)))
    step = -np.diff(ankles, axis=0) * weight[1:, :, None]
    root = np.zeros((len(joints), 3))
    root[1:] = step.sum(axis=1).cumsum(axis=0)
    root[:, 1] = air / 100 - soles.min(axis=1)
    return joints + root[:, None]


def _seen(joints: np.ndarray, heading: float, height: float, distance: float) -> np.ndarray:
    """Into the axes of a sensor that looks down or up at the bodies' middle.

    Args:
        joints: (T, M, V, 3), the performer facing z.
        heading: degrees by which the performer faces past the sensor, to the performer's own left.
        height: of the sensor above the floor, metres.
        distance: of the sensor from the middle of the room, metres.
    """
    joints = joints @ _turn("y", np.deg2rad([180 + heading]))[0].T + (0, -height, distance)
    tilt = np.arctan2(height - 0.9, distance)
    return joints @ _turn("x", np.array([-tilt]))[0].T


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
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = clip_names() if names is None else names
    for done, name in enumerate(names, start=1):
        ntu_writer.write(make_clip(name), folder / f"{name}.skeleton")
        if progress:
            progress(done, len(names))


def synthesize(out: Path, progress: Callable[[int, int], None] | None = None) -> PrepareReport:
    """Make the store of the whole set, the same as preparing the files of :func:`write_ntu`, but in seconds.

    Args:
        out: the store; one that is there already is replaced when the new one is complete.
        progress: called with (clips done, clips in all).

    Raises:
        StoreError: ``out`` is not a store, or the disk is full or not writable.
    """
    names = clip_names()
    report = PrepareReport(files=len(names), kept=len(names))
    with StoreWriter(out, LAYOUT, CLASSES, source="last.data.synthetic") as writer:
        for done, name in enumerate(names, start=1):
            clip, counts = clean(make_clip(name), LAYOUT, CleanOptions())
            assert clip is not None, f"the performer of '{name}' is always seen"
            report.cleaned += counts
            writer.append(clip)
            if progress:
                progress(done, len(names))
        writer.attach("report.json", report.to_dict())
    return report
