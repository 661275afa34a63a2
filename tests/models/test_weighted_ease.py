"""EASE with weights of users: against floats, fractions and retrainings; every deletion is the sum without what went."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from expunge.core import registry
from expunge.core.errors import InputError
from expunge.core.plan import Numerics
from expunge.core.protocols import FitJob
from expunge.data._interactions import Histories, Interactions
from expunge.testing.users import random_histories
from expunge.training.closed_form.recommender import no_rows
from expunge.training.recipe import parse_any_recipe

USERS, ITEMS = 40, 25
HISTORIES = random_histories(USERS, ITEMS, seed=8)
NUMERICS = Numerics(precision="fp64", threads=1, device="cpu", instruction_set="any", build="any")
SETTINGS = [
    {},
    {"alpha": "1", "lam": "2.5"},
    {"alpha": "1.37", "lam": "0.5", "weights": "rating"},
    {"alpha": "0", "lam": "7"},
]
variants = pytest.mark.parametrize("settings", SETTINGS)


def adapter_of(settings, family="weighted_ease", items=ITEMS):
    plain = {"name": "t", "solver": "closed-form", "family": family, "model": settings}
    return registry.load("recommenders", family)(parse_any_recipe(plain), items=items)


def model_of(adapter, histories):
    rows = adapter.matrix(histories)
    sums = adapter.sums_of(rows)
    return adapter.model_of(sums, adapter.derived(rows, sums))


def root(degree: int, settings) -> int:
    """The largest s with (s / 2^14)^2 <= degree^-alpha, by counting down from above, in fractions."""
    alpha = Fraction(settings.get("alpha", "0.5"))
    p, q = alpha.numerator, alpha.denominator
    s = round(2**14 * degree ** (-float(alpha) / 2)) + 2
    while Fraction(s, 2**14) ** (2 * q) * degree**p > 1:
        s -= 1
    return s


def slow_gram(histories: Histories, settings) -> list[list[int]]:
    """G in Python's whole numbers, an event at a time."""
    found = [[0] * ITEMS for _ in range(ITEMS)]
    for slot in range(len(histories)):
        columns, values = histories.row(slot)
        values = [1] * len(columns) if settings.get("weights") != "rating" else values.tolist()
        weight = root(len(columns), settings) ** 2 if len(columns) else 0
        for i, v in zip(columns.tolist(), values, strict=True):
            for j, w in zip(columns.tolist(), values, strict=True):
                found[i][j] += weight * v * w
    return found


def slow_weights(histories: Histories, settings) -> np.ndarray:
    """B of weighted least squares in floats: G = X'WX, one item at a time, without itself."""
    rows = histories.matrix(settings.get("weights", "binary")).toarray().astype(float)
    degrees = np.diff(histories.indptr)
    weights = np.array([root(int(d), settings) ** 2 / 2**28 if d else 0.0 for d in degrees])
    gram, lam = rows.T @ (weights[:, None] * rows), float(settings.get("lam", "20"))
    found = np.zeros((ITEMS, ITEMS))
    for j in range(ITEMS):
        others = np.delete(np.arange(ITEMS), j)
        system = gram[np.ix_(others, others)] + lam * np.eye(ITEMS - 1)
        found[others, j] = np.linalg.solve(system, gram[others, j])
    return found


def residuals(histories: Histories, slot: int, settings, row: Histories) -> np.ndarray:
    """x'P_j / P_jj of the row `slot` of `row`, unweighted, by the slow model of `histories`."""
    rows = histories.matrix(settings.get("weights", "binary")).toarray().astype(float)
    weights = np.array([root(int(d), settings) ** 2 / 2**28 if d else 0.0 for d in np.diff(histories.indptr)])
    inverse = np.linalg.inv(rows.T @ (weights[:, None] * rows) + float(settings.get("lam", "20")) * np.eye(ITEMS))
    x = row.matrix(settings.get("weights", "binary")).toarray().astype(float)[slot]
    columns = np.flatnonzero(x)
    return (x @ inverse)[columns] / np.diag(inverse)[columns]


@variants
def test_sums_are_those_of_whole_numbers_and_b_that_of_weighted_least_squares(settings):
    adapter = adapter_of(settings)
    model = model_of(adapter, HISTORIES)
    assert model.gram.dtype == np.int64
    assert model.gram.tolist() == slow_gram(HISTORIES, settings)
    assert np.abs(model.weights() - slow_weights(HISTORIES, settings)).max() < 1e-12
    rows = HISTORIES.matrix(settings.get("weights", "binary"))
    off = adapter.outputs(model, adapter.matrix(HISTORIES)) - rows @ slow_weights(HISTORIES, settings)
    assert np.abs(off).max() < 1e-11


def test_with_alpha_0_it_is_ease():
    for lam in ("20", "3.5"):
        mine, plain = (
            model_of(adapter_of({"lam": lam, **more}, family), HISTORIES)
            for family, more in (("weighted_ease", {"alpha": "0"}), ("ease", {}))
        )
        assert np.array_equal(mine.gram, plain.gram.astype(np.int64) * 2**28)
        assert np.abs(mine.weights() - plain.weights()).max() < 1e-13


def test_weights_change_the_model():
    """The control: a comparison with EASE sees the weights."""
    plain = model_of(adapter_of({"lam": "20"}, "ease"), HISTORIES).weights()
    assert np.abs(model_of(adapter_of({}), HISTORIES).weights() - plain).max() > 1e-2


def job_of(histories: Histories, folder, absent=frozenset()) -> FitJob:
    data = Interactions(source="s", note="n", scale="half-stars", train=histories, test=histories)
    return FitJob(recipe={}, seed="0" * 32, numerics=NUMERICS, data=data, folder=folder, absent=absent)


def without_events(gone) -> Histories:
    """The histories without these (slot, column)."""
    slot = np.repeat(np.arange(USERS), np.diff(HISTORIES.indptr))
    pairs = zip(slot.tolist(), HISTORIES.indices.tolist(), strict=True)
    return HISTORIES.keep(np.array([pair not in gone for pair in pairs]))


def cut(unit):
    """Events of one request of the unit."""
    columns, late = HISTORIES.row(5)[0].tolist(), 15 * 10**8
    if unit == "interaction":
        return {(5, columns[1])}
    if unit == "window":
        times = HISTORIES.times[HISTORIES.span(5).start : HISTORIES.span(5).stop]
        return {(5, column) for column, time in zip(columns, times.tolist(), strict=True) if time > late}
    return {(slot, columns[1]) for slot in range(USERS) if columns[1] in HISTORIES.row(slot)[0]}


@variants
@pytest.mark.parametrize("unit", ["user", "batch", "interaction", "window", "item"])
def test_every_deletion_is_the_training_without_what_went(unit, settings, tmp_path):
    adapter = adapter_of(settings)
    source = adapter.fit(job_of(HISTORIES, tmp_path / "all"))
    if unit in ("user", "batch"):
        gone = frozenset({7} if unit == "user" else {7, 8, 20, 33})
        done = adapter.downdate(job_of(HISTORIES, tmp_path / "new", gone), source.model.parent, gone)
        fresh = adapter.fit(job_of(HISTORIES, tmp_path / "again", gone))
    else:
        events = cut(unit)
        left, slots = without_events(events), frozenset(slot for slot, _ in events)
        assert left.events == HISTORIES.events - len(events) < HISTORIES.events
        before = job_of(HISTORIES, tmp_path / "unused").data
        done = adapter.downdate(job_of(left, tmp_path / "new"), source.model.parent, slots, before)
        fresh = adapter.fit(job_of(left, tmp_path / "again"))
    assert done.digest == fresh.digest != source.digest
    mine, other = adapter.load(done.model), adapter.load(fresh.model)
    assert np.array_equal(mine.gram, other.gram)
    assert np.abs(mine.weights() - other.weights()).max() < 1e-12
    stale = adapter.load(source.model)
    assert np.abs(stale.weights() - other.weights()).max() > 1e-6


@variants
def test_own_residuals_without_each_user_are_those_of_a_slow_retraining(settings):
    """Leave-one-out in closed form, of all users, to 1e-12; what the model that had the user says is far off."""
    adapter = adapter_of(settings)
    model, rows = model_of(adapter, HISTORIES), adapter.matrix(HISTORIES)
    nearest = np.inf
    for slot in range(USERS):
        found, leverage = adapter.left_out(model, rows[[slot]], no_rows(rows[[slot]]))
        slow = residuals(HISTORIES.without([slot]), slot, settings, HISTORIES)
        assert np.abs(found - slow).max() < 1e-12 * max(1.0, np.abs(slow).max())
        assert 0 < leverage < 1
        nearest = min(nearest, np.abs(adapter.own(model, rows[[slot]]) - slow).max())
    assert nearest > 1e-4


@variants
def test_own_residuals_after_an_event_went_are_those_of_a_slow_retraining(settings):
    """The user's weight changes with the history; the history as it was is folded in, unweighted."""
    adapter = adapter_of(settings)
    left = without_events(cut("window"))
    model, rows, after = model_of(adapter, HISTORIES), adapter.matrix(HISTORIES), adapter.matrix(left)
    found, _ = adapter.left_out(model, rows[[5]], after[[5]])
    slow = residuals(left, 5, settings, HISTORIES)
    assert np.abs(found - slow).max() < 1e-12 * max(1.0, np.abs(slow).max())


def test_a_row_that_is_taken_off_at_its_weight_but_left_short_at_the_old_one_is_seen():
    """The attack: one event goes from the sums, and the rest of the history keeps the weight that it had with the event."""
    adapter = adapter_of({})
    left = without_events(cut("interaction"))
    rows, gone = adapter.matrix(HISTORIES), adapter.matrix(left)
    short = rows[[5]].multiply(gone[[5]] != 0).tocsr()
    lazy = adapter.sums_of(sparse.vstack([rows[:5], short, rows[6:]]).tocsr())
    assert not np.array_equal(lazy, adapter.sums_of(gone))
    model = replace(model_of(adapter, left), gram=lazy)
    seen = adapter.compared(model, gone, adapter.sums_of(gone), np.random.Generator(np.random.Philox(1)))
    assert seen.wrong == short.nnz**2


def test_sums_beyond_what_float64_counts_are_refused():
    adapter = adapter_of({"alpha": "0"}, items=2)
    rows = sparse.csr_matrix(np.full((3, 2), 2**26, np.int64))
    assert adapter.sums_of(rows[:1])[0, 0] == 2**52
    with pytest.raises(InputError, match="does not fit in 53 bits"):
        adapter.sums_of(rows)
    with pytest.raises(InputError, match="too large"):  # added up elsewhere, of parts that fit
        adapter.packed(2 * adapter.sums_of(rows[:1]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alpha": "2.5"}, "alpha is out of range"),
        ({"alpha": "0.333"}, "too many decimals"),
        ({"alpha": "steep"}, "alpha is no number"),
        ({"beta": "1"}, "unknown settings"),
    ],
)
def test_bad_settings_are_typed_errors(settings, said):
    with pytest.raises(InputError, match=said):
        adapter_of(settings)


def test_a_history_so_long_that_it_would_weigh_nothing_is_refused():
    adapter_of({"alpha": "2"}, items=16_384)
    with pytest.raises(InputError, match="would have no weight"):
        adapter_of({"alpha": "2"}, items=16_385)
