"""Two runs on the same clips, side by side: which is better, where, and whether that can be luck. Shapes: K classes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from last.bench.significance import Difference, paired_bootstrap
from last.files import write_text
from last.report.comparison_pictures import draw_confusion_change, draw_recalls, draw_reliability
from last.report.page import Cell, Table, write_page
from last.scored_run import ScoredRun, names_of, require_same_clips

_MOST_CONFUSIONS = 20  # in a table; comparison.json has all


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the second of two runs does otherwise than the first.

    Attributes:
        first: a run, or a fusion.
        second: another, of the same clips.
        difference: of the top-1, second minus first. It speaks of these two networks on other clips like these, and
            not of how they were made: other seeds would give other networks.
    """

    first: ScoredRun
    second: ScoredRun
    difference: Difference

    @classmethod
    def of(cls, first: ScoredRun, second: ScoredRun, generator: np.random.Generator) -> "Comparison":
        """Compare two runs.

        Raises:
            RunError: they are not of the same clips and classes.
        """
        require_same_clips((first, second))
        one, other = (run.scores.correct[None] for run in (first, second))
        return cls(first, second, paired_bootstrap(other, one, generator))

    @property
    def only_first(self) -> int:
        """How many clips the first alone recognises."""
        return int((self.first.scores.correct & ~self.second.scores.correct).sum())

    @property
    def only_second(self) -> int:
        """How many clips the second alone recognises."""
        return int((self.second.scores.correct & ~self.first.scores.correct).sum())

    @property
    def confusion_change(self) -> np.ndarray:
        """Clips that the second has more in a cell of the confusion matrix, (K, K), true classes in rows."""
        return self.second.metrics.confusion - self.first.metrics.confusion

    def confusions(self) -> list[dict[str, Any]]:
        """Each mistake that one makes more often than the other, what the second does worse first."""
        change = self.confusion_change
        np.fill_diagonal(change, 0)
        classes = self.first.scores.classes
        one, other = (run.metrics.confusion for run in (self.first, self.second))
        cells = sorted(np.argwhere(change).tolist(), key=lambda cell: -change[tuple(cell)])
        return [
            {
                "class": classes[true],
                "taken for": classes[seen],
                "first": int(one[true, seen]),
                "second": int(other[true, seen]),
            }
            for true, seen in cells
        ]

    def per_class(self) -> list[dict[str, Any]]:
        """Clips, both recalls and their difference for each class that has clips, the largest gain first."""
        one, other, clips = self.first.metrics.recall, self.second.metrics.recall, self.first.metrics.confusion.sum(1)
        rows = [
            {
                "class": name,
                "clips": int(clips[k]),
                "first": round(float(one[k]), 2),
                "second": round(float(other[k]), 2),
                "difference": round(float(other[k] - one[k]), 2),
            }
            for k, name in enumerate(self.first.scores.classes)
            if clips[k]
        ]
        return sorted(rows, key=lambda row: -row["difference"])

    def verdict(self) -> str:
        """The difference in a sentence."""
        one, other = names_of((self.first, self.second))
        gap = self.difference
        told = f"{gap.points:+.2f} points (95 % interval {gap.low:+.2f} to {gap.high:+.2f}, p = {gap.p:.2g})"
        if gap.p >= 0.05:
            return f"no difference shown between {one} and {other}: {told}"
        return f"{other} is {'better' if gap.points > 0 else 'worse'} than {one} on clips like these: {told}"

    def tables(self) -> list[Table]:
        """Numbers of both, classes, and confusions; all in percent but the counts."""
        names = names_of((self.first, self.second))
        ours, theirs = (run.metrics.shown | {"ECE": run.metrics.ece} for run in (self.first, self.second))
        rows: list[list[Cell]] = [[name, ours[name], theirs[name], theirs[name] - ours[name]] for name in ours]
        one, other = self.first.result["parameters"], self.second.result["parameters"]
        rows.append(["parameters", one, other, other - one])
        one, other = self.only_first, self.only_second
        rows.append(["clips that it alone recognises", one, other, other - one])
        changed = self.confusions()
        shown = [row for i, row in enumerate(changed) if min(i, len(changed) - 1 - i) < _MOST_CONFUSIONS // 2]
        return [
            Table("numbers", ("", *names, "difference"), rows),
            Table("recall", ("class", "clips", *names, "difference"), [list(row.values()) for row in self.per_class()]),
            Table(
                "confusions that changed most (clips)",
                ("class", "taken for", *names),
                [list(r.values()) for r in shown],
            ),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        runs = zip(names_of((self.first, self.second)), (self.first, self.second), strict=True)
        first, second = (
            {
                "run": name,
                "network": run.description,
                "parameters": run.result["parameters"],
                "top1": round(run.metrics.top1, 4),
                "top5": round(run.metrics.top5, 4),
                "mean_class_accuracy": round(run.metrics.mean_class_accuracy, 4),
                "ece": round(run.metrics.ece, 4),
            }
            for name, run in runs
        )
        gap = self.difference
        return {
            "kind": "comparison",
            "dataset": self.first.result["dataset"],
            "protocol": self.first.result["protocol"],
            "test_clips": self.first.metrics.clips,
            "first": first,
            "second": second,
            "difference": {"points": gap.points, "low": gap.low, "high": gap.high, "p": gap.p},
            "only_first": self.only_first,
            "only_second": self.only_second,
            "per_class": self.per_class(),
            "confusions": self.confusions(),
        }

    def write(self, out: Path) -> Path:
        """Write comparison.json, and comparison.html with tables and pictures.

        Args:
            out: the folder.

        Returns:
            The page.

        Raises:
            WriteError: it cannot be written.
        """
        write_text(out / "comparison.json", json.dumps(self.to_dict(), indent=1) + "\n")
        one, other = names_of((self.first, self.second))
        classes, pictures, page = self.first.scores.classes, out / "comparison", out / "comparison.html"
        recalls = ((one, self.first.metrics.recall), (other, self.second.metrics.recall))
        draw_recalls(recalls, classes, pictures / "recalls.png")
        draw_confusion_change(self.confusion_change, classes, (one, other), pictures / "confusion_change.png")
        shown = [
            (f"Recall of each class: {one} and {other}", pictures / "recalls.png"),
            (f"Confusion of {other} minus that of {one}: true classes in rows", pictures / "confusion_change.png"),
        ]
        for name, run, file in ((one, self.first, "first"), (other, self.second, "second")):
            draw_reliability(run.metrics.calibration, pictures / f"reliability_{file}.png")
            shown.append(
                (
                    f"Accuracy of {name} by its confidence: equal on the dashed line",
                    pictures / f"reliability_{file}.png",
                )
            )
        facts = {
            "data set": f"{self.first.result['dataset']}, {self.first.result['protocol']}",
            "test clips": f"{self.first.metrics.clips:,}",
            one: self.first.description,
            other: self.second.description,
        }
        notes = [
            f"In top-1, {self.verdict()}.",
            "Interval and p are those of a paired bootstrap over clips. They speak of these two networks; which way of "
            "making them is better takes several seeds of each.",
        ]
        write_page(page, f"{one} and {other}", facts, self.tables(), shown, notes)
        return page
