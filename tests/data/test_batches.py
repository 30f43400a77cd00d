from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline, sample_times
from last.data.clip import Clip
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter
from last.setting_values import ConfigError
from last.skeleton import load_layout


def ramp(frames, bodies=1, name="ramp"):
    """Joint v of body m in frame t lies at (t, m, v)."""
    t, m, v = np.meshgrid(np.arange(frames), np.arange(bodies), np.arange(5), indexing="ij")
    return Clip(np.stack([t, m, v], axis=-1).astype(np.float32), name, "stick")


def test_gather_finds_every_joint_of_every_body():
    clips = DeviceClips.from_clips([ramp(4), ramp(3, bodies=2), ramp(5)], "cpu")
    index, times = torch.tensor([1, 2]), torch.tensor([[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]])
    x, mask = clips.gather(index, times, bodies=2)
    assert x.shape == (2, 3, 3, 5, 2)
    assert mask.tolist() == [[True, True], [True, False]]
    for n in range(2):
        for t in range(3):
            for v in range(5):
                for m in range(2):
                    expected = [times[n, t].item(), m, v] if mask[n, m] else [0, 0, 0]
                    assert x[n, :, t, v, m].tolist() == expected


def test_gather_interpolates_between_frames():
    clips = DeviceClips.from_clips([ramp(4)], "cpu")
    x, _ = clips.gather(torch.tensor([0]), torch.tensor([[0.25, 2.5, 3.0]]), bodies=1)
    torch.testing.assert_close(x[0, 0, :, 0, 0], torch.tensor([0.25, 2.5, 3.0]))


def test_gather_leaves_surplus_bodies_out():
    clips = DeviceClips.from_clips([ramp(3, bodies=3)], "cpu")
    x, mask = clips.gather(torch.tensor([0]), torch.zeros(1, 2), bodies=2)
    assert x.shape[-1] == mask.shape[1] == 2


def test_single_persons_pay_for_one_body_unless_the_network_was_trained_with_more(stick):
    single, both = (DeviceClips.from_clips([ramp(3, bodies=count), ramp(3)], "cpu") for count in (1, 2))
    plain, padded = Pipeline(stick, frames=3), Pipeline(stick, frames=3, pad_bodies=True)
    assert plain.evaluate(single, torch.tensor([1]))[0]["joint"].shape[-1] == 1
    # A clip looks the same whether clips of two persons lie beside it or not.
    for clips in (single, both):
        streams, mask = padded.evaluate(clips, torch.tensor([1]))
        assert mask.tolist() == [[True, False]]
        assert streams["joint"].shape[-1] == 2 and streams["joint"][..., 1].eq(0).all()


def test_where_all_bodies_are_present_there_is_no_mask_to_pick_them_by(stick):
    both, mixed = (DeviceClips.from_clips([ramp(3, bodies=count), ramp(3, bodies=2)], "cpu") for count in (2, 1))
    for pipeline in (Pipeline(stick, frames=3), Pipeline(stick, frames=3, pad_bodies=True)):
        streams, mask = pipeline.evaluate(both, torch.tensor([0, 1]))
        assert mask is None and streams["joint"].shape[-1] == 2
        streams, mask = pipeline.evaluate(mixed, torch.tensor([1]))  # all present, and the next batch may be another
        assert mask.tolist() == [[True, True]]
    assert Pipeline(stick, frames=3, max_bodies=1).evaluate(mixed, torch.tensor([0]))[1] is None


def test_a_store_gives_the_same_as_its_clips(tmp_path, stick):
    clips = [ramp(4, name="a"), ramp(3, bodies=2, name="b"), ramp(1, name="c")]
    with StoreWriter(tmp_path / "store", stick, ["x"]) as writer:
        for clip in clips:
            writer.append(Clip(clip.joints, clip.name, clip.layout, label=0))
    chosen = np.array([2, 1])
    stored = DeviceClips.from_store(ClipStore.open(tmp_path / "store"), chosen, "cpu")
    direct = DeviceClips.from_clips([clips[i] for i in chosen], "cpu")
    for key in ("rows", "offset", "frames", "bodies"):
        assert torch.equal(getattr(stored, key), getattr(direct, key))
    assert stored.labels.tolist() == [0, 0]


@given(
    frames=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    count=st.integers(2, 80),
    low=st.floats(0.1, 1),
    jitter=st.booleans(),
    seed=st.integers(0, 100),
)
def test_samples_stay_within_true_lengths_and_in_order(frames, count, low, jitter, seed):
    lengths = torch.tensor(frames)
    times = sample_times(lengths, count, (low, 1.0), jitter, torch.Generator().manual_seed(seed))
    assert times.shape == (len(frames), count)
    assert (times >= 0).all()
    assert (times <= (lengths - 1).unsqueeze(1) + 1e-3).all()
    assert (times.diff(dim=1) >= -1e-3).all()


def test_crops_keep_their_fraction_and_move():
    times = sample_times(torch.full((200,), 101), 10, (0.5, 0.8), False, torch.Generator().manual_seed(0))
    kept = (times[:, -1] - times[:, 0]) / 100
    assert 0.5 <= kept.min() < 0.55
    assert 0.75 < kept.max() <= 0.8001
    assert times[:, 0].max() > 30


def test_a_short_clip_never_gives_a_motionless_crop(stick):
    # Padded to 300 frames and cropped without its true length, a clip of ten frames would mostly stand still.
    clips = DeviceClips.from_clips([ramp(10), ramp(300)], "cpu")
    pipeline = Pipeline(stick, frames=16, augmentation=Augmentation(crop=(0.5, 1.0)))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        streams, _ = pipeline.train(clips, torch.tensor([0]), generator)
        moved = streams["velocity"][0, 0, :-1, 0, 0]
        assert (moved > 0.2).all()


def test_evaluation_takes_the_whole_clip(stick):
    clips = DeviceClips.from_clips([ramp(10), ramp(33)], "cpu")
    streams, _ = Pipeline(stick, frames=8).evaluate(clips, torch.tensor([0, 1]))
    first_joint = streams["joint"][:, 0, :, 0, 0]
    torch.testing.assert_close(first_joint[:, -1] - first_joint[:, 0], torch.tensor([9.0, 32.0]))


def test_test_time_crops_run_from_the_beginning_to_the_end(stick):
    clips = DeviceClips.from_clips([ramp(101)], "cpu")
    pipeline = Pipeline(stick, frames=8, origin="first_frame", streams=("joint",))
    whole = [
        pipeline.evaluate(clips, torch.tensor([0]), crop, 3)[0]["joint"][0, 0, -1, 0, 0].item() for crop in range(3)
    ]
    assert whole == pytest.approx([90, 90, 90], abs=1e-3)  # each spans 90 %, from its own first frame


def test_a_clip_of_one_frame_passes(stick):
    clips = DeviceClips.from_clips([ramp(1)], "cpu")
    streams, _ = Pipeline(stick, frames=8, normalise=("torso", "minmax")).evaluate(clips, torch.tensor([0]))
    assert all(stream.isfinite().all() for stream in streams.values())
    assert not streams["velocity"].any()


def test_absent_bodies_stay_zero_under_augmentation(stick):
    clips = DeviceClips.from_clips([ramp(6, bodies=2), ramp(6)], "cpu")
    settings = Augmentation(rotation=(30, 30, 30), noise=0.5, shear=0.2)
    streams, mask = Pipeline(stick, frames=4, augmentation=settings).train(
        clips, torch.tensor([1]), torch.Generator().manual_seed(0)
    )
    assert mask.tolist() == [[True, False]]
    assert not streams["bone"][..., 1].any()
    assert not streams["velocity"][..., 1].any()


def test_normalisation_of_the_pose_comes_before_augmentation_and_of_the_range_after(device_clips, stick):
    index = torch.arange(16)
    settings = Augmentation(scale=0.5)
    scaled, _ = Pipeline(stick, frames=8, normalise=("torso",), augmentation=settings).train(
        device_clips, index, torch.Generator().manual_seed(0)
    )
    trunk = (scaled["joint"][:, :, :, 1, 0] - scaled["joint"][:, :, :, 0, 0]).norm(dim=1).mean(1)
    assert trunk.std() > 0.1  # torso length is one before the scaling, so the scaling shows
    boxed, _ = Pipeline(stick, frames=8, normalise=("minmax",), augmentation=settings).train(
        device_clips, index, torch.Generator().manual_seed(0)
    )
    joint = boxed["joint"]
    torch.testing.assert_close(joint.amax((2, 3, 4)) - joint.amin((2, 3, 4)), torch.full((16, 3), 2.0))


def test_an_unknown_normalisation_is_refused(stick):
    with pytest.raises(ConfigError, match="'torsoo', expected any of torso, front, minmax"):
        Pipeline(stick, normalise=("torsoo",))


def test_a_normalisation_that_the_layout_cannot_have_is_refused_before_the_first_batch():
    with pytest.raises(ConfigError, match="layout 'coco17' is 2D"):
        Pipeline(load_layout("coco17"), normalise=("front",))


@pytest.mark.parametrize("streams", [(), ("joint", "bones")])
def test_an_unknown_stream_is_refused(stick, streams):
    with pytest.raises(ConfigError, match="expected one or more of joint, velocity, bone"):
        Pipeline(stick, streams=streams)


@pytest.fixture
def half_seen():
    """A clip of 5 frames whose joint 3 is missing in frame 2, and joint 4 is sure by half; another of two bodies."""
    confidence = np.ones((5, 1, 5), np.float32)
    confidence[2, 0, 3], confidence[:, 0, 4] = np.nan, 0.5
    return DeviceClips.from_clips([replace(ramp(5), confidence=confidence), ramp(5, bodies=2)], "cpu")


INDEX = torch.tensor([0, 1])


def test_a_masked_joint_is_zero_wherever_it_takes_part(half_seen, stick):
    plain, _ = Pipeline(stick, frames=5).evaluate(half_seen, INDEX)
    masked, _ = Pipeline(stick, frames=5, missing="mask").evaluate(half_seen, INDEX)
    zeroed = {name: set(map(tuple, (masked[name] != plain[name]).any(1)[..., 0].nonzero().tolist())) for name in plain}
    assert zeroed["joint"] == {(0, 2, 3)}
    assert zeroed["velocity"] == {(0, 1, 3), (0, 2, 3)}  # from it and to it
    assert zeroed["bone"] == {(0, 2, 3)}  # a hand is no joint's parent
    assert all((masked[name][0, :, 2, 3] == 0).all() for name in masked)


def test_a_missing_parent_masks_its_children(stick):
    confidence = np.ones((2, 1, 5), np.float32)
    confidence[:, 0, 2] = np.nan  # the top, on which both hands hang
    clips = DeviceClips.from_clips([replace(ramp(2), confidence=confidence)], "cpu")
    streams, _ = Pipeline(stick, frames=2, missing="mask").evaluate(clips, torch.tensor([0]))
    assert (streams["bone"][0, 2, 0, :, 0] != 0).tolist() == [False, True, False, False, False]


def test_confidence_is_a_channel_of_each_stream(half_seen, stick):
    streams, _ = Pipeline(stick, frames=5, confidence=True).evaluate(half_seen, INDEX)
    sure = {name: stream[:, 3] for name, stream in streams.items()}
    assert sure["joint"][0, :, 3, 0].tolist() == [1, 1, 0, 1, 1]
    assert sure["joint"][0, 0, 4, 0].item() == pytest.approx(0.5, abs=0.002)
    assert sure["velocity"][0, :, 3, 0].tolist() == [1, 0.5, 0.5, 1, 1]
    assert sure["bone"][0, 0, 4, 0].item() == pytest.approx(0.75, abs=0.002)
    assert sure["joint"][0, :, :, 1].eq(0).all()  # the absent body
    assert sure["joint"][1].eq(1).all()  # a clip of which nothing is said


def test_the_store_says_the_same_of_joints_as_its_clips(half_seen, stick, tmp_path):
    confidence = np.ones((5, 1, 5), np.float32)
    confidence[2, 0, 3], confidence[:, 0, 4] = np.nan, 0.5
    with StoreWriter(tmp_path / "s", stick, ["x"]) as writer:
        writer.append(replace(ramp(5), confidence=confidence, label=0))
        writer.append(replace(ramp(5, bodies=2), name="two", label=0))
    stored = DeviceClips.from_store(ClipStore.open(tmp_path / "s"), np.array([0, 1]), "cpu")
    assert stored.seen is not None and torch.equal(stored.seen, half_seen.seen)


def test_a_training_clip_is_masked_as_it_was_turned_and_flipped(half_seen, stick):
    settings = Augmentation(rotation=(30, 30, 30), flip_time=1.0, flip_sides=1.0)
    pipeline = Pipeline(stick, frames=5, missing="mask", augmentation=settings, streams=("joint",))
    streams, _ = pipeline.train(half_seen, torch.tensor([0]), torch.Generator().manual_seed(0))
    zero = (streams["joint"][0] == 0).all(0)[..., 0].nonzero().tolist()
    assert [2, 4] in zero and [2, 3] not in zero  # the other hand, in the middle frame


def test_padding_takes_frames_as_they_are_and_zeros_after_them(stick):
    clips = DeviceClips.from_clips([ramp(3), ramp(9)], "cpu")
    pipeline = Pipeline(stick, frames=8, sampling="pad", origin="stored")
    for streams, _ in (
        pipeline.evaluate(clips, INDEX),
        pipeline.train(clips, INDEX, torch.Generator().manual_seed(0)),
    ):
        time = streams["joint"][:, 0, :, 4, 0]
        assert time.tolist() == [[0, 1, 2, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7]]
        assert streams["joint"][0, 2, :, 4, 0].tolist() == [4, 4, 4, 0, 0, 0, 0, 0]
        # The leap to zero at a clip's end is part of what networks of padded clips were trained on.
        assert streams["velocity"][0, 0, :, 4, 0].tolist() == [1, 1, -2, 0, 0, 0, 0, 0]
        assert streams["bone"][0, :, 3:].eq(0).all()


def test_padding_stays_zero_about_another_origin_and_range(stick):
    clips = DeviceClips.from_clips([ramp(3), ramp(8)], "cpu")
    pipeline = Pipeline(stick, frames=8, sampling="pad", normalise=("minmax",))
    joint = pipeline.evaluate(clips, INDEX)[0]["joint"]
    assert joint[0, :, 3:].eq(0).all()
    assert joint[0, 0, :3, 0, 0].tolist() == [0, 1, 2]  # -1 to 1 over the clip's own frames, from its first root


def test_stored_joints_keep_their_origin(stick):
    clips = DeviceClips.from_clips([replace(ramp(4), joints=ramp(4).joints + 10)], "cpu")
    joint = Pipeline(stick, frames=4, origin="stored").evaluate(clips, torch.tensor([0]))[0]["joint"]
    assert joint[0, 0, :, 0, 0].tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize(
    ("crop", "crops", "first", "last"), [(0, 1, 1, 4), (0, 2, 0, 3), (1, 2, 2, 5)], ids=["one", "first", "second"]
)
def test_a_span_is_scored_from_the_middle_or_from_end_to_end(stick, crop, crops, first, last):
    clips = DeviceClips.from_clips([ramp(6)], "cpu")
    pipeline = Pipeline(stick, frames=4, test_span=0.6, origin="stored")
    time = pipeline.evaluate(clips, torch.tensor([0]), crop, crops)[0]["joint"][0, 0, :, 0, 0]
    assert time[[0, -1]].tolist() == pytest.approx([first, last])


def test_the_velocity_of_bones_is_that_of_their_difference(stick):
    clips = DeviceClips.from_clips([replace(ramp(4), joints=ramp(4).joints ** 2)], "cpu")
    streams = Pipeline(stick, frames=4, streams=("bone", "bone_velocity")).evaluate(clips, torch.tensor([0]))[0]
    bone = streams["bone"]
    assert torch.equal(streams["bone_velocity"][:, :, :3], bone[:, :, 1:] - bone[:, :, :3])
    assert streams["bone_velocity"][:, :, 3].eq(0).all()


def test_the_velocity_of_a_bone_rests_on_both_ends_in_both_frames(half_seen, stick):
    pipeline = Pipeline(stick, frames=5, missing="mask", streams=("bone_velocity",))
    plain = Pipeline(stick, frames=5, streams=("bone_velocity",)).evaluate(half_seen, INDEX)[0]["bone_velocity"]
    masked = pipeline.evaluate(half_seen, INDEX)[0]["bone_velocity"]
    # Joint 3, a hand, is missing in frame 2: its bone's changes to that frame and from it are not known.
    assert masked[0, :, 1:3, 3].eq(0).all()
    assert torch.equal(masked[0, :, :, [0, 1, 2, 4]], plain[0, :, :, [0, 1, 2, 4]])


def test_warped_time_keeps_its_ends_and_never_runs_back():
    frames = torch.full((500,), 101)
    generator = torch.Generator().manual_seed(0)
    assert (sample_times(frames, 51, (1.0, 1.0), True, generator, warp=0.9).diff(dim=1) > 0).all()
    times = sample_times(frames, 51, (1.0, 1.0), False, generator, warp=0.9)
    even = torch.linspace(0, 100, 51).expand(500, -1)
    torch.testing.assert_close(times[:, [0, -1]], even[:, [0, -1]], atol=1e-3, rtol=0)
    speed = times.diff(dim=1) / even.diff(dim=1)
    assert speed.min() > 0.09 and speed.max() < 1.91
    assert speed.min() < 0.5 and speed.max() > 1.5


def test_a_share_of_the_clip_before_is_mixed_in(stick):
    clips = DeviceClips.from_clips([ramp(6), ramp(11), ramp(6)], "cpu")
    pipeline, index, share = Pipeline(stick, frames=6), torch.arange(3), torch.tensor([0.0, 0.25, 0.5])
    alone, _ = pipeline.train(clips, index, torch.Generator().manual_seed(0))
    mixed, _ = pipeline.train(clips, index, torch.Generator().manual_seed(0), share)
    for name, stream in mixed.items():
        one = alone[name]
        expected = torch.stack([one[0], 0.75 * one[1] + 0.25 * one[0], 0.5 * one[2] + 0.5 * one[1]])
        torch.testing.assert_close(stream, expected)


def test_a_body_that_one_clip_lacks_is_not_mixed(stick):
    clips = DeviceClips.from_clips([ramp(6, bodies=2), ramp(6)], "cpu")
    pipeline, index = Pipeline(stick, frames=6), torch.arange(2)
    alone, _ = pipeline.train(clips, index, torch.Generator().manual_seed(0))
    mixed, mask = pipeline.train(clips, index, torch.Generator().manual_seed(0), torch.tensor([0.5, 0.5]))
    assert mask.tolist() == [[True, True], [True, False]]
    for name, stream in mixed.items():
        torch.testing.assert_close(stream[..., 1], alone[name][..., 1])


def test_a_joint_that_either_of_two_mixed_clips_lacks_is_missing(stick):
    sure = np.ones((6, 1, 5), dtype=np.float32)
    guessed = sure.copy()
    guessed[:, :, 3] = np.nan
    clips = DeviceClips.from_clips([replace(ramp(6), confidence=c) for c in (sure, guessed, sure)], "cpu")
    pipeline, index = Pipeline(stick, frames=6, streams=("joint",), missing="mask"), torch.arange(3)
    share = torch.tensor([0.0, 0.25, 0.5])
    mixed = pipeline.train(clips, index, torch.Generator().manual_seed(0), share)[0]["joint"]
    assert mixed[:, :, :, 3].ne(0).flatten(1).any(1).tolist() == [True, False, False]
    assert mixed[:, :, :, 4].ne(0).flatten(1).any(1).all()


def test_streams_are_zero_wherever_a_hidden_joint_takes_part(stick):
    clips = DeviceClips.from_clips([ramp(6)] * 50, "cpu")
    index = torch.arange(50)

    def made(**settings):
        pipeline = Pipeline(stick, frames=6, augmentation=Augmentation(**settings))
        return pipeline.train(clips, index, torch.Generator().manual_seed(0))[0]

    joint, velocity, bone = made(hide_limb=1.0).values()
    whole = made()
    hand, middle = 3, 1
    # Of five joints, a limb is one hand, or all that hang from a joint where these are two at most.
    hidden = (velocity == 0).all(1)[:, 0, hand, 0]
    assert 0 < hidden.sum() < 50
    assert not joint[hidden, :, :, hand].any() and not bone[hidden, :, :, hand].any()
    torch.testing.assert_close(bone[:, :, :, middle], whole["bone"][:, :, :, middle])
    torch.testing.assert_close(joint[~hidden][:, :, :, hand], whole["joint"][~hidden][:, :, :, hand])
    # In time: the velocity into a hidden frame is hidden too.
    spans = made(hide_frames=0.5)
    seen = (spans["bone"] != 0).any(1)[:, :, hand, 0]
    moving = (spans["velocity"] != 0).any(1)[:, :, hand, 0]
    assert torch.equal(moving[:, :-1], seen[:, :-1] & seen[:, 1:])
    assert not seen.all()


def test_a_hidden_joint_is_sure_of_nothing(half_seen, stick):
    pipeline = Pipeline(stick, frames=5, confidence=True, augmentation=Augmentation(hide_joints=0.5))
    streams, _ = pipeline.train(half_seen, torch.tensor([1] * 20), torch.Generator().manual_seed(0))
    joint, velocity = streams["joint"], streams["velocity"]
    hidden = velocity[:, 0, 0, :, 0] == 0  # each joint moves along x, and all were seen
    assert 0 < hidden.sum() < hidden.numel()
    assert torch.equal(joint[:, 3], (~hidden).float()[:, None, :, None].expand_as(joint[:, 3]))


def test_the_velocity_of_a_bone_is_zero_where_one_of_its_ends_is_hidden(stick):
    names = ("joint", "velocity", "bone", "bone_velocity")
    clips = DeviceClips.from_clips(
        [replace(ramp(6), joints=(ramp(6).joints + 1) ** 2 * [[[1], [2], [4], [3], [5]]])], "cpu"
    )
    pipeline = Pipeline(stick, frames=6, streams=names, augmentation=Augmentation(hide_joints=0.4))
    made = pipeline.train(clips, torch.zeros(50, dtype=torch.long), torch.Generator().manual_seed(0))[0]
    shown = (made["velocity"] != 0).any(1)[:, 0, :, 0]
    both = shown & shown[:, list(stick.parents)]
    assert torch.equal((made["bone_velocity"] != 0).any(1)[:, 0, 1:, 0], both[:, 1:])
    assert 0 < both.sum() < shown.sum()
