"""One optimiser step as one unit, from the places of its clips to the moved weights.

Shapes: N clips of a step, E steps of an epoch.
"""

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from last.config import TrainingConfig
from last.data.batches import DeviceClips, Pipeline
from last.models import Network
from last.training.auxiliary import overhear
from last.training.checkpoint import load_weights
from last.training.distill import Distillation
from last.training.optim import MovingAverage, average_weight, build_optimizer, learning_rate
from last.training.precision import Precision
from last.training.randomness import ALONE, drawing_from

# Steps whose losses are kept on the device. On a GPU the host looks at them this often, since looking makes it wait.
CHECK_EVERY = 50


class Step:
    """A step that takes nothing from the host and tells it nothing until :meth:`read` asks.

    All that differs from step to step lies on the device: the step's number, by which it finds its learning rate and
    its weight in the moving average, and the sums that it adds to. So the very code that runs step by step can also be
    recorded once, as a CUDA graph, and replayed.

    Args:
        model: on the device.
        pipeline: makes training batches.
        config: the recipe.
        steps_per_epoch: E.
        micro_batch: clips that the device holds at once; the rest of a step's is accumulated.
        class_weights: (classes,) on the device, or None where all weigh alike.
        distillation: what else the network learns from, on the device, or None.

    Attributes:
        generator: what augmentation draws from, and on a GPU dropout too.
        average: the moving average of the network, where the recipe has one.
    """

    def __init__(
        self,
        model: Network,
        pipeline: Pipeline,
        config: TrainingConfig,
        steps_per_epoch: int,
        micro_batch: int,
        class_weights: Tensor | None = None,
        distillation: Distillation | None = None,
    ):
        self.model = model
        self.pipeline = pipeline
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.micro_batch = micro_batch
        self.class_weights = class_weights
        self.distillation = distillation
        self._learning = nn.ModuleList([model] if distillation is None else [model, distillation])
        self.optimizer = build_optimizer(self._learning, config)
        self.average = MovingAverage(model) if config.ema else None
        self._rate: Tensor = self.optimizer.param_groups[0]["lr"]
        self.device = device = self._rate.device
        self.precision = Precision.choose(config.amp, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision.dtype == torch.float16)
        self.generator = Generator(device).manual_seed(config.seed)
        self._number = torch.zeros(1, dtype=torch.long, device=device)  # of the step in its epoch
        self._rates = torch.zeros(steps_per_epoch, device=device)
        self._weights = torch.zeros(steps_per_epoch, device=device)
        self._losses = torch.zeros(CHECK_EVERY, dtype=torch.float64, device=device)
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)  # of losses over clips, of clips that are right
        self.begin(0)

    def begin(self, epoch: int, done: int = 0, loss: float = 0.0, correct: float = 0.0) -> None:
        """Get ready for an epoch, or for the rest of one.

        Args:
            epoch: its number, from 0.
            done: steps of it that were taken.
            loss: what :meth:`read` told of them.
            correct: likewise.
        """
        first = epoch * self.steps_per_epoch
        steps = range(first, first + self.steps_per_epoch)
        rates = [learning_rate(self.config, self.steps_per_epoch, step) for step in steps]
        self._rates.copy_(torch.tensor(rates))
        self._weights.copy_(torch.tensor([average_weight(self.config.ema, step) for step in steps]))
        self._sums.copy_(torch.tensor([loss, correct], dtype=torch.float64))
        self._number.fill_(done)

    def __call__(self, clips: DeviceClips, places: Tensor) -> None:
        """Take the step.

        Args:
            clips: on the device.
            places: of the step's clips in them, (N,) int64 on the device.
        """
        now = self._number % self.steps_per_epoch
        self._rate.copy_(self._rates.index_select(0, now)[0])
        self.optimizer.zero_grad()
        with drawing_from(self.generator):
            loss, correct = self._gradient(clips, places)
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._learning.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self._weights.index_select(0, now)[0])
        self._losses.index_copy_(0, self._number % CHECK_EVERY, loss[None])
        self._sums += torch.stack([loss * len(places), correct])
        self._number += 1

    def _gradient(self, clips: DeviceClips, places: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and number of right clips, both () float64; the gradient is in the parameters."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.float64, device=self.device)
        labels = clips.labels[places]
        weight = 1 / len(places) if self.class_weights is None else 1 / self.class_weights[labels].sum()
        for part, target in zip(places.split(self.micro_batch), labels.split(self.micro_batch), strict=True):
            streams, mask = self.pipeline.train(clips, part, self.generator)
            with self.precision.autocast(self.device), overhear(self.model) as auxiliary:
                if self.distillation is None:
                    scores = self.model(streams, mask)
                else:
                    scores, taught = self.distillation(self.model, streams, mask, part)
                # A sum divided by the whole batch: parts of unequal size weigh as they would in one batch.
                loss = weight * self._on_labels(scores, target)
                for others in auxiliary:
                    loss = loss + self.config.auxiliary * weight * self._on_labels(others, target)
                if self.distillation is not None:
                    loss = self.distillation.label_weight * loss + taught / len(places)
            self.scaler.scale(loss).backward()
            total += loss.detach()
            correct += (scores.detach().argmax(1) == target).sum()
        return total, correct

    def _on_labels(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, summed over clips, ()."""
        smoothing = self.config.label_smoothing
        return F.cross_entropy(scores.float(), labels, self.class_weights, reduction="sum", label_smoothing=smoothing)

    def read(self, first: int, end: int) -> tuple[list[float], float, float]:
        """What the steps of this epoch came to; the host waits for the device.

        Args:
            first: step of the epoch whose loss is asked for first, one of the last :data:`CHECK_EVERY`.
            end: steps taken in this epoch.

        Returns:
            The mean loss of each step from ``first``; over the epoch's clips the sum of losses and the number of
            right ones.
        """
        loss, correct, *losses = torch.cat([self._sums, self._losses]).tolist()
        return [losses[step % CHECK_EVERY] for step in range(first, end)], loss, correct

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "distillation": None if self.distillation is None else self.distillation.state_dict(),
            "ema": None if self.average is None else self.average.module.state_dict(),
            "generator": self.generator.get_state(),
            # Dropout on the CPU draws from the generator of the whole process.
            "rng": torch.get_rng_state() if self.device.type == "cpu" else None,
        }

    def load_state_dict(self, state: dict[str, Any], source: str) -> None:
        """Go on from what :meth:`state_dict` gave.

        Args:
            state: that.
            source: where it is from, for errors.

        Raises:
            CheckpointError: it is of another network.
            KeyError, RuntimeError, TypeError, ValueError: it is of another version of LAST.
        """
        load_weights(self.model, state["model"], source)
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate
        self.scaler.load_state_dict(state["scaler"])
        if self.distillation is not None:
            load_weights(self.distillation, state["distillation"], source)
        if self.average is not None:
            load_weights(self.average.module, state["ema"], source)
        self.generator.set_state(state["generator"])
        if state["rng"] is not None:
            with ALONE:
                torch.set_rng_state(state["rng"])
