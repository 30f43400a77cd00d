"""The store keeps every clip exactly, and never half a store."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from last.data.clip import Clip
from last.data.store import CLIP_DTYPE, ClipStore, StoreError, StoreWriter
from last.skeleton import load_layout

NTU = load_layout("ntu")
CLASSES = ("wave", "kick", "hug")


def make_clip(name: str, frames: int = 4, bodies: int = 1, seed: int = 0, label: int = 0) -> Clip:
    joints = np.random.default_rng(seed).normal(size=(frames, bodies, 25, 3)).astype(np.float32)
    return Clip(joints, name, "ntu", label=label, subject=seed + 1, camera=2, setup=3, replication=1)


def write(path: Path, *clips: Clip, dtype: Literal["float32", "float16"] = "float32") -> Path:
    with StoreWriter(path, NTU, CLASSES, dtype=dtype, source="test") as writer:
        for clip in clips:
            writer.append(clip)
    return path


def same(a: Clip, b: Clip) -> bool:
    ids = [(c.name, c.layout, c.label, c.subject, c.camera, c.setup, c.replication) for c in (a, b)]
    return ids[0] == ids[1] and np.array_equal(a.joints, b.joints)


names = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=24),
    min_size=1, max_size=6, unique=True,
)  # fmt: skip


@settings(max_examples=25, deadline=None, derandomize=True)
@given(names=names, sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=6, max_size=6))
def test_what_is_written_is_read(tmp_path_factory, names, sizes):
    clips = [make_clip(n, *size, seed=i, label=i % 3) for i, (n, size) in enumerate(zip(names, sizes, strict=False))]
    store = ClipStore.open(write(tmp_path_factory.mktemp("s") / "store", *clips))
    assert len(store) == len(clips) and store.names() == names
    assert store.layout == NTU and store.classes == CLASSES
    for i, clip in enumerate(clips):
        assert same(store[i], clip)
        assert store.index(clip.name) == i
    assert [c.name for c in store] == names


def test_rows_run_body_by_body(tmp_path):
    clip = make_clip("a", frames=3, bodies=2)
    store = ClipStore.open(write(tmp_path / "s", make_clip("first", frames=5), clip))
    offset = int(store.clips["offset"][1])
    assert offset == 5
    for m in range(2):
        for t in range(3):
            assert np.array_equal(store.joints[offset + m * 3 + t], clip.joints[t, m])


def test_float16_rounds_and_refuses_what_it_cannot_hold(tmp_path):
    clip = make_clip("a")
    store = ClipStore.open(write(tmp_path / "s", clip, dtype="float16"))
    assert store.joints.dtype == np.float16 and store[0].joints.dtype == np.float32
    np.testing.assert_allclose(store[0].joints, clip.joints, rtol=1e-3, atol=1e-6)
    clip.joints[1, 0, 3, 0] = 1e6
    with pytest.raises(StoreError, match=r"float16.*body 0, frame 1, 'head'"):
        write(tmp_path / "t", clip, dtype="float16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 3}, "label 3, but the store .* 3 classes 0 to 2"),
        ({"label": -1}, "label -1"),
        ({"layout": "kinect20"}, "layout 'kinect20'"),
        ({"joints": np.zeros((2, 1, 20, 3), np.float32)}, r"joints of \(20, 3\)"),
        ({"joints": np.full((2, 1, 25, 3), np.nan, np.float32)}, "not finite"),
        ({"joints": np.full((2, 1, 25, 3), np.inf, np.float32)}, "not finite"),
        ({"name": "x" * 97}, "97 bytes"),
        ({"name": "kept"}, "two clips are named 'kept'"),
    ],
)
def test_a_clip_that_does_not_fit_is_refused_and_nothing_is_left(tmp_path, change, message):
    bad = Clip(**{"joints": make_clip("a").joints, "name": "bad", "layout": "ntu", "label": 0} | change)
    with pytest.raises(StoreError, match=message):
        write(tmp_path / "s", make_clip("kept"), bad)
    assert not list(tmp_path.iterdir())


def test_a_store_without_clips_opens(tmp_path):
    store = ClipStore.open(write(tmp_path / "s"))
    assert len(store) == 0 and list(store) == []


def test_a_store_is_replaced_only_when_the_new_one_is_complete(tmp_path):
    path = write(tmp_path / "s", make_clip("old"))
    with StoreWriter(path, NTU, CLASSES) as writer:
        writer.append(make_clip("new"))
        assert ClipStore.open(path).names() == ["old"]
    assert ClipStore.open(path).names() == ["new"]
    with pytest.raises(KeyboardInterrupt), StoreWriter(path, NTU, CLASSES) as writer:
        writer.append(make_clip("newer"))
        raise KeyboardInterrupt
    assert ClipStore.open(path).names() == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["append", "close", "rename"])
def test_a_full_disk_leaves_the_old_store_whole(tmp_path, monkeypatch, moment):
    path = write(tmp_path / "s", make_clip("old"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = StoreWriter(path, NTU, CLASSES)
    if moment == "append":
        monkeypatch.setattr(writer, "_joints", SimpleNamespace(write=full))
        with pytest.raises(StoreError, match="No space left on device; free some space"):
            writer.append(make_clip("new"))
    else:
        writer.append(make_clip("new"))
        monkeypatch.setattr("os.fsync" if moment == "close" else "pathlib.Path.rename", full)
        with pytest.raises(StoreError, match="No space left on device; free some space"):
            writer.close()
    monkeypatch.undo()
    assert ClipStore.open(path).names() == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_only_a_store_or_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").touch()
    with pytest.raises(StoreError, match="is not a store, so it is not replaced"):
        StoreWriter(tmp_path / "thesis", NTU, CLASSES)
    (tmp_path / "empty").mkdir()
    assert len(ClipStore.open(write(tmp_path / "empty", make_clip("a")))) == 1


def test_an_unwritable_place_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write the store .*file/s: Not a directory"):
        StoreWriter(tmp_path / "file" / "s", NTU, CLASSES)


def edit_meta(path: Path, **change: object) -> None:
    file = path / "meta.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def truncate(file: Path, cut: int) -> None:
    file.write_bytes(file.read_bytes()[:-cut])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "meta.json").unlink(), "no store at .*last data prepare"),
        (lambda p: (p / "meta.json").write_text("{"), "not JSON"),
        (lambda p: (p / "meta.json").write_text("[]"), "version None"),
        (lambda p: edit_meta(p, version=7), "version 7, expected 1"),
        (lambda p: edit_meta(p, layout={"name": "x"}), "damaged"),
        (lambda p: edit_meta(p, clips=3), r"clips.npy holds \(2,\)"),
        (lambda p: edit_meta(p, rows=9), r"joints.npy holds \(8, 25, 3\)"),
        (lambda p: truncate(p / "joints.npy", 4), "joints.npy is missing or damaged"),
        (lambda p: truncate(p / "clips.npy", 1), "clips.npy is missing or damaged"),
        (lambda p: (p / "joints.npy").unlink(), "joints.npy is missing"),
        (lambda p: (p / "joints.npy").write_bytes((p / "joints.npy").read_bytes() + b"x"), "1 bytes more"),
        (lambda p: np.save(p / "clips.npy", np.array([{}], dtype=object)), "damaged"),
        (lambda p: np.save(p / "clips.npy", np.zeros(2, CLIP_DTYPE)), "ends at row 0"),
    ],
)
def test_a_damaged_store_is_a_sentence(tmp_path, damage, message):
    path = write(tmp_path / "s", make_clip("a"), make_clip("b"))
    damage(path)
    with pytest.raises(StoreError, match=message):
        ClipStore.open(path)


def test_an_unknown_name_or_index_is_told(tmp_path):
    store = ClipStore.open(write(tmp_path / "s", make_clip("a")))
    with pytest.raises(KeyError, match="no clip 'b'"):
        store.index("b")
    with pytest.raises(IndexError):
        store[1]
    assert same(store[-1], store[0])
