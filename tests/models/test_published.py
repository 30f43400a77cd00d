import math
import os
import zlib
from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
import torch

import last
from last.models.published import PublishedError, load_published, read_published
from last.skeleton import load_layout

# Scores that the authors' own PyTorch code gives for the weights of `value` and the joints of `joints`.
EXPECTED = {
    "efficientgcn_b0": [3.7103, 1.0052, -3.6857, -0.1632, 4.1123],
    "efficientgcn_b0_2021": [5.4678, -0.0867, -5.3022, 1.1374, 5.5609],
    "ctrgcn": [-4.6767, 5.2898, -5.4045, 5.2425, -5.6887],
}
CLASSES = 5


def value(name, shape):
    """A weight that depends on its name and place alone; variances and scales are positive."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    wave = torch.sin(zlib.crc32(name.encode()) % 1000 + 0.7 * place).float().view(shape)
    if name.endswith("running_var"):
        return 1 + wave / 2
    if len(shape) > 1 and not name.endswith("edge"):
        return wave / math.prod(shape[1:]) ** 0.5
    return wave / 4 + (0 if name.endswith(("bias", "running_mean", "alpha")) else 1)


def joints():
    shape = (1, 3, 9, 25, 2)
    place = torch.arange(math.prod(shape), dtype=torch.float64)
    return {"joint": (torch.sin(0.37 * place) + torch.sin(0.0187 * place)).float().view(shape)}


def conv(name, out_channels, in_channels, kernel=1):
    return {f"{name}.weight": (out_channels, in_channels, kernel, 1), f"{name}.bias": (out_channels,)}


def norm(name, channels):
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def conv_norm(name, *sizes):
    return conv(f"{name}.0", *sizes) | norm(f"{name}.1", sizes[0])


def graph_layer(name, before, size):
    shapes = {f"{name}.conv.A": (3, 25, 25), f"{name}.conv.edge": (3, 25, 25)}
    shapes |= conv(f"{name}.conv.gcn", 3 * size, before) | norm(f"{name}.bn", size)
    return shapes | conv_norm(f"{name}.residual", size, before) if before != size else shapes


def attention_layer(name, size, reduced):
    shapes = conv_norm(f"{name}.att.fcn", reduced, size) | norm(f"{name}.bn", size)
    return shapes | conv(f"{name}.att.conv_t", size, reduced) | conv(f"{name}.att.conv_v", size, reduced)


def temporal_layer(name, size, year):
    if year == 2022:
        shapes = conv_norm(f"{name}.depth_conv1", size, 1, 5) | conv_norm(f"{name}.point_conv1", size // 2, size)
        shapes |= conv_norm(f"{name}.point_conv2", size, size // 2) | conv_norm(f"{name}.depth_conv2", size, 1, 5)
    else:
        shapes = conv_norm(f"{name}.expand_conv", 2 * size, size) | conv_norm(f"{name}.depth_conv", 2 * size, 1, 5)
        shapes |= conv_norm(f"{name}.point_conv", size, 2 * size)
    return shapes | conv_norm(f"{name}.residual", size, size)  # each layer of B0 has a stride


def efficientgcn_b0(year):
    """Names and values of the weights that EfficientGCN's authors publish."""
    reduction = 2 if year == 2022 else 4
    shapes = {}
    for branch in (f"input_branches.{i}" for i in range(3)):
        shapes |= norm(f"{branch}.init_bn", 6) | graph_layer(f"{branch}.stem_scn", 6, 64)
        shapes |= conv(f"{branch}.stem_tcn.conv", 64, 64, 5) | norm(f"{branch}.stem_tcn.bn", 64)
        for block, (before, size) in enumerate([(64, 48), (48, 32)]):
            shapes |= graph_layer(f"{branch}.block-{block}_scn", before, size)
            shapes |= attention_layer(f"{branch}.block-{block}_att", size, size // reduction)
    for block, (before, size) in enumerate([(96, 64), (64, 128)]):
        name = f"main_stream.block-{block}"
        shapes |= graph_layer(f"{name}_scn", before, size) | temporal_layer(f"{name}_tcn-0", size, year)
        shapes |= attention_layer(f"{name}_att", size, size // reduction)
    shapes |= {"classifier.fc.weight": (CLASSES, 128, 1, 1, 1), "classifier.fc.bias": (CLASSES,)}
    graph = hop_graph()
    return OrderedDict((name, graph if name.endswith(".A") else value(name, shape)) for name, shape in shapes.items())


def ctrgcn():
    """Names and values of the weights that CTR-GCN's authors publish."""
    shapes = norm("data_bn", 150) | {"fc.weight": (CLASSES, 256), "fc.bias": (CLASSES,)}
    sizes = [3, *[64] * 4, *[128] * 3, *[256] * 3]
    for block, (before, size) in enumerate(pairwise(sizes), start=1):
        gcn, tcn, between, quarter = f"l{block}.gcn1", f"l{block}.tcn1", 8 if block == 1 else before // 8, size // 4
        shapes |= {f"{gcn}.PA": (3, 25, 25), f"{gcn}.alpha": (1,)} | norm(f"{gcn}.bn", size)
        for subset in (f"{gcn}.convs.{i}" for i in range(3)):
            shapes |= conv(f"{subset}.conv1", between, before) | conv(f"{subset}.conv2", between, before)
            shapes |= conv(f"{subset}.conv3", size, before) | conv(f"{subset}.conv4", size, between)
        for branch in (f"{tcn}.branches.{i}" for i in range(4)):
            shapes |= conv_norm(branch, quarter, size)
        for branch in (f"{tcn}.branches.{i}.3" for i in range(2)):
            shapes |= conv(f"{branch}.conv", quarter, quarter, 5) | norm(f"{branch}.bn", quarter)
        shapes |= norm(f"{tcn}.branches.2.4", quarter)
        if before != size:
            shapes |= conv_norm(f"{gcn}.down", size, before)
        if block in (5, 8):
            shapes |= conv(f"l{block}.residual.conv", size, before) | norm(f"l{block}.residual.bn", size)
    return OrderedDict((name, value(name, shape)) for name, shape in shapes.items())


def hop_graph():
    """Powers of the adjacency tell the hops, as in the authors' code."""
    adjacency = np.eye(25)
    for v, parent in load_layout("ntu").bones:
        adjacency[v, parent] = adjacency[parent, v] = 1
    reached = np.stack([np.linalg.matrix_power(adjacency, hops) > 0 for hops in range(11)])
    first = np.concatenate([reached[:1], reached[1:] & ~reached[:-1]])
    return torch.from_numpy((first / reached[10].sum(0))[:3]).float()


def checkpoint(weights):
    """What the authors save beside the weights, NumPy's numbers included."""
    return {
        "model": weights,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
        "scheduler": {"last_epoch": 69, "lr_lambdas": [None]},
        "best_state": {"acc_top1": np.float64(0.9), "acc_top5": np.float32(0.99), "cm": np.eye(CLASSES)},
        "epoch": 70,
        "global_step": np.int64(175_000),
    }


@pytest.fixture(scope="module")
def weights():
    return efficientgcn_b0(2022)


@pytest.mark.parametrize("name", EXPECTED)
def test_our_copy_gives_the_scores_of_the_authors_code(name, tmp_path):
    path = tmp_path / "published"
    if name == "ctrgcn":  # weights alone, of a training on several GPUs
        torch.save(OrderedDict((f"module.{key}", tensor) for key, tensor in ctrgcn().items()), path)
    else:
        torch.save(checkpoint(efficientgcn_b0(2021 if name.endswith("2021") else 2022)), path)
    model = last.create_model(name, CLASSES).eval()
    load_published(model, path)
    with torch.no_grad():
        scores = model(joints())[0]
    torch.testing.assert_close(scores, torch.tensor(EXPECTED[name]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpys_values_are_admitted_by_their_old_and_new_names(module, weights, tmp_path):
    path = tmp_path / "old.pth.tar"
    torch.save(checkpoint(weights), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for own in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        content = content.replace(b"c" + own + b"\n", b"c" + module + b"\n")
    assert b"c" + module + b"\nscalar" in content
    path.write_bytes(content)
    assert read_published(path).keys() == weights.keys()


class Code:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("place", ["beside", "within"])
def test_code_in_a_file_is_refused_and_does_not_run(place, weights, tmp_path):
    path, trace = tmp_path / "bad.pth.tar", tmp_path / "trace"
    code = Code(f"touch {trace}")
    content = checkpoint(weights)
    if place == "beside":
        content["code"] = code
    else:
        content["best_state"] = {"cm": np.array([code], dtype=object)}
    torch.save(content, path)
    with pytest.raises(PublishedError, match=r"bad\.pth\.tar is damaged, or holds more than tensors"):
        load_published(last.create_model("efficientgcn_b0", CLASSES), path)
    assert not trace.exists()


def test_what_does_not_fit_is_told(weights, tmp_path):
    path = tmp_path / "file.pth.tar"

    def loading(content, name="efficientgcn_b0", classes=CLASSES):
        torch.save(content, path)
        load_published(last.create_model(name, classes), path)

    with pytest.raises(PublishedError, match=r"'classifier.fc.weight' .* the shape \(5, 128, 1, 1, 1\), .*\(7, 128\)"):
        loading(weights, classes=7)
    with pytest.raises(PublishedError, match=r"'input_branches.0.block-0_scn.conv.gcn.weight' .* another size"):
        loading(weights, "efficientgcn_b1")
    with pytest.raises(PublishedError, match=r"has the tensor 'extra', which this EfficientGCN has no place for"):
        loading(weights | {"extra": torch.ones(1)})
    with pytest.raises(PublishedError, match=r"'input_branches.0.stem_scn.conv.A' .* another skeleton"):
        loading(weights | {"input_branches.0.stem_scn.conv.A": torch.rand(3, 25, 25)})
    without = {name: tensor for name, tensor in weights.items() if "init_bn" not in name}
    with pytest.raises(PublishedError, match=r"lacks 15 tensors .* first is 'branches.0.norm.weight'"):
        loading(without)
    with pytest.raises(PublishedError, match=r"no key map for published weights of LastE; .* CTRGCN, EfficientGCN"):
        loading(weights, "last_e_nano")
    for nothing in ({"epoch": 3}, {}, [1, 2], {"model": {}}, {"model": {3: torch.ones(2)}}):
        with pytest.raises(PublishedError, match="holds no weights by name"):
            loading(nothing)


def test_a_file_that_is_none_is_told(tmp_path):
    with pytest.raises(PublishedError, match=r"cannot read .*missing.pt: No such file"):
        read_published(tmp_path / "missing.pt")
    path = tmp_path / "noise.pt"
    path.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(PublishedError, match="is damaged"):
        read_published(path)
