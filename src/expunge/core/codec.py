"""Float-free canonical JSON, and strict conversion between the frozen nouns and JSON.

`canonical` writes the bytes of RFC 8785 (JCS) for the JSON we allow: no floats at all. Decimals travel as
strings, because two JSON libraries may print the same double differently and a signature must not depend on that.
rfc8785, the library, is this module's twin in the tests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar, cast

from expunge.core.errors import InputError, InputProblems

Json = Any  # None | bool | int | str | list[Json] | dict[str, Json]; mypy cannot carry the recursion through decode
T = TypeVar("T")

MAX_INT = 2**53 - 1
LATER = "came later"  # metadata of a field that older records do not have
_quoted = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would build an encoder for every string
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]\d+)?\Z")


def canonical(value: Json) -> bytes:
    """RFC 8785 bytes of float-free JSON. Raises InputError on floats, big integers, lone surrogates and deep nesting."""
    pieces: list[str] = []
    try:
        _write(value, pieces, "$")
        return "".join(pieces).encode("utf-8")
    except RecursionError as error:
        raise InputError("JSON is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise InputError("text is not valid Unicode", got=repr(error.object[error.start : error.end])) from error


def _write(value: Json, out: list[str], path: str) -> None:
    if value is None or isinstance(value, bool):
        out.append("null" if value is None else "true" if value else "false")
    elif isinstance(value, str):
        out.append(_quoted(value))
    elif isinstance(value, int):
        if abs(value) > MAX_INT:
            raise InputError(f"integer at {path} is outside ±(2^53-1)", got=str(value), hint="write it as a string")
        out.append(str(value))
    elif isinstance(value, Mapping):
        _write_object(value, out, path)
    elif isinstance(value, (list, tuple)):
        out.append("[")
        for index, item in enumerate(value):
            out.append("," if index else "")
            _write(item, out, f"{path}[{index}]")
        out.append("]")
    else:
        name = type(value).__name__
        raise InputError(f"{name} at {path} is not canonical JSON", hint="pass it through encode() first")


def _write_object(value: Mapping[str, Json], out: list[str], path: str) -> None:
    bad = [key for key in value if not isinstance(key, str)]
    if bad:
        raise InputError(f"object key at {path} is not text", got=repr(bad[0]))
    out.append("{")
    # RFC 8785 section 3.2.3: keys sort by UTF-16 code units, not by code points.
    ordered = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    for index, key in enumerate(ordered):
        out.append("," if index else "")
        out.append(_quoted(key))
        out.append(":")
        _write(value[key], out, f"{path}.{key}")
    out.append("}")


def sha256_hex(data: bytes) -> str:
    """Lower-case hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def digest_of(noun: Any) -> str:
    """`sha256:<hex>` of the canonical JSON of a noun (or of plain JSON)."""
    return "sha256:" + sha256_hex(canonical(encode(noun)))


def decimal(number: float) -> str:
    """Shortest decimal that reads back as the same double. NaN and infinities are refused: use None and a reason."""
    number = float(number)
    if not math.isfinite(number):
        raise InputError("a record holds no NaN or infinity", got=str(number), hint="use None and a reason")
    text = repr(0.0 if number == 0 else number)
    return text[:-2] if text.endswith(".0") else text


def encode(value: Any) -> Json:
    """A noun as plain JSON: floats become decimal strings, sets sorted lists, datetimes RFC 3339 in UTC."""
    if value is None or (isinstance(value, (bool, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return decimal(value)
    if isinstance(value, datetime):
        return timestamp(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value) if _said(value, field)
        }
    if hasattr(value, "model_dump"):
        return {key: encode(item) for key, item in value.model_dump().items()}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (frozenset, set)):
        return sorted(encode(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    raise InputError(f"{type(value).__name__} cannot be written to a record")


def _said(noun: Any, field: dataclasses.Field[Any]) -> bool:
    """A field that came later, with metadata LATER, is left out where it is None: older records keep their bytes."""
    return not (field.metadata.get(LATER) and getattr(noun, field.name) is None)


def timestamp(moment: datetime) -> str:
    """RFC 3339 with a Z; naive datetimes are refused, because a deadline without a zone is not one."""
    if moment.tzinfo is None:
        raise InputError("a time without a zone", expected="an aware datetime", got=moment.isoformat())
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_timestamp(text: str) -> datetime:
    """Inverse of `timestamp`."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError("no zone")
    return moment.astimezone(UTC)


def loads(data: bytes | str, *, what: str = "JSON") -> Json:
    """Strict JSON: duplicate keys, floats, NaN, integers beyond ±(2^53-1) and non-UTF-8 are refused."""

    def no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            raise ValueError(f"duplicate key {next(k for k in keys if keys.count(k) > 1)!r}")
        return dict(pairs)

    def no_float(text: str) -> float:
        raise ValueError(f"number {text} is not an integer; decimals travel as strings")

    def small_int(text: str) -> int:
        number = int(text)
        if abs(number) > MAX_INT:
            raise ValueError(f"integer {text[:40]} is outside ±(2^53-1); it travels as a string")
        return number

    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(
            text,
            object_pairs_hook=no_duplicates,
            parse_float=no_float,
            parse_constant=no_float,
            parse_int=small_int,
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} does not parse", got=str(error)[:200]) from error


def decode(cls: type[T], plain: Json, *, what: str | None = None) -> T:
    """Plain JSON to a noun. Unknown, missing and wrongly typed fields are all reported at once."""
    problems: list[str] = []
    value = _decode(cls, plain, "$", problems)
    if problems:
        raise InputProblems(what or cls.__name__, problems)
    return cast(T, value)


def _decode(kind: Any, plain: Json, path: str, problems: list[str]) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return plain
    if origin in (typing.Union, types.UnionType):
        return _decode_union(kind, plain, path, problems)
    if origin is typing.Literal:
        return _want(plain in typing.get_args(kind), plain, path, f"one of {typing.get_args(kind)}", problems)
    if origin in (tuple, frozenset, list, Sequence):
        return _decode_sequence(kind, origin, plain, path, problems)
    if origin in (dict, Mapping):
        if not isinstance(plain, dict):
            return _want(False, plain, path, "an object", problems)
        item = typing.get_args(kind)[1]
        return {key: _decode(item, value, f"{path}.{key}", problems) for key, value in plain.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(cast(type, kind), plain, path, problems)
    return _decode_scalar(kind, plain, path, problems)


def _want(ok: bool, plain: Json, path: str, expected: str, problems: list[str]) -> Json:
    if not ok:
        problems.append(f"{path}: expected {expected}, got {_show(plain)}")
    return plain


def _show(plain: Json) -> str:
    text = repr(plain)
    return text if len(text) <= 60 else text[:57] + "..."


def _decode_union(kind: Any, plain: Json, path: str, problems: list[str]) -> Any:
    options = [option for option in typing.get_args(kind) if option is not type(None)]
    if plain is None and len(options) < len(typing.get_args(kind)):
        return None
    for option in options[:-1]:
        attempt: list[str] = []
        value = _decode(option, plain, path, attempt)
        if not attempt:
            return value
    return _decode(options[-1], plain, path, problems)


def _decode_sequence(kind: Any, origin: Any, plain: Json, path: str, problems: list[str]) -> Any:
    if not isinstance(plain, list):
        return _want(False, plain, path, "a list", problems)
    args = typing.get_args(kind)
    if origin is tuple and args[-1:] != (Ellipsis,):
        if len(plain) != len(args):
            return _want(False, plain, path, f"{len(args)} items", problems)
        kinds = list(args)
    else:
        kinds = [args[0]] * len(plain)
    values = [_decode(k, v, f"{path}[{i}]", problems) for i, (k, v) in enumerate(zip(kinds, plain, strict=True))]
    return frozenset(values) if origin is frozenset else tuple(values)


def _decode_dataclass(kind: type, plain: Json, path: str, problems: list[str]) -> Any:
    if not isinstance(plain, dict):
        return _want(False, plain, path, "an object", problems)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    before = len(problems)
    problems.extend(f"{path}.{key}: unknown field" for key in plain if key not in fields)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in plain:
            values[name] = _decode(hints[name], plain[name], f"{path}.{name}", problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{path}.{name}: missing")
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except InputError as error:
        problems.append(f"{path}: {error.message}")
        return None


def _decode_scalar(kind: Any, plain: Json, path: str, problems: list[str]) -> Any:
    if kind is float:
        number = isinstance(plain, int) and not isinstance(plain, bool)
        ok = number or (isinstance(plain, str) and _DECIMAL.match(plain) is not None)
        _want(ok, plain, path, "a decimal string", problems)
        return float(plain) if ok else None
    if kind is int:
        return _want(isinstance(plain, int) and not isinstance(plain, bool), plain, path, "an integer", problems)
    if kind is bool:
        return _want(isinstance(plain, bool), plain, path, "true or false", problems)
    if kind is str:
        return _want(isinstance(plain, str), plain, path, "text", problems)
    if kind is datetime:
        try:
            return parse_timestamp(plain)
        except (ValueError, AttributeError, TypeError):
            return _want(False, plain, path, "an RFC 3339 time with zone", problems)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(plain)
        except ValueError:
            return _want(False, plain, path, f"one of {[m.value for m in kind]}", problems)
    raise TypeError(f"no decoder for {kind!r} at {path}")
