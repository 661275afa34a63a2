"""Which events of test users are held out, as masks (E,) over the events of a CSR: True = held out, False = fold-in.

U users, E events, a user's events between two entries of `indptr` (U + 1,). What a split may not do is depend on who
else is in the data: a user's events fall the same way before and after others are deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Bools
from expunge.stats.ranking import Ints, integers

_DOMAIN = b"expunge/fold-in/v1"
_ROUNDING = 1e-9  # 0.29 · 100 is 28.999…


def fold_in(ids: Sequence[str], indptr: ArrayLike, indices: ArrayLike, *, key: str, fraction: float = 0.2) -> Bools:
    """Strong generalisation: a drawn share of every user's events is held out, the rest is shown (Liang et al. 2018).

    A user of n >= 2 events has max(1, ⌊fraction·n⌋) held out, so always one on either side; with fewer nothing is, and
    the metrics leave the user out. Which ones: the n columns, ascending, get the words of a Philox keyed by SHA-256 of
    key and user id, and the lowest words are held out. So it depends on the key, the id and the user's own events, never
    on the user's row or on other users. Raises CheckBroken on a fraction outside (0, 1) or ids that are not U.
    """
    ends, columns = _events(indptr, indices)
    if len(ids) != ends.size - 1 or not 0 < fraction < 1:
        got = f"{len(ids)} ids, {ends.size - 1} users, {fraction}"
        raise CheckBroken("an id a user and a fraction in (0, 1) expected", got=got)
    held = np.zeros(columns.size, bool)
    for name, start, stop in zip(ids, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        if stop - start >= 2:
            count = max(1, int(fraction * (stop - start) + _ROUNDING))
            ascending = np.argsort(columns[start:stop], kind="stable")
            drawn = np.argsort(_words(key, name, stop - start), kind="stable")[:count]
            held[start + ascending[drawn]] = True
    return held


def fold_numbers(ids: Sequence[str | None], indptr: ArrayLike, indices: ArrayLike, *, key: str, folds: int) -> Ints:
    """In which of `folds` rounds each event is left out, (E,) from 0: every event once, and of a user's n events as many
    in one round as in another, give or take one. Drawn as in `fold_in`, so a round depends on the key, the id and the user's
    own events alone. Raises CheckBroken on fewer than 2 folds or ids that are not U."""
    ends, columns = _events(indptr, indices)
    if len(ids) != ends.size - 1 or folds < 2:
        raise CheckBroken("an id a user and 2 folds expected", got=f"{len(ids)} ids, {ends.size - 1} users, {folds}")
    found = np.zeros(columns.size, np.int64)
    for name, start, stop in zip(ids, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        if stop > start:
            ascending = np.argsort(columns[start:stop], kind="stable")
            drawn = np.argsort(_words(key, str(name), stop - start), kind="stable")
            found[start + ascending[drawn]] = np.arange(stop - start) % folds
    return found


def leave_last_out(indptr: ArrayLike, indices: ArrayLike, times: ArrayLike) -> Bools:
    """Every user's latest event is held out; of several at that time the one with the largest column.

    A user with one event keeps it. `times` (E,) are whole numbers in any unit, later = larger.
    """
    ends, columns = _events(indptr, indices)
    when = _times(times, columns.size)
    owners = np.repeat(np.arange(ends.size - 1), np.diff(ends))
    order = np.lexsort((columns, when, owners))
    held = np.zeros(columns.size, bool)
    held[order[ends[1:][np.diff(ends) >= 2] - 1]] = True
    return held


def global_time_split(times: ArrayLike, quantile: float) -> Bools:
    """Events after one moment are held out, for all users alike: nobody's future is in anybody's past.

    The moment is the time of the event at `quantile` of all E events, rounded down; events at that very time are past.
    Users may end with one side empty. Raises CheckBroken when nothing at all lies after it.
    """
    when = _times(times, None)
    if not when.size or not 0 < quantile < 1:
        raise CheckBroken("events and a quantile in (0, 1) expected", got=f"{when.size} events, {quantile}")
    held = when > np.quantile(when, quantile, method="lower")
    if not held.any():
        raise CheckBroken("no event lies after the split", hint="take a lower quantile; many events share a time")
    return np.asarray(held, dtype=np.bool_)


def _words(key: str, name: str, count: int) -> NDArray[np.uint64]:
    """(count,) words of this user's own stream; the length keeps ("a", "bc") from being ("ab", "c")."""
    secret = key.encode()
    digest = hashlib.sha256(b"%s|%d|%s|%s" % (_DOMAIN, len(secret), secret, name.encode())).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "big")).random_raw(count)


def _events(indptr: ArrayLike, indices: ArrayLike) -> tuple[Ints, Ints]:
    ends, columns = integers("indptr", indptr), integers("indices", indices)
    if not ends.size or ends[0] != 0 or ends[-1] != columns.size or (np.diff(ends) < 0).any():
        raise CheckBroken("indptr does not fit indices", expected=f"ascending, 0..{columns.size}", got=str(ends)[:60])
    return ends, columns


def _times(times: ArrayLike, events: int | None) -> Ints:
    when = integers("times", times)
    if events is not None and when.size != events:
        raise CheckBroken("a time an event expected", expected=str(events), got=str(when.size))
    return when
