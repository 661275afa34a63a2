"""What did the edit of a text-to-image model do to everybody else?"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from expunge.core.codec import decimal
from expunge.core.finding import Condition, Finding, Verdict, worst
from expunge.core.protocols import CheckJob
from expunge.stats.kid import Distance
from expunge.stats.spending import LEVEL, levels_said, limit_level
from expunge.stats.style_collateral import LOST, Drop, Limits, Moved, collateral_of
from expunge.stats.style_collateral import Collateral as Drops

_STATISTIC = (
    "share of pictures in the retained style that was asked for, original minus candidate, paired, mean over styles"
)
_PREDICTED = "before_sampling."
_NOTHING: Mapping[str, str] = {}
_MOVED = "how far pictures moved, of the distance between two artists"


class Collateral:
    """Other artists' styles, the objects that pictures show, both together as asked, and how far the pictures moved.

    Everything is asked before and after with the same noise. PASS where what was lost is shown to stay within its limit: the
    mean drop, objects, pictures that show style and object as asked, each by its upper limit, and no single style by more than
    its own (UnlearnCanvas, Zhang et al. 2024, arXiv 2402.11846, in-domain and cross-domain retained accuracy); and where
    pictures moved by no more than a fiftieth of the distance between two artists. That is measured by the unbiased squared
    kernel distance of Binkowski et al. 2018 (arXiv 1801.01401) in the feature space of a judge, which is not Inception's, so
    the figures are no published KID; the Fréchet distance, which is biased at such n, is in the evidence and decides
    nothing, and neither does what the eraser predicted before anything was drawn (its own word, under `before_sampling.`).
    What was not shown is INCONCLUSIVE, what is shown to exceed its limit FAIL. Upper limits spend
    an error of 5 % by attempts and are at 97.5 % for the first, lower ones at 95 % at every attempt. Names of the styles are not
    published, only their drops.
    Controls: the original, which is the comparison, and itself under other seeds, which says what chance alone moves. Fails to
    see harm to styles that no judge knows, and what the judge's features do not hold.
    Measured: pictures moved by .0025 of the distance between artists in a training without the artist, by .0008 in an edit that
    keeps everybody and by .35 in one that keeps nobody (400 pictures a model of the small testbed, one model seed; 2 cores of
    an AMD EPYC; benchmarks/artist_style/collateral.json). The limit was set with such figures at hand.
    """

    question = "Are other artists' styles and what the pictures show still there?"

    def run(self, job: CheckJob) -> Finding:
        """One finding; conditions are the mean, the worst style, the objects, what was asked, and the pictures themselves."""
        found = job.styles
        if found is None or found.unread or not found.kept:
            why = "no retained style was asked for" if found is None or not found.unread else found.unread
            return self._finding(Verdict.INCONCLUSIVE, why, said={} if found is None else _said(found.figures))
        limits = Limits()
        drops = collateral_of(found.kept, limits, level=limit_level(job.attempt))
        conditions = _conditions(drops, limits)
        failed, unshown = (
            [c.name for c in conditions if c.verdict is verdict] for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)
        )
        words = f"{len(drops.styles)} retained styles fell by {drops.mean.estimate:.1%} on average"
        words += f" ({levels_said(job.attempt)})"
        words += f"; beyond its limit: {', '.join(failed)}" if failed else ""
        words += f"; not shown to stay within its limit: {', '.join(unshown)}" if unshown else ""
        pictures = sum(len(kept.before) for kept in found.kept)
        verdict = worst(tuple(condition.verdict for condition in conditions))
        return self._finding(verdict, words, drops, limits, conditions, pictures, _said(found.figures), job.attempt)

    def _finding(
        self,
        verdict: Verdict,
        reason: str,
        drops: Drops | None = None,
        limits: Limits | None = None,
        conditions: tuple[Condition, ...] = (),
        pictures: int = 0,
        said: Mapping[str, str] = _NOTHING,
        attempt: int = 1,
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
            details={**said, **({} if drops is None else _details(drops, attempt))},
        )


def _said(figures: Mapping[str, float]) -> dict[str, str]:
    """What the eraser said of its edit before anything was drawn: for a closed form the condition of its solve, how far its
    matrix is from one that changes nothing, and the shift it predicts for what should stay. They decide nothing."""
    return {
        f"{_PREDICTED}{name}": decimal(number) if isfinite(number) else "not finite"
        for name, number in sorted(figures.items())
    }


def _conditions(drops: Drops, limits: Limits) -> tuple[Condition, ...]:
    lowest = max(drops.styles.values(), key=lambda drop: drop.estimate)
    held = Verdict.FAIL if lowest.estimate > limits.worst else Verdict.PASS
    return (
        _shown("mean of retained styles", drops.mean, limits.mean),
        Condition(name="worst retained style", verdict=held, estimate=lowest.estimate, limit=limits.worst),
        _shown("objects", drops.objects, limits.objects),
        _shown("style and object as asked", drops.asked.drop, limits.asked),
        _moved(drops.moved, limits.moved),
    )


def _shown(name: str, drop: Drop, most: float) -> Condition:
    """PASS where the upper limit stays within; FAIL where even the lower limit does not."""
    return Condition(
        name=name,
        verdict=_held(drop.at_least, drop.at_most, most),
        estimate=drop.estimate,
        limit=most,
        note=f"at least {drop.at_least:.3f}, at most {drop.at_most:.3f}",
    )


def _held(at_least: float, at_most: float, most: float) -> Verdict:
    return Verdict.PASS if at_most <= most else Verdict.FAIL if at_least > most else Verdict.INCONCLUSIVE


def _moved(moved: Moved | None, most: float) -> Condition:
    """INCONCLUSIVE where nothing measures it, or what measures it does not tell artists apart."""
    if moved is None:
        why = "not measured: it takes two styles that stay, and a judge that gives features"
        return Condition(name=_MOVED, verdict=Verdict.INCONCLUSIVE, limit=most, note=why)
    blind = f"two artists are no further apart in {moved.space} than the same one is under other seeds"
    if not moved.seen:
        return Condition(name=_MOVED, verdict=Verdict.INCONCLUSIVE, limit=most, note=blind)
    low, middle, high = (moved.share(end) for end in (moved.edit.at_least, moved.edit.estimate, moved.edit.at_most))
    held = _held(low, high, most)
    if held is Verdict.PASS and not moved.told:
        return Condition(name=_MOVED, verdict=Verdict.INCONCLUSIVE, limit=most, note=blind)
    chance = f"seeds alone {moved.share(moved.seeds.at_least):.3f} to {moved.share(moved.seeds.at_most):.3f}"
    return Condition(
        name=_MOVED,
        verdict=held,
        estimate=middle,
        limit=most,
        note=f"at least {low:.3f}, at most {high:.3f}; {chance}",
    )


def _details(drops: Drops, attempt: int) -> dict[str, str]:
    """Both figures with their limits, and what edits are added up by; the distances also as they are, with space and n."""
    asked = drops.asked
    found = {
        LOST: decimal(drops.lost),
        "level_pass": decimal(limit_level(attempt)),
        "level_fail": decimal(LEVEL),
        "asked.before": decimal(asked.before),
        "asked.after": decimal(asked.after),
        "asked.lost": _span(asked.drop.at_least, asked.drop.estimate, asked.drop.at_most),
    }
    moved = drops.moved
    if moved is None:
        return found
    return {
        **found,
        "kid.space": f"{moved.space}; not Inception's, so not comparable with a published KID",
        "kid.edit": _distance(moved.edit),
        "kid.seeds": _distance(moved.seeds),
        "kid.unit": decimal(moved.unit),
        "kid.pictures": f"{moved.edit.n} a model, in {moved.edit.blocks} blocks",
        "frechet.edit": decimal(moved.frechet),
        "frechet.seeds": decimal(moved.frechet_seeds),
    }


def _distance(found: Distance) -> str:
    return _span(found.at_least, found.estimate, found.at_most)


def _span(low: float, middle: float, high: float) -> str:
    return f"{middle:.6f} [{low:.6f}, {high:.6f}]"
