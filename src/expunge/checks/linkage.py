"""Is a copy of what was deleted still among other people's records? Answered by the search made before the request."""

from __future__ import annotations

from collections.abc import Mapping

from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Interval, Verdict, worst
from expunge.core.protocols import CheckJob
from expunge.core.protocols import Linkage as Evidence
from expunge.stats.intervals import clopper_pearson, share_at_least

_STATISTIC = "near-duplicates of the deleted records among the retained ones (count)"
_LEVEL = 0.95


class Linkage:
    """Near-duplicates by perceptual hash and embedding, and how many planted twins the same search finds.

    It is about scope and says nothing of the candidate: deleting a record whose re-encoded copy stays deletes little
    (arXiv 2601.06938, 2501.16663: even retraining fails then). PASS: none outside the request, and the lower 95 % limit
    of the recall on twins of these very records (saved again as JPEG, shifted, cropped, mirrored, brightened) is at
    least `recall_level`. INCONCLUSIVE: some outside; they belong to others and are never deleted by closure, so a
    person decides. Or the recall is too low to call the search one. UNVERIFIABLE: there was no search. It never fails.
    Near-duplicates in the test split are reported: nothing was trained on them, but they are the person's pictures.
    `original` is the recall, this search's control on what must be found; `reference` the share of records that it
    links with a different picture.
    """

    question: str = "Is no near-duplicate of the deleted records left among the retained ones, as far as can be found?"
    recall_level: float = 0.8

    def run(self, job: CheckJob) -> Finding:
        """One Finding. Raises CheckBroken on counts that cannot be."""
        found = job.linkage
        if found is None:
            return self._finding(Verdict.UNVERIFIABLE, "near-duplicates were not searched: these records cannot be")
        _check(found)
        if found.recall[1] == 0:
            return self._finding(Verdict.UNVERIFIABLE, "no twin was planted, so the search has shown nothing", found)
        conditions = self._conditions(found)
        return self._finding(worst(tuple(c.verdict for c in conditions[:2])), self._reason(found), found, conditions)

    def _conditions(self, found: Evidence) -> tuple[Condition, ...]:
        low = share_at_least(*found.recall, _LEVEL)
        return (
            Condition(
                name="none outside the request",
                verdict=Verdict.PASS if found.outside == 0 else Verdict.INCONCLUSIVE,
                estimate=float(found.outside),
                limit=0.0,
                note="never deleted by closure; named in the case's private folder for a person",
            ),
            Condition(
                name="planted twins are found",
                verdict=Verdict.PASS if low >= self.recall_level else Verdict.INCONCLUSIVE,
                estimate=float(f"{low:.4g}"),
                limit=self.recall_level,
                note=f"lower 95 % limit of {found.recall[0]} of {found.recall[1]}",
            ),
            Condition(
                name="inside the request",
                verdict=Verdict.PASS,
                estimate=float(found.inside),
                note="reported; deleted with it",
            ),
            Condition(
                name="none in the test split",
                verdict=Verdict.PASS if found.test == 0 else Verdict.INCONCLUSIVE,
                estimate=float(found.test),
                note="reported; nothing was trained on them, the owner has to remove them",
            ),
        )

    def _reason(self, found: Evidence) -> str:
        hits, planted = found.recall
        parts = [f"{hits} of {planted} planted twins found"]
        if share_at_least(hits, planted, _LEVEL) < self.recall_level:
            parts[0] += f": too few to say that {self.recall_level:g} of real ones would be"
        if found.outside:
            parts.insert(0, f"{found.outside} near-duplicates belong to retained records: a person has to decide")
        else:
            parts.append("no near-duplicate outside the request")
        if found.test:
            parts.append(f"{found.test} more in the test split, to be removed there")
        return "; ".join(parts)

    def _finding(
        self,
        verdict: Verdict,
        reason: str,
        found: Evidence | None = None,
        conditions: tuple[Condition, ...] = (),
    ) -> Finding:
        seen = found is not None and found.recall[1] > 0
        return Finding(
            check="linkage",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=reason,
            estimate=None if found is None else float(found.outside),
            interval=_interval(found.recall) if found is not None and seen else None,
            limit=0.0,
            original=found.recall[0] / found.recall[1] if found is not None and seen else None,
            reference=None if found is None else _rate(found.thresholds),
            n=0 if found is None else found.recall[1],
            conditions=conditions,
            details={} if found is None else _details(found),
        )


def _check(found: Evidence) -> None:
    counts = (found.inside, found.outside, found.test, *found.recall)
    if any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in counts):
        raise CheckBroken("counts of links are whole numbers from 0", got=", ".join(map(str, counts)))
    if found.recall[0] > found.recall[1]:
        raise CheckBroken("more twins found than planted", got=f"{found.recall[0]} of {found.recall[1]}")


def _interval(recall: tuple[int, int]) -> Interval:
    bounds = clopper_pearson(*recall, _LEVEL)
    return Interval(
        low=bounds.low or 0.0,
        high=1.0 if bounds.high is None else bounds.high,
        level=_LEVEL,
        method="Clopper-Pearson, of the recall",
    )


def _rate(thresholds: Mapping[str, str]) -> float | None:
    text = thresholds.get("false_links")
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise CheckBroken("a threshold is not a decimal", got=text) from error


def _details(found: Evidence) -> dict[str, str]:
    counts = {"inside": found.inside, "outside": found.outside, "test": found.test}
    numbers = {name: str(count) for name, count in counts.items()}
    twins = {"twins_found": str(found.recall[0]), "twins_planted": str(found.recall[1])}
    return {**numbers, **twins, **{f"threshold.{name}": value for name, value in found.thresholds.items()}}
