from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from expunge.checks.left_out import LeftOut
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.ladder import Ladder
from expunge.core.ladder import LeftOut as Evidence
from expunge.core.protocols import Check
from expunge.training.closed_form.erase import erase_rows
from expunge.training.closed_form.inverse import inverse_of
from expunge.training.closed_form.model import LinearModel, left_out_residuals
from oracle.banks import job

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
LAM = 2.0


def evidence(users=4, own=9, seed=0, **changes):
    rng = np.random.default_rng(seed)
    exact = rng.uniform(0.4, 0.9, users * own)
    noun = Evidence(
        candidate=exact + 1e-13 * rng.standard_normal(exact.size),
        original=exact - rng.uniform(0.1, 0.3, exact.size),
        exact=exact,
        user=np.repeat(np.arange(users), own),
        reference="closed form",
    )
    return replace(noun, **changes)


def judged(noun):
    return LeftOut().run(replace(job(), ladder=Ladder(left_out=noun)))


def recommender(users=60, items=25, seed=3):
    """A linear recommender that has the users, whose rows 0 to 2 are then deleted, and the one that never had them."""
    rng = np.random.default_rng(seed)
    rows = sparse.csr_matrix((rng.random((users, items)) < 0.3).astype(np.int32))

    def model(part):
        gram = np.asarray((part.T @ part).todense(), np.int32)
        return LinearModel(gram=gram, inverse=inverse_of(gram, LAM), lam=LAM)

    return rows, model(rows), model(rows[3:])


def own_residuals(model, rows, deleted=(0, 1, 2)):
    return np.concatenate([model.residuals(rows[u].indices, np.ones(rows[u].nnz)) for u in deleted])


def of_models(candidate, original, retrained, rows):
    return Evidence(
        candidate=own_residuals(candidate, rows),
        original=own_residuals(original, rows),
        exact=own_residuals(retrained, rows),
        user=np.repeat(np.arange(3), [rows[u].nnz for u in range(3)]),
        reference="a retraining",
    )


def test_answers_of_the_exact_model_pass_and_both_numbers_are_in_the_reason():
    found = judged(evidence())
    assert isinstance(LeftOut(), Check)
    assert found.verdict is PASS
    assert found.estimate < 1e-12 < found.limit == 1e-9
    assert 0.1 < found.original < 0.31
    assert (found.reference, found.n) == (0.0, 4)
    assert "reference: closed form" in found.reason
    assert f"{found.original:.2g}" in found.reason
    assert found.details == {"users": "4", "users_beyond": "0", "users_not_told_apart": "0"}


def test_the_numbers_are_those_of_a_loop():
    """The obvious twin: one user and one item at a time."""
    noun = evidence(users=6, seed=5)
    noun = replace(noun, candidate=noun.candidate + np.where(noun.user == 4, 1e-7, 0.0))
    mine, before = {}, {}
    for k in range(len(noun.exact)):
        user = int(noun.user[k])
        mine[user] = max(mine.get(user, 0.0), abs(float(noun.candidate[k]) - float(noun.exact[k])))
        before[user] = max(before.get(user, 0.0), abs(float(noun.original[k]) - float(noun.exact[k])))
    found = judged(noun)
    assert found.verdict is FAIL
    assert found.estimate == pytest.approx(max(mine.values()), rel=1e-3)
    assert found.original == pytest.approx(max(before.values()), rel=1e-3)
    assert found.details["users_beyond"] == str(sum(value > 1e-9 for value in mine.values())) == "1"
    assert found.conditions[1].estimate == pytest.approx(min(before.values()), rel=1e-3)


def test_entries_in_any_order_give_the_same_finding():
    noun = evidence()
    order = np.random.default_rng(9).permutation(noun.exact.size)
    mixed = replace(noun, **{name: getattr(noun, name)[order] for name in ("candidate", "original", "exact", "user")})
    assert judged(mixed) == judged(noun)


def test_one_user_of_many_who_is_still_there_fails():
    noun = evidence(users=50)
    kept = noun.user == 17
    found = judged(replace(noun, candidate=np.where(kept, noun.original, noun.candidate)))
    assert found.verdict is FAIL
    assert "1 users are not answered" in found.reason


def test_the_limit_scales_with_what_is_compared():
    noun = evidence()
    off = noun.exact + 5e-9
    assert judged(replace(noun, candidate=off)).verdict is FAIL
    assert judged(replace(noun, candidate=off, scale=10.0)).verdict is PASS


def test_a_scale_so_large_that_everything_is_equal_is_blind():
    """The attack: choose the scale until the difference vanishes; the control vanishes with it."""
    noun = evidence()
    found = judged(replace(noun, candidate=noun.original, scale=1e9))
    assert found.verdict is UNVERIFIABLE


def test_a_user_whose_original_is_not_told_apart_is_unverifiable():
    noun = evidence()
    original = np.where(noun.user == 2, noun.exact + 9e-7, noun.original)
    found = judged(replace(noun, original=original))
    assert found.verdict is UNVERIFIABLE
    assert found.reason.startswith("1 users cannot be told apart")
    assert judged(replace(noun, original=noun.exact)).reason.startswith("4 users cannot be told apart")


def test_a_user_without_items_is_counted_as_blind():
    noun = evidence()
    found = judged(replace(noun, user=np.where(noun.user == 3, 5, noun.user)))
    assert (found.verdict, found.n) == (UNVERIFIABLE, 6)
    assert found.details["users_not_told_apart"] == "2"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e70])
def test_an_answer_that_is_no_number_fails(bad):
    noun = evidence()
    candidate = noun.candidate.copy()
    candidate[7] = bad
    found = judged(replace(noun, candidate=candidate))
    assert found.verdict is FAIL
    assert found.estimate is None
    assert canonical(encode(found))


def test_nothing_to_ask_is_no_pass():
    empty = np.zeros(0)
    noun = evidence(candidate=empty, original=empty, exact=empty, user=np.zeros(0, np.int64))
    assert judged(noun).verdict is UNVERIFIABLE
    assert LeftOut().run(job()).verdict is INCONCLUSIVE
    told = LeftOut().run(replace(job(), ladder=Ladder(unable={"left_out": "this family has no sums over users"})))
    assert (told.verdict, told.reason) == (INCONCLUSIVE, "this family has no sums over users")


def test_on_real_weights_a_deletion_in_place_passes_and_the_stale_model_fails():
    rows, original, retrained = recommender()
    gram, inverse = original.gram.copy(), original.inverse.copy()
    erase_rows(gram, inverse, rows[:3], sparse.csr_matrix(rows[:3].shape, dtype=np.int32), LAM)
    honest = LinearModel(gram=gram, inverse=inverse, lam=LAM)
    assert judged(of_models(honest, original, retrained, rows)).verdict is PASS
    assert judged(of_models(original, original, retrained, rows)).verdict is FAIL


def test_the_closed_form_reference_agrees_with_a_retraining_to_the_limit():
    rows, original, _ = recommender()
    gram = np.asarray((rows[1:].T @ rows[1:]).todense(), np.int32)
    alone = LinearModel(gram=gram, inverse=inverse_of(gram, LAM), lam=LAM)
    columns, ones = rows[0].indices, np.ones(rows[0].nnz)
    exact, _ = left_out_residuals(original, columns, ones)
    noun = Evidence(
        candidate=alone.residuals(columns, ones), original=original.residuals(columns, ones), exact=exact,
        user=np.zeros(exact.size, np.int64), reference="closed form",
    )  # fmt: skip
    assert judged(noun).verdict is PASS


def test_popularity_lists_for_a_deleted_user_do_not_clear_a_stale_model():
    """The trap: the service no longer knows the user and answers with popular items, whatever the weights hold."""
    rows, original, retrained = recommender()

    def served(model, user):
        """What the user is shown: the id is gone from the map, so nothing of the model is asked."""
        known = {}
        history = known.get(user)
        return np.argsort(-np.diagonal(model.gram))[:5] if history is None else model.scores(history)

    quiet = replace(retrained, gram=original.gram)  # the popularity table was not rebuilt, or hardly changed
    assert np.array_equal(served(original, 0), served(quiet, 0))
    found = judged(of_models(original, original, retrained, rows))
    assert found.verdict is FAIL
    assert found.estimate == found.original > 1e-3

    lists = np.repeat(np.diagonal(original.gram).astype(float)[None, :4], 3, axis=0).ravel()
    asked_of_lists = Evidence(
        candidate=lists, original=lists, exact=lists, user=np.repeat(np.arange(3), 4), reference="lists as served"
    )
    assert judged(asked_of_lists).verdict is UNVERIFIABLE


def test_a_finding_holds_no_item_and_does_not_grow_with_the_items():
    sizes = {}
    for own in (3, 3_000):
        noun = evidence(users=5, own=own)
        for candidate in (noun.candidate, noun.original):
            found = judged(replace(noun, candidate=candidate))
            text = canonical(encode(found))
            sizes.setdefault(found.verdict, []).append((len(found.details), len(found.conditions)))
            assert len(text) < 2_000
            assert set(found.details) == {"users", "users_beyond", "users_not_told_apart"}
    assert {verdict: set(seen) for verdict, seen in sizes.items()} == {PASS: {(3, 2)}, FAIL: {(3, 2)}}


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": np.ones(35)},
        {"candidate": np.ones((36, 1))},
        {"candidate": ["a"] * 36},
        {"original": np.ones(35)},
        {"original": np.full(36, np.nan)},
        {"exact": np.full(36, np.inf)},
        {"exact": np.ones((6, 6))},
        {"user": np.zeros(35, np.int64)},
        {"user": np.full(36, -1)},
        {"user": np.zeros(36)},
        {"scale": 0.0},
        {"scale": -1.0},
        {"scale": float("nan")},
        {"scale": float("inf")},
    ],
)
def test_what_cannot_be_breaks_the_check(change):
    with pytest.raises(CheckBroken):
        judged(evidence(**change))
