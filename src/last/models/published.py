"""Weights of the peers as their authors published them: read without running code, put under our names."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from last.models import ctrgcn, efficientgcn
from last.models.registry import Network

# What an authors' key is called here; None where we keep no such tensor.
_KEYS: dict[type[Network], Callable[[str], str | None]] = {
    ctrgcn.CTRGCN: ctrgcn.published_key,
    efficientgcn.EfficientGCN: efficientgcn.published_key,
}


class PublishedError(ValueError):
    """A file of published weights that cannot be used here; the message says why."""


class _Ignored:
    """Stands for NumPy's values in such files (the best score, the confusion matrix), of which none is needed.

    Nothing of NumPy itself is called: a file may hold any bytes, and NumPy would believe them.
    """

    def __init__(self, *args: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


_NUMPY: list[Callable | tuple[Callable, str]] = [
    (_Ignored, f"{module}.{name}")
    for module, name in (
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
    )
]


def read_published(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint of CTR-GCN's or EfficientGCN's authors, under their own names.

    Args:
        path: a ``.pt`` that holds weights alone, or a ``.pth.tar`` that holds them as ``model`` beside other things.

    Raises:
        PublishedError: the file is missing, damaged, holds more than tensors and plain values, or no weights.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise PublishedError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # torch reports damaged files as many types, and unsafe ones with advice to open them
        raise PublishedError(
            f"{path} is damaged, or holds more than tensors, plain values and NumPy's numbers; give the file as its "
            "authors published it"
        ) from error
    weights = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not weights or not all(map(_is_weight, weights.items())):
        raise PublishedError(
            f"{path} holds no weights by name; expected a mapping of names to tensors, or one under 'model'"
        )
    return {name.removeprefix("module."): tensor for name, tensor in weights.items()}


def _is_weight(item: tuple[object, object]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout is torch.strided


def load_published(model: Network, path: Path) -> None:
    """Fill a network with the weights that its authors published.

    Every tensor of the file must have its place, and the network's graph must be the file's where it holds one.

    Args:
        model: as :func:`last.create_model` makes it, of the classes and layout that the file is for.
        path: see :func:`read_published`.

    Raises:
        PublishedError: no weights of such a network are published, the file cannot be read, or it belongs to another
            network, layout or number of classes; names the first difference.
    """
    kind = type(model).__name__
    if type(model) not in _KEYS:
        raise PublishedError(
            f"there is no key map for published weights of {kind}; there are ones for "
            f"{', '.join(known.__name__ for known in _KEYS)}"
        )
    weights, fixed = model.state_dict(), dict(model.named_buffers(remove_duplicate=False))
    found: dict[str, Tensor] = {}
    for theirs, tensor in read_published(path).items():
        name = _KEYS[type(model)](theirs)
        if name is None:
            continue
        own = weights.get(name, fixed.get(name))
        if own is None:
            raise PublishedError(f"{path} has the tensor '{theirs}', which this {kind} has no place for")
        # A linear layer is a 1x1x1 convolution in some files: its shape ends in ones.
        if tensor.shape[: own.dim()] != own.shape or tensor.numel() != own.numel():
            raise PublishedError(
                f"'{theirs}' in {path} has the shape {tuple(tensor.shape)}, this {kind} expects {tuple(own.shape)}; "
                "it was built for another size, layout or number of classes"
            )
        found[name] = tensor.reshape(own.shape)
        if name not in weights and not torch.allclose(found[name].to(own), own, atol=1e-6):
            raise PublishedError(f"'{theirs}' in {path} differs from what the layout gives; it is of another skeleton")
    missing = [name for name in weights if name not in found]
    if missing:
        raise PublishedError(f"{path} lacks {len(missing)} tensors of this {kind}, the first is '{missing[0]}'")
    model.load_state_dict({name: found[name] for name in weights})
