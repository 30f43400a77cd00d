"""Random numbers of one training, though several may live in one process and PyTorch has one generator a device."""

from collections.abc import Generator
from contextlib import contextmanager
from threading import RLock

import torch

# Held by whoever seeds, borrows or draws from a generator of the whole process, or records a CUDA graph: for each of
# these PyTorch knows one at a time.
ALONE = RLock()


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
