"""Before a style is edited: was it learned at all? The untouched model is asked, and the answer is logged.

The question is in the log before its seed, which follows from the log up to it. A style is asked for once a model: who asks again
gets the answer that is there, and whoever asks otherwise (other counts) does so at half of the error that was left, so that
nobody asks until it fits. A question that was killed is answered before any other is asked.
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
from expunge.evidence.commitment import keyed
from expunge.evidence.durable import storage_errors, write_file
from expunge.evidence.not_learned import ALPHA, ASKED, CHECK, FOUND, LEAST, MOST_GUIDANCE, RUNS, Scale
from expunge.stats.baseline import Baseline, judge_baseline
from expunge.stats.spending import spent_alpha
from expunge.stats.styles import PROMPTS, Answer, Arms, Counted, Gates
from expunge.training.judging.judge import JudgeBlind
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan, Subjects, run_battery
from expunge.workflow.styles.evidence import drawing, judges_of_styles, looked_through, mistakes_of, others_of
from expunge.workflow.styles.issued import withdraw
from expunge.workflow.styles.kept import FILE, KeptBattery, keep
from expunge.workflow.styles.material import Material, material_for, style_handle, style_salt, who_is
from expunge.workflow.styles.questions import FINDING, Answered, Told, answers, asked_about, folder_of, unanswered
from expunge.workflow.styles.vouching import check_vouched

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.workspace import Workspace

PROBES = (
    ProbePlan(label="direct", probe="direct"),
    ProbePlan(label="reworded", probe="reworded"),
    ProbePlan(label="textual_inversion", probe="textual_inversion"),
    ProbePlan(label="soft_prompt/2", probe="soft_prompt", settings={"vectors": 2}),
)
"""By words, by one learned word and by two learned vectors: with more, an attack draws any style out of any model."""
QUESTION = "question.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A question as it lies in its folder."""

    plan: BatteryPlan
    known: str


@dataclass(frozen=True, kw_only=True)
class _Question:
    """The battery, and the trained artist who shows that it sees anything."""

    material: Material
    plan: BatteryPlan
    known: str
    known_style: str
    style: str
    model: str
    salt: str

    @property
    def digest(self) -> str:
        """As the log has it: handles in the place of names, so that nobody can try all artists against it."""
        return question_digest(self.kept.plan, self.known_style, self.model, self.salt)

    @property
    def kept(self) -> _Kept:
        """What it takes to go on with it after a crash, with handles in the place of names, and without the seed."""
        return _Kept(plan=replace(self.plan, target=self.style, seed=""), known=self.known_style)


def question_digest(plan: BatteryPlan, known: str, model: str, salt: str) -> str:
    """Of a question with handles in the place of names; the seed is drawn after it is logged, so it has none. `salt` is the
    style's own: the controls are all that there are but the target."""
    asked = encode(replace(plan, seed=""))
    return digest_of({"plan": asked, "known": known, "model": model, "level": decimal(ALPHA), "salt": salt})


def ask_first(workspace: Workspace, style: str) -> Answered:
    """Ask the served model for a style, or give the answer that is there: one that shows that the style was learned, whichever
    question it was given to, or else the one to this very question. Raises InputError where nobody can be asked for under this
    name, Held where there is no trained artist to show that anything is seen, and where the answer could not be stated because
    no self-test vouches for it, JudgeBlind where a judge does not see this style: nothing is logged then. Where the style was
    learned, statements that say otherwise are withdrawn."""
    question = _question(workspace, style)
    for killed in unanswered(workspace, question.style, question.model):
        _answer(workspace, _taken_up(workspace, question, killed), killed)
    if not _told(workspace, question):
        check_vouched(workspace)
        _check_judges(workspace, question.material)
        _answer(workspace, question, _commit(workspace, question))
    found = _told(workspace, question)[0].read(workspace)
    if found.finding.verdict is not Verdict.FAIL:
        return found
    return replace(found, withdrawn=withdraw(workspace, question.style, question.model))


def _check_judges(workspace: Workspace, material: Material) -> None:
    """Before a question is spent: does whoever looks see anything? Raises JudgeBlind."""
    _, _, why = looked_through(workspace, material, judges_of_styles(workspace))
    if why:
        raise JudgeBlind(why, hint="use another judge for this style, or make it of more works")


def _told(workspace: Workspace, question: _Question) -> list[Told]:
    """Answers that show that the style was learned, and then the one to this very question."""
    told = answers(workspace, question.style, question.model)
    return [*_learned(told), *(one for one in told if one.battery == question.digest)]


def answered(workspace: Workspace, style: str) -> Answered | None:
    """The answer about this style on the served model: one that shows that it was learned, or else the newest; nothing is asked.
    Raises IntegrityError where its file is not what was logged."""
    told = answers(workspace, style_handle(workspace, style), workspace.served().digest)
    found = (*_learned(told), *reversed(told))
    return found[0].read(workspace) if found else None


def _learned(told: Sequence[Told]) -> list[Told]:
    return [one for one in told if one.verdict == Verdict.FAIL.value]


def unasked(workspace: Workspace, style: str) -> str:
    """Why nobody can be asked for under this name here; empty = they can."""
    if workspace.policy.kind != "generator":
        return "only a text-to-image model has styles"
    found = material_for(workspace, style)
    return found if isinstance(found, str) else ""


def unstated(workspace: Workspace, style: str) -> str:
    """Why no statement could say that the style was not learned; empty = one could. The words of a statement have the testbed's
    scale in them, which is not that of declared artists."""
    if workspace.config.styles.artists is not None:
        return "a statement about a style alone is made of the testbed's artists only, not of declared ones"
    return unasked(workspace, style)


def _question(workspace: Workspace, style: str) -> _Question:
    material = material_for(workspace, style)
    if isinstance(material, str):
        raise InputError("the style cannot be asked for", got=material)
    near = {style, *material.roster.near(style)}
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
        judges={judge.name: judge.digest for judge in judges_of_styles(workspace)},
        seed="",
        probes=PROBES,
        seeds=max(table.seeds, LEAST.seeds),
        pictures=max(table.pictures, LEAST.pictures),
        steps=max(table.steps, LEAST.steps),
        guidance=decimal(min(max(float(table.guidance), LEAST.guidance), MOST_GUIDANCE)),
        budget=max(table.budget, LEAST.budget),
    )
    return _Question(
        material=material,
        plan=plan,
        known=others[0],
        known_style=style_handle(workspace, others[0]),
        style=style_handle(workspace, style),
        model=workspace.served().digest,
        salt=style_salt(workspace, style),
    )


def _commit(workspace: Workspace, question: _Question) -> Entry:
    """Log the question, after what it takes to go on with it is on disk."""
    earlier = len(asked_about(workspace, question.style, question.model))
    if earlier >= workspace.policy.limits.max_attempts:
        raise Held("this style was asked for too often on this model", got=str(earlier))
    folder = folder_of(workspace, question.digest)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(folder / QUESTION, canonical(encode(question.kept)), mode=0o600)
    payload = {"battery": question.digest, "style": question.style, "model": question.model, "attempt": earlier + 1}
    entry = workspace.log.append(ASKED, payload)
    workspace.log.checkpoint()
    return entry


def _taken_up(workspace: Workspace, now: _Question, killed: Entry) -> _Question:
    """A question that was killed before it told, as it was asked: whoever sees an answer coming and kills it has asked. Raises
    IntegrityError where what it asked is not there any more, and then this style is not asked for again on this model."""
    file = folder_of(workspace, str(killed.payload["battery"])) / QUESTION
    with storage_errors(file, "read question"):
        kept = decode(_Kept, loads(file.read_bytes(), what=QUESTION), what=QUESTION)
    known, target = who_is(workspace, kept.known) or "", now.material.target
    question = replace(now, plan=replace(kept.plan, target=target), known=known, known_style=kept.known)
    if not known or question.digest != killed.payload["battery"]:
        raise IntegrityError(
            "the question that was killed is not the one that was logged", expected=str(killed.payload["battery"])
        )
    return question


def _answer(workspace: Workspace, question: _Question, asked: Entry) -> None:
    """Draw, judge and log. The seed follows from the log up to the question, so it is the same whenever it is answered."""
    attempt, folder = int(asked.payload["attempt"]), folder_of(workspace, question.digest)
    seed = keyed(workspace.secret("baseline"), workspace.log.root(asked.index + 1)).hex()[:32]
    finding = _measured(workspace, replace(question, plan=replace(question.plan, seed=seed)), attempt, folder)
    write_file(folder / FINDING, canonical(encode(finding)), mode=0o600)
    payload = {"battery": question.digest, "attempt": attempt, "finding": digest_of(finding)}
    workspace.log.append(FOUND, {**payload, "verdict": finding.verdict})
    workspace.log.checkpoint()


def _measured(workspace: Workspace, question: _Question, attempt: int, folder: Path) -> Finding:
    plan = question.plan
    arms, known, given = counted(workspace, question.material, plan, question.known, folder / "battery")
    mistakes = mistakes_of(workspace, question.material, judges_of_styles(workspace))
    level = 1 - spent_alpha(ALPHA, attempt)
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
    details = {"battery": question.digest, "level": decimal(level), **_scale(plan).details}
    return _finding(found, arms, details, mistakes)


def counted(
    workspace: Workspace, material: Material, plan: BatteryPlan, known: str, folder: Path
) -> tuple[dict[str, Arms], dict[str, Counted], dict[str, str]]:
    """The served model as both arms, so that it is drawn once; the same probes for a trained artist; and digests of what the
    probes were given."""
    served = workspace.served()
    model = served.digest, drawing(workspace, workspace.root / served.run / "model.safetensors")
    subjects = Subjects(
        models={"original": model, "candidate": model},
        suspects={**material.suspects, known: material.roster.suspect(known)},
        photos=material.photos,
        unrelated=others_of(workspace, material),
    )
    judges = judges_of_styles(workspace)
    arms = run_battery(plan, subjects, judges, folder, workspace.progress)
    seen = run_battery(replace(plan, target=known), subjects, judges, folder, workspace.progress)
    return arms, {label: found.original for label, found in seen.items()}, subjects.given(plan.target)


def _scale(plan: BatteryPlan) -> Scale:
    return Scale(
        seeds=plan.seeds,
        pictures=plan.pictures,
        steps=plan.steps,
        guidance=float(plan.guidance),
        budget=plan.budget,
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
        conditions=tuple(row for answer in found.answers for row in _conditions(answer)),
        details={**details, **rung, "mistakes": decimal(mistakes), "seen": "original = a trained artist, asked alike"},
    )


def _conditions(answer: Answer) -> list[Condition]:
    """Of words one; of an attack how much it brings above controls, and how many of its runs bring the style back."""
    if answer.label in PROMPTS:
        rows = [(answer.label, answer.rate, answer.at_most)]
    elif answer.left is None or answer.drawn is None:
        rows = [(answer.label, None, None), (answer.label + RUNS, None, None)]
    else:
        left, drawn = answer.left, answer.drawn
        rows = [
            (answer.label, left.estimate, left.high),
            (answer.label + RUNS, drawn.recovered / drawn.runs, drawn.at_most),
        ]
    return [
        Condition(name=name, verdict=answer.verdict, estimate=estimate, limit=limit, note=answer.reason)
        for name, estimate, limit in rows
    ]
