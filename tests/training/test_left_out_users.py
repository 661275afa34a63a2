"""What the model without some users says of their own items, in closed form, however many they are: against a retraining."""

import numpy as np
import pytest
from scipy import sparse

from expunge.testing.users import random_histories
from expunge.training.closed_form import compared
from expunge.training.closed_form.compared import left_out, own_residuals, shortened
from expunge.training.closed_form.gram import gram_of
from expunge.training.closed_form.inverse import inverse_of
from expunge.training.closed_form.model import LinearModel

LAM = 5.0


def model_of(rows):
    gram = gram_of(rows)
    return LinearModel(gram=gram, inverse=inverse_of(gram, LAM), lam=LAM, free=False)


def slow(rows, gone):
    """Trained without them."""
    kept = np.setdiff1d(np.arange(rows.shape[0]), gone)
    return own_residuals(model_of(rows[kept]), rows[gone])


def slow_leverage(rows, gone):
    """The largest eigenvalue of S P S', as it is written."""
    part = rows[gone].toarray().astype(float)
    inverse = np.linalg.inv((rows.T @ rows).toarray() + LAM * np.eye(rows.shape[1]))
    return np.linalg.eigvalsh(part @ inverse @ part.T)[-1]


@pytest.mark.parametrize("many", [1, 7, 24, 25, 60, 99])
@pytest.mark.parametrize("few", [3, 256])
def test_any_number_of_users_is_left_out_as_by_a_retraining(many, few, monkeypatch):
    """On either side of 24, the number of items, and of the number from which eigenvalues are searched for."""
    monkeypatch.setattr(compared, "_FEW", few)
    rows = random_histories(100, 24, seed=3).matrix()
    gone = np.arange(many)
    found, leverage = left_out(model_of(rows), rows[gone])
    np.testing.assert_allclose(found, slow(rows, gone), atol=1e-12)
    assert leverage == pytest.approx(slow_leverage(rows, gone), abs=1e-10)


def test_users_without_events_have_no_leverage():
    rows = random_histories(100, 24, seed=3).without(range(40)).matrix()
    found, leverage = left_out(model_of(rows), rows[:40])
    assert (len(found), leverage) == (0, 0.0)


def test_the_model_as_it_is_says_something_else_of_them():
    """Control."""
    rows = random_histories(100, 24, seed=3).matrix()
    found, _ = left_out(model_of(rows), rows[:60])
    assert np.abs(found - own_residuals(model_of(rows), rows[:60])).max() > 0.01


def test_a_shorter_row_has_the_leverage_of_what_it_was(monkeypatch):
    rows = random_histories(100, 24, seed=3).matrix()
    after = sparse.csr_matrix(rows[:9].toarray() * (np.arange(24) % 3 > 0))
    monkeypatch.setattr(compared, "_FEW", 3)
    assert shortened(model_of(rows), rows[:9], after)[1] == pytest.approx(slow_leverage(rows, np.arange(9)), abs=1e-10)
