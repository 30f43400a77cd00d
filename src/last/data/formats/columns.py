"""What a person says of a table: which column holds what, the ``columns`` of a data set's description.

========================================  ==============================================================================
``clip``                                  name of the clip; absent: each file is one clip, named after the file
``frame``                                 number of the frame, a gap is missing frames; absent: rows in order
``time``                                  instead of ``frame``: any growing number, which orders the rows
``body``                                  which of several bodies; absent: there is one
``label``                                 a class's name or, where no name is a number, its number from 0; absent: the
                                          folder's name
``subject camera setup replication``      a number, or a word that ends in one; absent: unknown
``subjects cameras setups replications``  the words of such a column, which are numbered from 0 in this order
``part``                                  ``train`` or ``test``, as the data's own list has it; absent: no list
``joints``                                names of the coordinates, in ``{joint}`` and ``{axis}``, or a list of V * C
``confidence``                            names of the confidences from 0 to 1, in ``{joint}``, or a list of V
``joint``                                 name of the joint, in tables of a joint a row; ``joints`` are then C columns
``joint_names``                           the names in that column, in the layout's order; absent: the layout's
========================================  ==============================================================================

In files of whole clips (``.npz``, JSON's ``clips``) the same keys name arrays and entries, and each is its own default.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from last.data.clip import UNKNOWN, FormatError
from last.data.formats.format import Reading
from last.data.formats.source import Source
from last.setting_values import ConfigError
from last.skeleton import Layout

AXES = "xyz"
NUMBERED = ("subject", "camera", "setup", "replication")
TOLD = ("label", *NUMBERED, "part")  # of what and whom a clip shows
ROW_IDS = ("clip", "body", *TOLD, "joint")
MAX_VALUES = 1 << 25  # coordinates of a clip

_ROW_ORDER = ("clip", "frame", "time", "body")
_MAX_ID = 2**31 - 1  # a store keeps ids in 32 bits
_LAST_DIGITS = re.compile(r"[0-9]{1,9}$")


class UndescribedError(FormatError):
    """A person's own file without a description."""


@dataclass(frozen=True)
class Columns:
    """The keys above; an empty value is an absent one.

    Attributes:
        tells: which of ``TOLD`` are asked of a file.
    """

    tells: ClassVar[tuple[str, ...]] = TOLD
    clip: str = ""
    frame: str = ""
    time: str = ""
    body: str = ""
    label: str = ""
    subject: str = ""
    camera: str = ""
    setup: str = ""
    replication: str = ""
    part: str = ""
    joint: str = ""
    joints: str | tuple[str, ...] = ""
    confidence: str | tuple[str, ...] = ""
    joint_names: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    setups: tuple[str, ...] = ()
    replications: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Columns":
        """The columns as a configuration gives them.

        Raises:
            ConfigError: an unknown key, or a value that is no name or list of names.
        """
        lists = {f.name for f in fields(cls) if f.default == ()}
        values: dict[str, Any] = {}
        for key, value in given.items():
            if key not in cls.__dataclass_fields__:
                raise ConfigError(f"columns has the unknown key '{key}'; it has {', '.join(cls.__dataclass_fields__)}")
            is_list = isinstance(value, list | tuple) and key in {*lists, "joints", "confidence"}
            if not (is_list or (isinstance(value, str | int) and key not in lists)):
                expected = "a list of names" if key in lists else "the name of a column"
                raise ConfigError(f"columns.{key} is {value!r}, expected {expected}")
            values[key] = tuple(map(str, value)) if is_list else str(value)
        return cls(**values)

    def entry(self, key: str) -> str:
        """Name of an array or entry in files of whole clips."""
        return getattr(self, key) or key

    def found_in(self, header: Sequence[str]) -> "Columns":
        """The columns to look for in a table with this header: all, so that what is missing is told."""
        return self


class JointColumns(Columns):
    """Columns of files of which the joints alone are asked; those that order rows are used where a table has them."""

    tells = ()

    def found_in(self, header: Sequence[str]) -> "Columns":
        """The columns to look for: those of clip, frame, time and body that the table has, and those of the joints."""
        present = {name.strip() for name in header}
        absent = (key for key in _ROW_ORDER if getattr(self, key) not in present)
        return replace(self, **dict.fromkeys((*TOLD, *absent), ""))


@dataclass(frozen=True)
class Plan:
    """Where in a table's rows what is wanted of them stands.

    Attributes:
        texts: position of each id that the table has, by its key.
        order: position of the frame's number or time; None where rows are in order.
        coordinates: positions of the coordinates, joint by joint; of one joint where each has its own row.
        confidences: positions of the joints' confidences; empty where there are none.
    """

    texts: Mapping[str, int]
    order: int | None
    coordinates: tuple[int, ...]
    confidences: tuple[int, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Positions of all numbers: order first, confidences last."""
        return (*(() if self.order is None else (self.order,)), *self.coordinates, *self.confidences)


def described(reading: Reading, source: Source) -> tuple[Columns, Layout]:
    """Columns and layout of a person's table.

    Raises:
        ConfigError: the columns are no such mapping.
        UndescribedError: nobody says which layout its joints have.
    """
    if reading.layout is None:
        raise UndescribedError(f"{source}: {no_description(source.path)}")
    return (JointColumns if reading.joints_alone else Columns).of(reading.columns), reading.layout


def no_description(path: Path) -> str:
    """What a table without a description lacks, and what to do about it, or about a folder or zip of such."""
    return (
        f"tables do not say what their columns and joints are; 'last data new {path} --name NAME' writes a "
        "description, NAME.yaml (docs/09_your_own_data.md shows one of .npz), and --dataset NAME.yaml names it"
    )


def plan(columns: Columns, layout: Layout, header: Sequence[str], source: Source) -> Plan:
    """Find the columns in a table's header.

    Raises:
        FormatError: one is not there, is there twice, or a list of columns has not the layout's length.
    """
    header = [name.strip() for name in header]
    axes = AXES[: layout.dimensions]
    joints = ("",) if columns.joint else layout.joints
    pattern = columns.joints or ("{axis}" if columns.joint else "{joint}_{axis}")
    coordinates = _names(pattern, [(joint, axis) for joint in joints for axis in axes], "joints", layout, source)
    confidences = _names(columns.confidence, [(joint, "") for joint in joints], "confidence", layout, source)
    ids = {key: name for key in ROW_IDS if (name := getattr(columns, key))}
    order = columns.frame or columns.time
    wanted = [*ids.values(), *coordinates, *confidences, *([order] if order else [])]
    position = {name: i for i, name in enumerate(header)}
    missing = [name for name in wanted if name not in position]
    if missing:
        raise FormatError(
            f"{source} has no column {_told(missing)}; its columns are {_told(header)}. Layout '{layout.name}' has "
            f"{len(layout.joints)} joints of {layout.dimensions} coordinates"
        )
    twice = [name for name in wanted if header.count(name) > 1]
    if twice:
        raise FormatError(f"{source} has more than one column {_told(twice)}")
    return Plan(
        {key: position[name] for key, name in ids.items()},
        position[order] if order else None,
        tuple(position[name] for name in coordinates),
        tuple(position[name] for name in confidences),
    )


def _names(
    given: str | tuple[str, ...], wanted: Sequence[tuple[str, str]], key: str, layout: Layout, source: Source
) -> tuple[str, ...]:
    if not given:
        return ()
    names = given if isinstance(given, tuple) else ()
    if isinstance(given, str):
        names = tuple(given.replace("{joint}", joint).replace("{axis}", axis) for joint, axis in wanted)
    if len(names) != len(wanted):
        raise FormatError(
            f"{source} is described by {len(names)} columns of {key}, but layout '{layout.name}' has "
            f"{len(layout.joints)} joints of {layout.dimensions} coordinates, expected {len(wanted)}"
        )
    return names


def _told(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(repr(name[:40]) for name in names[:6]) + more


def facts(texts: Mapping[str, str], columns: Columns, classes: Sequence[str], source: Source, place: str = "") -> dict:
    """Label, ids and parts of a clip, as :class:`Clip` wants them.

    Args:
        texts: what the table or file says, by key.
        columns: of the table.
        classes: names of the labels.
        source: the file; its folder tells the label where nothing else does.
        place: within the file, for errors.

    Raises:
        FormatError: a text that is no class, number or part.
    """
    where = f"{source}{place}"
    known: dict[str, Any] = {key: number_of(texts.get(key, ""), key, columns, where) for key in NUMBERED}
    folder = source.file.parent.name
    known["label"] = _label(texts["label"], classes, where) if "label" in texts else _of_folder(folder, classes)
    part = texts.get("part", "")
    if part not in {"", "train", "test"}:
        raise FormatError(f"{where}: the part is {part[:40]!r}, expected 'train' or 'test'")
    known["parts"] = (f"given/{part}",) if part else ()
    return known


def require_distinct(words: Sequence[str], key: str, columns: Columns, source: Source) -> None:
    """Refuse words that would get the same number, such as subjects ``a1`` and ``b1``, or ``3`` and ``S3``.

    Raises:
        FormatError: two do; names them.
    """
    word_of: dict[int, str] = {}
    for word in words:
        number = number_of(word, key, columns, str(source))
        same = str(number) if _is_whole(word) else word  # 3.0 is 3
        if word_of.setdefault(number, same) != same:
            raise FormatError(
                f"{source}: the {key}s {word_of[number][:40]!r} and {word[:40]!r} end in the same number; list them "
                f"under columns.{key}s"
            )


def _label(text: str, classes: Sequence[str], where: str) -> int:
    if not text:
        return UNKNOWN
    if text in classes:
        return list(classes).index(text)
    numbered = {float(name): label for label, name in enumerate(classes) if _is_whole(name)}
    if _is_whole(text):
        # Where names are numbers, a number is a name, which a table with gaps writes 3.0, and no place in their list.
        label = numbered.get(float(text)) if numbered else int(float(text))
        if label is not None:
            return label
    expected = "one" if numbered else "a number from 0 or one"
    raise FormatError(f"{where}: the label is {text[:40]!r}, expected {expected} of {_told(classes)}")


def _of_folder(name: str, classes: Sequence[str]) -> int:
    return list(classes).index(name) if name in classes else UNKNOWN


def number_of(text: str, key: str, columns: Columns, where: str) -> int:
    """The number of a subject, camera, setup or replication.

    Raises:
        FormatError: it is none and does not end in one, or is not among the words that the columns list.
    """
    if not text:
        return UNKNOWN
    words = getattr(columns, f"{key}s")
    if words:
        if text in words:
            return words.index(text)
        raise FormatError(f"{where}: the {key} {text[:40]!r} is not among columns.{key}s, {_told(words)}")
    if _is_whole(text):
        return int(float(text))
    digits = _LAST_DIGITS.search(text)
    if not digits or text.lstrip("-").replace(".", "").isdigit():
        raise FormatError(
            f"{where}: the {key} {text[:40]!r} is no whole number from 0 and does not end in one; list the {key}s "
            f"under columns.{key}s"
        )
    return int(digits[0])


def _is_whole(text: str) -> bool:
    """Whether a text is an id; tables with gaps write 3.0 for 3."""
    try:
        value = float(text)
    except ValueError:
        return False
    return 0 <= value <= _MAX_ID and value.is_integer() and "_" not in text  # Python reads 1_0 as 10
