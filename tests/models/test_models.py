import pytest
import torch

import last
from last.models import ALIASES, canonical_name, family_of, list_models
from last.models.cost import count_macs, count_parameters, on_paper
from last.skeleton import load_layout

# SPEC 3 and 4: parameters at 60 classes, at 120 where it says so, and MACs in millions of one body, T = 64, V = 25.
COUNTS = {
    "last_e_nano": (92_358, 98_178, 38.5),
    "last_e_small": (177_646, 185_386, 71.0),
    "last_e_base": (363_958, 373_618, 141.0),
    "last_e_large": (644_094, 655_674, 245.1),
    "last_v2_small": (2_938_564, None, None),
    "last_v2_base": (9_217_256, None, None),
    "last_v2_large": (19_920_076, None, None),
    "efficientgcn_b0": (306_201, None, None),
    "efficientgcn_b1": (410_337, None, None),
    "efficientgcn_b2": (534_465, None, None),
    "efficientgcn_b3": (754_601, None, None),
    "efficientgcn_b4": (1_119_945, None, None),
    "efficientgcn_b0_2021": (345_333, None, None),
    "efficientgcn_b1_2021": (518_877, None, None),
    "efficientgcn_b2_2021": (814_401, None, None),
    "efficientgcn_b3_2021": (1_146_845, None, None),
    "efficientgcn_b4_2021": (2_055_585, None, None),
    "sgn": (691_048, 721_828, None),
    "ctrgcn": (1_446_672, 1_462_092, None),
    "stgcnpp": (1_403_144, 1_418_564, None),
    "ddnet": (1_836_348, None, None),
    "ddnet_small": (161_916, None, None),
}
# CTR-GCN's first BatchNorm has statistics of its own for each place that a body may take.
ORDER_OF_BODIES_MATTERS = {"ctrgcn"}
EVERY = pytest.mark.parametrize("name", list_models())


def batch(model, count=2, bodies=2, frames=8, layout="sbu15", seed=0):
    layout = load_layout(layout)
    frames = getattr(model, "frames", frames)  # of a network that is built for a number of them
    generator = torch.Generator().manual_seed(seed)
    shape = (count, layout.dimensions, frames, len(layout.joints), bodies)
    return {stream: torch.randn(shape, generator=generator) for stream in model.streams}


def unlike_fresh(model):
    """Move softmax weights, attention and learned graphs off their zeros, so that each part shows in the result."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.uniform_(0.1, 0.5)
    return model


@pytest.fixture(scope="module", params=list_models())
def model(request):
    torch.manual_seed(0)
    return unlike_fresh(last.create_model(request.param, 7, "sbu15"))


def test_every_network_has_a_family():
    assert {family_of(name) for name in list_models()} == {
        "LAST-E", "LAST-v2", "EfficientGCN", "CTR-GCN", "ST-GCN++", "SGN", "DD-Net",
    }  # fmt: skip
    assert family_of("nano_e") == "LAST-E"


def test_the_registered_names_are_the_tables():
    assert set(list_models()) == set(COUNTS)


@EVERY
def test_parameters_to_the_unit(name):
    at_60, at_120, _ = COUNTS[name]
    assert count_parameters(on_paper(name, 60)) == at_60
    if at_120:
        assert count_parameters(on_paper(name, 120)) == at_120


@pytest.mark.parametrize("name", [name for name in COUNTS if COUNTS[name][2]])
def test_macs_of_the_table(name):
    assert round(count_macs(name) / 1e6, 1) == COUNTS[name][2]


def test_macs_grow_with_frames_and_bodies():
    one = count_macs("last_e_nano")
    assert count_macs("last_e_nano", frames=128) == pytest.approx(2 * one, rel=0.05)
    assert count_macs("last_e_nano", bodies=2) == pytest.approx(2 * one, rel=0.05)


def test_scores_have_the_shape_of_the_classes(model):
    model.eval()
    assert model(batch(model, bodies=1)).shape == (2, 7)
    assert model(batch(model, count=3, frames=13)).shape == (3, 7)


def test_every_parameter_gets_a_gradient(model):
    model.train()
    model.zero_grad()
    model(batch(model)).square().sum().backward()
    # A bias before BatchNorm is taken off again by it, and its gradient is zero but for rounding.
    dead = [n for n, p in model.named_parameters() if p.grad is None or (not p.grad.any() and "residual" not in n)]
    assert not dead


@EVERY
def test_a_fresh_network_can_move_every_parameter_off_zero(name):
    # abs() of a zero matrix, for one, would never let go of it.
    torch.manual_seed(0)
    model = last.create_model(name, 7, "sbu15")
    model(batch(model)).square().sum().backward()
    stuck = [n for n, p in model.named_parameters() if not p.any() and not p.grad.any() and not n.endswith("bias")]
    assert not stuck


def test_both_bodies_matter(model):
    model.eval()
    streams = batch(model)
    one = model(streams)
    other = {name: torch.cat([x[..., :1], 1.5 * x[..., 1:]], dim=-1) for name, x in streams.items()}
    assert (model(other) - one).abs().max() > 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_absent_bodies_do_not(model, training):
    streams, mask = batch(model), torch.tensor([[True, False], [True, True]])
    other = {name: x.clone() for name, x in streams.items()}
    for x in other.values():
        x[0, ..., 1] = 1e3
    if training:  # neither may they reach the statistics of BatchNorm
        model.train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        torch.manual_seed(0)
        first, statistics = model(streams, mask), {k: v.clone() for k, v in model.state_dict().items()}
        model.load_state_dict(before)
        torch.manual_seed(0)
        assert torch.equal(model(other, mask), first)
        assert all(torch.equal(value, statistics[name]) for name, value in model.state_dict().items())
        model.load_state_dict(before)
    else:
        model.eval()
        assert torch.equal(model(other, mask), model(streams, mask))


def test_the_order_of_bodies_does_not_matter(request, model):
    if request.node.callspec.params["model"] in ORDER_OF_BODIES_MATTERS:
        pytest.skip("by design")
    model.eval()
    streams = batch(model)
    swapped = {name: x.flip(-1) for name, x in streams.items()}
    torch.testing.assert_close(model(swapped), model(streams), atol=1e-5, rtol=1e-4)


@EVERY
def test_first_body_alone_on_request(name):
    torch.manual_seed(0)
    model = last.create_model(name, 7, "sbu15", bodies="first").eval()
    streams = batch(model)
    other = {stream: torch.cat([x[..., :1], x[..., 1:] + 1], dim=-1) for stream, x in streams.items()}
    assert torch.equal(model(streams), model(other))
    assert count_parameters(model) == count_parameters(last.create_model(name, 7, "sbu15"))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_precision_is_kept(name, dtype):
    model = last.create_model(name, 3, "sbu15").eval().to(dtype)
    scores = model({stream: x.to(dtype) for stream, x in batch(model).items()})
    assert scores.dtype == dtype
    assert scores.isfinite().all()


def test_every_stream_matters(model):
    model.eval()
    streams = batch(model)
    reference = model(streams)
    for name in model.streams:
        assert (model(streams | {name: streams[name] + torch.randn_like(streams[name])}) - reference).abs().max() > 1e-5


@EVERY
@pytest.mark.parametrize("layout", ["coco17", "hand21"])
def test_any_layout(name, layout):
    model = last.create_model(name, 3, layout).eval()
    assert model(batch(model, layout=layout)).shape == (2, 3)


def test_the_teachers_streams_share_a_backbone_or_not():
    shared = count_parameters(last.create_model("last_v2_small"))
    apart = count_parameters(last.create_model("last_v2_small", share_backbone=False))
    norms = 3 * 2 * 3  # weights and biases of three BatchNorms of three channels
    assert apart - norms == 3 * (shared - norms)


def test_the_learned_graph_stays_within_one():
    from last.models.last_v2 import AdaptiveGraphConv
    from last.skeleton import spatial_partition

    conv = AdaptiveGraphConv(8, 8, torch.from_numpy(spatial_partition(load_layout("ntu"))))
    assert not conv.learned_graph().any()
    for size in (1e-6, 1e-2, 10):
        torch.nn.init.normal_(conv.learned, std=size)
        graph = conv.learned_graph()
        assert graph.min() >= 0
        assert graph.max() <= 1


def test_linear_attention_is_what_the_quadratic_form_gives():
    from last.models.last_v2 import LinearAttention

    torch.manual_seed(0)
    layer, x = LinearAttention(8, stride=1).eval(), torch.randn(2, 8, 5, 3)
    q, k, v = (part.unflatten(1, (4, 2)) for part in layer.qkv(x).chunk(3, dim=1))
    q, k = (torch.nn.functional.elu(part) + 1 for part in (q, k))
    weights = torch.einsum("nhdtv,nhdsv->nhvts", q, k)
    weights = weights / weights.sum(-1, keepdim=True)
    y = torch.einsum("nhvts,nhdsv->nhdtv", weights, v).flatten(1, 2)
    torch.testing.assert_close(layer(x), layer.project(y))


def test_the_graph_convolution_is_the_sum_over_subsets():
    from last.models.last_e import DirectionalGCNConv
    from last.skeleton import spatial_partition

    torch.manual_seed(0)
    graph = torch.from_numpy(spatial_partition(load_layout("ntu")))
    layer, x = DirectionalGCNConv(6, 4, graph), torch.randn(2, 6, 5, 25)
    torch.nn.init.normal_(layer.alpha)
    alpha = layer.alpha.softmax(0)
    expected = layer.conv(sum(alpha[k][:, None, None] * (x @ graph[k]) for k in range(3)))
    torch.testing.assert_close(layer(x), expected)


def test_aliases_and_hyphens():
    assert {canonical_name(alias) for alias in ALIASES} == {name for name in list_models() if name.startswith("last_")}
    assert canonical_name("nano-e") == "last_e_nano"
    assert canonical_name("last-v2-base") == "last_v2_base"


def test_wrong_names_and_settings_are_told():
    with pytest.raises(ValueError, match=r"no model 'resnet'; there are: .*last_e_nano"):
        last.create_model("resnet")
    with pytest.raises(ValueError, match=r"no model 'nano_x' \(did you mean 'nano_e'\?\)"):
        last.create_model("nano_x")
    with pytest.raises(ValueError, match="last_e_nano has no setting share_backbone"):
        last.create_model("last_e_nano", share_backbone=True)


def test_a_missing_stream_is_told():
    model = last.create_model("last_e_nano", layout="sbu15")
    streams = batch(model)
    del streams["bone"]
    with pytest.raises(ValueError, match="needs the stream"):
        model(streams)
