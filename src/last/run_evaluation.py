"""A trained run on the test part of its protocol: what it is worth, and the files that say so."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from last.data.datasets import open_store
from last.data.feed import choose_feed
from last.data.protocols import copied_from_training, split
from last.data.store import ClipStore
from last.evaluate import BATCH, Metrics, Scores, fingerprint_of_part, measure, predict
from last.models.cost import count_parameters
from last.progress import Reporter
from last.recognizer import Recognizer
from last.report.summary import write_report
from last.run import Run, RunError, Weights, read_record
from last.setting_values import ConfigError
from last.skeleton import unlike
from last.training.checkpoint import CheckpointError

# What a recipe must set for a run to have other weights than the last.
_NEEDS = {
    "best": ("training.validation", 0.1, "are chosen on a validation part"),
    "unaveraged": (
        "training.ema",
        0.998,
        "are written beside a moving average (an older run gets them by 'last train --resume')",
    ),
}


# Drawing a report is work for one thread at a time: what draws shares its fonts.
_DRAWING = threading.Lock()


@dataclass(frozen=True)
class Evaluation:
    """What a run's network is worth, and where that stands.

    Attributes:
        metrics: on the test part.
        result: the record for results/, as in ``result_file``.
        result_file: its name in the run's folder.
        report: the page, if one was written.
    """

    metrics: Metrics
    result: dict[str, Any]
    result_file: str
    report: Path | None


def require_same_tests(path: Path, store: ClipStore, tests: np.ndarray, advice: str) -> None:
    """Refuse a result of other test clips than a store has now: those that test now may have trained the network.

    Args:
        path: of the result; where there is none, or a damaged one, nothing is refused.
        store: the clips.
        tests: those that its protocol tests, (N,).
        advice: what can be done but to prepare the clips as they were, for the error.

    Raises:
        RunError: the clips have other names or labels.
    """
    try:
        result = read_record(path)
    except RunError:
        return
    if result.get("test_part") not in (None, fingerprint_of_part(store, tests)):
        raise RunError(
            f"{path} is of {result['test_clips']} test clips of {result['dataset']} {result['protocol']}, and "
            f"{store.path} has {len(tests)} there now, of other names or labels, some of which may have trained the "
            f"network; it is kept. Prepare the clips as they were, or {advice}"
        )


def evaluate(
    run: Run,
    device: torch.device,
    reporter: Reporter,
    weights: Weights = "last",
    crops: int | None = None,
    span: float | None = None,
    reports: bool = True,
) -> Evaluation:
    """Score a run's network on the test part of its protocol; write evaluation, scores, result and, if asked, report.

    Other weights, crops or spans than those that the run reports get files of their own, such as
    result.best.crops1.json.

    Args:
        run: a trained one.
        device: where to compute.
        reporter: says what happens.
        weights: of the last epoch, the best on the validation part, or the last epoch's without their average.
        crops: test-time crops; None takes the run's own setting.
        span: share of a clip in each crop; None takes the run's own setting.
        reports: whether to write the report, which takes seconds.

    Raises:
        CheckpointError: the run has no such weights, or they do not fit the store.
        ConfigError: crops or a span are asked for of clips that are padded.
        RunError: its history or provenance is damaged, or its result is of other test clips.
        DataMissingError, StoreError: as their messages say.
    """
    config = run.config
    store = open_store(config)
    if weights != "last" and not run.weights(weights).exists():
        setting, value, why = _NEEDS[weights]
        raise CheckpointError(
            f"{run.path} has no {weights} weights: its recipe sets {setting} to "
            f"{getattr(config.training, setting.partition('.')[2]):g}, and they {why}; leave out --weights, or train "
            f"with --set {setting}={value}"
        )
    recognizer = Recognizer(run.weights(weights), device, config.environment.kernels)
    if (recognizer.layout, recognizer.classes) != (store.layout, store.classes):
        raise CheckpointError(
            f"{run.weights(weights)} was trained on layout '{recognizer.layout.name}' with {len(recognizer.classes)} "
            f"classes, and the store {store.path} has layout '{store.layout.name}' with {len(store.classes)}"
            f"{unlike(recognizer.layout, recognizer.classes, store.layout, store.classes)}; give --data the store that "
            "it was trained on"
        )
    crops = config.data.test_crops if crops is None else crops
    span = config.data.test_span if span is None else span
    if config.data.sampling == "pad" and (crops > 1 or span is not None):
        raise ConfigError(
            f"{run.path} takes clips as they are (data.sampling: pad), which leaves no crops; drop --crops and --span"
        )
    history, made_by = run.history(), run.provenance()  # before anything long, since they may be damaged
    train_part, test_part = split(store, config.data.protocol, config.data.name)
    table = store.clips[test_part]
    require_same_tests(run.path / "result.json", store, test_part, "train anew, or move it away to score these")
    feed = choose_feed(store, test_part, device, BATCH, config.environment.clips)
    with reporter.bar("evaluating", len(feed)) as advance:
        pipeline = replace(recognizer.pipeline, test_span=span)
        probabilities = predict(recognizer.model, pipeline, feed, crops=crops, on_clips=advance)
    scores = Scores(table["name"], table["label"].astype(np.int64), probabilities.numpy(), store.classes)
    metrics = scores.measure()
    # Copies of training clips in a test part flatter every number on it.
    fresh = torch.from_numpy(~copied_from_training(store, train_part, test_part))
    without_copies = measure(probabilities[fresh], feed.labels[fresh]).top1 if fresh.any() else None
    result = {
        # What others trained stands apart from what was trained here.
        "kind": "published" if "published" in made_by else "accuracy",
        "model": config.model.name,
        "parameters": count_parameters(recognizer.model),
        "dataset": config.data.name,
        "protocol": config.data.protocol,
        "recipe": config.training.recipe,
        "seed": config.training.seed,
        "epochs": config.training.epochs,
        "weights": weights,
        "crops": crops,
        "span": span,
        "top1": round(metrics.top1, 4),
        "top5": round(metrics.top5, 4),
        "mean_class_accuracy": round(metrics.mean_class_accuracy, 4),
        "ece": round(metrics.ece, 4),
        "test_clips": metrics.clips,
        "test_part": scores.fingerprint,
        "correct": "".join("01"[right] for right in scores.correct.astype(int)),
        "test_clips_copied_from_training": int((~fresh).sum()),
        "top1_without_copies": None if without_copies is None else round(without_copies, 4),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        **made_by,
        "config": config.to_dict(),
    }
    own = "" if (weights, crops) == ("last", config.data.test_crops) else f".{weights}.crops{crops}"
    own += "" if span == config.data.test_span else f".span{span:g}"
    scored = {"weights": weights, "crops": crops, "span": span}
    run.write_json(f"evaluation{own}.json", scored | metrics.to_dict(store.classes))
    scores.save(run.path / f"scores{own}.npz")
    run.write_json(f"result{own}.json", result)
    if not reports:
        return Evaluation(metrics, result, f"result{own}.json", None)
    report = run.path / f"report{own}.html"
    with reporter.bar("drawing the report"), _DRAWING:
        write_report(
            report,
            run.path / f"pictures{own}",
            history,
            store,
            test_part,
            probabilities.argmax(1),
            metrics,
            result,
        )
    return Evaluation(metrics, result, f"result{own}.json", report)
