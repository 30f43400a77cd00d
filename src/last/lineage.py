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
        :func:`rests_on` gives it, where it rests on others, ``test_part``, the fingerprint of the test clips of its
        training, where the weights or a result beside them say it, and ``top1``, where there is such a result.

    Raises:
        RunError: the result beside the weights is damaged.
    """
    weights, config = weights_file(path), recognizer.config
    result = weights.with_name("result.json")
    scored = weights.name == "last.safetensors" and result.exists()  # the result is that of the last epoch
    found = read_record(result) if scored else {}
    if recognizer.test_part:
        found["test_part"] = recognizer.test_part
    return {
        "path": str(path),
        "sha256": _sha256(path),
        "model": config.model.name,
        "dataset": config.data.name,
        "protocol": config.data.protocol,
        **({"rests_on": recognizer.rests_on} if recognizer.rests_on else {}),
        **{key: found[key] for key in ("top1", "test_part") if key in found},
    }


def rests_on(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Each training that a network rests on, through all generations, once.

    Args:
        records: of its start and its teachers, as :func:`record_of` gives them.

    Returns:
        Data set, protocol and, where it is known, fingerprint of the test clips.
    """
    return list(dict.fromkeys(training for record in records for training in _trainings(record)))


def _trainings(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The training of a network itself, then those that it rests on, as :func:`rests_on` gives them."""
    own = [record[key] for key in ("dataset", "protocol", "test_part") if key in record]
    return [tuple(training) for training in (own, *record.get("rests_on", ()))]


def seen_tests(trained: Recognizer, config: Config) -> str | None:
    """By what training test clips of ``config`` may be known to a network, or to one that it rests on; None if by none.

    Another protocol of a data set parts its clips anew.

    Returns:
        A sentence without its subject.
    """
    own = (trained.config.data.name, trained.config.data.protocol)
    name, now = config.data.name, config.data.protocol
    for dataset, protocol, *_ in (own, *trained.rests_on):
        if _GROWN.get(dataset, dataset) == _GROWN.get(name, name) and protocol != now:
            how = "was" if (dataset, protocol) == own else "rests on a network that was"
            return (
                f"{how} trained on {dataset} by the protocol {protocol}, whose training clips may be test clips of "
                f"{now}"
            )
    return None


def require_same_tests(records: Iterable[Mapping[str, Any]], config: Config, test_part: str) -> None:
    """Refuse networks that were trained by the same protocol when it tested other clips, or rest on one that was.

    Args:
        records: of them, as :func:`record_of` gives them.
        config: of the training.
        test_part: fingerprint of its test clips.

    Raises:
        ConfigError: those may have trained one of them.
    """
    name, now = config.data.name, config.data.protocol
    for record in records:
        for generation, (dataset, protocol, *tested) in enumerate(_trainings(record)):
            if (dataset, protocol) == (name, now) and tested not in ([], [test_part]):
                how = "rests on a network that was" if generation else "was"
                raise ConfigError(
                    f"{record['path']} {how} trained on {name} when {now} tested other clips than it does now, so that "
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
