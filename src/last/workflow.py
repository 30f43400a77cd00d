"""What the commands do: begin a run or resume it, train it to its end, adopt the weights of others."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from last import provenance
from last.data.augment import Augmentation
from last.data.batches import Pipeline
from last.data.datasets import Dataset, open_store, require_as_described
from last.data.feed import Feed, choose_feed
from last.data.protocols import split, validation_split
from last.evaluate import BATCH, fingerprint_of_part, measure, predict
from last.kernels import accelerate
from last.lineage import in_words, require_same_tests, require_unchanged, rests_on
from last.models import Network
from last.models.cost import count_parameters
from last.models.published import load_published
from last.progress import Interrupted, Reporter, stop_on_signal
from last.recognizer import build_model, describe
from last.run import Run, RunError
from last.run_evaluation import Evaluation, evaluate
from last.settings import Config
from last.start import start
from last.teachers import distillation, open_teachers
from last.training.checkpoint import save_weights
from last.training.loop import Trainer
from last.training.optim import warmup_epochs
from last.training.randomness import ALONE


def begin(config: Config, name: str | None, device: torch.device, command: str) -> Run:
    """Make the folder of a new run, whichever command trains it.

    Args:
        config: its settings.
        name: a name under the environment's runs_root, or a path; None makes one from data, network and time.
        device: where it will train, for the record.
        command: the command line, for the record.

    Raises:
        RunError: the folder holds a run already.
        WriteError: it cannot be written.
        DataMissingError, ValueError: the clips, settings, start or teachers cannot train; no folder is made.
    """
    store = open_store(config)
    require_as_described(store, config.described_in)
    _, tests = split(store, config.data.protocol, config.data.name)
    Pipeline.from_config(config.data, config.model, store.layout)
    with torch.device("meta"):
        model = build_model(config, len(store.classes), store.layout, training=True)
    started = start(config, model, store.classes, store.layout)
    teachers = open_teachers(config, store.classes, store.layout, torch.device("cpu"))
    trained: dict[str, Any] = {"start": started.record} if started else {}
    trained |= {"teachers": [teacher.record for teacher in teachers]} if teachers else {}
    tested = fingerprint_of_part(store, tests)
    require_same_tests(_records(trained), config, tested)
    return Run.create(_folder(config, name), config, provenance.record(command, device) | trained)


def adopt(config: Config, dataset: Dataset, weights: Path, name: str | None, command: str) -> Run:
    """Make a run of the weights that the authors of a network published, ready to be evaluated.

    Args:
        config: the network, and how clips become its input.
        dataset: whose classes and layout it was trained on.
        weights: the authors' file.
        name: as for :func:`begin`.
        command: the command line, for the record.

    Raises:
        RunError: the folder holds a run already.
        PublishedError, ConfigError, ValueError: the weights do not fit the settings; no folder is made.
        WriteError: it cannot be written.
    """
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
        RunError: there is no run, it is of published weights, a setting would change what it is, or the weights of a
            teacher, or of a start that is still needed, are not those that it began with.
        CheckpointError: they are gone.
        ConfigError: there is no such setting.
        WriteError: the folder cannot be written.
    """
    run = Run.open(path).with_settings(given)
    made_by = run.provenance()
    if published := made_by.get("published"):
        raise RunError(
            f"{run.path} holds weights that others published, {published['file']}, and no training to go on with; "
            f"score them with 'last evaluate {run.path}', or train a network of your own into another folder"
        )
    require_unchanged(made_by.get("teachers", []), "teacher")
    if "start" in made_by and not run.checkpoint.exists():
        require_unchanged([made_by["start"]], "start")
    run.add_provenance(provenance.record(command, device))
    return run


def train(
    run: Run,
    resumed: bool,
    device: torch.device,
    reporter: Reporter,
    stop: Callable[[], bool] | None = None,
    reports: bool = True,
) -> Evaluation:
    """Train, from the start or from the run's checkpoint, then evaluate and write the report.

    Args:
        run: where it goes, and its settings.
        resumed: go on from the checkpoint.
        device: where to train.
        reporter: says what happens.
        stop: asked after each step whether to stop; None listens for Ctrl-C.
        reports: whether to write the report, which takes seconds.

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
    neither = len(store) - len(train_part) - len(test_part)
    rng = np.random.default_rng(config.training.seed)
    train_part, validation_part = validation_split(store.clips, train_part, config.training.validation, rng)
    machine, recipe = config.environment, config.training
    feed = choose_feed(store, train_part, device, recipe.batch_size * recipe.accumulate, machine.clips)
    validation = None
    if len(validation_part):
        validation = choose_feed(store, validation_part, device, BATCH, machine.clips)

    augmentation = Augmentation.from_config(config.training)
    pipeline = Pipeline.from_config(config.data, config.model, store.layout, augmentation)
    with ALONE:
        torch.manual_seed(recipe.seed)
        model = build_model(config, len(store.classes), store.layout, training=True).to(device)
        # A checkpoint holds all that became of the start, which may be gone.
        anew = not (resumed and run.checkpoint.exists())
        started = start(config, model, store.classes, store.layout) if anew else None
        teachers = open_teachers(config, store.classes, store.layout, device)
        taught = distillation(config, model, teachers)
    kernels = accelerate(model, device, machine.kernels)
    names = store.clips["name"][train_part]
    streams = dict.fromkeys((*pipeline.streams, *(s for t in teachers for s in t.recognizer.pipeline.streams)))
    trainer = Trainer(
        model,
        replace(pipeline, streams=tuple(streams)),
        feed,
        recipe,
        machine.batch_size,
        lambda i: names[i].decode(),
        machine.step,
        taught,
        lambda k: store.classes[k],
    )
    if not anew:
        trainer.load(run.checkpoint)
    elif resumed:
        reporter.say(f"{run.path} was stopped before its first checkpoint, so it begins anew, from the same seed")
    reporter.say(
        f"{config.model.name}, {_size(model)}; {config.data.name} {config.data.protocol}: "
        f"{len(train_part)} clips to train, {len(validation_part)} to validate, {len(test_part)} to test"
        f"{f', {neither} for neither' if neither else ''}; "
        f"{provenance.hardware(device)}, {trainer.unit.precision.note}; run {run.path}"
    )
    reporter.say("; ".join([feed.note, kernels, *([trainer.note] if device.type == "cuda" else [])]))
    if started is not None:
        reporter.say(started.note)
    if taught is not None:
        by = ", ".join(in_words(teacher.record) for teacher in teachers)
        reporter.say(
            f"taught by {by}, asked {'at each step' if taught.asked else 'once'}; "
            f"label weight {taught.label_weight:g}, temperature {taught.temperature:g}"
        )
    if trainer.progress.epoch == config.training.epochs:
        reporter.say(f"{run.path} is trained to its last epoch, {config.training.epochs}; it is evaluated again")
    elif resumed and (trainer.progress.epoch or trainer.progress.step):
        done, all_steps = trainer.progress.step, trainer.steps_per_epoch
        reporter.say(f"goes on in epoch {trainer.progress.epoch + 1} after {done} of its {all_steps} steps")
    elif warmup_epochs(config.training) < config.training.warmup_epochs:
        reporter.say(
            f"the warm-up is {warmup_epochs(config.training):g} instead of {config.training.warmup_epochs} epochs, "
            "half of the training at most"
        )
    try:
        made_by = store.meta["provenance"]
        others = rests_on(_records(run.provenance()))
        tested = fingerprint_of_part(store, test_part)
        description = describe(
            config, store.classes, store.layout, made_by.get("columns"), others, tested, made_by.get("cleaning")
        )
        _fit(run, trainer, pipeline, validation, description, reporter, stop)
    except Interrupted:
        raise Interrupted(
            f"stopped in epoch {trainer.progress.epoch + 1} after {trainer.progress.step} of its "
            f"{trainer.steps_per_epoch} steps; go on with: last train --resume {run.path}"
        ) from None
    if feed.waited >= 1:
        reporter.say(f"training waited {feed.waited:.0f} s for the disk")
    return evaluate(run, device, reporter, reports=reports)


def _records(made_by: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the networks that a training rests on: its start and its teachers."""
    return [*([made_by["start"]] if "start" in made_by else []), *made_by.get("teachers", [])]


def _size(model: Network) -> str:
    deployed, trained = count_parameters(model.deploy()), count_parameters(model)
    return f"{deployed:,} parameters" + ("" if trained == deployed else f", in training {trained:,}")


def _fit(
    run: Run,
    trainer: Trainer,
    pipeline: Pipeline,
    validation: Feed | None,
    description: dict[str, Any],
    reporter: Reporter,
    stop: Callable[[], bool] | None,
) -> None:
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import, so only where it is needed

    epochs, note, warning = trainer.config.epochs, trainer.note, trainer.progress.warning

    def validate(model: nn.Module) -> dict[str, float]:
        assert validation is not None
        metrics = measure(predict(model, pipeline, validation), validation.labels)
        return {"loss": metrics.loss, "top1": metrics.top1}

    def on_epoch(row: dict[str, float]) -> None:
        nonlocal note, warning
        if note != trainer.note:
            note = trainer.note
            reporter.say(note)
        for key, value in row.items():
            board.add_scalar(key.replace("_", "/", 1), value, int(row["epoch"]))
        scores = ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in row.items() if k != "epoch")
        reporter.say(f"epoch {row['epoch']}/{epochs}: {scores}")
        if warning != trainer.progress.warning:
            warning = trainer.progress.warning
            reporter.say(f"warning: {warning}")

    def write_history() -> None:
        if trainer.progress.history:
            run.write_history(trainer.progress.history)

    with (
        SummaryWriter(str(run.path / "tensorboard"), purge_step=trainer.progress.epoch + 1) as board,
        reporter.bar("training", trainer.steps_per_epoch * epochs) as advance,
        nullcontext(stop) if stop else stop_on_signal(reporter) as stopping,
    ):
        try:
            trainer.fit(
                run.checkpoint,
                on_epoch,
                advance,
                validate if validation is not None else None,
                lambda: save_weights(run.weights("best"), trainer.averaged.deploy(), description),
                stopping,
                write_history,
            )
        finally:
            write_history()  # of a training that failed too, to the epoch before
    save_weights(run.weights("last"), trainer.averaged.deploy(), description)
    if trainer.config.ema:
        save_weights(run.weights("unaveraged"), trainer.model.deploy(), description)
