import json

import numpy as np
import pytest

from last.cli import main
from last.compare import Comparison
from last.run import RunError
from last.scored_run import ScoredRun
from scored_runs import sure, write_scored_run

LABELS = [0] * 10 + [1] * 10  # nobody falls
FIRST = [0] * 8 + [1] * 2 + [1] * 7 + [0] * 3  # 8 and 7 of 10
SECOND = [0] * 6 + [2] * 4 + [1] * 10  # 6 and 10 of 10


@pytest.fixture
def paths(tmp_path):
    write_scored_run(tmp_path / "first", sure(FIRST, 0.8), LABELS)
    write_scored_run(tmp_path / "second", sure(SECOND, 0.9), LABELS, parameters=3000)
    return tmp_path / "first", tmp_path / "second"


@pytest.fixture
def comparison(paths):
    return Comparison.of(*map(ScoredRun.open, paths), np.random.default_rng(0))


def test_clips_that_one_alone_recognises(comparison):
    # Of the ten waves the second misses two more (7 and 8; both miss the last two); of the sits it misses none.
    assert (comparison.only_first, comparison.only_second) == (2, 3)
    assert comparison.difference.points == pytest.approx(5)
    assert comparison.difference.low < 0 < comparison.difference.high
    assert "no difference shown between first and second: +5.00 points" in comparison.verdict()


def test_classes_stand_in_the_order_of_their_gain(comparison):
    assert comparison.per_class() == [
        {"class": "sit", "clips": 10, "first": 70.0, "second": 100.0, "difference": 30.0},
        {"class": "wave", "clips": 10, "first": 80.0, "second": 60.0, "difference": -20.0},
    ]


def test_confusions_that_are_new_come_first(comparison):
    assert comparison.confusion_change.tolist() == [[-2, -2, 4], [-3, 3, 0], [0, 0, 0]]
    assert comparison.confusions() == [
        {"class": "wave", "taken for": "fall", "first": 0, "second": 4},
        {"class": "wave", "taken for": "sit", "first": 2, "second": 0},
        {"class": "sit", "taken for": "wave", "first": 3, "second": 0},
    ]


def test_a_clear_difference_is_said_from_either_side(tmp_path):
    better = ScoredRun.open(write_scored_run(tmp_path / "better", sure(LABELS), LABELS))
    worse = ScoredRun.open(write_scored_run(tmp_path / "worse", sure([2] * 10 + [1] * 10), LABELS))
    there, back = (Comparison.of(*pair, np.random.default_rng(0)) for pair in ((worse, better), (better, worse)))
    assert there.verdict().startswith("better is better than worse on clips like these: +50.00 points")
    assert back.verdict().startswith("worse is worse than better on clips like these: -50.00 points")
    assert there.difference.p < 0.01


def test_a_run_does_not_differ_from_itself(paths):
    run = ScoredRun.open(paths[0])
    same = Comparison.of(run, run, np.random.default_rng(0))
    assert (same.difference.points, same.difference.p) == (0, 1)
    assert same.confusions() == []
    assert not same.confusion_change.any()
    assert [row["run"] for row in (same.to_dict()["first"], same.to_dict()["second"])] == [
        f"1: {paths[0]}",
        f"2: {paths[0]}",
    ]


def test_other_clips_are_refused(paths, tmp_path):
    other = write_scored_run(tmp_path / "other", sure(LABELS[::-1]), LABELS[::-1])
    with pytest.raises(RunError, match="number 0 is 'clip0' of class 'wave' in the first and 'clip0' of class 'sit'"):
        Comparison.of(ScoredRun.open(paths[0]), ScoredRun.open(other), np.random.default_rng(0))


def test_the_page_and_its_numbers(comparison, tmp_path):
    page = comparison.write(tmp_path / "out").read_text()
    assert page.count("<img") == 4
    assert "In top-1, no difference shown between first and second" in page
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (content["first"]["top1"], content["second"]["top1"]) == (75, 80)
    # Ten points surer than it is often right on these, and so is the other: 80 against 75, 90 against 80.
    assert content["first"]["ece"] == pytest.approx(5, abs=1e-4)
    assert content["second"]["ece"] == pytest.approx(10, abs=1e-4)
    assert content["per_class"] == comparison.per_class()
    assert content["difference"]["points"] == pytest.approx(5)
    numbers = comparison.tables()[0]
    assert [row[0] for row in numbers.rows][:3] == ["top-1", "mean class", "ECE"]  # top-5 of three classes is no news
    assert content["first"]["top5"] == 100


def test_long_lists_of_confusions_are_cut_in_the_middle(tmp_path):
    classes = tuple(f"c{k}" for k in range(40))
    labels = list(range(40))
    shifted = [(k + 1) % 40 for k in labels]
    one = ScoredRun.open(write_scored_run(tmp_path / "one", sure(labels, of=40), labels, classes))
    other = ScoredRun.open(write_scored_run(tmp_path / "other", sure(shifted, of=40), labels, classes))
    comparison = Comparison.of(one, other, np.random.default_rng(0))
    assert len(comparison.confusions()) == 40
    assert [len(table.rows) for table in comparison.tables()] == [6, 40, 20]
    assert comparison.tables()[0].rows[1][0] == "top-5"


def test_the_command(paths, tmp_path, capsys):
    assert main(["compare", *map(str, paths), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "no difference shown between first and second" in printed
    assert str(tmp_path / "out" / "comparison.html") in printed.replace("\n", "")
    assert main(["compare", *map(str, paths)]) == 0
    assert capsys.readouterr().out == printed[: printed.index("report: ")]  # the interval is the same each time
    assert main(["compare", str(paths[0]), str(tmp_path)]) == 1
    assert "there is no result at" in capsys.readouterr().err
