"""What a network costs: parameters and multiply-accumulates."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from last.models.registry import Network, create_model
from last.skeleton import Layout, load_layout


def on_paper(name: str, num_classes: int = 60, layout: Layout | str = "ntu", **settings) -> Network:
    """A network without weights, as :func:`last.create_model` builds it, to count and not to compute."""
    with torch.device("meta"):
        return create_model(name, num_classes, layout, **settings)


def count_parameters(model: nn.Module) -> int:
    """Every trainable value."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_macs(
    name: str,
    num_classes: int = 60,
    layout: Layout | str = "ntu",
    frames: int = 64,
    bodies: int = 1,
    **settings,
) -> int:
    """Multiply-accumulates of all convolutions and matrix products for one clip, without computing anything.

    Args:
        name: registered name or alias.
        num_classes: size of the output.
        layout: the skeleton.
        frames: T.
        bodies: M.
        **settings: of the network, as :func:`last.create_model` takes them.
    """
    layout = load_layout(layout) if isinstance(layout, str) else layout
    model = on_paper(name, num_classes, layout, **settings).eval()
    shape = (1, model.in_channels, frames, len(layout.joints), bodies)
    x = {stream: torch.empty(shape, device="meta") for stream in model.streams}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2
