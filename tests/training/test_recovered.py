"""Counts out of what a recommender serves: all of them right, and nothing is guessed where there are none."""

import numpy as np
import pytest

from expunge.core.errors import DataError
from expunge.testing.users import random_histories
from expunge.training.closed_form.gram import gram_of
from expunge.training.closed_form.inverse import inverse_of
from expunge.training.closed_form.model import LinearModel
from expunge.training.closed_form.recovered import from_inverse, from_weights

LAM = 20.0
HISTORIES = random_histories(40, 30, seed=5)
GRAM = gram_of(HISTORIES.matrix())
STALE = inverse_of(GRAM, LAM)


def of(history: int):
    return HISTORIES.row(history)[0]


def test_counts_inverted_from_p_are_those_of_a_slow_inversion_and_of_the_rows():
    found = from_inverse(STALE, LAM, of(3))
    slow = np.linalg.inv(STALE) - LAM * np.eye(30)
    assert np.array_equal(found.rows, np.rint(slow).astype(np.int64)[of(3)])
    assert np.array_equal(found.rows, GRAM[of(3)])
    assert found.columns.tolist() == of(3).tolist()
    assert 0 < found.distance < 1e-9


def test_items_of_several_histories_are_recovered_once_and_found_again():
    found = from_inverse(STALE, LAM, np.concatenate([of(3), of(9), of(3)]))
    assert len(found.columns) == len(np.union1d(of(3), of(9)))
    assert np.array_equal(found.of(of(9)), GRAM[of(9)])


def test_counts_from_b_alone_are_the_same():
    weights = LinearModel(gram=GRAM, inverse=STALE, lam=LAM).weights().astype(np.float32)
    found = from_weights(weights, LAM, np.diagonal(GRAM))
    assert np.array_equal(found.rows, GRAM)
    assert np.array_equal(found.of(of(4)), GRAM[of(4)])


def test_the_reading_changes_nothing_that_is_served():
    served = STALE.copy()
    from_inverse(served, LAM, of(3))
    assert np.array_equal(served, STALE)


def test_a_stale_p_gives_the_counts_with_the_user_in_them():
    """The negative control: what was not corrected still says that somebody was there."""
    rows = HISTORIES.matrix()
    clean = GRAM - (rows[[3]].T @ rows[[3]]).toarray()
    found = from_inverse(STALE, LAM, of(3)).of(of(3))
    assert int((found != clean[of(3)]).sum()) == len(of(3)) ** 2


def noisy(p):
    rng = np.random.Generator(np.random.Philox(1))
    noise = rng.normal(0, 1e-2, p.shape) * np.sqrt(np.outer(np.diag(p), np.diag(p)))
    return p + noise + noise.T


def one_triangle(p):
    """The lower triangle of a clean P over the upper one of a stale P: a factorisation looks at one of them only."""
    rows = HISTORIES.matrix()
    clean = inverse_of(GRAM - (rows[[3]].T @ rows[[3]]).toarray(), LAM)
    return np.tril(clean) + np.triu(p, 1)


ATTACKS = {
    "scaled, so that the counts are no whole numbers": lambda p: p * 1.01,
    "noise over it": noisy,
    "one triangle is another model's": one_triangle,
    "another lambda": lambda p: np.linalg.inv(np.linalg.inv(p) + 0.4 * np.eye(len(p))),
    "not positive definite": lambda p: -p,
    "not a number": lambda p: np.where(p == p[0, 0], np.nan, p),
    "rounded to half precision": lambda p: p.astype(np.float16).astype(np.float64),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_the_inverse_of_no_counts_is_refused_and_not_rounded(attack):
    with pytest.raises(DataError) as caught:
        from_inverse(ATTACKS[attack](STALE.copy()), LAM, of(3))
    assert caught.value.code == "unreadable"
