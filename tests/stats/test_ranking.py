import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from expunge.core.errors import CheckBroken
from expunge.stats.ranking import (
    HeldRanks,
    ItemLists,
    ndcg,
    overlap,
    ranks_in,
    ranks_of,
    recall,
    tie_order,
    top_k,
)

GOLDEN_TIES = [3, 9, 5, 11, 0, 4, 10, 7, 2, 6, 8, 1]
"""Of 12 columns. Another order would change every recorded metric that has ties in it."""


def slow_order(scores, seen):
    """One user's whole list: unseen columns by score, equal ones as `tie_order` has them."""
    place = {column: n for n, column in enumerate(tie_order(len(scores)).tolist())}
    return sorted((c for c in range(len(scores)) if c not in seen), key=lambda c: (-scores[c], place[c]))


def slow_ndcg(order, held, k):
    gained = sum(1 / math.log2(n + 2) for n, column in enumerate(order[:k]) if column in held)
    return gained / sum(1 / math.log2(n + 2) for n in range(min(k, len(held))))


def slow_recall(order, held, k):
    return len(set(order[:k]) & set(held)) / min(k, len(held))


@st.composite
def worlds(draw):
    """Scores with many ties, and for every item of every user whether it is seen, held out or neither."""
    users, items = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    scores = draw(st.lists(st.integers(-2, 2), min_size=users * items, max_size=users * items))
    roles = draw(st.lists(st.sampled_from("-sh"), min_size=users * items, max_size=users * items))
    rows = np.array(roles).reshape(users, items)
    seen, held = ([np.flatnonzero(row == role).tolist() for row in rows] for role in "sh")
    return np.array(scores, float).reshape(users, items), seen, held


def lists_of(world):
    scores, seen, held = world
    return scores, ItemLists.of_lists(seen, scores.shape[1]), ItemLists.of_lists(held, scores.shape[1])


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_ranks_are_positions_in_the_whole_sorted_catalogue(world):
    scores, seen, held = world
    expected = [
        slow_order(row, set(gone)).index(column) + 1
        for row, gone, wanted in zip(scores, seen, held, strict=True)
        for column in wanted
    ]
    found = ranks_of(*lists_of(world))
    assert found.ranks.tolist() == expected
    assert found.depth == scores.shape[1]


@settings(max_examples=150, deadline=None)
@given(worlds(), st.data())
def test_lists_are_the_head_of_the_same_order_and_give_the_same_ranks(world, data):
    scores, seen, held = lists_of(world)
    k = data.draw(st.integers(1, scores.shape[1]))
    lists, full = top_k(scores, seen, k), ranks_of(scores, seen, held)
    for row, gone, shown in zip(scores, world[1], lists.tolist(), strict=True):
        head = slow_order(row, set(gone))[:k]
        assert shown == head + [-1] * (k - len(head))
    assert ranks_in(lists, held).ranks.tolist() == np.minimum(full.ranks, k + 1).tolist()


@settings(max_examples=150, deadline=None)
@given(worlds(), st.data())
def test_metrics_are_their_slow_twins_and_leave_out_users_without_held_out_items(world, data):
    scores, seen, held = world
    k = data.draw(st.integers(1, scores.shape[1]))
    found = ranks_of(*lists_of(world))
    counted = [user for user, wanted in enumerate(held) if wanted]
    for mine, slow in ((ndcg(found, k), slow_ndcg), (recall(found, k), slow_recall)):
        assert mine.users.tolist() == counted
        assert mine.left_out == len(held) - len(counted)
        expected = [slow(slow_order(scores[u], set(seen[u])), held[u], k) for u in counted]
        assert mine.values == pytest.approx(expected)


def test_ndcg_is_sklearns_where_nothing_is_masked_and_nothing_ties():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(30, 50)), rng.random((30, 50)) < 0.1
    truth[:, 0] = True
    held = ItemLists.of_lists([np.flatnonzero(row).tolist() for row in truth], 50)
    mine = ndcg(ranks_of(scores, ItemLists.of_lists([[]] * 30, 50), held), 10)
    assert mine.mean == pytest.approx(ndcg_score(truth, scores, k=10))


def test_ties_get_on_average_what_a_random_order_gets():
    """Not optimistic: over relabelled catalogues a model with few distinct scores gets sklearn's tie-averaged DCG."""
    rng = np.random.default_rng(1)
    truth, scores = np.zeros(40), rng.integers(0, 3, 40).astype(float)
    truth[rng.choice(40, 8, replace=False)] = 1
    found = []
    for _ in range(1500):
        mixed = rng.permutation(40)
        held = ItemLists.of_lists([np.flatnonzero(truth[mixed]).tolist()], 40)
        found.append(ndcg(ranks_of(scores[mixed][None], ItemLists.of_lists([[]], 40), held), 10).mean)
    expected = ndcg_score(truth[None], scores[None], k=10)
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / np.sqrt(len(found)))


def test_a_model_that_says_nothing_does_not_profit_from_a_catalogue_sorted_by_popularity():
    """The attack on the metric: with ties in column order, all scores 0 would recommend the most popular items."""
    rng, users, items = np.random.default_rng(2), 300, 500
    weights = 1 / np.arange(1, items + 1)
    held = ItemLists.of_lists(
        [rng.choice(items, 5, False, weights / weights.sum()).tolist() for _ in range(users)], items
    )
    nothing = ItemLists.of_lists([[]] * users, items)
    by_column = np.tile(-np.arange(items, dtype=float), (users, 1))
    assert recall(ranks_of(by_column, nothing, held), 20).mean > 0.4
    assert recall(ranks_of(np.zeros((users, items)), nothing, held), 20).mean < 0.1


def test_noise_on_good_scores_lowers_both_metrics_and_a_perfect_list_is_exactly_one():
    rng = np.random.default_rng(3)
    held = ItemLists.of_lists([sorted(rng.choice(200, 30, False).tolist()) for _ in range(60)], 200)
    good, nothing = np.zeros((60, 200)), ItemLists.of_lists([[]] * 60, 200)
    good[held.owners, held.indices] = 1.0
    perfect, noisy = (ranks_of(s, nothing, held) for s in (good, good + rng.normal(size=good.shape)))
    for metric in (ndcg, recall):
        for k in (1, 20, 50):
            assert (metric(perfect, k).values == 1.0).all()
            assert metric(noisy, k).mean < 0.9


def test_recall_divides_by_k_where_more_is_held_out():
    held = ItemLists.of_lists([[0, 1, 2, 3, 4]], 6)
    found = ranks_of([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]], ItemLists.of_lists([[]], 6), held)
    assert recall(found, 2).mean == 1.0
    assert ndcg(found, 2).mean == 1.0


def test_equal_sets_of_ranks_give_equal_bits():
    held = ItemLists.of_lists([list(range(7))], 50)
    ranks = np.array([3, 11, 2, 40, 17, 5, 29])
    values = {ndcg(HeldRanks(held=held, ranks=np.roll(ranks, n), depth=50), 50).mean for n in range(7)}
    assert len(values) == 1


def test_what_a_user_has_seen_is_masked_and_that_matters():
    scores = np.array([[9.0, 8.0, 7.0, 6.0]])
    held = ItemLists.of_lists([[3]], 4)
    assert ranks_of(scores, ItemLists.of_lists([[0, 1]], 4), held).ranks.tolist() == [2]
    assert ranks_of(scores, ItemLists.of_lists([[]], 4), held).ranks.tolist() == [4]
    assert top_k(scores, ItemLists.of_lists([[0, 1]], 4), 4).tolist() == [[2, 3, -1, -1]]


def test_float32_scores_and_signed_zeros_tie_as_they_should():
    scores = np.array([[0.0, -0.0, 0.0, -0.0, 0.5]], dtype=np.float32)
    assert top_k(scores, ItemLists.of_lists([[]], 5), 5)[0, 1:].tolist() == [c for c in tie_order(5).tolist() if c != 4]


def test_the_tie_order_is_fixed_for_ever_and_new_items_leave_it_alone():
    assert tie_order(12).tolist() == GOLDEN_TIES
    longer = tie_order(500).tolist()
    assert [c for c in longer if c < 12] == GOLDEN_TIES
    assert sorted(longer) == list(range(500))
    again = "from expunge.stats.ranking import tie_order; print(tie_order(12).tolist())"
    done = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(GOLDEN_TIES)


def test_the_tie_order_is_no_friend_of_low_columns():
    assert abs(np.corrcoef(tie_order(20_000), np.arange(20_000))[0, 1]) < 0.03


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.integers(0, 8), max_size=4, unique=True)] * 2), min_size=1, max_size=6))
def test_overlap_is_set_arithmetic(pairs):
    one, two = ([row + [-1] * (4 - len(row)) for row in side] for side in zip(*pairs, strict=True))
    found = overlap(one, two, 9)
    kept = [(set(a), set(b)) for a, b in pairs if a or b]
    assert found.shared == pytest.approx([len(a & b) / max(len(a), len(b)) for a, b in kept])
    assert found.jaccard == pytest.approx([len(a & b) / len(a | b) for a, b in kept])
    assert found.users.tolist() == [n for n, (a, b) in enumerate(pairs) if a or b]
    assert found.left_out == len(pairs) - len(kept)
    assert (found.mean_shared is None) == (not kept)


def test_a_model_overlaps_wholly_with_itself_and_half_with_half():
    lists = np.array([[4, 1, 2, 0], [3, 2, 1, 0]])
    assert overlap(lists, lists[:, ::-1], 6).mean_jaccard == 1.0
    assert overlap(lists, [[4, 1, 5, 3], [3, 2, 5, 4]], 6).mean_shared == 0.5
    assert overlap(lists, [[4, 1, 5, 3], [3, 2, 5, 4]], 6).mean_jaccard == pytest.approx(1 / 3)


def test_lists_of_a_csr_and_of_rows_are_the_same_and_can_be_picked():
    lists = ItemLists.of([0, 2, 2, 5], [1, 4, 0, 2, 3], 5)
    other = ItemLists.of_lists([[4, 1], [], [3, 0, 2]], 5)
    for name in ("indptr", "indices"):
        assert getattr(lists, name).tolist() == getattr(other, name).tolist()
    assert lists.rows([2, 1]).indices.tolist() == [0, 2, 3]
    assert lists.rows([2, 1]).indptr.tolist() == [0, 3, 3]
    assert lists.where([True, False, False, True, True]).indptr.tolist() == [0, 1, 1, 3]
    assert lists.owners.tolist() == [0, 0, 2, 2, 2]


NOTHING = ItemLists.of_lists([[]], 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("use", [lambda s: top_k(s, NOTHING, 2), lambda s: ranks_of(s, NOTHING, NOTHING)])
def test_a_score_that_is_no_number_breaks_the_check(bad, use):
    with pytest.raises(CheckBroken, match="NaN or infinity"):
        use([[0.0, bad, 1.0]])


@pytest.mark.parametrize(("call", "words"), [
    (lambda: ItemLists.of([0, 2], [1, 1], 3), "repeat or fall"),
    (lambda: ItemLists.of([0, 2], [2, 1], 3), "repeat or fall"),
    (lambda: ItemLists.of([0, 1, 3], [2, 1, 0], 3), "repeat or fall"),
    (lambda: ItemLists.of([0, 0, 2, 2], [2, 1], 3), "repeat or fall"),
    (lambda: ItemLists.of([0, 1], [3], 3), "out of range"),
    (lambda: ItemLists.of([0, 1], [-1], 3), "out of range"),
    (lambda: ItemLists.of([0, 2], [1], 3), "does not fit"),
    (lambda: ItemLists.of([], [], 3), "does not fit"),
    (lambda: ItemLists.of([0, 2, 1, 3], [0, 1, 2], 3), "falls"),
    (lambda: ItemLists.of([0, 1], [0.5], 3), "integers"),
    (lambda: ItemLists.of([0, 1], [[0]], 3), "integers"),
    (lambda: NOTHING.rows([-1]), "out of range"),
    (lambda: NOTHING.where([True]), "shape"),
    (lambda: ranks_of([[0.0, 1.0]], NOTHING, NOTHING), "shape"),
    (lambda: ranks_of([[0.0] * 3], NOTHING, ItemLists.of_lists([[], []], 3)), "same users"),
    (lambda: ranks_of([[0.0] * 3], ItemLists.of_lists([[1]], 3), ItemLists.of_lists([[0, 1]], 3)), "seen and held"),
    (lambda: top_k([[0.0] * 3], NOTHING, 4), "1 to I"),
    (lambda: top_k([[0.0] * 3], NOTHING, 0), "1 to I"),
    (lambda: ranks_in([[0, 0]], NOTHING), "twice"),
    (lambda: ranks_in([[0, 3]], NOTHING), "something else"),
    (lambda: ranks_in([[0], [1]], NOTHING), "same users"),
    (lambda: ndcg(ranks_in([[0, 1]], NOTHING), 3), "that deep"),
    (lambda: recall(ranks_in([[0, 1]], NOTHING), 0), "that deep"),
    (lambda: ndcg(ranks_in([[0, 1]], NOTHING), 2).mean, "no user"),
    (lambda: overlap([[0]], [[0, 1]], 3), "same users and length"),
    (lambda: overlap([[0], [0, 1]], [[0]], 3), "not an array"),
    (lambda: tie_order(0), "catalogue"),
])  # fmt: skip
def test_malformed_input_breaks_the_check(call, words):
    with pytest.raises(CheckBroken, match=words):
        call()
