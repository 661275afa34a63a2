"""Sums in parts, on all three engines, are the sums in one go, digest by digest."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expunge.core.codec import canonical
from expunge.core.errors import InputError
from expunge.core.plan import Numerics
from expunge.core.protocols import FitJob
from expunge.farm.engine import parse_engine
from expunge.farm.member import adapter_for
from expunge.farm.opened import open_data
from expunge.farm.parts import _added, fit_in_parts, tasks_of

NAMED = {"source": "powerlaw", "options": {"users": 80, "items": 60, "test_users": 10}}
ABSENT = frozenset({3, 17, 41})
NUMERICS = Numerics(precision="fp64", threads=1, device="cpu", instruction_set="any", build="any")


def job_of(folder: Path, family: str) -> FitJob:
    recipe = {"name": "small", "solver": "closed-form", "family": family}
    return FitJob(recipe=recipe, seed="0" * 32, numerics=NUMERICS, data=open_data(NAMED), folder=folder, absent=ABSENT)


def in_parts(tmp_path: Path, family: str, engine: str, parts: int, **more):
    job = job_of(tmp_path / f"{family}-{parts}", family)
    adapter, parsed = adapter_for(job.recipe, job.data), parse_engine(engine)
    tasks = tasks_of(job, NAMED, parts=parts, **more)
    folder = tmp_path / "parts"
    return fit_in_parts(adapter, job, tasks, executor=parsed.executor, compute=parsed.compute, folder=folder)


def in_one(tmp_path: Path, family: str):
    job = job_of(tmp_path / f"{family}-whole", family)
    return adapter_for(job.recipe, job.data).fit(job)


@pytest.mark.parametrize(
    "family", ["ease", "weighted_ease", "ridge", "itemknn", "rp3beta", "popularity", "covisitation"]
)
@pytest.mark.parametrize("parts", [1, 3, 7])
def test_parts_add_up_to_the_same_model(tmp_path, family, parts):
    found = in_parts(tmp_path, family, "inline://", parts)
    assert found.digest == in_one(tmp_path, family).digest
    assert found.steps == 67


@pytest.mark.parametrize("engine", ["inline://", "process://?n=2", "ray://local?n=2"])
def test_engines_agree(tmp_path, engine):
    if engine.startswith("ray") and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    assert in_parts(tmp_path, "ease", engine, 4).digest == in_one(tmp_path, "ease").digest


def test_a_frozen_vocabulary_travels_with_the_tasks(tmp_path):
    file = tmp_path / "items.json"
    file.write_bytes(canonical(list(open_data(NAMED).items)))
    assert in_parts(tmp_path, "ease", "inline://", 2, vocabulary=file).digest == in_one(tmp_path, "ease").digest


def test_somebody_who_is_absent_is_in_no_part(tmp_path):
    tasks = tasks_of(job_of(tmp_path, "ease"), NAMED, parts=5)
    slots = [slot for task in tasks for slot in task.arguments["slots"]]
    assert ABSENT.isdisjoint(slots)
    assert len(slots) == len(set(slots)) == 67


def test_a_lost_part_is_another_model(tmp_path):
    job = replace(job_of(tmp_path / "short", "ease"))
    adapter, engine = adapter_for(job.recipe, job.data), parse_engine("inline://")
    tasks = tasks_of(job, NAMED, parts=4)[:-1]
    found = fit_in_parts(adapter, job, tasks, executor=engine.executor, compute=engine.compute, folder=tmp_path / "p")
    assert found.digest != in_one(tmp_path, "ease").digest


@pytest.mark.parametrize("parts", [0, 68])
def test_more_parts_than_users_are_refused(tmp_path, parts):
    with pytest.raises(InputError, match="parts of a sum"):
        tasks_of(job_of(tmp_path, "ease"), NAMED, parts=parts)


def test_parts_that_run_over_are_refused():
    half = np.full((2, 2), 2**30, np.int32)
    with pytest.raises(InputError, match="do not fit"):
        _added(half.copy(), half)
    assert (_added({"pairs": half - 1}, {"pairs": half})["pairs"] == 2**31 - 1).all()
