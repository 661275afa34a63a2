"""Was everything that could have been chosen after seeing scores fixed in the logged plan? (DESIGN section 1, law 4.)

Alpha, margin, signals, the number of pairs and the stopping rule stand in the plan, whose digest was logged before
anything ran. A finding computed with other numbers, or by a check that was not planned, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from expunge.core.errors import EvidenceError
from expunge.core.finding import Finding, Verdict
from expunge.core.plan import CheckSpec, Plan

JUDGED = ("membership", "deployed")
"""Checks that rest on named signals."""


def check_preregistered(plan: Plan, findings: Sequence[Finding]) -> None:
    """Raises EvidenceError with everything about the findings that the plan did not fix."""
    planned = {spec.check: spec for spec in plan.checks}
    if len(planned) != len(plan.checks):
        raise EvidenceError("the plan names a check twice", got=", ".join(spec.check for spec in plan.checks))
    problems: list[str] = []
    for finding in findings:
        spec = planned.get(finding.check)
        if spec is None:
            problems.append(f"{finding.check} was not planned")
        elif finding.check in JUDGED and (signals_in(finding) or finding.verdict is Verdict.PASS):
            problems += _signals(finding, spec)
            problems += _numbers(finding, spec, plan)
    if problems:
        raise EvidenceError(
            "findings were not computed as the plan says",
            expected="alpha, margin, signals and n of the plan that was logged first",
            got="; ".join(problems[:6]),
            code="not-preregistered",
        )


def signals_in(finding: Finding) -> set[str]:
    """Names before the colon of a finding's conditions: the signals it was computed on."""
    return {name for name, colon, _ in (item.name.partition(": ") for item in finding.conditions) if colon}


def _signals(finding: Finding, spec: CheckSpec) -> Iterable[str]:
    used, named = signals_in(finding), set(spec.signals)
    if used - named:
        yield f"{finding.check} used {', '.join(sorted(used - named))}, which the plan does not name"
    if finding.verdict is Verdict.PASS and named - used:
        yield f"{finding.check} passed without {', '.join(sorted(named - used))}"


def _numbers(finding: Finding, spec: CheckSpec, plan: Plan) -> Iterable[str]:
    alpha = float(spec.limits["alpha"]) if "alpha" in spec.limits else None
    if finding.check == "membership":
        yield from _same("margin", finding.limit, spec.limits.get("margin"))
        if finding.n != plan.pairs:
            yield f"membership was computed on {finding.n} pairs, planned were {plan.pairs}"
        expected = None if alpha is None else alpha * 2.0**-plan.attempt
        yield from _same("alpha spent", expected, finding.details.get("alpha_spent"))
    elif alpha is not None and spec.signals:
        yield from _same("alpha of deployed", alpha / len(spec.signals), finding.details.get("alpha_fail"))


def _same(what: str, one: float | None, other: str | None) -> Iterable[str]:
    """Equal to six significant digits, which is what findings print."""
    if one is None or other is None or f"{one:.5g}" != f"{float(other):.5g}":
        yield f"{what}: {other} where {one} is expected"
