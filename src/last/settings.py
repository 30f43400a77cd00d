"""What can be set: sections of typed settings, and which of them go together."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from last.setting_values import ConfigError

StepMode = Literal["auto", "eager", "graph"]
KernelMode = Literal["auto", "fused", "plain"]
Structure = Literal["plain", "branched"]

# Of networks, by which the original's commands call them.
ALIASES = {
    "nano_e": "last_e_nano",
    "small_e": "last_e_small",
    "base_e": "last_e_base",
    "large_e": "last_e_large",
    "small": "last_v2_small",
    "base": "last_v2_base",
    "large": "last_v2_large",
}


def full_name(name: str) -> str:
    """The name of a network, which may be an alias and use hyphens, as it is registered if it is."""
    plain = name.replace("-", "_")
    return ALIASES.get(plain, plain)


def is_of_last(name: str) -> bool:
    """Whether a network is one of LAST's, by its full name."""
    return name.startswith("last_")


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and what may vary within it."""

    name: str = "last_e_nano"
    streams: tuple[str, ...] = ("joint", "velocity", "bone")
    bodies: Literal["mean", "first", "padded"] = "mean"
    dropout: float = 0.3
    confidence: bool = False  # a further input channel: how sure the data is of each joint
    share_backbone: bool | None = None  # LAST-v2 alone has this; None leaves it to the network


@dataclass(frozen=True)
class DataConfig:
    """Which clips, and how a clip becomes the input of a network."""

    name: str = "synthetic"
    path: str | None = None  # of the prepared store; None: <data_root>/<name>
    protocol: str = "xsub"
    frames: int = 64
    max_bodies: int = 2
    min_frames: int = 1
    max_spread: float | None = None
    max_implausible: float = 0.69754
    normalise: tuple[str, ...] = ()
    sampling: Literal["resample", "pad"] = "resample"  # pad: frames as they are, cut or followed by zeros
    origin: Literal["first_frame", "each_frame", "stored"] = "first_frame"
    missing: Literal["interpolate", "mask"] = "interpolate"  # what the network sees where a joint was not seen
    test_crops: int = 1
    test_span: float | None = None  # share of a clip in each crop; None: as share_of_crop says


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe: schedule, optimiser, loss and augmentation (degrees, fractions, or metres)."""

    recipe: str = "default"
    seed: int = 42
    epochs: int = 70
    batch_size: int = 16
    accumulate: int = 1
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.01
    warmup_lr: float = 0.001
    min_lr: float = 0.0001
    warmup_epochs: int = 10
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[int, ...] = ()  # epochs after which the learning rate falls, for 'steps'
    step_factor: float = 0.1  # to this share
    momentum: float = 0.9
    weight_decay: float = 0.0004
    decayed: Literal["weights", "all"] = "weights"  # of convolutions and linear layers alone, or every parameter
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.1
    class_weights: Literal["none", "balanced"] = "none"
    ema: float = 0.0
    amp: bool = False
    validation: float = 0.05
    structure: Structure = "plain"  # of LAST-E while it trains; deployed it is plain
    auxiliary: float = 0.0  # weight of a second classifier of LAST-E, dropped when deployed; 0: there is none
    start: str | None = None  # folder of a run, or file of weights, that the training begins with
    teachers: tuple[str, ...] = ()  # folders of runs, or files of weights, that are distilled
    label_weight: float | None = None  # of the labels beside teachers; None: the original's for the network
    temperature: float = 4.0  # of the scores of teachers and student
    feature_weight: float = 0.0  # of the distance to the teachers' features
    crop: tuple[float, float] = (1.0, 1.0)
    jitter: bool = False
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 0.0
    shear: float = 0.0
    noise: float = 0.0
    flip_time: float = 0.0
    flip_sides: float = 0.0
    warp: float = 0.0
    limbs: float = 0.0
    hide_joints: float = 0.0
    hide_limb: float = 0.0
    hide_frames: float = 0.0
    mix: float = 0.0


@dataclass(frozen=True)
class EnvironmentConfig:
    """The machine: paths, workers and the largest batch that it holds at once; nothing else."""

    name: str = "local"
    data_root: str = "data"
    runs_root: str = "runs"
    workers: int = 0  # processes that prepare data; 0: one for each core at hand
    batch_size: int | None = None  # a recipe's larger batch is reached by accumulation
    clips: Literal["auto", "device", "windows"] = "auto"  # all at once on the device, or brought there by windows
    kernels: KernelMode = "auto"  # LAST-E's layers by fused kernels where there are some, always, or never
    step: StepMode = "auto"  # of a training: captured as a CUDA graph where it can be, never, or always


@dataclass(frozen=True)
class Config:
    """All settings of a command.

    Attributes:
        origins: where the value of each ``section.key`` came from.
        described_in: the person's own file that describes the data set, as it was given; None for a packaged one, and
            for settings that were kept, such as a run's.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    described_in: str | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Sections and keys as plain values, ready for JSON or YAML."""
        return {
            section: {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(part).items()}
            for section, part in self.sections().items()
        }

    def sections(self) -> dict[str, Any]:
        """Section name to its dataclass."""
        return {name: getattr(self, name) for name in SECTIONS}

    def store_path(self) -> Path:
        """Where the prepared clips of this configuration lie."""
        path = Path(self.data.path) if self.data.path else Path(self.environment.data_root) / self.data.name
        return path.expanduser()


SECTIONS: dict[str, type[Any]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "training": TrainingConfig,
    "environment": EnvironmentConfig,
}


def share_of_crop(span: float | None, crops: int) -> float:
    """Share of a clip in each of so many test-time crops, where ``data.test_span`` is ``span``."""
    return span or (1.0 if crops == 1 else 0.9)


# Settings that must lie in a range, so that a slip of the keyboard fails before hours of training, not after.
_RANGES: dict[str, tuple[float, float]] = {
    "model.dropout": (0, 0.99),
    "data.frames": (8, 10_000),
    "data.max_bodies": (1, 100),
    "data.min_frames": (1, 1_000_000),
    "data.max_spread": (0.01, 100),
    "data.max_implausible": (0, 1),
    "data.test_crops": (1, 100),
    "data.test_span": (0.01, 1),
    "training.seed": (0, 2**31 - 1),
    "training.epochs": (1, 1_000_000),
    "training.batch_size": (1, 1_000_000),
    "training.accumulate": (1, 1_000_000),
    "training.lr": (1e-8, 100),  # at 0 nothing would be learned
    "training.warmup_lr": (0, 100),
    "training.min_lr": (0, 100),
    "training.warmup_epochs": (0, 1_000_000),
    "training.step_factor": (0.0001, 1),
    "training.momentum": (0, 0.9999),
    "training.weight_decay": (0, 10),
    "training.clip_norm": (1e-12, 1e12),
    "training.label_smoothing": (0, 0.99),
    "training.ema": (0, 0.999999),
    "training.validation": (0, 0.9),
    "training.auxiliary": (0, 10),
    "training.label_weight": (0, 1),
    "training.temperature": (0.1, 100),
    "training.feature_weight": (0, 10_000),
    "training.rotation": (0, 180),
    "training.scale": (0, 0.99),
    "training.shear": (0, 10),
    "training.noise": (0, 10),
    "training.flip_time": (0, 1),
    "training.flip_sides": (0, 1),
    "training.warp": (0, 0.99),
    "training.limbs": (0, 0.99),
    "training.hide_joints": (0, 0.9),
    "training.hide_limb": (0, 1),
    "training.hide_frames": (0, 0.9),
    "training.mix": (0, 1),
    "environment.workers": (0, 10_000),
    "environment.batch_size": (1, 1_000_000),
}


def check(config: Config) -> None:
    """Make sure that each setting lies in its range and that none contradicts another.

    Raises:
        ConfigError: one does.
    """
    for name, (low, high) in _RANGES.items():
        section, key = name.split(".")
        value = getattr(getattr(config, section), key)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(low <= number <= high for number in numbers):
            raise ConfigError(f"{name} in {config.origins[name]} is {value}, expected {low} to {high}")
    low, high = config.training.crop
    if not 0 < low <= high <= 1:
        raise ConfigError(
            f"training.crop in {config.origins['training.crop']} is [{low}, {high}], expected a shortest and a "
            "longest fraction of the clip, 0 < shortest <= longest <= 1"
        )
    data, training = config.data, config.training
    if data.sampling == "pad" and (
        low < 1
        or training.jitter
        or training.warp
        or training.flip_time
        or data.test_crops > 1
        or data.test_span is not None
    ):
        raise ConfigError(
            f"data.sampling in {config.origins['data.sampling']} is pad, which takes frames as they are, but the "
            "recipe crops clips, draws frames at random, changes their speed or plays clips backwards; set "
            "training.crop=[1,1], training.jitter=false, training.warp=0, training.flip_time=0, data.test_crops=1 and "
            "data.test_span=none, or data.sampling=resample"
        )
    if (training.schedule == "steps") != bool(training.milestones):
        raise ConfigError(
            f"training.schedule in {config.origins['training.schedule']} is {training.schedule} with the milestones "
            f"{list(training.milestones)}; 'steps' needs some, and 'cosine' none"
        )
    if any(epoch < 1 for epoch in training.milestones):
        raise ConfigError(
            f"training.milestones in {config.origins['training.milestones']} is {list(training.milestones)}, expected "
            "numbers of epochs from 1"
        )
