"""Lines of numbers are read, and nothing else."""

import pytest

from last.data.clip import FormatError
from last.data.formats import text
from last.data.formats.source import Source


def test_lines_are_read_with_either_ending_and_without_what_trails(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"1,2.5,-3e2,\r\n 4, 5,6\n\n")
    assert text.number_lines(Source(tmp_path / "a.txt"), 3, ",").tolist() == [[1, 2.5, -300], [4, 5, 6]]
    (tmp_path / "a.txt").write_bytes(b"")
    assert text.number_lines(Source(tmp_path / "a.txt"), 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1 2 3\n4 5\n", "line 2: found '4 5', expected 3 finite numbers"),
        (b"1 2 3\n4\n5 6 7\n", "line 2: found '4'"),  # not 4 4 4
        (b"1 2 3 4", "line 1: found '1 2 3 4'"),
        (b"1 2 3\n\n4 5 6", "line 2: found ''"),
        (b"1 2 nan", "line 1"),
        (b"1 2 1e31", "line 1"),
        (b"1 2 3\n4 x 6", "line 2"),
        (b"1 2 \xff", "is not text: byte 0xff at 4"),
    ],
)
def test_other_lines_are_a_sentence(content, message, tmp_path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        text.number_lines(Source(tmp_path / "a.txt"), 3)


def test_more_lines_than_a_clip_can_need_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "MAX_NUMBERS", 6)
    (tmp_path / "a.txt").write_bytes(b"1 2 3\n" * 2)
    assert len(text.number_lines(Source(tmp_path / "a.txt"), 3)) == 2
    (tmp_path / "a.txt").write_bytes(b"1 2 3\n" * 3)
    with pytest.raises(FormatError, match="has 3 lines, expected at most 2 for one clip"):
        text.number_lines(Source(tmp_path / "a.txt"), 3)
