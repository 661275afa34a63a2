"""Shards trained by tasks, on all three engines, join to the model of one process, transcript and all."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from expunge.core.codec import canonical, encode
from expunge.core.errors import ExpungeError, InputError
from expunge.core.plan import Numerics
from expunge.core.protocols import FitJob
from expunge.farm.engine import parse_engine
from expunge.farm.member import adapter_for
from expunge.farm.opened import open_data
from expunge.farm.shards import fit_in_shards, tasks_of
from expunge.testing.users import user_leaves
from expunge.training.loop import numerics_of
from expunge.training.recipe import parse_recipe

NAMED = {"source": "powerlaw", "options": {"users": 60, "items": 50, "test_users": 10}}
ABSENT = frozenset({3, 17, 41})
RECIPE = {
    "name": "small",
    "family": "multvae",
    "epochs": 3,
    "batch": 8,
    "lr": 0.05,
    "threads": 1,
    "shards": 3,
    "model": {"hidden": "12", "latent": "4"},
}


def job_of(folder: Path, **changes: object) -> FitJob:
    recipe = parse_recipe(RECIPE)
    data = open_data(NAMED)
    plain = {"seed": "5eed" * 8, "numerics": numerics_of(recipe), "leaves": user_leaves(data.train), "absent": ABSENT}
    return FitJob(recipe=recipe.model_dump(), data=data, folder=folder, **{**plain, **changes})  # type: ignore[arg-type]


def in_shards(tmp_path: Path, engine: str, job: FitJob):
    adapter, parsed = adapter_for(job.recipe, job.data), parse_engine(engine)
    leaves = tmp_path / "leaves.json"
    leaves.write_bytes(canonical(encode(job.leaves)))
    tasks = tasks_of(adapter, job, NAMED, leaves=leaves)
    folder = tmp_path / "tasks"
    return fit_in_shards(adapter, job, tasks, executor=parsed.executor, compute=parsed.compute, folder=folder)


@pytest.mark.parametrize("engine", ["inline://", "process://?n=2", "ray://local?n=2"])
def test_engines_agree_with_one_process_on_weights_and_transcript(tmp_path, engine):
    if engine.startswith("ray") and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    whole = job_of(tmp_path / "whole")
    alone = adapter_for(whole.recipe, whole.data).fit(whole)
    found = in_shards(tmp_path, engine, job_of(tmp_path / "joined"))
    assert found.digest == alone.digest
    assert found.transcript.read_bytes() == alone.transcript.read_bytes()


def test_a_deletion_changes_one_task_and_the_others_are_read_back(tmp_path):
    """The point of shards: only the user's own is trained again."""
    before, after = job_of(tmp_path / "before"), job_of(tmp_path / "after", absent=ABSENT | {8})
    adapter = adapter_for(before.recipe, before.data)
    first, second = (tasks_of(adapter, job, NAMED) for job in (before, after))
    changed = [one.arguments != other.arguments for one, other in zip(first, second, strict=True)]
    assert sum(changed) == 1
    shard = next(number for number, part in enumerate(adapter.shards(before)) if 8 in part)
    assert changed[shard]


def test_a_shard_of_another_seed_is_refused_when_it_is_joined(tmp_path):
    job = job_of(tmp_path / "joined")
    adapter, engine = adapter_for(job.recipe, job.data), parse_engine("inline://")
    leaves = tmp_path / "leaves.json"
    leaves.write_bytes(canonical(encode(job.leaves)))
    tasks = tasks_of(adapter, replace(job, seed="0dd5" * 8), NAMED, leaves=leaves)
    with pytest.raises(ExpungeError, match="the run of another training"):
        fit_in_shards(adapter, job, tasks, executor="inline", compute=engine.compute, folder=tmp_path / "t")


def test_a_family_without_shards_is_refused(tmp_path):
    numerics = Numerics(precision="fp64", threads=1, device="cpu", instruction_set="any", build="any")
    recipe = {"name": "small", "solver": "closed-form", "family": "ease"}
    job = FitJob(recipe=recipe, seed="0" * 32, numerics=numerics, data=open_data(NAMED), folder=tmp_path)
    with pytest.raises(InputError, match="cannot be trained in shards"):
        tasks_of(adapter_for(recipe, job.data), job, NAMED)
