"""Pickles of plain data, read without unpickling: a pickle is a program, and this machine has no instruction to call.

It admits numbers, text, bytes, lists, tuples, sets, dictionaries and numpy's arrays of numbers or text, as Python 2 and
3 and numpy 1 and 2 write them in protocols 0 to 5. It refuses the name of anything else when it comes to it, before
anything is made of it. Arrays stay where they lie in the file, which is mapped: a data set of gigabytes opens in
seconds, and takes hardly any memory.
"""

import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from last.data.clip import FormatError
from last.data.formats.arrays import mapped, plain_array, plain_dtype
from last.data.formats.source import Source

_MAX_STEPS = 32_000_000  # the largest set of the field, NTU RGB+D 120 with scores, takes eight
_MAX_MARKS = 100  # nested containers that are open at once
_MAX_NUMBER = 40  # digits; no number in a data set has more
_KEPT_IN_PLACE = 256  # bytes; shorter strings are copied
_MAX_KEY = 1 << 60  # larger integers can be chosen to have the same hash, which makes a dictionary slow
_MAX_COPIED = 8  # times the file's size; what is remembered can be copied again and again
_MAX_GROWN = 64 << 20  # bytes; an instruction of one byte makes a set of two hundred
_MAX_GROWTH = 16  # times the file's size, where that is more; clips of a single frame take ten
_ENTRY = 100  # bytes that an entry of a dictionary, a set or the memo takes
_OBJECT = 200  # bytes that a name, or an announced array, takes

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


def load(source: Source) -> Any:
    """What a pickle holds; scalars of numpy become Python's, and texts of Python 2 are read as Latin-1.

    Raises:
        FormatError: it is damaged, asks for anything but plain data, or promises more than it has; names the byte.
    """
    machine = _Machine(mapped(source), source)
    try:
        return machine.run()
    except FormatError:
        raise
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
        told = f"{type(error).__name__}, {str(error)[:100]}"
        raise FormatError(f"{machine.place}: not a pickle, or a damaged one ({told})") from error


@dataclass(frozen=True)
class _Name:
    """What the pickle has asked for by name; nothing but :meth:`_Machine.reduce` uses it."""

    make: Callable[..., Any]


@dataclass(eq=False)
class _Pending:
    """An array or a dtype that the pickle has announced but not yet described."""

    code: str | None = None  # of a dtype
    memo: list[int] = field(default_factory=list)  # under which it is remembered


class _Machine:
    """The stack, the marks and the memo of a pickle's program; see the standard library's ``pickletools``."""

    def __init__(self, data: Any, source: Source) -> None:
        self.data, self.source = data, source
        self.view = memoryview(data)
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.copied = self.grown = 0

    @property
    def place(self) -> str:
        """Where the machine is, for errors."""
        return f"{self.source}, byte {self.at}"

    def run(self) -> Any:
        for _ in range(_MAX_STEPS):
            opcode = self.data[self.at]
            self.at += 1
            if opcode == 0x2E:  # STOP
                return self.stack.pop()
            operation = _OPERATIONS.get(opcode)
            if operation is None:
                raise FormatError(f"{self.place}: the instruction {bytes([opcode])!r}, which plain data does not need")
            operation(self)
        raise FormatError(f"{self.place}: more than {_MAX_STEPS} instructions, expected at most as many for a data set")

    # Bytes of the program.

    def take(self, size: int) -> bytes | memoryview:
        if not 0 <= size <= len(self.view) - self.at:
            raise FormatError(f"{self.place}: a string of {size} bytes, but the file ends after {len(self.view)}")
        self.at += size
        content = self.view[self.at - size : self.at]
        return content if size > _KEPT_IN_PLACE else bytes(content)

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return value

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise FormatError(f"{self.place}: a line without an end")
        line, self.at = self.data[self.at : end], end + 1
        return line

    def copy(self, size: int) -> None:
        """Account for bytes that do not come from the file one by one."""
        self.copied += size
        if self.copied > _MAX_COPIED * len(self.view):
            raise FormatError(f"{self.place}: copies of more than the file itself holds {_MAX_COPIED} times")

    def grow(self, size: int) -> None:
        """Account for the memory of containers and of what is remembered."""
        self.grown += size
        if self.grown > max(_MAX_GROWN, _MAX_GROWTH * len(self.view)):
            raise FormatError(f"{self.place}: containers of more than {self.grown} bytes, more than plain data needs")

    # Values.

    def put(self, value: Any) -> None:
        self.stack.append(value)

    def digits(self) -> str:
        text = self.line()[: _MAX_NUMBER + 1].decode("ascii").rstrip("L")
        if len(text) > _MAX_NUMBER:
            raise FormatError(f"{self.place}: a number of more than {_MAX_NUMBER} digits")
        return text

    def integer(self) -> None:
        text = self.digits()
        self.put(text == "01" if text in ("00", "01") else int(text))

    def long(self, size: int) -> None:
        if size > 16:
            raise FormatError(f"{self.place}: an integer of {size} bytes, expected at most 16")
        self.put(int.from_bytes(self.take(size), "little", signed=True))

    def quoted(self) -> None:
        text = self.line().decode("latin1")
        if len(text) < 2 or text[0] not in "'\"" or text[0] != text[-1]:
            raise FormatError(f"{self.place}: a text without its quotes")
        self.put(_ESCAPE.sub(_unescape, text[1:-1]))

    # Containers.

    def open_mark(self) -> None:
        if len(self.marks) >= _MAX_MARKS:
            raise FormatError(f"{self.place}: containers nested more than {_MAX_MARKS} deep")
        self.marks.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def put_new(self, container: Any) -> None:
        self.grow(sys.getsizeof(container))
        self.put(container)

    def make_tuple(self, size: int) -> None:
        items = self.stack[-size:]
        if len(items) < size:
            raise FormatError(f"{self.place}: a tuple of {size}, but {len(items)} values are there")
        del self.stack[-size:]
        self.put_new(tuple(items))

    def extend(self, items: list[Any]) -> None:
        self.target(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        keys = self.plain(items[::2])
        self.grow(_ENTRY * len(keys))
        self.target(dict).update(zip(keys, items[1::2], strict=True))

    def add_members(self, items: list[Any]) -> None:
        self.grow(_ENTRY * len(items))
        self.target(set).update(self.plain(items))

    def target(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise FormatError(f"{self.place}: puts items into what is no {kind.__name__}")
        return self.stack[-1]

    def plain(self, values: list[Any]) -> list[Any]:
        """Values that may be keys, or members of a set; to hash anything nested can take forever."""
        for value in values:
            is_key = abs(value) < _MAX_KEY if isinstance(value, int) else isinstance(value, (str, bytes, type(None)))
            if not is_key:
                raise FormatError(f"{self.place}: a key or a member of a set that is neither text nor an integer")
        return values

    def remember(self, key: int) -> None:
        if not 0 <= key < _MAX_KEY:
            raise FormatError(f"{self.place}: remembers something under the number {key}")
        self.grow(_ENTRY)
        value = self.memo[key] = self.stack[-1]
        if type(value) is _Pending:
            value.memo.append(key)

    # Names, and what is made by them.

    def ask(self, module: Any, name: Any) -> None:
        maker = _ADMITTED.get((module, name)) if type(module) is type(name) is str else None
        if maker is None:
            asked = repr(f"{module}.{name}"[:100]) if type(module) is type(name) is str else "what has no name"
            raise FormatError(f"{self.place}: asks for {asked}, which is not plain data; the file is not safe to open")
        self.grow(_OBJECT)
        self.put(_Name(maker))

    def ask_by_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.ask(module, name)

    def reduce(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Name or type(arguments) is not tuple:
            raise FormatError(f"{self.place}: makes something by what is no name, or of what are no arguments")
        self.grow(_OBJECT)
        self.put(name.make(self, *arguments))

    def build(self) -> None:
        state, pending = self.stack.pop(), self.stack.pop()
        if type(pending) is not _Pending or type(state) is not tuple:
            raise FormatError(f"{self.place}: describes what is neither an array nor its dtype")
        built = self.array(state) if pending.code is None else self.dtype(pending.code, state)
        for key in pending.memo:
            self.memo[key] = built
        self.put(built)

    def array(self, state: tuple[Any, ...]) -> np.ndarray:
        shape, dtype, is_fortran, content = state[-4:]
        return self.filled(content, dtype, shape, bool(is_fortran))

    def dtype(self, code: str, state: tuple[Any, ...]) -> np.dtype:
        order, *structure = state[1:5]
        if type(order) is not str or order not in "<>|=" or any(part is not None for part in structure):
            raise FormatError(f"{self.place}: an array of records, expected plain numbers or text")
        return plain_dtype(order + code, self.place)

    def filled(self, content: Any, dtype: Any, shape: Any, is_fortran: bool) -> np.ndarray:
        if isinstance(content, str):
            content = _bytes(self, content)
        if not isinstance(content, (bytes, memoryview)) or not isinstance(dtype, np.dtype):
            raise FormatError(f"{self.place}: an array of objects, expected plain numbers or text")
        if type(shape) is not tuple or not all(type(size) is int for size in shape):
            raise FormatError(f"{self.place}: an array whose shape is no tuple of integers")
        return plain_array(content, dtype, shape, is_fortran, self.place)


def _unescape(match: re.Match[str]) -> str:
    what = match.group(1)
    return chr(int(what[1:], 16)) if len(what) == 3 else _ESCAPED.get(what, what)


def _array(_: _Machine, *__: Any) -> _Pending:
    return _Pending()


def _dtype(_: _Machine, code: Any, *__: Any) -> _Pending:
    return _Pending(code if isinstance(code, str) else "what is no text")


def _scalar(machine: _Machine, dtype: Any, content: Any) -> Any:
    scalar = machine.filled(content, dtype, (), False)
    machine.copy(scalar.nbytes)
    return scalar.item()


def _from_buffer(machine: _Machine, content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return machine.filled(content, dtype, shape, type(order) is str and order == "F")


def _bytes(machine: _Machine, text: Any = b"", encoding: Any = "latin1") -> bytes | memoryview:
    if isinstance(text, str) and type(encoding) is str and encoding in ("latin1", "latin-1"):
        machine.copy(len(text))
        return text.encode("latin1")
    if not isinstance(text, (bytes, memoryview)):
        raise FormatError(f"{machine.place}: a string of bytes that is made of something else")
    return text


def _set(machine: _Machine, items: Any = ()) -> set[Any]:
    if not isinstance(items, (list, tuple)):
        raise FormatError(f"{machine.place}: a set of what is no list")
    machine.grow(_ENTRY * len(items))
    return set(machine.plain(list(items)))


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    (module, name): maker
    for modules, makers in (
        (("numpy",), {"ndarray": _array, "dtype": _dtype}),
        (("numpy.core.multiarray", "numpy._core.multiarray"), {"_reconstruct": _array, "scalar": _scalar}),
        (("numpy.core.numeric", "numpy._core.numeric"), {"_frombuffer": _from_buffer}),
        (("builtins", "__builtin__"), {"set": _set, "frozenset": _set, "bytes": _bytes, "bytearray": _bytes}),
        (("_codecs",), {"encode": _bytes}),
    )
    for module in modules
    for name, maker in makers.items()
}

_BY_LETTER: dict[str, Callable[[_Machine], Any]] = {
    "\x80": lambda m: m.number("B"),  # the protocol's number
    "\x95": lambda m: m.number("<Q"),  # a frame's length
    "N": lambda m: m.put(None),
    "\x88": lambda m: m.put(True),
    "\x89": lambda m: m.put(False),
    "I": _Machine.integer,
    "L": lambda m: m.put(int(m.digits())),
    "F": lambda m: m.put(float(m.digits())),
    "J": lambda m: m.put(m.number("<i")),
    "K": lambda m: m.put(m.number("B")),
    "M": lambda m: m.put(m.number("<H")),
    "\x8a": lambda m: m.long(m.number("B")),
    "\x8b": lambda m: m.long(m.number("<I")),
    "G": lambda m: m.put(m.number(">d")),
    "S": _Machine.quoted,
    "T": lambda m: m.put(str(m.take(m.number("<I")), "latin1")),
    "U": lambda m: m.put(str(m.take(m.number("B")), "latin1")),
    "V": lambda m: m.put(m.line().decode("raw_unicode_escape")),
    "X": lambda m: m.put(str(m.take(m.number("<I")), "utf-8", "surrogatepass")),
    "\x8c": lambda m: m.put(str(m.take(m.number("B")), "utf-8", "surrogatepass")),
    "\x8d": lambda m: m.put(str(m.take(m.number("<Q")), "utf-8", "surrogatepass")),
    "B": lambda m: m.put(m.take(m.number("<I"))),
    "C": lambda m: m.put(m.take(m.number("B"))),
    "\x8e": lambda m: m.put(m.take(m.number("<Q"))),
    "\x96": lambda m: m.put(m.take(m.number("<Q"))),
    "(": _Machine.open_mark,
    "0": lambda m: m.stack.pop(),
    "1": _Machine.marked,
    "2": lambda m: m.put(m.stack[-1]),
    "]": lambda m: m.put_new([]),
    ")": lambda m: m.put(()),
    "}": lambda m: m.put_new({}),
    "\x8f": lambda m: m.put_new(set()),
    "l": lambda m: m.put_new(m.marked()),
    "t": lambda m: m.put_new(tuple(m.marked())),
    "d": lambda m: (items := m.marked(), m.put_new({}), m.set_items(items)),
    "\x91": lambda m: (items := m.marked(), m.put_new(set()), m.add_members(items)),
    "\x85": lambda m: m.make_tuple(1),
    "\x86": lambda m: m.make_tuple(2),
    "\x87": lambda m: m.make_tuple(3),
    "a": lambda m: m.extend([m.stack.pop()]),
    "e": lambda m: m.extend(m.marked()),
    "s": lambda m: m.set_items([m.stack.pop(), m.stack.pop()][::-1]),
    "u": lambda m: m.set_items(m.marked()),
    "\x90": lambda m: m.add_members(m.marked()),
    "p": lambda m: m.remember(int(m.digits())),
    "q": lambda m: m.remember(m.number("B")),
    "r": lambda m: m.remember(m.number("<I")),
    "\x94": lambda m: m.remember(len(m.memo)),
    "g": lambda m: m.put(m.memo[int(m.digits())]),
    "h": lambda m: m.put(m.memo[m.number("B")]),
    "j": lambda m: m.put(m.memo[m.number("<I")]),
    "c": lambda m: m.ask(m.line().decode("latin1"), m.line().decode("latin1")),
    "\x93": _Machine.ask_by_stack,
    "R": _Machine.reduce,
    "b": _Machine.build,
}
_OPERATIONS = {ord(letter): operation for letter, operation in _BY_LETTER.items()}
