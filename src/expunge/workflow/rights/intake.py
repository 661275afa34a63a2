"""A request as it comes in: within the policy's limits, and without a name or an address in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from expunge.core.errors import InputProblems
from expunge.evidence.commitment import is_commitment
from expunge.workflow.rights.policy import RightsPolicy
from expunge.workflow.rights.terms import AuthorityKind, Basis

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class Remedy(StrEnum):
    """What is asked for."""

    STOP_TRAINING = "stop_training"
    STOP_OUTPUTS = "stop_outputs"
    REMOVE_INFLUENCE = "remove_influence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A request. `claimant` is a keyed commitment, `works` are hex SHA-256 of the files, `names` commitments to name and
    aliases: the words themselves stay in the case's private folder. `id` is the case's."""

    id: str
    received: datetime
    claimant: str
    authority: AuthorityKind
    works: tuple[str, ...]
    names: tuple[str, ...]
    jurisdiction: str
    basis: Basis
    remedies: tuple[Remedy, ...]


def check_claim(claim: Claim, policy: RightsPolicy) -> Claim:
    """The claim, if it is one; every problem at once otherwise. A list that is too long is split by the claimant, not cut by
    us: nobody should learn from silence which works were left out."""
    problems = []
    if claim.received.tzinfo is None:
        problems.append("received: a time without a zone")
    if not is_commitment(claim.claimant) or not all(map(is_commitment, claim.names)):
        problems.append("claimant and names are keyed commitments, not text")
    if claim.authority not in policy.intake.authority:
        problems.append(f"authority: {claim.authority.value} is none of those who may claim")
    if not 1 <= len(claim.works) <= policy.intake.works:
        problems.append(f"works: {len(claim.works)} are listed, 1 to {policy.intake.works} may be")
    if any(not _DIGEST.match(work) for work in claim.works) or len(set(claim.works)) != len(claim.works):
        problems.append("works: hex SHA-256 of each file, each once")
    if not 1 <= len(claim.names) <= policy.intake.names:
        problems.append(f"names: {len(claim.names)} are given, 1 to {policy.intake.names} may be")
    if not claim.remedies:
        problems.append("remedies: nothing is asked for")
    if problems:
        raise InputProblems("the claim", problems, code="claim")
    return claim
