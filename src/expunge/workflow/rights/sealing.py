"""Prompts that a claimant commits to before a decision and opens afterwards: nobody can fit the decision to them, nor them to it.

The claimant seals with a key of their own, without any workspace; the desk logs commitments that say nothing without the key.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.errors import InputError, InputProblems
from expunge.evidence.commitment import KEY_BYTES, commit, is_commitment
from expunge.workflow.rights.appeal import LONGEST_PROMPT, folded
from expunge.workflow.rights.requests import APPEALED, DECIDED, entries_of, last_of, require_open

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.rights.policy import RightsPolicy
    from expunge.workflow.workspace import Workspace

SEALED = "rights.sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What the claimant hands in: a commitment for each prompt, sorted."""

    commitments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """What the claimant keeps, and shows at an appeal: the key (hex) and the prompts."""

    key: str
    prompts: tuple[str, ...]

    @property
    def seal(self) -> Seal:
        """The commitments that follow. Raises InputError where the key is none."""
        try:
            key = bytes.fromhex(self.key)
        except ValueError as error:
            raise InputError("the opening's key is not hex") from error
        if len(key) != KEY_BYTES:
            raise InputError("the opening's key is none", expected=f"{KEY_BYTES} bytes in hex", got=f"{len(key)} bytes")
        return Seal(commitments=tuple(sorted(commit(key, prompt) for prompt in self.prompts)))


def unsealed(prompts: Sequence[str]) -> Unsealed:
    """Prompts under a new key. Raises InputProblems on empty ones, long ones and those that come twice."""
    plain = [folded(prompt) for prompt in prompts]
    problems = ["no prompt"] * (not plain)
    problems += [f"a prompt has 1 to {LONGEST_PROMPT} characters"] * any(
        not 0 < len(p) <= LONGEST_PROMPT for p in plain
    )
    problems += ["a prompt comes twice"] * (len(set(plain)) != len(plain))
    if problems:
        raise InputProblems("the prompts to seal", problems)
    return Unsealed(key=secrets.token_bytes(KEY_BYTES).hex(), prompts=tuple(prompts))


def written(noun: Seal | Unsealed) -> bytes:
    """As a file."""
    return canonical(encode(noun))


def read_seal(raw: bytes) -> Seal:
    """From a file of anybody's."""
    return decode(Seal, loads(raw, what="the seal"), what="the seal")


def read_unsealed(raw: bytes) -> Unsealed:
    """From a file of anybody's."""
    return decode(Unsealed, loads(raw, what="the opening"), what="the opening")


def deposit(workspace: Workspace, handle: str, seal: Seal, policy: RightsPolicy) -> Entry:
    """Log the commitments. Raises InputProblems where they are none, or too many."""
    require_open(workspace, handle)
    found, problems = seal.commitments, []
    if not 1 <= len(found) <= policy.appeals.prompts:
        problems.append(f"{len(found)} commitments; 1 to {policy.appeals.prompts} may be handed in")
    if len(set(found)) != len(found) or not all(map(is_commitment, found)):
        problems.append("a keyed commitment for each prompt, each once")
    if {one for entry in entries_of(workspace, handle, SEALED) for one in entry.payload["commitments"]} & set(found):
        problems.append("a commitment was handed in before")
    if problems:
        raise InputProblems("the seal", problems, code="seal")
    entry = workspace.log.append(SEALED, {"commitments": sorted(found)}, case=handle)
    workspace.log.checkpoint()
    return entry


def deposited(workspace: Workspace, handle: str, opening: Unsealed) -> int:
    """Number of the entry whose whole seal this opens, handed in before the decision that stands. Raises InputError where there
    is none: other prompts, fewer of them, a seal that came after the decision, or one that an earlier appeal has opened."""
    mine = list(opening.seal.commitments)
    found = [entry for entry in entries_of(workspace, handle, SEALED) if entry.payload["commitments"] == mine]
    if not found:
        raise InputError(
            "the opening does not belong to any seal that was handed in",
            expected="all prompts of one seal, letter by letter, and its key",
            code="seal",
        )
    decided = last_of(workspace, handle, DECIDED)
    if decided is None or found[0].index > decided.index:
        raise InputError(
            "the prompts were sealed after the decision, so they test nothing that was decided blindly",
            hint="bring them as --prompts: they are asked and reported, and decide nothing",
            code="seal",
        )
    if any(entry.payload.get("sealed") == found[0].index for entry in entries_of(workspace, handle, APPEALED)):
        raise InputError("an earlier appeal has opened this seal", hint="seal other prompts before the next decision")
    return found[0].index
