"""Step 5 for a text-to-image model: candidate and original are asked for the style, for controls, and for everybody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from expunge.core.codec import digest_of, encode
from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.core.styles import JudgeSight, StyleEvidence, StyleRung
from expunge.data._pictures import Pictures
from expunge.stats.intervals import share_at_most
from expunge.stats.recovery import fewest_seeds
from expunge.stats.spending import limit_level
from expunge.stats.style_collateral import Kept
from expunge.stats.styles import MOST_MISTAKES, Arms, Gates, verdict_of
from expunge.training.judging.judge import Judge, JudgeBlind, JudgeMissing, votes_of
from expunge.training.judging.sight import accuracy_of, require_seeing, sight_of
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.answering import answering
from expunge.training.text_to_image.probing import Wording
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.workflow.styles.battery import DEFAULT_PROBES, BatteryPlan, ProbePlan, Subjects, run_battery
from expunge.workflow.styles.collateral import Asking, ask_for
from expunge.workflow.styles.declared import committed
from expunge.workflow.styles.judges import check_families
from expunge.workflow.styles.kept import KeptBattery, file_of, keep
from expunge.workflow.styles.material import Material, materials_of, shown_to_judges
from expunge.workflow.styles.sheet import NEIGHBOURS, Asked, keep_sheet, sheet_of

if TYPE_CHECKING:
    from expunge.core.plan import Plan
    from expunge.workflow.execute import Executed
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

PROMPTS = ("direct", "reworded")
"""What is asked where the proof is provenance: whether the name still brings the style. Attacks would say nothing more."""


def asked_digest(workspace: Workspace) -> str:
    """What a plan fixes of the battery before anything runs: probes, counts, judges, and who was declared to be asked for. Seed
    and style are drawn and named by the case."""
    declared = {} if workspace.config.styles.artists is None else {"artists": committed(workspace)}
    return digest_of(
        {
            "battery": encode(workspace.config.styles.model_dump(exclude={"artists"})),
            **declared,
            "probes": {
                one.value: [encode(probe) for probe in _probes(one)] for one in (Guarantee.EXACT, Guarantee.EMPIRICAL)
            },
            "judges": {judge.name: judge.digest for judge in judges_of_styles(workspace)},
        }
    )


def style_evidence(
    workspace: Workspace, resolution: Resolution, plan: Plan, executed: Executed, seed: int
) -> StyleEvidence:
    """Draw, judge and count, each artist by a battery of their own. Raises what the judges and the battery raise; says in
    `unread` where nothing can be asked."""
    materials, figures = materials_of(workspace, resolution), executed.result.figures
    unread = sorted({one for one in materials if isinstance(one, str)})
    if len(unread) and not any(isinstance(one, Material) for one in materials):
        return StyleEvidence(unread="; ".join(unread), figures=figures)
    original = workspace.root / workspace.served().run / "model.safetensors"
    try:
        models = {
            "original": (workspace.served().digest, drawing(workspace, original)),
            "candidate": (executed.result.digest, drawing(workspace, executed.result.model)),
        }
    except InputError as error:
        return StyleEvidence(unread=str(error), figures=figures)
    found, sheets = [], []
    for number, material in enumerate(materials):
        if isinstance(material, str):
            found.append(StyleEvidence(unread=material, figures=figures))
            continue
        key = derive_seed(f"{seed:x}", "battery", *([number] if number else []))
        part, sheet = _of_artist(workspace, material, plan, executed, models, _Turn(number, len(materials), key))
        found.append(part)
        sheets.append(sheet)
    drawn = [sheet for sheet in sheets if sheet is not None]
    if drawn:
        keep_sheet(executed.folder, {**drawn[0], "rows": [row for sheet in drawn for row in sheet["rows"]]})
    return replace(found[0], further=tuple(found[1:]))


class _Turn(NamedTuple):
    """Which of how many artists, and the seed of their battery."""

    number: int
    artists: int
    seed: str


def _of_artist(
    workspace: Workspace,
    material: Material,
    plan: Plan,
    executed: Executed,
    models: dict[str, tuple[str, TextToImage]],
    turn: _Turn,
) -> tuple[StyleEvidence, dict[str, Any] | None]:
    """One artist, and the sheet of samples; no sheet where nothing was drawn. What stays is asked for in the first turn."""
    figures, judges = executed.result.figures, judges_of_styles(workspace)
    sights, mistakes, why = looked_through(workspace, material, judges)
    if why:
        return StyleEvidence(unread=why, figures=figures, judges=sights), None
    level = limit_level(plan.attempt, turn.artists)
    asked = _battery(workspace, material, plan, turn.seed, judges, level)
    subjects = Subjects(
        models=models, suspects=material.suspects, photos=material.photos, unrelated=others_of(workspace, material)
    )

    def answers(plan: BatteryPlan) -> dict[str, Arms]:
        return run_battery(plan, subjects, judges, workspace.counts_beside(executed.folder), workspace.progress)

    arms = _by_name_first(asked, answers, mistakes, level)
    battery = KeptBattery(
        plan=asked,
        digest=asked.digest,
        models={arm: digest for arm, (digest, _) in models.items()},
        arms=arms,
        mistakes=mistakes,
        given=subjects.given(asked.target),
    )
    keep(workspace, executed.folder / file_of(turn.number), battery)
    others = turn.number == 0 and plan.aims_at is not Guarantee.EXACT
    evidence = StyleEvidence(
        arms=arms,
        kept=_kept(workspace, material, models, judges, asked) if others else (),
        mistakes=mistakes,
        plan=asked.digest,
        scale=f"{material.roster.scale}; {asked.seeds} seeds of {asked.pictures} pictures a probe",
        figures=figures,
        judges=sights,
    )
    return evidence, _sheet(material, models, asked)


def looked_through(
    workspace: Workspace, material: Material, judges: list[Judge]
) -> tuple[tuple[JudgeSight, ...], float, str]:
    """How well each judge sees on real works, how often they see the style where it is not, and why they may say nothing of it:
    empty = they may."""
    sights: tuple[JudgeSight, ...] = ()
    try:
        check_families(judges)
        sights = sights_of(workspace, material, judges)
        require_seeing(sights)
    except (JudgeBlind, JudgeMissing) as unfit:
        return sights, 1.0, unfit.message
    mistakes = mistakes_of(workspace, material, judges)
    if mistakes > MOST_MISTAKES:
        why = f"judges take up to {mistakes:.1%} of others' works for this style; {MOST_MISTAKES:.0%} is allowed"
        return sights, mistakes, why
    return sights, mistakes, ""


def _by_name_first(
    asked: BatteryPlan, answers: Callable[[BatteryPlan], dict[str, Arms]], mistakes: float, level: float
) -> dict[str, Arms]:
    """Attacks cost a hundred times what prompts do, and would add nothing about a style that the original does not draw or
    that the candidate still draws by its name, or of one that draws no pictures: nothing is granted then, whatever they bring."""
    by_name = tuple(probe for probe in asked.probes if probe.label in PROMPTS)
    arms = answers(replace(asked, probes=by_name))
    found = verdict_of(arms, Gates(mistakes=mistakes), level=level)
    settled = found.rung in (StyleRung.NOT_LEARNED, StyleRung.NOT_ERASED) or found.collapsed
    return arms if settled or by_name == asked.probes else answers(asked)


def others_of(workspace: Workspace, material: Material) -> Pictures:
    """Works of the artists who stay."""
    train, stay = workspace.data.train, set(material.retained)
    found: Pictures = train.only([row for row, style in enumerate(train.styles) if style in stay])
    return found


def _sheet(material: Material, models: dict[str, tuple[str, TextToImage]], asked: BatteryPlan) -> dict[str, Any]:
    """The artist by name, the objects alone, and the first of those who stay, before and after."""
    mine = material.suspects[material.target].wording

    def prompts(wording: Wording) -> tuple[str, ...]:
        return tuple(wording.direct(name, 0) for name in material.objects)

    rows = [
        Asked(words="objects in the artist's style, by name", prompts=prompts(mine)),
        Asked(words="the same objects, nobody named", prompts=tuple(mine.neutral(name) for name in material.objects)),
        *(
            Asked(words=f"another artist who stays ({number + 1})", prompts=prompts(material.roster.wording(style)))
            for number, style in enumerate(material.retained[:NEIGHBOURS])
        ),
    ]
    how = Sampling(seed=asked.seed, steps=asked.steps, guidance=float(asked.guidance))
    return sheet_of({"before": models["original"][1], "after": models["candidate"][1]}, rows, how)


def _probes(guarantee: Guarantee) -> tuple[ProbePlan, ...]:
    if guarantee is not Guarantee.EXACT:
        return DEFAULT_PROBES
    return tuple(probe for probe in DEFAULT_PROBES if probe.label in PROMPTS)


def _battery(
    workspace: Workspace, material: Material, plan: Plan, seed: str, judges: list[Judge], level: float
) -> BatteryPlan:
    """Where attacks are tried, with as many seeds as the level takes: with fewer none of them could pass."""
    table = workspace.config.styles
    fewest = 0 if plan.aims_at is Guarantee.EXACT else fewest_seeds(table.pictures, level)
    return BatteryPlan(
        target=material.target,
        controls=material.controls,
        objects=material.objects,
        judges={judge.name: judge.digest for judge in judges},
        seed=seed,
        probes=_probes(plan.aims_at),
        seeds=max(table.seeds, fewest),
        pictures=table.pictures,
        steps=table.steps,
        guidance=table.guidance,
        budget=table.budget,
    )


def _kept(
    workspace: Workspace,
    material: Material,
    models: dict[str, tuple[str, TextToImage]],
    judges: list[Judge],
    asked: BatteryPlan,
) -> tuple[Kept, ...]:
    """Everybody else's styles, before and after."""
    how = Sampling(seed=asked.seed, steps=asked.steps, guidance=float(asked.guidance))
    asking = Asking(objects=material.objects, pictures=workspace.config.styles.retained, how=how)
    pair = models["original"][1], models["candidate"][1]
    found = []
    for number, style in enumerate(material.retained):
        found.append(ask_for(style, material.roster.wording(style), pair, judges, asking))
        workspace.progress("retained styles", number + 1, len(material.retained))
    return tuple(found)


def mistakes_of(workspace: Workspace, material: Material, judges: list[Judge]) -> float:
    """Upper 95 % limit of the share of other styles' works, which nobody drew, in which any family of judges sees this one."""
    test = shown_to_judges(workspace, material)
    others = [row for row, name in enumerate(test.styles) if name != material.target]
    if not others:
        return 0.0
    votes = votes_of(material.target, [judge.judge(np.asarray(test.images[others])) for judge in judges])
    return share_at_most(votes.agreed + votes.disputed, votes.n)


def sights_of(workspace: Workspace, material: Material, judges: list[Judge]) -> tuple[JudgeSight, ...]:
    """Every judge on works that nobody drew: the attacker's and the test works of this artist, and the others' test works. One
    without a record also has to tell this artist from each neighbour, and from the controls."""
    test, roster = shown_to_judges(workspace, material), material.roster
    styles = np.array(test.styles, dtype=object)
    images, mine = np.asarray(test.images), styles == material.target
    works = np.asarray(material.suspects[material.target].works.images)
    own = np.concatenate([works, images[mine]]) if mine.any() else works
    apart = [images[styles == name] for name in roster.near(material.target)]
    apart.append(images[np.isin(styles, material.controls)])
    return tuple(
        sight_of(judge, material.target, own, images[~mine], apart=apart, told=accuracy_of(judge, test))
        for judge in judges
    )


def judges_of_styles(workspace: Workspace) -> list[Judge]:
    """Those that the workspace names, or its roster."""
    return list(workspace.judges)


def drawing(workspace: Workspace, file: Any) -> TextToImage:
    """A weights file of this workspace, as a model that draws."""
    return answering(workspace.adapter.load(file))
