"""Model names and their builders."""

import difflib
import inspect
from collections.abc import Callable
from copy import deepcopy
from types import FunctionType

from torch import nn

from last.settings import ALIASES, full_name, is_of_last
from last.skeleton import Layout, load_layout


class Network(nn.Module):
    """What every registered network is.

    Called with streams, name to (N, C, T, V, M), and the present bodies, (N, M) bool or None for all, it returns
    scores before softmax, (N, classes).

    Attributes:
        streams: the inputs that it takes, by name.
        in_channels: of each of them.
        published_input: frames and bodies of the clip that its authors count multiply-accumulates of.
    """

    streams: tuple[str, ...]
    in_channels: int
    published_input: tuple[int, int] = (64, 1)

    def deploy(self) -> "Network":
        """A copy without what is for training alone, whose scores in evaluation are the same."""
        return deepcopy(self)


Builder = Callable[..., Network]
_BUILDERS: dict[str, Builder] = {}

# What may vary within a network; each takes some of these.
SETTINGS = (
    "streams",
    "bodies",
    "dropout",
    "confidence",
    "share_backbone",
    "branched",
    "auxiliary",
    "frames",  # T that it is built for
    "max_bodies",  # M that it is built for
)

# What papers call the networks of a file.
_FAMILIES = {
    "last_e": "LAST-E",
    "last_v2": "LAST-v2",
    "efficientgcn": "EfficientGCN",
    "ctrgcn": "CTR-GCN",
    "stgcnpp": "ST-GCN++",
    "sgn": "SGN",
    "ddnet": "DD-Net",
}


def families() -> list[str]:
    """What papers call the networks, LAST's own first."""
    return list(_FAMILIES.values())


def family_of(name: str) -> str:
    """What its paper calls a network and those that differ from it in size.

    Raises:
        ValueError: there is no such model.
    """
    return _FAMILIES[_BUILDERS[canonical_name(name)].__module__.rpartition(".")[2]]


def register(builder: FunctionType) -> FunctionType:
    """Make a builder known under its function's name."""
    _BUILDERS[builder.__name__] = builder
    return builder


def list_models() -> list[str]:
    """Names of all registered models, LAST's own first."""
    return sorted(_BUILDERS, key=lambda name: not is_of_last(name))


def canonical_name(name: str) -> str:
    """The registered name of ``name``, which may be an alias and use hyphens.

    Raises:
        ValueError: there is no such model.
    """
    plain = full_name(name)
    if plain not in _BUILDERS:
        close = difflib.get_close_matches(plain, [*_BUILDERS, *ALIASES], n=1)
        meant = f" (did you mean '{close[0]}'?)" if close else ""
        raise ValueError(
            f"no model '{name}'{meant}; there are: {', '.join(_BUILDERS)} (and the aliases {', '.join(ALIASES)})"
        )
    return plain


def settings_of(name: str) -> list[str]:
    """The settings that a network takes beside classes and layout.

    Raises:
        ValueError: there is no such model.
    """
    network = inspect.signature(_BUILDERS[canonical_name(name)]).return_annotation
    return [p for p in inspect.signature(network).parameters if p in SETTINGS]


def create_model(name: str, num_classes: int = 60, layout: Layout | str = "ntu", **settings) -> Network:
    """Build a network with fresh weights.

    It is called as :class:`Network` says: with a mapping from each name in its ``streams`` to (N, C, T, V, M), and the
    present bodies, (N, M) bool or None for all. A trained one is given joints by :class:`last.recognizer.Recognizer`.

    Args:
        name: registered name or alias.
        num_classes: size of the output.
        layout: the skeleton, or the name of a built-in one.
        **settings: those of :data:`SETTINGS` that the network's class takes.

    Raises:
        ValueError: there is no such model, or it has no such setting.
    """
    known = settings_of(name)
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f"{canonical_name(name)} has no setting {', '.join(unknown)}; it has: {', '.join(known)}")
    builder = _BUILDERS[canonical_name(name)]
    return builder(num_classes, load_layout(layout) if isinstance(layout, str) else layout, **settings)
