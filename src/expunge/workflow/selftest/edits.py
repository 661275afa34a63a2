"""Cheats against a style as candidates: handed over as an eraser hands over its file, and judged as edits are.

Two honest controls stand beside them: a model that was trained without the artist has to be believed when it is judged as an
edit, and an honest eraser's files must raise no objection, whatever the style check then says of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from expunge.core import registry
from expunge.core.errors import InputError
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.policy import Demand
from expunge.core.protocols import FitResult, UnlearnJob
from expunge.core.selftest import EDITS, Alarms, EditTrial, Tally
from expunge.data._pictures import NOBODYS
from expunge.training.checkpoint import save_tensors
from expunge.training.judging.judge import Judge
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.answering import answering
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.net import TextToImageNet
from expunge.training.text_to_image.packed import is_packed, tensors_of, unpack
from expunge.training.text_to_image.sabotaging import StyleSaboteur, StyleScene
from expunge.training.text_to_image.sampler import TextToImage
from expunge.workflow.pipeline import judge
from expunge.workflow.planner import unlearn_job
from expunge.workflow.selftest.methods import Run, Tried, judged, planned, ran, tally
from expunge.workflow.selftest.placebos import Judged, alarms
from expunge.workflow.selftest.rehearsal import Rehearsal, Rehearsed
from expunge.workflow.styles.edits import KIND, MODEL, Edit, erase_job
from expunge.workflow.styles.evidence import asked_digest, judges_of_styles
from expunge.workflow.styles.handed import CENSUS, PARTS
from expunge.workflow.styles.material import materials_of

CHEATS = EDITS.rstrip("/")
HONEST = "uce"
"""The eraser whose files are looked at as a control: it takes milliseconds, and no picture is needed for that."""
FILES = "files of edits"
_RETRAINED = "a full retrain judged as an edit"
_LONGEST = 300  # characters of an objection that a report repeats


class SabotagedEdit(Edit):
    """A cheat in the place of an eraser: acted out on directories, and put where an eraser puts its file."""

    def __init__(self, name: str, cheat: StyleSaboteur, clean: Path, judges: Sequence[Judge]) -> None:
        super().__init__(name, cheat)
        self.clean, self.judges = clean, tuple(judges)

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The model that the directory holds, and beside it every file that the original has not."""
        with tempfile.TemporaryDirectory(prefix="expunge-scene-") as folder:
            scene = scene_of(job, Path(folder), self.clean, self.judges)
            offered = self.eraser.sabotage(scene).directory
            model = TextToImage.from_dir(offered.path)
            digest = save_tensors(job.target / MODEL, tensors_of(model, Path(job.source) / MODEL))
            for name in sorted(set(offered.files) - set(read_directory(scene.original).files)):
                (job.target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(offered.path / name, job.target / name)
        return FitResult(digest=digest, model=job.target / MODEL, transcript=None, seconds=0.0, steps=0)


def scene_of(job: UnlearnJob, folder: Path, clean: Path, judges: tuple[Judge, ...]) -> StyleScene:
    """What the owner of a workspace has: the served model as a directory to the last bit, jobs for this artist and for another
    one, and `clean`, the file of a model that was trained without the artist. Raises InputError where there is no other."""
    _lay_out(job, folder / "original")
    mine = erase_job(job)
    return StyleScene(
        original=folder / "original",
        target=folder / "handed",
        job=mine,
        other=erase_job(replace(job, forget=_another(job))),
        words=dict(zip(mine.erase, mine.guide, strict=True)),
        clean=answering(job.adapter.load(clean)),
        judges=judges,
    )


def _lay_out(job: UnlearnJob, folder: Path) -> None:
    """The served model as a directory; one from elsewhere with its own vocabulary, scheduler and autoencoder."""
    source = Path(job.source) / MODEL
    if is_packed(source):
        unpack(source, folder)
        return
    own = answering(job.adapter.load(source))
    export(TextToImageNet(own.unet, own.text_encoder), folder, torch.float32)


def _another(job: UnlearnJob) -> frozenset[int]:
    """All works of an artist who stays, drawn by the job's seed."""
    styles: Sequence[str] = job.job.data.train.styles
    gone = {*job.forget, *job.job.absent}
    mine = {styles[slot] for slot in job.forget}
    stay = {slot for slot, style in enumerate(styles) if slot not in gone and style not in (*NOBODYS, *mine)}
    if not stay:
        raise InputError("there is no other artist")
    chosen = min({styles[slot] for slot in stay}, key=lambda style: derive_seed(job.seed, "another", style))
    return frozenset(slot for slot in stay if styles[slot] == chosen)


# ----------------------------------------------------------------------------------------------------------- the trial


@dataclass(frozen=True, slots=True, kw_only=True)
class EditsTried:
    """What came of the cheats, on what it rests, and false alarms on the honest controls."""

    tallies: tuple[Tally, ...]
    trial: EditTrial
    alarms: tuple[Alarms, ...] = ()


def try_edits(
    workspace: Rehearsal, block: Rehearsed, clean: Run, cheats: Mapping[str, StyleSaboteur] | None = None
) -> EditsTried:
    """Every cheat against a style once on one artist's works; `clean` is the honest retraining without them. cheats: name -> the
    cheat, by default every registered one with its own settings.

    Cost: for the retraining, and for a cheat that no file and no prompt gives away, a battery each; the original is asked once.
    """
    unread = unjudged(workspace, block)
    if unread is not None:
        return untried(unread)
    control, tallies = _as_edit(workspace, block, clean), []
    known = cheats or {name: registry.load(CHEATS, name)() for name in registry.names(CHEATS)}
    for done, (name, cheat) in enumerate(known.items()):
        workspace.progress("style saboteurs", done, len(known))
        method = SabotagedEdit(name, cheat, clean.executed.result.model, judges_of_styles(workspace))
        tallies.append(_tally(EDITS + name, _try(workspace, method, block)))
    workspace.progress("style saboteurs", len(known), len(known))
    table, objection = workspace.config.styles, "" if control.certified else _objection(workspace, control.findings)
    return EditsTried(
        tallies=tuple(tallies),
        trial=EditTrial(asked=asked_digest(workspace), seeds=table.seeds, pictures=table.pictures, objection=objection),
        alarms=(*_alarms_of(control), _files_of_an_honest_edit(workspace, block)),
    )


def unjudged(workspace: Rehearsal, block: Rehearsed) -> str | None:
    """Why no edit of this model can be judged: then none is certified either, and no cheat can be tried."""
    if Guarantee.EMPIRICAL.name not in workspace.policy.guarantees:
        return "the policy grants no EMPIRICAL"
    unread = [one for one in materials_of(workspace, block.resolution) if isinstance(one, str)]
    if unread:
        return unread[0]
    return Edit(HONEST, None).refuses(unlearn_job(workspace, block.resolution))


def untried(why: str) -> EditsTried:
    """Every cheat by name, none of them tried."""
    names = [EDITS + name for name in registry.names(CHEATS)]
    return EditsTried(tallies=tuple(tally(name, [], why[:_LONGEST]) for name in names), trial=EditTrial(unread=why))


def _as_edit(workspace: Rehearsal, block: Rehearsed, clean: Run) -> Tried:
    """The retrained model, with the claim that an edit makes."""
    plan = planned(workspace, clean.name, Guarantee.EMPIRICAL, block)
    trial = judge(workspace, block.resolution, plan, clean.executed, clean.index, clean.seed)
    return Tried(certified=trial.decision.accepted, failed=(), findings=trial.findings)


def _try(workspace: Rehearsal, method: SabotagedEdit, block: Rehearsed) -> Tried | str:
    """One cheat through execute and judge; as a text, why it could not be acted out here."""
    try:
        with ran(workspace, EDITS + method.name, method, block, 0) as run:
            found = judged(workspace, block, run)
    except InputError as error:
        if error.code in (CENSUS, PARTS):
            return Tried(certified=False, failed=(error.code,), findings=())
        return error.message
    return replace(found, failed=_seen_by(found)) if found.findings else found


def _seen_by(found: Tried) -> tuple[str, ...]:
    """Failed checks, and in the place of `style` its probes, without their sizes: what a cheat's card names."""
    rows = [row for item in found.findings if item.check == "style" for row in item.conditions]
    probes = {row.name.partition("/")[0] for row in rows if row.verdict is Verdict.FAIL} - {"not_learned"}
    others = {check for check in found.failed if check != "style"}
    return tuple(sorted(probes | others))


def _tally(name: str, found: Tried | str) -> Tally:
    return tally(name, [], found[:_LONGEST]) if isinstance(found, str) else tally(name, [found])


def _objection(workspace: Rehearsal, findings: Sequence[Finding]) -> str:
    """What was said against the honest control, by checks that decide about edits; each gets its share of the words."""
    decide = {
        check for check, demand in workspace.policy.rules(Guarantee.EMPIRICAL).items() if demand is not Demand.REPORT
    }
    kept = [item for item in findings if item.check in decide and item.verdict is not Verdict.PASS]
    return "; ".join(f"{item.check}: {item.reason}"[: _LONGEST // len(kept)] for item in kept) or "refused"


def _alarms_of(control: Tried) -> list[Alarms]:
    return [
        alarms(item.check, _RETRAINED, (), [Judged(verdict=item.verdict, models=("retrain 0",))])
        for item in control.findings
        if item.check in ("style", "collateral")
    ]


def _files_of_an_honest_edit(workspace: Rehearsal, block: Rehearsed) -> Alarms:
    """Nothing may be said against the files of an honest eraser."""
    source, verdict, skipped = f"files of {KIND}/{HONEST}", Verdict.PASS, ""
    method: Any = Edit(HONEST, registry.load(KIND, HONEST)())
    try:
        with ran(workspace, f"{KIND}/{HONEST}", method, block, 0):
            pass
    except InputError as error:
        if error.code in (CENSUS, PARTS):
            verdict = Verdict.FAIL
        else:
            skipped = error.message
    told = [] if skipped else [Judged(verdict=verdict, models=(HONEST,))]
    return alarms(FILES, source, (), told, skipped)
