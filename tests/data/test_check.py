"""Every kind of fault is found, at once, with a count and an example; a sound set has none."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from last.data.check import Finding, check
from last.data.clip import Clip
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter
from last.skeleton import load_layout

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data is not at {DATA}")


def moving(seed: int, frames: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, 1, 25, 3)).astype(np.float32)


def write(path: Path, *joints: np.ndarray, classes: int = 1) -> Path:
    with StoreWriter(path, load_layout("ntu"), [f"class{i}" for i in range(classes)]) as writer:
        for i, x in enumerate(joints):
            writer.append(Clip(x, f"clip{i}", "ntu", label=0))
    return path


def test_a_sound_store_has_no_findings(tmp_path):
    done = []
    assert check(write(tmp_path / "s", moving(0), moving(1)), lambda *d: done.append(d)) == []
    assert done == [(1, 2), (2, 2)]


def test_every_fault_of_a_store_is_found_at_once(tmp_path):
    zero, frozen, pixels = moving(1), moving(2), moving(3) * 400
    zero[1, 0, 3] = 0
    frozen[:, 0, 5] = frozen[0, 0, 5]
    path = write(tmp_path / "s", moving(0), moving(0), moving(0), zero, frozen, pixels, moving(4, frames=1), classes=3)
    warnings = {finding.message: (finding.count, finding.example) for finding in check(path)}
    assert warnings == {
        "classes have no clip": (2, "'class1'"),
        "clips have the same joints as another": (2, "clip1 and clip0"),
        "clips have joints that are all zero": (1, "clip3"),
        "clips have joints that never move": (1, "clip4"),
        "clips have coordinates beyond 50: not metres, perhaps pixels or millimetres": (1, "clip5"),
        "clips have one frame": (1, "clip6"),
    }


def overwrite(path: Path, **values: object) -> None:
    """Damage a store behind its writer's back; NaN into joints, or ids of clip 0."""
    for key, value in values.items():
        file = path / ("joints.npy" if key == "joints" else "clips.npy")
        array = np.load(file, allow_pickle=False)
        (array if key == "joints" else array[key])[0] = value
        np.save(file, array, allow_pickle=False)


@pytest.mark.parametrize(
    ("damage", "message", "example"),
    [
        ({"joints": np.nan}, "clips have joints that are not finite", "clip0"),
        ({"label": 7}, "the store cannot be opened", "clip 0, 'clip0', .*label 7"),
        ({"frames": 10_000}, "the store cannot be opened", "ends beyond the 12 rows"),
    ],
)
def test_a_store_damaged_by_others_is_an_error(tmp_path, damage, message, example):
    path = write(tmp_path / "s", moving(0), moving(1), moving(2))
    overwrite(path, **damage)
    finding = check(path)[0]
    assert (finding.severity, finding.message, finding.count) == ("error", message, 1)
    assert re.search(example, finding.example)


def test_a_store_that_does_not_open_is_one_finding(tmp_path):
    path = write(tmp_path / "s", moving(0))
    (path / "joints.npy").unlink()
    (finding,) = check(path)
    assert finding.message == "the store cannot be opened" and "joints.npy" in finding.example


def test_raw_files_that_cannot_be_read_are_counted(tmp_path):
    (tmp_path / "a.skeleton").write_text("x")
    (tmp_path / "b.skeleton").write_text("1\n0\n")
    skeletons = np.random.default_rng(0).normal(size=(3, 20, 3)).tolist()
    (tmp_path / "a01_s01_e00_v01.json").write_text(json.dumps({"skeletons": skeletons, "label": 1}))
    (finding,) = check(tmp_path)
    assert (finding.severity, finding.message, finding.count) == ("error", "files cannot be read", 2)
    assert "a.skeleton, line 1" in finding.example


@pytest.mark.parametrize("others", [True, False])
def test_an_archive_that_cannot_be_read_is_counted_once(tmp_path, others):
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    if others:
        (tmp_path / "b.skeleton").write_text("x")
    found = {finding.message: (finding.count, finding.example) for finding in check(tmp_path)}
    assert found.keys() == {"archives cannot be read"} | ({"files cannot be read"} if others else set())
    count, example = found["archives cannot be read"]
    assert count == 1 and "cannot read the archive" in example and "broken.zip" in example


def test_a_finding_is_a_line_for_people():
    assert str(Finding("error", "files cannot be read", 1200, "a.json")) == (
        "error: files cannot be read: 1,200, such as a.json"
    )


def test_a_place_without_data_is_one_finding(tmp_path):
    (finding,) = check(tmp_path)
    assert finding.message == "there is neither a store nor a file of a known format"


@real
def test_real_files_are_sound():
    assert check(DATA / "ntu_raw") == []
    messages = {finding.message: finding.count for finding in check(DATA / "nw_ucla_all_sqe.zip")}
    # As published, 95 clips of view 3, the test part, are copies of clips of view 2, which trains.
    assert messages == {
        "clips have the same joints as another": 95,
        "clips have one frame": 2,
        "clips have joints that are all zero": 2,
    }


def test_checking_changes_nothing(tmp_path):
    path = write(tmp_path / "s", moving(0), moving(1))
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    check(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before and len(ClipStore.open(path)) == 2
