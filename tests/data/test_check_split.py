"""What can be wrong with classes, subjects and protocols is found."""

from dataclasses import replace
from pathlib import Path

import pytest
from checked_sets import messages, moving, raw, write_clips

from last.data.check import check
from last.data.clip import UNKNOWN, Clip


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


@pytest.mark.parametrize("stored", [False, True])
def test_a_set_of_one_class_is_an_error(tmp_path, stored):
    clips = [Clip(moving(i), f"c{i:02d}", "ntu", 1) for i in range(12)]
    path = write_clips(tmp_path / "s", clips) if stored else tmp_path
    mine = described(tmp_path, "recipe: few_clips")
    found = check(path, **({} if stored else {"dataset": mine} | raw(tmp_path, *clips)))
    assert [(f.severity, f.message, f.count, f.example) for f in found if "class" in f.message] == [
        ("error", "clips are all of one class, so there is nothing to tell apart", 12, "'class1'"),
        ("warning", "classes have no clip", 1, "'class0'"),
    ]


def described(folder: Path, rest: str, about: str = "classes: [class0, class1]") -> str:
    """The path of a description, with this in its first line and the rest behind it."""
    (folder / "mine.yaml").write_text(f"about: {{format: csv, layout: ntu, {about}}}\n{rest}")
    return str(folder / "mine.yaml")


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
        "subjects that train under 'nobody' are those of no clip": (1, "9, where the clips have 1, 2"),
    }
    assert messages(tmp_path / "s", protocol="names").keys() == {m for m in found if "names" in m or "another" in m}


@pytest.mark.parametrize("stored", [False, True])
def test_what_a_description_says_wrongly_is_told_with_the_other_faults(tmp_path, stored):
    rules = "protocols: {xsub: {train: {subject: [1, 8, 9]}, test: {camera: [7], name: [c19, c20]}}}"
    mine = described(tmp_path, f"recipe: few_clip\ndata: {{protocol: xset}}\n{rules}")
    clips = split_clips()
    options = {"dataset": mine} | ({} if stored else raw(tmp_path, *clips))
    path = write_clips(tmp_path / "s", clips) if stored else tmp_path
    found = {finding.message: (finding.severity, finding.count, finding.example) for finding in check(path, **options)}
    assert "no training configuration 'few_clip'" in found.pop("settings of the description are wrong")[2]
    severity, _, example = found.pop("a protocol cannot be followed")
    assert (severity, example.partition(";")[0]) == ("error", "data set 'mine' has no protocol 'xset'")
    there = ", ".join(clip.name for clip in clips)
    assert found == {
        "subjects that train under 'xsub' are those of no clip": ("warning", 2, "8, where the clips have 1, 2"),
        "cameras that test under 'xsub' are those of no clip": ("error", 1, "7, where the clips have 1, 2"),
        "names that test under 'xsub' are those of no clip": ("warning", 1, f"c20, where the clips have {there}"),
    }


@pytest.mark.parametrize("stored", [False, True])
def test_clips_without_the_id_that_a_protocol_chooses_by_are_told(tmp_path, stored):
    rules = {"xsub": {"train": {"subject": [1]}}, "xview": {"train": {"camera": [1]}}}
    mine = described(tmp_path, f"recipe: few_clips\nprotocols: {rules}")
    clips = [replace(clip, subject=UNKNOWN) if i in (4, 6) else clip for i, clip in enumerate(split_clips())]
    path = write_clips(tmp_path / "s", clips, protocols=rules) if stored else tmp_path
    options = {"dataset": mine} | ({} if stored else raw(tmp_path, *clips))
    assert [(f.severity, f.message, f.count, f.example) for f in check(path, **options)] == [
        ("warning", "clips of no known subject neither train nor test under 'xsub'", 2, "c04")
    ]


def test_a_description_that_is_right_is_sound(tmp_path):
    rest = "recipe: few_clips\ndata: {protocol: xsub-held1of2}\nprotocols: {xsub: {train: {subject: [1]}}}"
    mine = described(tmp_path, rest, "classes: [class0, class1], title: 2024")
    assert check(tmp_path, **raw(tmp_path, *split_clips()), dataset=mine) == []
    mine = described(tmp_path, "data: {protocol: given}")
    listed = [replace(clip, parts=("given/train" if i < 10 else "given/test",)) for i, clip in enumerate(split_clips())]
    assert check(tmp_path, **raw(tmp_path, *listed), dataset=mine) == []
    unlisted = messages(tmp_path, **raw(tmp_path, *split_clips()), dataset=mine)
    advice = "give it one under 'protocols' in its configuration"
    assert unlisted == {"a protocol cannot be followed": (1, f"data set 'mine' has no protocol 'given'; {advice}")}


def test_a_section_that_is_none_is_told(tmp_path):
    mine = described(tmp_path, "data: 3\nprotocols: {xsub: {train: {label: [0]}}}", "classes: [class0]")
    found = messages(tmp_path, **raw(tmp_path, *split_clips()), dataset=mine)
    assert found["settings of the description are wrong"] == (
        1,
        f"section 'data' in {mine} holds 3, expected keys with values",
    )
