"""Layers that train as several fold into the one that they stand for, and whole networks into those of the table."""

import copy

import pytest
import torch
from torch import nn

import last
from last.models.cost import count_parameters, on_paper
from last.models.layers.branched_conv import BranchedConv, WideConv, branch, fold, is_branched
from last.models.layers.temporal_conv import depthwise, separable_tcn

# SPEC 3: channels, blocks and attention of each stage, and the parameters at 60 classes.
TABLE = {
    "last_e_nano": ((24, 48, 96), (2, 2, 3), (False, False, True), 92_358),
    "last_e_small": ((32, 64, 128), (2, 3, 3), (False, True, True), 177_646),
    "last_e_base": ((40, 80, 160), (3, 4, 4), (True, True, True), 363_958),
    "last_e_large": ((48, 96, 192), (4, 5, 5), (True, True, True), 644_094),
}
SHAPES = pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])


def unlike_fresh(network):
    """Draw anew what starts at zero or one, and the statistics of each BatchNorm."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in (*network.named_parameters(), *network.named_buffers()):
            if "running_var" in name or (value.dim() < 3 and name.endswith("weight")):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif "running_mean" in name or "alpha" in name or (value.is_floating_point() and not value.any()):
                value.copy_(torch.randn(value.shape, generator=generator))
    return network


def streams_of(network):
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(2, 3, 13, 15, 2, generator=generator) for name in network.streams}


def make(name, **settings):
    torch.manual_seed(0)
    return unlike_fresh(last.create_model(name, 7, "sbu15", **settings))


@SHAPES
@pytest.mark.parametrize("frames", [16, 17])
def test_branches_fold_into_one_convolution(stride, dilation, frames):
    torch.manual_seed(0)
    layer = unlike_fresh(BranchedConv(depthwise(6, 9, stride, dilation))).double().eval()
    x = torch.randn(2, 6, frames, 5, dtype=torch.double)
    folded, surplus = layer.fold()
    assert (folded.stride, folded.dilation, folded.groups) == ((stride, 1), (dilation, 1), 6)
    assert surplus.abs().min() > 1e-3  # or the next assertion would not need it
    torch.testing.assert_close(folded(x) - surplus[:, None, None], layer(x), atol=1e-10, rtol=0)


def test_a_folded_kernel_by_hand():
    layer = BranchedConv(depthwise(1, 9, 1)).double()
    for conv, value in zip(layer.convs, (1.0, 10.0, 100.0), strict=True):
        nn.init.constant_(conv.weight, value)
    for norm, mean in zip(layer.norms, (1.0, 0.0, 0.0, 5.0), strict=True):
        nn.init.constant_(norm.weight, 2.0)
        norm.running_mean.fill_(mean)
        norm.running_var.fill_(4 - norm.eps)  # a scale of 2 / sqrt(4) = 1
    folded, surplus = layer.fold()
    assert folded.weight.flatten().tolist() == pytest.approx([100, 100, 110, 111, 112, 111, 110, 100, 100])
    assert surplus.item() == pytest.approx(6)


@pytest.mark.parametrize(("stride", "bias"), [(1, False), (2, True)])
def test_a_pair_folds_into_one_convolution(stride, bias):
    torch.manual_seed(0)
    layer = WideConv(nn.Conv2d(6, 10, 1, stride=(stride, 1), bias=bias)).double()
    x = torch.randn(2, 6, 9, 5, dtype=torch.double)
    folded = layer.fold()
    torch.testing.assert_close(folded(x), layer.narrow(layer.widen(x[:, :, ::stride])), atol=1e-10, rtol=0)
    torch.testing.assert_close(layer(x), folded(x), atol=1e-10, rtol=0)
    assert folded.weight.shape == (10, 6, 1, 1) and (folded.bias is not None) == bias


@SHAPES
def test_the_batchnorm_behind_takes_up_what_folding_shifts(stride, dilation):
    torch.manual_seed(0)
    tcn = nn.ModuleList([separable_tcn(6, stride, dilation)])
    names = set(tcn.state_dict())
    branch(tcn)
    assert is_branched(tcn)
    unlike_fresh(tcn).double().eval()
    x = torch.randn(2, 6, 15, 5, dtype=torch.double)
    expected = tcn[0](x)
    fold(tcn)
    torch.testing.assert_close(tcn[0](x), expected, atol=1e-10, rtol=0)
    assert set(tcn.state_dict()) == names


def test_at_the_start_the_branches_sum_to_the_variance_of_one():
    torch.manual_seed(0)
    layer, x = BranchedConv(depthwise(200, 9, 1)), torch.randn(4, 200, 32, 5)
    assert layer(x).var((0, 2, 3)).mean().item() == pytest.approx(1, abs=0.05)
    parts = [norm(y) for norm, y in zip(layer.norms, [x, *(conv(x) for conv in layer.convs)], strict=True)]
    assert [part.var().item() for part in parts] == pytest.approx([0.25] * 4, rel=0.01)


def test_at_the_start_a_pair_has_the_weights_of_a_plain_layer():
    torch.manual_seed(0)
    plain = nn.Conv2d(48, 96, 1)
    assert WideConv(plain).fold().weight.std().item() == pytest.approx(plain.weight.std().item(), rel=0.1)


def trained_parameters(name):
    """Counted from the table: a pair for each 1x1 of the blocks, three kernels and four scales for each depthwise."""
    channels, blocks, attention, plain = TABLE[name]
    extra, before = 61 * channels[1] - channels[1] + 60, channels[0]  # the auxiliary classifier's
    for stage, (size, depth) in enumerate(zip(channels, blocks, strict=True)):
        for number in range(depth):
            reduced, half = max(4, size // 4), size // 2
            pairs = [(before, size), (half, half), (half, half)]
            pairs += [(size, reduced), (reduced, size)] * 2 if attention[stage] else []
            pairs += [(before, size)] if before != size or (stage > 0 and number == 0) else []
            extra += sum(2 * max(i, o) * (i + o) - i * o for i, o in pairs) + 2 * half * (3 + 5 + 4)
            before = size
    return plain + extra


@pytest.mark.parametrize("name", TABLE)
def test_deployed_it_is_the_network_of_the_table(name):
    network = on_paper(name, branched=True, auxiliary=True)
    assert count_parameters(network) == trained_parameters(name)
    deployed = network.deploy()
    assert count_parameters(deployed) == TABLE[name][3]
    assert not is_branched(deployed)
    plain = {key: value.shape for key, value in on_paper(name).state_dict().items()}
    assert {key: value.shape for key, value in deployed.state_dict().items()} == plain


@pytest.mark.parametrize("name", TABLE)
def test_deployed_it_gives_the_same_scores(name):
    network = make(name, branched=True, auxiliary=True).eval()
    streams, mask = streams_of(network), torch.tensor([[True, False], [True, True]])
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        expected = network(streams, mask)
        size = expected.abs().max()
        torch.testing.assert_close(network.deploy()(streams, mask) / size, expected / size, atol=1e-5, rtol=0)
    after = network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", ["last_e_nano", "ddnet_small"])
def test_a_plain_network_deploys_as_an_equal_copy(name):
    network = make(name)
    deployed = network.deploy()
    own, copied = network.state_dict(), deployed.state_dict()
    assert own.keys() == copied.keys()
    assert all(torch.equal(value, copied[key]) for key, value in own.items())
    assert all(value.data_ptr() != copied[key].data_ptr() for key, value in own.items())


def test_deploying_draws_no_random_numbers():
    network = make("last_e_nano", branched=True)
    before = torch.get_rng_state()
    network.deploy()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_gradient_reaches_every_branch():
    network = make("last_e_small", branched=True)
    network(streams_of(network)).square().sum().backward()
    # A bias before BatchNorm is taken off again by it, and its gradient is zero but for rounding.
    sizes = {name: p.grad.norm().item() for name, p in network.named_parameters() if "residual.0.narrow.b" not in name}
    assert min(sizes.values()) > 1e-5, min(sizes, key=sizes.__getitem__)


def test_the_weights_of_all_factors_and_kernels_decay():
    from last.training.optim import decayed_names

    block = make("last_e_nano", branched=True).blocks[2]
    kept = {name for name, _ in block.named_parameters()} - decayed_names(block)
    assert not [name for name in kept if "widen" in name or "convs" in name or name.endswith("narrow.weight")]
    assert [name for name in kept if name.endswith("norms.0.weight")]


def test_other_networks_have_no_branches():
    with pytest.raises(ValueError, match="last_v2_small has no setting branched"):
        last.create_model("last_v2_small", branched=True)
