"""What a student learns from teachers: the loss by hand, the same clips for all, and an exact resume."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import last
from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.feed import Resident
from last.progress import Interrupted
from last.settings import TrainingConfig
from last.streams import KNOWN
from last.training.captured import CapturedStep
from last.training.checkpoint import CheckpointError, read_checkpoint, save_checkpoint
from last.training.distill import Distillation, divergence, soften
from last.training.loop import Trainer
from tiny_clips import make_clips

RECIPE = TrainingConfig(
    epochs=2, batch_size=4, lr=0.05, warmup_epochs=1, ema=0.9, seed=3, validation=0.0, label_smoothing=0.0,
    rotation=(20.0, 20.0, 20.0), noise=0.01, crop=(0.5, 1.0),
)  # fmt: skip
STILL = replace(RECIPE, rotation=(0.0, 0.0, 0.0), noise=0.0, crop=(1.0, 1.0))
KL = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # of 3/4, 1/4 from a half each


class Constant(nn.Module):
    """Scores that its bias alone decides, from features that are all alike; remembers what it was shown."""

    def __init__(self, scores, feature=1.0, features=2):
        super().__init__()
        self.feature = feature
        self.classifier = nn.Linear(features, len(scores))
        nn.init.zeros_(self.classifier.weight)
        self.classifier.bias.data.copy_(torch.tensor(scores))
        self.shown = []

    def forward(self, streams, mask):
        self.shown.append(streams)
        return self.classifier(torch.full((len(streams["joint"]), self.classifier.in_features), self.feature))


def network(layout, name="last_e_nano", seed=0, **settings):
    torch.manual_seed(seed)
    return last.create_model(name, 2, layout, **settings)


def make_trainer(layout, clips, config=RECIPE, feature_weight=0.0, student=None, teachers=None, step="auto"):
    """A training under one teacher, or those given, that shows all streams."""
    device = clips.rows.device
    student = (student or network(layout, seed=config.seed)).to(device)
    teachers = teachers or [network(layout, seed=9).to(device)]
    pipeline = Pipeline(layout, frames=8, streams=KNOWN, augmentation=Augmentation.from_config(config))
    distillation = Distillation(student, teachers, 0.7, 4.0, feature_weight)
    return Trainer(student, pipeline, Resident(clips), config, step=step, distillation=distillation)


def fit(trainer, folder):
    torch.manual_seed(3)  # dropout, whoever drew before
    trainer.fit(folder / "c.pt", lambda row: None)


def weights(trainer):
    return torch.cat([value.flatten().float() for value in trainer.unit.average.module.state_dict().values()])


def test_the_divergence_is_that_of_softened_scores_times_the_square_of_the_temperature():
    probabilities = soften([torch.tensor([[2 * math.log(3), 0.0]])], 2.0)
    torch.testing.assert_close(probabilities, torch.tensor([[0.75, 0.25]]))
    scores = torch.zeros(1, 2, requires_grad=True)
    loss = divergence(scores, probabilities, 2.0)
    assert loss.item() == pytest.approx(4 * KL)
    (gradient,) = torch.autograd.grad(loss, scores)
    torch.testing.assert_close(gradient, torch.tensor([[-0.5, 0.5]]))  # tau (q - p)


def test_several_teachers_have_the_same_say():
    sure, unsure = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    torch.testing.assert_close(soften([sure, unsure], 2.0), torch.tensor([[5 / 8, 3 / 8]]))
    scores = torch.tensor([[0.3, -0.2]], requires_grad=True)
    apart = (divergence(scores, soften([sure], 2.0), 2.0) + divergence(scores, soften([unsure], 2.0), 2.0)) / 2
    together = divergence(scores, soften([sure, unsure], 2.0), 2.0)
    gradients = [torch.autograd.grad(loss, scores)[0] for loss in (apart, together)]
    torch.testing.assert_close(*gradients)


def test_labels_teachers_and_features_add_up_over_parts_of_a_batch(stick, device_clips):
    student, teacher = Constant([0.0, 0.0]), Constant([4 * math.log(3), 0.0], feature=2.0, features=3)
    trainer = make_trainer(stick, device_clips, RECIPE, 0.5, student, [teacher])
    trainer.unit.micro_batch = 3
    nn.init.zeros_(trainer.unit.distillation.map.weight)
    nn.init.constant_(trainer.unit.distillation.map.bias, -1.0)
    trainer.step(device_clips, torch.arange(4))
    (loss,), _ = trainer.unit.read(0, 1)
    # The map tells the features to be -1 where the teacher's are 2.
    assert loss == pytest.approx(0.7 * math.log(2) + 0.3 * 16 * KL + 0.5 * 3**2, rel=1e-5)


def test_only_the_student_and_the_map_learn(stick, device_clips):
    teacher = network(stick, "last_e_small")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    trainer = make_trainer(stick, device_clips, RECIPE, 1.0, teachers=[teacher])
    trainer.model.train()
    mapped = trainer.unit.distillation.map.weight.detach().clone()
    trainer.step(device_clips, torch.arange(4))
    assert not teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is not None for parameter in trainer.model.parameters())
    assert not torch.equal(trainer.unit.distillation.map.weight, mapped)
    assert not any("map" in name for name in trainer.averaged.state_dict())


def test_student_and_teachers_see_the_same_augmented_clips(stick, device_clips):
    networks = [Constant([0.0, 0.0]) for _ in range(3)]
    trainer = make_trainer(stick, device_clips, student=networks[0], teachers=networks[1:])
    for _ in range(2):
        trainer.step(device_clips, torch.arange(4))
    first, second = networks[0].shown
    assert not torch.equal(first["joint"], second["joint"])
    assert set(first) == set(KNOWN)
    for other in networks[1:]:
        assert all(torch.equal(first[name], other.shown[0][name]) for name in KNOWN)
        assert all(torch.equal(second[name], other.shown[1][name]) for name in KNOWN)


def test_remembered_teachers_teach_as_those_that_are_asked(stick, device_clips, tmp_path):
    trainers = [make_trainer(stick, device_clips, STILL, 1.0) for _ in range(2)]
    assert trainers[0].unit.distillation.remembered.shape == (16, 2 + 96)
    assert trainers[0].unit.distillation.asked == ()
    trainers[1].unit.distillation.remembered = None
    assert len(trainers[1].unit.distillation.asked) == 1
    for trainer in trainers:
        fit(trainer, tmp_path)
    torch.testing.assert_close(weights(trainers[0]), weights(trainers[1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("change", [{"noise": 0.01}, {"crop": (0.5, 0.5)}, {"jitter": True}, {"flip_sides": 0.5}])
def test_teachers_are_asked_at_each_step_where_anything_is_drawn(stick, device_clips, change):
    assert make_trainer(stick, device_clips, replace(STILL, **change)).unit.distillation.remembered is None


@pytest.mark.parametrize("config", [RECIPE, STILL])
def test_a_resumed_run_equals_an_uninterrupted_one(stick, device_clips, tmp_path, config):
    whole = make_trainer(stick, device_clips, config, 1.0)
    whole.fit(tmp_path / "whole.pt", lambda row: None)
    done = []
    with pytest.raises(Interrupted):
        make_trainer(stick, device_clips, config, 1.0).fit(
            tmp_path / "c.pt", lambda row: None, done.append, stop=lambda: done[-1] >= 6
        )
    resumed = make_trainer(stick, device_clips, config, 1.0)
    nn.init.zeros_(resumed.unit.distillation.map.weight)
    resumed.load(tmp_path / "c.pt")
    resumed.fit(tmp_path / "c.pt", lambda row: None)
    assert torch.equal(weights(whole), weights(resumed))
    assert torch.equal(whole.unit.distillation.map.weight, resumed.unit.distillation.map.weight)


def test_stepping_from_static_buffers_changes_nothing(stick, device_clips, tmp_path):
    plain, captured = (make_trainer(stick, device_clips, RECIPE, 1.0) for _ in range(2))
    captured._captured = CapturedStep(captured.unit, 4, lambda work, generator: work)
    for trainer in (plain, captured):
        fit(trainer, tmp_path)
    assert torch.equal(weights(plain), weights(captured))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("config", [RECIPE, STILL])
def test_on_a_gpu_a_captured_step_with_a_teacher_equals_an_eager_one(stick, tmp_path, config):
    learned = []
    for mode in ("eager", "graph"):
        clips = DeviceClips.from_clips(make_clips(stick), "cuda:0")
        trainer = make_trainer(stick, clips, config, 1.0, step=mode)
        trainer.fit(tmp_path / "c.pt", lambda row: None)
        assert (trainer.note == "each step is one CUDA graph") == (mode == "graph")
        learned.append(weights(trainer))
    torch.testing.assert_close(*learned, atol=1e-3, rtol=1e-3)


def test_temperature_and_feature_weight_change_what_is_learned(stick, device_clips):
    learned = []
    for temperature, feature_weight in ((4.0, 0.0), (1.0, 0.0), (4.0, 1.0)):
        trainer = make_trainer(stick, device_clips, STILL, feature_weight)
        trainer.unit.distillation.temperature = temperature
        trainer.step(device_clips, torch.arange(4))
        learned.append(weights(trainer))
    assert not torch.equal(learned[0], learned[1])
    assert not torch.equal(learned[0], learned[2])


@pytest.mark.parametrize(
    "name", ["last_e_nano", "last_v2_small", "efficientgcn_b0", "stgcnpp", "ctrgcn", "sgn", "ddnet_small"]
)
def test_features_of_every_family_come_with_its_own_scores(name):
    teacher = last.create_model(name, 5, "ntu", **({"frames": 16} if name == "sgn" else {})).eval()
    distillation = Distillation(network("ntu"), [teacher], 0.5, 1.0, feature_weight=1.0)
    generator = torch.Generator().manual_seed(0)
    streams = {key: torch.randn(2, 3, 16, 25, 2, generator=generator) for key in KNOWN}
    mask = torch.tensor([[True, True], [True, False]])
    said = distillation._ask(streams, mask)
    with torch.no_grad():
        torch.testing.assert_close(said[:, :5], teacher(streams, mask).softmax(1))
    assert said.shape == (2, 5 + distillation.map.out_features)
    assert not any(layer._forward_hooks for layer in teacher.modules())


def test_features_of_last_v2_are_summed_over_streams_and_averaged_over_bodies(stick):
    teacher = network(stick, "last_v2_small").eval()
    distillation = Distillation(network(stick), [teacher], 0.5, 1.0, feature_weight=1.0)
    streams = {key: torch.randn(2, 3, 8, 5, 2, generator=torch.Generator().manual_seed(0)) for key in KNOWN}
    mask = torch.tensor([[True, True], [True, False]])
    features = distillation._ask(streams, mask)[:, 2:]
    classifier = teacher.backbones[0].classifier
    with torch.no_grad():
        torch.testing.assert_close(features @ classifier.weight.T + 3 * classifier.bias, teacher(streams, mask))


def test_a_checkpoint_without_teachers_is_no_start_for_a_training_with_them(stick, device_clips, tmp_path):
    trainer = make_trainer(stick, device_clips, RECIPE, 1.0)
    trainer.save(tmp_path / "c.pt")
    state = read_checkpoint(tmp_path / "c.pt")
    save_checkpoint(tmp_path / "c.pt", state | {"distillation": None})
    with pytest.raises(CheckpointError, match="does not fit this network or version"):
        trainer.load(tmp_path / "c.pt")
