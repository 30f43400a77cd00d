import pytest
import torch
from formula import filled, wave

import last
from last.models.layers.graph import directed_partition
from last.skeleton import load_layout


def test_scores_are_those_of_the_authors_code():
    # PYSKL's STGCN as configs/stgcn++ has it gave these, with the edges of our layout, a training pass, then one with
    # the statistics of the first.
    model = filled(last.create_model("stgcnpp", 4)).double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
    clips, mask = {"joint": wave((2, 3, 12, 25, 2), 0.3).double()}, torch.tensor([[True, True], [True, False]])
    training = [
        [-5.1847468938, 0.1922170545, 3.3378191598, -2.2884188290],
        [-4.2077649026, -0.0424666528, 2.8599900616, -2.2174631799],
    ]
    evaluation = [
        [-5.1249683844, 0.1739329577, 3.2810607617, -2.2823568469],
        [-4.1700687975, -0.0450852047, 2.8277096670, -2.2013782643],
    ]
    for mode, expected in ((True, training), (False, evaluation)):
        scores = model.train(mode)(clips, mask)
        torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64), atol=1e-8, rtol=0)


def test_parameters_are_the_published_ones():
    # The 1.39 million of the paper are those of the 17 joints of COCO, each with x, y and how sure it is.
    model = last.create_model("stgcnpp", layout="coco17", confidence=True)
    assert sum(p.numel() for p in model.parameters()) == 1_393_016


def test_the_graph_convolution_is_the_sum_over_subsets():
    torch.manual_seed(0)
    layer = last.create_model("stgcnpp", layout="sbu15").blocks[4].gcn  # from 64 channels to 128
    x = torch.randn(2, 64, 5, 15)
    parts = layer.conv(x).chunk(3, dim=1)
    y = sum(torch.einsum("nctv,vw->nctw", part, graph) for part, graph in zip(parts, layer.graph, strict=True))
    torch.testing.assert_close(layer(x), (layer.norm(y) + layer.residual(x)).relu())


def test_a_fresh_network_starts_from_the_skeleton():
    torch.manual_seed(0)
    model = last.create_model("stgcnpp")
    for block in model.blocks:
        torch.testing.assert_close(block.gcn.graph.detach(), directed_partition(load_layout("ntu")))
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.classifier.bias.any()


def test_it_takes_any_one_stream():
    model = last.create_model("stgcnpp", 5, "sbu15", streams=("bone",))
    assert model({"bone": torch.randn(2, 3, 8, 15, 2)}).shape == (2, 5)
    with pytest.raises(ValueError, match=r"takes one stream, it was given 2 \(joint, bone\)"):
        last.create_model("stgcnpp", streams=("joint", "bone"))
