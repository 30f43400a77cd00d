"""Model names and their builders."""

import inspect
from collections.abc import Callable
from types import FunctionType

from torch import nn

from last.skeleton import Layout, load_layout


class Network(nn.Module):
    """What every registered network is.

    Called with streams, name to (N, C, T, V, M), and the present bodies, (N, M) bool or None for all, it returns
    scores before softmax, (N, classes).

    Attributes:
        streams: the inputs that it takes, by name.
        in_channels: of each of them.
    """

    streams: tuple[str, ...]
    in_channels: int


Builder = Callable[..., Network]
_BUILDERS: dict[str, Builder] = {}

# The names that the original's commands use.
ALIASES = {
    "nano_e": "last_e_nano",
    "small_e": "last_e_small",
    "base_e": "last_e_base",
    "large_e": "last_e_large",
    "small": "last_v2_small",
    "base": "last_v2_base",
    "large": "last_v2_large",
}


def register(builder: FunctionType) -> FunctionType:
    """Make a builder known under its function's name."""
    _BUILDERS[builder.__name__] = builder
    return builder


def list_models() -> list[str]:
    """Names of all registered models."""
    return list(_BUILDERS)


def canonical_name(name: str) -> str:
    """The registered name of ``name``, which may be an alias and use hyphens.

    Raises:
        ValueError: there is no such model.
    """
    plain = name.replace("-", "_")
    plain = ALIASES.get(plain, plain)
    if plain not in _BUILDERS:
        raise ValueError(f"no model '{name}'; there are: {', '.join(_BUILDERS)} (and the aliases {', '.join(ALIASES)})")
    return plain


def create_model(name: str, num_classes: int = 60, layout: Layout | str = "ntu", **settings) -> Network:
    """Build a network with fresh weights.

    Args:
        name: registered name or alias.
        num_classes: size of the output.
        layout: the skeleton, or the name of a built-in one.
        **settings: of the network: ``streams``, ``bodies``, ``dropout``, ``confidence``; LAST-v2 has
            ``share_backbone`` too.

    Raises:
        ValueError: there is no such model, or it has no such setting.
    """
    builder = _BUILDERS[canonical_name(name)]
    network = inspect.signature(builder).return_annotation
    settable = {"streams", "bodies", "dropout", "confidence", "share_backbone"}
    known = [p for p in inspect.signature(network).parameters if p in settable]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f"{canonical_name(name)} has no setting {', '.join(unknown)}; it has: {', '.join(known)}")
    return builder(num_classes, load_layout(layout) if isinstance(layout, str) else layout, **settings)
