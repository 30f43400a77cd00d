import re

import numpy as np
import pytest

from last.data.formats import find_clips
from last.data.layouts import fit, suggest, upward
from last.skeleton import Layout, load_layout

REAL = {
    "ntu_raw": "ntu",
    "nw_ucla_all_sqe.zip": "kinect20",
    "utd_mhad_skeleton.zip": "utd20",
    "msr_action3d_real3d.zip": "msr20",
    "sbu.zip": "sbu15",
    "penn_action_labels.zip": "penn13",
}
# A person facing the sensor, in metres, y up; every Kinect joint by its name.
PERSON = {
    **{"hip_centre": (0, 0.95, 3), "spine": (0, 1.1, 3), "shoulder_centre": (0, 1.45, 3), "head": (0, 1.7, 3)},
    **{
        f"{side}_{joint}": (sign * x, y, 3)
        for side, sign in (("left", -1), ("right", 1))
        for joint, x, y in (
            *(("shoulder", 0.18, 1.4), ("elbow", 0.25, 1.15), ("wrist", 0.28, 0.9), ("hand", 0.29, 0.82)),
            *(("hip", 0.1, 0.9), ("knee", 0.12, 0.5), ("ankle", 0.12, 0.1), ("foot", 0.14, 0.05)),
        )
    },
}


def person(layout: Layout, frames: int = 20) -> np.ndarray:
    """The person with small random movements, (F, V, 3)."""
    rest = np.array([PERSON[joint] for joint in layout.joints])
    return rest + np.random.default_rng(0).normal(0, 0.02, (frames, *rest.shape))


@pytest.mark.parametrize("name", ["kinect20", "utd20", "msr20"])
def test_three_orders_of_the_same_twenty_joints_are_told_apart(name):
    found = suggest(person(load_layout(name)))
    assert found[0].layout.name == name
    assert {suggestion.layout.name for suggestion in found} == {"kinect20", "utd20", "msr20", "msr20_screen"}
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)


def test_y_down_is_told_from_y_up():
    joints = person(load_layout("msr20"))
    assert suggest(joints * (1, -1, 1))[0].layout.name == "msr20_screen"


@pytest.mark.parametrize(("file", "name"), REAL.items())
def test_real_files_suggest_their_own_layout(shared_data, file, name):
    listed, _ = find_clips(shared_data / file)
    clips = [known.read(source) for known, source in listed[:: max(1, len(listed) // 10)]]
    joints = np.concatenate([clip.joints.reshape(-1, *clip.joints.shape[2:])[::5] for clip in clips])
    assert suggest(joints)[0].layout.name == name


def test_missing_joints_do_not_matter():
    joints = person(load_layout("utd20"), frames=60)
    joints[np.random.default_rng(1).random(joints.shape[:2]) < 0.4] = np.nan
    assert suggest(joints)[0].layout.name == "utd20"


def test_nothing_is_suggested_for_a_number_of_joints_that_none_has():
    assert suggest(np.zeros((3, 4, 3))) == []
    assert suggest(np.full((3, 20, 3), np.nan)), "nothing seen still leaves the layouts of twenty joints"


def test_names_of_joints_decide_between_like_bodies():
    layout = load_layout("kinect20")
    names = [joint.replace("_", " ").title() for joint in layout.joints]
    best = suggest(np.full((3, 20, 3), np.nan), names)[0]
    assert (best.layout.name, best.misnamed) == ("kinect20", 0)


def test_a_fit_is_measured_in_words():
    # A stick of two bones of length 1 in a line: the shortest tree is the bones themselves, 2 long.
    line = np.array([[[0, 0, 0], [0, 1, 0], [0, 2, 0]]], dtype=float)
    right = fit(line, Layout("line", ("base", "middle", "top"), (0, 0, 1), 0, 3))
    wrong = fit(line, Layout("star", ("base", "middle", "top"), (0, 0, 0), 0, 3))  # 1 + 2 long
    assert right.detour == pytest.approx(0) and wrong.detour == pytest.approx(0.5)
    assert right.stretch == right.asymmetry == 0 and right.score == 1
    # The same bone at lengths 1 and 3: mean 2, deviation 1.
    two = np.array([[[0, 0, 0], [1, 0, 0]], [[0, 0, 0], [3, 0, 0]]], dtype=float)
    assert fit(two, Layout("bone", ("a", "b"), (0, 0), 0, 3)).stretch == pytest.approx(0.5)
    assert re.search(r"'star' \(0\.67\): its bones are 1\.5 times as long", str(wrong))


def test_left_and_right_bones_of_other_lengths_count():
    layout = Layout("arms", ("chest", "left_hand", "right_hand"), (0, 0, 0), 0, 3)
    arms = np.array([[[0, 0, 0], [-1, 0, 0], [3, 0, 0]]], dtype=float)
    assert fit(arms, layout).asymmetry == pytest.approx(0.5)  # (3 - 1) / (3 + 1)


def test_upward_points_to_the_head_whichever_way_y_does():
    layout = load_layout("kinect20")
    rest = np.array([[PERSON[joint] for joint in layout.joints]])
    np.testing.assert_allclose(upward(rest, layout), [[0, 1, 0]], atol=1e-9)
    image = Layout("image", layout.joints, layout.parents, layout.centre, 2)
    np.testing.assert_allclose(upward(-rest[..., :2], image), [[0, 1]], atol=1e-9)
    assert upward(rest, Layout("none", tuple("abcdefghijklmnopqrst"), layout.parents, 0, 3)).shape == (0, 3)
