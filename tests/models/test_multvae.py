"""MultVAE: the loss by hand, draws keyed by user, and deletions by replay, by shard and by retraining with one digest."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from expunge.core import registry
from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import HasGradients, HasShards, HasSufficientStatistics, HasTranscript
from expunge.testing import check_unlearner
from expunge.testing.users import ITEMS, USERS, make_user_world, posing_as, random_histories, user_leaves
from expunge.testing.world import tree_digest
from expunge.training.audit import audited, expected_transcript
from expunge.training.rng import draws_at, normals
from expunge.training.transcript import read_transcript
from expunge.training.user_batches import UserReader, unit_rows

GONE = frozenset({3, 17})
SLOTS = np.array([4, 9, 21], np.int64)


def world(folder, **settings):
    return make_user_world(folder, family="multvae", **settings)


def reader(histories=None, **changes):
    histories = random_histories() if histories is None else histories
    plain = {"seed": "s", "latent": 5, "dropout": 0.5, "beta": 0.4, "annealing": 0.5}
    return UserReader(histories=histories, **{**plain, **changes})


def unlearn(place, name, label, **changes):
    return registry.load("methods", name)().unlearn(replace(place.unlearn_job(label, GONE), **changes))


# --------------------------------------------------------------------------------------------------- batches and loss


def test_the_loss_is_the_negative_evidence_bound_by_hand():
    """Two users: x = (1, 1, 0) and (0, 0, 1); logits 0 give log 3 an event; KL of N(m, v) from N(0, 1) by the formula."""
    rows, mean = torch.tensor([[1.0, 1, 0], [0, 0, 1]]), torch.tensor([[1.0], [0.0]])
    logarithm = torch.log(torch.tensor([[2.0], [1.0]]))
    distance = 0.5 * (1 + 2 - 1 - math.log(2))
    found = reader().loss((torch.zeros(2, 3), mean, logarithm), (rows, torch.tensor(0.3)))
    assert float(found) == pytest.approx(math.log(3) + 0.3 * distance / 2 + math.log(3), rel=1e-6)


def test_the_likelihood_is_multinomial_over_all_items():
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    rows, zero = torch.tensor([[1.0, 0, 1]]), torch.zeros(1, 1)
    total = sum(math.exp(value) for value in (2.0, -1.0, 0.5))
    wanted = -(math.log(math.exp(2.0) / total) + math.log(math.exp(0.5) / total)) / 2
    assert float(reader().loss((logits, zero, zero), (rows, torch.tensor(1.0)))) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("moment", "beta"), [(0.0, 0.0), (0.25, 0.2), (0.5, 0.4), (0.9, 0.4)])
def test_beta_rises_until_its_share_of_the_steps(moment, beta):
    assert float(reader().batch(SLOTS, 0, moment).wanted[1]) == pytest.approx(beta)
    assert float(reader(annealing=0.0).batch(SLOTS, 0, moment).wanted[1]) == pytest.approx(0.4)


def test_a_batch_is_unit_rows_thinned_by_keyed_draws_event_by_event():
    batch, histories = reader().batch(SLOTS, 2, 0.0), random_histories()
    inputs, noise = batch.inputs
    for number, slot in enumerate(SLOTS.tolist()):
        columns = histories.row(slot)[0].astype(np.int64)
        whole = np.zeros(ITEMS, np.float32)
        whole[columns] = 1
        assert batch.wanted[0][number].tolist() == whole.tolist()
        for column in range(ITEMS):
            draw = draws_at("s", "dropout", 2, np.array([slot]), np.array([column]))[0, 0]
            kept = column in columns and draw >= 2**31
            assert float(inputs[number, column]) == pytest.approx(2 / math.sqrt(len(columns)) if kept else 0, rel=1e-6)
        wanted = normals("s", "noise", 2, np.array([slot]), 5)[0].astype(np.float32)
        assert noise[number].tolist() == wanted.tolist()


def test_a_users_draws_do_not_depend_on_who_else_is_in_the_batch():
    alone, among = reader().batch(SLOTS[1:2], 1, 0.0), reader().batch(SLOTS, 1, 0.0)
    for mine, theirs in zip((*alone.inputs, alone.wanted[0]), (*among.inputs, among.wanted[0]), strict=True):
        assert torch.equal(mine[0], theirs[1])
    other = reader().batch(SLOTS, 2, 0.0)
    assert not torch.equal(among.inputs[0], other.inputs[0])
    assert not torch.equal(among.inputs[1], other.inputs[1])


def test_a_user_without_events_is_left_out_of_the_batch():
    batch = reader(random_histories().without([9])).batch(SLOTS, 0, 0.0)
    assert [tensor.shape[0] for tensor in (*batch.inputs, batch.wanted[0])] == [2, 2, 2]
    assert torch.equal(batch.inputs[1], reader().batch(SLOTS[[0, 2]], 0, 0.0).inputs[1])


def test_changed_histories_stop_a_training(tmp_path):
    """Before it began, and while it runs: the check compares bytes after the first time, and must see other bytes."""
    histories = random_histories()
    found = reader(histories, leaves=user_leaves(histories))
    found.batch(SLOTS, 0, 0.0)
    found.batch(SLOTS, 1, 0.0)
    histories.values[histories.span(9)] += 1
    with pytest.raises(IntegrityError, match="slot 9"):
        found.batch(SLOTS, 2, 0.0)
    with pytest.raises(IntegrityError, match="slot 9"):
        reader(histories, leaves=user_leaves(random_histories())).batch(SLOTS, 0, 0.0)
    found.batch(SLOTS[:1], 2, 0.0)


# ----------------------------------------------------------------------------------------------------------- deletions


@pytest.mark.parametrize(("method", "settings"), [("retrain", {}), ("replay", {}), ("sisa", {"shards": 2})])
def test_a_deletion_is_a_training_without_weights_and_transcript(tmp_path, method, settings):
    place = world(tmp_path, **settings)
    original, retrained = place.fit("original"), place.fit("retrained", GONE)
    before = tree_digest(tmp_path / "original")
    deleted = unlearn(place, method, "deleted")
    assert deleted.digest == retrained.digest != original.digest
    assert deleted.transcript.read_bytes() == retrained.transcript.read_bytes()
    assert tree_digest(tmp_path / "original") == before


@pytest.mark.parametrize(("method", "settings"), [("replay", {}), ("sisa", {"shards": 2})])
def test_a_deletion_never_reads_the_deleted(tmp_path, method, settings):
    place = world(tmp_path, **settings)
    retrained = place.fit("retrained", GONE)
    place.fit("original")
    job = place.unlearn_job("deleted", GONE)
    train = posing_as(place.data.train, sorted(GONE), [0, 1])
    hidden = replace(job, job=replace(job.job, data=replace(place.data, train=train)))
    assert registry.load("methods", method)().unlearn(hidden).digest == retrained.digest


def test_a_replay_begins_where_the_user_does_and_is_cheaper(tmp_path):
    place = world(tmp_path)
    place.fit("original")
    schedule = place.adapter._schedule(place.job("original"))
    late = frozenset({int(schedule.slots[schedule.introduced().argmax()])})
    job = place.unlearn_job("deleted", late)
    steps, total = place.adapter.replay_steps(job.job, late), place.adapter.total_steps(job.job)
    result = registry.load("methods", "replay")().unlearn(job)
    assert 0 < steps < total
    assert result.resumed_at == total - steps
    assert result.digest == place.fit("retrained", late).digest


def test_shards_without_the_user_are_taken_over_as_they_are(tmp_path):
    place = world(tmp_path, shards=2)
    place.fit("original")
    shards = place.adapter.shards(place.job("original"))
    assert sorted(slot for shard in shards for slot in shard) == list(range(USERS))
    gone = frozenset(shards[1][:1])
    registry.load("methods", "sisa")().unlearn(place.unlearn_job("deleted", gone))
    kept = [tree_digest(tmp_path / run / "shard-0") for run in ("original", "deleted")]
    changed = [tree_digest(tmp_path / run / "shard-1") for run in ("original", "deleted")]
    assert kept[0] == kept[1]
    assert changed[0] != changed[1]


def test_the_transcript_is_what_recipe_seed_and_tombstones_say(tmp_path):
    place = world(tmp_path)
    result, job = place.fit("deleted", GONE), place.job("deleted", GONE)
    assert audited(read_transcript(result.transcript)) == expected_transcript(place.adapter.recipe, [job], place.leaves)


@pytest.mark.parametrize("method", ["retrain", "replay", "sisa", "finetune"])
def test_methods_written_for_images_obey_their_suite_on_users(method):
    check_unlearner(method, family="multvae")


def test_the_callers_generators_play_no_part(tmp_path):
    place = world(tmp_path)
    first = place.fit("first").digest
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    state = torch.random.get_rng_state()
    assert place.fit("second").digest == first
    assert torch.equal(torch.random.get_rng_state(), state)


# ------------------------------------------------------------------------------------------------------------- answers


def test_answers_are_log_probabilities_at_the_mean_by_hand(tmp_path):
    place = world(tmp_path)
    model = place.adapter.load(place.fit("original").model)
    rows = place.data.test.matrix("rating")
    found = place.adapter.outputs(model, rows)
    assert found.shape == (rows.shape[0], ITEMS)
    assert np.exp(found).sum(1) == pytest.approx(np.ones(rows.shape[0]), abs=1e-12)
    weights = {name: tensor.double().numpy() for name, tensor in model[0].state_dict().items()}
    x = rows[0].toarray()[0] > 0
    hidden = np.tanh(weights["encoder.0.weight"] @ (x / np.sqrt(x.sum())) + weights["encoder.0.bias"])
    code = (weights["encoder.2.weight"] @ hidden + weights["encoder.2.bias"])[:64]
    hidden = np.tanh(weights["decoder.0.weight"] @ code + weights["decoder.0.bias"])
    logits = weights["decoder.2.weight"] @ hidden + weights["decoder.2.bias"]
    assert found[0] == pytest.approx(logits - np.log(np.exp(logits).sum()), abs=1e-12)


def test_a_sharded_model_answers_with_the_mean_of_its_shards(tmp_path):
    place = world(tmp_path, shards=2)
    model, rows = place.adapter.load(place.fit("original").model), place.data.test.matrix()
    each = [place.adapter.outputs([module], rows) for module in model]
    assert len(each) == 2
    assert place.adapter.outputs(model, rows) == pytest.approx((each[0] + each[1]) / 2, abs=1e-12)


def test_it_learns_which_items_are_popular(tmp_path):
    place = world(tmp_path, epochs=60, lr=0.1, introduce=(0.0,))
    model = place.adapter.load(place.fit("original").model)
    scores = place.adapter.outputs(model, place.data.test.matrix()).mean(0)
    counts = np.bincount(place.data.train.indices, minlength=ITEMS)
    assert np.corrcoef(scores, np.log(counts + 1))[0, 1] > 0.9


def test_no_rows_and_empty_rows_have_answers(tmp_path):
    place = world(tmp_path)
    model = place.adapter.load(place.fit("original").model)
    assert place.adapter.outputs(model, sparse.csr_matrix((0, ITEMS))).shape == (0, ITEMS)
    assert np.isfinite(place.adapter.outputs(model, sparse.csr_matrix((2, ITEMS)))).all()
    assert unit_rows(torch.zeros(1, 3)).tolist() == [[0, 0, 0]]


def test_a_training_that_diverged_is_not_served(tmp_path):
    place = world(tmp_path, epochs=40, lr=50.0)
    result = place.fit("original")
    with pytest.raises(InputError, match="diverged"):
        place.adapter.load(result.model)


def test_capabilities_and_settings(tmp_path):
    adapter = world(tmp_path).adapter
    for capability in (HasTranscript, HasShards, HasGradients):
        assert isinstance(adapter, capability)
    assert not isinstance(adapter, HasSufficientStatistics)
    for wrong in ({"hidden": 0}, {"dropout": 1}, {"beta": -1}, {"annealing": 2}, {"layers": 3}):
        with pytest.raises(InputError):
            world(tmp_path, model={name: str(value) for name, value in wrong.items()})
