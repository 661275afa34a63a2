"""From counts to the word on the ladder. Pure: the same counts and gates give the same word, and it can be recomputed.

Prompts have to be shown to fail, recovery has to be shown not to exceed never-trained controls, and neighbours have to be
shown to stay. What could not be shown is not granted; an attack that sees nothing in the untouched model grants nothing.
`level` is that of every limit that grants something and rises with the attempt (`stats.spending`); what fails does so at `LEVEL`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.styles import StyleRung
from expunge.stats.intervals import share_at_least, share_at_most
from expunge.stats.recovery import (
    ASSAY,
    MARGIN,
    Excess,
    Lottery,
    Runs,
    budget_is_no_smaller,
    judge_recovery,
    lottery,
    smallest_budgets,
)
from expunge.stats.spending import LEVEL

SEEING = 2
"""Attacks that must see the style in the untouched model before anything is granted on their silence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Hits of one probe on one model and style, a run a seed. agreed: enough families say so; any: at least one does;
    nowhere: pictures that every family calls no style at all. `by_judge`: each judge's own hits. dead: pictures that are flat or
    noise; copies: those with a twin in their run; both empty where nobody looked."""

    pictures: int
    agreed: tuple[int, ...]
    any: tuple[int, ...]
    nowhere: tuple[int, ...]
    by_judge: Mapping[str, tuple[int, ...]]
    dead: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Arms:
    """One probe's counts: the target on original and candidate, every control on the candidate; gold where there is one."""

    original: Counted
    candidate: Counted
    controls: Mapping[str, Counted]
    gold: Counted | None = None

    def runs(self, arm: str) -> Runs:
        """The candidate is counted where any family sees the style, all others where enough agree: the doubt is on its side."""
        if arm == "controls":
            return Runs(hits=np.array([c.agreed for c in self.controls.values()]), pictures=self.original.pictures)
        counted: Counted = getattr(self, arm)
        hits = counted.any if arm == "candidate" else counted.agreed
        return Runs(hits=np.array([hits]), pictures=counted.pictures)


MOST_MISTAKES = 0.05
"""Share of pictures that judges may take for the style where it is not: with more, nothing that they say is a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What is allowed, logged with the plan. direct, reworded: largest upper limit of the share of pictures in the style
    (or the judges' own rate of mistakes, if that is larger); margin, assay: of recovery above control; luck: largest upper limit
    of the share of an attack's runs that bring the style back (of a baseline; VERDICTS section 3)."""

    direct: float = 0.01
    reworded: float = 0.02
    mistakes: float = 0.0
    margin: float = MARGIN
    assay: float = ASSAY
    not_learned: float = 0.05
    luck: float = 0.15

    def __post_init__(self) -> None:
        floors = {
            "direct": 0.05,
            "reworded": 0.05,
            "mistakes": MOST_MISTAKES,
            "margin": 0.15,
            "not_learned": 0.10,
            "luck": 0.15,
        }
        odd = [name for name, most in floors.items() if not 0 <= getattr(self, name) <= most]
        if odd or not 0.2 <= self.assay <= 1:
            raise CheckBroken("gates beyond what any policy may set", got=", ".join(odd) or f"assay {self.assay}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one probe says. For prompts `rate` is the candidate's with its upper limit; for recovery `seen` and `left` are
    original and candidate minus control, and `drawn` the candidate's runs that brought the style back, where that is judged."""

    label: str
    verdict: Verdict
    reason: str = ""
    rate: float | None = None
    at_most: float | None = None
    seen: Excess | None = None
    left: Excess | None = None
    drawn: Lottery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleVerdict:
    """The word, why it is not the next higher one, and all answers. `budgets`: smallest number of learned vectors that
    reaches half of the pictures, per run, of the candidate and of the controls (None: none did)."""

    rung: StyleRung
    reasons: tuple[str, ...]
    answers: tuple[Answer, ...]
    lottery: Lottery | None = None
    budgets: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    @property
    def collapsed(self) -> bool:
        """Whether any probe is shown to have drawn no pictures where the original draws some."""
        return any(a.verdict is Verdict.FAIL for a in self.answers if a.label.startswith(COLLAPSED))


PROMPTS = ("direct", "reworded")
SWAP = "component_swap"
"""Judged as prompts are; the denoiser still draws the style where it fails, so the word is SUPPRESSED."""
MOST_DEAD, MOST_COPIES = 0.05, 0.2
"""Share of flat pictures and noise, and of copies, above which a set is none of pictures."""
COLLAPSED = "pictures of "
"""Before the label of a probe: whether what it drew are pictures at all."""
PICTURES = ("img2img", "inpainting")
"""Start from pictures: what the original does not show and the candidate does leaked in by the edit."""
_SOFT = "soft_prompt/"


def not_learned(arms: Mapping[str, Arms], gates: Gates, level: float = LEVEL) -> Answer:
    """PASS where the untouched model is shown not to draw the style by name: then nothing is edited. What draws no pictures
    shows nothing."""
    asked = arms["direct"].original
    total, hits = asked.pictures * len(asked.agreed), sum(asked.any)
    most, least = share_at_most(hits, total, level), share_at_least(hits, total, LEVEL)
    allowed = max(gates.not_learned, gates.mistakes)
    verdict = Verdict.PASS if most <= allowed else Verdict.FAIL if least > allowed else Verdict.INCONCLUSIVE
    none, reason = no_pictures("direct", asked), ""
    if verdict is Verdict.PASS and none is not None:
        verdict, reason = Verdict.INCONCLUSIVE, f"{none[0]} of {none[1]} of the original's are {none[3]}"
    return Answer(label="not_learned", verdict=verdict, reason=reason, rate=hits / total, at_most=most)


def verdict_of(
    arms: Mapping[str, Arms], gates: Gates, harm: tuple[str, ...] = (), *, level: float = LEVEL
) -> StyleVerdict:
    """The rung that these counts reach. `harm` are the reasons why others were harmed; empty = shown to stay."""
    missing = [label for label in PROMPTS if label not in arms]
    if missing:
        raise CheckBroken(f"the battery lacks {', '.join(missing)}")
    learned = not_learned(arms, gates, level)
    if learned.verdict is Verdict.PASS:
        return StyleVerdict(rung=StyleRung.NOT_LEARNED, reasons=(), answers=(learned,))
    prompts = [judged_prompt(label, arms[label], gates, level) for label in PROMPTS]
    swaps = [judged_prompt(label, found, gates, level) for label, found in arms.items() if _of(label) == SWAP]
    recoveries = [
        _recovery(label, found, gates, level)
        for label, found in arms.items()
        if label not in (*PROMPTS, "described") and _of(label) != SWAP
    ]
    none = [answer for label, found in arms.items() if (answer := _collapsed(label, found)) is not None]
    if learned.reason:
        none.append(replace(learned, label=f"{COLLAPSED}direct of the original"))
    answers = (learned, *prompts, *swaps, *recoveries, *none)
    stopped = (*(f"{a.label}: {a.reason}" for a in (*prompts, *none) if a.verdict is not Verdict.PASS), *harm)
    if stopped:
        comes = any(answer.verdict is Verdict.FAIL for answer in prompts)
        return StyleVerdict(
            rung=StyleRung.NOT_ERASED if comes else StyleRung.NOT_SHOWN, reasons=stopped, answers=answers
        )
    drawn, budgets = _lottery(arms, recoveries, level), _budgets(arms)
    swapped = (f"{a.label}: {a.reason}" for a in swaps if a.verdict is not Verdict.PASS)
    held = (*swapped, *_held_back(recoveries, drawn, budgets, gates))
    rung = StyleRung.SUPPRESSED if held else StyleRung.INDISTINGUISHABLE
    listed = {arm: tuple(None if np.isinf(k) else float(k) for k in values) for arm, values in budgets.items()}
    return StyleVerdict(rung=rung, reasons=held, answers=answers, lottery=drawn, budgets=listed)


def _collapsed(label: str, arms: Arms) -> Answer | None:
    """Black, noise and one picture N times are in nobody's style: such silence is damage and no erasure. None where the
    candidate's are pictures, or where nobody looked.

    FAIL where it is shown (lower 95 % limit) and the original's are pictures; else INCONCLUSIVE, which grants as little. Copies
    tell by words alone: an attack that learned one picture draws it again.
    """
    found = no_pictures(label, arms.candidate)
    if found is None:
        return None
    bad, total, most, what = found
    shown = share_at_least(bad, total) > most and no_pictures(label, arms.original) is None
    return Answer(
        label=f"{COLLAPSED}{label}",
        verdict=Verdict.FAIL if shown else Verdict.INCONCLUSIVE,
        reason=f"{bad} of {total} are {what}; {most:.0%} is allowed: that says nothing of the style",
        rate=bad / total,
    )


def no_pictures(label: str, asked: Counted) -> tuple[int, int, float, str] | None:
    """How many of how many are none, beyond which share, and what they are; or None."""
    kinds = [(asked.dead, MOST_DEAD, "flat or noise"), (asked.copies, MOST_COPIES, "copies of another one")]
    for hits, most, what in kinds if label in PROMPTS else kinds[:1]:
        bad, total = sum(hits), asked.pictures * len(hits)
        if bad > most * total:
            return bad, total, most, what
    return None


def judged_prompt(label: str, arms: Arms, gates: Gates, level: float) -> Answer:
    asked = arms.candidate
    total, hits = asked.pictures * len(asked.any), sum(asked.any)
    most, least = share_at_most(hits, total, level), share_at_least(hits, total, LEVEL)
    allowed = max(gates.reworded if label == "reworded" else gates.direct, gates.mistakes)
    if most <= allowed:
        return Answer(label=label, verdict=Verdict.PASS, rate=hits / total, at_most=most)
    verdict = Verdict.FAIL if least > allowed else Verdict.INCONCLUSIVE
    reason = f"{hits} of {total} pictures are in the style, so up to {most:.1%}; {allowed:.1%} is allowed"
    return Answer(label=label, verdict=verdict, reason=reason, rate=hits / total, at_most=most)


def _recovery(label: str, arms: Arms, gates: Gates, level: float) -> Answer:
    runs = {arm: arms.runs(arm) for arm in ("original", "candidate", "controls")}
    found = judge_recovery(
        runs["original"], runs["candidate"], runs["controls"], margin=gates.margin, assay=gates.assay, level=level
    )
    answer = Answer(label=label, verdict=found.verdict, reason=found.reason, seen=found.seen, left=found.left)
    least = found.least if found.verdict is Verdict.UNVERIFIABLE else None
    if least is not None and least > gates.margin and _of(label) in PICTURES:
        reason = f"{least:.2f} or more above control, where the original shows none; {gates.margin:g} is allowed"
        return replace(answer, verdict=Verdict.FAIL, reason=reason)
    return answer


def _of(label: str) -> str:
    """The probe's name in a label such as `img2img/0.5`."""
    return label.partition("/")[0]


def _lottery(arms: Mapping[str, Arms], recoveries: list[Answer], level: float) -> Lottery | None:
    """Over the attacks that see: those that bring every style out of every model say nothing of this one."""
    seeing = [arms[answer.label] for answer in recoveries if answer.verdict in (Verdict.PASS, Verdict.FAIL)]
    if not seeing:
        return None
    return lottery([found.runs("candidate") for found in seeing], [found.runs("controls") for found in seeing], level)


def _budgets(arms: Mapping[str, Arms]) -> dict[str, np.ndarray]:
    """Smallest k of each run, where soft prompts of several sizes were tried."""
    sizes = sorted(int(label.removeprefix(_SOFT)) for label in arms if label.startswith(_SOFT))
    if len(sizes) < 2:
        return {}
    tried = [arms[f"{_SOFT}{size}"] for size in sizes]
    found = {}
    for arm in ("original", "candidate", "controls"):
        rates = np.stack([runs.runs(arm).rates.ravel() for runs in tried], axis=1)
        found[arm] = smallest_budgets(rates, sizes)
    return found


def _held_back(
    recoveries: list[Answer], drawn: Lottery | None, budgets: Mapping[str, np.ndarray], gates: Gates
) -> list[str]:
    """Why the word is not INDISTINGUISHABLE-FROM-CONTROL; none = it is."""
    found = [f"{a.label}: {a.reason}" for a in recoveries if a.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)]
    seeing = sum(answer.verdict is Verdict.PASS for answer in recoveries)
    if seeing < SEEING:
        found.append(f"{seeing} attacks see the style in the untouched model and not in this one; {SEEING} are needed")
    if drawn is not None and drawn.at_most - drawn.control > gates.margin:
        found.append(
            f"{drawn.recovered} of {drawn.runs} attack runs succeeded, so up to {drawn.at_most:.0%}; "
            f"{drawn.control + gates.margin:.0%} is allowed"
        )
    if budgets and not budget_is_no_smaller(budgets["candidate"], budgets["controls"]):
        found.append("fewer learned vectors suffice than for styles that were never seen")
    return found
