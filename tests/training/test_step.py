"""What a step's loss is made of; that it moves the weights is shown by whole trainings."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from last.data.augment import Augmentation
from last.data.batches import Pipeline
from last.settings import TrainingConfig
from last.training.step import Step


class Stubborn(nn.Module):
    """Says the same of every clip: 2 for class 0 and -1 for class 1."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(1, 2)
        self.classifier.bias.data = torch.tensor([2.0, -1.0])
        self.seen = []

    def forward(self, streams, mask):
        self.seen.append(streams["joint"])
        return self.classifier(torch.zeros(len(streams["joint"]), 1))


def test_a_mixed_clip_owes_a_share_to_the_label_of_the_clip_before_it(stick, device_clips):
    config = TrainingConfig(seed=1, batch_size=6, label_smoothing=0.1, mix=0.5)
    pipeline = Pipeline(stick, frames=8, augmentation=Augmentation.from_config(config))
    step = Step(Stubborn(), pipeline, config, 1, 6)
    places = torch.tensor([0, 2, 1, 4, 6, 3])  # of the classes 0, 0, 1, 0, 0, 1
    assert device_clips.labels[places].tolist() == [0, 0, 1, 0, 0, 1]
    step(device_clips, places)

    chosen, share = torch.rand(2, 6, generator=torch.Generator().manual_seed(1))
    share = torch.where(chosen < 0.5, share / 2, 0)
    assert 0 < (share > 0).sum() < 6 and share.max() <= 0.5
    zero, one = (F.cross_entropy(torch.tensor([2.0, -1.0]), torch.tensor(k), label_smoothing=0.1) for k in (0, 1))
    # In the order of the batch, the clip before the first is the last.
    own, other = torch.stack([zero, zero, one, zero, zero, one]), torch.stack([one, zero, zero, one, zero, zero])
    expected = ((1 - share) * own + share * other).mean()
    torch.testing.assert_close(torch.tensor(step.read(0, 1)[0]), expected[None], check_dtype=False)


@pytest.mark.parametrize("largest", [1, 4])
def test_a_clip_is_mixed_with_the_one_before_it_whatever_the_parts_of_the_step(stick, device_clips, largest):
    config = TrainingConfig(batch_size=6, label_smoothing=0.0, mix=1.0)
    pipeline, network = Pipeline(stick, frames=8), Stubborn()
    places = torch.tensor([0, 2, 1, 4, 6, 3])
    step = Step(network, pipeline, config, 1, largest)
    step(device_clips, places)
    assert len(network.seen) == -(-6 // largest)
    own = pipeline.evaluate(device_clips, places)[0]["joint"].flatten(1)
    seen, difference = torch.cat(network.seen).flatten(1), own.roll(1, 0) - own
    share = ((seen - own) * difference).sum(1) / difference.square().sum(1)
    assert (share > 0).all() and (share < 0.5).all()
    torch.testing.assert_close(seen, own + share[:, None] * difference)
    scores = torch.tensor([[2.0, -1.0]]).expand(6, 2)
    losses = F.cross_entropy(scores, device_clips.labels[places], reduction="none")
    expected = ((1 - share) * losses + share * losses.roll(1)).mean()
    torch.testing.assert_close(torch.tensor(step.read(0, 1)[0]), expected[None], check_dtype=False)


class Normed(nn.Module):
    """Normalises one number of each clip."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.classifier = nn.Linear(1, 2)
        self.seen = []

    def forward(self, streams, mask):
        x = streams["joint"].flatten(1)[:, 20:21]
        self.seen.append(x.detach())
        return self.classifier(self.norm(x))


def test_running_statistics_begin_as_those_of_the_first_batch(stick, device_clips):
    config = TrainingConfig(batch_size=6)
    pipeline, places = Pipeline(stick, frames=8), torch.tensor([0, 2, 1, 4, 6, 3])

    def step(network):
        return Step(network, pipeline, config, 3, 6)

    network = Normed()
    first = step(network)
    first(device_clips, places)
    torch.testing.assert_close(network.norm.running_mean, network.seen[0].mean(0))
    torch.testing.assert_close(network.norm.running_var, network.seen[0].var(0))
    assert network.norm.running_var < 0.5  # far from the 1 that it was made with
    first(device_clips, places)
    torch.testing.assert_close(network.norm.running_var, 0.9 * network.seen[0].var(0) + 0.1 * network.seen[1].var(0))

    # What has statistics, from a checkpoint or from a start, keeps them.
    resumed = Normed()
    second = step(resumed)
    second.load_state_dict(first.state_dict(), "a test")
    started = Normed()
    started.load_state_dict(network.state_dict())
    before = network.norm.running_mean.clone()
    for unit, other in ((second, resumed), (step(started), started)):
        unit(device_clips, places)
        torch.testing.assert_close(other.norm.running_mean, 0.9 * before + 0.1 * other.seen[0].mean(0))
