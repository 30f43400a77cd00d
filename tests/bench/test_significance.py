"""The paired bootstrap against small cases that can be worked out, and against how often it is right."""

import numpy as np
import pytest
from scipy.stats import norm

from last.bench.significance import paired_bootstrap


def answers(*rows: str) -> np.ndarray:
    return np.array([[answer == "1" for answer in row] for row in rows])


def compare(one, other, **kwargs):
    return paired_bootstrap(one, other, np.random.default_rng(0), **kwargs)


def test_the_same_answers_show_no_difference():
    one = answers("110101", "011101", "111100")
    found = compare(one, one)
    assert (found.points, found.p) == (0, 1)
    assert found.low == -found.high < 0


def test_two_clips_by_hand():
    # Both clips right against the first alone: a draw of two gives 0, 50, 50 or 100 points, and 50 were observed.
    found = compare(answers("11"), answers("10"))
    assert found.points == 50
    assert (found.low, found.high) == (0, 100)
    assert found.p == pytest.approx(1 / 2, abs=0.02)


def test_clips_are_drawn_in_pairs():
    # Where both fail on the same clips, how many hard clips are drawn does not matter.
    rng = np.random.default_rng(1)
    hard = rng.random(200) < 0.5
    better = ~hard
    worse = better.copy()
    worse[np.flatnonzero(better)[:10]] = False
    found = compare(better[None], worse[None])
    assert found.points == pytest.approx(5)
    assert found.p < 0.01
    shuffled = compare(better[None], rng.permutation(worse)[None])
    assert shuffled.points == pytest.approx(5)
    assert shuffled.p > 0.2


def test_the_interval_of_many_clips_is_the_normal_one():
    rng = np.random.default_rng(2)
    one, other = rng.random((1, 2000)) < 0.9, rng.random((1, 2000)) < 0.87
    found = compare(one, other)
    deviation = 100 * (one * 1.0 - other).std() / np.sqrt(2000)
    assert found.points == pytest.approx(100 * (one.mean() - other.mean()))
    assert found.margin == pytest.approx(norm.ppf(0.975) * deviation, rel=0.05)
    assert found.p == pytest.approx(2 * norm.sf(abs(found.points) / deviation), abs=0.01)


def test_seeds_that_differ_widen_the_interval_as_their_true_variance_does():
    # All clips alike within a seed, so that seeds alone vary: the mean of S has variance s^2 / S.
    def constant(scores):
        return np.repeat(np.array(scores)[:, None], 1000, axis=1)

    found = compare(constant([True, False, True, True, False, True, False, True]), constant([True]))
    s = 100 * np.std([1, 0, 1, 1, 0, 1, 0, 1], ddof=1)
    assert found.points == -37.5
    assert found.margin == pytest.approx(norm.ppf(0.975) * s / np.sqrt(8), rel=0.1)


def test_seeds_that_differ_do_not_matter_where_the_same_trainings_are_scored_twice():
    # The second way gets one clip in twenty more right in each training, however good this is.
    rng = np.random.default_rng(6)
    one = rng.random((5, 400)) < np.array([0.5, 0.6, 0.7, 0.8, 0.9])[:, None]
    one[:, ::20], other = True, one.copy()
    other[:, ::20] = False
    together, apart = compare(one, other, same_trainings=True), compare(one, other)
    assert together.points == pytest.approx(apart.points) == pytest.approx(5)
    assert together.margin == pytest.approx(norm.ppf(0.975) * 100 * np.sqrt(0.05 * 0.95 / 400), rel=0.1)
    assert together.p < 0.001 and apart.p > 0.3


def test_the_same_trainings_are_as_many():
    with pytest.raises(ValueError, match="2 and 1 seeds, expected as many"):
        compare(answers("10", "11"), answers("11"), same_trainings=True)


def test_the_sign_goes_with_the_order_and_p_with_the_interval():
    rng = np.random.default_rng(3)
    for other_rate in np.linspace(0.8, 0.9, 12):
        one, other = rng.random((3, 300)) < 0.85, rng.random((2, 300)) < other_rate
        there, back = compare(one, other, draws=2000), compare(other, one, draws=2000)
        assert there.points == pytest.approx(-back.points)
        assert (there.p < 0.05) == (there.low > 0 or there.high < 0)


def test_chance_alone_seldom_makes_a_difference():
    rng = np.random.default_rng(4)
    found = []
    for _ in range(150):
        clips = rng.random(150)  # how easy each is
        one, other = rng.random((2, 3, 150)) < clips
        found.append(paired_bootstrap(one, other, rng, draws=400).p < 0.05)
    assert np.mean(found) <= 0.09


def test_many_clips_are_drawn_a_part_at_a_time():
    rng = np.random.default_rng(5)
    one, other = rng.random((1, 60_000)) < 0.9, rng.random((1, 60_000)) < 0.89
    found = compare(one, other, draws=200)
    assert found.margin == pytest.approx(1.96 * 100 * np.sqrt((0.09 + 0.0979) / 60_000), rel=0.2)


@pytest.mark.parametrize(("one", "other"), [((1, 3), (1, 4)), ((0, 3), (1, 3)), ((1, 0), (1, 0)), ((3,), (3,))])
def test_answers_to_other_clips_are_refused(one, other):
    with pytest.raises(ValueError, match="same clips"):
        compare(np.ones(one, dtype=bool), np.ones(other, dtype=bool))
