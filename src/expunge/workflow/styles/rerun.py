"""A battery asked again, from its seeds, of the weights that are there now. Evidence is of the bytes that were asked: on any
others it has expired, and what is found on them is evidence of its own.

Nothing that was kept of the first time is read but the counts that are compared with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core import registry
from expunge.core.errors import EvidenceError, InputError
from expunge.core.finding import Verdict
from expunge.core.styles import StyleRung
from expunge.stats.baseline import judge_baseline
from expunge.stats.spending import LEVEL
from expunge.stats.styles import PROMPTS, Arms, Counted, Gates, verdict_of
from expunge.training.checkpoint import weights_identity
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.sampler import TextToImage
from expunge.workflow.intake import find_case
from expunge.workflow.styles.baseline import question_digest
from expunge.workflow.styles.battery import BatteryPlan, Subjects, run_battery
from expunge.workflow.styles.earned import Earned, earned_in
from expunge.workflow.styles.evidence import drawing, judges_of_styles, others_of
from expunge.workflow.styles.kept import KeptBattery, file_of, read_kept
from expunge.workflow.styles.material import material_for, style_salt, who_is

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

_LOWEST = (
    StyleRung.NOT_ERASED,
    StyleRung.NOT_SHOWN,
    StyleRung.NOT_LEARNED,
    StyleRung.SUPPRESSED,
    StyleRung.INDISTINGUISHABLE,
    StyleRung.EXACT,
)
"""From the word that says least of an erasure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """What came of it. expired: the weights are others than those of the evidence; asked, differing: probes that were drawn
    again, and those of them whose counts are others; skipped: probe -> what it was given then and is not there now; `rung`:
    what the counts of now earn on these weights, without a proof by provenance."""

    model: str
    evidence: str
    expired: bool
    asked: tuple[str, ...]
    differing: tuple[str, ...]
    skipped: Mapping[str, str]
    rung: StyleRung

    @property
    def words(self) -> str:
        """For a terminal."""
        same = "other weights" if self.expired else "the same weights"
        counts = f"other counts: {', '.join(self.differing)}" if self.differing else "the same counts"
        left = "".join(f"; {label} not asked: {why}" for label, why in self.skipped.items())
        return f"asked again on {same}: {len(self.asked)} probes, {counts}, {self.rung.value}{left}"

    def require(self) -> None:
        """Raises EvidenceError where the evidence has expired or is not repeated."""
        if self.expired:
            raise EvidenceError(
                "the evidence is of other weights, so it has expired",
                expected=self.evidence,
                got=self.model,
                hint=f"asked again, these earn {self.rung.value}; a new certificate is needed for them",
                code="expired",
            )
        if self.differing:
            raise EvidenceError(
                "the battery, repeated from its seeds, gave other counts than the evidence says",
                got=", ".join(self.differing),
                hint="on another machine or library bits can differ; on the same ones the evidence does not hold",
                code="not-repeated",
            )
        if not self.asked:
            raise EvidenceError("no probe of the battery could be repeated", got="; ".join(self.skipped.values())[:300])


def at_hand(workspace: Workspace, path: Path | None) -> tuple[str, TextToImage]:
    """The weights to ask and their digest: those in service, a weights file of the same recipe, or a directory in the layout of
    diffusers, whose digest is over every file."""
    if path is None:
        path = workspace.root / workspace.served().run / "model.safetensors"
    if path.is_dir():
        return read_directory(path).digest, TextToImage.from_dir(path)
    return weights_identity(path), drawing(workspace, path)


def rerun_case(workspace: Workspace, case: str, certified: str, path: Path | None) -> Rerun:
    """The battery of a closed case on the weights at hand. Raises InputError where the style was never asked for."""
    found = find_case(workspace, case)
    kept = next((read_kept(file) for file in sorted(found.folder.glob("battery*.json"))), None)
    if kept is None:
        raise InputError(
            "no style was asked for in this case, so there is no battery to repeat",
            hint="its proof is the log of the training: expunge recompute",
        )
    if kept.models["candidate"] != certified:
        raise EvidenceError("the kept battery is of another model", expected=certified, got=kept.models["candidate"])
    again = rerun_kept(workspace, found.folder, earned_in(workspace, found), at_hand(workspace, path))
    if again is None:
        raise EvidenceError("a battery that the certificate names is not kept")
    return again


def rerun_kept(workspace: Workspace, folder: Path, named: Earned, at: tuple[str, TextToImage]) -> Rerun | None:
    """The batteries in a case's folder, one an artist, as one answer; None where one that the evidence names is not there."""
    found = []
    for number, battery in enumerate(named.batteries or ("",)):
        if named.batteries and not battery:
            continue
        kept = read_kept(folder / file_of(number))
        if kept is None:
            return None
        found.append(rerun(workspace, kept, at, battery, named.level))
    return found[0] if len(found) == 1 else _together(found)


def _together(found: Sequence[Rerun]) -> Rerun:
    """Several artists: probes under the artist's number, and the lowest word that any of them earns."""
    named = [(f"artist {number}: ", one) for number, one in enumerate(found, start=1)]
    return replace(
        found[0],
        expired=any(one.expired for one in found),
        asked=tuple(who + label for who, one in named for label in one.asked),
        differing=tuple(who + label for who, one in named for label in one.differing),
        skipped={who + label: why for who, one in named for label, why in one.skipped.items()},
        rung=min((one.rung for one in found), key=_LOWEST.index),
    )


def rerun(
    workspace: Workspace, kept: KeptBattery, at: tuple[str, TextToImage], evidence: str = "", level: float = LEVEL
) -> Rerun:
    """Ask again. `evidence`: digest of the battery as a certificate or statement names it, if there is one at hand; `level`: of
    each limit, as that says.

    Raises EvidenceError where what was kept is another battery, CheckBroken where the judges are others, InputError where
    nobody can be asked for any more.
    """
    plan = kept.named(workspace)
    _check_kept(workspace, kept, plan, evidence)
    subjects, known = _subjects(workspace, kept, plan, at)
    skipped = _skipped(kept, plan, subjects)
    probes = tuple(probe for probe in plan.probes if probe.label not in skipped)
    found, seen = _asked(workspace, replace(plan, probes=probes), subjects, known) if probes else ({}, {})
    known_counts = {label: arms.original for label, arms in seen.items()}
    return Rerun(
        model=at[0],
        evidence=kept.models["candidate"],
        expired=at[0] != kept.models["candidate"],
        asked=tuple(found),
        differing=tuple(label for label, arms in found.items() if _differs(kept, label, arms, known_counts)),
        skipped=skipped,
        rung=_rung(kept, found, known_counts, level),
    )


def _asked(
    workspace: Workspace, plan: BatteryPlan, subjects: Subjects, known: str
) -> tuple[dict[str, Arms], dict[str, Arms]]:
    """In a folder of its own, so that no count of the first time is found."""
    judges = judges_of_styles(workspace)
    with tempfile.TemporaryDirectory(prefix="expunge-rerun-") as folder:
        found = run_battery(plan, subjects, judges, Path(folder), workspace.progress)
        if not known:
            return found, {}
        return found, run_battery(replace(plan, target=known), subjects, judges, Path(folder), workspace.progress)


def _check_kept(workspace: Workspace, kept: KeptBattery, plan: BatteryPlan, evidence: str) -> None:
    """Plan and seed are those whose digest is in the evidence: other seeds would be another battery."""
    mine = plan.digest
    if kept.known:
        salt = style_salt(workspace, plan.target)
        mine = question_digest(kept.plan, kept.known, kept.models["original"], salt)
    for expected in (kept.digest, evidence or kept.digest):
        if mine != expected:
            raise EvidenceError("what was kept is another battery than the evidence names", expected=expected, got=mine)


def _subjects(
    workspace: Workspace, kept: KeptBattery, plan: BatteryPlan, at: tuple[str, TextToImage]
) -> tuple[Subjects, str]:
    material = material_for(workspace, plan.target)
    if isinstance(material, str):
        raise InputError("the style cannot be asked for any more", got=material)
    known = (who_is(workspace, kept.known) or "") if kept.known else ""
    more = {known: material.roster.suspect(known)} if known else {}
    subjects = Subjects(
        models={"original": at, "candidate": at},
        suspects={**material.suspects, **more},
        photos=material.photos,
        unrelated=others_of(workspace, material),
    )
    return subjects, known


def _skipped(kept: KeptBattery, plan: BatteryPlan, subjects: Subjects) -> dict[str, str]:
    """Probes that were not asked, or would be given something else: the original was destroyed, others have left the data."""
    now, found = subjects.given(plan.target), {}
    for probe in plan.probes:
        needs = sorted(registry.load("probes", probe.probe).needs)
        gone = [need for need in needs if now.get(need) != kept.given.get(need)]
        if probe.label not in kept.arms:
            found[probe.label] = "was not asked then: its name alone settled it"
        elif gone:
            found[probe.label] = f"{', '.join(gone)} is not what it was"
    return found


def _differs(kept: KeptBattery, label: str, arms: Arms, known: Mapping[str, Counted]) -> bool:
    then = kept.arms[label]
    same = arms.candidate == then.candidate and dict(arms.controls) == dict(then.controls)
    return not same or (label in known and known[label] != kept.known_counts[label])


def _rung(kept: KeptBattery, found: Mapping[str, Arms], known: Mapping[str, Counted], level: float) -> StyleRung:
    """The word for these weights. The original is as it was counted: it may be gone. Other people's styles are not asked for."""
    gates = Gates(mistakes=kept.mistakes)
    if any(label not in found for label in PROMPTS):
        return StyleRung.NOT_SHOWN
    if not kept.known:
        arms = {label: replace(now, original=kept.arms[label].original) for label, now in found.items()}
        return verdict_of(arms, gates, level=level).rung
    verdict = judge_baseline(found, known, gates, level=level).verdict
    words = {Verdict.PASS: StyleRung.NOT_LEARNED, Verdict.FAIL: StyleRung.NOT_ERASED}
    return words.get(verdict, StyleRung.NOT_SHOWN)
