"""A training that calls nearly every clip by one name, noticed while there is time to stop it. Shapes: K classes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Other classes are predicted less than this share of how often they occur.
_REST = 0.1


def collapse(
    epoch: int, predicted: Sequence[float], labels: Tensor, class_name: Callable[[int], str] = str
) -> str | None:
    """What to say of an epoch in which nearly all clips were taken for one class though the labels are not; else None.

    Measured by what is left for the other classes, so that a rare class that is never predicted is no collapse, and
    labels nearly all of one class may be predicted so.

    Args:
        epoch: its number, from 1.
        predicted: how many clips were taken for each class, (K,).
        labels: of all clips, on the CPU.
        class_name: name of a class by its number.
    """
    clips = sum(predicted)
    top = max(range(len(predicted)), key=predicted.__getitem__)
    share, true = predicted[top] / clips, torch.eq(labels, top).double().mean().item()
    if 1 - share >= _REST * (1 - true):
        return None
    return (
        f"the training has collapsed to one class: in epoch {epoch}, {100 * share:.0f} % of the training clips were "
        f"taken for '{class_name(top)}', the class of {100 * true:.0f} % of them; stop it, and try a lower --lr or "
        "--set training.class_weights=balanced, and look at the labels with 'last data check'"
    )
