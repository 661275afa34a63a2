"""A model keeps its identity while code moves: digests that the linear families had before they shared a base."""

from dataclasses import replace

import numpy as np
import pytest

from expunge.core import registry
from expunge.core.errors import InputError
from expunge.core.plan import Numerics
from expunge.core.protocols import FitJob
from expunge.data._interactions import Interactions, from_events
from expunge.training.recipe import parse_any_recipe

BINARY = (
    "sha256:3480c24920fa244a4759c3479b335319ab6867d4908106c742cf09817c2af5db",
    "sha256:684ac6cde4151b7b1cd1157cbccde6b63f1e87787d0fd23e2c0a12e64ac9d2b7",
)
RATING = (
    "sha256:9e1fc509021480b271ca033a7c7afe53bc137da299e2e1437f802be88cb4816b",
    "sha256:4241cb8e6dc24494acf4500451f9b4de86d72cbff25cf63edae451c810acc623",
)
NUMERICS = Numerics(precision="fp64", threads=1, device="cpu", instruction_set="any", build="any")


def adapter_of(name, settings):
    plain = {"name": "t", "solver": "closed-form", "family": name, "model": settings}
    return registry.load("recommenders", name)(parse_any_recipe(plain), items=8)


def twelve_users():
    user, item = np.nonzero((np.arange(12)[:, None] * 7 + np.arange(8) * 3) % 5 < 2)
    names = [f"u{n}" for n in range(12)], [f"i{n}" for n in range(8)]
    train = from_events(*names, user, item, (user + item) % 10 + 1)
    return Interactions(source="s", note="n", scale="half-stars", train=train, test=train)


@pytest.mark.parametrize("name", ["ease", "ridge"])
@pytest.mark.parametrize(("settings", "wanted"), [({}, BINARY), ({"lam": "3.5", "weights": "rating"}, RATING)])
def test_linear_models_have_the_identity_they_had(name, settings, wanted, tmp_path):
    adapter, steps = adapter_of(name, settings), []
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
    assert (fitted.digest, downdated.digest) == wanted
    assert (fitted.steps, downdated.steps) == (12, 1)
    assert steps == [(what, done, 2) for what in ("gram", "downdate") for done in range(3)]
    assert {file.name for file in fitted.model.parent.iterdir()} == {"model.safetensors", "inverse.npy", "inverse.json"}


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
