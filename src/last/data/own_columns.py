"""Which column of a table holds what, guessed from names and content."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from last.data.formats.columns import AXES

_KNOWN = {
    "clip": (
        *("clip", "video", "sequence", "seq", "sample", "recording", "file", "trial", "session", "toma", "grabacion"),
        *("secuencia", "archivo", "muestra", "aufnahme", "datei", "prise", "enregistrement"),
    ),
    "frame": ("frame", "image", "fotograma", "cuadro", "bild", "trame"),
    "time": ("time", "timestamp", "t", "timems", "times", "seconds", "tiempo", "zeit", "zeitms", "temps"),
    "label": (
        *("label", "action", "activity", "gesture", "class", "category", "target", "y", "accion", "gesto", "etiqueta"),
        *("clase", "actividad", "movimiento", "uebung", "aktion", "klasse", "geste", "classe"),
    ),
    "subject": (
        *("subject", "performer", "actor", "participant", "user", "volunteer", "patient", "sujeto", "participante"),
        *("usuario", "persona", "proband", "sujet"),
    ),
    "body": ("body", "person", "track", "skeleton", "player", "cuerpo", "corps"),
    "camera": ("camera", "cam", "view", "camara", "vista", "kamera"),
    "setup": ("setup",),
    "replication": ("replication", "repetition", "rep", "instance", "repeticion", "wiederholung"),
    "part": ("part", "split", "subset", "partition"),
    "joint": ("joint", "keypoint", "landmark", "marker", "bodypart", "articulacion", "gelenk"),
}
_ENDINGS = ("", "id", "name", "number", "no", "nr", "num", "index", "idx", "label")
_CONFIDENCES = ("c", "conf", "confidence", "score", "prob", "likelihood", "visibility", "vis", "v", "p")
_PART = "|".join((*AXES, *_CONFIDENCES))
# head_x, Head.X; x_head; HeadX; x0; joint0x
_STYLES = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        (rf"(?P<joint>.+?)[\W_]+(?P<part>{_PART})", re.IGNORECASE),
        (rf"(?P<part>{_PART})[\W_]+(?P<joint>.+)", re.IGNORECASE),
        (
            r"(?P<joint>.+?)(?P<part>X|Y|Z|C|Conf|Confidence|Score|Visibility)",
            re.UNICODE,
        ),
        (rf"(?P<part>{_PART})(?P<joint>\d+)", re.IGNORECASE),
        (rf"(?P<joint>.*\d)(?P<part>{_PART})", re.IGNORECASE),
    )
)


@dataclass(frozen=True)
class Guess:
    """What a table's columns seem to hold.

    Attributes:
        columns: as a description has them.
        joints: names in the file.
        dimensions: 2 or 3.
        unused: columns that hold none of it.
    """

    columns: Mapping[str, str | list[str]]
    joints: tuple[str, ...]
    dimensions: int
    unused: tuple[str, ...]


def guess_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Guess | None:
    """Guess what the columns hold; None where no joints are to be seen in their names.

    Args:
        header: names of the columns.
        rows: the first rows, enough of them to hold more than one clip.
    """
    header = [name.strip() for name in header]
    column = {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}
    found = _long_joints(header, column) or _wide_joints(header)
    if found is None:
        return None
    columns, joints, dimensions, used = found
    ids = {name: values for name, values in column.items() if name not in used}
    columns = {**_ids(ids), **columns}
    taken = {name for name in columns.values() if isinstance(name, str)}
    return Guess(columns, joints, dimensions, tuple(name for name in ids if name not in taken))


Joints = tuple[dict[str, str | list[str]], tuple[str, ...], int, set[str]]


def _wide_joints(header: Sequence[str]) -> Joints | None:
    best: Joints | None = None
    for style in _STYLES:
        parts: dict[str, dict[str, str]] = {}
        for name in header:
            if match := style.fullmatch(name):
                part = match["part"].lower()
                parts.setdefault(match["joint"], {})[part if part in AXES else "confidence"] = name
        dimensions = 3 if any({"x", "y", "z"} <= of.keys() for of in parts.values()) else 2
        axes = AXES[:dimensions]
        whole = {joint: of for joint, of in parts.items() if of.keys() >= set(axes)}
        if len(whole) < max(2, len(best[1]) + 1 if best else 2):
            continue
        joints: dict[str, str | list[str]] = {"joints": [of[axis] for of in whole.values() for axis in axes]}
        if all("confidence" in of for of in whole.values()):
            joints["confidence"] = [of["confidence"] for of in whole.values()]
        used = {name for of in whole.values() for name in of.values()}
        best = joints, tuple(whole), dimensions, used
    return best


def _long_joints(header: Sequence[str], column: Mapping[str, Sequence[str]]) -> Joints | None:
    names = {name.lower(): name for name in header}
    joint = next((name for name in header if _is_called(name, "joint")), None)
    if joint is None or not {"x", "y"} <= names.keys():
        return None
    axes = [names[axis] for axis in AXES if axis in names]
    values = tuple(dict.fromkeys(column[joint]))
    columns: dict[str, str | list[str]] = {"joint": joint, "joint_names": list(values), "joints": axes}
    confidence = next((names[name] for name in _CONFIDENCES if name in names), None)
    if confidence:
        columns["confidence"] = confidence
    return columns, values, len(axes), {joint, *axes, *([confidence] if confidence else [])}


def _ids(column: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The columns that tell clips, frames, labels and people apart, by their names, else by their content."""
    found = {}
    for key in _KNOWN:
        name = next((name for name in column if name not in found.values() and _is_called(name, key)), None)
        if name and key != "joint":
            found[key] = name
    if "frame" not in found:
        _add(found, "frame", column, lambda values: len(set(values)) > 1 and _counts_up(values))
    # Of several bodies, or joints, each has a row in the same frame.
    if "frame" in found and not _counts_up(column[found["frame"]], may_repeat=True):
        found.setdefault("time", found["frame"])
        del found["frame"]
    if "frame" in found:
        found.pop("time", None)
    order = found.get("frame") or found.get("time")
    starts = _starts(column[order]) if order else []
    if "clip" not in found and starts:
        _add(found, "clip", column, lambda values: _changes(values) == starts)
    clips = column[found["clip"]] if "clip" in found else None
    if "label" not in found and clips:
        count = len(set(clips))
        _add(found, "label", column, lambda values: _names_classes(values, clips, count))
    if "body" in found and "subject" not in found and _is_constant_within(column[found["body"]], clips):
        found["subject"] = found.pop("body")
    return found


def _is_called(name: str, key: str) -> bool:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[\W_]+", "", plain)
    return any(plain == known + ending for known in _KNOWN[key] for ending in _ENDINGS)


def _add(
    found: dict[str, str], key: str, column: Mapping[str, Sequence[str]], fits: Callable[[Sequence[str]], bool]
) -> None:
    name = next((name for name, values in column.items() if name not in found.values() and fits(values)), None)
    if name:
        found[key] = name


def _counts_up(values: Sequence[str], may_repeat: bool = False) -> bool:
    """Whether they are frame numbers: nearly each is one more than the one before, or the same, or begins anew."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return False
    steps = [later - earlier for earlier, later in pairwise(numbers)]
    forward = [step for step in steps if step > 0 or (step == 0 and not may_repeat)]
    return all(number % 1 == 0 for number in numbers) and sum(step == 1 for step in forward) >= 0.8 * len(forward)


def _starts(values: Sequence[str]) -> list[int]:
    """Where frame numbers or times begin anew."""
    try:
        numbers = [float(value or "nan") for value in values]
    except ValueError:
        return []
    return [i for i, (earlier, later) in enumerate(pairwise(numbers), 1) if later < earlier]


def _changes(values: Sequence[str]) -> list[int]:
    return [i for i, (earlier, later) in enumerate(pairwise(values), 1) if later != earlier]


def _names_classes(values: Sequence[str], clips: Sequence[str], count: int) -> bool:
    is_text = not any(value.replace(".", "").replace("-", "").isdigit() for value in values)
    return is_text and 1 < len(set(values)) < count and _is_constant_within(values, clips)


def _is_constant_within(values: Sequence[str], clips: Sequence[str] | None) -> bool:
    """Whether each clip has one value, and not all the same."""
    if clips is None or len(set(values)) < 2:
        return False
    of_clip: dict[str, str] = {}
    return all(of_clip.setdefault(clip, value) == value for clip, value in zip(clips, values, strict=True))
