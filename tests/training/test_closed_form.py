"""Gram, inverse and erasure of linear recommenders against dense linear algebra that anybody can read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from expunge.core.errors import InputError
from expunge.testing.users import random_histories
from expunge.training.closed_form.erase import erase_items, erase_rows
from expunge.training.closed_form.gram import (
    add_rows,
    from_triangle,
    gram_of,
    mirror,
    probe_bits,
    product,
    same_gram,
    triangle,
)
from expunge.training.closed_form.inverse import change, dual_inverse, inverse_of, leverage, residual, without_items
from expunge.training.closed_form.model import LinearModel, left_out_residuals

LAM = 5.0


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def histories(seed=0, users=25, items=15):
    return random_histories(users, items, seed=seed)


def slow_gram(rows):
    dense = rows.toarray()
    gram = np.zeros((dense.shape[1],) * 2, np.int64)
    for x in dense:
        for i, first in enumerate(x):
            for j, second in enumerate(x):
                gram[i, j] += first * second
    return gram


def slow_inverse(gram, lam=LAM):
    return np.linalg.inv(gram.astype(float) + lam * np.eye(len(gram)))


def slow_ease(gram, lam=LAM):
    """Steck 2019, equation 8, as printed."""
    p = slow_inverse(gram, lam)
    return np.array([[0 if i == j else -p[i, j] / p[j, j] for j in range(len(p))] for i in range(len(p))])


# ---------------------------------------------------------------------------------------------------------------- Gram


@pytest.mark.parametrize("kind", ["binary", "rating"])
def test_gram_is_the_sum_of_outer_products(kind):
    rows = histories().matrix(kind)
    assert np.array_equal(gram_of(rows), slow_gram(rows))


@given(seed=st.integers(0, 50), order=st.permutations(range(6)))
@settings(deadline=None, max_examples=30)
def test_rows_removed_in_any_order_leave_the_gram_of_the_rest_bit_for_bit(seed, order):
    rows = histories(seed, users=10).matrix("rating")
    gram = gram_of(rows)
    for number in order:
        add_rows(gram, rows, -1, only=[number])
    assert np.array_equal(gram, gram_of(rows[6:]))


def test_gram_that_would_not_fit_is_refused():
    with pytest.raises(InputError, match="32 bits"):
        gram_of(sparse.csr_matrix(np.array([[2**16, 1], [2**16, 1]], np.int64)))


@given(size=st.integers(0, 40))
@settings(deadline=None)
def test_the_triangle_and_back(size):
    gram = generator(size).integers(0, 100, (size, size)).astype(np.int32)
    gram = np.triu(gram) + np.triu(gram, 1).T
    assert np.array_equal(from_triangle(triangle(gram), size), gram)


def test_mirror_across_block_edges():
    wide = generator().normal(size=(2100, 2100))
    found = wide.copy()
    mirror(found)
    assert np.array_equal(found, np.triu(wide) + np.triu(wide, 1).T)


def test_a_triangle_of_another_size_is_refused():
    with pytest.raises(InputError, match="packed Gram"):
        from_triangle(np.zeros(5, np.int32), 3)


def test_the_probe_believes_the_right_gram_and_no_gram_with_one_entry_off():
    """Freivalds: every single wrong entry, by one, is seen."""
    rows = histories().matrix("rating")
    gram = gram_of(rows)
    assert probe_bits(gram) > 30
    assert same_gram(gram, rows, generator())
    for row in range(len(gram)):
        for column in range(len(gram)):
            for off in (1, -1):
                gram[row, column] += off
                assert not same_gram(gram, rows, generator(row)), (row, column)
                gram[row, column] -= off
    assert same_gram(gram, rows, generator(9))


def test_the_probe_sees_skipped_rows_a_wrong_user_and_another_shape():
    rows = histories().matrix()
    gram = gram_of(rows)
    without = rows.copy()
    without.data[without.indptr[4] : without.indptr[5]] = 0
    assert not same_gram(gram, without, generator()), "user 4 was not removed"
    add_rows(gram, rows, -1, only=[3])
    assert not same_gram(gram, without, generator()), "user 3 was removed instead"
    assert not same_gram(gram[:-1, :-1], rows, generator())


def test_the_probe_refuses_what_it_cannot_do_exactly():
    gram = np.full((2**10,) * 2, 2**30, np.int32)
    assert probe_bits(gram) == 53 - 31 - 11
    big = np.full((4, 4), 2**31 - 1, np.int32)
    assert probe_bits(big) > 0


def test_products_in_blocks_are_products():
    gram = gram_of(random_histories(8, 1500, share=0.05).matrix())
    z = generator().normal(size=(1500, 3))
    np.testing.assert_allclose(product(gram, z), gram.astype(float) @ z, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------- inverse


def test_the_inverse_from_either_side_is_the_inverse():
    rows = histories().matrix()
    gram = gram_of(rows)
    for found in (inverse_of(gram, LAM), dual_inverse(rows, LAM)):
        np.testing.assert_allclose(found, slow_inverse(gram), rtol=0, atol=1e-14)
        assert np.array_equal(found, found.T) or np.abs(found - found.T).max() < 1e-17


@pytest.mark.parametrize("lam", [0.0, -1.0, float("nan")])
def test_a_lambda_that_is_not_positive_is_refused(lam):
    with pytest.raises(InputError, match="lambda"):
        inverse_of(np.eye(3, dtype=np.int32), lam)


def test_a_matrix_that_is_no_gram_is_refused():
    with pytest.raises(InputError, match="positive definite"):
        inverse_of(np.array([[0, 9], [9, 0]], np.int32), 1.0)


@given(seed=st.integers(0, 30), count=st.integers(1, 5), lam=st.sampled_from([0.5, 5.0, 200.0]))
@settings(deadline=None, max_examples=40)
def test_users_removed_from_the_inverse_leave_that_of_the_rest(seed, count, lam):
    rows = histories(seed).matrix("rating")
    gram, inverse = gram_of(rows), inverse_of(gram_of(rows), lam)
    done = erase_rows(gram, inverse, rows[:count], sparse.csr_matrix(rows[:count].shape, dtype=np.int64), lam)
    assert np.array_equal(gram, gram_of(rows[count:]))
    np.testing.assert_allclose(inverse, slow_inverse(gram_of(rows[count:]), lam), atol=1e-12 / min(lam, 1) ** 2)
    assert 0 < done.leverage < 1
    assert done.residual < 1e-10


def test_one_event_a_time_window_and_a_batch_are_retrainings_without_them():
    whole = histories(3)
    middle = int(np.median(whole.times))
    slots = [2, 5, 6]
    for gone in (
        whole.chosen([2], items=[whole.items[int(whole.row(2)[0][0])]]),
        whole.chosen(slots, since=middle),
        whole.chosen(slots, until=middle),
        whole.chosen(slots),
    ):
        assert gone.any()
        rest = whole.keep(~gone)
        gram, inverse = gram_of(whole.matrix()), inverse_of(gram_of(whole.matrix()), LAM)
        erase_rows(gram, inverse, whole.matrix()[slots], rest.matrix()[slots], LAM)
        assert np.array_equal(gram, gram_of(rest.matrix()))
        np.testing.assert_allclose(inverse, slow_inverse(gram), atol=1e-13)


def test_items_removed_are_a_smaller_model_that_never_had_them():
    rows = histories(4).matrix()
    gram, inverse = gram_of(rows), inverse_of(gram_of(rows), LAM)
    gone = np.array([0, 7, 14])
    small_gram, small = erase_items(gram, inverse, gone)
    kept = np.setdiff1d(np.arange(15), gone)
    assert np.array_equal(small_gram, gram_of(rows[:, kept]))
    np.testing.assert_allclose(small, slow_inverse(small_gram), atol=1e-14)
    np.testing.assert_allclose(without_items(inverse, np.array([], np.int64)), inverse)
    with pytest.raises(InputError, match="range"):
        erase_items(gram, inverse, np.array([15]))


def test_a_row_that_the_model_does_not_hold_cannot_be_removed():
    rows = histories().matrix()
    inverse = inverse_of(gram_of(rows[:1]), 0.1)
    stranger = sparse.csr_matrix(np.full((1, 15), 9, np.int64))
    with pytest.raises(InputError, match="does not hold"):
        change(inverse, stranger.T.tocsc(), -np.ones(1))


def test_high_leverage_builds_the_inverse_anew():
    rows = sparse.csr_matrix(np.array([[1, 1, 0], [0, 0, 1]], np.int64))
    gram, inverse = gram_of(rows), inverse_of(gram_of(rows), 1e-3)
    done = erase_rows(gram, inverse, rows[:1], sparse.csr_matrix((1, 3), dtype=np.int64), 1e-3)
    assert done.leverage > 0.99
    assert done.refreshed
    np.testing.assert_allclose(inverse, slow_inverse(gram, 1e-3), rtol=1e-12)


def test_the_residual_tells_a_float32_inverse_and_a_stale_one():
    rows = histories().matrix()
    gram = gram_of(rows)
    inverse = inverse_of(gram, LAM)
    assert residual(inverse, gram, LAM, generator()) < 1e-13
    assert residual(inverse.astype(np.float32).astype(float), gram, LAM, generator()) > 1e-9
    add_rows(gram, rows, -1, only=[0])
    assert residual(inverse, gram, LAM, generator()) > 1e-3
    inverse[0, 0] = np.nan
    assert residual(inverse, gram, LAM, generator()) == np.inf


def test_leverage_is_between_zero_and_one_and_falls_with_lambda():
    rows = histories().matrix()
    columns, values = rows.indices[: rows.indptr[1]], rows.data[: rows.indptr[1]].astype(float)
    found = [leverage(inverse_of(gram_of(rows), lam), columns, values) for lam in (0.1, 10.0, 1000.0)]
    assert 1 > found[0] > found[1] > found[2] > 0


# --------------------------------------------------------------------------------------------------------------- model


@pytest.mark.parametrize("free", [False, True])
def test_scores_are_the_row_times_the_weights(free):
    rows = histories().matrix()
    gram = gram_of(rows)
    model = LinearModel(gram=gram, inverse=inverse_of(gram, LAM), lam=LAM, free=free)
    weights = slow_inverse(gram) @ gram if free else slow_ease(gram)
    np.testing.assert_allclose(model.weights(), weights, atol=1e-13)
    np.testing.assert_allclose(model.scores(rows), rows.toarray() @ weights, atol=1e-12)


def test_left_out_residuals_are_those_of_a_model_trained_without_the_user():
    whole = histories(7)
    rows = whole.matrix()
    gram = gram_of(rows)
    model = LinearModel(gram=gram, inverse=inverse_of(gram, LAM), lam=LAM)
    for slot in range(len(whole)):
        columns, values = whole.row(slot)[0], np.ones(len(whole.row(slot)[0]))
        rest = gram_of(whole.without([slot]).matrix())
        other = LinearModel(gram=rest, inverse=slow_inverse(rest), lam=LAM)
        found, share = left_out_residuals(model, columns, values)
        np.testing.assert_allclose(found, other.residuals(columns, values), atol=1e-12)
        assert 0 < share < 1
        assert (model.residuals(columns, values) < found).all(), "a member's own items are closer, always"
