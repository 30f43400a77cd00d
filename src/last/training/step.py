"""One optimiser step as one unit, from the places of its clips to the moved weights.

Shapes: N clips of a step, E steps of an epoch, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from last.data.batches import DeviceClips, Pipeline
from last.models import Network
from last.settings import TrainingConfig
from last.training.auxiliary import overhear
from last.training.checkpoint import load_weights
from last.training.distill import Distillation, classifiers
from last.training.norms import fresh_norms, starting_from_this_batch
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
        class_weights: (K,) on the device, or None where all weigh alike.
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
        # Of the epoch so far: the losses of its clips, those that are right, and those that are taken for each class.
        self._sums = torch.zeros(2 + classifiers(model)[0].out_features, dtype=torch.float64, device=device)
        self._fresh = fresh_norms(model)
        self.begin(0)

    def begin(self, epoch: int, done: int = 0, sums: Sequence[float] = ()) -> None:
        """Get ready for an epoch, or for the rest of one.

        Args:
            epoch: its number, from 0.
            done: steps of it that were taken.
            sums: what :meth:`read` told of them, or the first of these; the rest are 0.
        """
        first = epoch * self.steps_per_epoch
        steps = range(first, first + self.steps_per_epoch)
        rates = [learning_rate(self.config, self.steps_per_epoch, step) for step in steps]
        self._rates.copy_(torch.tensor(rates))
        self._weights.copy_(torch.tensor([average_weight(self.config.ema, step) for step in steps]))
        self._sums.zero_()[: len(sums)] = torch.tensor(sums, dtype=torch.float64)
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
        with drawing_from(self.generator), starting_from_this_batch(self._fresh):
            loss, answers = self._gradient(clips, places)
        self._fresh = []
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._learning.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self._weights.index_select(0, now)[0])
        self._losses.index_copy_(0, self._number % CHECK_EVERY, loss[None])
        self._sums += torch.cat([loss[None] * len(places), answers])
        self._number += 1

    def _gradient(self, clips: DeviceClips, places: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss, (), and how many clips are right, then how many are taken for each class, (1 + K,), in float64.

        The gradient is in the parameters.
        """
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        answers = torch.zeros_like(self._sums[1:])
        labels = clips.labels[places]
        weight = 1 / len(places) if self.class_weights is None else 1 / self.class_weights[labels].sum()
        for first in range(0, len(places), self.micro_batch):
            part = slice(first, first + self.micro_batch)
            wanted = labels[part], labels.roll(1)[part]
            share = self._share(len(wanted[0]))
            streams, mask = self._input(clips, places, part, share)
            with self.precision.autocast(self.device), overhear(self.model) as auxiliary:
                if self.distillation is None:
                    scores = self.model(streams, mask)
                else:
                    scores, taught = self.distillation(self.model, streams, mask, places[part])
                # A sum divided by the whole batch: parts of unequal size weigh as they would in one batch.
                loss = weight * self._on_labels(scores, wanted, share)
                for others in auxiliary:
                    loss = loss + self.config.auxiliary * weight * self._on_labels(others, wanted, share)
                if self.distillation is not None:
                    loss = self.distillation.label_weight * loss + taught / len(places)
            self.scaler.scale(loss).backward()
            total += loss.detach()
            best = scores.detach().argmax(1)
            answers[0] += (best == wanted[0]).sum()
            answers.index_add_(0, 1 + best, answers.new_ones(len(best)))  # bincount would ask the host
        return total, answers

    def _share(self, count: int) -> Tensor | None:
        """How much of another clip is mixed into each of so many, (N,) from 0 to 1/2; None where the recipe mixes none.

        Mixing of inputs and labels is mixup (Zhang et al., ICLR 2018), here of joints, before streams are made.
        """
        if not self.config.mix:
            return None
        chosen, share = torch.rand(2, count, generator=self.generator, device=self.device)
        return share / 2 * (chosen < self.config.mix)

    def _input(
        self, clips: DeviceClips, places: Tensor, part: slice, share: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Streams and body mask of a part of the step; into its first clip the last of the part before is mixed."""
        index = places[part]
        if share is None or len(index) == len(places):
            return self.pipeline.train(clips, index, self.generator, share)
        index = torch.cat([places[part.start - 1, None], index])
        streams, mask = self.pipeline.train(clips, index, self.generator, F.pad(share, (1, 0)))
        return {name: stream[1:] for name, stream in streams.items()}, None if mask is None else mask[1:]

    def _on_labels(self, scores: Tensor, wanted: tuple[Tensor, Tensor], share: Tensor | None) -> Tensor:
        """Cross-entropy, summed over clips, (); with a share of each on the label of the clip that is mixed in.

        Args:
            scores: (N, K).
            wanted: the labels of the clips, and of those that are mixed into them, (N,) each.
            share: as :meth:`_share` gives it.
        """

        def loss(labels: Tensor) -> Tensor:
            smoothing, scale = self.config.label_smoothing, self.class_weights
            return F.cross_entropy(scores.float(), labels, scale, reduction="none", label_smoothing=smoothing)

        own, others = wanted
        return loss(own).sum() if share is None else torch.lerp(loss(own), loss(others), share).sum()

    def read(self, first: int, end: int) -> tuple[list[float], list[float]]:
        """What the steps of this epoch came to; the host waits for the device.

        Args:
            first: step of the epoch whose loss is asked for first, one of the last :data:`CHECK_EVERY`.
            end: steps taken in this epoch.

        Returns:
            The mean loss of each step from ``first``; over the epoch's clips the sum of losses, the number of right
            ones, and those that were taken for each class, (2 + K,).
        """
        both = torch.cat([self._losses, self._sums]).tolist()
        return [both[step % CHECK_EVERY] for step in range(first, end)], both[CHECK_EVERY:]

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
        self._fresh = fresh_norms(self.model)
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
