"""References to data and models by content, and the split that a deletion request makes of the data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from expunge.core.errors import InputError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def check_digest(text: str) -> str:
    """`sha256:` and 64 lower-case hex digits, or InputError."""
    if not _DIGEST.match(text):
        raise InputError("not a digest", expected="sha256:<64 hex digits>", got=text[:80])
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRef:
    """A data set as it was ingested: N slots, of which some may be tombstones.

    `root` and `content_root` are Merkle roots over keyed leaves (evidence/manifest.py); `slots` counts every position
    ever given out, including the emptied ones, because slots are never reused.
    """

    source: str
    slots: int
    present: int
    root: str
    content_root: str

    def __post_init__(self) -> None:
        check_digest(self.root)
        check_digest(self.content_root)
        if not 0 <= self.present <= self.slots:
            raise InputError("more records present than slots", got=f"{self.present} of {self.slots}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model by content: `digest` is the Merkle root over its tensors, whatever file holds them; never a bare path."""

    family: str
    digest: str
    uri: str

    def __post_init__(self) -> None:
        check_digest(self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetSplit:
    """Which record ids go and which stay. forget and retain are disjoint and make up the data; holdout was never in it.

    Raises InputError when the sets overlap, when nothing is forgotten, or when nothing would be left.
    """

    data: DataRef
    forget: frozenset[str]
    retain: frozenset[str]
    holdout: frozenset[str]

    def __post_init__(self) -> None:
        for left, right, what in (
            (self.forget, self.retain, "forget and retain"),
            (self.forget, self.holdout, "forget and holdout"),
            (self.retain, self.holdout, "retain and holdout"),
        ):
            if left & right:
                raise InputError(f"{what} overlap", got=f"{len(left & right)} ids")
        if not self.forget:
            raise InputError("the request names no record", hint="give at least one id")
        if not self.retain:
            raise InputError("nothing would be left to train on")
        if len(self.forget) + len(self.retain) != self.data.present:
            raise InputError(
                "forget and retain do not make up the data",
                expected=str(self.data.present),
                got=str(len(self.forget) + len(self.retain)),
            )
