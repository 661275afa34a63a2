"""The report's figures show what was computed from outputs, and nothing that only bears an attack's name."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from expunge.core import registry
from expunge.core.protocols import Probe
from expunge.farm.probing import output_attacks
from expunge.workflow import figures

MODELS, RECORDS, TESTS = 16, 400, 60


def log_p(logits):
    """Log-probabilities of the true class with these logits."""
    return -np.log1p(np.exp(-logits)).astype(np.float32)


@pytest.fixture
def workspace(monkeypatch):
    generator = np.random.default_rng(0)
    inside = generator.random((MODELS, RECORDS)) < 0.5
    inside[1::2] = ~inside[::2]
    sketches = SimpleNamespace(
        inside=inside,
        train=log_p(generator.normal(0, 1, (MODELS, RECORDS)) + 2 * inside),
        test=log_p(generator.normal(0, 1, (MODELS, TESTS))),
    )
    bank = SimpleNamespace(spec=SimpleNamespace(pairs=MODELS // 2), sketches=lambda: sketches)
    monkeypatch.setattr(figures, "open_bank", lambda _: bank)
    return SimpleNamespace(policy=SimpleNamespace(attacks=("gradient_norm", "lira", "rmia")))


def test_an_attack_that_looks_into_the_weights_gets_no_figure_made_of_margins(workspace):
    assert isinstance(registry.load("attacks", "gradient_norm")(), Probe)
    found = figures.figure_data(workspace)
    assert set(found) == {"lira", "rmia"}
    assert found["lira"] != found["rmia"]
    assert all(float(figure["auc"]) > 0.85 for figure in found.values())


def test_attacks_on_outputs_are_told_from_the_others():
    named = registry.names("attacks")
    outputs = set(output_attacks(named))
    assert outputs == {n for n in named if not hasattr(registry.load("attacks", n)(), "measure")}
    looking = {"label_only", "gradient_norm", "gradient_ratio", "curvature", "own_rank", "reconstruction"}
    assert looking == set(named) - outputs
