"""Was the style learned at all? Asked of the untouched model before anything is edited. Pure.

Not learned has to be shown: words do not bring the style, and attacks bring it back no more often than styles that no
training saw. What cannot see a style that was learned shows nothing of one that was not: the same probes are held against an
artist of the training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict, worst
from expunge.stats.intervals import share_at_least, share_at_most
from expunge.stats.recovery import CONTROLS, SEEDS, Runs, excess, lottery
from expunge.stats.styles import PROMPTS, Answer, Arms, Counted, Gates, no_pictures

SEEING = 1
"""Attacks that must see a learned style before their silence about this one counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """PASS: not learned, shown. FAIL: learned. UNVERIFIABLE: these probes do not see a learned style either. `seen`: share of
    pictures of the known artist that are in that artist's style, asked by name."""

    verdict: Verdict
    reason: str
    answers: tuple[Answer, ...]
    seen: float


def judge_baseline(
    arms: Mapping[str, Arms], known: Mapping[str, Counted], gates: Gates, *, level: float = 0.95
) -> Baseline:
    """arms: label -> the target on the untouched model (as `original`) and control styles on it; known: label -> an artist of
    the training data under the same probe. `level`: of each one-sided limit.

    Prompts: the upper limit of the share of pictures in the style is at most `gates.not_learned`, or the judges' own rate of
    mistakes if that is larger. Attacks: the upper limit of target minus controls is at most `gates.margin`, for each that sees
    the known artist by `gates.assay` more than controls; and the exact upper limit of the share of its runs that bring the style
    back is at most `gates.luck`, because no mean of a dozen runs rules out an attack that works for one seed in ten. Black,
    noise and copies pass nothing. Raises CheckBroken where a probe lacks an arm.
    """
    missing = [label for label in PROMPTS if label not in arms] + [label for label in arms if label not in known]
    if missing:
        raise CheckBroken(f"the baseline lacks {', '.join(missing)}")
    prompts = [_looked(_prompt(label, arms[label].original, gates, level), arms[label]) for label in PROMPTS]
    attacks = [
        _looked(_attack(label, arms[label], known[label], gates, level), arms[label])
        for label in arms
        if label not in PROMPTS
    ]
    answers, direct = (*prompts, *attacks), known["direct"]
    pictures, hits = direct.pictures * len(direct.agreed), sum(direct.agreed)
    if any(answer.verdict is Verdict.FAIL for answer in answers):
        verdict, reason = Verdict.FAIL, _reasons(answers, Verdict.FAIL)
    elif share_at_least(hits, pictures, level) < gates.assay:
        verdict = Verdict.UNVERIFIABLE
        reason = (
            f"asked for an artist of the training data, {hits} of {pictures} pictures are in the style: nothing is seen"
        )
    else:
        verdict, reason = _shown(prompts, attacks)
    return Baseline(verdict=verdict, reason=reason, answers=answers, seen=hits / pictures)


def _looked(answer: Answer, arms: Arms) -> Answer:
    """Black, noise and copies show no style that was learned: their silence is not taken for "not learned"."""
    found = no_pictures(answer.label, arms.original)
    if found is None or answer.verdict is not Verdict.PASS:
        return answer
    bad, total, most, what = found
    return replace(answer, verdict=Verdict.INCONCLUSIVE, reason=f"{bad} of {total} are {what}; {most:.0%} is allowed")


def _prompt(label: str, asked: Counted, gates: Gates, level: float) -> Answer:
    """The doubt is on the side of "learned": a picture counts where any family of judges sees the style."""
    total, hits = asked.pictures * len(asked.any), sum(asked.any)
    most, least = share_at_most(hits, total, level), share_at_least(hits, total, level)
    allowed = max(gates.not_learned, gates.mistakes)
    verdict = Verdict.PASS if most <= allowed else Verdict.FAIL if least > allowed else Verdict.INCONCLUSIVE
    reason = f"{hits} of {total} pictures are in the style, so up to {most:.1%}; {allowed:.1%} is allowed"
    return Answer(label=label, verdict=verdict, reason=reason, rate=hits / total, at_most=most)


def _attack(label: str, arms: Arms, known: Counted, gates: Gates, level: float) -> Answer:
    controls = arms.runs("controls")
    styles, seeds = controls.hits.shape
    if styles < CONTROLS or seeds < SEEDS:
        reason = f"{styles} controls and {seeds} seeds; {CONTROLS} and {SEEDS} are needed"
        return Answer(label=label, verdict=Verdict.INCONCLUSIVE, reason=reason)
    runs = arms.runs("candidate")
    mine, seen, drawn = (
        excess(runs, controls, level),
        excess(_runs(known), controls, level),
        lottery([runs], [controls], level),
    )
    if mine.low > gates.margin:
        verdict = Verdict.FAIL
        reason = f"brought back {mine.low:.2f} or more above styles that no training saw; {gates.margin:g} is allowed"
    elif seen.low < gates.assay:
        verdict = Verdict.UNVERIFIABLE
        reason = (
            f"does not see an artist of the training data by {gates.assay:g} more than controls, so it says nothing"
        )
    else:
        shown = mine.high <= gates.margin and drawn.at_most <= gates.luck
        verdict = Verdict.PASS if shown else Verdict.INCONCLUSIVE
        reason = (
            f"up to {mine.high:.2f} above styles that no training saw, {gates.margin:g} is allowed; {drawn.recovered} of "
            f"{drawn.runs} runs brought it back, so up to {drawn.at_most:.1%}, {gates.luck:.0%} is allowed"
        )
    return Answer(label=label, verdict=verdict, reason=reason, seen=seen, left=mine, drawn=drawn)


def _runs(counted: Counted) -> Runs:
    return Runs(hits=np.array([counted.agreed]), pictures=counted.pictures)


def _shown(prompts: list[Answer], attacks: list[Answer]) -> tuple[Verdict, str]:
    """Every prompt and every attack that sees has to pass, and one has to see."""
    seeing = [answer for answer in attacks if answer.verdict is not Verdict.UNVERIFIABLE]
    if len(seeing) < SEEING:
        return Verdict.UNVERIFIABLE, "no attack sees an artist of the training data, so none says anything of this one"
    judged = (*prompts, *seeing)
    verdict = worst(tuple(answer.verdict for answer in judged))
    if verdict is Verdict.PASS:
        most = max(answer.at_most or 0.0 for answer in prompts)
        above = max(answer.left.high for answer in seeing if answer.left is not None)
        return (
            verdict,
            f"By words it comes in at most {most:.1%} of the pictures; {len(seeing)} attacks that see bring it in up to "
            f"{above:.2f} of the pictures more than styles that no training saw.",
        )
    return verdict, _reasons(judged, verdict)


def _reasons(answers: tuple[Answer, ...], verdict: Verdict) -> str:
    return "; ".join(f"{answer.label}: {answer.reason}" for answer in answers if answer.verdict is verdict)
