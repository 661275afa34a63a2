"""Choosing a story's records: by models that never judge, and logged before the judging bank exists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expunge import Workspace
from expunge.core.errors import InputError
from expunge.farm.bank import Sketches
from expunge.training.recipe import load_recipe, parse_recipe
from expunge.workflow.choose import choose, record_gaps
from workspaces import small_config


def test_gaps_against_a_plain_loop() -> None:
    generator = np.random.default_rng(3)
    train = -generator.exponential(1.0, (12, 5)).astype(np.float32)
    inside = generator.random((12, 5)) < 0.5
    inside[:2], inside[2:4] = True, False
    sketches = Sketches(train=train, test=train, inside=inside, correct=inside)
    spreads = []
    for record in range(5):
        probability = np.exp(train[~inside[:, record], record].astype(float))
        spreads.append(np.log(probability / (1 - probability)).std(ddof=1))
    for record, gap in enumerate(record_gaps(sketches)):
        probability = np.exp(train[:, record].astype(float))
        scores = np.log(probability / (1 - probability))
        into, out = scores[inside[:, record]], scores[~inside[:, record]]
        assert gap == pytest.approx(
            (into.mean() - out.mean()) / max(out.std(ddof=1), float(np.median(spreads))), rel=1e-5
        )


def test_choice_is_logged_before_the_judging_bank_and_uses_other_models(tmp_path: Path) -> None:
    recipe = parse_recipe({**load_recipe("digits").model_dump(), "epochs": 4})
    with Workspace.create(tmp_path / "ws", config=small_config(pairs=2, anchors=2), recipe=recipe) as workspace:
        workspace.train()
        choice = choose(workspace, label="7", pairs=2)
        assert choose(workspace, label="7", pairs=2) == choice
        atypical = workspace.data.train.ids[choice.atypical]
        blocks = workspace.book.blocks
        bank, _ = workspace.bank(monitored=(blocks[choice.typical], blocks[choice.atypical]))
        kinds = [entry.kind for entry in workspace.log.entries()]
        assert kinds.index("records.chosen") < kinds.index("bank.built")
        assert kinds.count("records.chosen") == 1
        assert choice.bank != bank.spec.digest
        log = (tmp_path / "ws" / "log.db").read_bytes()
        assert atypical.encode() not in log
        (tmp_path / "ws" / "store" / "chosen.json").unlink()
        with pytest.raises(InputError, match="no such class"):
            choose(workspace, label="unicorn", pairs=2)
    assert choice.atypical_gap >= choice.typical_gap
