"""Is the user still in any of the places that the owner declared? Structure, rung V0 of the ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Verdict, worst
from expunge.core.ladder import Census as Evidence
from expunge.core.ladder import Place
from expunge.core.protocols import CheckJob
from expunge.stats.rungs import coarse

_STATISTIC = "traces of what was deleted in declared artefacts (count)"
_SCOPE = "only declared places were looked at"
OWN = "run"  # the kind of the new model's own files
_VOCABULARY = "the vocabulary of items is frozen"


class Census:
    """Counts what is left of the users in every place that the owner declared, each under the probe of its kind.

    FAIL: a place holds a trace when the new model is in service, or a deleted user, or a copy of one, is among the test
    users. UNVERIFIABLE: a place could not be read; or its probe did not find all of the made-up users that were put into
    a copy (control), so that finding nothing says nothing; or nothing was looked at. PASS: every place was read, every
    control was found, nothing is left. The verdict covers the declared places and no others: a backup that nobody
    declared is not in it.
    `original` is the same count before the deletion, rounded down to a power of two, as are all counts that would give
    the length of a history. Where only the model's own files were looked at, the reason says so. Reported, and deciding
    nothing: orphans, items that nobody else had, which stay in the frozen vocabulary as empty columns; and what a filter
    on items would drop of other users if the pipeline ran from scratch, because that is another reference than the one
    these users are compared with. Where single events were deleted, traces are rows of those, and of the users' cached
    lists; the users stay.
    """

    question: str = "Is what was deleted still anywhere else, in any place that was declared?"

    def run(self, job: CheckJob) -> Finding:
        """One condition a place, and one for the test users. Raises CheckBroken on counts below 0."""
        census = None if job.ladder is None else job.ladder.census
        if census is None:
            said = "" if job.ladder is None else job.ladder.unable.get("census", "")
            return self._finding(Verdict.INCONCLUSIVE, said or "no census was taken")
        _check(census)
        if not census.places:
            verdict = Verdict.FAIL if census.test_users else Verdict.UNVERIFIABLE
            why = f"no place was declared, so nothing outside the model was looked at; {_vocabulary(census)}"
            return self._finding(verdict, f"{_tested(census)}{why}", census, (_test_users(census),))
        conditions = (*(_condition(place) for place in census.places), _test_users(census))
        verdict = worst(tuple(condition.verdict for condition in conditions))
        return self._finding(verdict, _reason(census, verdict), census, conditions)

    def _finding(
        self,
        verdict: Verdict,
        reason: str,
        census: Evidence | None = None,
        conditions: tuple[Condition, ...] = (),
    ) -> Finding:
        read = () if census is None else tuple(place for place in census.places if not place.unread)
        return Finding(
            check="census",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=reason,
            estimate=float(sum(place.after for place in read)) if read else None,
            limit=0.0,
            original=float(coarse(sum(place.before for place in read))) if read else None,
            n=len(read),
            conditions=conditions,
            details={} if census is None else _details(census),
        )


def _check(census: Evidence) -> None:
    counts = [census.orphans, *census.cascade, census.test_users]
    for place in census.places:
        counts += [place.before, place.after, *place.planted]
    if any(count < 0 for count in counts):
        raise CheckBroken("a count below 0 in the census", expected="0 or more", got=str(min(counts)))
    names = [place.name for place in census.places]
    if len(set(names)) != len(names):
        raise CheckBroken("two places of the census have the same name", expected="one name a place")


def _condition(place: Place) -> Condition:
    found, planted = place.planted
    note = f"{place.kind}; {coarse(place.before)} before; {place.action or 'nothing done'}; control: {found} of {planted} found"
    if place.unread:  # what the parser said stays with the owner: it may name files
        note = f"{place.kind}; could not be read as one"
    return Condition(
        name=place.name,
        verdict=_judged(place),
        estimate=None if place.unread else float(place.after),
        limit=0.0,
        note=note,
    )


def _judged(place: Place) -> Verdict:
    """What is found is found, also by a probe that misses other things; what is not found needs the control."""
    if place.unread:
        return Verdict.UNVERIFIABLE
    if place.after:
        return Verdict.FAIL
    return Verdict.UNVERIFIABLE if _blind(place) else Verdict.PASS


def _blind(place: Place) -> bool:
    found, planted = place.planted
    return planted == 0 or found < planted


def _test_users(census: Evidence) -> Condition:
    return Condition(
        name="no deleted user among the test users",
        verdict=Verdict.FAIL if census.test_users else Verdict.PASS,
        estimate=float(census.test_users),
        limit=0.0,
        note="the users themselves, or copies of them",
    )


def _reason(census: Evidence, verdict: Verdict) -> str:
    held = [place for place in census.places if not place.unread and place.after]
    unread = sum(bool(place.unread) for place in census.places)
    blind = sum(not place.unread and not place.after and _blind(place) for place in census.places)
    said = []
    if held:
        left = (
            f"{_counted(sum(place.after for place in held), 'trace')} left in {_places(len(held), len(census.places))}"
        )
        said.append(f"{left}: {_named(held)}")
    if unread:
        said.append(f"{_places(unread, len(census.places))} could not be read")
    if blind:
        said.append(f"{_places(blind, len(census.places))} under a probe that missed its planted users (control)")
    if verdict is Verdict.PASS:
        before = coarse(sum(place.before for place in census.places))
        said.append(f"nothing is left in {_places(len(census.places))}, {_counted(before, 'trace')} or more before")
    if all(place.kind == OWN for place in census.places):
        said.append("no place outside the model was declared, so nothing there was looked at")
    return f"{_tested(census)}{'; '.join([*said, _SCOPE, _vocabulary(census)])}"


def _places(count: int, of: int = 0) -> str:
    return f"{count} of {_counted(of, 'place')}" if of else _counted(count, "place")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _named(places: Sequence[Place]) -> str:
    """The owner's words for the first few."""
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return ", ".join(place.name for place in places[:3]) + more


def _tested(census: Evidence) -> str:
    return (
        f"{_counted(census.test_users, 'deleted user')}, or copies, among the test users; " if census.test_users else ""
    )


def _vocabulary(census: Evidence) -> str:
    if not census.orphans:
        return f"{_VOCABULARY}, no item lost its last owner"
    return f"{_VOCABULARY}, items that lost their last owner stay in it, empty ({coarse(census.orphans)} or more)"


def _details(census: Evidence) -> Mapping[str, str]:
    return {
        "orphans": str(coarse(census.orphans)),
        "cascade_items": str(census.cascade[0]),
        "cascade_events": str(census.cascade[1]),
        "places": str(len(census.places)),
        "unread": str(sum(bool(place.unread) for place in census.places)),
        "test_users": str(census.test_users),
    }
