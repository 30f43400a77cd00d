"""What LAST knows of a data set: its format, layout, classes, protocols, and how to get it."""

import logging
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from last.config import CONFIG_DIR, available, find, is_file, read_yaml
from last.data import synthetic
from last.data.clean import CleanOptions
from last.data.formats import FORMATS, Format, Reading
from last.data.own_rules import require_rules
from last.data.prepare import Engine, PrepareReport, prepare
from last.data.protocols import protocols_of
from last.data.store import ClipStore
from last.data.store_writer import JointDtype
from last.setting_values import ConfigError
from last.settings import Config, DataConfig
from last.skeleton import Layout, load_layout

_log = logging.getLogger(__name__)


# What the section 'about' of a data set's configuration may say, and of which type.
_ABOUT = {
    "format": str,
    "layout": str,
    "classes": object,  # of which _classes tells what is wrong
    "title": object,  # such as a year
    "obtain": str,
    "columns": dict,
    "expected": dict,
}
_NEEDED = ("format", "layout", "classes")


class DataMissingError(FileNotFoundError):
    """The prepared clips are not where they were looked for; the message says how to get them."""


@dataclass(frozen=True)
class Dataset:
    """What the configuration of a data set says of it.

    Attributes:
        name: of its clips, as ``data.name`` has it.
        title: one line.
        format: of its raw files, bound to its layout, classes and columns.
        layout: of its joints.
        classes: names, by label.
        protocol: the one that its configuration chooses.
        rules: of its own protocols, in the form of its configuration; packaged sets have theirs in the code.
        obtain: where a person gets the raw files.
        expected: how many files are left out of the whole set, by reason, as others have found.
        columns: which column of a table holds what.
    """

    name: str
    title: str
    format: Format
    layout: Layout
    classes: tuple[str, ...]
    protocol: str
    rules: Mapping[str, Any]
    obtain: str
    expected: Mapping[str, int]
    columns: Mapping[str, Any]

    @property
    def protocols(self) -> tuple[str, ...]:
        """Names of its protocols."""
        return (*protocols_of(self.name), *self.rules)


def load_dataset(name: str) -> Dataset:
    """A data set by the name of its configuration, or a path to the user's own.

    Raises:
        ConfigError: there is no such configuration, or its ``about`` or ``protocols`` section is wrong.
    """
    path = find("data", name)
    content = read_yaml(path)
    about = content.get("about")
    if not isinstance(about, dict):
        raise ConfigError(f"{path} has no section 'about', expected one that says format, layout and classes")
    wrong = [f"lacks '{key}'" for key in _NEEDED if about.get(key) is None]
    wrong += [f"has the unknown key '{key}'" for key in about if key not in _ABOUT]
    wrong += [
        f"has {reprlib.repr(about[key])} as '{key}', expected {'keys with values' if kind is dict else 'text'}"
        for key, kind in _ABOUT.items()
        if about.get(key) is not None and not isinstance(about[key], kind)
    ]
    if wrong:
        raise ConfigError(f"'about' in {path} {', '.join(wrong)}; it has {', '.join(sorted(_ABOUT))}")
    if about["format"] not in FORMATS:
        raise ConfigError(f"'about' in {path} has the format '{about['format']}', expected one of {', '.join(FORMATS)}")
    rules = content.get("protocols") or {}
    require_rules(rules, str(path))
    layout, classes = _layout(about["layout"], path), _classes(about["classes"], path)
    columns = about.get("columns") or {}
    # A section that is none is told by load_config, with the other settings.
    settings = content["data"] if isinstance(content.get("data"), dict) else {}
    return Dataset(
        name=settings.get("name", path.stem),
        title=str(about.get("title") or path.stem),
        format=FORMATS[about["format"]].with_reading(Reading(layout, classes, columns)),
        layout=layout,
        classes=classes,
        protocol=str(settings.get("protocol", DataConfig.protocol)),
        rules=rules,
        obtain=(about.get("obtain") or f"They are your own; {path} describes them.").strip(),
        expected=about.get("expected") or {},
        columns=columns,
    )


def _layout(name: str, described_in: Path) -> Layout:
    """A built-in layout, or one from a file beside the one that names it."""
    return load_layout(str(described_in.parent / name) if is_file(name) else name)


def _classes(given: Any, path: Path) -> tuple[str, ...]:
    """The names that a configuration lists itself, or those of a packaged list."""
    if isinstance(given, list):
        names = tuple(map(str, given))
        if len(set(names)) != len(names) or not names:
            raise ConfigError(f"'classes' in {path} has {len(names)} names, expected one or more, each of them once")
        return names
    if given == "synthetic":
        return synthetic.CLASSES
    first = 60 if given == "ntu60" else None  # NTU120 goes on where NTU60 ends
    packaged = CONFIG_DIR / "data" / "classes" / f"{'ntu120' if first else given}.yaml"
    if not packaged.is_file():
        raise ConfigError(f"'classes' in {path} is '{given}', expected a list of names")
    return tuple(read_yaml(packaged)["classes"])[:first]


def list_datasets() -> list[Dataset]:
    """All packaged data sets."""
    return [load_dataset(name) for name in available("data")]


def prepare_dataset(
    dataset: Dataset,
    raw: Sequence[Path] | None,
    config: Config,
    dtype: JointDtype = "float32",
    engine: Engine = "processes",
    progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Turn the raw files of a data set into its store.

    Args:
        dataset: what the files are.
        raw: folders, zips or files; None: <data_root>/raw/<name>.
        config: names the store, the options of the cleaning and the workers.
        dtype: of the stored joints.
        engine: what runs the workers.
        progress: called with (steps done, steps in all).

    Raises:
        ConfigError: the data set lacks the protocol.
        DataMissingError: there are no raw files in their default place.
        FormatError, StoreError: as :func:`last.data.prepare.prepare` says.
    """
    # A person's own recordings may bring lists of their own, which only reading them tells.
    if not dataset.rules and dataset.protocols and config.data.protocol not in dataset.protocols:
        raise ConfigError(
            f"'{dataset.name}' has no protocol '{config.data.protocol}', expected one of {', '.join(dataset.protocols)}"
        )
    if raw is None:
        raw = [Path(config.environment.data_root).expanduser() / "raw" / config.data.name]
        if not raw[0].exists():
            raise DataMissingError(
                f"no raw files of '{dataset.name}' at {raw[0].absolute()}.\n"
                f"  Get the files:    {dataset.obtain}\n"
                f"  Lying elsewhere:  add --raw FOLDER_OR_ZIP\n"
                f"  Without them:     the embedded set is made by 'last data synthesize' and needs no preparing; "
                "train on it with --dataset synthetic"
            )
    return prepare(
        dataset.format,
        raw,
        config.store_path(),
        dataset.layout,
        dataset.classes,
        CleanOptions.from_config(config.data),
        config.environment.workers,
        progress,
        dtype=dtype,
        protocols=dataset.rules,
        engine=engine,
    )


def open_store(config: Config) -> ClipStore:
    """The prepared clips of a configuration; warns where they were cleaned otherwise than its settings say.

    Raises:
        DataMissingError: there are none; says where it looked and what to do.
        StoreError: the store is damaged, or of another version.
    """
    path = config.store_path()
    if not path.exists():
        raise DataMissingError(_advice(config))
    store = ClipStore.open(path)
    cleaned = store.meta["provenance"].get("cleaning")
    asked = asdict(CleanOptions.from_config(config.data))
    if isinstance(cleaned, dict):
        # A network is given the most moving bodies only, so a store may hold more of them than it takes.
        wrong = [
            f"data.{key}={str(cleaned[key]).lower()}"
            for key in asked.keys() & cleaned.keys()
            if (asked[key] > cleaned[key] if key == "max_bodies" else asked[key] != cleaned[key])
        ]
        if wrong:
            given = " ".join(f"--set {setting}" for setting in sorted(wrong))
            _log.warning(
                "%s was prepared with other options than these settings have, which do not clean it anew; train with "
                "%s, or prepare it again",
                path,
                given,
            )
    return store


def require_as_described(store: ClipStore, described_in: str | None) -> None:
    """Refuse clips that were prepared before their description was changed, as it says other things of them now.

    Args:
        store: the clips.
        described_in: path of the person's own description; None for a packaged set, whose own does not change.

    Raises:
        ConfigError: the description has another layout, other classes, columns or protocols than the store, or is gone.
    """
    if described_in is None:
        return
    dataset, made_by = load_dataset(described_in), store.meta["provenance"]
    pairs = {
        "layout": (store.layout, dataset.layout),
        "classes": (store.classes, dataset.classes),
        "columns": (made_by.get("columns", dataset.columns), dataset.columns),
        "protocols": (store.meta.get("protocols", {}), dataset.rules),
    }
    changed = [what for what, (then, now) in pairs.items() if then != now]
    if changed:
        raw = " ".join(map(str, made_by.get("raw", ["FILE_OR_FOLDER"])))
        raise ConfigError(
            f"{described_in} has other {' and '.join(changed)} now than {store.path}, which was prepared before; "
            f"prepare it again: last data prepare {described_in} --raw {raw}"
        )


def _advice(config: Config) -> str:
    name, path = config.data.name, config.store_path()
    found = f"no prepared clips of '{name}' at {path.absolute()}"
    if name == "synthetic":
        return f"{found}. Make them: last data synthesize --out {path}"
    if name not in available("data"):
        return (
            f"{found}.\n"
            f"  Prepare them:       last data prepare {name}.yaml --raw FILE_OR_FOLDER --data {path}, by the path of "
            "your own description\n"
            "  Prepared elsewhere: add --data FOLDER"
        )
    obtain = load_dataset(name).obtain
    return (
        f"{found}.\n"
        f"  Get the files:      {obtain}\n"
        f"  Prepare them:       last data prepare {name} --raw FOLDER_OR_ZIP --data {path}\n"
        f"  Prepared elsewhere: add --data FOLDER\n"
        f"  Try without them:   last data synthesize --env {config.environment.name}, then the same training with "
        "--dataset synthetic"
    )
