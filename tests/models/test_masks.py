"""A batch in which all bodies are present asks the host nothing, so that a CUDA graph can hold it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import last


class Questions(TorchDispatchMode):
    """Notes what would make the host wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        picks = [part for part in args[1] if part is not None] if name == "index" else []
        if name in {"nonzero", "_local_scalar_dense"} or any(part.dtype == torch.bool for part in picks):
            self.asked.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("bodies", ["mean", "first", "padded"])
@pytest.mark.parametrize(
    "name", ["last_e_nano", "last_v2_small", "efficientgcn_b0", "ctrgcn", "stgcnpp", "sgn", "ddnet_small"]
)
def test_no_network_picks_bodies_where_all_are_present(name, bodies):
    network = last.create_model(name, 3, "sbu15", bodies=bodies)
    frames = 20 if name == "sgn" else 8
    streams = {stream: torch.rand(2, 3, frames, 15, 2) for stream in network.streams}
    with Questions() as questions:
        network(streams, None).sum().backward()
    assert not questions.asked
    with torch.no_grad():  # and means the same as a mask that says so
        network.eval()
        torch.testing.assert_close(network(streams, None), network(streams, torch.ones(2, 2, dtype=torch.bool)))
    if bodies == "mean":
        with Questions() as questions:
            network(streams, torch.tensor([[True, True], [True, False]]))
        assert questions.asked
