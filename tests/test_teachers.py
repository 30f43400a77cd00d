"""Teachers of a run: opened, held against the student, on record; and the command that takes them."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from last.cli import main
from last.config import with_overrides
from last.data.datasets import load_dataset
from last.progress import Interrupted, Reporter
from last.recognizer import build_model, describe, load_model
from last.run import Run, RunError
from last.setting_values import ConfigError
from last.skeleton import load_layout
from last.teachers import distillation, open_teachers
from last.training.checkpoint import CheckpointError, save_weights
from last.workflow import begin, resume, train

CPU = torch.device("cpu")
QUIET = Reporter(quiet=True)
CLASSES = load_dataset("nw_ucla").classes
LAYOUT = load_layout("kinect20")


def make_teacher(config, path, classes=CLASSES, layout=LAYOUT, seed=0, **changes):
    """A file of weights of a fresh network, by the settings of a student but for some."""
    config = with_overrides(config, {key.replace("__", "."): value for key, value in changes.items()})
    torch.manual_seed(seed)
    save_weights(path, build_model(config, len(classes), layout), describe(config, classes, layout))
    return str(path)


def test_the_command_trains_a_student_and_its_result_says_of_whom(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher").mkdir()
    make_teacher(config, tmp_path / "teacher" / "last.safetensors")
    (tmp_path / "teacher" / "result.json").write_text(json.dumps({"kind": "accuracy", "top1": 12.5}))
    other = make_teacher(config, tmp_path / "other.safetensors", model__streams="bone_velocity")
    command = ["distill", "--student", "nano-e", "--teacher", "teacher", other, "--dataset", "nw_ucla",
               "--env", "local", "--data", config.data.path, "--epochs", "1", "--set", "data.frames=8",
               "--run", "student", "--results", "results"]  # fmt: skip
    assert main(command) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"taught by last_e_nano (teacher, top-1 12.5), last_e_nano ({other}), asked at each step" in said
    assert "label weight 0.7, temperature 4" in said
    (result,) = (tmp_path / "results").iterdir()
    assert result.name == "nw_ucla.xview.last_e_nano.nw_ucla_long_distilled.seed0.json"
    teachers = json.loads(result.read_text())["teachers"]
    assert [(t["path"], t["model"], t.get("top1")) for t in teachers] == [
        ("teacher", "last_e_nano", 12.5),
        (other, "last_e_nano", None),
    ]
    assert teachers[1]["sha256"] == hashlib.sha256(Path(other).read_bytes()).hexdigest()
    assert load_model("runs/student").state_dict().keys() == load_model("teacher").state_dict().keys()
    assert main([*command, "--model", "nano_e"]) == 2
    assert "leave out --model" in capsys.readouterr().err


def test_teachers_as_a_setting_of_last_train_are_the_same_thing(config, tmp_path, monkeypatch):
    def no_more(run, *others):
        raise RunError("what a run does follows from its folder")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("last.workflow.train", no_more)
    teacher = make_teacher(config, tmp_path / "t.safetensors")
    common = ["--dataset", "nw_ucla", "--data", config.data.path, "--set", "data.frames=8", "--set",
              "training.recipe=mine"]  # fmt: skip
    main(["distill", "--student", "nano_e", "--teacher", teacher, "--run", "a", *common])
    main(["train", "--model", "nano_e", "--set", f"training.teachers={teacher}", "--run", "b", *common])
    one, same = Run.open(tmp_path / "runs/a"), Run.open(tmp_path / "runs/b")
    assert one.config == same.config
    assert (one.config.training.teachers, one.config.training.recipe) == ((teacher,), "mine")
    assert one.provenance()["teachers"] == same.provenance()["teachers"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data__frames": 16}, r"data\.frames 16, the student's 8; give the student"),
        ({"data__normalise": "torso"}, r"data\.normalise \['torso'\], the student's \['minmax'\]"),
        ({"data__origin": "each_frame"}, r"data\.origin each_frame"),
        ({"data__missing": "mask"}, r"data\.missing mask"),
        ({"data__max_bodies": 2}, r"data\.max_bodies 2, the student's 1"),
        (
            {"data__protocol": "xsub"},
            "it was trained on nw_ucla by the protocol xsub, whose training clips may be test clips of xview",
        ),
        ({"model__confidence": True}, r"model\.confidence True"),
        (
            {"model__bodies": "padded", "model__name": "stgcnpp", "model__streams": "joint"},
            r"model\.bodies padded, the student's not padded",
        ),
        ({"data__frames": 16, "layout": load_layout("ntu")}, "takes layout 'ntu'"),
        ({"data__frames": 16, "classes": CLASSES[:9]}, "names 9 classes"),
        ({"classes": CLASSES[:9]}, "names 9 classes, and the student's clips have 10"),
        ({"classes": (CLASSES[1], CLASSES[0], *CLASSES[2:])}, f"class 0 is '{CLASSES[1]}' there and '{CLASSES[0]}'"),
        ({"layout": load_layout("ntu")}, r"takes layout 'ntu' \(25 joints\), .* layout 'kinect20' \(20 joints\)"),
        (
            {"layout": replace(LAYOUT, y_down=True)},
            r"takes layout 'kinect20' .* \(20 joints\); y_down is true there and false here; train a teacher",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_a_folder_is_made(config, tmp_path, changes, sentence):
    teacher = make_teacher(config, tmp_path / "t.safetensors", **changes)
    with pytest.raises(ConfigError, match=sentence):
        begin(with_overrides(config, {"training.teachers": [teacher]}), "first", CPU, "")
    assert not (tmp_path / "runs").exists()


def test_a_teacher_without_weights_is_refused(config, tmp_path):
    with pytest.raises(CheckpointError, match="no weights at"):
        begin(with_overrides(config, {"training.teachers": [str(tmp_path)]}), "first", CPU, "")


def test_other_networks_streams_and_bodies_may_teach(config, tmp_path):
    teacher = make_teacher(
        config, tmp_path / "t.safetensors", model__name="stgcnpp", model__streams="bone", model__bodies="first"
    )
    (opened,) = open_teachers(with_overrides(config, {"training.teachers": [teacher]}), CLASSES, LAYOUT, CPU)
    assert opened.record["model"] == "stgcnpp"


@pytest.mark.parametrize(
    ("network", "given", "weight"),
    [
        ("last_e_nano", None, 0.7),
        ("last_e_small", None, 0.6),
        ("last_e_base", None, 0.5),
        ("last_e_large", None, 0.5),
        ("last_v2_small", None, 0.5),
        ("last_e_nano", 0.3, 0.3),
    ],
)
def test_the_label_weight_is_the_originals_where_none_is_given(config, tmp_path, network, given, weight):
    teacher = make_teacher(config, tmp_path / "t.safetensors")
    settings = {"training.teachers": [teacher], "training.label_weight": given, "model.name": network}
    config = with_overrides(config, settings | {"training.temperature": 2, "training.feature_weight": 3})
    student = build_model(config, 10, LAYOUT)
    made = distillation(config, student, open_teachers(config, CLASSES, LAYOUT, CPU))
    assert (made.label_weight, made.temperature, made.feature_weight) == (weight, 2, 3)
    assert distillation(config, student, []) is None


def test_a_run_resumes_to_the_bit_and_with_the_teachers_it_began_with(config, tmp_path, monkeypatch):
    monkeypatch.setattr("last.workflow.evaluate", lambda *run, **how: None)
    teacher = make_teacher(config, tmp_path / "t.safetensors", seed=1)
    config = with_overrides(config, {"training.teachers": [teacher], "training.feature_weight": 1.0})
    whole, run = (begin(config, name, CPU, "") for name in ("whole", "stopped"))
    train(whole, False, CPU, QUIET)
    asked = iter([False] * 4 + [True] * 99)
    with pytest.raises(Interrupted):
        train(run, False, CPU, QUIET, stop=lambda: next(asked))
    before = (tmp_path / "t.safetensors").read_bytes()
    make_teacher(config, tmp_path / "t.safetensors", seed=2)
    with pytest.raises(RunError, match=r"the weights of the teacher .*t\.safetensors are not those that the training"):
        resume(run.path, {}, CPU, "")
    assert "resumed" not in run.provenance()
    (tmp_path / "t.safetensors").write_bytes(before)
    train(resume(run.path, {}, CPU, ""), True, CPU, QUIET)
    assert run.weights().read_bytes() == whole.weights().read_bytes()
