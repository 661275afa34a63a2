"""LightGCN: the graph and its layers by hand, who is in the graph when, and deletions with one digest."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from expunge.checks.provenance import Provenance as ProvenanceCheck
from expunge.core import registry
from expunge.core.errors import InputError, IntegrityError
from expunge.core.finding import Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob, Provenance
from expunge.testing import check_unlearner
from expunge.testing.users import ITEMS, USERS, make_user_world, posing_as, random_histories, user_leaves
from expunge.testing.world import tree_digest
from expunge.training.audit import audited, expected_transcript
from expunge.training.checkpoint import load_tensors
from expunge.training.schedule import Schedule
from expunge.training.transcript import read_transcript, receipt_root
from expunge.training.user_graphs import GraphReader

GONE = frozenset({3, 17})
Lightgcn = registry.load("recommenders", "lightgcn")


def world(folder, **settings):
    return make_user_world(folder, family="lightgcn", **settings)


def reader(histories=None, slots=range(USERS), introduced=None, **changes):
    histories = random_histories() if histories is None else histories
    slots = np.array(list(slots), np.int64)
    introduced = np.zeros(len(slots), np.int64) if introduced is None else np.array(introduced)
    return GraphReader(histories=histories, seed="s", pairs=4, slots=slots, introduced=introduced, **changes)


def matrix(slots=range(USERS)):
    """(U, I) ones of some users."""
    return (random_histories().matrix().toarray()[list(slots)] != 0).astype(float)


def late_user(place):
    """The user who comes in last, and their epoch."""
    schedule = place.adapter._schedule(place.job("original"))
    introduced = schedule.introduced()
    return int(schedule.slots[introduced.argmax()]), int(introduced.max())


# --------------------------------------------------------------------------------------------------------- by the book


def slow_layers(rows, items, layers):
    """Equations 6 to 8 on the whole adjacency matrix, from users who start as what equation 3 makes of their items."""
    users, count = rows.shape[0], sum(rows.shape)
    adjacency = np.zeros((count, count))
    adjacency[:users, users:], adjacency[users:, :users] = rows, rows.T
    degree = adjacency.sum(1)
    scale = np.diag(np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0))
    step = scale @ adjacency @ scale
    start = np.concatenate([np.zeros((users, items.shape[1])), items])
    start[:users] = (step @ start)[:users]
    found = [start]
    for _ in range(layers):
        found.append(step @ found[-1])
    mean = sum(found) / (layers + 1)
    return mean[:users], mean[users:]


def test_the_graph_is_degrees_by_hand():
    graph, shrink = reader(slots=[4, 9, 21]).graph(0)
    rows = matrix([4, 9, 21])
    assert graph.shape == rows.shape
    for user, item in zip(*np.nonzero(rows), strict=True):
        wanted = 1 / np.sqrt(rows[user].sum() * rows[:, item].sum())
        assert float(graph.to_dense()[user, item]) == pytest.approx(wanted, rel=1e-6)
    assert torch.count_nonzero(graph.to_dense()) == rows.sum()
    had = rows.sum(0)
    assert shrink.ravel().tolist() == pytest.approx([1 / np.sqrt(n) if n else 0 for n in had], rel=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_layers_are_those_of_the_whole_adjacency_matrix(tmp_path, layers):
    place = world(tmp_path, model={"layers": layers, "factors": 8, "scale": 1})
    module = place.adapter.module(torch.Generator().manual_seed(1)).double()
    graph, shrink = (part.double() for part in reader().graph(0))
    with torch.no_grad():
        folded, wanted = module.smoothed(graph, shrink)
    users, items = slow_layers(matrix(), module.items.detach().numpy(), layers)
    assert wanted.numpy() == pytest.approx(items, abs=1e-6)
    mine = matrix() @ folded.numpy() / np.sqrt(matrix().sum(1, keepdims=True))
    assert mine == pytest.approx(users, abs=1e-6)


def test_answers_are_the_layers_of_the_trained_embeddings(tmp_path):
    """For its own users the fold-in is the model; for somebody new it is equation 3 over the graph that there is."""
    place = world(tmp_path)
    result = place.fit("original")
    trained = load_tensors(result.model)[0]["items"].double().numpy()
    users, items = slow_layers(matrix(), trained, 2)
    answers = place.adapter.outputs(place.adapter.load(result.model), place.data.train.matrix())
    assert answers == pytest.approx(users @ items.T, abs=1e-5)


def test_in_training_pairs_are_scored_as_answers_are(tmp_path):
    place = world(tmp_path)
    module = place.adapter.load(place.fit("original").model)[0]
    slots = np.array([4, 9, 21])
    rows, had, others, *graph = reader().batch(slots, 0, 0.0).inputs
    with torch.no_grad():
        mine, theirs = module(rows, had, others, *graph)
    users, items = slow_layers(matrix(), module.items.detach().double().numpy(), 2)
    scores = (users @ items.T)[slots]
    for number in range(len(slots)):
        assert mine[number].tolist() == pytest.approx(scores[number, had[number]].tolist(), abs=1e-5)
        assert theirs[number].tolist() == pytest.approx(scores[number, others[number]].tolist(), abs=1e-5)


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
    place = world(tmp_path, epochs=30, lr=5.0)
    data = Interactions(source="s", note="n", scale="implicit", train=train, test=train)
    job = replace(place.job("groups"), data=data, leaves=None)
    scores = place.adapter.outputs(place.adapter.load(place.adapter.fit(job).model), train.matrix())
    assert scores[:20, :10].mean() > scores[:20, 10:].mean() + 0.5


def test_settings_out_of_range_are_refused(tmp_path):
    for wrong in ({"layers": 0}, {"factors": 0}, {"pairs": 0}, {"scale": 0}, {"depth": 3}):
        with pytest.raises(InputError):
            world(tmp_path, model={name: str(value) for name, value in wrong.items()})


# ------------------------------------------------------------------------------------------------- who is in the graph


def test_nobody_is_in_the_graph_before_their_slice_or_when_they_are_absent(tmp_path):
    place = world(tmp_path)
    job = place.job("original", GONE)
    schedule, source = place.adapter._schedule(job), place.adapter.source(job)
    for epoch in range(4):
        used = [slot for slot in schedule.slots[schedule.introduced() <= epoch].tolist() if slot not in GONE]
        graph, shrink = source.graph(epoch)
        assert len(graph) == len(used)
        had = matrix(used).sum(0)
        assert (shrink.ravel() > 0).tolist() == (had > 0).tolist()


def test_receipts_name_everybody_in_the_graph_and_the_start_line_says_that_every_step_reads_them(tmp_path):
    place = world(tmp_path)
    lines = read_transcript(place.fit("original", GONE).transcript)
    assert lines[0]["every_step_reads"] == "epoch"
    source = place.adapter.source(place.job("original", GONE))
    for line in (line for line in lines if line["kind"] == "epoch"):
        users = source.slots[source.introduced <= line["epoch"]].tolist()
        assert line["receipt"]["root"] == receipt_root(place.leaves.contents[slot] for slot in users)
        assert line["receipt"]["count"] == len(users)
        assert len(source.graph(int(line["epoch"]))[0]) == len(users)


def test_other_families_say_nothing_of_the_kind(tmp_path):
    lines = read_transcript(make_user_world(tmp_path, family="bpr").fit("original").transcript)
    assert "every_step_reads" not in lines[0]


def test_the_first_step_that_reads_a_user_is_the_first_of_their_epoch(tmp_path):
    place = world(tmp_path)
    user, epoch = late_user(place)
    schedule = place.adapter._schedule(place.job("original"))
    first = sum(schedule.epoch_steps()[:epoch])
    assert place.adapter.first_use(place.job("original"), frozenset({user})) == first > 0


def test_changed_histories_stop_a_training_whoever_is_in_the_batch():
    """The graph reads them all."""
    histories = random_histories()
    leaves = user_leaves(histories)
    histories.values[histories.span(9)] += 1
    with pytest.raises(IntegrityError, match="slot 9"):
        reader(histories, leaves=leaves).batch(np.array([4]), 0, 0.0)


def test_no_user_has_a_row_and_what_only_they_had_says_nothing(tmp_path):
    place = world(tmp_path)
    tensors, _ = load_tensors(place.fit("original").model)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == dict.fromkeys(
        ("items", "folded", "wanted"), (ITEMS, 64)
    )
    item = int(random_histories().row(3)[0][0])
    owners = frozenset(np.flatnonzero(matrix()[:, item]).tolist())
    assert not load_tensors(place.fit("without", owners).model)[0]["folded"][item].any()


# ----------------------------------------------------------------------------------------------------------- deletions


@pytest.mark.parametrize(("method", "settings"), [("retrain", {}), ("replay", {}), ("sisa", {"shards": 2})])
def test_a_deletion_is_a_training_without_and_never_reads_the_deleted(tmp_path, method, settings):
    place = world(tmp_path, **settings)
    original, retrained = place.fit("original"), place.fit("retrained", GONE)
    before = tree_digest(tmp_path / "original")
    job = place.unlearn_job("deleted", GONE)
    train = posing_as(place.data.train, sorted(GONE), [0, 1])
    hidden = replace(job, job=replace(job.job, data=replace(place.data, train=train)))
    deleted = registry.load("methods", method)().unlearn(hidden)
    assert deleted.digest == retrained.digest != original.digest
    assert deleted.transcript.read_bytes() == retrained.transcript.read_bytes()
    assert tree_digest(tmp_path / "original") == before


@pytest.mark.parametrize("method", ["retrain", "replay", "sisa", "finetune"])
def test_methods_written_for_images_obey_their_suite_on_users(method):
    check_unlearner(method, family="lightgcn")


def test_a_replay_keeps_what_was_before_the_users_epoch(tmp_path):
    place = world(tmp_path)
    place.fit("original")
    user, epoch = late_user(place)
    late = frozenset({user})
    result = registry.load("methods", "replay")().unlearn(place.unlearn_job("deleted", late))
    assert result.resumed_at == sum(place.adapter._schedule(place.job("x")).epoch_steps()[:epoch]) > 0
    assert result.digest == place.fit("retrained", late).digest


def test_without_slices_a_replay_is_a_retraining(tmp_path):
    place = world(tmp_path, introduce=(0.0,))
    original = place.fit("original")
    job = place.unlearn_job("deleted", GONE)
    assert place.adapter.replay_steps(job.job, GONE) == place.adapter.total_steps(job.job)
    assert place.adapter.first_use(job.job, GONE) == 0
    result = registry.load("methods", "replay")().unlearn(job)
    assert result.resumed_at == 0
    assert result.digest == place.fit("retrained", GONE).digest != original.digest


def test_shards_have_graphs_of_their_own_and_are_trained_apart(tmp_path):
    place = world(tmp_path, shards=2)
    whole = place.fit("whole")
    job = place.job("apart")
    for part in reversed(place.adapter.parts(job)):
        source = place.adapter.source(part)
        assert set(source.slots.tolist()) == set(part.universe)
        assert len(source.graph(3)[0]) == len(part.universe)
        place.adapter.fit_part(part)
    joined = place.adapter.fit(job)
    assert joined.digest == whole.digest
    assert joined.transcript.read_bytes() == whole.transcript.read_bytes()


def test_the_transcript_is_what_recipe_seed_and_tombstones_say_and_provenance_passes(tmp_path):
    place = world(tmp_path)
    original, candidate = place.fit("original"), place.fit("deleted", GONE)
    expected = expected_transcript(place.adapter.recipe, [place.job("deleted", GONE)], place.leaves)
    lines = read_transcript(candidate.transcript)
    assert audited(lines) == expected
    evidence = Provenance(
        expected=expected,
        candidate=lines,
        original=read_transcript(original.transcript),
        candidate_digest=candidate.digest,
        plan_index=4,
        result_index=9,
        forgotten=(0, 0),
        copies=0,
    )
    for judged, verdict in ((evidence, Verdict.PASS), (replace(evidence, candidate=evidence.original), Verdict.FAIL)):
        job = CheckJob(limits=Limits(), guarantee=Guarantee.EXACT, seed=7, provenance=judged)
        assert ProvenanceCheck().run(job).verdict is verdict


# -------------------------------------------------------------------------------- checkpoints that had the user in them


def test_a_replay_from_a_checkpoint_that_had_the_user_in_its_graph_is_refused(tmp_path, monkeypatch):
    """One epoch too late: the receipt before it names the user."""
    place = world(tmp_path)
    place.fit("original")
    honest = Schedule.first_epoch
    monkeypatch.setattr(Schedule, "first_epoch", lambda self, forget: honest(self, forget) + 1)
    job = place.unlearn_job("deleted", frozenset({late_user_before_the_end(place)}))
    with pytest.raises(InputError, match="another training") as caught:
        registry.load("methods", "replay")().unlearn(job)
    assert "another set of records" in str(caught.value.got)


def test_such_a_checkpoint_gives_other_weights(tmp_path):
    """By hand, past all checks: nobody's transcript, the original's state one epoch after the user came in."""
    place = world(tmp_path)
    original = place.fit("original", leaves=None)
    user = late_user_before_the_end(place)
    retrained = place.fit("retrained", frozenset({user}), leaves=None)
    schedule = place.adapter._schedule(place.job("x"))
    epoch = schedule.first_epoch(frozenset({user}))
    digests = {}
    for name, until in (("in time", epoch), ("too late", epoch + 1)):
        target = tmp_path / name / "checkpoints"
        target.mkdir(parents=True)
        file = f"epoch-{until:04d}.safetensors"
        shutil.copyfile(original.model.parent / "checkpoints" / file, target / file)
        digests[name] = place.fit(name, frozenset({user}), leaves=None).digest
    assert digests["in time"] == retrained.digest != digests["too late"]


class TextbookGraph(Lightgcn):
    """The whole graph from the first step on, slices or not: everybody is read before the slice that names them."""

    def source(self, job):
        honest = Lightgcn.source(self, job)
        return replace(honest, introduced=np.zeros_like(honest.introduced))


def test_with_the_whole_graph_from_the_first_step_a_replay_would_be_wrong(tmp_path):
    """Why the graph grows with the slices."""
    place = make_user_world(tmp_path, family="lightgcn", plugin=TextbookGraph)
    place.fit("original")
    late = frozenset({late_user(place)[0]})
    replayed = registry.load("methods", "replay")().unlearn(place.unlearn_job("deleted", late))
    assert replayed.resumed_at > 0
    assert replayed.digest != place.fit("retrained", late).digest


def late_user_before_the_end(place):
    """A user who comes in late, with an epoch after theirs."""
    schedule = place.adapter._schedule(place.job("original"))
    introduced = schedule.introduced()
    return int(schedule.slots[introduced == place.adapter.recipe.epochs - 2][0])
