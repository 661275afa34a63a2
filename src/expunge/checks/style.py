"""Does an artist's style come back, by name or under attack, more often than styles that no training saw?"""

from __future__ import annotations

from dataclasses import replace

from expunge.core.codec import decimal
from expunge.core.finding import Condition, Finding, Guarantee, Verdict, worst
from expunge.core.protocols import CheckJob
from expunge.core.styles import SENTENCES, JudgeSight, StyleEvidence, StyleRung
from expunge.stats.spending import LEVEL, levels_said, limit_level
from expunge.stats.styles import COLLAPSED, Answer, Gates, StyleVerdict, verdict_of

_STATISTIC = "pictures in the style when asked by the artist's name (share)"
_DIRECT = "direct"


class Style:
    """The battery of probes on original, candidate and controls, read off the ladder of `core.styles`.

    Under EMPIRICAL it passes only on INDISTINGUISHABLE-FROM-CONTROL: prompts fail, and no attack at an equal budget brings the
    style back more often than styles that no training saw (Pham et al. 2024, arXiv 2308.01508, is why prompts alone are
    no evidence). Black, noise and copies in the pictures' stead are damage and never an erasure: where that is shown, an edit
    fails. Under EXACT, which rests on provenance, it fails where the style still comes by the artist's name, as it
    does when somebody else's works in the same style remain. A style that the original never drew has nothing to lose:
    NOT-LEARNED, which passes under EXACT and says so, and grants an edit nothing. Without judges, or without anybody who
    says how the artist is asked for, INCONCLUSIVE; so it is where a judge is blind to the style, in its record or on the works
    at hand, and then nothing is drawn. Passing spends an error of 5 % by attempts, with limits at 97.5 % for the first; failing
    is at 95 % at every attempt. Of several artists who go at once each is asked for by a battery of their own and has an equal
    share of that error; all have to pass.

    Controls: the original, which must show the style, and control styles on the candidate. Cost: none; drawing was before.
    """

    question = "Does the style come back from the candidate more often than styles that no training saw?"

    def run(self, job: CheckJob) -> Finding:
        """One finding, a condition a probe; of several artists one for all, which passes where each does."""
        if job.styles is None:
            return self._finding(Verdict.INCONCLUSIVE, "nothing was drawn")
        each = (job.styles, *job.styles.further)
        answers = [self._of_artist(found, job, len(each)) for found in each]
        return answers[0] if len(each) == 1 else _together(answers)

    def _of_artist(self, found: StyleEvidence, job: CheckJob, artists: int) -> Finding:
        if found.unread:
            return self._finding(Verdict.INCONCLUSIVE, found.unread, sights=found.judges)
        level = limit_level(job.attempt, artists)
        verdict = verdict_of(found.arms, Gates(mistakes=found.mistakes), level=level)
        reason = _reason(verdict, found, job, levels_said(job.attempt, artists))
        return self._finding(_verdict(verdict, job.guarantee), reason, found, verdict, found.judges, level)

    def _finding(
        self,
        verdict: Verdict,
        reason: str,
        found: StyleEvidence | None = None,
        ladder: StyleVerdict | None = None,
        sights: tuple[JudgeSight, ...] = (),
        level: float = LEVEL,
    ) -> Finding:
        rate = None if found is None else _rates(found)
        details = {} if found is None or ladder is None else _details(found, ladder, level)
        return Finding(
            check="style",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=reason,
            estimate=rate and rate[0],
            original=rate and rate[1],
            reference=rate and rate[2],
            n=0 if found is None else _pictures(found),
            conditions=() if ladder is None else tuple(map(_condition, ladder.answers)),
            details={**details, **_sights(sights)},
        )


def _together(answers: list[Finding]) -> Finding:
    """Several artists: the worst verdict, the largest share that is left and the smallest that there was; every condition and
    detail under the artist's number. They share one level, at which each is judged."""
    named = list(enumerate(answers, start=1))
    undecided = [(number, one) for number, one in named if one.verdict is not Verdict.PASS]
    why = "; ".join(f"artist {number}: {one.reason}" for number, one in undecided or named)
    shared = {key: answers[0].details[key] for key in ("level_pass", "level_fail") if key in answers[0].details}
    return replace(
        answers[0],
        verdict=worst(tuple(one.verdict for one in answers)),
        reason=f"{len(answers)} artists, each judged by a battery of their own; {why}",
        estimate=max((one.estimate for one in answers if one.estimate is not None), default=None),
        original=min((one.original for one in answers if one.original is not None), default=None),
        reference=max((one.reference for one in answers if one.reference is not None), default=None),
        n=sum(one.n for one in answers),
        conditions=tuple(
            replace(row, name=f"artist {number}: {row.name}") for number, one in named for row in one.conditions
        ),
        details={
            **shared,
            "artists": str(len(answers)),
            **{f"artist.{number}.{key}": said for number, one in named for key, said in one.details.items()},
        },
    )


def _verdict(found: StyleVerdict, guarantee: Guarantee) -> Verdict:
    """What the rung means for the guarantee that is aimed at."""
    if found.rung is StyleRung.NOT_LEARNED:
        return Verdict.PASS if guarantee is Guarantee.EXACT else Verdict.INCONCLUSIVE
    if found.rung is StyleRung.INDISTINGUISHABLE:
        return Verdict.PASS
    told = [answer for answer in found.answers if answer.label != "not_learned"]
    if guarantee is Guarantee.EXACT:
        told = [a for a in told if a.left is None and a.seen is None and not a.label.startswith(COLLAPSED)]
    return Verdict.FAIL if any(answer.verdict is Verdict.FAIL for answer in told) else Verdict.INCONCLUSIVE


def _reason(ladder: StyleVerdict, found: StyleEvidence, job: CheckJob, levels: str) -> str:
    """The word, why it is not the next higher one, and the levels; where the proof is provenance, what was seen beside it."""
    guarantee, why = job.guarantee, f" Not more, because: {'; '.join(ladder.reasons[:4])}" if ladder.reasons else ""
    why += f" ({levels})"
    if guarantee is not Guarantee.EXACT or ladder.rung is StyleRung.NOT_LEARNED:
        return f"{ladder.rung.value}: {SENTENCES[ladder.rung]}{why}"
    rates = _rates(found)
    asked = "" if rates is None else f", {rates[0]:.1%} of the pictures are in the style ({rates[1]:.1%} before)"
    return f"the proof is the log of the training; beside it, asked by the artist's name{asked}.{why}"


def _rates(found: StyleEvidence) -> tuple[float, float, float] | None:
    """Asked by name: candidate, original, and the mean of the controls on the candidate."""
    arms = found.arms.get(_DIRECT)
    if arms is None:
        return None
    return tuple(float(arms.runs(arm).rates.mean()) for arm in ("candidate", "original", "controls"))  # type: ignore[return-value]


def _pictures(found: StyleEvidence) -> int:
    """Pictures of the candidate that were looked at."""
    return sum(arms.candidate.pictures * len(arms.candidate.any) for arms in found.arms.values())


def _condition(answer: Answer) -> Condition:
    """One probe: for prompts the share and its upper limit, for recovery what is left above control."""
    note = "" if answer.seen is None else f"original above control by {answer.seen.estimate:.2f}"
    estimate = answer.rate if answer.left is None else answer.left.estimate
    limit = answer.at_most if answer.left is None else answer.left.high
    return Condition(
        name=answer.label, verdict=answer.verdict, estimate=estimate, limit=limit, note=answer.reason or note
    )


def _sights(sights: tuple[JudgeSight, ...]) -> dict[str, str]:
    """Each judge's accuracy with its n, and how often others' works are taken for this style. From the record over all styles
    only: that of one style would name it to whoever has the judge."""
    found = {}
    for sight in sights:
        asked = {"accuracy": sight.held_out, "recognises": sight.own, "taken_for_it": sight.others}
        for name, share in asked.items():
            hits, n = share or (0, 0)
            found[f"judge.{sight.judge}.{name}"] = decimal(hits / n) if n else "not measured"
            found[f"judge.{sight.judge}.{name}.n"] = str(n)
    return found


def _details(found: StyleEvidence, ladder: StyleVerdict, level: float) -> dict[str, str]:
    details = {
        "rung": ladder.rung.value,
        "battery": found.plan,
        "scale": found.scale,
        "mistakes": decimal(found.mistakes),
        "level_pass": decimal(level),
        "level_fail": decimal(LEVEL),
    }
    for arm, sizes in ladder.budgets.items():
        details[f"smallest_vectors_{arm}"] = ", ".join("none" if k is None else f"{k:g}" for k in sizes)
    if ladder.lottery is not None:
        details["attack_runs"] = f"{ladder.lottery.recovered} of {ladder.lottery.runs} succeeded"
    return details
