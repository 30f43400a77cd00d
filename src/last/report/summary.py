"""The report of a run: its result, its curves, its confusion and a few of its clips on one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from last.data.store import ClipStore
from last.evaluate import Metrics
from last.files import file_name
from last.report.comparison_pictures import draw_reliability
from last.report.page import Table, write_page
from last.report.pictures import draw_clip, draw_confusion, draw_curves, draw_per_class
from last.run import scored_on


def write_report(
    page: Path,
    pictures: Path,
    history: Sequence[Mapping[str, float]],
    store: ClipStore,
    test_part: np.ndarray,
    predicted: Tensor,
    metrics: Metrics,
    result: Mapping[str, Any],
) -> None:
    """Draw the pictures and write the page that holds them.

    Args:
        page: the HTML file.
        pictures: folder of the pictures.
        history: a row of metrics for each epoch.
        store: the clips.
        test_part: which of them were scored, (N,).
        predicted: their classes as the network sees them, (N,).
        metrics: of the test part.
        result: the record for results/.

    Raises:
        WriteError: the folder cannot be written.
    """
    shown = []
    if history:  # adopted weights have none
        draw_curves(history, pictures / "curves.png")
        shown.append(("Loss and top-1 accuracy over the epochs", pictures / "curves.png"))
    draw_confusion(metrics.confusion, store.classes, pictures / "confusion.png")
    draw_per_class(metrics.recall, store.classes, pictures / "per_class.png")
    draw_reliability(metrics.calibration, pictures / "reliability.png")
    shown += [
        ("Confusion: true classes in rows", pictures / "confusion.png"),
        ("Recall of each class", pictures / "per_class.png"),
        ("Accuracy by confidence: equal on the dashed line", pictures / "reliability.png"),
    ]
    true, seen = store.clips["label"][test_part], predicted.numpy()
    for i in _examples(true, seen):
        clip = store[int(test_part[i])]
        picture = pictures / f"{file_name(clip.name)}.png"
        draw_clip(clip, picture, layout=store.layout)
        taken = "recognised" if seen[i] == true[i] else f"taken for '{store.classes[seen[i]]}'"
        shown.append((f"{clip.name}: '{store.classes[true[i]]}', {taken}", picture))
    per_class = metrics.to_dict(store.classes)["per_class"]
    write_page(
        page,
        f"{result['model']} on {result['dataset']}, {result['protocol']}",
        _facts(metrics, result),
        [Table("Per class (percent)", list(per_class[0]), [list(row.values()) for row in per_class])],
        shown,
        _notes(result),
    )


def _examples(true: np.ndarray, predicted: np.ndarray) -> list[int]:
    """One clip of each of three classes that were recognised, and one that was not."""
    right, wrong = np.flatnonzero(predicted == true), np.flatnonzero(predicted != true)
    return [int(right[true[right] == k][0]) for k in np.unique(true[right])[:3]] + wrong[:1].tolist()


def _facts(metrics: Metrics, result: Mapping[str, Any]) -> dict[str, str]:
    rest = result["top1_without_copies"]
    facts = {
        "top-1": f"{metrics.top1:.2f} %",
        "top-1 without copies": "–" if rest is None else f"{rest:.2f} %",
        **({"top-5": f"{metrics.top5:.2f} %"} if "top-5" in metrics.shown else {}),
        "mean class accuracy": f"{metrics.mean_class_accuracy:.2f} %",
        "expected calibration error": f"{metrics.ece:.2f} points",
        "test clips": f"{metrics.clips:,}",
        "scored on": scored_on(result),
        "parameters": f"{result['parameters']:,}",
        "trained in": f"{result['seconds']:.0f} s" if "published" not in result else "by its authors",
    }
    keys = ("recipe", "epochs", "seed", "weights", "hardware", "torch", "date", "commit", "command")
    return facts | {key: str(result[key]) for key in keys}


def _notes(result: Mapping[str, Any]) -> list[str]:
    notes = ["All settings are in config.yaml beside this page, the record for results/ in result.json."]
    if result["dataset"] == "synthetic":
        notes.insert(0, "The clips show an animated body: the figures say that the system works, nothing about people.")
    if copies := result["test_clips_copied_from_training"]:
        rest = result["top1_without_copies"]
        without = "there are no others" if rest is None else f"without them top-1 is {rest:.2f} %"
        notes.insert(0, f"{copies} test clips have exactly the joints of a training clip; {without}.")
    return notes
