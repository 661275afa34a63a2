"""Where no bank of users can be built, what it does not judge, and that each refusal says what to do."""

from __future__ import annotations

import numpy as np
import pytest

import recommending
from expunge.core.errors import InputError
from expunge.core.finding import Guarantee, Verdict
from expunge.core.request import EventSelector
from expunge.farm.users import FILE
from expunge.workflow.intake import resolve
from expunge.workflow.planner import candidates
from expunge.workflow.train import open_bank
from expunge.workflow.user_bank import refusal
from recommending import a_user, finding, make
from workspaces import vouch_for


@pytest.fixture
def banked(tmp_path, monkeypatch):
    """A workspace of iALS with the smallest bank there is."""
    monkeypatch.setattr(recommending, "TEST_USERS", 20)
    with make(tmp_path / "ws", family="ials", bank={"pairs": 2}) as workspace:
        workspace.bank()
        vouch_for(workspace)
        yield workspace


def why(workspace, **request) -> str | None:
    """What the bank says to a request, which is left open."""
    return refusal(workspace, resolve(workspace, workspace.request(**request)), open_bank(workspace))


def histories_in(bank):
    """Events of each training user in the bank's folder."""
    with np.load(bank.folder / FILE) as held:
        return np.diff(held["train_indptr"])


def one_event(workspace, name):
    column = workspace.data.train.row(workspace.book.slots_of([name])[0])[0][0]
    return EventSelector(users=(name,), items=(workspace.data.items[column],))


def test_a_family_of_sums_has_no_bank_because_the_exact_answer_is_known(tmp_path):
    with make(tmp_path / "ws") as workspace:
        with pytest.raises(InputError, match="no bank judges family ease") as caught:
            workspace.bank()
        assert "left_out" in str(caught.value.hint)
        assert not workspace.state().banks
        outcome = workspace.run(workspace.request(ids=[a_user(workspace)]))
        assert outcome.guarantee is Guarantee.EXACT
        assert finding(outcome, "membership").verdict is Verdict.INCONCLUSIVE
        assert "family of sums" in finding(outcome, "membership").reason


def test_too_few_test_users_are_no_population_to_compare_with(tmp_path):
    with make(tmp_path / "ws", family="ials") as workspace:
        with pytest.raises(InputError, match="too few test users") as caught:
            workspace.bank()
        assert caught.value.got == str(recommending.TEST_USERS)
        assert "test_users=N" in str(caught.value.hint)


def test_without_a_bank_or_full_size_models_nothing_approximate_is_run(tmp_path, banked):
    with make(tmp_path / "without", family="ials") as workspace:
        assert "a bank of users, and there is none" in warm_start(workspace)
    assert "anchors in expunge.toml, at least 38" in warm_start(banked)


def test_with_a_bank_that_is_gone_or_that_knows_other_histories_no_attempt_is_spent(banked, monkeypatch):
    monkeypatch.setattr("expunge.workflow.planner.MIN_ANCHORS", 0)
    first, second = a_user(banked, 0.4), a_user(banked, 0.8)
    assert warm_start(banked) is None
    assert "one block at a time" in warm_start(banked, first, second)
    (open_bank(banked).folder / "spec.json").unlink()
    assert "or none that may still be kept" in warm_start(banked)


def warm_start(workspace, *names) -> str | None:
    found = candidates(workspace, resolve(workspace, workspace.request(ids=list(names) or [a_user(workspace)])))
    return next(item.refused for item in found if item.method == "warm_start")


def test_whole_users_are_judged_and_a_part_of_one_or_two_at_once_are_not(banked):
    first, second = a_user(banked, 0.4), a_user(banked, 0.8)
    assert why(banked, ids=[first]) is None
    assert "one block at a time" in why(banked, ids=[first, second])
    assert "the request is for events" in why(banked, events=one_event(banked, first))


def test_a_history_that_was_shortened_since_is_not_judged(banked):
    name, other = a_user(banked, 0.4), a_user(banked, 0.8)
    bank, slot = open_bank(banked), banked.book.slots_of([name])[0]
    events = histories_in(bank)[slot]
    banked.run(banked.request(events=one_event(banked, name)), ["retrain"])
    assert histories_in(bank)[slot] == events - 1  # what the bank's workers read is what is retained
    vouch_for(banked)
    assert "shortened since" in why(banked, ids=[name])
    assert why(banked, ids=[other]) is None


def test_after_an_item_was_deleted_the_answers_are_about_other_histories(banked):
    train, test = banked.data.train, banked.data.test
    item = next(name for column, name in enumerate(train.items) if column in test.indices and column in train.indices)
    banked.run(banked.request(events=EventSelector(items=(item,))), ["retrain"])
    vouch_for(banked)
    assert "the test users' histories are not those" in why(banked, ids=[a_user(banked)])
