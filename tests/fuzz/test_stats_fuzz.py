"""Every public function of the statistics floor on arrays that went wrong: a number, or a typed error, and no NaN."""

import importlib
import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.errors import CheckBroken
from expunge.stats import (
    anchors,
    arrays,
    block,
    bounds,
    coins,
    compat,
    epsilon,
    evalues,
    intervals,
    margins,
    multiplicity,
    power,
    rank,
    ratio,
    requests,
    roc,
    sequential,
    signal,
    spending,
    threearm,
    verdict,
)
from expunge.stats.threearm import Outcome, PairArms, Rule
from expunge.stats.verdict import Further
from fuzz.nasty import FEW, columns, counts, numbers, survives, tables

FEWER = settings(FEW, max_examples=6)
RULE = Rule(margin=0.3, alpha=0.025, fail_alpha=0.025)
PLANNING = signal.Planning(power=0.8, signals=2, correlation=0.5, seed=0, further=Further())


def arms_of(c):
    return PairArms.of(*c)


def design(covariance, n):
    return power.Design(margin=n[0], alpha=n[1], power=0.8, signals=2, correlation=n[2], covariance=covariance)


# name: (arrays wanted, call(arrays, numbers n, counts k))
VECTORS = {
    "arrays.finite": (1, lambda c, n, k: arrays.finite("x", c[0], (None,))),
    "arrays.log_probabilities": (1, lambda c, n, k: arrays.log_probabilities("x", c[0], (None,))),
    "arrays.booleans": (1, lambda c, n, k: arrays.booleans("x", c[0], (None,))),
    "bounds.absolute_distance": (3, lambda c, n, k: bounds.absolute_distance(arms_of(c), n[0])),
    "bounds.midpoint_share": (3, lambda c, n, k: bounds.midpoint_share(arms_of(c), n[0])),
    "bounds.variance_ratio": (3, lambda c, n, k: bounds.variance_ratio(arms_of(c), 0.95)),
    "coins.audit_coins": (2, lambda c, n, k: coins.audit_coins(c[0], c[1])),
    "coins.needed_coins": (0, lambda c, n, k: coins.needed_coins(n[0], power=n[1])),
    "coins.coin_power": (0, lambda c, n, k: coins.coin_power(k[0], n[0], n[1])),
    "epsilon.epsilon_lower_bound": (
        2, lambda c, n, k: epsilon.epsilon_lower_bound(c[0], c[1], seed=0, delta=n[0], thresholds=k[0])),
    "epsilon.one_run_epsilon": (
        2, lambda c, n, k: epsilon.one_run_epsilon(c[0], np.asarray(c[1]) == c[1], guesses=k[0], delta=n[0])),
    "epsilon.one_run_p_value": (0, lambda c, n, k: epsilon.one_run_p_value(k[0], k[1], k[2], n[0], n[1])),
    "evalues.calibrated": (0, lambda c, n, k: evalues.calibrated(n[0], n[1])),
    "evalues.p_value_of": (0, lambda c, n, k: evalues.p_value_of(n[0])),
    "evalues.t_e_value": (1, lambda c, n, k: evalues.t_e_value(c[0], n[0])),
    "evalues.e_process": (2, lambda c, n, k: evalues.e_process(c, n[0])),
    "intervals.clopper_pearson": (0, lambda c, n, k: intervals.clopper_pearson(k[0], k[1], n[0])),
    "intervals.share_at_most": (0, lambda c, n, k: intervals.share_at_most(k[0], k[1], n[0])),
    "intervals.share_at_least": (0, lambda c, n, k: intervals.share_at_least(k[0], k[1], n[0])),
    "intervals.paired_bootstrap": (1, lambda c, n, k: intervals.paired_bootstrap(c[0], level=n[0], seed=0, resamples=50)),
    "intervals.standardised_mean": (2, lambda c, n, k: intervals.standardised_mean(c[0], c[1], alpha=n[0])),
    "intervals.constant": (1, lambda c, n, k: intervals.constant(arrays.finite("x", c[0], (None,)))),
    "intervals.by_score": (1, lambda c, n, k: intervals.by_score(arrays.finite("x", c[0], (None,)), 0)),
    "margins.margin_units": (0, lambda c, n, k: margins.margin_units(n[0], n[1])),
    "margins.sd_of_auc": (0, lambda c, n, k: margins.sd_of_auc(n[0])),
    "margins.gaussian_epsilon": (0, lambda c, n, k: margins.gaussian_epsilon(n[0], n[1])),
    "multiplicity.holm": (1, lambda c, n, k: multiplicity.holm(c[0])),
    "multiplicity.e_bh": (1, lambda c, n, k: multiplicity.e_bh(c[0], n[0])),
    "power.out_draw": (2, lambda c, n, k: power.out_draw(c[0], c[1])),
    "power.measured": (3, lambda c, n, k: power.measured(*c)),
    "power.power_at": (
        3, lambda c, n, k: power.power_at(design(power.measured(*c), n), pairs=k[0], gap=n[0], seed=0, runs=40)),
    "power.needed_pairs": (
        3, lambda c, n, k: power.needed_pairs(design(power.measured(*c), n), gap=n[0], seed=0, most=512, runs=40)),
    "power.minimum_detectable": (
        3, lambda c, n, k: power.minimum_detectable(design(power.measured(*c), n), pairs=k[0], seed=0, runs=40)),
    "rank.rank_p_value": (1, lambda c, n, k: rank.rank_p_value(n[0], c[0])),
    "rank.distance": (1, lambda c, n, k: rank.distance(n[0], c[0])),
    "rank.prediction_p_value": (1, lambda c, n, k: rank.prediction_p_value(n[0], c[0])),
    "rank.ranked": (1, lambda c, n, k: rank.ranked(n[0], c[0], "below")),
    "rank.rank_e_value": (1, lambda c, n, k: rank.rank_e_value(n[0], c[0], tilt=n[1])),
    "rank.leave_one_out": (1, lambda c, n, k: rank.leave_one_out(c[0])),
    "rank.detectable_shift": (
        0, lambda c, n, k: rank.detectable_shift(min(k[0], 8), alpha=n[0], power=n[1], seed=0)),
    "rank.uniformity": (1, lambda c, n, k: rank.uniformity(c[0], anchors=k[0], seed=0, at=n[0], runs=20)),
    "rank.uniform_distance": (1, lambda c, n, k: rank.uniform_distance(arrays.finite("x", c[0], (None,)), k[0])),
    "ratio.likelihood_ratio": (2, lambda c, n, k: ratio.likelihood_ratio(n[0], c[0], c[1])),
    "ratio.typical_ratio": (3, lambda c, n, k: ratio.typical_ratio(*c)),
    "requests.over_requests": (1, lambda c, n, k: requests.over_requests(dict(enumerate(c[0])), n[0])),
    "roc.roc": (2, lambda c, n, k: roc.roc(*c)),
    "roc.roc_band": (2, lambda c, n, k: roc.roc_band(*c, level=n[0], points=k[0])),
    "roc.auc": (2, lambda c, n, k: roc.auc(*c, level=n[0])),
    "roc.tpr_at_fpr": (2, lambda c, n, k: roc.tpr_at_fpr(*c, fpr=n[0])),
    "roc.histogram": (1, lambda c, n, k: roc.histogram(c[0], bins=k[0])),
    "sequential.sequential_three_arm": (
        3, lambda c, n, k: sequential.sequential_three_arm(
            arms_of(c), RULE, sequential.SequentialPlan(chunk=k[0], most=4, gap=n[0]))),
    "signal.read_signal": (
        3, lambda c, n, k: signal.read_signal("s", block.BlockScores(
            out=arms_of(c).out, into=arms_of(c).into, unlearned=arms_of(c).unlearned), RULE, PLANNING)),
    "signal.signal_correlation": (
        3, lambda c, n, k: signal.signal_correlation(
            [block.BlockScores(out=arms_of(c).out, into=arms_of(c).into, unlearned=None)] * 2)),
    "spending.spent_alpha": (0, lambda c, n, k: spending.spent_alpha(n[0], k[0])),
    "spending.limit_level": (0, lambda c, n, k: spending.limit_level(k[0])),
    "spending.levels_said": (0, lambda c, n, k: spending.levels_said(k[0])),
    "threearm.contrast_test": (1, lambda c, n, k: threearm.contrast_test(arms_of([c[0]] * 3).out)),
    "threearm.hall": (0, lambda c, n, k: threearm.hall(1.0, 0.5, 9)),
    "threearm.contrasts": (3, lambda c, n, k: threearm.contrasts(arms_of(c), 0.2)),
    "threearm.fieller": (3, lambda c, n, k: threearm.fieller(arms_of(c).unlearned, arms_of(c).into, 0.025)),
    "threearm.three_arm": (3, lambda c, n, k: threearm.three_arm(arms_of(c), RULE)),
    "threearm.copied": (3, lambda c, n, k: threearm.copied(arms_of(c))),
    "threearm.no_op": (3, lambda c, n, k: threearm.no_op(arms_of(c), RULE)),
    "threearm.placebo": (3, lambda c, n, k: threearm.placebo(arms_of(c), RULE, 0)),
    "verdict.judge": (3, lambda c, n, k: verdict.judge(arms_of(c), RULE, Further())),
    "verdict.all_pass": (3, lambda c, n, k: verdict.all_pass([verdict.judge(arms_of(c), RULE, Further())], k[0])),
    "anchors.anchor_rates": (
        0, lambda c, n, k: anchors.anchor_rates(anchors.AnchorDesign(
            out=min(k[0], 20), into=min(k[1], 20), gap=n[0], fail=n[1], still_in=0.05, signals=1, correlation=n[2]),
            seed=0, runs=20)),
}  # fmt: skip
TABLES = {
    "compat.klom": (2, lambda c: compat.klom(*c, seed=0, runs=3)),
    "compat.u_lira": (2, lambda c: compat.u_lira(*c, seed=0, runs=3)),
    "rank.rank_p_values": (1, lambda c: rank.rank_p_values(np.zeros(3), c[0])),
    "rank.ranked_p_values": (1, lambda c: rank.ranked_p_values(np.zeros(len(c[0])), c[0])),
    "rank.population_p_value": (1, lambda c: rank.population_p_value(np.zeros(3), c[0])),
}
ELSEWHERE = {  # fuzzed through the checks, or taking no array
    "block.arms_of", "block.pair_scores", "block.among_peers", "block.block_means", "requests.finding_p_value",
    "draws.draw_runs",  # through power
    "block.inputs_of", "block.measured_arms", "block.measured_files", "block.spiked_arms",  # tests/stats/test_block.py
}  # fmt: skip
OWNED = sorted({name.split(".")[0] for name in [*VECTORS, *TABLES, *ELSEWHERE]})


def test_every_public_function_is_fuzzed():
    found = set()
    for name in OWNED:
        module = importlib.import_module(f"expunge.stats.{name}")
        functions = inspect.getmembers(module, inspect.isfunction)
        found |= {f"{name}.{f}" for f, code in functions if code.__module__ == module.__name__ and f[0] != "_"}
    assert found == set(VECTORS) | set(TABLES) | ELSEWHERE


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_vectors_that_went_wrong_give_a_number_or_a_typed_error(name):
    wanted, call = VECTORS[name]

    @(FEWER if name == "signal.read_signal" else FEW)  # it plans, too: by far the slowest
    @given(columns(wanted), st.tuples(numbers, numbers, numbers), st.tuples(counts, counts, counts))
    def check(c, n, k):
        found = survives(lambda: call(c, n, k))
        assert not _earned_by_nonsense(found, c)

    check()


@pytest.mark.parametrize("name", sorted(TABLES))
def test_tables_that_went_wrong_give_a_number_or_a_typed_error(name):
    wanted, call = TABLES[name]

    @FEW
    @given(tables(wanted))
    def check(c):
        survives(lambda: call(c))

    check()


def _earned_by_nonsense(found, c):
    """A pass on arms of noise around the same level has no gap to rest on."""
    if isinstance(found, threearm.ThreeArm | sequential.Sequential):
        return found.outcome is Outcome.EQUIVALENT and abs(np.mean(c[1]) - np.mean(c[0])) < np.std(c[0]) / 10
    return found is True and len(c) == 3 and not threearm.copied(arms_of(c))


# ------------------------------------------------------------------------------------------- a pass, then something wrong


def good(pairs=48):
    """Arms that pass."""
    rng = np.random.default_rng(1)
    return {"out": rng.normal(size=pairs), "into": rng.normal(7, 1, pairs), "unlearned": rng.normal(size=pairs)}


def spoilt(arms, **changes):
    return {**arms, **changes}


WRONG = {
    "X is I": lambda a: spoilt(a, unlearned=a["into"]),
    "X is I moved by rounding": lambda a: spoilt(a, unlearned=a["into"] + 1e-9),
    "X is O": lambda a: spoilt(a, unlearned=a["out"]),
    "X is O in another order": lambda a: spoilt(a, unlearned=a["out"][::-1]),
    "IN and OUT swapped": lambda a: spoilt(a, out=a["into"], into=a["out"]),
    "all three the same": lambda a: spoilt(a, into=a["out"], unlearned=a["out"]),
    "O constant": lambda a: spoilt(a, out=np.zeros(48)),
    "X constant": lambda a: spoilt(a, unlearned=np.zeros(48)),
    "all constant": lambda a: {"out": np.zeros(48), "into": np.full(48, 7.0), "unlearned": np.zeros(48)},
    "tiny scale": lambda a: {name: column * 1e-300 for name, column in a.items()},
    "huge scale": lambda a: {name: column * 1e200 for name, column in a.items()},
    "one NaN": lambda a: spoilt(a, unlearned=np.where(np.arange(48) == 3, np.nan, a["unlearned"])),
    "one infinite": lambda a: spoilt(a, into=np.where(np.arange(48) == 3, np.inf, a["into"])),
    "unpaired": lambda a: spoilt(a, unlearned=a["unlearned"][:-1]),
    "two pairs": lambda a: {name: column[:2] for name, column in a.items()},
    "empty": lambda a: {name: column[:0] for name, column in a.items()},
    "six pairs eight times": lambda a: {name: np.tile(column[:6], 8) for name, column in a.items()},
    "a column too many": lambda a: {name: column[:, None] for name, column in a.items()},
    "negated scores": lambda a: {name: -column for name, column in a.items()},
    "X of another scale": lambda a: spoilt(a, unlearned=a["unlearned"] * 50),
    "X far below": lambda a: spoilt(a, unlearned=a["unlearned"] - 7),
}


def test_the_arms_that_are_spoilt_below_pass_before():
    assert verdict.judge(PairArms.of(**good()), RULE, Further()).passed
    plan = sequential.SequentialPlan(chunk=8, most=6, gap=6.0)
    assert sequential.sequential_three_arm(PairArms.of(**good()), RULE, plan).outcome is Outcome.EQUIVALENT


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_arms_with_one_thing_wrong_never_pass(wrong):
    arms = WRONG[wrong](good())
    found = survives(lambda: verdict.judge(PairArms.of(**arms), RULE, Further()))
    assert found is None or not found.passed
    plan = sequential.SequentialPlan(chunk=8, most=6, gap=6.0)
    read = survives(lambda: sequential.sequential_three_arm(PairArms.of(**arms), RULE, plan))
    only_of_the_whole_rule = ("X constant", "X of another scale")
    assert read is None or read.outcome is not Outcome.EQUIVALENT or wrong in only_of_the_whole_rule


@FEW
@given(st.sampled_from(sorted(WRONG)), st.sampled_from(sorted(WRONG)), st.integers(0, 99))
def test_arms_with_two_things_wrong_never_pass(first, second, seed):
    def twice():
        arms = {name: np.random.default_rng(seed).permutation(column) for name, column in good().items()}
        for change in (first, second):
            arms = WRONG[change](arms)
        return verdict.judge(PairArms.of(**arms), RULE, Further())

    cancel = {"IN and OUT swapped", "negated scores", "X is O", "X is O in another order"}
    try:
        found = survives(twice)
    except (ValueError, IndexError):
        return  # the change itself could not be made to arrays of another shape
    assert found is None or not found.passed or {first, second} <= cancel


def test_a_typed_error_is_what_unpaired_arms_raise():
    with pytest.raises(CheckBroken):
        PairArms.of([1.0, 2.0, 3.0], [1.0, 2.0], [1.0, 2.0, 3.0])
