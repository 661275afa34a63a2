import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.errors import CheckBroken
from expunge.stats.multiplicity import ELond, e_bh, holm
from oracle import definitions, verdicts

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)
E_VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=12)


@given(P_VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_is_the_step_down_procedure(p_values, alpha):
    wanted = definitions.holm_rejects(p_values, alpha)
    found = holm(p_values) <= alpha
    near = [abs(q - alpha) < 1e-12 for q in holm(p_values)]
    assert all(f == w or n for f, w, n in zip(found, wanted, near, strict=True))


@given(E_VALUES, st.sampled_from([0.05, 0.2]))
def test_e_bh_is_its_definition(e_values, alpha):
    assert e_bh(e_values, alpha).tolist() == definitions.e_bh_rejects(e_values, alpha)


def test_dependent_tests_of_honest_requests_stay_inside_alpha():
    rng, any_holm, any_bh = np.random.default_rng(0), 0, 0
    for _ in range(2000):
        shared = rng.normal()
        z = 0.9 * shared + math.sqrt(1 - 0.81) * rng.normal(size=10)
        p = np.array([0.5 * math.erfc(v / math.sqrt(2)) for v in z])
        any_holm += (holm(p) <= 0.05).any()
        any_bh += e_bh(np.exp(z - 0.5), 0.05).any()
    assert any_holm <= 0.05 * 2000 + 30
    assert any_bh <= 0.05 * 2000 + 30


def test_without_correction_ten_independent_honest_requests_would_raise_alarms():
    rng = np.random.default_rng(1)
    p = rng.uniform(size=(2000, 10))
    assert (p <= 0.05).any(1).mean() > 0.35
    assert np.mean([(holm(row) <= 0.05).any() for row in p]) < 0.065


def test_e_lond_spends_by_position_and_earns_by_rejecting():
    state = ELond(alpha=0.05)
    assert state.level == pytest.approx(0.05 * 6 / math.pi**2)
    hit, state = state.after(1e6)
    assert hit
    assert state.level == pytest.approx(0.05 * 6 / math.pi**2 / 4 * 2)
    hit, state = state.after(1.0)
    assert not hit
    assert (state.seen, state.rejected) == (2, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=12))
def test_e_lond_is_its_definition(e_values):
    state, hits = ELond(alpha=0.1), []
    for e in e_values:
        hit, state = state.after(e)
        hits.append(hit)
    assert hits == verdicts.e_lond(e_values, 0.1)


def test_all_levels_of_e_lond_without_rejections_sum_to_alpha():
    state, total = ELond(alpha=0.05), 0.0
    for _ in range(5000):
        total += state.level
        _, state = state.after(0.0)
    assert 0.0499 < total < 0.05


@pytest.mark.parametrize("bad", [[], [0.5, 1.2], [float("nan")], [[0.1]]])
def test_what_is_no_list_of_p_values_is_refused(bad):
    with pytest.raises(CheckBroken):
        holm(bad)


@pytest.mark.parametrize("bad", [[], [-1.0], [float("nan")]])
def test_what_is_no_list_of_e_values_is_refused(bad):
    with pytest.raises(CheckBroken):
        e_bh(bad, 0.05)


def test_an_impossible_e_lond_is_refused():
    with pytest.raises(CheckBroken):
        ELond(alpha=0.0)
    with pytest.raises(CheckBroken):
        ELond(alpha=0.05, seen=1, rejected=2)
