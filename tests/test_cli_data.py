"""`last data` from its words to its files."""

import csv
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import last
from last.data.formats import list_clips
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--set", "data.frames=8", "--set", "training.warmup_epochs=1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_originals_preprocessing_command_says_what_is_missing(call):
    code, _, err = call("data", "prepare", "--dataset", "ntu60", "--split_type", "xsub")
    assert code == 1
    assert "raw files" in err and "data/raw/ntu60" in err
    code, _, err = call("data", "prepare", "--dataset", "ntu60", "--split_type", "xset")
    assert code == 2
    assert "has no protocol 'xset', expected one of xsub, xview" in err


def test_data_list_tells_what_is_prepared(call, ucla_like):
    Path("data").mkdir()
    ucla_like.path.rename("data/nw_ucla")
    code, out, _ = call("data", "list")
    assert code == 0
    flat = " ".join(out.split())
    assert "60 clips in data/nw_ucla" in flat
    assert "xsub, xset" in flat
    assert "--data " not in flat


def test_data_list_tells_of_stores_that_are_no_packaged_set(call, ucla_like, stick, clips):
    with StoreWriter("data/mine", stick, ("a", "b"), protocols={"people": {"train": {"subject": [1]}}}) as writer:
        for clip in clips:
            writer.append(clip)
    ucla_like.path.rename("data/views")
    Path("data/torn").mkdir()
    Path("data/torn/meta.json").write_text("{")
    code, out, _ = call("data", "list")
    lines = out[out.index("mine: ") :].splitlines()
    assert code == 0
    assert lines[0] == "mine: your own; train with --dataset FILE.yaml --data data/mine"
    assert lines[1] == "  2 classes; protocols people; 16 clips in data/mine"
    assert lines[2].startswith("torn: data/torn/meta.json is not JSON")
    assert lines[3] == "views: clips of nw_ucla; train with --dataset nw_ucla --data data/views"
    assert lines[4] == "  10 classes; protocols xview; 60 clips in data/views"


def test_weights_of_others_that_were_trained_on_a_set_of_ones_own_become_a_run(call, stick):
    Path("mine_layout.yaml").write_text(yaml.safe_dump(stick.to_dict(), sort_keys=False))
    Path("mine.yaml").write_text("about: {format: csv, layout: mine_layout.yaml, classes: [a, b]}\ndata: {name: mine}")
    torch.save(last.create_model("efficientgcn_b0", num_classes=2, layout=stick).state_dict(), "theirs.pt")
    words = ("theirs.pt", "--model", "efficientgcn_b0", "--recipe", "efficientgcn")
    code, _, err = call("import", *words, "--dataset", "mine.yaml", "--run", "theirs")
    assert code == 0, err
    assert last.Recognizer("runs/theirs").layout == stick


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
        if line[1] == "train":  # of four classes
            assert "mean class" in out and "top-5" not in out + Path("runs/mine/report.html").read_text()
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


def test_ones_own_recordings_may_bring_lists_beside_the_rules(call, tmp_path):
    Path("pair.yaml").write_text("name: pair\njoints: {a: a, b: a}\ncentre: a\ndimensions: 2\n")
    frames = [f"c{i},{i % 2},{('train', 'test')[i // 4]},{t},1,2,{i + t}" for i in range(8) for t in range(9)]
    Path("own.csv").write_text("\n".join(["clip,label,part,a_x,a_y,b_x,b_y", *frames]) + "\n")
    Path("own.yaml").write_text(
        "about: {format: csv, layout: pair.yaml, classes: [a, b], columns: {clip: clip, label: label, part: part}}\n"
        "data: {protocol: given}\nprotocols: {mine: {train: {label: [0]}}}\n"
    )
    code, _, err = call("data", "prepare", "own.yaml", "--raw", "own.csv")
    assert code == 0, err
    code, out, _ = call("data", "list")
    assert code == 0 and "own: your own" in out and "protocols given, mine" in " ".join(out.split())


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
    lines = Path("recordings.csv").read_text().splitlines()
    lines = [line.replace(",Ana,", ",,") if line.startswith("toma003") else line for line in lines]
    Path("recordings.csv").write_text("\n".join(lines) + "\n")
    assert call("data", "new", "recordings.csv", "--name", "mine")[0] == 0
    assert call("data", "prepare", "mine.yaml", "--raw", "recordings.csv")[0] == 0
    code, _, err = call("train", "--dataset", "mine.yaml", "--run", "first", "--epochs", "1", *TINY)
    assert code == 0 and "32 to test, 1 for neither" in err
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
