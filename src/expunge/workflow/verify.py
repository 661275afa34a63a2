"""Steps 5 and 6 of the walk: every check on candidate, original and references; then the figures, binned."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.core import registry
from expunge.core.errors import IntegrityError
from expunge.core.finding import Finding
from expunge.core.plan import Plan
from expunge.core.protocols import CheckJob, Correctness, Deployed, Provenance
from expunge.farm.bank import Bank
from expunge.farm.member import true_log_probabilities
from expunge.training.audit import expected_transcript
from expunge.training.recipe import Recipe
from expunge.training.rng import seed_number
from expunge.training.transcript import read_transcript, transcript_digest
from expunge.workflow import user_bank
from expunge.workflow.coins import coins_of
from expunge.workflow.execute import Executed
from expunge.workflow.ladder import climb
from expunge.workflow.linkage import linkage_of
from expunge.workflow.measure import ArmAnswers, measure
from expunge.workflow.styles.evidence import style_evidence
from expunge.workflow.train import open_bank

if TYPE_CHECKING:
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace


def verify(
    workspace: Workspace, resolution: Resolution, plan: Plan, executed: Executed, plan_index: int, seed: str
) -> tuple[Finding, ...]:
    """Run every check the policy names for the guarantee that the plan aims at."""
    number = seed_number(seed) & 0x7FFFFFFF
    job = _LOOKED_AT[workspace.policy.kind](workspace, resolution, plan, executed, plan_index, number)
    findings = []
    for done, spec in enumerate(plan.checks):
        workspace.progress("checks", done, len(plan.checks))
        findings.append(registry.load("checks", spec.check)().run(job))
    workspace.progress("checks", len(plan.checks), len(plan.checks))
    return tuple(findings)


def _users(
    workspace: Workspace, resolution: Resolution, plan: Plan, executed: Executed, plan_index: int, number: int
) -> CheckJob:
    """A recommender: the ladder from structure to what lies downstream; of a trained family the bank, where there is one."""
    bank = open_bank(workspace)
    refusal = user_bank.refusal(workspace, resolution, bank)
    job, asked = _asked_of(workspace, resolution, plan, executed, number, bank, refusal)
    return replace(
        job,
        deployed=user_bank.deployed(workspace, resolution, executed, asked.peers),
        ladder=climb(workspace, resolution, executed, number),
    )


def _records(
    workspace: Workspace, resolution: Resolution, plan: Plan, executed: Executed, plan_index: int, number: int
) -> CheckJob:
    """A classifier: three arms of the bank, the served file among anchors, transcripts, and the holdout."""
    bank = open_bank(workspace)
    served = _Served(workspace, executed)
    refusal = bank.refuses(resolution.slots) if bank is not None else None
    usable = bank if refusal is None else None
    job, _ = _asked_of(workspace, resolution, plan, executed, number, bank, refusal)
    return replace(
        job,
        deployed=_deployed(resolution, usable, served) if usable and usable.spec.anchors else None,
        correctness=_correctness(workspace, bank, served, resolution),
        provenance=_provenance(workspace, resolution, executed, plan_index),
        coins=coins_of(
            workspace,
            resolution,
            candidate=partial(served.answers, "candidate"),
            original=partial(served.answers, "original"),
        ),
    )


def _pictures(
    workspace: Workspace, resolution: Resolution, plan: Plan, executed: Executed, plan_index: int, number: int
) -> CheckJob:
    """A text-to-image model: what its log says it was trained on, what comes out when it is asked for the style, and the three
    arms of a bank, where there is one."""
    bank = open_bank(workspace)
    refusal = bank.refuses(resolution.slots) if bank is not None else None
    job, _ = _asked_of(workspace, resolution, plan, executed, number, bank, refusal)
    return replace(
        job,
        provenance=_provenance(workspace, resolution, executed, plan_index),
        styles=style_evidence(workspace, resolution, plan, executed, number),
    )


def _asked_of(
    workspace: Workspace,
    resolution: Resolution,
    plan: Plan,
    executed: Executed,
    number: int,
    bank: Bank | None,
    refusal: str | None,
) -> tuple[CheckJob, ArmAnswers]:
    """What checks of every kind of model get: limits, attempts, and what a bank was asked, unless it refuses."""
    usable = bank if refusal is None else None
    looks, found = _earlier(workspace, resolution)
    asked = measure(workspace, resolution, plan, executed, usable, number)
    job = CheckJob(
        limits=workspace.policy.limits,
        guarantee=plan.aims_at,
        seed=number,
        signals=workspace.policy.attacks,
        bank_refusal=refusal,
        arms=usable.arms(resolution.slots, asked.unlearned) if usable else None,
        attempt=plan.attempt,
        looks=looks,
        found=found,
        measured=asked.measured,
        unable=asked.unable,
        spikes=asked.spikes,
        linkage=linkage_of(workspace, resolution),
        canary_power=workspace.canary_power(),
    )
    return job, asked


_LOOKED_AT = {"classifier": _records, "recommender": _users, "generator": _pictures}
"""Kind of model -> what is measured for the checks."""


def _earlier(workspace: Workspace, resolution: Resolution) -> tuple[int, int]:
    """Requests about other records that this bank has judged, and those of them in which it found a residue."""
    state = workspace.state()
    others = [
        found for case, found in state.looked.items() if not set(state.pending.get(case, ())) & set(resolution.subjects)
    ]
    return len(others), sum(others)


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

    def answers(self, name: str, images: Any, labels: Any) -> Any:
        """Log-probabilities of these labels on these images, shape (m,)."""
        return true_log_probabilities(self.adapter, self.models[name], images, labels)

    def population(self, name: str) -> Any:
        """The same on the test records, shape (1, Z)."""
        return self.test[name][np.arange(len(self.labels)), self.labels][None]

    def correct(self, name: str) -> Any:
        """Was each test record classified correctly? shape (Z,)"""
        return self.test[name].argmax(1) == self.labels


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


def _correctness(workspace: Workspace, bank: Bank | None, served: _Served, resolution: Resolution) -> Correctness:
    """Test records of the classes that are still trained on; a class that was erased whole cannot be demanded back."""
    kept = np.ones(len(workspace.book.ids), bool)
    kept[[*resolution.slots, *workspace.book.tombstones]] = False
    rows = np.isin(served.labels, np.unique(workspace.data.train.labels[kept]))
    anchors = bank.sketches("anchors").correct if bank is not None and bank.spec.anchors else None
    references = anchors if anchors is not None else np.zeros((0, len(served.labels)), bool)
    return Correctness(
        labels=served.labels[rows],
        candidate=served.correct("candidate")[rows],
        original=served.correct("original")[rows],
        references=references[:, rows],
        classes=workspace.data.classes,
    )


def _original_lines(workspace: Workspace) -> list[dict[str, Any]]:
    """The original's transcript if it is the one the log pins; otherwise nothing, and the control says so."""
    path = workspace.root / workspace.served().run / "transcript.jsonl"
    pinned = workspace.state().transcript
    try:
        return read_transcript(path) if pinned is not None and transcript_digest(path) == pinned else []
    except (OSError, IntegrityError):
        return []


def _provenance(workspace: Workspace, resolution: Resolution, executed: Executed, plan_index: int) -> Provenance | None:
    if executed.result.transcript is None or not isinstance(workspace.recipe, Recipe):
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
        original=_original_lines(workspace),
        candidate_digest=executed.result.digest,
        plan_index=plan_index,
        result_index=executed.index,
        forgotten=(sum(pair[0] in ids for pair in gone), sum(pair[1] in contents for pair in gone)),
        copies=len(resolution.copies),
    )
