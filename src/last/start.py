"""Fine-tuning: a training that begins with the weights of a trained network, of other joints or classes perhaps.

Shapes: K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from last.lineage import in_words, record_of, seen_tests
from last.models import Network
from last.recognizer import Recognizer, build_model
from last.setting_values import ConfigError
from last.settings import Config
from last.skeleton import Layout

# What the numbers of a stream mean; weights that know others are worth less.
_MEANING = ("normalise", "origin", "sampling", "missing")


@dataclass(frozen=True)
class Start:
    """What a network was given to begin with.

    Attributes:
        record: of the network that it is from, as :func:`last.lineage.record_of` gives it.
        note: what was taken and what is fresh, in a line.
    """

    record: dict[str, Any]
    note: str


@torch.no_grad()
def start(config: Config, network: Network, classes: Sequence[str], layout: Layout) -> Start | None:
    """Put the weights of ``training.start`` into a network; None where the configuration names no start.

    Tensors are taken by name and shape, BatchNorm's statistics among them; of a classifier, the rows of classes that
    both sides name. Where the joints differ, tensors whose size depends on them stay fresh, and in any case what is
    dropped when the network is deployed.

    Args:
        config: of the training.
        network: fresh, by that configuration; on the meta device it is only checked that the weights fit.
        classes: its own, in order.
        layout: its own.

    Raises:
        CheckpointError: the start has no weights, or damaged ones.
        ConfigError: it is another network, has seen test clips, or its tensors do not fit.
        RunError: the result beside its weights is damaged.
    """
    if config.training.start is None:
        return None
    path = Path(config.training.start)
    trained = Recognizer(path, torch.device("cpu"), "plain")
    _require_fit(path, trained, config, layout)
    own, theirs = network.state_dict(), trained.model.state_dict()
    dropped = own.keys() - network.deploy().state_dict().keys()
    alike = (trained.layout.joints, trained.layout.parents) == (layout.joints, layout.parents)
    jointed = set() if alike else _jointed(config, own, layout)
    fresh = dropped | jointed
    _require_tensors(path, own, theirs, fresh)
    shared = [name for name in classes if name in trained.classes]
    here = [classes.index(name) for name in shared]
    there = [trained.classes.index(name) for name in shared]
    body = 0
    for name in own.keys() - fresh:
        if _is_classifier(name):
            own[name][here] = theirs[name][there].to(own[name].device)
        else:
            own[name].copy_(theirs[name])
            body += 1
    record = record_of(path, trained)
    others = len(classes) - len(shared)
    left = [f"{others} class{'es' if others > 1 else ''}"] if others else []
    left += [f"{len(jointed)} tensors that depend on the joints, such as {min(jointed)}"] if jointed else []
    left += [f"{len(dropped)} tensors for training alone"] if dropped else []
    note = (
        f"starts from {in_words(record)}, trained on {record['dataset']} {record['protocol']}: {body} tensors, "
        f"{len(shared)} of {len(classes)} classes by name; fresh: {', '.join(left) or 'none'}"
    )
    return Start(record, note + _otherwise(trained.config, config))


def _require_fit(path: Path, trained: Recognizer, config: Config, layout: Layout) -> None:
    if seen := seen_tests(trained, config):
        raise ConfigError(
            f"the start {path} {seen}; start from a network of {config.data.protocol} or of another data set"
        )
    if config.training.structure != "plain":
        raise ConfigError(
            f"training.structure is {config.training.structure}, whose layers have no counterpart in the start {path}, "
            "which is deployed; set training.structure=plain, or leave out the start"
        )
    own = {"network": config.model.name, "streams": list(config.model.streams)}
    other = {"network": trained.config.model.name, "streams": list(trained.config.model.streams)}
    own["channels"] = layout.dimensions + config.model.confidence
    other["channels"] = trained.layout.dimensions + trained.config.model.confidence
    differences = [f"{key} {other[key]}, here {value}" for key, value in own.items() if other[key] != value]
    if differences:
        raise ConfigError(
            f"the start {path} is another network than the one to be trained: {'; '.join(differences)}; give the "
            "training these settings, or start from another network"
        )


def _require_tensors(path: Path, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], fresh: set[str]) -> None:
    """Each tensor but the fresh ones must be on both sides, and of one shape but for the classes."""
    for name in sorted((own.keys() | theirs.keys()) - fresh):
        first = 1 if _is_classifier(name) else 0
        shapes = [tuple(side[name].shape[first:]) if name in side else None for side in (theirs, own)]
        if shapes[0] != shapes[1]:
            there, here = ("missing" if shape is None else f"of the shape {shape}" for shape in shapes)
            raise ConfigError(
                f"the start {path} was built by other settings than the network to be trained: '{name}' is {there} in "
                f"the start and {here} here; give the training the start's settings of model, data.frames and "
                "data.max_bodies, or start from another network"
            )


def _jointed(config: Config, own: Mapping[str, Tensor], layout: Layout) -> set[str]:
    """Names of the tensors that would have another shape if the skeleton had one joint more."""
    more = replace(layout, joints=(*layout.joints, "one more"), parents=(*layout.parents, layout.root))
    with torch.device("meta"):
        # The number of classes changes no tensor but the classifiers, which have no joints.
        other = build_model(config, 1, more, training=True).state_dict()
    return {name for name, tensor in own.items() if not _is_classifier(name) and other[name].shape != tensor.shape}


def _is_classifier(name: str) -> bool:
    return name.split(".")[-2] == "classifier"


def _otherwise(then: Config, now: Config) -> str:
    """In what the start's clips were prepared unlike those of the training, to end a sentence."""
    pairs = {key: (getattr(then.data, key), getattr(now.data, key)) for key in _MEANING}
    differences = [f"data.{key} {there}, here {here}" for key, (there, here) in pairs.items() if there != here]
    return f"; its clips were prepared otherwise: {', '.join(differences)}" if differences else ""
