"""Random numbers of one training, though several may live in one process and PyTorch has one generator a device."""

from collections.abc import Generator
from contextlib import contextmanager
from threading import RLock
from weakref import WeakKeyDictionary

import torch

# Held by whoever seeds, borrows or draws from a generator of the whole process, or records a CUDA graph: for each of
# these PyTorch knows one at a time.
# Nobody may wait for the whole GPU (torch.cuda.synchronize) beside a recording, which it would break.
ALONE = RLock()
# By whom each is used. Not a weak set of streams: PyTorch 2.11 crashes over one that is gone.
_STREAMS: WeakKeyDictionary[object, torch.cuda.Stream] = WeakKeyDictionary()


def own_stream(device: torch.device, training: object) -> torch.cuda.Stream | None:
    """A stream for a training, as long as it lives, on which no other of this process works; None on the CPU.

    PyTorch hands out the same 32 in turn, and what one training asks for must not end up in what another records.
    """
    if device.type != "cuda":
        return None
    with ALONE:
        taken = list(_STREAMS.values())
        stream = next((s for s in (torch.cuda.Stream(device) for _ in range(32)) if s not in taken), None)
        if stream is None:
            raise RuntimeError("32 trainings are at work on this GPU, and PyTorch has no more streams; start fewer")
        _STREAMS[training] = stream
    return stream


@contextmanager
def drawing_from(generator: torch.Generator) -> Generator[None]:
    """Let all that asks for no generator on a GPU, as dropout does, draw from this one; on the CPU nothing changes.

    The GPU's own generator takes on the state of this one and hands it back, both for the host's price of a pointer,
    so that trainings beside it draw the same numbers as they would alone.
    """
    if generator.device.type != "cuda":
        yield
        return
    own = torch.cuda.default_generators[generator.device.index]
    with ALONE:
        before = own.graphsafe_get_state()
        own.graphsafe_set_state(generator)
        try:
            yield
        finally:
            own.graphsafe_set_state(before)
