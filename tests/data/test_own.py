import csv

import numpy as np
import pytest
import yaml
from samples_tables import bones_of, write_unknown_csv

from last.data.clip import FormatError
from last.data.datasets import load_dataset
from last.data.formats import list_clips
from last.data.own import describe
from last.data.own_columns import guess_columns
from last.data.own_description import write_description
from last.data.synthetic_table import ACTIONS, CLIPS, JOINTS, SUBJECTS, write_csv
from last.setting_values import ConfigError
from last.skeleton import load_layout

# Of the fifteen joints, by anatomy.
BONES = {
    frozenset(pair)
    for pair in (
        *(("spine_base", "spine_shoulder"), ("spine_shoulder", "head")),
        *(
            (f"{side}_{outer}", inner if inner.startswith("spine") else f"{side}_{inner}")
            for side in ("left", "right")
            for outer, inner in (
                *(("shoulder", "spine_shoulder"), ("elbow", "shoulder"), ("wrist", "elbow")),
                *(("hip", "spine_base"), ("knee", "hip"), ("ankle", "knee")),
            )
        ),
    )
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "recordings.csv"
    write_csv(path, np.random.default_rng(0))
    return path


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    path = tmp_path_factory.mktemp("unknown") / "recordings.csv"
    return path, write_unknown_csv(path, np.random.default_rng(0))


def test_a_table_in_spanish_is_understood(recordings):
    data = describe(recordings)
    told = {key: value for key, value in data.columns.items() if isinstance(value, str)}
    assert told == {"clip": "toma", "frame": "cuadro", "label": "gesto", "subject": "sujeto"}
    assert (data.format, data.unused, data.bodies, len(data.clips)) == ("csv", (), 1, CLIPS)
    assert data.classes == tuple(sorted(ACTIONS.values()))
    assert data.subjects == SUBJECTS
    assert data.columns["subjects"] == list(SUBJECTS)
    assert not data.is_built_in
    assert data.layout.joints[data.joints.index("HombroIzq")] == "left_hombro"
    assert len(data.layout.pairs) == 6
    assert not data.layout.y_down
    ntu = {own: name for name, own in JOINTS.items()}
    assert bones_of(data.layout, [ntu[joint] for joint in data.joints]) == BONES
    assert ntu[data.joints[data.layout.root]].startswith("spine")


def test_joints_that_are_mere_numbers_are_joined_by_how_they_move(unknown):
    path, names = unknown
    data = describe(path)
    assert len(names) == len(data.joints) == 15
    assert len(bones_of(data.layout, names) & BONES) >= 12
    assert data.layout.pairs == ()
    assert any("left or right" in reason for reason in data.reasons)


def test_the_description_loads_and_reads_every_clip(recordings, tmp_path):
    sentences = write_description(recordings, "mine", tmp_path)
    assert "96 clips, 4 classes, 6 subjects, 15 joints in 3 dimensions" in sentences[0]
    assert any("4 subjects train, the other 2 test" in sentence for sentence in sentences)
    dataset = load_dataset(str(tmp_path / "mine.yaml"))
    assert dataset.protocols == ("xsub",)
    assert dataset.rules["xsub"] == {"train": {"subject": [0, 1, 2, 3]}}
    listed = list_clips(recordings, formats=[dataset.format])
    assert len(listed) == CLIPS
    known, source = listed[0]
    clip = known.read(source)
    assert (clip.name, clip.layout, clip.subject) == ("toma001", "mine", 0)
    assert dataset.classes[clip.label] == "levantar el brazo"
    header, first = recordings.read_text().splitlines()[:2]
    cells = dict(zip(header.split(","), first.split(","), strict=True))
    assert clip.joints[0, 0, dataset.layout.joints.index("cabeza"), 1] == np.float32(cells["Cabeza.Y"])


def test_no_file_is_overwritten_and_names_are_plain(recordings, tmp_path):
    (tmp_path / "mine_layout.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_description(recordings, "mine", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine_layout.yaml"]
    with pytest.raises(ConfigError, match="cannot name a data set"):
        write_description(recordings, "../mine", tmp_path)


def small(path, joints, header, clips, subject=""):
    """A table of still bodies: a row's numbers are its joints' places, the same in every frame."""
    lines = [",".join(header)]
    for name, label in clips:
        for frame in range(3):
            told = {"clip": name, "frame": frame, "label": label, "subject": subject, "person": 1}
            numbers = iter(f"{x:.3f}" for x in joints.ravel())
            lines.append(",".join(str(told[column]) if column in told else next(numbers) for column in header))
    path.write_text("\n".join(lines) + "\n")


def penn_body(names):
    """Joints of Penn Action where they are in a body that stands, by their names in its layout, (V, 2)."""
    places = {
        **{"head": (0, 0), "shoulder": (20, 30), "elbow": (28, 60), "wrist": (30, 90)},
        **{"hip": (12, 95), "knee": (14, 135), "ankle": (15, 175)},
    }
    return np.array(
        [
            np.multiply(places[name.split("_")[-1]], (-1 if name.startswith("left") else 1, 1)) + np.array([300, 100])
            for name in names
        ]
    )


def test_a_built_in_layout_is_found_by_its_bones(tmp_path):
    layout = load_layout("penn13")
    joints = penn_body(layout.joints)
    header = ["clip", "frame", "label", *(f"{name}_{axis}" for name in layout.joints for axis in "xy")]
    path = tmp_path / "poses.csv"
    small(path, joints, header, [(f"c{i}", "yes" if i % 2 else "no") for i in range(10)])
    sentences = write_description(path, "mine", tmp_path)
    text = (tmp_path / "mine.yaml").read_text()
    assert not (tmp_path / "mine_layout.yaml").exists()
    assert any("'penn13'" in sentence for sentence in sentences)
    assert 'joints: "{joint}_{axis}"' in text
    content = yaml.safe_load(text)
    assert content["about"]["layout"] == "penn13"
    assert content["about"]["classes"] == ["no", "yes"]  # words that YAML would take for truth values
    # Nobody is named, so a fifth of each class is held out.
    assert content["protocols"] == {"holdout": {"train": {"fraction": 0.8}}}
    assert any("too hopeful" in sentence for sentence in sentences)


@pytest.mark.parametrize("is_long", [False, True])
def test_joints_of_a_built_in_layout_in_another_order_are_taken_by_their_names(tmp_path, is_long):
    layout = load_layout("penn13")
    names = [layout.joints[v] for v in layout.mirror]  # right before left: bones alone would tell no difference
    joints, path = penn_body(names), tmp_path / "poses.csv"
    scores = np.arange(13) / 20  # of each joint its own
    if is_long:
        lines = ["frame,joint,x,y,score"]
        told = list(zip(names, joints, scores, strict=True))
        lines += [f"{frame},{name},{x},{y},{score}" for frame in range(3) for name, (x, y), score in told]
    else:
        lines = [",".join(["frame", *(f"{name}_{part}" for name in names for part in ("x", "y", "conf"))])]
        row = ",".join(f"{x},{y},{score}" for (x, y), score in zip(joints, scores, strict=True))
        lines += [f"{frame},{row}" for frame in range(3)]
    path.write_text("\n".join(lines) + "\n")
    assert any("by their names" in sentence for sentence in write_description(path, "mine", tmp_path))
    dataset = load_dataset(str(tmp_path / "mine.yaml"))
    assert dataset.layout == layout
    ((known, source),) = list_clips(path, formats=[dataset.format])
    clip = known.read(source)
    np.testing.assert_array_equal(clip.joints[0, 0], penn_body(layout.joints))
    assert clip.confidence is not None
    np.testing.assert_allclose(clip.confidence[0, 0], scores[[names.index(name) for name in layout.joints]])


@pytest.mark.parametrize(("sides", "built_in"), [("LR", True), ("RL", False)])
def test_a_layout_whose_sides_contradict_the_names_is_not_taken(tmp_path, sides, built_in):
    layout = load_layout("penn13")
    names = [name.replace("left_", f"{sides[0]} ").replace("right_", f"{sides[1]} ") + " pt" for name in layout.joints]
    header = ["clip", "frame", "label", *(f"{name}_{axis}" for name in names for axis in "xy")]
    small(tmp_path / "poses.csv", penn_body(layout.joints), header, [("c", "a")])
    data = describe(tmp_path / "poses.csv")
    assert data.is_built_in == built_in
    if not built_in:
        assert data.layout.joints[1] == "right_shoulder_pt"
        assert "92% have names of another side" in data.reasons[0]


@pytest.mark.parametrize(
    "style",
    ["{j}_{a}", "{a}_{j}", "{j}.{A}", "{j}{A}", "{a}{n}", "joint{n}_{a}", "kp_{n}_{a}", "joint{n}{a}", "{j} {a}"],
)
@pytest.mark.parametrize("axes", ["xy", "xyz"])
def test_joints_by_the_names_of_their_columns(style, axes):
    joints = ("head", "hand", "foot")
    columns = [style.format(j=j, n=n, a=a, A=a.upper()) for n, j in enumerate(joints) for a in axes]
    guess = guess_columns(["clip_id", "Frame No", *columns, "max"], [])
    assert guess is not None
    assert (len(guess.joints), guess.dimensions, guess.columns["joints"]) == (3, len(axes), columns)
    assert guess.unused == ("max",)


def test_confidences_and_a_joint_a_row():
    guess = guess_columns(["a_x", "a_y", "a_conf", "b_x", "b_y", "b_conf"], [])
    assert guess is not None
    assert (guess.dimensions, guess.columns["confidence"]) == (2, ["a_conf", "b_conf"])
    rows = [["1", "head", "0", "1", "2"], ["1", "hand", "0", "1", "2"], ["2", "head", "0", "1", "2"]]
    guess = guess_columns(["frame", "keypoint", "x", "y", "score"], rows)
    assert guess is not None
    assert guess.joints == ("head", "hand")
    assert guess.columns == {
        **{"frame": "frame", "joint": "keypoint", "joint_names": ["head", "hand"]},
        **{"joints": ["x", "y"], "confidence": "score"},
    }
    assert guess_columns(["time", "speed"], []) is None


def test_columns_by_their_content():
    """Two clips of a class each, three frames; the names say nothing but who 'person' might be."""
    header = ["p", "q", "r", "person", "s", "a_x", "a_y", "b_x", "b_y"]
    rows = [
        [f"take{clip}", str(5 + frame), ("wave", "sit", "wave")[clip], f"P{clip}", "kitchen", *"1234"]
        for clip in range(3)
        for frame in range(3)
    ]
    guess = guess_columns(header, rows)
    assert guess is not None
    ids = {key: value for key, value in guess.columns.items() if key != "joints"}
    assert ids == {"clip": "p", "frame": "q", "label": "r", "subject": "person"}
    assert guess.unused == ("s",)
    for row in rows:
        row[1] = f"{0.04 * int(row[1]):.2f}"
    guess = guess_columns(["clip", "time", *header[2:]], rows)
    assert guess is not None
    assert (guess.columns.get("frame"), guess.columns["time"]) == (None, "time")


def test_a_folder_of_tables_whose_folders_are_the_classes(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("walk", "run"):
        (tmp_path / label).mkdir()
        for i in range(3):
            header = [f"{joint}_{axis}" for joint in "ab" for axis in "xyz"]
            small(tmp_path / label / f"{label}{i}.csv", rng.normal(size=(2, 3)), header, [("", "")])
    data = describe(tmp_path)
    assert data.classes == ("run", "walk")
    assert [clip.label for clip in data.clips] == ["run"] * 3 + ["walk"] * 3
    write_description(tmp_path, "mine", tmp_path)
    dataset = load_dataset(str(tmp_path / "mine.yaml"))
    read = [dataset.format.read(source) for _, source in list_clips(tmp_path, formats=[dataset.format])]
    assert [dataset.classes[clip.label] for clip in read] == ["run"] * 3 + ["walk"] * 3


def test_clips_of_nobody_are_told_where_people_part_the_clips(tmp_path):
    lines = ["clip,label,subject,a_x,a_y,b_x,b_y"]
    # Nobody's are the only clips of 'sit' that do not train, and lie in neither part.
    for clip, (label, subject) in enumerate([("wave", 1), ("sit", 1), ("wave", 2), ("wave", ""), ("sit", "")]):
        lines += [f"c{clip},{label},{subject},1,2,3,4"] * 3
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    sentences = write_description(tmp_path / "t.csv", "mine", tmp_path)
    assert "2 clips have no subject, so they neither train nor test" in sentences
    assert "no clip of sit tests; choose other subjects under protocols" in sentences


def test_a_description_is_as_long_as_can_be_read_whatever_the_number_of_clips(tmp_path):
    lines = [f"clip {i:04d} of a day in May,{'ab'[i % 2]},{t},2,3,4" for i in range(3000) for t in range(2)]
    (tmp_path / "t.csv").write_text("\n".join(["clip,label,a_x,a_y,b_x,b_y", *lines]) + "\n")
    write_description(tmp_path / "t.csv", "mine", tmp_path)
    assert load_dataset(str(tmp_path / "mine.yaml")).protocols == ("holdout",)


def test_names_of_any_letters_stay_what_they_are(tmp_path):
    labels = [
        "two  blanks",
        "a, b",
        "it's",
        '"',
        "\\",
        "\x7f",
        "a\u2028b",
        "🤸\u00a0x",
        "no",
        "1.0",
        "# 1",
        *("long " * 9 + c for c in "abc"),
    ]
    table = tmp_path / "2024\x7f.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "label", *(f"he\x85ad {v}_{axis}" for v in "12" for axis in "xy")])
        writer.writerows([f"c{i}", label, i, 2, 3, 4] for i, label in enumerate(labels) for _ in range(2))
    write_description(table, "2024", tmp_path)
    dataset = load_dataset(str(tmp_path / "2024.yaml"))
    assert sorted(dataset.classes) == sorted(labels)
    assert dataset.name == dataset.layout.name == "2024"
    read = [dataset.format.read(source) for _, source in list_clips(table, formats=[dataset.format])]
    assert [dataset.classes[clip.label] for clip in sorted(read, key=lambda clip: int(clip.name[1:]))] == labels


def test_what_cannot_be_described_is_said(tmp_path):
    with pytest.raises(FormatError, match="does not exist"):
        describe(tmp_path / "nothing.csv")
    with pytest.raises(FormatError, match="no table"):
        describe(tmp_path)
    (tmp_path / "speeds.csv").write_text("time,speed\n1,2\n")
    with pytest.raises(FormatError, match=r"no joints .* \(time, speed\)"):
        describe(tmp_path / "speeds.csv")


def test_bodies_are_those_of_the_clip_that_has_most_of_all(tmp_path):
    rows = [f"c{i:03},{t},{m},{i + t},{m},1,2" for i in range(200) for t in range(2) for m in range(1 + (i == 1))]
    (tmp_path / "many.csv").write_text("\n".join(["clip,frame,person,a_x,a_y,b_x,b_y", *rows]))
    assert describe(tmp_path / "many.csv").bodies == 2
