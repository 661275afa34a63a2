"""RECE in closed form: against the sums over layers, and that a round takes away what was found."""

from __future__ import annotations

import numpy as np
import pytest

from expunge.core.errors import InputError
from expunge.training.concepts.rece import Search, erased_in_rounds, spectrum, strongest
from expunge.training.concepts.uce import Scales, edit_of

D, LAYERS = 10, 6


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).normal(size=shape)


WEIGHTS = [draw(100 + k, 7 + k, D) for k in range(LAYERS)]
GRAM = spectrum(WEIGHTS)
CONCEPTS, GUIDES, KEPT = draw(1, 2, D), draw(2, 2, D), draw(3, 4, D)


def published(weights, edited, concept, lam):
    """Equation 9 by sums over layers and an inverse."""
    left = lam * np.eye(D) + sum(w.T @ w for w in edited)
    right = sum(w.T @ old for w, old in zip(edited, weights, strict=True))
    return np.linalg.inv(left) @ right @ concept


@pytest.mark.parametrize("lam", [1e-3, 0.1, 2.0])
def test_the_embedding_that_leads_back_is_the_published_one(lam):
    factor = edit_of(CONCEPTS, GUIDES, KEPT).factor
    found, _ = strongest(GRAM, factor, CONCEPTS, lam)
    for concept, mine in zip(CONCEPTS, found, strict=True):
        assert mine == pytest.approx(published(WEIGHTS, [w @ factor for w in WEIGHTS], concept, lam), abs=1e-9)


def test_the_residue_is_what_the_keys_and_values_share():
    factor = edit_of(CONCEPTS, GUIDES, KEPT).factor
    found, share = strongest(GRAM, factor, CONCEPTS, 1e-3)
    for concept, back, mine in zip(CONCEPTS, found, share, strict=True):
        whole = sum(float(((w @ concept) ** 2).sum()) for w in WEIGHTS)
        missed = sum(float((((w @ concept) - (w @ factor @ back)) ** 2).sum()) for w in WEIGHTS)
        assert mine == pytest.approx(1 - missed / whole, abs=1e-9)


def test_an_unedited_model_leads_back_by_the_concept_itself():
    """The control: without an edit the concept is its own way back, wholly."""
    found, share = strongest(GRAM, np.eye(D), CONCEPTS, 1e-9)
    assert found == pytest.approx(CONCEPTS, abs=1e-6)
    assert share == pytest.approx([1, 1], abs=1e-9)


def test_after_a_weak_edit_another_embedding_brings_nearly_all_of_it_back():
    """Why an edit is not a removal: R is invertible, so some embedding leads wherever the concept led."""
    factor = edit_of(CONCEPTS, GUIDES, KEPT, Scales(lam=0.5)).factor
    _, share = strongest(GRAM, factor, CONCEPTS, 1e-9)
    assert share.min() > 0.999


def test_a_round_leads_what_was_found_to_the_guide_too():
    scales, search = Scales(lam=1e-4), Search(rounds=2, lam=1e-2)
    done = erased_in_rounds(GRAM, CONCEPTS, GUIDES, scales=scales, search=search)
    assert done.found.shape == (2, 2, D)
    for concept, guide in zip(CONCEPTS, GUIDES, strict=True):
        assert done.edit.factor @ concept == pytest.approx(guide, abs=0.05)
    before = edit_of(CONCEPTS, GUIDES, scales=scales)
    back = done.found[0]
    away = np.linalg.norm(back @ before.factor.T - GUIDES, axis=1)
    now = np.linalg.norm(back @ done.edit.factor.T - GUIDES, axis=1)
    assert (now < away).all()


def test_matrices_are_summed_one_at_a_time():
    assert spectrum(iter(WEIGHTS)) == pytest.approx(sum(w.T @ w for w in WEIGHTS), abs=1e-12)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([], "no keys"),
        ([np.zeros(3)], "finite matrices"),
        ([np.full((2, 2), np.inf)], "finite"),
        ([np.eye(2), np.eye(3)], "widths"),
    ],
)
def test_bad_matrices_are_refused(weights, said):
    with pytest.raises(InputError, match=said):
        spectrum(weights)


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"lam": 0.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match="out of range"):
        Search(**settings)
