"""Appeals: the claimant's own prompts and works test the edit, somebody else decides, and none of it ever trains anything.

A held-out probe is a type of its own and no text, so it cannot stand where an eraser takes prompts; only `ask` opens it, for
whoever draws and judges. Records keep its keyed digest, never its words.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from expunge.core.codec import digest_of
from expunge.core.errors import InputError, InputProblems
from expunge.evidence.commitment import PREFIX, keyed
from expunge.workflow.rights.policy import RightsPolicy

T = TypeVar("T")
LONGEST_PROMPT = 1000
LARGEST_WORK = 64 << 20
Outcome = Literal["upheld", "granted", "held"]
"""The decision stands, the appeal succeeds, or a person outside has to decide."""


class HeldOut:
    """The prompts and works of one appeal. Neither text nor bytes, not iterable, not printable, not picklable: what is in it is
    reached by `ask` only."""

    __slots__ = ("__key", "__prompts", "__works")

    def __init__(self, *, prompts: Sequence[str], works: Sequence[bytes], key: bytes) -> None:
        self.__prompts, self.__works, self.__key = tuple(prompts), tuple(works), key

    def ask(self, probe: Callable[[tuple[str, ...], tuple[bytes, ...]], T]) -> T:
        """Let a probe draw and judge with them; what it returns are counts."""
        return probe(self.__prompts, self.__works)

    @property
    def digests(self) -> tuple[str, ...]:
        """Keyed digest of each prompt and work, sorted: what the record keeps. Guessing a prompt is no use without the key."""
        texts = [b"prompt|" + folded(prompt).encode() for prompt in self.__prompts]
        texts += [b"work|" + hashlib.sha256(work).digest() for work in self.__works]
        return tuple(sorted(PREFIX + keyed(self.__key, text).hex() for text in texts))

    def holds(self, text: str) -> bool:
        """Is this prompt one of them, however it is written? Not whether it has a word of one: a claimant could then keep
        their own name from being erased."""
        return folded(text) in set(map(folded, self.__prompts))

    def holds_work(self, digest: str) -> bool:
        """Is the work with this hex SHA-256 one of them?"""
        return any(hashlib.sha256(work).hexdigest() == digest for work in self.__works)

    def __repr__(self) -> str:
        return f"HeldOut({len(self.__prompts)} prompts, {len(self.__works)} works)"

    def __reduce__(self) -> str:
        raise InputError("held-out probes are not written anywhere", hint="keep their digests")


def folded(text: str) -> str:
    """A prompt without what makes it look different: case, spaces, compatibility forms (Unicode NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def check_held_out(prompts: Iterable[str], works: Iterable[str], held_out: Iterable[HeldOut]) -> None:
    """Raises InputError where an optimisation would be given what tests it. `works` are hex SHA-256."""
    texts, digests = tuple(prompts), tuple(works)
    if any(not isinstance(text, str) for text in texts):
        raise InputError("held-out probes are not prompts", expected="text")
    for one in held_out:
        if any(map(one.holds, texts)) or any(map(one.holds_work, digests)):
            raise InputError(
                "a held-out probe would be optimised on",
                hint="choose other prompts and works: those of an appeal only test",
                code="held-out",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The decision that is appealed: its digest, when it was made, and the handle of who made it."""

    request: str
    decision: str
    at: datetime
    reviewer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Appeal:
    """An appeal on record: digests only. `due` is when its outcome is."""

    request: str
    decision: str
    first_reviewer: str
    filed: datetime
    due: datetime
    probes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """`sha256:` of the record; it is logged before any probe is asked."""
        return digest_of(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppealOutcome:
    """How it ended; `late` = after it was due."""

    appeal: str
    outcome: Outcome
    reviewer: str
    at: datetime
    late: bool


def held_out_of(prompts: Sequence[str], works: Sequence[bytes], key: bytes, policy: RightsPolicy) -> HeldOut:
    """The claimant's probes, within the policy's limits, all problems at once."""
    limits, problems = policy.appeals, []
    if len(prompts) > limits.prompts:
        problems.append(f"{len(prompts)} prompts; at most {limits.prompts} may be brought")
    if len(works) > limits.works:
        problems.append(f"{len(works)} reference works; at most {limits.works} may be brought")
    if any(not folded(text) or len(text) > LONGEST_PROMPT for text in prompts):
        problems.append(f"a prompt has 1 to {LONGEST_PROMPT} characters")
    if any(not 0 < len(work) <= LARGEST_WORK for work in works):
        problems.append(f"a work has 1 to {LARGEST_WORK} bytes")
    if problems:
        raise InputProblems("the appeal's probes", problems, code="appeal")
    return HeldOut(prompts=prompts, works=works, key=key)


def file_appeal(
    decided: Decided, probes: HeldOut, policy: RightsPolicy, now: datetime, earlier: Sequence[Appeal] = ()
) -> Appeal:
    """Record an appeal. Raises InputError when it comes too late, or the decision was appealed before."""
    if now > decided.at + timedelta(days=policy.appeals.file_within):
        raise InputError("the appeal comes too late", expected=f"within {policy.appeals.file_within} days")
    if any(one.decision == decided.decision for one in earlier):
        raise InputError("this decision was appealed already", hint="a new decision can be appealed again")
    return Appeal(
        request=decided.request,
        decision=decided.decision,
        first_reviewer=decided.reviewer,
        filed=now,
        due=now + timedelta(days=policy.appeals.outcome),
        probes=probes.digests,
    )


def decide_appeal(appeal: Appeal, outcome: Outcome, reviewer: str, now: datetime) -> AppealOutcome:
    """Close an appeal. Raises InputError unless a second person does, whose handle is another one."""
    if not folded(reviewer) or folded(reviewer) == folded(appeal.first_reviewer):
        raise InputError("an appeal is decided by a second reviewer", expected="somebody else than decided first")
    if now < appeal.filed:
        raise InputError("an appeal is decided after it was filed", got=now.isoformat())
    return AppealOutcome(appeal=appeal.digest, outcome=outcome, reviewer=reviewer, at=now, late=now > appeal.due)
