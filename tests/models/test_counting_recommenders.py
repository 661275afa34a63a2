"""Counting recommenders: scores against dictionaries of sets, and deletions that end where a rebuild begins."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from expunge.core import registry
from expunge.core.errors import DataError, InputError, IntegrityError
from expunge.data._interactions import from_events
from expunge.models.recommenders.popularity import decayed
from expunge.models.recommenders.rp3beta import BITS
from expunge.testing.laws import examine
from expunge.testing.recommenders import FORGET, RECOMMENDER_LAWS, Subject
from expunge.testing.users import ITEMS, random_histories
from expunge.testing.world import tree_digest
from expunge.training.closed_form.counts import CountModel, CountRecommender
from expunge.training.closed_form.fixed_point import share
from expunge.training.closed_form.pairs import PairModel
from expunge.training.closed_form.toplists import LISTS
from expunge.training.recipe import parse_any_recipe
from oracle import counting

NOW, HALF_LIFE = 2 * 10**9, 400 * 86_400
VARIANTS = [
    ("itemknn", {}),
    ("itemknn", {"neighbours": 3, "shrink": 0}),
    ("itemknn", {"neighbours": 3, "shrink": 2}),
    ("itemknn", {"neighbours": 3, "shrink": 0, "similarity": "jaccard"}),
    ("itemknn", {"neighbours": 1, "shrink": 1, "similarity": "jaccard"}),
    ("covisitation", {"length": 3, "support": 1}),
    ("covisitation", {"length": 3, "support": 2, "normalisation": "lift"}),
    ("rp3beta", {}),
    ("rp3beta", {"alpha": "0.35", "beta": "0"}),
    ("popularity", {}),
    ("popularity", {"half_life_days": 400, "now": NOW}),
]
variants = pytest.mark.parametrize(("name", "given_settings"), VARIANTS)
listed = pytest.mark.parametrize(("name", "given_settings"), VARIANTS[:7])


def adapter_of(name, given_settings, items=ITEMS):
    plain = {"name": "t", "solver": "closed-form", "family": name, "model": given_settings}
    return registry.load("recommenders", name)(parse_any_recipe(plain), items=items)


def model_of(adapter, rows):
    """In memory, with lists (if any) that are not ranked yet."""
    sums = adapter.sums_of(rows)
    return PairModel(sums=sums, lists=adapter.lists(sums)) if hasattr(adapter, "lists") else CountModel(sums=sums)


def nothing(rows):
    return sparse.csr_matrix(rows.shape, dtype=rows.dtype)


def assert_same(model, other):
    assert model.sums.keys() == other.sums.keys()
    for name, values in model.sums.items():
        assert np.array_equal(values, other.sums[name]), name
        assert values.dtype == other.sums[name].dtype
    if isinstance(model, PairModel):
        for one in (model, other):
            one.lists.settle()
        assert np.array_equal(model.lists.columns, other.lists.columns)
        assert model.lists.values.tobytes() == other.lists.values.tobytes()


class Subjects(Subject):
    """A family with settings of ours."""

    chosen = {}  # noqa: RUF012

    @property
    def adapter(self):
        return adapter_of(self.name, self.chosen)


def subject_of(name, given_settings, folder):
    kind = type("Subjects", (Subjects,), {"chosen": given_settings})
    return kind(name=name, plugin=registry.load("recommenders", name), folder=folder)


# ------------------------------------------------------------------------------------------------------------- formulas


def twin_scores(name, given_settings, train, test):
    chosen = {**registry.load("recommenders", name).defaults, **given_settings}
    users, baskets = counting.baskets(train), counting.baskets(test)
    if name == "popularity":
        decay = {} if chosen["half_life_days"] == "none" else {"half_life": HALF_LIFE, "now": NOW}
        return [counting.popular(train, **decay)] * len(test)
    if name == "rp3beta":
        powers = {"alpha": float(chosen["alpha"]), "beta": float(chosen["beta"])}
        return [counting.walked(users, ITEMS, baskets[slot], **powers) for slot in range(len(test))]
    lists = twin_lists(name, chosen, users)
    return [counting.added_up(lists, baskets[slot], ITEMS) for slot in range(len(test))]


def twin_lists(name, chosen, users):
    words = ("similarity", "normalisation")
    plain = {key: value if key in words else int(value) for key, value in chosen.items()}
    return (counting.knn_lists if name == "itemknn" else counting.pair_lists)(users, ITEMS, **plain)


@variants
@pytest.mark.parametrize("seed", [0, 5])
def test_scores_are_those_of_loops_over_sets(name, given_settings, seed):
    train, test = random_histories(seed=seed), random_histories(10, seed=1)
    adapter = adapter_of(name, given_settings)
    found = adapter.outputs(model_of(adapter, adapter.matrix(train)), test.matrix())
    wanted = np.array(twin_scores(name, given_settings, train, test))
    assert found.dtype == np.float64
    assert found.shape == (10, ITEMS)
    assert wanted.max() > 0
    np.testing.assert_allclose(found, wanted, rtol=1e-6 if name == "popularity" else 1e-9, atol=1e-12)


@listed
@pytest.mark.parametrize("seed", range(4))
def test_lists_are_those_of_loops_over_sets_and_ties_go_to_the_smaller_item(name, given_settings, seed):
    train = random_histories(seed=seed, share=0.5)
    adapter = adapter_of(name, given_settings)
    lists = model_of(adapter, adapter.matrix(train)).lists
    chosen = {**adapter.defaults, **given_settings}
    for item, wanted in twin_lists(name, chosen, counting.baskets(train)).items():
        columns, values = lists.row(item)
        assert columns.tolist() == [column for column, _ in wanted]
        assert (np.diff(values) <= 0).all()


def test_similarities_that_are_equal_as_fractions_are_ties():
    """1 / sqrt(2) twice: of 1 user of 2 and 1, and of 3 users of 6 and 3; rounded square roots would tell them apart."""
    adapter = adapter_of("itemknn", {"shrink": 0})
    both, one, other = (np.array(column, float) for column in zip((1, 2, 1), (3, 6, 3), (3, 2, 9), strict=True))
    assert len(set(adapter.value(both, one, other).tolist())) == 1
    assert len(set((both / np.sqrt(one * other)).tolist())) == 2  # what this test would not see otherwise


def test_a_history_is_scored_alone_and_an_empty_one_scores_nothing():
    for name, given_settings in VARIANTS[:9]:
        adapter = adapter_of(name, given_settings)
        model, test = model_of(adapter, adapter.matrix(random_histories())), random_histories(10, seed=1).without([4])
        found = adapter.outputs(model, test.matrix())
        assert not found[4].any()
        assert found[3].tobytes() == adapter.outputs(model, test.matrix()[[3]])[0].tobytes()


@given(st.integers(1, 2_000_000), st.sampled_from(["1", "2", "0.5", "0.35", "1.99", "0.01"]))
@settings(max_examples=200, deadline=None)
def test_shares_are_rounded_down_exactly(degree, alpha):
    exact = Fraction(alpha)
    assert share(degree, exact, BITS) == counting.share(degree, exact)
    if alpha == "1":
        assert share(degree, exact, BITS) == 2**40 // degree


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=20), st.integers(1, 10**9))
@settings(max_examples=200, deadline=None)
def test_faded_weights_are_within_their_bound_and_whole_halvings_exact(ages, half_life):
    found = decayed(np.array(ages), half_life)
    for age, weight in zip(ages, found.tolist(), strict=True):
        wanted = counting.weight(age, half_life)
        assert float(wanted) - 21 <= weight <= float(wanted) * (1 + 7e-7)
    halvings = np.arange(40) * half_life
    assert decayed(halvings, half_life).tolist() == [2**31 >> n for n in range(40)]


# ------------------------------------------------------------------------------------------------------------ deletion


@st.composite
def small_worlds(draw):
    """Histories of up to 12 users over 7 items, popular ones among them, and an order in which some users leave."""
    baskets = draw(st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=12))
    pairs = [(user, item) for user, basket in enumerate(baskets) for item in sorted(basket)]
    times = draw(st.lists(st.integers(10**9, NOW), min_size=len(pairs), max_size=len(pairs)))
    user, item = np.array(pairs, np.int64).reshape(-1, 2).T
    names = [f"u{n}" for n in range(len(baskets))], [f"i{n}" for n in range(7)]
    train = from_events(*names, user, item, np.ones(len(pairs), int), np.array(times, np.int64))
    leavers = draw(st.lists(st.integers(0, len(baskets) - 1), unique=True))
    return train, draw(st.permutations(leavers))


@variants
@given(small_worlds(), st.data())
@settings(max_examples=60, deadline=None)
def test_users_who_leave_in_any_order_were_never_there(name, given_settings, world, data):
    train, leavers = world
    adapter = adapter_of(name, given_settings, items=7)
    rows = adapter.matrix(train)
    model = model_of(adapter, rows)
    for user in leavers:
        if data.draw(st.booleans()):  # lists are in any state when somebody leaves
            adapter.outputs(model, train.matrix()[data.draw(st.lists(st.integers(0, len(train) - 1), max_size=3))])
        adapter.erase(model, rows[[user]], nothing(rows[[user]]))
    assert_same(model, model_of(adapter, adapter.matrix(train.without(leavers))))


@variants
@given(small_worlds(), st.data())
@settings(max_examples=40, deadline=None)
def test_single_events_in_batches_of_users_can_go_and_come_back(name, given_settings, world, data):
    train, _ = world
    stays = np.array(data.draw(st.lists(st.booleans(), min_size=train.events, max_size=train.events)), bool)
    adapter = adapter_of(name, given_settings, items=7)
    before, after = adapter.matrix(train), adapter.matrix(train.keep(stays))
    model = model_of(adapter, before)
    adapter.outputs(model, train.matrix())
    adapter.erase(model, before, after)
    assert_same(model, model_of(adapter, after))
    adapter.erase(model, after, before)
    assert_same(model, model_of(adapter, before))


@variants
def test_a_time_window_of_one_user_goes(name, given_settings):
    train = random_histories()
    adapter = adapter_of(name, given_settings)
    kept = train.keep(~train.chosen([5], since=12 * 10**8, until=16 * 10**8))
    assert 0 < kept.events < train.events
    before, after = adapter.matrix(train), adapter.matrix(kept)
    model = model_of(adapter, before)
    adapter.erase(model, before[[5]], after[[5]])
    assert_same(model, model_of(adapter, after))


@variants
def test_downdated_folder_is_the_retrained_folder_byte_for_byte(name, given_settings, tmp_path):
    """Counts, identity and cache: not even the state of the lists tells that somebody left."""
    subject = subject_of(name, given_settings, tmp_path)
    result = subject.adapter.downdate(subject.job("downdated", FORGET), subject.original.model.parent, FORGET)
    assert result.digest == subject.retrained.digest != subject.original.digest
    assert tree_digest(result.model.parent) == tree_digest(subject.retrained.model.parent)
    assert subject.scores(result).tobytes() == subject.scores(subject.retrained).tobytes()


@variants
def test_laws_of_recommenders_hold_with_other_settings_too(name, given_settings, tmp_path):
    assert examine(RECOMMENDER_LAWS, subject_of(name, given_settings, tmp_path)) == ()


def test_universe_is_a_choice_of_users_too(tmp_path):
    subject = subject_of("itemknn", {}, tmp_path)
    others = tuple(sorted(set(range(30)) - FORGET))
    job = replace(subject.job("universe"), universe=others)
    assert subject.adapter.fit(job).digest == subject.retrained.digest


# ------------------------------------------------------------------------------------------------------- lists, cached


@listed
def test_lists_are_settled_before_they_are_written(name, given_settings, tmp_path):
    """A list that is missing from the file would say that a deleted user had the item."""
    subject = subject_of(name, given_settings, tmp_path)
    adapter, model = subject.adapter, subject.adapter.load(subject.original.model)
    rows = adapter.matrix(subject.data.train)[sorted(FORGET)]
    adapter.erase(model, rows, nothing(rows))
    assert not model.lists.fresh.all()
    adapter.save(tmp_path / "in-memory", model.sums, model.lists)
    assert tree_digest(tmp_path / "in-memory") == tree_digest(subject.retrained.model.parent)


@listed
def test_only_lists_that_changed_are_touched_and_only_the_users_own_are_ranked_anew(name, given_settings):
    train = random_histories(60, seed=3)
    adapter = adapter_of(name, given_settings)
    rows = adapter.matrix(train)
    model = model_of(adapter, rows)
    lists = model.lists
    lists.settle()
    old, ranked = (lists.columns.copy(), lists.values.copy()), lists.ranked
    user = int(np.argmin(np.diff(train.indptr)))
    items = rows[[user]].indices
    adapter.erase(model, rows[[user]], nothing(rows[[user]]))
    assert lists.ranked == ranked == ITEMS
    assert set(np.flatnonzero(~lists.fresh)) == set(items.tolist())
    assert not lists.values[items].any()
    assert (lists.columns[items] == -1).all()  # an emptied list holds nothing of the old one
    adapter.outputs(model, train.matrix()[[user]])
    assert lists.ranked == ITEMS + len(items)
    changed = (old[0] != lists.columns).any(1) | (old[1] != lists.values).any(1)
    changed[items] = False
    assert lists.repaired == changed.sum()


def test_a_list_that_lost_too_much_is_ranked_anew():
    """An item leaves a full list because its common users are gone: what comes in was not in the list."""
    baskets = {0: [0, 1], 1: [0, 1], 2: [0, 2], 3: [0, 3], 4: [1]}
    user, item = np.array([(u, i) for u, basket in baskets.items() for i in basket]).T
    names = [f"u{n}" for n in range(5)], [f"i{n}" for n in range(4)]
    train = from_events(*names, user, item, np.ones(len(user), int))
    adapter = adapter_of("covisitation", {"length": 1, "support": 1, "normalisation": "lift"}, items=4)
    rows = adapter.matrix(train)
    model = model_of(adapter, rows)
    assert model.lists.row(0)[0].tolist() == [2]
    stays = np.ones(train.events, bool)
    stays[train.span(2).start + 1] = False  # user 2 had 0 and 2, and takes back 2
    after = adapter.matrix(train.keep(stays))
    adapter.erase(model, rows, after)
    assert not model.lists.fresh[0]
    assert model.lists.row(0)[0].tolist() == [3]


def test_lists_come_from_the_cache_or_are_ranked_and_never_from_another_model(tmp_path):
    subject = subject_of("itemknn", {"neighbours": 3}, tmp_path)
    adapter, original, retrained = subject.adapter, subject.original, subject.retrained
    assert adapter.load(original.model).lists.fresh.all()
    wanted = subject.scores(original)
    cache = original.model.parent / LISTS
    cache.write_bytes((retrained.model.parent / LISTS).read_bytes())
    assert not adapter.load(original.model).lists.fresh.any()
    assert subject.scores(original).tobytes() == wanted.tobytes()
    cache.write_bytes(cache.read_bytes()[:-8])
    with pytest.raises(IntegrityError):
        adapter.load(original.model)
    cache.unlink()
    assert subject.scores(original).tobytes() == wanted.tobytes()


# ---------------------------------------------------------------------------------------------------- negative controls


@variants
def test_the_wrong_user_removed_is_told_apart_by_the_digest(name, given_settings, tmp_path):
    subject = subject_of(name, given_settings, tmp_path)
    right = subject.adapter.fit(subject.job("right", frozenset({3})))
    wrong = subject.adapter.downdate(subject.job("wrong", frozenset({3})), subject.original.model.parent, {4})
    assert wrong.digest != right.digest


@variants
def test_counts_that_were_not_updated_are_told_apart_by_the_digest(name, given_settings, tmp_path):
    subject = subject_of(name, given_settings, tmp_path)
    adapter = subject.adapter
    count = type(adapter).add
    adapter.add = lambda sums, rows, sign: count(adapter, sums, rows, sign) if sign > 0 else None
    stale = adapter.downdate(subject.job("stale", FORGET), subject.original.model.parent, FORGET)
    assert stale.digest == subject.original.digest != subject.retrained.digest


@pytest.mark.parametrize("name", ["itemknn", "covisitation", "rp3beta"])
def test_one_skipped_row_of_the_matrix_is_told_apart_by_the_digest(name, tmp_path):
    subject = subject_of(name, {}, tmp_path)
    adapter = subject.adapter
    count, matrix = type(adapter).add, next(n for n, kind in adapter.sums.items() if kind.axes == 2)

    def all_but_one(sums, rows, sign):
        row = int(rows.indices[0]) if rows.nnz and sign < 0 else None
        kept = None if row is None else sums[matrix][row].copy()
        count(adapter, sums, rows, sign)
        if row is not None:
            sums[matrix][row] = sums[matrix][:, row] = kept

    adapter.add = all_but_one
    skipped = adapter.downdate(subject.job("skipped", FORGET), subject.original.model.parent, FORGET)
    assert skipped.digest not in (subject.retrained.digest, subject.original.digest)


@listed
def test_lists_that_do_not_follow_their_counts_are_told_apart_by_their_bytes(name, given_settings, tmp_path):
    subject = subject_of(name, given_settings, tmp_path)
    adapter = subject.adapter
    adapter.erase = lambda model, before, after: CountRecommender.erase(adapter, model, before, after)
    stale = adapter.downdate(subject.job("stale", FORGET), subject.original.model.parent, FORGET)
    assert stale.digest == subject.retrained.digest
    assert tree_digest(stale.model.parent) != tree_digest(subject.retrained.model.parent)


@variants
def test_rows_that_are_not_in_the_counts_are_refused_and_nothing_changes(name, given_settings):
    train, stranger = random_histories(3, seed=8, share=0.2), random_histories(1, seed=2, share=0.9)
    adapter = adapter_of(name, given_settings)
    model, row = model_of(adapter, adapter.matrix(train)), adapter.matrix(stranger)
    with pytest.raises(InputError, match="does not hold"):
        adapter.erase(model, row, nothing(row))
    assert_same(model, model_of(adapter, adapter.matrix(train)))
    with pytest.raises(InputError, match="not the same users"):
        adapter.erase(model, row, adapter.matrix(train))


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "given_settings", "said"),
    [
        ("itemknn", {"similarity": "pearson"}, "unknown similarity"),
        ("itemknn", {"neighbours": 0}, "neighbours is out of range"),
        ("itemknn", {"neighbours": "2.5"}, "neighbours is no whole number"),
        ("itemknn", {"neighbours": True}, "neighbours is no number"),
        ("itemknn", {"shrink": -1}, "shrink is out of range"),
        ("itemknn", {"topk": 5}, "unknown settings of family itemknn"),
        ("covisitation", {"normalisation": "cosine"}, "unknown normalisation"),
        ("covisitation", {"support": 0}, "support is out of range"),
        ("covisitation", {"length": "many"}, "length is no number"),
        ("rp3beta", {"alpha": 0}, "alpha is out of range"),
        ("rp3beta", {"alpha": "0.123"}, "too many decimals"),
        ("rp3beta", {"alpha": "nan"}, "alpha is out of range"),
        ("rp3beta", {"beta": "-0.1"}, "beta is out of range"),
        ("rp3beta", {"beta": "1e999999999"}, "beta is out of range"),
        ("popularity", {"half_life_days": 30}, "`now`"),
        ("popularity", {"half_life_days": 0, "now": NOW}, "half_life_days is out of range"),
        ("popularity", {"half_life_days": "0.000001", "now": NOW}, "a second or more"),
        ("popularity", {"half_life_days": "soon", "now": NOW}, "half_life_days is no number"),
        ("popularity", {"now": "yesterday"}, "now is no number"),
    ],
)
def test_bad_settings_are_typed_errors_that_name_the_setting(name, given_settings, said):
    with pytest.raises(InputError, match=said):
        adapter_of(name, given_settings)


def test_a_recipe_of_another_family_is_refused():
    plain = {"name": "t", "solver": "closed-form", "family": "popularity"}
    with pytest.raises(InputError, match="another family"):
        registry.load("recommenders", "itemknn")(parse_any_recipe(plain), items=ITEMS)


def test_too_many_users_or_items_for_the_fixed_point_are_refused():
    with pytest.raises(InputError, match="no weight"):
        adapter_of("rp3beta", {"alpha": "2"}, items=2**20)
    adapter = adapter_of("rp3beta", {})
    rows = adapter.matrix(random_histories())
    sums = adapter.sums_of(rows)
    sums["degrees"][0] = 2**23
    held = {name: values.copy() for name, values in sums.items()}
    with pytest.raises(InputError, match="too many users"):
        adapter.add(sums, rows, 1)
    assert all(np.array_equal(values, held[name]) for name, values in sums.items())


def test_a_decay_needs_times_up_to_now():
    train = random_histories()
    with pytest.raises(DataError, match="no times"):
        adapter_of("popularity", {"half_life_days": 30, "now": NOW}).matrix(replace(train, times=None))
    with pytest.raises(DataError, match="later than now"):
        adapter_of("popularity", {"half_life_days": 30, "now": 10**9}).matrix(train)


def test_another_now_changes_no_order():
    train, orders = random_histories(200, seed=4), []
    for now in (NOW, NOW + HALF_LIFE):
        adapter = adapter_of("popularity", {"half_life_days": 400, "now": now})
        orders.append(np.argsort(adapter.outputs(model_of(adapter, adapter.matrix(train)), train.matrix()[[0]])[0]))
    assert np.array_equal(*orders)


@pytest.mark.parametrize("name", ["itemknn", "covisitation", "rp3beta"])
def test_values_are_refused_where_users_are_counted(name):
    adapter = adapter_of(name, {})
    with pytest.raises(InputError, match="counts users"):
        adapter.sums_of(random_histories().matrix("rating"))


@variants
def test_histories_over_other_items_are_refused(name, given_settings):
    adapter = adapter_of(name, given_settings)
    model = model_of(adapter, adapter.matrix(random_histories()))
    with pytest.raises(InputError, match="other items"):
        adapter.outputs(model, random_histories(items=ITEMS - 1).matrix())


@variants
def test_foreign_files_are_refused(name, given_settings, tmp_path):
    subject = subject_of(name, given_settings, tmp_path)
    file = subject.original.model
    with pytest.raises(IntegrityError, match="not counts"):
        adapter_of(name, given_settings, items=ITEMS + 1).load(file)
    for other, chosen in VARIANTS:
        if (other, chosen) != (name, given_settings):
            with pytest.raises(IntegrityError, match="not of this family"):
                adapter_of(other, chosen).load(file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(IntegrityError):
        subject.adapter.load(file)
