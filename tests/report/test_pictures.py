import json
import re

import numpy as np
import pytest
from PIL import Image, ImageSequence

from last.config import available
from last.data.clip import Clip
from last.report.pictures import draw_clip, draw_confusion, draw_curves, draw_per_class
from last.skeleton import Layout, load_layout

DARKEST = (8, 48, 107)  # of the confusion matrix
BLUE, VERMILION, GREY = (0, 114, 178), (213, 94, 0), (77, 77, 77)  # left, right, trunk
HEADER = 50  # pixels; the names of the sides stand there in their colours

BODY = Layout("body", ("hip", "head", "left_hand", "right_hand"), (0, 0, 0, 0), centre=0, dimensions=3)
# Who faces a Kinect has the left hand at smaller x; y points up.
FACING = np.array([[0, 0.5, 3], [0, 1, 3], [-1, 0, 3], [1, 0, 3]], dtype=np.float32)


def still(frames=1, bodies=1, pose=FACING, name="clip"):
    return Clip(np.tile(pose, (frames, bodies, 1, 1)), name, "body")


def read(path):
    """(height, width, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def pixels(path, colour):
    """Row and column of each pixel of exactly this colour, below the header."""
    return np.argwhere((read(path)[HEADER:] == colour).all(-1))


def draw(clip, out, layout=BODY, **options):
    draw_clip(clip, out, layout=layout, **options)
    return out


def test_left_hand_of_who_faces_the_camera_is_on_the_right(tmp_path):
    out = draw(still(), tmp_path / "a.png")
    left, right, trunk = (pixels(out, colour) for colour in (BLUE, VERMILION, GREY))
    assert left[:, 1].min() > right[:, 1].max()
    assert trunk[:, 0].min() < left[:, 0].min(), "the head is above the hands"


def test_two_dimensions_are_drawn_as_in_the_image(tmp_path):
    layout = Layout("flat", BODY.joints, BODY.parents, centre=0, dimensions=2)
    pose = np.array([[5, 5], [5, 1], [2, 9], [8, 9]], dtype=np.float32)  # pixels, y down
    out = draw(still(pose=pose), tmp_path / "a.png", layout)
    assert pixels(out, BLUE)[:, 1].max() < pixels(out, VERMILION)[:, 1].min()
    assert pixels(out, GREY)[:, 0].min() < pixels(out, BLUE)[:, 0].min()


@pytest.mark.parametrize("absent", [np.nan, np.inf])
def test_absent_joints_and_their_bones_are_left_out(tmp_path, absent):
    pose = FACING.copy()
    pose[3, 1] = absent
    out = draw(still(pose=pose), tmp_path / "a.png")
    assert len(pixels(out, VERMILION)) == 0 < len(pixels(out, BLUE))


def test_second_body_is_drawn_paler(tmp_path):
    clip = still(bodies=2)
    clip.joints[:, 1, :, 0] += 5
    out = draw(clip, tmp_path / "a.png")
    one = draw(
        Clip(np.concatenate([clip.joints[:, :1], clip.joints[:, 1:] * np.nan], 1), "clip", "body"),
        tmp_path / "b.png",
    )
    paler = tuple(np.rint(0.55 * np.array(BLUE) + 0.45 * 255).astype(int))
    assert len(pixels(out, paler)) > 0 == len(pixels(one, paler))


def test_limits_are_shared_over_the_clip(tmp_path):
    clip = still(frames=2)
    clip.joints[1] *= 0.5
    blue = pixels(draw(clip, tmp_path / "a.png", frames=2), BLUE)
    middle = read(tmp_path / "a.png").shape[1] / 2
    first, second = (blue[side, 1] for side in (blue[:, 1] < middle, blue[:, 1] > middle))
    assert np.ptp(second) == pytest.approx(np.ptp(first) / 2, rel=0.15)


def test_strip_has_no_more_poses_than_the_clip_has_frames(tmp_path):
    many, three = (draw(still(frames=3), tmp_path / f"{n}.png", frames=n) for n in (8, 3))
    assert many.read_bytes() == three.read_bytes()
    assert many.read_bytes() != draw(still(frames=3), tmp_path / "2.png", frames=2).read_bytes()


def test_wide_strip_is_broken_into_rows(tmp_path):
    pose = FACING * (4, 1, 1)
    one, eight = (read(draw(still(8, pose=pose), tmp_path / f"{n}.png", frames=n)).shape for n in (1, 8))
    assert eight[1] <= 1600
    assert eight[0] > 2 * one[0] - HEADER


@pytest.mark.parametrize("name", available("layout"))
def test_every_layout_is_drawn(tmp_path, name):
    layout = load_layout(name)
    joints = np.random.default_rng(0).normal(size=(2, 2, len(layout.joints), layout.dimensions)).astype(np.float32)
    draw_clip(Clip(joints, name, name), tmp_path / "a.png")
    assert read(tmp_path / "a.png").std() > 0


@pytest.mark.parametrize("frames", [1, 7, 74, 200])
def test_animation_lasts_as_long_as_the_clip(tmp_path, frames):
    clip = still(frames)
    clip.joints[:, 0, 2, 1] += np.linspace(0, 1, frames)
    with Image.open(draw(clip, tmp_path / "a.gif")) as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert len(durations) == min(frames, 60)
    assert sum(durations) == pytest.approx(frames / 30 * 1000, abs=10)
    assert min(durations) >= 30, "browsers slow down what is shorter than 20 ms"


def test_player_holds_the_clip_and_asks_the_network_for_nothing(tmp_path):
    pose = FACING.copy()
    pose[3] = np.nan
    text = draw(still(5, 2, pose, name="a </script><b>"), tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 2, "the clip's name ends no script"
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|src=|@import|url\(", text)
    clip = json.loads(text.partition('type="application/json">')[2].partition("</script>")[0])
    assert clip["name"] == "a </script><b>"
    assert clip["size"] == [5, 2, 4]
    assert clip["turns"]
    assert clip["sides"] == [2, 2, 0, 1]
    points = np.array(clip["points"], dtype=float).reshape(5, 2, 4, 3) / clip["unit"]
    assert np.isnan(points[:, :, 3]).all()
    # The seen part is 1 x 1 m; its longest axis spans [-1, 1].
    np.testing.assert_allclose(points[0, 0, :3], [[-1, 0, 0], [-1, 1, 0], [1, -1, 0]], atol=1e-3)


def test_player_of_pixels_does_not_turn(tmp_path):
    joints = np.random.default_rng(0).normal(size=(3, 1, 17, 3)).astype(np.float32)  # x, y, confidence
    draw_clip(Clip(joints, "flat", "coco17"), tmp_path / "a.html")
    assert '"turns":false' in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", [".png", ".gif", ".html"])
def test_single_joint_is_enough_for_a_picture(tmp_path, suffix):
    layout = Layout("point", ("head",), (0,), centre=0, dimensions=3)
    out = draw(still(pose=FACING[:1]), tmp_path / "new" / "folder" / f"a{suffix}", layout)
    assert out.stat().st_size > 0


@pytest.mark.parametrize(
    ("clip", "name", "options", "message"),
    [
        (still(), "a.pdf", {}, r"'a\.pdf'.*\.png.*\.gif.*\.html"),
        (still(pose=FACING[:3]), "a.png", {}, "has 3 joints of 3 .* has 4 of 3"),
        (still(pose=FACING[:, :2]), "a.png", {}, "has 4 joints of 2 .* has 4 of 3"),
        (still(pose=FACING * np.nan), "a.png", {}, "no joint in any of its 1 frames"),
        (still(), "a.png", {"frames": 0}, "at least one pose"),
        (still(), "a.gif", {"frame_rate": 0}, "rate above 0"),
        (still(), "a.gif", {"frame_rate": float("nan")}, "at nan frames a second"),
        (still(), "a.html", {"frame_rate": float("inf")}, "at inf frames a second"),
        (still(), "a.gif", {"frame_rate": 1e-9}, "at 1e-09 frames a second"),
    ],
)
def test_what_cannot_be_drawn_says_why_and_leaves_no_file(tmp_path, clip, name, options, message):
    with pytest.raises(ValueError, match=message):
        draw(clip, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def epochs(count, **columns):
    return [
        {"epoch": e, "lr": 0.1, "seconds": 1.0, **{k: v / (e + 1) for k, v in columns.items()}} for e in range(count)
    ]


def test_curves_draw_what_is_there(tmp_path):
    full = epochs(3, train_loss=2, train_top1=50, validation_loss=3, validation_top1=40)
    draw_curves(full, tmp_path / "full.png")
    draw_curves(epochs(3, train_loss=2, train_top1=50), tmp_path / "train.png")
    draw_curves(epochs(3, train_loss=2), tmp_path / "loss.png")
    assert len(pixels(tmp_path / "full.png", VERMILION)) > 0 == len(pixels(tmp_path / "train.png", VERMILION))
    assert read(tmp_path / "train.png").shape[1] == 2 * read(tmp_path / "loss.png").shape[1]


def test_curves_skip_epochs_without_a_value(tmp_path):
    rows = epochs(4, train_loss=2)
    draw_curves(rows[:2] + rows[3:], tmp_path / "absent.png")
    rows[2]["train_loss"] = np.nan
    draw_curves(rows, tmp_path / "nan.png")
    assert (tmp_path / "nan.png").read_bytes() == (tmp_path / "absent.png").read_bytes()


@pytest.mark.parametrize("history", [[], epochs(2)])
def test_curves_without_values_are_an_error(tmp_path, history):
    with pytest.raises(ValueError, match=f"{len(history)} epochs without train_loss"):
        draw_curves(history, tmp_path / "a.png")


def test_confusion_has_true_classes_on_rows_and_is_normalised_by_row(tmp_path):
    # All of class 0 is taken for class 1; a row of many clips is as dark as a row of few.
    draw_confusion(np.array([[0, 3], [0, 900]]), ["a", "b"], tmp_path / "a.png")
    image = read(tmp_path / "a.png")
    without_bar = image[:, : int(0.8 * image.shape[1])]
    cells = np.argwhere((without_bar == DARKEST).all(-1))
    assert np.ptp(cells[:, 0]) > 1.8 * np.ptp(cells[:, 1]), "a column of two cells"


@pytest.mark.parametrize("count", [1, 30, 31])
def test_confusion_takes_classes_without_clips_and_odd_names(tmp_path, count):
    matrix = np.zeros((count, count), dtype=np.int64)
    matrix[0, 0] = 7
    draw_confusion(matrix, [f"$x_{k} {{" for k in range(count)], tmp_path / "a.png")
    assert len(pixels(tmp_path / "a.png", DARKEST)) > 0


def test_per_class_bars_are_sorted_the_best_on_top(tmp_path):
    draw_per_class(np.array([20.0, np.nan, 80.0]), ["a", "$b_{", "c"], tmp_path / "a.png")
    lengths = (read(tmp_path / "a.png") == BLUE).all(-1).sum(axis=1)
    bars = lengths[lengths > 50]
    assert bars[0] == pytest.approx(4 * bars[-1], rel=0.1)


def test_numbers_that_do_not_fit_the_names_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(2, 3\) does not fit 2 class names"):
        draw_confusion(np.zeros((2, 3)), ["a", "b"], tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"shape \(3,\) do not fit 2 class names"):
        draw_per_class(np.zeros(3), ["a", "b"], tmp_path / "a.png")
