import numpy as np
import pytest
import torch

import last
from last.data.batches import DeviceClips, Pipeline
from last.evaluate import calibrate, measure, predict


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
    metrics = measure(probabilities, torch.tensor([4, 5]))
    assert metrics.top5 == 50
    assert metrics.shown == {"top-1": 0, "top-5": 50, "mean class": 0}


@pytest.mark.parametrize(("classes", "names"), [(5, ["top-1", "mean class"]), (6, ["top-1", "top-5", "mean class"])])
def test_of_five_classes_no_top5_is_shown(classes, names):
    assert list(measure(torch.eye(classes), torch.arange(classes)).shown) == names


def test_the_dictionary_is_plain():
    metrics = measure(torch.tensor([[0.9, 0.1]]), torch.tensor([0]))
    content = metrics.to_dict(["a", "b"])
    assert content["per_class"] == [
        {"class": "a", "clips": 1, "recall": 100.0, "precision": 100.0},
        {"class": "b", "clips": 0, "recall": None, "precision": None},
    ]
    assert content["confusion"] == [[1, 0], [0, 0]]


def test_calibration_by_hand():
    # Three clips of confidence 0.9 to 1, two of them right; two of confidence 0.6 to 0.7, one right.
    confidence = torch.tensor([0.95, 0.95, 0.98, 0.65, 0.61], dtype=torch.double)
    probabilities = torch.stack([confidence, 1 - confidence], 1)
    calibration = calibrate(probabilities, torch.tensor([0, 0, 1, 0, 1]), bins=10)
    assert calibration.counts.tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 0, 3]
    sure, unsure = 100 * (0.95 + 0.95 + 0.98) / 3, 63
    np.testing.assert_allclose(calibration.confidence[[6, 9]], [unsure, sure])
    np.testing.assert_allclose(calibration.accuracy[[6, 9]], [50, 200 / 3])
    assert np.isnan(calibration.accuracy[[0, 5, 8]]).all()
    assert calibration.expected_error == pytest.approx((2 * 13 + 3 * (sure - 200 / 3)) / 5)
    assert calibration.maximum_error == pytest.approx(sure - 200 / 3)


def test_a_bin_holds_its_upper_edge():
    confidence = torch.tensor([0.5, 0.75, 0.7500001, 1.0], dtype=torch.double)
    counts = calibrate(torch.stack([confidence, 1 - confidence], 1), torch.zeros(4), bins=4).counts
    assert counts.tolist() == [0, 1, 1, 2]


def test_certainty_that_is_right_is_calibrated():
    metrics = measure(torch.eye(3).repeat(2, 1), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert (metrics.ece, metrics.calibration.maximum_error) == (0, 0)
    always_wrong = measure(torch.eye(3), torch.tensor([1, 2, 0]))
    assert always_wrong.ece == 100
    assert always_wrong.to_dict("abc")["calibration"] == {
        "expected_error": 100.0,
        "maximum_error": 100.0,
        "bins": [{"clips": 3, "confidence": 100.0, "accuracy": 0.0}],
    }


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
