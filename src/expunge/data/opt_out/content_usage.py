"""Usage preferences of the AIPREF drafts: a dictionary of RFC 9651 such as `train-ai=n, search=y`.

`train-ai` is the category of the present draft (draft-ietf-aipref-vocab-08). Earlier drafts had others that include training,
and files that use them are still served; all are heard. A category that is not about training says nothing here. What does
not parse states no preference in the draft's words; here it is UNREADABLE, because somebody meant to say something.
"""

from __future__ import annotations

import re
from datetime import datetime

from expunge.data.opt_out.signals import Protocol, Says, Signal, digest_of_bytes

LARGEST = 8192
TRAINING = frozenset({"train-ai", "train-genai", "genai", "ai", "tdm", "bots", "all"})
"""Categories that include training, of this draft and of the ones before it."""
_MEMBER = re.compile(r"(?P<key>[a-z*][a-z0-9_\-.*]{0,63})(?:=(?P<value>\?[01]|[A-Za-z0-9*][A-Za-z0-9._\-/:*]{0,63}))?")
_PARAMETERS = re.compile(r"(?:[ ]*;[ ]*[a-z*][a-z0-9_\-.*]{0,63}(?:=[A-Za-z0-9?*][A-Za-z0-9._\-/:*]{0,63})?)*")


def read_preference(text: str) -> Says:
    """What a preference says about training. `n` for any category that includes it reserves; one that says neither y nor n
    about it cannot be read."""
    members = _members(text)
    if members is None:
        return Says.UNREADABLE
    said = {value for key, value in members.items() if key in TRAINING}
    if "n" in said:
        return Says.RESERVED
    if said - {"y"}:
        return Says.UNREADABLE
    return Says.PERMITTED if said else Says.SILENT


def content_usage_signal(value: str, *, where: str, read: datetime) -> Signal:
    """The same of a Content-Usage header that came with the row; repeated headers are joined by commas (RFC 9110)."""
    digest = digest_of_bytes(value.encode("utf-8", "replace"))
    return Signal(protocol=Protocol.AIPREF, says=read_preference(value), where=where, read=read, digest=digest)


def _members(text: str) -> dict[str, str] | None:
    """key -> value, the last one of a key as RFC 9651 has it; None where it is no dictionary."""
    if len(text) > LARGEST or not text.strip():
        return None
    found = {}
    for part in text.split(","):
        member = _MEMBER.match(part.strip())
        if member is None or not _PARAMETERS.fullmatch(part.strip()[member.end() :]):
            return None
        found[member["key"]] = member["value"] or "?1"
    return found
