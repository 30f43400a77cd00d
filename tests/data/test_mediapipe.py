"""MediaPipe's landmarks become clips in each form that people write them down in."""

import numpy as np
import pytest
from samples_pose import bodies, landmarks, write

from last.data.clip import FormatError
from last.data.formats import Reading, mediapipe, read_clip
from last.skeleton import load_layout

BODY = bodies(np.random.default_rng(0), 33, 3, frames=3, count=2).round(4)  # (3, 2, 33, 3)
ONE = [landmarks(body) for body in BODY[:, 0]]
TWO = [[landmarks(body) for body in people] for people in BODY]
HIPS = BODY[:, :1, 23:25].mean(axis=2, keepdims=True)
CENTRED = [landmarks(body) for body in (BODY - HIPS)[:, 0]]


@pytest.mark.parametrize(
    "content",
    [
        ONE,
        {"frames": ONE, "fps": 30},
        [[frame] for frame in ONE],
        [[[*landmark.values()] for landmark in frame] for frame in ONE],
        [{"pose_landmarks": frame, "pose_world_landmarks": None} for frame in ONE],
        [{"poseLandmarks": frame} for frame in ONE],
        [{"landmarks": [frame]} for frame in ONE],
        [{"pose_landmarks": {"landmark": frame}} for frame in ONE],
        [{"pose_landmarks": [{"landmark": frame}]} for frame in ONE],
    ],
)
def test_mediapipe_image_landmarks_in_the_forms_that_people_write(tmp_path, content):
    clip = mediapipe.read(write(tmp_path / "a.json", content))
    assert clip.layout == "mediapipe33_image"
    np.testing.assert_array_equal(clip.joints, BODY[:, :1, :, :2].astype(np.float32))
    assert (clip.confidence == 0.75).all()


@pytest.mark.parametrize("key", ["pose_world_landmarks", "poseWorldLandmarks", "worldLandmarks"])
def test_mediapipe_world_landmarks_are_preferred(tmp_path, key):
    frames = [{"pose_landmarks": CENTRED[0], key: frame} for frame in ONE]
    path = write(tmp_path / "a.json", [{}, *frames, {key: []}])
    clip = read_clip(path)
    assert clip.layout == "mediapipe33" and clip.joints.shape == (5, 1, 33, 3)
    np.testing.assert_array_equal(clip.joints[1:4], BODY[:, :1].astype(np.float32))
    assert np.isnan(clip.joints[[0, 4]]).all()
    image = mediapipe.read(path, Reading(layout=load_layout("mediapipe33_image")))
    assert image.layout == "mediapipe33_image" and image.joints.shape == (4 + 1, 1, 33, 2)


def test_mediapipe_landmarks_alone_are_metres_where_their_origin_is_between_the_hips(tmp_path):
    clip = read_clip(write(tmp_path / "a.json", [None, *CENTRED]))
    assert clip.layout == "mediapipe33" and clip.joints.shape == (4, 1, 33, 3)
    np.testing.assert_allclose(clip.joints[1:], (BODY - HIPS)[:, :1], atol=1e-4)


def test_mediapipe_persons_are_tracked_and_visibility_is_optional(tmp_path):
    people = [TWO[0], TWO[1][::-1], [TWO[2][1], []]]
    clip = read_clip(write(tmp_path / "a.json", people))
    assert clip.joints.shape == (3, 2, 33, 2)
    np.testing.assert_array_equal(clip.joints[:2], BODY[:2, ..., :2].astype(np.float32))
    np.testing.assert_array_equal(clip.joints[2, 1], BODY[2, 1, :, :2].astype(np.float32))
    assert np.isnan(clip.joints[2, 0]).all()
    bare = [[{name: mark[name] for name in "xyz"} for mark in frame] for frame in ONE]
    assert mediapipe.read(write(tmp_path / "b.json", bare)).confidence is None


def test_mediapipe_takes_hands_by_their_layout(tmp_path):
    path = write(tmp_path / "a.json", [{"landmarks": [frame[:21]]} for frame in ONE])
    with pytest.raises(FormatError, match="frame 0: 21 landmarks, expected 33; for others pass --layout"):
        mediapipe.read(path)
    clip = mediapipe.read(path, Reading(layout=load_layout("hand21")))
    np.testing.assert_array_equal(clip.joints, BODY[:, :1, :21].astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "shows nobody in its 0 frames"),
        ([[], None], "shows nobody in its 2 frames"),
        ({"frame": []}, "has no list of frames"),
        ([{"x": 1}], "frame 0: found no 'pose_landmarks' or 'pose_world_landmarks'"),
        ([ONE[0], {"pose_landmarks": ONE[1]}], "frame 0: found landmarks alone, but frame 1 is an object"),
        (
            [{"pose_landmarks": ONE[0], "pose_world_landmarks": ONE[0]}, {"pose_landmarks": ONE[1]}],
            "frame 1: found 'pose_landmarks' without 'pose_world_landmarks', which other frames have",
        ),
        ([{"landmarks": 3}], "frame 0: found no list of landmarks"),
        ([ONE[0], ONE[1][:32]], "frame 1: 32 landmarks, expected 33"),
        ([ONE[0], [*ONE[1][:32], {"x": 1}]], "frame 1: a landmark lacks a finite number among x, y, z, visibility"),
        ([ONE[0], [*ONE[1][:32], ONE[1][0] | {"x": 1e300}]], "frame 1: a landmark lacks a finite number"),
        ([[*ONE[1][:32], ONE[1][0] | {"visibility": 99}]], "frame 0: joint 32 has the confidence 99"),
        ([[[3, 4]]], "frame 0: 1 landmarks"),
        ([[[]]], "shows nobody"),
    ],
)
def test_a_faulty_mediapipe_file_is_a_sentence(tmp_path, content, message):
    path = write(tmp_path / "a.json", content)
    with pytest.raises(FormatError, match=message) as error:
        mediapipe.read(path)
    assert str(path) in str(error.value)


def test_mediapipe_metres_and_images_are_not_mistaken(tmp_path):
    path = write(tmp_path / "a.json", [{"poseLandmarks": frame} for frame in ONE])
    with pytest.raises(FormatError, match="has landmarks of the layout 'mediapipe33_image', expected 'mediapipe33'"):
        mediapipe.read(path, Reading(layout=load_layout("mediapipe33")))
