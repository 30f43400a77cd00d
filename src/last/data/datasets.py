"""What LAST knows of a data set: its format, layout, classes, protocols, and how to get it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from last.config import CONFIG_DIR, Config, ConfigError, available, find, read_yaml
from last.data import synthetic
from last.data.clean import CleanOptions
from last.data.prepare import PrepareReport, prepare
from last.data.protocols import protocols_of
from last.data.store import ClipStore
from last.skeleton import load_layout


class DataMissingError(FileNotFoundError):
    """The prepared clips are not where they were looked for; the message says how to get them."""


@dataclass(frozen=True)
class Dataset:
    """The ``about`` section of a data set's configuration.

    Attributes:
        name: of its configuration.
        title: one line.
        format: which reader its raw files need.
        layout: of its joints.
        classes: names, by label.
        protocols: that papers use on it.
        obtain: where a person gets the raw files.
    """

    name: str
    title: str
    format: str
    layout: str
    classes: tuple[str, ...]
    protocols: tuple[str, ...]
    obtain: str


def load_dataset(name: str) -> Dataset:
    """A data set by the name of its configuration, or a path to the user's own.

    Raises:
        ConfigError: there is no such configuration, or its ``about`` section is incomplete.
    """
    path = find("data", name)
    about: dict[str, Any] = read_yaml(path).get("about") or {}
    missing = {"title", "format", "layout", "classes", "obtain"} - set(about)
    if missing:
        raise ConfigError(f"'about' in {path} lacks {', '.join(sorted(missing))}")
    return Dataset(
        name=path.stem,
        title=about["title"],
        format=about["format"],
        layout=about["layout"],
        classes=_classes(about["classes"]),
        protocols=protocols_of(path.stem),
        obtain=about["obtain"],
    )


def list_datasets() -> list[Dataset]:
    """All packaged data sets."""
    return [load_dataset(name) for name in available("data")]


def prepare_dataset(
    raw: Sequence[Path] | None, config: Config, progress: Callable[[int, int], None] | None = None
) -> PrepareReport:
    """Turn the raw files of the configuration's data set into its store.

    Args:
        raw: folders, zips or files; None: <data_root>/raw/<name>.
        config: names the data set, the store, the bodies kept and the workers.
        progress: called with (steps done, steps in all).

    Raises:
        ConfigError: the data set is not known, or lacks the protocol.
        DataMissingError: there are no raw files in their default place.
        FormatError, StoreError: as :func:`last.data.prepare.prepare` says.
    """
    dataset = load_dataset(config.data.name)
    if config.data.protocol not in dataset.protocols:
        raise ConfigError(
            f"'{dataset.name}' has no protocol '{config.data.protocol}', expected one of {', '.join(dataset.protocols)}"
        )
    if raw is None:
        raw = [Path(config.environment.data_root).expanduser() / "raw" / config.data.name]
        if not raw[0].exists():
            raise DataMissingError(
                f"no raw files of '{dataset.name}' at {raw[0].absolute()}.\n"
                f"  Get the files:    {dataset.obtain.strip()}\n"
                f"  Lying elsewhere:  add --raw FOLDER_OR_ZIP\n"
                f"  Without them:     the embedded set is made by 'last data synthesize' and needs no preparing; "
                "train on it with --dataset synthetic"
            )
    return prepare(
        dataset.format,
        raw,
        config.store_path(),
        load_layout(dataset.layout),
        dataset.classes,
        CleanOptions.from_config(config.data),
        config.environment.workers,
        progress,
    )


def open_store(config: Config) -> ClipStore:
    """The prepared clips of a configuration.

    Raises:
        DataMissingError: there are none; says where it looked and what to do.
        StoreError: the store is damaged, or of another version.
    """
    path = config.store_path()
    if not path.exists():
        raise DataMissingError(_advice(config))
    return ClipStore.open(path)


def _advice(config: Config) -> str:
    name, path = config.data.name, config.store_path()
    found = f"no prepared clips of '{name}' at {path.absolute()}"
    if name == "synthetic":
        return f"{found}. Make them: last data synthesize --out {path}"
    try:
        obtain = load_dataset(name).obtain.strip()
    except ConfigError:
        obtain = "the data set is your own"
    return (
        f"{found}.\n"
        f"  Get the files:      {obtain}\n"
        f"  Prepare them:       last data prepare {name} --raw FOLDER_OR_ZIP --data {path}\n"
        f"  Prepared elsewhere: add --data FOLDER\n"
        f"  Try without them:   last data synthesize --env {config.environment.name}, then the same training with "
        "--dataset synthetic"
    )


def _classes(name: str) -> tuple[str, ...]:
    if name == "synthetic":
        return synthetic.CLASSES
    first = 60 if name == "ntu60" else None  # NTU120 goes on where NTU60 ends
    path = CONFIG_DIR / "data" / "classes" / f"{'ntu120' if first else name}.yaml"
    return tuple(read_yaml(path)["classes"])[:first]
