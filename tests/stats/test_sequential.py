import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.sequential import SequentialPlan, sequential_three_arm
from expunge.stats.threearm import Outcome, PairArms, Rule
from oracle import definitions, verdicts
from oracle.banks import three_draws

RULE = Rule(margin=0.3, alpha=0.025, fail_alpha=0.025)
PLAN = SequentialPlan(chunk=8, most=12, gap=5.0)


def run(rng, *, unlearned, gap=5.0, correlation=-0.2, plan=PLAN, pairs=96):
    return sequential_three_arm(
        PairArms.of(*three_draws(rng, pairs, gap=gap, correlation=correlation, unlearned=unlearned)), RULE, plan
    )


def test_a_no_op_is_found_in_the_first_chunks():
    rng = np.random.default_rng(0)
    found = [run(rng, unlearned=1.0) for _ in range(20)]
    assert {f.outcome for f in found} == {Outcome.RESIDUE}
    assert max(f.pairs for f in found) <= 24


def test_an_exact_unlearner_passes_and_stops_early():
    rng = np.random.default_rng(1)
    found = [run(rng, unlearned=0.0) for _ in range(40)]
    assert sum(f.outcome is Outcome.EQUIVALENT for f in found) >= 34
    assert np.median([f.pairs for f in found]) < 96


@pytest.mark.parametrize("residual", [0.3, -0.3])
def test_stopping_at_any_chunk_passes_the_margin_itself_at_most_at_alpha(residual):
    rng = np.random.default_rng(2)
    passes = sum(run(rng, unlearned=residual).outcome is Outcome.EQUIVALENT for _ in range(200))
    assert passes <= 12  # 2.5 % of 200 is 5; this is its 99.9 % limit


def test_over_unlearning_is_a_failure_too():
    rng = np.random.default_rng(3)
    assert {run(rng, unlearned=-1.0).outcome for _ in range(10)} == {Outcome.OVER_UNLEARNED}


def test_a_blind_assay_never_passes():
    rng = np.random.default_rng(4)
    found = {run(rng, unlearned=0.0, gap=0.0).outcome for _ in range(40)}
    assert Outcome.EQUIVALENT not in found
    assert Outcome.BLIND in found


def test_reading_is_the_slow_loop_over_chunks():
    rng, seen = np.random.default_rng(7), set()
    for unlearned in (0.0, 0.0, 0.15, 0.5, 1.0, -1.0):
        arms = PairArms.of(*three_draws(rng, 48, gap=5.0, correlation=-0.2, unlearned=unlearned))
        found = sequential_three_arm(arms, RULE, PLAN)
        slow, chunks = verdicts.sequential_pass(arms.out, arms.into, arms.unlearned, RULE, PLAN, definitions.t_e_value)
        mine = {Outcome.EQUIVALENT: "pass", Outcome.RESIDUE: "fail", Outcome.OVER_UNLEARNED: "fail"}
        assert (mine.get(found.outcome, "open"), found.chunks) == (slow, chunks)
        seen.add(slow)
    assert {"fail", "pass"} <= seen


def test_pairs_after_the_stop_are_not_read():
    rng = np.random.default_rng(5)
    out, into, left = three_draws(rng, 96, gap=5.0, unlearned=1.0)
    first = sequential_three_arm(PairArms.of(out, into, left), RULE, PLAN)
    for column in (out, into, left):
        column[first.pairs :] = 1e3
    again = sequential_three_arm(PairArms.of(out, into, left), RULE, PLAN)
    assert (again.outcome, again.pairs, again.residue.tolist()) == (first.outcome, first.pairs, first.residue.tolist())


def test_less_than_a_chunk_is_refused():
    with pytest.raises(CheckBroken):
        run(np.random.default_rng(6), unlearned=0.0, pairs=7)


@pytest.mark.parametrize("bad", [{"chunk": 3}, {"most": 0}, {"gap": 0.0}, {"gap": float("nan")}])
def test_an_impossible_plan_is_refused(bad):
    with pytest.raises(CheckBroken):
        SequentialPlan(**({"chunk": 8, "most": 4, "gap": 3.0} | bad))
