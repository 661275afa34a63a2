"""BPR: pairs, scores and loss by hand, draws keyed by user, and deletions with one digest."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from expunge.core import registry
from expunge.testing import check_unlearner
from expunge.testing.users import ITEMS, make_user_world, posing_as, random_histories
from expunge.training.rng import draws_at
from expunge.training.user_batches import PairReader

GONE = frozenset({3, 17})
SLOTS = np.array([4, 9, 21], np.int64)
PAIRS = 7


def world(folder, **settings):
    return make_user_world(folder, family="bpr", **settings)


def reader(histories=None):
    return PairReader(histories=random_histories() if histories is None else histories, seed="s", pairs=PAIRS)


def test_pairs_are_items_had_and_keyed_draws_among_all():
    batch, histories = reader().batch(SLOTS, 2, 0.0), random_histories()
    _, had, others = batch.inputs
    for number, slot in enumerate(SLOTS.tolist()):
        columns = histories.row(slot)[0]
        for place in range(PAIRS):
            draw = draws_at("s", "pairs", 2, np.array([slot]), np.array([place]))[0]
            assert int(had[number, place]) == columns[int(draw[0] / 2**32 * len(columns))]
            assert int(others[number, place]) == int(draw[1] / 2**32 * ITEMS)
            assert float(batch.wanted[0][number, place]) == (int(others[number, place]) not in columns)


def test_a_users_pairs_do_not_depend_on_who_else_is_in_the_batch():
    alone, among = reader().batch(SLOTS[1:2], 1, 0.0), reader().batch(SLOTS, 1, 0.0)
    for mine, theirs in zip(alone.inputs, among.inputs, strict=True):
        assert torch.equal(mine[0], theirs[1])
    assert not torch.equal(among.inputs[1], reader().batch(SLOTS, 2, 0.0).inputs[1])


def test_a_user_without_events_is_left_out_of_the_batch():
    batch = reader(random_histories().without([9])).batch(SLOTS, 0, 0.0)
    assert {tensor.shape[0] for tensor in (*batch.inputs, *batch.wanted)} == {2}


def test_the_loss_is_a_mean_over_true_pairs_by_hand():
    """Two users: of the first one's two pairs one is no counter-example; the second one's are."""
    had, others = torch.tensor([[2.0, 5.0], [0.0, 1.0]]), torch.tensor([[1.0, 9.0], [0.0, 3.0]])
    weight = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    first = math.log(1 + math.exp(-1))
    second = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert float(reader().loss((had, others), (weight,))) == pytest.approx(first + second, rel=1e-6)


def test_a_user_whose_every_draw_was_an_item_they_had_costs_nothing():
    scores = torch.tensor([[1.0, 2.0]])
    assert float(reader().loss((scores, scores), (torch.zeros(1, 2),))) == 0


def slow_score(state, history, item, alpha):
    """q_j . sum p_i / n^alpha + b_j over the history without the item."""
    rest = [column for column in history if column != item]
    code = sum(state["had"][column] for column in rest) if rest else np.zeros(state["had"].shape[1])
    return float(code @ state["wanted"][item] / max(len(rest), 1) ** alpha + state["bias"][item])


def test_scores_are_those_of_a_slow_obvious_twin(tmp_path):
    place = world(tmp_path)
    model = place.adapter.load(place.fit("original").model)
    state = {name: tensor.double().numpy() for name, tensor in model[0].state_dict().items()}
    rows = place.data.test.matrix("rating")
    found = place.adapter.outputs(model, rows)
    history = rows[0].indices.tolist()
    for item in (item for item in range(ITEMS) if item not in history):
        assert found[0, item] == pytest.approx(slow_score(state, history, item, 0.5), abs=1e-12)


def test_in_training_an_item_is_predicted_from_the_others(tmp_path):
    place = world(tmp_path)
    module = place.adapter.load(place.fit("original").model)[0].double()
    state = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    whole, had, others = reader().batch(SLOTS, 0, 0.0).inputs
    with torch.no_grad():
        mine, theirs = module(whole.double(), had, others)
    for number in range(len(SLOTS)):
        history = torch.nonzero(whole[number]).ravel().tolist()
        for place_ in range(PAIRS):
            item, other = int(had[number, place_]), int(others[number, place_])
            assert float(mine[number, place_]) == pytest.approx(slow_score(state, history, item, 0.5), abs=1e-9)
            if other not in history:
                assert float(theirs[number, place_]) == pytest.approx(slow_score(state, history, other, 0.5), abs=1e-9)


@pytest.mark.parametrize(("method", "settings"), [("retrain", {}), ("replay", {}), ("sisa", {"shards": 2})])
def test_a_deletion_is_a_training_without_and_never_reads_the_deleted(tmp_path, method, settings):
    place = world(tmp_path, **settings)
    original, retrained = place.fit("original"), place.fit("retrained", GONE)
    job = place.unlearn_job("deleted", GONE)
    train = posing_as(place.data.train, sorted(GONE), [0, 1])
    hidden = replace(job, job=replace(job.job, data=replace(place.data, train=train)))
    deleted = registry.load("methods", method)().unlearn(hidden)
    assert deleted.digest == retrained.digest != original.digest


@pytest.mark.parametrize("method", ["replay", "sisa"])
def test_methods_written_for_images_obey_their_suite_on_users(method):
    check_unlearner(method, family="bpr")


def test_it_learns_what_goes_with_what(tmp_path):
    """Two groups of users with items of their own: what a group has ranks above what the other has."""
    from expunge.data._interactions import Interactions, from_events

    draw = np.random.Generator(np.random.Philox(5))
    has = np.zeros((40, 20), bool)
    has[:20, :10], has[20:, 10:] = draw.random((20, 10)) < 0.6, draw.random((20, 10)) < 0.6
    has[:20, :2], has[20:, 10:12] = True, True
    user, item = np.nonzero(has)
    names = [f"u{n}" for n in range(40)], [f"i{n}" for n in range(20)]
    train = from_events(*names, user, item, np.ones(len(user), np.int64))
    place = world(tmp_path, epochs=30, lr=0.5)
    data = Interactions(source="s", note="n", scale="implicit", train=train, test=train)
    job = replace(place.job("groups"), data=data, leaves=None)
    model = place.adapter.load(place.adapter.fit(job).model)
    scores = place.adapter.outputs(model, train.matrix())
    own, other = scores[:20, :10].mean(), scores[:20, 10:].mean()
    assert own > other + 0.5
