"""Step 4 of the walk: run a candidate into a new model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.core.codec import encode
from expunge.core.errors import InputError, IntegrityError
from expunge.core.finding import Guarantee
from expunge.core.plan import Plan
from expunge.core.protocols import FitResult, HasShards, HasSufficientStatistics, HasTranscript
from expunge.evidence.commitment import keyed
from expunge.training.checkpoint import weights_identity
from expunge.training.closed_form.queued import clear_but_queues
from expunge.training.transcript import transcript_digest
from expunge.workflow.planner import LAST, unlearn_job
from expunge.workflow.state import ModelRecord
from expunge.workflow.styles.edits import Edit, method_named
from expunge.workflow.styles.handed import require_honest_run

if TYPE_CHECKING:
    from expunge.workflow.intake import OpenCase, Resolution
    from expunge.workflow.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A candidate that ran: its record (private), its files, and the log index of the result."""

    record: ModelRecord
    result: FitResult
    folder: Path
    index: int


def seed_after(case: OpenCase, checkpoint: str) -> str:
    """Seed of a run: HMAC(case key, checkpoint signed after the plan). No seed shopping (VERDICTS section 4)."""
    return keyed(case.key(), b"expunge/run-seed/v1|" + checkpoint.encode()).hex()[:32]


def execute(
    workspace: Workspace, case: OpenCase, resolution: Resolution, plan: Plan, seed: str, method: Any = None
) -> Executed:
    """Run the plan's method into a new folder. The original is read only, which is checked and not assumed.

    method: the plan's method where it takes more than its name to make it, as a cheat of the self-test does.
    """
    served = workspace.served()
    method = method or method_named(plan.method)
    _still(workspace, served)
    if method.needs in (HasTranscript, HasShards):
        _pinned(workspace, served)
    exact = plan.aims_at is Guarantee.EXACT
    label = f"{case.handle}-{plan.method.replace('/', '-')}-{served.digest[7:15]}" + ("" if exact else f"-{seed[:8]}")
    job = unlearn_job(workspace, resolution, target=label, seed=served.seed if exact else seed)
    _clear(workspace, job.target)
    before = _files(job.target)
    result: FitResult = method.unlearn(job)
    _still(workspace, served)
    if isinstance(method, Edit):
        _require_edit(workspace.root / served.run / result.model.name, result.model, job.target, before)
    record = ModelRecord(
        digest=result.digest,
        run=str(job.target.relative_to(workspace.root)),
        seed=job.seed,
        absent=tuple(sorted(job.wanted.absent)),
        recipe=workspace.recipe.digest,
        numerics=workspace.numerics,
        seconds=result.seconds if plan.method == LAST else served.seconds,
        adopted=served.adopted and isinstance(method, Edit),
    )
    payload = {
        "model": result.digest,
        "method": plan.method,
        "seconds": encode(round(result.seconds, 3)),
        "steps_run": result.steps - result.resumed_at,
        "steps_total": result.steps,
    }
    entry = workspace.log.append("candidate.executed", payload, case=case.handle)
    return Executed(record=record, result=result, folder=job.target, index=entry.index)


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def _require_edit(original: Path, edited: Path, folder: Path, before: set[str]) -> None:
    """What an eraser leaves is one file with an edited denoiser; anything else goes at once, because it may be the original."""
    try:
        require_honest_run(original, edited, _files(folder) - before - {edited.name})
    except InputError:
        shutil.rmtree(folder)
        raise


def _clear(workspace: Workspace, target: Path) -> None:
    """What a killed process left: of a family with sums everything but a queue that was begun, because making it anew is
    quick; else half files."""
    if isinstance(workspace.adapter, HasSufficientStatistics):
        clear_but_queues(target)
    for file in target.rglob(".*.tmp") if target.exists() else ():
        file.unlink()


def _still(workspace: Workspace, served: ModelRecord) -> None:
    require_logged(workspace.root / served.run / "model.safetensors", served.digest)


def require_logged(file: Path, digest: str) -> None:
    """Raises IntegrityError unless the file holds the weights that the log names: what every run starts with. A restored
    backup of an older model is refused here, because only its users' deletion made the one in service."""
    found = weights_identity(file)
    if found != digest:
        raise IntegrityError(
            "the served model's file is not the model that was logged",
            expected=digest,
            got=found,
            hint="restore the weights file; nothing was run",
        )


def _pinned(workspace: Workspace, served: ModelRecord) -> None:
    """A replay rests on the original's transcript, so it must be the one whose digest was logged when it was made."""
    pinned = workspace.state().transcript
    found = transcript_digest(workspace.root / served.run / "transcript.jsonl")
    if found != pinned:
        raise IntegrityError("the original's transcript is not the one that was logged", expected=pinned, got=found)


def discard_run(executed: Executed) -> None:
    """Remove a candidate that was not accepted."""
    shutil.rmtree(executed.folder, ignore_errors=True)
