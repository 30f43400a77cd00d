"""A skeleton is guessed from how joints move, and from their names."""

import numpy as np
import pytest
from samples_tables import bones_of

from last.data.formats import FORMATS, find_files
from last.data.own_layout import bones, own_layout, plain_names
from last.skeleton import load_layout


def test_names_with_their_side_in_front():
    names = ["LHand", "elbow.r", "FootLeft", "Mid Hip", "ManoIzq", "left", "j07"]
    assert plain_names(names) == ("left_hand", "right_elbow", "left_foot", "mid_hip", "left_mano", "left", "j07")
    assert plain_names(["LHand", "left_hand"]) == ("LHand", "left_hand")


def test_bones_keep_their_length():
    """A hand circles an elbow that circles a hip; a flag moves with the hip at twice the arm's length."""
    time = np.linspace(0, 6, 50)[:, None]
    hip = np.hstack([time, 0 * time, 0 * time])
    elbow = hip + np.hstack([np.cos(time), np.sin(time), 0 * time])
    hand = elbow + np.hstack([np.cos(3 * time), 0 * time, np.sin(3 * time)])
    clip = np.stack([hand, hip, elbow, hip + np.array([0, 0, 2])], axis=1)
    clip[10:20, 0] = np.nan
    assert {frozenset(bone) for bone in bones([clip], range(4), np.zeros(4))} == {
        frozenset({0, 2}),
        frozenset({1, 2}),
        frozenset({1, 3}),
    }
    made = own_layout("arm", ["hand", "hip", "elbow", "head"], [clip * (1, -1, 1)])
    assert made.layout.joints[made.layout.root] in {"hip", "elbow"}


def tree(*joints):
    """The layout that is guessed of joints that stay where they are: a name and a place for each."""
    names, places = zip(*joints, strict=True)
    return own_layout("still", names, [np.array([places], dtype=float)]).layout


def test_left_and_right_are_joined_by_the_trunk_alone():
    """Hands without a partner, near each other; the knees too, nearer than to their hips."""
    layout = tree(
        *(("hip", (0, 0, 0)), ("left_glove", (-0.05, 1, 0)), ("right_hand", (0.05, 1, 0))),
        *(("left_knee", (-0.1, -1, 0)), ("right_knee", (0.1, -1, 0))),
    )
    assert bones_of(layout, layout.joints) == {frozenset({"hip", joint}) for joint in layout.joints[1:]}
    legs = tree(
        *(("left_knee", (-0.2, 0, 0)), ("left_hip", (-0.1, 1, 0))),
        *(("right_hip", (0.1, 1, 0)), ("right_knee", (0.2, 0, 0))),
    )
    assert bones_of(legs, "abcd") == {frozenset("ab"), frozenset("bc"), frozenset("cd")}


def test_a_bone_that_is_never_seen_is_as_that_of_the_other_side():
    """The left hand is never seen with the left elbow, and nearer to the head than to the hip."""
    names = ["head", "hip", "left_elbow", "left_hand", "right_elbow", "right_hand"]
    places = np.array([[0, 3, 0], [0, 0, 0], [-2, 1, 0], [-4, 1, 0], [2, 1, 0], [4, 1, 0]], dtype=float)
    clip = places.repeat(2, axis=0).reshape(6, 2, 3).swapaxes(0, 1)
    clip[0, 2] = clip[1, 3] = np.nan
    layout = own_layout("half", names, [clip]).layout
    assert frozenset({"left_elbow", "left_hand"}) in bones_of(layout, names)


def test_the_root_is_of_the_trunk_where_there_is_one():
    assert tree(("head", (0, 2, 0)), ("left_hand", (0, 1, 0)), ("foot", (0, 0, 0))).root != 1
    assert tree(("left_a", (0, 2, 0)), ("left_b", (0, 1, 0)), ("left_c", (0, 0, 0))).root == 1


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("nw_ucla", "nw_ucla_all_sqe.zip"),
        ("msr_action3d", "msr_action3d_real3d.zip"),
        ("sbu", "sbu.zip"),
        ("utd_mhad", "utd_mhad_skeleton.zip"),
        ("penn_action", "penn_action_labels.zip"),
    ],
)
def test_bones_of_real_bodies_are_found(shared_data, kind, file):
    found, _ = find_files([shared_data / file], FORMATS[kind])
    clips = [FORMATS[kind].read(each.source).joints for each in found[:: len(found) // 30]]
    layout = load_layout(FORMATS[kind].layout)
    made = own_layout("own", layout.joints, [clip[:, m] for clip in clips for m in range(clip.shape[1])]).layout
    names = layout.joints
    assert bones_of(made, names) == bones_of(layout, names)


def test_y_points_down_where_the_head_lies_lower():
    joints = np.array([[[0.0, 2, 0], [0, 1, 0], [0, 0, 0]]])
    names = ["Head", "Hip", "LeftFoot"]
    assert not own_layout("a", names, [joints]).layout.y_down
    assert own_layout("a", names, [-joints]).layout.y_down
    assert own_layout("a", names, [joints[..., :2]]).layout.y_down  # pixels
    for names, missing in {
        ("Head", "Hip", "Hand"): "no joint is named foot, ankle or knee, so y",
        ("Tail", "Hip", "Foot"): "no joint is named head, nose or neck, so y",
        ("Tail", "Hip", "Hand"): "no joint is named head, nose or neck and none foot, ankle or knee, so y",
    }.items():
        made = own_layout("a", names, [-joints])
        assert made.upright.startswith(missing) and not made.layout.y_down
