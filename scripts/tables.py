"""Fill the tables in README and docs from the records in results/: `python scripts/tables.py`, or `--check` them.

A table stands between lines `<!-- results:NAME -->` and `<!-- /results -->`; NAME is a data set for LAST's accuracies
on it, ``real`` for those by their own recipes on all but the embedded one, ``scoreboard`` for networks side by side,
``losses`` for where LAST is not ahead of its peers, ``networks`` for what they cost, ``speed`` for how fast they are,
``training`` for how fast they train, ``parity`` for accuracies by kernels, ``search`` for recipes tried on held-out
clips, ``ablation`` for what each part of a recipe is worth, ``data`` and ``feed`` for speeds of the data pipeline,
``fuzz``, or ``pretrained`` for the trained networks of the package.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from last.bench.entries import FOLDS, Entry, Record, entries, read_records, spread
from last.bench.scoreboard import DATASETS, Board, as_stated, boards, losses, scoreboard
from last.bench.significance import paired_bootstrap
from last.bench.speed import Speed
from last.bench.speed import markdown as markdown_of_speeds
from last.config import load_config
from last.models.cost import costs
from last.models.cost import markdown as markdown_of_costs
from last.pretrained import list_pretrained
from last.run import scored_on, span_of
from last.settings import is_of_last, share_of_crop

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BEST = 10  # trials of a search that are shown
# A data set, a recipe, the weights that are scored, and how many crops of each clip, of which share of it.
Kind = tuple[str, str, str, tuple[int, float]]
# What stands in the tables of ablations: data sets, and for each change what has it; the first line has none.
FIVE, MIDDLE, WHOLE = (5, 0.7), (1, 0.7), (1, 1.0)
FEW_CLIPS = (
    ("`few_clips_mixed` as it is", "few_clips_mixed", "last", FIVE),
    ("without the moving average", "few_clips_mixed", "unaveraged", FIVE),
    ("one test crop instead of five", "few_clips_mixed", "last", MIDDLE),
    ("without mixing, 48 frames (`few_clips`)", "few_clips", "last", FIVE),
    ("the same, tested on whole clips", "few_clips", "last", WHOLE),
    ("taught by three small DD-Nets", "few_clips_mixed_distilled", "last", FIVE),
    ("with branches in training", "few_clips_mixed_branched", "last", FIVE),
    ("the joint stream alone", "few_clips_mixed_joint", "last", FIVE),
    ("started from `last_e_nano.nw_ucla`", "few_clips_mixed_started", "last", FIVE),
)
TWO_PERSONS = (
    ("`two_persons` as it is", "two_persons", "last", FIVE),
    ("the first person alone", "two_persons_first", "last", FIVE),
)
ABLATIONS = ((("utd_mhad", "msr_action3d"), FEW_CLIPS), (("sbu",), TWO_PERSONS))
SCORES = ("top1", "top1_without_copies", "top5", "mean_class_accuracy")
MARKED = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def figures_table(kind: str) -> str:
    """How fast data are prepared and read, or how fast clips come to the device."""
    lines = ["| what | value | unit |", "|---|---|---|"]
    measured = [record for record in read_records(RESULTS) if record["kind"] == kind]
    lines += [f"| {f['what']} | {f['value']:,} | {f['unit']} |" for record in measured for f in record["figures"]]
    return "\n".join(lines) + f"\n\n{_machine(measured[0])}\n" if measured else "not measured\n"


def fuzz_table() -> str:
    """What became of damaged files, by format."""
    lines = [
        "| format | damaged files | still clips | refused | faults | slowest, ms | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    measured = [record for record in read_records(RESULTS) if record["kind"] == "fuzz"]
    for record in measured:
        for name, row in record["formats"].items():
            counts = (f"{row[key]:,}" for key in ("examples", "clips", "refusals", "faults"))
            lines.append(f"| {name} | {' | '.join(counts)} | {1e3 * row['slowest']:.0f} | {row['memory'] / 1e6:.0f} |")
    return "\n".join(lines) + f"\n\n{_machine(measured[0])}\n" if measured else "not measured\n"


def _machine(record: Record) -> str:
    return f"{record['hardware']}, commit {record['commit']}, {record['date']}."


def table(chosen: str) -> str:
    """LAST's accuracies on a data set, for each way to get them; or on all ``real`` ones, by the recipe of each."""
    lines = [
        "| data set | model | parameters | protocol | recipe, epochs | scored | seeds | top-1 | top-1 without copies "
        "| top-5 | mean class | minutes a seed |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    found = [
        entry
        for entry in entries(read_records(RESULTS))
        if is_of_last(entry.model)
        and (
            entry.first["dataset"] == chosen
            or (chosen == "real" and entry.first["dataset"] != "synthetic" and _by_its_recipe(entry.first))
        )
    ]
    for entry in found:
        first, runs = entry.first, {seed: entry.by_seed[seed] for seed in entry.seeds_alike}
        protocol = entry.protocol
        if protocol == FOLDS:
            folds = sorted({name.removeprefix("fold") for tested in runs.values() for name in tested})
            protocol = f"mean of folds {', '.join(folds)}"
        scores = (spread([entry.score(seed, key) for seed in runs]) for key in SCORES)
        minutes = _minutes([list(tested.values()) for tested in runs.values()])
        named = (first["dataset"], first["model"], f"{first['parameters']:,}", protocol)
        weights = "" if first["weights"] == "last" else f", {first['weights']} weights"
        made = (f"{first['recipe']}, {first['epochs']}", scored_on(first) + weights, ", ".join(map(str, runs)))
        cells = (*named, *made, *scores, minutes)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if found else "not measured\n"


def _by_its_recipe(record: Record) -> bool:
    """Whether it is what training on the data set gives if nothing else is said."""
    return as_stated(record) and record["recipe"] == load_config(dataset=record["dataset"]).training.recipe


def _minutes(runs: list[list[Record]]) -> str:
    """Of each seed, over the folds that it was trained for, by what it was trained on."""
    by_machine: dict[str, list[str]] = {}
    for records in runs:
        machine = records[0]["hardware"].rpartition(", ")[2]
        by_machine.setdefault(machine, []).append(f"{sum(record['seconds'] for record in records) / 60:.0f}")
    return "; ".join(f"{', '.join(minutes)} ({machine})" for machine, minutes in by_machine.items())


def _boards() -> list[Board]:
    """Of people: a score on the embedded set says nothing of them."""
    return [board for board in boards(read_records(RESULTS), DATASETS) if board.dataset != "synthetic"]


def speed_table() -> str:
    """How fast networks are, a table for each machine and size of input."""
    parts = []
    for record in read_records(RESULTS):
        if record["kind"] == "speed":
            speeds = [Speed(**row) for row in record["records"]]
            groups = dict.fromkeys((s.device, s.frames, s.joints, s.bodies) for s in speeds)
            for group in groups:
                _, frames, joints, bodies = group
                chosen = [s for s in speeds if (s.device, s.frames, s.joints, s.bodies) == group]
                size = f"{frames} frames, {joints} joints, bodies: {bodies}"
                parts.append(f"{markdown_of_speeds(chosen)}\n{size}; {_machine(record)}\n")
    return "\n".join(parts) or "not measured\n"


def training_tables() -> str:
    """How fast LAST trains: by each runtime against the machine's bounds, by size, and where the time goes."""
    measured = [record for record in read_records(RESULTS) if record["kind"] == "training"]
    return "\n".join(map(_training, measured)) or "not measured\n"


def _training(record: Record) -> str:
    """The tables of the parts that a record has."""
    parts = (
        ("ways", _ways),
        ("costs", _costs),
        ("profile", _profile),
        ("side", _side_by_side),
        ("branches", _branches),
    )
    machine = _machine(record)
    if "bounds" in record:
        machine = (
            f"The machine's best: {record['bounds']['gflops']:,.0f} GFLOP/s in a float32 product of matrices, "
            f"{record['bounds']['gb_per_second']:.0f} GB/s read and written in a copy. {machine}"
        )
    return "\n".join([*(table(record) for part, table in parts if part in record), f"{machine}\n"])


def _ways(record: Record) -> str:
    eager = {row["model"]: row["ms_median"] for row in record["ways"] if row["runtime"] == "eager"}
    bounds = {(row["model"], row["runtime"]): row for row in record.get("bounds", {"rows": []})["rows"]}
    same = {"graph": "eager", "fused_graph": "fused"}  # capturing a step changes nothing that it moves or computes
    rows = [
        (
            f"`{row['model']}`",
            row["runtime"],
            f"{row['ms_median']:,.0f}" + (f" ± {row['ms_spread']:.0f}" if row["ms_spread"] else ""),
            f"{row['clips_per_second']:,.0f}"
            + (f" ({eager[row['model']] / row['ms_median']:.1f})" if row["model"] in eager else ""),
            _megabytes(row),
            *(
                f"{bound[key]:,}"
                if (bound := bounds.get((row["model"], same.get(row["runtime"], row["runtime"]))))
                else "not measured"
                for key in ("arithmetic", "memory", "kept_mb")
            ),
        )
        for row in record["ways"]
    ]
    header = ("model", "runtime", "ms a step", "clips a second (times eager)", "MB")
    return _grid((*header, "bound by arithmetic", "bound by memory", "MB a clip kept for backward"), rows)


def _costs(record: Record) -> str:
    rows = [
        (
            *(str(row[key]) for key in ("batch", "frames", "joints")),
            f"{row['ms_median']:,.0f}",
            f"{1e3 * row['ms_median'] / (row['batch'] * row['frames'] * row['joints']):.2f}",
            _megabytes(row),
        )
        for row in record["costs"]
    ]
    return _grid(("clips", "frames", "joints", "ms a step", "µs a clip, frame and joint", "MB"), rows)


def _profile(record: Record) -> str:
    rows = [(row["runtime"], f"`{row['operation']}`", str(row["percent"])) for row in record["profile"]]
    return _grid(("runtime", "operation", "% of a step"), rows)


def _side_by_side(record: Record) -> str:
    rows = [
        (str(row["runs"]), row["runtime"], f"{row['side_by_side']:,.0f}", f"{row['gain']:.2f}")
        for row in record["side"]
    ]
    return _grid(("trainings side by side", "runtime", "clips a second of all", "times one after another"), rows)


def _branches(record: Record) -> str:
    plain = {(row["model"], row["runtime"]): row for row in record["branches"] if row["structure"] == "plain"}
    rows = [
        (
            f"`{row['model']}`",
            row["runtime"],
            row["structure"],
            f"{row['ms_median']:,.0f}",
            f"{row['ms_median'] / plain[row['model'], row['runtime']]['ms_median']:.2f}",
            _megabytes(row),
        )
        for row in record["branches"]
    ]
    return _grid(("model", "runtime", "structure", "ms a step", "times plain", "MB"), rows)


def parity_table() -> str:
    """Accuracies by kernels and by plain layers, seed by seed."""
    rows = []
    for record in read_records(RESULTS):
        if record["kind"] == "parity":
            for row in record["rows"]:
                scores = ", ".join(f"{seed}: {top1:.1f}" for seed, top1 in row["top1"].items())
                made_by = (f"`{record['model']}`, {record['dataset']}", row["kernels"])
                rows.append((*made_by, spread(list(row["top1"].values())), scores))
    return _grid(("network, data set", "kernels", "top-1", "by seed"), rows) if rows else "not measured\n"


def ablation_tables() -> str:
    """What each part of a recipe is worth to LAST-E nano: its scores with it changed, and over how many seeds."""
    found = {
        _kind(entry.first): entry
        for entry in entries(read_records(RESULTS))
        if entry.model == "last_e_nano" and entry.complete
    }
    return "\n".join(_ablation_table(found, datasets, changes) for datasets, changes in ABLATIONS)


def _ablation_table(found: Mapping[Kind, Entry], datasets: Sequence[str], changes: Sequence[tuple[Any, ...]]) -> str:
    bases = [found.get((dataset, *changes[0][1:])) for dataset in datasets]
    rows = []
    for what, *kind in changes:
        row = [what]
        for dataset, base in zip(datasets, bases, strict=True):
            entry = found.get((dataset, *kind))
            row.append("not measured" if entry is None else f"{spread(entry.scores())} ({len(entry.complete)})")
            if entry is None or base is None or entry is base:
                row.append("")
            else:
                scored_anew = (entry.first["recipe"], entry.complete) == (base.first["recipe"], base.complete)
                both, generator = (entry.correct(), base.correct()), np.random.default_rng(0)
                row.append(str(paired_bootstrap(*both, generator, same_trainings=scored_anew)))
        rows.append(row)
    return _grid(["", *(cell for dataset in datasets for cell in (dataset, "difference"))], rows)


def _kind(record: Record) -> Kind:
    crops = record["crops"]
    return record["dataset"], record["recipe"], record["weights"], (crops, share_of_crop(span_of(record), crops))


def search_tables() -> str:
    """What was tried on held-out training clips, the best first."""
    parts = []
    for record in (record for record in read_records(RESULTS) if record["kind"] == "search"):
        rows = []
        ranked = sorted(record["trials"], key=lambda trial: -trial.get("top1", -1))
        for trial in [*ranked[:BEST], *(trial for trial in ranked[BEST:] if not trial["settings"])]:
            what = ", ".join(f"`{key}={_value(value)}`" for key, value in trial["settings"].items()) or "the recipe"
            scores = [trial["fault"], "", ""] if "fault" in trial else [
                f"{trial['top1']:.1f}", f"{trial['lead']:+.1f} ({trial['standard_error']:.1f})",
                ", ".join(f"{part:.1f}" for part in trial["parts"]),
            ]  # fmt: skip
            rows.append((what, *scores))
        header = ("settings", "top-1", "lead (standard error)", "by part")
        about = (
            f"{record['dataset']}, {record['held_out_clips']} clips of {record['protocol']}'s training part held out; "
            f"recipe `{record['recipe']}`, {record['config']['training']['epochs']} epochs, "
            f"seeds a trial: {record['seeds']}"
        )
        more = f", the best {BEST} of {len(ranked)} and the recipe itself" if len(ranked) > BEST else ""
        parts.append(f"{about}{more}:\n\n{_grid(header, rows)}")
    return "\n".join(parts) or "not measured\n"


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _megabytes(row: Record) -> str:
    return "not measured" if row["peak_mb"] is None else f"{row['peak_mb']:,.0f}"


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *rows))


def networks_table() -> str:
    """What networks cost, counted anew."""
    return markdown_of_costs(costs())


def pretrained_table() -> str:
    """The trained networks of the package, of which its own index tells."""
    rows = []
    for known in list_pretrained():
        scores, folds = list(known.top1_by_seed.values()), len(known.tested_by)
        of_all = spread(scores) + (f", mean of {folds} folds" if folds > 1 else "")
        card = f"[`{known.name}`](../src/last/pretrained/{known.card.name})"
        figures = (f"{known.top1:.1f}", of_all, ", ".join(known.top1_by_seed))
        rows.append((card, f"{known.parameters:,}", f"`{known.dataset}`, {known.protocol}", *figures))
    header = ("name and card", "parameters", "data set, protocol", "top-1 of these weights", "of all seeds", "seeds")
    return _grid(header, rows)


TABLES = {
    "data": lambda: figures_table("data"),
    "feed": lambda: figures_table("feed"),
    "training": training_tables,
    "parity": parity_table,
    "search": search_tables,
    "ablation": ablation_tables,
    "networks": networks_table,
    "speed": speed_table,
    "fuzz": fuzz_table,
    "pretrained": pretrained_table,
    "scoreboard": lambda: scoreboard(_boards()),
    "losses": lambda: losses(_boards()),
}


def main() -> int:
    """Write the tables; with `--check`, only say which pages are out of date."""
    stale = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = MARKED.sub(lambda found: found[1] + TABLES.get(found[2], lambda: table(found[2]))() + found[3], old)
        if new != old:
            stale.append(page)
            if "--check" not in sys.argv:
                page.write_text(new, encoding="utf-8")
    if stale and "--check" in sys.argv:
        names = ", ".join(str(page.relative_to(ROOT)) for page in stale)
        print(f"tables in {names} differ from results/; run python scripts/tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
