"""What can be wrong with classes, subjects and protocols is found."""

from dataclasses import replace

from checked_sets import messages, moving, write_clips

from last.data.check import check
from last.data.clip import Clip


def test_classes_and_subjects_of_few_clips(tmp_path):
    labels, subjects = [0] * 10 + [1] * 3 + [2], [1] * 5 + [2] * 8 + [1]
    ids = zip(labels, subjects, strict=True)
    clips = [Clip(moving(i), f"c{i}", "ntu", label, subject=subject) for i, (label, subject) in enumerate(ids)]
    clips += [Clip(moving(50 + i), f"d{i}", "ntu", 1, subject=3) for i in range(2)]
    path = write_clips(tmp_path / "s", clips, classes=4)
    assert [(f.severity, f.message, f.count, f.example) for f in check(path)] == [
        ("error", "classes have fewer than 2 clips", 1, "'class2' has 1"),
        ("warning", "classes have fewer than 10 clips", 1, "'class1' has 5"),
        ("warning", "classes have no clip", 1, "'class3'"),
        ("warning", "subjects have clips of one class only, which they may give away", 1, "subject 3, 2 clips"),
    ]


def split_clips() -> list[Clip]:
    """Twenty clips of two classes by subjects 1 and 2, each seen by cameras 1 and 2."""
    return [
        Clip(moving(i), f"c{i:02d}", "ntu", i % 2, subject=1 + i // 2 % 2, camera=1 + i // 4 % 2) for i in range(20)
    ]


def test_a_split_by_subjects_or_by_cameras_is_sound(tmp_path):
    rules = {"people": {"train": {"subject": [1]}}, "views": {"train": {"camera": [1]}}}
    assert check(write_clips(tmp_path / "s", split_clips(), protocols=rules)) == []


def test_a_split_that_leaks_is_found(tmp_path):
    rules = {
        "both": {"train": {"subject": [1, 2]}, "test": {"subject": [2]}},
        "nobody": {"train": {"subject": [9]}},
        "names": {"train": {"name": [f"c{i:02d}" for i in range(10)]}},
        "classes": {"train": {"label": [0], "subject": [1]}, "test": {"label": [1], "subject": [2]}},
    }
    clips = split_clips()
    clips[13] = replace(clips[13], joints=clips[1].joints)
    found = messages(write_clips(tmp_path / "s", clips, protocols=rules))
    count, example = found.pop("a protocol cannot be followed")
    assert count == 2 and example.startswith("protocol 'both' of") and "10 of the 10 clips" in example
    assert found == {
        "clips have the same joints as another": (1, "c13 and c01"),
        "subjects train and test under 'names'": (2, "subject 1"),
        "test clips of 'names' have exactly the joints of a training clip": (1, "c13"),
        "classes are tested but never trained on under 'classes'": (1, "'class1'"),
        "classes are never tested under 'classes'": (1, "'class0'"),
    }
    assert messages(tmp_path / "s", protocol="names").keys() == {m for m in found if "names" in m or "another" in m}
