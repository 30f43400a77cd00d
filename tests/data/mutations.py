"""Ways in which files go wrong, as hypothesis strategies: from the bytes of a good file to those of a bad one.

Some know nothing of the content; the others know where text, JSON, tables, NumPy arrays, pickles or zips are sensitive.
"""

import io
import pickletools
import re
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress

from hypothesis import strategies as st

MAX_BYTES = 1 << 20  # of a mutated file; a longer one is cut
ENDLESS = b"9" * 5000
EXTREMES = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (
    *(
        b"1000000000000",
        b"1000000000",
        b"100000",
        b"0",
        b"-0",
        b"-1",
        b"-1000000000000",
        b"+3",
        b"1_0",
        b"0x1f",
        b"1.5",
    ),
    *(b"1e308", b"-1e308", b"1e39", b"1e999", b"1e-320", b"nan", b"NaN", b"inf", b"-Infinity", b"", b" ", ENDLESS),
    *(b'"7"', b"null", b"true", b"[]", b"{}", b"[[1]]", "٣".encode(), "½".encode(), b"1e" + ENDLESS[:300]),
)
PIECES = (
    *(
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b",",
        b";",
        b"\t",
        b'"',
        b"'",
        b"#",
        b"\\",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
    ),
    *("\u2028".encode(), b"\x1c", b"\x0c", b"%s", b"../../x", b"=1+1", b"\\ud800", b"]", b"}", b"[", b"{", b":"),
)
NESTS = ((b"[", b"]"), (b'{"a":', b"}"), (b"[", b""), (b'{"keypoints":[', b"]}"), (b"(", b")"))
SHAPES = (
    *("(1000000000000,)", "(1000000000000, 25, 3)", "(4294967296, 4294967296)", "(-1, 3)", "()", "(0, 0)", "(2, 0, 3)"),
    *("(1, 3, 9, 25, 1000000)", "(1.5,)", "(True,)", "('a',)", "(9,)*9", "((((((((1,),),),),),),),)"),
)
DTYPES = ("|O", "<f8", ">f4", "<f2", "|b1", "|S0", "<U99999999", "|V1000000000", "<M8[s]", "<c16", "<i8", "?", "f4, O")
OPCODES = (
    *(b"cos\nsystem\n", b"c__builtin__\neval\n", b"cnumpy\nload\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"),
    *(b"(", b")", b"]", b"}", b"t", b"l", b"d", b"e", b"u", b"a", b"s", b"0", b"1", b"2", b".", b"N", b"Q", b"P1\n"),
    *(b"R", b"b", b"o", b"\x81", b"\x93", b"\x82\1", b"S'ls'\n", b"(S'ls'\nios\nsystem\n"),
    *(b"K\xff", b"J\xff\xff\xff\x7f", b"I" + ENDLESS + b"\n", b"L" + ENDLESS + b"L\n", b"\x8a\xff" + b"\x7f" * 255),
    *(b"\x8b\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f", b"T\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f"),
    *(b"\x8d" + b"\xff" * 8, b"\x8e\0\0\0\0\1\0\0\0", b"\x95" + b"\xff" * 8, b"\x96\0\0\0\0\1\0\0\0"),
    *(b"r\xff\xff\xff\x7f", b"p999999999\n", b"j\xff\xff\xff\x7f", b"g7\n", b"h\1"),
)

_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_]{2,}")

Mutation = Callable[[st.DrawFn, bytes], bytes]


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes after one to three mutations."""
    for _ in range(draw(st.integers(1, 3))):
        mutation = draw(st.sampled_from([*_ANY, *_fitting(data)]))
        data = mutation(draw, data)[:MAX_BYTES]
    return data


def _fitting(data: bytes) -> list[Mutation]:
    """Mutations that know what the bytes are; several times, where they reach further than the others."""
    if data.startswith(b"PK\3\4"):
        return [_zip_field, _within_zip, _within_zip, _within_zip]
    if data.startswith(b"\x93NUMPY"):
        return [_npy_header] * 3
    if data.startswith(b"\x80"):
        return [_opcode] * 4
    if data.startswith(b"PAR1"):
        return [_varint] * 3
    if data[8:9] == b"{":
        return [_safetensors_header] * 3
    if b"\0" in data[:1000]:
        return [_unpacked_part] if data.startswith(b"MATLAB") else []
    return [_number, _number, _count, _count, _piece, _word, _nest, _line, _cell]


def _place(draw: st.DrawFn, data: bytes) -> int:
    """A position, as often near the beginning or the end, where headers and directories stand, as anywhere."""
    near = draw(st.integers(0, min(len(data), 300)))
    return draw(st.sampled_from((near, len(data) - near, draw(st.integers(0, len(data))))))


def _block(draw: st.DrawFn, data: bytes) -> slice:
    start = _place(draw, data)
    return slice(start, start + draw(st.sampled_from((1, 4, 8, 64, 1000))))


def _flip(draw: st.DrawFn, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 8)) if data else 0):
        changed[min(_place(draw, data), len(data) - 1)] ^= draw(st.integers(1, 255))
    return bytes(changed)


def _truncate(draw: st.DrawFn, data: bytes) -> bytes:
    return data[: _place(draw, data)]


def _delete(draw: st.DrawFn, data: bytes) -> bytes:
    block = _block(draw, data)
    return data[: block.start] + data[block.stop :]


def _repeat(draw: st.DrawFn, data: bytes) -> bytes:
    block = _block(draw, data)
    return data[: block.stop] + data[block] * draw(st.sampled_from((1, 2, 100, 10_000))) + data[block.stop :]


def _swap(draw: st.DrawFn, data: bytes) -> bytes:
    one, other = sorted((_block(draw, data), _block(draw, data)), key=lambda block: block.start)
    between = data[one.stop : other.start]
    return data[: one.start] + data[other] + between + data[one] + data[max(one.stop, other.stop) :]


def _insert(draw: st.DrawFn, data: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw(st.binary(min_size=1, max_size=20)) + data[at:]


def _integer(draw: st.DrawFn, data: bytes) -> bytes:
    """An extreme number in place of one, two, four or eight bytes, mostly where a number may stand."""
    size = draw(st.sampled_from((1, 2, 4, 8)))
    at = _place(draw, data) & ~draw(st.sampled_from((size - 1, 0)))
    value = draw(st.sampled_from(EXTREMES)) % 256**size
    return data[:at] + value.to_bytes(size, draw(st.sampled_from(("little", "big")))) + data[at + size :]


_ANY: tuple[Mutation, ...] = (_flip, _truncate, _delete, _repeat, _swap, _insert, _integer)


def _replaced(draw: st.DrawFn, data: bytes, pattern: re.Pattern[bytes], values: tuple[bytes, ...], first: int) -> bytes:
    """One of the first matches replaced by one of the values."""
    matches = list(pattern.finditer(data))[:first]
    if not matches:
        return data
    match = draw(st.sampled_from(matches))
    return data[: match.start()] + draw(st.sampled_from(values)) + data[match.end() :]


def _number(draw: st.DrawFn, data: bytes) -> bytes:
    return _replaced(draw, data, _NUMBER, NUMBERS, first=2000)


def _count(draw: st.DrawFn, data: bytes) -> bytes:
    """As above, among the first, which mostly say how much follows."""
    return _replaced(draw, data, _NUMBER, NUMBERS, first=6)


def _word(draw: st.DrawFn, data: bytes) -> bytes:
    """A name replaced by another of the file's, so that one is lacking and one is there twice, or by a number."""
    return _replaced(draw, data, _WORD, (*_WORD.findall(data)[:100], *NUMBERS[:6], b"x"), first=200)


def _piece(draw: st.DrawFn, data: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw(st.sampled_from(PIECES)) * draw(st.sampled_from((1, 2, 3000))) + data[at:]


def _nest(draw: st.DrawFn, data: bytes) -> bytes:
    """A number, or the whole file, deep in brackets."""
    start, end = draw(st.sampled_from(NESTS))
    depth = draw(st.sampled_from((1, 30, 900, 20_000)))
    numbers = [match.span() for match in _NUMBER.finditer(data)][:50]
    first, last = draw(st.sampled_from([(0, len(data)), *numbers]))
    return data[:first] + start * depth + data[first:last] + end * depth + data[last:]


def _line(draw: st.DrawFn, data: bytes) -> bytes:
    """A line left out, doubled, emptied or moved to the end."""
    lines = data.splitlines(keepends=True) or [b""]
    i = draw(st.integers(0, min(len(lines) - 1, 200)))
    line = lines.pop(i)
    lines[i:i] = draw(st.sampled_from(([], [line, line], [b"\n"], [line.rstrip()], [line] * 1000)))
    return b"".join(lines) + draw(st.sampled_from((b"", line)))


def _cell(draw: st.DrawFn, data: bytes) -> bytes:
    """A cell of a table replaced, or one more, or one less."""
    lines = data.split(b"\n")
    i = draw(st.integers(0, min(len(lines) - 1, 50)))
    cells = lines[i].split(b",")
    at = draw(st.integers(0, len(cells) - 1))
    value = draw(st.sampled_from((*NUMBERS, b'"a,b"', b'"a\nb"', b'"', b'""""', b"x" * 200_000)))
    cells[at : at + draw(st.integers(0, 1))] = draw(st.sampled_from(([value], [])))
    lines[i] = b",".join(cells)
    return b"\n".join(lines)


def _npy_header(draw: st.DrawFn, data: bytes) -> bytes:
    """Another shape, dtype or order in the header, which keeps its length where it has the room."""
    length = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + length].decode("latin-1").rstrip()
    key, values = draw(st.sampled_from((("shape", SHAPES), ("descr", DTYPES), ("fortran_order", ("True", "7")))))
    value = draw(st.sampled_from(values))
    value = repr(value) if key == "descr" else value
    old = re.search(rf"'{key}': *(\([^)]*\)|'[^']*'|\w+)", header)
    header = header[: old.start(1)] + value + header[old.end(1) :] if old else value
    header = header.ljust(length - 1) + "\n"
    return data[:8] + (len(header) & 0xFFFF).to_bytes(2, "little") + header.encode("latin-1") + data[10 + length :]


def _opcode(draw: st.DrawFn, data: bytes) -> bytes:
    """Between two instructions of a pickle: another one, one less, or one twice."""
    starts = []
    with suppress(Exception):  # pickletools says by any exception that an earlier mutation has damaged it
        starts += (at for _, _, at in pickletools.genops(data) if at is not None)
    if not starts:
        return data
    i = draw(st.integers(0, len(starts) - 1))
    at, end = starts[i], ([*starts, len(data)])[i + 1]
    return draw(
        st.sampled_from(
            (
                data[:at] + draw(st.sampled_from(OPCODES)) + data[at:],
                data[:at] + draw(st.sampled_from(OPCODES)) + data[end:],
                data[:at] + data[end:],
                data[:end] + data[at:end] * draw(st.sampled_from((1, 5000))) + data[end:],
            )
        )
    )


def _varint(draw: st.DrawFn, data: bytes) -> bytes:
    """A number of Parquet's headers, which are seven bits a byte, replaced by an extreme one."""
    at = _place(draw, data)
    end = at + 1
    while data[end - 1 : end] >= b"\x80":
        end += 1
    value, packed = 2 * draw(st.sampled_from(EXTREMES)), bytearray()
    while value > 127:
        packed.append(value & 127 | 128)
        value >>= 7
    return data[:at] + bytes([*packed, value]) + data[end:]


def _zip_field(draw: st.DrawFn, data: bytes) -> bytes:
    """A field of a zip's headers, its directory or the end of it, with nothing that depends on it put right."""
    starts = [match.start() for match in re.finditer(rb"PK[\x01\x03\x05\x06][\x02\x04\x06\x07]", data)]
    if not starts:
        return data
    size = draw(st.sampled_from((2, 4)))
    at = draw(st.sampled_from(starts[:20] + starts[-20:])) + draw(st.integers(2, 23)) * 2
    value = draw(st.sampled_from(EXTREMES)) % 256**size
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def _within_zip(draw: st.DrawFn, data: bytes) -> bytes:
    """A member mutated, in a zip that is sound."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # an earlier mutation has damaged it
        return data
    if not members or sum(map(len, members.values())) > MAX_BYTES:
        return data
    name = draw(st.sampled_from(sorted(members)))
    members[name] = draw(mutated(members[name]))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content, archive.compression)
    return packed.getvalue()


def _unpacked_part(draw: st.DrawFn, data: bytes) -> bytes:
    """The first compressed element of a MATLAB file mutated inside."""
    size = int.from_bytes(data[132:136], "little")
    try:
        content = zlib.decompressobj().decompress(data[136 : 136 + size], MAX_BYTES)
    except zlib.error:
        return data
    packed = zlib.compress(draw(mutated(content)))
    return data[:132] + len(packed).to_bytes(4, "little") + packed + data[136 + size :]


def _safetensors_header(draw: st.DrawFn, data: bytes) -> bytes:
    """The JSON at the beginning mutated, its length put right."""
    size = int.from_bytes(data[:8], "little")
    header = draw(mutated(data[8 : 8 + size]))
    return len(header).to_bytes(8, "little") + header + data[8 + size :]
