"""Erasers of concepts as candidates of the walk: the served networks are edited in a copy, and the copy is judged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.core import registry
from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, HasGradients, UnlearnJob
from expunge.data._pictures import NOBODYS, Pictures
from expunge.training.checkpoint import save_tensors
from expunge.training.rng import draws
from expunge.training.text_to_image.answering import answering
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.packed import tensors_of

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

KIND = "erasers"
MODEL = "model.safetensors"
ESCALATION = ("uce", "rece", "concept_ablation", "esd_x", "esd_u", "salun", "siss", "robust", "purged_finetune")
"""From what takes milliseconds to what trains: the order of trial. An eraser from outside comes after these."""
ELSEWHERE = (
    "the model was trained elsewhere: neither its data nor its training is here, so it can be edited, not trained again"
)
"""Why nothing but an edit can be tried on a text-to-image model that was adopted."""
_PROMPTS, _WORKS, _RETAINED = 120, 400, 4000


class Edit:
    """An eraser, held as an Unlearner: the artist's captions are led to the same captions without the name.

    Aims at: EMPIRICAL, never more: the weights may keep what they know (arXiv 2308.01508). Needs: a family of one network that
    can be trained further. Cost: see the eraser.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = HasGradients

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """The eraser's own defaults."""

    def __init__(self, name: str, eraser: Any) -> None:
        self.name, self.eraser = name, eraser

    def refuses(self, job: UnlearnJob) -> str | None:
        """What can be taken away again is no erasure, and neither is an edit for works that no caption gives to anybody."""
        train = job.job.data.train
        if not isinstance(train, Pictures):
            return "concepts are erased from text-to-image models"
        if int(job.job.recipe.get("shards", 1)) > 1:
            return "the original is sharded"
        if self.name == "lora":
            return "an adapter can be taken away again by whoever has the file: a mitigation, and no erasure"
        names = {train.styles[slot] for slot in job.forget}
        if not names or "" in names:
            return "the works are not one artist's, so there is no name to erase"
        stay = {style for slot, style in enumerate(train.styles) if slot not in job.forget | job.job.absent}
        if len(names) > 1 and (names & stay or not stay - {""}):
            return "the works are not one artist's: several go together where all works of each go, and somebody stays"
        return None

    def cost(self, job: UnlearnJob) -> float | None:
        """Not known as a share of a training: milliseconds for closed forms, minutes for what trains; see its card."""
        return None

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """A new file with the edited networks, and what the eraser could say of it before anything is drawn; the original is
        only read."""
        started = time.perf_counter()
        erased = self.eraser.erase(erase_job(job))
        if erased.removable:
            raise InputError(f"{self.name} left something that can be taken away", got=erased.removable)
        digest = save_tensors(job.target / MODEL, tensors_of(erased.model, Path(job.source) / MODEL))
        seconds = time.perf_counter() - started
        return FitResult(
            digest=digest,
            model=job.target / MODEL,
            transcript=None,
            seconds=seconds,
            steps=0,
            figures=dict(erased.figures),
        )


def edits() -> list[str]:
    """All erasers in the order of trial, as a plan names them: `erasers/uce`."""
    there = registry.names(KIND)
    others = [name for name in there if name not in ESCALATION]
    return [f"{KIND}/{name}" for name in (*ESCALATION, *others) if name in there]


def is_edit(method: str) -> bool:
    """Is this one of the erasers, as a plan names it?"""
    return registry.split_name(method, "methods")[0] == KIND


def method_named(name: str) -> Any:
    """The method of a plan, by its full or plain name."""
    kind, own = registry.split_name(name, "methods")
    found = registry.load(kind, own)()
    return Edit(own, found) if kind == KIND else found


def only_edits(workspace: Workspace) -> bool:
    """Whether the served model is a text-to-image model from elsewhere, or an edited one of that."""
    return workspace.policy.kind == "generator" and workspace.served().adopted


def erase_job(job: UnlearnJob) -> EraseJob:
    """What the eraser is given: the artist's own captions, others' captions to preserve, works and retained works.

    No judge, no picture and no wording that will test: only what the training data holds. Each caption is led to one of a
    work by nobody that shows the same object, or, where there is none, to itself without the words that only this artist's
    captions have. Several artists are one job, and so one solve.
    """
    train: Pictures = job.job.data.train
    mine, gone = sorted(job.forget), job.forget | job.job.absent
    others = [slot for slot in range(len(train)) if slot not in gone and train.captions[slot]]
    pairs: dict[str, str] = {}
    for artist in sorted({train.styles[slot] for slot in mine}):
        works = [slot for slot in mine if train.styles[slot] == artist]
        chosen = _each_once(works, train, job.seed)
        found = guides(train, chosen, others, names_in(train, works, others))
        pairs = {**dict(zip((train.captions[slot] for slot in chosen), found, strict=True)), **pairs}
    return EraseJob(
        model=answering(job.adapter.load(Path(job.source) / MODEL)),
        erase=tuple(pairs),
        guide=tuple(pairs.values()),
        preserve=(*(train.captions[slot] for slot in _each_once(others, train, job.seed)), ""),
        seed=job.seed,
        works=train.only(_shuffled(mine, job.seed)[:_WORKS]),
        retained=train.only(_shuffled(others, job.seed)[:_RETAINED]) if others else None,
        progress=job.job.progress,
    )


def names_in(train: Pictures, mine: Sequence[int], others: Sequence[int]) -> frozenset[str]:
    """Words that captions of these works have and nobody else's: the artist's name and aliases, and what belongs to them."""
    return _words(train, mine) - _words(train, others)


def guides(train: Pictures, chosen: Sequence[int], others: Sequence[int], names: frozenset[str]) -> tuple[str, ...]:
    """For each chosen work, the caption that its own should lead to."""
    plain: dict[str, list[str]] = {}
    for slot in others:
        if train.styles[slot] in NOBODYS:
            plain.setdefault(train.objects[slot], []).append(train.captions[slot])
    found = []
    for number, slot in enumerate(chosen):
        like = sorted(set(plain.get(train.objects[slot], [])))
        bare = " ".join(word for word in train.captions[slot].split() if _bare(word) not in names)
        found.append(like[number % len(like)] if like else bare)
    return tuple(found)


def _words(train: Pictures, slots: Sequence[int]) -> frozenset[str]:
    return frozenset(_bare(word) for slot in slots for word in train.captions[slot].split())


def _bare(word: str) -> str:
    return word.casefold().strip(".,:;!?\"'()")


def _each_once(slots: Sequence[int], train: Pictures, seed: str) -> list[int]:
    """Works with different captions, at most as many as one edit takes, in keyed order."""
    first: dict[str, int] = {}
    for slot in _shuffled(slots, seed):
        first.setdefault(train.captions[slot], slot)
    return list(first.values())[:_PROMPTS]


def _shuffled(slots: Sequence[int], seed: str) -> list[int]:
    rows = np.array(slots, np.int64)
    order = np.argsort(draws(seed, "edit", 0, rows)[:, 0], kind="stable")
    return [int(slot) for slot in rows[order]]
