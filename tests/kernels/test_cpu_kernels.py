import copy
import os

import pytest
import torch
from torch import nn

import last
from last.kernels import accelerate
from last.kernels.cpu import build, layers
from last.models.last_e import LightGCNBlock
from last.models.layers.branched_conv import BranchedConv
from last.models.layers.temporal_conv import depthwise
from last.setting_values import ConfigError

CPU = torch.device("cpu")

try:
    build.library()
    FAULT = None
except build.BuildError as error:
    FAULT = str(error)
needs_kernels = pytest.mark.skipif(FAULT is not None, reason=f"no kernels here: {FAULT}")


def networks(name, layout, dropout=0.0, **settings):
    """The plain network and the same on kernels, with weights that hide nothing."""
    torch.manual_seed(0)
    plain = last.create_model(name, 7, layout, dropout=0.0, **settings)
    for parameter in plain.parameters():
        if parameter.dim() < 3:
            nn.init.normal_(parameter, 0.5, 0.3)
    for block in plain.blocks:
        block.tcn.dropout.p = dropout
    fused = copy.deepcopy(plain)
    assert accelerate(fused, CPU, "fused") == "fused kernels (C++)"
    return plain, fused


def streams_of(network, clips, frames):
    joints = network.blocks[0].gcn.graph.shape[-1]
    generator = torch.Generator().manual_seed(1)
    size = (clips, network.in_channels, frames, joints, 1)
    return {name: 1 + torch.randn(size, generator=generator) for name in network.streams}


def gap(expected, found):
    return ((expected - found).norm() / expected.norm().clamp(min=1e-12)).item()


# Odd lengths and sizes of body leave ends that no whole vector covers.
CASES = [("last_e_nano", "ntu", 64, 4), ("last_e_small", "sbu15", 50, 2), ("last_e_base", "kinect20", 48, 3)]
CASES += [("last_e_nano", "penn13", 37, 2), ("last_e_large", "hand21", 9, 2)]


@needs_kernels
@pytest.mark.parametrize("branched", [False, True])
@pytest.mark.parametrize(("name", "layout", "frames", "clips"), CASES)
def test_the_kernels_give_what_the_plain_layers_give(name, layout, frames, clips, branched):
    plain, fused = networks(name, layout, branched=branched)
    if branched:
        # Where the norm before the branches leaves a channel all but constant, those behind them divide its rounding by
        # next to nothing, and no comparison of digits says anything.
        for network in (plain, fused):
            for block in network.blocks:
                for branch in block.tcn.branches:
                    branch[0].weight.data.abs_().add_(0.5)
    exact = copy.deepcopy(plain).double()
    streams = streams_of(plain, clips, frames)
    gradient = torch.randn(clips, 7, generator=torch.Generator().manual_seed(2))
    for network, kind in ((exact, torch.double), (plain, torch.float), (fused, torch.float)):
        scores = network({key: stream.to(kind) for key, stream in streams.items()})
        scores.backward(gradient.to(kind))
    # Near to the truth, or as near as the plain layers: some gradients are nothing but rounding, and rounding opens a
    # ReLU here and there.
    for key, truth in exact.named_parameters():
        errors = [(net.get_parameter(key).grad - truth.grad).norm() for net in (plain, fused)]
        assert errors[1] < 3 * errors[0] + 5e-4 * truth.grad.norm() + 1e-6, key
    for key, truth in exact.named_buffers():
        truth = truth.double()
        assert (truth - fused.get_buffer(key)).norm() < 1e-5 * truth.norm().clamp(min=1), key


@needs_kernels
@pytest.mark.parametrize(("name", "layout", "frames", "clips"), CASES)
def test_they_evaluate_by_running_statistics(name, layout, frames, clips):
    plain, fused = networks(name, layout)
    for network in (plain, fused):
        generator = torch.Generator().manual_seed(3)
        for key, buffer in network.named_buffers():
            if "running" in key:
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    streams = streams_of(plain, clips, frames)
    with torch.inference_mode():
        assert gap(plain.eval()(streams), fused.eval()(streams)) < 1e-6


@needs_kernels
def test_what_they_do_not_do_the_plain_layers_do():
    plain, fused = networks("last_e_nano", "sbu15")
    streams = streams_of(plain, 2, 16)
    doubled = {name: stream.double() for name, stream in streams.items()}
    assert torch.equal(copy.deepcopy(plain).double()(doubled), copy.deepcopy(fused).double()(doubled))
    # A gradient of the input of an evaluation, as explanations of scores take it.
    given = {name: stream.requires_grad_() for name, stream in streams.items()}
    plain.eval(), fused.eval()
    expected, found = (torch.autograd.grad(net(given).sum(), given["joint"])[0] for net in (plain, fused))
    assert torch.equal(expected, found)


@needs_kernels
def test_a_layer_that_trains_in_part_is_left_to_the_plain_ones():
    plain, fused = networks("last_e_nano", "sbu15", dropout=0.5)
    streams = streams_of(plain, 3, 16)
    for network in (plain, fused):  # as fine-tuning does it
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.eval()
    torch.manual_seed(1)
    expected = plain(streams)
    torch.manual_seed(1)
    found = fused(streams)
    assert torch.equal(expected, found)
    found.sum().backward()
    assert torch.equal(plain.blocks[0].norm.running_mean, fused.blocks[0].norm.running_mean)


@needs_kernels
def test_other_types_are_left_to_the_plain_layers():
    plain, fused = networks("last_e_nano", "sbu15")
    streams = streams_of(plain, 3, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain(streams), fused(streams))
    with pytest.raises(RuntimeError, match="mixed dtype"):  # PyTorch's own refusal
        fused.to(torch.bfloat16)(streams)


@needs_kernels
def test_backward_uses_the_parameters_of_forward():
    plain, fused = networks("last_e_nano", "sbu15")
    streams = streams_of(plain, 3, 16)
    gradients = []
    for network in (plain, fused):
        other = {name: (2 * value).detach().requires_grad_() for name, value in network.named_parameters()}
        torch.func.functional_call(network, other, (streams,)).square().sum().backward()
        gradients.append(other["blocks.1.norm.weight"].grad)
    assert gap(*gradients) < 1e-3


@needs_kernels
def test_a_batch_without_bodies_changes_no_statistics():
    _, fused = networks("last_e_nano", "sbu15")
    streams = {name: stream.expand(-1, -1, -1, -1, 2) for name, stream in streams_of(fused, 2, 16).items()}
    fused(streams, torch.zeros(2, 2, dtype=torch.bool))
    assert fused.blocks[0].norm.running_mean.isfinite().all()


@needs_kernels
def test_dropout_drops_the_asked_share_and_backward_knows_which():
    plain, fused = networks("last_e_nano", "kinect20", dropout=0.3)
    one, other = plain.blocks[1], fused.blocks[1]
    x = torch.randn(4, 24, 32, 20) + 100  # the residual: so large that the last ReLU is open everywhere
    ours = x.clone().requires_grad_()
    out = other(ours)
    kept = (out - x).abs() > 1e-5
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.01)
    assert kept[0, 0].float().mean().item() == pytest.approx(0.7, abs=0.06)
    again = other(x)
    assert ((again - x).abs() > 1e-5).ne(kept).any()  # another draw

    class Mask(nn.Module):
        def forward(self, y):
            return y * kept / 0.7

    one.tcn.dropout = Mask()
    theirs = x.clone().requires_grad_()
    expected = one(theirs)
    assert gap(expected, out) < 1e-6
    gradient = torch.randn(out.shape, generator=torch.Generator().manual_seed(4))
    expected.backward(gradient)
    out.backward(gradient)
    assert gap(theirs.grad, ours.grad) < 1e-4


@needs_kernels
def test_dropout_follows_the_seed():
    _, fused = networks("last_e_nano", "sbu15", dropout=0.5)
    streams = streams_of(fused, 2, 16)
    first, second, third = ((torch.manual_seed(seed), fused(streams))[1] for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@needs_kernels
def test_threads_change_rounding_alone(monkeypatch):
    _, fused = networks("last_e_nano", "sbu15")
    streams = streams_of(fused, 5, 24)
    scores = []
    for threads in (1, 2, 3):
        monkeypatch.setattr("last.kernels.cpu.calls.get_num_threads", lambda threads=threads: threads)
        scores.append(fused(streams))
    assert gap(scores[0], scores[1]) < 1e-6
    assert gap(scores[0], scores[2]) < 1e-6
    assert torch.equal(scores[2], fused(streams))  # and the same threads change nothing


@needs_kernels
def test_a_loss_that_is_no_number_stays_none():
    _, fused = networks("last_e_nano", "sbu15")
    streams = streams_of(fused, 2, 16)
    streams["joint"][1, 0, 3, 2] = torch.nan
    assert fused(streams).isnan().any()


@needs_kernels
def test_a_copy_is_on_kernels_too_and_plain_takes_them_away():
    _, fused = networks("last_e_nano", "sbu15")
    blocks = [module for module in copy.deepcopy(fused).modules() if isinstance(module, LightGCNBlock)]
    assert all(block.kernels is not None for block in blocks)
    assert accelerate(fused, CPU, "plain") == "PyTorch's layers"
    assert all(block.kernels is None for block in fused.blocks)
    assert set(fused.state_dict()) == set(last.create_model("last_e_nano", 7, "sbu15").state_dict())


@needs_kernels
def test_branches_evaluate_by_the_plain_layers_until_they_are_deployed(monkeypatch):
    plain, fused = networks("last_e_nano", "sbu15", branched=True)
    streams = streams_of(plain, 3, 16)
    with torch.inference_mode():
        expected = plain.eval()(streams)
        accelerate(fused.eval(), CPU, "plain")  # the same one: a copy's weights lie elsewhere, and may round otherwise
        same = fused(streams)
        accelerate(fused, CPU, "fused")
        with monkeypatch.context() as patch:
            patch.setattr(type(fused.blocks[0].kernels), "block", None)  # whoever calls it fails
            assert torch.equal(same, fused(streams))
        deployed = fused.deploy()
        accelerate(deployed, CPU, "fused")
        assert gap(expected, deployed(streams)) < 1e-5


@needs_kernels
def test_branches_whose_input_is_all_but_constant_know_its_variance():
    # The squares of large numbers leave no digits for it, unless taps are counted from near their values.
    torch.manual_seed(0)
    x = torch.randn(3, 24, 16, 15)
    halves = []
    for _ in range(2):
        before, after = nn.BatchNorm2d(12), nn.BatchNorm2d(12)
        nn.init.constant_(before.weight, 0.01)
        nn.init.uniform_(before.bias, 300, 3000)
        halves.append(layers.SeparableTCN(before, 1, 1, torch.eye(12), after))
    _, covariance = layers.tap_moments(x, halves)
    torch.testing.assert_close(covariance[:, 4, 4], torch.full((24,), 1e-4, dtype=torch.double), rtol=0.05, atol=0)


def test_a_variance_that_rounding_leaves_below_none_counts_as_none():
    conv = BranchedConv(depthwise(3, 9, 1))
    kernel, _ = conv.one_kernel(torch.zeros(3, 9).double(), -1e-4 * torch.eye(9).double().repeat(3, 1, 1), 100)
    assert kernel.isfinite().all()


def test_branches_have_no_kernels_on_a_gpu_and_say_so():
    network = last.create_model("last_e_nano", 7, "sbu15", branched=True)
    with pytest.raises(ConfigError, match="no kernels: "):
        accelerate(network, torch.device("cuda"), "fused")
    accelerate(network, torch.device("cuda"))
    assert all(block.kernels is None for block in network.blocks)


def test_other_networks_stay_plain_and_say_so():
    network = last.create_model("ddnet_small", 7)
    assert accelerate(network, CPU) == "PyTorch's layers; no kernels: DDNet has none"
    with pytest.raises(ConfigError, match="kernels is fused, and there are no kernels: DDNet has none; use auto"):
        accelerate(network, CPU, "fused")


@pytest.fixture
def no_library(monkeypatch, tmp_path):
    monkeypatch.setenv("LAST_CACHE", str(tmp_path))
    build._built.cache_clear()
    yield tmp_path
    build._built.cache_clear()


def test_without_a_compiler_the_plain_layers_do_it(no_library, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    note = accelerate(last.create_model("last_e_nano", 7), CPU)
    assert note.startswith(
        "PyTorch's layers, which are about three times slower; no kernels: no C++ compiler was found "
        "(no-such-compiler); install g++"
    )


@pytest.mark.skipif(os.name == "nt", reason="there is no program 'false'")
def test_a_compiler_that_fails_leaves_nothing_behind(no_library, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    assert "cannot build the kernels" in accelerate(last.create_model("last_e_nano", 7), CPU)
    assert not list(no_library.iterdir())


def test_a_cache_that_cannot_be_written_is_said(no_library, monkeypatch):
    (no_library / "file").touch()
    monkeypatch.setenv("LAST_CACHE", str(no_library / "file"))
    assert "; no kernels: " in accelerate(last.create_model("last_e_nano", 7), CPU)


@needs_kernels
def test_a_damaged_program_is_made_again(no_library, monkeypatch):
    build.library()
    name = next(no_library.glob("*.so")).name
    monkeypatch.setenv("LAST_CACHE", str(no_library / "other"))
    program = no_library / "other" / name
    program.parent.mkdir()
    program.touch()
    build._built.cache_clear()
    build.library()
    assert program.stat().st_size > 0
    assert build.uses_threads()


def test_a_user_without_a_home_is_told(no_library, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LAST_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", homeless)
    with pytest.raises(build.BuildError, match="no home folder; name a folder in LAST_CACHE"):
        build.library()
