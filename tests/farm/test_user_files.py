"""Histories in a bank's folder, and users who are put back by further sweeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from expunge.data._interactions import Interactions
from expunge.farm.asked import askable, record_answers, sketch_of
from expunge.farm.probing import ProbePlan
from expunge.farm.spikes import spike
from expunge.farm.users import FILE, NAMES, digest_of_test, read_users, save_users
from expunge.testing.users import make_user_world, random_interactions

FORGET = frozenset({5})


@pytest.mark.parametrize("timed", [True, False])
def test_what_was_saved_is_read_back_and_is_private(tmp_path, timed):
    data = random_interactions()
    if not timed:
        data = data.with_users(*(replace(part, times=None) for part in (data.train, data.test)))
    train = data.train.without([3])
    save_users(tmp_path, data.with_users(train, data.test))
    blocks = [f"b{slot}" if name else "" for slot, name in enumerate(train.ids)]
    found = read_users(tmp_path, list(train.ids), blocks)
    assert isinstance(found, Interactions)
    assert (found.source, found.note, found.scale, found.items) == (data.source, data.note, data.scale, data.items)
    assert found.train.blocks == tuple(blocks)
    assert found.train.ids[3] is None
    for mine, other in ((found.train, train), (found.test, data.test)):
        for name in ("indptr", "indices", "values", "times"):
            assert np.array_equal(getattr(mine, name), getattr(other, name)), name
    assert (found.train.times is None) is not timed
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in (FILE, NAMES)} == {0o600}


def test_a_bank_of_images_has_no_such_file(tmp_path):
    assert read_users(tmp_path, [], []) is None


def test_the_digest_of_the_test_users_changes_with_one_event_and_with_nothing_else():
    data = random_interactions()
    one_less = np.ones(data.test.events, bool)
    one_less[4] = False
    assert digest_of_test(data) == digest_of_test(data.with_users(data.train.without([1]), data.test))
    assert digest_of_test(data) != digest_of_test(data.with_users(data.train, data.test.keep(one_less)))


def test_a_sketch_holds_one_number_a_user_and_test_users_who_can_be_asked(tmp_path):
    world = make_user_world(tmp_path, family="ials")
    alone = np.ones(world.data.test.events, bool)
    alone[world.data.test.span(2)] = False
    alone[world.data.test.span(2).start] = True  # one event: nothing could be shown
    data = world.data.with_users(world.data.train.without([7]), world.data.test.keep(alone))
    model = world.adapter.load(world.fit("original").model)
    found = sketch_of(world.adapter, model, data)
    assert askable(data) == [row for row in range(len(data.test)) if row != 2]
    assert found["test"].shape == (len(data.test) - 1,)
    assert found["train"].dtype == np.float32
    assert found["train"][7] == 0 > np.delete(found["train"], 7).max()
    assert np.array_equal(found["train"][[4, 9]], record_answers(world.adapter, model, data.train, [4, 9]))


def test_a_spike_of_a_family_that_sweeps_puts_the_user_back_by_sweeping_with_them(tmp_path):
    world = make_user_world(tmp_path, family="ials")
    unlearned = world.fit("unlearned", FORGET)
    plan = ProbePlan(probes=(), block=(5,), neighbours=(), retained=(), population=(), seed=1)
    job = replace(world.job("in"), universe=tuple(range(20)))
    found = spike(world.adapter, replace(job, folder=tmp_path / "spike"), unlearned.model, plan, 2)
    source = unlearned.model.parent
    back, without = (
        world.adapter.warm(replace(job, folder=tmp_path / label, absent=gone), source, frozenset(), 2)
        for label, gone in (("back", frozenset()), ("without", FORGET))
    )
    assert found.digest == back.digest != without.digest
