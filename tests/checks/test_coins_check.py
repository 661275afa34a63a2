from dataclasses import replace

import numpy as np
import pytest

from expunge.checks.coins import Coins
from expunge.core import registry
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.protocols import Check
from expunge.core.protocols import Coins as Evidence
from expunge.data.digits import Digits
from expunge.farm.member import true_log_probabilities
from expunge.stats.coins import needed_coins
from expunge.testing.world import make_world
from expunge.training.recipe import load_recipe
from oracle import naive
from oracle.banks import job

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE


def evidence(seed=0, *, m=162, left=0.0, seen=4.0, trained=None):
    """Scores of unit spread; heads are `seen` higher in the original and `left` higher in the candidate."""
    rng = np.random.default_rng(seed)
    coins = rng.random(m) < 0.5 if trained is None else trained
    level = rng.normal(0, 0.5, m)
    draw = lambda moved: level + moved * coins + rng.standard_normal(m)  # noqa: E731
    return Evidence(trained=coins, candidate=draw(left), original=draw(seen))


def judged(coins, *, attempt=1, **limits):
    return Coins().run(replace(job(attempt=attempt, **limits), coins=coins))


# ------------------------------------------------------------------------------------------------------------ training


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """162 canaries among the digits; scores of the original and of what each method makes of it."""
    recipe = load_recipe("digits").model_dump()
    data = Digits(canaries=0, coins=162, coins_key="01" * 32).open()
    settings = {name: value for name, value in recipe.items() if name not in ("name", "family", "threads")}
    world = make_world(tmp_path_factory.mktemp("coins"), family="mlp", data=data, **settings)
    world.fit("original")
    forget, scores = frozenset(data.train.in_block("coins")), {}
    for name in ("original", "retrain", "replay", "finetune"):
        if name != "original":
            registry.load("methods", name)().unlearn(world.unlearn_job(name, forget))
        model = world.adapter.load(world.folder / name / "model.safetensors")
        scores[name] = true_log_probabilities(world.adapter, model, data.coins.images, data.coins.labels)
    return data.coins.trained, scores


@pytest.mark.parametrize("method", ["retrain", "replay"])
def test_an_exact_deletion_of_the_heads_is_guessed_like_a_coin_and_passes(digits, method):
    trained, scores = digits
    found = judged(Evidence(trained=trained, candidate=scores[method], original=scores["original"]))
    assert found.verdict is PASS
    assert found.n == 162
    assert found.interval.high < 0.6 < found.original


def test_a_model_that_was_only_tuned_on_the_rest_fails(digits):
    trained, scores = digits
    found = judged(Evidence(trained=trained, candidate=scores["finetune"], original=scores["original"]))
    assert found.verdict is FAIL
    assert "still shows" in found.reason


def test_an_untouched_model_fails(digits):
    trained, scores = digits
    found = judged(Evidence(trained=trained, candidate=scores["original"], original=scores["original"]))
    assert found.verdict is FAIL
    assert found.estimate == found.original


# ---------------------------------------------------------------------------------------------------------- statistics


def test_162_coins_show_an_accuracy_of_at_most_60_percent_with_power_80():
    verdicts = [judged(evidence(seed)).verdict for seed in range(200)]
    assert not naive.at_most(verdicts.count(PASS), 200, 0.7)
    assert naive.within(verdicts.count(PASS), 200, 0.8)
    assert naive.at_most(verdicts.count(FAIL), 200, 0.025)


def test_a_remainder_at_the_bound_passes_at_most_one_time_in_twenty():
    """Scores that make exactly 60 % of the guesses right, in the mean."""
    rng, passed = np.random.default_rng(1), 0
    for seed in range(200):
        coins = evidence(seed)
        right = rng.random(coins.trained.size) < 0.6
        passed += judged(
            Evidence(
                trained=coins.trained,
                candidate=np.where(right, coins.trained, ~coins.trained) + 0.01 * rng.random(coins.trained.size),
                original=coins.original,
            )
        ).verdict is PASS  # fmt: skip
    assert naive.at_most(passed, 200, 0.05)


def test_an_original_that_is_not_guessed_makes_it_unverifiable():
    found = judged(evidence(seen=0.2))
    assert found.verdict is UNVERIFIABLE
    assert "the original itself" in found.reason


def test_deleted_ones_pushed_below_those_never_seen_fail():
    """The attack: gradient ascent on the canaries; a one-sided guess would call it a clean deletion."""
    found = judged(evidence(left=-4.0))
    assert found.verdict is FAIL
    assert "pushed below" in found.reason


def test_deleted_ones_clamped_at_the_median_of_the_unseen_fail():
    """The attack: answer the deleted ones with one number from the middle, so that half of the guesses are right."""
    coins = evidence(3)
    middle = np.median(coins.candidate[~coins.trained])
    clamped = np.where(coins.trained, middle, coins.candidate)
    found = judged(Evidence(trained=coins.trained, candidate=clamped, original=coins.original))
    assert found.verdict is FAIL
    assert "too even" in found.reason


def test_a_candidate_that_answers_every_canary_alike_does_not_pass():
    """The attack: a filter that knows the canaries."""
    coins = evidence(5)
    found = judged(Evidence(trained=coins.trained, candidate=np.full(162, -2.3), original=coins.original))
    assert found.verdict is not PASS


def test_few_coins_are_inconclusive_and_say_how_many_would_do():
    trained, scores = np.arange(60) % 2 == 0, np.arange(60.0)  # 30 of 60 are guessed
    found = judged(Evidence(trained=trained, candidate=scores, original=trained + 0.01 * scores))
    assert found.verdict is INCONCLUSIVE
    assert found.estimate == 0.5
    assert f"{needed_coins(0.6)} coins" in found.reason


def test_a_retry_must_show_more_and_is_failed_no_less():
    coins = evidence(0)
    highs = [judged(coins, attempt=attempt).interval.high for attempt in (1, 2, 3)]
    assert highs == sorted(highs)
    assert highs[0] < highs[2]
    left = [evidence(seed, left=0.9) for seed in range(30)]
    table = [[judged(item, attempt=attempt).verdict is FAIL for attempt in (1, 4)] for item in left]
    assert all(first == last for first, last in table)
    assert any(first for first, _ in table)


def test_no_canaries_in_the_request_is_unverifiable():
    assert isinstance(Coins(), Check)
    assert judged(None).verdict is UNVERIFIABLE


def test_heads_only_are_not_a_pass():
    assert judged(evidence(trained=np.ones(162, bool))).verdict is not PASS


def test_the_finding_is_canonical_repeatable_and_holds_no_score():
    coins = evidence(0)
    text = canonical(encode(judged(coins))).decode()
    assert judged(coins) == judged(coins)
    assert not any(repr(float(value))[:8] in text for value in coins.candidate)


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": np.full(162, np.nan)},
        {"original": np.full(162, np.inf)},
        {"original": np.zeros(161)},
        {"candidate": np.zeros((162, 1))},
        {"trained": np.zeros(161, bool)},
        {"trained": np.full(162, 0.5)},
        {"trained": [], "candidate": [], "original": []},
    ],
)
def test_malformed_coins_break_the_check(change):
    coins = evidence(0)
    fields = {"trained": coins.trained, "candidate": coins.candidate, "original": coins.original, **change}
    with pytest.raises(CheckBroken):
        judged(Evidence(**fields))
