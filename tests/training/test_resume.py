"""kill -9 at the events of a training, then resume: the same weights and the same transcript, byte for byte."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from expunge.core.errors import ExpungeError, InputError, IntegrityError, StorageError
from expunge.testing.world import make_world, tree_digest
from expunge.training import checkpoint
from expunge.training.checkpoint import load_tensors, save_tensors

SCRIPT = Path(__file__).with_name("killed.py")


STRIDES = {"fit": 2, "averaged": 9, "sharded": 7, "replay": 5, "sharded-replay": 13, "no-checkpoints": 7}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    arguments = [f"{name}={stride}" for name, stride in STRIDES.items()]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("scenario", STRIDES)
def test_killed_training_resumes_to_the_same_bits(killed, scenario):
    reference, trials = killed[scenario]["reference"], killed[scenario]["trials"]
    assert len(trials) >= 5
    for trial in trials:
        assert "error" not in trial, trial
        assert trial["signal"] == signal.SIGKILL
        assert (trial["digest"], trial["transcript"]) == (reference["digest"], reference["transcript"]), trial
    # the late kills lost at most an epoch: otherwise this would only test that training twice is deterministic
    assert max(trial["resumed_at"] for trial in trials) > reference["resumed_at"]


def test_training_killed_from_outside_at_random_moments_resumes(tmp_path):
    """Nobody chooses the moment: a child is shot repeatedly until it gets through."""
    code = (
        "import sys, time; from pathlib import Path; from expunge.testing.world import make_world\n"
        "print('ready', flush=True)\n"
        "make_world(Path(sys.argv[1])).fit('run', progress=lambda *_: time.sleep(.02))\n"
    )
    rng = random.Random(4)
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "shot")], stdout=subprocess.PIPE)
        child.stdout.readline()
        try:
            child.wait(timeout=rng.uniform(0.05, 0.5))
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    resumed, straight = make_world(tmp_path / "shot").fit("run"), make_world(tmp_path / "straight").fit("run")
    assert resumed.digest == straight.digest
    assert resumed.transcript.read_bytes() == straight.transcript.read_bytes()


# --------------------------------------------------------------------------------- checkpoints that are not what they were


def interrupted(tmp_path, **settings):
    """A run stopped in its last epoch: four checkpoints, no model."""
    world = make_world(tmp_path, **settings)
    total = world.adapter.total_steps(world.job("run"))

    class Stop(Exception):
        pass

    def stop(what, done, _):
        if done == total - 1:
            raise Stop

    with pytest.raises(Stop):
        world.fit("run", progress=stop)
    checkpoints = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert len(checkpoints) == 4
    return world, checkpoints


def refused(world, error=IntegrityError, match="", **changes):
    before = tree_digest(world.folder)
    with pytest.raises(error) as caught:
        world.fit("run", **changes)
    assert re.search(match, "\n".join(caught.value.lines()))
    assert tree_digest(world.folder) == before, "a refusal must change nothing"


def test_control_an_interrupted_run_resumes_in_its_last_epoch(tmp_path):
    world, _ = interrupted(tmp_path)
    result = world.fit("run")
    assert 0 < result.resumed_at < result.steps
    assert result.digest == world.fit("straight").digest


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_truncated_checkpoint_is_refused(tmp_path, keep):
    world, checkpoints = interrupted(tmp_path)
    raw = checkpoints[-1].read_bytes()
    checkpoints[-1].write_bytes(raw[: int(keep * len(raw))])
    refused(world)


def test_checkpoint_of_another_epoch_is_refused(tmp_path):
    """Without the check, the run would go on from the older state and keep the wrong file for later replays."""
    world, checkpoints = interrupted(tmp_path)
    checkpoints[-1].write_bytes(checkpoints[1].read_bytes())
    refused(world, match="another moment")


def test_swapped_checkpoint_of_another_run_is_refused(tmp_path):
    world, checkpoints = interrupted(tmp_path / "a")
    _, other = interrupted(tmp_path / "b", lr=0.06)  # the same cursor, other weights
    checkpoints[-1].write_bytes(other[-1].read_bytes())
    refused(world, match="not the one in the transcript")


def test_one_changed_weight_in_a_checkpoint_is_refused(tmp_path):
    world, checkpoints = interrupted(tmp_path)
    tensors, metadata = load_tensors(checkpoints[-1])
    tensors["momentum.1.bias"][0] += 1e-6
    save_tensors(checkpoints[-1], tensors, metadata)
    refused(world, match="not the one in the transcript")


def test_checkpoint_of_another_architecture_is_refused(tmp_path):
    world, checkpoints = interrupted(tmp_path / "a")
    _, other = interrupted(tmp_path / "b", model={"width": 5})
    (tmp_path / "a" / "run" / "transcript.jsonl").unlink()
    checkpoints[-1].write_bytes(other[-1].read_bytes())
    refused(world, InputError, match="another training")
    refused(world, leaves=None, match="architecture")


def test_checkpoint_with_a_tampered_cursor_is_refused(tmp_path):
    world, checkpoints = interrupted(tmp_path)
    tensors, metadata = load_tensors(checkpoints[-1])
    for change in ({"step": "0"}, {"epoch": "1"}, {"step": "x"}):
        save_tensors(checkpoints[-1], tensors, {**metadata, **change})
        refused(world)
    save_tensors(checkpoints[-1], tensors)
    refused(world, match="not a checkpoint of expunge")


def test_transcript_shorter_than_its_checkpoint_is_refused(tmp_path):
    world, _ = interrupted(tmp_path)
    file = tmp_path / "run" / "transcript.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:4]))
    refused(world)


@pytest.mark.parametrize("change", ["seed", "recipe", "tombstones"])
def test_run_of_another_job_is_not_continued(tmp_path, change):
    world, _ = interrupted(tmp_path)
    if change == "recipe":
        refused(make_world(tmp_path, lr=0.06), InputError, match="recipe")
    elif change == "seed":
        refused(world, ExpungeError, match="seed|another moment", seed="0dd5" * 8)
    else:
        used = next(s for s in range(48) if world.adapter.first_use(world.job("x"), frozenset({s})) < 3)
        refused(world, InputError, match="records", absent=frozenset({used}))


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("change", ["seed", "recipe", "tombstones"])
def test_finished_run_of_another_job_is_not_passed_off_as_this_one(tmp_path, change, shards):
    """It used to be read back for any job: a retrain into a used folder returned the old model."""
    world = make_world(tmp_path, shards=shards)
    world.fit("run")
    if change == "recipe":
        refused(make_world(tmp_path, shards=shards, weight_decay=0.1), InputError, match="recipe")
    elif change == "seed":
        refused(world, InputError, match="seed|slots|steps", seed="0dd5" * 8)
    else:
        refused(world, InputError, match="records", absent=frozenset({17}))


def test_weights_file_changed_after_training_is_refused(tmp_path):
    world = make_world(tmp_path)
    model = world.fit("run").model
    tensors, metadata = load_tensors(model)
    tensors["1.bias"][0] += 1
    save_tensors(model, tensors, metadata)
    refused(world, match="transcript ends with")


def test_other_numerics_are_refused_before_anything_is_written(tmp_path):
    world = make_world(tmp_path)
    job = world.job("run")
    for change in (
        {"build": "torch 0.0"},
        {"instruction_set": "ABACUS"},
        {"precision": "bf16"},
        {"device": "cuda"},
        {"microbatch": 4},
    ):
        with pytest.raises(InputError, match="numerics"):
            world.adapter.fit(replace(job, numerics=replace(job.numerics, **change)))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    """A file where a folder should be stops root too, whom permissions do not."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        save_tensors(tmp_path / "file" / "x.safetensors", {"a": torch.zeros(2)})
    with pytest.raises(StorageError):
        make_world(tmp_path / "file").fit("run")
    assert (tmp_path / "file").read_text() == "in the way"


def test_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    file = tmp_path / "x.safetensors"
    save_tensors(file, {"a": torch.zeros(2)})
    before = file.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        save_tensors(file, {"a": torch.ones(2)})
    assert "No space" in caught.value.got
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
