"""Per-record p-values on a bank against one-at-a-time twins; realised rates under an exact null; pairs and the gap."""

import numpy as np
import pytest
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.bank_rates import (
    RULES,
    complement_pairs,
    logit_of,
    membership_gap,
    out_rates,
    pair_correlation,
    per_record_p_values,
)
from expunge.stats.rank import ranked


def pairs_bank(rng, models, records, gap=0.0):
    member = np.zeros((models, records), bool)
    for k in range(0, models, 2):
        member[k, rng.permutation(records)[: records // 2]] = True
        member[k + 1] = ~member[k]
    return rng.normal(0, 1, records) + gap * member + rng.standard_normal((models, records)), member


def loose_bank(rng):
    """Independent coins instead of pairs."""
    member = rng.random((12, 80)) < 0.5
    member[:3] = False
    member[3:5] = True
    return rng.normal(0, 1, 80) + rng.standard_normal(member.shape), member


def test_p_values_equal_one_record_and_model_at_a_time():
    rng = np.random.default_rng(0)
    values, _ = pairs_bank(rng, 10, 7, gap=1.0)
    values[:, 2] = np.round(values[:, 2])  # ties
    member = rng.random(values.shape) < 0.4
    member[:3] = False
    found = dict(zip(RULES, per_record_p_values(values, member), strict=True))
    for i, j in np.ndindex(values.shape):
        anchors = np.array([values[k, j] for k in range(10) if k != i and not member[k, j]])
        slow = ranked(float(values[i, j]), anchors)
        assert found["rank"][i, j] == pytest.approx(slow.rank)
        assert found["t-prediction"][i, j] == pytest.approx(slow.prediction)
        assert found["rank and t"][i, j] == pytest.approx(slow.p)
        plug = stats.norm.sf(values[i, j], anchors.mean(), anchors.std())
        assert found["plug-in Gaussian"][i, j] == pytest.approx(plug)


def test_constant_anchors_leave_the_rank():
    values, member = np.ones((6, 2)), np.zeros((6, 2), bool)
    values[0] = 3.0
    assert all(p[0, 0] == pytest.approx(1 / 6) for p in per_record_p_values(values, member))


def test_realised_rates_under_the_null_and_the_plug_in_that_overstates():
    values, member = pairs_bank(np.random.default_rng(1), 16, 4000)
    rates = {(r.rule, r.alpha): r for r in out_rates(values, member, (0.05, 0.01))}
    for alpha in (0.05, 0.01):
        honest = rates[("rank and t", alpha)]
        assert honest.false_alarms.low <= alpha * 1.02
        assert honest.detections.estimate == pytest.approx(alpha, rel=0.2)
    assert rates[("plug-in Gaussian", 0.01)].false_alarms.low > 0.03  # 7 anchors: several times its nominal 1 %


def test_gap_has_its_size_under_the_null_and_its_sign():
    rng = np.random.default_rng(2)
    hits = sum(membership_gap(*pairs_bank(rng, 8, 60)).above <= 0.025 for _ in range(600))
    assert 4 <= hits <= 28  # 99.9 % of Binomial(600, .025)
    loose = sum(membership_gap(*loose_bank(rng)).above <= 0.025 for _ in range(600))
    assert loose <= 28
    values, member = pairs_bank(rng, 12, 500, gap=0.5)
    found = membership_gap(values, member)
    assert found.gap.estimate == pytest.approx(0.5, abs=0.06)
    assert membership_gap(-values, member).below < 1e-4


def test_complement_pairs_and_their_correlation():
    rng = np.random.default_rng(3)
    values, member = pairs_bank(rng, 12, 400)
    order = rng.permutation(12)
    pairs = complement_pairs(member[order])
    assert len(pairs) == 6
    assert all((member[order][a] != member[order][b]).all() for a, b in pairs)
    shared = np.repeat(rng.standard_normal((6, 400)), 2, axis=0)
    assert pair_correlation(values + 2 * shared, member, complement_pairs(member)) > 0.6
    assert abs(pair_correlation(values, member, complement_pairs(member))) < 0.15
    assert complement_pairs(rng.random((5, 30)) < 0.5) == ()


def test_too_few_out_models():
    values, member = pairs_bank(np.random.default_rng(4), 4, 30)
    with pytest.raises(CheckBroken, match="too few OUT"):
        out_rates(values, member, (0.05,))


def test_logit_of_is_the_logit_inside_its_clips():
    p = np.array([0.2, 0.5, 0.9])
    assert np.allclose(logit_of(np.log(p)), np.log(p / (1 - p)))
    assert np.isfinite(logit_of(np.array([0.0, -1e9]))).all()
