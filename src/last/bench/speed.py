"""How long networks take, all of them in turns in one process, so that whatever slows the machine slows all alike."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from last.bench.memory import MemoryFault, peak_mb
from last.bench.workload import RUNTIMES, Case, Phase, prepare
from last.progress import Reporter
from last.setting_values import ConfigError
from last.settings import Structure
from last.skeleton import Layout
from last.training.captured import WARM_UP

REFERENCE = "efficientgcn_b0"
_WORK = {"runtime", "device", "threads", "batch", "frames", "joints", "bodies", "phase"}
# Of each case in each round. Short, so that rounds follow quickly; a call that takes longer sits rounds out.
SECONDS = 0.2


@dataclass(frozen=True)
class Speed:
    """How fast a case is; all that stands in results/ of it.

    Attributes:
        model: registered name.
        runtime: one of :data:`~last.bench.workload.RUNTIMES`.
        device: such as ``cpu``.
        threads: of PyTorch on the CPU.
        batch: clips a call.
        frames: of each clip.
        joints: of each body.
        bodies: of each clip.
        phase: ``infer``, the network alone, or ``train``, a whole step.
        clips_per_second: at the median.
        ms_median: milliseconds a call, the median over rounds.
        ms_spread: their interquartile range; 0 where a slow case took part in one round alone.
        peak_mb: megabytes, see :func:`last.bench.memory.peak_mb`.
        structure: of LAST-E in training.
    """

    model: str
    runtime: str
    device: str
    threads: int
    batch: int
    frames: int
    joints: int
    bodies: int
    phase: Phase
    clips_per_second: float
    ms_median: float
    ms_spread: float
    peak_mb: float | None
    structure: Structure = "plain"


def plan(
    models: Sequence[str],
    runtimes: Sequence[str],
    device: torch.device,
    threads: Sequence[int],
    batches: Sequence[int],
    phases: Sequence[Phase],
    layout: Layout,
    frames: int = 64,
    bodies: int = 1,
    classes: int = 60,
) -> tuple[list[Case], list[str]]:
    """Lay out what is timed: each network under each runtime; training with the largest batch and all threads alone.

    Returns:
        The cases, and a sentence for each runtime that is left out, with the networks that it is left out for.

    Raises:
        ConfigError: there is no such runtime.
    """
    if unknown := sorted(set(runtimes) - set(RUNTIMES)):
        raise ConfigError(f"no runtime {', '.join(unknown)}; there are: {', '.join(RUNTIMES)}")
    faults: dict[str, list[str]] = {}
    shapes: list[tuple[Phase, int, int]] = []
    if "infer" in phases:
        shapes += [("infer", batch, count) for batch in batches for count in threads]
    if "train" in phases:
        shapes.append(("train", max(batches), max(threads)))
    cases = []
    for model, runtime in itertools.product(models, runtimes):
        if fault := RUNTIMES[runtime].fault(model, device):
            faults.setdefault(f"'{runtime}' is left out for {{}}: {fault}", []).append(model)
            continue
        cases += [
            Case(model, runtime, str(device), count, batch, phase, layout, frames, bodies, classes)
            for phase, batch, count in shapes
            if phase == "train" or RUNTIMES[runtime].step == "eager"
        ]
    return cases, [sentence.format(", ".join(names)) for sentence, names in faults.items()]


def measure(cases: Sequence[Case], rounds: int, generator: torch.Generator, reporter: Reporter) -> list[Speed]:
    """Time the cases, round after round, each time in another order.

    A case that needs more memory than there is, is left out in a sentence.

    Args:
        cases: what :func:`plan` laid out.
        rounds: each a moment of every case; a slow case takes part in fewer, and in one at least.
        generator: of the order.
        reporter: says what happens.
    """
    peaks: dict[Case, float | None] = {}
    with reporter.bar("measuring memory", len(cases)) as advance:
        for done, case in enumerate(cases, start=1):
            try:
                # Threads hardly change the memory, and fresh processes take their time.
                same = [peaks[c] for c in peaks if _but_threads(c) == _but_threads(case)]
                peaks[case] = same[0] if same else peak_mb(case)
            except MemoryFault as fault:
                reporter.say(str(fault))
            advance(done)
    works: dict[Case, Callable[[], None]] = {}
    threads = torch.get_num_threads()
    try:
        with reporter.bar("warming up", len(peaks)) as advance:
            for done, case in enumerate(peaks, start=1):
                torch.set_num_threads(case.threads)
                works[case] = prepare(case)
                captured = case.phase == "train" and RUNTIMES[case.runtime].step == "graph"
                for _ in range(WARM_UP + 1 if captured else 1):  # a captured step is recorded in the last of these
                    works[case]()
                advance(done)
        with reporter.bar("timing", rounds) as advance:
            times = interleave(works, rounds, generator, advance)
    finally:
        torch.set_num_threads(threads)
    return [_speed(case, times[case], peaks[case]) for case in works]


def interleave(
    works: dict[Case, Callable[[], None]],
    rounds: int,
    generator: torch.Generator,
    on_round: Callable[[int], None] = lambda done: None,
) -> dict[Case, list[float]]:
    """Milliseconds a call of each case, one number for each round that it took part in."""
    cases = list(works)
    times: dict[Case, list[float]] = {case: [] for case in cases}
    spent = dict.fromkeys(cases, 0.0)
    for done in range(rounds):
        for i in torch.randperm(len(cases), generator=generator).tolist():
            case = cases[i]
            if spent[case] <= (done + 1) * SECONDS:  # no more than one moment ahead of its share
                torch.set_num_threads(case.threads)
                start = time.perf_counter()
                times[case].append(_moment(works[case]))
                spent[case] += time.perf_counter() - start
        on_round(done + 1)
    return times


def _moment(work: Callable[[], None]) -> float:
    """Median milliseconds of the calls that fit into a moment, one at least."""
    calls: list[float] = []
    end = time.perf_counter() + SECONDS
    while not calls or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        calls.append(1e3 * (time.perf_counter() - start))
    return median(calls[1:] or calls)  # the first finds the caches as another network left them


def _speed(case: Case, times: Sequence[float], peak: float | None) -> Speed:
    ms = median(times)
    low, high = np.percentile(times, [25, 75])
    return Speed(
        model=case.model,
        runtime=case.runtime,
        device=case.device,
        threads=case.threads,
        batch=case.batch,
        frames=case.frames,
        joints=len(case.layout.joints),
        bodies=case.bodies,
        phase=case.phase,
        clips_per_second=round(1e3 * case.batch / ms, 3),
        ms_median=round(ms, 4),
        ms_spread=round(float(high - low), 4),
        peak_mb=None if peak is None else round(peak, 1),
        structure=case.structure,
    )


def _but_threads(case: Case) -> Case:
    return replace(case, threads=0)


def ratios(speeds: Sequence[Speed], reference: str) -> list[float | None]:
    """How many times as fast as another network each is at the same work; None where that was not measured.

    By kernels, which the other may lack, it is held against that network as PyTorch runs it.
    """
    peer = {_work(speed): speed.clips_per_second for speed in speeds if speed.model == reference}
    found = []
    for speed in speeds:
        eager = replace(speed, runtime="eager") if speed.runtime == "fused" else speed
        rate = peer.get(_work(speed), peer.get(_work(eager)))
        found.append(None if rate is None else speed.clips_per_second / rate)
    return found


def markdown(speeds: Sequence[Speed], reference: str = REFERENCE) -> str:
    """A row for each network and runtime, a column for each work: milliseconds a call, in brackets the ratio."""
    works = list(dict.fromkeys((s.phase, s.batch, s.threads) for s in speeds))
    cells = {
        (s.model, s.runtime, s.phase, s.batch, s.threads): f"{s.ms_median:,.1f}"
        + (f" ± {s.ms_spread:,.1f}" if s.ms_spread else "")
        + ("" if ratio is None else f" ({ratio:.2f})")
        for s, ratio in zip(speeds, ratios(speeds, reference), strict=True)
    }
    sizes = list(dict.fromkeys((s.phase, s.batch) for s in speeds))
    peaks = {(s.model, s.runtime, s.phase, s.batch): f"{s.peak_mb:,.0f}" for s in speeds if s.peak_mb is not None}
    header = ["model", "runtime"]
    header += [f"{phase} {batch}, {count} thread{'s' if count > 1 else ''}" for phase, batch, count in works]
    header += [f"MB, {phase} {batch}" for phase, batch in sizes]
    lines = [header, ["---"] * len(header)]
    for row in dict.fromkeys((s.model, s.runtime) for s in speeds):
        found = [cells.get((*row, *work), "not measured") for work in works]
        found += [peaks.get((*row, *size), "not measured") for size in sizes]
        lines.append([f"`{row[0]}`", row[1], *found])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _work(speed: Speed) -> tuple[object, ...]:
    """All that two speeds must have in common to be compared."""
    return tuple(value for key, value in vars(speed).items() if key in _WORK)
