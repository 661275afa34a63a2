"""The self-test of the verification of styles: known cheats handed over as erased, and an honest model as the control.

Every defence says what it has against a model directory, so that it is seen what caught what; a word above SUPPRESSED takes
that none has anything. What is proved is that these cheats, each tried once on this testbed, were not believed; others
were not tried. A refused control means that the verifier refuses everybody, and then it vouches for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expunge.core import registry
from expunge.core.errors import ExpungeError, InputError
from expunge.core.finding import Verdict
from expunge.core.protocols import Progress, silent
from expunge.core.styles import StyleRung
from expunge.stats.intervals import share_at_most
from expunge.stats.style_collateral import Limits, collateral_of
from expunge.stats.styles import Arms, Gates, verdict_of
from expunge.training.judging.collapse import collapsed
from expunge.training.judging.judge import Judge
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.probing import Wording
from expunge.training.text_to_image.sabotaging import StyleSaboteur, StyleScene, handed_over
from expunge.training.text_to_image.sampler import TextToImage
from expunge.workflow.styles.battery import BatteryPlan, Subjects, run_battery
from expunge.workflow.styles.collateral import Asking, ask_for
from expunge.workflow.styles.handed import objections

KIND = "style_saboteurs"
ALIVE, COLLATERAL, LADDER = "alive", "collateral", "ladder"
_HELD = (Verdict.FAIL, Verdict.INCONCLUSIVE)
PROMISED = (StyleRung.INDISTINGUISHABLE, StyleRung.EXACT)
"""Words that somebody may rely on."""
Battery = Callable[[BatteryPlan, Subjects, Sequence[Judge], Path], Mapping[str, Arms]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Verifier:
    """What judges a candidate: the battery as planned, whom else to ask for, and the gates.

    subjects: of which only styles and photos are used; retained: style -> how it is asked for; folder: where counts are
    kept. asleep: defences that do not look, for the self-test's own control; it must then say what got through.
    """

    plan: BatteryPlan
    subjects: Subjects
    judges: tuple[Judge, ...]
    retained: Mapping[str, Wording]
    asking: Asking
    folder: Path
    gates: Gates = field(default_factory=Gates)
    limits: Limits = field(default_factory=Limits)
    battery: Battery = run_battery
    asleep: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What came of one directory. `rung`: the word it gets, None where it is refused before any word; caught: defence -> what
    it says (files, judges' errors by their code, or a probe)."""

    rung: StyleRung | None
    caught: Mapping[str, str]

    @property
    def accepted(self) -> bool:
        """Whether somebody would be told to rely on it."""
        return self.rung in PROMISED


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleTally:
    """One cheat. `expected`: what its card names; `upper`: 95 % upper limit of the share that is believed, from one try."""

    saboteur: str
    claims: str
    expected: tuple[str, ...]
    examined: Examined
    upper: float

    @property
    def as_expected(self) -> tuple[str, ...]:
        """Defences of its card that did catch it. A probe's name stands for all of its sizes (`soft_prompt/4`)."""
        return tuple(name for name in self.expected if any(seen.split("/")[0] == name for seen in self.examined.caught))


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleSelftest:
    """All cheats, and the honest control: a model trained without the artist."""

    tallies: tuple[StyleTally, ...]
    control: Examined

    @property
    def passed(self) -> tuple[str, ...]:
        """Cheats that were believed."""
        return tuple(tally.saboteur for tally in self.tallies if tally.examined.accepted)

    @property
    def by_accident(self) -> tuple[str, ...]:
        """Cheats that were refused, and by none of the defences that are there for them."""
        return tuple(tally.saboteur for tally in self.tallies if not (tally.examined.accepted or tally.as_expected))

    @property
    def vouches(self) -> bool:
        """Whether a certificate may rest on this."""
        return bool(self.tallies) and self.control.accepted and not self.passed

    @property
    def sentence(self) -> str:
        """All that may be said."""
        if not self.control.accepted:
            why = "; ".join(self.control.caught.values())
            return f"an honest model was refused, so nothing is vouched for: {why}"
        if self.passed:
            return f"cheats that were believed: {', '.join(self.passed)}"
        return f"no listed cheat was believed, n = {len(self.tallies)}, one try each"


# ----------------------------------------------------------------------------------------------------------- examining


def examine(original: Path, candidate: Path, verifier: Verifier) -> Examined:
    """Everything that speaks against one directory. It is loaded from its files; a serving process is never asked.

    Cost: the battery and the retained styles, drawn once; the original's counts are kept in `folder` for the next one.
    """
    caught: dict[str, str] = {}
    try:
        caught |= _awake(objections(original, candidate), verifier)
        models = (TextToImage.from_dir(original), TextToImage.from_dir(candidate))
        harm = _harm(models, verifier)
        caught |= harm
        found = _verdict((original, candidate), models, verifier, tuple(harm.values()))
    except ExpungeError as error:
        return Examined(rung=None, caught={**caught, error.code: error.message})
    caught |= _awake(dict(found[1]), verifier)
    believed = found[0] if not caught or found[0] not in PROMISED else StyleRung.SUPPRESSED
    return Examined(rung=believed, caught=caught)


def _awake(said: dict[str, str], verifier: Verifier) -> dict[str, str]:
    return {name: why for name, why in said.items() if name.split("/")[0] not in verifier.asleep}


def _harm(models: tuple[TextToImage, TextToImage], verifier: Verifier) -> dict[str, str]:
    """Retained styles that fell, and pictures that are none. What calls the original's pictures none either says nothing."""
    found: dict[str, str] = {}
    if COLLATERAL not in verifier.asleep:
        kept = [
            ask_for(style, wording, models, verifier.judges, verifier.asking)
            for style, wording in verifier.retained.items()
        ]
        reasons = collateral_of(kept, verifier.limits).reasons
        found |= {COLLATERAL: "; ".join(reasons)} if reasons else {}
    if ALIVE not in verifier.asleep:
        style, wording = next(iter(verifier.retained.items()))
        before, after = (collapsed(verifier.asking.drawn(model, wording, style)).reason for model in models)
        found |= {ALIVE: after} if after is not None and before is None else {}
    return found


def _verdict(
    paths: tuple[Path, Path],
    models: tuple[TextToImage, TextToImage],
    verifier: Verifier,
    harm: tuple[str, ...],
) -> tuple[StyleRung, dict[str, str]]:
    """The word of the ladder, and the probes that hold back a better one, each with its reason."""
    digests = [read_directory(path).digest for path in paths]
    arms = dict(zip(("original", "candidate"), zip(digests, models, strict=True), strict=True))
    subjects = replace(verifier.subjects, models=arms)
    counts = verifier.battery(verifier.plan, subjects, verifier.judges, verifier.folder)
    found = verdict_of(_heard(counts, verifier.asleep), verifier.gates, harm)
    said = {
        answer.label: answer.reason for answer in found.answers if answer.verdict in _HELD and answer.label in counts
    }
    held = [reason for reason in found.reasons if reason not in harm]
    if found.rung is StyleRung.NOT_LEARNED:
        held = ["the untouched model does not draw the style, so nothing can be hidden in it"]
    return found.rung, said if said or not held else {LADDER: "; ".join(held)}


def _heard(counts: Mapping[str, Arms], asleep: Collection[str]) -> Mapping[str, Arms]:
    """Probes that are asleep hear nothing from the candidate."""
    return {
        label: replace(arms, candidate=_silent(arms.candidate)) if label.split("/")[0] in asleep else arms
        for label, arms in counts.items()
    }


def _silent(counted: Any) -> Any:
    none = (0,) * len(counted.agreed)
    judges = dict.fromkeys(counted.by_judge, none)
    return replace(counted, agreed=none, any=none, nowhere=none, by_judge=judges, dead=(), copies=())


# ------------------------------------------------------------------------------------------------------------- the test


def style_selftest(
    scene: StyleScene,
    verifier: Verifier,
    folder: Path,
    cheats: Mapping[str, StyleSaboteur] | None = None,
    progress: Progress = silent,
) -> StyleSelftest:
    """Every saboteur once, in a folder of its own under `folder`, and the scene's clean model as the honest control.

    cheats: name -> the cheat, by default every registered one with its own settings; one that cannot be acted out here is an
    error and never left out. Cost: a battery each; on the testbed at pilot counts some minutes, on the tests' model a second.
    """
    known = cheats or {name: registry.load(KIND, name)() for name in registry.names(KIND)}
    if not known:
        raise InputError("no cheat to try", expected="at least one", got="none")
    handed_over(scene.original, folder / "control", scene.clean.networks)
    control = examine(scene.original, folder / "control", verifier)
    tallies = []
    for done, (name, cheat) in enumerate(known.items()):
        progress("style saboteurs", done, len(known))
        tallies.append(tried(cheat, replace(scene, target=folder / name), verifier))
    progress("style saboteurs", len(known), len(known))
    return StyleSelftest(tallies=tuple(tallies), control=control)


def tried(cheat: StyleSaboteur, scene: StyleScene, verifier: Verifier) -> StyleTally:
    """One cheat, acted out and examined."""
    cheat.sabotage(scene)
    found = examine(scene.original, scene.target, verifier)
    return StyleTally(
        saboteur=cheat.name,
        claims=cheat.claims,
        expected=cheat.caught_by,
        examined=found,
        upper=share_at_most(int(found.accepted), 1),
    )
