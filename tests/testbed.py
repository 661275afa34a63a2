"""The testbed's artists without CIFAR-10: a few works each, on photos of a dependency, and what a model might answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge import Workspace
from expunge.core.codec import loads
from expunge.data import artist_styles
from expunge.data._pictures import PictureSet
from expunge.data._sample_photos import sample_photos
from expunge.evidence.commitment import Opening
from expunge.evidence.not_learned_verify import verify_not_learned
from expunge.evidence.verify import Expectation, Verification
from expunge.stats.styles import Arms, Counted
from expunge.training.recipe import parse_any_recipe
from expunge.workflow.policy import GENERATOR
from expunge.workflow.styles import baseline, evidence, roster
from picture_files import TINY
from workspaces import vouch_for

ARTISTS = ("neon", "duotone", "mosaic")
STRANGER = "stained glass"
"""An artist of whom the training data has nothing."""
PROBES = ("direct", "reworded", "textual_inversion", "soft_prompt/2")


def small_testbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source `artist_styles` with two works an artist and object of three artists; photos of two objects."""
    objects = artist_styles.OBJECTS[:2]
    photos = sample_photos(objects, 24)

    def opened(self: Any) -> PictureSet:
        train = artist_styles.painted(photos, dict.fromkeys(ARTISTS, 2), "works")
        test = artist_styles.painted(photos, dict.fromkeys((*ARTISTS, STRANGER), 1), "test")
        return PictureSet(
            source="artist_styles", note="a few works", styles=ARTISTS, objects=objects, train=train, test=test
        )

    monkeypatch.setattr(artist_styles.ArtistStyles, "open", opened)
    monkeypatch.setattr(roster, "cifar10_photos", lambda path: {"attack": photos})
    monkeypatch.setattr(roster, "OBJECTS", objects)
    for module in (baseline, evidence):  # a handful of test works bounds no rate of mistakes
        monkeypatch.setattr(module, "mistakes_of", lambda *_: 0.01)


def make_testbed(root: Path, **tables: Any) -> Workspace:
    """An open, trained and vouched-for workspace of them."""
    config = {
        "data": {"source": "artist_styles"},
        "model": {"seed": "00112233445566778899aabbccddeeff"},
        "owner": {"name": "test owner"},
        "compute": {"engine": "inline://"},
        "styles": {"pictures": 4, "steps": 1, "retained": 4, "budget": 1},
        **tables,
    }
    workspace = Workspace.create(root, config=config, recipe=parse_any_recipe(TINY), policy=GENERATOR)
    workspace.train()
    vouch_for(workspace)
    return workspace


def counts(hits: int | Sequence[int], pictures: int = 40, seeds: int = 24) -> Counted:
    """One probe's counts, on which all judges agree; one number of hits a run, or the same in all."""
    each = tuple(np.broadcast_to(hits, seeds).tolist())
    nowhere = tuple(pictures - hit for hit in each)
    return Counted(pictures=pictures, agreed=each, any=each, nowhere=nowhere, by_judge={"cnn": each})


def arms(target: Any, controls: Any = 0, styles: int = 5, seeds: int = 24) -> Arms:
    """The untouched model as both arms, and control styles that all come alike."""
    mine = counts(target, seeds=seeds)
    return Arms(
        original=mine,
        candidate=mine,
        controls={f"control {number}": counts(controls, seeds=seeds) for number in range(styles)},
    )


def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates are not asked for any style: for tests of something else."""
    monkeypatch.setattr(evidence, "materials_of", lambda *_: ("nothing was drawn, in this test",))


def answering(monkeypatch: pytest.MonkeyPatch, hits: int) -> list[str]:
    """A model that draws every style that is asked about in `hits` of 40 pictures and the known artist in all, in as many seeds
    as are asked for; returns the list of those who were asked for."""
    asked: list[str] = []

    def counted(workspace: Any, found: Any, plan: Any, known: str, folder: Path) -> Any:
        asked.append(plan.target)
        assert plan.pictures == 40
        seeds = plan.seeds
        seen = {label: counts(40, seeds=seeds) for label in PROBES}
        return {label: arms(hits, seeds=seeds) for label in PROBES}, seen, {}

    monkeypatch.setattr(baseline, "counted", counted)
    return asked


def otherwise(workspace: Workspace, seeds: int = 32) -> None:
    """From here on, styles are asked for with other counts, which is another question; 8 are the first one's."""
    table = workspace.config.styles.model_copy(update={"seeds": seeds})
    workspace.config = workspace.config.model_copy(update={"styles": table})


def checked(workspace: Workspace, outcome: Any, receipt: bytes | None = None, **changes: Any) -> Verification:
    """What a relying party finds about a not-learned statement, with the receipt that it was given at intake."""
    told: Any = {} if receipt is None else loads(receipt, what="receipt")
    shown = {
        name: Opening(key=told[name]["key"], value=told[name]["value"]) for name in ("opening", "style") if name in told
    }
    brought = {
        "roots": workspace.roots(),
        "policy": workspace.policy,
        "against": told.get("checkpoint"),
        "expect": Expectation(model=workspace.served().digest, **shown),
        **changes,
    }
    return verify_not_learned(outcome.statement.path, **brought)


def failed(result: Verification) -> list[int]:
    """Numbers of the steps that did not hold."""
    return [step.number for step in result.steps if step.status == "failed"]
