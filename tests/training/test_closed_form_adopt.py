"""Taking over a linear recommender: P and the integer Gram matrix come back from B exactly, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from expunge.core.errors import DataError
from expunge.training.closed_form import adopt as module
from expunge.training.closed_form.adopt import Adopted, adopt


def interactions(users=300, items=40, *, seed=0, values=(1,)):
    """(U, I) int64, popular and rare items; nobody has an item twice."""
    rng = np.random.default_rng(seed)
    seen = rng.random((users, items)) < np.geomspace(0.4, 0.03, items)
    return (rng.choice(values, (users, items)) * seen).astype(np.int64)


def trained(x, lam, dtype=np.float64):
    """P and B by their definitions: the inverse in float64, B rounded to dtype."""
    inverse = np.linalg.inv(x.T @ x + lam * np.eye(x.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return inverse, weights.astype(dtype)


def refused(weights, lam, counts=None, *words):
    with pytest.raises(DataError) as caught:
        adopt(weights, lam, counts)
    assert caught.value.code == "not-closed-form"
    said = " ".join(caught.value.lines())
    for word in words:
        assert word in said, said
    return said


def slow_twin(weights, lam, counts):
    """The same by the book: one row of ratios instead of all pairs, a dense inverse, a loop over pairs."""
    items = len(weights)
    first = np.array([1.0] + [weights[j, 0] / weights[0, j] for j in range(1, items)])
    inverse = np.zeros((items, items))
    for i in range(items):
        for j in range(items):
            inverse[i, j] = first[i] if i == j else -weights[i, j] * first[j]
    scale = np.mean(np.diag(np.linalg.inv(inverse)) / (lam + counts))
    return inverse * scale


# --------------------------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("lam", [1.0, 37.5, 500.0])
@pytest.mark.parametrize("values", [(1,), (1, 2, 3, 4, 5)])
def test_float64_weights_give_the_gram_matrix_and_p(lam, values, known):
    x = interactions(values=values)
    inverse, weights = trained(x, lam)
    found = adopt(weights, lam, np.diag(x.T @ x) if known else None)
    assert np.array_equal(found.gram, x.T @ x)
    assert found.gram.dtype == np.int64
    assert np.abs(found.inverse - inverse).max() <= 1e-12 * inverse.max()
    assert found.fit.inverse_error < 1e-11  # P as it is read from B, before it is inverted anew
    assert found.fit.asymmetry < 1e-12
    assert found.fit.distance < 1e-6
    assert found.fit.components == 1
    assert np.array_equal(found.inverse, found.inverse.T)


@pytest.mark.parametrize("known", [True, False])
def test_float32_weights_give_the_same_p_as_float64(known):
    x = interactions(values=(1, 2, 3))
    inverse, weights = trained(x, 20.0, np.float32)
    found = adopt(weights, 20.0, np.diag(x.T @ x) if known else None)
    assert np.array_equal(found.gram, x.T @ x)
    assert np.abs(found.inverse - inverse).max() <= 1e-12 * inverse.max()
    assert 1e-9 < found.fit.inverse_error < 1e-6
    assert found.fit.weights_error < 1e-7


def test_a_model_inverted_in_float32():
    """As LensKit and RecBole do it."""
    x = interactions()
    inverse = np.linalg.inv((x.T @ x + 10.0 * np.eye(40)).astype(np.float32))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    assert weights.dtype == np.float32
    found = adopt(weights, 10.0, np.diag(x.T @ x))
    assert np.array_equal(found.gram, x.T @ x)
    assert 0 < found.fit.distance < 0.01
    assert found.fit.weights_error <= found.fit.weights_limit


def test_it_agrees_with_the_slow_twin():
    x = interactions(items=12)
    inverse, weights = trained(x, 7.0)
    twin = slow_twin(weights, 7.0, np.diag(x.T @ x))
    assert np.abs(twin - inverse).max() < 1e-12 * inverse.max()
    assert np.abs(adopt(weights, 7.0, np.diag(x.T @ x)).inverse - twin).max() < 1e-12 * inverse.max()


def test_the_deleted_user_is_taken_out_as_by_training_without_them():
    """What adoption is for: subtract one user's outer product from the recovered Gram matrix."""
    x = interactions()
    _, weights = trained(x, 20.0, np.float32)
    gram = adopt(weights, 20.0, np.diag(x.T @ x)).gram - np.outer(x[3], x[3])
    without = np.delete(x, 3, axis=0)
    assert np.array_equal(gram, without.T @ without)


def test_the_fit_says_what_the_counts_imply():
    x = interactions()
    _, weights = trained(x, 20.0, np.float32)
    fit = adopt(weights, 20.0, np.diag(x.T @ x)).fit
    assert abs(fit.regularisation - 20) < 1e-4
    assert fit.count_deviation < 1e-3
    assert adopt(weights, 20.0).fit.count_deviation is None
    assert adopt(weights, 20.0).fit.regularisation is None


def test_neither_the_weights_nor_the_counts_are_written_to():
    x = interactions()
    _, weights = trained(x, 20.0)
    counts = np.diag(x.T @ x).copy()
    weights.setflags(write=False)
    counts.setflags(write=False)
    adopt(weights, 20.0, counts)
    adopt(np.asfortranarray(weights), 20.0, counts)
    assert adopt(weights, 20.0, counts.astype(np.float64)).gram[0, 0] == counts[0]


# ----------------------------------------------------------------------------------- items that never occur together


def test_groups_of_items_that_never_meet():
    first, second = interactions(items=9, seed=1), interactions(items=14, seed=2)
    x = np.zeros((600, 25), np.int64)  # two of the items nobody has
    x[:300, :9], x[300:, 9:23] = first, second
    x = x[:, np.random.default_rng(3).permutation(25)]
    inverse, weights = trained(x, 5.0)
    found = adopt(weights, 5.0, np.diag(x.T @ x))
    assert found.fit.components == 4
    assert np.array_equal(found.gram, x.T @ x)
    assert np.abs(found.inverse - inverse).max() < 1e-12 * inverse.max()
    refused(weights, 5.0, None, "2 items are in groups of fewer than 6", "item_counts")


def test_groups_without_single_items_need_no_counts():
    x = np.kron(np.eye(2, dtype=np.int64), interactions(items=9))
    _, weights = trained(x, 5.0)
    found = adopt(weights, 5.0)
    assert found.fit.components == 2
    assert np.array_equal(found.gram, x.T @ x)


@pytest.mark.parametrize("lam", [0.5, 200.0, 2000.0])
def test_two_items_of_two_users(lam):
    x = np.array([[1, 1], [1, 0]])
    _, weights = trained(x, lam)
    assert np.array_equal(adopt(weights, lam, [2, 1]).gram, x.T @ x)
    refused(weights, lam, None, "2 items are in groups of fewer than 6")


def test_one_item_and_items_nobody_has():
    assert adopt(np.zeros((1, 1)), 4.0, [6]).inverse == pytest.approx(np.array([[0.1]]))
    found = adopt(np.zeros((3, 3), np.float32), 4.0, [0, 1, 6])
    assert np.array_equal(found.gram, np.diag([0, 1, 6]))


# ------------------------------------------------------------------------------------------- what is not of that form


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_that_were_changed_after_training(dtype, known):
    x = interactions()
    _, weights = trained(x, 5.0, dtype)
    counts = np.diag(x.T @ x) if known else None
    cut = np.maximum(weights, 0)
    refused(cut, 5.0, counts, "negatives were cut", "posB=False")
    pruned = weights.copy()
    order = np.argsort(-np.abs(pruned), axis=0)
    np.put_along_axis(pruned, order[10:], 0, axis=0)
    refused(pruned, 5.0, counts, "on one side only", "pruned")
    thresholded = weights.copy()
    thresholded[np.minimum(np.abs(weights), np.abs(weights.T)) < np.median(np.abs(weights))] = 0
    refused(thresholded, 5.0, counts, "thresholded")
    sparsified = weights * (np.abs(weights) > 0.01)
    refused(sparsified, 5.0, counts)
    refused(weights.astype(np.float16).astype(dtype), 5.0, counts)
    refused(weights + weights.T, 5.0, counts)
    refused(weights.T.copy(), 5.0, counts)
    refused(weights * dtype(1.01), 5.0, counts)
    refused(np.roll(weights, 1, axis=0) * (1 - np.eye(40, dtype=dtype)), 5.0, counts)


def test_every_gate_says_what_it_found(monkeypatch):
    x = interactions()
    _, weights = trained(x, 5.0)
    counts = np.diag(x.T @ x).copy()
    refused(np.tril(weights) + np.triu(weights) * 0.9, 5.0, counts, "is not symmetric")
    refused(np.maximum(weights, 0), 5.0, counts, "P is not positive definite")
    counts[7] += 1
    monkeypatch.setattr(module, "_implied", lambda *_: None)
    refused(weights, 5.0, counts, "is not the item counts", "at most 0.25 apart")
    refused(weights, 5.3, np.diag(x.T @ x), "is not whole numbers")
    refused(weights, 5.01, np.diag(x.T @ x), "has other weights")
    stars = interactions(values=(1, 2, 3)) / 2
    refused(trained(stars, 5.0)[1], 5.0, np.rint(np.diag(stars.T @ stars)), "is not whole numbers")
    refused(trained(np.ones((3, 6)), 5.0)[1], 7.0, None, "occur together more often than either does")


def test_more_pairs_than_a_chain_of_the_strongest_make_p_more_exact(monkeypatch):
    """Least squares over all pairs against the spanning forest alone, before anything is rounded to whole numbers."""
    x = interactions(users=2000, items=120)
    _, weights = trained(x, 20.0, np.float32)
    of_all = adopt(weights, 20.0, np.diag(x.T @ x)).fit
    monkeypatch.setattr(module, "_least_squares", lambda given, strength, logs, label: logs)
    of_chain = adopt(weights, 20.0, np.diag(x.T @ x)).fit
    assert of_all.inverse_error < of_chain.inverse_error / 2
    assert of_all.asymmetry <= of_chain.asymmetry


@pytest.mark.parametrize("known", [True, False])
def test_one_weight_that_was_changed(known):
    x = interactions()
    _, weights = trained(x, 5.0)
    counts = np.diag(x.T @ x) if known else None
    for value in (0.0, weights[3, 4] * (1 + 1e-4), -weights[3, 4]):
        one = weights.copy()
        one[3, 4] = value
        refused(one, 5.0, counts)
    both = weights.copy()
    both[3, 4] = both[4, 3] = 0
    refused(both, 5.0, counts)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lam", [1.0, 4.0, 4.99, 5.01, 6.0, 100.0])
def test_another_regularisation_with_counts(lam, dtype):
    x = interactions()
    _, weights = trained(x, 5.0, dtype)
    refused(weights, lam, np.diag(x.T @ x), "another regularisation", "got:      5")


@pytest.mark.parametrize("lam", [1.5, 4.5, 5.01, 5.5, 99.7])
def test_another_regularisation_without_counts(lam):
    _, weights = trained(interactions(), 5.0)
    refused(weights, lam)


def test_a_regularisation_that_is_off_by_a_whole_number_shifts_the_counts_and_not_p():
    """B of (G, 5) and of (G + 2 I, 3) are one matrix; only counts can tell."""
    x = interactions()
    inverse, weights = trained(x, 5.0)
    found = adopt(weights, 3.0)
    assert np.array_equal(found.gram, x.T @ x + 2 * np.eye(40, dtype=int))
    assert np.abs(found.inverse - inverse).max() < 1e-12 * inverse.max()
    refused(weights, 3.0, np.diag(x.T @ x))


def test_a_regularisation_so_large_that_counts_would_be_too_small():
    x = interactions(users=30)
    _, weights = trained(x, 5.0)
    refused(weights, 5.0 + np.diag(x.T @ x).min())


def test_other_counts():
    x = interactions()
    _, weights = trained(x, 5.0)
    counts = np.diag(x.T @ x).copy()
    refused(weights, 5.0, counts + 1)
    refused(weights, 5.0, counts * 2)
    refused(weights, 5.0, counts[::-1])
    counts[7] += 1
    refused(weights, 5.0, counts)


def test_values_that_are_not_whole_numbers_and_halves_that_were_doubled():
    x = interactions(values=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
    stars = x / 2
    _, weights = trained(stars, 5.0)
    refused(weights, 5.0, np.rint(np.diag(stars.T @ stars)))
    assert np.array_equal(adopt(weights, 4 * 5.0, np.diag(x.T @ x)).gram, x.T @ x)
    weighted = x * np.random.default_rng(0).uniform(0.5, 1.5, x.shape)
    refused(trained(weighted, 5.0)[1], 5.0)


def test_more_than_whole_numbers_can_hold_is_not_whole():
    """Every float64 above 2^52 is a whole number, which proves nothing."""
    x = interactions(items=6) * 2**28
    _, weights = trained(x, 1.0)
    refused(weights, 1.0, np.minimum(np.diag(x.T @ x), 2**51), "whole numbers", "got:      inf")


@pytest.mark.parametrize(
    "weights",
    [
        np.zeros((3, 4)),
        np.zeros(9),
        np.zeros((0, 0)),
        np.zeros((2, 2, 2)),
        np.zeros((3, 3), np.float16),
        np.zeros((3, 3), np.longdouble),
        np.zeros((3, 3), complex),
        np.zeros((3, 3), int),
        np.zeros((3, 3), object),
        np.eye(3),
        np.full((3, 3), np.nan),
        np.array([[0, np.inf], [1, 0]]),
        np.array([[0, 1e300], [1e300, 0]]),
        "weights",
        None,
    ],
)
def test_what_is_no_matrix_of_weights(weights):
    refused(weights, 5.0)


@pytest.mark.parametrize("lam", [0.0, -1.0, np.nan, np.inf])
def test_what_is_no_regularisation(lam):
    refused(trained(interactions(items=5), 5.0)[1], lam)


@pytest.mark.parametrize(
    "counts",
    [
        np.ones(4),
        np.ones((5, 1)),
        np.full(5, -1),
        np.full(5, 0.5),
        np.full(5, np.nan),
        np.full(5, 1e300),
        list("abcde"),
    ],
)
def test_what_are_no_counts(counts):
    refused(trained(interactions(items=5), 5.0)[1], 5.0, counts)


def test_more_items_than_fit_into_memory(monkeypatch):
    monkeypatch.setattr(module, "MAX_ITEMS", 4)
    refused(trained(interactions(items=5), 5.0)[1], 5.0)


# ------------------------------------------------------------------------------------------------------------ any data


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(2, 60),
    users=st.integers(2, 80),
    density=st.floats(0.02, 0.9),
    lam=st.sampled_from([0.5, 1.0, 3.25, 10.0, 200.0, 1000.0]),
    largest=st.integers(1, 10),
    single=st.booleans(),
)
def test_any_integer_data_comes_back(seed, items, users, density, lam, largest, single):
    rng = np.random.default_rng(seed)
    x = rng.integers(1, largest + 1, (users, items)) * (rng.random((users, items)) < density)
    inverse, weights = trained(x, lam, np.float32 if single else np.float64)
    try:
        found = adopt(weights, lam, np.diag(x.T @ x))
    except DataError:
        assert single  # float32 may lose what large values and a small λ need; then it says so
        return
    assert np.array_equal(found.gram, x.T @ x)
    assert np.abs(found.inverse - inverse).max() <= 1e-9 * inverse.max()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(1, 12),
    scale=st.sampled_from([1e-300, 1e-30, 1e-3, 0.1, 1.0, 1e6, 1e15]),
    density=st.floats(0, 1),
    symmetric=st.booleans(),
    known=st.booleans(),
    single=st.booleans(),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_any_matrix_is_adopted_or_refused(seed, items, scale, density, symmetric, known, single):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(items, items)) * scale * (rng.random((items, items)) < density)
    weights = (weights + weights.T if symmetric else weights) * (1 - np.eye(items))
    try:
        found = adopt(
            weights.astype(np.float32 if single else np.float64), 3.0, rng.integers(0, 9, items) if known else None
        )
    except DataError:
        return
    assert isinstance(found, Adopted)
    assert np.isfinite(found.inverse).all()


@pytest.mark.shared
def test_ml_latest_small_from_float32(shared):
    """The 1,297 items that 20 or more of the 610 users rated: every co-occurrence comes back."""
    rows = np.loadtxt(shared / "ml-latest-small" / "ratings.csv", delimiter=",", skiprows=1, usecols=(0, 1), dtype=int)
    user, item = (np.unique(column, return_inverse=True)[1] for column in rows.T)
    x = sparse.csr_matrix((np.ones(len(rows), np.int64), (user, item)))
    x = x[:, np.flatnonzero(np.bincount(item) >= 20)].toarray()
    exact = adopt(trained(x, 200.0)[1], 200.0, np.diag(x.T @ x)).fit
    assert exact.asymmetry < 1e-14  # conjugate gradients must not drift along what the sum does not see
    assert exact.inverse_error < 1e-12
    inverse, weights = trained(x, 200.0, np.float32)
    for counts in (np.diag(x.T @ x), None):
        found = adopt(weights, 200.0, counts)
        assert np.array_equal(found.gram, x.T @ x)
        assert np.abs(found.inverse - inverse).max() < 1e-12 * inverse.max()
