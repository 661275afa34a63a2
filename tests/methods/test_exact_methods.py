"""Replay and SISA equal a retrain to the last bit: weights digest and transcript bytes, on networks with and without
BatchNorm, for records that enter early and late, and for one deletion after another."""

from dataclasses import replace

import numpy as np
import pytest

from expunge.core import registry
from expunge.core.errors import ExpungeError, InputError, IntegrityError
from expunge.core.protocols import UnlearnJob
from expunge.testing.world import make_world, random_records, tree_digest
from expunge.training.checkpoint import weights_identity
from expunge.training.transcript import read_transcript

RESNET = {"family": "resnet", "model": {"depth": 8, "width": 4}, "crop": 1, "flip": "random", "momentum": 0.9}
CONVNET = {"family": "convnet", "model": {"width": 8, "wide": 8}, "averaging": 0.9, "cutout": 4, "bias_lr": 8.0}
WORLDS = {
    "mlp": {},
    "mlp-one-slice": {"introduce": (0.0,)},
    "resnet-batchnorm": {**RESNET, "data": random_records(40, (8, 8, 3), 4)},
    "resnet-bf16": {**RESNET, "data": random_records(32, (8, 8, 3), 4), "precision": "bf16"},
    "convnet-averaged": {**CONVNET, "data": random_records(32, (16, 16, 3), 4)},
}
SEEDS = ("5eed" * 8, "0dd5" * 8)


def unlearn(world, method, target, forget, source="original", absent=frozenset()):
    job = world.unlearn_job(target, frozenset(forget), source=source, absent=frozenset(absent))
    instance = registry.load("methods", method)()
    assert instance.refuses(job) is None
    return instance.unlearn(job)


def early_middle_late(world):
    """Three records by first use; the last one first appears after a third of all steps."""
    job = world.job("x")
    total = world.adapter.total_steps(job)
    uses = sorted((world.adapter.first_use(job, frozenset({slot})), slot) for slot in range(len(world.data.train)))
    late = [slot for use, slot in uses if use > total / 3]
    return [uses[0][1], uses[len(uses) // 2][1], *late[-1:]], total


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("settings", WORLDS)
def test_replay_is_bit_identical_to_retraining_without_the_record(tmp_path, settings, seed):
    world = make_world(tmp_path, seed=seed, **WORLDS[settings])
    original = world.fit("original")
    before = tree_digest(tmp_path / "original")
    slots, total = early_middle_late(world)
    digests = {original.digest}
    for slot in slots:
        replayed = unlearn(world, "replay", f"replay-{slot}", {slot})
        retrained = unlearn(world, "retrain", f"retrain-{slot}", {slot})
        assert replayed.digest == retrained.digest == weights_identity(replayed.model)
        assert replayed.transcript.read_bytes() == retrained.transcript.read_bytes()
        digests.add(replayed.digest)
    assert len(digests) == len(slots) + 1, "each record leaves its own mark"
    if settings != "mlp-one-slice":
        assert len(slots) == 3
        assert world.adapter.first_use(world.job("x"), frozenset({slots[2]})) > total / 3
        assert replayed.resumed_at > total / 3, "a late record is replayed from a real checkpoint"
    assert tree_digest(tmp_path / "original") == before


def test_control_retraining_without_forgetting_anything_is_the_original(tmp_path):
    world = make_world(tmp_path)
    original = world.fit("original")
    again = unlearn(world, "retrain", "again", ())
    assert again.digest == original.digest
    assert again.transcript.read_bytes() == original.transcript.read_bytes()


def test_control_another_record_or_one_left_in_is_another_model(tmp_path):
    world = make_world(tmp_path)
    world.fit("original")
    wanted = unlearn(world, "retrain", "retrain", {5, 11}).digest
    assert unlearn(world, "replay", "right", {5, 11}).digest == wanted
    wrong = [unlearn(world, "replay", f"wrong-{number}", forget) for number, forget in enumerate([{5}, {5, 12}, {11}])]
    assert len({wanted, *(result.digest for result in wrong)}) == 4


def test_replay_saves_what_its_card_says(tmp_path):
    """Mean over 100 records: 1 - mean(replay_steps) / total is also what the replays really skip."""
    world = make_world(tmp_path, data=random_records(160, (4, 4, 1), 4), epochs=8, batch=16)
    world.fit("original")
    total = world.adapter.total_steps(world.job("x"))
    slots = np.random.Generator(np.random.Philox(1)).permutation(160)[:100].tolist()
    steps = [world.adapter.replay_steps(world.job("x"), frozenset({slot})) for slot in slots]
    saving = 1 - np.mean(steps) / total
    costs = [registry.load("methods", "replay")().cost(world.unlearn_job("x", frozenset({slot}))) for slot in slots]
    assert np.mean(costs) == pytest.approx(1 - saving)
    assert 0.1 < saving < 0.75
    for slot in slots[:6]:
        replayed = unlearn(world, "replay", f"replay-{slot}", {slot})
        assert replayed.resumed_at == total - world.adapter.replay_steps(world.job("x"), frozenset({slot}))
        assert replayed.resumed_at <= world.adapter.first_use(world.job("x"), frozenset({slot}))
    print(f"mean saving of replay over 100 records: {saving:.3f}")


@pytest.mark.parametrize("settings", ["mlp", "resnet-batchnorm"])
def test_deletion_after_deletion_equals_retraining_without_both(tmp_path, settings):
    world = make_world(tmp_path, **WORLDS[settings])
    world.fit("original")
    (first, second, late), _ = early_middle_late(world)
    for number, (one, two) in enumerate([(late, first), (second, late), (late, second)]):
        unlearn(world, "replay", f"one-{number}", {one})
        both = unlearn(world, "replay", f"two-{number}", {two}, source=f"one-{number}", absent={one})
        wanted = world.fit(f"wanted-{number}", frozenset({one, two}))
        assert both.digest == wanted.digest
        assert both.transcript.read_bytes() == wanted.transcript.read_bytes()


def test_replay_on_a_run_that_already_forgot_something_else_is_refused(tmp_path):
    """The job says slot 3 is present, the source run never read it: the mixture would be nobody's model."""
    world = make_world(tmp_path)
    (first, _, late), _ = early_middle_late(world)
    world.fit("original", frozenset({first}))
    with pytest.raises(InputError, match="another training"):
        unlearn(world, "replay", "mixture", {late})
    assert not (tmp_path / "mixture" / "model.safetensors").exists()


def test_replay_of_a_run_with_another_recipe_or_seed_is_refused(tmp_path):
    make_world(tmp_path, lr=0.06).fit("original")
    with pytest.raises(InputError) as caught:
        unlearn(make_world(tmp_path), "replay", "mixture", {5})
    assert "recipe" in caught.value.got
    with pytest.raises(InputError) as caught:
        unlearn(make_world(tmp_path, lr=0.06, seed=SEEDS[1]), "replay", "mixture", {5})
    assert "seed" in caught.value.got


def test_replay_refuses_without_transcript_or_checkpoints(tmp_path):
    world = make_world(tmp_path)
    world.fit("original")
    replay = registry.load("methods", "replay")()
    job = world.unlearn_job("x", frozenset({5}))
    assert replay.refuses(job) is None
    (tmp_path / "original" / "transcript.jsonl").rename(tmp_path / "away")
    assert "transcript" in replay.refuses(job)
    (tmp_path / "away").rename(tmp_path / "original" / "transcript.jsonl")
    for file in (tmp_path / "original" / "checkpoints").iterdir():
        file.unlink()
    assert "checkpoints" in replay.refuses(job)


@pytest.mark.parametrize("damage", ["truncated", "swapped", "missing", "transcript edited"])
def test_replay_from_a_damaged_original_is_refused_and_changes_nothing(tmp_path, damage):
    world = make_world(tmp_path)
    world.fit("original")
    (_, _, late), _ = early_middle_late(world)
    files = sorted((tmp_path / "original" / "checkpoints").iterdir())
    if damage == "truncated":
        files[1].write_bytes(files[1].read_bytes()[:-10])
    elif damage == "swapped":
        files[1].write_bytes(files[0].read_bytes())
    elif damage == "missing":
        number = world.adapter._schedule(world.job("x")).first_epoch(frozenset({late}))
        files[number].unlink()
    else:
        file = tmp_path / "original" / "transcript.jsonl"
        file.write_bytes(file.read_bytes().replace(b'"present":8', b'"present":7', 1))
    before = tree_digest(tmp_path / "original")
    with pytest.raises(IntegrityError):
        registry.load("methods", "replay")().unlearn(world.unlearn_job("target", frozenset({late})))
    assert tree_digest(tmp_path / "original") == before
    assert not (tmp_path / "target" / "model.safetensors").exists()


TRANSCRIPTS = {
    "edited": lambda raw: raw.replace(b'"present":8', b'"present":7', 1),
    "a line lost": lambda raw: b"".join(raw.splitlines(keepends=True)[1:]),
    "no JSON": lambda raw: b"\x00" * 80 + b"\n" + raw,
    "broken in the middle": lambda raw: raw[:400] + b"\n" + raw[400:],
}


@pytest.mark.parametrize("damage", TRANSCRIPTS)
@pytest.mark.parametrize(("method", "settings"), [("replay", {}), ("sisa", {"shards": 2, "batch": 8})])
def test_a_damaged_transcript_is_a_reason_and_not_an_error(tmp_path, method, settings, damage):
    """Otherwise one damaged file would end the whole case, and `retrain` would never be tried."""
    world = make_world(tmp_path, **settings)
    world.fit("original")
    instance, job = registry.load("methods", method)(), world.unlearn_job("x", frozenset({5}))
    assert instance.refuses(job) is None
    cost = instance.cost(job)
    file = tmp_path / "original" / "transcript.jsonl"
    before = file.read_bytes()
    file.write_bytes(TRANSCRIPTS[damage](before))
    assert file.read_bytes() != before
    assert "the original's transcript is damaged: transcript.jsonl line" in instance.refuses(job)
    assert instance.cost(job) == cost
    file.unlink()
    assert instance.cost(job) == cost, "a price is worked out from the recipe and reads no transcript"
    assert instance.refuses(job) == "the original has no transcript"


# --------------------------------------------------------------------------------------------------------------- SISA


def shard_of(world, slot):
    return next(n for n, slots in enumerate(world.adapter.shards(world.job("x"))) if slot in slots)


@pytest.mark.parametrize("slices", [(0.0,), (0.0, 0.25, 0.5, 0.75)], ids=["R=1", "R=4"])
@pytest.mark.parametrize("family", ["mlp", "resnet-batchnorm"])
def test_sisa_with_four_shards_equals_retraining_the_sharded_recipe(tmp_path, family, slices):
    settings = {**WORLDS[family], "shards": 4, "introduce": slices, "batch": 4}
    settings["data"] = random_records(64, (8, 8, 3), 4)
    world = make_world(tmp_path, **settings)
    original = world.fit("original")
    before = tree_digest(tmp_path / "original")
    (slot, other, late), _ = early_middle_late(world) if len(slices) > 1 else ([3, 20, 40], 0)
    forgotten = unlearn(world, "sisa", "sisa", {slot})
    wanted = unlearn(world, "retrain", "retrain", {slot})
    assert forgotten.digest == wanted.digest != original.digest
    assert forgotten.transcript.read_bytes() == wanted.transcript.read_bytes()
    touched = shard_of(world, slot)
    for number in range(4):
        old, new = (tree_digest(tmp_path / run / f"shard-{number}") for run in ("original", "sisa"))
        assert (old == new) == (number != touched), f"shard {number}"
    assert tree_digest(tmp_path / "original") == before
    # one more in the same shard, and one in another
    gone = {slot}
    same = next(s for s in world.adapter.shards(world.job("x"))[touched] if s not in gone)
    elsewhere = next(s for s in (other, late, *range(64)) if shard_of(world, s) != touched)
    for number, again in enumerate((same, elsewhere)):
        source = "sisa" if number == 0 else "again-0"
        twice = unlearn(world, "sisa", f"again-{number}", {again}, source=source, absent=gone)
        gone.add(again)
        assert twice.digest == world.fit(f"wanted-{number}", frozenset(gone)).digest


def test_sisa_runs_only_the_affected_shards_work(tmp_path):
    world = make_world(tmp_path, shards=4, batch=4, introduce=(0.0,))
    world.fit("original")
    job = world.unlearn_job("sisa", frozenset({9}))
    share = registry.load("methods", "sisa")().cost(job)
    result = unlearn(world, "sisa", "sisa", {9})
    assert (result.steps - result.resumed_at) / result.steps == pytest.approx(share)
    assert 0.1 < share < 0.5
    both = registry.load("methods", "sisa")().cost(world.unlearn_job("x", frozenset(range(48))))
    assert both == 1


def test_shards_are_disjoint_complete_and_used_by_the_model(tmp_path):
    world = make_world(tmp_path, shards=4, batch=4)
    shards = world.adapter.shards(world.job("x"))
    assert sorted(slot for shard in shards for slot in shard) == list(range(48))
    assert min(map(len, shards)) > 4
    model = world.adapter.load(world.fit("original").model)
    images = world.data.test.images
    logs = np.stack([world.adapter.outputs([module], images) for module in model])
    mean = logs.mean(0)
    mean -= np.log(np.exp(mean).sum(1, keepdims=True))
    np.testing.assert_allclose(world.adapter.outputs(model, images), mean, atol=1e-5)
    assert not np.allclose(logs[0], logs[1], atol=1e-2)


def test_sisa_refuses_a_model_of_one_shard_and_purged_checkpoints(tmp_path):
    sisa = registry.load("methods", "sisa")()
    assert "one shard" in sisa.refuses(make_world(tmp_path).unlearn_job("x", frozenset({1})))
    world = make_world(tmp_path, shards=2)
    assert "gone" in sisa.refuses(world.unlearn_job("x", frozenset({1})))


def test_a_swapped_shard_is_found_when_it_is_taken_over(tmp_path):
    world = make_world(tmp_path, shards=2, batch=4)
    world.fit("original")
    slot = 9
    untouched = tmp_path / "original" / f"shard-{1 - shard_of(world, slot)}"
    other = make_world(tmp_path / "other", shards=2, batch=4, lr=0.01)
    other.fit("original")
    stranger = tmp_path / "other" / "original" / untouched.name / "model.safetensors"
    (untouched / "model.safetensors").write_bytes(stranger.read_bytes())
    with pytest.raises(ExpungeError):
        unlearn(world, "sisa", "target", {slot})
    assert not (tmp_path / "target" / "model.safetensors").exists()


# ------------------------------------------------------------------------------------------------------------ finetune


def finetune(world, target, params=None):
    job = world.unlearn_job(target, frozenset({5}))
    return registry.load("methods", "finetune")().unlearn(replace(job, params=params or {}))


@pytest.mark.parametrize("settings", ["mlp", "resnet-batchnorm"])
def test_finetune_moves_the_weights_and_says_where_it_started(tmp_path, settings):
    world = make_world(tmp_path, **WORLDS[settings])
    original = world.fit("original")
    before = tree_digest(tmp_path / "original")
    result = finetune(world, "tuned")
    starts = [line for line in read_transcript(result.transcript) if line["kind"] == "start"]
    assert [line["from"] for line in starts] == [original.digest]
    assert result.digest not in (original.digest, world.fit("retrained", frozenset({5})).digest)
    assert tree_digest(tmp_path / "original") == before
    assert result.steps == 2 * -(-len(world.data.train) // 8)


def test_finetune_settings_change_the_result_and_bad_ones_are_refused(tmp_path):
    world = make_world(tmp_path)
    world.fit("original")
    digests = {
        finetune(world, f"tuned-{number}", params).digest
        for number, params in enumerate([{}, {"epochs": "1"}, {"lr": "0.001"}])
    }
    assert len(digests) == 3
    for number, params in enumerate([{"epochs": "0"}, {"lr": "-1"}, {"lr": "nan"}, {"learning_rate": "1"}]):
        with pytest.raises(InputError):
            finetune(world, f"bad-{number}", params)
        assert not (tmp_path / f"bad-{number}").exists()


def test_finetune_refuses_a_sharded_model(tmp_path):
    method = registry.load("methods", "finetune")()
    assert method.refuses(make_world(tmp_path).unlearn_job("x", frozenset({1}))) is None
    assert "sharded" in method.refuses(make_world(tmp_path, shards=2).unlearn_job("x", frozenset({1})))


def test_finetune_of_a_foreign_weights_file_is_refused(tmp_path):
    world = make_world(tmp_path)
    world.fit("original")
    make_world(tmp_path / "wide", model={"width": 7}).fit("original")
    job: UnlearnJob = world.unlearn_job("tuned", frozenset({5}))
    with pytest.raises(IntegrityError, match="architecture"):
        registry.load("methods", "finetune")().unlearn(replace(job, source=tmp_path / "wide" / "original"))


def test_cost_of_finetune_is_its_share_of_the_epochs(tmp_path):
    world = make_world(tmp_path)
    method = registry.load("methods", "finetune")()
    job = world.unlearn_job("x", frozenset({1}))
    assert method.cost(job) == 2 / 4
    assert method.cost(replace(job, params={"epochs": "1"})) == 1 / 4
