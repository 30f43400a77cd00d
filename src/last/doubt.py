"""Clips whose label is in doubt, by networks that did not train on them. Shapes: N clips, K classes.

Confident learning: Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from last.evaluate import Scores
from last.report.page import Cell, Table
from last.run import RunError
from last.scored_run import ScoredRun, require_same_classes


@dataclass(frozen=True)
class Doubt:
    """A clip whose label may be wrong.

    Attributes:
        clip: its name.
        label: the class that it has.
        suggested: the class that the networks see.
        given: probability of its label.
        seen: probability of the suggested class.
    """

    clip: str
    label: str
    suggested: str
    given: float
    seen: float


def join(runs: Sequence[ScoredRun]) -> Scores:
    """The clips of several runs, sorted by name; one that several scored has the mean of their probabilities.

    Raises:
        RunError: the runs tell other classes apart, or give a clip two labels.
    """
    require_same_classes(runs)
    together = runs[0].scores
    names = np.concatenate([run.scores.names for run in runs])
    labels = np.concatenate([run.scores.labels for run in runs])
    unique, first, place, times = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    if (other := labels != labels[first[place]]).any():
        clip, here = names[other][0].decode(errors="replace"), labels[other][0]
        there = labels[first[place]][other][0]
        raise RunError(
            f"clip '{clip}' has the label '{together.classes[there]}' in one run and '{together.classes[here]}' in "
            "another; give runs that were evaluated on the same store"
        )
    sums = np.zeros((len(unique), len(together.classes)))
    np.add.at(sums, place, np.concatenate([run.scores.probabilities for run in runs]))
    return replace(together, names=unique, labels=labels[first], probabilities=sums / times[:, None])


def find_doubts(scores: Scores) -> list[Doubt]:
    """The clips that networks confidently see as another class, the most doubtful first.

    A network is confident of a class where it gives it at least the mean probability that clips of this label get. So a
    class that networks are generally unsure of is held to less than one that they know well. In doubt are the clips off
    the diagonal of the paper's confident joint: of the classes that the network is confident of, the most probable is
    not the label. They are sorted by the probability of the label less that of the suggested class.

    Args:
        scores: of clips that trained none of the networks.
    """
    p, labels, classes = scores.probabilities.astype(np.float64), scores.labels, scores.classes
    counts = np.bincount(labels, minlength=len(classes))
    own = np.bincount(labels, p[np.arange(len(p)), labels], len(classes))
    threshold = np.divide(own, counts, out=np.full(len(classes), np.inf), where=counts > 0)
    # The mean of equal probabilities may be rounded above each of them.
    confident = np.where(p >= threshold - 1e-9, p, -1)
    seen = confident.argmax(1)
    doubtful = np.flatnonzero((confident.max(1) >= 0) & (seen != labels))
    margin = p[doubtful, labels[doubtful]] - p[doubtful, seen[doubtful]]
    return [
        Doubt(
            scores.names[i].decode(errors="replace"),
            classes[labels[i]],
            classes[seen[i]],
            float(p[i, labels[i]]),
            float(p[i, seen[i]]),
        )
        for i in doubtful[np.argsort(margin, kind="stable")]
    ]


def table(doubts: Sequence[Doubt], clips: int) -> Table:
    """The first of them, as many as are given, out of so many clips; probabilities in percent."""
    rows: list[list[Cell]] = [[d.clip, d.label, 100 * d.given, d.suggested, 100 * d.seen] for d in doubts]
    header = ("clip", "label", "its probability", "suggested", "its probability")
    return Table(f"labels in doubt among {clips:,} clips, the most doubtful first (percent)", header, rows)
