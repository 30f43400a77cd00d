"""Recordings of the embedded body as a table that nobody has described: for trying LAST on data of one's own.

Fifteen of its joints under Spanish names and in no order, four actions, six people; gaps are empty cells.
"""

import csv
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

from last.data import synthetic
from last.data.synthetic_body import LAYOUT
from last.files import write_atomically

ACTIONS = {
    "raise an arm": "levantar el brazo",
    "sit down": "sentarse",
    "wave a hand": "saludar",
    "walk forwards": "caminar",
}
SUBJECTS = ("Ana", "Bruno", "Carla", "Diego", "Elena", "Felipe")
JOINTS = {
    "spine_base": "Pelvis", "spine_shoulder": "Pecho", "head": "Cabeza",
    "left_shoulder": "HombroIzq", "left_elbow": "CodoIzq", "left_wrist": "ManoIzq",
    "right_shoulder": "HombroDer", "right_elbow": "CodoDer", "right_wrist": "ManoDer",
    "left_hip": "CaderaIzq", "left_knee": "RodillaIzq", "left_ankle": "PieIzq",
    "right_hip": "CaderaDer", "right_knee": "RodillaDer", "right_ankle": "PieDer",
}  # fmt: skip
CLIPS = len(ACTIONS) * len(SUBJECTS) * 4  # from two sides, twice


def write_csv(path: Path, rng: np.random.Generator, joints: Mapping[str, str] = JOINTS) -> None:
    """Write the table, a frame a row, 3 MB.

    Args:
        path: of the file; replaced where it is there.
        rng: shuffles the joints.
        joints: name in the table of each of NTU's joints that it holds.

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """
    order = [str(joint) for joint in rng.permutation(list(joints))]
    clips = {name[4:]: name for name in synthetic.clip_names()}  # a subject has one setup, with which names begin
    indices = [LAYOUT.joints.index(joint) for joint in order]
    header = [f"{joints[joint]}.{axis}" for joint in order for axis in "XYZ"]

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["toma", "cuadro", "gesto", "sujeto", *header])
            takes = product(range(1, len(SUBJECTS) + 1), ACTIONS, (1, 2), synthetic.REPLICATIONS)
            for take, (subject, action, camera, replication) in enumerate(takes, 1):
                number = 1 + synthetic.CLASSES.index(action)
                clip = synthetic.make_clip(clips[f"C{camera:03}P{subject:03}R{replication:03}A{number:03}"])
                for frame, numbers in enumerate(clip.joints[:, 0, indices].reshape(clip.frames, -1).tolist(), 1):
                    cells = ["" if x != x else f"{x:.4f}" for x in numbers]
                    table.writerow([f"toma{take:03d}", frame, ACTIONS[action], SUBJECTS[subject - 1], *cells])

    write_atomically(path, write)
