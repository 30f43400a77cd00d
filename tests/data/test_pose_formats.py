"""Pose estimators' outputs become clips, told apart by content, and what is wrong with them is said in sentences."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples_pose import SAMPLES, write

from last.data.clip import UNKNOWN, FormatError
from last.data.formats import (
    FORMATS,
    NoSkeletonError,
    Reading,
    Source,
    alphapose,
    find_files,
    list_clips,
    mediapipe,
    openpose,
    read_clip,
)
from last.data.formats import detections as detections_module
from last.skeleton import load_layout


def person(x: float, joints: int = 25, score: float = 0.5) -> dict[str, list[float]]:
    """A body whose joint v is at (x + v, 10 v); joint 3 was not found."""
    values = [number for v in range(joints) for number in (x + v, 10 * v, score)]
    values[9:12] = [0, 0, 0]
    return {"pose_keypoints_2d": values}


def frames_of(folder: Path, frames: dict[int, list[object]], name: str = "walk") -> Path:
    folder.mkdir(exist_ok=True)
    for number, people in frames.items():
        write(folder / f"{name}_{number:012d}_keypoints.json", {"version": 1.3, "people": people})
    return folder


@pytest.mark.parametrize("name", SAMPLES)
def test_each_format_is_told_by_content(tmp_path, name):
    (pair,) = list_clips(SAMPLES[name](tmp_path, np.random.default_rng(0)))
    known, source = pair
    assert known.name == name
    clip = known.read(source)
    assert clip.name == source.name and clip.joints.dtype == np.float32
    layout = load_layout(clip.layout)
    assert clip.joints.shape[2:] == (len(layout.joints), layout.dimensions)


def test_openpose_joints_gaps_and_confidences(tmp_path):
    # Frame 5 lists the two persons the other way round, 6 is lost, 7 shows only the second.
    folder = frames_of(
        tmp_path / "f", {4: [person(0), person(500)], 5: [person(501), person(1)], 7: [person(502, score=1.02)]}
    )
    clip = read_clip(folder)
    assert (clip.name, clip.layout, clip.label) == ("walk", "openpose25", UNKNOWN)
    assert clip.joints.shape == (4, 2, 25, 2)
    v = np.arange(25)
    for t, m, x in ((0, 0, 0), (0, 1, 500), (1, 0, 1), (1, 1, 501), (3, 1, 502)):
        expected = np.stack([x + v, 10 * v], axis=-1).astype(float)
        expected[3] = np.nan
        np.testing.assert_array_equal(clip.joints[t, m], expected)
    assert np.isnan(clip.joints[2]).all() and np.isnan(clip.joints[3, 0]).all()
    assert clip.confidence[0, 0, 2] == 0.5 and clip.confidence[0, 0, 3] == 0 and clip.confidence[2].max() == 0
    assert clip.confidence[3, 1, 2] == 1  # a heat map's peak rises a little above


def test_openpose_clips_of_a_folder_and_of_a_zip_are_told_by_name(tmp_path):
    folder = tmp_path / "f"
    frames_of(folder, {0: [person(0, 18)], 1: [person(1, 18)]}, "walk")
    frames_of(folder, {0: [person(0, 18)]}, "S001C001P001R001A001")
    frames_of(folder / "deep", {10: [person(0)]}, "deep.1")
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for file in folder.rglob("*.json"):
            archive.write(file, file.relative_to(folder))
        archive.writestr("000000_keypoints.json", json.dumps({"people": [person(0)]}))
    for path, names in (
        (folder, ["S001C001P001R001A001", "deep.1", "walk"]),
        (tmp_path / "f.zip", ["S001C001P001R001A001", "clip", "deep.1", "walk"]),
    ):
        found, _ = find_files([path], FORMATS["openpose"])
        assert [f.source.name for f in found] == names
        clips = {f.source.name: openpose.read(f.source) for f in found}
        assert [clips[name].name for name in names] == names
        assert clips["walk"].frames == 2 and clips["walk"].layout == "openpose18"
        assert clips["deep.1"].frames == 1 and clips["deep.1"].layout == "openpose25"
    assert len({f.stamp for f in found}) == len(found)
    with pytest.raises(FormatError, match=r"holds frames of S001C001P001R001A001, walk in files .* frames of one clip"):
        openpose.read(folder)
    with pytest.raises(FormatError, match="expected frames of 'gone'"):
        openpose.read(Source(folder, clip="gone"))


def test_frames_without_a_name_are_named_after_their_folder(tmp_path):
    folder = tmp_path / "jump"
    folder.mkdir()
    for number in (9, 10):
        write(folder / f"{number}_keypoints.json", {"people": [person(number)]})
    (folder / "11_keypoints.json").mkdir()
    clip = read_clip(folder / "9_keypoints.json")
    assert clip.name == "jump" and clip.joints[:, 0, 0, 0].tolist() == [9, 10]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({0: [], 3: []}, "shows nobody in its 2 frames"),
        ({0: [{"pose_keypoints_2d": [0] * 75}]}, "shows nobody in its 1 frames"),
        ({0: [{"pose_keypoints_2d": []}]}, "shows nobody"),
        ({0: [person(0)], 1: [person(0, 18)]}, r"0001_keypoints\.json has 18 joints, but other frames have 25"),
        (
            {0: [person(0, 15)]},
            r"has 15 joints, expected 18 \(openpose18\) or 25 \(openpose25\); for others pass --lay",
        ),
        ({0: [person(0), person(0, 18)]}, "person 1: 18 joints, expected 25 as before"),
        ({0: [person(0), {"pose_keypoints_2d": [1, 2]}]}, "person 1: its key points are not a list"),
        ({0: [person(0), {"pose_keypoints_2d": ["x"] * 75}]}, "person 1: its key points are not a list"),
        ({0: [person(1e300)]}, "person 0: its key points are not a list of finite numbers"),
        ({0: [3]}, "person 0: its key points"),
        ({0: [person(0, score=-1)]}, "frame 0: joint 0 has the confidence -1, expected 0 to 1"),
        ({0: [person(0)], 2: [person(0, score=87)]}, "frame 2: joint 0 has the confidence 87, expected 0 to 1"),
        ({0: [person(0)], 10**9: [person(0)]}, "frames from 0 to 1000000000, expected a clip of at most 100000"),
        ({0: [person(x) for x in range(101)]}, "frame 0: more than 100 bodies"),
    ],
)
def test_a_faulty_openpose_folder_is_a_sentence(tmp_path, frames, message):
    folder = frames_of(tmp_path / "f", frames)
    with pytest.raises(FormatError, match=message) as error:
        openpose.read(folder)
    assert str(folder) in str(error.value)


def test_other_openpose_faults_are_sentences(tmp_path):
    with pytest.raises(FormatError, match=r"cannot read .*gone: No such file"):
        openpose.read(tmp_path / "gone")
    with pytest.raises(FormatError, match=r"holds none in files ending in _keypoints\.json"):
        openpose.read(tmp_path)
    folder = frames_of(tmp_path / "f", {1: [person(0)]})
    write(folder / "walk_01_keypoints.json", {"people": []})
    with pytest.raises(FormatError, match="is frame 1 of 'walk', but so is"):
        openpose.read(folder)
    (folder / "walk_01_keypoints.json").write_text('{"people": {}}')
    (folder / "walk_000000000001_keypoints.json").unlink()
    with pytest.raises(FormatError, match=r"walk_01_keypoints\.json has no list of 'people'"):
        openpose.read(folder)


def test_a_clip_has_bounded_room(tmp_path, monkeypatch):
    folder = frames_of(tmp_path / "f", {0: [person(0), person(500)], 9: [person(1)]})
    monkeypatch.setattr(detections_module, "MAX_JOINTS", 499)  # 10 frames of 2 bodies of 25 joints are 500
    with pytest.raises(FormatError, match="10 frames of 2 bodies of 25 joints, expected a product of at most 499"):
        openpose.read(folder)
    monkeypatch.setattr(detections_module, "MAX_JOINTS", 500)
    assert openpose.read(folder).bodies == 2


def test_a_layout_of_ones_own_is_taken(tmp_path, stick):
    folder = frames_of(tmp_path / "f", {0: [person(0, 5)]})
    known = FORMATS["openpose"].with_reading(Reading(layout=replace(stick, dimensions=2)))
    assert known.read(Source(folder)).layout == "stick"
    with pytest.raises(FormatError, match="has 5 joints of 2 coordinates, but layout 'stick' has 5 of 3"):
        openpose.read(folder, Reading(layout=stick))
    with pytest.raises(FormatError, match="has 5 joints of 2 coordinates, but layout 'coco17' has 17 of 2"):
        openpose.read(folder, Reading(layout=load_layout("coco17")))


def kinetics(path: Path, *frames: tuple[object, list[object]], **more: object) -> Path:
    data = [{"frame_index": index, "skeleton": people} for index, people in frames]
    return write(path, {"data": data, "label": "waving", "label_index": 7} | more)


POSE = {"pose": [0.25] * 34 + [0, 0], "score": [0.5] * 17 + [0]}


def test_kinetics_skeleton(tmp_path):
    path = kinetics(tmp_path / "a.json", (1, []), (2, [POSE]), (4, [POSE]), (5, []))
    clip = read_clip(path)
    assert (clip.layout, clip.label, clip.name) == ("openpose18", 7, "a")
    assert clip.joints.shape == (5, 1, 18, 2)
    assert np.isnan(clip.joints[:, 0, 0, 0]).tolist() == [True, False, True, False, True]
    assert (clip.joints[1, 0, :17] == 0.25).all() and np.isnan(clip.joints[1, 0, 17]).all()


@pytest.mark.parametrize(
    ("frames", "more", "message"),
    [
        ([], {}, "shows nobody in its 0 frames"),
        ([(1, [])], {}, "shows nobody in its 1 frames"),
        ([(1, [POSE])], {"label_index": -2}, "has the label_index -2, expected a number from 0"),
        ([(1, [POSE])], {"label_index": True}, "has the label_index True"),
        ([(1, [POSE])], {"data": {}}, "has no list of frames under 'data'"),
        ([(1, [POSE]), (1, [POSE])], {}, "has 2 frames of the frame_index 1"),
        ([(1, [POSE]), (None, [POSE])], {}, "item 1 of 'data' lacks a 'frame_index'"),
        ([(1, [POSE]), (10**12, [POSE])], {}, "item 1 of 'data' lacks a 'frame_index'"),
        ([(1, [POSE]), (2, [{"pose": [0] * 36, "score": [1] * 17}])], {}, "frame 2: its key points are not"),
        ([(1, [{"pose": [0.5] * 34, "score": [1] * 17}])], {}, r"has 17 joints, expected 18 \(openpose18\)"),
    ],
)
def test_a_faulty_kinetics_file_is_a_sentence(tmp_path, frames, more, message):
    path = kinetics(tmp_path / "a.json", *frames, **more)
    with pytest.raises(FormatError, match=message) as error:
        openpose.read_kinetics(path)
    assert str(path) in str(error.value)


def found(image: object, x: float, joints: int = 17, **more: object) -> dict[str, object]:
    values = [number for v in range(joints) for number in (x + v, 10 * v, 0.5)]
    return {"image_id": image, "category_id": 1, "keypoints": values, "score": 3.1} | more


def test_alphapose_goes_by_its_ids(tmp_path):
    # Out of order, and the ids contradict the places.
    items = [found("10.jpg", 500, idx=[[3]]), found("10.jpg", 0, idx=[8.0])]
    items += [found("9.jpg", 500, idx=8), found("9.jpg", 0, idx=3)]
    clip = read_clip(write(tmp_path / "v.json", items))
    assert (clip.layout, clip.name, clip.joints.shape) == ("coco17", "v", (2, 2, 17, 2))
    assert clip.joints[:, :, 0, 0].tolist() == [[500, 0], [0, 500]]
    assert clip.joints[0, 0, 2].tolist() == [502, 20]


def test_alphapose_without_ids_is_tracked(tmp_path):
    items = [found(f"v_{t:03d}.png", x + t, idx=0) for t in (1, 2) for x in ((0, 500) if t == 1 else (500, 0))]
    del items[0]["idx"]
    clip = alphapose.read(write(tmp_path / "alphapose-results.json", items))
    assert clip.joints[:, :, 0, 0].tolist() == [[1, 501], [2, 502]]
    assert clip.name == tmp_path.name  # all results have the same file name


def test_alphapose_run_without_a_tracker_is_tracked(tmp_path):
    # As it writes them then, all ids are zero.
    items = [found(f"{t}.jpg", x + t, idx=[0.0]) for t in (1, 2) for x in ((0, 500) if t == 1 else (500, 0))]
    clip = alphapose.read(write(tmp_path / "v.json", items))
    assert clip.joints[:, :, 0, 0].tolist() == [[1, 501], [2, 502]]
    jump = [found("1.jpg", 0, idx=0), found("2.jpg", 5000, idx=0)]
    assert alphapose.read(write(tmp_path / "w.json", jump)).bodies == 1


def test_alphapose_takes_other_skeletons_by_their_layout(tmp_path, stick):
    path = write(tmp_path / "v.json", [found(0, 0, joints=5), found(1, 1, joints=5)])
    with pytest.raises(FormatError, match=r"has 5 joints, expected 17 \(coco17\); for others pass --layout"):
        alphapose.read(path)
    assert alphapose.read(path, Reading(layout=replace(stick, dimensions=2))).joints.shape == (2, 1, 5, 2)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "holds no body"),
        ({"0.jpg": {"bodies": []}}, "of AlphaPose's outputs only the default one is read"),
        ([found("a.jpg", 0)], r"item 0: image_id is 'a\.jpg', expected such as '12\.jpg'"),
        ([found("1.jpg", 0), 3], "item 1: image_id is None"),
        ([found("a1.jpg", 0), found("b1.jpg", 0)], "images of several videos, 'a1.jpg' and 'b1.jpg'"),
        ([found("1.jpg", 0), found("2.jpg", 0, joints=16)], "item 1: 16 joints, expected 17 as before"),
        ([found("1.jpg", 0), found("2.jpg", 0, keypoints=None)], "item 1: its key points are not a list"),
        ([found("1.jpg", 0, idx=4), found("1.jpg", 9, idx=4)], "frame 1: 2 bodies have the id 4"),
        ([found("1.jpg", 0, idx="x")], "item 0: idx is 'x', expected a body's number"),
        ([found("1.jpg", 0, idx=1e300)], "item 0: idx is 1e.300"),
        ([found("1.jpg", 0), found("999999999.jpg", 0)], "frames from 1 to 999999999"),
        ([found("1.jpg", 0, keypoints=[0] * 51)], "shows nobody"),
    ],
)
def test_a_faulty_alphapose_file_is_a_sentence(tmp_path, items, message):
    path = write(tmp_path / "v.json", items)
    with pytest.raises(FormatError, match=message) as error:
        alphapose.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        [{"clip": "a", "x": 1.0, "y": 2.0}],
        {"clips": [{"name": "a", "joints": [[[0.5, 1.0]]], "label": "wave"}]},
        [[[0.5, 1.0]]],
        [{"x": 1.0, "y": 2.0}],
    ],
)
def test_a_table_in_json_is_nobodys(tmp_path, content):
    source = Source(write(tmp_path / "a.json", content))
    for name in ("nw_ucla", *SAMPLES):
        claims = FORMATS[name].claims
        assert claims is None or not claims(source)


def test_no_content_is_read_as_a_crash(tmp_path):
    """JSON that is well made but means nothing to any reader."""
    deep: object = 1
    for _ in range(900):
        deep = [deep]
    odd = [None, True, 3, 1.5, "x", "\ud800", [], {}, [[]], [{}], [[[]]], [None], [[None]], {"people": [deep]}, deep]
    odd += [{"data": [odd]} for odd in (deep, None, {})] + [{"frames": [odd]} for odd in (deep, 3, {"landmarks": deep})]
    odd += [[{"image_id": 1, "keypoints": value, "idx": value}] for value in (deep, {}, True, "1")]
    for i, content in enumerate(odd):
        path = write(tmp_path / f"a_{i}_keypoints.json", content)
        folder = Source(tmp_path, clip="a")
        for read, source in (
            (openpose.read, folder),
            (openpose.read_kinetics, path),
            (alphapose.read, path),
            (mediapipe.read, path),
        ):
            with pytest.raises(FormatError):
                read(source)
        path.unlink()


def test_nobody_is_told_from_a_fault(tmp_path):
    with pytest.raises(NoSkeletonError):
        openpose.read(frames_of(tmp_path / "f", {0: []}))
    with pytest.raises(NoSkeletonError):
        mediapipe.read(write(tmp_path / "a.json", [[]]))
