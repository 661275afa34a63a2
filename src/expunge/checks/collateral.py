"""What did the edit of a text-to-image model do to everybody else?"""

from __future__ import annotations

from expunge.core.finding import Condition, Finding, Verdict
from expunge.core.protocols import CheckJob
from expunge.stats.style_collateral import Collateral as Drops
from expunge.stats.style_collateral import Drop, Limits, collateral_of

_STATISTIC = (
    "share of pictures in the retained style that was asked for, original minus candidate, paired, mean over styles"
)


class Collateral:
    """Other artists' styles, and the objects that pictures show, before and after, drawn from the same noise.

    PASS where the mean drop and the drop of objects are shown to stay within their limits and no single style fell by more
    than its own (UnlearnCanvas, Zhang et al. 2024, arXiv 2402.11846, in-domain retained accuracy). What was not shown
    is INCONCLUSIVE, a drop that is shown to exceed its limit FAIL. Names of the styles are not published, only their drops.
    Control: none, the original is the comparison. Fails to see harm to styles that no judge knows.
    """

    question = "Are other artists' styles and what the pictures show still there?"

    def run(self, job: CheckJob) -> Finding:
        """One finding; conditions are the mean, the worst style and the objects."""
        found = job.styles
        if found is None or found.unread or not found.kept:
            why = "no retained style was asked for" if found is None or not found.unread else found.unread
            return self._finding(Verdict.INCONCLUSIVE, why)
        limits = Limits()
        drops = collateral_of(found.kept, limits)
        conditions = _conditions(drops, limits)
        failed = [c.name for c in conditions if c.verdict is Verdict.FAIL]
        verdict = Verdict.FAIL if failed else Verdict.INCONCLUSIVE if drops.reasons else Verdict.PASS
        words = f"{len(drops.styles)} retained styles fell by {drops.mean.estimate:.1%} on average"
        unshown = "" if not drops.reasons or failed else "; too few pictures to show that they stay within the limits"
        harmed = f"; beyond its limit: {', '.join(failed)}" if failed else ""
        pictures = sum(len(kept.before) for kept in found.kept)
        return self._finding(verdict, words + unshown + harmed, drops, limits, conditions, pictures)

    def _finding(
        self,
        verdict: Verdict,
        reason: str,
        drops: Drops | None = None,
        limits: Limits | None = None,
        conditions: tuple[Condition, ...] = (),
        pictures: int = 0,
    ) -> Finding:
        return Finding(
            check="collateral",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=reason,
            estimate=None if drops is None else drops.mean.estimate,
            limit=None if limits is None else limits.mean,
            original=None if drops is None else 0.0,
            n=pictures,
            conditions=conditions,
        )


def _conditions(drops: Drops, limits: Limits) -> tuple[Condition, ...]:
    worst = max(drops.styles.values(), key=lambda drop: drop.estimate)
    held = Verdict.FAIL if worst.estimate > limits.worst else Verdict.PASS
    return (
        _shown("mean of retained styles", drops.mean, limits.mean),
        Condition(name="worst retained style", verdict=held, estimate=worst.estimate, limit=limits.worst),
        _shown("objects", drops.objects, limits.objects),
    )


def _shown(name: str, drop: Drop, most: float) -> Condition:
    """PASS where the upper limit stays within; FAIL where the drop itself does not."""
    verdict = Verdict.PASS if drop.at_most <= most else Verdict.FAIL if drop.estimate > most else Verdict.INCONCLUSIVE
    return Condition(name=name, verdict=verdict, estimate=drop.estimate, limit=most, note=f"at most {drop.at_most:.3f}")
