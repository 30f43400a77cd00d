"""What the commands do: train a run, evaluate it, report on it."""

import hashlib
import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from last import provenance
from last.config import Config
from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.datasets import load_dataset, open_store
from last.data.protocols import copied_from_training, split, validation_split
from last.evaluate import Metrics, Scores, measure, predict
from last.models.cost import count_parameters
from last.models.published import load_published
from last.progress import Interrupted, Reporter
from last.recognizer import Recognizer, build_model, describe
from last.report.summary import write_report
from last.run import Run, Weights
from last.training.checkpoint import CheckpointError, save_weights
from last.training.loop import Trainer
from last.training.optim import warmup_epochs


@dataclass(frozen=True)
class Evaluation:
    """What a run's network is worth, and where that stands.

    Attributes:
        metrics: on the test part.
        result: the record for results/, as in ``result_file``.
        result_file: its name in the run's folder.
        report: the page.
    """

    metrics: Metrics
    result: dict[str, Any]
    result_file: str
    report: Path


def begin(config: Config, name: str | None, device: torch.device, command: str) -> Run:
    """Make the folder of a new run.

    Args:
        config: its settings.
        name: a name under the environment's runs_root, or a path; None makes one from data, network and time.
        device: where it will train, for the record.
        command: the command line, for the record.

    Raises:
        RunError: the folder holds a run already.
        WriteError: it cannot be written.
        DataMissingError, ValueError: the clips or settings cannot train; no folder is made.
    """
    store = open_store(config)
    split(store, config.data.protocol, config.data.name)
    Pipeline.from_config(config.data, config.model, store.layout)
    with torch.device("meta"):
        build_model(config, len(store.classes), store.layout)
    return Run.create(_folder(config, name), config, provenance.record(command, device))


def adopt(config: Config, weights: Path, name: str | None, command: str) -> Run:
    """Make a run of the weights that the authors of a network published, ready to be evaluated.

    Args:
        config: the network, the data set whose classes and layout it was trained on, and how clips become its input.
        weights: the authors' file.
        name: as for :func:`begin`.
        command: the command line, for the record.

    Raises:
        RunError: the folder holds a run already.
        PublishedError, ConfigError, ValueError: the weights do not fit the settings; no folder is made.
        WriteError: it cannot be written.
    """
    dataset = load_dataset(config.data.name)
    Pipeline.from_config(config.data, config.model, dataset.layout)
    model = build_model(config, len(dataset.classes), dataset.layout)
    load_published(model, weights)
    file = {"file": weights.name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    made_by = provenance.record(command, torch.device("cpu")) | {"published": file}
    run = Run.create(_folder(config, name), config, made_by)
    save_weights(run.weights("last"), model, describe(config, dataset.classes, dataset.layout, dataset.columns))
    return run


def _folder(config: Config, name: str | None) -> Path:
    """Of a new run: a name is one path part; anything more is a path of the user's own."""
    name = name or f"{config.data.name}-{config.model.name}-{datetime.now():%Y%m%d-%H%M%S}"
    return Path(name) if len(Path(name).parts) > 1 else Path(config.environment.runs_root).expanduser() / name


def resume(path: Path, given: Mapping[str, Any], device: torch.device, command: str) -> Run:
    """Open the folder of an interrupted run to go on with it.

    Args:
        path: the folder, or a file in it.
        given: settings by section.key that were asked for; they must be those of the run, but for paths and machine.
        device: where it will train, for the record.
        command: the command line, for the record.

    Raises:
        RunError: there is no run, or a setting would change what it is.
        ConfigError: there is no such setting.
        WriteError: the folder cannot be written.
    """
    run = Run.open(path).with_settings(given)
    run.add_provenance(provenance.record(command, device))
    return run


def train(
    run: Run, resumed: bool, device: torch.device, reporter: Reporter, stop: Callable[[], bool] | None = None
) -> Evaluation:
    """Train, from the start or from the run's checkpoint, then evaluate and write the report.

    Args:
        run: where it goes, and its settings.
        resumed: go on from the checkpoint.
        device: where to train.
        reporter: says what happens.
        stop: asked after each step whether to stop; None listens for Ctrl-C.

    Returns:
        The last epoch's network on the test part.

    Raises:
        Interrupted: it was to stop; the checkpoint holds the very step.
        TrainingError: the loss is not finite.
        DataMissingError, StoreError, ConfigError, CheckpointError: as their messages say.
    """
    config = run.config
    store = open_store(config)
    train_part, test_part = split(store, config.data.protocol, config.data.name)
    rng = np.random.default_rng(config.training.seed)
    train_part, validation_part = validation_split(store.clips, train_part, config.training.validation, rng)
    clips = DeviceClips.from_store(store, train_part, device)
    validation = DeviceClips.from_store(store, validation_part, device) if len(validation_part) else None

    augmentation = Augmentation.from_config(config.training)
    pipeline = Pipeline.from_config(config.data, config.model, store.layout, augmentation)
    torch.manual_seed(config.training.seed)
    model = build_model(config, len(store.classes), store.layout).to(device)
    names = store.clips["name"][train_part]
    trainer = Trainer(
        model,
        pipeline,
        clips,
        config.training,
        device,
        config.environment.batch_size,
        lambda i: names[i].decode(),
    )
    if resumed and run.checkpoint.exists():
        trainer.load(run.checkpoint)
    elif resumed:
        reporter.say(f"{run.path} was stopped before its first checkpoint, so it begins anew, from the same seed")
    reporter.say(
        f"{config.model.name}, {count_parameters(model):,} parameters; {config.data.name} {config.data.protocol}: "
        f"{len(train_part)} clips to train, {len(validation_part)} to validate, {len(test_part)} to test; "
        f"{provenance.hardware(device)}, {trainer.precision.note}; run {run.path}"
    )
    if trainer.progress.epoch == config.training.epochs:
        reporter.say(f"{run.path} is trained to its last epoch, {config.training.epochs}; it is evaluated again")
    elif warmup_epochs(config.training) < config.training.warmup_epochs:
        reporter.say(
            f"the warm-up is {warmup_epochs(config.training):g} instead of {config.training.warmup_epochs} epochs, "
            "half of the training at most"
        )
    try:
        columns = store.meta["provenance"].get("columns")
        description = describe(config, store.classes, store.layout, columns)
        _fit(run, trainer, pipeline, validation, description, reporter, stop)
    except Interrupted:
        raise Interrupted(
            f"stopped in epoch {trainer.progress.epoch + 1} after {trainer.progress.step} of its "
            f"{trainer.steps_per_epoch} steps; go on with: last train --resume {run.path}"
        ) from None
    return evaluate(run, device, reporter)


def _fit(
    run: Run,
    trainer: Trainer,
    pipeline: Pipeline,
    validation: DeviceClips | None,
    description: dict[str, Any],
    reporter: Reporter,
    stop: Callable[[], bool] | None,
) -> None:
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import, so only where it is needed

    epochs = trainer.config.epochs

    def validate(model: nn.Module) -> dict[str, float]:
        assert validation is not None
        metrics = measure(predict(model, pipeline, validation), validation.labels)
        return {"loss": metrics.loss, "top1": metrics.top1}

    def on_epoch(row: dict[str, float]) -> None:
        run.write_history(trainer.progress.history)
        for key, value in row.items():
            board.add_scalar(key.replace("_", "/", 1), value, int(row["epoch"]))
        scores = ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in row.items() if k != "epoch")
        reporter.say(f"epoch {row['epoch']}/{epochs}: {scores}")

    with (
        SummaryWriter(str(run.path / "tensorboard"), purge_step=trainer.progress.epoch + 1) as board,
        reporter.bar("training", trainer.steps_per_epoch * epochs) as advance,
        nullcontext(stop) if stop else stop_on_signal(reporter) as stopping,
    ):
        trainer.fit(
            run.checkpoint,
            on_epoch,
            advance,
            validate if validation is not None else None,
            lambda: save_weights(run.weights("best"), trainer.averaged, description),
            stopping,
        )
    save_weights(run.weights("last"), trainer.averaged, description)


@contextmanager
def stop_on_signal(reporter: Reporter, tell: Callable[[], object] = lambda: None) -> Generator[Callable[[], bool]]:
    """Turn the first Ctrl-C, or a request to terminate, into an answer that the loop asks for; the second is one.

    Args:
        reporter: says that it was heard.
        tell: called at the first, for who cannot ask.

    Yields:
        Whether to stop.
    """
    stopping = False

    def handle(number: int, frame: object) -> None:
        nonlocal stopping
        if stopping:
            raise KeyboardInterrupt
        stopping = True
        tell()
        reporter.say("stopping after this step; press Ctrl-C again to leave without saving")

    try:
        old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # signals belong to the main thread; elsewhere nobody presses Ctrl-C
        old = {}
    try:
        yield lambda: stopping
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def evaluate(
    run: Run, device: torch.device, reporter: Reporter, weights: Weights = "last", crops: int | None = None
) -> Evaluation:
    """Score a run's network on the test part of its protocol; write evaluation, scores, result and report.

    Other weights or crops than those that the run reports get files of their own, such as result.best.crops1.json.

    Args:
        run: a trained one.
        device: where to compute.
        reporter: says what happens.
        weights: of the last epoch, or the best on the validation part.
        crops: test-time crops; None takes the run's own setting.

    Raises:
        CheckpointError: the run has no such weights, or they do not fit the store.
        DataMissingError, StoreError, RunError: as their messages say.
    """
    config = run.config
    store = open_store(config)
    if weights == "best" and not run.weights("best").exists():
        raise CheckpointError(
            f"{run.path} has no best weights: its recipe sets training.validation to {config.training.validation:g}, "
            "and they are chosen on a validation part; leave out --weights, or train with --set training.validation=0.1"
        )
    recognizer = Recognizer(run.weights(weights), device)
    if (recognizer.layout, recognizer.classes) != (store.layout, store.classes):
        raise CheckpointError(
            f"{run.weights(weights)} was trained on layout '{recognizer.layout.name}' with {len(recognizer.classes)} "
            f"classes, and the store {store.path} has layout '{store.layout.name}' with {len(store.classes)}; give "
            "--data the store that it was trained on"
        )
    crops = config.data.test_crops if crops is None else crops
    history, made_by = run.history(), run.provenance()  # before anything long, since they may be damaged
    train_part, test_part = split(store, config.data.protocol, config.data.name)
    clips = DeviceClips.from_store(store, test_part, device)
    with reporter.bar("evaluating", len(clips)) as advance:
        probabilities = predict(recognizer.model, recognizer.pipeline, clips, crops=crops, on_clips=advance)
    table = store.clips[test_part]
    scores = Scores(table["name"], table["label"].astype(np.int64), probabilities.numpy(), store.classes)
    metrics = scores.measure()
    # Copies of training clips in a test part flatter every number on it.
    fresh = torch.from_numpy(~copied_from_training(store, train_part, test_part))
    without_copies = measure(probabilities[fresh], clips.labels.cpu()[fresh]).top1 if fresh.any() else None
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
    run.write_json(f"evaluation{own}.json", {"weights": weights, "crops": crops, **metrics.to_dict(store.classes)})
    scores.save(run.path / f"scores{own}.npz")
    run.write_json(f"result{own}.json", result)
    report = run.path / f"report{own}.html"
    with reporter.bar("drawing the report"):
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
