"""Choose story records on models that will never judge them: choosing on the bank that tests is double dipping."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.errors import InputError
from expunge.evidence.commitment import commit
from expunge.evidence.durable import write_file
from expunge.farm.bank import Sketches
from expunge.training.rng import derive_seed
from expunge.workflow.train import bank_spec, prepare_bank

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

CLIP = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Slots of a typical and an atypical record of one class, with their gaps (I - O in SD of O) on the choosing models.

    The gap of the atypical record is the largest of many and therefore flatters it; the judging bank measures it again.
    """

    typical: int
    atypical: int
    typical_gap: float
    atypical_gap: float
    models: int
    bank: str


def choose(workspace: Workspace, *, label: str, pairs: int) -> Choice:
    """Train `pairs` complement pairs for choosing, pick the median and the largest gap of a class, and log the choice."""
    file = workspace.root / "store" / "chosen.json"
    if file.exists():
        return decode(Choice, loads(file.read_bytes()), what="chosen.json")
    spec = replace(
        bank_spec(workspace),
        seed=derive_seed(workspace.config.model.seed, "choosing"),
        pairs=pairs,
        anchors=0,
        monitored=(),
    )
    bank = prepare_bank(workspace, spec)
    bank.build(workspace.config.compute.executor, workspace.compute, workspace.progress)
    gaps = record_gaps(bank.sketches())
    slots = _of_class(workspace, label)
    order = slots[np.argsort(gaps[slots])]
    typical, atypical = int(order[len(order) // 2]), int(order[-1])
    choice = Choice(
        typical=typical,
        atypical=atypical,
        typical_gap=float(gaps[typical]),
        atypical_gap=float(gaps[atypical]),
        models=2 * pairs,
        bank=spec.digest,
    )
    payload = {"choice": commit(workspace.secret("choice"), choice), "bank": spec.digest, "models": 2 * pairs}
    workspace.log.append("records.chosen", payload)
    workspace.log.checkpoint()
    write_file(file, canonical(encode(choice)), mode=0o600)
    shutil.rmtree(bank.folder)  # chosen on and logged: these models judge nobody and need not be kept
    return choice


def record_gaps(sketches: Sketches) -> NDArray[np.float64]:
    """Mean IN minus mean OUT of the logit-scaled confidence of every record, in SD of OUT, shape (N,).

    No record's SD counts as smaller than the median one: with few models the largest gap would otherwise belong to
    whoever's SD came out small by luck (seen on CIFAR-10: 9 SD on 8 choosing models, 0 on 24 judging ones).
    """
    log_p = np.minimum(sketches.train.astype(np.float64), np.log1p(-CLIP))
    scores = log_p - np.log(-np.expm1(log_p))
    inside = sketches.inside
    counts_in, counts_out = inside.sum(0), (~inside).sum(0)
    mean_in = np.where(inside, scores, 0).sum(0) / np.maximum(counts_in, 1)
    mean_out = np.where(~inside, scores, 0).sum(0) / np.maximum(counts_out, 1)
    spread = np.sqrt(np.where(~inside, (scores - mean_out) ** 2, 0).sum(0) / np.maximum(counts_out - 1, 1))
    gaps: NDArray[np.float64] = (mean_in - mean_out) / np.maximum(spread, max(float(np.median(spread)), 1e-9))
    return gaps


def _of_class(workspace: Workspace, label: str) -> NDArray[np.int64]:
    classes = workspace.data.classes
    if label not in classes:
        raise InputError("no such class", expected=", ".join(classes), got=label)
    present = np.array([name is not None for name in workspace.book.ids])
    return np.flatnonzero((workspace.data.train.labels == classes.index(label)) & present)
