"""Parameter groups, optimiser, schedule and the moving average of the weights.

All of it is free of the host: what changes from step to step is a number on the device.
"""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from last.models import Network
from last.settings import TrainingConfig

# Everything else (biases, BatchNorm, softmax weights, learned graphs) is small by design, not by decay.
DECAYED = (nn.Linear, nn.Conv1d, nn.Conv2d)


def decayed_names(model: nn.Module) -> set[str]:
    """Exact names of the parameters that decay: the weights of convolutions and linear layers."""
    return {
        f"{name}.weight" if name else "weight" for name, module in model.named_modules() if isinstance(module, DECAYED)
    }


def build_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """The recipe's optimiser over two groups, decayed and not, each step a single kernel for many parameters.

    SGD has Nesterov momentum (plain where the momentum is 0); Adam adds the decay to the gradient, as the authors who
    use it do. Both groups share one learning rate, a tensor on the device, () float32.
    """
    every = dict(model.named_parameters())
    names = set(every) if config.decayed == "all" else decayed_names(model)
    groups = [
        {"params": [p for name, p in every.items() if name in names], "weight_decay": config.weight_decay},
        {"params": [p for name, p in every.items() if name not in names], "weight_decay": 0.0},
    ]
    rate = torch.tensor(config.lr, dtype=torch.float32, device=next(iter(every.values())).device)
    if config.optimizer == "adam":
        return Adam(groups, lr=rate, fused=True)
    optimizer = SGD(groups, lr=rate, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)
    if config.momentum > 0:
        # Else the first step makes it, of bare memory, and leaves it so where float16 overflows.
        for parameter in every.values():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def learning_rate(config: TrainingConfig, steps_per_epoch: int, step: int) -> float:
    """Linear warm-up from ``warmup_lr`` to ``lr``, then a cosine to ``min_lr`` at the last step, or falls in steps.

    Args:
        config: the recipe; ``milestones`` count from the first epoch, warm-up included.
        steps_per_epoch: optimiser steps.
        step: how many of them were taken before, in all.
    """
    warmup = int(steps_per_epoch * warmup_epochs(config))
    if step < warmup:
        start = min(config.lr, config.warmup_lr)
        return start + (config.lr - start) * step / warmup
    if config.schedule == "steps":
        falls = [max(warmup + 1, steps_per_epoch * epoch) for epoch in config.milestones]
        return config.lr * config.step_factor ** sum(step >= fall for fall in falls)
    low = min(config.min_lr, config.lr)
    share = (step - warmup) / max(1, steps_per_epoch * config.epochs - warmup)
    return low + (config.lr - low) * (1 + math.cos(math.pi * share)) / 2


def warmup_epochs(config: TrainingConfig) -> float:
    """Epochs of warm-up: half of the training at most, since a shorter schedule would never reach its peak."""
    return min(config.warmup_epochs, config.epochs / 2)


def average_weight(decay: float, step: int) -> float:
    """Share of the newest weights in their moving average.

    The decay rises to ``decay`` as (1 + n) / (10 + n), so that a short training is not held back by its start.

    Args:
        decay: the recipe's.
        step: n, how many steps are in the average already; the first becomes the average.
    """
    return 1.0 if step == 0 else 1 - min(decay, (1 + step) / (10 + step))


class MovingAverage:
    """Exponential moving average of weights and BatchNorm statistics.

    Attributes:
        module: a network of its own, with the averages for weights; counts are those of the newest.
    """

    def __init__(self, model: Network):
        self.module = deepcopy(model).requires_grad_(False)
        pairs = [
            (mean, value.detach())
            for own, other in ((self.module.parameters(), model.parameters()), (self.module.buffers(), model.buffers()))
            for mean, value in zip(own, other, strict=True)
        ]
        real = [pair for pair in pairs if pair[0].is_floating_point()]
        whole = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._means, self._values = [mean for mean, _ in real], [value for _, value in real]
        self._counts, self._newest = [count for count, _ in whole], [newest for _, newest in whole]

    @torch.no_grad()
    def update(self, weight: float | Tensor) -> None:
        """Move towards the network's present weights by a share of the way, a number or () on the device."""
        way = torch._foreach_sub(self._values, self._means)
        torch._foreach_mul_(way, weight)
        torch._foreach_add_(self._means, way)
        if self._counts:
            torch._foreach_copy_(self._counts, self._newest)
