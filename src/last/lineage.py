"""The trained networks that a training rests on: what its record says of them, and that they stay the same."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from last.recognizer import Recognizer, weights_file
from last.run import RunError, read_record
from last.settings import Config


def record_of(path: Path, recognizer: Recognizer) -> dict[str, Any]:
    """What the record of a training says of a network that it rests on.

    Args:
        path: as it was given.
        recognizer: opened from there.

    Returns:
        ``path``, ``sha256`` of the weights, ``model``, ``dataset``, ``protocol``, and ``top1`` where its run has one.

    Raises:
        RunError: the result beside the weights is damaged.
    """
    weights, config = weights_file(path), recognizer.config
    result = weights.with_name("result.json")
    scored = weights.name == "last.safetensors" and result.exists()  # the result is that of the last epoch
    return {
        "path": str(path),
        "sha256": _sha256(path),
        "model": config.model.name,
        "dataset": config.data.name,
        "protocol": config.data.protocol,
        **({"top1": read_record(result)["top1"]} if scored else {}),
    }


def may_have_seen_tests(trained: Config, config: Config) -> bool:
    """Whether test clips of ``config`` may have trained a network of ``trained``: another protocol parts them anew."""
    then, now = trained.data, config.data
    return then.name == now.name and then.protocol != now.protocol


def in_words(record: Mapping[str, Any]) -> str:
    """Network, path and top-1 of a record."""
    top1 = f", top-1 {record['top1']:.1f}" if "top1" in record else ""
    return f"{record['model']} ({record['path']}{top1})"


def require_unchanged(records: Iterable[Mapping[str, Any]], role: str) -> None:
    """Refuse to go on with networks that are not those that the training began with.

    Args:
        records: of them, from when it began.
        role: what they are to the training, for the error.

    Raises:
        RunError: the weights of one are others.
        CheckpointError: they are gone.
    """
    for record in records:
        if (now := _sha256(Path(record["path"]))) != record["sha256"]:
            raise RunError(
                f"the weights of the {role} {record['path']} are not those that the training began with (SHA-256 then "
                f"{record['sha256'][:12]}, now {now[:12]}); put the old ones back, or start a new run"
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(weights_file(path).read_bytes()).hexdigest()
