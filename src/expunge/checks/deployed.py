"""Does the served file itself look as if it never saw the block? Its place among full-size anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expunge.core import registry
from expunge.core.codec import decimal
from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Verdict
from expunge.core.protocols import CheckJob, Deployed
from expunge.stats.arrays import Floats
from expunge.stats.block import Models, Score, among_peers, inputs_of
from expunge.stats.rank import (
    MIN_ANCHORS,
    Ranked,
    detectable_shift,
    leave_one_out,
    population_p_value,
    ranked,
)
from expunge.stats.spending import spent_alpha

_MEMBER_SHARE = 0.8  # of a signal's error budget; the rest watches for a file pushed far below the anchors
_STATISTIC = (
    "one-sided p-value of the file's block statistic among full-size OUT anchors, of the most suspicious signal"
)
_ONLY_FAIL = "the rank can only fail a file; it passed nothing beyond rejecting 'still IN'"
_POPULATION_ALPHA = 0.05
_SMALLEST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A file among OUT anchors: too member-like, or far below. `p` spends the budget on the two sides .8 to .2."""

    member: Ranked
    over: Ranked

    @property
    def p(self) -> float:
        """Bonferroni with unequal shares."""
        return min(1.0, self.member.p / _MEMBER_SHARE, self.over.p / (1 - _MEMBER_SHARE))

    @property
    def too_high(self) -> bool:
        """Whether the member side is the more suspicious one."""
        return self.member.p / _MEMBER_SHARE <= self.over.p / (1 - _MEMBER_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """One signal: candidate, original and each left-out anchor among OUT, and the candidate below the IN anchors."""

    name: str
    file: _Place
    original: _Place
    still_in: Ranked | None
    placebos: tuple[_Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Levels:
    """p at or below which a file fails (alpha/S, any signal) and "still IN" is rejected (spent alpha, every signal).

    Only passing spends the budget of attempts: a retry must not make it harder to be failed.
    """

    fail: float
    still_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The models of a Deployed job, checked."""

    candidate: Models
    original: Models
    out: Models
    into: Models


class DeployedFile:
    """Rank and t-prediction of one file among anchors; it can fail a file and can never prove one.

    FAIL: the file is beyond all OUT anchors on the member side (or far below them) at the policy's alpha, shared among
    signals, at every attempt. PASS is only "rejects still IN": no OUT rejection, "still IN" rejected on every signal at
    the alpha this attempt may spend with at least 19 anchors a side, the original caught, and the file one of the
    anchors on unseen records. UNVERIFIABLE: no anchors, fewer than 19 full-size OUT anchors, a bank that refuses, or
    the original itself cannot be told from OUT. Otherwise INCONCLUSIVE.

    Scores are full-conformal: the file and its peers are each scored by the others, so under the hypothesis the rank
    is exact. IN references are the IN anchors, or the bank's IN models where there are fewer than two.
    """

    question: str = "Does the served file itself behave like a model that never saw the block?"

    def run(self, job: CheckJob) -> Finding:
        """One Finding over all signals. Raises CheckBroken on malformed arrays or a signal named twice."""
        if len(set(job.signals)) != len(job.signals):
            raise CheckBroken("a signal is named twice", got=", ".join(job.signals), hint="repeating is no evidence")
        if job.deployed is None:
            return self._without(Verdict.UNVERIFIABLE, _untested(job))
        files = _files(job.deployed)
        if len(files.out) < MIN_ANCHORS:
            reason = f"tested on half-size models only: {len(files.out)} full-size OUT anchors, {MIN_ANCHORS} needed"
            return self._without(Verdict.UNVERIFIABLE, reason, len(files.out))
        if not job.signals:
            return self._without(Verdict.INCONCLUSIVE, "no signal was named, so nothing was measured", len(files.out))
        sides = [side for side in (_side(job, name) for name in job.signals) if side is not None]
        if not sides:
            return self._without(Verdict.INCONCLUSIVE, "no signal and no IN models to fit it on", len(files.out))
        return self._finding(job, files, sides)

    def _without(self, verdict: Verdict, reason: str, anchors: int = 0) -> Finding:
        return Finding(
            check="deployed", question=self.question, statistic=_STATISTIC, verdict=verdict, reason=reason, n=anchors
        )

    def _finding(self, job: CheckJob, files: _Files, sides: Sequence[_Sides]) -> Finding:
        levels = _levels(job)
        unseen = population_p_value(files.candidate.population[0], files.out.population)
        shift = detectable_shift(
            len(files.out), alpha=_MEMBER_SHARE * levels.fail, power=job.limits.power, seed=job.seed
        )
        verdict, reason = _decide(sides, levels, len(files.into), unseen)
        if verdict is Verdict.PASS and len(sides) < len(job.signals):
            verdict = Verdict.INCONCLUSIVE
            reason = f"not failed, but only {len(sides)} of {len(job.signals)} signals could be run"
        chosen = min(sides, key=lambda side: side.file.p)
        return Finding(
            check="deployed",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=f"{reason}; detectable shift {shift:.2f} SD at power {job.limits.power:g}",
            estimate=_rounded(chosen.file.p),
            limit=levels.fail,
            original=_rounded(chosen.original.p),
            reference=_alarms(chosen, levels) / len(chosen.placebos),
            n=len(files.out),
            mde=shift,
            conditions=_conditions(sides, levels, unseen, len(files.into)),
            details=_details(sides, levels, unseen, len(files.into)),
        )


def _untested(job: CheckJob) -> str:
    """Why there is nothing to rank the file among."""
    if job.bank_refusal is not None:
        return f"the bank cannot judge this: {job.bank_refusal}"
    return "no anchors were trained: the served file itself was not tested"


def _files(job: Deployed) -> _Files:
    candidate = Models.of("candidate", job.candidate, job.candidate_population)
    original = Models.of("original", job.original, job.original_population, like=candidate)
    if not len(candidate) == len(original) == 1:
        raise CheckBroken("candidate and original are one file each", got=f"{len(candidate)} and {len(original)} rows")
    return _Files(
        candidate=candidate,
        original=original,
        out=Models.of("out_anchors", job.out_anchors, job.out_population, like=candidate),
        into=Models.of("in_anchors", job.in_anchors, job.in_population, like=candidate),
    )


def _side(job: CheckJob, name: str) -> _Sides | None:
    """One signal on the file; None where it was not measured or has no IN models to be fitted on."""
    attack = registry.load("attacks", name)()
    arms, deployed = inputs_of(job, name, attack)
    if deployed is None:
        return None
    files = _files(deployed)
    if len(files.into) >= 2:
        return _judge(name, attack.score, files, files.into)
    if arms is None:
        return None
    bank = Models.of("into", arms.into, arms.into_population, like=files.candidate)
    return _judge(name, attack.score, files, bank)


def _judge(name: str, score: Score, files: _Files, members: Models) -> _Sides:
    candidate = among_peers(score, files.candidate, files.out, members, peers_are_members=False)
    original = among_peers(score, files.original, files.out, members, peers_are_members=False)
    anchors = among_peers(score, files.out.first, files.out.rest, members, peers_are_members=False)
    still_in = None
    if len(files.into) >= MIN_ANCHORS:
        placed = among_peers(score, files.candidate, files.into, files.out, peers_are_members=True)
        still_in = ranked(float(placed[0]), placed[1:], "below")
    return _Sides(
        name=name,
        file=_place(candidate),
        original=_place(original),
        still_in=still_in,
        placebos=tuple(
            _Place(member=high, over=low)
            for high, low in zip(leave_one_out(anchors, "above"), leave_one_out(anchors, "below"), strict=True)
        ),
    )


def _place(scores: Floats) -> _Place:
    """The first of the scores among the others."""
    first, rest = float(scores[0]), scores[1:]
    return _Place(member=ranked(first, rest, "above"), over=ranked(first, rest, "below"))


def _levels(job: CheckJob) -> _Levels:
    return _Levels(fail=job.limits.alpha / len(job.signals), still_in=spent_alpha(job.limits.alpha, job.attempt))


def _decide(sides: Sequence[_Sides], levels: _Levels, into: int, unseen: float) -> tuple[Verdict, str]:
    for side in sides:
        if side.file.p <= levels.fail:
            where = "is more member-like than" if side.file.too_high else "lies far below"
            return Verdict.FAIL, f"{side.name}: the file {where} every OUT anchor, p = {_rounded(side.file.p):.2g}"
    blind = [side.name for side in sides if not _caught(side, levels)]
    if len(blind) == len(sides):
        return Verdict.UNVERIFIABLE, "the original itself cannot be told from OUT anchors, so one file shows nothing"
    if blind:
        return Verdict.INCONCLUSIVE, f"not failed, but {', '.join(blind)} does not catch the original either"
    if into < MIN_ANCHORS:
        return Verdict.INCONCLUSIVE, f"not failed; 'still IN' was not tested: {into} IN anchors, {MIN_ANCHORS} needed"
    standing = [s.name for s in sides if s.still_in is None or s.still_in.p > levels.still_in]
    if standing:
        return Verdict.INCONCLUSIVE, f"not failed, but {', '.join(standing)} does not reject 'still IN'"
    if unseen <= _POPULATION_ALPHA:
        return Verdict.INCONCLUSIVE, "not failed, but on never-trained records the file is not one of the anchors"
    return Verdict.PASS, _ONLY_FAIL


def _alarms(side: _Sides, levels: _Levels) -> int:
    """Honest anchors that the test would have failed."""
    return sum(item.p <= levels.fail for item in side.placebos)


def _caught(side: _Sides, levels: _Levels) -> bool:
    """Whether the file before deletion fails the same test, on the member side."""
    return side.original.p <= levels.fail and side.original.too_high


def _conditions(sides: Sequence[_Sides], levels: _Levels, unseen: float, into: int) -> tuple[Condition, ...]:
    rows: list[Condition] = []
    for side in sides:
        rows += [
            Condition(
                name=f"{side.name}: among the OUT anchors",
                verdict=Verdict.FAIL if side.file.p <= levels.fail else Verdict.INCONCLUSIVE,
                estimate=_rounded(side.file.p),
                limit=levels.fail,
                note="can only fail: on the member side, or far below",
            ),
            Condition(
                name=f"{side.name}: the original is caught",
                verdict=Verdict.PASS if _caught(side, levels) else Verdict.UNVERIFIABLE,
                estimate=_rounded(side.original.p),
                limit=levels.fail,
                note="control: the same test on the file before deletion",
            ),
            _placebos(side, levels),
            _still_in(side, levels, into),
        ]
    rows.append(
        Condition(
            name="one of the anchors on never-trained records",
            verdict=Verdict.PASS if unseen > _POPULATION_ALPHA else Verdict.INCONCLUSIVE,
            estimate=_rounded(unseen),
            limit=_POPULATION_ALPHA,
            note="distance of the ranks from uniform, ranked among that of the anchors",
        )
    )
    return tuple(rows)


def _placebos(side: _Sides, levels: _Levels) -> Condition:
    alarms, count = _alarms(side, levels), len(side.placebos)
    return Condition(
        name=f"{side.name}: placebo alarms",
        verdict=Verdict.INCONCLUSIVE,
        estimate=alarms / count,
        limit=levels.fail,
        note=f"reported; {alarms} of {count} OUT anchors, each left out in turn; 59 are needed to claim 5 %",
    )


def _still_in(side: _Sides, levels: _Levels, into: int) -> Condition:
    name = f"{side.name}: rejects 'still IN'"
    if side.still_in is None:
        note = f"{into} IN anchors, {MIN_ANCHORS} needed"
        return Condition(name=name, verdict=Verdict.INCONCLUSIVE, limit=levels.still_in, note=note)
    rejected = side.still_in.p <= levels.still_in
    return Condition(
        name=name,
        verdict=Verdict.PASS if rejected else Verdict.INCONCLUSIVE,
        estimate=_rounded(side.still_in.p),
        limit=levels.still_in,
        note=f"below every one of {into} IN anchors" if rejected else "",
    )


def _details(sides: Sequence[_Sides], levels: _Levels, unseen: float, into: int) -> Mapping[str, str]:
    """p-values only, to three digits; no score."""
    numbers: dict[str, float | None] = {"p_population": unseen}
    for side in sides:
        numbers[f"{side.name}.rank_p"] = side.file.member.rank
        numbers[f"{side.name}.prediction_p"] = side.file.member.prediction
        numbers[f"{side.name}.original_rank_p"] = side.original.member.rank
        numbers[f"{side.name}.rank_floor"] = 1 / (side.file.member.n + 1)
        numbers[f"{side.name}.still_in_p"] = None if side.still_in is None else side.still_in.p
    rounded = {key: _rounded(value) for key, value in numbers.items() if value is not None}
    rounded |= {"in_anchors": into, "alpha_fail": levels.fail, "alpha_still_in": levels.still_in}
    return {key: decimal(value) for key, value in rounded.items()}


def _rounded(p: float) -> float:
    """Three significant digits and nothing below 1e-6: finer would place one file's score, and no tail is that sure."""
    return float(f"{max(p, _SMALLEST):.3g}")
