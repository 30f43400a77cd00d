"""A search for a recipe that never looks at the test part: trials are scored on held-out parts of the training clips.

Axes are settled one after another: of each, every alternative is tried on top of what was chosen so far, and the best
is taken if it is better by more than one standard error. Shapes: N held-out clips, those of all parts.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from last import provenance
from last.bench import grid
from last.config import OF_LAST, find, load_config, read_yaml
from last.data import engines
from last.data.protocols import held_parts
from last.files import write_text
from last.progress import Reporter
from last.recognizer import choose_device
from last.run import RunError, read_record
from last.setting_values import ConfigError
from last.settings import Config, is_of_last

# What a recipe is for, and its name, which are no matter of a trial.
_OUTSIDE = {"model.name", "data.name", "data.path", "data.protocol", "training.recipe"}
_OF_THE_SET = _OUTSIDE | {"data.max_bodies"}

Settings = Mapping[str, Any]  # section.key to value
Space = Mapping[str, Sequence[Settings]]  # axis to its alternatives


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried.

    Attributes:
        settings: in which it differs from the recipe that the search began with.
        parts: top-1 on each held-out part, a mean over seeds, in percent.
        correct: share of seeds that got each clip right, (N,).
        seconds: of all its trainings.
        fault: why it could not be scored; None where it was.
    """

    settings: Settings
    parts: tuple[float, ...] = ()
    correct: np.ndarray = field(default_factory=lambda: np.zeros(0), compare=False)
    seconds: float = 0.0
    fault: str | None = None

    @property
    def top1(self) -> float:
        """Over all held-out clips, in percent; -1 where it could not be scored."""
        return -1.0 if self.fault else 100 * float(self.correct.mean())

    def lead(self, other: "Trial") -> tuple[float, float]:
        """How much higher its top-1 is, in points, and the standard error of that over clips."""
        difference = 100 * (self.correct - other.correct)
        return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))

    def beats(self, other: "Trial") -> bool:
        """Whether its lead is more than its standard error."""
        if self.fault:
            return False
        lead, error = self.lead(other)
        return lead > error


@dataclass
class Search:
    """A search under way.

    Attributes:
        trials: in the order in which they were scored.
        chosen: the best so far.
        steps: for each settled axis its name, and the settings that were taken from it, none where none was better.
    """

    trials: list[Trial]
    chosen: Trial
    steps: list[tuple[str, Settings]] = field(default_factory=list)


def read_space(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Read the axes of a search: a mapping of their names to lists of alternatives, each a mapping of settings.

    Raises:
        ConfigError: the file is something else.
    """
    space = read_yaml(path)
    for axis, alternatives in space.items():
        if not (isinstance(alternatives, list) and alternatives and all(map(_has_settings, alternatives))):
            raise ConfigError(
                f"axis '{axis}' in {path} is {alternatives!r}, expected a list of alternatives, each with settings, as "
                "in mixing: [{training.mix: 0.5}, {training.mix: 1.0}]"
            )
        if outside := sorted(_OUTSIDE.intersection(chain.from_iterable(alternatives))):
            raise ConfigError(
                f"axis '{axis}' in {path} sets {', '.join(outside)}, expected settings that a recipe makes; give what "
                "it is for to 'last search' itself, as --model, --dataset and --protocol"
            )
    return space


def _has_settings(alternative: Any) -> bool:
    return isinstance(alternative, dict) and bool(alternative) and all(isinstance(key, str) for key in alternative)


def settle(
    space: Space,
    measure: Callable[[Sequence[Settings]], Sequence[Trial]],
    on_scored: Callable[[Search], None] = lambda search: None,
) -> Search:
    """Go through the axes of a space in its order.

    Args:
        space: the axes.
        measure: scores recipes, given the settings of each.
        on_scored: given the search after the first trial, which changes nothing, and after each axis.

    Raises:
        RuntimeError: the first trial cannot be scored.
    """
    (first,) = measure([{}])
    if first.fault:
        raise RuntimeError(f"the recipe that the search begins with cannot be scored: {first.fault}")
    search = Search([first], first)
    on_scored(search)
    for axis, alternatives in space.items():
        before = search.chosen
        tried = measure([{**before.settings, **alternative} for alternative in alternatives])
        search.trials.extend(tried)
        best, alternative = max(zip(tried, alternatives, strict=True), key=lambda pair: pair[0].top1)
        taken = best.beats(before)
        search.chosen = best if taken else before
        search.steps.append((axis, alternative if taken else {}))
        on_scored(search)
    return search


@dataclass(frozen=True)
class Plan:
    """What is searched, and how each trial is scored.

    Attributes:
        dataset: name of its configuration, or a path.
        model: name of the network, or a path.
        recipe: that the search begins with.
        protocol: whose training clips are parted.
        parts: how many; each is held out in turn.
        seeds: how many, from 0.
        overrides: settings of all trials, by section.key.
        environment: None detects it.
        space: the file that the settings of trials are from, for errors.
    """

    dataset: str
    model: str
    recipe: str
    protocol: str
    parts: int
    seeds: int = 1
    overrides: Settings = field(default_factory=dict)
    environment: str | None = None
    space: str = "the search space"

    def config(self, settings: Settings | None = None) -> Config:
        """The configuration of a trial, tested by the whole protocol.

        Args:
            settings: in which it differs from the recipe that the search begins with.

        Raises:
            ConfigError: a name, key or value is wrong.
        """
        given = {**self.overrides, **(settings or {}), "data.protocol": self.protocol}
        sources = dict.fromkeys(settings or {}, self.space)
        return load_config(self.model, self.dataset, self.recipe, self.environment, given, sources)

    def cells(self, settings: Settings) -> list[grid.Cell]:
        """The runs of a trial: each part held out, with each seed.

        Raises:
            ConfigError: its settings do not go together.
        """
        recipe = self.config(settings).training.recipe
        mark = hashlib.sha256(json.dumps([self.overrides, settings], sort_keys=True).encode()).hexdigest()[:8]
        given = {**self.overrides, **settings, "training.recipe": f"{recipe}_{mark}"}
        return [
            cell
            for protocol in held_parts(self.protocol, self.parts)
            for cell in grid.plan(
                [self.dataset], [self.model], [self.recipe], self.seeds, protocol, self.environment, given
            )
        ]


def score(
    plan: Plan,
    several: Sequence[Settings],
    jobs: int | None,
    threads: int,
    device: str,
    engine: engines.Engine,
    reporter: Reporter,
) -> list[Trial]:
    """Make the runs of several trials that are not there yet, and score each trial on the clips that it held out.

    A trial whose settings do not go together has that for its fault, and no runs.

    Args:
        plan: of the search.
        several: the settings of each trial.
        jobs: as for :func:`last.bench.grid.run`.
        threads: likewise.
        device: likewise.
        engine: likewise.
        reporter: says what happens.

    Raises:
        Interrupted: by Ctrl-C; the same search goes on.
    """
    trials: list[tuple[Settings, list[grid.Cell], str | None]] = []
    for settings in several:
        try:
            trials.append((settings, plan.cells(settings), None))
        except ConfigError as fault:
            trials.append((settings, [], str(fault)))
    cells = [cell for _, made, _ in trials for cell in made]
    failed: Mapping[str, str] = {}
    if cells:
        failed = grid.run(cells, jobs, threads, device, engine, _records(cells), reporter, reports=False)
    return [
        Trial(settings, fault=fault) if fault else _trial(settings, made, failed) for settings, made, fault in trials
    ]


def _records(cells: Sequence[grid.Cell]) -> Path:
    """The folder of the records of a search's runs."""
    return cells[0].folder.parent / "search"


def _trial(settings: Settings, cells: Sequence[grid.Cell], failed: Mapping[str, str]) -> Trial:
    for cell in cells:
        if cell.name in failed:
            return Trial(settings, fault=failed[cell.name])
    parts: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        parts.setdefault(cell.config.data.protocol, []).append(read_record(_records(cells) / f"{cell.name}.json"))
    correct = [np.mean([[c == "1" for c in r["correct"]] for r in seeds], axis=0) for seeds in parts.values()]
    return Trial(
        settings,
        tuple(round(100 * float(part.mean()), 2) for part in correct),
        np.concatenate(correct),
        sum(record["seconds"] for seeds in parts.values() for record in seeds),
    )


def require_own_log(path: Path, plan: Plan) -> None:
    """Refuse to put the log of a search in the place of another's, whose trials would be lost.

    Raises:
        RunError: there is one of other parts, seeds or overrides, or a damaged one.
    """
    if not path.exists():
        return
    there, own = read_record(path), {"parts": plan.parts, "seeds": plan.seeds, "overrides": dict(plan.overrides)}
    if other := [f"{key} {there.get(key)}, here {value}" for key, value in own.items() if there.get(key) != value]:
        raise RunError(
            f"{path} holds the log of another search ({'; '.join(other)}) and is left alone; name another folder with "
            "--results"
        )


def write_log(path: Path, plan: Plan, space: Space, search: Search, command: str, device: str) -> None:
    """Keep all trials so far, also those that lost, as a record for results/.

    The log of another space that is there stays, as the last of those in ``earlier``.

    Raises:
        WriteError: the file cannot be written.
    """
    first, config = search.trials[0], plan.config()
    rows = []
    for trial in search.trials:
        row: dict[str, Any] = {"settings": dict(trial.settings)}
        if trial.fault:
            row["fault"] = trial.fault
        else:
            lead, error = trial.lead(first)
            row |= {"top1": round(trial.top1, 2), "parts": list(trial.parts), "seconds": round(trial.seconds)}
            row |= {"lead": round(lead, 2), "standard_error": round(error, 2)}
        rows.append(row)
    content = {
        "kind": "search",
        "dataset": config.data.name,
        "protocol": plan.protocol,
        "model": config.model.name,
        "recipe": config.training.recipe,
        "parts": plan.parts,
        "seeds": plan.seeds,
        "held_out_clips": len(first.correct),
        "overrides": dict(plan.overrides),
        "space": {axis: [dict(alternative) for alternative in alternatives] for axis, alternatives in space.items()},
        "steps": [{"axis": axis, "taken": dict(taken)} for axis, taken in search.steps],
        "chosen": dict(search.chosen.settings),
        "trials": rows,
        "config": config.to_dict(),
        **provenance.record(command, choose_device(device)),
        "earlier": [],
    }
    if path.exists():
        there = read_record(path)
        content["earlier"] = there.pop("earlier", [])
        if there.get("space") != content["space"]:
            content["earlier"].append(there)
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_recipe(path: Path, plan: Plan, search: Search, log: Path) -> None:
    """Write what was chosen as a recipe of its own, named as its file.

    Raises:
        WriteError: the file cannot be written.
    """
    config = plan.config(search.chosen.settings)
    of_last = read_yaml(find("training", plan.recipe)).get(OF_LAST) or {}
    is_last = is_of_last(config.model.name)
    sections: dict[str, dict[str, Any]] = {"data": {}, "training": {"recipe": path.stem}}
    for section, values in config.to_dict().items():
        for key, value in values.items():
            name, origin = f"{section}.{key}", config.origins[f"{section}.{key}"]
            # A network's own settings come with its name, what was given on top of them does not.
            without = {"built-in default"} | ({config.origins["model.name"]} if section == "model" else set())
            kept = origin not in without
            if name in search.chosen.settings or (kept and section != "environment" and name not in _OF_THE_SET):
                # What the recipe has for LAST's networks alone stays so.
                place = OF_LAST if section == "model" and is_last and key in of_last else section
                sections.setdefault(place, {})[key] = value
    if of_last and not is_last:
        sections[OF_LAST] = of_last
    head = (
        f"# From '{plan.recipe}', by a search on held-out parts of the training clips of {config.data.name} "
        f"{plan.protocol}:\n# every trial stands in {log.name}.\n"
    )
    write_text(path, head + yaml.safe_dump(sections, sort_keys=False, default_flow_style=None))
