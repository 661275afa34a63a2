"""Named after what is done with it: reading a user out of the weights, and showing that this is no longer possible."""

import numpy as np
import pytest

from expunge.core.errors import InputError
from expunge.data._interactions import from_events
from expunge.testing.users import random_histories
from expunge.training.closed_form.gram import add_rows, gram_of
from expunge.training.closed_form.readout import reach, read_out, refutes


def of(*rows, items=6):
    user = np.concatenate([np.full(len(row), n) for n, row in enumerate(rows)])
    item = np.concatenate(rows)
    names = [f"u{n}" for n in range(len(rows))], [f"i{n}" for n in range(items)]
    return from_events(*names, user, item, np.ones(len(item), np.int64))


ALL = of([0, 1, 2], [0, 1, 3], [0, 2, 1], [2, 3], [0, 5, 3])


def test_the_whole_history_of_an_owner_of_a_rare_item_is_read_out_of_the_counts():
    assert [(item, history.tolist()) for item, history in read_out(gram_of(ALL.matrix()))] == [(5, [0, 3, 5])]


def test_after_the_deletion_it_is_gone_and_refuted():
    gram = gram_of(ALL.matrix())
    add_rows(gram, ALL.matrix(), -1, only=[4])
    assert list(read_out(gram)) == []
    assert refutes(gram, ALL.row(4)[0]).by == "item"


def test_a_model_that_was_left_as_it_is_is_not_refuted():
    """Control, for every user of a random set."""
    histories = random_histories()
    gram = gram_of(histories.matrix())
    assert {refutes(gram, histories.row(slot)[0]).by for slot in range(len(histories))} == {"open"}


def test_reach_says_who_can_be_refuted_after_the_deletion():
    histories = random_histories(12, 25, share=0.2)
    gram, rows = gram_of(histories.matrix()), histories.matrix()
    seen = []
    for slot in range(len(histories)):
        (kind,) = [name for name, count in reach(gram, histories, [slot]).items() if count]
        add_rows(gram, rows, -1, only=[slot])
        assert refutes(gram, histories.row(slot)[0]).by == kind
        add_rows(gram, rows, 1, only=[slot])
        seen.append(kind)
    assert {"item", "pair"} <= set(seen)
    assert reach(gram, histories, range(12)) == {kind: seen.count(kind) for kind in ("item", "pair", "open")}


def test_a_user_whose_pairs_others_have_stays_open():
    """Users 0 and 2 have the same history: the counts cannot tell that one of them is gone."""
    gram = gram_of(ALL.matrix())
    add_rows(gram, ALL.matrix(), -1, only=[2])
    assert not refutes(gram, ALL.row(2)[0]).refuted


def test_counts_below_zero_and_empty_histories_are_refused():
    gram = gram_of(ALL.matrix())
    add_rows(gram, ALL.matrix(), -1, only=[4, 4])
    with pytest.raises(InputError, match="below 0"):
        refutes(gram, ALL.row(0)[0])
    with pytest.raises(InputError, match="empty"):
        refutes(gram_of(ALL.matrix()), np.zeros(0, np.int32))
