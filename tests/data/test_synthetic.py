import re
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from last.config import load_config
from last.data import synthetic
from last.data.clean import CleanOptions
from last.data.clip import Clip
from last.data.formats import FORMATS
from last.data.prepare import prepare
from last.data.protocols import PROTOCOLS
from last.data.store import ClipStore
from last.data.synthetic import CLASSES, LAYOUT, make_clip, subject_traits
from last.data.synthetic_actions import ACTIONS, ANGLES, INDEX, STANDING, pose
from last.data.synthetic_body import forward
from last.files import WriteError

TWO_PERSONS = [action.name for action in ACTIONS if action.partner]
RIGHT_HANDED, LEFT_HANDED = 1, 2
V = {name: v for v, name in enumerate(LAYOUT.joints)}
BONES = np.array(LAYOUT.bones)


def name_of(class_name: str, subject: int = RIGHT_HANDED, camera: int = 1, replication: int = 1) -> str:
    setup = 1 + (subject - 1) % len(synthetic.SETUPS)
    return f"S{setup:03d}C{camera:03d}P{subject:03d}R{replication:03d}A{CLASSES.index(class_name) + 1:03d}"


def faultless(class_name: str, subject: int = RIGHT_HANDED, **ids: int) -> np.ndarray:
    return make_clip(name_of(class_name, subject, **ids), faults=False).joints


def performed(class_name: str, subject: int = RIGHT_HANDED) -> np.ndarray:
    """A performance on the floor y = 0, the performer facing z."""
    action = ACTIONS[CLASSES.index(class_name)]
    return synthetic.perform(action, subject_traits(subject), np.random.default_rng(5))


def lengths(joints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(joints[..., BONES[:, 0], :] - joints[..., BONES[:, 1], :], axis=-1)


def test_the_set_has_the_promised_clips():
    names = synthetic.clip_names()
    assert len(names) == len(set(names)) == len(CLASSES) * 20 * 3 * 2
    assert names == sorted(names)
    assert all(re.fullmatch(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}", name) for name in names)
    assert len(set(CLASSES)) == 20
    assert len(TWO_PERSONS) == 6
    clip = make_clip("S004C003P012R002A007")
    assert (clip.setup, clip.camera, clip.subject, clip.replication, clip.label) == (4, 3, 12, 2, 6)
    assert clip.layout == "ntu"
    assert clip.joints.dtype == np.float32


@pytest.mark.parametrize("name", ["S001C001P002R001A001", "S001C004P001R001A001", "S001C001P001R001A021", "clip", ""])
def test_other_names_are_refused(name: str):
    with pytest.raises(ValueError, match=f"no clip '{name}'.*clip_names"):
        make_clip(name)


def test_a_clip_depends_on_its_name_alone():
    names = synthetic.clip_names()[::300]
    forwards = [make_clip(name).joints.tobytes() for name in names]
    backwards = [make_clip(name).joints.tobytes() for name in reversed(names)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == len(names)


# Measured when the set was made. If these change, so did the set, and every result on it.
@pytest.mark.parametrize(
    ("name", "shape", "mean"),
    [
        ("S001C001P001R001A001", (66, 1), (0.13059, -0.06076, 3.29556)),
        ("S003C002P011R002A020", (83, 2), (0.01642, 0.04497, 3.43141)),
    ],
)
def test_everyone_has_the_same_clips(name: str, shape: tuple[int, int], mean: tuple[float, ...]):
    joints = make_clip(name).joints
    assert joints.shape[:2] == shape
    assert np.nanmean(joints, axis=(0, 1, 2)) == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize("class_name", CLASSES)
def test_bones_keep_their_lengths(class_name: str):
    measured = lengths(faultless(class_name).astype(np.float64))
    assert np.ptp(measured, axis=0).max() < 1e-5
    assert measured.min() > 0.02


def test_subjects_differ_in_build_tempo_and_hand():
    thighs = {
        round(lengths(faultless("squat", subject))[0, 0, BONES[:, 0] == V["left_knee"]].item(), 4)
        for subject in range(1, 9)
    }
    assert len(thighs) == 8
    assert np.ptp([subject_traits(subject).tempo for subject in synthetic.SUBJECTS]) > 0.3
    assert 0 < sum(subject_traits(subject).left_handed for subject in synthetic.SUBJECTS) < 10


def test_forward_kinematics_by_hand():
    offsets = subject_traits(RIGHT_HANDED).offsets
    still = np.zeros(len(ANGLES))
    aside = still.copy()
    aside[[INDEX["right_lift"], INDEX["right_plane"], INDEX["left_lift"], INDEX["left_knee"]]] = 90
    resting, moved = forward(np.stack([still, aside]), offsets)

    def bone(joints: np.ndarray, end: str) -> np.ndarray:
        vector = joints[V[end]] - joints[LAYOUT.parents[V[end]]]
        return vector / np.linalg.norm(vector)

    assert bone(resting, "right_elbow") == pytest.approx([0, -1, 0])
    assert bone(moved, "right_elbow") == pytest.approx([-1, 0, 0], abs=1e-9)  # to the person's right
    assert bone(moved, "left_wrist") == pytest.approx([0, 0, 1], abs=1e-9)  # ahead
    assert bone(moved, "left_knee") == pytest.approx([0, -1, 0])
    assert bone(moved, "left_ankle") == pytest.approx([0, 0, -1], abs=1e-9)  # a shank folds back
    assert bone(moved, "left_foot") == pytest.approx(bone(resting, "left_foot"))  # and the sole stays level


def test_poses_refuse_angles_that_do_not_exist():
    assert pose(right_elbow=90)[INDEX["right_elbow"]] == 90
    assert pose()[INDEX["right_elbow"]] == STANDING[INDEX["left_elbow"]]
    with pytest.raises(KeyError):
        pose(right_wing=90)


def test_a_person_faces_the_sensor_as_kinect_sees_it():
    # Replication 1 faces camera 2: left at smaller x, up at larger y, toes nearer to the sensor than ankles.
    x, y, z = np.moveaxis(faultless("wave a hand", camera=2, replication=1)[:, 0].mean(axis=0), -1, 0)
    assert x[V["left_shoulder"]] < x[V["right_shoulder"]] - 0.15
    assert y[V["head"]] > y[V["spine_base"]] + 0.4 > y[V["left_foot"]] + 1
    assert z[V["left_foot"]] < z[V["left_ankle"]]
    assert 1 < z.min() < z.max() < 6


def test_cameras_see_the_same_performance():
    one, two = (lengths(faultless("hug the other", camera=camera)) for camera in (1, 2))
    hands = [np.diff(faultless("hug the other", camera=camera)[:, :, V["right_hand"]], axis=0) for camera in (1, 2)]
    assert one == pytest.approx(two, abs=1e-5)
    assert np.linalg.norm(hands[0], axis=-1) == pytest.approx(np.linalg.norm(hands[1], axis=-1), abs=1e-5)
    assert np.abs(hands[0] - hands[1]).max() > 0.01


@pytest.mark.parametrize("subject", [RIGHT_HANDED, LEFT_HANDED])
def test_the_stronger_hand_acts(subject: int):
    rise = np.ptp(performed("raise an arm", subject)[:, 0, :, 1], axis=0)
    strong, weak = ("left_hand", "right_hand") if subject == LEFT_HANDED else ("right_hand", "left_hand")
    assert rise[V[strong]] > 0.9
    assert rise[V[weak]] < 0.15


@pytest.mark.parametrize("subject", [RIGHT_HANDED, LEFT_HANDED])
@pytest.mark.parametrize(
    ("class_name", "joint", "axis", "sign"),
    [
        ("raise an arm", None, 1, 1),
        ("lower an arm", None, 1, -1),
        ("sit down", "spine_base", 1, -1),
        ("stand up", "spine_base", 1, 1),
        ("walk forwards", "spine_base", 2, 1),
        ("walk backwards", "spine_base", 2, -1),
        ("step to the left", "spine_base", 0, 1),
        ("step to the right", "spine_base", 0, -1),
    ],
)
def test_actions_go_where_their_names_say(class_name: str, joint: str | None, axis: int, sign: int, subject: int):
    joint = joint or ("left_hand" if subject == LEFT_HANDED else "right_hand")
    path = performed(class_name, subject)[:, 0, V[joint], axis]
    assert sign * (path[-1] - path[0]) > 0.25


def test_an_arm_that_circles_forwards_comes_down_ahead():
    for class_name, sign in (("circle an arm forwards", 1), ("circle an arm backwards", -1)):
        arm = np.diff(performed(class_name)[:, 0, [V["right_shoulder"], V["right_wrist"]]], axis=1)[:, 0]
        ahead = arm[1:, 2] > 0.2
        assert np.all(sign * np.diff(arm[:, 1])[ahead] < 0)


@pytest.mark.parametrize("class_name", CLASSES)
def test_bodies_stand_on_the_floor_and_do_not_slide(class_name: str):
    joints = performed(class_name)
    soles = joints[:, 0, [V["left_foot"], V["right_foot"]]]
    clearance = soles[..., 1].min(axis=1)
    if class_name == "jump up":
        assert clearance.max() > 0.15
        return
    assert -0.03 < clearance.min() <= clearance.max() < 0.09
    ankles = joints[:, 0, [V["left_ankle"], V["right_ankle"]]]
    slide = np.linalg.norm(np.diff(ankles, axis=0)[..., [0, 2]], axis=-1).min(axis=1)
    assert slide.max() < 0.02


@pytest.mark.parametrize("class_name", ["squat", "sit down", "walk forwards", "kick the other"])
def test_knees_bend_ahead(class_name: str):
    joints = performed(class_name)[:, 0]
    for side in ("left", "right"):
        hip, knee, ankle = (joints[:, V[f"{side}_{part}"]] for part in ("hip", "knee", "ankle"))
        # Turning from the thigh to the shank goes about the axis that points to the person's left.
        assert np.cross(knee - hip, ankle - knee)[:, 0].min() > -1e-6


def test_two_persons_face_each_other_where_the_class_says_so():
    for class_name in CLASSES:
        assert performed(class_name).shape[1] == (2 if class_name in TWO_PERSONS else 1)
    first, second = np.moveaxis(performed("shake hands"), 1, 0)
    assert np.mean(second[:, V["spine_base"], 2] - first[:, V["spine_base"], 2]) > 0.7
    assert (first[:, V["left_shoulder"], 0] > first[:, V["right_shoulder"], 0]).all()
    assert (second[:, V["left_shoulder"], 0] < second[:, V["right_shoulder"], 0]).all()
    hands = np.linalg.norm(first[:, V["right_hand"]] - second[:, V["right_hand"]], axis=-1)
    assert hands.min() < 0.25


def test_the_sensor_loses_joints_and_bodies():
    names = [
        name_of(class_name, subject, camera)
        for class_name in TWO_PERSONS
        for subject in range(1, 21, 2)
        for camera in (1, 2, 3)
    ]
    clips = [make_clip(name) for name in names]
    absent = [np.asarray(np.isnan(clip.joints).all(axis=(2, 3))) for clip in clips]
    without = sum(clip.bodies == 1 for clip in clips)
    partly = sum(bool(frames.any()) for frames in absent)
    assert 0 < without < 0.1 * len(clips)
    assert 0.05 * len(clips) < partly < 0.3 * len(clips)
    assert not any(np.all(frames, axis=1).any() for frames in absent)
    burst = [np.isnan(clip.joints[..., 0]) & ~frames[..., None] for clip, frames in zip(clips, absent, strict=True)]
    assert 0.3 < np.mean([lost.any() for lost in burst]) < 1
    spine = [lost[..., V["spine_base"]].any() for lost in burst]
    assert not any(spine)


def test_noise_is_of_millimetres_to_centimetres():
    name = name_of("squat")
    error = make_clip(name).joints - make_clip(name, faults=False).joints
    rms = np.sqrt(np.nanmean(error**2, axis=(0, 1, 3)))
    assert 0.002 < rms.min() < rms.max() < 0.03


def test_clips_have_their_own_lengths():
    frames = [make_clip(name, faults=False).frames for name in synthetic.clip_names()[::37]]
    assert 40 <= min(frames) < 55
    assert 95 < max(frames) <= 120
    assert len(set(frames)) > 20


def linear_probe(features: np.ndarray, labels: np.ndarray, trains: np.ndarray) -> float:
    """Accuracy of ridge regression onto the classes, on the clips that do not train."""
    features = (features - features[trains].mean(axis=0)) / (features[trains].std(axis=0) + 1e-3)
    features = np.c_[features, np.ones(len(features))]
    seen = features[trains]
    # The dual form: more features than clips are no more work than clips.
    weights = seen.T @ np.linalg.solve(seen @ seen.T + 10 * np.eye(len(seen)), np.eye(len(CLASSES))[labels[trains]])
    return float(((features[~trains] @ weights).argmax(axis=1) == labels[~trains]).mean())


def resampled(clip: Clip, frames: int = 32) -> np.ndarray:
    """Both bodies relative to the first's first root, (frames, 2, V, C); what is missing lies at zero."""
    joints = np.zeros((frames, 2, *clip.joints.shape[2:]))
    chosen = np.linspace(0, clip.frames - 1, frames).round().astype(int)
    joints[:, : clip.bodies] = clip.joints[chosen] - clip.joints[0, 0, LAYOUT.root]
    return np.nan_to_num(joints)


def test_it_takes_motion_to_tell_the_actions():
    unseen = PROTOCOLS["synthetic/unseen"]
    names: Sequence[str] = synthetic.clip_names()
    ids = np.array(
        [tuple(map(int, re.findall(r"\d+", name))) for name in names],
        dtype=[(key, int) for key in ("setup", "camera", "subject", "replication", "label")],
    )
    assert unseen.tests is not None
    table = SimpleNamespace(clips=ids)
    trains, tests = unseen.trains(table), unseen.tests(table)
    clips = np.stack([resampled(make_clip(name)) for name, used in zip(names, trains | tests, strict=True) if used])
    labels, trains = ids["label"][trains | tests] - 1, trains[trains | tests]

    mean = clips.mean(axis=1)
    mean_pose = linear_probe((mean - mean[:, :, :1]).reshape(len(clips), -1), labels, trains)
    over_time = linear_probe(clips.reshape(len(clips), -1), labels, trains)
    assert 0.25 < mean_pose < 0.6
    assert over_time > mean_pose + 0.2


def test_the_store_is_that_of_the_written_files(tmp_path, monkeypatch: pytest.MonkeyPatch):
    names = [name_of(class_name, subject) for class_name in CLASSES[13:] for subject in (4, 5)]
    monkeypatch.setattr(synthetic, "clip_names", lambda: sorted(names))
    done: list[tuple[int, int]] = []
    report = synthetic.synthesize(tmp_path / "store", lambda *count: done.append(count))
    synthetic.write_ntu(tmp_path / "raw", progress=lambda *count: done.append(count))
    options = CleanOptions.from_config(load_config(dataset="synthetic").data)
    prepared = prepare(FORMATS["ntu"], [tmp_path / "raw"], tmp_path / "prepared", LAYOUT, CLASSES, options, workers=1)
    assert done == 2 * [(n, len(names)) for n in range(1, len(names) + 1)]
    assert report.to_dict() == prepared.to_dict()
    assert report.cleaned["joints filled"] > 0
    assert report.replaced == 0 and synthetic.synthesize(tmp_path / "store").replaced == len(names)
    direct, through_files = ClipStore.open(tmp_path / "store"), ClipStore.open(tmp_path / "prepared")
    assert direct.meta["provenance"]["cleaning"] == through_files.meta["provenance"]["cleaning"]
    assert direct.classes == CLASSES
    assert np.array_equal(direct.clips, through_files.clips)
    assert np.array_equal(direct.joints, through_files.joints)


def test_a_file_in_the_place_of_the_folder_is_a_sentence(tmp_path):
    (tmp_path / "raw").write_text("mine")
    name = synthetic.clip_names()[0]
    with pytest.raises(WriteError, match=rf"cannot write .*raw/{name}\.skeleton: .*File exists"):
        synthetic.write_ntu(tmp_path / "raw", [name])
    assert (tmp_path / "raw").read_text() == "mine"
