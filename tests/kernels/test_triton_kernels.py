"""The Triton kernels against the plain layers: on a GPU where there is one, else in Triton's interpreter."""

import copy
import os

import numpy as np
import pytest
import torch
from torch import nn

from last.kernels.gpu import fault
from last.models.last_e import LightGCNBlock, StreamFusion
from last.models.layers.temporal_conv import separable_tcn
from last.skeleton import Layout, load_layout, spatial_partition

# The interpreter reads single numbers out of arrays.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
    if np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("the interpreter of Triton 3.6 needs NumPy below 2.4", allow_module_level=True)
kernels = pytest.importorskip("last.kernels.gpu.block", reason="Triton is not installed")
graph = pytest.importorskip("last.kernels.gpu.graph", reason="Triton is not installed")

SBU, NTU, UTD = "sbu15", "ntu", "utd20"


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    """The reference in full float32, which cuDNN leaves by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def scattered(layer):
    """Parameters and running statistics away from zeros and ones, where most gradients vanish."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in (*layer.parameters(), *(b for n, b in layer.named_buffers() if "running" in n)):
            value += 0.3 * torch.rand(value.shape, generator=generator)
    return layer.to(DEVICE)


def same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-4) -> None:
    scale = b.abs().max().clamp(min=1e-3).item()
    torch.testing.assert_close(a.float() / scale, b.float() / scale, rtol=0, atol=tolerance)


def compare(plain: nn.Module, call, *inputs: torch.Tensor, grads: bool = True) -> None:
    """Values, gradients of inputs and parameters, and running statistics of a layer and of what stands in for it."""
    fused = copy.deepcopy(plain)
    ours, theirs = ([x.clone().requires_grad_(grads) for x in inputs] for _ in range(2))
    expected, found = plain(*theirs), call(fused, *ours)
    same(found, expected)
    weight = random(*expected.shape, seed=3)
    expected.backward(weight)
    found.backward(weight)
    for a, b in zip(ours, theirs, strict=True):
        if grads:
            same(a.grad, b.grad)
    for (name, a), b in zip(fused.named_parameters(), plain.parameters(), strict=True):
        if name == "residual.0.bias" and plain.training:
            assert not a.grad.any()  # exactly, where the plain layer leaves the rounding of a sum that vanishes
        else:
            same(a.grad, b.grad)
    for a, b in zip(fused.buffers(), plain.buffers(), strict=True):
        same(a, b)


def make_block(layout: Layout, cin: int, cout: int, stride: int, attention: bool) -> LightGCNBlock:
    partition = torch.from_numpy(spatial_partition(layout))
    block = scattered(LightGCNBlock(cin, cout, stride, attention, partition))
    block.tcn.dropout.p = 0.0
    return block


on_gpu = pytest.mark.skipif(not CUDA, reason="of a size that takes the interpreter minutes")


@pytest.mark.parametrize(
    ("layout", "cin", "cout", "stride", "attention", "frames"),
    [
        (NTU, 6, 6, 1, False, 12),
        (UTD, 6, 10, 2, True, 13),
        (SBU, 34, 34, 1, False, 3),
        pytest.param(NTU, 24, 48, 2, True, 64, marks=on_gpu),
        pytest.param(UTD, 48, 96, 2, False, 48, marks=on_gpu),
        pytest.param(NTU, 160, 160, 1, True, 16, marks=on_gpu),
    ],
)
def test_a_block_is_the_plain_block(layout, cin, cout, stride, attention, frames):
    block = make_block(load_layout(layout), cin, cout, stride, attention)
    x = random(2, cin, frames, len(load_layout(layout).joints))
    compare(block, kernels.GpuKernels().block, x)


def test_a_block_in_evaluation_mode_has_gradients_too(stick):
    block = make_block(stick, 6, 10, 2, True).eval()
    compare(block, kernels.GpuKernels().block, random(3, 6, 9, 5))


@pytest.mark.parametrize("training", [True, False])
def test_the_fusion_is_the_plain_fusion(training):
    fusion = scattered(StreamFusion(3, 3, 20)).train(training)
    x = 2 * random(2, 3, 3, 50, 25) + 5  # far from the origin, where variances lose digits
    compare(fusion, lambda module, x: kernels.fuse_streams(x, module), x, grads=False)


def test_the_fusion_refuses_a_gradient_that_it_does_not_compute():
    x = random(1, 2, 3, 4, 5).requires_grad_()
    with pytest.raises(ValueError, match=r"set environment\.kernels to plain"):
        kernels.fuse_streams(x, StreamFusion(2, 3, 4).to(DEVICE))


def test_neighbours_are_the_nonzero_entries(stick):
    partition = torch.from_numpy(spatial_partition(stick))
    found = graph.neighbours(partition)
    rebuilt = torch.zeros_like(partition)
    for subset in range(3):
        for i in range(found.bounds[subset], found.bounds[subset + 1]):
            for joint in range(5):
                rebuilt[subset, joint + found.step[i, joint], joint] += found.value[i, joint]
    assert torch.equal(rebuilt, partition)
    assert len(found.step) == 1 + 1 + 2  # a joint, its parent, and at most two children


@pytest.fixture
def branches() -> nn.ModuleList:
    """Their results lie near 20, so that ReLU behind them cuts nothing and a zero was dropped."""
    made = scattered(nn.ModuleList(separable_tcn(3, 1, dilation) for dilation in (1, 2)))
    for branch in made:
        nn.init.constant_(branch[4].bias, 20.0)
    return made


def test_dropout_keeps_its_share_and_its_gradient(branches):
    x, seed = random(8, 6, 30, 5), torch.tensor([5], device=DEVICE)
    nothing = torch.zeros_like(x)
    values = kernels.temporal(x, branches, nothing, 0.0, None)
    dropped = kernels.temporal(x.requires_grad_(), branches, nothing, 0.25, seed)
    kept = dropped > 1
    same(dropped, values * kept / 0.75)
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.02)  # of 7,200: four deviations
    weight = random(*x.shape, seed=3)
    dropped.backward(weight)
    found, x.grad = x.grad, None
    plain = torch.cat([branch(half) for branch, half in zip(branches, x.chunk(2, 1), strict=True)], 1)
    (plain * kept / 0.75).backward(weight)
    same(found, x.grad)


def test_the_seed_alone_decides_what_is_dropped(branches):
    x = random(2, 6, 16, 5)

    def run(seed: int) -> torch.Tensor:
        return kernels.temporal(x, branches, x, 0.5, torch.tensor([seed], device=DEVICE))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_what_is_stored_in_half_precision_differs_by_its_rounding_alone(stick):
    kind = torch.bfloat16 if CUDA else torch.float16  # the interpreter has no products of bfloat16
    block = make_block(stick, 6, 6, 1, False)
    x = random(4, 6, 16, 5).to(kind)
    found = kernels.GpuKernels().block(copy.deepcopy(block), x)
    assert found.dtype == kind
    expected = block(x.float())
    assert (found - expected).norm() / expected.norm() < (2e-2 if CUDA else 2e-3)


def test_a_device_without_cuda_is_refused_in_a_sentence():
    assert fault(torch.device("cpu")) == "the Triton kernels run on NVIDIA GPUs, and the device is cpu"


@pytest.mark.skipif(not CUDA, reason="a CUDA graph needs a GPU")
def test_a_captured_block_draws_fresh_numbers_at_each_replay(stick):
    block = make_block(stick, 12, 12, 1, True)
    block.tcn.dropout.p = 0.5
    run, x = kernels.GpuKernels().block, random(2, 12, 16, 5)
    run(block, x)  # compiles, and finds the graph's neighbours
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        out = run(block, x)
    captured.replay()
    first = out.clone()
    captured.replay()
    assert not torch.equal(first, out)
