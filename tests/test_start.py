"""Fine-tuning: what a training takes from a trained network, what it refuses, and what its record says."""

import json

import numpy as np
import pytest
import torch

from last.cli import main
from last.config import with_overrides
from last.data.clip import Clip
from last.data.datasets import load_dataset, open_store
from last.data.protocols import split
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter
from last.evaluate import fingerprint_of_part
from last.lineage import rests_on, seen_tests
from last.progress import Interrupted, Reporter
from last.recognizer import Recognizer, build_model, describe
from last.run import Run, RunError
from last.setting_values import ConfigError
from last.skeleton import Layout, load_layout
from last.start import start
from last.training.checkpoint import CheckpointError, read_weights, save_weights
from last.workflow import begin, resume, train

CPU = torch.device("cpu")
QUIET = Reporter(quiet=True)
CLASSES = load_dataset("nw_ucla").classes
KINECT = load_layout("kinect20")
OTHERS = (CLASSES[3], "juggle", CLASSES[0])  # two of ten, in another order, and a new one


def changed(config, **changes):
    return with_overrides(config, {key.replace("__", "."): value for key, value in changes.items()})


def make_start(config, path, classes=CLASSES, layout=KINECT, seed=0, **changes):
    """A file of weights of a network with random weights and statistics."""
    config = changed(config, **changes)
    torch.manual_seed(seed)
    network = build_model(config, len(classes), layout)
    for tensor in network.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) + 0.5 if tensor.is_floating_point() else torch.tensor(7))
    save_weights(path, network, describe(config, classes, layout))
    return str(path)


def tune(config, path, classes, layout, **changes):
    """The fresh and the started state of a network, those of the start, and the note."""
    config = changed(config, training__start=path, data__name="mine", **changes)
    network = build_model(config, len(classes), layout, training=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    made = start(config, network, classes, layout)
    return before, network.state_dict(), read_weights(path)[0], made.note


def names_where(test, one, other):
    return {name for name in one if name in other and test(one[name], other[name])}


def same(one, other):
    return one.shape == other.shape and torch.equal(one, other)


def test_other_joints_and_classes_take_all_but_the_rows_of_new_classes(config, stick, tmp_path):
    path = make_start(config, tmp_path / "s.safetensors")
    before, after, theirs, note = tune(config, path, OTHERS, stick)
    classifier = {"classifier.weight", "classifier.bias"}
    assert names_where(same, after, theirs) == after.keys() - classifier
    for name in classifier:
        assert torch.equal(after[name][0], theirs[name][3])
        assert torch.equal(after[name][1], before[name][1])
        assert torch.equal(after[name][2], theirs[name][0])
    assert after["fusion.norms.0.num_batches_tracked"] == 7
    assert note == (
        f"starts from last_e_nano ({path}), trained on nw_ucla xview: {len(after) - 2} tensors, "
        "2 of 3 classes by name; fresh: 1 class"
    )


def test_what_depends_on_the_joints_is_fresh_where_they_differ_though_they_be_as_many(config, tmp_path):
    path = make_start(config, tmp_path / "s.safetensors", model__name="last_v2_small")
    swapped = Layout("mine", ("other", *KINECT.joints[1:]), KINECT.parents, KINECT.centre, 3)
    renamed = Layout("mine", KINECT.joints, KINECT.parents, KINECT.centre, 3)
    learned = {f"backbones.0.blocks.{i}.gcn.learned" for i in range(10)}  # 3 + 3 + 4 blocks
    for layout, fresh in ((load_layout("ntu"), learned), (swapped, learned), (renamed, set())):
        before, after, theirs, note = tune(config, path, CLASSES, layout, model__name="last_v2_small")
        assert names_where(same, after, theirs) == after.keys() - fresh
        assert fresh <= names_where(same, after, before)
        assert note.partition("fresh: ")[2] == (
            "10 tensors that depend on the joints, such as backbones.0.blocks.0.gcn.learned" if fresh else "none"
        )


@pytest.mark.parametrize("network", ["efficientgcn_b0", "ddnet_small", "sgn"])
def test_networks_of_others_can_be_tuned_to_other_joints(config, stick, tmp_path, network):
    changes = {"model__name": network, "model__streams": "joint"}
    path = make_start(config, tmp_path / "s.safetensors", **changes)
    before, after, theirs, _ = tune(config, path, CLASSES, stick, **changes)
    fresh = after.keys() - names_where(same, after, theirs)
    assert 0 < len(fresh) < len(after) / 2
    assert fresh <= names_where(same, after, before) and not any("classifier" in name for name in fresh)


def test_a_second_classifier_stays_fresh(config, tmp_path):
    path = make_start(config, tmp_path / "s.safetensors")
    before, after, theirs, note = tune(config, path, CLASSES, KINECT, training__auxiliary=0.3)
    auxiliary = {"auxiliary.weight", "auxiliary.bias"}
    assert names_where(same, after, theirs) == after.keys() - auxiliary
    assert auxiliary <= names_where(same, after, before)
    assert "10 of 10 classes by name; fresh: 2 tensors for training alone" in note


def test_clips_that_were_prepared_otherwise_are_told_of(config, tmp_path):
    path = make_start(config, tmp_path / "s.safetensors", data__origin="each_frame")
    note = tune(config, path, CLASSES, KINECT, data__normalise="torso")[3]
    assert note.endswith(
        "; its clips were prepared otherwise: data.normalise ('minmax',), here ('torso',), "
        "data.origin each_frame, here first_frame"
    )


@pytest.mark.parametrize(
    ("of_start", "of_training", "sentence"),
    [
        ({"data__protocol": "xsub"}, {}, "by the protocol xsub, whose training clips may be test clips of xview"),
        ({"model__name": "last_e_small"}, {}, "network last_e_small, here last_e_nano"),
        ({"model__streams": "joint"}, {}, r"streams \['joint'\], here \['joint', 'velocity', 'bone'\]"),
        ({"model__confidence": True}, {}, "channels 4, here 3"),
        ({}, {"training__structure": "branched"}, r"training\.structure is branched, whose layers have no counterpart"),
        (
            {"model__name": "last_v2_small", "model__share_backbone": False},
            {"model__name": "last_v2_small"},
            r"built by other settings .*: 'backbones\.1\.\S+' is of the shape .* in the start and missing here",
        ),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_a_folder_is_made(
    config, tmp_path, of_start, of_training, sentence
):
    path = make_start(config, tmp_path / "s.safetensors", **of_start)
    with pytest.raises(ConfigError, match=sentence):
        begin(changed(config, training__start=path, **of_training), "first", CPU, "")
    assert not (tmp_path / "runs").exists()


def test_what_a_start_itself_rests_on_may_know_the_test_clips_too(config, own, tmp_path, monkeypatch):
    monkeypatch.setattr("last.workflow.evaluate", lambda *run, **how: None)
    first = make_start(config, tmp_path / "s.safetensors", data__protocol="xsub")
    elsewhere = {"data__name": "synthetic", "data__protocol": "xsub", "data__path": str(own.path)}
    second = begin(changed(config, training__start=first, training__epochs=1, **elsewhere), "second", CPU, "")
    train(second, False, CPU, QUIET)
    (tmp_path / "s.safetensors").unlink()
    sentence = "rests on a network that was trained on nw_ucla by the protocol xsub, whose training clips may be test"
    with pytest.raises(ConfigError, match=sentence):
        begin(changed(config, training__start=str(second.path)), "third", CPU, "")
    teacher = tmp_path / "teacher.safetensors"
    described = describe(changed(config, data__name="mine"), CLASSES, KINECT, rests_on=[("nw_ucla", "xsub")])
    save_weights(teacher, build_model(config, len(CLASSES), KINECT), described)
    with pytest.raises(ConfigError, match=f"it {sentence}"):
        begin(changed(config, training__teachers=[str(teacher)]), "third", CPU, "")
    third = begin(changed(config, training__start=str(second.path), **elsewhere), "third", CPU, "")
    assert third.provenance()["start"]["rests_on"] == [["nw_ucla", "xsub"]]


@pytest.mark.parametrize(
    ("then", "now", "known"),
    [(("ntu60", "xview"), ("ntu120", "xsub"), True), (("ntu120", "xset"), ("ntu60", "xsub"), True),
     (("ntu60", "xsub"), ("ntu120", "xsub"), False), (("ntu60", "xview"), ("nw_ucla", "xsub"), False)],
)  # fmt: skip
def test_ntu_60_is_a_part_of_ntu_120(config, tmp_path, then, now, known):
    path = make_start(config, tmp_path / "s.safetensors", data__name=then[0], data__protocol=then[1])
    seen = seen_tests(Recognizer(path, "cpu"), changed(config, data__name=now[0], data__protocol=now[1]))
    assert (seen is not None) == known


def test_a_start_without_weights_is_refused(config, tmp_path):
    with pytest.raises(CheckpointError, match="no weights at"):
        begin(changed(config, training__start=str(tmp_path)), "first", CPU, "")


@pytest.mark.parametrize("setting", ["training__start", "training__teachers"])
def test_a_network_of_the_same_protocol_that_tested_other_clips_is_refused(config, tmp_path, setting):
    (tmp_path / "trained").mkdir()
    make_start(config, tmp_path / "trained" / "last.safetensors")
    store = open_store(config)
    tests = split(store, "xview", "nw_ucla")[1]
    now = fingerprint_of_part(store, tests)
    path = str(tmp_path / "trained")
    given = changed(config, **{setting: path if setting == "training__start" else [path]})
    result = {"kind": "accuracy", "top1": 12.5, "test_part": "another"}
    (tmp_path / "trained" / "result.json").write_text(json.dumps(result))
    with pytest.raises(ConfigError, match="trained was trained on nw_ucla when xview tested other clips"):
        begin(given, "run", CPU, "")
    assert not (tmp_path / "runs").exists()
    (tmp_path / "trained" / "result.json").write_text(json.dumps(result | {"test_part": now}))
    begin(given, "run", CPU, "")


@pytest.mark.parametrize("setting", ["training__start", "training__teachers"])
def test_a_file_that_lies_apart_from_its_run_tells_of_its_test_clips(config, tmp_path, monkeypatch, setting):
    def begin_from(weights, name, **changes):
        begin(changed(config, **{setting: str(weights)}, **changes), name, CPU, "")

    monkeypatch.setattr("last.workflow.evaluate", lambda *run, **how: None)
    fewer = {"data__path": str(tmp_path / "fewer")}
    with StoreWriter(tmp_path / "fewer", KINECT, CLASSES) as writer:
        for camera in (2, 3):
            writer.append(Clip(np.ones((6, 1, 20, 3), np.float32), f"c{camera}", "kinect20", 0, camera=camera))
    first = begin(changed(config, training__epochs=1), "first", CPU, "")
    train(first, False, CPU, QUIET)
    alone = first.weights().rename(tmp_path / "alone.safetensors")
    begin_from(alone, "same")
    with pytest.raises(ConfigError, match=r"alone\.safetensors was trained on nw_ucla when xview tested other clips"):
        begin_from(alone, "other", **fewer)
    # Through a network of other clips, whose own test part is no matter here.
    record = {"dataset": "nw_ucla", "protocol": "xview", "test_part": read_weights(alone)[1]["test_part"]}
    described = describe(changed(config, data__name="mine"), CLASSES, KINECT, None, rests_on([record]), "of mine")
    save_weights(tmp_path / "next.safetensors", build_model(config, len(CLASSES), KINECT), described)
    begin_from(tmp_path / "next.safetensors", "next")
    with pytest.raises(ConfigError, match="rests on a network that was trained on nw_ucla when xview tested other"):
        begin_from(tmp_path / "next.safetensors", "other", **fewer)


def test_the_command_tunes_and_its_result_says_from_what(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trained").mkdir()
    make_start(config, tmp_path / "trained" / "last.safetensors")
    (tmp_path / "trained" / "result.json").write_text(json.dumps({"kind": "accuracy", "top1": 12.5}))
    command = ["train", "--start", "trained", "--dataset", "nw_ucla", "--env", "local", "--data", config.data.path,
               "--epochs", "1", "--set", "data.frames=8"]  # fmt: skip
    assert main([*command, "--run", "tuned", "--results", "results"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "starts from last_e_nano (trained, top-1 12.5), trained on nw_ucla xview" in said
    (result,) = (tmp_path / "results").iterdir()
    assert result.name == "nw_ucla.xview.last_e_nano.nw_ucla_long_tuned.seed0.json"
    record = json.loads(result.read_text())["start"]
    assert (record["path"], record["model"], record["dataset"], record["protocol"], record["top1"]) == (
        "trained", "last_e_nano", "nw_ucla", "xview", 12.5,
    )  # fmt: skip
    assert main([*command, "--resume", "runs/tuned"]) == 2
    assert "leave out --run and --start" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["train", "--start"], ["distill", "--student", "nano_e", "--teacher"]], ids=["tuned", "distilled"]
)
def test_a_run_that_rests_on_others_is_resumed_by_the_recipe_that_it_was_begun_with(
    config, tmp_path, monkeypatch, capsys, command
):
    def stopped(*how):
        raise Interrupted("as by Ctrl-C")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("last.workflow.train", stopped)
    path = make_start(config, tmp_path / "s.safetensors")
    common = ["--dataset", "nw_ucla", "--data", config.data.path, "--set", "data.frames=8", "--recipe"]
    assert main([*command, path, "--run", "first", *common, "nw_ucla"]) == 1
    resumed = ["train", "--resume", "runs/first", *common]
    assert main([*resumed, "nw_ucla"]) == 1
    assert "was asked for" not in capsys.readouterr().err
    assert len(Run.open(tmp_path / "runs/first").provenance()["resumed"]) == 1
    assert main([*resumed, "nw_ucla_long"]) == 1
    assert "and nw_ucla_long was asked for" in capsys.readouterr().err
    # A plain run whose recipe merely has such a name is another's.
    plain = ["train", "--run", "plain", *common, "nw_ucla", "--set", "training.recipe=nw_ucla_tuned"]
    assert main(plain) == 1 and "as by Ctrl-C" in capsys.readouterr().err
    assert main(["train", "--resume", "runs/plain", "--recipe", "nw_ucla"]) == 1
    assert "training.recipe nw_ucla_tuned, and nw_ucla was asked for" in capsys.readouterr().err


@pytest.fixture
def own(tmp_path, stick):
    """A store of a skeleton and classes of a person's own."""
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "own", stick, OTHERS) as writer:
        for i in range(18):
            joints = rng.normal(0, 1, (6, 1, 5, 3)).astype(np.float32)
            writer.append(Clip(joints, f"clip{i:02d}", "stick", i % 3, subject=i % 6))
    return ClipStore.open(tmp_path / "own")


def test_the_first_step_is_taken_from_the_start_and_by_the_moving_average_too(config, own, tmp_path, monkeypatch):
    monkeypatch.setattr("last.workflow.evaluate", lambda *run, **how: None)
    path = make_start(config, tmp_path / "s.safetensors")
    still = {"training__lr": 1e-8, "training__warmup_lr": 0, "training__min_lr": 0, "training__ema": 0.9}
    protocol = {"data__name": "synthetic", "data__protocol": "xsub", "data__path": str(own.path)}
    run = begin(changed(config, training__start=path, **still, **protocol), "run", CPU, "")
    train(run, False, CPU, QUIET)
    theirs, trained = read_weights(tmp_path / "s.safetensors")[0], read_weights(run.weights())[0]
    near = {"rtol": 0, "atol": 1e-6}  # the smallest learning rate that is allowed moves weights by less
    torch.testing.assert_close(trained["blocks.0.gcn.conv.weight"], theirs["blocks.0.gcn.conv.weight"], **near)
    torch.testing.assert_close(trained["classifier.weight"][0], theirs["classifier.weight"][3], **near)


def test_a_run_needs_its_start_until_its_first_checkpoint(config, tmp_path, monkeypatch):
    monkeypatch.setattr("last.workflow.evaluate", lambda *run, **how: None)
    path = make_start(config, tmp_path / "s.safetensors", seed=1)
    config = changed(config, training__start=path, training__epochs=1)
    whole, run = (begin(config, name, CPU, "") for name in ("whole", "stopped"))
    train(whole, False, CPU, QUIET)
    before = (tmp_path / "s.safetensors").read_bytes()
    make_start(config, tmp_path / "s.safetensors", seed=2)
    with pytest.raises(RunError, match=r"the weights of the start .*s\.safetensors are not those that the training"):
        resume(run.path, {}, CPU, "")
    (tmp_path / "s.safetensors").write_bytes(before)
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        train(resume(run.path, {}, CPU, ""), True, CPU, QUIET, stop=lambda: next(asked))
    (tmp_path / "s.safetensors").unlink()
    train(resume(run.path, {}, CPU, ""), True, CPU, QUIET)
    assert run.weights().read_bytes() == whole.weights().read_bytes()
    assert Run.open(run.path).provenance()["start"] == whole.provenance()["start"]
