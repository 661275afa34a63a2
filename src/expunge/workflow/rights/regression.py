"""Every request that was ever granted is checked again on whatever is to be released: one changed byte is another model.

A checkpoint, a merged adapter, another text encoder, a quantised export: each is a directory with digests of every file
(`training.text_to_image.directory`), and evidence about other bytes says nothing about these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from expunge.core.errors import Held, InputError
from expunge.core.styles import StyleRung

_UNET, _TEXT = "unet/", "text_encoder"
_GOOD = frozenset({StyleRung.NOT_LEARNED, StyleRung.SUPPRESSED, StyleRung.INDISTINGUISHABLE, StyleRung.EXACT})
_ORDER = tuple(StyleRung)


class Files(Protocol):
    """What is to be released: path -> hex SHA-256 of every file, and the digest over all of them (`Directory` is one)."""

    @property
    def files(self) -> Mapping[str, str]:
        """Path -> hex SHA-256."""

    @property
    def digest(self) -> str:
        """Of everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A granted request and the files on which it was last verified. `rung` was reached there; `plan` is the digest of the
    battery that has to be run again, from its seeds."""

    request: str
    rung: StyleRung
    plan: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """A request that has to be verified again: which files are other ones, and what kind of change that is."""

    request: str
    plan: str
    changed: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A battery that was run again on these files: `digest` of the directory, `plan` of the battery."""

    request: str
    digest: str
    plan: str
    rung: StyleRung
    at: datetime


def to_verify(granted: Sequence[Granted], release: Files) -> tuple[Recheck, ...]:
    """Who has to be verified again before these files are released: whoever was verified on any other bytes."""
    found = []
    for one in granted:
        names = set(one.files) | set(release.files)
        changed = tuple(sorted(name for name in names if one.files.get(name) != release.files.get(name)))
        if changed or not one.files:
            kinds = tuple(sorted({_kind(name, one.files, release.files) for name in changed}))
            found.append(Recheck(request=one.request, plan=one.plan, changed=changed, kinds=kinds))
    return tuple(found)


def check_release(granted: Sequence[Granted], release: Files, verified: Sequence[Verified]) -> None:
    """Raises Held with everybody who was not verified again on exactly these files with their own battery, or fell below the
    rung that they were granted. Nothing is released then."""
    twice = len({one.request for one in granted}) != len(granted)
    if twice:
        raise InputError("a request was granted twice", hint="keep the last verification of each")
    plans = {one.request: one for one in granted}
    done: dict[str, list[StyleRung]] = {}
    for one in verified:
        if one.digest == release.digest and one.request in plans and one.plan == plans[one.request].plan:
            done.setdefault(one.request, []).append(one.rung)
    missing = [one.request for one in to_verify(granted, release) if one.request not in done]
    fallen = [request for request, rungs in done.items() if any(_below(rung, plans[request].rung) for rung in rungs)]
    if missing or fallen:
        said = [f"{len(missing)} not verified on these files: {', '.join(missing[:5])}"] * bool(missing)
        said += [f"{len(fallen)} fell below what was granted: {', '.join(fallen[:5])}"] * bool(fallen)
        raise Held(f"the release is blocked: {'; '.join(said)}", hint="run their batteries on this directory")


def _below(rung: StyleRung, granted: StyleRung) -> bool:
    """NOT-LEARNED is no erasure that another rung could exceed: it stays what it was, or the style has to be shown gone."""
    if rung not in _GOOD:
        return True
    if rung is StyleRung.NOT_LEARNED:
        return False
    return granted is StyleRung.NOT_LEARNED or _ORDER.index(rung) < _ORDER.index(granted)


def _kind(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What a changed file is called in the record; any of them has everybody verified again."""
    if name not in before:
        return "a file was added"
    if name not in after:
        return "a file is gone"
    if name.startswith(_UNET):
        return "another denoiser, or another precision of it"
    if name.startswith((_TEXT, "tokenizer")):
        return "another text encoder"
    if name.startswith("vae/"):
        return "another decoder"
    return "another setting"
