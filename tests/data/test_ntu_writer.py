import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from last.data.clip import Clip
from last.data.formats import ntu, ntu_writer
from last.files import WriteError

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "ntu_raw"
NAME = "S001C002P003R002A013"


def clip_of(joints: np.ndarray) -> Clip:
    return Clip(joints.astype(np.float32), NAME, "ntu", 12, 3, 2, 1, 2)


def standing(frames: int, bodies: int = 1) -> np.ndarray:
    shape = (frames, bodies, 25, 3)
    return np.random.default_rng(0).normal((0, 0, 3), 0.3, shape).astype(np.float32)


def joint_fields(path: Path) -> np.ndarray:
    """The 12 fields of all joints in the file, (bodies in all frames, 25, 12)."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return np.array([row for row in rows if len(row) == 12], dtype=np.float64).reshape(-1, 25, 12)


@settings(max_examples=40, deadline=None)
@given(
    joints=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 4), st.just(25), st.just(3)),
        elements=st.floats(0.0009765625, 8, width=32),
    ),
    data=st.data(),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_read_gives_back_what_was_written(tmp_path_factory, joints: np.ndarray, data, newline):
    present = data.draw(hnp.arrays(bool, joints.shape[:2]))
    present[0] = True  # a reader numbers bodies as they appear
    joints = joints.copy()
    joints[~present] = np.nan
    path = tmp_path_factory.mktemp("written") / f"{NAME}.skeleton"
    ntu_writer.write(clip_of(joints), path, newline)
    read = ntu.read(path)
    assert np.array_equal(read.joints, joints, equal_nan=True)
    assert (read.name, read.label, read.subject, read.camera, read.setup, read.replication) == (NAME, 12, 3, 2, 1, 2)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_end_as_asked(tmp_path: Path, newline):
    ntu_writer.write(clip_of(standing(2)), tmp_path / "clip.skeleton", newline)
    content = (tmp_path / "clip.skeleton").read_bytes()
    assert content.count(newline.encode()) == content.count(b"\n") == 1 + 2 * (1 + 2 + 25)
    assert content.count(b"\r") == (content.count(b"\n") if newline == "\r\n" else 0)


def test_bodies_come_and_go_with_their_ids(tmp_path: Path):
    joints = standing(4, bodies=2)
    joints[1, 0] = joints[2, :] = joints[3, 1] = np.nan
    ntu_writer.write(clip_of(joints), tmp_path / "clip.skeleton")
    lines = (tmp_path / "clip.skeleton").read_text().splitlines()
    first, second = str(ntu_writer.FIRST_ID), str(ntu_writer.FIRST_ID + 1)
    assert [line.split()[0] for line in lines if len(line.split()) == 10] == [first, second, second, first]
    assert [lines[0], lines[1], lines[1 + 1 + 2 * 27]] == ["4", "2", "1"]


def test_a_lost_joint_lies_at_zero_and_says_so(tmp_path: Path):
    joints = standing(2)
    joints[1, 0, 7] = np.nan
    ntu_writer.write(clip_of(joints), tmp_path / "clip.skeleton")
    fields = joint_fields(tmp_path / "clip.skeleton")
    assert not fields[1, 7].any()
    assert (np.delete(fields[..., 11], 25 + 7) == 2).all()


def test_other_layouts_are_refused(tmp_path: Path):
    clip = Clip(np.zeros((1, 1, 20, 3), np.float32), "clip", "kinect20")
    with pytest.raises(ValueError, match="layout 'kinect20'"):
        ntu_writer.write(clip, tmp_path / "clip.skeleton")
    assert not (tmp_path / "clip.skeleton").exists()


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "clip.skeleton"
    path.write_text("old")

    def half(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(WriteError, match=r"cannot write .*clip\.skeleton: .*No space left on device"):
        ntu_writer.write(clip_of(standing(2)), path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real NTU files are not at {REAL}")
def test_derived_fields_agree_with_real_files(tmp_path: Path):
    path = REAL / "S017C003P020R002A055.skeleton"
    ntu_writer.write(ntu.read(path), tmp_path / path.name)
    real, derived = joint_fields(path), joint_fields(tmp_path / path.name)
    assert derived[..., :3] == pytest.approx(real[..., :3], abs=1e-6)
    pixels = np.abs(derived[..., 3:7] - real[..., 3:7])
    assert np.median(pixels, axis=(0, 1)).max() < 4
    # A unit quaternion turns y onto the bone; the real one differs by a twist about y, which keeps y's image.
    images = []
    for fields in (real, derived):
        w, x, y, z = np.moveaxis(fields[:, 1:3, 7:11], -1, 0)
        images.append(np.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], axis=-1))
    assert images[1] == pytest.approx(images[0], abs=0.02)
