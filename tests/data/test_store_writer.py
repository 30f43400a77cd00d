"""The writer keeps out what a store cannot hold, and never leaves half a store."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest

from last.data.clip import Clip
from last.data.store import ClipStore, StoreError
from last.data.store_writer import StoreWriter
from last.skeleton import load_layout

NTU = load_layout("ntu")
CLASSES = ("wave", "kick", "hug")


def make_clip(name: str) -> Clip:
    return Clip(np.random.default_rng(0).normal(size=(4, 1, 25, 3)).astype(np.float32), name, "ntu", label=0)


def write(path: Path, *clips: Clip, dtype: Literal["float32", "float16"] = "float32") -> Path:
    with StoreWriter(path, NTU, CLASSES, dtype=dtype) as writer:
        for clip in clips:
            writer.append(clip)
    return path


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


def test_a_store_is_replaced_only_when_the_new_one_is_complete(tmp_path):
    path = write(tmp_path / "s", make_clip("old"))
    with StoreWriter(path, NTU, CLASSES) as writer:
        writer.append(make_clip("new"))
        assert writer.replaced == 1 and ClipStore.open(path).names() == ["old"]
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


def test_the_store_of_another_data_set_is_not_replaced(tmp_path):
    path = write(tmp_path / "s", make_clip("old"))
    for layout, classes, message in (
        (load_layout("kinect20"), CLASSES, r"another layout \(layout 'ntu', 3 classes, 1 clips\) .*'kinect20'"),
        (replace(NTU, centre=0), CLASSES, "another layout .* replaced; its centre is 'spine_shoulder' there and"),
        (NTU, CLASSES[:2], r"other classes .* than the new one \(layout 'ntu', 2 classes\), so it is not replaced"),
        (NTU, ("wave", "hug", "kick"), "other classes .* replaced; class 1 is 'kick' there and 'hug' here; move it"),
    ):
        with pytest.raises(StoreError, match=message):
            StoreWriter(path, layout, classes)
    assert ClipStore.open(path).names() == ["old"] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 1}', '{"layout": 3}', b"\xff"])
def test_a_store_too_damaged_to_tell_is_replaced(tmp_path, content):
    path = write(tmp_path / "s", make_clip("old"))
    (path / "meta.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with StoreWriter(path, NTU, CLASSES) as writer:
        writer.append(make_clip("new"))
    assert writer.replaced == 0 and ClipStore.open(path).names() == ["new"]


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


def test_stores_are_strung_together_as_if_written_clip_by_clip(tmp_path):
    sure = np.full((4, 1, 25), 0.5, np.float32)
    clips = [
        replace(make_clip("a"), parts=("x/train",)),
        replace(make_clip("b"), parts=("y/test", "x/test"), label=2),
        replace(make_clip("c"), parts=("x/test", "x/train"), confidence=sure),
        make_clip("d"),
    ]
    write(tmp_path / "whole", *clips)
    parts = [ClipStore.open(write(tmp_path / str(i), *clips[i : i + 2])) for i in (0, 2)]
    with StoreWriter(tmp_path / "strung", NTU, CLASSES) as writer:
        for part in parts:
            writer.extend(part)
        assert writer.count == 4
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "strung" / file.name).read_bytes() == file.read_bytes()


def test_a_store_that_does_not_fit_is_not_strung_to_another(tmp_path):
    store = ClipStore.open(write(tmp_path / "s", make_clip("a"), make_clip("b")))
    half = ClipStore.open(write(tmp_path / "half", make_clip("c"), dtype="float16"))
    with StoreWriter(tmp_path / "t", NTU, CLASSES) as writer:
        writer.append(make_clip("b"))
        with pytest.raises(StoreError, match="two clips are named 'b'"):
            writer.extend(store)
        with pytest.raises(StoreError, match="has another layout, other classes or another type"):
            writer.extend(half)
    assert ClipStore.open(tmp_path / "t").names() == ["b"]


def test_more_parts_than_a_store_knows_are_refused(tmp_path):
    with StoreWriter(tmp_path / "s", NTU, CLASSES) as writer:
        writer.append(replace(make_clip("a"), parts=tuple(f"{i}/train" for i in range(32))))
        with pytest.raises(StoreError, match="'32/train' is one part too many; a store knows 32 at most"):
            writer.append(replace(make_clip("b"), parts=("32/train",)))
        writer.append(replace(make_clip("c"), parts=("31/train",)))
    store = ClipStore.open(tmp_path / "s")
    assert store.names() == ["a", "c"] and store.in_part("31/train").tolist() == [True, True]


def test_what_a_killed_process_of_the_same_number_left_is_no_hindrance(tmp_path):
    left = tmp_path / f".s.{os.getpid()}.tmp"
    left.mkdir()
    (left / "joints.npy").touch()
    assert len(ClipStore.open(write(tmp_path / "s", make_clip("a")))) == 1
    assert not left.exists()
