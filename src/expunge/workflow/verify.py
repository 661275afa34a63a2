"""Steps 5 and 6 of the walk: every check on candidate, original and references; then the figures, binned."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.core import registry
from expunge.core.codec import digest_of
from expunge.core.finding import Finding
from expunge.core.plan import Plan
from expunge.core.protocols import CheckJob, Correctness, Deployed, Provenance
from expunge.farm.bank import Bank
from expunge.farm.member import true_log_probabilities
from expunge.training.audit import expected_transcript
from expunge.training.rng import seed_number
from expunge.training.transcript import read_transcript
from expunge.workflow.execute import Executed, run_x_arm

if TYPE_CHECKING:
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace


def verify(
    workspace: Workspace, resolution: Resolution, plan: Plan, executed: Executed, plan_index: int, seed: str
) -> tuple[Finding, ...]:
    """Run every check the policy names for the guarantee that the plan aims at."""
    bank = open_bank(workspace)
    served = _Served(workspace, executed)
    usable = bank if bank is not None and bank.refuses(resolution.slots) is None else None
    job = CheckJob(
        limits=workspace.policy.limits,
        guarantee=plan.aims_at,
        seed=seed_number(seed) & 0x7FFFFFFF,
        signals=registry.names("attacks"),
        arms=usable.arms(resolution.slots, run_x_arm(workspace, resolution, plan, usable, seed)) if usable else None,
        deployed=_deployed(resolution, usable, served) if usable and usable.spec.anchors else None,
        correctness=_correctness(workspace, bank, served),
        provenance=_provenance(workspace, resolution, executed, plan_index),
        attempt=plan.attempt,
    )
    findings = []
    for number, spec in enumerate(plan.checks):
        workspace.progress("checks", number, len(plan.checks))
        findings.append(registry.load("checks", spec.check)().run(job))
    workspace.progress("checks", len(plan.checks), len(plan.checks))
    return tuple(findings)


class _Served:
    """Answers of candidate and original on train and test records, computed once."""

    def __init__(self, workspace: Workspace, executed: Executed) -> None:
        adapter, data = workspace.adapter, workspace.data
        original = workspace.root / workspace.served().run / "model.safetensors"
        self.labels = data.test.labels
        self.models = {"candidate": adapter.load(executed.result.model), "original": adapter.load(original)}
        self.adapter, self.data = adapter, data
        self.test = {name: adapter.outputs(model, data.test.images) for name, model in self.models.items()}

    def block(self, name: str, slots: tuple[int, ...]) -> Any:
        """Log-probabilities of the true class on the block, shape (1, R)."""
        rows, train = list(slots), self.data.train
        return true_log_probabilities(self.adapter, self.models[name], train.images[rows], train.labels[rows])[None]

    def population(self, name: str) -> Any:
        """The same on the test records, shape (1, Z)."""
        return self.test[name][np.arange(len(self.labels)), self.labels][None]

    def correct(self, name: str) -> Any:
        """Was each test record classified correctly? shape (Z,)"""
        return self.test[name].argmax(1) == self.labels


def open_bank(workspace: Workspace) -> Bank | None:
    """The newest bank in the log, read back from its folder; None after the day it had to be destroyed."""
    from expunge.workflow.train import read_bank

    banks = workspace.state().banks
    if not banks or datetime.now(UTC).date() > date.fromisoformat(banks[-1].destroy_by):
        return None
    return read_bank(workspace, banks[-1].digest)


def _deployed(resolution: Resolution, bank: Bank, served: _Served) -> Deployed:
    anchors = bank.sketches("anchors")
    block = list(resolution.slots)
    inside = anchors.inside[:, block[0]]
    return Deployed(
        candidate=served.block("candidate", resolution.slots),
        original=served.block("original", resolution.slots),
        out_anchors=anchors.train[~inside][:, block],
        in_anchors=anchors.train[inside][:, block],
        candidate_population=served.population("candidate"),
        original_population=served.population("original"),
        out_population=anchors.test[~inside],
        in_population=anchors.test[inside],
    )


def _correctness(workspace: Workspace, bank: Bank | None, served: _Served) -> Correctness:
    anchors = bank.sketches("anchors").correct if bank is not None and bank.spec.anchors else None
    references = anchors if anchors is not None else np.zeros((0, len(served.labels)), bool)
    return Correctness(
        labels=served.labels,
        candidate=served.correct("candidate"),
        original=served.correct("original"),
        references=references,
        classes=workspace.data.classes,
    )


def _provenance(workspace: Workspace, resolution: Resolution, executed: Executed, plan_index: int) -> Provenance | None:
    original = workspace.root / workspace.served().run / "transcript.jsonl"
    if executed.result.transcript is None:
        return None
    book = workspace.book
    leaves = book.leaves()
    absent = frozenset(executed.record.absent)
    job = workspace.fit_job(executed.folder, absent=absent, seed=executed.record.seed)
    kept = set(book.manifest(absent).leaves.values())
    ids, contents = {pair[0] for pair in kept}, {pair[1] for pair in kept}
    gone = [book.leaf(slot) for slot in resolution.slots]
    return Provenance(
        expected=expected_transcript(workspace.recipe, workspace.adapter.parts(job), leaves),
        candidate=read_transcript(executed.result.transcript),
        original=read_transcript(original) if original.exists() else [],
        candidate_digest=executed.result.digest,
        plan_index=plan_index,
        result_index=executed.index,
        forgotten=(sum(pair[0] in ids for pair in gone), sum(pair[1] in contents for pair in gone)),
        copies=len(resolution.copies),
    )


def findings_digest(findings: tuple[Finding, ...]) -> str:
    """`sha256:` over all findings."""
    return digest_of(list(findings))
