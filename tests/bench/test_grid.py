"""A grid's runs are ordinary ones, are made once, and do not stand or fall together."""

import json
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from last.bench.grid import default_jobs, plan, run
from last.config import with_overrides
from last.data.clip import Clip
from last.data.engines import cores
from last.data.store_writer import StoreWriter
from last.progress import Interrupted, Reporter
from last.setting_values import ConfigError
from last.training.checkpoint import read_weights
from last.workflow import begin

QUIET = Reporter(quiet=True)
NANO = "last_e_nano"


def names(cells):
    return [cell.name for cell in cells]


@pytest.fixture
def tiny(ucla_like, tmp_path, monkeypatch):
    """Settings with which a run takes a moment; without its report, which takes longer than the training."""
    monkeypatch.setattr("last.run_evaluation.write_report", lambda *_: None)
    return {
        "data.path": str(ucla_like.path), "environment.runs_root": str(tmp_path / "runs"), "data.frames": 8,
        "training.epochs": 1, "training.batch_size": 40,
    }  # fmt: skip


def make(cells, tmp_path, jobs=1):
    return run(cells, jobs, 1, "cpu", "processes", tmp_path / "results", QUIET)


def test_a_result_of_other_settings_is_met_before_the_training_and_not_after_it(tiny, tmp_path):
    (cell,) = plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=tiny)
    assert not make([cell], tmp_path)
    elsewhere = tiny | {"environment.runs_root": str(tmp_path / "other"), "data.frames": 9}
    (other,) = plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=elsewhere)
    failed = make([other], tmp_path)
    assert "holds a result of other settings" in failed[other.name]
    assert not other.folder.exists()


def test_a_record_is_enough_where_the_run_was_made_elsewhere(tiny, tmp_path):
    (cell,) = plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=tiny)
    assert not make([cell], tmp_path)
    (same,) = plan(
        ["nw_ucla"], [NANO], ["ours"], 1, overrides=tiny | {"environment.runs_root": str(tmp_path / "other")}
    )
    assert not make([same], tmp_path)
    assert not same.folder.exists()


def test_all_networks_have_one_seed_before_any_has_two():
    cells = plan(["nw_ucla", "utd_mhad"], [NANO, "efficientgcn_b0"], ["ours", "authors"], 2)
    first = [
        "nw_ucla.xview.last_e_nano.nw_ucla_long.seed0", "nw_ucla.xview.efficientgcn_b0.nw_ucla_long.seed0",
        "nw_ucla.xview.efficientgcn_b0.efficientgcn.seed0", "utd_mhad.xsub.last_e_nano.few_clips_mixed.seed0",
        "utd_mhad.xsub.efficientgcn_b0.few_clips_mixed.seed0", "utd_mhad.xsub.efficientgcn_b0.efficientgcn.seed0",
    ]  # fmt: skip
    assert names(cells) == [*first, *(name.replace("seed0", "seed1") for name in first)]


def test_a_data_set_of_folds_is_tested_by_all_of_them_unless_one_is_asked_for():
    assert [c.config.data.protocol for c in plan(["sbu"], [NANO], ["ours"], 1)] == [f"fold{i}" for i in range(1, 6)]
    assert names(plan(["sbu"], [NANO], ["ours"], 1, protocol="fold2")) == ["sbu.fold2.last_e_nano.two_persons.seed0"]


def test_the_command_says_all_but_where_files_lie():
    given = {"training.epochs": 3, "environment.runs_root": "elsewhere", "data.path": "there"}
    (cell,) = plan(["nw_ucla"], [NANO], ["pixels"], 1, environment="kaggle", overrides=given)
    assert cell.command == (
        "last train --model last_e_nano --dataset nw_ucla --recipe pixels --env kaggle --protocol xview --seed 0 "
        "--set training.epochs=3"
    )
    assert cell.folder == Path("elsewhere/bench/nw_ucla.xview.last_e_nano.pixels.seed0")


def test_a_recipe_by_two_names_is_one_run():
    assert len(plan(["nw_ucla"], [NANO], ["ours", "nw_ucla_long"], 1)) == 1


def test_another_recipe_under_the_same_name_is_no_run_to_leave_out(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("training: {recipe: nw_ucla_long, lr: 0.5}")
    with pytest.raises(ConfigError, match=r"two different runs of this grid would be nw_ucla\.xview"):
        plan(["nw_ucla"], [NANO], ["ours", str(mine)], 1)


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="has a recipe of its authors; add ours"):
        plan(["nw_ucla"], [NANO], ["authors"], 1)


def test_as_many_runs_as_there_are_cores_for():
    assert default_jobs([], "cpu", 1) == cores()
    assert default_jobs([], "cpu", 1000) == 1


def test_small_networks_share_a_gpu_as_far_as_its_memory_goes(monkeypatch):
    small, large = (plan(["nw_ucla"], [name], ["ours"], 1) for name in (NANO, "last_v2_small"))
    gib = 80
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (gib << 30, 80 << 30))
    assert default_jobs(small, "cuda:1", 4) == 8
    assert default_jobs(small + large, "cuda:1", 4) == 1
    gib = 20
    assert default_jobs(small, "cuda:1", 4) == 2
    gib = 3
    assert default_jobs(small, "cuda:1", 4) == 1


def test_two_bodies_share_a_gpu_where_all_clips_have_as_many(ucla_like, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80 << 30, 80 << 30))
    equal, gone = {"data.path": str(ucla_like.path), "data.max_bodies": 2}, {"data.path": "gone", "data.max_bodies": 2}
    assert default_jobs(plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=equal), "cuda:1", 4) == 8
    assert default_jobs(plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=gone), "cuda:1", 4) == 1
    with StoreWriter(ucla_like.path.parent / "unequal", ucla_like.layout, ucla_like.classes) as writer:
        for bodies in (1, 2):
            joints = np.zeros((5, bodies, 20, 3), np.float32)
            writer.append(Clip(joints, f"clip{bodies}", ucla_like.layout.name, 0, subject=1, camera=1))
    unequal = equal | {"data.path": str(ucla_like.path.parent / "unequal")}
    assert default_jobs(plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=unequal), "cuda:1", 4) == 1


def test_runs_side_by_side_in_threads_are_those_of_one_after_another(tiny, tmp_path, monkeypatch):
    # Without dropout, which on the CPU draws from one generator for all threads.
    def planned(folder, seeds):
        given = tiny | {"model.dropout": 0.0, "environment.runs_root": str(tmp_path / folder)}
        return plan(["nw_ucla"], ["efficientgcn_b0"], ["ours"], seeds, overrides=given)

    alone, (*together, gone) = planned("alone", 2), planned("together", 3)
    assert make(alone, tmp_path / "alone") == {}
    gone = replace(gone, config=with_overrides(gone.config, {"data.path": str(tmp_path / "gone")}))
    monkeypatch.setattr("last.bench.grid._gpus", lambda device: 1)  # which is when threads are taken
    assert list(make([*together, gone], tmp_path / "together", jobs=3)) == [gone.name]
    for one, other in zip(alone, together, strict=True):
        weights, same = (read_weights(cell.folder / "last.safetensors")[0] for cell in (one, other))
        assert all(torch.equal(value, same[name]) for name, value in weights.items())


def test_runs_are_made_once_and_copied_to_the_results(tiny, tmp_path):
    cells = plan(["nw_ucla"], [NANO], ["ours"], 2, overrides=tiny)
    assert make(cells[:1], tmp_path) == {}
    (copied,) = (tmp_path / "results").iterdir()
    result = json.loads(copied.read_text())
    assert (result["command"], result["seed"]) == (cells[0].command, 0)
    assert result == json.loads((cells[0].folder / "result.json").read_text())
    trained = (cells[0].folder / "checkpoint.pt").stat().st_mtime_ns
    copied.unlink()
    assert make(cells, tmp_path) == {}
    assert (cells[0].folder / "checkpoint.pt").stat().st_mtime_ns == trained
    assert [path.name for path in sorted((tmp_path / "results").iterdir())] == [f"{name}.json" for name in names(cells)]
    assert {path.name for path in cells[0].folder.parent.iterdir()} == set(names(cells))

    (other,) = plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=tiny | {"training.epochs": 2})
    failed = make([other], tmp_path)
    assert "holds a run with training.epochs 1 instead of 2; move it away" in failed[other.name]
    assert json.loads((cells[0].folder / "result.json").read_text()) == result
    (moved,) = plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=tiny | {"data.path": "elsewhere"})
    assert moved.is_done()


def test_a_run_on_an_earlier_version_of_the_store_is_not_taken_for_done(tiny, ucla_like, tmp_path):
    (cell,) = plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=tiny)
    assert make([cell], tmp_path) == {}
    clips = list(ucla_like)
    with StoreWriter(ucla_like.path, ucla_like.layout, ucla_like.classes) as writer:
        for clip in clips:  # cameras 2 and 3 have changed places
            writer.append(replace(clip, camera={2: 3, 3: 2}.get(clip.camera, clip.camera)))
    record = tmp_path / "results" / f"{cell.name}.json"
    before = record.read_bytes()
    told = "result.json is of 20 test clips of nw_ucla xview, and .* has 20 there now, .* as they were, or move {} away"
    assert re.search(told.format(cell.folder), make([cell], tmp_path)[cell.name])
    # Nor is its record, of a run that was made elsewhere.
    cell.folder.rename(tmp_path / "then")
    assert f"or move {record} away, or put this grid elsewhere" in make([cell], tmp_path)[cell.name]
    assert record.read_bytes() == before and not cell.folder.exists()
    record.unlink()
    assert make([cell], tmp_path) == {}
    assert cell.is_done() and record.read_bytes() != before


def test_a_damaged_result_is_named_and_made_again_where_it_is_moved_away(tiny, tmp_path):
    (cell,) = plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=tiny)
    assert make([cell], tmp_path) == {}
    result = cell.folder / "result.json"
    whole = result.read_text()
    result.write_text(whole[:100])
    assert f"{result} holds no record of a result (JSONDecodeError" in make([cell], tmp_path)[cell.name]
    result.unlink()
    assert make([cell], tmp_path) == {}
    assert json.loads(result.read_text())["top1"] == json.loads(whole)["top1"]


def test_a_run_that_was_killed_before_its_first_step_is_begun_anew(tiny, tmp_path):
    (cell,) = plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=tiny)
    begin(cell.config, str(cell.folder), torch.device("cpu"), cell.command)
    assert make([cell], tmp_path) == {}
    assert cell.is_done()


def test_a_run_that_fails_is_told_and_the_others_go_on(tiny, tmp_path):
    gone, fine = plan(["nw_ucla"], [NANO], ["ours"], 2, overrides=tiny)
    gone = replace(gone, config=with_overrides(gone.config, {"data.path": str(tmp_path / "gone")}))
    failed = make([gone, fine], tmp_path)
    assert list(failed) == [gone.name]
    assert "no prepared clips of 'nw_ucla'" in failed[gone.name]
    assert fine.is_done() and not gone.is_done()


def test_a_defect_in_one_network_does_not_lose_the_night(tiny, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise TypeError("a slip in forward")

    monkeypatch.setattr("last.workflow.train", broken)
    (cell,) = plan(["nw_ucla"], [NANO], ["ours"], 1, overrides=tiny)
    assert make([cell], tmp_path) == {cell.name: "TypeError('a slip in forward')"}


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signal")
@pytest.mark.parametrize("gpus", [0, 1])
def test_a_stopped_run_goes_on_at_its_step(tiny, tmp_path, monkeypatch, gpus):
    monkeypatch.setattr("last.bench.grid._gpus", lambda device: gpus)
    cells = plan(["nw_ucla"], [NANO], ["ours"], 2, overrides=tiny | {"training.epochs": 8, "training.batch_size": 16})
    checkpoint = cells[0].folder / "checkpoint.pt"

    def press() -> None:
        while not checkpoint.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(Interrupted, match="stopped with 2 of 2 runs to do; the same command goes on"):
        make(cells, tmp_path)
    rows = (cells[0].folder / "metrics.csv").read_text().splitlines()
    assert 1 < len(rows) < 9
    assert not cells[1].folder.exists()
    assert make(cells[:1], tmp_path) == {}
    again = (cells[0].folder / "metrics.csv").read_text().splitlines()
    assert (again[: len(rows)], len(again)) == (rows, 9)
