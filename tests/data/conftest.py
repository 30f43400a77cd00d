"""Fixtures of the tests that open bad files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """The process that opens files under limits of time and memory."""
    from examining import KINDS, SAMPLES
    from fuzzing import Child

    rng = np.random.default_rng(0)
    with Child({kind: SAMPLES[kind](tmp_path_factory.mktemp("warm_up"), rng) for kind in KINDS}) as child:
        yield child


@pytest.fixture
def refused(child, tmp_path: Path) -> Callable[[str, Path], str]:
    """Opens a file in the child and gives the sentences of its refusal."""

    def open_(kind: str, path: Path) -> str:
        outcome = child.open(kind, path, tmp_path)
        assert not outcome.fault
        assert outcome.refusals and not outcome.clips
        return "\n".join(outcome.refusals)

    return open_
