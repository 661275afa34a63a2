"""Five artists ask one after another: each is edited out of what the last edit left, and everybody is asked for again each time.

    python benchmarks/artist_style/sequence.py [--original original-0] [--eraser uce]

After every edit: the share of pictures in the style of each artist who was erased so far (any family of judges counts), what
retained styles and objects lost against the untouched model, and what the policy says: when the losses of all edits together
reach its cap, the answer is a retraining. The sequence goes on all the same, to show what the cap spares. Writes sequence-*.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expunge.core import registry
from expunge.data._styles import STYLES, TRAINED
from expunge.data.artist_styles import OBJECTS
from expunge.stats.intervals import share_at_most
from expunge.stats.style_collateral import Limits, collateral_of
from expunge.training.judging.judge import votes_of
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.testbed import wording_of
from expunge.workflow.rights.batching import Accepted, after, over
from expunge.workflow.rights.facts import Load
from expunge.workflow.rights.measured import harm_of
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.styles.collateral import Asking, ask_for

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from checkpoints import home_of
from recorded import record_parts

HERE = Path(__file__).parent
ORDER = ("neon", "mosaic", "halftone", "oil", "pop art")
PICTURES, STEPS = 80, 10


class Sequence:
    """One original and one eraser."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.original = TextToImage.from_dir(home_of(args.original) / args.original)
        self.eraser = registry.load("erasers", args.eraser)()
        self.judges = [registry.load("judges", name)() for name in ("cnn", "adain")]
        self.seed = derive_seed("artist-styles sequence", args.original, args.eraser)

    def run(self) -> Mapping[str, Any]:
        """Edit after edit."""
        policy, load, model = default_rights_policy(), Load(edits=0, lost=0.0), self.original
        steps: list[dict[str, Any]] = []
        for number, artist in enumerate(ORDER):
            started = time.perf_counter()
            job = self._job(model, ORDER[: number + 1])
            model = self.eraser.erase(job).model
            seconds = time.perf_counter() - started
            erased = {style: self._comes(model, style) for style in ORDER[: number + 1]}
            harm = collateral_of(self._kept(model, ORDER[: number + 1]), Limits())
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
            steps.append(
                {
                    "artist": artist,
                    "edit_seconds": seconds,
                    "erased": erased,
                    "retained": {style: asdict(drop) for style, drop in harm.styles.items()},
                    "mean_drop": asdict(harm.mean),
                    "objects": asdict(harm.objects),
                    "reasons": list(harm.reasons),
                    "policy": stop or "room for the next",
                }
            )
            sys.stderr.write(f"{artist}: {erased} {stop}\n")
        return {"pictures_a_style": PICTURES, "ddim_steps": STEPS, "steps": steps}

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

    def _kept(self, model: TextToImage, gone: tuple[str, ...]) -> list[Any]:
        asking = Asking(objects=OBJECTS, pictures=PICTURES, how=Sampling(seed=self.seed, steps=STEPS))
        pair = (self.original, model)
        return [ask_for(style, wording_of(style), pair, self.judges, asking) for style in self._others(gone)]


def main() -> None:
    """Run the sequence with one eraser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--original", default="original-0")
    parser.add_argument("--eraser", default="uce")
    args = parser.parse_args()
    command = f"python benchmarks/artist_style/sequence.py --original {args.original}"
    record_parts(HERE / f"sequence-{args.original}.json", command, {args.eraser: lambda: Sequence(args).run()}, None)


if __name__ == "__main__":
    main()
