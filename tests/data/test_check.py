"""Every kind of fault is found, at once, with a count and an example; a sound set has none."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from last.data.check import check
from last.data.clean import CleanOptions, clean
from last.data.clip import UNKNOWN, Clip, FormatError
from last.data.findings import Finding
from last.data.formats import FORMATS, Format, Source
from last.data.show import load_clip
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter
from last.data.synthetic_body import draw_person, forward, sway
from last.skeleton import Layout, load_layout

NTU = load_layout("ntu")


def moving(seed: int, frames: int = 10) -> np.ndarray:
    """A person of NTU's joints who stands and sways, in front of the sensor, (T, 1, 25, 3)."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, frames)
    joints = forward(5 * sway(time, rng), draw_person(rng, False).offsets) + np.array([0, 1, 3])
    return (joints + rng.normal(0, 0.004, joints.shape)).astype(np.float32)[:, None]


def write(path: Path, *joints: np.ndarray, classes: int = 1, **known: object) -> Path:
    with StoreWriter(path, NTU, [f"class{i}" for i in range(classes)], **known) as writer:
        for i, x in enumerate(joints):
            writer.append(Clip(x, f"clip{i}", "ntu", label=0))
    return path


def write_clips(path: Path, clips: list[Clip], classes: int = 2, **known: object) -> Path:
    with StoreWriter(path, NTU, [f"class{i}" for i in range(classes)], **known) as writer:
        for clip in clips:
            writer.append(clip)
    return path


def sound(count: int = 10) -> list[np.ndarray]:
    return [moving(100 + i) for i in range(count)]


def raw(folder: Path, *clips: Clip) -> dict[str, object]:
    """Files of a format of its own that holds these clips: the options of a check of the folder."""
    held = {clip.name: clip for clip in clips}
    for name in held:
        (folder / f"{name}.fake").touch()
    return {"formats": [Format("fake", "a fake", ".fake", lambda source: held[source.name])]}


def messages(path: Path, **options: object) -> dict[str, tuple[int, str]]:
    return {finding.message: (finding.count, finding.example) for finding in check(path, **options)}


def test_a_sound_store_has_no_findings(tmp_path):
    done = []
    assert check(write(tmp_path / "s", *sound()), lambda *d: done.append(d)) == []
    assert done == [(i, 10) for i in range(1, 11)]


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
        "classes have no clip": (2, "'class1'"),
        "clips have the same joints as another": (2, "clip1 and clip0"),
        "clips have joints that are all zero": (1, "clip3"),
        "clips have joints that never move": (1, "clip4"),
        "clips have coordinates beyond 50: not metres, perhaps pixels or millimetres": (1, "clip5"),
        "clips have one frame": (1, "clip6"),
        "clips have fewer than 8 frames": (1, "clip7"),
        "clips have left and right exchanged from one frame to the next": (1, "clip8"),
        "clips have more than 2 bodies, of which preparing keeps the most moving": (1, "clip9"),
    }


def test_a_guess_of_the_cleaning_is_told_as_a_joint_that_was_not_seen(tmp_path):
    once, never = moving(1), moving(2)
    once[1:, 0, 7] = np.nan  # held where it was seen, so it does not move
    never[:, 0, 7] = np.nan  # at its parent's place, which moves
    cleaned = [clean(Clip(x, f"gap{i}", "ntu", label=0), NTU, CleanOptions())[0] for i, x in enumerate((once, never))]
    clips = [Clip(x, f"clip{i}", "ntu", label=0) for i, x in enumerate(sound())]
    path = write_clips(tmp_path / "s", [*clips, *cleaned], classes=1)
    assert messages(path) == {"clips have joints that are never seen": (1, "gap1")}


def test_a_skeleton_relative_to_its_root_is_sound(tmp_path):
    relative = [x - x[:, :, :1] for x in sound()]
    assert check(write(tmp_path / "s", *relative)) == []


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
        ({"frames": 10_000}, "the store cannot be opened", "ends beyond the 100 rows"),
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


def test_half_precision_of_pixels_is_told(tmp_path):
    path = write(tmp_path / "s", *sound(9), moving(1) * 1000, dtype="float16")
    assert messages(path)["clips have coordinates beyond 2048, which 16 bits round to whole numbers; "
                          "store as float32"] == (1, "clip9")  # fmt: skip


@pytest.mark.parametrize("name", ["joints in another order", "head and feet exchanged"])
def test_joints_in_another_order_than_the_layout_has(tmp_path, name):
    order = np.random.default_rng(0).permutation(25) if "order" in name else np.arange(25)
    clips = [x[:, :, order] * (1, 1, 1) for x in sound()]
    if name == "head and feet exchanged":
        clips = [x * (1, -1, 1) for x in clips]
    found = messages(write(tmp_path / "s", *[x.astype(np.float32) for x in clips]))
    scattered = "joints hardly hang together as layout 'ntu' has them, perhaps in another order"
    flipped = "heads are below the feet: y points the other way than the layout's y_down says"
    if name == "head and feet exchanged":
        assert found == {flipped: (10, "clip0")}
    else:
        assert found[scattered][0] == 10 and found[scattered][1].startswith("clip0: layout 'ntu'")


def test_the_layout_that_fits_better_is_named(tmp_path):
    """Kinect's twenty joints, written in the order of UTD-MHAD under the name of NW-UCLA's."""
    kinect, utd = load_layout("kinect20"), load_layout("utd20")
    alike = {"hip_centre": "spine_base", "spine": "spine_mid", "shoulder_centre": "spine_shoulder"}
    order = [NTU.joints.index(alike.get(joint, joint)) for joint in utd.joints]
    clips = [Clip(x[:, :, order], f"c{i}", "kinect20", 0) for i, x in enumerate(sound())]
    found = messages(tmp_path, **raw(tmp_path, *clips))
    message = "joints look to be in the order of layout 'utd20', not 'kinect20'"
    assert found.keys() == {message}
    assert found[message][0] == 10 and "c0: layout 'utd20'" in found[message][1]
    assert check(tmp_path, **raw(tmp_path, *clips), layout=utd) == []
    assert kinect.joints != utd.joints


@pytest.mark.parametrize(("axes", "axis"), [((0, 2, 1), "z"), ((1, 0, 2), "x")])
def test_bodies_that_do_not_stand_along_y(tmp_path, axes, axis):
    path = write(tmp_path / "s", *[x[..., axes] for x in sound()])
    assert messages(path) == {
        f"bodies stand along {axis}, where y is expected to be upright; name the axes in another order": (10, "clip0")
    }


def test_one_who_lies_down_is_no_axis_turned(tmp_path):
    lying = [x[..., (1, 0, 2)] for x in sound(3)]
    assert check(write(tmp_path / "s", *sound(7), *lying)) == []


def test_joints_that_the_layout_does_not_have_are_an_error_with_advice(tmp_path):
    clips = [Clip(x[:, :, :20], f"c{i}", "ntu", 0) for i, x in enumerate(sound(2))]
    odd = Clip(moving(9)[:, :, :7], "odd", "ntu", 0)
    found = messages(tmp_path, **raw(tmp_path, *clips, odd))
    twenty, seven = (f"clips have {n} joints of 3 coordinates, but layout 'ntu' has 25 of 3" for n in (20, 7))
    assert found[twenty][0] == 2 and re.match(r"c0; layout '\w+20\w*' \(0\.\d+\)", found[twenty][1])
    assert found[seven] == (1, "odd; no built-in layout has as many: write one of your own")


def test_gaps_of_raw_clips_are_told_apart(tmp_path):
    def gap(name: str, frames: slice, joints: object, value: float = np.nan) -> Clip:
        x = np.concatenate([moving(len(name)), moving(len(name) + 50) + 1], axis=1)
        x[frames, 0, joints] = value
        return Clip(x, name, "ntu", 0)

    clips = [
        gap("a", slice(2, 4), 7),
        gap("some", slice(None), 7),
        gap("comes-and-goes", slice(0, 5), slice(None)),
        gap("brief-one", slice(0, 10), slice(None)),
        gap("infinite-one", slice(2, 4), 7, np.inf),
    ]
    nobody = Clip(np.full((10, 1, 25, 3), np.nan, np.float32), "nobody", "ntu", 0)
    rarely = Clip(moving(77), "rarely", "ntu", 0)
    rarely.joints[:8] = np.nan
    found = messages(tmp_path, **raw(tmp_path, *clips, nobody, rarely))
    gaps = "clips have gaps (NaN) in joints of bodies that are seen, to be filled or masked"
    assert found == {
        gaps: (3, "a"),
        "clips have joints that are never seen": (1, "some"),
        "clips have joints that are infinite": (1, "infinite-one"),
        "clips show nobody": (1, "nobody"),
        "clips show nobody in more than half of their frames": (1, "rarely"),
    }


def test_a_body_seen_in_few_frames(tmp_path):
    x = np.concatenate([moving(1, 40), moving(2, 40) + 1], axis=1)
    x[3:, 1] = np.nan
    padded = np.concatenate([moving(3, 40), np.zeros((40, 1, 25, 3), np.float32)], axis=1)
    found = messages(tmp_path, **raw(tmp_path, Clip(x, "phantom", "ntu", 0), Clip(padded, "padded", "ntu", 0)))
    assert found == {"clips have a body that shows in less than 10% of the frames": (1, "phantom")}


def test_pixels_that_are_none(tmp_path):
    layout = load_layout("coco17")
    x = np.random.default_rng(0).random((10, 1, 17, 2)).astype(np.float32)
    found = messages(tmp_path, **raw(tmp_path, Clip(x, "share", layout.name, 0)))
    assert found["clips are smaller than 10 pixels: perhaps metres, or a share of the picture"] == (1, "share")


def test_copies_under_another_class_are_worse(tmp_path):
    a = Clip(moving(0), "a", "ntu", 0)
    options = raw(tmp_path, a, replace(a, name="b"), replace(a, name="c", label=1))
    found = [(f.severity, f.message, f.example) for f in check(tmp_path, **options)]
    assert found == [
        ("error", "clips have the same joints as one of another class", "c and a"),
        ("warning", "clips have the same joints as another", "b and a"),
    ]


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


def test_a_store_of_another_data_set_is_told(tmp_path):
    found = messages(write(tmp_path / "s", *sound()), dataset="ntu60")
    assert found["the store has other classes than the data set"] == (1, "1 in the store, 60 in 'ntu60'")


def test_labels_outside_the_classes_of_a_data_set(tmp_path):
    clips = [Clip(moving(i), f"c{i}", "ntu", label=label) for i, label in enumerate((59, 60, UNKNOWN))]
    found = messages(tmp_path, **raw(tmp_path, *clips), dataset="ntu60")
    assert found["clips have a label outside the 60 classes"] == (1, "c1, label 60")
    assert found["names tell no class"] == (1, str(tmp_path / "c2.fake"))
    assert found["classes have no clip"][0] == 59


def test_a_layout_that_is_not_known_is_an_error(tmp_path):
    clip = Clip(moving(0), "c", "mine", 0)
    found = messages(tmp_path, **raw(tmp_path, clip))
    assert found.keys() == {"clips have a layout that is not known; give one"}
    own = Layout("mine", NTU.joints, NTU.parents, NTU.centre, 3)
    assert messages(tmp_path, **raw(tmp_path, clip), layout=own) == {}


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
