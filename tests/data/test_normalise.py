import math

import pytest
import torch

from last.data.augment import rotation_matrices
from last.data.normalise import front, minmax, torso
from last.setting_values import ConfigError
from last.skeleton import load_layout


@pytest.fixture
def x():
    return torch.randn(3, 3, 4, 25, 2, generator=torch.Generator().manual_seed(0))


NTU = load_layout("ntu")
BOTH = torch.ones(3, 2, dtype=torch.bool)


def test_torso_makes_the_first_bodys_trunk_one(x):
    scaled = torso(x * 7, BOTH, NTU)
    trunk = (scaled[:, :, :, 20, 0] - scaled[:, :, :, 0, 0]).norm(dim=1).mean(1)
    torch.testing.assert_close(trunk, torch.ones(3))
    torch.testing.assert_close(scaled, torso(x, BOTH, NTU))


def test_torso_of_a_layout_whose_root_is_its_centre_goes_from_hips_to_shoulders():
    coco = load_layout("coco17")
    x = torch.randn(2, 2, 4, 17, 1, generator=torch.Generator().manual_seed(0))
    scaled = torso(x, torch.ones(2, 1, dtype=torch.bool), coco)[..., 0]
    middle = {part: scaled[:, :, :, list(coco.pair(part))].mean(-1) for part in ("shoulder", "hip")}
    torch.testing.assert_close((middle["shoulder"] - middle["hip"]).norm(dim=1).mean(1), torch.ones(2))


def test_minmax_spans_each_axis_over_present_bodies(x):
    mask = torch.tensor([[True, False], [True, True], [True, True]])
    x[0, ..., 1] = 0
    y = minmax(x * 5 + 3, mask, NTU)
    for i, bodies in ((0, slice(0, 1)), (1, slice(0, 2))):
        for axis in range(3):
            assert y[i, axis, :, :, bodies].min().item() == pytest.approx(-1, abs=1e-6)
            assert y[i, axis, :, :, bodies].max().item() == pytest.approx(1, abs=1e-6)
    assert not y[0, ..., 1].any()


def test_minmax_of_a_flat_axis_is_finite(x):
    x[:, 2] = 1.5
    assert minmax(x, BOTH, NTU).isfinite().all()


def test_front_undoes_a_turn_about_the_vertical(x):
    angles = torch.tensor([[0, math.radians(a), 0] for a in (40, -170, 90)])
    turned = (rotation_matrices(angles) @ x.flatten(2)).view_as(x)
    torch.testing.assert_close(front(turned, BOTH, NTU), front(x, BOTH, NTU), atol=1e-5, rtol=1e-5)
    left, right = NTU.pair("shoulder")
    faced = front(x, BOTH, NTU)
    across = faced[:, :, 0, right, 0] - faced[:, :, 0, left, 0]
    assert (across[:, 0] > 0).all()  # who faces a Kinect has the left shoulder at the smaller x
    torch.testing.assert_close(across[:, 2], torch.zeros(3), atol=1e-6, rtol=0)


def test_front_without_shoulders_to_see_leaves_the_clip(x):
    x[:, :, 0] = 0
    assert torch.equal(front(x, BOTH, NTU), x)


@pytest.mark.parametrize(("step", "layout"), [(front, "coco17"), (front, "hand21")])
def test_a_layout_without_the_joints_is_told_so(step, layout):
    layout = load_layout(layout)
    x = torch.zeros(1, layout.dimensions, 2, len(layout.joints), 1)
    with pytest.raises(ConfigError, match=f"layout '{layout.name}'"):
        step(x, torch.ones(1, 1, dtype=torch.bool), layout)
