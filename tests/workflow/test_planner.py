"""Candidates: strongest guarantee first, then cheapest, retrain always last; capabilities decide, not a table."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from expunge import Workspace
from expunge.core import registry
from expunge.core.finding import Guarantee
from expunge.core.protocols import HasShards
from expunge.core.registry import PlugIn
from expunge.workflow.intake import resolve
from expunge.workflow.planner import candidates

DIGIT = "train/7/0007"


def test_order_and_prices(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        resolution = resolve(workspace, workspace.request(ids=[DIGIT]))
        found = candidates(workspace, resolution)
        usable = [item for item in found if item.refused is None]
        seconds = workspace.served().seconds
    assert [item.method for item in usable] == ["replay", "finetune", "retrain"]
    for item in usable:
        assert item.cost is not None
        assert item.cost.seconds == pytest.approx(item.cost.fraction * seconds)
    assert usable[-1].cost is not None
    assert usable[-1].cost.fraction == 1.0


def test_replay_is_priced_by_the_steps_it_really_runs(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        resolution = resolve(workspace, case)
        replay = next(item for item in candidates(workspace, resolution) if item.method == "replay")
        outcome = workspace.run(case, ["replay"])
        entry = next(e for e in workspace.log.case(case.handle) if e.kind == "candidate.executed")
    assert replay.cost is not None
    assert replay.cost.fraction == pytest.approx(entry.payload["steps_run"] / entry.payload["steps_total"])
    assert outcome.guarantee is Guarantee.EXACT


def test_method_whose_capability_the_family_lacks_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @runtime_checkable
    class CanDream(Protocol):
        def dream(self) -> None: ...

    real = registry.load

    def load(kind: str, name: str) -> object:
        found = real(kind, name)
        if (kind, name) != ("methods", "replay"):
            return found
        return type("Replay", (found,), {"needs": CanDream})

    monkeypatch.setattr(registry, "load", load)
    with Workspace.open(folder) as workspace:
        found = candidates(workspace, resolve(workspace, workspace.request(ids=[DIGIT])))
    replay = next(item for item in found if item.method == "replay")
    assert replay.refused == "family mlp lacks the capability CanDream"
    assert replay.cost is None


def test_method_from_outside_is_capped_at_empirical(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.find

    def find(kind: str, name: str) -> PlugIn:
        plugin = real(kind, name)
        if name != "replay":
            return plugin
        return PlugIn(kind=kind, name=name, target=plugin.target, built_in=False, origin="elsewhere==1.0 sha256:00")

    monkeypatch.setattr(registry, "find", find)
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        found = candidates(workspace, resolve(workspace, case))
        replay = next(item for item in found if item.method == "replay")
        assert replay.aims_at is Guarantee.EMPIRICAL
        assert replay.origin.startswith("elsewhere==1.0")


def test_policy_without_empirical_refuses_approximate_methods(folder: Path) -> None:
    text = (folder / "policy.yaml").read_text()
    start, end = text.index("  EMPIRICAL:"), text.index("limits:")
    (folder / "policy.yaml").write_text(text[:start] + text[end:])
    with Workspace.open(folder) as workspace:
        found = candidates(workspace, resolve(workspace, workspace.request(ids=[DIGIT])))
    assert next(item for item in found if item.method == "finetune").refused == "the policy does not grant EMPIRICAL"


def test_sharded_model_is_offered_sisa_and_refuses_finetune(tmp_path: Path) -> None:
    from expunge.training.recipe import load_recipe, parse_recipe
    from workspaces import small_config, vouch_for

    recipe = parse_recipe({**load_recipe("digits").model_dump(), "epochs": 4, "shards": 4})
    config = small_config(pairs=2, anchors=0)
    with Workspace.create(tmp_path / "ws", config=config, recipe=recipe) as workspace:
        workspace.train()
        vouch_for(workspace)
        case = workspace.request(ids=[DIGIT])
        found = candidates(workspace, resolve(workspace, case))
        assert isinstance(workspace.adapter, HasShards)
        usable = {item.method for item in found if item.refused is None}
        assert usable == {"replay", "sisa", "retrain"}
        sisa = next(item for item in found if item.method == "sisa")
        assert sisa.cost is not None
        assert sisa.cost.fraction < 0.3  # one shard of four, from its slice on
        outcome = workspace.run(case, ["sisa"])
    assert outcome.guarantee is Guarantee.EXACT
