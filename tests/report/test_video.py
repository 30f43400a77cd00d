import subprocess
import sys

import numpy as np
import pytest

from last.data.clip import Clip
from last.files import WriteError
from last.report.pictures import draw_clip
from last.report.video import find_ffmpeg
from last.skeleton import Layout

BODY = Layout("body", ("hip", "head", "left_hand", "right_hand"), (0, 0, 0, 0), centre=0, dimensions=3)
POSE = np.array([[0, 0.5, 3], [0, 1, 3], [-1, 0, 3], [1, 0, 3]], dtype=np.float32)
CLIP = Clip(POSE + np.linspace(0, 0.3, 7, dtype=np.float32)[:, None, None, None], "clip", "body")


@pytest.fixture
def ffmpeg():
    found = find_ffmpeg()
    if found is None:
        pytest.skip("there is no ffmpeg; install it, or imageio-ffmpeg, to run this test")
    return found


def test_every_frame_is_in_the_video(tmp_path, ffmpeg):
    out = tmp_path / "a.mp4"
    draw_clip(CLIP, out, layout=BODY, frame_rate=10)
    told = subprocess.run([ffmpeg, "-hide_banner", "-i", out, "-f", "null", "-"], capture_output=True, text=True)
    assert "h264" in told.stderr and "yuv420p" in told.stderr and "Duration: 00:00:00.70" in told.stderr
    assert "frame=    7" in told.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_what_ffmpeg_cannot_write_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "ffmpeg").write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such codec')\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WriteError, match=r"cannot write .*a\.mp4: ffmpeg says: no such codec"):
        draw_clip(CLIP, tmp_path / "a.mp4", layout=BODY)
    assert [file.name for file in tmp_path.iterdir()] == ["ffmpeg"]


def test_without_ffmpeg_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"without ffmpeg; install it from ffmpeg\.org or with pip install"):
        draw_clip(CLIP, tmp_path / "a.mp4", layout=BODY)
