"""What a store is exported as, the field's own code and LAST's readers find to be its clips."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from last.data import export as export_module
from last.data.clip import Clip
from last.data.export import EXPORTS, ExportError, export
from last.data.formats import Source, ctr_gcn, mib, ntu, pyskl, st_gcn
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter
from last.files import WriteError
from last.skeleton import load_layout

CLASSES = tuple(f"class {i}" for i in range(60))
FILES = {"pyskl": "x.pkl", "ctr_gcn": "x.npz", "st_gcn": "x", "mib": "x"}
READERS = {
    "pyskl": lambda out: [(pyskl, out)],
    "ctr_gcn": lambda out: [(ctr_gcn, out)],
    "st_gcn": lambda out: [(st_gcn, out / f"{part}_data.npy") for part in ("train", "val")],
    "mib": lambda out: [(mib, out / f"{part}_joint.npy") for part in ("train", "val")],
}


def make_store(path: Path, clips: list[Clip], dtype: str = "float32") -> ClipStore:
    with StoreWriter(path, load_layout(clips[0].layout), CLASSES, dtype=dtype) as writer:
        for clip in clips:
            writer.append(clip)
    return ClipStore.open(path)


@pytest.fixture
def store(tmp_path) -> ClipStore:
    """Six clips of NTU's joints, of one or two bodies and different lengths."""
    rng = np.random.default_rng(0)
    clips = [
        Clip(
            rng.normal(size=(3 + i, 1 + i % 2, 25, 3)).astype(np.float32),
            f"S001C001P{i + 1:03d}R001A{7 * i + 1:03d}",
            "ntu",
            label=7 * i,
            subject=i + 1,
        )
        for i in range(6)
    ]
    return make_store(tmp_path / "store", clips)


def read_back(format_name: str, out: Path) -> list[Clip]:
    return [
        module.read(Source(path, clip=name))
        for module, path in READERS[format_name](out)
        for name in module.clips(Source(path))
    ]


SPLIT = np.array([4, 0, 5]), np.array([1, 2])


@pytest.mark.parametrize("format_name", EXPORTS)
def test_what_is_written_is_read_back(tmp_path, store, format_name):
    out = tmp_path / "new" / FILES[format_name]
    steps = []
    export(store, format_name, out, SPLIT, "xsub", lambda done, total: steps.append((done, total)))
    assert steps == [(i, 5) for i in range(1, 6)]
    order = [0, 1, 2, 4, 5] if format_name == "pyskl" else [4, 0, 5, 1, 2]
    found = read_back(format_name, out)
    assert len(found) == 5 and [path.name for path in out.parent.iterdir()] == [out.name]
    for clip, i in zip(found, order, strict=True):
        np.testing.assert_array_equal(clip.joints, store[i].joints)
        part = "train" if i in SPLIT[0] else "test"
        assert clip.label == store[i].label and clip.parts == (
            f"{'xsub' if format_name == 'pyskl' else 'given'}/{part}",
        )
        if format_name != "ctr_gcn":
            assert (clip.name, clip.subject) == (store[i].name, store[i].subject)


@pytest.mark.parametrize("format_name", EXPORTS)
def test_real_ntu_clips_are_the_same_joints_through_every_export(shared_data, tmp_path, format_name):
    raw = [ntu.read(path) for path in sorted((shared_data / "ntu_raw").glob("*.skeleton"))]
    store = make_store(tmp_path / "store", raw)
    export(store, format_name, tmp_path / FILES[format_name], (np.arange(8), np.arange(8, 10)))
    found = read_back(format_name, tmp_path / FILES[format_name])
    assert len(found) == len(raw) == 10
    for clip, original in zip(found, raw, strict=True):
        np.testing.assert_allclose(clip.joints, original.joints, atol=1e-4, rtol=0)
        assert clip.label == original.label


def test_pyskl_is_a_pickle_as_the_field_reads_it(tmp_path, store):
    export(store, "pyskl", tmp_path / "x.pkl", SPLIT, "xview")
    content = pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert list(content) == ["annotations", "split"]
    names = store.names()
    assert content["split"] == {"xview_train": [names[4], names[0], names[5]], "xview_val": [names[1], names[2]]}
    first = content["annotations"][1]
    assert (first["frame_dir"], first["label"], first["total_frames"]) == (names[1], 7, 4)
    np.testing.assert_array_equal(first["keypoint"], store[1].joints.swapaxes(0, 1))
    assert first["keypoint"].dtype == np.float32 and set(first) == {"frame_dir", "label", "total_frames", "keypoint"}
    # Neither numpy's new names, which its old versions lack, nor a protocol that Python 3.7 lacks.
    assert b"numpy._core" not in (tmp_path / "x.pkl").read_bytes()[:200]
    assert (tmp_path / "x.pkl").read_bytes()[:2] == b"\x80\x03"


def test_arrays_have_the_shapes_of_the_field(tmp_path, store):
    export(store, "ctr_gcn", tmp_path / "x.npz", SPLIT)
    with np.load(tmp_path / "x.npz") as arrays:
        assert {key: (arrays[key].shape, arrays[key].dtype.str) for key in arrays} == {
            "x_train": ((3, 8, 150), "<f4"),
            "y_train": ((3, 60), "<f8"),
            "x_test": ((2, 8, 150), "<f4"),
            "y_test": ((2, 60), "<f8"),
        }
        assert arrays["y_train"].argmax(1).tolist() == [28, 0, 35] and (arrays["y_test"].sum(1) == 1).all()
        assert not arrays["x_train"][1, 3:].any() and not arrays["x_train"][1, :, 75:].any()
    export(store, "st_gcn", tmp_path / "st", SPLIT)
    assert np.load(tmp_path / "st" / "val_data.npy").shape == (2, 3, 8, 25, 2)
    names, labels = pickle.loads((tmp_path / "st" / "val_label.pkl").read_bytes())
    assert names == [store.names()[1], store.names()[2]] and labels == [7, 14]


def test_mib_streams_are_the_joints_differences(tmp_path, store):
    export(store, "mib", tmp_path / "x", SPLIT)
    files = {"train", "val"}, {"joint.npy", "velocity.npy", "bone.npy", "label.pkl"}
    assert {path.name for path in (tmp_path / "x").iterdir()} == {
        f"{part}_{file}" for part in files[0] for file in files[1]
    }
    x, v, b = (np.load(tmp_path / "x" / f"train_{stream}.npy") for stream in ("joint", "velocity", "bone"))
    assert x.shape == v.shape == b.shape == (3, 3, 8, 25, 2)
    np.testing.assert_allclose(v[:, :, :-1], x[:, :, 1:] - x[:, :, :-1], atol=1e-6)
    assert not v[:, :, -1].any() and not b[:, :, :, 0].any()
    np.testing.assert_allclose(b[:, :, :, 21], x[:, :, :, 21] - x[:, :, :, 22], atol=1e-6)  # tip from thumb
    short = 1  # the clip of three frames
    assert (x[short, :, 3:] == x[short, :, 2:3]).all() and not v[short, :, 2:].any()


@pytest.mark.parametrize("format_name", ["pyskl", "st_gcn"])
def test_2d_keeps_its_confidences(tmp_path, format_name):
    rng = np.random.default_rng(0)
    joints = rng.uniform(0.1, 0.9, (4, 1, 18, 2)).astype(np.float32)
    confidence = np.full((4, 1, 18), 1, np.float32)
    confidence[1, 0, 3] = np.nan
    store = make_store(tmp_path / "store", [Clip(joints, "a", "openpose18", 3, confidence=confidence)])
    out = tmp_path / FILES[format_name]
    export(store, format_name, out, (np.array([0]), np.array([], dtype=int)))
    (module, path), *_ = READERS[format_name](out)
    clip = module.read(path)
    seen = ~np.isnan(confidence)
    np.testing.assert_array_equal(clip.joints[seen], joints[seen])
    np.testing.assert_array_equal(clip.confidence, np.nan_to_num(confidence))


def test_a_half_precision_store_makes_a_half_precision_pickle(tmp_path, store):
    half = make_store(tmp_path / "half", [store[0]], "float16")
    export(half, "pyskl", tmp_path / "x.pkl", (np.array([0]), np.array([], dtype=int)))
    assert pickle.loads((tmp_path / "x.pkl").read_bytes())["annotations"][0]["keypoint"].dtype == np.float16


@pytest.mark.parametrize("format_name", EXPORTS)
def test_nothing_is_overwritten_and_nothing_half_written_is_left(tmp_path, store, monkeypatch, format_name):
    out = tmp_path / FILES[format_name]
    out.mkdir()
    with pytest.raises(ExportError, match="exists and is not replaced"):
        export(store, format_name, out, SPLIT)
    out.rmdir()
    before = sorted(tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "_extent" if format_name != "pyskl" else "_array_piece", full)
    with pytest.raises(WriteError, match="No space left on device; nothing was written"):
        export(store, format_name, out, SPLIT)
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_written_is_said(tmp_path, store):
    with pytest.raises(ExportError, match="no format 'matlab' to write, expected one of pyskl, ctr_gcn, st_gcn, mib"):
        export(store, "matlab", tmp_path / "x", SPLIT)
    with pytest.raises(ExportError, match=r"is a file that ends in \.npz"):
        export(store, "ctr_gcn", tmp_path / "x", SPLIT)
    with pytest.raises(ExportError, match="is a folder, without a suffix"):
        export(store, "mib", tmp_path / "x.npy", SPLIT)
