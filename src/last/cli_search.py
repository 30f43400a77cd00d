"""The command `last search`: a recipe for a data set, found without its test part."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from last.cli_bench import AS_USUAL, Making
from last.cli_data import Positive, network_name, plain_name, reporter
from last.cli_look import plain_table


def search(
    space: Path,
    /,
    *,
    dataset: str,
    model: str = "last_e_nano",
    recipe: str | None = None,
    protocol: str | None = None,
    parts: Annotated[int, Parameter(validator=Number(gte=2))] = 4,
    seeds: Positive = 1,
    making: Making = AS_USUAL,
    results: Path = Path("results"),
    write: Path | None = None,
) -> None:
    """Search for a recipe on held-out parts of the training clips; the test part is never looked at.

    Axes are settled in the order of the file; an alternative is taken if it beats the best so far by more than one
    standard error over the held-out clips. A log keeps all trials after each axis. Ctrl-C leaves all to go on with by
    the same command.

    Args:
        space: YAML file of axes, each a list of alternatives, each with settings: {mixing: [{training.mix: 0.5}]}.
        dataset: whose clips.
        model: network that is trained.
        recipe: that the search begins with; the data set's own where not given.
        protocol: whose training clips are parted; the data set's own where not given.
        parts: how many; by subjects, cameras or setups where the protocol keeps these apart.
        seeds: of each trial, from 0.
        results: folder that gets the log.
        write: new file that gets the recipe that was found, such as configs/training/mine.yaml.
    """
    from last.bench.search import (
        Plan,
        Search,
        read_space,
        require_own_log,
        score,
        settle,
        write_log,
        write_recipe,
    )
    from last.config import is_file, load_config, recipe_of
    from last.run import result_name
    from last.setting_values import ConfigError

    if write is not None and not is_file(str(write)):
        raise ConfigError(f"--write {write} does not end in .yaml, by which 'last train --recipe' knows a file; add it")
    if write is not None and write.exists():
        raise ConfigError(f"--write {write} is there already and is left alone; give another name, or move it away")
    dataset, axes, given = plain_name(dataset), read_space(space), making.overrides()
    plan = Plan(
        dataset,
        network_name(model),
        plain_name(recipe) if recipe else recipe_of("data", dataset) or "default",
        protocol or given.pop("data.protocol", None) or load_config(dataset=dataset).data.protocol,
        parts,
        seeds,
        given,
        making.env,
        str(space),
    )
    config = plan.config()
    for alternative in (alternative for axis in axes.values() for alternative in axis):
        try:  # a slip in the last axis shows before the first training
            plan.config(alternative)
        except ConfigError as error:
            raise ConfigError(f"the trial {_in_words(alternative)} of {space} cannot be made: {error}") from error
    log = results / f"{result_name(config)}.search.json"
    require_own_log(log, plan)
    command = shlex.join(["last", *sys.argv[1:]])

    def keep(search: Search) -> None:
        write_log(log, plan, axes, search, command, making.device)
        if search.steps:
            axis, taken = search.steps[-1]
            settled = _in_words(taken) or "none is better, so all stays"
            reporter.say(f"{axis}: {settled}; top-1 on held-out clips {search.chosen.top1:.1f}")

    how = (making.jobs, making.threads, making.device, making.engine, reporter)
    found = settle(axes, lambda trials: score(plan, trials, *how), keep)
    shares = (f"part {i}" for i in range(1, parts + 1))
    table = plain_table("settings", "top-1", "lead", "error", *shares, words=("settings",))
    for trial in sorted(found.trials, key=lambda trial: -trial.top1):
        what = _in_words(trial.settings) or "as the recipe has it"
        if trial.fault:
            table.add_row(what, trial.fault)
            continue
        lead, error = trial.lead(found.trials[0])
        table.add_row(what, f"{trial.top1:.1f}", f"{lead:+.1f}", f"{error:.1f}", *(f"{p:.1f}" for p in trial.parts))
    reporter.answer(table)
    reporter.answer(f"{len(found.trials)} trials: {log}")
    if write is not None:
        write_recipe(write, plan, found, log)
        reporter.answer(f"recipe: {write}; its score on the test part is that of 'last train --recipe {write}'")


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())
