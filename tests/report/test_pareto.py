import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from last.report.pareto import ParetoPoint, draw_pareto, in_short, pareto_front

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def point(name, cost, accuracy, deviation=None, family="f", is_peer=True):
    return ParetoPoint(name, cost, accuracy, deviation, family, is_peer)


def pixels(path, colour):
    """Row and column of each pixel of exactly this colour, below the legend."""
    with Image.open(path) as image:
        return np.argwhere((np.asarray(image.convert("RGB"))[80:] == colour).all(-1))


def test_the_front_is_what_nothing_cheaper_reaches():
    points = [
        point("large", 9, 95), point("worse", 5, 80), point("small", 1, 80), point("equal", 2, 80),
        point("middle", 5, 90), point("dear", 10, 94),
    ]  # fmt: skip
    assert [p.name for p in pareto_front(points)] == ["small", "middle", "large"]


def test_cost_goes_right_and_accuracy_up(tmp_path):
    draw_pareto([point("a", 1e5, 80, family="x"), point("b", 1e6, 90, family="y")], "parameters", tmp_path / "a.png")
    cheap, dear = (pixels(tmp_path / "a.png", colour).mean(0) for colour in (BLUE, VERMILION))
    assert cheap[1] < dear[1] and cheap[0] > dear[0]


def test_the_axis_is_logarithmic(tmp_path):
    points = [point(str(i), 10.0**i, 90, family=f"f{i}") for i in (3, 4, 5)]
    draw_pareto(points, "MACs", tmp_path / "a.png")
    colours = (BLUE, VERMILION, (0, 158, 115))
    first, second, third = (pixels(tmp_path / "a.png", colour)[:, 1].mean() for colour in colours)
    assert second - first == pytest.approx(third - second, abs=3)


def test_deviations_are_drawn_where_they_are_known(tmp_path):
    draw_pareto([point("a", 1e5, 90, 2.0), point("b", 1e6, 90)], "parameters", tmp_path / "with.png")
    draw_pareto([point("a", 1e5, 90), point("b", 1e6, 90)], "parameters", tmp_path / "without.png")
    tall, low = (np.ptp(pixels(tmp_path / name, BLUE)[:, 0]) for name in ("with.png", "without.png"))
    assert tall > 10 * low


def test_peers_have_another_marker(tmp_path):
    for is_peer in (True, False):
        draw_pareto([point("a", 1e5, 90, is_peer=is_peer)], "parameters", tmp_path / f"{is_peer}.png")
    square, circle = (pixels(tmp_path / f"{is_peer}.png", BLUE) for is_peer in (True, False))
    filled = [len(found) / np.prod(np.ptp(found, axis=0) + 1) for found in (square, circle)]
    assert filled[0] == 1 > filled[1]


def test_names_do_not_cover_each_other(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("last.report.pareto.write_figure", lambda figure, out: figures.append(figure))
    # Five networks all but the same, as the tiers of a family on an easy set are.
    points = [point(f"EfficientGCN-B{i}", 1e5 * (1 + i / 50), 90 + i / 100, 0.1) for i in range(5)]
    draw_pareto([*points, point("far", 1e6, 95)], "parameters", tmp_path / "a.png")
    axes = figures[0].axes[0]
    names = [Text.get_window_extent(text) for text in axes.texts]  # without the line to its point
    assert len(names) == 6
    assert not [1 for one, other in combinations(names, 2) if one.overlaps(other)]
    markers = axes.transData.transform([(p.cost, p.accuracy) for p in points])
    assert not [1 for name in names for x, y in markers if name.contains(x, y)]
    room = axes.get_window_extent()
    assert all(room.x0 <= name.x0 and name.x1 <= room.x1 for name in names)


def test_a_family_keeps_its_colour_from_picture_to_picture(tmp_path):
    points = [point(family, 10.0, accuracy, family=family) for family, accuracy in (("b", 80.0), ("c", 90.0))]
    known = ["a", "b", "c"]
    draw_pareto(points[1:], "x", tmp_path / "alone.png", known)
    draw_pareto(points, "x", tmp_path / "both.png", known)
    draw_pareto(points[1:], "x", tmp_path / "unknown.png")
    third = (0, 158, 115)
    assert len(pixels(tmp_path / "alone.png", third)) and len(pixels(tmp_path / "both.png", third))
    assert not len(pixels(tmp_path / "unknown.png", third))


@pytest.mark.parametrize("points", [[], [point("$free_", 0, 90)], [point("endless", np.inf, 90)]])
def test_what_a_logarithmic_axis_cannot_show_is_told(tmp_path, points):
    wrong = points[0].name if points else "none"
    with pytest.raises(ValueError, match=re.escape(f"with {len(points)} networks, of which {wrong} cost nothing")):
        draw_pareto(points, "MACs", tmp_path / "a.png")


def test_costs_are_told_in_few_letters():
    assert [in_short(value) for value in (12, 92_358, 1_446_672, 2.69e9)] == ["12", "92.4 k", "1.45 M", "2.69 G"]
