"""A short slice of the fuzzing; scripts/fuzz.py is the long run."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import examining
import numpy as np
import pytest
from examining import KINDS, OWN, SAMPLES, examine
from fuzzing import Case, Child, damaged, samples
from hypothesis import HealthCheck, given, settings

from last.data.clip import Clip, FormatError
from last.data.formats import FORMATS

EXAMPLES = 40
CORPUS = Path(__file__).parent / "corpus"


def fault_of(child: Child, kind: str, case: Case) -> str:
    with TemporaryDirectory() as folder:
        return child.open(kind, case.write(Path(folder)), Path(folder)).fault


def test_every_format_has_a_sample():
    assert FORMATS.keys() | set(OWN) == {kind.split()[0] for kind in SAMPLES}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_a_clip_or_a_sentence(kind, child):
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(damaged(samples(kind)))
    def holds(case):
        assert not fault_of(child, kind, case)

    holds()


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_that_was_a_fault_once_is_none_now(path, child):
    assert not child.open(path.parent.name, path, CORPUS).fault


JOINTS = np.zeros((2, 1, 25, 3), np.float32)


def failing(error: Exception, cause: Exception | None = None):
    def read(_):
        raise error from cause

    return read


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (lambda _: Clip(JOINTS.astype(np.float64), "a", "ntu"), "joints are not"),
        (lambda _: Clip(JOINTS + np.inf, "a", "ntu"), "joints are infinite"),
        (lambda _: Clip(JOINTS, "a", "ntu", label=2**31), "ids are"),
        (lambda _: Clip(JOINTS, "a", "ntu", confidence=JOINTS[..., 0] + 2), "confidences are not"),
        (failing(FormatError("a sentence")), "does not name the file"),
        (failing(FormatError("a sentence"), MemoryError()), "memory was asked for"),
    ],
)
def test_what_a_reader_should_not_do_is_a_fault(read, fault, monkeypatch, tmp_path):
    monkeypatch.setitem(FORMATS, "ntu", replace(FORMATS["ntu"], read=read))
    path = samples("ntu")[0].write(tmp_path)
    assert fault in examine("ntu", path, tmp_path).fault


def test_what_a_reader_should_do_is_no_fault(monkeypatch, tmp_path):
    path = samples("ntu")[0].write(tmp_path)
    outcome = examine("ntu", path, tmp_path)
    assert not outcome.fault and not outcome.refusals and outcome.clips == 1
    monkeypatch.setattr(examining, "MAX_SECONDS", 0.0)
    assert examine("ntu", path, tmp_path).fault.endswith(" s")
