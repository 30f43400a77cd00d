import re

import numpy as np
import pytest

from last.data.clip import Clip
from last.data.convert import STAND_INS, ConversionError, convert, convert_store, correspondence
from last.data.store import ClipStore, StoreError
from last.data.store_writer import StoreWriter
from last.skeleton import Layout, load_layout


def random_clip(name: str, seed: int = 0, **known: object) -> tuple[Clip, Layout]:
    layout = load_layout(name)
    joints = np.random.default_rng(seed).normal(1, 0.3, (5, 2, len(layout.joints), layout.dimensions))
    return Clip(joints.astype(np.float32), f"clip{seed}", name, label=0, **known), layout


def joint(clip: Clip, layout: Layout, name: str) -> np.ndarray:
    return clip.joints[:, :, layout.joints.index(name)]


def test_ntu_to_coco_keeps_what_both_have():
    clip, ntu = random_clip("ntu")
    coco = load_layout("coco17")
    made = convert(clip, ntu, coco)
    assert made.layout == "coco17" and made.joints.shape == (5, 2, 17, 2)
    # Kinect's x grows to the picture's left and its y upwards; pixels grow to the right and downwards.
    for name in ("left_wrist", "right_ankle", "left_shoulder"):
        np.testing.assert_array_equal(joint(made, coco, name), -joint(clip, ntu, name)[..., :2])
    np.testing.assert_array_equal(joint(made, coco, "nose"), -joint(clip, ntu, "head")[..., :2])
    absent = [coco.joints.index(name) for name in ("left_eye", "right_eye", "left_ear", "right_ear")]
    assert np.isnan(made.joints[:, :, absent]).all() and np.isnan(made.confidence[:, :, absent]).all()
    assert (np.delete(made.confidence, absent, axis=2) == 1).all()


def test_openpose_to_coco_is_a_reordering():
    confidence = np.random.default_rng(1).random((5, 2, 18)).astype(np.float32)
    clip, openpose = random_clip("openpose18", confidence=confidence)
    coco = load_layout("coco17")
    made = convert(clip, openpose, coco)
    order = [openpose.joints.index(name) for name in coco.joints]
    np.testing.assert_array_equal(made.joints, clip.joints[:, :, order])
    np.testing.assert_array_equal(made.confidence, confidence[:, :, order])


def test_mediapipe_to_ntu_makes_the_trunk_of_shoulders_and_hips():
    clip, mediapipe = random_clip("mediapipe33")
    ntu = load_layout("ntu")
    made = convert(clip, mediapipe, ntu)
    assert made.confidence is None and np.isfinite(made.joints).all()
    hips = (joint(clip, mediapipe, "left_hip") + joint(clip, mediapipe, "right_hip")) / 2
    turned = hips * (-1, -1, 1)  # half a turn about z: y up again, left still left
    np.testing.assert_allclose(joint(made, ntu, "spine_base"), turned, rtol=1e-6)
    ears = (joint(clip, mediapipe, "left_ear") + joint(clip, mediapipe, "right_ear")) / 2
    np.testing.assert_allclose(joint(made, ntu, "head"), ears * (-1, -1, 1), rtol=1e-6)


def test_mediapipe_to_coco_drops_depth_alone():
    clip, mediapipe = random_clip("mediapipe33")
    coco = load_layout("coco17")
    made = convert(clip, mediapipe, coco)  # y points down in both
    np.testing.assert_array_equal(joint(made, coco, "right_knee"), joint(clip, mediapipe, "right_knee")[..., :2])


def test_handedness_survives_where_y_is_turned():
    """Right of a body is up x forward in both, where forward is from the back of the head to its nose."""
    names = ("head", "nose", "left_ear", "right_ear")
    up = Layout("up", names, (0, 0, 0, 0), 0, 3)
    down = Layout("down", names, (0, 0, 0, 0), 0, 3, y_down=True)
    x = np.array([[0, 0, 0], [0.1, 0.2, -1], [-1, 0, 0.1], [1, 0.3, 0]], np.float32)
    made = convert(Clip(x[None, None], "c", "up", 0), up, down).joints[0, 0]
    assert np.linalg.det(made[1:]) == pytest.approx(np.linalg.det(x[1:])), "a mirror image has the other sign"
    assert (made[:, 1] == -x[:, 1]).all()


def test_a_stand_in_of_a_missing_joint_is_missing():
    clip, ntu = random_clip("ntu", confidence=np.ones((5, 2, 25), np.float32))
    clip.joints[2, 0, ntu.joints.index("head")] = np.nan
    clip.confidence[2, 0, ntu.joints.index("head")] = np.nan
    coco = load_layout("coco17")
    made = convert(clip, ntu, coco)
    assert np.isnan(joint(made, coco, "nose")).any(axis=-1).sum() == 1
    assert np.isnan(made.confidence[2, 0, 0]) and made.confidence[1, 0, 0] == 1


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("coco17", "ntu", "depth cannot be made from pixels"),
        ("ntu", "hand21", "only 0 of the 21 joints"),
    ],
)
def test_what_cannot_be_converted_is_refused(source, target, sentence):
    with pytest.raises(ConversionError, match=sentence):
        correspondence(load_layout(source), load_layout(target))


def test_a_clip_of_another_layout_is_refused():
    clip, _ = random_clip("ntu")
    with pytest.raises(ConversionError, match="25 joints of 3 coordinates, but layout 'kinect20' has 20 of 3"):
        convert(clip, load_layout("kinect20"), load_layout("utd20"))


def test_a_correspondence_is_told_in_lines():
    lines = correspondence(load_layout("ntu"), load_layout("coco17")).lines()
    assert lines == [
        "12 of 17 joints of 'coco17' are joints of 'ntu'",
        "  nose: head",
        "  missing: left_eye, right_eye, left_ear, right_ear",
    ]


def test_no_joint_stands_in_for_one_of_the_other_side():
    for name, choices in STAND_INS.items():
        side = re.match("left_|right_", name)
        for choice in choices:
            sides = {part.split("_")[0] for part in choice} & {"left", "right"}
            assert sides == ({side[0][:-1]} if side else sides) and (side or len(sides) != 1), name


def test_a_store_is_converted_with_all_that_it_knows(tmp_path):
    rules = {"mine": {"train": {"subject": [1]}}}
    clip, ntu = random_clip("ntu", subject=1, camera=2, parts=("given/train",))
    other, _ = random_clip("ntu", seed=1, subject=2, parts=("given/test",))
    with StoreWriter(tmp_path / "a", ntu, ["x"], provenance={"raw": ["r"]}, protocols=rules) as writer:
        writer.append(clip)
        writer.append(other)
    store = ClipStore.open(tmp_path / "a")
    done = []
    found = convert_store(store, load_layout("coco17"), tmp_path / "b", lambda *step: done.append(step))
    made = ClipStore.open(tmp_path / "b")
    assert made.names() == ["clip0", "clip1"] and done == [(1, 2), (2, 2)] and found.target.name == "coco17"
    assert made[0].parts == ("given/train",) and made[0].camera == 2 and made[0].subject == 1
    assert made.meta["protocols"] == rules and made.meta["provenance"] == {"raw": ["r"], "converted_from": "ntu"}
    # An eye that no NTU joint gives lies where its parent, the nose, does; it is marked as a guess.
    coco = made.layout
    np.testing.assert_array_equal(joint(made[0], coco, "left_eye"), joint(made[0], coco, "nose"))
    assert np.isnan(made[0].confidence[:, :, coco.joints.index("left_eye")]).all()
    with pytest.raises(StoreError, match="another place"):
        convert_store(store, load_layout("coco17"), tmp_path / "a")
