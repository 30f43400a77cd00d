"""What data that nobody has described seem to be: ``last data new``.

Shapes: T frames, V joints, C coordinates.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from last.data import layouts
from last.data.clip import UNKNOWN, FormatError
from last.data.formats import csv_table, json_table, parquet_table
from last.data.formats.columns import NUMBERED, Columns, require_distinct
from last.data.formats.source import Source, files_in, list_zip
from last.data.formats.table import Table
from last.data.own_columns import Guess, guess_columns
from last.data.own_layout import own_layout
from last.skeleton import Layout

Head = Callable[[Source, int], tuple[list[str], list[list[str]]]]
Load = Callable[[Source, Columns, Layout], Table]

_TABLES: Mapping[str, tuple[Head, Load]] = {
    "csv": (csv_table.head, csv_table.load),
    "tsv": (csv_table.head, csv_table.load),
    "json": (json_table.head, json_table.load),
    "parquet": (parquet_table.head, parquet_table.load),
}
_ROWS = 20_000  # looked at to tell what the columns hold: more than one clip, and of more than one class
_SAMPLES = 60  # clips looked at to tell how the joints hang together
_SAMPLE_FRAMES = 200  # of each
_MOST_DISORDER = 0.6  # of a built-in layout that fits; joints in another order have 1 and more


@dataclass(frozen=True)
class OwnClip:
    """What a table tells of one clip, as it stands there; empty where it says nothing."""

    label: str
    subject: str
    part: str


@dataclass(frozen=True)
class OwnData:
    """What a person's files seem to hold.

    Attributes:
        format: of the files.
        columns: which column holds what, as a description has it.
        unused: columns that hold none of it.
        joints: names in the files, in the layout's order.
        layout: that fits the joints, or was made for them.
        is_built_in: whether LAST knows the layout by its name.
        reasons: why this layout, in sentences.
        classes: in order of their names.
        clips: all of them.
        bodies: in the clip that has most.
    """

    format: str
    columns: Mapping[str, str | list[str]]
    unused: tuple[str, ...]
    joints: tuple[str, ...]
    layout: Layout
    is_built_in: bool
    reasons: tuple[str, ...]
    classes: tuple[str, ...]
    clips: tuple[OwnClip, ...]
    bodies: int

    @property
    def subjects(self) -> tuple[str, ...]:
        """Those who perform, in order."""
        return _in_order({clip.subject for clip in self.clips} - {""})


def describe(path: Path, name: str = "own") -> OwnData:
    """Look at a table, or a folder or zip of tables of one kind, and guess what it holds.

    Args:
        path: of ``.csv``, ``.tsv``, ``.json`` or ``.parquet`` files.
        name: for a layout, if one has to be made.

    Raises:
        FormatError: there is no such table, it is damaged, or no joints are to be seen in its columns.
    """
    kind, sources = _files(path)
    head, load = _TABLES[kind]
    header, rows = head(sources[0], _ROWS)
    guess = guess_columns(header, rows)
    if guess is None:
        raise FormatError(
            f"no joints are to be seen in the columns of {sources[0]} ({', '.join(header)[:200] or 'it has none'}), "
            "expected names such as head_x, head_y; describe it by hand, as docs/09_your_own_data.md shows"
        )
    unnamed = Layout("unnamed", guess.joints, (0,) * len(guess.joints), 0, guess.dimensions)
    columns = Columns.of(guess.columns)
    tables = [load(source, columns, unnamed) for source in sources]
    clips = _clips(tables)
    samples = _samples(tables)
    layout, order, reasons = _layout(name, guess, samples)
    if order:
        guess = _reordered(guess, order)
    return OwnData(
        kind,
        {**guess.columns, **_words(tables, columns)},
        guess.unused,
        guess.joints,
        layout,
        bool(order),
        reasons,
        _in_order({clip.label for clip in clips} - {""}),
        tuple(clips),
        max(table.bodies(name) for table in tables for name in table.rows),
    )


def _files(path: Path) -> tuple[str, list[Source]]:
    """The tables of the kind that there are most of, in order."""
    suffixes = tuple(f".{kind}" for kind in _TABLES)
    if not path.exists():
        raise FormatError(f"{path} does not exist, expected a table or a folder of tables ({', '.join(suffixes)})")
    if path.suffix.lower() == ".zip":
        found = [source for source, _, _ in list_zip(path, suffixes)]
    else:
        files = files_in(path) if path.is_dir() else [path]
        found = [Source(file) for file in files if file.name.lower().endswith(suffixes) and file.is_file()]
    if not found:
        raise FormatError(f"{path} holds no table that could be described, expected {', '.join(suffixes)}")
    kinds = Counter(source.file.suffix.lower() for source in found)
    suffix = max(kinds, key=lambda suffix: kinds[suffix])
    return suffix[1:], sorted(source for source in found if source.file.suffix.lower() == suffix)


def _clips(tables: Sequence[Table]) -> list[OwnClip]:
    folders = {table.source.file.parent.name for table in tables}
    clips = []
    for table in tables:
        # Where no column tells the class, folders do, if there are several.
        folder = table.source.file.parent.name if len(folders) > 1 else ""
        for name in table.rows:
            told = table.told(name)
            clips.append(OwnClip(told.get("label", folder), told.get("subject", ""), told.get("part", "")))
    return clips


def _samples(tables: Sequence[Table]) -> list[np.ndarray]:
    """Some clips of one body each, (T, V, C), NaN where missing."""
    clips = [(table, name) for table in tables for name in table.rows]
    samples = []
    for table, name in clips[:: -(-len(clips) // _SAMPLES)]:
        joints = table.joints(name)[0]
        joints = joints[:: -(-len(joints) // _SAMPLE_FRAMES)]
        joints[(joints == 0).all(axis=-1)] = np.nan
        samples += [joints[:, m] for m in range(joints.shape[1])]
    return samples


def _layout(name: str, guess: Guess, samples: Sequence[np.ndarray]) -> tuple[Layout, tuple[int, ...], tuple[str, ...]]:
    """The layout, why it is this one, and between them for each joint of a built-in one its place in the table."""
    made = own_layout(name, guess.joints, samples)
    frames = np.concatenate(samples)
    frames = frames[np.isfinite(frames).all(axis=-1).any(axis=-1)]
    suggested = layouts.suggest(frames, made.layout.joints) if len(frames) else []
    for each in suggested:
        if each.disorder < _MOST_DISORDER and each.upside_down < 0.5 and not each.missided:
            return each.layout, each.order, (f"the joints fit the layout {each}",)
    others = f"; the nearest is {suggested[0]}" if suggested else ""
    reasons = [
        f"no built-in layout fits {len(guess.joints)} such joints in {guess.dimensions} dimensions{others}",
        "bones join the joints whose distance changes least; correct them in the layout's file if one is wrong",
        made.upright,
    ]
    if not made.is_sided:
        reasons.append(
            "no joint is named left or right, so clips cannot be mirrored; name pairs left_... and right_... for that"
        )
    return made.layout, (), tuple(reasons)


def _reordered(guess: Guess, order: Sequence[int]) -> Guess:
    """The guess with its joints in another order."""

    def moved(value: str | list[str], size: int) -> str | list[str]:
        """Names of ``size`` columns a joint in that order; others, such as axes in a table of a joint a row, stay."""
        is_by_joint = isinstance(value, list) and len(value) == size * len(order)
        return [value[v * size + i] for v in order for i in range(size)] if is_by_joint else value

    sizes = {"joints": guess.dimensions, "confidence": 1, "joint_names": 1}
    columns = {key: moved(value, sizes[key]) if key in sizes else value for key, value in guess.columns.items()}
    return replace(guess, columns=columns, joints=tuple(guess.joints[v] for v in order))


def _words(tables: Sequence[Table], columns: Columns) -> dict[str, list[str]]:
    """The lists that number subjects, cameras and the like, where their own names do not."""
    lists = {}
    for key in NUMBERED:
        words = {word for table in tables for word in table.values(key)} - {""}
        try:
            require_distinct(sorted(words), key, columns, tables[0].source)
        except FormatError:
            lists[f"{key}s"] = list(_in_order(words))
    return lists


def _in_order(words: set[str]) -> tuple[str, ...]:
    """Numbers by size, then words by the alphabet."""

    def key(word: str) -> tuple[bool, float, str]:
        try:
            return False, float(word), word
        except ValueError:
            return True, UNKNOWN, word

    return tuple(sorted(words, key=key))
