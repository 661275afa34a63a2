"""Monitored blocks in the halves of a bank: each on a fair side, no two of them together or apart by chance."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from expunge.farm.balance import balanced_sides
from expunge.farm.bank import Bank, BankSpec

RECIPE = {"name": "t", "family": "mlp", "epochs": 2, "batch": 64, "lr": 0.1}
BLOCKS = tuple(["surrogate"] * 20 + ["canary"] * 20 + [f"single-{n}" for n in range(360)])


def halves(seed: str, pairs: int, *monitored: str) -> np.ndarray:
    spec = BankSpec(recipe=RECIPE, data={}, seed=seed, pairs=pairs, monitored=monitored)
    return Bank(spec, Path("nowhere"), BLOCKS).inside()


@pytest.mark.parametrize("blocks", [2, 3, 4, 5, 9, 16])
def test_any_two_are_together_in_exactly_half_of_a_group_of_pairs(blocks: int) -> None:
    """Slow twin: count for every two of them, group by group."""
    size = next(n for n in (1, 2, 4, 8, 16) if n >= blocks)
    sides = balanced_sides("s", 4 * size, blocks)
    for group, (one, other) in ((g, c) for g in range(4) for c in combinations(range(blocks), 2)):
        rows = sides[group * size : (group + 1) * size]
        assert (rows[:, one] == rows[:, other]).sum() == size // 2


def test_one_block_is_on_a_fair_side_that_no_other_pair_tells() -> None:
    sides = np.stack([balanced_sides(f"{k}", 6, 2) for k in range(2000)]).astype(int)
    assert np.abs(sides.mean(0) - 0.5).max() < 0.05
    table = np.corrcoef(sides[:, :, 0].T)
    assert np.abs(table[np.triu_indices(6, 1)]).max() < 0.1


def test_more_pairs_continue_fewer_and_another_seed_is_another_draw() -> None:
    assert (balanced_sides("s", 16, 3)[:5] == balanced_sides("s", 5, 3)).all()
    assert (balanced_sides("s", 16, 3) != balanced_sides("t", 16, 3)).any()
    assert balanced_sides("s", 5, 0).shape == (5, 0)


def test_two_planted_blocks_share_half_of_the_pairs_of_a_pilot_in_every_bank() -> None:
    """By coins of their own they shared all six, or none, once in 32 banks: then an honest retraining failed."""
    for seed in range(40):
        inside = halves(f"{seed}", 6, "surrogate", "canary")
        assert (inside[::2, 0] == inside[::2, 20]).sum() == 3
    alone = [(halves(f"{seed}", 6)[::2, 0] == halves(f"{seed}", 6)[::2, 20]).sum() for seed in range(40)]
    assert len(set(alone)) > 2, "control: unmonitored blocks are drawn one by one"


def test_a_block_too_large_to_be_judged_is_balanced_too_because_it_moves_every_model_it_is_in() -> None:
    blocks = (*BLOCKS, *["coins"] * 21)
    for seed in range(20):
        spec = BankSpec(recipe=RECIPE, data={}, seed=f"{seed}", pairs=8, monitored=("canary",))
        bank = Bank(spec, Path("nowhere"), blocks)
        assert bank.refuses(range(400, 421)) is not None
        assert (bank.inside()[::2, 20] == bank.inside()[::2, 400]).sum() == 4


def test_halves_stay_halves_and_complements() -> None:
    inside = halves("s", 8, "surrogate", "canary", "single-3")
    for model, other in zip(inside[::2], inside[1::2], strict=True):
        assert (model ^ other).all()
        taken = {name for slot, name in enumerate(BLOCKS) if model[slot]}
        assert len(taken) == 181


def test_without_monitored_blocks_the_halves_are_dealt_alternately_as_ever() -> None:
    spec = BankSpec(recipe={}, data={}, seed="q", pairs=3)
    bank = Bank(spec, Path("nowhere"), [f"s{n}" for n in range(11)])
    assert bank.design_digest() == "sha256:7475ffba24937dfa8df8d7d8bc73fd623aec7cb988e3721f8350cc0d2474b00d"
