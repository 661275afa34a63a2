"""What a model is asked about users' own items, against slow twins; and that popularity alone is no sign of anything."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.errors import CheckBroken
from expunge.data._interactions import from_events
from expunge.stats.ranking_splits import fold_numbers
from expunge.testing.users import random_histories
from expunge.training import own_items
from expunge.training.own_items import FOLDS, log_ranks, log_scores, reconstructions


class Linear:
    """Scores: the history times a table, so that what is folded in matters."""

    items = 12

    def outputs(self, model, rows):
        return rows @ model["table"] + model["bias"]


def a_model(seed, ties=False):
    draw = np.random.default_rng(seed)
    table, bias = draw.normal(size=(12, 12)), draw.normal(size=12)
    return {"table": np.round(table) if ties else table, "bias": np.round(bias) if ties else bias}


def rounds(histories, slot):
    """(what is shown, what is asked for) in each round, as sets of columns, without any array of all users."""
    columns = histories.row(slot)[0]
    numbers = fold_numbers([histories.ids[slot]], [0, len(columns)], columns, key="expunge/own-items/v1", folds=FOLDS)
    return [
        (
            {int(c) for c, n in zip(columns, numbers, strict=True) if n != k},
            [int(c) for c, n in zip(columns, numbers, strict=True) if n == k],
        )
        for k in range(FOLDS)
    ]


def scores_of(model, shown):
    row = np.zeros((1, 12))
    row[0, sorted(shown)] = 1
    return Linear().outputs(model, row)[0]


def slow_log_score(model, histories, slot):
    found = []
    for shown, wanted in rounds(histories, slot):
        scores = scores_of(model, shown)
        weights = {item: np.exp(scores[item]) for item in range(12) if item not in shown}
        found += [np.log(weights[item] / sum(weights.values())) for item in wanted]
    return sum(found) / len(found)


def slow_log_rank(model, histories, slot):
    found = []
    for shown, wanted in rounds(histories, slot):
        scores = scores_of(model, shown)
        others = [scores[item] for item in range(12) if item not in shown]
        for item in wanted:
            places = [place + 1 for place, score in enumerate(sorted(others, reverse=True)) if score == scores[item]]
            found.append(-np.log(sum(places) / len(places)))
    return sum(found) / len(found)


def slow_reconstruction(model, histories, slot):
    mine = histories.row(slot)[0].tolist()
    scores = scores_of(model, set(mine))
    whole = np.log(sum(np.exp(score) for score in scores))
    return sum(scores[item] - whole for item in mine) / len(mine)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_each_signal_is_its_slow_twin(seed, ties):
    histories, model = random_histories(9, 12, seed=seed), a_model(seed, ties)
    slots = [7, 2, 0]
    twins = ((log_scores, slow_log_score), (log_ranks, slow_log_rank), (reconstructions, slow_reconstruction))
    for signal, slow in twins:
        found = signal(Linear(), model, histories, slots)
        assert np.allclose(found, [slow(model, histories, slot) for slot in slots], atol=1e-10), signal.__name__
    assert (log_scores(Linear(), model, histories, slots) <= 0).all()


def test_large_sets_are_asked_in_parts_and_say_the_same(monkeypatch):
    histories, model = random_histories(40, 12), a_model(1)
    whole = log_scores(Linear(), model, histories, range(40))
    monkeypatch.setattr(own_items, "_ROWS", 7)
    assert np.allclose(log_scores(Linear(), model, histories, range(40)), whole, atol=1e-12)


def test_nobody_elses_history_is_looked_at():
    histories, model = random_histories(9, 12), a_model(2)
    emptied = histories.without([slot for slot in range(9) if slot != 4])
    for signal in (log_scores, log_ranks, reconstructions):
        assert signal(Linear(), model, histories, [4]) == signal(Linear(), model, emptied, [4])


def test_a_user_without_events_says_nothing():
    histories = random_histories(9, 12).without([3])
    for signal in (log_scores, log_ranks, reconstructions):
        found = signal(Linear(), a_model(3), histories, [3, 4])
        assert found[0] == 0 != found[1]


def test_ranks_do_not_change_when_scores_are_stretched_or_shifted():
    histories, model = random_histories(9, 12), a_model(4)
    louder = {name: 3 * values for name, values in model.items()}
    louder["bias"] = louder["bias"] + 5
    assert np.array_equal(*(log_ranks(Linear(), found, histories, range(9)) for found in (model, louder)))
    assert not np.allclose(*(log_scores(Linear(), found, histories, range(9)) for found in (model, louder)))


def test_answers_that_are_no_numbers_are_refused():
    broken = replace_bias(a_model(5), np.nan)
    with pytest.raises(CheckBroken, match="no numbers"):
        log_scores(Linear(), broken, random_histories(9, 12), [1])


def replace_bias(model, value):
    return {**model, "bias": np.full(12, value)}


def test_the_popularity_trap_a_stranger_with_popular_items_scores_above_a_member_with_rare_ones():
    """No level of any signal separates those who were there from those who were not: the stranger's items are everybody's.

    The model is a count of the members' items, so that it holds the member and nothing of the stranger.
    """
    members = [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 4], [8, 9, 10, 11]]
    stranger = [0, 1, 2, 3]
    events = [(user, item) for user, items in enumerate([*members, stranger]) for item in items]
    user, item = (np.array(part) for part in zip(*events, strict=True))
    names = [f"user/{n}" for n in range(5)], [f"movie/{n}" for n in range(12)]
    histories = from_events(*names, user, item, np.ones(len(user), np.int64))
    counts = np.bincount(np.concatenate(members), minlength=12).astype(float)
    popular = SimpleNamespace(items=12, outputs=lambda model, rows: np.tile(counts, (rows.shape[0], 1)))
    for signal in (log_scores, log_ranks, reconstructions):
        rare_member, popular_stranger = signal(popular, None, histories, [3, 4])
        assert popular_stranger > rare_member, signal.__name__
    without = replace_counts(counts, members[3])
    contrasts = [signal_of(counts, histories, slot) - signal_of(without, histories, slot) for slot in (3, 4)]
    assert contrasts[0] > 0 > contrasts[1]  # what tells them apart: the same history, with and without the member


def replace_counts(counts, items):
    found = counts.copy()
    found[items] -= 1
    return found


def signal_of(counts, histories, slot):
    adapter = SimpleNamespace(items=12, outputs=lambda model, rows: np.tile(counts, (rows.shape[0], 1)))
    return float(log_scores(adapter, None, histories, [slot])[0])
