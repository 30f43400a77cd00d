"""Small valid files in the formats of the data sets' owners, made of random numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import savemat


def _ntu(folder: Path, rng: np.random.Generator) -> Path:
    frames, bodies = rng.integers(1, 4, 2)
    newline = rng.choice(["\n", "\r\n"])
    lines = [str(frames)]
    for _ in range(frames):
        lines.append(str(bodies))
        for body in range(bodies):
            lines += [f"7205759403793110{body} 0 1 1 0 0 0 0.02 0.05 2", "25"]
            lines += [" ".join(f"{x:.4f}" for x in (*joint, 0)) for joint in rng.normal(size=(25, 11))]
    path = folder / "S001C002P003R002A004.skeleton"
    path.write_text(newline.join(lines) + newline, newline="")
    return path


def _nw_ucla(folder: Path, rng: np.random.Generator) -> Path:
    skeletons = rng.normal(size=(rng.integers(1, 4), 20, 3)).round(4).tolist()
    path = folder / "a08_s03_e02_v01.json"
    path.write_text(json.dumps({"file_name": path.stem, "skeletons": skeletons, "label": 7}))
    return path


def _utd_mhad(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "a9_s2_t3_skeleton.mat"
    savemat(path, {"d_skel": rng.normal(size=(20, 3, rng.integers(1, 4)))}, do_compression=bool(rng.integers(2)))
    return path


def _sbu(folder: Path, rng: np.random.Generator) -> Path:
    rows = rng.random((rng.integers(1, 5), 90)).round(5)
    path = folder / "s01s02" / "03" / "001" / "skeleton_pos.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(f"{t}," + ",".join(map(str, row)) for t, row in enumerate(rows, 1)) + "\n")
    return path


def _msr_action3d(folder: Path, rng: np.random.Generator) -> Path:
    return _lines_of_four(folder / "a05_s01_e02_skeleton3D.txt", rng.normal(size=(20 * rng.integers(1, 5), 3)), rng)


def _msr_action3d_screen(folder: Path, rng: np.random.Generator) -> Path:
    places = rng.integers(1, 240, (20 * rng.integers(1, 5), 3))
    return _lines_of_four(folder / "a05_s01_e02_skeleton.txt", places, rng)


def _lines_of_four(path: Path, joints: np.ndarray, rng: np.random.Generator) -> Path:
    path.write_text("".join(f"{x:.5g} {y:.5g} {z:.5g} {rng.random():.3f}\r\n" for x, y, z in joints))
    return path


def _penn_action(folder: Path, rng: np.random.Generator) -> Path:
    frames = int(rng.integers(1, 5))
    content = {
        "action": "bench_press",
        "pose": "left",
        "x": rng.uniform(0, 480, (frames, 13)),
        "y": rng.uniform(0, 270, (frames, 13)),
        "visibility": rng.integers(0, 2, (frames, 13), dtype=np.uint8) | np.eye(1, 13, dtype=np.uint8),
        "train": np.int32(rng.choice([-1, 1])),
        "bbox": rng.uniform(0, 270, (frames, 4)),
        "dimensions": np.array([270, 480, frames], dtype=np.uint16),
        "nframes": np.uint8(frames),
    }
    path = folder / "0017.mat"
    savemat(path, content, do_compression=bool(rng.integers(2)))
    return path


SAMPLES: dict[str, Callable[[Path, np.random.Generator], Path]] = {
    "ntu": _ntu,
    "nw_ucla": _nw_ucla,
    "utd_mhad": _utd_mhad,
    "sbu": _sbu,
    "msr_action3d": _msr_action3d,
    "msr_action3d_screen": _msr_action3d_screen,
    "penn_action": _penn_action,
}
