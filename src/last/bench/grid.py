"""A grid of ordinary runs, data set x protocol x network x recipe x seed: a few at a time, and resumable."""

import contextlib
import itertools
import json
import multiprocessing
import re
import shlex
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from last import workflow
from last.bench.entries import FOLDS, board_of
from last.config import load_config, recipe_of, with_overrides
from last.data import engines
from last.data.datasets import load_dataset, open_store
from last.data.protocols import split
from last.data.store import ClipStore
from last.files import write_text
from last.models.cost import count_parameters
from last.progress import Interrupted, Reporter, stop_on_signal
from last.recognizer import build_model, choose_device
from last.run import MOVABLE, Run, RunError, require_same_settings, result_name
from last.run_evaluation import require_same_tests
from last.setting_values import ConfigError
from last.settings import Config
from last.skeleton import load_layout

OURS, AUTHORS = "ours", "authors"  # recipes, by whose they are
STOP = "stop"  # a file
# What runs side by side on a GPU: so many, of networks below so many parameters, with so many bytes for each.
_SIDE_BY_SIDE, _SMALL, _RUN_BYTES = 8, 1_000_000, 8 << 30


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        config: its settings.
        command: what anyone can type for the very run.
    """

    config: Config
    command: str

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{result_name(self.config)}.seed{self.config.training.seed}"

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return Path(self.config.environment.runs_root).expanduser() / "bench" / self.name

    def is_recorded(self, results: Path) -> bool:
        """Whether its result is there already, of a run that was made elsewhere; one that was begun here goes on.

        Args:
            results: folder.

        Raises:
            RunError: there is one of other settings or test clips, or a damaged one; better met before a long training
                than after it.
        """
        target = results / f"{self.name}.json"
        scored = {"weights": "last", "crops": self.config.data.test_crops, "span": self.config.data.test_span}
        require_same_settings(target, {"config": self.config.to_dict(), **scored})
        if not target.exists() or (self.folder / "config.yaml").exists():
            return False
        self._require_same_tests(target, moved=target)
        return True

    def is_done(self) -> bool:
        """Whether the run is trained and evaluated.

        Raises:
            RunError: its folder holds a run of other settings, or one that was scored on other test clips.
            ConfigError: the settings in its folder are damaged.
        """
        if not (self.folder / "config.yaml").exists():
            return False
        found, wanted = Run.open(self.folder).config.to_dict(), self.config.to_dict()
        other = [
            f"{section}.{key} {found[section][key]} instead of {value}"
            for section, keys in wanted.items()
            for key, value in keys.items()
            if found[section][key] != value and f"{section}.{key}" not in MOVABLE | {"environment.name"}
        ]
        if other:
            raise RunError(
                f"{self.folder} holds a run with {', '.join(other)}; move it away, or put this grid elsewhere with "
                "--set environment.runs_root=FOLDER"
            )
        result = self.folder / "result.json"
        if not result.exists():
            return False
        self._require_same_tests(result, moved=self.folder)
        return True

    def _require_same_tests(self, result: Path, moved: Path) -> None:
        """Refuse a result of other test clips than its data set has now; without clips here there is nothing to ask."""
        path, data = self.config.store_path(), self.config.data
        if path.exists():
            store = ClipStore.open(path)
            _, tests = split(store, data.protocol, data.name)
            elsewhere = "put this grid elsewhere with --set environment.runs_root=FOLDER and --results FOLDER"
            require_same_tests(result, store, tests, f"move {moved} away, or {elsewhere}")


def plan(
    datasets: Sequence[str],
    models: Sequence[str],
    recipes: Sequence[str],
    seeds: int,
    protocol: str | None = None,
    environment: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[Cell]:
    """Lay out a grid, in the order in which its runs are worth having: all networks with seed 0, then with seed 1.

    Args:
        datasets: names of their configurations, or paths.
        models: names of networks, or paths.
        recipes: ``ours`` (that of the data set), ``authors`` (that of the network, if it has one), names or paths.
        seeds: how many, from 0.
        protocol: None takes each data set's own, and all folds where it is one of them.
        environment: None detects it.
        overrides: of all runs alike, by section.key, as given on the command line.

    Raises:
        ConfigError: there is no such configuration, a setting is wrong, two runs have one name, or nothing is left to
            train.
    """
    given = dict(overrides or {})
    columns: list[tuple[Config, str, dict[str, str | None]]] = []
    for dataset, model, recipe in itertools.product(datasets, models, recipes):
        own = {OURS: recipe_of("data", dataset) or "default", AUTHORS: recipe_of("model", model)}
        if chosen := own.get(recipe, recipe):
            config = load_config(model, dataset, chosen, environment, given)
            flags = {"--model": model, "--dataset": dataset, "--recipe": chosen, "--env": environment}
            protocols = [protocol] if protocol else _protocols(dataset, config.data.protocol)
            columns += [(config, tested, flags | {"--protocol": tested}) for tested in protocols]
    cells: dict[str, Cell] = {}  # two names of a recipe may stand for one run
    for seed, (config, tested, flags) in itertools.product(range(seeds), columns):
        words = [word for flag, value in flags.items() if value for word in (flag, value)]
        words += ["--seed", str(seed)]
        words += [word for key, value in given.items() if key not in MOVABLE for word in ("--set", f"{key}={value}")]
        settings = with_overrides(config, {"data.protocol": tested, "training.seed": seed})
        cell = Cell(settings, shlex.join(["last", "train", *words]))
        if cells.setdefault(cell.name, cell).config.to_dict() != settings.to_dict():
            raise ConfigError(
                f"two different runs of this grid would be {cell.name}; give a recipe of your own a name in its file, "
                "as training.recipe, or make a grid of its own with --results and --set environment.runs_root"
            )
    if not cells:
        raise ConfigError("there is nothing to train: none of the networks has a recipe of its authors; add ours")
    return list(cells.values())


def _protocols(dataset: str, default: str) -> list[str]:
    """The data set's default protocol, or all folds where it is one."""
    if board_of(default) != FOLDS:
        return [default]
    return [name for name in load_dataset(dataset).protocols if board_of(name) == FOLDS]


def default_jobs(cells: Sequence[Cell], device: str, threads: int) -> int:
    """How many of these runs to make side by side: as many as have threads of their own, or on each GPU.

    A small network leaves most of a GPU idle, so there eight of them share it, or as many as its memory has 8 GiB for.
    One alone has a GPU where a network is larger, or where its steps cannot be captured, as the host would then hold
    all of them up.

    Args:
        cells: the runs.
        device: as for :func:`run`.
        threads: of each.
    """
    gpus = _gpus(device)
    if not gpus:
        return max(1, engines.cores() // threads)
    several = {c.config.data: c.config for c in cells if c.config.model.bodies == "mean"}
    if any(map(_bodies_vary, several.values())) or any(size >= _SMALL for size in _sizes(cells)):
        return 1
    places = [torch.device(device)] if ":" in device else [torch.device("cuda", i) for i in range(gpus)]
    free = min(torch.cuda.mem_get_info(place)[0] for place in places)
    return max(1, min(_SIDE_BY_SIDE, free // _RUN_BYTES))


def _bodies_vary(config: Config) -> bool:
    """Whether its clips, as far as they are prepared, may have unequal numbers of bodies, which no graph can have."""
    most = config.data.max_bodies
    if most == 1:
        return False
    try:
        bodies = open_store(config).clips["bodies"]
    except (OSError, ValueError):
        return True  # the runs themselves will say what is wrong
    return int(bodies.min()) < min(most, int(bodies.max()))


def _sizes(cells: Sequence[Cell]) -> Iterator[int]:
    """Parameters of each network of a grid, with NTU's joints and classes."""
    layout = load_layout("ntu")
    for config in {cell.config.model: cell.config for cell in cells}.values():
        with torch.device("meta"):
            yield count_parameters(build_model(config, 60, layout))


def run(
    cells: Sequence[Cell],
    jobs: int | None,
    threads: int,
    device: str,
    engine: engines.Engine,
    results: Path,
    reporter: Reporter,
    reports: bool = True,
) -> dict[str, str]:
    """Make the runs that are not there yet, and copy the result of each into ``results``.

    A run that fails does not keep the others from going on.

    Args:
        cells: the runs.
        jobs: how many at a time, on each GPU where there are some; None takes as many as suit the machine, and with Ray
            as many as the cluster has cores.
        threads: of each.
        device: ``auto``, ``cpu``, ``cuda`` (all GPUs, in turn) or ``cuda:N``.
        engine: processes of this machine, in whose place threads share its GPUs, or a Ray cluster that sees the same
            folders.
        results: folder.
        reporter: says what happens.
        reports: whether each run gets its report; ``last evaluate`` writes it later.

    Returns:
        Why a run failed, by its name.

    Raises:
        Interrupted: by Ctrl-C; each run has a checkpoint of the very step.
        EngineError: a worker died, or the engine is not installed.
    """
    failed: dict[str, str] = {}
    waiting: dict[str, Cell] = {}
    for cell in cells:
        try:
            if cell.is_done():
                _collect(cell, results)
            elif not cell.is_recorded(results):
                waiting[cell.name] = cell
        except (OSError, ValueError) as error:
            failed[cell.name] = str(error)
            reporter.say(f"{cell.name}: {error}")
    total = len(waiting)
    done = len(cells) - total - len(failed)
    refused = f", {len(failed)} refused" if failed else ""
    if jobs is None:
        jobs = 0 if engine == "ray" else default_jobs(cells, device, threads)
    if engine == "processes" and (gpus := _gpus(device)):
        # Threads share a GPU's context, and so fill each other's gaps, as processes cannot.
        engine, jobs = "threads", jobs * gpus
    reporter.say(f"{len(cells)} runs: {done} done, {total} to do{refused}, {jobs or 'as many as fit'} at a time")
    if not waiting:
        return failed
    folder = next(iter(waiting.values())).folder.parent.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    # Workers, which may be on other machines, leave word on this desk, and look there whether to stop.
    with contextlib.ExitStack() as desks:
        desk = Path(desks.enter_context(TemporaryDirectory(dir=folder, prefix=".grid-")))
        desks.enter_context(stop_on_signal(reporter, (desk / STOP).touch))
        work = partial(_work, desk=desk, threads=threads, device=device, reports=reports)
        # Closed first, so that word to stop lies on the desk until all have read it.
        running = contextlib.closing(engines.run(work, [[cell] for cell in waiting.values()], jobs, engine))
        for _ in desks.enter_context(running):
            for cell in [cell for cell in waiting.values() if (desk / cell.name).exists()]:
                del waiting[cell.name]
                try:
                    if reason := (desk / cell.name).read_text(encoding="utf-8"):
                        raise RunError(reason)
                    words = _collect(cell, results)
                except (OSError, ValueError) as error:
                    failed[cell.name] = words = str(error)
                ended = total - len(waiting)
                left = timedelta(seconds=round((time.monotonic() - start) / ended * len(waiting)))
                reporter.say(f"{ended}/{total} {cell.name}: {words}; about {left} left")
    if waiting:
        raise Interrupted(f"stopped with {len(waiting)} of {total} runs to do; the same command goes on where it was")
    return failed


def _work(cell: Cell, desk: Path, threads: int, device: str, reports: bool) -> None:
    """Make a run, and leave a file under its name on the desk: empty, or why it failed; none if it was to stop."""
    stop = (desk / STOP).exists
    if stop():
        return
    torch.set_num_threads(threads)
    reason = ""
    try:
        place = choose_device(_place(device))
        if begun := (cell.folder / "config.yaml").exists():
            here = cell.config.to_dict()
            moved = {key: here[key.split(".")[0]][key.split(".")[1]] for key in MOVABLE}
            made = workflow.resume(cell.folder, moved, place, cell.command)
        else:
            made = workflow.begin(cell.config, str(cell.folder), place, cell.command)
        workflow.train(made, begun, place, Reporter(quiet=True), stop, reports)
    except Interrupted:
        return
    except Exception as error:  # whatever it is, the other runs go on
        is_told = isinstance(error, (OSError, ValueError, RuntimeError))
        reason = str(error) if is_told and str(error) else repr(error)
    write_text(desk / cell.name, reason)


def _collect(cell: Cell, results: Path) -> str:
    """Copy a result to where results lie, and say in a few words what it is."""
    copied = Run.open(cell.folder).copy_result("result.json", results)
    result = json.loads(copied.read_text(encoding="utf-8"))
    return f"top-1 {result['top1']:.1f} after {result['seconds']:,.0f} s"


def _gpus(device: str) -> int:
    """How many GPUs to spread over."""
    return torch.cuda.device_count() if device in {"auto", "cuda"} else int(device.startswith("cuda"))


def _place(device: str) -> str:
    """The device of this worker: processes and threads are numbered by their names, and take the GPUs in turn."""
    names = multiprocessing.current_process().name, threading.current_thread().name
    number = next((int(found[0]) for name in names if (found := re.search(r"\d+$", name))), None)
    gpus = _gpus(device)
    return device if number is None or gpus < 2 else f"cuda:{number % gpus}"
