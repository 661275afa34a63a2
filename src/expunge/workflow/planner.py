"""Which candidates to try, in which order: strongest guarantee first, then cheapest, retrain always last.

There is no table of methods by families: a method says what it `needs`, the adapter either has that capability or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from expunge.core import registry
from expunge.core.codec import encode
from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.core.plan import CheckSpec, Cost, Plan
from expunge.core.protocols import UnlearnJob
from expunge.stats.rank import MIN_ANCHORS
from expunge.workflow.artefacts import artefacts_digest
from expunge.workflow.histories import shortened
from expunge.workflow.places import declared_digest
from expunge.workflow.policy import policy_digest
from expunge.workflow.selftest.gate import against_empirical
from expunge.workflow.styles.edits import ELSEWHERE, Edit, edits, method_named, only_edits
from expunge.workflow.styles.evidence import asked_digest
from expunge.workflow.train import open_bank
from expunge.workflow.user_bank import refusal

if TYPE_CHECKING:
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

LAST = "retrain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to do it, priced. `refused` says why it cannot be done here; such a candidate is shown and not tried."""

    method: str
    origin: str
    aims_at: Guarantee
    cost: Cost | None
    refused: str | None


def candidates(workspace: Workspace, resolution: Resolution, methods: Sequence[str] = ()) -> list[Candidate]:
    """All candidates in the order of trial, refused ones at the end. `methods` restricts and orders them."""
    known = _known(workspace)
    unknown = [name for name in methods if name not in known]
    if unknown:
        raise InputError("unknown method", expected=", ".join(known), got=", ".join(unknown))
    found = [_candidate(workspace, resolution, name) for name in (methods or known)]
    found = _vouched(workspace, found)
    if not methods:
        found.sort(key=_order)
    return [c for c in found if c.refused is None] + [c for c in found if c.refused is not None]


def _vouched(workspace: Workspace, found: list[Candidate]) -> list[Candidate]:
    """Approximate methods only where the self-test has shown that cheats which aim at the same guarantee are not believed."""
    why = against_empirical(workspace)
    meant = [item for item in found if item.aims_at is Guarantee.EMPIRICAL and item.refused is None]
    return [replace(item, refused=why, cost=None) if why and item in meant else item for item in found]


def _known(workspace: Workspace) -> list[str]:
    """Every method; for a text-to-image model the erasers of concepts too."""
    return [*registry.names("methods"), *(edits() if workspace.policy.kind == "generator" else ())]


def _order(candidate: Candidate) -> tuple[bool, int, float]:
    fraction = candidate.cost.fraction if candidate.cost else 0.0
    return candidate.method == LAST, candidate.aims_at.rank, fraction


def _candidate(workspace: Workspace, resolution: Resolution, name: str) -> Candidate:
    plugin, method = registry.find(*registry.split_name(name, "methods")), method_named(name)
    refused = _refused(workspace, resolution, method, plugin.built_in)
    cost = None
    if refused is None:
        cost = _priced(workspace, method.cost(unlearn_job(workspace, resolution)))
    return Candidate(
        method=name, origin=plugin.origin, aims_at=_cap(method, plugin.built_in), cost=cost, refused=refused
    )


def _priced(workspace: Workspace, fraction: float | None) -> Cost | None:
    """A share of a training, in seconds; None where the method cannot say."""
    if fraction is None:
        return None
    seconds = fraction * workspace.served().seconds
    return Cost(seconds=seconds, fraction=fraction, basis="share of the measured seconds of the original")


def _cap(method: Any, built_in: bool) -> Guarantee:
    """Methods from outside are capped at EMPIRICAL (VERDICTS section 1)."""
    aims: Guarantee = method.aims_at
    return aims if built_in else Guarantee.EMPIRICAL


def _refused(workspace: Workspace, resolution: Resolution, method: Any, built_in: bool) -> str | None:
    if not isinstance(workspace.adapter, method.needs):
        return f"family {workspace.recipe.family} lacks the capability {method.needs.__name__}"
    if _cap(method, built_in).name not in workspace.policy.guarantees:
        return f"the policy does not grant {_cap(method, built_in).name}"
    if only_edits(workspace) and not isinstance(method, Edit):
        return ELSEWHERE
    if _cap(method, built_in) is Guarantee.EMPIRICAL and workspace.policy.kind == "recommender":
        unjudged = unjudged_users(workspace) or refusal(workspace, resolution, open_bank(workspace))
        if unjudged is not None:
            return f"nobody can judge this as EMPIRICAL: {unjudged}"
    if resolution.cut is not None and not getattr(method, "shortens", False):
        return "this method can only empty whole slots, and the request is for events"
    refused: str | None = method.refuses(unlearn_job(workspace, resolution))
    return refused


def unjudged_users(workspace: Workspace) -> str | None:
    """Why nobody could judge a recommender's deletion as EMPIRICAL here, or None."""
    if open_bank(workspace) is None:
        return "it takes a bank of users, and there is none, or none that may still be kept: expunge bank"
    if workspace.config.bank.anchors < 2 * MIN_ANCHORS:
        return f"it takes full-size models: [bank] anchors in expunge.toml, at least {2 * MIN_ANCHORS}"
    return None


def unlearn_job(workspace: Workspace, resolution: Resolution, *, target: str = "", seed: str = "") -> UnlearnJob:
    """The job a method receives for the served model."""
    record = workspace.served()
    source = workspace.root / record.run
    return UnlearnJob(
        adapter=workspace.adapter,
        job=workspace.fit_job(source, absent=frozenset(record.absent), seed=record.seed),
        source=source,
        target=workspace.root / "store" / "runs" / target if target else source,
        forget=frozenset(resolution.slots),
        seed=seed or record.seed,
        shortened=None if resolution.cut is None else shortened(workspace, resolution.cut),
    )


def _pinned(workspace: Workspace) -> dict[str, str]:
    """What else a plan fixes: of a recommender the places and artefacts that will be looked at, what has to be guessed, and up to
    how many items the weights are inverted; of a text-to-image model what it will be asked for."""
    if workspace.policy.kind == "generator":
        return {"asked": asked_digest(workspace)}
    if workspace.policy.kind != "recommender":
        return {}
    quality = workspace.config.quality
    return {
        "places": declared_digest(workspace),
        "artefacts": artefacts_digest(workspace),
        "split": quality.split,
        "invert": str(quality.invert),
    }


def make_plan(
    workspace: Workspace, resolution: Resolution, candidate: Candidate, *, attempt: int, reference: str
) -> Plan:
    """Everything that can change the result of one candidate."""
    served = workspace.served()
    limits = {key: str(value) for key, value in encode(workspace.policy.limits).items()}
    return Plan(
        model=workspace.model_ref(served),
        split=resolution.commitment,
        method=candidate.method,
        method_origin=candidate.origin,
        aims_at=candidate.aims_at,
        params=_pinned(workspace),
        checks=tuple(
            CheckSpec(check=check, limits=limits, signals=workspace.policy.attacks)
            for check in sorted(workspace.policy.rules(candidate.aims_at))
        ),
        policy=policy_digest(workspace.policy),
        numerics=workspace.numerics,
        recipe=workspace.recipe.digest,
        seed="HMAC(case key, first checkpoint signed after this plan); exact methods use the original's seed",
        attempt=attempt,
        reference=reference,
        pairs=workspace.state().banks[-1].n // 2 if workspace.state().banks else 0,
    )
