"""What was found about deleted users of a recommender, rung by rung: from structure (V0) to what lies downstream (V5).

U users, I items, F deleted users, E their events, T test users. Arrays are typed `Any` here; docstrings give shapes.
Workflow measures, checks judge: nothing here is published as it stands, because per-item arrays would be the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Array = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """V0. One artefact in which a user may sit, under the probe of its kind.

    `name` is the owner's word for it. `before` and `after` count traces of the users (rows, keys, vectors, list entries)
    in the artefact as it was, and as it will be when the new model is in service. `planted` is (found, planted): the
    same probe on made-up users put into a copy, so that a blind probe is seen. `unread` says why it could not be read.
    """

    kind: str
    name: str
    before: int
    after: int
    planted: tuple[int, int]
    action: str = ""
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """V0. Every declared place, and what the deletion leaves behind in the vocabulary.

    `orphans`: items that nobody but the deleted users had; the frozen vocabulary keeps their empty columns. `cascade`:
    (items, other users' events) that a filter on items would drop if the pipeline ran from scratch, which is the other
    reference. `test_users`: deleted users, or copies of them, among the test users.
    """

    places: tuple[Place, ...]
    orphans: int
    cascade: tuple[int, int]
    test_users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Algebra:
    """V1. The sums of candidate and original against sums added up from the retained users alone, in integers; of a
    family that is trained, the weights against those of the recipe run again on the retained users (`unit`).

    `wrong` counts entries of the sums that differ, of `entries`. `derived` is the largest deviation of what follows from
    the sums (for an inverse: |(G + lambda I) P z - z| over random z; for lists: entries that a rebuild has otherwise),
    None where nothing is kept beside them. `leverage` x'(G + lambda I)^-1 x of the users in the original, 0 to 1.
    `control_wrong`: where the original's sums are those of the retained users as well, entries of the candidate that
    differ when somebody who stays is left out of the sums: what the comparison sees of a user; `control_derived` is the
    deviation of what follows from the sums there. None = not tried.
    """

    what: str
    entries: int
    wrong: int
    original_wrong: int
    derived: float | None
    derived_limit: float
    original_derived: float | None
    probes: int
    leverage: float | None = None
    unit: str = "sums"
    control_wrong: int | None = None
    control_derived: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOut:
    """V2. What the counts in the weights say about the users' whole histories, without anybody's data.

    Per deleted user (F,): `candidate` and `original` are what rules the whole history out, `item`, `pair`, or `open`
    where nothing does. `read_before`: users whose whole history can be read out of the original; `read_after`: those of
    them for whom it can be read out of the candidate still. `reach` of all users of the original, each deleted alone, as
    counts of the same three words.
    `source`: which counts were read. Where they were inverted out of what is served, `distance` is how far one of them was
    from a whole number, at most, and `unlike` how many of the `entries` that were inverted differ from those stored beside.
    """

    candidate: tuple[str, ...]
    original: tuple[str, ...]
    read_before: int
    read_after: int
    reach: Mapping[str, int]
    source: str = "counts stored in the model"
    distance: float | None = None
    unlike: int = 0
    entries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """V3. The users' own items (E,) asked with their own history as fold-in, the same history for every model.

    `candidate`, `original`: residuals (or scores) of the two; `exact`: those of the model that never had the users, in
    closed form or from a retraining, as `reference` says; `user` (E,) numbers the deleted users from 0. `scale` is what
    the values are to be compared with when they are close to 0.
    """

    candidate: Array
    original: Array
    exact: Array
    user: Array
    reference: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """V4. Lists of K items for T probe profiles, (T, K) item numbers, best first, nothing the profile holds.

    `reference` comes from a retraining on the retained users; None with `why_not` where none was made. `largest` is the
    largest difference of any score to the retraining, `original_largest` that of the original, `scale` the largest score.
    `residual`: the candidate's distance to the retraining, over all scores, in units of the original's.
    """

    items: int
    candidate: Array
    original: Array
    reference: Array | None
    largest: float | None
    original_largest: float | None
    scale: float
    why_not: str = ""
    residual: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Downstream:
    """V5. What is served from: artefacts that name the model they were made from, and the way back.

    `stale`: names of artefacts that name a model with the users in it, and stay. `expiring`: those that are rebuilt or
    destroyed when the new model is released, or by a day that is said. `unknown`: those of which nobody can say what they
    were made from. `gone`: how many that were declared are not there.
    `replayed`: whether a restored copy of the original, with the list of deletions replayed, gives the candidate's digest;
    None with `why_not` where that was not tried. `refused`: whether the workspace refuses a restored copy of the original in
    the candidate's place; None where both are the same model.
    """

    stale: tuple[str, ...]
    expiring: tuple[str, ...]
    replayed: bool | None
    why_not: str = ""
    unknown: tuple[str, ...] = ()
    gone: int = 0
    refused: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Quality on test users who are nobody's deletion: per user (T,), NaN where a user has nothing held out.

    `candidate`, `original` and `reference` (None where there is no retraining) map a metric, `NDCG@100` or `Recall@20`,
    to (T,) values in 0..1. `segments` maps a name to (T,) bool. `lists` are the three models' lists (T, 20) as exposure
    counts (I,) by `candidate`, `original`, `reference`. `by_items`: segment of items -> model -> (T,) the headline metric
    with only these items relevant, NaN for who holds none of them out. `popularity` (I,): training users who have an item,
    of `users`.
    """

    candidate: Mapping[str, Array]
    original: Mapping[str, Array]
    reference: Mapping[str, Array] | None
    segments: Mapping[str, Array]
    lists: Mapping[str, Array]
    split: str
    by_items: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    popularity: Array = ()
    users: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """All rungs; one that was not measured is None and `unable` says why, by the check's name."""

    census: Census | None = None
    algebra: Algebra | None = None
    read_out: ReadOut | None = None
    left_out: LeftOut | None = None
    behaviour: Behaviour | None = None
    downstream: Downstream | None = None
    ranking: Ranking | None = None
    unable: Mapping[str, str] = field(default_factory=dict)
