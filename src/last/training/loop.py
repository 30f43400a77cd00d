"""One epoch, one fit; no model or data set is named here.

Shapes: N batch.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from last.config import TrainingConfig
from last.data.batches import DeviceClips, Pipeline
from last.progress import Interrupted
from last.training.checkpoint import CheckpointError, load_weights, read_checkpoint, save_checkpoint
from last.training.optim import build_ema, build_optimizer, build_schedule
from last.training.precision import Precision

# On a GPU the loss is looked at this often, since looking makes the host wait.
CHECK_EVERY = 50


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
        history: a row of metrics for each complete epoch.
        best: highest validation top-1 so far, in percent.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -1.0


class Trainer:
    """A network, its optimiser and its place in the schedule.

    Args:
        model: on ``device``.
        pipeline: makes training batches.
        clips: the training part, on ``device``.
        config: the recipe.
        device: where all of it happens.
        largest_batch: clips that the device holds at once; larger batches are accumulated.
        clip_name: name of a clip by its place in ``clips``, for error messages.
    """

    def __init__(
        self,
        model: nn.Module,
        pipeline: Pipeline,
        clips: DeviceClips,
        config: TrainingConfig,
        device: torch.device,
        largest_batch: int | None = None,
        clip_name: Callable[[int], str] = str,
    ):
        self.model = model
        self.pipeline = pipeline
        self.clips = clips
        self.config = config
        self.device = device
        self.micro_batch = min(config.batch_size, largest_batch or config.batch_size)
        self.clip_name = clip_name
        self.steps_per_epoch = math.ceil(len(clips) / (config.batch_size * config.accumulate))
        self.optimizer = build_optimizer(model, config)
        self.schedule = build_schedule(self.optimizer, config, self.steps_per_epoch)
        self.ema = build_ema(model, config.ema) if config.ema else None
        self.precision = Precision.choose(config.amp, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision.dtype == torch.float16)
        self.class_weights = self._class_weights()
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.progress = Progress()
        torch.manual_seed(config.seed)  # dropout draws from torch's own generator

    @property
    def averaged(self) -> nn.Module:
        """The network to report: the moving average where there is one."""
        return self.model if self.ema is None else self.ema.module

    def fit(
        self,
        checkpoint: Path,
        on_epoch: Callable[[dict[str, float]], None],
        on_step: Callable[[int], None] = lambda done: None,
        validate: Callable[[nn.Module], dict[str, float]] | None = None,
        on_best: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the last epoch, from wherever ``progress`` stands.

        Args:
            checkpoint: written after each epoch, and when interrupted.
            on_epoch: given each epoch's row of metrics.
            on_step: given the optimiser steps done in all.
            validate: scores the averaged network on the validation part: ``loss`` and ``top1``.
            on_best: called when the validation's top-1 rises.
            stop: asked after each step whether to stop.

        Raises:
            TrainingError: the loss is not finite; names the clips. The last checkpoint is whole.
            Interrupted: ``stop`` said so; the checkpoint holds the very step.
        """
        while self.progress.epoch < self.config.epochs:
            try:
                row = self._epoch(on_step, stop)
            except Interrupted:
                self.save(checkpoint)
                raise
            better = False
            if validate is not None:
                scores = validate(self.averaged)
                row |= {f"validation_{name}": value for name, value in scores.items()}
                better = scores["top1"] > self.progress.best
                self.progress.best = max(self.progress.best, scores["top1"])
            if better:
                on_best()  # before the checkpoint says so: killed in between, a resumed run does it again
            done = self.progress
            self.progress = Progress(epoch=done.epoch + 1, history=[*done.history, row], best=done.best)
            self.save(checkpoint)
            on_epoch(row)

    def _epoch(self, on_step: Callable[[int], None], stop: Callable[[], bool]) -> dict[str, float]:
        progress, start = self.progress, time.perf_counter()
        self.model.train()
        order = self._order(progress.epoch)
        size = self.config.batch_size * self.config.accumulate
        totals = torch.tensor([progress.loss, progress.correct], dtype=torch.float64, device=self.device)
        losses: list[Tensor] = []
        first_unchecked = progress.step

        def settle() -> None:
            """Bring the sums to the host, or stop if a loss since the last time was not finite."""
            nonlocal first_unchecked
            for step, loss in enumerate(torch.stack(losses).tolist() if losses else [], first_unchecked):
                if not math.isfinite(loss):
                    self._fail(order[step * size : (step + 1) * size], step)
            losses.clear()
            first_unchecked = progress.step
            progress.loss, progress.correct = totals.tolist()

        while progress.step < self.steps_per_epoch:
            index = order[progress.step * size : (progress.step + 1) * size]
            loss, correct = self.step(index)
            totals += torch.stack([loss * len(index), correct])
            losses.append(loss)
            progress.step += 1
            progress.seen += len(index)
            on_step(progress.epoch * self.steps_per_epoch + progress.step)
            stopping = stop()
            if stopping or self.device.type == "cpu" or progress.step % CHECK_EVERY == 0:
                settle()
            if stopping and progress.step < self.steps_per_epoch:
                progress.seconds += time.perf_counter() - start
                raise Interrupted
        settle()
        return {
            "epoch": progress.epoch + 1,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": progress.loss / progress.seen,
            "train_top1": 100 * progress.correct / progress.seen,
            "seconds": progress.seconds + time.perf_counter() - start,
        }

    def _order(self, epoch: int) -> Tensor:
        """The epoch's clips in random order, which depends on the seed and the epoch alone."""
        generator = torch.Generator(self.device).manual_seed(self.config.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.clips), generator=generator, device=self.device)

    def step(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """One optimiser step on the given clips: mean loss and number of correct ones, both on the device.

        Args:
            index: places in ``clips``, (N,), on the device.
        """
        self.optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.float64, device=self.device)
        labels = self.clips.labels[index]
        weight = 1 / len(index) if self.class_weights is None else 1 / self.class_weights[labels].sum()
        for part, target in zip(index.split(self.micro_batch), labels.split(self.micro_batch), strict=True):
            streams, mask = self.pipeline.train(self.clips, part, self.generator)
            with self._autocast():
                scores = self.model(streams, mask)
                # A sum divided by the whole batch: parts of unequal size weigh as they would in one batch.
                loss = weight * F.cross_entropy(
                    scores.float(),
                    target,
                    self.class_weights,
                    reduction="sum",
                    label_smoothing=self.config.label_smoothing,
                )
            self.scaler.scale(loss).backward()
            total += loss.detach()
            correct += (scores.detach().argmax(1) == target).sum()
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # else float16 overflowed, and the scaler left the step out
            self.schedule.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return total, correct

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, self.precision.dtype) if self.precision.dtype else nullcontext()

    def _class_weights(self) -> Tensor | None:
        """Inverse frequencies with mean 1 over clips, (classes,); None where all weigh alike."""
        if self.config.class_weights == "none":
            return None
        counts = torch.bincount(self.clips.labels).float()
        weights = torch.where(counts > 0, len(self.clips) / (counts.clamp(min=1) * (counts > 0).sum()), 1.0)
        classes = next(m.out_features for m in reversed(list(self.model.modules())) if isinstance(m, nn.Linear))
        return F.pad(weights, (0, classes - len(weights)), value=1.0)

    def _fail(self, index: Tensor, step: int) -> None:
        names = [self.clip_name(i) for i in index.tolist()]
        kept = "the checkpoint of the last complete epoch is kept" if self.progress.epoch else "nothing was saved yet"
        raise TrainingError(
            f"the loss is not finite in epoch {self.progress.epoch + 1}, step {step + 1}, on the clips "
            f"{', '.join(names)}; {kept}. Look at these clips with 'last data show', or train with a lower --lr"
        )

    def save(self, path: Path) -> None:
        """Write all that an exact resume needs."""
        save_checkpoint(
            path,
            {
                "progress": vars(self.progress),
                "config": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.config).items()},
                "clips": self._fingerprint(),
                "device": self.device.type,
                "generator": self.generator.get_state(),
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
                **{name: part.state_dict() for name, part in self._parts()},
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
                    f"{path} was trained on other clips than the {len(self.clips)} that are there now; prepare the "
                    "same data, or start a new run"
                )
            if state["device"] != self.device.type:
                raise CheckpointError(
                    f"{path} was trained on {state['device']}, and the device is {self.device.type}, where random "
                    f"numbers differ; add --device {state['device']}, or start a new run"
                )
            changed = [
                f"{key} (then {state['config'].get(key)}, now {value})"
                for key, value in vars(self.config).items()
                if state["config"].get(key) != (list(value) if isinstance(value, tuple) else value)
            ]
            if changed:
                raise CheckpointError(
                    f"{path} was made by another recipe: {'; '.join(changed)}; resume with the settings of the run, or "
                    "start a new one"
                )
            load_weights(self.model, state["model"], str(path))
            for name, part in self._parts():
                part.load_state_dict(state[name])
            self.generator.set_state(state["generator"])
            torch.set_rng_state(state["rng"])
            if state["cuda_rng"] is not None:
                torch.cuda.set_rng_state(state["cuda_rng"], self.device)
            self.progress = Progress(**state["progress"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(f"{path} does not fit this network or version of LAST: {error}") from error

    def _fingerprint(self) -> str:
        """Which clips train, by their labels and lengths in order."""
        parts = (getattr(self.clips, key).cpu().numpy().tobytes() for key in ("labels", "frames", "bodies"))
        return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()

    def _parts(self) -> Iterator[tuple[str, Any]]:
        yield from {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}.items()
        yield "scaler", self.scaler
        if self.ema is not None:
            yield "ema", self.ema
