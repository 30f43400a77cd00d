"""Damaged files, and the process in which they are opened."""

import io
import json
import select
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from examining import HANG_SECONDS, KINDS, SAMPLES, Outcome
from hypothesis import strategies as st
from mutations import mutated

VARIANTS = 6  # samples of a format
SCRIPT = Path(__file__).with_name("examining.py")


@dataclass(frozen=True)
class Case:
    """Files to lay into a folder, and the one of them, or the folder, to open."""

    files: Mapping[str, bytes] = field(repr=False)
    opened: str

    def digest(self) -> int:
        return hash((self.opened, *sorted(self.files.items())))

    def write(self, folder: Path) -> Path:
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.opened


def samples(kind: str) -> list[Case]:
    """Some valid files of a format."""
    cases = []
    for seed in range(VARIANTS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            opened = SAMPLES[kind](folder, np.random.default_rng(seed))
            files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
            cases.append(Case(files, str(opened.relative_to(folder))))
    return cases


def files_ending(*suffixes: str) -> list[tuple[str, str]]:
    """Format and name of each file of the samples, once for each format, whose name ends so."""
    return [(kind, name) for kind in KINDS for name in samples(kind)[0].files if name.endswith(suffixes)]


@st.composite
def damaged(draw: st.DrawFn, good: Sequence[Case]) -> Case:
    """One of the cases with one of its files mutated, or all packed in a zip that is."""
    case = draw(st.sampled_from(good))
    if draw(st.integers(0, 9)) == 0:
        case = _zipped(case, draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))))
    name = draw(st.sampled_from(sorted(case.files)))
    return replace(case, files={**case.files, name: draw(mutated(case.files[name]))})


def _zipped(case: Case, compression: int) -> Case:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in case.files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return Case({"packed.zip": packed.getvalue()}, "packed.zip")


class Child:
    """The process that opens files; a context manager.

    It answers for one file after the other; if one kills it or holds it up, the next gets a new process.

    Args:
        warm_up: valid files, by their format, that load what is loaded late, before memory is counted.
    """

    def __init__(self, warm_up: Mapping[str, Path]) -> None:
        self._warm_up = {kind: str(path) for kind, path in warm_up.items()}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed with the child
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._errors.close()

    def open(self, kind: str, path: Path, folder: Path) -> Outcome:
        """Open a file; errors must name ``folder``, in which it lies."""
        self._start()
        answer = self._ask({"kind": kind, "path": str(path), "folder": str(folder)})
        return self._death() if answer is None else Outcome(**answer)

    def _start(self) -> None:
        if self._process:
            return
        self._errors.seek(0)
        self._errors.truncate()
        command = [sys.executable, "-X", "faulthandler", str(SCRIPT)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors)
        if self._ask(self._warm_up, 120) is None:
            raise AssertionError(f"a valid file is not read: {self._death().fault}")

    def _ask(self, question: object, seconds: float = HANG_SECONDS + 5) -> dict | None:
        assert self._process and self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else b""
        return json.loads(line) if line else None

    def _death(self) -> Outcome:
        code = self._stop()
        self._errors.seek(0)
        return Outcome(f"the process ended with {code}:\n{self._errors.read().decode(errors='replace')[-3000:]}")

    def _stop(self) -> int:
        process, self._process = self._process, None
        if not process:
            return 0
        process.kill()
        assert process.stdin and process.stdout
        process.stdin.close()
        process.stdout.close()
        return process.wait()
