import numpy as np
import pytest
import torch

import last
from last.data.batches import DeviceClips, Pipeline
from last.evaluate import measure, predict


def test_metrics_by_hand():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.1, 0.4]])
    metrics = measure(probabilities, torch.tensor([0, 0, 0, 2, 2]))
    assert metrics.confusion.tolist() == [[2, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert metrics.top1 == pytest.approx(60)
    assert metrics.top5 == 100  # there are only three classes
    assert metrics.mean_class_accuracy == pytest.approx((200 / 3 + 50) / 2)  # the class without clips has no say
    np.testing.assert_allclose(metrics.recall, [200 / 3, np.nan, 50])
    np.testing.assert_allclose(metrics.precision, [200 / 3, 0, 100])
    expected = -np.log([0.7, 0.6, 0.1, 0.6, 0.4]).mean()
    assert metrics.loss == pytest.approx(expected, rel=1e-5)


def test_top5_looks_at_five():
    probabilities = torch.arange(8.0).flip(0).repeat(2, 1) / 28
    assert measure(probabilities, torch.tensor([4, 5])).top5 == 50


def test_the_dictionary_is_plain():
    metrics = measure(torch.tensor([[0.9, 0.1]]), torch.tensor([0]))
    content = metrics.to_dict(["a", "b"])
    assert content["per_class"] == [
        {"class": "a", "clips": 1, "recall": 100.0, "precision": 100.0},
        {"class": "b", "clips": 0, "recall": None, "precision": None},
    ]
    assert content["confusion"] == [[1, 0], [0, 0]]


def test_nothing_to_evaluate_is_told():
    with pytest.raises(ValueError, match="no clips to evaluate"):
        measure(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))


@pytest.fixture
def model(stick):
    torch.manual_seed(0)
    return last.create_model("last_e_nano", 2, stick)


def test_probabilities_do_not_depend_on_the_batch(model, device_clips, stick):
    pipeline = Pipeline(stick, frames=8)
    done = []
    small = predict(model, pipeline, device_clips, batch_size=5, on_clips=done.append)
    torch.testing.assert_close(small, predict(model, pipeline, device_clips, batch_size=16))
    torch.testing.assert_close(small.sum(1), torch.ones(16))
    assert done == [5, 10, 15, 16]
    assert model.training  # as it was before


def test_crops_are_averaged(model, device_clips, stick):
    pipeline = Pipeline(stick, frames=8)
    mean = predict(model, pipeline, device_clips, crops=3)
    model.eval()
    with torch.no_grad():
        each = [model(*pipeline.evaluate(device_clips, torch.arange(16), i, 3)).softmax(1) for i in range(3)]
    torch.testing.assert_close(mean, torch.stack(each).mean(0))
    assert (each[0] - each[2]).abs().max() > 1e-4


def test_a_body_more_in_the_set_changes_no_other_clip(model, clips, stick):
    from tiny_clips import make_clips

    pipeline = Pipeline(stick, frames=8)
    alone = predict(model, pipeline, DeviceClips.from_clips(clips, "cpu"))
    pairs = make_clips(stick, 4, bodies=2, seed=1)
    together = predict(model, pipeline, DeviceClips.from_clips([*clips, *pairs], "cpu"))
    torch.testing.assert_close(alone, together[:16])
