"""The commands that look at several finished runs at once."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from last.cli_data import Positive, reporter
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


def doubt(runs: Annotated[list[Path], Several], /, *, top: Positive = 20) -> None:
    """Name the clips whose label may be wrong, by runs that did not train on them, the most doubtful first.

    Args:
        runs: folders of runs; best of one for each held-out part of the training clips (--protocol xsub-held1of4).
        top: how many clips to print.
    """
    from last.doubt import find_doubts, join, table
    from last.scored_run import ScoredRun

    opened = [ScoredRun.open(path) for path in runs]
    scores = join(opened)
    doubts = find_doubts(scores)
    if not doubts:
        reporter.answer(f"no label in doubt among {len(scores.labels):,} clips")
        return
    reporter.answer(for_terminal(table(doubts[:top], len(scores.labels))))
    hidden = f"; --top {len(doubts)} prints all" if len(doubts) > top else ""
    reporter.answer(f"{len(doubts):,} of {len(scores.labels):,} labels are in doubt{hidden}")
    look = ["last", "data", "show", str(opened[0].store), "--clip", doubts[0].clip, "--out", "clip.html"]
    reporter.answer(f"look at one: {shlex.join(look)}")
