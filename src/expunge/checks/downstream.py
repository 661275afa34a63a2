"""V5. Does anything that serves people still come from the original, and would a restored backup bring it back?"""

from __future__ import annotations

from collections.abc import Sequence

from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Verdict, worst
from expunge.core.ladder import Downstream as Evidence
from expunge.core.protocols import CheckJob
from expunge.stats.rungs import unmeasured

_STATISTIC = "declared artefacts that still name the original and are not rebuilt with the release"
_NAMED = 3  # a reason is read by people


class Downstream:
    """Artefacts that name the model they were made from, and the way back from a backup.

    Lists, indices and caches of other people carry the deleted user too, so all that name the original have to go.
    FAIL: one does and is not rebuilt when the new model is released; or a restored original with the list of deletions
    replayed does not give the candidate. INCONCLUSIVE: the replay was not tried. PASS: the replay gives the candidate and
    nothing is stale. What nobody declared is not seen. `original` counts what names it now, the control; n adds the
    replay to these.
    """

    question: str = "Is nothing served from the old model, and does a restored backup not bring it back?"

    def run(self, job: CheckJob) -> Finding:
        """One Finding. Raises CheckBroken on names that are no tuple of texts, and on one named twice."""
        found = None if job.ladder is None else job.ladder.downstream
        if found is None:
            reason = unmeasured(job, "downstream")
            return Finding(
                check="downstream", question=self.question, statistic=_STATISTIC, verdict=Verdict.INCONCLUSIVE,
                reason=reason,
            )  # fmt: skip
        _check(found)
        conditions = (_artefacts(found), _replay(found))
        tried = int(found.replayed is not None)
        return Finding(
            check="downstream",
            question=self.question,
            statistic=_STATISTIC,
            verdict=worst(tuple(condition.verdict for condition in conditions)),
            reason="; ".join(condition.note for condition in conditions),
            estimate=float(len(found.stale)),
            limit=0.0,
            original=float(len(found.stale) + len(found.expiring)),
            n=len(found.stale) + len(found.expiring) + tried,
            conditions=conditions,
            details={"stale": str(len(found.stale)), "expiring": str(len(found.expiring)), "replays": str(tried)},
        )


def _check(found: Evidence) -> None:
    names = (*found.stale, *found.expiring)
    plain = isinstance(found.stale, tuple) and isinstance(found.expiring, tuple)
    if not plain or not all(isinstance(name, str) and name for name in names):
        raise CheckBroken("names of artefacts expected", expected="tuples of texts", got=repr(names)[:80])
    if len(set(names)) != len(names):
        raise CheckBroken("an artefact is named twice", got=f"{len(names)} names")
    if found.replayed is not None and not isinstance(found.replayed, bool):
        raise CheckBroken("replayed is true, false or not tried", got=repr(found.replayed)[:40])


def _artefacts(found: Evidence) -> Condition:
    if not found.stale and not found.expiring:
        return Condition(
            name="nothing is stale", verdict=Verdict.PASS, estimate=0.0, limit=0.0, note="nothing was declared"
        )
    later = f"{len(found.expiring)} more are rebuilt with the release"
    if found.stale:
        note = f"{len(found.stale)} artefacts still name the original ({_some(found.stale)}); {later}"
    else:
        note = f"no declared artefact keeps naming the original; {later}"
    return Condition(
        name="nothing is stale",
        verdict=Verdict.FAIL if found.stale else Verdict.PASS,
        estimate=float(len(found.stale)),
        limit=0.0,
        note=note,
    )


def _replay(found: Evidence) -> Condition:
    if found.replayed is None:
        verdict, note = Verdict.INCONCLUSIVE, f"a restore was not tried: {found.why_not or 'no reason is given'}"
    elif found.replayed:
        verdict, note = Verdict.PASS, "a restored original with the deletions replayed gives the candidate's digest"
    else:
        verdict, note = Verdict.FAIL, "a restored original with the deletions replayed is not the candidate"
    return Condition(name="a restored backup is the candidate again", verdict=verdict, note=note)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name[:60] for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
