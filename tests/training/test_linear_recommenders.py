"""A model keeps its identity while code moves: digests that the linear families had before they shared a base."""

from dataclasses import replace

import numpy as np
import pytest

from expunge.core import registry
from expunge.core.errors import InputError, IntegrityError
from expunge.core.plan import Numerics
from expunge.core.protocols import FitJob
from expunge.data._interactions import Interactions, from_events
from expunge.training.recipe import parse_any_recipe

IDENTITIES = {  # (family, lam, weights): those of the whole model and of the model without user 3
    ("ease", "200", "binary"): (
        "sha256:7146fc8d456aba34a31ba98f9a1a6aab6081c68dcc5698794d33284d9e4f7191",
        "sha256:49459507cf9e69a11b5d9e88a42a0a64c57adbee43337c637b5adef83cc58426",
    ),
    ("ease", "3.5", "rating"): (
        "sha256:e8e292e1cc58ad63ee55067e8e190ad6e120bb4c6a5df687b2e1eb1e62678f48",
        "sha256:4bf9e251d8da163375f9438f66d0120658a0e79a4d00da8326061d59ecabe622",
    ),
    ("ridge", "200", "binary"): (
        "sha256:e65d36a670114c5d825da3b776dbfdf2e15d487d9ed7251769aa5998b9b0b9d9",
        "sha256:b9e251c3974c8f7370b6217ea2c26c558f4fc6f91ce38b36584a7a02756020c7",
    ),
    ("ridge", "3.5", "rating"): (
        "sha256:08b36195913cd4aec465cccdcb3ff1e6649bfa97526399615a64264280212ddb",
        "sha256:5cc71d838c4ea8fe6e7f0936a2342a6acda3b47ae02b8ffada87bb467bcfaa0d",
    ),
}
NUMERICS = Numerics(precision="fp64", threads=1, device="cpu", instruction_set="any", build="any")


def adapter_of(name, settings):
    plain = {"name": "t", "solver": "closed-form", "family": name, "model": settings}
    return registry.load("recommenders", name)(parse_any_recipe(plain), items=8)


def twelve_users():
    user, item = np.nonzero((np.arange(12)[:, None] * 7 + np.arange(8) * 3) % 5 < 2)
    names = [f"u{n}" for n in range(12)], [f"i{n}" for n in range(8)]
    train = from_events(*names, user, item, (user + item) % 10 + 1)
    return Interactions(source="s", note="n", scale="half-stars", train=train, test=train)


@pytest.mark.parametrize(("name", "lam", "weights"), IDENTITIES)
def test_linear_models_keep_their_identity(name, lam, weights, tmp_path):
    adapter, steps = adapter_of(name, {"lam": lam, "weights": weights}), []
    job = FitJob(
        recipe={},
        seed="0" * 32,
        numerics=NUMERICS,
        data=twelve_users(),
        folder=tmp_path / "all",
        progress=lambda *step: steps.append(step),
    )
    fitted = adapter.fit(job)
    job = replace(job, folder=tmp_path / "without", absent=frozenset({3}))
    downdated = adapter.downdate(job, fitted.model.parent, frozenset({3}))
    assert (fitted.digest, downdated.digest) == IDENTITIES[name, lam, weights]
    assert (fitted.steps, downdated.steps) == (12, 1)
    assert steps == [(what, done, 2) for what in ("gram", "downdate") for done in range(3)]
    assert {file.name for file in fitted.model.parent.iterdir()} == {"model.safetensors", "inverse.npy", "inverse.json"}


def test_every_so_many_deletions_the_inverse_is_built_anew_whatever_its_residual(tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.training.closed_form.recommender.REFRESH_EVERY", 3)
    adapter = adapter_of("ease", {})
    anew, derived = [], adapter.derived
    monkeypatch.setattr(adapter, "derived", lambda rows, sums: anew.append(1) or derived(rows, sums))
    job = FitJob(recipe={}, seed="0" * 32, numerics=NUMERICS, data=twelve_users(), folder=tmp_path / "0")
    source, gone = adapter.fit(job).model.parent, frozenset()
    for k, forget in enumerate([{0}, {1}, {2}, {3, 4, 5, 6}, {7}]):
        gone |= forget
        job = replace(job, folder=tmp_path / str(k + 1), absent=gone)
        source = adapter.downdate(job, source, frozenset(forget)).model.parent
        assert len(anew) == [1, 1, 2, 3, 3][k]


def test_identities_tell_families_settings_and_users_apart():
    found = [digest for pair in IDENTITIES.values() for digest in pair]
    assert len(set(found)) == len(found) == 8


@pytest.mark.parametrize(("name", "settings"), [("ridge", {}), ("ease", {"lam": 3}), ("ease", {"weights": "rating"})])
def test_a_model_of_another_family_or_with_other_settings_is_refused(name, settings, tmp_path):
    adapter = adapter_of("ease", {})
    job = FitJob(recipe={}, seed="0" * 32, numerics=NUMERICS, data=twelve_users(), folder=tmp_path)
    path = adapter.fit(job).model
    assert adapter.load(path).lam == 200
    with pytest.raises(IntegrityError, match="not of this family"):
        adapter_of(name, settings).load(path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lam": 0}, "lam is out of range"),
        ({"lam": "inf"}, "lam is out of range"),
        ({"lam": "soft"}, "lam is no number"),
        ({"weights": "stars"}, "unknown weights"),
        ({"lambda": 3}, "unknown settings of family ease"),
    ],
)
def test_bad_settings_of_linear_families_are_typed_errors(settings, said):
    with pytest.raises(InputError, match=said):
        adapter_of("ease", settings)
