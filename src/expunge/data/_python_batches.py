"""CIFAR-10's python batches, read without unpickling: opcodes are interpreted as data and nothing is ever called.

`pickletools.genops` splits a file into opcodes. The interpreter below knows the opcodes that containers, numbers, text
and one uint8 array need, and five symbols of numpy and codecs, which it treats as words: none is imported or looked up.
Whatever else a file says is a DataError. Memory is bounded by the file's size, which is bounded too.
"""

from __future__ import annotations

import gzip
import pickletools
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError

TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE = "test_batch"
FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
PIXELS = 3 * 32 * 32
LIMIT = 64 << 20  # bytes of one file; CIFAR-10's have 31 MB, at most 47 MB when Python 3 wrote protocol 2
OPCODES = 250_000  # of one file; CIFAR-10's need 30,000, at most 75,000 when Python 3 wrote protocol 2
_TEXT = 256  # characters of a key or a file name
_STATE = 9  # entries of a dtype's state; numpy writes 8 or 9
_BATCHES = frozenset({*TRAIN_FILES, TEST_FILE})
_BESIDE = frozenset({"batches.meta", "readme.html"})
_HEADER = 8 << 10  # bytes tarfile may read at once, because its patterns are quadratic; honest headers have 512
_HEADERS = 256 << 10  # bytes tarfile may read in all; an honest archive needs 20,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One file. pixels: (N, 3072) uint8, red then green then blue. labels: N integers. names: N file names, or None."""

    pixels: NDArray[np.uint8]
    labels: tuple[int, ...]
    names: tuple[str, ...] | None


def holds_batches(path: Path) -> bool:
    """Whether path is an archive, or a folder with python batches or with a folder of them."""
    return path.is_file() or _folder(path) is not None


def read_batches(path: Path) -> dict[str, Batch]:
    """The six batches by file name, from the folder, the folder above, or the tar.gz, which is not extracted."""
    folder = _folder(path)
    found = _from_folder(folder) if folder is not None else _from_archive(path)
    missing = sorted(_BATCHES - set(found))
    if missing:
        raise DataError(f"{path.name} lacks {', '.join(missing)}", expected="data_batch_1..5 and test_batch")
    return found


def _folder(path: Path) -> Path | None:
    for folder in (path, path / FOLDER):
        if any((folder / name).is_file() for name in _BATCHES):
            return folder
    return None


def _from_folder(folder: Path) -> dict[str, Batch]:
    found = {}
    for name in sorted(_BATCHES):
        file = folder / name
        if file.is_file():
            try:
                with file.open("rb") as stream:
                    raw = stream.read(LIMIT + 1)
            except OSError as error:
                raise DataError(f"{name} cannot be read", got=str(error)[:200], hint="check --data") from error
            found[name] = read_batch(raw, name)
    return found


def _from_archive(path: Path) -> dict[str, Batch]:
    # RecursionError and ValueError: tarfile on chained and on malformed extended headers.
    broken = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, RecursionError)
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=_Headers(stream), mode="r:") as archive:  # type: ignore[call-overload]
            return _members(archive, stream)
    except broken as error:
        raise DataError(
            f"{path.name} cannot be read as a gzipped tar archive", expected=ARCHIVE, got=str(error)[:200]
        ) from error


class _Headers:
    """What tarfile sees: it may seek, but to read more than honest headers is an attack on memory or time."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read
        self._left = _HEADERS

    def read(self, size: int) -> bytes:
        self._left -= size
        if not 0 <= size <= _HEADER or self._left < 0:
            raise DataError("the archive has oversized headers", expected=f"at most {_HEADER} bytes", got=str(size))
        return self._read(size)


def _members(archive: tarfile.TarFile, stream: gzip.GzipFile) -> dict[str, Batch]:
    seen: set[str] = set()
    found = {}
    for member in archive:
        # Every member is judged before tarfile skips over it, so a lying size is neither read nor decompressed.
        name = _member_name(member)
        if name in seen:
            raise DataError(f"the archive holds {name!r} twice", expected="each member once")
        seen.add(name)
        if name in _BATCHES:
            stream.seek(member.offset_data)
            found[name] = read_batch(stream.read(member.size), name)
    return found


def _member_name(member: tarfile.TarInfo) -> str:
    """The bare name; a DataError unless the member is one of CIFAR-10's, of its kind and of an honest size."""
    name = member.name.removeprefix("./")
    if name in (FOLDER, ".") and member.isdir() and member.size == 0:
        return f"{name}/"
    name = name.removeprefix(f"{FOLDER}/")
    if name not in _BATCHES | _BESIDE:
        raise DataError("the archive holds a foreign member", expected=f"{FOLDER}/{TEST_FILE}", got=repr(name[:80]))
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        raise DataError(f"{name} in the archive is not a regular file", got=f"type {member.type!r}")
    if not 0 <= member.size <= LIMIT:
        raise DataError(f"{name} in the archive is too large", expected=f"at most {LIMIT} bytes", got=str(member.size))
    return name


def read_batch(raw: bytes, name: str) -> Batch:
    """One batch file. Anything but a dictionary with `data` and `labels` in the known opcodes is a DataError."""
    if len(raw) > LIMIT:
        raise DataError(f"{name} is too large", expected=f"at most {LIMIT} bytes")
    found = _Interpreter(name).run(raw)
    pixels = _pixels(found.get("data"), name)
    labels = _list(found.get("labels"), "labels", len(pixels), name)
    if not all(type(label) is int for label in labels):
        raise DataError(f"{name} has labels that are not integers", expected="0..9")
    names = found.get("filenames")
    if names is not None:
        names = tuple(_text(item) for item in _list(names, "filenames", len(pixels), name))
        if None in names:
            raise DataError(f"{name} has file names that are not text")
    return Batch(pixels=pixels, labels=tuple(labels), names=names)


def _pixels(array: object, name: str) -> NDArray[np.uint8]:
    shape, raw = (array.shape, array.raw) if isinstance(array, _Array) else (None, None)
    got = "an array of other dimensions" if isinstance(array, _Array) else type(array).__name__
    if type(shape) is not tuple or len(shape) != 2 or not all(type(size) is int for size in shape) or raw is None:
        raise DataError(f"{name} holds no image array", expected="data: uint8 (N, 3072)", got=got)
    if shape[1] != PIXELS or shape[0] < 1 or shape[0] * PIXELS != len(raw):
        # A tuple of two plain integers; still, integers of hundreds of digits are possible.
        got = f"{str(shape)[:60]} with {len(raw)} bytes"
        raise DataError(f"{name} has an image array of the wrong shape", expected="data: uint8 (N, 3072)", got=got)
    return np.frombuffer(raw, np.uint8).reshape(-1, PIXELS)


def _list(value: object, key: str, rows: int, name: str) -> list[Any]:
    if type(value) is not list or len(value) != rows:
        got = f"{len(value)} entries" if type(value) is list else type(value).__name__
        raise DataError(f"{name} does not hold {key} for its images", expected=f"a list of {rows}", got=got)
    return value


def _text(value: object) -> str | None:
    """Short text as it is, short bytes as Latin-1, which loses nothing; None for anything else.

    Short, because a file may mention one long value many times, and every mention would be a copy.
    """
    if type(value) is bytes and len(value) <= _TEXT:
        return value.decode("latin-1")
    return value if type(value) is str and len(value) <= _TEXT else None


class _Symbol(Enum):
    """A name a file may mention. It stays a word: what the interpreter does on it is written below."""

    RECONSTRUCT = "_reconstruct"
    FROMBUFFER = "_frombuffer"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"


_SYMBOLS = {
    ("numpy.core.multiarray", "_reconstruct"): _Symbol.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Symbol.RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _Symbol.FROMBUFFER,  # how numpy writes arrays in protocol 5
    ("numpy._core.numeric", "_frombuffer"): _Symbol.FROMBUFFER,
    ("numpy", "ndarray"): _Symbol.NDARRAY,
    ("numpy", "dtype"): _Symbol.DTYPE,
    ("_codecs", "encode"): _Symbol.ENCODE,  # how Python 3 writes bytes in protocol 2
}


class _Mark:
    """Where a group of values starts on the stack."""


class _Uint8:
    """numpy's dtype uint8, the only one that is understood."""


@dataclass(slots=True)
class _Array:
    """An array as the file describes it; mutable because pickle names an array first and fills it later."""

    shape: object = None
    raw: bytes | bytearray | None = None


_MARK = _Mark()


class _Interpreter:
    """A stack, a memo and one small method per opcode. Values are only moved, never compared, hashed or printed deep."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.encoded = 0

    def run(self, raw: bytes) -> dict[str, Any]:
        """The dictionary that the file describes."""
        position = None
        try:
            for count, (opcode, argument, position) in enumerate(pickletools.genops(raw)):  # noqa: B007
                if count == 0 and (opcode.name != "PROTO" or argument not in range(2, 6)):
                    self.refuse("is not a python batch", expected="pickle protocol 2..5", got=opcode.name)
                if count >= OPCODES:
                    self.refuse("has too many opcodes", expected=f"at most {OPCODES}")
                self.step(opcode.name, argument)
        except (ValueError, OverflowError, struct.error) as error:
            raise DataError(f"{self.name} is truncated or not a python batch", got=str(error)[:120]) from error
        if position is None or position + 1 != len(raw):
            self.refuse("has bytes after its end")
        return self.result()

    def step(self, opcode: str, argument: Any) -> None:
        """One opcode."""
        if opcode in _LITERALS:
            self.stack.append(_LITERALS[opcode](argument))
        elif opcode in _MOVES:
            _MOVES[opcode](self, argument)
        elif opcode not in _SILENT:
            self.refuse("holds an opcode that no batch needs", got=opcode)

    def result(self) -> dict[str, Any]:
        """The one value that is left, which must be a dictionary."""
        if len(self.stack) != 1 or type(self.stack[0]) is not dict:
            self.refuse("does not hold one dictionary", expected="data, labels, filenames")
        return self.stack[0]

    def refuse(self, problem: str, *, expected: str | None = None, got: str | None = None) -> NoReturn:
        """The file is not what it claims to be; nothing of it was executed."""
        hint = "nothing in the file was executed; take the original archive"
        raise DataError(f"{self.name} {problem}", expected=expected, got=got, hint=hint)

    def pop(self) -> Any:
        """The value on top."""
        if not self.stack or self.stack[-1] is _MARK:
            self.refuse("takes a value that is not there")
        return self.stack.pop()

    def group(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        values: list[Any] = []
        while self.stack and self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        if not self.stack:
            self.refuse("closes a group that was never opened")
        self.stack.pop()
        return values[::-1]

    def symbol(self, module: object, name: object) -> None:
        """A name of the allow-list, as a word."""
        if type(module) is not str or type(name) is not str or (module, name) not in _SYMBOLS:
            self.refuse(
                "refers to code that no batch needs",
                expected="numpy's array and dtype",
                got=f"{str(module)[:60]}.{str(name)[:60]}" if type(module) is type(name) is str else "no name",
            )
        self.stack.append(_SYMBOLS[module, name])

    def put(self, key: int) -> None:
        """Remember the value on top."""
        value = self.pop()
        self.stack.append(value)
        self.memo[key] = value

    def get(self, key: int) -> None:
        """A remembered value, shared and not copied."""
        if key not in self.memo:
            self.refuse("refers to a value that it never remembered")
        self.stack.append(self.memo[key])

    def take(self, count: int) -> tuple[Any, ...]:
        """The last `count` values in the order they came."""
        return tuple([self.pop() for _ in range(count)][::-1])

    def extend(self, values: list[Any]) -> None:
        """Append to the list on top."""
        target = self.pop()
        if type(target) is not list:
            self.refuse("appends to what is not a list")
        target.extend(values)
        self.stack.append(target)

    def update(self, values: list[Any]) -> None:
        """Set keys, which must be text, of the dictionary on top."""
        target = self.pop()
        if type(target) is not dict or len(values) % 2:
            self.refuse("sets keys of what is not a dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            text = _text(key)
            if text is None:
                self.refuse("has a key that is not text")
            target[text] = value
        self.stack.append(target)

    def reduce(self) -> None:
        """What `callable(*arguments)` means for the four words that may stand there. Nothing is called."""
        arguments, word = self.pop(), self.pop()
        if type(word) is not _Symbol or type(arguments) is not tuple:
            self.refuse("calls what is not callable")
        made: object = None
        if word is _Symbol.ENCODE:
            made = self.encode(arguments)
        elif word is _Symbol.DTYPE and len(arguments) == 3:
            made = _Uint8() if _text(arguments[0]) in ("u1", "|u1", "uint8") else None
        elif word is _Symbol.RECONSTRUCT and len(arguments) == 3:
            made = _Array() if arguments[0] is _Symbol.NDARRAY else None
        elif word is _Symbol.FROMBUFFER and len(arguments) == 4:
            raw, kind, shape, order = arguments
            made = self.array(_Array(), shape, kind, _text(order) == "C", raw)
        if made is None:
            self.refuse("describes something else than an array of uint8", got=word.value)
        self.stack.append(made)

    def encode(self, arguments: tuple[Any, ...]) -> bytes | None:
        """Bytes that were written as text. A remembered text could be encoded again and again, so there is a budget."""
        if len(arguments) != 2 or type(arguments[0]) is not str or _text(arguments[1]) != "latin1":
            return None
        self.encoded += len(arguments[0])
        if self.encoded > LIMIT:
            self.refuse("repeats its bytes beyond its size")
        return arguments[0].encode("latin-1")

    def build(self) -> None:
        """Fill the array on top; the state of uint8 holds nothing that could matter and is only looked at."""
        state, target = self.pop(), self.pop()
        if type(target) is _Uint8 and type(state) is tuple:
            if len(state) > _STATE or not all(type(item) in (int, str, bytes, type(None)) for item in state):
                self.refuse("describes a dtype with fields")
        elif type(target) is _Array and type(state) is tuple and len(state) == 5 and target.raw is None:
            _, shape, kind, by_column, raw = state
            self.array(target, shape, kind, type(by_column) in (bool, int) and not by_column, raw)
        else:
            self.refuse("sets the state of something else than an array")
        self.stack.append(target)

    def array(self, target: _Array, shape: object, kind: object, by_row: bool, raw: object) -> _Array:
        """An array whose bytes are those of the file; nothing is allocated for a shape."""
        if type(kind) is not _Uint8 or not by_row or type(raw) not in (bytes, bytearray):
            self.refuse("describes something else than an array of uint8", expected="uint8 by rows")
        target.shape, target.raw = shape, raw  # type: ignore[assignment]
        return target


def _same(argument: Any) -> Any:
    return argument


def _latin(argument: str) -> bytes:
    # genops shows Python 2's byte strings as Latin-1 text.
    return argument.encode("latin-1")


_LITERALS: dict[str, Callable[[Any], Any]] = {
    "MARK": lambda _: _MARK,
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "SHORT_BINSTRING": _latin,
    "BINSTRING": _latin,
} | dict.fromkeys(
    (
        *("BININT", "BININT1", "BININT2", "LONG1"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    ),
    _same,
)

_SILENT = frozenset({"PROTO", "FRAME", "STOP"})  # a frame is a read-ahead hint; genops reads on whatever it says

_MOVES: dict[str, Callable[[_Interpreter, Any], None]] = {
    "BINPUT": lambda machine, key: machine.put(key),
    "LONG_BINPUT": lambda machine, key: machine.put(key),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "BINGET": lambda machine, key: machine.get(key),
    "LONG_BINGET": lambda machine, key: machine.get(key),
    "TUPLE1": lambda machine, _: machine.stack.append(machine.take(1)),
    "TUPLE2": lambda machine, _: machine.stack.append(machine.take(2)),
    "TUPLE3": lambda machine, _: machine.stack.append(machine.take(3)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.group())),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.group()),
    "SETITEM": lambda machine, _: machine.update(list(machine.take(2))),
    "SETITEMS": lambda machine, _: machine.update(machine.group()),
    "GLOBAL": lambda machine, name: machine.symbol(*name.partition(" ")[::2]),
    "STACK_GLOBAL": lambda machine, _: machine.symbol(*machine.take(2)),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}
