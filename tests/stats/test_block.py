import dataclasses

import numpy as np
import pytest

from expunge.attacks.lira import Lira
from expunge.attacks.rmia import Rmia
from expunge.core.errors import CheckBroken
from expunge.core.finding import MembershipScores
from expunge.core.protocols import Measured, Spike
from expunge.stats.block import Models, among_peers, measured_arms, measured_files, pair_scores, spiked_arms
from expunge.stats.power import Design, needed_pairs, out_draw
from expunge.stats.signal import Planning, read_signal, signal_correlation
from expunge.stats.threearm import Rule
from oracle.banks import bank, served


def spy(seen):
    """An attack that records its jobs and scores log p itself."""

    def score(job):
        seen.append(job)
        return MembershipScores(attack="spy", values=np.asarray(job.target), unit="nats")

    return score


def test_no_pair_is_judged_by_references_of_its_own():
    """The attack: a reference that is the model under test makes every method look the same."""
    arms, seen = bank(np.random.default_rng(0), pairs=6, records=4, unlearned=0.0), []
    scores = pair_scores(spy(seen), arms)
    assert len(seen) == 6
    for k, job in enumerate(seen):
        others = [j for j in range(6) if j != k]
        assert np.array_equal(job.target, np.stack([arms.out[k], arms.into[k], arms.unlearned[k]]))
        assert np.array_equal(job.reference, np.concatenate([arms.out[others], arms.into[others]]))
        assert np.array_equal(job.member, np.repeat([[False], [True]], 5, axis=0).repeat(4, axis=1))
        assert np.array_equal(job.target_population[2], arms.unlearned_population[k])
        assert np.array_equal(
            job.reference_population, np.concatenate([arms.out_population[others], arms.into_population[others]])
        )
    assert scores.out == pytest.approx(arms.out.mean(axis=1))
    assert scores.unlearned == pytest.approx(arms.unlearned.mean(axis=1))


def test_without_an_x_arm_there_is_no_x():
    scores = pair_scores(spy([]), bank(np.random.default_rng(0), pairs=5))
    assert scores.unlearned is None
    assert scores.into.shape == (5,)


def test_file_and_anchors_are_scored_alike():
    """Each by all the others, or the rank would not be exact."""
    job, seen = served(np.random.default_rng(1), anchors=5, members=3, records=2), []
    out = Models.of("out", job.out_anchors, job.out_population)
    file = Models.of("file", job.candidate, job.candidate_population)
    members = Models.of("in", job.in_anchors, job.in_population)
    found = among_peers(spy(seen), file, out, members, peers_are_members=False)
    assert found.shape == (6,)
    stack = np.concatenate([job.candidate, job.out_anchors])
    for k, call in enumerate(seen):
        rest = np.concatenate([np.delete(stack, k, axis=0), job.in_anchors])
        assert np.array_equal(call.target[0], stack[k])
        assert np.array_equal(call.reference, rest)
        assert call.member[:5].sum() == 0
        assert call.member[5:].all()


@pytest.mark.parametrize(
    "change",
    [
        {"into": np.full((5, 4), -1.0)},
        {"into": np.full((6, 3), -1.0)},
        {"out": np.full((6, 4), np.nan)},
        {"out": np.full((6, 4), -np.inf)},
        {"out": np.full(6, -1.0)},
        {"out": np.empty((6, 0)), "into": np.empty((6, 0))},
        {"unlearned": np.full((5, 4), -1.0)},
        {"unlearned_population": None},
        {"out_population": np.full((6, 99), -1.0)},
        {"out": "scores"},
    ],
)
def test_malformed_arms_break_the_check(change):
    arms = bank(np.random.default_rng(0), pairs=6, records=4, unlearned=0.0)
    with pytest.raises(CheckBroken):
        pair_scores(spy([]), dataclasses.replace(arms, **change))


@pytest.mark.parametrize(
    ("attack", "field"),
    [(Lira, "out"), (Lira, "into"), (Lira, "unlearned"), (Rmia, "out"), (Rmia, "unlearned"), (Rmia, "out_population")],
)
def test_a_probability_above_one_breaks_the_check_in_the_attack_that_reads_it(attack, field):
    arms = bank(np.random.default_rng(0), pairs=6, records=4, unlearned=0.0)
    wrong = np.full_like(getattr(arms, field), 1.0)
    with pytest.raises(CheckBroken):
        pair_scores(attack().score, dataclasses.replace(arms, **{field: wrong}))


def test_an_attack_that_returns_nan_or_another_shape_breaks_the_check():
    arms = bank(np.random.default_rng(0), pairs=6, records=4)
    for values in (np.full((2, 4), np.nan), np.zeros((2, 3)), None):
        with pytest.raises(CheckBroken, match="bad"):
            pair_scores(lambda job, v=values: MembershipScores(attack="bad", values=v, unit="nats"), arms)


def test_a_share_is_averaged_on_the_logit_scale_and_must_be_one():
    arms = bank(np.random.default_rng(0), pairs=4, records=2, population=20)

    def shares(low, high):
        return lambda job: MembershipScores(
            attack="bad", values=np.linspace(low, high, job.target.size).reshape(job.target.shape), unit="probability"
        )

    found = pair_scores(shares(0.0, 1.0), arms)
    logit = [np.log((20 * s + 0.5) / (20 - 20 * s + 0.5)) for s in (0, 1 / 3, 2 / 3, 1)]
    assert found.out == pytest.approx(np.full(4, np.mean(logit[:2])))
    assert found.into == pytest.approx(np.full(4, np.mean(logit[2:])))
    with pytest.raises(CheckBroken, match="outside"):
        pair_scores(shares(0.0, 1.1), arms)


def test_signals_that_are_copies_of_each_other_show_their_correlation():
    scores = pair_scores(spy([]), bank(np.random.default_rng(0), pairs=12))
    assert signal_correlation([scores, scores]) == pytest.approx(1.0)
    assert signal_correlation([scores]) == 0.5


def test_the_plan_is_made_at_the_upper_limit_of_the_gap():
    """At the estimate, half of all blind assays would be called INCONCLUSIVE by luck, and half UNVERIFIABLE."""
    scores = pair_scores(spy([]), bank(np.random.default_rng(0), pairs=12))
    rule = Rule(margin=0.2, alpha=0.0125, fail_alpha=0.00625)
    reading = read_signal("spy", scores, rule, Planning(power=0.8, signals=2, correlation=0.4, seed=3))
    plan = Design(
        margin=0.2, alpha=0.0125, power=0.8, signals=2, correlation=0.4, fail_alpha=0.00625,
        covariance=out_draw(scores.out, scores.into),
    )  # fmt: skip
    assert reading.needed == needed_pairs(plan, gap=reading.gap.high, seed=3)
    assert reading.needed < needed_pairs(plan, gap=reading.gap.estimate, seed=3)
    assert reading.gap.level == 0.95


def test_a_reading_is_the_same_for_the_same_seed():
    scores = pair_scores(spy([]), bank(np.random.default_rng(0), pairs=12, unlearned=0.0))
    rule = Rule(margin=0.2, alpha=0.0125, fail_alpha=0.00625)
    plans = [Planning(power=0.8, signals=2, correlation=0.5, seed=s) for s in (1, 1, 2)]
    first, again, other = (read_signal("spy", scores, rule, plan) for plan in plans)
    assert first == again
    assert first.sham != other.sham


MODEL = {"block": np.zeros(3), "population": np.zeros(4)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"block": np.zeros(3)},
        {"block": np.zeros(2), "population": np.zeros(4)},
        {"block": "x", "population": np.zeros(4)},
    ],
)
def test_a_probe_that_answers_differently_on_one_model_breaks_the_check(wrong):
    good = [MODEL, MODEL]
    assert measured_arms(Measured(out=good, into=good, unlearned=good)).out.shape == (2, 3)
    for arm in ("out", "into", "unlearned"):
        arms = {"out": good, "into": good, "unlearned": good, arm: [MODEL, wrong]}
        with pytest.raises(CheckBroken):
            measured_arms(Measured(**arms))
    with pytest.raises(CheckBroken):
        measured_files(Measured(out=good, into=good, unlearned=None, candidate=wrong, original=MODEL))


def test_a_file_that_was_not_measured_is_none_and_no_anchors_are_none_of_them():
    assert measured_files(Measured(out=[MODEL], into=[MODEL], unlearned=None)) is None
    files = measured_files(Measured(out=[MODEL], into=[MODEL], unlearned=None, candidate=MODEL, original=MODEL))
    assert files.out_anchors.shape == (0, 3)
    assert files.in_population.shape == (0, 4)


def test_spikes_that_the_probe_did_not_measure_break_the_check():
    class Looks:
        requires = object

        def measure(self, job):
            raise AssertionError

    spike = Spike(dose=1, unlearned=np.zeros((2, 3)), unlearned_population=np.zeros((2, 4)))
    assert spiked_arms(spike, "lira", object())[0].shape == (2, 3)
    with pytest.raises(CheckBroken):
        spiked_arms(spike, "looks", Looks())


def test_the_same_model_twice_in_an_arm_breaks_the_check():
    """The attack: one retraining presented as many."""
    arms = bank(np.random.default_rng(0), pairs=6, records=4, unlearned=0.0)
    for name in ("out", "into", "unlearned"):
        changed = {}
        for field in (name, f"{name}_population"):
            values = getattr(arms, field).copy()
            values[3] = values[1]
            changed[field] = values
        with pytest.raises(CheckBroken, match="same model twice"):
            pair_scores(spy([]), dataclasses.replace(arms, **changed))


def test_a_block_that_always_gets_the_same_answer_has_no_spread_of_its_references():
    """The attack: a clamp whose score only varies because each pair is scored by other references."""
    arms = bank(np.random.default_rng(1), pairs=8, records=4, unlearned=0.0)
    clamped = dataclasses.replace(arms, unlearned=np.full_like(arms.unlearned, -1.0))
    found = pair_scores(Lira().score, clamped)
    assert np.ptp(found.unlearned) == 0
    assert np.ptp(found.out) > 0
