"""What carries out a long list of tasks: this process, a pool of processes or threads, or a Ray cluster.

A task is a sequence of steps, which one worker does in order. All results lie on the disk.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, Literal, TypeVar

Engine = Literal["processes", "threads", "ray"]
Step = TypeVar("Step")
Work = Callable[[Step], Any]


class EngineError(RuntimeError):
    """The engine is not installed, or a worker of it died."""


def run(
    work: Work[Step], tasks: Sequence[Sequence[Step]], workers: int = 0, engine: Engine = "processes"
) -> Generator[None, None, None]:
    """Do the work of all steps of all tasks, a few at a time, so that nothing grows with their number.

    Args:
        work: done with each step; for more than one worker, a function that can be sent to another process.
        tasks: what is to be done.
        workers: how many tasks at a time; 0: one for each core that this process, or the cluster, may use.
        engine: processes of this machine; threads of this process, which share its GPUs; or the cluster that
            ``ray.init`` finds (one of this machine if none).

    Yields:
        Whenever a step may have been done, and each second.

    Raises:
        EngineError: a worker died, or the engine is not installed.
        Exception: what ``work`` raises; processes beside are broken off, threads are waited for.
    """
    if engine == "ray":
        yield from _run_ray(work, tasks, workers)
        return
    workers = workers or cores()
    if engine == "threads":
        yield from _run_threads(work, tasks, workers)
        return
    if workers > 1 and len(tasks) > 1:
        yield from _run_processes(work, tasks, min(workers, len(tasks)))
        return
    for task in tasks:
        for step in task:
            work(step)
            yield


def cores() -> int:
    """Cores that this process may use, which a container or a scheduler may have cut."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _do(work: Work[Step], task: Sequence[Step]) -> None:
    for step in task:
        work(step)


def _run_processes(work: Work[Step], tasks: Sequence[Sequence[Step]], workers: int) -> Iterator[None]:
    # Spawned, not forked: the parent may hold threads and an open GPU.
    context = multiprocessing.get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, initializer=_end_with, initargs=(watched,))
    waiting = iter(tasks)
    running: set[Future[None]] = set()
    try:
        while True:
            running |= {pool.submit(_do, work, task) for task in islice(waiting, 2 * workers - len(running))}
            if not running:
                return
            done, running = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            yield
    except BrokenProcessPool as error:
        raise EngineError(
            "a worker process died, perhaps for want of memory: run it again to go on, with fewer workers; or the "
            "program that called this has no 'if __name__ == \"__main__\":', which each worker would run anew"
        ) from error
    finally:
        held.close()
        pool.shutdown()
        watched.close()


def _run_threads(work: Work[Step], tasks: Sequence[Sequence[Step]], workers: int) -> Iterator[None]:
    # Each step of a training on a GPU needs the interpreter for microseconds, several times, and would wait 5 ms each
    # time for a thread that computes in Python.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        with ThreadPoolExecutor(workers) as pool:
            running = {pool.submit(_do, work, task) for task in tasks}
            try:
                while running:
                    done, running = wait(running, timeout=1, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                    yield
            finally:
                for future in running:
                    future.cancel()
    finally:
        sys.setswitchinterval(before)


def _end_with(parent: Connection) -> None:
    """Let this worker end when the parent lets go of its end of the pipe, or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer

    def watch() -> None:
        parent.poll(None)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _run_ray(work: Work[Step], tasks: Sequence[Sequence[Step]], workers: int) -> Iterator[None]:
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError as error:
        raise EngineError("the engine 'ray' is not installed; pip install 'last-action-recognition[ray]'") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(log_to_driver=False)
    try:
        at_once = workers or int(ray.cluster_resources().get("CPU", 1))
        do = ray.remote(_do)
        waiting, running = iter(tasks), []
        while True:
            running += [do.remote(work, task) for task in islice(waiting, at_once - len(running))]
            if not running:
                return
            done, running = ray.wait(running, timeout=1)
            ray.get(done)
            yield
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise EngineError(f"a worker of the Ray cluster was lost ({error}); run it again to go on") from error
    finally:
        if is_ours:
            ray.shutdown()
