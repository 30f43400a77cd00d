"""Score fusion: several networks asked about the same clips, and one answer made of theirs.

Shapes: N clips, K classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from last.evaluate import Metrics, Scores
from last.files import write_text
from last.report.comparison_pictures import draw_recalls, draw_reliability
from last.report.page import Cell, Table, write_page
from last.report.pictures import draw_confusion
from last.run import RunError
from last.scored_run import ScoredRun, names_of, require_same_clips

MeanOf = Literal["probabilities", "logits"]


def fuse(
    probabilities: Sequence[np.ndarray], weights: Sequence[float] | None = None, mean_of: MeanOf = "probabilities"
) -> np.ndarray:
    """Weighted mean of what several networks give the same clips.

    Networks differ in how far apart their logits lie, so that in a sum of logits the loudest decides; probabilities
    put all on one scale, and their mean is a probability. The mean of logits is that of CTR-GCN's published ensembles
    (Chen et al., ICCV 2021): since a softmax takes the same from all classes of a clip, the mean of the logarithms of
    probabilities ranks classes as the sum of the logits does. For scores averaged over test-time crops it is
    the mean over networks of the logarithm of their mean over crops.

    Args:
        probabilities: of each network, (N, K).
        weights: of each network, in any unit; None weighs all alike.
        mean_of: what is averaged.

    Returns:
        Probabilities, (N, K) float32, rows of sum 1.

    Raises:
        ValueError: weights that are not one a network, are negative or not finite, or are all zero.
    """
    weights = [1.0] * len(probabilities) if weights is None else weights
    if len(weights) != len(probabilities):
        raise ValueError(f"{len(weights)} weights for {len(probabilities)} networks; give one for each, in their order")
    if not (all(0 <= weight < np.inf for weight in weights) and any(weights)):
        given = " ".join(f"{weight:g}" for weight in weights)
        raise ValueError(f"the weights are {given}, expected numbers from 0 that are not all 0")
    shares = np.array(weights) / np.sum(weights)
    if mean_of == "probabilities":
        fused = sum(share * p.astype(np.float64) for share, p in zip(shares, probabilities, strict=True))
    else:
        least = np.finfo(np.float32).tiny  # what a softmax in single precision rounds to zero has no logarithm
        logs = sum(share * np.log(np.maximum(p, least)) for share, p in zip(shares, probabilities, strict=True))
        fused = np.exp(logs - logs.max(axis=1, keepdims=True))
    return (fused / fused.sum(axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Fusion:
    """Several runs as one recogniser.

    Attributes:
        runs: at least two, of the same clips.
        weights: one a run, in any unit.
        mean_of: what was averaged.
        scores: of all together.
    """

    runs: Sequence[ScoredRun]
    weights: Sequence[float]
    mean_of: MeanOf
    scores: Scores

    @classmethod
    def of(
        cls, runs: Sequence[ScoredRun], weights: Sequence[float] | None = None, mean_of: MeanOf = "probabilities"
    ) -> "Fusion":
        """Fuse the scores of runs.

        Raises:
            RunError: there is only one, one is given twice or is a fusion, or they are not of the same clips and
                classes.
            ValueError: the weights are wrong.
        """
        if len(runs) < 2 or len({(run.path.resolve(), run.name) for run in runs}) < len(runs):
            given = ", ".join(str(run.path) for run in runs)
            raise RunError(f"a fusion is of two runs or more, each given once, and has a weight for each; got: {given}")
        for run in runs:
            if run.networks > 1:
                raise RunError(f"{run.path} is a fusion itself; give its {run.networks} runs, each with its weight")
        require_same_clips(runs)
        probabilities = fuse([run.scores.probabilities for run in runs], weights, mean_of)
        return cls(runs, weights or [1.0] * len(runs), mean_of, replace(runs[0].scores, probabilities=probabilities))

    @cached_property
    def metrics(self) -> Metrics:
        """How well the fused scores fit the labels."""
        return self.scores.measure()

    @property
    def parameters(self) -> int:
        """Of all networks together."""
        return sum(run.result["parameters"] for run in self.runs)

    @property
    def best(self) -> ScoredRun:
        """The run of the highest top-1, the first of equals; the test part itself chose it."""
        return max(self.runs, key=lambda run: run.metrics.top1)

    def table(self) -> Table:
        """Each run's numbers and the fusion's, in percent."""
        header = ("run", "network", "weight", "parameters", *self.metrics.shown, "ECE")
        rows: list[list[Cell]] = [
            [name, run.description, f"{weight:g}", f"{run.result['parameters']:,}", *_numbers(run.metrics)]
            for name, run, weight in zip(names_of(self.runs), self.runs, self.weights, strict=True)
        ]
        rows.append(["fusion", f"{len(self.runs)} networks", "", f"{self.parameters:,}", *_numbers(self.metrics)])
        return Table(f"weighted mean of {self.mean_of}, percent", header, rows)

    def record(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        metrics, first = self.metrics, self.runs[0].result
        members = zip(names_of(self.runs), self.runs, self.weights, strict=True)
        return {
            "kind": "fusion",
            "model": " + ".join(dict.fromkeys(run.result["model"] for run in self.runs)),
            "networks": len(self.runs),
            "parameters": self.parameters,
            "dataset": first["dataset"],
            "protocol": first["protocol"],
            "mean_of": self.mean_of,
            "top1": round(metrics.top1, 4),
            "top5": round(metrics.top5, 4),
            "mean_class_accuracy": round(metrics.mean_class_accuracy, 4),
            "ece": round(metrics.ece, 4),
            "test_clips": metrics.clips,
            "test_part": self.scores.fingerprint,
            "correct": "".join("01"[right] for right in self.scores.correct.astype(int)),
            "runs": [
                {"run": name, "weight": weight, "network": run.description}
                | {key: run.result.get(key) for key in ("model", "parameters", "recipe", "seed", "top1", "commit")}
                for name, run, weight in members
            ],
        }

    def write(self, out: Path, provenance: Mapping[str, str]) -> Path:
        """Write scores.npz, result.json and report.html, so that the folder can be fused and compared as a run can.

        Args:
            out: the folder.
            provenance: command, commit, hardware, torch and date.

        Returns:
            The page.

        Raises:
            RunError: the folder holds a run, whose files are left alone.
            WriteError: it cannot be written.
        """
        if (out / "config.yaml").exists():
            raise RunError(f"{out} holds a run, and a fusion has files of the same names; name another folder")
        self.scores.save(out / "scores.npz")
        write_text(out / "result.json", json.dumps(self.record() | dict(provenance), indent=1) + "\n")
        classes, metrics, best = self.scores.classes, self.metrics, self.best
        pictures = out / "pictures"
        recalls = ((best.name, best.metrics.recall), ("fusion", metrics.recall))
        draw_recalls(recalls, classes, pictures / "recalls.png")
        draw_confusion(metrics.confusion, classes, pictures / "confusion.png")
        draw_reliability(metrics.calibration, pictures / "reliability.png")
        shown = [
            (f"Recall of each class: the best run alone, {best.name}, and the fusion", pictures / "recalls.png"),
            ("Confusion of the fusion: true classes in rows", pictures / "confusion.png"),
            ("Accuracy of the fusion by its confidence: equal on the dashed line", pictures / "reliability.png"),
        ]
        facts = {
            "top-1": f"{metrics.top1:.2f} %",
            "top-1 of the best run": f"{best.metrics.top1:.2f} %",
            "networks": str(len(self.runs)),
            "parameters": f"{self.parameters:,}",
            "test clips": f"{metrics.clips:,}",
            **provenance,
        }
        title = f"Fusion of {len(self.runs)} networks on {best.result['dataset']}, {best.result['protocol']}"
        notes = ["A fusion costs the parameters and the time of all its networks; set it beside others of that size."]
        write_page(out / "report.html", title, facts, [self.table()], shown, notes)
        return out / "report.html"


def _numbers(metrics: Metrics) -> list[float]:
    return [*metrics.shown.values(), metrics.ece]
