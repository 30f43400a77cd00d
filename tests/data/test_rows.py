import numpy as np
import pytest
import torch

from last.data.rows import RowReader, load_rows
from last.data.store import StoreError


@pytest.fixture
def array(tmp_path):
    """Forty rows of 2 x 3 numbers; row r begins with 6 r."""
    np.save(tmp_path / "joints.npy", np.arange(240, dtype=np.float16).reshape(40, 2, 3))
    return np.load(tmp_path / "joints.npy", mmap_mode="r")


def numbers(*rows):
    return torch.tensor([list(range(6 * row, 6 * row + 6)) for row in rows], dtype=torch.float16).view(-1, 2, 3)


@pytest.mark.parametrize("part", [1, 30, 1 << 28])
def test_stretches_come_in_the_order_asked_for(array, part, monkeypatch):
    monkeypatch.setattr("last.data.rows._PART_BYTES", part)
    rows = load_rows(array, np.array([7, 9, 0, 38]), np.array([2, 1, 1, 2]), "cpu")
    assert torch.equal(rows, numbers(7, 8, 9, 0, 38, 39))


def test_neighbours_are_read_as_one(array):
    reader, out, asked = RowReader(array), np.zeros((7, 2, 3), np.float16), []
    reader.read(np.array([3, 5, 6, 20]), np.array([2, 1, 2, 2]), out, lambda: asked.append(0))
    assert len(asked) == 2
    assert torch.equal(torch.from_numpy(out), numbers(3, 4, 5, 6, 7, 20, 21))


def test_reading_stops_when_asked_to(array):
    out = np.full((2, 2, 3), -1, np.float16)
    RowReader(array).read(np.array([3, 8]), np.array([1, 1]), out, lambda: True)
    assert (out == -1).all()


def test_a_file_that_was_cut_is_an_error(array, tmp_path):
    reader = RowReader(array)
    with (tmp_path / "joints.npy").open("r+b") as file:
        file.truncate(array.offset + 12 * 20)
    out = np.zeros((2, 2, 3), np.float16)
    reader.read(np.array([18]), np.array([2]), out)
    with pytest.raises(StoreError, match=rf"joints\.npy: it ends after {array.offset + 240} bytes; look at the disk"):
        reader.read(np.array([19]), np.array([2]), out)


def test_a_store_that_is_replaced_is_not_mixed_with_its_successor(array, tmp_path):
    reader = RowReader(array)
    (tmp_path / "joints.npy").rename(tmp_path / "old.npy")
    np.save(tmp_path / "joints.npy", np.zeros((40, 2, 3), np.float16))
    out = np.zeros((1, 2, 3), np.float16)
    reader.read(np.array([5]), np.array([1]), out)
    assert torch.equal(torch.from_numpy(out), numbers(5))


def test_a_file_that_is_gone_is_an_error(array, tmp_path):
    (tmp_path / "joints.npy").unlink()
    with pytest.raises(StoreError, match=r"joints\.npy: No such file"):
        RowReader(array)
