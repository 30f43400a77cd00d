"""The trained networks that a training rests on: what its record says of them, and that they stay the same."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from last.recognizer import Recognizer, weights_file
from last.run import RunError, read_record
from last.setting_values import ConfigError
from last.settings import Config

# Data sets that grew: the clips of the one are among those of the other, whose xsub parts them alike.
_GROWN = {"ntu60": "ntu120"}


def record_of(path: Path, recognizer: Recognizer) -> dict[str, Any]:
    """What the record of a training says of a network that it rests on.

    Args:
        path: as it was given.
        recognizer: opened from there.

    Returns:
        ``path``, ``sha256`` of the weights, ``model``, ``dataset``, ``protocol``, ``rests_on`` as
        :func:`rests_on` gives it, where it rests on others, and ``top1`` and ``test_part``, the fingerprint of the
        clips that it is of, where its run has a result.

    Raises:
        RunError: the result beside the weights is damaged.
    """
    weights, config = weights_file(path), recognizer.config
    result = weights.with_name("result.json")
    scored = weights.name == "last.safetensors" and result.exists()  # the result is that of the last epoch
    found = read_record(result) if scored else {}
    return {
        "path": str(path),
        "sha256": _sha256(path),
        "model": config.model.name,
        "dataset": config.data.name,
        "protocol": config.data.protocol,
        **({"rests_on": recognizer.rests_on} if recognizer.rests_on else {}),
        **{key: found[key] for key in ("top1", "test_part") if key in found},
    }


def rests_on(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Data set and protocol of each training that a network rests on, through all generations, each once.

    Args:
        records: of its start and its teachers, as :func:`record_of` gives them.
    """
    found: dict[tuple[str, str], None] = {}
    for record in records:
        for dataset, protocol in ((record["dataset"], record["protocol"]), *record.get("rests_on", ())):
            found[dataset, protocol] = None
    return list(found)


def seen_tests(trained: Recognizer, config: Config) -> str | None:
    """By what training test clips of ``config`` may be known to a network, or to one that it rests on; None if by none.

    Another protocol of a data set parts its clips anew.

    Returns:
        A sentence without its subject.
    """
    own = (trained.config.data.name, trained.config.data.protocol)
    name, now = config.data.name, config.data.protocol
    for dataset, protocol in (own, *trained.rests_on):
        if _GROWN.get(dataset, dataset) == _GROWN.get(name, name) and protocol != now:
            how = "was" if (dataset, protocol) == own else "rests on a network that was"
            return (
                f"{how} trained on {dataset} by the protocol {protocol}, whose training clips may be test clips of "
                f"{now}"
            )
    return None


def require_same_tests(records: Iterable[Mapping[str, Any]], config: Config, test_part: str) -> None:
    """Refuse networks that were trained by the same protocol when it tested other clips.

    Args:
        records: of them, as :func:`record_of` gives them.
        config: of the training.
        test_part: fingerprint of its test clips.

    Raises:
        ConfigError: those may have trained one of them.
    """
    own = (config.data.name, config.data.protocol)
    for record in records:
        if (record["dataset"], record["protocol"]) == own and record.get("test_part", test_part) != test_part:
            raise ConfigError(
                f"{record['path']} was trained on {own[0]} when {own[1]} tested other clips than it does now, so that "
                "test clips may have trained it; train it anew on the clips as they are, or leave it out"
            )


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
