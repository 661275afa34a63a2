"""Before a style is edited: was it learned at all? The untouched model is asked, and the answer is logged.

The question is in the log before its seed is drawn. A style is asked for once a model: who asks again gets the answer that is
there, and whoever asks otherwise (other counts) does so at half of the error that was left, so that nobody asks until it fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.core.codec import canonical, decimal, decode, digest_of, encode, loads
from expunge.core.errors import Held, InputError, IntegrityError
from expunge.core.finding import Condition, Finding, Verdict
from expunge.core.styles import StyleRung
from expunge.data._styles import STYLES
from expunge.evidence.commitment import keyed
from expunge.evidence.durable import write_file
from expunge.evidence.not_learned import ASKED, CHECK, FOUND
from expunge.stats.baseline import Baseline, judge_baseline
from expunge.stats.styles import PROMPTS, Answer, Arms, Counted, Gates
from expunge.training.text_to_image.testbed import suspect
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan, Subjects, run_battery
from expunge.workflow.styles.evidence import drawing, judges_of_styles, mistakes_of, others_of
from expunge.workflow.styles.kept import FILE, KeptBattery, keep
from expunge.workflow.styles.material import SCALE, Material, material_for, style_handle

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

PROBES = (
    ProbePlan(label="direct", probe="direct"),
    ProbePlan(label="reworded", probe="reworded"),
    ProbePlan(label="textual_inversion", probe="textual_inversion"),
    ProbePlan(label="soft_prompt/2", probe="soft_prompt", settings={"vectors": 2}),
)
"""By words, by one learned word and by two learned vectors: with more, an attack draws any style out of any model. At 30 % of its
budget the one word found a trained artist in 2 of 8 runs on the checkpoint that ships, so it is not asked alone."""
LEVEL = 0.05
FINDING, SEEDED = "finding.json", "checkpoint.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was found about a style on the served model: `index` of the question in the log, `battery` its digest there."""

    finding: Finding
    battery: str
    index: int
    attempt: int
    folder: Path

    @property
    def learned(self) -> bool:
        """Anything but a shown "not learned" counts as learned: what was not shown excuses nobody."""
        return self.finding.verdict is not Verdict.PASS


@dataclass(frozen=True, kw_only=True)
class _Question:
    """The battery without its seed, and the trained artist who shows that it sees anything."""

    material: Material
    plan: BatteryPlan
    known: str
    known_style: str
    style: str
    model: str

    @property
    def digest(self) -> str:
        """As the log has it: handles in the place of names, so that nobody can try all artists against it."""
        return question_digest(replace(self.plan, target=self.style), self.known_style, self.model)


def question_digest(plan: BatteryPlan, known: str, model: str) -> str:
    """Of a question with handles in the place of names; the seed is drawn after it is logged, so it has none."""
    asked = encode(replace(plan, seed=""))
    return digest_of({"plan": asked, "known": known, "model": model, "level": decimal(LEVEL)})


def ask_first(workspace: Workspace, style: str) -> Answered:
    """Ask the served model for a style, or give the answer that is there. Raises InputError where nobody can be asked for under
    this name, Held where there is no trained artist to show that anything is seen."""
    question = _question(workspace, style)
    before = answered(workspace, style)
    if before is not None and before.battery == question.digest:
        return before
    index, attempt, folder = _commit(workspace, question)
    finding = _measured(workspace, question, attempt, folder)
    write_file(folder / FINDING, canonical(encode(finding)), mode=0o600)
    payload = {"battery": question.digest, "finding": digest_of(finding), "verdict": finding.verdict}
    workspace.log.append(FOUND, payload)
    workspace.log.checkpoint()
    return Answered(finding=finding, battery=question.digest, index=index, attempt=attempt, folder=folder)


def answered(workspace: Workspace, style: str) -> Answered | None:
    """The newest answer about this style on the served model; nothing is asked. Raises IntegrityError where its file is not
    what was logged."""
    asked = _asked(workspace, style_handle(workspace, style), workspace.served().digest)
    told = {
        entry.payload["battery"]: entry.payload["finding"] for entry in workspace.log.entries() if entry.kind == FOUND
    }
    done = [entry for entry in asked if entry.payload["battery"] in told]
    if not done:
        return None
    battery = str(done[-1].payload["battery"])
    folder = _folder(workspace, battery)
    finding = decode(Finding, loads((folder / FINDING).read_bytes(), what=FINDING), what=FINDING)
    if digest_of(finding) != told[battery]:
        raise IntegrityError("the answer about a style is not the one that was logged", expected=told[battery])
    attempt = int(done[-1].payload["attempt"])
    return Answered(finding=finding, battery=battery, index=done[-1].index, attempt=attempt, folder=folder)


def unasked(workspace: Workspace, style: str) -> str:
    """Why nobody can be asked for under this name here; empty = they can."""
    if workspace.policy.kind != "generator":
        return "only a text-to-image model has styles"
    found = material_for(workspace, style)
    return found if isinstance(found, str) else ""


def _question(workspace: Workspace, style: str) -> _Question:
    material = material_for(workspace, style)
    if isinstance(material, str):
        raise InputError("the style cannot be asked for", got=material)
    near = {style, *STYLES[style].neighbours}
    others = [name for name in material.retained if name not in near]
    if not others:
        raise Held(
            "no other artist is in the training data, so nothing shows that a learned style would be seen",
            hint="ask for the deletion of the works: expunge request --block",
        )
    table = workspace.config.styles
    plan = BatteryPlan(
        target=style,
        controls=material.controls,
        objects=material.objects,
        judges={judge.name: judge.digest for judge in judges_of_styles()},
        seed="",
        probes=PROBES,
        seeds=table.seeds,
        pictures=table.pictures,
        steps=table.steps,
        guidance=table.guidance,
        budget=table.budget,
    )
    return _Question(
        material=material,
        plan=plan,
        known=others[0],
        known_style=style_handle(workspace, others[0]),
        style=style_handle(workspace, style),
        model=workspace.served().digest,
    )


def _asked(workspace: Workspace, style: str, model: str) -> list[Any]:
    entries = [entry for entry in workspace.log.entries() if entry.kind == ASKED]
    return [entry for entry in entries if (entry.payload["style"], entry.payload["model"]) == (style, model)]


def _commit(workspace: Workspace, question: _Question) -> tuple[int, int, Path]:
    """Log the question; one that a crash left unanswered is taken up again, seed and all."""
    earlier, folder = _asked(workspace, question.style, question.model), _folder(workspace, question.digest)
    for entry in earlier:
        if entry.payload["battery"] == question.digest and (folder / SEEDED).exists():
            return entry.index, int(entry.payload["attempt"]), folder
    attempt = len(earlier) + 1
    if attempt > workspace.policy.limits.max_attempts:
        raise Held("this style was asked for too often on this model", got=str(len(earlier)))
    payload = {"battery": question.digest, "style": question.style, "model": question.model, "attempt": attempt}
    entry = workspace.log.append(ASKED, payload)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(folder / SEEDED, workspace.log.checkpoint().encode(), mode=0o600)
    return entry.index, attempt, folder


def _folder(workspace: Workspace, battery: str) -> Path:
    return workspace.root / "store" / "baselines" / battery.removeprefix("sha256:")[:32]


def _measured(workspace: Workspace, question: _Question, attempt: int, folder: Path) -> Finding:
    seed = keyed(workspace.secret("baseline"), (folder / SEEDED).read_bytes()).hex()[:32]
    plan = replace(question.plan, seed=seed)
    arms, known, given = counted(workspace, question.material, plan, question.known, folder / "battery")
    mistakes = mistakes_of(workspace, plan.target, judges_of_styles())
    level = 1 - LEVEL / 2 ** (attempt - 1)
    found = judge_baseline(arms, known, Gates(mistakes=mistakes), level=level)
    battery = KeptBattery(
        plan=plan,
        digest=question.digest,
        models=dict.fromkeys(("original", "candidate"), question.model),
        arms=arms,
        mistakes=mistakes,
        given=given,
        known=question.known_style,
        known_counts=known,
    )
    keep(workspace, folder / FILE, battery)
    return _finding(found, arms, {"battery": question.digest, "scale": _scale(plan), "level": decimal(level)}, mistakes)


def counted(
    workspace: Workspace, material: Material, plan: BatteryPlan, known: str, folder: Path
) -> tuple[dict[str, Arms], dict[str, Counted], dict[str, str]]:
    """The served model as both arms, so that it is drawn once; the same probes for a trained artist; and digests of what the
    probes were given."""
    served = workspace.served()
    model = served.digest, drawing(workspace, workspace.root / served.run / "model.safetensors")
    subjects = Subjects(
        models={"original": model, "candidate": model},
        suspects={**material.suspects, known: suspect(known, material.photos)},
        photos=material.photos,
        unrelated=others_of(workspace, material),
    )
    judges = judges_of_styles()
    arms = run_battery(plan, subjects, judges, folder, workspace.progress)
    seen = run_battery(replace(plan, target=known), subjects, judges, folder, workspace.progress)
    return arms, {label: found.original for label, found in seen.items()}, subjects.given(plan.target)


def _scale(plan: BatteryPlan) -> str:
    return (
        f"{SCALE}; {plan.seeds} seeds of {plan.pictures} pictures a probe, attacks at {plan.budget} % of their budget"
    )


def _finding(found: Baseline, arms: Mapping[str, Arms], details: Mapping[str, str], mistakes: float) -> Finding:
    direct = next(answer for answer in found.answers if answer.label == PROMPTS[0])
    controls = float(arms[PROMPTS[0]].runs("controls").rates.mean())
    rung = {"rung": StyleRung.NOT_LEARNED.value} if found.verdict is Verdict.PASS else {}
    return Finding(
        check=CHECK,
        question="Does the untouched model draw the style more often than styles that no training saw?",
        statistic="pictures in the style when asked by the artist's name (share)",
        verdict=found.verdict,
        reason=found.reason,
        estimate=direct.rate,
        limit=direct.at_most,
        original=found.seen,
        reference=controls,
        n=sum(item.original.pictures * len(item.original.any) for item in arms.values()),
        conditions=tuple(map(_condition, found.answers)),
        details={**details, **rung, "mistakes": decimal(mistakes), "seen": "original = a trained artist, asked alike"},
    )


def _condition(answer: Answer) -> Condition:
    estimate = answer.rate if answer.left is None else answer.left.estimate
    limit = answer.at_most if answer.left is None else answer.left.high
    return Condition(name=answer.label, verdict=answer.verdict, estimate=estimate, limit=limit, note=answer.reason)
