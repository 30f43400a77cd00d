"""Records become boards; peers count by their best recipe, LAST by the data set's; what is missing is said."""

import json
from pathlib import Path

import pytest
from bench_records import NANO, PEER, record

from last.bench.entries import read_records
from last.bench.scoreboard import MODELS, TIERS, boards, losses, scoreboard
from last.config import load_config
from last.models.cost import count_macs

RESULTS = Path(__file__).resolve().parents[2] / "results"


def board(records, dataset="nw_ucla"):
    (found,) = (board for board in boards(records, [dataset]) if board.dataset == dataset)
    return found


def row(records, model=NANO, dataset="nw_ucla"):
    lines = board(records, dataset).markdown(MODELS).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith(f"| {model} |")]


def test_a_row_says_how_good_how_large_and_how_long():
    records = [record(seed=seed, right=right, seconds=60.0 * right) for seed, right in ((0, 8), (1, 9), (2, 10))]
    ((_, parameters, macs, recipe, seeds, top1, minutes, versus),) = row(records)
    assert (parameters, recipe, seeds, top1, minutes) == (
        "87,508", "nw_ucla_long, 300", "3", "**90.0 ± 10.0**", "9 (CPU, 1 thread)",
    )  # fmt: skip
    frames = load_config(dataset="nw_ucla").data.frames
    assert macs == f"{count_macs(NANO, 10, 'kinect20', frames, 1) / 1e6:,.1f}"
    assert versus == (
        "efficientgcn_b0: not measured, no run of efficientgcn_b0; ddnet_small: not measured, no run of ddnet_small"
    )


def test_macs_are_of_the_bodies_crops_and_streams_of_the_run():
    other = record(dataset="sbu", protocol="fold1", recipe="few_clips")
    other["config"]["model"] |= {"streams": ["joint"]}
    (cells,) = row([other], dataset="sbu")
    assert cells[2] == f"{count_macs(NANO, 8, 'sbu15', 48, 2, streams=('joint',)) / 1e6:,.1f}"
    other["config"]["model"] |= {"bodies": "first"}
    (cells,) = row([other], dataset="sbu")
    assert cells[2] == f"{count_macs(NANO, 8, 'sbu15', 48, 1, streams=('joint',)) / 1e6:,.1f}"
    other["config"]["data"]["test_crops"] = other["crops"] = 5
    (cells,) = row([other], dataset="sbu")
    assert cells[2] == f"{5 * count_macs(NANO, 8, 'sbu15', 48, 1, streams=('joint',)) / 1e6:,.1f}"


def test_peers_count_by_their_better_recipe_and_last_by_the_data_sets():
    records = [record(name, recipe=recipe, right=right) for name, recipe, right in (
        (PEER, "nw_ucla", 7), (PEER, "few_clips", 8), (NANO, "nw_ucla_long", 6), (NANO, "few_clips", 9),
    )]  # fmt: skip
    better, other = row(records, PEER)
    assert (better[3], better[5]) == ("few_clips, 200", "**80.0**")
    assert (other[3], other[5], other[7:]) == ("nw_ucla, 100", "70.0", [""])
    other, own = row(records)
    assert (own[3], own[5]) == ("nw_ucla_long, 300", "**60.0**") and own[7].startswith("efficientgcn_b0: one seed, -20")
    assert (other[3], other[5], other[7]) == ("few_clips, 200", "90.0", "")
    assert board(records).compare(NANO, PEER).difference.points == pytest.approx(-20)
    longer = [record(recipe="nw_ucla_long", epochs=600, right=9), *records]
    assert board(longer).counting(NANO).scores() == [60.0]  # of two by the recipe no choice is made by the score
    assert board([*longer, record(seed=1, epochs=600)]).counting(NANO).scores() == [90.0, 90.0]
    assert board([records[0], records[3]]).compare(NANO, PEER).reason == "no run of last_e_nano by nw_ucla_long"


def test_of_recipes_that_are_alike_to_a_tenth_the_one_over_more_seeds_counts():
    several = [record(PEER, recipe="nw_ucla", right=909, clips=1000, seed=s) for s in (0, 1)]
    alone = record(PEER, recipe="few_clips", right=90904, clips=100_000)
    assert [cells[4] for cells in row([alone, *several], PEER)] == ["2", "1"]
    better = record(PEER, recipe="few_clips", right=911, clips=1000)
    assert [cells[4] for cells in row([better, *several], PEER)] == ["1", "2"]


@pytest.mark.parametrize(
    ("right", "verdict"), [(95, "wins"), (81, "no difference shown"), (79, "no difference shown"), (60, "loses")]
)
def test_verdicts(right, verdict):
    records = [record(model, right=n, clips=100, seed=s) for model, n in ((NANO, right), (PEER, 80)) for s in (0, 1)]
    versus = board(records).compare(NANO, PEER)
    assert versus.verdict == verdict
    assert f"{right - 80:+.1f} (" in versus.words


def test_one_seed_alone_is_no_verdict():
    records = [record(), record(seed=1), record(PEER, right=0)]
    versus = board(records).compare(NANO, PEER)
    assert versus.verdict == "one seed"
    assert versus.words.endswith(", one seed of efficientgcn_b0")
    assert "seed" not in board([*records, record(PEER, seed=1)]).compare(NANO, PEER).words


def test_only_the_last_epoch_and_the_recipes_crops_count():
    best, crops = record(right=10, weights="best"), record(right=10, crops=5)
    assert row([best, crops]) == [[NANO, "", "", "", "", "not measured", "", ""]]
    assert row([record(right=8), best, crops])[0][5] == "**80.0**"


def test_old_records_have_a_score_and_no_significance():
    versus = board([record(part=None), record(seed=1), record(PEER)]).compare(NANO, PEER)
    assert versus.verdict == "not measured"
    assert versus.reason == "records of last_e_nano do not say which clips were right"
    assert row([record(part=None)])[0][5] == "**90.0**"


def test_other_test_clips_are_not_compared():
    assert board([record(), record(PEER, part="other")]).compare(NANO, PEER).reason == "tested on different clips"
    assert board([record(), record(seed=1, part="other"), record(PEER)]).compare(NANO, PEER).difference is None


def test_a_score_on_sbu_is_a_mean_over_five_folds():
    def folds(count, **given):
        return [record(dataset="sbu", protocol=f"fold{i}", **given) for i in range(1, count + 1)]

    whole = [*folds(4, right=9), record(dataset="sbu", protocol="fold5", right=10, clips=20)]
    ((_, _, _, _, seeds, top1, minutes, *_),) = row([*whole, *folds(2, seed=1, right=2)], dataset="sbu")
    assert seeds == "1; of seed 1 folds 1, 2 of 5"
    assert (top1, minutes) == ("**82.0**", "10 (CPU, 1 thread)")
    assert board(folds(2), "sbu").compare(NANO, PEER).reason == "no run of efficientgcn_b0"
    partial = board([*whole, *folds(3, model=PEER)], "sbu").compare(NANO, PEER)
    assert partial.reason == "not all folds of efficientgcn_b0"
    peer = [*folds(4, model=PEER, right=5), record(PEER, dataset="sbu", protocol="fold5", right=10, clips=20)]
    versus = board([*whole, *peer], "sbu").compare(NANO, PEER)
    assert versus.difference.points == pytest.approx(100 * 16 / 60)  # over the clips of all folds together
    (cells,) = row(folds(2), dataset="sbu")
    assert (cells[4], cells[5]) == ("0; of seed 0 folds 1, 2 of 5", "not measured")


def test_all_networks_and_data_sets_stand_measured_or_not():
    text = scoreboard(boards([], ["nw_ucla", "sbu"]))
    assert "**nw_ucla**, xview" in text and "**sbu**, mean over folds" in text
    assert all(text.count(f"\n| {name} |") == 2 for name in MODELS)
    assert {*TIERS, *(peer for peers in TIERS.values() for peer in peers)} <= set(MODELS)


def test_networks_and_protocols_beside_those_that_stand_are_added():
    text = scoreboard(boards([record("sgn"), record(dataset="msr_action3d", protocol="as1")], ["nw_ucla"]))
    assert "\n| sgn |" in text
    assert "**msr_action3d**, as1" in text


def test_losses_say_plainly_where_last_is_not_ahead():
    top1 = {
        NANO: 60, PEER: 80, "last_e_small": 80, "efficientgcn_b1": 80, "last_e_base": 95, "efficientgcn_b4": 80,
    }  # fmt: skip
    records = [record(name, right=right, clips=100, seed=s) for name, right in top1.items() for s in (0, 1)]
    records.append(record("last_e_large", right=99, clips=100))
    text = losses(boards(records, ["nw_ucla"]))
    assert "Of 8 comparisons with the tier's peers, LAST wins 1, loses 1 and shows no difference in 1; 1 rest" in text
    assert "which is no verdict, and 4 are not measured." in text
    rows = [line for line in text.splitlines() if "nw_ucla" in line and "not measured" not in line]
    assert [line.split(" | ")[0] for line in rows] == ["| loses", "| no difference shown", "| one seed"]
    assert "| not measured | nw_ucla | last_e_nano | ddnet_small | no run of ddnet_small |" in text
    assert "| not measured | nw_ucla | last_e_large | ddnet_small | no run of ddnet_small |" in text
    assert "| last_e_nano | efficientgcn_b0 | -20.0 (" in rows[0] and "p < 0.001" in rows[0]
    assert not any("last_e_base" in line for line in rows)


def test_the_same_records_give_the_same_table_in_any_order():
    records = [record(right=9), record(PEER, right=5), record(seed=1), record(recipe="pixels")]
    for made in (scoreboard, losses):
        assert made(boards(records, ["nw_ucla"])) == made(boards(records[::-1], ["nw_ucla"]))


def test_a_set_of_ones_own_has_a_row(tmp_path):
    own = record() | {"dataset": "mine", "protocol": "mine"}
    (tmp_path / "a.json").write_text(json.dumps(own))
    assert "| last_e_nano | 87,508 | not counted |" in scoreboard(boards(read_records(tmp_path)))


def test_the_results_of_the_project_can_be_read():
    found = boards(read_records(RESULTS), ["nw_ucla"])
    assert "| last_e_nano | 87,508 |" in scoreboard(found)
