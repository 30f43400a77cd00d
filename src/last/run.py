"""The folder of a run: one training, from its settings to its report.

::

    config.yaml         all settings, as they were
    provenance.json     command, commit, machine and date of the training
    metrics.csv         a row an epoch; tensorboard/ holds the same
    checkpoint.pt       for an exact resume
    last.safetensors    the network of the last epoch (its moving average where the recipe has one)
    best.safetensors    the best on the validation part, where the recipe sets one aside
    unaveraged.safetensors   the last step's own weights, where the recipe has a moving average
    evaluation.json     figures on the test part: per class, confusion, calibration
    scores.npz          probabilities of each test clip, to fuse and compare
    result.json         one record for results/
    report.html         pictures/ and tables on one page
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from last.config import from_dict, read_yaml, with_overrides
from last.files import write_text
from last.settings import Config, share_of_crop

Weights = Literal["last", "best", "unaveraged"]


# Settings that may change without changing what a run is.
MOVABLE = {
    "data.path",
    "environment.data_root",
    "environment.runs_root",
    "environment.workers",
    "environment.clips",
    "environment.kernels",
    "environment.step",
}


class RunError(ValueError):
    """A folder that holds no run, or one that must not be overwritten."""


@dataclass(frozen=True)
class Run:
    """A folder and the settings in it.

    Attributes:
        path: the folder.
        config: its settings.
    """

    path: Path
    config: Config

    @classmethod
    def create(cls, path: Path, config: Config, provenance: Mapping[str, Any]) -> "Run":
        """Start a new folder.

        Args:
            path: the folder.
            config: its settings.
            provenance: command, commit, hardware, torch and date; ``published`` says whose weights were adopted.

        Raises:
            RunError: there is a run already.
            WriteError: the folder cannot be written.
        """
        if (path / "config.yaml").exists():
            raise RunError(f"{path} holds a run already; go on with --resume {path}, or name another with --run")
        write_text(path / "provenance.json", json.dumps(dict(provenance), indent=1) + "\n")
        # Last, since it makes the folder a run: what was killed before it is begun anew.
        write_text(path / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False))
        return cls(path, config)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """An existing folder, given by itself or by a file in it.

        Raises:
            RunError: there is no run.
            ConfigError: its settings are damaged.
        """
        folder = path.parent if path.is_file() else path
        settings = folder / "config.yaml"
        if not settings.is_file():
            raise RunError(f"no run at {path}: there is no {settings}; give a folder that 'last train' made")
        return cls(folder, from_dict(read_yaml(settings), str(settings)))

    def with_settings(self, given: Mapping[str, Any]) -> "Run":
        """The same run, with its clips or its machine elsewhere.

        Args:
            given: settings by section.key, as on a command line.

        Raises:
            RunError: one of them would change what the run is.
            ConfigError: one of them does not exist.
        """
        config = with_overrides(self.config, given)
        for section, keys in self.config.to_dict().items():
            for key, old in keys.items():
                new = config.to_dict()[section][key]
                if new != old and f"{section}.{key}" not in MOVABLE:
                    raise RunError(
                        f"{self.path} was trained with {section}.{key} {old}, and {new} was asked for; leave it "
                        "out to go on with the run, or start a new one"
                    )
        return Run(self.path, config)

    @property
    def checkpoint(self) -> Path:
        """For an exact resume."""
        return self.path / "checkpoint.pt"

    def weights(self, which: Weights = "last") -> Path:
        """The network of the last epoch, the best on the validation part, or the last without its moving average."""
        return self.path / f"{which}.safetensors"

    def provenance(self) -> dict[str, Any]:
        """Command, commit, hardware, torch and date of the training, and of each time it was ``resumed``.

        Raises:
            RunError: the file is missing or damaged.
        """
        path = self.path / "provenance.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {path}, which says how the run was trained: {error}") from error

    def add_provenance(self, record: Mapping[str, str]) -> None:
        """Note that the run was resumed.

        Args:
            record: as :meth:`create` takes it.

        Raises:
            RunError: what was noted so far is damaged.
            WriteError: the folder cannot be written.
        """
        content = self.provenance()
        self.write_json("provenance.json", content | {"resumed": [*content.get("resumed", []), dict(record)]})

    def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write metrics.csv, a row an epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in history)
        write_text(self.path / "metrics.csv", text.getvalue())

    def history(self) -> list[dict[str, float]]:
        """The rows of metrics.csv; empty before the first epoch.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / "metrics.csv"
        if not path.exists():
            return []
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except (TypeError, ValueError) as error:
            raise RunError(f"{path} is damaged, expected a number in each cell: {error}") from error

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file into the folder."""
        write_text(self.path / name, json.dumps(content, indent=1) + "\n")

    def copy_result(self, file: str, folder: Path) -> Path:
        """Copy a result of this run into ``folder`` under a name that tells it from others, and return where it went.

        Args:
            file: its name in the run's folder, such as result.json.
            folder: made where it is missing.

        Raises:
            RunError: there is a result of other settings under that name, which is left alone; or either is damaged.
            WriteError: the folder cannot be written.
        """
        result = read_record(self.path / file)
        origin = "published" if result["kind"] == "published" else f"seed{self.config.training.seed}"
        target = folder / f"{result_name(self.config)}.{origin}{file.removeprefix('result')}"
        require_same_settings(target, result)
        write_text(target, (self.path / file).read_text(encoding="utf-8"))
        return target


def result_name(config: Config) -> str:
    """The name of a run's result in a folder of many, but for its seed."""
    return f"{config.data.name}.{config.data.protocol}.{config.model.name}.{config.training.recipe}"


def require_same_settings(target: Path, result: Mapping[str, Any]) -> None:
    """Refuse to put a result in the place of one of other settings.

    Raises:
        RunError: there is one, or a damaged one.
    """
    if target.exists() and settings_of(read_record(target)) != settings_of(result):
        raise RunError(
            f"{target} holds a result of other settings and is left alone; name another folder with --results"
        )


def read_record(path: Path) -> dict[str, Any]:
    """A record as it stands in results/, of any kind.

    Raises:
        RunError: the file is damaged, or none of ours.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _ = content["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} holds no record of a result ({type(error).__name__}: {error}); move it away, and if it is a "
            "run's, 'last evaluate' makes it again"
        ) from error
    return content


def span_of(result: Mapping[str, Any]) -> float | None:
    """The span that a result was scored with; before results told, it was that of the settings, or none."""
    return result.get("span", result["config"]["data"].get("test_span"))


def scored_on(result: Mapping[str, Any]) -> str:
    """What of each test clip a result is of, in words."""
    crops, share = result["crops"], share_of_crop(span_of(result), result["crops"])
    if crops > 1:
        return f"{crops} crops of each clip, {share:.0%} long"
    return "whole clips" if share == 1 else f"the middle {share:.0%} of each clip"


def settings_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a result comparable with others: all settings but the seed and those of the machine."""
    config = from_dict(result["config"], "a result").to_dict()  # with a default for each setting that is newer
    training = {key: value for key, value in config["training"].items() if key != "seed"}
    data = {key: value for key, value in config["data"].items() if key != "path"}
    scored = {"weights": result["weights"], "crops": result["crops"], "span": span_of(result)}
    return {"model": config["model"], "data": data, "training": training, **scored}
