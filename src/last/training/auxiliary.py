"""What an auxiliary classifier says of a batch, beside the scores of its network. Shapes: N batch, K classes."""

from collections.abc import Generator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def overhear(network: nn.Module) -> Generator[list[Tensor]]:
    """Collect the auxiliary scores, (N, K), of each call of a network; none where it has no such classifier."""
    scores: list[Tensor] = []
    classifier = getattr(network, "auxiliary", None)
    if classifier is None:
        yield scores
        return
    hook = classifier.register_forward_hook(lambda layer, features, said: scores.append(said))
    try:
        yield scores
    finally:
        hook.remove()
