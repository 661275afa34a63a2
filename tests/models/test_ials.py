"""iALS: sweeps against normal equations by the book, deletions to the last bit, and what a warm start leaves behind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from expunge.core import registry
from expunge.core.errors import InputError, InputProblems, IntegrityError, MissingExtra
from expunge.core.protocols import HasSufficientStatistics, HasTranscript, HasWarmStart
from expunge.stats.residual import residual_ratio
from expunge.testing.users import ITEMS, USERS, make_user_world, posing_as, random_histories
from expunge.testing.world import tree_digest
from expunge.training import alternating
from expunge.training.alternating import Problem, first_factors, folded_in, swept
from expunge.training.checkpoint import load_tensors, save_tensors
from expunge.training.recipe import parse_any_recipe
from oracle import alternating as twin

GONE = frozenset({3, 17})
PROBLEM = Problem(alpha=1.5, regularization=0.25)


def quiet(*_):
    pass


def world(folder, **settings):
    return make_user_world(folder, family="ials", **settings)


def scores(place, result):
    return place.adapter.outputs(place.adapter.load(result.model), place.data.test.matrix())


@pytest.mark.parametrize("weights", ["binary", "rating"])
@pytest.mark.parametrize("sweeps", [1, 3])
def test_sweeps_are_the_normal_equations_by_the_book(weights, sweeps):
    rows = random_histories().matrix(weights)
    start = first_factors("s", ITEMS, 6, "float64")
    users, items = swept(rows, start, PROBLEM, sweeps, quiet)
    wanted = start
    for _ in range(sweeps):
        wanted_users, wanted = twin.sweep(rows.toarray().astype(float), wanted, 1.5, 0.25)
    np.testing.assert_allclose(users, wanted_users, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(items, wanted, rtol=1e-9, atol=1e-12)


def test_every_sweep_lowers_the_objective():
    rows = random_histories().matrix()
    items, last = first_factors("s", ITEMS, 6, "float64"), np.inf
    for _ in range(5):
        users, items = swept(rows, items, PROBLEM, 1, quiet)
        now = twin.objective(rows.toarray().astype(float), users, items, 1.5, 0.25)
        assert now < last
        last = now


def test_one_factor_and_one_user_have_a_known_answer():
    """x = sum c y / (sum y^2 + alpha sum_seen y^2 + lambda), by hand: items 1 and 2, the first was seen, alpha 3."""
    rows = sparse.csr_matrix(np.array([[1, 0]]))
    found = folded_in(rows, np.array([[1.0], [2.0]]), Problem(alpha=3, regularization=1))
    assert found.tolist() == [[4 / (1 + 4 + 3 + 1)]]


def test_answers_are_the_next_half_sweep():
    rows = random_histories().matrix("rating")
    _, items = swept(rows, first_factors("s", ITEMS, 6, "float64"), PROBLEM, 2, quiet)
    values = random_histories(7, seed=3).matrix("rating")
    dense = values.toarray().astype(float)
    wanted = twin.half_sweep(1 + 1.5 * dense, (dense > 0).astype(float), items, 0.25)
    np.testing.assert_allclose(folded_in(values, items, PROBLEM), wanted, rtol=1e-9, atol=1e-12)


def test_a_user_without_events_is_exactly_zero_and_moves_nobody():
    rows = random_histories().without(sorted(GONE)).matrix()
    start = first_factors("s", ITEMS, 6, "float32")
    users, items = swept(rows, start, PROBLEM, 3, quiet)
    assert not users[sorted(GONE)].any()
    present = sorted(set(range(USERS)) - GONE)
    assert users[present].all(1).all()
    again, same = swept(rows, start, PROBLEM, 3, quiet)
    assert np.array_equal(users, again)
    assert np.array_equal(items, same)
    assert np.array_equal(start, first_factors("s", ITEMS, 6, "float32")), "the start must not be written into"


def test_an_empty_history_gets_zero_scores(tmp_path):
    place = world(tmp_path)
    result = place.fit("original")
    assert not place.adapter.outputs(place.adapter.load(result.model), sparse.csr_matrix((2, ITEMS))).any()


def test_the_start_of_an_item_depends_on_seed_and_column_alone():
    assert np.array_equal(first_factors("s", 5, 7, "float64"), first_factors("s", 9, 7, "float64")[:5])
    assert not np.array_equal(first_factors("s", 5, 7, "float64"), first_factors("t", 5, 7, "float64"))


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_deleting_is_training_without_to_the_last_bit(tmp_path, precision):
    place = world(tmp_path, precision=precision)
    original, retrained = place.fit("original"), place.fit("retrained", GONE)
    job = place.unlearn_job("deleted", GONE)
    deleted = registry.load("methods", "retrain")().unlearn(job)
    assert deleted.digest == retrained.digest != original.digest
    train = posing_as(place.data.train, sorted(GONE), [1, 2])
    posing = place.fit("posing", GONE, data=replace(place.data, train=train))
    assert posing.digest == retrained.digest
    other = place.fit("other", frozenset({4, 17}))
    assert other.digest not in (retrained.digest, original.digest)


def test_the_model_is_item_factors_and_nothing_of_any_user(tmp_path):
    place = world(tmp_path)
    tensors, _ = load_tensors(place.fit("original").model)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items() if name != "settings"} == {
        "items": (ITEMS, 64)
    }
    assert sorted(file.name for file in (tmp_path / "original").iterdir()) == ["model.safetensors"]
    assert place.adapter.derived_state() == ()


def test_a_universe_is_a_choice_of_users(tmp_path):
    place = world(tmp_path)
    chosen = place.fit("chosen", universe=tuple(range(20)))
    assert chosen.digest == place.fit("absent", frozenset(range(20, USERS))).digest


def test_a_seed_another_sweep_and_every_setting_make_another_model(tmp_path):
    plain = world(tmp_path / "plain").fit("original").digest
    assert world(tmp_path / "seed", seed="other").fit("original").digest != plain
    changes = [{"sweeps": 14}, {"precision": "fp64"}]
    changes += [{"model": {name: value}} for name, value in (("alpha", 2), ("regularization", 5), ("factors", 8))]
    changes += [{"model": {"weights": "rating"}}]
    found = {world(tmp_path / str(n), **change).fit("original").digest for n, change in enumerate(changes)}
    assert len(found | {plain}) == len(changes) + 1


def test_the_familys_capabilities_are_what_they_are(tmp_path):
    adapter = world(tmp_path).adapter
    assert isinstance(adapter, HasWarmStart)
    assert not isinstance(adapter, HasSufficientStatistics | HasTranscript)


# ----------------------------------------------------------------------------------------------------- another's files


def test_a_finished_run_is_read_back_and_another_jobs_is_refused(tmp_path):
    place = world(tmp_path)
    first = place.fit("original")
    before = tree_digest(tmp_path / "original")
    assert place.fit("original").digest == first.digest
    assert tree_digest(tmp_path / "original") == before
    with pytest.raises(InputError, match="another training"):
        place.fit("original", seed="other")
    with pytest.raises(InputError, match="another training"):
        place.adapter.warm(place.job("original", GONE), tmp_path / "original", GONE, 1)


def test_numerics_of_another_machine_are_refused(tmp_path):
    place = world(tmp_path)
    job = place.job("original")
    assert "implicit" in job.numerics.build
    for change in ({"threads": 2}, {"build": "implicit 0.1"}, {"precision": "fp64"}):
        with pytest.raises(InputError, match="numerics"):
            place.adapter.fit(replace(job, numerics=replace(job.numerics, **change)))


def test_a_file_of_other_settings_or_shapes_is_refused(tmp_path):
    place = world(tmp_path / "a")
    path = place.fit("original").model
    with pytest.raises(IntegrityError, match="settings"):
        world(tmp_path / "b", model={"alpha": 7}).adapter.load(path)
    tensors, _ = load_tensors(path)
    for name, items in (("short", tensors["items"][:-1]), ("nan", tensors["items"] * torch.nan)):
        save_tensors(tmp_path / f"{name}.safetensors", {**tensors, "items": items})
        with pytest.raises(IntegrityError, match="no factors of 20 items"):
            place.adapter.load(tmp_path / f"{name}.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match="not a readable"):
        place.adapter.load(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    "settings",
    [{"factors": 0}, {"factors": "1.5"}, {"alpha": 0}, {"regularization": -1}, {"weights": "stars"}, {"lam": 1}],
)
def test_settings_out_of_bounds_are_refused(tmp_path, settings):
    with pytest.raises(InputError):
        world(tmp_path, model=settings)


@pytest.mark.parametrize("change", [{"threads": 2}, {"sweeps": 0}, {"epochs": 3}, {"precision": "bf16"}])
def test_a_recipe_of_this_kind_has_its_own_bounds(change):
    plain = {"name": "t", "solver": "als", "family": "ials"}
    assert parse_any_recipe(plain).digest != parse_any_recipe({**plain, "sweeps": 3}).digest
    with pytest.raises(InputProblems, match=next(iter(change))):
        parse_any_recipe({**plain, **change})


def test_without_the_library_one_typed_error_names_the_extra(monkeypatch):
    def nothing(name):
        raise alternating.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(alternating.metadata, "version", nothing)
    alternating.builds.cache_clear()
    with pytest.raises(MissingExtra, match="recsys"):
        alternating.builds()


# ---------------------------------------------------------------------------------------------------------- warm start


def warmed(place, label, sweeps, forget=GONE):
    method = registry.load("methods", "warm_start")()
    job = place.unlearn_job(label, forget)
    return method.unlearn(replace(job, params={"sweeps": str(sweeps)}))


def test_a_warm_start_is_the_sweeps_from_the_stale_factors(tmp_path):
    place = world(tmp_path, precision="fp64", model={"factors": 6})
    original = place.fit("original")
    start, _ = load_tensors(original.model)
    found, _ = load_tensors(warmed(place, "warm", 2).model)
    wanted = start["items"].numpy()
    rows = place.data.train.without(sorted(GONE)).matrix().toarray().astype(float)
    for _ in range(2):
        _, wanted = twin.sweep(rows, wanted, 1.0, 10.0)
    np.testing.assert_allclose(found["items"].numpy(), wanted, rtol=1e-9, atol=1e-12)


def test_a_warm_start_far_from_the_fixed_point_is_worse_than_doing_nothing(tmp_path):
    """Three sweeps are not a fixed point, so each further sweep leads away from the retraining."""
    place = world(tmp_path, sweeps=3, model={"factors": 8})
    user = frozenset({int(np.argsort(np.diff(place.data.train.indptr))[USERS // 2])})
    original, retrained = place.fit("original"), place.fit("retrained", user)
    before, ideal = scores(place, original), scores(place, retrained)
    ratios = [residual_ratio(scores(place, warmed(place, f"warm-{n}", n, user)), before, ideal) for n in (1, 2, 5)]
    assert residual_ratio(before, before, ideal) == 1
    assert residual_ratio(ideal, before, ideal) == 0
    assert ratios == sorted(ratios), ratios
    assert ratios[-1] > 2, ratios


def test_a_warm_start_of_a_model_at_its_fixed_point_does_delete(tmp_path):
    """Control: the ratio falls below 1 where theory says so, in a problem with one minimum to go to."""
    place = world(tmp_path, sweeps=400, precision="fp64", model={"factors": 2, "regularization": "1"})
    original, retrained = place.fit("original"), place.fit("retrained", GONE)
    candidate = warmed(place, "warm", 400)
    assert residual_ratio(*(scores(place, run) for run in (candidate, original, retrained))) < 1e-6


def test_a_warm_start_says_what_it_is():
    card = registry.load("methods", "warm_start").__doc__
    assert "Aims at: EMPIRICAL" in card
    assert "Above 1 it is worse than doing nothing" in card
    assert "never release it" in card


def test_a_warm_start_needs_the_factors_and_the_tombstones(tmp_path):
    place = world(tmp_path)
    method = registry.load("methods", "warm_start")()
    job = place.unlearn_job("warm", GONE)
    assert "gone" in method.refuses(job)
    place.fit("original")
    assert method.refuses(job) is None
    assert method.cost(job) == 5 / 15
    with pytest.raises(InputError, match="not absent"):
        place.adapter.warm(place.job("warm"), tmp_path / "original", GONE, 1)
    for sweeps in ("0", "x"):
        with pytest.raises(InputError):
            method.unlearn(replace(job, params={"sweeps": sweeps}))
