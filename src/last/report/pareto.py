"""What a network costs against what it is worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from last.report.pictures import plain, write_figure
from last.report.poses import INK, PALE, QUIET

# Of Okabe and Ito, which every kind of colour vision tells apart, without the yellow that is lost on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
# Where a name may stand: so many points from its point's, in these directions.
_DISTANCES = (5, 11, 18, 28, 40, 60)
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_MARKER = 7  # points


@dataclass(frozen=True)
class ParetoPoint:
    """A network as trained on one data set.

    Attributes:
        name: at the point.
        cost: parameters or MACs, more than zero.
        accuracy: mean top-1 over seeds, in percent.
        deviation: standard deviation over seeds, in points; None of a single seed.
        family: networks of one have one colour, the same in all pictures that know of the same families.
        is_peer: not one of LAST's; it has a marker of its own.
    """

    name: str
    cost: float
    accuracy: float
    deviation: float | None
    family: str
    is_peer: bool


def pareto_front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """The points to which no other is both as cheap and more accurate, or cheaper and as accurate; by cost."""
    front: list[ParetoPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def draw_pareto(points: Sequence[ParetoPoint], x_label: str, out: Path, families: Sequence[str] = ()) -> None:
    """Draw accuracy against cost on a logarithmic axis, with the Pareto front as a stair, as PNG.

    Args:
        points: in any order.
        x_label: what the cost is, such as ``parameters``.
        out: the picture.
        families: those that have their colours in this order; others follow.

    Raises:
        ValueError: there is no point, or one has a cost that a logarithmic axis cannot show.
        WriteError: ``out`` cannot be written.
    """
    wrong = [point.name for point in points if not 0 < point.cost < np.inf]
    if not points or wrong:
        raise ValueError(
            f"cannot draw '{out.name}' with {len(points)} networks, of which {', '.join(wrong) or 'none'} cost nothing "
            "or without end; give one network or more, each with a cost above 0"
        )
    figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained", facecolor="white")
    costs = np.log10([point.cost for point in points])
    margin = max(0.09 * np.ptp(costs), 0.15)
    axes = figure.add_subplot(xscale="log", xlim=10 ** np.array((costs.min() - margin, costs.max() + margin)))
    order = list(dict.fromkeys((*families, *(point.family for point in points))))
    shown = [family for family in order if any(point.family == family for point in points)]
    colours = {family: _COLOURS[i % len(_COLOURS)] for i, family in enumerate(order)}
    axes.plot(*_stair(points).T, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for point in points:
        axes.errorbar(
            point.cost,
            point.accuracy,
            yerr=point.deviation or None,
            fmt="s" if point.is_peer else "o",
            color=colours[point.family],
            markersize=5 if point.is_peer else 6,
            markeredgecolor="white",
            markeredgewidth=0.6,
            elinewidth=0.9,
            capsize=2,
            zorder=3,
        )
    axes.margins(y=0.09)
    plain(axes)
    axes.grid(color=PALE, zorder=0)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x_label, fontsize=8, color=INK, parse_math=False)
    has_spread = any(point.deviation is not None for point in points)
    axes.set_ylabel("top-1 (%)" + ", mean and deviation over seeds" * has_spread, fontsize=8, color=INK)
    peers = {point.family: point.is_peer for point in points}
    handles = [
        Line2D([], [], marker="s" if peers[f] else "o", color=colours[f], markersize=5, linewidth=0, label=f)
        for f in shown
    ]
    handles.append(Line2D([], [], color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), label="Pareto front"))
    figure.legend(handles=handles, loc="outside upper left", ncols=5, frameon=False, fontsize=7.5, labelcolor=INK)
    _name_points(axes, points)
    write_figure(figure, out)


def in_short(value: float) -> str:
    """A cost in few letters: 92 k, 1.4 M, 2.7 G."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _stair(points: Sequence[ParetoPoint]) -> np.ndarray:
    """Corners (cost, accuracy) of the front, which ends at the highest cost of all points."""
    front = pareto_front(points)
    corners = [(front[0].cost, front[0].accuracy)]
    for point in front[1:]:
        corners += [(point.cost, corners[-1][1]), (point.cost, point.accuracy)]
    return np.array([*corners, (max(point.cost for point in points), corners[-1][1])])


def _name_points(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    """Put each name, from left to right, at the nearest place where it covers nothing, or else the least."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout settles, so that places on the paper are known
    dot = figure.dpi / 72
    room = axes.get_window_extent()
    stair = axes.transData.transform(_stair(points))
    taken = [Bbox(np.sort(ends, axis=0)).padded(dot) for ends in pairwise(stair)]
    for point in points:
        reach = point.deviation or 0
        ends = axes.transData.transform([(point.cost, point.accuracy + sign * reach) for sign in (-1, 1)])
        taken.append(Bbox(ends).padded(_MARKER * dot / 2))
    for point in sorted(points, key=lambda point: point.cost):
        label = axes.annotate(
            point.name,
            (point.cost, point.accuracy),
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            color=INK,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
        )
        size = label.get_window_extent()  # around its point
        trials = []
        for far in _DISTANCES:
            for dx, dy in _DIRECTIONS:
                moved = (dx * (far * dot + size.width / 2), dy * (far * dot + size.height / 2))
                place = size.translated(*moved)
                trials.append((_outside(place, room) + sum(_overlap(place, other) for other in taken), moved, place))
        _, moved, place = min(trials, key=lambda trial: trial[0])  # of equals the first, which is the nearest
        label.set_position((moved[0] / dot, moved[1] / dot))
        taken.append(place)


def _overlap(one: Bbox, other: Bbox) -> float:
    common = Bbox.intersection(one, other)
    return common.width * common.height if common else 0.0


def _outside(place: Bbox, room: Bbox) -> float:
    return place.width * place.height - _overlap(place, room)
