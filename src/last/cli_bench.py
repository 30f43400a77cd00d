"""The commands of `last bench`: networks side by side."""

import shlex
import sys
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from last.cli_data import Positive, assignments, network_name, plain_name, reporter
from last.cli_look import bodies_in_words, plain_table, print_json
from last.files import write_text

bench = App(name="bench", help="Compare networks on the same clips and the same machine.")


@Parameter(name="*")
@dataclass(frozen=True)
class Making:
    """How the runs of a grid are made: what all of them have in common, and how many go at a time."""

    env: Annotated[str | None, Parameter(help="Machine: local, kaggle or gcp; detected where not given.")] = None
    epochs: Annotated[Positive | None, Parameter(help="Passes over the training clips; else the recipe's own.")] = None
    set: Annotated[
        list[str] | None, Parameter(help="Any other setting of all runs, as section.key=value.", negative=())
    ] = None
    jobs: Annotated[
        Positive | None,
        Parameter(
            help="Runs at a time, on each GPU where there are some; as many as suit the machine where not given."
        ),
    ] = None
    threads: Annotated[Positive, Parameter(help="Of each run.")] = 1
    device: Annotated[str, Parameter(help="auto, cpu, cuda (all GPUs) or cuda:N.")] = "auto"
    engine: Annotated[Literal["processes", "ray"], Parameter(help="Processes of this machine, or a Ray cluster.")] = (
        "processes"
    )

    def overrides(self) -> dict[str, str]:
        """The settings that were given, by section.key.

        Raises:
            ConfigError: ``--set`` without a value.
        """
        epochs = {} if self.epochs is None else {"training.epochs": str(self.epochs)}
        return assignments(self.set or []) | epochs


AS_USUAL = Making()
Names = Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())]


@bench.command
def accuracy(
    *,
    datasets: Names = None,
    models: Names = None,
    recipes: Names = None,
    seeds: Positive = 1,
    protocol: str | None = None,
    making: Making = AS_USUAL,
    results: Path = Path("results"),
    pictures: Path | None = None,
    reports: bool = True,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Train networks on data sets by recipes with seeds, a few at a time, and print the scoreboard.

    Each is an ordinary run under <runs_root>/bench; those that are there, or have a record among the results, are not
    made again, and Ctrl-C leaves all of them to go on with by the same command. Exit code 1 where one failed.

    Args:
        datasets: which; those of the scoreboard where not given.
        models: which; those of the scoreboard where not given.
        recipes: ours (the data set's), authors (the network's), or any by name; both where not given.
        seeds: how many, from 0.
        protocol: the data set's own where not given, and all folds where it is one of them.
        results: folder that gets a copy of each run's result.json; the scoreboard is made from what is there.
        pictures: folder that gets top-1 against parameters and MACs, drawn from ``results``.
        reports: write the report of each run, seconds of one core; 'last evaluate' writes it at any time.
        dry_run: print the command of each run that is to be made, and make none.
    """
    from last.bench import grid
    from last.bench.board_pictures import draw_board
    from last.bench.entries import read_records
    from last.bench.scoreboard import DATASETS, MODELS, boards, scoreboard
    from last.config import recipe_of

    models = [network_name(name) for name in models or MODELS]
    recipes = [plain_name(name) for name in recipes or (grid.OURS, grid.AUTHORS)]
    chosen = [plain_name(name) for name in datasets or DATASETS]
    cells = grid.plan(chosen, models, recipes, seeds, protocol, making.env, making.overrides())
    alone = [name for name in models if recipe_of("model", name) is None]
    if grid.AUTHORS in recipes and alone:
        reporter.say(f"no recipe of their authors, so trained by ours alone: {', '.join(alone)}")
    if dry_run:
        waiting = [cell for cell in cells if not (cell.is_done() or cell.is_recorded(results))]
        for cell in waiting:
            reporter.answer(cell.command)
        reporter.say(f"{len(waiting)} of {len(cells)} runs are to be made")
        return 0
    try:
        how = (making.jobs, making.threads, making.device, making.engine)
        failed = grid.run(cells, *how, results, reporter, reports)
    finally:  # a grid that was stopped is a table already
        names = {cell.config.data.name for cell in cells}
        found = [board for board in boards(read_records(results)) if board.dataset in names]
        reporter.answer(scoreboard(found, list(dict.fromkeys(cell.config.model.name for cell in cells))))
        for picture in [drawn for board in found for drawn in draw_board(board, pictures)] if pictures else []:
            reporter.say(f"drawn: {picture}")
    for name, reason in failed.items():
        reporter.say(f"last: {name} failed: {reason}")
    return int(bool(failed))


@bench.command
def speed(
    *,
    models: Names = None,
    runtimes: Names = None,
    layout: str = "ntu",
    frames: Annotated[int, Parameter(validator=Number(gte=8))] = 64,
    bodies: Positive = 1,
    classes: Positive = 60,
    batch: Annotated[list[Positive] | None, Parameter(consume_multiple=True, negative=())] = None,
    threads: Annotated[list[Positive | Literal["all"]] | None, Parameter(consume_multiple=True, negative=())] = None,
    phase: Annotated[list[Literal["infer", "train"]] | None, Parameter(consume_multiple=True, negative=())] = None,
    device: str = "auto",
    rounds: Positive = 10,
    reference: str = "efficientgcn_b0",
    json: Annotated[bool, Parameter(negative=())] = False,
    results: Path | None = None,
) -> None:
    """Time networks against each other, interleaved in one process: latency, throughput, training, peak memory.

    Times are medians over rounds with the range between quartiles. Ratios between networks mean more than times do,
    since whatever else the machine does slows all of them alike; leave it alone nevertheless.

    Args:
        models: which; all where not given.
        runtimes: eager, fused (the kernels of LAST-E), compiled (torch.compile, a minute or more for each network and
            shape); on a GPU also graph, fused_graph (the step captured), and in bfloat16 compiled_half, graph_half,
            fused_graph_half; eager and fused where not given.
        layout: the skeleton.
        frames: of the clips.
        bodies: in each clip.
        classes: size of the output.
        batch: clips a call, several to compare; 1 and 8 (GPU: 64) where not given. Training takes the largest.
        threads: on the CPU, several to compare; 1 and all where not given. Training takes the most.
        phase: infer (the network alone), train (the whole step of 'last train'); both where not given.
        device: auto, cpu, cuda or cuda:N.
        rounds: each a moment of every network; more of them for a quieter median.
        reference: the network that the others are compared with.
        json: print records in JSON.
        results: file that gets the records, such as results/speed_cpu.json.
    """
    import torch

    from last import provenance
    from last.bench.speed import measure, plan, ratios
    from last.data.engines import cores
    from last.models import list_models
    from last.recognizer import choose_device
    from last.skeleton import load_layout

    chosen, reference = choose_device(device), network_name(reference)
    counts = [cores() if count == "all" else count for count in threads or (1, "all")]
    if chosen.type == "cuda":
        counts = [max(counts)]
    torch.set_num_threads(max(counts))  # which the record of the machine tells
    cases, faults = plan(
        [network_name(name) for name in models or list_models()],
        runtimes or ["eager", "fused"],
        chosen,
        sorted(set(counts)),
        sorted(set(batch or (1, 64 if chosen.type == "cuda" else 8))),
        phase or ["infer", "train"],
        load_layout(layout),
        frames,
        bodies,
        classes,
    )
    for fault in faults if runtimes else []:  # by default each network is run as it can be
        reporter.say(fault)
    speeds = measure(cases, rounds, torch.Generator().manual_seed(0), reporter)
    records = [asdict(row) for row in speeds]
    if results is not None:
        command = shlex.join(["last", *sys.argv[1:]])
        content = {"kind": "speed", "records": records, **provenance.record(command, chosen)}
        write_text(results, dumps(content, indent=1) + "\n")
    if json:
        print_json(records)
        return
    reporter.answer(f"{provenance.hardware(chosen)}; layout {layout}, {frames} frames, {bodies_in_words(bodies)}")
    compared = ratios(speeds, reference)
    words = ("model", "runtime", "phase")
    columns = (*words, "batch", "threads", "ms a call", "spread", "clips/s", "peak MB", *["ratio"] * any(compared))
    table = plain_table(*columns, words=words)
    for row, ratio in zip(speeds, compared, strict=True):
        numbers = [f"{row.ms_median:,.2f}", f"{row.ms_spread:,.2f}" if row.ms_spread else "-"]
        numbers += [f"{row.clips_per_second:,.1f}", "-" if row.peak_mb is None else f"{row.peak_mb:,.0f}"]
        numbers += ["-" if ratio is None else f"{ratio:.2f}"] * any(compared)
        table.add_row(row.model, row.runtime, row.phase, str(row.batch), str(row.threads), *numbers)
    reporter.answer(table)
    if any(compared):
        reporter.answer(f"ratio: how many times as fast as {reference}")
