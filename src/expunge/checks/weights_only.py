"""V2. Do the counts in the weights still hold a deleted user's whole history, asked without anybody's data?"""

from __future__ import annotations

from collections.abc import Mapping

from expunge.core.codec import decimal
from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Verdict
from expunge.core.ladder import ReadOut as Evidence
from expunge.core.protocols import CheckJob
from expunge.stats.rungs import unmeasured, whole

_STATISTIC = "whole histories, as they were, that the counts in the weights do not rule out"
_WORDS = ("item", "pair", "open")
_READABLE = 0.25  # of an inverted entry to a whole number: beyond it the recovery is refused where it is made


class WeightsOnly:
    """The counts in a linear recommender's weights, as an attack and as a proof.

    Attack: the row of an item with count 1 is the whole history of its only owner. Proof: where an item or a pair of
    items of a history has count 0, nobody in the model has that whole history; parts of it are not excluded.
    Which counts were read, the finding says: inverted out of the P that is served, or stored beside it.
    FAIL: counts inverted from P are not those stored beside it, so P is another model's; or histories could be read out of
    the original and some still can; no count can be 0 then. UNVERIFIABLE: a history
    is `open`, every pair of its items being in some retained history, or the original's counts rule it out as well.
    PASS: every deleted user's history is ruled out, and was not in the original.
    Where only events went, the history as it was is looked for; the shorter one is in the model, rightly.
    A history that can be read only since the deletion is a retained user's with the same items: no residue, but `open`.
    The attack is this project's (research notes, section 3.3); no published source was found.
    """

    question: str = "Do the weights alone show that no history of the request is in them as it was?"

    def run(self, job: CheckJob) -> Finding:
        """One Finding. Raises CheckBroken on other words, or counts that cannot be."""
        found = None if job.ladder is None else job.ladder.read_out
        if found is None:
            return self._finding(Verdict.INCONCLUSIVE, unmeasured(job, "weights_only"))
        _check(found)
        if not found.candidate:
            return self._finding(Verdict.UNVERIFIABLE, "there is no history to look for")
        verdict, reason = _decide(found)
        return self._finding(verdict, reason, found)

    def _finding(self, verdict: Verdict, reason: str, found: Evidence | None = None) -> Finding:
        return Finding(
            check="weights_only",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=reason,
            estimate=None if found is None else float(found.candidate.count("open")),
            limit=0.0,
            original=None if found is None else float(found.original.count("open")),
            n=0 if found is None else len(found.candidate),
            conditions=() if found is None else (*_inverted(found), _read_out(found), _ruled_out(found)),
            details={} if found is None else _details(found),
        )


def _check(found: Evidence) -> None:
    users = len(found.candidate)
    if len(found.original) != users:
        raise CheckBroken("one word a deleted user expected", expected=str(users), got=str(len(found.original)))
    strange = {*found.candidate, *found.original, *found.reach} - {*_WORDS}
    if strange:
        raise CheckBroken("unknown words", expected=", ".join(_WORDS), got=", ".join(sorted(map(str, strange)))[:80])
    whole(read_before=found.read_before, read_after=found.read_after, **found.reach)
    whole(unlike=found.unlike, entries=found.entries)
    if found.unlike > found.entries:
        raise CheckBroken("more entries differ than were inverted", expected=f"at most {found.entries}")
    if found.distance is not None and not 0 <= found.distance <= _READABLE:
        raise CheckBroken("what is farther from whole numbers is no count", got=str(found.distance))
    if max(found.read_before, found.read_after) > users:
        raise CheckBroken("more histories were read out than users deleted", expected=f"at most {users}")


def _decide(found: Evidence) -> tuple[Verdict, str]:
    users, left = len(found.candidate), found.candidate.count("open")
    if found.unlike:
        return Verdict.FAIL, (
            f"{found.unlike} of {found.entries} counts inverted from P are not those stored beside it: what is served is"
            " another model's"
        )
    if _still_read(found):
        return Verdict.FAIL, (
            f"{found.read_after} of {users} whole histories can be read out of the model ({found.read_before} before)"
        )
    if left:
        return Verdict.UNVERIFIABLE, (
            f"the counts alone cannot rule out {left} of {users} histories: every pair of their items is in somebody"
            f" else's history; the retained users' Gram digest (check algebra) has to; {_reach(found)}"
        )
    never = users - found.original.count("open")
    if never:
        return Verdict.UNVERIFIABLE, f"the original's counts rule out {never} of {users} histories as well (control)"
    return Verdict.PASS, (
        f"each of {users} whole histories is ruled out by an item or a pair that nobody has any more;"
        f" in the original none was; {_reach(found)} ({found.source})"
    )


def _still_read(found: Evidence) -> bool:
    """With nothing to read before, what is read now is a retained user's: a deleted user's rows do not come back."""
    return found.read_before > 0 and found.read_after > 0


def _reach(found: Evidence) -> str:
    able, users = _able(found)
    return f"deleted alone, {able} of all {users} users can be ruled out this way" if users else "reach not measured"


def _able(found: Evidence) -> tuple[int, int]:
    return found.reach.get("item", 0) + found.reach.get("pair", 0), sum(found.reach.values())


def _inverted(found: Evidence) -> tuple[Condition, ...]:
    """Nothing where the counts were not inverted: then V1 alone ties what is served to them."""
    if found.distance is None:
        return ()
    note = f"{found.entries - found.unlike} of {found.entries} are; {found.distance:.2g} from whole numbers at most"
    return (
        Condition(
            name="counts inverted from P are those stored",
            verdict=Verdict.FAIL if found.unlike else Verdict.PASS,
            estimate=float(found.unlike),
            limit=0.0,
            note=note,
        ),
    )


def _read_out(found: Evidence) -> Condition:
    verdict = Verdict.PASS if found.read_before else Verdict.UNVERIFIABLE
    return Condition(
        name="no whole history can be read out",
        verdict=Verdict.FAIL if _still_read(found) else verdict,
        estimate=float(found.read_after),
        limit=0.0,
        note=f"control: {found.read_before} of {len(found.candidate)} could be read out of the original",
    )


def _ruled_out(found: Evidence) -> Condition:
    item, pair, left = (found.candidate.count(word) for word in _WORDS)
    seen = found.original.count("open") == len(found.candidate)
    return Condition(
        name="every whole history is ruled out",
        verdict=Verdict.PASS if not left and seen else Verdict.UNVERIFIABLE,
        estimate=float(left),
        limit=0.0,
        note=f"{item} by an item, {pair} by a pair; control: {found.original.count('open')} were open in the original",
    )


def _details(found: Evidence) -> Mapping[str, str]:
    counts = {word: found.candidate.count(word) for word in _WORDS}
    counts |= {"read_before": found.read_before, "read_after": found.read_after}
    counts |= {f"reach.{word}": found.reach.get(word, 0) for word in _WORDS}
    able, users = _able(found)
    share = {"reach.share": decimal(float(f"{able / users:.4g}"))} if users else {}
    rounding = {} if found.distance is None else {"rounding": decimal(float(f"{found.distance:.2g}"))}
    return {name: str(count) for name, count in counts.items()} | share | rounding | {"read": found.source}
