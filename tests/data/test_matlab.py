"""MATLAB files are read as SciPy reads them, where they are sound."""

import io
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from last.data.clip import FormatError
from last.data.formats import matlab
from last.data.formats.source import Source


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">f8"])
def test_numbers_of_all_kinds_are_read(dtype, is_compressed, tmp_path):
    values = np.random.default_rng(0).integers(0, 100, (4, 3, 5)).astype(dtype)
    savemat(tmp_path / "a.mat", {"x": values, "other": "text"}, do_compression=is_compressed)
    content = matlab.load(Source(tmp_path / "a.mat"), ["x"])
    assert content.keys() == {"x"} and np.array_equal(content["x"], values)


def test_texts_short_arrays_and_scalars_are_read(tmp_path):
    savemat(tmp_path / "a.mat", {"action": "jump_rope", "train": np.int32(-1), "none": np.zeros((0, 3))})
    content = matlab.load(Source(tmp_path / "a.mat"), ["action", "train", "none"])
    assert content["action"].tolist() == ["jump_rope"] and content["train"].tolist() == [[-1]]
    assert content["none"].shape == (0, 3)


def test_a_file_of_a_machine_of_the_other_byte_order_is_read(tmp_path):
    tag, flags, shape = (np.array(values, ">u4").tobytes() for values in ([6, 8], [6, 0], [5, 8]))
    name = np.array([1 << 16 | 1], ">u4").tobytes() + b"x\0\0\0"  # one byte of type 1, within the tag
    values = np.array([9, 16], ">u4").tobytes() + np.array([1.5, -2], ">f8").tobytes()
    matrix = tag + flags + shape + np.array([1, 2], ">i4").tobytes() + name + values
    header = b"MATLAB 5.0".ljust(124) + b"\1\0MI" + np.array([14, len(matrix)], ">u4").tobytes()
    (tmp_path / "a.mat").write_bytes(header + matrix)
    assert matlab.load(Source(tmp_path / "a.mat"), ["x"])["x"].tolist() == [[1.5, -2]]
    assert loadmat(io.BytesIO(header + matrix))["x"].tolist() == [[1.5, -2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"y": np.ones(3)}, "holds no 'x', expected x"),
        ({"x": np.ones(3) * 1j}, "holds no 'x'"),
        ({"x": {"field": 1}}, "holds no 'x'"),
        ({"x": np.array([["a"], [1]], dtype=object)}, "holds no 'x'"),
    ],
)
def test_what_is_not_an_array_of_numbers_is_not_found(content, message, tmp_path):
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(FormatError, match=message):
        matlab.load(Source(tmp_path / "a.mat"), ["x"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:100], "is not a MATLAB 5 file"),
        (lambda data: data[:124] + b"\0\2IM" + data[128:], "is not a MATLAB 5 file"),
        (lambda data: data[:-8], "an element promises"),
        (lambda data: data + b"1234", "4 bytes are left where an element should begin"),
        (lambda data: data.replace(b"\5\0\0\0\x08\0\0\0\2", b"\5\0\0\0\x08\0\0\0\3"), "promises the shape"),
        (lambda data: data[:128] + b"\x0f\0\0\0\4\0\0\0abcd", "damaged MATLAB file: Error -3"),
    ],
)
def test_a_damaged_file_is_a_sentence(change, message, tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"x": np.ones((2, 3))})
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(FormatError, match=message) as error:
        matlab.load(Source(path), ["x"])
    assert str(path) in str(error.value)


@pytest.mark.parametrize("value", [1e31, -np.inf])
def test_numbers_that_joints_cannot_have_are_refused(value):
    with pytest.raises(FormatError, match="'x' holds"):
        matlab.numbers(np.array([1, value]), "x", Source(Path("a.mat")))
    assert np.isnan(matlab.numbers(np.array([np.nan]), "x", Source(Path("a.mat")))).all()
