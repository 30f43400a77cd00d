"""Every kind of fault is found, at once, with a count and an example; a sound set has none."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checked_sets import NTU, messages, moving, raw, sound, write

from last.data.check import check
from last.data.clip import UNKNOWN, Clip, FormatError
from last.data.findings import Finding
from last.data.formats import FORMATS, Source
from last.data.show import load_clip
from last.data.store import ClipStore


def test_a_sound_store_has_no_findings(tmp_path):
    done = []
    assert check(write(tmp_path / "s", *sound()), lambda *d: done.append(d)) == []
    assert done == [(i, 20) for i in range(1, 21)]


def test_every_fault_of_a_store_is_found_at_once(tmp_path):
    zero, frozen, pixels = moving(1), moving(2), moving(3) * 400
    zero[1, 0, 3] = 0
    frozen[:, 0, 5] = frozen[0, 0, 5]
    swapped = moving(5)
    swapped[4:] = swapped[4:][:, :, NTU.mirror]
    crowd = np.concatenate([moving(6), moving(7) + 1, moving(8) - 1], axis=1)
    faulty = (zero, frozen, pixels, moving(4, frames=1), moving(9, frames=5), swapped, crowd)
    path = write(tmp_path / "s", moving(0), moving(0), moving(0), *faulty, classes=3)
    assert messages(path) == {
        "classes have no clip": (1, "'class2'"),
        "classes have fewer than 10 clips": (2, "'class0' has 5"),
        "clips have the same joints as another": (2, "clip1 and clip0"),
        "clips have joints that are all zero": (1, "clip3"),
        "clips have joints that never move": (1, "clip4"),
        "clips have coordinates beyond 50: not metres, perhaps pixels or millimetres": (1, "clip5"),
        "clips have one frame": (1, "clip6"),
        "clips have fewer than 8 frames": (1, "clip7"),
        "clips have left and right exchanged from one frame to the next": (1, "clip8"),
        "clips have more than 2 bodies, of which preparing keeps the most moving": (1, "clip9"),
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
        ({"joints": 1.0}, "files of the store are not what was written, by their checksums", "joints.npy"),
        ({"label": 7}, "the store cannot be opened", "clip 0, 'clip0', .*label 7"),
        ({"frames": 10_000}, "the store cannot be opened", "ends beyond the 200 rows"),
    ],
)
def test_a_store_damaged_by_others_is_an_error(tmp_path, damage, message, example):
    path = write(tmp_path / "s", *sound())
    overwrite(path, **damage)
    found = {finding.message: finding for finding in check(path)}[message]
    assert (found.severity, found.count) == ("error", 1)
    assert re.search(example, found.example)


def test_a_store_that_does_not_open_is_one_finding(tmp_path):
    path = write(tmp_path / "s", moving(0))
    (path / "joints.npy").unlink()
    (finding,) = check(path)
    assert finding.message == "the store cannot be opened" and "joints.npy" in finding.example


def test_copies_under_another_class_are_worse(tmp_path):
    a = Clip(moving(0), "a", "ntu", 0)
    options = raw(tmp_path, a, replace(a, name="b"), replace(a, name="c", label=1))
    found = [(f.severity, f.message, f.example) for f in check(tmp_path, **options)]
    assert found == [
        ("error", "clips have the same joints as one of another class", "c and a"),
        ("warning", "clips have the same joints as another", "b and a"),
    ]


def test_a_store_of_another_data_set_is_told(tmp_path):
    found = messages(write(tmp_path / "s", *sound()), dataset="ntu60")
    assert found["the store has other classes than the data set"] == (1, "2 in the store, 60 in 'ntu60'")


def test_labels_outside_the_classes_of_a_data_set(tmp_path):
    clips = [Clip(moving(i), f"c{i}", "ntu", label=label) for i, label in enumerate((59, 60, UNKNOWN))]
    found = messages(tmp_path, **raw(tmp_path, *clips), dataset="ntu60")
    assert found["clips have a label outside the 60 classes"] == (1, "c1, label 60")
    assert found["names tell no class"] == (1, str(tmp_path / "c2.fake"))
    assert found["classes have no clip"][0] == 59


def test_raw_files_that_cannot_be_read_are_counted(tmp_path):
    (tmp_path / "a.skeleton").write_text("x")
    (tmp_path / "b.skeleton").write_text("1\n0\n")
    found = messages(tmp_path)
    assert found.keys() == {"files cannot be read", "files show nobody"}
    count, example = found["files cannot be read"]
    assert count == 1 and "a.skeleton, line 1" in example


@pytest.mark.parametrize("others", [0, 1])
def test_an_archive_that_cannot_be_read_is_counted_once(tmp_path, others):
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    if others:
        (tmp_path / "b.skeleton").write_text("x")
    ((message, (count, example)),) = messages(tmp_path).items()
    assert (message, count) == ("files cannot be read", 1 + others)
    assert "cannot read the archive" in example and "broken.zip" in example


def test_a_finding_is_a_line_for_people():
    assert str(Finding("error", "files cannot be read", 1200, "a.json")) == (
        "error: files cannot be read: 1,200, such as a.json"
    )
    assert str(Finding("error", "files cannot be read", 1200, "a.json", ("b.json", "c.json"))) == (
        "error: files cannot be read: 1,200\n  a.json\n  b.json\n  c.json\n  and 1,197 more"
    )


def test_what_is_wrong_with_each_file_is_said(tmp_path):
    for i in range(25):
        (tmp_path / f"{i:02}.skeleton").write_text("x")
    (finding,) = check(tmp_path)
    lines = str(finding).splitlines()
    assert lines[0] == "error: files cannot be read: 25" and lines[-1] == "  and 5 more"
    assert [f"{i:02}.skeleton, line 1" in line for i, line in enumerate(lines[1:-1])] == [True] * 20
    for file in list(tmp_path.iterdir())[2:]:
        file.unlink()
    assert len(str(check(tmp_path)[0]).splitlines()) == 3  # no more than there are


def test_of_tables_that_nobody_described_the_whole_folder_is_to_be(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.csv").write_text("a_x,a_y\n1,2\n")
    np.savez(tmp_path / "3.npz", joints=np.ones((2, 3, 3)))
    (finding,) = check(tmp_path)
    first = tmp_path / "0.csv"
    assert (finding.count, finding.example) == (4, str(first))
    assert f"'last data new {tmp_path} --name NAME'" in finding.message
    (tmp_path / "3.npz").unlink()
    with pytest.raises(FormatError) as shown:
        load_clip(tmp_path)
    assert str(shown.value) == f"{first}: {finding.message}"  # whoever asks is told the same
    with pytest.raises(FormatError) as read:
        FORMATS["csv"].read(Source(first))
    assert str(read.value) == str(shown.value).replace(f"new {tmp_path}", f"new {first}")


@pytest.mark.parametrize(
    ("place", "message"),
    [(".", "there is neither a store nor a file of a known format"), ("absent", "there is nothing to look at")],
)
def test_a_place_without_data_is_one_finding(tmp_path, place, message):
    assert messages(tmp_path / place).keys() == {message}


def test_clips_of_the_same_name_are_told(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "c0.fake").touch()
    found = messages(tmp_path, **raw(tmp_path / "a", Clip(moving(0), "c0", "ntu", 0)))
    example = f"{tmp_path}/b/c0.fake as {tmp_path}/a/c0.fake"
    assert found["clips have the name of another and are left out"] == (1, example)


def test_of_no_clips_no_class_is_missed(tmp_path):
    path = tmp_path / "empty"
    path.mkdir()
    assert list(messages(path, dataset="ntu60")) == ["there is neither a store nor a file of a known format"]


def test_a_file_of_numbers_beyond_reason_is_only_a_finding(tmp_path):
    skeletons = np.full((12, 20, 3), 3e38)
    skeletons[::2] *= -1
    (tmp_path / "a01_s01_e00_v01.json").write_text(json.dumps({"skeletons": skeletons.tolist(), "label": 1}))
    assert "clips have coordinates beyond 50: not metres, perhaps pixels or millimetres" in messages(tmp_path)


def test_real_files_are_sound(shared_data):
    assert check(shared_data / "ntu_raw") == []
    assert check(shared_data / "sbu.zip") == []
    found = {message: count for message, (count, _) in messages(shared_data / "nw_ucla_all_sqe.zip").items()}
    # As published, 95 clips of view 3, the test part, are copies of clips of view 2, which trains.
    assert found == {
        "clips have the same joints as another": 95,
        "clips have one frame": 2,
        "clips have fewer than 8 frames": 2,
        "clips have joints that are all zero": 2,
    }


def test_checking_changes_nothing(tmp_path):
    path = write(tmp_path / "s", moving(0), moving(1))
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    check(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before and len(ClipStore.open(path)) == 2
