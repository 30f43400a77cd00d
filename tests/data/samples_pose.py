"""Small valid files of pose estimators' formats: a person or two who walk and wave."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def bodies(rng: np.random.Generator, joints: int, dimensions: int = 2, frames: int = 4, count: int = 2) -> np.ndarray:
    """(T, M, V, C) of which each body moves by little, far from the others."""
    rest = rng.uniform(0.3, 0.4, (1, count, joints, dimensions))
    rest[..., 0] += np.linspace(0, 0.5, count)[:, None]
    return rest + np.linspace(0, 0.05, frames)[:, None, None, None]


def write_openpose(folder: Path, rng: np.random.Generator, joints: int = 25) -> Path:
    clip = folder / "wave"
    clip.mkdir()
    for t, people in enumerate(bodies(rng, joints)):
        content = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": scored(p)} for p in people]}
        (clip / f"wave_{t:012d}_keypoints.json").write_text(json.dumps(content))
    return clip


def write_kinetics(folder: Path, rng: np.random.Generator) -> Path:
    data = [
        {"frame_index": t + 1, "skeleton": [{"pose": p.round(3).ravel().tolist(), "score": [0.5] * 18} for p in people]}
        for t, people in enumerate(bodies(rng, 18))
    ]
    return write(folder / "wave.json", {"data": data, "label": "waving hand", "label_index": 3})


def write_alphapose(folder: Path, rng: np.random.Generator, joints: int = 17) -> Path:
    items = [
        {"image_id": f"{t}.jpg", "category_id": 1, "keypoints": scored(p), "score": 2.5, "box": [1, 2, 3, 4], "idx": m}
        for t, people in enumerate(bodies(rng, joints))
        for m, p in enumerate(people)
    ]
    return write(folder / "alphapose-results.json", items)


def write_mediapipe(folder: Path, rng: np.random.Generator) -> Path:
    frames = [
        {"pose_landmarks": landmarks(p + 0.5), "pose_world_landmarks": landmarks(p)}
        for p in bodies(rng, 33, dimensions=3, count=1)[:, 0]
    ]
    return write(folder / "wave.json", {"fps": 30, "frames": [*frames, {"pose_landmarks": None}]})


def scored(joints: np.ndarray, score: float = 0.5) -> list[float]:
    """x0, y0, score, x1, ..."""
    return np.pad(1000 * joints, ((0, 0), (0, 1)), constant_values=score).round(2).ravel().tolist()


def landmarks(joints: np.ndarray, visibility: float = 0.75) -> list[dict[str, float]]:
    return [dict(zip("xyz", map(float, xyz), strict=True)) | {"visibility": visibility} for xyz in joints.round(4)]


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


SAMPLES: dict[str, Callable[[Path, np.random.Generator], Path]] = {
    "openpose": write_openpose,
    "kinetics_skeleton": write_kinetics,
    "alphapose": write_alphapose,
    "mediapipe": write_mediapipe,
}
