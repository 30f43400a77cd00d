import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import last
from last.models.cost import (
    cost,
    count_layer_parameters,
    count_macs,
    count_parameters,
    count_products,
    markdown,
    on_paper,
)
from last.skeleton import load_layout

# One of each kind of network: those of a kind do the same operations.
KINDS = ("last_e_nano", "last_v2_small", "efficientgcn_b0", "efficientgcn_b0_2021", "ctrgcn", "stgcnpp", "sgn", "ddnet")
# SPEC 7: billions with graph products, and of convolutions alone as published, at the published input.
PUBLISHED = {
    "efficientgcn_b0": (3.23, 2.69),
    "efficientgcn_b0_2021": (3.58, 3.03),
    "efficientgcn_b2_2021": (6.64, 6.04),
}


def streams_of(model, frames=16, bodies=1, joints=15, device="cpu"):
    shape = (1, model.in_channels, frames, joints, bodies)
    return {name: torch.randn(shape, device=device) for name in model.streams}


def by_hand(model, streams, norm=2):
    """thop's count of convolutions, linear layers and BatchNorm, from the shapes that really pass through them."""
    total = 0

    def add(module, inputs, output):
        nonlocal total
        total += output.numel() * (module.weight[0].numel() if module.weight.dim() > 1 else norm)

    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            module.register_forward_hook(add)
    with torch.no_grad():
        model.eval()(streams)
    return total


@pytest.mark.parametrize("name", KINDS)
def test_macs_by_thop_are_those_of_the_shapes_that_pass_through(name):
    frames, bodies = 16, 1
    given = {"frames": frames} if name == "sgn" else {"max_bodies": bodies} if name == "ctrgcn" else {}
    model = last.create_model(name, 7, "sbu15", **given)
    counted = count_products(name, 7, "sbu15", frames, bodies)
    assert counted.thop == by_hand(model, streams_of(model, frames, bodies))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_macs(name):
    everything, by_thop = PUBLISHED[name]
    published = count_products(name, 60, "ntu", 288, 2)
    assert on_paper(name).published_input == (288, 2)
    assert round(published.all / 1e9, 2) == everything
    assert published.thop / 1e9 == pytest.approx(by_thop, rel=0.002)


def test_graph_products_by_hand():
    # One clip, every block's product of (C T, V) with a graph for each channel, and the graphs' own making from alpha.
    frames, joints = 64, 25
    products = 0
    width, length = 24, frames
    for size, depth, stride in ((24, 2, 1), (48, 2, 2), (96, 3, 2)):
        for block in range(depth):
            products += width * length * joints**2 + width * 3 * joints**2
            width, length = size, length // (stride if block == 0 else 1)
    counted = count_products("last_e_nano")
    streams = streams_of(on_paper("last_e_nano"), frames, joints=joints, device="meta")
    assert counted.all - by_hand(on_paper("last_e_nano"), streams, norm=0) == products


def test_parameters_as_thop_counts_them_leave_out_what_hangs_on_other_modules():
    # SPEC 7: 306,201 with the edge masks, K V V in each of the eleven graph convolutions; published as 0.29 M.
    model = on_paper("efficientgcn_b0")
    assert count_parameters(model) - count_layer_parameters(model) == 11 * 3 * 25 * 25
    assert round(count_layer_parameters(model) / 1e6, 2) == 0.29
    own = nn.Module()
    own.layer, own.graph = nn.Linear(3, 2), nn.Parameter(torch.zeros(4))
    assert (count_parameters(own), count_layer_parameters(own)) == (3 * 2 + 2 + 4, 3 * 2 + 2)


def test_frozen_values_do_not_count():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", KINDS)
def test_no_product_escapes_the_counter(name):
    model = last.create_model(name, 7, "sbu15").eval()
    with Operations() as seen, torch.no_grad():
        model(streams_of(model, frames=20, bodies=2))
    # PyTorch's counter knows none of these.
    uncounted = {
        "mv",
        "addmv",
        "dot",
        "vdot",
        "addbmm",
        "addr",
        "ger",
        "outer",
        "_trilinear",
        "lstm",
        "gru",
        "_cdist_forward",
    }
    assert not seen.names & uncounted
    assert seen.names & {"mm", "bmm", "addmm"} or name == "ddnet"


def test_a_second_of_input_is_thirty_frames():
    counted = count_products("ddnet_small", frames=15)
    assert counted.per_second == 2 * counted.all


def test_networks_that_are_built_for_a_size_are_counted_at_it():
    one = count_macs("ctrgcn", 7, "sbu15", frames=16)
    assert count_macs("ctrgcn", 7, "sbu15", frames=16, bodies=2) == pytest.approx(2 * one, rel=0.05)
    assert count_macs("sgn", frames=40) > 1.5 * count_macs("sgn", frames=20)


def test_counting_takes_no_memory_for_weights():
    assert {p.device.type for p in on_paper("efficientgcn_b0").state_dict().values()} == {"meta"}


def test_a_layout_may_be_given_itself():
    assert count_macs("ddnet_small", 7, load_layout("sbu15")) == count_macs("ddnet_small", 7, "sbu15")


def test_a_row_of_the_table():
    # SPEC 3: 92,358 and 38.5 M. 38.5 M in 64 / 30 seconds are 18.0 M a second.
    *_, row = markdown([cost("nano-e")]).splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["`last_e_nano`", "`nano_e`", "92,358"]
    assert (cells[4], cells[6], cells[7], cells[8]) == ("38.5 M", "18.0 M", "64 x 1", "38.5 M")
