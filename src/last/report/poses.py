"""Stick figures: where the joints of a clip lie in a picture, as a strip of poses and as an animation.

Shapes: T frames, P poses drawn, M bodies, V joints, B bones.
"""

import io
import math
from collections.abc import Iterable, Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from last.data.clip import Clip
from last.skeleton import Layout

INK, QUIET, PALE = "#222222", "#707070", "#f5f5f5"
# Blue and vermilion of Okabe and Ito, which every kind of colour vision tells apart, and grey.
SIDES = {"left": "#0072b2", "right": "#d55e00", "trunk": "#4d4d4d"}

_GIF_FRAMES = 60


def as_seen(clip: Clip, layout: Layout) -> np.ndarray:
    """Joints as the camera saw them: x to the viewer's right, y up, z towards the viewer.

    Returns:
        (T, M, V, 3), NaN where a joint is absent; the depth of a layout in two dimensions is zero.

    Raises:
        ValueError: the clip does not fit the layout, or holds no joint at all.
    """
    *_, joints, coordinates = clip.joints.shape
    if joints != len(layout.joints) or coordinates < layout.dimensions:
        raise ValueError(
            f"clip '{clip.name}' has {joints} joints of {coordinates} coordinates, but layout "
            f"'{layout.name}' has {len(layout.joints)} of {layout.dimensions}; pass the layout of the clip"
        )
    points = np.zeros((*clip.joints.shape[:3], 3))
    points[..., : layout.dimensions] = clip.joints[..., : layout.dimensions]
    points[~np.isfinite(points).all(axis=-1)] = np.nan
    if np.isnan(points).all():
        raise ValueError(
            f"clip '{clip.name}' has no joint in any of its {clip.frames} frames, so nothing to draw; "
            "check the file that it was read from"
        )
    image_axes = layout.dimensions == 2 or layout.y_down
    return points * ((1, -1, -1) if image_axes else (-1, 1, -1))


def sides(layout: Layout) -> np.ndarray:
    """Index into ``SIDES`` of each joint, (V,); a bone has the side of its outer joint."""
    side = np.full(len(layout.joints), 2)
    for left, right in layout.pairs:
        side[left], side[right] = 0, 1
    return side


def heads(layout: Layout) -> list[int]:
    """Joints that stand for a whole head."""
    return [v for v, joint in enumerate(layout.joints) if joint in ("head", "nose")]


def strip(name: str, points: np.ndarray, layout: Layout, poses: int, frame_rate: float) -> Figure:
    """Poses side by side, evenly spread over a clip, in panels that all show the same part of the room.

    Args:
        name: title of the picture.
        points: joints as seen, (T, M, V, 3).
        layout: their skeleton.
        poses: how many; a shorter clip gives fewer.
        frame_rate: frames a second.
    """
    index = np.unique(np.linspace(0, len(points) - 1, poses).round().astype(int))
    flat = points[..., :2]
    centre, shape = _room(flat)
    height, gap, caption, header = 1.7, 0.08, 0.32, 0.3  # inches
    width = height * shape[0] / shape[1]
    rows = math.ceil(len(index) / max(1, int(10 / (width + gap))))
    columns = math.ceil(len(index) / rows)
    across = max(columns * (width + gap) + gap, 1.7 + 0.075 * len(name))
    down = header + rows * (height + caption)

    # The axes count inches from the top left corner; poses are moved into their panels.
    figure = Figure(figsize=(across, down), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, across), ylim=(-down, 0))
    axes.axis("off")
    axes.text(gap, -header / 2, name, fontsize=8, color=INK, va="center", parse_math=False)
    if layout.pairs:
        end = across - gap
        for side, colour in reversed(SIDES.items()):
            axes.text(end, -header / 2, side, fontsize=8, color=colour, ha="right", va="center")
            end -= 0.13 + 0.06 * len(side)
    middles = np.empty((len(index), 2))
    for i, frame in enumerate(index):
        left, bottom = gap + i % columns * (width + gap), -header - i // columns * (height + caption) - height
        middle = left + width / 2
        axes.add_patch(Rectangle((left, bottom), width, height, facecolor=PALE))
        axes.text(middle, bottom - 0.05, f"{frame / frame_rate:.2f} s", fontsize=8, color=INK, ha="center", va="top")
        axes.text(middle, bottom - 0.17, f"frame {frame}", fontsize=6.5, color=QUIET, ha="center", va="top")
        middles[i] = middle, bottom + height / 2
    _draw(axes, (flat[index] - centre) * (height / shape[1]) + middles[:, None, None], layout, height)
    return figure


def animation(points: np.ndarray, layout: Layout, frame_rate: float) -> bytes:
    """A GIF that lasts as long as the clip, of at most 60 frames.

    Args:
        points: joints as seen, (T, M, V, 3).
        layout: their skeleton.
        frame_rate: frames a second.
    """
    count = len(points)
    index = np.unique(np.linspace(0, count - 1, min(count, _GIF_FRAMES)).round().astype(int))
    images = [Image.fromarray(image).quantize(32) for image in images_of(points, layout, frame_rate, index)]
    # A GIF counts in hundredths of a second: rounding moments, not durations, keeps the clip's true length.
    moments = np.rint(np.append(index, count) / frame_rate * 100) * 10
    durations = np.diff(moments).clip(max=655_350).astype(int).tolist()  # the longest that a GIF can say
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return buffer.getvalue()


def images_of(
    points: np.ndarray, layout: Layout, frame_rate: float, index: Iterable[int], resolution: int = 100
) -> Iterator[np.ndarray]:
    """Draw frames of a clip one by one, all of the same part of the room.

    Args:
        points: joints as seen, (T, M, V, 3).
        layout: their skeleton.
        frame_rate: frames a second.
        index: which frames.
        resolution: pixels an inch; an image is 3.2 inches high.

    Yields:
        (height, width, 3) uint8, red, green and blue.
    """
    flat = points[..., :2]
    centre, shape = _room(flat)
    height, width = 3.2, 3.2 * shape[0] / shape[1]
    placed = (flat - centre) * (height / shape[1])
    figure = Figure(figsize=(width, height), dpi=resolution, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2))
    axes.axis("off")
    lines, dots = _draw(axes, placed[:1], layout, height)
    clock = axes.text(0.03, 0.02, "", fontsize=8, color=QUIET, transform=axes.transAxes)
    for frame in index:
        pose = placed[frame : frame + 1]
        lines.set_segments(_bones(pose, layout))
        dots.set_offsets(pose.reshape(-1, 2))
        clock.set_text(f"{frame / frame_rate:.2f} s")
        canvas.draw()
        yield np.array(canvas.buffer_rgba())[..., :3]


def _room(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and size (x, y) of the part of the room that holds every pose of a clip."""
    low, high = (bound(points.reshape(-1, 2), axis=0) for bound in (np.nanmin, np.nanmax))
    width, height = high - low + 0.1 * ((high - low).max() or 1)
    # A panel narrower than half its height has no space for the text under it.
    return (low + high) / 2, np.array([max(width, height / 2), max(height, width / 4)])


def _bones(points: np.ndarray, layout: Layout) -> list[np.ndarray]:
    """Both ends (2, 2) of each bone of each body of each pose (P, M, V, 2)."""
    return list(points[:, :, np.array(layout.bones, dtype=int).reshape(-1, 2)].reshape(-1, 2, 2))


def _draw(axes: Axes, points: np.ndarray, layout: Layout, height: float) -> tuple[LineCollection, PathCollection]:
    """Draw poses (P, M, V, 2) in a panel of so many inches; all bodies but the first are paler."""
    poses, bodies = points.shape[:2]
    body = np.array([to_rgb(colour) for colour in SIDES.values()])[sides(layout)]  # (V, 3)
    colours = np.stack([body, *[0.55 * body + 0.45] * (bodies - 1)])  # (M, V, 3)
    outer = [v for v, _ in layout.bones]
    lines = LineCollection(
        _bones(points, layout),
        colors=np.tile(colours[:, outer].reshape(-1, 3), (poses, 1)),
        linewidths=0.9 * height,
        capstyle="round",
    )
    axes.add_collection(lines, autolim=False)
    area = np.full(len(layout.joints), 1.6 * height**2)
    area[heads(layout)] = 14 * height**2
    dots = axes.scatter(
        *points.reshape(-1, 2).T,
        s=np.tile(area, poses * bodies),
        c=np.tile(colours.reshape(-1, 3), (poses, 1)),
        linewidths=0,
        zorder=3,
    )
    return lines, dots
