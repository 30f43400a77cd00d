"""Finished runs by what they scored, for those who fuse or compare them. Shapes: N clips, K classes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from last.config import from_dict
from last.evaluate import Metrics, Scores
from last.run import RunError

_ROUNDING = 1e-3  # of the accuracies in a result, in points


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """The scores of a run on its test part, and the record of its result; of a fusion too, which keeps the same files.

    Attributes:
        path: the folder.
        name: of the folder, and of the weights and crops where they are not the run's own.
        result: the record for results/.
        scores: of the test part.
    """

    path: Path
    name: str
    result: dict[str, Any]
    scores: Scores

    @classmethod
    def open(cls, path: Path) -> "ScoredRun":
        """Read the scores of a run.

        Args:
            path: its folder, or one of several scores in it, such as scores.best.crops1.npz.

        Raises:
            RunError: the folder holds no result, or one that its scores contradict.
            ValueError: it holds no scores, or damaged ones.
        """
        folder, own = path, ""
        if path.suffix == ".npz":
            folder, own = path.parent, path.name.removeprefix("scores").removesuffix(".npz")
        record = folder / f"result{own}.json"
        if not record.exists():
            raise RunError(
                f"there is no result at {record}; give the folder of a run that 'last train' or 'last evaluate' has "
                "finished, or of a fusion"
            )
        try:
            result = json.loads(record.read_text(encoding="utf-8"))
            reported = float(result["top1"])
            _ = result["model"], result["dataset"], result["protocol"], int(result["parameters"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"cannot read the result in {record} ({type(error).__name__}: {error}); give the folder of a run that "
                "'last train' or 'last evaluate' has finished, or of a fusion"
            ) from error
        run = cls(folder, folder.resolve().name + own, result, Scores.open(folder / f"scores{own}.npz"))
        if abs(run.metrics.top1 - reported) > _ROUNDING:
            raise RunError(
                f"{record} reports a top-1 of {reported:.2f}, but the scores beside it give {run.metrics.top1:.2f}; "
                f"they are of different evaluations: run 'last evaluate {folder}' again"
            )
        return run

    @cached_property
    def metrics(self) -> Metrics:
        """How well the scores fit the labels."""
        return self.scores.measure()

    @property
    def networks(self) -> int:
        """How many networks the scores are of: one, or those of a fusion."""
        return int(self.result.get("networks", 1))

    @property
    def store(self) -> Path:
        """The store of its clips, where the run found it."""
        config = self.result.get("config")
        return from_dict(config, str(self.path)).store_path() if config else Path("data", self.result["dataset"])

    @property
    def description(self) -> str:
        """What was trained, and how, in a few words."""
        if self.networks > 1:
            return f"fusion of {self.networks} networks"
        config = self.result.get("config", {})
        streams = "+".join(config.get("model", {}).get("streams", ()))
        told = (self.result["model"], streams, f"{self.result.get('recipe')}", f"seed {self.result.get('seed')}")
        return ", ".join(filter(None, told))


def names_of(runs: Sequence[ScoredRun]) -> list[str]:
    """A name for each run that no other has: its folder's, or numbers and paths where folders share a name."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [f"{i}: {run.path}" for i, run in enumerate(runs, start=1)]


def require_same_classes(runs: Sequence[ScoredRun]) -> None:
    """Refuse runs whose scores are not of the same classes, in the same order.

    Raises:
        RunError: names two runs and the first class that differs.
    """
    first, *others = runs
    for other in others:
        pairs = zip_longest(first.scores.classes, other.scores.classes, fillvalue="no class")
        for k, (here, there) in enumerate(pairs):
            if here != there:
                raise RunError(
                    f"{first.path} and {other.path} do not tell the same classes apart: class {k} is '{here}' in the "
                    f"first and '{there}' in the second; give runs of one data set"
                )


def require_same_clips(runs: Sequence[ScoredRun]) -> None:
    """Refuse runs whose scores are not of the same clips and classes, in the same order.

    Raises:
        RunError: names two runs and the first clip or class that differs.
    """
    require_same_classes(runs)
    first, *others = runs
    for other in others:
        for i, (here, there) in enumerate(zip_longest(_clips(first), _clips(other), fillvalue="no clip")):
            if here != there:
                raise RunError(
                    f"{first.path} and {other.path} were not tested on the same clips ({len(first.scores.labels)} and "
                    f"{len(other.scores.labels)}): number {i} is {here} in the first and {there} in the second; give "
                    "runs of one data set and protocol, evaluated on the same store"
                )


def _clips(run: ScoredRun) -> list[str]:
    names, labels = run.scores.names.tolist(), run.scores.labels.tolist()
    return [
        f"'{name.decode(errors='replace')}' of class '{run.scores.classes[label]}'"
        for name, label in zip(names, labels, strict=True)
    ]
