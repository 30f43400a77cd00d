import pytest
import torch
from formula import filled, wave

import last


def test_scores_are_those_of_the_authors_code():
    # microsoft/SGN, model.py, gave these for the same weights.
    model = filled(last.create_model("sgn", 4))
    expected = [
        [2.9131391, 0.7581217, -2.5125587, -4.9107332],
        [2.6172719, 1.1191937, -2.4568336, -4.8650570],
    ]
    scores = model({"joint": wave((2, 3, 20, 25, 1), 0.3)})
    torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-5, rtol=0)


def test_it_is_told_which_joint_and_which_frame_it_sees():
    # Nothing else tells a still body's first frame from its last, or one joint from another at the same place.
    torch.manual_seed(0)
    model = last.create_model("sgn", 4, "sbu15", frames=8).eval()
    x = torch.zeros(1, 3, 8, 15, 1)
    number = model.frame_numbers(torch.eye(8)[None, :, :, None])[0, :, :, 0]
    name = model.joint_names(torch.eye(15)[None, :, None])[0, :, 0]
    for rows in (number.T, name.T):
        assert torch.pdist(rows).min() > 0.1
    reference = model({"joint": x})
    with torch.no_grad():
        for layer in model.frame_numbers:
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.zero_()
    assert (model({"joint": x}) - reference).abs().max() > 1e-3


def test_joints_do_not_mix_at_first():
    model = last.create_model("sgn", 4)
    assert not any(conv.neighbours.weight.any() for conv in model.graph_convs)


def test_what_a_joint_gathers_is_weighted_to_one():
    torch.manual_seed(0)
    model = last.create_model("sgn", 4, "sbu15")
    x = torch.randn(2, 128, 5, 15)
    graph = model.graph(x)
    torch.testing.assert_close(graph.sum(2), torch.ones(2, 5, 15))
    query, key = model.graph.query(x), model.graph.key(x)
    weights = torch.stack([query[0, :, 3, 4] @ key[0, :, 3, v] for v in range(15)]).softmax(0)  # of frame 3, joint 4
    torch.testing.assert_close(graph[0, 3, :, 4], weights)


def test_another_number_of_frames_is_told():
    model = last.create_model("sgn", 4)
    with pytest.raises(ValueError, match=r"built for clips of 20 frames and was given 32; set data.frames to 20"):
        model({"joint": torch.zeros(1, 3, 32, 25, 1)})
    assert last.create_model("sgn", 4, frames=32).eval()({"joint": torch.zeros(1, 3, 32, 25, 1)}).shape == (1, 4)


def test_other_streams_are_refused():
    with pytest.raises(ValueError, match=r"SGN .* asked to take velocity; set model.streams to \[joint\]"):
        last.create_model("sgn", 4, streams=("velocity",))
