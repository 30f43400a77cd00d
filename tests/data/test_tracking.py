"""Tracking keeps persons apart over frames, whatever the order in which a frame lists them."""

import numpy as np
import pytest

from last.data.formats.tracking import track

BODY = np.array([[0.0, 2.0], [0.0, 1.0], [-0.3, 1.5], [0.3, 1.5], [-0.2, 0.0], [0.2, 0.0]])  # 2 high


def walk(start: float, speed: float, frames: int, sway: float = 0.0) -> np.ndarray:
    """(T, V, C) of a body that walks along x, its limbs swaying."""
    x = BODY + np.zeros((frames, 1, 1))
    x[..., 0] += start + speed * np.arange(frames)[:, None]
    x[:, 2:, 0] += sway * np.sin(np.arange(frames))[:, None]
    return x


def detect(people: dict[int, np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints, times and true numbers of persons' detections, in any order within a frame; all-NaN ones are hidden."""
    found = [
        (t, rng.random(), person, body)
        for person, frames in people.items()
        for t, body in enumerate(frames)
        if not np.isnan(body).all()
    ]
    found.sort(key=lambda item: item[:2])
    times, _, persons, joints = zip(*found, strict=True)
    return np.array(joints), np.array(times), np.array(persons)


def agree(found: np.ndarray, true: np.ndarray) -> bool:
    """Whether two numberings part the bodies alike."""
    pairs = set(zip(found.tolist(), true.tolist(), strict=True))
    return len(pairs) == len(set(found.tolist())) == len(set(true.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_the_order_within_a_frame_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    people = {person: walk(1.2 * person, 0.0, 30, sway=0.2) + rng.normal(0, 0.02, (30, 6, 2)) for person in range(4)}
    joints, times, true = detect(people, rng)
    assert not np.array_equal(true[:4], true[4:8])  # else there would be nothing to sort out
    found = track(joints, times)
    assert agree(found, true)
    assert found[:4].tolist() == [0, 1, 2, 3]  # as they appear


@pytest.mark.parametrize("seed", range(5))
def test_two_who_cross_keep_their_ways(seed):
    rng = np.random.default_rng(seed)
    # From frame 20 to 21 they pass through each other: each is nearer to where the other was, and only headings tell.
    people = {0: walk(-2, 0.1, 41, sway=0.1), 1: walk(2.05, -0.1, 41, sway=0.1)}
    people = {person: frames + rng.normal(0, 0.01, frames.shape) for person, frames in people.items()}
    joints, times, true = detect(people, rng)
    assert agree(track(joints, times), true)


def test_who_is_hidden_for_a_while_is_the_same_and_for_long_is_another():
    people = {0: walk(0, 0.05, 60), 1: walk(5, 0, 60)}
    joints, times, true = detect({**people, 0: hidden(people[0], 20, 35)}, np.random.default_rng(0))
    assert agree(track(joints, times), true)
    joints, times, true = detect({**people, 0: hidden(people[0], 20, 36)}, np.random.default_rng(0))
    after = (true == 0) & (times >= 36)
    assert agree(track(joints, times), np.where(after, 2, true))
    assert agree(track(joints, times, max_gap=16), true)


def test_who_leaves_and_comes_back_by_the_same_side_is_the_same():
    way = np.concatenate([walk(0, 0.15, 20), walk(3, 0, 10), walk(3, -0.15, 20)])
    joints, times, true = detect({0: hidden(way, 20, 30)}, np.random.default_rng(0))
    assert agree(track(joints, times), true)


def test_a_newcomer_is_a_new_body_even_if_another_leaves_in_that_frame():
    people = {0: hidden(walk(0, 0, 20), 10, 20), 1: hidden(walk(2, 0, 20), 0, 10)}
    joints, times, true = detect(people, np.random.default_rng(0))
    assert track(joints, times).tolist() == true.tolist()
    # The gate goes with the body's size: as a part of it, they stand as far apart when all is ten times as large.
    assert track(10 * joints, times).tolist() == true.tolist()
    # The bodies are 0.6 wide and 2 high, 2 apart; the gate opens there at 2 / 2.088 of the diagonal.
    assert track(joints, times, max_step=0.95).tolist() == true.tolist()
    assert track(joints, times, max_step=0.97).tolist() == [0] * 20


def test_missing_joints_do_not_part_a_body():
    rng = np.random.default_rng(0)
    frames = walk(0, 0.1, 40)
    frames[rng.random(frames.shape[:2]) < 0.4] = np.nan
    frames[7] = np.nan
    frames[7, 0] = [0.7, 2.0]  # the head alone
    joints, times, true = detect({0: frames, 1: walk(8, 0, 40)}, rng)
    assert agree(track(joints, times), true)


def test_matches_are_the_best_in_all_not_one_by_one():
    # In the second frame the left one stands nearer to the right one's place than the right one does.
    step = np.array([0.3, 0])
    frames = np.stack([BODY, BODY + 2 * step, BODY + 1.1 * step, BODY + 3.5 * step])
    assert track(frames, np.array([0, 0, 1, 1])).tolist() == [0, 1, 0, 1]


def test_a_newcomer_afar_does_not_spoil_a_match():
    # The least sum of distances would send the first body to the newcomer, and the one who left to the first body.
    frames = np.stack([BODY + np.array([x, 0]) for x in (0, 3, 0.9, -3)])
    assert track(frames, np.array([0, 0, 1, 1])).tolist() == [0, 1, 0, 2]


def test_a_video_of_which_every_twentieth_frame_was_looked_at():
    people = {0: walk(-2, 0.1, 41), 1: walk(2.05, -0.1, 41)}
    joints, times, true = detect(people, np.random.default_rng(0))
    assert agree(track(joints, 20 * times), true)


def test_coordinates_that_have_no_square_in_float32():
    joints = np.float32(1e38) * walk(0, 0, 2).astype(np.float32)
    assert track(joints, np.array([0, 1])).tolist() == [0, 0]


def test_a_body_of_one_joint_that_stays_is_the_same():
    assert track(np.ones((3, 1, 2)), np.arange(3)).tolist() == [0, 0, 0]


def hidden(frames: np.ndarray, first: int, last: int) -> np.ndarray:
    return np.where(
        ((np.arange(len(frames)) >= first) & (np.arange(len(frames)) < last))[:, None, None], np.nan, frames
    )
