"""Every setting reaches what it is named after: none is read from a file and then forgotten."""

import dataclasses

import numpy as np
import pytest
import torch

from last.config import with_overrides
from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.feed import Resident
from last.data.protocols import validation_split
from last.recognizer import build_model
from last.settings import Config, DataConfig, EnvironmentConfig, ModelConfig, TrainingConfig
from last.training.loop import Trainer
from last.training.precision import Precision

BASE = Config(
    data=DataConfig(frames=8, normalise=(), max_bodies=2),
    training=TrainingConfig(
        epochs=4,
        batch_size=4,
        warmup_epochs=1,
        ema=0.5,
        validation=0.0,
        clip_norm=0.5,
        jitter=False,
        crop=(1.0, 1.0),
    ),
)

# A value unlike the base's for each setting that changes the weights of a short training.
TRAINED = {
    "model.name": "last_e_small", "model.streams": ["joint", "bone"], "model.bodies": "first", "model.dropout": 0.6,
    "model.confidence": True, "data.missing": "mask",
    "data.frames": 12, "data.max_bodies": 1, "data.normalise": ["torso"], "data.origin": "each_frame",
    "data.sampling": "pad",
    "training.seed": 1, "training.epochs": 3, "training.batch_size": 8, "training.accumulate": 2, "training.lr": 0.5,
    "training.warmup_lr": 0.005, "training.min_lr": 0.005, "training.warmup_epochs": 2, "training.momentum": 0.5,
    "training.weight_decay": 0.1, "training.decayed": "all",
    "training.structure": "branched", "training.auxiliary": 0.5,
    "training.optimizer": "adam", "training.clip_norm": 0.01, "training.label_smoothing": 0.4,
    "training.class_weights": "balanced", "training.ema": 0.1, "training.crop": [0.2, 0.3], "training.jitter": True,
    "training.rotation": [40, 0, 0], "training.scale": 0.5, "training.shear": 0.5, "training.noise": 0.5,
    "training.flip_time": 1.0, "training.flip_sides": 1.0, "training.warp": 0.9, "training.limbs": 0.5,
    "training.hide_joints": 0.5, "training.hide_limb": 1.0, "training.hide_frames": 0.9, "training.mix": 1.0,
    "environment.batch_size": 2,
}  # fmt: skip
# Settings that show elsewhere, each by the test named here.
ELSEWHERE = {
    "model.share_backbone": "test_the_backbone_is_shared_or_not",
    "training.amp": "test_mixed_precision_is_asked_for",
    "training.validation": "test_the_validation_part_grows",
    "data.test_crops": "tests/test_workflow.py",
    "data.test_span": "tests/data/test_batches.py",
    "training.schedule": "tests/training/test_optim.py",
    "training.milestones": "tests/training/test_optim.py",
    "training.start": "tests/test_start.py",
    "training.teachers": "tests/test_teachers.py",
    "training.label_weight": "tests/test_teachers.py",
    "training.temperature": "tests/training/test_distill.py",
    "training.feature_weight": "tests/training/test_distill.py",
    "training.step_factor": "tests/training/test_optim.py",
    "data.min_frames": "tests/data/test_clean.py",
    "data.max_spread": "tests/data/test_clean.py",
    "data.max_implausible": "tests/data/test_clean.py",
    "data.name": "tests/test_workflow.py",
    "data.path": "tests/test_workflow.py",
    "data.protocol": "tests/test_workflow.py",
    "environment.data_root": "tests/test_workflow.py",
    "environment.runs_root": "tests/test_workflow.py",
    "environment.clips": "tests/data/test_feed.py",
    "environment.kernels": "tests/kernels/test_cpu_kernels.py",
    "environment.step": "tests/training/test_captured.py",
    "environment.workers": "tests/data/test_prepare.py",
    "environment.name": "a name",
    "training.recipe": "a name",
}


def test_no_setting_is_left_out():
    parts = {"model": ModelConfig, "data": DataConfig, "training": TrainingConfig, "environment": EnvironmentConfig}
    every = {f"{section}.{f.name}" for section, part in parts.items() for f in dataclasses.fields(part)}
    assert every == set(TRAINED) | set(ELSEWHERE)


def trained(config, layout, clips, tmp_path):
    pipeline = Pipeline.from_config(config.data, config.model, layout, Augmentation.from_config(config.training))
    torch.manual_seed(config.training.seed)
    model = build_model(config, 2, layout, training=True)
    trainer = Trainer(model, pipeline, Resident(clips), config.training, config.environment.batch_size)
    trainer.fit(tmp_path / "c.pt", lambda row: None)
    return torch.cat([value.flatten().float() for value in trainer.averaged.deploy().state_dict().values()])


@pytest.fixture(scope="module")
def clips(stick):
    from tiny_clips import make_clips

    labels = torch.tensor([0, 0, 1, 0] * 2)
    made = make_clips(stick, 8, bodies=2)
    missing = np.ones(made[0].joints.shape[:3], np.float32)
    missing[:, :, 3] = np.nan
    made[0] = dataclasses.replace(made[0], confidence=missing)
    return DeviceClips(**(vars(DeviceClips.from_clips(made, "cpu")) | {"labels": labels}))


@pytest.fixture(scope="module")
def reference(stick, clips, tmp_path_factory):
    return trained(BASE, stick, clips, tmp_path_factory.mktemp("reference"))


def test_the_same_settings_give_the_same_weights(stick, clips, reference, tmp_path):
    assert torch.equal(trained(BASE, stick, clips, tmp_path), reference)


@pytest.mark.parametrize("key", TRAINED)
def test_the_setting_changes_the_weights(key, stick, clips, reference, tmp_path):
    weights = trained(with_overrides(BASE, {key: TRAINED[key]}), stick, clips, tmp_path)
    assert weights.shape != reference.shape or not torch.equal(weights, reference)


def test_the_backbone_is_shared_or_not(stick):
    shared, apart = (
        build_model(Config(ModelConfig("last_v2_small", share_backbone=share)), 2, stick) for share in (True, False)
    )
    assert len(list(apart.parameters())) > len(list(shared.parameters()))


def test_mixed_precision_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert Precision.choose(True, torch.device("cuda")).dtype is torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert Precision.choose(True, torch.device("cuda")).dtype is torch.bfloat16
    assert Precision.choose(False, torch.device("cuda")).dtype is None


def test_the_validation_part_grows():
    table = np.zeros(20, dtype=[("subject", "i4"), ("label", "i4")])
    table["label"] = np.arange(20) % 2
    sizes = [len(validation_split(table, np.arange(20), f, np.random.default_rng(0))[1]) for f in (0.0, 0.2, 0.5)]
    assert sizes == [0, 4, 10]
