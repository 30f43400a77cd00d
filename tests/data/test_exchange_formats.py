"""The field's exchange formats give the clips that were put into them, by code that is not LAST's.

Shapes: N clips, C channels, T frames, V joints, M bodies; a clip here is (T, M, V, C).
"""

import logging
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from samples_exchange import NAMES, NTU_PARENTS, SAMPLES, joints, packed, write_mib, write_pyskl_2d, write_st_gcn

from last.data.clip import UNKNOWN, Clip, FormatError
from last.data.formats import NoSkeletonError, Reading, Source, arrays, ctr_gcn, mib, ntu, pyskl, st_gcn
from last.skeleton import Layout, load_layout

MODULES: dict[str, ModuleType] = {"pyskl": pyskl, "ctr_gcn": ctr_gcn, "st_gcn": st_gcn, "agcn": st_gcn, "mib": mib}
TRAIN_SUBJECTS = {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def every(module: ModuleType, path: Path, reading: Reading | None = None) -> list[Clip]:
    return [module.read(Source(path, clip=name), reading) for name in module.clips(Source(path), reading)]


def save_pickle(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


# What the field's own scripts make of NTU RGB+D; written from their description, and used by nothing but this test.


def as_pyskl(clips: dict[str, np.ndarray], folder: Path, dtype: type = np.float32) -> Path:
    """ntu60_3danno.pkl: one annotation a clip, (M, T, V, C); PYSKL publishes float16."""
    rows = [
        {
            "frame_dir": name,
            "label": int(name[17:]) - 1,
            "keypoint": x.swapaxes(0, 1).astype(dtype),
            "total_frames": len(x),
        }
        for name, x in clips.items()
    ]
    trains = [name for name in clips if int(name[9:12]) in TRAIN_SUBJECTS]
    seen = [name for name in clips if "C001" not in name]
    split = {
        "xsub_train": trains,
        "xsub_val": [name for name in clips if name not in trains],
        "xview_train": seen,
        "xview_val": [name for name in clips if name not in seen],
    }
    return save_pickle(folder / "ntu60_3danno.pkl", {"split": split, "annotations": rows})


def as_ctr_gcn(clips: dict[str, np.ndarray], folder: Path) -> Path:
    """NTU60_CS.npz: 300 frames of 2 x 75 numbers, seen from joint 1 of the first frame; a body alone is the first."""
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for name in clips:
        parts["train" if int(name[9:12]) in TRAIN_SUBJECTS else "test"].append(name)
    content = {}
    for part, names in parts.items():
        content[f"x_{part}"] = np.zeros((len(names), 300, 150), np.float32)
        content[f"y_{part}"] = np.zeros((len(names), 60))
        for i, name in enumerate(names):
            moved = (clips[name] - clips[name][0, 0, 1]).reshape(len(clips[name]), -1)
            content[f"x_{part}"][i, : len(moved), : moved.shape[1]] = moved
            content[f"y_{part}"][i, int(name[17:]) - 1] = 1
    np.savez(folder / "NTU60_CS.npz", **content)
    return folder / "NTU60_CS.npz"


def as_st_gcn(clips: dict[str, np.ndarray], folder: Path, file: str = "train_data.npy") -> Path:
    """train_data.npy and train_label.pkl: 300 frames, zero after the clip's end."""
    np.save(folder / file, packed(list(clips.values()), 300, 2))
    labels = ([f"{name}.skeleton" for name in clips], [int(name[17:]) - 1 for name in clips])
    save_pickle(folder / "train_label.pkl", labels)
    return folder / file


def as_agcn(clips: dict[str, np.ndarray], folder: Path) -> Path:
    """train_data_joint.npy: each clip plays again until 300 frames are full."""
    looped = {name: x[np.arange(300) % len(x)] for name, x in clips.items()}
    return as_st_gcn(looped, folder, "train_data_joint.npy")


def as_mib(clips: dict[str, np.ndarray], folder: Path) -> Path:
    """The original LAST's folder, as its preprocess_v2.py: the last frame held, the labels alone, its own bones."""
    held = packed([x[np.minimum(np.arange(300), len(x) - 1)] for x in clips.values()], 300, 2)
    velocity = np.zeros_like(held)
    velocity[:, :, :-1] = held[:, :, 1:] - held[:, :, :-1]
    parents = list(NTU_PARENTS)
    parents[21], parents[22], parents[23], parents[24] = 7, 6, 11, 10
    for stream, x in (("joint", held), ("velocity", velocity), ("bone", held - held[:, :, :, parents])):
        np.save(folder / f"train_{stream}.npy", x)
    save_pickle(folder / "train_label.pkl", [int(name[17:]) - 1 for name in clips])
    return folder / "train_joint.npy"


@pytest.mark.parametrize(
    ("form", "module", "tolerance"),
    [
        (as_pyskl, pyskl, 0),
        (lambda clips, folder: as_pyskl(clips, folder, np.float16), pyskl, 2e-3),  # half of float16's step at 4 m
        (as_ctr_gcn, ctr_gcn, 1e-6),
        (as_st_gcn, st_gcn, 0),
        (as_agcn, st_gcn, 0),
        (as_mib, mib, 0),
    ],
    ids=["pyskl", "pyskl float16", "ctr_gcn", "st_gcn", "2s-AGCN", "mib"],
)
def test_real_ntu_clips_are_the_same_joints_through_every_format(
    shared_data, tmp_path, form: Callable[..., Path], module: ModuleType, tolerance: float
):
    raw = [ntu.read(path) for path in sorted((shared_data / "ntu_raw").glob("*.skeleton"))]
    found = every(module, form({clip.name: clip.joints for clip in raw}, tmp_path))
    assert len(raw) == len(found) == 10
    if form is as_ctr_gcn:
        raw.sort(key=lambda clip: clip.subject not in TRAIN_SUBJECTS)
    for clip, original in zip(found, raw, strict=True):
        moved = original.joints[0, 0, 1] if form is as_ctr_gcn else np.float32(0)
        assert clip.joints.shape == original.joints.shape and clip.joints.dtype == np.float32
        np.testing.assert_allclose(clip.joints, original.joints - moved, atol=tolerance, rtol=0)
        assert (clip.layout, clip.label) == ("ntu", original.label)
        part = "train" if original.subject in TRAIN_SUBJECTS else "test"
        if form is as_ctr_gcn:
            assert clip.parts == (f"given/{part}",)
        elif form is not as_mib:
            ids = ("name", "subject", "camera", "setup", "replication")
            assert [getattr(clip, key) for key in ids] == [getattr(original, key) for key in ids]
        if module is pyskl:
            assert clip.parts == (f"xsub/{part}", f"xview/{'test' if original.camera == 1 else 'train'}")


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_read_in_files_and_in_zips(tmp_path, rng, name):
    path = SAMPLES[name](tmp_path, rng)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in path.parent.glob("*.np*"):
            archive.write(file, f"folder/{file.name}")
        for file in path.parent.glob("*.pkl"):
            archive.write(file, f"folder/{file.name}")
    module = MODULES[name]
    clips = every(module, path)
    assert clips and all(clip.frames in (3, 4) for clip in clips)
    for clip in clips:
        packed_clip = module.read(Source(tmp_path / "packed.zip", f"folder/{path.name}", clip.name))
        assert np.array_equal(packed_clip.joints, clip.joints, equal_nan=True) and packed_clip.label == clip.label


def test_a_file_is_opened_once_until_it_changes(tmp_path, rng, monkeypatch):
    path = write_st_gcn(tmp_path, rng)
    opened = []
    original = st_gcn.load_npy
    monkeypatch.setattr(st_gcn, "load_npy", lambda source: opened.append(source) or original(source))
    first = every(st_gcn, path)
    assert len(first) == 2 and len(opened) == 1
    assert not arrays.load_npy(Source(path)).flags.owndata
    x = np.load(path)
    np.save(path, np.concatenate([x, x[:1]])[1:])
    assert np.array_equal(every(st_gcn, path)[1].joints, first[0].joints) and len(opened) == 2


# pyskl


def test_pyskl_2d_has_confidences(tmp_path, rng):
    path = write_pyskl_2d(tmp_path, rng)
    written = pickle.loads(path.read_bytes())[0]
    written["keypoint_score"][0, 1, 5] = 1.5
    written["keypoint_score"][0, 2, 7] = written["keypoint"][0, 2, 7] = 0
    clip = pyskl.read(save_pickle(path, [written]))
    assert (clip.name, clip.layout, clip.label, clip.parts) == ("clip", "coco17", 3, ())
    expected = written["keypoint"].swapaxes(0, 1).astype(np.float32)
    expected[2, 0, 7] = np.nan
    np.testing.assert_array_equal(clip.joints, expected)
    scores = written["keypoint_score"].swapaxes(0, 1).astype(np.float32)
    np.testing.assert_array_equal(clip.confidence, np.minimum(scores, 1))


def annotation(**change: object) -> dict[str, object]:
    x = np.random.default_rng(1).normal(size=(2, 3, 25, 3)).astype(np.float32)
    return {"frame_dir": "a", "label": 1, "total_frames": 3, "keypoint": x} | change


def test_pyskl_bodies_of_zeros_are_absent(tmp_path):
    x = annotation()["keypoint"].copy()
    x[1, 1] = 0
    clip = pyskl.read(save_pickle(tmp_path / "x.pkl", [annotation(keypoint=x)]))
    assert np.isnan(clip.joints[1, 1]).all() and np.isnan(clip.joints).sum() == 75
    x[1] = 0
    assert pyskl.read(save_pickle(tmp_path / "y.pkl", [annotation(keypoint=x)])).bodies == 1


def test_pyskl_lists_become_parts(tmp_path):
    split = {"train": ["a"], "test": ["b"], "xset_val": ["a"], "sub_1_test": ["a"], "test2": ["a"], "all": ["a", "b"]}
    rows = [annotation(), annotation(frame_dir="b", label=None), annotation(frame_dir=NAMES[0], label=None)]
    a, b, named = every(pyskl, save_pickle(tmp_path / "x.pkl", {"split": split, "annotations": rows}))
    assert a.parts == ("given/train", "xset/test", "sub_1/test", "split2/test") and b.parts == ("given/test",)
    assert (a.label, b.label) == (1, UNKNOWN)
    assert (named.label, named.setup, named.camera, named.subject, named.replication) == (3, 1, 2, 3, 1)


def test_pyskl_val_is_no_test_where_there_is_one(tmp_path):
    split = {"train": ["a"], "val": ["b"], "test": ["c"], "xsub_val": ["b"], "val2": ["b"], "test2": ["c"]}
    rows = [annotation(frame_dir=name) for name in "abc"]
    clips = every(pyskl, save_pickle(tmp_path / "x.pkl", {"split": split, "annotations": rows}))
    assert [clip.parts for clip in clips] == [("given/train",), ("xsub/test",), ("given/test", "split2/test")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"split": {}}, "no list of annotations"),
        ({"annotations": [3]}, "annotation 0: no dictionary with a name"),
        ([annotation(), {"label": 1}], "annotation 1: no dictionary with a name"),
        (
            {"annotations": [annotation()], "split": {"train": [3]}},
            "list 'train' under 'split' holds what are no names",
        ),
        ([annotation(keypoint=None)], "'a' has NoneType under 'keypoint'"),
        ([annotation(keypoint=np.zeros((3, 25, 3)))], r"float64 \(3, 25, 3\) under 'keypoint'"),
        ([annotation(keypoint=np.array([[[["x"]]]]))], "under 'keypoint'"),
        ([annotation(total_frames=4)], "'total_frames' 4, but 3 frames"),
        ([annotation(label=[1])], "label list"),
        ([annotation(label=-7)], "label -7"),
        ([annotation(keypoint_score=np.zeros((1, 3, 25)))], r"scores of \(3, 1, 25\)"),
        (
            [annotation(keypoint=np.zeros((1, 3, 21, 3)))],
            "21 joints in 3D, expected 25 in 3D .ntu., .* name their layout",
        ),
        ([annotation(keypoint=np.full((1, 3, 25, 3), 1e39))], "frame 0, body 0, joint 0: an infinite"),
        ([{"frame_dir": "a", "raw_file": "a.pkl", "label": 1}], "lies in a file of its own"),
    ],
)
def test_pyskl_says_what_is_wrong(tmp_path, content, message):
    with pytest.raises(FormatError, match=rf"x\.pkl.*{message}"):
        every(pyskl, save_pickle(tmp_path / "x.pkl", content))


def test_nobody_and_no_such_clip_are_told_apart(tmp_path):
    path = save_pickle(tmp_path / "x.pkl", [annotation(keypoint=np.zeros((1, 3, 25, 3)))])
    with pytest.raises(NoSkeletonError, match="clip 'a' shows no body in its 3 frames"):
        pyskl.read(path)
    with pytest.raises(FormatError, match="no clip 'b' in"):
        pyskl.read(Source(path, clip="b"))


# Layouts that are not the field's own.


def test_a_layout_of_ones_own_is_read_where_it_is_named(tmp_path, rng, stick: Layout):
    x = joints(rng, 3, 1, 5)
    reading = Reading(layout=stick)
    path = save_pickle(tmp_path / "x.pkl", [annotation(keypoint=x.swapaxes(0, 1))])
    np.testing.assert_array_equal(pyskl.read(path, reading).joints, x)
    np.savez(tmp_path / "x.npz", x_train=x.reshape(1, 3, 15), y_train=[4])
    clip = ctr_gcn.read(tmp_path / "x.npz", reading)
    np.testing.assert_array_equal(clip.joints, x)
    assert (clip.layout, clip.label, clip.name) == ("stick", 4, "train_000000")
    with pytest.raises(FormatError, match="15 numbers a frame, but layout 'ntu' needs 75"):
        ctr_gcn.read(tmp_path / "x.npz")
    np.save(tmp_path / "val_data.npy", packed([x], 9, 2))
    np.save(tmp_path / "val_label.npy", [2])
    clip = st_gcn.read(tmp_path / "val_data.npy", reading)
    np.testing.assert_array_equal(clip.joints, x)
    assert (clip.name, clip.label, clip.parts) == ("val_000000", 2, ("given/test",))
    with pytest.raises(FormatError, match="5 joints in 3D, but layout 'ntu' has 25 in 3D"):
        st_gcn.read(tmp_path / "val_data.npy", Reading(layout=load_layout("ntu")))


# ctr_gcn


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x_train": np.zeros((1, 2, 150))}, "no 'y_train'"),
        ({"x_train": np.zeros((2, 2, 150)), "y_train": np.zeros((1, 60))}, "shapes"),
        ({"x_train": np.ones((1, 2, 150)), "y_train": np.zeros((1, 60))}, "0 classes in 'y_train'"),
        ({"x_train": np.ones((1, 2, 150)), "y_train": np.ones((1, 60))}, "60 classes in 'y_train'"),
        ({"x_train": np.ones((1, 2, 150)), "y_train": np.array([3.7])}, "label 3.7 in 'y_train'"),
        ({"x_train": np.ones((1, 2, 150)), "y_train": np.array([np.nan])}, "label nan in 'y_train'"),
        ({"x_train": np.zeros((0, 2, 150)), "y_train": np.zeros((0, 60))}, "no clip|shapes"),
        ({"x_train": np.array([{}]), "y_train": np.zeros((1, 60))}, "expected plain"),
        ({"joints": np.zeros(3)}, "no 'x_train' and no 'y_train'"),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ctr_gcn_says_what_is_wrong(tmp_path, save, content, message):
    save(tmp_path / "x.npz", **content)
    with pytest.raises(FormatError, match=rf"x\.npz.*({message})"):
        every(ctr_gcn, tmp_path / "x.npz")


def header(shape: str, descr: str = "<f4") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header("(1000000000000, 300, 150)") + bytes(16), "16 bytes, but its shape .* promises 180000000000000000"),
        (header("(1, 1)"), "0 bytes, but its shape"),
        (header("(4,)") + bytes(17), "17 bytes, but its shape"),
        (header("(" + "9" * 40 + ",)"), "header"),
        (header("(2,)", "|O") + bytes(16), "array of '|O'"),
        (header("(2,)", "|V8") + bytes(16), "expected plain"),
        (header("__import__('os')"), "header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(20), "header promises 4294967295 bytes"),
        (b"PK\x03\x04 is no array", "not an .npy array"),
        (b"", "empty"),
    ],
)
def test_arrays_are_checked_before_they_are_read(tmp_path, content, message):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(FormatError, match=rf"x\.npy.*{message}"):
        arrays.load_npy(Source(tmp_path / "x.npy"))


def test_arrays_are_read_as_numpy_writes_them(tmp_path, rng):
    for i, x in enumerate(
        [rng.normal(size=(3, 4)), np.asfortranarray(rng.normal(size=(3, 4)).astype(">f2")), np.arange(3)]
    ):
        np.save(tmp_path / f"{i}.npy", x)
        found = arrays.load_npy(Source(tmp_path / f"{i}.npy"))
        assert found.dtype == x.dtype and np.array_equal(found, x)


def test_a_zip_bomb_is_refused_before_it_unfolds(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x_train.npy", "w") as file:
            file.write(header("(1, 116666, 150)"))
            for _ in range(70):
                file.write(bytes(1_000_000))
        archive.writestr("y_train.npy", header("(1, 60)") + bytes(240))
    with pytest.raises(FormatError, match=r"unfolds from .* bytes to 70000128, as no skeletons do"):
        ctr_gcn.clips(Source(tmp_path / "x.npz"))


def test_a_member_of_a_zip_that_lies_about_its_size_is_refused(tmp_path, rng):
    content = bytearray(SAMPLES["ctr_gcn"](tmp_path, np.random.default_rng(1)).read_bytes())
    content[content.index(b"PK\x01\x02") + 42] ^= 1  # where the first member lies
    (tmp_path / "y.npz").write_bytes(content)
    with pytest.raises(FormatError, match=r"y\.npz is damaged: x_train\.npy"):
        ctr_gcn.clips(Source(tmp_path / "y.npz"))


# st_gcn


def test_kinetics_skeleton_is_2d_with_confidences_and_y_down(tmp_path, rng):
    x = rng.uniform(0.1, 0.9, (4, 2, 18, 3)).astype(np.float32)
    x[2, 0, 3] = 0
    np.save(tmp_path / "val_data.npy", packed([x], 10, 2))
    save_pickle(tmp_path / "val_label.pkl", (["clip.json"], [5]))
    clip = st_gcn.read(tmp_path / "val_data.npy")
    assert (clip.layout, clip.label, clip.parts) == ("openpose18", 5, ("given/test",))
    expected = x[..., :2] * [1, -1]
    expected[2, 0, 3] = np.nan
    np.testing.assert_array_equal(clip.joints, expected)
    np.testing.assert_array_equal(clip.confidence, x[..., 2])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((["a"], [1]), "2 clips, but .*_label.pkl 1 names and 1 labels"),
        ((["a", "b"], [1]), "2 names and 1 labels"),
        ((["a", 3], [1, 2]), "neither labels nor names"),
        ("text", "neither labels nor names"),
        ((["a", "b"], [1, "x"]), "label str"),
        ((["a", "b"], [1, 2**40]), "label 1099511627776"),
        (None, "train_label.pkl or .npy beside it"),
    ],
)
def test_st_gcn_says_what_is_wrong_with_labels(tmp_path, rng, labels, message):
    path = write_st_gcn(tmp_path, rng)
    if labels is None:
        (tmp_path / "train_label.pkl").unlink()
    else:
        save_pickle(tmp_path / "train_label.pkl", labels)
    with pytest.raises(FormatError, match=message):
        every(st_gcn, path)


def test_a_name_that_repeats_is_listed_again(tmp_path, rng):
    path = write_st_gcn(tmp_path, rng)
    save_pickle(tmp_path / "train_label.pkl", (["a", "a"], [3, 4]))
    assert st_gcn.clips(Source(path)) == ["a", "a"]  # preparing reports the second
    assert st_gcn.read(Source(path, clip="a")).label == 3


def test_bodies_that_play_again_after_their_own_times_keep_all_frames(tmp_path, rng):
    x = joints(rng, 6, 2)
    x[:, 0] = x[[0, 1, 2, 3, 0, 1], 0]
    np.save(tmp_path / "val_data_joint.npy", packed([x], 6, 2))
    save_pickle(tmp_path / "val_label.pkl", (["a"], [0]))
    clip = st_gcn.read(tmp_path / "val_data_joint.npy")
    np.testing.assert_array_equal(clip.joints[:, 1], x[:, 1])
    assert np.isnan(clip.joints[4:, 0]).all() and not np.isnan(clip.joints[:4, 0]).any()


@pytest.mark.parametrize(
    "labels", [[3, 4], (3, 4), np.array([3, 4]), (list("ab"), [3, 4], [9, 9]), (("a", "b"), (3, 4))]
)
def test_labels_come_in_many_forms(tmp_path, rng, labels):
    path = write_st_gcn(tmp_path, rng)
    save_pickle(tmp_path / "train_label.pkl", labels)
    assert [clip.label for clip in every(st_gcn, path)] == [3, 4]


# mib


def test_mib_streams_must_be_the_joints_own(tmp_path, rng):
    path = write_mib(tmp_path, rng)
    assert [clip.frames for clip in every(mib, path)] == [4, 3]
    for stream, joint in (("velocity", "head"), ("bone", "left_knee")):
        x = np.load(tmp_path / f"train_{stream}.npy")
        x[1, 2, 2, load_layout("ntu").joints.index(joint), 0] += 0.01
        np.save(tmp_path / f"train_{stream}.npy", x)
        path.touch()
        with pytest.raises(FormatError, match=rf"'train_000001', frame 2, body 0, joint '{joint}': the {stream} is"):
            every(mib, path)
        (tmp_path / f"train_{stream}.npy").unlink()
    path.touch()
    assert len(every(mib, path)) == 2


def test_mib_bones_of_the_originals_tree_are_told(tmp_path, rng, caplog):
    path = as_mib({NAMES[0]: joints(rng, 5), NAMES[1]: joints(rng, 7)}, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert [clip.frames for clip in every(mib, path)] == [5, 7]
    told = [record.message for record in caplog.records if str(path) in record.message]
    assert len(told) == 1 and "left_hand_tip, left_thumb, right_hand_tip, right_thumb" in told[0]


def test_formats_claim_their_own_files_alone(tmp_path, rng):
    for name in SAMPLES:
        (tmp_path / name).mkdir()
        SAMPLES[name](tmp_path / name, rng)
    labels = Source(tmp_path / "st_gcn" / "train_label.pkl")
    assert not pyskl.claims(labels) and pyskl.claims(Source(next((tmp_path / "pyskl").iterdir())))
    np.savez(tmp_path / "other.npz", joints=np.zeros(3))
    assert not ctr_gcn.claims(Source(tmp_path / "other.npz"))
    assert mib.claims(Source(tmp_path / "mib" / "train_joint.npy"))
    assert not mib.claims(Source(tmp_path / "agcn" / "train_data_joint.npy"))
