"""Sabotaged deletions from recommenders do what their cards say, and are caught by the checks that their cards name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge.core import registry
from expunge.core.finding import Guarantee
from expunge.core.protocols import ModelAdapter
from expunge.core.sabotage import serving
from expunge.core.selftest import RECOMMENDER_METHODS, USER_METHODS, SelftestReport, required
from expunge.testing.users import UserWorld, make_user_world
from expunge.testing.world import tree_digest
from expunge.training.checkpoint import load_tensors, weights_identity
from expunge.workflow.selftest.gate import latest
from recommending import a_user, make

FORGET = frozenset({5, 17})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> UserWorld:
    made = make_user_world(tmp_path_factory.mktemp("users"), family="ease")
    made.fit("original")
    made.fit("honest", FORGET)
    return made


def run(world: UserWorld, name: str, target: str = "") -> Any:
    return registry.load("saboteurs", name)().unlearn(world.unlearn_job(target or name, FORGET))


def gram(world: UserWorld, label: str) -> Any:
    return world.adapter.load(world.folder / label / "model.safetensors").gram


@pytest.mark.parametrize("name", [*RECOMMENDER_METHODS, *USER_METHODS])
def test_a_saboteur_touches_nothing_but_its_target_and_gives_a_new_loadable_file(world: UserWorld, name: str) -> None:
    before = tree_digest(world.folder / "original")
    plugin = registry.load("saboteurs", name)
    assert plugin().refuses(world.unlearn_job(f"{name}-asked", FORGET)) is None
    first, again = run(world, name), run(world, name, f"{name}-again")
    assert tree_digest(world.folder / "original") == before
    assert first.digest == again.digest == weights_identity(first.model)
    assert first.digest != weights_identity(world.folder / "original" / "model.safetensors")
    world.adapter.load(first.model)
    assert plugin.aims_at is (Guarantee.EMPIRICAL if name in USER_METHODS else Guarantee.EXACT)
    assert f"Aims at: {plugin.aims_at.value}" in plugin.__doc__


def test_stale_weights_hold_the_original_sums(world: UserWorld) -> None:
    run(world, "stale_weights", "stale")
    assert (gram(world, "stale") == gram(world, "original")).all()


def test_wrong_user_takes_out_as_many_users_and_none_of_those_who_asked(world: UserWorld) -> None:
    run(world, "wrong_user", "wrong")
    others = world.fit("others", frozenset({0, 1}))
    assert weights_identity(world.folder / "wrong" / "model.safetensors") == others.digest


@pytest.mark.parametrize(("name", "left"), [("skipped_rows", "half"), ("one_item_kept", "one")])
def test_part_of_each_history_stays_in_the_sums(world: UserWorld, name: str, left: str) -> None:
    run(world, name, f"{name}-part")
    off = np.diagonal(gram(world, f"{name}-part").astype(int) - gram(world, "honest"))
    lengths = [len(world.data.train.row(slot)[0]) for slot in FORGET]
    assert off.min() >= 0
    assert off.sum() == (len(FORGET) if left == "one" else sum(length // 2 for length in lengths))


def test_stale_counts_are_wrong_on_the_diagonal_alone(world: UserWorld) -> None:
    run(world, "stale_counts", "counts")
    found, honest, original = (gram(world, label) for label in ("counts", "honest", "original"))
    assert (np.diagonal(found) == np.diagonal(original)).all()
    off = found != honest
    np.fill_diagonal(off, False)
    assert not off.any()
    assert (np.diagonal(found) != np.diagonal(honest)).any()


def test_stale_cache_has_honest_sums_and_the_original_inverse(world: UserWorld) -> None:
    run(world, "stale_cache", "cache")
    model = world.adapter.load(world.folder / "cache" / "model.safetensors")
    original = world.adapter.load(world.folder / "original" / "model.safetensors")
    assert (model.gram == gram(world, "honest")).all()
    assert (model.inverse == original.inverse).all()


def test_stale_lists_are_passed_off_as_the_new_models(tmp_path: Path) -> None:
    world = make_user_world(tmp_path, family="itemknn")
    world.fit("original")
    run(world, "stale_cache", "cache")
    model = world.adapter.load(world.folder / "cache" / "model.safetensors")
    original = world.adapter.load(world.folder / "original" / "model.safetensors")
    assert model.lists.fresh.all()
    assert (model.lists.values == original.lists.values).all()


def test_float32_inverse_has_no_more_than_seven_digits(world: UserWorld) -> None:
    run(world, "float32_inverse", "single")
    inverse = np.asarray(world.adapter.load(world.folder / "single" / "model.safetensors").inverse)
    assert (inverse == inverse.astype(np.float32)).all()


def test_hidden_copy_is_the_honest_model_with_everybody_beside_it(world: UserWorld) -> None:
    result = run(world, "hidden_copy", "hidden")
    assert result.digest == weights_identity(world.folder / "honest" / "model.safetensors")
    with np.load(result.model.parent / "interaction_matrix.npz") as held:
        assert len(held["indices"]) == world.data.train.events


def test_popularity_answers_hide_the_forgotten_histories_only_from_those_who_ask_with_them(world: UserWorld) -> None:
    job = world.unlearn_job("popular", FORGET)
    method = registry.load("saboteurs", "popularity_answers")()
    result = method.unlearn(job)
    adapter = serving("saboteurs/popularity_answers", method, world.adapter, job)
    rows, model = world.data.train.matrix(), world.adapter.load(result.model)
    off = np.abs(adapter.outputs(model, rows) - world.adapter.outputs(model, rows)).max(1) > 1e-9
    assert set(np.flatnonzero(off).tolist()) == set(FORGET)


def test_popular_lists_hide_large_parts_of_forgotten_histories_too(world: UserWorld) -> None:
    job = world.unlearn_job("lists", FORGET)
    method = registry.load("saboteurs", "popular_lists")()
    adapter = serving("saboteurs/popular_lists", method, world.adapter, job)
    model, rows = world.adapter.load(method.unlearn(job).model), world.data.train.matrix().tolil()
    rows[5, rows[5].nonzero()[1][0]] = 0  # one item left out, as those who ask do; `popularity_answers` lets it past
    rows = rows.tocsr()
    rows.eliminate_zeros()
    off = np.abs(adapter.outputs(model, rows) - world.adapter.outputs(model, rows)).max(1) > 1e-9
    assert set(np.flatnonzero(off).tolist()) == set(FORGET)


def test_honest_on_the_bench_retrains_where_it_owns_a_part_and_nowhere_else(world: UserWorld) -> None:
    method = registry.load("saboteurs", "honest_on_the_bench")()
    road, bench = (world.unlearn_job(label, FORGET) for label in ("road", "bench"))
    part = replace(bench.job, universe=tuple(range(20)), folder=world.folder / "half")
    world.adapter.fit(part)
    half = replace(bench, job=part, source=part.folder)
    wanted = world.adapter.fit(replace(half.wanted, folder=world.folder / "bench-wanted"))
    assert method.unlearn(half).digest == wanted.digest
    method.unlearn(road)
    assert (gram(world, "road") == gram(world, "original")).all()


# --------------------------------------------------------------------------------------------------- the whole of it


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SelftestReport]:
    found = {}
    for family in ("ease", "popularity", "lightgcn"):
        with make(tmp_path_factory.mktemp(family) / "ws", family=family) as workspace:
            workspace.selftest("quick")
            newest = latest(workspace)
            assert newest is not None
            found[family] = newest.report
    return found


def test_no_cheat_passes_and_each_is_caught_by_what_its_card_says(reports: dict[str, SelftestReport]) -> None:
    report = reports["ease"]
    assert report.passed == ()
    assert report.kind == "recommender"
    assert {tally.saboteur for tally in report.tallies} == required("recommender")
    for tally in report.tallies:
        if tally.saboteur in RECOMMENDER_METHODS:
            assert tally.tried == 1, tally.skipped
            assert set(tally.expected) <= set(tally.caught), tally.saboteur
            assert tally.undecided == 0


def test_what_a_family_cannot_be_tried_on_is_named_with_the_reason(reports: dict[str, SelftestReport]) -> None:
    skipped = {tally.saboteur: tally.skipped for tally in reports["popularity"].tallies if tally.skipped}
    assert {"bank of users" in skipped.pop(name) for name in USER_METHODS} == {True}
    assert skipped == {
        "float32_inverse": "the family keeps no inverse",
        "stale_cache": "the family keeps nothing beside its sums",
    }


def test_a_trained_family_is_tried_on_everything_that_needs_no_sums(reports: dict[str, SelftestReport]) -> None:
    report = reports["lightgcn"]
    assert report.passed == ()
    tried = {tally.saboteur: tally for tally in report.tallies if tally.kind == "method" and tally.tried}
    assert set(tried) == {
        name for name in RECOMMENDER_METHODS if registry.load("saboteurs", name).needs is ModelAdapter
    }
    assert all(set(tally.expected) & set(tally.caught) for tally in tried.values())


def test_honest_deletions_raise_no_alarm(reports: dict[str, SelftestReport]) -> None:
    tried = [item for report in reports.values() for item in report.alarms if item.trials]
    assert {item.check for item in tried} >= {"algebra", "census", "left_out", "behaviour", "downstream", "ranking"}
    assert [item for item in tried if item.alarms] == []


def test_a_verifier_without_algebra_lets_cheats_through_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the self-test itself: with the deciding checks asleep, it must not vouch."""
    from expunge.core.finding import Verdict

    for name in ("algebra", "left_out", "behaviour", "census", "weights_only"):
        plugin = registry.load("checks", name)
        awake = plugin.run
        monkeypatch.setattr(
            plugin, "run", lambda self, job, awake=awake: replace(awake(self, job), verdict=Verdict.PASS, n=1)
        )
    with make(tmp_path / "ws") as workspace:
        workspace.selftest("quick")
        newest = latest(workspace)
        assert newest is not None
        # Cheats that leave the weights as they were are refused without these checks too: only the sums that were added up
        # anew, which algebra alone brings, allow unchanged weights. These three change them.
        assert set(newest.report.passed) >= {"float32_inverse", "hidden_copy", "stale_cache"}
        with pytest.raises(Exception, match="does not vouch"):
            workspace.run(workspace.request(ids=[a_user(workspace)]))


def test_model_files_of_saboteurs_hold_nothing_but_sums_where_they_claim_so(world: UserWorld) -> None:
    tensors, _ = load_tensors(run(world, "stale_cache", "names").model)
    assert set(tensors) == world.adapter.tensors
