"""Five artists ask one after another: each is edited out of what the last edit left, and everybody is asked for again each time.

    python benchmarks/artist_style/sequence.py [--original original-0] [--eraser uce] [--work FOLDER [--photos CIFAR10]]

After every edit: the share of pictures in the style of each artist who was erased so far (any family of judges counts), what
retained styles and objects lost against the untouched model, and what the policy says: when the losses of all edits together
reach its cap, the answer is a retraining. Without photos the sequence goes on all the same, to show what the cap spares; with
them the model is trained again without everybody who was erased so far, asked for them, and edited on from there. With a folder
everybody who was erased is also attacked with two learned vectors, against control styles. Writes sequence-*.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Several
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expunge.core import registry
from expunge.core.codec import digest_of
from expunge.data._sample_photos import sample_photos
from expunge.data._styles import CONTROLS, STYLES, TRAINED
from expunge.data.artist_styles import OBJECTS
from expunge.stats.intervals import share_at_most
from expunge.stats.style_collateral import Limits, collateral_of
from expunge.training.judging.judge import Judge, votes_of
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.testbed import suspect, wording_of
from expunge.workflow.rights.batching import Accepted, after, over
from expunge.workflow.rights.facts import Load
from expunge.workflow.rights.measured import harm_of
from expunge.workflow.rights.policy import RightsPolicy, default_rights_policy
from expunge.workflow.styles.collateral import Asking, ask_for

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from checkpoints import home_of
from recorded import record_parts
from reverified import Attack
from train import trained

HERE = Path(__file__).parent
ORDER = ("neon", "mosaic", "halftone", "oil", "pop art")
PICTURES, STEPS = 80, 10


class Sequence:
    """One original and one eraser. `attack`: what else than by name those who were erased are asked for; `retrain`: makes a model
    that was trained without these artists, which takes the place of the edited one when the policy's cap says so."""

    def __init__(
        self,
        original: TextToImage,
        eraser: Any,
        judges: Several[Judge],
        seed: str,
        *,
        order: tuple[str, ...] = ORDER,
        attack: Attack | None = None,
        retrain: Callable[[tuple[str, ...]], TextToImage] | None = None,
    ) -> None:
        self.original, self.eraser, self.judges, self.seed = original, eraser, list(judges), seed
        self.order, self.attack, self.retrain = order, attack, retrain

    def run(self, policy: RightsPolicy | None = None) -> Mapping[str, Any]:
        """Edit after edit. Losses are counted against the model of the last training."""
        policy, load = policy or default_rights_policy(), Load(edits=0, lost=0.0)
        model = base = self.original
        steps: list[dict[str, Any]] = []
        for number, artist in enumerate(self.order):
            gone, started = self.order[: number + 1], time.perf_counter()
            job = self._job(model, gone)
            model = self.eraser.erase(job).model
            seconds = time.perf_counter() - started
            harm = collateral_of(self._kept(base, model, gone), Limits())
            lost = max(0.0, harm_of(harm).at_most)
            one = Accepted(
                request=f"r{number}",
                accepted=datetime.now(UTC),
                erase=job.erase,
                guide=job.guide,
                loss=max(0.0, lost - load.lost),
            )
            stop = over(load, (one,), policy)
            load = after(load, (one,))
            step: dict[str, Any] = {
                "artist": artist,
                "edit_seconds": seconds,
                **self._asked(model, gone, f"edited {number}"),
                "retained": {style: asdict(drop) for style, drop in harm.styles.items()},
                "mean_drop": asdict(harm.mean),
                "objects": asdict(harm.objects),
                "reasons": list(harm.reasons),
                "policy": stop or "room for the next",
            }
            if stop and self.retrain is not None:
                model = base = self.retrain(gone)
                load = Load(edits=0, lost=0.0)
                step["retrained"] = self._asked(model, gone, f"retrained {number}")
            steps.append(step)
            sys.stderr.write(f"{artist}: {step['erased']} {stop}\n")
        return {"pictures_a_style": PICTURES, "ddim_steps": STEPS, "steps": steps}

    def _asked(self, model: TextToImage, gone: tuple[str, ...], which: str) -> dict[str, Any]:
        """Everybody who was erased so far, by name and, where there is one, by the attack."""
        found: dict[str, Any] = {"erased": {style: self._comes(model, style) for style in gone}}
        if self.attack is not None:
            at = digest_of([self.seed, which, list(gone)]), model
            found["attacked"] = {style: self.attack.on(style, at) for style in gone}
        return found

    def _job(self, model: TextToImage, gone: tuple[str, ...]) -> EraseJob:
        """The last of `gone`; those before stay led away, everybody else stays."""
        mine = wording_of(gone[-1])
        ways = (mine.direct, mine.other["alias"])
        pairs = [(way(name, form), mine.neutral(name)) for way in ways for name in OBJECTS for form in range(3)]
        kept = [wording_of(style).direct(name, 0) for style in self._others(gone) for name in OBJECTS]
        return EraseJob(
            model=model,
            erase=tuple(prompt for prompt, _ in pairs),
            guide=tuple(guide for _, guide in pairs),
            preserve=(*kept, *(mine.neutral(name) for name in OBJECTS), ""),
            seed=derive_seed(self.seed, "erase", len(gone)),
        )

    def _others(self, gone: tuple[str, ...]) -> list[str]:
        return [style for style in TRAINED if STYLES[style].artist and style not in gone]

    def _comes(self, model: TextToImage, style: str) -> dict[str, float | int]:
        """Pictures in the style when asked by name, in all forms."""
        wording = wording_of(style)
        prompts = [wording.direct(OBJECTS[n % len(OBJECTS)], n) for n in range(PICTURES)]
        images = model.sample(prompts, Sampling(seed=derive_seed(self.seed, "asked", style), steps=STEPS))
        votes = votes_of(style, [judge.judge(images) for judge in self.judges])
        hits = votes.agreed + votes.disputed
        return {"hits": hits, "of": PICTURES, "at_most": share_at_most(hits, PICTURES)}

    def _kept(self, base: TextToImage, model: TextToImage, gone: tuple[str, ...]) -> list[Any]:
        asking = Asking(objects=OBJECTS, pictures=PICTURES, how=Sampling(seed=self.seed, steps=STEPS))
        pair = (base, model)
        return [ask_for(style, wording_of(style), pair, self.judges, asking) for style in self._others(gone)]


def sequence_of(args: argparse.Namespace) -> Sequence:
    """As the command line says."""
    folder = home_of(args.original) / args.original
    original, judges = TextToImage.from_dir(folder), [registry.load("judges", name)() for name in ("cnn", "adain")]
    seed = derive_seed("artist-styles sequence", args.original, args.eraser)
    attack = None
    if args.work is not None:
        photos = sample_photos(OBJECTS, 40)
        attack = Attack(
            original=(read_directory(folder).digest, original),
            suspects={style: suspect(style, photos) for style in (*ORDER, *CONTROLS[:4])},
            controls=CONTROLS[:4],
            objects=OBJECTS,
            photos=photos,
            judges=judges,
            seed=derive_seed(seed, "attack"),
            folder=args.work / "attacked",
        )
    retrain = None
    if args.photos is not None:

        def retrain(gone: tuple[str, ...]) -> TextToImage:
            return trained(args.photos, args.work, int(args.original.rpartition("-")[2]), gone)

    return Sequence(original, registry.load("erasers", args.eraser)(), judges, seed, attack=attack, retrain=retrain)


def main() -> None:
    """Run the sequence with one eraser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--original", default="original-0")
    parser.add_argument("--eraser", default="uce")
    parser.add_argument(
        "--work", type=Path, help="two learned vectors against controls as well; keeps counts and models"
    )
    parser.add_argument(
        "--photos", type=Path, help="CIFAR-10: retrain without those erased so far when the cap says so"
    )
    args = parser.parse_args()
    if args.photos is not None and args.work is None:
        parser.error("--photos needs --work")
    command = f"python benchmarks/artist_style/sequence.py --original {args.original}"
    more = (" --work FOLDER" if args.work else "") + (" --photos CIFAR10" if args.photos else "")
    name = "-attacked" if args.work else ""
    parts = {args.eraser: lambda: sequence_of(args).run()}
    record_parts(HERE / f"sequence{name}-{args.original}.json", command + more, parts, None)


if __name__ == "__main__":
    main()
