import math

import pytest
import torch

from last.data.augment import Augmentation, augment, hidden, rotation_matrices


@pytest.fixture
def x():
    """Four clips of two bodies: (N, C, T, V, M) = (4, 3, 6, 5, 2)."""
    return torch.randn(4, 3, 6, 5, 2, generator=torch.Generator().manual_seed(0))


def run(x, layout, seed=0, **settings):
    return augment(x, None, layout, Augmentation(**settings), torch.Generator().manual_seed(seed))[0]


def lengths(x, layout):
    return (x - x[:, :, :, list(layout.parents)]).norm(dim=1)


def test_rotation_by_hand():
    quarter = torch.tensor([[math.pi / 2, 0, 0], [0, math.pi / 2, 0], [0, 0, math.pi / 2]])
    about_x, about_y, about_z = rotation_matrices(quarter)
    y, z = torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 0, 1])
    torch.testing.assert_close(about_x @ y, z, atol=1e-6, rtol=0)
    torch.testing.assert_close(about_y @ z, torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(about_z @ torch.tensor([1.0, 0, 0]), y, atol=1e-6, rtol=0)


def test_rotation_keeps_bone_lengths_and_differs_between_clips(x, stick):
    turned = run(x, stick, rotation=(60, 60, 60))
    torch.testing.assert_close(lengths(turned, stick), lengths(x, stick))
    change = (turned - x).abs().amax((1, 2, 3, 4))
    assert (change > 0.01).all()
    assert len(set(change.tolist())) == 4


def test_rotation_stays_within_its_limit():
    x = torch.zeros(500, 3, 1, 5, 1)
    x[:, 0] = 1
    from last.skeleton import load_layout

    turned = run(x, load_layout("ntu"), rotation=(0, 30, 0))
    angles = torch.atan2(turned[:, 2, 0, 0, 0], turned[:, 0, 0, 0, 0]).rad2deg()
    assert angles.abs().max() <= 30.001
    assert angles.max() > 25
    assert angles.min() < -25


def test_a_2d_clip_turns_in_its_plane(x, stick):
    flat = run(x[:, :2], stick, rotation=(0, 0, 90))
    torch.testing.assert_close(flat.norm(dim=1), x[:, :2].norm(dim=1))
    assert (flat - x[:, :2]).abs().max() > 0.1
    assert torch.equal(run(x[:, :2], stick, rotation=(90, 90, 0)), x[:, :2])


def test_scale_is_one_factor_a_clip(x, stick):
    ratio = run(x, stick, scale=0.2) / x
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1, :1].expand_as(ratio))
    assert ((ratio - 1).abs() <= 0.2).all()
    assert ratio.std() > 0


def test_shear_leaves_the_diagonal(stick):
    x = torch.eye(3)[None, :, :, None, None].repeat(8, 1, 1, 5, 1)  # frame t shows the unit vector of axis t
    sheared = run(x, stick, shear=0.4)[:, :, :, 0, 0]
    torch.testing.assert_close(sheared.diagonal(dim1=1, dim2=2), torch.ones(8, 3))
    off = sheared[:, ~torch.eye(3, dtype=torch.bool)]
    assert off.abs().max() <= 0.4
    assert off.abs().max() > 0.2


def test_noise_has_its_deviation(stick):
    noise = run(torch.zeros(16, 3, 32, 5, 2), stick, noise=0.05)
    assert noise.std().item() == pytest.approx(0.05, rel=0.05)


def test_flip_in_time_plays_backwards(x, stick):
    assert torch.equal(run(x, stick, flip_time=1), x.flip(2))


def test_flip_of_sides_swaps_and_mirrors(x, stick):
    flipped = run(x, stick, flip_sides=1)
    assert torch.equal(flipped[:, 0, :, 3], -x[:, 0, :, 4])
    assert torch.equal(flipped[:, 1:, :, 3], x[:, 1:, :, 4])
    assert torch.equal(flipped[:, 0, :, 0], -x[:, 0, :, 0])
    assert torch.equal(run(flipped, stick, flip_sides=1), x)


@pytest.mark.parametrize("flip", ["flip_time", "flip_sides"])
def test_flips_choose_clip_by_clip(x, stick, flip):
    many = x.repeat(50, 1, 1, 1, 1)
    flipped = (run(many, stick, **{flip: 0.25}) != many).flatten(1).any(1).float().mean()
    assert flipped.item() == pytest.approx(0.25, abs=0.1)


def test_nothing_asked_nothing_changed(x, stick):
    assert torch.equal(run(x, stick), x)


def test_the_generator_decides(x, stick):
    settings = {"rotation": (30, 30, 30), "scale": 0.1, "shear": 0.1, "noise": 0.01}
    assert torch.equal(run(x, stick, 1, **settings), run(x, stick, 1, **settings))
    assert not torch.equal(run(x, stick, 1, **settings), run(x, stick, 2, **settings))


@pytest.mark.parametrize("flip", ["flip_time", "flip_sides"])
def test_what_is_known_of_joints_flips_with_them(x, stick, flip):
    seen = x[:, :1] + 10  # tells each joint of each frame from all others
    settings = Augmentation(**{flip: 0.5})
    flipped, marks = augment(x, seen, stick, settings, torch.Generator().manual_seed(1))
    expected = {"flip_time": seen.flip(2), "flip_sides": seen[:, :, :, list(stick.mirror)]}[flip]
    changed = [not torch.equal(a, b) for a, b in zip(flipped, x, strict=True)]
    assert 0 < sum(changed) < 4
    for clip, (has_changed, mark) in enumerate(zip(changed, marks, strict=True)):
        assert torch.equal(mark, (expected if has_changed else seen)[clip])


def test_limbs_change_by_one_factor_a_bone_the_same_on_both_sides(x, stick):
    changed = run(x, stick, limbs=0.3)
    ratio = lengths(changed, stick)[:, :, 1:] / lengths(x, stick)[:, :, 1:]  # (N, T, bones, M), without the root
    assert (ratio - ratio[:, :1, :, :1]).abs().max() < 1e-4  # alike in all frames and bodies of a clip
    assert (ratio - 1).abs().max() <= 0.3 and (ratio - 1).abs().max() > 0.1
    torch.testing.assert_close(ratio[:, :, 2], ratio[:, :, 3])  # left and right hand
    torch.testing.assert_close(changed[:, :, :, 0], x[:, :, :, 0])
    # A bone keeps its direction, and what hangs from it moves along.
    bones, before = (joints - joints[:, :, :, list(stick.parents)] for joints in (changed, x))
    torch.testing.assert_close(bones[:, :, :, 1:], before[:, :, :, 1:] * ratio[:, None])


def hide(layout, clips=200, frames=10, **settings):
    shape = (clips, 3, frames, len(layout.parents), 2)
    generator = torch.Generator().manual_seed(0)
    return hidden(shape, layout, Augmentation(**settings), generator, torch.device("cpu"))


def test_nothing_is_hidden_unless_asked_for(stick):
    assert hide(stick) is None


def test_joints_are_hidden_for_the_whole_clip(stick):
    covered = hide(stick, hide_joints=0.2)
    assert covered.shape == (200, 1, 1, 5, 1)
    assert 0.15 < covered.float().mean() < 0.25


def test_a_limb_is_hidden_with_all_that_hangs_from_it(stick):
    from last.skeleton import load_layout

    layout = load_layout("kinect20")
    index = {joint: v for v, joint in enumerate(layout.joints)}
    covered = hide(layout, hide_limb=1.0)[:, 0, 0, :, 0]
    for joint, parent in layout.bones:
        if parent != layout.root:
            assert not (covered[:, parent] & ~covered[:, joint]).any()
    assert covered.any(1).all() and covered.sum(1).max() <= 10
    assert covered[:, index["left_hand"]].any() and not covered[:, layout.root].any()
    assert 0.4 < hide(layout, hide_limb=0.5)[:, 0, 0, :, 0].any(1).float().mean() < 0.6


def test_one_span_of_frames_is_hidden(stick):
    covered = hide(stick, frames=100, hide_frames=0.5)[:, 0, :, 0, 0].int()
    assert (covered.diff(dim=1).abs().sum(1) <= 2).all()  # one piece, which may touch an end
    share = covered.float().mean(1)
    assert share.max() <= 0.51 and 0.2 < share.mean() < 0.3
