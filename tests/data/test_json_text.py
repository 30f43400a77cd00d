"""JSON is loaded whole or refused in a sentence."""

import numpy as np
import pytest

from last.data.clip import FormatError
from last.data.formats import Source
from last.data.formats.json_text import load, numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{\n"a": NaN\n}', "line 2: it holds NaN, expected finite numbers"),
        (b'["NaN\\"",\n\n-Infinity]', "line 3: it holds -Infinity"),
        (b"[1\n 2]", "line 2: not JSON, Expecting ',' delimiter"),
        (b'"\xff"', "is not JSON text: byte 0xff at 1 is no UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_json_is_a_sentence(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(FormatError, match=message) as error:
        load(Source(path))
    assert str(path) in str(error.value)


def test_json_is_loaded_as_it_is(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, -2.5, "NaN", null, true], "b": ' + b"9" * 1_000_000 + b"}")
    assert load(Source(path)) == {"a": [1, -2.5, "NaN", None, True], "b": float("inf")}


def test_numbers_are_even_nests_of_finite_numbers():
    found = numbers([[[1, 2.5]], [[-3, 4]]])
    assert found.dtype == np.float32 and found.tolist() == [[[1, 2.5]], [[-3, 4]]]
    assert numbers([]).shape == (0,) and numbers([[], []]).shape == (2, 0)
    faults = [3, None, "12", [1, "2"], [1, True], [1, None], [[1], 2], [[1], [2, 3]], [1e300], [float("nan")], {}, [{}]]
    assert [numbers(values) for values in faults] == [None] * len(faults)
    gaps = numbers([[1, None], [2.5, 3]], has_gaps=True)
    assert np.array_equal(gaps, np.array([[1, np.nan], [2.5, 3]]), equal_nan=True)
    assert numbers([None, 1e300], has_gaps=True) is None
    deep: list[object] = [1]
    for _ in range(90):
        deep = [deep]
    assert numbers(deep) is None
