"""Opens a file that may be bad as a person would, and judges what came of it; as a script, under limits.

The script reads questions, a line of JSON each, and answers them; see :class:`fuzzing.Child`, which asks.
"""

import faulthandler
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np

from last.data.clip import Clip, FormatError
from last.data.formats import FORMATS, Format, Reading, Source, find_clips
from last.data.store import ClipStore, StoreError
from last.setting_values import ConfigError
from last.skeleton import load_layout
from last.training.checkpoint import CheckpointError, read_checkpoint, read_weights

MAX_SECONDS = 1.0  # of processor time, for listing a file's clips or reading one
MAX_MEMORY = 500 << 20
HANG_SECONDS = 15  # of wall time, for all of a file
MAX_CLIPS = 20  # read of a file
MAX_ID = 2**31 - 1  # a store keeps ids in 32 bits
OWN = ("store", "weights", "checkpoint", "layout")
REFUSALS = (FormatError, StoreError, CheckpointError, ConfigError)

SampleMaker = Callable[[Path, np.random.Generator], Path]  # writes into a folder, returns what to open
_PARTS = [import_module(file.stem) for file in sorted(Path(__file__).parent.glob("samples_*.py"))]
SAMPLES: dict[str, SampleMaker] = {kind: maker for part in _PARTS for kind, maker in part.SAMPLES.items()}
KINDS = [kind for kind in SAMPLES if kind in OWN or kind.split()[0] in FORMATS]  # a format, or one of its variants
READINGS: dict[str, Reading] = {kind: r for part in _PARTS for kind, r in getattr(part, "READINGS", {}).items()}


@dataclass(frozen=True)
class Outcome:
    """What came of a file.

    Attributes:
        fault: what was wrong with it; empty if nothing was.
        clips: read.
        refusals: messages of errors as they should be.
        seconds: the longest listing or reading took, of processor time.
        memory: the child's peak above what it had at the beginning, bytes.
    """

    fault: str = ""
    clips: int = 0
    refusals: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0


def examine(kind: str, path: Path, folder: Path) -> Outcome:
    """Open a file as a person's commands would, and by the reader of its format alone."""
    outcome = Outcome()
    for step in _steps(kind, path):
        started = time.process_time()
        clip, refusals, fault = None, [], ""
        try:
            result = step()
            clip = result if isinstance(result, Clip) else None
            refusals = list(result.values()) if isinstance(result, dict) else []
            fault = _wrong_with(clip) if clip else ""
        except REFUSALS as error:
            refusals = [str(error)]
            if _is_for_want_of_memory(error):
                fault = f"memory was asked for before its size was checked: {error!r}"
        seconds = time.process_time() - started
        if seconds > MAX_SECONDS:
            fault = f"{seconds:.1f} s"
        fault = fault or next((f"does not name the file: {text}" for text in refusals if str(folder) not in text), "")
        outcome = Outcome(
            fault=outcome.fault or fault,
            clips=outcome.clips + (clip is not None),
            refusals=outcome.refusals + [text[:1000] for text in refusals],
            seconds=max(outcome.seconds, seconds),
        )
    return outcome


def _steps(kind: str, path: Path) -> Iterator[Callable[[], object]]:
    """What is done with a file; each step gives a clip, or the files that cannot be listed with what is wrong."""
    if kind in OWN:
        yield from _own_steps(kind, path)
        return
    reading = READINGS.get(kind.split()[0], Reading())
    formats = {name: known.with_reading(reading) for name, known in FORMATS.items()}
    listed: list[tuple[Format, Source]] = []

    def find() -> dict[Path, str]:
        found, broken = find_clips(path, formats.values())
        listed.extend(found[:MAX_CLIPS])
        return {file: str(error) for file, error in broken.items()}

    yield find
    for known, source in listed:
        yield partial(known.read, source)
    known = formats[kind.split()[0]]
    if path.is_file() and path.suffix != ".zip" and not any(reader is known for reader, _ in listed):
        # No reader claimed it, or listed a clip of it; its own must say why.
        yield partial(known.clips, known.source(path)) if known.clips else partial(known.read, known.source(path))


def _own_steps(kind: str, path: Path) -> Iterator[Callable[[], object]]:
    if kind == "weights":
        yield lambda: bool(read_weights(path))
    elif kind == "checkpoint":
        yield lambda: bool(read_checkpoint(path))
    elif kind == "layout":
        yield lambda: bool(load_layout(str(path)).hops_from(0).size)
    else:
        opened: list[ClipStore] = []
        yield lambda: opened.append(ClipStore.open(path))
        for store in opened:
            yield store.damaged_files
            for i in range(min(len(store), MAX_CLIPS)):
                yield partial(store.__getitem__, i)


def _wrong_with(clip: Clip) -> str:
    joints, confidence = clip.joints, clip.confidence
    ids = (clip.label, clip.subject, clip.camera, clip.setup, clip.replication)
    faults = {
        "joints are not (T, M, V, C) float32": joints.ndim != 4 or joints.dtype != np.float32,
        "joints are infinite": np.isinf(joints).any(),
        f"joints fill {joints.nbytes} bytes": joints.nbytes > MAX_MEMORY,
        f"ids are {ids}": not all(type(i) is int and -1 <= i <= MAX_ID for i in ids),
        f"parts are {clip.parts!r}": type(clip.parts) is not tuple or not all(type(p) is str for p in clip.parts),
        f"the name is {clip.name!r}": type(clip.name) is not str,
    }
    if confidence is not None:
        is_in_range = (np.isnan(confidence) | ((confidence >= 0) & (confidence <= 1))).all()
        faults["confidences are not float32 from 0 to 1"] = confidence.dtype != np.float32 or not is_in_range
    return "; ".join(fault for fault, clip_has_it in faults.items() if clip_has_it)


def _is_for_want_of_memory(error: BaseException | None) -> bool:
    """Whether a refusal hides that only the limit of this process kept memory from being taken."""
    return error is not None and (
        isinstance(error, MemoryError) or _is_for_want_of_memory(error.__cause__ or error.__context__)
    )


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    for kind, path in json.loads(sys.stdin.readline()).items():
        outcome = examine(kind, Path(path), Path(path).parent)
        if outcome.fault or outcome.refusals:
            raise AssertionError(f"{kind} at {path}: {outcome}")
    print("{}", file=answers, flush=True)
    warnings.simplefilter("error")
    at_first = _status("VmRSS")
    limit = _status("VmSize") + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        question = json.loads(line)
        try:
            outcome = examine(question["kind"], Path(question["path"]), Path(question["folder"]))
        except BaseException as error:
            outcome = Outcome(f"{type(error).__name__} at {_places(error)}: {str(error)[:300]}")
        faulthandler.cancel_dump_traceback_later()
        outcome = replace(outcome, memory=max(0, _status("VmHWM") - at_first))
        print(json.dumps(asdict(outcome)), file=answers, flush=True)


def _places(error: BaseException) -> str:
    places, trace = [], error.__traceback__
    while trace:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(places[-4:])


def _status(key: str) -> int:
    """A line of the process's own status, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


if __name__ == "__main__":
    _serve()
