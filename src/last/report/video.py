"""A clip as MP4, by ffmpeg."""

import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np

from last.files import write_atomically
from last.report.poses import images_of
from last.skeleton import Layout

_RESOLUTION = 200  # pixels an inch: 640 pixels high


def write_video(out: Path, points: np.ndarray, layout: Layout, frame_rate: float) -> None:
    """Write every frame of a clip as H.264, which browsers and players show.

    Args:
        out: the video.
        points: joints as seen, (frames, bodies, joints, 3).
        layout: their skeleton.
        frame_rate: frames a second.

    Raises:
        ValueError: there is no ffmpeg.
        WriteError: ``out`` cannot be written, or ffmpeg cannot write it.
    """
    program = find_ffmpeg()
    if program is None:
        raise ValueError(
            f"cannot write the video '{out.name}' without ffmpeg; install it from ffmpeg.org or with pip install "
            "imageio-ffmpeg, or name the file .gif for an animation"
        )
    images = images_of(points, layout, frame_rate, range(len(points)), _RESOLUTION)
    write_atomically(out, lambda partial: _encode(program, images, frame_rate, partial))


def find_ffmpeg() -> str | None:
    """The ffmpeg of this machine, or else of the package imageio-ffmpeg; None where there is neither."""
    program = shutil.which("ffmpeg")
    if program:
        return program
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError:
        return None
    return get_ffmpeg_exe()


def _encode(program: str, images: Iterable[np.ndarray], frame_rate: float, out: Path) -> None:
    images = iter(images)
    first = next(images)
    height, width, _ = first.shape
    given = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-framerate", str(frame_rate))
    # Players know this form of colours, which wants an even number of pixels either way.
    made = ("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white", "-vcodec", "h264", "-pix_fmt", "yuv420p", "-f", "mp4")
    command = [program, "-loglevel", "error", *given, "-i", "pipe:", *made, "-y", str(out.absolute())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stderr
        with suppress(BrokenPipeError), process.stdin as pipe:  # if it gives up, it says below why
            for image in chain([first], images):
                pipe.write(image.tobytes())
        complaint = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise OSError(f"ffmpeg says: {complaint or process.returncode}")
