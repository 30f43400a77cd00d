import json

import numpy as np
import pytest

from last.data.clip import Clip
from last.data.formats import FORMATS, Reading
from last.data.show import load_clip
from last.data.store import StoreError
from last.data.store_writer import StoreWriter
from last.skeleton import load_layout


@pytest.fixture
def numbered(tmp_path, stick):
    """Three clips named 0001 to 0003, each of as many frames as its name says."""
    with StoreWriter(tmp_path / "numbered", stick, ["a"]) as writer:
        for i in (1, 2, 3):
            writer.append(Clip(np.ones((i, 1, 5, 3), np.float32), f"{i:04d}", "stick", 0))
    return tmp_path / "numbered"


@pytest.mark.parametrize(
    ("clip", "frames"), [("0001", 1), ("0003", 3), ("1", 2), ("0", 1), (None, 1), ("0002", 2), ("00000", 1)]
)
def test_a_name_comes_before_a_number(numbered, clip, frames):
    found, layout = load_clip(numbered, clip)
    assert found.frames == frames and layout.name == "stick"


@pytest.mark.parametrize(("clip", "sentence"), [("0004", "numbered from 0"), ("x", "the first is '0001'")])
def test_a_clip_that_is_not_there_is_a_sentence(numbered, clip, sentence):
    with pytest.raises(StoreError, match=sentence):
        load_clip(numbered, clip)


def test_an_empty_store_has_no_clip(tmp_path, stick):
    StoreWriter(tmp_path / "s", stick, ["a"]).close()
    with pytest.raises(StoreError, match="it is empty"):
        load_clip(tmp_path / "s")


def test_a_raw_file_is_shown_in_the_layout_that_is_asked_for(tmp_path):
    file = tmp_path / "a01_s01_e00_v01.json"
    file.write_text(json.dumps({"skeletons": np.ones((3, 20, 3)).tolist(), "label": 1}))
    assert load_clip(file)[1].name == "kinect20"
    other = load_layout("utd20")
    assert load_clip(file, formats=[FORMATS["nw_ucla"]], layout=other)[1] is other


def test_a_described_table_is_shown_without_what_and_who_it_shows(tmp_path, stick):
    columns = {"clip": "clip", "frame": "frame", "label": "action", "subject": "who"}
    known = FORMATS["csv"].with_reading(Reading(stick, ("wave",), columns))
    names = [f"{joint}_{axis}" for joint in stick.joints for axis in "xyz"]
    for told, cells in (("frame", "0"), ("frame,action,who", "0,jump,Zoe")):
        file = tmp_path / "new.csv"
        file.write_text(f"{told},{','.join(names)}\n{cells},{','.join('1' for _ in names)}\n")
        clip, layout = load_clip(file, formats=[known], layout=stick)
        assert (clip.name, clip.frames, layout) == ("new", 1, stick)
