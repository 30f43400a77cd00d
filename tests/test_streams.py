import pytest
import torch

from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.streams import bone, joint, make, velocity
from tiny_clips import make_clips


@pytest.fixture
def x(stick):
    """One clip of two bodies, three frames, integers that differ everywhere."""
    return torch.arange(1 * 3 * 3 * 5 * 2, dtype=torch.float32).reshape(1, 3, 3, 5, 2) ** 2


def test_joint_is_relative_to_the_first_bodys_root(x, stick):
    first, each = joint(x, stick, "first_frame"), joint(x, stick, "each_frame")
    for t in range(3):
        for m in range(2):
            assert torch.equal(first[0, :, t, 3, m], x[0, :, t, 3, m] - x[0, :, 0, 0, 0])
            assert torch.equal(each[0, :, t, 3, m], x[0, :, t, 3, m] - x[0, :, t, 0, 0])


def test_velocity_is_the_next_frame_minus_this_one(x):
    v = velocity(x)
    assert torch.equal(v[:, :, 0], x[:, :, 1] - x[:, :, 0])
    assert torch.equal(v[:, :, 1], x[:, :, 2] - x[:, :, 1])
    assert not v[:, :, 2].any()


def test_bone_points_from_the_parent(x, stick):
    b = bone(x, stick)
    assert not b[:, :, :, stick.root].any()
    for v, parent in stick.bones:
        assert torch.equal(b[:, :, :, v], x[:, :, :, v] - x[:, :, :, parent])


def test_make_keeps_the_asked_order(x, stick):
    assert list(make(x, stick, ("bone", "joint"))) == ["bone", "joint"]


def test_every_stream_sees_the_same_augmentation(device_clips, stick):
    # Streams of a turned, scaled, backward clip must be those that its joints give; a velocity computed before the flip
    # has the wrong sign, and a joint stream augmented alone fits no bone.
    settings = Augmentation(rotation=(180, 180, 180), scale=0.5, shear=0.3, flip_time=0.5, flip_sides=0.5)
    pipeline = Pipeline(stick, frames=8, augmentation=settings)
    streams, _ = pipeline.train(device_clips, torch.arange(16), torch.Generator().manual_seed(0))
    expected = make(streams["joint"], stick)  # a shift of the origin changes neither velocity nor bone
    torch.testing.assert_close(streams["velocity"], expected["velocity"])
    torch.testing.assert_close(streams["bone"], expected["bone"])


def test_mirror_points_from_the_same_joint_of_the_other_side(x, stick):
    found = make(x, stick, ("mirror",))["mirror"]
    left, right = stick.pairs[0]
    assert torch.equal(found[:, :, :, left], x[:, :, :, left] - x[:, :, :, right])
    assert torch.equal(found[:, :, :, right], -found[:, :, :, left])
    assert not found[:, :, :, stick.root].any()


def test_partner_is_relative_to_the_other_bodys_root_in_each_frame(x, stick):
    found = make(x, stick, ("partner",))["partner"]
    for m, other in ((0, 1), (1, 0)):
        assert torch.equal(found[..., m], x[..., m] - x[:, :, :, stick.root, None, other])
    three = make(x[..., [0, 1, 0]], stick, ("partner",))["partner"]
    assert torch.equal(three[..., 1], found[..., 1]) and not three[:, :, :, stick.root, 2].any()
    assert not make(x[..., :1], stick, ("partner",))["partner"].any()


def test_who_is_alone_has_no_partner(x, stick):
    masks = torch.tensor([[True, True], [True, False]])
    found = make(x.expand(2, -1, -1, -1, -1), stick, ("partner",), mask=masks)["partner"]
    assert found[0].any() and not found[1].any()


@pytest.fixture
def couple_and_single(stick):
    """A clip of two bodies and one of a single body; all joints were seen."""
    couple, single = make_clips(stick, 1, bodies=2)[0], make_clips(stick, 1, bodies=1)[0]
    return [couple, single]


def test_the_pipeline_knows_who_is_alone(couple_and_single, stick):
    clips = DeviceClips.from_clips(couple_and_single, "cpu")
    streams, _ = Pipeline(stick, frames=8, streams=("joint", "partner")).evaluate(clips, torch.arange(2))
    joint, partner = streams["joint"], streams["partner"]
    torch.testing.assert_close(partner[0, ..., 0], joint[0, ..., 0] - joint[0, :, :, stick.root, None, 1])
    assert not partner[1].any()


def test_company_in_the_batch_changes_no_confidence(couple_and_single, stick):
    pipeline = Pipeline(stick, frames=8, streams=("partner",), confidence=True)
    together = pipeline.evaluate(DeviceClips.from_clips(couple_and_single, "cpu"), torch.tensor([1]))[0]["partner"]
    alone = pipeline.evaluate(DeviceClips.from_clips(couple_and_single[1:], "cpu"), torch.tensor([0]))[0]["partner"]
    assert torch.equal(together[..., :1], alone)


def test_a_hidden_joint_has_no_mirror_and_a_hidden_root_no_partner(couple_and_single, stick):
    pipeline = Pipeline(
        stick, frames=8, streams=("joint", "mirror", "partner"), augmentation=Augmentation(hide_joints=0.4)
    )
    clips, places = DeviceClips.from_clips(couple_and_single[:1], "cpu"), torch.zeros(40, dtype=torch.long)
    streams, _ = pipeline.train(clips, places, torch.Generator().manual_seed(0))
    left, right = stick.pairs[0]
    hidden = streams["joint"].eq(0).all(1).all(1)[..., 1]  # (N, V); the second body, whose root is not the origin
    either = hidden[:, left] | hidden[:, right]
    assert torch.equal(streams["mirror"][:, :, :, left, 1].eq(0).all(1).all(1), either)
    rootless = hidden[:, stick.root]
    assert torch.equal(streams["partner"][:, :, :, left, 1].eq(0).all(1).all(1), rootless | hidden[:, left])
    assert 0 < rootless.sum() < 40 and 0 < either.sum() < 40
