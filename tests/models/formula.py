"""Weights and clips from a formula, so that a test can hold what the authors' own code gives for the same ones."""

import math
import zlib

import torch


def wave(shape, phase):
    size = math.prod(shape)
    return torch.sin(0.7 * torch.arange(size, dtype=torch.float64).square() + phase).view(shape).float()


def filled(model):
    """The model in evaluation mode with each value set from its name and place; scales and variances in 0.5 to 1.5."""
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        values = wave(value.shape, zlib.crc32(name.encode()) % 100)
        if value.dim() > 1:
            values *= math.sqrt(2 / value[0].numel())
        elif name.endswith(("weight", "running_var")):
            values = 1 + values / 2
        value.copy_(values)
    return model.eval()
