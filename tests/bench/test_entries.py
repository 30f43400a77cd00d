"""Records that differ in seed and fold alone stand together."""

import json

import pytest
from bench_records import NANO, record

from last.bench.entries import board_of, entries, read_records, spread
from last.run import RunError


def test_folds_make_one_board():
    assert [board_of(name) for name in ("fold1", "fold12", "xsub", "foldless")] == [
        "folds",
        "folds",
        "xsub",
        "foldless",
    ]


def test_a_seed_counts_when_it_has_all_folds():
    records = [
        record(dataset="sbu", protocol=f"fold{i}", seed=seed)
        for i in range(1, 6)
        for seed in ((0,) if i == 5 else (0, 2))
    ]
    (entry,) = entries([*records, record(dataset="sbu", protocol="fold3", seed=1, right=1)])
    assert (entry.model, entry.complete, entry.scores()) == (NANO, [0], [90.0])
    assert {seed: len(tested) for seed, tested in entry.by_seed.items()} == {0: 5, 1: 1, 2: 4}


def test_without_a_complete_seed_only_those_of_the_same_folds_go_together():
    tested = {0: (1, 2, 3), 1: (1,), 2: (1, 2, 3), 3: (2, 3, 4)}
    records = [record(dataset="sbu", protocol=f"fold{i}", seed=seed) for seed, folds in tested.items() for i in folds]
    assert [entry.seeds_alike for entry in entries(records)] == [[0, 2]]
    whole = [record(dataset="sbu", protocol=f"fold{i}", seed=4) for i in range(1, 6)]
    assert [entry.seeds_alike for entry in entries([*records, *whole])] == [[4]]


def test_answers_of_folds_lie_end_to_end():
    records = [record(dataset="sbu", protocol=f"fold{i}", clips=2, right=i % 3) for i in range(5, 0, -1)]
    (entry,) = entries(records)
    assert entry.correct().astype(int).tolist() == [[1, 0, 1, 1, 0, 0, 1, 0, 1, 1]]


def test_runs_of_other_settings_are_entries_of_their_own():
    short = record(seed=1)
    short["config"]["training"]["lr"] = 0.5
    assert [len(entry.records) for entry in entries([record(), record(seed=2), short])] == [2, 1]


def test_records_of_other_kinds_are_passed_over(tmp_path):
    for name, content in (("a", {"kind": "fuzz"}), ("b", record())):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert [r["kind"] for r in read_records(tmp_path)] == ["fuzz", "accuracy"]
    assert len(entries(read_records(tmp_path))) == 1


@pytest.mark.parametrize("content", ['{"kind": "accur', "[]", "{}"])
def test_a_file_that_is_no_record_is_named(tmp_path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(RunError, match=r"other\.json holds no record of a result .*; move it away"):
        read_records(tmp_path)


def test_spread():
    assert (spread([90.0]), spread([89.0, 91.0])) == ("90.0", "90.0 ± 1.4")
