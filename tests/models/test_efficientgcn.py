import math

import pytest
import torch

import last
from last.models.cost import count_products
from last.models.efficientgcn import Inputs, hop_partition
from last.skeleton import load_layout

# SPEC 7: MACs in billions of 288 frames of two bodies, as published and with the graph products.
MACS = {
    "efficientgcn_b0": (2.69, 3.23),
    "efficientgcn_b4": (8.24, 8.98),
    "efficientgcn_b0_2021": (3.03, 3.58),
    "efficientgcn_b4_2021": (15.09, 15.78),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_are_the_published_ones(name):
    published, with_graphs = MACS[name]
    macs = count_products(name, frames=288, bodies=2)
    assert round(macs.all / 1e9, 2) == pytest.approx(with_graphs, abs=0.011)
    assert round(macs.thop / 1e9, 2) == pytest.approx(published, abs=0.011)


def test_a_joint_reaches_those_two_bones_away():
    layout = load_layout("ntu")
    near, one, two = hop_partition(layout)
    wrist, elbow, shoulder, hand, thumb = 6, 5, 4, 7, 22
    assert near[wrist].nonzero()[0].tolist() == [wrist]
    assert one[wrist].nonzero()[0].tolist() == [elbow, hand]
    assert two[wrist].nonzero()[0].tolist() == [shoulder, thumb]
    # The middle of the spine has all 25 joints within 10 bones; a hand's tip has not the knees, ankles and feet.
    assert near[1, 1] == pytest.approx(1 / 25)
    assert near[21, 21] == pytest.approx(1 / 19)


def test_the_three_inputs_by_hand():
    layout = load_layout("ntu")
    x = torch.zeros(1, 3, 5, 25)
    x[0, :, :, 1] = torch.tensor([1.0, 2.0, 3.0])[:, None]  # the middle of the spine
    x[0, 0, :, 0] = torch.tensor([0.0, 1.0, 4.0, 9.0, 16.0])  # its base moves along x
    joints, velocities, bones = Inputs(layout)(x)
    assert joints[0, :, 2, 0].tolist() == [4, 0, 0, 3, -2, -3]
    assert velocities[0, 0, :, 0].tolist() == [1, 3, 5, 0, 0]
    assert velocities[0, 3, :, 0].tolist() == [4, 8, 12, 0, 0]
    assert bones[0, :3, 2, 0].tolist() == [3, -2, -3]  # from the middle to the base: bones grow from the middle
    length = math.sqrt(9 + 4 + 9) + 1e-4
    angles = [math.acos(part / length) for part in (3, -2, -3)]
    assert bones[0, 3:, 2, 0].tolist() == pytest.approx(angles, abs=1e-6)
    assert bones[0, :, 0, 1].tolist() == pytest.approx([0, 0, 0] + [math.pi / 2] * 3)  # the middle itself has none


def test_an_absent_body_is_a_body_of_zeros_or_none():
    torch.manual_seed(0)
    joints = torch.randn(1, 3, 8, 15, 2)
    mask = torch.tensor([[True, False]])
    both = {"joint": joints * mask[:, None, None, None]}
    padded = last.create_model("efficientgcn_b0", 4, "sbu15").eval()
    mean = last.create_model("efficientgcn_b0", 4, "sbu15", bodies="mean").eval()
    mean.load_state_dict(padded.state_dict())
    torch.testing.assert_close(padded({"joint": joints}, mask), padded(both))
    torch.testing.assert_close(mean({"joint": joints}, mask), mean({"joint": joints[..., :1]}))
    assert (padded(both) - mean({"joint": joints}, mask)).abs().max() > 1e-5


def test_its_inputs_are_made_of_joints_alone():
    with pytest.raises(ValueError, match=r"given the streams joint, bone, expected joint alone"):
        last.create_model("efficientgcn_b0", streams=("joint", "bone"))
