"""Reads a pickle without unpickling it: a small machine interprets the opcodes and never imports, calls or looks up
anything. What it makes are dicts, lists, tuples, sets, strings, numbers, bytes, numpy arrays (`_builders`), and inert
records that say which global would have been called with what.

A global outside the allow-list ends the reading, with its name and position: an artefact that names `os.system` is
refused although nothing here could run it. Bounded are the bytes, the opcodes, the nesting, the integers, the keys of
dicts (a tuple of tuples can take 2^n steps to hash) and, at four times the file and 64 MiB, what containers and copied
arrays take.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, cast

from expunge.connect.recommenders._files import CODE
from expunge.core.errors import DataError

MAX_OPCODES = 20_000_000
MAX_DEPTH = 100
MAX_MARKS = 200
_BITS = 64
_NAME = 200
_KEY = 60
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg", "__builtins__": "builtins"}
_NEVER = {
    "INST": "makes an instance by name",
    "OBJ": "makes an instance by name",
    "EXT1": "calls the extension registry",
    "EXT2": "calls the extension registry",
    "EXT4": "calls the extension registry",
    "PERSID": "refers to an object outside the file",
    "NEXT_BUFFER": "refers to a buffer outside the file",
    "READONLY_BUFFER": "refers to a buffer outside the file",
}


@dataclass(frozen=True, slots=True)
class Global:
    """The name of something importable. Nothing is imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False, repr=False)
class Record:
    """What calling `made_by` with `arguments` would have made, and what would have been put into it."""

    made_by: Global
    arguments: tuple[Any, ...]
    state: Any = None
    listed: list[Any] = field(default_factory=list)
    mapped: list[tuple[Any, Any]] = field(default_factory=list)

    def attributes(self) -> dict[Any, Any]:
        """The instance's `__dict__` as far as the state is one: also of (dict, slots), and of a pydantic model."""
        state = self.state[0] if isinstance(self.state, tuple) and len(self.state) == 2 else self.state
        inner = state.get("__dict__") if isinstance(state, dict) else None
        found = inner if isinstance(inner, dict) else state
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Globals that may be named, and end up in records: exact names, and everything within some packages."""

    names: frozenset[str] = frozenset()
    packages: tuple[str, ...] = ()

    def __contains__(self, found: Global) -> bool:
        return str(found) in self.names or found.module.partition(".")[0] in self.packages


class Meter:
    """How many bytes may still be taken beyond the file's own. `take` raises ValueError when they are spent."""

    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit

    def take(self, count: int) -> None:
        """Charge for bytes about to be taken."""
        self.left -= count
        if self.left < 0:
            raise ValueError(f"it would take more than {self.limit} bytes of memory")


Builder = Callable[[tuple[Any, ...], Meter], Any]


class Buildable:
    """A value that is made first and filled by the opcode BUILD, such as an array."""

    def fill(self, state: object, meter: Meter) -> None:
        """Take the state. Raises ValueError on one that does not fit."""
        raise NotImplementedError


def read_pickle(
    stream: IO[bytes],
    size: int,
    *,
    allowed: Allowed,
    builders: Mapping[str, Builder],
    persistent: Callable[[object], object] | None = None,
    hint: str | None = None,
) -> Any:
    """The value of one pickle of `size` bytes. Raises DataError (`unsafe-artefact`), naming global and position."""
    machine = _Machine(allowed, builders, Meter(4 * size + 2**26), persistent)
    bounded = _Bounded(stream, size)
    position = 0
    try:
        for count, (opcode, argument, at) in enumerate(pickletools.genops(cast(IO[bytes], bounded))):
            position = at or 0
            if count >= MAX_OPCODES:
                raise ValueError(f"more than {MAX_OPCODES} opcodes")
            machine.step(opcode.name, argument)
        if bounded.left:
            raise ValueError(f"{bounded.left} bytes follow its end")
        value = machine.result()
        _shallow(value)
    except (ValueError, OverflowError, TypeError, IndexError, KeyError) as error:
        raise DataError(
            f"the pickle is not read: {str(error)[:200] or type(error).__name__}",
            expected="arrays, numbers, strings, and records of the library that wrote it",
            got=f"byte {position}, opcode {machine.at}",
            hint=hint,
            code=CODE,
        ) from error
    return value


def parts_of(value: object) -> Iterator[tuple[str, object]]:
    """The values right within a value, each with a name for its place."""
    if isinstance(value, dict):
        yield from ((_label(key), inner) for key, inner in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((str(index), inner) for index, inner in enumerate(value))
    elif isinstance(value, Record):
        own = value.attributes()
        yield from ((_label(key), inner) for key, inner in own.items())
        if isinstance(value.state, Record):
            yield "state", value.state
        elif value.state is not own:
            yield from parts_of(value.state)
        for rest in (value.arguments, value.listed):
            yield from parts_of(rest)
        yield from ((_label(key), inner) for key, inner in value.mapped)


def walk(value: object) -> Iterator[tuple[str, object]]:
    """Every container, record and array within, once, with its path, layer by layer. Never recurses."""
    layer, seen = [("", value)], {id(value)}
    while layer:
        below = []
        for path, found in layer:
            yield path, found
            for name, inner in parts_of(found):
                if not isinstance(inner, _LEAVES) and id(inner) not in seen:
                    seen.add(id(inner))
                    below.append((f"{path}/{name}"[-_NAME:] if path else name, inner))
        layer = below


def _label(key: object) -> str:
    """A key as part of a path; a long one that many dicts share is not copied for each."""
    return key[:_KEY] if isinstance(key, str) else str(key) if isinstance(key, int) else type(key).__name__


_LEAVES = (str, bytes, bytearray, int, float, type(None), Global)


def _shallow(value: object) -> None:
    """Refuse what is nested too deep for the readers."""
    layer, seen = [value], {id(value)}
    for _ in range(MAX_DEPTH):
        below = []
        for found in layer:
            for _name, inner in parts_of(found):
                if not isinstance(inner, _LEAVES) and id(inner) not in seen:
                    seen.add(id(inner))
                    below.append(inner)
        if not below:
            return
        layer = below
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


class _Bounded:
    """A stream that is asked for no more than it has: a length in the file is not a reason to take memory."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.size, self.left = stream, size, size

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise ValueError(f"{count} bytes are announced where {self.left} are left")
        return self._took(self.stream.read(count))

    def readline(self) -> bytes:
        return self._took(self.stream.readline(self.left))

    def tell(self) -> int:
        return self.size - self.left

    def _took(self, data: bytes) -> bytes:
        self.left -= len(data)
        return data


class _Machine:
    """Stack, marks and memo. Values are shared, never copied, so a memo cannot be blown up."""

    def __init__(
        self,
        allowed: Allowed,
        builders: Mapping[str, Builder],
        meter: Meter,
        persistent: Callable[[object], object] | None,
    ) -> None:
        self.allowed, self.builders, self.meter, self.persistent = allowed, builders, meter, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.at = "none"
        self.stopped = False

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        self.at = name
        self.meter.take(_COSTS.get(name, 0))
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _VALUES:
            self.stack.append(_plain(argument))
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TAKING:
            _TAKING[name](self, argument)
        elif name not in _NOTHING:
            raise ValueError(_NEVER.get(name, "is not an opcode that arrays need"))

    def result(self) -> Any:
        """The one value that is left after STOP."""
        if not self.stopped or self.below or len(self.stack) != 1:
            raise ValueError("it does not end with one value")
        return self.stack[0]

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("it takes a value from an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise ValueError("it takes a value from an empty stack")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        """The values above the last mark, which goes away."""
        if not self.below:
            raise ValueError("it goes back to a mark that is not there")
        found, self.stack = self.stack, self.below.pop()
        return found

    # what opcodes do, by name in _TAKING

    def mark(self, _: Any) -> None:
        if len(self.below) >= MAX_MARKS:
            raise ValueError(f"it is nested more than {MAX_MARKS} marks deep")
        self.below.append(self.stack)
        self.stack = []

    def put(self, index: Any) -> None:
        self.memo[len(self.memo) if index is None else int(index)] = self.top()

    def get(self, index: Any) -> None:
        if index not in self.memo:
            raise ValueError(f"it takes entry {index} from the memo, which has none")
        self.stack.append(self.memo[index])

    def find(self, argument: Any) -> None:
        """GLOBAL and STACK_GLOBAL."""
        if argument is None:
            name, module = self.pop(), self.pop()
        else:
            module, _, name = argument.partition(" ")
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("it names a global by something other than a string")
        found = Global(_RENAMED.get(module, module), name)
        if not name.isidentifier() or not all(part.isidentifier() for part in found.module.split(".")):
            raise ValueError(f"it names the global {found!s:.100}, which is no plain name")
        if str(found) not in self.builders and found not in self.allowed:
            raise ValueError(f"it names the global {found!s:.100}")
        self.stack.append(found)

    def call(self, _: Any) -> None:
        """REDUCE and NEWOBJ."""
        arguments, target = self.pop(), self.pop()
        if not isinstance(arguments, tuple):
            raise ValueError("it calls something with what is not a tuple")
        if not isinstance(target, Global):
            raise ValueError(f"it calls a value ({type(target).__name__}) instead of a global")
        builder = self.builders.get(str(target))
        self.stack.append(Record(target, arguments) if builder is None else builder(arguments, self.meter))

    def call_named(self, _: Any) -> None:
        """NEWOBJ_EX: with keywords."""
        named = self.pop()
        self.call(None)
        made = self.top()
        if not isinstance(named, dict) or not isinstance(made, Record):
            raise ValueError("it calls something with keywords that takes none")
        made.mapped.extend(named.items())

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Buildable):
            target.fill(state, self.meter)
        elif isinstance(target, Record) and target.state is None:
            target.state = state
        elif not isinstance(target, dict):  # the attributes of an OrderedDict are dropped
            raise ValueError(f"it sets the state of {type(target).__name__}")

    def append(self, _: Any) -> None:
        self.extend([self.pop()])

    def appends(self, _: Any) -> None:
        self.extend(self.since_mark())

    def extend(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Record):
            target.listed.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise ValueError(f"it appends to {type(target).__name__}")

    def add(self, _: Any) -> None:
        values, target = self.since_mark(), self.top()
        if not isinstance(target, set):
            raise ValueError(f"it adds to {type(target).__name__}")
        target.update(_key(value) for value in values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.fill_in([key, value])

    def set_items(self, _: Any) -> None:
        self.fill_in(self.since_mark())

    def fill_in(self, flat: list[Any]) -> None:
        target, pairs = self.top(), _pairs(flat)
        if isinstance(target, Record):
            target.mapped.extend(pairs)
        elif isinstance(target, dict):
            target.update((_key(key), value) for key, value in pairs)
        else:
            raise ValueError(f"it sets items of {type(target).__name__}")

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("it takes a value from an empty stack")
        values = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(values)

    def marked(self, make: Callable[[list[Any]], Any]) -> None:
        values = self.since_mark()
        self.stack.append(make(values))

    def drop(self, _: Any) -> None:
        """POP takes a value, or the mark if there is none above it."""
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def drop_marked(self, _: Any) -> None:
        self.since_mark()

    def refer(self, _: Any) -> None:
        if self.persistent is None:
            raise ValueError("it refers to an object outside the file")
        self.stack.append(self.persistent(self.pop()))

    def stop(self, _: Any) -> None:
        self.stopped = True


def _plain(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise ValueError(f"an integer of {value.bit_length()} bits")
    return value


def _key(key: Any) -> Any:
    """Only what hashes in a fixed time and not to an enemy's wish."""
    if not isinstance(key, str | bytes | int | float | Global | Record | type(None)):
        raise ValueError(f"a key of a dict or set is a {type(key).__name__}")
    return key


def _pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    if len(flat) % 2:
        raise ValueError("a key has no value")
    return list(zip(flat[::2], flat[1::2], strict=True))


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_NOTHING = frozenset({"PROTO", "FRAME"})
_MAKING = (
    ["EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "LIST", "DICT", "FROZENSET", "REDUCE", "NEWOBJ", "NEWOBJ_EX"],
    ["GLOBAL", "STACK_GLOBAL", "INT", "LONG", "LONG1", "LONG4"],
    ["TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "MARK"],
)
_COSTS = {name: cost for names, cost in zip(_MAKING, (300, 250, 70), strict=True) for name in names}
"""Bytes that a container or object takes, at most: one byte of a file can ask for a set of 216."""
_NUMBERS = ("INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT")
_TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")
_VALUES = frozenset({*_NUMBERS, *_TEXTS, "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_TAKING: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.find,
    "STACK_GLOBAL": _Machine.find,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_named,
    "BUILD": _Machine.build,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.add,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "TUPLE": lambda machine, _: machine.marked(tuple),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.marked(list),
    "DICT": lambda machine, _: machine.marked(lambda flat: {_key(key): value for key, value in _pairs(flat)}),
    "FROZENSET": lambda machine, _: machine.marked(lambda values: frozenset(_key(value) for value in values)),
    "POP": _Machine.drop,
    "POP_MARK": _Machine.drop_marked,
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
    "BINPERSID": _Machine.refer,
    "STOP": _Machine.stop,
}
