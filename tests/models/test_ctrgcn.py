import numpy as np
import pytest
import torch
from formula import filled, wave

import last
from last.models.ctrgcn import published_key
from last.models.layers.graph import directed_partition
from last.skeleton import load_layout

# Uason-Chen/CTR-GCN, graph/ntu_rgb_d.py and graph/ucla.py: joint and its neighbour towards the centre, 1-based.
INWARD = {
    "ntu": "1-2 2-21 3-21 4-3 5-21 6-5 7-6 8-7 9-21 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 19-18 20-19 "
    "22-23 23-8 24-25 25-12",
    "kinect20": "1-2 2-3 4-3 5-3 6-5 7-6 8-7 9-3 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 19-18 20-19",
}


@pytest.mark.parametrize("layout", INWARD)
def test_the_graph_is_the_authors(layout):
    layout = load_layout(layout)
    count = len(layout.joints)
    inward = np.zeros((count, count))
    for edge in INWARD[layout.name].split():
        far, near = (int(joint) - 1 for joint in edge.split("-"))
        inward[near, far] = 1
    children = inward.sum(axis=1)
    outward = np.divide(inward.T, children, out=np.zeros_like(inward), where=children > 0)
    expected = np.stack([np.eye(count), inward, outward])
    np.testing.assert_allclose(directed_partition(layout).numpy(), expected, atol=1e-7)


def test_scores_are_those_of_the_authors_code():
    # model/ctrgcn.py of Uason-Chen/CTR-GCN gave these: a training pass, then one with the statistics of the first.
    model = filled(last.create_model("ctrgcn", 4)).double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
    clips, mask = {"joint": wave((2, 3, 12, 25, 2), 0.3).double()}, torch.tensor([[True, True], [True, False]])
    training = [
        [-0.0700181631, 0.2332034164, 2.5306721673, -2.4584553124],
        [0.0840934300, 0.2142470176, 2.5450235869, -2.0363260947],
    ]
    evaluation = [
        [-0.0149829638, 0.2473235432, 2.5119055298, -2.3373962254],
        [0.0322362791, 0.1899690715, 2.5587130330, -1.8988609999],
    ]
    for mode, expected in ((True, training), (False, evaluation)):
        scores = model.train(mode)(clips, mask)
        torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64), atol=1e-8, rtol=0)


def test_a_fresh_network_starts_as_the_authors_does():
    torch.manual_seed(0)
    model = last.create_model("ctrgcn")
    weights = model.state_dict()
    assert all(block.gcn.norm.weight.unique().tolist() == [pytest.approx(1e-6)] for block in model.blocks)
    assert not any(value.any() for name, value in weights.items() if name.endswith(("alpha", "transforms.0.bias")))
    # Kaiming's over what goes out: of the 5x1 convolution, 64 channels to 5 frames each.
    assert weights["blocks.9.tcn.branches.0.3.weight"].std() == pytest.approx((2 / (64 * 5)) ** 0.5, rel=0.05)
    assert weights["blocks.9.tcn.branches.0.4.weight"].std() == pytest.approx(0.02, rel=0.3)
    assert weights["blocks.7.gcn.transforms.0.weight"].std() == pytest.approx((2 / 256) ** 0.5, rel=0.05)  # from 128
    assert weights["classifier.weight"].std() == pytest.approx((2 / 60) ** 0.5, rel=0.05)
    for block in model.blocks:
        torch.testing.assert_close(block.gcn.graph.detach(), directed_partition(load_layout("ntu")))


@pytest.mark.parametrize("bodies", ["padded", "mean"])
def test_a_clip_of_fewer_bodies_is_filled_up(bodies):
    torch.manual_seed(0)
    model = last.create_model("ctrgcn", 5, "sbu15", bodies=bodies).eval()
    x = torch.randn(2, 3, 8, 15, 2)
    alone, absent = model({"joint": x[..., :1]}), torch.tensor([[True, False]] * 2)
    torch.testing.assert_close(alone, model({"joint": x}, absent))


def test_only_what_is_padded_counts_absent_bodies():
    torch.manual_seed(0)
    padded = last.create_model("ctrgcn", 5, "sbu15").eval()
    torch.nn.init.normal_(padded.norm.bias)  # so that absent bodies are not zeros any more
    mean, first = (last.create_model("ctrgcn", 5, "sbu15", bodies=bodies).eval() for bodies in ("mean", "first"))
    mean.load_state_dict(padded.state_dict())
    first.load_state_dict(padded.state_dict())
    clip = {"joint": torch.randn(1, 3, 8, 15, 1)}
    torch.testing.assert_close(mean(clip), first(clip))
    assert (padded(clip) - mean(clip)).abs().max() > 1e-3


def test_more_bodies_than_it_is_built_for_are_told():
    model = last.create_model("ctrgcn", 5, "sbu15", max_bodies=1)
    with pytest.raises(ValueError, match="clips of 2 bodies, but CTR-GCN is built for 1"):
        model({"joint": torch.zeros(1, 3, 8, 15, 2)})


def test_it_takes_any_one_stream():
    model = last.create_model("ctrgcn", 5, "sbu15", streams=("bone_velocity",))
    assert model({"bone_velocity": torch.randn(2, 3, 8, 15, 2)}).shape == (2, 5)
    with pytest.raises(ValueError, match=r"takes one stream, it was given 2 \(joint, bone\)"):
        last.create_model("ctrgcn", streams=("joint", "bone"))


def test_published_names():
    # What stands in the authors' checkpoints; tests/models/test_published.py holds a whole one.
    assert published_key("module.data_bn.running_mean") == "norm.running_mean"
    assert published_key("fc.weight") == "classifier.weight"
    assert published_key("l1.gcn1.PA") == "blocks.0.gcn.graph"
    assert published_key("l10.gcn1.convs.2.conv3.bias") == "blocks.9.gcn.transforms.2.bias"
    assert published_key("l5.tcn1.branches.1.3.bn.weight") == "blocks.4.tcn.branches.1.4.weight"
    assert published_key("l8.residual.conv.weight") == "blocks.7.residual.0.weight"
    assert published_key("l11.gcn1.PA") is None
    assert published_key("optimizer.state") is None
