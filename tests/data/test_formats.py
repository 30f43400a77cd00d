"""Readers take the owners' files whole, and tell what is wrong with any other."""

import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from last.data.clip import UNKNOWN, FormatError
from last.data.formats import FORMATS, NoSkeletonError, Source, find_files, ntu, nw_ucla, read_clip
from last.data.formats import source as source_module

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data is not at {DATA}")
NAME = "S001C002P003R004A005.skeleton"

REAL_NTU = {
    "S001C001P001R001A001": (103, 1),
    "S001C001P001R001A004": (99, 1),
    "S001C001P001R001A007": (86, 1),
    "S001C001P001R001A009": (67, 1),
    "S001C001P001R001A011": (82, 1),
    "S001C001P001R001A050": (74, 2),
    "S002C001P003R001A003": (100, 1),
    "S003C001P015R001A034": (71, 1),
    "S017C003P020R002A055": (66, 2),
    "S017C003P020R002A058": (65, 2),
}


def ntu_text(joints: np.ndarray, ids: list[int] | None = None, newline: str = "\n") -> str:
    """A (T, M, 25, 3) array as a .skeleton file; bodies that are NaN are left out of the frame."""
    lines = [str(len(joints))]
    for bodies in joints:
        present = [m for m in range(len(bodies)) if not np.isnan(bodies[m]).any()]
        lines.append(str(len(present)))
        for m in present:
            lines += [f"{ids[m] if ids else 10 + m} 0 1 1 1 1 0 0.02 0.05 2", "25"]
            lines += [" ".join(map(repr, map(float, xyz))) + " 277.4 191.8 1036.2 519.1 0 0 0 0 2" for xyz in bodies[m]]
    return newline.join(lines) + newline


def body(frames: int = 2, bodies: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(frames, bodies, 25, 3)).astype(np.float32)


@real
@pytest.mark.parametrize(("name", "shape"), REAL_NTU.items())
def test_real_ntu_files_are_read_whole(name, shape):
    path = DATA / "ntu_raw" / f"{name}.skeleton"
    clip = read_clip(path)
    assert clip.joints.shape == (*shape, 25, 3) and clip.joints.dtype == np.float32
    assert np.isfinite(clip.joints).all()
    # The joint lines, found without the reader: those of 12 fields.
    rows = [line.split()[:3] for line in path.read_text().splitlines() if len(line.split()) == 12]
    expected = np.array(rows, dtype=np.float32).reshape(*shape, 25, 3)
    assert np.array_equal(clip.joints, expected)
    assert (clip.setup, clip.camera, clip.subject, clip.replication, clip.label + 1) == tuple(
        int(name[i : i + 3]) for i in range(1, 20, 4)
    )


@real
def test_real_ntu_files_have_both_line_endings():
    crlf = [b"\r\n" in path.read_bytes() for path in (DATA / "ntu_raw").glob("*.skeleton")]
    assert len(crlf) == 10 and sum(crlf) == 7


@real
def test_real_nw_ucla_is_read_from_its_zip():
    found, _ = find_files([DATA / "nw_ucla_all_sqe.zip"], FORMATS["nw_ucla"])
    assert len(found) == 1484
    clip = nw_ucla.read(next(f.source for f in found if f.source.name == "a12_s09_e03_v02"))
    assert clip.joints.shape[1:] == (1, 20, 3)
    assert (clip.label, clip.subject, clip.replication, clip.camera) == (9, 9, 3, 2)
    short = [f.source for f in found if f.source.name in ("a02_s09_e04_v02", "a02_s09_e04_v03")]
    assert [nw_ucla.read(source).frames for source in short] == [1, 1]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    data=st.data(),
    frames=st.integers(1, 4),
    bodies=st.integers(1, 4),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_as_ntu_is_read(tmp_path_factory, data, frames, bodies, newline):
    finite = st.floats(-1e6, 1e6, width=32)
    joints = data.draw(arrays(np.float32, (frames, bodies, 25, 3), elements=finite))
    present = data.draw(arrays(bool, (frames, bodies)))
    present[0] = True  # so that bodies first show in their order
    joints[~present] = np.nan
    path = tmp_path_factory.mktemp("ntu") / NAME
    path.write_text(ntu_text(joints, newline=newline), newline="")
    clip = ntu.read(path)
    assert np.array_equal(clip.joints, joints, equal_nan=True)
    assert (clip.setup, clip.camera, clip.subject, clip.replication, clip.label) == (1, 2, 3, 4, 4)


def test_bodies_are_matched_by_ids_longer_than_a_double_holds(tmp_path):
    joints = body(frames=3, bodies=2)
    joints[0, 1] = joints[1, 0] = np.nan
    path = tmp_path / "wild.skeleton"
    path.write_text(ntu_text(joints, ids=[72057594037931101, 72057594037931102]))
    clip = ntu.read(path)
    assert np.array_equal(clip.joints, joints, equal_nan=True)
    assert clip.label == clip.setup == clip.camera == clip.subject == clip.replication == UNKNOWN


def lines_with(line: int, text: str) -> bytes:
    lines = ntu_text(body()).splitlines()
    lines[line - 1] = text
    return "\n".join(lines).encode()


GOOD = ntu_text(body())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: found the end of the file, expected the number of frames"),
        (b"\n\n", "line 1: found '', expected the number of frames"),
        (b"\x89PNG\r\n\x00", "is not text: byte 0x89 at 0"),
        (b"0\n", "shows no body in its 0 frames"),
        (b"2\n0\n0\n", "shows no body in its 2 frames"),
        (b"1000000000000\n", "line 1: found '1000000000000', expected the number of frames, at most 1000000"),
        (b"1000001\n0\n", "line 1: found '1000001', expected the number of frames, at most 1000000"),
        (b"1000000\n0\n", "ends after 1 of 1000000 frames; the file is truncated"),
        (b"-3\n", "line 1: found '-3'"),
        (b"1.0\n", "line 1: found '1.0'"),
        (b"1\n999999\n", "line 3: found the end of the file, expected a body"),
        (GOOD[: len(GOOD) // 3].encode(), "ends within a body; the file is truncated"),
        (GOOD[:-60].encode(), "line 57: found '.*', expected 12 numbers"),
        (("\n".join(GOOD.split("\n")[:29])).encode(), "ends after 1 of 2 frames"),
        ((GOOD + "17 18\n").encode(), "line 58: found '17 18', expected the end of the file after 2 frames"),
        (lines_with(4, "20"), "line 4: found '20', expected 25, the number of joints"),
        (lines_with(3, "7 0 1"), "line 3: found '7 0 1', expected a body's 10 fields"),
        (lines_with(3, "-7 0 1 1 1 1 0 0.02 0.05 2"), "line 3: .* a tracking id first"),
        (lines_with(7, "1 2 x 4 5 6 7 8 9 10 11 12"), "line 7: found '1 2 x 4.*', expected numbers and nothing else"),
        (lines_with(7, "1 2 3 4 5 6 7 8 9 10 11 #"), "line 7: .* expected numbers and nothing else"),
        (lines_with(7, "1 2 3 4 5 6 7 8 9 10 11 1_2"), "line 7: .* expected numbers and nothing else"),
        (lines_with(7, "1 2 3e 4 5 6 7 8 9 10 11 12"), "line 7: .* expected 12 numbers, x y z finite"),
        (lines_with(40, "1 2 nan 4 5 6 7 8 9 10 11 12"), "line 40: .* x y z finite"),
        (lines_with(40, "1 1e99 3 4 5 6 7 8 9 10 11 12"), "line 40"),
        (lines_with(40, "1 -1e999 3 4 5 6 7 8 9 10 11 12"), "line 40"),
        (lines_with(40, "1 2 3"), "line 40: found '1 2 3'"),
        (lines_with(40, ""), "line 40: found ''"),
        (
            ntu_text(body(bodies=2), ids=[5, 5]).encode(),
            "line 2: found '2', expected bodies in frame 0 that differ in their tracking ids",
        ),
    ],
)
def test_a_faulty_ntu_file_is_a_sentence(tmp_path, content, message):
    path = tmp_path / NAME
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as error:
        ntu.read(path)
    assert str(path) in str(error.value)


def test_fields_that_nobody_reads_need_only_look_like_numbers(tmp_path):
    path = tmp_path / NAME
    path.write_bytes(lines_with(7, "1 2 3 nan -inf 6 7 8 9 10 11 NaN") + b"\r\n \n")
    assert ntu.read(path).joints[0, 0, 2].tolist() == [1, 2, 3]


def test_the_largest_numbers_of_float32_are_read(tmp_path):
    path = tmp_path / NAME
    path.write_bytes(lines_with(40, "3.4028235e38 1 1 4 5 6 7 8 9 10 11 12"))
    assert ntu.read(path).joints.max() == np.finfo(np.float32).max


@pytest.mark.parametrize(
    "content",
    [
        b"11\n" * 4_000_000,  # bodies without end
        b"300000\n" + b"0\n" * 2_000_000,  # frames without bodies
        b"1\n1\n" + b"1" * 12_000_000,  # one long number
        b"1\n1\n1 0 1 1 1 1 0 0.02 0.05 2\n25\n" + b"1" * 12_000_000,
    ],
    ids=["bodies", "frames", "id", "joint"],
)
def test_a_long_file_that_holds_nothing_is_refused_at_once(tmp_path, content):
    path = tmp_path / NAME
    path.write_bytes(content)
    start = time.process_time()
    with pytest.raises(FormatError):
        ntu.read(path)
    assert time.process_time() - start < 1


def test_a_small_file_cannot_ask_for_a_huge_array(tmp_path, monkeypatch):
    monkeypatch.setattr(ntu, "MAX_ROWS", 3)
    path = tmp_path / NAME
    path.write_text(ntu_text(body(frames=2, bodies=2)))
    with pytest.raises(FormatError, match="2 frames of 2 bodies"):
        ntu.read(path)


def test_nobody_is_told_from_a_fault(tmp_path):
    (tmp_path / NAME).write_text("1\n0\n")
    with pytest.raises(NoSkeletonError):
        ntu.read(tmp_path / NAME)


def write_json(path: Path, **change: object) -> Path:
    skeletons = np.random.default_rng(0).normal(size=(3, 20, 3)).tolist()
    path.write_text(json.dumps({"file_name": path.stem, "skeletons": skeletons, "label": 7} | change))
    return path


def test_nw_ucla_takes_its_ids_from_the_name(tmp_path):
    clip = read_clip(write_json(tmp_path / "a08_s03_e02_v01.json"))
    assert (clip.label, clip.subject, clip.replication, clip.camera) == (6, 3, 2, 1)
    assert clip.joints.shape == (3, 1, 20, 3)


FRAME = [[0.5, 1.0, 2.0]] * 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 6}, "named after action 8, but its label 6 is action 6"),
        ({"label": 11}, "label '11', expected 1 to 10"),
        ({"label": True}, "label 'True'"),
        ({"skeletons": []}, "holds no frame"),
        ({"skeletons": 3}, "no list of frames"),
        ({"skeletons": [FRAME, FRAME[:19]]}, "frame 1: found 19 joints, expected 20"),
        ({"skeletons": [[[1, 2]] * 20]}, "frame 0: found joints that are not 3 finite numbers"),
        ({"skeletons": [FRAME, [["1", "2", "3"]] * 20]}, "frame 1"),
        ({"skeletons": [FRAME, [[1, 2, 1e99]] * 20]}, "frame 1"),
        ({"skeletons": [FRAME, [[1, 2, float("nan")]] * 20]}, "it holds NaN"),
    ],
)
def test_a_faulty_nw_ucla_file_is_a_sentence(tmp_path, change, message):
    path = write_json(tmp_path / "a08_s03_e02_v01.json", **change)
    with pytest.raises(FormatError, match=message) as error:
        nw_ucla.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: not JSON"),
        (b'{\n"label": }', "line 2: not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[1]", "lacks 'skeletons' or 'label'"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_not_json_is_a_sentence(tmp_path, content, message):
    path = tmp_path / "a01_s01_e00_v01.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        nw_ucla.read(path)


def make_zip(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_files_are_found_in_folders_and_zips_in_order_of_their_names(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "b.skeleton").write_text(GOOD)
    (tmp_path / "readme.txt").touch()
    members = {"x/c.skeleton": GOOD, "x/a.skeleton": GOOD, "__MACOSX/._a.skeleton": "", "x/notes.txt": ""}
    make_zip(tmp_path / "raw.zip", **members)
    found, unlisted = find_files([tmp_path], FORMATS["ntu"])
    assert not unlisted and [f.source.name for f in found] == ["a", "b", "c"]
    clips = [ntu.read(f.source) for f in found]
    assert all(np.array_equal(clip.joints, clips[0].joints) for clip in clips)
    with pytest.raises(FormatError, match=r"no \.json file in"):
        find_files([tmp_path], FORMATS["nw_ucla"])
    with pytest.raises(FormatError, match="does not exist"):
        find_files([tmp_path / "gone"], FORMATS["ntu"])


def test_a_zip_is_read_in_place_and_writes_nothing(tmp_path):
    path = make_zip(tmp_path / "evil.zip", **{"../../evil.skeleton": GOOD})
    before = sorted(tmp_path.parent.rglob("*"))
    (found,), _ = find_files([path], FORMATS["ntu"])
    assert ntu.read(found.source).name == "evil"
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_zip_bomb_is_refused_by_its_declared_size(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "MAX_BYTES", 1000)
    path = make_zip(tmp_path / "bomb.zip", **{"a.skeleton": "0" * 1001})
    with pytest.raises(FormatError, match="has 1001 bytes, expected at most 1000"):
        ntu.read(Source(path, "a.skeleton"))
    (tmp_path / "a.skeleton").write_text("0" * 1001)
    with pytest.raises(FormatError, match="has 1001 bytes"):
        ntu.read(tmp_path / "a.skeleton")


def test_a_damaged_zip_is_a_sentence(tmp_path):
    path = make_zip(tmp_path / "raw.zip", **{"a.skeleton": GOOD})
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF  # within the compressed bytes
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"cannot read .*raw\.zip:a\.skeleton"):
        ntu.read(Source(path, "a.skeleton"))
    path.write_bytes(b"PK nothing")
    with pytest.raises(FormatError, match="cannot read the archive"):
        find_files([path], FORMATS["ntu"])


def test_a_damaged_zip_within_a_folder_does_not_hide_the_rest(tmp_path):
    (tmp_path / "a.skeleton").write_text(GOOD)
    (tmp_path / "folder.zip").mkdir()
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK nothing")
    # A directory of entries for a version of zip that nobody has made yet.
    newer = make_zip(tmp_path / "newer.zip", **{"b.skeleton": GOOD})
    content = newer.read_bytes()
    newer.write_bytes(content.replace(b"PK\1\2\x14\3\x14", b"PK\1\2\x14\3\xff"))
    found, unlisted = find_files([tmp_path], FORMATS["ntu"])
    assert [f.source.name for f in found] == ["a"] and unlisted.keys() == {broken, newer}
    assert "cannot read the archive" in unlisted[broken] and "version 25.5" in unlisted[newer]
    with pytest.raises(FormatError, match="cannot read the archive"):
        find_files([tmp_path, newer], FORMATS["ntu"])


def test_an_unknown_suffix_names_those_that_are_known(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"video")
    with pytest.raises(FormatError, match=r"no clip in .*clip\.mp4; files of clips end in \.skeleton \(ntu\), "):
        read_clip(tmp_path / "clip.mp4")
    with pytest.raises(FormatError, match=r"gone\.skeleton does not exist"):
        read_clip(tmp_path / "gone.skeleton")


def test_a_file_that_is_not_read_is_not_called_text_that_is_not_json(tmp_path, monkeypatch):
    with pytest.raises(FormatError, match=r"^cannot read .*gone\.json: No such file"):
        nw_ucla.read(tmp_path / "gone.json")
    monkeypatch.setattr(source_module, "MAX_BYTES", 10)
    with pytest.raises(FormatError, match=r"long\.json has \d+ bytes, expected at most 10 for one clip$"):
        nw_ucla.read(write_json(tmp_path / "long.json"))


def test_linked_folders_are_looked_into_once_and_by_their_own_name_where_they_have_one(tmp_path):
    text = ntu_text(body())
    for place, number in (("raw/walk", 1), ("elsewhere/run", 2)):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / f"S001C001P001R001A00{number}.skeleton").write_text(text)
    raw = tmp_path / "raw"
    (raw / "run").symlink_to(tmp_path / "elsewhere" / "run")
    (raw / "all").symlink_to(raw)
    (raw / "a_walk").symlink_to(raw / "walk")
    (raw / "walk" / "up").symlink_to("..")
    (raw / "gone").symlink_to(tmp_path / "nothing")
    assert [file.relative_to(raw).parts[0] for file in source_module.files_in(raw)] == ["gone", "run", "walk"]
    found, unlisted = find_files([raw], FORMATS["ntu"])
    assert [file.source.path.parent.name for file in found] == ["walk", "run"] and not unlisted
