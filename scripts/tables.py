"""Fill the tables in README and docs from the records in results/: `python scripts/tables.py`, or `--check` them.

A table stands between lines `<!-- results:NAME -->` and `<!-- /results -->`; NAME is a data set, ``real`` for all but
the embedded one, ``data`` for speeds of the data pipeline, or ``fuzz``.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from last.run import settings_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCORES = ("top1", "top1_without_copies", "top5", "mean_class_accuracy")
MARKED = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def records() -> list[dict[str, Any]]:
    """What stands in results/."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "results").glob("*.json"))]


def data_table() -> str:
    """How fast data are prepared and read."""
    lines = ["| what | value | unit |", "|---|---|---|"]
    measured = [record for record in records() if record["kind"] == "data"]
    lines += [f"| {f['what']} | {f['value']:,} | {f['unit']} |" for record in measured for f in record["figures"]]
    return "\n".join(lines) + f"\n\n{_machine(measured[0])}\n" if measured else "not measured\n"


def fuzz_table() -> str:
    """What became of damaged files, by format."""
    lines = [
        "| format | damaged files | still clips | refused | faults | slowest, ms | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    measured = [record for record in records() if record["kind"] == "fuzz"]
    for record in measured:
        for name, row in record["formats"].items():
            counts = (f"{row[key]:,}" for key in ("examples", "clips", "refusals", "faults"))
            lines.append(f"| {name} | {' | '.join(counts)} | {1e3 * row['slowest']:.0f} | {row['memory'] / 1e6:.0f} |")
    return "\n".join(lines) + f"\n\n{_machine(measured[0])}\n" if measured else "not measured\n"


def _machine(record: dict[str, Any]) -> str:
    return f"{record['hardware']}, commit {record['commit']}, {record['date']}."


def table(chosen: str) -> str:
    """The accuracies of a data set, or of all ``real`` ones: mean and deviation over seeds for each way to get them."""
    groups = defaultdict(list)
    for record in records():
        is_chosen = record.get("dataset") == chosen or (chosen == "real" and record.get("dataset") != "synthetic")
        if record["kind"] == "accuracy" and is_chosen:
            fold = re.fullmatch(r"fold\d+", record["protocol"])
            record |= {"protocol": "folds", "fold": record["protocol"]} if fold else {"fold": ""}
            keys = ("dataset", "model", "parameters", "protocol", "recipe", "epochs")
            settings = settings_of(record)
            settings["data"].pop("protocol", None)
            groups[(*(record[key] for key in keys), json.dumps(settings))].append(record)
    lines = [
        "| data set | model | parameters | protocol | recipe, epochs | seeds | top-1 | top-1 without copies | top-5 "
        "| mean class | minutes a seed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (dataset, model, parameters, protocol, recipe, epochs, *_), members in sorted(groups.items()):
        runs = [_over_folds(seed, members) for seed in sorted({record["seed"] for record in members})]
        if protocol == "folds":
            folds = sorted({record["fold"].removeprefix("fold") for record in members})
            protocol = f"mean of folds {', '.join(folds)}"
        scores = (spread([run[key] for run in runs]) for key in SCORES)
        seeds, minutes = (", ".join(str(run[key]) for run in runs) for key in ("seed", "minutes"))
        cells = (dataset, model, f"{parameters:,}", protocol, f"{recipe}, {epochs}", seeds, *scores, minutes)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if groups else "not measured\n"


def _over_folds(seed: int, members: list[dict[str, Any]]) -> dict[str, Any]:
    """The scores of a seed, a mean where it was trained on several folds, and how long that took in all."""
    members = [record for record in members if record["seed"] == seed]
    minutes = f"{sum(record['seconds'] for record in members) / 60:.0f}"
    threads = members[0]["hardware"].rpartition(", ")[2]
    means = {key: mean(record[key] for record in members) for key in SCORES}
    return means | {"seed": seed, "minutes": f"{minutes} ({threads})"}


def spread(values: list[float]) -> str:
    """Mean and, of several values, sample standard deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


TABLES = {"data": data_table, "fuzz": fuzz_table}


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
