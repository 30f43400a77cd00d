"""A search settles its axes in order, by clips that were held out, and keeps what lost."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from last.bench.search import Plan, Trial, read_space, score, settle, write_log, write_recipe
from last.cli import main
from last.config import load_config
from last.progress import Reporter
from last.setting_values import ConfigError

SPACE = {"mixing": [{"training.mix": 0.5}, {"training.mix": 1.0}], "rate": [{"training.lr": 0.2}]}


def trial(settings, right, of=100):
    """The first so many of the clips are right."""
    return Trial(settings, (100 * right / of,), (np.arange(of) < right).astype(float), 60.0)


def measured(points):
    """Scores by the values of a recipe's settings, and the recipes that were asked for, in turn."""
    asked = []

    def measure(several):
        asked.append([tuple(settings.values()) for settings in several])
        return [trial(settings, points[tuple(settings.values())]) for settings in several]

    return measure, asked


def test_each_axis_builds_upon_the_best_of_those_before_it():
    measure, asked = measured({(): 50, (0.5,): 60, (1.0,): 58, (0.5, 0.2): 70})
    search = settle(SPACE, measure)
    assert asked == [[()], [(0.5,), (1.0,)], [(0.5, 0.2)]]
    assert search.chosen.settings == {"training.mix": 0.5, "training.lr": 0.2}
    assert search.steps == [("mixing", {"training.mix": 0.5}), ("rate", {"training.lr": 0.2})]
    assert [t.top1 for t in search.trials] == pytest.approx([50, 60, 58, 70])


def test_a_lead_within_its_standard_error_is_not_taken():
    base = trial({}, 50)
    # One clip of a hundred: a lead of one point, with a standard error of one point.
    assert trial({}, 51).lead(base) == pytest.approx((1, 1), abs=1e-9)
    assert trial({}, 52).beats(base) and not trial({}, 50).beats(base) and not trial({}, 40).beats(base)
    measure, asked = measured({(): 50, (0.5,): 50, (1.0,): 49, (0.2,): 50})
    search = settle(SPACE, measure)
    assert asked[-1] == [(0.2,)] and search.chosen.settings == {} and search.steps == [("mixing", {}), ("rate", {})]


def test_a_trial_that_failed_is_kept_and_never_chosen():
    def measure(several):
        return [Trial(s, fault="the loss is not finite") if s.get("training.mix") == 0.5 else trial(s, 50)
                for s in several]  # fmt: skip

    search = settle(SPACE, measure)
    assert [t.fault for t in search.trials] == [None, "the loss is not finite", None, None]
    with pytest.raises(RuntimeError, match="begins with cannot be scored: gone"):
        settle(SPACE, lambda several: [Trial(s, fault="gone") for s in several])


@pytest.mark.parametrize("text", ["mixing: 3", "mixing: []", "mixing: [3]", "mixing: [{}]", "mixing: [{1: 2}]"])
def test_a_space_that_is_none_is_a_sentence(tmp_path, text):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"axis 'mixing' in .* expected a list of alternatives"):
        read_space(tmp_path / "space.yaml")


def test_a_network_is_no_matter_of_a_trial(tmp_path):
    (tmp_path / "space.yaml").write_text("size: [{training.mix: 0.5}, {model.name: ctrgcn, data.protocol: xsub}]")
    with pytest.raises(ConfigError, match=r"axis 'size' in .*space\.yaml sets data\.protocol, model\.name, expected"):
        read_space(tmp_path / "space.yaml")


@pytest.fixture
def plan(ucla_like, tmp_path, monkeypatch):
    monkeypatch.setattr("last.run_evaluation.write_report", lambda *_: None)
    given = {
        "data.path": str(ucla_like.path), "environment.runs_root": str(tmp_path / "runs"), "data.frames": 8,
        "training.epochs": 1, "training.batch_size": 40,
    }  # fmt: skip
    return Plan("nw_ucla", "last_e_nano", "nw_ucla", "xview", 2, overrides=given)


def test_a_trial_is_scored_on_the_training_clips_alone(plan, ucla_like, tmp_path):
    one, other = score(plan, [{}, {"training.mix": 1.0}], 1, 1, "cpu", "processes", Reporter(quiet=True))
    cameras = ucla_like.clips["camera"]
    assert len(one.correct) == len(other.correct) == (cameras != 3).sum()
    assert len(one.parts) == 2 and one.fault is None
    sizes = [(cameras == camera).sum() for camera in (1, 2)]
    assert one.top1 == pytest.approx(np.average(one.parts, weights=sizes), abs=0.01)
    runs = sorted(path.name for path in (tmp_path / "runs" / "bench").glob("nw_ucla.*"))
    assert len(runs) == 4 and all("xview-held" in name for name in runs)
    for result in (tmp_path / "runs" / "bench").glob("nw_ucla.*/result.json"):
        result.write_text(json.dumps(json.loads(result.read_text()) | {"seconds": 3.0}))
    again = score(plan, [{}], 1, 1, "cpu", "processes", Reporter(quiet=True))
    assert again == [replace(one, seconds=6.0)]  # of the two parts, which are not trained anew


def test_settings_that_do_not_go_together_are_the_trials_fault(plan, monkeypatch):
    monkeypatch.setattr("last.bench.grid.run", lambda *_: pytest.fail("a run was made"))
    apart = {"training.crop": [1, 1], "data.sampling": "pad", "data.test_crops": 5}
    plan = replace(plan, space="space.yaml")
    (found,) = score(plan, [apart], 1, 1, "cpu", "processes", Reporter(quiet=True))
    assert "data.sampling in space.yaml is pad" in found.fault and found.top1 == -1
    padded = {"data.sampling": "pad", "training.crop": "1,1"}  # of all trials, so it is not of the space
    plan = replace(plan, overrides=plan.overrides | padded)
    (found,) = score(plan, [{"data.test_crops": 5}], 1, 1, "cpu", "processes", Reporter(quiet=True))
    assert "data.sampling in command line is pad" in found.fault


def test_the_log_keeps_all_trials_and_the_recipe_gives_what_was_chosen(plan, tmp_path):
    measure, _ = measured({(): 50, (0.5,): 60, (1.0,): 58, (0.5, 0.2): 70})
    search = settle(SPACE, measure)
    log, recipe = tmp_path / "a.search.json", tmp_path / "found.yaml"
    write_log(log, plan, SPACE, search, "last search", "cpu")
    content = json.loads(log.read_text())
    assert content["kind"] == "search" and content["chosen"] == {"training.mix": 0.5, "training.lr": 0.2}
    assert [(row["settings"], row["top1"], row["lead"]) for row in content["trials"]][:3] == [
        ({}, 50.0, 0.0), ({"training.mix": 0.5}, 60.0, 10.0), ({"training.mix": 1.0}, 58.0, 8.0),
    ]  # fmt: skip
    write_recipe(recipe, plan, search, log)
    made = load_config("last_e_nano", "nw_ucla", str(recipe)).to_dict()
    wanted = plan.config(search.chosen.settings).to_dict()
    wanted["training"]["recipe"] = "found"
    wanted["data"]["path"] = None
    assert made["training"] == wanted["training"] and made["data"] == wanted["data"]
    assert set(yaml.safe_load(recipe.read_text())) == {"data", "training"}


def test_networks_that_share_a_folder_have_scores_of_their_own(plan, monkeypatch):
    def run(cells, jobs, threads, device, engine, folder, reporter, reports):
        assert reports is False  # nobody looks at those of trials
        folder.mkdir(parents=True, exist_ok=True)
        for cell in cells:
            data, training = cell.config.data, cell.config.training
            told = {"kind": "accuracy", "dataset": data.name, "protocol": data.protocol, "recipe": training.recipe}
            told |= {"seed": 0, "correct": "11" if cell.config.model.name == "last_e_nano" else "10", "seconds": 1}
            (folder / f"{cell.name}.json").write_text(json.dumps(told))
        return {}

    monkeypatch.setattr("last.bench.grid.run", run)
    for model, top1 in (("last_e_nano", 100), ("ddnet_small", 50), ("last_e_nano", 100)):
        (found,) = score(replace(plan, model=model), [{}], 1, 1, "cpu", "processes", Reporter(quiet=True))
        assert found.top1 == top1


def test_a_recipe_also_says_what_all_trials_had(plan, tmp_path):
    mine, recipe = tmp_path / "mine.yaml", tmp_path / "found.yaml"
    mine.write_text("data: {name: mine, protocol: xview, frames: 32}")
    # 64 frames are the built-in default, and not what the data set says.
    plan = replace(plan, dataset=str(mine), overrides={"data.frames": 64, "model.dropout": 0.1})
    search = settle({}, measured({(): 50})[0])
    write_recipe(recipe, plan, search, tmp_path / "a.search.json")
    made = load_config("last_e_nano", str(mine), str(recipe))
    assert made.data.frames == 64 and made.model == plan.config().model and made.model.dropout == 0.1
    assert set(yaml.safe_load(recipe.read_text())) == {"data", "training", "model"}


def test_a_recipe_keeps_what_its_beginning_said_of_the_network(plan, tmp_path):
    plan = replace(plan, dataset="sbu", recipe="two_persons", protocol="fold1")
    write_recipe(tmp_path / "found.yaml", plan, settle({}, measured({(): 50})[0]), tmp_path / "a.search.json")
    assert load_config("last_e_nano", "sbu", str(tmp_path / "found.yaml")).model.streams[3] == "partner"


@pytest.mark.parametrize("searched", ["last_e_nano", "ddnet_small"])
def test_what_a_recipe_has_for_last_alone_stays_so(plan, tmp_path, searched):
    given = {"recipe": "two_persons", "protocol": "fold1", "overrides": {"model.dropout": 0.1}}
    plan = replace(plan, dataset="sbu", model=searched, **given)
    write_recipe(tmp_path / "found.yaml", plan, settle({}, measured({(): 50})[0]), tmp_path / "a.search.json")
    for model in ("last_e_nano", "ddnet_small", "efficientgcn_b0"):
        before, made = (load_config(model, "sbu", r).model for r in ("two_persons", str(tmp_path / "found.yaml")))
        assert made.streams == before.streams and made.dropout == 0.1


def test_the_command_keeps_a_log_that_no_other_search_overwrites(tmp_path, monkeypatch, capsys):
    def measure(plan, several, *rest):
        return [trial(settings, 50 + 20 * len(settings)) for settings in several]

    monkeypatch.setattr("last.bench.search.score", measure)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("mixing: [{training.mix: 0.5}]")
    command = ["search", "space.yaml", "--dataset", "utd_mhad", "--set", "data.protocol=own", "--device", "cpu"]
    for write in ([], ["--write", "found.yaml"]):  # the same search goes on
        assert main([*command, *write]) == 0
    log = json.loads((tmp_path / "results" / "utd_mhad.own.last_e_nano.few_clips_mixed.search.json").read_text())
    assert (log["chosen"], log["protocol"], log["overrides"]) == ({"training.mix": 0.5}, "own", {})
    assert load_config(recipe="found.yaml").training.mix == 0.5
    assert "mixing: training.mix=0.5; top-1 on held-out clips 70.0" in capsys.readouterr().err
    assert log["earlier"] == []
    (tmp_path / "space.yaml").write_text("rate: [{training.lr: 0.2}]")  # another space: what was tried stays
    assert main(command) == 0
    after = json.loads((tmp_path / "results" / "utd_mhad.own.last_e_nano.few_clips_mixed.search.json").read_text())
    assert after["chosen"] == {"training.lr": 0.2}
    assert after["earlier"] == [{key: value for key, value in log.items() if key != "earlier"}]
    assert main([*command, "--write", "found.yaml"]) == 2
    assert "--write found.yaml is there already and is left alone" in capsys.readouterr().err
    assert main([*command, "--parts", "2"]) == 1
    assert "holds the log of another search (parts 4, here 2) and is left alone" in capsys.readouterr().err
    (tmp_path / "slip.yaml").write_text("mixing: [{training.mix: 0.5}, {training.mixx: 0.5}]")
    assert main(["search", "slip.yaml", *command[2:]]) == 2
    assert "unknown key 'training.mixx' in slip.yaml (did you mean 'mix'?)" in capsys.readouterr().err
    (tmp_path / "clash.yaml").write_text("mixing: [{training.mix: 0.5}, {training.milestones: [9]}]")
    assert main(["search", "clash.yaml", *command[2:]]) == 2
    told = "the trial training.milestones=[9] of clash.yaml cannot be made: training.schedule in built-in default is"
    assert told in capsys.readouterr().err
    assert main(["search", "slip.yaml", *command[2:], "--set", "training.ema2=1"]) == 2
    assert "unknown key 'training.ema2' in command line" in capsys.readouterr().err
    assert main([*command, "--write", "found"]) == 2
    assert "--write found does not end in .yaml" in capsys.readouterr().err
