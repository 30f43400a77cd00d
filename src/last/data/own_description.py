"""Writes down what a person's data seem to be: a description and, where none fits, a layout."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from last.config import available
from last.data.formats.columns import AXES, Columns, number_of
from last.data.own import OwnData, describe
from last.files import write_text
from last.setting_values import ConfigError

_PATTERNS = ("{joint}_{axis}", "{joint}.{axis}", "{joint}{axis}", "{axis}_{joint}", "{axis}{joint}")
_WIDTH = 110
# Words that YAML takes for something else than text, and what would end a plain scalar.
_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[A-Za-zÀ-ÿ_][\wÀ-ÿ ./-]*(?<! )", re.IGNORECASE)


def write_description(path: Path, name: str, folder: Path) -> list[str]:
    """Look at a person's table, or a folder of tables, and write ``<name>.yaml`` and perhaps ``<name>_layout.yaml``.

    Args:
        path: the table, folder or zip.
        name: of the data set.
        folder: for the files; none is overwritten.

    Returns:
        What was found, and what to look at, in sentences.

    Raises:
        ConfigError: a file of this name is there, or the name cannot be one.
        FormatError: no joints are to be seen in the data.
        WriteError: the disk is full or the folder cannot be written.
    """
    if not re.fullmatch(r"\w[\w-]*", name):
        raise ConfigError(f"'{name}' cannot name a data set, expected letters, digits, '_' and '-'")
    if name in available("data"):
        raise ConfigError(f"'{name}' is the name of a packaged data set, expected another, since stores lie under it")
    description, layout = folder / f"{name}.yaml", folder / f"{name}_layout.yaml"
    for file in (description, layout):
        if file.exists():
            raise ConfigError(f"{file} is there already and is not overwritten; delete it or choose another --name")
    data = describe(path, name)
    if not data.is_built_in:
        write_text(layout, _layout_text(data))
    protocol, notes = _protocol(data)
    write_text(description, _description_text(data, name, path, "" if data.is_built_in else layout.name, protocol))
    written = f"wrote {description}" if data.is_built_in else f"wrote {description} and {layout}"
    return [*_findings(data), *notes, f"{written}; read them, correct what is guessed wrong, then check the data"]


def _findings(data: OwnData) -> list[str]:
    """What is to be said of the data."""
    counted = [
        f"{len(data.clips):,} clips",
        f"{len(data.classes)} classes",
        f"{len(data.subjects)} subjects" if data.subjects else "no subjects",
        f"{len(data.joints)} joints in {data.layout.dimensions} dimensions",
    ]
    ids = [
        f"{key} in '{column}'" for key, column in data.columns.items() if isinstance(column, str) and key != "joints"
    ]
    sentences = [f"found {', '.join(counted)} ({', '.join(ids) or 'no column but coordinates'})", *data.reasons]
    if not data.classes:
        sentences.append("no column tells a clip's class; name it under columns.label and list the classes")
    elif any(not clip.label for clip in data.clips):
        sentences.append(f"{sum(not clip.label for clip in data.clips)} clips have no class and will be left out")
    if data.unused:
        sentences.append(f"not used: {', '.join(data.unused)[:300]}")
    return sentences


def _protocol(data: OwnData) -> tuple[tuple[str, list[str]], list[str]]:
    """Name and lines of the protocol, and what is to be said of it."""
    if {"train", "test"} <= {clip.part for clip in data.clips}:
        return ("given", []), ["the data's own column tells which clips train and which test"]
    if len(data.subjects) > 1:
        numbers = _subject_numbers(data)
        count = min(max(round(2 * len(numbers) / 3), 1), len(numbers) - 1)
        train = {subject for subject, _ in list(numbers.items())[:count]}
        lines = ["  xsub:  # people who train never test", f"    train: {{subject: {list(numbers.values())[:count]}}}"]
        notes = [f"protocol xsub: {count} subjects train, the other {len(numbers) - count} test"]
        known = [clip for clip in data.clips if clip.subject]
        if unknown := len(data.clips) - len(known):
            notes.append(f"{unknown:,} clips have no subject, so they neither train nor test")
        for part, ours in (("trains", True), ("tests", False)):
            seen = {clip.label for clip in known if (clip.subject in train) == ours}
            if missing := [label for label in data.classes if label not in seen]:
                notes.append(f"no clip of {', '.join(missing)} {part}; choose other subjects under protocols")
        return ("xsub", lines), notes
    lines = [
        "  holdout:  # a fifth of each class tests; clips of one person on both sides make its result too hopeful",
        "    train: {fraction: 0.8}  # of each class; all others test",
    ]
    note = "a fifth of each class tests; clips of one person may be on both sides, which makes the result too hopeful"
    return ("holdout", lines), [f"protocol holdout: {note}"]


def _subject_numbers(data: OwnData) -> Mapping[str, int]:
    """The number that each subject gets, in order."""
    columns = Columns.of(data.columns)
    return {word: number_of(word, "subject", columns, "subjects") for word in data.subjects}


def _description_text(data: OwnData, name: str, path: Path, layout: str, protocol: tuple[str, Sequence[str]]) -> str:
    lines = [
        f"# {name}: what 'last data new' guessed of {_printable(path.name)}. "
        "Correct what is wrong; nothing else knows it.",
        "about:",
        f"  title: {_scalar(f'{name} ({len(data.joints)} joints, {len(data.classes)} classes)')}",
        f"  format: {data.format}",
        f"  layout: {layout or data.layout.name}",
        f"  classes: {_flow(data.classes or ['unknown'], 4)}  # as labels name them",
        "  columns:  # which column holds what",
        *_column_lines(data),
        f"recipe: {'pixels' if data.layout.dimensions == 2 else 'few_clips'}",
        "data:",
        f"  name: {_scalar(name)}",
        f"  protocol: {protocol[0]}",
        f"  max_bodies: {data.bodies}  # in the clip that has most",
    ]
    rules = ["protocols:", *protocol[1]] if protocol[1] else []
    return "\n".join([*lines, *rules]) + "\n"


def _column_lines(data: OwnData) -> list[str]:
    lines = []
    axes = AXES[: data.layout.dimensions]
    for key, value in data.columns.items():
        if isinstance(value, str):
            lines.append(f"    {key}: {_scalar(value)}")
        elif key in {"joints", "confidence"} and (pattern := _pattern(value, data.layout.joints, key, axes)):
            lines.append(f'    {key}: "{pattern}"')
        elif key == "joints" and len(value) > len(axes):
            rows = [", ".join(map(_scalar, value[i : i + len(axes)])) for i in range(0, len(value), len(axes))]
            lines += [
                f"    {key}: [  # a joint a line, in the layout's order",
                *(f"      {row}," for row in rows),
                "    ]",
            ]
        else:
            lines.append(f"    {key}: {_flow(value, 6)}")
    return lines


def _pattern(columns: Sequence[str], joints: Sequence[str], key: str, axes: str) -> str:
    """The pattern that makes these columns of the layout's joints; empty where none does."""
    patterns = _PATTERNS if key == "joints" else ("{joint}_c", "{joint}_conf", "{joint}_score", "{joint}_confidence")
    for pattern in patterns:
        names = [
            pattern.replace("{joint}", joint).replace("{axis}", axis)
            for joint in joints
            for axis in (axes if key == "joints" else " ")
        ]
        if names == list(columns):
            return pattern
    return ""


def _layout_text(data: OwnData) -> str:
    layout = data.layout
    lines = [
        *(
            f"# {line}"
            for reason in data.reasons
            for line in textwrap.wrap(_printable(f"{reason[0].upper()}{reason[1:]}."), _WIDTH)
        ),
        f"name: {_scalar(layout.name)}",
        f"dimensions: {layout.dimensions}",
        f"y_down: {str(layout.y_down).lower()}",
        f"centre: {_scalar(layout.joints[layout.centre])}  # the middle of the tree",
        "joints:  # joint: its parent, in the order of the data; the root is its own parent",
        *(
            f"  {_scalar(joint)}: {_scalar(layout.joints[parent])}"
            for joint, parent in zip(layout.joints, layout.parents, strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"


def _flow(values: Sequence[str], indent: int) -> str:
    """A list, over as many lines as it needs."""
    lines: list[str] = []
    for scalar in map(_scalar, values):
        if lines and len(lines[-1]) + len(scalar) < _WIDTH:
            lines[-1] += f", {scalar}"
        else:  # a line's end within a scalar would be a blank of it
            lines.append(scalar)
    return "[" + (",\n" + " " * indent).join(lines) + "]"


def _scalar(text: str) -> str:
    """A text as YAML reads it again."""
    return text if _PLAIN.fullmatch(text) else _printable(json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    """A text with escapes for what YAML refuses or takes for the end of a line, even in comments."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
