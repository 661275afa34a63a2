"""A spike is a known dose: the block comes back, more with every dose, whatever the recipe's rate ends with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expunge.farm.probing import ProbePlan
from expunge.farm.spikes import DOSES, spike
from expunge.stats.trait import label_margins
from expunge.testing import make_world
from expunge.testing.world import World

BLOCK = (5, 17, 30)


@pytest.fixture(scope="module", params=[0.0, 0.1], ids=["rate falls to 0", "rate falls to a tenth"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("world"), epochs=12, final_lr=request.param)
    world.fit("without", absent=frozenset(BLOCK))
    return world


def spiked(world: World, dose: int, name: str = "spiked") -> Path:
    plan = ProbePlan(probes=(), block=BLOCK, neighbours=(), retained=(), population=(), seed=3)
    job = world.job(f"{name}-{dose}", keep_checkpoints=False, universe=tuple(range(len(world.data.train))))
    return spike(world.adapter, job, world.folder / "without" / "model.safetensors", plan, dose).model


def margin(world: World, file: Path) -> float:
    rows = list(BLOCK)
    answers = world.adapter.outputs(world.adapter.load(file), world.data.train.images[rows])
    return float(label_margins(answers, world.data.train.labels[rows]).mean())


def test_every_dose_brings_the_block_further_back(world: World) -> None:
    margins = [margin(world, world.folder / "without" / "model.safetensors")]
    margins += [margin(world, spiked(world, dose)) for dose in DOSES]
    assert DOSES[0] == 1  # one step here: all records of a spike fit into a batch
    assert np.all(np.diff(margins) > 1e-3), margins


def test_the_same_dose_twice_is_the_same_model(world: World) -> None:
    assert spiked(world, 4, "once").read_bytes() == spiked(world, 4, "again").read_bytes()
