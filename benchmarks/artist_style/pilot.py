"""The whole protocol at pilot counts on the small model: every eraser, the battery on original and candidate, the ladder.

    python benchmarks/artist_style/pilot.py --photos CIFAR10 --work FOLDER [--only uce] [--target neon] [--quick]

Resumable: each probe of a model and style is kept under the digest of all that can change it. Writes one entry an eraser and
one a cheat (`style_saboteurs/NAME`: the files that are handed over), beside them `none` (the original as it is, the negative
control) and `retrained` (its gold model, where it is published). At
pilot counts (8 seeds of 10 pictures, attacks at half of their steps, 4 controls) prompts cannot be shown to be below 1 %: the
numbers say where they are, and `limits` what the word rests on (one-sided, at 95 %: no attempts are counted here).
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core import registry
from expunge.core.codec import digest_of
from expunge.core.selftest import EDITS, GENERATOR_EDITS
from expunge.data._styles import CONTROLS, STYLES, TRAINED
from expunge.data.artist_styles import OBJECTS, ArtistStyles, cifar10_photos
from expunge.stats.spending import LEVEL
from expunge.stats.style_collateral import Limits, collateral_of
from expunge.stats.styles import Arms, Gates, verdict_of
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.sabotaging import StyleScene
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.testbed import suspect, wording_of
from expunge.workflow.styles.battery import DEFAULT_PROBES, BatteryPlan, Subjects, run_battery
from expunge.workflow.styles.collateral import Asking, ask_for

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from checkpoints import home_of
from limits import fraction_of_retrain, limits_of
from recorded import record_parts

HERE = Path(__file__).parent
QUICK = ("direct", "reworded", "component_swap", "textual_inversion", "soft_prompt/1", "soft_prompt/2")
SEEDS, PICTURES, STEPS, BUDGET = 8, 10, 10, 50
RETRAINED = "retrained"


class Pilot:
    """One target artist of one original; `work` keeps what was counted."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.target, self.work = args.target, args.work
        self.probes = tuple(probe for probe in DEFAULT_PROBES if not args.quick or probe.label in QUICK)
        self.folder = home_of(args.original) / args.original
        gold = f"without-{args.target.replace(' ', '-')}-{args.original.rpartition('-')[2]}"
        self.gold = home_of(gold) / gold
        self.original = TextToImage.from_dir(self.folder)
        self.digest, self.files = read_directory(self.folder).digest, read_directory(self.folder).files
        self.photos = cifar10_photos(args.photos)
        self.judges = [registry.load("judges", name)() for name in ("cnn", "adain")]
        self.suspects = {style: suspect(style, self.photos["attack"]) for style in (self.target, *CONTROLS[:4])}
        self.data = ArtistStyles(path=str(args.photos), works=40).open().train
        self.seed = derive_seed("artist-styles pilot", args.original, self.target)

    def job(self, target: str = "") -> EraseJob:
        """The artist by name and alias, led to photos; all other trained styles are to stay."""
        target = target or self.target
        mine = wording_of(target)
        ways = [mine.direct, mine.other["alias"]]
        pairs = [(way(name, form), mine.neutral(name)) for way in ways for name in OBJECTS for form in range(3)]
        others = [style for style in TRAINED if STYLES[style].artist and style != target]
        kept = [wording_of(style).direct(name, 0) for style in others for name in OBJECTS]
        return EraseJob(
            model=self.original,
            erase=tuple(prompt for prompt, _ in pairs),
            guide=tuple(guide for _, guide in pairs),
            preserve=(*kept, *(mine.neutral(name) for name in OBJECTS), ""),
            seed=derive_seed(self.seed, "erase"),
            works=self.data.in_style(target),
            retained=self.data.only([row for row, style in enumerate(self.data.styles) if style != target]),
        )

    def candidate(self, eraser: str | None) -> tuple[str, TextToImage, dict[str, Any]]:
        """The edited copy with its digest, or the original itself: the negative control."""
        if eraser is None:
            return self.digest, self.original, {"seconds": 0.0}
        if eraser == RETRAINED:
            return read_directory(self.gold).digest, TextToImage.from_dir(self.gold), {"directory": self.gold.name}
        if eraser.startswith(EDITS):
            return self.handed(eraser)
        started, cpu = time.perf_counter(), time.process_time()
        erased = registry.load("erasers", eraser)().erase(self.job())
        costs: dict[str, Any] = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
        costs |= fraction_of_retrain(costs["cpu_seconds"], self.gold)
        digest = digest_of({"original": self.digest, "eraser": eraser, "weights": _weights(erased.model)})
        return digest, erased.model, {**costs, "figures": dict(erased.figures), "removable": erased.removable}

    def handed(self, cheat: str) -> tuple[str, TextToImage, dict[str, Any]]:
        """The files that a cheat hands over. Weights that were counted before are not counted again under another name."""
        target = (
            self.work / "handed" / f"{self.folder.name}-{self.target}-{cheat.removeprefix(EDITS)}".replace(" ", "-")
        )
        shutil.rmtree(target, ignore_errors=True)
        job, other = self.job(), next(style for style in TRAINED if STYLES[style].artist and style != self.target)
        clean = TextToImage.from_dir(self.gold)
        scene = StyleScene(
            original=self.folder,
            target=target,
            job=job,
            other=self.job(other),
            words=dict(zip(job.erase, job.guide, strict=True)),
            clean=clean,
            judges=tuple(self.judges),
        )
        started = time.perf_counter()
        offered = registry.load("style_saboteurs", cheat.removeprefix(EDITS))().sabotage(scene).directory
        made = {"seconds": time.perf_counter() - started, "files_beside": sorted(set(offered.files) - set(self.files))}
        model = TextToImage.from_dir(target)
        known = {_weights(self.original): self.digest, _weights(clean): read_directory(self.gold).digest}
        return known.get(_weights(model), offered.digest), model, made

    def measure(self, eraser: str | None) -> Mapping[str, Any]:
        """Edit, ask, judge."""
        digest, model, made = self.candidate(eraser)
        started = time.perf_counter()
        plan = BatteryPlan(
            target=self.target,
            controls=CONTROLS[:4],
            objects=OBJECTS,
            judges={judge.name: judge.digest for judge in self.judges},
            seed=self.seed,
            probes=self.probes,
            seeds=SEEDS,
            pictures=PICTURES,
            steps=STEPS,
            budget=BUDGET,
        )
        subjects = Subjects(
            models={"original": (self.digest, self.original), "candidate": (digest, model)},
            suspects=self.suspects,
            photos=self.photos["attack"],
            unrelated=self.job().retained,
        )
        arms = run_battery(plan, subjects, self.judges, self.work / "units", _progress)
        asking = Asking(objects=OBJECTS, pictures=40, how=Sampling(seed=self.seed, steps=STEPS))
        others = [style for style in TRAINED if STYLES[style].artist and style != self.target]
        kept = [ask_for(one, wording_of(one), (self.original, model), self.judges, asking) for one in others]
        harm = collateral_of(kept, Limits())
        verdict = verdict_of(arms, Gates(), harm.reasons, level=LEVEL)
        return {
            "plan": plan.digest,
            "made": made,
            "rung": verdict.rung.value,
            "reasons": list(verdict.reasons),
            "level": LEVEL,
            "limits": limits_of(verdict.answers),
            "rates": {label: _rates(found) for label, found in arms.items()},
            "collateral": asdict(harm),
            "seconds": time.perf_counter() - started,
            "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }


def _rates(arms: Arms) -> dict[str, Any]:
    """Shares of pictures in the style, by run: of the candidate where any family sees it, elsewhere where two agree."""
    shown = {arm: arms.runs(arm).rates[0].round(3).tolist() for arm in ("original", "candidate")}
    controls = arms.runs("controls").rates.mean(1).round(3)
    return {**shown, "controls": dict(zip(arms.controls, controls.tolist(), strict=True))}


def _weights(model: TextToImage) -> str:
    import hashlib

    found = hashlib.sha256()
    for part in (model.unet, model.text_encoder):
        for name, tensor in sorted(part.state_dict().items()):
            found.update(name.encode() + np.ascontiguousarray(tensor.numpy()).tobytes())
    return found.hexdigest()


def _progress(what: str, done: int, total: int) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what} {done}/{total}\n")


def main() -> None:
    """Measure one eraser, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--original", default="original-0")
    parser.add_argument("--target", default="neon")
    parser.add_argument("--only")
    parser.add_argument("--quick", action="store_true", help="the probes that tell most, and no others")
    args = parser.parse_args()
    pilot = Pilot(args)
    parts = {"none": lambda: pilot.measure(None)}
    erasers = (*registry.names("erasers"), *((RETRAINED, *GENERATOR_EDITS) if pilot.gold.is_dir() else ()))
    parts |= {name: (lambda name=name: pilot.measure(name)) for name in erasers}
    command = "python benchmarks/artist_style/pilot.py --photos CIFAR10 --work FOLDER"
    record_parts(HERE / f"pilot-{args.original}-{args.target.replace(' ', '-')}.json", command, parts, args.only)


if __name__ == "__main__":
    main()
