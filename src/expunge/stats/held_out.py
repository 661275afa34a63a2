"""What a claimant's own prompts say of a style. Pure: the same counts and gates give the same answer.

A hit has to come from the name: the same sentences with names that no training saw must not bring the style as often. Silence
has to come from a model and sentences that would have been heard: where nothing shows the style, silence is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Verdict
from expunge.stats.intervals import share_at_least, share_at_most
from expunge.stats.spending import LEVEL
from expunge.stats.styles import Arms, Counted, Gates, judged_prompt, no_pictures

LABEL = "direct"
"""Judged as prompts by the artist's name are, by that probe's gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutAnswer:
    """FAIL: the name brings the style. PASS: shown not to, by prompts that would have shown it. UNVERIFIABLE: nothing shows that
    they would have. rate, at_most: of pictures in the style; nameless: share with names that no training saw; seen: share of
    pictures in the style where it is known to be, None where nobody could be asked."""

    verdict: Verdict
    reason: str
    rate: float
    at_most: float
    nameless: float
    seen: float | None


def judge_held_out(
    candidate: Counted, nameless: Counted, seen: Counted | None, gates: Gates, *, level: float = LEVEL
) -> HeldOutAnswer:
    """candidate: the prompts on the served model; nameless: the same with other names, judged for the same style; seen: the
    prompts where they ought to bring a style. `level`: of the limit that passes; what fails does so at `LEVEL`."""
    asked = judged_prompt(LABEL, Arms(original=candidate, candidate=candidate, controls={}), gates, level)
    total, other = candidate.pictures * len(candidate.any), nameless.pictures * len(nameless.any)
    hits, without = sum(candidate.any), sum(nameless.any)
    verdict, reason = asked.verdict, asked.reason
    power = None if seen is None else sum(seen.agreed) / (seen.pictures * len(seen.agreed))
    if verdict is Verdict.FAIL and share_at_least(hits, total, LEVEL) <= share_at_most(without, other, LEVEL):
        verdict = Verdict.INCONCLUSIVE
        reason = f"with other names {without} of {other} pictures are in the style too: it is not shown that the name brings it"
    elif verdict is Verdict.PASS:
        verdict, reason = _heard(candidate, seen, gates, level)
    return HeldOutAnswer(
        verdict=verdict,
        reason=reason,
        rate=hits / total,
        at_most=share_at_most(hits, total, level),
        nameless=without / other,
        seen=power,
    )


def _heard(candidate: Counted, seen: Counted | None, gates: Gates, level: float) -> tuple[Verdict, str]:
    """Whether silence may count: the prompts bring a style where they should, and what came are pictures."""
    if seen is None:
        return (
            Verdict.UNVERIFIABLE,
            "no model that ought to show the style is at hand, so nothing shows that these prompts see it",
        )
    total, hits = seen.pictures * len(seen.agreed), sum(seen.agreed)
    if share_at_least(hits, total, level) < gates.assay:
        reason = f"where the style ought to come, {hits} of {total} pictures are in it: these prompts see nothing"
        return Verdict.UNVERIFIABLE, reason
    none = no_pictures(LABEL, candidate)
    if none is not None:
        bad, asked, most, what = none
        return Verdict.INCONCLUSIVE, f"{bad} of {asked} are {what}; {most:.0%} is allowed"
    return Verdict.PASS, ""
