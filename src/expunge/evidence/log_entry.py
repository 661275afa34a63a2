"""What a log entry is, and when stored bytes are one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from expunge.core.codec import MAX_INT, Json, canonical, encode, loads, timestamp
from expunge.core.errors import InputError, IntegrityError
from expunge.evidence.merkle import leaf_hash

BODY_VERSION = 1
_KEYS = frozenset({"v", "time", "kind", "case", "payload"})
_QUICK = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One log entry. `body` is what was logged; `index` counts from 0 and is implied by position."""

    index: int
    body: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What happened, e.g. `plan.committed`."""
        return str(self.body["kind"])

    @property
    def case(self) -> str | None:
        """Keyed handle of the case, or None for entries that belong to none."""
        return None if self.body["case"] is None else str(self.body["case"])

    @property
    def payload(self) -> Mapping[str, Any]:
        """The entry's own fields."""
        payload: Mapping[str, Any] = self.body["payload"]
        return payload

    @property
    def leaf(self) -> bytes:
        """Its 32-byte leaf hash: over the canonical JSON of the body."""
        return leaf_hash(canonical(self.body))


def make_body(kind: str, payload: Mapping[str, Any], case: str | None, now: datetime | str) -> dict[str, Json]:
    """An entry's body as plain JSON; `now` may be a timestamp already. Raises InputError on what JSON cannot carry."""
    if not isinstance(kind, str) or not kind:
        raise InputError("an entry needs a kind", got=repr(kind))
    if not isinstance(payload, Mapping):
        raise InputError("an entry's payload is an object", got=type(payload).__name__)
    moment = now if isinstance(now, str) else timestamp(now)
    return {"v": BODY_VERSION, "time": moment, "kind": kind, "case": case, "payload": encode(payload)}


def body_bytes(body: Mapping[str, Json]) -> bytes:
    """canonical() of what `make_body` made, by the C encoder where that is sure to write the same bytes.

    `encode` has left no float and no foreign type; what remains in doubt is a key outside the Basic Plane, whose place
    differs between code points and UTF-16, and an integer beyond 2^53. Whatever is not ASCII goes the slow way.
    """
    try:
        quick = _QUICK.encode(body) if _small(body["payload"]) else ""
    except RecursionError:
        quick = ""
    return quick.encode("ascii") if quick and quick.isascii() else canonical(body)


def _small(value: Json) -> bool:
    """No integer in it is beyond what canonical JSON carries."""
    kind = type(value)
    if kind is dict:
        return all(map(_small, value.values()))
    if kind is list:
        return all(map(_small, value))
    return kind is not int or -MAX_INT <= value <= MAX_INT


def parse_body(raw: object, index: int) -> dict[str, Json]:
    """A stored body, exactly as it was written. Raises IntegrityError on any other bytes."""
    body, problem = read_body(raw)
    if problem is not None or body is None:
        raise IntegrityError(f"log entry {index}: {problem}", hint="run `expunge log verify`")
    return body


def read_body(raw: object) -> tuple[dict[str, Json] | None, str | None]:
    """The body these bytes hold, or None and why they hold none. Only canonical JSON counts."""
    if not isinstance(raw, bytes):
        return None, "the body is not bytes"
    try:
        body = loads(raw)
        if not _is_canonical(body, raw):
            return None, "the body is not canonical JSON"
    except InputError as error:
        return None, f"{error.message} ({error.got})"
    problem = body_problem(body)
    return (None, problem) if problem else (body, None)


def body_problem(body: Json) -> str | None:
    """Why parsed JSON is not an entry's body, or None."""
    if not isinstance(body, dict) or body.keys() != _KEYS:
        return f"the body does not have exactly the fields {', '.join(sorted(_KEYS))}"
    if body["v"] != BODY_VERSION or isinstance(body["v"], bool):
        return f"unknown version {body['v']!r}"
    if not isinstance(body["time"], str) or not _TIME.match(body["time"]):
        return "the time is not RFC 3339 in UTC with microseconds"
    if not isinstance(body["kind"], str) or not body["kind"]:
        return "the kind is not text"
    if not (body["case"] is None or isinstance(body["case"], str)) or not isinstance(body["payload"], dict):
        return "case or payload has the wrong type"
    return None


def _is_canonical(value: Json, raw: bytes) -> bool:
    """The C encoder agrees with canonical() unless a key leaves the Basic Plane; a difference asks the slow one."""
    return _QUICK.encode(value).encode("utf-8", "surrogatepass") == raw or canonical(value) == raw
