"""Before a style is edited: was it learned at all? The untouched model is asked, and the answer is logged.

The question is in the log before its seed is drawn. A style is asked for once a model: who asks again gets the answer that is
there, and whoever asks otherwise (other counts) does so at half of the error that was left, so that nobody asks until it fits.
What was once shown to be learned stays so on that model, whatever else is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.codec import canonical, decimal, decode, digest_of, encode, loads
from expunge.core.errors import Held, InputError, IntegrityError
from expunge.core.finding import Condition, Finding, Verdict
from expunge.core.styles import StyleRung
from expunge.data._styles import STYLES
from expunge.evidence.commitment import keyed
from expunge.evidence.durable import write_file
from expunge.evidence.not_learned import ASKED, CHECK, FOUND, LEVEL, UNANSWERED
from expunge.stats.baseline import Baseline, judge_baseline
from expunge.stats.spending import spent_alpha
from expunge.stats.styles import PROMPTS, Answer, Arms, Counted, Gates
from expunge.training.judging.sight import require_seeing
from expunge.training.text_to_image.testbed import suspect
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan, Subjects, run_battery
from expunge.workflow.styles.evidence import drawing, judges_of_styles, mistakes_of, others_of, sights_of
from expunge.workflow.styles.kept import FILE, KeptBattery, keep
from expunge.workflow.styles.material import SCALE, Material, material_for, style_handle

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.workspace import Workspace

PROBES = (
    ProbePlan(label="direct", probe="direct"),
    ProbePlan(label="reworded", probe="reworded"),
    ProbePlan(label="textual_inversion", probe="textual_inversion"),
    ProbePlan(label="soft_prompt/2", probe="soft_prompt", settings={"vectors": 2}),
)
"""By words, by one learned word and by two learned vectors: with more, an attack draws any style out of any model. At 30 % of its
budget the one word found a trained artist in 2 of 8 runs on the checkpoint that ships, so it is not asked alone."""
FEWEST = 12
"""Attack seeds below which nothing is shown at the first question's level, even where nothing comes: with 8 the limit of a style
that no run brings is .118 above controls, with 12 it is .089, and .10 is allowed."""
FINDING, SEEDED = "finding.json", "checkpoint.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was found about a style on the served model: `index` of the question in the log, `battery` its digest there; `others`:
    what came of every other question about the style on this model, in the log's order."""

    finding: Finding
    battery: str
    index: int
    attempt: int
    others: tuple[str, ...]
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
    """Ask the served model for a style, or give the answer that is there: one that shows that the style was learned, whichever
    question it was given to, or else the one to this very question. Raises InputError where nobody can be asked for under this
    name, Held where there is no trained artist to show that anything is seen, JudgeBlind where a judge does not see this style;
    nothing is logged then."""
    question = _question(workspace, style)
    told = _answers(workspace, question.style, question.model)
    for one in (*_learned(told), *(one for one in told if one.battery == question.digest)):
        return one.read(workspace)
    require_seeing(sights_of(workspace, question.material, judges_of_styles()))
    entry, folder = _commit(workspace, question)
    attempt = int(entry.payload["attempt"])
    finding = _measured(workspace, question, attempt, folder)
    write_file(folder / FINDING, canonical(encode(finding)), mode=0o600)
    payload = {"battery": question.digest, "attempt": attempt, "finding": digest_of(finding)}
    workspace.log.append(FOUND, {**payload, "verdict": finding.verdict})
    workspace.log.checkpoint()
    told = _answers(workspace, question.style, question.model)
    return next(one for one in told if one.index == entry.index).read(workspace)


def answered(workspace: Workspace, style: str) -> Answered | None:
    """The answer about this style on the served model: one that shows that it was learned, or else the newest; nothing is asked.
    Raises IntegrityError where its file is not what was logged."""
    told = _answers(workspace, style_handle(workspace, style), workspace.served().digest)
    found = (*_learned(told), *reversed(told))
    return found[0].read(workspace) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """An answered question as the log has it."""

    index: int
    battery: str
    attempt: int
    finding: str
    verdict: str
    others: tuple[str, ...]

    def read(self, workspace: Workspace) -> Answered:
        """With the finding itself. Raises IntegrityError where its file is another one."""
        folder = _folder(workspace, self.battery)
        finding = decode(Finding, loads((folder / FINDING).read_bytes(), what=FINDING), what=FINDING)
        if digest_of(finding) != self.finding:
            raise IntegrityError("the answer about a style is not the one that was logged", expected=self.finding)
        return Answered(
            finding=finding,
            battery=self.battery,
            index=self.index,
            attempt=self.attempt,
            others=self.others,
            folder=folder,
        )


def _answers(workspace: Workspace, style: str, model: str) -> list[_Told]:
    """Every answered question about a style on a model, oldest first."""
    asked = _asked(workspace, style, model)
    told = {_which(entry): entry.payload for entry in workspace.log.entries() if entry.kind == FOUND}
    said = [str(told[_which(entry)]["verdict"]) if _which(entry) in told else UNANSWERED for entry in asked]
    return [
        _Told(
            index=entry.index,
            battery=str(entry.payload["battery"]),
            attempt=int(entry.payload["attempt"]),
            finding=str(told[_which(entry)]["finding"]),
            verdict=said[number],
            others=(*said[:number], *said[number + 1 :]),
        )
        for number, entry in enumerate(asked)
        if _which(entry) in told
    ]


def _learned(told: Sequence[_Told]) -> list[_Told]:
    return [one for one in told if one.verdict == Verdict.FAIL.value]


def _which(entry: Entry) -> tuple[str, int]:
    """A question, as the log tells it from others."""
    return str(entry.payload["battery"]), int(entry.payload["attempt"])


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
        seeds=max(table.seeds, FEWEST),
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


def _asked(workspace: Workspace, style: str, model: str) -> list[Entry]:
    entries = [entry for entry in workspace.log.entries() if entry.kind == ASKED]
    return [entry for entry in entries if (entry.payload["style"], entry.payload["model"]) == (style, model)]


def _commit(workspace: Workspace, question: _Question) -> tuple[Entry, Path]:
    """Log the question; one that a crash left unanswered is taken up again, seed and all."""
    earlier, folder = _asked(workspace, question.style, question.model), _folder(workspace, question.digest)
    for entry in reversed(earlier):
        if entry.payload["battery"] == question.digest and (folder / SEEDED).exists():
            return entry, folder
    attempt = len(earlier) + 1
    if attempt > workspace.policy.limits.max_attempts:
        raise Held("this style was asked for too often on this model", got=str(len(earlier)))
    payload = {"battery": question.digest, "style": question.style, "model": question.model, "attempt": attempt}
    entry = workspace.log.append(ASKED, payload)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(folder / SEEDED, workspace.log.checkpoint().encode(), mode=0o600)
    return entry, folder


def _folder(workspace: Workspace, battery: str) -> Path:
    return workspace.root / "store" / "baselines" / battery.removeprefix("sha256:")[:32]


def _measured(workspace: Workspace, question: _Question, attempt: int, folder: Path) -> Finding:
    seed = keyed(workspace.secret("baseline"), (folder / SEEDED).read_bytes()).hex()[:32]
    plan = replace(question.plan, seed=seed)
    arms, known, given = counted(workspace, question.material, plan, question.known, folder / "battery")
    mistakes = mistakes_of(workspace, plan.target, judges_of_styles())
    level = 1 - spent_alpha(LEVEL, attempt)
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
