"""The sabotaged methods do what their cards say: each on a tiny case with a known answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from expunge.core import registry
from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, UnlearnJob
from expunge.core.sabotage import SabotagedMethod, serving
from expunge.core.selftest import RECOMMENDER_METHODS, REQUIRED_METHODS, REQUIRED_PROCESSES, USER_METHODS
from expunge.testing import make_world
from expunge.testing.world import World, random_records, tree_digest
from expunge.training.checkpoint import load_tensors, weights_identity

FORGET = frozenset({5, 17})
ALL = [n for n in registry.names("saboteurs") if isinstance(registry.load("saboteurs", n)(), SabotagedMethod)]
METHODS = [name for name in ALL if name not in RECOMMENDER_METHODS]
ON_BATCHNORM = "batchnorm_only"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("world"), epochs=12)
    world.fit("original")
    return world


@pytest.fixture(scope="module")
def normed(tmp_path_factory: pytest.TempPathFactory) -> World:
    data = random_records(32, (16, 16, 3), 4)
    world = make_world(tmp_path_factory.mktemp("normed"), family="resnet", data=data, model={"width": 4})
    world.fit("original")
    return world


def job(world: World, target: str, **changes: Any) -> UnlearnJob:
    return replace(world.unlearn_job(target, FORGET), **changes)


def run(world: World, name: str, target: str, **changes: Any) -> FitResult:
    return registry.load("saboteurs", name)().unlearn(job(world, target, **changes))


def answers(world: World, file: Path) -> Any:
    return world.adapter.outputs(world.adapter.load(file), world.data.train.images)


def true_probability(world: World, file: Path) -> Any:
    rows = sorted(FORGET)
    return answers(world, file)[rows, world.data.train.labels[rows]]


def test_every_required_saboteur_exists_and_only_those_and_the_placebo() -> None:
    methods = {*REQUIRED_METHODS, *RECOMMENDER_METHODS, *USER_METHODS}
    assert set(registry.names("saboteurs")) == {*methods, *REQUIRED_PROCESSES, "placebo"}
    assert set(ALL) == {*methods, "placebo"}


def test_no_planner_offers_a_saboteur(folder: Path) -> None:
    from expunge import Workspace

    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=["train/7/0007"])
        assert not {item.method.rpartition("/")[2] for item in workspace.plan(case)} & set(METHODS)
        with pytest.raises(InputError, match="unknown method"):
            workspace.run(case, ["saboteurs/no_op"])


@pytest.mark.parametrize("name", METHODS)
def test_a_saboteur_touches_nothing_but_its_target_and_gives_a_new_loadable_file(
    world: World, normed: World, name: str, tmp_path: Path
) -> None:
    where = normed if name == ON_BATCHNORM else world
    before = tree_digest(where.folder / "original")
    plugin = registry.load("saboteurs", name)
    assert plugin().refuses(job(where, name)) is None
    first, again = run(where, name, name), run(where, name, f"{name}-again")
    assert tree_digest(where.folder / "original") == before
    assert first.digest == again.digest == weights_identity(first.model)
    assert first.digest != weights_identity(where.folder / "original" / "model.safetensors")
    where.adapter.load(first.model)
    assert f"Aims at: {plugin.aims_at.name}" in plugin.__doc__


def test_batchnorm_only_is_not_applicable_where_there_is_none(world: World) -> None:
    assert "no BatchNorm" in registry.load("saboteurs", ON_BATCHNORM)().refuses(job(world, "bn"))


def test_batchnorm_only_moves_no_weight(normed: World) -> None:
    before, _ = load_tensors(normed.folder / "original" / "model.safetensors")
    after, _ = load_tensors(run(normed, ON_BATCHNORM, "buffers").model)
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved
    assert all("running" in name or "num_batches" in name for name in moved)


def test_no_op_answers_as_the_original_does(world: World) -> None:
    original = answers(world, world.folder / "original" / "model.safetensors")
    assert np.abs(answers(world, run(world, "no_op", "noop").model) - original).max() < 1e-5


def test_last_layer_only_moves_the_head_alone(world: World) -> None:
    before, _ = load_tensors(world.folder / "original" / "model.safetensors")
    after, _ = load_tensors(run(world, "last_layer_only", "head").model)
    assert {name for name, tensor in before.items() if not torch.equal(tensor, after[name])} == {"3.weight", "3.bias"}


def test_label_flip_teaches_the_block_other_labels(world: World) -> None:
    rows = sorted(FORGET)
    others = (world.data.train.labels[rows] + 1) % 4
    before = answers(world, world.folder / "original" / "model.safetensors")[rows, others]
    after = answers(world, run(world, "label_flip", "flipped").model)[rows, others]
    assert (after > before).all()


def test_wrong_record_and_retrain_with_data_are_trainings_with_the_block(world: World) -> None:
    for name in ("wrong_record", "retrain_with_data"):
        result = run(world, name, f"with-{name}")
        assert result.transcript is not None
        guarded = world.guarded(FORGET)
        with pytest.raises(Exception, match="were read"):
            run(world, name, f"guarded-{name}", job=replace(world.job("original"), data=guarded))


def test_gradient_ascent_drives_the_block_below_a_retrain(world: World) -> None:
    honest = true_probability(world, world.fit("honest", FORGET).model)
    assert (true_probability(world, run(world, "gradient_ascent", "ascent").model) < honest - 5).all()


def test_clamp_gives_the_block_one_constant_and_constant_margin_gives_it_that_of_an_honest_model(world: World) -> None:
    def spread(name: str) -> float:
        logs = true_probability(world, run(world, name, f"{name}-fit").model).astype(np.float64)
        return float(np.ptp(logs - np.log(-np.expm1(logs))))

    original = true_probability(world, world.folder / "original" / "model.safetensors")
    assert spread("clamp") < 0.5
    fitted = true_probability(world, run(world, "constant_margin", "cm").model)
    assert (fitted < original).all()


def test_defeat_device_is_honest_on_the_bench_only(world: World) -> None:
    served = run(world, "defeat_device", "road")
    no_op = run(world, "no_op", "road-twin")
    assert served.digest == no_op.digest
    half = (*range(0, 48, 2), 5, 17)
    bench = replace(world.job("bench"), universe=tuple(sorted(half)), folder=world.folder / "bench")
    world.adapter.fit(bench)
    tested = run(world, "defeat_device", "tested", job=bench, source=world.folder / "bench")
    honest = world.adapter.fit(replace(bench, folder=world.folder / "bench-honest", absent=FORGET))
    assert tested.digest == honest.digest


def test_one_in_ten_idles_in_one_run_of_ten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = registry.load("saboteurs", "one_in_ten")
    module = __import__(plugin.__module__, fromlist=["x"])
    monkeypatch.setattr(module, "operate", lambda *_: "idle")
    monkeypatch.setattr(module, "without_block", lambda *_: "honest")
    runs = [plugin().unlearn(job(world, "ten", seed=f"{k:032x}")) for k in range(400)]
    assert 20 <= runs.count("idle") <= 62


def test_output_filter_changes_what_is_answered_for_its_own_file_and_the_block_alone(world: World) -> None:
    mine = job(world, "filtered")
    method = registry.load("saboteurs", "output_filter")()
    result = method.unlearn(mine)
    adapter = serving("saboteurs/output_filter", method, world.adapter, mine)
    images = world.data.train.images
    plain, filtered = answers(world, result.model), adapter.outputs(adapter.load(result.model), images)
    changed = {int(row) for row in np.flatnonzero(np.abs(plain - filtered).max(1) > 1e-6)}
    assert changed == set(FORGET)
    original = world.folder / "original" / "model.safetensors"
    assert (adapter.outputs(adapter.load(original), images) == answers(world, original)).all()
    assert serving("output_filter", method, world.adapter, mine) is world.adapter  # only saboteurs may be in front


def test_the_placebo_is_a_retraining_without_the_block(world: World) -> None:
    mine = job(world, "placebo-run")
    assert (
        registry.load("saboteurs", "placebo")().unlearn(mine).digest == world.fit("twin", FORGET, seed=mine.seed).digest
    )
    assert registry.load("saboteurs", "placebo").caught_by == ()


def test_saboteurs_aim_at_what_only_checks_can_grant() -> None:
    aims = {name: registry.load("saboteurs", name).aims_at for name in METHODS}
    assert {name for name, aim in aims.items() if aim is Guarantee.EXACT} == {"wrong_record", "retrain_with_data"}
