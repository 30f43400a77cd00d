"""Fill the tables in README and docs from the records in results/: `python scripts/tables.py`, or `--check` them.

A table stands between lines `<!-- results:NAME -->` and `<!-- /results -->`; NAME is a data set.
"""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from last.run import settings_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCORES = ("top1", "top1_without_copies", "top5", "mean_class_accuracy")
MARKED = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def table(dataset: str) -> str:
    """The accuracies of a data set: a row for each model, protocol and recipe, mean and deviation over its seeds."""
    groups = defaultdict(list)
    for path in sorted((ROOT / "results").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["kind"] == "accuracy" and record["dataset"] == dataset:
            keys = ("model", "parameters", "protocol", "recipe", "epochs")
            groups[(*(record[key] for key in keys), json.dumps(settings_of(record)))].append(record)
    lines = [
        "| model | parameters | protocol | recipe, epochs | seeds | top-1 | top-1 without copies | top-5 | mean class "
        "| minutes a seed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (model, parameters, protocol, recipe, epochs, *_), records in sorted(groups.items()):
        seeds = ", ".join(str(seed) for seed in sorted(record["seed"] for record in records))
        scores = (spread([record[key] for record in records]) for key in SCORES)
        minutes = ", ".join(
            f"{record['seconds'] / 60:.0f} ({record['hardware'].rpartition(', ')[2]})"
            for record in sorted(records, key=lambda record: record["seed"])
        )
        cells = (model, f"{parameters:,}", protocol, f"{recipe}, {epochs}", seeds, *scores, minutes)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if groups else "not measured\n"


def spread(values: list[float]) -> str:
    """Mean and, of several values, sample standard deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def main() -> int:
    """Write the tables; with `--check`, only say which pages are out of date."""
    stale = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = MARKED.sub(lambda found: found[1] + table(found[2]) + found[3], old)
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
