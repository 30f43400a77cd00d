import numpy as np
import pytest

from last.data.clip import Clip
from last.data.stats import Means, statistics
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter
from last.report.data_pictures import tables, write_statistics

REST = np.array([[0, 0, 0], [0, 1, 0], [0, 2, 0], [-3, 2, 0], [3, 2, 0]], np.float32)  # stick: bones 1, 1, 3, 3


def body(frames: int, step: float, scale: float = 1) -> np.ndarray:
    """The stick at rest, moving by a step along z each frame, (T, V, 3)."""
    return scale * REST + np.arange(frames)[:, None, None] * np.array([0, 0, step], np.float32)


@pytest.fixture
def store(tmp_path, stick):
    """Two clips: one body of 3 frames, and two of 2 frames, the second twice as large."""
    seen = np.ones((2, 2, 5), np.float32)
    seen[0, 0, 3] = np.nan
    two = np.stack([body(2, 0.5), body(2, 0.5, scale=2)], axis=1)
    two[0, 0, 3] = 99  # a guess that must not count
    with StoreWriter(tmp_path / "s", stick, ["run", "<b>"]) as writer:
        writer.append(Clip(body(3, 0.25)[:, None], "one", "stick", 0, subject=4))
        writer.append(Clip(two, "two", "stick", 1, subject=7, confidence=seen))
    return ClipStore.open(tmp_path / "s")


@pytest.mark.parametrize("block", [1, 3, 1 << 14])
def test_numbers_are_those_worked_out_by_hand(store, block, monkeypatch):
    monkeypatch.setattr("last.data.stats._BLOCK", block)
    found = statistics(store)
    assert found.frames.tolist() == [3, 2] and found.bodies.tolist() == [1, 2]
    assert {key: [v.tolist() for v in pair] for key, pair in found.ids.items()} == {
        "label": [[0, 1], [1, 1]],
        "subject": [[4, 7], [1, 1]],
    }
    # 7 rows: 5 of size 1 and 2 of size 2; the left hand is a guess in one of the small ones.
    np.testing.assert_allclose(found.missing, [0, 0, 0, 1 / 7, 0])
    np.testing.assert_allclose(found.bone_lengths, [9 / 7, 9 / 7, 3 * 8 / 6, 3 * 9 / 7])
    deviation = np.sqrt(5 / 7 * 2 / 7)  # of 1 five times and 2 twice
    np.testing.assert_allclose(found.bone_variation[:2], deviation / (9 / 7), rtol=1e-6)
    # Ways from frame to frame: 0.25 twice, 0.5 once for each of two bodies, of which one hand is a guess.
    np.testing.assert_allclose(found.speeds, [0.375, 0.375, 0.375, 1 / 3, 0.375])
    np.testing.assert_allclose(found.heights[[0, 2]], [2, 4])
    np.testing.assert_allclose(found.places, [[0, 0, 0]] * 3)
    assert found.extent[0].tolist() == [-6, 0, 0]
    np.testing.assert_allclose(found.confidence, 1)


def test_progress_counts_rows(store):
    done = []
    statistics(store, lambda *step: done.append(step))
    assert done == [(7, 7)]


def test_means_know_what_is_unknown():
    means = Means(2)
    means.add(np.array([[1.0, 5.0], [3.0, np.nan]]), np.array([[True, False], [True, False]]))
    assert means.mean[0] == 2 and means.deviation[0] == 1 and np.isnan(means.mean[1])


def test_an_empty_store_has_nothing_to_count(tmp_path, stick):
    StoreWriter(tmp_path / "s", stick, ["a"]).close()
    with pytest.raises(ValueError, match="no clip in"):
        statistics(ClipStore.open(tmp_path / "s"))


def test_tables_say_the_same(store):
    overview, classes, subjects, joints = tables(statistics(store))
    assert [classes.rows, subjects.rows] == [[["run", 1], ["<b>", 1]], [["4", 1], ["7", 1]]]
    assert dict(overview.rows)["bodies a clip"] == "1: 1, 2: 1"
    assert joints.rows[0][4:] == ["", None, None] and joints.rows[3][4] == "top"
    assert joints.rows[3][1] == pytest.approx(100 / 7)


def test_a_picture_and_a_page_are_written(store, tmp_path):
    found = statistics(store)
    write_statistics(found, "my set", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    write_statistics(found, "my set", tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "my set" in page and "&lt;b&gt;" in page and "<b>" not in page and "data:image/png" in page
    with pytest.raises(ValueError, match=r"name the file \.png"):
        write_statistics(found, "my set", tmp_path / "a.pdf")
