"""The warning of a training that calls nearly every clip by one name."""

import pytest
import torch
from torch import nn

import last
from last.data.batches import DeviceClips, Pipeline
from last.data.feed import Resident
from last.progress import Interrupted
from last.settings import TrainingConfig
from last.training.collapse import collapse
from last.training.loop import Trainer
from tiny_clips import make_clips


@pytest.mark.parametrize(
    ("predicted", "labels", "collapsed"),
    [
        ([96, 4], [50, 50], True),  # the other half is predicted less than a tenth as often
        ([94, 6], [50, 50], False),
        ([91, 3, 2, 2, 2], [20, 20, 20, 20, 20], False),
        ([93, 2, 2, 2, 1], [20, 20, 20, 20, 20], True),
        ([97, 3], [90, 10], False),  # labels that are nearly all of one class
        ([100, 0], [90, 10], True),
        ([100, 0], [100, 0], False),
    ],
)
def test_one_class_for_nearly_all_clips_is_a_collapse_unless_the_labels_are_so(predicted, labels, collapsed):
    labels = torch.arange(len(labels)).repeat_interleave(torch.tensor(labels))
    assert (collapse(3, predicted, labels) is not None) == collapsed


def test_the_sentence_says_what_was_seen_and_what_to_try():
    labels = torch.tensor([0] * 25 + [1] * 75)
    sentence = collapse(7, [99.0, 1.0], labels, lambda k: ("wave", "sit")[k])
    assert "in epoch 7, 99 % of the training clips were taken for 'wave', the class of 25 % of them" in sentence
    for advice in ("a lower --lr", "training.class_weights=balanced", "last data check"):
        assert advice in sentence


class Mute(nn.Linear):
    """A classifier that says class 1 whatever it sees."""

    def forward(self, x):
        return super().forward(x) * 0 + torch.tensor([0.0, 5.0])


def trainer(layout, mute=True, **changes):
    torch.manual_seed(0)
    model = last.create_model("last_e_nano", 2, layout)
    if mute:
        model.classifier.__class__ = Mute
    config = TrainingConfig(**({"epochs": 4, "batch_size": 4, "warmup_epochs": 2, "lr": 0.05} | changes))
    clips = DeviceClips.from_clips(make_clips(layout), "cpu")
    return Trainer(model, Pipeline(layout, frames=8), Resident(clips), config, class_name=lambda k: "ab"[k])


def test_it_is_said_once_and_not_of_the_warm_up(stick, tmp_path):
    warnings = []
    made = trainer(stick)
    made.fit(tmp_path / "c.pt", lambda row: warnings.append(made.progress.warning))
    assert warnings[:2] == [None, None]
    assert "in epoch 3, 100 % of the training clips were taken for 'b', the class of 50 %" in warnings[2]
    assert warnings[3] == warnings[2]


def test_predictions_are_counted_over_a_stop_within_the_epoch(stick, tmp_path):
    counts = []

    def make():
        made = trainer(stick, mute=False, warmup_epochs=0, epochs=1)
        read = made.unit.read
        made.unit.read = lambda *steps: counts.append(read(*steps)) or counts[-1]
        return made

    make().fit(tmp_path / "whole.pt", lambda row: None)
    expected = counts[-1][1]
    assert sum(expected[2:]) == 16
    stopped = make()
    with pytest.raises(Interrupted):
        stopped.fit(tmp_path / "c.pt", lambda row: None, (done := []).append, stop=lambda: done[-1] >= 2)
    assert sum(stopped.progress.predicted) == 8
    resumed = make()
    resumed.load(tmp_path / "c.pt")
    resumed.fit(tmp_path / "c.pt", lambda row: None)
    assert counts[-1][1] == expected
