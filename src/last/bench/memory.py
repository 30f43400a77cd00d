"""The most memory that a case takes, in a process of its own on the CPU, where nothing else is counted."""

import multiprocessing
import re
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import nn

from last.bench.workload import RUNTIMES, Case, prepare

_STATUS = Path("/proc/self/status")
# Of what is free; the rest is for the other programs of the machine.
SHARE = 0.8


class MemoryFault(RuntimeError):
    """A case needs more memory than there is; the message says which."""


def peak_mb(case: Case) -> float | None:
    """Megabytes that building a case and one call of it add at their highest.

    On the CPU a fresh process does it, and its resident set is read from /proc; where there is none, as outside
    Linux, and where compiling itself would be measured, the answer is None.

    Raises:
        MemoryFault: it is more than the machine has to give.
    """
    if torch.device(case.device).type == "cuda":
        return _on_cuda(case)
    if not _STATUS.exists() or RUNTIMES[case.runtime].compiles:
        return None
    # Children of a server that has imported everything and computed nothing start fresh, and at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(case, sender), daemon=True)
    child.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        answer = "its process was ended"
    child.join()
    if isinstance(answer, str):
        raise MemoryFault(f"{case.model}, {case.phase}, batch {case.batch} is left out: {answer}")
    return answer


def _measure(case: Case, sender: Connection) -> None:
    import resource  # which is not on every system

    torch.set_num_threads(case.threads)
    free = 1024 * _read(Path("/proc/meminfo"), "MemAvailable")
    resource.setrlimit(resource.RLIMIT_DATA, (int(SHARE * free), resource.RLIM_INFINITY))
    nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 1, 1)).sum().backward()  # PyTorch's own libraries are no network's
    before = _read(_STATUS, "VmHWM")
    try:
        prepare(case)()
        sender.send((_read(_STATUS, "VmHWM") - before) * 1024 / 1e6)
    except (MemoryError, RuntimeError) as error:
        sender.send(str(error).splitlines()[0])


def _on_cuda(case: Case) -> float:
    torch.cuda.reset_peak_memory_stats(case.device)
    before = torch.cuda.memory_allocated(case.device)
    try:
        prepare(case)()
    except torch.OutOfMemoryError as error:
        message = str(error).splitlines()[0]
        raise MemoryFault(f"{case.model}, {case.phase}, batch {case.batch} is left out: {message}") from error
    return (torch.cuda.max_memory_allocated(case.device) - before) / 1e6


def _read(path: Path, key: str) -> int:
    """A number of kilobytes in a file of /proc."""
    found = re.search(rf"^{key}:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{path} does not say {key}")
    return int(found[1])
