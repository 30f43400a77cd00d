"""Fixtures shared by the tests: the command line, tiny clips of a tiny skeleton, and a store of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from last.config import load_config
from last.data.batches import DeviceClips
from last.data.clip import Clip
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter
from last.settings import Config
from last.skeleton import Layout
from tiny_clips import make_clips

torch.set_num_threads(1)
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data, outside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is not at {SHARED_DATA}; get it from its owners to run this test")
    return SHARED_DATA


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; returns exit code, standard output and standard error, lines unwrapped."""
    from last.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def stick() -> Layout:
    """Five joints: a trunk of three, and a hand on either side of its top."""
    return Layout("stick", ("base", "middle", "top", "left_hand", "right_hand"), (0, 0, 1, 2, 2), 1, 3)


@pytest.fixture(scope="session")
def clips(stick: Layout) -> list[Clip]:
    """Sixteen clips of one body, two classes."""
    return make_clips(stick)


@pytest.fixture
def device_clips(clips: list[Clip]) -> DeviceClips:
    """The clips on the CPU."""
    return DeviceClips.from_clips(clips, "cpu")


@pytest.fixture
def ucla_like(tmp_path: Path) -> ClipStore:
    """A store in NW-UCLA's layout and protocol: views 1 to 3 of ten classes, 60 tiny clips."""
    from last.data.datasets import load_dataset
    from last.skeleton import load_layout

    layout = load_layout("kinect20")
    classes = load_dataset("nw_ucla").classes
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "ucla_like", layout, classes) as writer:
        for i in range(60):
            joints = rng.normal(0, 1, (int(rng.integers(4, 9)), 1, 20, 3)).astype(np.float32)
            writer.append(Clip(joints, f"clip{i:02d}", layout.name, i % 10, subject=i % 6, camera=1 + i // 20))
    return ClipStore.open(tmp_path / "ucla_like")


@pytest.fixture
def config(ucla_like: ClipStore, tmp_path: Path) -> Config:
    """A training of a moment on that store, LAST-E nano's."""
    overrides = {
        "data.path": str(ucla_like.path), "data.frames": 8, "training.epochs": 2, "training.warmup_epochs": 1,
        "environment.runs_root": str(tmp_path / "runs"),
    }  # fmt: skip
    return load_config(dataset="nw_ucla", environment="local", overrides=overrides)
