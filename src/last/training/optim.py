"""Parameter groups, optimiser, schedule and the moving average of the weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from torch.optim.swa_utils import AveragedModel

# Everything else (biases, BatchNorm, softmax weights, learned graphs) is small by design, not by decay.
DECAYED = (nn.Linear, nn.Conv1d, nn.Conv2d)


def decayed_names(model: nn.Module) -> set[str]:
    """Exact names of the parameters that decay: the weights of convolutions and linear layers."""
    return {
        f"{name}.weight" if name else "weight" for name, module in model.named_modules() if isinstance(module, DECAYED)
    }


def build_optimizer(model: nn.Module, lr: float, momentum: float, weight_decay: float) -> Optimizer:
    """SGD with Nesterov momentum (plain where the momentum is 0) over two groups: decayed, and not."""
    names = decayed_names(model)
    decayed = [p for name, p in model.named_parameters() if name in names]
    rest = [p for name, p in model.named_parameters() if name not in names]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def build_schedule(
    optimizer: Optimizer, lr: float, warmup_lr: float, min_lr: float, warmup_steps: int, steps: int
) -> LRScheduler:
    """Linear warm-up from ``warmup_lr`` to ``lr``, then a cosine to ``min_lr`` at the last step.

    Args:
        optimizer: built with ``lr``.
        lr: the peak.
        warmup_lr: at the first step.
        min_lr: at the last step.
        warmup_steps: optimiser steps of warm-up; 0 leaves it out.
        steps: all optimiser steps.
    """
    cosine = CosineAnnealingLR(optimizer, max(1, steps - warmup_steps), eta_min=min(min_lr, lr))
    if warmup_steps == 0 or lr == 0:
        return cosine
    warmup = LinearLR(optimizer, start_factor=min(1.0, max(warmup_lr / lr, 1e-8)), total_iters=warmup_steps)
    return SequentialLR(optimizer, [warmup, cosine], milestones=[warmup_steps])


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
