import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.checks.deployed import DeployedFile
from expunge.checks.membership import Membership
from expunge.core.errors import CheckBroken
from expunge.core.finding import Finding, Verdict
from expunge.stats.requests import finding_p_value, over_requests
from oracle import banks, definitions


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05]))
def test_a_family_is_holm_and_e_bh_by_name(p_values, alpha):
    named = {f"case-{k}": p for k, p in enumerate(p_values)}
    found = over_requests(named, alpha)
    assert [name in found.holds for name in named] == definitions.holm_rejects(p_values, alpha)
    assert set(found.adjusted) == set(named)
    assert found.discovered <= {name for name, p in named.items() if p < alpha}


def test_one_residue_among_honest_requests_is_found_and_the_others_are_not_accused():
    rng = np.random.default_rng(0)
    findings = {
        name: Membership().run(banks.job(arms=banks.bank(rng, pairs=16, gap=3.0, unlearned=unlearned)))
        for name, unlearned in (("a", 0.0), ("b", "no-op"), ("c", 0.0))
    }
    p = {name: finding_p_value(finding, "residue") for name, finding in findings.items()}
    assert over_requests(p, 0.025).holds == {"b"}
    assert over_requests(p, 0.025).discovered == {"b"}
    erased = {name: finding_p_value(finding, "erased") for name, finding in findings.items()}
    assert erased["b"] > 0.99 > 0.5 > erased["a"]


def test_a_finding_gives_its_worst_and_its_best_signal():
    details = {
        "lira.p_assay": "0.001", "lira.p_residue_shown": "0.5", "lira.p_over_shown": "0.9",
        "lira.p_residue_excluded": "0.004", "lira.p_over_excluded": "0.002",
        "rmia.p_assay": "0.002", "rmia.p_residue_shown": "0.001", "rmia.p_over_shown": "0.9",
        "rmia.p_residue_excluded": "0.03", "rmia.p_over_excluded": "0.002",
    }  # fmt: skip
    finding = Finding(
        check="membership", question="?", statistic="r", verdict=Verdict.FAIL, reason="x", n=9, details=details
    )
    assert finding_p_value(finding, "erased") == 0.03
    assert finding_p_value(finding, "residue") == pytest.approx(2 * 2 * 0.002)


def test_the_deployed_rank_can_only_accuse():
    rng = np.random.default_rng(1)
    found = DeployedFile().run(banks.job(deployed=banks.served(rng, candidate=1.0, gap=4.0, population=30, anchors=19)))
    assert finding_p_value(found, "residue") == pytest.approx(min(1.0, 2 * found.estimate))
    assert finding_p_value(found, "erased") is None


def test_what_measured_nothing_has_no_p_value():
    blank = Membership().run(banks.job())
    assert finding_p_value(blank, "erased") is finding_p_value(blank, "residue") is None
    assert finding_p_value(DeployedFile().run(banks.job()), "residue") is None
    with pytest.raises(CheckBroken):
        over_requests({}, 0.05)
    other = Finding(check="utility", question="?", statistic="a", verdict=Verdict.PASS, reason="x", n=3)
    with pytest.raises(CheckBroken):
        finding_p_value(other, "residue")
