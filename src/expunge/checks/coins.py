"""Does deletion leave anything of canaries whose presence a secret coin decided? One run, m coins (VERDICTS section 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from expunge.core.codec import decimal
from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Interval, Verdict
from expunge.core.protocols import CheckJob
from expunge.core.protocols import Coins as Evidence
from expunge.stats.arrays import Floats, finite
from expunge.stats.coins import CoinAudit, audit_coins, needed_coins
from expunge.stats.intervals import constant
from expunge.stats.spending import spent_alpha

_STATISTIC = "share of m coins guessed from the candidate's scores: trained, if the score is in the upper half"
_ERROR = 0.05  # of a first attempt's limit; later attempts on the same records get half of the one before
_SIDES = 4  # two guesses, each too good or too bad, may fail a file: they share the policy's alpha
_SCOPE = "it bounds this run, on these canaries, for this attack"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """Both guesses of the candidate and that of the original, at the level that passes and the one that fails."""

    candidate: CoinAudit
    original: CoinAudit
    strict: CoinAudit
    odd: CoinAudit


class Coins:
    """The one-run audit: heads were trained and then deleted with their batch, tails never seen; who can tell?

    Guess of coin i: "trained" where the score lies in the upper half of all m; the cut looks at no coin, so after a
    deletion that left nothing every guess is right with probability ½ and Clopper-Pearson limits are exact
    (verification by coin flips as in Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, turned from privacy to
    deletion).
    PASS: the upper 95 % limit of the accuracy lies below `coin_accuracy`, which 162 coins can show with power .8. On
    attempt j the limit is taken at 1 − .05·2^(1−j). FAIL: the accuracy is demonstrably not ½, at the policy's alpha at
    every attempt, on either side (below ½ is over-unlearning); or a second guess, "trained where the score is nearest
    to the median", does better than a coin: a model that answers evenly for the deleted ones only. UNVERIFIABLE: no
    canaries in this request, or the original itself is not guessed better than `coin_accuracy`. Otherwise INCONCLUSIVE,
    with the number of coins that would do.
    `reference` is ½, what a coin gets: nothing has to be measured for it.
    """

    question: str = "Can anyone tell which canaries were trained on and deleted, and which were never there?"
    coin_accuracy: float = 0.6

    def run(self, job: CheckJob) -> Finding:
        """One Finding over all coins. Raises CheckBroken on fewer than 2, NaN, or lengths that differ."""
        if job.coins is None:
            return self._finding(Verdict.UNVERIFIABLE, "no canaries with coins were deleted by this request")
        level = 1 - spent_alpha(2 * _ERROR, job.attempt)
        candidate, original = _scores(job.coins)
        if constant(candidate):
            return self._finding(Verdict.INCONCLUSIVE, "the candidate answers every canary alike: no model does that")
        if constant(original):
            return self._finding(Verdict.UNVERIFIABLE, "the original answers every canary alike, so nothing was seen")
        judged = _judge(job.coins, level, 1 - job.limits.alpha / _SIDES)
        verdict, reason = self._decide(judged, job)
        return self._finding(verdict, f"{reason}; {_SCOPE}", judged, job)

    def _decide(self, judged: _Judged, job: CheckJob) -> tuple[Verdict, str]:
        mine, bound = judged.candidate, self.coin_accuracy
        share = f"{mine.correct} of {mine.coins} coins guessed"
        if judged.strict.low > 0.5:
            return Verdict.FAIL, f"{share}: what was deleted still shows"
        if judged.strict.high < 0.5:
            return Verdict.FAIL, f"{share}: the deleted ones were pushed below those never seen"
        if judged.odd.low > 0.5:
            return Verdict.FAIL, f"{judged.odd.correct} of {mine.coins} coins guessed from answers that are too even"
        if judged.original.low <= bound:
            return Verdict.UNVERIFIABLE, f"the original itself is not guessed better than {bound:g} (control)"
        if mine.high < bound:
            return Verdict.PASS, f"{share}, below {bound:g} at {100 * mine.level:g} %"
        needed = needed_coins(bound, power=job.limits.power, level=mine.level)
        more = f"{needed} coins show {bound:g} with power {job.limits.power:g}"
        return Verdict.INCONCLUSIVE, f"{share}, upper limit {mine.high:.3f} is not below {bound:g}; {more}"

    def _finding(
        self, verdict: Verdict, reason: str, judged: _Judged | None = None, job: CheckJob | None = None
    ) -> Finding:
        if judged is None or job is None:
            return Finding(
                check="coins", question=self.question, statistic=_STATISTIC, verdict=verdict, reason=reason,
                limit=self.coin_accuracy,
            )  # fmt: skip
        mine = judged.candidate
        return Finding(
            check="coins",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=reason,
            estimate=_rounded(mine.accuracy),
            interval=_interval(mine),
            limit=self.coin_accuracy,
            original=_rounded(judged.original.accuracy),
            reference=0.5,
            n=mine.coins,
            mde=_rounded(_detectable(judged.strict, job.limits.power)),
            conditions=self._conditions(judged),
            details=_details(judged),
        )

    def _conditions(self, judged: _Judged) -> tuple[Condition, ...]:
        mine, original, bound = judged.candidate, judged.original, self.coin_accuracy
        fails = judged.strict.low > 0.5 or judged.strict.high < 0.5
        return (
            Condition(
                name="the original is guessed",
                verdict=Verdict.PASS if original.low > bound else Verdict.UNVERIFIABLE,
                estimate=_rounded(original.low),
                limit=bound,
                note=f"control: lower limit of {original.correct} of {original.coins} on the file before deletion",
            ),
            Condition(
                name="the candidate is guessed no better than the bound",
                verdict=Verdict.PASS if mine.high < bound else Verdict.INCONCLUSIVE,
                estimate=_rounded(mine.high),
                limit=bound,
                note=f"upper limit at {100 * mine.level:g} %",
            ),
            Condition(
                name="the candidate is guessed like a coin",
                verdict=Verdict.FAIL if fails else Verdict.INCONCLUSIVE,
                estimate=_rounded(mine.accuracy),
                limit=0.5,
                note=f"can only fail: [{judged.strict.low:.3f}, {judged.strict.high:.3f}] should hold ½",
            ),
            Condition(
                name="the deleted ones are not answered more evenly",
                verdict=Verdict.FAIL if judged.odd.low > 0.5 else Verdict.INCONCLUSIVE,
                estimate=_rounded(judged.odd.accuracy),
                limit=0.5,
                note="can only fail: guesses from the distance to the median",
            ),
        )


def _scores(coins: Evidence) -> tuple[Floats, Floats]:
    """Scores (m,) of candidate and original for the same coins. Raises CheckBroken on anything else."""
    m = len(coins.trained)
    if m < 2:
        raise CheckBroken("too few coins were flipped", expected="at least 2", got=str(m))
    return finite("candidate", coins.candidate, (m,)), finite("original", coins.original, (m,))


def _judge(coins: Evidence, level: float, strict: float) -> _Judged:
    candidate, original = _scores(coins)
    return _Judged(
        candidate=audit_coins(candidate, coins.trained, level),
        original=audit_coins(original, coins.trained, level),
        strict=audit_coins(candidate, coins.trained, strict),
        odd=audit_coins(_evenness(candidate), coins.trained, strict),
    )


def _evenness(scores: Floats) -> Floats:
    """Higher = nearer to the median of all canaries; it looks at no coin either."""
    return np.asarray(-np.abs(scores - np.median(scores)), dtype=np.float64)


def _detectable(audit: CoinAudit, power: float) -> float:
    """Accuracy that m coins tell from ½ with this power (normal approximation)."""
    z = float(special.ndtri(audit.level)) + float(special.ndtri(power))
    return min(1.0, 0.5 + z / (2 * math.sqrt(audit.coins)))


def _interval(audit: CoinAudit) -> Interval:
    return Interval(
        low=audit.low, high=audit.high, level=2 * audit.level - 1, method="Clopper-Pearson, each side at its own level"
    )


def _details(judged: _Judged) -> Mapping[str, str]:
    numbers = {
        "correct": float(judged.candidate.correct),
        "original_correct": float(judged.original.correct),
        "even_correct": float(judged.odd.correct),
        "level_pass": judged.candidate.level,
        "level_fail": judged.strict.level,
    }
    return {key: decimal(value) for key, value in numbers.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
