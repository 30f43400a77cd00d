"""Records of runs, those that differ in seed and fold alone together.

A record is what a run leaves in result.json. Shapes: S seeds, N clips of all folds.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from last.data.protocols import protocols_of
from last.run import read_record, settings_of

Record = Mapping[str, Any]
FOLDS = "folds"  # the protocol of a data set whose score is a mean over fold1, fold2 and so on


def board_of(protocol: str) -> str:
    """The protocol by which scores are compared: ``folds`` for each of them."""
    return FOLDS if re.fullmatch(r"fold\d+", protocol) else protocol


def read_records(folder: Path) -> list[dict[str, Any]]:
    """What stands in a folder of results, of any kind, in the order of the files' names.

    Raises:
        RunError: a file is damaged, or none of ours.
    """
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


@dataclass(frozen=True)
class Entry:
    """A network trained by one recipe: its runs, which differ in seed and fold alone.

    Attributes:
        records: of the runs.
        parts: the protocols that a seed is tested by: all folds, or the one that is no fold.
    """

    records: tuple[Record, ...]
    parts: tuple[str, ...]

    @property
    def first(self) -> Record:
        """A record, for what all have in common."""
        return self.records[0]

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.first["model"]

    @property
    def protocol(self) -> str:
        """See :func:`board_of`."""
        return board_of(self.first["protocol"])

    @cached_property
    def by_seed(self) -> dict[int, dict[str, Record]]:
        """The records of each seed, by protocol."""
        seeds: dict[int, dict[str, Record]] = defaultdict(dict)
        for record in sorted(self.records, key=lambda record: (record["seed"], record["protocol"])):
            seeds[record["seed"]][record["protocol"]] = record
        return dict(seeds)

    @cached_property
    def complete(self) -> list[int]:
        """The seeds that were tested by all parts."""
        return [seed for seed, tested in self.by_seed.items() if set(self.parts) <= set(tested)]

    @property
    def seeds_alike(self) -> list[int]:
        """The complete seeds, or else those that were tested by the same parts as the one with the most."""
        most = max(self.by_seed.values(), key=len).keys()
        return self.complete or [seed for seed, tested in self.by_seed.items() if tested.keys() == most]

    def score(self, seed: int, key: str = "top1") -> float:
        """A score of a seed, a mean over folds."""
        return mean(record[key] for record in self.by_seed[seed].values())

    def scores(self) -> list[float]:
        """Top-1 of each complete seed."""
        return [self.score(seed) for seed in self.complete]

    @property
    def test_clips(self) -> set[tuple[str | None, ...]]:
        """Which clips the complete seeds were tested on, by the hash of each part; one member if all on the same."""
        return {tuple(self.by_seed[seed][part].get("test_part") for part in self.parts) for seed in self.complete}

    def correct(self) -> np.ndarray:
        """Which clips the complete seeds got right, folds end to end, (S, N) bool."""
        answers = ["".join(self.by_seed[seed][part]["correct"] for part in self.parts) for seed in self.complete]
        return np.array([[answer == "1" for answer in row] for row in answers])


def entries(records: Iterable[Record]) -> list[Entry]:
    """The accuracies among records, those of the same settings together, in the order of data set, network, recipe."""
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    parts = defaultdict(set)
    for record in records:
        if record["kind"] == "accuracy":
            board = (record["dataset"], board_of(record["protocol"]))
            settings = settings_of(record)
            del settings["data"]["protocol"]
            keys = (record[key] for key in ("recipe", "epochs"))
            groups[(board[0], record["model"], record["parameters"], board[1], *keys, json.dumps(settings))].append(
                record
            )
            known = [name for name in protocols_of(board[0]) if board_of(name) == board[1]]
            parts[board] |= {record["protocol"], *known}
    return [Entry(tuple(members), tuple(sorted(parts[key[0], key[3]]))) for key, members in sorted(groups.items())]


def spread(values: Sequence[float]) -> str:
    """Mean and, of several values, sample standard deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
