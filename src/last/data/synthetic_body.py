"""The body of the embedded data set: its build, and forward kinematics from joint angles to positions.

A person's own axes are x to the left, y up, z ahead. Shapes: T frames, V joints, D joint angles.
"""

from dataclasses import dataclass

import numpy as np

from last.data.synthetic_actions import ANGLES, ARM, INDEX, LEG
from last.skeleton import load_layout

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


def draw_person(rng: np.random.Generator, left_handed: bool) -> Person:
    """A person of random build and style."""
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


def forward(angles: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Forward kinematics, (T, V, 3) from the spine's base: rotations composed along the bone tree.

    Args:
        angles: (T, D) degrees, see ``synthetic_actions.ANGLES``.
        offsets: of each joint from its parent in the resting posture, (V, 3).
    """
    radians = dict(zip(ANGLES, np.deg2rad(angles).T, strict=True))
    twist, lean, bend = (radians[name] / 2 for name in ("twist", "lean", "bend"))
    half_trunk = turn("y", twist) @ turn("z", -lean) @ turn("x", bend)
    bends = {"spine_mid": half_trunk, "spine_shoulder": half_trunk, "head": turn("x", radians["nod"])}
    for side, outwards in (("left", 1), ("right", -1)):
        lift, plane, roll, elbow, hip, spread, knee, ankle = (radians[f"{side}_{name}"] for name in ARM + LEG)
        # Style and sway are added to all angles; a knee or an elbow still bends one way only.
        elbow, knee = np.maximum(elbow, 0), np.maximum(knee, 0)
        bends[f"{side}_elbow"] = turn("y", outwards * plane) @ turn("x", -lift) @ turn("y", outwards * (roll - plane))
        bends[f"{side}_wrist"] = turn("x", -elbow)
        bends[f"{side}_knee"] = turn("z", outwards * spread) @ turn("x", -hip)
        bends[f"{side}_ankle"] = turn("x", knee)
        bends[f"{side}_foot"] = turn("x", hip - knee + ankle)  # level, but for the ankle's own angle
    positions = np.zeros((len(angles), *offsets.shape))
    rotations = {LAYOUT.root: np.eye(3)}
    for v in _PARENTS_FIRST:
        parent = LAYOUT.parents[v]
        own = bends.get(LAYOUT.joints[v])
        rotations[v] = rotations[parent] if own is None else rotations[parent] @ own
        positions[:, v] = positions[:, parent] + rotations[v] @ offsets[v]
    return positions


def turn(axis: str, radians: np.ndarray) -> np.ndarray:
    """Right-handed rotations about x, y or z, (T, 3, 3)."""
    a = "xyz".index(axis)
    b, c = (a + 1) % 3, (a + 2) % 3
    matrices = np.zeros((len(radians), 3, 3))
    matrices[:, a, a] = 1
    matrices[:, b, b] = matrices[:, c, c] = np.cos(radians)
    matrices[:, c, b] = np.sin(radians)
    matrices[:, b, c] = -matrices[:, c, b]
    return matrices


def sway(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What nobody holds still: a slow wander of each angle by a degree or two, (T, D) over the times (T,), 0 to 1."""
    phase, cycles = rng.uniform(0, 2 * np.pi, len(ANGLES)), rng.uniform(0.5, 1.8, len(ANGLES))
    angles = rng.uniform(0.3, 1.6, len(ANGLES)) * np.sin(2 * np.pi * cycles * time[:, None] + phase)
    angles[:, INDEX["air"]] = 0
    return angles


def on_floor(joints: np.ndarray, air: np.ndarray, scale: float) -> np.ndarray:
    """Carry the body by its feet: the lower one stands still on the floor, and the body moves against it.

    Args:
        joints: (T, V, 3) metres from the spine's base.
        air: height of the lower foot above the floor, (T,) centimetres.
        scale: of the person, see :class:`Person`.
    """
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
