"""Trained networks that come with the package, each named by network and data set: ``last_e_nano.nw_ucla``.

Beside the weights of each lies its card, and ``index.json`` tells what there is; `scripts/pretrained.py` makes them.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from last.settings import full_name
from last.training.checkpoint import CheckpointError

FOLDER = Path(__file__).resolve().parent
INDEX = FOLDER / "index.json"


@dataclass(frozen=True)
class Pretrained:
    """A trained network of the package; the result of its run says all that is not said here.

    Attributes:
        model: registered name of the network.
        dataset: what it was trained on.
        protocol: which part of it.
        parameters: of the network.
        top1: of these weights on the protocol's test part, in percent.
        top1_by_seed: of all trainings by the same settings, a mean over folds where the data set is tested by them.
        tested_by: the protocols that each seed was tested by: this one, or all folds.
        sha256: of the file of weights.
        record: name of the result in results/ of the run whose last epoch it is.
    """

    model: str
    dataset: str
    protocol: str
    parameters: int
    top1: float
    top1_by_seed: Mapping[str, float]
    tested_by: tuple[str, ...]
    sha256: str
    record: str

    @property
    def name(self) -> str:
        """That of the network, a dot, and that of the data set."""
        return f"{self.model}.{self.dataset}"

    @property
    def weights(self) -> Path:
        """The file of weights, as the run wrote it."""
        return FOLDER / f"{self.name}.safetensors"

    @property
    def card(self) -> Path:
        """What a person should know before using it, in Markdown."""
        return FOLDER / f"{self.name}.md"


def list_pretrained() -> list[Pretrained]:
    """All that come with the package, by name."""
    rows = json.loads(INDEX.read_text(encoding="utf-8"))
    return [Pretrained(**row | {"tested_by": tuple(row["tested_by"])}) for row in rows]


def find_pretrained(name: str) -> Pretrained:
    """The trained network of a name, whose network may be given by its alias: ``nano_e.nw_ucla``.

    Raises:
        CheckpointError: there is none.
    """
    model, dot, dataset = name.replace("-", "_").partition(".")
    plain = f"{full_name(model)}{dot}{dataset}"
    known = {pretrained.name: pretrained for pretrained in list_pretrained()}
    if plain not in known:
        close = difflib.get_close_matches(plain, known, n=1)
        meant = f" (did you mean '{close[0]}'?)" if close else ""
        raise CheckpointError(
            f"no weights at {name}: there is no such file or folder here, and no pretrained network of that "
            f"name{meant}; give the folder of a finished run, a .safetensors file from one, or one of: "
            f"{', '.join(known)}"
        )
    return known[plain]
