"""The one sentence a certificate may say, generated from its guarantee and basis (VERDICTS section 1).

EMPIRICAL says what was measured, on models of a bank or on pictures, never that something is gone. EXACT always carries what
the word means here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from expunge.core.codec import decimal
from expunge.core.errors import InputError
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.evidence.predicate import Predicate

EXACT_MEANS = (
    "EXACT means: equal to this recipe run with the record's slot empty; recipe and hyper-parameters were chosen with "
    "the data present; the request is assumed not to depend on the published model's outputs."
)
EVENTS_MEAN = (
    "EXACT means: equal to this recipe run on histories without these events; recipe and hyper-parameters were chosen "
    "with them present; the request is assumed not to depend on the published model's outputs."
)
UNCHANGED = (
    "The weights did not have to change: the file in service before is already what the recipe makes of that data."
)
EDITED = (
    "The weights of the file {} were edited and not trained again. On {} pictures the style came back, by name and under "
    "the attacks listed, no more often than styles no training saw; on {} pictures others lost no more than is allowed. "
    "The weights may still hold the style, and other attacks were not tested. {}"
)
SELF_ISSUED = "self-issued: operator and verifier keys are in the same custody"
SEPARATE = "operator and verifier keys are in separate custody, as the issuer declares"


class Kept(Protocol):
    """A statement that says in whose custody its keys are."""

    @property
    def custody(self) -> Literal["same", "separate"]:
        """Of operator's and verifier's key."""


def sentence_of(predicate: Predicate) -> str:
    """What the certificate says by itself, without any later co-signature."""
    by = None if predicate.recomputed is None else predicate.recomputed.name
    return generate(predicate, recomputed_by=by)


def generate(predicate: Predicate, *, recomputed_by: str | None) -> str:
    """The sentence when `recomputed_by` re-executed the recipe, or when nobody did (None)."""
    if predicate.guarantee is Guarantee.EXACT:
        return _exact(predicate, recomputed_by)
    if predicate.guarantee is Guarantee.CERTIFIED:
        return _certified(predicate, recomputed_by)
    return _empirical(predicate)


def custody_line(predicate: Kept, signers: Sequence[str]) -> str:
    """First line of every report when it is self-issued; `signers` are the names in the relying party's roots."""
    owners = [name.partition(" (")[0] for name in signers]
    same = predicate.custody == "same" or len(set(owners)) < len(owners)
    return SELF_ISSUED if same else SEPARATE


def _records(predicate: Predicate) -> str:
    """What the data does not contain. Of events also who remains: deleting them is not deleting a user."""
    erased = predicate.erased
    if erased.unit == "interaction":
        what = "the one interaction" if erased.count == 1 else f"the {erased.count} interactions"
        return f"{what} of the request, whose {_users(erased.histories)} with everything else"
    if erased.unit == "window":
        return (
            f"what {'a user' if erased.histories == 1 else f'{erased.histories} users'} had in the time window of the "
            f"request, whose {_users(erased.histories)} with everything else"
        )
    if erased.unit == "item":
        what = "the one item" if erased.count == 1 else f"the {erased.count} items"
        return (
            f"{what} of the request in any history; {erased.histories} histories became shorter, and their users remain"
        )
    count = predicate.data_before.present - predicate.data_after.present
    return "the record" if count == 1 else f"the {count} records"


def _users(histories: int) -> str:
    return "user remains" if histories == 1 else f"{histories} users remain"


def _exact(predicate: Predicate, by: str | None) -> str:
    file, records = predicate.models.after, _records(predicate)
    if by is None:
        claim = (
            f"As logged by the owner, the file {file} is the result of the recorded recipe on data that does not "
            f"contain {records}; nobody else has recomputed it."
        )
    else:
        claim = f"The file {file} was recomputed by {by} from data that does not contain {records}."
    if predicate.models.before == file:
        claim = f"{claim} {UNCHANGED}"
    means = EXACT_MEANS if predicate.erased.unit == "records" else EVENTS_MEAN
    return f"{claim} {means} {_outputs(predicate)}"


def _outputs(predicate: Predicate) -> str:
    shown = [f"{item.check} {item.verdict.value}" for item in sorted(predicate.findings, key=lambda item: item.check)]
    return f"Checks: {', '.join(shown)}."


def _certified(predicate: Predicate, by: str | None) -> str:
    bound = predicate.bound
    if bound is None:
        raise InputError("a CERTIFIED certificate states its bound")
    who = "as logged by the owner" if by is None else f"recomputed by {by}"
    return (
        f"The file {predicate.models.after} comes, {who}, from a method with an (epsilon, delta) theorem at epsilon = "
        f"{decimal(bound.epsilon)}, delta = {decimal(bound.delta)}, whose assumptions were checked for this model: "
        f"within that bound it cannot be told from a model trained without {_records(predicate)}. {_outputs(predicate)}"
    )


def _empirical(predicate: Predicate) -> str:
    found = {finding.check: finding for finding in predicate.findings}
    membership, style, others = (found.get(name) for name in ("membership", "style", "collateral"))
    if style is not None and others is not None and (membership is None or style.verdict is Verdict.PASS):
        return _edited(predicate, style, others)  # a bank may have been asked as well: its verdict is among the checks
    if membership is None or membership.estimate is None or membership.interval is None:
        raise InputError("an EMPIRICAL certificate needs a measured membership finding")
    low, high = decimal(membership.interval.low), decimal(membership.interval.high)
    deployed = found["deployed"].verdict.value if "deployed" in found else "not checked"
    return (
        f"On {membership.n} retrainings, attacks {_attacks(membership)} found a mean residual of "
        f"{decimal(membership.estimate)} [{low}, {high}] of the original influence; {_midpoint(membership)}; "
        f"on this file {predicate.models.after} the deployed-file check says {deployed}; "
        "other attacks and copies were not tested."
    )


def _edited(predicate: Predicate, style: Finding, others: Finding) -> str:
    """Of a text-to-image model whose style was edited out, on the pictures that were drawn."""
    if any(item.verdict is not Verdict.PASS or item.estimate is None for item in (style, others)):
        raise InputError("an EMPIRICAL certificate of an edit needs style and collateral, measured and passed")
    return EDITED.format(predicate.models.after, style.n, others.n, _outputs(predicate))


def _attacks(membership: Finding) -> str:
    names = list(dict.fromkeys(item.name.partition(": ")[0] for item in membership.conditions if ": " in item.name))
    return ", ".join(names) or "(unnamed)"


def _midpoint(membership: Finding) -> str:
    rows = [item for item in membership.conditions if "beyond the midpoint" in item.name]
    if not rows or any(item.limit is None or item.verdict is not Verdict.PASS for item in rows):
        return "the share of runs that exceeded the midpoint was not bounded"
    return (
        f"at most {decimal(max(item.limit for item in rows if item.limit is not None))} of runs exceeded the midpoint"
    )
