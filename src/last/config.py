"""Typed settings: the only reader of YAML.

A configuration file is a mapping of sections (``model``, ``data``, ``training``, ``environment``) to keys.
Files are merged key by key, later wins: model, data, training, environment, then the command line. The file of a data
set also says what it is (``about``), which recipe suits it (``recipe``) and how it is parted (``protocols``); that of a
network of others names its authors' (``recipe``).
"""

import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

_HERE = Path(__file__).resolve().parent
# Inside a wheel the files lie in the package; in a checkout they lie at its root.
CONFIG_DIR = _HERE / "configs" if (_HERE / "configs").is_dir() else _HERE.parents[1] / "configs"

_MAX_YAML = 50_000  # characters; half a second's work
_MAX_BRACKETS = 1000  # PyYAML takes the square of the time over nested ones


StepMode = Literal["auto", "eager", "graph"]
KernelMode = Literal["auto", "fused", "plain"]
Structure = Literal["plain", "branched"]


class ConfigError(ValueError):
    """A setting that does not exist, has the wrong type, or contradicts another."""


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
    """All settings of a command. ``origins`` says of each ``section.key`` where its value came from."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Sections and keys as plain values, ready for JSON or YAML."""
        return {
            section: {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(part).items()}
            for section, part in self.sections().items()
        }

    def sections(self) -> dict[str, Any]:
        """Section name to its dataclass."""
        return {name: getattr(self, name) for name in _SECTIONS}

    def store_path(self) -> Path:
        """Where the prepared clips of this configuration lie."""
        path = Path(self.data.path) if self.data.path else Path(self.environment.data_root) / self.data.name
        return path.expanduser()


_SECTIONS: dict[str, type[Any]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "training": TrainingConfig,
    "environment": EnvironmentConfig,
}


def share_of_crop(span: float | None, crops: int) -> float:
    """Share of a clip in each of so many test-time crops, where ``data.test_span`` is ``span``."""
    return span or (1.0 if crops == 1 else 0.9)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, too long or not YAML, or holds something else than a mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_YAML + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if len(text) > _MAX_YAML or text.count("[") + text.count("{") > _MAX_BRACKETS:
        raise ConfigError(
            f"{path} has more than {_MAX_YAML:,} characters or {_MAX_BRACKETS:,} brackets, expected settings"
        )
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # of dates and numbers that cannot be, PyYAML says so by nearly any exception
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, expected a mapping of keys to values")
    return content


def available(kind: str) -> list[str]:
    """Names of the configuration files of a kind: model, data, training, environment or layout."""
    return sorted(path.stem for path in (CONFIG_DIR / kind).glob("*.yaml"))


def is_file(name: str) -> bool:
    """Whether a configuration is given by a file of the user's own."""
    return name.endswith((".yaml", ".yml"))


def find(kind: str, name: str) -> Path:
    """The file of a packaged configuration, or the user's own file where ``name`` is a path to one.

    Raises:
        ConfigError: there is neither.
    """
    if is_file(name):
        return Path(name)
    path = CONFIG_DIR / kind / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"no {kind} configuration '{name}'{_nearest(name, available(kind))}; there are: "
            f"{', '.join(available(kind))}; a path to a .yaml file works too"
        )
    return path


def detect_environment() -> str:
    """``kaggle`` where /kaggle exists, else ``local``."""
    return "kaggle" if Path("/kaggle").is_dir() else "local"


def recipe_of(kind: Literal["model", "data"], name: str) -> str | None:
    """The recipe that the file of a data set, or of a network of others, names; None where it names none.

    Raises:
        ConfigError: there is no such file, or it names something else than a recipe.
    """
    path = find(kind, name)
    recipe = read_yaml(path).get("recipe")
    if recipe is not None and not isinstance(recipe, str):
        raise ConfigError(f"recipe in {path} is {recipe!r}, expected the name of a recipe")
    return recipe


def load_config(
    model: str = "last_e_nano",
    dataset: str = "synthetic",
    recipe: str | None = None,
    environment: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Merge the files of a model, a data set, a recipe and an environment, then the overrides.

    Streams that a recipe names are for LAST; a network of others, whose file names its authors' recipe, keeps its own.

    Args:
        model: configuration of the network (``last_e_nano``) or a path.
        dataset: configuration of the data set or a path; its ``recipe`` key names the recipe that suits it.
        recipe: configuration of the training; None takes the one that the data set's file names.
        environment: None detects it.
        overrides: ``section.key`` to value, as given on the command line.

    Raises:
        ConfigError: an unknown file or key, or a value of the wrong type; names file, key and nearest valid key.
    """
    model_file, data_file = find("model", model), find("data", dataset)
    recipe_file = find("training", recipe or recipe_of("data", dataset) or "default")
    files = [model_file, data_file, recipe_file, find("environment", environment or detect_environment())]
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    origins: dict[str, str] = {}
    beside = {data_file: {"about", "recipe", "protocols"}, model_file: {"recipe"}}
    of_others = recipe_of("model", model) is not None
    for path in files:
        source = path.relative_to(CONFIG_DIR.parent).as_posix() if path.is_relative_to(CONFIG_DIR) else str(path)
        for section, keys in read_yaml(path).items():
            if section in beside.get(path, ()):
                continue
            if path == recipe_file and section == "model" and of_others and isinstance(keys, dict):
                keys = {key: value for key, value in keys.items() if key != "streams"}
            _merge(values, origins, section, keys, source)
    _override(values, origins, overrides or {})
    return _build(values, origins)


def from_dict(values: Mapping[str, Any], source: str) -> Config:
    """Build a configuration from plain sections, as ``Config.to_dict`` gives them.

    Args:
        values: section to keys.
        source: where they came from, for errors and ``Config.origins``.

    Raises:
        ConfigError: an unknown section or key, or a value of the wrong type.
    """
    known: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    origins: dict[str, str] = {}
    for section, keys in values.items():
        _merge(known, origins, section, keys, source)
    return _build(known, origins)


def with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """A configuration with some settings changed, by ``section.key``, as given on the command line.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    values = {name: dict(vars(part)) for name, part in config.sections().items()}
    origins = dict(config.origins)
    _override(values, origins, overrides)
    return _build(values, origins)


def _override(values: dict[str, dict[str, Any]], origins: dict[str, str], overrides: Mapping[str, Any]) -> None:
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        _merge(values, origins, section, {key: value}, "command line")


def _build(values: Mapping[str, dict[str, Any]], origins: dict[str, str]) -> Config:
    for section, cls in _SECTIONS.items():
        for f in dataclasses.fields(cls):
            origins.setdefault(f"{section}.{f.name}", "built-in default")
    config = Config(**{section: cls(**values[section]) for section, cls in _SECTIONS.items()}, origins=origins)
    _check(config)
    return config


def _merge(values: dict[str, dict[str, Any]], origins: dict[str, str], section: str, keys: Any, source: str) -> None:
    if section not in _SECTIONS:
        raise ConfigError(
            f"unknown section '{section}' in {source}{_nearest(str(section), _SECTIONS)}; "
            f"sections: {', '.join(_SECTIONS)}"
        )
    if not isinstance(keys, Mapping):
        raise ConfigError(f"section '{section}' in {source} holds {keys!r}, expected keys with values")
    hints = typing.get_type_hints(_SECTIONS[section])
    for key, value in keys.items():
        if key not in hints:
            raise ConfigError(
                f"unknown key '{section}.{key}' in {source}{_nearest(str(key), hints)}; "
                f"keys of {section}: {', '.join(hints)}"
            )
        values[section][key] = _convert(value, hints[key], f"{section}.{key}", source)
        origins[f"{section}.{key}"] = source


def _convert(value: Any, hint: Any, key: str, source: str) -> Any:
    """Give ``value`` the type of ``hint``; text from a command line and YAML's '1e-3' become numbers."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    wrong = ConfigError(f"{key} in {source} is {value!r}, expected {_describe(hint)}")
    if origin in (types.UnionType, typing.Union):
        if value is None or (isinstance(value, str) and value.lower() in {"none", "null"}):
            return None
        try:
            return _convert(value, next(a for a in args if a is not type(None)), key, source)
        except ConfigError:
            raise wrong from None
    if origin is Literal:
        if value not in args:
            raise wrong
        return value
    if origin is tuple:
        items = _listed(value) if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise wrong
        if args[-1] is Ellipsis:
            args = (args[0],) * len(items)
        if len(items) != len(args):
            raise wrong
        return tuple(_convert(item, arg, key, source) for item, arg in zip(items, args, strict=True))
    if hint is bool:
        if isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise wrong
        return value
    if hint is str:
        if not isinstance(value, (str, os.PathLike)):
            raise wrong
        return os.fspath(value)
    if isinstance(value, bool):
        raise wrong
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise wrong from None
    if not math.isfinite(number) or (hint is int and not number.is_integer()):
        raise wrong
    return int(number) if hint is int else number


def _listed(text: str) -> Any:
    """The list that ``a, b`` or ``[a, b]`` stands for, or None."""
    try:
        return yaml.safe_load(text if text.startswith("[") else f"[{text}]")
    except yaml.YAMLError:
        return None


def _describe(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (types.UnionType, typing.Union):
        return " or ".join("none" if a is type(None) else _describe(a) for a in args)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"a list of {_describe(args[0])} values"
        return f"a list of {len(args)} values ({', '.join(map(_describe, args))})"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]


def _nearest(name: str, valid: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


# Settings that must lie in a range, so that a slip of the keyboard fails before hours of training, not after.
_RANGES: dict[str, tuple[float, float]] = {
    "model.dropout": (0, 0.99),
    "data.frames": (8, 10_000),
    "data.max_bodies": (1, 100),
    "data.test_crops": (1, 100),
    "data.test_span": (0.01, 1),
    "training.seed": (0, 2**31 - 1),
    "training.epochs": (1, 1_000_000),
    "training.batch_size": (1, 1_000_000),
    "training.accumulate": (1, 1_000_000),
    "training.lr": (0, 100),
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


def _check(config: Config) -> None:
    for name, (low, high) in _RANGES.items():
        section, key = name.split(".")
        value = getattr(getattr(config, section), key)
        if value is not None and not low <= value <= high:
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
