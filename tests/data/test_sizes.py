"""Sizes that a file promises, or grows to, are checked before memory is taken.

Each bad file is opened in a child process under the limits of examining.py: a second, and 500 MB.
"""

import bz2
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzzing import files_ending, samples
from scipy.io import savemat

from last.data.formats import FORMATS

FRAMES = 10**12
BOMB = 1 << 30
NAMES = {"ntu": "S001C002P003R002A004.skeleton", "sbu": "skeleton_pos.txt", "nw_ucla": "a08_s03_e02_v01.json"}


def deflated_zeros(size: int) -> bytes:
    """A raw deflate stream of so many zeros, of pieces that do not know of each other."""
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return piece * (size >> 20) + packer.flush()


def zip_of(name: str, packed: bytes, size: int, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of one member that says of itself to unfold to ``size`` bytes."""
    file = name.encode()
    fields = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 33, 0, len(packed), size, len(file), 0)
    local = b"PK\3\4" + fields + file + packed
    entry = b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + file
    return local + entry + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if Path(FORMATS[kind].suffix).suffix != ".zip"])
@pytest.mark.parametrize("says", [BOMB, 1000])
def test_a_bomb_in_a_zip_does_not_go_off(kind, says, tmp_path, refused):
    name = next(iter(samples(kind)[0].files))
    (tmp_path / "bomb.zip").write_bytes(zip_of(name, deflated_zeros(BOMB), says))
    refused(kind, tmp_path / "bomb.zip")


def test_a_bomb_in_another_compression_is_not_unfolded(tmp_path, refused):
    packed = bz2.compress(bytes(100 << 20))
    (tmp_path / "bomb.zip").write_bytes(zip_of(NAMES["ntu"], packed, 1000, zipfile.ZIP_BZIP2))
    assert "compressed otherwise than by deflate" in refused("ntu", tmp_path / "bomb.zip")


@pytest.mark.parametrize("kind", ["utd_mhad", "penn_action"])
def test_a_matlab_bomb_does_not_go_off(kind, tmp_path, refused):
    name = next(iter(samples(kind)[0].files))
    savemat(tmp_path / name, {})
    packed = b"\x78\xda" + deflated_zeros(BOMB)
    with (tmp_path / name).open("ab") as file:
        file.write(struct.pack("<II", 15, len(packed)) + packed)
    assert "unfolds to more than" in refused(kind, tmp_path / name)


@pytest.mark.parametrize(("kind", "name"), files_ending(".npz"))
@pytest.mark.parametrize("says", [BOMB, 1000])
def test_an_npz_bomb_does_not_go_off(kind, name, says, tmp_path, refused):
    opened = samples(kind)[0].write(tmp_path)
    with np.load(tmp_path / name) as arrays:
        key = next(iter(arrays))
    (tmp_path / name).write_bytes(zip_of(f"{key}.npy", deflated_zeros(BOMB), says))
    refused(kind, opened)


def promise_npy(path: Path) -> None:
    content = path.read_bytes()
    size = 10 + int.from_bytes(content[8:10], "little")
    header = content[10:size].decode("latin1")
    head, _, tail = header.partition("'shape': (")
    rest = tail.partition(",")[2]
    text = f"{head}'shape': ({FRAMES},{rest}".rstrip() + "\n"
    path.write_bytes(content[:8] + struct.pack("<H", len(text)) + text.encode("latin1") + content[size:])


def promise_npz(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            inner = path.with_name("inner.npy")
            inner.write_bytes(content)
            promise_npy(inner)
            archive.writestr(name, inner.read_bytes())
            inner.unlink()


@pytest.mark.parametrize(("kind", "name"), files_ending(".npy", ".npz"))
def test_an_array_that_promises_a_trillion_frames_is_refused(kind, name, tmp_path, refused):
    opened = samples(kind)[0].write(tmp_path)
    (promise_npz if name.endswith(".npz") else promise_npy)(tmp_path / name)
    refused(kind, opened)


@pytest.mark.parametrize(("kind", "name"), files_ending(".pkl"))
@pytest.mark.parametrize(
    "promise",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", FRAMES),  # bytes
        b"\x80\x04\x95" + struct.pack("<Q", FRAMES) + b"]",  # a frame of the pickle
        b"\x80\x05\x96" + struct.pack("<Q", FRAMES),  # a bytearray
        b"\x80\x02cnumpy\nndarray\n(\x8a\x06" + FRAMES.to_bytes(6, "little") + b"\x85tR.",
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + FRAMES.to_bytes(6, "little") + b"\x85R.",
        b"\x80\x02cbuiltins\nbytes\n\x8a\x06" + FRAMES.to_bytes(6, "little") + b"\x85R.",
        b"\x80\x02]r\xff\xff\xff\xff.",  # the last place of the memo
        b"\x80\x02" + b"](" + b"2" * 60 + b"e" + b"0" * 3 + b".",
    ],
)
def test_a_pickle_that_promises_a_trillion_frames_is_refused(kind, name, promise, tmp_path, refused):
    opened = samples(kind)[0].write(tmp_path)
    (tmp_path / name).write_bytes(promise)
    refused(kind, opened)


def test_ntu_files_that_promise_a_trillion_are_refused(tmp_path, refused):
    path = tmp_path / NAMES["ntu"]
    for content in (f"{FRAMES}\n", f"1\n{FRAMES}\n", f"1\n1\n7 0 1 1 1 1 0 0 0 2\n{FRAMES}\n", "9" * 1_000_000):
        path.write_text(content)
        assert "line" in refused("ntu", path)


@pytest.mark.parametrize("dimensions", [(FRAMES % 2**31, 2**31 - 1, 3), (20, 3, 2**31 - 1), (-1, 3, 20)])
def test_a_matlab_array_that_promises_a_trillion_frames_is_refused(dimensions, tmp_path, refused):
    path = tmp_path / "a1_s1_t1_skeleton.mat"
    savemat(path, {"d_skel": np.zeros((20, 3, 2))})
    content = path.read_bytes()
    shape = struct.pack("<iii", 20, 3, 2)
    assert content.count(shape) == 1
    path.write_bytes(content.replace(shape, struct.pack("<iii", *dimensions)))
    assert "promises the shape" in refused("utd_mhad", path)


def test_a_store_that_promises_a_trillion_rows_is_refused(tmp_path, refused):
    store = samples("store")[0].write(tmp_path)
    meta = json.loads((store / "meta.json").read_text())
    for key in ("rows", "clips"):
        (store / "meta.json").write_text(json.dumps(meta | {key: FRAMES}))
        assert "prepare the data again" in refused("store", store)
    (store / "meta.json").write_text(json.dumps(meta | {"rows": FRAMES}))
    promise_npy(store / "joints.npy")
    assert "prepare the data again" in refused("store", store)


def test_weights_that_promise_a_trillion_numbers_are_refused(tmp_path, refused):
    path = tmp_path / "last.safetensors"
    path.write_bytes(struct.pack("<Q", FRAMES) + b"{}")
    refused("weights", path)
    tensor = {"dtype": "F32", "shape": [FRAMES], "data_offsets": [0, 4 * FRAMES]}
    header = json.dumps({"weight": tensor}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused("weights", path)


@pytest.mark.parametrize("text", ["[]," * 20_000_000, '{"a":1},' * 8_000_000, "[" * 60_000_000, "1," * 30_000_000])
def test_json_cannot_grow_in_memory(text, tmp_path, refused):
    path = tmp_path / NAMES["nw_ucla"]
    path.write_text(f'{{"label": 7, "skeletons": [{text}[]]}}')
    refused("nw_ucla", path)


@pytest.mark.parametrize("text", ["1\n" * 30_000_000, "1 " * 30_000_000, "\n" * 60_000_000 + "1", "1," * 30_000_000])
@pytest.mark.parametrize("kind", ["sbu", "ntu"])
def test_text_cannot_grow_in_memory(kind, text, tmp_path, refused):
    path = tmp_path / NAMES[kind]
    path.write_text(text)
    refused(kind, path)


@pytest.mark.parametrize("key", ["name", "centre", "dimensions", "joints"])
def test_a_layout_of_a_billion_laughs_is_refused(key, tmp_path, refused):
    levels = ["l0: &l0 ha", *(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10))]
    good = samples("layout")[0].write(tmp_path).read_text().replace(f"{key}:", "old:", 1)
    for content in ("\n".join([*levels, good, f"{key}: *l9"]), f"{good}\n{key}: {'[' * 9000}"):
        (tmp_path / "mine.yaml").write_text(content)
        refused("layout", tmp_path / "mine.yaml")


def test_a_long_yaml_file_is_not_parsed(tmp_path, refused):
    (tmp_path / "mine.yaml").write_text("a: [" + "1, " * 10_000_000)
    assert "has more than 50,000 characters" in refused("layout", tmp_path / "mine.yaml")


def test_a_layout_of_too_many_joints_is_refused(tmp_path, refused):
    joints = "\n".join(f" {i}: 0" for i in range(1001))
    (tmp_path / "mine.yaml").write_text(f"name: x\ndimensions: 3\ncentre: 0\njoints:\n{joints}\n")
    assert "has 1001 joints, expected at most 1000" in refused("layout", tmp_path / "mine.yaml")
