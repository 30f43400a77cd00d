"""Parameter groups, optimiser, schedule and the moving average of the weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, SequentialLR
from torch.optim.swa_utils import AveragedModel

from last.config import TrainingConfig

# Everything else (biases, BatchNorm, softmax weights, learned graphs) is small by design, not by decay.
DECAYED = (nn.Linear, nn.Conv1d, nn.Conv2d)


def decayed_names(model: nn.Module) -> set[str]:
    """Exact names of the parameters that decay: the weights of convolutions and linear layers."""
    return {
        f"{name}.weight" if name else "weight" for name, module in model.named_modules() if isinstance(module, DECAYED)
    }


def build_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """The recipe's optimiser over two groups, decayed and not.

    SGD has Nesterov momentum (plain where the momentum is 0); Adam adds the decay to the gradient, as the authors who
    use it do.
    """
    every = dict(model.named_parameters())
    names = set(every) if config.decayed == "all" else decayed_names(model)
    groups = [
        {"params": [p for name, p in every.items() if name in names], "weight_decay": config.weight_decay},
        {"params": [p for name, p in every.items() if name not in names], "weight_decay": 0.0},
    ]
    if config.optimizer == "adam":
        return Adam(groups, lr=config.lr)
    return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def build_schedule(optimizer: Optimizer, config: TrainingConfig, steps_per_epoch: int) -> LRScheduler:
    """Linear warm-up from ``warmup_lr`` to ``lr``, then a cosine to ``min_lr`` at the last step, or falls in steps.

    Args:
        optimizer: of :func:`build_optimizer`.
        config: the recipe; ``milestones`` count from the first epoch, warm-up included.
        steps_per_epoch: optimiser steps.
    """
    steps, warmup_steps = steps_per_epoch * config.epochs, int(steps_per_epoch * warmup_epochs(config))
    main: LRScheduler
    if config.schedule == "steps":
        falls = [steps_per_epoch * epoch - warmup_steps for epoch in config.milestones]
        main = MultiStepLR(optimizer, [max(1, step) for step in falls], gamma=config.step_factor)
    else:
        main = CosineAnnealingLR(optimizer, max(1, steps - warmup_steps), eta_min=min(config.min_lr, config.lr))
    if warmup_steps == 0 or config.lr == 0:
        return main
    start = min(1.0, max(config.warmup_lr / config.lr, 1e-8))
    warmup = LinearLR(optimizer, start_factor=start, total_iters=warmup_steps)
    return SequentialLR(optimizer, [warmup, main], milestones=[warmup_steps])


def warmup_epochs(config: TrainingConfig) -> float:
    """Epochs of warm-up: half of the training at most, since a shorter schedule would never reach its peak."""
    return min(config.warmup_epochs, config.epochs / 2)


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and BatchNorm statistics.

    The decay rises to ``decay`` as (1 + n) / (10 + n), so that a short training is not held back by its start.
    """

    @torch.no_grad()
    def average(means: Iterable[Tensor], values: Iterable[Tensor], count: Tensor | int) -> None:
        n = int(ema.n_averaged)  # not ``count``, which lies on the device and would make the host wait for it
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for mean, value in zip(means, values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)

    ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    return ema
