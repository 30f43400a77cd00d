"""Trained networks that teach another: opened, held against it, and told of in its record."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from last.lineage import record_of, seen_tests
from last.recognizer import Recognizer
from last.setting_values import ConfigError
from last.settings import Config
from last.skeleton import Layout, unlike
from last.training.distill import LABEL_WEIGHTS, Distillation

# Student and teachers see the same joints, so what joints become before the streams must be the same for all.
_SHARED = (
    "data.frames",
    "data.max_bodies",
    "data.normalise",
    "data.origin",
    "data.sampling",
    "data.missing",
    "model.confidence",
)


@dataclass(frozen=True)
class Teacher:
    """A trained network, and what a run says of it.

    Attributes:
        recognizer: the network and its pipeline.
        record: as :func:`last.lineage.record_of` gives it.
    """

    recognizer: Recognizer
    record: dict[str, Any]


def open_teachers(config: Config, classes: Sequence[str], layout: Layout, device: torch.device) -> list[Teacher]:
    """The teachers of a configuration, on fused kernels where they have some.

    Args:
        config: the student's.
        classes: the student's, in order.
        layout: the student's.
        device: where they are to answer.

    Raises:
        CheckpointError: one has no weights, or damaged ones.
        ConfigError: one takes other clips than the student, or names other classes.
        RunError: the result beside its weights is damaged.
    """
    kernels = "plain" if config.environment.kernels == "plain" else "auto"  # a teacher need not have any
    teachers = []
    for path in map(Path, config.training.teachers):
        recognizer = Recognizer(path, device, kernels)
        _require_same_clips(path, recognizer, config, classes, layout)
        teachers.append(Teacher(recognizer, record_of(path, recognizer)))
    return teachers


def distillation(config: Config, student: nn.Module, teachers: Sequence[Teacher]) -> Distillation | None:
    """The loss on the teachers by the settings of a configuration; None where there are none."""
    if not teachers:
        return None
    recipe, weight = config.training, config.training.label_weight
    if weight is None:
        weight = LABEL_WEIGHTS.get(config.model.name, 0.5)
    networks = [teacher.recognizer.model for teacher in teachers]
    return Distillation(student, networks, weight, recipe.temperature, recipe.feature_weight)


def _require_same_clips(
    path: Path, recognizer: Recognizer, config: Config, classes: Sequence[str], layout: Layout
) -> None:
    # What no setting mends comes first.
    if recognizer.layout != layout:
        raise ConfigError(
            f"the teacher {path} takes layout '{recognizer.layout.name}' ({len(recognizer.layout.joints)} joints), and "
            f"the student's clips have layout '{layout.name}' ({len(layout.joints)} joints); "
            f"{recognizer.layout.difference(layout)}; train a teacher on them"
        )
    if recognizer.classes != tuple(classes):
        raise ConfigError(
            f"the teacher {path} names {len(recognizer.classes)} classes, and the student's clips have {len(classes)}, "
            f"expected the same in the same order{unlike(recognizer.layout, recognizer.classes, layout, classes)}; "
            "train a teacher on them"
        )
    own, other = _shared_settings(config), _shared_settings(recognizer.config)
    differences = [f"{key} {other[key]}, the student's {value}" for key, value in own.items() if other[key] != value]
    if seen := seen_tests(recognizer, config):
        differences.append(f"it {seen}")
    if differences:
        raise ConfigError(
            f"the teacher {path} was trained on other clips than the student is to be: {'; '.join(differences)}; give "
            "the student these settings, or train a teacher with the student's"
        )


def _shared_settings(config: Config) -> dict[str, Any]:
    sections = config.to_dict()
    values = {key: sections[key.partition(".")[0]][key.partition(".")[2]] for key in _SHARED}
    # Where absent bodies are given as zeros, a clip has other tensors than where they are left out.
    return values | {"model.bodies": "padded" if config.model.bodies == "padded" else "not padded"}
