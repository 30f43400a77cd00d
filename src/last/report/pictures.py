"""Pictures of clips and of results.

Drawn by matplotlib's object interface alone, so that no global figure or back end is touched.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from last.data.clip import Clip
from last.files import write_atomically
from last.report.player import player_page
from last.report.poses import INK, PALE, QUIET, SIDES, animation, as_seen, strip
from last.report.video import write_video
from last.skeleton import Layout, load_layout

_MOST_COUNTED = 30
_HALO = {"facecolor": "white", "linewidth": 0, "pad": 0.5}  # keeps a line from crossing a number


def draw_clip(clip: Clip, out: Path, frames: int = 8, layout: Layout | None = None, frame_rate: float = 30.0) -> None:
    """Draw a clip as its camera saw it: who faces the camera has the left hand on the picture's right.

    Args:
        clip: the bodies to draw; absent joints (NaN) and their bones are left out.
        out: ``.png`` for a strip of poses, ``.gif`` for an animation, ``.mp4`` for a video of every frame (wants
            ffmpeg), ``.html`` for a player that turns.
        frames: poses in a strip, evenly spread over the clip.
        layout: the skeleton; None loads the one that the clip names.
        frame_rate: of the recording, in frames a second, from 0.1 to 10,000; a Kinect has 30.

    Raises:
        ValueError: another suffix, a clip that does not fit the layout or has no joint, no pose asked for, another
            frame rate, or a video without ffmpeg.
        WriteError: ``out`` cannot be written.
    """
    if frames < 1 or not 0.1 <= frame_rate <= 10_000:
        raise ValueError(
            f"clip '{clip.name}' cannot be drawn as {frames} poses at {frame_rate} frames a second; "
            "ask for at least one pose, and a rate above 0.1 and below 10000"
        )
    layout = layout or load_layout(clip.layout)
    points = as_seen(clip, layout)
    suffix = out.suffix.lower()
    if suffix == ".mp4":
        write_video(out, points, layout, frame_rate)
        return
    if suffix == ".png":
        content = _png(strip(clip.name, points, layout, frames, frame_rate))
    elif suffix == ".gif":
        content = animation(points, layout, frame_rate)
    elif suffix == ".html":
        content = player_page(clip.name, points, layout, frame_rate).encode()
    else:
        raise ValueError(
            f"cannot draw clip '{clip.name}' as '{out.name}'; name the file .png for a strip of poses, "
            ".gif for an animation, .mp4 for a video, or .html for a player"
        )
    _write(out, content)


def draw_curves(history: Sequence[Mapping[str, float]], out: Path) -> None:
    """Draw loss and top-1 accuracy over the epochs of a run, as PNG.

    Args:
        history: a mapping an epoch, as in ``metrics.csv``: ``epoch``, and any of ``train_loss``,
            ``train_top1``, ``validation_loss``, ``validation_top1`` (accuracies in percent).
        out: the picture.

    Raises:
        ValueError: there is no epoch, or none of these columns.
        WriteError: ``out`` cannot be written.
    """
    panels = {}
    for metric, title in (("loss", "loss"), ("top1", "top-1 accuracy (%)")):
        curves = {part: _curve(history, f"{part}_{metric}") for part in ("train", "validation")}
        panels[title] = {part: curve for part, curve in curves.items() if len(curve)}
    panels = {title: curves for title, curves in panels.items() if curves}
    if not panels:
        raise ValueError(
            f"no curve to draw in '{out.name}': {len(history)} epochs without train_loss, train_top1, "
            "validation_loss or validation_top1; train for at least one epoch"
        )
    figure = Figure(figsize=(3.6 * len(panels), 2.7), layout="constrained")
    colours = {"train": SIDES["left"], "validation": SIDES["right"]}
    for axes, title in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for part, curve in panels[title].items():
            marker = "o" if len(curve) < 20 else ""
            axes.plot(*curve.T, color=colours[part], label=part, linewidth=1.4, marker=marker, markersize=2.5)
        plain(axes)
        axes.grid(axis="y", color=PALE)
        axes.set_xlabel("epoch", fontsize=8, color=INK)
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    write_figure(figure, out)


def draw_confusion(matrix: np.ndarray, classes: Sequence[str], out: Path) -> None:
    """Draw a confusion matrix, as PNG: true classes on rows, predicted on columns, each row in percent.

    Args:
        matrix: number of clips, (classes, classes); counts are written out up to 30 classes.
        classes: their names.
        out: the picture.

    Raises:
        ValueError: the matrix is not square, or does not fit the names.
        WriteError: ``out`` cannot be written.
    """
    count = len(classes)
    if matrix.shape != (count, count) or not count:
        raise ValueError(f"a confusion matrix of the shape {matrix.shape} does not fit {count} class names, one a row")
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    cell, font = (0.3, 7.5) if count <= _MOST_COUNTED else (0.13, 6)
    side = max(count * cell, 2) + 0.07 * font / 6 * max(map(len, classes))
    figure = Figure(figsize=(side + 0.9, side + 0.3), layout="constrained")
    axes = figure.add_subplot()
    # The square root lets a few clips gone astray be seen beside a full diagonal.
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 100))
    plain(axes)
    axes.spines[:].set_visible(False)
    name_classes(axes, classes, font)
    if count <= _MOST_COUNTED:
        for row, column in np.argwhere(matrix):
            colour = "white" if share[row, column] > 40 else INK
            text = f"{matrix[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 5, 20, 50, 100], shrink=0.5, aspect=25, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2, colors=INK)
    bar.set_label("% of the true class", fontsize=8, color=INK)
    write_figure(figure, out)


def draw_per_class(recall: np.ndarray, classes: Sequence[str], out: Path) -> None:
    """Draw the accuracy of each class as bars, the best on top, as PNG.

    Args:
        recall: share of each class's clips that are recognised, in percent, (classes,); NaN for none.
        classes: their names.
        out: the picture.

    Raises:
        ValueError: the numbers do not fit the names.
        WriteError: ``out`` cannot be written.
    """
    count = len(classes)
    if recall.shape != (count,) or not count:
        raise ValueError(f"recalls of the shape {recall.shape} do not fit {count} class names, one each")
    order = np.argsort(-recall, kind="stable")  # NaN last
    percent = recall[order]
    names = [classes[i] for i in order]
    figure = Figure(figsize=(3.4 + 0.065 * max(map(len, names)), 0.75 + 0.155 * count), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 100), ylim=(count - 0.4, -0.6))
    axes.barh(range(count), np.nan_to_num(percent), height=0.7, color=SIDES["left"])
    for row, value in enumerate(percent):
        text = "no clips" if np.isnan(value) else f"{value:.1f}"
        axes.text(np.nan_to_num(value) + 1, row, text, fontsize=6, color=QUIET, va="center", bbox=_HALO)
    if not np.isnan(percent).all():
        mean = np.nanmean(percent)
        axes.axvline(mean, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_title(f"mean over classes {mean:.1f} %", fontsize=8, color=INK, loc="left")
    plain(axes)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(count), names, fontsize=7, parse_math=False)
    axes.set_xlabel("accuracy (%)", fontsize=8, color=INK)
    write_figure(figure, out)


def name_classes(axes: Axes, classes: Sequence[str], font: float) -> None:
    """Write the classes at both axes of a confusion matrix, true ones on rows, in letters of ``font`` points."""
    axes.tick_params(length=0)
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=font, parse_math=False)
    axes.set_yticks(range(len(classes)), classes, fontsize=font, parse_math=False)
    axes.set_xlabel("predicted", fontsize=9, color=INK)
    axes.set_ylabel("true", fontsize=9, color=INK)


def plain(axes: Axes) -> None:
    """Give axes the look of all pictures of results: two quiet spines and small labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(labelsize=7.5, colors=INK, color=QUIET)


def write_figure(figure: Figure, out: Path) -> None:
    """Write a figure as PNG, 150 pixels an inch.

    Raises:
        WriteError: ``out`` cannot be written.
    """
    _write(out, _png(figure))


def _curve(history: Sequence[Mapping[str, float]], column: str) -> np.ndarray:
    """(epoch, value) of the epochs that have a value, (points, 2)."""
    rows = [row for row in history if np.isfinite(row.get(column, np.nan))]
    return np.array([(row["epoch"], row[column]) for row in rows])


def _write(out: Path, content: bytes) -> None:
    write_atomically(out, lambda partial: partial.write_bytes(content))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
