"""One epoch, one fit; no model or data set is named here.

Shapes: N batch.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.feed import Feed, Resident
from last.models import Network
from last.progress import Interrupted
from last.settings import StepMode, TrainingConfig
from last.training.captured import CapturedStep, why_eager, working_on
from last.training.checkpoint import CheckpointError, read_checkpoint, save_checkpoint
from last.training.collapse import collapse
from last.training.distill import Distillation, classifiers
from last.training.optim import learning_rate, warmup_epochs
from last.training.randomness import ALONE, own_stream
from last.training.step import CHECK_EVERY, Step

# Seconds between checkpoints: an epoch of a small set on a GPU is shorter than saving, of which many trainings side by
# side have one thread of Python.
_SAVING = 10.0


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what is kept."""


@dataclass
class Progress:
    """Where a training stands; part of every checkpoint.

    Attributes:
        epoch: epochs that are complete.
        step: optimiser steps taken in the next epoch.
        loss: sum over its clips so far.
        correct: clips of it so far whose highest score was right.
        seen: clips of it so far.
        seconds: spent in it before an interruption.
        predicted: clips of it so far that were taken for each class.
        history: a row of metrics for each complete epoch.
        best: highest validation top-1 so far, in percent.
        warning: what the first epoch that collapsed to one class gave to say.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    predicted: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -1.0
    warning: str | None = None


class Trainer:
    """A network, its optimiser and its place in the schedule.

    Args:
        model: on the feed's device.
        pipeline: makes training batches.
        feed: the training part, on its way to the device.
        config: the recipe.
        largest_batch: clips that the device holds at once; larger batches are accumulated.
        clip_name: name of a clip by its place in ``feed``, for error messages.
        step: ``graph`` captures the step, ``eager`` does not, ``auto`` does where it can be.
        distillation: what else the network learns from, on the feed's device, or None.
        class_name: name of a class by its number, for warnings.

    Raises:
        TrainingError: the step is to be captured and cannot be.
    """

    def __init__(
        self,
        model: Network,
        pipeline: Pipeline,
        feed: Feed,
        config: TrainingConfig,
        largest_batch: int | None = None,
        clip_name: Callable[[int], str] = str,
        step: StepMode = "auto",
        distillation: Distillation | None = None,
        class_name: Callable[[int], str] = str,
    ):
        self.model = model
        self.pipeline = pipeline
        self.feed = feed
        self.config = config
        self.device = feed.device
        self.clip_name = clip_name
        self.class_name = class_name
        self.step_size = config.batch_size * config.accumulate
        self.steps_per_epoch = math.ceil(len(feed) / self.step_size)
        micro_batch = min(config.batch_size, largest_batch or config.batch_size)
        weights = self._class_weights()
        self.unit = Step(model, pipeline, config, self.steps_per_epoch, micro_batch, weights, distillation)
        if distillation is not None and isinstance(feed, Resident) and pipeline.augmentation == Augmentation():
            with self.unit.precision.autocast(self.device):
                distillation.remember(pipeline, feed.clips)
        self.progress = Progress()
        # Of its own, so that trainings side by side do not wait for each other, and since the default has no graphs.
        self._stream = own_stream(self.device, self)
        self._mode: StepMode = step
        self._captured = self._capture()
        if self.device.type == "cpu":
            with ALONE:
                torch.manual_seed(config.seed)  # dropout draws from torch's own generator

    @property
    def averaged(self) -> Network:
        """The network to report: the moving average where there is one."""
        return self.model if self.unit.average is None else self.unit.average.module

    @property
    def note(self) -> str:
        """How steps are taken, and why, in one line; so far, since recording one may fail."""
        if self._captured is not None and self._captured.fault is None:
            return "each step is one CUDA graph"
        fault = why_eager(self.unit, self.feed) if self._captured is None else self._captured.fault
        why = "environment.step is eager" if self._mode == "eager" else fault
        return f"steps are not captured, since {why}"

    def _capture(self) -> CapturedStep | None:
        if self._mode == "eager":
            return None
        fault = why_eager(self.unit, self.feed)
        if fault and self._mode == "graph":
            raise TrainingError(
                f"environment.step is graph, and a step cannot be captured here, since {fault}; leave it at auto, "
                "which captures where it can"
            )
        return None if fault else CapturedStep(self.unit, self.step_size)

    def step(self, clips: DeviceClips, places: Tensor) -> None:
        """Take one optimiser step; what it came to is read from ``unit``.

        Args:
            clips: on the device.
            places: of the step's clips in them, (N,) int64 on the device.
        """
        with working_on(self._stream):
            (self._captured or self.unit)(clips, places)

    def fit(
        self,
        checkpoint: Path,
        on_epoch: Callable[[dict[str, float]], None],
        on_step: Callable[[int], None] = lambda done: None,
        validate: Callable[[nn.Module], dict[str, float]] | None = None,
        on_best: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
        on_saved: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to the last epoch, from wherever ``progress`` stands.

        Args:
            checkpoint: written after the first and the last epoch, when interrupted, and between after the first epoch
                that ends ten seconds or more after the one before.
            on_epoch: given each epoch's row of metrics.
            on_step: given the optimiser steps done in all.
            validate: scores the averaged network on the validation part: ``loss`` and ``top1``.
            on_best: called when the validation's top-1 rises.
            stop: asked after each step whether to stop.
            on_saved: called after each checkpoint.

        Raises:
            TrainingError: the loss is not finite; names the clips. The last checkpoint is whole.
            Interrupted: ``stop`` said so; the checkpoint holds the very step.
        """
        due = time.perf_counter()
        while self.progress.epoch < self.config.epochs:
            try:
                with working_on(self._stream):
                    row = self._epoch(on_step, stop)
            except Interrupted:
                self.save(checkpoint)
                on_saved()
                raise
            better = False
            if validate is not None:
                with working_on(self._stream):
                    scores = validate(self.averaged)
                row |= {f"validation_{name}": value for name, value in scores.items()}
                better = scores["top1"] > self.progress.best
                self.progress.best = max(self.progress.best, scores["top1"])
            if better:
                on_best()  # before the checkpoint says so: killed in between, a resumed run does it again
            done = self.progress
            warning = done.warning
            if warning is None and done.epoch >= warmup_epochs(self.config):
                warning = collapse(done.epoch + 1, done.predicted, self.feed.labels, self.class_name)
            self.progress = Progress(done.epoch + 1, history=[*done.history, row], best=done.best, warning=warning)
            on_epoch(row)
            last = done.epoch + 1 == self.config.epochs
            stopping = not last and stop()
            if last or stopping or time.perf_counter() >= due:
                self.save(checkpoint)
                on_saved()
                due = time.perf_counter() + _SAVING
            if stopping:
                raise Interrupted

    def _epoch(self, on_step: Callable[[int], None], stop: Callable[[], bool]) -> dict[str, float]:
        progress, start = self.progress, time.perf_counter()
        self.model.train()
        order = self.feed.order(Generator().manual_seed(self.config.seed * 1_000_003 + progress.epoch))
        self.unit.begin(progress.epoch, progress.step, [progress.loss, progress.correct, *progress.predicted])
        before = progress.epoch * self.steps_per_epoch
        settled = progress.step
        for clips, places in self.feed.batches(order, self.step_size, progress.step):
            self.step(clips, places)
            progress.step += 1
            progress.seen += len(places)
            on_step(before + progress.step)
            stopping, last = stop(), progress.step == self.steps_per_epoch
            if stopping or last or self.device.type == "cpu" or progress.step % CHECK_EVERY == 0:
                self._settle(order, settled)
                settled = progress.step
            if stopping and not last:
                progress.seconds += time.perf_counter() - start
                raise Interrupted
        return {
            "epoch": progress.epoch + 1,
            "lr": learning_rate(self.config, self.steps_per_epoch, before + progress.step),
            "train_loss": progress.loss / progress.seen,
            "train_top1": 100 * progress.correct / progress.seen,
            "seconds": progress.seconds + time.perf_counter() - start,
        }

    def _settle(self, order: Tensor, first: int) -> None:
        """Bring the epoch's sums to the host, or stop if a loss from this step on was not finite."""
        progress, size = self.progress, self.step_size
        losses, (progress.loss, progress.correct, *progress.predicted) = self.unit.read(first, progress.step)
        for step, loss in enumerate(losses, first):
            if not math.isfinite(loss):
                self._fail(order[step * size : (step + 1) * size], step)

    def _class_weights(self) -> Tensor | None:
        """Inverse frequencies with mean 1 over clips, (classes,); None where all weigh alike."""
        if self.config.class_weights == "none":
            return None
        counts = torch.bincount(self.feed.labels).float()
        weights = torch.where(counts > 0, len(self.feed) / (counts.clamp(min=1) * (counts > 0).sum()), 1.0)
        classes = classifiers(self.model)[0].out_features
        return F.pad(weights, (0, classes - len(weights)), value=1.0).to(self.device)

    def _fail(self, index: Tensor, step: int) -> None:
        names = [self.clip_name(i) for i in index.tolist()]
        raise TrainingError(
            f"the loss is not finite in epoch {self.progress.epoch + 1}, step {step + 1}, on the clips "
            f"{', '.join(names)}; the last checkpoint, if there was one, is kept. Look at these clips with 'last data "
            "show', or train with a lower --lr"
        )

    def save(self, path: Path) -> None:
        """Write all that an exact resume needs."""
        save_checkpoint(
            path,
            {
                "progress": vars(self.progress),
                "config": _plain(self.config),
                "clips": self._fingerprint(),
                "device": self.device.type,
                **self.unit.state_dict(),
            },
        )

    def load(self, path: Path) -> None:
        """Go on exactly where :meth:`save` left off.

        Raises:
            CheckpointError: the file is damaged, or belongs to another network, recipe or training part.
        """
        state = read_checkpoint(path)
        try:
            if state["clips"] != self._fingerprint():
                raise CheckpointError(
                    f"{path} was trained on other clips than the {len(self.feed)} that are there now, or draws them in "
                    "another order, as a machine of other memory may; prepare the same data, or start a new run"
                )
            if state["device"] != self.device.type:
                raise CheckpointError(
                    f"{path} was trained on {state['device']}, and the device is {self.device.type}, where random "
                    f"numbers differ; add --device {state['device']}, or start a new run"
                )
            then = _plain(TrainingConfig()) | state["config"]  # with a default for each setting that is newer
            changed = [
                f"{key} (then {then[key]}, now {value})"
                for key, value in _plain(self.config).items()
                if then[key] != value
            ]
            if changed:
                raise CheckpointError(
                    f"{path} was made by another recipe: {'; '.join(changed)}; resume with the settings of the run, or "
                    "start a new one"
                )
            self.unit.load_state_dict(state, str(path))
            self.progress = Progress(**state["progress"])
            self._captured = self._capture()  # a recording writes to the optimiser's tensors of before
        except (KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(f"{path} does not fit this network or version of LAST: {error}") from error

    def _fingerprint(self) -> str:
        """Which clips train, by their labels and lengths, and in which order they are drawn."""
        tables = [getattr(self.feed, key) for key in ("labels", "frames", "bodies")]
        tables.append(self.feed.order(Generator().manual_seed(0)))
        return hashlib.blake2b(b"".join(table.numpy().tobytes() for table in tables), digest_size=16).hexdigest()


def _plain(config: TrainingConfig) -> dict[str, Any]:
    """The recipe as a checkpoint holds it, lists for tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(config).items()}
