import pytest
import torch
from torch.nn import functional as F

import last
from last.data.batches import Pipeline
from last.settings import TrainingConfig
from last.training.auxiliary import overhear
from last.training.step import Step


def network(layout, **settings):
    torch.manual_seed(0)
    return last.create_model("last_e_nano", 2, layout, dropout=0.0, auxiliary=True, **settings)


def streams(layout):
    generator = torch.Generator().manual_seed(1)
    size = (3, 3, 8, len(layout.joints), 2)
    return {name: torch.randn(size, generator=generator) for name in ("joint", "velocity", "bone")}


def test_it_sees_the_mean_of_the_second_stage_over_present_bodies(stick):
    model, mask = network(stick), torch.tensor([[True, False], [True, True], [True, True]])
    kept = []
    model.blocks[3].register_forward_hook(lambda layer, x, y: kept.append(y))  # nano has two blocks in each stage
    with overhear(model) as heard:
        model(streams(stick), mask)
    (scores,), (rows,) = heard, kept
    rows = rows.mean((2, 3))  # one a present body
    features = torch.stack([rows[0], rows[1:3].mean(0), rows[3:5].mean(0)])
    torch.testing.assert_close(scores, model.auxiliary(features))


def test_it_is_silent_in_evaluation_and_where_there_is_none(stick):
    model = network(stick)
    for silent in (network(stick).eval(), model.deploy()):
        with overhear(silent) as heard:
            silent(streams(stick))
        assert heard == []
    with overhear(model):
        pass
    assert not model.auxiliary._forward_hooks


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 3.0])])
def test_its_loss_is_added_by_its_weight(stick, device_clips, weights):
    losses, gradients = {}, {}
    for auxiliary in (0.0, 0.5):
        config = TrainingConfig(batch_size=4, label_smoothing=0.1, auxiliary=auxiliary, clip_norm=None)
        model = network(stick).train()
        for block in model.blocks:
            block.tcn.dropout.p = 0.0
        said = {}
        model.auxiliary.register_forward_hook(lambda layer, x, y, said=said: said.update(scores=y.detach()))
        step = Step(model, Pipeline(stick, frames=8), config, 4, 4, weights)
        step(device_clips, torch.arange(4))
        losses[auxiliary] = step.read(0, 1)[0][0]
        gradients[auxiliary] = model.auxiliary.weight.grad.any().item()
    expected = 0.5 * F.cross_entropy(said["scores"], device_clips.labels[:4], weights, label_smoothing=0.1).item()
    assert losses[0.5] - losses[0.0] == pytest.approx(expected, rel=1e-5)
    assert gradients == {0.0: False, 0.5: True}
