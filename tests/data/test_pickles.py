"""Plain data comes out of a pickle as it went in; nothing else does, and nothing is run or reserved for it."""

import os
import pickle
import struct
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from last.data.clip import FormatError
from last.data.formats import Source, pickles

ARRAY = np.arange(600, dtype=np.float32).reshape(2, 300)
PLAIN = {
    "names": ["a", "é", "\udc80", ""],
    "numbers": (0, 1, -1, 255, 65536, -(2**40), 2**100, 0.5, True, False, None),
    "bytes": [b"", b"\x00\xff", bytes(1000), bytearray(b"abc")],
    "sets": [{1, 2}, frozenset("ab"), set()],
    3: {"nested": [[(1, 2, 3, 4)], {}]},
}
ARRAYS = [
    ARRAY,
    ARRAY.astype(">f8"),
    np.asfortranarray(ARRAY.astype(np.float16)),
    np.array(["one", "three"]),
    np.array([b"one", b"three"]),
    np.array([True, False]),
    np.array(5),
    ARRAY[:, ::7],
]


def load(tmp_path: Path, content: bytes) -> object:
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    return pickles.load(Source(path))


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_and_arrays_are_read_in_every_protocol(tmp_path, protocol):
    assert load(tmp_path, pickle.dumps(PLAIN, protocol)) == PLAIN
    arrays = load(tmp_path, pickle.dumps([*ARRAYS, ARRAYS[0]], protocol))
    for found, expected in zip(arrays, [*ARRAYS, ARRAYS[0]], strict=True):
        assert found.dtype == expected.dtype and np.array_equal(found, expected)
    assert arrays[0] is arrays[-1]
    scalars = [np.float64(2.5), np.int64(-3), np.bool_(True), np.str_("x")]
    assert load(tmp_path, pickle.dumps(scalars, protocol)) == [2.5, -3, True, "x"]


def test_pickles_of_numpy_1_are_read(tmp_path):
    new = pickle.dumps(ARRAY, 2)
    old = new.replace(b"numpy._core", b"numpy.core")
    assert np.array_equal(load(tmp_path, old), ARRAY) and np.array_equal(load(tmp_path, new), ARRAY)


@pytest.mark.parametrize(
    "content",  # what Python 2.7 wrote of (['a\x80\\b\n.skeleton'], [0L, 1, True, 2.5]) in protocols 0, 1 and 2
    [
        b"((lp1\nS'a\\x80\\\\b\\n.skeleton'\np2\na(lp3\nL0L\naI1\naI01\naF2.5\natp4\n.",
        b"(]q\x01U\x0ea\x80\\b\n.skeletonq\x02a]q\x03(L0L\nK\x01I01\nG@\x04\x00\x00\x00\x00\x00\x00etq\x04.",
        b"\x80\x02]q\x01U\x0ea\x80\\b\n.skeletonq\x02a]q\x03(\x8a\x00K\x01\x88G@\x04\x00\x00\x00\x00\x00\x00e\x86q\x04.",
    ],
)
def test_pickles_of_python_2_are_read_as_latin_1(tmp_path, content):
    assert load(tmp_path, content) == (["a\x80\\b\n.skeleton"], [0, 1, True, 2.5])


def test_arrays_stay_in_the_file(tmp_path):
    assert not load(tmp_path, pickle.dumps(ARRAY, 4)).flags.owndata


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def described(
    shape: bytes, dtype: bytes = b"cnumpy\ndtype\n(S'f4'\nI00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
) -> bytes:
    """An array with a shape of its own and four bytes."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n("
        + shape
        + b"t"
        + dtype
        + (b"I00\nC\x04abcdtb.")
    )


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        (pickle.dumps(Calls(os.system, "touch ran")), "'posix.system'"),
        (pickle.dumps(Calls(os.system, "touch ran"), 0), "'posix.system'"),
        (pickle.dumps(Calls(eval, "1")), "'builtins.eval'"),
        (pickle.dumps(Calls(getattr, [], "append")), "'builtins.getattr'"),
        (pickle.dumps(Calls(exec, "1"), 2), "'__builtin__.exec'|'builtins.exec'"),
        (pickle.dumps(Path("/")), "'pathlib"),
        (pickle.dumps(OrderedDict(a=1)), "'collections.OrderedDict'"),
        (pickle.dumps(torch.zeros(1)), "'torch"),
        (pickle.dumps(np.random.default_rng(0)), "'numpy.random"),
        (b"cnumpy\nload\n(S'x'\ntR.", "'numpy.load'"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "'numpy.core.multiarray.fromfile'"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "'os.system'"),
        (b"\x80\x04\x8c\x05numpy]\x93.", "what has no name"),
        (b"(S'x'\nios\nsystem\n.", "instruction b'i'"),
        (b"\x80\x02\x82\x01.", r"instruction b'\\x82'"),
        (b"Pname\n.", "instruction b'P'"),
        (b"\x80\x05\x97.", r"instruction b'\\x97'"),
        (b"cnumpy\ndtype\n)\x81.", r"instruction b'\\x81'"),
        (b"cnumpy\ndtype\n}S'_'\nI1\nsb.", "describes what is neither"),
        (b"](I1\ntb.", "describes what is neither"),
        (b"S'x'\n(tR.", "no name"),
    ],
)
def test_anything_but_plain_data_is_refused_before_it_does_anything(tmp_path, monkeypatch, content, asked):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match=rf"x\.pkl.*({asked})"):
        load(tmp_path, content)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (described(b"I1000000\nI1000000\n"), "4 bytes, but its shape .* promises 4000000000000"),
        (described(b"I-1\nI-1\n"), "2 dimensions, expected .* none < 0"),
        (described(b"I1\n" * 30), "30 dimensions"),
        (described(b"F1.0\n"), "no tuple of integers"),
        (described(b"I1\n", b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb"), r"array of '\|O8'"),
        (described(b"I1\n", b"cnumpy\ndtype\n(S'V9999999999'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"), "array of"),
        (described(b"I1\n", b"cnumpy\ndtype\n(S'f4'\nI00\nI01\ntR(I3\nS'<'\nN(S'a'\nt}I-1\nI-1\nI0\ntb"), "records"),
        (described(b"I1\n", b"cnumpy\ndtype\n(S'f4'\nI00\nI01\ntR"), "array of objects"),
        (described(b"I1\n", b"I3\n"), "array of objects"),
        (pickle.dumps(np.array([{}], dtype=object)), "array of"),
        (pickle.dumps(np.zeros(2, [("a", "f4")])), "array of"),
        (pickle.dumps(np.zeros(2, "M8[s]")), "array of"),
        (
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8'\nI00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbC\1atR.",
            "8",
        ),
        (b"cnumpy.core.multiarray\nscalar\n(I1\nI2\nI3\ntR.", "damaged"),
        (b"c__builtin__\nbytearray\n(L1000000000000L\ntR.", "made of something else"),
        (b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b"x.", "1000000000000 bytes, but the file ends after 13"),
        (b"\x80\x05\x8e" + struct.pack("<Q", 2**63) + b"x.", "bytes, but the file ends"),
        (b"]r\xff\xff\xff\x7f.", None),  # a place in the memo far away, for which the standard library reserves 32 GB
        (b"(" * 10**6, "nested more than 100 deep"),
        (b"N" + b"\x85" * 50_000 + b"}" + b"N" + b"\x85" * 50_000 + b"Ns.", "key .* neither text nor an integer"),
        (b"(]\x91.", "key or a member"),
        (
            b"}(" + b"".join(pickle.dumps(i * (2**61 - 1), 2)[2:-1] + b"N" for i in range(50_000)) + b"u.",
            "key or a member",
        ),
        (
            pickle.dumps("x" * 20_000, 2)[:-1] + b"c_codecs\nencode\nq\x01(" + b"h\x01h\x00\x85R" * 20_000 + b"t.",
            "copies",
        ),
        (b"".join(b"Np%d\n" % (i * (2**61 - 1)) for i in range(50_000)) + b".", "remembers"),
        (
            b"(" + (b"\x8a\x10" + b"\x7f" * 16) * 50_000 + b"tq\x00" + described(b"I1\n").replace(b"(I1\nt", b"h\x00"),
            "50000 dim",
        ),
        (b"\x8f(\x8fNtR.", "damaged|no name"),
        (b"I" + b"9" * 10**6 + b"\n.", "more than 40 digits"),
        (b"\x8b\xff\xff\x00\x00" + bytes(65535) + b".", "integer of 65535 bytes"),
        (b"I12", "line without an end"),
        (b"h\x05.", "damaged"),
        (b".", "damaged"),
        (b"]I1\nI2\nu.", "damaged"),
        (b"](NNu.", "no dict"),
        (b"N(Ne.", "no list"),
        (b"\x86.", "tuple of 2"),
        (b"S'x\n.", "quotes"),
        (b"\x8c\x01\xff.", "damaged"),
        (b"plain text", "line without an end"),
        (b"", "empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_promises_and_damage_are_refused_in_no_time(tmp_path, content, message):
    started = time.process_time()
    if message is None:
        assert load(tmp_path, content) == []
    else:
        with pytest.raises(FormatError, match=rf"(?s)x\.pkl.*({message})"):
            load(tmp_path, content)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "content",
    [
        b"\x8f" * 1_000_000,
        b"N" + b"\x94" * 1_000_000,
        b"N" + b"\x85" * 1_500_000,
        b"]" * 1_500_000,
        b"}" * 1_500_000,
        b"(" + b"(d" * 1_500_000,
        b"}(" + b"".join(b"J%bN" % struct.pack("<i", i) for i in range(1_000_000)) + b"u",
        b"\x8f(" + b"".join(b"J%b" % struct.pack("<i", i) for i in range(1_000_000)) + b"\x90",
        b"cnumpy\nndarray\nq\x00" + b"h\x00)R" * 500_000,
        b"\x8c\x05numpyq\x00\x8c\x05dtypeq\x01" + b"h\x00h\x01\x93" * 500_000,
    ],
    ids=["sets", "memo", "tuples", "lists", "dicts", "marked", "entries", "members", "arrays", "names"],
)
def test_containers_take_bounded_memory(tmp_path, content):
    with pytest.raises(FormatError, match=r"x\.pkl, byte \d+: containers of more than"):
        load(tmp_path, content + b".")


def test_many_tiny_clips_are_plain_data(tmp_path):
    x = np.zeros((1, 1, 17, 2), np.float16)
    rows = [{"frame_dir": f"clip{i}", "label": 1, "keypoint": x.copy(), "score": x.copy()} for i in range(40_000)]
    assert len(load(tmp_path, pickle.dumps(rows, 4))) == 40_000


def test_a_list_in_itself_is_only_a_list(tmp_path):
    found = load(tmp_path, b"]q\x00h\x00a.")
    assert found[0] is found


@settings(max_examples=150)
@given(data=st.data(), protocol=st.integers(0, 5))
def test_damaged_pickles_give_an_answer_or_a_refusal(tmp_path_factory, data, protocol):
    content = bytearray(pickle.dumps([PLAIN, *ARRAYS[1:]], protocol))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    try:
        load(tmp_path_factory.getbasetemp(), bytes(content))
    except FormatError as error:
        assert "x.pkl" in str(error)
