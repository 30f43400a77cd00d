"""How much several trainings gain by going side by side on one device, instead of one after another."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from threading import Barrier

import torch

from last.bench.workload import Case, finish, training
from last.training.captured import WARM_UP


@dataclass(frozen=True)
class SideBySide:
    """The speed of some equal trainings on one device.

    Attributes:
        runs: how many.
        one_after_another: clips a second of all of them, each alone on the device.
        side_by_side: clips a second of all of them, each in a thread of its own.
    """

    runs: int
    one_after_another: float
    side_by_side: float

    @property
    def gain(self) -> float:
        """How many times as fast they are side by side."""
        return self.side_by_side / self.one_after_another


def time_side_by_side(case: Case, runs: int, steps: int, rounds: int = 3) -> SideBySide:
    """Time whole training steps both ways, in turns, so that whatever slows the machine slows both.

    Args:
        case: the training; its threads are those of each run on the CPU.
        runs: how many of it.
        steps: of each run in each round.
        rounds: of both ways; the median counts.

    Raises:
        ValueError: the case is not of the phase ``train``, or the network does not suit the layout.
        RuntimeError: the device's memory is not enough for so many.
    """
    if case.phase != "train":
        raise ValueError(
            f"trainings are timed side by side, and the case is of the phase '{case.phase}'; make it train"
        )
    device, threads = torch.device(case.device), torch.get_num_threads()
    torch.set_num_threads(case.threads)
    try:
        trainings = [training(case) for _ in range(runs)]
        for step in trainings:
            _take(step, WARM_UP + 1, device)
        alone, together = [], []
        with ThreadPoolExecutor(runs) as pool:
            for _ in range(rounds):
                alone.append(sum(_take(step, steps, device) for step in trainings))
                together.append(_take_together(pool, trainings, steps, case.threads, device))
    finally:
        torch.set_num_threads(threads)
    clips = runs * steps * case.batch
    return SideBySide(runs, clips / median(alone), clips / median(together))


def _take(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """Seconds that some steps take."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    finish(device)
    return time.perf_counter() - start


def _take_together(
    pool: ThreadPoolExecutor, trainings: Sequence[Callable[[], None]], steps: int, threads: int, device: torch.device
) -> float:
    """Seconds until the last training has taken its steps, from the moment when all may begin."""
    ready = Barrier(len(trainings) + 1)

    def work(step: Callable[[], None]) -> None:
        torch.set_num_threads(threads)  # which on the CPU each thread has of its own
        ready.wait()
        for _ in range(steps):
            step()

    running = [pool.submit(work, step) for step in trainings]
    ready.wait()
    start = time.perf_counter()
    for run in running:
        run.result()
    finish(device)
    return time.perf_counter() - start
