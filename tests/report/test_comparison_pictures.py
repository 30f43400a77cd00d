import numpy as np
import pytest
import torch
from PIL import Image

from last.evaluate import calibrate
from last.report.comparison_pictures import draw_confusion_change, draw_recalls, draw_reliability

BLUE, VERMILION, WHITE, GREY = (0, 114, 178), (213, 94, 0), (255, 255, 255), (112, 112, 112)


def read(path):
    """(height, width, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def pixels(path, colour):
    """Row and column of each pixel of exactly this colour."""
    return np.argwhere((read(path) == colour).all(-1))


def bars(path, colour):
    """Lengths of the bars of a colour, from the top."""
    lengths = (read(path)[60:] == colour).all(-1).sum(1)  # below the legend
    starts = np.flatnonzero((lengths[1:] > 0) & (lengths[:-1] == 0)) + 1
    return [lengths[start + 3] for start in starts]


def test_recalls_stand_in_pairs_the_largest_gain_on_top(tmp_path):
    one, other = np.array([80.0, np.nan, 20.0, 50.0]), np.array([40.0, np.nan, 60.0, 50.0])
    draw_recalls([("$a_", one), ("b", other)], ["a", "$b_{", "c", "d"], tmp_path / "a.png")
    blue, vermilion = (np.array(bars(tmp_path / "a.png", colour)) for colour in (BLUE, VERMILION))
    np.testing.assert_allclose(blue / blue.max(), np.array([20, 50, 80]) / 80, atol=0.02)
    np.testing.assert_allclose(vermilion / blue.max(), np.array([60, 50, 40]) / 80, atol=0.02)


@pytest.mark.parametrize("shapes", [[2], [2, 3], [2, 2, 2]])
def test_recalls_of_others_than_two_networks_are_refused(tmp_path, shapes):
    with pytest.raises(ValueError, match="not those of two networks on 2 classes"):
        draw_recalls([("a", np.zeros(n)) for n in shapes], ["a", "b"], tmp_path / "a.png")


def test_who_has_more_clips_in_a_cell_gives_it_its_colour(tmp_path):
    change = np.array([[-4, 4], [0, 0]])
    draw_confusion_change(change, ["a", "b"], ("$one_", "two"), tmp_path / "a.png")
    matrix = read(tmp_path / "a.png")
    matrix = matrix[:, : int(0.7 * matrix.shape[1])]  # without the scale
    blue, vermilion = (np.argwhere((matrix == colour).all(-1)) for colour in (BLUE, VERMILION))
    assert blue[:, 1].max() < vermilion[:, 1].min(), "the first column is the first's"
    assert abs(blue[:, 0].mean() - vermilion[:, 0].mean()) < 5, "in one row"


def test_no_difference_is_white(tmp_path):
    draw_confusion_change(np.zeros((2, 2), int), ["a", "b"], ("one", "two"), tmp_path / "a.png")
    matrix = read(tmp_path / "a.png")
    middle = matrix[100:300, 150:350].reshape(-1, 3)
    assert (middle == WHITE).all(1).mean() > 0.9


@pytest.mark.parametrize("count", [40, 41])
def test_of_many_classes_only_those_that_differ_are_drawn(tmp_path, count):
    change = np.zeros((count, count), int)
    change[0, 0], change[0, count - 1] = -2, 2
    draw_confusion_change(change, [f"class {k}" for k in range(count)], ("one", "two"), tmp_path / "a.png")
    height = read(tmp_path / "a.png").shape[0]
    assert height > 900 if count == 40 else height < 600


def test_a_matrix_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(2, 3\) does not fit 2 class names"):
        draw_confusion_change(np.zeros((2, 3), int), ["a", "b"], ("one", "two"), tmp_path / "a.png")


def test_reliability_has_a_bar_for_each_bin_that_holds_clips(tmp_path):
    confidence = torch.tensor([0.95, 0.95, 0.65, 0.65])
    probabilities = torch.stack([confidence, 1 - confidence], 1)
    draw_reliability(calibrate(probabilities, torch.tensor([0, 0, 0, 1]), bins=10), tmp_path / "a.png")
    blue = pixels(tmp_path / "a.png", BLUE)
    columns, counts = np.unique(blue[:, 1], return_counts=True)
    first, second = np.split(counts, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert np.median(first) == pytest.approx(np.median(second) / 2, rel=0.03), "half of these are right, all of those"
    assert len(first) == pytest.approx(len(second), abs=1)
    assert len(pixels(tmp_path / "a.png", GREY)) > 0, "the counts"
