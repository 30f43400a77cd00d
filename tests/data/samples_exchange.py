"""Small valid files of the exchange formats, written as the field's own scripts write them, without LAST's code."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

NAMES = ("S001C002P003R001A004", "S002C003P008R002A060")
NTU_PARENTS = (0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 22, 7, 24, 11)


def joints(
    rng: np.random.Generator, frames: int = 4, bodies: int = 2, count: int = 25, channels: int = 3
) -> np.ndarray:
    """(T, M, V, C)."""
    return rng.normal(0, 1, (frames, bodies, count, channels)).astype(np.float32)


def packed(clips: list[np.ndarray], frames: int, bodies: int) -> np.ndarray:
    """Clips (T, M, V, C) padded with zeros, (N, C, T, V, M)."""
    x = np.zeros((len(clips), clips[0].shape[3], frames, clips[0].shape[2], bodies), np.float32)
    for row, clip in zip(x, clips, strict=True):
        row[:, : clip.shape[0], :, : clip.shape[1]] = clip.transpose(3, 0, 2, 1)
    return x


def write_pyskl(folder: Path, rng: np.random.Generator) -> Path:
    annotations = [
        {"frame_dir": name, "label": int(name[-3:]) - 1, "total_frames": 4, "keypoint": joints(rng).swapaxes(0, 1)}
        for name in NAMES
    ]
    split = {"xsub_train": [NAMES[1]], "xsub_val": [NAMES[0]], "xview_val": list(NAMES), "all": list(NAMES)}
    path = folder / "sample.pkl"
    content = {"split": split, "annotations": annotations}
    path.write_bytes(pickle.dumps(content, protocol=int(rng.integers(2, 6))))
    return path


def write_pyskl_2d(folder: Path, rng: np.random.Generator) -> Path:
    annotation = {
        "frame_dir": "clip",
        "label": 3,
        "img_shape": (1080, 1920),
        "original_shape": (1080, 1920),
        "total_frames": 3,
        "keypoint": (500 + 100 * joints(rng, 3, 1, 17, 2)).swapaxes(0, 1).astype(np.float16),
        "keypoint_score": rng.uniform(0.1, 1, (1, 3, 17)).astype(np.float16),
    }
    path = folder / "sample_2d.pkl"
    path.write_bytes(pickle.dumps([annotation], protocol=int(rng.integers(2, 6))))
    return path


def write_ctr_gcn(folder: Path, rng: np.random.Generator, save: Callable[..., None] = np.savez) -> Path:
    x = {part: np.zeros((1, 6, 150), np.float32) for part in ("train", "test")}
    y = {part: np.eye(60)[[label]] for part, label in (("train", 3), ("test", 59))}
    for part in x:
        x[part][0, :4] = joints(rng).reshape(4, 150)
    path = folder / "sample.npz"
    save(path, x_train=x["train"], y_train=y["train"], x_test=x["test"], y_test=y["test"])
    return path


def write_st_gcn(folder: Path, rng: np.random.Generator, name: str = "train_data.npy") -> Path:
    np.save(folder / name, packed([joints(rng), joints(rng, 3, 1)], 6, 2))
    labels = ([f"{name}.skeleton" for name in NAMES], [3, 59])
    (folder / "train_label.pkl").write_bytes(pickle.dumps(labels, protocol=int(rng.integers(0, 6))))
    return folder / name


def write_mib(folder: Path, rng: np.random.Generator) -> Path:
    x = packed([joints(rng), joints(rng, 3, 1)], 6, 2)
    velocity = np.zeros_like(x)
    velocity[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    np.save(folder / "train_joint.npy", x)
    np.save(folder / "train_velocity.npy", velocity)
    np.save(folder / "train_bone.npy", x - x[:, :, :, list(NTU_PARENTS)])
    (folder / "train_label.pkl").write_bytes(pickle.dumps([3, 59]))
    return folder / "train_joint.npy"


def _one_of(*makers: Callable[[Path, np.random.Generator], Path]) -> Callable[[Path, np.random.Generator], Path]:
    return lambda folder, rng: makers[rng.integers(len(makers))](folder, rng)


# Format to what writes a file of it into a folder; where the format is several files, the main one returns.
SAMPLES: dict[str, Callable[[Path, np.random.Generator], Path]] = {
    "pyskl": _one_of(write_pyskl, write_pyskl_2d),
    "ctr_gcn": _one_of(write_ctr_gcn, partial(write_ctr_gcn, save=np.savez_compressed)),
    "st_gcn": write_st_gcn,
    "agcn": partial(write_st_gcn, name="train_data_joint.npy"),
    "mib": write_mib,
}
