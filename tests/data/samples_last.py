"""Small files of the kinds that LAST itself writes, or a person for it, and that are no format of others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml

from last.data.clip import Clip
from last.data.store_writer import StoreWriter
from last.skeleton import load_layout
from last.training.checkpoint import save_checkpoint, save_weights


def _store(folder: Path, rng: np.random.Generator) -> Path:
    layout = load_layout("penn13")
    with StoreWriter(folder / "store", layout, ("jump", "run")) as writer:
        for i in range(3):
            joints = rng.normal(size=(rng.integers(1, 4), 1, 13, 2)).astype(np.float32)
            seen = rng.integers(0, 2, joints.shape[:3]).astype(np.float32)
            writer.append(Clip(joints, f"clip{i}", layout.name, i % 2, 1 + i, confidence=seen, parts=("given/train",)))
    return folder / "store"


def _weights(folder: Path, rng: np.random.Generator) -> Path:
    generator = torch.Generator().manual_seed(int(rng.integers(1000)))
    model = torch.nn.Linear(3, 2)
    torch.nn.init.normal_(model.weight, generator=generator)
    save_weights(folder / "last.safetensors", model, {"classes": ["jump", "run"]})
    return folder / "last.safetensors"


def _checkpoint(folder: Path, rng: np.random.Generator) -> Path:
    weight = torch.from_numpy(rng.normal(size=(3, 2)))
    save_checkpoint(folder / "checkpoint.pt", {"epoch": 3, "model": {"weight": weight}, "history": [{"loss": 0.5}]})
    return folder / "checkpoint.pt"


def _layout(folder: Path, rng: np.random.Generator) -> Path:
    content = {**load_layout("penn13").to_dict(), "name": f"mine{rng.integers(9)}"}
    (folder / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder / "mine.yaml"


SAMPLES: dict[str, Callable[[Path, np.random.Generator], Path]] = {
    "store": _store,
    "weights": _weights,
    "checkpoint": _checkpoint,
    "layout": _layout,
}
