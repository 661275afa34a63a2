import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.ranking import ItemLists, PerUser, ndcg, ranks_of, recall, top_k
from expunge.stats.ranking_difference import differences
from expunge.stats.ranking_quality import (
    RankingTally,
    activity_gap,
    by_items,
    by_users,
    coverage,
    exposure,
    gini,
    novelty,
    quantile_segments,
)

KS = (3, 10)


def world(users=40, items=60, seed=0):
    """Scores with ties, fold-in and held-out items; every fifth user has nothing held out."""
    rng = np.random.default_rng(seed)
    picked = [rng.choice(items, 12, replace=False) for _ in range(users)]
    seen = ItemLists.of_lists([row[:8].tolist() for row in picked], items)
    held = ItemLists.of_lists([[] if n % 5 == 0 else row[8:].tolist() for n, row in enumerate(picked)], items)
    return np.round(rng.normal(size=(users, items)), 1), seen, held


def filled(scores, seen, held, batches):
    tally = RankingTally(seen, held, KS)
    for users in batches:
        tally.add(users, scores[users])
    return tally


@pytest.mark.parametrize("size", [1, 7, 40])
def test_batches_in_any_size_and_order_give_what_one_table_gives(size):
    scores, seen, held = world()
    order = np.random.default_rng(size).permutation(40)
    tally = filled(scores, seen, held, [order[start : start + size] for start in range(0, 40, size)])
    whole = ranks_of(scores, seen, held)
    for k in KS:
        for mine, slow in ((tally.ndcg(k), ndcg(whole, k)), (tally.recall(k), recall(whole, k))):
            assert mine.values.tolist() == slow.values.tolist()
            assert mine.users.tolist() == slow.users.tolist()
            assert mine.left_out == 8
        assert tally.lists(k).tolist() == top_k(scores, seen, k).tolist()
        shown = [sum(item in row for row in top_k(scores, seen, k).tolist()) for item in range(60)]
        assert tally.exposure(k).tolist() == shown


def test_the_tally_never_holds_more_than_a_few_batches():
    users, items, size = 1000, 4000, 20
    rng = np.random.default_rng(0)
    seen = ItemLists.of_lists([[0]] * users, items)
    held = ItemLists.of_lists([[1 + n % 50] for n in range(users)], items)
    tracemalloc.start()
    tally = RankingTally(seen, held, (10,))
    for start in range(0, users, size):
        tally.add(np.arange(start, start + size), rng.normal(size=(size, items)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 <= tally.ndcg(10).mean < 0.1
    assert peak < 8 * 8 * size * items < 8 * users * items / 6


def test_a_lists_copy_cannot_change_the_tally():
    scores, seen, held = world()
    tally = filled(scores, seen, held, [np.arange(40)])
    before = tally.ndcg(3).mean
    tally.lists(3)[:] = 0
    assert tally.ndcg(3).mean == before


def test_an_unfinished_or_doubled_tally_gives_no_metric():
    scores, seen, held = world()
    tally = RankingTally(seen, held, KS)
    tally.add([1, 2], scores[[1, 2]])
    with pytest.raises(CheckBroken, match="not every test user"):
        tally.ndcg(3)
    for twice in ([2, 3], [4, 4]):
        with pytest.raises(CheckBroken, match="twice"):
            tally.add(twice, scores[twice])
    tally.add([u for u in range(40) if u not in (1, 2)], scores[[u for u in range(40) if u not in (1, 2)]])
    with pytest.raises(CheckBroken, match="not asked for"):
        tally.recall(4)
    assert 0 < tally.recall(10).mean < 1


def test_a_broken_batch_leaves_the_tally_as_it_was():
    scores, seen, held = world()
    tally = RankingTally(seen, held, KS)
    with pytest.raises(CheckBroken, match="NaN"):
        tally.add([0], np.full((1, 60), np.nan))
    tally.add(np.arange(40), scores)
    assert tally.ndcg(10).mean == ndcg(ranks_of(scores, seen, held), 10).mean


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(2, 5))
def test_segments_never_part_equal_amounts_and_grow_with_the_amount(amounts, groups):
    found = quantile_segments(amounts, groups).tolist()
    ordered = sorted(amounts)
    edges = [ordered[-(-g * len(amounts) // groups) - 1] for g in range(1, groups)]  # smallest value with F >= g/groups
    assert found == [sum(edge < amount for edge in edges) for amount in amounts]
    for a, one in zip(amounts, found, strict=True):
        assert all((a < b) <= (one <= two) and (a == b) <= (one == two) for b, two in zip(amounts, found, strict=True))


def test_distinct_amounts_make_equal_deciles():
    amounts = np.random.default_rng(0).permutation(200)
    assert np.bincount(quantile_segments(amounts, 10)).tolist() == [20] * 10


def test_segments_of_users_part_the_metric_and_count_those_left_out():
    scores, seen, held = world()
    found, segment = ndcg(ranks_of(scores, seen, held), 10), np.arange(40) % 3
    parts = by_users(found, segment, 3)
    for number, part in enumerate(parts):
        mine = [n for n, user in enumerate(found.users) if user % 3 == number]
        assert part.values.tolist() == found.values[mine].tolist()
        assert part.left_out == sum(1 for user in range(40) if user % 3 == number and user % 5 == 0)
    assert sum(part.values.sum() for part in parts) == pytest.approx(found.values.sum())


@pytest.mark.parametrize("metric", [ndcg, recall])
def test_segments_of_items_keep_the_places_of_the_whole_catalogue(metric):
    scores, seen, held = world()
    segment, k = np.arange(60) % 2, 10
    whole = ranks_of(scores, seen, held)
    for number, part in enumerate(by_items(whole, segment, 2, k, metric)):
        expected = {}
        for user in range(40):
            ranks = [
                r
                for r, u, c in zip(whole.ranks, held.owners, held.indices, strict=True)
                if u == user and c % 2 == number
            ]
            if ranks and metric is ndcg:
                ideal = sum(1 / np.log2(n + 2) for n in range(min(k, len(ranks))))
                expected[user] = sum(1 / np.log2(r + 1) for r in ranks if r <= k) / ideal
            elif ranks:
                expected[user] = sum(r <= k for r in ranks) / min(k, len(ranks))
        assert part.users.tolist() == list(expected)
        assert part.values == pytest.approx(list(expected.values()))
        assert part.left_out == 40 - len(expected)


def test_a_model_that_only_knows_popular_items_is_found_out_by_the_segments():
    rng, users, items = np.random.default_rng(1), 200, 100
    held = ItemLists.of_lists([sorted(rng.choice(items, 10, False).tolist()) for _ in range(users)], items)
    nothing, popularity = ItemLists.of_lists([[]] * users, items), np.arange(items)
    found = ranks_of(np.tile(popularity.astype(float), (users, 1)), nothing, held)
    tail, head = by_items(found, quantile_segments(popularity, 2), 2, 20)
    assert tail.mean == 0.0
    assert head.mean > 0.2


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=25).filter(any))
def test_gini_is_the_mean_difference_between_two_items(counts):
    c = np.array(counts, float)
    apart = np.abs(c[:, None] - c[None, :]).sum() / (c.size * (c.size - 1))
    assert gini(counts) == pytest.approx(apart / (2 * c.mean()))
    assert coverage(counts) == pytest.approx(np.mean([x > 0 for x in counts]))


def test_gini_and_coverage_at_their_ends():
    assert gini([5, 5, 5, 5]) == 0.0
    assert gini([0, 0, 0, 7]) == 1.0
    assert coverage([0, 0, 0, 7]) == 0.25
    assert coverage([0, 0]) == 0.0


def test_novelty_is_the_mean_information_of_every_place_shown():
    lists = np.array([[0, 1], [0, 2], [1, -1]])
    popularity = [7, 3, 0]
    bits = {item: -np.log2((popularity[item] + 1) / 8) for item in range(3)}
    places = [item for row in lists.tolist() for item in row if item >= 0]
    assert novelty(exposure(lists, 3), popularity, 7) == pytest.approx(np.mean([bits[i] for i in places]))
    assert novelty([4, 0, 0], popularity, 7) == 0.0
    assert novelty([0, 0, 4], popularity, 7) == 3.0


def gapped(rng, gap):
    """300 users in 3 segments of activity; the most active are served better by `gap`."""
    segment = np.arange(300) % 3
    values = rng.normal(0.4, 0.1, 300) + gap * (segment == 2)
    return PerUser(values=values, users=np.arange(300), left_out=0), segment


def test_the_activity_gap_is_a_welch_difference_of_the_outer_segments():
    found, segment = gapped(np.random.default_rng(2), 0.1)
    gap = activity_gap(found, segment, 3)
    high, low = found.values[segment == 2], found.values[segment == 0]
    theirs = stats.ttest_ind(high, low, equal_var=False).confidence_interval(0.95)
    assert (gap.gap.low, gap.gap.high) == pytest.approx(tuple(theirs))
    assert gap.gap.estimate == pytest.approx(high.mean() - low.mean())
    assert (gap.n_least, gap.n_most) == (100, 100)
    assert gap.gap.low > 0
    assert gap.most - gap.least == pytest.approx(gap.gap.estimate)


def test_the_gap_of_differences_is_the_change_of_the_gap():
    rng = np.random.default_rng(3)
    (before, segment), (after, _) = gapped(rng, 0.0), gapped(rng, 0.1)
    change = activity_gap(differences(after, before), segment, 3).gap.estimate
    gaps = [activity_gap(found, segment, 3).gap.estimate for found in (after, before)]
    assert change == pytest.approx(gaps[0] - gaps[1])


def test_a_fair_model_and_an_empty_segment_are_not_called_unfair():
    rng, wrong = np.random.default_rng(4), 0
    for _ in range(300):
        gap = activity_gap(*gapped(rng, 0.0), 3).gap
        wrong += gap.low > 0 or gap.high < 0
    assert wrong / 300 < 0.1
    found, segment = gapped(rng, 0.5)
    none = activity_gap(found, np.minimum(segment, 1), 3)
    assert (none.gap.estimate, none.gap.low, none.most) == (None, None, None)
    assert "2 in each" in none.gap.reason
    flat = PerUser(values=np.full(300, 0.5), users=np.arange(300), left_out=0)
    assert (activity_gap(flat, segment, 3).gap.low, activity_gap(flat, segment, 3).gap.high) == (0.0, 0.0)


LISTS = ItemLists.of_lists([[0], [1]], 3)
EMPTY = ItemLists.of_lists([[], []], 3)
FOUND = PerUser(values=np.array([0.5]), users=np.array([1]), left_out=1)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: RankingTally(LISTS, LISTS, (1,)), "seen and held"),
    (lambda: RankingTally(EMPTY, ItemLists.of_lists([[0]], 3), (1,)), "same users"),
    (lambda: RankingTally(EMPTY, LISTS, ()), "list lengths"),
    (lambda: RankingTally(EMPTY, LISTS, (4,)), "list lengths"),
    (lambda: RankingTally(EMPTY, LISTS, (1,)).add([2], [[0.0] * 3]), "out of range"),
    (lambda: RankingTally(EMPTY, LISTS, (1,)).add([0, 1], [[0.0] * 3]), "shape"),
    (lambda: quantile_segments([], 2), "2 segments"),
    (lambda: quantile_segments([1.0], 1), "2 segments"),
    (lambda: by_users(FOUND, [0], 2), "every test user"),
    (lambda: by_users(FOUND, [0, 2], 2), "segment numbers"),
    (lambda: gini([1]), "two items"),
    (lambda: gini([0, 0]), "something shown"),
    (lambda: coverage([-1, 0]), "count of each"),
    (lambda: coverage([]), "count of each"),
    (lambda: novelty([0, 0], [1, 1], 3), "same items"),
    (lambda: novelty([1, 0], [4, 1], 3), "same items"),
    (lambda: novelty([1, 0], [1], 3), "same items"),
    (lambda: activity_gap(FOUND, [0, 1], 2, alpha=0.0), "alpha"),
])  # fmt: skip
def test_malformed_input_breaks_the_check(call, words):
    with pytest.raises(CheckBroken, match=words):
        call()
