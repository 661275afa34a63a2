"""V5. Does anything that serves people still come from the original, and would a restored backup bring it back?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Verdict, worst
from expunge.core.ladder import Downstream as Evidence
from expunge.core.protocols import CheckJob
from expunge.stats.rungs import unmeasured, whole

_STATISTIC = "artefacts that name a model with the users in it, and are neither rebuilt nor destroyed with the release"
_NAMED = 3  # a reason is read by people
_LONGEST = 100  # characters of a name with its day


class Downstream:
    """Artefacts that name the model they were made from, and the way back from a backup.

    Lists, indices and caches of other people carry the deleted user too, so all that name the original have to go.
    FAIL: one does and is not rebuilt or destroyed when the new model is released, or by the day that its owner said; or a
    restored original with the list of deletions replayed does not give the candidate, or is not refused in its place.
    INCONCLUSIVE: of an artefact nobody can say what it was made from, or the replay was not tried. PASS: nothing
    is stale, and the way back leads to the candidate. What nobody declared is not seen. `original` counts what names it now,
    the control; n adds the replay to these.
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
            details=_details(found, tried),
        )


def _check(found: Evidence) -> None:
    names = (*found.stale, *found.expiring, *found.unknown)
    plain = all(isinstance(part, tuple) for part in (found.stale, found.expiring, found.unknown))
    if not plain or not all(isinstance(name, str) and name for name in names):
        raise CheckBroken("names of artefacts expected", expected="tuples of texts", got=repr(names)[:80])
    if len(set(names)) != len(names):
        raise CheckBroken("an artefact is named twice", got=f"{len(names)} names")
    for tried in (found.replayed, found.refused):
        if tried is not None and not isinstance(tried, bool):
            raise CheckBroken("replayed and refused are true, false or not tried", got=repr(tried)[:40])
    whole(gone=found.gone)


def _artefacts(found: Evidence) -> Condition:
    if not found.stale and not found.expiring and not found.unknown:
        note = "nothing was declared" if not found.gone else f"{found.gone} that were declared are not there any more"
        return Condition(name="nothing is stale", verdict=Verdict.PASS, estimate=0.0, limit=0.0, note=note)
    later = f"{len(found.expiring)} more are rebuilt with the release or expire"
    if found.expiring:
        later = f"{later} ({_some(found.expiring)})"
    if found.stale:
        note = f"{len(found.stale)} artefacts still name the original ({_some(found.stale)}); {later}"
    else:
        note = f"no declared artefact keeps naming the original; {later}"
    if found.unknown:
        note = f"{note}; of {len(found.unknown)} nothing says what they were made from ({_some(found.unknown)})"
    verdict = Verdict.FAIL if found.stale else Verdict.INCONCLUSIVE if found.unknown else Verdict.PASS
    return Condition(name="nothing is stale", verdict=verdict, estimate=float(len(found.stale)), limit=0.0, note=note)


def _replay(found: Evidence) -> Condition:
    refused = {True: "; as it is, it is refused", False: "; as it is, it is not refused", None: ""}[found.refused]
    if found.replayed is None and found.refused is None:
        verdict, note = Verdict.INCONCLUSIVE, f"a restore was not tried: {found.why_not or 'no reason is given'}"
    elif found.replayed is None:
        why = found.why_not or "no reason is given"
        verdict, note = Verdict.INCONCLUSIVE, f"the deletions were not replayed on a restored original: {why}{refused}"
    elif found.replayed:
        verdict, note = Verdict.PASS, f"a restored original with the deletions replayed is the candidate{refused}"
    else:
        verdict, note = Verdict.FAIL, f"a restored original with the deletions replayed is not the candidate{refused}"
    return Condition(
        name="a restored backup is the candidate again",
        verdict=Verdict.FAIL if found.refused is False else verdict,
        note=note,
    )


def _details(found: Evidence, tried: int) -> Mapping[str, str]:
    counts = {
        "stale": len(found.stale),
        "expiring": len(found.expiring),
        "unknown": len(found.unknown),
        "gone": found.gone,
        "replays": tried,
    }
    said = {} if found.refused is None else {"refused": "yes" if found.refused else "no"}
    return {name: str(count) for name, count in counts.items()} | said


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name[:_LONGEST] for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
