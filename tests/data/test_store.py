"""The store gives back every clip exactly, and is not opened when it is damaged."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from last.data.clip import UNKNOWN, Clip
from last.data.store import CLIP_DTYPE, ClipStore, StoreError
from last.data.store_writer import ClipRefusedError, StoreWriter
from last.skeleton import load_layout

NTU = load_layout("ntu")
CLASSES = ("wave", "kick", "hug")


def make_clip(name: str, frames: int = 4, bodies: int = 1, seed: int = 0, label: int = 0) -> Clip:
    joints = np.random.default_rng(seed).normal(size=(frames, bodies, 25, 3)).astype(np.float32)
    return Clip(joints, name, "ntu", label=label, subject=seed + 1, camera=2, setup=3, replication=1)


def write(path: Path, *clips: Clip) -> Path:
    with StoreWriter(path, NTU, CLASSES) as writer:
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


def test_confidences_come_back_and_only_where_there_are_any(tmp_path):
    sure = make_clip("sure")
    confidence = np.linspace(0, 1, 2 * 2 * 25, dtype=np.float32).reshape(2, 2, 25)
    confidence[0, 1, 3] = np.nan
    unsure = replace(make_clip("unsure", 2, 2), confidence=confidence)
    assert ClipStore.open(write(tmp_path / "plain", sure)).confidence is None
    store = ClipStore.open(write(tmp_path / "s", sure, unsure, replace(sure, name="last")))
    assert [clip.confidence is None for clip in store] == [True, False, True]
    np.testing.assert_allclose(store[1].confidence, confidence, atol=0.5 / 254 + 1e-6)
    assert store.confidence is not None
    assert store.confidence[4 + 2 + 0, 3] == 0  # body 1, frame 0: missing, unlike a confidence of zero
    assert store.confidence[4, 0] == 1


def test_parts_come_back(tmp_path):
    clips = [replace(make_clip(name), parts=parts) for name, parts in
             {"a": ("x/train", "y/test"), "b": (), "c": ("y/test", "y/test")}.items()]  # fmt: skip
    store = ClipStore.open(write(tmp_path / "s", *clips))
    assert [clip.parts for clip in store] == [("x/train", "y/test"), (), ("y/test",)]
    assert store.in_part("y/test").tolist() == [True, False, True]
    assert store.in_part("x/test").tolist() == [False, False, False]


def test_a_store_knows_32_parts(tmp_path):
    many = tuple(f"fold{i}/train" for i in range(33))
    store = ClipStore.open(write(tmp_path / "s", replace(make_clip("a"), parts=many[:32])))
    assert store[0].parts == many[:32]
    with pytest.raises(ClipRefusedError, match="one part too many; a store knows 32 at most"):
        write(tmp_path / "t", replace(make_clip("a"), parts=many[:20]), replace(make_clip("b"), parts=many[20:]))


@pytest.mark.parametrize("file", ["joints.npy", "clips.npy", "confidence.npy"])
def test_checksums_tell_a_changed_file(tmp_path, file):
    clip = replace(make_clip("a"), confidence=np.full((4, 1, 25), 0.5, np.float32))
    path = write(tmp_path / "s", clip)
    assert ClipStore.open(path).damaged_files() == []
    content = bytearray((path / file).read_bytes())
    content[-1] ^= 1
    (path / file).write_bytes(content)
    assert ClipStore.open(path).damaged_files() == [file]


def test_a_store_without_clips_opens(tmp_path):
    store = ClipStore.open(write(tmp_path / "s"))
    assert len(store) == 0 and list(store) == []


def edit_meta(path: Path, **change: object) -> None:
    file = path / "meta.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def edit_clip(path: Path, i: int, **change: int) -> None:
    clips = np.load(path / "clips.npy", allow_pickle=False)
    for key, value in change.items():
        clips[key][i] = value
    np.save(path / "clips.npy", clips)


def truncate(file: Path, cut: int) -> None:
    file.write_bytes(file.read_bytes()[:-cut])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "meta.json").unlink(), "no store at .*last data prepare"),
        (lambda p: (p / "meta.json").write_text("{"), "not JSON"),
        (lambda p: (p / "meta.json").write_text("[]"), "version None"),
        (lambda p: edit_meta(p, version=7), "version 7, expected 2"),
        (lambda p: edit_meta(p, layout={"name": "x"}), "damaged"),
        (lambda p: edit_meta(p, protocols=["x"]), r"damaged \(TypeError: 'protocols' is \['x'\]\)"),
        (lambda p: edit_meta(p, provenance=None), "damaged .*'provenance' is None"),
        (lambda p: edit_meta(p, parts="ab"), "damaged .*'parts' is ab"),
        (lambda p: edit_meta(p, parts=[1]), "damaged .*'parts' is .1."),
        (lambda p: edit_meta(p, checksums=["clips.npy"]), "damaged .*'checksums' is"),
        (lambda p: edit_meta(p, rows=float("inf")), "damaged .*OverflowError"),
        (lambda p: edit_meta(p, clips=3), r"clips.npy holds \(2,\)"),
        (lambda p: edit_meta(p, rows=9), r"joints.npy holds \(8, 25, 3\)"),
        (lambda p: truncate(p / "joints.npy", 4), "joints.npy is missing or damaged"),
        (lambda p: truncate(p / "clips.npy", 1), "clips.npy is missing or damaged"),
        (lambda p: (p / "joints.npy").unlink(), "joints.npy is missing"),
        (lambda p: (p / "joints.npy").write_bytes((p / "joints.npy").read_bytes() + b"x"), "1 bytes more"),
        (lambda p: np.save(p / "clips.npy", np.array([{}], dtype=object)), "damaged"),
        (lambda p: np.save(p / "clips.npy", np.zeros(2, CLIP_DTYPE)), "clip 0, '', in .* no frame or no body"),
        (lambda p: edit_clip(p, 1, frames=-4, bodies=-1), "clip 1, 'b', in .*clips.npy has no frame or no body"),
        (lambda p: edit_clip(p, 1, frames=0), r"no body \(offset 4, frames 0, bodies 1, label 0\); prepare"),
        (lambda p: edit_clip(p, 0, frames=9), "clip 0, 'a', in .* ends beyond the 8 rows"),
        (lambda p: edit_clip(p, 1, frames=2**31 - 1, bodies=2**31 - 1), "clip 1, 'b', in .* ends beyond the 8 rows"),
        (lambda p: edit_clip(p, 0, offset=-1), "clip 0, 'a', in .* does not begin where the one before it ends"),
        (lambda p: edit_clip(p, 1, offset=0), r"clip 1, 'b', in .* before it ends \(offset 0,"),
        (lambda p: edit_clip(p, 1, frames=3), "end at row 7, but joints.npy has 8"),
        (lambda p: edit_clip(p, 1, label=3), "clip 1, 'b', in .* has a label outside its 3 classes .*label 3"),
        (lambda p: edit_clip(p, 0, label=UNKNOWN), "clip 0, 'a', in .* has a label outside its 3 classes"),
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
