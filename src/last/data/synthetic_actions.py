"""The actions of the synthetic set, written as joint angles over time for a right-handed person.

Many come in pairs that share every pose and differ in motion alone: one is the other reversed in time or mirrored,
or swings the same limb about another axis. Shapes: T frames, D joint angles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

# In degrees. The trunk bends forwards, leans and twists to the left. An arm is lifted in a vertical plane (0 ahead,
# 90 to its own side) and rolls outwards about itself; a thigh is lifted ahead by the hip and spread to its side.
# Only "air", how high a jump has gone, is in centimetres.
ARM = ("lift", "plane", "roll", "elbow")
LEG = ("hip", "spread", "knee", "ankle")
ANGLES = (
    *("bend", "lean", "twist", "nod"),
    *(f"{side}_{name}" for side in ("left", "right") for name in ARM + LEG),
    "air",
)
INDEX = {name: d for d, name in enumerate(ANGLES)}

Move = Callable[[np.ndarray, np.ndarray], np.ndarray]


def pose(**degrees: float) -> np.ndarray:
    """A posture, (D,): standing at ease, but for the named angles."""
    resting = {"lift": 9.0, "plane": 80.0, "elbow": 14.0, "hip": 3.0, "knee": 6.0}
    values = np.array([resting.get(name.split("_")[-1], 0.0) for name in ANGLES])
    for name, value in degrees.items():
        values[INDEX[name]] = value
    return values


def both(**degrees: float) -> dict[str, float]:
    """The same angles for the left and the right limb."""
    return {f"{side}_{name}": value for name, value in degrees.items() for side in ("left", "right")}


STANDING = pose()


def ease(t: np.ndarray, start: float, end: float) -> np.ndarray:
    """From 0 before ``start`` to 1 after ``end``, with the smooth speed of a human reach (minimum jerk)."""
    s = np.clip((t - start) / (end - start), 0, 1)
    return s**3 * (10 - 15 * s + 6 * s**2)


def through(t: np.ndarray, *keys: tuple[float, np.ndarray]) -> np.ndarray:
    """Pass from posture to posture, each reached at its time; the first and the last are held, (T, D)."""
    angles = np.repeat(keys[0][1][None], len(t), axis=0)
    for (start, before), (end, after) in pairwise(keys):
        angles += ease(t, start, end)[:, None] * (after - before)
    return angles


def swing(cycles: float, beat: np.ndarray) -> np.ndarray:
    """A sine of so many cycles in a clip of usual pace, (T,)."""
    return np.sin(2 * np.pi * cycles * beat)


def gait(angles: np.ndarray, phase: np.ndarray, amount: np.ndarray | float = 1.0) -> np.ndarray:
    """Add the legs and arms of walking, a stride for each 2 pi of ``phase``, forwards where it grows."""
    for side, offset in (("left", 0.0), ("right", np.pi)):
        leg = phase + offset
        angles[:, INDEX[f"{side}_hip"]] += amount * (5 + 19 * np.sin(leg))
        angles[:, INDEX[f"{side}_knee"]] += amount * 50 * np.clip(np.cos(leg + 0.3), 0, None) ** 2
        angles[:, INDEX[f"{side}_lift"]] -= amount * 20 * np.sin(leg)
        angles[:, INDEX[f"{side}_plane"]] -= amount * 70
    return angles


def stand(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Stand at ease."""
    return through(t, (0.0, STANDING))


def raise_arm(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Lift one arm over the head and keep it there."""
    return through(t, (0.2, STANDING), (0.8, pose(right_lift=160, right_plane=45, right_elbow=12)))


def sit_down(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Sit down on a chair."""
    leaning = pose(bend=38, nod=-15, **both(hip=55, knee=60, lift=35, plane=10, elbow=20))
    sitting = pose(bend=4, **both(hip=86, knee=86, lift=28, plane=10, elbow=48))
    return through(t, (0.15, STANDING), (0.5, leaning), (0.85, sitting))


_FOREARM_UP = pose(right_lift=82, right_plane=72, right_roll=85, right_elbow=75)


def _forearm_up(t: np.ndarray) -> np.ndarray:
    return through(t, (0.0, STANDING), (0.2, _FOREARM_UP), (0.82, _FOREARM_UP), (1.0, STANDING))


def _while_held(t: np.ndarray) -> np.ndarray:
    return ease(t, 0.1, 0.25) - ease(t, 0.78, 0.92)


def wave(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Wave a hand from side to side, beside the head."""
    angles = _forearm_up(t)
    angles[:, INDEX["right_elbow"]] += 32 * _while_held(t) * swing(3, beat)
    return angles


def knock(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Knock at a door: the forearm of a wave, swung to the front and back."""
    angles = _forearm_up(t)
    angles[:, INDEX["right_roll"]] += 32 * _while_held(t) * swing(5, beat)
    return angles


def circle_arm(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Turn a stretched arm in full circles: ahead, up, behind, down."""
    angles = through(t, (0.0, pose(right_plane=12, right_elbow=8)))
    angles[:, INDEX["right_lift"]] = 360 * 2.5 * beat
    return angles


def walk(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Walk ahead."""
    return gait(stand(t, beat), 2 * np.pi * 2.2 * beat)


def step_left(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Two steps to the left: the left foot away, the right foot after it."""
    angles = stand(t, beat)
    progress = 2 * np.clip((t - 0.08) / 0.84, 0, 1)
    for side, sign in (("left", 1), ("right", -1)):
        lifted = np.clip(sign * np.sin(2 * np.pi * progress), 0, None)
        angles[:, INDEX[f"{side}_spread"]] += 15 * np.sin(np.pi * progress) ** 2
        angles[:, INDEX[f"{side}_hip"]] += 22 * lifted
        angles[:, INDEX[f"{side}_knee"]] += 42 * lifted
    return angles


def jump(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Crouch, jump straight up with swinging arms, and land."""
    crouch = pose(bend=32, nod=-12, **both(hip=62, knee=78, lift=-35, plane=5, elbow=20))
    stretched = pose(**both(hip=0, knee=2, lift=120, plane=12, elbow=25, ankle=35))
    landing = pose(bend=22, **both(hip=45, knee=60, lift=45, plane=20, elbow=40))
    angles = through(
        t,
        (0.1, STANDING),
        (0.35, crouch),
        (0.46, stretched),
        (0.58, stretched),
        (0.74, landing),
        (0.95, STANDING),
    )
    flight = np.clip((t - 0.43) / 0.22, 0, 1)
    angles[:, INDEX["air"]] = 4 * 26 * flight * (1 - flight)
    return angles


def squat(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Bend the knees, arms stretched ahead, and rise again."""
    low = pose(bend=30, nod=-12, **both(hip=95, knee=112, lift=80, plane=10, elbow=12))
    return through(t, (0.08, STANDING), (0.46, low), (0.54, low), (0.92, STANDING))


_HAND_AHEAD = pose(bend=4, right_lift=42, right_plane=-18, right_roll=-18, right_elbow=40)


def shake_hands(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Reach out and shake the other's hand up and down."""
    angles = through(t, (0.05, STANDING), (0.25, _HAND_AHEAD), (0.78, _HAND_AHEAD), (0.95, STANDING))
    angles[:, INDEX["right_elbow"]] += 15 * _while_held(t) * swing(4.5, beat)
    return angles


def give(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Take an object from the chest, hold it out, and lower the empty hand."""
    holding = pose(right_lift=15, right_plane=0, right_roll=-25, right_elbow=105)
    return through(t, (0.0, holding), (0.1, holding), (0.4, _HAND_AHEAD), (0.55, _HAND_AHEAD), (0.85, STANDING))


def receive(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Reach for an object that is held out, and take it to the chest."""
    holding = pose(right_lift=15, right_plane=0, right_roll=-25, right_elbow=105)
    return through(t, (0.2, STANDING), (0.45, _HAND_AHEAD), (0.55, _HAND_AHEAD), (0.9, holding))


def push(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Push the other away with both hands."""
    ready = pose(**both(lift=18, plane=15, elbow=125, roll=0))
    stretched = pose(bend=14, right_hip=22, right_knee=24, left_hip=-12, **both(lift=80, plane=4, elbow=10))
    return through(
        t,
        (0.05, STANDING),
        (0.3, ready),
        (0.36, ready),
        (0.62, stretched),
        (0.72, stretched),
        (0.98, STANDING),
    )


def step_back(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Be moved two steps back."""
    done = np.clip((t - 0.42) / 0.4, 0, 1)
    angles = through(t, (0.38, STANDING), (0.55, pose(bend=8, nod=8)), (0.9, STANDING))
    return gait(angles, -2 * np.pi * done, np.sin(np.pi * done))


def kick(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Kick ahead with one foot."""
    back = pose(right_hip=-22, right_knee=70, left_knee=12, left_hip=8, left_lift=35, left_plane=20)
    ahead = pose(bend=-10, right_hip=72, right_knee=14, left_knee=12, right_ankle=-35, right_lift=30, left_lift=25)
    return through(t, (0.1, STANDING), (0.34, back), (0.5, ahead), (0.55, ahead), (0.85, STANDING))


def be_kicked(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Double up over the place that was hit."""
    hurt = pose(bend=40, nod=10, **both(hip=18, knee=26, lift=25, plane=5, roll=-40, elbow=95))
    return through(t, (0.46, STANDING), (0.66, hurt), (0.85, hurt), (1.0, STANDING))


def hug(t: np.ndarray, beat: np.ndarray) -> np.ndarray:
    """Put both arms around the other."""
    around = pose(bend=8, **both(lift=72, plane=28, roll=-62, elbow=70))
    return through(t, (0.08, STANDING), (0.42, around), (0.72, around), (0.98, STANDING))


@dataclass(frozen=True)
class Action:
    """One class of the set.

    Attributes:
        name: in plain words.
        seconds: usual duration.
        move: what the performer does: from progress (T,), 0 to 1, and beat (T,), the same at the person's own pace
            and from any phase, to joint angles (T, D).
        partner: what the second person does, or None where there is none.
        gap: metres between two persons as they start.
        reverse: played backwards.
        side: to which the action goes, as its move is written or mirrored; None: left-handed persons mirror it.
    """

    name: str
    seconds: float
    move: Move
    partner: Move | None = None
    gap: float = 0.0
    reverse: bool = False
    side: Literal["left", "right"] | None = None


ACTIONS = (
    Action("raise an arm", 2.0, raise_arm),
    Action("lower an arm", 2.0, raise_arm, reverse=True),
    Action("sit down", 2.3, sit_down),
    Action("stand up", 2.3, sit_down, reverse=True),
    Action("wave a hand", 2.6, wave),
    Action("knock at a door", 2.6, knock),
    Action("circle an arm backwards", 2.6, circle_arm),
    Action("circle an arm forwards", 2.6, circle_arm, reverse=True),
    Action("walk forwards", 2.4, walk),
    Action("walk backwards", 2.4, walk, reverse=True),
    Action("step to the left", 2.6, step_left, side="left"),
    Action("step to the right", 2.6, step_left, side="right"),
    Action("jump up", 2.0, jump),
    Action("squat", 2.8, squat),
    Action("shake hands", 3.0, shake_hands, shake_hands, gap=0.98),
    Action("hand over an object", 3.0, give, receive, gap=1.02),
    Action("push the other away", 2.2, push, step_back, gap=0.72),
    Action("pull the other near", 2.2, push, step_back, gap=0.72, reverse=True),
    Action("kick the other", 2.0, kick, be_kicked, gap=1.0),
    Action("hug the other", 3.0, hug, hug, gap=0.5),
)
