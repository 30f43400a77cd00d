import csv
import json
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from last.cli import main
from last.data.formats import list_clips
from last.data.store import ClipStore

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--set", "data.frames=8", "--set", "training.warmup_epochs=1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capsys):
    """Run a command; returns exit code, standard output and standard error, lines unwrapped."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def write_ucla_json(path, label=1, frames=5, joints=20):
    skeletons = [[[0.1 * t + j, j, 1.0 + j] for j in range(joints)] for t in range(frames)]
    path.write_text(json.dumps({"file_name": path.stem, "skeletons": skeletons, "label": label}))


def test_train_evaluate_predict(call, ucla_like, tmp_path):
    code, out, err = call("train", "--model", "nano-e", "--dataset", "nw-ucla", "--data", ucla_like.path, "--epochs", 2,
                          "--batch_size", 8, "--run", "first", "--results", "results", *TINY)  # fmt: skip
    assert code == 0, err
    assert "last_e_nano" in out and "epoch 2/2" in err
    run = Path("runs/first")
    assert (run / "report.html").exists()
    (result,) = Path("results").iterdir()
    assert json.loads(result.read_text())["command"].startswith("last train --model nano-e --dataset nw-ucla --data ")
    code, again, _ = call("evaluate", run)
    assert code == 0
    assert again.splitlines()[1] == out.splitlines()[1]

    write_ucla_json(tmp_path / "a01_s01_e00_v01.json")
    code, out, _ = call("predict", run, "a01_s01_e00_v01.json", "--top", 3)
    assert code == 0
    assert len(out.splitlines()) == 4
    code, out, _ = call("predict", run, "a01_s01_e00_v01.json", "a01_s01_e00_v01.json", "--json")
    answers = json.loads(out)
    assert [answer["frames"] for answer in answers] == [5, 5]
    assert len(answers[0]["classes"]) == 5


def test_the_readmes_commands_run(call, tmp_path):
    # The block as it stands, on a small archive of the same form and for one epoch.
    block = (ROOT / "README.md").read_text().split("## Train on real data")[1].split("```")[1]
    lines = [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("last ")]
    assert [line[1] for line in lines] == ["data", "data", "train", "evaluate", "predict", "data"]
    with zipfile.ZipFile("all_sqe.zip", "w") as archive:
        for action in (1, 2, 3, 4, 5, 6, 8, 9, 11, 12):
            for view in (1, 2, 3):
                name = f"a{action:02d}_s01_e00_v{view:02d}.json"
                write_ucla_json(tmp_path / name, label=min(action, action - (action > 6) - (action > 9)))
                archive.write(name)
    for line in lines:
        extra = ["--epochs", "1", *TINY] if line[1] == "train" else []
        code, _, err = call(*line[1:], *extra)
        assert code == 0, (line, err)
    assert Path("runs/first/report.html").exists()
    assert Path("a05_s01_e00_v03.png").exists()
    code, out, _ = call("predict", "runs/first", "all_sqe.zip", "--json")
    assert len(json.loads(out)) == 30
    code, _, err = call("predict", "runs/first", "all_sqe.zip", "--clip", "a99")
    assert code == 1 and "no clip 'a99' in all_sqe.zip; the first of 30 is 'a01_s01_e00_v01'" in err
    code, _, err = call("evaluate", "runs/first", "--weights", "best")
    assert code == 1 and "its recipe sets training.validation to 0" in err
    assert call("evaluate", "runs/first", "--weights", "unaveraged")[0] == 0
    Path("runs/first/unaveraged.safetensors").unlink()
    code, _, err = call("evaluate", "runs/first", "--weights", "unaveraged")
    assert code == 1 and "has no unaveraged weights: its recipe sets training.ema to 0.998" in err


def test_one_broken_file_does_not_lose_the_others(call, ucla_like, tmp_path):
    call("train", "--dataset", "nw_ucla", "--data", ucla_like.path, "--epochs", 1, "--run", "first", *TINY)
    write_ucla_json(tmp_path / "a01_s01_e00_v01.json")
    (tmp_path / "a02_s01_e00_v01.json").write_text("{")
    code, out, err = call("predict", "runs/first", "a02_s01_e00_v01.json", "a01_s01_e00_v01.json")
    assert code == 1
    assert "a01_s01_e00_v01.json (5 frames, 1 body)" in out
    assert "a02_s01_e00_v01.json" in err


@pytest.mark.parametrize("script", [False, True])
def test_the_originals_training_command_says_what_is_missing(call, script):
    command = ["--model", "base_e", "--dataset", "ntu60", "--env", "kaggle", "--amp"]
    if script:
        done = subprocess.run([sys.executable, ROOT / "scripts/train.py", *command], capture_output=True, text=True)
        code, err = done.returncode, done.stderr
    else:
        code, _, err = call("train", *command)
    assert code == 1
    assert "/kaggle/working/data/ntu60" in err
    assert "rose1.ntu.edu.sg" in err
    assert "last data prepare ntu60 --raw" in err
    assert "--dataset synthetic" in err


def test_the_originals_preprocessing_command_says_what_is_missing(call):
    code, _, err = call("data", "prepare", "--dataset", "ntu60", "--split_type", "xsub")
    assert code == 1
    assert "raw files" in err and "data/raw/ntu60" in err
    code, _, err = call("data", "prepare", "--dataset", "ntu60", "--split_type", "xset")
    assert code == 2
    assert "has no protocol 'xset', expected one of xsub, xview" in err


def test_the_originals_flags_may_stand_beside_resume(call, ucla_like):
    flags = ["--model", "nano_e", "--dataset", "nw_ucla", "--env", "local", "--epochs", "1", *TINY]
    assert call("train", *flags, "--data", ucla_like.path, "--run", "r")[0] == 0
    code, _, err = call("train", *flags, "--resume", "runs/r")
    assert code == 0 and "runs/r is trained to its last epoch, 1; it is evaluated again" in err
    code, _, err = call("train", "--resume", "runs/r", "--env", "kaggle")
    assert code == 1 and "environment.name local, and kaggle was asked for" in err


def test_a_run_is_resumed_by_the_file_that_it_was_begun_with(call, ucla_like):
    described = (ROOT / "configs" / "data" / "nw_ucla.yaml").read_text()
    Path("same.yaml").write_text(described)
    Path("other.yaml").write_text(described.replace("name: nw_ucla", "name: other"))
    Path("recipe.yaml").write_text("training: {recipe: short, epochs: 1}")
    flags = ["--dataset", "same.yaml", "--recipe", "recipe.yaml", "--data", ucla_like.path, *TINY]
    code, _, err = call("train", *flags, "--run", "r")
    assert code == 0, err
    code, _, err = call("train", *flags, "--resume", "runs/r")
    assert code == 0, err
    code, _, err = call("train", "--dataset", "other.yaml", "--resume", "runs/r")
    assert code == 1 and "data.name nw_ucla, and other was asked for" in err


def test_amp_without_a_gpu_says_what_it_does_instead(call, ucla_like):
    _, _, err = call("train", "--dataset", "nw_ucla", "--data", ucla_like.path, "--epochs", 1, "--amp", "--run", "r",
                     "--device", "cpu", *TINY)  # fmt: skip
    assert "--amp asks for mixed precision, which needs a GPU" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "--nope"], "--nope"),
        (["tain"], "tain"),
        (["train", "--model", "resnet"], "no model 'resnet'"),
        (["train", "--dataset", "ntu6"], "did you mean 'ntu60'"),
        (["train", "--dataset", "my-data/rec"], "no data configuration 'my-data/rec'; there are"),
        (["train", "--epochs", "many"], "many"),
        (["train", "--epochs", "0"], "training.epochs in command line is 0"),
        (["train", "--set", "training.lrr=1"], "did you mean 'lr'"),
        (["train", "--set", "training.lr"], "has no '='"),
        (["train", "--device", "gpu"], "--device is gpu, expected auto, cpu, cuda or cuda:N"),
        (["config", "--set", "training=sgd"], "no training configuration 'sgd'"),
        (["evaluate"], "RUN"),
        (["evaluate", "run", "--crops", "-2"], "-2"),
        (["predict", "run", "file", "--top", "0"], "0"),
        (["models", "--frames", "0"], "0"),
        (["train", "--resume", "runs/x", "--run", "y"], "leave out --run"),
        (["train", "--seed", "-1"], "training.seed in command line is -1"),
        (["train", "--set", "training.seed=inf"], "expected a whole number"),
        (["train", "--set", "training.crop=[0.5"], "expected a list of 2 values"),
        (["train", "--set", "training.rotation=nan,0,0"], "expected a number"),
        (["data", "check", "x", "--dataset", "ntu60", "--layout", "coco17"], "--dataset says format and layout"),
        (["data", "synthesize", "--ntu", "x", "--csv", "y.csv"], "one of --out, --ntu and --csv"),
    ],
)
def test_bad_usage_exits_with_2(call, arguments, sentence):
    code, out, err = call(*arguments)
    assert code == 2
    assert sentence in " ".join((out + err).split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "nowhere"], "no run at nowhere"),
        (["predict", "nowhere", "x.json"], "no weights at nowhere"),
        (["train", "--resume", "nowhere"], "no run at nowhere"),
        (["train", "--data", "nowhere"], "last data synthesize --out nowhere"),
        (["data", "show", "nowhere.skeleton"], "nowhere.skeleton"),
        (["data", "check", "nowhere"], "nowhere"),
        (["data", "prepare", "nw_ucla", "--raw", "nowhere"], "nowhere does not exist"),
    ],
)
def test_failure_exits_with_1(call, arguments, sentence):
    code, out, err = call(*arguments)
    assert code == 1
    assert sentence in " ".join((out + err).split())


def test_models_lists_parameters_and_macs(call):
    code, out, _ = call("models", "nano-e", "base")
    assert code == 0
    assert "92,358" in out and "38.5 M" in out and "9,217,256" in out
    _, out, _ = call("models", "small-e", "nano-e", "--classes", 120, "--json")
    smallest = json.loads(out)[0]
    assert (smallest["model"], smallest["alias"], smallest["parameters"]) == ("last_e_nano", "nano_e", 98178)
    assert smallest["macs"] == 38459832


def test_config_says_where_each_value_came_from(call):
    code, out, _ = call("config", "--dataset", "nw_ucla", "--set", "training=default", "--lr", 0.2)
    assert code == 0
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert lines["training.lr"] == "0.2 command line"
    assert lines["training.epochs"] == "70 configs/training/default.yaml"
    assert lines["data.max_bodies"] == "1 configs/data/nw_ucla.yaml"


def test_data_list_tells_what_is_prepared(call, ucla_like):
    Path("data").mkdir()
    ucla_like.path.rename("data/nw_ucla")
    code, out, _ = call("data", "list")
    assert code == 0
    flat = " ".join(out.split())
    assert "60 clips in data/nw_ucla" in flat
    assert "xsub, xset" in flat


def test_prepare_check_and_show_real_files(call, shared_data, tmp_path):
    raw = shared_data / "ntu_raw"
    code, out, err = call("data", "prepare", "ntu60", "--raw", raw, "--workers", 1)
    assert code == 0, err
    assert "10 of 10 clips are now in data/ntu60" in out
    code, out, _ = call("data", "check", raw / "S001C001P001R001A050.skeleton")
    assert code == 0
    for target in ("clip.png", "clip.gif", "clip.html"):
        assert call("data", "show", raw / "S001C001P001R001A050.skeleton", "--out", target)[0] == 0
        assert (tmp_path / target).stat().st_size > 5000
    assert call("data", "show", "data/ntu60", "--clip", "S001C001P001R001A001")[0] == 0
    assert Path("S001C001P001R001A001.png").exists()
    code, _, err = call("data", "show", "data/ntu60", "--clip", "99")
    assert code == 1 and "no clip '99' in data/ntu60; its 10 clips" in err


def test_the_walk_with_ones_own_table_runs(call):
    # The README's block as it stands, with a clip's name and for one epoch.
    block = (ROOT / "README.md").read_text().split("## Train on your own recordings")[1].split("```")[1]
    lines = [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("last ")]
    assert [line[1:3] for line in lines[:4]] == [["data", name] for name in ("synthesize", "new", "check", "prepare")]
    names = {}
    for line in lines:
        if line[1] == "predict":
            assert call(*line[1:])[0] == 1  # there is no clip named CLIP
            line = [names["clip"] if word == "CLIP" else word for word in line]
        code, out, err = call(*line[1:], *(["--epochs", "1", *TINY] if line[1] == "train" else []))
        assert code == 0, err
        if line[2] == "prepare":
            assert "96 of 96 clips are now in data/mine" in out
            names["clip"] = ClipStore.open("data/mine").names()[-1]
    assert f"clip '{names['clip']}'" in out and "%" in out


def test_the_originals_preprocessing_also_writes_its_folder(call, shared_data):
    raw = ["--raw", shared_data / "ntu_raw", "--workers", 1]
    code, out, err = call("data", "prepare", "--dataset", "ntu60", "--split_type", "xsub", "--mib", "mib", *raw)
    assert code == 0, err
    assert "clips that train" in out
    store = ClipStore.open("data/ntu60")
    read = {source.name: known.read(source) for known, source in list_clips("mib")}
    assert {clip.parts for clip in read.values()} == {("given/train",), ("given/test",)}
    assert len(read) == len(store) == 10
    assert sorted(clip.label for clip in read.values()) == sorted(clip.label for clip in store)


def test_class_folders_of_files_of_one_name_go_from_new_to_predict(call, tmp_path):
    rng = np.random.default_rng(0)
    for label in ("wave", "squat"):
        (tmp_path / "own" / label).mkdir(parents=True)
        for i in range(5):
            rows = rng.normal(size=(12, 15))
            text = [",".join(f"{joint}_{axis}" for joint in "abcde" for axis in "xyz")]
            (tmp_path / "own" / label / f"rec{i}.csv").write_text(
                "\n".join([*text, *(",".join(map(str, row)) for row in rows)]) + "\n"
            )
    assert call("data", "new", "own", "--name", "mine")[0] == 0
    code, out, _ = call("data", "prepare", "mine.yaml", "--raw", "own", "--workers", 1)
    assert code == 0 and "10 of 10 clips" in out
    code, _, err = call("train", "--dataset", "mine.yaml", "--run", "first", "--epochs", "1", *TINY)
    assert code == 0 and "8 clips to train, 0 to validate, 2 to test" in err
    described = Path("mine.yaml").read_text()
    assert "[squat, wave]" in described
    Path("mine.yaml").write_text(described.replace("[squat, wave]", "[wave, squat]"))
    Path("space.yaml").write_text("mixing: [{training.mix: 0.5}]")
    for command in (
        "train --run second --dataset",
        "distill --student nano_e --teacher runs/first --run second --dataset",
        "bench accuracy --jobs 1 --models nano_e --recipes ours --datasets",
        "search space.yaml --jobs 1 --parts 2 --dataset",
    ):
        code, _, err = call(*command.split(), "mine.yaml", "--epochs", "1", *TINY)
        assert code != 0 and "mine.yaml has other classes now than" in " ".join(err.split()), command
        assert "last data prepare mine.yaml --raw own" in " ".join(err.split())
    assert [run.name for run in Path("runs").iterdir() if run.name != "bench"] == ["first"]
    assert not list(Path("runs/bench").iterdir())


def test_recordings_to_be_named_need_neither_labels_nor_known_people(call, tmp_path):
    assert call("data", "synthesize", "--csv", "recordings.csv")[0] == 0
    assert call("data", "new", "recordings.csv", "--name", "mine")[0] == 0
    assert call("data", "prepare", "mine.yaml", "--raw", "recordings.csv")[0] == 0
    assert call("train", "--dataset", "mine.yaml", "--run", "first", "--epochs", "1", *TINY)[0] == 0
    with Path("recordings.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, change in {
        "nothing_said.csv": lambda row: {k: v for k, v in row.items() if k not in ("gesto", "sujeto")},
        "strangers.csv": lambda row: row | {"gesto": "otra cosa", "sujeto": "Zoe"},
    }.items():
        new = [change(row) for row in rows if row["toma"] in ("toma001", "toma002")]
        with Path(name).open("w", newline="") as file:
            writer = csv.DictWriter(file, new[0])
            writer.writeheader()
            writer.writerows(new)
        code, out, err = call("predict", "runs/first", name)
        assert code == 0, err
        assert "clip 'toma001'" in out and "clip 'toma002'" in out
    told = ("toma", "cuadro", "gesto", "sujeto")
    one = [{k: v for k, v in row.items() if k not in told} for row in rows if row["toma"] == "toma001"]
    with Path("joints_alone.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, one[0])
        writer.writeheader()
        writer.writerows(one)
    code, out, err = call("predict", "runs/first", "joints_alone.csv")
    assert code == 0, err
    assert f"joints_alone.csv ({len(one)} frames" in out


def test_a_store_is_described_counted_converted_and_exported(call, ucla_like):
    code, out, _ = call("data", "info", ucla_like.path, "--verify")
    assert code == 0
    assert "clips: 60\n" in out and "protocol xview: 40 train, 20 test" in out
    assert "checksums: those of all files" in out
    code, out, _ = call("data", "stats", ucla_like.path, "--out", "stats.html")
    assert code == 0 and "hip_centre" in out and Path("stats.html").stat().st_size > 20_000
    code, out, _ = call("data", "stats", ucla_like.path, "--out", "stats.pdf")
    assert code == 1 and not out  # known before a long store is counted
    code, out, _ = call("data", "convert", ucla_like.path, "coco17", "coco")
    assert code == 0 and "nose: head" in out and len(ClipStore.open("coco")) == 60
    code, out, _ = call("data", "convert", ucla_like.path, "coco17", "coco")
    assert code == 0 and "60 clips in coco, instead of 60 that were there" in out
    code, out, _ = call("data", "export", ucla_like.path, "out.pkl", "--format", "pyskl", "--protocol", "xview")
    assert code == 0 and "40 clips that train and 20 that test in out.pkl" in out
    code, _, err = call("data", "export", ucla_like.path, "out.pkl", "--format", "pyskl", "--protocol", "xview")
    assert code == 1 and "out.pkl exists and is not replaced" in err


def test_each_step_of_the_cleaning_is_an_option(call, shared_data):
    raw = shared_data / "ntu_raw"
    for options, kept in (([], 2), (["--max-bodies", "1"], 1)):
        assert call("data", "prepare", "ntu60", "--raw", raw, "--workers", 1, "--dtype", "float16", *options)[0] == 0
        store = ClipStore.open("data/ntu60")
        assert store.clips["bodies"].max() == kept and store.joints.dtype == "float16"
    wide = ["--max-spread", "0.01", "--max-implausible", "0.5", "--min-frames", "2"]
    code, out, _ = call("data", "prepare", "ntu60", "--raw", raw, "--workers", 1, *wide)
    assert code == 0 and "bodies dropped as too wide" in out


def test_ctrl_c_leaves_a_run_that_goes_on(ucla_like, tmp_path):
    command = [sys.executable, "-m", "last.cli", "train", "--dataset", "nw_ucla", "--data", str(ucla_like.path)]
    command += ["--run", "stopped", *TINY]
    errors = tmp_path / "stderr"
    with errors.open("w") as file:
        process = subprocess.Popen([*command, "--epochs", "2000"], stderr=file, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while "epoch 2/" not in errors.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
    assert "go on with: last train --resume runs/stopped" in errors.read_text()
    state = Path("runs/stopped/checkpoint.pt")
    assert state.exists() and not Path("runs/stopped/last.safetensors").exists()


@pytest.mark.parametrize("command", [["train"], ["predict"], ["data", "prepare"], ["data", "show"]])
def test_help_keeps_its_words(call, command):
    _, out, _ = call(*command, "--help")
    assert "--empty" not in out
    if command == ["data", "prepare"]:
        assert "<data_root>/raw/<dataset>" in " ".join(out.split())


def test_ctrl_c_elsewhere_exits_with_1(call, monkeypatch):
    def stop(path, progress, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("last.data.check.check", stop)
    code, _, err = call("data", "check", "x")
    assert code == 1 and "last: stopped" in err


def test_help_is_quick_and_needs_no_torch():
    code = "import sys; from last.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
