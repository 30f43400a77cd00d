"""Settings from files and command lines: the only reader of YAML.

A configuration file is a mapping of sections (``model``, ``data``, ``training``, ``environment``) to keys.
Files are merged key by key, later wins: model, data, training, environment, then the command line. The file of a data
set also says what it is (``about``), which recipe suits it (``recipe``) and how it is parted (``protocols``); that of a
network of others names its authors' (``recipe``). That of a recipe may hold settings of the network for LAST's alone
(``model_of_last``).
"""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from last.setting_values import ConfigError, convert, nearest, parse_yaml
from last.settings import SECTIONS, Config, check, full_name, is_of_last

_HERE = Path(__file__).resolve().parent
# Inside a wheel the files lie in the package; in a checkout they lie at its root.
CONFIG_DIR = _HERE / "configs" if (_HERE / "configs").is_dir() else _HERE.parents[1] / "configs"

OF_LAST = "model_of_last"  # a section of a recipe

_MAX_YAML = 50_000  # characters; half a second's work
_MAX_BRACKETS = 1000  # PyYAML takes the square of the time over nested ones


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, too long or not YAML, has aliases, or holds something else than a mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_YAML + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}{_beside(path) or '; check its name and its folder'}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read {path}: {reason}; expected settings as text in UTF-8") from error
    if len(text) > _MAX_YAML or text.count("[") + text.count("{") > _MAX_BRACKETS:
        raise ConfigError(
            f"{path} has more than {_MAX_YAML:,} characters or {_MAX_BRACKETS:,} brackets, expected settings"
        )
    try:
        content = parse_yaml(text)
    except Exception as error:
        raise ConfigError(f"cannot read {path} as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, expected a mapping of keys to values")
    return content


def _beside(path: Path) -> str:
    """A question after the file of the same folder that was perhaps meant, or nothing."""
    # By their stems, since endings alone make short names alike.
    files = {file.stem: file.name for file in sorted(path.parent.glob("*")) if is_file(file.name)}
    close = difflib.get_close_matches(path.stem, files, n=1)
    return f" (did you mean '{files[close[0]]}'?)" if close else ""


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
            f"no {kind} configuration '{name}'{_own(kind, name) or nearest(name, available(kind))}; there are: "
            f"{', '.join(available(kind))}; a path to a .yaml file works too"
        )
    return path


def _own(kind: str, name: str) -> str:
    """What a user meant who gave the name of files of their own; nothing where there are none."""
    path = Path(name)
    plain = _plain(path.name)
    namesakes = [file for file in path.parent.glob("*") if plain in {_plain(file.name), _plain(file.stem)}]
    described = [file for file in (*namesakes, Path(f"{path.name}.yaml")) if is_file(file.name) and file.is_file()]
    if described:
        return f" (did you mean '{min(described)}'?)"
    if kind != "data" or path.name in available(kind) or not namesakes:
        return ""
    found = min(namesakes)
    if (found / "meta.json").is_file():
        return f" ({found} is a prepared store, which --data takes; give here the .yaml file that describes its set)"
    return f" (to train on {found}, describe its clips with 'last data new {found} --name NAME', and give NAME.yaml)"


def _plain(name: str) -> str:
    return name.replace("-", "_")


def own_name(key: str, name: str) -> str:
    """The name that a run has under ``key`` when ``name`` was chosen, which may be a path to the user's own file.

    Raises:
        ConfigError: there is no such file, or it is wrong.
    """
    if not is_file(name):
        return name
    section, _, entry = key.partition(".")
    keys = read_yaml(Path(name)).get(section)
    built_in = getattr(Config().sections()[section], entry)
    return str(keys.get(entry, built_in)) if isinstance(keys, Mapping) else built_in


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
    sources: Mapping[str, str] | None = None,
) -> Config:
    """Merge the files of a model, a data set, a recipe and an environment, then the overrides.

    Args:
        model: configuration of the network (``last_e_nano``), its alias, or a path; ``model.name`` among the overrides
            goes before a name, and changes the name alone in what a path says.
        dataset: configuration of the data set or a path; its ``recipe`` key names the recipe that suits it.
        recipe: configuration of the training; None takes the one that the data set's file names.
        environment: None detects it.
        overrides: ``section.key`` to value, as given on the command line.
        sources: where overrides were given that were not on the command line, for errors and ``Config.origins``.

    Raises:
        ConfigError: an unknown file or key, or a value of the wrong type; names file, key and nearest valid key.
    """
    given = dict(overrides or {})
    chosen = full_name(str(given.get("model.name", model)))
    if not is_file(model) and chosen in available("model"):
        model = chosen  # a network comes with its own settings, whichever way it is named
    model_file, data_file = find("model", model), find("data", dataset)
    recipe_file = find("training", recipe or recipe_of("data", dataset) or "default")
    files = [model_file, data_file, recipe_file, find("environment", environment or detect_environment())]
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    origins: dict[str, str] = {}
    beside = {data_file: {"about", "recipe", "protocols"}, model_file: {"recipe"}}
    for path in files:
        file = path.relative_to(CONFIG_DIR.parent).as_posix() if path.is_relative_to(CONFIG_DIR) else str(path)
        for section, keys in read_yaml(path).items():
            if section in beside.get(path, ()):
                continue
            if section != OF_LAST or path != recipe_file:
                _merge(values, origins, section, keys, file)
                continue
            name = full_name(str(given.get("model.name") or values["model"].get("name", Config().model.name)))
            if is_of_last(name):
                _merge(values, origins, "model", keys, file)
            else:
                _merge({"model": {}}, {}, "model", keys, file)  # for its errors
    if is_file(dataset) and "name" not in values["data"]:
        _merge(values, origins, "data", {"name": data_file.stem}, str(data_file))
    if values["model"].get("name") == chosen:
        given.pop("model.name", None)  # its origin is the file, as where the network is named by itself
    _override(values, origins, given, sources or {})
    return _build(values, origins, dataset if is_file(dataset) else None)


def from_dict(values: Mapping[str, Any], source: str) -> Config:
    """Build a configuration from plain sections, as ``Config.to_dict`` gives them.

    Args:
        values: section to keys.
        source: where they came from, for errors and ``Config.origins``.

    Raises:
        ConfigError: an unknown section or key, or a value of the wrong type.
    """
    known: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
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
    _override(values, origins, overrides, {})
    return _build(values, origins, config.described_in)


def _override(
    values: dict[str, dict[str, Any]],
    origins: dict[str, str],
    overrides: Mapping[str, Any],
    sources: Mapping[str, str],
) -> None:
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        _merge(values, origins, section, {key: value}, sources.get(name, "command line"))


def _build(values: Mapping[str, dict[str, Any]], origins: dict[str, str], described_in: str | None = None) -> Config:
    for section, cls in SECTIONS.items():
        for f in dataclasses.fields(cls):
            origins.setdefault(f"{section}.{f.name}", "built-in default")
    sections = {section: cls(**values[section]) for section, cls in SECTIONS.items()}
    config = Config(**sections, origins=origins, described_in=described_in)
    check(config)
    return config


def _merge(values: dict[str, dict[str, Any]], origins: dict[str, str], section: str, keys: Any, source: str) -> None:
    if section not in SECTIONS:
        raise ConfigError(
            f"unknown section '{section}' in {source}{nearest(str(section), SECTIONS)}; sections: {', '.join(SECTIONS)}"
        )
    if not isinstance(keys, Mapping):
        raise ConfigError(f"section '{section}' in {source} holds {keys!r}, expected keys with values")
    hints = typing.get_type_hints(SECTIONS[section])
    for key, value in keys.items():
        if key not in hints:
            raise ConfigError(
                f"unknown key '{section}.{key}' in {source}{nearest(str(key), hints)}; "
                f"keys of {section}: {', '.join(hints)}"
            )
        value = convert(value, hints[key], f"{section}.{key}", source)
        values[section][key] = full_name(value) if (section, key) == ("model", "name") else value
        origins[f"{section}.{key}"] = source
