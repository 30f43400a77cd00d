"""Small valid files of one's own, made of random numbers, and the table of an unknown skeleton."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from last.data.formats.format import Reading
from last.data.synthetic_table import JOINTS, write_csv
from last.skeleton import Layout

LAYOUT = Layout("trio", ("hip", "head", "hand"), (0, 0, 1), 0, 3)
CLASSES = ("wave", "point")
COLUMNS = {
    "clip": "clip",
    "frame": "frame",
    "body": "person",
    "label": "action",
    "subject": "subject",
    "part": "part",
    "confidence": "{joint}_c",
}
READINGS: dict[str, Reading] = {
    **{kind: Reading(LAYOUT, CLASSES, COLUMNS) for kind in ("csv", "tsv", "json", "parquet")},
    "npz": Reading(LAYOUT, CLASSES),
}


def rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Up to three clips of up to four frames and two bodies; now and then a coordinate is missing."""
    made = []
    for clip in range(rng.integers(1, 4)):
        told = {
            "clip": f"c{clip}",
            "action": CLASSES[clip % 2],
            "subject": f"S{clip + 1:02}",
            "part": "test" if clip == 1 else "train",
        }
        for frame in range(rng.integers(1, 5)):
            for person in range(rng.integers(1, 3)):
                numbers = {f"{joint}_{axis}": round(rng.normal(), 4) for joint in LAYOUT.joints for axis in "xyz"}
                if rng.random() < 0.3:
                    numbers["hand_x"] = None
                scores = {f"{joint}_c": round(rng.random(), 3) for joint in LAYOUT.joints}
                made.append({**told, "frame": frame, "person": person, **numbers, **scores})
    return made


def _text(folder: Path, rng: np.random.Generator, kind: str) -> Path:
    content = rows(rng)
    delimiter = "\t" if kind == "tsv" else str(rng.choice([",", ";"]))
    table = [list(content[0]), *([("" if x is None else x) for x in row.values()] for row in content)]
    lines = [delimiter.join(f'"{x}"' if rng.random() < 0.1 else str(x) for x in row) for row in table]
    path = folder / f"recordings.{kind}"
    path.write_text("\n".join(lines) + "\n", encoding=str(rng.choice(["utf-8", "utf-8-sig"])))
    return path


def _json(folder: Path, rng: np.random.Generator) -> Path:
    content: Any = rows(rng)
    if rng.random() < 0.5:
        shape = (2, 3, 3) if rng.random() < 0.5 else (2, 2, 3, 3)
        joints = rng.normal(size=shape).round(4)
        confidence = rng.random(shape[:-1]).round(3).tolist()
        clip = {"name": "c0", "action": "wave", "subject": 1, "joints": joints.tolist(), "confidence": confidence}
        content = {"clips": [clip, {**clip, "name": "c1", "action": 1}]}
    path = folder / "recordings.json"
    path.write_text(json.dumps(content))
    return path


def _npz(folder: Path, rng: np.random.Generator) -> Path:
    shape = (3, 3, 3) if rng.random() < 0.5 else (2, 2, 3, 3)
    arrays = {
        "joints": rng.normal(size=shape),
        "confidence": rng.random(shape[:-1]),
        "label": np.array(rng.choice(CLASSES)),
        "subject": np.array(3),
    }
    path = folder / "c0.npz"
    (np.savez_compressed if rng.random() < 0.5 else np.savez)(path, **arrays)
    return path


def _parquet(folder: Path, rng: np.random.Generator) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "recordings.parquet"
    pq.write_table(pa.Table.from_pylist(rows(rng)), path, compression=str(rng.choice(["none", "snappy", "zstd"])))
    return path


SAMPLES: dict[str, Callable[[Path, np.random.Generator], Path]] = {
    "csv": partial(_text, kind="csv"),
    "tsv": partial(_text, kind="tsv"),
    "json": _json,
    "npz": _npz,
    "parquet": _parquet,
}


def write_unknown_csv(path: Path, rng: np.random.Generator) -> list[str]:
    """Write the table of a skeleton whose joints are mere numbers, ``j07.X``; returns NTU's name of each, in order."""
    names = [str(name) for name in rng.permutation(list(JOINTS))]
    write_csv(path, rng, {name: f"j{i:02}" for i, name in enumerate(names)})
    header = path.read_text(encoding="utf-8").split("\n", 1)[0].split(",")
    return [names[int(column[1:3])] for column in header if column.endswith(".X")]


def bones_of(layout: Layout, names: Sequence[str]) -> set[frozenset[str]]:
    """The bones of a layout, under these names of its joints."""
    return {frozenset((names[v], names[parent])) for v, parent in layout.bones}
