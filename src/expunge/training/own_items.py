"""What a model says of users' own items. Every model is shown the same histories, so only what it learned differs.

A popular item scores high with everybody: how well a model knows somebody's items says nothing by itself, and only the
contrast between models that saw the user and models that did not does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from expunge.core.errors import CheckBroken
from expunge.core.protocols import ProbeJob
from expunge.data._interactions import Histories
from expunge.stats.ranking_splits import fold_numbers

FOLDS = 5
"""Rounds: a fifth of a history is left out of the fold-in and asked for, until every item was."""
_KEY = "expunge/own-items/v1"
_ROWS = 500  # histories that are dense at once

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Value = Callable[[Floats, Mask, Mask], Floats]
_Round = tuple[Histories, Histories, Histories]
"""The same users three times: what is folded in, what is no candidate, and what is asked for."""
Signal = Callable[[Any, Any, Histories, Sequence[int]], Floats]


def rows_of(adapter: Any, histories: Histories) -> Any:
    """(U, I): what a family sees of the users' histories; ones, where it does not say."""
    matrix = getattr(adapter, "matrix", None)
    return histories.matrix() if matrix is None else matrix(histories)


def log_scores(adapter: Any, model: Any, histories: Histories, slots: Sequence[int]) -> Floats:
    """(n,) mean natural-log probability of each user's own items, each left out of the fold-in in its round: softmax of
    the scores over the items that were not shown. At most 0; 0 for a user without events."""
    return _left_out(adapter, model, histories, slots, _log_probability)


def log_ranks(adapter: Any, model: Any, histories: Histories, slots: Sequence[int]) -> Floats:
    """(n,) minus the mean natural log of the same items' ranks among those not shown: 0 = always first, ties in the middle.
    It does not change when scores are stretched or shifted. 0 for a user without events."""
    return _left_out(adapter, model, histories, slots, _minus_log_rank)


def reconstructions(adapter: Any, model: Any, histories: Histories, slots: Sequence[int]) -> Floats:
    """(n,) mean natural-log probability of each user's own items when the whole history is shown: softmax over all items.
    What is trained to be high for those who were there. 0 for a user without events."""
    part = _only(histories, slots)
    nothing = part.keep(np.zeros(part.events, bool))
    return _mean(adapter, model, slots, [(part, nothing, part)], _log_probability)


def on_users(job: ProbeJob, signal: Signal) -> dict[str, Floats]:
    """What a probe of users returns: the signal of the `block` (R,) and of the `population` (Z,)."""
    return {
        "block": signal(job.adapter, job.model, job.data.train, job.block),
        "population": signal(job.adapter, job.model, job.data.test, job.population),
    }


def _left_out(adapter: Any, model: Any, histories: Histories, slots: Sequence[int], value: Value) -> Floats:
    part = _only(histories, slots)
    number = fold_numbers(part.ids, part.indptr, part.indices, key=_KEY, folds=FOLDS)
    rounds = []
    for k in range(FOLDS):
        seen = part.keep(number != k)
        rounds.append((seen, seen, part.keep(number == k)))
    return _mean(adapter, model, slots, rounds, value)


def _only(histories: Histories, slots: Sequence[int]) -> Histories:
    """The same users; those that are not asked about have no events."""
    chosen = np.zeros(len(histories), bool)
    chosen[list(slots)] = True
    return histories.keep(np.repeat(chosen, np.diff(histories.indptr)))


def _mean(adapter: Any, model: Any, slots: Sequence[int], rounds: Sequence[_Round], value: Value) -> Floats:
    """(n,) mean of `value` over the items that are asked for in any round; 0 where there are none."""
    users = np.array(slots, np.int64)
    shown = sparse.vstack([rows_of(adapter, found)[users] for found, _, _ in rounds], format="csr")
    hidden = sparse.vstack([found.matrix()[users] for _, found, _ in rounds], format="csr")
    wanted = sparse.vstack([found.matrix()[users] for _, _, found in rounds], format="csr")
    counts = np.diff(wanted.indptr)
    asked, total = np.flatnonzero(counts), np.zeros(counts.size)
    for start in range(0, asked.size, _ROWS):
        places = asked[start : start + _ROWS]
        scores = np.asarray(adapter.outputs(model, shown[places]), np.float64)
        if not np.isfinite(scores).all():
            raise CheckBroken("a model answers with scores that are no numbers")
        total[places] = value(scores, hidden[places].toarray() != 0, wanted[places].toarray() != 0)
    whole, items = (found.reshape(len(rounds), users.size).sum(0) for found in (total, counts))
    return np.asarray(whole / np.maximum(items, 1), dtype=np.float64)


def _log_probability(scores: Floats, gone: Mask, mine: Mask) -> Floats:
    """(b,) sum over the items of `mine` of log softmax, over all items but those `gone`; (b, I) each."""
    whole = special.logsumexp(np.where(gone, -np.inf, scores), axis=1, keepdims=True)
    return np.asarray(np.where(mine, np.minimum(scores - whole, 0.0), 0.0).sum(axis=1), dtype=np.float64)


def _minus_log_rank(scores: Floats, gone: Mask, mine: Mask) -> Floats:
    """(b,) minus the sum of log ranks, 1 = best, among all items but those `gone`; equal scores share their places."""
    found = np.zeros(len(scores))
    for row, item in np.argwhere(mine).tolist():
        others = scores[row][~gone[row]]
        above, equal = (others > scores[row, item]).sum(), (others == scores[row, item]).sum()
        found[row] -= np.log(above + (equal + 1) / 2)
    return found
