"""What can be wrong with the clips of a set is found: joints, layouts, axes, units and gaps."""

import re

import numpy as np
import pytest
from checked_sets import NTU, messages, moving, raw, sound, write, write_clips

from last.data.check import check
from last.data.clean import CleanOptions, clean
from last.data.clip import Clip
from last.skeleton import Layout, load_layout


def test_a_guess_of_the_cleaning_is_told_as_a_joint_that_was_not_seen(tmp_path):
    once, never = moving(1), moving(2)
    once[1:, 0, 7] = np.nan  # held where it was seen, so it does not move
    never[:, 0, 7] = np.nan  # at its parent's place, which moves
    cleaned = [clean(Clip(x, f"gap{i}", "ntu", label=0), NTU, CleanOptions())[0] for i, x in enumerate((once, never))]
    clips = [Clip(x, f"clip{i}", "ntu", label=i % 2) for i, x in enumerate(sound())]
    path = write_clips(tmp_path / "s", [*clips, *cleaned])
    assert messages(path) == {"clips have joints that are never seen": (1, "gap1")}


def test_a_skeleton_relative_to_its_root_is_sound(tmp_path):
    relative = [x - x[:, :, :1] for x in sound()]
    assert check(write(tmp_path / "s", *relative)) == []


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
        assert found == {flipped: (20, "clip0")}
    else:
        assert found[scattered][0] == 20 and found[scattered][1].startswith("clip0: layout 'ntu'")


def test_the_layout_that_fits_better_is_named(tmp_path):
    """Kinect's twenty joints, written in the order of UTD-MHAD under the name of NW-UCLA's."""
    kinect, utd = load_layout("kinect20"), load_layout("utd20")
    alike = {"hip_centre": "spine_base", "spine": "spine_mid", "shoulder_centre": "spine_shoulder"}
    order = [NTU.joints.index(alike.get(joint, joint)) for joint in utd.joints]
    clips = [Clip(x[:, :, order], f"c{i}", "kinect20", 0) for i, x in enumerate(sound())]
    found = messages(tmp_path, **raw(tmp_path, *clips))
    message = "joints look to be in the order of layout 'utd20', not 'kinect20'"
    assert found.keys() == {message}
    assert found[message][0] == 20 and "c0: layout 'utd20'" in found[message][1]
    assert check(tmp_path, **raw(tmp_path, *clips), layout=utd) == []
    assert kinect.joints != utd.joints


@pytest.mark.parametrize(("axes", "axis"), [((0, 2, 1), "z"), ((1, 0, 2), "x")])
def test_bodies_that_do_not_stand_along_y(tmp_path, axes, axis):
    path = write(tmp_path / "s", *[x[..., axes] for x in sound()])
    assert messages(path) == {
        f"bodies stand along {axis}, where y is expected to be upright; name the axes in another order": (20, "clip0")
    }


def test_one_who_lies_down_is_no_axis_turned(tmp_path):
    lying = [x[..., (1, 0, 2)] for x in sound(6)]
    assert check(write(tmp_path / "s", *sound(14), *lying)) == []


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


def test_half_precision_of_pixels_is_told(tmp_path):
    path = write(tmp_path / "s", *sound(9), moving(1) * 1000, dtype="float16")
    assert messages(path)["clips have coordinates beyond 2048, which 16 bits round to whole numbers; "
                          "store as float32"] == (1, "clip9")  # fmt: skip


def test_a_layout_that_is_not_known_is_an_error(tmp_path):
    clip = Clip(moving(0), "c", "mine", 0)
    found = messages(tmp_path, **raw(tmp_path, clip))
    assert found.keys() == {"clips have a layout that is not known; give one"}
    own = Layout("mine", NTU.joints, NTU.parents, NTU.centre, 3)
    assert messages(tmp_path, **raw(tmp_path, clip), layout=own) == {}
