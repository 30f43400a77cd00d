"""The commands of `last data` that look at clips."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from last.cli_data import Positive, data, plain_name, reporter

if TYPE_CHECKING:
    from last.data.formats import Format
    from last.report.page import Table as PageTable
    from last.skeleton import Layout

DatasetOption = Annotated[
    str | None, Parameter(name="--dataset", help="What the files are: a packaged set, or the path of your own YAML.")
]
FormatOption = Annotated[str | None, Parameter(name="--format", help="Their format, where name and content mislead.")]
LayoutOption = Annotated[str | None, Parameter(name="--layout", help="Their layout: a built-in one, or a path.")]


def plain_table(*columns: str, words: Sequence[str]) -> Table:
    """An empty table without lines, of these columns; those of ``words`` are flush left, all others right."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, justify="left" if column in words else "right", overflow="fold")
    return shown


def print_json(content: object) -> None:
    """Print for programs, on standard output."""
    sys.stdout.write(json.dumps(content, indent=1) + "\n")


def formats_of(
    dataset: str | None, format: str | None, layout: str | None
) -> tuple[Sequence["Format"], "Layout | None"]:
    """The formats to look for, and the layout, as the options say.

    Raises:
        ConfigError: there is no such data set, format or layout, or two of them contradict each other.
    """
    from last.data.datasets import load_dataset
    from last.data.formats import FORMATS, Reading
    from last.setting_values import ConfigError
    from last.skeleton import load_layout

    if dataset is not None:
        if format is not None or layout is not None:
            raise ConfigError("--dataset says format and layout; leave out --format and --layout, or --dataset")
        known = load_dataset(plain_name(dataset))
        return [known.format], known.layout
    if format is not None and format not in FORMATS:
        raise ConfigError(f"no format '{format}'; there are: {', '.join(FORMATS)}")
    chosen = load_layout(layout) if layout else None
    names = [format] if format else list(FORMATS)
    return [FORMATS[name].with_reading(Reading(chosen)) for name in names], chosen


@data.command
def check(
    path: Path,
    /,
    *,
    dataset: DatasetOption = None,
    protocol: str | None = None,
    format: FormatOption = None,
    layout: LayoutOption = None,
) -> int:
    """Say every fault of a store or of raw files at once; exit code 1 where there are errors.

    Args:
        path: a store, a raw file, or a folder or zip of raw files.
        protocol: the only one to check of a store; all that it has where not given.
    """
    from last.data.check import check as find_faults

    formats, chosen = formats_of(dataset, format, layout)
    name = plain_name(dataset) if dataset else None
    with reporter.bar("checking") as advance:
        findings = find_faults(path, advance, formats=formats, layout=chosen, dataset=name, protocol=protocol)
    for finding in findings:
        reporter.answer(str(finding))
    if not findings:
        reporter.answer(f"{path}: nothing to complain about")
    return int(any(finding.severity == "error" for finding in findings))


@data.command
def show(
    path: Path,
    /,
    *,
    clip: str | None = None,
    out: Path | None = None,
    frames: Positive = 8,
    frame_rate: float = 30.0,
    dataset: DatasetOption = None,
    format: FormatOption = None,
    layout: LayoutOption = None,
) -> None:
    """Draw a clip as a picture (.png), an animation (.gif, .mp4), or a player that can be turned by hand (.html).

    Args:
        path: a raw file, a folder or zip of them, or a store.
        clip: name of the clip, or its number in a store; the first where not given.
        out: the picture, <clip name>.png in this folder where not given.
        frames: poses in a .png.
        frame_rate: frames a second of the recording.
    """
    from last.data.show import load_clip
    from last.files import file_name
    from last.report.pictures import draw_clip

    formats, given = formats_of(dataset, format, layout)
    chosen, of = load_clip(path, clip, formats=formats, layout=given)
    target = out or Path(f"{file_name(chosen.name)}.png")
    draw_clip(chosen, target, frames, of, frame_rate)
    reporter.answer(f"{target}: {chosen.frames} frames, {bodies_in_words(chosen.bodies)}")


@data.command
def info(store: Path, /, *, verify: bool = False) -> None:
    """Tell what a store holds, where it comes from, and how its protocols part it.

    Args:
        store: folder of the prepared clips.
        verify: compare all files with their checksums.
    """
    from last.data.info import describe
    from last.data.store import ClipStore

    for name, value in describe(ClipStore.open(store), verify=verify).items():
        reporter.answer(f"{name}: {value}")


@data.command
def stats(store: Path, /, *, out: Path | None = None) -> None:
    """Count what a store holds: lengths, bodies, classes, subjects, sizes, motion and gaps by joint.

    Args:
        store: folder of the prepared clips.
        out: also a picture (.png), or a page with the tables (.html).
    """
    from last.data.stats import statistics
    from last.data.store import ClipStore
    from last.report.data_pictures import require_picture, tables, write_statistics

    if out is not None:
        require_picture(out)  # before a long store is counted
    opened = ClipStore.open(store)
    with reporter.bar("counting") as advance:
        counted = statistics(opened, advance)
    for table in tables(counted):
        reporter.answer(for_terminal(table))
    if out is not None:
        write_statistics(counted, opened.path.name, out)
        reporter.answer(f"written to {out}")


def for_terminal(table: "PageTable") -> Table:
    """A page's table as it is printed: figures to the right, two decimals, a dash for what is unknown."""
    shown = Table(title=table.caption, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(table.header):
        holds_text = any(isinstance(row[i], str) for row in table.rows)
        shown.add_column(name, justify="left" if holds_text else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(
            *("-" if cell is None else f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row)
        )
    return shown


def bodies_in_words(count: int) -> str:
    """As in '1 body' and '2 bodies'."""
    return "1 body" if count == 1 else f"{count} bodies"
