import dataclasses

import numpy as np
import pytest

from expunge.checks.membership import Membership
from expunge.core import registry
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import MembershipScores, Verdict
from expunge.core.protocols import Check, Measured
from expunge.stats.signal import read_signal
from expunge.stats.threearm import no_op, placebo
from oracle import naive
from oracle.banks import bank, job, log_sigmoid, spikes_of

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE


def judged(seed=0, *, signals=("lira", "rmia"), limits=None, **arms):
    return Membership().run(job(arms=bank(np.random.default_rng(seed), **arms), signals=signals, **(limits or {})))


def condition(finding, name):
    return next(c for c in finding.conditions if c.name == name)


def test_an_exact_retrain_passes_and_says_on_average():
    found = judged(pairs=48, gap=3.0, unlearned=0.0)
    assert found.verdict is PASS
    assert "on average over retrainings" in found.reason
    assert -0.2 < found.interval.low < found.estimate < found.interval.high < 0.2
    assert (found.limit, found.original, found.n) == (0.2, 1.0, 48)
    assert abs(found.reference) < 0.4
    assert found.mde > 0


def test_a_no_op_fails_on_every_signal():
    found = judged(unlearned="no-op")
    assert found.verdict is FAIL
    assert found.estimate == pytest.approx(1.0)
    assert "residue" in found.reason


def test_gradient_ascent_fails_as_over_unlearned():
    found = judged(pairs=32, gap=3.0, unlearned=-0.8)
    assert found.verdict is FAIL
    assert "over-unlearned" in found.reason


def test_over_unlearning_of_a_block_the_assay_cannot_see_fails_by_the_absolute_bound():
    """r has no meaning without a gap, but 4 SD below never seen is not as if never seen."""
    found = judged(pairs=24, gap=0.0, unlearned=0.0, shift=-6.0)
    assert found.verdict is FAIL


def test_half_a_removal_fails():
    assert judged(pairs=40, gap=3.0, unlearned=0.5).verdict is FAIL


def test_a_blind_assay_is_unverifiable_with_the_number_printed():
    for unlearned in (None, 0.0, "no-op"):
        found = judged(pairs=32, records=1, gap=0.1, unlearned=unlearned)
        assert found.verdict is UNVERIFIABLE
        assert "largest bank is 512" in found.reason


def test_an_underpowered_bank_is_inconclusive_with_the_number_printed():
    found = judged(pairs=12, gap=1.2, unlearned=0.0, limits={"max_bank": 5000})
    assert found.verdict is INCONCLUSIVE
    assert "bank models" in found.reason
    assert int(found.details["lira.needed_models"]) > 24


def test_the_largest_bank_of_the_policy_draws_the_line():
    """The same data: unverifiable under a small bank, inconclusive under a large one."""
    arms = bank(np.random.default_rng(3), pairs=12, gap=1.2, unlearned=0.0)
    needed = max(int(v) for k, v in Membership().run(job(arms=arms)).details.items() if k.endswith("needed_models"))
    assert Membership().run(job(arms=arms, max_bank=needed - 2)).verdict is UNVERIFIABLE
    assert Membership().run(job(arms=arms, max_bank=needed)).verdict is INCONCLUSIVE


def test_planted_canaries_that_were_missed_blame_the_attack_not_the_block():
    arms = bank(np.random.default_rng(1), pairs=32, records=1, gap=0.1)
    assert Membership().run(job(arms=arms, canary_power=0.95)).verdict is UNVERIFIABLE
    found = Membership().run(job(arms=arms, canary_power=0.5))
    assert found.verdict is INCONCLUSIVE
    assert "canaries" in found.reason


def test_without_an_x_arm_it_never_passes():
    found = judged(pairs=40, gap=4.0)
    assert found.verdict is INCONCLUSIVE
    assert "no X arm was run" in found.reason
    assert "the candidate file itself is judged by other checks" in found.reason
    assert found.estimate is None
    assert found.original == pytest.approx(1.0)
    assert found.reference is not None


def test_without_an_x_arm_the_signal_that_sees_speaks():
    """One weak signal does not make an exposed block unverifiable; with an X arm all signals would have to pass."""
    arms = bank(np.random.default_rng(0), pairs=24, records=1, gap=5.0)
    found = Membership().run(job(arms=arms, wanted=3, max_bank=200))
    assert int(found.details["rmia.needed_models"]) > 200
    assert found.verdict is INCONCLUSIVE
    assert found.reason.startswith("lira: no X arm was run: the assay sees this block")
    retrained = dataclasses.replace(arms, unlearned=arms.out[::-1], unlearned_population=arms.out_population[::-1])
    assert Membership().run(job(arms=retrained, wanted=3, max_bank=200)).verdict is UNVERIFIABLE


def test_two_signals_that_pass_are_not_three():
    arms = bank(np.random.default_rng(0), pairs=48, gap=3.0, unlearned=0.0)
    spikes = spikes_of(np.random.default_rng(1), arms)
    for limits in ({"wanted": 3}, {"guarantee": "EMPIRICAL", "spikes": spikes}):
        found = Membership().run(job(arms=arms, **limits))
        assert found.verdict is INCONCLUSIVE
        assert "2 of 3 signals" in found.reason
    assert judged(pairs=48, gap=3.0, unlearned="no-op", limits={"wanted": 3}).verdict is FAIL


def empirical(arms, **given):
    return Membership().run(job(arms=arms, guarantee="EMPIRICAL", signals=("lira", "rmia"), **given))


def test_a_method_that_blinds_the_attack_is_unverifiable():
    """The attack: answer like OUT whatever the weights hold. Putting the block back then shows nothing."""
    arms = bank(np.random.default_rng(0), pairs=48, gap=3.0, unlearned=0.0)
    blind = empirical(arms, spikes=spikes_of(np.random.default_rng(1), arms, rise=0.0))
    assert blind.verdict is UNVERIFIABLE
    assert "blinded" in blind.reason
    seen = empirical(arms, spikes=spikes_of(np.random.default_rng(1), arms, rise=2.0))
    assert "2 of 3 signals were run and passed" in seen.reason
    assert condition(seen, "lira: spike, dose 16").verdict is PASS
    assert "no spikes" in empirical(arms).reason


def measured_like(arms):
    """A probe that measured the logits of the same models."""

    def models(block, population):
        logits = [a - np.log(-np.expm1(a)) for a in (block, population)]
        return [{"block": b, "population": z} for b, z in zip(*logits, strict=True)]

    return Measured(
        out=models(arms.out, arms.out_population),
        into=models(arms.into, arms.into_population),
        unlearned=models(arms.unlearned, arms.unlearned_population),
    )


class _Logit:
    """A white-box signal of the tests: what it measured is the score."""

    requires = object

    def measure(self, probe_job):
        raise AssertionError("checks never look at a model")

    def score(self, attack_job):
        return MembershipScores(attack="logit", values=attack_job.target, unit="nats")


def test_three_signals_of_which_one_is_white_box_pass_and_a_missing_one_is_named(monkeypatch):
    real = registry.load
    monkeypatch.setattr(registry, "load", lambda kind, name: _Logit if name == "logit" else real(kind, name))
    arms = bank(np.random.default_rng(0), pairs=64, gap=3.0, unlearned=0.0)
    spikes = tuple(
        dataclasses.replace(s, measured={"attacks/logit": measured_like(dataclasses.replace(
            arms, unlearned=s.unlearned, unlearned_population=s.unlearned_population)).unlearned})
        for s in spikes_of(np.random.default_rng(1), arms)
    )  # fmt: skip
    given = {"arms": arms, "guarantee": "EMPIRICAL", "signals": ("lira", "rmia", "logit")}
    found = Membership().run(job(**given, spikes=spikes, measured={"attacks/logit": measured_like(arms)}))
    assert found.verdict is PASS
    assert "logit r = " in found.reason
    refused = Membership().run(job(**given, spikes=spikes, unable={"attacks/logit": "no gradients here"}))
    assert refused.verdict is INCONCLUSIVE
    assert "logit was not run: no gradients here" in refused.reason


def test_failing_in_one_run_of_ten_does_not_pass_where_runs_can_be_told_apart():
    """The attack: do nothing in a tenth of the runs; the mean barely moves, the share beyond the midpoint does."""
    arms = bank(np.random.default_rng(0), pairs=60, gap=3.0, unlearned=0.0)
    lazy = arms.unlearned.copy()
    lazy[::10] = arms.into[::10]
    found = Membership().run(job(arms=dataclasses.replace(arms, unlearned=lazy), signals=("lira",)))
    assert found.verdict is not PASS
    assert condition(found, "lira: share of runs beyond the midpoint").verdict is not PASS


def test_below_four_sd_the_words_are_on_average_and_no_share_is_claimed():
    found = judged(pairs=64, gap=0.9, unlearned=0.0, records=10, signals=("lira",), limits={"margin": 0.4})
    assert not [c for c in found.conditions if "midpoint" in c.name]
    assert float(found.details["lira.gap"]) < 4


def test_one_signal_named_twice_is_not_two():
    with pytest.raises(CheckBroken, match="twice"):
        judged(signals=("lira", "lira", "rmia"))


def test_one_failing_signal_fails_the_check(monkeypatch):
    class Blindfold:
        def score(self, attack_job):
            rng = np.random.default_rng(0)
            return MembershipScores(attack="x", values=rng.normal(size=np.shape(attack_job.target)), unit="nats")

    real = registry.load
    monkeypatch.setattr(registry, "load", lambda kind, name: Blindfold if name == "rmia" else real(kind, name))
    assert judged(unlearned="no-op").verdict is FAIL
    assert judged(pairs=48, gap=3.0, unlearned=0.0).verdict is not PASS


def test_a_clamp_at_the_out_mean_does_not_pass():
    """Passes r and the absolute bound; the variance ratio withholds the verdict."""
    arms = bank(np.random.default_rng(0), pairs=48, gap=3.0, unlearned=0.0)
    logits = arms.out - np.log(-np.expm1(arms.out))
    clamped = dataclasses.replace(arms, unlearned=np.tile(log_sigmoid(logits.mean(axis=0)), (48, 1)))
    found = Membership().run(job(arms=clamped, signals=("lira",)))
    assert found.verdict is INCONCLUSIVE
    assert abs(found.estimate) < 0.1
    assert "variance ratio" in found.reason


def test_a_planted_constant_never_passes():
    arms = bank(np.random.default_rng(0), pairs=24, unlearned=0.0)
    flat = dataclasses.replace(
        arms,
        out=np.full_like(arms.out, -1.0),
        into=np.full_like(arms.into, -0.1),
        unlearned=np.full_like(arms.out, -1.0),
    )
    assert Membership().run(job(arms=flat)).verdict is not PASS
    easy = dataclasses.replace(arms, out=flat.out, into=flat.out, unlearned=flat.out)
    assert Membership().run(job(arms=easy)).verdict in (INCONCLUSIVE, UNVERIFIABLE)


def test_swapped_arms_never_pass():
    arms = bank(np.random.default_rng(0), pairs=48, gap=3.0, unlearned=0.0)
    swapped = dataclasses.replace(arms, out=arms.into, into=arms.out)
    assert Membership().run(job(arms=swapped)).verdict is not PASS


def test_controls_are_part_of_every_finding():
    found = judged(pairs=48, gap=3.0, unlearned=0.0)
    for signal in ("lira", "rmia"):
        assert condition(found, f"{signal}: no-op control").verdict is PASS
        assert condition(found, f"{signal}: placebo control").verdict is PASS
        assert condition(found, f"{signal}: assay sensitivity").verdict is PASS
        assert condition(found, f"{signal}: absolute distance X - O, SD of O").verdict is PASS
        assert condition(found, f"{signal}: variance ratio X/O").verdict is PASS


def test_a_placebo_that_is_flagged_withholds_the_pass(monkeypatch):
    monkeypatch.setattr("expunge.stats.signal.placebo", lambda arms, rule, seed: no_op(arms, rule))
    found = judged(pairs=48, gap=3.0, unlearned=0.0)
    assert found.verdict is INCONCLUSIVE
    assert "placebo" in found.reason


def test_a_no_op_that_is_not_caught_withholds_the_pass(monkeypatch):
    monkeypatch.setattr("expunge.stats.signal.no_op", lambda arms, rule: placebo(arms, rule, 0))
    found = judged(pairs=48, gap=3.0, unlearned=0.0)
    assert found.verdict is INCONCLUSIVE
    assert "no-op control" in found.reason


def test_a_residue_is_claimed_at_alpha_shared_among_signals(monkeypatch):
    """Any one of S signals may raise the alarm, so each may spend 1/S, at every attempt; a pass needs all of them and
    spends alpha by attempts."""
    seen = []

    def spy(name, scores, rule, planning, doses):
        seen.append(rule)
        return read_signal(name, scores, rule, planning, doses)

    monkeypatch.setattr("expunge.checks.membership.read_signal", spy)
    judged(pairs=8, limits={"attempt": 2})
    assert [(rule.alpha, rule.fail_alpha) for rule in seen] == [(0.00625, 0.0125)] * 2


def test_later_attempts_must_show_more():
    """The attack: file the same request until chance lets it through."""
    arms = bank(np.random.default_rng(2), pairs=30, gap=2.5, unlearned=0.0)
    intervals = [Membership().run(job(arms=arms, attempt=a)).interval for a in (1, 3)]
    assert intervals[1].high - intervals[1].low > intervals[0].high - intervals[0].low
    assert intervals[0].level == pytest.approx(0.975)


ATTEMPTS = (1, 2, 3, 4)


def again(**arms):
    made = bank(np.random.default_rng(arms.pop("seed", 0)), **arms)
    return [Membership().run(job(arms=made, signals=("lira",), attempt=a)).verdict for a in ATTEMPTS]


def test_a_retry_does_not_make_a_residue_disappear():
    """The attack: file the same failing method again until the alpha left to fail it is too small.

    Small banks, where the residue, and that I > O at all, is shown at .025 but not at .0016.
    """
    table = [
        again(seed=seed, pairs=pairs, records=1, gap=2.2, unlearned="no-op") for pairs in (6, 8) for seed in range(8)
    ]
    failing = [row for row in table if FAIL in row]
    assert len(failing) >= 8
    assert all(row == [FAIL] * 4 for row in failing)
    assert [again(pairs=24, gap=0.0, unlearned=0.0, shift=-6.0), again(pairs=32, gap=3.0, unlearned=-0.8)] == [
        [FAIL] * 4
    ] * 2


def test_a_marginal_pass_may_become_inconclusive_and_never_the_other_way():
    table = [again(seed=seed, pairs=20, gap=3.0, unlearned=0.0) for seed in range(12)]
    assert any(row[0] is PASS and row[3] is not PASS for row in table)
    for row in table:
        assert row == sorted(row, key=lambda verdict: verdict is not PASS)
        assert (FAIL in row) == (row == [FAIL] * 4)


def test_a_bank_that_refuses_is_not_called_no_bank():
    found = Membership().run(dataclasses.replace(job(), bank_refusal="its halves split the block"))
    assert found.verdict is INCONCLUSIVE
    assert found.reason == "the bank cannot judge this: its halves split the block"


def test_honest_findings_when_something_is_missing():
    assert "no bank" in Membership().run(job()).reason
    assert "no signal" in judged(signals=()).reason
    assert "5 complement pairs" in judged(pairs=5).reason
    for found in (Membership().run(job()), judged(signals=()), judged(pairs=5)):
        assert found.verdict is INCONCLUSIVE


def test_malformed_arms_break_the_check():
    arms = bank(np.random.default_rng(0), pairs=8)
    for change in ({"into": arms.into[:7]}, {"out": arms.out * np.nan}, {"out": -arms.out}):
        with pytest.raises(CheckBroken):
            Membership().run(job(arms=dataclasses.replace(arms, **change)))


def test_no_score_of_a_single_model_leaves_the_check():
    """The proof must not become the leak: details are contrasts, p-values and plans, and the record is canonical."""
    arms = bank(np.random.default_rng(0), pairs=12, records=1, gap=3.0, unlearned=0.0)
    found = Membership().run(job(arms=arms))
    text = canonical(encode(found)).decode()
    assert isinstance(Membership(), Check)
    assert {k.split(".")[-1] for k in found.details} <= {
        "alpha_spent", "signals_correlation", "gap", "gap_low", "gap_high", "needed_pairs", "needed_models",
        "detectable_gap", "p_assay", "p_noop_residue", "placebo_r", "correlation_OI", "correlation_XO",
        "correlation_XI", "r", "r_low", "r_high", "p_residue_excluded", "p_over_excluded", "p_residue_shown",
        "p_over_shown", "odds_IN_OUT", "absolute_margin", "e_lond_level", "earlier_requests_on_this_bank",
    }  # fmt: skip
    for value in np.concatenate([arms.out, arms.into, arms.unlearned]).ravel():
        assert f"{value:.6g}" not in text
    assert Membership().run(job(arms=arms)) == found


@pytest.fixture(scope="module")
def rates():
    """Verdicts of the whole check, attacks included, on simulated banks of 30 pairs and one signal."""
    rng = np.random.default_rng(11)

    def run(runs, **arms):
        jobs = [job(arms=bank(rng, pairs=30, records=4, gap=3.0, population=30, **arms), signals=("lira",), seed=k)
                for k in range(runs)]  # fmt: skip
        return [Membership().run(one).verdict for one in jobs]

    return {
        "exact": run(60, unlearned=0.0),
        "at the margin": run(60, unlearned=0.2),
        "again with the data": run(40, unlearned=1.0),
    }


def test_references_of_other_pairs_do_not_inflate_false_passes(rates):
    """Pairs share references, so their scores are not independent; alpha spent at attempt 1 is .0125."""
    assert naive.at_most(rates["at the margin"].count(PASS), 60, 0.0125)
    assert rates["again with the data"].count(PASS) == 0
    assert rates["again with the data"].count(FAIL) == 40


def test_an_exact_retrain_is_not_failed_and_mostly_passes(rates):
    assert rates["exact"].count(FAIL) <= 1
    assert rates["exact"].count(PASS) >= 45
