"""Pictures of two networks side by side, and of how far a network's confidence can be believed. Shapes: K classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from last.evaluate import Calibration
from last.report.pictures import name_classes, plain, write_figure
from last.report.poses import INK, QUIET, SIDES

_MOST_CLASSES = 40  # of more, those that do not differ are left out of a matrix
_MOST_COUNTED = 30
_FIRST, _SECOND = SIDES["left"], SIDES["right"]
# Of an odd number of colours one is the middle: zero is white.
_MORE = LinearSegmentedColormap.from_list("more", (_FIRST, "white", _SECOND), N=257)


def draw_recalls(recalls: Sequence[tuple[str, np.ndarray]], classes: Sequence[str], out: Path) -> None:
    """Draw the recall of each class by two networks as pairs of bars, the second's largest gain on top, as PNG.

    Args:
        recalls: of two networks, each its name and (K,) in percent, NaN for a class without clips.
        classes: their names.
        out: the picture.

    Raises:
        ValueError: there are not two networks, or their numbers do not fit the names.
        WriteError: ``out`` cannot be written.
    """
    count = len(classes)
    shapes = [recall.shape for _, recall in recalls]
    if shapes != [(count,)] * 2 or not count:
        raise ValueError(f"recalls of the shapes {shapes} are not those of two networks on {count} classes, one each")
    (first, one), (second, other) = recalls
    gain = other - one
    order = np.argsort(-gain, kind="stable")  # NaN last
    rows = np.arange(count)
    figure = Figure(figsize=(3.9 + 0.065 * max(map(len, classes)), 1.1 + 0.24 * count), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 100), ylim=(count - 0.4, -0.6))
    for name, recall, shift, colour in ((first, one, -0.19, _FIRST), (second, other, 0.19, _SECOND)):
        axes.barh(rows + shift, np.nan_to_num(recall[order]), height=0.36, color=colour, label=name)
    for row, value in enumerate(gain[order]):
        text = "no clips" if np.isnan(value) else _signed(f"{value:+.1f}") if abs(value) >= 0.05 else "="
        axes.text(102, row, text, fontsize=6.5, color=QUIET, va="center")
    plain(axes)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(rows, [classes[k] for k in order], fontsize=7, parse_math=False)
    axes.set_xlabel("accuracy (%), and the gain in points", fontsize=8, color=INK)
    # One below the other, since names of runs are long.
    for text in figure.legend(loc="outside upper left", frameon=False, fontsize=8, labelcolor=INK).get_texts():
        text.set_parse_math(False)
    write_figure(figure, out)


def draw_confusion_change(change: np.ndarray, classes: Sequence[str], names: tuple[str, str], out: Path) -> None:
    """Draw how the confusion of one network differs from that of another, as PNG: true classes on rows.

    Of more than 40 classes, only those appear in whose row or column something differs.

    Args:
        change: clips that the second has more in a cell than the first, (K, K); zero is white.
        classes: their names.
        names: of the two networks.
        out: the picture.

    Raises:
        ValueError: the matrix is not square, or does not fit the names.
        WriteError: ``out`` cannot be written.
    """
    if change.shape != (len(classes),) * 2 or not len(classes):
        raise ValueError(f"a difference of the shape {change.shape} does not fit {len(classes)} class names, one a row")
    if len(classes) > _MOST_CLASSES and change.any():
        differs = np.flatnonzero(change.any(axis=0) | change.any(axis=1))
        change, classes = change[np.ix_(differs, differs)], [classes[k] for k in differs]
    count = len(classes)
    cell, font = (0.3, 7.5) if count <= _MOST_COUNTED else (0.15, 6)
    side = max(count * cell, 2.4) + 0.07 * font / 6 * max(map(len, classes))
    figure = Figure(figsize=(side + 0.9, side + 0.6), layout="constrained")
    axes = figure.add_subplot()
    most = max(1, int(np.abs(change).max()))
    image = axes.imshow(change, cmap=_MORE, norm=Normalize(-most, most))
    for k in range(count):  # on the diagonal more is better, elsewhere worse
        axes.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, fill=False, edgecolor=QUIET, linewidth=0.6))
    plain(axes)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(QUIET)
    name_classes(axes, classes, font)
    for row, column in np.argwhere(change):
        value = int(change[row, column])
        colour = "white" if abs(value) > 0.6 * most else INK
        axes.text(
            column, row, _signed(f"{value:+d}"), ha="center", va="center", fontsize=max(5, 20 * cell), color=colour
        )
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=25, pad=0.01, ticks=MaxNLocator(5, integer=True))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2, colors=INK)
    bar.ax.set_ylabel("clips", fontsize=8, color=INK)
    first, second = names
    figure.suptitle(f"{second}\n− {first}", x=0.01, ha="left", fontsize=8, color=INK, parse_math=False)
    write_figure(figure, out)


def draw_reliability(calibration: Calibration, out: Path) -> None:
    """Draw accuracy against confidence, and how many clips have it, as PNG; they are equal on the dashed line.

    Args:
        calibration: of the clips.
        out: the picture.

    Raises:
        WriteError: ``out`` cannot be written.
    """
    bins = len(calibration.counts)
    middles, width = (np.arange(bins) + 0.5) * 100 / bins, 100 / bins
    figure = Figure(figsize=(3.6, 4.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(middles, np.nan_to_num(calibration.accuracy), width=0.92 * width, color=_FIRST)
    above.plot((0, 100), (0, 100), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    above.set(xlim=(0, 100), ylim=(0, 100))
    above.set_ylabel("accuracy (%)", fontsize=8, color=INK)
    errors = f"expected error {calibration.expected_error:.1f}, largest {calibration.maximum_error:.1f} points"
    above.set_title(errors, fontsize=8, color=INK, loc="left")
    below.bar(middles, calibration.counts, width=0.92 * width, color=QUIET)
    below.set_ylabel("clips", fontsize=8, color=INK)
    below.set_xlabel("confidence (%)", fontsize=8, color=INK)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes in (above, below):
        plain(axes)
    write_figure(figure, out)


def _signed(number: str) -> str:
    return number.replace("-", "−")
