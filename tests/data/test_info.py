import numpy as np
import pytest

from last.data.clip import Clip
from last.data.info import describe, packaged_dataset, protocols_for
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter


@pytest.fixture
def store(tmp_path, stick):
    rules = {"mine": {"train": {"subject": [1]}, "test": {"subject": [2]}}, "none": {"train": {"subject": [9]}}}
    rules["first"] = {"train": {"name": ["c0"]}, "test": {"name": ["c3"]}}
    origin = {"raw": ["a.zip", "b"], "left out": {"no skeleton": 2}, "cleaned": {}}
    with StoreWriter(tmp_path / "s", stick, ["run", "jump"], provenance=origin, protocols=rules) as writer:
        for i in range(4):
            joints = np.full((i + 2, 1, 5, 3), i + 1, np.float32)
            part = ("given/train",) if i else ("given/test",)
            writer.append(Clip(joints, f"c{i}", "stick", i % 2, subject=1 + i // 2, parts=part))
    return ClipStore.open(tmp_path / "s")


def test_all_that_a_person_asks_of_a_store_is_told(store):
    facts = describe(store)
    created = facts.pop("store")
    assert created.startswith(f"{store.path}, version 2, made on 20")
    assert facts.pop("on disk").endswith(" MB")
    assert facts.pop("protocol none").startswith("protocol 'none' of '' leaves none")
    assert facts == {
        "data set": "none that is packaged",
        "layout": "stick, 5 joints in 3 dimensions",
        "classes": "2: run, jump",
        "clips": "4",
        "frames": "2 to 5 a clip, median 4",
        "bodies": "1 to 1 a clip, median 1",
        "subjects": "2, numbered 1 to 2",
        "joints": "14 rows of float32, every joint seen",
        "part given/test": "1 clips",
        "part given/train": "3 clips",
        "protocol first": "1 train, 1 test, 2 do neither",
        "protocol given": "3 train, 1 test",
        "protocol mine": "2 train, 2 test",
        "origin: raw": "a.zip, b",
        "origin: left out": "no skeleton 2",
    }


def test_checksums_are_compared_when_asked(store):
    assert "checksums" not in describe(store)
    assert describe(store, verify=True)["checksums"] == "those of all files"
    file = store.path / "joints.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert describe(ClipStore.open(store.path), verify=True)["checksums"] == "not those of joints.npy"


def test_an_empty_store_is_described(tmp_path, stick):
    StoreWriter(tmp_path / "s", stick, ["run"]).close()
    assert describe(ClipStore.open(tmp_path / "s"))["clips"] == "0"


def test_a_packaged_set_is_known_by_layout_and_classes(ucla_like, store):
    assert packaged_dataset(ucla_like) == "nw_ucla" and packaged_dataset(store) == ""
    assert protocols_for(ucla_like, "nw_ucla") == ["xview"]
    assert protocols_for(store, "") == ["first", "given", "mine", "none"]
