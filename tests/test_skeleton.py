from dataclasses import replace

import numpy as np
import pytest
import yaml

from last.config import available
from last.setting_values import ConfigError
from last.skeleton import Layout, layout_from_dict, load_layout, spatial_partition

JOINTS = {
    "ntu": 25, "kinect20": 20, "utd20": 20, "msr20": 20, "msr20_screen": 20, "sbu15": 15, "penn13": 13, "coco17": 17,
    "openpose18": 18, "openpose25": 25, "mediapipe33": 33, "mediapipe33_image": 33, "hand21": 21,
}  # fmt: skip


def test_every_builtin_layout_has_its_joints():
    assert {name: len(load_layout(name).joints) for name in available("layout")} == JOINTS


@pytest.mark.parametrize("name", JOINTS)
def test_pairs_are_mirror_images(name):
    layout = load_layout(name)
    mirror = layout.mirror
    assert [mirror[v] for v in mirror] == list(range(len(layout.joints)))
    for v, parent in layout.bones:  # the bone of the other side hangs from the other side's parent
        assert layout.parents[mirror[v]] == mirror[parent]


def test_ntu_edges_are_those_of_the_field():
    spec = (
        "1:0 20:1 2:20 3:2 4:20 5:4 6:5 7:6 22:7 21:22 8:20 9:8 10:9 11:10 24:11 23:24 12:0 13:12 14:13 15:14 16:0 "
        "17:16 18:17 19:18"
    )
    expected = {tuple(map(int, edge.split(":"))) for edge in spec.split()}
    ntu = load_layout("ntu")
    assert set(ntu.bones) == expected
    assert ntu.centre == 20
    assert ntu.root == 0


def test_msr_edges_are_those_of_its_readme():
    spec = "7-4 4-3 3-20 3-1 1-8 8-10 10-12 2-9 9-11 11-13 7-5 7-6 5-14 14-16 16-18 6-15 15-17 17-19"
    expected = {frozenset(int(j) - 1 for j in edge.split("-")) for edge in spec.split()} | {frozenset({2, 1})}
    assert {frozenset(bone) for bone in load_layout("msr20").bones} == expected


def test_partition_by_hand(stick):
    # Degrees with self-loops: base 2, middle 3, top 4, hands 2. Hops from the centre (middle): 1 0 1 2 2.
    d = np.array([2, 3, 4, 2, 2])
    expected = np.zeros((3, 5, 5))
    expected[0] = np.diag(1 / d)
    for outer, inner in ((0, 1), (2, 1), (3, 2), (4, 2)):
        expected[1, outer, inner] = 1 / d[inner]
        expected[2, inner, outer] = 1 / d[outer]
    np.testing.assert_allclose(spatial_partition(stick), expected, rtol=1e-6)


@pytest.mark.parametrize("name", JOINTS)
def test_partition_entries_stay_within_one_and_columns_add_up_to_one(name):
    # Normalising the subsets one by one, with empty rows clamped, makes entries as large as 707.
    partition = spatial_partition(load_layout(name))
    assert partition.min() >= 0
    assert partition.max() <= 1
    np.testing.assert_allclose(partition.sum((0, 1)), 1, rtol=1e-6)
    assert all(subset.any() for subset in partition)


def test_layout_survives_its_file_form(stick, tmp_path):
    file = tmp_path / "stick.yaml"
    file.write_text(yaml.safe_dump(stick.to_dict(), sort_keys=False))
    assert load_layout(str(file)) == stick


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"dimensions": 2}, "it has 3 dimensions there and 2 here"),
        ({"joints": ("base", "waist", "top", "left_hand", "right_hand")}, "joint 1 is 'middle' there and 'waist' here"),
        (
            {"joints": ("base", "middle", "top", "left_hand"), "parents": (0, 0, 1, 2)},
            "it has 5 joints there and 4 here",
        ),
        ({"parents": (0, 0, 1, 2, 1)}, "the parent of the joint 'right_hand' is 'top' there and 'middle' here"),
        ({"centre": 2}, "its centre is 'middle' there and 'top' here"),
        ({"y_down": True}, "y_down is false there and true here"),
        ({"name": "man"}, "its name is 'stick' there and 'man' here"),
    ],
)
def test_a_difference_of_layouts_is_the_first_that_a_person_would_name(stick, change, words):
    assert stick.difference(replace(stick, **change)) == words


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"joints": {"a": "a", "b": "c"}}, "not among its joints: c"),
        ({"joints": {"a": "a", "b": "b"}}, "has 2 roots"),
        ({"joints": {"a": "a", "b": "c", "c": "b"}}, "hang in a loop: b, c"),
        ({"centre": "z"}, "not among its joints: z"),
        ({"dimensions": 4}, "4 dimensions, expected 2 or 3"),
        ({"colour": "red"}, "has the unknown key 'colour'"),
        ({"joints": ["a", "b"]}, "must map each joint to its parent"),
    ],
)
def test_a_wrong_layout_says_what_is_wrong(change, sentence):
    good = {"name": "x", "dimensions": 3, "centre": "a", "joints": {"a": "a", "b": "a"}}
    with pytest.raises(ConfigError, match=sentence):
        layout_from_dict(good | change, "x.yaml")


def test_unknown_layout_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'kinect20'"):
        load_layout("kinect2")


def test_a_joint_named_twice_is_refused():
    with pytest.raises(ConfigError, match="names these joints twice: a"):
        Layout("x", ("a", "a"), (0, 0), 0, 3)
