"""Hold the accuracy by kernels against that by plain layers: `python benchmarks/kernels_accuracy.py PLAIN FUSED`.

PLAIN and FUSED are folders of results, such as these two commands make:
`last bench accuracy --models nano_e --datasets nw_ucla --seeds 5 --set environment.kernels=plain --results PLAIN`, and
the same with `fused`.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

import torch

from last.bench.entries import entries, read_records, spread
from last.provenance import record


def main() -> None:
    """Print the mean of both over seeds, and write each run's top-1 where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plain", type=Path)
    parser.add_argument("fused", type=Path)
    parser.add_argument("--dataset", default="nw_ucla")
    parser.add_argument("--model", default="last_e_nano")
    parser.add_argument("--json", type=Path, help="file for the figures, in results/")
    given = parser.parse_args()
    rows = []
    for kernels, folder in (("plain", given.plain), ("fused", given.fused)):
        for entry in entries(read_records(folder)):
            if (entry.first["dataset"], entry.model) == (given.dataset, given.model):
                scores = {str(seed): round(entry.score(seed, "top1"), 2) for seed in entry.complete}
                rows.append({"kernels": kernels, "recipe": entry.first["recipe"], "top1": scores})
                print(f"{kernels}: {spread(list(scores.values()))} over seeds {', '.join(scores)}")
    if given.json:
        content = {"kind": "parity", "dataset": given.dataset, "model": given.model, "rows": rows}
        content |= record(shlex.join(["python", *sys.argv]), torch.device("cpu"))
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
