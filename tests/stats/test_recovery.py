"""Recovery against never-trained controls: by hand, by a slow twin, and by how often the rule is wrong."""

import math

import numpy as np
import pytest
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.stats.recovery import (
    ASSAY,
    MARGIN,
    Runs,
    budget_is_no_smaller,
    excess,
    fewest_seeds,
    judge_recovery,
    lottery,
    smallest_budgets,
)

N, S, C = 40, 8, 5


def runs(rows, pictures=N):
    return Runs(hits=np.array(rows, np.int64), pictures=pictures)


def twin(recovery, control, level=0.95):
    """One number at a time."""
    mine = [h / N for h in recovery.hits[0].tolist()]
    theirs = [[h / N for h in row] for row in control.hits.tolist()]
    columns = [sum(row[s] for row in theirs) / len(theirs) for s in range(len(mine))]
    gaps = [a - b for a, b in zip(mine, columns, strict=True)]
    centre = sum(gaps) / len(gaps)
    seeds = sum((gap - centre) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps)
    rate = min(max(sum(columns) / len(columns) + 0.1, 0.1), 0.9)
    floor = rate * (1 - rate) * (0.2 + 0.8 / N) / len(gaps)
    seeds = max(seeds, floor)
    means = [sum(row) / len(row) for row in theirs]
    middle = sum(means) / len(means)
    styles = sum((mean - middle) ** 2 for mean in means) / (len(means) - 1) / len(means)
    freedom = (seeds + styles) ** 2 / (seeds**2 / (len(gaps) - 1) + styles**2 / (len(means) - 1))
    reach = stats.t.ppf(level, freedom) * math.sqrt(seeds + styles)
    return centre, max(-1, centre - reach), min(1, centre + reach)


@pytest.mark.parametrize("seed", range(20))
def test_excess_is_its_slow_twin(seed):
    draw = np.random.default_rng(seed)
    mine, theirs = runs(draw.integers(0, N + 1, (1, S))), runs(draw.integers(0, N // 2, (C, S)))
    found = excess(mine, theirs)
    assert (found.estimate, found.low, found.high) == pytest.approx(twin(mine, theirs), rel=1e-9)


def test_runs_that_agree_do_not_make_it_certain():
    nothing = excess(runs([[0] * S]), runs([[0] * S] * C))
    assert nothing.estimate == 0
    assert 0.09 < nothing.high < MARGIN  # eight failed runs of 40 just pass
    assert excess(runs([[0] * 7]), runs([[0] * 7] * C)).high > MARGIN  # and seven do not
    everything = excess(runs([[N] * S]), runs([[0] * S] * C))
    assert everything.low > 0.85


@pytest.mark.parametrize("level", [0.95, 0.975, 0.9875, 0.99375])
@pytest.mark.parametrize("pictures", [4, 40])
def test_the_fewest_seeds_are_the_first_with_which_nothing_at_all_passes(level, pictures):
    found = fewest_seeds(pictures, level)

    def silent(seeds):
        return excess(runs([[0] * seeds], pictures), runs([[0] * seeds] * C, pictures), level).high

    assert silent(found) <= MARGIN
    assert found == 8 or silent(found - 1) > MARGIN


def test_a_later_attempt_takes_more_to_pass_and_the_same_to_fail():
    """Over draws around the margin: what passes at a level passes at each lower one, what fails fails at all."""
    draw, levels = np.random.default_rng(5), (0.95, 0.975, 0.9875, 0.996875)
    seen = set()
    for rate in np.tile([0.02, 0.08, 0.2, 0.3], 25):
        original = Runs(hits=drawn(draw, rate * 2.5, 0.1, (1, 16)), pictures=N)
        candidate, control = drawn(draw, rate, 0.1, (1, 16)), drawn(draw, 0.02, 0.1, (C, 16))
        told = [
            judge_recovery(original, Runs(hits=candidate, pictures=N), Runs(hits=control, pictures=N), level=level)
            for level in levels
        ]
        verdicts = [one.verdict for one in told]
        passed = [verdict is Verdict.PASS for verdict in verdicts]
        assert passed == sorted(passed, reverse=True)
        for fixed in (Verdict.FAIL, Verdict.UNVERIFIABLE):
            assert len({verdict is fixed for verdict in verdicts}) == 1
        seen |= set(verdicts)
    assert {Verdict.FAIL, Verdict.UNVERIFIABLE, Verdict.INCONCLUSIVE} <= seen


def test_one_control_that_behaves_otherwise_widens_the_limits():
    """Stained glass came back from a model that never saw it, in the pilot: one control misleads, five say so."""
    calm = excess(runs([[4] * S]), runs([[2] * S] * C))
    odd = excess(runs([[4] * S]), runs([[2] * S] * (C - 1) + [[N] * S]))
    assert odd.high - odd.estimate > 3 * (calm.high - calm.estimate)


def drawn(generator, rate, spread, shape, n=N):
    """Hits whose rate differs from run to run: beta with this mean, `spread` of the way to all or nothing."""
    size = (1 - spread) / spread
    rates = generator.beta(max(rate * size, 1e-9), max((1 - rate) * size, 1e-9), shape)
    return generator.binomial(n, rates)


@pytest.mark.parametrize(("spread", "base"), [(0.05, 0.0), (0.05, 0.1), (0.2, 0.1), (0.4, 0.3)])
def test_a_recovery_at_the_margin_passes_in_at_most_one_of_twenty(spread, base):
    """False passes where the truth is exactly the margin; seeds and control styles differ."""
    draw, passes, trials = np.random.default_rng(0), 0, 1500
    for _ in range(trials):
        levels = np.clip(base + 0.3 * base * draw.standard_normal(C), 0, 1)
        control = np.stack([drawn(draw, level, spread, S) for level in levels])
        mine = drawn(draw, base + MARGIN, spread, (1, S))
        passes += excess(Runs(hits=mine, pictures=N), Runs(hits=control, pictures=N)).high <= MARGIN
    assert passes / trials <= 0.06  # .05, and the noise of 1,500 trials


def test_sixteen_seeds_let_an_honest_model_pass():
    """The bound would be worth nothing if nobody could meet it: a model like its controls, at 2 in 100."""
    draw, passes = np.random.default_rng(3), 0
    for _ in range(300):
        control, mine = drawn(draw, 0.02, 0.1, (C, 16)), drawn(draw, 0.02, 0.1, (1, 16))
        passes += excess(Runs(hits=mine, pictures=N), Runs(hits=control, pictures=N)).high <= MARGIN
    assert passes / 300 > 0.9


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: Runs(hits=np.array([[41]]), pictures=40),
        lambda: Runs(hits=np.array([[-1]]), pictures=40),
        lambda: Runs(hits=np.array([[0.5]]), pictures=40),
        lambda: Runs(hits=np.zeros((0, 8), np.int64), pictures=40),
        lambda: excess(runs([[0] * 7]), runs([[0] * 8] * C)),
        lambda: excess(runs([[0] * 8] * 2), runs([[0] * 8] * C)),
        lambda: excess(runs([[0] * 8]), runs([[0] * 8])),
        lambda: lottery([], []),
        lambda: smallest_budgets([[0.1, math.nan]], (1, 2)),
        lambda: smallest_budgets([[0.1, 0.2]], (2, 1)),
        lambda: budget_is_no_smaller([], [1]),
    ],
)
def test_what_is_no_count_of_runs_is_an_error(spoil):
    with pytest.raises(CheckBroken):
        spoil()


def test_a_lottery_gets_past_the_mean_of_eight_seeds_and_not_past_the_battery():
    """An attack that works for one seed in eight: eight seeds show nothing in a third of all cases."""
    draw, single, whole = np.random.default_rng(1), 0, 0
    control = runs([[0] * S] * C)
    for _ in range(500):
        battery = [Runs(hits=N * (draw.random((1, S)) < 1 / 8).astype(np.int64), pictures=N) for _ in range(6)]
        single += excess(battery[0], control).high <= MARGIN
        found = lottery(battery, [control] * 6)
        whole += found.at_most - found.control <= MARGIN
    assert 0.25 < single / 500 < 0.45
    assert whole / 500 < 0.05


ORIGINAL = runs([[38, 40, 36, 39, 40, 37, 40, 38]])
QUIET = runs([[0, 1, 0, 0, 0, 0, 1, 0]] * C)


@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [
        ([0, 0, 1, 0, 0, 0, 0, 0], Verdict.PASS),
        ([38, 40, 20, 39, 36, 37, 40, 38], Verdict.FAIL),
        ([0, 0, 0, 0, 0, 0, 0, 40], Verdict.INCONCLUSIVE),
        ([4, 5, 3, 6, 4, 5, 4, 5], Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts_by_hand(candidate, verdict):
    found = judge_recovery(ORIGINAL, runs([candidate]), QUIET)
    assert found.verdict is verdict
    assert (found.reason == "") == (verdict is Verdict.PASS)


def test_an_untouched_model_fails():
    assert judge_recovery(ORIGINAL, ORIGINAL, QUIET).verdict is Verdict.FAIL


def test_an_attack_that_works_on_everybody_says_nothing():
    """Soft prompts of four vectors: 93 % from a model that never saw the style. Even full retraining must not fail it."""
    loud = runs([[37, 38, 36, 40, 39, 35, 38, 37]] * C)
    assert judge_recovery(ORIGINAL, ORIGINAL, loud).verdict is Verdict.UNVERIFIABLE
    assert judge_recovery(ORIGINAL, runs([[0] * S]), loud).verdict is Verdict.UNVERIFIABLE


def test_an_original_that_is_not_surely_above_control_is_no_assay():
    some = runs([[0, 40, 0, 40, 10, 0, 30, 5]])
    assert excess(some, QUIET).estimate > ASSAY > excess(some, QUIET).low
    assert judge_recovery(some, runs([[0] * S]), QUIET).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("styles", "seeds"), [(3, 8), (4, 7), (1, 40)])
def test_too_few_controls_or_seeds_decide_nothing(styles, seeds):
    rows = [runs([[v] * seeds]) for v in (N, 0)]
    found = judge_recovery(*rows, runs([[0] * seeds] * styles))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "needed" in found.reason


def test_smallest_budgets_by_hand():
    rates = [[0, 0.2, 0.5, 1], [0.6, 0, 1, 1], [0, 0, 0, 0.49], [0, 0, 0, 0.5]]
    assert smallest_budgets(rates, (1, 2, 4, 8)).tolist() == [4, 1, math.inf, 8]
    assert budget_is_no_smaller([4, 4, 8], [4, 4, 4, 8])
    assert not budget_is_no_smaller([1, 1, 4], [4, 4, 4, 8])
    assert budget_is_no_smaller([math.inf] * 3, [math.inf] * 4)
    assert not budget_is_no_smaller([8] * 3, [math.inf] * 4)
    assert not budget_is_no_smaller([2, 2], [1, 4, 4, 4, 4])  # one control that misleads does not lower the quartile
