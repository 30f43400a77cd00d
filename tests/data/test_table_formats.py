import json
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from samples_tables import CLASSES, COLUMNS, LAYOUT, READINGS, SAMPLES

from last.data.clip import FormatError
from last.data.formats import FORMATS, NoSkeletonError, Reading, Source, find_files, list_clips
from last.data.formats.columns import Columns
from last.setting_values import ConfigError
from last.skeleton import Layout

PAIR = Layout("pair", ("a", "b"), (0, 0), 0, 2)
HEADER = "clip,frame,label,subject,a_x,a_y,b_x,b_y"
WIDE = {"clip": "clip", "frame": "frame", "label": "label", "subject": "subject"}


def written(folder, *lines, name="t.csv", encoding="utf-8"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def clips_of(path, columns=WIDE, layout=PAIR, classes=("wave", "point"), kind=None):
    known = FORMATS[kind or path.suffix[1:]].with_reading(Reading(layout, classes, columns))
    assert known.clips is not None
    return {name: known.read(Source(path, clip=name)) for name in known.clips(Source(path))}


def read_all(known, reading, path):
    known = known.with_reading(reading)
    return [known.read(source) for _, source in list_clips(path, formats=[known])]


def test_rows_in_any_order_make_clips_whose_gaps_are_missing(tmp_path):
    path = written(
        tmp_path,
        HEADER,
        "two,7,point,4,1,2,3,4",
        "one,12,wave,3,12,0.5,,",
        "two,8,point,4,5,6,7,8",
        "one,10,wave,3,10,0.25,-1,2e-1",
        "",
    )
    clips = clips_of(path)
    one, two = clips["one"], clips["two"]
    nan = np.nan
    expected = np.array([[[[10, 0.25], [-1, 0.2]]], [[[nan, nan], [nan, nan]]], [[[12, 0.5], [nan, nan]]]], np.float32)
    np.testing.assert_array_equal(one.joints, expected)
    assert (one.label, one.subject, one.camera, one.layout, one.parts) == (0, 3, -1, "pair", ())
    assert one.confidence is None
    np.testing.assert_array_equal(two.joints[:, 0].reshape(2, 4), [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert (two.label, two.name) == (1, "two")


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8-sig"), (";", "utf-8"), ("\t", "utf-8")])
def test_delimiter_byte_order_mark_and_quotes(tmp_path, delimiter, encoding):
    lines = ['"clip",frame,label,subject,a_x,a_y,b_x,b_y', '"c ""1"" x",0,wave,1,"1.5",2,3,4']
    path = written(tmp_path, *(line.replace(",", delimiter) for line in lines), encoding=encoding)
    (clip,) = clips_of(path).values()
    assert clip.name == 'c "1" x'
    np.testing.assert_array_equal(clip.joints.ravel(), [1.5, 2, 3, 4])


def test_a_file_is_one_clip_of_its_folders_class_where_no_column_says_otherwise(tmp_path):
    (tmp_path / "point").mkdir()
    path = written(tmp_path / "point", "a_x,a_y,b_x,b_y", "1,2,3,4", "5,6,7,8", name="take.5.csv")
    known = FORMATS["csv"].with_reading(Reading(PAIR, ("wave", "point")))
    ((_, source),) = list_clips(tmp_path, formats=[known])
    clip = known.read(source)
    assert (clip.name, clip.label, clip.frames) == ("take.5", 1, 2)
    assert known.read(known.source(path)).name == "take.5"


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_of_joints_alone_the_rows_are_one_clip_in_order(tmp_path, kind):
    columns = {"clip": "clip", "frame": "frame", "body": "person", "label": "action", "subject": "who"}
    known = FORMATS[kind].with_reading(Reading(PAIR, ("wave", "point"), columns, joints_alone=True))

    def read(header, *rows):
        path = tmp_path / f"new.{kind}"
        records = [dict(zip(header.split(","), row, strict=True)) for row in rows]
        if kind == "csv":
            written(tmp_path, header, *(",".join(map(str, row)) for row in rows), name="new.csv")
        elif kind == "json":
            path.write_text(json.dumps(records))
        else:
            parquet = pytest.importorskip("pyarrow.parquet")
            parquet.write_table(pytest.importorskip("pyarrow").Table.from_pylist(records), path)
        return {source.name: known.read(source) for _, source in list_clips(path, formats=[known])}

    (clip,) = read("a_x,a_y,b_x,b_y", (1, 2, 3, 4), (5, 6, 7, 8)).values()
    assert (clip.name, clip.label, clip.joints.shape) == ("new", -1, (2, 1, 2, 2))
    np.testing.assert_array_equal(clip.joints[:, 0, 0, 0], [1, 5])
    # Those that are there are used.
    ordered = read("clip,frame,a_x,a_y,b_x,b_y", ("c", 9, 1, 2, 3, 4), ("c", 8, 5, 6, 7, 8), ("d", 3, 1, 2, 3, 4))
    assert {name: clip.frames for name, clip in ordered.items()} == {"c": 2, "d": 1}
    np.testing.assert_array_equal(ordered["c"].joints[:, 0, 0, 0], [5, 1])
    (both,) = read("person,frame,a_x,a_y,b_x,b_y", (1, 0, 1, 2, 3, 4), (2, 0, 5, 6, 7, 8)).values()
    assert both.joints.shape == (1, 2, 2, 2)
    with pytest.raises(FormatError, match="has the same frame as in"):
        read("frame,a_x,a_y,b_x,b_y", (0, 1, 2, 3, 4), (0, 5, 6, 7, 8))
    with pytest.raises(FormatError, match="has no column 'b_y'"):
        read("frame,a_x,a_y,b_x", (0, 1, 2, 3))


def test_bodies_are_told_apart_with_and_without_frame_numbers(tmp_path):
    rows = ["9,1,1,2,3,4", "4,1,5,6,7,8", "9,2,11,12,13,14", "4,2,15,16,17,18"]
    path = written(tmp_path, "person,frame,a_x,a_y,b_x,b_y", *rows)
    for columns in ({"body": "person", "frame": "frame"}, {"body": "person"}):
        (clip,) = clips_of(path, columns).values()
        assert clip.joints.shape == (2, 2, 2, 2)
        np.testing.assert_array_equal(clip.joints[..., 0, 0], [[1, 5], [11, 15]])


def test_times_order_rows_without_gaps(tmp_path):
    path = written(tmp_path, "t,a_x,a_y,b_x,b_y", "0.70,3,0,0,0", "0.033,1,0,0,0", "0.40,2,0,0,0")
    (clip,) = clips_of(path, {"time": "t"}).values()
    np.testing.assert_array_equal(clip.joints[:, 0, 0, 0], [1, 2, 3])


def test_a_joint_a_row(tmp_path):
    rows = ["c,0,RB,3,4,0.5", "c,0,RA,1,2,1.0", "c,2,RA,5,6,0.25"]
    path = written(tmp_path, "clip,frame,marker,X,Y,score", *rows)
    columns = {
        **{"clip": "clip", "frame": "frame", "joint": "marker", "joint_names": ["RA", "RB"]},
        **{"joints": ["X", "Y"], "confidence": "score"},
    }
    (clip,) = clips_of(path, columns).values()
    np.testing.assert_array_equal(clip.joints[:, 0, 0], [[1, 2], [np.nan, np.nan], [5, 6]])
    np.testing.assert_array_equal(clip.joints[:, 0, 1], [[3, 4], [np.nan, np.nan], [np.nan, np.nan]])
    assert clip.confidence is not None
    np.testing.assert_array_equal(clip.confidence[:, 0], [[1, 0.5], [0, 0], [0.25, 0]])


def test_columns_by_pattern_list_and_confidence(tmp_path):
    path = written(tmp_path, "x.a,y.a,x.b,y.b,a.s,b.s", "1,2,3,4,0.5,1")
    by_pattern = {"joints": "{axis}.{joint}", "confidence": "{joint}.s"}
    by_list = {"joints": ["x.a", "y.a", "x.b", "y.b"], "confidence": ["a.s", "b.s"]}
    for columns in (by_pattern, by_list):
        (clip,) = clips_of(path, columns).values()
        np.testing.assert_array_equal(clip.joints.ravel(), [1, 2, 3, 4])
        assert clip.confidence is not None
        np.testing.assert_array_equal(clip.confidence.ravel(), [0.5, 1])


@pytest.mark.parametrize(
    ("word", "columns", "subject"),
    [("7", {}, 7), ("7.0", {}, 7), ("S03", {}, 3), ("", {}, -1), ("bert", {"subjects": ["anna", "bert"]}, 1)],
)
def test_subjects_are_numbers_or_end_in_one_or_are_listed(tmp_path, word, columns, subject):
    path = written(tmp_path, HEADER, f"c,0,1,{word},1,2,3,4")
    clip = clips_of(path, {**WIDE, **columns})["c"]
    assert (clip.subject, clip.label) == (subject, 1)


@pytest.mark.parametrize(
    ("classes", "label", "expected"),
    [
        (("wave", "point"), "1.0", 1),
        (("2", "5", "7"), "5", 1),
        (("1", "2", "3"), "1.0", 0),
        (("1.0", "2.0"), "2", 1),
        (("none", "3"), "3", 1),
    ],
)
def test_a_number_is_a_class_s_place_only_where_no_class_is_named_by_one(tmp_path, classes, label, expected):
    path = written(tmp_path, HEADER, f"c,0,{label},1,1,2,3,4")
    assert clips_of(path, classes=classes)["c"].label == expected


@pytest.mark.parametrize(("classes", "label"), [(("2", "5", "7"), "0"), (("none", "3"), "1"), (("10", "20"), "1_0")])
def test_a_number_that_names_no_class_is_refused(tmp_path, classes, label):
    path = written(tmp_path, HEADER, f"c,0,{label},1,1,2,3,4")
    with pytest.raises(FormatError, match=f"line 2: the label is '{label}', expected one of '{classes[0]}', "):
        clips_of(path, classes=classes)


def test_the_data_s_own_parts(tmp_path):
    path = written(tmp_path, "split,a_x,a_y,b_x,b_y", "test,1,2,3,4")
    assert clips_of(path, {"part": "split"})["t"].parts == ("given/test",)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["c,0,wave,1,1,2,3,4", "c,0,wave,1,1,2,3,4"], r"line 3: clip 'c' has the same frame as in line 2"),
        (
            ["c,0,wave,1,1,2,3,4", "c,1,point,1,1,2,3,4"],
            r"line 3: clip 'c' has the label 'point', but 'wave' in line 2",
        ),
        (["c,0,wave,1,1,2,3"], r"line 2: found 7 fields, expected 8"),
        (["c,0,wave,1,1,2,3,4", "c,1,wave,1,1,2,x,4"], r"line 3: column 'b_x' holds 'x', expected a finite number"),
        (["c,0,wave,1,1,2,inf,4"], r"line 2: column 'b_x' holds 'inf'"),
        (["c,0,wave,1,1,2,1e39,4"], r"line 2: column 'b_x' holds '1e39'"),
        (["c,0.5,wave,1,1,2,3,4"], r"line 2: the frame is 0.5, expected a whole number; times go under 'time'"),
        (["c,0,wave,1,1,2,3,4", "c,100000,wave,1,1,2,3,4"], r"frames 100,001 apart"),
        (["c,0,jump,1,1,2,3,4"], r"line 2: the label is 'jump', expected a number from 0 or one of 'wave', 'point'"),
        (["c,0,wave,anna,1,2,3,4"], r"'anna' is no whole number .* columns.subjects"),
        (["c,0,wave,-1,1,2,3,4"], r"'-1' is no whole number"),
        (["c,0,wave,9999999999,1,2,3,4"], r"'9999999999' is no whole number"),
        (["c,0,wave,a1,1,2,3,4", "d,0,wave,b1,1,2,3,4"], r"'a1' and 'b1' end in the same number"),
        (["c,0,wave,3.0,1,2,3,4", "d,0,wave,S3,1,2,3,4"], r"'3' and 'S3' end in the same number"),
        ([",0,wave,1,1,2,3,4"], r"line 2 names no clip"),
    ],
)
def test_faults_name_line_and_column(tmp_path, lines, said):
    path = written(tmp_path, HEADER, *lines)
    with pytest.raises(FormatError, match=said) as fault:
        clips_of(path)
    assert str(path) in str(fault.value)


def test_empty_lines_are_counted(tmp_path):
    with pytest.raises(FormatError, match=r"line 5: found 7 fields, expected 8"):
        clips_of(written(tmp_path, "", " ", HEADER, "", "c,0,wave,1,1,2,3"))


@pytest.mark.parametrize(
    ("header", "columns", "said"),
    [
        ("a_x,a_y,b_x,c_y", {}, r"no column 'b_y'; its columns are 'a_x', .*Layout 'pair' has 2 joints"),
        ("a_x,a_x,a_y,b_x,b_y", {}, r"more than one column 'a_x'"),
        ("a_x,a_y", {"joints": ["a_x", "a_y"]}, r"2 columns of joints, but layout 'pair' has 2 joints .* expected 4"),
    ],
)
def test_a_header_that_does_not_fit(tmp_path, header, columns, said):
    with pytest.raises(FormatError, match=said):
        clips_of(written(tmp_path, header, "1" + ",1" * header.count(",")), {**columns, "clip": "a_x"})


def test_empty_binary_and_undescribed_files(tmp_path):
    with pytest.raises(NoSkeletonError, match="no row"):
        clips_of(written(tmp_path, HEADER))
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(FormatError, match="is empty"):
        clips_of(tmp_path / "empty.csv")
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\nni\xf1o,0,0,0,1,2,3,4\n".encode("latin1"))
    with pytest.raises(FormatError, match="not UTF-8 text: byte 0xf1"):
        clips_of(tmp_path / "latin.csv")
    with pytest.raises(FormatError, match="last data new"):
        FORMATS["csv"].read(written(tmp_path, HEADER, "c,0,0,0,1,2,3,4"))


def test_a_wrong_mapping_is_said_at_once():
    with pytest.raises(ConfigError, match=r"unknown key 'clips'"):
        Columns.of({"clips": "clip"})
    with pytest.raises(ConfigError, match=r"columns.subjects is 'anna', expected a list"):
        Columns.of({"subjects": "anna"})
    with pytest.raises(ConfigError, match=r"columns.clip is \['a'\], expected the name"):
        Columns.of({"clip": ["a"]})


def test_a_changed_file_is_read_again(tmp_path):
    import os

    path = written(tmp_path, HEADER, "c,0,wave,1,1,2,3,4")
    assert clips_of(path)["c"].joints[0, 0, 0, 0] == 1
    path.write_text(f"{HEADER}\nc,0,wave,1,9,2,3,4\n")
    os.utime(path, ns=(1, 1))
    assert clips_of(path)["c"].joints[0, 0, 0, 0] == 9


@pytest.mark.parametrize("kind", ["tsv", "json", "parquet"])
def test_the_same_rows_make_the_same_clips_in_every_format(tmp_path, kind):
    from samples_tables import rows

    if kind == "parquet":
        pytest.importorskip("pyarrow")
    content = rows(np.random.default_rng(3))
    names = list(content[0])
    lines = [",".join("" if row[name] is None else str(row[name]) for name in names) for row in content]
    expected = clips_of(written(tmp_path, ",".join(names), *lines), COLUMNS, LAYOUT, CLASSES)
    path = tmp_path / f"t.{kind}"
    if kind == "tsv":
        path.write_text("\n".join(line.replace(",", "\t") for line in [",".join(names), *lines]))
    elif kind == "json":
        path.write_text(json.dumps(content))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(content), path)
    found = clips_of(path, COLUMNS, LAYOUT, CLASSES)
    assert list(found) == list(expected)
    for name, clip in found.items():
        for key in ("label", "subject", "parts", "layout"):
            assert getattr(clip, key) == getattr(expected[name], key)
        np.testing.assert_array_equal(clip.joints, expected[name].joints)
        np.testing.assert_array_equal(clip.confidence, expected[name].confidence)


def test_whole_clips_as_json(tmp_path):
    joints = [[[1, 2], [3, None]], [[5, 6], [7, 8]]]
    content = {"clips": [{"name": "c", "label": "point", "subject": "S2", "joints": joints}, {"joints": [joints]}]}
    path = written(tmp_path, json.dumps(content), name="t.json")
    clips = clips_of(path, {})
    assert list(clips) == ["c", "t_00001"]
    np.testing.assert_array_equal(clips["c"].joints[:, 0], np.array([[[1, 2], [3, np.nan]], [[5, 6], [7, 8]]], "f4"))
    assert (clips["c"].label, clips["c"].subject, clips["c"].confidence) == (1, 2, None)
    assert (clips["t_00001"].joints.shape, clips["t_00001"].label) == ((1, 2, 2, 2), -1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2]", "row 0: found int, expected an object"),
        ("{}", "neither a list of rows nor 'clips'"),
        ('{"clips": [{"joints": [[[1, 2], [3]]]}]}', "joints is no array of numbers"),
        ('{"clips": [{"joints": [[[1, 2]]]}]}', r"shape \(1, 1, 2\), expected \(frames, 2, 2\)"),
        ('{"clips": [{"joints": [[[1, 2], [3, 4]]], "confidence": [[1, 2]]}]}', "not from 0 to 1"),
        ('{"clips": [{"joints": [[[1, 2], [3, 4]]], "label": {"a": 1}}]}', "'label' holds dict"),
        ('[{"a_x": 1, "a_y": 2, "b_x": [3], "b_y": 4}]', "'b_x' holds list"),
        (
            '{"clips": [{"name": "c", "subject": "a1"}, {"name": "d", "subject": "b1"}]}',
            "'a1' and 'b1' end in the same",
        ),
    ],
)
def test_faulty_json(tmp_path, content, said):
    with pytest.raises(FormatError, match=said):
        clips_of(written(tmp_path, content, name="t.json"), {})


@pytest.mark.parametrize("kind", ["npz", "json"])
@pytest.mark.parametrize("columns", [{}, {"label": "action", "subject": "who", "subjects": ["anna"]}])
def test_of_whole_clips_the_joints_alone_may_be_asked(tmp_path, kind, columns):
    told = {"label": "jump", "subject": "zoe", "action": "jump", "who": "zoe", "camera": [1, 2], "part": "some"}
    joints, known = np.ones((3, 2, 2)), FORMATS[kind]
    if kind == "npz":
        np.savez(tmp_path / "c.npz", joints=joints, **told)
    else:
        clips = [
            {"name": name, "joints": joints.tolist(), **told, "who": who} for name, who in (("c", "a1"), ("d", "b1"))
        ]
        (tmp_path / "c.json").write_text(json.dumps({"clips": clips}))
    reading = Reading(PAIR, ("wave", "point"), columns)
    path = tmp_path / f"c.{kind}"
    assert all(
        (clip.label, clip.subject) == (-1, -1) for clip in read_all(known, replace(reading, joints_alone=True), path)
    )
    with pytest.raises(FormatError):
        read_all(known, reading, path)


def test_npz_with_arrays_under_their_own_and_other_names(tmp_path):
    joints = np.arange(8, dtype=np.float64).reshape(2, 2, 2)
    joints[0, 0] = np.nan
    path = tmp_path / "c.npz"
    np.savez(path, pose=joints, label=np.array("point"), who=np.int64(4))
    known = FORMATS["npz"].with_reading(Reading(PAIR, ("wave", "point"), {"joints": "pose", "subject": "who"}))
    clip = known.read(known.source(path))
    np.testing.assert_array_equal(clip.joints, joints[:, None])
    assert (clip.name, clip.label, clip.subject) == ("c", 1, 4)
    with pytest.raises(FormatError, match=r"no array 'joints'; it has label, pose, who"):
        FORMATS["npz"].with_reading(Reading(PAIR)).read(path)
    np.savez(path, joints=joints + np.inf)
    with pytest.raises(FormatError, match=r"joints\[0, 0, 0\] is infinite|joints\[0, 1, 0\] is infinite"):
        FORMATS["npz"].with_reading(Reading(PAIR)).read(path)


def test_parquet_that_promises_more_than_it_holds_or_words_for_numbers(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {f"{joint}_{axis}": pa.array(np.zeros(3_000_000, np.float32)) for joint in "ab" for axis in "xy"}
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd")
    with pytest.raises(FormatError, match="promises 3,000,000 rows"):
        clips_of(path, {"clip": "a_x"})
    words = pa.table({**{name: [0.5] for name in columns}, "b_y": ["one"]})
    pq.write_table(words, tmp_path / "w.parquet")
    with pytest.raises(FormatError, match="column 'b_y' holds string, expected numbers"):
        clips_of(tmp_path / "w.parquet", {"clip": "a_x"})


def test_parquet_texts_may_be_bytes(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {"clip": [b"c"], "action": [b"wave"], **{f"{joint}_{axis}": [0.5] for joint in "ab" for axis in "xy"}}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    clips = clips_of(tmp_path / "t.parquet", {"clip": "clip", "label": "action"})
    assert {name: clip.label for name, clip in clips.items()} == {"c": 0}


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_are_read_from_a_zip_too(tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    path = SAMPLES[kind](tmp_path, np.random.default_rng(1))
    known = FORMATS[kind].with_reading(READINGS[kind])
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.write(path, path.name)
    plain = [known.read(source) for _, source in list_clips(path, formats=[known])]
    packed = [known.read(source) for _, source in list_clips(tmp_path / "packed.zip", formats=[known])]
    assert [clip.digest() for clip in packed] == [clip.digest() for clip in plain]
    assert len(plain) >= 1


@pytest.mark.parametrize("kind", ["csv", "npz", "json"])
def test_files_of_one_name_in_class_folders_are_clips_of_their_own(tmp_path, kind):
    joints = {"wave": np.full((3, 2, 2), 1.0), "point": np.full((3, 2, 2), 2.0)}
    for label, values in joints.items():
        folder = tmp_path / label
        folder.mkdir()
        if kind == "csv":
            rows = [",".join(map(str, frame.ravel())) for frame in values]
            written(folder, "a_x,a_y,b_x,b_y", *rows, name="001.csv")
        elif kind == "npz":
            np.savez(folder / "001.npz", joints=values)
        else:
            (folder / "001.json").write_text(json.dumps({"clips": [{"name": "001", "joints": values.tolist()}]}))
    known = FORMATS[kind].with_reading(Reading(PAIR, ("wave", "point"), {}))
    found, unlisted = find_files([tmp_path], known)
    assert not unlisted
    clips = {file.source.name: known.read(file.source) for file in found}
    assert [clip.name for clip in clips.values()] == ["point_001", "wave_001"]
    assert {name: (clip.label, clip.joints[0, 0, 0, 0]) for name, clip in clips.items()} == {
        "wave_001": (0, 1.0),
        "point_001": (1, 2.0),
    }


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_clips_of_one_name_in_many_files_are_clips_of_their_own(tmp_path, kind):
    """Numbers that begin anew in each file; two files of one name; and a clip that is called as another would be."""
    held = {"a/s1": ["1", "2"], "a/s2": ["1"], "b/s1": ["1"], "c/s3": ["a_s1_1", "s3_7"], "d/s3": ["s3_7"]}
    for at, (place, names) in enumerate(held.items()):
        path = tmp_path / f"{place}.{kind}"
        path.parent.mkdir(exist_ok=True)
        if kind == "csv":
            written(path.parent, "clip,a_x,a_y,b_x,b_y", *(f"{name},{at},0,0,0" for name in names), name=path.name)
        else:
            clips = [{"name": name, "joints": [[[at, 0], [0, 0]]]} for name in names]
            path.write_text(json.dumps({"clips": clips}))
    known = FORMATS[kind].with_reading(Reading(PAIR, (), {"clip": "clip"} if kind == "csv" else {}))
    clips = [known.read(source) for _, source in list_clips(tmp_path, formats=[known])]
    found = {clip.name: clip.joints[0, 0, 0, 0] for clip in clips}
    assert len(clips) == len(found) == 7
    assert found.pop("2") == 0  # of one file alone
    inner = {"s2_1": 1, "c_s3_7": 3, "d_s3_7": 4, "b_s1_1": 2, "s3_a_s1_1": 3, f"{tmp_path.name}_a_s1_1": 0}
    assert {name: at for name, at in found.items() if name in inner} == inner
    assert {source.name for _, source in list_clips(tmp_path / f"a/s1.{kind}", formats=[known])} == {"1", "2"}


def test_numbers_of_clips_that_are_names_of_files_are_told_apart_too(tmp_path):
    for i in range(1, 13):
        rows = [f"{clip},{i},{clip},0,0" for clip in range(1, 13)]
        written(tmp_path, "clip,a_x,a_y,b_x,b_y", *rows, name=f"{i}.csv")
    known = FORMATS["csv"].with_reading(Reading(PAIR, (), {"clip": "clip"}))
    clips = [known.read(source) for _, source in list_clips(tmp_path, formats=[known])]
    assert {(clip.name, *clip.joints[0, 0, 0]) for clip in clips} >= {("10_1", 10, 1), ("1_10", 1, 10)}
    assert len({clip.name for clip in clips}) == len(clips) == 144


def test_a_file_beside_its_own_archive_is_the_same_and_in_another_folder_it_is_not(tmp_path):
    for folder in ("wave", "point"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder, "clip,a_x,a_y,b_x,b_y", "1,1,2,3,4", "2,1,2,3,4", name="rec.csv")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "wave/rec.csv", "wave/rec.csv")
    known = FORMATS["csv"].with_reading(Reading(PAIR, ("wave", "point"), {"clip": "clip"}))
    names = Counter(source.name for _, source in list_clips(tmp_path, formats=[known]))
    assert names == {"wave_rec_1": 2, "wave_rec_2": 2, "point_rec_1": 1, "point_rec_2": 1}


def test_files_of_one_name_in_folders_of_one_name_are_told_apart_by_those_above(tmp_path):
    for at, day in enumerate(("monday", "friday")):
        with zipfile.ZipFile(tmp_path / f"{day}.zip", "w") as archive:
            archive.writestr("wave/001.csv", f"a_x,a_y,b_x,b_y\n1,2,3,{at}\n")
    known = FORMATS["csv"].with_reading(Reading(PAIR, ("wave",), {}))
    paths = [tmp_path / "monday.zip", tmp_path / "friday.zip"]
    assert [file.source.name for file in find_files(paths, known)[0]] == ["friday_wave_001", "monday_wave_001"]
    twice, _ = find_files([paths[0], paths[0]], known)
    assert [file.source.name for file in twice] == ["001", "001"]  # the same file is no other clip
