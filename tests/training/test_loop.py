import copy
import math

import pytest
import torch
from torch import nn

import last
from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.feed import Resident
from last.evaluate import measure, predict
from last.progress import Interrupted
from last.settings import TrainingConfig
from last.training.checkpoint import CheckpointError, read_checkpoint, save_checkpoint
from last.training.loop import Trainer, TrainingError
from last.training.precision import Precision
from tiny_clips import make_clips

CPU = torch.device("cpu")
RECIPE = {
    "epochs": 3, "batch_size": 4, "lr": 0.05, "warmup_epochs": 1, "ema": 0.9, "seed": 3, "validation": 0.0,
    "rotation": (20.0, 20.0, 20.0), "noise": 0.01, "flip_sides": 0.5,
}  # fmt: skip
# Without anything random between a clip and its scores.
PLAIN = {"dropout": 0.0, "crop": (1.0, 1.0), "rotation": (0.0, 0.0, 0.0), "noise": 0.0, "flip_sides": 0.0}


def make_trainer(layout, clips, dropout=0.3, largest_batch=None, **changes):
    """A trainer of a fresh network."""
    config = TrainingConfig(**(RECIPE | changes))
    torch.manual_seed(config.seed)
    model = last.create_model("last_e_nano", 2, layout, dropout=dropout)
    pipeline = Pipeline(layout, frames=8, augmentation=Augmentation.from_config(config))
    return Trainer(model, pipeline, Resident(clips), config, largest_batch, lambda i: f"clip{i:02d}")


@pytest.fixture
def build(stick, device_clips):
    """Make a trainer, over the sixteen clips where no others are given."""
    return lambda clips=device_clips, **changes: make_trainer(stick, clips, **changes)


def relabelled(clips, labels):
    """The first clips of a set under other labels."""
    count = len(labels)
    part = {key: getattr(clips, key)[:count] for key in ("offset", "frames", "bodies")}
    return DeviceClips(**(vars(clips) | part | {"labels": torch.tensor(labels)}))


def fit(trainer, path, **callbacks):
    rows = []
    trainer.fit(path, rows.append, **callbacks)
    return rows


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(value, b[name]) for name, value in a.items())


def test_eight_clips_are_learned_by_heart(build, device_clips, stick, tmp_path):
    eight = relabelled(device_clips, [0, 1, 1, 0, 1, 0, 0, 1])
    trainer = build(eight, **PLAIN, epochs=100, batch_size=8, label_smoothing=0.0, ema=0.0)
    rows = fit(trainer, tmp_path / "c.pt")
    assert rows[-1]["train_loss"] < 0.1 < rows[0]["train_loss"]
    # A hundred steps also bring the running statistics of BatchNorm from their start to those of the clips.
    metrics = measure(predict(trainer.averaged, trainer.pipeline, eight), eight.labels)
    assert metrics.top1 == 100


@pytest.fixture(scope="module")
def whole(stick, tmp_path_factory):
    """An uninterrupted run of three epochs of four steps: the trainer and its rows."""
    trainer = make_trainer(stick, DeviceClips.from_clips(make_clips(stick), "cpu"))
    return trainer, fit(trainer, tmp_path_factory.mktemp("whole") / "c.pt")


@pytest.mark.parametrize("stop_at", [1, 4, 6, 11])
def test_a_resumed_run_equals_an_uninterrupted_one(build, whole, tmp_path, stop_at):
    done = []
    with pytest.raises(Interrupted):
        fit(build(), tmp_path / "c.pt", on_step=done.append, stop=lambda: done[-1] >= stop_at)
    assert done[-1] == stop_at
    torch.manual_seed(99)  # the resumed process has drawn other numbers so far
    resumed = build()
    resumed.load(tmp_path / "c.pt")
    fit(resumed, tmp_path / "c.pt")
    trainer, rows = whole
    assert same(trainer.model, resumed.model)
    assert same(trainer.averaged, resumed.averaged)
    assert [row | {"seconds": 0} for row in resumed.progress.history] == [row | {"seconds": 0} for row in rows]


def test_adam_and_falls_in_steps_resume_exactly(build, tmp_path):
    recipe = {"optimizer": "adam", "lr": 0.001, "schedule": "steps", "milestones": (1, 2), "ema": 0.0}
    with pytest.raises(Interrupted):
        fit(build(**recipe), tmp_path / "c.pt", on_step=(done := []).append, stop=lambda: done[-1] >= 6)
    resumed = build(**recipe)
    resumed.load(tmp_path / "c.pt")
    fit(resumed, tmp_path / "c.pt")
    whole = build(**recipe)
    fit(whole, tmp_path / "whole.pt")
    assert same(resumed.model, whole.model)


def test_the_same_seed_gives_the_same_run_and_another_another(build, tmp_path):
    runs = []
    for seed in (3, 3, 4):
        runs.append(build(seed=seed))
        fit(runs[-1], tmp_path / "c.pt")
    assert same(runs[0].model, runs[1].model)
    assert not same(runs[0].model, runs[2].model)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_accumulation_equals_the_large_batch(build, device_clips, class_weights):
    # BatchNorm sees each part alone, so it is taken out; the parts are of unequal size: 3, 3 and 1.
    gradients = []
    clips = relabelled(device_clips, [0, 0, 0, 0, 0, 1, 1])
    for largest in (None, 3):
        changes = {"batch_size": 7, "clip_norm": None, "class_weights": class_weights}
        trainer = build(clips, **PLAIN, largest_batch=largest, **changes)
        trainer.model.eval()
        trainer.step(clips, torch.arange(7))
        gradients.append([p.grad.clone() for p in trainer.model.parameters()])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, atol=1e-6, rtol=1e-4)
        losses, (total, correct, *taken) = trainer.unit.read(0, 1)
        assert total == pytest.approx(7 * losses[0]) and correct in range(8) and sum(taken) == 7


def test_accumulate_takes_several_batches_a_step(build):
    assert build(batch_size=4, accumulate=1).steps_per_epoch == 4
    assert build(batch_size=2, accumulate=4).steps_per_epoch == 2


def test_class_weights_weigh_rare_classes_more(build, device_clips):
    clips = relabelled(device_clips, [0] * 12 + [1] * 4)
    weights = build(clips, class_weights="balanced").unit.class_weights
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[clips.labels].mean().item() == pytest.approx(1)
    assert build().unit.class_weights is None


def test_clipping_bounds_the_gradient(build, device_clips):
    trainer = build(clip_norm=0.01)
    trainer.model.train()
    trainer.step(device_clips, torch.arange(4))
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in trainer.model.parameters()))
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_with_the_clips_names(build, device_clips, tmp_path):
    trainer = build(batch_size=16)
    fit(trainer, tmp_path / "c.pt", on_step=lambda done: None)
    before = (tmp_path / "c.pt").read_bytes()
    again = build(epochs=4, batch_size=16)
    again.progress = copy.deepcopy(trainer.progress)
    device_clips.rows[0] = math.inf
    with pytest.raises(TrainingError, match=r"not finite in epoch 4, step 1, on the clips .*clip00"):
        fit(again, tmp_path / "c.pt")
    assert (tmp_path / "c.pt").read_bytes() == before


@pytest.mark.parametrize(("seconds", "saved"), [(10.0, [1, 4]), (0.0, [1, 2, 3, 4])])
def test_checkpoints_have_seconds_between_them_but_for_the_last(build, tmp_path, monkeypatch, seconds, saved):
    monkeypatch.setattr("last.training.loop._SAVING", seconds)
    trainer, path, told = build(epochs=4), tmp_path / "c.pt", []
    rows = fit(trainer, path, on_saved=lambda: told.append(read_checkpoint(path)["progress"]["epoch"]))
    assert told == saved and len(rows) == 4


def test_a_request_to_stop_is_heard_between_epochs_of_one_step(build, tmp_path):
    trainer = build(batch_size=16)
    with pytest.raises(Interrupted):
        fit(trainer, tmp_path / "c.pt", stop=lambda: True)
    assert read_checkpoint(tmp_path / "c.pt")["progress"]["epoch"] == 1


def test_best_is_told_only_when_the_validation_rises(build, tmp_path):
    scores = iter([50.0, 40.0, 60.0])
    told = []
    trainer = build()
    rows = fit(trainer, tmp_path / "c.pt", validate=lambda model: {"loss": 1.0, "top1": next(scores)},
               on_best=lambda: told.append(trainer.progress.epoch))  # fmt: skip
    assert told == [0, 2]  # complete epochs at that time: the checkpoint comes after
    assert [row["validation_top1"] for row in rows] == [50, 40, 60]


def test_the_averaged_network_is_the_moving_average_where_there_is_one(build, tmp_path):
    with_ema, without = build(), build(ema=0.0)
    fit(with_ema, tmp_path / "c.pt")
    assert with_ema.averaged is not with_ema.model
    assert not same(with_ema.averaged, with_ema.model)
    assert without.averaged is without.model


def test_mixed_precision_says_what_it_does():
    assert Precision.choose(False, CPU).note == "float32"
    choice = Precision.choose(True, CPU)
    assert choice.dtype is None
    assert "needs a GPU" in choice.note


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lr": 0.5}, r"another recipe: lr \(then 0.05, now 0.5\)"),
        ({"epochs": 4}, "epochs"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(build, tmp_path, change, sentence):
    build().save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=sentence):
        build(**change).load(tmp_path / "c.pt")


def test_a_checkpoint_of_other_clips_or_another_network_is_refused(build, device_clips, stick, tmp_path):
    trainer = build()
    trainer.save(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="other clips than the 8 that are there now"):
        build(relabelled(device_clips, [0, 1] * 4)).load(tmp_path / "c.pt")
    other = build()
    other.model.classifier = nn.Linear(96, 3)
    with pytest.raises(CheckpointError, match="another number of classes"):
        other.load(tmp_path / "c.pt")


def test_a_damaged_or_foreign_checkpoint_is_refused(build, tmp_path):
    (tmp_path / "c.pt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        build().load(tmp_path / "c.pt")
    save_checkpoint(tmp_path / "d.pt", {"progress": {}})
    with pytest.raises(CheckpointError):
        build().load(tmp_path / "d.pt")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        build().load(tmp_path / "absent.pt")
