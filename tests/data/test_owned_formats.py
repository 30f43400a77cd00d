"""The four small sets as their owners publish them, by hand-made files and by the real ones."""

import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from last.data.clip import FormatError
from last.data.datasets import load_dataset
from last.data.formats import FORMATS, NoSkeletonError, find_files, list_clips, read_clip
from last.data.formats.penn_action import ACTIONS
from last.skeleton import load_layout


def test_utd_mhad_is_read_by_joint_coordinate_and_frame(tmp_path):
    skeleton = np.arange(20 * 3 * 2, dtype=float).reshape(20, 3, 2)
    savemat(tmp_path / "a27_s8_t4_skeleton.mat", {"d_skel": skeleton})
    clip = read_clip(tmp_path / "a27_s8_t4_skeleton.mat")
    assert (clip.name, clip.layout, clip.label, clip.subject, clip.replication) == ("a27_s8_t4", "utd20", 26, 8, 4)
    assert clip.joints.shape == (2, 1, 20, 3)
    assert clip.joints[1, 0, 7].tolist() == [skeleton[7, c, 1] for c in range(3)]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"skel": np.zeros((20, 3, 2))}, "holds no 'd_skel'"),
        ({"d_skel": np.zeros((20, 2, 5))}, r"'d_skel' has the shape \(20, 2, 5\), expected \(20, 3, frames\)"),
        ({"d_skel": "text"}, "'d_skel' holds <U4, expected numbers"),
    ],
)
def test_another_matlab_file_is_a_sentence(tmp_path, content, sentence):
    savemat(tmp_path / "a1_s1_t1_skeleton.mat", content)
    with pytest.raises(FormatError, match=sentence):
        read_clip(tmp_path / "a1_s1_t1_skeleton.mat")


def penn(**change):
    rng = np.random.default_rng(0)
    labels = {"x": rng.random((4, 13)), "y": rng.random((4, 13)), "visibility": np.ones((4, 13)), "train": -1}
    return labels | {"action": "jump_rope"} | change


def test_penn_has_no_confidence_in_what_is_not_visible(tmp_path):
    visibility = np.ones((4, 13))
    visibility[2, 5:7] = 0
    content = penn(visibility=visibility, train=1)
    content["x"][2, 6] = 40  # behind something; joint 5 is out of the picture
    savemat(tmp_path / "0042.mat", content)
    clip = read_clip(tmp_path / "0042.mat")
    assert (clip.name, clip.layout, clip.label, clip.parts) == ("0042", "penn13", 6, ("given/train",))
    assert np.argwhere(np.isnan(clip.joints).any(-1)).tolist() == [[2, 0, 5]]
    assert clip.confidence is not None and np.argwhere(clip.confidence == 0).tolist() == [[2, 0, 5], [2, 0, 6]]
    np.testing.assert_allclose(clip.joints[3, 0, 2], [content["x"][3, 2], content["y"][3, 2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"y": np.ones((4, 12))}, FormatError, r"shapes \(4, 13\), \(4, 12\) and \(4, 13\)"),
        ({"action": "dance"}, FormatError, "of the action 'dance', expected one of baseball_pitch"),
        ({"train": 0}, FormatError, r"'train' is \[0.0\], expected 1 or -1"),
        (
            {"visibility": np.zeros((4, 13)), "x": np.ones((4, 13)), "y": np.ones((4, 13))},
            NoSkeletonError,
            "shows no joint in its 4 frames",
        ),
    ],
)
def test_a_faulty_penn_file_is_a_sentence(tmp_path, change, kind, sentence):
    savemat(tmp_path / "0001.mat", penn(**change))
    with pytest.raises(kind, match=sentence):
        read_clip(tmp_path / "0001.mat")


def sbu_line(t, values):
    return ",".join(map(str, [t, *values]))


def write_sbu(folder: Path, *lines: str) -> Path:
    file = folder / "s03s06" / "08" / "002" / "skeleton_pos.txt"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n")
    return file


def test_sbu_is_put_back_into_metres(tmp_path):
    values = np.full(90, 1e-9)
    values[:3] = 0.25, 0.5, 1.5  # person 1, head
    values[45:48] = 0.5, 0.75, 2.0  # person 2, head
    clip = read_clip(write_sbu(tmp_path, sbu_line(1, values), sbu_line(2, values)))
    assert (clip.name, clip.layout, clip.label, clip.subject, clip.replication) == ("s03s06_08_002", "sbu15", 7, 306, 2)
    assert clip.joints.shape == (2, 2, 15, 3)
    np.testing.assert_allclose(clip.joints[0, 0, 0], [0.64, 0.0, 1.92], atol=1e-5)
    np.testing.assert_allclose(clip.joints[1, 1, 0], [0.0, -0.48, 2.56], atol=1e-5)


def test_a_short_line_of_sbu_names_file_and_line(tmp_path):
    file = write_sbu(tmp_path, sbu_line(1, np.ones(90)), sbu_line(2, np.ones(89)))
    with pytest.raises(FormatError, match=r"line 2: found '2,1.0,1.0.*, expected 91 finite numbers"):
        read_clip(file)


def test_clips_of_the_same_file_name_are_told_apart_by_their_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "sbu.zip", "w") as archive:
        for place in ("s01s02/01/001", "s01s02/01/002"):
            archive.writestr(f"sbu/{place}/skeleton_pos.txt", sbu_line(1, np.ones(90)))
    assert [source.name for _, source in list_clips(tmp_path / "sbu.zip")] == ["s01s02_01_001", "s01s02_01_002"]


@pytest.mark.parametrize(("suffix", "layout"), [("skeleton3D", "msr20"), ("skeleton", "msr20_screen")])
def test_msr_is_read_by_frame_joint_and_coordinate(tmp_path, suffix, layout):
    rows = np.arange(2 * 20 * 4, dtype=float).reshape(40, 4) + 1
    rows[:, 3] = np.tile([0.25, 1], 20)
    rows[21, :3] = 0
    file = tmp_path / f"a20_s10_e03_{suffix}.txt"
    file.write_text("".join(" ".join(map(str, row)) + "\r\n" for row in rows))
    clip = read_clip(file)
    assert (clip.name, clip.layout, clip.label, clip.subject, clip.replication) == ("a20_s10_e03", layout, 19, 10, 3)
    assert clip.joints[1, 0, 4].tolist() == rows[24, :3].tolist()
    assert clip.confidence is not None and clip.confidence[0, 0, :2].tolist() == [0.25, 1]
    assert np.argwhere(np.isnan(clip.joints).any(-1)).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(
    ("lines", "kind", "sentence"),
    [
        (["1 2 3 1"] * 39, FormatError, "has 39 lines, expected 20 a frame; its last frame has 19"),
        (["1 2 3 1"] * 19 + ["1 2 x 1"], FormatError, "line 20: found '1 2 x 1', expected 4 finite numbers"),
        (["1 2 3 inf"] * 20, FormatError, "line 1"),
        (["0 0 0 0"] * 20, NoSkeletonError, "shows no joint in its 1 frames"),
    ],
)
def test_a_faulty_msr_file_is_a_sentence(tmp_path, lines, kind, sentence):
    (tmp_path / "a01_s01_e01_skeleton3D.txt").write_text("\n".join(lines))
    with pytest.raises(kind, match=sentence):
        read_clip(tmp_path / "a01_s01_e01_skeleton3D.txt")


def test_every_packaged_set_has_what_its_configuration_names():
    for name in ("utd_mhad", "sbu", "msr_action3d", "penn_action"):
        dataset = load_dataset(name)
        assert dataset.layout == load_layout(dataset.format.layout)
        assert dataset.protocols and dataset.obtain
    assert [name.replace(" ", "_").replace("-", "") for name in load_dataset("penn_action").classes] == list(ACTIONS)


@pytest.mark.parametrize(
    ("name", "archive", "count", "frames"),
    [
        ("utd_mhad", "utd_mhad_skeleton.zip", 861, (41, 125)),
        ("sbu", "sbu.zip", 282, (10, 46)),
        ("msr_action3d", "msr_action3d_real3d.zip", 567, None),
        ("penn_action", "penn_action_labels.zip", 2326, (18, 663)),
    ],
)
def test_the_real_archives_are_read_whole(shared_data, name, archive, count, frames):
    found, unlisted = find_files([shared_data / archive], FORMATS[name])
    assert len(found) == count and not unlisted
    clips, nobody = [], []
    for file in found:
        try:
            clips.append(FORMATS[name].read(file.source))
        except NoSkeletonError:
            nobody.append(file.source.name)
    assert nobody == {"msr_action3d": ["a13_s09_e02"]}.get(name, [])
    assert {clip.label for clip in clips} == set(range(len(load_dataset(name).classes)))
    if frames:
        assert (min(clip.frames for clip in clips), max(clip.frames for clip in clips)) == frames
    subjects = Counter(clip.subject for clip in clips)
    assert len(subjects) == {"utd_mhad": 8, "sbu": 21, "msr_action3d": 10, "penn_action": 1}[name]
    if name == "penn_action":
        assert Counter(clip.parts for clip in clips) == {("given/train",): 1258, ("given/test",): 1068}


def test_the_authors_normalisation_of_sbu_is_undone(shared_data):
    layout = load_layout("sbu15")
    change = []
    with zipfile.ZipFile(shared_data / "sbu.zip") as archive:
        for name in [name for name in archive.namelist() if name.endswith(".txt")][:40]:
            raw = np.loadtxt(io.BytesIO(archive.read(name)), delimiter=",", usecols=range(1, 91)).reshape(-1, 2, 15, 3)
            clip = FORMATS["sbu"].read(FORMATS["sbu"].source(shared_data / "sbu.zip", name))
            variation = []
            for joints in (raw, clip.joints):
                bones = np.stack([np.linalg.norm(joints[:, :, v] - joints[:, :, p], axis=-1) for v, p in layout.bones])
                variation.append((bones.std(1) / bones.mean(1)).mean())
            change.append(variation[1] / variation[0])
            height = np.nanmax(clip.joints[..., 1], (0, 2)) - np.nanmin(clip.joints[..., 1], (0, 2))
            assert ((height > 1.0) & (height < 2.3)).all()
    assert np.mean(change) < 0.6  # bones keep their lengths about twice as well
