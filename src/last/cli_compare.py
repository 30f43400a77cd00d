"""The commands that look at several finished runs at once."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from last.cli_data import reporter
from last.cli_look import for_terminal

Several = Parameter(consume_multiple=True, negative=())


def fuse(
    runs: Annotated[list[Path], Several],
    /,
    *,
    weights: Annotated[list[float] | None, Several] = None,
    mean_of: Literal["probabilities", "logits"] = "probabilities",
    out: Path | None = None,
) -> None:
    """Let several runs answer together, and say what that is worth.

    Args:
        runs: folders of runs that were tested on the same clips.
        weights: of each run, in their order; all alike where not given.
        mean_of: what is averaged; the mean of logits is that of CTR-GCN's ensembles.
        out: folder for scores, result and a page with pictures; it can be fused and compared as a run can.
    """
    import torch

    from last.fusion import Fusion
    from last.provenance import record
    from last.scored_run import ScoredRun

    fusion = Fusion.of([ScoredRun.open(path) for path in runs], weights, mean_of)
    reporter.answer(for_terminal(fusion.table()))
    if out is not None:
        options = ["--weights", *map(str, weights)] if weights else []
        command = ["last", "fuse", *map(str, runs), *options, "--mean-of", mean_of, "--out", str(out)]
        page = fusion.write(out, record(shlex.join(command), torch.device("cpu")))
        reporter.answer(f"report: {page}")


def compare(first: Path, second: Path, /, *, out: Path | None = None) -> None:
    """Set two runs side by side: which is better, in which classes, and whether that can be luck.

    Args:
        first: folder of a run or a fusion.
        second: of another that was tested on the same clips.
        out: folder for a page with pictures, and all numbers as JSON.
    """
    import numpy as np

    from last.compare import Comparison
    from last.scored_run import ScoredRun

    # A generator of its own, always the same: the same runs give the same interval.
    comparison = Comparison.of(ScoredRun.open(first), ScoredRun.open(second), np.random.default_rng(0))
    for table in comparison.tables():
        reporter.answer(for_terminal(table))
    reporter.answer(comparison.verdict())
    if out is not None:
        reporter.answer(f"report: {comparison.write(out)}")
