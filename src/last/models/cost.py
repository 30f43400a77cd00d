"""What a network costs, by every convention in use: parameters and multiply-accumulates.

Shapes: T frames, V joints, M bodies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from last.models.registry import ALIASES, Network, canonical_name, create_model, list_models, settings_of
from last.skeleton import Layout, load_layout

FRAME_RATE = 30  # of NTU, a second

_PRODUCTS = (nn.Conv1d, nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_LAYERS = (*_PRODUCTS, *_NORMS, nn.LayerNorm, nn.PReLU)


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one clip, by two conventions.

    Attributes:
        frames: T of the clip.
        bodies: M of the clip.
        all: of convolutions, linear layers, and the products with graphs and of attention; not of sums, BatchNorm and
            products element by element.
        thop: as the package thop counted when most papers were written: convolutions, linear layers, and two for each
            value that a BatchNorm gives out. It knows nothing of products with graphs.
    """

    frames: int
    bodies: int
    all: int
    thop: int

    @property
    def per_second(self) -> float:
        """All of them for each second of input, since networks take clips of different lengths."""
        return self.all * FRAME_RATE / self.frames


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        model: its name.
        alias: its short name, or nothing.
        parameters: every trainable value.
        parameters_thop: see :func:`count_layer_parameters`.
        macs: of the clip that all networks are compared on.
        published: of the input that its authors publish their count for.
    """

    model: str
    alias: str
    parameters: int
    parameters_thop: int
    macs: Macs
    published: Macs

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "model": self.model,
            "alias": self.alias,
            "parameters": self.parameters,
            "parameters_thop": self.parameters_thop,
            "macs": self.macs.all,
            "macs_thop": self.macs.thop,
            "macs_per_second": round(self.macs.per_second),
            "published_frames": self.published.frames,
            "published_bodies": self.published.bodies,
            "published_macs": self.published.all,
            "published_macs_thop": self.published.thop,
        }


def on_paper(name: str, num_classes: int = 60, layout: Layout | str = "ntu", **settings) -> Network:
    """A network without weights, as :func:`last.create_model` builds it, to count and not to compute."""
    with torch.device("meta"):
        return create_model(name, num_classes, layout, **settings).to("meta")  # with what was made from NumPy's arrays


def count_parameters(model: nn.Module) -> int:
    """Every trainable value."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_layer_parameters(model: nn.Module) -> int:
    """The values that belong to PyTorch's own layers: what the package thop reports, and papers that used it.

    It misses whatever hangs on a module of the authors' own: edge masks, learned graphs, softmax weights. EfficientGCN
    is published with 0.29 M in place of 0.31 M for that reason.
    """
    layers = (module for module in model.modules() if type(module) in _LAYERS)
    return sum(count_parameters(layer) for layer in layers)


def count_macs(
    name: str,
    num_classes: int = 60,
    layout: Layout | str = "ntu",
    frames: int = 64,
    bodies: int = 1,
    **settings,
) -> int:
    """All multiply-accumulates of one clip; :func:`count_products` says more, and what the arguments are."""
    return count_products(name, num_classes, layout, frames, bodies, **settings).all


def count_products(
    name: str,
    num_classes: int = 60,
    layout: Layout | str = "ntu",
    frames: int = 64,
    bodies: int = 1,
    **settings,
) -> Macs:
    """Multiply-accumulates of one clip, without computing anything.

    Args:
        name: registered name or alias.
        num_classes: size of the output.
        layout: the skeleton.
        frames: T; a network that is built for a number of frames is built for this one.
        bodies: M; likewise.
        **settings: of the network, as :func:`last.create_model` takes them.
    """
    layout = load_layout(layout) if isinstance(layout, str) else layout
    size = {key: value for key, value in (("frames", frames), ("max_bodies", bodies)) if key in settings_of(name)}
    model = on_paper(name, num_classes, layout, **size | settings).eval()
    shape = (1, model.in_channels, frames, len(layout.joints), bodies)
    x = {stream: torch.empty(shape, device="meta") for stream in model.streams}
    normalised: list[int] = []
    for module in model.modules():
        if isinstance(module, _NORMS):
            module.register_forward_hook(lambda module, inputs, output: normalised.append(output.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    counts = counter.get_flop_counts()  # of each module by its path, which begins with the network's class
    paths = (f"{type(model).__name__}.{path}" for path, m in model.named_modules() if isinstance(m, _PRODUCTS))
    layers = sum(sum(counts[path].values()) for path in paths if path in counts)
    return Macs(frames, bodies, all=counter.get_total_flops() // 2, thop=layers // 2 + 2 * sum(normalised))


def cost(name: str, num_classes: int = 60, layout: Layout | str = "ntu", frames: int = 64, bodies: int = 1) -> Cost:
    """What a network costs, on a clip of this size and on the one of its publication; see :func:`count_products`."""
    name = canonical_name(name)
    model = on_paper(name, num_classes, layout)
    return Cost(
        model=name,
        alias=next((short for short, full in ALIASES.items() if full == name), ""),
        parameters=count_parameters(model),
        parameters_thop=count_layer_parameters(model),
        macs=count_products(name, num_classes, layout, frames, bodies),
        published=count_products(name, num_classes, layout, *model.published_input),
    )


def costs(
    names: Sequence[str] = (),
    num_classes: int = 60,
    layout: Layout | str = "ntu",
    frames: int = 64,
    bodies: int = 1,
    on_model: Callable[[int], None] = lambda done: None,
) -> list[Cost]:
    """What networks cost, the one with the fewest parameters first; see :func:`cost`.

    Args:
        names: registered names or aliases; all networks where there are none.
        num_classes: size of the output.
        layout: the skeleton.
        frames: T.
        bodies: M.
        on_model: given the number of networks done.
    """
    rows = []
    for done, name in enumerate(names or list_models(), start=1):
        rows.append(cost(name, num_classes, layout, frames, bodies))
        on_model(done)
    return sorted(rows, key=lambda row: row.parameters)


def markdown(rows: Sequence[Cost]) -> str:
    """The costs as a Markdown table, a row a network."""
    lines = [
        "| name | alias | parameters | parameters by thop | MACs | MACs by thop | MACs a second of input "
        "| input of its paper | MACs there | MACs there by thop |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        macs, published = row.macs, row.published
        cells = (
            f"`{row.model}`",
            f"`{row.alias}`" if row.alias else "",
            f"{row.parameters:,}",
            f"{row.parameters_thop:,}",
            *(_millions(number) for number in (macs.all, macs.thop, macs.per_second)),
            f"{published.frames} x {published.bodies}",
            *(_millions(number) for number in (published.all, published.thop)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _millions(number: float) -> str:
    return f"{number / 1e6:,.1f} M"
