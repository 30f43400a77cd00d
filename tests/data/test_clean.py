"""Cleaning keeps the bodies that act, fills the gaps, and counts both."""

from collections import Counter

import numpy as np

from last.data.clean import CleanOptions, clean
from last.data.clip import Clip
from last.skeleton import load_layout

NTU = load_layout("ntu")


def upright(frames: int, motion: float, seed: int = 0) -> np.ndarray:
    """A body (T, V, C), 1.7 m high and at most 1 m wide, that moves along z by ``motion`` metres in all."""
    x = np.random.default_rng(seed).uniform(-0.5, 0.5, size=(25, 3)).astype(np.float32) + 3
    x[:, 1] = np.linspace(0.1, 1.8, 25)
    x = np.repeat(x[None], frames, axis=0)
    x[:, :, 2] += np.linspace(0, motion, frames)[:, None]
    return x


KINECT = CleanOptions(min_frames=12, max_spread=0.8)  # as for NTU RGB+D


def run(*bodies: np.ndarray, options: CleanOptions = KINECT) -> tuple[Clip | None, Counter[str]]:
    clip = Clip(np.stack(bodies, axis=1), "a", "ntu", label=1)
    return clean(clip, NTU, options)


def test_a_clean_clip_stays_as_it_is():
    body = upright(20, 1)
    clip, counts = run(body)
    assert clip is not None and np.array_equal(clip.joints[:, 0], body) and clip.label == 1 and not counts


def test_the_most_moving_bodies_are_kept_in_order_of_motion():
    still, slow, fast = (upright(20, motion) for motion in (0, 1, 2))
    clip, counts = run(still, slow, fast)
    assert clip is not None and counts == {"bodies dropped as surplus": 1}
    assert np.array_equal(clip.joints, np.stack([fast, slow], axis=1))


def test_a_short_body_is_dropped_but_never_the_last_one():
    glimpse = upright(20, 5)
    glimpse[11:] = np.nan
    clip, counts = run(glimpse, upright(20, 1))
    assert clip is not None and clip.bodies == 1 and counts == {"bodies dropped as too short": 1}
    clip, counts = run(glimpse)
    assert clip is not None and clip.frames == 11 and counts == {"frames trimmed": 9}


def test_a_body_too_wide_to_be_a_person_is_dropped():
    chair = upright(20, 5)
    chair[..., 0] *= 4
    clip, counts = run(chair, upright(20, 1))
    assert clip is not None and clip.bodies == 1 and counts == {"bodies dropped as too wide": 1}
    assert np.array_equal(clip.joints[:, 0], upright(20, 1))


def test_frames_without_anybody_are_trimmed_at_the_ends_and_filled_inside():
    body = upright(20, 1.9)
    gapped = body.copy()
    gapped[[0, 1, 19]] = np.nan
    gapped[8:11] = 0
    clip, counts = run(gapped)
    assert clip is not None and counts == {"frames trimmed": 3, "joints filled": 75}
    np.testing.assert_allclose(clip.joints[:, 0], body[2:19], rtol=1e-5)


def test_inner_gaps_are_interpolated_as_numpy_does_it():
    rng = np.random.default_rng(0)
    body = upright(60, 1)
    gaps = rng.random((60, 25)) < 0.4
    clip, counts = run(np.where(gaps[..., None], np.float32(np.nan), body))
    assert clip is not None and counts == {"joints filled": gaps.sum()} and clip.frames == 60
    time = np.arange(60)
    for v in range(25):
        known = ~gaps[:, v]
        expected = np.stack([np.interp(time, time[known], body[known, v, c]) for c in range(3)], axis=-1)
        np.testing.assert_array_equal(clip.joints[:, 0, v], expected.astype(np.float32))
    assert clip.confidence is not None and np.array_equal(np.isnan(clip.confidence[:, 0]), gaps)


def test_the_clip_that_was_given_is_not_touched():
    body = upright(20, 1)
    body[3:5, 7] = 0
    before = body.copy()
    clip, _ = run(body)
    assert clip is not None and np.array_equal(body, before) and not np.shares_memory(clip.joints, body)


def test_each_threshold_is_an_option():
    glimpse, chair = upright(20, 5), upright(20, 5)
    glimpse[11:] = np.nan
    chair[..., 0] *= 4
    for options, body in ((CleanOptions(min_frames=11), glimpse), (CleanOptions(max_spread=4), chair)):
        clip, counts = run(body, upright(20, 1), options=options)
        assert clip is not None and clip.bodies == 2 and not any("dropped" in what for what in counts)
    # Wide in 10 of its 20 frames: dropped from one half on.
    half = np.concatenate([chair[:10], upright(20, 5)[10:]])
    for fraction, kept in ((0.5, 1), (0.51, 2)):
        clip, _ = run(half, upright(20, 1), options=CleanOptions(max_spread=0.8, max_implausible=fraction))
        assert clip is not None and clip.bodies == kept


def test_a_body_that_comes_late_and_goes_early_is_held():
    late = upright(30, 1, seed=1)
    late[:5] = late[20:] = np.nan
    clip, counts = run(upright(30, 2), late)
    assert clip is not None and clip.frames == 30 and counts == {"joints filled": 15 * 25}
    assert (clip.joints[:5, 1] == late[5]).all() and (clip.joints[20:, 1] == late[19]).all()


def test_joints_that_never_show_take_their_parents_place():
    body = upright(20, 1)
    elbow, wrist = NTU.joints.index("left_elbow"), NTU.joints.index("left_wrist")
    body[:, [elbow, wrist]] = np.nan
    clip, counts = run(body)
    assert clip is not None and counts == {"joints filled": 40}
    shoulder = body[:, NTU.joints.index("left_shoulder")]
    assert np.array_equal(clip.joints[:, 0, elbow], shoulder) and np.array_equal(clip.joints[:, 0, wrist], shoulder)
    body[:, 0] = np.inf
    clip, _ = run(body)
    assert clip is not None and np.isfinite(clip.joints).all()


def test_a_skeleton_relative_to_its_root_keeps_the_root_at_zero():
    body = upright(20, 1)
    centred = body - body[:, :1]
    clip, counts = run(centred)
    assert clip is not None and np.array_equal(clip.joints[:, 0], centred) and not counts
    centred[5:7] = 0
    clip, counts = run(centred)
    assert clip is not None and not clip.joints[:, 0, 0].any() and counts == {"joints filled": 2 * 25}


def test_coordinates_beyond_any_room_are_cleaned_without_overflow():
    near, far = upright(20, 1), upright(20, 2) * np.float32(1e30)
    near[4:6, 3] = far[4:6, 3] = np.nan
    clip, counts = run(near, far)
    assert clip is not None and counts == {"joints filled": 4 * 1}
    assert clip.joints.dtype == np.float32 and np.isfinite(clip.joints).all()
    assert np.array_equal(clip.joints[0], np.stack([far[0], near[0]]))  # the one that moves more comes first
    clip, _ = run(np.where(np.arange(20)[:, None, None] % 2, 1, -1) * np.full((20, 25, 3), 3e38, np.float32))
    assert clip is not None


def test_nobody_is_left_of_an_empty_clip():
    clip, counts = run(np.zeros((5, 25, 3), np.float32))
    assert clip is None and not counts
