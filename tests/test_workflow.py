import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from last.config import load_config, with_overrides
from last.data.batches import Pipeline
from last.data.clean import CleanOptions
from last.data.datasets import DataMissingError, load_dataset, open_store, prepare_dataset
from last.data.feed import choose_feed
from last.data.protocols import split
from last.data.store_writer import StoreWriter
from last.evaluate import Scores, predict
from last.models.cost import count_parameters
from last.models.published import PublishedError
from last.progress import Interrupted, Reporter
from last.recognizer import Recognizer, build_model, load_model
from last.run import Run, RunError
from last.run_evaluation import evaluate
from last.setting_values import ConfigError
from last.training.checkpoint import CheckpointError, read_checkpoint
from last.workflow import adopt, begin, resume, train

CPU = torch.device("cpu")
QUIET = Reporter(quiet=True)


@pytest.fixture
def config(ucla_like, tmp_path):
    overrides = {
        "data.path": str(ucla_like.path), "data.frames": 8, "training.epochs": 2, "training.warmup_epochs": 1,
        "training.validation": 0.2, "environment.runs_root": str(tmp_path / "runs"),
    }  # fmt: skip
    return load_config(dataset="nw_ucla", environment="local", overrides=overrides)


@pytest.fixture
def run(config):
    run = begin(config, "first", CPU, "last train")
    train(run, False, CPU, QUIET)
    return run


def test_a_run_leaves_all_its_files(run, tmp_path):
    assert run.path == tmp_path / "runs" / "first"
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "config.yaml", "provenance.json", "metrics.csv", "tensorboard", "checkpoint.pt", "last.safetensors",
        "unaveraged.safetensors",
        "best.safetensors", "evaluation.json", "result.json", "scores.npz", "report.html", "pictures",
    }  # fmt: skip
    assert [row["epoch"] for row in run.history()] == [1, 2]
    assert set(run.history()[0]) == {
        "epoch", "lr", "train_loss", "train_top1", "seconds", "validation_loss", "validation_top1",
    }  # fmt: skip
    assert any(path.name.startswith("events") for path in (run.path / "tensorboard").iterdir())
    assert {"curves.png", "confusion.png", "per_class.png"} <= {p.name for p in (run.path / "pictures").iterdir()}
    assert "https://" not in (run.path / "report.html").read_text()


def test_the_weights_say_how_their_clips_were_cleaned(config, ucla_like, tmp_path):
    with StoreWriter(
        tmp_path / "s", ucla_like.layout, ucla_like.classes, provenance={"cleaning": {"min_frames": 3, "max_bodies": 4}}
    ) as writer:
        writer.extend(ucla_like)
    config = with_overrides(config, {"data.path": str(tmp_path / "s"), "data.min_frames": 3, "training.epochs": 1})
    run = begin(config, "cleaned", CPU, "")
    train(run, False, CPU, QUIET, reports=False)
    assert Recognizer(run.weights(), CPU).cleaning == CleanOptions(min_frames=3, max_bodies=4)


def test_the_result_says_how_to_get_it_again(run, tmp_path):
    result = json.loads((run.path / "result.json").read_text())
    assert set(result) >= {
        "kind", "model", "parameters", "dataset", "protocol", "recipe", "seed", "epochs", "top1", "top5",
        "mean_class_accuracy", "command", "commit", "hardware", "torch", "seconds", "date", "config",
    }  # fmt: skip
    assert (result["kind"], result["command"], result["recipe"]) == ("accuracy", "last train", "nw_ucla_long")
    assert result["parameters"] == count_parameters(load_model(run.path))
    copied = run.copy_result("result.json", tmp_path / "results")
    assert copied.name == "nw_ucla.xview.last_e_nano.nw_ucla_long.seed0.json"
    assert json.loads(copied.read_text()) == result


def test_the_scores_are_those_of_the_result(run, ucla_like):
    result, scores = json.loads((run.path / "result.json").read_text()), Scores.open(run.path / "scores.npz")
    test_part = ucla_like.clips[ucla_like.clips["camera"] == 3]
    assert scores.names.tolist() == test_part["name"].tolist()
    assert scores.classes == ucla_like.classes
    right = scores.probabilities.argmax(1) == test_part["label"]
    assert result["correct"] == "".join("1" if hit else "0" for hit in right)
    assert result["top1"] == pytest.approx(100 * right.mean(), abs=1e-4)
    assert result["test_part"] == scores.fingerprint
    other = dataclasses.replace(scores, labels=scores.labels[::-1])
    assert other.fingerprint != scores.fingerprint


def test_published_weights_become_a_run_that_is_no_result_of_ours(config, tmp_path):
    settings = {"model.name": "efficientgcn_b0", "model.streams": ["joint"]}
    config = with_overrides(config, settings)
    dataset = load_dataset("nw_ucla")
    network = build_model(config, len(dataset.classes), dataset.layout)
    torch.save({"model": network.state_dict()}, tmp_path / "theirs.pth.tar")
    run = adopt(config, dataset, tmp_path / "theirs.pth.tar", "theirs", "last import")
    evaluation = evaluate(run, CPU, QUIET)
    assert evaluation.result["kind"] == "published"
    assert evaluation.result["published"]["file"] == "theirs.pth.tar"
    adopted = load_model(run.path).state_dict()
    assert all(torch.equal(adopted[name], value) for name, value in network.state_dict().items())
    assert run.copy_result("result.json", tmp_path / "results").name.endswith(".published.json")
    with pytest.raises(RunError, match=r"weights that others published, theirs\.pth\.tar, and no training to go on"):
        resume(run.path, {}, CPU, "last train --resume")
    assert "resumed" not in run.provenance()
    with pytest.raises(RunError, match="holds a run already"):
        adopt(config, dataset, tmp_path / "theirs.pth.tar", "theirs", "last import")
    with pytest.raises(PublishedError, match="classes"):
        adopt(config, load_dataset("sbu"), tmp_path / "theirs.pth.tar", "other", "last import")
    assert not (run.path.parent / "other").exists()


def test_evaluation_takes_the_test_part_alone_and_repeats_itself(run, ucla_like):
    first = json.loads((run.path / "evaluation.json").read_text())
    assert first["clips"] == (ucla_like.clips["camera"] == 3).sum() == 20
    assert evaluate(run, CPU, QUIET).metrics.confusion.tolist() == first["confusion"]


def test_a_run_is_not_scored_anew_on_clips_that_may_have_trained_it(run, config, ucla_like):
    with StoreWriter(config.store_path(), ucla_like.layout, ucla_like.classes) as writer:
        for clip in (ucla_like[i] for i in range(len(ucla_like))):  # cameras 2 and 3 have changed places
            writer.append(dataclasses.replace(clip, camera={2: 3, 3: 2}.get(clip.camera, clip.camera)))
    before = (run.path / "result.json").read_bytes()
    with pytest.raises(RunError, match=r"is of 20 test clips of nw_ucla xview, and .* has 20 there now, of other"):
        evaluate(run, CPU, QUIET)
    assert (run.path / "result.json").read_bytes() == before
    (run.path / "result.json").rename(run.path / "then.json")
    assert evaluate(run, CPU, QUIET).result["test_part"] != json.loads(before)["test_part"]


def test_other_weights_or_crops_leave_the_reported_result_alone(run, tmp_path):
    reported = (run.path / "result.json").read_text()
    other = evaluate(run, CPU, QUIET, weights="best", crops=3)
    assert (run.path / "result.json").read_text() == reported
    assert (other.result["weights"], other.result["crops"]) == ("best", 3)
    assert other.result_file == "result.best.crops3.json"
    assert other.report.name == "report.best.crops3.html"
    middle = evaluate(run, CPU, QUIET, span=0.5)
    assert middle.result_file == "result.span0.5.json" and middle.result["span"] == 0.5
    whole, half = (np.load(run.path / name)["probabilities"] for name in ("scores.npz", "scores.span0.5.npz"))
    assert not np.allclose(whole, half)
    files = ("result.json", other.result_file, middle.result_file)
    assert len({run.copy_result(file, tmp_path / "results").name for file in files}) == 3


def test_padded_clips_have_no_crops(config):
    run = begin(with_overrides(config, {"data.sampling": "pad", "training.crop": [1, 1]}), "padded", CPU, "last train")
    assert train(run, False, CPU, QUIET).result["crops"] == 1
    with pytest.raises(ConfigError, match="takes clips as they are"):
        evaluate(run, CPU, QUIET, crops=5)
    with pytest.raises(ConfigError, match="drop --crops and --span"):
        evaluate(run, CPU, QUIET, span=0.7)


def test_a_result_of_other_settings_is_not_overwritten(run, config, tmp_path):
    run.copy_result("result.json", tmp_path / "results")
    run.copy_result("result.json", tmp_path / "results")  # the same run may be copied again
    longer = begin(with_overrides(config, {"training.epochs": 3}), "longer", CPU, "")
    train(longer, False, CPU, QUIET)
    with pytest.raises(RunError, match="holds a result of other settings and is left alone"):
        longer.copy_result("result.json", tmp_path / "results")


def test_a_run_stopped_before_its_first_checkpoint_begins_anew(run, config):
    early = begin(config, "early", CPU, "last train")
    again = resume(early.path, {}, CPU, "last train --resume")
    train(again, True, CPU, QUIET)
    assert again.weights().read_bytes()[-1000:] == run.weights().read_bytes()[-1000:]
    assert [record["command"] for record in again.provenance()["resumed"]] == ["last train --resume"]


@pytest.fixture
def branched(config):
    settings = {"training.structure": "branched", "training.auxiliary": 0.3, "training.ema": 0.9}
    return with_overrides(config, settings)


def test_what_is_for_training_alone_is_kept_for_training_alone(branched):
    run = begin(branched, "branched", CPU, "last train")
    result = train(run, False, CPU, QUIET).result
    store = open_store(branched)
    plain = build_model(branched, len(store.classes), store.layout)
    assert result["parameters"] == count_parameters(plain)
    for weights in ("last", "best"):
        saved = load_model(run.weights(weights)).state_dict()
        assert {name: x.shape for name, x in saved.items()} == {name: x.shape for name, x in plain.state_dict().items()}
    # Without the average they are the last step's.
    last = build_model(branched, len(store.classes), store.layout, training=True)
    last.load_state_dict(read_checkpoint(run.checkpoint)["model"])
    unaveraged = load_model(run.weights("unaveraged")).state_dict()
    for name, x in last.deploy().state_dict().items():
        torch.testing.assert_close(unaveraged[name], x)
    # The moving average as it trains, of which the checkpoint tells, gives the scores that the run reports.
    average = build_model(branched, len(store.classes), store.layout, training=True)
    average.load_state_dict(read_checkpoint(run.checkpoint)["ema"])
    feed = choose_feed(store, split(store, "xview", "nw_ucla")[1], CPU, 64, "device")
    probabilities = predict(average.eval(), Pipeline.from_config(branched.data, branched.model, store.layout), feed)
    assert Scores.open(run.path / "scores.npz").probabilities == pytest.approx(probabilities.numpy(), abs=1e-5)


def test_it_goes_on_to_the_bit(branched):
    runs = [begin(branched, name, CPU, "") for name in ("whole", "parts")]
    train(runs[0], False, CPU, QUIET)
    asked = iter([False, False, False, True])  # in the second of its epochs of two steps
    with pytest.raises(Interrupted):
        train(runs[1], False, CPU, QUIET, lambda: next(asked))
    train(resume(runs[1].path, {}, CPU, ""), True, CPU, QUIET)
    for weights in ("last", "best"):
        assert runs[0].weights(weights).read_bytes() == runs[1].weights(weights).read_bytes()
    with pytest.raises(RunError, match=r"was trained with training.structure branched, and plain was asked for"):
        resume(runs[1].path, {"training.structure": "plain"}, CPU, "")


@pytest.mark.parametrize("name", ["provenance.json", "metrics.csv"])
def test_damaged_notes_of_a_run_are_told_by_name(run, name):
    (run.path / name).write_text("epoch\nx\n")
    with pytest.raises(RunError, match=name):
        evaluate(run, CPU, QUIET)


def test_copies_of_training_clips_in_the_test_part_are_counted(config, ucla_like, tmp_path):
    with StoreWriter(tmp_path / "leaky", ucla_like.layout, ucla_like.classes) as writer:
        for i, clip in enumerate(ucla_like):
            writer.append(dataclasses.replace(clip, joints=ucla_like[i - 40].joints) if i in (40, 41, 42) else clip)
    run = begin(with_overrides(config, {"data.path": str(tmp_path / "leaky")}), "leaky", CPU, "")
    train(run, False, CPU, QUIET)
    result = json.loads((run.path / "result.json").read_text())
    assert (result["test_clips"], result["test_clips_copied_from_training"]) == (20, 3)
    evaluation = json.loads((run.path / "evaluation.json").read_text())
    right = np.trace(np.array(evaluation["confusion"]))
    assert right - 3 <= round(result["top1_without_copies"] * 17 / 100) <= right


def test_the_test_part_plays_no_role_in_training(config, ucla_like, tmp_path):
    # The same training clips with other test clips must give the same network.
    other = tmp_path / "other"
    shutil.copytree(ucla_like.path, other)
    joints = np.load(other / "joints.npy", mmap_mode="r+", allow_pickle=False)
    start = int(ucla_like.clips["offset"][ucla_like.clips["camera"] == 3][0])
    joints[start:] += 7
    joints.flush()
    networks = []
    for name, path in (("a", ucla_like.path), ("b", other)):
        run = begin(with_overrides(config, {"data.path": str(path)}), name, CPU, "")
        train(run, False, CPU, QUIET)
        networks.append((run.weights("last").read_bytes(), run.weights("best").read_bytes()))
    tensors = [Recognizer(tmp_path / "runs" / name, "cpu").model.state_dict() for name in "ab"]
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())
    assert networks[0][1][-1000:] == networks[1][1][-1000:]


def test_a_folder_that_holds_a_run_is_not_overwritten(run, config):
    with pytest.raises(RunError, match="holds a run already; go on with --resume"):
        begin(config, "first", CPU, "")


def test_nothing_is_made_where_data_is_missing(config, tmp_path):
    away = with_overrides(config, {"data.path": str(tmp_path / "nowhere")})
    with pytest.raises(DataMissingError, match="last data prepare nw_ucla --raw"):
        begin(away, "second", CPU, "")
    assert not (tmp_path / "runs" / "second").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data.protocol": "xsub"}, "has no protocol 'xsub'"),
        ({"model.share_backbone": True}, "last_e_nano has no setting share_backbone"),
        ({"model.name": "last_v2_small", "training.structure": "branched"}, "last_v2_small has no setting branched"),
        ({"model.name": "last_v2_small", "training.auxiliary": 0.5}, "last_v2_small has no setting auxiliary"),
        ({"model.streams": "joint,bones"}, "expected one or more of"),
        ({"data.normalise": "torsos"}, "'torsos', expected any of"),
    ],
)
def test_nothing_is_made_where_the_settings_cannot_work(config, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        begin(with_overrides(config, change), "second", CPU, "")
    assert not (tmp_path / "runs" / "second").exists()


def test_the_store_lies_under_the_data_root(tmp_path):
    config = load_config(dataset="ntu60", environment="local", overrides={"environment.data_root": str(tmp_path)})
    with pytest.raises(DataMissingError, match=str(tmp_path / "ntu60")):
        open_store(config)
    with pytest.raises(DataMissingError, match=str(tmp_path / "raw" / "ntu60")):
        prepare_dataset(load_dataset("ntu60"), None, config)


@pytest.mark.parametrize(
    ("cleaning", "warns"),
    [
        ({}, False),
        ({"max_bodies": 4}, False),  # the network takes the first two of them
        ({"max_bodies": 1}, "--set data.max_bodies=1,"),
        ({"min_frames": 5, "max_spread": None}, "--set data.max_spread=none --set data.min_frames=5,"),
    ],
)
def test_a_store_that_prediction_would_clean_otherwise_is_told(tmp_path, stick, caplog, cleaning, warns):
    config = load_config(dataset="ntu60", overrides={"data.path": str(tmp_path / "s")})
    options = dataclasses.asdict(CleanOptions.from_config(config.data)) | cleaning
    with StoreWriter(tmp_path / "s", stick, ["x"], provenance={"cleaning": options}):
        pass
    open_store(config)
    assert warns in caplog.text if warns else not caplog.text


def test_a_resumed_run_must_stay_what_it_was(run, tmp_path):
    assert Run.open(run.path).config == run.config
    assert Run.open(run.checkpoint).path == run.path
    same = {"model.name": "last_e_nano", "data.path": "elsewhere", "environment.workers": 1}
    assert Run.open(run.path).with_settings(same).config.data.path == "elsewhere"
    with pytest.raises(RunError, match=r"was trained with training.lr 0.1, and 0.2 was asked for"):
        Run.open(run.path).with_settings({"training.lr": 0.2})
    with pytest.raises(RunError, match="no run at"):
        Run.open(tmp_path / "nowhere")


def test_weights_for_another_store_are_refused(run, tmp_path):
    store = open_store(run.config)
    with StoreWriter(tmp_path / "fewer", store.layout, store.classes[:9]) as writer:
        for clip in store:
            if clip.label < 9:
                writer.append(clip)
    with pytest.raises(CheckpointError, match=r"with 10 classes, and the store .* with 9"):
        evaluate(run.with_settings({"data.path": str(tmp_path / "fewer")}), CPU, QUIET)
    other = dataclasses.replace(store.layout, centre=0)
    with StoreWriter(tmp_path / "corrected", other, store.classes) as writer:
        writer.append(store[0])
    with pytest.raises(CheckpointError, match=r"10; its centre is 'shoulder_centre' there and 'hip_centre' here"):
        evaluate(run.with_settings({"data.path": str(tmp_path / "corrected")}), CPU, QUIET)
