"""Weights that say what they are, and checkpoints for an exact resume, written whole or not at all."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from last.files import write_atomically

FORMAT = "last-model/1"


class CheckpointError(ValueError):
    """A file of weights or a checkpoint that cannot be used here; the message says why."""


def save_weights(path: Path, model: nn.Module, description: Mapping[str, Any]) -> None:
    """Save a network as safetensors, with a description from which it can be built again.

    Args:
        path: ends in .safetensors.
        model: whose ``state_dict`` is kept.
        description: plain values: the model's settings, layout, classes, pipeline.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # One entry: the file keeps several in no certain order, and equal runs shall give equal files.
    metadata = {"last": json.dumps({"format": FORMAT, **description})}
    content = serialize(tensors, metadata)
    write_atomically(path, lambda partial: partial.write_bytes(content))


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and description of a file that :func:`save_weights` made.

    Raises:
        CheckpointError: the file is missing, damaged, or not one of LAST's.
    """
    try:
        with safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {}).get("last", "{}"))
            if not isinstance(description, dict) or description.pop("format", None) != FORMAT:
                raise CheckpointError(
                    f"{path} is not of the format '{FORMAT}'; give a run folder or a .safetensors file that "
                    "'last train' wrote"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"cannot read the weights in {path}: {error}") from error


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a network.

    Raises:
        CheckpointError: they belong to another network, layout or number of classes; names the first difference.
    """
    own = model.state_dict()
    missing, extra = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    if missing or extra:
        raise CheckpointError(
            f"{source} belongs to another network: it lacks {len(missing)} of the tensors ({', '.join(missing[:3])}) "
            f"and has {len(extra)} others ({', '.join(extra[:3])})"
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            what = "number of classes" if "classifier" in name else "layout or network"
            raise CheckpointError(
                f"{source} belongs to another {what}: '{name}' has the shape {tuple(tensor.shape)}, the network "
                f"expects {tuple(own[name].shape)}"
            )
    model.load_state_dict(tensors)


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Save the state of a training: tensors and plain values alone."""
    content = io.BytesIO()  # to a file, torch reports a full disk as a failed assertion
    torch.save(dict(state), content)
    write_atomically(path, lambda partial: partial.write_bytes(content.getbuffer()))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state that :func:`save_checkpoint` wrote; nothing in the file can run.

    Raises:
        CheckpointError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}; give the folder of a run, or its checkpoint.pt") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # torch reports damaged files as many types, and unsafe ones with advice to open them
        raise CheckpointError(
            f"{path} is damaged or no checkpoint of LAST, which holds tensors and plain values alone"
        ) from error
