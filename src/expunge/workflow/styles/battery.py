"""The battery: every probe on the original, the candidate and never-trained controls, with the same seeds and budgets.

What is asked, how often and by which judges is fixed in the plan and digested before anything is drawn. Every unit (a
model, a probe, a style) is kept under the digest of all that can change it, so a killed battery goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.codec import digest_of, encode, sha256_hex
from expunge.core.errors import CheckBroken, InputProblems
from expunge.core.protocols import Progress, silent
from expunge.data._pictures import Pictures
from expunge.stats.recovery import CONTROLS
from expunge.stats.styles import Arms, Counted
from expunge.training.judging.collapse import collapsed
from expunge.training.judging.judge import Judge, votes_of
from expunge.training.text_to_image.probing import ProbeJob
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.testbed import Suspect


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """One probe with its settings. Several plans of one probe differ in their label (`soft_prompt/4`)."""

    label: str
    probe: str
    settings: Mapping[str, int | str] = field(default_factory=dict)


DEFAULT_PROBES = (
    ProbePlan(label="direct", probe="direct"),
    ProbePlan(label="reworded", probe="reworded"),
    ProbePlan(label="described", probe="described"),
    ProbePlan(label="textual_inversion", probe="textual_inversion"),
    *(ProbePlan(label=f"soft_prompt/{k}", probe="soft_prompt", settings={"vectors": k}) for k in (1, 2, 4, 8)),
    ProbePlan(label="adversarial_tokens", probe="adversarial_tokens"),
    *(ProbePlan(label=f"relearning/{n}", probe="relearning", settings={"steps": n}) for n in (5, 20)),
    *(ProbePlan(label=f"img2img/{s}", probe="img2img", settings={"strength": s}) for s in ("0.5", "0.8")),
    ProbePlan(label="inpainting", probe="inpainting"),
    ProbePlan(label="component_swap", probe="component_swap"),
    ProbePlan(label="revival", probe="revival"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryPlan:
    """What will be asked: logged before anything runs. `target` is the style, `controls` are styles no training saw.

    seeds x pictures of each probe and style; `steps` and `guidance` of the sampler; `budget` in percent of what the probes
    learn with. `judges`: name -> digest. `seed` is drawn after the log's checkpoint, so nobody shops for it.
    """

    target: str
    controls: tuple[str, ...]
    objects: tuple[str, ...]
    judges: Mapping[str, str]
    seed: str
    probes: tuple[ProbePlan, ...] = DEFAULT_PROBES
    seeds: int = 16
    pictures: int = 40
    steps: int = 20
    guidance: str = "3"
    budget: int = 100

    def __post_init__(self) -> None:
        problems = []
        if len(set(self.controls)) < CONTROLS or self.target in self.controls:
            problems.append(f"{CONTROLS} different controls are needed, and the target is none of them")
        if len({plan.label for plan in self.probes}) != len(self.probes) or not self.probes:
            problems.append("probes need labels of their own")
        unknown = sorted({plan.probe for plan in self.probes} - set(registry.names("probes")))
        if unknown:
            problems.append(f"unknown probes: {', '.join(unknown)}")
        if not self.judges:
            problems.append("no judge is named")
        if problems:
            raise InputProblems("battery plan", problems)

    @property
    def digest(self) -> str:
        """`sha256:` of everything that is asked."""
        return digest_of(self)


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """The models by digest and arm, the styles, neutral photos to start from, and captioned works in none of the styles. The
    stock parts that a swap goes back to are the original's."""

    models: Mapping[str, tuple[str, TextToImage]]
    suspects: Mapping[str, Suspect]
    photos: Mapping[str, NDArray[np.uint8]]
    unrelated: Pictures | None = None

    def given(self, style: str) -> dict[str, str]:
        """need -> digest of what answers it, for one style; what is not there is left out."""
        works, others, stock = self.suspects[style].works, self.unrelated, self.models["original"][0]
        found = {"works": _seen(works.images), "stock": stock}
        if self.photos:
            found["photos"] = digest_of({name: _seen(images) for name, images in self.photos.items()})
        if others is not None and len(others):
            found["unrelated"] = digest_of([_seen(others.images), list(others.captions)])
        return found


def run_battery(
    plan: BatteryPlan, subjects: Subjects, judges: Sequence[Judge], folder: Path, progress: Progress = silent
) -> dict[str, Arms]:
    """label -> counts, for `original` and `candidate` (and `gold`, if it is among the models)."""
    _check_judges(plan, judges)
    _check_needs(plan, subjects)
    found = {}
    units = len(plan.probes)
    for number, probe in enumerate(plan.probes):

        def counted(arm: str, style: str, probe: ProbePlan = probe) -> Counted:
            return _unit(plan, probe, subjects, (arm, style), judges, folder)

        found[probe.label] = Arms(
            original=counted("original", plan.target),
            candidate=counted("candidate", plan.target),
            controls={style: counted("candidate", style) for style in plan.controls},
            gold=counted("gold", plan.target) if "gold" in subjects.models else None,
        )
        progress(f"battery: {probe.label}", number + 1, units)
    return found


def _check_judges(plan: BatteryPlan, judges: Sequence[Judge]) -> None:
    there = {judge.name: judge.digest for judge in judges}
    if there != dict(plan.judges):
        raise CheckBroken("the judges are not those of the plan", expected=str(dict(plan.judges)), got=str(there))


def _check_needs(plan: BatteryPlan, subjects: Subjects) -> None:
    """Before anything is drawn, not after hours of it."""
    there = subjects.given(plan.target).keys()
    lacking = [probe.label for probe in plan.probes if not registry.load("probes", probe.probe).needs <= there]
    if lacking:
        raise CheckBroken(f"what these probes need is not there: {', '.join(lacking)}", got=", ".join(sorted(there)))


def _unit(
    plan: BatteryPlan,
    probe: ProbePlan,
    subjects: Subjects,
    at: tuple[str, str],
    judges: Sequence[Judge],
    folder: Path,
) -> Counted:
    arm, style = at
    digest, model = subjects.models[arm]
    plugin, given = registry.load("probes", probe.probe), subjects.given(style)
    key = digest_of(
        {
            "model": digest,
            "probe": encode(probe),
            "style": style,
            "objects": list(plan.objects),
            "judges": dict(plan.judges),
            "seed": plan.seed,
            "counted": ["style", "collapse"],
            "given": {name: given[name] for name in sorted(plugin.needs)},
            "counts": [plan.seeds, plan.pictures, plan.steps, plan.guidance, plan.budget],
        }
    )
    file = folder / f"{key.removeprefix('sha256:')[:32]}.json"
    if file.exists():
        return _read(file)
    suspect = subjects.suspects[style]
    job = ProbeJob(
        model=model,
        wording=suspect.wording,
        objects=plan.objects,
        works=suspect.works,
        photos=subjects.photos,
        stock=subjects.models["original"][1],
        unrelated=subjects.unrelated,
        seed=plan.seed,
        seeds=plan.seeds,
        pictures=plan.pictures,
        how=Sampling(seed=plan.seed, steps=plan.steps, guidance=float(plan.guidance)),
        budget=plan.budget / 100,
    )
    probed = plugin(**_numbers(probe.settings)).run(job)
    counted = count(style, probed.images, judges)
    _write(file, counted)
    return counted


def count(style: str, images: NDArray[np.uint8], judges: Sequence[Judge]) -> Counted:
    """Hits of every run (S, n, H, W, 3) in one style, and pictures that are none: no judge says that of them."""
    looked = [collapsed(run) for run in images]
    votes = [votes_of(style, [judge.judge(run) for judge in judges]) for run in images]
    return Counted(
        pictures=images.shape[1],
        agreed=tuple(vote.agreed for vote in votes),
        any=tuple(vote.agreed + vote.disputed for vote in votes),
        nowhere=tuple(vote.nowhere for vote in votes),
        by_judge={judge.name: tuple(vote.by_judge[judge.name] for vote in votes) for judge in judges},
        dead=tuple(run.dead for run in looked),
        copies=tuple(run.copies for run in looked),
    )


def _seen(images: NDArray[np.uint8]) -> str:
    """`sha256:` of pictures and their shape."""
    return digest_of([list(images.shape), sha256_hex(np.ascontiguousarray(images).tobytes())])


def _numbers(settings: Mapping[str, int | str]) -> dict[str, Any]:
    """Whole numbers as they are; decimals are texts in a plan, so that its digest has no floats."""
    return {name: float(value) if isinstance(value, str) else value for name, value in settings.items()}


def _read(file: Path) -> Counted:
    plain = json.loads(file.read_text(encoding="utf-8"))
    judges = {name: tuple(hits) for name, hits in plain.pop("by_judge").items()}
    pictures = plain.pop("pictures")
    return Counted(pictures=pictures, by_judge=judges, **{name: tuple(hits) for name, hits in plain.items()})


def _write(file: Path, counted: Counted) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(asdict(counted)), encoding="utf-8")
    unfinished.replace(file)
