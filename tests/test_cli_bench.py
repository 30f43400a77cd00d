"""`last bench accuracy` from its words to its table."""

import json
import shlex
from pathlib import Path

import pytest

from last.cli import app, main

TINY = ["--epochs", "1", "--set", "data.frames=8", "--set", "training.batch_size=40"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capsys):
    def run(*arguments):
        code = main(["bench", "accuracy", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_dry_run_prints_commands_that_are_the_very_runs(call):
    code, out, err = call("--datasets", "nw-ucla", "sbu", "--models", "nano_e", "efficientgcn-b0", "--seeds", 2,
                          "--set", "training.lr=0.05", "--dry-run")  # fmt: skip
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 2 * (1 + 5) * (1 + 2)
    assert "so trained by ours alone: last_e_nano" in err
    for line, seed in ((lines[0], 0), (lines[-1], 1)):
        bound = app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)[1]
        config = bound.kwargs["settings"].config()
        assert (config.training.seed, config.training.lr) == (seed, 0.05)
    assert (config.model.name, config.data.protocol, config.training.recipe) == (
        "efficientgcn_b0", "fold5", "efficientgcn",
    )  # fmt: skip


def test_two_at_a_time_end_in_the_scoreboard(call, ucla_like):
    words = ("--datasets", "nw_ucla", "--models", "nano_e", "--set", f"data.path={ucla_like.path}", *TINY, "--seeds", 2)
    code, out, err = call(*words, "--jobs", 2, "--no-reports")
    assert code == 0, err
    assert not list(Path("runs").rglob("report*")) and len(list(Path("runs").rglob("evaluation.json"))) == 2
    assert "2 runs: 0 done, 2 to do, 2 at a time" in err and "2/2 nw_ucla.xview.last_e_nano.nw_ucla_long.seed" in err
    (row,) = (line for line in out.splitlines() if line.startswith("| last_e_nano |"))
    result = json.loads(Path("results/nw_ucla.xview.last_e_nano.nw_ucla_long.seed1.json").read_text())
    assert result["hardware"].endswith(", 1 thread")
    assert "| nw_ucla_long, 1 | 2 | **" in row
    code, again, err = call(*words)
    assert (code, again) == (0, out)
    assert "2 runs: 2 done, 0 to do" in err


def test_a_failure_is_told_at_the_end_with_exit_code_1(call):
    code, _, err = call("--datasets", "nw_ucla", "--models", "nano_e", "--jobs", 1, *TINY)
    assert code == 1
    assert "last: nw_ucla.xview.last_e_nano.nw_ucla_long.seed0 failed: no prepared clips of 'nw_ucla'" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--models", "nano_x"], "no model 'nano_x'"),
        (["--datasets", "nw"], "no data configuration 'nw'"),
        (["--recipes", "theirs"], "no training configuration 'theirs'"),
        (["--models", "nano_e", "--recipes", "authors"], "has a recipe of its authors; add ours"),
        (["--set", "training.lr"], "has no '='"),
        (["--seeds", "0"], "0"),
    ],
)
def test_bad_usage_exits_with_2(call, words, sentence):
    code, out, err = call(*words)
    assert code == 2
    assert sentence in " ".join((out + err).split())
