"""The step as a CUDA graph: recorded once for each size, then replayed by a single call.

A step of a small network is hundreds of kernels of a few microseconds, which the host cannot ask for as fast as the
GPU is done with them. Shapes: N clips of a step.
"""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from last.data.batches import DeviceClips
from last.data.feed import Feed
from last.training.randomness import ALONE, drawing_from
from last.training.step import Step

# Steps of each size that are taken before one is recorded: what is made at the first (momentum, plans, tuned kernels)
# would otherwise become part of the recording.
WARM_UP = 3
# Trainings that start side by side take these steps in turn: kernels that one has compiled are there for the next.
_WARMING = Lock()

Record = Callable[[Callable[[], None], torch.Generator], Callable[[], None]]


def why_eager(step: Step, feed: Feed) -> str | None:
    """Why a step over these clips cannot be captured, to follow "since"; None where nothing is known against it."""
    if step.device.type != "cuda":
        return f"CUDA graphs need a GPU, and the device is {step.device.type}"
    if step.scaler.is_enabled():
        return "float16 with loss scaling has not been tried in a recording"
    bodies = min(step.pipeline.max_bodies, feed.most_bodies)
    networks = [step.model, *(step.distillation.asked if step.distillation else ())]
    varies = feed.fewest_bodies < bodies
    if varies and any(getattr(network, "bodies", None) == "mean" for network in networks):
        return (
            f"clips have {feed.fewest_bodies} to {bodies} bodies, and how many rows the present ones make changes from "
            "step to step (not so with model.bodies first or padded)"
        )
    return None


@contextmanager
def working_on(stream: torch.cuda.Stream | None) -> Generator[None]:
    """Work on a stream, after all that the current one was given before, which waits for it in turn; None does not."""
    if stream is None or stream == (here := torch.cuda.current_stream(stream.device)):
        yield
        return
    stream.wait_stream(here)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        here.wait_stream(stream)


class GraphRecorder:
    """Records CUDA graphs of one training, which take turns in the same memory: nothing in it outlives a replay."""

    # Of the whole process: PyTorch before 2.13 may keep a recording that failed open, which breaks those after it.
    broken = False

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        """Record work on the current stream, without doing it, and return what does it.

        Args:
            work: asks the host nothing and takes nothing from it.
            generator: what it draws from; each replay draws anew.

        Raises:
            RuntimeError: some of it cannot be recorded; nothing that it works on has changed, but the generator is
                spoiled.
        """
        with ALONE, drawing_from(generator):
            if GraphRecorder.broken:
                raise RuntimeError("an earlier recording in this process failed")
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(generator)
            # In this mode other threads may train, allocate and copy meanwhile.
            recording = torch.cuda.graph(graph, self._pool, torch.cuda.current_stream(), "thread_local")
            try:
                with recording:
                    work()
            except RuntimeError:
                GraphRecorder.broken = True
                raise
        self._pool = graph.pool()
        return graph.replay


class CapturedStep:
    """A step that is recorded once it is warm, and replayed from then on; called as :class:`Step` is.

    The first steps of each size run as they are, and train as the others do. Each size of a batch has a graph of its
    own, the shorter one at the end of an epoch too, for which that is less code than an exception would be. Where
    recording fails, training goes on without, from the very state that it was in.

    Args:
        step: what to record.
        largest: the most clips of a step.
        record: makes work into what replays it; None takes a :class:`GraphRecorder`.

    Attributes:
        fault: why recording failed, None where it did not.
    """

    def __init__(self, step: Step, largest: int, record: Record | None = None):
        self.step = step
        self.fault: str | None = None
        self._record = record or GraphRecorder()
        self._places = torch.zeros(largest, dtype=torch.long, device=step.device)
        self._taken: Counter[int] = Counter()
        # By size and by the clips, which are held so that no others can take their place in memory.
        self._graphs: dict[tuple[int, int], tuple[DeviceClips, Callable[[], None]]] = {}

    def __call__(self, clips: DeviceClips, places: Tensor) -> None:
        """Take the step; see :meth:`Step.__call__`."""
        size = len(places)
        static = self._places[:size]
        static.copy_(places)
        work = partial(self.step, clips, static)
        key = (size, id(clips))
        if self.fault is None and key not in self._graphs and self._taken[size] >= WARM_UP:
            self._capture(key, clips, work)
        recorded = self._graphs.get(key)
        with _WARMING if recorded is None and self.fault is None else nullcontext():
            (recorded[1] if recorded else work)()
        self._taken[size] += 1

    def _capture(self, key: tuple[int, int], clips: DeviceClips, work: Callable[[], None]) -> None:
        step = self.step
        drawn = step.generator.get_state()
        try:
            with _capturable(step.optimizer):
                self._graphs[key] = clips, self._record(work, step.generator)
        except RuntimeError as error:
            while isinstance(error.__context__, RuntimeError):  # the end of a broken recording fails too
                error = error.__context__
            self.fault = str(error).strip().partition("\n")[0] or type(error).__name__
            # PyTorch takes a generator to be recorded still; graphs that were recorded before draw from the old one.
            step.generator = torch.Generator(step.device)
            step.generator.set_state(drawn)
            self._graphs.clear()
            step.optimizer.zero_grad()  # whose memory was the recording's


@contextmanager
def _capturable(optimizer: torch.optim.Optimizer) -> Generator[None]:
    """Let Adam be recorded; it warns where it is so and runs as it is, which the first steps do."""
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False
