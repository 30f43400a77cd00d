"""The statistics of a store as tables, as a picture, and as a page that holds both."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from last.data.stats import Statistics
from last.files import write_atomically
from last.report.page import Cell, Table, write_page
from last.report.poses import INK, QUIET, SIDES, sides

_FILL = SIDES["left"]
_MOST_NAMED = 60  # classes or subjects; of more, the names would run into each other


def require_picture(out: Path) -> str:
    """The suffix of a file that statistics can be written to.

    Raises:
        ValueError: it is another than .png or .html.
    """
    suffix = out.suffix.lower()
    if suffix not in (".png", ".html"):
        raise ValueError(f"cannot write statistics as '{out.name}'; name the file .png for a picture, .html for a page")
    return suffix


def write_statistics(statistics: Statistics, name: str, out: Path) -> None:
    """Write what a store holds for people to look at.

    Args:
        statistics: of the store.
        name: of the store, which is the title.
        out: ``.png`` for the picture, or ``.html`` for a page with the tables too.

    Raises:
        ValueError: another suffix.
        WriteError: ``out`` cannot be written.
    """
    suffix = require_picture(out)
    figure = _figure(statistics, name)
    if suffix == ".png":
        write_atomically(out, lambda partial: figure.savefig(partial, format="png", dpi=150))
        return
    with TemporaryDirectory() as folder:
        picture = Path(folder) / "statistics.png"
        figure.savefig(picture, dpi=150)
        overview, *others = tables(statistics)
        facts = {str(what): str(value) for what, value in overview.rows}
        write_page(out, name, facts, others, [("Clips, bodies and joints", picture)], [])


def tables(statistics: Statistics) -> list[Table]:
    """What a store holds: an overview, then its classes, its subjects and the like, and its joints."""
    found = [Table("overview", ("", ""), _overview(statistics))]
    for key, (values, counts) in statistics.ids.items():
        names = statistics.classes if key == "label" else None
        rows = [[names[v] if names else str(v), n] for v, n in zip(values.tolist(), counts.tolist(), strict=True)]
        found.append(Table(f"clips by {'class' if names else key}", ("class" if names else key, "clips"), rows))
    header = ("joint", "missing %", "confidence", "way a frame", "bone to", "bone length", "varies by %")
    return [*found, Table("joints", header, _joint_rows(statistics))]


def _overview(statistics: Statistics) -> list[list[Cell]]:
    frames, heights = statistics.frames, statistics.heights
    extents = zip("xyz", *statistics.extent.tolist(), strict=False)
    unit = "pixels" if statistics.layout.dimensions == 2 else "m"
    return [
        ["clips", f"{len(frames):,}"],
        ["frames a clip", _spread(frames, "")],
        ["bodies a clip", ", ".join(f"{m}: {n:,}" for m, n in zip(*_counts(statistics.bodies), strict=True))],
        ["height of a body", _spread(heights, unit)],
        ["room", ", ".join(f"{axis} {low:.4g} to {high:.4g}" for axis, low, high in extents)],
    ]


def _spread(values: np.ndarray, unit: str) -> str:
    low, tenth, median, ninth, high = np.percentile(values, (0, 10, 50, 90, 100))
    return (
        f"median {median:.4g} {unit}".rstrip() + f", 80 % in {tenth:.4g} to {ninth:.4g}, all in {low:.4g} to {high:.4g}"
    )


def _counts(values: np.ndarray) -> tuple[list[int], list[int]]:
    found, counts = np.unique(values, return_counts=True)
    return found.tolist(), counts.tolist()


def _joint_rows(statistics: Statistics) -> list[list[Cell]]:
    layout = statistics.layout
    bone = {v: b for b, (v, _) in enumerate(layout.bones)}
    rows: list[list[Cell]] = []
    for v, joint in enumerate(layout.joints):
        row: list[Cell] = [joint, *map(_known, (100 * statistics.missing[v], statistics.confidence[v]))]
        row.append(_known(statistics.speeds[v]))
        b = bone.get(v)
        if b is None:
            rows.append([*row, "", None, None])
        else:
            of_bone = (statistics.bone_lengths[b], 100 * statistics.bone_variation[b])
            rows.append([*row, layout.joints[layout.parents[v]], *map(_known, of_bone)])
    return rows


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _figure(statistics: Statistics, name: str) -> Figure:
    """Clips by length, height, place and subject; below them classes, then joints."""
    named = len(statistics.classes) <= _MOST_NAMED
    letters = max(map(len, statistics.classes)) if named else 3
    heights = (2.4, 1.6 + 0.07 * letters, 0.9 + 0.15 * len(statistics.layout.joints))
    figure = Figure(figsize=(10.5, 0.3 + sum(heights)), layout="constrained", facecolor="white")
    figure.suptitle(name, fontsize=11, color=INK, x=0.01, ha="left", parse_math=False)
    of_clips, of_classes, of_joints = np.asarray(figure.subfigures(3, 1, height_ratios=heights), dtype=object)
    unit = "pixels" if statistics.layout.dimensions == 2 else "m"
    subjects = statistics.ids.get("subject")
    panels = of_clips.subplots(1, 3 if subjects is None else 4)
    _histogram(panels[0], statistics.frames, "frames", "clips")
    _histogram(panels[1], statistics.heights, f"height ({unit})", "bodies")
    _draw_places(panels[2], statistics, unit)
    if subjects is not None:
        values, counts = subjects
        _bars(panels[3], [str(v) for v in values.tolist()], counts, "clips by subject")
    labels, counts = statistics.ids.get("label", (np.zeros(0, int), np.zeros(0, int)))
    of_class = np.zeros(len(statistics.classes), int)
    of_class[labels] = counts
    _bars(of_classes.subplots(), list(statistics.classes), of_class, "clips by class")
    _draw_joints(of_joints.subplots(1, 3, sharey=True), statistics, unit)
    return figure


def _histogram(axes: Axes, values: np.ndarray, what: str, of: str) -> None:
    # A stray value a hundred times as large would leave one bar; the last bar takes what lies beyond.
    low, high = values.min(), np.percentile(values, 99.5)
    axes.hist(np.minimum(values, high), bins=30, range=(low, max(high, low + 1e-6)), color=_FILL)
    axes.axvline(np.median(values), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    _style(axes, f"{of} by {what}, median {np.median(values):.3g}")


def _draw_places(axes: Axes, statistics: Statistics, unit: str) -> None:
    """Where bodies begin: seen from above, or in the image."""
    x, y = statistics.places[:, 0], statistics.places[:, -1]
    axes.hexbin(x, y, gridsize=24, mincnt=1, bins="log", cmap="Blues", linewidths=0.1)
    axes.set_aspect("equal", adjustable="datalim")
    if statistics.layout.dimensions == 2:
        axes.yaxis.set_inverted(True)
    above = "from above" if statistics.layout.dimensions == 3 else "in the image"
    _style(axes, f"places of bodies, {above} ({unit})")


def _bars(axes: Axes, names: list[str], counts: np.ndarray, title: str) -> None:
    axes.bar(range(len(names)), counts, color=_FILL, width=0.75)
    axes.set_xlim(-0.6, len(names) - 0.4)
    _style(axes, title)
    if len(names) <= _MOST_NAMED:
        axes.tick_params(axis="x", length=0)
        axes.set_xticks(
            range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=6.5, parse_math=False
        )


def _draw_joints(panels: np.ndarray, statistics: Statistics, unit: str) -> None:
    """Bone lengths, speeds and missing joints, a row a joint; a bone stands in the row of its outer joint."""
    layout = statistics.layout
    outer = np.array([v for v, _ in layout.bones], dtype=int)
    rows = np.arange(len(layout.joints))
    colours = np.array(list(SIDES.values()))[sides(layout)]
    lengths = np.nan_to_num(statistics.bone_lengths)
    spread = np.nan_to_num(statistics.bone_variation) * lengths
    error = {"ecolor": QUIET, "elinewidth": 1}
    panels[0].barh(outer, lengths, xerr=spread, color=colours[outer], height=0.7, error_kw=error)
    _style(panels[0], f"bone lengths and their deviation ({unit})")
    panels[1].barh(rows, np.nan_to_num(statistics.speeds), color=colours, height=0.7)
    _style(panels[1], f"way from frame to frame ({unit})")
    panels[2].barh(rows, 100 * statistics.missing, color=colours, height=0.7)
    _style(panels[2], "missing joints (% of frames)" if statistics.missing.any() else "no joint is missing")
    panels[2].set_xlim(0, max(1, 100 * statistics.missing.max()))
    panels[0].set_xlim(left=0)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    panels[0].set_yticks(rows, layout.joints, fontsize=7, parse_math=False)
    for axes in panels:
        axes.tick_params(axis="y", length=0)


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=8, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(labelsize=7, colors=INK, color=QUIET)
