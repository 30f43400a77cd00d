import numpy as np
import pytest
import torch
from formula import filled, wave
from scipy.spatial.distance import pdist

import last
from last.models.cost import count_parameters, on_paper
from last.models.ddnet import motion
from last.skeleton import Layout, load_layout


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return last.create_model("ddnet_small", 4).eval()


def test_parameters_as_the_authors_print_them_for_shrec():
    hand = Layout("shrec", tuple(map(str, range(22))), tuple(max(v - 1, 0) for v in range(22)), centre=0, dimensions=3)
    assert count_parameters(on_paper("ddnet", 14, hand)) == 1_819_278
    assert count_parameters(on_paper("ddnet_small", 14, hand)) == 153_198


def test_scores_are_those_of_the_authors_code(small):
    # Their notebook's network in Keras 3, with the distances of their JHMDB/utils.py, gave these for the same weights.
    model = filled(last.create_model("ddnet_small", 4))
    expected = [
        [0.1647487, -0.2652281, 0.3984879, -0.1378157],
        [0.1515211, -0.2198451, 0.3600362, -0.1341990],
    ]
    scores = model({"joint": wave((2, 3, 32, 25, 1), 0.3)})
    torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-5, rtol=0)


def test_distances_are_of_each_pair_about_the_clips_mean():
    layout = load_layout("sbu15")
    model = last.create_model("ddnet_small", 2, layout)
    clip = np.random.default_rng(0).normal(size=(9, 15, 3))
    expected = np.stack([pdist(frame) for frame in clip], axis=1)
    expected = (expected - expected.mean()) / expected.mean()
    distances = model.joint_distances(torch.from_numpy(clip).permute(1, 2, 0)[None].float())
    np.testing.assert_allclose(distances[0], expected, atol=1e-5)


def test_motion_is_stretched_over_all_frames():
    x = torch.tensor([0.0, 1.0, 5.0, 6.0]).view(1, 1, 1, 4)  # moves by 1, 4 and 1
    # Frame t of 4 sees the place 0.75 t - 0.125 among the 3 differences.
    expected = [1, 1 + 0.625 * 3, 4 - 0.375 * 3, 1]
    assert motion(x, 4).flatten().tolist() == pytest.approx(expected)
    assert motion(x[..., ::2], 2).flatten().tolist() == [5, 5]


def test_neither_place_nor_turn_matters_to_the_distances_nor_place_to_all(small):
    x = torch.randn(2, 3, 13, 25, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small({"joint": x + 7}), small({"joint": x}), atol=1e-4, rtol=1e-4)


def test_a_body_that_stands_at_one_point_gives_finite_scores(small):
    assert small({"joint": torch.zeros(1, 3, 8, 25, 1)}).isfinite().all()


def test_a_training_batch_of_one_clip_works():
    model = last.create_model("ddnet_small", 4)
    before = model.head[1].norm.running_mean.clone()
    model({"joint": torch.randn(1, 3, 8, 25, 1)}).sum().backward()
    assert model.classifier.weight.grad.any()
    assert torch.equal(model.head[1].norm.running_mean, before)


def test_other_streams_are_refused():
    with pytest.raises(ValueError, match=r"DD-Net .* asked to take joint, bone; set model.streams to \[joint\]"):
        last.create_model("ddnet", 4, streams=("joint", "bone"))
