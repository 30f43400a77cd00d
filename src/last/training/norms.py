"""BatchNorm's running statistics in a training's first step."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def fresh_norms(network: nn.Module) -> list[_BatchNorm]:
    """Those that have seen no batch."""
    norms = (layer for layer in network.modules() if isinstance(layer, _BatchNorm))
    return [norm for norm in norms if norm.num_batches_tracked is not None and not norm.num_batches_tracked]


@contextmanager
def starting_from_this_batch(norms: Sequence[_BatchNorm]) -> Generator[None]:
    """Let running statistics begin as those of the next batch.

    They are made as mean 0 and variance 1, of which 0.9^n is left after n steps. Where a variance is a thousandth of
    that, as deep in a network, a training of fifty steps would be scored by statistics that are nobody's.
    """
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
